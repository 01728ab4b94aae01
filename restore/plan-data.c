/* SPDX-License-Identifier: Apache-2.0 */
/* What a plan consists of; how it is made is in plan.c. */
#include "restore/plan.h"

#include <string.h>

struct failover_vm *failover_vm_new(const struct vapp_vm *vm)
{
    struct failover_vm *planned = g_new0(struct failover_vm, 1);

    planned->name = g_strdup(vm->name);
    planned->order = vm->order;
    planned->findings = g_ptr_array_new_with_free_func(g_free);
    planned->lost = lost_disks_new();
    return planned;
}

void failover_vm_free(struct failover_vm *vm)
{
    if (!vm)
        return;
    g_free(vm->name);
    g_free(vm->uuid);
    g_free(vm->point);
    g_free(vm->host);
    g_strfreev(vm->networks);
    g_ptr_array_unref(vm->findings);
    g_ptr_array_unref(vm->lost);
    recovery_free(vm->recovery);
    g_free(vm);
}

static void vm_free(void *data)
{
    failover_vm_free(data);
}

static void part_free(void *data)
{
    struct plan_part *part = data;

    g_free(part->name);
    g_free(part->definition);
    g_free(part);
}

struct failover_plan *plan_new(void)
{
    struct failover_plan *plan = g_new0(struct failover_plan, 1);

    plan->vms = g_ptr_array_new_with_free_func(vm_free);
    plan->parts = g_ptr_array_new_with_free_func(part_free);
    plan->skipped = g_ptr_array_new_with_free_func(g_free);
    plan->silent = silent_hosts_new();
    return plan;
}

void failover_plan_free(struct failover_plan *plan)
{
    if (!plan)
        return;
    g_free(plan->vapp);
    g_free(plan->site);
    g_free(plan->resumes);
    vapp_free(plan->order);
    g_ptr_array_unref(plan->vms);
    g_ptr_array_unref(plan->parts);
    g_ptr_array_unref(plan->skipped);
    g_ptr_array_unref(plan->silent);
    bubble_free(plan->bubble);
    g_free(plan);
}

void failover_vm_conclude(struct failover_vm *vm, const struct findings *findings)
{
    g_ptr_array_unref(vm->findings);
    vm->findings = findings_list(findings, &vm->blocked);
    vm->n_blockers = findings->blockers->len;
}

struct failover_vm *plan_vm_named(const struct failover_plan *plan, const char *name)
{
    for (unsigned i = 0; i < plan->vms->len; i++) {
        struct failover_vm *vm = plan->vms->pdata[i];

        if (strcmp(vm->name, name) == 0)
            return vm;
    }
    g_return_val_if_reached(NULL);
}

bool failover_vm_may_start(const struct failover_vm *vm, GError **error)
{
    const GPtrArray *findings = vm->findings;

    if (!vm->blocked && vm->recovery)
        return true;
    return fail(error, ERROR_CONFLICT, "%s",
                findings->len ? (char *)findings->pdata[findings->len - 1] : "it was not planned");
}

char *plan_lock_path(const struct site *site, const char *what, const char *vapp)
{
    g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, vapp, -1);
    g_autofree char *name = g_strdup_printf("%s-%.16s.lock", what, hash);

    return g_build_filename(catalog_lock_dir(site->catalog), name, NULL);
}

bool plan_any_locked(const struct site *site, const char *what)
{
    const char *dir = catalog_lock_dir(site->catalog);
    g_auto(GStrv) names = dir_list(dir, NULL);
    g_autofree char *prefix = g_strconcat(what, "-", NULL);
    bool locked = false;

    for (char **name = names; name && *name && !locked; name++) {
        g_autofree char *path = g_build_filename(dir, *name, NULL);

        locked = g_str_has_prefix(*name, prefix) && file_lock_held(path);
    }
    return locked;
}

double failover_rpo_seconds(const struct failover_vm *vm, int64_t started_ms)
{
    return (double)(started_ms - vm->point_time_ms) / 1000;
}
