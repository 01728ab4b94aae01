/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/pass.h"

#include <fcntl.h>
#include <inttypes.h>

#include "snapshot/image.h"
#include "snapshot/pointfile.h"
#include "snapshot/salvage.h"

struct pass {
    char *path;
    int fd;
    uint8_t *stored;
    /* One of these. */
    struct image *image;
    struct salvage *salvage;
    /* Where it stands. */
    uint64_t number;
    bool begun, found, there;
    enum cluster_kind kind;
    uint64_t offset;
    size_t len;
};

struct pass *pass_new(const struct image_layer *layer, bool unreadable, GError **error)
{
    AUTO(pass) pass = g_new0(struct pass, 1);
    uint64_t bytes;

    pass->path = g_strdup(layer->image);
    pass->stored = g_malloc(IMAGE_CLUSTER_MAX);
    pass->fd = point_file_open(layer->image, &bytes, error);
    if (pass->fd < 0)
        return NULL;
    posix_fadvise(pass->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    if (unreadable)
        pass->salvage = salvage_open(layer->image, layer->digests, 0, error);
    else
        pass->image = image_open(layer->image, error);
    return pass->salvage || pass->image ? g_steal_pointer(&pass) : NULL;
}

void pass_free(struct pass *pass)
{
    if (!pass)
        return;
    fd_cleanup(&pass->fd);
    image_free(pass->image);
    salvage_free(pass->salvage);
    g_free(pass->stored);
    g_free(pass->path);
    g_free(pass);
}

static bool step_by_tables(struct pass *pass, GError **error)
{
    struct image_cluster cluster;

    if (!image_next(pass->image, &cluster, &pass->found, error))
        return false;
    if (!pass->found)
        return true;
    pass->number = cluster.number;
    pass->there = true;
    pass->kind = cluster.kind;
    pass->offset = cluster.offset;
    pass->len = cluster.len;
    return true;
}

static void step_by_digests(struct pass *pass)
{
    struct salvaged salvaged;

    pass->found = salvage_survey(pass->salvage, &salvaged, &pass->there);
    if (!pass->found)
        return;
    pass->number = salvaged.cluster;
    pass->kind = salvaged.kind;
    pass->offset = salvaged.place.offset;
    pass->len = salvaged.len;
}

static bool step(struct pass *pass, GError **error)
{
    pass->begun = true;
    if (pass->image)
        return step_by_tables(pass, error);
    step_by_digests(pass);
    return true;
}

/* Of a frame only the sector in which it ends is known. */
static bool measure_frame(const struct pass *pass, struct stored_cluster *cluster, GError **error)
{
    cluster->len = cluster_packed_len(cluster->data, cluster->len);
    return (cluster->len > 0 && cluster->len <= CLUSTER_PACKED_MAX) ||
           fail(error, ERROR_INTEGRITY,
                "%s: cluster %" PRIu64 " at 0x%" PRIx64 " is not a zstd frame of one cluster",
                pass->path, pass->number, pass->offset);
}

bool pass_get(struct pass *pass, uint64_t number, struct stored_cluster *cluster, GError **error)
{
    while (!pass->begun || (pass->found && pass->number < number))
        if (!step(pass, error))
            return false;
    if (!pass->found || pass->number != number || !pass->there)
        return fail(error, ERROR_INTEGRITY, "%s: has no cluster %" PRIu64, pass->path, number);
    *cluster = (struct stored_cluster){pass->kind, pass->stored, pass->len};
    return cluster->kind == CLUSTER_ZERO ||
           (fd_read_at(pass->fd, pass->offset, pass->stored, pass->len, pass->path, error) &&
            (cluster->kind == CLUSTER_PLAIN || measure_frame(pass, cluster, error)));
}
