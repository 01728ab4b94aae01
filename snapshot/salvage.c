/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "snapshot/bigendian.h"
#include "snapshot/pointfile.h"
#include "snapshot/qcow2.h"
#include "snapshot/salvage.h"
#include "snapshot/snapshot.h"

#define WINDOW_BYTES (1u << 20)
/* A survey looks so far for a cluster behind one that is damaged, for so many clusters in a row. */
#define SEARCH_BYTES (1u << 20)
#define SEARCHES_MAX 64u
/* What is told at once. */
#define TOLD_RECORDS 1024u

/* ---- the form ---- */

void salvaged_encode(const struct salvaged *salvaged, uint8_t record[SALVAGED_BYTES])
{
    be64_put(record, salvaged->cluster);
    memcpy(record + 8, salvaged->digest, DIGEST_SIZE);
    be64_put(record + 40, salvaged->place.offset);
    be32_put(record + 48, salvaged->len);
    be32_put(record + 52, salvaged->place.partial);
}

bool salvaged_decode(const uint8_t record[SALVAGED_BYTES], struct salvaged *salvaged,
                     GError **error)
{
    uint32_t len = be32_get(record + 48);

    if (len == 0 || (len > CLUSTER_PACKED_MAX && len != CLUSTER_BYTES))
        return fail(error, ERROR_INTEGRITY, "a cluster of %u bytes", len);
    salvaged->cluster = be64_get(record);
    memcpy(salvaged->digest, record + 8, DIGEST_SIZE);
    salvaged->kind = len == CLUSTER_BYTES ? CLUSTER_PLAIN : CLUSTER_PACKED;
    salvaged->len = len;
    salvaged->place.offset = be64_get(record + 40);
    salvaged->place.partial = be32_get(record + 52);
    return true;
}

/* ---- one partial ---- */

struct salvage {
    int fd;
    uint64_t bytes; /* of the image as it is */
    unsigned partial;
    struct digest_reader *digests;
    struct unpacker *unpacker;
    uint64_t end; /* of what was passed */
    uint64_t region;
    bool region_used; /* a table will follow */
    unsigned missed;  /* clusters in a row that a survey has not found */
    uint64_t window_start;
    size_t window_len;
    uint8_t *window;
    uint8_t plain[CLUSTER_BYTES];
};

struct salvage *salvage_open(const char *image, const char *digests, unsigned partial,
                             GError **error)
{
    AUTO(salvage) salvage = g_new0(struct salvage, 1);

    salvage->fd = point_file_open(image, &salvage->bytes, error);
    if (salvage->fd < 0)
        return NULL;
    salvage->digests = digest_reader_open_cut(digests, error);
    if (!salvage->digests)
        return NULL;
    salvage->partial = partial;
    salvage->unpacker = unpacker_new();
    salvage->window = g_malloc(WINDOW_BYTES);
    salvage->end = CLUSTER_BYTES;
    return g_steal_pointer(&salvage);
}

void salvage_free(struct salvage *salvage)
{
    if (!salvage)
        return;
    fd_cleanup(&salvage->fd);
    digest_reader_free(salvage->digests);
    unpacker_free(salvage->unpacker);
    g_free(salvage->window);
    g_free(salvage);
}

/* Up to LEN bytes of the image at OFFSET, *GOT of them; NULL when there are none. */
static const uint8_t *look(struct salvage *salvage, uint64_t offset, size_t len, size_t *got)
{
    if (offset >= salvage->bytes)
        return NULL;
    *got = (size_t)MIN(len, salvage->bytes - offset);
    if (offset < salvage->window_start ||
        offset + *got > salvage->window_start + salvage->window_len) {
        salvage->window_start = offset;
        salvage->window_len = (size_t)MIN(WINDOW_BYTES, salvage->bytes - offset);
        /* The disk may have given up only further on. */
        if (!fd_read_at(salvage->fd, offset, salvage->window, salvage->window_len, "", NULL)) {
            salvage->window_len = *got;
            if (!fd_read_at(salvage->fd, offset, salvage->window, *got, "", NULL)) {
                salvage->window_len = 0;
                return NULL;
            }
        }
    }
    return salvage->window + (offset - salvage->window_start);
}

