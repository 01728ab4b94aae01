/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When is a VM ready? Real HTTP over loopback, and guests under TCG whose whole system is a boot sector
 * that prints on its serial port. Commands in a guest need an agent: tests/lab-ready.
 */
#include <arpa/inet.h>
#include <sys/socket.h>

#include "tests/session.h"
#include "vapp/vapp.h"

/* One VM, "db", with these KEYS. */
static struct vapp *vapp_of(const char *format, ...) G_GNUC_PRINTF(1, 2);
static struct vapp *vapp_of(const char *format, ...)
{
    g_autofree char *keys = NULL;
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    struct vapp *vapp;
    va_list args;

    va_start(args, format);
    keys = g_strdup_vprintf(format, args);
    va_end(args);
    text = g_strdup_printf("[vapp]\nname = shop\n[vm db]\n%s\n", keys);
    vapp = vapp_parse(text, strlen(text), "shop.vapp", &error);
    unit_ok(vapp != NULL, error);
    return vapp;
}

/* ---- http */

/* Answers each connection with the next of ANSWERS, then with the last again. */
struct server {
    int fd;
    uint16_t port;
    const char *const *answers; /* NULL: takes the request and says nothing */
    GString *requests;
    GThread *thread;
};

static void serve_one(struct server *server, int client)
{
    char request[1024];
    ssize_t got = recv(client, request, sizeof(request), 0);

    g_string_append_len(server->requests, request, MAX(got, 0));
    if (!server->answers) {
        while (recv(client, request, sizeof(request), 0) > 0)
            continue;
        return;
    }
    ck_assert_int_eq(send(client, *server->answers, strlen(*server->answers), MSG_NOSIGNAL),
                     (ssize_t)strlen(*server->answers));
    if (server->answers[1])
        server->answers++;
}

static void *serve(void *data)
{
    struct server *server = data;

    while (true) {
        AUTO_FD client = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC);

        if (client < 0)
            return NULL;
        serve_one(server, client);
    }
}

