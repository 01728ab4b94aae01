/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What wizards (wizard.h) of a failover offer: the recovery plans, vApps and VMs that could be brought up at this
 * site, with what is known of them here.
 */
#pragma once

#include "drctl/command.h"

#define ASK_SITES_MS 3000

/* A recovery plan, a vApp, or a VM that is in neither. */
struct candidate {
    char *name;
    const char *what; /* "plan", "vApp", "VM" */
    GPtrArray *vms;   /* char *: their names */
    /* Of the points and owners of its VMs. */
    char *site;        /* where they come from; NULL: there is no point */
    int64_t oldest_ms; /* of the newest point of each */
    unsigned with_points, here;
    /* A failover, or a planned one, was: what is begun comes first. */
    bool interrupted, move_interrupted;
};
/* Do all of its VMs belong to this site? */
bool candidate_is_here(const struct candidate *candidate);

struct survey {
    struct context *context;
    struct site site;
    GPtrArray *points;     /* of struct manifest, newest first */
    GHashTable *newest;    /* name of a VM -> struct manifest, borrowed from POINTS */
    GPtrArray *candidates; /* of struct candidate: interrupted, not this site's, others; by name */
    json_t *runs;          /* of run_list() */
    GPtrArray *peers;      /* of peers_ask(), or NULL: nobody was asked */
};
/* All of it but the peers; needs hosts. ERROR_NOT_FOUND when there is no candidate. */
bool survey_make(struct survey *survey, GError **error);
void survey_clear(struct survey *survey);
#define AUTO_SURVEY __attribute__((cleanup(survey_clear))) struct survey

/* Is there a run of KIND and TITLE in RUNS, which are those of run_list(), that was interrupted? */
bool runs_have_interrupted(const json_t *runs, const char *kind, const char *title);
/* Ask the other sites, and tell how both are; of struct peer. */
GPtrArray *sites_ask_and_print(const struct site *site);
