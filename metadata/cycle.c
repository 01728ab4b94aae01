/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata/cycle.h"

#include <glib.h>

/* Bytes to be read per millisecond from now on, so that no deadline is missed that is not missed
 * already. */
static double pace(const struct cycle_item *items, unsigned count, int64_t now_ms, int64_t cycle_ms)
{
    double fastest = 0, bytes = 0;

    for (unsigned i = 0; i < count; i++) {
        int64_t left_ms = items[i].verified_ms + cycle_ms - now_ms;

        bytes += (double)items[i].bytes;
        if (left_ms > 0)
            fastest = MAX(fastest, bytes / (double)left_ms);
    }
    return fastest;
}

unsigned cycle_due(const struct cycle_item *items, unsigned count, int64_t now_ms, int64_t cycle_ms,
                   int64_t interval_ms)
{
    double wanted = pace(items, count, now_ms, cycle_ms) * (double)interval_ms, bytes = 0;
    unsigned due = 0;

    while (due < count && (bytes < wanted || items[due].verified_ms + cycle_ms <= now_ms))
        bytes += (double)items[due++].bytes;
    return due;
}
