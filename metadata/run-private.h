/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of a run share: run.c executes, run-history.c reads, run-cancel.c stops, run-forecast.c
 * looks ahead. Private to metadata/.
 */
#pragma once

#include "metadata/run.h"

bool run_state_is(const json_t *record, const char *state);
/* g_free */
char *run_lock_path(struct catalog *catalog, const char *id);
/* The record as it is stored; ERROR_NOT_FOUND. */
bool run_record(struct catalog *catalog, const char *id, json_t **record, GError **error);
/* Where the catalog has PART of run ID, "plan" or "declared"; g_free. */
char *run_part_key(const char *id, const char *part);
/* *VALUE (json_decref) is null when there is none. */
bool run_part(struct catalog *catalog, const json_t *record, const char *part, json_t **value,
              GError **error);
/* All records with their true states; of json_t. */
GPtrArray *runs_newest_first(struct catalog *catalog, GError **error);

/* Requests this process's interrupt when somebody wants run ID to stop. Who has it holds the run's
 * lock; a wish of before that is forgotten. */
struct cancel_watch;
struct cancel_watch *cancel_watch_new(struct catalog *catalog, const char *id);
void cancel_watch_free(struct cancel_watch *watch);
