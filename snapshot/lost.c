/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/lost.h"

#include <string.h>

#include "snapshot/cluster.h"
#include "snapshot/digests.h"

/* --- what is noted --------------------------------------------------------------------------- */

static bool collect(void *context, const void *data, size_t len, GError **error)
{
    GString *text = context;

    if (len > DAMAGE_MAX_BYTES - text->len)
        return fail(error, ERROR_INTEGRITY, DAMAGE_NAME " is too long");
    g_string_append_len(text, data, (gssize)len);
    return true;
}

/* The note about the point of LAYER; *DAMAGE is NULL if it has been healed meanwhile. A note that cannot be
 * read says that all is lost. */
static bool get_note(struct store *store, const struct history_layer *layer, struct damage **damage,
                     GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GError) why = NULL;

    *damage = NULL;
    if (!store_get(store, layer->vm, layer->point, DAMAGE_NAME, 0, collect, text, &why)) {
        if (error_is(why, ERROR_NOT_FOUND))
            return true;
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    *damage = damage_parse(text->str, text->len, NULL);
    if (!*damage) {
        *damage = damage_new();
        damaged_file_add(damage_add(*damage, layer->disk->file, DAMAGE_NAME), 0,
                         cluster_count(layer->disk->virtual_bytes));
        damage_add(*damage, layer->disk->digests, DAMAGE_NAME);
    }
    return true;
}

/* --- what a layer above has afresh ----------------------------------------------------------- */

struct afresh {
    const GArray *lost;
    GArray *own; /* what of it the layer has itself */
    struct digest_stream *digests;
    uint64_t bytes, limit; /* the other side's word is not taken for how much there is */
};

static void has(void *context, const struct digest_record *record)
{
    struct afresh *afresh = context;

    if (cluster_ranges_has(afresh->lost, record->cluster))
        cluster_ranges_append(afresh->own, record->cluster, 1);
}

static bool take_digests(void *context, const void *data, size_t len, GError **error)
{
    struct afresh *afresh = context;

    afresh->bytes += len;
    if (afresh->bytes > afresh->limit)
        return fail(error, ERROR_INTEGRITY, "more digests than a disk has clusters");
    digest_stream_add(afresh->digests, data, len, has, afresh);
    return interrupt_check(error);
}

/* Take off *LOST what LAYER has itself, as far as its digests tell. */
static bool hide(struct store *store, const struct history_layer *layer, GArray **lost,
                 GError **error)
{
    uint64_t clusters = cluster_count(layer->disk->virtual_bytes);
    AUTO(digest_stream) digests = digest_stream_new(layer->disk->virtual_bytes);
    g_autoptr(GArray) own = cluster_ranges_new();
    g_autoptr(GError) why = NULL;
    struct afresh afresh = {.lost = *lost,
                            .own = own,
                            .digests = digests,
                            .limit = DIGESTS_HEADER_BYTES + clusters * DIGESTS_RECORD_BYTES +
                                     DIGESTS_TRAILER_BYTES};
    GArray *seen;

    if (!store_get(store, layer->vm, layer->point, layer->disk->digests, 0, take_digests, &afresh,
                   &why)) {
        if (error_is(why, ERROR_NOT_FOUND))
            return true;
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    if (!digest_stream_is_whole(digests))
        return true;
    seen = cluster_ranges_minus(*lost, own);
    g_array_unref(*lost);
    *lost = seen;
    return true;
}

/* --- a chain --------------------------------------------------------------------------------- */

/* For each layer of CHAIN whether something is noted of its point; g_free. */
static bool *find_noted(struct store *store, const GArray *chain, bool *any, GError **error)
{
    g_autofree bool *noted = g_new0(bool, chain->len);
    g_auto(GStrv) damaged = NULL;
    const char *vm = NULL;

    *any = false;
    for (unsigned i = 0; i < chain->len; i++) {
        const struct history_layer *layer = &g_array_index(chain, struct history_layer, i);

        /* Neighbours are mostly of one VM, and it is asked about all of its points at once. */
        if (g_strcmp0(vm, layer->vm) != 0) {
            g_clear_pointer(&damaged, g_strfreev);
            vm = layer->vm;
            damaged = store_damaged(store, vm, error);
            if (!damaged)
                return NULL;
        }
        noted[i] = g_strv_contains((const char *const *)damaged, layer->point);
        *any |= noted[i];
    }
    return g_steal_pointer(&noted);
}

/* One layer up: *LOST is what is missed below LAYER, and becomes what is missed at it. */
static bool climb(struct store *store, const struct history_layer *layer, bool noted, GArray **lost,
                  GError **error)
{
    const struct manifest_disk *disk = layer->disk;
    g_autoptr(GArray) seen = cluster_ranges_below(*lost, cluster_count(disk->virtual_bytes));
    AUTO(damage) damage = NULL;
    const struct damaged_file *file;

    if (noted && !get_note(store, layer, &damage, error))
        return false;
    /* Digests that are damaged themselves prove nothing. */
    if (seen->len > 0 &&
        !(damage && (damage_file(damage, disk->digests) || damage_file(damage, SHA256SUMS_NAME))) &&
        !hide(store, layer, &seen, error))
        return false;
    file = damage ? damage_file(damage, disk->file) : NULL;
    g_array_unref(*lost);
    *lost = cluster_ranges_union(seen, file ? file->clusters : NULL);
    return true;
}

bool lost_find(const struct history *history, const GArray *chain, GArray **lost, GError **error)
{
    struct store *store = history_store(history);
    g_autoptr(GArray) missed = cluster_ranges_new();
    bool any;
    g_autofree bool *noted = find_noted(store, chain, &any, error);

    *lost = NULL;
    if (!noted)
        return false;
    for (unsigned i = chain->len; any && i-- > 0;)
        if ((missed->len > 0 || noted[i]) &&
            !climb(store, &g_array_index(chain, struct history_layer, i), noted[i], &missed, error))
            return false;
    if (missed->len > 0)
        *lost = g_steal_pointer(&missed);
    return true;
}
