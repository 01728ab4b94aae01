/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vApps of real domains: a private libvirtd, guests under TCG whose whole system is a boot sector.
 */
#include <arpa/inet.h>
#include <sys/socket.h>

#include "tests/session.h"
#include "vapp/vapp.h"

/* ---- Guests */

/*
 * A guest that shuts down when the power button is pressed. It enables the button of the PIIX4 (in
 * PM1_EN, bit 8) only after some time, as an operating system does; until then QEMU drops the
 * press.
 */
static const uint8_t obedient[] = {
    0xfb,             /* sti */
    0xb9, 0x00, 0x00, /* mov cx, ticks of 55 ms: bytes 2 and 3 */
    0xe3, 0x03,       /* wait: jcxz enable */
    0xf4,             /* hlt */
    0xe2, 0xfd,       /* loop to hlt */
    0xba, 0x02, 0x06, /* enable: mov dx, PM1_EN */
    0xb8, 0x00, 0x01, /* mov ax, 0x0100 */
    0xef,             /* out dx, ax */
    0xf4,             /* press: hlt */
    0xba, 0x00, 0x06, /* mov dx, PM1_STS */
    0xed,             /* in ax, dx */
    0xf6, 0xc4, 0x01, /* test ah, 1 */
    0x74, 0xf6,       /* jz press */
    0xba, 0x04, 0x06, /* mov dx, PM1_CNT */
    0xb8, 0x00, 0x20, /* mov ax, SLP_EN, S5 */
    0xef,             /* out dx, ax */
    0xf4, 0xeb, 0xfd, /* hlt for ever */
};

/* A guest that never hears the power button. */
static const uint8_t deaf[] = {0xfb, 0xf4, 0xeb, 0xfd};

/* The disk of guest NAME with CODE in its boot sector; g_free the path. */
static char *write_disk(const char *name, const uint8_t *code, size_t len, uint8_t ticks)
{
    char *path = image_path(name);
    g_autofree uint8_t *disk = g_new0(uint8_t, 1024 * 1024);
    g_autoptr(GError) error = NULL;

    memcpy(disk, code, len);
    if (code == obedient)
        disk[2] = ticks;
    disk[510] = 0x55;
    disk[511] = 0xaa;
    unit_ok(file_write(path, disk, 1024 * 1024, 0666, &error), error);
    chmod(path, 0666);
    return path;
}

static void define(struct host *host, const char *name, const uint8_t *code, size_t len,
                   uint8_t ticks)
{
    g_autofree char *disk = write_disk(name, code, len, ticks);
    g_autofree char *xml = g_strdup_printf(
        "<domain type='qemu'><name>%s</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>"
        "<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/>"
        "<source file='%s'/><target dev='hda' bus='ide'/></disk>"
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
        "<controller type='usb' model='none'/><memballoon model='none'/></devices></domain>",
        name, disk);
    g_autoptr(GError) error = NULL;
    AUTO(domain) domain = host_define(host, xml, &error);

    unit_ok(domain != NULL, error);
}
#define DEFINE_OBEDIENT(host, name, ticks) define(host, name, obedient, sizeof(obedient), ticks)
#define DEFINE_DEAF(host, name) define(host, name, deaf, sizeof(deaf), 0)

static void undefine_all(struct host *host)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) domains = host_domains(host, &error);

    unit_ok(domains != NULL, error);
    for (unsigned i = 0; i < domains->len; i++) {
        struct domain *domain = g_ptr_array_index(domains, i);

        unit_ok(domain_destroy(domain, &error), error);
        unit_ok(domain_undefine(domain, &error), error);
    }
}

static enum domain_state state_by_name(struct host *host, const char *name)
{
    g_autoptr(GError) error = NULL;
    AUTO(domain) domain = host_domain(host, name, &error);

    unit_ok(domain != NULL, error);
    return state_of(domain);
}

/* ---- A vApp on one host */

struct site {
    GPtrArray *hosts; /* of struct host */
    struct host *host;
    struct vapp *vapp;
    GString *reports; /* " db=starting db=up ..." */
    GPtrArray *results;
};

static void host_free_element(void *data)
{
    host_free(data);
}

static struct site *site_new(const char *vms)
{
    struct site *site = g_new0(struct site, 1);
    g_autofree char *text = g_strdup_printf("[vapp]\nname = shop\n%s", vms);
    g_autoptr(GError) error = NULL;

