/* SPDX-License-Identifier: Apache-2.0 */
/*
 * COMMAND: a drctl command that another site runs here. The child is this program anew, in a process
 * group of its own, which ends when the session does. What may be asked for stands in one table; no word
 * of the other side reaches a command that is not the name of a VM, vApp or site.
 */
#include <inttypes.h>
#include <string.h>

#include "replicator/session.h"

#define SAID_MS 5000 /* silence after which we say that the command still runs */
#define ERROR_PREFIX "drctl: "
#define LINE_MAX_BYTES 2000

static const struct permitted {
    const char *command; /* its words */
    unsigned min, max;   /* names behind it */
    const char *option;  /* that must be there, with the name of a site; or NULL */
    const char *added;   /* to what is asked for, or NULL */
} permitted[] = {
    {"vapp status", 1, 1, NULL, NULL},
    {"vapp stop", 1, 1, NULL, NULL},
    {"vapp start", 1, 1, NULL, NULL},
    /* Who could have many points made would drop the older ones by that. */
    {"replicate", 1, COMMAND_ARGS_MAX, "--to", "--keep-all"},
    /* Nobody is here who could be asked. */
    {"fence", 1, 1, NULL, "--yes"},
};

/* --- What is permitted ---------------------------------------------------------------------- */

/* How many words of ARGS are COMMAND, or 0. */
static unsigned words_of(const char *command, char *const *args)
{
    g_auto(GStrv) words = g_strsplit(command, " ", -1);
    unsigned n = 0;

    for (; words[n]; n++)
        if (!args[n] || strcmp(words[n], args[n]) != 0)
            return 0;
    return n;
}

static bool check_rest(const struct permitted *rule, char *const *rest, GError **error)
{
    bool complete = !rule->option;
    unsigned names = 0;

    for (; *rest; rest++) {
        if (!complete && strcmp(*rest, rule->option) == 0 && rest[1] &&
            site_name_is_valid(rest[1])) {
            complete = true;
            rest++;
        } else if (**rest != '-' && vm_name_is_valid(*rest))
            names++;
        else
            return fail(error, ERROR_AUTH, "COMMAND: %s with these arguments is not permitted",
                        rule->command);
    }
    if (!complete)
        return fail(error, ERROR_AUTH, "COMMAND: %s without %s is not permitted", rule->command,
                    rule->option);
    return (names >= rule->min && names <= rule->max) ||
           fail(error, ERROR_AUTH, "COMMAND: %s with %u names is not permitted", rule->command,
                names);
}

/* The rule that ARGS keep to, or NULL. */
static const struct permitted *find_rule(char *const *args, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(permitted); i++) {
        unsigned n = words_of(permitted[i].command, args);

        if (n)
            return check_rest(&permitted[i], args + n, error) ? &permitted[i] : NULL;
    }
    fail(error, ERROR_AUTH,
         "COMMAND: this is none of the commands that other sites may run here; drctl-store(5) "
         "lists them");
    return NULL;
}

/* g_strfreev; ERROR_INTEGRITY if they are not even words. */
static char **read_args(const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);
    g_autoptr(GStrvBuilder) args = g_strv_builder_new();
    json_t *list, *entry;
    size_t i;

    if (!request || !json_need_array(request, "args", &list, error))
        return NULL;
    if (json_array_size(list) == 0 || json_array_size(list) > COMMAND_ARGS_MAX) {
        fail(error, ERROR_INTEGRITY, "COMMAND with %zu arguments", json_array_size(list));
        return NULL;
    }
    json_array_foreach(list, i, entry)
    {
        const char *text = json_string_value(entry);

        if (!text || !*text || json_string_length(entry) > COMMAND_ARG_MAX ||
            strlen(text) != json_string_length(entry)) {
            fail(error, ERROR_INTEGRITY, "COMMAND: argument %zu is not a word", i);
            return NULL;
        }
        g_strv_builder_add(args, text);
    }
    return g_strv_builder_end(args);
}

/* --- While it runs -------------------------------------------------------------------------- */

struct command {
    struct session *session;
    uint32_t request;
    int64_t said_ms, heard_ms;
    bool over;   /* what failed is the session, not the command */
    char *error; /* the program's last word, or NULL */
};

