/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"

#include <unistd.h>

/* --store lets a client without a forced command choose; the store must be one in its own right,
 * its catalog is beside it. */
static bool serve_other(const char *path, GError **error)
{
    AUTO(catalog) catalog = catalog_open(path, error);
    AUTO(store)
    store = catalog ? store_open_local(path, catalog, &snapshot_point_ops, error) : NULL;

    return store && serve(store, STDIN_FILENO, STDOUT_FILENO, error);
}

static bool cmd_serve(struct context *context, GError **error)
{
    const char *path = option_value(context, "store");

    if (path)
        return serve_other(path, error);
    return context_store(context, error) &&
           serve(context->store, STDIN_FILENO, STDOUT_FILENO, error);
}

static const struct option serve_options[] = {
    {"store", "DIR", "this store instead of the site's"},
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
