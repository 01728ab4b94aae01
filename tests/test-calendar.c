/* SPDX-License-Identifier: Apache-2.0 */
/* When a calendar comes next; systemd-analyze(1), where it is installed, is the oracle. */
#include <time.h>

#include "metadata/calendar.h"
#include "tests/unit.h"

static void set_zone(const char *zone)
{
    g_setenv("TZ", zone, TRUE);
    tzset();
}

static int64_t local_ms(const char *text)
{
    struct tm time = {.tm_isdst = -1};

    ck_assert_ptr_nonnull(strptime(text, "%Y-%m-%d %H:%M:%S", &time));
    return (int64_t)mktime(&time) * 1000;
}

static void assert_local(int64_t ms, const char *expected)
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm time;
    char text[64];

    localtime_r(&seconds, &time);
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &time);
    ck_assert_str_eq(text, expected);
}

static int64_t next_ms(const char *text, int64_t after_ms)
{
    g_autoptr(GError) error = NULL;
    AUTO(calendar) calendar = calendar_parse(text, &error);

    unit_ok(calendar != NULL, error);
    ck_assert_str_eq(calendar_text(calendar), text);
    return calendar_next(calendar, after_ms);
}

START_TEST(comes_next_after_a_time)
{
    static const struct {
        const char *text, *after, *next;
    } cases[] = {
        {"02:00", "2026-11-20 01:59:59", "2026-11-20 02:00:00"},
        {"02:00", "2026-11-20 02:00:00", "2026-11-21 02:00:00"},
        {"02:00:30", "2026-11-20 02:00:00", "2026-11-20 02:00:30"},
        {"mon..fri 22:30", "2026-11-20 22:30:00", "2026-11-23 22:30:00"},
        {"Sat,Sunday 03:00", "2026-11-20 22:30:00", "2026-11-21 03:00:00"},
        {"fri..mon 03:00", "2026-11-17 12:00:00", "2026-11-20 03:00:00"},
        {"sat *-*-1..7 03:00", "2026-11-20 22:30:00", "2026-12-05 03:00:00"},
        {"*-*-01 04:00:00", "2026-11-20 22:30:00", "2026-12-01 04:00:00"},
        {"02-29", "2026-11-20 22:30:00", "2028-02-29 00:00:00"},
        {"mon 02-29", "2026-11-20 22:30:00", "2044-02-29 00:00:00"},
        {"2030-1-1", "2026-11-20 22:30:00", "2030-01-01 00:00:00"},
        {"*:0/15", "2026-11-20 22:30:00", "2026-11-20 22:45:00"},
        {"*:05/20", "2026-11-20 22:46:00", "2026-11-20 23:05:00"},
        {"8..18/2:00", "2026-11-20 16:00:00", "2026-11-20 18:00:00"},
        {"8..18/2:00", "2026-11-20 18:00:00", "2026-11-21 08:00:00"},
        {"*:*:*/10", "2026-12-31 23:59:50", "2027-01-01 00:00:00"},
        {"tue", "2026-11-20 22:30:00", "2026-11-24 00:00:00"},
        {"minutely", "2026-11-20 22:30:05", "2026-11-20 22:31:00"},
        {"hourly", "2026-11-20 22:30:05", "2026-11-20 23:00:00"},
        {"daily", "2026-11-20 22:30:05", "2026-11-21 00:00:00"},
        {"Weekly", "2026-11-20 22:30:05", "2026-11-23 00:00:00"},
        {"monthly", "2026-11-20 22:30:05", "2026-12-01 00:00:00"},
        {"quarterly", "2026-11-20 22:30:05", "2027-01-01 00:00:00"},
        {"semiannually", "2026-06-30 22:30:05", "2026-07-01 00:00:00"},
        {"yearly", "2026-11-20 22:30:05", "2027-01-01 00:00:00"},
    };

    set_zone("UTC");
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++)
        assert_local(next_ms(cases[i].text, local_ms(cases[i].after)), cases[i].next);
}
END_TEST

START_TEST(what_is_over_never_comes_again)
{
    set_zone("UTC");
    ck_assert_int_eq(next_ms("2026-11-20", local_ms("2026-11-20 00:00:00")), INT64_MAX);
}
END_TEST

