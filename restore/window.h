/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The time in which a failover can be taken back. A failover that is not committed at once leaves a window in the
 * catalog, from before its first VM starts until somebody commits it or rolls it back: which VMs it has brought up,
 * and where they came from. As long as it is open nothing is done that a rollback could not undo: their disks stay
 * on their points. A catalog that is lost takes open windows with it: those failovers are committed then.
 *
 * Rolling back removes what the failover has made, with all that the VMs have written, and gives the VMs to the
 * site that they came from, by a newer epoch. It is a run (run.h), as committing is.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "metadata/metadata.h"

#define ROLLBACK_KIND "rollback"
#define COMMIT_KIND "commit"

/* When a failover counts for good. */
struct commit_policy {
    int64_t
        after_ms; /* how long it can be taken back, from its end on; 0: it is committed at once */
    bool rolls_back; /* after that it is rolled back, else committed */
};

/* "commit" or "rollback" */
const char *window_timeout_name(const struct commit_policy *policy);

struct site;
struct failover_plan;

struct window {
    char *run;
    char *name; /* of the recovery plan, vApp or VM */
    char *from; /* site that the VMs came from */
    struct commit_policy policy;
    bool hydrate;     /* when it is committed */
    int64_t until_ms; /* 0: the failover has not ended */
    GPtrArray *vms;   /* of struct window_vm, in start order: those that this run brings up */
};
struct window_vm {
    char *name; /* of the domain */
    char *uuid;
    char *host;   /* URI */
    char *images; /* where its overlays are, or NULL: in those of drctl.conf */
};
void window_free(struct window *window);
DEFINE_CLEANUP(window)

/* RUN, which executes PLAN, begins; does nothing if the plan is committed at once. Safe to repeat. */
bool window_open(const struct site *site, const struct failover_plan *plan, const char *run,
                 GError **error);
/* RUN has ended: the time runs. */
bool window_start(const struct site *site, const char *run, GError **error);

/* All that are open, oldest first; of struct window. */
GPtrArray *window_list(struct catalog *catalog, GError **error);
/* Those of failovers of NAME, newest first; ERROR_NOT_FOUND when there is none. */
GPtrArray *windows_of(struct catalog *catalog, const char *name, GError **error);
bool window_is_open(struct catalog *catalog, const char *run);
/* Is its time over? */
bool window_is_due(const struct window *window);

/* Both: ERROR_NOT_FOUND when somebody has ended it meanwhile, ERROR_CONFLICT while somebody does.
 *
 * It counts for good. ERROR_CONFLICT while the failover has not ended, too. */
bool window_commit(const struct site *site, const struct window *window, GError **error);
/* Take it back. A kill at any instant: the same again goes on. What is not the failover's any more is left alone
 * and told. *RUN (g_free, may be NULL) is the id of the run that did it. */
bool window_roll_back(const struct site *site, const struct window *window, char **run,
                      GError **error);
/* The window that the interrupted rollback RUN works on. */
struct window *window_of_rollback(const struct site *site, const char *run, GError **error);

/* {run, name, from, until, on_timeout, due, vms: [{vm, uuid, host, images}]} */
json_t *window_json(const struct window *window);
