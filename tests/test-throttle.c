/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Times are compared with what a limit must cost; above that there is only a deadline, because the
 * machine may be busy.
 */
#include "tests/unit.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "replicator/throttle.h"

#define RATE "4MiB/s"
#define RATE_BYTES (4u << 20)
/* The burst that passes at once, and the slice whose end nobody waits for. */
#define AT_ONCE_MS 200
#define QUEUE_NS INT64_C(8000000000)

struct line {
    char *dir, *file;
    struct limit *limit;
};

static struct line line_new(void)
{
    struct line line = {.dir = unit_dir(), .limit = limit_new()};
    g_autoptr(GError) error = NULL;

    line.file = g_build_filename(line.dir, "run", "limit-dr1", NULL);
    unit_ok(limit_set(line.limit, RATE, &error), error);
    return line;
}

static void line_free(struct line *line)
{
    limit_free(line->limit);
    g_free(line->file);
    g_free(line->dir);
}

static struct throttle *line_open(const struct line *line)
{
    g_autoptr(GError) error = NULL;
    struct throttle *throttle = throttle_open(line->file, line->limit, &error);

    unit_ok(throttle, error);
    return throttle;
}

static bool pass(struct throttle *throttle, size_t bytes, GError **error)
{
    for (size_t done = 0, slice; done < bytes; done += slice) {
        slice = MIN(bytes - done, throttle_slice(throttle));
        if (!throttle_wait(throttle, slice, error))
            return false;
    }
    return true;
}

static void write_file(const struct line *line, const void *data, size_t len)
{
    AUTO_FD fd = open(line->file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    ck_assert_int_eq(write(fd, data, len), (ssize_t)len);
}

/* Somebody has reserved the line until NS from now. */
static void reserve_ns(const struct line *line, int64_t ns)
{
    int64_t free_ns = g_get_monotonic_time() * 1000 + ns;

    write_file(line, &free_ns, sizeof(free_ns));
}

START_TEST(bytes_take_their_time)
{
    struct line line = line_new();
    AUTO(throttle) throttle = line_open(&line);
    int64_t began_ms = time_monotonic_ms(), took_ms;
    g_autoptr(GError) error = NULL;

    ck_assert_uint_le(throttle_slice(throttle), RATE_BYTES / 4);
    unit_ok(pass(throttle, RATE_BYTES, &error), error);
    took_ms = time_monotonic_ms() - began_ms;
    ck_assert_int_ge(took_ms, 1000 - AT_ONCE_MS);
    ck_assert_int_lt(took_ms, UNIT_PATIENCE_MS);
    line_free(&line);
}
END_TEST

START_TEST(what_is_not_used_is_not_saved_up)
{
    struct line line = line_new();
    AUTO(throttle) throttle = line_open(&line);
    g_autoptr(GError) error = NULL;
    int64_t began_ms;

    unit_ok(pass(throttle, 1, &error), error);
    reserve_ns(&line, -QUEUE_NS);
    began_ms = time_monotonic_ms();
    unit_ok(pass(throttle, RATE_BYTES, &error), error);
    ck_assert_int_ge(time_monotonic_ms() - began_ms, 1000 - AT_ONCE_MS);
    line_free(&line);
}
END_TEST

static pid_t pass_elsewhere(const struct line *line, size_t bytes)
{
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct throttle *throttle = throttle_open(line->file, line->limit, NULL);

        _exit(throttle && pass(throttle, bytes, NULL) ? 0 : 1);
    }
    return pid;
}

START_TEST(processes_share_the_rate)
{
    struct line line = line_new();
    int64_t began_ms = time_monotonic_ms(), took_ms;
    pid_t pids[3];
    int status;

    for (size_t i = 0; i < G_N_ELEMENTS(pids); i++)
        pids[i] = pass_elsewhere(&line, RATE_BYTES / 2);
    for (size_t i = 0; i < G_N_ELEMENTS(pids); i++) {
        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert_int_eq(status, 0);
    }
    took_ms = time_monotonic_ms() - began_ms;
    ck_assert_int_ge(took_ms, 1500 - AT_ONCE_MS);
    ck_assert_int_lt(took_ms, UNIT_PATIENCE_MS);
    line_free(&line);
}
END_TEST

