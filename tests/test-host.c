/* SPDX-License-Identifier: Apache-2.0 */
/* host.h against a real libvirtd of our own, with tiny guests that have disks but no system. */
#include <fcntl.h>
#include <sys/stat.h>

#include "common/common.h"
#include "tests/unit.h"

#define SESSION TESTS_DIR "/session-libvirtd"

static char *session_dir; /* of the libvirtd that all tests of this binary share */
static char *session_uri;

/* Run ARGV (NULL-terminated) to a good end; its output, g_free. */
static char *run(const char *const *argv)
{
    g_autoptr(GError) error = NULL;
    char *output = NULL;

    unit_ok(process_run(argv, 120, &output, &error), error);
    return output;
}
#define RUN(...) g_free(run((const char *const[]){__VA_ARGS__, NULL}))
#define AS_USER(...) RUN(SESSION, "run", session_dir, __VA_ARGS__)
#define VIRSH(...) RUN("virsh", "-c", session_uri, __VA_ARGS__)
#define VIRSH_OUTPUT(...) run((const char *const[]){"virsh", "-c", session_uri, __VA_ARGS__, NULL})

/* As unchecked fixture this is the parent of all tests: it must not touch libvirt itself. */
static void start_session(void)
{
    /* mkdtemp() makes 0700, but the session is another user's when root runs the tests. */
    chmod(unit_base, 0711);
    session_dir = unit_dir();
    session_uri = g_strchomp(run((const char *const[]){SESSION, "up", session_dir, NULL}));
}

static void stop_session(void)
{
    RUN(SESSION, "down", session_dir);
    g_free(session_uri);
    g_free(session_dir);
}

static struct host *open_session(void)
{
    g_autoptr(GError) error = NULL;
    struct host *host = host_open(session_uri, &error);

    unit_ok(host != NULL, error);
    return host;
}

static char *image_path(const char *name)
{
    return g_strdup_printf("%s/images/%s", session_dir, name);
}

static char *disk_xml(const char *name, const char *target)
{
    g_autofree char *file = g_strdup_printf("%s.%s", name, target);
    g_autofree char *path = image_path(file);

    AS_USER("qemu-img", "create", "-q", "-f", "qcow2", path, "16M");
    return g_strdup_printf("<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
                           "<source file='%s'/><target dev='%s' bus='virtio'/></disk>",
                           path, target);
}

/* A definition with disks vda and vdb, both empty, an agent's channel and DEVICES; g_free. */
static char *guest_xml(const char *name, const char *devices)
{
    g_autofree char *vda = disk_xml(name, "vda");
    g_autofree char *vdb = disk_xml(name, "vdb");

    return g_strdup_printf(
        "<domain type='qemu'><name>%s</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>%s%s%s"
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
        "<controller type='usb' model='none'/><memballoon model='none'/></devices></domain>",
        name, vda, vdb, devices);
}

static struct domain *define_guest(struct host *host, const char *name, const char *devices)
{
    g_autofree char *xml = guest_xml(name, devices);
    g_autoptr(GError) error = NULL;
    struct domain *domain = host_define(host, xml, &error);

    unit_ok(domain != NULL, error);
    return domain;
}

/* A guest that runs but does nothing, to the end of the session: an init that is slow to reap QEMU
 * makes every power-off take two seconds. */
static struct domain *paused_guest(struct host *host, const char *name)
{
    struct domain *domain = define_guest(host, name, "");

    VIRSH("start", "--paused", name);
    return domain;
}

static enum domain_state state_of(struct domain *domain)
{
    g_autoptr(GError) error = NULL;
    enum domain_state state = DOMAIN_OFF;

    unit_ok(domain_state(domain, &state, &error), error);
    return state;
}

static void undefine_guest(struct domain *domain)
{
    g_autoptr(GError) error = NULL;

    unit_ok(domain_undefine(domain, &error), error);
}

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

START_TEST(says_how_to_check_a_uri_where_nobody_listens)
{
    g_autoptr(GError) error = NULL;
    const char *uri = "qemu:///session?socket=/nonexistent/sock";

    unit_fails(host_open(uri, &error), error, ERROR_HYPERVISOR,
               "cannot connect to libvirt at qemu:///session?socket=/nonexistent/sock: ");
    unit_fails(host_open(uri, &error), error, ERROR_HYPERVISOR, "virsh -c");
}
END_TEST

