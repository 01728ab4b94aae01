/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading one disk of a running backup job over NBD (libnbd): which clusters matter, and their
 * bytes with many requests in flight. One thread only. Private to snapshot/.
 */
#pragma once

#include "snapshot/snapshot.h"
#include "snapshot/cluster.h"

/* What a cluster of the disk needs to be in the point. */
enum cluster_need {
    NEED_NOTHING, /* clean, or zero in a full image */
    NEED_DATA,    /* read it */
    NEED_ZERO,    /* changed, and zero now: an explicit zero, or stale data would shine through */
};

struct reader;

/* Connect to EXPORT on the unix socket SOCKET. With BITMAP (the exportbitmap name) only clusters
 * dirty in it matter; NULL reads everything that is allocated. */
struct reader *reader_open(const char *socket, const char *export, const char *bitmap,
                           GError **error);
void reader_free(struct reader *reader);
DEFINE_CLEANUP(reader)
uint64_t reader_size(const struct reader *reader); /* bytes */

/* The needs of COUNT clusters from FIRST into NEEDS (enum cluster_need), from one pass over both
 * NBD contexts. All of them lie on the disk; the last one may be short. */
bool reader_classify(struct reader *reader, uint64_t first, unsigned count, uint8_t *needs,
                     GError **error);

/* Begin to read LEN bytes at OFFSET into DATA, which must stay until DONE(CONTEXT) is called from
 * reader_poll(). A failed read makes reader_poll() fail and DONE is not called. */
typedef void reader_done_fn(void *context);
bool reader_read(struct reader *reader, uint64_t offset, uint8_t *data, size_t len,
                 reader_done_fn *done, void *context, GError **error);
/* Let requests make progress; waits at most TIMEOUT_MS for something to happen. */
bool reader_poll(struct reader *reader, int timeout_ms, GError **error);
