/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running another program (qemu-img, ssh-keygen) to its end.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* Run ARGV (NULL-terminated, PATH is searched) without a shell, stdin from /dev/null, LC_ALL=C,
 * for at most TIMEOUT_S seconds (0 = no limit; interrupt_request() also ends it). A non-zero exit is
 * ERROR_FAILED "qemu-img: <the last lines it wrote to stderr>"; a missing program says which Debian
 * package has it. OUTPUT (stdout, g_free) may be NULL. */
bool process_run(const char *const *argv, unsigned timeout_s, char **output, GError **error);
