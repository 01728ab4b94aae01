/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside restore/: the plan of a failover and its way into the run's journal and back. The journal's
 * plan is {vapp, site, definition: text | null, vms: [{vm, uuid, order, point, time, consistency,
 * findings, blocked, lost, accepts_damage, host, domain: {name, uuid, adopted, definition} | null}]}; whatever was decided
 * by looking at the hosts is in it, so a resumed run looks at nothing again but the files of the
 * points.
 */
#pragma once

#include "restore/recovery.h"

#define FAILOVER_KIND "failover"

struct failover_vm *failover_vm_new(const struct vapp_vm *vm);
void failover_vm_free(struct failover_vm *vm);
DEFINE_CLEANUP(failover_vm)
/* Empty, without an order. */
struct failover_plan *plan_new(void);
/* Take over FINDINGS' texts. */
void failover_vm_conclude(struct failover_vm *vm, const struct findings *findings);

json_t *plan_to_json(const struct failover_plan *plan);
/* The plan of interrupted run RUN; points that are not usable any more block their VMs. */
struct failover_plan *plan_from_run(const struct site *site, const char *run, GError **error);
