/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "snapshot/bigendian.h"
#include "snapshot/qcow2.h"

#define HEADER_LENGTH 112
#define BACKING_FORMAT "qcow2"
#define EXTENSION_END 0
#define EXTENSION_BACKING_FORMAT 0xe2792aca
/* Behind the header: the extension {type, length, "qcow2" padded to 8}, the end of extensions, and
 * the backing file's name. */
#define BACKING_NAME_OFFSET (HEADER_LENGTH + 16 + 8)

/* The fields that are the same in all our headers. */
static const struct {
    uint16_t offset, bytes;
    uint64_t value;
    const char *name;
} fixed[] = {
    {0, 4, 0x514649fb, "magic"},
    {4, 4, 3, "version"},
    {20, 4, CLUSTER_BITS, "cluster_bits"},
    {32, 4, 0, "crypt_method"},
    {60, 4, 0, "nb_snapshots"},
    {64, 8, 0, "snapshots_offset"},
    {72, 8, 1 << 3, "incompatible_features"}, /* the compression type is not zlib */
    {80, 8, 0, "compatible_features"},
    {88, 8, 0, "autoclear_features"},
    {96, 4, 4, "refcount_order"},
    {100, 4, HEADER_LENGTH, "header_length"},
    {104, 1, 1, "compression_type"}, /* zstd */
};

enum {
    AT_BACKING_OFFSET = 8,
    AT_BACKING_SIZE = 16,
    AT_SIZE = 24,
    AT_L1_SIZE = 36,
    AT_L1_OFFSET = 40,
    AT_REFCOUNT_TABLE_OFFSET = 48,
    AT_REFCOUNT_TABLE_CLUSTERS = 56,
};

bool qcow2_virtual_bytes_valid(uint64_t virtual_bytes)
{
    return virtual_bytes > 0 && virtual_bytes <= QCOW2_VIRTUAL_MAX &&
           virtual_bytes % QCOW2_SECTOR_BYTES == 0;
}

uint32_t qcow2_l1_entries(uint64_t virtual_bytes)
{
    return (uint32_t)((virtual_bytes + QCOW2_REGION_BYTES - 1) / QCOW2_REGION_BYTES);
}

static void put_backing(const char *name, uint8_t *cluster)
{
    size_t len = strlen(name);

    be32_put(cluster + HEADER_LENGTH, EXTENSION_BACKING_FORMAT);
    be32_put(cluster + HEADER_LENGTH + 4, strlen(BACKING_FORMAT));
    memcpy(cluster + HEADER_LENGTH + 8, BACKING_FORMAT, strlen(BACKING_FORMAT));
    be32_put(cluster + HEADER_LENGTH + 16, EXTENSION_END);
    be64_put(cluster + AT_BACKING_OFFSET, BACKING_NAME_OFFSET);
    be32_put(cluster + AT_BACKING_SIZE, (uint32_t)len);
    memcpy(cluster + BACKING_NAME_OFFSET, name, len);
}

void qcow2_header_encode(const struct qcow2_header *header, uint8_t cluster[CLUSTER_BYTES])
{
    memset(cluster, 0, CLUSTER_BYTES);
    for (size_t i = 0; i < G_N_ELEMENTS(fixed); i++) {
        if (fixed[i].bytes == 8)
            be64_put(cluster + fixed[i].offset, fixed[i].value);
        else if (fixed[i].bytes == 4)
            be32_put(cluster + fixed[i].offset, (uint32_t)fixed[i].value);
        else
            cluster[fixed[i].offset] = (uint8_t)fixed[i].value;
    }
    be64_put(cluster + AT_SIZE, header->virtual_bytes);
    be32_put(cluster + AT_L1_SIZE, header->l1_entries);
    be64_put(cluster + AT_L1_OFFSET, header->l1_offset);
    be64_put(cluster + AT_REFCOUNT_TABLE_OFFSET, header->refcount_table_offset);
    be32_put(cluster + AT_REFCOUNT_TABLE_CLUSTERS, header->refcount_table_clusters);
    if (*header->backing_name)
        put_backing(header->backing_name, cluster);
}

static bool check_fixed(const uint8_t *cluster, const char *name, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(fixed); i++) {
        const uint8_t *at = cluster + fixed[i].offset;
        uint64_t value = fixed[i].bytes == 8   ? be64_get(at)
                         : fixed[i].bytes == 4 ? be32_get(at)
                                               : *at;

        if (value != fixed[i].value)
            return fail(error, ERROR_INTEGRITY,
                        "%s: %s is 0x%" PRIx64 " where images of points have 0x%" PRIx64, name,
                        fixed[i].name, value, fixed[i].value);
    }
    return true;
}

