/* SPDX-License-Identifier: Apache-2.0 */
/* Points in the place of the VM that they are of. */
#include "tests/recovery-lab.h"

/* The VM that GUEST has points of, with disks of its own; 99 is in the second MiB of vda. */
static struct domain *living_guest(const struct lab *lab, const struct lost_guest *guest)
{
    AUTO(xml) xml = xml_parse(guest->xml, "guest", NULL);
    g_autoptr(GPtrArray) disks = xml_find_all(xml_root(xml), "devices/disk");
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    struct domain *domain;

    for (unsigned i = 0; i < disks->len; i++) {
        struct xml_node *source = xml_child(disks->pdata[i], "source");
        g_autofree char *target = xml_string(disks->pdata[i], "target/@dev");
        g_autofree char *format = xml_string(disks->pdata[i], "driver/@type");
        g_autofree char *from = xml_attr(source, "file");
        g_autofree char *name = g_strdup_printf("%s-%s.img", guest->name, target);
        g_autofree char *to = lab_path(lab, name);

        RUN("qemu-img", "convert", "-q", "-O", format, from, to);
        xml_set_attr(source, "file", to);
        if (g_str_equal(target, "vda"))
            RUN("qemu-io", "-f", format, "-c", "write -q -P 99 1M 1M", to);
    }
    text = xml_dump(xml);
    domain = host_define(lab->hosts->pdata[0], text, &error);
    unit_ok(domain != NULL, error);
    return domain;
}

static void restore(const struct lab *lab, const struct restore_request *request)
{
    struct restore_result result = {0};
    g_autoptr(GError) error = NULL;

    unit_ok(restore_execute(&lab->site, request, &result, &error), error);
    restore_result_clear(&result);
}

static bool refuses(const struct lab *lab, const struct restore_request *request, GError **error)
{
    struct restore_result result = {0};
    bool done = restore_execute(&lab->site, request, &result, error);

    restore_result_clear(&result);
    return done;
}

static char *disk_of(const struct lab *lab, const char *vm, const char *target)
{
    g_autofree char *xpath = g_strdup_printf("devices/disk[target/@dev='%s']/source/@file", target);

    return domain_text(lab, vm, xpath);
}

static void assert_kept(const struct lab *lab, const char *vm)
{
    g_autofree char *name = g_strdup_printf("%s-vda.img", vm);
    g_autofree char *path = lab_path(lab, name);

    RUN("sh", "-ec", "qemu-io -r -U -c 'read -P 99 1M 1M' \"$1\" | grep -q 'read 1048576/1048576'",
        "sh", path);
}

START_TEST(a_vm_gets_the_disks_of_its_point_and_back)
{
    AUTO(lab) lab = lab_open("over");
    AUTO(lost_guest) guest = lost_guest(lab, "over-vm", "");
    AUTO(domain) domain = living_guest(lab, guest);
    struct restore_request request = {.vm = "over-vm", .over = true, .start = true};
    g_autoptr(GError) error = NULL;

    restore(lab, &request);
    ck_assert_int_eq(state_of_guest(lab, "over-vm"), DOMAIN_RUNNING);
    ck_assert(guest_reads(lab, "over-vm", 34, 1));
    assert_kept(lab, "over-vm");
    unit_fails(restore_decide(&lab->site, "over-vm", false, &error), error, ERROR_CONFLICT,
               "running");
    g_clear_error(&error);
    VIRSH("destroy", "over-vm");
    unit_ok(restore_decide(&lab->site, "over-vm", false, &error), error);
    VIRSH("start", "over-vm");
    ck_assert(guest_reads(lab, "over-vm", 99, 1));
    unit_fails(restore_decide(&lab->site, "over-vm", false, &error), error, ERROR_NOT_FOUND,
               "are kept");
    assert_points_untouched(lab, guest);
}
END_TEST

START_TEST(a_running_vm_is_only_restored_if_it_may_be_stopped)
{
    AUTO(lab) lab = lab_open("runs");
    AUTO(lost_guest) guest = lost_guest(lab, "runs-vm", "");
    AUTO(domain) domain = living_guest(lab, guest);
    struct restore_request request = {.vm = "runs-vm", .over = true};
    struct restore_request stop = {.vm = "runs-vm", .over = true, .stop = true, .start = true};
    g_autoptr(GError) error = NULL;

    unit_ok(domain_start(domain, &error), error);
    unit_fails(refuses(lab, &request, &error), error, ERROR_CONFLICT, "--stop");
    ck_assert(guest_reads(lab, "runs-vm", 99, 1));
    restore(lab, &stop);
    ck_assert(guest_reads(lab, "runs-vm", 34, 1));
}
END_TEST

START_TEST(a_saved_memory_is_not_let_loose_on_other_disks)
{
    AUTO(lab) lab = lab_open("saved");
    AUTO(lost_guest) guest = lost_guest(lab, "saved-vm", "");
    AUTO(domain) domain = living_guest(lab, guest);
    struct restore_request request = {.vm = "saved-vm", .over = true, .stop = true};
    g_autoptr(GError) error = NULL;

    unit_ok(domain_start(domain, &error), error);
    VIRSH("managedsave", "saved-vm");
    unit_fails(refuses(lab, &request, &error), error, ERROR_CONFLICT, "managedsave-remove");
}
END_TEST

