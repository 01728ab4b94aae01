/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/plan.h"

#include <string.h>

#include "restore/group.h"
#include "restore/source.h"

/* Less than this in the images directory is worth a word. */
#define IMAGES_FREE_MIN (UINT64_C(1) << 30)

struct failover_vm *failover_vm_new(const struct vapp_vm *vm)
{
    struct failover_vm *planned = g_new0(struct failover_vm, 1);

    planned->name = g_strdup(vm->name);
    planned->order = vm->order;
    planned->findings = g_ptr_array_new_with_free_func(g_free);
    planned->lost = lost_disks_new();
    return planned;
}

void failover_vm_free(struct failover_vm *vm)
{
    if (!vm)
        return;
    g_free(vm->name);
    g_free(vm->uuid);
    g_free(vm->point);
    g_free(vm->host);
    g_ptr_array_unref(vm->findings);
    g_ptr_array_unref(vm->lost);
    recovery_free(vm->recovery);
    g_free(vm);
}

static void vm_free(void *data)
{
    failover_vm_free(data);
}

struct failover_plan *plan_new(void)
{
    struct failover_plan *plan = g_new0(struct failover_plan, 1);

    plan->vms = g_ptr_array_new_with_free_func(vm_free);
    return plan;
}

void failover_plan_free(struct failover_plan *plan)
{
    if (!plan)
        return;
    g_free(plan->vapp);
    g_free(plan->site);
    g_free(plan->resumes);
    vapp_free(plan->order);
    g_ptr_array_unref(plan->vms);
    g_free(plan);
}

void failover_vm_conclude(struct failover_vm *vm, const struct findings *findings)
{
    g_ptr_array_unref(vm->findings);
    vm->findings = findings_list(findings, &vm->blocked);
}

double failover_rpo_seconds(const struct failover_vm *vm, int64_t started_ms)
{
    return (double)(started_ms - vm->point_time_ms) / 1000;
}

/* ---- One VM */

/* What a plan is made with. */
struct planner {
    const struct site *site;
    const struct source *source;
    bool accepts_damage;
    GPtrArray
        *platforms;   /* of struct platform, as site->hosts; memory that is promised is taken off */
    unsigned running; /* VMs that run here already */
    bool mixed;       /* the newest points are of rounds and not, so not of one instant */
    char *round;      /* take the points of this round, see group.h; NULL: the newest ones */
    GHashTable *origins; /* UUID -> struct origin, of that round */
};

static void platform_free_element(void *data)
{
    platform_free(data);
}

static bool probe_hosts(struct planner *planner, GError **error)
{
    const GPtrArray *hosts = planner->site->hosts;

    planner->platforms = g_ptr_array_new_with_free_func(platform_free_element);
    if (hosts->len == 0)
        return fail(error, ERROR_CONFIG, "no libvirt host is connected: see [site] libvirt in %s",
                    planner->site->config->path);
    for (unsigned i = 0; i < hosts->len; i++) {
        struct platform *platform = platform_probe(hosts->pdata[i], error);

        if (!platform)
            return false;
        g_ptr_array_add(planner->platforms, platform);
    }
    return true;
}

static char *uuid_of(const struct planner *planner, const char *vm, GError **error)
{
    const char *known =
        planner->source->uuids ? g_hash_table_lookup(planner->source->uuids, vm) : NULL;
    AUTO(manifest) manifest = known ? NULL : origin_find_vm(planner->site, vm, error);

    return g_strdup(known ? known : manifest ? manifest->uuid : NULL);
}

static bool find_uuid(const struct planner *planner, struct failover_vm *vm,
                      struct findings *findings)
{
    g_autoptr(GError) cause = NULL;

    vm->uuid = uuid_of(planner, vm->name, &cause);
    if (!vm->uuid)
        block(findings, "%s", cause->message);
    return vm->uuid != NULL;
}

static void take_point(struct failover_vm *vm, const struct manifest *manifest)
{
    vm->point = g_strdup(manifest->point);
    vm->point_time_ms = manifest->time_ms;
    vm->consistency = manifest->consistency;
}

