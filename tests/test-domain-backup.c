/* SPDX-License-Identifier: Apache-2.0 */
/* Backup jobs and checkpoints of host.h, against a real libvirtd and QEMU. */
#include "tests/session.h"

/* A pull backup of both disks of guest NAME, vda incremental since SINCE unless NULL; g_free. */
static char *backup_xml(const char *name, const char *since)
{
    g_autofree char *incremental =
        since ? g_strdup_printf(" backupmode='incremental' incremental='%s'", since)
              : g_strdup(" backupmode='full'");

    return g_strdup_printf(
        "<domainbackup mode='pull'><server transport='unix' socket='%s/images/%s.sock'/><disks>"
        "<disk name='vda' backup='yes' type='file'%s exportname='vda'><driver type='qcow2'/>"
        "<scratch file='%s/images/%s.vda.scratch'/></disk>"
        "<disk name='vdb' backup='yes' type='file' backupmode='full' exportname='vdb'>"
        "<driver type='qcow2'/><scratch file='%s/images/%s.vdb.scratch'/></disk>"
        "</disks></domainbackup>",
        session_dir, name, incremental, session_dir, name, session_dir, name);
}

static char *checkpoint_xml(const char *checkpoint)
{
    return g_strdup_printf("<domaincheckpoint><name>%s</name><disks>"
                           "<disk name='vda' checkpoint='bitmap'/>"
                           "<disk name='vdb' checkpoint='bitmap'/></disks></domaincheckpoint>",
                           checkpoint);
}

/* Begin and end a backup, which leaves CHECKPOINT. */
static bool take(struct domain *domain, const char *since, const char *checkpoint, GError **error)
{
    g_autofree char *backup = backup_xml(domain_name(domain), since);
    g_autofree char *wanted = checkpoint_xml(checkpoint);

    return domain_backup_begin(domain, backup, wanted, error) && domain_backup_end(domain, error);
}

/* Remove a bitmap of a running guest behind libvirt's back, as a replaced disk would. */
static void lose_bitmap(struct domain *domain, const char *node, const char *bitmap)
{
    g_autofree char *command = g_strdup_printf("{\"execute\":\"block-dirty-bitmap-remove\","
                                               "\"arguments\":{\"node\":\"%s\",\"name\":\"%s\"}}",
                                               node, bitmap);

    VIRSH("qemu-monitor-command", domain_name(domain), command);
}

static unsigned bitmaps_in_qemu(struct domain *domain, const char *bitmap)
{
    g_autofree char *text =
        VIRSH_OUTPUT("qemu-monitor-command", domain_name(domain),
                     "{\"execute\":\"query-named-block-nodes\",\"arguments\":{\"flat\":true}}");
    g_autofree char *quoted = g_strdup_printf("\"name\":\"%s\"", bitmap);
    g_auto(GStrv) parts = g_strsplit(text, quoted, -1);

    return g_strv_length(parts) - 1;
}

static void assert_checkpoints(struct domain *domain, const char *expected)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) names = domain_checkpoints(domain, &error);
    g_autofree char *joined = names ? g_strjoinv(" ", names) : NULL;

    unit_ok(names != NULL, error);
    ck_assert_str_eq(joined, expected);
}

START_TEST(begins_and_ends_a_backup_job)
{
    AUTO(host) host = session_open();
    AUTO(domain) domain = paused_guest(host, "job");
    g_autoptr(GError) error = NULL;
    g_autofree char *backup = backup_xml("job", NULL);
    g_autofree char *scratch = image_path("job.vda.scratch");
    g_autofree char *xml = NULL;
    const char *job = "?";

    unit_ok(domain_job(domain, &job, &error), error);
    ck_assert_ptr_null(job);
    unit_ok(domain_backup_xml(domain, &xml, &error), error);
    ck_assert_ptr_null(xml);
    unit_ok(domain_backup_end(domain, &error), error);
    unit_ok(domain_backup_begin(domain, backup, NULL, &error), error);
    unit_ok(domain_job(domain, &job, &error), error);
    ck_assert_str_eq(job, "backup");
    unit_ok(domain_backup_xml(domain, &xml, &error), error);
    ck_assert_ptr_nonnull(strstr(xml, scratch));
    ck_assert(g_file_test(scratch, G_FILE_TEST_EXISTS));
    unit_ok(domain_backup_end(domain, &error), error);
    ck_assert(!g_file_test(scratch, G_FILE_TEST_EXISTS));
    unit_ok(domain_job(domain, &job, &error), error);
    ck_assert_ptr_null(job);
}
END_TEST

