/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `drctl failover --test`, and what other commands tell about tests.
 */
#pragma once

#include "drctl/command.h"

/* Before a test is planned: undo what interrupted ones have left, unless --dry-run. That it fails is told, not
 * more. */
void testing_sweep(struct context *context, const struct site *site);
/* Show PLAN, which is of a test, and do it unless --dry-run. */
bool testing_run(struct context *context, const struct site *site, const struct failover_plan *plan,
                 GError **error);
/* Of RUNS, which are those of run_list(): "passed 3 d ago", "never, due now"; g_free. */
char *testing_text(const json_t *runs, const struct recovery_plan *plan);
/* The same: adds "tested": {"run", "time", "verdict"} | null and "test_due" (time or null) to JSON. */
void testing_describe(const json_t *runs, const struct recovery_plan *plan, json_t *json);
/* Tell on stderr of tests that were interrupted, and of plans whose test is due. */
void testing_remind(struct context *context);
