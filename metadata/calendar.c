/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <time.h>

#include "metadata/calendar.h"
#include "metadata/weekdays.h"

#define YEAR_MIN 1970u
#define YEAR_MAX 2199u
#define VALUES_MAX (YEAR_MAX - YEAR_MIN + 1)
/* 29 February may be eight years away, and on a given weekday forty. */
#define DAYS_AHEAD (41u * 366)

enum field { YEAR, MONTH, DAY, HOUR, MINUTE, SECOND, FIELDS };

static const struct {
    unsigned min, max;
} limits[FIELDS] = {
    [YEAR] = {YEAR_MIN, YEAR_MAX},
    [MONTH] = {1, 12},
    [DAY] = {1, 31},
    [HOUR] = {0, 23},
    [MINUTE] = {0, 59},
    [SECOND] = {0, 59},
};

struct calendar {
    char *text;
    unsigned weekdays;
    /* Is the value that is so far above the least one in it? */
    bool has[FIELDS][VALUES_MAX];
};

/* --- parsing --------------------------------------------------------------------------------- */

static const struct {
    const char *word, *means;
} words[] = {
    {"minutely", "*:*"},
    {"hourly", "*:00"},
    {"daily", "00:00"},
    {"weekly", "mon 00:00"},
    {"monthly", "*-*-01 00:00"},
    {"quarterly", "*-01,04,07,10-01 00:00"},
    {"semiannually", "*-01,07-01 00:00"},
    {"yearly", "*-01-01 00:00"},
    {"annually", "*-01-01 00:00"},
};

static bool number_parse(const char *text, enum field field, unsigned *number)
{
    uint64_t value;

    if (strlen(text) > 4 ||
        !g_ascii_string_to_unsigned(text, 10, limits[field].min, limits[field].max, &value, NULL))
        return false;
    *number = (unsigned)value;
    return true;
}

/* What stands before a '/': "*", "7" or "1..7". Behind a single number it goes on to the end. */
static bool range_parse(const char *text, enum field field, bool repeats, unsigned *first,
                        unsigned *last)
{
    g_auto(GStrv) ends = g_strsplit(text, "..", 2);

    *first = limits[field].min;
    *last = limits[field].max;
    if (strcmp(text, "*") == 0)
        return true;
    if (!ends[0] || !number_parse(ends[0], field, first))
        return false;
    if (ends[1])
        return number_parse(ends[1], field, last) && *first <= *last;
    if (!repeats)
        *last = *first;
    return true;
}

/* "RANGE" or "RANGE/STEP". */
static bool values_parse(struct calendar *calendar, const char *text, enum field field)
{
    g_auto(GStrv) parts = g_strsplit(text, "/", 2);
    unsigned first, last;
    uint64_t step = 1;

    if (!parts[0] || !range_parse(parts[0], field, parts[1] != NULL, &first, &last) ||
        (parts[1] && !g_ascii_string_to_unsigned(parts[1], 10, 1, VALUES_MAX, &step, NULL)))
        return false;
    for (unsigned value = first; value <= last; value += (unsigned)step)
        calendar->has[field][value - limits[field].min] = true;
    return true;
}

static bool field_parse(struct calendar *calendar, const char *text, enum field field)
{
    g_auto(GStrv) list = g_strsplit(text, ",", -1);

    for (char **values = list; *values; values++)
        if (!values_parse(calendar, *values, field))
            return false;
    return *list != NULL;
}

/* The COUNT parts of WORD between SEPARATOR are the fields from FIRST. */
static bool fields_parse(struct calendar *calendar, const char *word, const char *separator,
                         enum field first, unsigned count)
{
    g_auto(GStrv) parts = g_strsplit(word, separator, -1);

    if (g_strv_length(parts) != count)
        return false;
    for (unsigned i = 0; i < count; i++)
        if (!field_parse(calendar, parts[i], first + i))
            return false;
    return true;
}

static bool date_parse(struct calendar *calendar, const char *word)
{
    g_autofree char *with_year = g_strconcat("*-", word, NULL);
    bool has_year = strchr(word, '-') != strrchr(word, '-');

    return fields_parse(calendar, has_year ? word : with_year, "-", YEAR, 3);
}

static bool time_parse_of_day(struct calendar *calendar, const char *word)
{
    g_autofree char *with_seconds = g_strconcat(word, ":00", NULL);
    bool has_seconds = strchr(word, ':') != strrchr(word, ':');

    return fields_parse(calendar, has_seconds ? word : with_seconds, ":", HOUR, 3);
}

