/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "replicator/local.h"

#define BUNDLE_SUFFIX ".tar.zst"
/* Of each site; all are read to find the newest, because the generation is inside. */
#define BUNDLES_KEPT 32u
/* What was replaced more recently is kept, too: who has taken over a site can send any number of
 * bundles, and must not push out the last good one before anybody has noticed. That must have a
 * bound again, because all are read. */
#define BUNDLES_KEPT_MS (INT64_C(30) * 86400 * 1000)
#define BUNDLES_MAX 1024u
#define BUNDLES_MAX_BYTES ((uint64_t)BUNDLES_KEPT * BUNDLE_MAX_BYTES)
/* A site counts by one. Who could jump to the end would be the newest for ever. */
#define GENERATIONS_AHEAD (UINT64_C(1) << 20)

static char *pool_dir(struct local_store *self, const char *site)
{
    return g_build_filename(self->path, "pool", site, NULL);
}

static char *bundle_path(struct local_store *self, const char *site, const char *time)
{
    g_autofree char *name = g_strconcat(time, BUNDLE_SUFFIX, NULL);

    return g_build_filename(self->path, "pool", site, name, NULL);
}

static struct bundle_id *read_id(const char *path, GError **error)
{
    g_autofree char *data = NULL;
    AUTO(bundle) bundle = NULL;
    size_t len;

    if (!file_read(path, BUNDLE_MAX_BYTES, &data, &len, error))
        return NULL;
    bundle = bundle_unpack(data, len, path, error);
    return bundle ? g_steal_pointer(&bundle->id) : NULL;
}

static int newest_first(const void *a, const void *b)
{
    const struct bundle_id *left = *(struct bundle_id *const *)a;
    const struct bundle_id *right = *(struct bundle_id *const *)b;

    if (left->generation != right->generation)
        return left->generation > right->generation ? -1 : 1;
    return strcmp(right->time, left->time);
}

/* All readable bundles of SITE, newest first. A damaged one must not hide the one before it. */
static GPtrArray *list_bundles(struct local_store *self, const char *site, GError **error)
{
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func((GDestroyNotify)bundle_id_free);
    g_autofree char *dir = pool_dir(self, site);
    g_auto(GStrv) names = dir_list(dir, error);

    if (!names)
        return NULL;
    for (char **name = names; *name; name++) {
        g_autofree char *path = g_build_filename(dir, *name, NULL);
        AUTO(bundle_id) id = read_id(path, NULL);
        g_autofree char *own_path = id ? bundle_path(self, id->site, id->time) : NULL;

        if (own_path && strcmp(own_path, path) == 0)
            g_ptr_array_add(ids, g_steal_pointer(&id));
    }
    g_ptr_array_sort(ids, newest_first);
    return g_steal_pointer(&ids);
}

bool local_newest_bundle(struct store *store, const char *site, struct bundle_id **id,
                         GError **error)
{
    g_autoptr(GPtrArray) ids = list_bundles((struct local_store *)store, site, error);

    if (!ids)
        return false;
    *id = ids->len ? g_ptr_array_steal_index(ids, 0) : NULL;
    return true;
}

GPtrArray *local_bundles(struct store *store, const char *site, GError **error)
{
    return list_bundles((struct local_store *)store, site, error);
}

bool local_get_bundle(struct store *store, const struct bundle_id *id, char **data, size_t *len,
                      GError **error)
{
    g_autofree char *path = bundle_path((struct local_store *)store, id->site, id->time);

    return file_read(path, BUNDLE_MAX_BYTES, data, len, error);
}

/* When this store got it: our clock says so, not the bundle. */
static bool stat_bundle(struct local_store *self, const struct bundle_id *id, struct stat *st)
{
    g_autofree char *path = bundle_path(self, id->site, id->time);

    return stat(path, st) == 0;
}

/* A bundle is replaced when the next one arrives. From the oldest on: the next one must be there to be
 * asked. */
