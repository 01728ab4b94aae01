/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery points in wizards: what is known of them, and the question which.
 */
#pragma once

#include "drctl/candidates.h"

/* The newest point of each VM of CANDIDATE. */
void wizard_points_print(const struct survey *survey, const struct candidate *candidate);
/* From which points it starts: sets --point or --at, or neither. Nothing is asked where there is no choice, or an
 * option has said it. */
bool wizard_points_ask(const struct survey *survey, const struct candidate *candidate,
                       GError **error);
/* One of POINTS (of struct manifest, newest first) of the VM, which are not all of it: sets --point. */
bool wizard_point_ask_one(struct context *context, const GPtrArray *points, const char *uuid,
                          GError **error);
