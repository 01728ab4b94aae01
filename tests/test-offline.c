/* SPDX-License-Identifier: Apache-2.0 */
/* Recovery points of VMs that are off, or were. */
#include "tests/capture-lab.h"

static void restart(const struct lab *lab)
{
    VIRSH("start", "--paused", domain_name(lab->domain));
}

/* What an administrator does to a disk of a VM that is off. */
static void edit(const struct lab *lab, unsigned number, const char *command)
{
    RUN("qemu-io", "-f", lab->disks[number].format, "-c", command, lab->disks[number].path);
}

static void assert_reason(const struct manifest *manifest, const char *part)
{
    ck_assert_msg(strstr(manifest->reason, part) != NULL, "no '%s' in: %s", part, manifest->reason);
}

static uint64_t changed(const struct manifest *manifest)
{
    return manifest_changed_bytes(manifest);
}

START_TEST(a_vm_that_goes_off_and_on_has_one_chain)
{
    AUTO(lab) lab = lab_new("cycles", "qcow2");

    guest_io(lab, 0, "write -P 1 0 4M");
    AUTO(manifest) first = take_true_point(lab);

    guest_io(lab, 0, "write -P 2 1M 128k");
    guest_io(lab, 1, "write -P 2 0 64k");
    power_off(lab);
    AUTO(manifest) off = take_true_point(lab);

    ck_assert_str_eq(off->base, first->point);
    ck_assert_str_eq(off->checkpoint, first->checkpoint);
    ck_assert_uint_eq(changed(off), 192 << 10);
    assert_reason(off, "the VM is off; changes since");
    edit(lab, 0, "write -P 3 2M 64k");
    edit(lab, 0, "write -z -u 3M 64k");
    AUTO(manifest) edited = take_true_point(lab);

    ck_assert_uint_eq(changed(edited), 128 << 10);
    restart(lab);
    guest_io(lab, 0, "write -P 4 1M 64k");
    AUTO(manifest) on = take_true_point(lab);

    ck_assert_str_eq(on->base, edited->point);
    ck_assert_uint_eq(changed(on), 64 << 10);
    ck_assert_str_ne(on->checkpoint, first->checkpoint);
    ck_assert_uint_eq(count_checkpoints(lab), 1);
    power_off(lab);
    AUTO(manifest) again = take_true_point(lab);

    ck_assert_str_eq(again->checkpoint, on->checkpoint);
    ck_assert_uint_eq(changed(again), 0);
    assert_point_is_true(lab, first->point);
    assert_point_is_true(lab, off->point);
    assert_point_is_true(lab, edited->point);
    assert_nothing_is_left(lab);
}
END_TEST

/* Times that have just changed tell nothing, so this waits until they are some seconds old. */
static void let_images_settle(const struct lab *lab)
{
    for (unsigned i = 0; i < lab->n_disks; i++) {
        struct stat st;

        ck_assert_int_eq(stat(lab->disks[i].path, &st), 0);
        while (time_now_ms() < ((int64_t)st.st_ctim.tv_sec + 4) * 1000)
            g_usleep(50000);
    }
}

START_TEST(what_nobody_wrote_to_is_not_even_read)
{
    AUTO(lab) lab = lab_new("idle", "raw");
    struct point_request request = request_of(lab);
    struct point_result result = {0};
    GError *error = NULL;

    guest_io(lab, 0, "write -P 1 0 1M");
    guest_io(lab, 1, "write -P 1 0 1M");
    power_off(lab);
    let_images_settle(lab);
    AUTO(manifest) first = take_true_point(lab);

    assert_reason(first, "the VM is off; first point: read in full");
    ck_assert_ptr_null(first->checkpoint);
    unit_ok(snapshot_take_point(&request, &result, &error), error);
    ck_assert_uint_eq(changed(result.manifest), 0);
    assert_reason(result.manifest, "the VM is off; unchanged since");
    for (unsigned i = 0; i < result.disks->len; i++)
        ck_assert_uint_eq(((struct point_disk *)result.disks->pdata[i])->read_bytes, 0);
    keep_truth(lab, result.manifest->point);
    assert_point_is_true(lab, result.manifest->point);
    edit(lab, 1, "write -P 2 0 64k");
    AUTO(manifest) edited = take_true_point(lab);

    ck_assert_uint_eq(changed(edited), 64 << 10);
    restart(lab);
    guest_io(lab, 0, "write -P 3 0 64k");
    AUTO(manifest) on = take_true_point(lab);

    ck_assert_str_eq(on->base, edited->point);
    ck_assert_uint_eq(changed(on), 64 << 10);
    assert_reason(on, "vda: its last point was taken while the VM was off: read 1 MiB");
    point_result_clear(&result);
}
END_TEST

