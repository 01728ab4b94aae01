/* SPDX-License-Identifier: Apache-2.0 */
/* Recovery plans with real points and a real libvirtd: failover by a plan, checks, hooks. */
#include "tests/recovery-shop.h"
#include "tests/two-hosts.h"

static void write_plan(const struct lab *lab, const char *name, const char *text)
{
    g_autofree char *path = g_strdup_printf("%s/%s.plan", lab->config->dir, name);
    g_autoptr(GError) error = NULL;

    unit_ok(file_write(path, text, strlen(text), 0600, &error), error);
}

static void remove_plan(const struct lab *lab, const char *name)
{
    g_autofree char *path = g_strdup_printf("%s/%s.plan", lab->config->dir, name);

    ck_assert_int_eq(unlink(path), 0);
}

static struct failover_plan *plan_without_optional(const struct lab *lab, const char *name)
{
    struct failover_request request = {.name = name, .skip_optional = true};
    g_autoptr(GError) error = NULL;
    struct failover_plan *plan = failover_plan_make(&lab->site, &request, &error);

    unit_ok(plan != NULL, error);
    return plan;
}

/* ---- Failover by a plan */

START_TEST(the_plan_of_the_name_is_followed)
{
    AUTO(shop) shop = shop_new("map", "");
    AUTO(failover_plan) plan = NULL;
    g_autofree char *memory = NULL;
    g_autofree char *cpus = NULL;
    g_autofree char *link = NULL;

    write_plan(shop->lab, "map",
               "[plan]\nvapps = map\nsite = dc1\n[network no-such-br]\ntarget = disconnected\n"
               "[vm map-db]\nmemory = 24MiB\ncpus = 2\n");
    plan = plan_of(shop->lab, "map");
    ck_assert_uint_eq(planned(plan, 0)->findings->len, 0);
    fail_over(shop->lab, "map");
    memory = domain_text(shop->lab, "map-db", "memory");
    cpus = domain_text(shop->lab, "map-db", "vcpu");
    link = domain_text(shop->lab, "map-db", "devices/interface/link/@state");
    ck_assert_str_eq(memory, "24576");
    ck_assert_str_eq(cpus, "2");
    ck_assert_str_eq(link, "down");
    ck_assert_int_eq(state_of_guest(shop->lab, "map-db"), DOMAIN_RUNNING);
}
END_TEST

START_TEST(a_plan_brings_up_several_vapps_in_its_order)
{
    AUTO(lab) lab = lab_open("sev");
    AUTO(lost_guest) front = lost_guest(lab, "sev-front", "");
    AUTO(lost_guest) back = lost_guest(lab, "sev-back", "");
    AUTO(lost_guest) alone = lost_guest(lab, "sev-alone", "");
    struct lost_guest *const guests[] = {front, back, alone, NULL};
    AUTO(bundle) bundle = bundle_new("dc1");
    g_autoptr(GError) error = NULL;
    AUTO(failover_plan) plan = NULL;
    struct failover_result result = {0};
    bool sent;

    bundle_add(bundle, "vapps/front.vapp", "[vapp]\nname = front\n[vm sev-front]\norder = 3\n");
    bundle_add(bundle, "vapps/back.vapp", "[vapp]\nname = back\n[vm sev-back]\norder = 3\n");
    for (unsigned i = 0; guests[i]; i++)
        bundle_add_domain(bundle, guests[i]->name, guests[i]->uuid, guests[i]->xml);
    unit_ok(bundle_publish(bundle, lab->store, &sent, &error), error);
    write_plan(lab, "site", "[plan]\nvapps = back; sev-alone; front\n");
    plan = plan_of(lab, "site");
    ck_assert_str_eq(plan->vapp, "site");
    ck_assert_uint_eq(plan->vms->len, 3);
    ck_assert_str_eq(planned(plan, 0)->name, "sev-back");
    ck_assert_str_eq(planned(plan, 1)->name, "sev-alone");
    ck_assert_str_eq(planned(plan, 2)->name, "sev-front");
    ck_assert_uint_lt(planned(plan, 0)->order, planned(plan, 1)->order);
    ck_assert_uint_lt(planned(plan, 1)->order, planned(plan, 2)->order);
    unit_ok(failover_execute(&lab->site, plan, NULL, NULL, &result, &error), error);
    ck_assert_int_eq(result.state, RUN_DONE);
    for (unsigned i = 1; i < 3; i++)
        ck_assert_int_ge(result_of(&result, i)->started_ms, result_of(&result, i - 1)->finished_ms);
    failover_result_clear(&result);
}
END_TEST

