/* SPDX-License-Identifier: Apache-2.0 */
/* What a point is counted from when the VM's own record of changes is lost, and when it is not. */
#include "tests/capture-lab.h"

static uint64_t changed(const struct manifest *manifest, const char *target)
{
    return manifest_disk(manifest, target)->changed_bytes;
}

static const char *base_of(const struct manifest *manifest, const char *target)
{
    const char *base = manifest_disk(manifest, target)->base;

    return base ? base : "none";
}

static void assert_reason(const struct manifest *manifest, const char *part)
{
    ck_assert_msg(strstr(manifest->reason, part) != NULL, "no '%s' in: %s", part, manifest->reason);
}

/* Neither of its disks had to be compared. */
static void assert_increment(const struct manifest *manifest, const struct manifest *before)
{
    g_autofree char *reason = g_strdup_printf("changes since %s", before->point);

    ck_assert_str_eq(manifest->reason, reason);
    ck_assert_str_eq(base_of(manifest, "vda"), before->point);
    ck_assert_str_eq(base_of(manifest, "vdb"), before->point);
}

static void restart(const struct lab *lab)
{
    VIRSH("start", "--paused", domain_name(lab->domain));
}

/* --- the record is lost ---------------------------------------------------------------------- */

START_TEST(a_killed_vm_costs_reading_and_only_what_differs)
{
    AUTO(lab) lab = lab_new("killed", "qcow2");

    guest_io(lab, 0, "write -P 1 0 4M");
    AUTO(manifest) before = take_true_point(lab);
    guest_io(lab, 0, "write -P 2 1M 64k");
    AUTO(manifest) middle = take_true_point(lab);

    guest_io(lab, 0, "write -P 3 2M 128k");
    guest_io(lab, 0, "flush");
    kill_qemu(lab);
    restart(lab);
    guest_io(lab, 1, "write -P 4 64k 64k");
    AUTO(manifest) after = take_true_point(lab);

    ck_assert_str_eq(base_of(after, "vda"), middle->point);
    ck_assert_str_eq(base_of(after, "vdb"), middle->point);
    ck_assert_uint_eq(changed(after, "vda"), 128 << 10);
    ck_assert_uint_eq(changed(after, "vdb"), 64 << 10);
    assert_reason(
        after, "vda: the record of its changes is lost or broken (QEMU was killed, the host lost "
               "power): read 4 MiB, 128 KiB differ");
    guest_io(lab, 0, "write -P 3 128k 64k");
    AUTO(manifest) next = take_true_point(lab);

    assert_increment(next, after);
    assert_point_is_true(lab, before->point);
    assert_point_is_true(lab, middle->point);
    ck_assert_uint_eq(count_checkpoints(lab), 1);
    assert_nothing_is_left(lab);
}
END_TEST

/* What the base has and is gone now must not shine through, in whatever way it went. */
START_TEST(zeros_over_data_are_found_by_comparing)
{
    AUTO(lab) lab = lab_new("zeroed", "qcow2");

    guest_io(lab, 0, "write -P 17 0 12M");
    AUTO(manifest) before = take_true_point(lab);

    guest_io(lab, 0, "write -z 1M 1M");
    guest_io(lab, 0, "discard 2M 1M");
    guest_io(lab, 0, "write -z -u 3M 1M");
    guest_io(lab, 0, "write -P 0 4M 1M");
    guest_io(lab, 0, "write -P 0 6M 32k");
    guest_io(lab, 0, "flush");
    kill_qemu(lab);
    restart(lab);
    AUTO(manifest) after = take_true_point(lab);

    ck_assert_str_eq(base_of(after, "vda"), before->point);
    ck_assert_uint_eq(changed(after, "vda"), (4 << 20) + (64 << 10));
    guest_io(lab, 0, "discard 0 24M");
    guest_io(lab, 0, "flush");
    kill_qemu(lab);
    restart(lab);
    AUTO(manifest) empty = take_true_point(lab);

    ck_assert_uint_eq(changed(empty, "vda"), 8 << 20);
    /* And data over zeros of an increment. */
    guest_io(lab, 0, "write -P 5 0 2M");
    guest_io(lab, 0, "flush");
    kill_qemu(lab);
    restart(lab);
    AUTO(manifest) again = take_true_point(lab);

    ck_assert_uint_eq(changed(again, "vda"), 2 << 20);
    assert_point_is_true(lab, before->point);
    assert_point_is_true(lab, after->point);
}
END_TEST

