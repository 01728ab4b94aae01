/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/preflight-state.h"

#include <inttypes.h>
#include <string.h>

#define DEFINITION_MAX_BYTES (4u << 20)

void preflight_state_clear(struct preflight_state *state)
{
    g_clear_pointer(&state->plan, g_free);
    g_clear_pointer(&state->points, g_free);
    g_clear_pointer(&state->hosts, g_free);
}

static void add(GChecksum *digest, const char *text)
{
    /* With its end, so that nothing moves from one text into the next. */
    g_checksum_update(digest, (const unsigned char *)text, (gssize)strlen(text) + 1);
}

static char *finish(GChecksum *digest)
{
    char *text = g_strdup(g_checksum_get_string(digest));

    g_checksum_free(digest);
    return text;
}

/* ---- The plan */

static char *digest_plan(const struct recovery_plan *recovery, const struct failover_plan *plan)
{
    GChecksum *digest = g_checksum_new(G_CHECKSUM_SHA256);

    add(digest, recovery->text);
    for (unsigned i = 0; i < plan->parts->len; i++) {
        const struct plan_part *part = plan->parts->pdata[i];

        add(digest, part->name);
        add(digest, part->definition ? part->definition : "");
    }
    return finish(digest);
}

/* ---- The points */

char *newest_definition(const struct site *site, const char *uuid, struct manifest **manifest)
{
    g_autoptr(GPtrArray) points = store_points(site->store, uuid, NULL);
    struct manifest *newest = points && points->len > 0 ? points->pdata[0] : NULL;
    g_autofree char *dir =
        newest ? store_point_dir(site->config->store, newest->uuid, newest->point) : NULL;
    g_autofree char *path = dir ? g_build_filename(dir, "domain.xml", NULL) : NULL;
    char *text = NULL;

    if (path)
        file_read(path, DEFINITION_MAX_BYTES, &text, NULL, NULL);
    if (newest && manifest)
        *manifest = g_ptr_array_steal_index(points, 0);
    return text;
}

static void add_disks(GChecksum *digest, const struct manifest *manifest)
{
    for (unsigned i = 0; i < manifest->disks->len; i++) {
        const struct manifest_disk *disk = manifest->disks->pdata[i];
        g_autofree char *text = g_strdup_printf("%s %" PRIu64, disk->target, disk->virtual_bytes);

        add(digest, text);
    }
}

static char *digest_points(const struct planner *planner, const struct failover_plan *plan)
{
    GChecksum *digest = g_checksum_new(G_CHECKSUM_SHA256);

    for (unsigned i = 0; i < plan->order->vms->len; i++) {
        const struct vapp_vm *vm = plan->order->vms->pdata[i];
        g_autofree char *uuid = planner_uuid(planner, vm->name, NULL);
        AUTO(manifest) manifest = NULL;
        g_autofree char *definition =
            uuid ? newest_definition(planner->site, uuid, &manifest) : NULL;

        add(digest, vm->name);
        add(digest, uuid ? uuid : "");
        add(digest, definition ? definition : "");
        if (manifest)
            add_disks(digest, manifest);
    }
    return finish(digest);
}

/* ---- The hosts */

static int compare_texts(const void *a, const void *b)
{
    const char *const *left = a, *const *right = b;

    return strcmp(*left, *right);
}

/* Networks or storage pools: their names, and whether they are active. A test of whatever vApp changes nothing. */
static void add_objects(GChecksum *digest, const GPtrArray *objects)
{
    g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free);

    for (unsigned i = 0; i < objects->len; i++) {
        const struct host_object *object = objects->pdata[i];

        if (!g_str_has_prefix(object->name, TEST_NETWORK_PREFIX))
            g_ptr_array_add(texts, g_strdup_printf("%s %d", object->name, object->active));
    }
    g_ptr_array_sort(texts, compare_texts);
    for (unsigned i = 0; i < texts->len; i++)
        add(digest, texts->pdata[i]);
}

static bool add_host(GChecksum *digest, struct host *host, bool with_pools, GError **error)
{
    g_autofree char *capabilities = host_capabilities(host, error);
    g_autoptr(GPtrArray) networks = capabilities ? host_networks(host, error) : NULL;
    g_autoptr(GPtrArray) pools = networks && with_pools ? host_storage_pools(host, error) : NULL;

    if (!networks || (with_pools && !pools))
        return false;
    add(digest, host_uri(host));
    add(digest, capabilities);
    add_objects(digest, networks);
    if (pools)
        add_objects(digest, pools);
    return true;
}

static bool is_pool(const char *storage)
{
    return storage && *storage != '/';
}

static bool uses_pools(const struct recovery_plan *recovery)
{
    for (unsigned i = 0; i < recovery->vms->len; i++)
        if (is_pool(((const struct plan_vm *)recovery->vms->pdata[i])->storage))
            return true;
    return is_pool(recovery->storage);
}

static bool digest_hosts(const struct site *site, const struct recovery_plan *recovery,
                         char **result, GError **error)
{
    bool with_pools = uses_pools(recovery);
    GChecksum *digest = g_checksum_new(G_CHECKSUM_SHA256);
    bool good = true;

    for (unsigned i = 0; good && i < site->hosts->len; i++)
        good = add_host(digest, site->hosts->pdata[i], with_pools, error);
    *result = finish(digest);
    return good;
}

bool preflight_state_read(const struct site *site, const struct recovery_plan *recovery,
                          struct preflight_state *state, GError **error)
{
    struct failover_request request = {.name = recovery->name};
    AUTO(failover_plan) plan = plan_new();
    AUTO_PLANNER planner;

    planner_init(&planner, site, recovery);
    if (!planner_find_order(&planner, &request, plan, error) ||
        (site->hosts->len > 0 && !digest_hosts(site, recovery, &state->hosts, error)))
        return false;
    state->plan = digest_plan(recovery, plan);
    state->points = digest_points(&planner, plan);
    return true;
}
