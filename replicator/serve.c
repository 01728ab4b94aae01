/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <signal.h>
#include <string.h>

#include "replicator/local.h"
#include "replicator/quota.h"
#include "replicator/serve.h"
#include "replicator/wire.h"

/* Clocks differ, but not by more than this. A point of next year would be the newest one for a year. */
#define FUTURE_MS (INT64_C(24) * 3600 * 1000)

/* How often a session that waits looks around before it may give way. */
#define LOOKS 15
#define TURN_POLL_MS 50

struct session {
    struct store *local; /* borrowed */
    bool append_only;
    struct quota *quota; /* NULL: none */
    struct wire *wire;
    int give_way_ms; /* see give_way() */
    bool greeted;
    bool understood; /* the client speaks our protocol */
    uint32_t last_request;
    /* The point that arrives. It is named by the number of its BEGIN also after the store has
     * refused something of it (INCOMING is NULL then), because the client may not know that yet. */
    uint32_t point_request; /* 0: none */
    struct incoming *incoming;
    char *point_vm; /* UUID of its VM */
    unsigned n_files;
    /* The bundle that arrives. */
    uint32_t bundle_request; /* 0: none */
    uint64_t bundle_bytes;
    GByteArray *bundle;
};

/* What a REUSE says. */
struct frame_reuse {
    uint64_t file, offset, bytes;
    uint64_t partial, at; /* where they are */
};

/* --- Answers -------------------------------------------------------------------------------- */

static bool ok(struct session *self, uint32_t request, json_t *object, GError **error)
{
    return wire_send_json(self->wire, WIRE_OK, request, object, error);
}

/* The store refused: tell it and go on. Takes WHY. */
static bool refuse(struct session *self, uint32_t request, GError *why, GError **error)
{
    bool sent = wire_send_error(self->wire, request, why, error);

    g_error_free(why);
    return sent;
}

static bool out_of_order(const struct frame *frame, const char *why, GError **error)
{
    return fail(error, ERROR_INTEGRITY, "%s out of order: %s", wire_type_name(frame->type), why);
}

/* --- What a key may do ---------------------------------------------------------------------- */

static bool check_time(const char *what, int64_t ms, GError **error)
{
    int64_t now_ms = time_now_ms();
    g_autofree char *now = time_format(now_ms);

    if (ms <= now_ms + FUTURE_MS)
        return true;
    return fail(
        error, ERROR_CONFLICT,
        "%s is in the future of this site, where it is %s: the clocks differ by more than a "
        "day; set the one that is wrong",
        what, now);
}

static GError *append_only_error(enum wire_type type)
{
    return g_error_new(DRCTL_ERROR, ERROR_AUTH,
                       "%s is refused: this key may add points, but neither remove nor change any "
                       "(drctl serve --append-only); do it at this site itself",
                       wire_type_name(type));
}

/* --- Requests about the store --------------------------------------------------------------- */

static bool handle_hello(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);
    json_t *object = NULL;
    const char *version;
    uint64_t protocol;

    if (!request || !json_need_string(request, "drctl", &version, error) ||
        !json_need_u64(request, "protocol", &protocol, error))
        return false;
    self->greeted = true;
    /* The client sees from our answer who must be updated, and says so to its user. */
    self->understood = protocol == WIRE_PROTOCOL;
    object = json_object();
    json_set_string(object, "drctl", DRCTL_VERSION);
    json_set_u64(object, "protocol", WIRE_PROTOCOL);
    json_object_set_new(object, "features", json_array());
    return ok(self, frame->request, object, error);
}

static bool handle_info(struct session *self, const struct frame *frame, GError **error)
{
    struct store_info info = {0};
    json_t *object;
    GError *why = NULL;

    if (!store_info(self->local, &info, &why) || !quota_reduce(self->quota, &info, &why)) {
        store_info_clear(&info);
        return refuse(self, frame->request, why, error);
    }
    object = json_object();
    json_set_string(object, "uuid", info.uuid);
    json_set_string(object, "site", info.site);
    json_set_string(object, "drctl", info.version);
    json_set_u64(object, "free_bytes", info.free_bytes);
    json_set_u64(object, "total_bytes", info.total_bytes);
    json_set_u64(object, "clock_ms", (uint64_t)info.clock_ms);
    store_info_clear(&info);
    return ok(self, frame->request, object, error);
}

