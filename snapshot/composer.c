/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "snapshot/bigendian.h"
#include "snapshot/composer.h"
#include "snapshot/qcow2.h"

/* Image and digests leave together whenever the file has grown to a multiple of this. */
#define STEP_BYTES (1u << 20)

struct composer {
    struct composer_output output;
    struct digest_writer *digests;
    struct qcow2_header header;
    uint64_t clusters; /* of the disk */
    uint64_t next;     /* lowest cluster that may come */
    uint64_t changed;  /* clusters in this image */

    uint64_t end; /* of the file so far, what has not left yet included */
    /* What has not left yet are the last bytes of the file, at most up to a whole step: those in the
     * buffer, or those that are at BORROWED already. */
    size_t buffered;
    uint8_t *buffer;
    size_t borrowed_len;
    struct partial_place borrowed;

    uint8_t *l1; /* as it will lie in the file */
    uint64_t region;
    bool region_used; /* is there anything in l2? */
    uint8_t l2[CLUSTER_BYTES];
    struct refcounts refs;
    GArray *blocks; /* of uint64_t: offsets of the refcount blocks that were written */
};

/* ---- appending ---- */

static bool flush(struct composer *composer, GError **error)
{
    const struct composer_output *output = &composer->output;
    size_t buffered = composer->buffered, borrowed = composer->borrowed_len;

    composer->buffered = composer->borrowed_len = 0;
    if (borrowed)
        return output->borrow(output->context, composer->end - borrowed, borrowed,
                              &composer->borrowed, error);
    return buffered == 0 || output->image(output->context, composer->end - buffered,
                                          composer->buffer, buffered, error);
}

/* How much of LEN bytes may come before the next step. */
static size_t until_step(const struct composer *composer, uint64_t len)
{
    return (size_t)MIN(len, STEP_BYTES - composer->end % STEP_BYTES);
}

/* The file has grown by LEN. What was interrupted is of use only as far as there are digests of it,
 * so these follow at each step. */
static bool grow(struct composer *composer, size_t len, GError **error)
{
    composer->end += len;
    return composer->end % STEP_BYTES != 0 ||
           (flush(composer, error) && digest_writer_flush(composer->digests, error));
}

/* DATA NULL: zeros. */
static bool append(struct composer *composer, const void *data, uint64_t len, GError **error)
{
    const uint8_t *from = data;

    if (composer->borrowed_len && !flush(composer, error))
        return false;
    while (len) {
        size_t part = until_step(composer, len);

        if (from) {
            memcpy(composer->buffer + composer->buffered, from, part);
            from += part;
        } else {
            memset(composer->buffer + composer->buffered, 0, part);
        }
        composer->buffered += part;
        len -= part;
        if (!grow(composer, part, error))
            return false;
    }
    return true;
}

/* Is AT where what is borrowed last goes on? */
static bool goes_on(const struct composer *composer, const struct partial_place *at)
{
    return composer->borrowed_len && composer->borrowed.partial == at->partial &&
           composer->borrowed.offset + composer->borrowed_len == at->offset;
}

/* Append LEN bytes that the destination has at FROM. */
static bool borrow(struct composer *composer, const struct partial_place *from, size_t len,
                   GError **error)
{
    struct partial_place at = *from;

    while (len) {
        size_t part = until_step(composer, len);

        if (!goes_on(composer, &at)) {
            if (!flush(composer, error))
                return false;
            composer->borrowed = at;
        }
        composer->borrowed_len += part;
        at.offset += part;
        len -= part;
        if (!grow(composer, part, error))
            return false;
    }
    return true;
}

static bool append_until(struct composer *composer, uint64_t end, GError **error)
{
    return append(composer, NULL, end - composer->end, error);
}

/* The end of the file has reached the next range: the block of the current one is final. */
static bool next_range(struct composer *composer, GError **error)
{
    uint8_t block[CLUSTER_BYTES];

    refcounts_encode(&composer->refs, block);
    g_array_append_val(composer->blocks, composer->end);
    refcounts_advance(&composer->refs);
    return append(composer, block, sizeof block, error);
}

/* Make the end of the file a place for LEN bytes which does not cross the end of a range. */
static bool make_room(struct composer *composer, uint64_t len, bool aligned, GError **error)
{
    uint64_t start = qcow2_place(composer->end, len, aligned);

    if (start / QCOW2_RANGE_BYTES == composer->refs.range)
        return append_until(composer, start, error);
    return append_until(composer, start - CLUSTER_BYTES, error) && next_range(composer, error);
}

