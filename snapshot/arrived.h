/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's side of salvage.h: which clusters of a disk the destination has from transfers that were
 * interrupted. What is read and found equal goes into the new image by its place there. It does not
 * matter when that was, of which checkpoint, or what became of this host since: the digests decide.
 * Private to snapshot/.
 *
 * What the destination tells is kept in a file, so memory is bounded: 56 KiB a disk.
 */
#pragma once

#include "snapshot/salvage.h"
#include "snapshot/snapshot.h"

struct arrived;
/* Ask what there is of disk TARGET, and keep it in a new file in DIR, which is made; *ARRIVED is NULL if
 * there is nothing. Without it all is sent, so only a lost connection and an interrupt are errors. */
bool arrived_fetch(struct incoming *incoming, const char *target, const char *dir,
                   struct arrived **arrived, GError **error);
void arrived_free(struct arrived *arrived);
DEFINE_CLEANUP(arrived)

/* What there is of CLUSTER, which is above that of the last call; *FOUND: is there anything? */
bool arrived_find(struct arrived *arrived, uint64_t cluster, struct salvaged *salvaged, bool *found,
                  GError **error);
/* How many plain bytes there are. */
uint64_t arrived_bytes(const struct arrived *arrived);
