/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata/reconnect.h"

#include <string.h>

#define DELAY_MAX_S 30u
#define POLL_MS 200

static bool wait_s(const struct reconnect *line, unsigned seconds, GError **error)
{
    int64_t until_ms = time_monotonic_ms() + seconds * 1000;

    while (time_monotonic_ms() < until_ms) {
        if (!interrupt_check(error) || (line->watch && !line->watch(line->context, error)))
            return false;
        g_usleep(POLL_MS * 1000);
    }
    return true;
}

static bool may_pass(const struct reconnect *line, const GError *why)
{
    return error_is(why, ERROR_NETWORK) || (error_is(why, ERROR_CONFLICT) && line->lost_ms != 0);
}

static void note(const struct reconnect *line, const GError *why, unsigned delay_s)
{
    /* What follows is the way out for who gives up. */
    int len = (int)strcspn(why->message, ";");

    progress_note(line->store->progress, "%s%s%.*s; trying again in %u s",
                  line->subject ? line->subject : "", line->subject ? ": " : "", len, why->message,
                  delay_s);
}

bool reconnect_after(struct reconnect *line, GError *why, bool came_further, GError **error)
{
    int64_t retry_ms = line->store->retry_ms;
    bool can_wait = may_pass(line, why) && retry_ms > 0;

    if (can_wait && (line->lost_ms == 0 || came_further))
        line->lost_ms = time_monotonic_ms();
    for (unsigned delay_s = 1; can_wait; delay_s = MIN(2 * delay_s, DELAY_MAX_S)) {
        if (time_monotonic_ms() >= line->lost_ms + retry_ms)
            break;
        note(line, why, delay_s);
        g_clear_error(&why);
        if (!wait_s(line, delay_s, error))
            return false;
        if (store_reconnect(line->store, &why))
            return true;
        can_wait = may_pass(line, why);
    }
    g_propagate_error(error, why);
    return false;
}
