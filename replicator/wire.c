/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "replicator/wire.h"

#define DIGEST_AT 12
#define FRAME_DIGEST_SIZE (WIRE_HEADER - DIGEST_AT)
#define MESSAGE_MAX 2000
/* Zeros are looked for in pieces of this size. */
#define ZERO_PAGE ((size_t)4096)

struct wire {
    struct link *link;
    struct digest *digest;
    uint8_t
        *out; /* one whole frame: a small write of its own for the header would be an ssh packet */
    uint8_t *in;
    uint64_t sent_bytes;
    wire_look_fn *look; /* or NULL */
    void *look_context;
    int look_ms;
};

static const char *const type_names[] = {
    [WIRE_HELLO] = "HELLO",
    [WIRE_INFO] = "INFO",
    [WIRE_POINTS] = "POINTS",
    [WIRE_BEGIN] = "BEGIN",
    [WIRE_OPEN] = "OPEN",
    [WIRE_DATA] = "DATA",
    [WIRE_COMMIT] = "COMMIT",
    [WIRE_ABORT] = "ABORT",
    [WIRE_BUNDLE_ID] = "BUNDLE-ID",
    [WIRE_BUNDLE_GET] = "BUNDLE-GET",
    [WIRE_BUNDLE_PUT] = "BUNDLE-PUT",
    [WIRE_PING] = "PING",
    [WIRE_GET] = "GET",
    [WIRE_SIMILAR] = "SIMILAR",
    [WIRE_PRUNE] = "PRUNE",
    [WIRE_PARTIAL] = "PARTIAL",
    [WIRE_REUSE] = "REUSE",
    [WIRE_DAMAGED] = "DAMAGED",
    [WIRE_OWNERS] = "OWNERS",
    [WIRE_PUT_OWNER] = "PUT-OWNER",
    [WIRE_COMMAND] = "COMMAND",
    [WIRE_PUT_OWNERS] = "PUT-OWNERS",
    [WIRE_OK] = "OK",
    [WIRE_ERROR] = "ERROR",
    [WIRE_MANIFEST] = "MANIFEST",
    [WIRE_DECISION] = "DECISION",
    [WIRE_OWNER] = "OWNER",
    [WIRE_NOTE] = "NOTE",
};

const char *wire_type_name(unsigned type)
{
    return type < G_N_ELEMENTS(type_names) ? type_names[type] : NULL;
}

static void put_u32(uint8_t *at, uint32_t value)
{
    value = GUINT32_TO_LE(value);
    memcpy(at, &value, sizeof(value));
}

static void put_u64(uint8_t *at, uint64_t value)
{
    value = GUINT64_TO_LE(value);
    memcpy(at, &value, sizeof(value));
}

static uint32_t get_u32(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return GUINT32_FROM_LE(value);
}

static uint64_t get_u64(const uint8_t *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof(value));
    return GUINT64_FROM_LE(value);
}

struct wire *wire_new(struct link *link)
{
    struct wire *wire = g_new0(struct wire, 1);

    wire->link = link;
    wire->digest = digest_new();
    wire->out = g_malloc(WIRE_HEADER + WIRE_PAYLOAD_MAX);
    wire->in = g_malloc(WIRE_HEADER + WIRE_PAYLOAD_MAX);
    return wire;
}

void wire_free(struct wire *wire)
{
    if (!wire)
        return;
    link_free(wire->link);
    digest_free(wire->digest);
    g_free(wire->out);
    g_free(wire->in);
    g_free(wire);
}

uint64_t wire_sent_bytes(const struct wire *wire)
{
    return wire->sent_bytes;
}

char *wire_last_words(struct wire *wire)
{
    return wire->link->ops->last_words(wire->link);
}

static void frame_digest(struct wire *wire, const uint8_t *frame, size_t len,
                         uint8_t out[DIGEST_SIZE])
{
    digest_update(wire->digest, frame, DIGEST_AT);
    digest_update(wire->digest, frame + WIRE_HEADER, len);
    digest_final(wire->digest, out);
}

/* Send the LEN bytes of payload that lie in wire->out already. */
static bool send_out(struct wire *wire, enum wire_type type, uint32_t request, size_t len,
                     GError **error)
{
    uint8_t digest[DIGEST_SIZE];

    put_u32(wire->out, (uint32_t)len);
    put_u32(wire->out + 4, (uint32_t)type);
    put_u32(wire->out + 8, request);
    frame_digest(wire, wire->out, len, digest);
    memcpy(wire->out + DIGEST_AT, digest, FRAME_DIGEST_SIZE);
    if (!wire->link->ops->write(wire->link, wire->out, WIRE_HEADER + len, error))
        return false;
    wire->sent_bytes += WIRE_HEADER + len;
    return true;
}

