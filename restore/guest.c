/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/guest.h"

#include <string.h>

#include "restore/guest-run.h"

#define ASK_MS 10000         /* what a guest asks itself may take that long */
#define READ_BYTES (1 << 20) /* of a file in the guest, a call */
#define READ_CALLS_MAX 16

/* ---- Asking */

/* The "return" of COMMAND with ARGUMENTS, which are taken over; NULL: it does not say. */
static json_t *ask(struct domain *domain, const char *command, json_t *arguments)
{
    return domain_agent_call(domain, command, arguments, AGENT_TIMEOUT_S, NULL);
}

bool guest_has_agent(struct domain *domain)
{
    g_autofree char *text = domain_xml(domain, DOMAIN_XML_LIVE, NULL);
    AUTO(xml) xml = text ? xml_parse(text, "definition", NULL) : NULL;

    return xml && xml_find(xml_root(xml), "devices/channel/target[@name='org.qemu.guest_agent.0']");
}

/* Add what is left of the file that HANDLE is of. */
static bool read_rest(struct domain *domain, json_int_t handle, GString *content)
{
    for (unsigned i = 0; i < READ_CALLS_MAX; i++) {
        json_auto_t *piece = ask(domain, "guest-file-read",
                                 json_pack("{sIsi}", "handle", handle, "count", READ_BYTES));
        const char *encoded = piece ? json_get_string(piece, "buf-b64") : NULL;
        g_autofree guchar *bytes = NULL;
        gsize len = 0;

        if (!encoded)
            return false;
        bytes = g_base64_decode(encoded, &len);
        g_string_append_len(content, (const char *)bytes, (gssize)len);
        if (json_is_true(json_object_get(piece, "eof")) || len == 0)
            return true;
    }
    return true;
}

/* NULL when it cannot be had; g_free. */
static char *read_file(struct domain *domain, const char *path)
{
    json_auto_t *handle =
        ask(domain, "guest-file-open", json_pack("{ssss}", "path", path, "mode", "r"));
    g_autoptr(GString) content = g_string_new(NULL);
    json_auto_t *closed = NULL;
    bool good;

    if (!json_is_integer(handle))
        return NULL;
    good = read_rest(domain, json_integer_value(handle), content);
    closed =
        ask(domain, "guest-file-close", json_pack("{sI}", "handle", json_integer_value(handle)));
    return good ? g_strdup(content->str) : NULL;
}

/* ---- Facts */

static void tell_addresses(struct domain *domain, json_t *facts)
{
    g_auto(GStrv) addresses = domain_addresses(domain, NULL);
    json_t *list = json_array();

    for (char **address = addresses; address && *address; address++)
        json_array_append_new(list, json_string(*address));
    json_object_set_new(facts, "addresses", list);
}

static void tell_time(struct domain *domain, json_t *facts)
{
    json_auto_t *time = ask(domain, "guest-get-time", NULL);
    int64_t ms = json_is_integer(time) ? (int64_t)(json_integer_value(time) / 1000000) : 0;
    g_autofree char *text = ms ? time_format(ms) : NULL;

    json_set_string(facts, "time", text);
    if (ms)
        json_set_real(facts, "clock_difference_seconds", (double)(ms - time_now_ms()) / 1000);
    else
        json_set_string(facts, "clock_difference_seconds", NULL);
}

json_t *guest_facts(struct domain *domain)
{
    json_auto_t *name = NULL;
    json_auto_t *os = NULL;
    json_t *facts;

    if (!domain_agent_ping(domain, AGENT_TIMEOUT_S, NULL))
        return NULL;
    name = ask(domain, "guest-get-host-name", NULL);
    os = ask(domain, "guest-get-osinfo", NULL);
    facts = json_object();
    json_set_string(facts, "hostname", name ? json_get_string(name, "host-name") : NULL);
    json_set_string(facts, "os", os ? json_get_string(os, "pretty-name") : NULL);
    json_set_string(facts, "kernel", os ? json_get_string(os, "kernel-release") : NULL);
    tell_addresses(domain, facts);
    tell_time(domain, facts);
    return facts;
}

/* ---- Who listens? */

enum listening { LISTENING_NO, LISTENING_YES, LISTENING_UNKNOWN };

/* As the kernel writes them: words of the address in the guest's byte order, which is little-endian
 * wherever it matters. */
static bool is_loopback(const char *hex)
{
    size_t len = strlen(hex);

    return (len == 8 && g_str_has_suffix(hex, "7F")) ||
           strcmp(hex, "00000000000000000000000001000000") == 0;
}

