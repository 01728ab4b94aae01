/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Points of real disks (tests/disk.h) in a real store, each with a copy of what its disks were: the
 * truth that qemu-img compares its images with, whatever has been done to the store since.
 *
 * The directory of a lab holds drctl.conf, store/, images/, disks/<target>/ (see disk_new()) and truth/<point>.<target>.
 */
#pragma once

#include "replicator/replicator.h"
#include "snapshot/disk-sink.h"
#include "tests/disk.h"

#define LAB_VM "11111111-2222-4333-8444-555555555555"
#define LAB_MIB (UINT64_C(1) << 20)

struct disk_lab {
    char *dir, *path; /* path: of the store */
    struct config *config;
    struct catalog *catalog;
    struct store *store;
    char *uuid;
    GPtrArray *disks; /* of struct disk; "vda", "vdb", ... */
    unsigned taken;   /* points so far */
    char *last;       /* the newest point */
    /* Of the next point: its label, and the time that it says then; or NULL. */
    const char *label;
    int64_t label_ms;
};

G_GNUC_UNUSED static void disk_lab_open_store(struct disk_lab *lab)
{
    g_autoptr(GError) error = NULL;

    lab->catalog = catalog_open(lab->path, &error);
    unit_ok(lab->catalog != NULL, error);
    lab->store = store_open_site(lab->config, lab->catalog, &snapshot_point_ops, &error);
    unit_ok(lab->store != NULL, error);
}

G_GNUC_UNUSED static void disk_lab_close_store(struct disk_lab *lab)
{
    g_clear_pointer(&lab->store, store_free);
    g_clear_pointer(&lab->catalog, catalog_free);
}

/* Open the store anew with LINES in the [site] of its drctl.conf. */
G_GNUC_UNUSED static void disk_lab_configure(struct disk_lab *lab, const char *lines)
{
    g_autofree char *text = g_strdup_printf("[site]\nname = dc1\nstore = %s\nimages = %s/images\n"
                                            "scratch = %s/scratch\nrun-dir = /run/x\n%s",
                                            lab->path, lab->dir, lab->dir, lines);
    g_autofree char *path = g_build_filename(lab->dir, "drctl.conf", NULL);
    g_autoptr(GError) error = NULL;

    disk_lab_close_store(lab);
    g_clear_pointer(&lab->config, config_free);
    unit_ok(file_write(path, text, strlen(text), 0600, &error), error);
    unit_ok(lab->config = config_load(lab->dir, &error), error);
    disk_lab_open_store(lab);
}

G_GNUC_UNUSED static struct disk_lab *disk_lab_new(void)
{
    struct disk_lab *lab = g_new0(struct disk_lab, 1);
    g_autofree char *truth = NULL;
    g_autoptr(GError) error = NULL;

    lab->dir = unit_dir();
    lab->path = g_build_filename(lab->dir, "store", NULL);
    truth = g_build_filename(lab->dir, "truth", NULL);
    lab->uuid = g_strdup(LAB_VM);
    lab->disks = g_ptr_array_new_with_free_func((GDestroyNotify)disk_free);
    unit_ok(store_create(lab->path, "dc1", &error), error);
    unit_ok(dir_make(truth, 0700, &error), error);
    disk_lab_configure(lab, "");
    return lab;
}

G_GNUC_UNUSED static void disk_lab_free(struct disk_lab *lab)
{
    if (!lab)
        return;
    disk_lab_close_store(lab);
    config_free(lab->config);
    g_ptr_array_unref(lab->disks);
    g_free(lab->last);
    g_free(lab->uuid);
    g_free(lab->path);
    g_free(lab->dir);
    g_free(lab);
}
G_GNUC_UNUSED DEFINE_CLEANUP(disk_lab)

    static inline const char *disk_lab_target(unsigned i)
{
    static const char *const targets[] = {"vda", "vdb", "vdc"};

    return targets[i];
}

G_GNUC_UNUSED static struct disk *disk_lab_add(struct disk_lab *lab, uint64_t bytes, uint32_t seed)
{
    g_autofree char *dir =
        g_build_filename(lab->dir, "disks", disk_lab_target(lab->disks->len), NULL);
    struct disk *disk;
    g_autoptr(GError) error = NULL;

    unit_ok(dir_make(dir, 0700, &error), error);
    disk = disk_new(dir, bytes, seed);
    g_ptr_array_add(lab->disks, disk);
    return disk;
}

