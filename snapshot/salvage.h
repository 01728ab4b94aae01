/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What arrived of a disk whose transfer was interrupted: an image without its header and tables, cut
 * off anywhere, and the digests, cut off somewhere else. Nothing in them is believed. The digests tell
 * which clusters came, and the layout of the composer where each of them must lie; a cluster
 * counts only if what lies there unpacks to what has its digest. What follows the first that does not
 * is lost, because the place of the next one depends on it, unless it is searched for (salvage_survey()).
 * Private to snapshot/.
 *
 * Both sides know the form in which it is told (drctl-store(5), PARTIAL): the destination tells it, the
 * source compares it with the disk (arrived.h).
 *
 * Memory: 1.3 MiB for each partial.
 */
#pragma once

#include "snapshot/cluster.h"
#include "snapshot/composer.h"

/* One cluster that is there. */
struct salvaged {
    uint64_t cluster;
    uint8_t digest[DIGEST_SIZE];
    enum cluster_kind kind; /* CLUSTER_PACKED or CLUSTER_PLAIN */
    uint32_t len;
    struct partial_place place;
};

#define SALVAGED_BYTES 56u
void salvaged_encode(const struct salvaged *salvaged, uint8_t record[SALVAGED_BYTES]);
/* ERROR_INTEGRITY: it is none that composer_borrowed() can be given. */
bool salvaged_decode(const uint8_t record[SALVAGED_BYTES], struct salvaged *salvaged,
                     GError **error);

struct salvage;
/* What the files at IMAGE and DIGESTS, of partial number PARTIAL, have; NULL and an error if that is
 * nothing. */
struct salvage *salvage_open(const char *image, const char *digests, unsigned partial,
                             GError **error);
void salvage_free(struct salvage *salvage);
DEFINE_CLEANUP(salvage)
/* The next cluster that is there, in ascending order; false behind the last. */
bool salvage_next(struct salvage *salvage, struct salvaged *salvaged);
/* For a whole image whose tables or clusters are damaged: the next cluster that the digests name and that
 * is not zero, and whether it is *THERE; false behind the last. Behind one that is not, the others are
 * looked for within the next MiB; after more than a few in a row nothing is found any more. */
bool salvage_survey(struct salvage *salvage, struct salvaged *salvaged, bool *there);