static bool has_digest(const uint8_t *plain, const struct salvaged *wanted)
{
    uint8_t digest[DIGEST_SIZE];

    digest_buffer(plain, CLUSTER_BYTES, digest);
    return memcmp(digest, wanted->digest, DIGEST_SIZE) == 0;
}

static size_t frame_len(struct salvage *salvage, uint64_t offset)
{
    size_t got;
    const uint8_t *data = look(salvage, offset, CLUSTER_PACKED_MAX, &got);

    return data ? cluster_packed_len(data, got) : 0;
}

/* Is it the frame of LEN bytes at OFFSET? */
static bool is_frame(struct salvage *salvage, uint64_t offset, size_t len, struct salvaged *wanted)
{
    size_t got;
    const uint8_t *data = look(salvage, offset, len, &got);

    if (!data || !cluster_unpack(salvage->unpacker, data, got, salvage->plain) ||
        !has_digest(salvage->plain, wanted))
        return false;
    wanted->kind = CLUSTER_PACKED;
    wanted->len = (uint32_t)len;
    wanted->place.offset = offset;
    return true;
}

/* Is it a frame at OFFSET, where one of its length belongs? */
static bool is_packed_at(struct salvage *salvage, uint64_t offset, struct salvaged *wanted)
{
    size_t len = frame_len(salvage, offset);

    return len != 0 && qcow2_place(salvage->end, len, false) == offset &&
           is_frame(salvage, offset, len, wanted);
}

static bool is_packed(struct salvage *salvage, struct salvaged *wanted)
{
    uint64_t next_range = qcow2_place(salvage->end, CLUSTER_PACKED_MAX, false);

    return is_packed_at(salvage, salvage->end, wanted) ||
           (next_range != salvage->end && is_packed_at(salvage, next_range, wanted));
}

static bool is_plain_at(struct salvage *salvage, uint64_t offset, struct salvaged *wanted)
{
    size_t got;
    const uint8_t *data = look(salvage, offset, CLUSTER_BYTES, &got);

    if (!data || got < CLUSTER_BYTES || !has_digest(data, wanted))
        return false;
    wanted->kind = CLUSTER_PLAIN;
    wanted->len = CLUSTER_BYTES;
    wanted->place.offset = offset;
    return true;
}

static bool is_plain(struct salvage *salvage, struct salvaged *wanted)
{
    return is_plain_at(salvage, qcow2_place(salvage->end, CLUSTER_BYTES, true), wanted);
}

/* CLUSTER comes next: behind the last one of a region lies its table. */
static void pass_tables(struct salvage *salvage, uint64_t cluster)
{
    uint64_t region = cluster / QCOW2_L2_ENTRIES;

    if (salvage->region_used && region != salvage->region)
        salvage->end = qcow2_place(salvage->end, CLUSTER_BYTES, true) + CLUSTER_BYTES;
    salvage->region = region;
    salvage->region_used = true;
}

bool salvage_next(struct salvage *salvage, struct salvaged *salvaged)
{
    struct digest_record record;
    bool found;

    while (digest_reader_next(salvage->digests, &record, &found, NULL) && found) {
        pass_tables(salvage, record.cluster);
        if (memcmp(record.digest, cluster_zero_digest(), DIGEST_SIZE) == 0)
            continue;
        salvaged->cluster = record.cluster;
        memcpy(salvaged->digest, record.digest, DIGEST_SIZE);
        salvaged->place.partial = salvage->partial;
        if (!is_packed(salvage, salvaged) && !is_plain(salvage, salvaged))
            return false;
        salvage->end = salvaged->place.offset + salvaged->len;
        return true;
    }
    return false;
}

/* ---- damaged images ---- */

/* Is there a frame with the content of WANTED in the LEN bytes at OFFSET? */
static bool is_frame_within(struct salvage *salvage, uint64_t offset, size_t len,
                            struct salvaged *wanted)
{
    static const uint8_t magic[] = {0x28, 0xb5, 0x2f, 0xfd};
    uint64_t end = offset + len;

    while (offset < end) {
        size_t got, frame;
        const uint8_t *data = look(salvage, offset, (size_t)(end - offset), &got);
        const uint8_t *found = data ? memmem(data, got, magic, sizeof magic) : NULL;

        if (!found)
            return false;
        offset += (uint64_t)(found - data);
        frame = frame_len(salvage, offset);
        if (frame != 0 && is_frame(salvage, offset, frame, wanted))
            return true;
        offset++;
    }
    return false;
}

