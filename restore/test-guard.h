/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watches over a test failover while its guests run, in a thread of its own, five times a second. It pulls
 * the plug of all of them when they have written more than they may, when a file system of their overlays is
 * nearly full (which would pause real VMs), and when a real failover has begun, of whatever vApp.
 * QEMU has no quota for an overlay, so what a guest can write within that fifth of a second comes on top.
 * Private to restore/.
 */
#pragma once

#include "restore/recovery.h"

struct test_guard;

/* CAP_BYTES: of all overlays of PLAN together; 0: half of what is free, where least is. ERROR_NO_SPACE when there
 * is no room to begin with, ERROR_CONFLICT during a failover. */
struct test_guard *test_guard_new(const struct site *site, const struct failover_plan *plan,
                                  uint64_t cap_bytes, GError **error);
/* Watch the VM that RECOVERY of run RUN brings up, from before it is started. */
void test_guard_add(struct test_guard *guard, const struct recovery *recovery, const char *run);
/* Has it not pulled the plug? ERROR_NO_SPACE or ERROR_CONFLICT says why it has. */
bool test_guard_check(struct test_guard *guard, GError **error);
/* What the overlays hold now. */
uint64_t test_guard_bytes(struct test_guard *guard);
uint64_t test_guard_cap(const struct test_guard *guard);
void test_guard_free(struct test_guard *guard);
DEFINE_CLEANUP(test_guard)
