/* SPDX-License-Identifier: Apache-2.0 */
/* Merged images read as their layers did: qemu-img compares. */
#include "tests/disk-store.h"

#define LAYERS_MAX 40
#define MERGED "20270101T000000.000Z"

/* The chain of vda at the newest point. */
struct layers {
    struct image_layer layers[LAYERS_MAX];
    char *points[LAYERS_MAX];
    unsigned count;
};

static void layers_clear(struct layers *layers)
{
    for (unsigned i = 0; i < layers->count; i++) {
        g_free(layers->layers[i].image);
        g_free(layers->layers[i].digests);
        g_free(layers->points[i]);
    }
}
#define AUTO_LAYERS __attribute__((cleanup(layers_clear))) struct layers

static void add_layer(struct layers *layers, const struct disk_lab *lab,
                      const struct manifest *manifest)
{
    g_autofree char *dir = store_point_dir(lab->path, lab->uuid, manifest->point);
    struct image_layer *layer = &layers->layers[layers->count];

    layer->image = g_build_filename(dir, "vda.qcow2", NULL);
    layer->digests = g_build_filename(dir, "vda.digests", NULL);
    layer->virtual_bytes = manifest_disk(manifest, "vda")->virtual_bytes;
    layers->points[layers->count++] = g_strdup(manifest->point);
}

static struct layers chain_of(const struct disk_lab *lab, const char *top)
{
    struct layers layers = {};
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) points = store_points(lab->store, lab->uuid, &error);
    const char *wanted = top;

    unit_ok(points != NULL, error);
    for (unsigned i = 0; i < points->len && wanted; i++) {
        const struct manifest *manifest = points->pdata[i];

        if (strcmp(manifest->point, wanted) != 0)
            continue;
        add_layer(&layers, lab, manifest);
        wanted = manifest_disk(manifest, "vda")->base;
    }
    return layers;
}

/* Merge MERGED layers of the newest point's chain, as a point that stands on the others. */
static bool merge(struct disk_lab *lab, unsigned merged, GError **error)
{
    AUTO_LAYERS before = chain_of(lab, lab->last);
    AUTO(manifest) manifest = disk_lab_manifest(lab, MERGED);
    AUTO(incoming) incoming = store_begin(lab->store, lab->uuid, MERGED, error);
    struct merge_job job = {.layers = before.layers,
                            .count = before.count,
                            .merged = merged,
                            .into = incoming,
                            .manifest = manifest};

    if (!incoming)
        return false;
    job.disk = manifest_add_disk(manifest, "vda");
    job.disk->base = g_strdup(before.points[merged]);
    manifest->base = g_strdup(job.disk->base);
    return snapshot_merge(&job, error) && incoming_commit(incoming, manifest, error);
}

/* The same, and look at what was made. Returns the size of the new image. */
static uint64_t merges(struct disk_lab *lab, unsigned merged)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *image = disk_lab_image(lab, MERGED, "vda");
    g_autofree char *truth = disk_lab_truth(lab, lab->last, "vda");
    g_autofree char *dir = store_point_dir(lab->path, lab->uuid, MERGED);
    g_autofree char *manifest_path = g_build_filename(dir, MANIFEST_NAME, NULL);
    AUTO(manifest) manifest = NULL;

    unit_ok(merge(lab, merged, &error), error);
    manifest = manifest_load(manifest_path, &error);
    unit_ok(manifest != NULL, error);
    unit_ok(snapshot_verify_point(dir, manifest, NULL, &error), error);
    qemu_checks(image);
    qemu_compares(truth, image);
    AUTO_LAYERS before = chain_of(lab, lab->last);
    AUTO_LAYERS after = chain_of(lab, MERGED);

    ck_assert_uint_eq(after.count, 1 + before.count - merged);
    unit_ok(snapshot_same_content(before.layers, before.count, after.layers, after.count, &error),
            error);
    return manifest_disk(manifest, "vda")->stored_bytes;
}

static struct disk_lab *lab_of_points(uint64_t bytes, unsigned count)
{
    struct disk_lab *lab = disk_lab_new();
    struct disk *disk = disk_lab_add(lab, bytes, 3);

