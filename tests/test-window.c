/* SPDX-License-Identifier: Apache-2.0 */
/* Failovers that can be taken back. */
#include "tests/recovery-shop.h"

#include "restore/plan.h"

#define HOUR_MS (3600 * INT64_C(1000))

static void make_plan_file(const struct lab *lab, const char *name, const char *keys)
{
    g_autofree char *text = g_strdup_printf("[plan]\nvapps = %s\n%s", name, keys);
    g_autofree char *path = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(recovery_plan_write(lab->config->dir, name, text, &path, &error), error);
}

/* vApp NAME, whose failovers are committed after an hour; KEYS are others of its plan. */
static struct shop *shop_with_window(const char *name, const char *keys)
{
    g_autofree char *all = g_strconcat("commit-after = 1h\n", keys, NULL);
    struct shop *shop = shop_new(name, "");

    make_plan_file(shop->lab, name, all);
    return shop;
}

static struct window *window_of(const struct lab *lab, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) windows = windows_of(lab->catalog, name, &error);

    unit_ok(windows != NULL, error);
    ck_assert_uint_eq(windows->len, 1);
    return g_ptr_array_steal_index(windows, 0);
}

static void assert_no_window(const struct lab *lab, const char *name)
{
    g_autoptr(GError) error = NULL;

    unit_fails(windows_of(lab->catalog, name, &error), error, ERROR_NOT_FOUND,
               "is waiting to be committed");
}

static void roll_back(const struct lab *lab, const char *name)
{
    AUTO(window) window = window_of(lab, name);
    g_autoptr(GError) error = NULL;

    unit_ok(window_roll_back(&lab->site, window, NULL, &error), error);
}

static void assert_owner(const struct lab *lab, const struct lost_guest *guest, const char *site,
                         uint64_t epoch)
{
    AUTO(owner) owner = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(owner_read(lab->config->store, guest->uuid, &owner, &error), error);
    ck_assert_ptr_nonnull(owner);
    ck_assert_str_eq(owner->site, site);
    ck_assert_uint_eq(owner->epoch, epoch);
}

static bool is_here(const struct lab *lab, const char *name)
{
    AUTO(domain) domain = host_domain(lab->hosts->pdata[0], name, NULL);

    return domain != NULL;
}

/* Nothing is left of a failover of SHOP, which has been rolled back. */
static void assert_taken_back(const struct shop *shop)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) images = dir_list(shop->lab->config->images, &error);

    ck_assert_uint_eq(g_strv_length(images), 0);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert(!is_here(shop->lab, shop->guests[i]->name));
        assert_owner(shop->lab, shop->guests[i], "dc1", 2);
        assert_points_untouched(shop->lab, shop->guests[i]);
    }
    assert_no_window(shop->lab, shop->name);
}

/* ---- Back */

START_TEST(a_failover_that_is_rolled_back_leaves_all_as_it_was)
{
    AUTO(shop) shop = shop_with_window("back", "");
    AUTO(window) window = NULL;
    json_auto_t *runs = NULL;

    fail_over(shop->lab, "back");
    assert_owner(shop->lab, shop->guests[0], "dr1", 1);
    window = window_of(shop->lab, "back");
    ck_assert_str_eq(window->from, "dc1");
    ck_assert_uint_eq(window->vms->len, 2);
    ck_assert(window->until_ms > time_now_ms() + HOUR_MS / 2 &&
              window->until_ms <= time_now_ms() + HOUR_MS);
    ck_assert(!window_is_due(window) && !window->policy.rolls_back);
    guest_write("back-db", "write -P 85 2M 1M");
    roll_back(shop->lab, "back");
    assert_taken_back(shop);
    runs = run_list(shop->lab->catalog, NULL);
    ck_assert_str_eq(json_get_string(json_array_get(runs, 0), "kind"), "rollback");
    ck_assert_str_eq(json_get_string(json_array_get(runs, 0), "state"), "done");

    /* And it can be failed over again, from its points. */
    fail_over(shop->lab, "back");
    assert_owner(shop->lab, shop->guests[0], "dr1", 3);
    ck_assert(guest_reads(shop->lab, "back-db", 34, 1) && guest_reads(shop->lab, "back-db", 0, 2));
}
END_TEST

