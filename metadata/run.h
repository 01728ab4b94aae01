/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run: one journaled execution of a job (replicate, failover, restore, vapp start ...). The
 * journal is in the catalog: a step is written before it begins and after it ends, so that a killed
 * run is known and goes on where it was. The process that executes a run holds a kernel lock; a run
 * whose state is `running` and whose lock is free was interrupted.
 *
 * A job is data: a table of steps that run_steps() executes for one subject (a VM).
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "metadata/catalog.h"

enum run_state { RUN_RUNNING, RUN_DONE, RUN_PARTIAL, RUN_FAILED, RUN_CANCELLED, RUN_INTERRUPTED };
const char *run_state_name(enum run_state state); /* "running", "done", "partially-failed", ... */

/* One step. NAME is journaled, so it is never renamed and has no '/'. RUN must be safe to repeat:
 * after a kill nobody knows whether it had happened. UNDO (NULL: there is nothing to take back)
 * takes back its effect, also a partial one, and must be safe to repeat as well. */
struct step {
    const char *name;
    bool (*run)(void *context, GError **error);
    bool (*undo)(void *context, GError **error);
};

struct run;

/* Start a run. KIND is the command, TITLE what it works on ("shop"), PLAN (borrowed) all decisions
 * that a resumed run must repeat exactly. The id is time-sorted and short to type:
 * "r-20261120-2215-1". */
struct run *run_begin(struct catalog *catalog, const char *kind, const char *title,
                      const json_t *plan, GError **error);
/* Take over a run that was interrupted; ERROR_CONFLICT while it is executing or when it has ended,
 * ERROR_NOT_FOUND. */
struct run *run_resume(struct catalog *catalog, const char *id, GError **error);
/* The newest unfinished (interrupted) run of KIND and TITLE; *ID NULL when there is none. */
bool run_find_interrupted(struct catalog *catalog, const char *kind, const char *title, char **id,
                          GError **error);
/* Has run ID come to its end, whatever that was? One that was interrupted has not. ERROR_NOT_FOUND. */
bool run_has_ended(struct catalog *catalog, const char *id, bool *ended, GError **error);
/* Without run_finish() the run stays, as interrupted. */
void run_free(struct run *run);
DEFINE_CLEANUP(run)
const char *run_id(const struct run *run);
/* The run that this process has begun or resumed last, or NULL; g_free. */
char *run_latest(void);
/* Of two ids: was ONE begun before OTHER? False if either is NULL. */
bool run_is_before(const char *one, const char *other);
const json_t *run_plan(const struct run *run); /* NULL if it was begun without */
int64_t run_started_ms(const struct run *run); /* the first start, also when resumed */

/* All that the run is going to do, so that it can be told what was not executed: once, after
 * run_begin(). A subject may be there several times, with steps of several tables. */
struct run_subject {
    const char *name;
    const struct step *steps;
    size_t n_steps;
};
bool run_declare(struct run *run, const struct run_subject *subjects, size_t n_subjects,
                 GError **error);

/* Execute STEPS for SUBJECT in order, skipping those that the journal calls done; stops at the
 * first failure, which is journaled and returned, and before the next step after
 * interrupt_request(). Different subjects may run in different threads. */
bool run_steps(struct run *run, const char *subject, const struct step *steps, size_t n_steps,
               void *context, GError **error);
/* Execute STEP once for all of SUBJECTS together, unless the journal calls it done for each of them. It is journaled
 * for each, in one commit before and one after. */
bool run_together(struct run *run, const char *const *subjects, size_t n_subjects,
                  const struct step *step, void *context, GError **error);
/* Execute STEP whether or not the journal calls it done: to wait for what may not hold any more. */
bool run_again(struct run *run, const char *subject, const struct step *step, void *context,
               GError **error);
/* *ENDED_MS, by the wall clock: when STEP was done for SUBJECT, also by another process before; 0: it is
 * not. */
bool run_step_done(struct run *run, const char *subject, const struct step *step, int64_t *ended_ms,
                   GError **error);
/* Undo the steps that were begun for SUBJECT, in reverse order; goes on after errors and
 * interrupts, returns the first error. Steps that are undone are begun anew by run_steps(). */
bool run_undo(struct run *run, const char *subject, const struct step *steps, size_t n_steps,
              void *context, GError **error);
/* Close the journal with a final state (not running, not interrupted). RESULT (may be NULL,
 * borrowed) is kept for `drctl run show`. */
bool run_finish(struct run *run, enum run_state state, const json_t *result, GError **error);

/* Stop the process that executes run ID, in the way that Ctrl-C does there, and wait until it has
 * stopped: at its next safe place, with the run interrupted, so that it can be gone on with.
 * ERROR_CONFLICT when nobody executes it. It may have ended all the same: see run_show(). */
bool run_cancel(struct catalog *catalog, const char *id, GError **error);

/* What to expect of a run of KIND and TITLE, by the last that were done: {runs: how many (0: nothing is
 * known), rto_seconds, down_seconds (of moves), vms: {name: seconds from the start of the run until it was
 * ready}}. */
json_t *run_forecast(struct catalog *catalog, const char *kind, const char *title, GError **error);

/* For `drctl run list`: objects {run, kind, title, state, started, ended, host, pid}, newest first.
 */
json_t *run_list(struct catalog *catalog, GError **error);
/* Run ID like an element of that; ERROR_NOT_FOUND. */
json_t *run_head(struct catalog *catalog, const char *id, GError **error);
/* For `drctl run show`: the same plus plan, result and steps[{subject, step, state, started, ended,
 * error}] in the order in which they were begun last, then those that were declared and not begun;
 * ERROR_NOT_FOUND. State of a step: running, done, failed, interrupted, undoing, undone, undo-failed;
 * waiting (not begun), not-executed (not begun, and nobody executes the run). */
json_t *run_show(struct catalog *catalog, const char *id, GError **error);
