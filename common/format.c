/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "common/error.h"
#include "common/format.h"

/* The years 1 to 9999, all that RFC 3339 can say. */
#define TIME_MIN_MS INT64_C(-62135596800000)
#define TIME_MAX_MS INT64_C(253402300799999)

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit durations[] = {
    {"ms", 1},        {"", 1000},         {"s", 1000},         {"min", 60 * 1000},
    {"m", 60 * 1000}, {"h", 3600 * 1000}, {"d", 86400 * 1000}, {NULL, 0},
};

static const struct unit sizes[] = {
    {"", 1},
    {"B", 1},
    {"KiB", UINT64_C(1) << 10},
    {"MiB", UINT64_C(1) << 20},
    {"GiB", UINT64_C(1) << 30},
    {"TiB", UINT64_C(1) << 40},
    {"PiB", UINT64_C(1) << 50},
    {NULL, 0},
};

int64_t time_now_ms(void)
{
    return g_get_real_time() / 1000;
}

int64_t time_monotonic_ms(void)
{
    return g_get_monotonic_time() / 1000;
}

/* Rounds down, also before 1970, so that the milliseconds are never negative. */
static void split(int64_t ms, time_t *seconds, int *millis)
{
    ms = CLAMP(ms, TIME_MIN_MS, TIME_MAX_MS);
    *millis = (int)(((ms % 1000) + 1000) % 1000);
    *seconds = (time_t)((ms - *millis) / 1000);
}

char *time_format(int64_t ms)
{
    time_t seconds;
    struct tm tm;
    int millis;

    split(ms, &seconds, &millis);
    gmtime_r(&seconds, &tm);
    return g_strdup_printf("%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1,
                           tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, millis);
}

char *time_format_local(int64_t ms)
{
    time_t seconds;
    struct tm tm;
    int millis;

    split(ms, &seconds, &millis);
    localtime_r(&seconds, &tm);
    return g_strdup_printf("%04d-%02d-%02d %02d:%02d:%02d", tm.tm_year + 1900, tm.tm_mon + 1,
                           tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

bool time_parse(const char *text, int64_t *ms, GError **error)
{
    /* No default zone: a time without one means different instants at two sites. */
    g_autoptr(GDateTime) time = g_date_time_new_from_iso8601(text, NULL);

    if (!time)
        return fail(error, ERROR_CONFIG,
                    "'%s' is not a time: write it with its zone, such as 2026-11-20T22:15:00Z",
                    text);
    /* GLib parses the fraction as a binary one: .123 may come out as .122999. */
    *ms = g_date_time_to_unix(time) * 1000 + (g_date_time_get_microsecond(time) + 500) / 1000;
    return true;
}

char *point_id_format(int64_t ms)
{
    time_t seconds;
    struct tm tm;
    int millis;

    split(ms, &seconds, &millis);
    gmtime_r(&seconds, &tm);
    return g_strdup_printf("%04d%02d%02dT%02d%02d%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1,
                           tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, millis);
}

static int number(const char *digits, int count)
{
    int value = 0;

    while (count-- > 0)
        value = 10 * value + (*digits++ - '0');
    return value;
}

bool point_id_parse(const char *text, int64_t *ms)
{
    static const char pattern[] = "00000000T000000.000Z";
    g_autoptr(GDateTime) time = NULL;

    if (strlen(text) != sizeof(pattern) - 1)
        return false;
    for (size_t i = 0; pattern[i]; i++)
        if (pattern[i] == '0' ? !g_ascii_isdigit(text[i]) : text[i] != pattern[i])
            return false;
    time = g_date_time_new_utc(number(text, 4), number(text + 4, 2), number(text + 6, 2),
                               number(text + 9, 2), number(text + 11, 2), number(text + 13, 2));
    if (!time)
        return false;
    *ms = g_date_time_to_unix(time) * 1000 + number(text + 16, 3);
    return true;
}

char *bytes_format(uint64_t bytes)
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    char digits[G_ASCII_DTOSTR_BUF_SIZE];
    double value = (double)bytes;
    unsigned unit = 0;

    while (value >= 1023.5 && unit + 1 < G_N_ELEMENTS(names)) {
        value /= 1024;
        unit++;
    }
    g_ascii_formatd(digits, sizeof(digits), value < 999.5 ? "%.3g" : "%.4g", value);
    return g_strdup_printf("%s %s", digits, names[unit]);
}

static char *two_units(int64_t major, const char *major_name, int64_t minor, const char *minor_name)
{
    if (!minor)
        return g_strdup_printf("%" PRId64 " %s", major, major_name);
    return g_strdup_printf("%" PRId64 " %s %" PRId64 " %s", major, major_name, minor, minor_name);
}

char *duration_format(double seconds)
{
    char digits[G_ASCII_DTOSTR_BUF_SIZE];
    int64_t whole;

    if (!isfinite(seconds))
        return g_strdup("unknown");
    if (seconds < 0) {
        g_autofree char *positive = duration_format(-seconds);

        return g_strconcat("-", positive, NULL);
    }
    if (seconds < 59.95) {
        g_ascii_formatd(digits, sizeof(digits), "%.1f", seconds);
        return g_strdup_printf("%s s", digits);
    }
    whole = (int64_t)(MIN(seconds, 1e15) + 0.5);
    if (whole < 3600)
        return two_units(whole / 60, "min", whole % 60, "s");
    whole /= 60;
    if (whole < 24 * 60)
        return two_units(whole / 60, "h", whole % 60, "min");
    whole /= 60;
    return two_units(whole / 24, "d", whole % 24, "h");
}

/* Digits, perhaps a space, one of UNITS. */
static bool scaled_parse(const char *text, const struct unit *units, uint64_t max, uint64_t *value)
{
    char *end = NULL;
    guint64 digits = 0;

    if (!g_ascii_isdigit(text[0]))
        return false;
    errno = 0;
    digits = g_ascii_strtoull(text, &end, 10);
    if (errno)
        return false;
    while (*end == ' ')
        end++;
    for (; units->name; units++) {
        if (strcmp(units->name, end) != 0)
            continue;
        if (digits > max / units->factor)
            return false;
        *value = digits * units->factor;
        return true;
    }
    return false;
}

bool duration_parse(const char *text, int64_t *ms, GError **error)
{
    uint64_t value;

    if (!scaled_parse(text, durations, INT64_MAX, &value))
        return fail(error, ERROR_CONFIG,
                    "'%s' is not a duration: write a number and ms, s, min, h or d, such as 10min",
                    text);
    *ms = (int64_t)value;
    return true;
}

bool bytes_parse(const char *text, uint64_t *bytes, GError **error)
{
    if (!scaled_parse(text, sizes, UINT64_MAX, bytes))
        return fail(error, ERROR_CONFIG,
                    "'%s' is not a size: write bytes or a number and KiB, MiB, GiB or TiB, such as "
                    "20MiB",
                    text);
    return true;
}

char *text_harmless(const char *text, size_t max)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GString *out = g_string_new(NULL);

    for (const char *at = valid; *at && out->len < max; at = g_utf8_next_char(at)) {
        gunichar c = g_utf8_get_char(at);

        g_string_append_unichar(out, g_unichar_isprint(c) ? c : g_unichar_isspace(c) ? ' ' : '?');
    }
    return g_string_free(out, FALSE);
}
