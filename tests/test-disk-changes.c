/* SPDX-License-Identifier: Apache-2.0 */
/* Recovery points of disks that come and go, grow and shrink, and are given other images. */
#include "tests/capture-lab.h"

static const char *base_of(const struct manifest *manifest, const char *target)
{
    const struct manifest_disk *disk = manifest_disk(manifest, target);

    return disk && disk->base ? disk->base : "none";
}

static uint64_t changed(const struct manifest *manifest, const char *target)
{
    return manifest_disk(manifest, target)->changed_bytes;
}

static void assert_reason(const struct manifest *manifest, const char *part)
{
    ck_assert_msg(strstr(manifest->reason, part) != NULL, "no '%s' in: %s", part, manifest->reason);
}

static void assert_increment(const struct manifest *manifest, const struct manifest *before)
{
    g_autofree char *reason = g_strdup_printf("changes since %s", before->point);

    ck_assert_str_eq(manifest->reason, reason);
}

static void restart(const struct lab *lab)
{
    VIRSH("start", "--paused", domain_name(lab->domain));
}

/* The disk whose image that is has another one now. */
static void use_image(struct lab *lab, unsigned number, const char *format, const char *name)
{
    struct lab_disk *disk = &lab->disks[number];

    g_free(disk->path);
    disk->path = disk_path(domain_name(lab->domain), name);
    g_strlcpy(disk->format, format, sizeof disk->format);
}

static void resize(const struct lab *lab, const char *how, const char *size)
{
    RUN("qemu-img", "resize", "-q", "-f", "qcow2", how, lab->disks[0].path, size);
}

/* --- disks that come and go ------------------------------------------------------------------ */

static void attach_vdc(const struct lab *lab)
{
    VIRSH("attach-disk", domain_name(lab->domain), lab->disks[2].path, "vdc", "--subdriver",
          "qcow2", "--live", "--config");
}

START_TEST(a_hot_added_disk_costs_its_own_content_only)
{
    AUTO(lab) lab = lab_new("added", "qcow2");

    guest_io(lab, 0, "write -P 1 0 4M");
    AUTO(manifest) before = take_true_point(lab);

    make_disk(lab, "added", "vdc", "qcow2", VDB_BYTES);
    RUN("qemu-io", "-c", "write -P 5 0 1M", lab->disks[2].path);
    attach_vdc(lab);
    AUTO(manifest) added = take_true_point(lab);

    assert_reason(added, "vdc: new disk: read in full");
    ck_assert_str_eq(base_of(added, "vda"), before->point);
    ck_assert_str_eq(base_of(added, "vdc"), "none");
    ck_assert_uint_eq(changed(added, "vda"), 0);
    ck_assert_uint_eq(changed(added, "vdc"), 1 << 20);
    guest_io(lab, 2, "write -P 6 0 64k");
    AUTO(manifest) next = take_true_point(lab);

    assert_increment(next, added);
    ck_assert_uint_eq(changed(next, "vdc"), 64 << 10);
    /* Gone, and back with what somebody else wrote to it. */
    VIRSH("detach-disk", "added", "vdc", "--config");
    power_off(lab);
    restart(lab);
    lab->n_disks = 2;
    AUTO(manifest) without = take_true_point(lab);

    assert_increment(without, next);
    ck_assert_ptr_null(manifest_disk(without, "vdc"));
    lab->n_disks = 3;
    RUN("qemu-io", "-c", "write -P 7 1M 64k", lab->disks[2].path);
    attach_vdc(lab);
    AUTO(manifest) back = take_true_point(lab);

    ck_assert_str_eq(base_of(back, "vdc"), next->point);
    ck_assert_str_eq(base_of(back, "vda"), without->point);
    ck_assert_uint_eq(changed(back, "vdc"), 64 << 10);
    assert_reason(back, "vdc: there is no record of its changes since the last point: read");
    assert_point_is_true(lab, added->point);
    assert_point_is_true(lab, next->point);
    ck_assert_uint_eq(count_checkpoints(lab), 1);
}
END_TEST

/* --- sizes ----------------------------------------------------------------------------------- */

static uint64_t size_of(const struct manifest *manifest)
{
    return manifest_disk(manifest, "vda")->virtual_bytes;
}

