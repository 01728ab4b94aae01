/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata/pool-object.h"

#include <string.h>

static const char *const kind_names[] = {
    [POOL_CONF] = "conf",       [POOL_SECRET] = "secret", [POOL_NWFILTER] = "nwfilter",
    [POOL_NETWORK] = "network", [POOL_POOL] = "pool",     [POOL_DOMAIN] = "domain",
    [POOL_VAPP] = "vapp",       [POOL_PLAN] = "plan",     [POOL_FILE] = "file",
    [POOL_HOST] = "host",
};

/* Where they are in the bundle. Domains and files have names that are not those of their members. */
static const struct {
    enum pool_kind kind;
    const char *folder, *suffix;
} places[] = {
    {POOL_SECRET, "secrets", ".xml"},    {POOL_NWFILTER, "nwfilters", ".xml"},
    {POOL_NETWORK, "networks", ".xml"},  {POOL_POOL, "pools", ".xml"},
    {POOL_VAPP, "vapps", ".vapp"},       {POOL_PLAN, "plans", ".plan"},
    {POOL_HOST, "capabilities", ".xml"},
};

const char *pool_kind_name(enum pool_kind kind)
{
    return kind_names[kind];
}

static void object_free(void *data)
{
    struct pool_object *object = data;

    g_free(object->name);
    g_free(object->id);
    g_free(object->host);
    g_free(object->uuid);
    g_free(object);
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    bundle_free(pool->bundle);
    g_clear_pointer(&pool->files, g_ptr_array_unref);
    g_clear_pointer(&pool->objects, g_ptr_array_unref);
    g_free(pool);
}

static struct pool_object *add(struct pool *pool, enum pool_kind kind, const char *name,
                               const char *text)
{
    struct pool_object *object = g_new0(struct pool_object, 1);

    object->kind = kind;
    object->name = g_strdup(name);
    object->id = g_strconcat(kind_names[kind], name[0] == '/' ? "" : "/", name, NULL);
    object->text = text;
    g_ptr_array_add(pool->objects, object);
    return object;
}

static void add_members(struct pool *pool)
{
    const char *conf = bundle_member(pool->bundle, BUNDLE_CONF);

    if (conf)
        add(pool, POOL_CONF, BUNDLE_CONF, conf);
    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++) {
        g_auto(GStrv) names = bundle_names(pool->bundle, places[i].folder);

        for (char **name = names; *name; name++) {
            g_autofree char *path =
                g_strdup_printf("%s/%s%s", places[i].folder, *name, places[i].suffix);

            add(pool, places[i].kind, *name, bundle_member(pool->bundle, path));
        }
    }
}

static void add_of_host(struct pool *pool, enum pool_kind kind, const char *host, const char *name,
                        const char *text)
{
    struct pool_object *object = add(pool, kind, name, text);

    object->host = g_strdup(host);
    g_free(object->id);
    object->id = g_strdup_printf("%s/%s/%s", kind_names[kind], host, name);
}

static void add_of_hosts(struct pool *pool)
{
    g_auto(GStrv) names = bundle_names(pool->bundle, "hosts");

    for (char **name = names; *name; name++) {
        g_auto(GStrv) parts = g_strsplit(*name, "/", 3);
        g_autofree char *path = g_strdup_printf("hosts/%s.xml", *name);

        for (unsigned i = 0; i < G_N_ELEMENTS(places); i++)
            if (strcmp(places[i].folder, parts[1]) == 0)
                add_of_host(pool, places[i].kind, parts[0], parts[2],
                            bundle_member(pool->bundle, path));
    }
}

static void add_values(struct pool *pool)
{
    for (unsigned i = 0; i < pool->objects->len; i++) {
        struct pool_object *object = pool->objects->pdata[i];
        g_autofree char *path = g_strdup_printf("secret-values/%s.sealed", object->name);

        if (object->kind == POOL_SECRET)
            object->value = bundle_member(pool->bundle, path);
    }
}

static void add_domain(struct pool *pool, const char *name, const char *uuid, const char *text)
{
    add(pool, POOL_DOMAIN, name, text)->uuid = g_strdup(uuid);
}

static void add_protected(struct pool *pool)
{
    GHashTableIter iter;
    void *vm, *uuid;

    g_hash_table_iter_init(&iter, pool->bundle->vms);
    while (g_hash_table_iter_next(&iter, &vm, &uuid)) {
        g_autofree char *path = g_strdup_printf("domains/%s.xml", (char *)uuid);

        add_domain(pool, vm, uuid, bundle_member(pool->bundle, path));
    }
}

/* Their names are in their definitions only. */
static bool add_others(struct pool *pool, GError **error)
{
    g_auto(GStrv) uuids = bundle_names(pool->bundle, "others");

    for (char **uuid = uuids; *uuid; uuid++) {
        g_autofree char *path = g_strdup_printf("others/%s.xml", *uuid);
        const char *text = bundle_member(pool->bundle, path);
        AUTO(xml) xml = xml_parse(text, path, error);
        g_autofree char *name = xml ? xml_string(xml_root(xml), "name") : NULL;

        if (!xml)
            return false;
        add_domain(pool, name && vm_name_is_valid(name) ? name : *uuid, *uuid, text);
    }
    return true;
}

