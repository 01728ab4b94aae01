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
#include <unistd.h>

#include "replicator/local.h"
#include "replicator/sums.h"

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
    if (self->files->len + self->linked->len != manifest->files->len)
        return fail(error, ERROR_INTEGRITY, "%u files arrived, the manifest lists %u",
                    self->files->len + self->linked->len, manifest->files->len);
    return true;
}

/* The image below DISK is there, under the name that the image of DISK calls it by. */
static bool check_base(struct local_incoming *self, const struct manifest *manifest,
                       const struct manifest_disk *disk, GError **error)
{
    const char *vm = manifest_base_vm(manifest, disk), *target = manifest_base_target(disk);
    AUTO(manifest) base = local_manifest(self->store->path, vm, disk->base, error);
    const struct manifest_disk *found = base ? manifest_disk(base, target) : NULL;
    g_autofree char *backing = manifest_backing_name(disk);
    g_autofree char *name = g_path_get_basename(backing);

    if (!base) {
        g_prefix_error(error, "the base of disk %s is not here: ", disk->target);
        return false;
    }
    if (!found || strcmp(found->file, name) != 0)
        return fail(error, ERROR_INTEGRITY,
                    "point %s of VM %s, the base of disk %s, has no disk %s in a file %s",
                    disk->base, vm, disk->target, target, name);
    return true;
}

