/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disks of a domain, as its XML tells: which belong into a point, which can have a bitmap.
 * Private to snapshot/.
 */
#pragma once

#include "snapshot/snapshot.h"

struct vm_disk {
    char *target;       /* "vda" */
    char *source;       /* file or device, or NULL (a network disk) */
    char *skipped;      /* why it is not in the point: "cdrom", "read-only", ...; NULL: it is */
    char *format;       /* "qcow2", "raw" */
    bool tracked;       /* qcow2: can hold a dirty bitmap */
    GPtrArray *images;  /* identities of its image and of those below it; none of a network disk */
    GPtrArray *files;   /* their paths */
    GPtrArray *bitmaps; /* names of good bitmaps in its image; only if the VM is off, else NULL */
};

/* Of struct vm_disk, in XML order; of a domain of HOST. ERROR_CONFLICT when no disk would be in the point,
 * ERROR_INTEGRITY for a target name that could not be a file name. */
GPtrArray *vm_disks(struct host *host, const char *domain_xml, GError **error);
/* Of a disk that is in the point, of a VM that is off: its images and bitmaps as qemu-img sees them,
 * libvirt knows the chains of running VMs only. */
bool vm_disk_look(struct vm_disk *disk, GError **error);
/* What tells whether anybody has written to the files of DISK since: inode, size, times of each.
 * *CHANGED_MS is when they were last changed. NULL where files cannot tell, such as block devices;
 * g_free. */
char *vm_disk_stamp(const struct vm_disk *disk, int64_t *changed_ms);
/* Which life of the VM this is: another one when it, or the host, has been started anew since. g_free */
char *vm_life(struct domain *domain);
/* Path of the NVRAM file (UEFI variables), or NULL; g_free. */
char *vm_nvram_path(const char *domain_xml);