START_TEST(what_is_optional_can_be_left_out)
{
    AUTO(shop) shop = shop_new("opt", "");
    AUTO(failover_plan) whole = NULL;
    AUTO(failover_plan) plan = NULL;
    struct failover_result result = {0};
    g_autoptr(GError) error = NULL;

    write_plan(shop->lab, "opt", "[plan]\nvapps = opt\n[vm opt-db]\noptional = yes\n");
    whole = plan_of(shop->lab, "opt");
    ck_assert_uint_eq(whole->vms->len, 2);
    plan = plan_without_optional(shop->lab, "opt");
    ck_assert_uint_eq(plan->vms->len, 1);
    ck_assert_str_eq(plan->skipped->pdata[0], "opt-db");
    unit_ok(failover_execute(&shop->lab->site, plan, NULL, NULL, &result, &error), error);
    ck_assert_int_eq(state_of_guest(shop->lab, "opt-app"), DOMAIN_RUNNING);
    ck_assert_ptr_null(host_domain(shop->lab->hosts->pdata[0], "opt-db", NULL));
    failover_result_clear(&result);
}
END_TEST

static void die_when_started(void *context, const struct vapp_result *result)
{
    if (result->state == VAPP_VM_DONE)
        raise(SIGKILL);
}

/* Whatever has become of the plan's file, the run goes on with what was decided. */
START_TEST(an_interrupted_failover_keeps_the_decisions_of_its_plan)
{
    AUTO(shop) shop = shop_new("keep", "");
    AUTO(failover_plan) resumed = NULL;
    g_autofree char *memory = NULL;
    pid_t child;

    write_plan(
        shop->lab, "keep",
        "[plan]\nvapps = keep\n[vm keep-db]\nmemory = 24MiB\n[vm keep-app]\noptional = yes\n");
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        AUTO(lab) lab = lab_open("keep");
        AUTO(failover_plan) plan = plan_without_optional(lab, "keep");
        struct failover_result result = {0};

        failover_execute(&lab->site, plan, die_when_started, NULL, &result, NULL);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    remove_plan(shop->lab, "keep");
    resumed = plan_of(shop->lab, "keep");
    ck_assert_ptr_nonnull(resumed->resumes);
    ck_assert_uint_eq(resumed->vms->len, 1);
    ck_assert_str_eq(resumed->skipped->pdata[0], "keep-app");
    fail_over(shop->lab, "keep");
    memory = domain_text(shop->lab, "keep-db", "memory");
    ck_assert_str_eq(memory, "24576");
    ck_assert_ptr_null(host_domain(shop->lab->hosts->pdata[0], "keep-app", NULL));
}
END_TEST

START_TEST(a_plan_for_vms_that_are_not_there_is_refused)
{
    AUTO(shop) shop = shop_new("typo", "");
    g_autoptr(GError) error = NULL;

    write_plan(shop->lab, "typo", "[plan]\nvapps = typo\n[vm typo-dbb]\nmemory = 1GiB\n");
    unit_fails(failover_plan_new(&shop->lab->site, "typo", &error), error, ERROR_CONFIG,
               "[vm typo-dbb]: no vApp of the plan has such a VM");
    write_plan(shop->lab, "typo", "[plan]\nvapps = typo\n[vm typo-db]\napart = typo-ap\n");
    unit_fails(failover_plan_new(&shop->lab->site, "typo", &error), error, ERROR_CONFIG,
               "[vm typo-db] apart: no vApp of the plan has a VM 'typo-ap'");
    write_plan(shop->lab, "typo", "[plan]\nvapps = nothing\n");
    unit_fails(failover_plan_new(&shop->lab->site, "typo", &error), error, ERROR_NOT_FOUND,
               "neither a vApp nor a VM nothing is known");
}
END_TEST

