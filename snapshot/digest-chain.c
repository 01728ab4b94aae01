/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "snapshot/cluster.h"
#include "snapshot/digest-chain.h"

struct layer {
    struct digest_reader *reader;
    uint64_t virtual_bytes;
    uint64_t limit; /* bytes of it that the top can see */
    struct digest_record next;
    bool has_next;
};

struct digest_chain {
    unsigned count;
    struct layer layers[]; /* top first */
};

/* Take the next record of LAYER. Those beyond what is seen of it do not matter. */
static bool advance(struct layer *layer, GError **error)
{
    if (!digest_reader_next(layer->reader, &layer->next, &layer->has_next, error))
        return false;
    layer->has_next = layer->has_next && layer->next.cluster < cluster_count(layer->limit);
    return true;
}

struct digest_chain *digest_chain_open(const struct digest_layer *layers, unsigned count,
                                       GError **error)
{
    AUTO(digest_chain) chain = g_malloc0(sizeof *chain + count * sizeof(struct layer));
    uint64_t limit = UINT64_MAX;

    g_assert(count > 0);
    for (unsigned i = 0; i < count; i++) {
        struct layer *layer = &chain->layers[chain->count++];

        limit = MIN(limit, layers[i].virtual_bytes);
        layer->virtual_bytes = layers[i].virtual_bytes;
        layer->limit = limit;
        layer->reader = digest_reader_open(layers[i].path, layers[i].virtual_bytes, error);
        if (!layer->reader || !advance(layer, error))
            return NULL;
    }
    return g_steal_pointer(&chain);
}

void digest_chain_free(struct digest_chain *chain)
{
    if (!chain)
        return;
    for (unsigned i = 0; i < chain->count; i++)
        digest_reader_free(chain->layers[i].reader);
    g_free(chain);
}

uint64_t digest_chain_limit(const struct digest_chain *chain)
{
    return chain->layers[chain->count - 1].limit;
}

/* How much of its next cluster lies behind the limit. */
static uint32_t hidden_bytes(const struct layer *layer)
{
    uint64_t start = layer->next.cluster * CLUSTER_BYTES;

    return (uint32_t)(MIN(layer->virtual_bytes - start, CLUSTER_BYTES) -
                      MIN(layer->limit - start, CLUSTER_BYTES));
}

/* The topmost of the layers whose next cluster is the lowest; chain->count when all are at their
 * end. */
static unsigned lowest(const struct digest_chain *chain)
{
    unsigned best = chain->count;

    for (unsigned i = 0; i < chain->count; i++)
        if (chain->layers[i].has_next &&
            (best == chain->count ||
             chain->layers[i].next.cluster < chain->layers[best].next.cluster))
            best = i;
    return best;
}

bool digest_chain_next(struct digest_chain *chain, struct chain_record *record, bool *found,
                       GError **error)
{
    unsigned best = lowest(chain);
    const struct layer *layer = &chain->layers[best];

    *found = best < chain->count;
    if (!*found)
        return true;
    record->cluster = layer->next.cluster;
    record->layer = best;
    record->hidden = hidden_bytes(layer);
    memcpy(record->digest, layer->next.digest, DIGEST_SIZE);
    for (unsigned i = best; i < chain->count; i++)
        if (chain->layers[i].has_next && chain->layers[i].next.cluster == record->cluster &&
            !advance(&chain->layers[i], error))
            return false;
    return true;
}