START_TEST(keeps_the_errors_of_libvirt_off_stderr)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *path = g_build_filename(dir, "stderr", NULL);
    g_autofree char *written = NULL;
    AUTO(host) host = open_session();
    AUTO_FD saved = dup(STDERR_FILENO);
    AUTO_FD file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    dup2(file, STDERR_FILENO);
    ck_assert_ptr_null(host_open("qemu:///session?socket=/nonexistent/sock", NULL));
    ck_assert_ptr_null(host_domain(host, "ghost", NULL));
    dup2(saved, STDERR_FILENO);
    ck_assert(g_file_get_contents(path, &written, NULL, NULL));
    ck_assert_str_eq(written, "");
}
END_TEST

START_TEST(tells_what_the_host_is_able_to_do)
{
    AUTO(host) host = open_session();
    g_autoptr(GError) error = NULL;
    g_autofree char *capabilities = host_capabilities(host, &error);
    g_autofree char *guest = host_domain_capabilities(host, NULL, "x86_64", "pc", "qemu", &error);
    uint64_t bytes = 0;

    ck_assert_str_eq(host_uri(host), session_uri);
    unit_ok(capabilities && strstr(capabilities, "<capabilities>"), error);
    unit_ok(guest && strstr(guest, "<domainCapabilities>"), error);
    unit_ok(host_memory_free(host, &bytes, &error), error);
    ck_assert_uint_gt(bytes, 1024 * 1024);
}
END_TEST

START_TEST(does_not_find_an_emulator_machine_or_architecture_that_the_host_lacks)
{
    AUTO(host) host = open_session();
    g_autoptr(GError) error = NULL;

    unit_fails(host_domain_capabilities(host, "/nonexistent/qemu", NULL, NULL, NULL, &error), error,
               ERROR_NOT_FOUND, "emulator /nonexistent/qemu");
    unit_fails(host_domain_capabilities(host, NULL, "x86_64", "pc-99.9", NULL, &error), error,
               ERROR_NOT_FOUND, "machine pc-99.9");
    unit_fails(host_domain_capabilities(host, NULL, "sparc9", NULL, NULL, &error), error,
               ERROR_NOT_FOUND, "architecture sparc9");
}
END_TEST

START_TEST(a_session_does_not_change_the_user_of_qemu)
{
    AUTO(host) host = open_session();
    uid_t uid = 12345;
    gid_t gid = 12345;

    ck_assert(!host_qemu_identity(host, &uid, &gid));
    ck_assert_uint_eq(uid, 12345);
}
END_TEST

static const struct host_object *object_of(GPtrArray *objects, const char *name)
{
    for (unsigned i = 0; i < objects->len; i++) {
        const struct host_object *object = objects->pdata[i];

        if (g_str_equal(object->name, name))
            return object;
    }
    ck_abort_msg("%s is not listed", name);
    return NULL;
}

START_TEST(lists_networks_with_their_inactive_definition)
{
    AUTO(host) host = open_session();
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) networks = NULL;
    g_autofree char *dir = unit_dir();
    g_autofree char *file = g_build_filename(dir, "net.xml", NULL);

    ck_assert(g_file_set_contents(file, "<network><name>green</name></network>", -1, NULL));
    VIRSH("net-define", file);
    networks = host_networks(host, &error);
    unit_ok(networks != NULL, error);
    ck_assert_uint_eq(networks->len, 1);
    ck_assert(!object_of(networks, "green")->active);
    ck_assert_ptr_nonnull(strstr(object_of(networks, "green")->xml, "<name>green</name>"));
    VIRSH("net-undefine", "green");
}
END_TEST

START_TEST(lists_storage_pools_and_finds_volumes)
{
    AUTO(host) host = open_session();
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) pools = NULL;
    g_autofree char *dir = image_path("pool");
    g_autofree char *expected = g_build_filename(dir, "one.qcow2", NULL);
    g_autofree char *path = NULL;

    AS_USER("mkdir", dir);
    VIRSH("pool-define-as", "on", "dir", "--target", dir);
    VIRSH("pool-define-as", "off", "dir", "--target", "/nonexistent");
    VIRSH("pool-start", "on");
    VIRSH("vol-create-as", "on", "one.qcow2", "1M", "--format", "qcow2");
    pools = host_storage_pools(host, &error);
    unit_ok(pools != NULL, error);
    ck_assert(object_of(pools, "on")->active);
    ck_assert(!object_of(pools, "off")->active);
    path = host_volume_path(host, "on", "one.qcow2", &error);
    ck_assert_str_eq(path, expected);
    unit_fails(host_volume_path(host, "on", "two.qcow2", &error), error, ERROR_NOT_FOUND,
               "volume two.qcow2 of storage pool on");
    unit_fails(host_volume_path(host, "none", "two.qcow2", &error), error, ERROR_NOT_FOUND,
               "storage pool none");
    VIRSH("pool-destroy", "on");
    VIRSH("pool-undefine", "on");
    VIRSH("pool-undefine", "off");
}
END_TEST

