/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The status of VMs that belong together, in a line: of several VMs the worst counts.
 */
#pragma once

#include "drctl/health.h"

/* One object for each vApp that has VMs in STATUS: {vapp, vms: [name], owner, rpo_seconds, rpo_state, point, time,
 * age_seconds, consistency, tested, next, problem, severity, remedy}, see drctl(1). PROBLEMS as of health_problems(). */
json_t *vapps_json(struct context *context, const json_t *status, const GPtrArray *problems,
                   GError **error);
void vapps_print(const json_t *vapps);
/* Is the VM one of them? */
bool vapps_have(const json_t *vapps, const char *vm);
