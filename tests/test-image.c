/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/bigendian.h"
#include "snapshot/qcow2.h"
#include "tests/disk.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* A small image with everything in it, held in memory so that a test can lie at any place of it. */
struct lie {
    char *path;
    int fd;
    size_t len;
    uint8_t *image;
    struct qcow2_header header;
};

static void lie_clear(struct lie *lie)
{
    close(lie->fd);
    g_free(lie->path);
    g_free(lie->image);
}
#define AUTO_LIE __attribute__((cleanup(lie_clear))) struct lie

static uint8_t *lie_l2(const struct lie *lie, uint32_t region)
{
    uint64_t entry = be64_get(lie->image + lie->header.l1_offset + 8 * (size_t)region);

    return lie->image + (entry & ~QCOW2_COPIED);
}

/* Clusters of an increment: 0 packed, 1 packed, 2 plain, 3 zero, 4 packed, 5 absent; 8192 packed,
 * 8193 plain in the second region, 8194 is beyond the disk. */
static struct lie lie_new(void)
{
    g_autofree char *dir = unit_dir();
    AUTO(disk) disk = disk_new(dir, 512 * MIB + CLUSTER_BYTES + 512, 42);
    AUTO(manifest) base = NULL;
    AUTO(manifest) delta = NULL;
    g_autoptr(GError) error = NULL;
    struct lie lie;

    base = disk_point(disk, "p0");
    disk_write(disk, 0, 2 * CLUSTER_BYTES, DISK_TEXT);
    disk_write(disk, 2 * CLUSTER_BYTES, CLUSTER_BYTES, DISK_RANDOM);
    disk_write(disk, 3 * CLUSTER_BYTES, CLUSTER_BYTES, DISK_ZERO);
    disk_write(disk, 4 * CLUSTER_BYTES, CLUSTER_BYTES, DISK_HALF);
    disk_write(disk, 512 * MIB, CLUSTER_BYTES, DISK_TEXT);
    disk_write(disk, 512 * MIB + CLUSTER_BYTES, 512, DISK_RANDOM);
    delta = disk_point(disk, "p1");
    lie.path = disk_image(disk, "p1");
    ck_assert(g_file_get_contents(lie.path, (char **)&lie.image, &lie.len, NULL));
    unit_ok(qcow2_header_decode(lie.image, lie.path, &lie.header, &error), error);
    lie.fd = open(lie.path, O_RDWR | O_CLOEXEC);
    return lie;
}

static void lie_tell(const struct lie *lie)
{
    ck_assert_int_eq(pwrite(lie->fd, lie->image, lie->len, 0), (ssize_t)lie->len);
}

/* What the image says now is refused, and PART and the path are in the message. */
static void refused(const struct lie *lie, const char *part)
{
    g_autoptr(GError) error = NULL;

    lie_tell(lie);
    ck_assert(!image_walk(lie->path, NULL, &error));
    ck_assert(strstr(error->message, lie->path) != NULL);
    unit_fails(error == NULL, error, ERROR_INTEGRITY, part);
}

/* Tell VALUE in the BYTES (4 or 8) at AT, see it refused, and be honest again. */
static void refused_value(const struct lie *lie, uint8_t *at, int bytes, uint64_t value,
                          const char *part)
{
    uint8_t honest[8];

    memcpy(honest, at, sizeof honest);
    if (bytes == 8)
        be64_put(at, value);
    else
        be32_put(at, (uint32_t)value);
    refused(lie, part);
    memcpy(at, honest, sizeof honest);
}

/* Our reader says of the newest point what the disk holds. */
static void check_agrees(const struct disk *disk)
{
    g_autofree char *path = disk_image(disk, disk->base);
    g_autofree uint8_t *truth = g_malloc(CLUSTER_BYTES), *plain = g_malloc(CLUSTER_BYTES),
                       *data = g_malloc(IMAGE_CLUSTER_MAX);
    g_autoptr(GError) error = NULL;
    AUTO(unpacker) unpacker = unpacker_new();
    AUTO(image) image = image_open(path, &error);
    struct image_cluster cluster;
    bool found;

    unit_ok(image != NULL, error);
    ck_assert_uint_eq(image_virtual_bytes(image), disk->bytes);
    for (;;) {
        unit_ok(image_next(image, &cluster, &found, &error), error);
        if (!found)
            break;
        memset(truth, 0, CLUSTER_BYTES);
        ck_assert_int_gt(
            pread(disk->fd, truth, CLUSTER_BYTES, (off_t)cluster.number * CLUSTER_BYTES), 0);
        unit_ok(fd_read_at(image_fd(image), cluster.offset, data, cluster.len, path, &error),
                error);
        unit_ok(image_cluster_unpack(&cluster, data, unpacker, path, plain, &error), error);
        ck_assert_mem_eq(plain, truth, CLUSTER_BYTES);
    }
    /* and goes on saying that this was all */
    unit_ok(image_next(image, &cluster, &found, &error) && !found, error);
}

