/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The composer writes the image of one disk of a recovery point, and its digests, while the disk is
 * being read: clusters come in ascending order, leave in pieces of up to 1 MiB, each followed by the
 * digests up to there, so that what an interrupted transfer leaves is of use (salvage.h). The image is
 * always appended to, but for its first cluster, the header, which is written last: before that it
 * is not an image. What it makes is described in qcow2.h and digests.h. Private to snapshot/.
 *
 * Memory: about 1.3 MiB, 8 bytes per 512 MiB of the disk (L1), 8 bytes per 2 GiB of the file.
 *
 * One thread at a time. After an error a composer can only be freed; freeing it without
 * composer_finish() leaves an image without a header.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "metadata/metadata.h"
#include "snapshot/cluster.h"
#include "snapshot/digests.h"

/* Where the bytes go. IMAGE, BORROW: each call begins where the one before ended, the first at
 * CLUSTER_BYTES; the last call of all is the header's, at 0. */
struct composer_output {
    write_at_fn *image;
    write_at_fn *digests; /* strictly appended */
    void *context;
    /* LEN bytes of the image are those at FROM. NULL where nobody calls composer_borrowed(). */
    bool (*borrow)(void *context, uint64_t offset, size_t len, const struct partial_place *from,
                   GError **error);
};

struct composer_totals {
    uint64_t image_bytes;   /* size of the image file */
    uint64_t digests_bytes; /* size of the digests file */
    uint64_t changed_bytes; /* clusters of the image * CLUSTER_BYTES, zero clusters included */
};

struct composer;

/* VIRTUAL_BYTES: 512 bytes to 64 TiB, in whole sectors. BACKING_NAME is what QEMU will open as a
 * qcow2 file, relative to the image, up to 1023 bytes; NULL makes a base image. */
struct composer *composer_new(struct composer_output output, uint64_t virtual_bytes,
                              const char *backing_name, GError **error);
void composer_free(struct composer *composer);
DEFINE_CLEANUP(composer)

/* Clusters come in ascending order, each at most once, all inside the disk: anything else is a
 * programming error and aborts. Clusters left out read as the backing file does, or as zeros. */

/* COUNT clusters from FIRST read as zeros, whatever the backing file says. In a base image this is
 * so anyway: nothing is written. */
bool composer_zero(struct composer *composer, uint64_t first, uint64_t count, GError **error);
/* A frame made by cluster_pack(). DIGEST is that of the plain cluster. */
bool composer_packed(struct composer *composer, uint64_t cluster, const void *packed,
                     size_t packed_len, const uint8_t digest[DIGEST_SIZE], GError **error);
bool composer_plain(struct composer *composer, uint64_t cluster, const uint8_t plain[CLUSTER_BYTES],
                    const uint8_t digest[DIGEST_SIZE], GError **error);
/* One that the destination has already: LEN bytes at FROM, a frame (CLUSTER_PACKED) or CLUSTER_BYTES
 * as they are (CLUSTER_PLAIN), and DIGEST is that of the plain cluster there. */
bool composer_borrowed(struct composer *composer, uint64_t cluster, enum cluster_kind kind,
                       const struct partial_place *from, size_t len,
                       const uint8_t digest[DIGEST_SIZE], GError **error);
/* Write what is left: tables, the end of the digests, and at last the header. TOTALS may be NULL.
 */
bool composer_finish(struct composer *composer, struct composer_totals *totals, GError **error);
