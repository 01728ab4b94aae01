/* SPDX-License-Identifier: Apache-2.0 */
/* Failover of real points by a real libvirtd. */
#include "tests/recovery-shop.h"

static char *layer_path(const struct lab *lab, const struct lost_guest *guest, unsigned point)
{
    g_autofree char *dir = store_point_dir(lab->config->store, guest->uuid, guest->points[point]);

    return g_build_filename(dir, "vda.qcow2", NULL);
}

/* ---- The good way */

START_TEST(a_lost_vapp_runs_again_from_its_newest_points)
{
    AUTO(shop) shop = shop_new("good", "");
    AUTO(failover_plan) plan = plan_of(shop->lab, "good");
    struct failover_result result = {0};
    g_autoptr(GError) error = NULL;

    ck_assert_str_eq(plan->site, "dc1");
    ck_assert_ptr_null(plan->resumes);
    ck_assert_uint_eq(plan->vms->len, 2);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_str_eq(planned(plan, i)->name, shop->guests[i]->name);
        ck_assert_str_eq(planned(plan, i)->point, shop->guests[i]->points[1]);
        ck_assert(!planned(plan, i)->blocked);
    }
    ck_assert(has_finding(planned(plan, 0), "bridge no-such-br does not exist here"));
    unit_ok(failover_execute(&shop->lab->site, plan, NULL, NULL, &result, &error), error);
    ck_assert_int_eq(result.state, RUN_DONE);
    ck_assert(result.rto_seconds > 0 && result.rto_seconds < 60);
    ck_assert(failover_rpo_seconds(planned(plan, 0), result.started_ms) > 0);
    for (unsigned i = 0; i < 2; i++) {
        const char *name = shop->guests[i]->name;

        ck_assert_int_eq(result_of(&result, i)->state, VAPP_VM_DONE);
        ck_assert_int_eq(state_of_guest(shop->lab, name), DOMAIN_RUNNING);
        ck_assert(guest_reads(shop->lab, name, 17, 0) && guest_reads(shop->lab, name, 34, 1));
        guest_write(name, "write -P 51 0 1M");
        assert_points_untouched(shop->lab, shop->guests[i]);
    }
    failover_result_clear(&result);
}
END_TEST

START_TEST(planning_touches_nothing)
{
    AUTO(shop) shop = shop_new("dry", "");
    AUTO(failover_plan) plan = plan_of(shop->lab, "dry");
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) images = dir_list(shop->lab->config->images, &error);
    json_auto_t *runs = run_list(shop->lab->catalog, &error);

    ck_assert_uint_eq(g_strv_length(images), 0);
    ck_assert_uint_eq(json_array_size(runs), 0);
    ck_assert_ptr_null(host_domain(shop->lab->hosts->pdata[0], "dry-db", NULL));
}
END_TEST

static void assert_all_done(const json_t *steps)
{
    const json_t *step;
    size_t i;

    json_array_foreach(steps, i, step) ck_assert_str_eq(json_get_string(step, "state"), "done");
}

START_TEST(the_journal_keeps_the_plan_and_the_result)
{
    AUTO(shop) shop = shop_new("jrnl", "");
    g_autoptr(GError) error = NULL;
    json_auto_t *runs = NULL;
    json_auto_t *run = NULL;
    json_t *result, *vms;
    const char *state;

    fail_over(shop->lab, "jrnl");
    runs = run_list(shop->lab->catalog, &error);
    ck_assert_uint_eq(json_array_size(runs), 1);
    run = run_show(shop->lab->catalog, json_get_string(json_array_get(runs, 0), "run"), &error);
    unit_ok(run != NULL, error);
    unit_ok(json_need_object(run, "result", &result, &error), error);
    unit_ok(json_need_array(result, "vms", &vms, &error), error);
    unit_ok(json_need_string(json_array_get(vms, 1), "state", &state, &error), error);
    ck_assert_str_eq(state, "done");
    ck_assert_str_eq(json_get_string(json_array_get(vms, 1), "point"), shop->guests[1]->points[1]);
    ck_assert(json_real_value(json_object_get(json_array_get(vms, 1), "rpo_seconds")) > 0);
    ck_assert(json_real_value(json_object_get(json_array_get(vms, 0), "rto_seconds")) > 0);
    ck_assert_double_eq(json_real_value(json_object_get(json_array_get(vms, 1), "rto_seconds")),
                        json_real_value(json_object_get(result, "rto_seconds")));
    ck_assert_uint_eq(json_array_size(json_object_get(run, "steps")), 12);
    assert_all_done(json_object_get(run, "steps"));
    ck_assert_str_eq(json_get_string(json_object_get(run, "plan"), "site"), "dc1");
}
END_TEST

