/* SPDX-License-Identifier: Apache-2.0 */
/* Test failover by a real libvirtd of guests without a system; those with one: lab-test. */
#include "tests/test-shop.h"

#include "restore/guest.h"
#include "restore/plan.h"

/* What a test is asked to do when a VM of it runs. */
struct during {
    const struct shop *shop;
    const struct failover_plan *plan;
    void (*act)(const struct during *during, const struct failover_vm *vm);
};

static void on_report(void *context, const struct vapp_result *result)
{
    const struct during *during = context;

    if (result->state == VAPP_VM_UP)
        during->act(during, plan_vm_named(during->plan, result->vm->name));
}

static bool run_test(const struct shop *shop, const struct failover_plan *plan,
                     const struct test_request *request,
                     void (*act)(const struct during *during, const struct failover_vm *vm),
                     struct test_outcome *result, GError **error)
{
    struct during during = {shop, plan, act};

    return test_execute(&shop->lab->site, plan, request, act ? on_report : NULL, &during, result,
                        error);
}

static char *point_dir(const struct shop *shop, unsigned guest, unsigned point)
{
    return store_point_dir(shop->lab->config->store, shop->guests[guest]->uuid,
                           shop->guests[guest]->points[point]);
}

/* ---- The good way */

static bool is_held(const struct lab *lab, const struct lost_guest *guest)
{
    g_autofree char *path =
        g_strdup_printf("%s/locks/read-%s.lock", lab->config->store, guest->uuid);

    return file_lock_held(path);
}

static void look_at_copy(const struct during *during, const struct failover_vm *vm)
{
    const struct lab *lab = during->shop->lab;
    unsigned i = g_str_has_suffix(vm->name, "-db") ? 0 : 1;
    const char *copy = vm->recovery->name;
    g_autofree char *uuid = domain_text(lab, copy, "uuid");
    g_autofree char *type = domain_text(lab, copy, "devices/interface/@type");
    g_autofree char *group = domain_text(lab, copy, "devices/interface/source/@address");

    ck_assert_str_ne(copy, vm->name);
    ck_assert_str_ne(uuid, during->shop->guests[i]->uuid);
    ck_assert_str_eq(type, "mcast");
    ck_assert_str_ne(group, "230.0.0.1");
    ck_assert(guest_reads(lab, copy, 17, 0) && guest_reads(lab, copy, 34, 1));
    guest_write(copy, "write -P 51 0 1M");
    /* Whoever drops points need not wait for it. */
    ck_assert(!is_held(lab, during->shop->guests[i]));
}

static const char *text_of(const struct test_outcome *result, size_t i, const char *key)
{
    return json_get_string(json_array_get(json_object_get(result->evidence, "vms"), i), key);
}

static void assert_is_png(const struct test_outcome *result, size_t i)
{
    const char *name = text_of(result, i, "screenshot");
    g_autofree char *path = name ? g_build_filename(result->dir, name, NULL) : NULL;
    g_autofree char *data = NULL;
    g_autoptr(GError) error = NULL;
    size_t len;

    ck_assert_msg(name != NULL, "%s", text_of(result, i, "screenshot_problem"));
    unit_ok(file_read(path, 16 << 20, &data, &len, &error), error);
    ck_assert(len > 100 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0);
}

