/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/plan.h"

#include <string.h>

#include "restore/group.h"
#include "restore/loss.h"
#include "restore/planner.h"
#include "restore/storage.h"

/* Less than this in the images directory is worth a word. */
#define IMAGES_FREE_MIN (UINT64_C(1) << 30)

/* ---- One VM */

static void platform_free_element(void *data)
{
    platform_free(data);
}

struct probing {
    struct host *host;
    struct platform *platform;
    GError *error;
};

static void probe(void *data)
{
    struct probing *probing = data;

    probing->platform = platform_probe(probing->host, &probing->error);
}

/* All at once: each may be far away, and is asked several things. */
static bool probe_hosts(struct planner *planner, GError **error)
{
    const GPtrArray *hosts = planner->site->hosts;
    g_autofree struct probing *probings = g_new0(struct probing, hosts->len);
    g_autoptr(GError) first = NULL;

    planner->platforms = g_ptr_array_new_with_free_func(platform_free_element);
    if (hosts->len == 0)
        return fail(error, ERROR_CONFIG, "no libvirt host is connected: see [site] libvirt in %s",
                    planner->site->config->path);
    for (unsigned i = 0; i < hosts->len; i++)
        probings[i].host = hosts->pdata[i];
    in_parallel(probings, hosts->len, sizeof(*probings), probe);
    for (unsigned i = 0; i < hosts->len; i++) {
        if (probings[i].platform)
            g_ptr_array_add(planner->platforms, probings[i].platform);
        else if (first)
            g_error_free(probings[i].error);
        else
            first = probings[i].error;
    }
    if (first)
        g_propagate_error(error, g_steal_pointer(&first));
    else
        planner->inventory = inventory_new(hosts, error);
    return planner->inventory != NULL;
}

char *planner_uuid(const struct planner *planner, const char *vm, GError **error)
{
    const char *known = g_hash_table_lookup(planner->uuids, vm);
    AUTO(manifest) manifest = known ? NULL : origin_find_vm(planner->site, vm, error);

    return g_strdup(known ? known : manifest ? manifest->uuid : NULL);
}

static bool find_uuid(const struct planner *planner, struct failover_vm *vm,
                      struct findings *findings)
{
    g_autoptr(GError) cause = NULL;

    vm->uuid = planner_uuid(planner, vm->name, &cause);
    if (!vm->uuid)
        block(findings, "%s", cause->message);
    return vm->uuid != NULL;
}

void failover_vm_take_point(struct failover_vm *vm, const struct manifest *manifest)
{
    vm->point = g_strdup(manifest->point);
    vm->point_time_ms = manifest->time_ms;
    vm->consistency = manifest->consistency;
}

/* What lies behind its newest point is lost with the round that it belongs to: say so. */
static void remark_newer(const struct planner *planner, struct failover_vm *vm,
                         const struct manifest *taken, struct findings *findings)
{
    g_autoptr(GPtrArray) points = store_points(planner->site->store, vm->uuid, NULL);
    const struct manifest *newest = points && points->len > 0 ? points->pdata[0] : taken;

    vm->passed_over = choice_is_free(&planner->choice) && strcmp(newest->point, taken->point) != 0;
    if (vm->passed_over)
        remark(findings,
               "its point %s is newer, but not every VM has a whole one of that instant: all are "
               "taken from round %s",
               newest->point, taken->group);
}

/* Of POINTS, newest first, but for those that are not whole. */
static struct origin *first_origin(const struct planner *planner, struct failover_vm *vm,
                                   const GPtrArray *points, struct findings *findings,
                                   GError **error)
{
    struct origin *origin = origin_first(planner->site, points, findings, error);
    const struct manifest *newest = points->len ? points->pdata[0] : NULL;

    vm->passed_over = newest && !(origin && strcmp(origin->manifest->point, newest->point) == 0);
    return origin;
}

static struct origin *vm_origin(const struct planner *planner, struct failover_vm *vm,
                                struct findings *findings, GError **error)
{
    g_autoptr(GPtrArray) points = NULL;
    char *key;
    void *origin;

    if (!g_hash_table_steal_extended(planner->origins, vm->uuid, (void **)&key, &origin)) {
        points = choice_points(&planner->choice, vm->uuid, error);
        return points ? first_origin(planner, vm, points, findings, error) : NULL;
    }
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
              "no point of it is whole" REMEDY LOST_WAY_OUT
              "; or start it nevertheless (--accept-damage): the guest gets I/O errors where it "
              "reads what is lost",
              vm->name);
}