/* One word is what its form says; each kind once, in this order. */
static bool parse_all(struct calendar *calendar, const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, " ", -1);
    char **word = parts;
    bool good = true;

    calendar->weekdays = WEEKDAYS_ALL;
    if (*word && g_ascii_isalpha(**word))
        good = weekdays_parse(*word++, false, &calendar->weekdays, NULL);
    if (good && *word && strchr(*word, '-'))
        good = date_parse(calendar, *word++);
    else
        good = good && date_parse(calendar, "*-*");
    if (good && *word && strchr(*word, ':'))
        good = time_parse_of_day(calendar, *word++);
    else
        good = good && time_parse_of_day(calendar, "0:0");
    return good && word > parts && !*word;
}

static const char *meaning(const char *text)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++)
        if (g_ascii_strcasecmp(text, words[i].word) == 0)
            return words[i].means;
    return text;
}

static bool has(const struct calendar *calendar, enum field field, int value)
{
    return value >= (int)limits[field].min && value <= (int)limits[field].max &&
           calendar->has[field][value - (int)limits[field].min];
}

/* Is there any such day, in the past or to come? */
static bool comes(const struct calendar *calendar)
{
    struct tm first = {.tm_mday = 1, .tm_isdst = -1};

    for (first.tm_year = (int)YEAR_MIN - 1900; first.tm_year < (int)YEAR_MAX - 1900;
         first.tm_year++)
        if (has(calendar, YEAR, first.tm_year + 1900))
            break;
    return calendar_next(calendar, (int64_t)mktime(&first) * 1000 - 1) != INT64_MAX;
}

struct calendar *calendar_parse(const char *text, GError **error)
{
    AUTO(calendar) calendar = g_new0(struct calendar, 1);

    calendar->text = g_strdup(text);
    if (!parse_all(calendar, meaning(text)))
        fail(error, ERROR_CONFIG,
             "'%s' is no time to repeat: write [days] [[year-]month-day] [hour:minute], such as "
             "02:00, mon..fri 22:30, *-*-01 04:00 or daily",
             text);
    else if (!comes(calendar))
        fail(error, ERROR_CONFIG, "'%s' never comes", text);
    else
        return g_steal_pointer(&calendar);
    return NULL;
}

void calendar_free(struct calendar *calendar)
{
    if (!calendar)
        return;
    g_free(calendar->text);
    g_free(calendar);
}

const char *calendar_text(const struct calendar *calendar)
{
    return calendar->text;
}

/* --- the next time --------------------------------------------------------------------------- */

static bool has_day(const struct calendar *calendar, const struct tm *day)
{
    return has(calendar, YEAR, day->tm_year + 1900) && has(calendar, MONTH, day->tm_mon + 1) &&
           has(calendar, DAY, day->tm_mday) && (calendar->weekdays >> day->tm_wday & 1);
}

/* Move TIME forward within its day to the first second that is meant; false: there is none. */
static bool find_second(const struct calendar *calendar, struct tm *time)
{
    for (; time->tm_hour < 24; time->tm_hour++, time->tm_min = 0, time->tm_sec = 0) {
        if (!has(calendar, HOUR, time->tm_hour))
            continue;
        for (; time->tm_min < 60; time->tm_min++, time->tm_sec = 0) {
            if (!has(calendar, MINUTE, time->tm_min))
                continue;
            for (; time->tm_sec < 60; time->tm_sec++)
                if (has(calendar, SECOND, time->tm_sec))
                    return true;
        }
    }
    return false;
}

/* By the local clock, whatever that is on that day. */
static int64_t instant(struct tm time)
{
    time.tm_isdst = -1;
    return (int64_t)mktime(&time) * 1000;
}

/* The first one on the day of TIME, not before it and later than AFTER_MS; 0: there is none. */
static int64_t find_on_day(const struct calendar *calendar, struct tm time, int64_t after_ms)
{
    while (find_second(calendar, &time)) {
        int64_t ms = instant(time);

        /* In the hour that a clock repeats, what was due the first time is not due again. */
        if (ms > after_ms)
            return ms;
        time.tm_sec++;
    }
    return 0;
}

int64_t calendar_next(const struct calendar *calendar, int64_t after_ms)
{
    time_t from = (time_t)(after_ms / 1000);
    struct tm day;

    localtime_r(&from, &day);
    for (unsigned i = 0; i < DAYS_AHEAD; i++) {
        int64_t ms = has_day(calendar, &day) ? find_on_day(calendar, day, after_ms) : 0;

        if (ms)
            return ms;
        /* Noon exists on every day, and mktime() says which one it is. */
        day.tm_mday++;
        day.tm_hour = 12;
        day.tm_min = day.tm_sec = 0;
        day.tm_isdst = -1;
        mktime(&day);
        day.tm_hour = 0;
    }
    return INT64_MAX;
}
