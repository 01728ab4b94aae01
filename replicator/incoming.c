/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "replicator/local.h"

#define RESERVE_STEP ((uint64_t)4 << 20)

static void arriving_file_free(void *data)
{
    struct arriving_file *file = data;

    disk_file_close(&file->disk);
    g_array_unref(file->runs);
    digest_free(file->digest);
    g_free(file->name);
    g_free(file);
}

/* Remove everything now, so that the disk it took is free again. */
static void discard(struct local_incoming *self)
{
    if (self->gone)
        return;
    self->gone = true;
    self->filling = NULL;
    g_clear_pointer(&self->lane, lane_free);
    g_ptr_array_set_size(self->files, 0);
    /* What stays is swept by whoever next opens the store. */
    tree_remove(self->dir, NULL);
}

static bool give_up(struct local_incoming *self, GError **error)
{
    discard(self);
    explain_no_space(self->store->path, error);
    return false;
}

static bool still_there(const struct local_incoming *self, GError **error)
{
    return self->gone ? fail(error, ERROR_FAILED, "the point has been discarded after an error")
                      : true;
}

static bool check_reserve(struct local_incoming *self, GError **error)
{
    const char *path = self->store->path;
    uint64_t free_bytes, total_bytes, reserve;
    g_autofree char *text = NULL;

    self->unchecked = 0;
    /* Who makes room needs some for a while. */
    if (self->replaces)
        return true;
    if (!disk_space(path, &free_bytes, &total_bytes, error))
        return false;
    reserve = MIN(total_bytes / RESERVE_PART, RESERVE_MAX_BYTES);
    if (free_bytes > reserve)
        return true;
    text = bytes_format(reserve);
    return fail(error, ERROR_NO_SPACE,
                "the store is full: the last %s are kept for bringing up what is committed", text);
}

static bool open_file(struct local_incoming *self, const char *name, GError **error)
{
    g_autofree char *path = g_build_filename(self->dir, name, NULL);
    AUTO_FD fd = -1;
    struct arriving_file *file;

    if (!name_is_safe(name))
        return fail(error, ERROR_INTEGRITY, "a file has an unsafe name");
    if (self->files->len >= POINT_MAX_FILES)
        return fail(error, ERROR_INTEGRITY, "the point has more than %u files", POINT_MAX_FILES);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, MODE_PRIVATE_FILE);
    if (fd < 0 && errno == EEXIST)
        return fail(error, ERROR_INTEGRITY, "file %s was opened twice", name);
    if (fd < 0 || fchmod(fd, MODE_PRIVATE_FILE) < 0)
        return fail_errno(error, errno, "cannot create %s", path);
    file = g_new0(struct arriving_file, 1);
    file->name = g_strdup(name);
    file->disk = (struct disk_file){.fd = fd_steal(&fd), .name = file->name};
    file->runs = g_array_new(FALSE, FALSE, sizeof(struct run_of_bytes));
    file->digest = digest_new();
    g_ptr_array_add(self->files, file);
    return true;
}

static bool local_open(struct incoming *incoming, const char *name, unsigned *file, GError **error)
{
    struct local_incoming *self = (struct local_incoming *)incoming;

    if (!still_there(self, error))
        return false;
    if (!open_file(self, name, error))
        return give_up(self, error);
    *file = self->files->len - 1;
    return true;
}

static struct run_of_bytes *open_run(struct arriving_file *file)
{
    return file->runs->len ? &g_array_index(file->runs, struct run_of_bytes, file->runs->len - 1)
                           : NULL;
}

void arriving_file_end_run(struct arriving_file *file)
{
    struct run_of_bytes *run = open_run(file);

    if (run)
        digest_final(file->digest, run->digest);
}

/* Note what arrived, to be compared with what the disk says at commit. */
static bool note_bytes(struct arriving_file *file, const struct piece *piece, GError **error)
{
    struct run_of_bytes *run = open_run(file);

    if (!run || run->offset + run->len != piece->offset) {
        struct run_of_bytes next = {.offset = piece->offset};

        if (file->runs->len >= POINT_MAX_RUNS)
            return fail(error, ERROR_INTEGRITY, "%s is written in too small pieces", file->name);
        arriving_file_end_run(file);
        g_array_append_val(file->runs, next);
        run = &g_array_index(file->runs, struct run_of_bytes, file->runs->len - 1);
    }
    digest_update(file->digest, piece->data, piece->len);
    run->len += piece->len;
    return true;
}

/* In the thread of the lane. */
static bool work_on(struct piece *piece, GError **error)
{
    struct arriving_file *file = piece->target;

    return note_bytes(file, piece, error) && disk_write(&file->disk, piece, error);
}

static void put_filling(struct local_incoming *self)
{
    if (self->filling)
        lane_put(self->lane, g_steal_pointer(&self->filling));
}

bool local_flush(struct local_incoming *self, GError **error)
{
    put_filling(self);
    return lane_wait(self->lane, error);
}

/* The piece that the bytes of FILE at OFFSET go into: what comes in small parts one after the other
 * is written as one. */
static struct piece *piece_for(struct local_incoming *self, struct arriving_file *file,
                               uint64_t offset)
{
    struct piece *piece = self->filling;

    if (piece && piece->target == file && piece->offset + piece->len == offset &&
        piece->len < STORE_WRITE_MAX)
        return piece;
    put_filling(self);
    self->filling = piece = lane_take(self->lane);
    piece->target = file;
    piece->offset = offset;
    piece->len = 0;
    return piece;
}

