/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limiter of one remote: all drctl processes that talk to it, whatever they do, share its rate.
 * What they share is a file with one number, the instant from which on the line is free: who wants
 * to use it moves that instant by the time that its bytes take, and waits for its turn. Nobody needs
 * to be there for the others: what a killed process had reserved is lost, and that is one slice.
 *
 * The file is worth nothing after a reboot, or if it is damaged: an instant that is further away
 * than any queue is long counts as now.
 */
#pragma once

#include "metadata/metadata.h"

struct throttle;

/* FILE is made if need be, and its directory. LIMIT is borrowed. */
struct throttle *throttle_open(const char *file, const struct limit *limit, GError **error);
void throttle_free(struct throttle *throttle);
DEFINE_CLEANUP(throttle)

/* How many bytes to send or to receive at once now, at most: so few that others get their turn. */
size_t throttle_slice(const struct throttle *throttle);
/* Wait until BYTES, not more than a slice, may pass. ERROR_CANCELLED when the user interrupts. */
bool throttle_wait(struct throttle *throttle, size_t bytes, GError **error);