START_TEST(a_disk_that_grows_goes_on_as_an_increment)
{
    AUTO(lab) lab = lab_new("grows", "qcow2");

    guest_io(lab, 0, "write -P 1 0 %" G_GUINT64_FORMAT, VDA_BYTES);
    AUTO(manifest) before = take_true_point(lab);

    VIRSH("blockresize", "grows", "vda", "32M");
    guest_io(lab, 0, "write -P 2 28M 64k");
    AUTO(manifest) grown = take_true_point(lab);

    assert_increment(grown, before);
    ck_assert_uint_eq(size_of(grown), 32 << 20);
    guest_io(lab, 0, "flush");
    kill_qemu(lab);
    restart(lab);
    VIRSH("blockresize", "grows", "vda", "40M");
    guest_io(lab, 0, "write -P 3 36M 64k");
    AUTO(manifest) compared = take_true_point(lab);

    ck_assert_str_eq(base_of(compared, "vda"), grown->point);
    ck_assert_uint_eq(changed(compared, "vda"), 64 << 10);
    assert_point_is_true(lab, before->point);
    assert_point_is_true(lab, grown->point);
}
END_TEST

/* What lay beyond the end must not come back when the disk grows again. */
START_TEST(a_disk_that_shrank_and_grew_again_has_zeros_there)
{
    AUTO(lab) lab = lab_new("shrinks", "qcow2");

    guest_io(lab, 0, "write -P 1 0 24M");
    AUTO(manifest) before = take_true_point(lab);

    power_off(lab);
    resize(lab, "--shrink", "16448K");
    restart(lab);
    guest_io(lab, 0, "write -P 2 0 64k");
    AUTO(manifest) shrunk = take_true_point(lab);

    ck_assert_uint_eq(size_of(shrunk), 16448 << 10);
    ck_assert_str_eq(base_of(shrunk, "vda"), before->point);
    VIRSH("blockresize", "shrinks", "vda", "24M");
    guest_io(lab, 0, "write -P 3 23M 64k");
    AUTO(manifest) grown = take_true_point(lab);

    ck_assert_str_eq(base_of(grown, "vda"), shrunk->point);
    ck_assert_uint_eq(size_of(grown), 24 << 20);
    guest_io(lab, 0, "flush");
    kill_qemu(lab);
    restart(lab);
    AUTO(manifest) compared = take_true_point(lab);

    ck_assert_uint_eq(changed(compared, "vda"), 0);
    assert_point_is_true(lab, before->point);
    assert_point_is_true(lab, shrunk->point);
    assert_point_is_true(lab, grown->point);
}
END_TEST

/* Between two points, so that the disk has the same size at both: no bitmap tells what was cut off. */
START_TEST(a_disk_that_shrank_and_grew_between_two_points_has_zeros_there)
{
    AUTO(lab) lab = lab_new("yoyo", "qcow2");

    guest_io(lab, 0, "write -P 1 0 24M");
    AUTO(manifest) before = take_true_point(lab);

    power_off(lab);
    resize(lab, "--shrink", "8M");
    resize(lab, "--shrink", "24M");
    restart(lab);
    guest_io(lab, 0, "write -P 2 20M 64k");
    AUTO(manifest) after = take_true_point(lab);

    ck_assert_str_eq(base_of(after, "vda"), before->point);
    guest_io(lab, 0, "write -P 3 0 64k");
    AUTO(manifest) next = take_true_point(lab);

    ck_assert_uint_eq(changed(next, "vda"), 64 << 10);
    assert_point_is_true(lab, before->point);
    assert_point_is_true(lab, after->point);
}
END_TEST

START_TEST(a_disk_that_is_off_and_shrank_and_grew_has_zeros_there)
{
    AUTO(lab) lab = lab_new("offyoyo", "qcow2");

    guest_io(lab, 0, "write -P 1 0 24M");
    AUTO(manifest) before = take_true_point(lab);

    power_off(lab);
    resize(lab, "--shrink", "8M");
    resize(lab, "--shrink", "24M");
    AUTO(manifest) off = take_true_point(lab);

    ck_assert_str_eq(base_of(off, "vda"), before->point);
    restart(lab);
    AUTO(manifest) after = take_true_point(lab);

    assert_point_is_true(lab, before->point);
    assert_point_is_true(lab, off->point);
    assert_point_is_true(lab, after->point);
}
END_TEST

/* --- other images ---------------------------------------------------------------------------- */

START_TEST(snapshots_and_commits_leave_increments_increments)
{
    AUTO(lab) lab = lab_new("layers", "qcow2");
    g_autofree char *overlay = disk_path("layers", "overlay");
    g_autofree char *vda = g_strdup_printf("vda,file=%s", overlay);

    guest_io(lab, 0, "write -P 1 0 4M");
    AUTO(manifest) before = take_true_point(lab);

    guest_io(lab, 0, "write -P 2 0 64k");
    VIRSH("snapshot-create-as", "layers", "s1", "--disk-only", "--no-metadata", "--diskspec", vda,
          "--diskspec", "vdb,snapshot=no");
    use_image(lab, 0, "qcow2", "overlay");
    guest_io(lab, 0, "write -P 3 64k 64k");
    AUTO(manifest) above = take_true_point(lab);

    assert_increment(above, before);
    ck_assert_uint_eq(changed(above, "vda"), 128 << 10);
    guest_io(lab, 0, "write -P 4 128k 64k");
    VIRSH("blockcommit", "layers", "vda", "--active", "--pivot", "--wait");
    use_image(lab, 0, "qcow2", "vda");
    guest_io(lab, 0, "write -P 5 192k 64k");
    AUTO(manifest) merged = take_true_point(lab);

    ck_assert_str_eq(base_of(merged, "vda"), above->point);
    ck_assert_uint_eq(changed(merged, "vda"), 128 << 10);
    ck_assert_uint_eq(count_checkpoints(lab), 1);
}
END_TEST