    site->host = session_open();
    undefine_all(site->host); /* of a test that failed */
    site->vapp = vapp_parse(text, strlen(text), "shop.vapp", &error);
    unit_ok(site->vapp != NULL, error);
    site->hosts = g_ptr_array_new_with_free_func(host_free_element);
    g_ptr_array_add(site->hosts, site->host);
    site->reports = g_string_new(NULL);
    return site;
}

static void site_free(struct site *site)
{
    undefine_all(site->host);
    g_clear_pointer(&site->results, g_ptr_array_unref);
    g_ptr_array_unref(site->hosts);
    g_string_free(site->reports, TRUE);
    vapp_free(site->vapp);
    g_free(site);
}
DEFINE_CLEANUP(site)

static void report(void *context, const struct vapp_result *result)
{
    struct site *site = context;

    g_string_append_printf(site->reports, " %s=%s", result->vm->name,
                           vapp_vm_state_name(result->state));
}

static bool start(struct site *site, GError **error)
{
    g_clear_pointer(&site->results, g_ptr_array_unref);
    g_string_truncate(site->reports, 0);
    return vapp_start_domains(site->vapp, site->hosts, report, site, &site->results, error);
}

static bool stop(struct site *site, GError **error)
{
    g_clear_pointer(&site->results, g_ptr_array_unref);
    g_string_truncate(site->reports, 0);
    return vapp_stop_domains(site->vapp, site->hosts, report, site, &site->results, error);
}

static const struct vapp_result *result_at(const struct site *site, unsigned i)
{
    ck_assert_uint_lt(i, site->results->len);
    return g_ptr_array_index(site->results, i);
}

START_TEST(domains_start_in_order_and_stop_in_reverse)
{
    AUTO(site) site = site_new("[vm db]\norder = 1\n[vm app]\norder = 2\nafter = db\n");
    g_autoptr(GError) error = NULL;

    DEFINE_OBEDIENT(site->host, "db", 0);
    DEFINE_OBEDIENT(site->host, "app", 0);
    unit_ok(start(site, &error), error);
    ck_assert_str_eq(site->reports->str, " db=starting db=up db=done app=starting app=up app=done");
    ck_assert_int_eq(state_by_name(site->host, "db"), DOMAIN_RUNNING);
    ck_assert_int_eq(state_by_name(site->host, "app"), DOMAIN_RUNNING);
    ck_assert(!result_at(site, 0)->was_already);
    unit_ok(stop(site, &error), error);
    ck_assert_str_eq(site->reports->str, " app=starting app=done db=starting db=done");
    ck_assert_int_eq(state_by_name(site->host, "db"), DOMAIN_OFF);
    ck_assert_int_eq(state_by_name(site->host, "app"), DOMAIN_OFF);
    ck_assert_msg(!result_at(site, 0)->error, "%s", result_at(site, 0)->error);
    ck_assert_msg(!result_at(site, 1)->error, "%s", result_at(site, 1)->error);
}
END_TEST

START_TEST(what_is_up_or_off_already_is_left_alone)
{
    AUTO(site) site = site_new("[vm db]\ndelay = 1h\n[vm app]\nafter = db\n");
    g_autoptr(GError) error = NULL;

    DEFINE_DEAF(site->host, "db");
    DEFINE_DEAF(site->host, "app");
    unit_ok(stop(site, &error), error);
    ck_assert(result_at(site, 0)->was_already && result_at(site, 1)->was_already);
    VIRSH("start", "db");
    unit_ok(start(site, &error), error);
    ck_assert_str_eq(site->reports->str, " db=starting db=done app=starting app=up app=done");
    ck_assert(result_at(site, 0)->was_already);
    ck_assert(!result_at(site, 1)->was_already);
}
END_TEST

START_TEST(a_power_button_that_nobody_hears_during_boot_is_pressed_again)
{
    AUTO(site) site = site_new("[vm slow]\nstop-timeout = 50s\n");
    g_autoptr(GError) error = NULL;

    /* Deaf for 4 s after the firmware, which is longer than the pause between two requests. */
    DEFINE_OBEDIENT(site->host, "slow", 80);
    unit_ok(start(site, &error), error);
    unit_ok(stop(site, &error), error);
    ck_assert_msg(!result_at(site, 0)->error, "%s", result_at(site, 0)->error);
    ck_assert_int_eq(state_by_name(site->host, "slow"), DOMAIN_OFF);
}
END_TEST