static struct server *server_new(const char *const *answers)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    struct server *server = g_new0(struct server, 1);

    server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(server->fd, 0);
    ck_assert_int_eq(bind(server->fd, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(getsockname(server->fd, (struct sockaddr *)&address, &len), 0);
    ck_assert_int_eq(listen(server->fd, 4), 0);
    server->port = ntohs(address.sin_port);
    server->answers = answers;
    server->requests = g_string_new(NULL);
    server->thread = g_thread_new("server", serve, server);
    return server;
}

static void server_free(struct server *server)
{
    shutdown(server->fd, SHUT_RDWR);
    g_thread_join(server->thread);
    close(server->fd);
    g_string_free(server->requests, TRUE);
    g_free(server);
}
DEFINE_CLEANUP(server)

#define HTTP_RULE "address = 127.0.0.1\nready-interval = 100ms\nready = http:%u%s\n"

START_TEST(a_page_is_asked_for_until_it_has_the_wanted_status)
{
    static const char *const answers[] = {"HTTP/1.1 503 Starting\r\nX: y\r\n\r\nwait",
                                          "HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 204\r\n\r\n", NULL};
    AUTO(server) server = server_new(answers);
    AUTO(vapp) vapp = vapp_of(HTTP_RULE "ready-timeout = 30s", server->port, "/health?full=1=204");
    const struct vapp_vm *vm = vapp_vm(vapp, "db");
    g_autoptr(GError) error = NULL;
    g_autofree char *expected =
        g_strdup_printf("GET /health?full=1 HTTP/1.0\r\nHost: 127.0.0.1:%u\r\n", server->port);

    ck_assert(!vapp_is_ready(vm, NULL));
    unit_ok(vapp_wait_ready(vm, NULL, &error), error);
    ck_assert(vapp_is_ready(vm, NULL));
    ck_assert(g_str_has_prefix(server->requests->str, expected));
}
END_TEST

START_TEST(what_a_port_answers_instead_is_told)
{
    static const struct {
        const char *answer, *told;
    } cases[] = {
        {"HTTP/1.1 500 Broken\r\n\r\n", "127.0.0.1: status 500"},
        {"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", "127.0.0.1: status 302"},
        {"SSH-2.0-OpenSSH_9.2\r\n", "127.0.0.1: what it answers is not HTTP"},
        {"", "127.0.0.1: it accepts, but does not answer"},
        {"HTTP/1.1 200 without an end", "127.0.0.1: it accepts, but does not answer"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        const char *const answers[] = {cases[i].answer, NULL};
        AUTO(server) server = server_new(answers);
        AUTO(vapp) vapp = vapp_of(HTTP_RULE "ready-retries = 0", server->port, "");
        g_autoptr(GError) error = NULL;

        unit_fails(vapp_wait_ready(vapp_vm(vapp, "db"), NULL, &error), error, ERROR_HYPERVISOR,
                   cases[i].told);
    }
}
END_TEST

START_TEST(an_answer_without_an_end_is_not_read_for_ever)
{
    g_autofree char *flood = g_strnfill(64 * 1024, 'x');
    const char *const answers[] = {flood, NULL};
    AUTO(server) server = server_new(answers);
    AUTO(vapp) vapp = vapp_of(HTTP_RULE "ready-retries = 0", server->port, "/");
    g_autoptr(GError) error = NULL;

    unit_fails(vapp_wait_ready(vapp_vm(vapp, "db"), NULL, &error), error, ERROR_HYPERVISOR,
               "does not answer");
}
END_TEST

START_TEST(a_server_that_is_silent_holds_nobody_longer_than_the_timeout)
{
    AUTO(server) server = server_new(NULL);
    AUTO(vapp) vapp = vapp_of(HTTP_RULE "ready-timeout = 1s", server->port, "/");
    int64_t begun_ms = time_monotonic_ms();
    g_autoptr(GError) error = NULL;

    unit_fails(vapp_wait_ready(vapp_vm(vapp, "db"), NULL, &error), error, ERROR_HYPERVISOR,
               "for status 200 of / at port");
    ck_assert_int_lt(time_monotonic_ms() - begun_ms, 5000);
}
END_TEST

static void *interrupt_soon(void *data)
{
    g_usleep(200 * 1000);
    interrupt_request();
    return NULL;
}

START_TEST(an_interrupt_ends_a_look_that_waits)
{
    AUTO(server) server = server_new(NULL);
    AUTO(vapp) vapp = vapp_of(HTTP_RULE "ready-timeout = 1h", server->port, "/");
    GThread *thread = g_thread_new("interrupt", interrupt_soon, NULL);
    int64_t begun_ms = time_monotonic_ms();
    g_autoptr(GError) error = NULL;

    unit_fails(vapp_wait_ready(vapp_vm(vapp, "db"), NULL, &error), error, ERROR_CANCELLED,
               "interrupted");
    ck_assert_int_lt(time_monotonic_ms() - begun_ms, 5000);
    g_thread_join(thread);
}
END_TEST

START_TEST(it_is_given_up_after_the_last_retry)
{
    AUTO(server) server = server_new(NULL);
    uint16_t port = server->port;
    g_autoptr(GError) error = NULL;
    AUTO(vapp)
    vapp = vapp_of("address = 127.0.0.1\nready = tcp:%u\nready-timeout = 1h\n"
                   "ready-retries = 2\nready-interval = 100ms",
                   port);

    shutdown(server->fd, SHUT_RDWR); /* nobody listens there any more */
    unit_fails(vapp_wait_ready(vapp_vm(vapp, "db"), NULL, &error), error, ERROR_HYPERVISOR,
               "(3 tries)");
}
END_TEST

/* ---- log */

/* Prints what stands behind it on COM1, about every second. */
static const uint8_t printer[] = {
    0xfb,             /* sti */
    0xfc,             /* cld */
    0x31, 0xc0,       /* xor ax, ax */
    0x8e, 0xd8,       /* mov ds, ax */
    0xbe, 0x28, 0x7c, /* again: mov si, text */
    0xac,             /* next: lodsb */
    0x84, 0xc0,       /* test al, al */
    0x74, 0x12,       /* jz pause */
    0x88, 0xc4,       /* mov ah, al */
    0xba, 0xfd, 0x03, /* mov dx, LSR */
    0xec,             /* busy: in al, dx */
    0xa8, 0x20,       /* test al, THRE */
    0x74, 0xfb,       /* jz busy */
    0xba, 0xf8, 0x03, /* mov dx, THR */
    0x88, 0xe0,       /* mov al, ah */
    0xee,             /* out dx, al */
    0xeb, 0xe9,       /* jmp next */
    0xb9, 0x12, 0x00, /* pause: mov cx, 18 ticks of 55 ms */
    0xf4,             /* tick: hlt */
    0xe2, 0xfd,       /* loop tick */
    0xeb, 0xde,       /* jmp again */
                      /* text: */
};

static void write_printer(const char *name, const char *text)
{
    g_autofree char *path = image_path(name);
    g_autofree uint8_t *disk = g_new0(uint8_t, 1024 * 1024);
    g_autoptr(GError) error = NULL;

    memcpy(disk, printer, sizeof(printer));
    memcpy(disk + sizeof(printer), text, strlen(text));
    disk[510] = 0x55;
    disk[511] = 0xaa;
    unit_ok(file_write(path, disk, 1024 * 1024, 0666, &error), error);
    chmod(path, 0666);
}

/* VM "db" with CONSOLE in its definition, which prints TEXT. */
static struct domain *define_printer(struct host *host, const char *console, const char *text)
{
    g_autofree char *disk = image_path("db");
    g_autofree char *xml = g_strdup_printf(
        "<domain type='qemu'><name>db</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64' machine='pc'>hvm</type></os>"
        "<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/>"
        "<source file='%s'/><target dev='hda' bus='ide'/></disk>%s"
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
        "<controller type='usb' model='none'/><memballoon model='none'/></devices></domain>",
        disk, console);
    g_autoptr(GError) error = NULL;
    AUTO(domain) old = host_domain(host, "db", NULL);
    struct domain *domain;

    if (old) { /* of a test that failed */
        unit_ok(domain_destroy(old, &error), error);
        unit_ok(domain_undefine(old, &error), error);
    }
    write_printer("db", text);
    domain = host_define(host, xml, &error);
    unit_ok(domain != NULL, error);
    return domain;
}

static void remove_printer(struct domain *domain)
{
    g_autoptr(GError) error = NULL;

    unit_ok(domain_destroy(domain, &error), error);
    unit_ok(domain_undefine(domain, &error), error);
}

static void host_free_element(void *data)
{
    host_free(data);
}

/* Start the vApp; the error of db, or NULL when it is ready. g_free. */
static char *start(const struct vapp *vapp)
{
    g_autoptr(GPtrArray) hosts = g_ptr_array_new_with_free_func(host_free_element);
    g_autoptr(GPtrArray) results = NULL;
    const struct vapp_result *result;

    g_ptr_array_add(hosts, session_open());
    vapp_start_domains(vapp, hosts, NULL, NULL, &results, NULL);
    result = results->pdata[0];
    ck_assert(result->state == VAPP_VM_DONE || result->error);
    return result->state == VAPP_VM_DONE ? NULL : g_strdup(result->error);
}

static char *log_path(void)
{
    return image_path("db.log");
}

static void check_console(const char *console, const char *text, const char *regex)
{
    AUTO(host) host = session_open();
    AUTO(domain) domain = define_printer(host, console, text);
    AUTO(vapp) vapp = vapp_of("ready = log:%s\nready-timeout = 50s", regex);
    g_autofree char *problem = start(vapp);

    ck_assert_msg(!problem, "%s: %s", console, problem);
    remove_printer(domain);
}

START_TEST(a_line_is_found_in_the_log_file_of_the_console)
{
    g_autofree char *path = log_path();
    g_autofree char *console =
        g_strdup_printf("<serial type='pty'><log file='%s' append='off'/></serial>", path);

    check_console(console, "booting\r\nall is well\r\n", "^all is [a-z]+$");
}
END_TEST

START_TEST(a_prompt_without_a_line_feed_is_found)
{
    g_autofree char *path = log_path();
    g_autofree char *console =
        g_strdup_printf("<serial type='pty'><log file='%s' append='off'/></serial>", path);

    check_console(console, "\033[2Jmail login: ", "login: $");
}
END_TEST

START_TEST(a_console_that_is_a_file_is_read)
{
    g_autofree char *path = image_path("db.console");
    g_autofree char *console =
        g_strdup_printf("<serial type='file'><source path='%s'/></serial>", path);

    check_console(console, "\xff\xfe ready\r\n", "ready");
}
END_TEST

START_TEST(a_console_without_a_log_file_is_listened_to)
{
    check_console("<serial type='pty'/>", "all is well\r\n", "well");
}
END_TEST

START_TEST(what_was_printed_last_is_told)
{
    g_autofree char *path = log_path();
    g_autofree char *console =
        g_strdup_printf("<serial type='pty'><log file='%s' append='off'/></serial>", path);
    AUTO(host) host = session_open();
    AUTO(domain) domain = define_printer(host, console, "boot\r\nno disk\a found\r\n");
    AUTO(vapp) vapp = vapp_of("ready = log:^ready$\nready-timeout = 8s");
    g_autofree char *problem = start(vapp);

    ck_assert_msg(problem && strstr(problem, "for a line like '^ready$' on its console; last seen: "
                                             "it printed: no disk  found"),
                  "%s", problem);
    remove_printer(domain);
}
END_TEST

START_TEST(what_an_earlier_start_printed_does_not_count)
{
    g_autofree char *path = log_path();
    g_autofree char *console =
        g_strdup_printf("<serial type='pty'><log file='%s' append='on'/></serial>", path);
    AUTO(host) host = session_open();
    AUTO(domain) domain = define_printer(host, console, "first start\r\n");
    AUTO(vapp) first = vapp_of("ready = log:first\nready-timeout = 50s");
    AUTO(vapp) again = vapp_of("ready = log:first\nready-timeout = 5s");
    g_autoptr(GError) error = NULL;
    g_autofree char *none = start(first);
    g_autofree char *problem = NULL;

    ck_assert_msg(!none, "%s", none);
    /* It runs: all that is in the file counts. */
    ck_assert(vapp_is_ready(vapp_vm(first, "db"), domain));
    unit_ok(domain_destroy(domain, &error), error);
    write_printer("db", "second start\r\n");
    problem = start(again);
    ck_assert_msg(problem && strstr(problem, "it printed: second start"), "%s", problem);
    remove_printer(domain);
}
END_TEST

START_TEST(only_a_regular_file_is_read)
{
    AUTO(host) host = session_open();
    AUTO(domain)
    domain = define_printer(host, "<serial type='file'><source path='/dev/zero'/></serial>", "x");
    AUTO(vapp) vapp = vapp_of("ready = log:x\nready-timeout = 1s");
    g_autofree char *problem = start(vapp);

    ck_assert_msg(problem && strstr(problem, "/dev/zero is not a regular file"), "%s", problem);
    remove_printer(domain);
}
END_TEST

START_TEST(a_command_in_a_guest_without_agent_says_so)
{
    AUTO(host) host = session_open();
    AUTO(domain) domain = define_printer(host, "", "x");
    AUTO(vapp) vapp = vapp_of("ready = command:pg_isready -q\nready-retries = 1");
    g_autofree char *problem = start(vapp);

    ck_assert_msg(problem &&
                      strstr(problem, "for success of pg_isready in the guest; last seen: ") &&
                      strstr(problem, "agent is not connected"),
                  "%s", problem);
    remove_printer(domain);
}
END_TEST

/* ---- What can be told before */

START_TEST(what_can_never_be_ready_is_told_from_the_definition)
{
    static const char nic[] = "<interface type='bridge'/>";
    static const char unplugged[] = "<interface type='user'><link state='down'/></interface>";
    static const char agent[] =
        "<channel><target type='virtio' name='org.qemu.guest_agent.0'/></channel>";
    static const struct {
        const char *rule, *devices, *problem;
    } cases[] = {
        {"none", "", NULL},
        {"tcp:1", nic, NULL},
        {"tcp:1", unplugged, "ready = tcp:1: without a network nobody will see it"},
        {"http:1/x", "", "ready = http:1/x: without a network"},
        {"agent", agent, NULL},
        {"agent", "", "no channel for a guest agent"},
        {"command:true", nic, "no channel for a guest agent"},
        {"log:x", "<serial type='pty'/>", NULL},
        {"log:x", "<console type='pty'><target type='virtio'/></console>", NULL},
        {"log:x", "<serial type='file'><source path='/x'/></serial>", NULL},
        {"log:x", "<serial type='tcp'><log file='/x'/></serial>", NULL},
        {"log:x", "<serial type='tcp'/>", "cannot be read: it is no pty and has no <log file"},
        {"log:x", "", "it has no serial console"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        AUTO(vapp) vapp = vapp_of("ready = %s", cases[i].rule);
        g_autofree char *text =
            g_strdup_printf("<domain><devices>%s</devices></domain>", cases[i].devices);
        AUTO(xml) xml = xml_parse(text, "definition", NULL);
        g_autofree char *problem = vapp_ready_problem(vapp_vm(vapp, "db"), xml_root(xml));

        ck_assert_msg(cases[i].problem ? problem && strstr(problem, cases[i].problem) : !problem,
                      "%s of %s: %s", cases[i].rule, cases[i].devices, problem);
    }
}
END_TEST

int main(void)
{
    return SESSION_RUN(
        "ready", a_page_is_asked_for_until_it_has_the_wanted_status,
        what_a_port_answers_instead_is_told, an_answer_without_an_end_is_not_read_for_ever,
        a_server_that_is_silent_holds_nobody_longer_than_the_timeout,
        an_interrupt_ends_a_look_that_waits, it_is_given_up_after_the_last_retry,
        a_line_is_found_in_the_log_file_of_the_console, a_prompt_without_a_line_feed_is_found,
        a_console_that_is_a_file_is_read, a_console_without_a_log_file_is_listened_to,
        what_was_printed_last_is_told, what_an_earlier_start_printed_does_not_count,
        only_a_regular_file_is_read, a_command_in_a_guest_without_agent_says_so,
        what_can_never_be_ready_is_told_from_the_definition);
}