START_TEST(a_vm_that_does_not_fit_is_refused_with_numbers)
{
    AUTO(shop) shop = shop_new("big", "");
    AUTO(failover_plan) plan = NULL;

    write_plan(shop->lab, "big", "[plan]\nvapps = big\n[vm big-db]\nmemory = 8TiB\n");
    plan = plan_of(shop->lab, "big");
    ck_assert(planned(plan, 0)->blocked && !planned(plan, 1)->blocked);
    ck_assert(has_finding(planned(plan, 0), "it needs 8 TiB of memory; left for it is "));
    ck_assert(has_finding(planned(plan, 0), session_uri));
    ck_assert(has_finding(planned(plan, 0), "--skip-optional"));
    ck_assert_ptr_null(planned(plan, 0)->host);
}
END_TEST

/* ---- Two hosts */

START_TEST(vms_that_shall_be_apart_get_a_host_each)
{
    AUTO(shop) shop = shop_new("two", "");
    struct lab *lab = shop->lab;
    struct failover_result result = {0};
    AUTO(failover_plan) plan = NULL;
    g_autoptr(GError) error = NULL;

    add_second_host(lab);
    write_plan(lab, "two", "[plan]\nvapps = two\n[vm two-app]\napart = two-db\n");
    plan = plan_of(lab, "two");
    ck_assert_str_ne(planned(plan, 0)->host, planned(plan, 1)->host);
    unit_ok(failover_execute(&lab->site, plan, NULL, NULL, &result, &error), error);
    for (unsigned i = 0; i < 2; i++) {
        struct host *host =
            lab->hosts->pdata[strcmp(planned(plan, i)->host, session_uri) == 0 ? 0 : 1];
        AUTO(domain) domain = host_domain(host, planned(plan, i)->name, &error);

        unit_ok(domain != NULL, error);
        ck_assert_int_eq(state_of(domain), DOMAIN_RUNNING);
        unit_ok(domain_destroy(domain, &error), error);
    }
    failover_result_clear(&result);
    g_ptr_array_set_size(lab->hosts, 1);
}
END_TEST

/* ---- Checks */

static struct preflight *checked(const struct lab *lab, const char *name)
{
    g_autoptr(GError) error = NULL;
    struct preflight *preflight = preflight_run(&lab->site, name, &error);

    unit_ok(preflight != NULL, error);
    return preflight;
}

static const struct preflight_finding *find(const struct preflight *preflight, const char *part)
{
    for (unsigned i = 0; i < preflight->findings->len; i++) {
        const struct preflight_finding *finding = preflight->findings->pdata[i];

        if (strstr(finding->text, part))
            return finding;
    }
    return NULL;
}

/* What has changed since the check that is kept; g_free. NULL: nothing. */
static char *expiry(const struct lab *lab, const char *name)
{
    AUTO(preflight) kept = NULL;
    g_autoptr(GError) error = NULL;
    char *expired = NULL;

    unit_ok(preflight_load(&lab->site, name, &kept, &expired, &error), error);
    ck_assert_ptr_nonnull(kept);
    return expired;
}

static void assert_expired(const struct lab *lab, const char *name, const char *by)
{
    g_autofree char *expired = expiry(lab, name);

    ck_assert_msg(expired && strstr(expired, by), "%s: %s", by, expired ? expired : "holds");
}

