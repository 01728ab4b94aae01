/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A task, which users call a job: something that drctl does again and again by itself, such as "replicate/shop" or "verify". Each execution is
 * a process of its own, whoever has started it. It holds the lock of its task, so that it is never executed twice at
 * once, also by a daemon that was killed and started again, and writes into the catalog when it begins and how it
 * ends. A record that has begun, not ended, and whose lock is free: the process was killed.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "metadata/catalog.h"

struct task_record {
    int64_t known_ms;   /* since when there is such a task */
    int64_t started_ms; /* the last time; 0: never */
    int64_t ended_ms;   /* 0: it goes on, or was killed */
    int status;         /* exit status of the last one that ended */
    unsigned failures;  /* how many have failed since one has succeeded */
    char *error;        /* of the last failure, NULL after a success */
};

void task_record_clear(struct task_record *record);
#define AUTO_TASK_RECORD __attribute__((cleanup(task_record_clear))) struct task_record

/* RECORD is zeroed where there is none. */
bool task_load(struct catalog *catalog, const char *key, struct task_record *record,
               GError **error);
/* From now on there is such a task, unless there was. */
bool task_know(struct catalog *catalog, const char *key, GError **error);
/* Does a process execute it? */
bool task_runs(const struct catalog *catalog, const char *key);

/* For the process that executes it. */
struct task;
/* ERROR_CONFLICT while another process does. */
struct task *task_begin(struct catalog *catalog, const char *key, GError **error);
/* FAILURE: NULL for a success. One that was interrupted neither succeeds nor fails: it is due again. Frees TASK. */
void task_end(struct task *task, const GError *failure);