static bool handle_points(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);
    g_autoptr(GPtrArray) points = NULL;
    json_t *object;
    GError *why = NULL;

    if (!request)
        return false;
    points = store_points(self->local, json_get_string(request, "vm"), &why);
    if (!points)
        return refuse(self, frame->request, why, error);
    for (unsigned i = 0; i < points->len; i++) {
        g_autofree char *text = manifest_text(points->pdata[i]);

        if (!wire_send(self->wire, WIRE_MANIFEST, frame->request, text, strlen(text), error))
            return false;
    }
    object = json_object();
    json_set_u64(object, "count", points->len);
    return ok(self, frame->request, object, error);
}

struct sending {
    struct session *session;
    uint32_t request;
    uint64_t offset, at;
    bool broken; /* it was the link that failed, not the store */
};

static bool send_piece(void *context, const void *data, size_t len, GError **error)
{
    struct sending *self = context;

    self->broken =
        !wire_send_bytes(self->session->wire, self->request, 0, self->at, data, len, error);
    self->at += len;
    return !self->broken;
}

static bool sending_done(struct sending *self, GError **error)
{
    json_t *object = json_object();

    json_set_u64(object, "bytes", self->at - self->offset);
    return ok(self->session, self->request, object, error);
}

/* Takes WHY. */
static bool sending_failed(struct sending *self, GError *why, GError **error)
{
    if (!self->broken)
        return refuse(self->session, self->request, why, error);
    g_propagate_error(error, why);
    return false;
}

static bool handle_get(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);
    struct sending sending = {.session = self, .request = frame->request};
    const char *vm, *point, *name;
    GError *why = NULL;

    if (!request || !json_need_string(request, "vm", &vm, error) ||
        !json_need_string(request, "point", &point, error) ||
        !json_need_string(request, "name", &name, error) ||
        !json_need_u64(request, "offset", &sending.offset, error))
        return false;
    sending.at = sending.offset;
    return store_get(self->local, vm, point, name, sending.offset, send_piece, &sending, &why)
               ? sending_done(&sending, error)
               : sending_failed(&sending, why, error);
}

static bool handle_damaged(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);
    g_auto(GStrv) points = NULL;
    json_t *object, *list;
    const char *vm;
    GError *why = NULL;

    if (!request || !json_need_string(request, "vm", &vm, error))
        return false;
    points = store_damaged(self->local, vm, &why);
    if (!points)
        return refuse(self, frame->request, why, error);
    object = json_object();
    list = json_array();
    for (char **point = points; *point; point++)
        json_array_append_new(list, json_string(*point));
    json_object_set_new(object, "points", list);
    return ok(self, frame->request, object, error);
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

static bool handle_similar(struct session *self, const struct frame *frame, GError **error)
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
        return refuse(self, frame->request, why, error);
    object = json_object();
    json_object_set_new(object, "image", similar_image_json(image));
    return ok(self, frame->request, object, error);
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
    return ok(self, request, object, error);
}

static bool handle_prune(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *object = frame_json(frame, error);
    uint32_t number = frame->request;
    struct prune_request request = {0};
    struct prune_result result;
    GError *why = NULL;
    bool sent;

    if (!object || !read_prune(object, &request, error))
        return false;
    if (!store_prune(self->local, &request, &result, &why))
        return refuse(self, number, why, error);
    sent = send_decisions(self, number, &result, error);
    prune_result_clear(&result);
    return sent;
}

/* --- A point that arrives ------------------------------------------------------------------- */

