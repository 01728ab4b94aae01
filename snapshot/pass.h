/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass over the clusters of an image, in the form in which it has them: by its tables, or, if these
 * are damaged, by the places that follow from its digests (salvage_survey()). Private to snapshot/.
 */
#pragma once

#include "metadata/metadata.h"
#include "snapshot/cluster.h"

struct pass;
/* The digests of LAYER are good. UNREADABLE: its tables are not. */
struct pass *pass_new(const struct image_layer *layer, bool unreadable, GError **error);
void pass_free(struct pass *pass);
DEFINE_CLEANUP(pass)

/* A cluster as it is stored. */
struct stored_cluster {
    enum cluster_kind kind;
    const uint8_t *data; /* a frame, or CLUSTER_BYTES; until the next call */
    size_t len;
};
/* Cluster NUMBER, which the digests name; each call asks for a higher one. Whether the content of what the
 * tables lead to is right nobody has looked at. ERROR_INTEGRITY when it is not there. */
bool pass_get(struct pass *pass, uint64_t number, struct stored_cluster *cluster, GError **error);
