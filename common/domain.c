/* SPDX-License-Identifier: Apache-2.0 */
/* The domain half of host.h: what it is, starting and stopping it, its guest agent. */
#include <gio/gio.h>
#include <string.h>

#include "common/error.h"
#include "common/format.h"
#include "common/host-private.h"
#include "common/json.h"
#include "common/xml.h"

#define AGENT_PROBE_S 2 /* for an answer that takes milliseconds */

struct domain *domain_new(struct host *host, virDomainPtr handle)
{
    struct domain *domain = g_new0(struct domain, 1);

    g_atomic_ref_count_inc(&host->refs);
    domain->host = host;
    domain->handle = handle;
    domain->name = g_strdup(virDomainGetName(handle));
    virDomainGetUUIDString(handle, domain->uuid);
    return domain;
}

void domain_free(struct domain *domain)
{
    if (!domain)
        return;
    virDomainFree(domain->handle);
    host_free(domain->host);
    g_free(domain->name);
    g_free(domain);
}

struct domain *domain_copy(const struct domain *domain)
{
    virDomainRef(domain->handle);
    return domain_new(domain->host, domain->handle);
}

const char *domain_name(const struct domain *domain)
{
    return domain->name;
}

const char *domain_uuid(const struct domain *domain)
{
    return domain->uuid;
}

struct host *domain_host(const struct domain *domain)
{
    return domain->host;
}

bool domain_fail(const struct domain *domain, GError **error, const char *format, ...)
{
    g_autofree char *what = NULL;
    va_list args;

    va_start(args, format);
    what = g_strdup_vprintf(format, args);
    va_end(args);
    return host_fail(domain->host, error, "%s domain %s", what, domain->name);
}

bool domain_is_off(struct domain *domain)
{
    return virDomainIsActive(domain->handle) == 0;
}

/* A guest that shuts down still writes, one that sleeps in memory is as good as paused. */
static enum domain_state state_of(int state, int reason)
{
    switch (state) {
    case VIR_DOMAIN_SHUTOFF:
        return DOMAIN_OFF;
    case VIR_DOMAIN_PAUSED:
        return reason == VIR_DOMAIN_PAUSED_IOERROR ? DOMAIN_PAUSED_IO_ERROR : DOMAIN_PAUSED;
    case VIR_DOMAIN_PMSUSPENDED:
        return DOMAIN_PAUSED;
    case VIR_DOMAIN_CRASHED:
        return DOMAIN_CRASHED;
    default:
        return DOMAIN_RUNNING;
    }
}

bool domain_state(struct domain *domain, enum domain_state *state, GError **error)
{
    int now = 0;
    int reason = 0;

    if (virDomainGetState(domain->handle, &now, &reason, 0) < 0)
        return domain_fail(domain, error, "read the state of");
    *state = state_of(now, reason);
    return true;
}

const char *domain_state_name(enum domain_state state)
{
    static const char *const names[] = {
        [DOMAIN_OFF] = "off",         [DOMAIN_RUNNING] = "running",
        [DOMAIN_PAUSED] = "paused",   [DOMAIN_PAUSED_IO_ERROR] = "paused-io-error",
        [DOMAIN_CRASHED] = "crashed",
    };

    return names[state];
}

bool domain_was_shut_down(struct domain *domain)
{
    int state = 0;
    int reason = 0;

    return virDomainGetState(domain->handle, &state, &reason, 0) == 0 &&
           state == VIR_DOMAIN_SHUTOFF && reason == VIR_DOMAIN_SHUTOFF_SHUTDOWN;
}

bool domain_is_saved(struct domain *domain)
{
    return domain_is_off(domain) && virDomainHasManagedSaveImage(domain->handle, 0) == 1;
}

char *domain_xml(struct domain *domain, enum domain_xml_kind kind, GError **error)
{
    unsigned flags =
        kind == DOMAIN_XML_INACTIVE ? VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE : 0;
    char *xml = virDomainGetXMLDesc(domain->handle, flags);

    if (!xml)
        domain_fail(domain, error, "read the definition of");
    return xml;
}

bool domain_disk_bytes(struct domain *domain, const char *target, uint64_t *capacity,
                       uint64_t *allocation, GError **error)
{
    virDomainBlockInfo info;

    if (virDomainGetBlockInfo(domain->handle, target, &info, 0) < 0)
        return domain_fail(domain, error, "read the size of disk %s of", target);
    *capacity = info.capacity;
    *allocation = info.allocation;
    return true;
}

