/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk for the tests of snapshot/: a sparse raw file, which is the truth, and the clusters that
 * were written since the last point. disk_point() composes a point of it, as the mover does. The
 * directory given to disk_new() holds everything: DIR/raw, DIR/<point>/vda.qcow2,
 * DIR/<point>/vda.digests.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/cluster.h"
#include "snapshot/composer.h"
#include "snapshot/image.h"
#include "snapshot/snapshot.h"
#include "tests/unit.h"

/* Two files being written by a composer, which must append to them. */
struct disk_files {
    int image, digests;
    uint64_t image_end, digests_end;
    bool header; /* was it written? */
};

G_GNUC_UNUSED static void disk_write_sparse(int fd, uint64_t offset, const uint8_t *data,
                                            size_t len)
{
    if (!bytes_are_zero(data, len))
        ck_assert_int_eq(pwrite(fd, data, len, (off_t)offset), (ssize_t)len);
}

G_GNUC_UNUSED static bool disk_write_image(void *context, uint64_t offset, const void *data,
                                           size_t len, GError **error)
{
    struct disk_files *files = context;

    ck_assert(!files->header);
    ck_assert_uint_le(len, 1 << 20);
    files->header = offset == 0;
    if (offset == 0)
        ck_assert_uint_eq(len, CLUSTER_BYTES);
    else
        ck_assert_uint_eq(offset, files->image_end);
    disk_write_sparse(files->image, offset, data, len);
    files->image_end = MAX(files->image_end, offset + len);
    return true;
}

G_GNUC_UNUSED static bool disk_write_digests(void *context, uint64_t offset, const void *data,
                                             size_t len, GError **error)
{
    struct disk_files *files = context;

    ck_assert_uint_eq(offset, files->digests_end);
    ck_assert_int_eq(pwrite(files->digests, data, len, (off_t)offset), (ssize_t)len);
    files->digests_end += len;
    return true;
}

