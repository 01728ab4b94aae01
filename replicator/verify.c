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
    const char *dir;
    GHashTable *sums; /* name -> hex digest */
    struct progress *progress;
    struct lane *lane; /* for the digests */
    uint64_t done, total;
    struct damage *damage;
};

static void damaged(struct verification *self, const char *name, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

static void damaged(struct verification *self, const char *name, const char *format, ...)
{
    g_autofree char *why = NULL;
    va_list args;

    va_start(args, format);
    why = g_strdup_vprintf(format, args);
    va_end(args);
    damage_add(self->damage, name, why);
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
        damaged(self, name, "%s", g_strerror(errno));
        return true;
    }
    if (bytes >= 0 && st.st_size != bytes) {
        damaged(self, name, "it has %" PRId64 " bytes instead of %" PRId64, (int64_t)st.st_size,
                bytes);
        return true;
    }
    if (!expected) {
        damaged(self, SHA256SUMS_NAME, "%s is not in it", name);
        return true;
    }
    if (!digest_of(self, &file, (uint64_t)st.st_size, digest, &why)) {
        if (error_is(why, ERROR_CANCELLED)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        damaged(self, name, "%s", why->message);
        return true;
    }
    digest_to_hex(digest, hex);
    if (strcmp(hex, expected) != 0)
        damaged(self, name, "it has changed: its SHA-256 is not the one of its commit");
    return true;
}

static bool verify_files(struct verification *self, GError **error)
{
    const struct manifest *manifest = self->manifest;

    for (unsigned i = 0; i < manifest->files->len; i++)
        self->total += ((const struct manifest_file *)manifest->files->pdata[i])->bytes;
    if (!verify_file(self, MANIFEST_NAME, -1, error))
        return false;
    for (unsigned i = 0; i < manifest->files->len; i++) {
        const struct manifest_file *file = manifest->files->pdata[i];

        if (!verify_file(self, file->name, (int64_t)file->bytes, error))
            return false;
    }
    return true;
}

bool store_find_damage(const char *dir, const struct manifest *manifest, struct progress *progress,
                       struct damage *damage, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(GHashTable) sums = sums_read(dir, &why);
    AUTO(lane) lane = NULL;
    struct verification self = {
        .manifest = manifest,
        .dir = dir,
        .sums = sums,
        .progress = progress,
        .damage = damage,
    };

    if (!sums) {
        damage_add(damage, SHA256SUMS_NAME, why->message);
        return true;
    }
    self.lane = lane = lane_new(digest_piece);
    return verify_files(&self, error);
}

static bool is_whole(const struct damage *damage, GError **error)
{
    g_autofree char *text = damage_text(damage);

    return damage->files->len == 0 || fail(error, ERROR_INTEGRITY, "%s", text);
}

bool store_verify_file(const char *dir, const struct manifest *manifest, const char *name,
                       GError **error)
{
    const struct manifest_file *file = manifest_file(manifest, name);
    g_autoptr(GHashTable) sums = sums_read(dir, error);
    AUTO(damage) damage = damage_new();
    AUTO(lane) lane = sums ? lane_new(digest_piece) : NULL;
    struct verification self = {
        .manifest = manifest, .dir = dir, .sums = sums, .lane = lane, .damage = damage};

    return sums && verify_file(&self, name, (int64_t)file->bytes, error) && is_whole(damage, error);
}

bool store_verify_point(const char *store_path, const struct manifest *manifest,
                        struct progress *progress, GError **error)
{
    g_autofree char *dir = store_point_dir(store_path, manifest->uuid, manifest->point);
    AUTO(damage) damage = damage_new();
    bool ok = store_find_damage(dir, manifest, progress, damage, error) && is_whole(damage, error);

    if (!ok)
        g_prefix_error(error, "point %s of %s: ", manifest->point, manifest->vm);
    return ok;
}
