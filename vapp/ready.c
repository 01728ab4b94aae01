/* SPDX-License-Identifier: Apache-2.0 */
/* Looking again and again whether a VM is ready. */
#include "vapp/probe.h"

#define LOOK_MS 2000       /* one look */
#define SLOW_LOOK_MS 10000 /* one that waits for something to be worked out */
#define LOOK_MIN_MS 250    /* also when time is nearly over, or what is seen last says nothing */
#define TICK_MS 100        /* how soon an interrupt is seen */

/* ---- What can never be */

static bool needs_network(const struct vapp_vm *vm)
{
    return (vm->ready == READY_TCP || vm->ready == READY_HTTP) && !vm->address;
}

#define AGENT_CHANNEL "devices/channel/target[@name='org.qemu.guest_agent.0']"

char *vapp_ready_problem(const struct vapp_vm *vm, const struct xml_node *definition)
{
    const char *problem = NULL;

    if (needs_network(vm) && !xml_find(definition, "devices/interface[not(link/@state='down')]"))
        problem = "without a network nobody will see it, and it will count as failed";
    else if ((vm->ready == READY_AGENT || vm->ready == READY_COMMAND) &&
             !xml_find(definition, AGENT_CHANNEL))
        problem = "it has no channel for a guest agent, and will count as failed";
    else if (vm->ready == READY_LOG)
        problem = console_problem(definition);
    return problem ? g_strdup_printf("ready = %s: %s", vm->ready_text, problem) : NULL;
}

/* ---- Now */

static bool look(struct probe *probe, int64_t deadline_ms, GError **error)
{
    bool is_slow = probe->vm->ready == READY_HTTP || probe->vm->ready == READY_COMMAND;
    int64_t now_ms = time_monotonic_ms();
    int64_t limit_ms = is_slow ? SLOW_LOOK_MS : LOOK_MS;

    return probe_look(probe, now_ms + CLAMP(deadline_ms - now_ms, LOOK_MIN_MS, limit_ms), error);
}

bool probe_is_ready(struct probe *probe)
{
    return look(probe, INT64_MAX, NULL);
}

bool vapp_is_ready(const struct vapp_vm *vm, struct domain *domain)
{
    AUTO_PROBE probe = {.vm = vm, .domain = domain};

    return probe_is_ready(&probe);
}

/* ---- Until ready */

/* g_free */
static char *awaited(const struct vapp_vm *vm)
{
    switch (vm->ready) {
    case READY_TCP:
        return g_strdup_printf("a connection to TCP port %u", vm->ready_port);
    case READY_HTTP:
        return g_strdup_printf("status %u of %s at port %u", vm->ready_status, vm->ready_path,
                               vm->ready_port);
    case READY_COMMAND:
        return g_strdup_printf("success of %s in the guest", vm->ready_command[0]);
    case READY_LOG:
        return g_strdup_printf("a line like '%s' on its console",
                               g_regex_get_pattern(vm->ready_regex));
    default:
        return g_strdup("an answer of its guest agent");
    }
}

/* A guest that is off will not become ready. One that is paused can be resumed by somebody; that it
 * is paused is then what was SEEN. */
static bool still_there(const struct probe *probe, GError **seen, GError **error)
{
    enum domain_state state;

    if (!probe->domain || !domain_state(probe->domain, &state, NULL) || state == DOMAIN_RUNNING)
        return true;
    if (state == DOMAIN_OFF || state == DOMAIN_CRASHED)
        return fail(error, ERROR_HYPERVISOR, "VM '%s' is not ready: it is %s by now",
                    probe->vm->name, domain_state_name(state));
    g_clear_error(seen);
    fail(seen, ERROR_HYPERVISOR, "it is %s", domain_state_name(state));
    return true;
}

static bool pause_until(int64_t until_ms, GError **error)
{
    int64_t left_ms;

    while ((left_ms = until_ms - time_monotonic_ms()) > 0) {
        if (!interrupt_check(error))
            return false;
        g_usleep((unsigned long)MIN(left_ms, TICK_MS) * 1000);
    }
    return interrupt_check(error);
}

static bool fail_not_ready(const struct vapp_vm *vm, int64_t begun_ms, unsigned looks,
                           const char *seen, GError **error)
{
    g_autofree char *what = awaited(vm);
    g_autofree char *waited = duration_format((double)(time_monotonic_ms() - begun_ms) / 1000);

    return fail(error, ERROR_HYPERVISOR,
                "VM '%s' is not ready: waited %s (%u %s) for %s; last seen: %s", vm->name, waited,
                looks, looks == 1 ? "try" : "tries", what, seen);
}

bool probe_wait(struct probe *probe, GError **error)
{
    const struct vapp_vm *vm = probe->vm;
    int64_t begun_ms = time_monotonic_ms();
    int64_t deadline_ms = begun_ms + vm->ready_timeout_ms;

    for (unsigned looks = 1;; looks++) {
        g_autoptr(GError) seen = NULL;
        int64_t next_ms = time_monotonic_ms() + vm->ready_interval_ms;

        if (look(probe, deadline_ms, &seen))
            return true;
        if (!still_there(probe, &seen, error))
            return false;
        if (time_monotonic_ms() >= deadline_ms || looks > vm->ready_retries)
            return fail_not_ready(vm, begun_ms, looks, seen->message, error);
        if (!pause_until(MIN(next_ms, deadline_ms), error))
            return false;
    }
}

bool vapp_wait_ready(const struct vapp_vm *vm, struct domain *domain, GError **error)
{
    AUTO_PROBE probe = {.vm = vm, .domain = domain};

    return probe_wait(&probe, error);
}
