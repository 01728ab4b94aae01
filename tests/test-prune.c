/* SPDX-License-Identifier: Apache-2.0 */
/* Dropping points: what goes, what stays and why, and that every point that stays reads as it did. */
#include "tests/prune-lab.h"

#include <sys/socket.h>
#include <sys/wait.h>

#include "replicator/remote.h"
#include "replicator/serve.h"

START_TEST(drops_what_no_rule_keeps)
{
    AUTO(disk_lab) lab = lab_of_points(6);
    struct prune_result result = prunes(lab, "last=3");

    decided(&result, 5, true, "last #1");
    decided(&result, 3, true, "last #3");
    decided(&result, 2, false, "no rule keeps it");
    decided(&result, 0, false, "no rule keeps it");
    ck_assert_uint_eq(result.decisions->len, 6);
    ck_assert_uint_gt(result.freed_bytes, 0);
    based_on(lab, 3, -1);
    based_on(lab, 4, 3);
    prune_result_clear(&result);
    /* The next point is based on what is left, and what is left can be pruned again. */
    disk_lab_point(lab);
    result = prunes(lab, "last=2");
    based_on(lab, 5, -1);
    based_on(lab, 6, 5);
    prune_result_clear(&result);
}
END_TEST

START_TEST(merges_between_points_that_stay)
{
    AUTO(disk_lab) lab = lab_of_points(9);
    /* From Sunday 2026-11-01. */
    struct prune_result result = prunes(lab, "last=2 weekly=2");

    decided(&result, 8, true, "last #1");
    decided(&result, 7, true, "last #2");
    decided(&result, 0, true, "weekly #1");
    decided(&result, 3, false, "no rule");
    based_on(lab, 7, 0);
    based_on(lab, 0, -1);
    prune_result_clear(&result);
}
END_TEST

START_TEST(a_dry_run_changes_nothing)
{
    AUTO(disk_lab) lab = lab_of_points(4);
    g_autofree char *before = listing(lab), *after = NULL;
    struct prune_result result;
    g_autoptr(GError) error = NULL;

    unit_ok(prune(lab, "last=2", true, &result, &error), error);
    after = listing(lab);
    ck_assert_str_eq(before, after);
    decided(&result, 1, false, "no rule keeps it");
    ck_assert_uint_gt(result.freed_bytes, 0);
    prune_result_clear(&result);
}
END_TEST

START_TEST(without_a_policy_everything_stays)
{
    AUTO(disk_lab) lab = lab_of_points(3);
    struct prune_result result = prunes(lab, NULL);

    decided(&result, 0, true, "there is no policy");
    ck_assert_uint_eq(result.freed_bytes, 0);
    prune_result_clear(&result);
}
END_TEST

START_TEST(the_two_newest_and_the_last_verified_stay)
{
    AUTO(disk_lab) lab = lab_of_points(5);
    struct prune_result result;
    json_auto_t *whole = json_pack("{s:b}", "ok", 1), *damaged = json_pack("{s:b}", "ok", 0);
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; i < 4; i++) {
        g_autofree char *id = disk_lab_id(i);
        g_autofree char *key = g_strdup_printf("%s/%s", lab->uuid, id);

        unit_ok(catalog_put(lab->catalog, CATALOG_VERIFIED, key, i < 2 ? whole : damaged, &error),
                error);
    }
    result = prunes(lab, "yearly=1");
    decided(&result, 4, true, "yearly #1");
    decided(&result, 3, true, "newest but one");
    decided(&result, 2, false, "yearly #1 is of the same year");
    decided(&result, 1, true, "last verified");
    decided(&result, 0, false, "yearly #1 is of the same year");
    prune_result_clear(&result);
}
END_TEST

START_TEST(a_labelled_point_stays_for_90_days)
{
    AUTO(disk_lab) lab = lab_of_points(1);
    struct prune_result result;

    lab->label = MANIFEST_DIVERGED;
    lab->label_ms = time_now_ms();
    disk_lab_point(lab);
    lab->label_ms -= INT64_C(91) * 24 * 3600 * 1000;
    disk_lab_point(lab);
    lab->label = NULL;
    for (unsigned i = 0; i < 3; i++)
        disk_lab_point(lab);
    result = prunes(lab, "last=1");
    decided(&result, 0, false, "no rule keeps it");
    decided(&result, 1, true, "diverged");
    decided(&result, 2, false, "no rule keeps it");
    prune_result_clear(&result);
}
END_TEST

