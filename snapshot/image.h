/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reader of one image of a recovery point, without its backing file. It accepts only what the
 * composer writes (qcow2.h) and believes nothing: each number is checked before it is used, in
 * bounded memory (about 0.4 MiB and what the composer needs for L1 and refcount table), and every
 * lie is ERROR_INTEGRITY naming the file and the field. Private to snapshot/.
 *
 * One pass over the clusters is the whole check: image_open() looks at the header and the place of
 * the tables, image_next() at each cluster before it is handed out; and only when it has reported
 * the end, the refcounts and all tables have been found right. The file may not change meanwhile.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/cluster.h"

struct image;

struct image_cluster {
    uint64_t number; /* its place on the disk is number * CLUSTER_BYTES */
    enum cluster_kind kind;
    uint64_t offset; /* in the file; inside it, and higher than that of the cluster before */
    uint32_t
        len; /* packed: up to the end of the frame's last sector; plain: CLUSTER_BYTES; zero: 0 */
};
/* The longest that a packed cluster can be. */
#define IMAGE_CLUSTER_MAX (CLUSTER_BYTES + 512)

struct image *image_open(const char *path, GError **error);
void image_free(struct image *image);
DEFINE_CLEANUP(image)

uint64_t image_virtual_bytes(const struct image *image);
uint64_t image_file_bytes(const struct image *image);
/* NULL for a base image. */
const char *image_backing_name(const struct image *image);
int image_fd(const struct image *image); /* borrowed, for reading */

/* The next cluster that the image sets, in ascending order; *FOUND is false at the end. */
bool image_next(struct image *image, struct image_cluster *cluster, bool *found, GError **error);
/* Plain bytes of a cluster whose LEN stored bytes are at DATA; NAME is the file, for messages. */
bool image_cluster_unpack(const struct image_cluster *cluster, const void *data,
                          struct unpacker *unpacker, const char *name, uint8_t plain[CLUSTER_BYTES],
                          GError **error);
