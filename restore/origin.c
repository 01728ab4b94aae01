/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/origin.h"

#include <string.h>

#define DEFINITION_NAME "domain.xml"
#define NVRAM_NAME "nvram.fd"
#define DEFINITION_MAX_BYTES (4u << 20)

static void disk_free(void *data)
{
    struct origin_disk *disk = data;

    g_free(disk->target);
    g_strfreev(disk->chain);
    g_free(disk);
}

void origin_free(struct origin *origin)
{
    if (!origin)
        return;
    manifest_free(origin->manifest);
    g_free(origin->definition);
    g_free(origin->nvram);
    g_ptr_array_unref(origin->disks);
    g_clear_pointer(&origin->locks, g_hash_table_unref);
    g_free(origin);
}

static struct manifest *load_manifest(const char *dir, GError **error)
{
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);

    return manifest_load(path, error);
}

/* Check the point in which layer FILE lies, unless it is among CHECKED. */
static bool check_layer(const char *file, GHashTable *checked, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(file);
    AUTO(manifest) manifest = NULL;

    if (g_hash_table_contains(checked, dir))
        return true;
    manifest = load_manifest(dir, error);
    if (!manifest || !snapshot_check_point(dir, manifest, error))
        return false;
    return g_hash_table_add(checked, g_steal_pointer(&dir));
}

/* *NEW: it was not held before. */
static bool hold_vm(struct origin *origin, const struct site *site, const char *vm_uuid, bool *new,
                    GError **error)
{
    struct file_lock *lock;

    if (g_hash_table_contains(origin->locks, vm_uuid))
        return true;
    lock = store_read_lock(site->config->store, vm_uuid, error);
    if (!lock)
        return false;
    g_hash_table_insert(origin->locks, g_strdup(vm_uuid), lock);
    *new = true;
    return true;
}

/* A chain may lead through points of other VMs. While those were not held it may have changed, so it
 * is asked for again until all are. */
static char **held_chain(struct origin *origin, const struct site *site, const char *target,
                         GError **error)
{
    for (;;) {
        g_auto(GStrv) chain = store_chain(site->store, origin->manifest->uuid,
                                          origin->manifest->point, target, error);
        bool new = false;

        for (char **file = chain; file && *file; file++) {
            g_autofree char *dir = g_path_get_dirname(*file);
            g_autofree char *vm_dir = g_path_get_dirname(dir);
            g_autofree char *vm_uuid = g_path_get_basename(vm_dir);

            if (!hold_vm(origin, site, vm_uuid, &new, error))
                return NULL;
        }
        if (!new)
            return g_steal_pointer(&chain);
    }
}

static bool add_disk(struct origin *origin, const struct site *site,
                     const struct manifest_disk *from, GHashTable *checked, GError **error)
{
    struct origin_disk *disk = g_new0(struct origin_disk, 1);

    g_ptr_array_add(origin->disks, disk);
    disk->target = g_strdup(from->target);
    disk->virtual_bytes = from->virtual_bytes;
    disk->chain = held_chain(origin, site, from->target, error);
    for (char **file = disk->chain; file && *file; file++)
        if (!check_layer(*file, checked, error))
            return false;
    return disk->chain && snapshot_chain_is_whole(disk->chain, error);
}

/* Files that a VM is made of, beside its disks, must not be noted as damaged. */
static bool check_files(const char *dir, GError **error)
{
    static const char *const needed[] = {MANIFEST_NAME, DEFINITION_NAME, NVRAM_NAME};
    AUTO(damage) damage = NULL;

    if (!damage_load(dir, &damage, error))
        return false;
    for (size_t i = 0; damage && i < G_N_ELEMENTS(needed); i++) {
        const struct damaged_file *file = damage_file(damage, needed[i]);

        if (file)
            return fail(error, ERROR_INTEGRITY,
                        "%s is damaged (%s); `drctl heal` can get it from another store",
                        file->name, file->why);
    }
    return true;
}

static bool read_files(struct origin *origin, const char *dir, GError **error)
{
    g_autofree char *path = g_build_filename(dir, DEFINITION_NAME, NULL);

    if (!manifest_file(origin->manifest, DEFINITION_NAME))
        return fail(error, ERROR_INTEGRITY, "it has no %s", DEFINITION_NAME);
    if (manifest_file(origin->manifest, NVRAM_NAME))
        origin->nvram = g_build_filename(dir, NVRAM_NAME, NULL);
    return file_read(path, DEFINITION_MAX_BYTES, &origin->definition, NULL, error);
}

