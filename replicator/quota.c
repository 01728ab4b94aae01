/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "replicator/session.h"

/* What may come before the others are looked at again. */
#define QUOTA_STEP ((uint64_t)64 << 20)
/* A directory that has just changed may change again within the same tick of the file system. */
#define SETTLED_MS 1000

/* What a directory held when it was last changed. */
struct counted {
    struct timespec changed;
    uint64_t bytes;
};

struct quota {
    struct local_store *store;         /* borrowed */
    const struct namespace *namespace; /* likewise, or NULL */
    uint64_t limit;
    GHashTable *counted; /* path -> struct counted */
    char *arriving;      /* name of our own point in incoming/, or NULL */
    uint64_t taken;      /* by it */
    uint64_t room;       /* as we last saw it, less what was taken since */
    uint64_t since;      /* taken since we last looked */
    bool stale;
};

/* Adds up what is in the directory NAME below PARENT. */
typedef bool count_fn(struct quota *self, const char *path, const char *name, uint64_t *bytes,
                      GError **error);

struct quota *quota_new(struct store *local, uint64_t bytes, const struct namespace *namespace)
{
    struct quota *self;

    if (!bytes)
        return NULL;
    self = g_new0(struct quota, 1);
    self->store = (struct local_store *)local;
    self->namespace = namespace;
    self->limit = bytes;
    self->counted = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    self->stale = true;
    return self;
}

void quota_free(struct quota *self)
{
    if (!self)
        return;
    g_hash_table_unref(self->counted);
    g_free(self->arriving);
    g_free(self);
}

/* --- Counting ------------------------------------------------------------------------------- */

/* Its files and its manifest, which the catalog has once more. */
static uint64_t point_cost(const struct manifest *manifest)
{
    g_autofree char *text = manifest_text(manifest);
    uint64_t bytes = (manifest->files->len + 3) * QUOTA_FILE_COST + 2 * strlen(text);

    for (unsigned i = 0; i < manifest->files->len; i++)
        bytes += ((const struct manifest_file *)manifest->files->pdata[i])->bytes;
    return bytes;
}

static bool count_points(struct quota *self, const char *path, const char *name, uint64_t *bytes,
                         GError **error)
{
    g_autoptr(GPtrArray) points = NULL;

    if (!uuid_is_valid(name))
        return true;
    points = store_points(&self->store->store, name, error);
    for (unsigned i = 0; points && i < points->len; i++) {
        const struct manifest *point = points->pdata[i];

        if (namespace_has_site(self->namespace, point->site))
            *bytes += point_cost(point);
    }
    return points != NULL;
}

/* Sizes, not blocks: what has not reached the disk yet counts, and so does a hole. */
static bool count_files(struct quota *self, const char *path, const char *name, uint64_t *bytes,
                        GError **error)
{
    g_auto(GStrv) files = dir_list(path, error);

    for (char **file = files; file && *file; file++) {
        g_autofree char *file_path = g_build_filename(path, *file, NULL);
        struct stat st;

        if (lstat(file_path, &st) == 0)
            *bytes += (uint64_t)st.st_size + QUOTA_FILE_COST;
    }
    return files != NULL;
}

static bool is_settled(const struct timespec *changed)
{
    return time_now_ms() - changed->tv_sec * 1000 > 1000 + SETTLED_MS;
}

/* Add the bytes of one directory, by COUNT if it has changed. */
static bool count_dir(struct quota *self, const char *path, const char *name, count_fn *count,
                      uint64_t *bytes, GError **error)
{
    struct counted *known = g_hash_table_lookup(self->counted, path);
    struct counted now = {0};
    struct stat st;

    /* Whatever is gone takes nothing. */
    if (stat(path, &st) < 0)
        return true;
    if (known && memcmp(&known->changed, &st.st_mtim, sizeof(st.st_mtim)) == 0) {
        *bytes += known->bytes;
        return true;
    }
    if (!count(self, path, name, &now.bytes, error))
        return false;
    now.changed = st.st_mtim;
    if (is_settled(&now.changed))
        g_hash_table_replace(self->counted, g_strdup(path), g_memdup2(&now, sizeof(now)));
    *bytes += now.bytes;
    return true;
}

static bool count_bundles(struct quota *self, const char *path, const char *name, uint64_t *bytes,
                          GError **error)
{
    return !namespace_has_site(self->namespace, name) ||
           count_files(self, path, name, bytes, error);
}

