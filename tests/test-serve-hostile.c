/* SPDX-License-Identifier: Apache-2.0 */
/* `drctl serve` and a client, of which the other one breaks the rules of the protocol. */
#include "tests/server.h"

#define IMAGE_BYTES ((uint64_t)5 << 20)
#define SHORT_MS 500

/* --- A hostile client --- */

START_TEST(hello_comes_first_and_once)
{
    struct hostile self = hostile_new();

    say(&self, WIRE_INFO, 1, "{}");
    hostile_thrown_out(&self, "HELLO comes first");
    self = hostile_greeted();
    say(&self, WIRE_HELLO, 2, "{\"drctl\":\"evil\",\"protocol\":1}");
    hostile_thrown_out(&self, "HELLO comes first, and once");
    self = hostile_new();
    say(&self, WIRE_HELLO, 1, "{\"drctl\":\"evil\"}");
    hostile_thrown_out(&self, "protocol");
    self = hostile_new();
    say(&self, WIRE_HELLO, 1, "{\"drctl\":\"evil\",\"protocol\":99}");
    ck_assert_int_eq(hear(&self).type, WIRE_OK);
    say(&self, WIRE_INFO, 2, "{}");
    hostile_thrown_out(&self, "same protocol");
}
END_TEST

START_TEST(frames_that_are_not_requests_end_the_session)
{
    static const enum wire_type types[] = {WIRE_OK, WIRE_ERROR, WIRE_MANIFEST};

    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        struct hostile self = hostile_greeted();

        say(&self, types[i], 2, "{}");
        hostile_thrown_out(&self, "not a request");
    }
}
END_TEST

START_TEST(requests_are_numbered_upwards)
{
    struct hostile self = hostile_greeted();

    say(&self, WIRE_INFO, 5, "{}");
    ck_assert_int_eq(hear(&self).type, WIRE_OK);
    say(&self, WIRE_INFO, 5, "{}");
    hostile_thrown_out(&self, "not higher");
}
END_TEST

START_TEST(payloads_that_make_no_sense_end_the_session)
{
    static const struct {
        enum wire_type type;
        const char *text;
    } cases[] = {{WIRE_POINTS, ""},
                 {WIRE_POINTS, "[]"},
                 {WIRE_POINTS, "{\"vm\":1"},
                 {WIRE_BEGIN, "{\"vm\":5,\"point\":\"x\"}"},
                 {WIRE_BEGIN, "{\"vm\":\"" VM_A "\"}"},
                 {WIRE_BUNDLE_ID, "{}"},
                 {WIRE_BUNDLE_GET, "{\"site\":\"dc1\"}"},
                 {WIRE_BUNDLE_PUT, "{\"bytes\":-1}"},
                 {WIRE_BUNDLE_PUT, "{\"bytes\":0}"},
                 {WIRE_BUNDLE_PUT, "{\"bytes\":67108865}"},
                 {WIRE_BUNDLE_PUT, "{\"bytes\":1e99}"}};

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct hostile self = hostile_greeted();

        say(&self, cases[i].type, 2, cases[i].text);
        hostile_thrown_out(&self, "");
    }
}
END_TEST