START_TEST(a_point_goes_only_if_both_policies_let_it)
{
    AUTO(disk_lab) lab = lab_of_points(5);
    struct prune_result result;

    disk_lab_configure(lab, "keep = last=4\n");
    result = prunes(lab, "last=2");
    decided(&result, 3, true, "last #2");
    decided(&result, 1, true, "last #4 of this store's site");
    decided(&result, 0, false, "no rule keeps it");
    prune_result_clear(&result);
    result = prunes(lab, NULL);
    decided(&result, 1, true, "last #4 of this store's site");
    prune_result_clear(&result);
}
END_TEST

START_TEST(the_base_of_two_points_stays)
{
    AUTO(disk_lab) lab = lab_of_points(3);
    struct disk *disk = lab->disks->pdata[0];
    struct prune_result result;

    /* The 4th point stands on the 1st, as the 2nd does. */
    disk_write(disk, 0, (size_t)disk->bytes, DISK_TEXT);
    g_free(disk->base);
    disk->base = disk_lab_id(0);
    disk_lab_point(lab);
    disk_scribble(disk, 0, disk->bytes, 5);
    disk_lab_point(lab);
    result = prunes(lab, "last=3");
    decided(&result, 0, true, "base of 2 points");
    decided(&result, 1, false, "no rule keeps it");
    based_on(lab, 2, 0);
    based_on(lab, 3, 0);
    prune_result_clear(&result);
    /* When one of the two branches goes, there is one left that takes it over. */
    result = prunes(lab, "last=2");
    decided(&result, 2, false, "no rule keeps it");
    decided(&result, 0, false, "no rule keeps it");
    based_on(lab, 3, -1);
    prune_result_clear(&result);
}
END_TEST

START_TEST(disks_that_do_not_change_are_not_copied)
{
    AUTO(disk_lab) lab = disk_lab_new();
    struct disk *vda = disk_lab_add(lab, 4 * LAB_MIB, 3), *vdb;
    struct prune_result result;
    struct stat before, after;
    g_autofree char *id = disk_lab_id(2);
    g_autofree char *image = disk_lab_image(lab, id, "vdb");

    disk_scribble(vda, 0, vda->bytes, 9);
    disk_lab_point(lab);
    disk_lab_point(lab);
    /* A disk is added: it is complete in the 3rd point. */
    vdb = disk_lab_add(lab, 4 * LAB_MIB, 4);
    disk_scribble(vdb, 0, vdb->bytes, 9);
    disk_lab_point(lab);
    disk_scribble(vdb, 0, vdb->bytes, 2);
    disk_lab_point(lab);
    ck_assert_int_eq(stat(image, &before), 0);
    result = prunes(lab, "last=2");
    ck_assert_int_eq(stat(image, &after), 0);
    ck_assert_uint_eq(before.st_ino, after.st_ino);
    based_on(lab, 2, -1);
    prune_result_clear(&result);
}
END_TEST

START_TEST(a_disk_that_shrank_and_grew_reads_the_same)
{
    AUTO(disk_lab) lab = disk_lab_new();
    struct disk *disk = disk_lab_add(lab, 8 * LAB_MIB, 7);
    static const uint64_t sizes[] = {LAB_MIB, 8 * LAB_MIB, 9 * LAB_MIB};
    struct prune_result result;

    disk_write(disk, 0, (size_t)disk->bytes, DISK_RANDOM);
    disk_lab_point(lab);
    disk_lab_point(lab);
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        disk_resize(disk, sizes[i]);
        disk_write(disk, 512 * i, 512, DISK_TEXT);
        disk_lab_point(lab);
    }
    result = prunes(lab, "last=2");
    based_on(lab, 3, -1);
    prune_result_clear(&result);
}
END_TEST

