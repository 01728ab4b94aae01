/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/test-undo.h"

#include <string.h>

#include "restore/evidence.h"
#include "restore/plan.h"

/* How long a real failover waits for the memory of a test's VMs. */
#define GIVE_WAY_MS 10000
#define SETTLE_US (2 * 1000 * 1000)
#define GIVE_WAY_TICK_US (100 * 1000)

struct file_lock *test_lock(const struct site *site, const char *vapp, GError **error)
{
    g_autofree char *path = plan_lock_path(site, TEST_KIND, vapp);
    g_autofree char *what = g_strdup_printf("cannot test %s now: its test", vapp);

    return file_lock_take(path, what, error);
}

/* ---- The bubble */

struct bubble_step {
    const struct site *site;
    const json_t *bubble;
};

static bool step_network(void *context, GError **error)
{
    const struct bubble_step *step = context;

    return bubble_up(step->bubble, step->site->hosts, error);
}

static bool undo_network(void *context, GError **error)
{
    const struct bubble_step *step = context;

    return bubble_down(step->bubble, step->site->hosts, error);
}

static const struct step bubble_steps[] = {
    {.name = "network", .run = step_network, .undo = undo_network},
};
#define BUBBLE "bubble"

struct run_subject test_bubble_steps(void)
{
    return (struct run_subject){BUBBLE, bubble_steps, G_N_ELEMENTS(bubble_steps)};
}

bool test_bubble_up(const struct site *site, struct run *run, GError **error)
{
    struct bubble_step step = {site, json_object_get(run_plan(run), BUBBLE)};

    return run_steps(run, BUBBLE, bubble_steps, G_N_ELEMENTS(bubble_steps), &step, error);
}

static bool test_bubble_down(const struct site *site, struct run *run, GError **error)
{
    struct bubble_step step = {site, json_object_get(run_plan(run), BUBBLE)};

    return run_undo(run, BUBBLE, bubble_steps, G_N_ELEMENTS(bubble_steps), &step, error);
}

/* ---- VMs */

static bool undo_vm(const struct site *site, struct run *run, const json_t *vm, GError **error)
{
    const json_t *domain = json_object_get(vm, "domain");
    AUTO(recovery) recovery = NULL;

    /* It was never to be started. */
    if (!json_is_object(domain) || !json_get_string(vm, "host"))
        return true;
    recovery = g_new0(struct recovery, 1);
    recovery->subject = g_strdup(json_get_string(vm, "vm"));
    recovery->uri = g_strdup(json_get_string(vm, "host"));
    recovery->images = g_strdup(json_get_string(domain, "images"));
    recovery->name = g_strdup(json_get_string(domain, "name"));
    recovery->uuid = g_strdup(json_get_string(domain, "uuid"));
    if (!recovery->subject || !recovery->name || !recovery->uuid)
        return fail(error, ERROR_INTEGRITY, "the plan of run %s names no VM", run_id(run));
    return recovery_remove(recovery, site, run, error);
}

bool test_undo(const struct site *site, struct run *run, GError **error)
{
    const json_t *vms = json_object_get(run_plan(run), "vms");
    g_autoptr(GError) first = NULL;

    for (size_t i = json_array_size(vms); i-- > 0;) {
        g_autoptr(GError) cause = NULL;

        if (!undo_vm(site, run, json_array_get(vms, i), &cause) && !first)
            first = g_steal_pointer(&cause);
    }
    test_bubble_down(site, run, first ? NULL : &first);
    if (!first)
        return true;
    g_propagate_error(error, g_steal_pointer(&first));
    return false;
}

/* ---- Tests that were interrupted */

/* What a process that was killed had asked of libvirt last may still be done after its death: to look at once would
 * find nothing to undo. */
static void let_settle(const struct site *site, const char *id)
{
    json_auto_t *run = run_show(site->catalog, id, NULL);
    const json_t *step;
    size_t i;

    json_array_foreach(json_object_get(run, "steps"), i, step)
    {
        if (g_strcmp0(json_get_string(step, "state"), "interrupted") != 0)
            continue;
        g_usleep(SETTLE_US);
        return;
    }
}

static bool clean_run(const struct site *site, const char *id, GError **error)
{
    g_autofree char *dir = evidence_dir(site, id);
    json_auto_t *evidence = evidence_load(dir);
    json_auto_t *result = evidence_for_run(evidence, dir);
    AUTO(run) run = NULL;

    let_settle(site, id);
    run = run_resume(site->catalog, id, error);
    /* It may have been killed when it had seen all. */
    if (run && test_undo(site, run, error))
        return run_finish(run, RUN_CANCELLED, result, error);
    g_prefix_error(error, "cannot clean up test %s: ", id);
    return false;
}

bool test_is_of(const json_t *run, const char *vapp)
{
    return g_strcmp0(json_get_string(run, "kind"), TEST_KIND) == 0 &&
           (!vapp || g_strcmp0(json_get_string(run, "title"), vapp) == 0);
}

static bool has_state(const json_t *run, enum run_state state)
{
    return g_strcmp0(json_get_string(run, "state"), run_state_name(state)) == 0;
}

static bool clean_if_left(const struct site *site, const json_t *run, bool asked,
                          GPtrArray *cleaned, GError **error)
{
    const char *id = json_get_string(run, "run");

    if (has_state(run, RUN_RUNNING) && asked)
        return fail(error, ERROR_CONFLICT,
                    "test %s goes on: drctl run cancel %s ends it, and it cleans up itself", id,
                    id);
    if (!has_state(run, RUN_INTERRUPTED))
        return true;
    if (!clean_run(site, id, error))
        return false;
    g_ptr_array_add(cleaned, g_strdup(id));
    return true;
}

bool test_cleanup(const struct site *site, const char *vapp, GPtrArray **cleaned, GError **error)
{
    g_autoptr(GPtrArray) done = g_ptr_array_new_with_free_func(g_free);
    json_auto_t *runs = run_list(site->catalog, error);
    bool good = runs != NULL;
    const json_t *run;
    size_t i;

    json_array_foreach(runs, i, run)
    {
        g_autoptr(GError) cause = NULL;

        if (!test_is_of(run, vapp) || clean_if_left(site, run, vapp != NULL, done, &cause))
            continue;
        if (good)
            g_propagate_error(error, g_steal_pointer(&cause));
        good = false;
    }
    if (cleaned)
        *cleaned = g_steal_pointer(&done);
    return good;
}

void test_give_way(const struct site *site)
{
    int64_t deadline_ms = time_monotonic_ms() + GIVE_WAY_MS;
    bool wait = plan_any_locked(site, TEST_KIND);
    g_autoptr(GError) why = NULL;

    if (wait)
        progress_note(site->progress, "a test failover is running: it ends now");
    while (wait && time_monotonic_ms() < deadline_ms && interrupt_check(NULL)) {
        g_usleep(GIVE_WAY_TICK_US);
        wait = plan_any_locked(site, TEST_KIND);
    }
    if (!test_cleanup(site, NULL, NULL, &why))
        progress_note(site->progress, "%s", why->message);
}
