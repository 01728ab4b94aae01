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

/* How somebody looks after a program while it runs. */
struct process_watch {
    size_t output_max; /* bytes of its stdout; if it writes more it is ended, ERROR_FAILED */
    /* A line that it has written to stderr, without its end. NULL: nobody listens. */
    bool (*line)(void *context, const char *line, GError **error);
    /* Called several times a second. NULL: nobody looks. */
    bool (*look)(void *context, GError **error);
    void *context;
};

/* Run ARGV as process_run() does. When LINE or LOOK returns false, it and what it has started are ended,
 * by SIGTERM, and by SIGKILL what is left after 10 s; their error is ours then. True when the program has
 * ended by itself: *OUTPUT (g_free) is what it wrote to stdout, *STATUS its exit status, 128 + signal if
 * it was killed. */
bool process_watch(const char *const *argv, const struct process_watch *watch, char **output,
                   int *status, GError **error);

/* A program that runs as long as it is wanted. It dies with the thread that has started it, whatever
 * ends that. */
struct child;
struct child *child_start(const char *const *argv, GError **error);
/* Does it run? When it has ended by itself, the error is as that of process_run(). */
bool child_runs(struct child *child, GError **error);
/* Kills it. */
void child_free(struct child *child);
DEFINE_CLEANUP(child)