START_TEST(a_disk_that_ends_inside_a_cluster_is_told)
{
    AUTO(disk_lab) lab = disk_lab_new();
    struct disk *disk = disk_lab_add(lab, 8 * LAB_MIB, 7);
    static const uint64_t sizes[] = {LAB_MIB + 512, 8 * LAB_MIB, 8 * LAB_MIB};
    struct prune_result result;

    disk_write(disk, 0, (size_t)disk->bytes, DISK_RANDOM);
    disk_lab_point(lab);
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        disk_resize(disk, sizes[i]);
        disk_write(disk, 512 * i, 512, DISK_TEXT);
        disk_lab_point(lab);
    }
    result = prunes(lab, "last=2");
    decided(&result, 1, true, "no multiple of 64 KiB");
    decided(&result, 0, true, "no multiple of 64 KiB");
    prune_result_clear(&result);
}
END_TEST

/* --- From another site --- */

static void serve_site(struct disk_lab *lab, const struct serve_rules *rules, int fd)
{
    g_autoptr(GError) error = NULL;
    bool done;

    disk_lab_open_store(lab);
    done = serve_link(lab->store, rules, link_fd_new(fd, fd), 20000, &error);
    disk_lab_close_store(lab);
    _exit(done ? 0 : 3);
}

/* Prune the lab's store through a server of it in another process. */
static bool prune_remotely(struct disk_lab *lab, const struct serve_rules *rules,
                           const struct prune_request *request, struct prune_result *result,
                           GError **error)
{
    struct store *remote;
    int fds[2], status;
    bool done;
    pid_t pid;

    disk_lab_close_store(lab);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        close(fds[0]);
        serve_site(lab, rules, fds[1]);
    }
    close(fds[1]);
    remote = store_open_link(link_fd_new(fds[0], fds[0]), "dr1", 5000, error);
    done = remote && store_prune(remote, request, result, error);
    store_free(remote);
    close(fds[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    disk_lab_open_store(lab);
    return done;
}

START_TEST(a_remote_store_is_pruned_by_the_same_rules)
{
    AUTO(disk_lab) lab = lab_of_points(5);
    struct prune_request request = {.vm_uuid = lab->uuid, .keep = {{2}}, .dry_run = true};
    const struct serve_rules rules = {0};
    g_autofree char *before = listing(lab), *after = NULL;
    struct prune_result result;
    g_autoptr(GError) error = NULL;

    unit_ok(prune_remotely(lab, &rules, &request, &result, &error), error);
    after = listing(lab);
    ck_assert_str_eq(before, after);
    decided(&result, 2, false, "no rule keeps it");
    ck_assert_uint_gt(result.freed_bytes, 0);
    prune_result_clear(&result);
    request.dry_run = false;
    unit_ok(prune_remotely(lab, &rules, &request, &result, &error), error);
    ck_assert_uint_eq(result.decisions->len, 5);
    decided(&result, 4, true, "last #1");
    prune_result_clear(&result);
    ck_assert_uint_eq(disk_lab_check(lab), 2);
}
END_TEST

START_TEST(a_key_that_may_only_add_drops_nothing)
{
    AUTO(disk_lab) lab = lab_of_points(3);
    struct prune_request request = {.vm_uuid = lab->uuid, .keep = {{1}}};
    const struct serve_rules rules = {.role = SERVE_APPEND_ONLY};
    struct prune_result result;
    GError *error = NULL;

    unit_fails(prune_remotely(lab, &rules, &request, &result, &error), error, ERROR_AUTH,
               "PRUNE is refused");
    ck_assert_uint_eq(disk_lab_check(lab), 3);
}
END_TEST

/* --- Chains that are too long --- */

START_TEST(a_long_chain_is_shortened)
{
    AUTO(disk_lab) lab = lab_of_points(7);
    struct prune_result result;

    disk_lab_configure(lab, "chain-depth = 4\n");
    result = prunes(lab, NULL);
    decided(&result, 6, true, "its chain is shortened");
    based_on(lab, 6, 0);
    based_on(lab, 5, 4);
    prune_result_clear(&result);
    disk_lab_point(lab);
    based_on(lab, 7, 6);
    result = prunes(lab, NULL);
    based_on(lab, 7, 6);
    prune_result_clear(&result);
    /* The full image is under both branches now. */
    result = prunes(lab, "last=3");
    decided(&result, 0, true, "base of 2 points");
    based_on(lab, 6, 0);
    based_on(lab, 5, 0);
    prune_result_clear(&result);
}
END_TEST

/* --- What goes wrong --- */

static void damage(const struct disk_lab *lab, unsigned n, const char *name, off_t offset)
{
    g_autofree char *id = disk_lab_id(n);
    g_autofree char *dir = store_point_dir(lab->path, lab->uuid, id);
    g_autofree char *path = g_build_filename(dir, name, NULL);
    AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte;

    ck_assert_int_eq(pread(fd, &byte, 1, offset), 1);
    byte ^= 1;
    ck_assert_int_eq(pwrite(fd, &byte, 1, offset), 1);
}

START_TEST(damage_is_not_taken_over)
{
    AUTO(disk_lab) lab = lab_of_points(4);

    /* Inside the first frame. */
    damage(lab, 1, "vda.qcow2", CLUSTER_BYTES + 40);
    refuses(lab, "last=2", ERROR_INTEGRITY, "stays as it is");
}
END_TEST

START_TEST(a_point_that_is_known_to_be_damaged_stays_as_it_is)
{
    AUTO(disk_lab) lab = lab_of_points(4);
    AUTO(damage) damage = damage_new();
    g_autofree char *id = disk_lab_id(2);
    g_autofree char *dir = store_point_dir(lab->path, lab->uuid, id);
    struct prune_result result;
    g_autoptr(GError) error = NULL;

    damage_add(damage, "vda.qcow2", "a test");
    unit_ok(damage_save(dir, damage, &error), error);
    result = prunes(lab, "last=2");
    decided(&result, 1, true, "which is damaged: drctl heal");
    prune_result_clear(&result);
}
END_TEST

START_TEST(a_manifest_that_cannot_be_read_stops_everything)
{
    AUTO(disk_lab) lab = lab_of_points(4);

    damage(lab, 1, MANIFEST_NAME, 0);
    /* The catalog still knows it; without the catalog nobody does. */
    disk_lab_close_store(lab);
    g_autofree char *catalog = g_build_filename(lab->path, "catalog", NULL);
    g_autoptr(GError) error = NULL;

    unit_ok(tree_remove(catalog, &error), error);
    disk_lab_open_store(lab);
    refuses(lab, "last=2", ERROR_INTEGRITY, "nobody knows what it is based on");
}
END_TEST

START_TEST(a_missing_base_stops_everything)
{
    AUTO(disk_lab) lab = lab_of_points(5);
    g_autofree char *id = disk_lab_id(0);
    g_autofree char *dir = store_point_dir(lab->path, lab->uuid, id);
    g_autoptr(GError) error = NULL;

    unit_ok(tree_remove(dir, &error), error);
    refuses(lab, "last=2", ERROR_INTEGRITY, "lacks its base");
}
END_TEST

START_TEST(a_store_whose_site_is_not_known_is_not_pruned)
{
    AUTO(disk_lab) lab = lab_of_points(1);
    struct prune_request request = {.vm_uuid = lab->uuid};
    struct prune_result result;
    GError *error = NULL;
    AUTO(store) store = store_open_local(lab->path, lab->catalog, &snapshot_point_ops, &error);

    unit_ok(store != NULL, error);
    unit_fails(store_prune(store, &request, &result, &error), error, ERROR_CONFIG,
               "without the configuration of its site");
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "prune", drops_what_no_rule_keeps, merges_between_points_that_stay,
        a_dry_run_changes_nothing, without_a_policy_everything_stays,
        the_two_newest_and_the_last_verified_stay, a_labelled_point_stays_for_90_days,
        a_point_goes_only_if_both_policies_let_it, the_base_of_two_points_stays,
        disks_that_do_not_change_are_not_copied, a_disk_that_shrank_and_grew_reads_the_same,
        a_disk_that_ends_inside_a_cluster_is_told, a_remote_store_is_pruned_by_the_same_rules,
        a_key_that_may_only_add_drops_nothing, a_long_chain_is_shortened, damage_is_not_taken_over,
        a_point_that_is_known_to_be_damaged_stays_as_it_is,
        a_manifest_that_cannot_be_read_stops_everything, a_missing_base_stops_everything,
        a_store_whose_site_is_not_known_is_not_pruned);
}
