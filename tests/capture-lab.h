/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A site with one real guest, and recovery points of it by a real libvirtd into a real store; qemu-img
 * is the oracle. The guest has no system: what it would write, qemu-io writes through its virtio disk.
 */
#pragma once

#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <sys/wait.h>

#include "replicator/replicator.h"
#include "snapshot/snapshot.h"
#include "tests/session.h"

/* No multiple of a cluster; two sectors into the last one. */
#define VDA_BYTES ((UINT64_C(24) << 20) + 1024)
#define VDB_BYTES (UINT64_C(4) << 20)

/* --- a site with one guest ------------------------------------------------------------------- */

struct lab_disk {
    char target[8], format[8];
    char *path;
};

struct lab {
    struct host *host;
    struct domain *domain;
    struct catalog *catalog;
    struct store *store;
    char *store_path, *run_dir, *scratch_dir, *truth_dir;
    struct lab_disk disks[4]; /* those that belong into a point */
    unsigned n_disks;
    struct progress *progress;
    enum quiesce quiesce;
};

G_GNUC_UNUSED static char *disk_path(const char *name, const char *target)
{
    g_autofree char *file = g_strdup_printf("%s.%s", name, target);

    return image_path(file);
}

/* A disk that belongs into points from now on. */
G_GNUC_UNUSED static struct lab_disk *add_disk(struct lab *lab, const char *name,
                                               const char *target, const char *format)
{
    struct lab_disk *disk = &lab->disks[lab->n_disks++];

    g_strlcpy(disk->target, target, sizeof disk->target);
    g_strlcpy(disk->format, format, sizeof disk->format);
    disk->path = disk_path(name, target);
    return disk;
}

G_GNUC_UNUSED static char *capture_disk_xml(const char *name, const char *target,
                                            const char *format)
{
    g_autofree char *path = disk_path(name, target);

    return g_strdup_printf(
        "<disk type='file' device='disk'><driver name='qemu' type='%s' discard='unmap'/>"
        "<source file='%s'/><target dev='%s' bus='virtio'/></disk>",
        format, path, target);
}

G_GNUC_UNUSED static struct domain *define_capture_guest(struct host *host, const char *name,
                                                         const char *vdb_format)
{
    g_autofree char *vda = capture_disk_xml(name, "vda", "qcow2");
    g_autofree char *vdb = capture_disk_xml(name, "vdb", vdb_format);
    g_autofree char *xml = g_strdup_printf(
        "<domain type='qemu'><name>%s</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>"
        "<devices>%s%s"
        "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>"
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
        "<controller type='usb' model='none'/><memballoon model='none'/></devices></domain>",
        name, vda, vdb);
    g_autoptr(GError) error = NULL;
    struct domain *domain = host_define(host, xml, &error);

    unit_ok(domain != NULL, error);
    return domain;
}

/* The site of guest NAME, which exists, as a process sees it that starts now. */
G_GNUC_UNUSED static struct lab *lab_open(const char *name, const char *vdb_format)
{
    g_autoptr(GError) error = NULL;
    struct lab *lab = g_new0(struct lab, 1);
    g_autofree char *dir = g_build_filename(session_dir, name, NULL);

    lab->store_path = g_build_filename(dir, "store", NULL);
    lab->run_dir = g_build_filename(dir, "run", NULL);
    lab->scratch_dir = g_build_filename(dir, "scratch", NULL);
    lab->truth_dir = g_build_filename(dir, "truth", NULL);
    lab->catalog = catalog_open(lab->store_path, &error);
    unit_ok(lab->catalog != NULL, error);
    lab->store = store_open_local(lab->store_path, lab->catalog, &snapshot_point_ops, &error);
    unit_ok(lab->store != NULL, error);
    lab->host = session_open();
    lab->domain = host_domain(lab->host, name, &error);
    unit_ok(lab->domain != NULL, error);
    add_disk(lab, name, "vda", "qcow2");
    add_disk(lab, name, "vdb", vdb_format);
    return lab;
}

