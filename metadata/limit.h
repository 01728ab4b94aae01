/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bandwidth limit of a remote: a rate for all times, and windows of the week with a rate of
 * their own. A window is in local wall-clock time: an hour that is skipped when clocks go forward is
 * not there, one that comes twice counts twice.
 *
 *     limit = 20MiB/s
 *     limit mon..fri 08:00-18:00 = 5MiB/s
 *     limit sat,sun = none
 *     limit 22:00-06:00 = 50MiB/s         over midnight: it belongs to the day on which it begins
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/common.h"

/* Bytes a second; 0: no limit. Less than LIMIT_MIN is refused: one frame would take longer than the
 * other side waits. */
#define LIMIT_MIN ((uint64_t)64 << 10)

struct limit;

/* No limit at all. */
struct limit *limit_new(void);
void limit_free(struct limit *limit);
DEFINE_CLEANUP(limit)

/* The rate for all times that no window covers: RATE is "20MiB/s" or "none". ERROR_CONFIG. */
bool limit_set(struct limit *limit, const char *rate, GError **error);
/* One more window, after those before: the first that covers an instant decides. ERROR_CONFIG. */
bool limit_add_window(struct limit *limit, const char *window, const char *rate, GError **error);
/* Can there be a limit at any time? */
bool limit_is_any(const struct limit *limit);
/* The rate at NOW_MS. *WINDOW (borrowed, may be NULL) is the text of the window that decides, or
 * NULL when none does. */
uint64_t limit_rate(const struct limit *limit, int64_t now_ms, const char **window);
/* "20MiB/s", or "none": 0. ERROR_CONFIG. */
bool rate_parse(const char *text, uint64_t *rate, GError **error);
/* "5 MiB/s" or "none"; g_free. */
char *rate_format(uint64_t rate);
