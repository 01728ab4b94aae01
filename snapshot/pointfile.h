/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a file of a recovery point. A point's manifest has named it, and a point consists of
 * regular files, so whatever else is found there, a link included, is damage or a trap. Private to
 * snapshot/; the caller owns the descriptor.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

/* For reading; *BYTES is its size. -1 and ERROR_INTEGRITY when there is no such regular file. */
int point_file_open(const char *path, uint64_t *bytes, GError **error);
