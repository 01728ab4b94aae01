/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clones of one template in one store: each costs its own changes, and reads as what it was. Real
 * guests, as in capture-lab.h; what they hold is noise, so nothing gets smaller by compression.
 */
#include "tests/capture-lab.h"
#include "tests/serving.h"

#define NOISE_MIB 12
#define CHANGE_MIB 1
#define MIB (UINT64_C(1) << 20)

/* The disks of NAME: vda with noise of its own, vdb empty. */
static void make_original(const char *name)
{
    g_autofree char *vda = disk_path(name, "vda");
    g_autofree char *noise = image_path("noise.raw");
    g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, VDA_BYTES);
    g_autofree char *bytes = g_strdup_printf("of=%s", noise);

    RUN("dd", "if=/dev/urandom", bytes, "bs=1M", "count=12", "status=none");
    RUN("truncate", "-s", size, noise);
    RUN("qemu-img", "convert", "-f", "raw", "-O", "qcow2", noise, vda);
    make_image(name, "vdb", "qcow2", VDB_BYTES);
}

/* The site of guest NAME, whose images were made, with the store of TEMPLATE; NULL: of its own. */
static struct lab *start_guest(const char *name, const struct lab *template)
{
    g_autofree char *store = g_build_filename(session_dir, name, "store", NULL);
    g_autofree char *truth = g_build_filename(session_dir, name, "truth", NULL);
    AUTO(host) host = session_open();
    struct lab *lab;
    g_autoptr(GError) error = NULL;

    unit_ok(dir_make(truth, 0700, &error), error);
    if (template)
        unit_ok(symlink(template->store_path, store) == 0, error);
    else
        unit_ok(store_create(store, "dr1", &error), error);
    domain_free(define_capture_guest(host, name, "qcow2"));
    VIRSH("start", "--paused", name);
    lab = lab_open(name, "qcow2");
    return lab;
}

static struct lab *template_new(const char *name)
{
    make_original(name);
    return start_guest(name, NULL);
}

/* A copy of the disk of TEMPLATE. */
static struct lab *clone_new(const struct lab *template, const char *name)
{
    g_autofree char *from = disk_path(domain_name(template->domain), "vda");
    g_autofree char *to = disk_path(name, "vda");

    guest_io(template, 0, "flush");
    RUN("qemu-img", "convert", "-U", "-f", "qcow2", "-O", "qcow2", from, to);
    make_image(name, "vdb", "qcow2", VDB_BYTES);
    return start_guest(name, template);
}

/* A disk of its own over that of TEMPLATE, which is off. */
static struct lab *linked_clone_new(const struct lab *template, const char *name)
{
    g_autofree char *from = disk_path(domain_name(template->domain), "vda");
    g_autofree char *to = disk_path(name, "vda");

    RUN("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", from, to);
    make_image(name, "vdb", "qcow2", VDB_BYTES);
    return start_guest(name, template);
}

static void assert_based_on(const struct manifest *manifest, const struct manifest *base)
{
    const struct manifest_disk *disk = manifest_disk(manifest, "vda");
    g_autofree char *like =
        g_strdup_printf("vda: similar to vda of VM %s at %s (", base->vm, base->point);

    ck_assert_str_eq(disk->base, base->point);
    ck_assert_str_eq(manifest->base, base->point);
    ck_assert_str_eq(manifest_base_vm(manifest, disk), base->uuid);
    ck_assert_ptr_null(manifest_disk(manifest, "vdb")->base);
    ck_assert_msg(strstr(manifest->reason, like) != NULL, "%s", manifest->reason);
    ck_assert(g_str_has_prefix(manifest->reason, "first point; "));
}

static void assert_full(const struct manifest *manifest)
{
    ck_assert_ptr_null(manifest->base);
    ck_assert_uint_gt(manifest_stored_bytes(manifest), NOISE_MIB * MIB);
}

/* Header, tables and digests come to less than that. */
static void assert_costs_its_changes(const struct manifest *manifest, uint64_t changes)
{
    ck_assert_uint_eq(manifest_changed_bytes(manifest), changes);
    ck_assert_uint_lt(manifest_stored_bytes(manifest), changes + MIB);
}

static void verify_chain(const struct lab *lab, const struct manifest *manifest, unsigned layers)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) chain = store_chain(lab->store, manifest->uuid, manifest->point, "vda", &error);

    unit_ok(chain != NULL, error);
    ck_assert_uint_eq(g_strv_length(chain), layers);
}

