/* SPDX-License-Identifier: Apache-2.0 */
/* --from and --to of commands that look back. */
#pragma once

#include "drctl/command.h"

#define PERIOD_FROM_OPTION                                                                         \
    {                                                                                              \
        "from", "TIME", "since then: 2026-11-01, 2026-11-01T06:00:00Z, or 30d: so long ago"        \
    }
#define PERIOD_TO_OPTION                                                                           \
    {                                                                                              \
        "to", "TIME", "until then, likewise; default: now"                                         \
    }

struct period {
    int64_t from_ms, to_ms;
};

/* Without --from it begins DEFAULT_MS before its end. ERROR_USAGE. */
bool period_read(const struct context *context, int64_t default_ms, struct period *period,
                 GError **error);
/* Is the time that OBJECT has as KEY (RFC 3339) in it? */
bool period_has(const struct period *period, const json_t *object, const char *key);
