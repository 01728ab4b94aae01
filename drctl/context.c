/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"
#include "drctl/output.h"

const struct config *context_config(struct context *context, GError **error)
{
    if (!context->config)
        context->config = config_load(context->config_dir, error);
    return context->config;
}

struct catalog *context_catalog(struct context *context, GError **error)
{
    const struct config *config = context_config(context, error);

    if (config && !context->catalog)
        context->catalog = catalog_open(config->store, error);
    return context->catalog;
}

struct store *context_store(struct context *context, GError **error)
{
    const struct config *config = context_config(context, error);

    if (config && !context->store && context_catalog(context, error))
        context->store = store_open_site(config, context->catalog, &snapshot_point_ops, error);
    return context->store;
}

struct store *context_open(struct context *context, const char *name, GError **error)
{
    const struct remote *remote;
    struct store *store;

    if (!context_catalog(context, error))
        return NULL;
    store =
        store_open_destination(context->config, context->catalog, name, &snapshot_point_ops, error);
    remote = config_remote(context->config, name, NULL);
    if (store && remote)
        store_be_patient(store, remote->retry_ms, context->progress);
    return store;
}

struct opening {
    const char *uri;
    struct host *host;
    GError *error;
};

static void open_one(void *data)
{
    struct opening *opening = data;

    opening->host = host_open(opening->uri, &opening->error);
}

/* All at once: each may be far away. */
static void open_hosts(struct context *context, const struct config *config)
{
    unsigned count = g_strv_length(config->libvirt_uris);
    g_autofree struct opening *openings = g_new0(struct opening, count);

    context->hosts_tried = true;
    for (unsigned i = 0; i < count; i++)
        openings[i].uri = config->libvirt_uris[i];
    in_parallel(openings, count, sizeof(*openings), open_one);
    for (unsigned i = 0; i < count; i++) {
        if (openings[i].host)
            g_ptr_array_add(context->hosts, openings[i].host);
        else if (!context->hosts_error)
            context->hosts_error = openings[i].error;
        else
            g_error_free(openings[i].error);
    }
}

static GPtrArray *hosts_array(struct context *context)
{
    if (!context->hosts)
        context->hosts = g_ptr_array_new_with_free_func((GDestroyNotify)host_free);
    return context->hosts;
}

GPtrArray *context_hosts(struct context *context, GError **error)
{
    const struct config *config = context_config(context, error);

    if (!config)
        return NULL;
    hosts_array(context);
    if (!context->hosts_tried)
        open_hosts(context, config);
    if (!context->hosts_error)
        return context->hosts;
    g_propagate_error(error, g_error_copy(context->hosts_error));
    return NULL;
}

bool context_site(struct context *context, bool need_hosts, struct site *site, GError **error)
{
    if (!context_store(context, error) || (need_hosts && !context_hosts(context, error)))
        return false;
    *site = (struct site){
        .config = context->config,
        .catalog = context->catalog,
        .store = context->store,
        .hosts = hosts_array(context),
        .progress = context->progress,
    };
    return true;
}

void context_clear(struct context *context)
{
    g_clear_pointer(&context->hosts, g_ptr_array_unref);
    g_clear_error(&context->hosts_error);
    store_free(context->store);
    catalog_free(context->catalog);
    config_free(context->config);
    progress_terminal_free(context->progress);
    g_strfreev(context->args);
    g_hash_table_unref(context->options);
    g_free(context->config_dir);
}
