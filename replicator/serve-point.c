/* SPDX-License-Identifier: Apache-2.0 */
/* A point that arrives. */
#include "replicator/local.h"
#include "replicator/session.h"

/* Clocks differ, but not by more than this. A point of next year would be the newest one for a year. */
#define FUTURE_MS (INT64_C(24) * 3600 * 1000)

/* How often a session that waits for the place of a VM looks whether it is free. */
#define TURN_POLL_MS 50

/* What a REUSE says. */
struct frame_reuse {
    uint64_t file, offset, bytes;
    uint64_t partial, at; /* where they are */
};

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

/* Of a VM that has no point here nothing stays for which no quota would account. */
static void forget_locks(const struct session *self, const char *vm)
{
    local_locks_forget(((const struct local_store *)self->local)->path, vm);
}

void session_forget_point(struct session *self)
{
    g_clear_pointer(&self->incoming, incoming_free);
    if (self->point_vm)
        forget_locks(self, self->point_vm);
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
    return session_refuse(self, self->point_request, why, error);
}

static bool is_committed(const struct session *self, const char *vm, const char *point)
{
    g_autofree char *dir =
        store_point_dir(((const struct local_store *)self->local)->path, vm, point);

    return g_file_test(dir, G_FILE_TEST_EXISTS);
}

/* Another session may have to see first that its client is gone. */
static struct incoming *begin_in_turn(struct session *self, const char *vm, const char *point,
                                      const struct taker *taker, GError **error)
{
    int64_t until_ms = time_monotonic_ms() + 2 * self->give_way_ms;

    for (;;) {
        g_autoptr(GError) why = NULL;
        struct incoming *incoming = store_begin_by(self->local, vm, point, taker, &why);

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
                              const struct taker *taker, GError **error)
{
    g_autofree char *what = g_strdup_printf("point %s", point);
    struct incoming *incoming;
    int64_t ms;

    if (point_id_parse(point, &ms) && !check_time(what, ms, error))
        return NULL;
    if (!session_check_vm(self, vm, error) ||
        (taker && !session_check_site(self, what, taker->site, error)) ||
        !quota_begin(self->quota, vm, point, error))
        return NULL;
    incoming = begin_in_turn(self, vm, point, taker, error);
    if (incoming && self->namespace && !local_incoming_bind(incoming, self->namespace->text, error))
        g_clear_pointer(&incoming, incoming_free);
    return incoming;
}

/* Without a site it is a copy, or the client does not know of owners. */
static bool read_taker(const json_t *request, struct taker *taker, GError **error)
{
    taker->site = json_get_string(request, "site");
    taker->epoch = 0;
    return !taker->site || json_need_u64(request, "epoch", &taker->epoch, error);
}

bool handle_begin(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);
    const char *vm, *point;
    struct taker taker;
    GError *why = NULL;
    json_t *object;

    if (!request || !json_need_string(request, "vm", &vm, error) ||
        !json_need_string(request, "point", &point, error) || !read_taker(request, &taker, error))
        return false;
    if (self->point_request)
        return session_out_of_order(frame, "another point is arriving", error);
    self->incoming = begin(self, vm, point, taker.site ? &taker : NULL, &why);
    if (!self->incoming) {
        quota_end(self->quota);
        if (uuid_is_valid(vm))
            forget_locks(self, vm);
        return session_refuse(self, frame->request, why, error);
    }
    self->point_request = frame->request;
    self->point_vm = g_strdup(vm);
    self->n_files = 0;
    object = json_object();
    json_set_u64(object, "partials", local_incoming_partials(self->incoming));
    return session_ok(self, frame->request, object, error);
}

static bool of_our_point(struct session *self, const struct frame *frame, GError **error)
{
    if (!self->point_request || frame->request != self->point_request)
        return session_out_of_order(frame, "no such point is arriving", error);
    return true;
}

bool handle_open(struct session *self, const struct frame *frame, GError **error)
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
        return session_out_of_order(frame, "files are numbered from 0", error);
    self->n_files++;
    if (!self->incoming)
        return true;
    if (!quota_take(self->quota, QUOTA_FILE_COST, &why) ||
        !incoming_open(self->incoming, name, &number, &why))
        return refuse_point(self, why, error);
    g_assert(number == file);
    return true;
}

