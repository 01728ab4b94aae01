/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which image in the store a new disk is most like. Each VM's newest point stands for it; what its
 * disks are like, the catalog remembers as a sketch, brought up from point to point by the
 * digests of what has changed. It is a cache: what is missing or damaged is made again from the
 * digests of the whole chain. What is offered as a base was verified, now or before: it may be
 * another site's.
 */
#include <stdlib.h>
#include <string.h>

#include "replicator/local.h"

/* Less than a quarter in common saves less than it costs: the two VMs' points could be dropped and
 * moved only together, and every read would go through one more image. Fewer matches than this
 * say nothing about a disk of which only a sample was compared, and save too little otherwise. */
#define MIN_PERCENT 25
#define MIN_MATCHES 16
/* Half of what a failover can start from without a copy, so that the chain of the new disk has room to
 * grow. */
#define MAX_LAYERS 75

/* --- Sketches of images --------------------------------------------------------------------- */

static char *sketch_key(const char *vm_uuid, const char *target)
{
    return g_strconcat(vm_uuid, "/", target, NULL);
}

static void layer_clear(void *data)
{
    struct image_layer *layer = data;

    g_free(layer->image);
    g_free(layer->digests);
}

/* A smaller layer hides the end of what is below it, and a sketch does not tell what lies there. */
static bool all_have(const GArray *layers, uint64_t virtual_bytes)
{
    for (unsigned i = 0; i < layers->len; i++)
        if (g_array_index(layers, struct image_layer, i).virtual_bytes < virtual_bytes)
            return false;
    return true;
}

/* What the catalog has of the disk at PLACE, at that very point, if LAYERS can be added to it. */
static bool recall(struct local_store *self, const struct chain_place *place, const GArray *layers,
                   struct sketch *sketch)
{
    g_autofree char *key = sketch_key(place->vm_uuid, place->target);
    json_auto_t *entry = NULL;
    uint64_t virtual_bytes;

    return catalog_get(self->catalog, CATALOG_SKETCHES, key, &entry, NULL) && entry &&
           g_strcmp0(json_get_string(entry, "point"), place->point) == 0 &&
           json_need_u64(entry, "virtual_bytes", &virtual_bytes, NULL) &&
           all_have(layers, virtual_bytes) && sketch_from_json(entry, sketch, NULL);
}

static void remember(struct local_store *self, const char *vm_uuid, const char *point,
                     const char *target, uint64_t virtual_bytes, const struct sketch *sketch)
{
    g_autofree char *key = sketch_key(vm_uuid, target);
    json_auto_t *entry = sketch_json(sketch);

    json_set_string(entry, "point", point);
    json_set_u64(entry, "virtual_bytes", virtual_bytes);
    catalog_put(self->catalog, CATALOG_SKETCHES, key, entry, NULL);
}

/* The sketch of disk TARGET at a point: that of the nearest point below it which the catalog
 * remembers, brought up by the layers above that. */
static bool find_sketch(struct local_store *self, const char *vm_uuid, const char *point,
                        const char *target, struct sketch *sketch, GError **error)
{
    AUTO_CHAIN_PLACE at = {g_strdup(vm_uuid), g_strdup(point), g_strdup(target)};
    g_autoptr(GArray) layers = g_array_new(FALSE, TRUE, sizeof(struct image_layer));
    const struct image_layer *top;

    g_array_set_clear_func(layers, layer_clear);
    *sketch = (struct sketch){0};
    while (at.point && !recall(self, &at, layers, sketch)) {
        struct image_layer layer = {0};

        if (!interrupt_check(error) || !local_chain_step(self, &at, &layer, error))
            return false;
        g_array_append_val(layers, layer);
    }
    if (layers->len == 0)
        return true;
    top = &g_array_index(layers, struct image_layer, 0);
    if (!self->point_ops->sketch(top, layers->len, sketch, error))
        return false;
    remember(self, vm_uuid, point, target, top->virtual_bytes, sketch);
    return true;
}

void local_sketch_point(struct local_store *self, const struct manifest *manifest)
{
    g_autofree struct sketch *sketch = g_new(struct sketch, 1);

    for (unsigned i = 0; i < manifest->disks->len; i++) {
        const struct manifest_disk *disk = manifest->disks->pdata[i];
        g_autoptr(GError) why = NULL;

        if (!find_sketch(self, manifest->uuid, manifest->point, disk->target, sketch, &why))
            g_debug("no sketch of %s of %s: %s", disk->target, manifest->vm, why->message);
    }
}

/* --- The search ----------------------------------------------------------------------------- */

struct search {
    struct local_store *store;
    const struct sketch *wanted;
    struct sketch *image; /* the one that is being looked at */
    GPtrArray *found;     /* of struct similar_image */
};

static bool is_similar(const struct sketch_overlap *overlap)
{
    return overlap->matched >= MIN_MATCHES &&
           overlap->matched * 100 >= overlap->sampled * MIN_PERCENT;
}

