/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/mover.h"

#include "snapshot/cluster.h"

#define WINDOW_CLUSTERS 16384u /* 1 GiB is classified at a time */
#define POLL_MS 100            /* how often a quiet wait looks for an interrupt */
#define WATCH_MS 250

enum chunk_state { CHUNK_FREE, CHUNK_READING, CHUNK_READ, CHUNK_PACKED };

struct chunk_cluster {
    uint64_t number;
    bool empty;                 /* reads as zeros, and was not read */
    uint8_t there[DIGEST_SIZE]; /* what the baseline has, if there is one */
    struct salvaged earlier;    /* what has arrived of it, if anything has */
    bool has_earlier;
    bool same; /* from here on: once packed */
    bool arrived;
    enum cluster_kind kind;
    size_t packed_len;
    uint8_t digest[DIGEST_SIZE];
};

struct chunk {
    enum chunk_state state;
    unsigned count;
    unsigned reads; /* in flight */
    struct chunk_cluster clusters[MOVER_CHUNK_CLUSTERS];
    uint8_t *plain;  /* CLUSTER_BYTES for each */
    uint8_t *packed; /* CLUSTER_PACKED_MAX for each */
    struct mover *mover;
};

/*
 * The ring: chunks [tail, head) are in use, in disk order. The calling thread fills `head` and
 * drives NBD, workers pack any chunk that is READ, the writer composes `tail` once it is PACKED.
 * LOCK guards everything below it; whoever changes a state broadcasts CHANGED. The first error
 * stops all.
 */
struct mover {
    const struct move *move;
    uint64_t size;       /* bytes of the disk */
    uint64_t n_clusters; /* of the disk */

    /* Only the calling thread. */
    uint64_t window_first;
    unsigned window_count, window_at;
    uint8_t window[WINDOW_CLUSTERS];
    uint64_t read_clusters;

    GMutex lock;
    GCond changed;
    struct chunk chunks[MOVER_CHUNKS];
    uint64_t head, tail; /* counted for ever; index modulo MOVER_CHUNKS */
    uint64_t to_pack;    /* next chunk that no worker has taken */
    bool no_more;        /* the calling thread has filled its last chunk */
    bool stop;
    GError *error;
};

static void mover_stop(struct mover *mover, GError *error)
{
    g_mutex_lock(&mover->lock);
    if (mover->error)
        g_error_free(error);
    else
        mover->error = error;
    mover->stop = true;
    g_cond_broadcast(&mover->changed);
    g_mutex_unlock(&mover->lock);
}

static void chunk_set_state(struct chunk *chunk, enum chunk_state state)
{
    struct mover *mover = chunk->mover;

    g_mutex_lock(&mover->lock);
    chunk->state = state;
    g_cond_broadcast(&mover->changed);
    g_mutex_unlock(&mover->lock);
}

/* --- workers ------------------------------------------------------------------------------- */

static uint8_t *chunk_plain(const struct chunk *chunk, unsigned i)
{
    return chunk->plain + (size_t)i * CLUSTER_BYTES;
}

static uint8_t *chunk_packed(const struct chunk *chunk, unsigned i)
{
    return chunk->packed + (size_t)i * CLUSTER_PACKED_MAX;
}

/* Compressing is what costs: it is left to what must be sent. */
static void pack_cluster(struct chunk *chunk, unsigned i, struct packer *packer)
{
    struct chunk_cluster *cluster = &chunk->clusters[i];
    bool zero = true;

    if (!cluster->empty)
        zero = cluster_digest(chunk_plain(chunk, i), cluster->digest);
    else
        memcpy(cluster->digest, cluster_zero_digest(), DIGEST_SIZE);
    cluster->same =
        chunk->mover->move->baseline && memcmp(cluster->digest, cluster->there, DIGEST_SIZE) == 0;
    cluster->arrived = !zero && cluster->has_earlier &&
                       memcmp(cluster->digest, cluster->earlier.digest, DIGEST_SIZE) == 0;
    if (!cluster->same && !cluster->arrived)
        cluster->kind = zero ? CLUSTER_ZERO
                             : cluster_pack(packer, chunk_plain(chunk, i), chunk_packed(chunk, i),
                                            &cluster->packed_len);
}

static void chunk_pack(struct chunk *chunk, struct packer *packer)
{
    for (unsigned i = 0; i < chunk->count; i++)
        pack_cluster(chunk, i, packer);
}

