/* SPDX-License-Identifier: Apache-2.0 */
/* Recovered VMs come off their points, while they run: by a real QEMU of a real libvirtd. */
#include "tests/recovery-shop.h"

#include <fcntl.h>

/* The slowest there is: 2 MiB take half a minute. */
#define SLOW LIMIT_MIN

static GPtrArray *find(const struct lab *lab, const char *name)
{
    char *names[] = {(char *)name, NULL};
    g_autoptr(GError) error = NULL;
    GPtrArray *found = hydration_find(&lab->site, names, &error);

    unit_ok(found != NULL, error);
    return found;
}

static void look(const GPtrArray *found)
{
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; i < found->len; i++)
        unit_ok(hydration_look(found->pdata[i], &error), error);
}

static struct hydrating_disk *disk_of(const GPtrArray *found, const char *target)
{
    const struct hydration *hydration = found->pdata[0];

    for (unsigned i = 0; i < hydration->disks->len; i++) {
        struct hydrating_disk *disk = hydration->disks->pdata[i];

        if (g_str_equal(disk->target, target))
            return disk;
    }
    ck_abort_msg("no disk %s", target);
}

/* Begin at RATE and wait until all is done. */
static void hydrate(const struct lab *lab, const GPtrArray *found, uint64_t rate)
{
    int64_t deadline = time_monotonic_ms() + UNIT_PATIENCE_MS;

    while (hydration_left(found) > 0) {
        ck_assert_int_lt(time_monotonic_ms(), deadline);
        hydration_begin(&lab->site, found, rate);
        for (unsigned i = 0; i < found->len; i++) {
            const struct hydration *hydration = found->pdata[i];

            for (unsigned k = 0; k < hydration->disks->len; k++) {
                const struct hydrating_disk *disk = hydration->disks->pdata[k];

                ck_assert_msg(!disk->why || disk->is_passing, "%s", disk->why);
            }
        }
        g_usleep(20 * 1000);
        look(found);
    }
}

static bool is_pulled(const GPtrArray *found, const char *target)
{
    look(found);
    return disk_of(found, target)->pull.is_active;
}

/* The owners, modes and lengths of the files of GUEST's points; g_free. */
static char *files_of(const struct lab *lab, const struct lost_guest *guest)
{
    g_autofree char *vms = g_build_filename(lab->config->store, "vms", guest->uuid, NULL);

    return run((const char *const[]){"sh", "-c", "cd \"$1\" && stat -c '%n %U %G %a %s %Y' */*",
                                     "sh", vms, NULL});
}

/* ---- The good way */

START_TEST(a_recovered_vm_comes_off_its_points_while_it_runs)
{
    AUTO(lab) lab = lab_open("good");
    AUTO(lost_guest) guest = lost_guest(lab, "good-vm", "");
    g_autofree char *before = files_of(lab, guest);
    g_autofree char *after = NULL, *layer = NULL, *path = NULL;
    g_autofree char *point = g_strconcat(guest->uuid, "/", guest->points[1], NULL);
    g_autoptr(GError) error = NULL;
    struct stat first, last;

    fail_over(lab, "good-vm");
    guest_write("good-vm", "write -P 85 2M 1M");
    g_autoptr(GPtrArray) found = find(lab, "good-vm");
    ck_assert_uint_eq(found->len, 1);
    ck_assert_uint_eq(hydration_left(found), 2);
    ck_assert_str_eq(disk_of(found, "vda")->point, point);
    path = g_strdup(disk_of(found, "vda")->path);
    ck_assert_int_eq(stat(path, &first), 0);

    hydrate(lab, found, 0);
    ck_assert(guest_reads(lab, "good-vm", 17, 0) && guest_reads(lab, "good-vm", 34, 1) &&
              guest_reads(lab, "good-vm", 85, 2));
    layer = domain_text(lab, "good-vm", "devices/disk/backingStore/source/@file");
    ck_assert_ptr_null(layer);
    assert_points_untouched(lab, guest);
    after = files_of(lab, guest);
    ck_assert_str_eq(after, before);
    ck_assert_int_eq(stat(path, &last), 0);
    ck_assert(first.st_uid == last.st_uid && first.st_gid == last.st_gid &&
              first.st_mode == last.st_mode);

    /* Nothing of the store is needed any more. */
    g_autofree char *vms = g_build_filename(lab->config->store, "vms", NULL);
    unit_ok(tree_remove(vms, &error), error);
    VIRSH("destroy", "good-vm");
    VIRSH("start", "good-vm");
    ck_assert(guest_reads(lab, "good-vm", 17, 0) && guest_reads(lab, "good-vm", 85, 2));
}
END_TEST