/* The LEN bytes that come next are one item. A frame has at least a dozen bytes, so a host cluster
 * holds at most some thousand of them and its counter does not overflow. */
static void count_references(struct composer *composer, uint64_t len)
{
    bool counted = refcounts_add(&composer->refs, composer->end, len);

    g_assert(counted);
}

/* Make room for one item and count the references to its clusters; *OFFSET is where it goes. */
static bool begin_item(struct composer *composer, uint64_t len, bool aligned, uint64_t *offset,
                       GError **error)
{
    if (!make_room(composer, len, aligned, error))
        return false;
    *offset = composer->end;
    count_references(composer, len);
    return true;
}

static bool append_item(struct composer *composer, const void *data, uint64_t len, bool aligned,
                        uint64_t *offset, GError **error)
{
    return begin_item(composer, len, aligned, offset, error) && append(composer, data, len, error);
}

/* ---- tables ---- */

static bool finish_region(struct composer *composer, GError **error)
{
    uint64_t offset;

    if (!composer->region_used)
        return true;
    if (!append_item(composer, composer->l2, CLUSTER_BYTES, true, &offset, error))
        return false;
    be64_put(composer->l1 + 8 * composer->region, offset | QCOW2_COPIED);
    memset(composer->l2, 0, CLUSTER_BYTES);
    composer->region_used = false;
    return true;
}

/* Begin with CLUSTER, which may be the first of another region. */
static bool begin_cluster(struct composer *composer, uint64_t cluster,
                          const uint8_t digest[DIGEST_SIZE], GError **error)
{
    g_assert(cluster >= composer->next && cluster < composer->clusters);
    if (cluster / QCOW2_L2_ENTRIES != composer->region && !finish_region(composer, error))
        return false;
    composer->region = cluster / QCOW2_L2_ENTRIES;
    composer->region_used = true;
    composer->next = cluster + 1;
    composer->changed++;
    return digest_writer_add(composer->digests, cluster, digest, error);
}

static void set_entry(struct composer *composer, uint64_t cluster, uint64_t entry)
{
    be64_put(composer->l2 + 8 * (cluster % QCOW2_L2_ENTRIES), entry);
}

static uint64_t packed_entry(uint64_t offset, size_t len)
{
    uint64_t sectors = (offset + len - 1) / QCOW2_SECTOR_BYTES - offset / QCOW2_SECTOR_BYTES;

    return QCOW2_COMPRESSED | sectors << QCOW2_SECTORS_SHIFT | offset;
}

/* ---- interface ---- */

struct composer *composer_new(struct composer_output output, uint64_t virtual_bytes,
                              const char *backing_name, GError **error)
{
    struct composer *composer;

    if (!qcow2_virtual_bytes_valid(virtual_bytes)) {
        fail(error, ERROR_FAILED,
             "a disk of %" PRIu64
             " bytes cannot be kept in an image: 512 bytes to 64 TiB, in whole "
             "sectors",
             virtual_bytes);
        return NULL;
    }
    if (backing_name && (!*backing_name || strlen(backing_name) > QCOW2_BACKING_MAX)) {
        fail(error, ERROR_FAILED, "backing file name \"%.40s...\" is not of 1..%d bytes",
             backing_name, QCOW2_BACKING_MAX);
        return NULL;
    }
    composer = g_new0(struct composer, 1);
    composer->output = output;
    composer->digests = digest_writer_new(output.digests, output.context, virtual_bytes);
    composer->header.virtual_bytes = virtual_bytes;
    composer->header.l1_entries = qcow2_l1_entries(virtual_bytes);
    g_strlcpy(composer->header.backing_name, backing_name ? backing_name : "",
              sizeof composer->header.backing_name);
    composer->clusters = cluster_count(virtual_bytes);
    composer->buffer = g_malloc(STEP_BYTES);
    composer->l1 = g_malloc0(8 * (size_t)composer->header.l1_entries);
    composer->blocks = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    composer->end = CLUSTER_BYTES;
    composer->refs.counts[0] = 1;
    return composer;
}

void composer_free(struct composer *composer)
{
    if (!composer)
        return;
    digest_writer_free(composer->digests);
    g_array_unref(composer->blocks);
    g_free(composer->l1);
    g_free(composer->buffer);
    g_free(composer);
}

