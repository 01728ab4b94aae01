/* SPDX-License-Identifier: Apache-2.0 */
/* Restore of real points to another name and to plain files, also after being killed. */
#include <fcntl.h>

#include "tests/two-hosts.h"

static void restore(const struct lab *lab, const struct restore_request *request,
                    struct restore_result *result)
{
    g_autoptr(GError) error = NULL;

    unit_ok(restore_execute(&lab->site, request, result, &error), error);
}

static bool refuses(const struct lab *lab, const struct restore_request *request, GError **error)
{
    struct restore_result result = {0};
    bool done = restore_execute(&lab->site, request, &result, error);

    restore_result_clear(&result);
    return done;
}

/* ---- To another name */

START_TEST(a_copy_runs_beside_the_original)
{
    AUTO(lab) lab = lab_open("beside");
    AUTO(lost_guest)
    guest = lost_guest(lab, "orig",
                       "<interface type='user'><mac address='52:54:00:0a:0b:0d'/></interface>"
                       "<serial type='file'><source path='/tmp/drctl-orig.log'/></serial>");
    g_autoptr(GError) error = NULL;
    AUTO(domain) original = host_define(lab->hosts->pdata[0], guest->xml, &error);
    struct restore_request request = {.vm = "orig", .as = "copy", .start = true};
    struct restore_result result = {0};
    g_autofree char *mac = NULL;
    g_autofree char *log = NULL;

    unit_ok(original != NULL, error);
    unit_ok(domain_start(original, &error), error);
    restore(lab, &request, &result);
    ck_assert_str_eq(result.vm, "copy");
    ck_assert_str_eq(result.point, guest->points[1]);
    ck_assert_str_ne(result.uuid, guest->uuid);
    ck_assert_uint_eq(g_strv_length(result.paths), 2);
    ck_assert_int_eq(state_of_guest(lab, "copy"), DOMAIN_RUNNING);
    mac = domain_text(lab, "copy", "devices/interface/mac/@address");
    ck_assert(g_str_has_prefix(mac, "52:54:00:") && !g_str_equal(mac, "52:54:00:0a:0b:0d"));
    log = domain_text(lab, "copy", "devices/serial/source/@path");
    ck_assert_str_eq(log, "/tmp/drctl-copy.log");
    ck_assert(guest_reads(lab, "copy", 34, 1));
    guest_write("copy", "write -P 99 1M 1M");
    ck_assert(guest_reads(lab, "orig", 34, 1));
    assert_points_untouched(lab, guest);
    restore_result_clear(&result);
    remove_guest(lab, "orig");
    unlink("/tmp/drctl-orig.log");
    unlink("/tmp/drctl-copy.log");
}
END_TEST

START_TEST(an_older_point_is_restored_without_starting_it)
{
    AUTO(lab) lab = lab_open("older");
    AUTO(lost_guest) guest = lost_guest(lab, "older-vm", "");
    struct restore_request request = {
        .vm = guest->uuid, .point = guest->points[0], .as = "older-vm"};
    struct restore_result result = {0};

    restore(lab, &request, &result);
    ck_assert_int_eq(state_of_guest(lab, "older-vm"), DOMAIN_OFF);
    VIRSH("start", "older-vm");
    ck_assert(guest_reads(lab, "older-vm", 17, 0) && !guest_reads(lab, "older-vm", 34, 1));
    restore_result_clear(&result);
}
END_TEST

START_TEST(an_existing_name_is_refused)
{
    AUTO(lab) lab = lab_open("taken");
    AUTO(lost_guest) guest = lost_guest(lab, "taken-vm", "");
    AUTO(domain) other = define_guest(lab->hosts->pdata[0], "taken", "");
    struct restore_request request = {.vm = "taken-vm", .as = "taken"};
    g_autoptr(GError) error = NULL;

    unit_fails(refuses(lab, &request, &error), error, ERROR_CONFLICT, "VM taken exists");
    undefine_guest(other);
}
END_TEST

