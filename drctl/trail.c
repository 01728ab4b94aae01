/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/trail.h"

#include <string.h>
#include <unistd.h>

#define COMMAND_TEXT_MAX 4096
#define ERROR_TEXT_MAX 1024
#define SSH_TEXT_MAX 1024
#define PROC_TEXT_MAX 64
#define KEY_FILE_MAX 65536

/* --- who, and from where --------------------------------------------------------------------- */

/* Who has logged in, whoever he has become since; NULL: nobody has. g_free */
static char *login_uid(void)
{
    char *text = NULL;

    if (!file_read("/proc/self/loginuid", PROC_TEXT_MAX, &text, NULL, NULL))
        return NULL;
    g_strstrip(text);
    /* (uid_t)-1 */
    if (g_str_equal(text, "4294967295"))
        g_clear_pointer(&text, g_free);
    return text;
}

static void set_harmless(json_t *json, const char *key, const char *text, size_t max)
{
    g_autofree char *harmless = text ? text_harmless(text, max) : NULL;

    if (harmless)
        json_set_string(json, key, harmless);
}

/* "192.0.2.7" of "192.0.2.7 51812 192.0.2.1 22" */
static void set_from(json_t *json)
{
    const char *ssh = g_getenv("SSH_CONNECTION");
    g_autofree char *address = ssh ? g_strndup(ssh, strcspn(ssh, " ")) : NULL;

    set_harmless(json, "from", address ? address : ttyname(STDIN_FILENO), SSH_TEXT_MAX);
    set_harmless(json, "asked_from", g_getenv(TRAIL_ASKED_FROM), SSH_TEXT_MAX);
    set_harmless(json, "ssh_command", g_getenv("SSH_ORIGINAL_COMMAND"), SSH_TEXT_MAX);
}

/* Where sshd has ExposeAuthInfo, it tells the key. */
static void set_key(json_t *json)
{
    const char *path = g_getenv("SSH_USER_AUTH");
    g_autofree char *text = NULL;

    if (path && file_read(path, KEY_FILE_MAX, &text, NULL, NULL))
        set_harmless(json, "ssh_auth", g_strstrip(text), SSH_TEXT_MAX);
}

static json_t *who(void)
{
    json_t *json = json_object();
    g_autofree char *login = login_uid();

    json_set_u64(json, "uid", getuid());
    json_set_string(json, "user", g_get_user_name());
    set_harmless(json, "sudo_user", g_getenv("SUDO_USER"), SSH_TEXT_MAX);
    if (login)
        json_set_string(json, "login_uid", login);
    set_from(json);
    set_key(json);
    json_set_u64(json, "pid", (uint64_t)getpid());
    return json;
}

/* --- what ------------------------------------------------------------------------------------ */

/* No option of any command is a secret: these are read from files. g_free */
static char *command_text(const struct context *context)
{
    g_autofree char *line = command_line(context, false);

    return text_harmless(line, COMMAND_TEXT_MAX);
}

/* --- the log --------------------------------------------------------------------------------- */

/* Where the log is; NULL: this is no site yet. A server may have a store that is no site's. */
static const char *log_store(struct context *context)
{
    const struct config *config = context_config(context, NULL);

    return config                                         ? config->store
           : g_str_equal(context->command->name, "serve") ? option_value(context, "store")
                                                          : NULL;
}

/* Takes FACTS. */
static void append(struct context *context, struct trail *trail, json_t *facts, uint64_t *seq)
{
    json_auto_t *entry = who();
    g_autofree char *command = command_text(context);
    const char *store = log_store(context);
    g_autoptr(GError) why = NULL;

    json_set_string(entry, "command", command);
    json_object_update_missing(entry, facts);
    json_decref(facts);
    if (!store || audit_append(store, entry, seq, &why))
        return;
    if (!trail->told)
        progress_note(context->progress, "the audit log lacks this command: %s", why->message);
    trail->told = true;
}

static bool is_audited(const struct context *context, unsigned flags)
{
    return context->command->flags & flags && !option_set(context, "dry-run");
}

void trail_begin(struct context *context, struct trail *trail)
{
    *trail = (struct trail){.began_ms = time_monotonic_ms()};
    if (!is_audited(context, COMMAND_CHANGES) || !log_store(context))
        return;
    append(context, trail, json_pack("{s:s}", "event", "began"), &trail->seq);
}

void trail_end(struct context *context, struct trail *trail, const GError *error)
{
    g_autofree char *run = run_latest();
    json_t *facts;

    if (!is_audited(context, COMMAND_CHANGES) &&
        !(is_audited(context, COMMAND_OFTEN) && (run || error)))
        return;
    facts = json_pack("{s:s}", "event", "ended");
    if (trail->seq)
        json_set_u64(facts, "began", trail->seq);
    json_set_string(facts, "result", error ? error_kind_name(error_kind_of(error)) : "done");
    json_set_u64(facts, "exit", error_exit_status(error));
    if (error)
        set_harmless(facts, "error", error->message, ERROR_TEXT_MAX);
    if (run)
        json_set_string(facts, "run", run);
    json_set_real(facts, "seconds", (double)(time_monotonic_ms() - trail->began_ms) / 1000);
    if (context->outcome)
        json_object_set(facts, "outcome", context->outcome);
    append(context, trail, facts, NULL);
}
