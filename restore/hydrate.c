/* SPDX-License-Identifier: Apache-2.0 */
/* Which recovered VMs there are, and what their disks lie upon. */
#include <string.h>

#include "restore/hydrate.h"
#include "restore/overlay.h"
#include "restore/planner.h"
#include "restore/test-undo.h"

static void disk_free(void *data)
{
    struct hydrating_disk *disk = data;

    g_free(disk->target);
    g_free(disk->path);
    g_free(disk->point);
    g_free(disk->why);
    g_free(disk);
}

void hydration_free(struct hydration *hydration)
{
    if (!hydration)
        return;
    g_free(hydration->vm);
    g_free(hydration->uuid);
    g_free(hydration->host);
    g_free(hydration->run);
    domain_free(hydration->domain);
    g_ptr_array_unref(hydration->disks);
    g_free(hydration);
}

static void free_element(void *data)
{
    hydration_free(data);
}

/* ---- One VM */

static struct hydrating_disk *disk_named(const GPtrArray *disks, const char *target)
{
    for (unsigned i = 0; i < disks->len; i++)
        if (strcmp(((struct hydrating_disk *)disks->pdata[i])->target, target) == 0)
            return disks->pdata[i];
    return NULL;
}

/* The layers below the disk's own image, top first, until there is one of a point. */
static void read_chain(struct hydrating_disk *disk, const struct xml_node *xml)
{
    const struct xml_node *layer = xml_find(xml, "backingStore");

    g_clear_pointer(&disk->point, g_free);
    disk->is_lost = disk->is_covered = false;
    for (; layer && !disk->point; layer = xml_find(layer, "backingStore")) {
        g_autofree char *file = xml_string(layer, "source/@file");

        if (!file)
            continue;
        disk->point = store_point_of(file);
        if (g_str_has_suffix(file, OVERLAY_LOST_SUFFIX))
            disk->is_lost = true;
        else if (!disk->point)
            disk->is_covered = true;
    }
}

/* *DISKS is made anew of the definition; what is known of a disk beside that stays. */
static void read_disks(struct hydration *hydration, const struct xml_node *domain)
{
    g_autoptr(GPtrArray) nodes = xml_find_all(domain, "devices/disk[@device='disk']");
    GPtrArray *disks = g_ptr_array_new_with_free_func(disk_free);

    for (unsigned i = 0; i < nodes->len; i++) {
        g_autofree char *target = xml_string(nodes->pdata[i], "target/@dev");
        g_autofree char *path = xml_string(nodes->pdata[i], "source/@file");
        const struct hydrating_disk *old = target ? disk_named(hydration->disks, target) : NULL;
        struct hydrating_disk *disk;

        if (!target || !path)
            continue;
        disk = g_new0(struct hydrating_disk, 1);
        disk->target = g_steal_pointer(&target);
        disk->path = g_steal_pointer(&path);
        disk->begun = old ? old->begun : 0;
        disk->begun_ms = old ? old->begun_ms : 0;
        disk->why = old ? g_strdup(old->why) : NULL;
        disk->is_passing = old && old->is_passing;
        read_chain(disk, nodes->pdata[i]);
        g_ptr_array_add(disks, disk);
    }
    g_ptr_array_unref(hydration->disks);
    hydration->disks = disks;
}

static bool look_at_job(const struct hydration *hydration, struct hydrating_disk *disk,
                        GError **error)
{
    if (hydration->state != DOMAIN_OFF &&
        !domain_pull_look(hydration->domain, disk->target, &disk->pull, error))
        return false;
    /* Not ours: it is not about a point. */
    if (!disk->point && disk->pull.is_active)
        disk->pull = (struct domain_pull){.is_taken = true};
    if (!disk->point || disk->pull.is_active)
        g_clear_pointer(&disk->why, g_free);
    return true;
}

bool hydration_look(struct hydration *hydration, GError **error)
{
    g_autofree char *text = NULL;
    AUTO(xml) xml = NULL;

    if (!domain_state(hydration->domain, &hydration->state, error))
        return false;
    text =
        domain_xml(hydration->domain,
                   hydration->state == DOMAIN_OFF ? DOMAIN_XML_INACTIVE : DOMAIN_XML_LIVE, error);
    xml = text ? xml_parse(text, hydration->vm, error) : NULL;
    if (!xml)
        return false;
    read_disks(hydration, xml_root(xml));
    for (unsigned i = 0; i < hydration->disks->len; i++) {
        g_autoptr(GError) cause = NULL;

        if (look_at_job(hydration, hydration->disks->pdata[i], &cause))
            continue;
        /* It went off between the two looks. */
        if (domain_state(hydration->domain, &hydration->state, NULL) &&
            hydration->state == DOMAIN_OFF)
            return true;
        g_propagate_error(error, g_steal_pointer(&cause));
        return false;
    }
    hydration_unpin(hydration);
    return true;
}

/* ---- Which VMs */

/* Takes DOMAIN over, which RUN brought up. */
static struct hydration *hydration_new(struct domain *domain, const char *run, GError **error)
{
    AUTO(hydration) hydration = g_new0(struct hydration, 1);

