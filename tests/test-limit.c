/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include <time.h>

#include "metadata/metadata.h"

#define MIB (UINT64_C(1) << 20)

static void set_zone(const char *zone)
{
    g_setenv("TZ", zone, true);
    tzset();
}

/* One window of 1 MiB/s. */
static struct limit *one_window(const char *window)
{
    struct limit *limit = limit_new();
    g_autoptr(GError) error = NULL;

    unit_ok(limit_add_window(limit, window, "1MiB/s", &error), error);
    return limit;
}

static bool is_limited(const struct limit *limit, const char *time)
{
    g_autoptr(GError) error = NULL;
    int64_t ms;

    unit_ok(time_parse(time, &ms, &error), error);
    return limit_rate(limit, ms, NULL) == MIB;
}

START_TEST(rates_are_read_and_written)
{
    static const struct {
        const char *text;
        uint64_t rate;
        const char *shown;
    } good[] = {{"none", 0, "none"},
                {"20MiB/s", 20 * MIB, "20 MiB/s"},
                {"5 MiB/s", 5 * MIB, "5 MiB/s"},
                {"64KiB/s", 65536, "64 KiB/s"},
                {"100000B/s", 100000, "97.7 KiB/s"},
                {"100000/s", 100000, "97.7 KiB/s"}};
    static const char *const bad[] = {"",        "fast",  "20MiB",  "20MiB/h", "20 MB/s",
                                      "-1MiB/s", "MiB/s", "/s",     "0/s",     "0",
                                      "63KiB/s", "None",  "1e3B/s", "1.5MiB/s"};
    AUTO(limit) limit = limit_new();
    g_autoptr(GError) error = NULL;

    ck_assert(!limit_is_any(limit));
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autofree char *shown = NULL;

        unit_ok(limit_set(limit, good[i].text, &error), error);
        ck_assert_uint_eq(limit_rate(limit, 0, NULL), good[i].rate);
        ck_assert(limit_is_any(limit) == (good[i].rate != 0));
        shown = rate_format(good[i].rate);
        ck_assert_str_eq(shown, good[i].shown);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        unit_fails(limit_set(limit, bad[i], &error), error, ERROR_CONFIG, bad[i]);
    ck_assert_uint_eq(limit_rate(limit, 0, NULL), 100000);
}
END_TEST

START_TEST(windows_that_make_no_sense_are_refused)
{
    static const char *const bad[] = {"",
                                      "monday",
                                      "mon..",
                                      "..fri",
                                      "mon...fri",
                                      "mon-fri",
                                      "mon,",
                                      "mon,,tue",
                                      "08:00",
                                      "8:00-18:00",
                                      "08:00-18:60",
                                      "08:00-24:01",
                                      "x",
                                      "24:00-08:00",
                                      "08:00-08:00",
                                      "08:00-18:00-",
                                      "08:00..09:00",
                                      "mon tue",
                                      "mon 0",
                                      "08:00-09:00 mon",
                                      "mon 08:00-09:00 x",
                                      "mon  08:00-09:00",
                                      "+8:00-18:00",
                                      "mon..fri..sun"};
    AUTO(limit) limit = limit_new();
    g_autoptr(GError) error = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        unit_fails(limit_add_window(limit, bad[i], "1MiB/s", &error), error, ERROR_CONFIG, "'");
    ck_assert(!limit_is_any(limit));
}
END_TEST

/* 2026-11-16 is a Monday. */
START_TEST(windows_cover_their_days_and_hours)
{
    AUTO(limit) work = one_window("mon..fri 08:00-18:00");
    AUTO(limit) weekend = one_window("sat,sun");
    AUTO(limit) turn = one_window("sat..mon 00:00-24:00");
    AUTO(limit) daily = one_window("12:00-13:00");

    set_zone("UTC0");
    ck_assert(!is_limited(work, "2026-11-16T07:59:59.999Z"));
    ck_assert(is_limited(work, "2026-11-16T08:00:00Z"));
    ck_assert(is_limited(work, "2026-11-20T17:59:59.999Z"));
    ck_assert(!is_limited(work, "2026-11-20T18:00:00Z"));
    ck_assert(!is_limited(work, "2026-11-21T12:00:00Z"));
    ck_assert(!is_limited(weekend, "2026-11-20T23:59:59.999Z"));
    ck_assert(is_limited(weekend, "2026-11-21T00:00:00Z"));
    ck_assert(is_limited(weekend, "2026-11-22T23:59:59.999Z"));
    ck_assert(!is_limited(weekend, "2026-11-23T00:00:00Z"));
    ck_assert(is_limited(turn, "2026-11-22T10:00:00Z"));
    ck_assert(is_limited(turn, "2026-11-23T23:59:00Z"));
    ck_assert(!is_limited(turn, "2026-11-24T00:00:00Z"));
    ck_assert(is_limited(daily, "2026-11-19T12:30:00Z"));
    ck_assert(!is_limited(daily, "2026-11-19T13:00:00Z"));
}
END_TEST

