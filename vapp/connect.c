/* SPDX-License-Identifier: Apache-2.0 */
/* Is a port of the guest served, and what does it say? */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "vapp/probe.h"

#define ADDRESSES_MAX 16
#define TICK_MS 100         /* how soon an interrupt is seen */
#define STATUS_LINE_MAX 512 /* "HTTP/1.1 200 OK" */

struct attempt {
    const char *address;
    int fd; /* -1: over */
};

static struct addrinfo *numeric_address(const char *address, uint16_t port)
{
    struct addrinfo hints = {
        .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
        .ai_socktype = SOCK_STREAM,
    };
    struct addrinfo *found;
    char service[8];

    g_snprintf(service, sizeof(service), "%u", port);
    return getaddrinfo(address, service, &hints, &found) == 0 ? found : NULL;
}

static void say_refused(GString *seen, const char *address, int saved_errno)
{
    g_string_append_printf(seen, "%s%s: %s", seen->len ? ", " : "", address,
                           g_strerror(saved_errno));
}

/* A socket that is connecting or connected, or -1 with the reason added to SEEN. */
static int connect_begin(const char *address, uint16_t port, GString *seen)
{
    struct addrinfo *info = numeric_address(address, port);
    AUTO_FD fd = -1;
    int saved_errno = 0;

    if (!info) {
        say_refused(seen, address, EADDRNOTAVAIL);
        return -1;
    }
    fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || (connect(fd, info->ai_addr, info->ai_addrlen) < 0 && errno != EINPROGRESS))
        saved_errno = errno;
    freeaddrinfo(info);
    if (saved_errno != 0) {
        say_refused(seen, address, saved_errno);
        return -1;
    }
    return fd_steal(&fd);
}

/* The socket can be written to: connected, or refused. */
static bool connect_end(struct attempt *attempt, GString *seen)
{
    int saved_errno = 0;
    socklen_t len = sizeof(saved_errno);

    if (getsockopt(attempt->fd, SOL_SOCKET, SO_ERROR, &saved_errno, &len) < 0)
        saved_errno = errno;
    if (saved_errno == 0)
        return true;
    say_refused(seen, attempt->address, saved_errno);
    close(attempt->fd);
    attempt->fd = -1;
    return false;
}

/* Wait until one of ATTEMPTS has connected, which is returned; NULL when all have failed or time is
 * over. */
static struct attempt *connect_any(struct attempt *attempts, unsigned count, int64_t deadline_ms,
                                   GString *seen)
{
    while (true) {
        int64_t left_ms = deadline_ms - time_monotonic_ms();
        struct pollfd polls[ADDRESSES_MAX];
        unsigned open = 0;

        for (unsigned i = 0; i < count; i++) {
            polls[i] = (struct pollfd){.fd = attempts[i].fd, .events = POLLOUT};
            open += attempts[i].fd >= 0;
        }
        if (open == 0 || left_ms <= 0 || !interrupt_check(NULL))
            return NULL;
        if (poll(polls, count, (int)MIN(left_ms, TICK_MS)) < 0 && errno != EINTR)
            return NULL;
        for (unsigned i = 0; i < count; i++)
            if (attempts[i].fd >= 0 && polls[i].revents && connect_end(&attempts[i], seen))
                return &attempts[i];
    }
}

/* The socket of the first of ADDRESSES that accepts, which becomes *ADDRESS (borrowed), or -1. All are
 * tried at once, because a wrong one often does not answer at all. */
static int connect_first(char *const *addresses, uint16_t port, int64_t deadline_ms,
                         const char **address, GError **error)
{
    g_autoptr(GString) seen = g_string_new(NULL);
    struct attempt attempts[ADDRESSES_MAX];
    struct attempt *connected;
    unsigned count = 0;
    int fd = -1;

    for (char *const *at = addresses; *at && count < ADDRESSES_MAX; at++) {
        attempts[count].address = *at;
        attempts[count].fd = connect_begin(*at, port, seen);
        count++;
    }
    connected = connect_any(attempts, count, deadline_ms, seen);
    if (connected) {
        *address = connected->address;
        fd = fd_steal(&connected->fd);
    }
    for (unsigned i = 0; i < count; i++) {
        if (attempts[i].fd < 0)
            continue;
        say_refused(seen, attempts[i].address, ETIMEDOUT);
        close(attempts[i].fd);
    }
    if (fd < 0)
        fail(error, ERROR_HYPERVISOR, "%s", seen->str);
    return fd;
}