START_TEST(a_guest_that_does_not_shut_down_loses_power_and_that_is_said)
{
    AUTO(site) site = site_new("[vm deaf]\nstop-timeout = 1s\n[vm hasty]\nstop-timeout = 0\n");
    g_autoptr(GError) error = NULL;

    DEFINE_DEAF(site->host, "deaf");
    DEFINE_OBEDIENT(site->host, "hasty", 0);
    unit_ok(start(site, &error), error);
    unit_ok(stop(site, &error), error);
    ck_assert_int_eq(state_by_name(site->host, "deaf"), DOMAIN_OFF);
    ck_assert_int_eq(result_at(site, 0)->state, VAPP_VM_DONE);
    ck_assert_ptr_nonnull(strstr(result_at(site, 0)->error, "it did not shut down within 1"));
    ck_assert_ptr_nonnull(strstr(result_at(site, 0)->error, "the plug was pulled"));
    ck_assert_str_eq(result_at(site, 1)->error, "the plug was pulled, as its stop-timeout is 0");
}
END_TEST

START_TEST(a_paused_domain_is_resumed_by_start_and_by_stop)
{
    AUTO(site) site = site_new("[vm db]\n");
    g_autoptr(GError) error = NULL;

    DEFINE_OBEDIENT(site->host, "db", 0);
    VIRSH("start", "--paused", "db");
    unit_ok(start(site, &error), error);
    ck_assert_int_eq(state_by_name(site->host, "db"), DOMAIN_RUNNING);
    ck_assert(!result_at(site, 0)->was_already);
    ck_assert_str_eq(result_at(site, 0)->error, "it was paused and was resumed");
    VIRSH("suspend", "db");
    unit_ok(stop(site, &error), error);
    ck_assert_msg(!result_at(site, 0)->error, "%s", result_at(site, 0)->error);
}
END_TEST

START_TEST(a_transient_domain_is_off_when_it_is_gone)
{
    AUTO(site) site = site_new("[vm db]\n");
    g_autoptr(GError) error = NULL;

    DEFINE_OBEDIENT(site->host, "db", 0);
    VIRSH("start", "db");
    VIRSH("undefine", "db");
    unit_ok(stop(site, &error), error);
    ck_assert_int_eq(result_at(site, 0)->state, VAPP_VM_DONE);
    unit_fails(stop(site, &error), error, ERROR_FAILED, "db (failed)");
    ck_assert_str_eq(result_at(site, 0)->error, "VM 'db' is defined on no host of this site");
}
END_TEST

START_TEST(a_guest_without_agent_is_not_ready_in_time)
{
    AUTO(site)
    site = site_new("[vm db]\nready = agent\nready-timeout = 1s\n"
                    "[vm app]\nafter = db\n[vm mq]\n");
    g_autoptr(GError) error = NULL;

    DEFINE_DEAF(site->host, "db");
    DEFINE_DEAF(site->host, "app");
    DEFINE_DEAF(site->host, "mq");
    unit_fails(start(site, &error), error, ERROR_PARTIAL, "db (failed), app (skipped)");
    ck_assert_ptr_nonnull(strstr(result_at(site, 0)->error, "for an answer of its guest agent"));
    ck_assert_ptr_nonnull(strstr(result_at(site, 0)->error, "agent is not connected"));
    ck_assert_int_eq(state_by_name(site->host, "db"), DOMAIN_RUNNING);
    ck_assert_int_eq(state_by_name(site->host, "app"), DOMAIN_OFF);
    ck_assert_int_eq(result_at(site, 2)->state, VAPP_VM_DONE);
}
END_TEST

START_TEST(a_guest_without_known_address_says_how_to_name_one)
{
    AUTO(site) site = site_new("[vm db]\nready = tcp:5432\nready-timeout = 1s\n");
    g_autoptr(GError) error = NULL;

    DEFINE_DEAF(site->host, "db");
    unit_fails(start(site, &error), error, ERROR_FAILED, "db (failed)");
    ck_assert_msg(strstr(result_at(site, 0)->error, "no address of the guest is known") != NULL,
                  "%s", result_at(site, 0)->error);
}
END_TEST

