/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/plan.h"

/* A plan while it is executed. Its VMs start in threads of their own; each has its own struct
 * recovery, and the run is made for that. */
struct execution {
    const struct site *site;
    const struct failover_plan *plan;
    struct run *run;
    void (*report)(void *context, const struct vapp_result *result);
    void *report_context;
    GMutex lock;       /* of: */
    GHashTable *notes; /* VM -> what went wrong with it after it was ready */
    unsigned starting; /* VMs that are on their way to their start */
    GCond one_less;    /* of them */
};

/* So many VMs at once are on their way to their start: qemu-img runs for each. Those that boot do not count. */
#define STARTING_MAX 32u

void failover_result_clear(struct failover_result *result)
{
    g_clear_pointer(&result->run, g_free);
    g_clear_pointer(&result->vms, g_ptr_array_unref);
    g_clear_pointer(&result->vm_rto_seconds, g_free);
    *result = (struct failover_result){0};
}

static struct hook_facts facts_of(const struct execution *execution, const struct failover_vm *vm)
{
    return (struct hook_facts){.vm = vm->name,
                               .uuid = vm->uuid,
                               .host = vm->host,
                               .site = execution->plan->site,
                               .point = vm->point,
                               .run = run_id(execution->run)};
}

static bool bring_up(struct execution *execution, struct recovery *recovery, struct domain **domain,
                     GError **error)
{
    bool good;

    g_mutex_lock(&execution->lock);
    while (execution->starting >= STARTING_MAX)
        g_cond_wait(&execution->one_less, &execution->lock);
    execution->starting++;
    g_mutex_unlock(&execution->lock);
    good = recovery_run(recovery, execution->site, execution->run, true, domain, error);
    g_mutex_lock(&execution->lock);
    execution->starting--;
    g_cond_signal(&execution->one_less);
    g_mutex_unlock(&execution->lock);
    return good;
}

static bool start_vm(void *context, const struct vapp_vm *vm, struct domain **domain,
                     GError **error)
{
    struct execution *execution = context;
    const struct failover_vm *planned = plan_vm_named(execution->plan, vm->name);
    struct hook_facts facts = facts_of(execution, planned);

    return failover_vm_may_start(planned, error) &&
           customize_before(planned->recovery->customization, &facts, execution->run, planned->name,
                            error) &&
           bring_up(execution, planned->recovery, domain, error);
}

static void note_vm(struct execution *execution, const char *vm, const char *text)
{
    g_mutex_lock(&execution->lock);
    g_hash_table_insert(execution->notes, g_strdup(vm), g_strdup(text));
    g_mutex_unlock(&execution->lock);
}

/* A VM that is up is not taken for failed because a command behind it was. */
static bool finish_vm(void *context, const struct vapp_vm *vm, struct domain *domain,
                      GError **error)
{
    struct execution *execution = context;
    const struct failover_vm *planned = plan_vm_named(execution->plan, vm->name);
    const struct customization *customization = planned->recovery->customization;
    struct hook_facts facts = facts_of(execution, planned);
    g_autoptr(GError) cause = NULL;

    if (!customize_addresses(customization, domain, vm->ready_timeout_ms, execution->run,
                             planned->name, error) ||
        !recovery_wait_ready(planned->recovery, execution->run, vm, domain, error))
        return false;
    if (customize_after(customization, &facts, domain, execution->run, planned->name, &cause))
        return true;
    if (error_is(cause, ERROR_CANCELLED)) {
        g_propagate_error(error, g_steal_pointer(&cause));
        return false;
    }
    note_vm(execution, vm->name, cause->message);
    return true;
}

/* Results say what is not as wished. */
static void tell_notes(const struct execution *execution, const GPtrArray *results)
{
    for (unsigned i = 0; i < results->len; i++) {
        struct vapp_result *result = results->pdata[i];
        const char *note = g_hash_table_lookup(execution->notes, result->vm->name);

        if (note && !result->error)
            result->error = g_strdup(note);
    }
}

