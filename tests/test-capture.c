/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery points of real QEMU guests by a real libvirtd into a real store; qemu-img is the oracle.
 * The guests have no system: what they would write, qemu-io writes through their virtio disk.
 */
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "replicator/replicator.h"
#include "snapshot/snapshot.h"
#include "tests/session.h"

/* No multiple of a cluster; two sectors into the last one. */
#define VDA_BYTES ((UINT64_C(24) << 20) + 1024)
#define VDB_BYTES (UINT64_C(4) << 20)

/* --- a site with one guest ------------------------------------------------------------------- */

struct lab {
    struct host *host;
    struct domain *domain;
    struct catalog *catalog;
    struct store *store;
    char *store_path, *run_dir, *scratch_dir, *truth_dir;
    struct progress *progress;
    enum quiesce quiesce;
};

static char *disk_path(const char *name, const char *target)
{
    g_autofree char *file = g_strdup_printf("%s.%s", name, target);

    return image_path(file);
}

static void make_disk(const char *name, const char *target, const char *format, uint64_t bytes)
{
    g_autofree char *path = disk_path(name, target);
    g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, bytes);

    RUN("qemu-img", "create", "-q", "-f", format, path, size);
}

static char *capture_disk_xml(const char *name, const char *target, const char *format)
{
    g_autofree char *path = disk_path(name, target);

    return g_strdup_printf(
        "<disk type='file' device='disk'><driver name='qemu' type='%s' discard='unmap'/>"
        "<source file='%s'/><target dev='%s' bus='virtio'/></disk>",
        format, path, target);
}

static struct domain *define_capture_guest(struct host *host, const char *name,
                                           const char *vdb_format)
{
    g_autofree char *vda = capture_disk_xml(name, "vda", "qcow2");
    g_autofree char *vdb = capture_disk_xml(name, "vdb", vdb_format);
    g_autofree char *xml = g_strdup_printf(
        "<domain type='qemu'><name>%s</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>%s%s"
        "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>"
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
        "<controller type='usb' model='none'/><memballoon model='none'/></devices></domain>",
        name, vda, vdb);
    g_autoptr(GError) error = NULL;
    struct domain *domain = host_define(host, xml, &error);

    unit_ok(domain != NULL, error);
    return domain;
}

static struct lab *lab_new(const char *name, const char *vdb_format)
{
    g_autoptr(GError) error = NULL;
    struct lab *lab = g_new0(struct lab, 1);
    g_autofree char *dir = g_build_filename(session_dir, name, NULL);

    lab->store_path = g_build_filename(dir, "store", NULL);
    lab->run_dir = g_build_filename(dir, "run", NULL);
    lab->scratch_dir = g_build_filename(dir, "scratch", NULL);
    lab->truth_dir = g_build_filename(dir, "truth", NULL);
    unit_ok(dir_make(lab->truth_dir, 0700, &error), error);
    unit_ok(store_create(lab->store_path, "dr1", &error), error);
    lab->catalog = catalog_open(lab->store_path, &error);
    unit_ok(lab->catalog != NULL, error);
    lab->store = store_open_local(lab->store_path, lab->catalog, &snapshot_point_ops, &error);
    unit_ok(lab->store != NULL, error);
    lab->host = session_open();
    make_disk(name, "vda", "qcow2", VDA_BYTES);
    make_disk(name, "vdb", vdb_format, VDB_BYTES);
    lab->domain = define_capture_guest(lab->host, name, vdb_format);
    VIRSH("start", "--paused", name);
    return lab;
}

static void lab_free(struct lab *lab)
{
    store_free(lab->store);
    catalog_free(lab->catalog);
    domain_free(lab->domain);
    host_free(lab->host);
    g_free(lab->store_path);
    g_free(lab->run_dir);
    g_free(lab->scratch_dir);
    g_free(lab->truth_dir);
    g_free(lab);
}
DEFINE_CLEANUP(lab)

