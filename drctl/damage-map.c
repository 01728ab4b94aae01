/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/damage-map.h"

#include <inttypes.h>

/* As the top of a chain sees it: a disk of a point. */
struct seen {
    GArray *lost;        /* NULL: nothing */
    GPtrArray *culprits; /* of struct culprit, below and at it; NULL: none */
};

struct damage_map {
    const char *store;   /* its path */
    GHashTable *points;  /* "<uuid>/<point>" -> const struct manifest, as far as known */
    GPtrArray *loaded;   /* of struct manifest: those that are ours */
    GHashTable *damages; /* "<uuid>/<point>" -> struct damage, NULL: none */
    GHashTable *disks;   /* "<uuid>/<point>/<target>" -> struct seen */
    GPtrArray *culprits; /* of struct culprit */
};

static void culprit_free(void *data)
{
    struct culprit *culprit = data;

    g_free(culprit->vm);
    g_free(culprit->uuid);
    g_free(culprit->point);
    g_free(culprit->file);
    g_free(culprit->why);
    g_array_unref(culprit->clusters);
    g_free(culprit);
}

static void seen_free(void *data)
{
    struct seen *seen = data;

    g_clear_pointer(&seen->lost, g_array_unref);
    g_clear_pointer(&seen->culprits, g_ptr_array_unref);
    g_free(seen);
}

static char *key_of(const char *uuid, const char *point)
{
    return g_strconcat(uuid, "/", point, NULL);
}

static void damage_free_any(void *damage)
{
    damage_free(damage);
}

static void manifest_free_any(void *manifest)
{
    manifest_free(manifest);
}

struct damage_map *damage_map_new(struct context *context, const GPtrArray *points)
{
    struct damage_map *map = g_new0(struct damage_map, 1);

    map->store = context->config->store;
    map->points = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    map->loaded = g_ptr_array_new_with_free_func(manifest_free_any);
    map->damages = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, damage_free_any);
    map->disks = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, seen_free);
    map->culprits = g_ptr_array_new_with_free_func(culprit_free);
    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *point = points->pdata[i];

        g_hash_table_insert(map->points, key_of(point->uuid, point->point), points->pdata[i]);
    }
    return map;
}

void damage_map_free(struct damage_map *map)
{
    if (!map)
        return;
    g_hash_table_unref(map->points);
    g_hash_table_unref(map->damages);
    g_hash_table_unref(map->disks);
    g_ptr_array_unref(map->loaded);
    g_ptr_array_unref(map->culprits);
    g_free(map);
}

/* --- points ---------------------------------------------------------------------------------- */

/* NULL when it is not there or cannot be read: `drctl verify` tells about that. */
static const struct manifest *find_point(struct damage_map *map, const char *uuid,
                                         const char *point)
{
    g_autofree char *key = key_of(uuid, point);
    g_autofree char *dir = store_point_dir(map->store, uuid, point);
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    struct manifest *manifest;

    if (g_hash_table_contains(map->points, key))
        return g_hash_table_lookup(map->points, key);
    manifest = manifest_load(path, NULL);
    if (manifest)
        g_ptr_array_add(map->loaded, manifest);
    g_hash_table_insert(map->points, g_steal_pointer(&key), manifest);
    return manifest;
}

/* A note that cannot be read says that all is damaged. */
static struct damage *load(const char *dir, const struct manifest *point)
{
    struct damage *damage = NULL;
    g_autoptr(GError) why = NULL;

    if (damage_load(dir, &damage, &why))
        return damage;
    damage = damage_new();
    for (unsigned i = 0; i < point->disks->len; i++) {
        const struct manifest_disk *disk = point->disks->pdata[i];

        damage_add(damage, disk->file, why->message)->unreadable = true;
    }
    return damage;
}

static const struct damage *damage_of(struct damage_map *map, const struct manifest *point)
{
    char *key = key_of(point->uuid, point->point);
    g_autofree char *dir = store_point_dir(map->store, point->uuid, point->point);
    void *damage;

    if (g_hash_table_lookup_extended(map->damages, key, NULL, &damage)) {
        g_free(key);
        return damage;
    }
    damage = load(dir, point);
    g_hash_table_insert(map->damages, key, damage);
    return damage;
}

/* --- disks ----------------------------------------------------------------------------------- */

static struct culprit *add_culprit(struct damage_map *map, const struct manifest *point,
                                   const struct damaged_file *file)
{
    struct culprit *culprit = g_new0(struct culprit, 1);

    culprit->vm = g_strdup(point->vm);
    culprit->uuid = g_strdup(point->uuid);
    culprit->point = g_strdup(point->point);
    culprit->file = g_strdup(file->name);
    culprit->why = g_strdup(file->why);
    culprit->unreadable = file->unreadable;
    culprit->clusters = g_array_ref(file->clusters);
    g_ptr_array_add(map->culprits, culprit);
    return culprit;
}

/* Does a disk that has LOST that still need what CULPRIT cannot give? */
static bool is_to_blame(const struct culprit *culprit, const GArray *lost)
{
    return culprit->unreadable || (lost && cluster_ranges_common(culprit->clusters, lost) > 0);
}

