/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is found in images that were cut off or damaged: every cluster that is told has the content of
 * the disk, and nothing that could be told is missing.
 */
#include "tests/disk.h"

#include <inttypes.h>

#include "snapshot/digests.h"
#include "snapshot/salvage.h"

#define MIB ((uint64_t)1 << 20)
#define DISK_BYTES (1200 * MIB) /* three tables */
#define SEED 7u

/* What was told, and compared with the disk. */
struct told {
    struct disk *disk;
    char **dirs;
    struct unpacker *unpacker;
    uint64_t clusters;
    uint64_t last;
    GHashTable *from; /* partial -> how many */
};

static void compare(struct told *told, const struct salvaged *salvaged)
{
    g_autofree char *path =
        g_build_filename(told->dirs[salvaged->place.partial], "vda.qcow2", NULL);
    g_autofree uint8_t *stored = g_malloc0(CLUSTER_BYTES);
    g_autofree uint8_t *plain = g_malloc0(CLUSTER_BYTES);
    g_autofree uint8_t *want = g_malloc0(CLUSTER_BYTES);
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    ck_assert_int_eq(pread(fd, stored, salvaged->len, (off_t)salvaged->place.offset),
                     (ssize_t)salvaged->len);
    close(fd);
    if (salvaged->kind == CLUSTER_PACKED)
        ck_assert(cluster_unpack(told->unpacker, stored, salvaged->len, plain));
    else
        memcpy(plain, stored, CLUSTER_BYTES);
    ck_assert_int_gt(
        pread(told->disk->fd, want, CLUSTER_BYTES, (off_t)salvaged->cluster * CLUSTER_BYTES), 0);
    ck_assert_mem_eq(plain, want, CLUSTER_BYTES);
}

static bool take_told(void *context, const void *data, size_t len, GError **error)
{
    struct told *told = context;
    const uint8_t *record = data;

    ck_assert_uint_eq(len % SALVAGED_BYTES, 0);
    for (size_t at = 0; at < len; at += SALVAGED_BYTES) {
        struct salvaged salvaged;
        void *partial;

        unit_ok(salvaged_decode(record + at, &salvaged, error), *error);
        ck_assert(told->clusters == 0 || salvaged.cluster > told->last);
        compare(told, &salvaged);
        told->last = salvaged.cluster;
        told->clusters++;
        partial = GUINT_TO_POINTER(salvaged.place.partial);
        g_hash_table_insert(
            told->from, partial,
            GUINT_TO_POINTER(GPOINTER_TO_UINT(g_hash_table_lookup(told->from, partial)) + 1));
    }
    return true;
}

/* How many clusters are told of POINTS, the newest first; *FROM_FIRST of them in the first. */
static uint64_t salvage(struct disk *disk, const char *const *points, unsigned *from_first)
{
    struct told told = {.disk = disk, .dirs = g_new0(char *, g_strv_length((char **)points) + 1)};
    g_autoptr(GHashTable) from = g_hash_table_new(NULL, NULL);
    g_autoptr(GError) error = NULL;

    told.unpacker = unpacker_new();
    told.from = from;
    for (unsigned i = 0; points[i]; i++)
        told.dirs[i] = g_build_filename(disk->dir, points[i], NULL);
    unit_ok(snapshot_salvage(told.dirs, "vda", take_told, &told, &error), error);
    if (from_first)
        *from_first = GPOINTER_TO_UINT(g_hash_table_lookup(from, GUINT_TO_POINTER(0)));
    unpacker_free(told.unpacker);
    g_strfreev(told.dirs);
    return told.clusters;
}

static uint64_t salvage_one(struct disk *disk, const char *point)
{
    const char *const points[] = {point, NULL};

    return salvage(disk, points, NULL);
}

static char *digests_path(const struct disk *disk, const char *point)
{
    return g_build_filename(disk->dir, point, "vda.digests", NULL);
}

static uint64_t file_bytes(const char *path)
{
    struct stat st;

    ck_assert_int_eq(stat(path, &st), 0);
    return (uint64_t)st.st_size;
}

static void cut(const char *path, uint64_t bytes)
{
    ck_assert_int_eq(truncate(path, (off_t)bytes), 0);
}

