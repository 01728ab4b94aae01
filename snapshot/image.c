/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "snapshot/bigendian.h"
#include "snapshot/image.h"
#include "snapshot/pointfile.h"
#include "snapshot/qcow2.h"

#define TABLE_CLUSTERS_MAX (QCOW2_FILE_MAX / QCOW2_RANGE_BYTES / QCOW2_TABLE_ENTRIES)

/*
 * The pass goes through the file as the composer wrote it: each item (data, L2 table, L1 table,
 * refcounts) must lie behind the one before, so nothing overlaps anything, and its references are
 * counted. Where a range of the file ends, what was counted must be what its refcount block says.
 */
struct image {
    int fd;
    char *path;
    uint64_t bytes;
    struct qcow2_header header;
    uint64_t clusters; /* of the disk */
    uint8_t *l1;
    uint8_t *table; /* of refcount blocks */

    uint64_t floor;  /* lowest offset that the next item can have */
    uint32_t region; /* whose L2 table is loaded, or where to look for the next */
    bool loaded;
    bool ended;
    uint64_t l2_offset;
    uint32_t entry; /* the next of l2 */
    uint8_t l2[CLUSTER_BYTES];
    uint8_t block[CLUSTER_BYTES];
    uint8_t counted[CLUSTER_BYTES];
    struct refcounts refs;
};

static bool is_aligned(uint64_t offset)
{
    return offset % CLUSTER_BYTES == 0;
}

/* ---- opening ---- */

static bool check_places(const struct image *image, GError **error)
{
    const struct qcow2_header *header = &image->header;
    uint64_t table_bytes = (uint64_t)header->refcount_table_clusters * CLUSTER_BYTES;
    uint64_t l1_bytes = 8 * (uint64_t)header->l1_entries;

    if (header->refcount_table_clusters == 0 ||
        header->refcount_table_clusters > TABLE_CLUSTERS_MAX)
        return fail(error, ERROR_INTEGRITY, "%s: refcount_table_clusters %u is not in 1..%u",
                    image->path, header->refcount_table_clusters, (unsigned)TABLE_CLUSTERS_MAX);
    if (!is_aligned(header->refcount_table_offset) ||
        header->refcount_table_offset < 2 * CLUSTER_BYTES || table_bytes > image->bytes ||
        header->refcount_table_offset != image->bytes - table_bytes)
        return fail(error, ERROR_INTEGRITY,
                    "%s: refcount_table_offset 0x%" PRIx64
                    " does not put the table at the end of the "
                    "%" PRIu64 " bytes of the file: it is cut off or damaged",
                    image->path, header->refcount_table_offset, image->bytes);
    if (!is_aligned(header->l1_offset) || header->l1_offset < CLUSTER_BYTES ||
        header->l1_offset > header->refcount_table_offset ||
        l1_bytes > header->refcount_table_offset - header->l1_offset)
        return fail(error, ERROR_INTEGRITY,
                    "%s: l1_table_offset 0x%" PRIx64 " is not inside the file", image->path,
                    header->l1_offset);
    return true;
}

static bool read_header(struct image *image, GError **error)
{
    if (image->bytes < CLUSTER_BYTES || image->bytes > QCOW2_FILE_MAX)
        return fail(error, ERROR_INTEGRITY, "%s: %" PRIu64 " bytes are no size of an image",
                    image->path, image->bytes);
    return fd_read_at(image->fd, 0, image->l2, CLUSTER_BYTES, image->path, error) &&
           qcow2_header_decode(image->l2, image->path, &image->header, error) &&
           check_places(image, error);
}

static bool read_tables(struct image *image, GError **error)
{
    size_t l1_bytes = 8 * (size_t)image->header.l1_entries;
    size_t table_bytes = (size_t)image->header.refcount_table_clusters * CLUSTER_BYTES;

    image->l1 = g_malloc(l1_bytes);
    image->table = g_malloc(table_bytes);
    return fd_read_at(image->fd, image->header.l1_offset, image->l1, l1_bytes, image->path,
                      error) &&
           fd_read_at(image->fd, image->header.refcount_table_offset, image->table, table_bytes,
                      image->path, error);
}

struct image *image_open(const char *path, GError **error)
{
    AUTO(image) image = g_new0(struct image, 1);

    image->path = g_strdup(path);
    image->fd = point_file_open(path, &image->bytes, error);
    if (image->fd < 0 || !read_header(image, error) || !read_tables(image, error))
        return NULL;
    image->clusters = cluster_count(image->header.virtual_bytes);
    image->floor = CLUSTER_BYTES;
    image->refs.counts[0] = 1;
    return g_steal_pointer(&image);
}

void image_free(struct image *image)
{
    if (!image)
        return;
    fd_cleanup(&image->fd);
    g_free(image->l1);
    g_free(image->table);
    g_free(image->path);
    g_free(image);
}

uint64_t image_virtual_bytes(const struct image *image)
{
    return image->header.virtual_bytes;
}

uint64_t image_file_bytes(const struct image *image)
{
    return image->bytes;
}

