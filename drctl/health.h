/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is wrong at a site, derived from its status, its jobs and its recovery plans. A monitor, the alerts and
 * `drctl status` say the same.
 */
#pragma once

#include "drctl/status.h"

enum problem_severity {
    PROBLEM_WARNING = 1, /* it will become one of the other kind unless somebody sees to it */
    PROBLEM_CRITICAL,    /* something that was promised is not so any more */
};
const char *problem_severity_name(enum problem_severity severity); /* "warning", "critical" */

struct problem {
    char *key; /* the same as long as it is the same problem: "rpo/<uuid>/dr1" */
    enum problem_severity severity;
    char *subject; /* "VM db", "job verify", "the store" */
    char *text;
    char *remedy; /* the way out, or NULL where TEXT says it */
};

/* The worst first; of struct problem. */
GPtrArray *health_problems(struct context *context, const struct status *status, GError **error);
/* The one problem that is known when all that failed for WHY. */
GPtrArray *health_unknown(const GError *why);
/* 0: nothing is wrong; else the severity of the worst. */
int health_worst(const GPtrArray *problems);
/* "VM db: its newest point is 20 min old, more than 15 min; and 2 more"; g_free. */
char *health_line(const GPtrArray *problems);
/* An array of {key, severity, subject, text, remedy}. */
json_t *problems_json(const GPtrArray *problems);