/* A line of /proc/net/tcp: "  0: 00000000:0050 00000000:0000 0A ...", where 0A is LISTEN. */
static bool line_listens(const char *line, unsigned port)
{
    g_auto(GStrv) words = g_regex_split_simple("\\s+", line, 0, 0);
    g_auto(GStrv) local = NULL;
    unsigned first = words[0] && !*words[0] ? 1 : 0;

    if (g_strv_length(words) < first + 4 || strcmp(words[first + 3], "0A") != 0)
        return false;
    local = g_strsplit(words[first + 1], ":", 2);
    return g_strv_length(local) == 2 && g_ascii_strtoull(local[1], NULL, 16) == port &&
           !is_loopback(local[0]);
}

static enum listening listens(struct domain *domain, unsigned port)
{
    static const char *const tables[] = {"/proc/net/tcp", "/proc/net/tcp6"};
    enum listening found = LISTENING_UNKNOWN;

    for (unsigned i = 0; i < G_N_ELEMENTS(tables); i++) {
        g_autofree char *text = read_file(domain, tables[i]);
        g_auto(GStrv) lines = text ? g_strsplit(text, "\n", -1) : NULL;

        if (text)
            found = LISTENING_NO;
        for (char **line = lines; line && *line; line++)
            if (line_listens(*line, port))
                return LISTENING_YES;
    }
    return found;
}

/* ---- Does it answer? */

/* Prints a status of HTTP, alone or in a line as servers send it. (Static wgets crash by their own -T.) */
#define ASK_SCRIPT                                                                                 \
    "if command -v curl >/dev/null; then exec curl -s -o /dev/null -m 8 -w '%{http_code}' "        \
    "\"$1\"; fi; command -v wget >/dev/null || exit 127; "                                         \
    "exec timeout 8 wget -S -O /dev/null \"$1\" 2>&1"
#define NO_SUCH_COMMAND 127

/* Of "200", or of the first line like "HTTP/1.1 200 OK"; 0: there is none. */
static unsigned status_in(const char *output)
{
    const char *line = output ? strstr(output, "HTTP/") : NULL;
    const char *number = line ? strchr(line, ' ') : output;

    return number ? (unsigned)g_ascii_strtoull(number, NULL, 10) : 0;
}

/* What the guest gets from itself at ADDRESS; 0: no answer. False when it has nothing to ask with. */
static bool http_status(const struct vapp_vm *vm, struct domain *domain, const char *address,
                        unsigned *status)
{
    bool is_v6 = strchr(address, ':') != NULL;
    g_autofree char *url = g_strdup_printf("http://%s%s%s:%u%s", is_v6 ? "[" : "", address,
                                           is_v6 ? "]" : "", vm->ready_port, vm->ready_path);
    char *const argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)ASK_SCRIPT,
                          (char *)"sh",      url,          NULL};
    struct domain_exec_end end = {0};
    uint64_t pid;
    bool good;

    *status = 0;
    if (!domain_exec(domain, argv, AGENT_TIMEOUT_S, &pid, NULL))
        return false;
    /* What takes too long gives no answer. */
    good = !guest_wait_end(domain, pid, ASK_MS, &end, NULL) || end.status != NO_SUCH_COMMAND;
    *status = good ? status_in(end.output) : 0;
    g_free(end.output);
    return good;
}

/* A guest need not have an address in a bubble, where nothing gives it one. */
static bool ask_http(const struct vapp_vm *vm, struct domain *domain, unsigned *status)
{
    g_auto(GStrv) addresses = domain_addresses(domain, NULL);
    bool can_ask = http_status(vm, domain, "127.0.0.1", status);

    for (char **address = addresses; can_ask && *status == 0 && address && *address; address++)
        if (!g_str_has_prefix(*address, "fe80:"))
            can_ask = http_status(vm, domain, *address, status);
    return can_ask;
}

/* One look from inside. *SEEN (g_free) is said of the VM. */
static enum listening look_inside(const struct vapp_vm *vm, struct domain *domain, char **seen)
{
    enum listening found = listens(domain, vm->ready_port);
    unsigned status;

    if (found == LISTENING_UNKNOWN)
        *seen = g_strdup_printf("its guest agent answers, but does not tell whether anything "
                                "listens on TCP port %u",
                                vm->ready_port);
    else if (found == LISTENING_NO)
        *seen = g_strdup_printf("its guest agent says that nothing listens on TCP port %u",
                                vm->ready_port);
    else if (vm->ready == READY_TCP)
        *seen = g_strdup_printf("listens on TCP port %u, says its guest agent", vm->ready_port);
    if (found != LISTENING_YES || vm->ready == READY_TCP)
        return found;
    if (!ask_http(vm, domain, &status)) {
        *seen = g_strdup_printf("listens on TCP port %u, but cannot ask itself for %s: its agent "
                                "runs no commands, or it has neither curl nor wget",
                                vm->ready_port, vm->ready_path);
        return LISTENING_UNKNOWN;
    }
    *seen = status ? g_strdup_printf("gets status %u for %s at port %u from itself", status,
                                     vm->ready_path, vm->ready_port)
                   : g_strdup_printf("gets no answer for %s at port %u from itself", vm->ready_path,
                                     vm->ready_port);
    return status == vm->ready_status ? LISTENING_YES : LISTENING_NO;
}

