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
    for (unsigned i = 0; i < PARTIALS_MAX; i++)
        fd_cleanup(&file->reused[i]);
    g_array_unref(file->runs);
    checksum_free(file->checksum);
    g_free(file->name);
    g_free(file);
}

static void put_filling(struct local_incoming *self)
{
    if (self->filling)
        lane_put(self->lane, g_steal_pointer(&self->filling));
}

/* Nothing will be written any more. */
static void close_files(struct local_incoming *self)
{
    put_filling(self);
    g_clear_pointer(&self->lane, lane_free);
    g_ptr_array_set_size(self->files, 0);
}

/* It was interrupted: what is there stays, if it is worth it, for the next one. */
static void set_aside(struct local_incoming *self)
{
    if (self->gone)
        return;
    self->gone = true;
    close_files(self);
    /* What fails is left to the next begin. */
    local_sweep_vm(self->store->path, self->vm_uuid, NULL);
}

void local_incoming_discard(struct incoming *incoming)
{
    struct local_incoming *self = (struct local_incoming *)incoming;

    if (self->gone)
        return;
    self->gone = true;
    self->filling = NULL;
    close_files(self);
    if (self->replaces)
        tree_remove(self->dir, NULL);
    else
        local_partials_remove(self->store->path, self->vm_uuid, NULL);
}

/* An interrupt, or a base that has gone, says nothing about what arrived. Otherwise it is not good, or
 * its disk is not, or the space is needed: the next transfer must not fail by the same. */
static bool give_up(struct local_incoming *self, GError *why, GError **error)
{
    if (error_is(why, ERROR_CANCELLED) || error_is(why, ERROR_NOT_FOUND))
        set_aside(self);
    else
        local_incoming_discard(&self->incoming);
    g_propagate_error(error, why);
    explain_no_space(self->store->path, error);
    return false;
}

static bool still_there(const struct local_incoming *self, GError **error)
{
    return self->gone ? fail(error, ERROR_FAILED, "the point has been discarded after an error")
                      : true;
}

uint64_t store_reserve_bytes(uint64_t total_bytes)
{
    return MIN(total_bytes / RESERVE_PART, RESERVE_MAX_BYTES);
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
    reserve = store_reserve_bytes(total_bytes);
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
    file->checksum = checksum_new();
    for (unsigned i = 0; i < PARTIALS_MAX; i++)
        file->reused[i] = -1;
    g_ptr_array_add(self->files, file);
    return true;
}

static bool local_open(struct incoming *incoming, const char *name, unsigned *file, GError **error)
{
    struct local_incoming *self = (struct local_incoming *)incoming;
    GError *why = NULL;

    if (!still_there(self, error))
        return false;
    if (!open_file(self, name, &why))
        return give_up(self, why, error);
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
        checksum_final(file->checksum, run->checksum);
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
    checksum_update(file->checksum, piece->data, piece->len);
    run->len += piece->len;
    return true;
}

/* In the thread of the lane. */
static bool work_on(struct piece *piece, GError **error)
{
    struct arriving_file *file = piece->target;

    return note_bytes(file, piece, error) && disk_write(&file->disk, piece, error);
}

bool local_flush(struct local_incoming *self, GError **error)
{
    put_filling(self);
    return lane_wait(self->lane, error);
}

static size_t room_in(const struct piece *piece)
{
    return STORE_WRITE_MAX - piece->offset % STORE_WRITE_MAX - piece->len;
}

/* The piece that the bytes of FILE at OFFSET go into: what comes in small parts one after the other
 * is written as one. It ends at a multiple of its size, so that the next can be written directly. */
static struct piece *piece_for(struct local_incoming *self, struct arriving_file *file,
                               uint64_t offset)
{
    struct piece *piece = self->filling;

    if (piece && piece->target == file && piece->offset + piece->len == offset &&
        room_in(piece) > 0)
        return piece;
    put_filling(self);
    self->filling = piece = lane_take(self->lane);
    piece->target = file;
    piece->offset = offset;
    piece->len = 0;
    return piece;
}

/* Where bytes come from: DATA, or if that is NULL a file of a partial. */
struct supply {
    const uint8_t *data;
    int fd;
    uint64_t at;
    const char *name;
};

static bool supply_take(struct supply *supply, uint8_t *to, size_t len, GError **error)
{
    if (!supply->data) {
        if (!fd_read_at(supply->fd, supply->at, to, len, supply->name, error))
            return false;
        supply->at += len;
        return true;
    }
    memcpy(to, supply->data, len);
    supply->data += len;
    return true;
}

static struct arriving_file *file_for(struct local_incoming *self, unsigned number, uint64_t offset,
                                      size_t len, GError **error)
{
    struct arriving_file *file;

    if (number >= self->files->len) {
        fail(error, ERROR_INTEGRITY, "data for file %u, which was not opened", number);
        return NULL;
    }
    file = self->files->pdata[number];
    if (offset > POINT_MAX_FILE_BYTES || len > POINT_MAX_FILE_BYTES - offset) {
        fail(error, ERROR_INTEGRITY, "%s is written beyond %" PRIu64 " bytes", file->name,
             POINT_MAX_FILE_BYTES);
        return NULL;
    }
    return file;
}

