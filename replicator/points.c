/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which points a directory store has. The directories are the truth; the catalog remembers what
 * their manifests say, each with the inode of the directory that it was read from, so that a point
 * that was replaced is read again, and which VM has which names.
 */
#include <string.h>
#include <sys/stat.h>

#include "replicator/local.h"

struct manifest *local_manifest(const char *store_path, const char *vm_uuid, const char *point,
                                GError **error)
{
    g_autofree char *dir = store_point_dir(store_path, vm_uuid, point);
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    AUTO(manifest) manifest = manifest_load(path, error);

    if (!manifest)
        return NULL;
    if (strcmp(manifest->uuid, vm_uuid) != 0 || strcmp(manifest->point, point) != 0) {
        fail(error, ERROR_INTEGRITY, "%s is of another point: %s of VM %s", path, manifest->point,
             manifest->uuid);
        return NULL;
    }
    return g_steal_pointer(&manifest);
}

static uint64_t point_inode(const char *store_path, const char *vm_uuid, const char *point)
{
    g_autofree char *dir = store_point_dir(store_path, vm_uuid, point);
    struct stat status;

    return stat(dir, &status) == 0 ? status.st_ino : 0;
}

/* --- What the catalog remembers ------------------------------------------------------------- */

static char *cache_key(const char *vm_uuid, const char *point)
{
    return g_strconcat(vm_uuid, "/", point, NULL);
}

/* In CATALOG_VMS: VM_UUID has points of that NAME; or, with an empty one, all its names are there. */
static char *name_key(const char *name, const char *vm_uuid)
{
    return g_strconcat(name, "/", vm_uuid, NULL);
}

static void remember_name(struct local_store *self, const char *vm_uuid, const char *name)
{
    g_autofree char *key = name_key(name, vm_uuid);
    json_auto_t *known = NULL, *entry = json_object();

    if (catalog_get(self->catalog, CATALOG_VMS, key, &known, NULL) && !known)
        catalog_put(self->catalog, CATALOG_VMS, key, entry, NULL);
}

/* The point and its name in one: a point that is known is not read again, so its name would never be. */
void local_cache_put(struct local_store *self, const struct manifest *manifest)
{
    g_autofree char *point = cache_key(manifest->uuid, manifest->point);
    g_autofree char *name = name_key(manifest->vm, manifest->uuid);
    json_auto_t *entry = json_object(), *called = json_object();
    struct catalog_entry entries[] = {{CATALOG_POINTS, point, entry}, {CATALOG_VMS, name, called}};

    json_set_u64(entry, "inode", point_inode(self->path, manifest->uuid, manifest->point));
    json_object_set_new(entry, "manifest", manifest_json(manifest));
    catalog_put_all(self->catalog, entries, G_N_ELEMENTS(entries), NULL);
}

static bool collect_entry(const char *key, json_t *value, void *data)
{
    g_hash_table_insert(data, g_strdup(strchr(key, '/') + 1), json_incref(value));
    return true;
}

/* Point id -> entry, for one VM. */
static GHashTable *cache_load(struct local_store *self, const char *vm_uuid)
{
    GHashTable *entries =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)json_decref);
    g_autofree char *prefix = cache_key(vm_uuid, "");

    catalog_each(self->catalog, CATALOG_POINTS, prefix, collect_entry, entries, NULL);
    return entries;
}

/* The manifest in ENTRY if it is of the directory that is there now. */
static struct manifest *cached_manifest(struct local_store *self, const json_t *entry,
                                        const char *vm_uuid, const char *point)
{
    AUTO(manifest) manifest = NULL;
    uint64_t inode;

    if (!entry || !json_need_u64(entry, "inode", &inode, NULL) ||
        inode != point_inode(self->path, vm_uuid, point))
        return NULL;
    manifest = manifest_from_json(json_object_get(entry, "manifest"), point, NULL);
    if (!manifest || strcmp(manifest->uuid, vm_uuid) != 0 || strcmp(manifest->point, point) != 0)
        return NULL;
    return g_steal_pointer(&manifest);
}

