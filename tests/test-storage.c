/* SPDX-License-Identifier: Apache-2.0 */
/* Disks of recovered VMs that lie where the recovery plan says. */
#include "tests/recovery-shop.h"

#include "restore/test-guard.h"

static void make_plan_file(const struct lab *lab, const char *vm, const char *storage,
                           const char *rest)
{
    g_autofree char *text =
        g_strdup_printf("[plan]\nvapps = %s\nstorage = %s\n%s", vm, storage, rest);
    g_autofree char *path = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(recovery_plan_write(lab->config->dir, vm, text, &path, &error), error);
}

/* A directory of its own beside the lab's images. */
static char *make_dir(const struct lab *lab, const char *name)
{
    char *dir = lab_path(lab, name);
    g_autoptr(GError) error = NULL;

    unit_ok(dir_make(dir, 0711, &error), error);
    return dir;
}

static char *vda_of(const struct lab *lab, const char *name)
{
    return domain_text(lab, name, "devices/disk[target/@dev='vda']/source/@file");
}

/* The only entry of the lab's images. */
static char *only_image(const struct lab *lab)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) images = dir_list(lab->config->images, &error);

    ck_assert_uint_eq(g_strv_length(images), 1);
    return g_build_filename(lab->config->images, images[0], NULL);
}

START_TEST(disks_go_to_the_directory_of_the_plan)
{
    AUTO(lab) lab = lab_open("dir");
    AUTO(lost_guest) guest = lost_guest(lab, "dir-vm", "");
    g_autofree char *dir = make_dir(lab, "big");
    g_autofree char *vda = NULL, *link = NULL, *real = NULL, *parent = NULL;

    make_plan_file(lab, "dir-vm", dir, "");
    fail_over(lab, "dir-vm");
    ck_assert(guest_reads(lab, "dir-vm", 34, 1));
    vda = vda_of(lab, "dir-vm");
    ck_assert(g_str_has_prefix(vda, dir));
    parent = g_path_get_dirname(vda);
    link = only_image(lab);
    real = g_file_read_link(link, NULL);
    ck_assert_str_eq(real, parent);
}
END_TEST

START_TEST(a_vm_can_have_another_storage_than_its_plan)
{
    AUTO(shop) shop = shop_new("two", "");
    g_autofree char *one = make_dir(shop->lab, "one"), *other = make_dir(shop->lab, "other");
    g_autofree char *keys = g_strdup_printf("[vm two-app]\nstorage = %s\n", other);
    g_autofree char *db = NULL, *app = NULL;

    make_plan_file(shop->lab, "two", one, keys);
    fail_over(shop->lab, "two");
    db = vda_of(shop->lab, "two-db");
    app = vda_of(shop->lab, "two-app");
    ck_assert(g_str_has_prefix(db, one) && g_str_has_prefix(app, other));
}
END_TEST

START_TEST(a_pool_of_the_host_is_a_storage)
{
    AUTO(lab) lab = lab_open("pool");
    AUTO(lost_guest) guest = lost_guest(lab, "pool-vm", "");
    g_autofree char *dir = make_dir(lab, "pool"), *vda = NULL;
    AUTO(failover_plan) blocked = NULL;

    make_plan_file(lab, "pool-vm", "recovery-pool", "");
    blocked = plan_of(lab, "pool-vm");
    ck_assert(planned(blocked, 0)->blocked);
    ck_assert(has_finding(planned(blocked, 0), "recovery-pool"));
    VIRSH("pool-define-as", "recovery-pool", "dir", "--target", dir);
    g_clear_pointer(&blocked, failover_plan_free);
    blocked = plan_of(lab, "pool-vm");
    ck_assert(has_finding(planned(blocked, 0), "is not active"));
    VIRSH("pool-start", "recovery-pool");
    fail_over(lab, "pool-vm");
    vda = vda_of(lab, "pool-vm");
    ck_assert(g_str_has_prefix(vda, dir));
}
END_TEST

/* The plan of NAME, whose VM must be blocked with TEXT. */
static void assert_blocked(const struct lab *lab, const char *name, const char *text)
{
    AUTO(failover_plan) plan = plan_of(lab, name);

    ck_assert(planned(plan, 0)->blocked);
    ck_assert_msg(has_finding(planned(plan, 0), text), "%s: %s", text,
                  (char *)planned(plan, 0)->findings->pdata[0]);
}

