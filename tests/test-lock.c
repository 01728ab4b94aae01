/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include <inttypes.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common/common.h"

START_TEST(a_lock_has_one_holder)
{
    g_autofree char *dir = unit_dir(), *path = g_build_filename(dir, "lock", NULL), *holder = NULL;
    g_autoptr(GError) error = NULL;
    struct file_lock *first;

    holder = g_strdup_printf("store is in use by pid %d", (int)getpid());
    ck_assert(!file_lock_held(path));
    unit_ok(first = file_lock_take(path, "store", &error), error);
    ck_assert(file_lock_held(path));
    unit_fails(file_lock_take(path, "store", &error), error, ERROR_CONFLICT, holder);
    file_lock_free(first);
    ck_assert(!file_lock_held(path));
    unit_ok(first = file_lock_take(path, "store", &error), error);
    file_lock_free(first);
}
END_TEST

START_TEST(a_shared_lock_has_several_holders)
{
    g_autofree char *dir = unit_dir(), *path = g_build_filename(dir, "lock", NULL);
    GError *error = NULL;
    AUTO(file_lock) exclusive = file_lock_take(path, "store", &error);
    AUTO(file_lock) first = NULL;
    AUTO(file_lock) second = NULL;

    unit_ok(exclusive != NULL, error);
    g_clear_pointer(&exclusive, file_lock_free);
    unit_ok(first = file_lock_share(path, &error), error);
    unit_ok(second = file_lock_share(path, &error), error);
    ck_assert(file_lock_held(path));
    unit_fails(file_lock_take(path, "store", &error), error, ERROR_CONFLICT, "another process");
    g_clear_pointer(&first, file_lock_free);
    unit_fails(file_lock_take(path, "store", &error), error, ERROR_CONFLICT, "another process");
    g_clear_pointer(&second, file_lock_free);
    unit_ok(exclusive = file_lock_take(path, "store", &error), error);
}
END_TEST

/* When somebody waits for it, /proc/locks shows an arrow. */
static bool is_waited_for(const char *path)
{
    g_autofree char *locks = NULL;
    g_autofree char *inode = NULL;
    struct stat st;

    ck_assert_int_eq(stat(path, &st), 0);
    inode = g_strdup_printf(":%ju ", (uintmax_t)st.st_ino);
    if (!g_file_get_contents("/proc/locks", &locks, NULL, NULL))
        return true;
    for (const char *line = strstr(locks, "-> "); line; line = strstr(line + 1, "-> ")) {
        g_autofree char *text = g_strndup(line, strcspn(line, "\n"));

        if (strstr(text, inode))
            return true;
    }
    return false;
}

struct held {
    struct file_lock *lock;
    const char *path;
    bool discard;
};

static void *release_when_waited_for(void *data)
{
    struct held *held = data;
    int64_t deadline = time_monotonic_ms() + UNIT_PATIENCE_MS;

    while (!is_waited_for(held->path) && time_monotonic_ms() < deadline)
        g_usleep(1000);
    if (held->discard)
        file_lock_discard(held->lock);
    else
        file_lock_free(held->lock);
    return NULL;
}

static void wait_for_the_end_of(bool discard)
{
    g_autofree char *dir = unit_dir(), *path = g_build_filename(dir, "lock", NULL);
    GError *error = NULL;
    struct held held = {file_lock_take(path, "store", &error), path, discard};
    AUTO(file_lock) shared = NULL;
    GThread *thread;

    unit_ok(held.lock != NULL, error);
    thread = g_thread_new("release", release_when_waited_for, &held);
    unit_ok(shared = file_lock_share(path, &error), error);
    g_thread_join(thread);
    /* All others see it. */
    unit_fails(file_lock_take(path, "store", &error), error, ERROR_CONFLICT, "is in use by");
}

START_TEST(a_shared_lock_waits_for_an_exclusive_one)
{
    wait_for_the_end_of(false);
}
END_TEST

START_TEST(who_waits_for_a_lock_that_is_discarded_has_the_next_one)
{
    wait_for_the_end_of(true);
}
END_TEST

struct contest {
    const char *path;
    int inside, taken;
};

static void *contend(void *data)
{
    struct contest *contest = data;

    while (g_atomic_int_get(&contest->taken) < 2000) {
        struct file_lock *lock = file_lock_take(contest->path, "it", NULL);

        if (!lock)
            continue;
        ck_assert_int_eq(g_atomic_int_add(&contest->inside, 1), 0);
        g_atomic_int_inc(&contest->taken);
        g_atomic_int_add(&contest->inside, -1);
        file_lock_discard(lock);
    }
    return NULL;
}

START_TEST(a_lock_that_is_always_discarded_has_one_holder_all_the_same)
{
    g_autofree char *dir = unit_dir(), *path = g_build_filename(dir, "lock", NULL);
    struct contest contest = {.path = path};
    GThread *threads[4];

    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("contend", contend, &contest);
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    ck_assert(!g_file_test(path, G_FILE_TEST_EXISTS));
}
END_TEST

START_TEST(a_lock_dies_with_its_holder)
{
    g_autofree char *dir = unit_dir(), *path = g_build_filename(dir, "lock", NULL), *holder = NULL;
    g_autoptr(GError) error = NULL;
    struct file_lock *lock;
    int ready[2];
    char byte;
    pid_t pid;

    ck_assert_int_eq(pipe(ready), 0);
    pid = fork();
    if (pid == 0) {
        lock = file_lock_take(path, "store", NULL);
        if (!lock || write(ready[1], "x", 1) != 1)
            _exit(1);
        pause();
        _exit(0);
    }
    close(ready[1]);
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    holder = g_strdup_printf("by pid %d", (int)pid);
    unit_fails(file_lock_take(path, "store", &error), error, ERROR_CONFLICT, holder);
    kill(pid, SIGKILL);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    unit_ok(lock = file_lock_take(path, "store", &error), error);
    file_lock_free(lock);
}
END_TEST

int main(void)
{
    return UNIT_RUN("lock", a_lock_has_one_holder, a_lock_dies_with_its_holder,
                    a_shared_lock_has_several_holders, a_shared_lock_waits_for_an_exclusive_one,
                    who_waits_for_a_lock_that_is_discarded_has_the_next_one,
                    a_lock_that_is_always_discarded_has_one_holder_all_the_same);
}
