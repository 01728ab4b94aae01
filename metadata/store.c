/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "metadata/bundle.h"
#include "metadata/config.h"
#include "metadata/reconnect.h"

static bool bad(GError **error, const char *label, const char *what, const char *value)
{
    return fail(error, ERROR_INTEGRITY, "%s: '%s' is not %s", label, value, what);
}

/* For the end of a wrapper: RESULT with the label before its error. */
static bool labelled(bool result, const char *label, GError **error)
{
    if (!result)
        g_prefix_error(error, "%s: ", label);
    return result;
}

/* What LINE's store was asked for has failed with WHY (taken): may it be asked for again? */
static bool again(struct reconnect *line, GError *why, bool came_further, GError **error)
{
    struct store *store = line->store;

    g_prefix_error(&why, "%s: ", store->label);
    if (store->arriving == 0)
        return reconnect_after(line, why, came_further, error);
    g_propagate_error(error, why);
    return false;
}

void store_info_clear(struct store_info *info)
{
    g_clear_pointer(&info->site, g_free);
    g_clear_pointer(&info->version, g_free);
}

void bundle_id_free(struct bundle_id *id)
{
    if (!id)
        return;
    g_free(id->site);
    g_free(id->time);
    g_free(id);
}

void similar_image_free(struct similar_image *image)
{
    if (!image)
        return;
    g_free(image->vm_uuid);
    g_free(image->vm);
    g_free(image->point);
    g_free(image->target);
    g_free(image);
}

bool store_info(struct store *store, struct store_info *out, GError **error)
{
    struct reconnect line = {.store = store};
    struct store_info info = {0};
    GError *why = NULL;

    while (!store->ops->info(store, &info, &why)) {
        if (!again(&line, why, false, error))
            return false;
        why = NULL;
    }
    *out = info;
    return true;
}

GPtrArray *store_points(struct store *store, const char *vm, GError **error)
{
    struct reconnect line = {.store = store};
    GPtrArray *points;
    GError *why = NULL;

    if (vm && !vm_name_is_valid(vm)) {
        bad(error, store->label, "the name of a VM", vm);
        return NULL;
    }
    while (!(points = store->ops->points(store, vm, &why))) {
        if (!again(&line, why, false, error))
            return NULL;
        why = NULL;
    }
    return points;
}

static bool is_point_name(struct store *store, const char *vm_uuid, const char *point,
                          GError **error)
{
    int64_t ms;

    if (!uuid_is_valid(vm_uuid))
        return bad(error, store->label, "a UUID", vm_uuid);
    if (!point_id_parse(point, &ms))
        return bad(error, store->label, "the id of a point", point);
    return true;
}

/* What has come of a file, and to whom it goes. */
struct stream {
    store_sink_fn *sink;
    void *context;
    uint64_t bytes;
    bool refused; /* by the sink, which is no fault of the link */
};

static bool pass_on(void *context, const void *data, size_t len, GError **error)
{
    struct stream *stream = context;

    stream->bytes += len;
    stream->refused = !stream->sink(stream->context, data, len, error);
    return !stream->refused;
}

bool store_get(struct store *store, const char *vm_uuid, const char *point, const char *name,
               uint64_t offset, store_sink_fn *sink, void *context, GError **error)
{
    struct reconnect line = {.store = store};
    struct stream stream = {.sink = sink, .context = context};
    uint64_t before = 0;
    GError *why = NULL;

    if (!is_point_name(store, vm_uuid, point, error))
        return false;
    if (!name_is_safe(name))
        return bad(error, store->label, "a safe file name", name);
    while (!store->ops->get(store, vm_uuid, point, name, offset + stream.bytes, pass_on, &stream,
                            &why)) {
        if (stream.refused) {
            g_propagate_prefixed_error(error, why, "%s: ", store->label);
            return false;
        }
        if (!again(&line, why, stream.bytes > before, error))
            return false;
        why = NULL;
        before = stream.bytes;
    }
    return true;
}

char **store_damaged(struct store *store, const char *vm_uuid, GError **error)
{
    struct reconnect line = {.store = store};
    char **points;
    GError *why = NULL;

    if (!uuid_is_valid(vm_uuid)) {
        bad(error, store->label, "a UUID", vm_uuid);
        return NULL;
    }
    while (!(points = store->ops->damaged(store, vm_uuid, &why))) {
        if (!again(&line, why, false, error))
            return NULL;
        why = NULL;
    }
    return points;
}

bool store_similar(struct store *store, const struct sketch *sketch, const char *before,
                   struct similar_image **image, GError **error)
{
    struct reconnect line = {.store = store};
    struct similar_image *found = NULL;
    int64_t ms;
    GError *why = NULL;

