/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Failovers that are not committed, for the commands commit, rollback, run and status.
 */
#pragma once

#include "drctl/command.h"

/* A table of WINDOWS. */
void windows_print(const GPtrArray *windows);
/* What people are told about POLICY: "until 30 min after its end it can be taken back (drctl rollback NAME); then it
 * is committed"; NULL: it is committed at once. g_free. */
char *commit_policy_text(const struct commit_policy *policy, const char *name);
/* {commit_after_seconds, on_timeout} into JSON. */
void commit_policy_json(const struct commit_policy *policy, json_t *json);
/* Do for all WINDOWS whose time is over what they say, or only look with --dry-run; prints what was done. Then go on
 * with copying VMs off their points where their failover said so. */
bool windows_end_due(struct context *context, GError **error);
