/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When something is due by the clock, in the words of systemd.time(7), "Calendar Events":
 *
 *     02:00                     every day
 *     mon..fri 22:30
 *     sat *-*-1..7 03:00        the first Saturday of a month
 *     *-*-01 04:00:00           the first of each month
 *     *:0/15                    every quarter of an hour
 *     minutely, hourly, daily, weekly, monthly, quarterly, semiannually, yearly
 *
 * In local time, by the second. What is due at a time that a clock skips in spring is due as much later; at one that
 * comes twice in autumn it is due once.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/common.h"

struct calendar;

/* [WEEKDAYS] [[YEAR-]MONTH-DAY] [HOUR:MINUTE[:SECOND]], at least one of them, or a word. ERROR_CONFIG, also for a day
 * that never comes. */
struct calendar *calendar_parse(const char *text, GError **error);
void calendar_free(struct calendar *calendar);
DEFINE_CLEANUP(calendar)
/* As it was written. */
const char *calendar_text(const struct calendar *calendar);
/* The first time that is later than AFTER_MS; INT64_MAX: never again. */
int64_t calendar_next(const struct calendar *calendar, int64_t after_ms);