/* The point may be gone by now; the VM does not need to know. */
static void take_marked_point(const struct planner *planner, struct failover_vm *vm,
                              const struct recovered *mark)
{
    g_autofree char *dir = store_point_dir(planner->site->config->store, vm->uuid, mark->point);
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    AUTO(manifest) manifest = name_is_safe(mark->point) ? manifest_load(path, NULL) : NULL;

    if (manifest) {
        take_point(vm, manifest);
        return;
    }
    vm->point = g_strdup(mark->point);
    point_id_parse(mark->point, &vm->point_time_ms);
}

/* It was brought up by an earlier run: go on from there, its overlay may hold new data. */
static bool adopt(struct planner *planner, struct failover_vm *vm, struct domain *domain,
                  const struct recovered *mark, struct findings *findings, GError **error)
{
    enum domain_state state;

    if (strcmp(mark->vm, vm->uuid) != 0)
        return fail_stranger(domain, vm->name, error);
    if (!domain_state(domain, &state, error))
        return false;
    planner->running += state != DOMAIN_OFF;
    remark(findings, "run %s brought it up already, it is %s%s", mark->run,
           domain_state_name(state), state == DOMAIN_OFF ? " and will be started as it is" : "");
    take_marked_point(planner, vm, mark);
    vm->host = g_strdup(host_uri(domain_host(domain)));
    vm->recovery = g_new0(struct recovery, 1);
    vm->recovery->name = g_strdup(domain_name(domain));
    vm->recovery->uuid = g_strdup(domain_uuid(domain));
    vm->recovery->uri = g_strdup(vm->host);
    vm->recovery->adopted = g_strdup(mark->run);
    return true;
}

/* *ADOPTED, or nothing of that name is here. */
static bool check_domains(struct planner *planner, struct failover_vm *vm,
                          struct findings *findings, bool *adopted, GError **error)
{
    AUTO(domain) domain = NULL;
    struct recovered mark;
    bool good;

    *adopted = false;
    if (!site_find_domain(planner->site, vm->name, vm->uuid, &domain, &mark, error))
        return false;
    if (!domain)
        return true;
    good = mark.run ? adopt(planner, vm, domain, &mark, findings, error)
                    : fail_stranger(domain, vm->name, error);
    recovered_clear(&mark);
    *adopted = good;
    return good;
}

/* The host with the most memory left. */
static struct platform *choose_platform(const struct planner *planner)
{
    struct platform *best = planner->platforms->pdata[0];

    for (unsigned i = 1; i < planner->platforms->len; i++) {
        struct platform *platform = planner->platforms->pdata[i];

        if (platform->memory_free_bytes > best->memory_free_bytes)
            best = platform;
    }
    return best;
}

static void promise_memory(struct platform *platform, const char *definition,
                           struct findings *findings)
{
    AUTO(xml) xml = xml_parse(definition, "definition", NULL);
    uint64_t needed = xml ? definition_memory_bytes(xml_root(xml)) : 0;
    g_autofree char *wants = bytes_format(needed);
    g_autofree char *has = bytes_format(platform->memory_free_bytes);

    if (platform->memory_free_bytes == UINT64_MAX)
        return;
    if (needed > platform->memory_free_bytes)
        remark(findings, "it needs %s of memory, %s is left at %s: it may not start", wants, has,
               platform->name);
    platform->memory_free_bytes -= MIN(needed, platform->memory_free_bytes);
}

/* What lies behind its newest point is lost with the round that it belongs to: say so. */
static void remark_newer(const struct planner *planner, const struct failover_vm *vm,
                         const struct manifest *taken, struct findings *findings)
{
    g_autoptr(GPtrArray) points = store_points(planner->site->store, vm->uuid, NULL);
    const struct manifest *newest = points && points->len > 0 ? points->pdata[0] : taken;

    if (strcmp(newest->point, taken->point) != 0)
        remark(findings,
               "its point %s is newer, but not every VM has a whole one of that instant: all are "
               "taken from round %s",
               newest->point, taken->group);
}

static struct origin *vm_origin(const struct planner *planner, const struct failover_vm *vm,
                                struct findings *findings, GError **error)
{
    char *key;
    void *origin;

    if (!planner->round ||
        !g_hash_table_steal_extended(planner->origins, vm->uuid, (void **)&key, &origin))
        return origin_newest(planner->site, vm->uuid, findings, error);
    g_free(key);
    remark_newer(planner, vm, ((struct origin *)origin)->manifest, findings);
    return origin;
}

/* No point of it is whole. Only somebody who knows what the VM is for can say whether what is left will
 * do. */