START_TEST(what_is_not_there_is_not_found)
{
    AUTO(lab) lab = lab_open("absent");
    AUTO(lost_guest) guest = lost_guest(lab, "absent-vm", "");
    struct restore_request no_vm = {.vm = "nobody", .as = "x"};
    struct restore_request no_point = {
        .vm = "absent-vm", .point = "20200101T000000.000Z", .as = "x"};
    struct restore_request bad_point = {.vm = "absent-vm", .point = "../..", .as = "x"};
    struct restore_request nowhere = {.vm = "absent-vm"};
    g_autoptr(GError) error = NULL;

    unit_fails(refuses(lab, &no_vm, &error), error, ERROR_NOT_FOUND, "nobody");
    unit_fails(refuses(lab, &no_point, &error), error, ERROR_NOT_FOUND, "20200101T000000.000Z");
    unit_fails(refuses(lab, &bad_point, &error), error, ERROR_NOT_FOUND, "../..");
    unit_fails(refuses(lab, &nowhere, &error), error, ERROR_USAGE, "either");
}
END_TEST

START_TEST(a_point_that_is_noted_as_damaged_is_refused_with_the_way_out)
{
    AUTO(lab) lab = lab_open("harm");
    AUTO(lost_guest) guest = lost_guest(lab, "harm-vm", "");
    g_autofree char *dir = store_point_dir(lab->config->store, guest->uuid, guest->points[1]);
    struct restore_request request = {.vm = "harm-vm", .point = guest->points[1], .as = "x"};
    AUTO(damage) damage = damage_new();
    g_autoptr(GError) error = NULL;

    damage_add(damage, "domain.xml", "it is gone");
    unit_ok(damage_save(dir, damage, &error), error);
    unit_fails(refuses(lab, &request, &error), error, ERROR_INTEGRITY, "drctl heal");
}
END_TEST

START_TEST(a_restored_copy_does_not_stand_for_its_original)
{
    AUTO(lab) lab = lab_open("decoy");
    AUTO(lost_guest) first = lost_guest(lab, "decoy-a", "");
    AUTO(lost_guest) second = lost_guest(lab, "decoy-b", "");
    struct restore_request request = {.vm = "decoy-a", .as = "decoy-b"};
    struct restore_result result = {0};
    g_autoptr(GError) error = NULL;

    restore(lab, &request, &result);
    unit_fails(failover_plan_new(&lab->site, "decoy-b", &error), error, ERROR_CONFLICT, "decoy-b");
    restore_result_clear(&result);
}
END_TEST

/* ---- Only some disks */

/* At the host of the original, whose disks are where the point's definition says. */
START_TEST(a_copy_with_only_some_disks_has_no_others)
{
    AUTO(lab) lab = lab_open("some");
    AUTO(lost_guest) guest = lost_guest(lab, "some-vm", "");
    struct restore_request wrong = {.vm = "some-vm", .as = "some-copy", .disks = "vda,vdz"};
    struct restore_request request = {
        .vm = "some-vm", .as = "some-copy", .disks = "vda", .start = true};
    struct restore_result result = {0};
    g_autofree char *vda = NULL;
    g_autofree char *vdb = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(domain) original = host_define(lab->hosts->pdata[0], guest->xml, &error);

    unit_ok(original != NULL, error);
    unit_fails(refuses(lab, &wrong, &error), error, ERROR_NOT_FOUND, "has no disk 'vdz'");
    restore(lab, &request, &result);
    ck_assert_uint_eq(g_strv_length(result.paths), 1);
    vda = domain_text(lab, "some-copy", "devices/disk[target/@dev='vda']/source/@file");
    vdb = domain_text(lab, "some-copy", "devices/disk[target/@dev='vdb']/target/@dev");
    ck_assert_str_eq(vda, result.paths[0]);
    ck_assert_ptr_null(vdb);
    ck_assert(guest_reads(lab, "some-copy", 34, 1));
    assert_points_untouched(lab, guest);
    restore_result_clear(&result);
    undefine_guest(original);
}
END_TEST

/* ---- To another place */

/* On another file system, if this machine has one; removed by remove_elsewhere(). */
static char *make_elsewhere(const struct lab *lab)
{
    g_autofree char *pattern = g_strdup("/dev/shm/drctl-XXXXXX");
    const char *made = g_mkdtemp(pattern);
    char *dir = made ? g_strdup(made) : lab_path(lab, "elsewhere");
    g_autoptr(GError) error = NULL;

    unit_ok(dir_make(dir, 0711, &error), error);
    return dir;
}

static void remove_elsewhere(const char *name, const char *dir)
{
    g_autoptr(GError) error = NULL;

    VIRSH("destroy", name);
    unit_ok(tree_remove(dir, &error), error);
}