static void forget_point(struct session *self)
{
    g_clear_pointer(&self->incoming, incoming_free);
    g_clear_pointer(&self->point_vm, g_free);
    self->point_request = 0;
    self->n_files = 0;
    quota_end(self->quota);
}

/* The store refused a part of the point: it is discarded at once, and what is still on its way for
 * it is skipped. Takes WHY. */
static bool refuse_point(struct session *self, GError *why, GError **error)
{
    /* What is over the quota is removed; the store itself has seen to what it refused. */
    if (self->incoming && error_is(why, ERROR_NO_SPACE))
        local_incoming_discard(self->incoming);
    g_clear_pointer(&self->incoming, incoming_free);
    quota_end(self->quota);
    return refuse(self, self->point_request, why, error);
}

static bool is_committed(const struct session *self, const char *vm, const char *point)
{
    g_autofree char *dir =
        store_point_dir(((const struct local_store *)self->local)->path, vm, point);

    return g_file_test(dir, G_FILE_TEST_EXISTS);
}

/* Another session may have to see first that its client is gone. */
static struct incoming *begin_in_turn(struct session *self, const char *vm, const char *point,
                                      GError **error)
{
    int64_t until_ms = time_monotonic_ms() + 2 * self->give_way_ms;

    for (;;) {
        g_autoptr(GError) why = NULL;
        struct incoming *incoming = store_begin(self->local, vm, point, &why);

        if (incoming)
            return incoming;
        if (!error_is(why, ERROR_CONFLICT) || is_committed(self, vm, point) ||
            time_monotonic_ms() > until_ms) {
            g_propagate_error(error, g_steal_pointer(&why));
            return NULL;
        }
        if (!interrupt_check(error))
            return NULL;
        g_usleep(TURN_POLL_MS * 1000);
    }
}

static struct incoming *begin(struct session *self, const char *vm, const char *point,
                              GError **error)
{
    g_autofree char *what = g_strdup_printf("point %s", point);
    int64_t ms;

    if (point_id_parse(point, &ms) && !check_time(what, ms, error))
        return NULL;
    return quota_begin(self->quota, vm, point, error) ? begin_in_turn(self, vm, point, error)
                                                      : NULL;
}

static bool handle_begin(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);
    const char *vm, *point;
    GError *why = NULL;
    json_t *object;

    if (!request || !json_need_string(request, "vm", &vm, error) ||
        !json_need_string(request, "point", &point, error))
        return false;
    if (self->point_request)
        return out_of_order(frame, "another point is arriving", error);
    self->incoming = begin(self, vm, point, &why);
    if (!self->incoming) {
        quota_end(self->quota);
        return refuse(self, frame->request, why, error);
    }
    self->point_request = frame->request;
    self->point_vm = g_strdup(vm);
    self->n_files = 0;
    object = json_object();
    json_set_u64(object, "partials", local_incoming_partials(self->incoming));
    return ok(self, frame->request, object, error);
}

static bool of_our_point(struct session *self, const struct frame *frame, GError **error)
{
    if (!self->point_request || frame->request != self->point_request)
        return out_of_order(frame, "no such point is arriving", error);
    return true;
}

static bool handle_open(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);
    const char *name;
    unsigned number;
    uint64_t file;
    GError *why = NULL;

    if (!request || !of_our_point(self, frame, error) ||
        !json_need_string(request, "name", &name, error) ||
        !json_need_u64(request, "file", &file, error))
        return false;
    if (file != self->n_files)
        return out_of_order(frame, "files are numbered from 0", error);
    self->n_files++;
    if (!self->incoming)
        return true;
    if (!quota_take(self->quota, QUOTA_FILE_COST, &why) ||
        !incoming_open(self->incoming, name, &number, &why))
        return refuse_point(self, why, error);
    g_assert(number == file);
    return true;
}

static bool store_bundle(struct session *self, GError **error)
{
    const GByteArray *bundle = self->bundle;

    return quota_fits(self->quota, bundle->len + QUOTA_FILE_COST, error) &&
           store_put_bundle(self->local, (const char *)bundle->data, bundle->len, error);
}

