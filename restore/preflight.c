/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <sys/stat.h>

#include "restore/preflight-state.h"

static void finding_free(void *data)
{
    struct preflight_finding *finding = data;

    g_free(finding->vm);
    g_free(finding->text);
    g_free(finding->remedy);
    g_free(finding);
}

static void host_free_element(void *data)
{
    struct preflight_host *host = data;

    g_free(host->name);
    g_free(host);
}

static void storage_free(void *data)
{
    struct preflight_storage *storage = data;

    g_free(storage->path);
    g_free(storage);
}

void preflight_free(struct preflight *preflight)
{
    if (!preflight)
        return;
    g_free(preflight->plan);
    g_ptr_array_unref(preflight->storages);
    g_ptr_array_unref(preflight->hosts);
    g_ptr_array_unref(preflight->findings);
    g_free(preflight);
}

static struct preflight *preflight_new(const char *plan)
{
    struct preflight *preflight = g_new0(struct preflight, 1);

    preflight->plan = g_strdup(plan);
    preflight->storages = g_ptr_array_new_with_free_func(storage_free);
    preflight->hosts = g_ptr_array_new_with_free_func(host_free_element);
    preflight->findings = g_ptr_array_new_with_free_func(finding_free);
    return preflight;
}

/* TEXT with its way out behind REMEDY. */
static void add_finding(struct preflight *preflight, const char *vm, bool blocks, const char *text)
{
    struct preflight_finding *finding = g_new0(struct preflight_finding, 1);
    const char *remedy = strstr(text, REMEDY);

    finding->vm = g_strdup(vm);
    finding->blocks = blocks;
    finding->text = remedy ? g_strndup(text, (size_t)(remedy - text)) : g_strdup(text);
    finding->remedy = remedy ? g_strdup(remedy + strlen(REMEDY)) : NULL;
    g_ptr_array_add(preflight->findings, finding);
}