G_GNUC_UNUSED static struct composer_output disk_files_open(struct disk_files *files,
                                                            const char *image, const char *digests)
{
    *files = (struct disk_files){.image_end = CLUSTER_BYTES};
    files->image = open(image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    files->digests = open(digests, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert(files->image >= 0 && files->digests >= 0);
    return (struct composer_output){
        .image = disk_write_image, .digests = disk_write_digests, .context = files};
}

G_GNUC_UNUSED static void disk_files_close(struct disk_files *files,
                                           const struct composer_totals *totals)
{
    ck_assert(files->header);
    ck_assert_uint_eq(totals->image_bytes, files->image_end);
    ck_assert_uint_eq(totals->digests_bytes, files->digests_end);
    ck_assert_int_eq(ftruncate(files->image, (off_t)files->image_end), 0);
    close(files->image);
    close(files->digests);
}

struct disk {
    char *dir, *raw;
    int fd;
    uint64_t bytes;
    GTree *dirty; /* of cluster numbers */
    GRand *random;
    char *base; /* the last point */
};

G_GNUC_UNUSED static int disk_compare(const void *a, const void *b, void *unused)
{
    const uint64_t *left = a, *right = b;

    return *left < *right ? -1 : *left > *right;
}

G_GNUC_UNUSED static struct disk *disk_new(const char *dir, uint64_t bytes, uint32_t seed)
{
    struct disk *disk = g_new0(struct disk, 1);

    disk->dir = g_strdup(dir);
    disk->raw = g_build_filename(dir, "raw", NULL);
    disk->bytes = bytes;
    disk->fd = open(disk->raw, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_ge(disk->fd, 0);
    ck_assert_int_eq(ftruncate(disk->fd, (off_t)bytes), 0);
    disk->dirty = g_tree_new_full(disk_compare, NULL, g_free, NULL);
    disk->random = g_rand_new_with_seed(seed);
    return disk;
}

G_GNUC_UNUSED static void disk_free(struct disk *disk)
{
    if (!disk)
        return;
    close(disk->fd);
    g_tree_unref(disk->dirty);
    g_rand_free(disk->random);
    g_free(disk->base);
    g_free(disk->raw);
    g_free(disk->dir);
    g_free(disk);
}
G_GNUC_UNUSED DEFINE_CLEANUP(disk)

    /* What a guest writes: it is aligned to sectors and may be of any length. */
    enum disk_content {
        DISK_TEXT,
        DISK_RANDOM,
        DISK_ZERO,
        DISK_SAME,
        DISK_HALF,
        DISK_CONTENTS
    };

G_GNUC_UNUSED static void disk_fill(struct disk *disk, enum disk_content content, uint8_t *data,
                                    size_t len)
{
    static const char *const words[] = {"alpha ", "beta ", "gamma\n", "delta\t", "epsilon, "};

    memset(data, content == DISK_SAME ? 0x5a : 0, len);
    if (content == DISK_RANDOM || content == DISK_HALF)
        for (size_t i = 0; i < (content == DISK_HALF ? len / 2 : len); i++)
            data[i] = (uint8_t)g_rand_int(disk->random);
    for (size_t i = 0; content == DISK_TEXT && i < len;) {
        const char *word = words[g_rand_int_range(disk->random, 0, G_N_ELEMENTS(words))];
        size_t part = MIN(strlen(word), len - i);

        memcpy(data + i, word, part);
        i += part;
    }
}

/* The next point has this cluster. */
G_GNUC_UNUSED static void disk_touch(struct disk *disk, uint64_t cluster)
{
    uint64_t *key = g_memdup2(&cluster, sizeof cluster);

    g_tree_insert(disk->dirty, key, key);
}

G_GNUC_UNUSED static void disk_write(struct disk *disk, uint64_t offset, size_t len,
                                     enum disk_content content)
{
    g_autofree uint8_t *data = g_malloc(len);

    ck_assert(offset % 512 == 0 && len % 512 == 0 && offset + len <= disk->bytes);
    disk_fill(disk, content, data, len);
    ck_assert_int_eq(pwrite(disk->fd, data, len, (off_t)offset), (ssize_t)len);
    for (uint64_t n = offset / CLUSTER_BYTES; n <= (offset + len - 1) / CLUSTER_BYTES; n++)
        disk_touch(disk, n);
}

/* COUNT writes at random places inside [FIRST, END). */
G_GNUC_UNUSED static void disk_scribble(struct disk *disk, uint64_t first, uint64_t end,
                                        unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t sector =
            first / 512 + (uint64_t)(g_rand_double(disk->random) * (double)((end - first) / 512));
        uint64_t len = 512 * (uint64_t)g_rand_int_range(disk->random, 1, 700);

        if (g_rand_boolean(disk->random)) {
            sector -= sector % 128;
            len = CLUSTER_BYTES;
        }
        disk_write(disk, sector * 512, (size_t)MIN(len, end - sector * 512),
                   (enum disk_content)g_rand_int_range(disk->random, 0, DISK_CONTENTS));
    }
}

/* What the management of the guest does: a larger disk ends in zeros, of which no bitmap tells. */
G_GNUC_UNUSED static void disk_resize(struct disk *disk, uint64_t bytes)
{
    uint64_t end = cluster_count(bytes);

    ck_assert_int_eq(ftruncate(disk->fd, (off_t)bytes), 0);
    disk->bytes = bytes;
    for (GTreeNode *node; (node = g_tree_lower_bound(disk->dirty, &end)) != NULL;)
        g_tree_remove(disk->dirty, g_tree_node_key(node));
}

struct disk_composing {
    struct disk *disk;
    struct composer *composer;
    struct packer *packer;
};

G_GNUC_UNUSED static gboolean disk_compose_cluster(void *key, void *value, void *data)
{
    struct disk_composing *composing = data;
    struct composer *composer = composing->composer;
    uint64_t cluster = *(uint64_t *)key;
    g_autofree uint8_t *plain = g_malloc0(CLUSTER_BYTES);
    g_autofree uint8_t *packed = g_malloc(CLUSTER_PACKED_MAX);
    g_autoptr(GError) error = NULL;
    uint8_t digest[DIGEST_SIZE];
    size_t len;
    bool done = false;

    ck_assert_int_gt(
        pread(composing->disk->fd, plain, CLUSTER_BYTES, (off_t)cluster * CLUSTER_BYTES), 0);
    if (cluster_digest(plain, digest))
        done = composer_zero(composer, cluster, 1, &error);
    else if (cluster_pack(composing->packer, plain, packed, &len) == CLUSTER_PACKED)
        done = composer_packed(composer, cluster, packed, len, digest, &error);
    else
        done = composer_plain(composer, cluster, plain, digest, &error);
    unit_ok(done, error);
    return FALSE;
}

/* Compose what was written since the last point. */
G_GNUC_UNUSED static void disk_compose(struct disk *disk, struct composer *composer)
{
    AUTO(packer) packer = packer_new(1);

    g_tree_foreach(disk->dirty, disk_compose_cluster,
                   &(struct disk_composing){disk, composer, packer});
    g_tree_remove_all(disk->dirty);
}

/* The same as point POINT based on the last one, and describe it in a manifest of one disk. */
G_GNUC_UNUSED static struct manifest *disk_point(struct disk *disk, const char *point)
{
    g_autofree char *dir = g_build_filename(disk->dir, point, NULL);
    g_autofree char *image = g_build_filename(dir, "vda.qcow2", NULL);
    g_autofree char *digests = g_build_filename(dir, "vda.digests", NULL);
    g_autofree char *backing = disk->base ? g_strdup_printf("../%s/vda.qcow2", disk->base) : NULL;
    g_autoptr(GError) error = NULL;
    struct manifest *manifest = manifest_new();
    struct manifest_disk *entry;
    struct disk_files files;
    struct composer_output output;
    struct composer_totals totals;

    ck_assert_int_eq(mkdir(dir, 0700), 0);
    output = disk_files_open(&files, image, digests);
    AUTO(composer) composer = composer_new(output, disk->bytes, backing, &error);
    unit_ok(composer != NULL, error);
    disk_compose(disk, composer);
    unit_ok(composer_finish(composer, &totals, &error), error);
    disk_files_close(&files, &totals);

    manifest->vm = g_strdup("db");
    entry = manifest_add_disk(manifest, "vda");
    entry->base = g_steal_pointer(&disk->base);
    entry->virtual_bytes = disk->bytes;
    entry->changed_bytes = totals.changed_bytes;
    entry->stored_bytes = totals.image_bytes;
    disk->base = g_strdup(point);
    return manifest;
}

/* Pass over the whole image; false if the reader refuses it. *CLUSTERS: how many it sets. */
G_GNUC_UNUSED static bool image_walk(const char *path, uint64_t *clusters, GError **error)
{
    AUTO(image) image = image_open(path, error);
    struct image_cluster cluster;
    uint64_t count = 0, last = 0;
    bool found = image != NULL;

    while (found) {
        if (!image_next(image, &cluster, &found, error))
            return false;
        if (!found)
            break;
        /* Whatever the file says, this holds. */
        ck_assert(count++ == 0 || cluster.number > last);
        ck_assert_uint_lt(cluster.number, cluster_count(image_virtual_bytes(image)));
        ck_assert_uint_le(cluster.len, IMAGE_CLUSTER_MAX);
        ck_assert_uint_le(cluster.offset + cluster.len, image_file_bytes(image));
        last = cluster.number;
    }
    if (clusters)
        *clusters = count;
    return image != NULL;
}

/* ---- qemu-img as the oracle ---- */

G_GNUC_UNUSED static char *disk_image(const struct disk *disk, const char *point)
{
    return g_build_filename(disk->dir, point, "vda.qcow2", NULL);
}

G_GNUC_UNUSED static void qemu_checks(const char *image)
{
    g_autofree char *output = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(process_run((const char *[]){"qemu-img", "check", "-f", "qcow2", image, NULL}, 50,
                        &output, &error),
            error);
    ck_assert_msg(strstr(output, "No errors were found") != NULL, "%s: %s", image, output);
}

/* IMAGE, with its backing files, has the content of the raw file RAW. */
G_GNUC_UNUSED static void qemu_compares(const char *raw, const char *image)
{
    g_autofree char *output = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(process_run((const char *[]){"qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw,
                                         image, NULL},
                        50, &output, &error),
            error);
    ck_assert_msg(strstr(output, "Images are identical") != NULL, "%s: %s", image, output);
}
