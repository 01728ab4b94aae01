/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "metadata/tarball.h"
#include "metadata/bundle.h"
#include "metadata/config.h"
#include "metadata/reconnect.h"

#define MEMBER_MAX_BYTES 1000
#define HEAD_NAME "bundle.json"

struct folder {
    const char *prefix;
    const char *suffix;
    bool (*name_is_valid)(const char *name);
    unsigned format; /* as of which it is known */
};

/* libvirt allows nearly everything in these names, and they never become paths. */
static bool object_name_is_valid(const char *name)
{
    return vm_name_is_valid(name) && *name != '.' && *name != '-';
}

/* HOST/KIND/NAME */
static bool host_object_is_valid(const char *name)
{
    static const char *const kinds[] = {"networks", "nwfilters", "pools", NULL};
    g_auto(GStrv) parts = g_strsplit(name, "/", -1);

    return g_strv_length(parts) == 3 && object_name_is_valid(parts[0]) &&
           g_strv_contains(kinds, parts[1]) && object_name_is_valid(parts[2]);
}

static bool file_name_is_valid(const char *name)
{
    g_autofree char *path = g_strconcat("/", name, NULL);

    return host_path_is_valid(path);
}

static const struct folder folders[] = {
    {"domains/", ".xml", uuid_is_valid, 1},
    {"networks/", ".xml", object_name_is_valid, 1},
    {"pools/", ".xml", object_name_is_valid, 1},
    {"vapps/", ".vapp", name_is_safe, 1},
    {"owners/", ".json", uuid_is_valid, 1},
    {"others/", ".xml", uuid_is_valid, 2},
    {"nwfilters/", ".xml", object_name_is_valid, 2},
    {"secrets/", ".xml", uuid_is_valid, 2},
    {"secret-values/", ".sealed", uuid_is_valid, 2},
    {"plans/", ".plan", name_is_safe, 2},
    {"capabilities/", ".xml", object_name_is_valid, 2},
    {"hosts/", ".xml", host_object_is_valid, 2},
    {"files/", "", file_name_is_valid, 2},
};

/* Members that are in no folder. */
static const char *const singles[] = {BUNDLE_CONF, BUNDLE_FILES, NULL};

struct bundle *bundle_new(const char *site)
{
    struct bundle *bundle = g_new0(struct bundle, 1);

    bundle->id = g_new0(struct bundle_id, 1);
    bundle->id->site = g_strdup(site);
    bundle->members = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    bundle->vms = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return bundle;
}

void bundle_free(struct bundle *bundle)
{
    if (!bundle)
        return;
    bundle_id_free(bundle->id);
    g_hash_table_unref(bundle->members);
    g_hash_table_unref(bundle->vms);
    g_free(bundle);
}

void bundle_add(struct bundle *bundle, const char *path, const char *text)
{
    g_hash_table_replace(bundle->members, g_strdup(path), g_strdup(text));
}

void bundle_add_domain(struct bundle *bundle, const char *vm, const char *uuid, const char *xml)
{
    g_hash_table_replace(bundle->vms, g_strdup(vm), g_strdup(uuid));
    g_hash_table_replace(bundle->members, g_strdup_printf("domains/%s.xml", uuid), g_strdup(xml));
}

void bundle_add_owner(struct bundle *bundle, const struct owner *owner)
{
    g_autofree char *path = g_strdup_printf("owners/%s.json", owner->uuid);
    json_auto_t *json = owner_json(owner);
    g_autofree char *text = json_text(json, 2);

    bundle_add(bundle, path, text);
}

static struct owner *bundle_owner(const struct bundle *bundle, const char *uuid, GError **error)
{
    g_autofree char *path = g_strdup_printf("owners/%s.json", uuid);
    const char *text = bundle_member(bundle, path);
    json_auto_t *json = json_parse(text, strlen(text), path, error);
    AUTO(owner) owner = json ? owner_parse(json, error) : NULL;

