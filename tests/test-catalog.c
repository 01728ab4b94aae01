/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "metadata/metadata.h"

static struct catalog *open_catalog(const char *store)
{
    g_autoptr(GError) error = NULL;
    struct catalog *catalog = catalog_open(store, &error);

    unit_ok(catalog != NULL, error);
    return catalog;
}

static json_t *number(unsigned n)
{
    return json_pack("{s:i}", "n", (int)n);
}

static bool put_number(struct catalog *catalog, const char *key, unsigned n, GError **error)
{
    json_auto_t *value = number(n);

    return catalog_put(catalog, CATALOG_RUNS, key, value, error);
}

/* The number under KEY, or -1. */
static int get_number(struct catalog *catalog, enum catalog_table table, const char *key)
{
    g_autoptr(GError) error = NULL;
    json_auto_t *value = NULL;

    unit_ok(catalog_get(catalog, table, key, &value, &error), error);
    return value ? (int)json_integer_value(json_object_get(value, "n")) : -1;
}

static bool count(const char *key, json_t *value, void *data)
{
    (*(unsigned *)data)++;
    return true;
}

static unsigned count_all(struct catalog *catalog, enum catalog_table table, const char *prefix)
{
    g_autoptr(GError) error = NULL;
    unsigned n = 0;

    unit_ok(catalog_each(catalog, table, prefix, count, &n, &error), error);
    return n;
}

static char *data_path(const char *store)
{
    return g_build_filename(store, "catalog", "data.mdb", NULL);
}

static void write_data(const char *store, const char *data, size_t len)
{
    g_autofree char *dir = g_build_filename(store, "catalog", NULL);
    g_autofree char *path = data_path(store);
    g_autoptr(GError) error = NULL;

    unit_ok(dir_make(dir, 0700, &error), error);
    unit_ok(file_write(path, data, len, 0600, &error), error);
}

static char *read_data(const char *store, size_t *len)
{
    g_autofree char *path = data_path(store);
    g_autoptr(GError) error = NULL;
    char *data = NULL;

    unit_ok(file_read(path, 64u << 20, &data, len, &error), error);
    return data;
}

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

    unit_ok(catalog_insert(catalog, CATALOG_RUNS, "a", first, &inserted, &error), error);
    ck_assert(inserted);
    unit_ok(catalog_insert(catalog, CATALOG_RUNS, "a", second, &inserted, &error), error);
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

START_TEST(refuses_a_file_that_is_no_catalog_and_says_the_way_out)
{
    g_autofree char *store = unit_dir(), *garbage = g_strnfill(100000, 'x');
    g_autofree char *dir = g_build_filename(store, "catalog", NULL);
    g_autofree char *away = g_build_filename(store, "catalog.old", NULL);
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = NULL;

    write_data(store, garbage, 100000);
    unit_fails(catalog_open(store, &error), error, ERROR_INTEGRITY, "move that directory away");
    write_data(store, garbage, 10);
    unit_fails(catalog_open(store, &error), error, ERROR_INTEGRITY, "points are not lost");
    ck_assert_int_eq(rename(dir, away), 0);
    catalog = open_catalog(store);
    unit_ok(put_number(catalog, "a", 1, &error), error);
}
END_TEST

/* Replace every FROM in the LEN bytes at DATA by TO, which has the same length. */
static void patch(char *data, size_t len, const char *from, const char *to)
{
    unsigned found = 0;
    char *at;

    for (; (at = memmem(data, len, from, strlen(from))); found++)
        memcpy(at, to, strlen(to));
    ck_assert_uint_gt(found, 0);
}

