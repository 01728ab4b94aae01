/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disks of a domain, as its XML tells: which belong into a point, which can have a bitmap.
 * Private to snapshot/.
 */
#pragma once

#include "snapshot/snapshot.h"

struct vm_disk {
    char *target;      /* "vda" */
    char *source;      /* file or device, or NULL (a network disk) */
    char *skipped;     /* why it is not in the point: "cdrom", "read-only", ...; NULL: it is */
    char *format;      /* "qcow2", "raw" */
    bool tracked;      /* qcow2: can hold a dirty bitmap */
    GPtrArray *images; /* identities of its image and of those below it; none of a network disk */
};

/* Of struct vm_disk, in XML order. ERROR_CONFLICT when no disk would be in the point,
 * ERROR_INTEGRITY for a target name that could not be a file name. */
GPtrArray *vm_disks(const char *domain_xml, GError **error);
/* Path of the NVRAM file (UEFI variables), or NULL; g_free. */
char *vm_nvram_path(const char *domain_xml);