/* The copy NAME is in DIR, and what keeps its point leads there. */
static void assert_is_elsewhere(const struct lab *lab, const char *name, const char *dir)
{
    g_autofree char *vda = domain_text(lab, name, "devices/disk[target/@dev='vda']/source/@file");
    g_autofree char *parent = g_path_get_dirname(vda);
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) images = dir_list(lab->config->images, &error);
    g_autofree char *link = NULL;
    g_autofree char *leads = NULL;

    ck_assert_msg(g_str_has_prefix(vda, dir), "%s", vda);
    ck_assert_uint_eq(g_strv_length(images), 1);
    link = g_build_filename(lab->config->images, images[0], NULL);
    leads = g_file_read_link(link, NULL);
    ck_assert_str_eq(leads, parent);
    ck_assert(guest_reads(lab, name, 34, 1));
}

START_TEST(the_disks_of_a_copy_go_to_another_file_system)
{
    AUTO(lab) lab = lab_open("place");
    AUTO(lost_guest) guest = lost_guest(lab, "place-vm", "");
    g_autofree char *dir = make_elsewhere(lab);
    struct restore_request request = {
        .vm = "place-vm", .as = "place-copy", .storage = dir, .start = true};
    struct restore_result result = {0};

    restore(lab, &request, &result);
    assert_is_elsewhere(lab, "place-copy", dir);
    ck_assert(g_str_has_prefix(result.paths[1], dir));
    restore_result_clear(&result);
    remove_elsewhere("place-copy", dir);
}
END_TEST

START_TEST(a_pool_of_the_host_takes_the_disks_of_a_copy)
{
    AUTO(lab) lab = lab_open("rpool");
    AUTO(lost_guest) guest = lost_guest(lab, "rpool-vm", "");
    g_autofree char *dir = lab_path(lab, "pool");
    struct restore_request request = {.vm = "rpool-vm", .as = "rpool-copy", .storage = "rpool"};
    struct restore_request wrong = {.vm = "rpool-vm", .as = "rpool-copy", .storage = "a/b"};
    struct restore_result result = {0};
    g_autoptr(GError) error = NULL;
    AUTO(domain) domain = NULL;

    unit_fails(refuses(lab, &wrong, &error), error, ERROR_USAGE, "neither an absolute path");
    g_clear_error(&error);
    unit_fails(refuses(lab, &request, &error), error, ERROR_CONFLICT, "virsh pool-define-as");
    g_clear_error(&error);
    domain = host_domain(lab->hosts->pdata[0], "rpool-copy", NULL);
    ck_assert_ptr_null(domain);
    unit_ok(dir_make(dir, 0711, &error), error);
    VIRSH("pool-define-as", "rpool", "dir", "--target", dir);
    VIRSH("pool-start", "rpool");
    restore(lab, &request, &result);
    ck_assert(g_str_has_prefix(result.paths[0], dir));
    restore_result_clear(&result);
    VIRSH("pool-destroy", "rpool");
    VIRSH("pool-undefine", "rpool");
}
END_TEST

START_TEST(a_copy_gets_the_host_that_is_asked_for)
{
    AUTO(lab) lab = lab_open("where");
    AUTO(lost_guest) guest = lost_guest(lab, "where-vm", "");
    struct restore_request nowhere = {.vm = "where-vm", .as = "x", .host = "qemu:///nowhere"};
    struct host *second = add_second_host(lab);
    const char *uris[] = {session_uri, second_uri};
    g_autoptr(GError) error = NULL;

    unit_fails(refuses(lab, &nowhere, &error), error, ERROR_NOT_FOUND, "none of this site's hosts");
    /* Both, so that it is not where most memory is free by chance. */
    for (unsigned i = 0; i < 2; i++) {
        g_autofree char *copy = g_strdup_printf("where-copy%u", i);
        struct restore_request request = {
            .vm = "where-vm", .as = copy, .host = uris[i], .start = true};
        struct restore_result result = {0};
        AUTO(domain) domain = NULL;

        restore(lab, &request, &result);
        domain = host_domain(i ? second : lab->hosts->pdata[0], copy, NULL);
        ck_assert_ptr_nonnull(domain);
        ck_assert_int_eq(state_of(domain), DOMAIN_RUNNING);
        unit_ok(domain_destroy(domain, &error), error);
        restore_result_clear(&result);
    }
}
END_TEST

