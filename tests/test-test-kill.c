/* SPDX-License-Identifier: Apache-2.0 */
/* A test failover that is killed anywhere leaves nothing that the next command does not remove. */
#include "tests/test-shop.h"

/* In a process of its own, which opens everything itself: test, keep the copies, and never end. */
static pid_t test_elsewhere(struct shop *shop)
{
    pid_t pid;

    /* LMDB: one environment in a process at a time, and none across fork(). */
    g_clear_pointer(&shop->lab, lab_free);
    pid = fork();
    if (pid == 0) {
        struct lab *lab = lab_open(shop->name);
        struct failover_plan *plan = test_plan_new(&lab->site, shop->name, NULL, NULL);
        struct test_request request = {.keep_ms = 600000};
        struct test_outcome result = {0};

        if (plan)
            test_execute(&lab->site, plan, &request, NULL, NULL, &result, NULL);
        _exit(0);
    }
    ck_assert_int_gt(pid, 0);
    shop->lab = lab_open(shop->name);
    return pid;
}

static void assert_cleaned(const struct shop *shop)
{
    g_autoptr(GPtrArray) cleaned = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *state = NULL;

    unit_ok(test_cleanup(&shop->lab->site, NULL, &cleaned, &error), error);
    ck_assert_uint_eq(cleaned->len, 1);
    assert_test_is_gone(shop);
    state = newest_run_state(shop->lab);
    ck_assert_str_eq(state, "cancelled");
    for (unsigned i = 0; i < 2; i++)
        assert_points_untouched(shop->lab, shop->guests[i]);
    /* And again: nothing. */
    g_clear_pointer(&cleaned, g_ptr_array_unref);
    unit_ok(test_cleanup(&shop->lab->site, NULL, &cleaned, &error), error);
    ck_assert_uint_eq(cleaned->len, 0);
}

static void check_kill(const char *name, const char *step, const char *state)
{
    AUTO(shop) shop = test_shop_new(name, "");
    pid_t pid = test_elsewhere(shop);

    kill_when(pid, shop->lab, step, state);
    assert_cleaned(shop);
}

#define KILL_TEST(name, step, state)                                                               \
    START_TEST(is_cleaned_up_when_killed_with_##step##_##state)                                    \
    {                                                                                              \
        check_kill(name, #step, #state);                                                           \
    }                                                                                              \
    END_TEST

KILL_TEST("k0", network, running)
KILL_TEST("k1", network, done)
KILL_TEST("k2", grant, running)
KILL_TEST("k3", grant, done)
KILL_TEST("k4", overlay, running)
KILL_TEST("k5", overlay, done)
KILL_TEST("k6", define, running)
KILL_TEST("k7", define, done)
KILL_TEST("k8", start, running)
KILL_TEST("k9", start, done)

/* What the process says when it has come so far. */
static void wait_for_evidence(const struct lab *lab)
{
    g_autofree char *dir = g_build_filename(lab->config->store, "evidence", NULL);
    int64_t deadline = time_monotonic_ms() + 30000;

    while (true) {
        g_auto(GStrv) runs = dir_list(dir, NULL);
        g_autofree char *path =
            runs && *runs ? g_build_filename(dir, *runs, "evidence.json", NULL) : NULL;

        if (path && g_file_test(path, G_FILE_TEST_EXISTS))
            return;
        ck_assert_int_lt(time_monotonic_ms(), deadline);
        g_usleep(10000);
    }
}

START_TEST(is_cleaned_up_when_killed_while_somebody_looks_at_it)
{
    AUTO(shop) shop = test_shop_new("ka", "");
    pid_t pid = test_elsewhere(shop);

    wait_for_evidence(shop->lab);
    ck_assert(test_domain_is_left(shop->lab, "ka"));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    ck_assert(test_domain_is_left(shop->lab, "ka"));
    assert_cleaned(shop);
}
END_TEST

START_TEST(what_runs_is_left_alone)
{
    AUTO(shop) shop = test_shop_new("kb", "");
    g_autoptr(GPtrArray) cleaned = NULL;
    g_autoptr(GError) error = NULL;
    pid_t pid = test_elsewhere(shop);

    wait_for_evidence(shop->lab);
    unit_ok(test_cleanup(&shop->lab->site, NULL, NULL, &error), error);
    unit_fails(test_cleanup(&shop->lab->site, "kb", &cleaned, &error), error, ERROR_CONFLICT,
               "ends it, and it cleans up itself");
    ck_assert_uint_eq(cleaned->len, 0);
    ck_assert(test_domain_is_left(shop->lab, "kb"));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_cleaned(shop);
}
END_TEST

START_TEST(a_stranger_of_the_same_name_is_not_touched)
{
    AUTO(shop) shop = test_shop_new("kc", "");
    g_autoptr(GPtrArray) cleaned = NULL;
    g_autoptr(GError) error = NULL;
    pid_t pid = test_elsewhere(shop);

    kill_when(pid, shop->lab, "start", "done");
    VIRSH("destroy", "kc-test-1.kc-db");
    VIRSH("undefine", "kc-test-1.kc-db");
    AUTO(domain) stranger = define_guest(shop->lab->hosts->pdata[0], "kc-test-1.kc-db", "");

    unit_ok(test_cleanup(&shop->lab->site, "kc", &cleaned, &error), error);
    ck_assert_int_eq(state_of(stranger), DOMAIN_OFF);
    undefine_guest(stranger);
    assert_test_is_gone(shop);
}
END_TEST

START_TEST(a_failover_removes_what_an_interrupted_test_left)
{
    AUTO(shop) shop = test_shop_new("kd", "");
    pid_t pid = test_elsewhere(shop);

    kill_when(pid, shop->lab, "start", "done");
    ck_assert(test_domain_is_left(shop->lab, "kd"));
    fail_over(shop->lab, "kd");
    ck_assert(!test_domain_is_left(shop->lab, "kd"));
    ck_assert_int_eq(state_of_guest(shop->lab, "kd-db"), DOMAIN_RUNNING);
}
END_TEST

int main(void)
{
    become_ordinary_user();
    return SESSION_RUN(
        "test-kill", is_cleaned_up_when_killed_with_network_running,
        is_cleaned_up_when_killed_with_network_done, is_cleaned_up_when_killed_with_grant_running,
        is_cleaned_up_when_killed_with_grant_done, is_cleaned_up_when_killed_with_overlay_running,
        is_cleaned_up_when_killed_with_overlay_done, is_cleaned_up_when_killed_with_define_running,
        is_cleaned_up_when_killed_with_define_done, is_cleaned_up_when_killed_with_start_running,
        is_cleaned_up_when_killed_with_start_done,
        is_cleaned_up_when_killed_while_somebody_looks_at_it, what_runs_is_left_alone,
        a_stranger_of_the_same_name_is_not_touched,
        a_failover_removes_what_an_interrupted_test_left);
}
