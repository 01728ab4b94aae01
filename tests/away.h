/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store behind a real `drctl serve`, on a link that breaks after so many bytes, in one of the ways
 * in which links break.
 */
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "replicator/remote.h"
#include "replicator/wire.h"
#include "tests/unit.h"

#define AWAY_PING_MS 20000

enum away_end {
    AWAY_SERVE_KILLED,
    AWAY_LINK_CUT,
    AWAY_SOURCE_KILLED,
    AWAY_INTERRUPTED, /* by Ctrl-C */
};

struct away {
    const char *store_path; /* borrowed, as is the next */
    const char *drctl;
    pid_t pid; /* of the last server */
    unsigned dialled;
    uint64_t bytes; /* that go there until the link breaks; 0: it does not */
    uint64_t back;  /* that come from there until it breaks, likewise */
    uint64_t received;
    enum away_end end;
    bool before_commit, after_commit; /* it breaks there instead */
};

struct away_link {
    struct link link;
    struct link *inner;
    struct away *away;
    int fd;
    bool silent; /* what has come already does not come through either */
};

static inline void away_break(struct away_link *self)
{
    switch (self->away->end) {
    case AWAY_SERVE_KILLED:
        kill(self->away->pid, SIGKILL);
        break;
    case AWAY_LINK_CUT:
        shutdown(self->fd, SHUT_RDWR);
        break;
    case AWAY_SOURCE_KILLED:
        raise(SIGKILL);
        break;
    case AWAY_INTERRUPTED:
        interrupt_request();
        break;
    }
}

/* Frames are written each by itself. */
static inline bool away_is_commit(const void *data)
{
    return ((const uint8_t *)data)[4] == WIRE_COMMIT;
}

static inline bool away_break_at_commit(struct away_link *self, const void *data, size_t len,
                                        GError **error)
{
    struct away *away = self->away;
    bool sent = !away->after_commit || self->inner->ops->write(self->inner, data, len, error);

    away->before_commit = away->after_commit = false;
    away_break(self);
    return sent && self->inner->ops->write(self->inner, data, len, error);
}

static inline bool away_write(struct link *link, const void *data, size_t len, GError **error)
{
    struct away_link *self = (struct away_link *)link;
    struct away *away = self->away;
    size_t before = MIN(len, away->bytes);

    if ((away->before_commit || away->after_commit) && away_is_commit(data))
        return away_break_at_commit(self, data, len, error);
    if (away->bytes == 0 || before < away->bytes) {
        away->bytes -= before;
        return self->inner->ops->write(self->inner, data, len, error);
    }
    away->bytes = 0;
    if (!self->inner->ops->write(self->inner, data, before, error))
        return false;
    away_break(self);
    return self->inner->ops->write(self->inner, (const char *)data + before, len - before, error);
}

static inline enum link_state away_read(struct link *link, void *data, size_t len, int timeout_ms,
                                        size_t *got, GError **error)
{
    struct away_link *self = (struct away_link *)link;
    struct away *away = self->away;
    size_t most = away->back ? MIN(len, away->back) : len;
    enum link_state state;

    if (self->silent)
        return LINK_END;
    state = self->inner->ops->read(self->inner, data, most, timeout_ms, got, error);
    if (state != LINK_DATA)
        return state;
    away->received += *got;
    self->silent = away->back > 0 && (away->back -= *got) == 0;
    if (self->silent)
        away_break(self);
    return state;
}

static inline char *away_last_words(struct link *link)
{
    return NULL;
}

static inline void away_link_free(struct link *link)
{
    struct away_link *self = (struct away_link *)link;

    link_free(self->inner);
    close(self->fd);
    g_free(self);
}

static const struct link_ops away_link_ops = {
    .write = away_write,
    .read = away_read,
    .last_words = away_last_words,
    .free = away_link_free,
};

extern char **environ;

/* A link to a new `drctl serve`. */
static inline struct link *away_dial(void *context, GError **error)
{
    struct away *away = context;
    struct away_link *self = g_new0(struct away_link, 1);
    char *argv[] = {(char *)away->drctl, (char *)"serve", (char *)"--store",
                    (char *)away->store_path, NULL};
    posix_spawn_file_actions_t actions;
    int fds[2];

    signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fds[1], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
    ck_assert_int_eq(posix_spawn(&away->pid, away->drctl, &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(fds[1]);
    away->dialled++;
    self->link.ops = &away_link_ops;
    self->inner = link_fd_new(fds[0], fds[0]);
    self->away = away;
    self->fd = fds[0];
    return &self->link;
}

/* The last server has ended. */
G_GNUC_UNUSED static inline void away_wait(struct away *away)
{
    int64_t until = time_monotonic_ms() + UNIT_PATIENCE_MS;

    while (waitpid(away->pid, NULL, WNOHANG) == 0) {
        ck_assert_int_lt(time_monotonic_ms(), until);
        g_usleep(10000);
    }
}
