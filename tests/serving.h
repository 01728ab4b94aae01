/* SPDX-License-Identifier: Apache-2.0 */
/* A local store behind `drctl serve`, in a thread of this process. */
#pragma once

#include <sys/socket.h>

#include "replicator/remote.h"
#include "replicator/serve.h"
#include "tests/unit.h"

#define SERVING_MS 20000

struct serving {
    struct store *local; /* borrowed; not to be used otherwise meanwhile */
    struct store *remote;
    GThread *thread;
    int fds[2];
};

static inline void *serving_main(void *data)
{
    static const struct serve_rules rules;
    const struct serving *serving = data;
    g_autoptr(GError) error = NULL;

    unit_ok(serve_link(serving->local, &rules, link_fd_new(serving->fds[1], serving->fds[1]),
                       SERVING_MS, &error),
            error);
    return NULL;
}

static inline void serving_start(struct serving *serving, struct store *local)
{
    g_autoptr(GError) error = NULL;

    serving->local = local;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, serving->fds), 0);
    serving->thread = g_thread_new("serve", serving_main, serving);
    serving->remote = store_open_link(link_fd_new(serving->fds[0], serving->fds[0]), "dr1",
                                      SERVING_MS / 4, &error);
    unit_ok(serving->remote != NULL, error);
}

static inline void serving_end(struct serving *serving)
{
    store_free(serving->remote);
    close(serving->fds[0]);
    g_thread_join(serving->thread);
    close(serving->fds[1]);
}