START_TEST(all_vms_of_a_vapp_or_of_the_site_are_found)
{
    AUTO(shop) shop = shop_new("many", "");
    char *all[] = {NULL};
    g_autoptr(GError) error = NULL;
    struct restore_request request = {.vm = "many-db", .as = "many-copy", .start = true};
    struct restore_result result = {0};
    GPtrArray *found;

    ck_assert(!hydration_is_possible(shop->lab->config));
    fail_over(shop->lab, "many");
    ck_assert(hydration_is_possible(shop->lab->config));
    found = find(shop->lab, "many");
    ck_assert_uint_eq(found->len, 2);
    g_ptr_array_unref(found);
    unit_ok(restore_execute(&shop->lab->site, &request, &result, &error), error);
    restore_result_clear(&result);
    found = hydration_find(&shop->lab->site, all, &error);
    unit_ok(found != NULL, error);
    ck_assert_uint_eq(found->len, 3);
    hydrate(shop->lab, found, 0);
    g_ptr_array_unref(found);
    ck_assert(guest_reads(shop->lab, "many-copy", 34, 1));
}
END_TEST

START_TEST(the_rate_is_shared_by_all_vms_and_can_be_changed)
{
    AUTO(shop) shop = shop_new("rate", "");
    const struct site *site = &shop->lab->site;

    fail_over(shop->lab, "rate");
    g_autoptr(GPtrArray) found = find(shop->lab, "rate");
    hydration_begin(site, found, 4 * SLOW);
    ck_assert(is_pulled(found, "vda"));
    ck_assert_uint_eq(disk_of(found, "vda")->pull.rate, 2 * SLOW);
    /* QEMU pulls one disk at a time. */
    ck_assert(!is_pulled(found, "vdb"));
    ck_assert(disk_of(found, "vdb")->is_passing);
    hydration_begin(site, found, 2 * SLOW);
    ck_assert_uint_eq(disk_of(found, "vda")->pull.rate, SLOW);
    ck_assert_str_eq(hydrating_disk_state(disk_of(found, "vda")), "pulling");
    hydrate(shop->lab, found, 0);
}
END_TEST

/* ---- The point stays as long as it is needed */

START_TEST(the_point_is_kept_until_the_last_disk_is_done)
{
    AUTO(lab) lab = lab_open("pin");
    AUTO(lost_guest) guest = lost_guest(lab, "pin-vm", "");
    const char *why;

    fail_over(lab, "pin-vm");
    for (unsigned i = 0; i < 2; i++)
        take_own_point(lab, "pin-vm");
    ck_assert_uint_eq(would_drop(lab, guest, &why), 0);
    ck_assert_ptr_nonnull(why);

    g_autoptr(GPtrArray) found = find(lab, "pin-vm");
    hydration_begin(&lab->site, found, SLOW);
    ck_assert(is_pulled(found, "vda"));
    ck_assert_uint_eq(would_drop(lab, guest, &why), 0);
    ck_assert_ptr_nonnull(strstr(why, "pin-vm"));
    hydrate(lab, found, 0);
    /* As every guest does now and then. */
    guest_write("pin-vm", "flush");
    look(found);
    ck_assert_uint_eq(would_drop(lab, guest, &why), 2);
    ck_assert_ptr_null(why);
}
END_TEST

START_TEST(points_are_taken_of_a_vm_that_comes_off_its_own)
{
    AUTO(lab) lab = lab_open("both");
    AUTO(lost_guest) guest = lost_guest(lab, "both-vm", "");
    struct hydration *paused;

    fail_over(lab, "both-vm");
    g_autoptr(GPtrArray) found = find(lab, "both-vm");
    hydration_begin(&lab->site, found, SLOW);
    ck_assert(is_pulled(found, "vda"));
    paused = hydration_pause(((struct hydration *)found->pdata[0])->domain);
    ck_assert_ptr_nonnull(paused);
    ck_assert(!is_pulled(found, "vda"));
    take_own_point(lab, "both-vm");
    hydration_unpause(paused);
    ck_assert(is_pulled(found, "vda"));
    hydrate(lab, found, 0);
    guest_write("both-vm", "write -P 85 2M 1M");
    take_own_point(lab, "both-vm");
    ck_assert(guest_reads(lab, "both-vm", 17, 0) && guest_reads(lab, "both-vm", 85, 2));
    ck_assert_ptr_null(hydration_pause(((struct hydration *)found->pdata[0])->domain));
}
END_TEST

