/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/period.h"

#include <string.h>

/* A day, a time, or how long ago; nothing was before 1970. A day is that of the clock on the wall here. */
static bool read_time(const char *option, const char *text, int64_t now_ms, int64_t *ms,
                      GError **error)
{
    g_autofree char *midnight = g_strconcat(text, "T00:00:00", NULL);
    g_autoptr(GTimeZone) local = g_time_zone_new_local();
    g_autoptr(GDateTime) day =
        strlen(text) == strlen("2026-11-01") ? g_date_time_new_from_iso8601(midnight, local) : NULL;
    int64_t ago_ms;

    if (day)
        *ms = g_date_time_to_unix(day) * 1000;
    else if (duration_parse(text, &ago_ms, NULL))
        *ms = now_ms - ago_ms;
    else if (!time_parse(text, ms, NULL))
        return fail(error, ERROR_USAGE,
                    "--%s: \"%s\" is no time: write 2026-11-01, 2026-11-01T06:00:00Z or 30d",
                    option, text);
    *ms = MAX(*ms, 0);
    return true;
}

bool period_read(const struct context *context, int64_t default_ms, struct period *period,
                 GError **error)
{
    const char *from = option_value(context, "from"), *to = option_value(context, "to");
    int64_t now_ms = time_now_ms();

    period->to_ms = now_ms;
    if (to && !read_time("to", to, now_ms, &period->to_ms, error))
        return false;
    period->from_ms = MAX(period->to_ms - default_ms, 0);
    if (from && !read_time("from", from, now_ms, &period->from_ms, error))
        return false;
    return period->from_ms < period->to_ms ||
           fail(error, ERROR_USAGE, "--from is not before --to: nothing lies between them");
}

bool period_has(const struct period *period, const json_t *object, const char *key)
{
    const char *time = json_get_string(object, key);
    int64_t ms;

    return time && time_parse(time, &ms, NULL) && ms >= period->from_ms && ms <= period->to_ms;
}