START_TEST(a_lone_vm_fails_over_by_name_and_by_uuid)
{
    AUTO(lab) lab = lab_open("lone");
    AUTO(lost_guest) guest = lost_guest(lab, "lone-vm", "");

    fail_over(lab, "lone-vm");
    ck_assert(guest_reads(lab, "lone-vm", 34, 1));
    remove_guest(lab, "lone-vm");
    fail_over(lab, guest->uuid);
    ck_assert(guest_reads(lab, "lone-vm", 34, 1));
}
END_TEST

START_TEST(a_clone_runs_from_a_point_of_its_template)
{
    AUTO(lab) lab = lab_open("clone");
    AUTO(lost_guest) original = lost_guest(lab, "original", "");
    AUTO(lost_guest) clone = lost_clone(lab, "clone-vm", original);
    g_autofree char *below = layer_path(lab, original, 0);
    g_autofree char *layer = NULL;
    g_autofree char *dir = NULL;
    g_autoptr(GError) error = NULL;

    fail_over(lab, "clone-vm");
    ck_assert(guest_reads(lab, "clone-vm", 17, 0) && guest_reads(lab, "clone-vm", 34, 1));
    layer = domain_text(lab, "clone-vm",
                        "devices/disk[target/@dev='vda']/backingStore/backingStore/source/@file");
    ck_assert_str_eq(layer, below);
    guest_write("clone-vm", "write -P 51 0 1M");
    assert_points_untouched(lab, original);
    remove_guest(lab, "clone-vm");

    dir = g_path_get_dirname(below);
    unit_ok(tree_remove(dir, &error), error);
    AUTO(failover_plan) plan = plan_of(lab, "clone-vm");
    ck_assert(planned(plan, 0)->blocked);
    ck_assert(has_finding(planned(plan, 0), "none of its 1 points is complete"));
}
END_TEST

static bool is_held(const struct lab *lab, const struct lost_guest *guest)
{
    g_autofree char *path =
        g_strdup_printf("%s/locks/read-%s.lock", lab->config->store, guest->uuid);

    return file_lock_held(path);
}

START_TEST(nothing_that_a_plan_names_is_dropped_meanwhile)
{
    AUTO(lab) lab = lab_open("held");
    AUTO(lost_guest) original = lost_guest(lab, "held-original", "");
    AUTO(lost_guest) clone = lost_clone(lab, "held-clone", original);
    struct failover_plan *plan = plan_of(lab, "held-clone");

    ck_assert(is_held(lab, clone) && is_held(lab, original));
    failover_plan_free(plan);
    ck_assert(!is_held(lab, clone) && !is_held(lab, original));
}
END_TEST

START_TEST(a_guest_with_firmware_gets_a_copy_of_its_nvram)
{
    AUTO(lab) lab = lab_open("uefi");
    AUTO(lost_guest) guest = lost_uefi_guest(lab, "uefi-vm");
    g_autofree char *path = NULL;
    g_autofree char *nvram = NULL;
    g_autoptr(GError) error = NULL;

    fail_over(lab, "uefi-vm");
    path = domain_text(lab, "uefi-vm", "os/nvram");
    ck_assert(g_str_has_prefix(path, lab->config->images));
    unit_ok(file_read(path, 1 << 20, &nvram, NULL, &error), error);
    ck_assert_str_eq(nvram, "variables");
}
END_TEST

