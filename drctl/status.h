/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a site is: what it protects, what it holds for others, what was recovered here.
 */
#pragma once

#include "drctl/command.h"

struct status {
    json_t *
        json; /* {site, protected, empty, unprotected, received, uncommitted, recovered}, see drctl(1) */
    GPtrArray *schedule;  /* of struct scheduled */
    GPtrArray *wrong;     /* of char *: what in the configuration gives no schedule */
    GPtrArray *windows;   /* of struct window: what "uncommitted" tells */
    GPtrArray *recovered; /* of struct hydration: what "recovered" tells */
};
/* What is protected needs the hosts; the rest does not. */
bool status_make(struct context *context, struct status *status, GError **error);
void status_clear(struct status *status);
#define AUTO_STATUS __attribute__((cleanup(status_clear))) struct status
