/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A commit that is killed, or whose system calls fail, at every place where it matters; and disks
 * that are full. What must hold: afterwards there is a whole point or none, and the next transfer
 * works.
 */
#include "tests/unit.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "replicator/local.h"
#include "tests/points.h"

#define IMAGE_BYTES ((uint64_t)200000)
#define IMAGE_BYTES_TEXT "200000"
#define PLACES_MAX 200u /* more system calls of a kind than a commit has */
#define FULL_DISK_OPTIONS "size=8m"
#define RESERVE_OPTIONS "size=100m" /* of which 2 MiB are kept */

struct outcome {
    bool injected; /* the N-th call was made */
    bool succeeded;
};

/* Run store-tool, with INJECTION into its N-th call. */
static struct outcome commit_with(const char *store, const char *calls, const char *injection,
                                  unsigned n)
{
    g_autofree char *log = g_strconcat(store, ".strace", NULL);
    g_autofree char *trace = g_strdup_printf("trace=%s", calls);
    g_autofree char *inject = g_strdup_printf("inject=%s:%s:when=%u", calls, injection, n);
    const char *argv[] = {"strace",         "-f", "-o",       log,      "-e",  trace, "-e",
                          inject,           "--", STORE_TOOL, "commit", store, VM_A,  POINT_1,
                          IMAGE_BYTES_TEXT, NULL};
    struct outcome outcome;
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;

    outcome.succeeded = process_run(argv, 60, NULL, &error);
    unit_ok(file_read(log, 1 << 24, &text, NULL, &error), error);
    outcome.injected = strstr(text, "(INJECTED)") || strstr(text, "killed by SIGKILL");
    return outcome;
}

/* Points of VM_A in the store; the whole store must be in order. */
static unsigned look(const char *path, bool then_put)
{
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = catalog_open(path, &error);
    AUTO(store) store = NULL;
    g_autofree char *base = g_build_filename(path, "incoming", NULL);
    g_auto(GStrv) left = NULL;
    g_auto(GStrv) damaged = NULL;
    g_autoptr(GPtrArray) points = NULL;

    unit_ok(catalog, error);
    unit_ok(store = store_open_local(path, catalog, &points_accept_ops, &error), error);
    unit_ok(left = dir_list(base, &error), error);
    ck_assert_uint_eq(g_strv_length(left), 0);
    unit_ok(damaged = store_damaged_points(store, NULL, &error), error);
    ck_assert_uint_eq(g_strv_length(damaged), 0);
    unit_ok(points = store_points(store, VM_A, &error), error);
    for (unsigned i = 0; i < points->len; i++)
        unit_ok(points_verify(path, points->pdata[i], &error), error);
    if (then_put)
        unit_ok(points_put(store, VM_A, points->len ? POINT_2 : POINT_1, NULL, IMAGE_BYTES, &error),
                error);
    return points->len;
}

/* Inject into the first, second, ... of CALLS until there are no more; at least MIN. */
static void each_place(const char *calls, const char *injection, unsigned min)
{
    unsigned n;

    setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* it cannot be traced twice */
    for (n = 1; n < PLACES_MAX; n++) {
        g_autofree char *dir = unit_dir();
        g_autofree char *path = g_build_filename(dir, "store", NULL);
        g_autoptr(GError) error = NULL;
        struct outcome outcome;
        unsigned points;

        unit_ok(store_create(path, "dr1", &error), error);
        outcome = commit_with(path, calls, injection, n);
        points = look(path, false);
        ck_assert_uint_le(points, 1);
        if (outcome.succeeded)
            ck_assert_uint_eq(points, 1);
        else if (g_str_has_prefix(injection, "error="))
            /* Who is told that it failed must not find it. */
            ck_assert_uint_eq(points, 0);
        look(path, true);
        ck_assert_uint_eq(look(path, false), points + 1);
        if (!outcome.injected)
            break;
    }
    ck_assert_uint_lt(n, PLACES_MAX);
    ck_assert_uint_gt(n, min);
}

START_TEST(a_kill_at_any_fsync_leaves_a_point_or_none)
{
    each_place("fsync", "signal=SIGKILL", 8);
}
END_TEST

START_TEST(a_kill_at_any_rename_leaves_a_point_or_none)
{
    each_place("rename,renameat,renameat2", "signal=SIGKILL", 2);
}
END_TEST

START_TEST(a_kill_at_any_mkdir_or_unlink_leaves_a_point_or_none)
{
    each_place("mkdir,unlink,unlinkat", "signal=SIGKILL", 1);
}
END_TEST

START_TEST(a_kill_at_any_write_leaves_a_point_or_none)
{
    each_place("pwrite64", "signal=SIGKILL", 5);
}
END_TEST

START_TEST(an_fsync_that_fails_is_a_commit_that_failed)
{
    each_place("fsync", "error=EIO", 8);
}
END_TEST

