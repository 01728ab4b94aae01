/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "replicator/client.h"
#include "replicator/remote.h"
#include "replicator/replicator.h"

#define VERSION_SHOWN 64
#define RULE_SHOWN 400
/* Who is there is never silent for long enough to have to give way. */
#define PING_MS (SERVE_GIVE_WAY_S * 1000 / 3)

struct remote_store {
    struct store store;
    struct client *client;
    struct dialler dialler; /* dial NULL: its link was given, and there is no other */
    int ping_ms;
    char uuid[37]; /* of the store there, once it was asked for; or empty */
};

static struct client *enter(struct store *store)
{
    return client_enter(((struct remote_store *)store)->client);
}

/* {KEY: VALUE}, or OBJECT with it added. */
static json_t *with_string(json_t *object, const char *key, const char *value)
{
    json_t *result = object ? object : json_object();

    json_set_string(result, key, value);
    return result;
}

/* --- The store ------------------------------------------------------------------------------ */

static bool info_parse(const json_t *object, struct store_info *out, GError **error)
{
    const char *uuid, *site, *version;
    uint64_t clock_ms;

    if (!json_need_string(object, "uuid", &uuid, error) ||
        !json_need_string(object, "site", &site, error) ||
        !json_need_string(object, "drctl", &version, error) ||
        !json_need_u64(object, "free_bytes", &out->free_bytes, error) ||
        !json_need_u64(object, "total_bytes", &out->total_bytes, error) ||
        !json_need_u64(object, "clock_ms", &clock_ms, error))
        return false;
    if (!uuid_is_valid(uuid) || !site_name_is_valid(site) || clock_ms > INT64_MAX)
        return fail(error, ERROR_INTEGRITY, "the other side describes itself wrongly");
    g_strlcpy(out->uuid, uuid, sizeof(out->uuid));
    out->site = g_strdup(site);
    out->version = text_harmless(version, VERSION_SHOWN);
    out->clock_ms = (int64_t)clock_ms;
    return true;
}

static bool ask_info(struct client *client, struct store_info *out, GError **error)
{
    json_auto_t *result = NULL;

    return client_ask(client, WIRE_INFO, NULL, NULL, NULL, &result, error) &&
           info_parse(result, out, error);
}

static bool remote_info(struct store *store, struct store_info *out, GError **error)
{
    struct remote_store *self = (struct remote_store *)store;
    AUTO_CLIENT client = enter(store);

    if (!ask_info(client, out, error))
        return false;
    g_strlcpy(self->uuid, out->uuid, sizeof(self->uuid));
    return true;
}

struct points_context {
    const char *vm;
    GPtrArray *points;
};

static bool take_manifest(const struct frame *frame, void *data, GError **error)
{
    struct points_context *context = data;
    AUTO(manifest) manifest = NULL;

    if (frame->type != WIRE_MANIFEST)
        return client_unexpected(frame, error);
    manifest =
        manifest_parse((const char *)frame->payload, frame->len, "a manifest from there", error);
    if (!manifest)
        return false;
    if (context->vm && uuid_is_valid(context->vm) && strcmp(manifest->uuid, context->vm) != 0)
        return fail(error, ERROR_INTEGRITY, "the other side sent a point of VM %s instead of %s",
                    manifest->uuid, context->vm);
    g_ptr_array_add(context->points, g_steal_pointer(&manifest));
    return true;
}

static GPtrArray *remote_points(struct store *store, const char *vm, GError **error)
{
    AUTO_CLIENT client = enter(store);
    g_autoptr(GPtrArray) points = g_ptr_array_new_with_free_func((GDestroyNotify)manifest_free);
    struct points_context context = {.vm = vm, .points = points};
    json_auto_t *result = NULL;
    uint64_t count;

    if (!client_ask(client, WIRE_POINTS, with_string(NULL, "vm", vm), take_manifest, &context,
                    &result, error) ||
        !json_need_u64(result, "count", &count, error))
        return NULL;
    if (count != points->len) {
        fail(error, ERROR_INTEGRITY, "%u of %" PRIu64 " points arrived", points->len, count);
        return NULL;
    }
    return g_steal_pointer(&points);
}

