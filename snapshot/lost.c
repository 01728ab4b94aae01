/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/lost.h"

#include <string.h>

#include "snapshot/cluster.h"

static bool collect(void *context, const void *data, size_t len, GError **error)
{
    GString *text = context;

    if (len > DAMAGE_MAX_BYTES - text->len)
        return fail(error, ERROR_INTEGRITY, DAMAGE_NAME " is too long");
    g_string_append_len(text, data, (gssize)len);
    return true;
}

static void lose_all(const struct history_layer *layer, GArray *found)
{
    struct cluster_range all = {0, cluster_count(layer->disk->virtual_bytes)};

    g_array_append_val(found, all);
}

/* What the note about the point of LAYER says of its image. */
static bool add_layer(struct store *store, const struct history_layer *layer, GArray *found,
                      GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GError) why = NULL;
    AUTO(damage) damage = NULL;
    const struct damaged_file *file;

    if (!store_get(store, layer->vm, layer->point, DAMAGE_NAME, 0, collect, text, &why)) {
        if (error_is(why, ERROR_NOT_FOUND))
            return true; /* it has been healed */
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    damage = damage_parse(text->str, text->len, NULL);
    file = damage ? damage_file(damage, layer->disk->file) : NULL;
    if (!damage)
        lose_all(layer, found);
    else if (file)
        g_array_append_vals(found, file->clusters->data, file->clusters->len);
    return true;
}

static int by_first(const void *a, const void *b)
{
    const struct cluster_range *left = a, *right = b;

    return left->first < right->first ? -1 : left->first > right->first;
}

static GArray *merge(GArray *found)
{
    GArray *lost = cluster_ranges_new();

    g_array_sort(found, by_first);
    for (unsigned i = 0; i < found->len; i++) {
        const struct cluster_range *range = &g_array_index(found, struct cluster_range, i);

        cluster_ranges_add(lost, range->first, range->count);
    }
    return lost;
}

bool lost_find(const struct history *history, const GArray *chain, GArray **lost, GError **error)
{
    g_autoptr(GArray) found = cluster_ranges_new();
    struct store *store = history_store(history);
    g_auto(GStrv) damaged = NULL;
    const char *vm = NULL;

    *lost = NULL;
    for (unsigned i = 0; i < chain->len; i++) {
        const struct history_layer *layer = &g_array_index(chain, struct history_layer, i);

        /* Neighbours are mostly of one VM, and it is asked about all of its points at once. */
        if (g_strcmp0(vm, layer->vm) != 0) {
            g_clear_pointer(&damaged, g_strfreev);
            vm = layer->vm;
            damaged = store_damaged(store, vm, error);
            if (!damaged)
                return false;
        }
        if (g_strv_contains((const char *const *)damaged, layer->point) &&
            !add_layer(store, layer, found, error))
            return false;
    }
    if (found->len)
        *lost = merge(found);
    return true;
}
