/* SPDX-License-Identifier: Apache-2.0 */
/* Points that somebody needs stay, whatever the rules say. */
#include "tests/prune-lab.h"

#include <signal.h>
#include <sys/wait.h>

#define OTHER_VM "99999999-2222-4333-8444-555555555555"

/* An overlay NAME in the lab's images over FILE. */
static void make_overlay(const struct disk_lab *lab, const char *name, const char *file)
{
    g_autofree char *path = g_build_filename(lab->dir, "images", name, NULL);
    g_autofree char *dir = g_path_get_dirname(path);
    g_autoptr(GError) error = NULL;

    unit_ok(dir_make(dir, 0700, &error), error);
    unit_ok(process_run((const char *[]){"qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2",
                                         "-b", file, path, NULL},
                        50, NULL, &error),
            error);
}

START_TEST(what_a_recovered_disk_lies_upon_stays)
{
    AUTO(disk_lab) lab = lab_of_points(6);
    g_autofree char *id = disk_lab_id(2);
    g_autofree char *image = disk_lab_image(lab, id, "vda");
    g_autofree char *overlay = g_build_filename(lab->dir, "images", "db.r-1", "vda.qcow2", NULL);
    g_autofree char *moved = g_build_filename(lab->dir, "elsewhere.qcow2", NULL);
    struct prune_result result;

    /* One more overlay lies over the first, which is not even in the directory of images. */
    make_overlay(lab, "first.qcow2", image);
    make_overlay(lab, "../elsewhere.qcow2", image);
    make_overlay(lab, "db.r-1/vda.qcow2", moved);
    g_autofree char *first = g_build_filename(lab->dir, "images", "first.qcow2", NULL);

    ck_assert_int_eq(unlink(first), 0);
    result = prunes(lab, "last=2");
    decided(&result, 3, false, "no rule keeps it");
    for (unsigned i = 0; i < 3; i++)
        decided(&result, i, true, overlay);
    based_on(lab, 4, 2);
    prune_result_clear(&result);
    ck_assert_int_eq(unlink(overlay), 0);
    result = prunes(lab, "last=2");
    ck_assert_uint_eq(result.decisions->len, 5);
    decided(&result, 2, false, "no rule keeps it");
    prune_result_clear(&result);
}
END_TEST

/* Serve IMAGE by qemu-nbd until it is killed. */
static GPid open_in_qemu(const struct disk_lab *lab, const char *image)
{
    g_autofree char *socket = g_build_filename(lab->dir, "nbd", NULL);
    g_autofree char *uri = g_strconcat("nbd+unix:///?socket=", socket, NULL);
    const char *argv[] = {"qemu-nbd", "-r", "-t", "-f", "qcow2", "-k", socket, image, NULL};
    const char *const info[] = {"nbdinfo", "--size", uri, NULL};
    g_autoptr(GError) error = NULL;
    gint64 deadline = g_get_monotonic_time() + 30 * G_TIME_SPAN_SECOND;
    GPid pid;

    ck_assert(g_spawn_async(NULL, (char **)argv, NULL,
                            G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &pid,
                            NULL));
    while (!g_file_test(socket, G_FILE_TEST_EXISTS)) {
        ck_assert_int_lt(g_get_monotonic_time(), deadline);
        g_usleep(5000);
    }
    /* It listens before it has opened the image, and answers after that. */
    unit_ok(process_run(info, 30, NULL, &error), error);
    return pid;
}

START_TEST(what_qemu_has_open_stays)
{
    AUTO(disk_lab) lab = lab_of_points(4);
    g_autofree char *id = disk_lab_id(1);
    g_autofree char *image = disk_lab_image(lab, id, "vda");
    GPid pid = open_in_qemu(lab, image);
    struct prune_result result;
    g_autoptr(GError) error = NULL;

    unit_ok(prune(lab, "last=2", false, &result, &error), error);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    decided(&result, 1, true, "vda.qcow2 is open in QEMU");
    decided(&result, 0, true, "vda.qcow2 is open in QEMU");
    prune_result_clear(&result);
    result = prunes(lab, "last=2");
    decided(&result, 0, false, "no rule keeps it");
    prune_result_clear(&result);
}
END_TEST