struct second_failover {
    struct lab *lab;
    struct failover_plan *plan;
    GError *error;
};

static void try_second_failover(void *context, const struct vapp_result *result)
{
    struct second_failover *second = context;
    struct failover_result ignored = {0};

    if (result->state == VAPP_VM_DONE)
        failover_execute(&second->lab->site, second->plan, NULL, NULL, &ignored, &second->error);
}

START_TEST(a_second_failover_at_the_same_time_is_refused)
{
    AUTO(lab) lab = lab_open("twice");
    AUTO(lost_guest) guest = lost_guest(lab, "twice-vm", "");
    AUTO(failover_plan) first = plan_of(lab, "twice-vm");
    AUTO(failover_plan) other = plan_of(lab, guest->uuid);
    struct second_failover second = {.lab = lab, .plan = other};
    struct failover_result result = {0};
    g_autoptr(GError) error = NULL;

    unit_ok(failover_execute(&lab->site, first, try_second_failover, &second, &result, &error),
            error);
    ck_assert_ptr_nonnull(second.error);
    unit_fails(false, second.error, ERROR_CONFLICT, "its failover is in use by");
    failover_result_clear(&result);
}
END_TEST

START_TEST(this_sites_own_definition_serves_where_no_bundle_is)
{
    AUTO(lab) lab = lab_open("own");
    AUTO(lost_guest) guest = lost_guest(lab, "own-vm", "");
    g_autofree char *path = g_build_filename(lab->config->dir, "duo.vapp", NULL);
    const char *text = "[vapp]\nname = duo\n[vm own-vm]\n";
    g_autoptr(GError) error = NULL;
    AUTO(failover_plan) plan = NULL;

    unit_ok(file_write(path, text, strlen(text), 0600, &error), error);
    plan = plan_of(lab, "duo");
    ck_assert_str_eq(plan->site, "dc1");
    ck_assert_str_eq(planned(plan, 0)->uuid, guest->uuid);
}
END_TEST

/* ---- What plans see */

START_TEST(an_unknown_name_is_not_found)
{
    AUTO(lab) lab = lab_open("unkn");
    g_autoptr(GError) error = NULL;

    unit_fails(failover_plan_new(&lab->site, "nothing", &error), error, ERROR_NOT_FOUND,
               "neither a vApp nor a VM nothing is known here");
}
END_TEST

START_TEST(a_damaged_point_is_passed_over_for_an_older_one)
{
    AUTO(lab) lab = lab_open("dam");
    AUTO(lost_guest) guest = lost_guest(lab, "dam-vm", "");
    g_autofree char *newest = layer_path(lab, guest, 1);
    AUTO(failover_plan) plan = NULL;

    ck_assert_int_eq(truncate(newest, 100000), 0);
    plan = plan_of(lab, "dam-vm");
    ck_assert_str_eq(planned(plan, 0)->point, guest->points[0]);
    ck_assert(has_finding(planned(plan, 0), guest->points[1]));
    ck_assert(!planned(plan, 0)->blocked);
    fail_over(lab, "dam-vm");
    ck_assert(guest_reads(lab, "dam-vm", 17, 0) && !guest_reads(lab, "dam-vm", 34, 1));
}
END_TEST