    if (owner && strcmp(owner->uuid, uuid) == 0)
        return g_steal_pointer(&owner);
    if (owner)
        fail(error, ERROR_INTEGRITY, "%s is of another VM", path);
    return NULL;
}

GPtrArray *bundle_owners(const struct bundle *bundle, GError **error)
{
    g_autoptr(GPtrArray) owners = owners_new();
    g_auto(GStrv) uuids = bundle_names(bundle, "owners");

    for (char **uuid = uuids; *uuid; uuid++) {
        struct owner *owner = bundle_owner(bundle, *uuid, error);

        if (!owner)
            return NULL;
        g_ptr_array_add(owners, owner);
    }
    return g_steal_pointer(&owners);
}

const char *bundle_member(const struct bundle *bundle, const char *path)
{
    return g_hash_table_lookup(bundle->members, path);
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Borrowed, sorted by bytes. */
static GPtrArray *sorted_keys(GHashTable *table)
{
    GPtrArray *keys = g_ptr_array_new();
    GHashTableIter iter;
    void *key;

    g_hash_table_iter_init(&iter, table);
    while (g_hash_table_iter_next(&iter, &key, NULL))
        g_ptr_array_add(keys, key);

    g_ptr_array_sort(keys, compare_keys);
    return keys;
}

/* "networks/lan.xml" -> "lan", or NULL if PATH is not FOLDER's. */
static char *member_name(const struct folder *folder, const char *path)
{
    const char *name;

    if (!g_str_has_prefix(path, folder->prefix))
        return NULL;
    name = path + strlen(folder->prefix);
    if (!g_str_has_suffix(name, folder->suffix))
        return NULL;
    return g_strndup(name, strlen(name) - strlen(folder->suffix));
}

char **bundle_names(const struct bundle *bundle, const char *folder)
{
    g_autoptr(GPtrArray) paths = sorted_keys(bundle->members);
    g_autofree char *prefix = g_strconcat(folder, "/", NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

    for (unsigned i = 0; i < G_N_ELEMENTS(folders); i++) {
        if (strcmp(folders[i].prefix, prefix) != 0)
            continue;
        for (unsigned j = 0; j < paths->len; j++) {
            char *name = member_name(&folders[i], paths->pdata[j]);

            if (name)
                g_ptr_array_add(names, name);
        }
    }
    g_ptr_array_sort(names, compare_keys);
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_steal(names, NULL);
}

/* As of which format PATH is a member; 0: it is none. */
static unsigned format_of(const char *path)
{
    if (g_strv_contains(singles, path))
        return 2;
    for (unsigned i = 0; i < G_N_ELEMENTS(folders); i++) {
        g_autofree char *name = member_name(&folders[i], path);

        if (name && folders[i].name_is_valid(name))
            return folders[i].format;
    }
    return 0;
}

/* An archive takes no longer names. */
bool bundle_takes(const char *path)
{
    g_autofree char *escaped = g_uri_escape_string(path, "/", FALSE);

    return format_of(path) > 0 && strlen(escaped) <= MEMBER_MAX_BYTES;
}

/* The lowest that knows all members. */
static unsigned bundle_format(const struct bundle *bundle)
{
    unsigned format = 1;
    GHashTableIter iter;
    void *path;

    g_hash_table_iter_init(&iter, bundle->members);
    while (g_hash_table_iter_next(&iter, &path, NULL))
        format = MAX(format, format_of(path));
    return format;
}

static gboolean is_of_format_2(void *path, void *text, void *data)
{
    return format_of(path) == 2;
}

static void content_digest(const struct bundle *bundle, char hex[DIGEST_HEX_SIZE])
{
    g_autoptr(GPtrArray) paths = sorted_keys(bundle->members);
    g_autoptr(GPtrArray) vms = sorted_keys(bundle->vms);
    AUTO(digest) digest = digest_new();
    uint8_t out[DIGEST_SIZE];

    for (unsigned i = 0; i < paths->len; i++) {
        const char *path = paths->pdata[i];
        const char *text = g_hash_table_lookup(bundle->members, path);
        uint64_t len = GUINT64_TO_LE((uint64_t)strlen(text));

        digest_update(digest, path, strlen(path) + 1);
        digest_update(digest, &len, sizeof(len));
        digest_update(digest, text, strlen(text));
    }
    for (unsigned i = 0; i < vms->len; i++) {
        const char *vm = vms->pdata[i];
        const char *uuid = g_hash_table_lookup(bundle->vms, vm);

        digest_update(digest, vm, strlen(vm) + 1);
        digest_update(digest, uuid, strlen(uuid) + 1);
    }
    digest_final(digest, out);
    digest_to_hex(out, hex);
}

void bundle_seal(struct bundle *bundle)
{
    content_digest(bundle, bundle->id->digest);
}

static json_t *vms_json(const struct bundle *bundle)
{
    g_autoptr(GPtrArray) vms = sorted_keys(bundle->vms);
    json_t *json = json_object();

    for (unsigned i = 0; i < vms->len; i++)
        json_set_string(json, vms->pdata[i], g_hash_table_lookup(bundle->vms, vms->pdata[i]));
    return json;
}

/* bundle.json without its check. */
static json_t *head_json(const struct bundle *bundle)
{
    json_t *json = json_object();

    json_set_u64(json, "format", bundle_format(bundle));
    json_set_string(json, "site", bundle->id->site);
    json_set_string(json, "time", bundle->id->time);
    json_set_u64(json, "generation", bundle->id->generation);
    json_set_string(json, "digest", bundle->id->digest);
    json_object_set_new(json, "vms", vms_json(bundle));
    return json;
}

static void head_check(const json_t *head, char hex[DIGEST_HEX_SIZE])
{
    g_autofree char *text = json_text(head, 0);
    uint8_t out[DIGEST_SIZE];

    digest_buffer(text, strlen(text), out);
    digest_to_hex(out, hex);
}

/* What both sides hold true of the members and VMs; the limits are tarball.c's. */
static bool check_content(const struct bundle *bundle, enum error_kind kind, GError **error)
{
    GHashTableIter iter;
    void *key, *value;

    g_hash_table_iter_init(&iter, bundle->members);
    while (g_hash_table_iter_next(&iter, &key, &value))
        if (!format_of(key))
            return fail(error, kind, "'%s' is not the name of a member", (char *)key);
    g_hash_table_iter_init(&iter, bundle->vms);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        g_autofree char *path = g_strdup_printf("domains/%s.xml", (char *)value);

        if (!vm_name_is_valid(key))
            return fail(error, kind, "'%s' is not the name of a VM", (char *)key);
        if (!bundle_member(bundle, path))
            return fail(error, kind, "there is no %s for VM %s", path, (char *)key);
    }
    return true;
}

static bool write_members(const struct bundle *bundle, struct tarball_writer *writer,
                          GError **error)
{
    g_autoptr(GPtrArray) paths = sorted_keys(bundle->members);
    json_auto_t *head = head_json(bundle);
    g_autofree char *text = NULL;
    char check[DIGEST_HEX_SIZE];

    head_check(head, check);
    json_set_string(head, "check", check);
    text = json_text(head, 2);
    if (!tarball_writer_add(writer, HEAD_NAME, text, strlen(text), error))
        return false;
    for (unsigned i = 0; i < paths->len; i++) {
        const char *member = bundle_member(bundle, paths->pdata[i]);
        g_autofree char *path = g_uri_escape_string(paths->pdata[i], "/", FALSE);

        if (!tarball_writer_add(writer, path, member, strlen(member), error))
            return false;
    }
    return true;
}

static bool pack(const struct bundle *bundle, char **data, size_t *len, GError **error)
{
    AUTO(tarball_writer) writer = NULL;
    int64_t time_ms;

    if (!bundle->id->time || !point_id_parse(bundle->id->time, &time_ms) ||
        bundle->id->generation == 0 || bundle->id->generation > INT64_MAX ||
        !site_name_is_valid(bundle->id->site))
        return fail(error, ERROR_FAILED, "it has no site, time or generation");
    if (!check_content(bundle, ERROR_FAILED, error))
        return false;
    writer = tarball_writer_new(time_ms, error);
    return writer && write_members(bundle, writer, error) &&
           tarball_writer_finish(writer, data, len, error);
}

bool bundle_pack(const struct bundle *bundle, char **data, size_t *len, GError **error)
{
    if (pack(bundle, data, len, error))
        return true;
    g_prefix_error(error, "cannot pack the pool bundle of %s: ", bundle->id->site);
    return false;
}

static bool read_vms(struct bundle *bundle, const json_t *head, GError **error)
{
    const char *vm;
    json_t *vms, *uuid;

    if (!json_need_object(head, "vms", &vms, error))
        return false;
    json_object_foreach(vms, vm, uuid)
    {
        if (!json_is_string(uuid) || !uuid_is_valid(json_string_value(uuid)))
            return fail(error, ERROR_INTEGRITY, "VM '%s' has no UUID", vm);
        g_hash_table_insert(bundle->vms, g_strdup(vm), g_strdup(json_string_value(uuid)));
    }
    return true;
}

static bool read_id(struct bundle *bundle, const json_t *head, GError **error)
{
    struct bundle_id *id = bundle->id;
    const char *site, *time, *digest;
    uint64_t format;
    int64_t ms;

    if (!json_need_u64(head, "format", &format, error))
        return false;
    if (format != bundle_format(bundle))
        return fail(error, ERROR_INTEGRITY, "is not of format %u: use a newer drctl",
                    bundle_format(bundle));
    if (!json_need_string(head, "site", &site, error) ||
        !json_need_string(head, "time", &time, error) ||
        !json_need_string(head, "digest", &digest, error) ||
        !json_need_u64(head, "generation", &id->generation, error))
        return false;
    if (!site_name_is_valid(site) || !point_id_parse(time, &ms) || id->generation == 0 ||
        strlen(digest) != DIGEST_HEX_SIZE - 1)
        return fail(error, ERROR_INTEGRITY, "site, time, generation or digest is wrong");
    id->site = g_strdup(site);
    id->time = g_strdup(time);
    g_strlcpy(id->digest, digest, sizeof(id->digest));
    return true;
}

/* The check also tells of keys that we do not know: they are missing in what we would write. */
static bool check_head(const struct bundle *bundle, const json_t *head, GError **error)
{
    json_auto_t *ours = head_json(bundle);
    const char *check;
    char hex[DIGEST_HEX_SIZE];

    if (!json_need_string(head, "check", &check, error))
        return false;
    head_check(ours, hex);
    if (json_object_size(head) != json_object_size(ours) + 1 || strcmp(check, hex) != 0)
        return fail(error, ERROR_INTEGRITY, "does not have its own digest");
    return true;
}

static bool read_head(struct bundle *bundle, GError **error)
{
    const char *text = bundle_member(bundle, HEAD_NAME);
    json_auto_t *head = NULL;

    if (!text)
        return fail(error, ERROR_INTEGRITY, "there is no " HEAD_NAME);
    head = json_parse(text, strlen(text), HEAD_NAME, error);
    if (!head)
        return false;
    if (!read_id(bundle, head, error) || !read_vms(bundle, head, error) ||
        !check_head(bundle, head, error)) {
        g_prefix_error(error, HEAD_NAME ": ");
        return false;
    }
    g_hash_table_remove(bundle->members, HEAD_NAME);
    return true;
}

static bool check_digest(const struct bundle *bundle, GError **error)
{
    char hex[DIGEST_HEX_SIZE];

    content_digest(bundle, hex);
    if (strcmp(hex, bundle->id->digest) != 0)
        return fail(error, ERROR_INTEGRITY,
                    "the members do not have the digest that " HEAD_NAME " says");
    return true;
}

/* Exactly one way to write a name is accepted, so two members cannot become one. */
static bool read_members(struct bundle *bundle, const char *data, size_t len, GError **error)
{
    g_autoptr(GHashTable) raw = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    GHashTableIter iter;
    void *key, *value;

    if (!tarball_read(data, len, raw, error))
        return false;
    g_hash_table_iter_init(&iter, raw);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        g_autofree char *path = g_uri_unescape_string(key, "/");
        g_autofree char *again = path ? g_uri_escape_string(path, "/", FALSE) : NULL;

        if (g_strcmp0(again, key) != 0)
            return fail(error, ERROR_INTEGRITY, "'%s' is not the name of a member", (char *)key);
        g_hash_table_iter_steal(&iter);
        g_free(key);
        g_hash_table_insert(bundle->members, g_steal_pointer(&path), value);
    }
    return true;
}

