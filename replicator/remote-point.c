/* SPDX-License-Identifier: Apache-2.0 */
/* A point on its way to the other side. */
#include "replicator/client.h"
#include "replicator/remote.h"
#include "replicator/replicator.h"

struct remote_incoming {
    struct incoming incoming;
    struct client *client; /* borrowed */
    uint32_t request;
    unsigned n_files;
    bool has_partials;
    uint64_t sent_bytes;
    bool closed; /* it has been committed, or was refused: it needs no ABORT */
};

static bool remote_open(struct incoming *incoming, const char *name, unsigned *file, GError **error)
{
    struct remote_incoming *self = (struct remote_incoming *)incoming;
    AUTO_CLIENT client = client_enter(self->client);
    uint64_t before = wire_sent_bytes(client->wire);
    json_t *object = json_object();

    json_set_string(object, "name", name);
    json_set_u64(object, "file", self->n_files);
    if (!client_send_json(client, WIRE_OPEN, self->request, object, error))
        return false;
    self->sent_bytes += wire_sent_bytes(client->wire) - before;
    *file = self->n_files++;
    return client_point_welcome(client, error);
}

static bool remote_write(struct incoming *incoming, unsigned file, uint64_t offset,
                         const void *data, size_t len, GError **error)
{
    struct remote_incoming *self = (struct remote_incoming *)incoming;
    AUTO_CLIENT client = client_enter(self->client);
    uint64_t before = wire_sent_bytes(client->wire);

    if (!client_point_welcome(client, error) ||
        !client_send_bytes(client, self->request, file, offset, data, len, error))
        return false;
    self->sent_bytes += wire_sent_bytes(client->wire) - before;
    return true;
}

static bool remote_partial(struct incoming *incoming, const char *target, store_sink_fn *sink,
                           void *context, GError **error)
{
    struct remote_incoming *self = (struct remote_incoming *)incoming;
    AUTO_CLIENT client = client_enter(self->client);
    uint64_t before = wire_sent_bytes(client->wire);
    struct remote_pieces get = {.sink = sink, .context = context};
    json_auto_t *result = NULL;
    json_t *object;

    if (!self->has_partials)
        return true;
    object = json_object();
    json_set_string(object, "target", target);
    if (!client_ask(client, WIRE_PARTIAL, object, remote_take_piece, &get, &result, error))
        return false;
    self->sent_bytes += wire_sent_bytes(client->wire) - before;
    return remote_all_arrived(result, &get, 0, "what is there", error);
}

static bool remote_reuse(struct incoming *incoming, unsigned file, uint64_t offset, size_t len,
                         const struct partial_place *from, GError **error)
{
    struct remote_incoming *self = (struct remote_incoming *)incoming;
    AUTO_CLIENT client = client_enter(self->client);
    uint64_t before = wire_sent_bytes(client->wire);
    json_t *object = json_object();

    json_set_u64(object, "file", file);
    json_set_u64(object, "offset", offset);
    json_set_u64(object, "bytes", len);
    json_set_u64(object, "partial", from->partial);
    json_set_u64(object, "at", from->offset);
    if (!client_send_json(client, WIRE_REUSE, self->request, object, error))
        return false;
    self->sent_bytes += wire_sent_bytes(client->wire) - before;
    return client_point_welcome(client, error);
}

/* Whatever ended the session while the other side was committing: nobody knows whether it has. */
static bool outcome_unknown(struct client *client, GError **error)
{
    g_clear_error(error);
    return fail(error, ERROR_NETWORK,
                "the connection was lost during the commit (%s): the point may exist or not, the "
                "next run finds out",
                client->lost);
}

static bool remote_commit(struct incoming *incoming, const struct manifest *manifest,
                          GError **error)
{
    struct remote_incoming *self = (struct remote_incoming *)incoming;
    AUTO_CLIENT client = client_enter(self->client);
    uint64_t before = wire_sent_bytes(client->wire);
    g_autofree char *text = manifest_text(manifest);
    json_auto_t *result = NULL;

    if (!client_point_welcome(client, error) ||
        !client_send_text(client, WIRE_COMMIT, self->request, text, error))
        return false;
    self->closed = true;
    self->sent_bytes += wire_sent_bytes(client->wire) - before;
    if (client_answer(client, self->request, LINK_FOREVER, NULL, NULL, &result, error))
        return true;
    return client->lost ? outcome_unknown(client, error) : false;
}

static uint64_t remote_sent_bytes(const struct incoming *incoming)
{
    return ((const struct remote_incoming *)incoming)->sent_bytes;
}

static void remote_incoming_free(struct incoming *incoming)
{
    struct remote_incoming *self = (struct remote_incoming *)incoming;
    AUTO_CLIENT client = client_enter(self->client);

    if (!self->closed)
        client_send_json(client, WIRE_ABORT, self->request, NULL, NULL);
    client->point = 0;
    g_clear_error(&client->point_refused);
    g_free(self);
}

static const struct incoming_ops remote_incoming_ops = {
    .open = remote_open,
    .write = remote_write,
    .partial = remote_partial,
    .reuse = remote_reuse,
    .commit = remote_commit,
    .sent_bytes = remote_sent_bytes,
    .free = remote_incoming_free,
};

struct incoming *remote_begin_point(struct client *client_of_store, const char *vm_uuid,
                                    const char *point, const struct taker *taker, GError **error)
{
    AUTO_CLIENT client = client_enter(client_of_store);
    uint64_t before = wire_sent_bytes(client->wire), partials;
    json_auto_t *result = NULL;
    json_t *object;
    struct remote_incoming *self;

    if (client->point) {
        fail(error, ERROR_CONFLICT, "another point is on its way on this connection");
        return NULL;
    }
    object = json_object();
    json_set_string(object, "vm", vm_uuid);
    json_set_string(object, "point", point);
    if (taker) {
        json_set_string(object, "site", taker->site);
        json_set_u64(object, "epoch", taker->epoch);
    }
    if (!client_ask(client, WIRE_BEGIN, object, NULL, NULL, &result, error))
        return NULL;
    self = g_new0(struct remote_incoming, 1);
    self->incoming.ops = &remote_incoming_ops;
    self->client = client;
    self->request = client->last_request;
    self->has_partials = json_need_u64(result, "partials", &partials, NULL) && partials > 0;
    self->sent_bytes = wire_sent_bytes(client->wire) - before;
    client->point = self->request;
    return &self->incoming;
}