bool domain_metadata(struct domain *domain, const char *uri, char **xml, GError **error)
{
    static const unsigned where[] = {VIR_DOMAIN_AFFECT_CURRENT, VIR_DOMAIN_AFFECT_CONFIG};

    *xml = NULL;
    for (unsigned i = 0; i < G_N_ELEMENTS(where) && !*xml; i++) {
        *xml = virDomainGetMetadata(domain->handle, VIR_DOMAIN_METADATA_ELEMENT, uri, where[i]);
        if (*xml || libvirt_error_code() == VIR_ERR_NO_DOMAIN_METADATA)
            continue;
        /* One that is not persistent has no definition beside what runs. */
        return (i > 0 && libvirt_error_code() == VIR_ERR_OPERATION_INVALID) ||
               domain_fail(domain, error, "read the metadata of");
    }
    return true;
}

bool domain_autostart(struct domain *domain, bool *autostart, GError **error)
{
    int flag = 0;

    if (virDomainGetAutostart(domain->handle, &flag) < 0)
        return domain_fail(domain, error, "read autostart of");
    *autostart = flag != 0;
    return true;
}

bool domain_set_autostart(struct domain *domain, bool autostart, GError **error)
{
    return virDomainSetAutostart(domain->handle, autostart) == 0 ||
           domain_fail(domain, error, autostart ? "set autostart of" : "clear autostart of");
}

bool domain_start(struct domain *domain, GError **error)
{
    return virDomainCreate(domain->handle) == 0 || domain_fail(domain, error, "start");
}

bool domain_resume(struct domain *domain, GError **error)
{
    enum domain_state state;

    if (virDomainResume(domain->handle) == 0)
        return true;
    domain_fail(domain, error, "resume");
    /* A domain that is being started is paused for a moment. */
    if (!domain_state(domain, &state, NULL) || state != DOMAIN_RUNNING)
        return false;
    g_clear_error(error);
    return true;
}

/* An agent that hangs would hold libvirt for 60 s, before the power button is pressed: ask whether
 * it answers. If it does, no flags mean agent, then ACPI; both flags would mean the same, but
 * report success for a domain that is off. */
bool domain_shutdown(struct domain *domain, GError **error)
{
    bool answers = domain_agent_ping(domain, AGENT_PROBE_S, NULL);
    unsigned flags = answers ? 0 : VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN;

    return virDomainShutdownFlags(domain->handle, flags) == 0 ||
           domain_fail(domain, error, "shut down");
}

bool domain_destroy(struct domain *domain, GError **error)
{
    g_autoptr(GError) problem = NULL;

    if (virDomainDestroy(domain->handle) == 0)
        return true;
    domain_fail(domain, &problem, "power off");
    if (domain_is_off(domain))
        return true;
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}

bool domain_undefine(struct domain *domain, GError **error)
{
    return virDomainUndefineFlags(
               domain->handle,
               VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
                   VIR_DOMAIN_UNDEFINE_NVRAM | VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA) == 0 ||
           domain_fail(domain, error, "undefine");
}

bool domain_forget(struct domain *domain, GError **error)
{
    return virDomainUndefineFlags(domain->handle, VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
                                                      VIR_DOMAIN_UNDEFINE_KEEP_NVRAM |
                                                      VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA) ==
               0 ||
           domain_fail(domain, error, "undefine");
}

/* libvirt reads 0 as "do not wait for the answer". */
static int agent_seconds(unsigned timeout_s)
{
    return timeout_s == 0 ? 1 : (int)MIN(timeout_s, 24u * 3600);
}

/* For the calls of libvirt that use the agent on their own. It stays set until QEMU ends: whoever
 * asks this agent next is better off with a limit too. */
static bool agent_limit(struct domain *domain, unsigned timeout_s, GError **error)
{
    return virDomainAgentSetResponseTimeout(domain->handle, agent_seconds(timeout_s), 0) == 0 ||
           domain_fail(domain, error, "limit the time of the guest agent of");
}

char *domain_agent_command(struct domain *domain, const char *command, unsigned timeout_s,
                           GError **error)
{
    char *reply = virDomainQemuAgentCommand(domain->handle, command, agent_seconds(timeout_s), 0);

    if (!reply)
        domain_fail(domain, error, "ask the guest agent of");
    return reply;
}

bool domain_agent_ping(struct domain *domain, unsigned timeout_s, GError **error)
{
    g_autofree char *reply =
        domain_agent_command(domain, "{\"execute\":\"guest-ping\"}", timeout_s, error);

    return reply != NULL;
}

