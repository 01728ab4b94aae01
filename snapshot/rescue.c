/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is left of a damaged chain, in a form that QEMU can use and that never gives anything wrong: what
 * is lost is a compressed cluster whose bytes are no frame, so every read of it is an I/O error.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "snapshot/composer.h"
#include "snapshot/digest-chain.h"
#include "snapshot/image.h"
#include "snapshot/pass.h"
#include "snapshot/snapshot.h"

/* --- an image in a file ---------------------------------------------------------------------- */

struct image_file {
    int fd;
    const char *path;
    struct composer *composer;
};

static bool write_image(void *context, uint64_t offset, const void *data, size_t len,
                        GError **error)
{
    const struct image_file *file = context;

    return fd_write_at(file->fd, offset, data, len, file->path, error);
}

/* It is no image of a point, and has no digests. */
static bool write_nothing(void *context, uint64_t offset, const void *data, size_t len,
                          GError **error)
{
    return true;
}

static void image_file_clear(struct image_file *file)
{
    composer_free(file->composer);
    fd_cleanup(&file->fd);
}
#define AUTO_IMAGE_FILE __attribute__((cleanup(image_file_clear))) struct image_file

static bool image_file_create(struct image_file *file, const char *path, uint64_t virtual_bytes,
                              const char *backing, GError **error)
{
    struct composer_output output = {
        .image = write_image, .digests = write_nothing, .context = file};

    *file = (struct image_file){.fd = -1, .path = path};
    file->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file->fd < 0)
        return fail_errno(error, errno, "cannot make %s", path);
    file->composer = composer_new(output, virtual_bytes, backing, error);
    return file->composer != NULL;
}

static bool image_file_finish(struct image_file *file, GError **error)
{
    return composer_finish(file->composer, NULL, error);
}

/* The text is for whoever looks into the file. */
static bool add_lost(struct composer *composer, uint64_t cluster, GError **error)
{
    g_autofree char *text =
        g_strdup_printf("drctl: cluster %" PRIu64 " of the disk is lost\n", cluster);

    return composer_packed(composer, cluster, text, strlen(text), cluster_zero_digest(), error);
}

/* --- over the chain -------------------------------------------------------------------------- */

bool snapshot_write_lost(const char *path, const char *backing, uint64_t virtual_bytes,
                         const GArray *lost, GError **error)
{
    g_autoptr(GArray) seen = cluster_ranges_below(lost, cluster_count(virtual_bytes));
    AUTO_IMAGE_FILE file = {.fd = -1};

    if (!image_file_create(&file, path, virtual_bytes, backing, error))
        return false;
    for (unsigned i = 0; i < seen->len; i++) {
        const struct cluster_range *range = &g_array_index(seen, struct cluster_range, i);

        for (uint64_t n = 0; n < range->count; n++)
            if ((n % 4096 == 4095 && !interrupt_check(error)) ||
                !add_lost(file.composer, range->first + n, error))
                return false;
    }
    return image_file_finish(&file, error);
}

/* --- instead of the chain -------------------------------------------------------------------- */

struct flattening {
    GArray *layers; /* of struct image_layer, top first */
    bool *unreadable;
    struct pass **passes; /* each begun when it is needed */
    struct digest_chain *digests;
    const GArray *lost;
    struct unpacker *unpacker;
    uint8_t *plain;
    struct progress *progress;
    const char *subject;
};

static void layer_clear(void *data)
{
    struct image_layer *layer = data;

    g_free(layer->image);
    g_free(layer->digests);
}

static void flattening_clear(struct flattening *self)
{
    for (unsigned i = 0; self->passes && i < self->layers->len; i++)
        pass_free(self->passes[i]);
    g_free(self->passes);
    g_free(self->unreadable);
    g_array_unref(self->layers);
    digest_chain_free(self->digests);
    unpacker_free(self->unpacker);
    g_free(self->plain);
}
#define AUTO_FLATTENING __attribute__((cleanup(flattening_clear))) struct flattening

static const struct image_layer *layer_at(const struct flattening *self, unsigned i)
{
    return &g_array_index(self->layers, struct image_layer, i);
}

static bool load_layer(struct flattening *self, unsigned i, const char *image, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(image);
    g_autofree char *name = g_path_get_basename(image);
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    AUTO(manifest) manifest = manifest_load(path, error);
    AUTO(damage) damage = NULL;
    const struct manifest_disk *disk = manifest ? manifest_disk_of_image(manifest, name) : NULL;
    const struct damaged_file *file;
    struct image_layer layer;

    if (!manifest || !damage_load(dir, &damage, error))
        return false;
    if (!disk)
        return fail(error, ERROR_INTEGRITY, "%s names no disk whose image is %s", path, name);
    layer = (struct image_layer){g_strdup(image), g_build_filename(dir, disk->digests, NULL),
                                 disk->virtual_bytes};
    g_array_append_val(self->layers, layer);
    file = damage ? damage_file(damage, name) : NULL;
    self->unreadable[i] = file && file->unreadable;
    return true;
}