/* ---- To a directory */

static void assert_plain_image(const char *path, const struct lab *lab,
                               const struct lost_guest *guest, unsigned point, const char *target)
{
    g_autofree char *dir = store_point_dir(lab->config->store, guest->uuid, guest->points[point]);
    g_autofree char *source = g_strdup_printf("%s/%s.qcow2", dir, target);
    g_autofree char *info = run((const char *const[]){"qemu-img", "info", path, NULL});

    RUN("qemu-img", "check", "-q", path);
    RUN("qemu-img", "compare", "-q", path, source);
    ck_assert_ptr_null(strstr(info, "backing"));
}

START_TEST(plain_files_need_neither_libvirt_nor_the_store)
{
    AUTO(lab) lab = lab_open("plain");
    AUTO(lost_guest) guest = lost_guest(lab, "plain-vm", "");
    g_autofree char *dir = lab_path(lab, "out/here");
    g_autofree char *vdb = g_build_filename(dir, "vdb.qcow2", NULL);
    struct restore_request request = {.vm = "plain-vm", .to_dir = dir};
    struct restore_result result = {0};
    g_autofree char *definition = NULL;
    g_autoptr(GError) error = NULL;

    g_ptr_array_set_size(lab->hosts, 0);
    restore(lab, &request, &result);
    ck_assert_str_eq(result.vm, "plain-vm");
    ck_assert_ptr_null(result.uuid);
    ck_assert_uint_eq(g_strv_length(result.paths), 3);
    assert_plain_image(result.paths[0], lab, guest, 1, "vda");
    assert_plain_image(vdb, lab, guest, 1, "vdb");
    unit_ok(file_read(result.paths[2], 1 << 20, &definition, NULL, &error), error);
    ck_assert_ptr_nonnull(strstr(definition, result.paths[0]));
    ck_assert_ptr_nonnull(strstr(definition, vdb));
    ck_assert_ptr_nonnull(strstr(definition, guest->uuid));
    restore_result_clear(&result);
}
END_TEST

START_TEST(files_of_only_some_disks_are_defined_without_the_others)
{
    AUTO(lab) lab = lab_open("fewer");
    AUTO(lost_guest) guest = lost_guest(lab, "fewer-vm", "");
    g_autofree char *dir = lab_path(lab, "out");
    g_autofree char *path = g_build_filename(dir, "domain.xml", NULL);
    struct restore_request request = {.vm = "fewer-vm", .to_dir = dir, .disks = "vdb"};
    struct restore_result result = {0};
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;

    restore(lab, &request, &result);
    unit_ok(file_read(path, 1 << 20, &text, NULL, &error), error);
    ck_assert_ptr_nonnull(strstr(text, result.paths[0]));
    ck_assert_ptr_null(strstr(text, "'vda'"));
    ck_assert_ptr_null(strstr(text, "\"vda\""));
    assert_plain_image(result.paths[0], lab, guest, 1, "vdb");
    restore_result_clear(&result);
}
END_TEST

START_TEST(plain_files_of_a_clone_hold_what_is_its_templates)
{
    AUTO(lab) lab = lab_open("plclone");
    AUTO(lost_guest) original = lost_guest(lab, "plain-original", "");
    AUTO(lost_guest) clone = lost_clone(lab, "plain-clone", original);
    g_autofree char *dir = lab_path(lab, "out");
    struct restore_request request = {.vm = "plain-clone", .to_dir = dir};
    struct restore_result result = {0};

    g_ptr_array_set_size(lab->hosts, 0);
    restore(lab, &request, &result);
    /* What it was copied from has the same content. */
    assert_plain_image(result.paths[0], lab, original, 1, "vda");
    assert_plain_image(result.paths[0], lab, clone, 1, "vda");
    restore_result_clear(&result);
}
END_TEST