G_GNUC_UNUSED static void make_image(const char *name, const char *target, const char *format,
                                     uint64_t bytes)
{
    g_autofree char *path = disk_path(name, target);
    g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, bytes);

    RUN("qemu-img", "create", "-q", "-f", format, path, size);
}

G_GNUC_UNUSED static struct lab *lab_new(const char *name, const char *vdb_format)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *store = g_build_filename(session_dir, name, "store", NULL);
    g_autofree char *truth = g_build_filename(session_dir, name, "truth", NULL);
    AUTO(host) host = session_open();

    unit_ok(dir_make(truth, 0700, &error), error);
    unit_ok(store_create(store, "dr1", &error), error);
    make_image(name, "vda", "qcow2", VDA_BYTES);
    make_image(name, "vdb", vdb_format, VDB_BYTES);
    domain_free(define_capture_guest(host, name, vdb_format));
    VIRSH("start", "--paused", name);
    return lab_open(name, vdb_format);
}

/* One more disk of the guest, empty. */
G_GNUC_UNUSED static void make_disk(struct lab *lab, const char *name, const char *target,
                                    const char *format, uint64_t bytes)
{
    make_image(name, target, format, bytes);
    add_disk(lab, name, target, format);
}

G_GNUC_UNUSED static void lab_free(struct lab *lab)
{
    store_free(lab->store);
    catalog_free(lab->catalog);
    domain_free(lab->domain);
    host_free(lab->host);
    g_free(lab->store_path);
    g_free(lab->run_dir);
    g_free(lab->scratch_dir);
    g_free(lab->truth_dir);
    for (unsigned i = 0; i < lab->n_disks; i++)
        g_free(lab->disks[i].path);
    g_free(lab);
}
DEFINE_CLEANUP(lab)

/* What the guest does to disk NUMBER (0: vda): a command of qemu-io. */
G_GNUC_UNUSED static void guest_io(const struct lab *lab, unsigned number, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
G_GNUC_UNUSED static void guest_io(const struct lab *lab, unsigned number, const char *format, ...)
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

/* What QEMU calls disk NUMBER; g_free. */
G_GNUC_UNUSED static inline char *disk_node(const struct lab *lab, unsigned number)
{
    g_autofree char *text =
        VIRSH_OUTPUT("qemu-monitor-command", domain_name(lab->domain), "--hmp", "info block");
    g_autofree char *file = g_strdup_printf(": %s (", lab->disks[number].path);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    char **line = lines;

    while (*line && !strstr(*line, file))
        line++;
    ck_assert_msg(*line != NULL, "%s is not open", file);
    return g_strndup(*line, strcspn(*line, ":"));
}

/* Behind libvirt's back. */
G_GNUC_UNUSED static inline void lose_bitmap(const struct lab *lab, unsigned number,
                                             const char *bitmap)
{
    g_autofree char *node = disk_node(lab, number);
    g_autofree char *command = g_strdup_printf("{\"execute\":\"block-dirty-bitmap-remove\","
                                               "\"arguments\":{\"node\":\"%s\",\"name\":\"%s\"}}",
                                               node, bitmap);

    VIRSH("qemu-monitor-command", domain_name(lab->domain), command);
}

/* As a crash of QEMU, or of its host. */
G_GNUC_UNUSED static void kill_qemu(const struct lab *lab)
{
    g_autofree char *file =
        g_strdup_printf("%s/run/libvirt/qemu/run/%s.pid", session_dir, domain_name(lab->domain));
    g_autofree char *pid = NULL;

    unit_ok(file_read(file, 32, &pid, NULL, NULL), (GError *)NULL);
    kill((pid_t)g_ascii_strtoll(pid, NULL, 10), SIGKILL);
    for (int64_t until = time_monotonic_ms() + UNIT_PATIENCE_MS; time_monotonic_ms() < until;
         g_usleep(20000)) {
        enum domain_state state = state_of(lab->domain);

        if (state == DOMAIN_OFF || state == DOMAIN_CRASHED)
            break;
    }
}

G_GNUC_UNUSED static inline void power_off(const struct lab *lab)
{
    VIRSH("destroy", domain_name(lab->domain));
}

/* --- points and their truth ------------------------------------------------------------------ */

G_GNUC_UNUSED static struct point_request request_of(const struct lab *lab)
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

G_GNUC_UNUSED static char *truth_path(const struct lab *lab, const char *point, const char *target)
{
    return g_strdup_printf("%s/%s.%s.raw", lab->truth_dir, point, target);
}

/* The content of the disks as the guest sees it now, which is that of POINT. */
G_GNUC_UNUSED static void keep_truth(const struct lab *lab, const char *point)
{
    for (unsigned i = 0; i < lab->n_disks; i++) {
        const struct lab_disk *disk = &lab->disks[i];
        g_autofree char *truth = truth_path(lab, point, disk->target);

        if (state_of(lab->domain) != DOMAIN_OFF)
            guest_io(lab, i, "flush");
        RUN("qemu-img", "convert", "-U", "-f", disk->format, "-O", "raw", disk->path, truth);
    }
}

/* The disks that were there then have the content that they had then. */
G_GNUC_UNUSED static void assert_point_is_true(const struct lab *lab, const char *point)
{
    g_autofree char *dir = store_point_dir(lab->store_path, domain_uuid(lab->domain), point);

    for (unsigned i = 0; i < lab->n_disks; i++) {
        g_autofree char *image = g_strdup_printf("%s/%s.qcow2", dir, lab->disks[i].target);
        g_autofree char *truth = truth_path(lab, point, lab->disks[i].target);

        if (!g_file_test(truth, G_FILE_TEST_EXISTS))
            continue;
        RUN("qemu-img", "check", "-q", image);
        RUN("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", image, truth);
    }
}

G_GNUC_UNUSED static struct manifest *take_point(const struct lab *lab)
{
    struct point_request request = request_of(lab);
    struct point_result result = {0};
    g_autoptr(GError) error = NULL;

    unit_ok(snapshot_take_point(&request, &result, &error), error);
    g_clear_pointer(&result.disks, g_ptr_array_unref);
    return g_steal_pointer(&result.manifest);
}

G_GNUC_UNUSED static struct manifest *take_true_point(const struct lab *lab)
{
    struct manifest *manifest = take_point(lab);

    keep_truth(lab, manifest->point);
    assert_point_is_true(lab, manifest->point);
    return manifest;
}

G_GNUC_UNUSED static unsigned count_checkpoints(const struct lab *lab)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) names = domain_checkpoints(lab->domain, &error);

    unit_ok(names != NULL, error);
    return g_strv_length(names);
}