void local_cache_remove(struct local_store *self, const char *vm_uuid, const char *point)
{
    g_autofree char *key = cache_key(vm_uuid, point);

    catalog_remove(self->catalog, CATALOG_POINTS, key, NULL);
    catalog_remove(self->catalog, CATALOG_VERIFIED, key, NULL);
}

struct manifest *local_cached_manifest(struct local_store *self, const char *vm_uuid,
                                       const char *point)
{
    g_autofree char *key = cache_key(vm_uuid, point);
    json_auto_t *entry = NULL;

    catalog_get(self->catalog, CATALOG_POINTS, key, &entry, NULL);
    return cached_manifest(self, entry, vm_uuid, point);
}

static void cache_forget(struct local_store *self, const char *vm_uuid, GHashTable *entries)
{
    GHashTableIter iter;
    void *point;

    g_hash_table_iter_init(&iter, entries);
    while (g_hash_table_iter_next(&iter, &point, NULL))
        local_cache_remove(self, vm_uuid, point);
}

/* --- Listing -------------------------------------------------------------------------------- */

static struct manifest *load_point(struct local_store *self, const char *vm_uuid, const char *point,
                                   const json_t *entry, GError **error)
{
    struct manifest *manifest = cached_manifest(self, entry, vm_uuid, point);

    if (manifest)
        return manifest;
    manifest = local_manifest(self->path, vm_uuid, point, error);
    if (manifest)
        local_cache_put(self, manifest);
    return manifest;
}

struct manifest *local_newest(struct local_store *self, const char *vm_uuid)
{
    g_autofree char *dir = g_build_filename(self->path, "vms", vm_uuid, NULL);
    g_auto(GStrv) points = dir_list(dir, NULL);
    struct manifest *manifest = NULL;
    int64_t ms;

    for (unsigned i = points ? g_strv_length(points) : 0; i > 0 && !manifest; i--) {
        g_autofree char *key = cache_key(vm_uuid, points[i - 1]);
        json_auto_t *entry = NULL;

        if (point_id_parse(points[i - 1], &ms) &&
            catalog_get(self->catalog, CATALOG_POINTS, key, &entry, NULL))
            manifest = load_point(self, vm_uuid, points[i - 1], entry, NULL);
    }
    return manifest;
}

struct listing {
    struct local_store *store;
    GPtrArray *points;  /* of struct manifest, or NULL */
    GPtrArray *damaged; /* of char *, or NULL */
};

/* A point that was dropped since its directory was listed is not damaged: it is gone. */
static void add_point(struct listing *self, const char *vm_uuid, const char *point,
                      const json_t *entry)
{
    g_autoptr(GError) why = NULL;
    AUTO(manifest) manifest = load_point(self->store, vm_uuid, point, entry, &why);

    if (manifest && self->points)
        g_ptr_array_add(self->points, g_steal_pointer(&manifest));
    if (why && self->damaged && point_inode(self->store->path, vm_uuid, point) != 0)
        g_ptr_array_add(self->damaged, g_strdup_printf("%s/%s: %s", vm_uuid, point, why->message));
}

static bool add_vm(struct listing *self, const char *vm_uuid, GError **error)
{
    g_autofree char *dir = g_build_filename(self->store->path, "vms", vm_uuid, NULL);
    g_auto(GStrv) points = dir_list(dir, error);
    g_autoptr(GHashTable) entries = points ? cache_load(self->store, vm_uuid) : NULL;
    int64_t ms;

    if (!points)
        return false;
    for (char **point = points; *point; point++) {
        if (!point_id_parse(*point, &ms))
            continue;
        add_point(self, vm_uuid, *point, g_hash_table_lookup(entries, *point));
        g_hash_table_remove(entries, *point);
    }
    cache_forget(self->store, vm_uuid, entries);
    return true;
}

char **local_vms(struct local_store *self, GError **error)
{
    g_autofree char *vms = g_build_filename(self->path, "vms", NULL);

    return dir_list(vms, error);
}

