/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/output.h"
#include "drctl/pool.h"

#include <stdio.h>

/* All other sites, and this one's store where points of its own go there. Of borrowed char *. */
static GPtrArray *find_destinations(const struct config *config)
{
    GPtrArray *names = g_ptr_array_new();

    for (unsigned i = 0; i < config->remotes->len; i++)
        g_ptr_array_add(names, ((const struct remote *)config->remotes->pdata[i])->name);
    for (unsigned i = 0; i < config->protections->len; i++) {
        const struct protection *protection = config->protections->pdata[i];

        if (g_str_equal(protection->destination, "local")) {
            g_ptr_array_add(names, protection->destination);
            break;
        }
    }
    return names;
}

/* A site that lets us in and takes nothing from us, or only of others, has been set up so. */
static bool send(struct context *context, const char *destination, GPtrArray *vms, GError **error)
{
    AUTO(store) store = context_open(context, destination, error);
    GError *why = NULL;

    if (!store || pool_publish(context, destination, store, vms, NULL, &why))
        return store != NULL;
    if (!error_is(why, ERROR_AUTH)) {
        g_propagate_error(error, why);
        return false;
    }
    progress_note(context->progress, "%s", why->message);
    g_error_free(why);
    return true;
}

/* One that does not answer keeps no other from hearing. */
static bool send_all(struct context *context, const GPtrArray *destinations, GPtrArray *vms,
                     GError **error)
{
    g_autoptr(GError) failure = NULL;

    for (unsigned i = 0; i < destinations->len; i++) {
        g_autoptr(GError) why = NULL;

        if (!interrupt_check(error))
            return false;
        if (send(context, destinations->pdata[i], vms, &why))
            continue;
        progress_note(context->progress, "%s", why->message);
        if (!failure)
            failure = g_steal_pointer(&why);
    }
    if (!failure)
        return true;
    g_propagate_error(error, g_steal_pointer(&failure));
    return false;
}

static bool cmd_metadata_send(struct context *context, GError **error)
{
    char *none[] = {NULL};
    g_autoptr(GPtrArray) vms = protected_vms(context, none, error);
    g_autoptr(GPtrArray) destinations = NULL;

    if (!vms)
        return false;
    destinations = find_destinations(context->config);
    if (context->args[0]) {
        g_ptr_array_set_size(destinations, 0);
        for (char **name = context->args; *name; name++)
            g_ptr_array_add(destinations, *name);
    }
    if (destinations->len == 0)
        return fail(error, ERROR_CONFIG,
                    "there is nowhere to send it: %s has no [remote NAME], see: drctl site add",
                    context->config->path);
    return send_all(context, destinations, vms, error);
}

const struct command metadata_send_commands[] = {
    {
        .name = "metadata send",
        .args = "[REMOTE]...",
        .max_args = -1,
        .summary = "what has changed of this site's pool metadata, to the other sites",
        .text = "It also goes with each point. drctl daemon does it every five minutes.",
        .run = cmd_metadata_send,
    },
    {0},
};