START_TEST(one_disk_is_restored_and_the_others_stay)
{
    AUTO(lab) lab = lab_open("one");
    AUTO(lost_guest) guest = lost_guest(lab, "one-vm", "");
    AUTO(domain) domain = living_guest(lab, guest);
    struct restore_request request = {.vm = "one-vm", .over = true, .disks = "vdb"};
    struct restore_request wrong = {.vm = "one-vm", .over = true, .disks = "vdz"};
    g_autofree char *before = disk_of(lab, "one-vm", "vda");
    g_autofree char *vda = NULL;
    g_autofree char *vdb = NULL;
    g_autoptr(GError) error = NULL;

    unit_fails(refuses(lab, &wrong, &error), error, ERROR_NOT_FOUND, "vdz");
    restore(lab, &request);
    vda = disk_of(lab, "one-vm", "vda");
    vdb = disk_of(lab, "one-vm", "vdb");
    ck_assert_str_eq(vda, before);
    ck_assert(g_str_has_prefix(vdb, lab->config->images));
    VIRSH("start", "one-vm");
    ck_assert(guest_reads(lab, "one-vm", 99, 1));
}
END_TEST

START_TEST(one_disk_goes_to_a_directory_without_the_others)
{
    AUTO(lab) lab = lab_open("onedir");
    AUTO(lost_guest) guest = lost_guest(lab, "onedir-vm", "");
    g_autofree char *dir = lab_path(lab, "out");
    g_autofree char *vda = g_build_filename(dir, "vda.qcow2", NULL);
    g_autofree char *vdb = g_build_filename(dir, "vdb.qcow2", NULL);
    struct restore_request request = {.vm = "onedir-vm", .to_dir = dir, .disks = "vdb"};

    restore(lab, &request);
    ck_assert(!g_file_test(vda, G_FILE_TEST_EXISTS));
    ck_assert(g_file_test(vdb, G_FILE_TEST_EXISTS));
}
END_TEST

START_TEST(a_second_time_waits_until_the_first_is_decided)
{
    AUTO(lab) lab = lab_open("twice");
    AUTO(lost_guest) guest = lost_guest(lab, "twice-vm", "");
    AUTO(domain) domain = living_guest(lab, guest);
    struct restore_request request = {.vm = "twice-vm", .over = true};
    struct restore_request again = {.vm = "twice-vm", .over = true, .point = guest->points[0]};
    g_autoptr(GError) error = NULL;

    restore(lab, &request);
    unit_fails(refuses(lab, &again, &error), error, ERROR_CONFLICT, "--commit");
    g_clear_error(&error);
    unit_ok(restore_decide(&lab->site, "twice-vm", true, &error), error);
    assert_kept(lab, "twice-vm");
    restore(lab, &again);
    VIRSH("start", "twice-vm");
    ck_assert(guest_reads(lab, "twice-vm", 17, 0) && !guest_reads(lab, "twice-vm", 34, 1));
}
END_TEST

START_TEST(without_the_vm_there_is_nothing_to_restore_over)
{
    AUTO(lab) lab = lab_open("gone");
    AUTO(lost_guest) guest = lost_guest(lab, "gone-vm", "");
    struct restore_request request = {.vm = "gone-vm", .over = true};
    g_autoptr(GError) error = NULL;

    unit_fails(refuses(lab, &request, &error), error, ERROR_NOT_FOUND, "--as NAME");
}
END_TEST

/* What is there afterwards: the point in the VM, and all that it was before beside it. */
START_TEST(a_killed_restore_is_finished_by_the_same_command)
{
    static const char *const kills[][2] = {{"overlay", "running"},
                                           {"keep", "running"},
                                           {"keep", "done"},
                                           {"replace", "running"},
                                           {"replace", "done"}};

    for (unsigned i = 0; i < G_N_ELEMENTS(kills); i++) {
        g_autofree char *site = g_strdup_printf("kover%u", i);
        g_autofree char *vm = g_strdup_printf("kover%u-vm", i);
        struct restore_request request = {.vm = vm, .over = true, .start = true};
        g_autoptr(GError) error = NULL;
        pid_t pid;

        {
            AUTO(lab) first = lab_open(site);
            AUTO(lost_guest) guest = lost_guest(first, vm, "");
            AUTO(domain) domain = living_guest(first, guest);
        }
        pid = fork();
        ck_assert_int_ge(pid, 0);
        if (pid == 0) {
            struct lab *killed = lab_open(site);
            struct restore_result result = {0};

            restore_execute(&killed->site, &request, &result, NULL);
            _exit(0);
        }
        AUTO(lab) lab = lab_open(site);

        kill_when(pid, lab, kills[i][0], kills[i][1]);
        if (!refuses(lab, &request, &error))
            ck_assert_msg(error_is(error, ERROR_CONFLICT), "%s", error->message);
        g_clear_error(&error);
        ck_assert(guest_reads(lab, vm, 34, 1));
        assert_kept(lab, vm);
        VIRSH("destroy", vm);
        unit_ok(restore_decide(&lab->site, vm, false, &error), error);
        VIRSH("start", vm);
        ck_assert(guest_reads(lab, vm, 99, 1));
    }
}
END_TEST

