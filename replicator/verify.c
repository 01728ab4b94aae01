/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "replicator/local.h"
#include "replicator/sums.h"

struct verification {
    const struct manifest *manifest;
    char *dir;
    GHashTable *sums; /* name -> hex digest */
    struct progress *progress;
    struct lane *lane; /* for the digests */
    uint64_t done, total;
    GString *damage; /* what is wrong, all of it */
};

static void damaged(struct verification *self, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void damaged(struct verification *self, const char *format, ...)
{
    va_list args;

    if (self->damage->len)
        g_string_append(self->damage, "; ");
    va_start(args, format);
    g_string_append_vprintf(self->damage, format, args);
    va_end(args);
}

static bool digest_piece(struct piece *piece, GError **error)
{
    digest_update(piece->target, piece->data, piece->len);
    return true;
}

/* The digest of the first BYTES of FILE as the disk has them. */
static bool digest_of(struct verification *self, struct disk_file *file, uint64_t bytes,
                      uint8_t out[DIGEST_SIZE], GError **error)
{
    AUTO(digest) digest = digest_new();
    g_autofree char *subject = g_strconcat(self->manifest->vm, "/", file->name, NULL);
    bool ok = true;

    disk_forget(file);
    for (uint64_t at = 0; at < bytes && ok;) {
        struct piece *piece = lane_take(self->lane);

        piece->offset = at;
        piece->len = (size_t)MIN(bytes - at, STORE_WRITE_MAX);
        piece->target = digest;
        ok = interrupt_check(error) && disk_read(file, piece, error);
        if (!ok)
            piece->len = 0;
        at += piece->len;
        self->done += piece->len;
        lane_put(self->lane, piece);
        progress_bytes(self->progress, subject, self->done, self->total);
    }
    lane_wait(self->lane, NULL);
    digest_final(digest, out);
    return ok;
}

/* False only when interrupted; damage is noted. */
static bool verify_file(struct verification *self, const char *name, int64_t bytes, GError **error)
{
    g_autofree char *path = g_build_filename(self->dir, name, NULL);
    const char *expected = g_hash_table_lookup(self->sums, name);
    AUTO_FD fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct disk_file file = {.fd = fd, .name = name};
    g_autoptr(GError) why = NULL;
    uint8_t digest[DIGEST_SIZE];
    char hex[DIGEST_HEX_SIZE];
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        damaged(self, "%s: %s", name, g_strerror(errno));
        return true;
    }
    if (bytes >= 0 && st.st_size != bytes) {
        damaged(self, "%s has %" PRId64 " bytes instead of %" PRId64, name, (int64_t)st.st_size,
                bytes);
        return true;
    }
    if (!expected) {
        damaged(self, "%s is not in " SHA256SUMS_NAME, name);
        return true;
    }
    if (!digest_of(self, &file, (uint64_t)st.st_size, digest, &why)) {
        if (error_is(why, ERROR_CANCELLED)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        damaged(self, "%s", why->message);
        return true;
    }
    digest_to_hex(digest, hex);
    if (strcmp(hex, expected) != 0)
        damaged(self, "%s has changed: its SHA-256 is not the one of its commit", name);
    return true;
}

static bool verify_files(struct verification *self, GError **error)
{
    const struct manifest *manifest = self->manifest;

    self->sums = sums_read(self->dir, error);
    if (!self->sums)
        return false;
    for (unsigned i = 0; i < manifest->files->len; i++)
        self->total += ((const struct manifest_file *)manifest->files->pdata[i])->bytes;
    if (!verify_file(self, MANIFEST_NAME, -1, error))
        return false;
    for (unsigned i = 0; i < manifest->files->len; i++) {
        const struct manifest_file *file = manifest->files->pdata[i];

        if (!verify_file(self, file->name, (int64_t)file->bytes, error))
            return false;
    }
    if (self->damage->len)
        return fail(error, ERROR_INTEGRITY, "%s", self->damage->str);
    return true;
}

bool store_verify_point(const char *store_path, const struct manifest *manifest,
                        struct progress *progress, GError **error)
{
    struct verification self = {
        .manifest = manifest,
        .dir = store_point_dir(store_path, manifest->uuid, manifest->point),
        .progress = progress,
        .lane = lane_new(digest_piece),
        .damage = g_string_new(NULL),
    };
    bool ok = verify_files(&self, error);

    if (!ok)
        g_prefix_error(error, "point %s of %s: ", manifest->point, manifest->vm);
    lane_free(self.lane);
    g_free(self.dir);
    g_clear_pointer(&self.sums, g_hash_table_unref);
    g_string_free(self.damage, TRUE);
    return ok;
}
