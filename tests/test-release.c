/* SPDX-License-Identifier: Apache-2.0 */
/* Internal snapshots and our bitmaps: what virsh refuses before a release, and does after it. */
#include "tests/capture-lab.h"

static bool virsh(const char *const *arguments, char **output, GError **error)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();

    g_ptr_array_add(argv, (char *)"virsh");
    g_ptr_array_add(argv, (char *)"-c");
    g_ptr_array_add(argv, session_uri);
    for (; *arguments; arguments++)
        g_ptr_array_add(argv, (char *)*arguments);
    g_ptr_array_add(argv, NULL);
    return process_run((const char *const *)argv->pdata, 120, output, error);
}
#define TRY_VIRSH(error, ...) virsh((const char *const[]){__VA_ARGS__, NULL}, NULL, error)

static struct release release(const struct lab *lab, bool dry_run)
{
    struct point_request request = request_of(lab);
    struct release result;
    g_autoptr(GError) error = NULL;

    unit_ok(snapshot_release(&request, dry_run, &result, &error), error);
    return result;
}

/* How many bitmaps has the image of vda? Only of a VM that is off. */
static unsigned count_bitmaps(const struct lab *lab)
{
    g_autofree char *text =
        run((const char *const[]){"qemu-img", "info", lab->disks[0].path, NULL});
    g_auto(GStrv) parts = g_strsplit(text, "name: drctl-", -1);

    return g_strv_length(parts) - 1;
}

START_TEST(a_vm_can_be_reverted_after_a_release_and_its_next_point_is_right)
{
    AUTO(lab) lab = lab_new("revert", "qcow2");
    const char *name = domain_name(lab->domain);
    g_autoptr(GError) refused = NULL;
    struct release seen, done;

    guest_io(lab, 0, "write -P 17 0 1M");
    VIRSH("destroy", name);
    VIRSH("snapshot-create-as", name, "s1");
    VIRSH("start", "--paused", name);
    AUTO(manifest) before = take_true_point(lab);

    guest_io(lab, 0, "write -P 18 0 2M");
    AUTO(manifest) after = take_true_point(lab);

    ck_assert_str_eq(after->base, before->point);
    VIRSH("destroy", name);
    ck_assert(!TRY_VIRSH(&refused, "snapshot-revert", name, "s1"));
    ck_assert(strstr(refused->message, "bitmap"));
    seen = release(lab, true);
    ck_assert_uint_eq(g_strv_length(seen.checkpoints), 1);
    ck_assert_uint_ge(seen.bitmaps->len, 2);
    ck_assert_uint_ge(count_bitmaps(lab), 1);
    done = release(lab, false);
    ck_assert_uint_eq(done.bitmaps->len, seen.bitmaps->len);
    ck_assert_uint_eq(count_bitmaps(lab), 0);
    ck_assert_uint_eq(count_checkpoints(lab), 0);
    VIRSH("snapshot-revert", name, "s1");
    VIRSH("start", "--paused", name);
    AUTO(manifest) next = take_true_point(lab);

    ck_assert_str_gt(next->point, after->point);
    assert_point_is_true(lab, before->point);
    assert_point_is_true(lab, after->point);
    release_clear(&seen);
    release_clear(&done);
}
END_TEST

START_TEST(a_running_vm_loses_checkpoints_and_bitmaps)
{
    AUTO(lab) lab = lab_new("running", "qcow2");
    struct release done;

    guest_io(lab, 0, "write -P 17 0 1M");
    manifest_free(take_true_point(lab));
    done = release(lab, false);
    ck_assert(done.running);
    ck_assert_uint_eq(g_strv_length(done.checkpoints), 1);
    ck_assert_uint_eq(count_checkpoints(lab), 0);
    manifest_free(take_true_point(lab));
    VIRSH("destroy", domain_name(lab->domain));
    /* That of the point after the release. */
    ck_assert_uint_eq(count_bitmaps(lab), 1);
    release_clear(&done);
}
END_TEST

START_TEST(bitmaps_whose_checkpoint_is_lost_are_found_and_others_left_alone)
{
    AUTO(lab) lab = lab_new("orphans", "qcow2");
    const char *name = domain_name(lab->domain);
    g_auto(GStrv) checkpoints = NULL;
    struct release done;
    g_autofree char *info = NULL;

    manifest_free(take_true_point(lab));
    VIRSH("destroy", name);
    checkpoints = domain_checkpoints(lab->domain, NULL);
    VIRSH("checkpoint-delete", "--metadata", name, checkpoints[0]);
    AS_USER("qemu-img", "bitmap", "--add", lab->disks[0].path, "of-somebody-else");
    done = release(lab, false);
    ck_assert_uint_eq(g_strv_length(done.checkpoints), 0);
    ck_assert_uint_eq(done.bitmaps->len, 2);
    ck_assert_uint_eq(count_bitmaps(lab), 0);
    info = run((const char *const[]){"qemu-img", "info", lab->disks[0].path, NULL});
    ck_assert(strstr(info, "of-somebody-else"));
    release_clear(&done);
}
END_TEST

int main(void)
{
    become_ordinary_user();
    return SESSION_RUN("release", a_vm_can_be_reverted_after_a_release_and_its_next_point_is_right,
                       a_running_vm_loses_checkpoints_and_bitmaps,
                       bitmaps_whose_checkpoint_is_lost_are_found_and_others_left_alone);
}
