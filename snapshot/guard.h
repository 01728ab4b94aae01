/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What keeps a running backup job from harming its guest. QEMU copies what the guest overwrites
 * into scratch files; when it cannot, it fails the guest's write and pauses the guest. So a thread
 * of its own, which neither a busy mover nor a link that stalls can hold up, looks at the file
 * system of the scratch files and at the guest, and gives the job up first: the point is lost, not
 * the guest's work. Private to snapshot/.
 */
#pragma once

#include "snapshot/snapshot.h"

struct guard;

/* SCRATCH: target -> path of the scratch file; borrowed, as all else, until guard_free(). */
struct guard *guard_new(const struct point_request *request, GHashTable *scratch);
/* Look no more; what it has begun is done when this returns. Safe to repeat. */
void guard_stop(struct guard *guard);
/* False, with the reason, once it has given up the job: then what is read from it means nothing. */
bool guard_check(struct guard *guard, GError **error);
void guard_free(struct guard *guard);
DEFINE_CLEANUP(guard)

/* Resume the guest if QEMU has paused it because a write found no space. There must be no job of
 * ours any more: a domain that was so before is never captured, so it was our job, and the write
 * succeeds now. */
bool guard_resume(const struct point_request *request, GError **error);
