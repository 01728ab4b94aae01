/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which recovery points a policy keeps, as Proxmox Backup Server decides it (pbs-datastore, prune.rs), so
 * that its documentation and its prune simulator hold for us too:
 *
 *     keep = last=24 hourly=48 daily=14 weekly=8 monthly=12 yearly=3
 *
 * The rules are applied in this order. Each goes through the points from the newest to the oldest
 * and keeps the newest one of every period (the instant itself; hour, day, ISO week, month, year in
 * local time), until it has taken as many periods as it may. Periods that have a point kept
 * by an earlier rule do not count; a further point of a period that was just taken is dropped for good. Only
 * periods that have points count, so a VM that is not replicated for a year loses nothing by that.
 *
 * Pure: nothing here reads a clock or touches a store.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define RETENTION_MAX 100000 /* of one rule */

enum retention_rule {
    RETENTION_LAST,
    RETENTION_HOURLY,
    RETENTION_DAILY,
    RETENTION_WEEKLY,
    RETENTION_MONTHLY,
    RETENTION_YEARLY,
    RETENTION_RULES
};

/* How many of each; 0: the rule is not there. */
struct retention {
    unsigned keep[RETENTION_RULES];
};

/* Words as above, in any order, each once, 1 to RETENTION_MAX; at least one, because a policy that
 * keeps nothing is a mistake. ERROR_CONFIG says what would be right. */
bool retention_parse(const char *text, struct retention *retention, GError **error);
/* Back to text, in the order of the rules; "" for none. g_free */
char *retention_text(const struct retention *retention);
/* No rule at all: everything is kept. */
bool retention_is_empty(const struct retention *retention);

struct retention_point {
    int64_t time_ms;
    const char *protected_by; /* why it stays whatever the rules say, or NULL; it does not count */
    /* The decision: */
    bool keep;
    char *rule; /* "daily #3", PROTECTED_BY, or why none keeps it */
};
void retention_point_clear(struct retention_point *point);

/* Decide about COUNT points of one VM, newest first. */
void retention_decide(const struct retention *retention, struct retention_point *points,
                      unsigned count);