bool composer_zero(struct composer *composer, uint64_t first, uint64_t count, GError **error)
{
    g_assert(first >= composer->next && first <= composer->clusters &&
             count <= composer->clusters - first);
    if (!*composer->header.backing_name) {
        composer->next = first + count;
        return true;
    }
    for (uint64_t cluster = first; cluster < first + count; cluster++) {
        if (!begin_cluster(composer, cluster, cluster_zero_digest(), error))
            return false;
        set_entry(composer, cluster, QCOW2_ZERO);
    }
    return true;
}

bool composer_packed(struct composer *composer, uint64_t cluster, const void *packed,
                     size_t packed_len, const uint8_t digest[DIGEST_SIZE], GError **error)
{
    uint64_t offset;

    g_assert(packed_len > 0 && packed_len <= CLUSTER_PACKED_MAX);
    if (!begin_cluster(composer, cluster, digest, error) ||
        !append_item(composer, packed, packed_len, false, &offset, error))
        return false;
    set_entry(composer, cluster, packed_entry(offset, packed_len));
    return true;
}

bool composer_plain(struct composer *composer, uint64_t cluster, const uint8_t plain[CLUSTER_BYTES],
                    const uint8_t digest[DIGEST_SIZE], GError **error)
{
    uint64_t offset;

    if (!begin_cluster(composer, cluster, digest, error) ||
        !append_item(composer, plain, CLUSTER_BYTES, true, &offset, error))
        return false;
    set_entry(composer, cluster, offset | QCOW2_COPIED);
    return true;
}

bool composer_borrowed(struct composer *composer, uint64_t cluster, enum cluster_kind kind,
                       const struct partial_place *from, size_t len,
                       const uint8_t digest[DIGEST_SIZE], GError **error)
{
    bool packed = kind == CLUSTER_PACKED;
    uint64_t offset;

    g_assert(packed ? len > 0 && len <= CLUSTER_PACKED_MAX : len == CLUSTER_BYTES);
    if (!begin_cluster(composer, cluster, digest, error) ||
        !begin_item(composer, len, !packed, &offset, error) || !borrow(composer, from, len, error))
        return false;
    set_entry(composer, cluster, packed ? packed_entry(offset, len) : offset | QCOW2_COPIED);
    return true;
}

/* The last refcount block counts itself and the table behind it, so both lie in one range. */
static bool append_refcounts(struct composer *composer, GError **error)
{
    struct qcow2_header *header = &composer->header;
    uint8_t *cluster = composer->l2; /* no longer needed */
    uint32_t table_clusters = composer->blocks->len / QCOW2_TABLE_ENTRIES + 1;
    uint64_t block;

    /* Making room may need one more block, and that one more cluster. */
    if (!make_room(composer, ((uint64_t)table_clusters + 2) * CLUSTER_BYTES, true, error))
        return false;
    block = composer->end;
    g_array_append_val(composer->blocks, block);
    header->refcount_table_offset = block + CLUSTER_BYTES;
    header->refcount_table_clusters = (composer->blocks->len - 1) / QCOW2_TABLE_ENTRIES + 1;
    count_references(composer, ((uint64_t)header->refcount_table_clusters + 1) * CLUSTER_BYTES);
    refcounts_encode(&composer->refs, cluster);
    if (!append(composer, cluster, CLUSTER_BYTES, error))
        return false;
    for (guint i = 0; i < composer->blocks->len; i++) {
        uint8_t entry[8];

        be64_put(entry, g_array_index(composer->blocks, uint64_t, i));
        if (!append(composer, entry, sizeof entry, error))
            return false;
    }
    return append_until(composer, qcow2_align(composer->end), error);
}

bool composer_finish(struct composer *composer, struct composer_totals *totals, GError **error)
{
    struct composer_totals all = {.changed_bytes = composer->changed * CLUSTER_BYTES};

    if (!finish_region(composer, error) ||
        !append_item(composer, composer->l1, 8 * (uint64_t)composer->header.l1_entries, true,
                     &composer->header.l1_offset, error) ||
        !append_refcounts(composer, error) || !flush(composer, error) ||
        !digest_writer_finish(composer->digests, &all.digests_bytes, error))
        return false;
    qcow2_header_encode(&composer->header, composer->l2);
    if (!composer->output.image(composer->output.context, 0, composer->l2, CLUSTER_BYTES, error))
        return false;
    all.image_bytes = composer->end;
    if (totals)
        *totals = all;
    return true;
}
