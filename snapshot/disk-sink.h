/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two files of one disk, its image and its digests, on their way into a point that arrives at a
 * store. Private to snapshot/.
 */
#pragma once

#include "snapshot/composer.h"
#include "snapshot/snapshot.h"

struct disk_sink {
    struct incoming *incoming;   /* borrowed, as is */
    struct manifest_disk *entry; /* what the manifest says of the disk */
    unsigned image, digests;
};

bool disk_sink_open(struct disk_sink *sink, struct incoming *incoming, struct manifest_disk *entry,
                    GError **error);
/* The composer that writes them, for the base and the virtual size of the entry. */
struct composer *disk_sink_composer(struct disk_sink *sink, GError **error);
/* Finish the composer; enter the sizes, and the files into MANIFEST. */
bool disk_sink_finish(struct disk_sink *sink, struct composer *composer, struct manifest *manifest,
                      GError **error);
