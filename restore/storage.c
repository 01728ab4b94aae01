/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/storage.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

struct storage {
    char *dir;
    char *problem; /* with its remedy; or NULL */
};

static void storage_free(void *data)
{
    struct storage *storage = data;

    g_free(storage->dir);
    g_free(storage->problem);
    g_free(storage);
}

GHashTable *storages_new(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, storage_free);
}

/* ---- What may be wrong with it */

static bool is_inside(const char *dir, const char *store)
{
    g_autofree char *path = g_canonicalize_filename(dir, NULL);

    return g_str_has_prefix(path, store) &&
           (path[strlen(store)] == '\0' || path[strlen(store)] == '/');
}

/* NULL: nothing; g_free. */
static char *problem_of(const struct config *config, const char *name, const char *dir)
{
    if (!g_file_test(dir, G_FILE_TEST_IS_DIR))
        return g_strdup_printf("storage: there is no directory %s here" REMEDY
                               "mount or make it, or correct `storage`",
                               dir);
    if (is_inside(dir, config->store))
        return g_strdup_printf("storage: %s lies in the store" REMEDY
                               "name a directory outside of %s",
                               dir, config->store);
    if (access(dir, W_OK | X_OK) < 0)
        return g_strdup_printf("storage: nothing can be written to %s (%s)" REMEDY
                               "make it writable, or let `storage` name another than %s",
                               dir, g_strerror(errno), name);
    return NULL;
}

static char *pool_dir(const struct site *site, const char *uri, const char *pool, GError **error)
{
    struct host *host = site_host(site, uri, error);

    return host ? host_pool_directory(host, pool, error) : NULL;
}

static struct storage *find(const struct site *site, const char *uri, const char *name)
{
    struct storage *storage = g_new0(struct storage, 1);
    g_autoptr(GError) cause = NULL;

    storage->dir =
        *name == '/' ? g_canonicalize_filename(name, NULL) : pool_dir(site, uri, name, &cause);
    storage->problem =
        storage->dir
            ? problem_of(site->config, name, storage->dir)
            : g_strdup_printf("storage: %s" REMEDY
                              "define and start a pool of type dir, fs or netfs there (virsh "
                              "pool-define-as), or correct `storage`",
                              cause->message);
    return storage;
}

/* ---- Choosing */

static void take(const struct storage *storage, const struct site *site, struct recovery *recovery,
                 struct findings *findings)
{
    if (storage->problem)
        block(findings, "%s", storage->problem);
    else if (strcmp(storage->dir, site->config->images) != 0)
        recovery->images = g_strdup(storage->dir);
}

void storage_take(const struct site *site, struct recovery *recovery, const char *name,
                  struct findings *findings)
{
    struct storage *storage = find(site, recovery->uri, name);

    take(storage, site, recovery, findings);
    storage_free(storage);
}

void storage_choose(const struct planner *planner, struct planned *planned)
{
    const struct plan_vm *wishes = planned->wishes;
    const char *name = wishes && wishes->storage ? wishes->storage : planner->recovery->storage;
    g_autofree char *key = NULL;
    struct storage *storage;

    if (!name)
        return;
    key = g_strdup_printf("%s %s", planned->recovery->uri, name);
    storage = g_hash_table_lookup(planner->storages, key);
    if (!storage) {
        storage = find(planner->site, planned->recovery->uri, name);
        g_hash_table_insert(planner->storages, g_steal_pointer(&key), storage);
    }
    take(storage, planner->site, planned->recovery, planned->findings);
}
