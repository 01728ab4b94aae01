/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dropping points. From the newest to the oldest, so that nothing is ever without what it is based on:
 *
 *     a point that takes over clusters    composed anew in incoming/, checked, verified, compared with
 *                                         what it was; then the two directories change places
 *     points that go                      renamed into incoming/
 *
 * What is in incoming/ then is garbage, as after any transfer. Killed between any two steps, every
 * point is there and whole, as it was or as it shall be; a point that was to go and has no heir any
 * more goes the next time.
 *
 * The lock of whoever writes points of the VM is held throughout, the lock against readers only for
 * the instant in which something changes its place: a failover must not wait for a merge.
 */
#include <string.h>

#include "replicator/prune-plan.h"

struct pruning {
    struct local_store *store;
    const struct prune_request *request;
    struct prune_plan *plan;
    uint64_t before, after; /* bytes of what went or was replaced, and of what replaced it */
};

/* --- Composing a point anew ----------------------------------------------------------------- */

static void layers_free(struct image_layer *layers, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        g_free(layers[i].image);
        g_free(layers[i].digests);
    }
    g_free(layers);
}

static void set_layer(struct image_layer *layer, const char *dir, const struct manifest_disk *disk)
{
    layer->image = g_build_filename(dir, disk->file, NULL);
    layer->digests = g_build_filename(dir, disk->digests, NULL);
    layer->virtual_bytes = disk->virtual_bytes;
}

static struct image_layer *layers_of(const struct pruning *self, const GArray *chain)
{
    struct image_layer *layers = g_new0(struct image_layer, chain->len);

    for (unsigned i = 0; i < chain->len; i++) {
        const struct chain_link *link = &g_array_index(chain, struct chain_link, i);
        g_autofree char *dir =
            store_point_dir(self->store->path, link->manifest->uuid, link->manifest->point);

        set_layer(&layers[i], dir, link->disk);
    }
    return layers;
}

/* One disk of a point that is composed anew. */
struct new_disk {
    GArray *chain; /* as it is now */
    unsigned merged;
    struct manifest_disk *entry; /* in the new manifest */
};

struct new_point {
    struct pruning *pruning;
    const struct plan_point *point;
    struct local_incoming *incoming;
    struct manifest *manifest;
    struct manifest *fresh; /* with only the disks that are composed */
    GArray *disks;          /* of struct new_disk */
};

static void new_disk_clear(void *data)
{
    struct new_disk *disk = data;

    g_array_unref(disk->chain);
}

static void new_point_free(struct new_point *made)
{
    if (!made)
        return;
    if (made->incoming)
        incoming_free(&made->incoming->incoming);
    manifest_free(made->manifest);
    manifest_free(made->fresh);
    g_array_unref(made->disks);
    g_free(made);
}
DEFINE_CLEANUP(new_point)

static struct manifest *manifest_copy(const struct manifest *manifest, GError **error)
{
    json_auto_t *json = manifest_json(manifest);

    return manifest_from_json(json, manifest->point, error);
}

static void set_base(struct manifest_disk *entry, const char *vm_uuid,
                     const struct chain_link *base)
{
    g_clear_pointer(&entry->base, g_free);
    g_clear_pointer(&entry->base_vm, g_free);
    g_clear_pointer(&entry->base_target, g_free);
    if (!base)
        return;
    entry->base = g_strdup(base->manifest->point);
    if (strcmp(base->manifest->uuid, vm_uuid) != 0)
        entry->base_vm = g_strdup(base->manifest->uuid);
    if (strcmp(base->disk->target, entry->target) != 0)
        entry->base_target = g_strdup(base->disk->target);
}

/* Look which disks of the point are merged with what. */
static bool plan_disks(struct new_point *made, GError **error)
{
    const struct prune_plan *plan = made->pruning->plan;
    const struct manifest *old = made->point->manifest;

    for (unsigned i = 0; i < old->disks->len; i++) {
        struct new_disk disk = {.entry = made->manifest->disks->pdata[i]};

        disk.chain = prune_chain(plan, old, old->disks->pdata[i], error);
        if (!disk.chain)
            return false;
        disk.merged = prune_merged(plan, made->point, disk.chain);
        g_array_append_val(made->disks, disk);
        if (disk.merged == 1)
            continue;
        manifest_remove_file(made->manifest, disk.entry->file);
        manifest_remove_file(made->manifest, disk.entry->digests);
        set_base(disk.entry, old->uuid,
                 disk.merged < disk.chain->len
                     ? &g_array_index(disk.chain, struct chain_link, disk.merged)
                     : NULL);
    }
    manifest_set_base(made->manifest);
    return true;
}

/* Files that do not change are the same ones in both directories. */
static bool link_files(struct new_point *made, GError **error)
{
    for (unsigned i = 0; i < made->manifest->files->len; i++)
        if (!local_link(made->incoming,
                        ((const struct manifest_file *)made->manifest->files->pdata[i])->name,
                        error))
            return false;
    return true;
}

