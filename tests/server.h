/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `drctl serve` in another process on a socket, and a client that says what it wants: for tests of
 * the protocol.
 */
#pragma once

#include "tests/unit.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "replicator/local.h"
#include "replicator/quota.h"
#include "replicator/remote.h"
#include "replicator/serve.h"
#include "replicator/wire.h"
#include "tests/points-get.h"

#define DEADLINE_MS 20000
#define EXIT_SERVED 0
#define EXIT_BROKEN 3

/* --- A server in another process --- */

/* Of the servers that a test starts. */
static struct serve_rules rules;

struct server {
    char *path; /* of its store */
    pid_t pid;
    int fd; /* our end */
};

G_GNUC_UNUSED static inline void server_run(const char *path, int fd, const struct point_ops *ops,
                                            int idle_ms)
{
    g_autoptr(GError) error = NULL;
    struct catalog *catalog = catalog_open(path, &error);
    struct store *store = catalog ? store_open_local(path, catalog, ops, &error) : NULL;
    bool done = store && serve_link(store, &rules, link_fd_new(fd, fd), idle_ms, &error);

    store_free(store);
    catalog_free(catalog);
    close(fd);
    _exit(done ? EXIT_SERVED : EXIT_BROKEN);
}

/* Another server for the store at PATH. */
G_GNUC_UNUSED static inline struct server server_again(const char *path,
                                                       const struct point_ops *ops, int idle_ms)
{
    struct server server = {.path = g_strdup(path)};
    int fds[2];

    signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    server.fd = fds[0];
    server.pid = fork();
    ck_assert_int_ge(server.pid, 0);
    if (server.pid == 0) {
        /* Also our ends of other servers, which would never see us hang up. */
        close_range(3, (unsigned)fds[1] - 1, 0);
        server_run(path, fds[1], ops, idle_ms);
    }
    close(fds[1]);
    return server;
}

G_GNUC_UNUSED static inline struct server server_new(const struct point_ops *ops)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *path = g_build_filename(dir, "store", NULL);
    g_autoptr(GError) error = NULL;

    unit_ok(store_create(path, "dr1", &error), error);
    return server_again(path, ops, DEADLINE_MS);
}

G_GNUC_UNUSED static inline struct store *server_store(struct server *server)
{
    g_autoptr(GError) error = NULL;
    struct store *store =
        store_open_link(link_fd_new(server->fd, server->fd), "dr1", DEADLINE_MS / 100, &error);

    unit_ok(store, error);
    return store;
}