bool wire_send(struct wire *wire, enum wire_type type, uint32_t request, const void *payload,
               size_t len, GError **error)
{
    if (len > WIRE_CONTROL_MAX)
        return fail(error, ERROR_FAILED, "%s does not fit into a frame: %zu bytes of at most %u",
                    wire_type_name(type), len, WIRE_CONTROL_MAX);
    if (len)
        memcpy(wire->out + WIRE_HEADER, payload, len);
    return send_out(wire, type, request, len, error);
}

bool wire_send_json(struct wire *wire, enum wire_type type, uint32_t request, json_t *object,
                    GError **error)
{
    json_auto_t *owned = object ? object : json_object();
    g_autofree char *text = json_text(owned, 0);

    return wire_send(wire, type, request, text, strlen(text), error);
}

bool wire_send_data(struct wire *wire, uint32_t request, const struct frame_data *data,
                    GError **error)
{
    uint8_t *payload = wire->out + WIRE_HEADER;

    g_assert(data->len + data->zeros <= STORE_WRITE_MAX);
    put_u32(payload, data->file);
    put_u32(payload + 4, data->zeros);
    put_u64(payload + 8, data->offset);
    if (data->len)
        memcpy(payload + WIRE_DATA_HEADER, data->bytes, data->len);
    return send_out(wire, WIRE_DATA, request, WIRE_DATA_HEADER + data->len, error);
}

/* How many bytes from AT on are pages of zeros (ZERO), or pages that are not. */
static size_t run_of_pages(const uint8_t *data, size_t len, size_t at, bool zero)
{
    size_t end = at;

    while (end < len && bytes_are_zero(data + end, MIN(ZERO_PAGE, len - end)) == zero)
        end = MIN(end + ZERO_PAGE, len);
    return end - at;
}

bool wire_send_bytes(struct wire *wire, uint32_t request, unsigned file, uint64_t offset,
                     const uint8_t *bytes, size_t len, GError **error)
{
    for (size_t at = 0; at < len;) {
        struct frame_data piece = {.file = file, .offset = offset + at, .bytes = bytes + at};

        piece.len = run_of_pages(bytes, len, at, false);
        piece.zeros = (uint32_t)run_of_pages(bytes, len, at + piece.len, true);
        if (!wire_send_data(wire, request, &piece, error))
            return false;
        at += piece.len + piece.zeros;
    }
    return true;
}

json_t *wire_error_json(const GError *what)
{
    g_autofree char *message = text_harmless(what->message, MESSAGE_MAX);
    json_t *object = json_object();

    json_set_string(object, "kind", error_kind_name(error_kind_of(what)));
    json_set_string(object, "message", message);
    return object;
}

bool wire_send_error(struct wire *wire, uint32_t request, const GError *what, GError **error)
{
    return wire_send_json(wire, WIRE_ERROR, request, wire_error_json(what), error);
}

void wire_set_look(struct wire *wire, int every_ms, wire_look_fn *look, void *context)
{
    wire->look = look;
    wire->look_context = context;
    wire->look_ms = every_ms;
}

/* At least one byte; waits in slices, to look around between them. */
static enum link_state read_some(struct wire *wire, uint8_t *data, size_t len, int timeout_ms,
                                 size_t *got, GError **error)
{
    const struct link_ops *ops = wire->link->ops;
    int64_t start_ms = time_monotonic_ms(), silent_ms = 0;

    while (wire->look && (timeout_ms < 0 || silent_ms + wire->look_ms < timeout_ms)) {
        enum link_state state = ops->read(wire->link, data, len, wire->look_ms, got, error);

        if (state != LINK_NOTHING)
            return state;
        silent_ms = time_monotonic_ms() - start_ms;
        if (!wire->look(wire->look_context, silent_ms, error))
            return LINK_FAILED;
    }
    return ops->read(wire->link, data, len,
                     timeout_ms < 0 ? timeout_ms : (int)MAX(timeout_ms - silent_ms, 0), got, error);
}

/* Read exactly LEN bytes; TIMEOUT_MS is for the first one. */
static enum link_state read_full(struct wire *wire, uint8_t *data, size_t len, int timeout_ms,
                                 GError **error)
{
    for (size_t done = 0, got = 0; done < len; done += got) {
        enum link_state state = read_some(wire, data + done, len - done,
                                          done ? WIRE_STALL_MS : timeout_ms, &got, error);

        if (state == LINK_DATA)
            continue;
        if (state == LINK_NOTHING && done)
            fail(error, ERROR_NETWORK, "the other side fell silent in the middle of a frame");
        else if (state == LINK_END && done)
            fail(error, ERROR_NETWORK, "the other side hung up in the middle of a frame");
        else
            return state;
        return LINK_FAILED;
    }
    return LINK_DATA;
}