/* What the points of VM_UUID call it, for the first time. */
static void learn_names(struct local_store *self, const char *vm_uuid)
{
    g_autoptr(GPtrArray) points = g_ptr_array_new_with_free_func((GDestroyNotify)manifest_free);
    struct listing listing = {.store = self, .points = points};

    if (!add_vm(&listing, vm_uuid, NULL))
        return;
    for (unsigned i = 0; i < points->len; i++)
        remember_name(self, vm_uuid, ((const struct manifest *)points->pdata[i])->vm);
    remember_name(self, vm_uuid, "");
}

static bool collect_known(const char *key, G_GNUC_UNUSED json_t *value, void *data)
{
    g_hash_table_add(data, g_strdup(key + strlen("/")));
    return true;
}

static void learn_all_names(struct local_store *self, char **vm_uuids)
{
    g_autoptr(GHashTable) known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    catalog_each(self->catalog, CATALOG_VMS, "/", collect_known, known, NULL);
    for (char **uuid = vm_uuids; *uuid; uuid++)
        if (uuid_is_valid(*uuid) && !g_hash_table_contains(known, *uuid))
            learn_names(self, *uuid);
}

static bool add_vms_called(struct listing *self, const char *name, GError **error)
{
    g_auto(GStrv) uuids = local_vms(self->store, error);
    g_autoptr(GPtrArray) keys = NULL;
    g_autofree char *prefix = name_key(name, "");

    if (!uuids)
        return false;
    learn_all_names(self->store, uuids);
    if (!*name)
        return true;
    keys = catalog_keys(self->store->catalog, CATALOG_VMS, prefix, error);
    if (!keys)
        return false;
    for (unsigned i = 0; i < keys->len; i++) {
        const char *uuid = (const char *)keys->pdata[i] + strlen(prefix);

        if (uuid_is_valid(uuid) && !add_vm(self, uuid, error))
            return false;
    }
    return true;
}

static bool add_all(struct listing *self, GError **error)
{
    g_auto(GStrv) uuids = local_vms(self->store, error);

    if (!uuids)
        return false;
    for (char **uuid = uuids; *uuid; uuid++)
        if (uuid_is_valid(*uuid) && !add_vm(self, *uuid, error))
            return false;
    return true;
}

/* VM: see store_points(). */
static bool list(struct listing *self, const char *vm, GError **error)
{
    if (!vm)
        return add_all(self, error);
    return uuid_is_valid(vm) ? add_vm(self, vm, error) : add_vms_called(self, vm, error);
}

static int newest_first(const void *a, const void *b)
{
    const struct manifest *left = *(struct manifest *const *)a;
    const struct manifest *right = *(struct manifest *const *)b;
    int order = strcmp(right->point, left->point);

    return order ? order : strcmp(left->uuid, right->uuid);
}

GPtrArray *local_points(struct store *store, const char *vm, GError **error)
{
    g_autoptr(GPtrArray) points = g_ptr_array_new_with_free_func((GDestroyNotify)manifest_free);
    struct listing listing = {.store = (struct local_store *)store, .points = points};

    if (!list(&listing, vm, error))
        return NULL;
    g_ptr_array_sort(points, newest_first);
    return g_steal_pointer(&points);
}

char **store_damaged_points(struct store *local, const char *vm, GError **error)
{
    g_autoptr(GPtrArray) damaged = g_ptr_array_new_with_free_func(g_free);
    struct listing listing = {.store = (struct local_store *)local, .damaged = damaged};

    if (!list(&listing, vm, error))
        return NULL;
    g_ptr_array_add(damaged, NULL);
    return (char **)g_ptr_array_steal(damaged, NULL);
}

char **local_damaged(struct store *store, const char *vm_uuid, GError **error)
{
    struct local_store *self = (struct local_store *)store;
    g_autofree char *dir = g_build_filename(self->path, "vms", vm_uuid, NULL);
    g_auto(GStrv) points = dir_list(dir, error);
    g_autoptr(GStrvBuilder) damaged = g_strv_builder_new();
    int64_t ms;

    if (!points)
        return NULL;
    for (char **point = points; *point; point++) {
        g_autofree char *note = g_build_filename(dir, *point, DAMAGE_NAME, NULL);

        if (point_id_parse(*point, &ms) && g_file_test(note, G_FILE_TEST_EXISTS))
            g_strv_builder_add(damaged, *point);
    }
    return g_strv_builder_end(damaged);
}
