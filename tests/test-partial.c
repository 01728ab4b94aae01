/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What interrupted transfers leave at a store: how long it stays, and that the next transfer can take
 * bytes from there, and nothing else, whoever asks for it.
 */
#include "tests/place.h"
#include "tests/server.h"

#include <fcntl.h>
#include <sys/stat.h>

#define DAY_S 86400

static void is_left(const char *path, const char *expected)
{
    g_autofree char *left = points_left(path);

    ck_assert_str_eq(left, expected);
}

/* Send most of an image and give up. */
static void interrupt(struct store *store, const char *point, uint64_t bytes)
{
    g_autoptr(GError) error = NULL;
    AUTO(incoming) incoming = store_begin(store, VM_A, point, &error);

    unit_ok(incoming, error);
    unit_ok(points_send_image(incoming, bytes, points_seed(VM_A, point), &error), error);
}

/* What is told about the partials. */
static char *told(struct incoming *incoming)
{
    g_autoptr(GByteArray) text = g_byte_array_new();
    g_autoptr(GError) error = NULL;

    unit_ok(incoming_partial(incoming, "vda", points_collect, text, &error), error);
    return g_strndup((const char *)text->data, text->len);
}

/* Send the point again, its image from what arrived of POINT_1 before; returns what was sent. */
static uint64_t send_again(struct store *store, const char *point)
{
    AUTO(manifest) manifest = points_manifest(VM_A, point, NULL, IMAGE_BYTES);
    g_autoptr(GError) error = NULL;
    AUTO(incoming) incoming = store_begin(store, VM_A, point, &error);
    g_autofree char *partials = NULL;
    unsigned file;

    unit_ok(incoming, error);
    partials = told(incoming);
    ck_assert_str_eq(partials, VM_A "." POINT_1 ".partial-1/vda\n");
    unit_ok(incoming_open(incoming, "vda.qcow2", &file, &error), error);
    for (uint64_t at = 0; at < IMAGE_BYTES; at += STORE_WRITE_MAX / 2)
        unit_ok(incoming_reuse(incoming, file, at, STORE_WRITE_MAX / 2,
                               &(struct partial_place){.offset = at}, &error),
                error);
    unit_ok(incoming_open(incoming, "vda.digests", &file, &error), error);
    unit_ok(incoming_write(incoming, file, 0, "0123456789abcdef", 16, &error), error);
    unit_ok(incoming_put(incoming, manifest, "domain.xml", POINTS_DOMAIN, strlen(POINTS_DOMAIN),
                         &error),
            error);
    unit_ok(incoming_commit(incoming, manifest, &error), error);
    return incoming_sent_bytes(incoming);
}

/* The image of POINT_2 in the store is what was sent as that of POINT_1. */
static void is_same_image(const char *path)
{
    g_autofree char *dir = store_point_dir(path, VM_A, POINT_2);
    g_autofree char *image = g_build_filename(dir, "vda.qcow2", NULL);
    g_autofree uint8_t *want = g_malloc(IMAGE_BYTES);
    g_autofree char *got = NULL;
    g_autoptr(GError) error = NULL;
    size_t len;

    for (uint64_t at = 0; at < IMAGE_BYTES;) {
        size_t step = at ? (size_t)MIN(IMAGE_BYTES - at, STORE_WRITE_MAX) : POINTS_CLUSTER;

        points_fill(want + at, at, step, points_seed(VM_A, POINT_1));
        at += step;
    }
    unit_ok(file_read(image, IMAGE_BYTES, &got, &len, &error), error);
    ck_assert_uint_eq(len, IMAGE_BYTES);
    ck_assert_mem_eq(got, want, IMAGE_BYTES);
}

START_TEST(what_arrived_is_kept_until_the_next_point)
{
    struct place place = place_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) points = NULL;

    interrupt(place.store, POINT_1, IMAGE_BYTES);
    is_left(place.path, VM_A "." POINT_1 ".partial-1");
    unit_ok(points = store_points(place.store, VM_A, &error), error);
    ck_assert_uint_eq(points->len, 0);
    ck_assert_uint_eq(send_again(place.store, POINT_2), 0);
    is_same_image(place.path);
    is_left(place.path, "");
    g_ptr_array_unref(points);
    unit_ok(points = store_points(place.store, VM_A, &error), error);
    unit_ok(store_verify_point(place.path, points->pdata[0], NULL, &error), error);
    place_clear(&place);
}
END_TEST