/* Does something in the guest hold the agent's channel open? */
static bool agent_is_connected(struct domain *domain)
{
    g_autofree char *text = domain_xml(domain, DOMAIN_XML_LIVE, NULL);
    AUTO(xml) xml = text ? xml_parse(text, domain->name, NULL) : NULL;

    return xml && xml_find(xml_root(xml), "devices/channel/target[@name='org.qemu.guest_agent.0' "
                                          "and @state='connected']");
}

bool domain_freeze(struct domain *domain, unsigned timeout_s, unsigned *frozen, GError **error)
{
    int count = 0;

    if (!agent_limit(domain, timeout_s, error))
        return false;
    count = virDomainFSFreeze(domain->handle, NULL, 0, 0);
    if (count < 0)
        return domain_fail(domain, error, "freeze the file systems of");
    *frozen = (unsigned)count;
    return true;
}

/* A limit for each of two questions to the agent before the deadline. */
static unsigned half_until(int64_t deadline_ms)
{
    int64_t left_ms = deadline_ms - time_monotonic_ms();

    return left_ms <= 0 ? 0 : (unsigned)(left_ms / 2000);
}

/* The status decides, whatever the reply to the thaw was: agents thaw on their own as well (Windows
 * VSS after 10 s) and then refuse, and a thaw that timed out may have been done all the same. */
static bool thaw_once(struct domain *domain, int64_t deadline_ms, GError **error)
{
    unsigned limit_s = half_until(deadline_ms);
    g_autofree char *text = NULL;
    json_auto_t *reply = NULL;

    if (!agent_limit(domain, limit_s, error))
        return false;
    virDomainFSThaw(domain->handle, NULL, 0, 0);
    text = domain_agent_command(domain, "{\"execute\":\"guest-fsfreeze-status\"}", limit_s, error);
    if (!text)
        return false;
    reply = json_parse(text, strlen(text), "reply of the guest agent", error);
    if (!reply)
        return false;
    return g_strcmp0(json_get_string(reply, "return"), "thawed") == 0 ||
           fail(error, ERROR_HYPERVISOR, "file systems of domain %s at %s are still frozen",
                domain->name, domain->host->uri);
}

bool domain_thaw(struct domain *domain, unsigned timeout_s, GError **error)
{
    int64_t deadline_ms = time_monotonic_ms() + (int64_t)timeout_s * 1000;

    while (true) {
        g_autoptr(GError) problem = NULL;

        if (thaw_once(domain, deadline_ms, &problem) || domain_is_off(domain))
            return true;
        /* With nobody at the other end only time can pass; what is frozen then stays frozen. */
        if (time_monotonic_ms() >= deadline_ms || !agent_is_connected(domain)) {
            g_propagate_prefixed_error(error, g_steal_pointer(&problem),
                                       "cannot thaw domain %s: ", domain->name);
            return false;
        }
        g_usleep(10 * 1000);
    }
}

static bool is_useful_address(const char *text)
{
    g_autoptr(GInetAddress) address = g_inet_address_new_from_string(text);

    return address && !g_inet_address_get_is_loopback(address) &&
           !g_inet_address_get_is_link_local(address);
}

/* Adds what SOURCE knows; false when it cannot be asked. */
static bool addresses_from(struct domain *domain, unsigned source, GStrvBuilder *found,
                           unsigned *count)
{
    g_autofree virDomainInterfacePtr *interfaces = NULL;
    int total = virDomainInterfaceAddresses(domain->handle, &interfaces, source, 0);

    for (int i = 0; i < total; i++) {
        for (unsigned j = 0; j < interfaces[i]->naddrs; j++) {
            if (!is_useful_address(interfaces[i]->addrs[j].addr))
                continue;
            g_strv_builder_add(found, interfaces[i]->addrs[j].addr);
            ++*count;
        }
        virDomainInterfaceFree(interfaces[i]);
    }
    return total >= 0;
}

char **domain_addresses(struct domain *domain, GError **error)
{
    static const unsigned sources[] = {
        VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
        VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT,
        VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP,
    };
    g_autoptr(GStrvBuilder) found = g_strv_builder_new();
    unsigned count = 0;
    bool answered = false;

    if (!agent_limit(domain, 5, error))
        return NULL;
    for (unsigned i = 0; i < G_N_ELEMENTS(sources) && count == 0; i++)
        answered |= addresses_from(domain, sources[i], found, &count);
    if (!answered) {
        domain_fail(domain, error, "find the addresses of");
        return NULL;
    }
    return g_strv_builder_end(found);
}
