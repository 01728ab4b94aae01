/* SPDX-License-Identifier: Apache-2.0 */
/* Dropping points: what goes, what stays and why, and that every point that stays reads as it did. */
#include "tests/disk-store.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "replicator/remote.h"
#include "replicator/serve.h"

#define OTHER_VM "99999999-2222-4333-8444-555555555555"

static struct disk_lab *lab_of_points(unsigned count)
{
    struct disk_lab *lab = disk_lab_new();
    struct disk *disk = disk_lab_add(lab, 20 * LAB_MIB, 3);

    disk_scribble(disk, 0, disk->bytes, 60);
    for (unsigned i = 0; i < count; i++) {
        disk_lab_point(lab);
        disk_scribble(disk, 0, disk->bytes, 15);
    }
    return lab;
}

static bool prune(struct disk_lab *lab, const char *policy, bool dry_run,
                  struct prune_result *result, GError **error)
{
    struct prune_request request = {.vm_uuid = lab->uuid, .dry_run = dry_run};
    g_autoptr(GError) wrong = NULL;

    unit_ok(!policy || retention_parse(policy, &request.keep, &wrong), wrong);
    return store_prune(lab->store, &request, result, error);
}

/* Prune, and look at all that is left. */
static struct prune_result prunes(struct disk_lab *lab, const char *policy)
{
    struct prune_result result;
    g_autofree char *incoming = g_build_filename(lab->path, "incoming", NULL);
    g_auto(GStrv) left = NULL;
    g_autoptr(GError) error = NULL;
    unsigned kept = 0;

    unit_ok(prune(lab, policy, false, &result, &error), error);
    for (unsigned i = 0; i < result.decisions->len; i++)
        kept += ((const struct prune_decision *)result.decisions->pdata[i])->keep;
    ck_assert_uint_eq(disk_lab_check(lab), kept);
    unit_ok(left = dir_list(incoming, &error), error);
    ck_assert_uint_eq(g_strv_length(left), 0);
    return result;
}

/* What was decided about the N-th point of the lab. */
static void decided(const struct prune_result *result, unsigned n, bool keep, const char *rule)
{
    g_autofree char *id = disk_lab_id(n);

    for (unsigned i = 0; i < result->decisions->len; i++) {
        const struct prune_decision *decision = result->decisions->pdata[i];

        if (strcmp(decision->point, id) != 0)
            continue;
        ck_assert_msg(decision->keep == keep, "point %u: %s", n, decision->rule);
        ck_assert_msg(strstr(decision->rule, rule) != NULL, "point %u: %s", n, decision->rule);
        return;
    }
    ck_abort_msg("nothing was decided about point %u", n);
}

static char *base_of(const struct disk_lab *lab, unsigned n, const char *target)
{
    g_autofree char *id = disk_lab_id(n);
    g_autofree char *dir = store_point_dir(lab->path, lab->uuid, id);
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    g_autoptr(GError) error = NULL;
    AUTO(manifest) manifest = manifest_load(path, &error);

    unit_ok(manifest != NULL, error);
    return g_strdup(manifest_disk(manifest, target)->base);
}

static void based_on(const struct disk_lab *lab, unsigned n, int base)
{
    g_autofree char *found = base_of(lab, n, "vda");
    g_autofree char *expected = base < 0 ? NULL : disk_lab_id((unsigned)base);

    ck_assert_msg(g_strcmp0(found, expected) == 0, "point %u is based on %s", n, found);
}

/* Names and sizes of all that is in the store's vms/: to see that nothing changed. */
static char *listing(const struct disk_lab *lab)
{
    g_autofree char *vms = g_build_filename(lab->path, "vms", NULL);
    g_autoptr(GError) error = NULL;
    char *text;

    unit_ok(process_run((const char *[]){"find", vms, "-type", "f", "-printf", "%p %s %i\n", NULL},
                        20, &text, &error),
            error);
    return text;
}

/* Pruning fails with PART in the message, and changes nothing. */
static void refuses(struct disk_lab *lab, const char *policy, enum error_kind kind,
                    const char *part)
{
    g_autofree char *before = listing(lab), *after = NULL;
    struct prune_result result;
    GError *error = NULL;

    unit_fails(prune(lab, policy, false, &result, &error), error, kind, part);
    after = listing(lab);
    ck_assert_str_eq(before, after);
}

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

/* --- In use --- */

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
        a_disk_that_ends_inside_a_cluster_is_told, what_a_recovered_disk_lies_upon_stays,
        what_qemu_has_open_stays, what_an_unfinished_run_goes_on_with_stays,
        nothing_is_dropped_while_somebody_reads, nothing_is_dropped_while_a_point_arrives,
        the_base_of_another_vm_stays, a_remote_store_is_pruned_by_the_same_rules,
        a_key_that_may_only_add_drops_nothing, a_long_chain_is_shortened, damage_is_not_taken_over,
        a_point_that_is_known_to_be_damaged_stays_as_it_is,
        a_manifest_that_cannot_be_read_stops_everything, a_missing_base_stops_everything,
        a_store_whose_site_is_not_known_is_not_pruned);
}