START_TEST(one_lost_bitmap_costs_reading_of_one_disk)
{
    AUTO(lab) lab = lab_new("onelost", "qcow2");

    guest_io(lab, 0, "write -P 1 0 1M");
    guest_io(lab, 1, "write -P 1 0 1M");
    AUTO(manifest) before = take_true_point(lab);

    power_off(lab);
    RUN("qemu-img", "bitmap", "--remove", lab->disks[0].path, before->checkpoint);
    restart(lab);
    guest_io(lab, 0, "write -P 2 0 64k");
    guest_io(lab, 1, "write -P 2 0 128k");
    AUTO(manifest) after = take_true_point(lab);

    assert_reason(after, "vda: the record of its changes is lost");
    ck_assert_ptr_null(strstr(after->reason, "vdb"));
    ck_assert_str_eq(base_of(after, "vda"), before->point);
    ck_assert_str_eq(base_of(after, "vdb"), before->point);
    ck_assert_uint_eq(changed(after, "vda"), 64 << 10);
    ck_assert_uint_eq(changed(after, "vdb"), 128 << 10);
    ck_assert_uint_eq(count_checkpoints(lab), 1);
}
END_TEST

/* What happens when all is prepared, and the guest's agent has just turned out to be missing. */
struct late_loss {
    struct progress progress;
    const struct lab *lab;
    const char *bitmap; /* of vda; NULL: it is lost already */
};

static void lose_it_late(struct progress *progress, const char *text)
{
    struct late_loss *loss = (struct late_loss *)progress;

    if (!loss->bitmap || !strstr(text, "crash-consistent only"))
        return;
    lose_bitmap(loss->lab, 0, loss->bitmap);
    loss->bitmap = NULL;
}

START_TEST(a_bitmap_that_is_lost_at_the_last_moment_costs_reading_of_one_disk)
{
    AUTO(lab) lab = lab_new("late", "qcow2");

    guest_io(lab, 0, "write -P 1 0 1M");
    guest_io(lab, 1, "write -P 1 0 1M");
    AUTO(manifest) before = take_true_point(lab);
    struct late_loss loss = {{.note = lose_it_late}, lab, before->checkpoint};

    guest_io(lab, 0, "write -P 2 0 64k");
    guest_io(lab, 1, "write -P 2 0 128k");
    lab->progress = &loss.progress;
    lab->quiesce = QUIESCE_TRY;
    AUTO(manifest) after = take_true_point(lab);

    ck_assert_ptr_null(loss.bitmap);
    assert_reason(after, "vda: the record of its changes is lost");
    ck_assert_ptr_null(strstr(after->reason, "vdb"));
    ck_assert_uint_eq(changed(after, "vda"), 64 << 10);
    ck_assert_uint_eq(changed(after, "vdb"), 128 << 10);
    lab->progress = NULL;
    AUTO(manifest) next = take_true_point(lab);

    assert_increment(next, after);
    ck_assert_uint_eq(count_checkpoints(lab), 1);
    assert_nothing_is_left(lab);
}
END_TEST

START_TEST(a_raw_disk_is_compared_each_time)
{
    AUTO(lab) lab = lab_new("raw", "raw");

    guest_io(lab, 0, "write -P 1 0 1M");
    guest_io(lab, 1, "write -P 2 0 1M");
    AUTO(manifest) first = take_true_point(lab);

    guest_io(lab, 0, "write -P 3 0 64k");
    guest_io(lab, 1, "write -z 0 512k");
    AUTO(manifest) second = take_true_point(lab);
    AUTO(manifest) third = take_true_point(lab);

    ck_assert_str_eq(base_of(second, "vda"), first->point);
    ck_assert_str_eq(base_of(second, "vdb"), first->point);
    ck_assert_uint_eq(changed(second, "vdb"), 512 << 10);
    ck_assert_uint_eq(changed(third, "vdb"), 0);
    assert_reason(third, "vdb: raw: no record of changes is possible: read 512 KiB, 0 B differ");
    assert_point_is_true(lab, first->point);
    assert_point_is_true(lab, second->point);
}
END_TEST

