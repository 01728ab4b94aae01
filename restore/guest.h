/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be learned of a guest that nobody can reach but its agent, whose channel needs no network. All that
 * it says is the guest's word. Private to restore/.
 */
#pragma once

#include "metadata/metadata.h"
#include "vapp/vapp.h"

/* Has the domain a channel for an agent, whether one answers or not? */
bool guest_has_agent(struct domain *domain);
/* {hostname, os, kernel, addresses: [""], time, clock_difference_seconds}; what it does not tell is null. NULL
 * when no agent answers. */
json_t *guest_facts(struct domain *domain);

/* Wait until VM is ready by its rule, as far as that can be seen from outside of a bubble: by its agent,
 * which is also asked whether something listens on a port. *SEEN (g_free) says what was seen, or why
 * nobody could see: *VERDICT is PROOF_UNPROVEN then. False when it is not ready, after its timeout. */
bool guest_wait_ready(const struct vapp_vm *vm, struct domain *domain, enum proof_verdict *verdict,
                      char **seen, GError **error);
