/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "restore/allot.h"
#include "restore/planner.h"

struct planned *planned_new(struct planner *planner, struct failover_vm *vm,
                            const struct vapp_vm *definition)
{
    struct planned *planned = g_new0(struct planned, 1);

    planned->vm = vm;
    planned->definition = definition;
    planned->wishes = recovery_plan_vm(planner->recovery, vm->name);
    planned->findings = findings_new();
    planned->fixed = planned->adapted = ALLOT_NOWHERE;
    g_ptr_array_add(planner->vms, planned);
    return planned;
}

void planned_free(struct planned *planned)
{
    if (!planned)
        return;
    findings_free(planned->findings);
    recovery_free(planned->recovery);
    g_strfreev(planned->networks);
    g_free(planned->stale);
    findings_free(planned->trial);
    g_free(planned);
}

/* ---- What a VM needs */

/* Networks and bridges of the definition, as the recovery plan calls them here. */
static char **wanted_networks(const struct recovery_plan *plan, const struct xml_node *domain)
{
    g_autoptr(GPtrArray) nics = xml_find_all(domain, "devices/interface[@type='network' or "
                                                     "@type='bridge' or @type='direct']");
    g_autoptr(GStrvBuilder) names = g_strv_builder_new();

    for (unsigned i = 0; i < nics->len; i++) {
        g_autofree char *name = nic_network(nics->pdata[i]);
        const struct plan_network *network = name ? recovery_plan_network(plan, name) : NULL;

        if (name && !(network && network->disconnected))
            g_strv_builder_add(names, network && network->target ? network->target : name);
    }
    return g_strv_builder_end(names);
}

/* All that the NICs are plugged into, as the definition calls it. */
static char **named_networks(const struct xml_node *domain)
{
    g_autoptr(GPtrArray) nics = xml_find_all(domain, "devices/interface");
    g_autoptr(GStrvBuilder) names = g_strv_builder_new();

    for (unsigned i = 0; i < nics->len; i++) {
        g_autofree char *name = nic_network(nics->pdata[i]);

        if (name)
            g_strv_builder_add(names, name);
    }
    return g_strv_builder_end(names);
}

static void measure(const struct planner *planner, struct planned *planned)
{
    const struct plan_vm *wishes = planned->wishes;
    AUTO(xml)
    xml = planned->recovery
              ? definition_parse(planned->recovery->origin->definition, "definition", NULL)
              : NULL;
    const struct xml_node *domain = xml ? xml_root(xml) : NULL;

    if (!domain)
        return;
    planned->memory_bytes =
        wishes && wishes->memory_bytes ? wishes->memory_bytes : definition_memory_bytes(domain);
    planned->cpus = wishes && wishes->cpus ? wishes->cpus : definition_cpus(domain);
    planned->vm->networks = named_networks(domain);
    if (!planner->bubble)
        planned->networks = wanted_networks(planner->recovery, domain);
}

/* ---- What the allotment asks */

/* VMs that are blocked already are no part of the allotment. */
struct placing {
    struct planner *planner;
    GPtrArray *vms; /* of struct planned, borrowed: those that are */
};

static unsigned lacks_networks(void *context, unsigned vm, unsigned host)
{
    const struct placing *placing = context;
    const struct planned *planned = placing->vms->pdata[vm];
    const struct platform *platform = placing->planner->platforms->pdata[host];
    unsigned count = 0;

    for (char **name = planned->networks; name && *name; name++)
        count += !platform_has_network(platform, *name);
    return count;
}

/* Does nothing forbid it there? */
static bool adapt(const struct planner *planner, struct planned *planned, unsigned host)
{
    AUTO(findings) trial = findings_new();
    g_autoptr(GError) cause = NULL;
    bool good;

    if (!recovery_adapt(planned->recovery, planner->platforms->pdata[host], false, trial, &cause))
        block(trial, "%s", cause->message);
    good = trial->blockers->len == 0;
    if (good || !planned->trial) {
        planned->adapted = good ? (int)host : ALLOT_NOWHERE;
        findings_free(planned->trial);
        planned->trial = g_steal_pointer(&trial);
    }
    return good;
}

static bool runs_there(void *context, unsigned vm, unsigned host)
{
    const struct placing *placing = context;

    return adapt(placing->planner, placing->vms->pdata[vm], host);
}

/* ---- The result */

