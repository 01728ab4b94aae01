/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Going on with an interrupted run, for each kind that can: what `drctl run resume` calls. RUN is from
 * run_show().
 */
#pragma once

#include "drctl/command.h"

bool failover_resume(struct context *context, const json_t *run, GError **error);
bool rollback_resume(struct context *context, const json_t *run, GError **error);
bool restore_resume(struct context *context, const json_t *run, GError **error);
/* A planned failover or a failback. */
bool move_resume(struct context *context, const json_t *run, GError **error);