static bool write_file(struct local_incoming *self, struct arriving_file *file, uint64_t offset,
                       struct supply *supply, size_t len, GError **error)
{
    self->unchecked += len;
    if (self->unchecked > RESERVE_STEP && !check_reserve(self, error))
        return false;
    file->size = MAX(file->size, offset + len);
    for (size_t done = 0; done < len;) {
        struct piece *piece = piece_for(self, file, offset + done);
        size_t part = MIN(len - done, room_in(piece));

        if (!supply_take(supply, piece->data + piece->len, part, error))
            return false;
        piece->len += part;
        done += part;
    }
    return lane_check(self->lane, error);
}

static bool local_write(struct incoming *incoming, unsigned file, uint64_t offset, const void *data,
                        size_t len, GError **error)
{
    struct local_incoming *self = (struct local_incoming *)incoming;
    struct supply supply = {.data = data};
    GError *why = NULL;

    if (!still_there(self, error))
        return false;
    struct arriving_file *to = file_for(self, file, offset, len, &why);

    return (to && write_file(self, to, offset, &supply, len, &why)) || give_up(self, why, error);
}

/* --- What arrived earlier --------------------------------------------------------------------- */

unsigned local_incoming_partials(const struct incoming *incoming)
{
    return g_strv_length(((const struct local_incoming *)incoming)->partials);
}

char *local_incoming_namespace(const char *dir)
{
    g_autofree char *path = g_build_filename(dir, INCOMING_SITE_NAME, NULL);
    char *text = NULL;

    file_read(path, INCOMING_SITE_MAX, &text, NULL, NULL);
    return text;
}

/* Nothing of it is lost if this is not yet on the disk when the power goes: what is left is nobody's then. */
static bool write_namespace(const struct local_incoming *self, const char *text, GError **error)
{
    g_autofree char *path = g_build_filename(self->dir, INCOMING_SITE_NAME, NULL);
    g_autoptr(GError) why = NULL;

    return g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_NONE, MODE_PRIVATE_FILE,
                                    &why) ||
           fail(error, ERROR_IO, "%s", why->message);
}

bool local_incoming_bind(struct incoming *incoming, const char *text, GError **error)
{
    struct local_incoming *self = (struct local_incoming *)incoming;
    g_autoptr(GStrvBuilder) ours = g_strv_builder_new();

    for (char **partial = self->partials; *partial; partial++) {
        g_autofree char *namespace = local_incoming_namespace(*partial);

        if (g_strcmp0(namespace, text) == 0)
            g_strv_builder_add(ours, *partial);
    }
    g_strfreev(self->partials);
    self->partials = g_strv_builder_end(ours);
    return write_namespace(self, text, error);
}

static bool local_partial(struct incoming *incoming, const char *target, store_sink_fn *sink,
                          void *context, GError **error)
{
    struct local_incoming *self = (struct local_incoming *)incoming;
    const struct point_ops *ops = self->store->point_ops;

    if (!still_there(self, error))
        return false;
    return !*self->partials || ops->salvage(self->partials, target, sink, context, error);
}

/* What lies at FROM in the file of FILE's name; its end is looked after by who reads it. */
static bool open_reused(struct local_incoming *self, struct arriving_file *file, unsigned partial,
                        struct supply *supply, GError **error)
{
    g_autofree char *path = NULL;

    if (partial >= g_strv_length(self->partials))
        return fail(error, ERROR_INTEGRITY, "there is no partial %u", partial);
    path = g_build_filename(self->partials[partial], file->name, NULL);
    if (file->reused[partial] < 0)
        file->reused[partial] = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (file->reused[partial] < 0)
        return fail(error, ERROR_INTEGRITY, "there is no %s in partial %u", file->name, partial);
    supply->fd = file->reused[partial];
    supply->name = file->name;
    return true;
}

static bool reuse(struct local_incoming *self, unsigned number, uint64_t offset, size_t len,
                  const struct partial_place *from, GError **error)
{
    struct arriving_file *file = file_for(self, number, offset, len, error);
    struct supply supply = {.at = from->offset};

    if (file && open_reused(self, file, from->partial, &supply, error) &&
        write_file(self, file, offset, &supply, len, error))
        return true;
    g_prefix_error(error, "what arrived earlier cannot be used: ");
    return false;
}

static bool local_reuse(struct incoming *incoming, unsigned file, uint64_t offset, size_t len,
                        const struct partial_place *from, GError **error)
{
    struct local_incoming *self = (struct local_incoming *)incoming;
    GError *why = NULL;

    if (!still_there(self, error))
        return false;
    return reuse(self, file, offset, len, from, &why) || give_up(self, why, error);
}

