/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files that a recovered VM writes to, in a directory of its own run, over the images of its
 * point, which nobody writes to. All of it is safe to repeat: what is finished has its final name and
 * is never touched again, because a guest may have written to it.
 *
 * Where a disk has lost something, a layer of its own lies between: every read of that is an I/O error,
 * until the guest has written it anew.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

#include "restore/image.h"
#include "restore/origin.h"

/* libvirt refuses chains of more than 200 files and is slow long before. A longer one is copied into
 * one image first. */
#define OVERLAY_MAX_LAYERS 150
/* How the name of the layer of what a disk has lost ends. */
#define OVERLAY_LOST_SUFFIX ".lost.qcow2"

/* IMAGES/<vm>.<run>, or <uuid>.<run> when the name is not fit for a directory; g_free. */
char *overlay_dir(const char *images, const char *vm, const char *uuid, const char *run);
/* Where the id of the run begins in the name of such a directory; NULL: it is none. */
const char *overlay_run(const char *dir);
/* DIR/<target>.qcow2; g_free. */
char *overlay_path(const char *dir, const char *target);
/* DIR/nvram.fd; g_free. */
char *overlay_nvram_path(const char *dir);

/* The layers under DISK's overlay: its chain, or the copy in DIR of one that is too long or that QEMU cannot
 * open; and above the chain the layer of what it has lost. g_strfreev */
char **overlay_chain(const char *dir, const struct origin_disk *disk);

/* May USER pass through all directories above and including DIR (or its nearest existing parent)?
 * ERROR_AUTH names the one that is closed and the way out. */
bool overlay_check_passage(const char *dir, const struct qemu_user *user, GError **error);
/* Let USER read the images of ORIGIN: by group, only as far as it cannot yet; owners stay. */
bool overlay_grant(const struct origin *origin, const struct qemu_user *user, GError **error);
/* Make DIR with an overlay for each disk and a copy of the NVRAM, durably, owned by USER. LINK, unless it is DIR
 * itself, leads to it before there is anything in it: what lies in the images of the site is what keeps points
 * from being dropped (replicator/usage.h). */
bool overlay_create(const char *dir, const char *link, const struct origin *origin,
                    const struct qemu_user *user, GError **error);
/* Remove all of that, as far as it is there. */
bool overlay_remove(const char *dir, const char *link, GError **error);
