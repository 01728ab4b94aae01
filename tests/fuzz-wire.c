/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of all that comes from the other side. The first byte says what the rest is:
 *
 *     r   bytes on the link, for the frame decoder alone
 *     s   frames for a server with a real store, whose check refuses every point
 *     q   the same, append-only and with a quota
 *     o   the same for an operator, whose commands are true(1)
 *     c   frames for a client, which asks for one thing after the other
 *     u   SHA256SUMS of a point
 *
 * Frames are {type u8, request u8, length u16 little-endian, payload}: the digests are made right
 * here, because no fuzzer finds them. One of type 255 ends a session, and another begins: it finds
 * what has arrived of a point.
 */
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "replicator/remote.h"
#include "replicator/replicator.h"
#include "replicator/serve.h"
#include "replicator/sums.h"
#include "replicator/wire.h"
#include "tests/fuzz.h"
#include "tests/points.h"

#define RECORD_HEADER 4
#define END_OF_SESSION 255

/* Gives what it holds, and swallows what is written. */
struct memory_link {
    struct link link;
    GByteArray *bytes;
    size_t at;
    bool records; /* what is written goes to BYTES */
};

static bool memory_write(struct link *link, const void *data, size_t len, GError **error)
{
    struct memory_link *self = (struct memory_link *)link;

    if (self->records)
        g_byte_array_append(self->bytes, data, (unsigned)len);
    return true;
}

static enum link_state memory_read(struct link *link, void *data, size_t len, int timeout_ms,
                                   size_t *got, GError **error)
{
    struct memory_link *self = (struct memory_link *)link;

    *got = MIN(len, self->bytes->len - self->at);
    if (*got == 0)
        return LINK_END;
    memcpy(data, self->bytes->data + self->at, *got);
    self->at += *got;
    return LINK_DATA;
}

static char *memory_last_words(struct link *link)
{
    return NULL;
}

static void memory_free(struct link *link)
{
    struct memory_link *self = (struct memory_link *)link;

    g_byte_array_unref(self->bytes);
    g_free(self);
}

static const struct link_ops memory_ops = {
    .write = memory_write,
    .read = memory_read,
    .last_words = memory_last_words,
    .free = memory_free,
};

static struct link *memory_link_new(GByteArray *bytes, bool records)
{
    struct memory_link *self = g_new0(struct memory_link, 1);

    self->link.ops = &memory_ops;
    self->bytes = g_byte_array_ref(bytes);
    self->records = records;
    return &self->link;
}

/* The frames of one session as they are on a link; *DATA and *LEN are what follows it. */
static GByteArray *frames(const uint8_t **data, size_t *len)
{
    GByteArray *bytes = g_byte_array_new();
    AUTO(wire) wire = wire_new(memory_link_new(bytes, true));
    uint8_t type = 0;

    while (*len >= RECORD_HEADER && type != END_OF_SESSION) {
        const uint8_t *record = *data;
        size_t payload = MIN((size_t)record[2] | (size_t)record[3] << 8, *len - RECORD_HEADER);

        type = record[0];
        if (wire_type_name(type))
            wire_send(wire, (enum wire_type)type, record[1], record + RECORD_HEADER, payload, NULL);
        *data += RECORD_HEADER + payload;
        *len -= RECORD_HEADER + payload;
    }
    return bytes;
}

static void decode(const uint8_t *data, size_t len)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    AUTO(wire) wire = NULL;
    struct frame frame;

    g_byte_array_append(bytes, data, (unsigned)len);
    wire = wire_new(memory_link_new(bytes, false));
    while (wire_receive(wire, 0, &frame, NULL) == LINK_DATA) {
        struct frame_data parts;
        G_GNUC_UNUSED json_auto_t *json = frame_json(&frame, NULL);

        if (frame_parse_data(&frame, &parts, NULL) && parts.len + WIRE_DATA_HEADER != frame.len)
            abort();
        if (frame_fail(&frame, NULL))
            abort();
    }
}

static bool refuse(const char *dir, const struct manifest *manifest, GError **error)
{
    return fail(error, ERROR_INTEGRITY, "no");
}

static const struct point_ops refuse_ops = {.check = refuse, .salvage = points_salvage};

static char *store_path;
static struct catalog *catalog;
static struct store *store;