START_TEST(a_job_that_ended_lets_the_next_begin_at_once)
{
    AUTO(host) host = session_open();
    AUTO(domain) domain = paused_guest(host, "again");
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; i < 5; i++) {
        g_autofree char *checkpoint = g_strdup_printf("c%u", i);

        unit_ok(take(domain, NULL, checkpoint, &error), error);
    }
    assert_checkpoints(domain, "c0 c1 c2 c3 c4");
}
END_TEST

START_TEST(a_backup_dies_with_its_guest)
{
    AUTO(host) host = session_open();
    AUTO(domain) domain = paused_guest(host, "dies");
    g_autoptr(GError) error = NULL;
    g_autofree char *backup = backup_xml("dies", NULL);
    const char *job = "?";

    unit_ok(domain_backup_begin(domain, backup, NULL, &error), error);
    unit_ok(domain_destroy(domain, &error), error);
    unit_ok(domain_backup_end(domain, &error), error);
    unit_ok(domain_job(domain, &job, &error), error);
    ck_assert_ptr_null(job);
    unit_fails(domain_backup_begin(domain, backup, NULL, &error), error, ERROR_HYPERVISOR,
               "cannot begin a backup of domain dies at ");
    undefine_guest(domain);
}
END_TEST

static void count_ring(void *context)
{
    g_atomic_int_inc((int *)context);
}

static void wait_for_ring(int *rings)
{
    for (int64_t until = time_monotonic_ms() + UNIT_PATIENCE_MS; g_atomic_int_get(rings) == 0;
         g_usleep(5000))
        ck_assert_msg(time_monotonic_ms() < until, "nothing rang");
}

static void guest_write(const char *name, const char *range)
{
    g_autofree char *hmp = g_strdup_printf(
        "qemu-io -d /machine/peripheral/virtio-disk0/virtio-backend \"write %s\"", range);

    VIRSH("qemu-monitor-command", name, "--hmp", hmp);
}

START_TEST(rings_when_what_the_guest_overwrites_goes_past_a_mark)
{
    AUTO(host) host = session_open();
    AUTO(domain) domain = paused_guest(host, "mark");
    g_autoptr(GError) error = NULL;
    g_autofree char *backup = backup_xml("mark", NULL);
    int rings = 0;

    guest_write("mark", "0 8M");
    unit_fails(domain_scratch_mark(domain, "vda", 1 << 20, &error), error, ERROR_NOT_FOUND,
               "disk vda of domain mark");
    unit_ok(domain_backup_begin(domain, backup, NULL, &error), error);
    AUTO(domain_watch) watch = domain_watch_new(domain, count_ring, &rings, &error);

    unit_ok(watch != NULL, error);
    unit_ok(domain_scratch_mark(domain, "vda", 4 << 20, &error), error);
    guest_write("mark", "0 2M");
    guest_write("mark", "0 8M");
    wait_for_ring(&rings);
    ck_assert_int_eq(g_atomic_int_get(&rings), 1);
    unit_ok(domain_backup_end(domain, &error), error);
}
END_TEST

START_TEST(rings_when_the_guest_stops_and_never_once_the_watch_is_gone)
{
    AUTO(host) host = session_open();
    AUTO(host) other_host = session_open();
    AUTO(domain) domain = paused_guest(host, "stops");
    AUTO(domain) same = host_domain(other_host, "stops", NULL);
    g_autoptr(GError) error = NULL;
    int rings = 0, others = 0;
    struct domain_watch *watch = domain_watch_new(domain, count_ring, &rings, &error);
    AUTO(domain_watch) other = domain_watch_new(same, count_ring, &others, &error);

    unit_ok(watch && other, error);
    unit_ok(domain_resume(domain, &error), error);
    wait_for_ring(&rings);
    wait_for_ring(&others);
    domain_watch_free(watch);
    rings = 0;
    g_atomic_int_set(&others, 0);
    VIRSH("suspend", "stops");
    wait_for_ring(&others);
    ck_assert_int_eq(rings, 0);
}
END_TEST

