/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside restore/: the plan of a failover and its way into the run's journal and back. The journal's
 * plan is {vapp, site, parts: [{name, definition: text | null}], skipped: [vm], hydrate, commit_after_ms, rolls_back, silent, vms: [{vm, uuid, order,
 * point, time, consistency, findings, blocked, lost, accepts_damage, host, domain: {name, uuid, adopted, aside, images,
 * definition, customization} | null}]}; whatever was decided by looking at the hosts is in it, so a resumed run looks at nothing
 * again but the files of the points. Older journals have the definition of their one vApp in place of
 * parts and skipped.
 */
#pragma once

#include "restore/recovery.h"

#define FAILOVER_KIND "failover"

struct failover_vm *failover_vm_new(const struct vapp_vm *vm);
void failover_vm_free(struct failover_vm *vm);
DEFINE_CLEANUP(failover_vm)
/* The one called NAME, which is there. */
struct failover_vm *plan_vm_named(const struct failover_plan *plan, const char *name);
/* ERROR_CONFLICT says what forbids to start it. */
bool failover_vm_may_start(const struct failover_vm *vm, GError **error);
/* "STORE/locks/<what>-<hash of vApp>.lock"; g_free. */
char *plan_lock_path(const struct site *site, const char *what, const char *vapp);
/* Does anybody hold such a lock, of whatever vApp? */
bool plan_any_locked(const struct site *site, const char *what);
/* Empty, without an order. */
struct failover_plan *plan_new(void);

/* One of the vApps that are brought up, or a lone VM. */
struct plan_part {
    char *name;
    char *definition; /* NULL: a lone VM */
};
void plan_add_part(struct failover_plan *plan, const char *name, const char *definition);
/* Make the order of all parts, without those that are skipped. */
bool plan_make_order(struct failover_plan *plan, GError **error);
void failover_vm_take_point(struct failover_vm *vm, const struct manifest *manifest);
/* Take over FINDINGS' texts. */
void failover_vm_conclude(struct failover_vm *vm, const struct findings *findings);

/* Nobody else works on failovers of NAME, a recovery plan, vApp or VM; ERROR_CONFLICT. */
struct file_lock *failover_lock(const struct site *site, const char *name, GError **error);

/* The one with that URI, or NULL; HOSTS may be NULL. */
struct silent_host *silent_host_named(const GPtrArray *hosts, const char *uri);
/* Add those of JSON, of silent_hosts_json(), to HOSTS. */
void silent_hosts_read(GPtrArray *hosts, const json_t *json);
json_t *plan_to_json(const struct failover_plan *plan);
/* The plan of interrupted run RUN; points that are not usable any more block their VMs. */
struct failover_plan *plan_from_run(const struct site *site, const char *run, GError **error);
