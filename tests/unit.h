/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every Check binary of ours has in common: TAP on stdout, and directories for its tests that
 * are gone afterwards, also those of a test that failed or crashed (each test is its own process).
 *
 *     START_TEST(refuses_a_truncated_manifest) { g_autofree char *dir = unit_dir(); ... } END_TEST
 *     int main(void) { return UNIT_RUN("manifest", refuses_a_truncated_manifest, ...); }
 */
#pragma once

#include <check.h>
#include <errno.h>
#include <ftw.h>
#include <glib.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* An old name of Check for ck_abort_msg(); it is ours. */
#undef fail

/* What ends a test that hangs. Many of them need seconds, and machines may be ten times as busy. */
#define UNIT_TIMEOUT_S 300
/* How long a test waits for what happens at once, unless the machine is busy with other things. */
#define UNIT_PATIENCE_MS 120000

static char *unit_base; /* holds the directories of all tests of this binary */

static inline int unit_remove_entry(const char *path, const struct stat *st, int type,
                                    struct FTW *where)
{
    return remove(path);
}

/* A new empty directory, different for each call; g_free the path. */
G_GNUC_UNUSED static inline char *unit_dir(void)
{
    char *dir = g_build_filename(unit_base, "XXXXXX", NULL);

    if (!g_mkdtemp(dir))
        g_error("cannot make %s: %s", dir, g_strerror(errno));
    return dir;
}

/* Run SUITE; the exit status for main(). Takes SUITE. */
G_GNUC_UNUSED static inline int unit_run_suite(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    int failed;

    unit_base = g_dir_make_tmp("drctl-unit-XXXXXX", NULL);
    if (!unit_base)
        g_error("cannot make a directory in %s", g_get_tmp_dir());
    srunner_set_tap(runner, "-");
    srunner_run_all(runner, CK_SILENT);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    nftw(unit_base, unit_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    g_free(unit_base);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Run the NULL-terminated TESTS as suite NAME. */
G_GNUC_UNUSED static inline int unit_run(const char *name, const TTest *const *tests)
{
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);

    tcase_set_timeout(tcase, UNIT_TIMEOUT_S);
    for (; *tests; tests++)
        tcase_add_test(tcase, *tests);
    suite_add_tcase(suite, tcase);
    return unit_run_suite(suite);
}
#define UNIT_RUN(name, ...) unit_run(name, (const TTest *const[]){__VA_ARGS__, NULL})

/* CALL succeeded: shows the error if not. CALL's last argument is &error. */
#define unit_ok(call, error)                                                                       \
    ck_assert_msg((call), "%s: %s", #call, (error) ? (error)->message : "no error set")

/* CALL failed with an error of KIND whose text contains PART; clears the error. */
#define unit_fails(call, error, kind, part)                                                        \
    do {                                                                                           \
        ck_assert_msg(!(call), "%s succeeded", #call);                                             \
        ck_assert_msg((error) != NULL, "%s set no error", #call);                                  \
        ck_assert_msg(error_is((error), (kind)), "%s: kind %s: %s", #call,                         \
                      error_kind_name(error_kind_of(error)), (error)->message);                    \
        ck_assert_msg(strstr((error)->message, (part)) != NULL, "%s: no '%s' in: %s", #call,       \
                      (part), (error)->message);                                                   \
        g_clear_error(&(error));                                                                   \
    } while (0)
