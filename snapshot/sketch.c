/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "snapshot/digest-chain.h"
#include "snapshot/sketch.h"

/* ---- of a disk in a store ---- */

bool snapshot_sketch(const struct image_layer *layers, unsigned count, struct sketch *sketch,
                     GError **error)
{
    g_autofree struct digest_layer *digests = g_new(struct digest_layer, count);
    struct chain_record record;
    bool found = true;

    for (unsigned i = 0; i < count; i++)
        digests[i] = (struct digest_layer){layers[i].digests, layers[i].virtual_bytes};
    AUTO(digest_chain) chain = digest_chain_open(digests, count, error);

    if (!chain)
        return false;
    while (found) {
        if (!digest_chain_next(chain, &record, &found, error))
            return false;
        if (!found || !sketch_takes(sketch->level, record.cluster))
            continue;
        sketch_forget(sketch, record.cluster);
        if (record.hidden == 0 && memcmp(record.digest, cluster_zero_digest(), DIGEST_SIZE) != 0)
            sketch_add(sketch, record.cluster, record.digest);
    }
    sketch_finish(sketch);
    return true;
}

/* ---- of a disk that is being read ---- */

#define WINDOW_CLUSTERS 8192 /* 512 MiB of the disk */
#define READS_IN_FLIGHT 32
#define POLL_MS 1000

/* Clusters that may be in the sample: at LEVEL, and not known to be zero. */
struct candidates {
    unsigned level;
    unsigned count;
    uint64_t clusters[SKETCH_SAMPLES];
};

static void raise_level(struct candidates *candidates)
{
    unsigned kept = 0;

    candidates->level++;
    for (unsigned i = 0; i < candidates->count; i++)
        if (sketch_takes(candidates->level, candidates->clusters[i]))
            candidates->clusters[kept++] = candidates->clusters[i];
    candidates->count = kept;
}

static void add_candidate(struct candidates *candidates, uint64_t cluster)
{
    while (candidates->count == SKETCH_SAMPLES && sketch_takes(candidates->level, cluster))
        raise_level(candidates);
    if (sketch_takes(candidates->level, cluster))
        candidates->clusters[candidates->count++] = cluster;
}

static bool find_candidates(struct reader *reader, struct candidates *candidates, GError **error)
{
    uint64_t clusters = cluster_count(reader_size(reader));
    g_autofree uint8_t *states = g_malloc(WINDOW_CLUSTERS);

    for (uint64_t first = 0; first < clusters; first += WINDOW_CLUSTERS) {
        unsigned count = (unsigned)MIN(clusters - first, WINDOW_CLUSTERS);

        if (!interrupt_check(error) || !reader_classify(reader, first, count, states, error))
            return false;
        for (unsigned i = 0; i < count; i++)
            if (states[i] == CLUSTER_READ)
                add_candidate(candidates, first + i);
    }
    return true;
}

struct sketching {
    struct reader *reader;
    struct sketch *sketch;
    struct slot {
        struct sketching *sketching;
        uint64_t cluster;
        uint8_t data[CLUSTER_BYTES];
    } slots[READS_IN_FLIGHT];
    struct slot *idle[READS_IN_FLIGHT];
    unsigned n_idle;
};

static struct sketching *sketching_new(struct reader *reader, struct sketch *sketch)
{
    struct sketching *sketching = g_new(struct sketching, 1);

    sketching->reader = reader;
    sketching->sketch = sketch;
    for (unsigned i = 0; i < READS_IN_FLIGHT; i++) {
        sketching->slots[i].sketching = sketching;
        sketching->idle[i] = &sketching->slots[i];
    }
    sketching->n_idle = READS_IN_FLIGHT;
    return sketching;
}

static void take_cluster(void *context)
{
    struct slot *slot = context;
    struct sketching *sketching = slot->sketching;
    uint8_t digest[DIGEST_SIZE];

    if (!bytes_are_zero(slot->data, CLUSTER_BYTES)) {
        digest_buffer(slot->data, CLUSTER_BYTES, digest);
        sketch_add(sketching->sketch, slot->cluster, digest);
    }
    sketching->idle[sketching->n_idle++] = slot;
}

static bool wait_for_idle(struct sketching *sketching, unsigned n, GError **error)
{
    while (sketching->n_idle < n)
        if (!interrupt_check(error) || !reader_poll(sketching->reader, POLL_MS, error))
            return false;
    return true;
}

static bool read_cluster(struct sketching *sketching, uint64_t cluster, GError **error)
{
    uint64_t offset = cluster * CLUSTER_BYTES;
    size_t len = (size_t)MIN(reader_size(sketching->reader) - offset, CLUSTER_BYTES);
    struct slot *slot;

    if (!wait_for_idle(sketching, 1, error))
        return false;
    slot = sketching->idle[--sketching->n_idle];
    slot->cluster = cluster;
    memset(slot->data + len, 0, CLUSTER_BYTES - len);
    return reader_read(sketching->reader, offset, slot->data, len, take_cluster, slot, error);
}

bool sketch_read(struct reader *reader, struct sketch *sketch, GError **error)
{
    g_autofree struct candidates *candidates = g_new0(struct candidates, 1);
    g_autofree struct sketching *sketching = sketching_new(reader, sketch);

    if (!find_candidates(reader, candidates, error))
        return false;
    *sketch = (struct sketch){.level = candidates->level};
    for (unsigned i = 0; i < candidates->count; i++)
        if (!read_cluster(sketching, candidates->clusters[i], error))
            return false;
    if (!wait_for_idle(sketching, READS_IN_FLIGHT, error))
        return false;
    sketch_finish(sketch);
    return true;
}
