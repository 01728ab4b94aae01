/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/customize.h"

#include <string.h>

#include "restore/rewrite.h"

static void nic_free(void *data)
{
    struct guest_nic *nic = data;

    g_free(nic->mac);
    g_free(nic->network);
    g_array_unref(nic->rules);
    g_free(nic->gateway);
    g_strfreev(nic->dns);
    g_free(nic);
}

static void address_free(void *data)
{
    struct plan_address *address = data;

    g_free(address->nic);
    g_free(address);
}

void customization_free(struct customization *customization)
{
    if (!customization)
        return;
    g_free(customization->before);
    g_free(customization->after);
    g_free(customization->in_guest);
    g_ptr_array_unref(customization->addresses);
    g_ptr_array_unref(customization->nics);
    g_free(customization);
}

static struct customization *customization_alloc(void)
{
    struct customization *customization = g_new0(struct customization, 1);

    customization->addresses = g_ptr_array_new_with_free_func(address_free);
    customization->nics = g_ptr_array_new_with_free_func(nic_free);
    customization->hook_timeout_ms = PLAN_HOOK_TIMEOUT_MS;
    return customization;
}

static struct guest_nic *add_nic(struct customization *customization, const char *mac,
                                 const char *network)
{
    struct guest_nic *nic = g_new0(struct guest_nic, 1);

    nic->mac = g_ascii_strdown(mac, -1);
    nic->network = g_strdup(network);
    nic->rules = g_array_new(false, false, sizeof(struct ip_rule));
    g_ptr_array_add(customization->nics, nic);
    return nic;
}

static void add_address(struct customization *customization, const char *nic,
                        const struct ip_prefix *prefix)
{
    struct plan_address *address = g_new0(struct plan_address, 1);

    address->nic = g_strdup(nic);
    address->address = *prefix;
    g_ptr_array_add(customization->addresses, address);
}

/* ---- From the plan */

/* Is the NIC with that MAC address plugged into something here? */
static bool is_plugged(const struct xml_node *domain, const char *mac)
{
    g_autoptr(GPtrArray) nics = xml_find_all(domain, "devices/interface[not(link/@state='down')]");

    for (unsigned i = 0; i < nics->len; i++) {
        g_autofree char *address = xml_string(nics->pdata[i], "mac/@address");

        if (address && g_ascii_strcasecmp(address, mac) == 0)
            return true;
    }
    return false;
}

static void take_network(struct customization *customization, const struct plan_network *network,
                         const char *mac)
{
    struct guest_nic *nic = add_nic(customization, mac, network->name);

    g_array_append_vals(nic->rules, network->rules->data, network->rules->len);
    nic->gateway = g_strdup(network->gateway);
    nic->dns = g_strdupv(network->dns);
}

static void take_networks(struct customization *customization, const struct recovery_plan *plan,
                          const struct xml_node *from, const struct xml_node *to)
{
    g_autoptr(GPtrArray) nics = xml_find_all(from, "devices/interface");

    for (unsigned i = 0; i < nics->len; i++) {
        g_autofree char *name = nic_network(nics->pdata[i]);
        g_autofree char *mac = xml_string(nics->pdata[i], "mac/@address");
        const struct plan_network *network = name ? recovery_plan_network(plan, name) : NULL;

        if (network && mac && (network->rules->len > 0 || network->gateway || network->dns) &&
            is_plugged(to, mac))
            take_network(customization, network, mac);
    }
}

static void take_vm(struct customization *customization, const struct plan_vm *vm)
{
    customization->before = g_strdup(vm->before);
    customization->after = g_strdup(vm->after);
    customization->in_guest = g_strdup(vm->in_guest);
    customization->hook_timeout_ms = vm->hook_timeout_ms;
    for (unsigned i = 0; i < vm->addresses->len; i++) {
        const struct plan_address *address = vm->addresses->pdata[i];

        add_address(customization, address->nic, &address->address);
    }
}

bool customization_sets_addresses(const struct customization *customization)
{
    bool found = customization->addresses->len > 0;

    for (unsigned i = 0; i < customization->nics->len; i++)
        found |= ((const struct guest_nic *)customization->nics->pdata[i])->rules->len > 0;
    return found;
}

static void check_agent(const struct customization *customization, const struct xml_node *domain,
                        struct findings *findings)
{
    if ((customization_sets_addresses(customization) || customization->in_guest) &&
        !xml_find(domain, "devices/channel/target[@name='org.qemu.guest_agent.0']"))
        remark(findings,
               "the plan needs its guest agent, but it has no channel for one: it will fail" REMEDY
               "give it a channel org.qemu.guest_agent.0 and install qemu-guest-agent in it, or "
               "remove `address` and `in-guest` from the plan");
}

bool customization_is_wanted(const struct recovery_plan *plan, const char *vm)
{
    const struct plan_vm *wishes = recovery_plan_vm(plan, vm);
    bool wanted = wishes && (wishes->before || wishes->after || wishes->in_guest ||
                             wishes->addresses->len > 0);

    for (unsigned i = 0; i < plan->networks->len; i++)
        wanted |= ((const struct plan_network *)plan->networks->pdata[i])->rules->len > 0;
    return wanted;
}

