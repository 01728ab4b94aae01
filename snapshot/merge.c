/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several images of one disk become one. The digests of the layers tell which layer has which
 * cluster; the clusters are copied as they are. Every layer is read once from its begin to its end.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "snapshot/digest-chain.h"
#include "snapshot/disk-sink.h"
#include "snapshot/image.h"

/* All windows together; each has room for several clusters whatever the number of layers. */
#define WINDOWS_BYTES (32u << 20)
#define WINDOW_MAX (1u << 20)
#define WINDOW_MIN (2 * IMAGE_CLUSTER_MAX)

/* A layer that is merged: where its pass stands, and a piece of its file. */
struct source {
    const char *path; /* borrowed */
    struct image *image;
    struct image_cluster cluster;
    bool found;
    uint8_t *window;
    uint64_t window_start;
    size_t window_len;
};

struct merger {
    const struct merge_job *job;
    struct digest_chain *upper; /* of the layers that are merged */
    struct digest_chain *lower; /* of the others, where they must be kept from shining through */
    struct chain_record shining;
    bool shines; /* is there one? */
    struct composer *composer;
    size_t window_size;
    char *subject;
    uint64_t read, total; /* bytes of the layers */
    struct source sources[];
};

static void merger_free(struct merger *merger)
{
    if (!merger)
        return;
    for (unsigned i = 0; i < merger->job->merged; i++) {
        image_free(merger->sources[i].image);
        g_free(merger->sources[i].window);
    }
    digest_chain_free(merger->upper);
    digest_chain_free(merger->lower);
    composer_free(merger->composer);
    g_free(merger->subject);
    g_free(merger);
}
DEFINE_CLEANUP(merger)

static struct digest_chain *open_digests(const struct image_layer *layers, unsigned count,
                                         GError **error)
{
    g_autofree struct digest_layer *digests = g_new(struct digest_layer, count);

    for (unsigned i = 0; i < count; i++)
        digests[i] = (struct digest_layer){layers[i].digests, layers[i].virtual_bytes};
    return digest_chain_open(digests, count, error);
}

static bool open_source(struct merger *merger, unsigned i, GError **error)
{
    const struct image_layer *layer = &merger->job->layers[i];
    struct source *source = &merger->sources[i];

    source->path = layer->image;
    source->image = image_open(layer->image, error);
    if (!source->image)
        return false;
    if (image_virtual_bytes(source->image) != layer->virtual_bytes)
        return fail(error, ERROR_INTEGRITY,
                    "%s: is of a disk of %" PRIu64 " bytes and the manifest says %" PRIu64,
                    layer->image, image_virtual_bytes(source->image), layer->virtual_bytes);
    posix_fadvise(image_fd(source->image), 0, 0, POSIX_FADV_SEQUENTIAL);
    merger->total += image_file_bytes(source->image);
    source->window = g_malloc(merger->window_size);
    return image_next(source->image, &source->cluster, &source->found, error);
}

/* The next cluster of the lower layers that a merged one, being smaller, hides. */
static bool next_shining(struct merger *merger, GError **error)
{
    uint64_t limit = digest_chain_limit(merger->upper);

    do {
        if (!digest_chain_next(merger->lower, &merger->shining, &merger->shines, error))
            return false;
    } while (merger->shines && (merger->shining.cluster + 1) * CLUSTER_BYTES <= limit);
    return true;
}

/* The merged image is as large as its top layer. Where one of its layers is smaller, what stood
 * below was hidden, and has to be hidden still. */
static bool open_lower(struct merger *merger, GError **error)
{
    const struct merge_job *job = merger->job;

    if (job->count == job->merged ||
        digest_chain_limit(merger->upper) == job->layers[0].virtual_bytes)
        return true;
    merger->lower = open_digests(job->layers + job->merged, job->count - job->merged, error);
    return merger->lower && next_shining(merger, error);
}

static struct merger *merger_open(const struct merge_job *job, GError **error)
{
    AUTO(merger) merger = g_malloc0(sizeof *merger + job->merged * sizeof(struct source));

    g_assert(job->merged > 0 && job->merged <= job->count);
    merger->job = job;
    merger->window_size = CLAMP(WINDOWS_BYTES / job->merged, WINDOW_MIN, WINDOW_MAX);
    merger->subject = g_strdup_printf("%s/%s", job->manifest->vm, job->disk->target);
    merger->upper = open_digests(job->layers, job->merged, error);
    if (!merger->upper || !open_lower(merger, error))
        return NULL;
    for (unsigned i = 0; i < job->merged; i++)
        if (!open_source(merger, i, error))
            return NULL;
    return g_steal_pointer(&merger);
}