START_TEST(finds_a_domain_by_name_and_by_uuid_until_it_is_undefined)
{
    AUTO(host) host = open_session();
    AUTO(domain) defined = define_guest(host, "finds", "");
    AUTO(domain) by_name = host_domain(host, "finds", NULL);
    AUTO(domain) by_uuid = host_domain(host, domain_uuid(defined), NULL);
    g_autofree char *upper = g_ascii_strup(domain_uuid(defined), -1);
    AUTO(domain) by_upper = host_domain(host, upper, NULL);
    g_autoptr(GError) error = NULL;

    ck_assert(uuid_is_valid(domain_uuid(defined)));
    ck_assert_str_eq(domain_uuid(by_name), domain_uuid(defined));
    ck_assert_str_eq(domain_name(by_uuid), "finds");
    ck_assert_str_eq(domain_name(by_upper), "finds");
    ck_assert_ptr_eq(domain_host(by_name), host);
    ck_assert(domain_is_persistent(by_name));
    unit_ok(domain_undefine(defined, &error), error);
    unit_fails(host_domain(host, "finds", &error), error, ERROR_NOT_FOUND,
               "cannot find domain finds at qemu:///session");
    unit_fails(host_domain(host, upper, &error), error, ERROR_NOT_FOUND, upper);
    unit_fails(domain_start(by_name, &error), error, ERROR_NOT_FOUND, "cannot start domain finds");
}
END_TEST

START_TEST(lists_all_domains)
{
    AUTO(host) host = open_session();
    AUTO(domain) off = define_guest(host, "lists-off", "");
    AUTO(domain) on = paused_guest(host, "lists-on");
    g_autoptr(GPtrArray) domains = host_domains(host, NULL);
    unsigned found = 0;

    ck_assert_int_eq(state_of(off), DOMAIN_OFF);
    ck_assert_int_eq(state_of(on), DOMAIN_PAUSED);
    ck_assert_ptr_nonnull(domains);
    for (unsigned i = 0; i < domains->len; i++)
        found += g_str_has_prefix(domain_name(domains->pdata[i]), "lists-");
    ck_assert_uint_eq(found, 2);
}
END_TEST

START_TEST(refuses_a_definition_that_the_schema_does_not_know)
{
    AUTO(host) host = open_session();
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = guest_xml("wrong", "<flux capacitor='yes'/>");

    unit_fails(host_define(host, xml, &error), error, ERROR_HYPERVISOR,
               "cannot define domain wrong at ");
    unit_fails(host_define(host, "<domain", &error), error, ERROR_HYPERVISOR,
               "cannot define domain without a name at ");
}
END_TEST

START_TEST(keeps_the_connection_for_a_domain_that_outlives_its_host)
{
    struct host *host = open_session();
    AUTO(domain) domain = define_guest(host, "outlives", "");

    host_free(host);
    ck_assert_int_eq(state_of(domain), DOMAIN_OFF);
    ck_assert_str_eq(host_uri(domain_host(domain)), session_uri);
    undefine_guest(domain);
}
END_TEST

START_TEST(follows_a_domain_through_its_states)
{
    AUTO(host) host = open_session();
    AUTO(domain) domain = define_guest(host, "states", "");
    g_autoptr(GError) error = NULL;

    ck_assert_int_eq(state_of(domain), DOMAIN_OFF);
    unit_ok(domain_start(domain, &error), error);
    ck_assert_int_eq(state_of(domain), DOMAIN_RUNNING);
    unit_fails(domain_start(domain, &error), error, ERROR_HYPERVISOR, "already running");
    VIRSH("suspend", "states");
    ck_assert_int_eq(state_of(domain), DOMAIN_PAUSED);
    unit_ok(domain_resume(domain, &error), error);
    ck_assert_int_eq(state_of(domain), DOMAIN_RUNNING);
    unit_ok(domain_shutdown(domain, &error), error);
    unit_ok(domain_destroy(domain, &error), error);
    ck_assert_int_eq(state_of(domain), DOMAIN_OFF);
    unit_ok(domain_destroy(domain, &error), error);
    unit_fails(domain_shutdown(domain, &error), error, ERROR_HYPERVISOR, "cannot shut down domain");
    unit_fails(domain_resume(domain, &error), error, ERROR_HYPERVISOR, "cannot resume domain");
    undefine_guest(domain);
}
END_TEST

