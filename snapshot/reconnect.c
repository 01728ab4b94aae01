/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A link that is lost while a point is on its way. The backup job goes on meanwhile, so the instant is
 * kept, and what has arrived is not sent again; only a point that gets nowhere for too long is given up.
 */
#include <string.h>

#include "snapshot/capture.h"

#define DELAY_MAX_S 30u
#define POLL_MS 200
/* An attempt that sent less than this has not come further. */
#define PROGRESS_BYTES ((uint64_t)1 << 20)

/* What is sent is over: the store is connected anew without it. */
static void end_attempt(struct capture *capture)
{
    uint64_t sent = capture->incoming ? incoming_sent_bytes(capture->incoming) : 0;

    g_clear_pointer(&capture->incoming, incoming_free);
    capture->sent_bytes += sent;
    if (capture->lost_ms == 0 || sent > PROGRESS_BYTES)
        capture->lost_ms = time_monotonic_ms();
}

static bool wait_s(struct capture *capture, unsigned seconds, GError **error)
{
    int64_t until_ms = time_monotonic_ms() + seconds * 1000;

    while (time_monotonic_ms() < until_ms) {
        if (!interrupt_check(error) ||
            (capture->job && capture->job->guard && !job_watch(capture->job, error)))
            return false;
        g_usleep(POLL_MS * 1000);
    }
    return true;
}

/* The place may still be held for the connection that was lost. */
static bool may_pass(const struct capture *capture, const GError *why)
{
    return error_is(why, ERROR_NETWORK) ||
           (error_is(why, ERROR_CONFLICT) && !capture->incoming && capture->lost_ms != 0);
}

bool capture_reconnect(struct capture *capture, GError *why, GError **error)
{
    const struct point_request *request = capture->request;
    bool can_wait = may_pass(capture, why) && request->retry_ms > 0;

    if (can_wait)
        end_attempt(capture);
    for (unsigned delay_s = 1; can_wait; delay_s = MIN(2 * delay_s, DELAY_MAX_S)) {
        if (time_monotonic_ms() >= capture->lost_ms + request->retry_ms)
            break;
        /* What follows is the way out for who gives up. */
        progress_note(request->progress, "%s: %.*s; trying again in %u s", capture_vm(capture),
                      (int)strcspn(why->message, ";"), why->message, delay_s);
        g_clear_error(&why);
        if (!wait_s(capture, delay_s, error))
            return false;
        if (store_reconnect(request->destination, &why))
            return true;
        can_wait = may_pass(capture, why);
    }
    g_propagate_error(error, why);
    return false;
}

static bool is_listed(const GPtrArray *points, const char *point)
{
    for (unsigned i = 0; i < points->len; i++)
        if (g_str_equal(((const struct manifest *)points->pdata[i])->point, point))
            return true;
    return false;
}

/* Ask once; *KNOWN when there is an answer: a point that is not listed may still be on its way to be
 * committed, as long as the place is held. */
static bool ask(struct capture *capture, bool *known, bool *exists, GError **error)
{
    const struct point_request *request = capture->request;
    const char *uuid = domain_uuid(request->domain);
    g_autoptr(GPtrArray) points = store_points(request->destination, uuid, error);

    if (!points)
        return false;
    *exists = *known = is_listed(points, capture->manifest->point);
    if (*known)
        return true;
    capture->incoming = store_begin(request->destination, uuid, capture->manifest->point, error);
    *known = capture->incoming != NULL;
    return *known;
}

bool capture_was_committed(struct capture *capture, GError *why, GError **error)
{
    g_autoptr(GError) lost = g_error_copy(why);
    bool known = false, exists = false;

    while (!known) {
        if (!capture_reconnect(capture, why, error))
            return false;
        why = NULL;
        ask(capture, &known, &exists, &why);
    }
    if (!exists)
        g_propagate_error(error, g_steal_pointer(&lost));
    return exists;
}