/* What a login shell prints is the most likely reason for a bad header, so show what came. */
static bool header_fail(const uint8_t *header, const char *why, GError **error)
{
    g_autofree char *raw = g_strndup((const char *)header, WIRE_HEADER);
    g_autofree char *text = text_harmless(raw, WIRE_HEADER);

    return fail(error, ERROR_INTEGRITY,
                "what arrived is no frame of drctl (%s): \"%s\"; if that is text, the other side's "
                "shell start-up files must not print anything",
                why, text);
}

static bool header_check(const uint8_t *header, struct frame *frame, GError **error)
{
    uint32_t type = get_u32(header + 4); /* the three zero bytes make it the type alone */
    size_t max = type == WIRE_DATA ? WIRE_PAYLOAD_MAX : WIRE_CONTROL_MAX;

    if (!wire_type_name(type))
        return header_fail(header, "unknown type", error);
    frame->type = (enum wire_type)type;
    frame->len = get_u32(header);
    frame->request = get_u32(header + 8);
    if (frame->len > max)
        return header_fail(header, "too long", error);
    return true;
}

enum link_state wire_receive(struct wire *wire, int timeout_ms, struct frame *frame, GError **error)
{
    enum link_state state = read_full(wire, wire->in, WIRE_HEADER, timeout_ms, error);
    uint8_t digest[DIGEST_SIZE];

    if (state != LINK_DATA)
        return state;
    if (!header_check(wire->in, frame, error))
        return LINK_FAILED;
    frame->payload = wire->in + WIRE_HEADER;
    state = read_full(wire, wire->in + WIRE_HEADER, frame->len, WIRE_STALL_MS, error);
    if (state == LINK_FAILED)
        return state;
    if (state != LINK_DATA) {
        fail(error, ERROR_NETWORK, "the other side hung up in the middle of a frame");
        return LINK_FAILED;
    }
    frame_digest(wire, wire->in, frame->len, digest);
    if (memcmp(digest, wire->in + DIGEST_AT, FRAME_DIGEST_SIZE) != 0) {
        fail(error, ERROR_INTEGRITY, "a %s frame was damaged on its way: its digest does not match",
             wire_type_name(frame->type));
        return LINK_FAILED;
    }
    return LINK_DATA;
}

json_t *frame_json(const struct frame *frame, GError **error)
{
    json_auto_t *json =
        json_parse((const char *)frame->payload, frame->len, wire_type_name(frame->type), error);

    if (json && !json_is_object(json)) {
        fail(error, ERROR_INTEGRITY, "%s is not a JSON object", wire_type_name(frame->type));
        return NULL;
    }
    return g_steal_pointer(&json);
}

bool frame_parse_data(const struct frame *frame, struct frame_data *out, GError **error)
{
    if (frame->len < WIRE_DATA_HEADER)
        return fail(error, ERROR_INTEGRITY, "a DATA frame without its header");
    out->file = get_u32(frame->payload);
    out->zeros = get_u32(frame->payload + 4);
    out->offset = get_u64(frame->payload + 8);
    out->bytes = frame->payload + WIRE_DATA_HEADER;
    out->len = frame->len - WIRE_DATA_HEADER;
    if (out->zeros > STORE_WRITE_MAX - out->len)
        return fail(error, ERROR_INTEGRITY, "a DATA frame with %u zeros", out->zeros);
    return true;
}

static enum error_kind kind_from_name(const char *name)
{
    for (int kind = ERROR_FAILED; kind <= ERROR_CANCELLED; kind++) {
        if (strcmp(error_kind_name((enum error_kind)kind), name) != 0)
            continue;
        /* It was not our user who interrupted it, nor our command line that is wrong. */
        if (kind == ERROR_CANCELLED)
            return ERROR_NETWORK;
        return kind == ERROR_USAGE ? ERROR_FAILED : (enum error_kind)kind;
    }
    return ERROR_FAILED;
}

bool wire_error_fail(const json_t *object, GError **error)
{
    g_autofree char *harmless = NULL;
    const char *kind, *message;

    if (!json_need_string(object, "kind", &kind, error) ||
        !json_need_string(object, "message", &message, error))
        return false;
    harmless = text_harmless(message, MESSAGE_MAX);
    return fail(error, kind_from_name(kind), "%s", harmless);
}

bool frame_fail(const struct frame *frame, GError **error)
{
    json_auto_t *object = frame_json(frame, error);

    return object && wire_error_fail(object, error);
}

char *text_last_lines(const char *text, unsigned lines)
{
    g_autofree char *all = g_strstrip(g_strdup(text));
    g_auto(GStrv) each = g_strsplit(all, "\n", -1);
    unsigned n = g_strv_length(each);
    g_autofree char *last = g_strjoinv("; ", each + (n > lines ? n - lines : 0));

    return text_harmless(last, MESSAGE_MAX);
}