/* What it is brought up from; where, is decided when that is known of all. */
static void find_origin(const struct planner *planner, struct planned *planned)
{
    struct failover_vm *vm = planned->vm;
    AUTO(recovery) recovery = g_new0(struct recovery, 1);
    g_autoptr(GError) cause = NULL;

    recovery->origin = vm_origin(planner, vm, planned->findings, &cause);
    if (!recovery->origin) {
        block(planned->findings, "%s", cause->message);
        return;
    }
    failover_vm_take_point(vm, recovery->origin->manifest);
    judge_damage(planner, vm, recovery->origin, planned->findings);
    if (planner->mixed[GPOINTER_TO_UINT(g_hash_table_lookup(planner->part_of, vm->name))])
        remark(planned->findings, "its point and those of the other VMs are not of one instant");
    if (planner->bubble) {
        planner_name_copy(planner, vm->name, recovery);
    } else {
        recovery->name = g_strdup(vm->name);
        recovery->uuid = g_strdup(vm->uuid);
    }
    recovery->plan = planner->recovery;
    recovery->aside = planned->stale != NULL;
    recovery->before = g_steal_pointer(&planned->stale);
    planned->recovery = g_steal_pointer(&recovery);
}

/* What can be seen of this definition, that is: before anybody waits for it in vain. */
static void check_readiness(const struct vapp_vm *vm, const struct failover_vm *planned,
                            struct findings *findings)
{
    AUTO(xml) xml = NULL;
    g_autofree char *problem = NULL;

    if (vm->ready == READY_NONE || !planned->recovery || !planned->recovery->definition)
        return;
    xml = xml_parse(planned->recovery->definition, "definition", NULL);
    problem = xml ? vapp_ready_problem(vm, xml_root(xml)) : NULL;
    if (problem)
        remark(findings, "%s", problem);
}

static bool look_at_vm(struct planner *planner, struct planned *planned, GError **error)
{
    bool adopted = false;

    if (!find_uuid(planner, planned->vm, planned->findings))
        return true;
    /* A test is beside whatever is here. */
    if (!planner->bubble && !planner_look_here(planner, planned, &adopted, error))
        return false;
    if (!adopted)
        find_origin(planner, planned);
    return true;
}

static void customize(const struct planner *planner, const struct planned *planned)
{
    struct recovery *recovery = planned->recovery;

    if (!customization_is_wanted(planner->recovery, planned->vm->name))
        return;
    AUTO(xml) from = definition_parse(recovery->origin->definition, "definition", NULL);
    AUTO(xml) to = xml_parse(recovery->definition, "definition", NULL);

    if (from && to)
        recovery->customization = customization_new(
            planner->recovery, planned->vm->name, xml_root(from), xml_root(to), planned->findings);
    if (planner->bubble)
        customization_keep_inside(recovery->customization, planned->findings);
}

static void conclude_vm(const struct planner *planner, struct planned *planned)
{
    struct failover_vm *vm = planned->vm;

    if (planned->recovery && planned->recovery->definition) {
        customize(planner, planned);
        storage_choose(planner, planned);
        recovery_check_chains(planned->recovery, planned->findings);
        recovery_check_access(planned->recovery, planner->site, planned->findings);
        vm->recovery = g_steal_pointer(&planned->recovery);
        vm->recovery->plan = NULL;
        vm->recovery->bubble = NULL;
    }
    /* What is seen of a test is seen by other means. */
    if (!planner->bubble)
        check_readiness(planned->definition, vm, planned->findings);
    failover_vm_conclude(vm, planned->findings);
}

/* ---- All of it */

/* Of the VMs that have their disks there the first one tells. */
static void check_space_for(struct failover_vm *vm, const char *images)
{
    uint64_t free_bytes;
    uint64_t total_bytes;
    g_autofree char *text = NULL;

    if (!disk_space(images, &free_bytes, &total_bytes, NULL) || free_bytes >= IMAGES_FREE_MIN)
        return;
    text = bytes_format(free_bytes);
    /* Not last: that place is the blocker's. */
    g_ptr_array_insert(
        vm->findings, 0,
        g_strdup_printf("%s has only %s free: guests stop when it is full", images, text));
}

static void check_space(const struct site *site, struct failover_plan *plan)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    for (unsigned i = 0; i < plan->vms->len; i++) {
        struct failover_vm *vm = plan->vms->pdata[i];
        const char *images =
            vm->recovery ? recovery_images(vm->recovery, site->config) : site->config->images;

        if (g_hash_table_add(seen, (char *)images))
            check_space_for(vm, images);
    }
}

static bool open_member(const struct manifest *manifest, void *context)
{
    struct planner *planner = context;
    struct origin *origin = origin_open(planner->site, manifest->uuid, manifest->point, NULL);

    if (origin)
        g_hash_table_insert(planner->origins, g_strdup(manifest->uuid), origin);
    return origin != NULL;
}

