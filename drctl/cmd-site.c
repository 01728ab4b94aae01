/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"
#include "drctl/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PUBLIC_KEY_MAX 4096

/* --- site add -------------------------------------------------------------------------------- */

/* What the key may do at the other side: add and read points there, and, for an operator, what
 * drctl-store(5), COMMAND, permits; nothing else. */
static const char *serve_command(struct context *context)
{
    const char *command = option_value(context, "command");

    return command                           ? command
           : option_set(context, "operator") ? "drctl serve --append-only --operator"
                                             : "drctl serve --append-only";
}

/* The one line for the other side. */
static bool print_authorized_key(struct context *context, const struct remote *remote,
                                 GError **error)
{
    bool is_operator = option_set(context, "operator");
    g_autofree char *path = g_strconcat(remote->key, ".pub", NULL);
    g_autofree char *key = NULL;
    g_autofree char *store = remote->store ? g_shell_quote(remote->store) : NULL;

    if (!file_read(path, PUBLIC_KEY_MAX, &key, NULL, error))
        return false;
    fprintf(stderr,
            "\nPut this one line into ~%s/.ssh/authorized_keys on %s; it allows this site to add\n"
            "and read recovery points there, %sand nothing else:\n\n",
            remote->user, remote->name,
            is_operator ? "to start, stop and replicate VMs there,\n" : "");
    printf("restrict,command=\"%s%s%s\" %s\n", serve_command(context), store ? " --store " : "",
           store ? store : "", g_strstrip(key));
    fflush(stdout);
    fputc('\n', stderr);
    return true;
}

static bool confirm_host_key(struct context *context, const struct remote *remote,
                             const struct host_key *key, GError **error)
{
    const char *expected = option_value(context, "fingerprint");

    fprintf(stderr,
            "%s (%s, port %u) shows this %s host key:\n\n    %s\n\n"
            "Compare it with what the other site says:\n"
            "    ssh-keygen -lf %s\n\n",
            remote->name, remote->host, remote->port, key->type, key->fingerprint, key->file);
    if (expected && !g_str_equal(expected, key->fingerprint))
        return fail(error, ERROR_AUTH,
                    "the host key of %s is not %s; somebody may be in between: nothing was changed",
                    remote->host, expected);
    if (expected || option_set(context, "accept-key"))
        return true;
    return confirm("Is it the same? Type yes:", "yes", "--fingerprint SHA256:... (or --accept-key)",
                   error);
}

/* A site that is known already may be added again: that is how a new host key becomes trusted. */
static bool check_address(const struct config *config, const struct remote *remote, GError **error)
{
    const struct remote *known = config_remote(config, remote->name, NULL);

    if (!known || (g_str_equal(known->user, remote->user) &&
                   g_str_equal(known->host, remote->host) && known->port == remote->port))
        return true;
    return fail(error, ERROR_CONFLICT,
                "%s has a [remote %s] with another address: edit or remove it", config->path,
                remote->name);
}

static bool trust_host_key(struct context *context, const struct remote *remote, GError **error)
{
    AUTO(host_key) key = remote_host_key(remote, error);

    return key && confirm_host_key(context, remote, key, error) && remote_trust(remote, key, error);
}

/* The group is added once the key is trusted. */
static bool add_remote(struct context *context, const char *name, const char *address,
                       GError **error)
{
    const struct config *config = context->config;
    const struct remote *known = config_remote(config, name, NULL);
    struct remote remote = {.name = (char *)name};
    g_autofree char *user = NULL, *host = NULL;
    g_autofree char *known_hosts =
        known ? g_strdup(known->known_hosts) : g_build_filename(config->dir, "known_hosts", NULL);
    g_autofree char *key = g_build_filename(config->dir, SITE_KEY_FILE, NULL);

    if (!address_parse(address, &user, &host, &remote.port, error))
        return false;
    remote.user = user;
    remote.host = host;
    remote.known_hosts = known_hosts;
    remote.key = known ? known->key : key;
    return check_address(config, &remote, error) && trust_host_key(context, &remote, error) &&
           (known ||
            config_add_remote(config, name, address, option_value(context, "store"), error));
}

static bool reload_config(struct context *context, GError **error)
{
    g_clear_pointer(&context->config, config_free);
    return context_config(context, error) != NULL;
}

static bool test_link(const struct remote *remote, GError **error)
{
    AUTO(store) store = store_open_remote(remote, error);
    struct store_info info = {0};

    if (!store || !store_info(store, &info, error))
        return false;
    fprintf(stderr, "The link works: site %s, drctl %s.\n", info.site, info.version);
    store_info_clear(&info);
    return true;
}

/* The line cannot be there yet when the other side has just seen it for the first time. */
static bool test_link_when_ready(const struct remote *remote, GError **error)
{
    g_autoptr(GError) failure = NULL;

    if (isatty(STDIN_FILENO)) {
        fputs("Press Enter when it is there, and the link is tested. ", stderr);
        for (int c = 0; c != '\n' && c != EOF;)
            c = getchar();
        return interrupt_check(error) && test_link(remote, error);
    }
    if (!test_link(remote, &failure))
        fprintf(stderr,
                "The link does not work yet: %s\nWhen the line is there, test it with: drctl site "
                "check %s\n",
                failure->message, remote->name);
    return true;
}

static bool cmd_site_add(struct context *context, GError **error)
{
    const char *name = context->args[0];
    const struct remote *remote;

    if (!context_config(context, error))
        return false;
    if (option_set(context, "operator") && option_set(context, "command"))
        return fail(error, ERROR_USAGE,
                    "--operator and --command: write --operator into the command");
    if (!context->args[1] && !config_remote(context->config, name, error)) {
        g_prefix_error(error, "a new site needs an address: ");
        return false;
    }
    if (context->args[1] &&
        (!add_remote(context, name, context->args[1], error) || !reload_config(context, error)))
        return false;
    remote = config_remote(context->config, name, error);
    return remote && print_authorized_key(context, remote, error) &&
           test_link_when_ready(remote, error);
}