START_TEST(a_vm_that_was_killed_is_read_where_it_lies)
{
    AUTO(lab) lab = lab_new("dead", "qcow2");

    guest_io(lab, 0, "write -P 1 0 1M");
    AUTO(manifest) before = take_true_point(lab);

    guest_io(lab, 0, "write -P 2 0 64k");
    guest_io(lab, 0, "discard 64k 64k");
    guest_io(lab, 0, "flush");
    kill_qemu(lab);
    AUTO(manifest) off = take_true_point(lab);

    ck_assert_str_eq(off->base, before->point);
    ck_assert_uint_eq(changed(off), 128 << 10);
    ck_assert_int_eq(off->consistency, CONSISTENCY_CRASH);
    assert_reason(off, "vda: the record of its changes is lost");
    restart(lab);
    AUTO(manifest) on = take_true_point(lab);

    ck_assert_uint_eq(changed(on), 0);
    ck_assert_uint_eq(count_checkpoints(lab), 1);
}
END_TEST

/* Its bitmap was rolled back with it, and calls clean what only the last point has. */
START_TEST(an_image_that_was_rolled_back_while_off_is_seen)
{
    AUTO(lab) lab = lab_new("rolled", "qcow2");
    g_autofree char *copy = disk_path("rolled", "copy");

    guest_io(lab, 0, "write -P 1 0 4M");
    AUTO(manifest) first = take_true_point(lab);

    guest_io(lab, 0, "write -P 2 0 64k");
    power_off(lab);
    RUN("cp", lab->disks[0].path, copy);
    edit(lab, 0, "write -P 3 1M 64k");
    AUTO(manifest) second = take_true_point(lab);

    RUN("cp", copy, lab->disks[0].path);
    AUTO(manifest) third = take_true_point(lab);

    ck_assert_uint_eq(changed(third), 64 << 10);
    edit(lab, 0, "write -P 4 2M 64k");
    AUTO(manifest) fourth = take_true_point(lab);

    RUN("cp", copy, lab->disks[0].path);
    restart(lab);
    AUTO(manifest) fifth = take_true_point(lab);

    ck_assert_uint_eq(changed(fifth), 64 << 10);
    ck_assert_str_eq(fifth->base, fourth->point);
    assert_point_is_true(lab, second->point);
    assert_point_is_true(lab, third->point);
}
END_TEST

/* --- not alone ------------------------------------------------------------------------------- */

/* Does something once, in the middle of a point. */
struct meddler {
    struct progress progress;
    const struct lab *lab;
    void (*act)(const struct lab *lab);
};

static void meddle(struct progress *progress, const char *subject, uint64_t done, uint64_t total)
{
    struct meddler *meddler = (struct meddler *)progress;
    void (*act)(const struct lab *lab) = meddler->act;

    meddler->act = NULL;
    if (act)
        act(meddler->lab);
}

static void start_quickly(const struct lab *lab)
{
    int64_t began = time_monotonic_ms();

    restart(lab);
    /* Not held up by us: what QEMU itself needs on a busy machine is not a matter of this test. */
    ck_assert_int_lt(time_monotonic_ms() - began, UNIT_PATIENCE_MS);
}

START_TEST(a_vm_that_is_started_meanwhile_goes_first)
{
    AUTO(lab) lab = lab_new("woken", "qcow2");
    struct meddler meddler = {{say_nothing, meddle}, lab, start_quickly};

    guest_io(lab, 0, "write -P 1 0 24M");
    AUTO(manifest) before = take_true_point(lab);

    guest_io(lab, 0, "write -P 2 0 24M");
    power_off(lab);
    lab->progress = &meddler.progress;
    AUTO(manifest) manifest = take_true_point(lab);

    ck_assert_ptr_null(meddler.act);
    ck_assert_int_eq(state_of(lab->domain), DOMAIN_PAUSED);
    ck_assert_str_eq(manifest->base, before->point);
    ck_assert_str_ne(manifest->checkpoint, before->checkpoint);
    ck_assert_ptr_null(strstr(manifest->reason, "off"));
    ck_assert_uint_eq(count_checkpoints(lab), 1);
    assert_nothing_is_left(lab);
}
END_TEST

static void edit_vda(const struct lab *lab)
{
    edit(lab, 0, "write -P 3 0 64k");
}

