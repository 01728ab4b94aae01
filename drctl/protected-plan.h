/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `drctl replicate --dry-run` prints of one VM.
 */
#pragma once

#include "drctl/jobs.h"
#include "drctl/output.h"

json_t *protected_plan_json(const struct protected_vm *vm, const struct point_plan *plan);
/* A row for each disk: VM, DISK, TO, MODE, READ, WHY. */
void protected_plan_rows(struct table *table, const struct protected_vm *vm,
                         const struct point_plan *plan);
