/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/usage.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* What QEMU locks of an image (block/file-posix.c): bytes for what it does, and for what it allows
 * others to do. */
#define QEMU_LOCKS_START 100
#define QEMU_LOCKS_LEN 200

/* Of a qcow2 header, big-endian: where the name of the backing file is, and its length. */
#define QCOW2_MAGIC "QFI\xfb"
#define QCOW2_BACKING_OFFSET 8
#define QCOW2_BACKING_LEN 16
#define QCOW2_HEADER_LEN 20
#define BACKING_NAME_MAX 1023
#define CHAIN_MAX 256

struct usage {
    const struct local_store *store;
    GHashTable *points; /* the result */
};

char *usage_key(const char *vm_uuid, const char *point)
{
    return g_strconcat(vm_uuid, "/", point, NULL);
}

/* The first reason is told. */
static void note(struct usage *self, char *key, const char *why)
{
    if (g_hash_table_contains(self->points, key))
        g_free(key);
    else
        g_hash_table_insert(self->points, key, g_strdup(why));
}

/* --- Overlays ------------------------------------------------------------------------------- */

bool store_backing_name(const char *path, char **name, GError **error)
{
    AUTO_FD fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    uint8_t header[QCOW2_HEADER_LEN];
    g_autofree char *text = NULL;
    uint64_t offset;
    uint32_t len;
    ssize_t got;

    *name = NULL;
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR
                   ? true
                   : fail_errno(error, errno, "cannot open %s", path);
    got = pread(fd, header, sizeof header, 0);
    if (got < 0)
        return fail_errno(error, errno, "cannot read %s", path);
    if (got < (ssize_t)sizeof header || memcmp(header, QCOW2_MAGIC, 4) != 0)
        return true;
    memcpy(&offset, header + QCOW2_BACKING_OFFSET, sizeof offset);
    memcpy(&len, header + QCOW2_BACKING_LEN, sizeof len);
    offset = GUINT64_FROM_BE(offset);
    len = GUINT32_FROM_BE(len);
    if (offset == 0 || len == 0 || len > BACKING_NAME_MAX)
        return true;
    text = g_malloc0(len + 1);
    if (!fd_read_at(fd, offset, text, len, path, error))
        return false;
    *name = g_steal_pointer(&text);
    return true;
}

/* Follow the chain of OVERLAY until it comes to a point, or to its end. */
static bool note_overlay(struct usage *self, const char *overlay, GError **error)
{
    g_autofree char *why = g_strdup_printf("in use by %s", overlay);
    g_autofree char *at = g_strdup(overlay);

    for (unsigned depth = 0; depth < CHAIN_MAX; depth++) {
        g_autofree char *name = NULL;
        g_autofree char *dir = g_path_get_dirname(at);
        char *key;

        if (!store_backing_name(at, &name, error))
            return false;
        if (!name)
            return true;
        key = store_point_of(name);
        if (key) {
            note(self, key, why);
            return true;
        }
        g_free(at);
        at = g_canonicalize_filename(name, dir);
    }
    return fail(error, ERROR_INTEGRITY, "%s has more than %d files below it", overlay, CHAIN_MAX);
}

/* Disks may lie elsewhere, where a link leads to. When it leads nowhere, its file system is not mounted, and
 * nobody knows what is in use there. */
static bool look_behind(const char *link, struct stat *st, GError **error)
{
    return stat(link, st) == 0 ||
           fail_errno(error, errno,
                      "%s leads to what is not there (is it mounted? if its disks are gone for "
                      "good, remove the link)",
                      link);
}

static bool note_overlays(struct usage *self, const char *dir, GError **error)
{
    g_auto(GStrv) names = dir_list(dir, error);

    for (char **name = names; name && *name; name++) {
        g_autofree char *path = g_build_filename(dir, *name, NULL);
        struct stat st;

        if (lstat(path, &st) < 0)
            continue;
        if (S_ISLNK(st.st_mode) && !look_behind(path, &st, error))
            return false;
        if (S_ISDIR(st.st_mode) ? !note_overlays(self, path, error)
                                : S_ISREG(st.st_mode) && !note_overlay(self, path, error))
            return false;
    }
    return names != NULL;
}