bool remote_take_piece(const struct frame *frame, void *data, GError **error)
{
    static const uint8_t zeros[STORE_WRITE_MAX];
    struct remote_pieces *self = data;
    struct frame_data piece;

    if (frame->type != WIRE_DATA)
        return client_unexpected(frame, error);
    if (!frame_parse_data(frame, &piece, error))
        return false;
    if (piece.file != 0 || piece.offset != self->at || piece.len + piece.zeros == 0)
        return fail(error, ERROR_INTEGRITY, "the other side sent a file out of order");
    self->at += piece.len + piece.zeros;
    return (piece.len == 0 || self->sink(self->context, piece.bytes, piece.len, error)) &&
           (piece.zeros == 0 || self->sink(self->context, zeros, piece.zeros, error));
}

bool remote_all_arrived(const json_t *result, const struct remote_pieces *get, uint64_t offset,
                        const char *what, GError **error)
{
    uint64_t bytes;

    if (!json_need_u64(result, "bytes", &bytes, error))
        return false;
    if (bytes != get->at - offset)
        return fail(error, ERROR_INTEGRITY, "%" PRIu64 " of %" PRIu64 " bytes of %s arrived",
                    get->at - offset, bytes, what);
    return true;
}

static bool remote_get(struct store *store, const char *vm_uuid, const char *point,
                       const char *name, uint64_t offset, store_sink_fn *sink, void *context,
                       GError **error)
{
    AUTO_CLIENT client = enter(store);
    struct remote_pieces get = {.at = offset, .sink = sink, .context = context};
    json_t *object = with_string(with_string(NULL, "vm", vm_uuid), "point", point);
    json_auto_t *result = NULL;

    json_set_string(object, "name", name);
    json_set_u64(object, "offset", offset);
    return client_ask(client, WIRE_GET, object, remote_take_piece, &get, &result, error) &&
           remote_all_arrived(result, &get, offset, name, error);
}

struct prune_context {
    const char *vm_uuid;
    struct prune_result *result;
};

static bool take_decision(const struct frame *frame, void *data, GError **error)
{
    struct prune_context *context = data;
    json_auto_t *json = NULL;
    struct prune_decision *decision;
    const char *vm, *uuid, *point, *rule;
    uint64_t bytes;
    int64_t ms;
    bool keep;

    if (frame->type != WIRE_DECISION)
        return client_unexpected(frame, error);
    json = frame_json(frame, error);
    if (!json || !json_need_string(json, "vm", &vm, error) ||
        !json_need_string(json, "uuid", &uuid, error) ||
        !json_need_string(json, "point", &point, error) ||
        !json_need_bool(json, "keep", &keep, error) ||
        !json_need_string(json, "rule", &rule, error) ||
        !json_need_u64(json, "bytes", &bytes, error))
        return false;
    if (!vm_name_is_valid(vm) || strcmp(uuid, context->vm_uuid) != 0 || !point_id_parse(point, &ms))
        return fail(error, ERROR_INTEGRITY, "the other side decided about something else");
    decision = prune_result_add(context->result);
    decision->vm = g_strdup(vm);
    decision->uuid = g_strdup(uuid);
    decision->point = g_strdup(point);
    decision->keep = keep;
    decision->rule = text_harmless(rule, RULE_SHOWN);
    decision->bytes = bytes;
    return true;
}

static bool remote_prune(struct store *store, const struct prune_request *request,
                         struct prune_result *result, GError **error)
{
    AUTO_CLIENT client = enter(store);
    struct prune_context context = {.vm_uuid = request->vm_uuid, .result = result};
    g_autofree char *keep =
        retention_is_empty(&request->keep) ? NULL : retention_text(&request->keep);
    json_t *object = with_string(with_string(NULL, "vm", request->vm_uuid), "keep", keep);
    json_auto_t *answer = NULL;
    uint64_t count;

