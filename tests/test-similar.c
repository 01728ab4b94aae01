/* SPDX-License-Identifier: Apache-2.0 */
/* The image that a disk is most like, found by sketches of real disks and their points. */
#include "snapshot/sketch.h"
#include "tests/disk-store.h"
#include "tests/serving.h"

#define LATER "20300101T000000.000Z"
#define DISK_BYTES (24 * LAB_MIB)

/* --- Disks and what they are like --- */

/* From now on LAB takes points of VM number N, with a disk vda of its own. */
static struct disk *next_vm(struct disk_lab *lab, unsigned n, uint64_t bytes, uint32_t seed)
{
    g_ptr_array_set_size(lab->disks, 0);
    g_clear_pointer(&lab->last, g_free);
    g_free(lab->uuid);
    lab->uuid = g_strdup_printf("%08u-2222-4333-8444-555555555555", n);
    return disk_lab_add(lab, bytes, seed);
}

/* A disk of 16 MiB of noise, which SEED tells; clones have the same. */
static struct disk *next_clone(struct disk_lab *lab, unsigned n, uint32_t seed)
{
    struct disk *disk = next_vm(lab, n, DISK_BYTES, seed);

    disk_write(disk, 0, 16 * LAB_MIB, DISK_RANDOM);
    return disk;
}

/* The truth. */
static void sketch_raw(const struct disk *disk, struct sketch *sketch)
{
    g_autofree uint8_t *data = g_malloc(CLUSTER_BYTES);

    *sketch = (struct sketch){0};
    for (uint64_t n = 0; n < cluster_count(disk->bytes); n++) {
        uint8_t digest[DIGEST_SIZE];

        memset(data, 0, CLUSTER_BYTES);
        ck_assert_int_gt(pread(disk->fd, data, CLUSTER_BYTES, (off_t)(n * CLUSTER_BYTES)), 0);
        digest_buffer(data, CLUSTER_BYTES, digest);
        if (!bytes_are_zero(data, CLUSTER_BYTES))
            sketch_add(sketch, n, digest);
    }
    sketch_finish(sketch);
}

static void assert_same(const struct sketch *a, const struct sketch *b)
{
    ck_assert_uint_eq(a->level, b->level);
    ck_assert_uint_eq(a->count, b->count);
    ck_assert_mem_eq(a->samples, b->samples, a->count * sizeof *a->samples);
}

static struct similar_image *similar(struct store *store, const struct disk *disk,
                                     const char *before)
{
    struct similar_image *image = NULL;
    struct sketch sketch;
    g_autoptr(GError) error = NULL;

    sketch_raw(disk, &sketch);
    unit_ok(store_similar(store, &sketch, before, &image, &error), error);
    return image;
}

static void assert_similar(const struct disk_lab *lab, const struct disk *disk, unsigned n,
                           const char *point)
{
    g_autofree char *uuid = g_strdup_printf("%08u-2222-4333-8444-555555555555", n);
    AUTO(similar_image) image = similar(lab->store, disk, LATER);

    ck_assert_ptr_nonnull(image);
    ck_assert_str_eq(image->vm_uuid, uuid);
    ck_assert_str_eq(image->vm, "db");
    ck_assert_str_eq(image->target, "vda");
    ck_assert_str_eq(image->point, point);
}

static void assert_alone(const struct disk_lab *lab, const struct disk *disk)
{
    ck_assert_ptr_null(similar(lab->store, disk, LATER));
}

/* --- Sketches --- */

/* The layers of vda at the newest of IDS, of which there are N, oldest first. */
static void chain_of(const struct disk_lab *lab, char *const *ids, unsigned n,
                     struct image_layer *layers)
{
    for (unsigned i = 0; i < n; i++) {
        g_autofree char *dir = store_point_dir(lab->path, lab->uuid, ids[n - 1 - i]);

        layers[i].image = g_build_filename(dir, "vda.qcow2", NULL);
        layers[i].digests = g_build_filename(dir, "vda.digests", NULL);
        layers[i].virtual_bytes = DISK_BYTES;
    }
}

