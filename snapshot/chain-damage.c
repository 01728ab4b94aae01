/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What damage of a point means for those above it: a cluster that a later point has afresh is not
 * missed by it, nor by any point above that.
 */
#include <inttypes.h>
#include <string.h>

#include "snapshot/digests.h"
#include "snapshot/cluster.h"
#include "snapshot/snapshot.h"

/* More damaged clusters than that are not looked for one by one: they are missed. */
#define CLUSTERS_MAX (1u << 20)

/* Which disk of its point is IMAGE? */
static const struct manifest_disk *disk_of(const struct manifest *manifest, const char *image)
{
    g_autofree char *name = g_path_get_basename(image);

    for (unsigned i = 0; i < manifest->disks->len; i++) {
        const struct manifest_disk *disk = manifest->disks->pdata[i];

        if (strcmp(disk->file, name) == 0)
            return disk;
    }
    return NULL;
}

/* The digests of IMAGE, NULL where they cannot be had. */
static struct digest_reader *open_digests(const char *image)
{
    g_autofree char *dir = g_path_get_dirname(image);
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    AUTO(manifest) manifest = manifest_load(path, NULL);
    const struct manifest_disk *disk = manifest ? disk_of(manifest, image) : NULL;
    g_autofree char *digests = disk ? g_build_filename(dir, disk->digests, NULL) : NULL;

    return digests ? digest_reader_open(digests, disk->virtual_bytes, NULL) : NULL;
}

static GHashTable *expand(const struct damaged_file *file)
{
    GHashTable *clusters = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);

    for (unsigned i = 0; i < file->clusters->len; i++) {
        const struct cluster_range *range = &g_array_index(file->clusters, struct cluster_range, i);

        for (uint64_t n = range->first; n < range->first + range->count; n++)
            g_hash_table_add(clusters, g_memdup2(&n, sizeof n));
    }
    return clusters;
}

/* Take off CLUSTERS what IMAGE, a layer above, has itself. */
static void hide(GHashTable *clusters, const char *image)
{
    AUTO(digest_reader) digests = open_digests(image);
    struct digest_record record;
    bool found = digests != NULL;

    while (found && digest_reader_next(digests, &record, &found, NULL) && found)
        g_hash_table_remove(clusters, &record.cluster);
}

/* How many damaged clusters of layer NUMBER are seen from the top? */
static uint64_t count_missed(char *const *images, unsigned number, const struct damaged_file *file)
{
    uint64_t all = damaged_file_clusters(file);
    g_autoptr(GHashTable) clusters = NULL;

    if (number == 0 || all > CLUSTERS_MAX)
        return all;
    clusters = expand(file);
    for (unsigned i = 0; i < number && g_hash_table_size(clusters) > 0; i++)
        hide(clusters, images[i]);
    return g_hash_table_size(clusters);
}

static bool check_layer(char *const *images, unsigned number, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(images[number]);
    g_autofree char *point = g_path_get_basename(dir);
    g_autofree char *name = g_path_get_basename(images[number]);
    AUTO(damage) damage = NULL;
    const struct damaged_file *file;
    uint64_t missed;

    if (!damage_load(dir, &damage, error))
        return false;
    file = damage ? damage_file(damage, name) : NULL;
    missed = file ? count_missed(images, number, file) : 0;
    if (missed)
        return fail(error, ERROR_INTEGRITY,
                    "%" PRIu64 " clusters of %s in point %s are damaged (%s); `drctl heal` can get "
                    "them from another store",
                    missed, name, point, file->why);
    return true;
}

bool snapshot_chain_is_whole(char *const *images, GError **error)
{
    for (unsigned i = 0; images[i]; i++)
        if (!check_layer(images, i, error))
            return false;
    return true;
}
