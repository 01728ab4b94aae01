/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets of clusters of a disk, as ascending stretches that do not touch each other: a GArray of struct
 * cluster_range, g_array_unref. NULL, where a function says so, is the empty set.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/common.h"

/* Of a disk, as images of points have it. */
#define CLUSTER_RANGES_UNIT ((uint64_t)64 << 10)
/* A set that is written down is told by at most so many stretches. */
#define CLUSTER_RANGES_MAX 4096u

struct cluster_range {
    uint64_t first, count;
};

GArray *cluster_ranges_new(void);
/* Add to the end of RANGES: FIRST is not below what was added last. */
void cluster_ranges_append(GArray *ranges, uint64_t first, uint64_t count);
/* The same for a set that will be written down: the last of too many stretches grow together, and have
 * some clusters between them, too. */
void cluster_ranges_add(GArray *ranges, uint64_t first, uint64_t count);
bool cluster_ranges_has(const GArray *ranges, uint64_t cluster);
/* How many clusters they are; of NULL 0. */
uint64_t cluster_ranges_count(const GArray *ranges);
/* The same in bytes of the disk. */
uint64_t cluster_ranges_bytes(const GArray *ranges);
/* How many clusters both have. */
uint64_t cluster_ranges_common(const GArray *a, const GArray *b);
/* What A or B (each may be NULL) has. */
GArray *cluster_ranges_union(const GArray *a, const GArray *b);
/* What A has and B has not. */
GArray *cluster_ranges_minus(const GArray *a, const GArray *b);
/* What RANGES have below cluster END. */
GArray *cluster_ranges_below(const GArray *ranges, uint64_t end);
/* Are all of RANGES in OUTER? */
bool cluster_ranges_within(const GArray *ranges, const GArray *outer);

/* [[first, count], ...] */
json_t *cluster_ranges_json(const GArray *ranges);
/* Replaces what is in RANGES; ERROR_INTEGRITY. */
bool cluster_ranges_parse(const json_t *json, GArray *ranges, GError **error);