START_TEST(a_checkpoint_that_libvirt_forgot_is_told_to_it_again)
{
    AUTO(lab) lab = lab_new("forgot", "qcow2");

    guest_io(lab, 0, "write -P 1 0 4M");
    AUTO(manifest) before = take_true_point(lab);

    guest_io(lab, 0, "write -P 2 0 64k");
    VIRSH("checkpoint-delete", "--metadata", "forgot", before->checkpoint);
    AUTO(manifest) after = take_true_point(lab);

    assert_increment(after, before);
    ck_assert_uint_eq(manifest_changed_bytes(after), 64 << 10);
    ck_assert_uint_eq(count_checkpoints(lab), 1);
}
END_TEST

static void restart_libvirtd(struct lab *lab, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *file = g_build_filename(session_dir, "libvirtd.pid", NULL);
    g_autofree char *text = NULL;
    pid_t pid;

    domain_free(lab->domain);
    host_free(lab->host);
    unit_ok(file_read(file, 32, &text, NULL, &error), error);
    pid = (pid_t)g_ascii_strtoll(text, NULL, 10);
    kill(pid, SIGTERM);
    for (int64_t until = time_monotonic_ms() + UNIT_PATIENCE_MS;
         kill(pid, 0) == 0 && time_monotonic_ms() < until;)
        g_usleep(20000);
    RUN(SESSION, "up", session_dir);
    lab->host = session_open();
    lab->domain = host_domain(lab->host, name, &error);
    unit_ok(lab->domain != NULL, error);
}

START_TEST(a_renamed_vm_goes_on_from_its_last_point)
{
    AUTO(lab) lab = lab_new("oldname", "qcow2");

    guest_io(lab, 0, "write -P 1 0 4M");
    AUTO(manifest) before = take_true_point(lab);

    power_off(lab);
    VIRSH("domrename", "oldname", "newname");
    /* Only then it has forgotten. */
    restart_libvirtd(lab, "newname");
    ck_assert_uint_eq(count_checkpoints(lab), 0);
    restart(lab);
    guest_io(lab, 0, "write -P 2 0 64k");
    AUTO(manifest) after = take_true_point(lab);

    assert_increment(after, before);
    ck_assert_str_eq(after->vm, "newname");
    ck_assert_uint_eq(manifest_changed_bytes(after), 64 << 10);
}
END_TEST

/* Both have a bitmap of the same name, so neither libvirt nor QEMU can tell. */
START_TEST(disks_whose_images_changed_places_are_compared)
{
    AUTO(lab) lab = lab_new("swapped", "qcow2");
    g_autofree char *other = disk_path("swapped", "other");

    guest_io(lab, 0, "write -P 1 0 1M");
    guest_io(lab, 1, "write -P 2 0 512k");
    AUTO(manifest) before = take_true_point(lab);

    power_off(lab);
    ck_assert_int_eq(rename(lab->disks[0].path, other), 0);
    ck_assert_int_eq(rename(lab->disks[1].path, lab->disks[0].path), 0);
    ck_assert_int_eq(rename(other, lab->disks[1].path), 0);
    restart(lab);
    AUTO(manifest) after = take_true_point(lab);

    assert_reason(after, "vda: it has another image than at the last point");
    assert_reason(after, "vdb: it has another image than at the last point");
    /* Data of 512 KiB, and as much that was there and is not any more. */
    ck_assert_uint_eq(changed(after, "vda"), 1 << 20);
    guest_io(lab, 0, "write -P 3 0 64k");
    AUTO(manifest) next = take_true_point(lab);

    assert_increment(next, after);
    assert_point_is_true(lab, before->point);
    assert_point_is_true(lab, after->point);
}
END_TEST

