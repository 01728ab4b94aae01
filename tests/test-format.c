/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include <math.h>
#include <time.h>

#include "common/common.h"

#define INSTANT INT64_C(1795212900123) /* 2026-11-20T22:15:00.123Z */

static void assert_text(char *made, const char *expected)
{
    ck_assert_str_eq(made, expected);
    g_free(made);
}

START_TEST(writes_times_in_utc_and_in_local_time)
{
    assert_text(time_format(INSTANT), "2026-11-20T22:15:00.123Z");
    assert_text(time_format(0), "1970-01-01T00:00:00.000Z");
    assert_text(time_format(-1), "1969-12-31T23:59:59.999Z");
    assert_text(time_format(INT64_MAX), "9999-12-31T23:59:59.999Z");
    assert_text(time_format(INT64_MIN), "0001-01-01T00:00:00.000Z");
    g_setenv("TZ", "EET-2", TRUE);
    tzset();
    assert_text(time_format_local(INSTANT), "2026-11-21 00:15:00");
}
END_TEST

START_TEST(reads_what_it_writes)
{
    g_autoptr(GError) error = NULL;

    for (int64_t ms = INSTANT; ms < INSTANT + 1000; ms++) {
        g_autofree char *time = time_format(ms), *id = point_id_format(ms);
        int64_t from_time = 0, from_id = 0;

        unit_ok(time_parse(time, &from_time, &error), error);
        ck_assert_int_eq(from_time, ms);
        ck_assert(point_id_parse(id, &from_id));
        ck_assert_int_eq(from_id, ms);
    }
}
END_TEST

START_TEST(reads_times_of_other_zones_but_none_without_zone)
{
    static const char *const bad[] = {"",
                                      "now",
                                      "2026-11-20",
                                      "2026-11-20T22:15:00",
                                      "2026-02-30T00:00:00Z",
                                      "2026-11-20T22:15:00Zx"};
    g_autoptr(GError) error = NULL;
    int64_t ms = 0;

    unit_ok(time_parse("2026-11-21T00:15:00.123+02:00", &ms, &error), error);
    ck_assert_int_eq(ms, INSTANT);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        unit_fails(time_parse(bad[i], &ms, &error), error, ERROR_CONFIG, "is not a time");
}
END_TEST

START_TEST(a_point_id_has_exactly_one_form)
{
    static const char *const bad[] = {
        "",
        "20261120T221500.123",
        "20261120T221500.123z",
        "20261120T221500.1234Z",
        "20261120T221500,123Z",
        "20261120 221500.123Z",
        "20260230T221500.123Z",
        "20261120T241500.123Z",
        "20261120T221560.123Z",
        "00001120T221500.123Z",
        "+0261120T221500.123Z",
        "../../../../../../..",
    };
    int64_t ms = 0;

    assert_text(point_id_format(INSTANT), "20261120T221500.123Z");
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        ck_assert_msg(!point_id_parse(bad[i], &ms), "'%s' is accepted", bad[i]);
}
END_TEST

START_TEST(writes_sizes_with_three_digits)
{
    assert_text(bytes_format(0), "0 B");
    assert_text(bytes_format(512), "512 B");
    assert_text(bytes_format(1023), "1023 B");
    assert_text(bytes_format(1024), "1 KiB");
    assert_text(bytes_format(1288490189), "1.2 GiB");
    assert_text(bytes_format(37 << 20), "37 MiB");
    assert_text(bytes_format((1 << 20) - 1), "1 MiB");
    assert_text(bytes_format(UINT64_MAX), "16 EiB");
}
END_TEST

START_TEST(writes_durations_with_two_units)
{
    assert_text(duration_format(0), "0.0 s");
    assert_text(duration_format(4.21), "4.2 s");
    assert_text(duration_format(59.96), "1 min");
    assert_text(duration_format(190), "3 min 10 s");
    assert_text(duration_format(3599.6), "1 h");
    assert_text(duration_format(7500), "2 h 5 min");
    assert_text(duration_format(273600), "3 d 4 h");
    assert_text(duration_format(-190), "-3 min 10 s");
    assert_text(duration_format(NAN), "unknown");
    assert_text(duration_format(INFINITY), "unknown");
}
END_TEST

START_TEST(reads_durations_with_units)
{
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"30", 30000},     {"30s", 30000},     {"500ms", 500},
                {"10min", 600000}, {"10m", 600000},    {"2h", 7200000},
                {"1d", 86400000},  {"10 min", 600000}, {"0", 0}};
    static const char *const bad[] = {"",
                                      "s",
                                      "-1s",
                                      "+1s",
                                      "1.5h",
                                      "10 minutes",
                                      "1s ",
                                      " 1s",
                                      "0x10",
                                      "99999999999999999999",
                                      "9223372036854775807d"};
    g_autoptr(GError) error = NULL;
    int64_t ms = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        unit_ok(duration_parse(good[i].text, &ms, &error), error);
        ck_assert_int_eq(ms, good[i].ms);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        unit_fails(duration_parse(bad[i], &ms, &error), error, ERROR_CONFIG, "is not a duration");
}
END_TEST

START_TEST(reads_sizes_with_binary_units)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"0", 0},
                {"65536", 65536},
                {"64KiB", 65536},
                {"20MiB", 20 << 20},
                {"3 GiB", UINT64_C(3) << 30},
                {"16383PiB", UINT64_C(16383) << 50},
                {"18446744073709551615", UINT64_MAX}};
    static const char *const bad[] = {"",   "MiB",    "20MB",     "20M",
                                      "-1", "1.5GiB", "16384PiB", "18446744073709551616"};
    g_autoptr(GError) error = NULL;
    uint64_t bytes = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        unit_ok(bytes_parse(good[i].text, &bytes, &error), error);
        ck_assert_uint_eq(bytes, good[i].bytes);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        unit_fails(bytes_parse(bad[i], &bytes, &error), error, ERROR_CONFIG, "is not a size");
}
END_TEST

int main(void)
{
    return UNIT_RUN("format", writes_times_in_utc_and_in_local_time, reads_what_it_writes,
                    reads_times_of_other_zones_but_none_without_zone,
                    a_point_id_has_exactly_one_form, writes_sizes_with_three_digits,
                    writes_durations_with_two_units, reads_durations_with_units,
                    reads_sizes_with_binary_units);
}