START_TEST(copies_run_are_looked_at_and_are_gone)
{
    AUTO(shop) shop = test_shop_new("t1", "");
    AUTO(failover_plan) plan = test_plan_of(shop, NULL);
    struct test_request request = {0};
    struct test_outcome result = {0};
    g_autofree char *kept = NULL;
    g_autofree char *state = NULL;
    g_autoptr(GError) error = NULL;

    /* Nobody can see whether they work: that is said, and is no success. */
    unit_fails(run_test(shop, plan, &request, look_at_copy, &result, &error), error, ERROR_PARTIAL,
               "proves less than all");
    ck_assert_int_eq(result.verdict, PROOF_UNPROVEN);
    assert_test_is_gone(shop);
    state = newest_run_state(shop->lab);
    ck_assert_str_eq(state, "partially-failed");
    for (unsigned i = 0; i < 2; i++) {
        g_autofree char *dir = point_dir(shop, i, 1);
        AUTO(proof) proof = proof_load(dir);

        ck_assert_str_eq(text_of(&result, i, "vm"), shop->guests[i]->name);
        ck_assert_str_eq(text_of(&result, i, "state"), "done");
        ck_assert_str_eq(text_of(&result, i, "verdict"), "unproven");
        ck_assert(strstr(text_of(&result, i, "seen"), "guest agent does not answer"));
        assert_is_png(&result, i);
        ck_assert_str_eq(proof->run, result.run);
        ck_assert_int_eq(proof->verdict, PROOF_UNPROVEN);
        assert_points_untouched(shop->lab, shop->guests[i]);
    }
    ck_assert(json_number_value(json_object_get(result.evidence, "rto_seconds")) > 1);
    ck_assert(json_number_value(json_object_get(result.evidence, "rpo_seconds")) > 0);
    kept = g_build_filename(result.dir, "evidence.json", NULL);
    ck_assert(g_file_test(kept, G_FILE_TEST_EXISTS));
    test_outcome_clear(&result);
}
END_TEST

START_TEST(a_plan_is_of_copies_beside_the_originals)
{
    AUTO(shop) shop = test_shop_new("t2", "");
    AUTO(failover_plan) plan = NULL;
    const struct recovery *db, *app;

    fail_over(shop->lab, "t2");
    plan = test_plan_of(shop, NULL);
    db = planned(plan, 0)->recovery;
    app = planned(plan, 1)->recovery;
    ck_assert(!planned(plan, 0)->blocked && !planned(plan, 1)->blocked);
    ck_assert_str_eq(db->name, "t2-test-1.t2-db");
    ck_assert_str_eq(app->name, "t2-test-1.t2-app");
    /* The same addresses as the original, which runs. */
    ck_assert(strstr(db->definition, "52:54:00:0a:0b:0c"));
    /* Nothing is said of a network that need not exist here. */
    ck_assert(!has_finding(planned(plan, 0), "no-such-br"));
}
END_TEST

static void write_plan(const struct lab *lab, const char *name, const char *text)
{
    g_autofree char *path = g_strdup_printf("%s/%s.plan", lab->config->dir, name);
    g_autofree char *all = g_strdup_printf("[plan]\nvapps = %s\n%s", name, text);
    g_autoptr(GError) error = NULL;

    unit_ok(file_write(path, all, strlen(all), 0600, &error), error);
}

START_TEST(the_recovery_plan_is_followed_but_for_what_leads_out)
{
    AUTO(shop) shop = test_shop_new("td", "");
    AUTO(failover_plan) plan = NULL;
    const struct recovery *db;

    write_plan(shop->lab, "td",
               "[network no-such-br]\ntest = disconnected\n[vm td-db]\nmemory = 48MiB\n"
               "host = qemu:///elsewhere\nbefore = touch /before\nin-guest = true\n");
    plan = test_plan_of(shop, NULL);
    db = planned(plan, 0)->recovery;
    ck_assert_msg(db != NULL, "%s", (char *)planned(plan, 0)->findings->pdata[0]);
    ck_assert(strstr(db->definition, ">49152</memory>"));
    ck_assert(strstr(db->definition, "<link state=\"down\""));
    ck_assert_ptr_null(db->customization->before);
    ck_assert_str_eq(db->customization->in_guest, "true");
    ck_assert(has_finding(planned(plan, 0), "`before` and `after` of the plan are not run"));
}
END_TEST

static void look_for_recovered(const struct during *during, const struct failover_vm *vm)
{
    char *all[] = {NULL}, *copy[] = {vm->recovery->name, NULL};
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) found = hydration_find(&during->shop->lab->site, all, &error);

    unit_ok(found != NULL, error);
    ck_assert_uint_eq(found->len, 0);
    unit_fails(hydration_find(&during->shop->lab->site, copy, &error), error, ERROR_NOT_FOUND,
               "was recovered here");
}

