/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Showing the plan of a failover, a real one or a test, and what the check of a recovery plan says.
 */
#pragma once

#include "drctl/command.h"

json_t *failover_plan_json(const struct failover_plan *plan);
/* Table and findings. */
void failover_plan_print(struct context *context, const struct failover_plan *plan);
/* How far the disks can grow, a line for each file system. */
void preflight_print_space(const struct preflight *preflight);
/* Each with its remedy; those of single VMs only if OF_VMS. */
void preflight_print_findings(const struct preflight *preflight, bool of_vms);
/* A plan that cannot do anything is not worth a question, nor a run: ERROR_CONFLICT. */
bool failover_plan_check(const struct failover_plan *plan, GError **error);
