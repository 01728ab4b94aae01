/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RESTORE.txt of a recovery point: the exact lines that bring it back with nothing but sha256sum,
 * qemu-img and virsh. Private to snapshot/.
 */
#pragma once

#include "snapshot/disks.h"

/* DISKS: of struct vm_disk, as of the point. g_free */
char *recipe_text(const struct manifest *manifest, GPtrArray *disks, bool has_nvram);
