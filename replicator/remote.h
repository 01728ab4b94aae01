/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client of `drctl serve`: a struct store on any link. Data of a point is sent without waiting
 * for answers; a refusal that comes meanwhile surfaces at the next call. When the link breaks,
 * every later call fails with ERROR_NETWORK, until store_reconnect(). A session that is idle while the caller works is kept
 * alive by a thread.
 */
#pragma once

#include "replicator/link.h"

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
