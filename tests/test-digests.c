/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <inttypes.h>

#include "snapshot/digests.h"
#include "tests/unit.h"

#define DISK_BYTES (UINT64_C(1) << 34)
#define DISK_CLUSTERS (DISK_BYTES >> 16)
#define HEADER DIGESTS_HEADER_BYTES
#define RECORD DIGESTS_RECORD_BYTES

static bool append(void *context, uint64_t offset, const void *data, size_t len, GError **error)
{
    GByteArray *bytes = context;

    ck_assert_uint_eq(offset, bytes->len);
    g_byte_array_append(bytes, data, (guint)len);
    return true;
}

/* The digest of a cluster in these tests: its number, repeated. */
static void fill_digest(uint64_t cluster, uint8_t digest[DIGEST_SIZE])
{
    for (size_t i = 0; i < DIGEST_SIZE; i++)
        digest[i] = (uint8_t)(cluster >> (i % 8));
}

/* A file with COUNT records for clusters 0, 3, 6 ... */
static GByteArray *make(uint64_t count)
{
    GByteArray *bytes = g_byte_array_new();
    AUTO(digest_writer) writer = digest_writer_new(append, bytes, DISK_BYTES);
    g_autoptr(GError) error = NULL;
    uint8_t digest[DIGEST_SIZE];
    uint64_t len;

    for (uint64_t i = 0; i < count; i++) {
        fill_digest(3 * i, digest);
        unit_ok(digest_writer_add(writer, 3 * i, digest, &error), error);
    }
    unit_ok(digest_writer_finish(writer, &len, &error), error);
    ck_assert_uint_eq(len, bytes->len);
    return bytes;
}

static char *store(const GByteArray *bytes, size_t len)
{
    g_autofree char *dir = unit_dir();
    char *path = g_build_filename(dir, "vda.digests", NULL);

    ck_assert(g_file_set_contents(path, (const char *)bytes->data, (gssize)len, NULL));
    return path;
}

/* Read all records. */
static bool read_all(const char *path, uint64_t virtual_bytes, GError **error)
{
    AUTO(digest_reader) reader = digest_reader_open(path, virtual_bytes, error);
    struct digest_record record;
    bool found;

    if (!reader)
        return false;
    for (;;) {
        if (!digest_reader_next(reader, &record, &found, error))
            return false;
        if (!found)
            break;
        ck_assert_uint_lt(record.cluster, virtual_bytes >> 16);
    }
    return true;
}

/* BYTES as a file is refused with PART in the message. */
static void refused(const GByteArray *bytes, const char *part)
{
    g_autofree char *path = store(bytes, bytes->len);
    g_autoptr(GError) error = NULL;

    unit_fails(read_all(path, DISK_BYTES, &error), error, ERROR_INTEGRITY, part);
}

START_TEST(what_was_written_is_read)
{
    static const uint64_t counts[] = {0, 1, 1599, 1600, 1601, 20000};

    for (size_t i = 0; i < G_N_ELEMENTS(counts); i++) {
        g_autoptr(GByteArray) bytes = make(counts[i]);
        g_autofree char *path = store(bytes, bytes->len);
        g_autoptr(GError) error = NULL;
        AUTO(digest_reader) reader = digest_reader_open(path, DISK_BYTES, &error);
        struct digest_record record;
        uint8_t expected[DIGEST_SIZE];
        bool found;

        unit_ok(reader != NULL, error);
        for (uint64_t k = 0; k < counts[i]; k++) {
            unit_ok(digest_reader_next(reader, &record, &found, &error), error);
            fill_digest(3 * k, expected);
            ck_assert(found && record.cluster == 3 * k);
            ck_assert_mem_eq(record.digest, expected, DIGEST_SIZE);
        }
        unit_ok(digest_reader_next(reader, &record, &found, &error), error);
        ck_assert(!found);
    }
}
END_TEST

START_TEST(the_bytes_are_as_documented)
{
    g_autoptr(GByteArray) bytes = make(2);
    static const uint8_t header[] = {'d', 'r', 'c', 't', 'l', 'd', 'i', 'g', 0, 0, 0, 1,
                                     0,   0,   0,   16,  0,   0,   0,   4,   0, 0, 0, 0};
    static const uint8_t second[] = {0, 0, 0, 0, 0, 0, 0, 3};
    static const uint8_t trailer[] = {'d', 'r', 'c', 't', 'l', 'e', 'n', 'd',
                                      0,   0,   0,   0,   0,   0,   0,   2};

    ck_assert_uint_eq(bytes->len, 24 + 2 * 40 + 16);
    ck_assert_mem_eq(bytes->data, header, sizeof header);
    ck_assert_mem_eq(bytes->data + 24 + 40, second, sizeof second);
    ck_assert_mem_eq(bytes->data + 24 + 80, trailer, sizeof trailer);
}
END_TEST

