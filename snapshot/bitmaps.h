/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Of which disks a checkpoint has the changes on record: libvirt and QEMU must have a good bitmap,
 * and it must have been made of this image, because two disks of one VM have bitmaps of the same
 * name, so neither of the two notices when their images change places. Private to snapshot/.
 */
#pragma once

#include "snapshot/disks.h"

struct bitmaps;
/* RUNNING: ask QEMU whether they are good; otherwise vm_disk_look() has told it. ERROR_NOT_FOUND when
 * there is no such checkpoint. */
struct bitmaps *bitmaps_look(struct domain *domain, const char *checkpoint, bool running,
                             GError **error);
void bitmaps_free(struct bitmaps *bitmaps);
DEFINE_CLEANUP(bitmaps)
/* NULL if the changes of DISK are on record; otherwise why not, for people. */
const char *bitmaps_lack(const struct bitmaps *bitmaps, const struct vm_disk *disk);

/* Has the VM been off since? Then its images may have been shrunk and grown again, and QEMU calls
 * clean what it lost by that. */
bool bitmaps_survived_a_stop(const struct bitmaps *bitmaps);
/* Did QEMU not tell which are good? Those of disks with a single image are taken to be, and a job that
 * cannot begin may be their fault. */
bool bitmaps_are_unsure(const struct bitmaps *bitmaps);

/* What a new checkpoint remembers about the images of DISKS, and the life of DOMAIN, for its
 * description; g_free. */
char *bitmaps_describe(struct domain *domain, const GPtrArray *disks);