/* An image that cannot be read is not one to build upon, and no reason to stop. */
static bool look_at_disk(struct search *self, const struct manifest *manifest,
                         const struct manifest_disk *disk, GError **error)
{
    g_autoptr(GError) why = NULL;
    struct similar_image *image;
    struct sketch_overlap overlap;

    if (!interrupt_check(error))
        return false;
    if (!find_sketch(self->store, manifest->uuid, manifest->point, disk->target, self->image,
                     &why)) {
        g_debug("%s of %s is left out: %s", disk->target, manifest->vm, why->message);
        return true;
    }
    overlap = sketch_compare(self->wanted, self->image);
    if (!is_similar(&overlap))
        return true;
    image = g_new0(struct similar_image, 1);
    image->vm_uuid = g_strdup(manifest->uuid);
    image->vm = g_strdup(manifest->vm);
    image->point = g_strdup(manifest->point);
    image->target = g_strdup(disk->target);
    image->overlap = overlap;
    g_ptr_array_add(self->found, image);
    return true;
}

static bool look_at_vm(struct search *self, const char *vm_uuid, const char *before, GError **error)
{
    AUTO(manifest) newest = local_newest(self->store, vm_uuid);

    if (!newest || strcmp(newest->point, before) >= 0)
        return true;
    for (unsigned i = 0; i < newest->disks->len; i++)
        if (!look_at_disk(self, newest, newest->disks->pdata[i], error))
            return false;
    return true;
}

/* The most similar first; of those that are equally so the oldest, which is the template and not one of
 * its clones. */
static int best_first(const void *a, const void *b)
{
    const struct similar_image *left = *(struct similar_image *const *)a;
    const struct similar_image *right = *(struct similar_image *const *)b;
    uint64_t one = (uint64_t)left->overlap.matched * right->overlap.sampled;
    uint64_t other = (uint64_t)right->overlap.matched * left->overlap.sampled;

    if (one != other)
        return one > other ? -1 : 1;
    return strcmp(left->point, right->point);
}

static bool is_verified(struct local_store *self, const char *key)
{
    json_auto_t *record = NULL;
    bool good = false;

    return catalog_get(self->catalog, CATALOG_VERIFIED, key, &record, NULL) && record &&
           json_need_bool(record, "ok", &good, NULL) && good;
}

static void note_verified(struct local_store *self, const char *key)
{
    json_auto_t *record = json_object();
    g_autofree char *time = time_format(time_now_ms());

    json_set_string(record, "time", time);
    json_object_set_new(record, "ok", json_true());
    json_set_string(record, "error", NULL);
    catalog_put(self->catalog, CATALOG_VERIFIED, key, record, NULL);
}

/* The source will believe these digests, and who has sent this point may be somebody else: they must be
 * what its images hold. Once is enough, because no file of a point is written again. */
static bool check_point(struct local_store *self, const char *vm_uuid, const char *point,
                        GError **error)
{
    g_autofree char *dir = store_point_dir(self->path, vm_uuid, point);
    g_autofree char *key = g_strconcat(vm_uuid, "/", point, NULL);
    AUTO(manifest) manifest = NULL;
    AUTO(damage) damage = NULL;

    if (!damage_load(dir, &damage, error))
        return false;
    if (damage)
        return fail(error, ERROR_INTEGRITY, "%s is damaged", dir);
    if (is_verified(self, key))
        return true;
    manifest = local_manifest(self->path, vm_uuid, point, error);
    if (!manifest || !store_verify_point(self->path, manifest, NULL, error) ||
        !self->point_ops->verify(dir, manifest, NULL, error))
        return false;
    note_verified(self, key);
    return true;
}

static bool check_chain(struct local_store *self, const struct similar_image *image, GError **error)
{
    AUTO_CHAIN_PLACE at = {g_strdup(image->vm_uuid), g_strdup(image->point),
                           g_strdup(image->target)};

    while (at.point) {
        struct image_layer layer = {0};
        bool good = check_point(self, at.vm_uuid, at.point, error) &&
                    local_chain_step(self, &at, &layer, error);

        layer_clear(&layer);
        if (!good)
            return false;
    }
    return true;
}

/* *GOOD: its chain is complete, short and whole. */
static bool can_be_a_base(struct local_store *self, const struct similar_image *image, bool *good,
                          GError **error)
{
    g_auto(GStrv) chain =
        store_chain(&self->store, image->vm_uuid, image->point, image->target, NULL);
    g_autoptr(GError) why = NULL;

    *good = chain && g_strv_length(chain) <= MAX_LAYERS && check_chain(self, image, &why);
    if (error_is(why, ERROR_CANCELLED)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    if (why)
        g_debug("%s of %s is no base: %s", image->target, image->vm, why->message);
    return true;
}

/* The first of FOUND that can be a base, or NULL. */
static bool choose(struct local_store *self, GPtrArray *found, struct similar_image **image,
                   GError **error)
{
    bool good = false;

    *image = NULL;
    for (unsigned i = 0; i < found->len && !*image; i++) {
        if (!can_be_a_base(self, found->pdata[i], &good, error))
            return false;
        if (good)
            *image = g_ptr_array_steal_index(found, i);
    }
    return true;
}

bool local_similar(struct store *store, const struct sketch *sketch, const char *before,
                   struct similar_image **image, GError **error)
{
    struct local_store *self = (struct local_store *)store;
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func((GDestroyNotify)similar_image_free);
    g_autofree struct sketch *scratch = g_new(struct sketch, 1);
    g_auto(GStrv) vms = local_vms(self, error);
    struct search search = {self, sketch, scratch, found};

    if (!vms)
        return false;
    for (char **vm = vms; *vm; vm++)
        if (uuid_is_valid(*vm) && !look_at_vm(&search, *vm, before, error))
            return false;
    g_ptr_array_sort(found, best_first);
    return choose(self, found, image, error);
}
