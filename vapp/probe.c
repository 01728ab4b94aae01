/* SPDX-License-Identifier: Apache-2.0 */
/* One look whether a VM is ready, by the kind of its rule. */
#include <ifaddrs.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#include "vapp/probe.h"

#define AGENT_S 2           /* for an answer of the agent */
#define COMMAND_POLL_MS 100 /* how often a command in the guest is asked for */

void probe_clear(struct probe *probe)
{
    console_free(probe->console);
    probe->console = NULL;
}

void probe_mark(struct probe *probe)
{
    if (probe->vm->ready == READY_LOG)
        probe->log_offset = console_log_size(probe->domain);
}

/* ---- Addresses */

/* An address of this host says nothing about the guest, yet a guest can have the same one: think of
 * the bridge of a container engine that runs here and there. */
static bool is_our_own(const char *address)
{
    struct ifaddrs *interfaces;
    bool found = false;

    if (getifaddrs(&interfaces) < 0)
        return false;
    for (struct ifaddrs *at = interfaces; at && !found; at = at->ifa_next) {
        char host[NI_MAXHOST];
        socklen_t len = at->ifa_addr && at->ifa_addr->sa_family == AF_INET6
                            ? sizeof(struct sockaddr_in6)
                            : sizeof(struct sockaddr_in);

        if (at->ifa_addr &&
            (at->ifa_addr->sa_family == AF_INET || at->ifa_addr->sa_family == AF_INET6) &&
            getnameinfo(at->ifa_addr, len, host, sizeof(host), NULL, 0, NI_NUMERICHOST) == 0)
            found = strcmp(host, address) == 0;
    }
    freeifaddrs(interfaces);
    return found;
}

/* Where to connect; NULL-terminated, not empty. g_strfreev. */
static char **guest_addresses(const struct probe *probe, GError **error)
{
    g_auto(GStrv) all = NULL;
    g_autoptr(GStrvBuilder) others = g_strv_builder_new();
    g_auto(GStrv) found = NULL;

    if (probe->vm->address)
        return g_strdupv((char *[]){probe->vm->address, NULL});
    all = domain_addresses(probe->domain, error);
    if (!all)
        return NULL;
    for (char **address = all; *address; address++)
        if (!is_our_own(*address))
            g_strv_builder_add(others, *address);
    found = g_strv_builder_end(others);
    if (*found)
        return g_steal_pointer(&found);
    fail(error, ERROR_HYPERVISOR,
         "no address of the guest is known: it has no DHCP lease and no agent (`address` of the VM "
         "in the vApp's file can name one)");
    return NULL;
}

/* ---- Kinds */

static bool look_agent(struct probe *probe, int64_t deadline_ms, GError **error)
{
    int64_t left_ms = deadline_ms - time_monotonic_ms();
    unsigned timeout_s = (unsigned)CLAMP(left_ms / 1000, 1, AGENT_S);

    return domain_agent_ping(probe->domain, timeout_s, error);
}

static bool look_tcp(struct probe *probe, int64_t deadline_ms, GError **error)
{
    g_auto(GStrv) addresses = guest_addresses(probe, error);

    return addresses && connect_try(addresses, probe->vm->ready_port, deadline_ms, error);
}

static bool look_http(struct probe *probe, int64_t deadline_ms, GError **error)
{
    const struct vapp_vm *vm = probe->vm;
    g_auto(GStrv) addresses = guest_addresses(probe, error);

    return addresses && http_try(addresses, vm->ready_port, vm->ready_path, vm->ready_status,
                                 deadline_ms, error);
}

/* The last line of what a command wrote; NULL when there is none. Borrowed from OUTPUT. */
static const char *last_line(char *output)
{
    char *feed;

    if (!output || !*g_strstrip(output))
        return NULL;
    feed = strrchr(output, '\n');
    return feed ? feed + 1 : output;
}

static bool command_verdict(const struct probe *probe, struct domain_exec_end *end, GError **error)
{
    const char *line = last_line(end->output);

    return end->status == 0 ||
           fail(error, ERROR_HYPERVISOR, "%s ended with status %d%s%s", probe->vm->ready_command[0],
                end->status, line ? ": " : "", line ? line : "");
}

/* One that hangs is waited for by the next look, too: otherwise each look would leave one more of them
 * in the guest. */
static bool look_command(struct probe *probe, int64_t deadline_ms, GError **error)
{
    if (!probe->command_pid &&
        !domain_exec(probe->domain, probe->vm->ready_command, AGENT_S, &probe->command_pid, error))
        return false;
    while (true) {
        struct domain_exec_end end = {0};

        if (!domain_exec_poll(probe->domain, probe->command_pid, AGENT_S, &end, error)) {
            probe->command_pid = 0; /* the agent, or the guest, is another one by now */
            return false;
        }
        if (end.over) {
            bool good = command_verdict(probe, &end, error);

            probe->command_pid = 0;
            g_free(end.output);
            return good;
        }
        if (time_monotonic_ms() >= deadline_ms || !interrupt_check(NULL))
            return fail(error, ERROR_HYPERVISOR, "%s has not ended yet",
                        probe->vm->ready_command[0]);
        g_usleep(COMMAND_POLL_MS * 1000);
    }
}

static bool look_log(struct probe *probe, int64_t deadline_ms, GError **error)
{
    if (!probe->console)
        probe->console = console_open(probe->domain, probe->log_offset, error);
    return probe->console &&
           console_match(probe->console, probe->vm->ready_regex, deadline_ms, error);
}

bool probe_look(struct probe *probe, int64_t deadline_ms, GError **error)
{
    switch (probe->vm->ready) {
    case READY_NONE:
        return true;
    case READY_AGENT:
        return look_agent(probe, deadline_ms, error);
    case READY_TCP:
        return look_tcp(probe, deadline_ms, error);
    case READY_HTTP:
        return look_http(probe, deadline_ms, error);
    case READY_COMMAND:
        return look_command(probe, deadline_ms, error);
    case READY_LOG:
        return look_log(probe, deadline_ms, error);
    }
    return false;
}