START_TEST(a_check_tells_what_is_wrong_and_what_to_do)
{
    AUTO(shop) shop = shop_new("chk", "");
    AUTO(preflight) preflight = NULL;
    const struct preflight_finding *finding;
    const struct preflight_host *host;

    write_plan(shop->lab, "chk",
               "[plan]\nvapps = chk\n[network nowhere]\ntarget = disconnected\n"
               "[vm chk-app]\nmemory = 8TiB\nbefore = /no/such/program --now\n");
    preflight = checked(shop->lab, "chk");
    ck_assert_uint_eq(preflight->vms, 2);
    ck_assert_uint_eq(preflight->blocked, 1);
    finding = find(preflight, "it needs 8 TiB");
    ck_assert(finding && finding->blocks && finding->remedy);
    ck_assert_str_eq(finding->vm, "chk-app");
    finding = find(preflight, "bridge no-such-br does not exist here");
    ck_assert(finding && !finding->blocks);
    ck_assert_ptr_nonnull(strstr(finding->remedy, "target"));
    finding = find(preflight, "[network nowhere]");
    ck_assert(finding && !finding->vm && finding->remedy);
    finding = find(preflight, "before: /no/such/program is no program here");
    ck_assert(finding && finding->remedy);
    ck_assert_uint_eq(preflight->hosts->len, 1);
    host = preflight->hosts->pdata[0];
    ck_assert_uint_eq(host->vms, 1);
    ck_assert_uint_eq(host->memory_bytes, UINT64_C(16) << 20);
    ck_assert_uint_eq(preflight->growth_bytes, UINT64_C(32) << 20);
    ck_assert_ptr_null(host_domain(shop->lab->hosts->pdata[0], "chk-db", NULL));
}
END_TEST

START_TEST(the_result_of_a_check_is_kept_as_it_was)
{
    AUTO(shop) shop = shop_new("kept", "");
    AUTO(preflight) now = checked(shop->lab, "kept");
    AUTO(preflight) kept = NULL;
    g_autofree char *expired = NULL;
    json_auto_t *before = preflight_json(now);
    json_auto_t *after = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(preflight_load(&shop->lab->site, "kept", &kept, &expired, &error), error);
    ck_assert_ptr_null(expired);
    after = preflight_json(kept);
    ck_assert(json_equal(before, after));
}
END_TEST

START_TEST(what_was_never_checked_has_no_result)
{
    AUTO(shop) shop = shop_new("never", "");
    AUTO(preflight) kept = NULL;
    g_autofree char *expired = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(preflight_load(&shop->lab->site, "never", &kept, &expired, &error), error);
    ck_assert_ptr_null(kept);
}
END_TEST

START_TEST(a_check_expires_when_what_it_was_made_of_changes)
{
    AUTO(shop) shop = shop_new("exp", "");
    struct lab *lab = shop->lab;
    AUTO(preflight) first = checked(lab, "exp");
    g_autofree char *network = lab_path(lab, "network.xml");
    const char *xml = "<network><name>exp-net</name></network>";
    const char *bubble = "<network><name>" TEST_NETWORK_PREFIX "exp-1</name></network>";
    g_autoptr(GError) error = NULL;

    write_plan(lab, "exp", "[plan]\nvapps = exp\n");
    assert_expired(lab, "exp", "the plan");
    AUTO(preflight) second = checked(lab, "exp");
    ck_assert_ptr_null(expiry(lab, "exp"));
    shop_publish(shop, "delay = 1s");
    assert_expired(lab, "exp", "the plan or its vApps");
    AUTO(preflight) third = checked(lab, "exp");
    ck_assert_ptr_null(expiry(lab, "exp"));
    unit_ok(file_write(network, xml, strlen(xml), 0644, &error), error);
    VIRSH("net-define", network);
    assert_expired(lab, "exp", "the hosts");
    VIRSH("net-undefine", "exp-net");
    ck_assert_ptr_null(expiry(lab, "exp"));
    unit_ok(file_write(network, bubble, strlen(bubble), 0644, &error), error);
    VIRSH("net-define", network);
    ck_assert_ptr_null(expiry(lab, "exp"));
    VIRSH("net-undefine", TEST_NETWORK_PREFIX "exp-1");
}
END_TEST