START_TEST(what_an_earlier_run_brought_up_is_not_taken_back_with_it)
{
    AUTO(shop) shop = shop_with_window("part", "");

    fail_over(shop->lab, "part-db");
    guest_write("part-db", "write -P 85 2M 1M");
    fail_over(shop->lab, "part");
    roll_back(shop->lab, "part");
    ck_assert(!is_here(shop->lab, "part-app"));
    ck_assert_int_eq(state_of_guest(shop->lab, "part-db"), DOMAIN_RUNNING);
    ck_assert(guest_reads(shop->lab, "part-db", 85, 2));
    assert_owner(shop->lab, shop->guests[0], "dr1", 1);
    assert_owner(shop->lab, shop->guests[1], "dc1", 2);
    assert_no_window(shop->lab, "part-db");
}
END_TEST

START_TEST(a_vm_that_is_another_one_now_is_left_alone)
{
    AUTO(shop) shop = shop_with_window("strg", "");

    fail_over(shop->lab, "strg");
    remove_guest(shop->lab, "strg-app");
    AUTO(domain) stranger = define_guest(shop->lab->hosts->pdata[0], "strg-app", "");
    roll_back(shop->lab, "strg");
    ck_assert(is_here(shop->lab, "strg-app") && !is_here(shop->lab, "strg-db"));
    undefine_guest(stranger);
}
END_TEST

/* As somebody who has written its definition anew, by hand. */
static void forget_mark(const struct lab *lab, const char *name)
{
    g_autofree char *text = VIRSH_OUTPUT("dumpxml", name, "--inactive");
    g_autoptr(GError) error = NULL;
    AUTO(xml) xml = xml_parse(text, name, &error);
    AUTO(domain) defined = NULL;
    g_autofree char *without = NULL;

    unit_ok(xml != NULL, error);
    xml_remove(xml_find(xml_root(xml), "metadata"));
    without = xml_dump(xml);
    defined = host_define(lab->hosts->pdata[0], without, &error);
    unit_ok(defined != NULL, error);
}

START_TEST(a_vm_that_was_defined_anew_keeps_its_disks_and_its_owner)
{
    AUTO(shop) shop = shop_with_window("anew", "");

    fail_over(shop->lab, "anew");
    forget_mark(shop->lab, "anew-db");
    roll_back(shop->lab, "anew");
    ck_assert_int_eq(state_of_guest(shop->lab, "anew-db"), DOMAIN_RUNNING);
    ck_assert(guest_reads(shop->lab, "anew-db", 34, 1));
    assert_owner(shop->lab, shop->guests[0], "dr1", 1);
    ck_assert(!is_here(shop->lab, "anew-app"));
    assert_owner(shop->lab, shop->guests[1], "dc1", 2);
    remove_guest(shop->lab, "anew-db");
}
END_TEST

START_TEST(what_a_later_run_brought_up_is_not_taken_back_with_an_earlier_one)
{
    AUTO(shop) shop = shop_with_window("later", "");
    g_autoptr(GPtrArray) windows = NULL;
    g_autoptr(GError) error = NULL;

    fail_over(shop->lab, "later");
    remove_guest(shop->lab, "later-db");
    fail_over(shop->lab, "later");
    windows = windows_of(shop->lab->catalog, "later", &error);
    unit_ok(windows != NULL, error);
    ck_assert_uint_eq(windows->len, 2);
    unit_ok(window_commit(&shop->lab->site, windows->pdata[0], &error), error);
    roll_back(shop->lab, "later");
    ck_assert_int_eq(state_of_guest(shop->lab, "later-db"), DOMAIN_RUNNING);
    ck_assert(guest_reads(shop->lab, "later-db", 34, 1));
    assert_owner(shop->lab, shop->guests[0], "dr1", 1);
    ck_assert(!is_here(shop->lab, "later-app"));
    assert_owner(shop->lab, shop->guests[1], "dc1", 2);
    remove_guest(shop->lab, "later-db");
}
END_TEST

START_TEST(a_vm_that_another_site_has_taken_over_is_not_given_away)
{
    AUTO(shop) shop = shop_with_window("third", "");
    AUTO(owner) owner = owner_new(shop->guests[0]->uuid, "third-db", "dr2", 7, NULL);
    g_autoptr(GError) error = NULL;

    fail_over(shop->lab, "third");
    unit_ok(owner_claim(shop->lab->config->store, owner, &error), error);
    roll_back(shop->lab, "third");
    ck_assert(!is_here(shop->lab, "third-db"));
    assert_owner(shop->lab, shop->guests[0], "dr2", 7);
    assert_owner(shop->lab, shop->guests[1], "dc1", 2);
}
END_TEST

