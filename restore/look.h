/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking into a point without bringing up a VM: its disks over NBD (mount.c), or single files of one
 * (files.c). Nothing is ever written to the point, and as long as it is looked at it stays. Private to restore/.
 */
#pragma once

#include "restore/origin.h"
#include "restore/workdir.h"

/* WHAT is the name or UUID of a VM, whose newest complete point it is unless POINT names another; or, without
 * POINT, the id of a point, which must be of one VM only. Damaged ones are refused. */
struct origin *look_at_point(const struct site *site, const char *what, const char *point,
                             GError **error);
/* ERROR_NOT_FOUND lists those that there are. */
const struct origin_disk *look_at_disk(const struct origin *origin, const char *target,
                                       GError **error);

/*
 * A disk as a raw file: by FUSE, in a mount namespace of its own, so that it is gone with whoever serves it; or
 * where that cannot be had as a copy, in the scratch directory.
 */
struct disk_view;
struct disk_view *disk_view_open(const struct site *site, const struct origin_disk *disk,
                                 GError **error);
void disk_view_free(struct disk_view *view);
DEFINE_CLEANUP(disk_view)
/* The file, for commands that are run by disk_view_run(). */
const char *disk_view_path(const struct disk_view *view);
/* A private directory of this side, as they see it, too. */
const char *disk_view_dir(const struct disk_view *view);
/* As process_run() and process_watch(). */
bool disk_view_run(const struct disk_view *view, const char *const *argv, char **output,
                   GError **error);
bool disk_view_watch(const struct disk_view *view, const char *const *argv,
                     const struct process_watch *watch, char **output, int *status, GError **error);
/* Is there room in DIR for BYTES of WHAT, and some more? ERROR_NO_SPACE */
bool look_check_room(const char *dir, uint64_t bytes, const char *what, GError **error);
