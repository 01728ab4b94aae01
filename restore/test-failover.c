/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/test-failover.h"

#include <fnmatch.h>
#include <string.h>

#include "restore/evidence.h"
#include "restore/guest.h"
#include "restore/plan.h"
#include "restore/rewrite.h"
#include "restore/test-guard.h"
#include "restore/test-undo.h"

#define KEEP_TICK_US (100 * 1000)

/* What planner_prepare_test() calls them. */
#define COPY_NAMES "*-test-[0-9]*.*"

bool test_failover_is_copy(struct domain *domain)
{
    g_autofree char *mark = NULL;

    return fnmatch(COPY_NAMES, domain_name(domain), 0) == 0 &&
           domain_metadata(domain, RECOVERED_NAMESPACE, &mark, NULL) && mark;
}

/* One VM. Written by its thread, read when that has ended. */
struct tested {
    struct failover_vm *planned; /* borrowed */
    struct domain *domain;       /* NULL: it was not started */
    enum proof_verdict verdict;
    char *seen;                   /* what proves it, or why nobody could see; or NULL */
    int64_t started_ms, ready_ms; /* monotonic; 0: not */
};

struct test {
    const struct site *site;
    const struct failover_plan *plan;
    const struct test_request *request;
    struct run *run;
    struct test_guard *guard;
    struct tested *vms; /* as the plan's */
    char *dir;
    void (*report)(void *context, const struct vapp_result *result);
    void *report_context;
};

void test_outcome_clear(struct test_outcome *result)
{
    g_clear_pointer(&result->run, g_free);
    g_clear_pointer(&result->dir, g_free);
    json_decref(result->evidence);
    *result = (struct test_outcome){0};
}

static void test_clear(struct test *test)
{
    test_guard_free(test->guard);
    for (unsigned i = 0; test->vms && i < test->plan->vms->len; i++) {
        domain_free(test->vms[i].domain);
        g_free(test->vms[i].seen);
    }
    g_free(test->vms);
    g_free(test->dir);
    run_free(test->run);
}
#define AUTO_TEST __attribute__((cleanup(test_clear))) struct test

static struct tested *find_tested(const struct test *test, const char *name)
{
    for (unsigned i = 0; i < test->plan->vms->len; i++)
        if (strcmp(test->vms[i].planned->name, name) == 0)
            return &test->vms[i];
    g_return_val_if_reached(NULL);
}

/* ---- Bringing it up; in a thread for each VM */

static bool start_vm(void *context, const struct vapp_vm *vm, struct domain **domain,
                     GError **error)
{
    struct test *test = context;
    struct tested *tested = find_tested(test, vm->name);
    struct recovery *recovery = tested->planned->recovery;

    if (!test_guard_check(test->guard, error) || !failover_vm_may_start(tested->planned, error))
        return false;
    test_guard_add(test->guard, recovery, run_id(test->run));
    tested->started_ms = time_monotonic_ms();
    if (!recovery_run(recovery, test->site, test->run, true, domain, error))
        return false;
    tested->domain = host_domain(recovery->host, recovery->uuid, error);
    /* Overlays lie upon the points now: nobody drops those. */
    origin_release(recovery->origin);
    if (tested->domain && test_guard_check(test->guard, error))
        return true;
    /* It may have been started after the guard had pulled all plugs. */
    domain_destroy(*domain, NULL);
    g_clear_pointer(domain, domain_free);
    return false;
}

struct wait {
    const struct vapp_vm *vm;
    struct domain *domain;
    struct tested *tested;
};

static bool step_ready(void *context, GError **error)
{
    struct wait *wait = context;
    struct tested *tested = wait->tested;

    if (!guest_wait_ready(wait->vm, wait->domain, &tested->verdict, &tested->seen, error))
        return false;
    tested->ready_ms = time_monotonic_ms();
    return true;
}

/* As that of a failover, looked at in another way. */
static const struct step ready = {.name = "ready", .run = step_ready};

/* What a failover only tells of is what a test is for. */
static bool finish(struct test *test, struct wait *wait, GError **error)
{
    const struct customization *customization = wait->tested->planned->recovery->customization;
    const char *name = wait->vm->name;

    return customize_addresses(customization, wait->domain, wait->vm->ready_timeout_ms, test->run,
                               name, error) &&
           run_again(test->run, name, &ready, wait, error) &&
           customize_after(customization, NULL, wait->domain, test->run, name, error);
}