static bool cannot_cut(const struct merger *merger, uint64_t cluster, GError **error)
{
    return fail(error, ERROR_CONFLICT,
                "disk %s was shrunk to %" PRIu64 " bytes, which end inside cluster %" PRIu64
                ": its layers cannot be merged without changing that cluster",
                merger->job->disk->target, digest_chain_limit(merger->upper), cluster);
}

/* Clusters before END that would shine through become zeros. */
static bool hide(struct merger *merger, uint64_t end, GError **error)
{
    uint64_t limit = digest_chain_limit(merger->upper);

    while (merger->shines && merger->shining.cluster < end) {
        if (merger->shining.cluster * CLUSTER_BYTES < limit)
            return cannot_cut(merger, merger->shining.cluster, error);
        if (!composer_zero(merger->composer, merger->shining.cluster, 1, error) ||
            !next_shining(merger, error))
            return false;
    }
    return true;
}

/* Bring SOURCE to CLUSTER, of which its digests say that it is there. */
static bool seek(struct source *source, uint64_t cluster, GError **error)
{
    while (source->found && source->cluster.number < cluster)
        if (!image_next(source->image, &source->cluster, &source->found, error))
            return false;
    if (!source->found || source->cluster.number != cluster)
        return fail(error, ERROR_INTEGRITY, "%s: has no cluster %" PRIu64 ", but its digests have",
                    source->path, cluster);
    return true;
}

/* The stored bytes of the current cluster of SOURCE, from a window that goes through the file. */
static const uint8_t *stored_bytes(struct merger *merger, struct source *source, GError **error)
{
    const struct image_cluster *cluster = &source->cluster;
    uint64_t ahead = image_file_bytes(source->image) - cluster->offset;

    if (cluster->offset + cluster->len > source->window_start + source->window_len) {
        source->window_start = cluster->offset;
        source->window_len = (size_t)MIN(ahead, merger->window_size);
        if (!fd_read_at(image_fd(source->image), source->window_start, source->window,
                        source->window_len, source->path, error))
            return NULL;
        merger->read += source->window_len;
        progress_bytes(merger->job->progress, merger->subject, merger->read, merger->total);
        if (!interrupt_check(error))
            return NULL;
    }
    return source->window + (cluster->offset - source->window_start);
}

static bool copy_packed(struct merger *merger, const struct source *source, const uint8_t *data,
                        const uint8_t digest[DIGEST_SIZE], GError **error)
{
    size_t len = cluster_packed_len(data, source->cluster.len);

    if (len == 0 || len > CLUSTER_PACKED_MAX)
        return fail(error, ERROR_INTEGRITY,
                    "%s: cluster %" PRIu64 " at 0x%" PRIx64 " is not a zstd frame of one cluster",
                    source->path, source->cluster.number, source->cluster.offset);
    return composer_packed(merger->composer, source->cluster.number, data, len, digest, error);
}

static bool copy_cluster(struct merger *merger, const struct chain_record *record, GError **error)
{
    struct source *source = &merger->sources[record->layer];
    const uint8_t *data;

    if (record->hidden)
        return cannot_cut(merger, record->cluster, error);
    if (!seek(source, record->cluster, error))
        return false;
    if (source->cluster.kind == CLUSTER_ZERO)
        return composer_zero(merger->composer, record->cluster, 1, error);
    data = stored_bytes(merger, source, error);
    if (!data)
        return false;
    if (source->cluster.kind == CLUSTER_PLAIN)
        return composer_plain(merger->composer, record->cluster, data, record->digest, error);
    return copy_packed(merger, source, data, record->digest, error);
}

static bool copy_clusters(struct merger *merger, GError **error)
{
    uint64_t end = cluster_count(merger->job->layers[0].virtual_bytes);
    struct chain_record record;
    bool found;

    for (;;) {
        if (!digest_chain_next(merger->upper, &record, &found, error) ||
            !hide(merger, found ? record.cluster : end, error))
            return false;
        if (!found)
            return true;
        if (!copy_cluster(merger, &record, error))
            return false;
        if (merger->shines && merger->shining.cluster == record.cluster &&
            !next_shining(merger, error))
            return false;
    }
}

