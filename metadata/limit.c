/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "metadata/limit.h"
#include "metadata/weekdays.h"

#define DAY_MINUTES (24u * 60)
#define RATE_SUFFIX "/s"

struct window {
    char *text;
    unsigned days;       /* bit 0: Sunday, as tm_wday counts */
    unsigned begin, end; /* minutes of the day; END <= BEGIN: of the next day */
    uint64_t rate;
};

struct limit {
    uint64_t rate;
    GArray *windows; /* of struct window */
};

static void window_clear(void *data)
{
    g_free(((struct window *)data)->text);
}

struct limit *limit_new(void)
{
    struct limit *limit = g_new0(struct limit, 1);

    limit->windows = g_array_new(FALSE, FALSE, sizeof(struct window));
    g_array_set_clear_func(limit->windows, window_clear);
    return limit;
}

void limit_free(struct limit *limit)
{
    if (!limit)
        return;
    g_array_unref(limit->windows);
    g_free(limit);
}

/* --- Rates ---------------------------------------------------------------------------------- */

bool rate_parse(const char *text, uint64_t *rate, GError **error)
{
    g_autofree char *size = g_strdup(text);

    if (strcmp(text, "none") == 0) {
        *rate = 0;
        return true;
    }
    if (g_str_has_suffix(text, RATE_SUFFIX))
        size[strlen(size) - strlen(RATE_SUFFIX)] = '\0';
    if (!g_str_has_suffix(text, RATE_SUFFIX) || !bytes_parse(g_strchomp(size), rate, NULL))
        return fail(error, ERROR_CONFIG,
                    "'%s' is not a rate: write a number and KiB/s, MiB/s or GiB/s, such as "
                    "20MiB/s, or none",
                    text);
    if (*rate < LIMIT_MIN)
        return fail(error, ERROR_CONFIG, "'%s' is too little to work with: at least %u KiB/s", text,
                    (unsigned)(LIMIT_MIN >> 10));
    return true;
}

char *rate_format(uint64_t rate)
{
    g_autofree char *bytes = bytes_format(rate);

    return rate ? g_strconcat(bytes, RATE_SUFFIX, NULL) : g_strdup("none");
}

bool limit_set(struct limit *limit, const char *rate, GError **error)
{
    uint64_t parsed;

    if (!rate_parse(rate, &parsed, error))
        return false;
    limit->rate = parsed;
    return true;
}

/* --- Windows -------------------------------------------------------------------------------- */

static bool days_parse(const char *text, unsigned *days, GError **error)
{
    g_autofree char *wrong = NULL;

    return weekdays_parse(text, true, days, &wrong) ||
           fail(error, ERROR_CONFIG,
                "'%s' is neither a day (mon, tue, wed, thu, fri, sat, sun) nor a time such as "
                "08:00-18:00",
                wrong);
}

/* "HH:MM"; the day ends at 24:00. */
static bool minute_parse(const char *text, unsigned *minute)
{
    static const char pattern[] = "00:00";
    unsigned hours, minutes;

    for (size_t i = 0; i < sizeof(pattern); i++)
        if (pattern[i] == '0' ? !g_ascii_isdigit(text[i]) : text[i] != pattern[i])
            return false;
    if (sscanf(text, "%2u:%2u", &hours, &minutes) != 2 || minutes > 59)
        return false;
    *minute = hours * 60 + minutes;
    return *minute <= DAY_MINUTES;
}

static bool times_parse(const char *text, struct window *window, GError **error)
{
    g_auto(GStrv) ends = g_strsplit(text, "-", 2);

    if (!ends[0] || !ends[1] || !minute_parse(ends[0], &window->begin) ||
        !minute_parse(ends[1], &window->end) || window->begin == DAY_MINUTES)
        return fail(error, ERROR_CONFIG, "'%s' is not a time of the day such as 08:00-18:00", text);
    if (window->begin == window->end)
        return fail(error, ERROR_CONFIG,
                    "'%s' has no length: a whole day is 00:00-24:00, or no time at all", text);
    return true;
}

/* "[days] [times]", at least one of them. */
static bool window_parse(const char *text, struct window *window, GError **error)
{
    g_auto(GStrv) words = g_strsplit(text, " ", -1);
    bool has_days = !g_ascii_isdigit(text[0]);
    const char *times = words[0] ? words[has_days ? 1 : 0] : "";

    window->days = WEEKDAYS_ALL;
    window->begin = 0;
    window->end = DAY_MINUTES;
    if (has_days && !days_parse(words[0] ? words[0] : "", &window->days, error))
        return false;
    if (times && !times_parse(times, window, error))
        return false;
    if (times && words[has_days ? 2 : 1])
        return fail(error, ERROR_CONFIG,
                    "'%s' is not a window: write [days] [times], such as mon..fri 08:00-18:00",
                    text);
    return true;
}

bool limit_add_window(struct limit *limit, const char *text, const char *rate, GError **error)
{
    struct window window = {0};

    if (!window_parse(text, &window, error) || !rate_parse(rate, &window.rate, error))
        return false;
    window.text = g_strdup(text);
    g_array_append_val(limit->windows, window);
    return true;
}

static bool is_on(const struct window *window, unsigned day)
{
    return (window->days >> day % WEEKDAYS & 1) != 0;
}

static bool covers(const struct window *window, const struct tm *now)
{
    unsigned day = (unsigned)now->tm_wday;
    unsigned minute = (unsigned)(now->tm_hour * 60 + now->tm_min);

    if (window->begin < window->end)
        return is_on(window, day) && minute >= window->begin && minute < window->end;
    return (is_on(window, day) && minute >= window->begin) ||
           (is_on(window, day + WEEKDAYS - 1) && minute < window->end);
}

bool limit_is_any(const struct limit *limit)
{
    return limit->rate || limit->windows->len;
}

uint64_t limit_rate(const struct limit *limit, int64_t now_ms, const char **window)
{
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm now;

    if (window)
        *window = NULL;
    localtime_r(&seconds, &now);
    for (unsigned i = 0; i < limit->windows->len; i++) {
        const struct window *at = &g_array_index(limit->windows, struct window, i);

        if (!covers(at, &now))
            continue;
        if (window)
            *window = at->text;
        return at->rate;
    }
    return limit->rate;
}
