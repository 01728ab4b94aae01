/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the result of a check depends on, as three digests: as long as they are the same, it holds.
 *
 *     plan    the recovery plan and the definitions of its vApps
 *     points  which VMs there are, with which disks and definition: a newer point that is like the one
 *             before changes nothing
 *     hosts   their capabilities and networks, not what is free there
 *
 * Private to restore/.
 */
#pragma once

#include "restore/planner.h"

struct preflight_state {
    char *plan, *points, *hosts; /* hosts: NULL when none is connected */
};

void preflight_state_clear(struct preflight_state *state);
#define AUTO_PREFLIGHT_STATE __attribute__((cleanup(preflight_state_clear))) struct preflight_state

/* Fill STATE (zeroed by the caller) for RECOVERY as things are now. */
bool preflight_state_read(const struct site *site, const struct recovery_plan *recovery,
                          struct preflight_state *state, GError **error);
/* The definition in the newest point of the VM, or NULL; g_free. MANIFEST (may be NULL) is that of the
 * point. */
char *newest_definition(const struct site *site, const char *uuid, struct manifest **manifest);
