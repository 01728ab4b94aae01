/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/prune-plan.h"

#include <string.h>

#include "replicator/usage.h"

#define CLUSTER_BYTES (UINT64_C(64) << 10)
/* So that a common base survives even when the newest point turns out to be damaged. */
#define NEWEST_KEPT 2
#define LABELLED_KEPT_MS (INT64_C(90) * 24 * 3600 * 1000)

/* --- What there is -------------------------------------------------------------------------- */

static void add_child(struct prune_plan *plan, struct manifest *child,
                      const struct manifest_disk *disk)
{
    g_autofree char *key = usage_key(manifest_base_vm(child, disk), disk->base);
    GPtrArray *children = g_hash_table_lookup(plan->children, key);

    if (!children) {
        children = g_ptr_array_new();
        g_hash_table_insert(plan->children, g_steal_pointer(&key), children);
    }
    if (!g_ptr_array_find(children, child, NULL))
        g_ptr_array_add(children, child);
}

static void index_points(struct prune_plan *plan)
{
    for (unsigned i = 0; i < plan->all->len; i++) {
        struct manifest *manifest = plan->all->pdata[i];

        g_hash_table_insert(plan->by_key, usage_key(manifest->uuid, manifest->point), manifest);
        plan->count += strcmp(manifest->uuid, plan->vm_uuid) == 0;
        for (unsigned n = 0; n < manifest->disks->len; n++) {
            const struct manifest_disk *disk = manifest->disks->pdata[n];

            if (disk->base)
                add_child(plan, manifest, disk);
        }
    }
    plan->points = g_new0(struct plan_point, plan->count);
    for (unsigned i = 0, n = 0; i < plan->all->len; i++) {
        const struct manifest *manifest = plan->all->pdata[i];

        if (strcmp(manifest->uuid, plan->vm_uuid) == 0)
            plan->points[n++].manifest = manifest;
    }
}

/* A point that cannot be read may be based on any other. */
static bool check_readable(struct local_store *store, GError **error)
{
    g_auto(GStrv) damaged = store_damaged_points(&store->store, NULL, error);

    if (!damaged)
        return false;
    if (*damaged)
        return fail(error, ERROR_INTEGRITY,
                    "nothing is dropped while the manifest of a point cannot be read, because "
                    "nobody knows what it is based on: %s; remove its directory if nobody needs it",
                    *damaged);
    return true;
}

static bool look(struct prune_plan *plan, struct local_store *store, GError **error)
{
    if (!check_readable(store, error))
        return false;
    plan->all = local_points(&store->store, NULL, error);
    if (!plan->all)
        return false;
    index_points(plan);
    plan->usage = usage_find(store, plan->all, plan->vm_uuid, error);
    return plan->usage != NULL;
}

static const char *used_by(const struct prune_plan *plan, const char *point)
{
    g_autofree char *key = usage_key(plan->vm_uuid, point);

    return g_hash_table_lookup(plan->usage, key);
}

static struct plan_point *find_point(const struct prune_plan *plan, const struct manifest *manifest)
{
    for (unsigned i = 0; i < plan->count; i++)
        if (plan->points[i].manifest == manifest)
            return &plan->points[i];
    return NULL;
}

static const GPtrArray *children_of(const struct prune_plan *plan, const char *point)
{
    g_autofree char *key = usage_key(plan->vm_uuid, point);

    return g_hash_table_lookup(plan->children, key);
}

/* --- Policies ------------------------------------------------------------------------------- */

static void decide(struct plan_point *point, bool keep, const char *rule)
{
    g_free(point->rule);
    point->keep = keep;
    point->rule = g_strdup(rule);
}

/* Keep what RETENTION keeps; FIRST: and nothing else so far. A rule of the site is named as one. */
static void apply_policy(struct prune_plan *plan, const struct retention *retention, bool first,
                         bool of_site)
{
    g_autofree struct retention_point *points = g_new0(struct retention_point, plan->count);

    for (unsigned i = 0; i < plan->count; i++) {
        points[i].time_ms = plan->points[i].manifest->time_ms;
        points[i].protected_by = used_by(plan, plan->points[i].manifest->point);
    }
    retention_decide(retention, points, plan->count);
    for (unsigned i = 0; i < plan->count; i++) {
        g_autofree char *rule = of_site && points[i].keep && !points[i].protected_by
                                    ? g_strdup_printf("%s of this store's site", points[i].rule)
                                    : g_strdup(points[i].rule);

        if (first || (points[i].keep && !plan->points[i].keep))
            decide(&plan->points[i], points[i].keep, rule);
        retention_point_clear(&points[i]);
    }
}

static void apply_policies(struct prune_plan *plan, const struct retention *keep)
{
    const struct retention *of_site = &plan->store->config->keep;

    if (!retention_is_empty(keep) || retention_is_empty(of_site))
        apply_policy(plan, keep, true, false);
    if (!retention_is_empty(of_site))
        apply_policy(plan, of_site, retention_is_empty(keep), true);
}

/* --- What must stay ------------------------------------------------------------------------- */

