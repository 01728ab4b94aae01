/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside restore/: a failover while it is planned. plan-order.c finds the vApps, plan-here.c what of each VM
 * is here already, plan-silent.c whether it may be where nobody answers, plan.c what it is brought up from, plan-place.c which host gets it and what its definition becomes there,
 * plan-test.c what is different in a test.
 */
#pragma once

#include "restore/choice.h"
#include "restore/inventory.h"
#include "restore/plan.h"
#include "restore/recovery-plan.h"
#include "restore/source.h"

/* One VM. */
struct planned {
    struct failover_vm *vm;           /* borrowed from the plan */
    const struct vapp_vm *definition; /* borrowed from the plan's order */
    const struct plan_vm *wishes;     /* of the recovery plan, or NULL */
    struct findings *findings;
    struct recovery *recovery; /* with an origin; NULL: blocked, or here already */
    int fixed;                 /* host that it is at already, or ALLOT_NOWHERE */
    char *stale;               /* definition of an old copy that makes room, or NULL */
    /* Of plan-place.c. */
    uint64_t memory_bytes; /* that it will take of its host */
    unsigned cpus;
    char **networks;        /* that it wants to be plugged into */
    int adapted;            /* host that the recovery's definition is for, or ALLOT_NOWHERE */
    struct findings *trial; /* of adapting it to that host, or to the first that cannot run it */
};

struct planner {
    const struct site *site;
    const struct recovery_plan *recovery;
    GPtrArray *platforms; /* of struct platform, as site->hosts */
    struct inventory *inventory;
    GPtrArray *silent;      /* of struct silent_host, borrowed from the plan */
    GHashTable *last_hosts; /* UUID -> URI of the host that had it last, or NULL: not looked up */
    struct bundles *bundles;
    GPtrArray *vms;      /* of struct planned, as the plan's */
    GHashTable *uuids;   /* name -> UUID, of the bundles */
    GHashTable *part_of; /* name -> index of its vApp */
    bool *mixed;  /* of each vApp: its newest points are of rounds and not, so not of one instant */
    bool *chosen; /* of each vApp: the round is, if there is one */
    GHashTable *origins;  /* UUID -> struct origin, of the rounds that were chosen */
    GHashTable *storages; /* "<host> <storage>" -> struct storage (storage.h) */
    unsigned running;     /* VMs that run here already */
    bool accepts_damage;
    bool moved; /* the VMs run at another site until now */
    struct choice choice;
    struct bubble *bubble; /* of a test, borrowed from the plan; NULL: it is no test */
    char *copies;          /* what the names of a test's VMs begin with: "shop-test-1." */
};

void planner_init(struct planner *planner, const struct site *site,
                  const struct recovery_plan *recovery);
void planner_clear(struct planner *planner);
#define AUTO_PLANNER __attribute__((cleanup(planner_clear))) struct planner
/* The UUID of VM, from the bundle that told of it or from its points; g_free. */
char *planner_uuid(const struct planner *planner, const char *vm, GError **error);

struct planned *planned_new(struct planner *planner, struct failover_vm *vm,
                            const struct vapp_vm *definition);
void planned_free(struct planned *planned);
DEFINE_CLEANUP(planned)

/* What of it is here already? *ADOPTED: it was brought up before, and is only started. A copy that is older than
 * what the VM has done at another site since makes room. */
bool planner_look_here(struct planner *planner, struct planned *planned, bool *adopted,
                       GError **error);

/* Which hosts do not answer? ERROR_USAGE or ERROR_CONFLICT: what REQUEST says of one of them is not so. */
bool planner_look_around(struct planner *planner, const struct failover_request *request,
                         struct failover_plan *plan, GError **error);
/* A VM that does not run at the hosts that answer; IS_FOUND: one of them has it, and it is off. May one of the others
 * run it? Then it is blocked. */
void planner_look_silent(struct planner *planner, struct planned *planned, bool is_found);

/* The parts, the order, the name and the site of PLAN. */
bool planner_find_order(struct planner *planner, const struct failover_request *request,
                        struct failover_plan *plan, GError **error);
/* A host for each VM that has a recovery, and its definition as it is there. */
void planner_place(struct planner *planner);

/* From here on it is a test: PLAN gets a bubble at one host, the only one that is left to place VMs at, and names
 * that no domain has. */
bool planner_prepare_test(struct planner *planner, struct failover_plan *plan, GError **error);
/* Before a real failover: tests give way when it begins, so that what their VMs hold is free. */
void planner_discount_tests(struct planner *planner);
/* RECOVERY is of a copy of VM in the bubble. */
void planner_name_copy(const struct planner *planner, const char *vm, struct recovery *recovery);