    json_object_set_new(object, "dry_run", json_boolean(request->dry_run));
    if (!client_ask(client, WIRE_PRUNE, object, take_decision, &context, &answer, error) ||
        !json_need_u64(answer, "count", &count, error) ||
        !json_need_u64(answer, "freed_bytes", &result->freed_bytes, error))
        return false;
    if (count != result->decisions->len)
        return fail(error, ERROR_INTEGRITY, "%u of %" PRIu64 " decisions arrived",
                    result->decisions->len, count);
    return true;
}

static char **remote_damaged(struct store *store, const char *vm_uuid, GError **error)
{
    AUTO_CLIENT client = enter(store);
    g_autoptr(GStrvBuilder) points = g_strv_builder_new();
    json_auto_t *result = NULL;
    json_t *list, *entry;
    int64_t ms;
    size_t i;

    if (!client_ask(client, WIRE_DAMAGED, with_string(NULL, "vm", vm_uuid), NULL, NULL, &result,
                    error) ||
        !json_need_array(result, "points", &list, error))
        return NULL;
    json_array_foreach(list, i, entry)
    {
        const char *point = json_string_value(entry);

        if (!point || !point_id_parse(point, &ms)) {
            fail(error, ERROR_INTEGRITY, "the other side names a damaged point wrongly");
            return NULL;
        }
        g_strv_builder_add(points, point);
    }
    return g_strv_builder_end(points);
}

static bool similar_image_check(const struct similar_image *image, const char *before,
                                GError **error)
{
    int64_t ms;

    if (image->overlap.sampled <= SKETCH_SAMPLES && vm_name_is_valid(image->vm) &&
        uuid_is_valid(image->vm_uuid) && point_id_parse(image->point, &ms) &&
        strcmp(image->point, before) < 0 && name_is_safe(image->target) &&
        image->overlap.matched <= image->overlap.sampled)
        return true;
    return fail(error, ERROR_INTEGRITY, "the other side names a similar image wrongly");
}

static bool similar_image_parse(const json_t *json, const char *before, struct similar_image **out,
                                GError **error)
{
    AUTO(similar_image) image = g_new0(struct similar_image, 1);
    const char *vm, *uuid, *point, *target;
    uint64_t matched, sampled;

    if (!json_need_string(json, "vm", &vm, error) ||
        !json_need_string(json, "uuid", &uuid, error) ||
        !json_need_string(json, "point", &point, error) ||
        !json_need_string(json, "target", &target, error) ||
        !json_need_u64(json, "matched", &matched, error) ||
        !json_need_u64(json, "sampled", &sampled, error))
        return false;
    image->vm = g_strdup(vm);
    image->vm_uuid = g_strdup(uuid);
    image->point = g_strdup(point);
    image->target = g_strdup(target);
    image->overlap.matched = (unsigned)MIN(matched, UINT_MAX);
    image->overlap.sampled = (unsigned)MIN(sampled, UINT_MAX);
    if (!similar_image_check(image, before, error))
        return false;
    *out = g_steal_pointer(&image);
    return true;
}

static bool remote_similar(struct store *store, const struct sketch *sketch, const char *before,
                           struct similar_image **image, GError **error)
{
    AUTO_CLIENT client = enter(store);
    json_auto_t *result = NULL;
    const json_t *found;

    if (!client_ask(client, WIRE_SIMILAR, with_string(sketch_json(sketch), "before", before), NULL,
                    NULL, &result, error))
        return false;
    *image = NULL;
    found = json_object_get(result, "image");
    return !found || json_is_null(found) || similar_image_parse(found, before, image, error);
}