static void drop_old(struct local_store *self, const GPtrArray *ids)
{
    int64_t before_s = (time_now_ms() - BUNDLES_KEPT_MS) / 1000;

    for (unsigned i = ids->len; i-- > BUNDLES_KEPT - 1;) {
        const struct bundle_id *id = ids->pdata[i];
        g_autofree char *path = bundle_path(self, id->site, id->time);
        struct stat next;

        if (stat_bundle(self, ids->pdata[i - 1], &next) && next.st_mtime < before_s)
            unlink(path);
    }
}

static bool check_generation(const struct bundle_id *id, const GPtrArray *ids, GError **error)
{
    uint64_t newest = ids->len ? ((struct bundle_id *)ids->pdata[0])->generation : 0;

    if (id->generation <= newest)
        return fail(error, ERROR_CONFLICT,
                    "pool bundle %" PRIu64 " of %s is not newer than %" PRIu64
                    ", which is here: somebody else has sent one; run the command again",
                    id->generation, id->site, newest);
    if (id->generation - newest > GENERATIONS_AHEAD)
        return fail(error, ERROR_INTEGRITY,
                    "pool bundle %" PRIu64 " of %s is too far ahead of %" PRIu64
                    ", the newest one here",
                    id->generation, id->site, newest);
    return true;
}

static bool check_room(struct local_store *self, const struct bundle_id *id, const GPtrArray *ids,
                       size_t len, GError **error)
{
    g_autofree char *dir = pool_dir(self, id->site);
    uint64_t bytes = len;
    struct stat st;

    for (unsigned i = 0; i < ids->len; i++)
        if (stat_bundle(self, ids->pdata[i], &st))
            bytes += (uint64_t)st.st_size;
    if (ids->len < BUNDLES_MAX && bytes <= BUNDLES_MAX_BYTES)
        return true;
    return fail(error, ERROR_NO_SPACE,
                "%s has sent %u pool bundles of late, too many to be changes of its VMs: look what "
                "is going on there, and remove what is not wanted from %s",
                id->site, ids->len, dir);
}

GPtrArray *local_owners(struct store *store, GError **error)
{
    return owner_list(((struct local_store *)store)->path, error);
}

bool local_put_owners(struct store *store, const GPtrArray *owners, GPtrArray *refused,
                      GError **error)
{
    struct local_store *self = (struct local_store *)store;

    if (owners_claim(self->path, owners, refused, error))
        return true;
    explain_no_space(self->path, error);
    return false;
}

/* What is older than what is known here, or too far ahead, is no mistake of the bundle. */
static bool take_owners(struct local_store *self, const struct bundle *bundle, GError **error)
{
    g_autoptr(GPtrArray) owners = bundle_owners(bundle, error);
    g_autoptr(GPtrArray) refused = owner_refusals_new();

    return owners && local_put_owners(&self->store, owners, refused, error);
}

bool local_put_bundle(struct store *store, const char *data, size_t len, GError **error)
{
    struct local_store *self = (struct local_store *)store;
    AUTO(bundle) bundle = bundle_unpack(data, len, "the pool bundle", error);
    g_autoptr(GPtrArray) ids = NULL;
    g_autofree char *path = NULL;
    g_autofree char *dir = NULL;
    int64_t ms;

    if (!bundle)
        return false;
    if (!site_name_is_valid(bundle->id->site) || !point_id_parse(bundle->id->time, &ms))
        return fail(error, ERROR_INTEGRITY, "the pool bundle has a wrong site or time");
    ids = list_bundles(self, bundle->id->site, error);
    if (!ids || !check_generation(bundle->id, ids, error) ||
        !check_room(self, bundle->id, ids, len, error))
        return false;
    path = bundle_path(self, bundle->id->site, bundle->id->time);
    dir = pool_dir(self, bundle->id->site);
    if (g_file_test(path, G_FILE_TEST_EXISTS))
        return fail(error, ERROR_CONFLICT, "pool bundle %s exists", path);
    if (!take_owners(self, bundle, error) || !make_dir(dir, MODE_PRIVATE_DIR, error) ||
        !file_write(path, data, len, MODE_PRIVATE_FILE, error)) {
        explain_no_space(self->path, error);
        return false;
    }
    drop_old(self, ids);
    return true;
}
