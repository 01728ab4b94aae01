/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "snapshot/bigendian.h"
#include "snapshot/cluster.h"
#include "snapshot/digests.h"
#include "snapshot/pointfile.h"

#define VERSION 1
#define MAGIC_BYTES 8
#define BUFFER_RECORDS 1600 /* about 64 KiB */
#define BUFFER_BYTES (BUFFER_RECORDS * DIGESTS_RECORD_BYTES)

static const char header_magic[MAGIC_BYTES + 1] = "drctldig";
static const char trailer_magic[MAGIC_BYTES + 1] = "drctlend";

G_STATIC_ASSERT(DIGESTS_HEADER_BYTES + DIGESTS_TRAILER_BYTES <= BUFFER_BYTES);

struct digest_writer {
    write_at_fn *write;
    void *context;
    uint64_t clusters; /* of the disk */
    uint64_t next;     /* lowest cluster that may come */
    uint64_t count;
    uint64_t written; /* bytes that have left */
    size_t buffered;
    uint8_t buffer[BUFFER_BYTES];
};

static void put_header(uint8_t header[DIGESTS_HEADER_BYTES], uint64_t virtual_bytes)
{
    memcpy(header, header_magic, MAGIC_BYTES);
    be32_put(header + 8, VERSION);
    be32_put(header + 12, CLUSTER_BITS);
    be64_put(header + 16, virtual_bytes);
}

struct digest_writer *digest_writer_new(write_at_fn *write, void *context, uint64_t virtual_bytes)
{
    struct digest_writer *writer = g_new0(struct digest_writer, 1);

    writer->write = write;
    writer->context = context;
    writer->clusters = cluster_count(virtual_bytes);
    put_header(writer->buffer, virtual_bytes);
    writer->buffered = DIGESTS_HEADER_BYTES;
    return writer;
}

void digest_writer_free(struct digest_writer *writer)
{
    g_free(writer);
}

bool digest_writer_flush(struct digest_writer *writer, GError **error)
{
    if (writer->buffered == 0)
        return true;
    if (!writer->write(writer->context, writer->written, writer->buffer, writer->buffered, error))
        return false;
    writer->written += writer->buffered;
    writer->buffered = 0;
    return true;
}

bool digest_writer_add(struct digest_writer *writer, uint64_t cluster,
                       const uint8_t digest[DIGEST_SIZE], GError **error)
{
    uint8_t *record;

    g_assert(cluster >= writer->next && cluster < writer->clusters);
    if (writer->buffered + DIGESTS_RECORD_BYTES > BUFFER_BYTES &&
        !digest_writer_flush(writer, error))
        return false;
    record = writer->buffer + writer->buffered;
    be64_put(record, cluster);
    memcpy(record + 8, digest, DIGEST_SIZE);
    writer->buffered += DIGESTS_RECORD_BYTES;
    writer->next = cluster + 1;
    writer->count++;
    return true;
}

bool digest_writer_finish(struct digest_writer *writer, uint64_t *bytes, GError **error)
{
    uint8_t *trailer;

    if (writer->buffered + DIGESTS_TRAILER_BYTES > BUFFER_BYTES &&
        !digest_writer_flush(writer, error))
        return false;
    trailer = writer->buffer + writer->buffered;
    memcpy(trailer, trailer_magic, MAGIC_BYTES);
    be64_put(trailer + 8, writer->count);
    writer->buffered += DIGESTS_TRAILER_BYTES;
    if (!digest_writer_flush(writer, error))
        return false;
    *bytes = writer->written;
    return true;
}

struct digest_reader {
    int fd;
    char *path;
    uint64_t clusters;
    uint64_t count;
    uint64_t done;     /* records handed out */
    uint64_t next;     /* lowest cluster that may come */
    size_t used, held; /* records of the buffer */
    uint8_t buffer[BUFFER_BYTES];
};

