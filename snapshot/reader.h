/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading one disk of a running backup job over NBD (libnbd): which clusters may matter, and
 * their bytes with many requests in flight. One thread only. Private to snapshot/.
 */
#pragma once

#include "snapshot/snapshot.h"
#include "snapshot/cluster.h"

/* What QEMU tells of a cluster of the disk without reading it. */
enum cluster_state {
    CLUSTER_READ, /* it may hold anything */
    CLUSTER_EMPTY, /* it reads as zeros. Unless the base does so too, this must be in an increment, or
                    * stale data would shine through */
    CLUSTER_CLEAN = 0x80, /* this bit beside either of them: the bitmap knows of no change */
};

struct reader;

/* Connect to EXPORT on the unix socket SOCKET. Without BITMAP (the exportbitmap name)
 * no cluster is clean. */
struct reader *reader_open(const char *socket, const char *export, const char *bitmap,
                           GError **error);
void reader_free(struct reader *reader);
DEFINE_CLEANUP(reader)
uint64_t reader_size(const struct reader *reader); /* bytes */

/* COUNT clusters from FIRST into STATES (enum cluster_state), from one pass over both
 * NBD contexts. All of them lie on the disk; the last one may be short. */
bool reader_classify(struct reader *reader, uint64_t first, unsigned count, uint8_t *states,
                     GError **error);

/* Begin to read LEN bytes at OFFSET into DATA, which must stay until DONE(CONTEXT) is called from
 * reader_poll(). A failed read makes reader_poll() fail and DONE is not called. */
typedef void reader_done_fn(void *context);
bool reader_read(struct reader *reader, uint64_t offset, uint8_t *data, size_t len,
                 reader_done_fn *done, void *context, GError **error);
/* Let requests make progress; waits at most TIMEOUT_MS for something to happen. */
bool reader_poll(struct reader *reader, int timeout_ms, GError **error);