/* Behind a cluster that is damaged nobody knows where the next one is. */
static bool search(struct salvage *salvage, struct salvaged *wanted)
{
    uint64_t end = salvage->end + SEARCH_BYTES;

    /* In pieces: one of them may be unreadable. */
    for (uint64_t at = salvage->end; at < end; at += CLUSTER_BYTES)
        if (is_frame_within(salvage, at, CLUSTER_BYTES + 3, wanted))
            return true;
    for (uint64_t at = qcow2_align(salvage->end); at < end; at += CLUSTER_BYTES)
        if (is_plain_at(salvage, at, wanted))
            return true;
    return false;
}

bool salvage_survey(struct salvage *salvage, struct salvaged *salvaged, bool *there)
{
    struct digest_record record;
    bool found;

    do {
        if (!digest_reader_next(salvage->digests, &record, &found, NULL) || !found)
            return false;
        pass_tables(salvage, record.cluster);
    } while (memcmp(record.digest, cluster_zero_digest(), DIGEST_SIZE) == 0);
    salvaged->cluster = record.cluster;
    memcpy(salvaged->digest, record.digest, DIGEST_SIZE);
    *there = is_packed(salvage, salvaged) || is_plain(salvage, salvaged) ||
             (salvage->missed > 0 && salvage->missed <= SEARCHES_MAX && search(salvage, salvaged));
    salvage->missed = *there ? 0 : salvage->missed + 1;
    if (*there)
        salvage->end = salvaged->place.offset + salvaged->len;
    return true;
}

/* ---- all partials of a disk ---- */

/* A partial beside the others. */
struct source {
    struct salvage *salvage; /* NULL: it is through */
    struct salvaged next;
};

static void source_advance(struct source *source)
{
    if (source->salvage && !salvage_next(source->salvage, &source->next))
        g_clear_pointer(&source->salvage, salvage_free);
}

static void source_open(struct source *source, const char *dir, const char *target,
                        unsigned partial)
{
    g_autofree char *image = g_strdup_printf("%s/%s.qcow2", dir, target);
    g_autofree char *digests = g_strdup_printf("%s/%s.digests", dir, target);

    source->salvage = salvage_open(image, digests, partial, NULL);
    source_advance(source);
}

/* The lowest cluster that any of SOURCES has; where several have it, the first of them tells. */
static bool next_of_all(struct source *sources, unsigned count, struct salvaged *next)
{
    const struct source *lowest = NULL;

    for (unsigned i = 0; i < count; i++)
        if (sources[i].salvage && (!lowest || sources[i].next.cluster < lowest->next.cluster))
            lowest = &sources[i];
    if (!lowest)
        return false;
    *next = lowest->next;
    for (unsigned i = 0; i < count; i++)
        if (sources[i].salvage && sources[i].next.cluster == next->cluster)
            source_advance(&sources[i]);
    return true;
}

static bool tell(struct source *sources, unsigned count, store_sink_fn *sink, void *context,
                 GError **error)
{
    g_autofree uint8_t *told = g_malloc((size_t)TOLD_RECORDS * SALVAGED_BYTES);
    struct salvaged next;
    bool more;

    do {
        size_t len = 0;

        if (!interrupt_check(error))
            return false;
        while ((more = next_of_all(sources, count, &next))) {
            salvaged_encode(&next, told + len);
            len += SALVAGED_BYTES;
            if (len == (size_t)TOLD_RECORDS * SALVAGED_BYTES)
                break;
        }
        if (len > 0 && !sink(context, told, len, error))
            return false;
    } while (more);
    return true;
}

bool snapshot_salvage(char *const *dirs, const char *target, store_sink_fn *sink, void *context,
                      GError **error)
{
    unsigned count = g_strv_length((char **)dirs);
    g_autofree struct source *sources = g_new0(struct source, count);
    bool told;

    for (unsigned i = 0; i < count; i++)
        source_open(&sources[i], dirs[i], target, i);
    told = tell(sources, count, sink, context, error);
    for (unsigned i = 0; i < count; i++)
        salvage_free(sources[i].salvage);
    return told;
}
