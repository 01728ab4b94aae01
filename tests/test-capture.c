/* SPDX-License-Identifier: Apache-2.0 */
/* Recovery points of real QEMU guests by a real libvirtd into a real store; qemu-img is the oracle. */
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/capture-lab.h"
#include "tests/rebase.h"

/* --- tests ----------------------------------------------------------------------------------- */

START_TEST(a_chain_is_identical_to_the_source_at_every_point)
{
    AUTO(lab) lab = lab_new("chain", "qcow2");
    g_autoptr(GPtrArray) points = g_ptr_array_new_with_free_func((GDestroyNotify)manifest_free);

    guest_io(lab, 0, "write -P 17 0 12M");
    guest_io(lab, 1, "write -P 34 0 1M");
    g_ptr_array_add(points, take_true_point(lab));
    /* Zeros written, discarded, and zeroed without allocation, over data of the point before. */
    guest_io(lab, 0, "write -z 1M 1M");
    guest_io(lab, 0, "discard 2M 1M");
    guest_io(lab, 0, "write -z -u 3M 1M");
    guest_io(lab, 0, "write -P 0 4M 1M");
    g_ptr_array_add(points, take_true_point(lab));
    /* Parts of clusters, the short last cluster, and data over zeros. */
    guest_io(lab, 0, "write -P 51 5000k 512");
    guest_io(lab, 0, "write -P 52 %" G_GUINT64_FORMAT " 512", VDA_BYTES - 512);
    guest_io(lab, 0, "write -P 53 2100k 3k");
    guest_io(lab, 1, "write -P 54 2M 128k");
    g_ptr_array_add(points, take_true_point(lab));
    /* Nothing at all. */
    g_ptr_array_add(points, take_true_point(lab));
    guest_io(lab, 0, "discard 0 24M");
    g_ptr_array_add(points, take_true_point(lab));
    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];
        const struct manifest *before = i ? points->pdata[i - 1] : NULL;

        assert_point_is_true(lab, manifest->point);
        ck_assert_str_eq(manifest->base ? manifest->base : "", before ? before->point : "");
    }
    ck_assert_uint_eq(manifest_changed_bytes(points->pdata[3]), 0);
    ck_assert_uint_eq(count_checkpoints(lab), 1);
    assert_nothing_is_left(lab);
}
END_TEST

START_TEST(stores_explicit_zeros_only_where_something_was)
{
    AUTO(lab) lab = lab_new("zeros", "qcow2");

    guest_io(lab, 0, "write -P 17 0 2M");
    AUTO(manifest) full = take_true_point(lab);

    guest_io(lab, 0, "write -z 0 1M");
    AUTO(manifest) delta = take_true_point(lab);

    ck_assert_uint_eq(manifest_changed_bytes(full), 2 << 20);
    ck_assert_uint_eq(manifest_changed_bytes(delta), 1 << 20);
    /* Zero clusters cost no data: header, one L2 table, L1, refcounts. */
    ck_assert_uint_le(manifest_disk(delta, "vda")->stored_bytes, 5 << 16);
}
END_TEST

START_TEST(a_guest_without_agent_gives_a_crash_consistent_point_unless_more_is_required)
{
    AUTO(lab) lab = lab_new("agent", "qcow2");
    struct point_request request;
    struct point_result result = {0};
    GError *error = NULL;

    lab->quiesce = QUIESCE_TRY;
    AUTO(manifest) manifest = take_point(lab);

    ck_assert_int_eq(manifest->consistency, CONSISTENCY_CRASH);
    lab->quiesce = QUIESCE_REQUIRE;
    request = request_of(lab);
    unit_fails(snapshot_take_point(&request, &result, &error), error, ERROR_HYPERVISOR,
               "quiesce = require");
    assert_nothing_is_left(lab);
    ck_assert_uint_eq(count_checkpoints(lab), 1);
}
END_TEST

