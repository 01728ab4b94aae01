/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who uses the points of a store: disks of recovered VMs that lie upon them, QEMU processes that have
 * them open, runs that were interrupted and may go on with them. A point is in use with all that it
 * is based on. When something cannot be looked at, nobody knows, and that is an error.
 *
 * A disk that somebody made by hand upon a point, outside of the site's images, is found only
 * while QEMU has it open. Private to replicator/.
 */
#pragma once

#include "replicator/local.h"

/* "<vm-uuid>/<point>", the key below; g_free. */
char *usage_key(const char *vm_uuid, const char *point);

/* Key -> why, such as "in use by /var/lib/drctl/images/db.r-1/vda.qcow2". POINTS: all points of the
 * store, newest first. Images are looked at for locks only if they are of VM_UUID. */
GHashTable *usage_find(const struct local_store *store, const GPtrArray *points,
                       const char *vm_uuid, GError **error);