START_TEST(what_an_unfinished_run_goes_on_with_stays)
{
    AUTO(disk_lab) lab = lab_of_points(4);
    g_autofree char *id = disk_lab_id(1);
    json_auto_t *plan = json_pack("{s:[{s:s,s:s}]}", "vms", "uuid", LAB_VM, "point", id);
    g_autoptr(GError) error = NULL;
    AUTO(run) run = run_begin(lab->catalog, "failover", "shop", plan, &error);
    struct prune_result result;

    unit_ok(run != NULL, error);
    result = prunes(lab, "last=2");
    decided(&result, 1, true, "in use by run r-");
    decided(&result, 0, true, "in use by run r-");
    prune_result_clear(&result);
    unit_ok(run_finish(run, RUN_DONE, NULL, &error), error);
    result = prunes(lab, "last=2");
    decided(&result, 1, false, "no rule");
    prune_result_clear(&result);
}
END_TEST

START_TEST(nothing_is_dropped_while_somebody_reads)
{
    AUTO(disk_lab) lab = lab_of_points(4);
    g_autoptr(GError) error = NULL;
    AUTO(file_lock) reader = store_read_lock(lab->path, lab->uuid, &error);

    unit_ok(reader != NULL, error);
    refuses(lab, "last=2", ERROR_CONFLICT, "another drctl reads");
}
END_TEST

START_TEST(nothing_is_dropped_while_a_point_arrives)
{
    AUTO(disk_lab) lab = lab_of_points(4);
    g_autoptr(GError) error = NULL;
    g_autofree char *next = disk_lab_id(4);
    AUTO(incoming) incoming = store_begin(lab->store, lab->uuid, next, &error);

    unit_ok(incoming != NULL, error);
    refuses(lab, "last=2", ERROR_CONFLICT, "is in use by");
}
END_TEST

START_TEST(the_base_of_another_vm_stays)
{
    AUTO(disk_lab) lab = lab_of_points(4);
    g_autofree char *base = disk_lab_id(1), *point = disk_lab_id(9);
    g_autofree char *dir = store_point_dir(lab->path, OTHER_VM, point);
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    g_autofree char *text = NULL;
    AUTO(manifest) manifest = disk_lab_manifest(lab, point);
    struct manifest_disk *disk = manifest_add_disk(manifest, "vda");
    struct prune_result result;
    g_autoptr(GError) error = NULL;

    g_free(manifest->uuid);
    g_free(manifest->vm);
    manifest->uuid = g_strdup(OTHER_VM);
    manifest->vm = g_strdup("web");
    disk->base = g_strdup(base);
    disk->base_vm = g_strdup(LAB_VM);
    disk->virtual_bytes = 20 * LAB_MIB;
    manifest_add_file(manifest, "vda.qcow2", 0);
    manifest_add_file(manifest, "vda.digests", 0);
    manifest_set_base(manifest);
    text = manifest_text(manifest);
    unit_ok(dir_make(dir, 0700, &error) && file_write(path, text, strlen(text), 0600, &error),
            error);
    result = prunes(lab, "last=2");
    decided(&result, 1, true, "base of a point of VM web");
    decided(&result, 0, false, "no rule");
    based_on(lab, 1, -1);
    prune_result_clear(&result);
}
END_TEST

int main(void)
{
    return UNIT_RUN("prune-use", what_a_recovered_disk_lies_upon_stays, what_qemu_has_open_stays,
                    what_an_unfinished_run_goes_on_with_stays,
                    nothing_is_dropped_while_somebody_reads,
                    nothing_is_dropped_while_a_point_arrives, the_base_of_another_vm_stays);
}
