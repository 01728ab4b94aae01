/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a store must know about the images in a point and only snapshot/ does. Neighbours do not know
 * each other, so drctl/ passes snapshot_point_ops to the store (replicator/).
 */
#pragma once

#include "metadata/damage.h"
#include "metadata/store.h"

/* One image of a chain, and what tells its content. */
struct image_layer {
    char *image; /* paths */
    char *digests;
    uint64_t virtual_bytes;
};

/* Images of one disk, one above the other, become one. */
struct merge_job {
    const struct image_layer *layers; /* the whole chain, top first, down to the full image */
    unsigned count;
    unsigned merged;            /* of them, from the top; the new image stands on the others */
    struct incoming *into;      /* where the new image and its digests go */
    struct manifest *manifest;  /* of INTO; gets the two files */
    struct manifest_disk *disk; /* of it: says what the new image is, and gets its sizes */
    struct progress *progress;  /* or NULL */
};

/* An image some of whose clusters are damaged is composed anew, with what other images of the same disk
 * have of them. */
struct repair_job {
    struct image_layer layer;          /* the damaged one; its digests are good */
    const struct damaged_file *damage; /* which clusters are not to be trusted */
    const struct image_layer *donors;  /* where they may be, best first */
    unsigned donor_count;
    struct incoming *into; /* as in a merge_job */
    struct manifest *manifest;
    struct manifest_disk *disk;
};

struct point_ops {
    /* May the point in directory DIR become visible, and be trusted? */
    bool (*check)(const char *dir, const struct manifest *manifest, GError **error);
    /* Is every cluster in it what its digest says? */
    bool (*verify)(const char *dir, const struct manifest *manifest, struct progress *progress,
                   GError **error);
    /* These in snapshot.h. */
    bool (*merge)(const struct merge_job *job, GError **error);
    bool (*same_content)(const struct image_layer *before, unsigned before_count,
                         const struct image_layer *after, unsigned after_count, GError **error);
    bool (*sketch)(const struct image_layer *layers, unsigned count, struct sketch *sketch,
                   GError **error);
    /* Tell SINK which clusters of disk TARGET are whole in DIRS: what arrived of points whose
     * transfer was interrupted, the newest first; see incoming_partial(). */
    bool (*salvage)(char *const *dirs, const char *target, store_sink_fn *sink, void *context,
                    GError **error);
    bool (*repair)(const struct repair_job *job, GError **error);
    bool (*make_digests)(const struct image_layer *layer, struct incoming *into, const char *name,
                         GError **error);
};
