/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the images that a disk is based on cannot give any more, because they are damaged at the
 * destination (damage.h). The next point has it afresh, whether it has changed or not: so the newest
 * state is whole again, and where nothing has changed the destination heals its damaged points with it.
 * Private to snapshot/.
 */
#pragma once

#include "snapshot/history.h"

/* Of the layers of CHAIN, as its top sees them: what a layer has afresh already is not lost. *LOST
 * (cluster-ranges.h) is NULL when nothing is. A damage that the destination cannot tell is the whole
 * disk. */
bool lost_find(const struct history *history, const GArray *chain, GArray **lost, GError **error);