/* The same file with an older content, as a restore by hand writes it. */
START_TEST(an_image_that_was_restored_in_place_is_compared)
{
    AUTO(lab) lab = lab_new("restored", "qcow2");
    g_autofree char *copy = disk_path("restored", "copy");

    guest_io(lab, 0, "write -P 1 0 4M");
    AUTO(manifest) first = take_true_point(lab);
    guest_io(lab, 0, "write -P 2 0 1M");
    power_off(lab);
    RUN("cp", lab->disks[0].path, copy);
    restart(lab);
    guest_io(lab, 0, "write -P 3 1M 1M");
    AUTO(manifest) second = take_true_point(lab);

    power_off(lab);
    RUN("cp", copy, lab->disks[0].path);
    restart(lab);
    AUTO(manifest) third = take_true_point(lab);

    assert_reason(third, "vda: the record of its changes is lost");
    ck_assert_str_eq(base_of(third, "vda"), second->point);
    ck_assert_uint_eq(changed(third, "vda"), 1 << 20);
    assert_point_is_true(lab, first->point);
    assert_point_is_true(lab, second->point);
}
END_TEST

/* --- the destination ------------------------------------------------------------------------- */

START_TEST(nothing_is_built_upon_a_point_that_lacks_its_base)
{
    AUTO(lab) lab = lab_new("baseless", "qcow2");
    g_autoptr(GError) error = NULL;

    guest_io(lab, 0, "write -P 1 0 1M");
    AUTO(manifest) full = take_true_point(lab);
    guest_io(lab, 0, "write -P 2 0 64k");
    AUTO(manifest) delta = take_true_point(lab);
    g_autofree char *dir = store_point_dir(lab->store_path, full->uuid, full->point);

    ck_assert_str_eq(delta->base, full->point);
    unit_ok(tree_remove(dir, &error), error);
    AUTO(manifest) after = take_true_point(lab);

    ck_assert_ptr_null(after->base);
    assert_reason(after, "a point that the last one is based on is missing at the destination");
    ck_assert_uint_eq(count_checkpoints(lab), 1);
}
END_TEST

START_TEST(damaged_digests_cost_a_full_point_and_not_more)
{
    AUTO(lab) lab = lab_new("baddigest", "raw");
    g_autoptr(GError) error = NULL;

    guest_io(lab, 1, "write -P 1 0 1M");
    AUTO(manifest) before = take_true_point(lab);
    g_autofree char *dir = store_point_dir(lab->store_path, before->uuid, before->point);
    g_autofree char *digests = g_build_filename(dir, "vdb.digests", NULL);

    ck_assert_int_eq(chmod(digests, 0600), 0);
    unit_ok(file_write(digests, "drctldig", 8, 0600, &error), error);
    AUTO(manifest) after = take_true_point(lab);

    ck_assert_str_eq(base_of(after, "vda"), before->point);
    ck_assert_str_eq(base_of(after, "vdb"), "none");
    assert_reason(after, "vdb: the digests of its base cannot be had");
    AUTO(manifest) next = take_true_point(lab);

    ck_assert_str_eq(base_of(next, "vdb"), after->point);
    assert_nothing_is_left(lab);
}
END_TEST

int main(void)
{
    become_ordinary_user();
    return SESSION_RUN(
        "reference", a_killed_vm_costs_reading_and_only_what_differs,
        zeros_over_data_are_found_by_comparing, one_lost_bitmap_costs_reading_of_one_disk,
        a_bitmap_that_is_lost_at_the_last_moment_costs_reading_of_one_disk,
        a_raw_disk_is_compared_each_time, a_checkpoint_that_libvirt_forgot_is_told_to_it_again,
        a_renamed_vm_goes_on_from_its_last_point, disks_whose_images_changed_places_are_compared,
        an_image_that_was_restored_in_place_is_compared,
        nothing_is_built_upon_a_point_that_lacks_its_base,
        damaged_digests_cost_a_full_point_and_not_more);
}
