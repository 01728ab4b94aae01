/* SPDX-License-Identifier: Apache-2.0 */
/* host.h without backups, against a real libvirtd. */
#include <fcntl.h>

#include "tests/session.h"

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
    AUTO(host) host = session_open();
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
    AUTO(host) host = session_open();
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
    AUTO(host) host = session_open();
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
    AUTO(host) host = session_open();
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
    AUTO(host) host = session_open();
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
    AUTO(host) host = session_open();
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
    ck_assert_ptr_nonnull(strstr(object_of(pools, "on")->xml, "<path>"));
    ck_assert_ptr_null(strstr(object_of(pools, "on")->xml, "available"));
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
    AUTO(host) host = session_open();
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
    unit_ok(domain_undefine(defined, &error), error);
    unit_fails(host_domain(host, "finds", &error), error, ERROR_NOT_FOUND,
               "cannot find domain finds at qemu:///session");
    unit_fails(host_domain(host, upper, &error), error, ERROR_NOT_FOUND, upper);
    unit_fails(domain_start(by_name, &error), error, ERROR_NOT_FOUND, "cannot start domain finds");
}
END_TEST

START_TEST(lists_all_domains)
{
    AUTO(host) host = session_open();
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
    AUTO(host) host = session_open();
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
    struct host *host = session_open();
    AUTO(domain) domain = define_guest(host, "outlives", "");

    host_free(host);
    ck_assert_int_eq(state_of(domain), DOMAIN_OFF);
    ck_assert_str_eq(host_uri(domain_host(domain)), session_uri);
    undefine_guest(domain);
}
END_TEST

START_TEST(follows_a_domain_through_its_states)
{
    AUTO(host) host = session_open();
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
    AUTO(host) host = session_open();
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
    AUTO(host) host = session_open();
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
    AUTO(host) host = session_open();
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
    AUTO(host) host = session_open();
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
    AUTO(host) host = session_open();
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

static void *open_and_close(void *data)
{
    for (unsigned i = 0; i < 20; i++)
        host_free(session_open());
    return NULL;
}

/* The event loop comes with the first connection and goes with the last. */
START_TEST(connections_may_come_and_go_in_several_threads)
{
    GThread *threads[4];

    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("host", open_and_close, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    AUTO(host) host = session_open();
    g_autoptr(GError) error = NULL;
    g_autofree char *capabilities = host_capabilities(host, &error);

    unit_ok(capabilities != NULL, error);
}
END_TEST

int main(void)
{
    return SESSION_RUN(
        "host", says_how_to_check_a_uri_where_nobody_listens,
        keeps_the_errors_of_libvirt_off_stderr, tells_what_the_host_is_able_to_do,
        does_not_find_an_emulator_machine_or_architecture_that_the_host_lacks,
        a_session_does_not_change_the_user_of_qemu, lists_networks_with_their_inactive_definition,
        lists_storage_pools_and_finds_volumes,
        finds_a_domain_by_name_and_by_uuid_until_it_is_undefined, lists_all_domains,
        refuses_a_definition_that_the_schema_does_not_know,
        keeps_the_connection_for_a_domain_that_outlives_its_host,
        follows_a_domain_through_its_states, keeps_secrets_in_the_inactive_definition_only,
        sets_and_clears_autostart, fails_at_once_where_no_agent_is_connected,
        a_guest_without_a_network_has_no_addresses, threads_that_share_a_host_get_their_own_errors,
        connections_may_come_and_go_in_several_threads,
        a_daemon_that_dies_is_an_error_and_nothing_worse);
}
