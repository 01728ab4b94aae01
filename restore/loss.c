/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/loss.h"

#include <inttypes.h>
#include <string.h>

/* So many places are told to people. */
#define PLACES_TOLD 4u

static GArray *bounded(const GArray *clusters)
{
    GArray *copy = cluster_ranges_new();

    for (unsigned i = 0; i < clusters->len; i++) {
        const struct cluster_range *range = &g_array_index(clusters, struct cluster_range, i);

        cluster_ranges_add(copy, range->first, range->count);
    }
    return copy;
}

static struct lost_disk *make(const char *target, const GArray *clusters, bool unreadable,
                              const char *why)
{
    struct lost_disk *lost = g_new0(struct lost_disk, 1);

    lost->target = g_strdup(target);
    lost->clusters = bounded(clusters);
    lost->unreadable = unreadable;
    lost->why = g_strdup(why);
    return lost;
}

struct lost_disk *lost_disk_new(const char *target, const struct chain_loss *loss)
{
    return make(target, loss->clusters, loss->unreadable, loss->text);
}

struct lost_disk *lost_disk_copy(const struct lost_disk *lost)
{
    return make(lost->target, lost->clusters, lost->unreadable, lost->why);
}

void lost_disk_free(void *data)
{
    struct lost_disk *lost = data;

    if (!lost)
        return;
    g_free(lost->target);
    g_array_unref(lost->clusters);
    g_free(lost->why);
    g_free(lost);
}

GPtrArray *lost_disks_new(void)
{
    return g_ptr_array_new_with_free_func(lost_disk_free);
}

const struct lost_disk *lost_disk_of(const GPtrArray *lost, const char *target)
{
    for (unsigned i = 0; i < lost->len; i++) {
        const struct lost_disk *disk = lost->pdata[i];

        if (strcmp(disk->target, target) == 0)
            return disk;
    }
    return NULL;
}

uint64_t lost_disk_bytes(const struct lost_disk *lost)
{
    return cluster_ranges_bytes(lost->clusters);
}

/* --- For people ------------------------------------------------------------------------------ */

static void append_places(GString *text, const GArray *clusters)
{
    unsigned told = MIN(clusters->len, PLACES_TOLD);

    for (unsigned i = 0; i < told; i++) {
        const struct cluster_range *range = &g_array_index(clusters, struct cluster_range, i);

        g_string_append_printf(text, "%s0x%" PRIx64 "+0x%" PRIx64, i ? ", " : "",
                               range->first * CLUSTER_RANGES_UNIT,
                               range->count * CLUSTER_RANGES_UNIT);
    }
    if (clusters->len > told)
        g_string_append_printf(text, " and %u more places", clusters->len - told);
}

char *lost_disk_text(const struct lost_disk *lost)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autofree char *bytes = bytes_format(lost_disk_bytes(lost));

    g_string_append_printf(text, "disk %s has lost %s (%" PRIu64 " clusters) at ", lost->target,
                           bytes, cluster_ranges_count(lost->clusters));
    append_places(text, lost->clusters);
    g_string_append_printf(text, ": %s", lost->why);
    return g_strdup(text->str);
}

char *lost_disks_text(const GPtrArray *lost)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (unsigned i = 0; i < lost->len; i++) {
        g_autofree char *one = lost_disk_text(lost->pdata[i]);

        g_string_append_printf(text, "%s%s", i ? "; " : "", one);
    }
    return g_strdup(text->str);
}

/* --- JSON ------------------------------------------------------------------------------------ */

/* [[offset, bytes], ...] */
static json_t *ranges_json(const GArray *clusters)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < clusters->len; i++) {
        const struct cluster_range *range = &g_array_index(clusters, struct cluster_range, i);
        json_t *pair = json_array();

        json_array_append_new(pair, json_integer((json_int_t)(range->first * CLUSTER_RANGES_UNIT)));
        json_array_append_new(pair, json_integer((json_int_t)(range->count * CLUSTER_RANGES_UNIT)));
        json_array_append_new(list, pair);
    }
    return list;
}

json_t *lost_disks_json(const GPtrArray *lost)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < lost->len; i++) {
        const struct lost_disk *disk = lost->pdata[i];
        json_t *entry = json_object();

        json_set_string(entry, "disk", disk->target);
        json_set_u64(entry, "bytes", lost_disk_bytes(disk));
        json_object_set_new(entry, "ranges", ranges_json(disk->clusters));
        json_object_set_new(entry, "unreadable", json_boolean(disk->unreadable));
        json_set_string(entry, "why", disk->why);
        json_array_append_new(list, entry);
    }
    return list;
}

static bool read_ranges(const json_t *list, GArray *clusters, GError **error)
{
    size_t i;
    json_t *pair;

    json_array_foreach((json_t *)list, i, pair)
    {
        json_int_t offset = json_integer_value(json_array_get(pair, 0));
        json_int_t bytes = json_integer_value(json_array_get(pair, 1));

        if (offset < 0 || bytes <= 0 || offset > INT64_MAX / 2 || bytes > INT64_MAX / 2)
            return fail(error, ERROR_INTEGRITY, "a range of what is lost is wrong");
        cluster_ranges_append(clusters, (uint64_t)offset / CLUSTER_RANGES_UNIT,
                              (uint64_t)bytes / CLUSTER_RANGES_UNIT);
    }
    return true;
}

static struct lost_disk *read_disk(const json_t *entry, GError **error)
{
    g_autoptr(GArray) clusters = cluster_ranges_new();
    const char *target, *why;
    json_t *ranges;
    bool unreadable;

    if (!json_need_string(entry, "disk", &target, error) ||
        !json_need_string(entry, "why", &why, error) ||
        !json_need_bool(entry, "unreadable", &unreadable, error) ||
        !json_need_array(entry, "ranges", &ranges, error) || !read_ranges(ranges, clusters, error))
        return NULL;
    return make(target, clusters, unreadable, why);
}

GPtrArray *lost_disks_parse(const json_t *json, GError **error)
{
    g_autoptr(GPtrArray) lost = lost_disks_new();
    size_t i;
    json_t *entry;

    json_array_foreach((json_t *)json, i, entry)
    {
        struct lost_disk *disk = read_disk(entry, error);

        if (!disk)
            return NULL;
        g_ptr_array_add(lost, disk);
    }
    return g_steal_pointer(&lost);
}