static bool add_files(struct pool *pool, GError **error)
{
    pool->files = bundle_files(pool->bundle, error);
    for (unsigned i = 0; pool->files && i < pool->files->len; i++) {
        const struct host_file *file = pool->files->pdata[i];

        add(pool, POOL_FILE, file->path, file->data)->file = file;
    }
    return pool->files != NULL;
}

static int compare_objects(const void *a, const void *b)
{
    const struct pool_object *left = *(void *const *)a, *right = *(void *const *)b;

    if (left->kind != right->kind)
        return (int)left->kind - (int)right->kind;
    return strcmp(left->name, right->name) ? strcmp(left->name, right->name)
                                           : g_strcmp0(left->host, right->host);
}

/* The same order in each generation. */
static int compare_all(const void *a, const void *b)
{
    const struct pool_object *left = *(void *const *)a, *right = *(void *const *)b;
    int order = compare_objects(a, b);

    return order ? order : g_strcmp0(left->uuid, right->uuid);
}

struct pool *pool_new(struct bundle *bundle, GError **error)
{
    AUTO(pool) pool = g_new0(struct pool, 1);

    pool->bundle = bundle;
    pool->objects = g_ptr_array_new_with_free_func(object_free);
    add_members(pool);
    add_of_hosts(pool);
    add_values(pool);
    add_protected(pool);
    if (!add_others(pool, error) || !add_files(pool, error))
        return NULL;
    g_ptr_array_sort(pool->objects, compare_all);
    return g_steal_pointer(&pool);
}

/* ---- Finding */

static bool is_meant(const struct pool_object *object, const char *word)
{
    if (object->file)
        return host_path_is_chosen(object->name, (char *[]){(char *)word, NULL}) ||
               (g_str_has_prefix(word, "file/") &&
                host_path_is_chosen(object->name, (char *[]){(char *)word + strlen("file"), NULL}));
    return strcmp(object->id, word) == 0 || strcmp(object->name, word) == 0 ||
           g_strcmp0(object->uuid, word) == 0 ||
           (object->uuid && g_str_has_prefix(word, "domain/") &&
            strcmp(object->uuid, word + strlen("domain/")) == 0) ||
           (object->kind == POOL_CONF && strcmp(word, kind_names[POOL_CONF]) == 0);
}

static bool are_one(const GPtrArray *found)
{
    const struct pool_object *first = found->len ? found->pdata[0] : NULL;

    return found->len <= 1 || first->kind == POOL_FILE;
}

static void fail_several(const GPtrArray *found, const char *word, GError **error)
{
    g_autoptr(GString) ids = g_string_new(NULL);

    for (unsigned i = 0; i < found->len; i++) {
        const struct pool_object *object = found->pdata[i];

        g_string_append_printf(ids, "%s%s", i ? ", " : "", object->id);
        if (object->uuid)
            g_string_append_printf(ids, " (domain/%s)", object->uuid);
    }
    fail(error, ERROR_USAGE, "%s can be several: say which, %s", word, ids->str);
}

GPtrArray *pool_find(const struct pool *pool, const char *word, GError **error)
{
    g_autoptr(GPtrArray) found = g_ptr_array_new();

    for (unsigned i = 0; i < pool->objects->len; i++)
        if (is_meant(pool->objects->pdata[i], word))
            g_ptr_array_add(found, pool->objects->pdata[i]);
    if (!are_one(found)) {
        fail_several(found, word, error);
        return NULL;
    }
    if (found->len > 0)
        return g_steal_pointer(&found);
    fail(error, ERROR_NOT_FOUND,
         "there is no %s in generation %" G_GUINT64_FORMAT
         " of site %s; see: drctl metadata show %s",
         word, pool->bundle->id->generation, pool->bundle->id->site, pool->bundle->id->site);
    return NULL;
}

/* ---- Comparing */

static bool same_file(const struct host_file *a, const struct host_file *b)
{
    return a->mode == b->mode && a->is_directory == b->is_directory &&
           g_strcmp0(a->user, b->user) == 0 && g_strcmp0(a->group, b->group) == 0 &&
           g_strcmp0(a->left_out, b->left_out) == 0 && a->len == b->len &&
           (!a->data || memcmp(a->data, b->data ? b->data : "", a->len) == 0);
}

static bool same_object(const struct pool_object *a, const struct pool_object *b)
{
    return a->file && b->file
               ? same_file(a->file, b->file)
               : g_strcmp0(a->text, b->text) == 0 && g_strcmp0(a->value, b->value) == 0;
}

static void add_change(GArray *changes, char sign, const struct pool_object *object)
{
    struct pool_change change = {sign, object->id};

    g_array_append_val(changes, change);
}

/* Both are in the same order. */
GArray *pool_changes(const struct pool *before, const struct pool *after)
{
    GArray *changes = g_array_new(FALSE, FALSE, sizeof(struct pool_change));
    unsigned i = 0, k = 0, n = before ? before->objects->len : 0;

    while (i < n || k < after->objects->len) {
        int order = i == n ? 1
                    : k == after->objects->len
                        ? -1
                        : compare_objects(&before->objects->pdata[i], &after->objects->pdata[k]);

        if (order < 0)
            add_change(changes, '-', before->objects->pdata[i]);
        else if (order > 0)
            add_change(changes, '+', after->objects->pdata[k]);
        else if (!same_object(before->objects->pdata[i], after->objects->pdata[k]))
            add_change(changes, '~', after->objects->pdata[k]);
        i += order <= 0;
        k += order >= 0;
    }
    return changes;
}