static void rewrite_manifest(const struct lab *lab, const struct manifest *manifest)
{
    g_autofree char *dir = store_point_dir(lab->store_path, manifest->uuid, manifest->point);
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    g_autofree char *text = manifest_text(manifest);
    g_autofree char *key = g_strdup_printf("%s/%s", domain_uuid(lab->domain), manifest->point);
    g_autoptr(GError) error = NULL;

    unit_ok(file_write(path, text, strlen(text), 0600, &error), error);
    unit_ok(catalog_remove(lab->catalog, CATALOG_POINTS, key, &error), error);
}

static void rewrite_backing(const struct lab *lab, const struct manifest *manifest,
                            const struct manifest_disk *disk)
{
    g_autofree char *dir = store_point_dir(lab->store_path, manifest->uuid, manifest->point);
    g_autofree char *path = g_build_filename(dir, disk->file, NULL);
    g_autofree char *backing = manifest_backing_name(disk);
    g_autofree char *image = NULL;
    g_autoptr(GError) error = NULL;
    size_t len;

    unit_ok(file_read(path, 64 << 20, &image, &len, &error), error);
    rebase_image(image, backing);
    unit_ok(file_write(path, image, len, 0600, &error), error);
}

/* Point FULL becomes one of VM_UUID, and DELTA, which is based on it, stands on that. */
static void give_away(const struct lab *lab, struct manifest *full, struct manifest *delta,
                      const char *vm_uuid)
{
    g_autofree char *from = store_point_dir(lab->store_path, full->uuid, full->point);
    g_autofree char *to = store_point_dir(lab->store_path, vm_uuid, full->point);
    g_autofree char *vm_dir = g_path_get_dirname(to);
    g_autoptr(GError) error = NULL;

    unit_ok(dir_make(vm_dir, 0711, &error), error);
    unit_ok(path_rename(from, to, &error), error);
    g_free(full->uuid);
    full->uuid = g_strdup(vm_uuid);
    rewrite_manifest(lab, full);
    for (unsigned i = 0; i < delta->disks->len; i++) {
        struct manifest_disk *disk = delta->disks->pdata[i];

        disk->base_vm = g_strdup(vm_uuid);
        rewrite_backing(lab, delta, disk);
    }
    rewrite_manifest(lab, delta);
}

START_TEST(a_point_that_stands_on_another_vms_is_built_upon_while_that_is_there)
{
    static const char vm[] = "99999999-2222-4333-8444-555555555555";
    AUTO(lab) lab = lab_new("adopted", "qcow2");
    g_autoptr(GError) error = NULL;
    g_autofree char *dir = NULL;

    guest_io(lab, 0, "write -P 1 0 1M");
    AUTO(manifest) full = take_true_point(lab);
    guest_io(lab, 0, "write -P 2 0 64k");
    AUTO(manifest) delta = take_true_point(lab);
    give_away(lab, full, delta, vm);
    assert_point_is_true(lab, delta->point);

    guest_io(lab, 0, "write -P 3 64k 64k");
    AUTO(manifest) next = take_true_point(lab);
    ck_assert_str_eq(next->base, delta->point);
    dir = store_point_dir(lab->store_path, vm, full->point);
    unit_ok(tree_remove(dir, &error), error);
    AUTO(manifest) after = take_true_point(lab);
    ck_assert_ptr_null(after->base);
}
END_TEST

