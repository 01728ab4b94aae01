/* SPDX-License-Identifier: Apache-2.0 */
/* Requests about the store: what it is, what it has, and its pool bundles. */
#include <inttypes.h>
#include <string.h>

#include "replicator/session.h"

bool handle_info(struct session *self, const struct frame *frame, GError **error)
{
    struct store_info info = {0};
    json_t *object;
    GError *why = NULL;

    if (!store_info(self->local, &info, &why) || !quota_reduce(self->quota, &info, &why)) {
        store_info_clear(&info);
        return session_refuse(self, frame->request, why, error);
    }
    object = json_object();
    json_set_string(object, "uuid", info.uuid);
    json_set_string(object, "site", info.site);
    json_set_string(object, "drctl", info.version);
    json_set_u64(object, "free_bytes", info.free_bytes);
    json_set_u64(object, "total_bytes", info.total_bytes);
    json_set_u64(object, "clock_ms", (uint64_t)info.clock_ms);
    store_info_clear(&info);
    return session_ok(self, frame->request, object, error);
}

bool handle_points(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);
    g_autoptr(GPtrArray) points = NULL;
    json_t *object;
    GError *why = NULL;

    if (!request)
        return false;
    points = store_points(self->local, json_get_string(request, "vm"), &why);
    if (!points)
        return session_refuse(self, frame->request, why, error);
    session_hide_points(self, points);
    for (unsigned i = 0; i < points->len; i++) {
        g_autofree char *text = manifest_text(points->pdata[i]);

        if (!wire_send(self->wire, WIRE_MANIFEST, frame->request, text, strlen(text), error))
            return false;
    }
    object = json_object();
    json_set_u64(object, "count", points->len);
    return session_ok(self, frame->request, object, error);
}

/* What the next point of a VM is made from: no content of the VM. */
static bool is_for_next_point(const char *name)
{
    return g_str_has_suffix(name, ".digests") || strcmp(name, "checkpoint.xml") == 0 ||
           strcmp(name, DAMAGE_NAME) == 0;
}

static bool check_get(const struct session *self, const char *vm, const char *name, GError **error)
{
    if (!session_reads(self) && !is_for_next_point(name))
        return fail(error, ERROR_AUTH,
                    "%s is refused: this key may add points, and read no content of them (drctl "
                    "serve --role push); read it with another key",
                    name);
    return session_check_vm(self, vm, error);
}

bool handle_get(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);
    struct sending sending = {.session = self, .request = frame->request};
    const char *vm, *point, *name;
    GError *why = NULL;
    bool got;

    if (!request || !json_need_string(request, "vm", &vm, error) ||
        !json_need_string(request, "point", &point, error) ||
        !json_need_string(request, "name", &name, error) ||
        !json_need_u64(request, "offset", &sending.offset, error))
        return false;
    sending.at = sending.offset;
    got = check_get(self, vm, name, &why) &&
          store_get(self->local, vm, point, name, sending.offset, sending_piece, &sending, &why);
    if (!is_for_next_point(name))
        self->tally.read_bytes += sending.at - sending.offset;
    return got ? sending_done(&sending, error) : sending_failed(&sending, why, error);
}

bool handle_damaged(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);
    g_auto(GStrv) points = NULL;
    json_t *object, *list;
    const char *vm;
    GError *why = NULL;

    if (!request || !json_need_string(request, "vm", &vm, error))
        return false;
    if (session_check_vm(self, vm, &why))
        points = store_damaged(self->local, vm, &why);
    if (!points)
        return session_refuse(self, frame->request, why, error);
    object = json_object();
    list = json_array();
    for (char **point = points; *point; point++)
        json_array_append_new(list, json_string(*point));
    json_object_set_new(object, "points", list);
    return session_ok(self, frame->request, object, error);
}

bool handle_owners(struct session *self, const struct frame *frame, GError **error)
{
    uint32_t number = frame->request;
    g_autoptr(GPtrArray) owners = NULL;
    unsigned count = 0;
    json_t *object;
    GError *why = NULL;

    owners = store_owners(self->local, &why);
    if (!owners)
        return session_refuse(self, number, why, error);
    for (unsigned i = 0; i < owners->len; i++) {
        if (!session_shows_owner(self, owners->pdata[i]))
            continue;
        if (!wire_send_json(self->wire, WIRE_OWNER, number, owner_json(owners->pdata[i]), error))
            return false;
        count++;
    }
    object = json_object();
    json_set_u64(object, "count", count);
    return session_ok(self, number, object, error);
}