START_TEST(over_the_wire_only_the_places_go)
{
    struct server server = server_new(&points_accept_ops);
    AUTO(store) store = server_store(&server);

    interrupt(store, POINT_1, IMAGE_BYTES);
    ck_assert_uint_lt(send_again(store, POINT_2), 4096);
    is_same_image(server.path);
    is_left(server.path, "");
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    g_free(server.path);
}
END_TEST

START_TEST(the_newest_come_first_and_four_stay)
{
    struct place place = place_new();
    g_autofree char *partials = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(incoming) incoming = NULL;

    interrupt(place.store, POINT_2, IMAGE_BYTES);
    interrupt(place.store, POINT_1, IMAGE_BYTES);
    for (unsigned i = 0; i < 10; i++)
        interrupt(place.store, POINT_3, IMAGE_BYTES);
    interrupt(place.store, POINT_2, IMAGE_BYTES);
    unit_ok(incoming = store_begin(place.store, VM_A, POINT_2, &error), error);
    partials = told(incoming);
    ck_assert_str_eq(partials,
                     VM_A "." POINT_3 ".partial-10/vda\n" VM_A "." POINT_3 ".partial-9/vda\n" VM_A
                          "." POINT_3 ".partial-8/vda\n" VM_A "." POINT_3 ".partial-7/vda\n");
    g_clear_pointer(&incoming, incoming_free);
    place_clear(&place);
}
END_TEST

static void set_age(const struct place *place, const char *name, time_t age_s)
{
    g_autofree char *image = g_build_filename(place->path, "incoming", name, "vda.qcow2", NULL);
    struct timespec times[2] = {{.tv_sec = time(NULL) - age_s}, {.tv_sec = time(NULL) - age_s}};

    ck_assert_int_eq(utimensat(AT_FDCWD, image, times, 0), 0);
}

START_TEST(what_is_little_or_old_goes)
{
    struct place place = place_new();
    struct place again;

    interrupt(place.store, POINT_1, (1 << 20) - 1);
    is_left(place.path, "");
    interrupt(place.store, POINT_1, IMAGE_BYTES);
    interrupt(place.store, POINT_2, IMAGE_BYTES);
    set_age(&place, VM_A "." POINT_1 ".partial-1", 8 * DAY_S);
    set_age(&place, VM_A "." POINT_2 ".partial-1", 6 * DAY_S);
    again = place_open(place.path, &points_accept_ops);
    is_left(place.path, VM_A "." POINT_2 ".partial-1");
    place_clear(&again);
    place_clear(&place);
}
END_TEST

START_TEST(what_a_kill_left_is_found_without_its_help)
{
    struct place place = place_new();
    g_autofree char *kept =
        g_build_filename(place.path, "incoming", VM_A "." POINT_1 ".partial-1", NULL);
    g_autofree char *left = g_build_filename(place.path, "incoming", VM_A "." POINT_1, NULL);
    struct place again;

    interrupt(place.store, POINT_1, IMAGE_BYTES);
    ck_assert_int_eq(rename(kept, left), 0);
    ck_assert_uint_eq(send_again(place.store, POINT_2), 0);
    interrupt(place.store, POINT_3, IMAGE_BYTES);
    g_clear_pointer(&left, g_free);
    left = g_build_filename(place.path, "incoming", VM_A "." POINT_3, NULL);
    g_clear_pointer(&kept, g_free);
    kept = g_strconcat(left, ".partial-1", NULL);
    ck_assert_int_eq(rename(kept, left), 0);
    again = place_open(place.path, &points_accept_ops);
    is_left(place.path, VM_A "." POINT_3 ".partial-1");
    place_clear(&again);
    place_clear(&place);
}
END_TEST

START_TEST(what_was_refused_is_not_kept_nor_what_was_before)
{
    struct place place = place_new();
    AUTO(manifest) manifest = points_manifest(VM_A, POINT_2, NULL, IMAGE_BYTES + 1);
    AUTO(incoming) incoming = NULL;
    GError *error = NULL;

    interrupt(place.store, POINT_1, IMAGE_BYTES);
    unit_ok(incoming = store_begin(place.store, VM_A, POINT_2, &error), error);
    unit_ok(points_send_image(incoming, IMAGE_BYTES, 1, &error), error);
    unit_fails(incoming_commit(incoming, manifest, &error), error, ERROR_INTEGRITY, "arrived");
    is_left(place.path, "");
    g_clear_pointer(&incoming, incoming_free);
    place_clear(&place);
}
END_TEST