/* A restore over GUEST that was killed before its first step; with BEFORE as before.xml, unless that is NULL, as if it
 * had come as far as that. Its directory, g_free. */
static char *interrupted(const struct lab *lab, const struct lost_guest *guest, const char *before)
{
    json_auto_t *plan = json_object();
    g_autoptr(GError) error = NULL;
    AUTO(run) run = NULL;
    char *dir;

    json_object_set_new(plan, "lost", json_array());
    json_object_set_new(plan, "over", json_true());
    json_set_string(plan, "vm", guest->name);
    json_set_string(plan, "uuid", guest->uuid);
    json_set_string(plan, "point", guest->points[1]);
    run = run_begin(lab->catalog, "restore", guest->name, plan, &error);
    unit_ok(run != NULL, error);
    dir = g_strdup_printf("%s/%s.%s", lab->config->images, guest->name, run_id(run));
    if (before) {
        g_autofree char *path = g_build_filename(dir, "before.xml", NULL);

        unit_ok(dir_make(dir, 0700, &error), error);
        unit_ok(file_write(path, before, strlen(before), 0600, &error), error);
    }
    return dir;
}

START_TEST(a_vm_that_was_started_since_is_not_stopped_unasked)
{
    AUTO(lab) lab = lab_open("since");
    AUTO(lost_guest) guest = lost_guest(lab, "since-vm", "");
    AUTO(domain) domain = living_guest(lab, guest);
    struct restore_request request = {.vm = "since-vm", .over = true};
    g_autoptr(GError) error = NULL;

    g_free(interrupted(lab, guest, NULL));
    unit_ok(domain_start(domain, &error), error);
    unit_fails(refuses(lab, &request, &error), error, ERROR_CONFLICT, "--stop");
    ck_assert_int_eq(state_of(domain), DOMAIN_RUNNING);
    ck_assert(guest_reads(lab, "since-vm", 99, 1));
}
END_TEST

START_TEST(what_was_interrupted_is_not_committed_and_can_be_taken_back)
{
    AUTO(lab) lab = lab_open("half");
    AUTO(lost_guest) guest = lost_guest(lab, "half-vm", "");
    AUTO(domain) domain = living_guest(lab, guest);
    g_autoptr(GError) error = NULL;
    g_autofree char *text = domain_xml(domain, DOMAIN_XML_INACTIVE, &error);
    g_autofree char *dir = interrupted(lab, guest, text);
    g_autofree char *before = g_build_filename(dir, "before.xml", NULL);
    g_autofree char *id = NULL;

    unit_fails(restore_decide(&lab->site, "half-vm", true, &error), error, ERROR_CONFLICT,
               "drctl run resume");
    ck_assert(g_file_test(before, G_FILE_TEST_EXISTS));
    unit_ok(restore_decide(&lab->site, "half-vm", false, &error), error);
    ck_assert(!g_file_test(dir, G_FILE_TEST_EXISTS));
    unit_ok(run_find_interrupted(lab->catalog, "restore", "half-vm", &id, &error), error);
    ck_assert_ptr_null(id);
    VIRSH("start", "half-vm");
    ck_assert(guest_reads(lab, "half-vm", 99, 1));
}
END_TEST

START_TEST(nothing_is_removed_while_the_old_definition_is_not_back)
{
    AUTO(lab) lab = lab_open("stuck");
    AUTO(lost_guest) guest = lost_guest(lab, "stuck-vm", "");
    AUTO(domain) domain = living_guest(lab, guest);
    g_autofree char *dir = interrupted(lab, guest, "<domain");
    g_autofree char *before = g_build_filename(dir, "before.xml", NULL);
    g_autofree char *overlay = g_build_filename(dir, "vda.qcow2", NULL);
    struct restore_request request = {.vm = "stuck-vm", .over = true};
    g_autoptr(GError) error = NULL;

    unit_fails(refuses(lab, &request, &error), error, ERROR_INTEGRITY, "before.xml");
    ck_assert(g_file_test(before, G_FILE_TEST_EXISTS));
    ck_assert(g_file_test(overlay, G_FILE_TEST_EXISTS));
}
END_TEST

int main(void)
{
    become_ordinary_user();
    return SESSION_RUN("over", a_vm_gets_the_disks_of_its_point_and_back,
                       a_running_vm_is_only_restored_if_it_may_be_stopped,
                       a_saved_memory_is_not_let_loose_on_other_disks,
                       one_disk_is_restored_and_the_others_stay,
                       one_disk_goes_to_a_directory_without_the_others,
                       a_second_time_waits_until_the_first_is_decided,
                       without_the_vm_there_is_nothing_to_restore_over,
                       a_killed_restore_is_finished_by_the_same_command,
                       a_vm_that_was_started_since_is_not_stopped_unasked,
                       what_was_interrupted_is_not_committed_and_can_be_taken_back,
                       nothing_is_removed_while_the_old_definition_is_not_back);
}