G_GNUC_UNUSED static char *disk_lab_truth(const struct disk_lab *lab, const char *point,
                                          const char *target)
{
    return g_strdup_printf("%s/truth/%s.%s", lab->dir, point, target);
}

G_GNUC_UNUSED static char *disk_lab_image(const struct disk_lab *lab, const char *point,
                                          const char *target)
{
    g_autofree char *dir = store_point_dir(lab->path, lab->uuid, point);

    return g_strdup_printf("%s/%s.qcow2", dir, target);
}

G_GNUC_UNUSED static struct manifest *disk_lab_manifest(const struct disk_lab *lab,
                                                        const char *point)
{
    struct manifest *manifest = manifest_new();

    manifest->vm = g_strdup("db");
    manifest->uuid = g_strdup(lab->uuid);
    manifest->point = g_strdup(point);
    ck_assert(point_id_parse(point, &manifest->time_ms));
    manifest->site = g_strdup("dc1");
    manifest->reason = g_strdup("a test");
    if (lab->label) {
        manifest->label = g_strdup(lab->label);
        manifest->time_ms = lab->label_ms;
    }
    return manifest;
}

G_GNUC_UNUSED static void disk_lab_send(struct disk_lab *lab, struct incoming *incoming,
                                        struct manifest *manifest, unsigned i)
{
    struct disk *disk = lab->disks->pdata[i];
    struct manifest_disk *entry = manifest_add_disk(manifest, disk_lab_target(i));
    g_autofree char *truth = disk_lab_truth(lab, manifest->point, entry->target);
    struct disk_sink sink;
    g_autoptr(GError) error = NULL;

    entry->base = g_strdup(disk->base);
    entry->virtual_bytes = disk->bytes;
    if (disk->base && (!manifest->base || strcmp(disk->base, manifest->base) > 0)) {
        g_free(manifest->base);
        manifest->base = g_strdup(disk->base);
    }
    unit_ok(disk_sink_open(&sink, incoming, entry, &error), error);
    AUTO(composer) composer = disk_sink_composer(&sink, &error);
    unit_ok(composer != NULL, error);
    disk_compose(disk, composer);
    unit_ok(disk_sink_finish(&sink, composer, manifest, &error), error);
    g_free(disk->base);
    disk->base = g_strdup(manifest->point);
    unit_ok(file_copy(disk->raw, truth, 0600, &error), error);
}

/* Commit a point with what was written since the last one. */
G_GNUC_UNUSED static void disk_lab_point_at(struct disk_lab *lab, const char *point)
{
    AUTO(manifest) manifest = disk_lab_manifest(lab, point);
    g_autoptr(GError) error = NULL;
    AUTO(incoming) incoming = store_begin(lab->store, lab->uuid, point, &error);

    unit_ok(incoming != NULL, error);
    for (unsigned i = 0; i < lab->disks->len; i++)
        disk_lab_send(lab, incoming, manifest, i);
    unit_ok(incoming_put(incoming, manifest, "domain.xml", "<domain/>\n", 10, &error), error);
    unit_ok(incoming_commit(incoming, manifest, &error), error);
    lab->taken++;
    g_free(lab->last);
    lab->last = g_strdup(point);
}

/* The id of the N-th point of a lab, from 0: one a day from 2026-11-01. */
static inline char *disk_lab_id(unsigned n)
{
    return point_id_format(INT64_C(1793534400000) + (int64_t)n * 24 * 3600 * 1000);
}

G_GNUC_UNUSED static void disk_lab_point(struct disk_lab *lab)
{
    g_autofree char *point = disk_lab_id(lab->taken);

    disk_lab_point_at(lab, point);
}

/* Every point that the store has is what its disks were, and qemu-img finds no error in it. */
G_GNUC_UNUSED static unsigned disk_lab_check(const struct disk_lab *lab)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) points = store_points(lab->store, lab->uuid, &error);

    unit_ok(points != NULL, error);
    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];

        unit_ok(store_verify_point(lab->path, manifest, NULL, &error), error);
        for (unsigned n = 0; n < manifest->disks->len; n++) {
            const struct manifest_disk *disk = manifest->disks->pdata[n];
            g_autofree char *image = disk_lab_image(lab, manifest->point, disk->target);
            g_autofree char *truth = disk_lab_truth(lab, manifest->point, disk->target);

            qemu_checks(image);
            qemu_compares(truth, image);
        }
    }
    return points->len;
}
