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
 * once. ERROR_NOT_FOUND for a name that is neither. Of several protections that send a VM to one destination the
 * one has it that names it in full, or else the first in drctl.conf whose patterns mean it. The hosts are asked only for protections with patterns. Of struct
 * protected_vm. */
GPtrArray *protected_vms(struct context *context, char *const *names, GError **error);
/* The same without any question to the hosts: patterns mean the VMs of which they have made points. */
GPtrArray *recorded_vms(struct context *context, char *const *names, GError **error);

/* A VM of this site's hosts, but for copies of a test failover. */
struct present_vm {
    char *name;
    char uuid[37];
    char **tags; /* NULL-terminated */
    bool runs;
};
/* Of struct present_vm, by name. Without WITH_TAGS they have none. */
GPtrArray *present_vms(struct context *context, bool with_tags, GError **error);

/* Those of NAMES (empty: all) whose patterns mean nothing among VMS, all that is protected; of borrowed struct
 * protection; g_ptr_array_unref. */
GPtrArray *empty_protections(const struct config *config, char *const *names, const GPtrArray *vms);
/* What is wrong with one of them; g_free. */
char *empty_text(const struct protection *protection);
/* ERROR_CONFIG for it; returns false. */
bool fail_empty(const struct config *config, const struct protection *protection, GError **error);
/* VMs that no pattern means any more, by VMS, all that is protected now, are nobody's: no point of them is due. */
bool forget_left_vms(struct context *context, const GPtrArray *vms, GError **error);

/* Add VM to VMS, unless it is in there with that destination. */
void protected_vms_add(GPtrArray *vms, const struct protection *protection, const char *vm);

/* The VMs of NAMES (vApps, also those of other sites, or VMs), with DESTINATION, which is asked for now:
 * as a protection says that has it, otherwise as OTHERS. The vApps that were named go to VAPPS (of
 * struct vapp). Of struct protected_vm. */
GPtrArray *vms_to(struct context *context, char *const *names, const char *destination,
                  const struct protection *others, GPtrArray *vapps, GError **error);

/* The domain NAME on any of HOSTS; ERROR_NOT_FOUND. Hosts that share its disks may all have it defined: where it is
 * active is meant. */
struct domain *find_domain(GPtrArray *hosts, const char *name, GError **error);

/* What --keep says; nothing without it. ERROR_USAGE. */
bool option_keep(const struct context *context, struct retention *keep, GError **error);
/* Drop points of VM_UUID that KEEP does not keep in STORE; an empty one keeps all. */
bool drop_points(struct store *store, const char *vm_uuid, const struct retention *keep,
                 struct progress *progress, GError **error);

/* Key of the last result of (VM, destination) in CATALOG_REPLICATION; g_free. */
char *replication_key(const char *vm_uuid, const char *destination);
