/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client of `drctl serve`: a struct store on any link. Data of a point is sent without waiting
 * for answers; a refusal that comes meanwhile surfaces at the next call. When the link breaks,
 * every later call fails with ERROR_NETWORK, until store_reconnect(). A session that is idle while the caller works is kept
 * alive by a thread.
 */
#pragma once

#include "replicator/link.h"
#include "replicator/wire.h"

struct client;

/* Makes a link to the other side, and another one when that is lost. */
struct dialler {
    struct link *(*dial)(void *context, GError **error);
    void (*free)(void *context); /* or NULL */
    void *context;
};

/* Takes what DIALLER has, also on failure; otherwise as the next one. */
struct store *store_open_dialler(const struct dialler *dialler, const char *name, int ping_ms,
                                 GError **error);
/* For one link, without another when it breaks. Takes LINK, also on failure. NAME is the remote's, for messages. PING_MS of silence are too long.
 * ERROR_CONFIG when the two drctl do not speak the same protocol. */
struct store *store_open_link(struct link *link, const char *name, int ping_ms, GError **error);

/* --- What remote.c, remote-point.c and remote-command.c share -------------------------------- */

/* A file, or what there is of one, as it comes in. */
struct remote_pieces {
    uint64_t at; /* the offset of what comes next */
    store_sink_fn *sink;
    void *context;
};
/* A client_item_fn; CONTEXT is a struct remote_pieces. */
bool remote_take_piece(const struct frame *frame, void *context, GError **error);
/* RESULT says how much was sent from OFFSET on. ERROR_INTEGRITY names WHAT is not all there. */
bool remote_all_arrived(const json_t *result, const struct remote_pieces *pieces, uint64_t offset,
                        const char *what, GError **error);
/* Borrows CLIENT, which must outlive the point. ERROR_CONFLICT while there is another one. */
struct incoming *remote_begin_point(struct client *client, const char *vm_uuid, const char *point,
                                    const struct taker *taker, GError **error);
/* See store_command(). */
bool remote_command(struct client *client, const char *const *args, struct progress *progress,
                    json_t **result, GError **error);