START_TEST(a_store_that_points_were_copied_to_can_be_a_destination)
{
    AUTO(lab) lab = lab_new("copied", "qcow2");
    struct lab other = *lab;
    char *const all[] = {NULL};
    g_autoptr(GError) error = NULL;

    guest_io(lab, 0, "write -P 17 0 2M");
    AUTO(manifest) first = take_true_point(lab);

    other.store_path = g_strconcat(lab->store_path, "-2", NULL);
    unit_ok(store_create(other.store_path, "dr2", &error), error);
    unit_ok(other.catalog = catalog_open(other.store_path, &error), error);
    unit_ok(other.store =
                store_open_local(other.store_path, other.catalog, &snapshot_point_ops, &error),
            error);
    g_autoptr(GPtrArray) plan = store_copy_plan(lab->store, other.store, all, NULL, &error);

    unit_ok(plan && plan->len == 1, error);
    unit_ok(store_copy_point(lab->store, other.store, plan->pdata[0], NULL, &error), error);
    guest_io(lab, 0, "write -P 18 64k 128k");
    AUTO(manifest) there = take_true_point(&other);

    guest_io(lab, 0, "write -P 19 1M 64k");
    AUTO(manifest) here = take_true_point(lab);

    ck_assert_str_eq(there->base, first->point);
    ck_assert_uint_eq(manifest_changed_bytes(there), 2 << 16);
    ck_assert_str_eq(here->base, first->point);
    ck_assert_uint_eq(manifest_changed_bytes(here), 3 << 16);
    /* One of each destination. */
    ck_assert_uint_eq(count_checkpoints(lab), 2);
    store_free(other.store);
    catalog_free(other.catalog);
    g_free(other.store_path);
}
END_TEST

START_TEST(a_backup_of_somebody_else_is_left_alone)
{
    AUTO(lab) lab = lab_new("foreign", "qcow2");
    struct point_request request = request_of(lab);
    struct point_result result = {0};
    GError *error = NULL;
    g_autofree char *job = NULL;
    g_autofree char *xml = g_strdup_printf("<domainbackup mode='pull'><server transport='unix' "
                                           "socket='%s/images/other.sock'/></domainbackup>",
                                           session_dir);

    unit_ok(domain_backup_begin(lab->domain, xml, NULL, &error), error);
    unit_fails(snapshot_take_point(&request, &result, &error), error, ERROR_CONFLICT,
               "another program is backing up this VM (it reads at ");
    unit_ok(domain_backup_xml(lab->domain, &job, &error), error);
    ck_assert_ptr_nonnull(job);
    unit_ok(domain_backup_end(lab->domain, &error), error);
}
END_TEST

/* A libvirtd that never says anything: what connects to it waits. */
static int silent_daemon(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(chmod(path, 0777), 0);
    ck_assert_int_eq(listen(fd, 1), 0);
    return fd;
}

static void wait_for_job(const struct lab *lab, const char *expected)
{
    const char *job = NULL;
    g_autoptr(GError) error = NULL;

    for (int64_t until = time_monotonic_ms() + UNIT_PATIENCE_MS;; g_usleep(10000)) {
        unit_ok(domain_job(lab->domain, &job, &error), error);
        if (g_strcmp0(job, expected) == 0)
            return;
        ck_assert_msg(time_monotonic_ms() < until, "the job is still: %s", job ? job : "none");
    }
}

START_TEST(a_vm_that_migrates_is_left_alone)
{
    AUTO(lab) lab = lab_new("moves", "qcow2");
    struct point_request request = request_of(lab);
    struct point_result result = {0};
    g_autofree char *path = image_path("silent");
    g_autofree char *uri = g_strdup_printf("qemu+unix:///session?socket=%s", path);
    const char *const argv[] = {"virsh",  "-c",       session_uri, "migrate", "--p2p",
                                "--live", "--unsafe", "moves",     uri,       NULL};
    int silent = silent_daemon(path);
    GError *error = NULL;
    GPid virsh;

    unit_ok(
        g_spawn_async(NULL, (char **)argv, NULL,
                      G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDERR_TO_DEV_NULL,
                      NULL, NULL, &virsh, &error),
        error);
    wait_for_job(lab, "migration");
    unit_fails(snapshot_take_point(&request, &result, &error), error, ERROR_CONFLICT,
               "busy with this VM (migration)");
    wait_for_job(lab, "migration");
    close(silent);
    ck_assert_int_eq(waitpid(virsh, NULL, 0), virsh);
    wait_for_job(lab, NULL);
    AUTO(manifest) manifest = take_true_point(lab);
}
END_TEST