static bool take_bundle_data(struct session *self, const struct frame *frame,
                             const struct frame_data *data, GError **error)
{
    GError *why = NULL;
    bool stored;

    if (data->file != 0 || data->offset != self->bundle->len || data->len == 0 ||
        data->zeros != 0 || data->len > self->bundle_bytes - self->bundle->len)
        return out_of_order(frame, "not the next bytes of the pool bundle", error);
    g_byte_array_append(self->bundle, data->bytes, (unsigned)data->len);
    if (self->bundle->len < self->bundle_bytes)
        return true;
    stored = store_bundle(self, &why);
    g_clear_pointer(&self->bundle, g_byte_array_unref);
    self->bundle_request = 0;
    return stored ? ok(self, frame->request, NULL, error)
                  : refuse(self, frame->request, why, error);
}

static bool write_data(struct incoming *incoming, const struct frame_data *data, GError **error)
{
    static const uint8_t zeros[STORE_WRITE_MAX];

    return (data->len == 0 ||
            incoming_write(incoming, data->file, data->offset, data->bytes, data->len, error)) &&
           (data->zeros == 0 || incoming_write(incoming, data->file, data->offset + data->len,
                                               zeros, data->zeros, error));
}

static bool handle_data(struct session *self, const struct frame *frame, GError **error)
{
    struct frame_data data;
    GError *why = NULL;

    if (!frame_parse_data(frame, &data, error))
        return false;
    if (self->bundle_request && frame->request == self->bundle_request)
        return take_bundle_data(self, frame, &data, error);
    if (!of_our_point(self, frame, error))
        return false;
    if (data.file >= self->n_files)
        return out_of_order(frame, "its file was not opened", error);
    if (data.len + data.zeros == 0)
        return out_of_order(frame, "it is empty", error);
    if (self->incoming && (!quota_take(self->quota, data.len + data.zeros, &why) ||
                           !write_data(self->incoming, &data, &why)))
        return refuse_point(self, why, error);
    return true;
}

static bool handle_partial(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);
    struct sending sending = {.session = self, .request = frame->request};
    const char *target;
    GError *why = NULL;

    if (!request || !json_need_string(request, "target", &target, error))
        return false;
    if (!self->point_request)
        return out_of_order(frame, "no point is arriving", error);
    /* If it was refused, that is on its way. */
    if (!self->incoming)
        return sending_done(&sending, error);
    return incoming_partial(self->incoming, target, send_piece, &sending, &why)
               ? sending_done(&sending, error)
               : sending_failed(&sending, why, error);
}

static bool reuse_parse(const json_t *request, struct frame_reuse *out, GError **error)
{
    return json_need_u64(request, "file", &out->file, error) &&
           json_need_u64(request, "offset", &out->offset, error) &&
           json_need_u64(request, "bytes", &out->bytes, error) &&
           json_need_u64(request, "partial", &out->partial, error) &&
           json_need_u64(request, "at", &out->at, error);
}

static bool reuse(struct session *self, const struct frame_reuse *reuse, GError **error)
{
    struct partial_place from = {.partial = (unsigned)MIN(reuse->partial, UINT_MAX),
                                 .offset = reuse->at};

    return quota_take(self->quota, reuse->bytes, error) &&
           incoming_reuse(self->incoming, (unsigned)reuse->file, reuse->offset,
                          (size_t)reuse->bytes, &from, error);
}

static bool handle_reuse(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);
    struct frame_reuse parts;
    GError *why = NULL;

    if (!request || !of_our_point(self, frame, error) || !reuse_parse(request, &parts, error))
        return false;
    if (parts.file >= self->n_files)
        return out_of_order(frame, "its file was not opened", error);
    if (parts.bytes == 0 || parts.bytes > STORE_WRITE_MAX)
        return out_of_order(frame, "it is empty or too long", error);
    return !self->incoming || reuse(self, &parts, &why) || refuse_point(self, why, error);
}