START_TEST(keeps_secrets_in_the_inactive_definition_only)
{
    AUTO(host) host = open_session();
    AUTO(domain)
    domain = define_guest(host, "secrets",
                          "<graphics type='vnc' passwd='sesame'>"
                          "<listen type='none'/></graphics>");
    g_autofree char *live = domain_xml(domain, DOMAIN_XML_LIVE, NULL);
    g_autofree char *inactive = domain_xml(domain, DOMAIN_XML_INACTIVE, NULL);

    ck_assert_ptr_null(strstr(live, "sesame"));
    ck_assert_ptr_nonnull(strstr(inactive, "sesame"));
    undefine_guest(domain);
}
END_TEST

START_TEST(sets_and_clears_autostart)
{
    AUTO(host) host = open_session();
    AUTO(domain) domain = define_guest(host, "autostart", "");
    g_autoptr(GError) error = NULL;
    g_autofree char *set = NULL;
    g_autofree char *cleared = NULL;

    unit_ok(domain_set_autostart(domain, true, &error), error);
    set = VIRSH_OUTPUT("list", "--all", "--autostart", "--name");
    unit_ok(domain_set_autostart(domain, false, &error), error);
    cleared = VIRSH_OUTPUT("list", "--all", "--autostart", "--name");
    ck_assert_ptr_nonnull(strstr(set, "autostart"));
    ck_assert_ptr_null(strstr(cleared, "autostart"));
    undefine_guest(domain);
}
END_TEST

START_TEST(fails_at_once_where_no_agent_is_connected)
{
    AUTO(host) host = open_session();
    AUTO(domain) domain = define_guest(host, "agentless", "");
    g_autoptr(GError) error = NULL;
    int64_t started_ms = 0;
    unsigned frozen = 77;

    unit_ok(domain_thaw(domain, 30, &error), error);
    VIRSH("start", "agentless");
    started_ms = time_monotonic_ms();
    unit_fails(domain_agent_ping(domain, 30, &error), error, ERROR_HYPERVISOR,
               "guest agent is not connected");
    unit_fails(domain_freeze(domain, 30, &frozen, &error), error, ERROR_HYPERVISOR,
               "cannot freeze the file systems of domain agentless");
    ck_assert_uint_eq(frozen, 77);
    unit_fails(domain_thaw(domain, 30, &error), error, ERROR_HYPERVISOR,
               "cannot thaw domain agentless: ");
    ck_assert_int_lt(time_monotonic_ms() - started_ms, 10 * 1000);
}
END_TEST

START_TEST(a_guest_without_a_network_has_no_addresses)
{
    AUTO(host) host = open_session();
    AUTO(domain) domain = paused_guest(host, "addresses");
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) addresses = domain_addresses(domain, &error);

    unit_ok(addresses != NULL, error);
    ck_assert_uint_eq(g_strv_length(addresses), 0);
    unit_ok(domain_destroy(domain, &error), error);
    unit_fails(domain_addresses(domain, &error), error, ERROR_HYPERVISOR, "domain addresses");
    undefine_guest(domain);
}
END_TEST

