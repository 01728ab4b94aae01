/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machines of other platforms: an OVA is a tar of a descriptor (ovf.h), of digests, and of disks as VMDK,
 * streamOptimized. In both directions there is a recovery point on our side. Private to restore/.
 *
 * A VMDK can name other files for QEMU to open: extents, a parent. Those that do, and those that begin as a text
 * descriptor does, are refused before QEMU sees them, and QEMU is told that there is no parent.
 */
#pragma once

#include "restore/ovf.h"
#include "restore/restore.h"

#define OVA_SUFFIX ".ova"

/* What a file of digests may use: OVF 1.0, 1.1 and VirtualBox; VMware; OVF 2.0. */
enum ova_sum { OVA_SHA1, OVA_SHA256, OVA_SHA512, OVA_SUMS };

struct ova_member {
    char *name;
    uint64_t bytes, at;   /* where it lies in the file */
    char *sums[OVA_SUMS]; /* in hex, of each algorithm */
};

struct ova {
    char *path;
    GPtrArray *members; /* of struct ova_member */
    char *text;         /* of the descriptor */
    char *sums;         /* text of the digests, or NULL */
    struct ovf_package *package;
};

/* Read it to its end, compare all digests, and look at the disks. ERROR_INTEGRITY */
struct ova *ova_open(const char *path, struct progress *progress, GError **error);
void ova_free(struct ova *ova);
DEFINE_CLEANUP(ova)
const struct ova_member *ova_member(const struct ova *ova, const char *name);
/* How QEMU opens a disk of it where it lies, for snapshot_serve(); g_free. */
char *ova_image(const struct ova *ova, const struct ova_member *member);

/* What the file of digests says of what was read; parts of ova_open(). */
bool ova_check_sums(const struct ova *ova, GError **error);

bool ova_import(const struct site *site, const struct import_request *request,
                struct archive_result *result, GError **error);
bool ova_export(const struct site *site, const struct export_request *request,
                struct archive_result *result, GError **error);