START_TEST(the_reader_agrees_with_what_was_composed)
{
    g_autofree char *dir = unit_dir();
    AUTO(disk) disk = disk_new(dir, GIB + 1536, 1);

    for (unsigned i = 0; i < 4; i++) {
        g_autofree char *point = g_strdup_printf("p%u", i);
        AUTO(manifest) manifest = NULL;
        g_autofree char *path = NULL;
        g_autoptr(GError) error = NULL;
        uint64_t clusters;

        disk_scribble(disk, 0, 10 * MIB, 30);
        disk_scribble(disk, GIB - MIB, disk->bytes, 30);
        manifest = disk_point(disk, point);
        check_agrees(disk);
        path = disk_image(disk, point);
        unit_ok(image_walk(path, &clusters, &error), error);
        ck_assert_uint_eq(clusters * CLUSTER_BYTES, manifest_disk(manifest, "vda")->changed_bytes);
    }
}
END_TEST

START_TEST(the_backing_name_is_told)
{
    AUTO_LIE lie = lie_new();
    g_autoptr(GError) error = NULL;
    AUTO(image) image = image_open(lie.path, &error);

    unit_ok(image != NULL, error);
    ck_assert_str_eq(image_backing_name(image), "../p0/vda.qcow2");
    ck_assert_uint_eq(image_file_bytes(image), lie.len);
}
END_TEST

START_TEST(refuses_header_fields_that_are_not_ours)
{
    static const struct {
        int offset, bytes;
        uint64_t value;
        const char *part;
    } fields[] = {
        {0, 4, 0x514649fc, "magic"},
        {4, 4, 2, "version"},
        {8, 8, 120, "backing_file_offset"},
        {8, 8, 0, "backing_file_offset"},
        {8, 8, UINT64_MAX, "backing_file_offset"},
        {16, 4, 1024, "backing_file_size"},
        {16, 4, UINT32_MAX, "backing_file_size"},
        {16, 4, 0, "backing_file_size"},
        {16, 4, 16, "NUL"},
        {20, 4, 9, "cluster_bits"},
        {20, 4, 63, "cluster_bits"},
        {24, 8, 0, "size"},
        {24, 8, UINT64_MAX, "size"},
        {24, 8, 513, "size"},
        {24, 8, UINT64_C(1) << 40, "l1_size"},
        {32, 4, 1, "crypt_method"},
        {32, 4, 2, "crypt_method"},
        {36, 4, 1, "l1_size"},
        {36, 4, UINT32_MAX, "l1_size"},
        {40, 8, 0, "l1_table_offset"},
        {40, 8, 1, "l1_table_offset"},
        {40, 8, UINT64_MAX & ~UINT64_C(65535), "l1_table_offset"},
        {48, 8, 0, "refcount_table_offset"},
        {48, 8, UINT64_MAX & ~UINT64_C(65535), "refcount_table_offset"},
        {48, 8, CLUSTER_BYTES, "refcount_table_offset"},
        {56, 4, 0, "refcount_table_clusters"},
        {56, 4, 2, "refcount_table_offset"},
        {56, 4, UINT32_MAX, "refcount_table_clusters"},
        {60, 4, 1, "nb_snapshots"},
        {64, 8, CLUSTER_BYTES, "snapshots_offset"},
        {72, 8, 0, "incompatible_features"},
        {72, 8, 1 << 3 | 1 << 0, "incompatible_features"}, /* dirty */
        {72, 8, 1 << 3 | 1 << 1, "incompatible_features"}, /* corrupt */
        {72, 8, 1 << 3 | 1 << 2, "incompatible_features"}, /* external data file */
        {72, 8, 1 << 3 | 1 << 4, "incompatible_features"}, /* extended L2 */
        {72, 8, UINT64_C(1) << 63, "incompatible_features"},
        {80, 8, 1, "compatible_features"},
        {88, 8, 1, "autoclear_features"},
        {88, 8, 2, "autoclear_features"},
        {96, 4, 3, "refcount_order"},
        {96, 4, UINT32_MAX, "refcount_order"},
        {100, 4, 104, "header_length"},
        {100, 4, UINT32_MAX, "header_length"},
        {104, 4, 0, "compression_type"},
        {104, 4, 0x02000000, "compression_type"},
        {104, 4, 0x01000001, "byte 107"},
        {112, 4, 0x44415441, "byte 112"}, /* name of an external data file */
        {112, 4, 0, "byte 112"},          /* no format: QEMU would guess */
        {116, 4, UINT32_MAX, "byte 116"},
        {120, 4, 0x72617700, "byte 120"}, /* format raw */
        {128, 4, 0x23852875, "byte 128"}, /* bitmaps */
        {128, 4, 0x0537be77, "byte 128"}, /* encryption header */
        {132, 4, 8, "byte 135"},
        {60000, 8, 1, "byte 60007"},
    };
    AUTO_LIE lie = lie_new();

    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++)
        refused_value(&lie, lie.image + fields[i].offset, fields[i].bytes, fields[i].value,
                      fields[i].part);
}
END_TEST