static bool bundle_id_parse(const json_t *bundle, const char *site, struct bundle_id **out,
                            GError **error)
{
    AUTO(bundle_id) id = g_new0(struct bundle_id, 1);
    uint8_t digest[DIGEST_SIZE];
    const char *time, *hex;
    int64_t ms;

    if (!json_need_string(bundle, "time", &time, error) ||
        !json_need_u64(bundle, "generation", &id->generation, error) ||
        !json_need_string(bundle, "digest", &hex, error))
        return false;
    if (!point_id_parse(time, &ms) || !digest_from_hex(hex, digest))
        return fail(error, ERROR_INTEGRITY, "the other side names its pool bundle wrongly");
    id->site = g_strdup(site);
    id->time = g_strdup(time);
    g_strlcpy(id->digest, hex, sizeof(id->digest));
    *out = g_steal_pointer(&id);
    return true;
}

static bool remote_newest_bundle(struct store *store, const char *site, struct bundle_id **id,
                                 GError **error)
{
    AUTO_CLIENT client = enter(store);
    json_auto_t *result = NULL;
    json_t *bundle;

    if (!client_ask(client, WIRE_BUNDLE_ID, with_string(NULL, "site", site), NULL, NULL, &result,
                    error))
        return false;
    *id = NULL;
    bundle = json_object_get(result, "bundle");
    return !bundle || json_is_null(bundle) || bundle_id_parse(bundle, site, id, error);
}

static GPtrArray *remote_bundles(struct store *store, const char *site, GError **error)
{
    AUTO_CLIENT client = enter(store);
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func((GDestroyNotify)bundle_id_free);
    json_t *object = with_string(NULL, "site", site);
    json_auto_t *result = NULL;
    json_t *list, *bundle;
    size_t i;

    json_object_set_new(object, "list", json_true());
    if (!client_ask(client, WIRE_BUNDLE_ID, object, NULL, NULL, &result, error) ||
        !json_need_array(result, "bundles", &list, error))
        return NULL;
    json_array_foreach(list, i, bundle)
    {
        struct bundle_id *id;

        if (!bundle_id_parse(bundle, site, &id, error))
            return NULL;
        g_ptr_array_add(ids, id);
    }
    return g_steal_pointer(&ids);
}

static bool take_bytes(const struct frame *frame, void *context, GError **error)
{
    GByteArray *bytes = context;
    struct frame_data data;

    if (frame->type != WIRE_DATA)
        return client_unexpected(frame, error);
    if (!frame_parse_data(frame, &data, error))
        return false;
    if (data.file != 0 || data.offset != bytes->len || data.len == 0 || data.zeros != 0 ||
        data.len > BUNDLE_MAX_BYTES - bytes->len)
        return fail(error, ERROR_INTEGRITY, "the other side sent a pool bundle out of order");
    g_byte_array_append(bytes, data.bytes, (unsigned)data.len);
    return true;
}

static bool remote_get_bundle(struct store *store, const struct bundle_id *id, char **data,
                              size_t *len, GError **error)
{
    AUTO_CLIENT client = enter(store);
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    json_t *object = with_string(with_string(NULL, "site", id->site), "time", id->time);
    json_auto_t *result = NULL;
    uint64_t total;

    if (!client_ask(client, WIRE_BUNDLE_GET, object, take_bytes, bytes, &result, error) ||
        !json_need_u64(result, "bytes", &total, error))
        return false;
    if (total != bytes->len)
        return fail(error, ERROR_INTEGRITY, "%u of %" PRIu64 " bytes of a pool bundle arrived",
                    bytes->len, total);
    *len = bytes->len;
    *data = (char *)g_byte_array_free(g_steal_pointer(&bytes), FALSE);
    return true;
}

static bool remote_put_bundle(struct store *store, const char *data, size_t len, GError **error)
{
    AUTO_CLIENT client = enter(store);
    uint32_t request = ++client->last_request;
    json_auto_t *result = NULL;
    json_t *object = json_object();

    json_set_u64(object, "bytes", len);
    if (!client_send_json(client, WIRE_BUNDLE_PUT, request, object, error))
        return false;
    for (size_t done = 0; done < len;) {
        struct frame_data piece = {.offset = done,
                                   .bytes = (const uint8_t *)data + done,
                                   .len = MIN(len - done, STORE_WRITE_MAX)};

        if (!client_send_data(client, request, &piece, error))
            return false;
        done += piece.len;
    }
    return client_answer(client, request, LINK_FOREVER, NULL, NULL, &result, error);
}

