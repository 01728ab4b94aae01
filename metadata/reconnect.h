/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A link to a store that is lost, and had again: wait 1, 2, 4 and up to every 30 seconds and connect anew,
 * until nothing has come through for as long as the store's patience lasts (store_be_patient()).
 *
 *     struct reconnect line = {.store = store};
 *     while (!try(&why))
 *         if (!reconnect_after(&line, why, came_further, error))
 *             return false;
 */
#pragma once

#include "metadata/store.h"

struct reconnect {
    struct store *store; /* borrowed, as are the next */
    const char *subject; /* of what is told meanwhile, or NULL */
    /* Asked while waiting, or NULL: is it still any use? */
    bool (*watch)(void *context, GError **error);
    void *context;
    int64_t lost_ms; /* monotonic: since when nothing has come through; 0: all is well */
};

/* An attempt has failed with WHY (taken): true when the store is connected anew and it is to be made
 * again. CAME_FURTHER: something went through since the last one. After a loss ERROR_CONFLICT is waited
 * for as well: the place may still be held for the connection that was lost. No point may be arriving
 * at the store. */
bool reconnect_after(struct reconnect *line, GError *why, bool came_further, GError **error);