/* The points of the VMs of vApp PART, each newest first; of GPtrArray. A VM without points does not
 * decide; why it has none is told when it is looked at. */
static GPtrArray *histories_of(const struct planner *planner, const struct vapp *order,
                               unsigned part, GError **error)
{
    g_autoptr(GPtrArray) histories =
        g_ptr_array_new_with_free_func((GDestroyNotify)g_ptr_array_unref);

    for (unsigned i = 0; i < order->vms->len; i++) {
        const struct vapp_vm *vm = order->vms->pdata[i];
        g_autofree char *uuid = NULL;
        GPtrArray *points;

        if (GPOINTER_TO_UINT(g_hash_table_lookup(planner->part_of, vm->name)) != part)
            continue;
        uuid = planner_uuid(planner, vm->name, NULL);
        points = uuid ? choice_list(&planner->choice, uuid, error) : NULL;
        if (uuid && !points)
            return NULL;
        if (points && points->len > 0)
            g_ptr_array_add(histories, points);
        else if (points)
            g_ptr_array_unref(points);
    }
    return g_steal_pointer(&histories);
}

/* If the newest points of the VMs of vApp PART are of rounds, take all of them from one. */
static bool choose_round(struct planner *planner, const struct vapp *order, unsigned part,
                         GError **error)
{
    g_autoptr(GPtrArray) histories = histories_of(planner, order, part, error);

    if (!histories)
        return false;
    if (group_choose(histories, open_member, planner))
        return true;
    for (unsigned i = 0; i < histories->len; i++) {
        const struct manifest *newest = ((const GPtrArray *)histories->pdata[i])->pdata[0];

        /* Of a round that was tried. */
        g_hash_table_remove(planner->origins, newest->uuid);
        planner->mixed[part] |= newest->group && histories->len > 1;
    }
    return true;
}

/* When the first VM of a vApp is looked at: those of a vApp follow each other, and nobody needs the points of those
 * before any more. */
static bool choose_round_of(struct planner *planner, const struct vapp *order, const char *vm,
                            GError **error)
{
    unsigned part = GPOINTER_TO_UINT(g_hash_table_lookup(planner->part_of, vm));

    if (planner->chosen[part])
        return true;
    planner->chosen[part] = true;
    choice_forget(&planner->choice);
    return choose_round(planner, order, part, error);
}

static bool settle_choice(struct planner *planner, const struct vapp *order,
                          const struct failover_request *request, GError **error)
{
    g_autoptr(GPtrArray) uuids = g_ptr_array_new_with_free_func(g_free);

    for (unsigned i = 0; i < order->vms->len; i++) {
        const struct vapp_vm *vm = order->vms->pdata[i];
        char *uuid = planner_uuid(planner, vm->name, NULL);

        if (uuid)
            g_ptr_array_add(uuids, uuid);
    }
    return choice_settle(&planner->choice, planner->site, request, uuids, error);
}

static bool plan_vms(struct planner *planner, struct failover_plan *plan, GError **error)
{
    for (unsigned i = 0; i < plan->order->vms->len; i++) {
        const struct vapp_vm *vm = plan->order->vms->pdata[i];
        struct failover_vm *added = failover_vm_new(vm);

        g_ptr_array_add(plan->vms, added);
        if (!interrupt_check(error) || !choose_round_of(planner, plan->order, vm->name, error) ||
            !look_at_vm(planner, planned_new(planner, added, vm), error))
            return false;
    }
    if (planner->running == plan->vms->len)
        return fail(error, ERROR_CONFLICT,
                    "%s was failed over already and runs here; `drctl vapp status` of its vApp "
                    "shows it",
                    plan->vapp);
    choice_forget(&planner->choice);
    planner_place(planner);
    for (unsigned i = 0; i < planner->vms->len; i++)
        conclude_vm(planner, planner->vms->pdata[i]);
    check_space(planner->site, plan);
    return true;
}

/* ---- Plans */

static void planned_free_element(void *data)
{
    planned_free(data);
}

void planner_init(struct planner *planner, const struct site *site,
                  const struct recovery_plan *recovery)
{
    *planner = (struct planner){
        .site = site,
        .recovery = recovery,
        .vms = g_ptr_array_new_with_free_func(planned_free_element),
        .bundles = bundles_new(site),
        .uuids = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free),
        .part_of = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
        .origins =
            g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)origin_free),
        .storages = storages_new(),
    };
}