static void flip(const char *path, uint64_t offset)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte;

    ck_assert_int_eq(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= 0x10;
    ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

static uint64_t count_digests(const char *path)
{
    g_autoptr(GError) error = NULL;
    AUTO(digest_reader) reader = digest_reader_open(path, DISK_BYTES, &error);
    struct digest_record record;
    uint64_t count = 0;

    unit_ok(reader, error);
    for (bool found = true; found; count += found)
        unit_ok(digest_reader_next(reader, &record, &found, &error), error);
    return count;
}

/* A disk with something everywhere, and its first point. *STORED: clusters that are not zero. */
static struct disk *disk_with_point(const char *dir, uint64_t *stored)
{
    struct disk *disk = disk_new(dir, DISK_BYTES, SEED);
    g_autofree char *digests = digests_path(disk, "p1");

    disk_scribble(disk, 0, DISK_BYTES, 60);
    disk_write(disk, 700 * MIB, 3 * MIB, DISK_RANDOM);
    manifest_free(disk_point(disk, "p1"));
    *stored = count_digests(digests);
    return disk;
}

START_TEST(all_of_a_whole_image_is_found)
{
    g_autofree char *dir = unit_dir();
    uint64_t stored;
    AUTO(disk) disk = disk_with_point(dir, &stored);

    ck_assert_uint_gt(stored, 100);
    ck_assert_uint_eq(salvage_one(disk, "p1"), stored);
}
END_TEST

START_TEST(explicit_zeros_take_no_place)
{
    g_autofree char *dir = unit_dir();
    uint64_t stored;
    AUTO(disk) disk = disk_with_point(dir, &stored);

    disk_write(disk, 500 * MIB, MIB, DISK_RANDOM);
    disk_write(disk, 511 * MIB, 2 * MIB, DISK_ZERO);
    disk_write(disk, 800 * MIB, MIB, DISK_TEXT);
    disk_write(disk, 1100 * MIB, MIB, DISK_RANDOM);
    manifest_free(disk_point(disk, "p2"));
    ck_assert_uint_eq(salvage_one(disk, "p2"), 48);
}
END_TEST

/* What is left when the files end anywhere only grows with them. */
START_TEST(a_cut_costs_what_lies_behind_it)
{
    g_autofree char *dir = unit_dir();
    uint64_t stored, before = UINT64_MAX, bytes;
    AUTO(disk) disk = disk_with_point(dir, &stored);
    g_autofree char *image = disk_image(disk, "p1");

    bytes = file_bytes(image);
    for (unsigned i = 1; i <= 16; i++) {
        uint64_t left;

        cut(image, bytes - i * (bytes / 17) - i % 3);
        left = salvage_one(disk, "p1");
        ck_assert_uint_le(left, before);
        before = left;
    }
    ck_assert_uint_gt(before, 0);
    ck_assert_uint_lt(before, stored / 8);
    cut(image, CLUSTER_BYTES);
    ck_assert_uint_eq(salvage_one(disk, "p1"), 0);
    cut(image, 0);
    ck_assert_uint_eq(salvage_one(disk, "p1"), 0);
}
END_TEST

START_TEST(without_digests_nothing_is_known)
{
    g_autofree char *dir = unit_dir();
    uint64_t stored;
    AUTO(disk) disk = disk_with_point(dir, &stored);
    g_autofree char *digests = digests_path(disk, "p1");

    cut(digests, DIGESTS_HEADER_BYTES + 50 * DIGESTS_RECORD_BYTES + 7);
    ck_assert_uint_eq(salvage_one(disk, "p1"), 50);
    cut(digests, DIGESTS_HEADER_BYTES);
    ck_assert_uint_eq(salvage_one(disk, "p1"), 0);
    cut(digests, DIGESTS_HEADER_BYTES - 1);
    ck_assert_uint_eq(salvage_one(disk, "p1"), 0);
    ck_assert_int_eq(unlink(digests), 0);
    ck_assert_uint_eq(salvage_one(disk, "p1"), 0);
}
END_TEST

START_TEST(a_changed_bit_ends_it_there)
{
    g_autofree char *dir = unit_dir();
    uint64_t stored, left;
    AUTO(disk) disk = disk_with_point(dir, &stored);
    g_autofree char *image = disk_image(disk, "p1");
    g_autofree char *digests = digests_path(disk, "p1");

    flip(image, file_bytes(image) / 2);
    left = salvage_one(disk, "p1");
    ck_assert_uint_gt(left, stored / 8);
    ck_assert_uint_lt(left, stored);
    flip(digests, DIGESTS_HEADER_BYTES + 20 * DIGESTS_RECORD_BYTES + 9);
    ck_assert_uint_eq(salvage_one(disk, "p1"), 20);
    /* The number of a cluster: what it is of is not what it says. */
    flip(digests, DIGESTS_HEADER_BYTES + 10 * DIGESTS_RECORD_BYTES);
    ck_assert_uint_eq(salvage_one(disk, "p1"), 10);
}
END_TEST

START_TEST(a_link_is_not_followed)
{
    g_autofree char *dir = unit_dir();
    uint64_t stored;
    AUTO(disk) disk = disk_with_point(dir, &stored);
    g_autofree char *image = disk_image(disk, "p1");
    g_autofree char *moved = g_strconcat(image, ".moved", NULL);

    ck_assert_int_eq(rename(image, moved), 0);
    ck_assert_int_eq(symlink(moved, image), 0);
    ck_assert_uint_eq(salvage_one(disk, "p1"), 0);
}
END_TEST

START_TEST(of_several_the_first_tells_and_the_others_fill_in)
{
    g_autofree char *dir = unit_dir();
    uint64_t stored, in_cut;
    AUTO(disk) disk = disk_with_point(dir, &stored);
    static const char *const points[] = {"p2", "p1", "missing", NULL};
    g_autofree char *image = NULL;
    unsigned from_first;

    /* The same once more, cut in half: an attempt that came less far. */
    g_clear_pointer(&disk->base, g_free);
    for (uint64_t at = 0; at < DISK_BYTES; at += CLUSTER_BYTES) {
        uint64_t *key = g_new(uint64_t, 1);

        *key = at / CLUSTER_BYTES;
        g_tree_insert(disk->dirty, key, key);
    }
    manifest_free(disk_point(disk, "p2"));
    image = disk_image(disk, "p2");
    cut(image, file_bytes(image) / 2);
    in_cut = salvage_one(disk, "p2");
    ck_assert_uint_gt(in_cut, 0);
    ck_assert_uint_lt(in_cut, stored);
    ck_assert_uint_eq(salvage(disk, points, &from_first), stored);
    ck_assert_uint_eq(from_first, in_cut);
}
END_TEST

/* --- Composing with what is there --- */

struct borrowing {
    struct disk_files files;
    int from; /* image of the partial */
    uint64_t written, borrowed;
};

static bool image_bytes(void *context, uint64_t offset, const void *data, size_t len,
                        GError **error)
{
    struct borrowing *self = context;

    self->written += len;
    return disk_write_image(&self->files, offset, data, len, error);
}

static bool digest_bytes(void *context, uint64_t offset, const void *data, size_t len,
                         GError **error)
{
    return disk_write_digests(&((struct borrowing *)context)->files, offset, data, len, error);
}

static bool borrow_bytes(void *context, uint64_t offset, size_t len,
                         const struct partial_place *from, GError **error)
{
    struct borrowing *self = context;
    g_autofree uint8_t *data = g_malloc(len);

    ck_assert_uint_eq(from->partial, 0);
    ck_assert_int_eq(pread(self->from, data, len, (off_t)from->offset), (ssize_t)len);
    self->borrowed += len;
    return disk_write_image(&self->files, offset, data, len, error);
}

/* Write cluster RECORD->cluster of the disk anew: what is there is borrowed. */
static void compose_cluster(struct disk *disk, struct composer *composer, struct packer *packer,
                            uint64_t cluster, struct salvage *salvage, struct salvaged *next,
                            bool *more)
{
    g_autofree uint8_t *plain = g_malloc0(CLUSTER_BYTES);
    g_autoptr(GError) error = NULL;
    struct disk_composing composing = {disk, composer, packer};
    uint8_t digest[DIGEST_SIZE];

    while (*more && next->cluster < cluster)
        *more = salvage_next(salvage, next);
    ck_assert_int_gt(pread(disk->fd, plain, CLUSTER_BYTES, (off_t)cluster * CLUSTER_BYTES), 0);
    digest_buffer(plain, CLUSTER_BYTES, digest);
    if (*more && next->cluster == cluster && memcmp(next->digest, digest, DIGEST_SIZE) == 0)
        unit_ok(composer_borrowed(composer, cluster, next->kind, &next->place, next->len, digest,
                                  &error),
                error);
    else
        disk_compose_cluster(&cluster, NULL, &composing);
}

/* Compose the whole disk as point "p2", with what there is of "p1"; what had to be written. */
static struct borrowing compose_again(struct disk *disk)
{
    g_autofree char *from = disk_image(disk, "p1");
    g_autofree char *from_digests = digests_path(disk, "p1");
    g_autofree char *dir = g_build_filename(disk->dir, "p2", NULL);
    g_autofree char *image = disk_image(disk, "p2");
    g_autofree char *digests = digests_path(disk, "p2");
    g_autoptr(GError) error = NULL;
    AUTO(salvage) salvage = salvage_open(from, from_digests, 0, &error);
    AUTO(packer) packer = packer_new(1);
    struct borrowing self = {.from = open(from, O_RDONLY | O_CLOEXEC)};
    struct composer_totals totals;
    struct salvaged next;
    bool more;

    unit_ok(salvage, error);
    ck_assert_int_eq(mkdir(dir, 0700), 0);
    disk_files_open(&self.files, image, digests);
    struct composer_output output = {
        .image = image_bytes, .digests = digest_bytes, .context = &self, .borrow = borrow_bytes};
    AUTO(composer) composer = composer_new(output, DISK_BYTES, NULL, &error);
    unit_ok(composer, error);
    more = salvage_next(salvage, &next);
    for (uint64_t cluster = 0; cluster < DISK_BYTES / CLUSTER_BYTES; cluster++)
        compose_cluster(disk, composer, packer, cluster, salvage, &next, &more);
    unit_ok(composer_finish(composer, &totals, &error), error);
    disk_files_close(&self.files, &totals);
    close(self.from);
    return self;
}

START_TEST(an_image_of_what_is_there_and_what_is_new_is_right)
{
    g_autofree char *dir = unit_dir();
    uint64_t stored;
    AUTO(disk) disk = disk_with_point(dir, &stored);
    g_autofree char *image = disk_image(disk, "p1");
    g_autofree char *again = disk_image(disk, "p2");
    struct borrowing borrowing;

    cut(image, file_bytes(image) * 3 / 4);
    disk_scribble(disk, 0, DISK_BYTES, 10);
    borrowing = compose_again(disk);
    ck_assert_uint_gt(borrowing.borrowed, borrowing.written / 2);
    qemu_checks(again);
    qemu_compares(disk->raw, again);
    ck_assert_uint_gt(salvage_one(disk, "p2"), stored / 2);
}
END_TEST

START_TEST(records_that_cannot_be_are_refused)
{
    struct salvaged salvaged = {.cluster = 3, .kind = CLUSTER_PACKED, .len = 77};
    uint8_t record[SALVAGED_BYTES];
    static const uint32_t wrong[] = {0, CLUSTER_PACKED_MAX + 1, CLUSTER_BYTES - 1,
                                     CLUSTER_BYTES + 1, UINT32_MAX};
    g_autoptr(GError) error = NULL;

    salvaged_encode(&salvaged, record);
    unit_ok(salvaged_decode(record, &salvaged, &error), error);
    ck_assert_uint_eq(salvaged.len, 77);
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        salvaged.len = wrong[i];
        salvaged_encode(&salvaged, record);
        unit_fails(salvaged_decode(record, &salvaged, &error), error, ERROR_INTEGRITY,
                   "a cluster of");
    }
}
END_TEST

int main(void)
{
    return UNIT_RUN("salvage", all_of_a_whole_image_is_found, explicit_zeros_take_no_place,
                    a_cut_costs_what_lies_behind_it, without_digests_nothing_is_known,
                    a_changed_bit_ends_it_there, a_link_is_not_followed,
                    of_several_the_first_tells_and_the_others_fill_in,
                    an_image_of_what_is_there_and_what_is_new_is_right,
                    records_that_cannot_be_are_refused);
}
