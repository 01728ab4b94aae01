/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdatomic.h>

#include "common/error.h"

/* Not G_DEFINE_QUARK(): that writes a static variable without a lock, from whatever thread fails. */
GQuark drctl_error_quark(void)
{
    return g_quark_from_static_string("drctl-error-quark");
}

static const struct {
    const char *name;
    enum exit_status status;
} kinds[] = {
    [ERROR_FAILED] = {"failed", EXIT_FAILED},
    [ERROR_USAGE] = {"usage", EXIT_USAGE},
    [ERROR_CONFIG] = {"config", EXIT_USAGE},
    [ERROR_NOT_FOUND] = {"not-found", EXIT_NOT_FOUND},
    [ERROR_CONFLICT] = {"conflict", EXIT_FAILED},
    [ERROR_INTEGRITY] = {"integrity", EXIT_INTEGRITY},
    [ERROR_IO] = {"io", EXIT_FAILED},
    [ERROR_NO_SPACE] = {"no-space", EXIT_FAILED},
    [ERROR_NETWORK] = {"network", EXIT_REMOTE},
    [ERROR_AUTH] = {"auth", EXIT_REMOTE},
    [ERROR_HYPERVISOR] = {"hypervisor", EXIT_HYPERVISOR},
    [ERROR_PARTIAL] = {"partial", EXIT_PARTIAL},
    [ERROR_CANCELLED] = {"cancelled", EXIT_INTERRUPTED},
};

/* Set by a signal handler, read by all threads: only a lock-free atomic may do both. */
static atomic_int interrupted;
G_STATIC_ASSERT(ATOMIC_INT_LOCK_FREE == 2);

static enum error_kind kind_of_errno(int saved_errno)
{
    switch (saved_errno) {
    case ENOSPC:
    case EDQUOT:
        return ERROR_NO_SPACE;
    case ENOENT:
        return ERROR_NOT_FOUND;
    case EINTR:
        return interrupted ? ERROR_CANCELLED : ERROR_IO;
    default:
        return ERROR_IO;
    }
}

bool fail(GError **error, enum error_kind kind, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_propagate_error(error, g_error_new_valist(DRCTL_ERROR, (int)kind, format, args));
    va_end(args);
    return false;
}

bool fail_errno(GError **error, int saved_errno, const char *format, ...)
{
    g_autofree char *what = NULL;
    va_list args;

    va_start(args, format);
    what = g_strdup_vprintf(format, args);
    va_end(args);
    return fail(error, kind_of_errno(saved_errno), "%s: %s", what, g_strerror(saved_errno));
}

bool error_is(const GError *error, enum error_kind kind)
{
    return g_error_matches(error, DRCTL_ERROR, (int)kind);
}

enum error_kind error_kind_of(const GError *error)
{
    if (!error || error->domain != DRCTL_ERROR)
        return ERROR_FAILED;
    return (enum error_kind)error->code;
}

enum exit_status error_exit_status(const GError *error)
{
    return error ? kinds[error_kind_of(error)].status : EXIT_DONE;
}

const char *error_kind_name(enum error_kind kind)
{
    return kinds[kind].name;
}

void interrupt_request(void)
{
    interrupted = 1;
}

void interrupt_forget(void)
{
    interrupted = 0;
}

bool interrupt_check(GError **error)
{
    return interrupted ? fail(error, ERROR_CANCELLED, "interrupted") : true;
}