static bool load_layers(struct flattening *self, char *const *images, GError **error)
{
    unsigned count = g_strv_length((char **)images);
    g_autofree struct digest_layer *digests = g_new(struct digest_layer, count);

    self->unreadable = g_new0(bool, count);
    for (unsigned i = 0; i < count; i++)
        if (!load_layer(self, i, images[i], error))
            return false;
    for (unsigned i = 0; i < count; i++)
        digests[i] =
            (struct digest_layer){layer_at(self, i)->digests, layer_at(self, i)->virtual_bytes};
    self->passes = g_new0(struct pass *, count);
    self->digests = digest_chain_open(digests, count, error);
    return self->digests != NULL;
}

/* Is it what its digest says? If not, it is a damage of which nobody knew. */
static bool check_content(struct flattening *self, const struct chain_record *record,
                          const struct stored_cluster *cluster, GError **error)
{
    const struct image_cluster form = {
        .number = record->cluster, .kind = cluster->kind, .len = (uint32_t)cluster->len};
    const char *path = layer_at(self, record->layer)->image;
    uint8_t digest[DIGEST_SIZE];

    if (!image_cluster_unpack(&form, cluster->data, self->unpacker, path, self->plain, error))
        return false;
    digest_buffer(self->plain, CLUSTER_BYTES, digest);
    return memcmp(digest, record->digest, DIGEST_SIZE) == 0 ||
           fail(error, ERROR_INTEGRITY,
                "%s: cluster %" PRIu64 " does not have the content of its digest", path,
                record->cluster);
}

static bool get_cluster(struct flattening *self, const struct chain_record *record,
                        struct stored_cluster *cluster, GError **error)
{
    struct pass **pass = &self->passes[record->layer];

    if (!*pass)
        *pass = pass_new(layer_at(self, record->layer), self->unreadable[record->layer], error);
    return *pass && pass_get(*pass, record->cluster, cluster, error) &&
           check_content(self, record, cluster, error);
}

/* A disk that was shrunk and grew again: the end of the cluster is not seen. */
static bool add_cut(struct flattening *self, struct composer *composer,
                    const struct chain_record *record, GError **error)
{
    uint8_t digest[DIGEST_SIZE];

    memset(self->plain + CLUSTER_BYTES - record->hidden, 0, record->hidden);
    if (cluster_digest(self->plain, digest))
        return composer_zero(composer, record->cluster, 1, error);
    return composer_plain(composer, record->cluster, self->plain, digest, error);
}

static bool add_cluster(struct flattening *self, struct composer *composer,
                        const struct chain_record *record, GError **error)
{
    struct stored_cluster cluster;

    if (memcmp(record->digest, cluster_zero_digest(), DIGEST_SIZE) == 0)
        return composer_zero(composer, record->cluster, 1, error);
    if (!get_cluster(self, record, &cluster, error))
        return false;
    if (record->hidden)
        return add_cut(self, composer, record, error);
    if (cluster.kind == CLUSTER_PLAIN)
        return composer_plain(composer, record->cluster, cluster.data, record->digest, error);
    return composer_packed(composer, record->cluster, cluster.data, cluster.len, record->digest,
                           error);
}

static bool flatten(struct flattening *self, struct composer *composer, GError **error)
{
    uint64_t total = layer_at(self, 0)->virtual_bytes;
    struct chain_record record;
    bool found;

    for (uint64_t n = 0;; n++) {
        if (!digest_chain_next(self->digests, &record, &found, error))
            return false;
        if (!found)
            return true;
        if (n % 256 == 0) {
            progress_bytes(self->progress, self->subject, record.cluster * CLUSTER_BYTES, total);
            if (!interrupt_check(error))
                return false;
        }
        if (cluster_ranges_has(self->lost, record.cluster)
                ? !add_lost(composer, record.cluster, error)
                : !add_cluster(self, composer, &record, error))
            return false;
    }
}

bool snapshot_flatten(const char *path, char *const *images, const GArray *lost,
                      struct progress *progress, const char *subject, GError **error)
{
    AUTO_FLATTENING self = {
        .layers = g_array_new(FALSE, FALSE, sizeof(struct image_layer)),
        .lost = lost,
        .unpacker = unpacker_new(),
        .plain = g_malloc(CLUSTER_BYTES),
        .progress = progress,
        .subject = subject,
    };
    AUTO_IMAGE_FILE file = {.fd = -1};

    g_array_set_clear_func(self.layers, layer_clear);
    if (!load_layers(&self, images, error) ||
        !image_file_create(&file, path, layer_at(&self, 0)->virtual_bytes, NULL, error))
        return false;
    if (flatten(&self, file.composer, error) && image_file_finish(&file, error))
        return true;
    if (error && error_is(*error, ERROR_INTEGRITY))
        g_prefix_error(error, "more is damaged than is noted; `drctl verify` notes it: ");
    return false;
}
