/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running another program: to its end (qemu-img, ssh-keygen), or beside us (qemu-nbd).
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "common/cleanup.h"

/* Run ARGV (NULL-terminated, PATH is searched) without a shell, stdin from /dev/null, LC_ALL=C,
 * for at most TIMEOUT_S seconds (0 = no limit; interrupt_request() also ends it), together with what it has
 * started. A non-zero exit is
 * ERROR_FAILED "qemu-img: <the last lines it wrote to stderr>"; a missing program says which Debian
 * package has it. OUTPUT (stdout, g_free) may be NULL. */
bool process_run(const char *const *argv, unsigned timeout_s, char **output, GError **error);

/* A program that runs as long as it is wanted. It dies with the thread that has started it, whatever
 * ends that. */
struct child;
struct child *child_start(const char *const *argv, GError **error);
/* Does it run? When it has ended by itself, the error is as that of process_run(). */
bool child_runs(struct child *child, GError **error);
/* Kills it. */
void child_free(struct child *child);
DEFINE_CLEANUP(child)