static bool merge_disk(struct new_point *made, const struct new_disk *disk, GError **error)
{
    const struct pruning *pruning = made->pruning;
    struct image_layer *layers = layers_of(pruning, disk->chain);
    struct merge_job job = {
        .layers = layers,
        .count = disk->chain->len,
        .merged = disk->merged,
        .into = &made->incoming->incoming,
        .manifest = made->manifest,
        .disk = disk->entry,
        .progress = pruning->request->progress,
    };
    bool done = pruning->store->point_ops->merge(&job, error);

    layers_free(layers, disk->chain->len);
    return done;
}

static bool merge_disks(struct new_point *made, GError **error)
{
    for (unsigned i = 0; i < made->disks->len; i++) {
        const struct new_disk *disk = &g_array_index(made->disks, struct new_disk, i);

        if (disk->merged > 1 && !merge_disk(made, disk, error))
            return false;
    }
    return true;
}

/* Those disks that were composed, as a manifest of their own: what was linked has been checked when
 * it was committed. */
static bool describe_fresh(struct new_point *made, GError **error)
{
    made->fresh = manifest_copy(made->manifest, error);
    if (!made->fresh)
        return false;
    for (unsigned i = made->disks->len; i-- > 0;)
        if (g_array_index(made->disks, struct new_disk, i).merged == 1)
            g_ptr_array_remove_index(made->fresh->disks, i);
    return true;
}

/* --- Is it what it was? --------------------------------------------------------------------- */

static bool compare_disk(struct new_point *made, const struct new_disk *disk, GError **error)
{
    unsigned count = disk->chain->len, dropped = disk->merged - 1;
    struct image_layer *before = layers_of(made->pruning, disk->chain);
    g_autofree struct image_layer *after = g_new0(struct image_layer, count - dropped);
    bool same;

    set_layer(&after[0], made->incoming->dir, disk->entry);
    memcpy(after + 1, before + disk->merged, (count - disk->merged) * sizeof *after);
    same =
        made->pruning->store->point_ops->same_content(before, count, after, count - dropped, error);
    g_free(after[0].image);
    g_free(after[0].digests);
    layers_free(before, count);
    if (!same)
        g_prefix_error(error, "disk %s: ", disk->entry->target);
    return same;
}

static bool prove(struct new_point *made, GError **error)
{
    const struct pruning *pruning = made->pruning;

    if (!pruning->store->point_ops->verify(made->incoming->dir, made->fresh,
                                           pruning->request->progress, error))
        return false;
    for (unsigned i = 0; i < made->disks->len; i++) {
        const struct new_disk *disk = &g_array_index(made->disks, struct new_disk, i);

        if (disk->merged > 1 && !compare_disk(made, disk, error))
            return false;
    }
    return true;
}

static struct new_point *new_point(struct pruning *pruning, const struct plan_point *point,
                                   GError **error)
{
    AUTO(new_point) made = g_new0(struct new_point, 1);

    made->pruning = pruning;
    made->point = point;
    made->disks = g_array_new(FALSE, FALSE, sizeof(struct new_disk));
    g_array_set_clear_func(made->disks, new_disk_clear);
    made->manifest = manifest_copy(point->manifest, error);
    return made->manifest && plan_disks(made, error) ? g_steal_pointer(&made) : NULL;
}

static bool is_composed(const struct new_point *made)
{
    for (unsigned i = 0; i < made->disks->len; i++)
        if (g_array_index(made->disks, struct new_disk, i).merged > 1)
            return true;
    return false;
}

/* The note of damage is about the files that are there now, and so are those that can heal it. */
static bool check_undamaged(const struct new_point *made, GError **error)
{
    const struct manifest *old = made->point->manifest;
    g_autofree char *dir = store_point_dir(made->pruning->store->path, old->uuid, old->point);
    AUTO(damage) damage = NULL;
    g_autofree char *text = NULL;

    if (!damage_load(dir, &damage, error))
        return false;
    if (!damage)
        return true;
    text = damage_text(damage);
    return fail(error, ERROR_INTEGRITY, "it is damaged (%s); make it whole by: drctl heal", text);
}

/* Everything that can be done before anybody sees it. */
static bool compose(struct new_point *made, GError **error)
{
    const struct manifest *old = made->point->manifest;

    if (!check_undamaged(made, error))
        return false;
    made->incoming = local_begin_again(made->pruning->store, old->uuid, old->point, error);
    return made->incoming && link_files(made, error) && merge_disks(made, error) &&
           describe_fresh(made, error) &&
           local_settle(made->incoming, made->manifest, made->fresh, error) && prove(made, error);
}

/* --- Changing places ------------------------------------------------------------------------ */

/* Readers are kept out from here on until it is freed; and nobody has come to need the points
 * between FIRST and the one before LAST since they were planned. GO: they are to go. */
static struct file_lock *close_for(const struct pruning *self, unsigned first, unsigned last,
                                   bool go, GError **error)
{
    const char *vm_uuid = self->request->vm_uuid;
    g_autofree char *path = local_read_lock_path(self->store->path, vm_uuid);
    g_autofree char *what = g_strdup_printf("the points of VM %s", vm_uuid);
    AUTO(file_lock) lock = file_lock_take(path, what, error);
    AUTO(prune_plan) now = NULL;

    if (!lock) {
        g_prefix_error(error, "another drctl reads, so nothing is dropped now: ");
        return NULL;
    }
    now = prune_plan_new(self->store, vm_uuid, &self->request->keep, error);
    if (!now)
        return NULL;
    for (unsigned i = first; i < last; i++)
        if (!prune_still_free(now, self->plan->points[i].manifest->point, go, error))
            return NULL;
    return g_steal_pointer(&lock);
}

