/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "replicator/client.h"

#define HELLO_TIMEOUT_MS 30000
#define FAREWELL_TIMEOUT_MS 5000 /* for the error that the other side sent before it hung up */
#define VERSION_SHOWN 64

/* --- Losing the connection ------------------------------------------------------------------ */

bool client_alive(struct client *self, GError **error)
{
    if (!self->lost)
        return true;
    return fail(error, ERROR_NETWORK,
                "the connection is lost (%s); what is committed there is safe. Run the command "
                "again once `drctl site check %s` succeeds",
                self->lost, self->name);
}

/* The link is of no more use. WHY (taken) is its error, or NULL when it ended. */
static bool lose(struct client *self, GError *why, GError **error)
{
    g_autofree char *words = NULL;

    if (error_is(why, ERROR_CANCELLED)) {
        self->lost = g_strdup("interrupted");
        g_propagate_error(error, why);
        return false;
    }
    words = wire_last_words(self->wire);
    self->lost = g_strdup(words ? words : why ? why->message : "the other side hung up");
    g_clear_error(&why);
    return client_alive(self, error);
}

/* The other side ends the session, or breaks its rules so that nothing can be understood any more.
 * Takes WHY. */
static bool lose_for(struct client *self, GError *why, GError **error)
{
    self->lost = g_strdup(why->message);
    g_propagate_error(error, why);
    return false;
}

bool client_unexpected(const struct frame *frame, GError **error)
{
    return fail(error, ERROR_INTEGRITY, "the other side sent %s where nobody asked for it",
                wire_type_name(frame->type));
}

/* An ERROR frame that is not the answer to what we wait for; false when it ends the session. */
static bool take_error(struct client *self, const struct frame *frame, GError **error)
{
    GError *why = NULL;

    frame_fail(frame, &why);
    if (frame->request == 0)
        return lose_for(self, why, error);
    if (self->point && frame->request == self->point && !self->point_refused)
        self->point_refused = g_steal_pointer(&why);
    /* Else it is of a point that we have given up meanwhile. */
    g_clear_error(&why);
    return true;
}

/* --- Sending -------------------------------------------------------------------------------- */

/* A frame could not be written. The reason may be on its way to us. Takes WHY. */
static bool write_failed(struct client *self, GError *why, GError **error)
{
    struct frame frame;

    while (!error_is(why, ERROR_CANCELLED) &&
           wire_receive(self->wire, FAREWELL_TIMEOUT_MS, &frame, NULL) == LINK_DATA) {
        if (frame.type != WIRE_ERROR || frame.request != 0)
            continue;
        g_clear_error(&why);
        return take_error(self, &frame, error);
    }
    return lose(self, why, error);
}

/* After wire_send*(): RESULT and WHY (taken) are what it returned. */
static bool sent(struct client *self, bool result, GError *why, GError **error)
{
    self->sent_ms = time_monotonic_ms();
    return result ? true : write_failed(self, why, error);
}

bool client_send_text(struct client *self, enum wire_type type, uint32_t request, const char *text,
                      GError **error)
{
    GError *why = NULL;
    bool result;

    if (strlen(text) > WIRE_CONTROL_MAX)
        return fail(error, ERROR_FAILED, "%s does not fit into a frame: %zu bytes of at most %u",
                    wire_type_name(type), strlen(text), WIRE_CONTROL_MAX);
    if (!client_alive(self, error))
        return false;
    result = wire_send(self->wire, type, request, text, strlen(text), &why);
    return sent(self, result, why, error);
}

bool client_send_json(struct client *self, enum wire_type type, uint32_t request, json_t *object,
                      GError **error)
{
    json_auto_t *owned = object ? object : json_object();
    g_autofree char *text = json_text(owned, 0);

    return client_send_text(self, type, request, text, error);
}

bool client_send_data(struct client *self, uint32_t request, const struct frame_data *data,
                      GError **error)
{
    GError *why = NULL;
    bool result;

    if (!client_alive(self, error))
        return false;
    result = wire_send_data(self->wire, request, data, &why);
    return sent(self, result, why, error);
}

bool client_send_bytes(struct client *self, uint32_t request, unsigned file, uint64_t offset,
                       const uint8_t *bytes, size_t len, GError **error)
{
    GError *why = NULL;
    bool result;

    if (!client_alive(self, error))
        return false;
    result = wire_send_bytes(self->wire, request, file, offset, bytes, len, &why);
    return sent(self, result, why, error);
}

/* The server hangs up on a client that is silent for SERVE_IDLE_S, so that a dead link does not
 * keep a VM's place. */
static bool break_silence(struct client *self, GError **error)
{
    return time_monotonic_ms() - self->sent_ms < self->ping_ms ||
           client_send_json(self, WIRE_PING, 0, NULL, error);
}

/* --- Answers -------------------------------------------------------------------------------- */

/* The next frame; when there is none any more the session is over. */
static enum link_state receive(struct client *self, int timeout_ms, struct frame *frame,
                               GError **error)
{
    GError *why = NULL;
    enum link_state state = wire_receive(self->wire, timeout_ms, frame, &why);

    if (state == LINK_DATA || state == LINK_NOTHING)
        return state;
    if (error_is(why, ERROR_INTEGRITY))
        lose_for(self, why, error);
    else
        lose(self, why, error);
    return LINK_FAILED;
}

/* What an OK says. */
static bool take_ok(struct client *self, const struct frame *frame, json_t **result, GError **error)
{
    GError *why = NULL;

    *result = frame_json(frame, &why);
    return *result ? true : lose_for(self, why, error);
}

