/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is made of damaged chains, as QEMU sees it: what is lost is an I/O error, never anything else, and
 * all other clusters are what they were.
 */
#include "tests/disk.h"

#define MIB (UINT64_C(1) << 20)
#define P0 "20261120T221500.001Z"
#define P1 "20261120T221500.002Z"

/* Two or three points of a disk. */
struct chain {
    char *dir;
    struct disk *disk;
    char *images[6]; /* top first, NULL-terminated */
};

static void save_manifest(const struct chain *chain, struct manifest *manifest, const char *point,
                          const char *base)
{
    g_autofree char *path = g_build_filename(chain->dir, point, MANIFEST_NAME, NULL);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    struct manifest_disk *disk = manifest->disks->pdata[0];

    manifest->uuid = g_strdup("11111111-2222-4333-8444-555555555555");
    manifest->point = g_strdup(point);
    manifest->site = g_strdup("dc1");
    manifest->base = g_strdup(base);
    manifest_add_file(manifest, disk->file, disk->stored_bytes);
    manifest_add_file(manifest, disk->digests, 40);
    text = manifest_text(manifest);
    unit_ok(file_write(path, text, strlen(text), 0600, &error), error);
}

static void take(struct chain *chain, const char *point)
{
    g_autofree char *base = g_strdup(chain->disk->base);
    AUTO(manifest) manifest = disk_point(chain->disk, point);

    save_manifest(chain, manifest, point, base);
    memmove(chain->images + 1, chain->images, 4 * sizeof(char *));
    chain->images[0] = disk_image(chain->disk, point);
}

/* p0: clusters 0 to 63, as they are, and 64 to 127, packed; p1: 10 to 19 and 70 to 79 again. */
static struct chain chain_new(void)
{
    struct chain chain = {.dir = unit_dir()};

    chain.disk = disk_new(chain.dir, 9 * MIB + 1536, 11);
    disk_write(chain.disk, 0, 4 * MIB, DISK_RANDOM);
    disk_write(chain.disk, 4 * MIB, 4 * MIB, DISK_TEXT);
    disk_write(chain.disk, 9 * MIB, 1536, DISK_TEXT);
    take(&chain, P0);
    disk_write(chain.disk, 10 * CLUSTER_BYTES, 10 * CLUSTER_BYTES, DISK_TEXT);
    disk_write(chain.disk, 70 * CLUSTER_BYTES, 10 * CLUSTER_BYTES, DISK_RANDOM);
    take(&chain, P1);
    return chain;
}

static void chain_clear(struct chain *chain)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(chain->images); i++)
        g_free(chain->images[i]);
    disk_free(chain->disk);
    g_free(chain->dir);
}
#define AUTO_CHAIN __attribute__((cleanup(chain_clear))) struct chain

/* Of the clusters of an image that has LOST, as QEMU reads them: is each what the disk has, or an error?
 */
static void assert_reads(const struct chain *chain, const char *image, const GArray *lost)
{
    g_autofree char *raw = g_build_filename(chain->dir, "raw-of-image", NULL);
    g_autofree uint8_t *want = g_malloc(CLUSTER_BYTES), *got = g_malloc(CLUSTER_BYTES);
    g_autoptr(GError) error = NULL;
    uint64_t bytes = chain->disk->bytes;

    unit_ok(process_run(
                (const char *[]){"qemu-img", "convert", "--salvage", "-O", "raw", image, raw, NULL},
                50, NULL, &error),
            error);
    AUTO_FD fd = open(raw, O_RDONLY | O_CLOEXEC);
    for (uint64_t n = 0; n < cluster_count(bytes); n++) {
        ssize_t len = (ssize_t)MIN(CLUSTER_BYTES, bytes - n * CLUSTER_BYTES);
        g_autofree char *read =
            g_strdup_printf("read %" G_GUINT64_FORMAT " 512", n * CLUSTER_BYTES);
        g_autofree char *output = NULL;
        bool is_lost = cluster_ranges_has(lost, n);

        /* --salvage reads what is an error as zeros. */
        ck_assert_int_eq(pread(fd, got, (size_t)len, (off_t)(n * CLUSTER_BYTES)), len);
        ck_assert_int_eq(pread(chain->disk->fd, want, (size_t)len, (off_t)(n * CLUSTER_BYTES)),
                         len);
        if (is_lost)
            memset(want, 0, (size_t)len);
        ck_assert_msg(memcmp(want, got, (size_t)len) == 0, "cluster %" G_GUINT64_FORMAT, n);
        if (!is_lost)
            continue;
        process_run((const char *[]){"sh", "-c", "qemu-io -r -c \"$1\" \"$2\" 2>&1 || :", "sh",
                                     read, image, NULL},
                    50, &output, NULL);
        ck_assert_msg(strstr(output, "Input/output error"), "cluster %" G_GUINT64_FORMAT ": %s", n,
                      output);
    }
    unlink(raw);
}

static GArray *some_lost(void)
{
    GArray *lost = cluster_ranges_new();

    cluster_ranges_append(lost, 0, 1);
    cluster_ranges_append(lost, 12, 3);
    cluster_ranges_append(lost, 75, 1);
    cluster_ranges_append(lost, 130, 1); /* of which the disk has nothing */
    cluster_ranges_append(lost, 144, 1); /* the last, of which the disk has a part */
    return lost;
}

static void turn_bit(const char *image, uint64_t offset)
{
    AUTO_FD fd = open(image, O_RDWR | O_CLOEXEC);
    uint8_t byte;

    ck_assert_int_eq(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= 1;
    ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)offset), 1);
}

