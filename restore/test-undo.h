/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a test failover ends, whoever ends it: the process that ran it, or, when that was killed, the next
 * one. All that is needed for that is in the plan of its run. Private to restore/.
 */
#pragma once

#include "restore/recovery.h"

#define TEST_KIND "test"

/* One test of a vApp at a time, and its cleaning up; ERROR_CONFLICT. */
struct file_lock *test_lock(const struct site *site, const char *vapp, GError **error);
/* Step "network" of RUN; what it is for run_declare(). */
struct run_subject test_bubble_steps(void);
bool test_bubble_up(const struct site *site, struct run *run, GError **error);
/* Is RUN, of run_list(), a test of VAPP (NULL: of any)? */
bool test_is_of(const json_t *run, const char *vapp);
/* Undo all that was begun in RUN; goes on after errors, returns the first. */
bool test_undo(const struct site *site, struct run *run, GError **error);
