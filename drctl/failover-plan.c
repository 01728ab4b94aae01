/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/failover-plan.h"

#include <stdio.h>

#include "drctl/output.h"
#include "drctl/windows.h"

static json_t *plan_vm_json(const struct failover_vm *vm, int64_t now)
{
    json_t *json = json_object(), *findings = json_array();
    g_autofree char *time = vm->point ? time_format(vm->point_time_ms) : NULL;

    json_set_string(json, "vm", vm->name);
    json_set_string(json, "uuid", vm->uuid);
    json_set_u64(json, "order", vm->order);
    json_set_string(json, "point", vm->point);
    json_set_string(json, "time", time);
    json_set_string(json, "consistency", vm->point ? consistency_name(vm->consistency) : NULL);
    json_set_string(json, "host", vm->host);
    if (vm->point)
        json_set_real(json, "rpo_seconds", failover_rpo_seconds(vm, now));
    json_object_set_new(json, "blocked", json_boolean(vm->blocked));
    json_object_set_new(json, "lost", lost_disks_json(vm->lost));
    json_object_set_new(json, "accepts_damage", json_boolean(vm->accepts_damage));
    for (unsigned i = 0; i < vm->findings->len; i++)
        json_array_append_new(findings, json_string(vm->findings->pdata[i]));
    json_object_set_new(json, "findings", findings);
    return json;
}

json_t *failover_plan_json(const struct failover_plan *plan)
{
    json_t *json = json_object(), *vms = json_array(), *skipped = json_array();

    json_set_string(json, "vapp", plan->vapp);
    json_set_string(json, "site", plan->site);
    json_set_string(json, "resumes", plan->resumes);
    commit_policy_json(&plan->commit, json);
    json_object_set_new(json, "hydrate", json_boolean(plan->hydrate));
    for (unsigned i = 0; i < plan->skipped->len; i++)
        json_array_append_new(skipped, json_string(plan->skipped->pdata[i]));
    json_object_set_new(json, "skipped", skipped);
    json_object_set_new(json, "silent", silent_hosts_json(plan->silent));
    for (unsigned i = 0; i < plan->vms->len; i++)
        json_array_append_new(vms, plan_vm_json(plan->vms->pdata[i], time_now_ms()));
    json_object_set_new(json, "vms", vms);
    return json;
}

static void print_findings(const struct failover_plan *plan)
{
    for (unsigned i = 0; i < plan->vms->len; i++) {
        const struct failover_vm *vm = plan->vms->pdata[i];

        for (unsigned k = 0; k < vm->findings->len; k++)
            print_wrapped(vm->blocked && k + 1 == vm->findings->len ? "  ! " : "  - ", "%s: %s",
                          vm->name, (char *)vm->findings->pdata[k]);
    }
}

static void print_silent(const struct failover_plan *plan)
{
    for (unsigned i = 0; i < plan->silent->len; i++) {
        const struct silent_host *host = plan->silent->pdata[i];
        g_autofree char *text = silent_host_text(host);

        print_wrapped(host->vms > 0 && !host->down ? "  ! " : "  - ", "%s", text);
    }
}

/* Which host a VM gets is worth a column where there is a choice. */
static void print_vms(struct context *context, const struct failover_plan *plan)
{
    static const char *const headers[] = {">ORDER",      "VM", "POINT", ">LOST",
                                          "CONSISTENCY", "",   NULL};
    static const char *const with_hosts[] = {">ORDER",      "VM", "POINT", ">LOST",
                                             "CONSISTENCY", "",   "HOST",  NULL};
    unsigned n_hosts = context->hosts->len + plan->silent->len;
    AUTO(table) table = table_new(n_hosts > 1 ? with_hosts : headers);
    int64_t now = time_now_ms();

    for (unsigned i = 0; i < plan->vms->len; i++) {
        const struct failover_vm *vm = plan->vms->pdata[i];
        g_autofree char *order = g_strdup_printf("%u", vm->order);
        g_autofree char *rpo = vm->point ? duration_format(failover_rpo_seconds(vm, now)) : NULL;

        table_row(table, (const char *[]){order, vm->name, vm->point, rpo,
                                          vm->point ? consistency_name(vm->consistency) : NULL,
                                          vm->blocked          ? "cannot start"
                                          : vm->accepts_damage ? "damaged"
                                                               : "",
                                          vm->host});
    }
    table_print(table);
}

void failover_plan_print(struct context *context, const struct failover_plan *plan)
{
    print_vms(context, plan);
    for (unsigned i = 0; i < plan->skipped->len; i++)
        printf("  - %s: optional, left out\n", (char *)plan->skipped->pdata[i]);
    print_findings(plan);
    print_silent(plan);
}

void preflight_print_space(const struct preflight *preflight)
{
    for (unsigned i = 0; i < preflight->storages->len; i++) {
        const struct preflight_storage *storage = preflight->storages->pdata[i];
        g_autofree char *growth = bytes_format(storage->growth_bytes);
        g_autofree char *space = bytes_format(storage->free_bytes);

        print_wrapped("", "Disks can grow to %s; %s has %s free.", growth, storage->path, space);
    }
}

void preflight_print_findings(const struct preflight *preflight, bool of_vms)
{
    for (unsigned i = 0; i < preflight->findings->len; i++) {
        const struct preflight_finding *finding = preflight->findings->pdata[i];

        if (finding->vm && !of_vms)
            continue;
        print_wrapped(finding->blocks ? "  ! " : "  - ", "%s%s%s", finding->vm ? finding->vm : "",
                      finding->vm ? ": " : "", finding->text);
        if (finding->remedy)
            print_wrapped("      -> ", "%s", finding->remedy);
    }
}

bool failover_plan_check(const struct failover_plan *plan, GError **error)
{
    for (unsigned i = 0; i < plan->vms->len; i++)
        if (!((const struct failover_vm *)plan->vms->pdata[i])->blocked)
            return true;
    return fail(error, ERROR_CONFLICT,
                "cannot fail over %s: none of its VMs can start here; why stands in the plan%s",
                plan->vapp, plan->resumes ? "" : " (drctl failover --dry-run)");
}
