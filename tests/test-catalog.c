/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/catalog-unit.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void assert_exit(pid_t pid, int expected)
{
    int status;

    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == expected, "status %x", status);
}

START_TEST(keeps_what_was_put)
{
    g_autofree char *store = unit_dir();
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);

    unit_ok(put_number(catalog, "a", 1, &error), error);
    unit_ok(put_number(catalog, "b", 2, &error), error);
    unit_ok(put_number(catalog, "a", 3, &error), error);
    unit_ok(catalog_remove(catalog, CATALOG_RUNS, "b", &error), error);
    unit_ok(catalog_remove(catalog, CATALOG_RUNS, "never", &error), error);
    catalog_free(g_steal_pointer(&catalog));

    catalog = open_catalog(store);
    ck_assert_int_eq(get_number(catalog, CATALOG_RUNS, "a"), 3);
    ck_assert_int_eq(get_number(catalog, CATALOG_RUNS, "b"), -1);
    ck_assert_int_eq(get_number(catalog, CATALOG_POINTS, "a"), -1);
}
END_TEST

START_TEST(keeps_a_large_value)
{
    g_autofree char *store = unit_dir(), *text = g_strnfill(3u << 20, 'x');
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    json_auto_t *value = json_pack("{s:s}", "text", text), *read = NULL;

    unit_ok(catalog_put(catalog, CATALOG_POINTS, "a", value, &error), error);
    unit_ok(catalog_get(catalog, CATALOG_POINTS, "a", &read, &error), error);
    ck_assert(json_equal(value, read));
}
END_TEST

START_TEST(inserts_only_where_there_is_nothing)
{
    g_autofree char *store = unit_dir();
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    json_auto_t *first = number(1), *second = number(2);
    bool inserted = false;

    unit_ok(catalog_insert(catalog, &(struct catalog_entry){CATALOG_RUNS, "a", first}, 1, &inserted,
                           &error),
            error);
    ck_assert(inserted);
    unit_ok(catalog_insert(catalog, &(struct catalog_entry){CATALOG_RUNS, "a", second}, 1,
                           &inserted, &error),
            error);
    ck_assert(!inserted);
    ck_assert_int_eq(get_number(catalog, CATALOG_RUNS, "a"), 1);
}
END_TEST

static bool append_key(const char *key, json_t *value, void *data)
{
    g_string_append_printf(data, "%s=%d ", key,
                           (int)json_integer_value(json_object_get(value, "n")));
    return strcmp(key, "b/stop") != 0;
}

START_TEST(walks_the_keys_of_a_prefix_in_order)
{
    static const char *const keys[] = {"b/z", "a/1", "b", "b/10", "b/1", "c", "b0"};
    g_autofree char *store = unit_dir();
    g_autoptr(GString) seen = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);

    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++)
        unit_ok(put_number(catalog, keys[i], i, &error), error);
    unit_ok(catalog_each(catalog, CATALOG_RUNS, "b/", append_key, seen, &error), error);
    ck_assert_str_eq(seen->str, "b/1=4 b/10=3 b/z=0 ");
    ck_assert_uint_eq(count_all(catalog, CATALOG_RUNS, ""), G_N_ELEMENTS(keys));
    ck_assert_uint_eq(count_all(catalog, CATALOG_RUNS, "d"), 0);
    ck_assert_uint_eq(count_all(catalog, CATALOG_STEPS, ""), 0);

    unit_ok(put_number(catalog, "b/stop", 9, &error), error);
    g_string_truncate(seen, 0);
    unit_ok(catalog_each(catalog, CATALOG_RUNS, "b/", append_key, seen, &error), error);
    ck_assert_str_eq(seen->str, "b/1=4 b/10=3 b/stop=9 ");
}
END_TEST

START_TEST(refuses_keys_that_are_empty_or_too_long)
{
    g_autofree char *store = unit_dir();
    g_autofree char *longest = g_strnfill(511, 'k'), *longer = g_strnfill(512, 'k');
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    json_t *value = NULL;

    unit_ok(put_number(catalog, longest, 7, &error), error);
    ck_assert_int_eq(get_number(catalog, CATALOG_RUNS, longest), 7);
    unit_fails(put_number(catalog, longer, 7, &error), error, ERROR_FAILED, "512 bytes");
    unit_fails(put_number(catalog, "", 7, &error), error, ERROR_FAILED, "empty");
    unit_fails(catalog_get(catalog, CATALOG_RUNS, longer, &value, &error), error, ERROR_FAILED,
               "too long");
    unit_fails(catalog_remove(catalog, CATALOG_RUNS, "", &error), error, ERROR_FAILED, "empty");
}
END_TEST

