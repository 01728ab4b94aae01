/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a prune will do to the points of one VM, decided before anything is touched: which go, where
 * the content of each goes, and which point is made to stand directly upon the lowest one because
 * its chain is too long. Private to replicator/.
 */
#pragma once

#include "replicator/local.h"

struct plan_point {
    const struct manifest *manifest;
    bool keep;
    char *rule;              /* why */
    struct plan_point *heir; /* of one that goes: the point that takes its clusters; or NULL */
    bool flatten; /* of one that stays: it shall stand on the lowest point of its chain */
};

struct prune_plan {
    const struct local_store *store; /* borrowed */
    const char *vm_uuid;             /* borrowed */
    GPtrArray *all;                  /* of struct manifest: all points of the store, newest first */
    GHashTable *by_key;              /* usage_key() -> struct manifest */
    GHashTable *children;            /* usage_key() -> GPtrArray of struct manifest based on it */
    GHashTable *usage;               /* usage_find() */
    struct plan_point *points;       /* those of the VM, newest first */
    unsigned count;
};

/* KEEP is the policy of who asks; that of the store's site applies too. */
struct prune_plan *prune_plan_new(struct local_store *store, const char *vm_uuid,
                                  const struct retention *keep, GError **error);
void prune_plan_free(struct prune_plan *plan);
DEFINE_CLEANUP(prune_plan)

/* The chain of one disk: of struct chain_link, top first, down to the full image. ERROR_INTEGRITY
 * when a layer is missing. */
struct chain_link {
    const struct manifest *manifest;
    const struct manifest_disk *disk;
};
GArray *prune_chain(const struct prune_plan *plan, const struct manifest *manifest,
                    const struct manifest_disk *disk, GError **error);
/* How many of CHAIN, from the top, become one image in POINT, which is at its top; 1: it stays as it
 * is. */
unsigned prune_merged(const struct prune_plan *plan, const struct plan_point *point,
                      const GArray *chain);
/* May POINT be replaced, or go when GOES, as far as its users and other VMs are concerned? To be asked of
 * a new plan, under the lock that keeps readers out: the first one is old by then. */
bool prune_still_free(const struct prune_plan *plan, const char *point, bool goes, GError **error);
