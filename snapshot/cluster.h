/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One cluster, the unit of everything in snapshot/: 64 KiB of a disk, the last one padded with
 * zeros. Its digest tells whether it is zero, and whether somebody has it already; packing compresses
 * it to one zstd frame which QEMU can read; unpacking accepts only such a frame. The only includer of zstd.h. A packer
 * is owned by one thread at a time and holds about 1 MiB.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/common.h"

#define CLUSTER_BITS 16
#define CLUSTER_BYTES (1u << CLUSTER_BITS)
/* A frame larger than this saves too little to be worth unpacking at every read. */
#define CLUSTER_PACKED_MAX (CLUSTER_BYTES - 2048)

enum cluster_kind {
    CLUSTER_ZERO,   /* all bytes are zero */
    CLUSTER_PACKED, /* a zstd frame */
    CLUSTER_PLAIN,  /* stored as it is */
};

/* The number of clusters of a disk. */
static inline uint64_t cluster_count(uint64_t virtual_bytes)
{
    return virtual_bytes / CLUSTER_BYTES + (virtual_bytes % CLUSTER_BYTES != 0);
}

struct packer;
/* LEVEL as in zstd(1); values outside of what the library knows are clamped. */
struct packer *packer_new(int level);
void packer_free(struct packer *packer);
DEFINE_CLEANUP(packer)

/* The digest of the plain bytes of a cluster. Are all of them zero? */
bool cluster_digest(const uint8_t plain[CLUSTER_BYTES], uint8_t digest[DIGEST_SIZE]);
/* Compress one cluster. For CLUSTER_PACKED, the frame is in PACKED and has *PACKED_LEN bytes; what
 * does not compress is CLUSTER_PLAIN, and these two mean nothing. */
enum cluster_kind cluster_pack(struct packer *packer, const uint8_t plain[CLUSTER_BYTES],
                               uint8_t packed[CLUSTER_PACKED_MAX], size_t *packed_len);

struct unpacker;
struct unpacker *unpacker_new(void);
void unpacker_free(struct unpacker *unpacker);
DEFINE_CLEANUP(unpacker)

/* Unpack the one frame at the start of the LEN bytes at PACKED; what follows it is ignored, because
 * the length of a packed cluster is known in sectors only. False if it is not a frame of exactly
 * one cluster. */
bool cluster_unpack(struct unpacker *unpacker, const void *packed, size_t len,
                    uint8_t plain[CLUSTER_BYTES]);

/* The length of that frame; 0 if it is none. What is in it is not looked at. */
size_t cluster_packed_len(const void *packed, size_t len);

/* The digest of CLUSTER_BYTES zeros. */
const uint8_t *cluster_zero_digest(void);
