/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "common/common.h"

#define RUN(timeout_s, output, error, ...)                                                         \
    process_run((const char *const[]){__VA_ARGS__, NULL}, timeout_s, output, error)

START_TEST(gives_the_output_of_a_program)
{
    g_autofree char *output = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(RUN(30, &output, &error, "printf", "%s|", "a b", "$HOME", "*"), error);
    ck_assert_str_eq(output, "a b|$HOME|*|");
    unit_ok(RUN(30, NULL, &error, "true"), error);
}
END_TEST

START_TEST(the_program_gets_no_input_and_the_c_locale)
{
    g_autofree char *output = NULL;
    g_autoptr(GError) error = NULL;

    g_setenv("LC_ALL", "de_DE.UTF-8", TRUE);
    unit_ok(RUN(30, &output, &error, "sh", "-c", "cat; echo $LC_ALL"), error);
    ck_assert_str_eq(output, "C\n");
}
END_TEST

START_TEST(takes_more_output_than_a_pipe_holds)
{
    g_autofree char *output = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(
        RUN(30, &output, &error, "sh", "-c",
            "head -c 3000000 /dev/zero | tr '\\0' x; head -c 300000 /dev/zero | tr '\\0' y >&2"),
        error);
    ck_assert_uint_eq(strlen(output), 3000000);
}
END_TEST

START_TEST(an_error_ends_with_the_last_words)
{
    g_autofree char *output = NULL;
    g_autoptr(GError) error = NULL;

    unit_fails(RUN(30, &output, &error, "sh", "-c",
                   "for i in 1 2 3 4; do echo line $i; done >&2; echo 'sh: no disk' >&2; exit 3"),
               error, ERROR_FAILED, "sh: line 3; line 4; no disk");
    ck_assert_ptr_null(output);
    unit_fails(RUN(30, NULL, &error, "sh", "-c", "exit 3"), error, ERROR_FAILED,
               "sh: exit status 3");
    unit_fails(RUN(30, NULL, &error, "sh", "-c", "kill -9 $$"), error, ERROR_FAILED,
               "sh: killed by signal 9");
}
END_TEST

START_TEST(a_missing_program_names_its_package)
{
    g_autofree char *dir = unit_dir();
    g_autoptr(GError) error = NULL;

    g_setenv("PATH", dir, TRUE);
    unit_fails(RUN(30, NULL, &error, "qemu-img", "info"), error, ERROR_FAILED, "qemu-utils");
    unit_fails(RUN(30, NULL, &error, "frobnicate"), error, ERROR_FAILED,
               "cannot run frobnicate: it is not installed");
    unit_fails(RUN(30, NULL, &error, dir), error, ERROR_FAILED, "cannot run");
}
END_TEST

/* What a shell wrote to FILE, or NULL if it has not yet; g_free. */
static char *pid_in(const char *file)
{
    g_autofree char *pid = NULL;

    return g_file_get_contents(file, &pid, NULL, NULL) && strchr(pid, '\n')
               ? g_strdup(g_strchomp(pid))
               : NULL;
}

START_TEST(a_program_that_takes_too_long_is_killed)
{
    g_autofree char *pid = NULL, *dir = unit_dir(), *path = g_build_filename(dir, "pid", NULL);
    int64_t begin = time_monotonic_ms();
    g_autoptr(GError) error = NULL;

    g_setenv("PID_FILE", path, TRUE);
    /* On a busy machine it may not even have begun by then. */
    for (unsigned timeout_s = 1; !pid; timeout_s *= 2) {
        g_autofree char *message = g_strdup_printf("sh: gave up after %u s", timeout_s);

        unit_fails(RUN(timeout_s, NULL, &error, "sh", "-c", "echo $$ >$PID_FILE; exec sleep 1000"),
                   error, ERROR_FAILED, message);
        ck_assert_int_lt(time_monotonic_ms() - begin, UNIT_PATIENCE_MS);
        pid = pid_in(path);
    }
    ck_assert_int_eq(kill(atoi(pid), 0), -1);
    ck_assert_int_eq(errno, ESRCH);
}
END_TEST

START_TEST(a_program_that_never_stops_writing_is_killed)
{
    g_autoptr(GError) error = NULL;

    unit_fails(RUN(1, NULL, &error, "yes"), error, ERROR_FAILED, "yes: gave up after 1 s");
}
END_TEST

static void on_alarm(int number)
{
    interrupt_request();
}

START_TEST(an_interrupt_ends_the_program)
{
    struct itimerval soon = {.it_value.tv_usec = 100000};
    int64_t begin = time_monotonic_ms();
    g_autoptr(GError) error = NULL;

    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &soon, NULL);
    unit_fails(RUN(0, NULL, &error, "sleep", "1000"), error, ERROR_CANCELLED, "interrupted");
    ck_assert_int_lt(time_monotonic_ms() - begin, UNIT_PATIENCE_MS);
}
END_TEST

START_TEST(a_grandchild_with_our_pipes_does_not_hold_us)
{
    g_autofree char *output = NULL;
    int64_t begin = time_monotonic_ms();
    g_autoptr(GError) error = NULL;
    bool done = RUN(30, &output, &error, "sh", "-c", "sleep 1000 & echo $!");

    unit_ok(done, error);
    ck_assert_int_gt(atoi(output), 1);
    ck_assert_int_eq(kill(atoi(output), SIGKILL), 0);
    ck_assert_int_lt(time_monotonic_ms() - begin, UNIT_PATIENCE_MS);
}
END_TEST

