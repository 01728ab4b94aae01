/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A damaged image is made whole from others. The digests say what belongs at each place of the disk;
 * wherever another image has just that, it is as good as the original. Clusters are copied as they
 * are packed.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "snapshot/disk-sink.h"
#include "snapshot/image.h"
#include "snapshot/pass.h"

/* More than that are not looked for: it is quicker to take the whole point from another store. */
#define CLUSTERS_MAX (1u << 20)

struct wanted {
    uint64_t number; /* first: the key in the table */
    uint8_t digest[DIGEST_SIZE];
    const struct donor *donor;    /* NULL: not found yet */
    struct image_cluster cluster; /* there */
};

struct donor {
    char *path;
    struct image *image;
};

struct repair {
    const struct repair_job *job;
    GHashTable *wanted; /* number -> struct wanted */
    GPtrArray *donors;  /* of struct donor */
    unsigned missing;
    struct unpacker *unpacker;
    uint8_t *stored, *plain;
    struct pass *pass; /* over the image itself, as far as it is good; or NULL: not begun yet */
};

static void donor_free(void *data)
{
    struct donor *donor = data;

    image_free(donor->image);
    g_free(donor->path);
    g_free(donor);
}

static void repair_clear(struct repair *repair)
{
    g_hash_table_unref(repair->wanted);
    g_ptr_array_unref(repair->donors);
    unpacker_free(repair->unpacker);
    pass_free(repair->pass);
    g_free(repair->stored);
    g_free(repair->plain);
}
#define AUTO_REPAIR __attribute__((cleanup(repair_clear))) struct repair

static bool is_zero(const uint8_t digest[DIGEST_SIZE])
{
    return memcmp(digest, cluster_zero_digest(), DIGEST_SIZE) == 0;
}

/* --- what is wanted -------------------------------------------------------------------------- */

static bool want(struct repair *repair, const struct digest_record *record, GError **error)
{
    struct wanted *wanted = g_new0(struct wanted, 1);

    wanted->number = record->cluster;
    memcpy(wanted->digest, record->digest, DIGEST_SIZE);
    g_hash_table_add(repair->wanted, wanted);
    repair->missing += !is_zero(wanted->digest);
    return repair->missing <= CLUSTERS_MAX ||
           fail(error, ERROR_NOT_FOUND, "too much of it is damaged to look for each part");
}

static bool list_wanted(struct repair *repair, GError **error)
{
    const struct image_layer *layer = &repair->job->layer;
    AUTO(digest_reader) digests = digest_reader_open(layer->digests, layer->virtual_bytes, error);
    struct digest_record record;
    bool found = true;

    while (digests && found) {
        if (!digest_reader_next(digests, &record, &found, error))
            return false;
        if (found && damaged_file_has(repair->job->damage, record.cluster) &&
            !want(repair, &record, error))
            return false;
    }
    return digests != NULL;
}

/* --- who has it ------------------------------------------------------------------------------ */

static bool read_stored(struct repair *repair, struct image *image, const char *path,
                        const struct image_cluster *cluster, GError **error)
{
    return fd_read_at(image_fd(image), cluster->offset, repair->stored, cluster->len, path, error);
}

/* Has DONOR at CLUSTER what is WANTED? It is unpacked to see: a donor can be damaged, too. */
static bool has_content(struct repair *repair, const struct donor *donor,
                        const struct image_cluster *cluster, const struct wanted *wanted)
{
    uint8_t digest[DIGEST_SIZE];

    if (cluster->kind == CLUSTER_ZERO ||
        !read_stored(repair, donor->image, donor->path, cluster, NULL) ||
        !image_cluster_unpack(cluster, repair->stored, repair->unpacker, donor->path, repair->plain,
                              NULL))
        return false;
    digest_buffer(repair->plain, CLUSTER_BYTES, digest);
    return memcmp(digest, wanted->digest, DIGEST_SIZE) == 0;
}

/* A donor that cannot be read is none. */
static bool ask_donor(struct repair *repair, const struct image_layer *layer, GError **error)
{
    struct donor *donor = g_new0(struct donor, 1);
    struct image_cluster cluster;
    bool found = true;

    g_ptr_array_add(repair->donors, donor);
    donor->path = g_strdup(layer->image);
    donor->image = image_open(layer->image, NULL);
    while (donor->image && repair->missing > 0 && interrupt_check(error) &&
           image_next(donor->image, &cluster, &found, NULL) && found) {
        struct wanted *wanted = g_hash_table_lookup(repair->wanted, &cluster.number);

        if (!wanted || wanted->donor || is_zero(wanted->digest) ||
            !has_content(repair, donor, &cluster, wanted))
            continue;
        wanted->donor = donor;
        wanted->cluster = cluster;
        repair->missing--;
    }
    return interrupt_check(error);
}

static bool find_donors(struct repair *repair, GError **error)
{
    for (unsigned i = 0; i < repair->job->donor_count && repair->missing > 0; i++)
        if (!ask_donor(repair, &repair->job->donors[i], error))
            return false;
    if (repair->missing > 0)
        return fail(error, ERROR_NOT_FOUND,
                    "%u damaged clusters of %s are in no other point of this store",
                    repair->missing, repair->job->disk->file);
    return true;
}

/* --- the new image --------------------------------------------------------------------------- */