    hydration->disks = g_ptr_array_new_with_free_func(disk_free);
    hydration->domain = domain;
    hydration->run = g_strdup(run);
    hydration->vm = g_strdup(domain_name(domain));
    hydration->uuid = g_strdup(domain_uuid(domain));
    hydration->host = g_strdup(host_uri(domain_host(domain)));
    return hydration_look(hydration, error) ? g_steal_pointer(&hydration) : NULL;
}

/* What is asked of the run that brought a VM up. A thousand VMs may be of one. */
#define RUN_IS_TEST 1u
#define RUN_HYDRATES 2u

struct search {
    const struct site *site;
    GHashTable *runs; /* id -> these */
    struct inventory *inventory;
};

static void search_clear(struct search *search)
{
    inventory_free(search->inventory);
    g_hash_table_unref(search->runs);
}
#define AUTO_SEARCH __attribute__((cleanup(search_clear))) struct search

static bool search_init(struct search *search, const struct site *site, GError **error)
{
    *search = (struct search){site, g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
                              inventory_new(site->hosts, error)};
    return search->inventory != NULL;
}

static unsigned ask_run(const struct search *search, const char *id)
{
    json_auto_t *run = NULL;
    const json_t *plan;
    void *known;
    unsigned answer;

    if (g_hash_table_lookup_extended(search->runs, id, NULL, &known))
        return GPOINTER_TO_UINT(known);
    run = run_show(search->site->catalog, id, NULL);
    plan = json_object_get(run, "plan");
    answer = (run && test_is_of(run, NULL) ? RUN_IS_TEST : 0) |
             (json_is_true(json_object_get(plan, "hydrate")) ? RUN_HYDRATES : 0);
    g_hash_table_insert(search->runs, g_strdup(id), GUINT_TO_POINTER(answer));
    return answer;
}

/* The recovered VM NAME; NULL without an error when there is none. RUN: only if that brought it up. */
static struct hydration *find_vm(const struct search *search, const char *name, const char *run,
                                 GError **error)
{
    AUTO(domain) domain = NULL;
    struct recovered mark;
    struct hydration *hydration = NULL;
    unsigned of_run;

    if (!inventory_find(search->inventory, name, name, &domain, &mark, error))
        return NULL;
    of_run = mark.run ? ask_run(search, mark.run) : 0;
    if (mark.run && !(of_run & RUN_IS_TEST) && (!run || strcmp(run, mark.run) == 0))
        hydration = hydration_new(g_steal_pointer(&domain), mark.run, error);
    if (hydration)
        hydration->is_wanted = of_run & RUN_HYDRATES;
    recovered_clear(&mark);
    return hydration;
}

struct hydration *hydration_of(struct domain *domain, GError **error)
{
    g_autofree char *text = domain_xml(domain, DOMAIN_XML_INACTIVE, error);
    struct recovered mark = {0};
    struct domain *own;
    struct hydration *hydration = NULL;

    if (!text || !recovered_read(text, &mark))
        return NULL;
    own = host_domain(domain_host(domain), domain_uuid(domain), error);
    if (own)
        hydration = hydration_new(own, mark.run, error);
    recovered_clear(&mark);
    return hydration;
}

bool hydration_is_possible(const struct config *config)
{
    g_auto(GStrv) dirs = dir_list(config->images, NULL);

    for (char **dir = dirs; dir && *dir; dir++)
        if (overlay_run(*dir))
            return true;
    return false;
}

/* By the directories of their overlays, so that it does not matter how many other VMs there are. */
static GPtrArray *find_all(const struct site *site, GError **error)
{
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(free_element);
    g_auto(GStrv) dirs = dir_list(site->config->images, error);
    AUTO_SEARCH search;

    if (!search_init(&search, site, error))
        return NULL;
    for (char **dir = dirs; dir && *dir; dir++) {
        const char *run = overlay_run(*dir);
        g_autofree char *name = run ? g_strndup(*dir, (size_t)(run - 1 - *dir)) : NULL;
        g_autoptr(GError) cause = NULL;
        struct hydration *hydration = name ? find_vm(&search, name, run, &cause) : NULL;

        if (hydration)
            g_ptr_array_add(found, hydration);
        if (cause) {
            g_propagate_error(error, g_steal_pointer(&cause));
            return NULL;
        }
    }
    return dirs ? g_steal_pointer(&found) : NULL;
}

/* The VMs that NAME means, into NAMES. What nobody else knows is the name of a VM. */
static bool expand(const struct site *site, const char *name, GPtrArray *names, GError **error)
{
    struct failover_request request = {.name = name};
    AUTO(recovery_plan) recovery = recovery_plan_find(site->config->dir, name, error);
    AUTO(failover_plan) plan = plan_new();
    AUTO_PLANNER planner = {0};
    g_autoptr(GError) cause = NULL;

    if (!recovery)
        return false;
    planner_init(&planner, site, recovery);
    if (!planner_find_order(&planner, &request, plan, &cause)) {
        if (!error_is(cause, ERROR_NOT_FOUND)) {
            g_propagate_error(error, g_steal_pointer(&cause));
            return false;
        }
        g_ptr_array_add(names, g_strdup(name));
        return true;
    }
    for (unsigned i = 0; i < plan->order->vms->len; i++) {
        const struct vapp_vm *vm = plan->order->vms->pdata[i];

        g_ptr_array_add(names, g_strdup(vm->name));
    }
    return true;
}

