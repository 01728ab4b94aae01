/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The options of `drctl failover`, read: for the command, and for its wizard, which asks again until an answer is one.
 */
#pragma once

#include "drctl/command.h"

/* Do they go together? ERROR_USAGE. */
bool failover_check_options(const struct context *context, GError **error);
/* --commit-after and --on-timeout. SAID: by options; else what the recovery plan says holds. */
bool failover_read_policy(const struct context *context, struct commit_policy *policy, bool *said,
                          GError **error);
/* --point and --at, into REQUEST, which borrows from CONTEXT. */
bool failover_read_points(const struct context *context, struct failover_request *request,
                          GError **error);
