/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors of the whole program. A fallible function returns bool (or a pointer) and takes GError **
 * last. The code is the *kind* of an error: it decides the exit status and whether a retry makes
 * sense. The text is for people: first what failed, with the name of the thing, then why, then the
 * way out where there is one; lower case, no full stop. Only main() prints it.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

enum error_kind {
    ERROR_FAILED,     /* anything else */
    ERROR_USAGE,      /* the command line is wrong */
    ERROR_CONFIG,     /* a configuration, vApp or plan file is wrong */
    ERROR_NOT_FOUND,  /* a named thing does not exist */
    ERROR_CONFLICT,   /* the state of things forbids it: locked, exists, busy, already running */
    ERROR_INTEGRITY,  /* stored or received data is damaged or lies */
    ERROR_IO,         /* a file could not be read or written */
    ERROR_NO_SPACE,   /* a file system is full */
    ERROR_NETWORK,    /* the other side cannot be reached or hung up */
    ERROR_AUTH,       /* a host key, a key or a permission was refused */
    ERROR_HYPERVISOR, /* libvirt, QEMU or the guest agent refused */
    ERROR_PARTIAL,    /* some of several things failed, the others are done */
    ERROR_CANCELLED,  /* interrupted by the user */
};

/* Process exit statuses; stable, documented in drctl(1). */
enum exit_status {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_PARTIAL = 3,
    EXIT_NOT_FOUND = 4,
    EXIT_INTEGRITY = 5,
    EXIT_REMOTE = 6,
    EXIT_HYPERVISOR = 7,
    EXIT_INTERRUPTED = 130,
};

#define DRCTL_ERROR (drctl_error_quark())
GQuark drctl_error_quark(void);

/* Set ERROR and return false, so that a failure is one statement: return fail(error, ...); */
bool fail(GError **error, enum error_kind kind, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* The same for a failed system call: appends ": <strerror>". ENOSPC and EDQUOT become
 * ERROR_NO_SPACE, ENOENT ERROR_NOT_FOUND, EINTR with a pending interrupt ERROR_CANCELLED, all
 * others ERROR_IO. */
bool fail_errno(GError **error, int saved_errno, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* Is ERROR one of ours and of KIND? */
bool error_is(const GError *error, enum error_kind kind);
/* The kind; ERROR_FAILED for errors of other domains. */
enum error_kind error_kind_of(const GError *error);
/* The exit status for ERROR; NULL is EXIT_DONE. */
enum exit_status error_exit_status(const GError *error);
/* The word of a kind for --json and the journal, such as "not-found". */
const char *error_kind_name(enum error_kind kind);

/* Ask all long operations to stop at their next safe place: async-signal-safe, for signal handlers. */
void interrupt_request(void);
/* Forget it: for those who have stopped, and take back now what they have done. */
void interrupt_forget(void);
/* Was it asked? Then sets ERROR_CANCELLED "interrupted" and returns false. Every loop that can take
 * more than a second calls it. */
bool interrupt_check(GError **error);