/* QEMU cannot tell then how much has changed, neither of this disk nor of the others. */
START_TEST(an_overlay_that_grew_costs_reading_of_its_disk_only)
{
    AUTO(lab) lab = lab_new("tall", "qcow2");
    g_autofree char *overlay = disk_path("tall", "overlay");
    g_autofree char *vda = g_strdup_printf("vda,file=%s", overlay);

    guest_io(lab, 0, "write -P 1 0 4M");
    guest_io(lab, 1, "write -P 1 0 2M");
    AUTO(manifest) before = take_true_point(lab);

    VIRSH("snapshot-create-as", "tall", "s1", "--disk-only", "--no-metadata", "--diskspec", vda,
          "--diskspec", "vdb,snapshot=no");
    use_image(lab, 0, "qcow2", "overlay");
    VIRSH("blockresize", "tall", "vda", "32M");
    guest_io(lab, 0, "write -P 2 28M 64k");
    guest_io(lab, 1, "write -P 2 0 64k");
    AUTO(manifest) after = take_true_point(lab);

    ck_assert_str_eq(base_of(after, "vda"), before->point);
    ck_assert_uint_eq(changed(after, "vda"), 64 << 10);
    ck_assert_uint_eq(changed(after, "vdb"), 64 << 10);
    assert_reason(after, "vda: QEMU cannot tell its changes across the images");
    ck_assert_msg(!strstr(after->reason, "vdb"), "%s", after->reason);
    AUTO(manifest) next = take_true_point(lab);

    assert_increment(next, after);
}
END_TEST

START_TEST(a_linked_clone_has_all_of_its_template_in_its_points)
{
    AUTO(lab) lab = lab_new("linked", "qcow2");
    g_autofree char *template = disk_path("linked", "template");

    power_off(lab);
    ck_assert_int_eq(rename(lab->disks[0].path, template), 0);
    RUN("qemu-io", "-c", "write -P 9 1M 2M", template);
    RUN("qemu-img", "create", "-q", "-f", "qcow2", "-b", template, "-F", "qcow2",
        lab->disks[0].path);
    AUTO(manifest) off = take_true_point(lab);

    ck_assert_uint_eq(changed(off, "vda"), 2 << 20);
    restart(lab);
    guest_io(lab, 0, "write -P 1 0 64k");
    guest_io(lab, 0, "write -z 1M 64k");
    AUTO(manifest) on = take_true_point(lab);

    ck_assert_uint_eq(changed(on, "vda"), 128 << 10);
    guest_io(lab, 0, "write -P 2 0 64k");
    AUTO(manifest) next = take_true_point(lab);

    assert_increment(next, on);
    power_off(lab);
    AUTO(manifest) last = take_true_point(lab);

    ck_assert_uint_eq(changed(last, "vda"), 0);
}
END_TEST

START_TEST(an_internal_snapshot_does_not_matter)
{
    AUTO(lab) lab = lab_new("internal", "qcow2");

    guest_io(lab, 0, "write -P 1 0 1M");
    AUTO(manifest) before = take_true_point(lab);

    VIRSH("snapshot-create-as", "internal", "s1");
    guest_io(lab, 0, "write -P 2 0 64k");
    AUTO(manifest) after = take_true_point(lab);

    assert_increment(after, before);
    ck_assert_uint_eq(changed(after, "vda"), 64 << 10);
}
END_TEST

int main(void)
{
    become_ordinary_user();
    return SESSION_RUN("disk-changes", a_hot_added_disk_costs_its_own_content_only,
                       a_disk_that_grows_goes_on_as_an_increment,
                       a_disk_that_shrank_and_grew_again_has_zeros_there,
                       a_disk_that_shrank_and_grew_between_two_points_has_zeros_there,
                       a_disk_that_is_off_and_shrank_and_grew_has_zeros_there,
                       snapshots_and_commits_leave_increments_increments,
                       an_overlay_that_grew_costs_reading_of_its_disk_only,
                       a_linked_clone_has_all_of_its_template_in_its_points,
                       an_internal_snapshot_does_not_matter);
}