static bool is_found(const GPtrArray *found, const struct hydration *one)
{
    for (unsigned i = 0; i < found->len; i++)
        if (strcmp(((const struct hydration *)found->pdata[i])->uuid, one->uuid) == 0)
            return true;
    return false;
}

GPtrArray *hydration_find_vms(const struct site *site, const GPtrArray *vms, GError **error)
{
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(free_element);
    AUTO_SEARCH search;

    if (!search_init(&search, site, error))
        return NULL;
    for (unsigned i = 0; i < vms->len; i++) {
        g_autoptr(GError) cause = NULL;
        AUTO(hydration) hydration = find_vm(&search, vms->pdata[i], NULL, &cause);

        if (cause) {
            g_propagate_error(error, g_steal_pointer(&cause));
            return NULL;
        }
        if (!hydration)
            progress_note(site->progress, "%s: no VM of that name was recovered here",
                          (char *)vms->pdata[i]);
        else if (!is_found(found, hydration))
            g_ptr_array_add(found, g_steal_pointer(&hydration));
    }
    return g_steal_pointer(&found);
}

GPtrArray *hydration_find(const struct site *site, char *const *names, GError **error)
{
    g_autoptr(GPtrArray) vms = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) found = NULL;

    if (!*names)
        return find_all(site, error);
    for (char *const *name = names; *name; name++)
        if (!expand(site, *name, vms, error))
            return NULL;
    found = hydration_find_vms(site, vms, error);
    if (!found || found->len > 0)
        return g_steal_pointer(&found);
    fail(error, ERROR_NOT_FOUND,
         "nothing of %s was recovered here, so it does not run on points; `drctl hydrate "
         "--dry-run` lists what does",
         names[0]);
    return NULL;
}

/* ---- Counting and telling */

static unsigned count(const GPtrArray *hydrations, bool only_pulled)
{
    unsigned n = 0;

    for (unsigned i = 0; i < hydrations->len; i++) {
        const struct hydration *hydration = hydrations->pdata[i];

        for (unsigned k = 0; k < hydration->disks->len; k++) {
            const struct hydrating_disk *disk = hydration->disks->pdata[k];

            n += only_pulled ? disk->pull.is_active : disk->point != NULL;
        }
    }
    return n;
}

unsigned hydration_pulled(const GPtrArray *hydrations)
{
    return count(hydrations, true);
}

unsigned hydration_left(const GPtrArray *hydrations)
{
    return count(hydrations, false);
}

const char *hydrating_disk_state(const struct hydrating_disk *disk)
{
    if (!disk->point)
        return "hydrated";
    return disk->pull.is_active ? "pulling" : "waiting";
}

static void set_bytes(json_t *json, const char *key, bool is_known, uint64_t bytes)
{
    if (is_known)
        json_set_u64(json, key, bytes);
    else
        json_set_string(json, key, NULL);
}

static json_t *disk_json(const struct hydrating_disk *disk)
{
    const struct domain_pull *pull = &disk->pull;
    json_t *json = json_object();

    json_set_string(json, "disk", disk->target);
    json_set_string(json, "state", hydrating_disk_state(disk));
    json_set_string(json, "point", disk->point ? strchr(disk->point, '/') + 1 : NULL);
    json_set_string(json, "path", disk->path);
    set_bytes(json, "done_bytes", pull->is_active, pull->done_bytes);
    set_bytes(json, "total_bytes", pull->is_active && pull->total_bytes > 0, pull->total_bytes);
    set_bytes(json, "limit_bytes_per_second", pull->is_active && pull->rate > 0, pull->rate);
    json_set_string(json, "why", disk->why);
    return json;
}

static json_t *vm_json(const struct hydration *hydration)
{
    json_t *json = json_object(), *disks = json_array();
    bool is_left = false;

    json_set_string(json, "vm", hydration->vm);
    json_set_string(json, "uuid", hydration->uuid);
    json_set_string(json, "host", hydration->host);
    json_set_string(json, "run", hydration->run);
    json_set_string(json, "state", domain_state_name(hydration->state));
    for (unsigned i = 0; i < hydration->disks->len; i++) {
        const struct hydrating_disk *disk = hydration->disks->pdata[i];

        is_left |= disk->point != NULL;
        json_array_append_new(disks, disk_json(disk));
    }
    json_object_set_new(json, "hydrated", json_boolean(!is_left));
    json_object_set_new(json, "disks", disks);
    return json;
}

json_t *hydrations_json(const GPtrArray *hydrations)
{
    json_t *json = json_array();

    for (unsigned i = 0; i < hydrations->len; i++)
        json_array_append_new(json, vm_json(hydrations->pdata[i]));
    return json;
}
