/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside restore/: a planned failover or a failback on its way. move.c looks at both sites, runs the steps and
 * takes them back; move-steps.c is what they do, and how the other site is asked.
 *
 *     adopt -> points -> preflight -> stop -> final -> check -> claim -> fence -> start
 *
 * The claim is the point of no return: before it the other site is the owner and everything is taken back,
 * after it this site is, and everything goes on. Between `stop` and `claim` nothing runs anywhere.
 */
#pragma once

#include "restore/plan.h"

#define PLANNED_KIND "planned"
#define FAILBACK_KIND "failback"

struct moving {
    const struct site *site; /* borrowed, as the next two */
    const struct move *move;
    struct store *peer;
    struct run *run;
    void (*report)(void *context, const struct vapp_result *result);
    void *report_context;
    GHashTable *finals; /* name of the VM -> id of the point that holds all of it */
    struct move_result *result;
};

/* Subject of all steps is the vApp; CONTEXT is a struct moving. */
extern const struct step move_steps[];
extern const unsigned move_n_steps;
extern const unsigned move_n_before_claim; /* how many come before `claim` */
/* Is a VM this site's, by RUN unless that is NULL? If that cannot be told it is. */
bool move_owns(const struct moving *moving, const char *run);

/* Run a command at the other site, and once more when the link was lost and can be had again: every one
 * of them is safe to repeat. *RESULT (may be NULL) is what it printed, when it has done all. */
bool peer_command(struct store *peer, const char *const *args, struct progress *progress,
                  json_t **result, GError **error);