struct customization *customization_new(const struct recovery_plan *plan, const char *vm,
                                        const struct xml_node *from, const struct xml_node *to,
                                        struct findings *findings)
{
    AUTO(customization) customization = customization_alloc();
    const struct plan_vm *wishes = recovery_plan_vm(plan, vm);

    if (wishes)
        take_vm(customization, wishes);
    take_networks(customization, plan, from, to);
    check_agent(customization, to, findings);
    if (!customization_sets_addresses(customization) && !customization->before &&
        !customization->after && !customization->in_guest)
        return NULL;
    return g_steal_pointer(&customization);
}

void customization_keep_inside(struct customization *customization, struct findings *findings)
{
    if (!customization || (!customization->before && !customization->after))
        return;
    remark(findings,
           "`before` and `after` of the plan are not run in a test: they can reach what is "
           "real");
    g_clear_pointer(&customization->before, g_free);
    g_clear_pointer(&customization->after, g_free);
}

/* ---- To the journal and back */

static json_t *nic_to_json(const struct guest_nic *nic)
{
    json_t *json = json_object(), *rules = json_array(), *dns = json_array();

    json_set_string(json, "mac", nic->mac);
    json_set_string(json, "network", nic->network);
    for (unsigned i = 0; i < nic->rules->len; i++) {
        g_autofree char *text = ip_rule_text(&g_array_index(nic->rules, struct ip_rule, i));

        json_array_append_new(rules, json_string(text));
    }
    json_object_set_new(json, "rules", rules);
    json_set_string(json, "gateway", nic->gateway);
    for (char **server = nic->dns; server && *server; server++)
        json_array_append_new(dns, json_string(*server));
    json_object_set_new(json, "dns", dns);
    return json;
}

json_t *customization_to_json(const struct customization *customization)
{
    json_t *json, *addresses, *nics;

    if (!customization)
        return json_null();
    json = json_object();
    addresses = json_object();
    nics = json_array();
    json_set_string(json, "before", customization->before);
    json_set_string(json, "after", customization->after);
    json_set_string(json, "in_guest", customization->in_guest);
    json_set_u64(json, "timeout_ms", (uint64_t)customization->hook_timeout_ms);
    for (unsigned i = 0; i < customization->addresses->len; i++) {
        const struct plan_address *address = customization->addresses->pdata[i];
        g_autofree char *text = ip_prefix_text(&address->address);

        json_set_string(addresses, address->nic, text);
    }
    json_object_set_new(json, "addresses", addresses);
    for (unsigned i = 0; i < customization->nics->len; i++)
        json_array_append_new(nics, nic_to_json(customization->nics->pdata[i]));
    json_object_set_new(json, "nics", nics);
    return json;
}

static bool read_rules(struct guest_nic *nic, const json_t *rules, GError **error)
{
    const json_t *value;
    size_t i;

    json_array_foreach(rules, i, value)
    {
        const char *text = json_string_value(value);
        const char *problem = "is no text";
        struct ip_rule rule;

        if (!text || !ip_rule_parse(text, &rule, &problem))
            return fail(error, ERROR_INTEGRITY, "address rule '%s' %s", text ? text : "", problem);
        g_array_append_val(nic->rules, rule);
    }
    return true;
}

static char **read_dns(const json_t *dns)
{
    g_autoptr(GStrvBuilder) servers = g_strv_builder_new();
    const json_t *value;
    size_t i;

    json_array_foreach(dns, i, value) if (json_is_string(value))
        g_strv_builder_add(servers, json_string_value(value));
    return g_strv_builder_end(servers);
}

static bool read_nics(struct customization *customization, const json_t *nics, GError **error)
{
    const json_t *value;
    size_t i;

    json_array_foreach(nics, i, value)
    {
        const char *mac, *network;
        struct guest_nic *nic;

        if (!json_need_string(value, "mac", &mac, error) ||
            !json_need_string(value, "network", &network, error))
            return false;
        nic = add_nic(customization, mac, network);
        nic->gateway = g_strdup(json_get_string(value, "gateway"));
        nic->dns = read_dns(json_object_get(value, "dns"));
        if (!read_rules(nic, json_object_get(value, "rules"), error))
            return false;
    }
    return true;
}

static bool read_addresses(struct customization *customization, json_t *addresses, GError **error)
{
    const char *nic;
    json_t *value;

    json_object_foreach(addresses, nic, value)
    {
        const char *text = json_string_value(value);
        struct ip_prefix prefix;

        if (!text || !ip_prefix_parse(text, &prefix))
            return fail(error, ERROR_INTEGRITY, "address '%s' of %s is none", text ? text : "",
                        nic);
        add_address(customization, nic, &prefix);
    }
    return true;
}

struct customization *customization_from_json(const json_t *json, GError **error)
{
    AUTO(customization) customization = customization_alloc();
    uint64_t timeout_ms;

    customization->before = g_strdup(json_get_string(json, "before"));
    customization->after = g_strdup(json_get_string(json, "after"));
    customization->in_guest = g_strdup(json_get_string(json, "in_guest"));
    if (!json_need_u64(json, "timeout_ms", &timeout_ms, error) ||
        !read_addresses(customization, json_object_get(json, "addresses"), error) ||
        !read_nics(customization, json_object_get(json, "nics"), error))
        return NULL;
    customization->hook_timeout_ms = (int64_t)timeout_ms;
    return g_steal_pointer(&customization);
}
