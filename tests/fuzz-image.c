/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of all that reads files of recovery points. The first byte of the input says what the
 * rest is:
 *
 *     'i'  lies about a good image: {place, offset u16, 8 bytes} each; places are in enum place
 *     'h'  the beginning of a header cluster, whose rest is good
 *     'd'  a digests file
 *     'z'  a packed cluster
 *
 * Random bytes would never get past the magic of an image; lies about a good one do.
 */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <unistd.h>

#include "snapshot/bigendian.h"
#include "snapshot/composer.h"
#include "snapshot/image.h"
#include "snapshot/qcow2.h"
#include "tests/fuzz.h"

#define DISK_BYTES (2 * QCOW2_REGION_BYTES + 512)
#define IMAGE_MAX (1u << 20)
#define LIE_BYTES 11

enum place { PLACE_HEADER, PLACE_L1, PLACE_L2, PLACE_BLOCK, PLACE_TABLE, PLACE_LENGTH, PLACES };

/* Built once. */
static uint8_t good[IMAGE_MAX];
static uint64_t good_len;
static uint64_t places[PLACES];
static char *dir, *path;
static int fd = -1;

static bool write_good(void *context, uint64_t offset, const void *data, size_t len, GError **error)
{
    g_assert(offset + len <= IMAGE_MAX);
    memcpy(good + offset, data, len);
    good_len = MAX(good_len, offset + len);
    return true;
}

static bool write_nothing(void *context, uint64_t offset, const void *data, size_t len,
                          GError **error)
{
    return true;
}

static void clean_up(void)
{
    close(fd);
    g_unlink(path);
    g_rmdir(dir);
    g_free(path);
    g_free(dir);
}

/* Clusters of all kinds in two regions. */
static void compose_good(void)
{
    struct composer_output output = {.image = write_good, .digests = write_nothing};
    g_autofree uint8_t *plain = g_malloc0(CLUSTER_BYTES), *packed = g_malloc0(CLUSTER_PACKED_MAX);
    uint8_t digest[DIGEST_SIZE];
    AUTO(packer) packer = packer_new(1);
    AUTO(composer) composer = composer_new(output, DISK_BYTES, "../p0/vda.qcow2", NULL);
    size_t len;

    memset(plain, 'x', 1000);
    cluster_digest(plain, digest);
    fuzz_require(cluster_pack(packer, plain, packed, &len) == CLUSTER_PACKED);
    for (uint64_t n = 0; n < 4; n++)
        fuzz_require(composer_packed(composer, n, packed, len, digest, NULL));
    fuzz_require(composer_plain(composer, 4, plain, digest, NULL));
    fuzz_require(composer_zero(composer, 5, 2, NULL));
    fuzz_require(composer_packed(composer, QCOW2_L2_ENTRIES + 1, packed, len, digest, NULL));
    fuzz_require(composer_plain(composer, 2 * QCOW2_L2_ENTRIES, plain, digest, NULL));
    fuzz_require(composer_finish(composer, NULL, NULL));
}

static void prepare(void)
{
    struct qcow2_header header;

    compose_good();
    fuzz_require(qcow2_header_decode(good, "good", &header, NULL));
    places[PLACE_L1] = header.l1_offset;
    places[PLACE_L2] = be64_get(good + header.l1_offset) & ~QCOW2_COPIED;
    places[PLACE_BLOCK] = header.refcount_table_offset - CLUSTER_BYTES;
    places[PLACE_TABLE] = header.refcount_table_offset;
    dir = g_dir_make_tmp("drctl-fuzz-XXXXXX", NULL);
    fuzz_require(dir != NULL);
    path = g_build_filename(dir, "file", NULL);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    fuzz_require(fd >= 0);
    atexit(clean_up);
}

static void store(const uint8_t *data, uint64_t len)
{
    fuzz_require(ftruncate(fd, 0) == 0 && fd_write_at(fd, 0, data, len, path, NULL));
}

/* An error must have been set, with a text. */
static void check_error(bool ok, const GError *error)
{
    g_assert(ok == !error);
    g_assert(!error || *error->message);
}

/* Whatever the file says, what is handed out lies inside the file and the disk, and can be read. */
static bool walk(struct image *image, GError **error)
{
    AUTO(unpacker) unpacker = unpacker_new();
    g_autofree uint8_t *plain = g_malloc(CLUSTER_BYTES), *data = g_malloc(IMAGE_CLUSTER_MAX);
    struct image_cluster cluster;
    uint64_t next = 0;
    bool found = true;

    while (found) {
        if (!image_next(image, &cluster, &found, error))
            return false;
        if (!found)
            break;
        g_assert(cluster.number >= next);
        g_assert(cluster.number < cluster_count(image_virtual_bytes(image)));
        g_assert(cluster.len <= IMAGE_CLUSTER_MAX);
        g_assert(cluster.offset + cluster.len <= image_file_bytes(image));
        g_assert(fd_read_at(image_fd(image), cluster.offset, data, cluster.len, path, NULL));
        image_cluster_unpack(&cluster, data, unpacker, path, plain, NULL);
        next = cluster.number + 1;
    }
    return true;
}

static void fuzz_image(const uint8_t *data, size_t len)
{
    g_autofree uint8_t *lying = g_memdup2(good, IMAGE_MAX);
    uint64_t lying_len = good_len;
    g_autoptr(GError) error = NULL;
    bool ok;

    for (; len >= LIE_BYTES; data += LIE_BYTES, len -= LIE_BYTES) {
        enum place place = data[0] % PLACES;
        uint64_t at = places[place] + (uint64_t)(data[1] << 8 | data[2]);

        if (place == PLACE_LENGTH)
            lying_len = be64_get(data + 3) % IMAGE_MAX;
        else if (at + 8 <= IMAGE_MAX)
            memcpy(lying + at, data + 3, 8);
    }
    store(lying, lying_len);
    AUTO(image) image = image_open(path, &error);
    ok = image && walk(image, &error);
    check_error(ok, error);
}

static void fuzz_header(const uint8_t *data, size_t len)
{
    g_autofree uint8_t *cluster = g_memdup2(good, CLUSTER_BYTES);
    g_autoptr(GError) error = NULL;
    struct qcow2_header header;
    bool ok;

    memcpy(cluster, data, MIN(len, CLUSTER_BYTES));
    ok = qcow2_header_decode(cluster, "header", &header, &error);
    check_error(ok, error);
}

static void fuzz_digests(const uint8_t *data, size_t len)
{
    g_autoptr(GError) error = NULL;
    struct digest_record record;
    bool found = true, ok = true;

    store(data, len);
    AUTO(digest_reader) reader = digest_reader_open(path, DISK_BYTES, &error);
    while (reader && ok && found) {
        ok = digest_reader_next(reader, &record, &found, &error);
        g_assert(!ok || !found || record.cluster < cluster_count(DISK_BYTES));
    }
    check_error(reader && ok, error);
}

static void fuzz_packed(const uint8_t *data, size_t len)
{
    AUTO(unpacker) unpacker = unpacker_new();
    g_autofree uint8_t *plain = g_malloc(CLUSTER_BYTES);

    cluster_unpack(unpacker, data, len, plain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (fd < 0)
        prepare();
    if (len == 0)
        return 0;
    if (data[0] == 'i')
        fuzz_image(data + 1, len - 1);
    else if (data[0] == 'h')
        fuzz_header(data + 1, len - 1);
    else if (data[0] == 'd')
        fuzz_digests(data + 1, len - 1);
    else if (data[0] == 'z')
        fuzz_packed(data + 1, len - 1);
    return 0;
}