START_TEST(knows_how_much_of_a_disk_is_allocated)
{
    AUTO(host) host = session_open();
    AUTO(domain) domain = paused_guest(host, "bytes");
    g_autoptr(GError) error = NULL;
    uint64_t capacity, allocation;

    guest_write("bytes", "0 4M");
    unit_ok(domain_disk_bytes(domain, "vda", &capacity, &allocation, &error), error);
    ck_assert_uint_eq(capacity, 16 << 20);
    ck_assert_uint_ge(allocation, 4 << 20);
    ck_assert_uint_le(allocation, 6 << 20);
    unit_fails(domain_disk_bytes(domain, "vdz", &capacity, &allocation, &error), error,
               ERROR_HYPERVISOR, "cannot read the size of disk vdz of domain bytes");
}
END_TEST

START_TEST(tells_the_dirty_bytes_since_a_checkpoint)
{
    AUTO(host) host = session_open();
    AUTO(domain) domain = paused_guest(host, "dirty");
    g_autoptr(GError) error = NULL;
    g_autofree char *plain = NULL;
    g_autofree char *sized = NULL;

    unit_ok(take(domain, NULL, "old", &error), error);
    guest_write("dirty", "0 100k");
    unit_ok(take(domain, "old", "new", &error), error);
    plain = domain_checkpoint_xml(domain, "old", false, &error);
    sized = domain_checkpoint_xml(domain, "old", true, &error);
    ck_assert_ptr_nonnull(plain);
    ck_assert_ptr_null(strstr(plain, "size="));
    ck_assert_ptr_nonnull(strstr(sized, "<disk name='vda' checkpoint='bitmap' bitmap='old' "
                                        "size='131072'/>"));
    unit_fails(domain_checkpoint_xml(domain, "none", false, &error), error, ERROR_NOT_FOUND,
               "checkpoint none of domain dirty");
}
END_TEST

START_TEST(a_lost_checkpoint_or_bitmap_is_an_error_of_its_own)
{
    AUTO(host) host = session_open();
    AUTO(domain) domain = paused_guest(host, "lost");
    g_autoptr(GError) error = NULL;

    unit_fails(take(domain, "never", "c1", &error), error, ERROR_INTEGRITY, "never");
    unit_ok(take(domain, NULL, "c2", &error), error);
    lose_bitmap(domain, "libvirt-2-format", "c2");
    unit_fails(take(domain, "c2", "c3", &error), error, ERROR_INTEGRITY,
               "cannot begin an incremental backup of domain lost at ");
    unit_fails(take(domain, NULL, "c2", &error), error, ERROR_HYPERVISOR, "already exists");
    unit_ok(take(domain, NULL, "c4", &error), error);
}
END_TEST

START_TEST(a_forgotten_checkpoint_is_redefined_if_its_bitmaps_are_good)
{
    AUTO(host) host = session_open();
    AUTO(domain) domain = paused_guest(host, "forgotten");
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = NULL;

    unit_ok(take(domain, NULL, "c1", &error), error);
    xml = domain_checkpoint_xml(domain, "c1", false, &error);
    unit_ok(xml != NULL, error);
    VIRSH("checkpoint-delete", "--metadata", "forgotten", "c1");
    unit_ok(domain_checkpoint_redefine(domain, xml, &error), error);
    unit_ok(take(domain, "c1", "c2", &error), error);
    VIRSH("checkpoint-delete", "--metadata", "forgotten", "c2");
    VIRSH("checkpoint-delete", "--metadata", "forgotten", "c1");
    lose_bitmap(domain, "libvirt-2-format", "c1");
    unit_fails(domain_checkpoint_redefine(domain, xml, &error), error, ERROR_INTEGRITY,
               "cannot redefine a checkpoint of domain forgotten");
}
END_TEST

START_TEST(a_begin_that_failed_may_leave_its_checkpoint)
{
    AUTO(host) host = session_open();
    AUTO(domain) domain = paused_guest(host, "half");
    g_autoptr(GError) error = NULL;
    g_autofree char *good = backup_xml("half", NULL);
    g_auto(GStrv) parts = g_strsplit(good, "exportname='vdb'", 2);
    g_autofree char *backup = g_strjoinv("exportname='vda'", parts);
    g_autofree char *checkpoint = checkpoint_xml("left");

    unit_fails(domain_backup_begin(domain, backup, checkpoint, &error), error, ERROR_HYPERVISOR,
               "cannot begin a backup of domain half");
    unit_ok(domain_backup_end(domain, &error), error);
    unit_ok(domain_checkpoint_delete(domain, "left", &error), error);
    assert_checkpoints(domain, "");
    ck_assert_uint_eq(bitmaps_in_qemu(domain, "left"), 0);
    unit_ok(take(domain, NULL, "next", &error), error);
}
END_TEST