static void add_general(struct preflight *preflight, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void add_general(struct preflight *preflight, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    add_finding(preflight, NULL, false, text);
}

/* ---- What the hosts would have to bear */

static struct preflight_host *host_of(struct preflight *preflight, const char *name)
{
    struct preflight_host *host;

    for (unsigned i = 0; i < preflight->hosts->len; i++) {
        host = preflight->hosts->pdata[i];
        if (strcmp(host->name, name) == 0)
            return host;
    }
    host = g_new0(struct preflight_host, 1);
    host->name = g_strdup(name);
    host->free_bytes = UINT64_MAX;
    g_ptr_array_add(preflight->hosts, host);
    return host;
}

static void list_hosts(struct preflight *preflight, const struct site *site)
{
    for (unsigned i = 0; i < site->hosts->len; i++) {
        struct host *host = site->hosts->pdata[i];

        host_memory_free(host, &host_of(preflight, host_uri(host))->free_bytes, NULL);
    }
}

static struct preflight_storage *add_storage(struct preflight *preflight, const char *path)
{
    struct preflight_storage *storage = g_new0(struct preflight_storage, 1);

    storage->path = g_strdup(path);
    g_ptr_array_add(preflight->storages, storage);
    return storage;
}

/* By file system: two directories of one share what is free there. A directory that is not there yet is
 * made on that of its parent. */
static struct preflight_storage *storage_of(struct preflight *preflight, const char *path)
{
    struct preflight_storage *storage;
    struct stat one, other;

    for (unsigned i = 0; i < preflight->storages->len; i++) {
        storage = preflight->storages->pdata[i];
        if (strcmp(storage->path, path) == 0 ||
            (stat(storage->path, &one) == 0 && stat(path, &other) == 0 &&
             one.st_dev == other.st_dev))
            return storage;
    }
    storage = add_storage(preflight, path);
    disk_space(path, &storage->free_bytes, &(uint64_t){0}, NULL);
    preflight->space_bytes += storage->free_bytes;
    return storage;
}

/* What is here already bears its part already. */
static void add_load(struct preflight *preflight, const struct site *site,
                     const struct failover_vm *vm)
{
    const struct recovery *recovery = vm->recovery;
    struct preflight_storage *storage;
    struct preflight_host *host;

    if (!recovery || !recovery->definition)
        return;
    host = host_of(preflight, vm->host);
    storage = storage_of(preflight, recovery_images(recovery, site->config));
    host->vms++;
    host->cpus += vm->cpus;
    host->memory_bytes += vm->memory_bytes;
    for (unsigned i = 0; i < recovery->origin->disks->len; i++)
        storage->growth_bytes +=
            ((const struct origin_disk *)recovery->origin->disks->pdata[i])->virtual_bytes;
}

static void check_space(struct preflight *preflight, const struct site *site)
{
    /* Also where nothing can be brought up. */
    if (preflight->storages->len == 0)
        storage_of(preflight, site->config->images);
    for (unsigned i = 0; i < preflight->storages->len; i++) {
        const struct preflight_storage *storage = preflight->storages->pdata[i];
        g_autofree char *growth = bytes_format(storage->growth_bytes);
        g_autofree char *space = bytes_format(storage->free_bytes);

        preflight->growth_bytes += storage->growth_bytes;
        if (storage->growth_bytes > storage->free_bytes)
            add_general(preflight,
                        "what the VMs write here can grow to %s, and %s has %s free: a guest stops "
                        "when it is full" REMEDY
                        "make room there, or let [site] images in %s, or `storage` in the plan, "
                        "name a larger file system",
                        growth, storage->path, space, site->config->path);
    }
}

/* ---- What the plan itself says */

static void add_networks(GHashTable *networks, const char *definition)
{
    AUTO(xml) xml = definition ? xml_parse(definition, "definition", NULL) : NULL;
    g_autoptr(GPtrArray) nics = xml ? xml_find_all(xml_root(xml), "devices/interface") : NULL;

    for (unsigned k = 0; nics && k < nics->len; k++) {
        char *name = nic_network(nics->pdata[k]);

        if (name)
            g_hash_table_add(networks, name);
    }
}

/* The names of all networks that the VMs have a NIC in. */
static GHashTable *used_networks(const struct failover_plan *plan, const struct site *site)
{
    GHashTable *networks = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (unsigned i = 0; i < plan->vms->len; i++) {
        const struct failover_vm *vm = plan->vms->pdata[i];
        g_autofree char *text =
            vm->uuid && !vm->networks ? newest_definition(site, vm->uuid, NULL) : NULL;

        add_networks(networks, text);
        for (char **name = vm->networks; name && *name; name++)
            g_hash_table_add(networks, g_strdup(*name));
    }
    return networks;
}

static void check_networks(struct preflight *preflight, const struct site *site,
                           const struct recovery_plan *recovery, const struct failover_plan *plan)
{
    g_autoptr(GHashTable) used = recovery->networks->len > 0 ? used_networks(plan, site) : NULL;

    for (unsigned i = 0; i < recovery->networks->len; i++) {
        const struct plan_network *network = recovery->networks->pdata[i];

        if (!g_hash_table_contains(used, network->name))
            add_general(preflight,
                        "[network %s]: no VM of the plan has a NIC there" REMEDY
                        "correct the name, or remove the group",
                        network->name);
    }
}

/* A command that begins with a path can be seen not to be there. */
static void check_hook(struct preflight *preflight, const struct plan_vm *vm, const char *key,
                       const char *command)
{
    g_auto(GStrv) words = command && *command == '/' ? g_strsplit_set(command, " ;|&<>", 2) : NULL;

    if (words && !g_file_test(words[0], G_FILE_TEST_IS_EXECUTABLE)) {
        g_autofree char *text = g_strdup_printf("%s: %s is no program here" REMEDY
                                                "put it there (and chmod +x), or correct `%s`",
                                                key, words[0], key);

        add_finding(preflight, vm->name, false, text);
    }
}

static void check_hooks(struct preflight *preflight, const struct recovery_plan *recovery)
{
    for (unsigned i = 0; i < recovery->vms->len; i++) {
        const struct plan_vm *vm = recovery->vms->pdata[i];

        check_hook(preflight, vm, "before", vm->before);
        check_hook(preflight, vm, "after", vm->after);
    }
}

/* ---- Keeping it */

static json_t *finding_to_json(const struct preflight_finding *finding)
{
    json_t *json = json_object();

    json_set_string(json, "vm", finding->vm);
    json_object_set_new(json, "blocks", json_boolean(finding->blocks));
    json_set_string(json, "text", finding->text);
    json_set_string(json, "remedy", finding->remedy);
    return json;
}

static json_t *host_to_json(const struct preflight_host *host)
{
    json_t *json = json_object();

    json_set_string(json, "host", host->name);
    json_set_u64(json, "vms", host->vms);
    json_set_u64(json, "cpus", host->cpus);
    json_set_u64(json, "memory_bytes", host->memory_bytes);
    if (host->free_bytes == UINT64_MAX)
        json_set_string(json, "free_bytes", NULL);
    else
        json_set_u64(json, "free_bytes", host->free_bytes);
    return json;
}

static json_t *storage_to_json(const struct preflight_storage *storage)
{
    json_t *json = json_object();

    json_set_string(json, "path", storage->path);
    json_set_u64(json, "growth_bytes", storage->growth_bytes);
    json_set_u64(json, "free_bytes", storage->free_bytes);
    return json;
}

json_t *preflight_json(const struct preflight *preflight)
{
    json_t *json = json_object(), *findings = json_array(), *hosts = json_array(),
           *storages = json_array();
    g_autofree char *checked = time_format(preflight->checked_ms);

    json_set_string(json, "plan", preflight->plan);
    json_set_string(json, "checked", checked);
    json_set_u64(json, "vms", preflight->vms);
    json_set_u64(json, "blocked", preflight->blocked);
    json_set_u64(json, "growth_bytes", preflight->growth_bytes);
    json_set_u64(json, "space_bytes", preflight->space_bytes);
    for (unsigned i = 0; i < preflight->storages->len; i++)
        json_array_append_new(storages, storage_to_json(preflight->storages->pdata[i]));
    json_object_set_new(json, "storages", storages);
    for (unsigned i = 0; i < preflight->hosts->len; i++)
        json_array_append_new(hosts, host_to_json(preflight->hosts->pdata[i]));
    json_object_set_new(json, "hosts", hosts);
    for (unsigned i = 0; i < preflight->findings->len; i++)
        json_array_append_new(findings, finding_to_json(preflight->findings->pdata[i]));
    json_object_set_new(json, "findings", findings);
    return json;
}

static bool keep(const struct site *site, const struct preflight *preflight,
                 const struct preflight_state *state, GError **error)
{
    json_auto_t *json = preflight_json(preflight);
    json_t *holds = json_object();

    json_set_string(holds, "plan", state->plan);
    json_set_string(holds, "points", state->points);
    json_set_string(holds, "hosts", state->hosts);
    json_object_set_new(json, "holds_for", holds);
    return catalog_put(site->catalog, CATALOG_PREFLIGHTS, preflight->plan, json, error);
}

/* ---- Checking */

static void add_vm(struct preflight *preflight, const struct site *site,
                   const struct failover_vm *vm)
{
    preflight->vms++;
    preflight->blocked += vm->blocked;
    for (unsigned i = 0; i < vm->findings->len; i++)
        add_finding(preflight, vm->name, i + vm->n_blockers >= vm->findings->len,
                    vm->findings->pdata[i]);
    add_load(preflight, site, vm);
}

static void add_silent(struct preflight *preflight, const GPtrArray *hosts)
{
    for (unsigned i = 0; i < hosts->len; i++) {
        g_autofree char *text = silent_host_text(hosts->pdata[i]);

        add_finding(preflight, NULL, false, text);
    }
}

/* A plan that nobody has tried for long is a hope. */
static void check_tests(struct preflight *preflight, const struct site *site,
                        const struct recovery_plan *recovery)
{
    json_auto_t *runs = recovery->test_every_ms ? run_list(site->catalog, NULL) : NULL;
    g_autofree char *every = duration_format((double)recovery->test_every_ms / 1000);
    g_autofree char *when = NULL;
    AUTO_TEST_RECORD last;

    test_find_last(runs, recovery->name, &last);
    if (!runs || test_due_ms(recovery, &last) > preflight->checked_ms)
        return;
    when = last.run ? time_format_local(last.ended_ms) : g_strdup("never");
    add_general(preflight,
                "a test failover is due every %s, the last one was: %s" REMEDY
                "drctl failover %s --test",
                every, when, recovery->name);
}

static struct preflight *check(const struct site *site, const struct recovery_plan *recovery,
                               GError **error)
{
    struct failover_request request = {.name = recovery->name, .afresh = true};
    AUTO(failover_plan) plan = failover_plan_make(site, &request, error);
    AUTO(preflight) preflight = NULL;

    if (!plan)
        return NULL;
    preflight = preflight_new(recovery->name);
    preflight->checked_ms = time_now_ms();
    list_hosts(preflight, site);
    for (unsigned i = 0; i < plan->vms->len; i++)
        add_vm(preflight, site, plan->vms->pdata[i]);
    add_silent(preflight, plan->silent);
    check_space(preflight, site);
    check_networks(preflight, site, recovery, plan);
    check_hooks(preflight, recovery);
    check_tests(preflight, site, recovery);
    return g_steal_pointer(&preflight);
}

bool recovery_plan_is_known(const struct site *site, const struct recovery_plan *plan,
                            GError **error)
{
    struct failover_request request = {.name = plan->name};
    AUTO(failover_plan) order = plan_new();
    AUTO_PLANNER planner;

    planner_init(&planner, site, plan);
    return planner_find_order(&planner, &request, order, error);
}

/* The state is read before: what changes meanwhile makes the result expire. */
struct preflight *preflight_run(const struct site *site, const char *name, GError **error)
{
    AUTO(recovery_plan) recovery = recovery_plan_find(site->config->dir, name, error);
    AUTO_PREFLIGHT_STATE state = {0};
    AUTO(preflight) preflight = NULL;

    if (!recovery || !preflight_state_read(site, recovery, &state, error))
        return NULL;
    preflight = check(site, recovery, error);
    return preflight && keep(site, preflight, &state, error) ? g_steal_pointer(&preflight) : NULL;
}

/* ---- Reading it */

static bool read_finding(struct preflight *preflight, const json_t *json, GError **error)
{
    struct preflight_finding *finding = g_new0(struct preflight_finding, 1);
    const char *text = NULL;

    g_ptr_array_add(preflight->findings, finding);
    finding->vm = g_strdup(json_get_string(json, "vm"));
    finding->remedy = g_strdup(json_get_string(json, "remedy"));
    if (!json_need_string(json, "text", &text, error) ||
        !json_need_bool(json, "blocks", &finding->blocks, error))
        return false;
    finding->text = g_strdup(text);
    return true;
}

static bool read_host(struct preflight *preflight, const json_t *json, GError **error)
{
    const char *name = NULL;
    struct preflight_host *host;
    uint64_t vms, cpus;

    if (!json_need_string(json, "host", &name, error) || !json_need_u64(json, "vms", &vms, error) ||
        !json_need_u64(json, "cpus", &cpus, error))
        return false;
    host = host_of(preflight, name);
    host->vms = (unsigned)vms;
    host->cpus = (unsigned)cpus;
    json_need_u64(json, "free_bytes", &host->free_bytes, NULL);
    return json_need_u64(json, "memory_bytes", &host->memory_bytes, error);
}

static bool read_storage(struct preflight *preflight, const json_t *json, GError **error)
{
    const char *path = NULL;
    struct preflight_storage *storage;

    if (!json_need_string(json, "path", &path, error))
        return false;
    storage = add_storage(preflight, path);
    return json_need_u64(json, "growth_bytes", &storage->growth_bytes, error) &&
           json_need_u64(json, "free_bytes", &storage->free_bytes, error);
}

static bool read_numbers(struct preflight *preflight, const json_t *json, GError **error)
{
    uint64_t vms, blocked;
    const char *checked = NULL;

    if (!json_need_u64(json, "vms", &vms, error) ||
        !json_need_u64(json, "blocked", &blocked, error) ||
        !json_need_u64(json, "growth_bytes", &preflight->growth_bytes, error) ||
        !json_need_u64(json, "space_bytes", &preflight->space_bytes, error) ||
        !json_need_string(json, "checked", &checked, error))
        return false;
    preflight->vms = (unsigned)vms;
    preflight->blocked = (unsigned)blocked;
    return time_parse(checked, &preflight->checked_ms, error);
}

static struct preflight *preflight_read(const char *plan, const json_t *json, GError **error)
{
    AUTO(preflight) preflight = preflight_new(plan);
    json_t *findings, *hosts;
    const json_t *value;
    size_t i;

    if (!read_numbers(preflight, json, error) ||
        !json_need_array(json, "findings", &findings, error) ||
        !json_need_array(json, "hosts", &hosts, error))
        return NULL;
    json_array_foreach(findings, i, value)
    {
        if (!read_finding(preflight, value, error))
            return NULL;
    }
    /* A result of a version that knew of one only has none. */
    json_array_foreach(json_object_get(json, "storages"), i, value)
    {
        if (!read_storage(preflight, value, error))
            return NULL;
    }
    json_array_foreach(hosts, i, value)
    {
        if (!read_host(preflight, value, error))
            return NULL;
    }
    return g_steal_pointer(&preflight);
}

/* What has changed since, in words; NULL: nothing. */
static char *changes_since(const json_t *json, const struct preflight_state *now)
{
    const json_t *then = json_object_get(json, "holds_for");
    const char *const parts[][3] = {{"plan", now->plan, "the plan or its vApps"},
                                    {"points", now->points, "its VMs or their points"},
                                    {"hosts", now->hosts, "the hosts"}};
    g_autoptr(GString) text = g_string_new(NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(parts); i++)
        if (parts[i][1] && g_strcmp0(json_get_string(then, parts[i][0]), parts[i][1]) != 0)
            g_string_append_printf(text, "%s%s", text->len > 0 ? ", " : "", parts[i][2]);
    return text->len > 0 ? g_strdup_printf("changed since: %s", text->str) : NULL;
}

bool preflight_load(const struct site *site, const char *name, struct preflight **preflight,
                    char **expired, GError **error)
{
    AUTO(recovery_plan) recovery = recovery_plan_find(site->config->dir, name, error);
    AUTO_PREFLIGHT_STATE state = {0};
    json_auto_t *json = NULL;

    *preflight = NULL;
    *expired = NULL;
    if (!recovery || !catalog_get(site->catalog, CATALOG_PREFLIGHTS, recovery->name, &json, error))
        return false;
    if (!json)
        return true;
    if (!preflight_state_read(site, recovery, &state, error))
        return false;
    *preflight = preflight_read(recovery->name, json, error);
    if (!*preflight)
        return false;
    *expired = changes_since(json, &state);
    return true;
}