START_TEST(the_digests_of_a_chain_tell_its_sketch)
{
    AUTO(disk_lab) lab = disk_lab_new();
    struct disk *disk = next_clone(lab, 1, 7);
    struct sketch truth, whole = {0}, brought_up = {0};
    struct image_layer layers[3];
    char *ids[3];
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; i < 3; i++) {
        ids[i] = disk_lab_id(i);
        disk_scribble(disk, 0, 20 * LAB_MIB, 10);
        disk_write(disk, 2 * i * LAB_MIB, LAB_MIB, DISK_ZERO);
        disk_lab_point(lab);
    }
    chain_of(lab, ids, 3, layers);
    sketch_raw(disk, &truth);
    unit_ok(snapshot_sketch(layers, 3, &whole, &error), error);
    assert_same(&whole, &truth);
    unit_ok(snapshot_sketch(&layers[2], 1, &brought_up, &error), error);
    unit_ok(snapshot_sketch(layers, 2, &brought_up, &error), error);
    assert_same(&brought_up, &truth);
    for (unsigned i = 0; i < 3; i++) {
        g_free(layers[i].image);
        g_free(layers[i].digests);
        g_free(ids[i]);
    }
}
END_TEST

/* Serve RAW on SOCKET until the first client has hung up. */
static void serve_raw(const char *raw, const char *socket)
{
    const char *const argv[] = {"qemu-nbd", "--fork", "-r",   "-f", "raw", "-x",
                                "vda",      "-k",     socket, raw,  NULL};
    g_autoptr(GError) error = NULL;

    unit_ok(process_run(argv, 30, NULL, &error), error);
}

/* Of 3000 clusters, with some that are allocated and zero, and a short last one. */
static void write_many(struct disk *disk)
{
    for (uint64_t n = 0; n < cluster_count(disk->bytes); n++) {
        uint64_t content = n % 5 == 4 ? 0 : n + 1;

        ck_assert_int_eq(pwrite(disk->fd, &content, sizeof content, (off_t)(n * CLUSTER_BYTES)),
                         sizeof content);
    }
}

START_TEST(a_sample_that_is_read_is_the_sketch_of_the_disk)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *socket = g_build_filename(dir, "nbd", NULL);
    AUTO(disk) disk = disk_new(dir, 3000 * CLUSTER_BYTES + 512, 1);
    struct sketch truth, sketch;
    g_autoptr(GError) error = NULL;

    write_many(disk);
    sketch_raw(disk, &truth);
    serve_raw(disk->raw, socket);
    AUTO(reader) reader = reader_open(socket, "vda", NULL, &error);
    unit_ok(reader != NULL, error);
    unit_ok(sketch_read(reader, &sketch, &error), error);
    /* What is zero is found out only when it was read, so the level may be higher. */
    ck_assert_uint_le(truth.level, sketch.level);
    ck_assert_uint_le(sketch.level, truth.level + 1);
    struct sketch_overlap overlap = sketch_compare(&truth, &sketch);

    ck_assert_uint_eq(overlap.matched, overlap.sampled);
    ck_assert_uint_eq(overlap.sampled, sketch.count);
    ck_assert_uint_gt(sketch.count, SKETCH_SAMPLES / 3);
}
END_TEST

/* --- The search --- */

START_TEST(the_most_similar_image_is_found_and_no_other)
{
    AUTO(disk_lab) lab = disk_lab_new();
    struct disk *disk;
    g_autofree char *template = disk_lab_id(0);

    next_clone(lab, 1, 7);
    disk_lab_point(lab);
    next_clone(lab, 2, 8);
    disk_lab_point(lab);
    disk = next_clone(lab, 3, 7);
    disk_write(disk, 16 * LAB_MIB, LAB_MIB, DISK_RANDOM);
    assert_similar(lab, disk, 1, template);
    /* Its own changes and those of a clone: the template is nearer to the next one. */
    disk_lab_point(lab);
    disk = next_clone(lab, 4, 7);
    disk_write(disk, 3 * LAB_MIB, LAB_MIB, DISK_TEXT);
    assert_similar(lab, disk, 1, template);
    disk = next_clone(lab, 5, 9);
    assert_alone(lab, disk);
    disk = next_vm(lab, 6, DISK_BYTES, 1);
    assert_alone(lab, disk);
}
END_TEST