START_TEST(deletes_a_checkpoint_with_its_bitmaps)
{
    AUTO(host) host = session_open();
    AUTO(domain) domain = paused_guest(host, "deletes");
    g_autoptr(GError) error = NULL;

    unit_ok(take(domain, NULL, "one", &error), error);
    unit_ok(take(domain, "one", "two", &error), error);
    unit_ok(take(domain, "two", "three", &error), error);
    ck_assert_uint_eq(bitmaps_in_qemu(domain, "two"), 2);
    unit_ok(domain_checkpoint_delete(domain, "two", &error), error);
    ck_assert_uint_eq(bitmaps_in_qemu(domain, "two"), 0);
    assert_checkpoints(domain, "one three");
    unit_ok(domain_checkpoint_delete(domain, "two", &error), error);
    unit_ok(take(domain, "one", "four", &error), error);
}
END_TEST

START_TEST(deletes_the_bitmaps_of_the_other_disks_when_one_has_lost_its_own)
{
    AUTO(host) host = session_open();
    AUTO(domain) domain = paused_guest(host, "others");
    g_autoptr(GError) error = NULL;

    unit_ok(take(domain, NULL, "one", &error), error);
    unit_ok(take(domain, NULL, "two", &error), error);
    unit_ok(take(domain, NULL, "three", &error), error);
    lose_bitmap(domain, "libvirt-2-format", "two");
    ck_assert_uint_eq(bitmaps_in_qemu(domain, "two"), 1);
    unit_ok(domain_checkpoint_delete(domain, "two", &error), error);
    ck_assert_uint_eq(bitmaps_in_qemu(domain, "two"), 0);
    assert_checkpoints(domain, "one three");
    unit_ok(take(domain, "one", "four", &error), error);
    assert_checkpoints(domain, "one three four");
}
END_TEST

START_TEST(a_domain_that_is_off_only_forgets_its_checkpoints)
{
    AUTO(host) host = session_open();
    AUTO(domain) domain = paused_guest(host, "forgets");
    g_autoptr(GError) error = NULL;

    unit_ok(take(domain, NULL, "one", &error), error);
    unit_ok(domain_destroy(domain, &error), error);
    unit_fails(domain_checkpoint_xml(domain, "one", true, &error), error, ERROR_HYPERVISOR,
               "not running");
    unit_ok(domain_checkpoint_delete(domain, "one", &error), error);
    assert_checkpoints(domain, "");
    undefine_guest(domain);
}
END_TEST

START_TEST(undefines_a_domain_with_all_that_libvirt_keeps_about_it)
{
    AUTO(host) host = session_open();
    AUTO(domain) domain = paused_guest(host, "undefines");
    g_autoptr(GError) error = NULL;

    unit_ok(take(domain, NULL, "one", &error), error);
    VIRSH("snapshot-create-as", "undefines", "s1");
    VIRSH("managedsave", "undefines");
    unit_ok(domain_undefine(domain, &error), error);
    unit_fails(host_domain(host, "undefines", &error), error, ERROR_NOT_FOUND, "undefines");
}
END_TEST

int main(void)
{
    return SESSION_RUN(
        "domain-backup", begins_and_ends_a_backup_job, a_job_that_ended_lets_the_next_begin_at_once,
        a_backup_dies_with_its_guest, rings_when_what_the_guest_overwrites_goes_past_a_mark,
        rings_when_the_guest_stops_and_never_once_the_watch_is_gone,
        knows_how_much_of_a_disk_is_allocated, tells_the_dirty_bytes_since_a_checkpoint,
        a_lost_checkpoint_or_bitmap_is_an_error_of_its_own,
        a_forgotten_checkpoint_is_redefined_if_its_bitmaps_are_good,
        a_begin_that_failed_may_leave_its_checkpoint, deletes_a_checkpoint_with_its_bitmaps,
        deletes_the_bitmaps_of_the_other_disks_when_one_has_lost_its_own,
        a_domain_that_is_off_only_forgets_its_checkpoints,
        undefines_a_domain_with_all_that_libvirt_keeps_about_it);
}
