/* SPDX-License-Identifier: Apache-2.0 */
/* What a failover brings up: the vApps of the recovery plan, from whoever knows them. */
#include <string.h>

#include "restore/planner.h"

/* ---- The order that is made of several vApps */

void plan_add_part(struct failover_plan *plan, const char *name, const char *definition)
{
    struct plan_part *part = g_new0(struct plan_part, 1);

    part->name = g_strdup(name);
    part->definition = g_strdup(definition);
    g_ptr_array_add(plan->parts, part);
}

static void vapp_free_element(void *data)
{
    vapp_free(data);
}

static struct vapp *part_order(const struct plan_part *part, GError **error)
{
    const char *text = part->definition;
    g_autofree char *what = g_strdup_printf("the definition of vApp %s", part->name);

    return text ? vapp_parse(text, strlen(text), what, error) : vapp_single(part->name);
}

bool plan_make_order(struct failover_plan *plan, GError **error)
{
    g_autoptr(GPtrArray) vapps = g_ptr_array_new_with_free_func(vapp_free_element);

    for (unsigned i = 0; i < plan->parts->len; i++) {
        struct vapp *vapp = part_order(plan->parts->pdata[i], error);

        if (!vapp)
            return false;
        g_ptr_array_add(vapps, vapp);
    }
    plan->order = vapp_join(plan->vapp, vapps, error);
    for (unsigned i = 0; plan->order && i < plan->skipped->len; i++)
        vapp_remove(plan->order, plan->skipped->pdata[i]);
    return plan->order != NULL;
}

/* ---- Who knows them */

/* The site that most likely ran it, when no bundle says so. */
static char *site_of_points(const struct site *site, const struct vapp *order)
{
    for (unsigned i = 0; i < order->vms->len; i++) {
        const struct vapp_vm *vm = order->vms->pdata[i];
        AUTO(manifest) manifest = origin_find_vm(site, vm->name, NULL);

        if (manifest)
            return g_strdup(manifest->site);
    }
    return g_strdup("unknown");
}

static void add_uuids(struct planner *planner, const struct source *source)
{
    GHashTableIter iter;
    void *name;
    void *uuid;

    if (!source->uuids)
        return;
    g_hash_table_iter_init(&iter, source->uuids);
    while (g_hash_table_iter_next(&iter, &name, &uuid))
        g_hash_table_insert(planner->uuids, g_strdup(name), g_strdup(uuid));
}

/* One of the vApps of the recovery plan, which SOURCE knows. */
static void add_source(struct planner *planner, struct failover_plan *plan,
                       const struct source *source)
{
    const struct vapp *order = source->order;

    for (unsigned i = 0; i < order->vms->len; i++)
        g_hash_table_insert(planner->part_of,
                            g_strdup(((const struct vapp_vm *)order->vms->pdata[i])->name),
                            GUINT_TO_POINTER(plan->parts->len));
    plan_add_part(plan, order->name, *order->text ? order->text : NULL);
    add_uuids(planner, source);
    if (!plan->site && source->site)
        plan->site = g_strdup(source->site);
}

static bool add_sources(struct planner *planner, struct failover_plan *plan, GError **error)
{
    const struct recovery_plan *recovery = planner->recovery;

    for (char **name = recovery->vapps; *name; name++) {
        AUTO_SOURCE source = {0};

        if (!source_find(planner->bundles, *name, recovery->site, &source, error))
            return false;
        add_source(planner, plan, &source);
    }
    return true;
}

/* What is said about a VM that is not there is meant for one that is. */
static bool check_names(const struct recovery_plan *recovery, const struct failover_plan *plan,
                        GError **error)
{
    for (unsigned i = 0; i < recovery->vms->len; i++) {
        const struct plan_vm *vm = recovery->vms->pdata[i];
        char **const lists[] = {vm->apart, vm->together};

        if (!vapp_vm(plan->order, vm->name))
            return fail(error, ERROR_CONFIG,
                        "%s: [vm %s]: no vApp of the plan has such a VM; `drctl vapp list` shows "
                        "them",
                        recovery->path, vm->name);
        for (unsigned k = 0; k < G_N_ELEMENTS(lists); k++)
            for (char **name = lists[k]; *name; name++)
                if (!vapp_vm(plan->order, *name))
                    return fail(error, ERROR_CONFIG,
                                "%s: [vm %s] %s: no vApp of the plan has a VM '%s'", recovery->path,
                                vm->name, k == 0 ? "apart" : "together", *name);
    }
    return true;
}

static void skip_optional(const struct recovery_plan *recovery, struct failover_plan *plan)
{
    for (unsigned i = 0; i < recovery->vms->len; i++) {
        const struct plan_vm *vm = recovery->vms->pdata[i];

        if (!vm->optional)
            continue;
        g_ptr_array_add(plan->skipped, g_strdup(vm->name));
        vapp_remove(plan->order, vm->name);
    }
}

bool planner_find_order(struct planner *planner, const struct failover_request *request,
                        struct failover_plan *plan, GError **error)
{
    const struct recovery_plan *recovery = planner->recovery;

    if (!add_sources(planner, plan, error))
        return false;
    /* NAME may be a VM's UUID. */
    plan->vapp = g_strdup(recovery->path ? recovery->name
                                         : ((struct plan_part *)plan->parts->pdata[0])->name);
    if (!plan_make_order(plan, error) || !check_names(recovery, plan, error))
        return false;
    if (request->skip_optional)
        skip_optional(recovery, plan);
    if (plan->order->vms->len == 0)
        return fail(error, ERROR_CONFLICT, "all VMs of %s are optional: nothing is left to start",
                    plan->vapp);
    if (!plan->site)
        plan->site = site_of_points(planner->site, plan->order);
    return true;
}