/* The next chunk to pack in ring order, or NULL at the end. Taken in order, so that the writer
 * never waits for a chunk behind one that is ready. */
static struct chunk *take_read_chunk(struct mover *mover)
{
    struct chunk *chunk = NULL;

    g_mutex_lock(&mover->lock);
    for (;;) {
        if (mover->stop || (mover->no_more && mover->to_pack == mover->head))
            break;
        if (mover->to_pack < mover->head &&
            mover->chunks[mover->to_pack % MOVER_CHUNKS].state == CHUNK_READ) {
            chunk = &mover->chunks[mover->to_pack++ % MOVER_CHUNKS];
            break;
        }
        g_cond_wait(&mover->changed, &mover->lock);
    }
    g_mutex_unlock(&mover->lock);
    return chunk;
}

static void *worker_main(void *data)
{
    struct mover *mover = data;
    AUTO(packer) packer = packer_new(mover->move->compression);
    struct chunk *chunk;

    while ((chunk = take_read_chunk(mover))) {
        chunk_pack(chunk, packer);
        chunk_set_state(chunk, CHUNK_PACKED);
    }
    return NULL;
}

/* --- writer -------------------------------------------------------------------------------- */

static bool compose_cluster(const struct chunk *chunk, unsigned i, struct composer *composer,
                            GError **error)
{
    const struct chunk_cluster *cluster = &chunk->clusters[i];
    const struct salvaged *earlier = &cluster->earlier;

    if (cluster->arrived)
        return composer_borrowed(composer, cluster->number, earlier->kind, &earlier->place,
                                 earlier->len, cluster->digest, error);
    switch (cluster->kind) {
    case CLUSTER_ZERO:
        return composer_zero(composer, cluster->number, 1, error);
    case CLUSTER_PACKED:
        return composer_packed(composer, cluster->number, chunk_packed(chunk, i),
                               cluster->packed_len, cluster->digest, error);
    case CLUSTER_PLAIN:
        return composer_plain(composer, cluster->number, chunk_plain(chunk, i), cluster->digest,
                              error);
    }
    g_assert_not_reached();
}

static bool chunk_compose(const struct chunk *chunk, struct composer *composer, GError **error)
{
    for (unsigned i = 0; i < chunk->count; i++)
        if (!chunk->clusters[i].same && !compose_cluster(chunk, i, composer, error))
            return false;
    return true;
}

static struct chunk *take_packed_chunk(struct mover *mover)
{
    struct chunk *chunk = NULL;

    g_mutex_lock(&mover->lock);
    for (;;) {
        if (mover->stop || (mover->no_more && mover->tail == mover->head))
            break;
        if (mover->tail < mover->head &&
            mover->chunks[mover->tail % MOVER_CHUNKS].state == CHUNK_PACKED) {
            chunk = &mover->chunks[mover->tail % MOVER_CHUNKS];
            break;
        }
        g_cond_wait(&mover->changed, &mover->lock);
    }
    g_mutex_unlock(&mover->lock);
    return chunk;
}

static void *writer_main(void *data)
{
    struct mover *mover = data;
    struct chunk *chunk;

    while ((chunk = take_packed_chunk(mover))) {
        GError *error = NULL;
        uint64_t done = (chunk->clusters[chunk->count - 1].number + 1) * CLUSTER_BYTES;

        if (!chunk_compose(chunk, mover->move->composer, &error)) {
            mover_stop(mover, error);
            break;
        }
        g_mutex_lock(&mover->lock);
        chunk->state = CHUNK_FREE;
        mover->tail++;
        g_cond_broadcast(&mover->changed);
        g_mutex_unlock(&mover->lock);
        progress_bytes(mover->move->progress, mover->move->subject, MIN(done, mover->size),
                       mover->size);
    }
    return NULL;
}

/* --- reading (the calling thread) ------------------------------------------------------------ */

static bool is_zero_digest(const uint8_t digest[DIGEST_SIZE])
{
    return memcmp(digest, cluster_zero_digest(), DIGEST_SIZE) == 0;
}

/* Classify the clusters behind the window; window_count = 0 at the end of the disk. */
static bool move_window(struct mover *mover, GError **error)
{
    mover->window_first += mover->window_count;
    mover->window_at = 0;
    mover->window_count = (unsigned)MIN(mover->n_clusters - mover->window_first, WINDOW_CLUSTERS);
    return mover->window_count == 0 ||
           (interrupt_check(error) && reader_classify(mover->move->reader, mover->window_first,
                                                      mover->window_count, mover->window, error));
}