START_TEST(a_quarter_in_common_is_the_least)
{
    AUTO(disk_lab) lab = disk_lab_new();
    struct disk *disk;
    g_autofree char *template = disk_lab_id(0);

    next_clone(lab, 1, 7);
    disk_lab_point(lab);
    disk = next_clone(lab, 2, 7);
    disk_write(disk, 0, 11 * LAB_MIB, DISK_RANDOM);
    assert_similar(lab, disk, 1, template);
    disk_write(disk, 11 * LAB_MIB, 2 * LAB_MIB, DISK_RANDOM);
    assert_alone(lab, disk);
    /* All of it, but too little to be worth anything. */
    disk = next_vm(lab, 3, DISK_BYTES, 7);
    disk_write(disk, 0, LAB_MIB - CLUSTER_BYTES, DISK_RANDOM);
    assert_alone(lab, disk);
}
END_TEST

START_TEST(a_vm_is_what_its_newest_point_is)
{
    AUTO(disk_lab) lab = disk_lab_new();
    struct disk *disk;
    g_autofree char *second = disk_lab_id(1);

    disk = next_clone(lab, 1, 7);
    disk_lab_point(lab);
    disk_write(disk, 0, 16 * LAB_MIB, DISK_RANDOM);
    disk_lab_point(lab);
    assert_similar(lab, disk, 1, second);
    disk = next_clone(lab, 2, 7);
    assert_alone(lab, disk);
}
END_TEST

START_TEST(a_base_is_older_than_the_point_on_it)
{
    AUTO(disk_lab) lab = disk_lab_new();
    struct disk *disk = next_clone(lab, 1, 7);
    g_autofree char *first = disk_lab_id(0);
    g_autofree char *second = disk_lab_id(1);
    g_autoptr(GError) error = NULL;
    struct similar_image *image = NULL;
    struct sketch sketch = {0};

    disk_lab_point(lab);
    ck_assert_ptr_null(similar(lab->store, disk, first));
    image = similar(lab->store, disk, second);
    ck_assert_ptr_nonnull(image);
    ck_assert_uint_eq(image->overlap.matched, image->overlap.sampled);
    similar_image_free(image);
    unit_fails(store_similar(lab->store, &sketch, "../x", &image, &error), error, ERROR_INTEGRITY,
               "is not the id of a point");
}
END_TEST

/* A disk that is quickly stored. */
static struct disk *next_small_clone(struct disk_lab *lab, unsigned n)
{
    struct disk *disk = next_vm(lab, n, 2 * LAB_MIB, 7);

    disk_write(disk, 0, LAB_MIB, DISK_RANDOM);
    return disk;
}

START_TEST(what_cannot_be_a_base_is_passed_over)
{
    AUTO(disk_lab) lab = disk_lab_new();
    struct disk *disk = next_small_clone(lab, 1);
    g_autofree char *image = NULL;

    disk_lab_point(lab);
    image = disk_lab_image(lab, lab->last, "vda");
    disk = next_small_clone(lab, 2);
    disk_lab_point(lab);
    ck_assert_int_eq(unlink(image), 0);
    for (unsigned layers = 1; layers < 75; layers++)
        disk_lab_point(lab);
    assert_similar(lab, disk, 2, lab->last);
    disk_lab_point(lab);
    assert_alone(lab, disk);
}
END_TEST

/* --- What the catalog remembers --- */

static char *sketch_key(const struct disk_lab *lab)
{
    return g_strconcat(lab->uuid, "/vda", NULL);
}

START_TEST(what_the_catalog_has_lost_is_made_again)
{
    AUTO(disk_lab) lab = disk_lab_new();
    struct disk *disk = next_clone(lab, 1, 7);
    g_autofree char *key = sketch_key(lab);
    json_auto_t *rubbish = json_object();
    json_auto_t *entry = NULL;
    g_autoptr(GError) error = NULL;

    disk_lab_point(lab);
    disk_write(disk, LAB_MIB, LAB_MIB, DISK_RANDOM);
    disk_lab_point(lab);
    unit_ok(catalog_get(lab->catalog, CATALOG_SKETCHES, key, &entry, &error), error);
    ck_assert_str_eq(json_get_string(entry, "point"), lab->last);
    unit_ok(catalog_remove(lab->catalog, CATALOG_SKETCHES, key, &error), error);
    assert_similar(lab, disk, 1, lab->last);
    json_set_string(rubbish, "point", lab->last);
    unit_ok(catalog_put(lab->catalog, CATALOG_SKETCHES, key, rubbish, &error), error);
    assert_similar(lab, disk, 1, lab->last);
    json_set_u64(rubbish, "virtual_bytes", DISK_BYTES);
    json_set_u64(rubbish, "level", 0);
    json_set_string(rubbish, "samples", "AAAA");
    unit_ok(catalog_put(lab->catalog, CATALOG_SKETCHES, key, rubbish, &error), error);
    assert_similar(lab, disk, 1, lab->last);
}
END_TEST