static bool take_owner(const struct frame *frame, void *context, GError **error)
{
    GPtrArray *owners = context;
    json_auto_t *json = NULL;
    struct owner *owner;

    if (frame->type != WIRE_OWNER)
        return client_unexpected(frame, error);
    json = frame_json(frame, error);
    owner = json ? owner_parse(json, error) : NULL;
    if (!owner)
        return false;
    g_ptr_array_add(owners, owner);
    return owners->len <= OWNERS_MAX ||
           fail(error, ERROR_INTEGRITY, "the other side sends more than %u records of owners",
                OWNERS_MAX);
}

/* A drctl that does not know of owners has no records. */
static GPtrArray *remote_owners(struct store *store, GError **error)
{
    AUTO_CLIENT client = enter(store);
    g_autoptr(GPtrArray) owners = owners_new();
    json_auto_t *result = NULL;
    uint64_t count;

    if (!client->knows_owners)
        return g_steal_pointer(&owners);
    if (!client_ask(client, WIRE_OWNERS, NULL, take_owner, owners, &result, error) ||
        !json_need_u64(result, "count", &count, error))
        return NULL;
    if (count != owners->len) {
        fail(error, ERROR_INTEGRITY, "%u of %" PRIu64 " records of owners arrived", owners->len,
             count);
        return NULL;
    }
    return g_steal_pointer(&owners);
}

/* Takes OWNER's refusal by a server that knows of one at a time. Nothing else is an answer to it. */
static bool put_one(struct client *client, const struct owner *owner, GPtrArray *refused,
                    GError **error)
{
    json_auto_t *result = NULL;
    GError *why = NULL;

    if (client_ask(client, WIRE_PUT_OWNER, owner_json(owner), NULL, NULL, &result, &why))
        return true;
    if (error_is(why, ERROR_CONFLICT) || error_is(why, ERROR_INTEGRITY)) {
        owner_refuse(refused, owner->uuid, why);
        return true;
    }
    g_propagate_error(error, why);
    return false;
}

static bool take_refused(const json_t *result, GPtrArray *refused, GError **error)
{
    const json_t *entry;
    json_t *list;
    size_t i;

    if (!json_need_array(result, "refused", &list, error))
        return false;
    json_array_foreach(list, i, entry)
    {
        const char *uuid;
        GError *why = NULL;

        if (!json_need_string(entry, "uuid", &uuid, error))
            return false;
        wire_error_fail(entry, &why);
        owner_refuse(refused, uuid, why);
    }
    return true;
}

/* Those from FIRST on that fit into one message. */
static bool put_some(struct client *client, const GPtrArray *owners, unsigned first,
                     GPtrArray *refused, GError **error)
{
    json_t *object = json_object(), *list = json_array();
    json_auto_t *result = NULL;

    for (unsigned i = first; i < MIN(owners->len, first + WIRE_OWNERS_MAX); i++)
        json_array_append_new(list, owner_json(owners->pdata[i]));
    json_object_set_new(object, "owners", list);
    return client_ask(client, WIRE_PUT_OWNERS, object, NULL, NULL, &result, error) &&
           take_refused(result, refused, error);
}

static bool remote_put_owners(struct store *store, const GPtrArray *owners, GPtrArray *refused,
                              GError **error)
{
    AUTO_CLIENT client = enter(store);
    unsigned step = client->knows_put_owners ? WIRE_OWNERS_MAX : 1;
    bool good = true;

    if (!client->knows_owners)
        return fail(error, ERROR_CONFIG,
                    "drctl there does not know which site owns a VM: update it");
    for (unsigned i = 0; good && i < owners->len; i += step)
        good = client->knows_put_owners ? put_some(client, owners, i, refused, error)
                                        : put_one(client, owners->pdata[i], refused, error);
    return good;
}