START_TEST(what_is_wrong_with_a_storage_is_told_before)
{
    AUTO(lab) lab = lab_open("bad");
    AUTO(lost_guest) guest = lost_guest(lab, "bad-vm", "");
    g_autofree char *missing = lab_path(lab, "missing"), *closed = make_dir(lab, "closed");
    g_autofree char *inside = g_build_filename(lab->config->store, "vms", NULL);
    g_autofree char *file = g_build_filename(lab->config->dir, "bad-vm.plan", NULL);
    AUTO(preflight) preflight = NULL;
    g_autoptr(GError) error = NULL;

    make_plan_file(lab, "bad-vm", missing, "");
    assert_blocked(lab, "bad-vm", "there is no directory");
    ck_assert_int_eq(unlink(file), 0);
    make_plan_file(lab, "bad-vm", inside, "");
    assert_blocked(lab, "bad-vm", "lies in the store");
    ck_assert_int_eq(unlink(file), 0);
    ck_assert_int_eq(chmod(closed, 0500), 0);
    make_plan_file(lab, "bad-vm", closed, "");
    assert_blocked(lab, "bad-vm", "nothing can be written to");
    ck_assert_int_eq(chmod(closed, 0700), 0);
    preflight = preflight_run(&lab->site, "bad-vm", &error);
    unit_ok(preflight != NULL, error);
    ck_assert_uint_eq(preflight->blocked, 0);
    ck_assert_uint_eq(preflight->storages->len, 1);
    ck_assert_str_eq(((struct preflight_storage *)preflight->storages->pdata[0])->path, closed);
    ck_assert_uint_eq(preflight->growth_bytes, 32 << 20);
}
END_TEST

START_TEST(points_are_kept_for_disks_that_lie_elsewhere)
{
    AUTO(lab) lab = lab_open("kept");
    AUTO(lost_guest) guest = lost_guest(lab, "kept-vm", "");
    g_autofree char *dir = make_dir(lab, "far"), *away = lab_path(lab, "unmounted");
    struct prune_request request = {.vm_uuid = guest->uuid, .dry_run = true};
    struct prune_result result = {0};
    g_autoptr(GError) error = NULL;
    const char *why;

    make_plan_file(lab, "kept-vm", dir, "");
    fail_over(lab, "kept-vm");
    for (unsigned i = 0; i < 2; i++)
        take_own_point(lab, "kept-vm");
    VIRSH("destroy", "kept-vm");
    ck_assert_uint_eq(would_drop(lab, guest, &why), 0);
    ck_assert_ptr_nonnull(why);
    ck_assert_int_eq(rename(dir, away), 0);
    unit_ok(retention_parse("last=1", &request.keep, &error), error);
    unit_fails(store_prune(lab->store, &request, &result, &error), error, ERROR_NOT_FOUND,
               "is it mounted?");
    prune_result_clear(&result);
    ck_assert_int_eq(rename(away, dir), 0);
    ck_assert_uint_eq(would_drop(lab, guest, NULL), 0);
}
END_TEST

START_TEST(points_are_kept_for_a_disk_that_somebody_has_moved)
{
    static const char *const targets[] = {"vda", "vdb"};
    AUTO(lab) lab = lab_open("moved");
    AUTO(lost_guest) guest = lost_guest(lab, "moved-vm", "");
    g_autofree char *dir = make_dir(lab, "far");
    const char *why;

    fail_over(lab, "moved-vm");
    for (unsigned i = 0; i < 2; i++)
        take_own_point(lab, "moved-vm");
    VIRSH("destroy", "moved-vm");
    for (unsigned i = 0; i < 2; i++) {
        g_autofree char *xpath =
            g_strdup_printf("devices/disk[target/@dev='%s']/source/@file", targets[i]);
        g_autofree char *path = domain_text(lab, "moved-vm", xpath);
        g_autofree char *to = g_build_filename(dir, targets[i], NULL);

        ck_assert_int_eq(rename(path, to), 0);
        ck_assert_int_eq(symlink(to, path), 0);
    }
    ck_assert_uint_eq(would_drop(lab, guest, &why), 0);
    ck_assert_ptr_nonnull(why);
}
END_TEST