/* What the guest does to disk NUMBER (0: vda): a command of qemu-io. */
static void guest_io(const struct lab *lab, unsigned number, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
static void guest_io(const struct lab *lab, unsigned number, const char *format, ...)
{
    va_list args;
    g_autofree char *hmp = NULL;
    g_autofree char *command = NULL;
    g_autofree char *output = NULL;

    va_start(args, format);
    command = g_strdup_vprintf(format, args);
    va_end(args);
    hmp = g_strdup_printf("qemu-io -d /machine/peripheral/virtio-disk%u/virtio-backend \"%s\"",
                          number, command);
    output = run((const char *const[]){"virsh", "-c", session_uri, "qemu-monitor-command",
                                       domain_name(lab->domain), "--hmp", hmp, NULL});
    ck_assert_msg(!strstr(output, "rror") && !strstr(output, "failed"), "%s: %s", hmp, output);
}

/* --- points and their truth ------------------------------------------------------------------ */

static struct point_request request_of(const struct lab *lab)
{
    return (struct point_request){
        .domain = lab->domain,
        .destination = lab->store,
        .catalog = lab->catalog,
        .site = "dc1",
        .run_dir = lab->run_dir,
        .scratch_dir = lab->scratch_dir,
        .quiesce = lab->quiesce,
        .quiesce_timeout_s = 1,
        .compression = 1,
        .progress = lab->progress,
    };
}

static char *truth_path(const struct lab *lab, const char *point, const char *target)
{
    return g_strdup_printf("%s/%s.%s.raw", lab->truth_dir, point, target);
}

/* The content of the disks as the guest sees it now, which is that of POINT. */
static void keep_truth(const struct lab *lab, const char *point, const char *vdb_format)
{
    for (unsigned i = 0; i < 2; i++) {
        const char *target = i ? "vdb" : "vda";
        g_autofree char *disk = disk_path(domain_name(lab->domain), target);
        g_autofree char *truth = truth_path(lab, point, target);

        guest_io(lab, i, "flush");
        RUN("qemu-img", "convert", "-U", "-f", i ? vdb_format : "qcow2", "-O", "raw", disk, truth);
    }
}

static void assert_point_is_true(const struct lab *lab, const char *point)
{
    const char *uuid = domain_uuid(lab->domain);
    g_autofree char *dir = store_point_dir(lab->store_path, uuid, point);

    for (unsigned i = 0; i < 2; i++) {
        const char *target = i ? "vdb" : "vda";
        g_autofree char *image = g_strdup_printf("%s/%s.qcow2", dir, target);
        g_autofree char *truth = truth_path(lab, point, target);

        RUN("qemu-img", "check", "-q", image);
        RUN("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", image, truth);
    }
}

static struct manifest *take_point(const struct lab *lab)
{
    struct point_request request = request_of(lab);
    struct point_result result = {0};
    g_autoptr(GError) error = NULL;

    unit_ok(snapshot_take_point(&request, &result, &error), error);
    return g_steal_pointer(&result.manifest);
}

static struct manifest *take_true_point(const struct lab *lab, const char *vdb_format)
{
    struct manifest *manifest = take_point(lab);

    keep_truth(lab, manifest->point, vdb_format);
    assert_point_is_true(lab, manifest->point);
    return manifest;
}

static unsigned count_checkpoints(const struct lab *lab)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) names = domain_checkpoints(lab->domain, &error);

    unit_ok(names != NULL, error);
    return g_strv_length(names);
}

static void assert_nothing_is_left(const struct lab *lab)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *job = NULL;
    g_auto(GStrv) scratch = dir_list(lab->scratch_dir, &error);
    json_auto_t *journal = NULL;

    unit_ok(domain_backup_xml(lab->domain, &job, &error), error);
    ck_assert_ptr_null(job);
    ck_assert_uint_eq(g_strv_length(scratch), 0);
    unit_ok(catalog_get(lab->catalog, CATALOG_CAPTURES, domain_uuid(lab->domain), &journal, &error),
            error);
    ck_assert_ptr_null(journal);
}

/* --- tests ----------------------------------------------------------------------------------- */

START_TEST(a_chain_is_identical_to_the_source_at_every_point)
{
    AUTO(lab) lab = lab_new("chain", "qcow2");
    g_autoptr(GPtrArray) points = g_ptr_array_new_with_free_func((GDestroyNotify)manifest_free);

    guest_io(lab, 0, "write -P 17 0 12M");
    guest_io(lab, 1, "write -P 34 0 1M");
    g_ptr_array_add(points, take_true_point(lab, "qcow2"));
    /* Zeros written, discarded, and zeroed without allocation, over data of the point before. */
    guest_io(lab, 0, "write -z 1M 1M");
    guest_io(lab, 0, "discard 2M 1M");
    guest_io(lab, 0, "write -z -u 3M 1M");
    guest_io(lab, 0, "write -P 0 4M 1M");
    g_ptr_array_add(points, take_true_point(lab, "qcow2"));
    /* Parts of clusters, the short last cluster, and data over zeros. */
    guest_io(lab, 0, "write -P 51 5000k 512");
    guest_io(lab, 0, "write -P 52 %" G_GUINT64_FORMAT " 512", VDA_BYTES - 512);
    guest_io(lab, 0, "write -P 53 2100k 3k");
    guest_io(lab, 1, "write -P 54 2M 128k");
    g_ptr_array_add(points, take_true_point(lab, "qcow2"));
    /* Nothing at all. */
    g_ptr_array_add(points, take_true_point(lab, "qcow2"));
    guest_io(lab, 0, "discard 0 24M");
    g_ptr_array_add(points, take_true_point(lab, "qcow2"));
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
    AUTO(manifest) full = take_true_point(lab, "qcow2");

    guest_io(lab, 0, "write -z 0 1M");
    AUTO(manifest) delta = take_true_point(lab, "qcow2");

    ck_assert_uint_eq(manifest_changed_bytes(full), 2 << 20);
    ck_assert_uint_eq(manifest_changed_bytes(delta), 1 << 20);
    /* Zero clusters cost no data: header, one L2 table, L1, refcounts. */
    ck_assert_uint_le(manifest_disk(delta, "vda")->stored_bytes, 5 << 16);
}
END_TEST

