/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's side of a session with `drctl serve`: requests and their answers, what becomes of
 * them when the link breaks, and a thread that keeps an idle session alive. remote.c makes a struct
 * store of it. Callers hold the lock around each operation.
 */
#pragma once

#include "replicator/link.h"
#include "replicator/wire.h"

struct client {
    struct wire *wire;
    char *name; /* of the remote */
    int ping_ms;
    GMutex lock; /* of all that follows, and of the wire */
    GCond wake;
    GThread *pinger;
    bool stopping;
    int64_t sent_ms; /* when we last said something */
    uint32_t last_request;
    bool knows_owners; /* the other side does */
    bool knows_put_owners;
    bool knows_pool;
    bool may_command; /* the other side runs commands for our key */
    char *lost;       /* why there is no connection any more, or NULL */
    /* The point that we are sending: the number of its BEGIN, 0 when there is none, and why the
     * other side has discarded it, or NULL. */
    uint32_t point;
    GError *point_refused;
};

/* Takes LINK, also on failure, and says HELLO. ERROR_CONFIG when the other side speaks another
 * protocol. */
struct client *client_new(struct link *link, const char *name, int ping_ms, GError **error);
void client_free(struct client *client);
DEFINE_CLEANUP(client)

/* AUTO_CLIENT client = client_enter(...): locked until the end of the scope. */
struct client *client_enter(struct client *client);
void client_leave(struct client **client);
#define AUTO_CLIENT __attribute__((cleanup(client_leave))) struct client *

/* ERROR_NETWORK if the connection is lost. */
bool client_alive(struct client *client, GError **error);
/* Takes OBJECT; NULL is {}. */
bool client_send_json(struct client *client, enum wire_type type, uint32_t request, json_t *object,
                      GError **error);
bool client_send_text(struct client *client, enum wire_type type, uint32_t request,
                      const char *text, GError **error);
bool client_send_data(struct client *client, uint32_t request, const struct frame_data *data,
                      GError **error);
/* See wire_send_bytes(). */
bool client_send_bytes(struct client *client, uint32_t request, unsigned file, uint64_t offset,
                       const uint8_t *bytes, size_t len, GError **error);

/* A frame before the OK: a manifest, or bytes of a bundle. */
typedef bool client_item_fn(const struct frame *frame, void *context, GError **error);
/* Wait for the answer to REQUEST; *RESULT (json_decref) is the object of its OK. ITEM may be NULL.
 */
bool client_answer(struct client *client, uint32_t request, int timeout_ms, client_item_fn *item,
                   void *context, json_t **result, GError **error);
/* Send one request, numbered client->last_request, and wait for its answer. Takes OBJECT. */
bool client_ask(struct client *client, enum wire_type type, json_t *object, client_item_fn *item,
                void *context, json_t **result, GError **error);
/* ERROR_INTEGRITY: the other side sent FRAME where it does not belong. */
bool client_unexpected(const struct frame *frame, GError **error);
/* Is our point still welcome? Looks at what has arrived without waiting. */
bool client_point_welcome(struct client *client, GError **error);
