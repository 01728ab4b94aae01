/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Figures of a site for Prometheus, in its text format; drctl(1) names them.
 */
#pragma once

#include "drctl/health.h"

/* g_free */
char *metrics_text(struct context *context, const struct status *status, const GPtrArray *problems);
