/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside vapp/: reading a definition. definition.c turns text into VMs in file order, ready-rule.c
 * the value of `ready`; order.c checks what the VMs say about each other and sorts them.
 */
#pragma once

#include "vapp/vapp.h"

#define VAPP_VMS_MAX 1000 /* each has a thread of its own while it starts */

/* Check the `after` of all VMS (of struct vapp_vm, in file order) and sort them into start order:
 * by order, then as they stand in the file, except that what a VM is after comes before it. The
 * same input gives the same result on every site. An unknown VM, a dependency on a later order and
 * a cycle are ERROR_CONFIG naming WHAT and the group; VMS is left as it was then. */
bool order_solve(const char *what, GPtrArray *vms, GError **error);

/* Read the value of `ready` into VM, whose rule was none; false with what is wrong (*PROBLEM, g_free).
 */
bool ready_rule_parse(const char *text, struct vapp_vm *vm, char **problem);
void ready_rule_clear(struct vapp_vm *vm);
