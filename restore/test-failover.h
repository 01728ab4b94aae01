/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Test failover: a vApp is brought up from recovery points as a failover would, under other names, in a
 * bubble that leads nowhere, is looked at, and is gone again. Replication goes on meanwhile, and so does a
 * real failover, which wins. What was seen is kept in STORE/evidence/<run>/, and beside each point that was
 * used (proof.h). Part of the public header.
 *
 *     network -> VMs by order (grant -> overlay -> define -> start -> ready) -> evidence -> all undone
 *
 * What a process that was killed has left is an interrupted run, which test_cleanup() undoes.
 */
#pragma once

#include "restore/restore.h"

/* Networks of bubbles are called so; they are there as long as the test. */
#define TEST_NETWORK_PREFIX "drctl-test-"
/* Is it a copy that a test failover has made? */
bool test_failover_is_copy(struct domain *domain);

struct test_request {
    uint64_t cap_bytes; /* what its VMs may write, together; 0: half of what is free */
    /* How long they stay after the verdict, for people to look; an interrupt ends it. */
    int64_t keep_ms;
};

struct test_outcome {
    char *run;
    enum run_state state;
    enum proof_verdict verdict; /* the worst of a VM */
    json_t *evidence;           /* what is in evidence.json; NULL if the run did not begin */
    char *dir;                  /* STORE/evidence/<run> */
};
void test_outcome_clear(struct test_outcome *result);

/* Do it. PLAN is of a request for a test. ERROR_FAILED when a VM failed, ERROR_PARTIAL when some could not
 * be proven, ERROR_CONFLICT when it is being tested, or while a real failover goes on or begins,
 * ERROR_CANCELLED after an interrupt; all of it is undone by then. Whatever cannot be undone is said, and
 * left to test_cleanup(). */
bool test_execute(const struct site *site, const struct failover_plan *plan,
                  const struct test_request *request,
                  void (*report)(void *context, const struct vapp_result *result), void *context,
                  struct test_outcome *result, GError **error);

/* Undo what interrupted tests have left: of VAPP, or all (NULL). *CLEANED (may be NULL) gets the ids of
 * their runs (char *, with free function), also on failure. A test that goes on is ERROR_CONFLICT if it is of VAPP, else
 * it is left alone. */
bool test_cleanup(const struct site *site, const char *vapp, GPtrArray **cleaned, GError **error);
/* A real failover has begun, and holds its lock: tests give way, of whatever vApp, now or in a few seconds,
 * and what interrupted ones left is undone. That this fails is no reason to wait. */
void test_give_way(const struct site *site);

/* The last test of a recovery plan, vApp or VM that came to a verdict. */
struct test_record {
    char *run; /* NULL: there was none */
    int64_t ended_ms;
    enum proof_verdict verdict;
};
void test_record_clear(struct test_record *record);
#define AUTO_TEST_RECORD __attribute__((cleanup(test_record_clear))) struct test_record
/* RUNS are those of run_list(). */
void test_find_last(const json_t *runs, const char *name, struct test_record *record);
/* When the next test of PLAN is due, which may be over: at once (0) if there was none, never (INT64_MAX) if
 * it does not say how often. */
int64_t test_due_ms(const struct recovery_plan *plan, const struct test_record *last);