START_TEST(begins_and_ends_a_backup_job)
{
    AUTO(host) host = open_session();
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
    AUTO(host) host = open_session();
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
    AUTO(host) host = open_session();
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

START_TEST(tells_the_dirty_bytes_since_a_checkpoint)
{
    AUTO(host) host = open_session();
    AUTO(domain) domain = paused_guest(host, "dirty");
    g_autoptr(GError) error = NULL;
    g_autofree char *plain = NULL;
    g_autofree char *sized = NULL;

    unit_ok(take(domain, NULL, "old", &error), error);
    VIRSH("qemu-monitor-command", "dirty", "--hmp",
          "qemu-io -d /machine/peripheral/virtio-disk0/virtio-backend \"write 0 100k\"");
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
    AUTO(host) host = open_session();
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

START_TEST(a_begin_that_failed_may_leave_its_checkpoint)
{
    AUTO(host) host = open_session();
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
    AUTO(host) host = open_session();
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
    AUTO(host) host = open_session();
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
    AUTO(host) host = open_session();
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
    AUTO(host) host = open_session();
    AUTO(domain) domain = paused_guest(host, "undefines");
    g_autoptr(GError) error = NULL;

    unit_ok(take(domain, NULL, "one", &error), error);
    VIRSH("snapshot-create-as", "undefines", "s1");
    VIRSH("managedsave", "undefines");
    unit_ok(domain_undefine(domain, &error), error);
    unit_fails(host_domain(host, "undefines", &error), error, ERROR_NOT_FOUND, "undefines");
}
END_TEST

/* Ask for a domain that is not there, many times; NULL or what was wrong with an error. */
static void *ask_often(void *data)
{
    g_autofree char *name = g_strdup_printf("ghost-%p", data);

    for (unsigned i = 0; i < 50; i++) {
        g_autoptr(GError) error = NULL;
        AUTO(domain) domain = host_domain(data ? *(struct host **)data : NULL, name, &error);

        if (domain || !error_is(error, ERROR_NOT_FOUND) || !strstr(error->message, name))
            return error ? g_strdup(error->message) : g_strdup("found");
    }
    return NULL;
}

START_TEST(threads_that_share_a_host_get_their_own_errors)
{
    AUTO(host) host = open_session();
    struct host *shared[4] = {host, host, host, host};
    GThread *threads[4];

    for (unsigned i = 0; i < 4; i++)
        threads[i] = g_thread_new("ask", ask_often, &shared[i]);
    for (unsigned i = 0; i < 4; i++) {
        g_autofree char *wrong = g_thread_join(threads[i]);

        ck_assert_msg(!wrong, "%s", wrong);
    }
}
END_TEST

START_TEST(a_daemon_that_dies_is_an_error_and_nothing_worse)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *uri = g_strchomp(run((const char *const[]){SESSION, "up", dir, NULL}));
    g_autoptr(GError) error = NULL;
    AUTO(host) host = host_open(uri, &error);

    unit_ok(host != NULL, error);
    RUN(SESSION, "down", dir);
    for (unsigned i = 0; i < 3; i++) {
        unit_fails(host_capabilities(host, &error), error, ERROR_HYPERVISOR,
                   "cannot read the capabilities of the host at ");
        unit_fails(host_domain(host, "any", &error), error, ERROR_HYPERVISOR, "domain any");
    }
}
END_TEST

static bool is_installed(const char *program)
{
    g_autofree char *found = g_find_program_in_path(program);
    g_autofree char *other = g_build_filename("/usr/sbin", program, NULL);

    return found || g_file_test(other, G_FILE_TEST_IS_EXECUTABLE);
}

int main(void)
{
    static const TTest *const *const tests[] = {
        &says_how_to_check_a_uri_where_nobody_listens,
        &keeps_the_errors_of_libvirt_off_stderr,
        &tells_what_the_host_is_able_to_do,
        &does_not_find_an_emulator_machine_or_architecture_that_the_host_lacks,
        &a_session_does_not_change_the_user_of_qemu,
        &lists_networks_with_their_inactive_definition,
        &lists_storage_pools_and_finds_volumes,
        &finds_a_domain_by_name_and_by_uuid_until_it_is_undefined,
        &lists_all_domains,
        &refuses_a_definition_that_the_schema_does_not_know,
        &keeps_the_connection_for_a_domain_that_outlives_its_host,
        &follows_a_domain_through_its_states,
        &keeps_secrets_in_the_inactive_definition_only,
        &sets_and_clears_autostart,
        &fails_at_once_where_no_agent_is_connected,
        &a_guest_without_a_network_has_no_addresses,
        &begins_and_ends_a_backup_job,
        &a_job_that_ended_lets_the_next_begin_at_once,
        &a_backup_dies_with_its_guest,
        &tells_the_dirty_bytes_since_a_checkpoint,
        &a_lost_checkpoint_or_bitmap_is_an_error_of_its_own,
        &a_begin_that_failed_may_leave_its_checkpoint,
        &deletes_a_checkpoint_with_its_bitmaps,
        &deletes_the_bitmaps_of_the_other_disks_when_one_has_lost_its_own,
        &a_domain_that_is_off_only_forgets_its_checkpoints,
        &undefines_a_domain_with_all_that_libvirt_keeps_about_it,
        &threads_that_share_a_host_get_their_own_errors,
        &a_daemon_that_dies_is_an_error_and_nothing_worse,
    };
    Suite *suite = suite_create("host");
    TCase *tcase = tcase_create("host");

    if (!is_installed("libvirtd") || !is_installed("virsh")) {
        puts("1..0 # SKIP libvirtd or virsh is not installed");
        return EXIT_SUCCESS;
    }
    tcase_set_timeout(tcase, UNIT_TIMEOUT_S);
    tcase_add_unchecked_fixture(tcase, start_session, stop_session);
    for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++)
        tcase_add_test(tcase, *tests[i]);
    suite_add_tcase(suite, tcase);
    return unit_run_suite(suite);
}