START_TEST(no_limit_costs_nothing)
{
    struct line line = line_new();
    AUTO(throttle) throttle = line_open(&line);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    size_t len;

    unit_ok(limit_set(line.limit, "none", &error), error);
    unit_ok(pass(throttle, (size_t)1 << 40, &error), error);
    unit_ok(file_read(line.file, 100, &text, &len, &error), error);
    ck_assert_uint_eq(len, 0);
    line_free(&line);
}
END_TEST

START_TEST(a_damaged_file_heals)
{
    static const int64_t wrong[] = {INT64_MAX, INT64_MIN, -1, 0};
    struct line line = line_new();
    AUTO(throttle) throttle = line_open(&line);
    int64_t began_ms = time_monotonic_ms();
    g_autoptr(GError) error = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        write_file(&line, &wrong[i], sizeof(wrong[i]));
        unit_ok(pass(throttle, 1000, &error), error);
    }
    /* As after a reboot. */
    reserve_ns(&line, 1000 * QUEUE_NS);
    unit_ok(pass(throttle, 1000, &error), error);
    write_file(&line, "abc", 3);
    unit_ok(pass(throttle, 1000, &error), error);
    write_file(&line, "", 0);
    unit_ok(pass(throttle, RATE_BYTES, &error), error);
    ck_assert_int_ge(time_monotonic_ms() - began_ms, 1000 - AT_ONCE_MS);
    ck_assert_int_lt(time_monotonic_ms() - began_ms, UNIT_PATIENCE_MS);
    line_free(&line);
}
END_TEST

START_TEST(a_process_that_was_stopped_stops_nobody_else)
{
    struct line line = line_new();
    AUTO(throttle) throttle = line_open(&line);
    AUTO_FD other = open(line.file, O_RDWR | O_CLOEXEC);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int64_t began_ms = time_monotonic_ms();
    g_autoptr(GError) error = NULL;

    ck_assert_int_eq(fcntl(other, F_OFD_SETLK, &whole), 0);
    unit_ok(pass(throttle, 1000, &error), error);
    ck_assert_int_lt(time_monotonic_ms() - began_ms, UNIT_PATIENCE_MS);
    line_free(&line);
}
END_TEST

static void on_alarm(int number)
{
    interrupt_request();
}

START_TEST(an_interrupt_ends_the_wait)
{
    struct itimerval soon = {.it_value.tv_usec = 50000};
    struct line line = line_new();
    AUTO(throttle) throttle = line_open(&line);
    int64_t began_ms;
    g_autoptr(GError) error = NULL;

    reserve_ns(&line, QUEUE_NS);
    signal(SIGALRM, on_alarm);
    began_ms = time_monotonic_ms();
    setitimer(ITIMER_REAL, &soon, NULL);
    unit_fails(pass(throttle, 1000, &error), error, ERROR_CANCELLED, "interrupted");
    ck_assert_int_lt(time_monotonic_ms() - began_ms, QUEUE_NS / 2 / 1000000);
    line_free(&line);
}
END_TEST

START_TEST(a_place_that_cannot_be_written_is_named)
{
    struct line line = line_new();
    g_autoptr(GError) error = NULL;

    g_free(line.file);
    line.file = g_build_filename("/dev/null", "limit-dr1", NULL);
    unit_fails(throttle_open(line.file, line.limit, &error), error, ERROR_IO, "/dev/null");
    g_free(line.file);
    line.file = g_strdup(line.dir);
    unit_fails(throttle_open(line.file, line.limit, &error), error, ERROR_IO,
               "keeps the bandwidth limit");
    line_free(&line);
}
END_TEST

int main(void)
{
    return UNIT_RUN("throttle", bytes_take_their_time, what_is_not_used_is_not_saved_up,
                    processes_share_the_rate, no_limit_costs_nothing, a_damaged_file_heals,
                    a_process_that_was_stopped_stops_nobody_else, an_interrupt_ends_the_wait,
                    a_place_that_cannot_be_written_is_named);
}
