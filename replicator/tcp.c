/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "replicator/tcp.h"

#define CONNECT_TIMEOUT_MS 15000 /* for each address of the host */
#define POLL_SLICE_MS 1000
/* 15 s + 3 * 15 s of silence, or unacknowledged data for as long, and the connection is dead. */
#define KEEPALIVE_S 15
#define KEEPALIVE_PROBES 3
#define DEAD_AFTER_MS 60000

static void set_option(int fd, int level, int option, int value)
{
    /* A kernel without one of these is only slower to notice. */
    setsockopt(fd, level, option, &value, sizeof(value));
}

static void set_options(int fd)
{
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, DEAD_AFTER_MS);
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

/* Wait for a connect(2) that is under way; 0 or its errno, -1 when interrupted. */
static int connect_wait(int fd, int timeout_ms, GError **error)
{
    int64_t deadline_ms = time_monotonic_ms() + timeout_ms;

    for (;;) {
        int64_t left = deadline_ms - time_monotonic_ms();
        struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
        int result = 0;
        socklen_t len = sizeof(result);

        if (!interrupt_check(error))
            return -1;
        if (left <= 0)
            return ETIMEDOUT;
        if (poll(&poll_fd, 1, (int)MIN(left, POLL_SLICE_MS)) <= 0)
            continue;
        return getsockopt(fd, SOL_SOCKET, SO_ERROR, &result, &len) < 0 ? errno : result;
    }
}

/* 0 with *FD, an errno, or -1 when interrupted. */
static int connect_address(const struct addrinfo *address, int timeout_ms, int *out, GError **error)
{
    AUTO_FD fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int result = 0;

    if (fd < 0)
        return errno;
    set_options(fd);
    if (connect(fd, address->ai_addr, address->ai_addrlen) < 0)
        result = errno == EINPROGRESS ? connect_wait(fd, timeout_ms, error) : errno;
    if (result == 0)
        *out = fd_steal(&fd);
    return result;
}

int tcp_connect_within(const char *host, uint16_t port, int timeout_ms, GError **error)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    g_autofree char *service = g_strdup_printf("%u", (unsigned)port);
    struct addrinfo *addresses = NULL;
    int result = getaddrinfo(host, service, &hints, &addresses), fd = -1;

    if (result != 0) {
        fail(error, ERROR_NETWORK, "cannot resolve %s: %s", host, gai_strerror(result));
        return -1;
    }
    result = EHOSTUNREACH;
    for (struct addrinfo *at = addresses; at && fd < 0 && result != -1; at = at->ai_next)
        result = connect_address(at, timeout_ms, &fd, error);
    freeaddrinfo(addresses);
    if (fd < 0 && result != -1)
        fail(error, ERROR_NETWORK, "cannot reach %s port %u: %s", host, (unsigned)port,
             g_strerror(result));
    return fd;
}

int tcp_connect(const char *host, uint16_t port, GError **error)
{
    return tcp_connect_within(host, port, CONNECT_TIMEOUT_MS, error);
}
