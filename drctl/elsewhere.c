/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/elsewhere.h"

#include <string.h>

#include "drctl/verification.h"

static bool is_over(const GError *error)
{
    return error_is(error, ERROR_CANCELLED);
}

/* Store NAME; NULL, which was told, if it cannot be asked. */
static struct store *open_told(struct context *context, const char *name)
{
    g_autoptr(GError) why = NULL;
    struct store *store = context_open(context, name, &why);

    if (!store)
        progress_note(context->progress, "%s", why->message);
    return store;
}

/* --- what is not here ------------------------------------------------------------------------ */

static const struct manifest *find_point(const GPtrArray *points, const char *point)
{
    for (unsigned i = 0; i < points->len; i++)
        if (!point || g_str_equal(((const struct manifest *)points->pdata[i])->point, point))
            return points->pdata[i];
    return NULL;
}

/* The store that is nearest of those that have the newest point. */
struct found {
    struct store *store;
    GPtrArray *points; /* of the VM there */
    const struct manifest *point;
};

static void found_clear(struct found *found)
{
    store_free(found->store);
    g_clear_pointer(&found->points, g_ptr_array_unref);
}
#define AUTO_FOUND __attribute__((cleanup(found_clear))) struct found

static bool look_in(struct context *context, struct store *store, const char *vm, const char *point,
                    struct found *found, GError **error)
{
    AUTO_FOUND there = {.store = store};
    g_autoptr(GError) why = NULL;

    there.points = store_points(store, vm, &why);
    if (!there.points && is_over(why)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    if (!there.points)
        progress_note(context->progress, "%s", why->message);
    there.point = there.points ? find_point(there.points, point) : NULL;
    if (there.point && (!found->point || there.point->time_ms > found->point->time_ms)) {
        struct found before = *found;

        *found = there;
        there = before;
    }
    return true;
}

static bool look_everywhere(struct context *context, const char *vm, const char *point,
                            struct found *found, GError **error)
{
    const GPtrArray *remotes = context->config->remotes;

    for (unsigned i = 0; i < remotes->len && !(point && found->point); i++) {
        struct store *store = open_told(context, ((const struct remote *)remotes->pdata[i])->name);

        if (!interrupt_check(error)) {
            store_free(store);
            return false;
        }
        if (store && !look_in(context, store, vm, point, found, error))
            return false;
    }
    return true;
}

static bool look_at(struct context *context, const char *from, const char *vm, const char *point,
                    struct found *found, GError **error)
{
    struct store *store = context_open(context, from, error);