START_TEST(refuses_the_database_of_another_program_or_version)
{
    static const struct {
        const char *from, *to, *message;
    } cases[] = {
        {"meta", "mine", "another program"},
        {"format1", "format7", "another version"},
        {"captures", "capturez", "a table is missing"},
        {"{\"n\":1}", "{\"n\":1(", "not valid JSON"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *store = unit_dir(), *data = NULL;
        g_autoptr(GError) error = NULL;
        AUTO(catalog) catalog = open_catalog(store);
        json_t *value = NULL;
        size_t len;

        unit_ok(put_number(catalog, "a", 1, &error), error);
        catalog_free(g_steal_pointer(&catalog));
        data = read_data(store, &len);
        patch(data, len, cases[i].from, cases[i].to);
        write_data(store, data, len);
        unit_fails((catalog = catalog_open(store, &error)) &&
                       catalog_get(catalog, CATALOG_RUNS, "a", &value, &error),
                   error, ERROR_INTEGRITY, cases[i].message);
    }
}
END_TEST

/* Reading a page behind the end of the file would kill us with SIGBUS. */
START_TEST(refuses_a_catalog_that_was_cut_short)
{
    g_autofree char *store = unit_dir(), *data = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    unsigned refused = 0;
    size_t len;

    for (unsigned i = 0; i < 300; i++) {
        g_autofree char *key = g_strdup_printf("%0200u", i);

        unit_ok(put_number(catalog, key, i, &error), error);
    }
    catalog_free(g_steal_pointer(&catalog));
    data = read_data(store, &len);
    for (size_t cut = 1000; cut <= len; cut += 4096) {
        g_autofree char *copy = unit_dir();

        write_data(copy, data, cut);
        catalog = catalog_open(copy, &error);
        if (catalog) {
            ck_assert_uint_eq(count_all(catalog, CATALOG_RUNS, ""), 300);
            catalog_free(g_steal_pointer(&catalog));
        } else {
            ck_assert(error_is(error, ERROR_INTEGRITY));
            g_clear_error(&error);
            refused++;
        }
    }
    ck_assert_uint_gt(refused, 20);
}
END_TEST

/* Keys written and removed for a while: free pages at the end of the file must not look like
 * damage. */
START_TEST(opens_again_after_any_number_of_removals)
{
    g_autofree char *store = unit_dir();
    g_autoptr(GError) error = NULL;

    for (unsigned round = 0; round < 30; round++) {
        AUTO(catalog) catalog = open_catalog(store);

        for (unsigned i = 0; i < 20; i++) {
            g_autofree char *key = g_strdup_printf("%0300u", i * (round + 1) % 64);

            unit_ok(put_number(catalog, key, i, &error), error);
        }
        for (unsigned i = 0; i < 64; i += 1 + round % 3) {
            g_autofree char *key = g_strdup_printf("%0300u", i);

            unit_ok(catalog_remove(catalog, CATALOG_RUNS, key, &error), error);
        }
    }
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
            !catalog_insert(catalog, CATALOG_RUNS, common, value, &inserted, NULL))
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

/* Put until it fails; the number of records that it said are there. */
static unsigned fill(struct catalog *catalog, GError **error)
{
    g_autofree char *text = g_strnfill(10000, 'x');
    json_auto_t *value = json_pack("{s:s}", "text", text);

    for (unsigned i = 0; i < 100000; i++) {
        g_autofree char *key = g_strdup_printf("fill/%05u", i);

        if (!catalog_put(catalog, CATALOG_POINTS, key, value, error))
            return i;
    }
    return 100000;
}

static void assert_full_but_whole(const char *store, struct catalog *catalog)
{
    g_autoptr(GError) error = NULL;
    unsigned kept = fill(catalog, &error);

    ck_assert_msg(error_is(error, ERROR_NO_SPACE), "%s", error ? error->message : "never full");
    ck_assert_ptr_nonnull(strstr(error->message, "make room"));
    ck_assert_uint_gt(kept, 10);
    ck_assert_uint_eq(count_all(catalog, CATALOG_POINTS, "fill/"), kept);
    catalog_free(catalog);
    catalog = open_catalog(store);
    ck_assert_uint_eq(count_all(catalog, CATALOG_POINTS, "fill/"), kept);
    catalog_free(catalog);
}

START_TEST(says_no_space_at_a_file_size_limit_and_keeps_the_old_state)
{
    g_autofree char *store = unit_dir();
    struct catalog *catalog = open_catalog(store);
    struct rlimit limit;

    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = (6 << 20) + 1000;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_full_but_whole(store, catalog);
}
END_TEST

/* A tmpfs of SIZE on DIR in a mount namespace of this test; false where that is not allowed. */
static bool mount_small(const char *dir, const char *size)
{
    g_autofree char *options = g_strdup_printf("size=%s,mode=0700", size);
    int flags = geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER;

    return unshare(flags) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", dir, "tmpfs", 0, options) == 0;
}

START_TEST(says_no_space_on_a_full_disk_and_keeps_the_old_state)
{
    g_autofree char *store = unit_dir();

    if (!mount_small(store, "2m"))
        return;
    assert_full_but_whole(store, open_catalog(store));
}
END_TEST

START_TEST(says_no_space_where_there_is_not_even_room_to_begin)
{
    g_autofree char *store = unit_dir(), *filler = g_build_filename(store, "filler", NULL);
    g_autoptr(GError) error = NULL;
    AUTO_FD fd = -1;
    char block[4096] = "";

    if (!mount_small(store, "256k"))
        return;
    fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    while (write(fd, block, sizeof(block)) > 0)
        continue;
    unit_fails(catalog_open(store, &error), error, ERROR_NO_SPACE, "catalog");
}
END_TEST

/* The last page is at byte 136 of both meta pages (struct MDB_meta); near the end of the map the
 * next record does not fit. */
START_TEST(says_no_space_when_the_map_is_full)
{
    const uint64_t map_bytes = sizeof(void *) >= 8 ? (uint64_t)16 << 30 : (uint64_t)1 << 30;
    g_autofree char *store = unit_dir(), *path = data_path(store);
    g_autofree char *text = g_strnfill(1 << 20, 'x');
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    json_auto_t *value = json_pack("{s:s}", "text", text);
    uint64_t last_page = map_bytes / 4096 - 20;
    AUTO_FD fd = -1;

    if (sysconf(_SC_PAGESIZE) != 4096 || sizeof(void *) < 8)
        return;
    unit_ok(put_number(catalog, "a", 1, &error), error);
    catalog_free(g_steal_pointer(&catalog));
    fd = open(path, O_RDWR | O_CLOEXEC);
    for (unsigned meta = 0; meta < 2; meta++)
        unit_ok(fd_write_at(fd, meta * 4096 + 136, &last_page, 8, path, &error), error);
    unit_fails(catalog_open(store, &error), error, ERROR_INTEGRITY, "cut short");
    ck_assert_int_eq(ftruncate(fd, (off_t)map_bytes), 0);
    catalog = open_catalog(store);
    unit_fails(catalog_put(catalog, CATALOG_RUNS, "b", value, &error), error, ERROR_NO_SPACE,
               "limit");
    ck_assert_int_eq(get_number(catalog, CATALOG_RUNS, "a"), 1);
    ck_assert_int_eq(get_number(catalog, CATALOG_RUNS, "b"), -1);
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
        is_shared_by_all_who_open_it_in_a_process, is_for_its_owner_only,
        refuses_a_store_that_is_not_there, refuses_a_file_that_is_no_catalog_and_says_the_way_out,
        refuses_the_database_of_another_program_or_version, refuses_a_catalog_that_was_cut_short,
        opens_again_after_any_number_of_removals, lets_many_processes_write_at_once,
        lets_many_threads_write_at_once, loses_nothing_and_blocks_nobody_when_a_writer_is_killed,
        says_no_space_at_a_file_size_limit_and_keeps_the_old_state,
        says_no_space_on_a_full_disk_and_keeps_the_old_state,
        says_no_space_where_there_is_not_even_room_to_begin, says_no_space_when_the_map_is_full,
        does_not_survive_a_fork_but_can_be_opened_again);
}