/* ---- Killed */

START_TEST(a_pull_goes_on_without_the_process_that_has_begun_it)
{
    AUTO(lab) lab = NULL;
    AUTO(lost_guest) guest = NULL;
    pid_t pid;
    int status;

    lab = lab_open("alone");
    guest = lost_guest(lab, "alone-vm", "");
    fail_over(lab, "alone-vm");
    g_clear_pointer(&lab, lab_free);
    pid = fork();
    if (pid == 0) {
        struct lab *other = lab_open("alone");

        hydration_begin(&other->site, find(other, "alone-vm"), SLOW);
        raise(SIGKILL);
    }
    ck_assert_int_gt(pid, 0);
    waitpid(pid, &status, 0);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    lab = lab_open("alone");
    g_autoptr(GPtrArray) found = find(lab, "alone-vm");
    ck_assert(is_pulled(found, "vda"));
    hydrate(lab, found, 0);
    ck_assert(guest_reads(lab, "alone-vm", 17, 0) && guest_reads(lab, "alone-vm", 34, 1));
}
END_TEST

/* What is in FILE of the session's directory. */
static pid_t pid_in(const char *file)
{
    g_autofree char *path = g_build_filename(session_dir, file, NULL);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    pid_t pid;

    unit_ok(file_read(path, 100, &text, NULL, &error), error);
    pid = atoi(text);
    ck_assert_int_gt(pid, 1);
    return pid;
}

static void kill_and_wait(pid_t pid)
{
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    while (kill(pid, 0) == 0)
        g_usleep(10 * 1000);
}

/* Kill the libvirtd of the session, and start it again: its guests outlive it. */
static void restart_libvirtd(void)
{
    kill_and_wait(pid_in("libvirtd.pid"));
    RUN(SESSION, "up", session_dir);
}

START_TEST(a_pull_goes_on_without_libvirtd)
{
    AUTO(lab) lab = lab_open("daemon");
    AUTO(lost_guest) guest = lost_guest(lab, "daemon-vm", "");
    g_autofree char *layer = NULL;

    fail_over(lab, "daemon-vm");
    {
        g_autoptr(GPtrArray) found = find(lab, "daemon-vm");

        hydration_begin(&lab->site, found, SLOW);
        ck_assert(is_pulled(found, "vda"));
    }
    g_clear_pointer(&lab, lab_free);
    restart_libvirtd();
    lab = lab_open("daemon");
    g_autoptr(GPtrArray) found = find(lab, "daemon-vm");
    ck_assert(is_pulled(found, "vda"));
    hydrate(lab, found, 0);
    layer = domain_text(lab, "daemon-vm", "devices/disk/backingStore/source/@file");
    ck_assert_ptr_null(layer);
    ck_assert(guest_reads(lab, "daemon-vm", 17, 0) && guest_reads(lab, "daemon-vm", 34, 1));
}
END_TEST

static bool lies_upon_nothing(const char *path)
{
    g_autofree char *backing = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(store_backing_name(path, &backing, &error), error);
    return !backing;
}

/* The pull of vda ends while libvirtd stands still, so that it is told nowhere but in the image. */
static void finish_behind_libvirtd(const char *site, const char *vm, pid_t daemon)
{
    struct lab *lab = lab_open(site);
    g_autofree char *path = NULL;
    int64_t deadline = time_monotonic_ms() + UNIT_PATIENCE_MS;

    fail_over(lab, vm);
    {
        g_autoptr(GPtrArray) found = find(lab, vm);

        hydration_begin(&lab->site, found, 8 * SLOW);
        ck_assert(is_pulled(found, "vda"));
        path = g_strdup(disk_of(found, "vda")->path);
    }
    /* It would wait for an answer. */
    lab_free(lab);
    ck_assert(!lies_upon_nothing(path));
    ck_assert_int_eq(kill(daemon, SIGSTOP), 0);
    while (!lies_upon_nothing(path)) {
        ck_assert_int_lt(time_monotonic_ms(), deadline);
        g_usleep(10 * 1000);
    }
}

static struct lost_guest *lost_guest_of(const char *site, const char *vm)
{
    AUTO(lab) lab = lab_open(site);

    return lost_guest(lab, vm, "");
}