START_TEST(noted_damage_is_passed_over_where_the_point_needs_what_is_damaged)
{
    AUTO(lab) lab = lab_open("noted");
    AUTO(lost_guest) guest = lost_guest(lab, "note-vm", "");
    g_autofree char *newest = layer_path(lab, guest, 1);
    g_autofree char *dir = g_path_get_dirname(newest);
    AUTO(damage) damage = damage_new();
    AUTO(failover_plan) whole = NULL;
    AUTO(failover_plan) plan = NULL;
    struct damaged_file *file = damage_add(damage, "vda.qcow2", "a bit was turned");
    g_autoptr(GError) error = NULL;

    /* Only the file is not what it was: nothing of the disk is missing. */
    unit_ok(damage_save(dir, damage, &error), error);
    whole = plan_of(lab, "note-vm");
    ck_assert_str_eq(planned(whole, 0)->point, guest->points[1]);
    damaged_file_add(file, 16, 1);
    unit_ok(damage_save(dir, damage, &error), error);
    plan = plan_of(lab, "note-vm");
    ck_assert_str_eq(planned(plan, 0)->point, guest->points[0]);
    ck_assert(has_finding(planned(plan, 0), "a bit was turned"));
    ck_assert(has_finding(planned(plan, 0), "drctl heal"));
}
END_TEST

START_TEST(a_vm_without_a_whole_point_is_blocked)
{
    AUTO(lab) lab = lab_open("broken");
    AUTO(lost_guest) guest = lost_guest(lab, "brok-vm", "");
    g_autofree char *base = layer_path(lab, guest, 0);
    AUTO(failover_plan) plan = NULL;

    ck_assert_int_eq(unlink(base), 0);
    plan = plan_of(lab, "brok-vm");
    ck_assert(planned(plan, 0)->blocked);
    ck_assert_ptr_null(planned(plan, 0)->point);
    ck_assert(has_finding(planned(plan, 0), "none of its 2 points is complete"));
}
END_TEST

START_TEST(a_vm_of_the_same_name_is_never_touched)
{
    AUTO(lab) lab = lab_open("strg");
    AUTO(lost_guest) guest = lost_guest(lab, "strg-vm", "");
    AUTO(domain) stranger = define_guest(lab->hosts->pdata[0], "strg-vm", "");
    g_autoptr(GError) error = NULL;

    unit_fails(failover_plan_new(&lab->site, "strg-vm", &error), error, ERROR_CONFLICT,
               "was not recovered by drctl");
    undefine_guest(stranger);
}
END_TEST

START_TEST(the_original_that_still_exists_here_is_never_touched)
{
    AUTO(lab) lab = lab_open("aliv");
    AUTO(lost_guest) guest = lost_guest(lab, "aliv-vm", "");
    g_autoptr(GError) error = NULL;
    AUTO(domain) original = host_define(lab->hosts->pdata[0], guest->xml, &error);

    unit_ok(original != NULL, error);
    unit_fails(failover_plan_new(&lab->site, "aliv-vm", &error), error, ERROR_CONFLICT,
               "was not recovered by drctl");
    undefine_guest(original);
}
END_TEST

/* Change the definition in the newest point of GUEST, without changing its length. */
static void forge_definition(const struct lab *lab, const struct lost_guest *guest,
                             const char *from, const char *to)
{
    g_autofree char *dir = store_point_dir(lab->config->store, guest->uuid, guest->points[1]);
    g_autofree char *path = g_build_filename(dir, "domain.xml", NULL);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    char *at;

    unit_ok(file_read(path, 1 << 20, &text, NULL, &error), error);
    at = strstr(text, from);
    ck_assert_ptr_nonnull(at);
    ck_assert_uint_eq(strlen(from), strlen(to));
    memcpy(at, to, strlen(to));
    unit_ok(file_write(path, text, strlen(text), 0600, &error), error);
}