static void report_vm(void *context, const struct vapp_result *result)
{
    const struct execution *execution = context;

    if (execution->report)
        execution->report(execution->report_context, result);
}

/* ---- The result */

static enum run_state verdict(const GPtrArray *results)
{
    unsigned done = 0;

    for (unsigned i = 0; i < results->len; i++)
        done += ((const struct vapp_result *)results->pdata[i])->state == VAPP_VM_DONE;
    if (done == results->len)
        return RUN_DONE;
    return done ? RUN_PARTIAL : RUN_FAILED;
}

static bool measure(const struct execution *execution, struct failover_result *result,
                    GError **error)
{
    result->vm_rto_seconds = g_new0(double, result->vms->len);
    for (unsigned i = 0; i < result->vms->len; i++) {
        const struct vapp_result *one = result->vms->pdata[i];
        double *seconds = &result->vm_rto_seconds[i];

        if (one->state == VAPP_VM_DONE &&
            !recovery_rto(plan_vm_named(execution->plan, one->vm->name)->recovery, execution->run,
                          seconds, error))
            return false;
        result->rto_seconds = MAX(result->rto_seconds, *seconds);
    }
    return true;
}

static void set_rto(json_t *json, double seconds)
{
    if (seconds > 0)
        json_set_real(json, "rto_seconds", seconds);
    else
        json_set_string(json, "rto_seconds", NULL);
}

static json_t *result_to_json(const struct failover_plan *plan,
                              const struct failover_result *result)
{
    json_t *json = json_object();
    json_t *vms = json_array();

    json_set_string(json, "run", result->run);
    json_set_string(json, "state", run_state_name(result->state));
    set_rto(json, result->rto_seconds);
    for (unsigned i = 0; i < result->vms->len; i++) {
        const struct vapp_result *one = result->vms->pdata[i];
        const struct failover_vm *vm = plan_vm_named(plan, one->vm->name);
        json_t *entry = json_object();

        json_set_string(entry, "vm", vm->name);
        json_set_string(entry, "state", vapp_vm_state_name(one->state));
        json_set_string(entry, "point", vm->point);
        if (vm->point)
            json_set_real(entry, "rpo_seconds", failover_rpo_seconds(vm, result->started_ms));
        set_rto(entry, result->vm_rto_seconds[i]);
        json_set_string(entry, "error", one->error);
        json_object_set_new(entry, "lost", lost_disks_json(vm->lost));
        json_array_append_new(vms, entry);
    }
    json_object_set_new(json, "vms", vms);
    return json;
}

/* An interrupted run is not finished: the same command goes on with it. */
static bool conclude(struct execution *execution, struct failover_result *result, bool cancelled,
                     GError **error)
{
    json_auto_t *json = NULL;

    result->run = g_strdup(run_id(execution->run));
    result->started_ms = run_started_ms(execution->run);
    if (!measure(execution, result, error))
        return false;
    result->state = cancelled ? RUN_INTERRUPTED : verdict(result->vms);
    if (cancelled)
        return true;
    json = result_to_json(execution->plan, result);
    return window_start(execution->site, result->run, error) &&
           run_finish(execution->run, result->state, json, error);
}

/* ---- Whose they are */

static bool step_own(void *context, GError **error)
{
    return claim_take(context, NULL, error);
}

/* The step's name is journaled. */
static const struct step own_steps[] = {{"own", step_own, NULL}};

/* Before the first VM starts: whatever happens from then on, the site that had them must not start them
 * again, nor may it send points of them. */
static bool own_vms(const struct execution *execution, GError **error)
{
    AUTO(claim) claim = claim_new(execution->site, run_id(execution->run));
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    for (unsigned i = 0; i < execution->plan->vms->len; i++) {
        const struct failover_vm *vm = execution->plan->vms->pdata[i];

        if (vm->blocked || !vm->uuid)
            continue;
        g_ptr_array_add(names, vm->name);
        claim_add(claim, vm->uuid, vm->name);
    }
    if (run_together(execution->run, (const char *const *)names->pdata, names->len, own_steps,
                     claim, error))
        return true;
    g_prefix_error(error, "no VM is started, as this site cannot become their owner: ");
    return false;
}

