/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lane: a thread that works on pieces of files in the order they are put, while its owner fetches
 * the next ones. There are LANE_PIECES of them, so an owner that is faster waits. The first error
 * is kept and the pieces after it are not worked on. Buffers are aligned for direct I/O.
 */
#pragma once

#include "replicator/replicator.h"

#define LANE_PIECES 8
#define LANE_ALIGN 4096u

struct piece {
    uint8_t *data; /* STORE_WRITE_MAX bytes */
    size_t len;
    uint64_t offset;
    void *target; /* what it belongs to */
};

struct lane;

/* Runs in the thread of the lane. */
typedef bool lane_fn(struct piece *piece, GError **error);

struct lane *lane_new(lane_fn *work);
/* Ends the thread after what has been put. */
void lane_free(struct lane *lane);
DEFINE_CLEANUP(lane)
/* A piece to fill; waits for one. */
struct piece *lane_take(struct lane *lane);
/* Hand PIECE to the thread. */
void lane_put(struct lane *lane, struct piece *piece);
/* Has everything gone well so far? */
bool lane_check(struct lane *lane, GError **error);
/* Wait until all that was put is done; did it go well? The lane can be used on. */
bool lane_wait(struct lane *lane, GError **error);
