/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tar archives, by libarchive, whose only includer is tarball.c. Both readers take archives from
 * anywhere: only tar (and zstd around it), only plain files with harmless names, nothing twice.
 *
 * In memory: tar.zst of small texts, with the limits of bundle.h on the way in and out, so that what we
 * write can be read. In files: of any size, one member after the other, in both directions; nothing is
 * ever unpacked to where an archive says.
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

/* --- In files ------------------------------------------------------------------------------- */

enum tarball_kind { TARBALL_ZSTD, TARBALL_PLAIN };

struct tarball_out;
/* Write an archive that appears as PATH when it is whole and durable, and then is nobody else's to read.
 * ERROR_CONFLICT, now or then, when PATH exists. */
struct tarball_out *tarball_out_new(const char *path, enum tarball_kind kind, int64_t time_ms,
                                    GError **error);
/* The next member, of exactly BYTES, which come by tarball_out_write(). */
bool tarball_out_begin(struct tarball_out *out, const char *name, uint64_t bytes, GError **error);
bool tarball_out_write(struct tarball_out *out, const void *data, size_t len, GError **error);
/* A whole member. */
bool tarball_out_add(struct tarball_out *out, const char *name, const void *data, size_t len,
                     GError **error);
bool tarball_out_commit(struct tarball_out *out, GError **error);
/* Without commit nothing is left. */
void tarball_out_free(struct tarball_out *out);
DEFINE_CLEANUP(tarball_out)

/* Who is told what an archive holds. Each may refuse, which ends the reading. */
struct tarball_sink {
    /* A member begins. AT: where its bytes lie in the file, if that is a plain tar. */
    bool (*begin)(void *context, const char *name, uint64_t bytes, uint64_t at, GError **error);
    bool (*data)(void *context, const void *data, size_t len, GError **error);
    bool (*end)(void *context, GError **error); /* all its bytes have come */
    void *context;
};
/* Read the archive PATH from its begin to its end; ERROR_INTEGRITY when it is none, or cut off. What
 * the sink has been told then counts for nothing. */
bool tarball_scan(const char *path, enum tarball_kind kind, const struct tarball_sink *sink,
                  GError **error);