/* Those are of VMs, and not of sites; each point pays for more than its VM's. */
static bool count_locks(struct quota *self, uint64_t *bytes, GError **error)
{
    g_autofree char *locks = g_build_filename(self->store->path, "locks", NULL);

    return self->namespace || count_dir(self, locks, "locks", count_files, bytes, error);
}

/* Add the directories below the store's PARENT. */
static bool count_below(struct quota *self, const char *parent, count_fn *count, uint64_t *bytes,
                        GError **error)
{
    g_autofree char *base = g_build_filename(self->store->path, parent, NULL);
    g_auto(GStrv) names = dir_list(base, error);

    for (char **name = names; name && *name; name++) {
        g_autofree char *path = g_build_filename(base, *name, NULL);

        if (!count_dir(self, path, *name, count, bytes, error))
            return false;
    }
    return names != NULL;
}

/* Does what arrives in DIR count for us? */
static bool is_charged(const struct quota *self, const char *dir)
{
    g_autofree char *namespace = self->namespace ? local_incoming_namespace(dir) : NULL;

    return !self->namespace || g_strcmp0(namespace, self->namespace->text) == 0;
}

/* A file that is arriving grows without changing its directory. Of our own we know more than the disk
 * does, which has not got all of it yet. */
static bool count_arriving(struct quota *self, uint64_t *bytes, GError **error)
{
    g_autofree char *base = g_build_filename(self->store->path, "incoming", NULL);
    g_auto(GStrv) names = dir_list(base, error);

    for (char **name = names; name && *name; name++) {
        g_autofree char *path = g_build_filename(base, *name, NULL);

        if (g_strcmp0(*name, self->arriving) == 0 || !is_charged(self, path))
            continue;
        *bytes += QUOTA_FILE_COST;
        if (!count_files(self, path, *name, bytes, error))
            return false;
    }
    return names != NULL;
}

static bool look(struct quota *self, GError **error)
{
    uint64_t bytes = self->taken;

    /* In this order: a point that is committed meanwhile counts twice, and not never. */
    if (!count_arriving(self, &bytes, error) ||
        !count_below(self, "vms", count_points, &bytes, error) ||
        !count_below(self, "pool", count_bundles, &bytes, error) ||
        !count_locks(self, &bytes, error)) {
        g_prefix_error(error, "cannot see how much of the quota is used: ");
        return false;
    }
    self->room = bytes < self->limit ? self->limit - bytes : 0;
    self->since = 0;
    self->stale = false;
    return true;
}

/* --- Taking --------------------------------------------------------------------------------- */

static bool check_room(const struct quota *self, uint64_t bytes, GError **error)
{
    g_autofree char *limit = bytes_format(self->limit);
    g_autofree char *room = bytes_format(self->room);

    if (bytes <= self->room)
        return true;
    return fail(error, ERROR_NO_SPACE,
                "the quota of %s of %s%s at %s is used up (%s are left): points must be removed "
                "there, or --quota in authorized_keys there be raised",
                limit, self->namespace ? "site " : "this key",
                self->namespace ? self->namespace->text : "", self->store->path, room);
}

bool quota_begin(struct quota *self, const char *vm_uuid, const char *point, GError **error)
{
    if (!self)
        return true;
    self->arriving = g_strconcat(vm_uuid, ".", point, NULL);
    /* Its directory, manifest.json and SHA256SUMS. */
    return quota_take(self, 3 * QUOTA_FILE_COST, error);
}

bool quota_take(struct quota *self, uint64_t bytes, GError **error)
{
    if (!self)
        return true;
    if ((self->stale || bytes > self->room || self->since >= QUOTA_STEP) && !look(self, error))
        return false;
    if (!check_room(self, bytes, error))
        return false;
    self->room -= bytes;
    self->since += bytes;
    self->taken += bytes;
    return true;
}

void quota_end(struct quota *self)
{
    if (!self)
        return;
    g_clear_pointer(&self->arriving, g_free);
    self->taken = 0;
    self->stale = true;
}

bool quota_fits(struct quota *self, uint64_t bytes, GError **error)
{
    if (!self)
        return true;
    if (!look(self, error))
        return false;
    self->stale = true;
    return check_room(self, bytes, error);
}

bool quota_reduce(struct quota *self, struct store_info *info, GError **error)
{
    if (!self)
        return true;
    if (!look(self, error))
        return false;
    info->free_bytes = MIN(info->free_bytes, self->room);
    info->total_bytes = MIN(info->total_bytes, self->limit);
    return true;
}
