/* SPDX-License-Identifier: Apache-2.0 */
/* The text of a recovery plan, for somebody to go on with. */
#include <string.h>

#include "restore/preflight-state.h"

struct draft {
    const struct site *site;
    GString *text;
    GHashTable *here;  /* networks of this site's hosts that are active; a set */
    GHashTable *seen;  /* networks that have a group already; a set */
    GPtrArray *groups; /* char *: [vm NAME] */
};

static void draft_clear(struct draft *draft)
{
    g_string_free(draft->text, TRUE);
    g_hash_table_unref(draft->here);
    g_hash_table_unref(draft->seen);
    g_ptr_array_unref(draft->groups);
}
#define AUTO_DRAFT __attribute__((cleanup(draft_clear))) struct draft

/* A network counts if every host has it: any of them may get the VM. */
static bool list_networks(struct draft *draft, GError **error)
{
    for (unsigned i = 0; i < draft->site->hosts->len; i++) {
        g_autoptr(GPtrArray) networks = host_networks(draft->site->hosts->pdata[i], error);

        for (unsigned k = 0; networks && k < networks->len; k++) {
            const struct host_object *network = networks->pdata[k];
            unsigned count = GPOINTER_TO_UINT(g_hash_table_lookup(draft->here, network->name));

            if (network->active)
                g_hash_table_insert(draft->here, g_strdup(network->name),
                                    GUINT_TO_POINTER(count + 1));
        }
        if (!networks)
            return false;
    }
    return true;
}

static bool is_here(const struct draft *draft, const char *name)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(draft->here, name)) == draft->site->hosts->len;
}

/* "default, lan", or NULL; g_free */
static char *networks_here(const struct draft *draft)
{
    g_autoptr(GList) names = g_list_sort(g_hash_table_get_keys(draft->here), (GCompareFunc)strcmp);
    g_autoptr(GString) text = g_string_new(NULL);

    for (const GList *name = names; name; name = name->next)
        if (is_here(draft, name->data))
            g_string_append_printf(text, "%s%s", text->len > 0 ? ", " : "",
                                   (const char *)name->data);
    return text->len > 0 ? g_strdup(text->str) : NULL;
}

static void draft_network(struct draft *draft, const char *name)
{
    g_autofree char *choice = networks_here(draft);

    if (!g_hash_table_add(draft->seen, g_strdup(name)))
        return;
    g_string_append_printf(draft->text, "\n[network %s]\n", name);
    if (is_here(draft, name))
        g_string_append_printf(draft->text, "target = %s\n", name);
    else
        g_string_append_printf(draft->text,
                               "# There is no network of that name here%s%s.\n"
                               "target = disconnected\n",
                               choice ? "; there are: " : ", nor any other", choice ? choice : "");
}

static void draft_networks(struct draft *draft, const struct xml_node *domain)
{
    g_autoptr(GPtrArray) nics = xml_find_all(domain, "devices/interface[@type='network' or "
                                                     "@type='bridge' or @type='direct']");

    for (unsigned i = 0; i < nics->len; i++) {
        g_autofree char *name = nic_network(nics->pdata[i]);

        if (name)
            draft_network(draft, name);
    }
}

/* What it has now stands there as a comment, to be changed. */
static void draft_vm(struct draft *draft, const char *name, const char *uuid)
{
    g_autofree char *definition = uuid ? newest_definition(draft->site, uuid, NULL) : NULL;
    AUTO(xml) xml = definition ? xml_parse(definition, name, NULL) : NULL;
    g_autoptr(GString) group = g_string_new(NULL);

    g_string_append_printf(group, "\n[vm %s]\n", name);
    if (xml) {
        g_string_append_printf(group, "#memory = %" G_GUINT64_FORMAT "MiB\n#cpus = %u\n",
                               definition_memory_bytes(xml_root(xml)) >> 20,
                               definition_cpus(xml_root(xml)));
        draft_networks(draft, xml_root(xml));
    } else {
        g_string_append(group, "# There is no recovery point of it here.\n");
    }
    g_ptr_array_add(draft->groups, g_strdup(group->str));
}

static void draft_vms(struct draft *draft, const struct planner *planner,
                      const struct failover_plan *plan)
{
    for (unsigned i = 0; i < plan->order->vms->len; i++) {
        const struct vapp_vm *vm = plan->order->vms->pdata[i];
        g_autofree char *uuid = planner_uuid(planner, vm->name, NULL);

        draft_vm(draft, vm->name, uuid);
    }
    for (unsigned i = 0; i < draft->groups->len; i++)
        g_string_append(draft->text, draft->groups->pdata[i]);
}

char *recovery_plan_draft(const struct site *site, const char *name, GError **error)
{
    struct failover_request request = {.name = name};
    AUTO(recovery_plan) recovery = recovery_plan_default(name);
    AUTO(recovery_plan) check = NULL;
    AUTO(failover_plan) plan = plan_new();
    AUTO_PLANNER planner;
    AUTO_DRAFT draft = {
        .site = site,
        .text = g_string_new(NULL),
        .here = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
        .seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
        .groups = g_ptr_array_new_with_free_func(g_free),
    };

    planner_init(&planner, site, recovery);
    if (!planner_find_order(&planner, &request, plan, error) || !list_networks(&draft, error))
        return NULL;
    g_string_append_printf(
        draft.text,
        "# How %s is brought up at site %s; drctl-plan(5) knows all keys. Then:\n"
        "# drctl plan check %s\n[plan]\nvapps = %s\n",
        plan->vapp, site->config->site, plan->vapp, plan->vapp);
    if (site_name_is_valid(plan->site) && strcmp(plan->site, site->config->site) != 0)
        g_string_append_printf(draft.text, "site = %s\n", plan->site);
    g_string_append(draft.text, "#test-every = 30d\n");
    draft_vms(&draft, &planner, plan);
    /* A name from elsewhere may be more than a group can say. */
    check =
        recovery_plan_parse(draft.text->str, draft.text->len, plan->vapp, "the new plan", error);
    return check ? g_strdup(draft.text->str) : NULL;
}
