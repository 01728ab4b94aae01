/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What damage of a point means for those above it: a cluster that a later point has afresh is not
 * missed by it, nor by any point above that.
 */
#include <inttypes.h>
#include <string.h>

#include "snapshot/digests.h"
#include "snapshot/cluster.h"
#include "snapshot/snapshot.h"

void chain_loss_clear(struct chain_loss *loss)
{
    g_clear_pointer(&loss->clusters, g_array_unref);
    g_clear_pointer(&loss->text, g_free);
}

/* --- one layer ------------------------------------------------------------------------------- */

/* LOST without what the layer of DIGESTS has itself. */
static GArray *without_own(const GArray *lost, struct digest_reader *digests)
{
    g_autoptr(GArray) own = cluster_ranges_new();
    struct digest_record record;
    bool found;

    while (digest_reader_next(digests, &record, &found, NULL) && found)
        if (cluster_ranges_has(lost, record.cluster))
            cluster_ranges_append(own, record.cluster, 1);
    return cluster_ranges_minus(lost, own);
}

/* Digests that are damaged could say that the layer has what it has not. */
static bool trusts_digests(const struct manifest_disk *disk, const struct damage *damage)
{
    return !damage ||
           (!damage_file(damage, disk->digests) && !damage_file(damage, SHA256SUMS_NAME));
}

GArray *snapshot_layer_loss(const char *dir, const struct manifest_disk *disk,
                            const struct damage *damage, const GArray *below)
{
    const struct damaged_file *own = damage ? damage_file(damage, disk->file) : NULL;
    /* As in QEMU, nothing of a layer is seen behind the end of a smaller one above it. */
    g_autoptr(GArray) seen =
        below ? cluster_ranges_below(below, cluster_count(disk->virtual_bytes)) : NULL;
    g_autofree char *path = g_build_filename(dir, disk->digests, NULL);
    g_autoptr(GArray) lost = NULL;

    if (seen && seen->len && trusts_digests(disk, damage)) {
        AUTO(digest_reader) digests = digest_reader_open(path, disk->virtual_bytes, NULL);
        GArray *kept = digests ? without_own(seen, digests) : g_array_ref(seen);

        g_array_unref(seen);
        seen = kept;
    }
    lost = cluster_ranges_union(seen, own ? own->clusters : NULL);
    return lost->len ? g_steal_pointer(&lost) : NULL;
}

/* --- a chain --------------------------------------------------------------------------------- */

struct layer {
    char *dir, *name; /* name: of the image */
    struct damage *damage;
    const struct damaged_file *file; /* what of DAMAGE is about the image, or NULL */
};

static void layer_clear(void *data)
{
    struct layer *layer = data;

    g_free(layer->dir);
    g_free(layer->name);
    damage_free(layer->damage);
}

static GArray *load_layers(char *const *images, GError **error)
{
    g_autoptr(GArray) layers = g_array_new(FALSE, TRUE, sizeof(struct layer));

    g_array_set_clear_func(layers, layer_clear);
    for (unsigned i = 0; images[i]; i++) {
        struct layer layer = {g_path_get_dirname(images[i]), g_path_get_basename(images[i]), NULL,
                              NULL};
        bool loaded = damage_load(layer.dir, &layer.damage, error);

        layer.file = layer.damage ? damage_file(layer.damage, layer.name) : NULL;
        g_array_append_val(layers, layer);
        if (!loaded)
            return NULL;
    }
    return g_steal_pointer(&layers);
}

/* What is missed at the top of LAYERS. */
static bool add_up(const GArray *layers, struct chain_loss *loss, GError **error)
{
    for (unsigned i = layers->len; i-- > 0;) {
        const struct layer *layer = &g_array_index(layers, struct layer, i);
        g_autofree char *path = g_build_filename(layer->dir, MANIFEST_NAME, NULL);
        AUTO(manifest) manifest = NULL;
        const struct manifest_disk *disk;
        GArray *seen;

        if (!loss->clusters && !layer->file)
            continue;
        manifest = manifest_load(path, error);
        disk = manifest ? manifest_disk_of_image(manifest, layer->name) : NULL;
        if (!manifest)
            return false;
        if (!disk)
            return fail(error, ERROR_INTEGRITY, "%s names no disk whose image is %s", path,
                        layer->name);
        seen = snapshot_layer_loss(layer->dir, disk, layer->damage, loss->clusters);
        g_clear_pointer(&loss->clusters, g_array_unref);
        loss->clusters = seen;
        loss->unbounded |=
            layer->file && layer->file->unreadable && !trusts_digests(disk, layer->damage);
    }
    return true;
}

static void describe(const GArray *layers, struct chain_loss *loss)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (unsigned i = 0; i < layers->len; i++) {
        const struct layer *layer = &g_array_index(layers, struct layer, i);
        uint64_t missed = layer->file && loss->clusters
                              ? cluster_ranges_common(layer->file->clusters, loss->clusters)
                              : 0;
        g_autofree char *point = g_path_get_basename(layer->dir);

        if (!layer->file || (!missed && !layer->file->unreadable))
            continue;
        if (text->len)
            g_string_append(text, "; ");
        if (layer->file->unreadable)
            g_string_append(text, "the tables of ");
        else
            g_string_append_printf(text, "%" PRIu64 " clusters of ", missed);
        g_string_append_printf(text, "%s in point %s are damaged (%s)", layer->name, point,
                               layer->file->why);
        loss->unreadable |= layer->file->unreadable;
    }
    if (text->len)
        loss->text = g_strdup(text->str);
}

bool snapshot_chain_loss(char *const *images, struct chain_loss *loss, GError **error)
{
    g_autoptr(GArray) layers = load_layers(images, error);

    *loss = (struct chain_loss){0};
    if (!layers || !add_up(layers, loss, error))
        return false;
    describe(layers, loss);
    return true;
}

bool snapshot_chain_is_whole(char *const *images, GError **error)
{
    AUTO_CHAIN_LOSS loss = {0};

    if (!snapshot_chain_loss(images, &loss, error))
        return false;
    return !loss.text || fail(error, ERROR_INTEGRITY,
                              "%s; `drctl heal` can get them from another store", loss.text);
}
