/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A recovery point objective: the newest point that can be used must never show a state that is older. A point that is
 * begun at T shows T, and can be used when it has been committed, which takes d; the next one must be there before T +
 * RPO. So it is begun at T + RPO - d - margin, and an RPO can be kept as long as d is at most half of it.
 */
#pragma once

#include <stdint.h>

#define RPO_MIN_MS 5000
#define RPO_TOOK 3 /* of so many last points the slowest says how long the next will take */

enum rpo_state {
    RPO_OK,
    RPO_AT_RISK,  /* it is kept, but the next point will land too late, or points take too long */
    RPO_VIOLATED, /* what is there is too old, or there is nothing */
};
const char *rpo_state_name(enum rpo_state state); /* "ok", "at risk", "violated" */

struct rpo {
    int64_t target_ms;
    int64_t newest_ms; /* the instant that the newest point shows; 0: there is none */
    int64_t took_ms;   /* what the next one is expected to take; 0: nobody knows */
};

/* When the next point is begun; in the past: now. */
int64_t rpo_next_ms(const struct rpo *rpo);
enum rpo_state rpo_state_at(const struct rpo *rpo, int64_t now_ms);