/* ---- Ready? */

/* Is it the network by which its rule looks at it? */
static bool needs_network(const struct vapp_vm *vm)
{
    return vm->ready == READY_TCP || vm->ready == READY_HTTP;
}

static bool is_running(struct domain *domain)
{
    enum domain_state state;

    return domain_state(domain, &state, NULL) && state == DOMAIN_RUNNING;
}

static bool fail_gone(const struct vapp_vm *vm, GError **error)
{
    return fail(error, ERROR_HYPERVISOR, "VM '%s' is not ready: it does not run any more",
                vm->name);
}

static bool wait_for_agent(const struct vapp_vm *vm, struct domain *domain, GError **error)
{
    struct vapp_vm by_agent = *vm;

    by_agent.ready = READY_AGENT;
    return vapp_wait_ready(&by_agent, domain, error);
}

/* The rule asks for more, or for nothing, but an agent may tell. *CAN_ASK: it answers. */
static bool find_agent(const struct vapp_vm *vm, struct domain *domain, bool *can_ask, char **seen,
                       GError **error)
{
    g_autoptr(GError) cause = NULL;

    *can_ask = false;
    if (!guest_has_agent(domain)) {
        *seen = g_strdup("it has no guest agent");
        return true;
    }
    *can_ask = wait_for_agent(vm, domain, &cause);
    if (*can_ask)
        return true;
    if (error_is(cause, ERROR_CANCELLED) || !is_running(domain)) {
        g_propagate_error(error, g_steal_pointer(&cause));
        return false;
    }
    *seen = g_strdup("its guest agent does not answer");
    return true;
}

static bool pause_for(int64_t ms, GError **error)
{
    int64_t end_ms = time_monotonic_ms() + ms;

    do {
        if (!guest_pause(error))
            return false;
    } while (time_monotonic_ms() < end_ms);
    return true;
}

static bool wait_inside(const struct vapp_vm *vm, struct domain *domain, int64_t deadline_ms,
                        enum proof_verdict *verdict, char **seen, GError **error)
{
    for (unsigned looks = 1;; looks++) {
        g_autofree char *now = NULL;
        enum listening found = look_inside(vm, domain, &now);

        if (!is_running(domain))
            return fail_gone(vm, error);
        if (found != LISTENING_NO) {
            *verdict = found == LISTENING_YES ? PROOF_PASSED : PROOF_UNPROVEN;
            *seen = g_steal_pointer(&now);
            return true;
        }
        if (time_monotonic_ms() >= deadline_ms || looks > vm->ready_retries)
            return fail(error, ERROR_HYPERVISOR, "VM '%s' is not ready: %s", vm->name, now);
        if (!pause_for(vm->ready_interval_ms, error))
            return false;
    }
}

bool guest_wait_ready(const struct vapp_vm *vm, struct domain *domain, enum proof_verdict *verdict,
                      char **seen, GError **error)
{
    int64_t deadline_ms = time_monotonic_ms() + vm->ready_timeout_ms;
    g_autofree char *why_not = NULL;
    bool can_ask;

    *verdict = PROOF_PASSED;
    if (!needs_network(vm) && vm->ready != READY_NONE) {
        if (!vapp_wait_ready(vm, domain, error))
            return false;
        *seen = g_strdup_printf("it is ready by its rule, %s", vm->ready_text);
        return true;
    }
    if (!find_agent(vm, domain, &can_ask, &why_not, error))
        return false;
    if (can_ask && needs_network(vm))
        return wait_inside(vm, domain, deadline_ms, verdict, seen, error);
    if (can_ask) {
        *seen = g_strdup("its guest agent answers");
        return true;
    }
    /* That is all that can be seen of it. */
    if (!is_running(domain))
        return fail_gone(vm, error);
    *verdict = PROOF_UNPROVEN;
    *seen = needs_network(vm)
                ? g_strdup_printf("%s, and nobody outside of the bubble can see TCP port %u",
                                  why_not, vm->ready_port)
                : g_strdup_printf("%s: that it runs is all that can be seen", why_not);
    return true;
}
