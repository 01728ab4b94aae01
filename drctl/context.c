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

/* A host may be in a state in which it takes the connection, and never says a word. */
#define OPEN_HOST_S 30

static void *open_one(void *uri, GError **error)
{
    return host_open(uri, error);
}

static void free_host(void *host)
{
    host_free(host);
}

static struct host *host_in_time(struct errand *opening, const char *uri, int64_t until_us,
                                 GError **error)
{
    g_autoptr(GError) why = NULL;

    if (errand_wait(opening, until_us, &why))
        return errand_steal(opening);
    if (error_is(why, ERROR_NETWORK))
        fail(error, ERROR_HYPERVISOR, "cannot connect to libvirt at %s: it does not answer in %d s",
             uri, OPEN_HOST_S);
    else
        g_propagate_error(error, g_steal_pointer(&why));
    return NULL;
}

/* All at once: each may be far away. */
static void open_hosts(struct context *context, const struct config *config)
{
    int64_t until_us = g_get_monotonic_time() + (int64_t)OPEN_HOST_S * G_USEC_PER_SEC;
    unsigned count = g_strv_length(config->libvirt_uris);
    g_autofree struct errand **openings = g_new0(struct errand *, count);

    context->hosts_tried = true;
    context->silent = silent_hosts_new();
    for (unsigned i = 0; i < count; i++)
        openings[i] = errand_new("drctl-host", open_one, g_strdup(config->libvirt_uris[i]), g_free,
                                 free_host);
    for (unsigned i = 0; i < count; i++) {
        const char *uri = config->libvirt_uris[i];
        g_autoptr(GError) why = NULL;
        struct host *host = host_in_time(openings[i], uri, until_us, &why);

        if (host)
            g_ptr_array_add(context->hosts, host);
        else
            g_ptr_array_add(context->silent, silent_host_new(uri, why->message));
        errand_free(openings[i]);
    }
}

static GPtrArray *hosts_array(struct context *context)
{
    if (!context->hosts)
        context->hosts = g_ptr_array_new_with_free_func((GDestroyNotify)host_free);
    return context->hosts;
}

static bool try_hosts(struct context *context, GError **error)
{
    const struct config *config = context_config(context, error);

    if (!config)
        return false;
    hosts_array(context);
    if (!context->hosts_tried)
        open_hosts(context, config);
    return true;
}

static bool fail_silent(const struct context *context, GError **error)
{
    const struct silent_host *first = context->silent->pdata[0];

    return fail(error, ERROR_HYPERVISOR, "%s", first->why);
}

GPtrArray *context_hosts(struct context *context, GError **error)
{
    if (!try_hosts(context, error))
        return NULL;
    return context->silent->len == 0 || fail_silent(context, error) ? context->hosts : NULL;
}

static void fill_site(struct context *context, struct site *site)
{
    *site = (struct site){
        .config = context->config,
        .catalog = context->catalog,
        .store = context->store,
        .hosts = hosts_array(context),
        .progress = context->progress,
    };
}

bool context_site(struct context *context, bool need_hosts, struct site *site, GError **error)
{
    if (!context_store(context, error) || (need_hosts && !context_hosts(context, error)))
        return false;
    fill_site(context, site);
    return true;
}

bool context_site_in_need(struct context *context, struct site *site, GError **error)
{
    if (!context_store(context, error) || !try_hosts(context, error) ||
        (context->hosts->len == 0 && context->silent->len > 0 && !fail_silent(context, error)))
        return false;
    fill_site(context, site);
    site->silent = context->silent;
    return true;
}

void context_clear(struct context *context)
{
    g_clear_pointer(&context->hosts, g_ptr_array_unref);
    g_clear_pointer(&context->silent, g_ptr_array_unref);
    store_free(context->store);
    catalog_free(context->catalog);
    config_free(context->config);
    progress_terminal_free(context->progress);
    json_decref(context->outcome);
    g_strfreev(context->args);
    g_hash_table_unref(context->options);
    g_free(context->config_dir);
}