START_TEST(copies_stay_on_their_points_and_need_no_commit)
{
    AUTO(shop) shop = test_shop_new("tf", "");
    AUTO(failover_plan) plan = NULL;
    struct test_request request = {0};
    struct test_outcome result = {0};
    g_autoptr(GError) error = NULL;

    write_plan(shop->lab, "tf", "hydrate = yes\ncommit-after = 1h\n");
    plan = test_plan_of(shop, NULL);
    ck_assert(!plan->hydrate);
    ck_assert_int_eq(plan->commit.after_ms, 0);
    unit_fails(run_test(shop, plan, &request, look_for_recovered, &result, &error), error,
               ERROR_PARTIAL, "proves less than all");
    test_outcome_clear(&result);
}
END_TEST

START_TEST(a_name_that_is_taken_is_not_used)
{
    AUTO(shop) shop = test_shop_new("t3", "");
    AUTO(domain) stranger = define_guest(shop->lab->hosts->pdata[0], "t3-test-1.t3-app", "");
    AUTO(failover_plan) plan = test_plan_of(shop, NULL);

    ck_assert_str_eq(planned(plan, 0)->recovery->name, "t3-test-2.t3-db");
    undefine_guest(stranger);
}
END_TEST

START_TEST(a_port_that_nobody_can_see_is_not_counted_as_seen)
{
    AUTO(shop) shop = test_shop_new("t4", "ready = tcp:80");
    AUTO(failover_plan) plan = test_plan_of(shop, NULL);
    struct test_request request = {0};
    struct test_outcome result = {0};
    g_autoptr(GError) error = NULL;

    unit_fails(run_test(shop, plan, &request, NULL, &result, &error), error, ERROR_PARTIAL,
               "proves less than all");
    ck_assert_str_eq(text_of(&result, 1, "verdict"), "unproven");
    ck_assert(
        strstr(text_of(&result, 1, "seen"), "nobody outside of the bubble can see TCP port 80"));
    test_outcome_clear(&result);
}
END_TEST

/* A guest without a channel for an agent; it is off. */
static struct domain *mute_guest(const struct lab *lab, const char *name)
{
    g_autofree char *text = guest_xml(name, "");
    g_autofree char *mute = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(xml) xml = xml_parse(text, name, &error);
    struct domain *domain;

    unit_ok(xml != NULL, error);
    xml_remove(xml_find(xml_root(xml), "devices/channel"));
    mute = xml_dump(xml);
    domain = host_define(lab->hosts->pdata[0], mute, &error);
    unit_ok(domain != NULL, error);
    return domain;
}

START_TEST(a_vm_that_nobody_can_see_must_run_at_least)
{
    AUTO(lab) lab = lab_open("tg");
    AUTO(domain) domain = mute_guest(lab, "tg-vm");
    struct vapp_vm vm = {.name = (char *)"tg-vm", .ready = READY_NONE};
    enum proof_verdict verdict;
    g_autofree char *seen = NULL, *none = NULL;
    g_autoptr(GError) error = NULL;

    unit_fails(guest_wait_ready(&vm, domain, &verdict, &none, &error), error, ERROR_HYPERVISOR,
               "does not run any more");
    VIRSH("start", "tg-vm");
    unit_ok(guest_wait_ready(&vm, domain, &verdict, &seen, &error), error);
    ck_assert_int_eq(verdict, PROOF_UNPROVEN);
    ck_assert_ptr_nonnull(strstr(seen, "it has no guest agent"));
    VIRSH("destroy", "tg-vm");
    undefine_guest(domain);
}
END_TEST