/* A progress that does something to the guest while its point is being taken. */
struct meddler {
    struct progress progress;
    const struct lab *lab;
    const char *disk;
    void (*act)(const struct lab *lab); /* once, when data of DISK has been read */
};

static void meddle(struct progress *progress, const char *subject, uint64_t done, uint64_t total)
{
    struct meddler *meddler = (struct meddler *)progress;
    void (*act)(const struct lab *lab) = meddler->act;

    if (!act || !g_str_has_suffix(subject, meddler->disk))
        return;
    meddler->act = NULL;
    act(meddler->lab);
}

/* The point that is being taken while ACT happens fails. */
static void fail_when(const struct lab *lab, const char *disk, void (*act)(const struct lab *lab))
{
    struct meddler meddler = {{say_nothing, meddle}, lab, disk, act};
    struct point_request request = request_of(lab);
    struct point_result result = {0};
    GError *error = NULL;

    request.progress = &meddler.progress;
    unit_fails(snapshot_take_point(&request, &result, &error), error, ERROR_CONFLICT,
               "the backup job ended before the point was whole");
    ck_assert_ptr_null(meddler.act);
    assert_nothing_is_left(lab);
}

static void end_its_job(const struct lab *lab)
{
    VIRSH("domjobabort", domain_name(lab->domain));
}

/* What QEMU gave out at the end may have been the disk of then, not of the instant. */
START_TEST(a_job_that_somebody_ended_gives_no_point)
{
    AUTO(lab) lab = lab_new("ended", "qcow2");

    guest_io(lab, 0, "write -P 1 0 24M");
    AUTO(manifest) before = take_true_point(lab);

    guest_io(lab, 0, "write -P 2 0 64k");
    fail_when(lab, "vda", end_its_job);
    /* It has read everything. */
    guest_io(lab, 1, "write -P 3 0 64k");
    fail_when(lab, "vdb", end_its_job);
    AUTO(manifest) after = take_true_point(lab);

    ck_assert_str_eq(after->base, before->point);
    ck_assert_uint_eq(count_checkpoints(lab), 1);
}
END_TEST

START_TEST(a_vm_that_goes_off_meanwhile_gives_no_point_and_the_next_goes_on)
{
    AUTO(lab) lab = lab_new("went-off", "qcow2");

    guest_io(lab, 0, "write -P 1 0 24M");
    AUTO(manifest) before = take_true_point(lab);

    guest_io(lab, 0, "write -P 2 0 24M");
    fail_when(lab, "vda", power_off);
    VIRSH("start", "--paused", "went-off");
    AUTO(manifest) after = take_true_point(lab);

    ck_assert_str_eq(after->base, before->point);
    ck_assert_uint_eq(count_checkpoints(lab), 1);
}
END_TEST

START_TEST(qemu_that_is_killed_meanwhile_costs_reading)
{
    AUTO(lab) lab = lab_new("crashed", "qcow2");

    guest_io(lab, 0, "write -P 1 0 24M");
    AUTO(manifest) before = take_true_point(lab);

    guest_io(lab, 0, "write -P 2 0 24M");
    fail_when(lab, "vda", kill_qemu);
    VIRSH("start", "--paused", "crashed");
    AUTO(manifest) after = take_true_point(lab);

    ck_assert_str_eq(after->base, before->point);
    assert_point_is_true(lab, before->point);
    ck_assert_uint_eq(count_checkpoints(lab), 1);
}
END_TEST

