/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests that need a real libvirtd: one of their own, a session that all tests of a binary
 * share, and tiny guests with disks but no system. What is left in it is gone when the binary ends.
 * The binary is skipped where libvirtd is not installed.
 *
 *     int main(void) { return SESSION_RUN("host", finds_a_domain, ...); }
 */
#pragma once

#include <sys/stat.h>

#include "common/common.h"
#include "tests/unit.h"

#define SESSION TESTS_DIR "/session-libvirtd"

static char *session_dir; /* of the libvirtd that all tests of this binary share */
static char *session_uri;

/* Run ARGV (NULL-terminated) to a good end; its output, g_free. */
G_GNUC_UNUSED static inline char *run(const char *const *argv)
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
G_GNUC_UNUSED static inline void session_start(void)
{
    /* mkdtemp() makes 0700, but the session is another user's when root runs the tests. */
    chmod(unit_base, 0711);
    session_dir = g_build_filename(unit_base, "s", NULL); /* short: see session-libvirtd */
    session_uri = g_strchomp(run((const char *const[]){SESSION, "up", session_dir, NULL}));
}

/* A failure here is none of a test's, so Check counts it and TAP says nothing of it. */
G_GNUC_UNUSED static inline void session_stop(void)
{
    const char *const argv[] = {SESSION, "down", session_dir, NULL};
    g_autoptr(GError) error = NULL;

    if (!process_run(argv, 300, NULL, &error))
        printf("Bail out! %s\n", error->message);
    g_free(session_uri);
    g_free(session_dir);
}

G_GNUC_UNUSED static inline struct host *session_open(void)
{
    g_autoptr(GError) error = NULL;
    struct host *host = host_open(session_uri, &error);

    unit_ok(host != NULL, error);
    return host;
}

G_GNUC_UNUSED static inline char *image_path(const char *name)
{
    return g_strdup_printf("%s/images/%s", session_dir, name);
}

G_GNUC_UNUSED static inline char *disk_xml(const char *name, const char *target)
{
    g_autofree char *file = g_strdup_printf("%s.%s", name, target);
    g_autofree char *path = image_path(file);

    AS_USER("qemu-img", "create", "-q", "-f", "qcow2", path, "16M");
    return g_strdup_printf("<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
                           "<source file='%s'/><target dev='%s' bus='virtio'/></disk>",
                           path, target);
}

/* A definition with disks vda and vdb, both empty, an agent's channel and DEVICES; g_free. */
G_GNUC_UNUSED static inline char *guest_xml(const char *name, const char *devices)
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

G_GNUC_UNUSED static inline struct domain *define_guest(struct host *host, const char *name,
                                                        const char *devices)
{
    g_autofree char *xml = guest_xml(name, devices);
    g_autoptr(GError) error = NULL;
    struct domain *domain = host_define(host, xml, &error);

    unit_ok(domain != NULL, error);
    return domain;
}

/* A guest that runs but does nothing, to the end of the session, which ends it sooner than a
 * power-off by libvirt would. */
G_GNUC_UNUSED static inline struct domain *paused_guest(struct host *host, const char *name)
{
    struct domain *domain = define_guest(host, name, "");

    VIRSH("start", "--paused", name);
    return domain;
}

G_GNUC_UNUSED static inline enum domain_state state_of(struct domain *domain)
{
    g_autoptr(GError) error = NULL;
    enum domain_state state = DOMAIN_OFF;

    unit_ok(domain_state(domain, &state, &error), error);
    return state;
}

G_GNUC_UNUSED static inline void undefine_guest(struct domain *domain)
{
    g_autoptr(GError) error = NULL;

    unit_ok(domain_undefine(domain, &error), error);
}

G_GNUC_UNUSED static inline bool is_installed(const char *program)
{
    g_autofree char *found = g_find_program_in_path(program);
    g_autofree char *other = g_build_filename("/usr/sbin", program, NULL);

    return found || g_file_test(other, G_FILE_TEST_IS_EXECUTABLE);
}

/* As unit_run(), between START and STOP, which have the session around all tests. */
G_GNUC_UNUSED static inline int session_run(const char *name, SFun start, SFun stop,
                                            const TTest *const *tests)
{
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);

    if (!is_installed("libvirtd") || !is_installed("virsh")) {
        puts("1..0 # SKIP libvirtd or virsh is not installed");
        return EXIT_SUCCESS;
    }
    tcase_set_timeout(tcase, UNIT_TIMEOUT_S);
    tcase_add_unchecked_fixture(tcase, start, stop);
    for (; *tests; tests++)
        tcase_add_test(tcase, *tests);
    suite_add_tcase(suite, tcase);
    return unit_run_suite(suite);
}
#define SESSION_RUN(name, ...)                                                                     \
    session_run(name, session_start, session_stop, (const TTest *const[]){__VA_ARGS__, NULL})