    disk_scribble(disk, 0, disk->bytes, 120);
    for (unsigned i = 0; i < count; i++) {
        disk_lab_point(lab);
        if (i + 1 < count)
            disk_scribble(disk, 0, disk->bytes, 30);
    }
    return lab;
}

START_TEST(increments_merge_into_one)
{
    AUTO(disk_lab) lab = lab_of_points(40 * LAB_MIB + 512, 6);

    merges(lab, 4);
}
END_TEST

START_TEST(a_whole_chain_merges_into_a_full_image)
{
    AUTO(disk_lab) lab = lab_of_points(40 * LAB_MIB, 6);

    merges(lab, 6);
}
END_TEST

START_TEST(one_layer_merges_into_itself)
{
    AUTO(disk_lab) lab = lab_of_points(4 * LAB_MIB, 3);
    g_autofree char *old = disk_lab_image(lab, lab->last, "vda");
    g_autofree char *new = disk_lab_image(lab, MERGED, "vda");
    g_autofree char *old_bytes = NULL, *new_bytes = NULL;
    gsize old_len, new_len;

    merges(lab, 1);
    ck_assert(g_file_get_contents(old, &old_bytes, &old_len, NULL));
    ck_assert(g_file_get_contents(new, &new_bytes, &new_len, NULL));
    ck_assert_uint_eq(old_len, new_len);
    ck_assert_mem_eq(old_bytes, new_bytes, old_len);
}
END_TEST

START_TEST(many_layers_merge)
{
    AUTO(disk_lab) lab = disk_lab_new();
    struct disk *disk = disk_lab_add(lab, 8 * LAB_MIB, 4);

    for (unsigned i = 0; i < LAYERS_MAX - 1; i++) {
        disk_scribble(disk, 0, disk->bytes, 2);
        disk_lab_point(lab);
    }
    merges(lab, LAYERS_MAX - 2);
}
END_TEST

START_TEST(zeros_vanish_where_nothing_lies_below)
{
    AUTO(disk_lab) lab = disk_lab_new();
    struct disk *disk = disk_lab_add(lab, 4 * LAB_MIB, 5);

    disk_write(disk, 0, (size_t)disk->bytes, DISK_RANDOM);
    disk_lab_point(lab);
    disk_write(disk, 0, (size_t)disk->bytes, DISK_ZERO);
    disk_lab_point(lab);
    ck_assert_uint_lt(merges(lab, 2), 6 * CLUSTER_BYTES);
}
END_TEST

START_TEST(zeros_stay_where_something_lies_below)
{
    AUTO(disk_lab) lab = disk_lab_new();
    struct disk *disk = disk_lab_add(lab, 4 * LAB_MIB, 6);

    disk_write(disk, 0, (size_t)disk->bytes, DISK_RANDOM);
    disk_lab_point(lab);
    disk_write(disk, 0, (size_t)disk->bytes, DISK_ZERO);
    disk_lab_point(lab);
    disk_write(disk, LAB_MIB, 512, DISK_TEXT);
    disk_lab_point(lab);
    merges(lab, 2);
}
END_TEST

/* Full, shrunk to SMALL, grown to LARGE with a write. */
static struct disk_lab *lab_of_sizes(uint64_t small, uint64_t large)
{
    struct disk_lab *lab = disk_lab_new();
    struct disk *disk = disk_lab_add(lab, 8 * LAB_MIB, 7);

    disk_write(disk, 0, (size_t)disk->bytes, DISK_RANDOM);
    disk_lab_point(lab);
    disk_resize(disk, small);
    disk_write(disk, 0, 512, DISK_TEXT);
    disk_lab_point(lab);
    disk_resize(disk, large);
    disk_write(disk, 3 * LAB_MIB, 512, DISK_TEXT);
    disk_lab_point(lab);
    return lab;
}

START_TEST(a_disk_that_shrank_and_grew_does_not_get_its_old_end_back)
{
    AUTO(disk_lab) on_base = lab_of_sizes(LAB_MIB, 8 * LAB_MIB);
    AUTO(disk_lab) larger = lab_of_sizes(LAB_MIB, 12 * LAB_MIB);
    AUTO(disk_lab) all = lab_of_sizes(LAB_MIB, 6 * LAB_MIB);

    merges(on_base, 2);
    merges(larger, 2);
    merges(all, 3);
}
END_TEST

