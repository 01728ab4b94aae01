/* SPDX-License-Identifier: Apache-2.0 */
#include <glib.h>

#include "metadata/rpo.h"

/* For what no earlier point tells: another job that has to end first, a process that starts slowly. */
#define MARGIN_PART 10
#define MARGIN_MAX_MS 60000

const char *rpo_state_name(enum rpo_state state)
{
    static const char *const names[] = {
        [RPO_OK] = "ok", [RPO_AT_RISK] = "at risk", [RPO_VIOLATED] = "violated"};

    return names[state];
}

int64_t rpo_next_ms(const struct rpo *rpo)
{
    int64_t margin_ms = MIN(rpo->target_ms / MARGIN_PART, MARGIN_MAX_MS);

    if (rpo->newest_ms == 0)
        return 0;
    return rpo->newest_ms + MAX(rpo->target_ms - rpo->took_ms - margin_ms, 0);
}

enum rpo_state rpo_state_at(const struct rpo *rpo, int64_t now_ms)
{
    int64_t due_ms = rpo->newest_ms + rpo->target_ms;

    if (rpo->newest_ms == 0 || now_ms > due_ms)
        return RPO_VIOLATED;
    if (rpo->took_ms > rpo->target_ms / 2 || MAX(now_ms, rpo_next_ms(rpo)) + rpo->took_ms > due_ms)
        return RPO_AT_RISK;
    return RPO_OK;
}
