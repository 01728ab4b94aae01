/* SPDX-License-Identifier: Apache-2.0 */
/* DRCTL is the program, whose documents they are. */
#include <sys/stat.h>

#include "tests/unit.h"
#include "web/data.h"

#define THREADS 8

static char *config_dir;

static struct data *data_of_a_site(void)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *store = g_build_filename(dir, "store", NULL);
    g_autofree char *images = g_build_filename(dir, "images", NULL);
    GError *error = NULL;

    config_dir = g_build_filename(dir, "etc", NULL);
    unit_ok(process_run((const char *[]){DRCTL, "--config", config_dir, "init", "--site", "dc1",
                                         "--store", store, "--images", images, NULL},
                        60, NULL, &error),
            error);
    return data_new(DRCTL, config_dir);
}

START_TEST(what_a_command_prints_is_kept_for_a_while)
{
    AUTO(data) data = data_of_a_site();
    AUTO_DOCUMENT first = {0};
    AUTO_DOCUMENT second = {0};
    AUTO_DOCUMENT third = {0};

    data_get(data, DOCUMENT_RUNS, NULL, true, &first);
    ck_assert_msg(first.current && first.text, "%s", first.error);
    ck_assert_str_eq(g_strstrip(first.text), "[]");
    data_get(data, DOCUMENT_RUNS, NULL, true, &second);
    ck_assert_int_eq(first.made_ms, second.made_ms);
    data_forget(data, DOCUMENT_RUNS);
    data_get(data, DOCUMENT_RUNS, NULL, true, &third);
    ck_assert_int_gt(third.made_ms, first.made_ms);
}
END_TEST

START_TEST(what_is_not_there_is_told)
{
    AUTO(data) data = data_of_a_site();
    AUTO_DOCUMENT document = {0};

    data_get(data, DOCUMENT_RUN, "r-20260101-0000-1", true, &document);
    ck_assert(!document.current && !document.text);
    ck_assert_int_eq(document.status, EXIT_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(document.error, "r-20260101-0000-1"));
}
END_TEST

/* A name that looks like an option reaches the command as a name. */
START_TEST(an_argument_is_never_an_option)
{
    AUTO(data) data = data_of_a_site();
    AUTO_DOCUMENT document = {0};

    data_get(data, DOCUMENT_POINTS, "--help", true, &document);
    ck_assert_int_eq(document.status, EXIT_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(document.error, "--help"));
}
END_TEST

START_TEST(a_store_of_another_site_is_named_before_the_vm)
{
    AUTO(data) data = data_of_a_site();
    AUTO_DOCUMENT document = {0};

    data_get(data, DOCUMENT_POINTS_AT, "dr1/web/1", true, &document);
    ck_assert_int_eq(document.status, EXIT_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(document.error, "has no remote 'dr1'"));
}
END_TEST

START_TEST(the_last_one_stays_when_there_is_no_newer_one)
{
    AUTO(data) data = data_of_a_site();
    AUTO_DOCUMENT first = {0};
    AUTO_DOCUMENT second = {0};
    g_autofree char *path = g_build_filename(config_dir, "drctl.conf", NULL);

    data_get(data, DOCUMENT_RUNS, NULL, true, &first);
    ck_assert(first.current);
    ck_assert_int_eq(remove(path), 0);
    data_forget(data, DOCUMENT_RUNS);
    data_get(data, DOCUMENT_RUNS, NULL, true, &second);
    ck_assert(!second.current);
    ck_assert_str_eq(second.text, first.text);
    ck_assert_int_eq(second.made_ms, first.made_ms);
    ck_assert_ptr_nonnull(strstr(second.error, "drctl.conf"));
}
END_TEST

/* A program that hangs, or is slow, is a shell script: what it does in its directory DIR. */
static struct data *data_of_script(const char *dir, const char *text)
{
    g_autofree char *path = g_build_filename(dir, "program", NULL);
    g_autofree char *script = g_strdup_printf("#!/bin/sh\ncd '%s'\n%s\n", dir, text);