/* --- The end ---------------------------------------------------------------------------------- */

static bool local_incoming_commit(struct incoming *incoming, const struct manifest *manifest,
                                  GError **error)
{
    struct local_incoming *self = (struct local_incoming *)incoming;
    GError *why = NULL;

    if (!still_there(self, error))
        return false;
    if (!local_commit(self, manifest, &why))
        return give_up(self, why, error);
    self->gone = true;
    /* What fails is left to the next begin: it is older than the point then, and of no more use. */
    local_partials_remove(self->store->path, self->vm_uuid, NULL);
    return true;
}

static uint64_t local_sent_bytes(const struct incoming *incoming)
{
    return 0;
}

static void local_incoming_free(struct incoming *incoming)
{
    struct local_incoming *self = (struct local_incoming *)incoming;

    set_aside(self);
    g_ptr_array_unref(self->files);
    g_ptr_array_unref(self->linked);
    g_strfreev(self->partials);
    file_lock_free(self->lock);
    g_free(self->vm_uuid);
    g_free(self->point);
    g_free(self->taker);
    g_free(self->dir);
    g_free(self);
}

static const struct incoming_ops local_incoming_ops = {
    .open = local_open,
    .write = local_write,
    .partial = local_partial,
    .reuse = local_reuse,
    .commit = local_incoming_commit,
    .sent_bytes = local_sent_bytes,
    .free = local_incoming_free,
};

static void ask_for_place(const struct local_store *store, const char *vm_uuid)
{
    g_autofree char *path = local_wanted_path(store->path, vm_uuid);
    AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, MODE_PRIVATE_FILE);

    if (fd >= 0)
        futimens(fd, NULL);
}

bool local_incoming_wanted(const struct incoming *incoming, int64_t ms)
{
    const struct local_incoming *self = (const struct local_incoming *)incoming;
    g_autofree char *path = local_wanted_path(self->store->path, self->vm_uuid);
    struct stat status;

    return stat(path, &status) == 0 &&
           (int64_t)status.st_mtim.tv_sec * 1000 + status.st_mtim.tv_nsec / 1000000 >
               time_now_ms() - ms;
}

struct file_lock *local_take_place(struct local_store *store, const char *vm_uuid, GError **error)
{
    g_autofree char *path = local_lock_path(store->path, vm_uuid);
    g_autofree char *what = g_strdup_printf("the place of VM %s", vm_uuid);
    g_autoptr(GError) why = NULL;
    struct file_lock *lock = file_lock_take(path, what, &why);

    if (lock)
        return lock;
    if (!error_is(why, ERROR_CONFLICT)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
    }
    ask_for_place(store, vm_uuid);
    fail(error, ERROR_CONFLICT,
         "%s: another transfer of this VM is running; if its link is dead it gives way within %d "
         "seconds",
         why->message, SERVE_GIVE_WAY_S);
    return NULL;
}

/* Rather a transfer from the beginning than none. */
static bool make_room(struct local_incoming *self, GError **error)
{
    if (!*self->partials || check_reserve(self, NULL))
        return check_reserve(self, error);
    if (!local_partials_remove(self->store->path, self->vm_uuid, error))
        return false;
    g_clear_pointer(&self->partials, g_strfreev);
    self->partials = g_new0(char *, 1);
    return check_reserve(self, error);
}

/* The directory in incoming/, empty, under the lock. */
static bool make_place(struct local_incoming *self, GError **error)
{
    self->partials = local_partials_settle(self->store->path, self->vm_uuid, error);
    return self->partials && make_room(self, error) && make_dir(self->dir, MODE_PRIVATE_DIR, error);
}

/* Takes LOCK, which is NULL if the caller keeps it. */
static struct local_incoming *begin(struct local_store *store, const char *vm_uuid,
                                    const char *point, struct file_lock *lock, GError **error)
{
    g_autofree char *name =
        g_strdup_printf("%s.%s%s", vm_uuid, point, lock ? "" : INCOMING_REPLACES);
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
                             const struct taker *taker, GError **error)
{
    struct local_store *self = (struct local_store *)store;
    g_autofree char *final = store_point_dir(self->path, vm_uuid, point);
    bool admitted = owner_admits(self->path, vm_uuid, taker, error);
    AUTO(file_lock) lock = admitted ? local_take_place(self, vm_uuid, error) : NULL;
    struct local_incoming *incoming;

    if (!lock)
        return NULL;
    if (g_file_test(final, G_FILE_TEST_EXISTS)) {
        fail(error, ERROR_CONFLICT, "point %s of VM %s exists already", point, vm_uuid);
        return NULL;
    }
    incoming = begin(self, vm_uuid, point, g_steal_pointer(&lock), error);
    if (!incoming)
        return NULL;
    if (taker) {
        incoming->taker = g_strdup(taker->site);
        incoming->taker_epoch = taker->epoch;
    }
    return &incoming->incoming;
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
