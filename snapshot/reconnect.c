/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A link that is lost while a point is on its way. The backup job goes on meanwhile, so the instant is
 * kept, and what has arrived is not sent again; only a point that gets nowhere for too long is given up.
 */
#include "snapshot/capture.h"

/* An attempt that sent less than this has not come further. */
#define PROGRESS_BYTES ((uint64_t)1 << 20)

/* What is sent is over: the store is connected anew without it. */
static uint64_t end_attempt(struct capture *capture)
{
    uint64_t sent = capture->incoming ? incoming_sent_bytes(capture->incoming) : 0;

    g_clear_pointer(&capture->incoming, incoming_free);
    capture->sent_bytes += sent;
    return sent;
}

static bool watch(void *context, GError **error)
{
    const struct capture *capture = context;

    return !capture->job || !capture->job->guard || job_watch(capture->job, error);
}

bool capture_reconnect(struct capture *capture, GError *why, GError **error)
{
    struct reconnect *line = &capture->line;

    /* A place that is held is met before anything is sent. */
    if (!error_is(why, ERROR_NETWORK) && capture->incoming) {
        g_propagate_error(error, why);
        return false;
    }
    line->store = capture->request->destination;
    line->subject = capture_vm(capture);
    line->watch = watch;
    line->context = capture;
    return reconnect_after(line, why, end_attempt(capture) > PROGRESS_BYTES, error);
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
    *known = capture_take_place(capture, error);
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
