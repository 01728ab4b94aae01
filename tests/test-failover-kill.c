/* SPDX-License-Identifier: Apache-2.0 */
/* A failover that is killed is finished by the same command. */
#include "tests/recovery-shop.h"

/* In a process of its own, which opens everything itself: fail over and end. */
static pid_t fail_over_elsewhere(const char *name)
{
    pid_t pid = fork();

    if (pid == 0) {
        struct lab *lab = lab_open(name);
        struct failover_plan *plan = failover_plan_new(&lab->site, name, NULL);
        struct failover_result result = {0};

        if (plan)
            failover_execute(&lab->site, plan, NULL, NULL, &result, NULL);
        _exit(0);
    }
    ck_assert_int_gt(pid, 0);
    return pid;
}

/* Kill the failover of NAME as soon as its journal has STEP of any VM in STATE. */
static void kill_at(const char *name, const char *step, const char *state)
{
    pid_t pid = fail_over_elsewhere(name);
    AUTO(lab) lab = lab_open(name);

    kill_when(pid, lab, step, state);
}

static void assert_one_run_done(const struct lab *lab)
{
    json_auto_t *runs = run_list(lab->catalog, NULL);

    ck_assert_uint_eq(json_array_size(runs), 1);
    ck_assert_str_eq(json_get_string(json_array_get(runs, 0), "state"), "done");
}

/* A vApp is lost, its failover is killed, and the same command finishes it. */
static void check_kill(const char *name, const char *step, const char *state)
{
    AUTO(shop) shop = shop_new(name, "");

    /* LMDB: one environment in a process at a time, and none across fork(). */
    g_clear_pointer(&shop->lab, lab_free);
    kill_at(name, step, state);
    shop->lab = lab_open(name);
    AUTO(failover_plan) plan = failover_plan_new(&shop->lab->site, name, NULL);

    /* It may have been over before we could kill it. */
    if (plan) {
        ck_assert_ptr_nonnull(plan->resumes);
        ck_assert_str_eq(planned(plan, 0)->point, shop->guests[0]->points[1]);
        ck_assert(has_finding(planned(plan, 0), "no-such-br"));
        fail_over(shop->lab, name);
    }
    assert_one_run_done(shop->lab);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(state_of_guest(shop->lab, shop->guests[i]->name), DOMAIN_RUNNING);
        ck_assert(guest_reads(shop->lab, shop->guests[i]->name, 34, 1));
        assert_points_untouched(shop->lab, shop->guests[i]);
    }
}

#define KILL_TEST(name, step, state)                                                               \
    START_TEST(goes_on_when_killed_with_##step##_##state)                                          \
    {                                                                                              \
        check_kill(name, #step, #state);                                                           \
    }                                                                                              \
    END_TEST

KILL_TEST("k0", grant, running)
KILL_TEST("k1", grant, done)
KILL_TEST("k2", overlay, running)
KILL_TEST("k3", overlay, done)
KILL_TEST("k4", define, running)
KILL_TEST("k5", define, done)
KILL_TEST("k6", start, running)
KILL_TEST("k7", start, done)

START_TEST(a_vm_that_stopped_after_the_kill_is_started_again)
{
    AUTO(shop) shop = shop_new("stop", "");

    g_clear_pointer(&shop->lab, lab_free);
    kill_at("stop", "start", "done");
    shop->lab = lab_open("stop");
    guest_write("stop-db", "write -P 85 2M 1M");
    VIRSH("destroy", "stop-db");
    fail_over(shop->lab, "stop");
    ck_assert_int_eq(state_of_guest(shop->lab, "stop-db"), DOMAIN_RUNNING);
    ck_assert(guest_reads(shop->lab, "stop-db", 85, 2));
}
END_TEST

START_TEST(only_one_process_executes_a_run)
{
    AUTO(shop) shop = shop_new("busy", "");
    AUTO(failover_plan) plan = NULL;
    g_autoptr(GError) error = NULL;
    struct failover_result result = {0};
    AUTO(run) run = NULL;

    g_clear_pointer(&shop->lab, lab_free);
    kill_at("busy", "overlay", "running");
    shop->lab = lab_open("busy");
    plan = plan_of(shop->lab, "busy");
    ck_assert_ptr_nonnull(plan->resumes);
    run = run_resume(shop->lab->catalog, plan->resumes, &error);
    unit_ok(run != NULL, error);
    unit_fails(failover_execute(&shop->lab->site, plan, NULL, NULL, &result, &error), error,
               ERROR_CONFLICT, "in use");
}
END_TEST

int main(void)
{
    become_ordinary_user();
    return SESSION_RUN(
        "failover-kill", goes_on_when_killed_with_grant_running,
        goes_on_when_killed_with_grant_done, goes_on_when_killed_with_overlay_running,
        goes_on_when_killed_with_overlay_done, goes_on_when_killed_with_define_running,
        goes_on_when_killed_with_define_done, goes_on_when_killed_with_start_running,
        goes_on_when_killed_with_start_done, a_vm_that_stopped_after_the_kill_is_started_again,
        only_one_process_executes_a_run);
}
