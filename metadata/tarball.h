/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tar.zst archives of small texts in memory, by libarchive, whose only includer is tarball.c. The
 * reader takes archives from other sites: only zstd over tar, only plain files, nothing twice, and the
 * limits of bundle.h on the way in and out, so that what we write can be read. Private to metadata/.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/common.h"

struct tarball_writer;

/* All members get the time TIME_MS. */
struct tarball_writer *tarball_writer_new(int64_t time_ms, GError **error);
bool tarball_writer_add(struct tarball_writer *writer, const char *path, const void *data,
                        size_t len, GError **error);
/* *DATA is g_free'd. The writer is of no more use. */
bool tarball_writer_finish(struct tarball_writer *writer, char **data, size_t *len, GError **error);
void tarball_writer_free(struct tarball_writer *writer);
DEFINE_CLEANUP(tarball_writer)

/* Put all members of an archive into MEMBERS, name -> text (both g_malloc'ed, UTF-8). Names are
 * relative, ASCII, without "." and ".." and empty parts, and nothing more is known of them. */
bool tarball_read(const char *data, size_t len, GHashTable *members, GError **error);
