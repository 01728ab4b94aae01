/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clusters of a disk read as where its new image does not set them: in a full image as zeros,
 * else as the base's chain at the destination has them, which its digests tell. What is compared
 * with it while it is read, and found equal, is neither stored nor sent. Private to snapshot/.
 *
 * The digests are fetched into files first, so memory is bounded: 64 KiB for each layer of the disk
 * that is being read.
 */
#pragma once

#include "snapshot/history.h"

struct baseline;
/* Zeros everywhere. */
struct baseline *baseline_new_empty(void);
/* Fetch the digests of all layers of CHAIN (history_chain()) into DIR, which is made; files of an
 * earlier fetch of TARGET are replaced. They are checked: ERROR_INTEGRITY or ERROR_NOT_FOUND when the destination
 * cannot tell them. */
bool baseline_fetch(const struct history *history, const GArray *chain, const char *dir,
                    const char *target, GError **error);
/* What baseline_fetch() fetched. Its first NEWER layers may have been made since what is told to be
 * clean was counted. */
struct baseline *baseline_open(const GArray *chain, const char *dir, const char *target,
                               unsigned newer, GError **error);
void baseline_free(struct baseline *baseline);
DEFINE_CLEANUP(baseline)

/* The digest of CLUSTER, which is above that of the last call: that of zeros where it reads as
 * zeros; where the digests do not tell, one that no cluster has. *NEWER: a newer layer has it. */
bool baseline_digest(struct baseline *baseline, uint64_t cluster, uint8_t digest[DIGEST_SIZE],
                     bool *newer, GError **error);