START_TEST(names_that_lead_elsewhere_are_refused)
{
    static const struct {
        enum wire_type type;
        const char *text;
    } cases[] = {
        {WIRE_POINTS, "{\"vm\":\"../../../../etc\"}"},
        {WIRE_BEGIN, "{\"vm\":\"../../x\",\"point\":\"" POINT_1 "\"}"},
        {WIRE_BEGIN, "{\"vm\":\"" VM_A "\",\"point\":\"../../../x\"}"},
        {WIRE_BEGIN, "{\"vm\":\"" VM_A "\",\"point\":\"20261120T221500.123Z/\"}"},
        {WIRE_BUNDLE_ID, "{\"site\":\"../locks\"}"},
        {WIRE_BUNDLE_GET, "{\"site\":\"..\",\"time\":\"" POINT_1 "\"}"},
        {WIRE_BUNDLE_GET, "{\"site\":\"dc1\",\"time\":\"../../store.json\"}"},
        {WIRE_BUNDLE_GET, "{\"site\":\"dc1\",\"time\":\"" POINT_1 "\"}"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct hostile self = hostile_greeted();

        say(&self, cases[i].type, 2, cases[i].text);
        hostile_refused(&self, 2, "\"kind\":");
    }
}
END_TEST

START_TEST(file_names_that_lead_elsewhere_are_refused)
{
    static const char *const names[] = {"../x",  "..",         "/etc/passwd",   "a/b",
                                        ".tmp-", "SHA256SUMS", "manifest.json", "",
                                        "-x",    "a\\u0000b.x"};

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        struct hostile self = hostile_begun();
        g_autofree char *text = g_strdup_printf("{\"file\":0,\"name\":\"%s\"}", names[i]);

        say(&self, WIRE_OPEN, 2, text);
        if (strstr(names[i], "u0000"))
            hostile_thrown_out(&self, "OPEN");
        else
            hostile_refused(&self, 2, "integrity");
    }
}
END_TEST

START_TEST(the_parts_of_a_point_come_in_order)
{
    struct hostile self = hostile_greeted();

    say(&self, WIRE_OPEN, 2, "{\"file\":0,\"name\":\"a\"}");
    hostile_thrown_out(&self, "no such point");
    self = hostile_greeted();
    say_data(&self, 2, 0, 0, 10);
    hostile_thrown_out(&self, "no such point");
    self = hostile_greeted();
    say(&self, WIRE_COMMIT, 2, "{}");
    hostile_thrown_out(&self, "no such point");
    self = hostile_greeted();
    say(&self, WIRE_ABORT, 0, "{}");
    hostile_thrown_out(&self, "no such point");
    self = hostile_begun();
    say(&self, WIRE_BEGIN, 3, BEGIN_A);
    hostile_thrown_out(&self, "another point is arriving");
    self = hostile_begun();
    say(&self, WIRE_OPEN, 3, "{\"file\":0,\"name\":\"a\"}");
    hostile_thrown_out(&self, "no such point");
    self = hostile_begun();
    say(&self, WIRE_OPEN, 2, "{\"file\":1,\"name\":\"a\"}");
    hostile_thrown_out(&self, "numbered from 0");
    self = hostile_begun();
    say_data(&self, 2, 0, 0, 10);
    hostile_thrown_out(&self, "not opened");
    self = hostile_begun();
    say(&self, WIRE_OPEN, 2, "{\"file\":0,\"name\":\"a\"}");
    say_data(&self, 2, 0, 0, 0);
    hostile_thrown_out(&self, "empty");
}
END_TEST

START_TEST(offsets_beyond_all_files_are_refused)
{
    static const uint64_t offsets[] = {UINT64_MAX, UINT64_MAX - 5, (uint64_t)INT64_MAX,
                                       (uint64_t)INT64_MAX - 5, POINT_MAX_FILE_BYTES};

    for (size_t i = 0; i < G_N_ELEMENTS(offsets); i++) {
        struct hostile self = hostile_begun();

        say(&self, WIRE_OPEN, 2, "{\"file\":0,\"name\":\"a\"}");
        say_data(&self, 2, 0, offsets[i], 10);
        hostile_refused(&self, 2, "beyond");
    }
}
END_TEST

START_TEST(manifests_that_lie_are_refused)
{
    g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free);
    AUTO(manifest) manifest = points_manifest(VM_A, POINT_1, NULL, 10);

    g_ptr_array_add(texts, manifest_text(manifest)); /* files that never came */
    g_ptr_array_add(texts, g_strdup("{}"));
    g_ptr_array_add(texts, g_strdup("not even JSON"));
    g_ptr_array_add(texts, g_strdup(""));
    manifest->uuid[0] = '7';
    g_ptr_array_add(texts, manifest_text(manifest)); /* somebody else's point */
    for (unsigned i = 0; i < texts->len; i++) {
        struct hostile self = hostile_begun();

        say(&self, WIRE_OPEN, 2, "{\"file\":0,\"name\":\"a\"}");
        say_data(&self, 2, 0, 0, 10);
        say(&self, WIRE_COMMIT, 2, texts->pdata[i]);
        hostile_refused(&self, 2, "integrity");
    }
}
END_TEST