static void blame(struct seen *seen, struct culprit *culprit)
{
    if (!is_to_blame(culprit, seen->lost))
        return;
    if (!seen->culprits)
        seen->culprits = g_ptr_array_new();
    g_ptr_array_add(seen->culprits, culprit);
}

/* DISK of POINT, which stands on what is BELOW (or NULL). */
static struct seen *see_layer(struct damage_map *map, const struct manifest *point,
                              const struct manifest_disk *disk, const struct seen *below)
{
    const struct damage *damage = damage_of(map, point);
    const struct damaged_file *own = damage ? damage_file(damage, disk->file) : NULL;
    g_autofree char *dir = NULL;
    struct seen *seen = g_new0(struct seen, 1);

    if (!own && !(below && below->culprits))
        return seen;
    dir = store_point_dir(map->store, point->uuid, point->point);
    seen->lost = snapshot_layer_loss(dir, disk, damage, below ? below->lost : NULL);
    for (unsigned i = 0; below && below->culprits && i < below->culprits->len; i++)
        blame(seen, below->culprits->pdata[i]);
    if (own)
        blame(seen, add_culprit(map, point, own));
    return seen;
}

/* Bases are older than what stands on them, so this ends. */
static const struct seen *see(struct damage_map *map, const struct manifest *point,
                              const struct manifest_disk *disk)
{
    char *key = g_strconcat(point->uuid, "/", point->point, "/", disk->target, NULL);
    struct seen *seen = g_hash_table_lookup(map->disks, key);
    const struct manifest *base;
    const struct manifest_disk *under = NULL;

    if (seen) {
        g_free(key);
        return seen;
    }
    base = disk->base ? find_point(map, manifest_base_vm(point, disk), disk->base) : NULL;
    if (base)
        under = manifest_disk(base, manifest_base_target(disk));
    seen = see_layer(map, point, disk, under ? see(map, base, under) : NULL);
    g_hash_table_insert(map->disks, key, seen);
    return seen;
}

/* --- one point ------------------------------------------------------------------------------- */

void lack_clear(struct lack *lack)
{
    g_clear_pointer(&lack->culprits, g_ptr_array_unref);
}

void damage_map_look(struct damage_map *map, const struct manifest *point, struct lack *lack)
{
    *lack = (struct lack){.damaged = damage_of(map, point) != NULL, .culprits = g_ptr_array_new()};
    for (unsigned i = 0; i < point->disks->len; i++) {
        const struct seen *seen = see(map, point, point->disks->pdata[i]);

        lack->lost_bytes += cluster_ranges_bytes(seen->lost);
        for (unsigned k = 0; seen->culprits && k < seen->culprits->len; k++) {
            struct culprit *culprit = seen->culprits->pdata[k];
            bool is_own = g_str_equal(culprit->uuid, point->uuid) &&
                          g_str_equal(culprit->point, point->point);

            if (is_own || g_ptr_array_find(lack->culprits, culprit, NULL))
                continue;
            g_ptr_array_add(lack->culprits, culprit);
            culprit->needed_by += !lack->damaged;
        }
    }
}

static json_t *culprits_json(const struct lack *lack)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < lack->culprits->len; i++) {
        const struct culprit *culprit = lack->culprits->pdata[i];
        json_t *json = json_object();

        json_set_string(json, "vm", culprit->vm);
        json_set_string(json, "uuid", culprit->uuid);
        json_set_string(json, "point", culprit->point);
        json_set_string(json, "file", culprit->file);
        json_set_string(json, "why", culprit->why);
        json_array_append_new(list, json);
    }
    return list;
}

char *lack_remedy(const struct lack *lack, const struct manifest *point)
{
    const struct culprit *first = lack->culprits->len ? lack->culprits->pdata[0] : NULL;
    const char *vm = lack->damaged ? point->vm : first ? first->vm : NULL;

    return vm ? g_strdup_printf("drctl heal %s; from another store: drctl heal %s --from REMOTE",
                                vm, vm)
              : NULL;
}

void lack_to_json(const struct lack *lack, const struct manifest *point, json_t *json)
{
    bool known = lack->culprits != NULL;
    g_autofree char *remedy = known ? lack_remedy(lack, point) : NULL;

    json_object_set_new(json, "base_damage", known ? culprits_json(lack) : json_null());
    json_object_set_new(json, "lost_bytes",
                        known ? json_integer((json_int_t)lack->lost_bytes) : json_null());
    json_set_string(json, "remedy", remedy);
}

/* --- all of them ----------------------------------------------------------------------------- */

void damage_map_note(const struct damage_map *map, struct progress *progress)
{
    for (unsigned i = 0; i < map->culprits->len; i++) {
        const struct culprit *culprit = map->culprits->pdata[i];
        g_autofree char *needed =
            culprit->needed_by
                ? g_strdup_printf(", and %" PRIu64 " of these points stand on it and need what it "
                                  "lacks",
                                  culprit->needed_by)
                : g_strdup("");

        progress_note(progress,
                      "%s in point %s of %s is damaged%s: drctl heal %s; from another store: drctl "
                      "heal %s --from REMOTE",
                      culprit->file, culprit->point, culprit->vm, needed, culprit->vm, culprit->vm);
    }
}
