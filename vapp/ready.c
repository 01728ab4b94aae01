/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "vapp/vapp.h"

#define TRY_MS 2000    /* one try */
#define TRY_MIN_MS 250 /* also when time is nearly over, or what is seen last says nothing */
#define PAUSE_MS 500   /* between tries: a guest that boots is not slowed down by us */
#define TICK_MS 100    /* how soon an interrupt is seen */
#define ADDRESSES_MAX 16

/* ---- tcp: is somebody listening on one of the guest's addresses? */

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

/* Wait until one of ATTEMPTS has connected; false when all have failed or time is over. */
static bool connect_any(struct attempt *attempts, unsigned count, int64_t deadline_ms,
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
        if (open == 0 || left_ms <= 0)
            return false;
        if (poll(polls, count, (int)left_ms) < 0 && errno != EINTR)
            return false;
        for (unsigned i = 0; i < count; i++)
            if (attempts[i].fd >= 0 && polls[i].revents && connect_end(&attempts[i], seen))
                return true;
    }
}

/* Try all ADDRESSES at once, because a wrong one often does not answer at all. */
static bool tcp_try(char *const *addresses, uint16_t port, int64_t deadline_ms, GError **error)
{
    g_autoptr(GString) seen = g_string_new(NULL);
    struct attempt attempts[ADDRESSES_MAX];
    unsigned count = 0;
    bool connected;

    for (char *const *address = addresses; *address && count < ADDRESSES_MAX; address++) {
        attempts[count].address = *address;
        attempts[count].fd = connect_begin(*address, port, seen);
        count++;
    }
    connected = connect_any(attempts, count, deadline_ms, seen);
    for (unsigned i = 0; i < count; i++) {
        if (attempts[i].fd < 0)
            continue;
        if (!connected)
            say_refused(seen, attempts[i].address, ETIMEDOUT);
        close(attempts[i].fd);
    }
    return connected || fail(error, ERROR_HYPERVISOR, "%s", seen->str);
}

/* An address of this host says nothing about the guest, yet a guest can have the same one: think of
 * the bridge of a container engine that runs here and there. */
static bool is_our_own(const char *address)
{
    struct ifaddrs *interfaces;
    bool found = false;

    if (getifaddrs(&interfaces) < 0)
        return false;
    for (struct ifaddrs *at = interfaces; at && !found; at = at->ifa_next) {
        char host[NI_MAXHOST];
        socklen_t len = at->ifa_addr && at->ifa_addr->sa_family == AF_INET6
                            ? sizeof(struct sockaddr_in6)
                            : sizeof(struct sockaddr_in);

        if (at->ifa_addr &&
            (at->ifa_addr->sa_family == AF_INET || at->ifa_addr->sa_family == AF_INET6) &&
            getnameinfo(at->ifa_addr, len, host, sizeof(host), NULL, 0, NI_NUMERICHOST) == 0)
            found = strcmp(host, address) == 0;
    }
    freeifaddrs(interfaces);
    return found;
}

static char **guest_addresses(struct domain *domain, GError **error)
{
    g_auto(GStrv) all = domain_addresses(domain, error);
    g_autoptr(GStrvBuilder) others = g_strv_builder_new();

    if (!all)
        return NULL;
    for (char **address = all; *address; address++)
        if (!is_our_own(*address))
            g_strv_builder_add(others, *address);
    return g_strv_builder_end(others);
}

static bool tcp_is_ready(const struct vapp_vm *vm, struct domain *domain, int64_t deadline_ms,
                         GError **error)
{
    char *const fixed[] = {vm->address, NULL};
    g_auto(GStrv) known = NULL;

    if (vm->address)
        return tcp_try(fixed, vm->ready_port, deadline_ms, error);
    known = guest_addresses(domain, error);
    if (!known)
        return false;
    if (!*known)
        return fail(error, ERROR_HYPERVISOR,
                    "no address of the guest is known: it has no DHCP lease and no agent "
                    "(`address` of the VM in the vApp's file can name one)");
    return tcp_try(known, vm->ready_port, deadline_ms, error);
}

/* ---- One try */

static bool agent_is_ready(struct domain *domain, int64_t deadline_ms, GError **error)
{
    int64_t left_ms = deadline_ms - time_monotonic_ms();
    unsigned timeout_s = (unsigned)CLAMP(left_ms / 1000, 1, TRY_MS / 1000);

    return domain_agent_ping(domain, timeout_s, error);
}

/* The error says what was seen. */
static bool try_once(const struct vapp_vm *vm, struct domain *domain, int64_t deadline_ms,
                     GError **error)
{
    int64_t now_ms = time_monotonic_ms();
    int64_t try_deadline_ms = now_ms + CLAMP(deadline_ms - now_ms, TRY_MIN_MS, TRY_MS);

    switch (vm->ready) {
    case READY_NONE:
        return true;
    case READY_AGENT:
        return agent_is_ready(domain, try_deadline_ms, error);
    case READY_TCP:
        return tcp_is_ready(vm, domain, try_deadline_ms, error);
    }
    return false;
}

bool vapp_is_ready(const struct vapp_vm *vm, struct domain *domain)
{
    return try_once(vm, domain, INT64_MAX, NULL);
}

/* ---- Until ready */

static char *awaited(const struct vapp_vm *vm)
{
    if (vm->ready == READY_TCP)
        return g_strdup_printf("a connection to TCP port %u", vm->ready_port);
    return g_strdup("an answer of its guest agent");
}

/* A guest that is off will not become ready. One that is paused can be resumed by somebody; that it
 * is paused is then what was SEEN. */
static bool still_there(const struct vapp_vm *vm, struct domain *domain, GError **seen,
                        GError **error)
{
    enum domain_state state;

    if (!domain || !domain_state(domain, &state, NULL) || state == DOMAIN_RUNNING)
        return true;
    if (state == DOMAIN_OFF || state == DOMAIN_CRASHED)
        return fail(error, ERROR_HYPERVISOR, "VM '%s' is not ready: it is %s by now", vm->name,
                    domain_state_name(state));
    g_clear_error(seen);
    fail(seen, ERROR_HYPERVISOR, "it is %s", domain_state_name(state));
    return true;
}

static bool pause_until(int64_t until_ms, GError **error)
{
    int64_t left_ms;

    while ((left_ms = until_ms - time_monotonic_ms()) > 0) {
        if (!interrupt_check(error))
            return false;
        g_usleep((unsigned long)MIN(left_ms, TICK_MS) * 1000);
    }
    return interrupt_check(error);
}

static bool fail_timeout(const struct vapp_vm *vm, const char *seen, GError **error)
{
    g_autofree char *what = awaited(vm);
    g_autofree char *timeout = duration_format((double)vm->ready_timeout_ms / 1000);

    return fail(error, ERROR_HYPERVISOR, "VM '%s' is not ready: waited %s for %s; last seen: %s",
                vm->name, timeout, what, seen);
}

bool vapp_wait_ready(const struct vapp_vm *vm, struct domain *domain, GError **error)
{
    int64_t deadline_ms = time_monotonic_ms() + vm->ready_timeout_ms;

    while (true) {
        g_autoptr(GError) seen = NULL;
        int64_t next_ms = time_monotonic_ms() + PAUSE_MS;

        if (try_once(vm, domain, deadline_ms, &seen))
            return true;
        if (!still_there(vm, domain, &seen, error))
            return false;
        if (time_monotonic_ms() >= deadline_ms)
            return fail_timeout(vm, seen->message, error);
        if (!pause_until(MIN(next_ms, deadline_ms), error))
            return false;
    }
}
