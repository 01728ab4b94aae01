/* SPDX-License-Identifier: Apache-2.0 */
/* A test failover that is killed anywhere leaves nothing that the next command does not remove. */
#include "tests/test-shop.h"

/* In a process of its own, which opens everything itself: test, and keep the copies for KEEP_MS. */
static pid_t test_elsewhere_for(struct shop *shop, int64_t keep_ms)
{
    pid_t pid;

    /* LMDB: one environment in a process at a time, and none across fork(). */
    g_clear_pointer(&shop->lab, lab_free);
    pid = fork();
    if (pid == 0) {
        struct lab *lab = lab_open(shop->name);
        struct failover_plan *plan = test_plan_new(&lab->site, shop->name, NULL, NULL);
        struct test_request request = {.keep_ms = keep_ms};
        struct test_outcome result = {0};

        if (plan)
            test_execute(&lab->site, plan, &request, NULL, NULL, &result, NULL);
        _exit(0);
    }
    ck_assert_int_gt(pid, 0);
    shop->lab = lab_open(shop->name);
    return pid;
}

/* ... and never end. */
static pid_t test_elsewhere(struct shop *shop)
{
    return test_elsewhere_for(shop, 600000);
}

static void assert_cleaned(const struct shop *shop)
{
    int64_t deadline = time_monotonic_ms() + UNIT_PATIENCE_MS;
    g_autoptr(GPtrArray) cleaned = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *state = NULL;

    /* A child of who was killed has its lock, too, until it becomes another program. */
    do {
        g_clear_pointer(&cleaned, g_ptr_array_unref);
        unit_ok(test_cleanup(&shop->lab->site, NULL, &cleaned, &error), error);
    } while (cleaned->len == 0 && time_monotonic_ms() < deadline);
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

/* ---- Killed while it is undone */

/* The steps of the newest run that are in STATE, into FOUND (may be NULL): how many. */
static unsigned steps_in(const struct lab *lab, const char *state, GHashTable *found)
{
    json_auto_t *runs = run_list(lab->catalog, NULL);
    json_auto_t *run = NULL;
    const json_t *step;
    unsigned n = 0;
    size_t i;

    if (json_array_size(runs) == 0)
        return 0;
    run = run_show(lab->catalog, json_get_string(json_array_get(runs, 0), "run"), NULL);

    json_array_foreach(json_object_get(run, "steps"), i, step)
    {
        if (g_strcmp0(json_get_string(step, "state"), state) != 0)
            continue;
        n++;
        if (found)
            g_hash_table_add(found, g_strdup(json_get_string(step, "step")));
    }
    return n;
}

START_TEST(is_cleaned_up_when_killed_while_it_cleans_up_itself)
{
    AUTO(shop) shop = test_shop_new("ke", "");
    pid_t pid = test_elsewhere_for(shop, 0);
    int64_t deadline = time_monotonic_ms() + UNIT_PATIENCE_MS;

    /* To end a guest takes a while. */
    while (steps_in(shop->lab, "undoing", NULL) + steps_in(shop->lab, "undone", NULL) == 0) {
        ck_assert_int_lt(time_monotonic_ms(), deadline);
        g_usleep(500);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_cleaned(shop);
}
END_TEST

/* Run drctl test cleanup, which is killed where it would make its N-th entry in the journal durable; false: it
 * had not so many. */
static bool clean_up_and_kill(const struct shop *shop, unsigned n)
{
    g_autofree char *log = lab_path(shop->lab, "strace");
    g_autofree char *config = lab_path(shop->lab, "etc");
    g_autofree char *inject = g_strdup_printf("inject=fdatasync:signal=SIGKILL:when=%u", n);
    const char *argv[] = {"strace",          "-f",   "-o",   log,       "-e",
                          "trace=fdatasync", "-e",   inject, "--",      DRCTL,
                          "--config",        config, "test", "cleanup", NULL};
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(GError) cause = NULL;
    bool done = process_run(argv, 60, NULL, &cause);

    unit_ok(file_read(log, 1 << 24, &text, NULL, &error), error);
    if (strstr(text, "killed by SIGKILL"))
        return true;
    unit_ok(done, cause);
    return false;
}

/* An entry of the audit log, one to take the run over, then two for each step: that it is being undone, and that it
 * was. So the fourth is missing when a step was undone and nobody knows, and the fifth when the next one has not begun. */
#define ENTRY_UNDONE 4u

START_TEST(each_step_is_undone_when_it_is_killed_again_and_again)
{
    static const char *const all[] = {"network", "grant", "overlay", "define", "start"};
    AUTO(shop) shop = test_shop_new("kf", "");
    g_autoptr(GHashTable) cut = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    pid_t pid = test_elsewhere(shop);
    unsigned kills = 0;
    g_autofree char *state = NULL;

    setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* it cannot be traced twice */
    wait_for_evidence(shop->lab);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    while (clean_up_and_kill(shop, ENTRY_UNDONE + kills % 2)) {
        ck_assert_uint_lt(++kills, 100);
        steps_in(shop->lab, "interrupted", cut);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++)
        ck_assert_msg(g_hash_table_contains(cut, all[i]), "%s was never cut off", all[i]);
    assert_test_is_gone(shop);
    state = newest_run_state(shop->lab);
    ck_assert_str_eq(state, "cancelled");
    for (unsigned i = 0; i < 2; i++)
        assert_points_untouched(shop->lab, shop->guests[i]);
}
END_TEST

/* ---- What is not to be cleaned up */

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
        is_cleaned_up_when_killed_while_somebody_looks_at_it,
        is_cleaned_up_when_killed_while_it_cleans_up_itself,
        each_step_is_undone_when_it_is_killed_again_and_again, what_runs_is_left_alone,
        a_stranger_of_the_same_name_is_not_touched,
        a_failover_removes_what_an_interrupted_test_left);
}
