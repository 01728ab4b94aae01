/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moving a vApp here from the site where it runs: what `failover --planned` and `failback` share.
 */
#pragma once

#include "drctl/command.h"

/* The whole command; BACK: it comes home. */
bool cmd_move(struct context *context, bool back, GError **error);