static bool read_header(struct digest_reader *reader, uint64_t *virtual_bytes, GError **error)
{
    uint8_t found[DIGESTS_HEADER_BYTES], expected[DIGESTS_HEADER_BYTES];

    if (!fd_read_at(reader->fd, 0, found, sizeof found, reader->path, error))
        return false;
    put_header(expected, 0);
    if (memcmp(found, expected, 16) != 0)
        return fail(error, ERROR_INTEGRITY,
                    "%s: the header is not that of version %d of a digests file", reader->path,
                    VERSION);
    *virtual_bytes = be64_get(found + 16);
    reader->clusters = cluster_count(*virtual_bytes);
    return true;
}

/* The length of the file and the count in its trailer must tell the same number of records. */
static bool read_trailer(struct digest_reader *reader, uint64_t bytes, GError **error)
{
    uint8_t trailer[DIGESTS_TRAILER_BYTES];
    uint64_t records = bytes - DIGESTS_HEADER_BYTES - DIGESTS_TRAILER_BYTES;

    if (!fd_read_at(reader->fd, bytes - sizeof trailer, trailer, sizeof trailer, reader->path,
                    error))
        return false;
    if (memcmp(trailer, trailer_magic, MAGIC_BYTES) != 0)
        return fail(error, ERROR_INTEGRITY,
                    "%s: the trailer is missing: the file is cut off or damaged", reader->path);
    reader->count = be64_get(trailer + 8);
    if (records % DIGESTS_RECORD_BYTES != 0 || records / DIGESTS_RECORD_BYTES != reader->count)
        return fail(error, ERROR_INTEGRITY,
                    "%s: %" PRIu64 " bytes of records are not the %" PRIu64
                    " records that the trailer tells",
                    reader->path, records, reader->count);
    if (reader->count > reader->clusters)
        return fail(error, ERROR_INTEGRITY,
                    "%s: %" PRIu64 " records for a disk of %" PRIu64 " clusters", reader->path,
                    reader->count, reader->clusters);
    return true;
}

static struct digest_reader *reader_new(const char *path, uint64_t *bytes, GError **error)
{
    AUTO(digest_reader) reader = g_new0(struct digest_reader, 1);

    reader->path = g_strdup(path);
    reader->fd = point_file_open(path, bytes, error);
    return reader->fd < 0 ? NULL : g_steal_pointer(&reader);
}

struct digest_reader *digest_reader_open(const char *path, uint64_t virtual_bytes, GError **error)
{
    uint64_t bytes, found_bytes;
    AUTO(digest_reader) reader = reader_new(path, &bytes, error);

    if (!reader)
        return NULL;
    if (bytes < DIGESTS_HEADER_BYTES + DIGESTS_TRAILER_BYTES) {
        fail(error, ERROR_INTEGRITY, "%s: %" PRIu64 " bytes are too short for a digests file", path,
             bytes);
        return NULL;
    }
    if (!read_header(reader, &found_bytes, error))
        return NULL;
    if (found_bytes != virtual_bytes) {
        fail(error, ERROR_INTEGRITY, "%s: is for a disk of %" PRIu64 " bytes and not of %" PRIu64,
             path, found_bytes, virtual_bytes);
        return NULL;
    }
    return read_trailer(reader, bytes, error) ? g_steal_pointer(&reader) : NULL;
}

struct digest_reader *digest_reader_open_cut(const char *path, GError **error)
{
    uint64_t bytes, virtual_bytes;
    AUTO(digest_reader) reader = reader_new(path, &bytes, error);

    if (!reader || !read_header(reader, &virtual_bytes, error))
        return NULL;
    /* A trailer is less than a record. */
    reader->count = (bytes - DIGESTS_HEADER_BYTES) / DIGESTS_RECORD_BYTES;
    return g_steal_pointer(&reader);
}

void digest_reader_free(struct digest_reader *reader)
{
    if (!reader)
        return;
    fd_cleanup(&reader->fd);
    g_free(reader->path);
    g_free(reader);
}

