/* SPDX-License-Identifier: Apache-2.0 */
/* The value of `ready`. */
#include <string.h>

#include "vapp/definition.h"

#define DEFAULT_STATUS 200

/* The rest of TEXT behind PREFIX, or NULL. */
static const char *behind(const char *text, const char *prefix)
{
    return g_str_has_prefix(text, prefix) ? text + strlen(prefix) : NULL;
}

static bool port_parse(const char *text, uint16_t *port)
{
    uint64_t number;

    if (!g_ascii_string_to_unsigned(text, 10, 1, UINT16_MAX, &number, NULL))
        return false;
    *port = (uint16_t)number;
    return true;
}

#define PORT_PROBLEM "the port is not a number from 1 to 65535"

static bool tcp_parse(const char *rest, struct vapp_vm *vm, const char **problem)
{
    vm->ready = READY_TCP;
    if (port_parse(rest, &vm->ready_port))
        return true;
    *problem = PORT_PROBLEM;
    return false;
}

/* What goes into the request line ends nowhere but at its end. */
static bool path_is_good(const char *path)
{
    for (const char *c = path; *c; c++)
        if (!g_ascii_isgraph(*c))
            return false;
    return true;
}

/* "PORT", "PORT/PATH", "PORT/PATH=STATUS": a path may have a = itself, so the status is what stands
 * behind the last one, if it is a number of three digits. */
static bool http_parse(const char *rest, struct vapp_vm *vm, const char **problem)
{
    g_autofree char *port = g_strndup(rest, strcspn(rest, "/="));
    g_autofree char *path = g_strdup(rest + strlen(port));
    char *equals = strrchr(path, '=');
    uint64_t status = DEFAULT_STATUS;

    vm->ready = READY_HTTP;
    if (!port_parse(port, &vm->ready_port)) {
        *problem = PORT_PROBLEM;
        return false;
    }
    if (equals && strlen(equals) == 4 &&
        g_ascii_string_to_unsigned(equals + 1, 10, 100, 599, &status, NULL))
        *equals = '\0';
    if (!path_is_good(path) || (*path && *path != '/')) {
        *problem = "behind the port comes /PATH without blanks, then = and a status such as 200";
        return false;
    }
    vm->ready_path = g_strdup(*path ? path : "/");
    vm->ready_status = (unsigned)status;
    return true;
}

static bool command_parse(const char *rest, struct vapp_vm *vm, const char **problem)
{
    vm->ready = READY_COMMAND;
    if (g_shell_parse_argv(rest, NULL, &vm->ready_command, NULL))
        return true;
    *problem = "there is no command, or a quotation mark is missing";
    return false;
}

/* Guests print any bytes. */
static bool log_parse(const char *rest, struct vapp_vm *vm, const char **problem)
{
    vm->ready = READY_LOG;
    vm->ready_regex = *rest ? g_regex_new(rest, G_REGEX_RAW | G_REGEX_OPTIMIZE, 0, NULL) : NULL;
    if (vm->ready_regex)
        return true;
    *problem = "it is not a regular expression (Perl's syntax)";
    return false;
}

bool ready_rule_parse(const char *text, struct vapp_vm *vm, char **problem)
{
    static const struct {
        const char *prefix;
        bool (*parse)(const char *rest, struct vapp_vm *vm, const char **problem);
    } kinds[] = {
        {"tcp:", tcp_parse},
        {"http:", http_parse},
        {"command:", command_parse},
        {"log:", log_parse},
    };
    const char *why = NULL;

    g_free(vm->ready_text);
    vm->ready_text = g_strdup(text);
    if (strcmp(text, "none") == 0)
        return true;
    if (strcmp(text, "agent") == 0) {
        vm->ready = READY_AGENT;
        return true;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        const char *rest = behind(text, kinds[i].prefix);

        if (rest && kinds[i].parse(rest, vm, &why))
            return true;
        if (rest)
            break;
    }
    *problem = g_strdup_printf(
        "'%s'%s%s", text, why ? ": " : " is not one of agent, tcp:PORT, http:PORT/PATH=STATUS, ",
        why ? why : "command:COMMAND, log:REGEX, none");
    return false;
}

void ready_rule_clear(struct vapp_vm *vm)
{
    g_free(vm->ready_text);
    g_free(vm->ready_path);
    g_strfreev(vm->ready_command);
    g_clear_pointer(&vm->ready_regex, g_regex_unref);
}
