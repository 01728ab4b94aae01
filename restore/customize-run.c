/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of customize.h. */
#include <string.h>
#include <sys/socket.h>

#include "restore/customize.h"
#include "restore/guest-run.h"

#define IP_TIMEOUT_MS (20 * INT64_C(1000))

/* What a step is about. */
struct customizing {
    const struct customization *customization;
    const struct hook_facts *facts;
    struct domain *domain;
    int64_t timeout_ms;
};

/* ---- Commands here */

/* The facts are arguments, so that none of them is taken for a part of the script. */
static bool run_here(const struct customizing *at, const char *key, const char *command,
                     GError **error)
{
    static const char script[] =
        "export DRCTL_VM=\"$1\" DRCTL_UUID=\"$2\" DRCTL_HOST=\"$3\" DRCTL_SITE=\"$4\" "
        "DRCTL_POINT=\"$5\" DRCTL_RUN=\"$6\"; eval \"$0\"";
    const struct hook_facts *facts = at->facts;
    const char *const argv[] = {"/bin/sh",    "-c",        script,      command,
                                facts->vm,    facts->uuid, facts->host, facts->site,
                                facts->point, facts->run,  NULL};
    unsigned timeout_s = (unsigned)((at->customization->hook_timeout_ms + 999) / 1000);

    if (process_run(argv, timeout_s, NULL, error))
        return true;
    g_prefix_error(error, "`%s` (%s) failed: ", key, command);
    return false;
}

static bool step_before(void *context, GError **error)
{
    const struct customizing *at = context;

    return run_here(at, "before", at->customization->before, error);
}

static bool step_after(void *context, GError **error)
{
    const struct customizing *at = context;

    return run_here(at, "after", at->customization->after, error);
}

/* ---- Commands in the guest */

static bool step_in_guest(void *context, GError **error)
{
    const struct customizing *at = context;
    char *const argv[] = {(char *)"/bin/sh", (char *)"-c", at->customization->in_guest, NULL};

    if (guest_wait_agent(at->domain, time_monotonic_ms() + at->customization->hook_timeout_ms,
                         error) &&
        guest_run(at->domain, argv, at->customization->hook_timeout_ms, error))
        return true;
    g_prefix_error(error, "`in-guest` failed: ");
    return false;
}

/* ---- Addresses */

/* What the guest says about its NICs: an array of {name, hardware-address, ip-addresses}. */
static json_t *guest_interfaces(const struct customizing *at, GError **error)
{
    g_autofree char *text = domain_agent_command(
        at->domain, "{\"execute\":\"guest-network-get-interfaces\"}", AGENT_TIMEOUT_S, error);
    json_auto_t *reply =
        text ? json_parse(text, strlen(text), "reply of the guest agent", error) : NULL;
    json_t *interfaces = NULL;

    if (!reply || !json_need_array(reply, "return", &interfaces, error))
        return NULL;
    return json_incref(interfaces);
}

static const json_t *find_interface(const json_t *interfaces, const char *key, const char *value)
{
    const json_t *interface;
    size_t i;

    json_array_foreach(interfaces, i, interface)
    {
        const char *text = json_get_string(interface, key);

        if (text && g_ascii_strcasecmp(text, value) == 0)
            return interface;
    }
    return NULL;
}

/* The addresses of INTERFACE; of struct ip_prefix. */
static GArray *addresses_of(const json_t *interface)
{
    GArray *addresses = g_array_new(false, false, sizeof(struct ip_prefix));
    const json_t *value;
    size_t i;

    json_array_foreach(json_object_get(interface, "ip-addresses"), i, value)
    {
        const char *address = json_get_string(value, "ip-address");
        g_autofree char *text =
            g_strdup_printf("%s/%d", address ? address : "",
                            (int)json_integer_value(json_object_get(value, "prefix")));
        struct ip_prefix prefix;

        if (ip_prefix_parse(text, &prefix))
            g_array_append_val(addresses, prefix);
    }
    return addresses;
}

static bool ip_run(const struct customizing *at, const char *family, const char *what,
                   const char *verb, const char *operand, const char *nic, GError **error)
{
    char *const argv[] = {(char *)"ip",    (char *)family, (char *)what, (char *)verb,
                          (char *)operand, (char *)"dev",  (char *)nic,  NULL};

    return guest_run(at->domain, argv, IP_TIMEOUT_MS, error);
}

static const char *family_option(const struct ip_prefix *address)
{
    return address->family == AF_INET ? "-4" : "-6";
}