START_TEST(refuses_l2_entries_that_lie)
{
    AUTO_LIE lie = lie_new();
    uint8_t *l2 = lie_l2(&lie, 0), *next = lie_l2(&lie, 1);
    uint64_t packed = be64_get(l2), plain = be64_get(l2 + 16) & ~QCOW2_COPIED;
    uint64_t table = (uint64_t)(l2 - lie.image);

    /* bits that no entry of ours has */
    refused_value(&lie, l2 + 16, 8, plain, "L2 entry");
    refused_value(&lie, l2 + 16, 8, plain | QCOW2_COPIED | QCOW2_ZERO, "L2 entry");
    refused_value(&lie, l2 + 16, 8, plain | QCOW2_COPIED | 512, "L2 entry");
    refused_value(&lie, l2, 8, packed | QCOW2_COPIED, "L2 entry");
    refused_value(&lie, l2 + 24, 8, 2, "L2 entry");
    /* outside of the file, and where something else lies */
    refused_value(&lie, l2 + 16, 8, QCOW2_COPIED, "cluster 2");
    refused_value(&lie, l2 + 16, 8, QCOW2_COPIED | lie.len, "cluster 2");
    refused_value(&lie, l2 + 16, 8, QCOW2_COPIED | UINT64_C(0x3fffffffffff0000), "cluster 2");
    refused_value(&lie, l2 + 16, 8, QCOW2_COPIED | table, "cluster 2");
    refused_value(&lie, l2 + 16, 8, QCOW2_COPIED | lie.header.l1_offset, "cluster 2");
    refused_value(&lie, l2 + 16, 8, QCOW2_COPIED | (plain - CLUSTER_BYTES), "cluster 2");
    refused_value(&lie, l2 + 8, 8, QCOW2_COMPRESSED | (lie.len - 100), "cluster 1");
    refused_value(&lie, l2 + 8, 8, QCOW2_COMPRESSED | (table - 100) | UINT64_C(1) << 54,
                  "cluster 1");
    refused_value(&lie, l2 + 8, 8, QCOW2_COMPRESSED | 100, "cluster 1");
    refused_value(&lie, l2 + 8, 8, QCOW2_COMPRESSED | QCOW2_PACKED_OFFSET_MASK, "cluster 1");
    refused_value(&lie, l2 + 8, 8, packed, "cluster 1"); /* the same frame twice */
    refused_value(&lie, l2 + 8, 8, packed | UINT64_C(0xff) << 54, "sectors");
    /* a cluster of an earlier region, and one beyond the disk */
    refused_value(&lie, next + 8, 8, plain | QCOW2_COPIED, "cluster 8193");
    refused_value(&lie, next + 16, 8, QCOW2_ZERO, "beyond the 8194 clusters");
    refused_value(&lie, next + 8 * 8191, 8, QCOW2_ZERO, "beyond the 8194 clusters");
    /* left out: then its refcount is too high */
    refused_value(&lie, l2 + 16, 8, 0, "refcount");
    refused_value(&lie, l2 + 16, 8, QCOW2_ZERO, "refcount");
}
END_TEST