const char *image_backing_name(const struct image *image)
{
    return *image->header.backing_name ? image->header.backing_name : NULL;
}

int image_fd(const struct image *image)
{
    return image->fd;
}

/* ---- references ---- */

/* Compare what was counted in the current range with its refcount block, which is at OFFSET. */
static bool check_block(struct image *image, uint64_t offset, GError **error)
{
    uint64_t range = image->refs.range;

    if (range >= (uint64_t)image->header.refcount_table_clusters * QCOW2_TABLE_ENTRIES)
        return fail(error, ERROR_INTEGRITY,
                    "%s: refcount_table_clusters %u are too few for %" PRIu64 " bytes", image->path,
                    image->header.refcount_table_clusters, image->bytes);
    if (be64_get(image->table + 8 * range) != offset)
        return fail(error, ERROR_INTEGRITY,
                    "%s: refcount table entry %" PRIu64 " is 0x%" PRIx64 " and not 0x%" PRIx64,
                    image->path, range, be64_get(image->table + 8 * range), offset);
    if (!fd_read_at(image->fd, offset, image->block, CLUSTER_BYTES, image->path, error))
        return false;
    refcounts_encode(&image->refs, image->counted);
    for (size_t i = 0; i < QCOW2_REFCOUNTS; i++)
        if (memcmp(image->block + 2 * i, image->counted + 2 * i, 2) != 0)
            return fail(error, ERROR_INTEGRITY,
                        "%s: refcount of the cluster at 0x%" PRIx64 " is %u and not %u",
                        image->path, range * QCOW2_RANGE_BYTES + i * CLUSTER_BYTES,
                        image->block[2 * i] << 8 | image->block[2 * i + 1], image->refs.counts[i]);
    return true;
}

/* Is there an item of LEN bytes at OFFSET, behind all before and ending by LIMIT? Count its
 * references. WHAT and NUMBER name it. */
static bool pass_item(struct image *image, uint64_t offset, uint64_t len, uint64_t limit,
                      const char *what, uint64_t number, GError **error)
{
    uint64_t range = offset / QCOW2_RANGE_BYTES;

    if (offset < image->floor || offset > limit || len > limit - offset)
        return fail(error, ERROR_INTEGRITY,
                    "%s: %s %" PRIu64 " at 0x%" PRIx64 " with %" PRIu64
                    " bytes is not inside 0x%" PRIx64 "..0x%" PRIx64 ", where it has to be",
                    image->path, what, number, offset, len, image->floor, limit);
    if ((offset + len - 1) / QCOW2_RANGE_BYTES != range ||
        (range > 0 && offset % QCOW2_RANGE_BYTES < CLUSTER_BYTES))
        return fail(error, ERROR_INTEGRITY,
                    "%s: %s %" PRIu64 " at 0x%" PRIx64 " overlaps a refcount block", image->path,
                    what, number, offset);
    while (image->refs.range < range) {
        if (!check_block(image, (image->refs.range + 1) * QCOW2_RANGE_BYTES, error))
            return false;
        refcounts_advance(&image->refs);
    }
    if (!refcounts_add(&image->refs, offset, len))
        return fail(error, ERROR_INTEGRITY, "%s: %s %" PRIu64 " overflows a refcount", image->path,
                    what, number);
    image->floor = offset + len;
    return true;
}

/* ---- clusters ---- */

/* What L2 ENTRY says, when it can be said at all. */
static bool decode_entry(const struct image *image, uint64_t entry, struct image_cluster *cluster,
                         GError **error)
{
    uint64_t sectors = (entry >> QCOW2_SECTORS_SHIFT & 0xff) + 1;

    if (entry == QCOW2_ZERO) {
        cluster->kind = CLUSTER_ZERO;
        cluster->offset = 0;
        cluster->len = 0;
    } else if ((entry & (QCOW2_COPIED | QCOW2_COMPRESSED)) == QCOW2_COMPRESSED) {
        cluster->kind = CLUSTER_PACKED;
        cluster->offset = entry & QCOW2_PACKED_OFFSET_MASK;
        cluster->len =
            (uint32_t)(sectors * QCOW2_SECTOR_BYTES - cluster->offset % QCOW2_SECTOR_BYTES);
    } else if (!(entry & QCOW2_COMPRESSED) && (entry & QCOW2_COPIED) &&
               is_aligned(entry & ~QCOW2_COPIED)) {
        cluster->kind = CLUSTER_PLAIN;
        cluster->offset = entry & ~QCOW2_COPIED;
        cluster->len = CLUSTER_BYTES;
    } else {
        return fail(error, ERROR_INTEGRITY,
                    "%s: L2 entry 0x%" PRIx64 " of cluster %" PRIu64
                    " is none that images of points have",
                    image->path, entry, cluster->number);
    }
    if (cluster->number >= image->clusters)
        return fail(error, ERROR_INTEGRITY,
                    "%s: L2 entry of cluster %" PRIu64 " is beyond the %" PRIu64
                    " clusters of the disk",
                    image->path, cluster->number, image->clusters);
    if (cluster->len > IMAGE_CLUSTER_MAX)
        return fail(error, ERROR_INTEGRITY,
                    "%s: L2 entry of cluster %" PRIu64 " has %" PRIu64 " sectors", image->path,
                    cluster->number, sectors);
    return true;
}