void planner_clear(struct planner *planner)
{
    g_clear_pointer(&planner->platforms, g_ptr_array_unref);
    g_clear_pointer(&planner->inventory, inventory_free);
    g_clear_pointer(&planner->last_hosts, g_hash_table_unref);
    g_clear_pointer(&planner->bundles, bundles_free);
    g_clear_pointer(&planner->vms, g_ptr_array_unref);
    g_clear_pointer(&planner->uuids, g_hash_table_unref);
    g_clear_pointer(&planner->part_of, g_hash_table_unref);
    g_clear_pointer(&planner->origins, g_hash_table_unref);
    g_clear_pointer(&planner->storages, g_hash_table_unref);
    g_clear_pointer(&planner->mixed, g_free);
    g_clear_pointer(&planner->chosen, g_free);
    choice_clear(&planner->choice);
    g_clear_pointer(&planner->copies, g_free);
}

/* Whoever asks for a time to take it back in must not be given none. */
static bool check_policy(const struct commit_policy *asked, const struct failover_plan *plan,
                         const char *run, GError **error)
{
    return !asked ||
           (asked->after_ms == plan->commit.after_ms &&
            asked->rolls_back == plan->commit.rolls_back) ||
           fail(error, ERROR_CONFLICT,
                "run %s was interrupted while it brought up %s, and began with another "
                "--commit-after or --on-timeout: finish it first, without these",
                run, plan->vapp);
}

/* An interrupted failover has its points, some VMs may run from them already. */
static struct failover_plan *go_on(const struct site *site, const struct failover_request *request,
                                   const char *run, GError **error)
{
    AUTO(failover_plan) plan = NULL;

    if (request_has_choice(request)) {
        fail(error, ERROR_CONFLICT,
             "run %s was interrupted while it brought up %s from points that it had chosen: finish "
             "it first, without --point and --at",
             run, request->name);
        return NULL;
    }
    plan = plan_from_run(site, run, error);
    return plan && check_policy(request->commit, plan, run, error) ? g_steal_pointer(&plan) : NULL;
}

static bool is_afresh(const struct failover_request *request)
{
    return request->afresh || request->test;
}

static bool prepare(struct planner *planner, const struct failover_request *request,
                    struct failover_plan *plan, GError **error)
{
    if (request->test)
        return planner_prepare_test(planner, plan, error);
    planner_discount_tests(planner);
    return true;
}

static struct failover_plan *plan_afresh(const struct site *site,
                                         const struct recovery_plan *recovery,
                                         const struct failover_request *request, GError **error)
{
    AUTO(failover_plan) plan = plan_new();
    AUTO_PLANNER planner;
    g_autofree char *run = NULL;

    planner_init(&planner, site, recovery);
    if (!planner_find_order(&planner, request, plan, error) ||
        (!is_afresh(request) &&
         !run_find_interrupted(site->catalog, FAILOVER_KIND, plan->vapp, &run, error)))
        return NULL;
    if (run)
        return go_on(site, request, run, error);
    /* Copies of a test are there to go again. */
    plan->hydrate =
        !request->test && (recovery->hydrate < 0 ? site->config->hydrate : recovery->hydrate == 1);
    /* A move has ended at the other site before it begins here: it has a way back of its own. */
    if (!request->moved && !request->test)
        plan->commit = request->commit ? *request->commit : recovery->commit;
    planner.mixed = g_new0(bool, plan->parts->len);
    planner.chosen = g_new0(bool, plan->parts->len);
    planner.accepts_damage = request->accept_damage;
    planner.moved = request->moved;
    if (planner_look_around(&planner, request, plan, error) && probe_hosts(&planner, error) &&
        prepare(&planner, request, plan, error) &&
        settle_choice(&planner, plan->order, request, error) && plan_vms(&planner, plan, error))
        return g_steal_pointer(&plan);
    g_prefix_error(error, "cannot %s %s: ", request->test ? "test the failover of" : "fail over",
                   plan->vapp);
    return NULL;
}

struct failover_plan *failover_plan_resume(const struct site *site, const char *run, GError **error)
{
    return plan_from_run(site, run, error);
}

struct failover_plan *failover_plan_make(const struct site *site,
                                         const struct failover_request *request, GError **error)
{
    AUTO(recovery_plan) recovery = NULL;
    g_autofree char *run = NULL;

    if (!is_afresh(request) &&
        !run_find_interrupted(site->catalog, FAILOVER_KIND, request->name, &run, error))
        return NULL;
    if (run)
        return go_on(site, request, run, error);
    recovery = recovery_plan_find(site->config->dir, request->name, error);
    return recovery ? plan_afresh(site, recovery, request, error) : NULL;
}

struct failover_plan *failover_plan_new(const struct site *site, const char *name, GError **error)
{
    struct failover_request request = {.name = name};

    return failover_plan_make(site, &request, error);
}
