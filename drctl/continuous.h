/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `drctl replicate --continuous`: one process that takes point after point of a protection, as often as its rpo asks
 * for, over links that stay open. It is one run.
 */
#pragma once

#include "drctl/replication.h"

/* Until it is interrupted, or no VM has had a point for a while: ERROR of the last round then. RUN of REPLICATION has
 * begun; its RESULTS are what came of it. */
bool continuous_run(struct replication *replication, const struct protection *protection,
                    GError **error);