/* Nobody has verified the point: qemu-img meets the damage, and calls it an I/O error. */
START_TEST(damage_that_only_qemu_img_meets_is_named_and_leaves_nothing)
{
    AUTO(lab) lab = lab_open("bitrot");
    AUTO(lost_guest) guest = lost_guest(lab, "bitrot-vm", "");
    g_autofree char *point = store_point_dir(lab->config->store, guest->uuid, guest->points[0]);
    g_autofree char *image = g_build_filename(point, "vda.qcow2", NULL);
    g_autofree char *dir = lab_path(lab, "out");
    struct restore_request request = {.vm = "bitrot-vm", .to_dir = dir};
    AUTO_FD fd = open(image, O_RDWR | O_CLOEXEC);
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) left = NULL;
    uint8_t byte;

    /* The first frame begins behind the header's cluster; its content behind a dozen bytes. */
    unit_ok(fd_read_at(fd, 65536 + 20, &byte, 1, image, &error), error);
    byte ^= 1;
    unit_ok(fd_write_at(fd, 65536 + 20, &byte, 1, image, &error), error);
    unit_fails(refuses(lab, &request, &error), error, ERROR_INTEGRITY, "cluster ");
    unit_ok(left = dir_list(dir, &error), error);
    ck_assert_uint_eq(g_strv_length(left), 0);
}
END_TEST

START_TEST(a_file_that_exists_is_never_overwritten)
{
    AUTO(lab) lab = lab_open("precious");
    AUTO(lost_guest) guest = lost_guest(lab, "precious-vm", "");
    g_autofree char *dir = lab_path(lab, "out");
    g_autofree char *path = g_build_filename(dir, "domain.xml", NULL);
    g_autofree char *text = NULL;
    struct restore_request request = {.vm = "precious-vm", .to_dir = dir};
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) names = NULL;

    unit_ok(dir_make(dir, 0700, &error), error);
    unit_ok(file_write(path, "mine", 4, 0600, &error), error);
    unit_fails(refuses(lab, &request, &error), error, ERROR_CONFLICT, "domain.xml exists");
    unit_ok(file_read(path, 100, &text, NULL, &error), error);
    ck_assert_str_eq(text, "mine");
    names = dir_list(dir, &error);
    ck_assert_uint_eq(g_strv_length(names), 1);
}
END_TEST

/* ---- Kills */

static void restore_elsewhere_and_kill(const char *site, const struct restore_request *request,
                                       const char *step, const char *state)
{
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct lab *lab = lab_open(site);
        struct restore_result result = {0};

        restore_execute(&lab->site, request, &result, NULL);
        _exit(0);
    }
    AUTO(lab) lab = lab_open(site);
    kill_when(pid, lab, step, state);
}

static struct lost_guest *lost_guest_of(const char *site, const char *name)
{
    AUTO(lab) lab = lab_open(site);

    return lost_guest(lab, name, "");
}

/* The same request again; it may have been over before it could be killed. */
static void repeat(const struct lab *lab, const struct restore_request *request)
{
    struct restore_result result = {0};
    g_autoptr(GError) error = NULL;
    json_auto_t *runs = NULL;

    if (!restore_execute(&lab->site, request, &result, &error))
        ck_assert_msg(error_is(error, ERROR_CONFLICT), "%s", error->message);
    runs = run_list(lab->catalog, NULL);
    ck_assert_uint_eq(json_array_size(runs), 1);
    ck_assert_str_eq(json_get_string(json_array_get(runs, 0), "state"), "done");
    restore_result_clear(&result);
}

START_TEST(a_killed_restore_to_a_directory_is_finished_by_the_same_command)
{
    static const char *const kills[][2] = {{"convert", "running"},
                                           {"convert", "done"},
                                           {"nvram", "running"},
                                           {"definition", "running"}};

    for (unsigned i = 0; i < G_N_ELEMENTS(kills); i++) {
        g_autofree char *site = g_strdup_printf("kdir%u", i);
        g_autofree char *vm = g_strdup_printf("kdir%u-vm", i);
        AUTO(lost_guest) guest = lost_guest_of(site, vm);
        g_autofree char *dir = g_build_filename(session_dir, site, "out", NULL);
        g_autofree char *vda = g_build_filename(dir, "vda.qcow2", NULL);
        struct restore_request request = {.vm = vm, .to_dir = dir};

        restore_elsewhere_and_kill(site, &request, kills[i][0], kills[i][1]);
        AUTO(lab) lab = lab_open(site);

        repeat(lab, &request);
        assert_plain_image(vda, lab, guest, 1, "vda");
    }
}
END_TEST

