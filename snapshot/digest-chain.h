/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The digests of a disk as a chain of images gives it: the files of digests of all its layers, read
 * side by side as one ascending sequence in which the topmost layer wins. So what is on the disk at
 * some point is known without unpacking a cluster. Private to snapshot/.
 *
 * As in QEMU, a layer ends the view of those below it: what lies beyond its end reads as zeros,
 * though a larger layer stands above it and another below (a disk that was shrunk and grew again).
 *
 * Memory: 64 KiB a layer.
 */
#pragma once

#include "snapshot/digests.h"

struct digest_layer {
    const char *path; /* of its digests */
    uint64_t virtual_bytes;
};

struct chain_record {
    uint64_t cluster;
    unsigned layer; /* which has it: 0 is the top */
    /* Bytes at its end that a smaller layer above hides: they read as zeros, and DIGEST, which is of
     * the cluster as LAYER has it, is not that of what is read. Otherwise 0. */
    uint32_t hidden;
    uint8_t digest[DIGEST_SIZE];
};

struct digest_chain;
/* COUNT layers, at least one, top first; copied. ERROR_INTEGRITY as digest_reader_open(). */
struct digest_chain *digest_chain_open(const struct digest_layer *layers, unsigned count,
                                       GError **error);
void digest_chain_free(struct digest_chain *chain);
DEFINE_CLEANUP(digest_chain)
/* The next cluster that any layer sets and the top sees, zero clusters included; *FOUND is false
 * behind the last one. What is left out reads as the image below the last layer does, if there is
 * one, as far as digest_chain_limit(), and otherwise as zeros. */
bool digest_chain_next(struct digest_chain *chain, struct chain_record *record, bool *found,
                       GError **error);
/* The size of the smallest layer: what lies below the last one is seen up to there. */
uint64_t digest_chain_limit(const struct digest_chain *chain);
