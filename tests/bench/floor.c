/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floor of the benchmark: what no program can avoid that reads a disk over NBD, keeps it packed and knows
 * what it holds. Extents, pipelined reads, SHA-256 and zstd of each cluster that is not zero on two threads,
 * O_DIRECT writes, fdatasync. No tables, no names, no commit: not a backup.
 *
 *     bench-floor URI CONTEXT FILE      CONTEXT: base:allocation, or qemu:dirty-bitmap:NAME
 *
 * The next chunk of a disk is read while others are packed; chunks go round between three places:
 *
 *     spare ──main──> NBD (IN_FLIGHT at most) ──main──> full ──worker──> spare
 */
#include <fcntl.h>
#include <glib.h>
#include <libnbd.h>
#include <openssl/sha.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#define CLUSTER 65536u
#define CHUNK (4 * CLUSTER)
#define IN_FLIGHT 16u
#define WORKERS 2u
#define CHUNKS (IN_FLIGHT + 4 * WORKERS)
#define BLOCK 4096u /* of O_DIRECT */
#define WRITE (1u << 20)

struct extent {
    uint64_t offset, bytes;
};

struct chunk {
    uint64_t offset;
    uint32_t bytes;
    uint8_t data[CHUNK];
};

struct floor {
    struct nbd_handle *nbd;
    const char *context;
    GArray *extents; /* of struct extent: what must be read */
    uint64_t mapped; /* up to here the extents are known */
    GAsyncQueue *spare, *full;
    unsigned in_flight;
    int file;
    atomic_uint_fast64_t written;
};

struct pending_read {
    struct floor *floor;
    struct chunk *chunk;
};

static struct chunk the_end; /* behind the last full chunk */

G_GNUC_NORETURN static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench-floor: %s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

/* --- workers ---------------------------------------------------------------------------------- */

struct packer {
    struct floor *floor;
    ZSTD_CCtx *zstd;
    uint8_t *buffer; /* WRITE and one more cluster */
    size_t filled;
};

static void write_out(struct packer *packer, size_t bytes)
{
    off_t at = (off_t)atomic_fetch_add(&packer->floor->written, bytes);

    if (pwrite(packer->floor->file, packer->buffer, bytes, at) != (ssize_t)bytes)
        die("write", g_strerror(errno));
    packer->filled -= MIN(bytes, packer->filled);
    memmove(packer->buffer, packer->buffer + bytes, packer->filled);
}

static void pack_cluster(struct packer *packer, const uint8_t *cluster, size_t bytes)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    size_t packed;

    if (cluster[0] == 0 && memcmp(cluster, cluster + 1, bytes - 1) == 0)
        return;
    SHA256(cluster, bytes, digest);
    packed = ZSTD_compress2(packer->zstd, packer->buffer + packer->filled, CLUSTER, cluster, bytes);
    if (ZSTD_isError(packed)) {
        memcpy(packer->buffer + packer->filled, cluster, bytes);
        packed = bytes;
    }
    packer->filled += packed;
    if (packer->filled >= WRITE)
        write_out(packer, WRITE);
}

static void *worker(void *data)
{
    struct packer packer = {.floor = data, .zstd = ZSTD_createCCtx()};
    struct chunk *chunk;

    packer.buffer = aligned_alloc(BLOCK, WRITE + CLUSTER);
    ZSTD_CCtx_setParameter(packer.zstd, ZSTD_c_compressionLevel, 1);
    while ((chunk = g_async_queue_pop(packer.floor->full)) != &the_end) {
        for (uint32_t at = 0; at < chunk->bytes; at += CLUSTER)
            pack_cluster(&packer, chunk->data + at, MIN(CLUSTER, chunk->bytes - at));
        g_async_queue_push(packer.floor->spare, chunk);
    }
    if (packer.filled > 0)
        write_out(&packer, (packer.filled + BLOCK - 1) / BLOCK * BLOCK);
    free(packer.buffer);
    ZSTD_freeCCtx(packer.zstd);
    return NULL;
}

/* --- NBD -------------------------------------------------------------------------------------- */

static bool must_be_read(const struct floor *floor, uint32_t flags)
{
    return g_str_has_prefix(floor->context, "qemu:") ? flags & 1 : !(flags & LIBNBD_STATE_ZERO);
}

static void add_extent(struct floor *floor, uint64_t offset, uint64_t bytes)
{
    struct extent *last = floor->extents->len > 0 ? &g_array_index(floor->extents, struct extent,
                                                                   floor->extents->len - 1)
                                                  : NULL;
    struct extent extent = {offset, bytes};

    if (last && last->offset + last->bytes == offset)
        last->bytes += bytes;
    else
        g_array_append_val(floor->extents, extent);
}

