/* SPDX-License-Identifier: Apache-2.0 */
/* What this site tells the others of itself: its pool bundle. */
#pragma once

#include "drctl/jobs.h"

/* Tell STORE, which DESTINATION means, if something has changed: definitions of all VMs, as protected those of VMS (of
 * struct protected_vm), those of which points went there, and those that this site has taken over; networks, storage
 * pools and all else that bundle.h names; its own vApps, VAPPS (of struct vapp, may be NULL), and those of VMs that
 * it has taken over. */
bool pool_publish(struct context *context, const char *destination, struct store *store,
                  GPtrArray *vms, GPtrArray *vapps, GError **error);
/* What HOST, one of HOSTS, is called there: as it calls itself, with a number behind it if one before does, too. g_free */
char *pool_host_name(const GPtrArray *hosts, struct host *host, GError **error);