/* A pass that has not come to the end of an image has not checked it. */
static bool end_sources(struct merger *merger, GError **error)
{
    for (unsigned i = 0; i < merger->job->merged; i++) {
        struct source *source = &merger->sources[i];

        while (source->found)
            if (!image_next(source->image, &source->cluster, &source->found, error))
                return false;
    }
    return true;
}

static bool merge(const struct merge_job *job, GError **error)
{
    AUTO(merger) merger = merger_open(job, error);
    struct disk_sink sink;

    if (!merger || !disk_sink_open(&sink, job->into, job->disk, error))
        return false;
    merger->composer = disk_sink_composer(&sink, error);
    return merger->composer && copy_clusters(merger, error) && end_sources(merger, error) &&
           disk_sink_finish(&sink, merger->composer, job->manifest, error);
}

bool snapshot_merge(const struct merge_job *job, GError **error)
{
    job->disk->virtual_bytes = job->layers[0].virtual_bytes;
    if (merge(job, error))
        return true;
    g_prefix_error(error, "cannot merge disk %s: ", job->disk->target);
    return false;
}

/* ---- comparison ---- */

static uint64_t smallest(const struct image_layer *layers, unsigned count)
{
    uint64_t bytes = UINT64_MAX;

    for (unsigned i = 0; i < count; i++)
        bytes = MIN(bytes, layers[i].virtual_bytes);
    return bytes;
}

/* How many layers at the end are the same files, and are seen by both chains as far. At least one
 * layer of each chain remains. */
static unsigned common_layers(const struct image_layer *before, unsigned before_count,
                              const struct image_layer *after, unsigned after_count)
{
    unsigned common = 0;
    uint64_t bytes;

    while (common + 1 < MIN(before_count, after_count) &&
           strcmp(before[before_count - 1 - common].digests,
                  after[after_count - 1 - common].digests) == 0)
        common++;
    if (common == 0)
        return 0;
    bytes = before[before_count - common].virtual_bytes;
    return MIN(smallest(before, before_count - common), bytes) ==
                   MIN(smallest(after, after_count - common), bytes)
               ? common
               : 0;
}

/* The next record; where nothing lies below, a zero cluster is as good as none. */
static bool next_record(struct digest_chain *chain, bool skip_zeros, struct chain_record *record,
                        bool *found, GError **error)
{
    do {
        if (!digest_chain_next(chain, record, found, error))
            return false;
    } while (*found && skip_zeros &&
             memcmp(record->digest, cluster_zero_digest(), DIGEST_SIZE) == 0);
    return true;
}

static bool records_differ(const struct chain_record *a, const struct chain_record *b)
{
    return a->cluster != b->cluster || a->hidden != b->hidden ||
           memcmp(a->digest, b->digest, DIGEST_SIZE) != 0;
}

static bool compare(struct digest_chain *before, struct digest_chain *after, bool skip_zeros,
                    GError **error)
{
    struct chain_record old = {}, now = {};
    bool has_old = true, has_new = true;

    for (uint64_t n = 0; has_old; n++) {
        if ((n % 4096 == 0 && !interrupt_check(error)) ||
            !next_record(before, skip_zeros, &old, &has_old, error) ||
            !next_record(after, skip_zeros, &now, &has_new, error))
            return false;
        if (has_old != has_new || (has_old && records_differ(&old, &now)))
            return fail(error, ERROR_INTEGRITY,
                        "the content changed: cluster %" PRIu64 " is not what it was",
                        has_old && (!has_new || old.cluster < now.cluster) ? old.cluster
                                                                           : now.cluster);
    }
    return true;
}

bool snapshot_same_content(const struct image_layer *before, unsigned before_count,
                           const struct image_layer *after, unsigned after_count, GError **error)
{
    unsigned common = common_layers(before, before_count, after, after_count);
    AUTO(digest_chain) old = open_digests(before, before_count - common, error);
    AUTO(digest_chain) now = old ? open_digests(after, after_count - common, error) : NULL;

    if (!now)
        return false;
    if (before[0].virtual_bytes != after[0].virtual_bytes)
        return fail(error, ERROR_INTEGRITY, "the disk had %" PRIu64 " bytes and has %" PRIu64,
                    before[0].virtual_bytes, after[0].virtual_bytes);
    return compare(old, now, common == 0, error);
}