    if (!point_id_parse(before, &ms))
        return bad(error, store->label, "the id of a point", before);
    while (!store->ops->similar(store, sketch, before, &found, &why)) {
        if (!again(&line, why, false, error))
            return false;
        why = NULL;
    }
    *image = found;
    return true;
}

static void prune_decision_free(void *data)
{
    struct prune_decision *decision = data;

    g_free(decision->vm);
    g_free(decision->uuid);
    g_free(decision->point);
    g_free(decision->rule);
    g_free(decision);
}

json_t *prune_decision_json(const struct prune_decision *decision)
{
    json_t *json = json_object();

    json_set_string(json, "vm", decision->vm);
    json_set_string(json, "uuid", decision->uuid);
    json_set_string(json, "point", decision->point);
    json_object_set_new(json, "keep", json_boolean(decision->keep));
    json_set_string(json, "rule", decision->rule);
    json_set_u64(json, "bytes", decision->bytes);
    return json;
}

struct prune_decision *prune_result_add(struct prune_result *result)
{
    struct prune_decision *decision = g_new0(struct prune_decision, 1);

    g_ptr_array_add(result->decisions, decision);
    return decision;
}

void prune_result_clear(struct prune_result *result)
{
    g_clear_pointer(&result->decisions, g_ptr_array_unref);
}

bool store_prune(struct store *store, const struct prune_request *request,
                 struct prune_result *result, GError **error)
{
    struct prune_result found = {.decisions = g_ptr_array_new_with_free_func(prune_decision_free)};
    bool pruned =
        uuid_is_valid(request->vm_uuid)
            ? labelled(store->ops->prune(store, request, &found, error), store->label, error)
            : bad(error, store->label, "a UUID", request->vm_uuid);

    if (pruned)
        *result = found;
    else
        prune_result_clear(&found);
    return pruned;
}

struct incoming *store_begin_by(struct store *store, const char *vm_uuid, const char *point,
                                const struct taker *taker, GError **error)
{
    struct incoming *incoming;

    if (!is_point_name(store, vm_uuid, point, error))
        return NULL;
    if (taker && !site_name_is_valid(taker->site)) {
        bad(error, store->label, "the name of a site", taker->site);
        return NULL;
    }
    incoming = store->ops->begin(store, vm_uuid, point, taker, error);
    if (!labelled(incoming != NULL, store->label, error))
        return NULL;
    incoming->label = store->label;
    incoming->store = store;
    store->arriving++;
    return incoming;
}

struct incoming *store_begin(struct store *store, const char *vm_uuid, const char *point,
                             GError **error)
{
    return store_begin_by(store, vm_uuid, point, NULL, error);
}

bool store_newest_bundle(struct store *store, const char *site, struct bundle_id **id,
                         GError **error)
{
    struct reconnect line = {.store = store};
    struct bundle_id *found = NULL;
    GError *why = NULL;

    if (!site_name_is_valid(site))
        return bad(error, store->label, "the name of a site", site);
    while (!store->ops->newest_bundle(store, site, &found, &why)) {
        if (!again(&line, why, false, error))
            return false;
        why = NULL;
    }
    *id = found;
    return true;
}

static GPtrArray *only_newest(struct store *store, const char *site, GError **error)
{
    GPtrArray *ids = g_ptr_array_new_with_free_func((GDestroyNotify)bundle_id_free);
    struct bundle_id *id;

    if (store_newest_bundle(store, site, &id, error)) {
        if (id)
            g_ptr_array_add(ids, id);
        return ids;
    }
    g_ptr_array_unref(ids);
    return NULL;
}

GPtrArray *store_bundles(struct store *store, const char *site, GError **error)
{
    struct reconnect line = {.store = store};
    GPtrArray *ids;
    GError *why = NULL;

    if (!store->ops->bundles || store->plain_pool)
        return only_newest(store, site, error);
    if (!site_name_is_valid(site)) {
        bad(error, store->label, "the name of a site", site);
        return NULL;
    }
    while (!(ids = store->ops->bundles(store, site, &why))) {
        if (!again(&line, why, false, error))
            return NULL;
        why = NULL;
    }
    return ids;
}

bool store_get_bundle(struct store *store, const struct bundle_id *id, char **data, size_t *len,
                      GError **error)
{
    struct reconnect line = {.store = store};
    int64_t ms;
    GError *why = NULL;

    if (!site_name_is_valid(id->site))
        return bad(error, store->label, "the name of a site", id->site);
    if (!point_id_parse(id->time, &ms))
        return bad(error, store->label, "the time of a pool bundle", id->time);
    while (!store->ops->get_bundle(store, id, data, len, &why)) {
        if (!again(&line, why, false, error))
            return false;
        why = NULL;
    }
    return true;
}

