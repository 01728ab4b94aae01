/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/guest-run.h"

#include <string.h>

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

/* The `return` of agent command NAME; json_decref. Takes over ARGUMENTS. */
static json_t *agent_call(struct domain *domain, const char *name, json_t *arguments,
                          GError **error)
{
    json_auto_t *command = json_object();
    json_auto_t *reply = NULL;
    g_autofree char *text = NULL;
    g_autofree char *answer = NULL;
    json_t *result = NULL;

    json_set_string(command, "execute", name);
    json_object_set_new(command, "arguments", arguments);
    text = json_text(command, 0);
    answer = domain_agent_command(domain, text, AGENT_TIMEOUT_S, error);
    reply = answer ? json_parse(answer, strlen(answer), "reply of the guest agent", error) : NULL;
    if (!reply || !json_need_object(reply, "return", &result, error))
        return NULL;
    return json_incref(result);
}

static bool begin(struct domain *domain, char *const *argv, uint64_t *pid, GError **error)
{
    json_t *arguments = json_object(), *rest = json_array();
    json_auto_t *result = NULL;

    json_set_string(arguments, "path", argv[0]);
    for (char *const *arg = argv + 1; *arg; arg++)
        json_array_append_new(rest, json_string(*arg));
    json_object_set_new(arguments, "arg", rest);
    json_object_set_new(arguments, "capture-output", json_true());
    result = agent_call(domain, "guest-exec", arguments, error);
    return result && json_need_u64(result, "pid", pid, error);
}

/* What it has written, as text: g_free. */
static char *output_of(const json_t *status)
{
    const char *data = json_get_string(status, "err-data");
    g_autofree char *bytes = NULL;
    g_autofree char *text = NULL;
    size_t len = 0;

    if (!data || !*data)
        data = json_get_string(status, "out-data");
    bytes = data ? (char *)g_base64_decode(data, &len) : NULL;
    text = g_utf8_make_valid(bytes ? bytes : "", (gssize)len);
    return g_strdup(g_strstrip(text));
}

/* STATUS is that of a command that has ended. */
static bool judge(const json_t *status, const char *what, GError **error)
{
    const json_t *signal = json_object_get(status, "signal");
    json_int_t code = json_integer_value(json_object_get(status, "exitcode"));
    g_autofree char *output = output_of(status);

    if (signal)
        return fail(error, ERROR_HYPERVISOR, "%s in the guest: killed by signal %d", what,
                    (int)json_integer_value(signal));
    return code == 0 || fail(error, ERROR_HYPERVISOR, "%s in the guest: exit status %d%s%s", what,
                             (int)code, *output ? ": " : "", output);
}

static bool wait_for_end(struct domain *domain, uint64_t pid, const char *what, int64_t timeout_ms,
                         GError **error)
{
    int64_t deadline_ms = time_monotonic_ms() + timeout_ms;

    do {
        json_t *arguments = json_object();
        json_auto_t *status = NULL;
        bool exited = false;

        json_set_u64(arguments, "pid", pid);
        status = agent_call(domain, "guest-exec-status", arguments, error);
        if (!status || !json_need_bool(status, "exited", &exited, error))
            return false;
        if (exited)
            return judge(status, what, error);
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

    if (begin(domain, argv, &pid, error))
        return wait_for_end(domain, pid, what, timeout_ms, error);
    g_prefix_error(error, "cannot run %s in the guest: ", what);
    return false;
}
