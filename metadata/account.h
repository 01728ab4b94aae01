/* SPDX-License-Identifier: Apache-2.0 */
/* What was achieved of the RPOs in a time, from the history of points (history.h): figures, violations, and a drawing. */
#pragma once

#include <glib.h>
#include <stdint.h>

#include "metadata/history.h"

/* HISTORY is of history_read() for FROM_MS to TO_MS. An array, one object for each VM and destination:
 *
 *     {vm, uuid, protection, destination, rpo_seconds | null, points, bytes, newest: time, age_seconds: at the end,
 *      worst_seconds, mean_seconds | null, kept_percent | null: of the time from the first point on,
 *      late: how many gaps were longer than the RPO, late_seconds: by how much together, within the time,
 *      violations: [{until: time, seconds}], gaps: [{until: time, seconds}]}
 *
 * A gap is how old the newest state had become just before the next point was there; the last one goes to the end of the time.
 * Where points were made one stretch, there is only the worst of theirs, but all count as late that were. */
json_t *account_rpo(const GPtrArray *history, int64_t from_ms, int64_t to_ms);
/* The gaps of one of these over the time, against its RPO: SVG; g_free. */
char *account_drawing(const json_t *vm, int64_t from_ms, int64_t to_ms);