/* --- site check ------------------------------------------------------------------------------ */

#define CLOCK_TOLERANCE_MS 5000

static json_t *check_json(const struct remote *remote, const struct store_info *info,
                          int64_t difference_ms)
{
    json_int_t rate = (json_int_t)limit_rate(remote->limit, time_now_ms(), NULL);
    json_t *json = json_object();

    json_set_string(json, "remote", remote->name);
    json_set_string(json, "site", info->site);
    json_set_string(json, "store", info->uuid);
    json_set_string(json, "version", info->version);
    json_set_u64(json, "free_bytes", info->free_bytes);
    json_set_u64(json, "total_bytes", info->total_bytes);
    json_set_real(json, "clock_difference_seconds", (double)difference_ms / 1000);
    json_object_set_new(json, "limit_bytes_per_second", rate ? json_integer(rate) : json_null());
    return json;
}

static void print_check(const struct remote *remote, const struct store_info *info,
                        int64_t difference_ms, double seconds)
{
    g_autofree char *free_text = bytes_format(info->free_bytes);
    g_autofree char *total_text = bytes_format(info->total_bytes);
    g_autofree char *time = duration_format(seconds);
    const char *window;
    g_autofree char *rate = rate_format(limit_rate(remote->limit, time_now_ms(), &window));

    printf("%s: link works (%s, %s:%u, answered in %s)\n"
           "  site    %s, drctl %s\n"
           "  store   %s, %s free of %s\n"
           "  limit   %s%s%s\n"
           "  clock   %+.1f s%s\n",
           remote->name, remote->user, remote->host, remote->port, time, info->site, info->version,
           info->uuid, free_text, total_text, rate, window ? " now: " : "", window ? window : "",
           (double)difference_ms / 1000,
           ABS(difference_ms) > CLOCK_TOLERANCE_MS
               ? "  <- more than 5 s apart: ages of points will be wrong, set up NTP at both sites"
               : "");
}

static bool check_remote(struct context *context, const struct remote *remote, json_t *list,
                         GError **error)
{
    int64_t started = time_monotonic_ms();
    AUTO(store) store = store_open_remote(remote, error);
    struct store_info info = {0};
    int64_t asked = time_now_ms(), difference;

    if (!store || !store_info(store, &info, error))
        return false;
    difference = info.clock_ms - (asked + time_now_ms()) / 2;
    if (context->json)
        json_array_append_new(list, check_json(remote, &info, difference));
    else
        print_check(remote, &info, difference, (double)(time_monotonic_ms() - started) / 1000);
    store_info_clear(&info);
    return true;
}

static bool check_all(struct context *context, json_t *list, GError **error)
{
    const struct config *config = context->config;
    unsigned failed = 0;

    for (unsigned i = 0; i < config->remotes->len; i++) {
        const struct remote *remote = config->remotes->pdata[i];
        g_autoptr(GError) failure = NULL;

        if (check_remote(context, remote, list, &failure))
            continue;
        failed++;
        if (g_str_has_prefix(failure->message, remote->name))
            fprintf(stderr, "%s\n", failure->message);
        else
            fprintf(stderr, "%s: %s\n", remote->name, failure->message);
    }
    if (config->remotes->len == 0)
        return fail(error, ERROR_CONFIG,
                    "no remote site is configured; add one: drctl site add NAME ADDRESS");
    return failed == 0 || fail(error, ERROR_NETWORK, "%u of %u remote sites cannot be used", failed,
                               config->remotes->len);
}

static bool cmd_site_check(struct context *context, GError **error)
{
    json_auto_t *list = json_array();
    const char *name = context->args[0];
    const struct remote *remote = NULL;
    bool ok;

    if (!context_config(context, error))
        return false;
    if (name && !(remote = config_remote(context->config, name, error)))
        return false;
    ok = name ? check_remote(context, remote, list, error) : check_all(context, list, error);
    if (context->json && (ok || !name))
        print_json(list);
    return ok;
}

/* --------------------------------------------------------------------------------------------- */

static const struct option site_add_options[] = {
    {"fingerprint", "SHA256:...", "the host key that you expect; no question is asked"},
    {"accept-key", NULL, "trust whatever key is shown (a trusted network only)"},
    {"store", "DIR", "a store at the other site other than that of its drctl.conf"},
    {"operator", NULL, "a key that may also start, stop and replicate VMs there"},
    {"command", "COMMAND", "how the other site runs it; default: drctl serve --append-only"},
    {0},
};

const struct command site_commands[] = {
    {
        .name = "site add",
        .args = "NAME [ADDRESS]",
        .min_args = 1,
        .max_args = 2,
        .flags = COMMAND_CHANGES,
        .summary = "pair this site with another one",
        .text =
            "ADDRESS is [user@]host[:port]. Shows the other host's key to confirm, remembers it,\n"
            "adds [remote NAME] to drctl.conf, prints the line for the other side's\n"
            "authorized_keys, and tests the link. Without ADDRESS: prints the line and tests "
            "again. With the ADDRESS that is known already: trusts a new host key.",
        .options = site_add_options,
        .run = cmd_site_add,
    },
    {
        .name = "site check",
        .args = "[SITE]",
        .max_args = 1,
        .flags = COMMAND_JSON,
        .summary = "test the link to other sites: login, space, limit, clock",
        .run = cmd_site_check,
    },
    {0},
};