bool handle_put_owner(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);
    AUTO(owner) owner = request ? owner_parse(request, error) : NULL;
    GError *why = NULL;

    if (!owner)
        return false;
    return session_check_owner(self, owner, &why) && store_put_owner(self->local, owner, &why)
               ? session_ok(self, frame->request, NULL, error)
               : session_refuse(self, frame->request, why, error);
}

static bool parse_owners(const json_t *request, GPtrArray *owners, GError **error)
{
    const json_t *entry;
    json_t *list;
    size_t i;

    if (!json_need_array(request, "owners", &list, error))
        return false;
    json_array_foreach(list, i, entry)
    {
        struct owner *owner = owner_parse(entry, error);

        if (!owner)
            return false;
        g_ptr_array_add(owners, owner);
    }
    return owners->len <= WIRE_OWNERS_MAX ||
           fail(error, ERROR_INTEGRITY, "more than %u records of owners at once", WIRE_OWNERS_MAX);
}

/* Move those that the key is not for out of OWNERS. */
static void refuse_owners(const struct session *self, GPtrArray *owners, GPtrArray *refused)
{
    for (unsigned i = 0; i < owners->len;) {
        const struct owner *owner = owners->pdata[i];
        GError *why = NULL;

        if (session_check_owner(self, owner, &why)) {
            i++;
            continue;
        }
        owner_refuse(refused, owner->uuid, why);
        g_ptr_array_remove_index(owners, i);
    }
}

static json_t *refused_json(const GPtrArray *refused)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < refused->len; i++) {
        const struct owner_refusal *refusal = refused->pdata[i];
        json_t *json = wire_error_json(refusal->why);

        json_set_string(json, "uuid", refusal->uuid);
        json_array_append_new(list, json);
    }
    return list;
}

bool handle_put_owners(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);
    g_autoptr(GPtrArray) owners = owners_new(), refused = owner_refusals_new();
    json_t *object;
    GError *why = NULL;

    if (!request || !parse_owners(request, owners, error))
        return false;
    refuse_owners(self, owners, refused);
    if (!store_put_owners(self->local, owners, refused, &why))
        return session_refuse(self, frame->request, why, error);
    object = json_object();
    json_object_set_new(object, "refused", refused_json(refused));
    return session_ok(self, frame->request, object, error);
}

static json_t *similar_image_json(const struct similar_image *image)
{
    json_t *json = image ? json_object() : json_null();

    if (!image)
        return json;
    json_set_string(json, "vm", image->vm);
    json_set_string(json, "uuid", image->vm_uuid);
    json_set_string(json, "point", image->point);
    json_set_string(json, "target", image->target);
    json_set_u64(json, "matched", image->overlap.matched);
    json_set_u64(json, "sampled", image->overlap.sampled);
    return json;
}

bool handle_similar(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);
    g_autofree struct sketch *sketch = g_new(struct sketch, 1);
    AUTO(similar_image) image = NULL;
    const char *before;
    json_t *object;
    GError *why = NULL;

    if (!request || !json_need_string(request, "before", &before, error) ||
        !sketch_from_json(request, sketch, error))
        return false;
    if (!store_similar(self->local, sketch, before, &image, &why))
        return session_refuse(self, frame->request, why, error);
    /* Whoever is told of an image is told what is in it. */
    if (image && !session_check_vm(self, image->vm_uuid, NULL))
        g_clear_pointer(&image, similar_image_free);
    object = json_object();
    json_object_set_new(object, "image", similar_image_json(image));
    return session_ok(self, frame->request, object, error);
}

static bool read_prune(const json_t *object, struct prune_request *request, GError **error)
{
    const char *keep = json_get_string(object, "keep");

    return json_need_string(object, "vm", &request->vm_uuid, error) &&
           json_need_bool(object, "dry_run", &request->dry_run, error) &&
           (!keep || retention_parse(keep, &request->keep, error));
}

static bool send_decisions(struct session *self, uint32_t request,
                           const struct prune_result *result, GError **error)
{
    json_t *object;

    for (unsigned i = 0; i < result->decisions->len; i++)
        if (!wire_send_json(self->wire, WIRE_DECISION, request,
                            prune_decision_json(result->decisions->pdata[i]), error))
            return false;
    object = json_object();
    json_set_u64(object, "count", result->decisions->len);
    json_set_u64(object, "freed_bytes", result->freed_bytes);
    return session_ok(self, request, object, error);
}

bool handle_prune(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *object = frame_json(frame, error);
    uint32_t number = frame->request;
    struct prune_request request = {0};
    struct prune_result result;
    GError *why = NULL;
    bool sent;

    if (!object || !read_prune(object, &request, error))
        return false;
    if (!session_check_vm(self, request.vm_uuid, &why) ||
        !store_prune(self->local, &request, &result, &why))
        return session_refuse(self, number, why, error);
    sent = send_decisions(self, number, &result, error);
    prune_result_clear(&result);
    return sent;
}

