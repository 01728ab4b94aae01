/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much VMs change, and how fast the store fills: whether that is more than ever before, and how long there is room.
 */
#pragma once

#include "metadata/history.h"

/* What goes into this is no older. */
#define PACE_MS (INT64_C(30) * 24 * 3600 * 1000)

/* Of one VM and destination. What a single point has changed is spread over the time since the point before, an hour at
 * least, so that a point that comes late is not taken for a busy one. */
struct pace {
    bool known;   /* is there a point that was not full? */
    double bytes; /* changed in an hour, by the points of the last hour before the newest one */
    double busiest_bytes; /* in the busiest hour before these */
    unsigned hours;       /* with points, from which that is told */
};

/* Of the COUNT stretches from STRETCHES on, which are of one VM and destination, oldest first, as history_read() has them. */
void pace_of(struct stretch *const *stretches, unsigned count, struct pace *pace);
/* Does the VM change several times as much as it ever did? Somebody may be encrypting its files. */
bool pace_is_unusual(const struct pace *pace);

/* Keep how full the store is, once an hour. */
bool space_note(struct catalog *catalog, uint64_t free_bytes, uint64_t total_bytes, int64_t now_ms,
                GError **error);
/* *DAYS until FREE_BYTES are used up, if it goes on as in the last week; negative: it does not become fuller, or is not known for
 * half a day yet. */
bool space_days_left(struct catalog *catalog, uint64_t free_bytes, int64_t now_ms, double *days,
                     GError **error);