    ck_assert(g_file_set_contents(path, script, -1, NULL));
    ck_assert_int_eq(chmod(path, 0700), 0);
    return data_new(path, dir);
}

static void make_file(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);

    ck_assert(g_file_set_contents(path, "", 0, NULL));
}

START_TEST(while_a_command_hangs_the_last_one_is_shown)
{
    g_autofree char *dir = unit_dir();
    AUTO(data) data = data_of_script(dir, "[ ! -e hang ] || exec sleep 1000\necho '[]'");
    AUTO_DOCUMENT first = {0};
    AUTO_DOCUMENT second = {0};
    int64_t began_ms;

    data_get(data, DOCUMENT_RUNS, NULL, true, &first);
    ck_assert_msg(first.current, "%s", first.error);
    make_file(dir, "hang");
    data_forget(data, DOCUMENT_RUNS);
    data_get(data, DOCUMENT_RUNS, NULL, false, &second);
    ck_assert(!second.current);
    ck_assert_str_eq(second.text, first.text);
    ck_assert_int_eq(second.made_ms, first.made_ms);
    ck_assert_str_eq(second.error, "it takes longer than usual");
    /* It has been waited for: not again by each page. */
    began_ms = time_monotonic_ms();
    for (unsigned i = 0; i < 4; i++) {
        AUTO_DOCUMENT next = {0};

        data_get(data, DOCUMENT_RUNS, NULL, false, &next);
        ck_assert(!next.current);
        ck_assert_str_eq(next.text, first.text);
    }
    ck_assert_int_lt(time_monotonic_ms() - began_ms, 4000);
    interrupt_request();
}
END_TEST

START_TEST(what_is_forgotten_while_it_is_collected_is_collected_again)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *begun = g_build_filename(dir, "begun", NULL);
    AUTO(data) data = data_of_script(dir, "cat changed 2>&1 || :\n: >begun\nsleep 2\necho done");
    AUTO_DOCUMENT document = {0};
    int64_t until_ms = time_monotonic_ms() + UNIT_PATIENCE_MS;

    data_want(data, DOCUMENT_RUNS);
    while (!g_file_test(begun, G_FILE_TEST_EXISTS) && time_monotonic_ms() < until_ms)
        g_usleep(10000);
    make_file(dir, "changed");
    data_forget(data, DOCUMENT_RUNS);
    data_get(data, DOCUMENT_RUNS, NULL, true, &document);
    ck_assert_msg(document.current, "%s", document.error);
    ck_assert_str_eq(document.text, "done\n");
}
END_TEST

static void *ask(void *context)
{
    for (unsigned i = 0; i < 20; i++) {
        g_autofree char *name = g_strdup_printf("vm-%u", g_random_int_range(0, 4));
        AUTO_DOCUMENT runs = {0};
        AUTO_DOCUMENT points = {0};

        data_get(context, DOCUMENT_RUNS, NULL, true, &runs);
        ck_assert_msg(runs.current, "%s", runs.error);
        data_get(context, DOCUMENT_POINTS, name, true, &points);
        ck_assert_int_eq(points.status, EXIT_NOT_FOUND);
        if (i % 5 == 0)
            data_forget(context, DOCUMENT_RUNS);
    }
    return NULL;
}

START_TEST(many_may_ask_at_once)
{
    AUTO(data) data = data_of_a_site();
    GThread *threads[THREADS];

    for (unsigned i = 0; i < THREADS; i++)
        threads[i] = g_thread_new("ask", ask, data);
    for (unsigned i = 0; i < THREADS; i++)
        g_thread_join(threads[i]);
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "web-data", what_a_command_prints_is_kept_for_a_while, what_is_not_there_is_told,
        an_argument_is_never_an_option, a_store_of_another_site_is_named_before_the_vm,
        the_last_one_stays_when_there_is_no_newer_one, while_a_command_hangs_the_last_one_is_shown,
        what_is_forgotten_while_it_is_collected_is_collected_again, many_may_ask_at_once);
}