static bool wait_ready(void *context, const struct vapp_vm *vm, struct domain *domain,
                       GError **error)
{
    struct test *test = context;
    struct wait wait = {vm, domain, find_tested(test, vm->name)};
    g_autoptr(GError) cause = NULL;

    if (finish(test, &wait, &cause))
        return true;
    /* Why it is off all of a sudden. */
    if (test_guard_check(test->guard, error))
        g_propagate_error(error, g_steal_pointer(&cause));
    return false;
}

static void report_vm(void *context, const struct vapp_result *result)
{
    const struct test *test = context;

    if (test->report)
        test->report(test->report_context, result);
}

/* ---- What was seen */

static enum proof_verdict verdict_of(const struct tested *tested, const struct vapp_result *result)
{
    return result->state == VAPP_VM_DONE ? tested->verdict : PROOF_FAILED;
}

static double boot_seconds(const struct tested *tested)
{
    return tested->ready_ms ? (double)(tested->ready_ms - tested->started_ms) / 1000 : 0;
}

static void set_seconds(json_t *json, const char *key, double seconds)
{
    if (seconds > 0)
        json_set_real(json, key, seconds);
    else
        json_set_string(json, key, NULL);
}

static double rto_seconds(const struct test *test, const struct tested *tested)
{
    const struct recovery *recovery = tested->planned->recovery;
    double seconds = 0;

    return recovery && recovery_rto(recovery, test->run, &seconds, NULL) ? seconds : 0;
}

/* LOOK: while it can be looked at. */
static json_t *vm_evidence(const struct test *test, const struct tested *tested,
                           const struct vapp_result *result, bool look)
{
    const struct failover_vm *vm = tested->planned;
    json_t *json = json_object();
    g_autofree char *time = vm->point ? time_format(vm->point_time_ms) : NULL;

    json_set_string(json, "vm", vm->name);
    json_set_string(json, "uuid", vm->uuid);
    json_set_string(json, "domain", vm->recovery ? vm->recovery->name : NULL);
    json_set_string(json, "state", vapp_vm_state_name(result->state));
    json_set_string(
        json, "verdict",
        result->state == VAPP_VM_SKIPPED ? NULL : proof_verdict_name(verdict_of(tested, result)));
    json_set_string(json, "seen", tested->seen);
    json_set_string(json, "error", result->error);
    json_set_string(json, "point", vm->point);
    json_set_string(json, "time", time);
    json_set_string(json, "consistency", vm->point ? consistency_name(vm->consistency) : NULL);
    set_seconds(json, "rpo_seconds",
                vm->point ? failover_rpo_seconds(vm, run_started_ms(test->run)) : 0);
    set_seconds(json, "rto_seconds", rto_seconds(test, tested));
    set_seconds(json, "boot_seconds", boot_seconds(tested));
    if (tested->domain && look)
        evidence_look(test->dir, vm->name, vm->uuid, tested->domain, json);
    evidence_list(json);
    return json;
}

static double worst(const json_t *vms, const char *key)
{
    double most = 0;
    const json_t *vm;
    size_t i;

    json_array_foreach((json_t *)vms, i, vm) most =
        MAX(most, json_number_value(json_object_get(vm, key)));
    return most;
}

static enum proof_verdict overall(const struct test *test, const GPtrArray *results)
{
    enum proof_verdict verdict = PROOF_PASSED;

    for (unsigned i = 0; i < results->len; i++)
        verdict = MAX(verdict, verdict_of(&test->vms[i], results->pdata[i]));
    return verdict;
}

static json_t *collect_evidence(const struct test *test, const GPtrArray *results,
                                enum proof_verdict verdict, const GError *stopped)
{
    json_t *json = json_object();
    json_t *vms = json_array();
    g_autofree char *started = time_format(run_started_ms(test->run));

