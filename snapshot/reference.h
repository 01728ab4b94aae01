/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From what the next point of a VM at a destination is counted. Two things are found for each disk:
 *
 * - its base: the newest point at the destination that has the disk, with all points below it. What
 *   happened on this side to bitmaps and checkpoints does not matter to it.
 * - how the changes since then are found. If the VM still has the checkpoint of a point, its bitmaps
 *   tell where something may have changed. A disk of which they do not tell is read as a whole and
 *   compared with the digests of its base, so that it costs reading, but no second full point.
 *
 * A disk that no point has may be like another one at the destination, of whatever VM, as clones of
 * one template are: its base is that, and it is compared. What it is like is known only when it can be
 * read, so this is found when the job has begun.
 *
 * There is no other record of where a chain stands than the manifests at the destination (see
 * ARCHITECTURE.md). Private to snapshot/.
 */
#pragma once

#include "snapshot/arrived.h"
#include "snapshot/baseline.h"
#include "snapshot/disks.h"

struct disk_reference {
    char *target;
    enum disk_mode mode;
    GArray *chain; /* of the base, of struct history_layer, top first; NULL: DISK_FULL */
    /* What is read is compared with the base's digests: always for DISK_COMPARE; for an increment if
     * its bitmap counts from an older point than the base. */
    bool compared;
    bool needs_digests;      /* its bitmap does not tell all, see bitmaps_survived_a_stop() */
    bool similar;            /* the base is another disk, see reference_take_similar() */
    GArray *lost;            /* clusters that the base lacks, of struct cluster_range; or NULL */
    bool unchanged;          /* nobody has written to it since the base: it is not read at all */
    bool fetched;            /* the digests are in reference->spool_dir */
    struct arrived *arrived; /* what earlier transfers left of it; NULL: nothing */
    char *why; /* why it is not read as an increment; NULL if there is nothing to say */
    /* When it has been read: */
    bool done;
    uint64_t read_bytes, changed_bytes;
};

struct reference {
    bool running;     /* the VM, when they were chosen */
    char *tag;        /* "drctl-<first 8 digits of the store's uuid>-": prefix of this tracker */
    char *newest;     /* id of the newest point at the destination, or NULL */
    char *checkpoint; /* what increments count from; NULL: there is none */
    bool unsure;      /* whether its bitmaps are good, see bitmaps_are_unsure() */
    struct history *history;
    GPtrArray *disks; /* of struct disk_reference: all disks that are in the point */
    char *spool_dir;  /* digests of bases; gone with the reference */
    char *reason;     /* of the whole point, or NULL */
};

/* For DISKS (of struct vm_disk) of a VM that is RUNNING or off. Changes nothing. */
struct reference *reference_choose(const struct point_request *request, const GPtrArray *disks,
                                   bool running, GError **error);
void reference_free(struct reference *reference);
DEFINE_CLEANUP(reference)

struct disk_reference *reference_disk(const struct reference *reference, const char *target);
/* Is DISK read as an increment from reference->checkpoint? */
bool reference_covers(const struct reference *reference, const struct vm_disk *disk);
/* The job did not begin, and WHY says so. If libvirt or QEMU did not accept a bitmap after all, look again,
 * and compare the disks whose bitmap is not good any more; all of them if none of the bitmaps looks
 * broken. False if this is not why, or if there is no disk left that relies on one. */
bool reference_distrust_bitmaps(struct reference *reference, struct domain *domain,
                                const GPtrArray *disks, const GError *why);
/* Fetch the digests of bases that are compared with. A disk whose digests the destination cannot
 * tell becomes DISK_FULL. */
bool reference_fetch(struct reference *reference, GError **error);
/* Let DISK, which would be DISK_FULL, be compared with IMAGE; it stays so if the destination cannot tell
 * the digests of that. */
bool reference_take_similar(struct reference *reference, struct disk_reference *disk,
                            const struct similar_image *image, GError **error);
/* Ask where the point arrives what earlier transfers left of its disks. */
bool reference_fetch_arrived(struct reference *reference, struct incoming *incoming,
                             GError **error);
/* What is known of what DISK's image will leave out, for struct move; *BASELINE is NULL if nothing
 * is, as in an increment. */
bool reference_baseline(const struct reference *reference, const struct disk_reference *disk,
                        struct baseline **baseline, GError **error);
/* Id of the newest point that any disk is based on, or NULL. */
const char *reference_newest_base(const struct reference *reference);
/* One line for the manifest: what the point is, and what the disks cost that have no record of their
 * changes; g_free. */
char *reference_reason(const struct reference *reference);
/* "the record of its changes is lost: read 96.0 MiB, 1.2 MiB differ"; NULL if there is nothing to
 * say; g_free. */
char *disk_reference_cost(const struct disk_reference *disk);

/* A new checkpoint name for POINT: tag, point, 32 random bits; never the name of an older bitmap,
 * not even of one in a disk that was rolled back behind our back. g_free */
char *reference_new_checkpoint(const struct reference *reference, const char *point);
/* Delete all checkpoints of this tracker but KEEP (NULL: all). */
bool reference_sweep(const struct reference *reference, struct domain *domain, const char *keep,
                     GError **error);