static void settle(const struct planner *planner, struct planned *planned,
                   const struct allot_vm *place)
{
    const struct platform *platform = planner->platforms->pdata[place->at];

    /* It may have been tried at another host since. */
    if (planned->adapted != place->at)
        adapt(planner, planned, (unsigned)place->at);
    planned->recovery->uri = g_strdup(platform->name);
    planned->vm->host = g_strdup(platform->name);
    planned->vm->memory_bytes = planned->memory_bytes;
    planned->vm->cpus = planned->cpus;
    findings_append(planned->findings, planned->trial);
}

/* What forbids it at the best of the hosts that have the memory, and the numbers unless that says all. */
static void refuse(const struct planner *planner, struct planned *planned,
                   const struct allot_vm *place)
{
    bool is_forbidden = planned->trial && planned->trial->blockers->len > 0;

    if (is_forbidden)
        findings_append(planned->findings, planned->trial);
    if (!is_forbidden || planner->platforms->len > 1)
        block(planned->findings,
              "%s" REMEDY "give it less (`memory` in the recovery plan), leave VMs out that can be "
              "done without (`optional` and --skip-optional), or free memory there",
              place->refusal);
    g_clear_pointer(&planned->recovery, recovery_free);
}

static void conclude(const struct planner *planner, struct planned *planned,
                     const struct allot_vm *place)
{
    if (place->at == ALLOT_NOWHERE)
        refuse(planner, planned, place);
    else if (planned->recovery)
        settle(planner, planned, place);
    for (unsigned k = 0; k < place->notes->len; k++)
        remark(planned->findings, "%s", (char *)place->notes->pdata[k]);
}

static struct allot_host *list_hosts(const struct planner *planner)
{
    struct allot_host *hosts = g_new0(struct allot_host, planner->platforms->len);

    for (unsigned i = 0; i < planner->platforms->len; i++) {
        const struct platform *platform = planner->platforms->pdata[i];

        hosts[i] = (struct allot_host){.name = platform->name,
                                       .memory_bytes = platform->memory_free_bytes,
                                       .cpus = platform_cpus(platform),
                                       .cpus_used = platform->cpus_used};
    }
    return hosts;
}

/* The host that the plan names for it, unless that does not answer: another one is better than none. */
static const char *wanted_host(const struct planner *planner, const struct planned *planned)
{
    const char *uri = planned->wishes ? planned->wishes->host : NULL;

    if (!uri || !silent_host_named(planner->silent, uri))
        return uri;
    remark(planned->findings, "`host` of the plan does not answer, so it gets another one: %s",
           uri);
    return NULL;
}

/* All VMs of a test are at one host, whatever the plan wishes. */
static struct allot_vm allot_vm_of(const struct planner *planner, const struct planned *planned)
{
    const struct plan_vm *wishes = planner->bubble ? NULL : planned->wishes;

    return (struct allot_vm){
        .name = planned->vm->name,
        .memory_bytes = planned->memory_bytes,
        .cpus = planned->cpus,
        .optional = wishes && wishes->optional,
        .host = wishes ? wanted_host(planner, planned) : NULL,
        .apart = wishes ? (const char *const *)wishes->apart : NULL,
        .together = wishes ? (const char *const *)wishes->together : NULL,
        .fixed = planned->fixed,
        .notes = g_ptr_array_new_with_free_func(g_free),
    };
}

static void place_free(struct allot_vm *place)
{
    g_ptr_array_unref(place->notes);
    g_free(place->refusal);
}

void planner_place(struct planner *planner)
{
    g_autofree struct allot_host *hosts = list_hosts(planner);
    g_autofree struct allot_vm *places = g_new0(struct allot_vm, planner->vms->len);
    g_autoptr(GPtrArray) vms = g_ptr_array_new();
    struct placing placing = {planner, vms};
    struct allot all = {.hosts = hosts,
                        .n_hosts = planner->platforms->len,
                        .vms = places,
                        .lacks = lacks_networks,
                        .runs = runs_there,
                        .context = &placing};

    for (unsigned i = 0; i < planner->vms->len; i++) {
        struct planned *planned = planner->vms->pdata[i];

        measure(planner, planned);
        if (planned->findings->blockers->len > 0 ||
            (!planned->recovery && planned->fixed == ALLOT_NOWHERE))
            continue;
        g_ptr_array_add(vms, planned);
        places[all.n_vms++] = allot_vm_of(planner, planned);
    }
    allot(&all);
    for (unsigned i = 0; i < vms->len; i++) {
        conclude(planner, vms->pdata[i], &places[i]);
        place_free(&places[i]);
    }
}