static void judge_damage(const struct planner *planner, struct failover_vm *vm,
                         const struct origin *origin, struct findings *findings)
{
    g_ptr_array_unref(vm->lost);
    vm->lost = origin_lost(origin);
    vm->accepts_damage = planner->accepts_damage && vm->lost->len > 0;
    for (unsigned i = 0; i < vm->lost->len; i++) {
        g_autofree char *text = lost_disk_text(vm->lost->pdata[i]);

        remark(findings, "%s", text);
    }
    if (vm->accepts_damage)
        remark(findings, "it starts nevertheless: the guest gets I/O errors where it reads that");
    else if (vm->lost->len > 0)
        block(findings,
              "no point of it is whole. " LOST_WAY_OUT
              "; or start it nevertheless (--accept-damage): the guest gets I/O errors where it "
              "reads what is lost",
              vm->name);
}

static bool plan_recovery(const struct planner *planner, struct failover_vm *vm,
                          struct findings *findings, GError **error)
{
    struct platform *platform = choose_platform(planner);
    AUTO(recovery) recovery = g_new0(struct recovery, 1);
    g_autoptr(GError) cause = NULL;

    recovery->origin = vm_origin(planner, vm, findings, &cause);
    if (!recovery->origin) {
        block(findings, "%s", cause->message);
        return true;
    }
    take_point(vm, recovery->origin->manifest);
    judge_damage(planner, vm, recovery->origin, findings);
    if (planner->mixed)
        remark(findings, "its point and those of the other VMs are not of one instant");
    recovery->name = g_strdup(vm->name);
    recovery->uuid = g_strdup(vm->uuid);
    recovery->uri = g_strdup(platform->name);
    if (!recovery_adapt(recovery, platform, false, findings, &cause)) {
        block(findings, "%s", cause->message);
        return true;
    }
    promise_memory(platform, recovery->definition, findings);
    recovery_check_chains(recovery, findings);
    recovery_check_access(recovery, planner->site, findings);
    vm->host = g_strdup(platform->name);
    vm->recovery = g_steal_pointer(&recovery);
    return true;
}

/* What is waited for on a network that is not there never comes. */
static void check_readiness(const struct vapp_vm *vm, const struct failover_vm *planned,
                            struct findings *findings)
{
    AUTO(xml) xml = NULL;

    if (vm->ready != READY_TCP || vm->address || !planned->recovery ||
        !planned->recovery->definition)
        return;
    xml = xml_parse(planned->recovery->definition, "definition", NULL);
    if (xml && !xml_find(xml_root(xml), "devices/interface[not(link/@state='down')]"))
        remark(findings,
               "ready = tcp:%u: without a network nobody will see it, and it will count as failed",
               vm->ready_port);
}

static bool plan_vm(struct planner *planner, const struct vapp_vm *definition,
                    struct failover_vm *vm, GError **error)
{
    AUTO(findings) findings = findings_new();
    bool adopted = false;

    if (find_uuid(planner, vm, findings)) {
        if (!check_domains(planner, vm, findings, &adopted, error) ||
            (!adopted && !plan_recovery(planner, vm, findings, error)))
            return false;
    }
    check_readiness(definition, vm, findings);
    failover_vm_conclude(vm, findings);
    return true;
}

/* ---- All of it */

static void check_space(const struct site *site, struct failover_plan *plan)
{
    struct failover_vm *first = plan->vms->pdata[0];
    uint64_t free_bytes;
    uint64_t total_bytes;
    g_autofree char *text = NULL;

    if (!disk_space(site->config->images, &free_bytes, &total_bytes, NULL) ||
        free_bytes >= IMAGES_FREE_MIN)
        return;
    text = bytes_format(free_bytes);
    /* Not last: that place is the blocker's. */
    g_ptr_array_insert(first->findings, 0,
                       g_strdup_printf("%s has only %s free: guests stop when it is full",
                                       site->config->images, text));
}

static bool open_member(const struct manifest *manifest, void *context)
{
    struct planner *planner = context;
    struct origin *origin = origin_open(planner->site, manifest->uuid, manifest->point, NULL);

    if (origin)
        g_hash_table_insert(planner->origins, g_strdup(manifest->uuid), origin);
    return origin != NULL;
}