static bool load(struct origin *origin, const struct site *site, const char *dir, GError **error)
{
    g_autoptr(GHashTable) checked = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    origin->manifest = load_manifest(dir, error);
    if (!origin->manifest || !check_files(dir, error))
        return false;
    for (unsigned i = 0; i < origin->manifest->disks->len; i++)
        if (!add_disk(origin, site, origin->manifest->disks->pdata[i], checked, error))
            return false;
    return read_files(origin, dir, error);
}

struct origin *origin_open(const struct site *site, const char *vm_uuid, const char *point,
                           GError **error)
{
    AUTO(origin) origin = g_new0(struct origin, 1);
    g_autofree char *dir = NULL;
    bool new;

    origin->disks = g_ptr_array_new_with_free_func(disk_free);
    origin->locks =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)file_lock_free);
    /* Both become parts of a path. */
    if (!uuid_is_valid(vm_uuid) || !name_is_safe(point)) {
        fail(error, ERROR_NOT_FOUND, "'%s' is not the id of a point", point);
        return NULL;
    }
    dir = store_point_dir(site->config->store, vm_uuid, point);
    if (!hold_vm(origin, site, vm_uuid, &new, error))
        return NULL;
    if (!g_file_test(dir, G_FILE_TEST_IS_DIR)) {
        fail(error, ERROR_NOT_FOUND, "VM %s has no point %s here; `drctl points` lists them",
             vm_uuid, point);
        return NULL;
    }
    if (!load(origin, site, dir, error)) {
        g_prefix_error(error, "point %s cannot be used: ", point);
        return NULL;
    }
    return g_steal_pointer(&origin);
}

struct origin *origin_newest(const struct site *site, const char *vm_uuid,
                             struct findings *findings, GError **error)
{
    g_autoptr(GPtrArray) points = store_points(site->store, vm_uuid, error);

    if (!points)
        return NULL;
    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];
        g_autoptr(GError) cause = NULL;
        struct origin *origin = origin_open(site, vm_uuid, manifest->point, &cause);

        if (origin)
            return origin;
        remark(findings, "%s", cause->message);
    }
    if (points->len)
        fail(error, ERROR_INTEGRITY, "none of its %u points is complete; `drctl verify` tells more",
             points->len);
    else
        fail(error, ERROR_NOT_FOUND, "it has no recovery point here");
    return NULL;
}

/* The newest manifest of each VM among POINTS, newest first; borrowed. */
static GPtrArray *find_candidates(const GPtrArray *points)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    GPtrArray *found = g_ptr_array_new();

    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];

        if (g_hash_table_add(seen, manifest->uuid))
            g_ptr_array_add(found, points->pdata[i]);
    }
    return found;
}

static bool fail_ambiguous(const GPtrArray *candidates, const char *vm, GError **error)
{
    g_autoptr(GString) list = g_string_new(NULL);

    for (unsigned i = 0; i < candidates->len; i++) {
        const struct manifest *manifest = candidates->pdata[i];

        g_string_append_printf(list, "%s%s of site %s", i ? ", " : "", manifest->uuid,
                               manifest->site);
    }
    return fail(error, ERROR_CONFLICT, "several VMs are called %s: name one by its UUID: %s", vm,
                list->str);
}

struct manifest *origin_find_vm(const struct site *site, const char *vm, GError **error)
{
    g_autoptr(GPtrArray) points = store_points(site->store, vm, error);
    g_autoptr(GPtrArray) candidates = points ? find_candidates(points) : NULL;
    unsigned at;

    if (!candidates)
        return NULL;
    if (candidates->len == 0) {
        fail(error, ERROR_NOT_FOUND, "there is no recovery point of a VM %s here", vm);
        return NULL;
    }
    if (candidates->len > 1) {
        fail_ambiguous(candidates, vm, error);
        return NULL;
    }
    g_ptr_array_find(points, candidates->pdata[0], &at);
    return g_ptr_array_steal_index(points, at);
}