static int got_extents(void *data, const char *context, uint64_t offset, uint32_t *entries,
                       size_t n_entries, int *error)
{
    struct floor *floor = data;

    if (!g_str_equal(context, floor->context))
        return 0;
    for (size_t i = 0; i + 1 < n_entries; i += 2) {
        if (must_be_read(floor, entries[i + 1]))
            add_extent(floor, offset, entries[i]);
        offset += entries[i];
    }
    floor->mapped = offset;
    return 0;
}

static void map(struct floor *floor)
{
    uint64_t size = (uint64_t)nbd_get_size(floor->nbd);
    nbd_extent_callback callback = {.callback = got_extents, .user_data = floor};

    while (floor->mapped < size)
        if (nbd_block_status(floor->nbd, MIN(size - floor->mapped, 1u << 30), floor->mapped,
                             callback, 0) < 0)
            die("extents", nbd_get_error());
}

static int got_data(void *data, int *error)
{
    struct pending_read *read = data;

    if (*error)
        die("read", g_strerror(*error));
    read->floor->in_flight--;
    g_async_queue_push(read->floor->full, read->chunk);
    return 1; /* the command needs no nbd_aio_command_completed() */
}

/* A chunk to read into: wait for a worker only when no answer can come meanwhile. */
static struct chunk *spare_chunk(struct floor *floor)
{
    struct chunk *chunk = NULL;

    while (floor->in_flight == IN_FLIGHT || !(chunk = g_async_queue_try_pop(floor->spare))) {
        if (floor->in_flight == 0)
            return g_async_queue_pop(floor->spare);
        if (nbd_poll(floor->nbd, -1) < 0)
            die("poll", nbd_get_error());
    }
    return chunk;
}

static void read_extent(struct floor *floor, struct extent extent)
{
    while (extent.bytes > 0) {
        struct pending_read *read = g_new(struct pending_read, 1);
        nbd_completion_callback callback = {
            .callback = got_data, .user_data = read, .free = g_free};
        struct chunk *chunk = spare_chunk(floor);

        *read = (struct pending_read){floor, chunk};
        chunk->offset = extent.offset;
        chunk->bytes = (uint32_t)MIN(extent.bytes, CHUNK - extent.offset % CHUNK);
        floor->in_flight++;
        if (nbd_aio_pread(floor->nbd, chunk->data, chunk->bytes, chunk->offset, callback, 0) < 0)
            die("read", nbd_get_error());
        extent.offset += chunk->bytes;
        extent.bytes -= chunk->bytes;
    }
}

static void read_all(struct floor *floor)
{
    for (unsigned i = 0; i < floor->extents->len; i++)
        read_extent(floor, g_array_index(floor->extents, struct extent, i));
    while (floor->in_flight > 0)
        if (nbd_poll(floor->nbd, -1) < 0)
            die("poll", nbd_get_error());
}

static struct nbd_handle *open_export(const char *uri, const char *context)
{
    struct nbd_handle *nbd = nbd_create();

    if (!nbd || nbd_set_pread_initialize(nbd, false) < 0 ||
        nbd_add_meta_context(nbd, context) < 0 || nbd_connect_uri(nbd, uri) < 0)
        die(uri, nbd_get_error());
    if (nbd_can_meta_context(nbd, context) != 1)
        die(context, "the server does not have it");
    return nbd;
}

int main(int argc, char **argv)
{
    struct floor floor = {.file = -1};
    GThread *threads[WORKERS];

    if (argc != 4)
        die("usage", "bench-floor URI CONTEXT FILE");
    floor.context = argv[2];
    floor.nbd = open_export(argv[1], floor.context);
    floor.file = open(argv[3], O_WRONLY | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0644);
    if (floor.file < 0)
        die(argv[3], g_strerror(errno));
    floor.extents = g_array_new(FALSE, FALSE, sizeof(struct extent));
    floor.spare = g_async_queue_new_full(free);
    floor.full = g_async_queue_new();
    for (unsigned i = 0; i < CHUNKS; i++)
        g_async_queue_push(floor.spare, malloc(sizeof(struct chunk)));
    for (unsigned i = 0; i < WORKERS; i++)
        threads[i] = g_thread_new("pack", worker, &floor);
    map(&floor);
    read_all(&floor);
    for (unsigned i = 0; i < WORKERS; i++)
        g_async_queue_push(floor.full, &the_end);
    for (unsigned i = 0; i < WORKERS; i++)
        g_thread_join(threads[i]);
    if (fdatasync(floor.file) < 0)
        die(argv[3], g_strerror(errno));
    close(floor.file);
    nbd_shutdown(floor.nbd, 0);
    nbd_close(floor.nbd);
    g_async_queue_unref(floor.full);
    g_async_queue_unref(floor.spare);
    g_array_free(floor.extents, TRUE);
    return EXIT_SUCCESS;
}