static struct incoming *remote_begin(struct store *store, const char *vm_uuid, const char *point,
                                     const struct taker *taker, GError **error)
{
    return remote_begin_point(((struct remote_store *)store)->client, vm_uuid, point, taker, error);
}

static bool command(struct store *store, const char *const *args, struct progress *progress,
                    json_t **result, GError **error)
{
    AUTO_CLIENT client = enter(store);

    return remote_command(client, args, progress, result, error);
}

static void remote_free(struct store *store)
{
    struct remote_store *self = (struct remote_store *)store;

    client_free(self->client);
    if (self->dialler.free)
        self->dialler.free(self->dialler.context);
    g_free(self->store.label);
    g_free(self);
}

/* --- Connecting anew ------------------------------------------------------------------------ */

/* Is what answers now the store that we know? */
static bool check_identity(const struct remote_store *self, struct client *client, GError **error)
{
    AUTO_CLIENT entered = client_enter(client);
    struct store_info info = {0};
    bool same, told = ask_info(entered, &info, error);

    same = told && (!*self->uuid || strcmp(info.uuid, self->uuid) == 0);
    store_info_clear(&info);
    if (told && !same)
        return fail(error, ERROR_CONFLICT, "there is another store there now");
    return told;
}

static bool remote_reconnect(struct store *store, GError **error)
{
    struct remote_store *self = (struct remote_store *)store;
    struct link *link = NULL;
    AUTO(client) client = NULL;

    if (!self->dialler.dial)
        return fail(error, ERROR_FAILED, "there is no other link");
    link = self->dialler.dial(self->dialler.context, error);
    client = link ? client_new(link, store->label, self->ping_ms, error) : NULL;
    if (!client || !check_identity(self, client, error))
        return false;
    client_free(self->client);
    self->client = g_steal_pointer(&client);
    store->plain_pool = !self->client->knows_pool;
    return true;
}

/* --- Opening -------------------------------------------------------------------------------- */

static const struct store_ops remote_store_ops = {
    .info = remote_info,
    .points = remote_points,
    .get = remote_get,
    .damaged = remote_damaged,
    .similar = remote_similar,
    .begin = remote_begin,
    .prune = remote_prune,
    .newest_bundle = remote_newest_bundle,
    .bundles = remote_bundles,
    .get_bundle = remote_get_bundle,
    .put_bundle = remote_put_bundle,
    .owners = remote_owners,
    .put_owners = remote_put_owners,
    .command = command,
    .reconnect = remote_reconnect,
    .free = remote_free,
};

struct store *store_open_link(struct link *link, const char *name, int ping_ms, GError **error)
{
    struct client *client = client_new(link, name, ping_ms, error);
    struct remote_store *self;

    if (!client)
        return NULL;
    self = g_new0(struct remote_store, 1);
    self->store.ops = &remote_store_ops;
    self->store.label = g_strdup(name);
    self->client = client;
    self->store.plain_pool = !client->knows_pool;
    self->ping_ms = ping_ms;
    return &self->store;
}

struct store *store_open_dialler(const struct dialler *dialler, const char *name, int ping_ms,
                                 GError **error)
{
    struct link *link = dialler->dial(dialler->context, error);
    struct store *store = link ? store_open_link(link, name, ping_ms, error) : NULL;

    if (store)
        ((struct remote_store *)store)->dialler = *dialler;
    else if (dialler->free)
        dialler->free(dialler->context);
    return store;
}

static struct link *dial_ssh(void *context, GError **error)
{
    const struct remote *remote = context;
    bool limited = remote->limit && limit_is_any(remote->limit);
    AUTO(throttle)
    throttle = limited ? throttle_open(remote->limit_file, remote->limit, error) : NULL;
    struct link *link = limited && !throttle ? NULL : link_ssh_open(remote, error);

    return link && throttle ? link_throttled_new(link, g_steal_pointer(&throttle)) : link;
}

struct store *store_open_remote(const struct remote *remote, GError **error)
{
    struct dialler dialler = {.dial = dial_ssh, .context = (void *)remote};

    return store_open_dialler(&dialler, remote->name, PING_MS, error);
}