START_TEST(puts_several_or_none)
{
    g_autofree char *store = unit_dir();
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    json_auto_t *one = number(1), *two = number(2);
    struct catalog_entry entries[] = {{CATALOG_RUNS, "a", one}, {CATALOG_STEPS, "b", two}};

    unit_ok(catalog_put_all(catalog, entries, 2, &error), error);
    ck_assert_int_eq(get_number(catalog, CATALOG_RUNS, "a"), 1);
    ck_assert_int_eq(get_number(catalog, CATALOG_STEPS, "b"), 2);
    entries[0].value = two;
    entries[1].key = "";
    unit_fails(catalog_put_all(catalog, entries, 2, &error), error, ERROR_FAILED, "is empty");
    ck_assert_int_eq(get_number(catalog, CATALOG_RUNS, "a"), 1);
}
END_TEST

START_TEST(is_shared_by_all_who_open_it_in_a_process)
{
    g_autofree char *store = unit_dir(), *detour = g_build_filename(store, ".", NULL);
    g_autoptr(GError) error = NULL;
    AUTO(catalog) first = open_catalog(store);
    AUTO(catalog) second = open_catalog(detour);

    unit_ok(put_number(first, "a", 1, &error), error);
    ck_assert_int_eq(get_number(second, CATALOG_RUNS, "a"), 1);
    catalog_free(g_steal_pointer(&first));
    unit_ok(put_number(second, "a", 2, &error), error);
    first = open_catalog(store);
    ck_assert_int_eq(get_number(first, CATALOG_RUNS, "a"), 2);
}
END_TEST

/* Others see by this lock that the catalog is open; without it they would reset lock.mdb. */
static bool others_see_the_lock(const char *store)
{
    g_autofree char *path = g_build_filename(store, "catalog", "lock.mdb", NULL);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    int status;
    pid_t child = fork();

    if (child == 0) {
        int fd = open(path, O_RDWR | O_CLOEXEC);

        _exit(fd < 0 || fcntl(fd, F_GETLK, &lock) < 0 ? 255 : lock.l_type != F_UNLCK);
    }
    ck_assert(waitpid(child, &status, 0) == child && WIFEXITED(status));
    ck_assert_int_ne(WEXITSTATUS(status), 255);
    return WEXITSTATUS(status) == 1;
}

START_TEST(stays_locked_until_its_last_user_in_a_process_is_gone)
{
    g_autofree char *store = unit_dir();
    AUTO(catalog) first = open_catalog(store);
    AUTO(catalog) second = open_catalog(store);

    ck_assert(others_see_the_lock(store));
    catalog_free(g_steal_pointer(&second));
    ck_assert(others_see_the_lock(store));
    catalog_free(g_steal_pointer(&first));
    ck_assert(!others_see_the_lock(store));
}
END_TEST

START_TEST(is_for_its_owner_only)
{
    static const char *const files[] = {"data.mdb", "lock.mdb"};
    g_autofree char *store = unit_dir();
    mode_t old_umask = umask(0);
    AUTO(catalog) catalog = open_catalog(store);
    struct stat st;

    umask(old_umask);
    ck_assert_int_eq(stat(catalog_lock_dir(catalog), &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0700);
    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(store, "catalog", files[i], NULL);

        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_uint_eq(st.st_mode & 07777, 0600);
    }
}
END_TEST

START_TEST(refuses_a_store_that_is_not_there)
{
    g_autofree char *dir = unit_dir(), *store = g_build_filename(dir, "unmounted", NULL);
    g_autoptr(GError) error = NULL;

    unit_fails(catalog_open(store, &error), error, ERROR_NOT_FOUND, "is not there");
    ck_assert(!g_file_test(store, G_FILE_TEST_EXISTS));
}
END_TEST

/* In a child: put own keys, compete for common ones, exit with the number of those won. */
static void write_and_compete(const char *store, unsigned me)
{
    struct catalog *catalog = catalog_open(store, NULL);
    unsigned won = 0;

    for (unsigned i = 0; i < 50; i++) {
        g_autofree char *mine = g_strdup_printf("mine/%u/%u", me, i);
        g_autofree char *common = g_strdup_printf("common/%u", i);
        json_auto_t *value = number(me);
        bool inserted;

        if (!catalog || !put_number(catalog, mine, i, NULL) ||
            !catalog_insert(catalog, &(struct catalog_entry){CATALOG_RUNS, common, value}, 1,
                            &inserted, NULL))
            _exit(255);
        won += inserted;
    }
    catalog_free(catalog);
    _exit((int)won);
}

