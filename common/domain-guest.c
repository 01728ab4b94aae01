/* SPDX-License-Identifier: Apache-2.0 */
/* The guest half of host.h: commands that its agent runs, and what it prints on its console. */
#include <string.h>

#include "common/error.h"
#include "common/host-private.h"

/* --- commands -------------------------------------------------------------------------------- */

static json_t *exec_arguments(char *const *argv)
{
    json_t *arguments = json_object();
    json_t *rest = json_array();

    json_set_string(arguments, "path", argv[0]);
    for (char *const *arg = argv + 1; *arg; arg++)
        json_array_append_new(rest, json_string(*arg));
    json_object_set_new(arguments, "arg", rest);
    json_object_set_new(arguments, "capture-output", json_true());
    return arguments;
}

json_t *domain_agent_call(struct domain *domain, const char *name, json_t *arguments,
                          unsigned timeout_s, GError **error)
{
    json_auto_t *command = json_object(), *reply = NULL;
    g_autofree char *text = NULL;
    g_autofree char *answer = NULL;
    json_t *result;

    json_set_string(command, "execute", name);
    if (arguments)
        json_object_set_new(command, "arguments", arguments);
    text = json_text(command, 0);
    answer = domain_agent_command(domain, text, timeout_s, error);
    reply = answer ? json_parse(answer, strlen(answer), "reply of the guest agent", error) : NULL;
    if (!reply)
        return NULL;
    result = json_object_get(reply, "return");
    if (!result)
        fail(error, ERROR_INTEGRITY, "the reply of the guest agent to %s returns nothing", name);
    return json_incref(result);
}

bool domain_exec(struct domain *domain, char *const *argv, unsigned timeout_s, uint64_t *pid,
                 GError **error)
{
    json_auto_t *result =
        domain_agent_call(domain, "guest-exec", exec_arguments(argv), timeout_s, error);

    return result && json_need_u64(result, "pid", pid, error);
}

/* The text in member KEY, which is base64; NULL when there is none. g_free. */
static char *decoded(const json_t *result, const char *key)
{
    const char *data = json_get_string(result, key);
    g_autofree unsigned char *bytes = NULL;
    size_t len = 0;

    if (!data || !*data)
        return NULL;
    bytes = g_base64_decode(data, &len);
    return g_utf8_make_valid((const char *)bytes, (gssize)len);
}

static int exit_status(const json_t *result)
{
    const json_t *signal = json_object_get(result, "signal");

    return signal ? 128 + (int)json_integer_value(signal)
                  : (int)json_integer_value(json_object_get(result, "exitcode"));
}

bool domain_exec_poll(struct domain *domain, uint64_t pid, unsigned timeout_s,
                      struct domain_exec_end *end, GError **error)
{
    json_t *arguments = json_object();
    json_auto_t *result = NULL;
    bool over;

    json_set_u64(arguments, "pid", pid);
    result = domain_agent_call(domain, "guest-exec-status", arguments, timeout_s, error);
    if (!result || !json_need_bool(result, "exited", &over, error))
        return false;
    end->over = over;
    if (!over)
        return true;
    end->status = exit_status(result);
    end->output = decoded(result, "err-data");
    if (!end->output)
        end->output = decoded(result, "out-data");
    return true;
}

/* --- the console ----------------------------------------------------------------------------- */

struct domain_console {
    struct host *host; /* keeps the connection */
    virStreamPtr stream;
};

void domain_console_free(struct domain_console *console)
{
    if (!console)
        return;
    virStreamAbort(console->stream);
    virStreamFree(console->stream);
    host_free(console->host);
    g_free(console);
}

struct domain_console *domain_console_open(struct domain *domain, GError **error)
{
    virStreamPtr stream = virStreamNew(domain->host->connection, VIR_STREAM_NONBLOCK);
    struct domain_console *console;

    if (!stream) {
        domain_fail(domain, error, "make a stream for the console of");
        return NULL;
    }
    if (virDomainOpenConsole(domain->handle, NULL, stream, 0) < 0) {
        domain_fail(domain, error, "open the console of");
        virStreamFree(stream);
        return NULL;
    }
    console = g_new0(struct domain_console, 1);
    g_atomic_ref_count_inc(&domain->host->refs);
    console->host = domain->host;
    console->stream = stream;
    return console;
}

bool domain_console_read(struct domain_console *console, char *data, size_t size, size_t *len,
                         GError **error)
{
    int got = virStreamRecv(console->stream, data, size);

    if (got == 0)
        return fail(error, ERROR_HYPERVISOR, "the console was closed");
    if (got == -1)
        return host_fail(console->host, error, "read the console of a domain");
    *len = got > 0 ? (size_t)got : 0; /* -2: nothing yet */
    return true;
}