static void steal_digests(const char *from_dir, const char *to_dir)
{
    g_autofree char *from = g_build_filename(from_dir, "vda.digests", NULL);
    g_autofree char *to = g_build_filename(to_dir, "vda.digests", NULL);
    g_autofree char *command =
        g_strdup_printf("cp '%s' '%s' && cd '%s' && "
                        "sha256sum $(awk '{print $2}' SHA256SUMS) > sums && mv sums SHA256SUMS",
                        from, to, to_dir);
    g_autoptr(GError) error = NULL;

    unit_ok(process_run((const char *const[]){"sh", "-c", command, NULL}, 30, NULL, &error), error);
}

/* Who sends a point also sends its digests, and may want others to build upon something else. */
START_TEST(digests_that_are_not_those_of_the_image_are_not_offered)
{
    AUTO(disk_lab) lab = disk_lab_new();
    g_autofree char *liar = NULL;
    g_autofree char *honest = NULL;
    g_autofree char *key = NULL;
    struct disk *disk;
    g_autoptr(GError) error = NULL;

    next_clone(lab, 1, 8);
    disk_lab_point(lab);
    liar = store_point_dir(lab->path, lab->uuid, lab->last);
    key = sketch_key(lab);
    disk = next_clone(lab, 2, 7);
    disk_lab_point(lab);
    honest = store_point_dir(lab->path, lab->uuid, lab->last);
    steal_digests(honest, liar);
    unit_ok(tree_remove(honest, &error), error);
    unit_ok(catalog_remove(lab->catalog, CATALOG_SKETCHES, key, &error), error);
    assert_alone(lab, disk);
}
END_TEST

START_TEST(damaged_digests_hide_their_image_only)
{
    AUTO(disk_lab) lab = disk_lab_new();
    struct disk *disk = next_clone(lab, 1, 7);
    g_autofree char *key = sketch_key(lab);
    g_autofree char *dir = NULL;
    g_autofree char *digests = NULL;
    g_autoptr(GError) error = NULL;

    disk_lab_point(lab);
    dir = store_point_dir(lab->path, lab->uuid, lab->last);
    digests = g_build_filename(dir, "vda.digests", NULL);
    ck_assert_int_eq(truncate(digests, 100), 0);
    unit_ok(catalog_remove(lab->catalog, CATALOG_SKETCHES, key, &error), error);
    assert_alone(lab, disk);
    next_clone(lab, 2, 7);
    disk_lab_point(lab);
    disk = lab->disks->pdata[0];
    assert_similar(lab, disk, 2, lab->last);
}
END_TEST

/* --- Another site's store --- */

START_TEST(another_site_is_asked_the_same)
{
    AUTO(disk_lab) lab = disk_lab_new();
    struct disk *disk = next_clone(lab, 1, 7);
    struct similar_image *image;
    struct serving serving;

    disk_lab_point(lab);
    serving_start(&serving, lab->store);
    image = similar(serving.remote, disk, LATER);
    ck_assert_str_eq(image->vm_uuid, lab->uuid);
    ck_assert_str_eq(image->point, lab->last);
    ck_assert_uint_eq(image->overlap.matched, 256);
    ck_assert_uint_eq(image->overlap.sampled, 256);
    similar_image_free(image);
    disk = next_clone(lab, 2, 8);
    ck_assert_ptr_null(similar(serving.remote, disk, LATER));
    serving_end(&serving);
}
END_TEST

int main(void)
{
    return UNIT_RUN("similar", the_digests_of_a_chain_tell_its_sketch,
                    a_sample_that_is_read_is_the_sketch_of_the_disk,
                    the_most_similar_image_is_found_and_no_other, a_quarter_in_common_is_the_least,
                    a_vm_is_what_its_newest_point_is, a_base_is_older_than_the_point_on_it,
                    what_cannot_be_a_base_is_passed_over, what_the_catalog_has_lost_is_made_again,
                    digests_that_are_not_those_of_the_image_are_not_offered,
                    damaged_digests_hide_their_image_only, another_site_is_asked_the_same);
}
