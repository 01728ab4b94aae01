/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much VMs change, and how fast the store fills: whether that is more than ever before, and how long there is room.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "metadata/catalog.h"

/*
 * The habits of a VM are kept with the last result of each of its destinations:
 *
 *     {"since", "last": ms, "bytes", "hours", "busiest": [[day, bytes in an hour]..],
 *      "unusual": {"at": ms, "bytes", "busiest"} | null}
 *
 * BYTES have changed from SINCE to LAST, an hour or the time between two points: so one that comes late is not taken for a
 * busy one. BUSIEST has the busiest hour of each day of the last 30, HOURS is how many went into it. UNUSUAL is the last
 * point that was; bytes are those of an hour.
 */

/* What follows PACE (NULL: nothing is known) by a point of TO_MS in which CHANGED_BYTES are different from the point before;
 * FULL: nobody knows how many. json_decref. */
json_t *pace_next(const json_t *pace, int64_t to_ms, uint64_t changed_bytes, bool full);
/* Bytes that change in an hour, by the newest points; negative: not known. */
double pace_bytes(const json_t *pace);
/* Did the VM within the last day change several times as much as it ever did? Somebody may be encrypting its files. *UNUSUAL is
 * borrowed from PACE. */
bool pace_is_unusual(const json_t *pace, int64_t now_ms, const json_t **unusual);

/* Keep how full the store is, once an hour. */
bool space_note(struct catalog *catalog, uint64_t free_bytes, uint64_t total_bytes, int64_t now_ms,
                GError **error);
/* *DAYS until FREE_BYTES are used up, if it goes on as in the last week; negative: it does not become fuller, or is not known for
 * half a day yet. */
bool space_days_left(struct catalog *catalog, uint64_t free_bytes, int64_t now_ms, double *days,
                     GError **error);