static bool fill(struct digest_reader *reader, GError **error)
{
    size_t records = (size_t)MIN(reader->count - reader->done, (uint64_t)BUFFER_RECORDS);

    if (!fd_read_at(reader->fd, DIGESTS_HEADER_BYTES + reader->done * DIGESTS_RECORD_BYTES,
                    reader->buffer, records * DIGESTS_RECORD_BYTES, reader->path, error))
        return false;
    reader->used = 0;
    reader->held = records;
    return true;
}

bool digest_reader_next(struct digest_reader *reader, struct digest_record *record, bool *found,
                        GError **error)
{
    const uint8_t *at;
    uint64_t cluster;

    *found = reader->done < reader->count;
    if (!*found)
        return true;
    if (reader->used == reader->held && !fill(reader, error))
        return false;
    at = reader->buffer + reader->used * DIGESTS_RECORD_BYTES;
    cluster = be64_get(at);
    if (cluster >= reader->clusters)
        return fail(error, ERROR_INTEGRITY,
                    "%s: record %" PRIu64 " is of cluster %" PRIu64 " of a disk of %" PRIu64
                    " clusters",
                    reader->path, reader->done, cluster, reader->clusters);
    if (cluster < reader->next)
        return fail(error, ERROR_INTEGRITY,
                    "%s: record %" PRIu64 " is of cluster %" PRIu64 ", which is not in order",
                    reader->path, reader->done, cluster);
    record->cluster = cluster;
    memcpy(record->digest, at + 8, DIGEST_SIZE);
    reader->used++;
    reader->done++;
    reader->next = cluster + 1;
    return true;
}

/* --- pieces ---------------------------------------------------------------------------------- */

struct digest_stream {
    uint64_t virtual_bytes;
    uint64_t next; /* lowest cluster that may come */
    uint64_t count;
    bool begun, bad;
    size_t held; /* of what is not a whole record yet */
    uint8_t part[DIGESTS_RECORD_BYTES];
};

struct digest_stream *digest_stream_new(uint64_t virtual_bytes)
{
    struct digest_stream *stream = g_new0(struct digest_stream, 1);

    stream->virtual_bytes = virtual_bytes;
    return stream;
}

void digest_stream_free(struct digest_stream *stream)
{
    g_free(stream);
}

static void take_header(struct digest_stream *stream)
{
    uint8_t expected[DIGESTS_HEADER_BYTES];

    put_header(expected, stream->virtual_bytes);
    stream->begun = true;
    stream->bad = memcmp(stream->part, expected, sizeof expected) != 0;
}

static void take_record(struct digest_stream *stream,
                        void (*has)(void *context, const struct digest_record *record),
                        void *context)
{
    struct digest_record record = {.cluster = be64_get(stream->part)};

    stream->bad |=
        record.cluster < stream->next || record.cluster >= cluster_count(stream->virtual_bytes);
    if (stream->bad)
        return;
    memcpy(record.digest, stream->part + 8, DIGEST_SIZE);
    stream->next = record.cluster + 1;
    stream->count++;
    has(context, &record);
}

void digest_stream_add(struct digest_stream *stream, const void *data, size_t len,
                       void (*has)(void *context, const struct digest_record *record),
                       void *context)
{
    const uint8_t *from = data;

    while (len > 0 && !stream->bad) {
        size_t whole = stream->begun ? DIGESTS_RECORD_BYTES : DIGESTS_HEADER_BYTES;
        size_t part = MIN(len, whole - stream->held);

        memcpy(stream->part + stream->held, from, part);
        stream->held += part;
        from += part;
        len -= part;
        if (stream->held < whole)
            return;
        stream->held = 0;
        if (stream->begun)
            take_record(stream, has, context);
        else
            take_header(stream);
    }
}

bool digest_stream_is_whole(const struct digest_stream *stream)
{
    return stream->begun && !stream->bad && stream->held == DIGESTS_TRAILER_BYTES &&
           memcmp(stream->part, trailer_magic, MAGIC_BYTES) == 0 &&
           be64_get(stream->part + 8) == stream->count;
}