START_TEST(an_end_that_libvirtd_was_killed_before_is_seen_by_the_next_one)
{
    AUTO(lost_guest) guest = lost_guest_of("unseen", "unseen-vm");
    g_autofree char *layer = NULL;

    finish_behind_libvirtd("unseen", "unseen-vm", pid_in("libvirtd.pid"));
    restart_libvirtd();
    AUTO(lab) lab = lab_open("unseen");
    g_autoptr(GPtrArray) found = find(lab, "unseen-vm");

    hydrate(lab, found, 0);
    layer = domain_text(lab, "unseen-vm", "devices/disk/backingStore/source/@file");
    ck_assert_ptr_null(layer);
    ck_assert(guest_reads(lab, "unseen-vm", 17, 0) && guest_reads(lab, "unseen-vm", 34, 1));
}
END_TEST

/* What QEMU has copied is in no file yet then: QEMU writes the tables when the guest flushes. */
START_TEST(a_vm_starts_after_a_power_loss_at_the_end_of_a_pull)
{
    AUTO(lost_guest) guest = lost_guest_of("power", "power-vm");
    g_autofree char *layer = NULL;
    const char *why;

    finish_behind_libvirtd("power", "power-vm", pid_in("libvirtd.pid"));
    kill_and_wait(pid_in("run/libvirt/qemu/run/power-vm.pid"));
    restart_libvirtd();
    AUTO(lab) lab = lab_open("power");
    g_autoptr(GPtrArray) found = find(lab, "power-vm");

    ck_assert_int_eq(state_of_guest(lab, "power-vm"), DOMAIN_OFF);
    ck_assert_ptr_nonnull(disk_of(found, "vda")->point);
    VIRSH("start", "power-vm");
    take_own_point(lab, "power-vm");
    take_own_point(lab, "power-vm");
    ck_assert_uint_eq(would_drop(lab, guest, &why), 0);
    ck_assert_ptr_nonnull(strstr(why, "power-vm"));
    look(found);
    hydrate(lab, found, 0);
    layer = domain_text(lab, "power-vm", "devices/disk/backingStore/source/@file");
    ck_assert_ptr_null(layer);
    ck_assert(guest_reads(lab, "power-vm", 17, 0) && guest_reads(lab, "power-vm", 34, 1));
}
END_TEST

START_TEST(the_point_is_kept_until_what_was_copied_is_on_disk)
{
    AUTO(lab) lab = lab_open("durable");
    AUTO(lost_guest) guest = lost_guest(lab, "durable-vm", "");
    const char *why;

    fail_over(lab, "durable-vm");
    for (unsigned i = 0; i < 2; i++)
        take_own_point(lab, "durable-vm");
    g_autoptr(GPtrArray) found = find(lab, "durable-vm");
    hydrate(lab, found, 0);
    ck_assert(lies_upon_nothing(disk_of(found, "vda")->path));
    ck_assert_uint_eq(would_drop(lab, guest, &why), 0);
    ck_assert_ptr_nonnull(strstr(why, "vda.qcow2.pulled"));
    guest_write("durable-vm", "flush");
    look(found);
    ck_assert_uint_eq(would_drop(lab, guest, &why), 2);
}
END_TEST

START_TEST(what_qemu_did_not_finish_is_gone_on_with_when_the_vm_runs_again)
{
    AUTO(lab) lab = lab_open("again");
    AUTO(lost_guest) guest = lost_guest(lab, "again-vm", "");
    const char *why;

    fail_over(lab, "again-vm");
    for (unsigned i = 0; i < 2; i++)
        take_own_point(lab, "again-vm");
    g_autoptr(GPtrArray) found = find(lab, "again-vm");
    hydration_begin(&lab->site, found, SLOW);
    ck_assert(is_pulled(found, "vda"));
    VIRSH("destroy", "again-vm");
    look(found);
    ck_assert_ptr_nonnull(disk_of(found, "vda")->point);
    ck_assert(!disk_of(found, "vda")->pull.is_active);
    ck_assert_uint_eq(would_drop(lab, guest, &why), 0);
    ck_assert_ptr_nonnull(why);
    hydration_begin(&lab->site, found, SLOW);
    ck_assert_ptr_nonnull(strstr(disk_of(found, "vda")->why, "the VM is off"));

    VIRSH("start", "again-vm");
    look(found);
    hydrate(lab, found, 0);
    ck_assert(guest_reads(lab, "again-vm", 17, 0) && guest_reads(lab, "again-vm", 34, 1));
    assert_points_untouched(lab, guest);
}
END_TEST

