/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/service.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/common.h"
#include "metadata/metadata.h"

/* "/run/..." or "@..." of the abstract name space. */
static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    int fd;

    if ((path[0] != '/' && path[0] != '@') || len >= sizeof(address.sun_path))
        return -1;
    memcpy(address.sun_path, path, len);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address,
                           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void say(const struct service *service, const char *text)
{
    if (service->fd >= 0 && send(service->fd, text, strlen(text), MSG_NOSIGNAL) < 0)
        return; /* the manager is gone, or does not listen: there is nobody else to tell */
}

void service_open(struct service *service)
{
    const char *path = g_getenv("NOTIFY_SOCKET"), *watchdog = g_getenv("WATCHDOG_USEC");
    const char *pid = g_getenv("WATCHDOG_PID");
    uint64_t usec;

    *service = (struct service){.fd = path ? connect_to(path) : -1};
    if (watchdog && g_ascii_string_to_unsigned(watchdog, 10, 1, G_MAXINT64, &usec, NULL) &&
        (!pid || g_ascii_strtoll(pid, NULL, 10) == getpid()))
        service->every_ms = MAX((int64_t)usec / 1000 / 2, 1);
    /* Its jobs are no services. */
    g_unsetenv("NOTIFY_SOCKET");
    g_unsetenv("WATCHDOG_USEC");
    g_unsetenv("WATCHDOG_PID");
}

void service_ready(const struct service *service)
{
    say(service, "READY=1\nSTATUS=nothing to do yet");
}

void service_alive(struct service *service, unsigned jobs)
{
    g_autofree char *text = NULL;
    int64_t now_ms = time_monotonic_ms();

    if (service->fd < 0 || now_ms < service->next_ms)
        return;
    service->next_ms = now_ms + (service->every_ms ? MIN(service->every_ms, 10000) : 10000);
    text = g_strdup_printf("WATCHDOG=1\nSTATUS=%u jobs at work", jobs);
    say(service, text);
}

void service_stopping(const struct service *service)
{
    say(service, "STOPPING=1");
}

void service_close(struct service *service)
{
    if (service->fd >= 0)
        close(service->fd);
    service->fd = -1;
}

static bool systemd_has_unit(void)
{
    static const char *const dirs[] = {"/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"};

    /* Only systemd makes it, see sd_booted(3). */
    if (!g_file_test("/run/systemd/system", G_FILE_TEST_IS_DIR))
        return false;
    for (unsigned i = 0; i < G_N_ELEMENTS(dirs); i++) {
        g_autofree char *path =
            g_build_filename(dirs[i], "systemd", "system", "drctl.service", NULL);

        if (g_file_test(path, G_FILE_TEST_EXISTS))
            return true;
    }
    return false;
}

const char *service_remedy(const char *config_dir)
{
    g_autofree char *usual = config_default_dir();

    /* The unit is of root's site, where it lies usually. */
    if (geteuid() == 0 && g_str_equal(config_dir, usual) && systemd_has_unit())
        return "systemctl enable --now drctl";
    return "start drctl daemon, as a service of the system";
}