bool store_put_bundle(struct store *store, const char *data, size_t len, GError **error)
{
    if (len == 0 || len > BUNDLE_MAX_BYTES)
        return fail(error, ERROR_INTEGRITY,
                    "%s: a pool bundle of %zu bytes is not between 1 and %u", store->label, len,
                    BUNDLE_MAX_BYTES);
    return labelled(store->ops->put_bundle(store, data, len, error), store->label, error);
}

GPtrArray *store_owners(struct store *store, GError **error)
{
    struct reconnect line = {.store = store};
    GPtrArray *owners;
    GError *why = NULL;

    while (!(owners = store->ops->owners(store, &why))) {
        if (!again(&line, why, false, error))
            return NULL;
        why = NULL;
    }
    return owners;
}

bool store_put_owners(struct store *store, const GPtrArray *owners, GPtrArray *refused,
                      GError **error)
{
    struct reconnect line = {.store = store};
    GError *why = NULL;

    while (!store->ops->put_owners(store, owners, refused, &why)) {
        if (!again(&line, why, false, error))
            return false;
        g_ptr_array_set_size(refused, 0);
        why = NULL;
    }
    return true;
}

bool store_put_owner(struct store *store, const struct owner *owner, GError **error)
{
    g_autoptr(GPtrArray) one = g_ptr_array_new(), refused = owner_refusals_new();

    g_ptr_array_add(one, (void *)owner);
    return store_put_owners(store, one, refused, error) && owner_refused_none(refused, error);
}

bool store_command(struct store *store, const char *const *args, struct progress *progress,
                   json_t **result, GError **error)
{
    if (!store->ops->command)
        return fail(error, ERROR_FAILED, "%s: no command can be run there", store->label);
    return labelled(store->ops->command(store, args, progress, result, error), store->label, error);
}

bool store_reconnect(struct store *store, GError **error)
{
    return !store->ops->reconnect ||
           labelled(store->ops->reconnect(store, error), store->label, error);
}

void store_be_patient(struct store *store, int64_t retry_ms, struct progress *progress)
{
    store->retry_ms = retry_ms;
    store->progress = progress;
}

void store_free(struct store *store)
{
    if (store)
        store->ops->free(store);
}

bool incoming_open(struct incoming *incoming, const char *name, unsigned *file, GError **error)
{
    if (!name_is_safe(name))
        return bad(error, incoming->label, "a safe file name", name);
    if (name_is_of_store(name))
        return fail(error, ERROR_INTEGRITY, "%s: %s is written by the store itself",
                    incoming->label, name);
    return labelled(incoming->ops->open(incoming, name, file, error), incoming->label, error);
}

bool incoming_write(struct incoming *incoming, unsigned file, uint64_t offset, const void *data,
                    size_t len, GError **error)
{
    if (offset > INT64_MAX || len > INT64_MAX - offset)
        return fail(error, ERROR_INTEGRITY, "%s: a write lies beyond the end of any file",
                    incoming->label);
    for (size_t done = 0; done < len;) {
        size_t piece = MIN(len - done, STORE_WRITE_MAX);

        if (!labelled(incoming->ops->write(incoming, file, offset + done, (const char *)data + done,
                                           piece, error),
                      incoming->label, error))
            return false;
        done += piece;
    }
    return true;
}

bool incoming_partial(struct incoming *incoming, const char *target, store_sink_fn *sink,
                      void *context, GError **error)
{
    if (!name_is_safe(target))
        return bad(error, incoming->label, "a safe name of a disk", target);
    return labelled(incoming->ops->partial(incoming, target, sink, context, error), incoming->label,
                    error);
}

bool incoming_reuse(struct incoming *incoming, unsigned file, uint64_t offset, size_t len,
                    const struct partial_place *from, GError **error)
{
    if (len == 0 || len > STORE_WRITE_MAX || offset > INT64_MAX - len ||
        from->offset > INT64_MAX - len)
        return fail(error, ERROR_INTEGRITY, "%s: %zu bytes cannot be reused at once",
                    incoming->label, len);
    return labelled(incoming->ops->reuse(incoming, file, offset, len, from, error), incoming->label,
                    error);
}

bool incoming_put(struct incoming *incoming, struct manifest *manifest, const char *name,
                  const void *data, size_t len, GError **error)
{
    unsigned file;

    if (!incoming_open(incoming, name, &file, error) ||
        !incoming_write(incoming, file, 0, data, len, error))
        return false;
    manifest_add_file(manifest, name, len);
    return true;
}

bool incoming_commit(struct incoming *incoming, const struct manifest *manifest, GError **error)
{
    return labelled(incoming->ops->commit(incoming, manifest, error), incoming->label, error);
}

uint64_t incoming_sent_bytes(const struct incoming *incoming)
{
    return incoming->ops->sent_bytes(incoming);
}

void incoming_free(struct incoming *incoming)
{
    if (!incoming)
        return;
    if (incoming->store)
        incoming->store->arriving--;
    incoming->ops->free(incoming);
}
