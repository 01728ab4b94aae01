/* SPDX-License-Identifier: Apache-2.0 */
/* Committed points go from one store to another as they are. */
#include <string.h>

#include "replicator/copier.h"

/* An attempt that sent less than this has not come further. */
#define PROGRESS_BYTES ((uint64_t)1 << 20)

/* --- One point ------------------------------------------------------------------------------ */

static bool copy_files(struct copier *copier, struct incoming *into,
                       const struct manifest *manifest, GError **error)
{
    copier_expect(copier, manifest_bytes(manifest));
    for (unsigned i = 0; i < manifest->files->len; i++)
        if (!copier_file(copier, into, manifest->files->pdata[i], error))
            return false;
    return true;
}

/* One attempt to copy a point. */
struct attempt {
    struct store *from, *to;
    const struct manifest *point;
    struct progress *progress;
    bool refused; /* it failed at TO */
    uint64_t sent_bytes;
};

static bool copy_into(struct attempt *self, struct copier *copier, const struct manifest *manifest,
                      GError **error)
{
    AUTO(incoming)
    incoming = store_begin(self->to, self->point->uuid, self->point->point, error);
    bool copied = incoming && copy_files(copier, incoming, manifest, error);

    self->refused = !incoming || copied || copier_was_refused(copier);
    copied = copied && incoming_commit(incoming, manifest, error);
    self->sent_bytes = incoming ? incoming_sent_bytes(incoming) : 0;
    return copied;
}

static bool copy_point(struct attempt *self, GError **error)
{
    AUTO(copier) copier = copier_new(self->from, self->point, self->progress);
    /* As it is now: it may have been rewritten since it was listed. */
    AUTO(manifest) manifest = copier_manifest(copier, error);

    self->refused = false;
    return manifest && copy_into(self, copier, manifest, error);
}

/* The answer to a commit may have been lost. */
static bool is_there(const struct attempt *self, bool *there, GError **error)
{
    g_autoptr(GPtrArray) points = store_points(self->to, self->point->uuid, error);

    *there = false;
    for (unsigned i = 0; points && i < points->len && !*there; i++)
        *there =
            strcmp(((const struct manifest *)points->pdata[i])->point, self->point->point) == 0;
    return points != NULL;
}

bool store_copy_point(struct store *from, struct store *to, const struct manifest *point,
                      struct progress *progress, GError **error)
{
    struct attempt attempt = {.from = from, .to = to, .point = point, .progress = progress};
    struct reconnect line = {.store = to};
    bool there = false;
    GError *why = NULL;

    while (!there && !copy_point(&attempt, &why)) {
        if (!attempt.refused) {
            g_propagate_error(error, why);
            return false;
        }
        if (!reconnect_after(&line, why, attempt.sent_bytes > PROGRESS_BYTES, error) ||
            !is_there(&attempt, &there, error))
            return false;
        why = NULL;
    }
    return true;
}

/* --- Which points --------------------------------------------------------------------------- */

struct plan {
    struct store *from, *to; /* borrowed */
    struct copy_wish wish;
    GHashTable *vms;     /* UUIDs of those that were looked at */
    GHashTable *have;    /* "<vm>/<point>" -> struct manifest at FROM */
    GHashTable *there;   /* "<vm>/<point>" at TO, or chosen already */
    GHashTable *useless; /* "<vm>/<point>" that the policy would drop at TO */
    GPtrArray *chosen;   /* of struct manifest */
};

static void plan_clear(struct plan *self)
{
    g_hash_table_unref(self->vms);
    g_hash_table_unref(self->have);
    g_hash_table_unref(self->there);
    g_hash_table_unref(self->useless);
    g_ptr_array_unref(self->chosen);
}
#define AUTO_PLAN __attribute__((cleanup(plan_clear))) struct plan

static char *key_of(const char *vm_uuid, const char *point)
{
    return g_strconcat(vm_uuid, "/", point, NULL);
}

static int newest_first(const void *a, const void *b)
{
    const struct manifest *left = *(struct manifest *const *)a;
    const struct manifest *right = *(struct manifest *const *)b;

    return -strcmp(left->point, right->point);
}

/* POINTS: all that TO would have of one VM. */
static void decide_vm(struct plan *self, GPtrArray *points)
{
    g_autofree struct retention_point *decisions = g_new0(struct retention_point, points->len);

    g_ptr_array_sort(points, newest_first);
    for (unsigned i = 0; i < points->len; i++)
        decisions[i].time_ms = ((const struct manifest *)points->pdata[i])->time_ms;
    retention_decide(&self->wish.keep, decisions, points->len);
    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *point = points->pdata[i];

        if (!decisions[i].keep)
            g_hash_table_add(self->useless, key_of(point->uuid, point->point));
        retention_point_clear(&decisions[i]);
    }
}

/* EACH_VM: UUID -> its points, borrowed. */
static void add_to_vm(GHashTable *each_vm, struct manifest *point)
{
    GPtrArray *points = g_hash_table_lookup(each_vm, point->uuid);

    if (!points) {
        points = g_ptr_array_new();
        g_hash_table_insert(each_vm, point->uuid, points);
    }
    g_ptr_array_add(points, point);
}