START_TEST(an_old_copy_that_made_room_is_there_again)
{
    AUTO(lab) lab = lab_open("room");
    AUTO(lost_guest) guest = lost_guest(lab, "room-vm", "");
    AUTO(owner) owner = owner_new(guest->uuid, "room-vm", "dc1", 9, NULL);
    g_autoptr(GError) error = NULL;
    AUTO(domain) old = host_define(lab->hosts->pdata[0], guest->xml, &error);
    g_autofree char *before = domain_text(lab, "room-vm", "devices/disk/source/@file");
    g_autofree char *after = NULL;

    unit_ok(old != NULL, error);
    unit_ok(owner_claim(lab->config->store, owner, &error), error);
    make_plan_file(lab, "room-vm", "commit-after = 1h\n");
    fail_over(lab, "room-vm");
    ck_assert_int_eq(state_of_guest(lab, "room-vm"), DOMAIN_RUNNING);
    roll_back(lab, "room-vm");
    ck_assert_int_eq(state_of_guest(lab, "room-vm"), DOMAIN_OFF);
    after = domain_text(lab, "room-vm", "devices/disk/source/@file");
    ck_assert_str_eq(after, before);
    assert_owner(lab, guest, "dc1", 11);
    VIRSH("undefine", "room-vm");
}
END_TEST

/* ---- Committed */

static void wait_until_hydrated(const struct lab *lab, const char *name)
{
    char *names[] = {(char *)name, NULL};
    int64_t deadline = time_monotonic_ms() + UNIT_PATIENCE_MS;
    unsigned left = 1;

    while (left > 0) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) found = hydration_find(&lab->site, names, &error);

        unit_ok(found != NULL, error);
        /* One disk of a VM at a time; the first is begun by the commit. */
        unit_ok(hydration_go_on(&lab->site, &error), error);
        left = hydration_left(found);
        ck_assert_int_lt(time_monotonic_ms(), deadline);
        g_usleep(20 * 1000);
    }
}

START_TEST(vms_stay_on_their_points_until_their_failover_is_committed)
{
    AUTO(shop) shop = shop_with_window("good", "hydrate = yes\n");
    char *names[] = {(char *)"good", NULL};
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) found = NULL;
    AUTO(window) window = NULL;

    fail_over(shop->lab, "good");
    found = hydration_find(&shop->lab->site, names, &error);
    unit_ok(found != NULL, error);
    hydration_begin(&shop->lab->site, found, 0);
    for (unsigned i = 0; i < found->len; i++) {
        const struct hydration *hydration = found->pdata[i];
        const struct hydrating_disk *disk = hydration->disks->pdata[0];

        ck_assert(disk->point && !disk->pull.is_active);
        ck_assert_ptr_nonnull(strstr(disk->why, "is not committed"));
    }
    window = window_of(shop->lab, "good");
    unit_ok(window_commit(&shop->lab->site, window, &error), error);
    assert_no_window(shop->lab, "good");
    assert_owner(shop->lab, shop->guests[0], "dr1", 1);
    g_ptr_array_unref(found);
    found = hydration_find(&shop->lab->site, names, &error);
    unit_ok(found != NULL, error);
    ck_assert(hydration_pulled(found) > 0 || hydration_left(found) < 4);
    wait_until_hydrated(shop->lab, "good");
    ck_assert(guest_reads(shop->lab, "good-db", 34, 1));
}
END_TEST

START_TEST(what_was_committed_meanwhile_is_not_rolled_back)
{
    AUTO(shop) shop = shop_with_window("race", "");
    AUTO(window) window = NULL;
    g_autoptr(GError) error = NULL;

    fail_over(shop->lab, "race");
    window = window_of(shop->lab, "race");
    unit_ok(window_commit(&shop->lab->site, window, &error), error);
    unit_fails(window_roll_back(&shop->lab->site, window, NULL, &error), error, ERROR_NOT_FOUND,
               "was committed or rolled back meanwhile");
    unit_fails(window_commit(&shop->lab->site, window, &error), error, ERROR_NOT_FOUND,
               "was committed or rolled back meanwhile");
    ck_assert_int_eq(state_of_guest(shop->lab, "race-db"), DOMAIN_RUNNING);
    assert_owner(shop->lab, shop->guests[0], "dr1", 1);
}
END_TEST

/* Tests take the lock of failovers for one, and end. */
START_TEST(a_commit_is_no_failover)
{
    AUTO(shop) shop = shop_with_window("quiet", "");
    g_autofree char *path = plan_lock_path(&shop->lab->site, FAILOVER_KIND, "quiet");
    g_autoptr(GError) error = NULL;
    AUTO(window) window = NULL;
    AUTO(file_lock) lock = NULL;

    fail_over(shop->lab, "quiet");
    window = window_of(shop->lab, "quiet");
    lock = file_lock_take(path, "x", &error);
    unit_ok(lock != NULL, error);
    unit_ok(window_commit(&shop->lab->site, window, &error), error);
    assert_no_window(shop->lab, "quiet");
}
END_TEST

