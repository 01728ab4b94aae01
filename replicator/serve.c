/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>

#include "replicator/local.h"
#include "replicator/serve.h"
#include "replicator/session.h"

/* How often a session that waits looks around before it may give way. */
#define LOOKS 15

/* --- Answers -------------------------------------------------------------------------------- */

bool session_ok(struct session *self, uint32_t request, json_t *object, GError **error)
{
    return wire_send_json(self->wire, WIRE_OK, request, object, error);
}

bool session_refuse(struct session *self, uint32_t request, GError *why, GError **error)
{
    bool sent = wire_send_error(self->wire, request, why, error);

    self->tally.refused++;
    g_error_free(why);
    return sent;
}

bool session_out_of_order(const struct frame *frame, const char *why, GError **error)
{
    return fail(error, ERROR_INTEGRITY, "%s out of order: %s", wire_type_name(frame->type), why);
}

bool sending_piece(void *context, const void *data, size_t len, GError **error)
{
    struct sending *self = context;

    self->broken =
        !wire_send_bytes(self->session->wire, self->request, 0, self->at, data, len, error);
    self->at += len;
    return !self->broken;
}

bool sending_done(struct sending *self, GError **error)
{
    json_t *object = json_object();

    json_set_u64(object, "bytes", self->at - self->offset);
    return session_ok(self->session, self->request, object, error);
}

bool sending_failed(struct sending *self, GError *why, GError **error)
{
    if (!self->broken)
        return session_refuse(self->session, self->request, why, error);
    g_propagate_error(error, why);
    return false;
}

/* --- What a key may do ---------------------------------------------------------------------- */

/* What a request does with the store. All that a session may say beside it every role may. */
enum {
    REQUEST = 1, /* has a number of its own, that must grow */
    CHANGES = 2, /* removes or changes what is committed */
    ADDS = 4,
    READS = 8, /* the content of bundles; of points handle_get() sees to that */
};

static const struct {
    unsigned may;
    const char *only; /* what its key may do, and by which option */
} roles[] = {
    [SERVE_ALL] = {CHANGES | ADDS | READS, NULL},
    [SERVE_APPEND_ONLY] = {ADDS | READS,
                           "add points, but neither remove nor change any (drctl serve "
                           "--append-only); do it at this site itself"},
    [SERVE_PUSH] =
        {ADDS, "add points, but neither remove, change nor read any (drctl serve --role push); "
               "do it at this site itself, or with another key"},
    [SERVE_PULL] = {READS,
                    "read points, but neither add, remove nor change any (drctl serve --role "
                    "pull); do it with another key"},
};

static GError *role_error(const struct session *self, enum wire_type type)
{
    return g_error_new(DRCTL_ERROR, ERROR_AUTH, "%s is refused: this key may %s",
                       wire_type_name(type), roles[self->role].only);
}

bool session_reads(const struct session *self)
{
    return roles[self->role].may & READS;
}

/* --- The session ---------------------------------------------------------------------------- */

/* What the client may ask for beside what every server of this protocol understands. */
static json_t *features(const struct session *self)
{
    json_t *features = json_array();

    json_array_append_new(features, json_string(WIRE_FEATURE_OWNERS));
    json_array_append_new(features, json_string(WIRE_FEATURE_PUT_OWNERS));
    json_array_append_new(features, json_string(WIRE_FEATURE_POOL));
    if (self->commander)
        json_array_append_new(features, json_string(WIRE_FEATURE_COMMAND));
    return features;
}

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
    json_object_set_new(object, "features", features(self));
    return session_ok(self, frame->request, object, error);
}

static bool handle_ping(struct session *self, const struct frame *frame, GError **error)
{
    return true;
}

static const struct {
    bool (*handle)(struct session *self, const struct frame *frame, GError **error);
    unsigned kind;
} handlers[] = {
    [WIRE_HELLO] = {handle_hello, REQUEST},
    [WIRE_INFO] = {handle_info, REQUEST},
    [WIRE_POINTS] = {handle_points, REQUEST},
    [WIRE_BEGIN] = {handle_begin, REQUEST | ADDS},
    [WIRE_OPEN] = {handle_open, 0},
    [WIRE_DATA] = {handle_data, 0},
    [WIRE_COMMIT] = {handle_commit, 0},
    [WIRE_ABORT] = {handle_abort, 0},
    [WIRE_BUNDLE_ID] = {handle_bundle_id, REQUEST},
    [WIRE_BUNDLE_GET] = {handle_bundle_get, REQUEST | READS},
    [WIRE_BUNDLE_PUT] = {handle_bundle_put, REQUEST | ADDS},
    [WIRE_PING] = {handle_ping, 0},
    [WIRE_GET] = {handle_get, REQUEST},
    [WIRE_SIMILAR] = {handle_similar, REQUEST | ADDS},
    [WIRE_PRUNE] = {handle_prune, REQUEST | CHANGES},
    [WIRE_PARTIAL] = {handle_partial, REQUEST},
    [WIRE_REUSE] = {handle_reuse, 0},
    [WIRE_DAMAGED] = {handle_damaged, REQUEST},
    [WIRE_OWNERS] = {handle_owners, REQUEST},
    [WIRE_PUT_OWNER] = {handle_put_owner, REQUEST | ADDS},
    [WIRE_COMMAND] = {handle_command, REQUEST},
    [WIRE_PUT_OWNERS] = {handle_put_owners, REQUEST | ADDS},
};

static bool dispatch(struct session *self, const struct frame *frame, GError **error)
{
    unsigned type = frame->type;

    if (type >= G_N_ELEMENTS(handlers) || !handlers[type].handle)
        return session_out_of_order(frame, "it is an answer, not a request", error);
    if (self->greeted == (type == WIRE_HELLO))
        return session_out_of_order(frame, "HELLO comes first, and once", error);
    if (type != WIRE_HELLO && !self->understood)
        return session_out_of_order(frame, "we do not speak the same protocol", error);
    if (handlers[type].kind & REQUEST) {
        if (frame->request <= self->last_request)
            return session_out_of_order(frame, "its number is not higher than the one before",
                                        error);
        self->last_request = frame->request;
    }
    if (handlers[type].kind & ~(REQUEST | roles[self->role].may))
        return session_refuse(self, frame->request, role_error(self, frame->type), error);
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

    self->idle_ms = idle_ms;
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
    struct namespace *namespace =
        namespace_new(rules->sites, ((const struct local_store *)local)->site);
    struct session self = {.local = local,
                           .role = rules->role,
                           .namespace = namespace,
                           .commander = rules->commander,
                           .quota = quota_new(local, rules->quota, namespace),
                           .wire = wire_new(link)};
    GError *why = NULL;
    bool done = session_run(&self, idle_ms, &why);

    session_forget_point(&self);
    g_clear_pointer(&self.bundle, g_byte_array_unref);
    if (!done) {
        /* If it still hears us. */
        wire_send_error(self.wire, 0, why, NULL);
        g_propagate_error(error, why);
    }
    if (rules->tally)
        *rules->tally = self.tally;
    quota_free(self.quota);
    namespace_free(namespace);
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
