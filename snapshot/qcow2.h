/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one shape of qcow2 that drctl writes and accepts (drctl-store(5); the format itself is
 * docs/interop/qcow2.txt of QEMU): version 3, 64 KiB clusters, 16-bit refcounts, zstd compression,
 * at most a backing file of format qcow2; no snapshots, encryption, external data, bitmaps or
 * unknown features. Private to snapshot/: the composer writes it, the image reader checks it, and
 * both count references with the same code, so an image that is not exactly what the composer makes
 * is refused. Nothing here owns anything but struct refcounts.
 *
 * The file, in this order and without going back:
 *
 *     header cluster                                 written last
 *     region 0: data in ascending order, L2 table    a region is what one L2 table maps: 512 MiB
 *     region 1: ...
 *     L1 table, last refcount block, refcount table, end of file
 *
 * The refcount block of a range (2 GiB of the file: what one block counts) is the first cluster of
 * the next range, when it has become final. Nothing crosses the end of a range, so that each
 * item is counted in one block; what does not fit leaves a gap of unused clusters.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/cluster.h"

#define QCOW2_L2_ENTRIES (CLUSTER_BYTES / 8)
#define QCOW2_REGION_BYTES ((uint64_t)QCOW2_L2_ENTRIES * CLUSTER_BYTES)
#define QCOW2_REFCOUNTS (CLUSTER_BYTES / 2)
#define QCOW2_RANGE_BYTES ((uint64_t)QCOW2_REFCOUNTS * CLUSTER_BYTES)
#define QCOW2_TABLE_ENTRIES (CLUSTER_BYTES / 8) /* refcount blocks per cluster of the table */

#define QCOW2_SECTOR_BYTES 512u
#define QCOW2_VIRTUAL_MAX (UINT64_C(64) << 40)
#define QCOW2_FILE_MAX (UINT64_C(128) << 40)
#define QCOW2_BACKING_MAX 1023

/* L1 and L2 entries. COPIED: referenced exactly once. */
#define QCOW2_COPIED (UINT64_C(1) << 63)
#define QCOW2_COMPRESSED (UINT64_C(1) << 62)
#define QCOW2_ZERO UINT64_C(1)
/* A compressed entry holds a byte offset and the number of sectors touched beyond the first. */
#define QCOW2_SECTORS_SHIFT 54
#define QCOW2_PACKED_OFFSET_MASK ((UINT64_C(1) << QCOW2_SECTORS_SHIFT) - 1)

/* What differs between two headers of our subset. */
struct qcow2_header {
    uint64_t virtual_bytes;
    uint64_t l1_offset;
    uint32_t l1_entries;
    uint64_t refcount_table_offset;
    uint32_t refcount_table_clusters;
    char backing_name[QCOW2_BACKING_MAX + 1]; /* empty: none */
};

void qcow2_header_encode(const struct qcow2_header *header, uint8_t cluster[CLUSTER_BYTES]);
/* Accepts only what qcow2_header_encode() makes: ERROR_INTEGRITY names NAME and the field. */
bool qcow2_header_decode(const uint8_t cluster[CLUSTER_BYTES], const char *name,
                         struct qcow2_header *header, GError **error);
/* Is it a size that an image can have: 512 bytes to 64 TiB, whole sectors? */
bool qcow2_virtual_bytes_valid(uint64_t virtual_bytes);
uint32_t qcow2_l1_entries(uint64_t virtual_bytes);

static inline uint64_t qcow2_align(uint64_t offset)
{
    return (offset + CLUSTER_BYTES - 1) & ~(uint64_t)(CLUSTER_BYTES - 1);
}

/* Where an item of LEN bytes goes in a file that ends at END: nothing crosses the end of a range, and
 * the next one begins with the block of this one. */
static inline uint64_t qcow2_place(uint64_t end, uint64_t len, bool aligned)
{
    uint64_t start = aligned ? qcow2_align(end) : end;
    uint64_t range_end = ((end - 1) / QCOW2_RANGE_BYTES + 1) * QCOW2_RANGE_BYTES;

    return start + len <= range_end ? start : range_end + CLUSTER_BYTES;
}

/* The refcounts of the range in which the file currently ends. */
struct refcounts {
    uint64_t range;
    uint16_t counts[QCOW2_REFCOUNTS]; /* host byte order */
};
/* One more reference to each cluster of LEN bytes at OFFSET, which lie inside the current range.
 * False if a counter would overflow. */
bool refcounts_add(struct refcounts *refs, uint64_t offset, uint64_t len);
/* The block as it lies in the file. */
void refcounts_encode(const struct refcounts *refs, uint8_t block[CLUSTER_BYTES]);
/* Begin to count the next range, whose first cluster is the block of this one. */
void refcounts_advance(struct refcounts *refs);