static void keep_if_dropped(struct plan_point *point, const char *rule)
{
    if (!point->keep)
        decide(point, true, rule);
}

static bool was_whole(const struct prune_plan *plan, const char *point)
{
    g_autofree char *key = usage_key(plan->vm_uuid, point);
    json_auto_t *record = NULL;

    return catalog_get(plan->store->catalog, CATALOG_VERIFIED, key, &record, NULL) && record &&
           json_is_true(json_object_get(record, "ok"));
}

/* Nothing else has its content: somebody shall have the time to look what is of use in it. */
static bool is_labelled(const struct manifest *manifest)
{
    return manifest->label && time_now_ms() - manifest->time_ms < LABELLED_KEPT_MS;
}

static bool was_proven(const struct prune_plan *plan, const char *point)
{
    g_autofree char *dir = store_point_dir(plan->store->path, plan->vm_uuid, point);

    return proof_passed(dir);
}

/* The newest point that IS something stays for that. */
static void keep_newest_that(struct prune_plan *plan,
                             bool (*is)(const struct prune_plan *plan, const char *point),
                             const char *rule)
{
    for (unsigned i = 0; i < plan->count; i++) {
        if (!is(plan, plan->points[i].manifest->point))
            continue;
        keep_if_dropped(&plan->points[i], rule);
        return;
    }
}

static void keep_newest(struct prune_plan *plan)
{
    for (unsigned i = 0; i < MIN(plan->count, NEWEST_KEPT); i++)
        keep_if_dropped(&plan->points[i], i ? "newest but one" : "newest");
    for (unsigned i = 0; i < plan->count; i++)
        if (is_labelled(plan->points[i].manifest))
            keep_if_dropped(&plan->points[i], plan->points[i].manifest->label);
    keep_newest_that(plan, was_whole, "last verified");
    keep_newest_that(plan, was_proven, "last proven");
}

/* The point that DISK of POINT stands on, or NULL. */
static const struct manifest_disk *base_disk(const struct prune_plan *plan,
                                             const struct manifest *manifest,
                                             const struct manifest_disk *disk,
                                             const struct manifest **base)
{
    g_autofree char *key =
        disk->base ? usage_key(manifest_base_vm(manifest, disk), disk->base) : NULL;

    *base = key ? g_hash_table_lookup(plan->by_key, key) : NULL;
    return *base ? manifest_disk(*base, manifest_base_target(disk)) : NULL;
}

/* UPPER ends inside a cluster that LOWER has more of: that cluster cannot be taken over as it is. */
static bool cuts(const struct manifest_disk *upper, const struct manifest_disk *lower)
{
    return upper->virtual_bytes % CLUSTER_BYTES != 0 && upper->virtual_bytes < lower->virtual_bytes;
}

/* Does a disk of MANIFEST cut the one below it; ONLY NULL or the point that is below? */
static bool cuts_below(const struct prune_plan *plan, const struct manifest *manifest,
                       const struct manifest *only)
{
    for (unsigned i = 0; i < manifest->disks->len; i++) {
        const struct manifest_disk *disk = manifest->disks->pdata[i], *lower;
        const struct manifest *base;

        lower = base_disk(plan, manifest, disk, &base);
        if (lower && (!only || base == only) && cuts(disk, lower))
            return true;
    }
    return false;
}

static bool cannot_merge(const struct prune_plan *plan, const struct manifest *manifest)
{
    const GPtrArray *children = children_of(plan, manifest->point);

    if (cuts_below(plan, manifest, NULL))
        return true;
    for (unsigned i = 0; children && i < children->len; i++)
        if (cuts_below(plan, children->pdata[i], manifest))
            return true;
    return false;
}

static bool is_noted_as_damaged(const struct prune_plan *plan, const struct manifest *manifest)
{
    g_autofree char *dir = store_point_dir(plan->store->path, manifest->uuid, manifest->point);
    g_autofree char *note = g_build_filename(dir, DAMAGE_NAME, NULL);

    return g_file_test(note, G_FILE_TEST_EXISTS);
}

/* Where the content of POINT goes: all that is based on it, at last. Those that stay are counted. */
static void find_heir(const struct prune_plan *plan, struct plan_point *point)
{
    const GPtrArray *children = children_of(plan, point->manifest->point);
    g_autoptr(GHashTable) heirs = g_hash_table_new(NULL, NULL);
    g_autofree char *rule = NULL;

    for (unsigned i = 0; children && i < children->len; i++) {
        const struct manifest *child = children->pdata[i];
        struct plan_point *heir = find_point(plan, child);

        if (!heir) {
            rule = g_strdup_printf("base of a point of VM %s", child->vm);
            break;
        }
        if (!heir->keep)
            heir = heir->heir;
        if (heir)
            g_hash_table_add(heirs, heir);
        point->heir = heir ? heir : point->heir;
    }
    if (!rule && g_hash_table_size(heirs) > 1)
        rule = g_strdup_printf("base of %u points", g_hash_table_size(heirs));
    if (!rule && point->heir && is_noted_as_damaged(plan, point->heir->manifest))
        rule = g_strdup_printf("its content would go into point %s, which is damaged: drctl heal",
                               point->heir->manifest->point);
    if (!rule && point->heir && cannot_merge(plan, point->manifest))
        rule = g_strdup("a disk of it was shrunk to a size that is no multiple of 64 KiB");
    if (!rule)
        return;
    point->heir = NULL;
    decide(point, true, rule);
}