/* One that is like the one before changes nothing of what was checked. */
START_TEST(a_newer_point_expires_a_check_only_if_it_is_different)
{
    AUTO(lab) lab = lab_open("newer");
    AUTO(lost_guest) guest = lost_guest(lab, "newer-vm", "");
    AUTO(preflight) preflight = checked(lab, "newer-vm");
    g_autofree char *newest = store_point_dir(lab->config->store, guest->uuid, guest->points[1]);
    g_autofree char *definition = g_build_filename(newest, "domain.xml", NULL);
    g_autofree char *text = NULL;
    g_autofree char *changed = NULL;
    g_autoptr(GError) error = NULL;

    ck_assert_ptr_null(expiry(lab, "newer-vm"));
    unit_ok(file_read(definition, 1 << 20, &text, NULL, &error), error);
    changed = g_strconcat(text, "<!-- changed -->\n", NULL);
    unit_ok(file_write(definition, changed, strlen(changed), 0600, &error), error);
    assert_expired(lab, "newer-vm", "its VMs or their points");
    unit_ok(file_write(definition, text, strlen(text), 0600, &error), error);
    ck_assert_ptr_null(expiry(lab, "newer-vm"));
}
END_TEST

/* ---- A new plan */

START_TEST(a_new_plan_says_what_is_known_and_works)
{
    AUTO(shop) shop = shop_new("new", "");
    struct lab *lab = shop->lab;
    g_autoptr(GError) error = NULL;
    g_autofree char *text = recovery_plan_draft(&lab->site, "new", &error);
    AUTO(preflight) preflight = NULL;

    unit_ok(text != NULL, error);
    ck_assert_ptr_nonnull(strstr(text, "vapps = new\nsite = dc1\n"));
    ck_assert_ptr_nonnull(strstr(text, "[network no-such-br]\n# There is no network of that name"));
    ck_assert_ptr_nonnull(strstr(text, "[vm new-db]\n#memory = 16MiB\n#cpus = 1\n"));
    ck_assert_ptr_nonnull(strstr(text, "[vm new-app]\n"));
    write_plan(lab, "new", text);
    preflight = checked(lab, "new");
    ck_assert_uint_eq(preflight->blocked, 0);
    ck_assert_ptr_null(find(preflight, "no-such-br"));
}
END_TEST

/* ---- Hooks */

START_TEST(hooks_run_before_and_after_and_know_what_for)
{
    AUTO(shop) shop = shop_new("hook", "");
    struct lab *lab = shop->lab;
    g_autofree char *out = lab_path(lab, "hooks");
    g_autofree char *text = g_strdup_printf(
        "[plan]\nvapps = hook\n[vm hook-db]\n"
        "before = virsh -c \"$DRCTL_HOST\" domstate hook-db >/dev/null 2>&1 || echo before "
        "$DRCTL_VM >>%1$s\n"
        "after = virsh -c \"$DRCTL_HOST\" domstate hook-db >>%1$s; echo after $DRCTL_SITE "
        "$DRCTL_POINT $DRCTL_UUID >>%1$s\n",
        out);
    g_autofree char *expected = NULL;
    g_autofree char *got = NULL;
    g_autoptr(GError) error = NULL;

    write_plan(lab, "hook", text);
    fail_over(lab, "hook");
    unit_ok(file_read(out, 4096, &got, NULL, &error), error);
    expected = g_strdup_printf("before hook-db\nrunning\n\nafter dc1 %s %s\n",
                               shop->guests[0]->points[1], shop->guests[0]->uuid);
    ck_assert_str_eq(got, expected);
    ck_assert(journal_says(lab->catalog, "before", "done"));
    ck_assert(journal_says(lab->catalog, "after", "done"));
}
END_TEST