START_TEST(without_a_plan_a_failover_is_committed_at_once)
{
    AUTO(shop) shop = shop_new("once", "");

    fail_over(shop->lab, "once");
    assert_no_window(shop->lab, "once");
}
END_TEST

START_TEST(what_is_asked_for_comes_before_the_plan)
{
    AUTO(shop) shop = shop_with_window("asked", "");
    struct commit_policy policy = {.after_ms = 1, .rolls_back = true};
    struct failover_request request = {.name = "asked", .commit = &policy};
    struct failover_result result = {0};
    g_autoptr(GError) error = NULL;
    AUTO(failover_plan) plan = failover_plan_make(&shop->lab->site, &request, &error);
    AUTO(window) window = NULL;

    unit_ok(plan != NULL, error);
    unit_ok(failover_execute(&shop->lab->site, plan, NULL, NULL, &result, &error), error);
    failover_result_clear(&result);
    g_usleep(2000);
    window = window_of(shop->lab, "asked");
    ck_assert(window->policy.rolls_back && window_is_due(window));
}
END_TEST

/* ---- By the program */

static char *drctl(const struct shop *shop, const char *const *args)
{
    g_autofree char *etc = g_build_filename(session_dir, shop->name, "etc", NULL);
    g_autoptr(GPtrArray) argv = g_ptr_array_new();

    g_ptr_array_add(argv, (char *)DRCTL);
    g_ptr_array_add(argv, (char *)"--config");
    g_ptr_array_add(argv, etc);
    for (; *args; args++)
        g_ptr_array_add(argv, (char *)*args);
    g_ptr_array_add(argv, NULL);
    return run((const char *const *)argv->pdata);
}
#define DRCTL_RUN(shop, ...) drctl(shop, (const char *const[]){__VA_ARGS__, NULL})

START_TEST(a_timer_ends_what_nobody_has_committed)
{
    AUTO(shop) shop = shop_new("timer", "");
    g_autofree char *failover = NULL, *status = NULL, *due = NULL;

    g_clear_pointer(&shop->lab, lab_free);
    failover = DRCTL_RUN(shop, "failover", "timer", "--yes", "--commit-after", "3s", "--on-timeout",
                         "rollback");
    ck_assert_ptr_nonnull(strstr(failover, "then it is rolled back"));
    status = DRCTL_RUN(shop, "status");
    ck_assert_ptr_nonnull(strstr(status, "Failovers that are not committed"));
    for (int64_t deadline = time_monotonic_ms() + UNIT_PATIENCE_MS; !due || !*due;) {
        ck_assert_int_lt(time_monotonic_ms(), deadline);
        g_free(due);
        due = DRCTL_RUN(shop, "run", "due");
        g_usleep(100 * 1000);
    }
    ck_assert_ptr_nonnull(strstr(due, "is rolled back"));
    shop->lab = lab_open("timer");
    assert_taken_back(shop);
}
END_TEST

/* ---- Killed */

static void kill_rollback(const char *name, const char *step, const char *state)
{
    pid_t pid = fork();

    if (pid == 0) {
        struct lab *lab = lab_open(name);

        window_roll_back(&lab->site, window_of(lab, name), NULL, NULL);
        _exit(0);
    }
    ck_assert_int_gt(pid, 0);
    AUTO(lab) lab = lab_open(name);

    kill_when(pid, lab, step, state);
}

/* Somebody does not know that it is to go. */
static void start_what_is_left(const struct shop *shop)
{
    for (unsigned i = 0; i < 2; i++) {
        AUTO(domain) domain = host_domain(shop->lab->hosts->pdata[0], shop->guests[i]->name, NULL);

        if (domain)
            domain_start(domain, NULL);
    }
}

