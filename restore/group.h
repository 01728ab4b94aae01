/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Points of one instant. Where a protection catches all its VMs in one round, a failover takes all of
 * them from the same round: the newest one that has a point of every VM. Private to restore/.
 */
#pragma once

#include "metadata/metadata.h"

/* The newest round that has a point of each VM and that USABLE (may be NULL) does not refuse, by its
 * id; NULL when there is none, or when any VM has a newer point of its own, outside of any round:
 * then there is no common instant worth an older state. HISTORIES: for each VM its points (GPtrArray
 * of struct manifest), newest first, none empty. Borrowed. */
typedef bool group_usable_fn(const struct manifest *manifest, void *context);
const char *group_choose(const GPtrArray *histories, group_usable_fn *usable, void *context);
