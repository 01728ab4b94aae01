/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the disks of a VM go that is brought up: the images of drctl.conf, unless the recovery plan names a storage
 * pool of the host or a directory. What is chosen is a directory, and the images have a link to each directory of
 * overlays that lies elsewhere. Private to restore/.
 */
#pragma once

#include "restore/planner.h"

/* What has been found out of storages, by host, so that it is asked once. */
GHashTable *storages_new(void);
/* Sets the images of PLANNED's recovery, whose host is known; or blocks it. */
void storage_choose(const struct planner *planner, struct planned *planned);
/* The same for one VM, whose disks go to NAME, a pool or a directory. */
void storage_take(const struct site *site, struct recovery *recovery, const char *name,
                  struct findings *findings);
