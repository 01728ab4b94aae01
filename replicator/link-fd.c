/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>

#include "replicator/link.h"

#define POLL_SLICE_MS 1000 /* between two looks at the interrupt flag */

struct fd_link {
    struct link link;
    int in, out;
    int in_flags, out_flags; /* to give back: a description may be shared with a terminal */
};

/* Wait until FD is ready for EVENTS, at most until DEADLINE_MS (negative: for ever). */
static enum link_state wait_ready(int fd, short events, int64_t deadline_ms, GError **error)
{
    for (;;) {
        int64_t left = deadline_ms < 0 ? POLL_SLICE_MS : deadline_ms - time_monotonic_ms();
        struct pollfd poll_fd = {.fd = fd, .events = events};
        int ready;

        if (!interrupt_check(error))
            return LINK_FAILED;
        ready = poll(&poll_fd, 1, (int)CLAMP(left, 0, POLL_SLICE_MS));
        if (ready > 0)
            return LINK_DATA;
        if (ready < 0 && errno != EINTR) {
            fail_errno(error, errno, "cannot wait for the other side");
            return LINK_FAILED;
        }
        if (deadline_ms >= 0 && left <= 0)
            return LINK_NOTHING;
    }
}

static bool would_block(int saved_errno)
{
    return saved_errno == EAGAIN || saved_errno == EWOULDBLOCK;
}

static bool fd_link_write(struct link *link, const void *data, size_t len, GError **error)
{
    struct fd_link *self = (struct fd_link *)link;

    /* A fast link never waits. */
    if (!interrupt_check(error))
        return false;
    for (size_t done = 0; done < len;) {
        ssize_t put = write(self->out, (const char *)data + done, len - done);

        if (put >= 0)
            done += (size_t)put;
        else if (would_block(errno) || errno == EINTR) {
            if (wait_ready(self->out, POLLOUT, -1, error) == LINK_FAILED)
                return false;
        } else
            return fail(error, ERROR_NETWORK, "the other side takes nothing any more: %s",
                        g_strerror(errno));
    }
    return true;
}

static enum link_state fd_link_read(struct link *link, void *data, size_t len, int timeout_ms,
                                    size_t *got, GError **error)
{
    struct fd_link *self = (struct fd_link *)link;
    int64_t deadline_ms = timeout_ms < 0 ? -1 : time_monotonic_ms() + timeout_ms;

    for (;;) {
        ssize_t n = read(self->in, data, len);
        enum link_state state;

        if (n > 0) {
            *got = (size_t)n;
            return LINK_DATA;
        }
        /* ECONNRESET: it hung up with something of ours unread. */
        if (n == 0 || errno == ECONNRESET)
            return LINK_END;
        if (!would_block(errno) && errno != EINTR) {
            fail_errno(error, errno, "cannot read from the other side");
            return LINK_FAILED;
        }
        state = wait_ready(self->in, POLLIN, deadline_ms, error);
        if (state != LINK_DATA)
            return state;
    }
}

static char *fd_link_last_words(struct link *link)
{
    return NULL;
}

static void fd_link_free(struct link *link)
{
    struct fd_link *self = (struct fd_link *)link;

    fcntl(self->in, F_SETFL, self->in_flags);
    fcntl(self->out, F_SETFL, self->out_flags);
    g_free(self);
}

static const struct link_ops fd_link_ops = {
    .write = fd_link_write,
    .read = fd_link_read,
    .last_words = fd_link_last_words,
    .free = fd_link_free,
};

struct link *link_fd_new(int in_fd, int out_fd)
{
    struct fd_link *self = g_new0(struct fd_link, 1);

    self->link.ops = &fd_link_ops;
    self->in = in_fd;
    self->out = out_fd;
    self->in_flags = fcntl(in_fd, F_GETFL);
    self->out_flags = fcntl(out_fd, F_GETFL);
    fcntl(in_fd, F_SETFL, self->in_flags | O_NONBLOCK);
    fcntl(out_fd, F_SETFL, self->out_flags | O_NONBLOCK);
    return &self->link;
}