/* HERE and THERE: all points of some VMs, or of all. */
static void decide(struct plan *self, const GPtrArray *here, const GPtrArray *there)
{
    g_autoptr(GHashTable) each_vm =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)g_ptr_array_unref);
    GHashTableIter iter;
    void *points;

    if (retention_is_empty(&self->wish.keep))
        return;
    for (unsigned i = 0; i < there->len; i++)
        add_to_vm(each_vm, there->pdata[i]);
    for (unsigned i = 0; i < here->len; i++) {
        struct manifest *point = here->pdata[i];
        g_autofree char *key = key_of(point->uuid, point->point);

        if (!g_hash_table_contains(self->there, key))
            add_to_vm(each_vm, point);
    }
    g_hash_table_iter_init(&iter, each_vm);
    while (g_hash_table_iter_next(&iter, NULL, &points))
        decide_vm(self, points);
}

/* What both stores have of VM; NULL: of all. */
static bool look_at(struct plan *self, const char *vm, GError **error)
{
    g_autoptr(GPtrArray) here = store_points(self->from, vm, error);
    g_autoptr(GPtrArray) there = here ? store_points(self->to, vm, error) : NULL;

    if (!there)
        return false;
    for (unsigned i = 0; i < there->len; i++) {
        const struct manifest *manifest = there->pdata[i];

        g_hash_table_add(self->there, key_of(manifest->uuid, manifest->point));
    }
    decide(self, here, there);
    g_ptr_array_set_free_func(here, NULL);
    for (unsigned i = 0; i < here->len; i++) {
        struct manifest *manifest = here->pdata[i];

        g_hash_table_add(self->vms, g_strdup(manifest->uuid));
        g_hash_table_insert(self->have, key_of(manifest->uuid, manifest->point), manifest);
    }
    if (vm)
        g_hash_table_add(self->vms, g_strdup(vm));
    return true;
}

static void choose(struct plan *self, const char *vm_uuid, const char *point)
{
    g_autofree char *key = key_of(vm_uuid, point);
    void *stored = NULL, *manifest = NULL;

    if (g_hash_table_contains(self->there, key) ||
        !g_hash_table_steal_extended(self->have, key, &stored, &manifest))
        return;
    g_hash_table_add(self->there, stored);
    g_ptr_array_add(self->chosen, manifest);
}

static void choose_wanted(struct plan *self, const struct manifest *point)
{
    g_autofree char *key = key_of(point->uuid, point->point);

    if (!g_hash_table_contains(self->useless, key) &&
        (!self->wish.point || strcmp(self->wish.point, point->point) == 0))
        choose(self, point->uuid, point->point);
}

static bool choose_bases(struct plan *self, const struct manifest *manifest, GError **error)
{
    for (unsigned i = 0; i < manifest->disks->len; i++) {
        const struct manifest_disk *disk = manifest->disks->pdata[i];
        const char *vm = disk->base ? manifest_base_vm(manifest, disk) : NULL;

        if (!vm)
            continue;
        if (!g_hash_table_contains(self->vms, vm) && !look_at(self, vm, error))
            return false;
        choose(self, vm, disk->base);
    }
    return true;
}

/* VM: a name or a UUID. */
static bool choose_vm(struct plan *self, const char *vm, GError **error)
{
    g_autoptr(GPtrArray) points = store_points(self->from, vm, error);

    if (!points)
        return false;
    if (points->len == 0)
        return fail(error, ERROR_NOT_FOUND, "%s: there is no recovery point of %s",
                    self->from->label, vm);
    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];

        if (!g_hash_table_contains(self->vms, manifest->uuid) &&
            !look_at(self, manifest->uuid, error))
            return false;
        choose_wanted(self, manifest);
    }
    return true;
}

static bool choose_all(struct plan *self, GError **error)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    GHashTableIter iter;
    void *manifest;

    if (!look_at(self, NULL, error))
        return false;
    g_hash_table_iter_init(&iter, self->have);
    while (g_hash_table_iter_next(&iter, NULL, &manifest))
        g_ptr_array_add(all, manifest);
    for (unsigned i = 0; i < all->len; i++)
        choose_wanted(self, all->pdata[i]);
    return true;
}

static int oldest_first(const void *a, const void *b)
{
    const struct manifest *left = *(struct manifest *const *)a;
    const struct manifest *right = *(struct manifest *const *)b;
    int order = strcmp(left->point, right->point);

    return order ? order : strcmp(left->uuid, right->uuid);
}

static bool are_different(struct store *from, struct store *to, GError **error)
{
    struct store_info left = {0}, right = {0};
    bool same, ok = store_info(from, &left, error) && store_info(to, &right, error);

    same = ok && strcmp(left.uuid, right.uuid) == 0;
    store_info_clear(&left);
    store_info_clear(&right);
    if (same)
        return fail(error, ERROR_USAGE, "%s and %s are the same store", from->label, to->label);
    return ok;
}

static bool make_plan(struct plan *self, char *const *vms, GError **error)
{
    if (!*vms && !choose_all(self, error))
        return false;
    for (; *vms; vms++)
        if (!choose_vm(self, *vms, error))
            return false;
    /* It grows: bases have bases. */
    for (unsigned i = 0; i < self->chosen->len; i++)
        if (!choose_bases(self, self->chosen->pdata[i], error))
            return false;
    return true;
}

GPtrArray *store_copy_plan(struct store *from, struct store *to, char *const *vms,
                           const struct copy_wish *wish, GError **error)
{
    AUTO_PLAN self = {
        .from = from,
        .to = to,
        .wish = wish ? *wish : (struct copy_wish){},
        .vms = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
        .have =
            g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)manifest_free),
        .there = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
        .useless = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
        .chosen = g_ptr_array_new_with_free_func((GDestroyNotify)manifest_free),
    };

    if (!are_different(from, to, error) || !make_plan(&self, vms, error))
        return NULL;
    g_ptr_array_sort(self.chosen, oldest_first);
    return g_ptr_array_ref(self.chosen);
}
