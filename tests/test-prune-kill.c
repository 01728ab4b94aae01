/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `drctl prune` killed, or with system calls that fail, at every place where it matters. What must
 * hold: every point that is there has its content and all that it is based on, and the next prune ends
 * what this one began.
 */
#include "tests/disk-store.h"

#define POINTS 5u
#define KEPT 3u
#define POLICY "last=2 weekly=1" /* the two newest, and the oldest, which is a Sunday */
#define PLACES_MAX 200u

struct outcome {
    bool injected; /* the N-th call was made */
    bool succeeded;
};

static char *template_of(const struct disk_lab *lab)
{
    return g_strconcat(lab->path, ".template", NULL);
}

static void run(const char *const *argv)
{
    g_autoptr(GError) error = NULL;

    unit_ok(process_run(argv, 50, NULL, &error), error);
}

static struct disk_lab *lab_to_kill(void)
{
    struct disk_lab *lab = disk_lab_new();
    struct disk *disk = disk_lab_add(lab, 2 * LAB_MIB, 3);
    g_autofree char *template = template_of(lab);

    disk_scribble(disk, 0, disk->bytes, 9);
    for (unsigned i = 0; i < POINTS; i++) {
        disk_lab_point(lab);
        disk_scribble(disk, 0, disk->bytes, 2);
    }
    disk_lab_close_store(lab);
    run((const char *[]){"cp", "-a", lab->path, template, NULL});
    setenv("TZ", "UTC", 1);
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* it cannot be traced twice */
    return lab;
}

/* The store as it was made. */
static void reset(struct disk_lab *lab)
{
    g_autofree char *template = template_of(lab);
    g_autoptr(GError) error = NULL;

    unit_ok(tree_remove(lab->path, &error), error);
    run((const char *[]){"cp", "-a", template, lab->path, NULL});
}

/* Run drctl prune, with INJECTION into its N-th CALL. */
static struct outcome prune_with(const struct disk_lab *lab, const char *call,
                                 const char *injection, unsigned n)
{
    g_autofree char *log = g_strconcat(lab->dir, "/strace", NULL);
    g_autofree char *trace = g_strdup_printf("trace=%s", call);
    g_autofree char *inject = g_strdup_printf("inject=%s:%s:when=%u", call, injection, n);
    const char *argv[] = {"strace", "-f",  "-o",       log,      "-e",    trace,    "-e",   inject,
                          "--",     DRCTL, "--config", lab->dir, "prune", "--keep", POLICY, NULL};
    struct outcome outcome;
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;

    outcome.succeeded = process_run(argv, 50, NULL, &error);
    unit_ok(file_read(log, 1 << 24, &text, NULL, &error), error);
    outcome.injected = strstr(text, "(INJECTED)") || strstr(text, "killed by SIGKILL");
    return outcome;
}

/* How many points there are; all of them whole. */
static unsigned look(struct disk_lab *lab)
{
    g_autofree char *base = g_build_filename(lab->path, "incoming", NULL);
    g_auto(GStrv) left = NULL;
    g_autoptr(GError) error = NULL;
    unsigned count;

    disk_lab_open_store(lab);
    unit_ok(left = dir_list(base, &error), error);
    ck_assert_uint_eq(g_strv_length(left), 0);
    count = disk_lab_check(lab);
    disk_lab_close_store(lab);
    return count;
}

/* Inject into the first, second, ... CALL until there are no more; at least MIN. One call at a time,
 * because strace counts each for itself. */
static void each_place(const char *call, const char *injection, unsigned min)
{
    AUTO(disk_lab) lab = lab_to_kill();
    unsigned n;

    for (n = 1; n < PLACES_MAX; n++) {
        struct outcome outcome;
        unsigned left;

        reset(lab);
        outcome = prune_with(lab, call, injection, n);
        left = look(lab);
        ck_assert_uint_ge(left, KEPT);
        ck_assert_uint_le(left, POINTS);
        if (outcome.succeeded)
            ck_assert_uint_eq(left, KEPT);
        if (!outcome.injected)
            break;
        run((const char *[]){DRCTL, "--config", lab->dir, "prune", "--keep", POLICY, NULL});
        ck_assert_uint_eq(look(lab), KEPT);
    }
    ck_assert_uint_lt(n, PLACES_MAX);
    ck_assert_uint_gt(n, min);
}

START_TEST(a_kill_at_any_fsync_leaves_every_point_whole)
{
    each_place("fsync", "signal=SIGKILL", 8);
}
END_TEST

START_TEST(a_kill_at_any_rename_leaves_every_point_whole)
{
    each_place("renameat2", "signal=SIGKILL", 3);
    each_place("rename", "signal=SIGKILL", 2);
}
END_TEST

START_TEST(a_kill_at_any_unlink_leaves_every_point_whole)
{
    each_place("unlinkat", "signal=SIGKILL", 15);
}
END_TEST

START_TEST(a_kill_at_any_write_or_link_leaves_every_point_whole)
{
    each_place("pwrite64", "signal=SIGKILL", 5);
    each_place("link", "signal=SIGKILL", 1);
    each_place("mkdir", "signal=SIGKILL", 1);
}
END_TEST

START_TEST(an_fsync_that_fails_leaves_every_point_whole)
{
    each_place("fsync", "error=EIO", 8);
}
END_TEST

START_TEST(a_rename_that_fails_leaves_every_point_whole)
{
    each_place("renameat2", "error=EIO", 3);
    each_place("rename", "error=EIO", 2);
}
END_TEST

START_TEST(a_full_disk_leaves_every_point_whole)
{
    each_place("pwrite64", "error=ENOSPC", 5);
}
END_TEST

START_TEST(a_file_system_that_cannot_exchange_is_told_and_nothing_changes)
{
    AUTO(disk_lab) lab = lab_to_kill();
    g_autofree char *log = g_strconcat(lab->dir, "/strace", NULL);
    const char *argv[] = {"strace",   "-f",
                          "-o",       log,
                          "-e",       "trace=renameat2",
                          "-e",       "inject=renameat2:error=EINVAL",
                          "--",       DRCTL,
                          "--config", lab->dir,
                          "prune",    "--keep",
                          POLICY,     NULL};
    GError *error = NULL;

    unit_fails(process_run(argv, 50, NULL, &error), error, ERROR_FAILED,
               "cannot let two directories change places");
    ck_assert_uint_eq(look(lab), POINTS);
}
END_TEST

int main(void)
{
    return UNIT_RUN("prune-kill", a_kill_at_any_fsync_leaves_every_point_whole,
                    a_kill_at_any_rename_leaves_every_point_whole,
                    a_kill_at_any_unlink_leaves_every_point_whole,
                    a_kill_at_any_write_or_link_leaves_every_point_whole,
                    an_fsync_that_fails_leaves_every_point_whole,
                    a_rename_that_fails_leaves_every_point_whole,
                    a_full_disk_leaves_every_point_whole,
                    a_file_system_that_cannot_exchange_is_told_and_nothing_changes);
}
