/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commit of a point. Nothing of it is visible until the rename, everything after it; what is
 * told to be committed survives a power cut. A kill before the rename leaves a directory in
 * incoming/ without a lock, which is swept.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "replicator/local.h"

#define READ_SIZE ((size_t)1 << 20)

/* --- Is it what the manifest says? ---------------------------------------------------------- */

static bool check_files(struct local_incoming *self, const struct manifest *manifest,
                        GError **error)
{
    for (unsigned i = 0; i < self->files->len; i++) {
        const struct arriving_file *file = self->files->pdata[i];
        const struct manifest_file *listed = manifest_file(manifest, file->name);

        if (!listed)
            return fail(error, ERROR_INTEGRITY, "%s arrived, but the manifest does not list it",
                        file->name);
        if (listed->bytes != file->size)
            return fail(error, ERROR_INTEGRITY,
                        "%s should have %" PRIu64 " bytes, but %" PRIu64 " arrived", file->name,
                        listed->bytes, file->size);
    }
    if (self->files->len != manifest->files->len)
        return fail(error, ERROR_INTEGRITY, "%u files arrived, the manifest lists %u",
                    self->files->len, manifest->files->len);
    return true;
}

/* A point's bases are committed before it. */
static bool check_bases(struct local_incoming *self, const struct manifest *manifest,
                        GError **error)
{
    for (unsigned i = 0; i < manifest->disks->len; i++) {
        const struct manifest_disk *disk = manifest->disks->pdata[i];
        AUTO(manifest) base = NULL;

        if (!disk->base)
            continue;
        base = local_manifest(self->store->path, self->vm_uuid, disk->base, error);
        if (!base) {
            g_prefix_error(error, "the base of disk %s is not here: ", disk->target);
            return false;
        }
        if (!manifest_disk(base, disk->target))
            return fail(error, ERROR_INTEGRITY, "point %s, the base of disk %s, has no such disk",
                        disk->base, disk->target);
    }
    return true;
}

static bool check_manifest(struct local_incoming *self, const struct manifest *manifest,
                           GError **error)
{
    if (strcmp(manifest->uuid, self->vm_uuid) != 0 || strcmp(manifest->point, self->point) != 0)
        return fail(error, ERROR_INTEGRITY,
                    "the manifest is of point %s of VM %s, not of the one that was begun",
                    manifest->point, manifest->uuid);
    return check_files(self, manifest, error) && check_bases(self, manifest, error);
}

/* --- Is it on disk? ------------------------------------------------------------------------- */

static int by_offset(const void *a, const void *b)
{
    const struct run_of_bytes *left = a, *right = b;

    return left->offset < right->offset ? -1 : left->offset > right->offset;
}

/* Every byte must have been sent, once: then the runs say all about the file. */
static bool check_tiling(struct arriving_file *file, GError **error)
{
    uint64_t at = 0;

    arriving_file_end_run(file);
    g_array_sort(file->runs, by_offset);
    for (unsigned i = 0; i < file->runs->len; i++) {
        const struct run_of_bytes *run = &g_array_index(file->runs, struct run_of_bytes, i);

        if (run->offset > at)
            return fail(error, ERROR_INTEGRITY,
                        "%s: bytes %" PRIu64 " to %" PRIu64 " never arrived", file->name, at,
                        run->offset);
        if (run->offset < at)
            return fail(error, ERROR_INTEGRITY, "%s: offset %" PRIu64 " arrived twice", file->name,
                        run->offset);
        at += run->len;
    }
    return true;
}

/* The digest of the bytes of RUN as the disk has them, which go into WHOLE as well. */
static bool read_run(const struct arriving_file *file, const struct run_of_bytes *run, void *buffer,
                     struct digest *whole, uint8_t out[DIGEST_SIZE], GError **error)
{
    AUTO(digest) digest = digest_new();

    for (uint64_t done = 0; done < run->len;) {
        size_t piece = (size_t)MIN(run->len - done, READ_SIZE);

        if (!interrupt_check(error) ||
            !fd_read_at(file->fd, run->offset + done, buffer, piece, file->name, error))
            return false;
        digest_update(digest, buffer, piece);
        digest_update(whole, buffer, piece);
        done += piece;
    }
    digest_final(digest, out);
    return true;
}