START_TEST(a_vm_that_is_not_ready_fails_the_test)
{
    AUTO(shop) shop = test_shop_new("t5", "ready = agent");
    AUTO(failover_plan) plan = test_plan_of(shop, NULL);
    struct test_request request = {0};
    struct test_outcome result = {0};
    g_autofree char *dir = point_dir(shop, 1, 1);
    g_autofree char *state = NULL;
    g_autoptr(GError) error = NULL;

    unit_fails(run_test(shop, plan, &request, NULL, &result, &error), error, ERROR_FAILED,
               result.dir ? result.dir : "evidence");
    ck_assert_str_eq(text_of(&result, 1, "verdict"), "failed");
    ck_assert(strstr(text_of(&result, 1, "error"), "an answer of its guest agent"));
    /* What it showed is most of all worth to be kept then. */
    assert_is_png(&result, 1);
    AUTO(proof) proof = proof_load(dir);

    ck_assert_int_eq(proof->verdict, PROOF_FAILED);
    assert_test_is_gone(shop);
    state = newest_run_state(shop->lab);
    ck_assert_str_eq(state, "failed");
    test_outcome_clear(&result);
}
END_TEST

/* ---- Which points */

static void assert_points(const struct failover_plan *plan, const struct shop *shop, unsigned db,
                          unsigned app)
{
    ck_assert_str_eq(planned(plan, 0)->point, shop->guests[0]->points[db]);
    ck_assert_str_eq(planned(plan, 1)->point, shop->guests[1]->points[app]);
}

static int64_t time_of(const struct shop *shop, unsigned guest, unsigned point)
{
    int64_t ms;

    ck_assert(point_id_parse(shop->guests[guest]->points[point], &ms));
    return ms;
}

START_TEST(an_older_point_can_be_tested)
{
    AUTO(shop) shop = test_shop_new("t6", "");
    struct failover_request by_id = {.point = shop->guests[0]->points[0]};
    struct failover_request by_time = {.until_ms = time_of(shop, 0, 1) - 1};
    struct failover_request unknown = {.point = "20200101T000000.000Z"};
    AUTO(failover_plan) first = test_plan_of(shop, &by_id);
    AUTO(failover_plan) second = test_plan_of(shop, &by_time);
    g_autoptr(GError) error = NULL;

    assert_points(first, shop, 0, 0);
    assert_points(second, shop, 0, 0);
    unit_fails(test_plan_new(&shop->lab->site, "t6", &unknown, &error), error, ERROR_NOT_FOUND,
               "there is no point or round 20200101T000000.000Z");
}
END_TEST

static void prove(const struct shop *shop, unsigned guest, unsigned point)
{
    g_autofree char *dir = point_dir(shop, guest, point);
    struct proof proof = {.run = (char *)"r-1", .time_ms = 1, .verdict = PROOF_PASSED};
    g_autoptr(GError) error = NULL;

    unit_ok(proof_save(dir, &proof, &error), error);
}

START_TEST(a_failover_can_start_from_what_is_proven)
{
    AUTO(shop) shop = test_shop_new("t7", "");
    struct failover_request proven = {.name = "t7", .proven = true};
    g_autoptr(GError) error = NULL;

    prove(shop, 0, 0);
    AUTO(failover_plan) half = failover_plan_make(&shop->lab->site, &proven, &error);
    unit_ok(half != NULL, error);
    ck_assert_str_eq(planned(half, 0)->point, shop->guests[0]->points[0]);
    ck_assert(planned(half, 1)->blocked);
    ck_assert(has_finding(planned(half, 1), "none of its points here is proven"));
    prove(shop, 1, 0);
    AUTO(failover_plan) plan = failover_plan_make(&shop->lab->site, &proven, &error);
    unit_ok(plan != NULL, error);
    assert_points(plan, shop, 0, 0);
}
END_TEST

START_TEST(an_interrupted_failover_keeps_its_points)
{
    AUTO(shop) shop = test_shop_new("te", "");
    struct failover_request request = {.name = "te", .point = shop->guests[0]->points[0]};
    g_autoptr(GError) error = NULL;
    AUTO(run) run = run_begin(shop->lab->catalog, FAILOVER_KIND, "te", NULL, &error);

    unit_ok(run != NULL, error);
    g_clear_pointer(&run, run_free);
    unit_fails(failover_plan_make(&shop->lab->site, &request, &error), error, ERROR_CONFLICT,
               "finish it first, without --point and --at");
}
END_TEST