/* The format must be spelled out: QEMU would probe it, and a guest can write a header of another
 * format into its raw disk. */
static bool get_backing(const uint8_t *cluster, const char *name, struct qcow2_header *header,
                        GError **error)
{
    uint64_t offset = be64_get(cluster + AT_BACKING_OFFSET);
    uint32_t len = be32_get(cluster + AT_BACKING_SIZE);

    memset(header->backing_name, 0, sizeof header->backing_name);
    if (offset == 0 && len == 0)
        return true;
    if (offset != BACKING_NAME_OFFSET)
        return fail(error, ERROR_INTEGRITY,
                    "%s: backing_file_offset is %" PRIu64 " where images of points have %d or 0",
                    name, offset, BACKING_NAME_OFFSET);
    if (len == 0 || len > QCOW2_BACKING_MAX)
        return fail(error, ERROR_INTEGRITY, "%s: backing_file_size %u is not in 1..%d", name, len,
                    QCOW2_BACKING_MAX);
    memcpy(header->backing_name, cluster + BACKING_NAME_OFFSET, len);
    if (strlen(header->backing_name) != len)
        return fail(error, ERROR_INTEGRITY, "%s: the backing file name contains a NUL", name);
    return true;
}

static bool get_tables(const uint8_t *cluster, const char *name, struct qcow2_header *header,
                       GError **error)
{
    header->virtual_bytes = be64_get(cluster + AT_SIZE);
    if (!qcow2_virtual_bytes_valid(header->virtual_bytes))
        return fail(error, ERROR_INTEGRITY, "%s: size %" PRIu64 " is no size of a disk", name,
                    header->virtual_bytes);
    header->l1_entries = be32_get(cluster + AT_L1_SIZE);
    if (header->l1_entries != qcow2_l1_entries(header->virtual_bytes))
        return fail(error, ERROR_INTEGRITY, "%s: l1_size is %u for a disk that needs %u", name,
                    header->l1_entries, qcow2_l1_entries(header->virtual_bytes));
    header->l1_offset = be64_get(cluster + AT_L1_OFFSET);
    header->refcount_table_offset = be64_get(cluster + AT_REFCOUNT_TABLE_OFFSET);
    header->refcount_table_clusters = be32_get(cluster + AT_REFCOUNT_TABLE_CLUSTERS);
    return true;
}

bool qcow2_header_decode(const uint8_t cluster[CLUSTER_BYTES], const char *name,
                         struct qcow2_header *header, GError **error)
{
    g_autofree uint8_t *ours = g_malloc(CLUSTER_BYTES);
    unsigned at = 0;

    if (!check_fixed(cluster, name, error) || !get_tables(cluster, name, header, error) ||
        !get_backing(cluster, name, header, error))
        return false;
    /* Whatever else there is, such as further extensions, would show here. */
    qcow2_header_encode(header, ours);
    if (memcmp(cluster, ours, CLUSTER_BYTES) == 0)
        return true;
    while (cluster[at] == ours[at])
        at++;
    return fail(error, ERROR_INTEGRITY,
                "%s: byte %u of the header is 0x%02x where images of points have 0x%02x: an "
                "extension or something else that is not ours",
                name, at, cluster[at], ours[at]);
}

bool refcounts_add(struct refcounts *refs, uint64_t offset, uint64_t len)
{
    uint64_t first = (offset - refs->range * QCOW2_RANGE_BYTES) / CLUSTER_BYTES;
    uint64_t last = (offset + len - 1 - refs->range * QCOW2_RANGE_BYTES) / CLUSTER_BYTES;

    g_assert(first <= last && last < QCOW2_REFCOUNTS);
    for (uint64_t i = first; i <= last; i++) {
        if (refs->counts[i] == UINT16_MAX)
            return false;
        refs->counts[i]++;
    }
    return true;
}

void refcounts_encode(const struct refcounts *refs, uint8_t block[CLUSTER_BYTES])
{
    for (size_t i = 0; i < QCOW2_REFCOUNTS; i++) {
        block[2 * i] = (uint8_t)(refs->counts[i] >> 8);
        block[2 * i + 1] = (uint8_t)refs->counts[i];
    }
}

void refcounts_advance(struct refcounts *refs)
{
    memset(refs->counts, 0, sizeof refs->counts);
    refs->range++;
    refs->counts[0] = 1;
}
