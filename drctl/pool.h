/* SPDX-License-Identifier: Apache-2.0 */
/* What this site tells the others of itself: its pool bundle. */
#pragma once

#include "drctl/jobs.h"

/* Definitions of all VMs, VMS (of struct protected_vm) as those that are protected; networks, storage pools and all
 * else that bundle.h names; its own vApps and VAPPS (of struct vapp, may be NULL). */
struct bundle *site_bundle(struct context *context, GPtrArray *vms, GPtrArray *vapps,
                           GError **error);