static bool exchange(struct pruning *self, struct new_point *made, unsigned i, GError **error)
{
    const struct manifest *old = made->point->manifest;
    g_autofree char *final = store_point_dir(self->store->path, old->uuid, old->point);
    AUTO(file_lock) lock = close_for(self, i, i + 1, false, error);

    /* It may have been found damaged, or proven, meanwhile. */
    if (!lock || !check_undamaged(made, error) || !proof_copy(final, made->incoming->dir, error) ||
        !path_exchange(made->incoming->dir, final, error))
        return false;
    local_cache_put(self->store, made->manifest);
    self->before += manifest_bytes(old);
    self->after += manifest_bytes(made->manifest);
    return true;
}

/* Let point I take over what goes below it, if anything does. */
static bool replace(struct pruning *self, unsigned i, GError **error)
{
    const struct plan_point *point = &self->plan->points[i];
    AUTO(new_point) made = new_point(self, point, error);

    if (made && (!is_composed(made) || (compose(made, error) && exchange(self, made, i, error))))
        return true;
    explain_no_space(self->store->path, error);
    g_prefix_error(error, "point %s of %s stays as it is: ", point->manifest->point,
                   point->manifest->vm);
    return false;
}

static bool move_away(struct pruning *self, const struct plan_point *point, GError **error)
{
    const struct manifest *manifest = point->manifest;
    g_autofree char *final = store_point_dir(self->store->path, manifest->uuid, manifest->point);
    g_autofree char *name =
        g_strdup_printf("%s.%s" INCOMING_REMOVED, manifest->uuid, manifest->point);
    g_autofree char *away = g_build_filename(self->store->path, "incoming", name, NULL);

    if (!path_rename(final, away, error))
        return false;
    local_cache_remove(self->store, manifest->uuid, manifest->point);
    self->before += manifest_bytes(manifest);
    return true;
}

/* Remove the points from FIRST to the one before LAST, newest first. */
static bool drop(struct pruning *self, unsigned first, unsigned last, GError **error)
{
    AUTO(file_lock) lock = close_for(self, first, last, true, error);

    for (unsigned i = first; lock && i < last; i++)
        if (!move_away(self, &self->plan->points[i], error))
            return false;
    if (!lock)
        return false;
    g_clear_pointer(&lock, file_lock_free);
    return local_sweep_vm(self->store->path, self->request->vm_uuid, error);
}

/* --- All of it ------------------------------------------------------------------------------ */

static bool execute(struct pruning *self, GError **error)
{
    const struct prune_plan *plan = self->plan;

    for (unsigned i = 0, next; i < plan->count; i = next) {
        for (next = i; next < plan->count && !plan->points[next].keep;)
            next++;
        if (next > i ? !drop(self, i, next, error) : !replace(self, next++, error))
            return false;
    }
    return true;
}

static void tell(const struct prune_plan *plan, struct prune_result *result)
{
    for (unsigned i = 0; i < plan->count; i++) {
        const struct plan_point *point = &plan->points[i];
        struct prune_decision *decision = prune_result_add(result);

        decision->vm = g_strdup(point->manifest->vm);
        decision->uuid = g_strdup(point->manifest->uuid);
        decision->point = g_strdup(point->manifest->point);
        decision->keep = point->keep;
        decision->rule = point->flatten ? g_strdup_printf("%s; its chain is shortened", point->rule)
                                        : g_strdup(point->rule);
        decision->bytes = manifest_bytes(point->manifest);
        if (!point->keep)
            result->freed_bytes += decision->bytes;
    }
}

static bool prune(struct local_store *store, const struct prune_request *request,
                  struct prune_result *result, GError **error)
{
    AUTO(prune_plan) plan = prune_plan_new(store, request->vm_uuid, &request->keep, error);
    struct pruning self = {.store = store, .request = request, .plan = plan};

    if (!plan)
        return false;
    tell(plan, result);
    if (request->dry_run)
        return true;
    if (!execute(&self, error))
        return false;
    result->freed_bytes = self.before > self.after ? self.before - self.after : 0;
    return true;
}

bool local_prune(struct store *store, const struct prune_request *request,
                 struct prune_result *result, GError **error)
{
    struct local_store *self = (struct local_store *)store;
    AUTO(file_lock) lock = NULL;

    if (!self->config)
        return fail(error, ERROR_CONFIG,
                    "it is served without the configuration of its site, so nobody knows which of "
                    "its points are in use");
    if (request->dry_run)
        return prune(self, request, result, error);
    lock = local_take_place(self, request->vm_uuid, error);
    return lock && local_sweep_vm(self->path, request->vm_uuid, error) &&
           prune(self, request, result, error);
}