/* --- Pool bundles --------------------------------------------------------------------------- */

static json_t *id_json(const struct bundle_id *id)
{
    json_t *json = json_object();

    json_set_string(json, "time", id->time);
    json_set_u64(json, "generation", id->generation);
    json_set_string(json, "digest", id->digest);
    return json;
}

static bool send_list(struct session *self, uint32_t request, const char *site, GError **error)
{
    GError *why = NULL;
    g_autoptr(GPtrArray) ids = store_bundles(self->local, site, &why);
    json_t *object, *list;

    if (!ids)
        return session_refuse(self, request, why, error);
    object = json_object();
    list = json_array();
    for (unsigned i = 0; i < ids->len; i++)
        json_array_append_new(list, id_json(ids->pdata[i]));
    json_object_set_new(object, "bundles", list);
    return session_ok(self, request, object, error);
}

bool handle_bundle_id(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);
    AUTO(bundle_id) id = NULL;
    json_t *object;
    const char *site;
    GError *why = NULL;

    if (!request || !json_need_string(request, "site", &site, error))
        return false;
    if (!session_check_site(self, "the pool bundle", site, &why))
        return session_refuse(self, frame->request, why, error);
    if (json_is_true(json_object_get(request, "list")))
        return send_list(self, frame->request, site, error);
    if (!store_newest_bundle(self->local, site, &id, &why))
        return session_refuse(self, frame->request, why, error);
    object = json_object();
    json_object_set_new(object, "bundle", id ? id_json(id) : json_null());
    return session_ok(self, frame->request, object, error);
}

static bool send_bundle(struct session *self, uint32_t request, const char *data, size_t len,
                        GError **error)
{
    json_t *object;

    for (size_t done = 0; done < len;) {
        struct frame_data piece = {.offset = done,
                                   .bytes = (const uint8_t *)data + done,
                                   .len = MIN(len - done, STORE_WRITE_MAX)};

        if (!wire_send_data(self->wire, request, &piece, error))
            return false;
        done += piece.len;
        self->tally.read_bytes += piece.len;
    }
    object = json_object();
    json_set_u64(object, "bytes", len);
    return session_ok(self, request, object, error);
}

bool handle_bundle_get(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);
    struct bundle_id id = {0};
    const char *site, *time;
    g_autofree char *data = NULL;
    size_t len;
    GError *why = NULL;

    if (!request || !json_need_string(request, "site", &site, error) ||
        !json_need_string(request, "time", &time, error))
        return false;
    id.site = (char *)site;
    id.time = (char *)time;
    if (!session_check_site(self, "the pool bundle", site, &why) ||
        !store_get_bundle(self->local, &id, &data, &len, &why))
        return session_refuse(self, frame->request, why, error);
    return send_bundle(self, frame->request, data, len, error);
}

bool handle_bundle_put(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);

    if (!request || !json_need_u64(request, "bytes", &self->bundle_bytes, error))
        return false;
    if (self->bundle_request)
        return session_out_of_order(frame, "another pool bundle is arriving", error);
    if (self->bundle_bytes == 0 || self->bundle_bytes > BUNDLE_MAX_BYTES)
        return fail(error, ERROR_INTEGRITY, "a pool bundle of %" PRIu64 " bytes",
                    self->bundle_bytes);
    self->bundle_request = frame->request;
    /* Grows with what arrives, not with what is announced. */
    self->bundle = g_byte_array_new();
    return true;
}

static bool store_bundle(struct session *self, GError **error)
{
    const GByteArray *bundle = self->bundle;

    return session_check_bundle(self, bundle->data, bundle->len, error) &&
           quota_fits(self->quota, bundle->len + QUOTA_FILE_COST, error) &&
           store_put_bundle(self->local, (const char *)bundle->data, bundle->len, error);
}

bool session_take_bundle(struct session *self, const struct frame *frame,
                         const struct frame_data *data, GError **error)
{
    GError *why = NULL;
    bool stored;

    if (data->file != 0 || data->offset != self->bundle->len || data->len == 0 ||
        data->zeros != 0 || data->len > self->bundle_bytes - self->bundle->len)
        return session_out_of_order(frame, "not the next bytes of the pool bundle", error);
    g_byte_array_append(self->bundle, data->bytes, (unsigned)data->len);
    if (self->bundle->len < self->bundle_bytes)
        return true;
    stored = store_bundle(self, &why);
    self->tally.bundles += stored;
    g_clear_pointer(&self->bundle, g_byte_array_unref);
    self->bundle_request = 0;
    return stored ? session_ok(self, frame->request, NULL, error)
                  : session_refuse(self, frame->request, why, error);
}
