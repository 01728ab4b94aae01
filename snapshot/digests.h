/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The digests of one image of a recovery point (drctl-store(5)): for each cluster that the image
 * sets, zero clusters included, the SHA-256 of its plain 64 KiB. So this small file alone tells
 * what the disk's content is at these places. Written by appending, read in one pass;
 * the reader believes nothing: order, range, count and length are checked. Private to snapshot/.
 *
 *     header   "drctldig" | version u32 = 1 | cluster bits u32 = 16 | virtual bytes u64
 *     records  cluster number u64 | SHA-256                            ascending
 *     trailer  "drctlend" | number of records u64                      end of file
 *
 * Integers are big-endian, as in qcow2.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/common.h"

/* Write LEN bytes at OFFSET of some file; CONTEXT says which and where. */
typedef bool write_at_fn(void *context, uint64_t offset, const void *data, size_t len,
                         GError **error);

#define DIGESTS_HEADER_BYTES 24u
#define DIGESTS_RECORD_BYTES (8u + DIGEST_SIZE)
#define DIGESTS_TRAILER_BYTES 16u

struct digest_record {
    uint64_t cluster;
    uint8_t digest[DIGEST_SIZE];
};

struct digest_writer;
struct digest_writer *digest_writer_new(write_at_fn *write, void *context, uint64_t virtual_bytes);
void digest_writer_free(struct digest_writer *writer);
DEFINE_CLEANUP(digest_writer)
/* Clusters ascend and lie inside the disk; anything else is a programming error and aborts. */
bool digest_writer_add(struct digest_writer *writer, uint64_t cluster,
                       const uint8_t digest[DIGEST_SIZE], GError **error);
/* Let what was added leave now. */
bool digest_writer_flush(struct digest_writer *writer, GError **error);
/* Write the trailer; *BYTES is the size of the file. */
bool digest_writer_finish(struct digest_writer *writer, uint64_t *bytes, GError **error);

struct digest_reader;
/* ERROR_INTEGRITY if it is no such file, damaged, or not for a disk of VIRTUAL_BYTES. */
struct digest_reader *digest_reader_open(const char *path, uint64_t virtual_bytes, GError **error);
/* One that was cut off anywhere, for a disk of any size: as many records as there are. */
struct digest_reader *digest_reader_open_cut(const char *path, GError **error);
void digest_reader_free(struct digest_reader *reader);
DEFINE_CLEANUP(digest_reader)
/* The next record; *FOUND is false behind the last one. */
bool digest_reader_next(struct digest_reader *reader, struct digest_record *record, bool *found,
                        GError **error);

/* Digests that arrive in pieces, and are not kept. */
struct digest_stream;
/* For a disk of VIRTUAL_BYTES. */
struct digest_stream *digest_stream_new(uint64_t virtual_bytes);
void digest_stream_free(struct digest_stream *stream);
DEFINE_CLEANUP(digest_stream)
/* The next piece; HAS is called for each record. What does not belong there is found at the end. */
void digest_stream_add(struct digest_stream *stream, const void *data, size_t len,
                       void (*has)(void *context, const struct digest_record *record),
                       void *context);
/* Was it all of a file of digests, as digest_reader_open() would have it, in order? */
bool digest_stream_is_whole(const struct digest_stream *stream);
