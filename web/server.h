/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server: HTTP/1.1 by libmicrohttpd, a thread for each connection. Nothing that comes in takes more than these:
 */
#pragma once

#include "web/request.h"
#include "web/tls.h"

#define SERVER_CONNECTIONS_MAX 64
#define SERVER_CONNECTIONS_OF_ONE_MAX 32
#define SERVER_HEADERS_MAX (32 * 1024)
#define SERVER_REQUEST_MS 20000 /* until a request is whole, whatever trickles in */
#define SERVER_ANSWER_MS 120000 /* until its answer is gone */
#define SERVER_STACK_BYTES (512 * 1024)

struct server_options {
    int fd;                        /* that listens; stays the caller's */
    const struct tls_files *files; /* NULL: without TLS */
    /* Called by any number of threads. What it gives to REPLY is sent with the headers that all answers have. */
    void (*answer)(void *context, const struct request *request, struct reply *reply);
    void *context;
};

struct server;
struct server *server_start(const struct server_options *options, GError **error);
/* To be called each second: ends connections that take too long. */
void server_look(struct server *server);
/* Waits until all that is being answered is answered. */
void server_free(struct server *server);
DEFINE_CLEANUP(server)

/* The cookie of a session. With TLS browsers let nobody else set it. */
const char *server_cookie_name(bool tls);
