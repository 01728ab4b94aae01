/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/guest-run.h"

#define PAUSE_MS 250

bool guest_pause(GError **error)
{
    if (!interrupt_check(error))
        return false;
    g_usleep(PAUSE_MS * 1000);
    return true;
}

bool guest_wait_agent(struct domain *domain, int64_t deadline_ms, GError **error)
{
    g_autoptr(GError) cause = NULL;

    while (!domain_agent_ping(domain, AGENT_TIMEOUT_S, &cause)) {
        enum domain_state state = DOMAIN_RUNNING;

        domain_state(domain, &state, NULL);
        if (time_monotonic_ms() >= deadline_ms || state == DOMAIN_OFF)
            return fail(error, ERROR_HYPERVISOR,
                        "its guest agent does not answer (%s): is qemu-guest-agent installed in "
                        "the guest?",
                        cause->message);
        g_clear_error(&cause);
        if (!guest_pause(error))
            return false;
    }
    return true;
}

bool guest_wait_end(struct domain *domain, uint64_t pid, int64_t timeout_ms,
                    struct domain_exec_end *end, GError **error)
{
    int64_t deadline_ms = time_monotonic_ms() + timeout_ms;

    do {
        if (!domain_exec_poll(domain, pid, AGENT_TIMEOUT_S, end, error))
            return false;
        if (end->over)
            return true;
        if (!guest_pause(error))
            return false;
    } while (time_monotonic_ms() < deadline_ms);
    return fail(error, ERROR_HYPERVISOR, "not done after %u s, it goes on there",
                (unsigned)(timeout_ms / 1000));
}

/* END is that of a command that has ended. */
static bool judge(const struct domain_exec_end *end, GError **error)
{
    const char *output = end->output ? g_strstrip(end->output) : "";

    return end->status == 0 || fail(error, ERROR_HYPERVISOR, "exit status %d%s%s", end->status,
                                    *output ? ": " : "", output);
}

bool guest_run(struct domain *domain, char *const *argv, int64_t timeout_ms, GError **error)
{
    g_autofree char *what = g_strjoinv(" ", (char **)argv);
    struct domain_exec_end end = {0};
    uint64_t pid;
    bool good;

    if (!domain_exec(domain, argv, AGENT_TIMEOUT_S, &pid, error)) {
        g_prefix_error(error, "cannot run %s in the guest: ", what);
        return false;
    }
    good = guest_wait_end(domain, pid, timeout_ms, &end, error) && judge(&end, error);
    g_free(end.output);
    if (!good)
        g_prefix_error(error, "%s in the guest: ", what);
    return good;
}
