/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the audit log (metadata/audit.h) gets of this invocation: an entry when a command that changes something begins, and one
 * when it has ended. A log that cannot be written is told of, and stops nothing: a disk that is full must not keep a
 * site from failing over.
 */
#pragma once

#include "drctl/command.h"

/* In the environment of a job that was asked for on the web page: from which address. */
#define TRAIL_ASKED_FROM "DRCTL_ASKED_FROM"

struct trail {
    uint64_t seq; /* of the first entry; 0: there is none */
    int64_t began_ms;
    bool told; /* that the log cannot be written */
};

void trail_begin(struct context *context, struct trail *trail);
/* ERROR is what the command failed with, or NULL. */
void trail_end(struct context *context, struct trail *trail, const GError *error);
