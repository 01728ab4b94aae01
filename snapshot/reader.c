/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/reader.h"

#include <errno.h>
#include <libnbd.h>

struct reader {
    struct nbd_handle *nbd;
    char *export;
    char *context; /* "qemu:dirty-bitmap:NAME", or NULL: full */
    uint64_t size;
    int failure; /* errno of the first failed read */
};

/* What QEMU cannot read it does not say: it ends the connection, which the next request may be the first to meet. */
static const char *hint(int failure)
{
    bool hung_up = failure == ENOTCONN || failure == EPIPE || failure == ECONNRESET;

    return hung_up || failure == EIO
               ? "; QEMU hangs up where it cannot read the disk itself: bad sectors, or what a "
                 "recovery had lost (DAMAGED POINTS in drctl(1))"
               : "";
}

static bool fail_nbd(struct reader *reader, const char *what, GError **error)
{
    return fail(error, ERROR_HYPERVISOR, "cannot %s disk %s over NBD: %s%s", what, reader->export,
                nbd_get_error(), hint(nbd_get_errno()));
}

static bool connect_export(struct reader *reader, const char *socket, GError **error)
{
    struct nbd_handle *nbd = reader->nbd;

    /* libnbd would clear each buffer before QEMU's data is read into it. */
    nbd_set_pread_initialize(nbd, false);
    if (nbd_set_export_name(nbd, reader->export) < 0 ||
        nbd_add_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0 ||
        (reader->context && nbd_add_meta_context(nbd, reader->context) < 0) ||
        nbd_connect_unix(nbd, socket) < 0)
        return fail_nbd(reader, "open", error);
    /* Without the bitmap an increment would be an empty file that calls itself a point. */
    if (reader->context && nbd_can_meta_context(nbd, reader->context) != 1)
        return fail(error, ERROR_INTEGRITY, "QEMU does not offer %s for disk %s", reader->context,
                    reader->export);
    int64_t size = nbd_get_size(nbd);

    if (size < 0)
        return fail_nbd(reader, "get the size of", error);
    reader->size = (uint64_t)size;
    return true;
}

struct reader *reader_open(const char *socket, const char *export, const char *bitmap,
                           GError **error)
{
    AUTO(reader) reader = g_new0(struct reader, 1);

    reader->export = g_strdup(export);
    reader->context = bitmap ? g_strconcat("qemu:dirty-bitmap:", bitmap, NULL) : NULL;
    reader->nbd = nbd_create();
    if (!reader->nbd) {
        fail(error, ERROR_FAILED, "cannot create an NBD handle: %s", nbd_get_error());
        return NULL;
    }
    if (!connect_export(reader, socket, error))
        return NULL;
    return g_steal_pointer(&reader);
}

void reader_free(struct reader *reader)
{
    if (!reader)
        return;
    nbd_close(reader->nbd);
    g_free(reader->export);
    g_free(reader->context);
    g_free(reader);
}

uint64_t reader_size(const struct reader *reader)
{
    return reader->size;
}

/* Marks of a cluster while the extents of a range come in. */
enum { MARK_DIRTY = 1, MARK_DATA = 2 };

struct marking {
    const struct reader *reader;
    uint64_t start, end; /* bytes asked for */
    uint64_t base_end;   /* as far as base:allocation was told */
    uint64_t dirty_end;  /* as far as the bitmap was told */
    uint8_t *marks;
};

static void mark(struct marking *marking, uint64_t from, uint64_t to, uint8_t bit)
{
    to = MIN(to, marking->end);
    for (uint64_t at = from; at < to; at = (at / CLUSTER_BYTES + 1) * CLUSTER_BYTES)
        marking->marks[(at - marking->start) / CLUSTER_BYTES] |= bit;
}

/* base:allocation: bit 0 hole, bit 1 reads as zero; a dirty bitmap: bit 0 dirty. The two contexts
 * come in callbacks of their own and their extents do not align. */