START_TEST(a_killed_restore_to_a_name_is_finished_by_the_same_command)
{
    static const char *const kills[][2] = {
        {"overlay", "running"}, {"overlay", "done"}, {"define", "done"}, {"start", "running"}};

    for (unsigned i = 0; i < G_N_ELEMENTS(kills); i++) {
        g_autofree char *site = g_strdup_printf("kas%u", i);
        g_autofree char *vm = g_strdup_printf("kas%u-vm", i);
        g_autofree char *copy = g_strdup_printf("kas%u-copy", i);
        AUTO(lost_guest) guest = lost_guest_of(site, vm);
        struct restore_request request = {.vm = vm, .as = copy, .start = true};

        restore_elsewhere_and_kill(site, &request, kills[i][0], kills[i][1]);
        AUTO(lab) lab = lab_open(site);

        repeat(lab, &request);
        ck_assert_int_eq(state_of_guest(lab, copy), DOMAIN_RUNNING);
        ck_assert(guest_reads(lab, copy, 34, 1));
    }
}
END_TEST

START_TEST(a_killed_restore_to_another_place_is_finished_there)
{
    static const char *const kills[][2] = {
        {"overlay", "running"}, {"overlay", "done"}, {"define", "done"}};

    for (unsigned i = 0; i < G_N_ELEMENTS(kills); i++) {
        g_autofree char *site = g_strdup_printf("kpl%u", i);
        g_autofree char *vm = g_strdup_printf("kpl%u-vm", i);
        g_autofree char *copy = g_strdup_printf("kpl%u-copy", i);
        AUTO(lost_guest) guest = lost_guest_of(site, vm);
        g_autofree char *dir = g_build_filename(session_dir, site, "big", NULL);
        struct restore_request request = {
            .vm = vm, .as = copy, .storage = dir, .disks = "vda", .start = true};
        struct restore_request other = {.vm = vm, .as = copy, .disks = "vda", .start = true};
        g_autoptr(GError) error = NULL;
        g_autofree char *vdb = NULL;

        unit_ok(dir_make(dir, 0711, &error), error);
        restore_elsewhere_and_kill(site, &request, kills[i][0], kills[i][1]);
        AUTO(lab) lab = lab_open(site);

        unit_fails(refuses(lab, &other, &error), error, ERROR_CONFLICT, "otherwise");
        repeat(lab, &request);
        assert_is_elsewhere(lab, copy, dir);
        vdb = domain_text(lab, copy, "devices/disk[target/@dev='vdb']/target/@dev");
        ck_assert_ptr_null(vdb);
    }
}
END_TEST

START_TEST(another_request_does_not_go_on_with_an_interrupted_one)
{
    AUTO(lost_guest) guest = lost_guest_of("mixed", "mixed-vm");
    struct restore_request request = {.vm = "mixed-vm", .as = "mixed-copy"};
    struct restore_request other = {
        .vm = "mixed-vm", .as = "mixed-copy", .point = guest->points[0]};
    g_autoptr(GError) error = NULL;

    restore_elsewhere_and_kill("mixed", &request, "grant", "running");
    AUTO(lab) lab = lab_open("mixed");

    unit_fails(refuses(lab, &other, &error), error, ERROR_CONFLICT, "was interrupted while");
    repeat(lab, &request);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_copy_runs_beside_the_original,
        an_older_point_is_restored_without_starting_it,
        an_existing_name_is_refused,
        what_is_not_there_is_not_found,
        a_point_that_is_noted_as_damaged_is_refused_with_the_way_out,
        a_restored_copy_does_not_stand_for_its_original,
        a_copy_with_only_some_disks_has_no_others,
        the_disks_of_a_copy_go_to_another_file_system,
        a_pool_of_the_host_takes_the_disks_of_a_copy,
        a_copy_gets_the_host_that_is_asked_for,
        plain_files_need_neither_libvirt_nor_the_store,
        files_of_only_some_disks_are_defined_without_the_others,
        plain_files_of_a_clone_hold_what_is_its_templates,
        damage_that_only_qemu_img_meets_is_named_and_leaves_nothing,
        a_file_that_exists_is_never_overwritten,
        a_killed_restore_to_a_directory_is_finished_by_the_same_command,
        a_killed_restore_to_a_name_is_finished_by_the_same_command,
        a_killed_restore_to_another_place_is_finished_there,
        another_request_does_not_go_on_with_an_interrupted_one,
        NULL,
    };

    become_ordinary_user();
    return session_run("restore", both_start, both_stop, tests);
}