START_TEST(a_raw_disk_is_read_in_full_beside_an_increment)
{
    AUTO(lab) lab = lab_new("raw", "raw");

    guest_io(lab, 0, "write -P 1 0 1M");
    guest_io(lab, 1, "write -P 2 0 1M");
    AUTO(manifest) first = take_true_point(lab, "raw");

    guest_io(lab, 0, "write -P 3 0 64k");
    guest_io(lab, 1, "write -z 0 512k");
    AUTO(manifest) second = take_true_point(lab, "raw");

    assert_point_is_true(lab, first->point);
    ck_assert_str_eq(manifest_disk(second, "vda")->base, first->point);
    ck_assert_ptr_null(manifest_disk(second, "vdb")->base);
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

START_TEST(a_killed_vm_costs_a_full_read_not_the_point)
{
    AUTO(lab) lab = lab_new("killed", "qcow2");
    g_autofree char *pid_file =
        g_build_filename(session_dir, "run/libvirt/qemu/run/killed.pid", NULL);
    g_autofree char *pid = NULL;

    guest_io(lab, 0, "write -P 1 0 1M");
    AUTO(manifest) before = take_true_point(lab, "qcow2");

    unit_ok(file_read(pid_file, 32, &pid, NULL, NULL), (GError *)NULL);
    kill((pid_t)g_ascii_strtoll(pid, NULL, 10), SIGKILL);
    for (int64_t until = time_monotonic_ms() + 20000; time_monotonic_ms() < until;
         g_usleep(20000)) {
        enum domain_state state = DOMAIN_RUNNING;

        domain_state(lab->domain, &state, NULL);
        if (state == DOMAIN_OFF || state == DOMAIN_CRASHED)
            break;
    }
    VIRSH("start", "--paused", "killed");
    guest_io(lab, 0, "write -P 2 64k 64k");
    AUTO(manifest) after = take_true_point(lab, "qcow2");

    ck_assert_ptr_null(after->base);
    guest_io(lab, 0, "write -P 3 128k 64k");
    AUTO(manifest) next = take_true_point(lab, "qcow2");

    ck_assert_str_eq(next->base, after->point);
    assert_point_is_true(lab, before->point);
    ck_assert_uint_eq(count_checkpoints(lab), 1);
}
END_TEST

/* Both have a bitmap of the same name, so neither libvirt nor QEMU can tell. */
START_TEST(disks_whose_images_changed_places_are_read_in_full)
{
    AUTO(lab) lab = lab_new("swapped", "qcow2");
    g_autofree char *vda = disk_path("swapped", "vda");
    g_autofree char *vdb = disk_path("swapped", "vdb");
    g_autofree char *other = disk_path("swapped", "other");

    guest_io(lab, 0, "write -P 1 0 1M");
    guest_io(lab, 1, "write -P 2 0 1M");
    AUTO(manifest) before = take_true_point(lab, "qcow2");

    VIRSH("destroy", "swapped");
    ck_assert_int_eq(rename(vda, other), 0);
    ck_assert_int_eq(rename(vdb, vda), 0);
    ck_assert_int_eq(rename(other, vdb), 0);
    VIRSH("start", "--paused", "swapped");
    AUTO(manifest) after = take_true_point(lab, "qcow2");

    ck_assert_ptr_null(after->base);
    guest_io(lab, 0, "write -P 3 0 64k");
    AUTO(manifest) next = take_true_point(lab, "qcow2");

    ck_assert_str_eq(next->base, after->point);
    assert_point_is_true(lab, before->point);
}
END_TEST

START_TEST(nothing_is_built_upon_a_point_that_lacks_its_base)
{
    AUTO(lab) lab = lab_new("baseless", "qcow2");
    g_autoptr(GError) error = NULL;

    guest_io(lab, 0, "write -P 1 0 1M");
    AUTO(manifest) full = take_true_point(lab, "qcow2");
    guest_io(lab, 0, "write -P 2 0 64k");
    AUTO(manifest) delta = take_true_point(lab, "qcow2");
    g_autofree char *dir = store_point_dir(lab->store_path, full->uuid, full->point);

    ck_assert_str_eq(delta->base, full->point);
    unit_ok(tree_remove(dir, &error), error);
    AUTO(manifest) after = take_true_point(lab, "qcow2");

    ck_assert_ptr_null(after->base);
    ck_assert_uint_eq(count_checkpoints(lab), 1);
}
END_TEST

START_TEST(a_vm_that_is_off_is_refused_with_the_way_out)
{
    AUTO(lab) lab = lab_new("off", "qcow2");
    struct point_request request = request_of(lab);
    struct point_result result = {0};
    GError *error = NULL;

    VIRSH("destroy", "off");
    unit_fails(snapshot_take_point(&request, &result, &error), error, ERROR_CONFLICT,
               "virsh start off");
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
               "another program is backing up");
    unit_ok(domain_backup_xml(lab->domain, &job, &error), error);
    ck_assert_ptr_nonnull(job);
    unit_ok(domain_backup_end(lab->domain, &error), error);
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

static void kill_myself(struct progress *progress, const char *subject, uint64_t done,
                        uint64_t total)
{
    raise(SIGKILL);
}

static void say_nothing(struct progress *progress, const char *text)
{
}

/* Run the guest's capture in a process that is killed when the first data has been composed. */
static void take_point_and_die(const char *name)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        struct progress deadly = {.note = say_nothing, .bytes = kill_myself};
        struct lab lab = {.progress = &deadly};
        struct point_result result = {0};
        struct point_request request;
        g_autofree char *dir = g_build_filename(session_dir, name, NULL);

        lab.store_path = g_build_filename(dir, "store", NULL);
        lab.run_dir = g_build_filename(dir, "run", NULL);
        lab.scratch_dir = g_build_filename(dir, "scratch", NULL);
        lab.catalog = catalog_open(lab.store_path, NULL);
        lab.store = store_open_local(lab.store_path, lab.catalog, &snapshot_point_ops, NULL);
        lab.host = host_open(session_uri, NULL);
        lab.domain = host_domain(lab.host, name, NULL);
        request = request_of(&lab);
        snapshot_take_point(&request, &result, NULL);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFSIGNALED(status), "the capture ended before it was killed");
}