/* The catalog has the manifest once more. */
static bool commit(struct session *self, const struct frame *frame, GError **error)
{
    AUTO(manifest)
    manifest = manifest_parse((const char *)frame->payload, frame->len, "the manifest", error);

    return manifest && check_time("the time of the point", manifest->time_ms, error) &&
           quota_take(self->quota, 2 * frame->len, error) &&
           incoming_commit(self->incoming, manifest, error);
}

static bool handle_commit(struct session *self, const struct frame *frame, GError **error)
{
    g_autofree char *vm = g_strdup(self->point_vm);
    uint32_t request = frame->request;
    bool committed, told;
    GError *why = NULL;

    if (!of_our_point(self, frame, error))
        return false;
    if (!self->incoming) {
        /* It has been told so. */
        forget_point(self);
        return true;
    }
    committed = commit(self, frame, &why);
    /* The lock is free before the answer, so that the client may begin the next point at once. */
    forget_point(self);
    told = committed ? ok(self, request, NULL, error) : refuse(self, request, why, error);
    /* The client has what it waited for; what it asks next waits for this. */
    if (committed && told)
        store_heal_vm(self->local, vm, NULL);
    return told;
}

static bool handle_abort(struct session *self, const struct frame *frame, GError **error)
{
    if (!of_our_point(self, frame, error))
        return false;
    forget_point(self);
    return true;
}

/* --- Pool bundles --------------------------------------------------------------------------- */

static bool handle_bundle_id(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);
    AUTO(bundle_id) id = NULL;
    json_t *object, *bundle;
    const char *site;
    GError *why = NULL;

    if (!request || !json_need_string(request, "site", &site, error))
        return false;
    if (!store_newest_bundle(self->local, site, &id, &why))
        return refuse(self, frame->request, why, error);
    object = json_object();
    bundle = id ? json_object() : json_null();
    if (id) {
        json_set_string(bundle, "time", id->time);
        json_set_u64(bundle, "generation", id->generation);
        json_set_string(bundle, "digest", id->digest);
    }
    json_object_set_new(object, "bundle", bundle);
    return ok(self, frame->request, object, error);
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
    }
    object = json_object();
    json_set_u64(object, "bytes", len);
    return ok(self, request, object, error);
}

static bool handle_bundle_get(struct session *self, const struct frame *frame, GError **error)
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
    if (!store_get_bundle(self->local, &id, &data, &len, &why))
        return refuse(self, frame->request, why, error);
    return send_bundle(self, frame->request, data, len, error);
}

static bool handle_bundle_put(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);

    if (!request || !json_need_u64(request, "bytes", &self->bundle_bytes, error))
        return false;
    if (self->bundle_request)
        return out_of_order(frame, "another pool bundle is arriving", error);
    if (self->bundle_bytes == 0 || self->bundle_bytes > BUNDLE_MAX_BYTES)
        return fail(error, ERROR_INTEGRITY, "a pool bundle of %" PRIu64 " bytes",
                    self->bundle_bytes);
    self->bundle_request = frame->request;
    /* Grows with what arrives, not with what is announced. */
    self->bundle = g_byte_array_new();
    return true;
}

static bool handle_ping(struct session *self, const struct frame *frame, GError **error)
{
    return true;
}

/* --- The session ---------------------------------------------------------------------------- */

enum {
    REQUEST = 1, /* has a number of its own, that must grow */
    CHANGES = 2, /* removes or changes what is committed */
};

