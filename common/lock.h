/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Advisory locks (open file description locks) on files, which are created if need be. A lock dies with
 * its holder, so there are no stale ones. Its file stays, until somebody discards it together with the
 * lock: who meets such a file makes a new one.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "common/cleanup.h"

struct file_lock;
/* ERROR_CONFLICT when another process or another file_lock holds it: "<what> is in use by ..." with
 * the holder's pid as it wrote it into the file. */
struct file_lock *file_lock_take(const char *path, const char *what, GError **error);
/* A lock that several may hold, but none beside one of file_lock_take(), which is waited for: for
 * things that are held exclusively for an instant only. An interrupt ends the wait. */
struct file_lock *file_lock_share(const char *path, GError **error);
/* Is it held by somebody? A missing file is not held. */
bool file_lock_held(const char *path);
void file_lock_free(struct file_lock *lock);
DEFINE_CLEANUP(file_lock)
/* Free LOCK, which is of file_lock_take(), and remove its file. */
void file_lock_discard(struct file_lock *lock);
