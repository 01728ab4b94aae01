/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The replication job: recovery points of the VMs of protections, and this site's pool metadata, to
 * their destinations. What the commands replicate and status share.
 */
#pragma once

#include "drctl/command.h"

/* One VM that a protection covers. */
struct protected_vm {
    const struct protection *protection; /* borrowed from the configuration */
    char *vm;                            /* name */
};

/* The VMs that NAMES (protections or VMs; empty: every protection) cover, each (VM, destination)
 * once. ERROR_NOT_FOUND for a name that is neither. Of struct protected_vm. */
GPtrArray *protected_vms(struct context *context, char *const *names, GError **error);

/* The domain NAME on any of HOSTS; ERROR_NOT_FOUND. */
struct domain *find_domain(GPtrArray *hosts, const char *name, GError **error);

/* What this site must tell the others: definitions of all VMs of VMS, networks, pools, vApps. */
struct bundle *site_bundle(struct context *context, GPtrArray *vms, GError **error);

/* Drop points of VM_UUID that PROTECTION does not keep in STORE, if it says what to keep. */
bool drop_points(struct store *store, const char *vm_uuid, const struct protection *protection,
                 struct progress *progress, GError **error);

/* Key of the last result of (VM, destination) in CATALOG_REPLICATION; g_free. */
char *replication_key(const char *vm_uuid, const char *destination);