START_TEST(a_rename_that_fails_is_a_commit_that_failed)
{
    each_place("rename,renameat,renameat2", "error=EIO", 2);
}
END_TEST

START_TEST(a_write_that_fails_is_a_commit_that_failed)
{
    each_place("pwrite64", "error=ENOSPC", 5);
}
END_TEST

START_TEST(a_read_that_fails_is_a_commit_that_failed)
{
    each_place("pread64", "error=EIO", 2);
}
END_TEST

/* --- A full disk --- */

/* Mount a small file system on DIR that only this process sees. */
static bool mount_small(const char *dir, const char *options)
{
    if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return false;
    return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", dir, "tmpfs", 0, options) == 0;
}

START_TEST(a_full_disk_is_named_and_free_again_at_once)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *path = g_build_filename(dir, "store", NULL);
    GError *error = NULL;
    uint64_t free_before, free_after, total;

    if (!mount_small(dir, FULL_DISK_OPTIONS)) {
        /* Not allowed here; the ENOSPC test above injects the same. */
        return;
    }
    unit_ok(store_create(path, "dr1", &error), error);
    AUTO(catalog) catalog = catalog_open(path, &error);
    AUTO(store) store = store_open_local(path, catalog, &points_accept_ops, &error);

    unit_ok(store, error);
    unit_ok(disk_space(path, &free_before, &total, &error), error);
    unit_fails(points_put(store, VM_A, POINT_1, NULL, UINT64_C(64) << 20, &error), error,
               ERROR_NO_SPACE, "are free at");
    unit_ok(disk_space(path, &free_after, &total, &error), error);
    ck_assert_uint_ge(free_after + POINTS_CLUSTER, free_before);
    unit_ok(points_put(store, VM_A, POINT_2, NULL, IMAGE_BYTES, &error), error);
    ck_assert_uint_eq(look(path, false), 1);
}
END_TEST

START_TEST(a_full_store_leaves_room_for_the_catalog)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *path = g_build_filename(dir, "store", NULL);
    uint64_t free_bytes, total;
    unsigned n = 0;
    GError *error = NULL;

    /* Where that is not allowed, nothing can be filled up. */
    if (!mount_small(dir, RESERVE_OPTIONS))
        return;
    unit_ok(store_create(path, "dr1", &error), error);
    AUTO(catalog) catalog = catalog_open(path, &error);
    AUTO(store) store = store_open_local(path, catalog, &points_accept_ops, &error);
    json_auto_t *value = json_object();

    unit_ok(store, error);
    for (bool put = true; put; n++) {
        g_autofree char *point = point_id_format((int64_t)(n + 1) * 1000);

        put = points_put(store, VM_A, point, NULL, UINT64_C(1) << 20, &error);
    }
    unit_fails(false, error, ERROR_NO_SPACE, "the last 2 MiB are kept for bringing up");
    unit_ok(disk_space(path, &free_bytes, &total, &error), error);
    ck_assert_uint_gt(free_bytes, (1 << 20) - 2 * POINTS_CLUSTER);
    unit_ok(catalog_put(catalog, CATALOG_RUNS, "failover", value, &error), error);
    ck_assert_uint_eq(look(path, false), n - 1);
}
END_TEST

START_TEST(a_limit_on_file_sizes_discards_the_point)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *path = g_build_filename(dir, "store", NULL);
    GError *error = NULL;
    AUTO(catalog) catalog = NULL;
    AUTO(store) store = NULL;
    struct rlimit limit = {.rlim_cur = 4 << 20, .rlim_max = RLIM_INFINITY};

    unit_ok(store_create(path, "dr1", &error), error);
    unit_ok(catalog = catalog_open(path, &error), error);
    unit_ok(store = store_open_local(path, catalog, &points_accept_ops, &error), error);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    unit_fails(points_put(store, VM_A, POINT_1, NULL, UINT64_C(64) << 20, &error), error, ERROR_IO,
               "File too large");
    unit_ok(points_put(store, VM_A, POINT_2, NULL, IMAGE_BYTES, &error), error);
    ck_assert_uint_eq(look(path, false), 1);
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "store-kill", a_kill_at_any_fsync_leaves_a_point_or_none,
        a_kill_at_any_rename_leaves_a_point_or_none,
        a_kill_at_any_mkdir_or_unlink_leaves_a_point_or_none,
        a_kill_at_any_write_leaves_a_point_or_none, an_fsync_that_fails_is_a_commit_that_failed,
        a_rename_that_fails_is_a_commit_that_failed, a_write_that_fails_is_a_commit_that_failed,
        a_read_that_fails_is_a_commit_that_failed, a_full_disk_is_named_and_free_again_at_once,
        a_full_store_leaves_room_for_the_catalog, a_limit_on_file_sizes_discards_the_point);
}