/* A point's bases are committed before it; that they are older, manifest_parse() sees. */
static bool check_bases(struct local_incoming *self, const struct manifest *manifest,
                        GError **error)
{
    for (unsigned i = 0; i < manifest->disks->len; i++) {
        const struct manifest_disk *disk = manifest->disks->pdata[i];

        if (disk->base && !check_base(self, manifest, disk, error))
            return false;
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

/* Reading back: the disk is read and compared with the runs in our thread, the digest of the whole
 * file is made in a lane. */
struct reading {
    struct arriving_file *file;
    struct lane *lane;
    struct digest *whole; /* belongs to the lane until it was waited for */
};

static bool digest_piece(struct piece *piece, GError **error)
{
    digest_update(piece->target, piece->data, piece->len);
    return true;
}

/* The checksum of the bytes of RUN as the disk has them. Every piece but the last one of a file ends
 * at a multiple of its size, as direct reading wants it. */
static bool read_run(struct reading *self, const struct run_of_bytes *run,
                     uint8_t out[CHECKSUM_SIZE], GError **error)
{
    AUTO(checksum) checksum = checksum_new();
    uint64_t at = run->offset, end = run->offset + run->len;

    while (at < end) {
        struct piece *piece = lane_take(self->lane);
        bool ok;

        piece->offset = at;
        piece->len = (size_t)MIN(end - at, STORE_WRITE_MAX - at % STORE_WRITE_MAX);
        piece->target = self->whole;
        ok = interrupt_check(error) && disk_read(&self->file->disk, piece, error);
        if (!ok)
            piece->len = 0;
        checksum_update(checksum, piece->data, piece->len);
        at += piece->len;
        lane_put(self->lane, piece);
        if (!ok)
            return false;
    }
    checksum_final(checksum, out);
    return true;
}

static bool compare_runs(struct reading *self, GError **error)
{
    uint8_t checksum[CHECKSUM_SIZE];

    for (unsigned i = 0; i < self->file->runs->len; i++) {
        const struct run_of_bytes *run = &g_array_index(self->file->runs, struct run_of_bytes, i);

        if (!read_run(self, run, checksum, error))
            return false;
        if (memcmp(checksum, run->checksum, CHECKSUM_SIZE) != 0)
            return fail(error, ERROR_INTEGRITY,
                        "%s: the disk does not give back what was written at offset %" PRIu64
                        ": memory, disk or file system are damaged",
                        self->file->name, run->offset);
    }
    return true;
}

/* Read FILE back, compare it with what arrived, and add its line to SUMS. */
static bool read_back(struct arriving_file *file, struct lane *lane, GString *sums, GError **error)
{
    AUTO(digest) whole = digest_new();
    struct reading reading = {.file = file, .lane = lane, .whole = whole};
    bool same = compare_runs(&reading, error);
    uint8_t digest[DIGEST_SIZE];

    lane_wait(lane, NULL);
    if (!same)
        return false;
    digest_final(whole, digest);
    sums_append(sums, file->name, digest);
    return true;
}

static bool settle_files(struct local_incoming *self, GString *sums, GError **error)
{
    AUTO(lane) lane = lane_new(digest_piece);

    for (unsigned i = 0; i < self->files->len; i++) {
        struct arriving_file *file = self->files->pdata[i];

        if (!check_tiling(file, error))
            return false;
        if (fsync(file->disk.fd) < 0)
            return fail_errno(error, errno, "cannot write %s", file->name);
        disk_forget(&file->disk);
    }
    for (unsigned i = 0; i < self->files->len; i++)
        if (!read_back(self->files->pdata[i], lane, sums, error))
            return false;
    /* Nobody of ours holds a file of a point open for writing from here on. */
    g_ptr_array_set_size(self->files, 0);
    return true;
}

/* What is linked has not changed: its digests are those of the point that is replaced. */
static bool add_linked(struct local_incoming *self, GString *sums, GError **error)
{
    g_autofree char *old = store_point_dir(self->store->path, self->vm_uuid, self->point);
    g_autoptr(GHashTable) digests = self->linked->len ? sums_read(old, error) : NULL;

    if (self->linked->len && !digests)
        return false;
    for (unsigned i = 0; i < self->linked->len; i++) {
        const char *name = self->linked->pdata[i];
        const char *hex = g_hash_table_lookup(digests, name);
        uint8_t digest[DIGEST_SIZE];

        if (!hex || !digest_from_hex(hex, digest))
            return fail(error, ERROR_INTEGRITY, "%s is not in %s/" SHA256SUMS_NAME, name, old);
        sums_append(sums, name, digest);
    }
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

    /* What we could not read tomorrow we do not write today. */
    if (!again)
        return false;
    digest_buffer(text, strlen(text), digest);
    sums_append(sums, MANIFEST_NAME, digest);
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

/* A committed point says itself which site it is of. */
static bool unbind(const struct local_incoming *self, GError **error)
{
    g_autofree char *path = g_build_filename(self->dir, INCOMING_SITE_NAME, NULL);

    return unlink(path) == 0 || errno == ENOENT ||
           fail_errno(error, errno, "cannot remove %s", path);
}

bool local_settle(struct local_incoming *self, const struct manifest *manifest,
                  const struct manifest *fresh, GError **error)
{
    g_autoptr(GString) sums = g_string_new(NULL);

    if (!local_flush(self, error) || !check_manifest(self, manifest, error) ||
        !settle_files(self, sums, error) || !add_linked(self, sums, error) ||
        !self->store->point_ops->check(self->dir, fresh, error) ||
        !write_manifest(self, manifest, sums, error) || !unbind(self, error) ||
        !dir_sync(self->dir, error))
        return false;
    g_clear_pointer(&self->lane, lane_free);
    return true;
}

static void free_lock(void *lock)
{
    file_lock_free(lock);
}

/* Keep all points that are of other VMs and that MANIFEST is based on from being dropped; our own
 * VM's are kept by its lock. Of struct file_lock. */
static GPtrArray *hold_bases(struct local_incoming *self, const struct manifest *manifest,
                             GError **error)
{
    g_autoptr(GPtrArray) locks = g_ptr_array_new_with_free_func(free_lock);

    for (unsigned i = 0; i < manifest->disks->len; i++) {
        const struct manifest_disk *disk = manifest->disks->pdata[i];
        struct file_lock *lock;

        if (!disk->base_vm)
            continue;
        lock = store_read_lock(self->store->path, disk->base_vm, error);
        if (!lock)
            return NULL;
        g_ptr_array_add(locks, lock);
    }
    return g_steal_pointer(&locks);
}

/* A base may have been dropped while the point was on its way, but not between the last look and
 * the rename. */
static bool publish_on_bases(struct local_incoming *self, const struct manifest *manifest,
                             GError **error)
{
    g_autoptr(GPtrArray) locks = hold_bases(self, manifest, error);

    return locks && check_bases(self, manifest, error) && publish(self, error);
}

/* The VM may have been failed over while its point was on its way. */
static bool check_owner(const struct local_incoming *self, GError **error)
{
    struct taker taker = {self->taker, self->taker_epoch};

    return owner_admits(self->store->path, self->vm_uuid, self->taker ? &taker : NULL, error);
}

bool local_commit(struct local_incoming *self, const struct manifest *manifest, GError **error)
{
    if (!local_settle(self, manifest, manifest, error) || !check_owner(self, error) ||
        !publish_on_bases(self, manifest, error))
        return false;
    local_cache_put(self->store, manifest);
    local_sketch_point(self->store, manifest);
    return true;
}
