/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Beside another program that writes a large file: what it has written goes to the disk while it goes
 * on. Otherwise the kernel keeps gigabytes of it, and the fsync at the end waits for all of them.
 */
#pragma once

#include "common/cleanup.h"

struct writeback;

/* A thread of its own looks at PATH, which need not exist yet, five times a second. */
struct writeback *writeback_start(const char *path);
void writeback_free(struct writeback *writeback);
DEFINE_CLEANUP(writeback)