static bool write_file(struct local_incoming *self, unsigned number, uint64_t offset,
                       const void *data, size_t len, GError **error)
{
    struct arriving_file *file;

    if (number >= self->files->len)
        return fail(error, ERROR_INTEGRITY, "data for file %u, which was not opened", number);
    file = self->files->pdata[number];
    if (offset > POINT_MAX_FILE_BYTES || len > POINT_MAX_FILE_BYTES - offset)
        return fail(error, ERROR_INTEGRITY, "%s is written beyond %" PRIu64 " bytes", file->name,
                    POINT_MAX_FILE_BYTES);
    self->unchecked += len;
    if (self->unchecked > RESERVE_STEP && !check_reserve(self, error))
        return false;
    file->size = MAX(file->size, offset + len);
    for (size_t done = 0; done < len;) {
        struct piece *piece = piece_for(self, file, offset + done);
        size_t part = MIN(len - done, STORE_WRITE_MAX - piece->len);

        memcpy(piece->data + piece->len, (const uint8_t *)data + done, part);
        piece->len += part;
        done += part;
    }
    return lane_check(self->lane, error);
}

static bool local_write(struct incoming *incoming, unsigned file, uint64_t offset, const void *data,
                        size_t len, GError **error)
{
    struct local_incoming *self = (struct local_incoming *)incoming;

    if (!still_there(self, error))
        return false;
    return write_file(self, file, offset, data, len, error) || give_up(self, error);
}

static bool local_incoming_commit(struct incoming *incoming, const struct manifest *manifest,
                                  GError **error)
{
    struct local_incoming *self = (struct local_incoming *)incoming;

    if (!still_there(self, error))
        return false;
    if (!local_commit(self, manifest, error))
        return give_up(self, error);
    self->gone = true;
    return true;
}

static uint64_t local_sent_bytes(const struct incoming *incoming)
{
    return 0;
}

static void local_incoming_free(struct incoming *incoming)
{
    struct local_incoming *self = (struct local_incoming *)incoming;

    discard(self);
    g_ptr_array_unref(self->files);
    g_ptr_array_unref(self->linked);
    file_lock_free(self->lock);
    g_free(self->vm_uuid);
    g_free(self->point);
    g_free(self->dir);
    g_free(self);
}

static const struct incoming_ops local_incoming_ops = {
    .open = local_open,
    .write = local_write,
    .commit = local_incoming_commit,
    .sent_bytes = local_sent_bytes,
    .free = local_incoming_free,
};

struct file_lock *local_take_place(struct local_store *store, const char *vm_uuid, GError **error)
{
    g_autofree char *path = local_lock_path(store->path, vm_uuid);
    g_autofree char *what = g_strdup_printf("the place of VM %s", vm_uuid);
    g_autoptr(GError) why = NULL;
    struct file_lock *lock = file_lock_take(path, what, &why);

    if (lock)
        return lock;
    if (error_is(why, ERROR_CONFLICT))
        fail(error, ERROR_CONFLICT,
             "%s: another transfer of this VM is running; if its link is dead it ends by itself "
             "within %d minutes",
             why->message, SERVE_IDLE_S / 60);
    else
        g_propagate_error(error, g_steal_pointer(&why));
    return NULL;
}

/* The directory in incoming/, empty, under the lock. */
static bool make_place(struct local_incoming *self, GError **error)
{
    return local_sweep_vm(self->store->path, self->vm_uuid, error) && check_reserve(self, error) &&
           make_dir(self->dir, MODE_PRIVATE_DIR, error);
}

/* Takes LOCK, which is NULL if the caller keeps it. */
static struct local_incoming *begin(struct local_store *store, const char *vm_uuid,
                                    const char *point, struct file_lock *lock, GError **error)
{
    g_autofree char *name = g_strdup_printf("%s.%s", vm_uuid, point);
    struct local_incoming *incoming = g_new0(struct local_incoming, 1);

    incoming->incoming.ops = &local_incoming_ops;
    incoming->incoming.label = store->store.label;
    incoming->store = store;
    incoming->lock = lock;
    incoming->vm_uuid = g_strdup(vm_uuid);
    incoming->point = g_strdup(point);
    incoming->dir = g_build_filename(store->path, "incoming", name, NULL);
    incoming->files = g_ptr_array_new_with_free_func(arriving_file_free);
    incoming->replaces = !lock;
    incoming->linked = g_ptr_array_new_with_free_func(g_free);
    incoming->lane = lane_new(work_on);
    if (make_place(incoming, error))
        return incoming;
    explain_no_space(store->path, error);
    incoming_free(&incoming->incoming);
    return NULL;
}

struct incoming *local_begin(struct store *store, const char *vm_uuid, const char *point,
                             GError **error)
{
    struct local_store *self = (struct local_store *)store;
    g_autofree char *final = store_point_dir(self->path, vm_uuid, point);
    AUTO(file_lock) lock = local_take_place(self, vm_uuid, error);
    struct local_incoming *incoming;

    if (!lock)
        return NULL;
    if (g_file_test(final, G_FILE_TEST_EXISTS)) {
        fail(error, ERROR_CONFLICT, "point %s of VM %s exists already", point, vm_uuid);
        return NULL;
    }
    incoming = begin(self, vm_uuid, point, g_steal_pointer(&lock), error);
    return incoming ? &incoming->incoming : NULL;
}

struct local_incoming *local_begin_again(struct local_store *store, const char *vm_uuid,
                                         const char *point, GError **error)
{
    return begin(store, vm_uuid, point, NULL, error);
}

bool local_link(struct local_incoming *self, const char *name, GError **error)
{
    g_autofree char *old = store_point_dir(self->store->path, self->vm_uuid, self->point);
    g_autofree char *from = g_build_filename(old, name, NULL);
    g_autofree char *to = g_build_filename(self->dir, name, NULL);

    if (link(from, to) < 0)
        return fail_errno(error, errno, "cannot link %s to %s", from, to);
    g_ptr_array_add(self->linked, g_strdup(name));
    return true;
}