bool connect_try(char *const *addresses, uint16_t port, int64_t deadline_ms, GError **error)
{
    const char *address;
    AUTO_FD fd = connect_first(addresses, port, deadline_ms, &address, error);

    return fd >= 0;
}

/* ---- HTTP/1.0, as far as a status needs it */

/* Wait until FD is ready for EVENTS; false when time is over. */
static bool wait_for(int fd, short events, int64_t deadline_ms)
{
    while (true) {
        int64_t left_ms = deadline_ms - time_monotonic_ms();
        struct pollfd polled = {.fd = fd, .events = events};
        int found;

        if (left_ms <= 0 || !interrupt_check(NULL))
            return false;
        found = poll(&polled, 1, (int)MIN(left_ms, TICK_MS));
        if (found > 0)
            return true;
        if (found < 0 && errno != EINTR)
            return false;
    }
}

static bool send_all(int fd, const char *text, int64_t deadline_ms)
{
    size_t left = strlen(text);

    while (left > 0) {
        ssize_t sent;

        if (!wait_for(fd, POLLOUT, deadline_ms))
            return false;
        sent = send(fd, text, left, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        text += MAX(sent, 0);
        left -= (size_t)MAX(sent, 0);
    }
    return true;
}

/* The first line of the answer, without its end; NULL when none comes. g_free. */
static char *receive_line(int fd, int64_t deadline_ms)
{
    g_autoptr(GString) line = g_string_new(NULL);

    while (line->len < STATUS_LINE_MAX) {
        char part[128];
        ssize_t got;
        const char *end;

        if (!wait_for(fd, POLLIN, deadline_ms))
            return NULL;
        got = recv(fd, part, sizeof(part), 0);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
            return NULL;
        g_string_append_len(line, part, MAX(got, 0));
        end = memchr(line->str, '\n', line->len);
        if (end) {
            g_string_truncate(line, (gsize)(end - line->str));
            return g_strdup(g_strchomp(line->str));
        }
    }
    return NULL;
}

static bool check_status(const char *address, const char *line, unsigned status, GError **error)
{
    unsigned got = 0;

    if (!line)
        return fail(error, ERROR_HYPERVISOR, "%s: it accepts, but does not answer", address);
    if (sscanf(line, "HTTP/%*1u.%*1u %3u", &got) != 1)
        return fail(error, ERROR_HYPERVISOR, "%s: what it answers is not HTTP", address);
    return got == status || fail(error, ERROR_HYPERVISOR, "%s: status %u", address, got);
}

/* As in a URL: without a scope, IPv6 in brackets; g_free. */
static char *host_text(const char *address, uint16_t port)
{
    g_autofree char *bare = g_strndup(address, strcspn(address, "%"));

    return strchr(bare, ':') ? g_strdup_printf("[%s]:%u", bare, port)
                             : g_strdup_printf("%s:%u", bare, port);
}

bool http_try(char *const *addresses, uint16_t port, const char *path, unsigned status,
              int64_t deadline_ms, GError **error)
{
    const char *address;
    AUTO_FD fd = connect_first(addresses, port, deadline_ms, &address, error);
    g_autofree char *host = NULL;
    g_autofree char *request = NULL;
    g_autofree char *line = NULL;

    if (fd < 0)
        return false;
    host = host_text(address, port);
    request = g_strdup_printf("GET %s HTTP/1.0\r\nHost: %s\r\nUser-Agent: drctl\r\n"
                              "Connection: close\r\n\r\n",
                              path, host);
    if (send_all(fd, request, deadline_ms))
        line = receive_line(fd, deadline_ms);
    return check_status(address, line, status, error);
}