START_TEST(an_hour_that_is_skipped_makes_nothing_skipped)
{
    set_zone("Europe/Berlin");
    assert_local(next_ms("02:30", local_ms("2026-03-28 12:00:00")), "2026-03-29 03:30:00");
    assert_local(next_ms("02:30", local_ms("2026-03-29 03:30:00")), "2026-03-30 02:30:00");
}
END_TEST

START_TEST(in_an_hour_that_comes_twice_it_is_due_once)
{
    int64_t first, second;

    set_zone("Europe/Berlin");
    first = next_ms("02:30", local_ms("2026-10-24 12:00:00"));
    second = next_ms("02:30", first);
    assert_local(first, "2026-10-25 02:30:00");
    assert_local(second, "2026-10-26 02:30:00");
}
END_TEST

START_TEST(refuses_what_is_no_time)
{
    static const char *const texts[] = {
        "",           "  ",        "someday",
        "mon..",      "25:00",     "12:60",
        "12:00:60",   "13-01",     "11-32",
        "11-31..1",   "2026-11",   "1-1-1",
        "12",         "12:00 mon", "mon mon",
        "10..8:00",   "*:0/0",     "*:/5",
        "02:00 11-1", "12:0:0:0",  "mon 12:00 x",
        "1969-1-1",   "2200-1-1",  "-1-1",
        "+1-1",       "12:-5",     "monday..funday 3:00",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;

        unit_fails(calendar_parse(texts[i], &error), error, ERROR_CONFIG, "is no time to repeat");
    }
}
END_TEST

START_TEST(refuses_a_day_that_never_comes)
{
    g_autoptr(GError) error = NULL;

    unit_fails(calendar_parse("02-30", &error), error, ERROR_CONFIG, "'02-30' never comes");
}
END_TEST

/* What systemd says: the first elapse after BASE, as local time; g_free, NULL: it cannot be asked. */
static char *oracle(const char *text, const char *base)
{
    g_autofree char *option = g_strconcat("--base-time=", base, NULL);
    const char *const argv[] = {"systemd-analyze", "calendar", option, text, NULL};
    g_autofree char *output = NULL;
    char *found, *end;

    if (!process_run(argv, 60, &output, NULL))
        return NULL;
    found = strstr(output, "Next elapse: ");
    ck_assert_ptr_nonnull(found);
    /* "Next elapse: Fri 2026-11-20 02:00:00 UTC" */
    found = strchr(found + strlen("Next elapse: "), ' ') + 1;
    end = strchr(strchr(found, ' ') + 1, ' ');
    return g_strndup(found, (size_t)(end - found));
}

START_TEST(comes_when_systemd_says)
{
    static const char *const texts[] = {
        "mon..fri 02:00",    "*-*-1..7 12:34:56", "sun *-12-* 0..23/6:10", "*:3/7:9", "fri 11-13",
        "2027..2040/3-2-28", "23:59:59",          "*-*/4-15 06,18:00",
    };
    static const char *const bases[] = {"2026-11-20 22:15:00", "2027-02-28 00:00:00",
                                        "2028-12-31 23:59:59"};
    g_autofree char *program = g_find_program_in_path("systemd-analyze");
    unsigned asked = 0;

    set_zone("UTC");
    if (!program)
        return;
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++)
        for (unsigned k = 0; k < G_N_ELEMENTS(bases); k++) {
            g_autofree char *expected = oracle(texts[i], bases[k]);

            if (!expected)
                continue;
            assert_local(next_ms(texts[i], local_ms(bases[k])), expected);
            asked++;
        }
    ck_assert_uint_gt(asked, 0);
}
END_TEST

int main(void)
{
    return UNIT_RUN("calendar", comes_next_after_a_time, what_is_over_never_comes_again,
                    an_hour_that_is_skipped_makes_nothing_skipped,
                    in_an_hour_that_comes_twice_it_is_due_once, refuses_what_is_no_time,
                    refuses_a_day_that_never_comes, comes_when_systemd_says);
}
