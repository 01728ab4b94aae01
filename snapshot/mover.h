/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moving one disk of a running backup job into an image: read ‖ digest, compress ‖ write, with a ring
 * of chunks between, so that memory is bounded (2 MiB a chunk, plain and packed) and clusters reach
 * the composer in ascending order. A cluster that the baseline has already is dropped as soon as
 * its digest is known; of one that has arrived in an earlier transfer only its place is sent. Private to
 * snapshot/.
 */
#pragma once

#include "snapshot/arrived.h"
#include "snapshot/baseline.h"
#include "snapshot/composer.h"
#include "snapshot/reader.h"

#define MOVER_CHUNK_CLUSTERS 16 /* 1 MiB of plain data */
#define MOVER_CHUNKS 24

struct move {
    struct reader *reader;
    struct composer *composer;
    /* What is not in the image reads as this; NULL: nobody knows, so all that the reader calls
     * changed goes into the image. */
    struct baseline *baseline;
    /* Clusters that the base cannot give any more (of struct cluster_range): they go into the image
     * whether they have changed or not. NULL: none. */
    const GArray *lost;
    /* What the destination has from earlier transfers, or NULL. */
    struct arrived *arrived;
    int compression;
    const char *subject; /* "db/vda", for progress */
    struct progress *progress;
    /* Asked four times a second as long as data is on its way; false ends the move. May be NULL. */
    bool (*watch)(void *context, GError **error);
    void *watch_context;
};

/* Returns when every cluster that matters is in the composer. *READ_BYTES: what was read to find
 * them. */
bool mover_run(const struct move *move, uint64_t *read_bytes, GError **error);
