/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A link: the two-way byte stream to `drctl serve`, whatever carries it. Frames (wire.h) travel on
 * it. A link is used by one thread at a time. After LINK_END or a failure it is of no more use than
 * to be freed. Waiting ends early with ERROR_CANCELLED when the user interrupts.
 */
#pragma once

#include "metadata/metadata.h"

#include "replicator/throttle.h"

struct link {
    const struct link_ops *ops;
};

enum link_state {
    LINK_DATA,    /* at least one byte */
    LINK_NOTHING, /* nothing came in time */
    LINK_END,     /* the other side is done: nothing will come any more */
    LINK_FAILED,
};

#define LINK_FOREVER (-1)

struct link_ops {
    /* Write all of it, however long the other side takes to accept it. While waiting, what arrives
     * is taken in, so that two sides that write at the same time do not wait for each other. */
    bool (*write)(struct link *link, const void *data, size_t len, GError **error);
    /* Read 1..LEN bytes; wait for the first one up to TIMEOUT_MS (0: do not wait; LINK_FOREVER). */
    enum link_state (*read)(struct link *link, void *data, size_t len, int timeout_ms, size_t *got,
                            GError **error);
    /* Why the stream ended, as far as the link knows more than that it did ("exit status 127:
     * drctl: command not found"), or NULL; g_free. May wait a few seconds for it. */
    char *(*last_words)(struct link *link);
    void (*free)(struct link *link);
};

static inline void link_free(struct link *link)
{
    if (link)
        link->ops->free(link);
}
DEFINE_CLEANUP(link)

/* A link on two descriptors (pipes, a socket twice), which are borrowed and non-blocking until the
 * link is freed. The caller must ignore SIGPIPE. */
struct link *link_fd_new(int in_fd, int out_fd);

/* INNER at the rate of THROTTLE, in both directions together. Takes both. */
struct link *link_throttled_new(struct link *inner, struct throttle *throttle);

/* REMOTE's host as OpenSSH writes it into known_hosts: "host" or "[host]:port"; g_free. */
char *remote_known_name(const struct remote *remote);
/* Connect to REMOTE by ssh, check its host key, authenticate, run `drctl serve`. ERROR_NETWORK when
 * it cannot be reached, ERROR_AUTH for an unknown or changed host key or a refused key,
 * ERROR_CONFIG when our key file is unusable. */
struct link *link_ssh_open(const struct remote *remote, GError **error);