static void leave_frozen_journal(const struct lab *lab, const char *life)
{
    json_auto_t *entry = json_object();
    g_autoptr(GError) error = NULL;

    json_object_set_new(entry, "frozen", json_true());
    json_object_set_new(entry, "scratch", json_array());
    json_set_string(entry, "life", life);
    unit_ok(catalog_put(lab->catalog, CATALOG_CAPTURES, domain_uuid(lab->domain), entry, &error),
            error);
}

/* As reconciliation sees it: the boot of this host, and libvirt's id of the running domain. */
static char *life_of(const struct lab *lab)
{
    g_autofree char *boot = NULL;
    g_autofree char *id = g_strstrip(VIRSH_OUTPUT("domid", domain_name(lab->domain)));

    unit_ok(file_read("/proc/sys/kernel/random/boot_id", 64, &boot, NULL, NULL), (GError *)NULL);
    return g_strdup_printf("%s/%s", g_strstrip(boot), id);
}

START_TEST(a_guest_that_was_started_anew_is_not_waited_for_to_thaw)
{
    AUTO(lab) lab = lab_new("thaw", "qcow2");
    struct point_request request = request_of(lab);
    struct point_result result = {0};
    g_autofree char *life = life_of(lab);
    GError *error = NULL;

    /* It has no agent that could answer. */
    leave_frozen_journal(lab, life);
    unit_fails(snapshot_take_point(&request, &result, &error), error, ERROR_HYPERVISOR,
               "virsh domfsthaw thaw");
    leave_frozen_journal(lab, "another boot/1");
    AUTO(manifest) manifest = take_point(lab);

    assert_nothing_is_left(lab);
}
END_TEST

/* --- killed in the middle -------------------------------------------------------------------- */

START_TEST(the_next_point_after_a_kill_goes_on_from_the_last_committed_one)
{
    AUTO(lab) lab = lab_new("resumes", "qcow2");

    guest_io(lab, 0, "write -P 1 0 8M");
    AUTO(manifest) before = take_true_point(lab);

    guest_io(lab, 0, "write -P 2 1M 4M");
    take_point_and_die(&lab);
    ck_assert_uint_eq(count_checkpoints(lab), 2);
    guest_io(lab, 0, "write -P 3 2M 1M");
    AUTO(manifest) after = take_true_point(lab);

    ck_assert_str_eq(after->base, before->point);
    ck_assert_uint_eq(manifest_changed_bytes(after), 4 << 20);
    assert_point_is_true(lab, before->point);
    assert_nothing_is_left(lab);
    ck_assert_uint_eq(count_checkpoints(lab), 1);
}
END_TEST

START_TEST(a_first_point_that_was_killed_leaves_nothing)
{
    AUTO(lab) lab = lab_new("first", "qcow2");

    guest_io(lab, 0, "write -P 1 0 8M");
    take_point_and_die(&lab);
    AUTO(manifest) manifest = take_true_point(lab);

    ck_assert_ptr_null(manifest->base);
    assert_nothing_is_left(lab);
    ck_assert_uint_eq(count_checkpoints(lab), 1);
}
END_TEST

int main(void)
{
    become_ordinary_user();
    return SESSION_RUN("capture", a_chain_is_identical_to_the_source_at_every_point,
                       stores_explicit_zeros_only_where_something_was,
                       a_guest_without_agent_gives_a_crash_consistent_point_unless_more_is_required,
                       a_guest_that_was_started_anew_is_not_waited_for_to_thaw,
                       a_point_that_stands_on_another_vms_is_built_upon_while_that_is_there,
                       a_store_that_points_were_copied_to_can_be_a_destination,
                       a_backup_of_somebody_else_is_left_alone, a_vm_that_migrates_is_left_alone,
                       a_job_that_somebody_ended_gives_no_point,
                       a_vm_that_goes_off_meanwhile_gives_no_point_and_the_next_goes_on,
                       qemu_that_is_killed_meanwhile_costs_reading,
                       the_next_point_after_a_kill_goes_on_from_the_last_committed_one,
                       a_first_point_that_was_killed_leaves_nothing);
}