    if (!store || !look_in(context, store, vm, point, found, error))
        return false;
    return found->point || fail(error, ERROR_NOT_FOUND, "%s has no point %s%sof %s", from,
                                point ? point : "", point ? " " : "", vm);
}

static bool copy_here(struct context *context, const struct found *found, GError **error)
{
    char *uuid[] = {found->point->uuid, NULL};
    const struct copy_wish wish = {.point = found->point->point};
    g_autoptr(GPtrArray) plan = store_copy_plan(found->store, context->store, uuid, &wish, error);

    if (plan && plan->len > 0)
        progress_note(context->progress, "point %s of %s comes from %s", found->point->point,
                      found->point->vm, found->store->label);
    for (unsigned i = 0; plan && i < plan->len; i++)
        if (!store_copy_point(found->store, context->store, plan->pdata[i], context->progress,
                              error))
            return false;
    return plan != NULL;
}

bool elsewhere_fetch(struct context *context, const char *vm, const char *point, const char *from,
                     char **found_point, GError **error)
{
    AUTO_FOUND found = {};
    g_autoptr(GPtrArray) here =
        context_store(context, error) ? store_points(context->store, vm, error) : NULL;

    *found_point = NULL;
    if (!here)
        return false;
    if (!from && find_point(here, point))
        return true;
    if (!(from ? look_at(context, from, vm, point, &found, error)
               : look_everywhere(context, vm, point, &found, error)))
        return false;
    *found_point = found.point ? g_strdup(found.point->point) : NULL;
    return !found.point || copy_here(context, &found, error);
}

/* --- what is not whole ----------------------------------------------------------------------- */

struct mending {
    struct context *context;
    GHashTable *vms;   /* UUIDs of those whose points are known */
    GHashTable *known; /* "<vm>/<point>" -> struct manifest */
    GPtrArray *chain;  /* of struct manifest, borrowed: the point, and what it is based on */
    GPtrArray *stores; /* of struct store: of others, once they were opened */
};

static void mending_clear(struct mending *self)
{
    g_hash_table_unref(self->vms);
    g_hash_table_unref(self->known);
    g_ptr_array_unref(self->chain);
    g_clear_pointer(&self->stores, g_ptr_array_unref);
}
#define AUTO_MENDING __attribute__((cleanup(mending_clear))) struct mending

static bool add_base(struct mending *self, const char *vm_uuid, const char *point, GError **error)
{
    g_autofree char *key = g_strconcat(vm_uuid, "/", point, NULL);
    struct manifest *manifest;

    if (g_hash_table_add(self->vms, g_strdup(vm_uuid))) {
        g_autoptr(GPtrArray) points = store_points(self->context->store, vm_uuid, error);

        if (!points)
            return false;
        g_ptr_array_set_free_func(points, NULL);
        for (unsigned i = 0; i < points->len; i++) {
            manifest = points->pdata[i];
            g_hash_table_insert(self->known, g_strconcat(vm_uuid, "/", manifest->point, NULL),
                                manifest);
        }
    }
    manifest = g_hash_table_lookup(self->known, key);
    if (manifest && !g_ptr_array_find(self->chain, manifest, NULL))
        g_ptr_array_add(self->chain, manifest);
    return true;
}

/* Bases are behind what is based on them. */
static bool make_chain(struct mending *self, const struct manifest *point, GError **error)
{
    if (!add_base(self, point->uuid, point->point, error))
        return false;
    for (unsigned i = 0; i < self->chain->len; i++) {
        const struct manifest *manifest = self->chain->pdata[i];

        for (unsigned k = 0; k < manifest->disks->len; k++) {
            const struct manifest_disk *disk = manifest->disks->pdata[k];

            if (disk->base && !add_base(self, manifest_base_vm(manifest, disk), disk->base, error))
                return false;
        }
    }
    return true;
}

static void open_stores(struct mending *self)
{
    const GPtrArray *remotes = self->context->config->remotes;

    if (self->stores)
        return;
    self->stores = g_ptr_array_new_with_free_func((GDestroyNotify)store_free);
    for (unsigned i = 0; i < remotes->len; i++) {
        struct store *store =
            open_told(self->context, ((const struct remote *)remotes->pdata[i])->name);

        if (store)
            g_ptr_array_add(self->stores, store);
    }
}

/* FROM: NULL is this store itself. */
static bool try_store(const struct mending *self, const struct manifest *point, struct store *from,
                      bool *mended, GError **error)
{
    struct context *context = self->context;
    g_autoptr(GError) why = NULL;

    *mended = store_heal_point(context->store, point, from, context->progress, &why);
    if (*mended) {
        progress_note(context->progress, "point %s of %s was damaged, and is whole again, from %s",
                      point->point, point->vm, from ? from->label : "other points");
        return true;
    }
    if (is_over(why)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    if (from)
        progress_note(context->progress, "%s", why->message);
    return true;
}

static bool mend_point(struct mending *self, const struct manifest *point, bool *mended,
                       GError **error)
{
    bool done = false;

    if (!try_store(self, point, NULL, &done, error))
        return false;
    if (!done)
        open_stores(self);
    for (unsigned i = 0; !done && i < self->stores->len; i++)
        if (!try_store(self, point, self->stores->pdata[i], &done, error))
            return false;
    *mended |= done;
    return true;
}

static bool is_damaged(struct context *context, const struct manifest *point, bool look,
                       bool *damaged, GError **error)
{
    AUTO_VERDICT verdict = {0};
    g_autoptr(GError) damage = NULL;

    if (look && !verify_point(context, point, &damage, error))
        return false;
    verdict_of(context, point, &verdict);
    *damaged = verdict.damage != NULL;
    return true;
}

bool elsewhere_mend(struct context *context, const char *vm, const char *point, bool look,
                    bool *mended, GError **error)
{
    g_autoptr(GPtrArray) points =
        context_store(context, error) ? store_points(context->store, vm, error) : NULL;
    const struct manifest *wanted = points ? find_point(points, point) : NULL;
    AUTO_MENDING self = {
        .context = context,
        .vms = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
        .known =
            g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)manifest_free),
        .chain = g_ptr_array_new(),
    };

    *mended = false;
    if (!wanted)
        return points != NULL;
    if (!make_chain(&self, wanted, error))
        return false;
    /* Bases first: what is whole again in them may be what another point needs. */
    for (unsigned i = self.chain->len; i-- > 0;) {
        const struct manifest *layer = self.chain->pdata[i];
        bool damaged;

        if (!is_damaged(context, layer, look, &damaged, error) ||
            (damaged && !mend_point(&self, layer, mended, error)))
            return false;
    }
    return true;
}
