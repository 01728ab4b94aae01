/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sketch of a disk: what a sample of its clusters holds, small enough to be sent and compared with
 * those of thousands of images, to find the one that a new disk is most like.
 *
 * Which clusters are in the sample depends on their number alone, so it is the same for all disks: at
 * level L those whose sketch_place() has L low bits of zero, one of 2^L. So the sample at a
 * level holds those of all higher levels, and disks of different size are compared at the higher
 * level of the two. A disk has the lowest level at which its sample has at most SKETCH_SAMPLES
 * clusters: more than half as many, unless the disk has fewer in all. Zero clusters do not count:
 * empty space is no likeness.
 *
 * A sample is a number of 64 bits: the place of the cluster in the low half, the first 32 bits of its
 * SHA-256 in the high one. Two that are equal by chance, or because somebody has made them so, only
 * cost room: what is really the same is told by the whole digests.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/common.h"

#define SKETCH_SAMPLES 2048u
#define SKETCH_MAX_LEVEL 32u

struct sketch {
    unsigned level;
    unsigned count;
    uint64_t samples[SKETCH_SAMPLES]; /* ascending when sketch_finish() was called */
};

/* A fixed mix of the number of a cluster. */
uint32_t sketch_place(uint64_t cluster);
/* Is CLUSTER in the sample at LEVEL? */
bool sketch_takes(unsigned level, uint64_t cluster);
/* Add a cluster that is not zero and was not added before; one that is not in the sample is passed
 * over. When there are too many, the level rises. */
void sketch_add(struct sketch *sketch, uint64_t cluster, const uint8_t digest[DIGEST_SIZE]);
/* The cluster is another now; add it again if it is not zero. */
void sketch_forget(struct sketch *sketch, uint64_t cluster);
/* Before any of the following. */
void sketch_finish(struct sketch *sketch);

/* How much of DISK's sample, at the level that both have, is the same in IMAGE. */
struct sketch_overlap {
    unsigned matched, sampled;
};
struct sketch_overlap sketch_compare(const struct sketch *disk, const struct sketch *image);

/* {"level", "samples": base64 of big-endian numbers}. */
json_t *sketch_json(const struct sketch *sketch);
/* ERROR_INTEGRITY for anything that sketch_json() would not make. */
bool sketch_from_json(const json_t *json, struct sketch *sketch, GError **error);
