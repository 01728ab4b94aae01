/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hosts that do not answer, while a failover is planned. It goes on without them; but a VM that one of them may run
 * would run twice if it was started at another one, so it is left alone until somebody says that the host is off.
 */
#include <string.h>

#include "restore/planner.h"

struct silent_host *silent_host_new(const char *uri, const char *why)
{
    struct silent_host *host = g_new0(struct silent_host, 1);

    host->uri = g_strdup(uri);
    host->why = g_strdup(why);
    return host;
}

void silent_host_free(struct silent_host *host)
{
    if (!host)
        return;
    g_free(host->uri);
    g_free(host->why);
    g_free(host);
}

static void free_element(void *host)
{
    silent_host_free(host);
}

GPtrArray *silent_hosts_new(void)
{
    return g_ptr_array_new_with_free_func(free_element);
}

json_t *silent_hosts_json(const GPtrArray *hosts)
{
    json_t *array = json_array();

    for (unsigned i = 0; i < hosts->len; i++) {
        const struct silent_host *host = hosts->pdata[i];
        json_t *json = json_object();

        json_set_string(json, "host", host->uri);
        json_set_string(json, "why", host->why);
        json_object_set_new(json, "down", json_boolean(host->down));
        json_set_u64(json, "vms", host->vms);
        json_array_append_new(array, json);
    }
    return array;
}

void silent_hosts_read(GPtrArray *hosts, const json_t *json)
{
    const json_t *entry;
    size_t i;

    json_array_foreach(json, i, entry)
    {
        const char *uri = json_get_string(entry, "host"), *why = json_get_string(entry, "why");
        struct silent_host *host = uri && why ? silent_host_new(uri, why) : NULL;
        uint64_t vms = 0;

        if (!host)
            continue;
        host->down = json_is_true(json_object_get(entry, "down"));
        json_need_u64(entry, "vms", &vms, NULL);
        host->vms = (unsigned)vms;
        g_ptr_array_add(hosts, host);
    }
}

struct silent_host *silent_host_named(const GPtrArray *hosts, const char *uri)
{
    for (unsigned i = 0; hosts && i < hosts->len; i++) {
        struct silent_host *host = hosts->pdata[i];

        if (strcmp(host->uri, uri) == 0)
            return host;
    }
    return NULL;
}

char *silent_host_text(const struct silent_host *host)
{
    if (host->down)
        return g_strdup_printf(
            "host %s does not answer and is taken for off (%s)" REMEDY
            "what was started elsewhere must not start there when it comes back: "
            "virsh -c '%s' undefine each of them there first",
            host->uri, host->why, host->uri);
    if (host->vms > 0)
        return g_strdup_printf("host %s does not answer (%s): nothing is started there, and %u of "
                               "the VMs may run there, so that they are started nowhere" REMEDY
                               "bring it back, or if it is off: --host-down '%s'",
                               host->uri, host->why, host->vms, host->uri);
    return g_strdup_printf("host %s does not answer (%s): nothing is started there" REMEDY
                           "if the others have not room enough, bring it back",
                           host->uri, host->why);
}

struct host *site_host(const struct site *site, const char *uri, GError **error)
{
    const struct silent_host *silent = silent_host_named(site->silent, uri);

    for (unsigned i = 0; i < site->hosts->len; i++)
        if (strcmp(host_uri(site->hosts->pdata[i]), uri) == 0)
            return site->hosts->pdata[i];
    if (silent)
        fail(error, ERROR_HYPERVISOR, "host %s does not answer: %s", uri, silent->why);
    else
        fail(error, ERROR_CONFIG, "host %s is not in %s any more: [site] libvirt must name it", uri,
             site->config->path);
    return NULL;
}

/* ---- Which do not answer, and what was said of them */

/* What was said of one that answers, or that nobody knows, was meant for another. */
static bool take_for_off(const struct site *site, struct failover_plan *plan, const char *uri,
                         GError **error)
{
    struct silent_host *host = silent_host_named(plan->silent, uri);

    if (host) {
        host->down = true;
        return true;
    }
    for (unsigned i = 0; i < site->hosts->len; i++)
        if (strcmp(host_uri(site->hosts->pdata[i]), uri) == 0)
            return fail(error, ERROR_CONFLICT,
                        "host %s is not off, it answers: leave out --host-down", uri);
    return fail(error, ERROR_USAGE,
                "--host-down: there is no host %s; [site] libvirt in %s names them", uri,
                site->config->path);
}