/* Read FILE back, compare it with what arrived, and add its line to SUMS. */
static bool read_back(const struct arriving_file *file, void *buffer, GString *sums, GError **error)
{
    AUTO(digest) whole = digest_new();
    uint8_t digest[DIGEST_SIZE];
    char hex[DIGEST_HEX_SIZE];

    /* From the disk, not from memory. */
    posix_fadvise(file->fd, 0, 0, POSIX_FADV_DONTNEED);
    for (unsigned i = 0; i < file->runs->len; i++) {
        const struct run_of_bytes *run = &g_array_index(file->runs, struct run_of_bytes, i);

        if (!read_run(file, run, buffer, whole, digest, error))
            return false;
        if (memcmp(digest, run->digest, DIGEST_SIZE) != 0)
            return fail(error, ERROR_INTEGRITY,
                        "%s: the disk does not give back what was written at offset %" PRIu64
                        ": memory, disk or file system are damaged",
                        file->name, run->offset);
    }
    digest_final(whole, digest);
    digest_to_hex(digest, hex);
    g_string_append_printf(sums, "%s  %s\n", hex, file->name);
    return true;
}

static bool settle_files(struct local_incoming *self, GString *sums, GError **error)
{
    g_autofree void *buffer = g_malloc(READ_SIZE);

    for (unsigned i = 0; i < self->files->len; i++) {
        struct arriving_file *file = self->files->pdata[i];

        if (!check_tiling(file, error))
            return false;
        if (fsync(file->fd) < 0)
            return fail_errno(error, errno, "cannot write %s", file->name);
    }
    for (unsigned i = 0; i < self->files->len; i++)
        if (!read_back(self->files->pdata[i], buffer, sums, error))
            return false;
    /* Nobody of ours holds a file of a point open for writing from here on. */
    g_ptr_array_set_size(self->files, 0);
    return true;
}

/* --- Make it visible ------------------------------------------------------------------------ */

static bool write_manifest(struct local_incoming *self, const struct manifest *manifest,
                           GString *sums, GError **error)
{
    g_autofree char *text = manifest_text(manifest);
    g_autofree char *manifest_path = g_build_filename(self->dir, MANIFEST_NAME, NULL);
    g_autofree char *sums_path = g_build_filename(self->dir, SHA256SUMS_NAME, NULL);
    AUTO(manifest) again = manifest_parse(text, strlen(text), MANIFEST_NAME, error);
    uint8_t digest[DIGEST_SIZE];
    char hex[DIGEST_HEX_SIZE];

    /* What we could not read tomorrow we do not write today. */
    if (!again)
        return false;
    digest_buffer(text, strlen(text), digest);
    digest_to_hex(digest, hex);
    g_string_append_printf(sums, "%s  %s\n", hex, MANIFEST_NAME);
    return file_write(manifest_path, text, strlen(text), MODE_PRIVATE_FILE, error) &&
           file_write(sums_path, sums->str, sums->len, MODE_PRIVATE_FILE, error);
}

/* Rename durably. If the rename is done but cannot be made durable, take it back: who is told that
 * it failed must not find it. */
static bool publish(struct local_incoming *self, GError **error)
{
    g_autofree char *final = store_point_dir(self->store->path, self->vm_uuid, self->point);
    g_autofree char *vm_dir = g_path_get_dirname(final);

    if (!make_dir(vm_dir, MODE_PASSAGE, error))
        return false;
    if (path_rename(self->dir, final, error))
        return true;
    if (!g_file_test(self->dir, G_FILE_TEST_EXISTS))
        path_rename(final, self->dir, NULL);
    return false;
}

bool local_commit(struct local_incoming *self, const struct manifest *manifest, GError **error)
{
    g_autoptr(GString) sums = g_string_new(NULL);

    if (!check_manifest(self, manifest, error) || !settle_files(self, sums, error) ||
        !self->store->check(self->dir, manifest, error) ||
        !write_manifest(self, manifest, sums, error) || !dir_sync(self->dir, error) ||
        !publish(self, error))
        return false;
    local_cache_put(self->store, manifest);
    return true;
}