START_TEST(bundles_must_be_what_was_announced)
{
    struct hostile self = hostile_greeted();

    say(&self, WIRE_BUNDLE_PUT, 2, "{\"bytes\":10}");
    say_data(&self, 2, 0, 0, 11);
    hostile_thrown_out(&self, "not the next bytes");
    self = hostile_greeted();
    say(&self, WIRE_BUNDLE_PUT, 2, "{\"bytes\":10}");
    say_data(&self, 2, 0, 1, 5);
    hostile_thrown_out(&self, "not the next bytes");
    self = hostile_greeted();
    say(&self, WIRE_BUNDLE_PUT, 2, "{\"bytes\":10}");
    say_data(&self, 2, 0, 0, 5);
    say_data(&self, 2, 0, 0, 5);
    hostile_thrown_out(&self, "not the next bytes");
    self = hostile_greeted();
    say(&self, WIRE_BUNDLE_PUT, 2, "{\"bytes\":10}");
    say(&self, WIRE_BUNDLE_PUT, 3, "{\"bytes\":10}");
    hostile_thrown_out(&self, "another pool bundle");
    self = hostile_greeted();
    say(&self, WIRE_BUNDLE_PUT, 2, "{\"bytes\":10}");
    say_data(&self, 2, 0, 0, 10);
    hostile_refused(&self, 2, "the pool bundle");
}
END_TEST

START_TEST(bytes_that_are_no_frames_end_the_session)
{
    static const uint8_t huge[WIRE_HEADER] = {0xff, 0xff, 0xff, 0xff, WIRE_DATA};
    struct hostile self = hostile_greeted();

    ck_assert_int_eq(send(self.server.fd, huge, sizeof(huge), 0), sizeof(huge));
    hostile_thrown_out(&self, "too long");
    self = hostile_greeted();
    ck_assert_int_eq(send(self.server.fd, "GET / HTTP/1.1\r\nHost: drctl\r\n\r\n", 31, 0), 31);
    hostile_thrown_out(&self, "no frame of drctl");
    self = hostile_begun();
    say(&self, WIRE_OPEN, 2, "{\"file\":0,\"name\":\"a\"}");
    ck_assert_int_eq(
        send(self.server.fd, "\x10\0\0\0\x06\0\0\0\x02\0\0\0wrongdigabcdefghijklmnop", 36, 0), 36);
    hostile_thrown_out(&self, "its digest does not match");
}
END_TEST

/* --- A hostile server --- */

/* Run the server's side of a conversation in another process: CALL answers on the wire. */
static struct server fake_server(void (*call)(struct wire *wire))
{
    struct server server = {0};
    int fds[2];

    signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    server.fd = fds[0];
    server.pid = fork();
    ck_assert_int_ge(server.pid, 0);
    if (server.pid == 0) {
        close(fds[0]);
        call(wire_new(link_fd_new(fds[1], fds[1])));
        _exit(EXIT_SERVED);
    }
    close(fds[1]);
    return server;
}

static uint32_t next_request(struct wire *wire)
{
    struct frame frame = {0};

    if (wire_receive(wire, DEADLINE_MS, &frame, NULL) != LINK_DATA)
        _exit(EXIT_BROKEN);
    return frame.request;
}

static void reply(struct wire *wire, enum wire_type type, uint32_t request, const char *text)
{
    wire_send(wire, type, request, text, strlen(text), NULL);
}

static void greet(struct wire *wire)
{
    reply(wire, WIRE_OK, next_request(wire), "{\"drctl\":\"1\",\"protocol\":1}");
}