static bool add_stored(struct composer *composer, const struct digest_record *record,
                       const struct stored_cluster *cluster, GError **error)
{
    if (cluster->kind == CLUSTER_PLAIN)
        return composer_plain(composer, record->cluster, cluster->data, record->digest, error);
    return composer_packed(composer, record->cluster, cluster->data, cluster->len, record->digest,
                           error);
}

/* What a donor has was found to be a cluster of that digest. */
static bool add_wanted(struct repair *repair, struct composer *composer,
                       const struct wanted *wanted, const struct digest_record *record,
                       GError **error)
{
    const struct image_cluster *from = &wanted->cluster;
    struct stored_cluster cluster = {from->kind, repair->stored, from->len};

    if (!read_stored(repair, wanted->donor->image, wanted->donor->path, from, error))
        return false;
    if (from->kind == CLUSTER_PACKED)
        cluster.len = cluster_packed_len(repair->stored, from->len);
    return add_stored(composer, record, &cluster, error);
}

static bool add_own(struct repair *repair, struct composer *composer,
                    const struct digest_record *record, GError **error)
{
    const struct repair_job *job = repair->job;
    struct stored_cluster cluster;

    if (!repair->pass)
        repair->pass = pass_new(&job->layer, job->damage->unreadable, error);
    return repair->pass && pass_get(repair->pass, record->cluster, &cluster, error) &&
           add_stored(composer, record, &cluster, error);
}

static bool add_cluster(struct repair *repair, struct composer *composer,
                        const struct digest_record *record, GError **error)
{
    const struct wanted *wanted = g_hash_table_lookup(repair->wanted, &record->cluster);

    if (is_zero(record->digest))
        return composer_zero(composer, record->cluster, 1, error);
    return wanted ? add_wanted(repair, composer, wanted, record, error)
                  : add_own(repair, composer, record, error);
}

static bool compose(struct repair *repair, struct composer *composer, GError **error)
{
    const struct image_layer *layer = &repair->job->layer;
    AUTO(digest_reader) digests = digest_reader_open(layer->digests, layer->virtual_bytes, error);
    struct digest_record record;
    bool found = true;

    while (digests && found) {
        if (!interrupt_check(error) || !digest_reader_next(digests, &record, &found, error) ||
            (found && !add_cluster(repair, composer, &record, error)))
            return false;
    }
    return digests != NULL;
}

static bool repair_image(struct repair *repair, GError **error)
{
    const struct repair_job *job = repair->job;
    AUTO(composer) composer = NULL;
    struct disk_sink sink;

    if (!list_wanted(repair, error) || !find_donors(repair, error) ||
        !disk_sink_open(&sink, job->into, job->disk, error))
        return false;
    composer = disk_sink_composer(&sink, error);
    return composer && compose(repair, composer, error) &&
           disk_sink_finish(&sink, composer, job->manifest, error);
}

bool snapshot_repair(const struct repair_job *job, GError **error)
{
    AUTO_REPAIR repair = {
        .job = job,
        .wanted = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL),
        .donors = g_ptr_array_new_with_free_func(donor_free),
        .unpacker = unpacker_new(),
        .stored = g_malloc(IMAGE_CLUSTER_MAX),
        .plain = g_malloc(CLUSTER_BYTES),
    };

    return repair_image(&repair, error);
}

/* --- digests --------------------------------------------------------------------------------- */

struct digests_file {
    struct incoming *into;
    unsigned file;
};

static bool write_digests(void *context, uint64_t offset, const void *data, size_t len,
                          GError **error)
{
    struct digests_file *self = context;

    return incoming_write(self->into, self->file, offset, data, len, error);
}

static bool digest_cluster(struct image *image, const char *path,
                           const struct image_cluster *cluster, struct unpacker *unpacker,
                           struct digest_writer *writer, GError **error)
{
    g_autofree uint8_t *stored = g_malloc(IMAGE_CLUSTER_MAX);
    g_autofree uint8_t *plain = g_malloc(CLUSTER_BYTES);
    uint8_t digest[DIGEST_SIZE];

    if (cluster->kind == CLUSTER_ZERO)
        return digest_writer_add(writer, cluster->number, cluster_zero_digest(), error);
    if (!fd_read_at(image_fd(image), cluster->offset, stored, cluster->len, path, error) ||
        !image_cluster_unpack(cluster, stored, unpacker, path, plain, error))
        return false;
    digest_buffer(plain, CLUSTER_BYTES, digest);
    return digest_writer_add(writer, cluster->number, digest, error);
}

bool snapshot_make_digests(const struct image_layer *layer, struct incoming *into, const char *name,
                           GError **error)
{
    struct digests_file file = {.into = into};
    AUTO(image) image = image_open(layer->image, error);
    AUTO(unpacker) unpacker = unpacker_new();
    AUTO(digest_writer) writer = NULL;
    struct image_cluster cluster;
    uint64_t bytes;
    bool found = true;

    if (!image || !incoming_open(into, name, &file.file, error))
        return false;
    writer = digest_writer_new(write_digests, &file, layer->virtual_bytes);
    while (found) {
        if (!interrupt_check(error) || !image_next(image, &cluster, &found, error) ||
            (found && !digest_cluster(image, layer->image, &cluster, unpacker, writer, error)))
            return false;
    }
    return digest_writer_finish(writer, &bytes, error);
}