static bool is_same(const struct ip_prefix *a, const struct ip_prefix *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static bool is_among(const GArray *addresses, const struct ip_prefix *address)
{
    for (unsigned i = 0; i < addresses->len; i++)
        if (is_same(&g_array_index(addresses, struct ip_prefix, i), address))
            return true;
    return false;
}

static bool add_address(const struct customizing *at, const char *nic, const GArray *present,
                        const struct ip_prefix *address, GError **error)
{
    g_autofree char *text = ip_prefix_text(address);

    return is_among(present, address) ||
           ip_run(at, family_option(address), "address", "add", text, nic, error);
}

static bool remove_address(const struct customizing *at, const char *nic,
                           const struct ip_prefix *address, GError **error)
{
    g_autofree char *text = ip_prefix_text(address);

    return ip_run(at, family_option(address), "address", "del", text, nic, error);
}

static bool set_gateway(const struct customizing *at, const char *nic, const char *gateway,
                        GError **error)
{
    char *const argv[] = {(char *)"ip",      (char *)(strchr(gateway, ':') ? "-6" : "-4"),
                          (char *)"route",   (char *)"replace",
                          (char *)"default", (char *)"via",
                          (char *)gateway,   (char *)"dev",
                          (char *)nic,       NULL};

    return guest_run(at->domain, argv, IP_TIMEOUT_MS, error);
}

static bool set_dns(const struct customizing *at, char **dns, GError **error)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();

    g_ptr_array_add(argv, (char *)"/bin/sh");
    g_ptr_array_add(argv, (char *)"-c");
    g_ptr_array_add(argv, (char *)"printf 'nameserver %s\\n' \"$@\" > /etc/resolv.conf");
    g_ptr_array_add(argv, (char *)"sh");
    for (char **server = dns; *server; server++)
        g_ptr_array_add(argv, *server);
    g_ptr_array_add(argv, NULL);
    return guest_run(at->domain, (char *const *)argv->pdata, IP_TIMEOUT_MS, error);
}

static bool set_routes(const struct customizing *at, const char *name, const struct guest_nic *nic,
                       GError **error)
{
    return (!nic->gateway || set_gateway(at, name, nic->gateway, error)) &&
           (!nic->dns || !*nic->dns || set_dns(at, nic->dns, error));
}

/* The rule by which ADDRESS has to move, or NULL. */
static const struct ip_rule *rule_for(const struct guest_nic *nic, const struct ip_prefix *address)
{
    for (unsigned i = 0; i < nic->rules->len; i++) {
        const struct ip_rule *rule = &g_array_index(nic->rules, struct ip_rule, i);

        if (ip_prefix_contains(&rule->from, address))
            return rule;
    }
    return NULL;
}

static bool is_moved(const struct guest_nic *nic, const struct ip_prefix *address)
{
    for (unsigned i = 0; i < nic->rules->len; i++)
        if (ip_prefix_contains(&g_array_index(nic->rules, struct ip_rule, i).to, address))
            return true;
    return false;
}

/* *COUNT: how many are where they belong now. */
static bool move_addresses(const struct customizing *at, const struct guest_nic *nic,
                           const char *name, const GArray *present, unsigned *count, GError **error)
{
    *count = 0;
    for (unsigned i = 0; i < present->len; i++) {
        const struct ip_prefix *old = &g_array_index(present, struct ip_prefix, i);
        const struct ip_rule *rule = rule_for(nic, old);
        struct ip_prefix moved;

        *count += rule || is_moved(nic, old);
        if (!rule)
            continue;
        moved = ip_rule_apply(rule, old);
        if (!add_address(at, name, present, &moved, error) || !remove_address(at, name, old, error))
            return false;
    }
    return true;
}

static char *addresses_text(const GArray *addresses)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (unsigned i = 0; i < addresses->len; i++) {
        g_autofree char *one = ip_prefix_text(&g_array_index(addresses, struct ip_prefix, i));

        g_string_append_printf(text, "%s%s", i ? ", " : "", one);
    }
    return g_strdup(addresses->len > 0 ? text->str : "none");
}

/* A guest has its agent before its network: its old addresses are waited for. */
static bool customize_nic(const struct customizing *at, const struct guest_nic *nic,
                          int64_t deadline_ms, GError **error)
{
    for (;;) {
        json_auto_t *interfaces = guest_interfaces(at, error);
        const json_t *interface =
            interfaces ? find_interface(interfaces, "hardware-address", nic->mac) : NULL;
        const char *name = interface ? json_get_string(interface, "name") : NULL;
        g_autoptr(GArray) present = addresses_of(interface);
        g_autofree char *seen = addresses_text(present);
        unsigned count = 0;

        if (!interfaces || (name && !move_addresses(at, nic, name, present, &count, error)))
            return false;
        if (count > 0)
            return set_routes(at, name, nic, error);
        if (time_monotonic_ms() >= deadline_ms)
            return fail(error, ERROR_HYPERVISOR,
                        "%s with MAC address %s (network %s) has no address that a rule of the "
                        "plan is for; it has: %s",
                        name ? name : "the NIC", nic->mac, nic->network, seen);
        if (!guest_pause(error))
            return false;
    }
}