START_TEST(clones_of_a_template_cost_their_own_changes)
{
    AUTO(lab) template = template_new("gold");
    AUTO(manifest) first = take_true_point(template);

    assert_full(first);
    ck_assert_str_eq(first->reason, "first point: read in full");
    for (unsigned i = 1; i <= 5; i++) {
        g_autofree char *name = g_strdup_printf("clone%u", i);
        AUTO(lab) lab = clone_new(template, name);

        guest_io(lab, 0, "write -P %u %uM %uM", i, 2 * i, CHANGE_MIB);
        guest_io(lab, 0, "write -z %uM 64k", i);
        AUTO(manifest) point = take_true_point(lab);
        assert_based_on(point, first);
        assert_costs_its_changes(point, CHANGE_MIB * MIB + (64 << 10));

        guest_io(lab, 0, "write -P %u 20M 64k", 0x40 + i);
        AUTO(manifest) next = take_true_point(lab);
        ck_assert_str_eq(manifest_disk(next, "vda")->base, point->point);
        ck_assert_ptr_null(manifest_disk(next, "vda")->base_vm);
        ck_assert_uint_eq(manifest_changed_bytes(next), 64 << 10);
        verify_chain(lab, next, 3);
        assert_point_is_true(lab, point->point);
        assert_nothing_is_left(lab);
    }
}
END_TEST

START_TEST(a_linked_clone_does_not_count_its_template_again)
{
    AUTO(lab) template = template_new("lgold");
    AUTO(manifest) first = take_true_point(template);

    VIRSH("destroy", "lgold");
    AUTO(lab) lab = linked_clone_new(template, "linked");
    guest_io(lab, 0, "write -P 7 3M 1M");
    AUTO(manifest) point = take_true_point(lab);
    assert_based_on(point, first);
    assert_costs_its_changes(point, MIB);
}
END_TEST

START_TEST(at_another_site_a_clone_costs_its_changes_too)
{
    AUTO(lab) template = template_new("rgold");
    AUTO(manifest) first = take_true_point(template);
    AUTO(lab) lab = clone_new(template, "rclone");
    struct point_request request = request_of(lab);
    struct point_result result = {0};
    struct serving serving;
    g_autoptr(GError) error = NULL;

    guest_io(lab, 0, "write -P 7 3M 1M");
    serving_start(&serving, lab->store);
    request.destination = serving.remote;
    unit_ok(snapshot_take_point(&request, &result, &error), error);
    serving_end(&serving);
    keep_truth(lab, result.manifest->point);
    assert_point_is_true(lab, result.manifest->point);
    assert_based_on(result.manifest, first);
    ck_assert_uint_lt(result.sent_bytes, MIB);
    point_result_clear(&result);
}
END_TEST

START_TEST(other_disks_and_full_points_stand_alone)
{
    AUTO(lab) template = template_new("agold");
    AUTO(manifest) first = take_true_point(template);

    make_original("stranger");
    AUTO(lab) stranger = start_guest("stranger", template);
    AUTO(manifest) other = take_true_point(stranger);
    assert_full(other);
    ck_assert_str_eq(other->reason, "first point: read in full");

    AUTO(lab) lab = clone_new(template, "aclone");
    struct point_request request = request_of(lab);
    struct point_result result = {0};
    g_autoptr(GError) error = NULL;

    request.force_full = true;
    unit_ok(snapshot_take_point(&request, &result, &error), error);
    assert_full(result.manifest);
    point_result_clear(&result);
}
END_TEST

/* What the template's digests say is not what its image holds: whoever sent it lied. */
START_TEST(a_template_with_false_digests_is_not_believed)
{
    AUTO(lab) template = template_new("liar");
    AUTO(manifest) first = take_true_point(template);
    AUTO(lab) lab = clone_new(template, "believer");
    g_autofree char *dir = store_point_dir(template->store_path, first->uuid, first->point);
    g_autofree char *image = g_build_filename(dir, "vda.qcow2", NULL);
    g_autofree char *sums =
        g_strdup_printf("cd '%s' && sha256sum $(awk '{print $2}' SHA256SUMS) > sums && "
                        "mv sums SHA256SUMS",
                        dir);

    /* In the middle of noise that is stored as it is. */
    RUN("sh", "-c", "printf evil | dd of=\"$1\" bs=1 seek=4194304 conv=notrunc status=none", "sh",
        image);
    RUN("sh", "-c", sums);
    AUTO(manifest) point = take_true_point(lab);
    assert_full(point);
}
END_TEST

START_TEST(a_template_with_damaged_digests_costs_a_full_point)
{
    AUTO(lab) template = template_new("torn");
    AUTO(manifest) first = take_true_point(template);
    AUTO(lab) lab = clone_new(template, "tclone");
    g_autofree char *dir = store_point_dir(template->store_path, first->uuid, first->point);
    g_autofree char *digests = g_build_filename(dir, "vda.digests", NULL);

    /* The catalog still has its sketch. */
    ck_assert_int_eq(truncate(digests, 4000), 0);
    AUTO(manifest) point = take_true_point(lab);
    assert_full(point);
}
END_TEST

int main(void)
{
    become_ordinary_user();
    return SESSION_RUN("clones", clones_of_a_template_cost_their_own_changes,
                       a_linked_clone_does_not_count_its_template_again,
                       at_another_site_a_clone_costs_its_changes_too,
                       other_disks_and_full_points_stand_alone,
                       a_template_with_false_digests_is_not_believed,
                       a_template_with_damaged_digests_costs_a_full_point);
}
