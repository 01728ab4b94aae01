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
void vm_results_print(GPtrArray *results);