START_TEST(what_is_written_to_while_it_is_read_is_no_point)
{
    AUTO(lab) lab = lab_new("edited", "qcow2");
    struct meddler meddler = {{say_nothing, meddle}, lab, edit_vda};
    struct point_request request;
    struct point_result result = {0};
    GError *error = NULL;

    guest_io(lab, 0, "write -P 1 0 24M");
    power_off(lab);
    lab->progress = &meddler.progress;
    request = request_of(lab);
    unit_fails(snapshot_take_point(&request, &result, &error), error, ERROR_CONFLICT,
               "somebody wrote to disk vda");
    AUTO(manifest) manifest = take_true_point(lab);

    ck_assert_ptr_null(manifest->base);
}
END_TEST

START_TEST(a_killed_process_leaves_nothing_that_serves_disks)
{
    AUTO(lab) lab = lab_new("orphan", "qcow2");

    guest_io(lab, 0, "write -P 1 0 24M");
    power_off(lab);
    take_point_and_die(&lab);
    AUTO(manifest) manifest = take_true_point(lab);
    g_autofree char *dir = g_build_filename(lab->run_dir, domain_uuid(lab->domain), "off", NULL);

    ck_assert(!g_file_test(dir, G_FILE_TEST_EXISTS));
    assert_nothing_is_left(lab);
}
END_TEST

START_TEST(a_missing_program_is_named)
{
    AUTO(lab) lab = lab_new("bare", "qcow2");
    g_autofree char *path = g_strdup(g_getenv("PATH"));
    g_autofree char *qemu_img = g_find_program_in_path("qemu-img");
    g_autofree char *dir = unit_dir();
    g_autofree char *link = g_build_filename(dir, "qemu-img", NULL);
    struct point_request request = request_of(lab);
    struct point_result result = {0};
    GError *error = NULL;

    power_off(lab);
    ck_assert_int_eq(symlink(qemu_img, link), 0);
    g_setenv("PATH", dir, TRUE);
    unit_fails(snapshot_take_point(&request, &result, &error), error, ERROR_FAILED,
               "cannot run qemu-nbd: it is not installed; on Debian: apt-get install qemu-utils");
    g_setenv("PATH", path, TRUE);
}
END_TEST

START_TEST(a_saved_vm_says_that_its_memory_is_missing)
{
    AUTO(lab) lab = lab_new("saved", "qcow2");

    guest_io(lab, 0, "write -P 1 0 1M");
    AUTO(manifest) before = take_true_point(lab);

    guest_io(lab, 0, "write -P 2 0 64k");
    VIRSH("managedsave", "saved");
    AUTO(manifest) manifest = take_true_point(lab);

    assert_reason(manifest, "the VM is off, its saved memory is not in the point; changes since");
    ck_assert_int_eq(manifest->consistency, CONSISTENCY_CRASH);
    ck_assert_uint_eq(changed(manifest), 64 << 10);
}
END_TEST

START_TEST(a_plan_tells_of_a_vm_that_is_off)
{
    AUTO(lab) lab = lab_new("planned", "raw");
    struct point_request request = request_of(lab);
    GError *error = NULL;

    guest_io(lab, 0, "write -P 1 0 1M");
    AUTO(manifest) before = take_true_point(lab);

    power_off(lab);
    AUTO(point_plan) plan = snapshot_plan_point(&request, &error);

    unit_ok(plan != NULL, error);
    ck_assert_str_eq(plan->base, before->point);
    ck_assert_ptr_nonnull(strstr(plan->reason, "the VM is off; changes since"));
    ck_assert_int_eq(((struct point_disk *)plan->disks->pdata[0])->mode, DISK_INCREMENT);
    ck_assert_int_eq(((struct point_disk *)plan->disks->pdata[1])->mode, DISK_COMPARE);
    ck_assert_uint_eq(count_checkpoints(lab), 1);
}
END_TEST

int main(void)
{
    become_ordinary_user();
    return SESSION_RUN(
        "offline", a_vm_that_goes_off_and_on_has_one_chain, what_nobody_wrote_to_is_not_even_read,
        a_vm_that_was_killed_is_read_where_it_lies, an_image_that_was_rolled_back_while_off_is_seen,
        a_vm_that_is_started_meanwhile_goes_first, what_is_written_to_while_it_is_read_is_no_point,
        a_killed_process_leaves_nothing_that_serves_disks, a_missing_program_is_named,
        a_saved_vm_says_that_its_memory_is_missing, a_plan_tells_of_a_vm_that_is_off);
}
