/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "replicator/local.h"

#define BUNDLE_SUFFIX ".tar.zst"
/* Of each site; all are read to find the newest, because the generation is inside. */
#define BUNDLES_KEPT 32u

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

bool local_get_bundle(struct store *store, const struct bundle_id *id, char **data, size_t *len,
                      GError **error)
{
    g_autofree char *path = bundle_path((struct local_store *)store, id->site, id->time);

    return file_read(path, BUNDLE_MAX_BYTES, data, len, error);
}

static void drop_old(struct local_store *self, const GPtrArray *ids)
{
    for (unsigned i = BUNDLES_KEPT - 1; i < ids->len; i++) {
        const struct bundle_id *id = ids->pdata[i];
        g_autofree char *path = bundle_path(self, id->site, id->time);

        unlink(path);
    }
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
    if (!ids)
        return false;
    if (ids->len && ((struct bundle_id *)ids->pdata[0])->generation >= bundle->id->generation)
        return fail(error, ERROR_CONFLICT,
                    "pool bundle %" PRIu64 " of %s is not newer than %" PRIu64
                    ", which is here: somebody else has sent one; run the command again",
                    bundle->id->generation, bundle->id->site,
                    ((struct bundle_id *)ids->pdata[0])->generation);
    path = bundle_path(self, bundle->id->site, bundle->id->time);
    dir = pool_dir(self, bundle->id->site);
    if (g_file_test(path, G_FILE_TEST_EXISTS))
        return fail(error, ERROR_CONFLICT, "pool bundle %s exists", path);
    if (!make_dir(dir, MODE_PRIVATE_DIR, error) ||
        !file_write(path, data, len, MODE_PRIVATE_FILE, error)) {
        explain_no_space(self->path, error);
        return false;
    }
    drop_old(self, ids);
    return true;
}