START_TEST(the_next_point_after_a_kill_goes_on_from_the_last_committed_one)
{
    AUTO(lab) lab = lab_new("resumes", "qcow2");

    guest_io(lab, 0, "write -P 1 0 8M");
    AUTO(manifest) before = take_true_point(lab, "qcow2");

    guest_io(lab, 0, "write -P 2 1M 4M");
    /* LMDB: one environment per process; the child opens its own. */
    take_point_and_die("resumes");
    ck_assert_uint_eq(count_checkpoints(lab), 2);
    guest_io(lab, 0, "write -P 3 2M 1M");
    AUTO(manifest) after = take_true_point(lab, "qcow2");

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
    take_point_and_die("first");
    AUTO(manifest) manifest = take_true_point(lab, "qcow2");

    ck_assert_ptr_null(manifest->base);
    assert_nothing_is_left(lab);
    ck_assert_uint_eq(count_checkpoints(lab), 1);
}
END_TEST

/* Root's libvirtd is the system daemon: as root these tests run as nobody. */
static void become_ordinary_user(void)
{
    struct passwd *nobody = geteuid() == 0 ? getpwnam("nobody") : NULL;

    if (nobody &&
        (setgroups(0, NULL) < 0 || setgid(nobody->pw_gid) < 0 || setuid(nobody->pw_uid) < 0))
        g_error("cannot become nobody");
}

int main(void)
{
    become_ordinary_user();
    return SESSION_RUN("capture", a_chain_is_identical_to_the_source_at_every_point,
                       stores_explicit_zeros_only_where_something_was,
                       a_raw_disk_is_read_in_full_beside_an_increment,
                       a_guest_without_agent_gives_a_crash_consistent_point_unless_more_is_required,
                       a_killed_vm_costs_a_full_read_not_the_point,
                       a_guest_that_was_started_anew_is_not_waited_for_to_thaw,
                       disks_whose_images_changed_places_are_read_in_full,
                       nothing_is_built_upon_a_point_that_lacks_its_base,
                       a_vm_that_is_off_is_refused_with_the_way_out,
                       a_backup_of_somebody_else_is_left_alone,
                       the_next_point_after_a_kill_goes_on_from_the_last_committed_one,
                       a_first_point_that_was_killed_leaves_nothing);
}