/* Can CLUSTER, which QEMU calls CLEAN or not, be left out without reading it? Fills in what the
 * baseline has. */
static bool look_at_cluster(struct mover *mover, struct chunk_cluster *cluster, bool clean,
                            bool *skip, GError **error)
{
    struct baseline *baseline = mover->move->baseline;
    bool newer = false;

    if (baseline && !baseline_digest(baseline, cluster->number, cluster->there, &newer, error))
        return false;
    if (mover->move->lost && cluster_ranges_has(mover->move->lost, cluster->number)) {
        /* What no cluster has. */
        memset(cluster->there, 0, DIGEST_SIZE);
        *skip = false;
        return true;
    }
    if (baseline && cluster->empty)
        *skip =
            is_zero_digest(cluster->there); /* whatever a bitmap says: it may have been cut off */
    else
        *skip = clean && !newer;
    return true;
}

/* The next cluster that may matter; *FOUND is false at the end of the disk. */
static bool next_cluster(struct mover *mover, struct chunk_cluster *cluster, bool *found,
                         GError **error)
{
    bool skip = true;
    unsigned state;

    do {
        if (mover->window_at == mover->window_count && !move_window(mover, error))
            return false;
        *found = mover->window_count > 0;
        if (!*found)
            return true;
        state = mover->window[mover->window_at];
        cluster->number = mover->window_first + mover->window_at++;
        cluster->empty = (state & ~CLUSTER_CLEAN) == CLUSTER_EMPTY;
        if (!look_at_cluster(mover, cluster, state & CLUSTER_CLEAN, &skip, error))
            return false;
    } while (skip);
    return true;
}

static bool find_earlier(struct mover *mover, struct chunk_cluster *cluster, GError **error)
{
    struct arrived *arrived = mover->move->arrived;

    cluster->has_earlier = false;
    return !arrived ||
           arrived_find(arrived, cluster->number, &cluster->earlier, &cluster->has_earlier, error);
}

static bool chunk_fill(struct mover *mover, struct chunk *chunk, GError **error)
{
    bool found = true;

    chunk->count = 0;
    while (chunk->count < MOVER_CHUNK_CLUSTERS) {
        struct chunk_cluster *cluster = &chunk->clusters[chunk->count];

        if (!next_cluster(mover, cluster, &found, error))
            return false;
        if (!found)
            break;
        if (!find_earlier(mover, cluster, error))
            return false;
        mover->read_clusters += !cluster->empty;
        chunk->count++;
    }
    return true;
}

static void on_chunk_read(void *context)
{
    struct chunk *chunk = context;

    if (--chunk->reads == 0)
        chunk_set_state(chunk, CHUNK_READ);
}

/* Read clusters I..N-1 of the chunk, which are adjacent on the disk, in one request. */
static bool read_run(struct mover *mover, struct chunk *chunk, unsigned i, unsigned n,
                     GError **error)
{
    uint64_t offset = chunk->clusters[i].number * CLUSTER_BYTES;
    size_t whole = (size_t)(n - i) * CLUSTER_BYTES;
    size_t len = (size_t)MIN((uint64_t)whole, mover->size - offset);
    uint8_t *data = chunk_plain(chunk, i);

    memset(data + len, 0, whole - len);
    chunk->reads++;
    return reader_read(mover->move->reader, offset, data, len, on_chunk_read, chunk, error);
}

static bool chunk_read(struct mover *mover, struct chunk *chunk, GError **error)
{
    chunk->reads = 1; /* ours, until all requests are under way */
    chunk->state = CHUNK_READING;
    for (unsigned i = 0, n; i < chunk->count; i = n) {
        n = i + 1;
        if (chunk->clusters[i].empty)
            continue;
        while (n < chunk->count && !chunk->clusters[n].empty &&
               chunk->clusters[n].number == chunk->clusters[n - 1].number + 1)
            n++;
        if (!read_run(mover, chunk, i, n, error))
            return false;
    }
    on_chunk_read(chunk);
    return true;
}

/* Fill and begin to read one more chunk if the ring has room; *BUSY says that it has not, or that
 * the disk is through. */
