/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VM is brought up from: one recovery point of the local store that was found to be complete, or,
 * if that is asked for, one whose damage is confined to clusters that are known.
 * Every layer of every disk is committed, and snapshot_check_point() trusts each point in the chain,
 * so QEMU may open it. As long as an origin exists, its files stay where they are.
 */
#pragma once

#include "restore/restore.h"
#include "restore/finding.h"
#include "restore/loss.h"

struct origin_disk {
    char *target;
    char **chain; /* absolute paths, top first */
    uint64_t virtual_bytes;
    struct lost_disk *lost; /* NULL: it is whole */
};

struct origin {
    struct manifest *manifest;
    char *dir;         /* of the point */
    char *definition;  /* domain.xml */
    char *nvram;       /* absolute path in the point, or NULL */
    GPtrArray *disks;  /* of struct origin_disk */
    GHashTable *locks; /* UUID -> struct file_lock: nothing of these VMs is dropped meanwhile */
};

/* Open POINT of VM_UUID and check it, to the last layer. */
struct origin *origin_open(const struct site *site, const char *vm_uuid, const char *point,
                           GError **error);
/* The same, but disks may have lost something. ERROR_INTEGRITY when nobody can tell what. */
struct origin *origin_open_damaged(const struct site *site, const char *vm_uuid, const char *point,
                                   GError **error);
/* The newest complete point; one that is not is passed over with a remark. When none is complete, the
 * newest of which something is left. ERROR_NOT_FOUND when the VM has no point here, ERROR_INTEGRITY when
 * none can be used at all. */
struct origin *origin_newest(const struct site *site, const char *vm_uuid,
                             struct findings *findings, GError **error);
/* What its disks have lost: of struct lost_disk, empty if it is complete. */
GPtrArray *origin_lost(const struct origin *origin);
/* From now on it has lost LOST, which somebody has accepted. ERROR_INTEGRITY when it has lost more. */
bool origin_accept(struct origin *origin, const GPtrArray *lost, GError **error);
/* Every point that a layer is of, by snapshot_verify_point() or the like; and its definition and NVRAM. */
typedef bool origin_verify_fn(const char *dir, const struct manifest *manifest,
                              struct progress *progress, GError **error);
bool origin_verify(const struct origin *origin, origin_verify_fn *verify, struct progress *progress,
                   GError **error);
/* Forget all disks but DISKS ("vda,vdb"; NULL: none is forgotten). ERROR_NOT_FOUND when one is not in the point. */
bool origin_only(struct origin *origin, const char *disks, GError **error);
/* The targets of those that were forgotten: they are in the point, and not among the disks. g_strfreev */
char **origin_left_out(const struct origin *origin);
/* The same of POINTS (struct manifest, newest first) of one VM. */
struct origin *origin_first(const struct site *site, const GPtrArray *points,
                            struct findings *findings, GError **error);
/* Let points of these VMs be dropped again; those that overlays lie upon are not. */
void origin_release(struct origin *origin);
void origin_free(struct origin *origin);
DEFINE_CLEANUP(origin)

/* A VM of which there are points, by name or UUID; a name that several VMs had is ERROR_CONFLICT that
 * lists their UUIDs. The newest manifest of the VM. */
struct manifest *origin_find_vm(const struct site *site, const char *vm, GError **error);
