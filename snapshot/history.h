/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The committed points at a destination that matter to one VM: its own, and those of other VMs that
 * its chains go through. Each VM is asked for once. Private to snapshot/.
 */
#pragma once

#include "snapshot/snapshot.h"

struct history;
/* Of VM (a UUID) in STORE, which is borrowed. */
struct history *history_new(struct store *store, const char *vm, GError **error);
void history_free(struct history *history);
DEFINE_CLEANUP(history)

struct store *history_store(const struct history *history);
/* The VM's own points, newest first; of struct manifest. */
const GPtrArray *history_points(const struct history *history);

/* One image of a chain. All is borrowed from the history. */
struct history_layer {
    const char *vm; /* whose point */
    const char *point;
    const struct manifest_disk *disk;
};
/* The chain of disk TARGET of POINT of VM, top first; of struct history_layer, g_array_unref.
 * ERROR_NOT_FOUND names the point that is missing. */
GArray *history_chain(struct history *history, const char *vm, const char *point,
                      const char *target, GError **error);