static void newer(struct wire *wire)
{
    reply(wire, WIRE_OK, next_request(wire), "{\"drctl\":\"9.9\\u001b[2J\",\"protocol\":2}");
}

static void older(struct wire *wire)
{
    reply(wire, WIRE_OK, next_request(wire), "{\"drctl\":\"0.0.1\",\"protocol\":0}");
}

static void chatty(struct wire *wire)
{
    next_request(wire);
    wire_send(wire, WIRE_OK, 77, "{}", 2, NULL);
}

START_TEST(two_protocols_say_who_must_be_updated)
{
    GError *error = NULL;
    struct server server = fake_server(newer);

    unit_fails(store_open_link(link_fd_new(server.fd, server.fd), "dr1", DEADLINE_MS, &error),
               error, ERROR_CONFIG, "protocol 2 there (drctl 9.9?[2J); update drctl here");
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    server = fake_server(older);
    unit_fails(store_open_link(link_fd_new(server.fd, server.fd), "dr1", DEADLINE_MS, &error),
               error, ERROR_CONFIG, "protocol 0 there (drctl 0.0.1); update drctl there");
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    server = fake_server(chatty);
    unit_fails(store_open_link(link_fd_new(server.fd, server.fd), "dr1", DEADLINE_MS, &error),
               error, ERROR_INTEGRITY, "dr1: the other side sent OK where nobody asked");
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
}
END_TEST

static void wrong_points(struct wire *wire)
{
    AUTO(manifest) manifest = points_manifest(VM_B, POINT_1, NULL, 10);
    g_autofree char *text = manifest_text(manifest);
    uint32_t request;

    greet(wire);
    request = next_request(wire);
    reply(wire, WIRE_MANIFEST, request, text);
    reply(wire, WIRE_OK, request, "{\"count\":1}");
}

static void fewer_points(struct wire *wire)
{
    greet(wire);
    reply(wire, WIRE_OK, next_request(wire), "{\"count\":3}");
}

static void rubbish_points(struct wire *wire)
{
    uint32_t request;

    greet(wire);
    request = next_request(wire);
    reply(wire, WIRE_MANIFEST, request, "{\"uuid\":\"../../etc\"}");
}

static void data_for_points(struct wire *wire)
{
    struct frame_data data = {.bytes = (const uint8_t *)"x", .len = 1};

    greet(wire);
    wire_send_data(wire, next_request(wire), &data, NULL);
}

START_TEST(points_from_a_hostile_server_are_checked)
{
    static void (*const servers[])(struct wire *) = {wrong_points, fewer_points, rubbish_points,
                                                     data_for_points};

    for (size_t i = 0; i < G_N_ELEMENTS(servers); i++) {
        struct server server = fake_server(servers[i]);
        AUTO(store) store = server_store(&server);
        GError *error = NULL;

        unit_fails(store_points(store, VM_A, &error), error, ERROR_INTEGRITY, "dr1: ");
        g_clear_pointer(&store, store_free);
        ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    }
}
END_TEST

static void wrong_info(struct wire *wire)
{
    greet(wire);
    reply(wire, WIRE_OK, next_request(wire),
          "{\"uuid\":\"" VM_A "\",\"site\":\"../x\",\"drctl\":\"1\",\"free_bytes\":1,"
          "\"total_bytes\":1,\"clock_ms\":1}");
}

static void endless_bundle(struct wire *wire)
{
    g_autofree uint8_t *bytes = g_malloc0(STORE_WRITE_MAX);
    struct frame_data data = {.bytes = bytes, .len = STORE_WRITE_MAX};
    uint32_t request;

    greet(wire);
    request = next_request(wire);
    while (wire_send_data(wire, request, &data, NULL))
        data.offset += data.len;
}

