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

/* END is that of a command that has ended. */
static bool judge(const struct domain_exec_end *end, const char *what, GError **error)
{
    const char *output = end->output ? g_strstrip(end->output) : "";

    return end->status == 0 || fail(error, ERROR_HYPERVISOR, "%s in the guest: exit status %d%s%s",
                                    what, end->status, *output ? ": " : "", output);
}

static bool wait_for_end(struct domain *domain, uint64_t pid, const char *what, int64_t timeout_ms,
                         GError **error)
{
    int64_t deadline_ms = time_monotonic_ms() + timeout_ms;

    do {
        struct domain_exec_end end = {0};

        if (!domain_exec_poll(domain, pid, AGENT_TIMEOUT_S, &end, error))
            return false;
        if (end.over) {
            bool good = judge(&end, what, error);

            g_free(end.output);
            return good;
        }
        if (!guest_pause(error))
            return false;
    } while (time_monotonic_ms() < deadline_ms);
    return fail(error, ERROR_HYPERVISOR, "%s in the guest: not done after %u s, it goes on there",
                what, (unsigned)(timeout_ms / 1000));
}

bool guest_run(struct domain *domain, char *const *argv, int64_t timeout_ms, GError **error)
{
    g_autofree char *what = g_strjoinv(" ", (char **)argv);
    uint64_t pid;

    if (domain_exec(domain, argv, AGENT_TIMEOUT_S, &pid, error))
        return wait_for_end(domain, pid, what, timeout_ms, error);
    g_prefix_error(error, "cannot run %s in the guest: ", what);
    return false;
}