/* If the VMs' newest points are of rounds, take all of them from one. A VM without points does not
 * decide; why it has none is told when it is planned. */
static bool choose_round(struct planner *planner, const struct vapp *order, GError **error)
{
    g_autoptr(GPtrArray) histories =
        g_ptr_array_new_with_free_func((GDestroyNotify)g_ptr_array_unref);

    planner->origins =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)origin_free);
    for (unsigned i = 0; i < order->vms->len; i++) {
        const struct vapp_vm *vm = order->vms->pdata[i];
        g_autofree char *uuid = uuid_of(planner, vm->name, NULL);
        GPtrArray *points = uuid ? store_points(planner->site->store, uuid, error) : NULL;

        if (uuid && !points)
            return false;
        if (points && points->len > 0)
            g_ptr_array_add(histories, points);
        else if (points)
            g_ptr_array_unref(points);
    }
    planner->round = g_strdup(group_choose(histories, open_member, planner));
    for (unsigned i = 0; i < histories->len && !planner->round; i++) {
        const GPtrArray *points = histories->pdata[i];

        planner->mixed |= ((const struct manifest *)points->pdata[0])->group != NULL;
    }
    planner->mixed &= histories->len > 1;
    return true;
}

static bool plan_vms(struct planner *planner, struct failover_plan *plan, GError **error)
{
    for (unsigned i = 0; i < plan->order->vms->len; i++) {
        const struct vapp_vm *vm = plan->order->vms->pdata[i];

        g_ptr_array_add(plan->vms, failover_vm_new(vm));
        if (!interrupt_check(error) || !plan_vm(planner, vm, plan->vms->pdata[i], error))
            return false;
    }
    if (planner->running == plan->vms->len)
        return fail(error, ERROR_CONFLICT,
                    "%s was failed over already and runs here; `drctl vapp status %s` shows it",
                    plan->vapp, plan->vapp);
    check_space(planner->site, plan);
    return true;
}

/* The site that most likely ran it, when no bundle says so. */
static char *site_of_points(const struct site *site, const struct vapp *order)
{
    for (unsigned i = 0; i < order->vms->len; i++) {
        const struct vapp_vm *vm = order->vms->pdata[i];
        AUTO(manifest) manifest = origin_find_vm(site, vm->name, NULL);

        if (manifest)
            return g_strdup(manifest->site);
    }
    return g_strdup("unknown");
}

static struct failover_plan *plan_afresh(const struct site *site, struct source *source,
                                         bool accepts_damage, GError **error)
{
    AUTO(failover_plan) plan = plan_new();
    struct planner planner = {.site = site, .source = source, .accepts_damage = accepts_damage};
    bool good;

    plan->order = g_steal_pointer(&source->order);
    plan->vapp = g_strdup(plan->order->name);
    plan->site = source->site ? g_strdup(source->site) : site_of_points(site, plan->order);
    good = probe_hosts(&planner, error) && choose_round(&planner, plan->order, error) &&
           plan_vms(&planner, plan, error);
    g_clear_pointer(&planner.platforms, g_ptr_array_unref);
    g_clear_pointer(&planner.origins, g_hash_table_unref);
    g_free(planner.round);
    if (good)
        return g_steal_pointer(&plan);
    g_prefix_error(error, "cannot fail over %s: ", plan->vapp);
    return NULL;
}

static struct failover_plan *make_plan(const struct site *site, const char *name,
                                       bool accepts_damage, GError **error)
{
    AUTO_SOURCE source = {0};
    g_autofree char *run = NULL;

    if (!run_find_interrupted(site->catalog, FAILOVER_KIND, name, &run, error))
        return NULL;
    if (run)
        return plan_from_run(site, run, error);
    if (!source_find(site, name, &source, error))
        return NULL;
    /* NAME may be a VM's UUID. */
    if (strcmp(source.order->name, name) != 0 &&
        !run_find_interrupted(site->catalog, FAILOVER_KIND, source.order->name, &run, error))
        return NULL;
    return run ? plan_from_run(site, run, error)
               : plan_afresh(site, &source, accepts_damage, error);
}

struct failover_plan *failover_plan_new(const struct site *site, const char *name, GError **error)
{
    return make_plan(site, name, false, error);
}

struct failover_plan *failover_plan_accepting(const struct site *site, const char *name,
                                              GError **error)
{
    return make_plan(site, name, true, error);
}