/* --- Runs ----------------------------------------------------------------------------------- */

/* Every object {uuid, point} in the plan of a run. */
static void note_plan(struct usage *self, const json_t *plan, const char *why)
{
    const char *uuid = json_get_string(plan, "uuid"), *point = json_get_string(plan, "point");
    const char *key;
    json_t *value;
    size_t i;

    if (uuid && point)
        note(self, usage_key(uuid, point), why);
    if (json_is_object(plan)) {
        json_object_foreach((json_t *)plan, key, value) note_plan(self, value, why);
    } else {
        json_array_foreach((json_t *)plan, i, value) note_plan(self, value, why);
    }
}

static bool is_unfinished(const json_t *run)
{
    const char *state = json_get_string(run, "state");

    return g_strcmp0(state, run_state_name(RUN_RUNNING)) == 0 ||
           g_strcmp0(state, run_state_name(RUN_INTERRUPTED)) == 0;
}

static bool note_runs(struct usage *self, GError **error)
{
    json_auto_t *runs = run_list(self->store->catalog, error);
    json_t *run;
    size_t i;

    json_array_foreach(runs, i, run)
    {
        const char *id = json_get_string(run, "run");
        g_autofree char *why = g_strdup_printf("in use by run %s, which has not ended", id);
        json_auto_t *shown = NULL;

        if (!is_unfinished(run))
            continue;
        shown = run_show(self->store->catalog, id, error);
        if (!shown)
            return false;
        note_plan(self, json_object_get(shown, "plan"), why);
    }
    return runs != NULL;
}

/* --- Images that are open ------------------------------------------------------------------- */

static bool is_open_in_qemu(const char *image)
{
    AUTO_FD fd = open(image, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct flock range = {.l_type = F_WRLCK,
                          .l_whence = SEEK_SET,
                          .l_start = QEMU_LOCKS_START,
                          .l_len = QEMU_LOCKS_LEN};

    /* A file that is not there is nobody's; of others that cannot be asked the worst is true. */
    if (fd < 0)
        return errno != ENOENT;
    return fcntl(fd, F_OFD_GETLK, &range) < 0 || range.l_type != F_UNLCK;
}

static void note_open_images(struct usage *self, const struct manifest *manifest)
{
    g_autofree char *dir = store_point_dir(self->store->path, manifest->uuid, manifest->point);

    for (unsigned i = 0; i < manifest->disks->len; i++) {
        const struct manifest_disk *disk = manifest->disks->pdata[i];
        g_autofree char *image = g_build_filename(dir, disk->file, NULL);
        g_autofree char *why = g_strdup_printf("%s is open in QEMU", disk->file);

        if (is_open_in_qemu(image))
            note(self, usage_key(manifest->uuid, manifest->point), why);
    }
}

/* --- All ------------------------------------------------------------------------------------ */

/* Newest first, so that every base is older than what brings it here. */
static void note_bases(struct usage *self, const GPtrArray *points)
{
    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];
        g_autofree char *key = usage_key(manifest->uuid, manifest->point);
        g_autofree char *why = g_strdup(g_hash_table_lookup(self->points, key));

        for (unsigned n = 0; why && n < manifest->disks->len; n++) {
            const struct manifest_disk *disk = manifest->disks->pdata[n];

            if (disk->base)
                note(self, usage_key(manifest_base_vm(manifest, disk), disk->base), why);
        }
    }
}

GHashTable *usage_find(const struct local_store *store, const GPtrArray *points,
                       const char *vm_uuid, GError **error)
{
    g_autoptr(GHashTable) found = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    struct usage self = {.store = store, .points = found};

    if (!note_overlays(&self, store->config->images, error) || !note_runs(&self, error)) {
        g_prefix_error(error, "it cannot be told which points are in use: ");
        return NULL;
    }
    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];

        if (strcmp(manifest->uuid, vm_uuid) == 0)
            note_open_images(&self, manifest);
    }
    note_bases(&self, points);
    return g_steal_pointer(&found);
}
