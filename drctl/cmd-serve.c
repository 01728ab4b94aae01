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

static bool read_rules(const struct context *context, struct serve_rules *rules, GError **error)
{
    const char *quota = option_value(context, "quota");
    g_autoptr(GError) problem = NULL;

    rules->append_only = option_set(context, "append-only");
    if (!quota)
        return true;
    if (!bytes_parse(quota, &rules->quota, &problem))
        return fail(error, ERROR_USAGE, "--quota: %s", problem->message);
    return rules->quota > 0 || fail(error, ERROR_USAGE, "--quota: nothing fits into 0 bytes");
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

static bool cmd_serve(struct context *context, GError **error)
{
    const char *path = option_value(context, "store");
    g_autofree char *program = own_program();
    const char *const commander[] = {program, "--config", context->config_dir, NULL};
    struct serve_rules rules = {.commander = option_set(context, "operator") ? commander : NULL};

    if (!read_rules(context, &rules, error))
        return false;
    if (path && !is_site_store(context, path))
        return serve_other(path, &rules, error);
    return context_store(context, error) && (path || check_asked_store(context, error)) &&
           serve(context->store, &rules, STDIN_FILENO, STDOUT_FILENO, error);
}

static const struct option serve_options[] = {
    {"store", "DIR", "this store instead of the site's"},
    {"append-only", NULL, "refuse whatever removes or changes a point"},
    {"operator", NULL, "run a few commands of the other site here: vapp, replicate, fence"},
    {"quota", "SIZE", "take no more when the store holds so much, such as 2TiB"},
    {0},
};

const struct command serve_commands[] = {
    {
        .name = "serve",
        .args = "",
        .summary = "offer this site's store to another site on stdin and stdout",
        .text = "Other sites run it over ssh; nobody types it. It is what the forced command in\n"
                "authorized_keys calls, see: drctl help site add",
        .options = serve_options,
        .run = cmd_serve,
    },
    {0},
};
