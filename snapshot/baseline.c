/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/baseline.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "snapshot/cluster.h"
#include "snapshot/digest-chain.h"
#include "snapshot/digests.h"

struct baseline {
    struct digest_chain *chain; /* NULL: zeros everywhere */
    unsigned newer;
    struct chain_record next;
    bool has_next;
};

/* --- fetching -------------------------------------------------------------------------------- */

struct spool {
    int fd;
    const char *path;
    uint64_t bytes, limit; /* the other side's word is not taken for how much there is */
};

static bool write_spool(void *context, const void *data, size_t len, GError **error)
{
    struct spool *spool = context;

    if (len > spool->limit - spool->bytes)
        return fail(error, ERROR_INTEGRITY, "%s is longer than digests of its disk can be",
                    spool->path);
    if (!interrupt_check(error) ||
        !fd_write_at(spool->fd, spool->bytes, data, len, spool->path, error))
        return false;
    spool->bytes += len;
    return true;
}

static char *spool_path(const char *dir, const char *target, unsigned layer)
{
    return g_strdup_printf("%s/%s.%u", dir, target, layer);
}

static uint64_t digests_max_bytes(uint64_t virtual_bytes)
{
    return DIGESTS_HEADER_BYTES + cluster_count(virtual_bytes) * DIGESTS_RECORD_BYTES +
           DIGESTS_TRAILER_BYTES;
}

static bool fetch_layer(struct store *store, const struct history_layer *layer, const char *path,
                        GError **error)
{
    AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct spool spool = {fd, path, 0, digests_max_bytes(layer->disk->virtual_bytes)};

    if (fd < 0)
        return fail_errno(error, errno, "cannot create %s", path);
    return store_get(store, layer->vm, layer->point, layer->disk->digests, 0, write_spool, &spool,
                     error);
}

static struct digest_chain *open_chain(const GArray *chain, const char *dir, const char *target,
                                       GError **error)
{
    g_autofree struct digest_layer *layers = g_new(struct digest_layer, chain->len);
    g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);

    for (unsigned i = 0; i < chain->len; i++) {
        const struct history_layer *layer = &g_array_index(chain, struct history_layer, i);

        g_ptr_array_add(paths, spool_path(dir, target, i));
        layers[i] = (struct digest_layer){paths->pdata[i], layer->disk->virtual_bytes};
    }
    return digest_chain_open(layers, chain->len, error);
}

/* To the end: what is damaged must not come to light when the point is half done. */
static bool check_layers(const GArray *chain, const char *dir, const char *target, GError **error)
{
    AUTO(digest_chain) layers = open_chain(chain, dir, target, error);
    struct chain_record record;
    bool found = layers != NULL;

    while (found)
        if (!digest_chain_next(layers, &record, &found, error))
            return false;
    return layers != NULL;
}

bool baseline_fetch(const struct history *history, const GArray *chain, const char *dir,
                    const char *target, GError **error)
{
    if (!dir_make(dir, 0700, error))
        return false;
    for (unsigned i = 0; i < chain->len; i++) {
        g_autofree char *path = spool_path(dir, target, i);

        if (!fetch_layer(history_store(history), &g_array_index(chain, struct history_layer, i),
                         path, error))
            return false;
    }
    return check_layers(chain, dir, target, error);
}

/* --- telling --------------------------------------------------------------------------------- */

struct baseline *baseline_new_empty(void)
{
    return g_new0(struct baseline, 1);
}

struct baseline *baseline_open(const GArray *chain, const char *dir, const char *target,
                               unsigned newer, GError **error)
{
    AUTO(baseline) baseline = baseline_new_empty();

    baseline->newer = newer;
    baseline->chain = open_chain(chain, dir, target, error);
    if (!baseline->chain ||
        !digest_chain_next(baseline->chain, &baseline->next, &baseline->has_next, error))
        return NULL;
    return g_steal_pointer(&baseline);
}

void baseline_free(struct baseline *baseline)
{
    if (!baseline)
        return;
    digest_chain_free(baseline->chain);
    g_free(baseline);
}

bool baseline_digest(struct baseline *baseline, uint64_t cluster, uint8_t digest[DIGEST_SIZE],
                     bool *newer, GError **error)
{
    while (baseline->has_next && baseline->next.cluster < cluster)
        if (!digest_chain_next(baseline->chain, &baseline->next, &baseline->has_next, error))
            return false;
    *newer = baseline->has_next && baseline->next.cluster == cluster &&
             baseline->next.layer < baseline->newer;
    if (!baseline->has_next || baseline->next.cluster > cluster)
        memcpy(digest, cluster_zero_digest(), DIGEST_SIZE);
    else if (baseline->next.hidden)
        memset(digest, 0, DIGEST_SIZE);
    else
        memcpy(digest, baseline->next.digest, DIGEST_SIZE);
    return true;
}