/* --- Chains --------------------------------------------------------------------------------- */

GArray *prune_chain(const struct prune_plan *plan, const struct manifest *manifest,
                    const struct manifest_disk *disk, GError **error)
{
    g_autoptr(GArray) chain = g_array_new(FALSE, FALSE, sizeof(struct chain_link));

    while (disk) {
        struct chain_link link = {manifest, disk};
        const struct manifest *base;

        g_array_append_val(chain, link);
        disk = base_disk(plan, manifest, disk, &base);
        if (!disk && link.disk->base) {
            fail(error, ERROR_INTEGRITY, "point %s of VM %s lacks its base %s", manifest->point,
                 manifest->vm, link.disk->base);
            return NULL;
        }
        manifest = base;
    }
    return g_steal_pointer(&chain);
}

/* Will this layer be there when all is done? */
static bool stays(const struct prune_plan *plan, const struct chain_link *link)
{
    const struct plan_point *point = find_point(plan, link->manifest);

    return !point || point->keep;
}

unsigned prune_merged(const struct prune_plan *plan, const struct plan_point *point,
                      const GArray *chain)
{
    unsigned merged = 1, lowest = 0;

    while (merged < chain->len && !stays(plan, &g_array_index(chain, struct chain_link, merged)))
        merged++;
    for (unsigned i = 1; i < chain->len; i++)
        if (stays(plan, &g_array_index(chain, struct chain_link, i)))
            lowest = i;
    return point->flatten && lowest > 0 ? lowest : merged;
}

/* Layers that stay, and whether they could be merged. */
static bool is_too_deep(const struct prune_plan *plan, const GArray *chain)
{
    unsigned depth = 0;

    for (unsigned i = 0; i < chain->len; i++) {
        const struct chain_link *link = &g_array_index(chain, struct chain_link, i);

        depth += stays(plan, link);
        if (i > 0 && cuts(g_array_index(chain, struct chain_link, i - 1).disk, link->disk))
            return false;
    }
    return depth > plan->store->config->chain_depth;
}

static bool flatten_newest(struct prune_plan *plan, GError **error)
{
    struct plan_point *newest = plan->points;

    if (used_by(plan, newest->manifest->point) || is_noted_as_damaged(plan, newest->manifest))
        return true;
    for (unsigned i = 0; i < newest->manifest->disks->len; i++) {
        g_autoptr(GArray) chain =
            prune_chain(plan, newest->manifest, newest->manifest->disks->pdata[i], error);

        if (!chain)
            return false;
        newest->flatten = newest->flatten || is_too_deep(plan, chain);
    }
    return true;
}

/* --- The plan ------------------------------------------------------------------------------- */

struct prune_plan *prune_plan_new(struct local_store *store, const char *vm_uuid,
                                  const struct retention *keep, GError **error)
{
    AUTO(prune_plan) plan = g_new0(struct prune_plan, 1);

    plan->store = store;
    plan->vm_uuid = vm_uuid;
    plan->by_key = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    plan->children =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_ptr_array_unref);
    if (!look(plan, store, error))
        return NULL;
    apply_policies(plan, keep);
    keep_newest(plan);
    /* What is based on a point is newer, so it is decided before. */
    for (unsigned i = 0; i < plan->count; i++)
        if (!plan->points[i].keep)
            find_heir(plan, &plan->points[i]);
    if (plan->count > 0 && !flatten_newest(plan, error))
        return NULL;
    return g_steal_pointer(&plan);
}

void prune_plan_free(struct prune_plan *plan)
{
    if (!plan)
        return;
    for (unsigned i = 0; i < plan->count; i++)
        g_free(plan->points[i].rule);
    g_free(plan->points);
    g_clear_pointer(&plan->usage, g_hash_table_unref);
    g_hash_table_unref(plan->children);
    g_hash_table_unref(plan->by_key);
    g_clear_pointer(&plan->all, g_ptr_array_unref);
    g_free(plan);
}

bool prune_still_free(const struct prune_plan *plan, const char *point, bool goes, GError **error)
{
    const GPtrArray *children = children_of(plan, point);
    const char *why = used_by(plan, point);

    if (why)
        return fail(error, ERROR_CONFLICT, "point %s is needed now: %s", point, why);
    for (unsigned i = 0; goes && children && i < children->len; i++) {
        const struct manifest *child = children->pdata[i];

        if (strcmp(child->uuid, plan->vm_uuid) != 0)
            return fail(error, ERROR_CONFLICT,
                        "point %s is needed now: it is the base of a point of VM %s", point,
                        child->vm);
    }
    return true;
}
