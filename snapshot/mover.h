/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moving one disk of a running backup job into an image: read ‖ compress ‖ write, with a ring of
 * chunks between, so that memory is bounded (2 MiB a chunk, plain and packed) and clusters reach
 * the composer in ascending order. Private to snapshot/.
 */
#pragma once

#include "snapshot/composer.h"
#include "snapshot/reader.h"

#define MOVER_CHUNK_CLUSTERS 16 /* 1 MiB of plain data */
#define MOVER_CHUNKS 24

struct move {
    struct reader *reader;
    struct composer *composer;
    int compression;
    const char *subject; /* "db/vda", for progress */
    struct progress *progress;
    /* Asked about every second as long as data is on its way; false ends the move. May be NULL. */
    bool (*watch)(void *context, GError **error);
    void *watch_context;
};

/* Returns when every cluster that matters is in the composer. */
bool mover_run(const struct move *move, GError **error);