/* Hang up and wait for its end: EXIT_*, or minus the signal. */
G_GNUC_UNUSED static inline int server_end(struct server *server)
{
    int status;

    if (server->fd >= 0)
        close(server->fd);
    server->fd = -1;
    ck_assert_int_eq(waitpid(server->pid, &status, 0), server->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Points of VM_A in the store, which must be in order; frees SERVER. */
G_GNUC_UNUSED static inline unsigned server_points(struct server *server)
{
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = catalog_open(server->path, &error);
    AUTO(store) store = NULL;
    g_autoptr(GPtrArray) points = NULL;
    g_autofree char *left = NULL;

    unit_ok(catalog, error);
    unit_ok(store = store_open_local(server->path, catalog, &points_accept_ops, &error), error);
    left = points_left(server->path);
    ck_assert_msg(*left == '\0' || strstr(left, ".partial-"), "%s", left);
    unit_ok(points = store_points(store, VM_A, &error), error);
    for (unsigned i = 0; i < points->len; i++)
        unit_ok(points_verify(server->path, points->pdata[i], &error), error);
    g_clear_pointer(&server->path, g_free);
    return points->len;
}

/* --- A hostile client --- */

struct hostile {
    struct server server;
    struct wire *wire;
    uint32_t last;
};

G_GNUC_UNUSED static inline struct frame hear(struct hostile *self)
{
    g_autoptr(GError) error = NULL;
    struct frame frame = {0};

    ck_assert_msg(wire_receive(self->wire, UNIT_PATIENCE_MS, &frame, &error) == LINK_DATA, "%s",
                  error ? error->message : "nothing came");
    return frame;
}

G_GNUC_UNUSED static inline void say(struct hostile *self, enum wire_type type, uint32_t request,
                                     const char *text)
{
    g_autoptr(GError) error = NULL;

    unit_ok(wire_send(self->wire, type, request, text, strlen(text), &error), error);
}

G_GNUC_UNUSED static inline void say_data(struct hostile *self, uint32_t request, uint32_t file,
                                          uint64_t offset, size_t len)
{
    g_autofree uint8_t *bytes = g_malloc0(len + 1);
    struct frame_data data = {.file = file, .offset = offset, .bytes = bytes, .len = len};
    g_autoptr(GError) error = NULL;

    unit_ok(wire_send_data(self->wire, request, &data, &error), error);
}

/* Before HELLO. */
G_GNUC_UNUSED static inline struct hostile hostile_new(void)
{
    struct hostile self = {.server = server_new(&points_accept_ops)};

    self.wire = wire_new(link_fd_new(self.server.fd, self.server.fd));
    return self;
}

G_GNUC_UNUSED static inline struct hostile hostile_greeted(void)
{
    struct hostile self = hostile_new();

    say(&self, WIRE_HELLO, 1, "{\"drctl\":\"evil\",\"protocol\":1}");
    ck_assert_int_eq(hear(&self).type, WIRE_OK);
    return self;
}

#define BEGIN_A "{\"vm\":\"" VM_A "\",\"point\":\"" POINT_1 "\"}"

G_GNUC_UNUSED static inline struct hostile hostile_begun(void)
{
    struct hostile self = hostile_greeted();

    say(&self, WIRE_BEGIN, 2, BEGIN_A);
    ck_assert_int_eq(hear(&self).type, WIRE_OK);
    return self;
}

/* The next frame is an ERROR for REQUEST with PART in it. */
G_GNUC_UNUSED static inline void hear_error(struct hostile *self, uint32_t request,
                                            const char *part)
{
    struct frame frame = hear(self);
    g_autofree char *text = g_strndup((const char *)frame.payload, frame.len);

    ck_assert_int_eq(frame.type, WIRE_ERROR);
    ck_assert_msg(strstr(text, part) != NULL, "no '%s' in %s", part, text);
    ck_assert_uint_eq(frame.request, request);
}

/* The server ended the session, saying PART, and kept nothing. */
G_GNUC_UNUSED static inline void hostile_thrown_out(struct hostile *self, const char *part)
{
    struct frame frame;

    hear_error(self, 0, part);
    ck_assert_int_eq(wire_receive(self->wire, UNIT_PATIENCE_MS, &frame, NULL), LINK_END);
    wire_free(self->wire);
    ck_assert_int_eq(server_end(&self->server), EXIT_BROKEN);
    ck_assert_uint_eq(server_points(&self->server), 0);
}

/* The server goes on, and keeps nothing. */
G_GNUC_UNUSED static inline void hostile_refused(struct hostile *self, uint32_t request,
                                                 const char *part)
{
    hear_error(self, request, part);
    say(self, WIRE_INFO, 1000, "{}");
    ck_assert_int_eq(hear(self).type, WIRE_OK);
    wire_free(self->wire);
    ck_assert_int_eq(server_end(&self->server), EXIT_SERVED);
    ck_assert_uint_eq(server_points(&self->server), 0);
}

/* --- A store that is there already --- */

/* A hostile session at the store of SERVER. */
G_GNUC_UNUSED static inline struct hostile hostile_at(const struct server *server)
{
    struct hostile self = {.server = server_again(server->path, &points_accept_ops, DEADLINE_MS)};

    self.wire = wire_new(link_fd_new(self.server.fd, self.server.fd));
    say(&self, WIRE_HELLO, 1, "{\"drctl\":\"evil\",\"protocol\":1}");
    ck_assert_int_eq(hear(&self).type, WIRE_OK);
    return self;
}

G_GNUC_UNUSED static inline void hostile_end(struct hostile *self)
{
    wire_free(self->wire);
    ck_assert_int_eq(server_end(&self->server), EXIT_SERVED);
    g_free(self->server.path);
}

G_GNUC_UNUSED static inline void hostile_begin(struct hostile *self, uint32_t request,
                                               const char *vm, const char *point)
{
    g_autofree char *text = g_strdup_printf("{\"vm\":\"%s\",\"point\":\"%s\"}", vm, point);

    say(self, WIRE_BEGIN, request, text);
}

G_GNUC_UNUSED static inline void hear_ok(struct hostile *self, uint32_t request)
{
    struct frame frame = hear(self);
    g_autofree char *text = g_strndup((const char *)frame.payload, frame.len);

    ck_assert_msg(frame.type == WIRE_OK && frame.request == request, "%u: %s", frame.type, text);
}

/* A store with POINT_1 of VM_A, an image of BYTES, whose server has ended. */
G_GNUC_UNUSED static inline struct server server_with_a_point(uint64_t bytes)
{
    struct server server = server_new(&points_accept_ops);
    AUTO(store) store = server_store(&server);
    g_autoptr(GError) error = NULL;

    unit_ok(points_put(store, VM_A, POINT_1, NULL, bytes, &error), error);
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    return server;
}