START_TEST(stopping_keeps_what_was_copied)
{
    AUTO(lab) lab = lab_open("stop");
    AUTO(lost_guest) guest = lost_guest(lab, "stop-vm", "");
    g_autoptr(GError) error = NULL;

    fail_over(lab, "stop-vm");
    g_autoptr(GPtrArray) found = find(lab, "stop-vm");
    hydration_begin(&lab->site, found, SLOW);
    ck_assert(is_pulled(found, "vda"));
    unit_ok(hydration_end(found, &error), error);
    ck_assert(!disk_of(found, "vda")->pull.is_active);
    ck_assert_ptr_nonnull(disk_of(found, "vda")->point);
    ck_assert_ptr_null(disk_of(found, "vda")->why);
    unit_ok(hydration_end(found, &error), error);
    hydrate(lab, found, 0);
    ck_assert(guest_reads(lab, "stop-vm", 34, 1));
}
END_TEST

/* ---- What cannot be */

START_TEST(what_was_not_recovered_here_is_not_found)
{
    AUTO(lab) lab = lab_open("none");
    AUTO(domain) stranger = define_guest(lab->hosts->pdata[0], "none-vm", "");
    char *names[] = {(char *)"none-vm", NULL}, *all[] = {NULL};
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) found = NULL;

    unit_fails(hydration_find(&lab->site, names, &error), error, ERROR_NOT_FOUND,
               "nothing of none-vm was recovered here");
    found = hydration_find(&lab->site, all, &error);
    unit_ok(found != NULL, error);
    ck_assert_uint_eq(found->len, 0);
    undefine_guest(stranger);
}
END_TEST

START_TEST(a_snapshot_above_the_image_is_left_alone)
{
    AUTO(lab) lab = lab_open("snap");
    AUTO(lost_guest) guest = lost_guest(lab, "snap-vm", "");

    fail_over(lab, "snap-vm");
    VIRSH("snapshot-create-as", "snap-vm", "one", "--disk-only", "--no-metadata", "--diskspec",
          "vda,snapshot=external", "--diskspec", "vdb,snapshot=no");
    g_autoptr(GPtrArray) found = find(lab, "snap-vm");
    hydration_begin(&lab->site, found, 0);
    ck_assert_ptr_nonnull(disk_of(found, "vda")->point);
    ck_assert(!disk_of(found, "vda")->pull.is_active);
    ck_assert_ptr_nonnull(strstr(disk_of(found, "vda")->why, "virsh blockcommit snap-vm vda"));
}
END_TEST

START_TEST(what_is_lost_is_not_copied)
{
    AUTO(lab) lab = lab_open("lost");
    AUTO(lost_guest) guest = lost_guest(lab, "lost-vm", "");
    g_autofree char *dir = store_point_dir(lab->config->store, guest->uuid, guest->points[0]);
    AUTO(damage) damage = damage_new();
    struct failover_request request = {.name = "lost-vm", .accept_damage = true};
    struct failover_result result = {0};
    g_autoptr(GError) error = NULL;

    damaged_file_add(damage_add(damage, "vda.qcow2", "a bit was turned"), 3, 1);
    unit_ok(damage_save(dir, damage, &error), error);
    AUTO(failover_plan) plan = failover_plan_make(&lab->site, &request, &error);
    unit_ok(plan != NULL, error);
    unit_ok(failover_execute(&lab->site, plan, NULL, NULL, &result, &error), error);
    failover_result_clear(&result);
    g_autoptr(GPtrArray) found = find(lab, "lost-vm");
    hydration_begin(&lab->site, found, 0);
    ck_assert_ptr_nonnull(strstr(disk_of(found, "vda")->why, "has lost something"));
    ck_assert(!disk_of(found, "vda")->pull.is_active);
    ck_assert(guest_reads(lab, "lost-vm", 34, 1));
}
END_TEST

int main(void)
{
    become_ordinary_user();
    return SESSION_RUN("hydrate", a_recovered_vm_comes_off_its_points_while_it_runs,
                       all_vms_of_a_vapp_or_of_the_site_are_found,
                       the_rate_is_shared_by_all_vms_and_can_be_changed,
                       the_point_is_kept_until_the_last_disk_is_done,
                       points_are_taken_of_a_vm_that_comes_off_its_own,
                       a_pull_goes_on_without_the_process_that_has_begun_it,
                       a_pull_goes_on_without_libvirtd,
                       an_end_that_libvirtd_was_killed_before_is_seen_by_the_next_one,
                       a_vm_starts_after_a_power_loss_at_the_end_of_a_pull,
                       the_point_is_kept_until_what_was_copied_is_on_disk,
                       what_qemu_did_not_finish_is_gone_on_with_when_the_vm_runs_again,
                       stopping_keeps_what_was_copied, what_was_not_recovered_here_is_not_found,
                       a_snapshot_above_the_image_is_left_alone, what_is_lost_is_not_copied);
}
