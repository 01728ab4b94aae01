/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From what the next point of a VM at a destination is counted. The tracker is the destination's
 * newest committed manifest whose checkpoint the domain still has; nothing else is asked (see
 * ARCHITECTURE.md). Private to snapshot/.
 */
#pragma once

#include "snapshot/disks.h"

struct reference {
    char *tag;    /* "drctl-<first 8 digits of the store's uuid>-": prefix of this tracker */
    char *newest; /* id of the newest point at the destination, or NULL */
    struct manifest *base; /* the point to go on from, or NULL: full */
    GHashTable *covered; /* target -> identity of the image that the base's checkpoint has a bitmap
                          * of, "" of a network disk */
    char *reason;        /* one line, for the manifest and the log */
};

/* FORCE_FULL: no base, whatever there is. */
struct reference *reference_choose(struct domain *domain, struct store *destination,
                                   bool force_full, GError **error);
/* Give up the base, because REASON. */
void reference_drop_base(struct reference *reference, const char *reason);
void reference_free(struct reference *reference);
DEFINE_CLEANUP(reference)

/* Is DISK read as an increment? Only if its image is, or lies upon, the one that the checkpoint was
 * made of: two disks of one VM have bitmaps of the same name, so libvirt notices nothing when their
 * images change places. */
bool reference_covers(const struct reference *reference, const struct vm_disk *disk);
/* What a new checkpoint remembers about DISKS, for its description; g_free. */
char *reference_describe(const GPtrArray *disks);
/* A new checkpoint name for POINT: tag, point, 32 random bits; never the name of an older bitmap,
 * not even of one in a disk that was rolled back behind our back. g_free */
char *reference_new_checkpoint(const struct reference *reference, const char *point);
/* Delete all checkpoints of this tracker but KEEP (NULL: all). */
bool reference_sweep(const struct reference *reference, struct domain *domain, const char *keep,
                     GError **error);
