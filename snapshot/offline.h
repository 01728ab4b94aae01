/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the disks of a VM that is off, by a qemu-nbd for each that writes nothing and takes no
 * lock: the VM can be started at any time, and its images are never touched. So nothing prevents
 * anybody from writing to them meanwhile; what was read counts only if the VM is still off at the
 * end, and if all image files are as they were before. Private to snapshot/.
 *
 * Bitmaps stay as they are too: the point names the checkpoint of an older one, whose bitmaps tell
 * more than what changed since, and what they tell is compared with the point (reference.h).
 */
#pragma once

#include "snapshot/reference.h"

struct offline {
    const struct point_request *request;
    const GPtrArray *disks; /* of struct vm_disk; borrowed */
    char *dir;              /* sockets */
    GHashTable *children;   /* target -> struct child: qemu-nbd */
    GHashTable *stamps;     /* target -> vm_disk_stamp(), or NULL */
    json_t *settled;        /* those that tell any later change: target -> stamp */
    int64_t time_ms;        /* the instant */
    enum consistency consistency;
};

/* Find the disks that nobody has written to since their last point. */
struct offline *offline_new(const struct point_request *request, const struct reference *reference,
                            const GPtrArray *disks, GError **error);
/* This is the instant. */
bool offline_begin(struct offline *offline, GError **error);
/* The socket at which disk TARGET is served, until the end, or that of the calling thread: a child
 * dies with that. g_free */
char *offline_serve(struct offline *offline, const struct reference *reference, const char *target,
                    GError **error);
/* False when the VM is not off any more. */
bool offline_watch(struct offline *offline, GError **error);
/* Was all read from images that nobody wrote to? Otherwise ERROR_CONFLICT. */
bool offline_end(struct offline *offline, GError **error);
/* Remember for the next time, when POINT has been committed. */
bool offline_remember(const struct offline *offline, const struct reference *reference,
                      const char *point, GError **error);
void offline_free(struct offline *offline);
DEFINE_CLEANUP(offline)
/* Remove what a killed process left; the caller holds the VM's lock. */
bool offline_sweep(const struct point_request *request, GError **error);
