/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The watchdog of a frozen guest: a process that thaws it when the one that froze it dies, however,
 * or takes too long. It is a new program, not a fork: libvirt and GLib do not survive fork() in a
 * process with threads. It has its own connection before anything is frozen, and its own session,
 * so that what ends us at a terminal does not end it. Private to snapshot/; its other half is
 * snapshot_watchdog().
 *
 * It is told one letter each on its stdin. The end of the input is our end.
 */
#pragma once

#include "snapshot/snapshot.h"

/* No guest is frozen for longer: half of what Windows grants, and less than its users notice. */
#define FROZEN_MAX_MS 5000

enum watchdog_word {
    WATCHDOG_FREEZING = 'f', /* the agent is asked now: it may be frozen */
    WATCHDOG_FROZEN = 'F',   /* FROZEN_MAX_MS from now on */
    WATCHDOG_THAWED = 't',
};

struct watchdog;

/* Returns when it is ready. */
struct watchdog *watchdog_start(const struct point_request *request, GError **error);
bool watchdog_tell(struct watchdog *watchdog, enum watchdog_word word, GError **error);
/* Leave it. If its last word was not THAWED it thaws. */
void watchdog_free(struct watchdog *watchdog);
DEFINE_CLEANUP(watchdog)