START_TEST(refuses_a_file_cut_off_anywhere)
{
    g_autoptr(GByteArray) bytes = make(4);

    for (guint len = 0; len < bytes->len; len++) {
        g_autofree char *path = store(bytes, len);
        g_autoptr(GError) error = NULL;

        unit_fails(read_all(path, DISK_BYTES, &error), error, ERROR_INTEGRITY, path);
    }
}
END_TEST

START_TEST(refuses_bytes_behind_the_end)
{
    g_autoptr(GByteArray) bytes = make(4);

    for (unsigned i = 0; i < 2 * RECORD; i++) {
        g_byte_array_append(bytes, (const uint8_t *)"", 1);
        refused(bytes, "trailer");
    }
}
END_TEST

START_TEST(refuses_clusters_out_of_order)
{
    g_autoptr(GByteArray) bytes = make(4);

    memmove(bytes->data + HEADER, bytes->data + HEADER + RECORD, RECORD);
    refused(bytes, "not in order");
}
END_TEST

START_TEST(refuses_clusters_beyond_the_disk)
{
    g_autoptr(GByteArray) bytes = make(4);
    uint8_t *last = bytes->data + HEADER + 3 * RECORD;

    last[3] = 1;
    refused(bytes, "of a disk of");
    last[3] = 0;
    memcpy(last, (const uint8_t[]){0, 0, 0, 0, 0, 4, 0, 0}, 8); /* the first that is too high */
    refused(bytes, "of a disk of");
    memcpy(last, (const uint8_t[]){0, 0, 0, 0, 0, 3, 0xff, 0xff}, 8);
    g_autofree char *path = store(bytes, bytes->len);
    g_autoptr(GError) error = NULL;
    unit_ok(read_all(path, DISK_BYTES, &error), error);
}
END_TEST

START_TEST(refuses_a_count_that_lies)
{
    g_autoptr(GByteArray) bytes = make(4);
    uint8_t *count = bytes->data + bytes->len - 8;

    count[7] = 5;
    refused(bytes, "records that the trailer tells");
    count[7] = 3;
    refused(bytes, "records that the trailer tells");
    /* 40 * count wraps around to what is there */
    count[7] = 4;
    count[0] = 0x20;
    refused(bytes, "records that the trailer tells");
}
END_TEST

START_TEST(refuses_more_records_than_the_disk_has_clusters)
{
    g_autoptr(GByteArray) bytes = make(4);
    g_autofree char *path = NULL;
    g_autoptr(GError) error = NULL;

    memcpy(bytes->data + 16, (const uint8_t[]){0, 0, 0, 0, 0, 3, 0, 0}, 8);
    path = store(bytes, bytes->len);
    unit_fails(read_all(path, 3 << 16, &error), error, ERROR_INTEGRITY, "4 records");
}
END_TEST

START_TEST(refuses_the_digests_of_another_disk)
{
    g_autoptr(GByteArray) bytes = make(4);
    g_autofree char *path = store(bytes, bytes->len);
    g_autoptr(GError) error = NULL;

    unit_fails(read_all(path, DISK_BYTES + 512, &error), error, ERROR_INTEGRITY, "and not of");
}
END_TEST

START_TEST(every_flipped_bit_of_header_and_trailer_is_refused)
{
    g_autoptr(GByteArray) bytes = make(4);

    for (guint i = 0; i < bytes->len; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            if (i >= HEADER && i < bytes->len - DIGESTS_TRAILER_BYTES)
                continue;
            bytes->data[i] ^= (uint8_t)(1 << bit);
            refused(bytes, "vda.digests");
            bytes->data[i] ^= (uint8_t)(1 << bit);
        }
}
END_TEST

START_TEST(refuses_what_is_not_a_regular_file)
{
    g_autofree char *dir = unit_dir();
    g_autoptr(GByteArray) bytes = make(1);
    g_autofree char *path = store(bytes, bytes->len);
    g_autofree char *link = g_build_filename(dir, "link", NULL);
    g_autofree char *missing = g_build_filename(dir, "missing", NULL);
    g_autoptr(GError) error = NULL;

    ck_assert_int_eq(symlink(path, link), 0);
    unit_fails(digest_reader_open(link, DISK_BYTES, &error), error, ERROR_INTEGRITY,
               "not a regular file");
    unit_fails(digest_reader_open(dir, DISK_BYTES, &error), error, ERROR_INTEGRITY,
               "not a regular file");
    unit_fails(digest_reader_open(missing, DISK_BYTES, &error), error, ERROR_INTEGRITY, "missing");
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "digests", what_was_written_is_read, the_bytes_are_as_documented,
        refuses_a_file_cut_off_anywhere, refuses_bytes_behind_the_end,
        refuses_clusters_out_of_order, refuses_clusters_beyond_the_disk, refuses_a_count_that_lies,
        refuses_more_records_than_the_disk_has_clusters, refuses_the_digests_of_another_disk,
        every_flipped_bit_of_header_and_trailer_is_refused, refuses_what_is_not_a_regular_file);
}