/* One reuse of PLACE as what comes at OFFSET of a file of NAME is refused. */
static void refuses_reuse(const char *name, uint64_t offset, size_t len, struct partial_place from,
                          const char *part)
{
    struct place place = place_new();
    AUTO(incoming) incoming = NULL;
    GError *error = NULL;
    unsigned file;

    interrupt(place.store, POINT_1, IMAGE_BYTES);
    unit_ok(incoming = store_begin(place.store, VM_A, POINT_2, &error), error);
    unit_ok(incoming_open(incoming, name, &file, &error), error);
    unit_fails(incoming_reuse(incoming, file, offset, len, &from, &error), error, ERROR_INTEGRITY,
               part);
    g_clear_pointer(&incoming, incoming_free);
    place_clear(&place);
}

START_TEST(only_what_is_there_can_be_reused)
{
    static const struct partial_place begin = {0};

    refuses_reuse("vda.qcow2", 0, 1, (struct partial_place){.partial = 1}, "no partial 1");
    refuses_reuse("vda.qcow2", 0, 1, (struct partial_place){.partial = UINT_MAX}, "no partial");
    refuses_reuse("vda.qcow2", 0, 1, (struct partial_place){.offset = IMAGE_BYTES}, "short");
    refuses_reuse("vda.qcow2", 0, 2, (struct partial_place){.offset = IMAGE_BYTES - 1}, "short");
    refuses_reuse("vda.qcow2", 0, 1, (struct partial_place){.offset = INT64_MAX}, "reused");
    refuses_reuse("vda.qcow2", UINT64_MAX, 1, begin, "reused");
    refuses_reuse("vda.qcow2", (uint64_t)1 << 46, 1, begin, "beyond");
    refuses_reuse("vda.qcow2", 0, 0, begin, "reused");
    refuses_reuse("vda.qcow2", 0, STORE_WRITE_MAX + 1, begin, "reused");
    refuses_reuse("vdb.qcow2", 0, 1, begin, "no vdb.qcow2");
}
END_TEST

START_TEST(a_link_in_a_partial_is_not_followed)
{
    struct place place = place_new();
    g_autofree char *image =
        g_build_filename(place.path, "incoming", VM_A "." POINT_1 ".partial-1", "vdb.qcow2", NULL);
    AUTO(incoming) incoming = NULL;
    GError *error = NULL;
    unsigned file;

    interrupt(place.store, POINT_1, IMAGE_BYTES);
    ck_assert_int_eq(symlink("/etc/passwd", image), 0);
    unit_ok(incoming = store_begin(place.store, VM_A, POINT_2, &error), error);
    unit_ok(incoming_open(incoming, "vdb.qcow2", &file, &error), error);
    unit_fails(incoming_reuse(incoming, file, 0, 1, &(struct partial_place){0}, &error), error,
               ERROR_INTEGRITY, "no vdb.qcow2");
    g_clear_pointer(&incoming, incoming_free);
    place_clear(&place);
}
END_TEST

/* --- A hostile client --- */

#define REUSE(file, offset, bytes, partial, at)                                                    \
    "{\"file\":" file ",\"offset\":" offset ",\"bytes\":" bytes ",\"partial\":" partial            \
    ",\"at\":" at "}"

/* A session with the image of a point open, and one partial. */
static struct hostile hostile_with_partial(void)
{
    struct hostile self = hostile_begun();
    g_autofree char *text = NULL;
    struct frame frame;

    say(&self, WIRE_OPEN, 2, "{\"file\":0,\"name\":\"vda.qcow2\"}");
    for (unsigned i = 0; i < 2; i++)
        say_data(&self, 2, 0, (uint64_t)i * (STORE_WRITE_MAX - 1), STORE_WRITE_MAX - 1);
    say(&self, WIRE_ABORT, 2, "{}");
    say(&self, WIRE_BEGIN, 3, BEGIN_A);
    frame = hear(&self);
    text = g_strndup((const char *)frame.payload, frame.len);
    ck_assert_int_eq(frame.type, WIRE_OK);
    ck_assert_str_eq(text, "{\"partials\":1}");
    say(&self, WIRE_OPEN, 3, "{\"file\":0,\"name\":\"vda.qcow2\"}");
    return self;
}