/* What the plan gives takes the place of all of its kind. */
static bool set_address(const struct customizing *at, const json_t *interfaces,
                        const struct plan_address *address, GError **error)
{
    const json_t *interface = find_interface(interfaces, "name", address->nic);
    g_autoptr(GArray) present = addresses_of(interface);
    const char *mac = interface ? json_get_string(interface, "hardware-address") : NULL;

    if (!interface)
        return fail(error, ERROR_HYPERVISOR, "the guest has no NIC %s", address->nic);
    if (!add_address(at, address->nic, present, &address->address, error))
        return false;
    for (unsigned i = 0; i < present->len; i++) {
        const struct ip_prefix *old = &g_array_index(present, struct ip_prefix, i);

        if (old->family == address->address.family && !is_same(old, &address->address) &&
            !ip_prefix_is_link_local(old) && !remove_address(at, address->nic, old, error))
            return false;
    }
    for (unsigned i = 0; mac && i < at->customization->nics->len; i++) {
        const struct guest_nic *nic = at->customization->nics->pdata[i];

        if (g_ascii_strcasecmp(nic->mac, mac) == 0 && !set_routes(at, address->nic, nic, error))
            return false;
    }
    return true;
}

/* A NIC that has an address of its own in the plan needs no rule. */
static bool has_own(const struct customizing *at, const json_t *interfaces,
                    const struct guest_nic *nic)
{
    const json_t *interface = find_interface(interfaces, "hardware-address", nic->mac);
    const char *name = interface ? json_get_string(interface, "name") : NULL;

    for (unsigned i = 0; name && i < at->customization->addresses->len; i++)
        if (strcmp(((const struct plan_address *)at->customization->addresses->pdata[i])->nic,
                   name) == 0)
            return true;
    return false;
}

static bool set_addresses(const struct customizing *at, int64_t deadline_ms, GError **error)
{
    const struct customization *customization = at->customization;
    json_auto_t *interfaces = guest_interfaces(at, error);

    if (!interfaces)
        return false;
    for (unsigned i = 0; i < customization->addresses->len; i++)
        if (!set_address(at, interfaces, customization->addresses->pdata[i], error))
            return false;
    for (unsigned i = 0; i < customization->nics->len; i++) {
        const struct guest_nic *nic = customization->nics->pdata[i];

        if (nic->rules->len > 0 && !has_own(at, interfaces, nic) &&
            !customize_nic(at, nic, deadline_ms, error))
            return false;
    }
    return true;
}

static bool step_addresses(void *context, GError **error)
{
    const struct customizing *at = context;
    int64_t deadline_ms = time_monotonic_ms() + at->timeout_ms;

    if (guest_wait_agent(at->domain, deadline_ms, error) && set_addresses(at, deadline_ms, error))
        return true;
    g_prefix_error(error, "its addresses could not be set as the plan says: ");
    return false;
}

/* ---- In the run */

bool customize_before(const struct customization *customization, const struct hook_facts *facts,
                      struct run *run, const char *subject, GError **error)
{
    static const struct step step = {.name = "before", .run = step_before};
    struct customizing at = {.customization = customization, .facts = facts};

    return !customization || !customization->before ||
           run_steps(run, subject, &step, 1, &at, error);
}

bool customize_addresses(const struct customization *customization, struct domain *domain,
                         int64_t timeout_ms, struct run *run, const char *subject, GError **error)
{
    static const struct step step = {.name = "addresses", .run = step_addresses};
    struct customizing at = {
        .customization = customization, .domain = domain, .timeout_ms = timeout_ms};

    return !customization || !customization_sets_addresses(customization) ||
           run_steps(run, subject, &step, 1, &at, error);
}

bool customize_after(const struct customization *customization, const struct hook_facts *facts,
                     struct domain *domain, struct run *run, const char *subject, GError **error)
{
    static const struct step in_guest = {.name = "in-guest", .run = step_in_guest};
    static const struct step after = {.name = "after", .run = step_after};
    struct customizing at = {.customization = customization, .facts = facts, .domain = domain};

    if (!customization)
        return true;
    return (!customization->in_guest || run_steps(run, subject, &in_guest, 1, &at, error)) &&
           (!customization->after || run_steps(run, subject, &after, 1, &at, error));
}
