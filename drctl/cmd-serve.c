/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"

#include <unistd.h>

/* --store lets a client without a forced command choose; the store must be one in its own right,
 * its catalog is beside it. */
static bool serve_other(const char *path, const struct serve_rules *rules, GError **error)
{
    AUTO(catalog) catalog = catalog_open(path, error);
    AUTO(store)
    store = catalog ? store_open_local(path, catalog, &snapshot_point_ops, error) : NULL;

    return store && serve(store, rules, STDIN_FILENO, STDOUT_FILENO, error);
}

/* This program; its path, so that it is seen under its name. One that was replaced meanwhile has none. */
static char *own_program(void)
{
    char *path = g_file_read_link("/proc/self/exe", NULL);

    if (path && g_file_test(path, G_FILE_TEST_IS_EXECUTABLE))
        return path;
    g_free(path);
    return g_strdup("/proc/self/exe");
}

static const struct role {
    const char *name;
    enum serve_role role;
    bool is_operator, needs_site;
} roles[] = {
    {"push", SERVE_PUSH, false, true},
    {"pull", SERVE_PULL, false, false},
    {"operator", SERVE_APPEND_ONLY, true, false},
};

static const struct role *find_role(const char *name, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(roles); i++)
        if (g_str_equal(roles[i].name, name))
            return &roles[i];
    fail(error, ERROR_USAGE, "--role: there is no role \"%s\": push, pull or operator", name);
    return NULL;
}

static bool read_quota(const struct context *context, struct serve_rules *rules, GError **error)
{
    const char *quota = option_value(context, "quota");
    g_autoptr(GError) problem = NULL;

    if (!quota)
        return true;
    if (!bytes_parse(quota, &rules->quota, &problem))
        return fail(error, ERROR_USAGE, "--quota: %s", problem->message);
    return rules->quota > 0 || fail(error, ERROR_USAGE, "--quota: nothing fits into 0 bytes");
}

/* *SITES stays NULL without --site; g_strfreev. */
static bool read_sites(const struct context *context, char ***sites, GError **error)
{
    const char *text = option_value(context, "site");

    if (!text)
        return true;
    *sites = g_strsplit(text, ",", -1);
    for (char **site = *sites; *site; site++)
        if (!site_name_is_valid(*site))
            return fail(error, ERROR_USAGE, "--site: \"%s\" is no name of a site", *site);
    return **sites || fail(error, ERROR_USAGE, "--site: of which site?");
}

/* *OPERATES: commands are allowed. */
static bool read_role(const struct context *context, const char *const *sites,
                      struct serve_rules *rules, bool *operates, GError **error)
{
    const char *name = option_value(context, "role");
    const struct role *role = name ? find_role(name, error) : NULL;
    bool appends = option_set(context, "append-only");

    *operates = option_set(context, "operator");
    rules->role = appends ? SERVE_APPEND_ONLY : SERVE_ALL;
    if (name && !role)
        return false;
    if (role && (appends || *operates))
        return fail(error, ERROR_USAGE,
                    "--role says all: leave out --append-only and --operator beside it");
    if (role && role->needs_site && !sites)
        return fail(error, ERROR_USAGE,
                    "--role %s needs --site NAME: the site whose points the key may send",
                    role->name);
    if (role) {
        rules->role = role->role;
        *operates = role->is_operator;
    }
    return !*operates || !sites ||
           fail(error, ERROR_USAGE,
                "an operator's commands reach the VMs of all sites here: leave out --site, or give "
                "that key another role");
}

/* A forced command may name the store of the site itself. */
static bool is_site_store(struct context *context, const char *path)
{
    const struct config *config = context_config(context, NULL);
    g_autofree char *canonical = g_canonicalize_filename(path, NULL);

    return config && g_str_equal(canonical, config->store);
}

/* What a client asks for behind a forced command that names no store: it must not believe that its
 * points are there. */
static bool check_asked_store(struct context *context, GError **error)
{
    const char *asked = g_getenv("SSH_ORIGINAL_COMMAND");
    g_auto(GStrv) words = NULL;

    if (!asked || !g_shell_parse_argv(asked, NULL, &words, NULL))
        return true;
    for (char **word = words; *word; word++)
        if (g_str_equal(*word, "--store") && word[1] && !is_site_store(context, word[1]))
            return fail(
                error, ERROR_CONFIG,
                "the store %s is asked for, but this key serves another one: add --store to "
                "its command in authorized_keys there, or remove `store` from the [remote] "
                "here",
                word[1]);
    return true;
}

static json_t *outcome_json(const struct serve_tally *tally)
{
    json_t *json = json_object();

    json_set_u64(json, "points", tally->points);
    json_set_u64(json, "bytes", tally->bytes);
    json_set_u64(json, "bundles", tally->bundles);
    json_set_u64(json, "read", tally->read_bytes);
    json_set_u64(json, "refused", tally->refused);
    return json;
}

static bool serve_by(struct context *context, const struct serve_rules *rules, GError **error)
{
    const char *path = option_value(context, "store");

    if (path && !is_site_store(context, path))
        return serve_other(path, rules, error);
    return context_store(context, error) && (path || check_asked_store(context, error)) &&
           serve(context->store, rules, STDIN_FILENO, STDOUT_FILENO, error);
}

static bool cmd_serve(struct context *context, GError **error)
{
    g_autofree char *program = own_program();
    const char *const commander[] = {program, "--config", context->config_dir, NULL};
    struct serve_tally tally = {0};
    struct serve_rules rules = {.tally = &tally};
    g_auto(GStrv) sites = NULL;
    bool operates, served;

    if (!read_quota(context, &rules, error) || !read_sites(context, &sites, error) ||
        !read_role(context, (const char *const *)sites, &rules, &operates, error))
        return false;
    rules.sites = (const char *const *)sites;
    rules.commander = operates ? commander : NULL;
    served = serve_by(context, &rules, error);
    context->outcome = outcome_json(&tally);
    return served;
}

static const struct option serve_options[] = {
    {"store", "DIR", "this store instead of the site's"},
    {"role", "ROLE", "what the key may do: push, pull or operator"},
    {"site", "NAME[,NAME]...", "only points, owners and bundles of these sites"},
    {"append-only", NULL, "refuse whatever removes or changes a point"},
    {"operator", NULL, "run a few commands of the other site here: vapp, replicate, fence"},
    {"quota", "SIZE", "take no more when the store holds so much (of --site), such as 2TiB"},
    {0},
};

const struct command serve_commands[] = {
    {
        .name = "serve",
        .args = "",
        .flags = COMMAND_CHANGES,
        .summary = "offer this site's store to another site on stdin and stdout",
        .text = "Other sites run it over ssh; nobody types it. It is what the forced command in\n"
                "authorized_keys calls, see: drctl help site add",
        .options = serve_options,
        .run = cmd_serve,
    },
    {0},
};
