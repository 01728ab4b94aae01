/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/catalog-unit.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

static char *data_path(const char *store)
{
    return g_build_filename(store, "catalog", "data.mdb", NULL);
}

/* Where both meta pages of data.mdb have the number of the last page (struct MDB_meta, 64-bit). */
#define META_LAST_PAGE 136

static uint64_t page_size(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

static void write_data(const char *store, const char *data, size_t len)
{
    g_autofree char *dir = g_build_filename(store, "catalog", NULL);
    g_autofree char *path = data_path(store);
    g_autoptr(GError) error = NULL;

    unit_ok(dir_make(dir, 0700, &error), error);
    unit_ok(
        g_file_set_contents_full(path, data, (gssize)len, G_FILE_SET_CONTENTS_NONE, 0600, &error),
        error);
}

static char *read_data(const char *store, size_t *len)
{
    g_autofree char *path = data_path(store);
    g_autoptr(GError) error = NULL;
    char *data = NULL;

    unit_ok(file_read(path, 64u << 20, &data, len, &error), error);
    return data;
}

START_TEST(refuses_a_file_that_is_no_catalog_and_says_the_way_out)
{
    g_autofree char *store = unit_dir(), *garbage = g_strnfill(100000, 'x');
    g_autofree char *dir = g_build_filename(store, "catalog", NULL);
    g_autofree char *away = g_build_filename(store, "catalog.old", NULL);
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = NULL;

    write_data(store, garbage, 100000);
    unit_fails(catalog_open(store, &error), error, ERROR_INTEGRITY, "drctl store rebuild");
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

START_TEST(tables_that_an_older_version_did_not_know_are_made)
{
    g_autofree char *store = unit_dir(), *data = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    json_auto_t *value = number(7);
    size_t len;

    unit_ok(put_number(catalog, "a", 1, &error), error);
    catalog_free(g_steal_pointer(&catalog));
    data = read_data(store, &len);
    /* Names are sorted, and must stay so. */
    patch(data, len, "verified", "verifier");
    write_data(store, data, len);
    catalog = open_catalog(store);
    ck_assert_int_eq(get_number(catalog, CATALOG_RUNS, "a"), 1);
    unit_ok(catalog_put(catalog, CATALOG_VERIFIED, "b", value, &error), error);
    ck_assert_int_eq(get_number(catalog, CATALOG_VERIFIED, "b"), 7);
}
END_TEST

START_TEST(a_damaged_catalog_is_set_aside_when_nobody_is_at_work)
{
    g_autofree char *store = unit_dir();
    g_autofree char *data = g_build_filename(store, "catalog", "data.mdb", NULL);
    g_autofree char *lock_path = g_build_filename(store, "locks", "run-1.lock", NULL);
    g_autofree char *where = NULL;
    GError *error = NULL;
    AUTO(file_lock) lock = NULL;
    AUTO(catalog) catalog = open_catalog(store);

    unit_ok(put_number(catalog, "a", 1, &error), error);
    catalog_free(g_steal_pointer(&catalog));
    unit_ok(file_write(data, "rubbish", 7, 0600, &error), error);
    unit_fails(catalog = catalog_open(store, &error), error, ERROR_INTEGRITY, "store rebuild");
    unit_ok(lock = file_lock_take(lock_path, "a run", &error), error);
    unit_fails(catalog_set_aside(store, &where, &error), error, ERROR_CONFLICT, "run-1.lock");
    g_clear_pointer(&lock, file_lock_free);
    unit_ok(catalog_set_aside(store, &where, &error), error);
    ck_assert(g_file_test(where, G_FILE_TEST_IS_DIR));
    catalog = open_catalog(store);
    ck_assert_int_eq(get_number(catalog, CATALOG_RUNS, "a"), -1);
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

/* LMDB itself does not promise this: it never writes pages that became free again at the end. */
START_TEST(keeps_its_file_longer_than_its_last_page)
{
    g_autofree char *store = unit_dir();
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);

    for (unsigned i = 0; i < 300; i++) {
        g_autofree char *key = g_strdup_printf("%0300u", i * 7 % 64), *data = NULL;
        uint64_t last_page;
        size_t len;

        unit_ok(i % 5 ? put_number(catalog, key, i, &error)
                      : catalog_remove(catalog, CATALOG_RUNS, key, &error),
                error);
        data = read_data(store, &len);
        for (unsigned meta = 0; meta < 2; meta++) {
            memcpy(&last_page, data + meta * page_size() + META_LAST_PAGE, 8);
            ck_assert_uint_gt(len, (last_page + 1) * page_size() + 100000);
        }
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

static bool write_proc(const char *path, const char *text)
{
    AUTO_FD fd = open(path, O_WRONLY | O_CLOEXEC);

    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* A user namespace in which we are root. */
static bool become_root(void)
{
    g_autofree char *uid_map = g_strdup_printf("0 %d 1", (int)geteuid());
    g_autofree char *gid_map = g_strdup_printf("0 %d 1", (int)getegid());

    return unshare(CLONE_NEWUSER) == 0 && write_proc("/proc/self/setgroups", "deny") &&
           write_proc("/proc/self/uid_map", uid_map) && write_proc("/proc/self/gid_map", gid_map);
}

/* A tmpfs of SIZE on DIR in a mount namespace of this test; false where that is not allowed. */
static bool mount_small(const char *dir, const char *size)
{
    g_autofree char *options = g_strdup_printf("size=%s,mode=0700", size);

    return (geteuid() == 0 || become_root()) && unshare(CLONE_NEWNS) == 0 &&
           mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
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

/* Near the end of the map the next record does not fit. */
START_TEST(says_no_space_when_the_map_is_full)
{
    const uint64_t map_bytes = (uint64_t)16 << 30;
    g_autofree char *store = unit_dir(), *path = data_path(store);
    g_autofree char *text = g_strnfill(1 << 20, 'x');
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    json_auto_t *value = json_pack("{s:s}", "text", text);
    uint64_t last_page = map_bytes / page_size() - 20;
    AUTO_FD fd = -1;

    unit_ok(put_number(catalog, "a", 1, &error), error);
    catalog_free(g_steal_pointer(&catalog));
    fd = open(path, O_RDWR | O_CLOEXEC);
    for (unsigned meta = 0; meta < 2; meta++)
        unit_ok(fd_write_at(fd, meta * page_size() + META_LAST_PAGE, &last_page, 8, path, &error),
                error);
    unit_fails(catalog_open(store, &error), error, ERROR_INTEGRITY, "cut short");
    ck_assert_int_eq(ftruncate(fd, (off_t)map_bytes), 0);
    catalog = open_catalog(store);
    unit_fails(catalog_put(catalog, CATALOG_RUNS, "b", value, &error), error, ERROR_NO_SPACE,
               "limit");
    ck_assert_int_eq(get_number(catalog, CATALOG_RUNS, "a"), 1);
    ck_assert_int_eq(get_number(catalog, CATALOG_RUNS, "b"), -1);
}
END_TEST

int main(void)
{
    return UNIT_RUN("catalog-fault", refuses_a_file_that_is_no_catalog_and_says_the_way_out,
                    refuses_the_database_of_another_program_or_version,
                    tables_that_an_older_version_did_not_know_are_made,
                    a_damaged_catalog_is_set_aside_when_nobody_is_at_work,
                    refuses_a_catalog_that_was_cut_short, keeps_its_file_longer_than_its_last_page,
                    says_no_space_at_a_file_size_limit_and_keeps_the_old_state,
                    says_no_space_on_a_full_disk_and_keeps_the_old_state,
                    says_no_space_where_there_is_not_even_room_to_begin,
                    says_no_space_when_the_map_is_full);
}
