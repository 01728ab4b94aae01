/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A recovery plan on paper: what somebody needs who carries it out, also one who has never seen drctl, and where drctl does not
 * run. What depends on the day (points, the last test) is as it was when it was written.
 */
#pragma once

#include "drctl/command.h"

/* SITE needs no hosts. */
struct sheet *runbook_sheet(const struct site *site, const struct recovery_plan *plan,
                            GError **error);