static bool say(struct command *self, const char *text, GError **error)
{
    g_autofree char *harmless = text ? text_harmless(text, LINE_MAX_BYTES) : NULL;
    json_t *object = json_object();

    json_set_string(object, "text", harmless);
    self->said_ms = time_monotonic_ms();
    self->over = !wire_send_json(self->session->wire, WIRE_NOTE, self->request, object, error);
    return !self->over;
}

static bool take_line(void *context, const char *line, GError **error)
{
    struct command *self = context;

    if (!g_str_has_prefix(line, ERROR_PREFIX))
        return say(self, line, error);
    g_free(self->error);
    self->error = text_harmless(line + strlen(ERROR_PREFIX), LINE_MAX_BYTES);
    return true;
}

/* Is the other side still there? It answers what we say with PING. */
static bool look(void *context, GError **error)
{
    struct command *self = context;
    struct frame frame;
    enum link_state state = wire_receive(self->session->wire, 0, &frame, error);
    int64_t now = time_monotonic_ms();

    self->over = true;
    if (state == LINK_FAILED)
        return false;
    if (state == LINK_END)
        return fail(error, ERROR_NETWORK, "the other side hung up while its command ran");
    if (state == LINK_DATA && frame.type != WIRE_PING)
        return session_out_of_order(&frame, "a command is running", error);
    if (state == LINK_DATA)
        self->heard_ms = now;
    if (now - self->heard_ms > self->session->idle_ms)
        return fail(error, ERROR_NETWORK, "the other side was silent for %d s",
                    self->session->idle_ms / 1000);
    self->over = false;
    return now - self->said_ms < SAID_MS || say(self, NULL, error);
}

/* --- The answer ----------------------------------------------------------------------------- */

static bool answer(struct command *self, const char *output, int status, GError **error)
{
    struct wire *wire = self->session->wire;
    size_t len = strlen(output);
    json_t *object = json_object();

    for (size_t at = 0; at < len; at += STORE_WRITE_MAX)
        if (!wire_send_bytes(wire, self->request, 0, at, (const uint8_t *)output + at,
                             MIN(len - at, STORE_WRITE_MAX), error)) {
            json_decref(object);
            return false;
        }
    json_set_u64(object, "bytes", len);
    json_set_u64(object, "exit", (uint64_t)status);
    json_set_string(object, "error", status ? self->error : NULL);
    return session_ok(self->session, self->request, object, error);
}

static bool run(struct command *self, char *const *args, const struct permitted *rule,
                GError **error)
{
    struct process_watch watch = {
        .output_max = COMMAND_OUTPUT_MAX, .line = take_line, .look = look, .context = self};
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autofree char *output = NULL;
    GError *why = NULL;
    int status;

    for (const char *const *word = self->session->commander; *word; word++)
        g_ptr_array_add(argv, (char *)*word);
    for (char *const *word = args; *word; word++)
        g_ptr_array_add(argv, *word);
    g_ptr_array_add(argv, (char *)"--json");
    if (rule->added)
        g_ptr_array_add(argv, (char *)rule->added);
    g_ptr_array_add(argv, NULL);
    if (process_watch((const char *const *)argv->pdata, &watch, &output, &status, &why))
        return answer(self, output, status, error);
    if (!self->over)
        return session_refuse(self->session, self->request, why, error);
    g_propagate_error(error, why);
    return false;
}

bool handle_command(struct session *self, const struct frame *frame, GError **error)
{
    g_auto(GStrv) args = read_args(frame, error);
    struct command command = {.session = self,
                              .request = frame->request,
                              .said_ms = time_monotonic_ms(),
                              .heard_ms = time_monotonic_ms()};
    const struct permitted *rule = NULL;
    GError *why = NULL;
    bool good;

    if (!args)
        return false;
    if (self->point_request || self->bundle_request)
        return session_out_of_order(frame, "something is arriving", error);
    if (!self->commander)
        fail(&why, ERROR_AUTH,
             "COMMAND is refused: this key may not run commands here (drctl serve --operator)");
    else
        rule = find_rule(args, &why);
    if (!rule)
        return session_refuse(self, command.request, why, error);
    good = run(&command, args, rule, error);
    g_free(command.error);
    return good;
}