static void check_kill(const char *name, const char *step, const char *state)
{
    AUTO(shop) shop = shop_with_window(name, "");
    g_autofree char *id = NULL;
    AUTO(window) window = NULL;
    g_autoptr(GError) error = NULL;

    fail_over(shop->lab, name);
    g_clear_pointer(&shop->lab, lab_free);
    kill_rollback(name, step, state);
    shop->lab = lab_open(name);
    start_what_is_left(shop);
    unit_ok(run_find_interrupted(shop->lab->catalog, "rollback", name, &id, &error), error);
    /* It may have been over before we could kill it. */
    if (id) {
        window = window_of_rollback(&shop->lab->site, id, &error);
        unit_ok(window != NULL, error);
        unit_ok(window_roll_back(&shop->lab->site, window, NULL, &error), error);
    }
    assert_taken_back(shop);
    json_auto_t *runs = run_list(shop->lab->catalog, NULL);
    ck_assert_uint_eq(json_array_size(runs), 2);
    ck_assert_str_eq(json_get_string(json_array_get(runs, 0), "state"), "done");
}

#define KILL_TEST(name, step, state)                                                               \
    START_TEST(a_rollback_goes_on_when_killed_with_##step##_##state)                               \
    {                                                                                              \
        check_kill(name, #step, #state);                                                           \
    }                                                                                              \
    END_TEST

KILL_TEST("w0", stop, running)
KILL_TEST("w1", stop, done)
KILL_TEST("w2", remove, running)
KILL_TEST("w3", remove, done)
KILL_TEST("w4", give, running)
KILL_TEST("w5", give, done)

/* NAME was interrupted, and is to be committed after an hour. */
static void check_policy_on_resume(const struct lab *lab, const char *name)
{
    struct commit_policy policy = {.after_ms = HOUR_MS};
    struct failover_request request = {.name = name, .commit = &policy};
    g_autoptr(GError) error = NULL;
    AUTO(failover_plan) plan = failover_plan_make(&lab->site, &request, &error);

    unit_ok(plan && plan->resumes, error);
    policy.rolls_back = true;
    unit_fails(failover_plan_make(&lab->site, &request, &error), error, ERROR_CONFLICT,
               "finish it first, without these");
    policy = (struct commit_policy){0};
    unit_fails(failover_plan_make(&lab->site, &request, &error), error, ERROR_CONFLICT,
               "finish it first, without these");
}

START_TEST(a_failover_that_was_interrupted_can_be_rolled_back_but_not_committed)
{
    AUTO(shop) shop = shop_with_window("intr", "");
    AUTO(window) window = NULL;
    g_autoptr(GError) error = NULL;
    pid_t pid;

    g_clear_pointer(&shop->lab, lab_free);
    pid = fork();
    if (pid == 0) {
        struct lab *lab = lab_open("intr");
        struct failover_result result = {0};

        failover_execute(&lab->site, plan_of(lab, "intr"), NULL, NULL, &result, NULL);
        _exit(0);
    }
    {
        AUTO(lab) lab = lab_open("intr");

        kill_when(pid, lab, "define", "done");
    }
    shop->lab = lab_open("intr");
    window = window_of(shop->lab, "intr");
    if (window->until_ms == 0) {
        unit_fails(window_commit(&shop->lab->site, window, &error), error, ERROR_CONFLICT,
                   "has not ended");
        check_policy_on_resume(shop->lab, "intr");
    }
    roll_back(shop->lab, "intr");
    assert_taken_back(shop);
    AUTO(failover_plan) plan = plan_of(shop->lab, "intr");
    ck_assert_ptr_null(plan->resumes);
}
END_TEST

int main(void)
{
    become_ordinary_user();
    return SESSION_RUN(
        "window", a_failover_that_is_rolled_back_leaves_all_as_it_was,
        what_an_earlier_run_brought_up_is_not_taken_back_with_it,
        a_vm_that_is_another_one_now_is_left_alone,
        a_vm_that_was_defined_anew_keeps_its_disks_and_its_owner,
        what_a_later_run_brought_up_is_not_taken_back_with_an_earlier_one,
        a_vm_that_another_site_has_taken_over_is_not_given_away,
        an_old_copy_that_made_room_is_there_again,
        vms_stay_on_their_points_until_their_failover_is_committed,
        what_was_committed_meanwhile_is_not_rolled_back, a_commit_is_no_failover,
        without_a_plan_a_failover_is_committed_at_once, what_is_asked_for_comes_before_the_plan,
        a_timer_ends_what_nobody_has_committed, a_rollback_goes_on_when_killed_with_stop_running,
        a_rollback_goes_on_when_killed_with_stop_done,
        a_rollback_goes_on_when_killed_with_remove_running,
        a_rollback_goes_on_when_killed_with_remove_done,
        a_rollback_goes_on_when_killed_with_give_running,
        a_rollback_goes_on_when_killed_with_give_done,
        a_failover_that_was_interrupted_can_be_rolled_back_but_not_committed);
}
