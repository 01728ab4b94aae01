/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside restore/: what a restore to another name (restore.c) and one to a directory (export.c)
 * share. Functions that are given an ERROR here may rely on it being there: restore_execute() sees to
 * that.
 */
#pragma once

#include "restore/recovery.h"

#define RESTORE_KIND "restore"

/* The point that is asked for, or the newest complete one; or what is left of one that is not complete, if
 * that is accepted. */
struct origin *request_origin(const struct site *site, const struct restore_request *request,
                              GError **error);
void request_note(const struct site *site, const char *vm, const struct findings *findings);
/* Is PLAN, of interrupted run RUN, that of this request? ERROR_CONFLICT says what it is instead. */
bool request_matches(const struct restore_request *request, const json_t *plan, const char *run,
                     GError **error);
/* The point in PLAN, of an interrupted run, as it was accepted then. */
struct origin *request_origin_again(const struct site *site, const json_t *plan, GError **error);
/* What the journal keeps of every restore. */
json_t *request_plan(const struct restore_request *request, const struct origin *origin);
/* Take over the interrupted restore of TITLE. NULL without an error when there is none. */
struct run *request_resume(const struct site *site, const struct restore_request *request,
                           const char *title, GError **error);
/* End RUN well: RESULT has been filled in. */
bool request_done(struct run *run, const struct origin *origin, struct restore_result *result,
                  GError **error);
/* End RUN after *ERROR; false. */
bool request_fail(struct run *run, GError **error);

bool restore_to_dir(const struct site *site, const struct restore_request *request,
                    struct restore_result *result, GError **error);
