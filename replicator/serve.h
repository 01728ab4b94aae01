/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server of the protocol in wire.h, on any link. The other side is trusted with nothing: each
 * frame is checked for being well-formed, in order and within the limits of local.h before the
 * store sees it, and the store checks names, sizes and contents again. What the store refuses is
 * answered with an ERROR and discards the point that was arriving; what breaks the protocol ends
 * the session. What the rules of the key forbid is refused here, before the store hears of it.
 */
#pragma once

#include "replicator/link.h"
#include "replicator/replicator.h"

/* Takes LINK. True when the other side hung up between two frames. */
bool serve_link(struct store *local, const struct serve_rules *rules, struct link *link,
                int idle_ms, GError **error);
