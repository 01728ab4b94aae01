/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Points with made-up contents, for tests of stores: the files are what their seed says, so that
 * any process can tell whether they are whole. A point is {vda.qcow2, vda.digests, domain.xml}.
 */
#pragma once

#include "replicator/replicator.h"

#include <inttypes.h>
#include <string.h>

#define VM_A "11111111-2222-4333-8444-555555555555"
#define VM_B "99999999-2222-4333-8444-555555555555"
#define POINT_1 "20261120T221500.001Z"
#define POINT_2 "20261120T221500.002Z"
#define POINT_3 "20261120T221500.003Z"
#define POINTS_CLUSTER ((size_t)64 << 10)
#define POINTS_DOMAIN "<domain/>\n"

/* A check that lets everything pass. */
static inline bool points_accept(const char *dir, const struct manifest *manifest, GError **error)
{
    return true;
}

/* One that lets nothing pass. */
static inline bool points_refuse(const char *dir, const struct manifest *manifest, GError **error)
{
    return fail(error, ERROR_INTEGRITY, "the images are not what they should be");
}

/* What is made up has no sketch. */
static inline bool points_sketch(const struct image_layer *layers, unsigned count,
                                 struct sketch *sketch, GError **error)
{
    return fail(error, ERROR_INTEGRITY, "%s holds no digests", layers->digests);
}

/* Tells the partials there are: "<name of its directory>/TARGET\n" for each. */
static inline bool points_salvage(char *const *dirs, const char *target, store_sink_fn *sink,
                                  void *context, GError **error)
{
    for (; *dirs; dirs++) {
        g_autofree char *name = g_path_get_basename(*dirs);
        g_autofree char *line = g_strdup_printf("%s/%s\n", name, target);

        if (!sink(context, line, strlen(line), error))
            return false;
    }
    return true;
}

static const struct point_ops points_accept_ops = {
    .check = points_accept, .sketch = points_sketch, .salvage = points_salvage};
G_GNUC_UNUSED static const struct point_ops points_refuse_ops = {
    .check = points_refuse, .sketch = points_sketch, .salvage = points_salvage};

/* What is in incoming/, once nothing arrives any more: one line for each. g_free */
G_GNUC_UNUSED static inline char *points_left(const char *store_path)
{
    g_autofree char *incoming = g_build_filename(store_path, "incoming", NULL);
    g_auto(GStrv) names = dir_list(incoming, NULL);

    return g_strjoinv("\n", names);
}

static inline void points_fill(uint8_t *data, uint64_t offset, size_t len, uint32_t seed)
{
    uint64_t state = (offset + 1) * 0x9e3779b97f4a7c15u + seed;

    for (size_t i = 0; i < len; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        data[i] = (uint8_t)(state >> 56);
    }
}

static inline uint32_t points_seed(const char *vm_uuid, const char *point)
{
    return g_str_hash(vm_uuid) ^ g_str_hash(point);
}

/* Not committed; BASE may be NULL. BYTES is the size of the image. */
G_GNUC_UNUSED static inline struct manifest *points_manifest(const char *vm_uuid, const char *point,
                                                             const char *base, uint64_t bytes)
{
    struct manifest *manifest = manifest_new();
    struct manifest_disk *disk = manifest_add_disk(manifest, "vda");

    manifest->vm = g_strdup("db");
    manifest->uuid = g_strdup(vm_uuid);
    manifest->point = g_strdup(point);
    point_id_parse(point, &manifest->time_ms);
    manifest->site = g_strdup("dc1");
    manifest->consistency = CONSISTENCY_CRASH;
    manifest->base = g_strdup(base);
    manifest->reason = g_strdup("a test");
    disk->base = g_strdup(base);
    disk->virtual_bytes = (uint64_t)1 << 40;
    disk->changed_bytes = POINTS_CLUSTER;
    disk->stored_bytes = bytes;
    manifest_add_file(manifest, disk->file, bytes);
    manifest_add_file(manifest, disk->digests, 16);
    return manifest;
}