static json_t *run_entry(const char *state, const char *ended)
{
    return json_pack("{ss ss ss ss ss ss?}", "run", "r-1", "kind", "test", "title", "shop", "state",
                     state, "pid", "1", "ended", ended);
}

START_TEST(a_test_is_due_when_the_last_one_is_that_long_ago)
{
    struct recovery_plan plan = {.name = (char *)"shop", .test_every_ms = 60000};
    json_auto_t *runs = json_array();
    struct test_record last;

    test_find_last(runs, "shop", &last);
    ck_assert_ptr_null(last.run);
    ck_assert_int_eq(test_due_ms(&plan, &last), 0);
    json_array_append_new(runs, run_entry("interrupted", NULL));
    json_array_append_new(runs, run_entry("cancelled", "2026-11-20T22:17:00Z"));
    json_array_append_new(runs, run_entry("partially-failed", "2026-11-20T22:15:00Z"));
    json_array_append_new(runs, run_entry("done", "2026-11-20T22:10:00Z"));
    test_find_last(runs, "crm", &last);
    ck_assert_ptr_null(last.run);
    test_find_last(runs, "shop", &last);
    ck_assert_int_eq(last.verdict, PROOF_UNPROVEN);
    ck_assert_int_eq(test_due_ms(&plan, &last), last.ended_ms + 60000);
    plan.test_every_ms = 0;
    ck_assert_int_eq(test_due_ms(&plan, &last), INT64_MAX);
    test_record_clear(&last);
}
END_TEST

/* ---- Limits */

static void write_much(const struct during *during, const struct failover_vm *vm)
{
    /* It may be stopped before it has an answer. */
    const char *const argv[] = {
        "virsh",
        "-c",
        session_uri,
        "qemu-monitor-command",
        vm->recovery->name,
        "--hmp",
        "qemu-io -d /machine/peripheral/virtio-disk0/virtio-backend \"write -P 51 0 12M\"",
        NULL};

    process_run(argv, 120, NULL, NULL);
}

START_TEST(copies_that_write_too_much_are_stopped)
{
    AUTO(shop) shop = test_shop_new("t8", "");
    AUTO(failover_plan) plan = test_plan_of(shop, NULL);
    struct test_request request = {.cap_bytes = 6 << 20};
    struct test_outcome result = {0};
    g_autofree char *dir = point_dir(shop, 0, 1);
    g_autofree char *state = NULL;
    g_autoptr(GError) error = NULL;

    unit_fails(run_test(shop, plan, &request, write_much, &result, &error), error, ERROR_NO_SPACE,
               "the test of t8 was stopped: its VMs have written more than 6");
    ck_assert_ptr_nonnull(json_get_string(result.evidence, "stopped"));
    /* It is not the point's fault. */
    ck_assert_ptr_null(proof_load(dir));
    assert_test_is_gone(shop);
    state = newest_run_state(shop->lab);
    ck_assert_str_eq(state, "cancelled");
    test_outcome_clear(&result);
}
END_TEST

static void interrupt(const struct during *during, const struct failover_vm *vm)
{
    interrupt_request();
}

START_TEST(an_interrupt_ends_it_and_leaves_nothing)
{
    AUTO(shop) shop = test_shop_new("t9", "");
    AUTO(failover_plan) plan = test_plan_of(shop, NULL);
    struct test_request request = {0};
    struct test_outcome result = {0};
    g_autofree char *state = NULL;
    g_autoptr(GError) error = NULL;

    unit_fails(run_test(shop, plan, &request, interrupt, &result, &error), error, ERROR_CANCELLED,
               "was stopped");
    assert_test_is_gone(shop);
    state = newest_run_state(shop->lab);
    ck_assert_str_eq(state, "cancelled");
    test_outcome_clear(&result);
}
END_TEST