START_TEST(lets_many_processes_write_at_once)
{
    g_autofree char *store = unit_dir();
    AUTO(catalog) catalog = NULL;
    pid_t children[4];
    unsigned won = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(children); i++) {
        children[i] = fork();
        if (children[i] == 0)
            write_and_compete(store, i);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(children); i++) {
        int status;

        ck_assert_int_eq(waitpid(children[i], &status, 0), children[i]);
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) != 255);
        won += (unsigned)WEXITSTATUS(status);
    }
    catalog = open_catalog(store);
    ck_assert_uint_eq(won, 50);
    ck_assert_uint_eq(count_all(catalog, CATALOG_RUNS, "common/"), 50);
    ck_assert_uint_eq(count_all(catalog, CATALOG_RUNS, "mine/"), 200);
}
END_TEST

static void *write_in_thread(void *data)
{
    static int next;
    int me = g_atomic_int_add(&next, 1);

    for (unsigned i = 0; i < 50; i++) {
        g_autofree char *key = g_strdup_printf("%d/%u", me, i);

        if (!put_number(data, key, i, NULL) || get_number(data, CATALOG_RUNS, key) != (int)i)
            return NULL;
    }
    return data;
}

START_TEST(lets_many_threads_write_at_once)
{
    g_autofree char *store = unit_dir();
    AUTO(catalog) catalog = open_catalog(store);
    GThread *threads[4];

    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("writer", write_in_thread, catalog);
    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
        ck_assert_ptr_eq(g_thread_join(threads[i]), catalog);
    ck_assert_uint_eq(count_all(catalog, CATALOG_RUNS, ""), 200);
}
END_TEST

/* In a child: for ever put a key and say so through FD. */
static void write_until_killed(const char *store, int fd)
{
    struct catalog *catalog = catalog_open(store, NULL);

    for (unsigned i = 0;; i++) {
        g_autofree char *key = g_strdup_printf("%08u", i);

        if (!catalog || !put_number(catalog, key, i, NULL) || write(fd, "x", 1) != 1)
            _exit(1);
    }
}

START_TEST(loses_nothing_and_blocks_nobody_when_a_writer_is_killed)
{
    g_autofree char *store = unit_dir();
    g_autoptr(GError) error = NULL;

    for (unsigned round = 0; round < 10; round++) {
        AUTO(catalog) catalog = NULL;
        unsigned acknowledged = 0;
        int fds[2], status;
        pid_t child;
        char byte;

        ck_assert_int_eq(pipe(fds), 0);
        child = fork();
        if (child == 0)
            write_until_killed(store, fds[1]);
        close(fds[1]);
        while (acknowledged < 3 + round && read(fds[0], &byte, 1) == 1)
            acknowledged++;
        ck_assert_uint_eq(acknowledged, 3 + round);
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        ck_assert(WIFSIGNALED(status));
        while (read(fds[0], &byte, 1) == 1)
            acknowledged++;
        close(fds[0]);

        catalog = open_catalog(store);
        for (unsigned i = 0; i < acknowledged; i++) {
            g_autofree char *key = g_strdup_printf("%08u", i);

            ck_assert_int_eq(get_number(catalog, CATALOG_RUNS, key), (int)i);
        }
        unit_ok(put_number(catalog, "after", round, &error), error);
    }
}
END_TEST

START_TEST(does_not_survive_a_fork_but_can_be_opened_again)
{
    g_autofree char *store = unit_dir();
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    pid_t child;

    unit_ok(put_number(catalog, "a", 1, &error), error);
    child = fork();
    if (child == 0) {
        struct catalog *own = catalog_open(store, NULL);
        bool right = !put_number(catalog, "a", 2, &error) && strstr(error->message, "parent") &&
                     own && put_number(own, "b", 3, NULL);

        catalog_free(own);
        catalog_free(catalog);
        _exit(right ? 0 : 1);
    }
    assert_exit(child, 0);
    ck_assert_int_eq(get_number(catalog, CATALOG_RUNS, "a"), 1);
    ck_assert_int_eq(get_number(catalog, CATALOG_RUNS, "b"), 3);
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "catalog", keeps_what_was_put, keeps_a_large_value, inserts_only_where_there_is_nothing,
        walks_the_keys_of_a_prefix_in_order, refuses_keys_that_are_empty_or_too_long,
        puts_several_or_none, is_shared_by_all_who_open_it_in_a_process,
        stays_locked_until_its_last_user_in_a_process_is_gone, is_for_its_owner_only,
        refuses_a_store_that_is_not_there, lets_many_processes_write_at_once,
        lets_many_threads_write_at_once, loses_nothing_and_blocks_nobody_when_a_writer_is_killed,
        does_not_survive_a_fork_but_can_be_opened_again);
}