static const struct {
    bool (*handle)(struct session *self, const struct frame *frame, GError **error);
    unsigned kind;
} handlers[] = {
    [WIRE_HELLO] = {handle_hello, REQUEST},
    [WIRE_INFO] = {handle_info, REQUEST},
    [WIRE_POINTS] = {handle_points, REQUEST},
    [WIRE_BEGIN] = {handle_begin, REQUEST},
    [WIRE_OPEN] = {handle_open, 0},
    [WIRE_DATA] = {handle_data, 0},
    [WIRE_COMMIT] = {handle_commit, 0},
    [WIRE_ABORT] = {handle_abort, 0},
    [WIRE_BUNDLE_ID] = {handle_bundle_id, REQUEST},
    [WIRE_BUNDLE_GET] = {handle_bundle_get, REQUEST},
    [WIRE_BUNDLE_PUT] = {handle_bundle_put, REQUEST},
    [WIRE_PING] = {handle_ping, 0},
    [WIRE_GET] = {handle_get, REQUEST},
    [WIRE_SIMILAR] = {handle_similar, REQUEST},
    [WIRE_PRUNE] = {handle_prune, REQUEST | CHANGES},
    [WIRE_PARTIAL] = {handle_partial, REQUEST},
    [WIRE_REUSE] = {handle_reuse, 0},
    [WIRE_DAMAGED] = {handle_damaged, REQUEST},
};

static bool dispatch(struct session *self, const struct frame *frame, GError **error)
{
    unsigned type = frame->type;

    if (type >= G_N_ELEMENTS(handlers) || !handlers[type].handle)
        return out_of_order(frame, "it is an answer, not a request", error);
    if (self->greeted == (type == WIRE_HELLO))
        return out_of_order(frame, "HELLO comes first, and once", error);
    if (type != WIRE_HELLO && !self->understood)
        return out_of_order(frame, "we do not speak the same protocol", error);
    if (handlers[type].kind & REQUEST) {
        if (frame->request <= self->last_request)
            return out_of_order(frame, "its number is not higher than the one before", error);
        self->last_request = frame->request;
    }
    if (handlers[type].kind & CHANGES && self->append_only)
        return refuse(self, frame->request, append_only_error(frame->type), error);
    return handlers[type].handle(self, frame, error);
}

/* A client that is silent may be dead, and what wants the place may be the same source, come back. Only
 * its holder gives a lock away, so there are never two that write. */
static bool give_way(void *context, int64_t silent_ms, GError **error)
{
    const struct session *self = context;

    if (!self->incoming || silent_ms < self->give_way_ms ||
        !local_incoming_wanted(self->incoming, silent_ms))
        return true;
    return fail(
        error, ERROR_NETWORK,
        "the other side was silent for %d s, and another transfer of the VM wants its place",
        (int)(silent_ms / 1000));
}

static bool session_run(struct session *self, int idle_ms, GError **error)
{
    struct frame frame;

    self->give_way_ms = idle_ms / (SERVE_IDLE_S / SERVE_GIVE_WAY_S);
    wire_set_look(self->wire, MAX(self->give_way_ms / LOOKS, 1), give_way, self);
    for (;;) {
        enum link_state state = wire_receive(self->wire, idle_ms, &frame, error);

        if (state == LINK_END)
            return true;
        if (state == LINK_NOTHING)
            return fail(error, ERROR_NETWORK, "the other side was silent for %d s", idle_ms / 1000);
        if (state == LINK_FAILED || !dispatch(self, &frame, error))
            return false;
    }
}

bool serve_link(struct store *local, const struct serve_rules *rules, struct link *link,
                int idle_ms, GError **error)
{
    struct session self = {.local = local,
                           .append_only = rules->append_only,
                           .quota = quota_new(local, rules->quota),
                           .wire = wire_new(link)};
    GError *why = NULL;
    bool done = session_run(&self, idle_ms, &why);

    forget_point(&self);
    g_clear_pointer(&self.bundle, g_byte_array_unref);
    if (!done) {
        /* If it still hears us. */
        wire_send_error(self.wire, 0, why, NULL);
        g_propagate_error(error, why);
    }
    quota_free(self.quota);
    wire_free(self.wire);
    return done;
}

bool serve(struct store *local, const struct serve_rules *rules, int in_fd, int out_fd,
           GError **error)
{
    /* The other side may hang up at any time; write(2) shall say so. */
    signal(SIGPIPE, SIG_IGN);
    return serve_link(local, rules, link_fd_new(in_fd, out_fd), SERVE_IDLE_S * 1000, error);
}