START_TEST(reuse_that_makes_no_sense_ends_the_session)
{
    static const struct {
        const char *text, *part;
    } wrong[] = {
        {"{}", "file"},
        {REUSE("1", "0", "1", "0", "0"), "was not opened"},
        {REUSE("0", "0", "0", "0", "0"), "empty or too long"},
        {REUSE("0", "0", "1048577", "0", "0"), "empty or too long"},
        {REUSE("0", "0", "-1", "0", "0"), "bytes"},
        {REUSE("0", "0", "1", "\"../x\"", "0"), "partial"},
        {REUSE("0", "0", "1", "18446744073709551615", "0"), "REUSE"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        struct hostile self = hostile_with_partial();

        say(&self, WIRE_REUSE, 3, wrong[i].text);
        hostile_thrown_out(&self, wrong[i].part);
    }
}
END_TEST

START_TEST(reuse_of_what_is_not_there_is_refused)
{
    static const char *const wrong[] = {
        REUSE("0", "0", "1", "1", "0"),
        REUSE("0", "0", "1", "4294967296", "0"),
        REUSE("0", "0", "1", "0", "2097150"),
        REUSE("0", "0", "1", "0", "9223372036854775807"),
        REUSE("0", "9223372036854775807", "1", "0", "0"),
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        struct hostile self = hostile_with_partial();

        say(&self, WIRE_REUSE, 3, wrong[i]);
        hostile_refused(&self, 3, "used");
    }
}
END_TEST

START_TEST(partials_are_told_for_a_point_that_arrives)
{
    struct hostile self = hostile_greeted();

    say(&self, WIRE_PARTIAL, 2, "{\"target\":\"vda\"}");
    hostile_thrown_out(&self, "no point is arriving");
    self = hostile_with_partial();
    say(&self, WIRE_PARTIAL, 4, "{\"target\":\"../vda\"}");
    hostile_refused(&self, 4, "safe name");
}
END_TEST

/* --- Giving way ------------------------------------------------------------------------------- */

/* The session of SELF, which says nothing any more, gives its place to another one. */
static void gives_way(struct hostile *self)
{
    struct server other = server_again(self->server.path, &points_accept_ops, DEADLINE_MS);
    AUTO(store) store = server_store(&other);
    g_autoptr(GError) error = NULL;

    unit_ok(points_put(store, VM_A, POINT_1, NULL, IMAGE_BYTES, &error), error);
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&other), EXIT_SERVED);
    hear_error(self, 0, "wants its place");
    wire_free(self->wire);
    ck_assert_int_eq(server_end(&self->server), EXIT_BROKEN);
    ck_assert_uint_eq(server_points(&self->server), 1);
    g_free(other.path);
}

START_TEST(a_silent_client_gives_way)
{
    struct hostile self = hostile_begun();

    say(&self, WIRE_OPEN, 2, "{\"file\":0,\"name\":\"vda.qcow2\"}");
    gives_way(&self);
}
END_TEST

START_TEST(a_client_that_fell_silent_in_a_frame_gives_way)
{
    struct hostile self = hostile_begun();
    static const uint8_t part[WIRE_HEADER + 100] = {0, 0, 1, 0, WIRE_DATA};

    say(&self, WIRE_OPEN, 2, "{\"file\":0,\"name\":\"vda.qcow2\"}");
    ck_assert_int_eq(write(self.server.fd, part, sizeof(part)), sizeof(part));
    gives_way(&self);
}
END_TEST

START_TEST(a_client_that_is_there_keeps_its_place)
{
    struct server server = server_new(&points_accept_ops);
    struct server other = server_again(server.path, &points_accept_ops, DEADLINE_MS);
    AUTO(store) store = server_store(&server);
    AUTO(store) other_store = server_store(&other);
    AUTO(manifest) manifest = points_manifest(VM_A, POINT_1, NULL, IMAGE_BYTES);
    AUTO(incoming) incoming = NULL;
    GError *error = NULL;

    unit_ok(incoming = store_begin(store, VM_A, POINT_1, &error), error);
    unit_fails(store_begin(other_store, VM_A, POINT_2, &error), error, ERROR_CONFLICT,
               "another transfer");
    unit_ok(points_send(incoming, manifest, &error), error);
    unit_ok(incoming_commit(incoming, manifest, &error), error);
    g_clear_pointer(&incoming, incoming_free);
    g_clear_pointer(&store, store_free);
    g_clear_pointer(&other_store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    ck_assert_int_eq(server_end(&other), EXIT_SERVED);
    ck_assert_uint_eq(server_points(&server), 1);
    g_free(other.path);
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "partial", what_arrived_is_kept_until_the_next_point, over_the_wire_only_the_places_go,
        the_newest_come_first_and_four_stay, what_is_little_or_old_goes,
        what_a_kill_left_is_found_without_its_help,
        what_was_refused_is_not_kept_nor_what_was_before, only_what_is_there_can_be_reused,
        a_link_in_a_partial_is_not_followed, reuse_that_makes_no_sense_ends_the_session,
        reuse_of_what_is_not_there_is_refused, partials_are_told_for_a_point_that_arrives,
        a_silent_client_gives_way, a_client_that_fell_silent_in_a_frame_gives_way,
        a_client_that_is_there_keeps_its_place);
}