/* ---- One at a time, and a real failover before all */

START_TEST(a_vapp_is_tested_once_at_a_time)
{
    AUTO(shop) shop = test_shop_new("ta", "");
    AUTO(failover_plan) plan = test_plan_of(shop, NULL);
    g_autofree char *path = plan_lock_path(&shop->lab->site, "test", "ta");
    struct test_request request = {0};
    struct test_outcome result = {0};
    g_autoptr(GError) error = NULL;
    AUTO(file_lock) lock = file_lock_take(path, "x", &error);

    unit_fails(run_test(shop, plan, &request, NULL, &result, &error), error, ERROR_CONFLICT,
               "cannot test ta now: its test");
    assert_test_is_gone(shop);
}
END_TEST

START_TEST(there_is_no_test_during_a_failover)
{
    AUTO(shop) shop = test_shop_new("tb", "");
    AUTO(failover_plan) plan = test_plan_of(shop, NULL);
    g_autofree char *path = plan_lock_path(&shop->lab->site, FAILOVER_KIND, "tb");
    struct test_request request = {0};
    struct test_outcome result = {0};
    g_autoptr(GError) error = NULL;
    AUTO(file_lock) lock = file_lock_take(path, "x", &error);

    unit_fails(run_test(shop, plan, &request, NULL, &result, &error), error, ERROR_CONFLICT,
               "a real failover goes on");
    ck_assert_ptr_null(result.run);
}
END_TEST

/* In a process of its own; its exit status is 0 if the test was stopped. */
static pid_t test_elsewhere(const char *name)
{
    pid_t pid = fork();

    if (pid == 0) {
        struct shop *shop = g_new0(struct shop, 1);
        struct test_request request = {.keep_ms = 60000};
        struct test_outcome result = {0};
        struct failover_plan *plan;
        g_autoptr(GError) error = NULL;

        shop->lab = lab_open(name);
        plan = test_plan_new(&shop->lab->site, name, NULL, &error);
        if (plan)
            test_execute(&shop->lab->site, plan, &request, NULL, NULL, &result, &error);
        _exit(result.run ? 0 : 1);
    }
    ck_assert_int_gt(pid, 0);
    return pid;
}

START_TEST(a_real_failover_wins)
{
    AUTO(shop) shop = test_shop_new("tc", "");
    int64_t deadline = time_monotonic_ms() + 30000;
    int status = -1;
    pid_t pid;

    g_clear_pointer(&shop->lab, lab_free);
    pid = test_elsewhere("tc");
    shop->lab = lab_open("tc");
    while (!journal_says(shop->lab->catalog, "start", "done")) {
        ck_assert_int_lt(time_monotonic_ms(), deadline);
        g_usleep(10000);
    }
    fail_over(shop->lab, "tc");
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert_int_lt(time_monotonic_ms(), deadline);
    ck_assert(!test_domain_is_left(shop->lab, "tc"));
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(state_of_guest(shop->lab, shop->guests[i]->name), DOMAIN_RUNNING);
}
END_TEST

int main(void)
{
    become_ordinary_user();
    return SESSION_RUN(
        "test-failover", copies_run_are_looked_at_and_are_gone,
        a_plan_is_of_copies_beside_the_originals,
        the_recovery_plan_is_followed_but_for_what_leads_out,
        copies_stay_on_their_points_and_need_no_commit, a_name_that_is_taken_is_not_used,
        a_port_that_nobody_can_see_is_not_counted_as_seen,
        a_vm_that_nobody_can_see_must_run_at_least, a_vm_that_is_not_ready_fails_the_test,
        an_older_point_can_be_tested, a_failover_can_start_from_what_is_proven,
        an_interrupted_failover_keeps_its_points, a_test_is_due_when_the_last_one_is_that_long_ago,
        copies_that_write_too_much_are_stopped, an_interrupt_ends_it_and_leaves_nothing,
        a_vapp_is_tested_once_at_a_time, there_is_no_test_during_a_failover, a_real_failover_wins);
}
