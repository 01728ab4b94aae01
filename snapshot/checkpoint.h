/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checkpoint.xml of a point: libvirt's own record of the checkpoint that the point names. libvirt
 * forgets it where the bitmaps are still good: when a VM is renamed, when it has migrated. Private
 * to snapshot/.
 */
#pragma once

#include "snapshot/reference.h"

#define CHECKPOINT_FILE "checkpoint.xml"

/* What the point of checkpoint NAME keeps; NULL when libvirt does not tell it; g_free. */
char *checkpoint_record(struct domain *domain, const char *name);
/* Does TEXT, which comes from the destination, define checkpoint NAME and nothing else? Deleting a
 * checkpoint deletes the bitmaps that it names: they must not be another tracker's. */
bool checkpoint_defines(const char *text, const char *name);
/* Give libvirt back the record that the newest point's increments count from, if it has none.
 * True if REFERENCE must be chosen anew; whatever fails only means that disks are compared. */
bool checkpoint_restore(const struct reference *reference, struct domain *domain);