START_TEST(a_vm_whose_first_hook_fails_is_not_started)
{
    AUTO(shop) shop = shop_new("stop", "");
    AUTO(failover_plan) plan = NULL;
    struct failover_result result = {0};
    g_autoptr(GError) error = NULL;

    write_plan(shop->lab, "stop",
               "[plan]\nvapps = stop\n[vm stop-db]\nbefore = echo no storage >&2; exit 3\n");
    plan = plan_of(shop->lab, "stop");
    unit_fails(failover_execute(&shop->lab->site, plan, NULL, NULL, &result, &error), error,
               ERROR_FAILED, "stop-db (failed)");
    ck_assert_ptr_nonnull(strstr(result_of(&result, 0)->error, "no storage"));
    ck_assert_ptr_nonnull(strstr(result_of(&result, 0)->error, "`before`"));
    ck_assert_int_eq(result_of(&result, 1)->state, VAPP_VM_SKIPPED);
    ck_assert_ptr_null(host_domain(shop->lab->hosts->pdata[0], "stop-db", NULL));
    failover_result_clear(&result);
}
END_TEST

START_TEST(a_last_hook_that_fails_or_hangs_is_told_and_the_vm_is_up)
{
    AUTO(shop) shop = shop_new("late", "");
    AUTO(failover_plan) plan = NULL;
    struct failover_result result = {0};
    g_autoptr(GError) error = NULL;

    write_plan(shop->lab, "late",
               "[plan]\nvapps = late\n[vm late-db]\nafter = exit 4\n"
               "[vm late-app]\nafter = sleep 600; true\nhook-timeout = 1s\n");
    plan = plan_of(shop->lab, "late");
    unit_ok(failover_execute(&shop->lab->site, plan, NULL, NULL, &result, &error), error);
    ck_assert_int_eq(result.state, RUN_DONE);
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(result_of(&result, i)->state, VAPP_VM_DONE);
    ck_assert_ptr_nonnull(strstr(result_of(&result, 0)->error, "exit status 4"));
    ck_assert_ptr_nonnull(strstr(result_of(&result, 1)->error, "gave up after 1 s"));
    ck_assert_int_eq(state_of_guest(shop->lab, "late-app"), DOMAIN_RUNNING);
    failover_result_clear(&result);
}
END_TEST

/* There is nothing in these guests that could answer. */
START_TEST(a_guest_without_an_agent_fails_where_its_addresses_must_be_set)
{
    AUTO(shop) shop = shop_new("addr", "ready-timeout = 1s");
    AUTO(failover_plan) plan = NULL;
    struct failover_result result = {0};
    g_autoptr(GError) error = NULL;

    write_plan(shop->lab, "addr",
               "[plan]\nvapps = addr\n[vm addr-app]\naddress eth0 = 198.51.100.10/24\n");
    plan = plan_of(shop->lab, "addr");
    unit_fails(failover_execute(&shop->lab->site, plan, NULL, NULL, &result, &error), error,
               ERROR_PARTIAL, "addr-app (failed)");
    ck_assert_ptr_nonnull(strstr(result_of(&result, 1)->error, "guest agent does not answer"));
    ck_assert_int_eq(state_of_guest(shop->lab, "addr-app"), DOMAIN_RUNNING);
    failover_result_clear(&result);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        the_plan_of_the_name_is_followed,
        a_plan_brings_up_several_vapps_in_its_order,
        what_is_optional_can_be_left_out,
        an_interrupted_failover_keeps_the_decisions_of_its_plan,
        a_plan_for_vms_that_are_not_there_is_refused,
        a_vm_that_does_not_fit_is_refused_with_numbers,
        vms_that_shall_be_apart_get_a_host_each,
        a_check_tells_what_is_wrong_and_what_to_do,
        the_result_of_a_check_is_kept_as_it_was,
        what_was_never_checked_has_no_result,
        a_check_expires_when_what_it_was_made_of_changes,
        a_newer_point_expires_a_check_only_if_it_is_different,
        a_new_plan_says_what_is_known_and_works,
        hooks_run_before_and_after_and_know_what_for,
        a_vm_whose_first_hook_fails_is_not_started,
        a_last_hook_that_fails_or_hangs_is_told_and_the_vm_is_up,
        a_guest_without_an_agent_fails_where_its_addresses_must_be_set,
        NULL,
    };

    become_ordinary_user();
    return session_run("plan", both_start, both_stop, tests);
}