/* A port of 127.0.0.1 that refuses connections until somebody listens on *FD. */
static uint16_t reserve_port(int *fd)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);

    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(*fd, 0);
    ck_assert_int_eq(bind(*fd, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(getsockname(*fd, (struct sockaddr *)&address, &len), 0);
    return ntohs(address.sin_port);
}

static int listener_fd;

static void listen_when_up(void *context, const struct vapp_result *result)
{
    report(context, result);
    if (result->state == VAPP_VM_UP)
        ck_assert_int_eq(listen(listener_fd, 4), 0);
}

START_TEST(a_vm_that_waits_for_a_port_begins_after_it_was_opened)
{
    AUTO_FD fd = -1;
    uint16_t port = reserve_port(&fd);
    g_autofree char *text = g_strdup_printf("[vm db]\nready = tcp:%u\naddress = 127.0.0.1\n"
                                            "[vm app]\nafter = db\n",
                                            port);
    AUTO(site) site = site_new(text);
    g_autoptr(GError) error = NULL;

    DEFINE_DEAF(site->host, "db");
    DEFINE_DEAF(site->host, "app");
    listener_fd = fd;
    unit_ok(
        vapp_start_domains(site->vapp, site->hosts, listen_when_up, site, &site->results, &error),
        error);
    ck_assert_str_eq(site->reports->str, " db=starting db=up db=done app=starting app=up app=done");
}
END_TEST

static void *destroy_db(void *data)
{
    VIRSH("destroy", "db");
    return NULL;
}

static void destroy_when_up(void *context, const struct vapp_result *result)
{
    GThread **thread = context;

    if (result->state == VAPP_VM_UP)
        *thread = g_thread_new("destroyer", destroy_db, NULL);
}

START_TEST(a_guest_that_goes_off_before_it_is_ready_fails_at_once)
{
    AUTO(site) site = site_new("[vm db]\nready = agent\nready-timeout = 1h\n");
    g_autoptr(GError) error = NULL;
    GThread *thread = NULL;

    DEFINE_DEAF(site->host, "db");
    unit_fails(vapp_start_domains(site->vapp, site->hosts, destroy_when_up, &thread, &site->results,
                                  &error),
               error, ERROR_FAILED, "db (failed)");
    g_thread_join(thread);
    ck_assert_str_eq(result_at(site, 0)->error, "VM 'db' is not ready: it is off by now");
}
END_TEST

static void interrupt_when_starting(void *context, const struct vapp_result *result)
{
    if (result->state == VAPP_VM_STARTING)
        interrupt_request();
}

START_TEST(an_interrupt_never_pulls_the_plug)
{
    AUTO(site) site = site_new("[vm db]\nstop-timeout = 1h\n[vm app]\nafter = db\n");
    g_autoptr(GError) error = NULL;

    DEFINE_DEAF(site->host, "db");
    DEFINE_DEAF(site->host, "app");
    VIRSH("start", "db");
    VIRSH("start", "app");
    unit_fails(vapp_stop_domains(site->vapp, site->hosts, interrupt_when_starting, NULL,
                                 &site->results, &error),
               error, ERROR_CANCELLED, "db (waiting), app (stopping)");
    ck_assert_int_eq(state_by_name(site->host, "db"), DOMAIN_RUNNING);
    ck_assert_int_eq(state_by_name(site->host, "app"), DOMAIN_RUNNING);
}
END_TEST

START_TEST(a_vm_that_several_hosts_know_is_not_started_by_guess)
{
    AUTO(site) site = site_new("[vm db]\n");
    g_autoptr(GError) error = NULL;

    /* Two connections to one libvirtd are two hosts that know the same VM. */
    g_ptr_array_add(site->hosts, session_open());
    DEFINE_DEAF(site->host, "db");
    unit_fails(start(site, &error), error, ERROR_FAILED, "db (failed)");
    ck_assert_ptr_nonnull(strstr(result_at(site, 0)->error, "is defined on several hosts"));
    unit_ok(stop(site, &error), error);
    ck_assert(result_at(site, 0)->was_already);
    VIRSH("start", "db");
    unit_fails(stop(site, &error), error, ERROR_FAILED, "db (failed)");
    ck_assert_ptr_nonnull(strstr(result_at(site, 0)->error, "is active on several hosts"));
}
END_TEST

int main(void)
{
    return SESSION_RUN(
        "vapp-domains", domains_start_in_order_and_stop_in_reverse,
        what_is_up_or_off_already_is_left_alone,
        a_power_button_that_nobody_hears_during_boot_is_pressed_again,
        a_guest_that_does_not_shut_down_loses_power_and_that_is_said,
        a_paused_domain_is_resumed_by_start_and_by_stop, a_transient_domain_is_off_when_it_is_gone,
        a_guest_without_agent_is_not_ready_in_time,
        a_guest_without_known_address_says_how_to_name_one,
        a_vm_that_waits_for_a_port_begins_after_it_was_opened,
        a_guest_that_goes_off_before_it_is_ready_fails_at_once, an_interrupt_never_pulls_the_plug,
        a_vm_that_several_hosts_know_is_not_started_by_guess);
}
