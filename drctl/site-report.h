/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `drctl report` tells of a time: RPOs that were wanted and achieved, tests and what they have shown, runs that
 * failed, the points that are there now, and where the audit log stands.
 */
#pragma once

#include "drctl/command.h"
#include "drctl/period.h"

/* See drctl(1), JSON OUTPUT. A destination that does not answer is in it as such. ONLY_RPO: up to "problem", and nobody
 * is asked. */
json_t *site_report(struct context *context, const struct period *period, bool only_rpo,
                    GError **error);
/* The same for people, with the pictures of the tests. */
struct sheet *site_report_sheet(struct context *context, const json_t *report,
                                const struct period *period);