START_TEST(a_blocked_vm_fails_and_those_after_it_are_skipped)
{
    AUTO(shop) shop = shop_new("blk", "");
    AUTO(failover_plan) plan = NULL;
    struct failover_result result = {0};
    g_autoptr(GError) error = NULL;

    forge_definition(shop->lab, shop->guests[0], "pc-i440fx-7.2", "pc-i440fx-9.9");
    plan = plan_of(shop->lab, "blk");
    ck_assert(planned(plan, 0)->blocked);
    ck_assert(!planned(plan, 1)->blocked);
    unit_fails(failover_execute(&shop->lab->site, plan, NULL, NULL, &result, &error), error,
               ERROR_FAILED, "blk-db (failed)");
    ck_assert_int_eq(result.state, RUN_FAILED);
    ck_assert_int_eq(result_of(&result, 0)->state, VAPP_VM_FAILED);
    ck_assert_ptr_nonnull(strstr(result_of(&result, 0)->error, "pc-i440fx-9.9"));
    ck_assert_int_eq(result_of(&result, 1)->state, VAPP_VM_SKIPPED);
    ck_assert_ptr_null(host_domain(shop->lab->hosts->pdata[0], "blk-db", NULL));
    ck_assert_double_eq(result.vm_rto_seconds[0], 0);
    json_auto_t *steps_left = run_show(shop->lab->catalog, result.run, NULL);
    ck_assert_uint_eq(json_array_size(json_object_get(steps_left, "steps")), 12);
    failover_result_clear(&result);
}
END_TEST

START_TEST(a_forged_uuid_in_a_definition_cannot_reach_another_vm)
{
    AUTO(lab) lab = lab_open("forged");
    AUTO(lost_guest) guest = lost_guest(lab, "forg-vm", "");
    AUTO(domain) victim = define_guest(lab->hosts->pdata[0], "victim", "");
    g_autofree char *xml = NULL;

    forge_definition(lab, guest, guest->uuid, domain_uuid(victim));
    fail_over(lab, "forg-vm");
    xml = domain_xml(victim, DOMAIN_XML_INACTIVE, NULL);
    ck_assert_ptr_nonnull(strstr(xml, "victim.vda"));
    ck_assert_int_eq(state_of(victim), DOMAIN_OFF);
    undefine_guest(victim);
}
END_TEST

/* ---- The next failover */

START_TEST(what_runs_here_already_is_not_failed_over_again)
{
    AUTO(shop) shop = shop_new("twice", "");
    g_autoptr(GError) error = NULL;

    fail_over(shop->lab, "twice");
    unit_fails(failover_plan_new(&shop->lab->site, "twice", &error), error, ERROR_CONFLICT,
               "failed over already and runs here");
}
END_TEST

START_TEST(the_next_failover_starts_what_is_off_with_what_it_has_written)
{
    AUTO(shop) shop = shop_new("again", "");
    AUTO(failover_plan) plan = NULL;

    fail_over(shop->lab, "again");
    guest_write("again-db", "write -P 85 2M 1M");
    VIRSH("destroy", "again-db");
    plan = plan_of(shop->lab, "again");
    ck_assert(has_finding(planned(plan, 0), "brought it up already"));
    ck_assert_str_eq(planned(plan, 0)->point, shop->guests[0]->points[1]);
    ck_assert_ptr_nonnull(planned(plan, 0)->host);
    fail_over(shop->lab, "again");
    ck_assert_int_eq(state_of_guest(shop->lab, "again-db"), DOMAIN_RUNNING);
    ck_assert(guest_reads(shop->lab, "again-db", 85, 2) &&
              guest_reads(shop->lab, "again-db", 34, 1));
}
END_TEST

/* The definitions that were put aside; g_strfreev. */
static char **put_aside(const struct lab *lab)
{
    g_autoptr(GStrvBuilder) found = g_strv_builder_new();
    g_auto(GStrv) names = dir_list(lab->config->images, NULL);

    for (char **name = names; *name; name++)
        if (g_str_has_suffix(*name, ".aside.xml"))
            g_strv_builder_add(found, *name);
    return g_strv_builder_end(found);
}

static void give_to(const struct lab *lab, const struct lost_guest *guest, const char *site,
                    uint64_t epoch, const char *run)
{
    g_autoptr(GError) error = NULL;
    AUTO(owner) owner = owner_new(guest->uuid, guest->name, site, epoch, run);

    unit_ok(owner_claim(lab->config->store, owner, &error), error);
}

static bool starts_at_boot(const struct lab *lab, const char *name)
{
    g_autoptr(GError) error = NULL;
    AUTO(domain) domain = host_domain(lab->hosts->pdata[0], name, &error);
    bool autostart = false;

    unit_ok(domain && domain_autostart(domain, &autostart, &error), error);
    return autostart;
}

