/* SPDX-License-Identifier: Apache-2.0 */
/* The chain of a disk becomes one image, which flows into an archive and is never a file. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "restore/archive.h"

#define HEADER_BYTES ((size_t)64 << 10)
#define COPY_BYTES ((size_t)1 << 20)

/* What comes out of snapshot_merge(): its file 0 is the image, 1 the digests. */
struct passage {
    struct incoming incoming;
    struct merged_disk *disk;
    struct tarball_out *out; /* NULL: it is measured */
    struct digest *digest;   /* of the image, while it is written */
    uint64_t at;             /* end of the image so far */
    bool has_header;
};

struct merged_disk {
    struct manifest *manifest; /* borrowed, as is */
    struct manifest_disk *entry;
    struct progress *progress;
    struct image_layer *layers;
    unsigned count;
    uint8_t header[HEADER_BYTES];
    uint64_t image_bytes, digests_bytes;
    int digests; /* a file without a name */
};

/* ---- Taking what is composed */

static bool passage_open(struct incoming *incoming, const char *name, unsigned *file,
                         GError **error)
{
    const struct passage *self = (struct passage *)incoming;

    *file = strcmp(name, self->disk->entry->file) == 0 ? 0 : 1;
    return true;
}

static bool write_image(struct passage *self, const void *data, size_t len, GError **error)
{
    digest_update(self->digest, data, len);
    return tarball_out_write(self->out, data, len, error);
}

/* The image without its first cluster comes in ascending order; that one comes last. */
static bool take_image(struct passage *self, uint64_t offset, const void *data, size_t len,
                       GError **error)
{
    struct merged_disk *disk = self->disk;

    if (offset == 0) {
        g_assert(len == HEADER_BYTES && !self->has_header);
        self->has_header = true;
        if (self->out && memcmp(disk->header, data, len) != 0)
            return fail(error, ERROR_CONFLICT, "the images changed while they were read");
        memcpy(disk->header, data, len);
        return true;
    }
    g_assert(offset == self->at);
    self->at += len;
    return !self->out || write_image(self, data, len, error);
}

static bool passage_write(struct incoming *incoming, unsigned file, uint64_t offset,
                          const void *data, size_t len, GError **error)
{
    struct passage *self = (struct passage *)incoming;

    if (file == 0)
        return take_image(self, offset, data, len, error);
    if (self->out)
        return true; /* they are known */
    self->disk->digests_bytes = MAX(self->disk->digests_bytes, offset + len);
    return fd_write_at(self->disk->digests, offset, data, len, self->disk->entry->digests, error);
}

static void passage_free(struct incoming *incoming)
{
}

static const struct incoming_ops passage_ops = {
    .open = passage_open,
    .write = passage_write,
    .free = passage_free,
};

/* Compose it, into OUT unless that is NULL. */
static bool compose(struct merged_disk *disk, struct tarball_out *out, struct digest *digest,
                    struct manifest *manifest, struct manifest_disk *entry, GError **error)
{
    struct passage passage = {
        .incoming = {.ops = &passage_ops, .label = "archive"},
        .disk = disk,
        .out = out,
        .digest = digest,
        .at = HEADER_BYTES,
    };
    struct merge_job job = {
        .layers = disk->layers,
        .count = disk->count,
        .merged = disk->count,
        .into = &passage.incoming,
        .manifest = manifest,
        .disk = entry,
        .progress = disk->progress,
    };

    return snapshot_merge(&job, error);
}

/* ---- Measuring */

static bool describe_layer(const char *image, struct image_layer *layer, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(image);
    g_autofree char *name = g_path_get_basename(image);
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    AUTO(manifest) manifest = manifest_load(path, error);
    const struct manifest_disk *disk = manifest ? manifest_disk_of_image(manifest, name) : NULL;

    if (!manifest)
        return false;
    if (!disk)
        return fail(error, ERROR_INTEGRITY, "%s has no disk in %s", path, name);
    *layer = (struct image_layer){
        .image = g_strdup(image),
        .digests = g_build_filename(dir, disk->digests, NULL),
        .virtual_bytes = disk->virtual_bytes,
    };
    return true;
}

static int nameless_file(const char *dir, GError **error)
{
    g_autofree char *path = g_build_filename(dir, ".tmp-drctl-XXXXXX", NULL);
    int fd = g_mkstemp_full(path, O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0)
        fail_errno(error, errno, "cannot create a file in %s", dir);
    else
        unlink(path);
    return fd;
}

struct merged_disk *merged_disk_new(struct manifest *manifest, const char *target,
                                    char *const *chain, const char *dir, struct progress *progress,
                                    GError **error)
{
    AUTO(merged_disk) disk = g_new0(struct merged_disk, 1);

    disk->manifest = manifest;
    disk->entry = manifest_add_disk(manifest, target);
    disk->progress = progress;
    disk->layers = g_new0(struct image_layer, g_strv_length((char **)chain));
    disk->digests = nameless_file(dir, error);
    if (disk->digests < 0)
        return NULL;
    for (; chain[disk->count]; disk->count++)
        if (!describe_layer(chain[disk->count], &disk->layers[disk->count], error))
            return NULL;
    if (!compose(disk, NULL, NULL, manifest, disk->entry, error))
        return NULL;
    disk->image_bytes = disk->entry->stored_bytes;
    return g_steal_pointer(&disk);
}

void merged_disk_free(struct merged_disk *disk)
{
    if (!disk)
        return;
    for (unsigned i = 0; i < disk->count; i++) {
        g_free(disk->layers[i].image);
        g_free(disk->layers[i].digests);
    }
    g_free(disk->layers);
    fd_cleanup(&disk->digests);
    g_free(disk);
}

/* ---- Writing */

static char *member_of(const struct merged_disk *disk, const char *name)
{
    return archive_member(disk->manifest->uuid, disk->manifest->point, name);
}

static bool write_digests(const struct merged_disk *disk, struct tarball_out *out, GString *sums,
                          GError **error)
{
    g_autofree char *member = member_of(disk, disk->entry->digests);
    g_autofree uint8_t *buffer = g_malloc(COPY_BYTES);
    AUTO(digest) digest = digest_new();
    uint8_t sum[DIGEST_SIZE];

    if (!tarball_out_begin(out, member, disk->digests_bytes, error))
        return false;
    for (uint64_t at = 0; at < disk->digests_bytes;) {
        size_t part = (size_t)MIN(disk->digests_bytes - at, COPY_BYTES);

        if (!fd_read_at(disk->digests, at, buffer, part, disk->entry->digests, error) ||
            !tarball_out_write(out, buffer, part, error))
            return false;
        digest_update(digest, buffer, part);
        at += part;
    }
    digest_final(digest, sum);
    archive_sum(sums, disk->entry->digests, sum);
    return true;
}

bool merged_disk_write(struct merged_disk *disk, struct tarball_out *out, GString *sums,
                       GError **error)
{
    g_autofree char *member = member_of(disk, disk->entry->file);
    AUTO(digest) digest = digest_new();
    /* What the second time says is said already. */
    AUTO(manifest) again = manifest_new();
    struct manifest_disk *entry = manifest_add_disk(again, disk->entry->target);
    uint8_t sum[DIGEST_SIZE];

    if (!tarball_out_begin(out, member, disk->image_bytes, error) ||
        !tarball_out_write(out, disk->header, HEADER_BYTES, error))
        return false;
    digest_update(digest, disk->header, HEADER_BYTES);
    if (!compose(disk, out, digest, again, entry, error))
        return false;
    digest_final(digest, sum);
    archive_sum(sums, disk->entry->file, sum);
    return write_digests(disk, out, sums, error);
}