struct bundle *bundle_unpack(const char *data, size_t len, const char *what, GError **error)
{
    AUTO(bundle) bundle = bundle_new(NULL);

    if (!read_members(bundle, data, len, error) || !read_head(bundle, error) ||
        !check_content(bundle, ERROR_INTEGRITY, error) || !check_digest(bundle, error)) {
        g_prefix_error(error, "%s: ", what);
        return NULL;
    }
    return g_steal_pointer(&bundle);
}

static bool publish(struct bundle *bundle, struct store *store, bool *sent, GError **error)
{
    AUTO(bundle_id) newest = NULL;
    g_autofree char *data = NULL;
    size_t len;

    if (!store_newest_bundle(store, bundle->id->site, &newest, error))
        return false;
    if (newest && strcmp(newest->digest, bundle->id->digest) == 0) {
        *sent = false;
        return true;
    }
    bundle->id->generation = newest ? newest->generation + 1 : 1;
    g_free(bundle->id->time);
    bundle->id->time = point_id_format(time_now_ms());
    if (!bundle_pack(bundle, &data, &len, error) || !store_put_bundle(store, data, len, error))
        return false;
    *sent = true;
    return true;
}

/* When an answer was lost, the newest one tells whether it was a yes. */
bool bundle_publish(struct bundle *bundle, struct store *store, bool *sent, GError **error)
{
    struct reconnect line = {.store = store};
    bool tried = false;
    GError *why = NULL;

    /* To an old one goes what it takes. */
    if (store->plain_pool)
        g_hash_table_foreach_remove(bundle->members, is_of_format_2, NULL);
    bundle_seal(bundle);
    while (!publish(bundle, store, sent, &why)) {
        if (!reconnect_after(&line, why, false, error))
            return false;
        why = NULL;
        tried = true;
    }
    *sent |= tried;
    return true;
}

struct bundle *bundle_fetch_id(struct store *store, const struct bundle_id *id, GError **error)
{
    AUTO(bundle) bundle = NULL;
    g_autofree char *data = NULL, *what = NULL;
    size_t len;

    if (!store_get_bundle(store, id, &data, &len, error))
        return NULL;
    what = g_strdup_printf("%s: pool bundle %s of %s", store->label, id->time, id->site);
    bundle = bundle_unpack(data, len, what, error);
    if (!bundle)
        return NULL;
    if (strcmp(bundle->id->site, id->site) != 0 || bundle->id->generation != id->generation ||
        strcmp(bundle->id->digest, id->digest) != 0) {
        fail(error, ERROR_INTEGRITY, "%s is not the one that the store promised", what);
        return NULL;
    }
    return g_steal_pointer(&bundle);
}

struct bundle *bundle_fetch(struct store *store, const char *site, GError **error)
{
    AUTO(bundle_id) id = NULL;

    if (!store_newest_bundle(store, site, &id, error))
        return NULL;
    if (id)
        return bundle_fetch_id(store, id, error);
    fail(error, ERROR_NOT_FOUND,
         "%s: there is no pool bundle of site %s: it comes with its first replication",
         store->label, site);
    return NULL;
}