START_TEST(descriptions_from_a_hostile_server_are_checked)
{
    struct server server = fake_server(wrong_info);
    AUTO(store) store = server_store(&server);
    struct bundle_id id = {.site = (char *)"dc1", .time = (char *)POINT_1};
    struct store_info info;
    GError *error = NULL;
    char *data;
    size_t len;

    unit_fails(store_info(store, &info, &error), error, ERROR_INTEGRITY, "describes itself");
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    server = fake_server(endless_bundle);
    store = server_store(&server);
    unit_fails(store_get_bundle(store, &id, &data, &len, &error), error, ERROR_INTEGRITY,
               "out of order");
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
}
END_TEST

#define MANY_MANIFESTS 200u

/* Says much, and is then as patient as `drctl serve`. */
static void impatient(struct wire *wire)
{
    AUTO(manifest) manifest = points_manifest(VM_A, POINT_1, NULL, 10);
    g_autofree char *text = manifest_text(manifest);
    g_autofree char *count = g_strdup_printf("{\"count\":%u}", MANY_MANIFESTS);
    struct frame frame = {0};
    uint32_t request;

    greet(wire);
    request = next_request(wire);
    for (unsigned i = 0; i < MANY_MANIFESTS; i++)
        reply(wire, WIRE_MANIFEST, request, text);
    if (wire_receive(wire, SHORT_MS, &frame, NULL) != LINK_DATA || frame.type != WIRE_PING)
        _exit(EXIT_BROKEN);
    reply(wire, WIRE_OK, request, count);
    while (wire_receive(wire, DEADLINE_MS, &frame, NULL) == LINK_DATA)
        ;
}

START_TEST(who_takes_an_answer_slowly_is_still_there)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *file = g_build_filename(dir, "limit-dr1", NULL);
    AUTO(limit) limit = limit_new();
    struct server server = fake_server(impatient);
    struct link *link = link_fd_new(server.fd, server.fd);
    g_autoptr(GPtrArray) points = NULL;
    struct throttle *throttle;
    g_autoptr(GError) error = NULL;
    AUTO(store) store = NULL;

    unit_ok(limit_set(limit, "64KiB/s", &error), error);
    unit_ok(throttle = throttle_open(file, limit, &error), error);
    unit_ok(store =
                store_open_link(link_throttled_new(link, throttle), "dr1", SHORT_MS / 5, &error),
            error);
    unit_ok(points = store_points(store, VM_A, &error), error);
    ck_assert_uint_eq(points->len, MANY_MANIFESTS);
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
}
END_TEST

/* Hangs up when it is asked to commit. */
static void dies_at_commit(struct wire *wire)
{
    struct frame frame = {0};

    greet(wire);
    reply(wire, WIRE_OK, next_request(wire), "{}");
    while (frame.type != WIRE_COMMIT)
        if (wire_receive(wire, DEADLINE_MS, &frame, NULL) != LINK_DATA)
            _exit(EXIT_BROKEN);
}

START_TEST(a_commit_without_an_answer_is_unknown)
{
    struct server server = fake_server(dies_at_commit);
    AUTO(store) store = server_store(&server);
    GError *error = NULL;

    unit_fails(points_put(store, VM_A, POINT_1, NULL, IMAGE_BYTES, &error), error, ERROR_NETWORK,
               "the point may exist or not");
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "serve-hostile", hello_comes_first_and_once, frames_that_are_not_requests_end_the_session,
        requests_are_numbered_upwards, payloads_that_make_no_sense_end_the_session,
        names_that_lead_elsewhere_are_refused, file_names_that_lead_elsewhere_are_refused,
        the_parts_of_a_point_come_in_order, offsets_beyond_all_files_are_refused,
        manifests_that_lie_are_refused, bundles_must_be_what_was_announced,
        bytes_that_are_no_frames_end_the_session, two_protocols_say_who_must_be_updated,
        points_from_a_hostile_server_are_checked, descriptions_from_a_hostile_server_are_checked,
        who_takes_an_answer_slowly_is_still_there, a_commit_without_an_answer_is_unknown);
}
