/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a recovery plan has done to a VM beside starting it: commands here and in the guest, and
 * addresses that are set by the guest's agent, because the disks stay as they are. All of it is kept
 * in the run's journal, and done in steps of the run.
 *
 *     before -> (the steps of recovery.h) -> addresses -> (ready) -> in-guest -> after
 *
 * A command that fails before the VM is started keeps it from starting; an address that cannot be set
 * makes the VM fail, as it would be reached by nobody, or take somebody else's place. Of what comes
 * when the VM is ready, the first failure leaves out the rest and is told, and the VM counts as done.
 */
#pragma once

#include "restore/finding.h"
#include "restore/recovery-plan.h"
#include "restore/restore.h"

/* A NIC whose addresses are moved by the rules of its network. */
struct guest_nic {
    char *mac;
    char *network; /* as the definition calls it, for messages */
    GArray *rules; /* of struct ip_rule, possibly none */
    char *gateway; /* or NULL */
    char **dns;    /* or NULL */
};

struct customization {
    char *before, *after, *in_guest; /* each or NULL */
    int64_t hook_timeout_ms;
    GPtrArray *addresses; /* of struct plan_address */
    GPtrArray *nics;      /* of struct guest_nic */
};

/* Does PLAN say anything that may concern VM? Else what follows need not be asked. */
bool customization_is_wanted(const struct recovery_plan *plan, const char *vm);
/* What PLAN says about VM, whose definition is FROM in its point and TO here. NULL: nothing. */
struct customization *customization_new(const struct recovery_plan *plan, const char *vm,
                                        const struct xml_node *from, const struct xml_node *to,
                                        struct findings *findings);
/* Forget what would happen outside of the guest; CUSTOMIZATION may be NULL. */
void customization_keep_inside(struct customization *customization, struct findings *findings);
void customization_free(struct customization *customization);
DEFINE_CLEANUP(customization)
/* By a rule or by name? */
bool customization_sets_addresses(const struct customization *customization);
json_t *customization_to_json(const struct customization *customization);
struct customization *customization_from_json(const json_t *json, GError **error);

/* What the commands here are told, as variables DRCTL_VM and so on. */
struct hook_facts {
    const char *vm, *uuid, *host, *site, *point, *run;
};
/* The functions below do one step in RUN for VM SUBJECT, and nothing when there is nothing to do. */
bool customize_before(const struct customization *customization, const struct hook_facts *facts,
                      struct run *run, const char *subject, GError **error);
/* TIMEOUT_MS is how long the agent, and then the addresses, may take to be there. */
bool customize_addresses(const struct customization *customization, struct domain *domain,
                         int64_t timeout_ms, struct run *run, const char *subject, GError **error);
bool customize_after(const struct customization *customization, const struct hook_facts *facts,
                     struct domain *domain, struct run *run, const char *subject, GError **error);