START_TEST(a_disk_that_only_grew_or_only_shrank_merges)
{
    AUTO(disk_lab) grown = lab_of_sizes(8 * LAB_MIB + 512, 9 * LAB_MIB + 1024);
    AUTO(disk_lab) shrunk = lab_of_sizes(7 * LAB_MIB + 512, 6 * LAB_MIB + 512);

    merges(grown, 2);
    merges(shrunk, 2);
}
END_TEST

START_TEST(refuses_to_cut_a_cluster)
{
    AUTO(disk_lab) below = lab_of_sizes(LAB_MIB + 512, 8 * LAB_MIB);
    AUTO(disk_lab) inside = lab_of_sizes(LAB_MIB + 512, 8 * LAB_MIB);
    GError *error = NULL;

    unit_fails(merge(below, 2, &error), error, ERROR_CONFLICT, "was shrunk to 1049088 bytes");
    unit_fails(merge(inside, 3, &error), error, ERROR_CONFLICT, "was shrunk to 1049088 bytes");
}
END_TEST

/* XOR a byte of FILE of POINT. */
static void damage(const struct disk_lab *lab, const char *point, const char *name, off_t offset)
{
    g_autofree char *dir = store_point_dir(lab->path, lab->uuid, point);
    g_autofree char *path = g_build_filename(dir, name, NULL);
    AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte;

    ck_assert_int_eq(pread(fd, &byte, 1, offset), 1);
    byte ^= 1;
    ck_assert_int_eq(pwrite(fd, &byte, 1, offset), 1);
}

START_TEST(refuses_damaged_layers)
{
    GError *error = NULL;

    for (unsigned i = 0; i < 2; i++) {
        AUTO(disk_lab) lab = lab_of_points(4 * LAB_MIB, 4);
        g_autofree char *point = disk_lab_id(2);

        if (i == 0)
            damage(lab, point, "vda.qcow2", 3);
        else
            damage(lab, point, "vda.digests", 30);
        unit_fails(merge(lab, 3, &error), error, ERROR_INTEGRITY, i ? "vda.digests" : "vda.qcow2");
    }
}
END_TEST

START_TEST(sees_a_cluster_that_changed)
{
    AUTO(disk_lab) lab = lab_of_points(4 * LAB_MIB, 4);
    AUTO_LAYERS before = chain_of(lab, lab->last);
    GError *error = NULL;

    unit_ok(snapshot_same_content(before.layers, 4, before.layers, 4, &error), error);
    unit_fails(snapshot_same_content(before.layers, 4, before.layers + 1, 3, &error), error,
               ERROR_INTEGRITY, "the content changed: cluster ");
    unit_fails(snapshot_same_content(before.layers + 1, 3, before.layers, 4, &error), error,
               ERROR_INTEGRITY, "the content changed: cluster ");
    before.layers[3].virtual_bytes--;
    unit_fails(snapshot_same_content(before.layers, 3, before.layers, 4, &error), error,
               ERROR_INTEGRITY, "is for a disk of");
}
END_TEST

START_TEST(sees_an_old_end_that_shines_through)
{
    AUTO(disk_lab) lab = lab_of_sizes(LAB_MIB, 8 * LAB_MIB);
    AUTO_LAYERS before = chain_of(lab, lab->last);
    struct image_layer after[] = {before.layers[0], before.layers[2]};
    GError *error = NULL;

    unit_fails(snapshot_same_content(before.layers, 3, after, 2, &error), error, ERROR_INTEGRITY,
               "the content changed: cluster ");
}
END_TEST

int main(void)
{
    return UNIT_RUN("merge", increments_merge_into_one, a_whole_chain_merges_into_a_full_image,
                    one_layer_merges_into_itself, many_layers_merge,
                    zeros_vanish_where_nothing_lies_below, zeros_stay_where_something_lies_below,
                    a_disk_that_shrank_and_grew_does_not_get_its_old_end_back,
                    a_disk_that_only_grew_or_only_shrank_merges, refuses_to_cut_a_cluster,
                    refuses_damaged_layers, sees_a_cluster_that_changed,
                    sees_an_old_end_that_shines_through);
}