/* If only as a zombie that nobody has reaped yet. */
static bool has_ended(const char *pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/stat", pid);
    g_autofree char *stat = NULL;

    return !g_file_get_contents(path, &stat, NULL, NULL) || strstr(stat, ") Z ");
}

START_TEST(what_the_program_has_started_is_given_up_with_it)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *file = g_build_filename(dir, "pid", NULL);
    int64_t deadline = time_monotonic_ms() + 20000;
    g_autoptr(GError) error = NULL;

    unit_fails(RUN(1, NULL, &error, "sh", "-c", "sleep 60 & echo $! >\"$1\"; wait", "sh", file),
               error, ERROR_FAILED, "gave up after 1 s");
    while (!has_ended(file)) {
        ck_assert_int_lt(time_monotonic_ms(), deadline);
        g_usleep(1000);
    }
}
END_TEST

START_TEST(the_program_dies_with_us)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *file = g_build_filename(dir, "pid", NULL);
    g_autofree char *pid = NULL;
    int64_t deadline = time_monotonic_ms() + UNIT_PATIENCE_MS;
    pid_t child = fork();

    ck_assert_int_ge(child, 0);
    if (child == 0) {
        RUN(0, NULL, NULL, "sh", "-c", "echo $$ >\"$1\"; exec sleep 1000", "sh", file);
        _exit(0);
    }
    /* Not before it has written all of it: it is killed with us. */
    while (!(pid = pid_in(file))) {
        ck_assert_int_lt(time_monotonic_ms(), deadline);
        g_usleep(1000);
    }
    ck_assert(!has_ended(pid));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    while (!has_ended(pid)) {
        ck_assert_int_lt(time_monotonic_ms(), deadline);
        g_usleep(1000);
    }
}
END_TEST

/* --- Watched --- */

struct watching {
    GString *lines;
    unsigned looks;
    const char *unwanted; /* line */
};

static bool take_line(void *context, const char *line, GError **error)
{
    struct watching *self = context;

    g_string_append_printf(self->lines, "%s|", line);
    return g_strcmp0(line, self->unwanted) != 0 || fail(error, ERROR_CONFLICT, "unwanted");
}

static bool look(void *context, GError **error)
{
    ((struct watching *)context)->looks++;
    return true;
}

START_TEST(a_watched_program_is_heard_and_its_status_known)
{
    static const char *const argv[] = {
        "sh", "-c", "echo out; printf 'a\\nb\\n\\nlast' >&2; sleep 0.5; exit 7", NULL};
    g_autoptr(GString) lines = g_string_new(NULL);
    struct watching watching = {.lines = lines};
    struct process_watch watch = {1000, take_line, look, &watching};
    g_autofree char *output = NULL;
    g_autoptr(GError) error = NULL;
    int status = 0;

    unit_ok(process_watch(argv, &watch, &output, &status, &error), error);
    ck_assert_str_eq(output, "out\n");
    ck_assert_str_eq(lines->str, "a|b|last|");
    ck_assert_int_eq(status, 7);
    ck_assert_uint_ge(watching.looks, 2);
}
END_TEST

START_TEST(nobody_needs_to_listen_or_look)
{
    static const char *const argv[] = {"sh", "-c", "echo out; echo what >&2; sleep 0.5", NULL};
    struct process_watch watch = {.output_max = 1000};
    g_autofree char *output = NULL;
    g_autoptr(GError) error = NULL;
    int status = 1;

    unit_ok(process_watch(argv, &watch, &output, &status, &error), error);
    ck_assert_str_eq(output, "out\n");
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(who_watches_ends_the_program_and_what_it_has_started)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *file = g_build_filename(dir, "pid", NULL);
    const char *const argv[] = {
        "sh", "-c", "trap 'exit 0' TERM; sleep 60 & echo $! >\"$1\"; echo stop >&2; wait",
        "sh", file, NULL};
    g_autoptr(GString) lines = g_string_new(NULL);
    struct watching watching = {.lines = lines, .unwanted = "stop"};
    struct process_watch watch = {1000, take_line, look, &watching};
    g_autofree char *output = NULL;
    g_autoptr(GError) error = NULL;
    int64_t deadline = time_monotonic_ms() + 20000;
    int status = 0;

    unit_fails(process_watch(argv, &watch, &output, &status, &error), error, ERROR_CONFLICT,
               "unwanted");
    while (!has_ended(file)) {
        ck_assert_int_lt(time_monotonic_ms(), deadline);
        g_usleep(1000);
    }
}
END_TEST

int main(void)
{
    return UNIT_RUN("process", gives_the_output_of_a_program,
                    the_program_gets_no_input_and_the_c_locale, takes_more_output_than_a_pipe_holds,
                    an_error_ends_with_the_last_words, a_missing_program_names_its_package,
                    a_program_that_takes_too_long_is_killed,
                    a_program_that_never_stops_writing_is_killed, an_interrupt_ends_the_program,
                    a_grandchild_with_our_pipes_does_not_hold_us,
                    what_the_program_has_started_is_given_up_with_it, the_program_dies_with_us,
                    a_watched_program_is_heard_and_its_status_known, nobody_needs_to_listen_or_look,
                    who_watches_ends_the_program_and_what_it_has_started);
}