    for (unsigned i = 0; i < results->len; i++)
        json_array_append_new(vms, vm_evidence(test, &test->vms[i], results->pdata[i], !stopped));
    json_set_u64(json, "format", 1);
    json_set_string(json, "run", run_id(test->run));
    json_set_string(json, "vapp", test->plan->vapp);
    json_set_string(json, "site", test->plan->site);
    json_set_string(json, "started", started);
    json_set_string(json, "verdict", stopped ? NULL : proof_verdict_name(verdict));
    json_set_string(json, "stopped", stopped ? stopped->message : NULL);
    set_seconds(json, "rto_seconds", worst(vms, "rto_seconds"));
    set_seconds(json, "rpo_seconds", worst(vms, "rpo_seconds"));
    json_set_u64(json, "written_bytes", test_guard_bytes(test->guard));
    json_set_u64(json, "cap_bytes", test_guard_cap(test->guard));
    json_object_set_new(json, "bubble", bubble_to_json(test->plan->bubble));
    json_object_set_new(json, "vms", vms);
    return json;
}

/* What says nothing about the point: a VM that was never tried, or of which a part was known to be lost; and what
 * a test that was stopped did not see. */
static bool is_proof(const struct tested *tested, enum proof_verdict verdict, bool stopped)
{
    return tested->started_ms && !tested->planned->accepts_damage &&
           (!stopped || verdict == PROOF_PASSED);
}

/* Beside each point. */
static void save_proofs(const struct test *test, const json_t *evidence)
{
    bool stopped = json_get_string(evidence, "stopped") != NULL;
    const json_t *vm;
    size_t i;

    json_array_foreach(json_object_get(evidence, "vms"), i, vm)
    {
        const char *point = json_get_string(vm, "point");
        struct proof proof = {
            .run = (char *)run_id(test->run),
            .time_ms = time_now_ms(),
            .rto_seconds = json_number_value(json_object_get(vm, "rto_seconds")),
        };
        g_autofree char *dir = NULL;
        g_autoptr(GError) why = NULL;

        if (!point || !proof_verdict_parse(json_get_string(vm, "verdict"), &proof.verdict) ||
            !is_proof(&test->vms[i], proof.verdict, stopped))
            continue;
        dir = store_point_dir(test->site->config->store, json_get_string(vm, "uuid"), point);
        if (!proof_save(dir, &proof, &why))
            progress_note(test->site->progress, "the proof of point %s cannot be noted: %s", point,
                          why->message);
    }
}

/* ---- All of it */

static bool bring_up(struct test *test, GPtrArray **results, GError **error)
{
    struct vapp_actions actions = {
        .start = start_vm, .ready = wait_ready, .report = report_vm, .context = test};

    return test_bubble_up(test->site, test->run, error) &&
           vapp_start(test->plan->order, &actions, results, error);
}

static void keep(const struct test *test)
{
    int64_t deadline_ms = time_monotonic_ms() + test->request->keep_ms;
    g_autofree char *time = duration_format((double)test->request->keep_ms / 1000);

    if (test->request->keep_ms > 0)
        progress_note(test->site->progress, "the VMs stay for %s, or until Ctrl-C", time);
    while (time_monotonic_ms() < deadline_ms && interrupt_check(NULL) &&
           test_guard_check(test->guard, NULL))
        g_usleep(KEEP_TICK_US);
}

static bool fail_verdict(const struct test *test, const struct test_outcome *result,
                         const GError *stopped, GError **error)
{
    const char *vapp = test->plan->vapp;

    if (stopped)
        return fail(error, error_kind_of(stopped), "the test of %s was stopped: %s", vapp,
                    stopped->message);
    if (result->verdict == PROOF_UNPROVEN)
        return fail(
            error, ERROR_PARTIAL,
            "the test of %s proves less than all: why stands beside the VMs that are unproven",
            vapp);
    return result->verdict == PROOF_PASSED ||
           fail(error, ERROR_FAILED, "the test of %s failed; what was seen of it is in %s", vapp,
                result->dir);
}

/* RESULTS are those of all VMs, or NULL when it did not come so far. */
static void conclude(struct test *test, const GPtrArray *results, const GError *stopped,
                     struct test_outcome *result)
{
    g_autoptr(GError) why = NULL;