START_TEST(refuses_l1_entries_that_lie)
{
    AUTO_LIE lie = lie_new();
    uint8_t *l1 = lie.image + lie.header.l1_offset;
    uint64_t first = be64_get(l1), second = be64_get(l1 + 8);

    refused_value(&lie, l1, 8, first & ~QCOW2_COPIED, "L1 entry 0");
    refused_value(&lie, l1, 8, first | 1, "L1 entry 0");
    refused_value(&lie, l1, 8, first | QCOW2_COMPRESSED, "L1 entry 0");
    refused_value(&lie, l1, 8, QCOW2_COPIED, "L1 entry 0");
    refused_value(&lie, l1, 8, second, "L1 entry 1");
    refused_value(&lie, l1 + 8, 8, first, "L1 entry 1");
    refused_value(&lie, l1 + 8, 8, QCOW2_COPIED | lie.len, "L1 entry 1");
    refused_value(&lie, l1 + 8, 8, QCOW2_COPIED | lie.header.l1_offset, "L1 entry 1");
    refused_value(&lie, l1 + 8, 8, UINT64_MAX & ~UINT64_C(65535), "L1 entry 1");
    refused_value(&lie, l1 + 8, 8, 0, "refcount");
}
END_TEST

START_TEST(refuses_refcounts_that_lie)
{
    AUTO_LIE lie = lie_new();
    uint8_t *table = lie.image + lie.header.refcount_table_offset;
    uint8_t *block = table - CLUSTER_BYTES;

    refused_value(&lie, table, 8, 0, "refcount table entry 0");
    refused_value(&lie, table, 8, CLUSTER_BYTES, "refcount table entry 0");
    refused_value(&lie, table, 8, UINT64_MAX, "refcount table entry 0");
    refused_value(&lie, table + 8, 8, CLUSTER_BYTES, "refcount table entry 1");
    refused_value(&lie, table + CLUSTER_BYTES - 8, 8, 1, "refcount table entry 8191");
    refused_value(&lie, block, 4, 0, "refcount of the cluster at 0x0");
    refused_value(&lie, block + CLUSTER_BYTES - 4, 4, 1, "refcount of the cluster at 0x7fff0000");
}
END_TEST

START_TEST(refuses_a_table_too_small_for_the_file)
{
    AUTO_LIE lie = lie_new();
    uint64_t far = UINT64_C(17) << 40;
    g_autoptr(GError) error = NULL;

    /* A sparse file whose last tables lie so far behind that one cluster of table cannot count it.
     */
    be64_put(lie.image + 48, far);
    lie_tell(&lie);
    if (ftruncate(lie.fd, (off_t)far + CLUSTER_BYTES) < 0)
        return; /* not on this file system */
    unit_fails(image_walk(lie.path, NULL, &error), error, ERROR_INTEGRITY, "refcount");
}
END_TEST

START_TEST(refuses_a_file_cut_off_anywhere)
{
    AUTO_LIE lie = lie_new();
    size_t step = 512;

    for (size_t len = lie.len; len-- > 0;) {
        g_autoptr(GError) error = NULL;

        if (len % step != 0 && len % step != step - 1 && len > 1200)
            continue;
        ck_assert_int_eq(ftruncate(lie.fd, (off_t)len), 0);
        ck_assert(!image_walk(lie.path, NULL, &error));
        ck_assert(error_is(error, ERROR_INTEGRITY));
    }
}
END_TEST

START_TEST(refuses_bytes_behind_the_end)
{
    AUTO_LIE lie = lie_new();
    g_autoptr(GError) error = NULL;

    ck_assert_int_eq(ftruncate(lie.fd, (off_t)lie.len + 1), 0);
    unit_fails(image_walk(lie.path, NULL, &error), error, ERROR_INTEGRITY, "refcount_table_offset");
    ck_assert_int_eq(ftruncate(lie.fd, (off_t)lie.len + CLUSTER_BYTES), 0);
    unit_fails(image_walk(lie.path, NULL, &error), error, ERROR_INTEGRITY, "refcount_table_offset");
}
END_TEST

/* May a header differ so and still be accepted? Only in what snapshot_check_point() compares with
 * the manifest: the size, within one cluster, and the characters of the backing name. */
static bool is_compared_later(size_t byte)
{
    return (byte >= 24 && byte < 32) || (byte >= 136 && byte < 136 + strlen("../p0/vda.qcow2"));
}