static bool feed(struct mover *mover, bool *busy, GError **error)
{
    struct chunk *chunk = &mover->chunks[mover->head % MOVER_CHUNKS];
    bool full, stop;

    g_mutex_lock(&mover->lock);
    full = mover->head - mover->tail == MOVER_CHUNKS;
    stop = mover->stop;
    g_mutex_unlock(&mover->lock);
    *busy = true;
    if (full || stop || mover->no_more)
        return true;
    if (!chunk_fill(mover, chunk, error))
        return false;
    *busy = chunk->count == 0;
    if (chunk->count > 0 && !chunk_read(mover, chunk, error))
        return false;
    g_mutex_lock(&mover->lock);
    if (chunk->count > 0)
        mover->head++;
    else
        mover->no_more = true;
    g_cond_broadcast(&mover->changed);
    g_mutex_unlock(&mover->lock);
    return true;
}

/* Is anything being read? Otherwise wait for the writer, NBD has nothing to tell. */
static bool wait_for_room(struct mover *mover)
{
    bool reading = false;
    gint64 until = g_get_monotonic_time() + POLL_MS * 1000;

    g_mutex_lock(&mover->lock);
    for (uint64_t i = mover->tail; i < mover->head; i++)
        reading |= mover->chunks[i % MOVER_CHUNKS].state == CHUNK_READING;
    if (!reading && !mover->stop && mover->tail < mover->head)
        g_cond_wait_until(&mover->changed, &mover->lock, until);
    g_mutex_unlock(&mover->lock);
    return reading;
}

static bool is_over(struct mover *mover)
{
    bool over;

    g_mutex_lock(&mover->lock);
    over = mover->stop || (mover->no_more && mover->tail == mover->head);
    g_mutex_unlock(&mover->lock);
    return over;
}

static bool watch(const struct mover *mover, int64_t *next, GError **error)
{
    if (!mover->move->watch || time_monotonic_ms() < *next)
        return true;
    *next = time_monotonic_ms() + WATCH_MS;
    return mover->move->watch(mover->move->watch_context, error);
}

static bool read_disk(struct mover *mover, GError **error)
{
    int64_t next_watch = 0;

    while (!is_over(mover)) {
        bool busy = false;

        while (!busy)
            if (!feed(mover, &busy, error))
                return false;
        if (!interrupt_check(error) || !watch(mover, &next_watch, error))
            return false;
        if (wait_for_room(mover) && !reader_poll(mover->move->reader, POLL_MS, error))
            return false;
    }
    return true;
}

/* --- the whole ------------------------------------------------------------------------------- */

static struct mover *mover_new(const struct move *move)
{
    struct mover *mover = g_new0(struct mover, 1);

    mover->move = move;
    mover->size = reader_size(move->reader);
    mover->n_clusters = cluster_count(mover->size);
    g_mutex_init(&mover->lock);
    g_cond_init(&mover->changed);
    for (unsigned i = 0; i < MOVER_CHUNKS; i++) {
        mover->chunks[i].mover = mover;
        mover->chunks[i].plain = g_malloc((size_t)MOVER_CHUNK_CLUSTERS * CLUSTER_BYTES);
        mover->chunks[i].packed = g_malloc((size_t)MOVER_CHUNK_CLUSTERS * CLUSTER_PACKED_MAX);
    }
    return mover;
}

static void mover_free(struct mover *mover)
{
    for (unsigned i = 0; i < MOVER_CHUNKS; i++) {
        g_free(mover->chunks[i].plain);
        g_free(mover->chunks[i].packed);
    }
    g_mutex_clear(&mover->lock);
    g_cond_clear(&mover->changed);
    g_clear_error(&mover->error);
    g_free(mover);
}
DEFINE_CLEANUP(mover)

bool mover_run(const struct move *move, uint64_t *read_bytes, GError **error)
{
    AUTO(mover) mover = mover_new(move);
    unsigned n_workers = CLAMP(g_get_num_processors(), 1, 8);
    GThread *threads[9];
    GError *failure = NULL;

    threads[n_workers] = g_thread_new("compose", writer_main, mover);
    for (unsigned i = 0; i < n_workers; i++)
        threads[i] = g_thread_new("pack", worker_main, mover);
    if (!read_disk(mover, &failure))
        mover_stop(mover, failure);
    for (unsigned i = 0; i <= n_workers; i++)
        g_thread_join(threads[i]);
    if (mover->error) {
        g_propagate_error(error, g_steal_pointer(&mover->error));
        return false;
    }
    *read_bytes = mover->read_clusters * CLUSTER_BYTES;
    return true;
}
