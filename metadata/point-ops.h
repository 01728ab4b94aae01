/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a store must know about the images in a point and only snapshot/ does. Neighbours do not know
 * each other, so drctl/ passes snapshot_point_ops to the store (replicator/).
 */
#pragma once

#include "metadata/manifest.h"

struct point_ops {
    /* May the point in directory DIR become visible, and be trusted? */
    bool (*check)(const char *dir, const struct manifest *manifest, GError **error);
};