static int on_extents(void *data, const char *context, uint64_t offset, uint32_t *entries,
                      size_t n_entries, int *error)
{
    struct marking *marking = data;
    bool is_bitmap = marking->reader->context && g_str_equal(context, marking->reader->context);

    for (size_t i = 0; i + 1 < n_entries; i += 2) {
        uint64_t end = offset + entries[i];
        uint32_t flags = entries[i + 1];

        if (is_bitmap && flags & 1)
            mark(marking, offset, end, MARK_DIRTY);
        if (!is_bitmap && !(flags & LIBNBD_STATE_ZERO))
            mark(marking, offset, end, MARK_DATA);
        offset = end;
    }
    *(is_bitmap ? &marking->dirty_end : &marking->base_end) = offset;
    return 0;
}

/* Mark clusters of [at, end) from one block status request; *NEXT is where both contexts are known.
 * A cluster at a seam is marked from both sides, marks only add up. */
static bool mark_from(struct reader *reader, struct marking *marking, uint64_t at, uint64_t *next,
                      GError **error)
{
    nbd_extent_callback callback = {.callback = on_extents, .user_data = marking};

    marking->base_end = marking->dirty_end = at;
    if (nbd_block_status(reader->nbd, marking->end - at, at, callback, 0) < 0)
        return fail_nbd(reader, "map", error);
    *next = reader->context ? MIN(marking->base_end, marking->dirty_end) : marking->base_end;
    if (*next <= at)
        return fail(error, ERROR_HYPERVISOR,
                    "QEMU told no extents of disk %s at offset %" G_GUINT64_FORMAT, reader->export,
                    at);
    return true;
}

bool reader_classify(struct reader *reader, uint64_t first, unsigned count, uint8_t *states,
                     GError **error)
{
    uint64_t start = first * CLUSTER_BYTES;
    struct marking marking = {
        .reader = reader,
        .start = start,
        .end = MIN(start + (uint64_t)count * CLUSTER_BYTES, reader->size),
        .marks = states,
    };

    memset(states, 0, count);
    for (uint64_t at = start; at < marking.end;)
        if (!mark_from(reader, &marking, at, &at, error))
            return false;
    for (unsigned i = 0; i < count; i++) {
        bool data = states[i] & MARK_DATA;

        bool clean = reader->context && !(states[i] & MARK_DIRTY);

        states[i] = (data ? CLUSTER_READ : CLUSTER_EMPTY) | (clean ? CLUSTER_CLEAN : 0);
    }
    return true;
}

struct pending {
    struct reader *reader;
    reader_done_fn *done;
    void *context;
};

static int on_read(void *data, int *error)
{
    struct pending *pending = data;

    if (!*error)
        pending->done(pending->context);
    else if (!pending->reader->failure)
        pending->reader->failure = *error;
    return 1; /* retire the command */
}

bool reader_read(struct reader *reader, uint64_t offset, uint8_t *data, size_t len,
                 reader_done_fn *done, void *context, GError **error)
{
    struct pending *pending = g_new(struct pending, 1);
    nbd_completion_callback callback = {.callback = on_read, .user_data = pending, .free = g_free};

    *pending = (struct pending){reader, done, context};
    if (nbd_aio_pread(reader->nbd, data, len, offset, callback, 0) < 0)
        return fail_nbd(reader, "read", error);
    return true;
}

bool reader_poll(struct reader *reader, int timeout_ms, GError **error)
{
    if (nbd_poll(reader->nbd, timeout_ms) < 0) {
        /* The end of the connection may come before that of the requests. */
        if (!reader->failure && !nbd_aio_is_dead(reader->nbd))
            return fail_nbd(reader, "read", error);
        if (!reader->failure)
            reader->failure = ENOTCONN;
    }
    if (reader->failure)
        return fail(error, ERROR_HYPERVISOR, "cannot read disk %s over NBD: %s%s", reader->export,
                    g_strerror(reader->failure), hint(reader->failure));
    return true;
}