G_GNUC_UNUSED static void assert_nothing_is_left(const struct lab *lab)
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

G_GNUC_UNUSED static inline void say_nothing(struct progress *progress, const char *text)
{
}

G_GNUC_UNUSED static inline void kill_myself(struct progress *progress, const char *subject,
                                             uint64_t done, uint64_t total)
{
    raise(SIGKILL);
}

/* Take a point in a process that is killed when the first data has been composed. LAB is opened
 * anew: neither LMDB nor libvirt's connection goes across fork(). */
G_GNUC_UNUSED static inline void take_point_and_die(struct lab **lab)
{
    g_autofree char *name = g_strdup(domain_name((*lab)->domain));
    pid_t pid;
    int status;

    g_clear_pointer(lab, lab_free);
    pid = fork();
    if (pid == 0) {
        struct progress deadly = {.note = say_nothing, .bytes = kill_myself};
        struct point_result result = {0};
        struct point_request request;

        *lab = lab_open(name, "qcow2");
        (*lab)->progress = &deadly;
        request = request_of(*lab);
        snapshot_take_point(&request, &result, NULL);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFSIGNALED(status), "the capture ended before it was killed");
    *lab = lab_open(name, "qcow2");
}

/* Root's libvirtd is the system daemon: as root these tests run as nobody. */
G_GNUC_UNUSED static void become_ordinary_user(void)
{
    struct passwd *nobody = geteuid() == 0 ? getpwnam("nobody") : NULL;

    if (nobody &&
        (setgroups(0, NULL) < 0 || setgid(nobody->pw_gid) < 0 || setuid(nobody->pw_uid) < 0))
        g_error("cannot become nobody");
}