/* ---- Off their points */

/* Of those that are up; also of those that an earlier run brought up. */
static void hydrate(const struct execution *execution, const GPtrArray *results)
{
    g_autoptr(GPtrArray) uuids = g_ptr_array_new();

    for (unsigned i = 0; i < results->len; i++) {
        const struct vapp_result *result = results->pdata[i];

        if (result->state == VAPP_VM_DONE)
            g_ptr_array_add(uuids,
                            plan_vm_named(execution->plan, result->vm->name)->recovery->uuid);
    }
    hydration_after_failover(execution->site, uuids);
}

/* ---- Execution */

/* Two failovers of one vApp would each start some of its VMs, in nobody's order. */
struct file_lock *failover_lock(const struct site *site, const char *name, GError **error)
{
    g_autofree char *path = plan_lock_path(site, FAILOVER_KIND, name);
    g_autofree char *what = g_strdup_printf("cannot fail over %s again now: its failover", name);

    return file_lock_take(path, what, error);
}

/* All steps that a failover without trouble has. */
static bool declare(struct run *run, const struct failover_plan *plan, GError **error)
{
    unsigned n_vms = plan->vms->len;
    g_autofree struct run_subject *subjects = g_new0(struct run_subject, 3 * n_vms);

    for (unsigned i = 0; i < n_vms; i++) {
        const struct failover_vm *vm = plan->vms->pdata[i];
        const char *name = vm->recovery ? vm->recovery->name : vm->name;
        struct run_subject *own = &subjects[i], *others = &subjects[n_vms + 2 * i];

        *own = (struct run_subject){vm->name, own_steps, G_N_ELEMENTS(own_steps)};
        others[0] = recovery_steps(name, vm->recovery, true);
        others[1] = (struct run_subject){name, &recovery_ready, 1};
    }
    return run_declare(run, subjects, 3 * n_vms, error);
}

static struct run *begin(const struct site *site, const struct failover_plan *plan, GError **error)
{
    json_auto_t *json = NULL;
    AUTO(run) run = NULL;

    if (plan->resumes)
        return run_resume(site->catalog, plan->resumes, error);
    json = plan_to_json(plan);
    run = run_begin(site->catalog, FAILOVER_KIND, plan->vapp, json, error);
    return run && declare(run, plan, error) ? g_steal_pointer(&run) : NULL;
}

bool failover_execute(const struct site *site, const struct failover_plan *plan,
                      void (*report)(void *context, const struct vapp_result *result),
                      void *context, struct failover_result *result, GError **error)
{
    AUTO(file_lock) lock = failover_lock(site, plan->vapp, error);
    AUTO(run) run = lock ? begin(site, plan, error) : NULL;
    g_autoptr(GHashTable) notes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    struct execution execution = {.site = site,
                                  .plan = plan,
                                  .run = run,
                                  .report = report,
                                  .report_context = context,
                                  .notes = notes};
    struct vapp_actions actions = {
        .start = start_vm, .ready = finish_vm, .report = report_vm, .context = &execution};
    g_autoptr(GError) cause = NULL;

    if (!run || !window_open(site, plan, run_id(run), error) || !own_vms(&execution, error))
        return false;
    test_give_way(site);
    vapp_start(plan->order, &actions, &result->vms, &cause);
    tell_notes(&execution, result->vms);
    if (!conclude(&execution, result, error_is(cause, ERROR_CANCELLED), error))
        return false;
    if (plan->hydrate && plan->commit.after_ms == 0 && result->state != RUN_INTERRUPTED)
        hydrate(&execution, result->vms);
    if (!cause)
        return true;
    if (result->state == RUN_INTERRUPTED)
        g_prefix_error(&cause, "run %s stopped, drctl run resume %s goes on with it: ", result->run,
                       result->run);
    g_propagate_error(error, g_steal_pointer(&cause));
    return false;
}
