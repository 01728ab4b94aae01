/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server of the protocol in wire.h, on any link. The other side is trusted with nothing: each
 * frame is checked for being well-formed, in order and within the limits of local.h before the
 * store sees it, and the store checks names, sizes and contents again. What the store refuses is
 * answered with an ERROR and discards the point that was arriving; what breaks the protocol ends
 * the session.
 */
#pragma once

#include "replicator/link.h"

/* Takes LINK. True when the other side hung up between two frames. */
bool serve_link(struct store *local, struct link *link, int idle_ms, GError **error);