/* --- over the chain -------------------------------------------------------------------------- */

START_TEST(what_is_lost_is_an_error_and_the_rest_is_as_it_was)
{
    AUTO_CHAIN chain = chain_new();
    g_autoptr(GArray) lost = some_lost();
    g_autofree char *path = g_build_filename(chain.dir, "lost.qcow2", NULL);
    g_autoptr(GError) error = NULL;

    unit_ok(snapshot_write_lost(path, chain.images[0], chain.disk->bytes, lost, &error), error);
    qemu_checks(path);
    assert_reads(&chain, path, lost);
}
END_TEST

START_TEST(an_image_that_exists_is_not_overwritten)
{
    AUTO_CHAIN chain = chain_new();
    g_autoptr(GArray) lost = some_lost();
    g_autoptr(GError) error = NULL;

    unit_fails(
        snapshot_write_lost(chain.images[0], chain.images[1], chain.disk->bytes, lost, &error),
        error, ERROR_IO, "cannot make");
}
END_TEST

/* --- instead of the chain -------------------------------------------------------------------- */

static bool flatten(const struct chain *chain, const char *path, const GArray *lost, GError **error)
{
    return snapshot_flatten(path, chain->images, lost, NULL, "vda", error);
}

START_TEST(a_chain_becomes_one_image_with_what_is_left)
{
    AUTO_CHAIN chain = chain_new();
    g_autoptr(GArray) lost = cluster_ranges_new();
    g_autofree char *path = g_build_filename(chain.dir, "flat.qcow2", NULL);
    g_autoptr(GError) error = NULL;

    cluster_ranges_append(lost, 0, 1);
    cluster_ranges_append(lost, 12, 3);
    cluster_ranges_append(lost, 75, 1);
    cluster_ranges_append(lost, 144, 1);
    unit_ok(flatten(&chain, path, lost, &error), error);
    qemu_checks(path);
    unlink(chain.images[1]);
    assert_reads(&chain, path, lost);
}
END_TEST

START_TEST(damage_that_nobody_noted_is_not_passed_on)
{
    /* In the first cluster, which is plain, and in a frame behind all of these. */
    static const uint64_t offsets[] = {CLUSTER_BYTES + 7, 4 * MIB + CLUSTER_BYTES + 4000};
    AUTO_CHAIN chain = chain_new();
    g_autoptr(GArray) lost = cluster_ranges_new();
    g_autofree char *path = g_build_filename(chain.dir, "flat.qcow2", NULL);
    GError *error = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(offsets); i++) {
        turn_bit(chain.images[1], offsets[i]);
        unit_fails(flatten(&chain, path, lost, &error), error, ERROR_INTEGRITY, "cluster ");
        unlink(path);
        turn_bit(chain.images[1], offsets[i]);
    }
    unit_ok(flatten(&chain, path, lost, &error), error);
    assert_reads(&chain, path, lost);
}
END_TEST

static void note_unreadable(const char *image)
{
    g_autofree char *dir = g_path_get_dirname(image);
    AUTO(damage) damage = damage_new();
    g_autoptr(GError) error = NULL;

    damage_add(damage, "vda.qcow2", "a test")->unreadable = true;
    unit_ok(damage_save(dir, damage, &error), error);
}

START_TEST(layers_whose_tables_are_damaged_are_read_without_them)
{
    AUTO_CHAIN chain = chain_new();
    g_autoptr(GArray) lost = cluster_ranges_new();
    g_autofree char *path = g_build_filename(chain.dir, "flat.qcow2", NULL);
    g_autofree uint8_t *zeros = g_malloc0(CLUSTER_BYTES);
    g_autoptr(GError) error = NULL;
    struct stat status;

    for (unsigned i = 0; i < 2; i++) {
        AUTO_FD fd = open(chain.images[i], O_RDWR | O_CLOEXEC);

        /* All tables are behind the clusters. */
        ck_assert_int_eq(fstat(fd, &status), 0);
        for (off_t k = 1; k <= 4; k++)
            ck_assert_int_gt(
                pwrite(fd, zeros, CLUSTER_BYTES, status.st_size - k * (off_t)CLUSTER_BYTES), 0);
        note_unreadable(chain.images[i]);
    }
    unit_ok(flatten(&chain, path, lost, &error), error);
    assert_reads(&chain, path, lost);
}
END_TEST

START_TEST(a_disk_that_was_shrunk_and_grew_again_ends_in_zeros)
{
    AUTO_CHAIN chain = chain_new();
    g_autoptr(GArray) lost = cluster_ranges_new();
    g_autofree char *path = g_build_filename(chain.dir, "flat.qcow2", NULL);
    g_autoptr(GError) error = NULL;

    disk_resize(chain.disk, 30 * CLUSTER_BYTES + 1024);
    take(&chain, "20261120T221500.003Z");
    disk_resize(chain.disk, 8 * MIB);
    take(&chain, "20261120T221500.004Z");
    unit_ok(flatten(&chain, path, lost, &error), error);
    qemu_checks(path);
    assert_reads(&chain, path, lost);
}
END_TEST

int main(void)
{
    return UNIT_RUN("rescue", what_is_lost_is_an_error_and_the_rest_is_as_it_was,
                    an_image_that_exists_is_not_overwritten,
                    a_chain_becomes_one_image_with_what_is_left,
                    damage_that_nobody_noted_is_not_passed_on,
                    layers_whose_tables_are_damaged_are_read_without_them,
                    a_disk_that_was_shrunk_and_grew_again_ends_in_zeros);
}