static bool take_item(struct client *self, const struct frame *frame, client_item_fn *item,
                      void *context, GError **error)
{
    GError *why = NULL;

    if (item ? item(frame, context, &why) : client_unexpected(frame, &why))
        return true;
    return lose_for(self, why, error);
}

bool client_answer(struct client *self, uint32_t request, int timeout_ms, client_item_fn *item,
                   void *context, json_t **result, GError **error)
{
    struct frame frame;

    for (;;) {
        enum link_state state = receive(self, timeout_ms, &frame, error);
        bool ours, fine;

        if (state == LINK_NOTHING)
            return lose(self, NULL, error);
        if (state == LINK_FAILED)
            return false;
        ours = frame.request == request;
        if (frame.type == WIRE_ERROR && ours)
            return frame_fail(&frame, error);
        if (frame.type == WIRE_OK && ours)
            return take_ok(self, &frame, result, error);
        fine = frame.type == WIRE_ERROR
                   ? take_error(self, &frame, error)
                   : take_item(self, &frame, ours ? item : NULL, context, error);
        /* With a bandwidth limit an answer can take longer than the other side waits for us. */
        if (!fine || !break_silence(self, error))
            return false;
    }
}

bool client_ask(struct client *self, enum wire_type type, json_t *object, client_item_fn *item,
                void *context, json_t **result, GError **error)
{
    uint32_t request = ++self->last_request;

    return client_send_json(self, type, request, object, error) &&
           client_answer(self, request, LINK_FOREVER, item, context, result, error);
}

bool client_point_welcome(struct client *self, GError **error)
{
    struct frame frame;

    if (!client_alive(self, error))
        return false;
    while (!self->point_refused) {
        enum link_state state = receive(self, 0, &frame, error);

        if (state == LINK_NOTHING)
            return true;
        if (state == LINK_FAILED)
            return false;
        if (frame.type == WIRE_ERROR ? !take_error(self, &frame, error)
                                     : !take_item(self, &frame, NULL, NULL, error))
            return false;
    }
    g_propagate_error(error, g_error_copy(self->point_refused));
    return false;
}

/* --- The session ---------------------------------------------------------------------------- */

struct client *client_enter(struct client *self)
{
    g_mutex_lock(&self->lock);
    return self;
}

void client_leave(struct client **self)
{
    g_mutex_unlock(&(*self)->lock);
}

/* A caller that reads a large empty disk has nothing to say for a long time. */
static void *ping(void *data)
{
    AUTO_CLIENT self = client_enter(data);

    while (!self->stopping) {
        gint64 until = g_get_monotonic_time() + self->ping_ms * G_TIME_SPAN_MILLISECOND;

        while (!self->stopping && g_cond_wait_until(&self->wake, &self->lock, until))
            ;
        if (!self->stopping && !self->lost)
            break_silence(self, NULL);
    }
    return NULL;
}

static bool has_feature(const json_t *hello, const char *name)
{
    const json_t *feature;
    size_t i;

    json_array_foreach(json_object_get(hello, "features"), i, feature)
    {
        if (g_strcmp0(json_string_value(feature), name) == 0)
            return true;
    }
    return false;
}

static bool hello(struct client *self, GError **error)
{
    uint32_t request = ++self->last_request;
    json_t *object = json_object();
    json_auto_t *result = NULL;
    g_autofree char *version = NULL;
    const char *text;
    uint64_t protocol;

    json_set_string(object, "drctl", DRCTL_VERSION);
    json_set_u64(object, "protocol", WIRE_PROTOCOL);
    json_object_set_new(object, "features", json_array());
    if (!client_send_json(self, WIRE_HELLO, request, object, error) ||
        !client_answer(self, request, HELLO_TIMEOUT_MS, NULL, NULL, &result, error) ||
        !json_need_string(result, "drctl", &text, error) ||
        !json_need_u64(result, "protocol", &protocol, error))
        return false;
    self->may_command = has_feature(result, WIRE_FEATURE_COMMAND);
    version = text_harmless(text, VERSION_SHOWN);
    self->knows_owners = has_feature(result, WIRE_FEATURE_OWNERS);
    self->knows_put_owners = has_feature(result, WIRE_FEATURE_PUT_OWNERS);
    self->knows_pool = has_feature(result, WIRE_FEATURE_POOL);
    if (protocol == WIRE_PROTOCOL)
        return true;
    return fail(error, ERROR_CONFIG,
                "the two drctl do not understand each other: protocol %u here (drctl %s), protocol "
                "%" PRIu64 " there (drctl %s); update drctl %s",
                WIRE_PROTOCOL, DRCTL_VERSION, protocol, version,
                protocol < WIRE_PROTOCOL ? "there" : "here");
}

struct client *client_new(struct link *link, const char *name, int ping_ms, GError **error)
{
    struct client *self = g_new0(struct client, 1);

    self->name = g_strdup(name);
    self->ping_ms = ping_ms;
    self->wire = wire_new(link);
    g_mutex_init(&self->lock);
    g_cond_init(&self->wake);
    if (!hello(self, error)) {
        g_prefix_error(error, "%s: ", name);
        client_free(self);
        return NULL;
    }
    self->pinger = g_thread_new("drctl-ping", ping, self);
    return self;
}

void client_free(struct client *self)
{
    if (!self)
        return;
    if (self->pinger) {
        g_mutex_lock(&self->lock);
        self->stopping = true;
        g_cond_signal(&self->wake);
        g_mutex_unlock(&self->lock);
        g_thread_join(self->pinger);
    }
    wire_free(self->wire);
    g_mutex_clear(&self->lock);
    g_cond_clear(&self->wake);
    g_clear_error(&self->point_refused);
    g_free(self->lost);
    g_free(self->name);
    g_free(self);
}