static void close_store(void)
{
    store_free(store);
    catalog_free(catalog);
    tree_remove(store_path, NULL);
    g_free(store_path);
}

static void open_store(void)
{
    store_path = g_dir_make_tmp("drctl-fuzz-XXXXXX", NULL);
    if (!store_path || !store_create(store_path, "dr1", NULL) ||
        !(catalog = catalog_open(store_path, NULL)) ||
        !(store = store_open_local(store_path, catalog, &refuse_ops, NULL)))
        abort();
    atexit(close_store);
}

/* Nothing may be left of whatever came but what a session that broke off has had of a point. */
static void check_store(void)
{
    g_autofree char *incoming = g_build_filename(store_path, "incoming", NULL);
    g_autofree char *vms = g_build_filename(store_path, "vms", NULL);
    g_auto(GStrv) arriving = dir_list(incoming, NULL);
    g_auto(GStrv) points = dir_list(vms, NULL);

    fuzz_require(arriving && points && !points[0]);
    for (char **name = arriving; *name; name++) {
        g_autofree char *path = g_build_filename(incoming, *name, NULL);

        fuzz_require(strstr(*name, ".partial-"));
        fuzz_require(tree_remove(path, NULL));
    }
}

static void serve_sessions(const struct serve_rules *rules, const uint8_t *data, size_t len)
{
    while (len >= RECORD_HEADER) {
        g_autoptr(GByteArray) bytes = frames(&data, &len);

        serve_link(store, rules, memory_link_new(bytes, false), 0, NULL);
    }
    check_store();
}

static void ask(struct store *remote)
{
    static const char *const command[] = {"status", NULL};
    json_auto_t *result = NULL;
    struct bundle_id id = {.site = (char *)"dc1", .time = (char *)POINT_1};
    g_autoptr(GPtrArray) points = NULL;
    AUTO(bundle_id) newest = NULL;
    struct store_info info = {0};
    g_autofree char *data = NULL;
    size_t len;

    if (store_info(remote, &info, NULL))
        store_info_clear(&info);
    points = store_points(remote, VM_A, NULL);
    store_newest_bundle(remote, "dc1", &newest, NULL);
    store_get_bundle(remote, &id, &data, &len, NULL);
    points_put(remote, VM_A, POINT_1, NULL, 1000, NULL);
    store_command(remote, command, NULL, &result, NULL);
}

static void ask_server(const uint8_t *data, size_t len)
{
    g_autoptr(GByteArray) bytes = frames(&data, &len);
    AUTO(store) remote = store_open_link(memory_link_new(bytes, false), "dr1", 1000000, NULL);

    if (remote)
        ask(remote);
}

/* What was accepted once is written so that it is accepted again. */
static void read_sums(const uint8_t *data, size_t len)
{
    g_autofree char *text = g_strndup((const char *)data, len);
    g_autoptr(GString) written = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(GHashTable) sums = sums_parse(text, "SHA256SUMS", &error);
    g_autoptr(GHashTable) again = NULL;
    uint8_t digest[DIGEST_SIZE];
    GHashTableIter iter;
    void *name, *hex;

    if (!sums && (!error || !*error->message))
        abort();
    if (!sums)
        return;
    g_hash_table_iter_init(&iter, sums);
    while (g_hash_table_iter_next(&iter, &name, &hex)) {
        if (!name_is_safe(name) || !digest_from_hex(hex, digest))
            abort();
        sums_append(written, name, digest);
    }
    again = sums_parse(written->str, "what we wrote", NULL);
    if (!again || g_hash_table_size(again) != g_hash_table_size(sums))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const char *const commander[] = {"true", NULL};
    static const struct serve_rules rules = {0},
                                    adding = {.role = SERVE_APPEND_ONLY, .quota = 1 << 20},
                                    operating = {.commander = commander};

    if (len < 1)
        return 0;
    if (!store)
        open_store();
    if (data[0] == 'r')
        decode(data + 1, len - 1);
    else if (data[0] == 's')
        serve_sessions(&rules, data + 1, len - 1);
    else if (data[0] == 'q')
        serve_sessions(&adding, data + 1, len - 1);
    else if (data[0] == 'o')
        serve_sessions(&operating, data + 1, len - 1);
    else if (data[0] == 'c')
        ask_server(data + 1, len - 1);
    else if (data[0] == 'u')
        read_sums(data + 1, len - 1);
    return 0;
}