START_TEST(a_copy_of_what_has_run_elsewhere_since_is_put_aside)
{
    AUTO(shop) shop = shop_new("stale", "");
    const struct lab *lab = shop->lab;
    AUTO(failover_plan) plan = NULL;
    AUTO(failover_plan) again = NULL;
    g_autofree char *old = NULL;
    g_auto(GStrv) aside = NULL;

    fail_over(shop->lab, "stale");
    guest_write("stale-db", "write -P 85 2M 1M");
    VIRSH("destroy", "stale-db");
    VIRSH("autostart", "stale-db");
    old = domain_text(lab, "stale-db", "devices/disk[target/@dev='vda']/source/@file");
    /* It came back by a later run, which was killed before it could bring it up. */
    give_to(lab, shop->guests[0], lab->config->site, 50, "r-29991231-2359-1");
    plan = plan_of(shop->lab, "stale");
    ck_assert(has_finding(planned(plan, 0), "run r-29991231-2359-1 has made the VM this site's"));
    give_to(lab, shop->guests[0], "dc1", 100, NULL);
    again = plan_of(shop->lab, "stale");
    ck_assert(has_finding(planned(again, 0), "put aside"));
    fail_over(shop->lab, "stale");
    ck_assert_int_eq(state_of_guest(lab, "stale-db"), DOMAIN_RUNNING);
    ck_assert(guest_reads(lab, "stale-db", 34, 1) && !guest_reads(lab, "stale-db", 85, 2));
    ck_assert(starts_at_boot(lab, "stale-db"));
    aside = put_aside(lab);
    ck_assert_uint_eq(g_strv_length(aside), 1);
    ck_assert(g_file_test(old, G_FILE_TEST_EXISTS));
}
END_TEST

START_TEST(a_vapp_of_another_site_has_no_say_about_what_is_not_from_there)
{
    AUTO(shop) shop = shop_new("say", "");
    const struct site *site = &shop->lab->site;
    AUTO(domain) own = define_guest(shop->lab->hosts->pdata[0], "say-db", "");
    g_autoptr(GError) error = NULL;
    AUTO(vapp) known = site_vapp(site, "say", &error);
    AUTO(vapp) vapp = NULL;

    unit_ok(known != NULL, error);
    unit_fails(site_vapp_here(site, "say", &error), error, ERROR_CONFLICT,
               "VM say-db did not come from there");
    undefine_guest(own);
    fail_over(shop->lab, "say");
    vapp = site_vapp_here(site, "say", &error);
    unit_ok(vapp != NULL, error);
}
END_TEST

START_TEST(an_old_copy_that_runs_is_not_touched)
{
    AUTO(shop) shop = shop_new("both", "");
    AUTO(failover_plan) plan = NULL;

    fail_over(shop->lab, "both");
    VIRSH("destroy", shop->guests[1]->name);
    give_to(shop->lab, shop->guests[0], "dc1", 100, NULL);
    plan = plan_of(shop->lab, "both");
    ck_assert(planned(plan, 0)->blocked);
    ck_assert(has_finding(planned(plan, 0), "drctl fence both-db"));
    ck_assert_int_eq(state_of_guest(shop->lab, "both-db"), DOMAIN_RUNNING);
}
END_TEST

START_TEST(a_copy_is_there_again_when_nothing_could_take_its_place)
{
    AUTO(lab) lab = lab_open("unst");
    AUTO(lost_guest) guest = lost_guest(lab, "unst-vm", "");
    struct failover_result result = {0};
    AUTO(failover_plan) plan = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(domain) original = host_define(lab->hosts->pdata[0], guest->xml, &error);
    g_auto(GStrv) aside = NULL;

    unit_ok(original && domain_set_autostart(original, true, &error), error);
    give_to(lab, guest, "dc1", 100, NULL);
    forge_definition(lab, guest, "bus=\"virtio\"", "bus=\"virtua\"");
    plan = plan_of(lab, "unst-vm");
    unit_fails(failover_execute(&lab->site, plan, NULL, NULL, &result, &error), error, ERROR_FAILED,
               "unst-vm (failed)");
    ck_assert_int_eq(state_of_guest(lab, "unst-vm"), DOMAIN_OFF);
    ck_assert(starts_at_boot(lab, "unst-vm"));
    aside = put_aside(lab);
    ck_assert_uint_eq(g_strv_length(aside), 0);
    failover_result_clear(&result);
    undefine_guest(original);
}
END_TEST