START_TEST(a_rollback_removes_what_lies_elsewhere)
{
    AUTO(lab) lab = lab_open("undo");
    AUTO(lost_guest) guest = lost_guest(lab, "undo-vm", "");
    g_autofree char *dir = make_dir(lab, "far");
    g_autoptr(GPtrArray) windows = NULL;
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) images = NULL, left = NULL;

    make_plan_file(lab, "undo-vm", dir, "commit-after = 1h\n");
    fail_over(lab, "undo-vm");
    windows = windows_of(lab->catalog, "undo-vm", &error);
    unit_ok(windows != NULL, error);
    unit_ok(window_roll_back(&lab->site, windows->pdata[0], NULL, &error), error);
    images = dir_list(lab->config->images, &error);
    left = dir_list(dir, &error);
    ck_assert_uint_eq(g_strv_length(images), 0);
    ck_assert_uint_eq(g_strv_length(left), 0);
}
END_TEST

START_TEST(a_vm_comes_off_its_points_there_too)
{
    AUTO(lab) lab = lab_open("pull");
    AUTO(lost_guest) guest = lost_guest(lab, "pull-vm", "");
    g_autofree char *dir = make_dir(lab, "far");
    char *all[] = {NULL};
    int64_t deadline = time_monotonic_ms() + UNIT_PATIENCE_MS;
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) found = NULL;

    make_plan_file(lab, "pull-vm", dir, "");
    fail_over(lab, "pull-vm");
    found = hydration_find(&lab->site, all, &error);
    unit_ok(found != NULL, error);
    ck_assert_uint_eq(found->len, 1);
    while (hydration_left(found) > 0) {
        ck_assert_int_lt(time_monotonic_ms(), deadline);
        hydration_begin(&lab->site, found, 0);
        g_usleep(20 * 1000);
        unit_ok(hydration_look(found->pdata[0], &error), error);
    }
    ck_assert(guest_reads(lab, "pull-vm", 34, 1));
}
END_TEST

/* On another file system than the lab, if there is one. */
static char *make_far_dir(const struct lab *lab)
{
    g_autofree char *dir = g_strdup("/dev/shm/drctl-XXXXXX");

    return g_mkdtemp_full(dir, 0711) ? g_steal_pointer(&dir) : make_dir(lab, "far");
}

START_TEST(a_test_may_write_half_of_what_is_free_there)
{
    AUTO(lab) lab = lab_open("cap");
    AUTO(lost_guest) guest = lost_guest(lab, "cap-vm", "");
    g_autofree char *dir = make_far_dir(lab);
    struct failover_request request = {.name = "cap-vm", .test = true};
    uint64_t free_bytes, total_bytes, slack = 64 << 20;
    g_autoptr(GError) error = NULL;

    make_plan_file(lab, "cap-vm", dir, "");
    AUTO(failover_plan) plan = failover_plan_make(&lab->site, &request, &error);
    unit_ok(plan != NULL, error);
    unit_ok(disk_space(dir, &free_bytes, &total_bytes, &error), error);
    AUTO(test_guard) guard = test_guard_new(&lab->site, plan, 0, &error);
    unit_ok(guard != NULL, error);
    ck_assert_uint_le(test_guard_cap(guard), free_bytes / 2 + slack);
    ck_assert_uint_ge(test_guard_cap(guard) + slack, free_bytes / 2);
    ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

int main(void)
{
    become_ordinary_user();
    return SESSION_RUN(
        "storage", disks_go_to_the_directory_of_the_plan,
        a_vm_can_have_another_storage_than_its_plan, a_pool_of_the_host_is_a_storage,
        what_is_wrong_with_a_storage_is_told_before, points_are_kept_for_disks_that_lie_elsewhere,
        points_are_kept_for_a_disk_that_somebody_has_moved, a_rollback_removes_what_lies_elsewhere,
        a_vm_comes_off_its_points_there_too, a_test_may_write_half_of_what_is_free_there);
}