static bool write_data(struct incoming *incoming, const struct frame_data *data, GError **error)
{
    static const uint8_t zeros[STORE_WRITE_MAX];

    return (data->len == 0 ||
            incoming_write(incoming, data->file, data->offset, data->bytes, data->len, error)) &&
           (data->zeros == 0 || incoming_write(incoming, data->file, data->offset + data->len,
                                               zeros, data->zeros, error));
}

bool handle_data(struct session *self, const struct frame *frame, GError **error)
{
    struct frame_data data;
    GError *why = NULL;

    if (!frame_parse_data(frame, &data, error))
        return false;
    if (self->bundle_request && frame->request == self->bundle_request)
        return session_take_bundle(self, frame, &data, error);
    if (!of_our_point(self, frame, error))
        return false;
    if (data.file >= self->n_files)
        return session_out_of_order(frame, "its file was not opened", error);
    if (data.len + data.zeros == 0)
        return session_out_of_order(frame, "it is empty", error);
    if (self->incoming && (!quota_take(self->quota, data.len + data.zeros, &why) ||
                           !write_data(self->incoming, &data, &why)))
        return refuse_point(self, why, error);
    return true;
}

bool handle_partial(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);
    struct sending sending = {.session = self, .request = frame->request};
    const char *target;
    GError *why = NULL;

    if (!request || !json_need_string(request, "target", &target, error))
        return false;
    if (!self->point_request)
        return session_out_of_order(frame, "no point is arriving", error);
    /* If it was refused, that is on its way. */
    if (!self->incoming)
        return sending_done(&sending, error);
    return incoming_partial(self->incoming, target, sending_piece, &sending, &why)
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

bool handle_reuse(struct session *self, const struct frame *frame, GError **error)
{
    json_auto_t *request = frame_json(frame, error);
    struct frame_reuse parts;
    GError *why = NULL;

    if (!request || !of_our_point(self, frame, error) || !reuse_parse(request, &parts, error))
        return false;
    if (parts.file >= self->n_files)
        return session_out_of_order(frame, "its file was not opened", error);
    if (parts.bytes == 0 || parts.bytes > STORE_WRITE_MAX)
        return session_out_of_order(frame, "it is empty or too long", error);
    return !self->incoming || reuse(self, &parts, &why) || refuse_point(self, why, error);
}

/* The catalog has the manifest once more. */
static bool commit(struct session *self, const struct frame *frame, GError **error)
{
    AUTO(manifest)
    manifest = manifest_parse((const char *)frame->payload, frame->len, "the manifest", error);

    if (!manifest || !check_time("the time of the point", manifest->time_ms, error) ||
        !session_check_manifest(self, manifest, error) ||
        !quota_take(self->quota, 2 * frame->len, error) ||
        !incoming_commit(self->incoming, manifest, error))
        return false;
    self->tally.points++;
    self->tally.bytes += manifest_bytes(manifest);
    return true;
}

bool handle_commit(struct session *self, const struct frame *frame, GError **error)
{
    g_autofree char *vm = g_strdup(self->point_vm);
    uint32_t request = frame->request;
    bool committed, told;
    GError *why = NULL;

    if (!of_our_point(self, frame, error))
        return false;
    if (!self->incoming) {
        /* It has been told so. */
        session_forget_point(self);
        return true;
    }
    committed = commit(self, frame, &why);
    /* The lock is free before the answer, so that the client may begin the next point at once. */
    session_forget_point(self);
    told = committed ? session_ok(self, request, NULL, error)
                     : session_refuse(self, request, why, error);
    /* The client has what it waited for; what it asks next waits for this. */
    if (committed && told)
        store_heal_vm(self->local, vm, NULL);
    return told;
}

bool handle_abort(struct session *self, const struct frame *frame, GError **error)
{
    if (!of_our_point(self, frame, error))
        return false;
    session_forget_point(self);
    return true;
}
