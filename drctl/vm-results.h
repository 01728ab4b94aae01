/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Showing what became of the VMs of a vApp, for vapp start, vapp stop and failover.
 */
#pragma once

#include "drctl/command.h"

/* A report function of vapp/ whose CONTEXT is the struct context: one note per change of state. */
void vm_result_note(void *context, const struct vapp_result *result);
/* The same for a stop. */
void vm_stop_note(void *context, const struct vapp_result *result);
/* [{vm, state, seconds, error}] */
json_t *vm_results_json(GPtrArray *results);
/* RTO_SECONDS: of each, 0 where it is not ready; NULL where there is no run to count from. */
void vm_results_print(GPtrArray *results, const double *rto_seconds);
