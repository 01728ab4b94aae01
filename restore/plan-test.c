/* SPDX-License-Identifier: Apache-2.0 */
/* What is different in the plan of a test failover: everything is a copy, and all copies are in one bubble. And what
 * is different for a failover while there is a test. */
#include "restore/planner.h"
#include "restore/test-undo.h"

/* ---- What a test that goes on holds */

/* Its copy of a VM is as good as gone. */
static void give_back(struct planner *planner, const json_t *vm)
{
    const char *host = json_get_string(vm, "host");
    const char *uuid = json_get_string(json_object_get(vm, "domain"), "uuid");

    for (unsigned i = 0; host && uuid && i < planner->platforms->len; i++) {
        struct platform *platform = planner->platforms->pdata[i];
        AUTO(domain)
        domain = g_str_equal(platform->name, host) ? host_domain(platform->host, uuid, NULL) : NULL;
        enum domain_state state = DOMAIN_OFF;
        g_autofree char *text = domain ? domain_xml(domain, DOMAIN_XML_LIVE, NULL) : NULL;
        AUTO(xml) xml = text ? xml_parse(text, "definition", NULL) : NULL;

        if (!xml || !domain_state(domain, &state, NULL) || state == DOMAIN_OFF)
            continue;
        if (platform->memory_free_bytes != UINT64_MAX)
            platform->memory_free_bytes += definition_memory_bytes(xml_root(xml));
        platform->cpus_used -= MIN(platform->cpus_used, definition_cpus(xml_root(xml)));
    }
}

void planner_discount_tests(struct planner *planner)
{
    json_auto_t *runs = run_list(planner->site->catalog, NULL);
    const json_t *run, *vm;
    size_t i, k;

    json_array_foreach(runs, i, run)
    {
        json_auto_t *shown = NULL;

        /* One that has ended has taken all away. */
        if (!test_is_of(run, NULL) || json_get_string(run, "ended"))
            continue;
        shown = run_show(planner->site->catalog, json_get_string(run, "run"), NULL);
        json_array_foreach(json_object_get(json_object_get(shown, "plan"), "vms"), k, vm)
            give_back(planner, vm);
    }
}

/* ---- A test itself */

/* A bubble is not larger than a host: take the one with the most memory left. */
static void choose_host(struct planner *planner)
{
    GPtrArray *platforms = planner->platforms;
    unsigned best = 0;

    for (unsigned i = 1; i < platforms->len; i++)
        if (((const struct platform *)platforms->pdata[i])->memory_free_bytes >
            ((const struct platform *)platforms->pdata[best])->memory_free_bytes)
            best = i;
    g_ptr_array_remove_range(platforms, best + 1, platforms->len - best - 1);
    g_ptr_array_remove_range(platforms, 0, best);
}

static char *copy_name(const struct planner *planner, const char *vm)
{
    return g_strconcat(planner->copies, vm, NULL);
}

static bool are_taken(const struct planner *planner, const struct vapp *order, bool *taken,
                      GError **error)
{
    *taken = false;
    for (unsigned i = 0; i < order->vms->len && !*taken; i++) {
        g_autofree char *name = copy_name(planner, ((struct vapp_vm *)order->vms->pdata[i])->name);
        AUTO(domain) domain = NULL;
        struct recovered mark;

        if (!inventory_find(planner->inventory, name, name, &domain, &mark, error))
            return false;
        recovered_clear(&mark);
        *taken = domain != NULL;
    }
    return true;
}

static bool choose_names(struct planner *planner, const struct failover_plan *plan, GError **error)
{
    bool taken = true;

    for (unsigned number = 1; taken; number++) {
        g_free(planner->copies);
        planner->copies = g_strdup_printf("%s-test-%u.", plan->vapp, number);
        if (!are_taken(planner, plan->order, &taken, error))
            return false;
    }
    return true;
}

bool planner_prepare_test(struct planner *planner, struct failover_plan *plan, GError **error)
{
    const struct platform *platform;

    choose_host(planner);
    platform = planner->platforms->pdata[0];
    plan->bubble = bubble_new(platform->name, !host_is_session(platform->host));
    planner->bubble = plan->bubble;
    return choose_names(planner, plan, error);
}

void planner_name_copy(const struct planner *planner, const char *vm, struct recovery *recovery)
{
    recovery->name = copy_name(planner, vm);
    recovery->uuid = g_uuid_string_random();
    recovery->subject = g_strdup(vm);
    recovery->bubble = planner->bubble;
}