    result->run = g_strdup(run_id(test->run));
    result->dir = g_strdup(test->dir);
    result->state = stopped ? RUN_CANCELLED : RUN_FAILED;
    result->verdict = PROOF_FAILED;
    if (!results)
        return;
    result->verdict = overall(test, results);
    result->evidence = collect_evidence(test, results, result->verdict, stopped);
    if (!stopped && result->verdict != PROOF_FAILED)
        result->state = result->verdict == PROOF_PASSED ? RUN_DONE : RUN_PARTIAL;
    save_proofs(test, result->evidence);
    if (!evidence_save(test->dir, result->evidence, &why))
        progress_note(test->site->progress, "the evidence cannot be kept: %s", why->message);
}

/* Run it to its verdict; the error is what kept it from one. */
static bool run_test(struct test *test, struct test_outcome *result, GError **error)
{
    g_autoptr(GPtrArray) results = NULL;
    g_autoptr(GError) cause = NULL;
    g_autoptr(GError) stopped = NULL;
    bool begun;

    bring_up(test, &results, &cause);
    begun = results != NULL;
    if (test_guard_check(test->guard, &stopped) && error_is(cause, ERROR_CANCELLED))
        stopped = g_error_copy(cause);
    conclude(test, results, stopped, result);
    if (!stopped && begun)
        keep(test);
    if (begun || stopped)
        return fail_verdict(test, result, stopped, error);
    g_propagate_error(error, g_steal_pointer(&cause));
    return false;
}

static json_t *test_plan_json(const struct failover_plan *plan)
{
    json_t *json = plan_to_json(plan);

    json_object_set_new(json, "bubble", bubble_to_json(plan->bubble));
    return json;
}

/* All steps that a test without trouble has. */
static bool declare(const struct test *test, GError **error)
{
    unsigned n_vms = test->plan->vms->len;
    g_autofree struct run_subject *subjects = g_new0(struct run_subject, 1 + 2 * n_vms);

    subjects[0] = test_bubble_steps();
    for (unsigned i = 0; i < n_vms; i++) {
        const struct failover_vm *vm = test->plan->vms->pdata[i];

        subjects[1 + 2 * i] = recovery_steps(vm->name, vm->recovery, true);
        subjects[2 + 2 * i] = (struct run_subject){vm->name, &ready, 1};
    }
    return run_declare(test->run, subjects, 1 + 2 * n_vms, error);
}

static bool begin(struct test *test, GError **error)
{
    json_auto_t *json = test_plan_json(test->plan);

    test->guard = test_guard_new(test->site, test->plan, test->request->cap_bytes, error);
    if (!test->guard) {
        g_prefix_error(error, "cannot test %s now: ", test->plan->vapp);
        return false;
    }
    test->run = run_begin(test->site->catalog, TEST_KIND, test->plan->vapp, json, error);
    if (!test->run || !declare(test, error))
        return false;
    test->dir = evidence_dir(test->site, run_id(test->run));
    test->vms = g_new0(struct tested, test->plan->vms->len);
    for (unsigned i = 0; i < test->plan->vms->len; i++)
        test->vms[i].planned = test->plan->vms->pdata[i];
    return true;
}

bool test_execute(const struct site *site, const struct failover_plan *plan,
                  const struct test_request *request,
                  void (*report)(void *context, const struct vapp_result *result), void *context,
                  struct test_outcome *result, GError **error)
{
    AUTO(file_lock) lock = test_lock(site, plan->vapp, error);
    AUTO_TEST test = {.site = site,
                      .plan = plan,
                      .request = request,
                      .report = report,
                      .report_context = context};
    g_autoptr(GError) cause = NULL;
    g_autoptr(GError) undo_cause = NULL;
    json_auto_t *json = NULL;
    bool good;

    if (!lock || !begin(&test, error))
        return false;
    good = run_test(&test, result, &cause);
    if (!test_undo(site, test.run, &undo_cause)) {
        result->state = RUN_INTERRUPTED;
        return fail(error, ERROR_PARTIAL,
                    "the test of %s cannot be cleaned up: %s; `drctl test cleanup %s` tries again",
                    plan->vapp, undo_cause->message, plan->vapp);
    }
    json = evidence_for_run(result->evidence, result->dir);
    if (!run_finish(test.run, result->state, json, error))
        return false;
    if (!good)
        g_propagate_error(error, g_steal_pointer(&cause));
    return good;
}