START_TEST(a_vm_that_does_not_get_ready_makes_a_partial_failover)
{
    AUTO(shop)
    shop = shop_new("part", "ready = tcp:9\naddress = 127.0.0.1\nready-timeout = 500ms");
    AUTO(failover_plan) plan = plan_of(shop->lab, "part");
    struct failover_result result = {0};
    g_autoptr(GError) error = NULL;

    unit_fails(failover_execute(&shop->lab->site, plan, NULL, NULL, &result, &error), error,
               ERROR_PARTIAL, "part-app (failed)");
    ck_assert_int_eq(result.state, RUN_PARTIAL);
    ck_assert_int_eq(result_of(&result, 0)->state, VAPP_VM_DONE);
    ck_assert_int_eq(state_of_guest(shop->lab, "part-app"), DOMAIN_RUNNING);
    failover_result_clear(&result);
}
END_TEST

START_TEST(a_definition_that_libvirt_refuses_leaves_nothing)
{
    AUTO(lab) lab = lab_open("refu");
    AUTO(lost_guest) guest = lost_guest(lab, "refu-vm", "");
    struct failover_result result = {0};
    AUTO(failover_plan) plan = NULL;
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) images = NULL;

    forge_definition(lab, guest, "bus=\"virtio\"", "bus=\"virtua\"");
    plan = plan_of(lab, "refu-vm");
    unit_fails(failover_execute(&lab->site, plan, NULL, NULL, &result, &error), error, ERROR_FAILED,
               "refu-vm (failed)");
    ck_assert_ptr_null(host_domain(lab->hosts->pdata[0], "refu-vm", NULL));
    images = dir_list(lab->config->images, &error);
    ck_assert_uint_eq(g_strv_length(images), 0);
    failover_result_clear(&result);
}
END_TEST

int main(void)
{
    become_ordinary_user();
    return SESSION_RUN(
        "failover", a_lost_vapp_runs_again_from_its_newest_points, planning_touches_nothing,
        the_journal_keeps_the_plan_and_the_result, a_lone_vm_fails_over_by_name_and_by_uuid,
        a_clone_runs_from_a_point_of_its_template, nothing_that_a_plan_names_is_dropped_meanwhile,
        a_guest_with_firmware_gets_a_copy_of_its_nvram,
        a_second_failover_at_the_same_time_is_refused,
        this_sites_own_definition_serves_where_no_bundle_is, an_unknown_name_is_not_found,
        a_damaged_point_is_passed_over_for_an_older_one,
        noted_damage_is_passed_over_where_the_point_needs_what_is_damaged,
        a_vm_without_a_whole_point_is_blocked, a_vm_of_the_same_name_is_never_touched,
        the_original_that_still_exists_here_is_never_touched,
        a_blocked_vm_fails_and_those_after_it_are_skipped,
        a_forged_uuid_in_a_definition_cannot_reach_another_vm,
        what_runs_here_already_is_not_failed_over_again,
        the_next_failover_starts_what_is_off_with_what_it_has_written,
        a_copy_of_what_has_run_elsewhere_since_is_put_aside, an_old_copy_that_runs_is_not_touched,
        a_vapp_of_another_site_has_no_say_about_what_is_not_from_there,
        a_copy_is_there_again_when_nothing_could_take_its_place,
        a_vm_that_does_not_get_ready_makes_a_partial_failover,
        a_definition_that_libvirt_refuses_leaves_nothing);
}