bool planner_look_around(struct planner *planner, const struct failover_request *request,
                         struct failover_plan *plan, GError **error)
{
    const GPtrArray *silent = planner->site->silent;

    planner->silent = plan->silent;
    for (unsigned i = 0; silent && i < silent->len; i++) {
        const struct silent_host *host = silent->pdata[i];

        g_ptr_array_add(plan->silent, silent_host_new(host->uri, host->why));
    }
    for (char **uri = request->down; uri && *uri; uri++)
        if (!take_for_off(planner->site, plan, *uri, error))
            return false;
    return true;
}

/* ---- Where a VM was last */

static void note_hosts(GHashTable *hosts, const json_t *plan)
{
    const json_t *vm;
    size_t i;

    json_array_foreach(json_object_get(plan, "vms"), i, vm)
    {
        const char *uuid = json_get_string(vm, "uuid"), *host = json_get_string(vm, "host");

        if (uuid && host && !g_hash_table_contains(hosts, uuid))
            g_hash_table_insert(hosts, g_strdup(uuid), g_strdup(host));
    }
}

/* UUID -> URI, by the newest run that has brought the VM up. */
static GHashTable *hosts_of_runs(struct catalog *catalog)
{
    GHashTable *hosts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    json_auto_t *runs = run_list(catalog, NULL);
    const json_t *entry;
    size_t i;

    json_array_foreach(runs, i, entry)
    {
        json_auto_t *run = NULL;

        if (g_strcmp0(json_get_string(entry, "kind"), FAILOVER_KIND) != 0)
            continue;
        run = run_show(catalog, json_get_string(entry, "run"), NULL);
        note_hosts(hosts, json_object_get(run, "plan"));
    }
    return hosts;
}

/* ---- May it run at one of them? */

static bool was_taken_here(const struct site *site, const char *uuid)
{
    g_autoptr(GPtrArray) points = store_points(site->store, uuid, NULL);

    for (unsigned i = 0; points && i < points->len; i++)
        if (strcmp(((const struct manifest *)points->pdata[i])->site, site->config->site) == 0)
            return true;
    return false;
}

/* Has it ever been this site's? What cannot be read may have said so. */
static bool was_ever_here(const struct site *site, const char *uuid)
{
    const struct config *config = site->config;
    AUTO(owner) owner = NULL;
    AUTO(guarded) guarded = NULL;

    if (!owner_read(config->store, uuid, &owner, NULL) ||
        (owner && strcmp(owner->site, config->site) == 0))
        return true;
    return !guarded_read(config->dir, uuid, &guarded, NULL) || guarded ||
           was_taken_here(site, uuid);
}

static void judge(struct planned *planned, struct silent_host *host, bool is_known)
{
    host->vms++;
    if (host->down)
        remark(planned->findings,
               "it starts from its point: what it may have written at %s since stays in its disks "
               "there",
               host->uri);
    else
        block(planned->findings,
              "%s %s, which does not answer: it would run twice if it was started here" REMEDY
              "bring that host back, or if it is off: --host-down '%s'",
              is_known ? "it was started at" : "it is this site's, and may run at", host->uri,
              host->uri);
}

/* The one of them that had it last, as far as is known. */
static struct silent_host *last_silent(struct planner *planner, const char *uuid)
{
    const char *last;

    if (!planner->last_hosts)
        planner->last_hosts = hosts_of_runs(planner->site->catalog);
    last = g_hash_table_lookup(planner->last_hosts, uuid);
    return last ? silent_host_named(planner->silent, last) : NULL;
}

void planner_look_silent(struct planner *planner, struct planned *planned, bool is_found)
{
    const char *uuid = planned->vm->uuid;
    struct silent_host *last;

    if (planner->silent->len == 0 || !was_ever_here(planner->site, uuid))
        return;
    last = last_silent(planner, uuid);
    if (last)
        judge(planned, last, true);
    /* It is at none of those that answer, so it may have gone to any of the others. */
    for (unsigned i = 0; !last && !is_found && i < planner->silent->len; i++)
        judge(planned, planner->silent->pdata[i], false);
}