START_TEST(a_night_belongs_to_the_day_on_which_it_begins)
{
    AUTO(limit) friday = one_window("fri 22:00-06:00");
    AUTO(limit) sunday = one_window("sun 22:00-06:00");
    AUTO(limit) midnight = one_window("fri 22:00-24:00");

    set_zone("UTC0");
    ck_assert(!is_limited(friday, "2026-11-20T05:00:00Z"));
    ck_assert(!is_limited(friday, "2026-11-20T21:59:59Z"));
    ck_assert(is_limited(friday, "2026-11-20T22:00:00Z"));
    ck_assert(is_limited(friday, "2026-11-21T00:00:00Z"));
    ck_assert(is_limited(friday, "2026-11-21T05:59:59Z"));
    ck_assert(!is_limited(friday, "2026-11-21T06:00:00Z"));
    ck_assert(!is_limited(friday, "2026-11-21T22:00:00Z"));
    ck_assert(is_limited(sunday, "2026-11-23T03:00:00Z"));
    ck_assert(!is_limited(sunday, "2026-11-22T03:00:00Z"));
    ck_assert(is_limited(midnight, "2026-11-20T23:59:59Z"));
    ck_assert(!is_limited(midnight, "2026-11-21T00:00:00Z"));
}
END_TEST

START_TEST(the_first_window_that_covers_an_instant_decides)
{
    AUTO(limit) limit = limit_new();
    g_autoptr(GError) error = NULL;
    const char *window;
    int64_t ms;

    set_zone("UTC0");
    unit_ok(limit_set(limit, "20MiB/s", &error), error);
    unit_ok(limit_add_window(limit, "sat", "none", &error), error);
    unit_ok(limit_add_window(limit, "08:00-18:00", "5MiB/s", &error), error);
    unit_ok(limit_add_window(limit, "mon", "1MiB/s", &error), error);
    unit_ok(time_parse("2026-11-21T12:00:00Z", &ms, &error), error);
    ck_assert_uint_eq(limit_rate(limit, ms, &window), 0);
    ck_assert_str_eq(window, "sat");
    unit_ok(time_parse("2026-11-23T12:00:00Z", &ms, &error), error);
    ck_assert_uint_eq(limit_rate(limit, ms, &window), 5 * MIB);
    ck_assert_str_eq(window, "08:00-18:00");
    unit_ok(time_parse("2026-11-24T19:00:00Z", &ms, &error), error);
    ck_assert_uint_eq(limit_rate(limit, ms, &window), 20 * MIB);
    ck_assert_ptr_null(window);
}
END_TEST

/* Central Europe 2026: 02:00 becomes 03:00 on 29 March, 03:00 becomes 02:00 on 25 October. */
START_TEST(windows_follow_the_clock_on_the_wall)
{
    AUTO(limit) work = one_window("08:00-18:00");
    AUTO(limit) gap = one_window("02:00-03:00");
    AUTO(limit) night = one_window("sat 22:00-06:00");

    set_zone("CET-1CEST,M3.5.0,M10.5.0/3");
    ck_assert(is_limited(work, "2026-03-28T07:00:00Z"));
    ck_assert(!is_limited(work, "2026-03-29T05:59:59Z"));
    ck_assert(is_limited(work, "2026-03-29T06:00:00Z"));
    ck_assert(is_limited(gap, "2026-03-28T01:30:00Z"));
    /* Skipped ... */
    ck_assert(!is_limited(gap, "2026-03-29T00:59:59Z"));
    ck_assert(!is_limited(gap, "2026-03-29T01:00:00Z"));
    /* ... and there twice. */
    ck_assert(is_limited(gap, "2026-10-25T00:30:00Z"));
    ck_assert(is_limited(gap, "2026-10-25T01:30:00Z"));
    ck_assert(!is_limited(gap, "2026-10-25T02:00:00Z"));
    ck_assert(is_limited(night, "2026-03-29T03:59:59Z"));
    ck_assert(!is_limited(night, "2026-03-29T04:00:00Z"));
    ck_assert(is_limited(night, "2026-10-25T04:59:59Z"));
    ck_assert(!is_limited(night, "2026-10-25T05:00:00Z"));
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "limit", rates_are_read_and_written, windows_that_make_no_sense_are_refused,
        windows_cover_their_days_and_hours, a_night_belongs_to_the_day_on_which_it_begins,
        the_first_window_that_covers_an_instant_decides, windows_follow_the_clock_on_the_wall);
}
