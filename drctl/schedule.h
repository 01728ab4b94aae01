/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the daemon has to do, and when: derived each time from drctl.conf, the recovery plans and the catalog, and kept
 * nowhere else. So it does not matter who has done something last, or whether the daemon has lived meanwhile.
 */
#pragma once

#include "drctl/command.h"

/* The jobs that are there without a word in the configuration. */
#define SCHEDULE_HOUSEKEEPING "due"
#define SCHEDULE_METADATA "metadata"

struct scheduled {
    char *key;       /* of task.h: "replicate/shop" */
    char **words;    /* the command */
    char *link;      /* the remote that it talks to, or NULL */
    char **hosts;    /* URIs of those that had its VMs at their last points, or NULL */
    bool continuous; /* does it go on until somebody stops it? */
    bool of_store;   /* does it read or change points of this store as a whole? */
    int64_t due_ms;  /* INT64_MAX: not by itself */
    const char *why; /* "rpo", "at", "retry", "missed", "due", "asked" */
    bool runs;
    struct task_record last;
};

/* Of struct scheduled, the one that is due first comes first. A plan or vApp file that is wrong takes away its jobs
 * only, and is told in *PROBLEMS (of char *; g_ptr_array_unref). */
GPtrArray *schedule_make(struct context *context, GPtrArray **problems, GError **error);
/* Somebody wants the job KEY now: "replicate/" and a protection, "test/" and a plan, or "verify", whether it is in
 * SCHEDULE or not. It is first there then; borrowed. ERROR_NOT_FOUND. */
const struct scheduled *schedule_ask(struct context *context, GPtrArray *schedule, const char *key,
                                     GError **error);
/* What the next point is expected to take, by RECORD of CATALOG_REPLICATION (may be NULL); 0: nobody knows. */
int64_t rpo_slowest_ms(const json_t *record);
/* Is there a daemon that keeps it? */
bool schedule_is_kept(struct context *context);
/* Its lock. g_free. */
char *schedule_lock_path(struct context *context);
/* The same as JSON: {job, command, due, why, running, started, ended, status, failures, error}. */
json_t *schedule_json(const GPtrArray *schedule);