/* As the composer does: one piece after the other, the first cluster last. */
G_GNUC_UNUSED static inline bool points_send_image(struct incoming *incoming, uint64_t bytes,
                                                   uint32_t seed, GError **error)
{
    g_autofree uint8_t *piece = g_malloc(STORE_WRITE_MAX);
    unsigned file;

    if (!incoming_open(incoming, "vda.qcow2", &file, error))
        return false;
    for (uint64_t at = POINTS_CLUSTER; at < bytes;) {
        size_t len = (size_t)MIN(bytes - at, STORE_WRITE_MAX);

        points_fill(piece, at, len, seed);
        if (!incoming_write(incoming, file, at, piece, len, error))
            return false;
        at += len;
    }
    points_fill(piece, 0, POINTS_CLUSTER, seed);
    return incoming_write(incoming, file, 0, piece, (size_t)MIN(bytes, POINTS_CLUSTER), error);
}

/* Everything but the commit. */
G_GNUC_UNUSED static inline bool points_send(struct incoming *incoming, struct manifest *manifest,
                                             GError **error)
{
    uint32_t seed = points_seed(manifest->uuid, manifest->point);
    unsigned file;

    return points_send_image(incoming, manifest_file(manifest, "vda.qcow2")->bytes, seed, error) &&
           incoming_open(incoming, "vda.digests", &file, error) &&
           incoming_write(incoming, file, 0, "0123456789abcdef", 16, error) &&
           incoming_put(incoming, manifest, "domain.xml", POINTS_DOMAIN, strlen(POINTS_DOMAIN),
                        error);
}

/* Begin, send, commit a point on BASE of another VM, BASE_VM; or of the same, NULL. */
G_GNUC_UNUSED static inline bool points_put_on(struct store *store, const char *vm_uuid,
                                               const char *point, const char *base_vm,
                                               const char *base, uint64_t bytes, GError **error)
{
    AUTO(manifest) manifest = points_manifest(vm_uuid, point, base, bytes);
    struct manifest_disk *disk = (struct manifest_disk *)manifest_disk(manifest, "vda");
    AUTO(incoming) incoming = store_begin(store, vm_uuid, point, error);

    disk->base_vm = g_strdup(base_vm);
    return incoming && points_send(incoming, manifest, error) &&
           incoming_commit(incoming, manifest, error);
}

/* The same on a point of its own VM, or in full. */
G_GNUC_UNUSED static inline bool points_put(struct store *store, const char *vm_uuid,
                                            const char *point, const char *base, uint64_t bytes,
                                            GError **error)
{
    return points_put_on(store, vm_uuid, point, NULL, base, bytes, error);
}

/* Is the committed point in STORE_PATH whole: its files, their digests, the content of its seed? */
G_GNUC_UNUSED static inline bool points_verify(const char *store_path,
                                               const struct manifest *manifest, GError **error)
{
    g_autofree char *dir = store_point_dir(store_path, manifest->uuid, manifest->point);
    g_autofree char *path = g_build_filename(dir, "vda.qcow2", NULL);
    uint64_t bytes = manifest_file(manifest, "vda.qcow2")->bytes;
    g_autofree uint8_t *want = g_malloc(STORE_WRITE_MAX);
    g_autofree char *got = NULL;
    size_t len;

    if (!store_verify_point(store_path, manifest, NULL, error) ||
        !file_read(path, bytes, &got, &len, error))
        return false;
    for (uint64_t at = 0; at < bytes;) {
        size_t step = at ? (size_t)MIN(bytes - at, STORE_WRITE_MAX) : POINTS_CLUSTER;

        points_fill(want, at, step, points_seed(manifest->uuid, manifest->point));
        if (memcmp(want, got + at, MIN(step, bytes - at)) != 0)
            return fail(error, ERROR_INTEGRITY, "%s holds something else at %" PRIu64, path, at);
        at += step;
    }
    return true;
}
