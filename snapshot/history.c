/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/history.h"

struct history {
    struct store *store;
    char *vm;
    GHashTable *points; /* UUID of a VM -> GPtrArray of struct manifest, newest first */
};

static const GPtrArray *points_of(struct history *history, const char *vm, GError **error)
{
    GPtrArray *points = g_hash_table_lookup(history->points, vm);

    if (points)
        return points;
    points = store_points(history->store, vm, error);
    if (points)
        g_hash_table_insert(history->points, g_strdup(vm), points);
    return points;
}

struct history *history_new(struct store *store, const char *vm, GError **error)
{
    AUTO(history) history = g_new0(struct history, 1);

    history->store = store;
    history->vm = g_strdup(vm);
    history->points =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_ptr_array_unref);
    return points_of(history, vm, error) ? g_steal_pointer(&history) : NULL;
}

void history_free(struct history *history)
{
    if (!history)
        return;
    g_free(history->vm);
    g_hash_table_unref(history->points);
    g_free(history);
}

struct store *history_store(const struct history *history)
{
    return history->store;
}

const GPtrArray *history_points(const struct history *history)
{
    return g_hash_table_lookup(history->points, history->vm);
}

static const struct manifest *find_point(const GPtrArray *points, const char *id)
{
    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];

        if (g_str_equal(manifest->point, id))
            return manifest;
    }
    return NULL;
}

/* *BELOW is NULL under the last layer. Bases are older than what is based on them, so this ends. */
static bool add_layer(struct history *history, GArray *chain, const char *vm, const char *point,
                      const char *target, const struct manifest **below, GError **error)
{
    const GPtrArray *points = points_of(history, vm, error);
    const struct manifest *manifest = points ? find_point(points, point) : NULL;
    const struct manifest_disk *disk = manifest ? manifest_disk(manifest, target) : NULL;
    struct history_layer layer;

    if (!points)
        return false;
    if (!disk)
        return fail(error, ERROR_NOT_FOUND, "point %s of VM %s with disk %s is missing", point, vm,
                    target);
    layer = (struct history_layer){manifest->uuid, manifest->point, disk};
    g_array_append_val(chain, layer);
    *below = disk->base ? manifest : NULL;
    return true;
}

GArray *history_chain(struct history *history, const char *vm, const char *point,
                      const char *target, GError **error)
{
    g_autoptr(GArray) chain = g_array_new(FALSE, FALSE, sizeof(struct history_layer));
    const struct manifest *manifest = NULL;

    do {
        if (!add_layer(history, chain, vm, point, target, &manifest, error))
            return NULL;
        if (manifest) {
            const struct manifest_disk *disk = manifest_disk(manifest, target);

            vm = manifest_base_vm(manifest, disk);
            point = disk->base;
            target = manifest_base_target(disk);
        }
    } while (manifest);
    return g_steal_pointer(&chain);
}
