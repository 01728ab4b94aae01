/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much of a store is verified by a run of `drctl verify --cycle`, so that all of it is verified
 * once in the cycle and no run does more than it must. Each point has a deadline: its last
 * verification (at the latest its commit, which reads all of it back) and the cycle. Points are taken
 * in the order of their deadlines. The pace is the lowest at which each point, with all before it, is
 * verified by its deadline; a run does what this pace asks for in the time since the run before.
 */
#pragma once

#include <stdint.h>

struct cycle_item {
    uint64_t bytes;
    int64_t verified_ms;
};

/* How many of ITEMS, which come in the order of verified_ms, are due at NOW_MS, when INTERVAL_MS have
 * passed since the last run. */
unsigned cycle_due(const struct cycle_item *items, unsigned count, int64_t now_ms, int64_t cycle_ms,
                   int64_t interval_ms);