static bool pass_cluster(struct image *image, struct image_cluster *cluster, GError **error)
{
    if (cluster->kind == CLUSTER_ZERO)
        return true;
    if (!pass_item(image, cluster->offset, cluster->len, image->l2_offset, "cluster",
                   cluster->number, error))
        return false;
    /* Its length is known in sectors only: the next frame may begin in its last one. */
    if (cluster->kind == CLUSTER_PACKED)
        image->floor = MAX(image->floor - (QCOW2_SECTOR_BYTES - 1), cluster->offset + 1);
    return true;
}

/* Load the L2 table of the next region that has one; without any more, the file must end as
 * it should. */
static bool next_region(struct image *image, GError **error)
{
    uint64_t entry = 0;

    while (image->region < image->header.l1_entries && entry == 0)
        entry = be64_get(image->l1 + 8 * (size_t)image->region++);
    if (entry == 0)
        return true;
    image->l2_offset = entry & ~QCOW2_COPIED;
    if (!(entry & QCOW2_COPIED) || !is_aligned(image->l2_offset) ||
        image->l2_offset < image->floor ||
        image->l2_offset > image->header.l1_offset - CLUSTER_BYTES)
        return fail(error, ERROR_INTEGRITY,
                    "%s: L1 entry %u is 0x%" PRIx64 ", which is no place for a "
                    "table",
                    image->path, image->region - 1, entry);
    image->entry = 0;
    image->loaded = true;
    return fd_read_at(image->fd, image->l2_offset, image->l2, CLUSTER_BYTES, image->path, error);
}

static bool pass_end(struct image *image, GError **error)
{
    const struct qcow2_header *header = &image->header;
    uint64_t block = header->refcount_table_offset - CLUSTER_BYTES;
    uint64_t entries = (uint64_t)header->refcount_table_clusters * QCOW2_TABLE_ENTRIES;

    if (!pass_item(image, header->l1_offset, 8 * (uint64_t)header->l1_entries, block, "L1 table", 0,
                   error) ||
        !pass_item(image, block, image->bytes - block, image->bytes, "refcount table", 0, error))
        return false;
    if (header->refcount_table_clusters != image->refs.range / QCOW2_TABLE_ENTRIES + 1)
        return fail(error, ERROR_INTEGRITY,
                    "%s: refcount_table_clusters is %u and the table needs %" PRIu64, image->path,
                    header->refcount_table_clusters, image->refs.range / QCOW2_TABLE_ENTRIES + 1);
    if (!check_block(image, block, error))
        return false;
    for (uint64_t i = image->refs.range + 1; i < entries; i++)
        if (be64_get(image->table + 8 * i) != 0)
            return fail(error, ERROR_INTEGRITY,
                        "%s: refcount table entry %" PRIu64 " is beyond the end of the file",
                        image->path, i);
    image->ended = true;
    return true;
}

/* The next entry of the loaded L2 table that is not empty. Behind the last one, the table is itself
 * the next item. */
static bool next_entry(struct image *image, struct image_cluster *cluster, bool *found,
                       GError **error)
{
    while (image->entry < QCOW2_L2_ENTRIES) {
        uint64_t entry = be64_get(image->l2 + 8 * (size_t)image->entry++);

        if (entry == 0)
            continue;
        cluster->number = (uint64_t)(image->region - 1) * QCOW2_L2_ENTRIES + image->entry - 1;
        *found = true;
        return decode_entry(image, entry, cluster, error) && pass_cluster(image, cluster, error);
    }
    image->loaded = false;
    return pass_item(image, image->l2_offset, CLUSTER_BYTES, image->header.l1_offset, "L2 table",
                     image->region - 1, error);
}

bool image_next(struct image *image, struct image_cluster *cluster, bool *found, GError **error)
{
    *found = false;
    while (!image->ended) {
        if (!image->loaded && !next_region(image, error))
            return false;
        if (!image->loaded)
            return pass_end(image, error);
        if (!next_entry(image, cluster, found, error))
            return false;
        if (*found)
            return true;
    }
    return true;
}

bool image_cluster_unpack(const struct image_cluster *cluster, const void *data,
                          struct unpacker *unpacker, const char *name, uint8_t plain[CLUSTER_BYTES],
                          GError **error)
{
    if (cluster->kind == CLUSTER_ZERO)
        memset(plain, 0, CLUSTER_BYTES);
    else if (cluster->kind == CLUSTER_PLAIN)
        memcpy(plain, data, CLUSTER_BYTES);
    else if (!cluster_unpack(unpacker, data, cluster->len, plain))
        return fail(error, ERROR_INTEGRITY,
                    "%s: cluster %" PRIu64 " at 0x%" PRIx64 " is not a zstd frame of one cluster",
                    name, cluster->number, cluster->offset);
    return true;
}