START_TEST(every_flipped_bit_of_the_header_is_refused_or_compared_later)
{
    AUTO_LIE lie = lie_new();

    for (size_t i = 0; i < CLUSTER_BYTES; i += i < 400 ? 1 : 331)
        for (unsigned bit = 0; bit < 8; bit++) {
            uint8_t flipped = (uint8_t)(lie.image[i] ^ 1 << bit);
            g_autoptr(GError) error = NULL;

            ck_assert_int_eq(pwrite(lie.fd, &flipped, 1, (off_t)i), 1);
            if (image_walk(lie.path, NULL, &error))
                ck_assert_msg(is_compared_later(i), "bit %u of byte %zu", bit, i);
            else
                ck_assert(error_is(error, ERROR_INTEGRITY));
            ck_assert_int_eq(pwrite(lie.fd, lie.image + i, 1, (off_t)i), 1);
        }
}
END_TEST

/* Flip each bit of LEN bytes of a table. What is accepted must be a packed cluster whose place has
 * moved within a gap: then only its content can tell, and verification does. */
static void flip_table(const struct lie *lie, size_t start, size_t len, bool may_move)
{
    for (size_t i = start; i < start + len; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            uint8_t flipped = (uint8_t)(lie->image[i] ^ 1 << bit);
            g_autoptr(GError) error = NULL;

            ck_assert_int_eq(pwrite(lie->fd, &flipped, 1, (off_t)i), 1);
            if (image_walk(lie->path, NULL, &error))
                ck_assert_msg(may_move && lie->image[start] & 0x40, "bit %u of byte %zu", bit, i);
            else
                ck_assert(error_is(error, ERROR_INTEGRITY));
            ck_assert_int_eq(pwrite(lie->fd, lie->image + i, 1, (off_t)i), 1);
        }
}

START_TEST(every_flipped_bit_of_the_tables_is_refused_or_moves_a_frame)
{
    AUTO_LIE lie = lie_new();
    uint64_t l2 = (uint64_t)(lie_l2(&lie, 0) - lie.image);

    flip_table(&lie, lie.header.l1_offset, 16, false);
    for (unsigned i = 0; i < 6; i++)
        if (i != 3 && i != 5) /* a zero cluster may come or go: its digest tells */
            flip_table(&lie, l2 + 8 * i, 8, true);
    flip_table(&lie, lie.header.refcount_table_offset, 32, false);
    flip_table(&lie, lie.header.refcount_table_offset - CLUSTER_BYTES, 64, false);
    flip_table(&lie, lie.header.refcount_table_offset - 64, 64, false);
}
END_TEST

START_TEST(refuses_what_is_not_a_regular_file)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *fifo = g_build_filename(dir, "fifo", NULL);
    g_autofree char *missing = g_build_filename(dir, "missing", NULL);
    g_autofree char *link = g_build_filename(dir, "link", NULL);
    g_autoptr(GError) error = NULL;
    AUTO_LIE lie = lie_new();

    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    ck_assert_int_eq(symlink(lie.path, link), 0);
    unit_fails(image_open(fifo, &error), error, ERROR_INTEGRITY, "not a regular file");
    unit_fails(image_open(dir, &error), error, ERROR_INTEGRITY, "not a regular file");
    unit_fails(image_open(link, &error), error, ERROR_INTEGRITY, "not a regular file");
    unit_fails(image_open(missing, &error), error, ERROR_INTEGRITY, "missing");
}
END_TEST

START_TEST(refuses_images_that_others_made)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *path = g_build_filename(dir, "other.qcow2", NULL);
    g_autoptr(GError) error = NULL;

    unit_ok(process_run((const char *[]){"qemu-img", "create", "-q", "-f", "qcow2", "-o",
                                         "compression_type=zstd", path, "64M", NULL},
                        50, NULL, &error),
            error);
    unit_fails(image_walk(path, NULL, &error), error, ERROR_INTEGRITY, path);
}
END_TEST

int main(void)
{
    return UNIT_RUN("image", the_reader_agrees_with_what_was_composed, the_backing_name_is_told,
                    refuses_header_fields_that_are_not_ours, refuses_l2_entries_that_lie,
                    refuses_l1_entries_that_lie, refuses_refcounts_that_lie,
                    refuses_a_table_too_small_for_the_file, refuses_a_file_cut_off_anywhere,
                    refuses_bytes_behind_the_end,
                    every_flipped_bit_of_the_header_is_refused_or_compared_later,
                    every_flipped_bit_of_the_tables_is_refused_or_moves_a_frame,
                    refuses_what_is_not_a_regular_file, refuses_images_that_others_made);
}
