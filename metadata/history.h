/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the points of a VM achieved, kept when the points are long gone: evidence for its RPO. Each point that was
 * committed adds a stretch of one point, in the catalog of the site that has taken it:
 *
 *     {"vm", "protection", "rpo_ms", "from", "from_committed", "to", "to_committed": ms,
 *      "points", "worst_ms", "sum_ms", "late", "late_ms", "bytes", "seconds"}
 *
 * A point that shows T and is committed at C is what a failover has until the next one is committed. Just before
 * that the newest state is C(next) - T old: this is the gap between the two, and the worst gap is the RPO
 * that was achieved. A stretch knows its first and its last point, and of the gaps between its points the worst, the sum, and how many
 * were longer than the RPO and by how much, so that two that follow each other make one and nothing of that is lost. Once a day those of more than a day are made one an
 * hour, those of more than 30 days one a day, and those of more than 400 days are dropped: an RPO of seconds
 * does not fill the catalog.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "metadata/catalog.h"

#define HISTORY_KEEP_MS (INT64_C(400) * 24 * 3600 * 1000)

struct stretch {
    char *vm_uuid, *destination;
    char *vm, *protection;              /* as they were called */
    int64_t rpo_ms;                     /* that was wanted; 0: none */
    int64_t from_ms, from_committed_ms; /* the first point */
    int64_t to_ms, to_committed_ms;     /* the last one */
    uint64_t points;
    int64_t worst_ms, sum_ms; /* of the gaps between its points */
    uint64_t late; /* how many of these are longer than the RPO, and by how much together */
    int64_t late_ms;
    uint64_t bytes; /* that were sent or written */
    double seconds; /* that the points took, together */
};
void stretch_free(struct stretch *stretch);
DEFINE_CLEANUP(stretch)

/* Keep POINT, a stretch of one; its gaps are 0. WITH (may be NULL) is put by the same commit. Once a day it makes the
 * history smaller. */
bool history_add(struct catalog *catalog, const struct stretch *point,
                 const struct catalog_entry *with, GError **error);
/* The same making smaller, as if it were NOW_MS. */
bool history_condense(struct catalog *catalog, int64_t now_ms, GError **error);
/* All stretches that touch FROM_MS to TO_MS, and of each VM and destination the last one before; those of one VM and
 * destination one after the other, oldest first. Of struct stretch. */
GPtrArray *history_read(struct catalog *catalog, int64_t from_ms, int64_t to_ms, GError **error);

/* Of the same VM, to the same destination? */
bool stretch_is_of(const struct stretch *stretch, const struct stretch *other);
/* From the last point of STRETCH to the first one of NEXT, and by how much that is more than the RPO that was wanted then. */
int64_t stretch_gap_ms(const struct stretch *stretch, const struct stretch *next);
int64_t stretch_late_ms(const struct stretch *stretch, int64_t gap_ms);
