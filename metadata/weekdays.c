/* SPDX-License-Identifier: Apache-2.0 */
#include <glib.h>
#include <string.h>

#include "metadata/weekdays.h"

static const char *const names[WEEKDAYS] = {"sunday",   "monday", "tuesday", "wednesday",
                                            "thursday", "friday", "saturday"};

static bool day_parse(const char *text, bool exact, unsigned *day)
{
    for (*day = 0; *day < WEEKDAYS; (*day)++)
        if (exact ? strlen(text) == 3 && strncmp(text, names[*day], 3) == 0
                  : g_ascii_strcasecmp(text, names[*day]) == 0 ||
                        (strlen(text) == 3 && g_ascii_strncasecmp(text, names[*day], 3) == 0))
            return true;
    return false;
}

/* "mon" or "mon..fri", also over the end of the week. */
static bool range_parse(const char *text, bool exact, unsigned *days, char **wrong)
{
    g_auto(GStrv) ends = g_strsplit(text, "..", 2);
    const char *begin = ends[0] ? ends[0] : "", *end = ends[0] && ends[1] ? ends[1] : begin;
    unsigned first, last;

    if (!day_parse(begin, exact, &first) || !day_parse(end, exact, &last)) {
        if (wrong)
            *wrong = g_strdup(day_parse(begin, exact, &first) ? end : begin);
        return false;
    }
    for (unsigned day = first;; day = (day + 1) % WEEKDAYS) {
        *days |= 1u << day;
        if (day == last)
            return true;
    }
}

bool weekdays_parse(const char *text, bool exact, unsigned *days, char **wrong)
{
    g_auto(GStrv) ranges = g_strsplit(text, ",", -1);

    *days = 0;
    for (char **range = ranges; *range; range++)
        if (!range_parse(*range, exact, days, wrong))
            return false;
    if (*days == 0 && wrong)
        *wrong = g_strdup(text);
    return *days != 0;
}
