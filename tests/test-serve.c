/* SPDX-License-Identifier: Apache-2.0 */
/* A store behind `drctl serve`: the server is another process on a socket; the client is ours. */
#include "tests/server.h"

#define IMAGE_BYTES ((uint64_t)5 << 20)
#define SHORT_MS 500

/* --- Two that keep to the rules --- */

START_TEST(a_point_goes_over_as_it_is)
{
    struct server server = server_new(&points_accept_ops);
    AUTO(manifest) manifest = points_manifest(VM_A, POINT_1, NULL, IMAGE_BYTES);
    g_autoptr(GPtrArray) points = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(store) store = server_store(&server);
    AUTO(incoming) incoming = NULL;
    g_autofree char *sent = NULL;
    g_autofree char *got = NULL;

    unit_ok(incoming = store_begin(store, VM_A, POINT_1, &error), error);
    unit_ok(points_send(incoming, manifest, &error), error);
    unit_ok(incoming_commit(incoming, manifest, &error), error);
    ck_assert_uint_gt(incoming_sent_bytes(incoming), IMAGE_BYTES);
    ck_assert_uint_lt(incoming_sent_bytes(incoming), IMAGE_BYTES + 4096);
    g_clear_pointer(&incoming, incoming_free);
    unit_ok(points = store_points(store, VM_A, &error), error);
    ck_assert_uint_eq(points->len, 1);
    sent = manifest_text(manifest);
    got = manifest_text(points->pdata[0]);
    ck_assert_str_eq(sent, got);
    unit_ok(points_put(store, VM_A, POINT_2, POINT_1, IMAGE_BYTES, &error), error);
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    ck_assert_uint_eq(server_points(&server), 2);
}
END_TEST

START_TEST(files_of_a_point_come_back)
{
    struct server server = server_new(&points_accept_ops);
    AUTO(store) store = server_store(&server);
    g_autoptr(GError) error = NULL;

    unit_ok(points_put(store, VM_A, POINT_1, NULL, IMAGE_BYTES, &error), error);
    points_get(store, server.path, POINT_1);
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    ck_assert_uint_eq(server_points(&server), 1);
}
END_TEST

START_TEST(the_other_store_describes_itself)
{
    struct server server = server_new(&points_accept_ops);
    AUTO(store) store = server_store(&server);
    struct store_info info = {0};
    g_autoptr(GError) error = NULL;

    unit_ok(store_info(store, &info, &error), error);
    ck_assert(uuid_is_valid(info.uuid));
    ck_assert_str_eq(info.site, "dr1");
    ck_assert_str_eq(info.version, DRCTL_VERSION);
    ck_assert_int_lt(llabs(info.clock_ms - time_now_ms()), 60000);
    ck_assert_uint_gt(info.total_bytes, 0);
    store_info_clear(&info);
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    ck_assert_uint_eq(server_points(&server), 0);
}
END_TEST

START_TEST(a_bundle_goes_over_and_comes_back)
{
    struct server server = server_new(&points_accept_ops);
    AUTO(store) store = server_store(&server);
    AUTO(bundle) bundle = bundle_new("dc1");
    AUTO(bundle_id) id = NULL;
    g_autofree char *packed = NULL;
    g_autofree char *got = NULL;
    g_autofree uint8_t *noise = g_malloc(3 << 20);
    g_autofree char *text = NULL;
    g_autoptr(GPtrArray) ids = NULL;
    GError *error = NULL;
    size_t len, got_len;

    points_fill(noise, 0, 3 << 20, 1);
    text = g_base64_encode(noise, 3 << 20);
    bundle_add_domain(bundle, "db", VM_A, text);
    bundle_seal(bundle);
    bundle->id->generation = 1;
    bundle->id->time = g_strdup(POINT_1);
    unit_ok(bundle_pack(bundle, &packed, &len, &error), error);
    ck_assert_uint_gt(len, STORE_WRITE_MAX);
    unit_ok(store_newest_bundle(store, "dc1", &id, &error), error);
    ck_assert_ptr_null(id);
    unit_ok(store_put_bundle(store, packed, len, &error), error);
    unit_ok(store_newest_bundle(store, "dc1", &id, &error), error);
    ck_assert_uint_eq(id->generation, 1);
    ck_assert_str_eq(id->digest, bundle->id->digest);
    unit_ok(store_get_bundle(store, id, &got, &got_len, &error), error);
    ck_assert_uint_eq(got_len, len);
    ck_assert_mem_eq(got, packed, len);
    bundle->id->generation = 2;
    bundle->id->time[3] += 2;
    g_clear_pointer(&packed, g_free);
    unit_ok(bundle_pack(bundle, &packed, &len, &error), error);
    unit_ok(store_put_bundle(store, packed, len, &error), error);
    ids = store_bundles(store, "dc1", &error);
    unit_ok(ids, error);
    ck_assert_uint_eq(ids->len, 2);
    ck_assert_uint_eq(((struct bundle_id *)ids->pdata[0])->generation, 2);
    ck_assert_str_eq(((struct bundle_id *)ids->pdata[1])->time, id->time);
    /* A refusal does not end the session. */
    unit_fails(store_put_bundle(store, packed, len, &error), error, ERROR_CONFLICT, "dr1: store /");
    id->time[3]++;
    unit_fails(store_get_bundle(store, id, &got, &got_len, &error), error, ERROR_NOT_FOUND, "dr1");
    g_clear_pointer(&id, bundle_id_free);
    unit_ok(store_newest_bundle(store, "dr1", &id, &error), error);
    ck_assert_ptr_null(id);
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    ck_assert_uint_eq(server_points(&server), 0);
}
END_TEST

START_TEST(a_refused_point_does_not_end_the_session)
{
    struct server server = server_new(&points_refuse_ops);
    AUTO(store) store = server_store(&server);
    GError *error = NULL;

    for (unsigned i = 0; i < 3; i++)
        unit_fails(points_put(store, VM_A, POINT_1, NULL, IMAGE_BYTES, &error), error,
                   ERROR_INTEGRITY, "the images are not what they should be");
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    ck_assert_uint_eq(server_points(&server), 0);
}
END_TEST

/* The server refuses the first write; the client may have sent many more by then. */
START_TEST(a_refusal_in_the_middle_surfaces_and_the_next_point_works)
{
    struct server server = server_new(&points_accept_ops);
    AUTO(store) store = server_store(&server);
    g_autofree char *data = g_strnfill(STORE_WRITE_MAX, 'x');
    AUTO(incoming) incoming = NULL;
    GError *error = NULL;
    bool written = true;
    unsigned file;

    unit_ok(incoming = store_begin(store, VM_A, POINT_1, &error), error);
    unit_ok(incoming_open(incoming, "vda.qcow2", &file, &error), error);
    unit_ok(incoming_write(incoming, file, POINT_MAX_FILE_BYTES, data, 1, &error), error);
    for (unsigned i = 0; i < 50 && written; i++)
        written =
            incoming_write(incoming, file, i * STORE_WRITE_MAX, data, STORE_WRITE_MAX, &error);
    unit_fails(written, error, ERROR_INTEGRITY, "beyond");
    g_clear_pointer(&incoming, incoming_free);
    unit_ok(points_put(store, VM_A, POINT_2, NULL, IMAGE_BYTES, &error), error);
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    ck_assert_uint_eq(server_points(&server), 1);
}
END_TEST

START_TEST(a_refusal_is_noticed_by_commit)
{
    struct server server = server_new(&points_accept_ops);
    AUTO(store) store = server_store(&server);
    AUTO(manifest) manifest = points_manifest(VM_A, POINT_1, NULL, IMAGE_BYTES);
    AUTO(incoming) incoming = NULL;
    GError *error = NULL;
    unsigned file;

    unit_ok(incoming = store_begin(store, VM_A, POINT_1, &error), error);
    /* Past incoming_open(), which would not let it out. */
    unit_ok(incoming->ops->open(incoming, "../../evil", &file, &error), error);
    unit_fails(incoming_commit(incoming, manifest, &error), error, ERROR_INTEGRITY,
               "'../../evil' is not a safe file name");
    g_clear_pointer(&incoming, incoming_free);
    unit_ok(points_put(store, VM_A, POINT_2, NULL, IMAGE_BYTES, &error), error);
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    ck_assert_uint_eq(server_points(&server), 1);
}
END_TEST

START_TEST(an_abandoned_point_leaves_nothing)
{
    struct server server = server_new(&points_accept_ops);
    AUTO(store) store = server_store(&server);
    AUTO(manifest) manifest = points_manifest(VM_A, POINT_1, NULL, IMAGE_BYTES);
    AUTO(incoming) incoming = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(incoming = store_begin(store, VM_A, POINT_1, &error), error);
    unit_ok(points_send(incoming, manifest, &error), error);
    g_clear_pointer(&incoming, incoming_free);
    unit_ok(points_put(store, VM_A, POINT_1, NULL, IMAGE_BYTES, &error), error);
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    ck_assert_uint_eq(server_points(&server), 1);
}
END_TEST

START_TEST(conflicts_are_told_across_the_wire)
{
    struct server server = server_new(&points_accept_ops);
    struct server other = server_again(server.path, &points_accept_ops, DEADLINE_MS);
    AUTO(store) store = server_store(&server);
    AUTO(store) other_store = server_store(&other);
    AUTO(incoming) incoming = NULL;
    AUTO(incoming) second = NULL;
    GError *error = NULL;

    unit_ok(incoming = store_begin(store, VM_A, POINT_1, &error), error);
    unit_fails(store_begin(other_store, VM_A, POINT_2, &error), error, ERROR_CONFLICT,
               "dr1: store");
    unit_fails(store_begin(store, VM_B, POINT_2, &error), error, ERROR_CONFLICT,
               "another point is on its way");
    unit_ok(second = store_begin(other_store, VM_B, POINT_2, &error), error);
    g_clear_pointer(&incoming, incoming_free);
    g_clear_pointer(&second, incoming_free);
    g_clear_pointer(&store, store_free);
    g_clear_pointer(&other_store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    ck_assert_int_eq(server_end(&other), EXIT_SERVED);
    ck_assert_uint_eq(server_points(&server), 0);
    g_free(other.path);
}
END_TEST

/* Zeros at every place where a frame can begin or end. */
static void fill_with_islands(char *data, size_t len)
{
    memset(data, 0, len);
    memset(data, 'a', 100);
    memset(data + 5 * 4096, 'b', 4096);
    memset(data + 9 * 4096 + 4000, 'c', 200);
    memset(data + len - 1, 'd', 1);
}

START_TEST(zeros_are_not_sent_but_arrive)
{
    struct server server = server_new(&points_accept_ops);
    AUTO(store) store = server_store(&server);
    AUTO(incoming) incoming = NULL;
    size_t len = STORE_WRITE_MAX + 4096 + 77;
    g_autofree char *data = g_malloc(len);
    AUTO(manifest) manifest = points_manifest(VM_A, POINT_1, NULL, len);
    g_autofree char *path = NULL;
    g_autofree char *got = NULL;
    size_t got_len;
    unsigned file;
    GError *error = NULL;

    fill_with_islands(data, len);
    path = g_build_filename(server.path, "vms", VM_A, POINT_1, "vda.qcow2", NULL);
    unit_ok(incoming = store_begin(store, VM_A, POINT_1, &error), error);
    unit_ok(incoming_open(incoming, "vda.qcow2", &file, &error), error);
    unit_ok(incoming_write(incoming, file, 0, data, len, &error), error);
    ck_assert_uint_le(incoming_sent_bytes(incoming), 6 * 4096);
    unit_ok(incoming_open(incoming, "vda.digests", &file, &error), error);
    unit_ok(incoming_write(incoming, file, 0, "0123456789abcdef", 16, &error), error);
    unit_ok(incoming_commit(incoming, manifest, &error), error);
    unit_ok(file_read(path, len, &got, &got_len, &error), error);
    ck_assert_uint_eq(got_len, len);
    ck_assert_mem_eq(got, data, len);
    g_clear_pointer(&incoming, incoming_free);
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    g_free(server.path);
}
END_TEST

/* --- Death --- */

START_TEST(a_server_that_dies_is_a_lost_connection)
{
    struct server server = server_new(&points_accept_ops);
    struct server again;
    AUTO(store) store = server_store(&server);
    g_autofree char *data = g_strnfill(STORE_WRITE_MAX, 'x');
    AUTO(incoming) incoming = NULL;
    struct store_info info;
    GError *error = NULL;
    bool written = true;
    unsigned file;

    unit_ok(incoming = store_begin(store, VM_A, POINT_1, &error), error);
    unit_ok(incoming_open(incoming, "vda.qcow2", &file, &error), error);
    for (uint64_t i = 0; i < 100 && written; i++) {
        if (i == 3)
            kill(server.pid, SIGKILL);
        written =
            incoming_write(incoming, file, i * STORE_WRITE_MAX, data, STORE_WRITE_MAX, &error);
    }
    unit_fails(written, error, ERROR_NETWORK, "drctl site check dr1");
    unit_fails(store_info(store, &info, &error), error, ERROR_NETWORK, "the connection is lost");
    unit_fails(store_points(store, VM_A, &error), error, ERROR_NETWORK, "the connection is lost");
    g_clear_pointer(&incoming, incoming_free);
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), -SIGKILL);
    again = server_again(server.path, &points_accept_ops, DEADLINE_MS);
    store = server_store(&again);
    unit_ok(points_put(store, VM_A, POINT_1, NULL, IMAGE_BYTES, &error), error);
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&again), EXIT_SERVED);
    ck_assert_uint_eq(server_points(&server), 1);
    g_free(again.path);
}
END_TEST

START_TEST(a_client_that_dies_leaves_no_point)
{
    struct server server = server_new(&points_accept_ops);
    pid_t client = fork();
    int status;

    ck_assert_int_ge(client, 0);
    if (client == 0) {
        g_autofree char *data = g_strnfill(STORE_WRITE_MAX, 'x');
        struct store *store = server_store(&server);
        struct incoming *incoming = store_begin(store, VM_A, POINT_1, NULL);
        unsigned file;

        incoming_open(incoming, "vda.qcow2", &file, NULL);
        incoming_write(incoming, file, 0, data, STORE_WRITE_MAX, NULL);
        kill(getpid(), SIGKILL);
    }
    ck_assert_int_eq(waitpid(client, &status, 0), client);
    server_end(&server);
    ck_assert_uint_eq(server_points(&server), 0);
}
END_TEST

START_TEST(a_silent_client_is_hung_up_on)
{
    struct server first = server_new(&points_accept_ops);
    struct server server = server_again(first.path, &points_accept_ops, SHORT_MS);
    AUTO(store) store = NULL;
    AUTO(incoming) incoming = NULL;
    struct store_info info;
    GError *error = NULL;
    char byte;

    unit_ok(store = store_open_link(link_fd_new(server.fd, server.fd), "dr1", DEADLINE_MS, &error),
            error);
    unit_ok(incoming = store_begin(store, VM_A, POINT_1, &error), error);
    /* It waits for us, then tells why, then is gone. */
    ck_assert_int_eq(fcntl(server.fd, F_SETFL, 0), 0);
    ck_assert_int_eq(recv(server.fd, &byte, 1, MSG_PEEK), 1);
    unit_fails(store_info(store, &info, &error), error, ERROR_NETWORK, "silent");
    g_clear_pointer(&incoming, incoming_free);
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_BROKEN);
    ck_assert_int_eq(server_end(&first), EXIT_SERVED);
    ck_assert_uint_eq(server_points(&first), 0);
    g_free(server.path);
}
END_TEST

START_TEST(a_client_that_has_nothing_to_say_is_still_there)
{
    struct server first = server_new(&points_accept_ops);
    struct server server = server_again(first.path, &points_accept_ops, SHORT_MS);
    g_autoptr(GError) error = NULL;
    AUTO(store) store = NULL;
    int64_t until_ms;

    unit_ok(store = store_open_link(link_fd_new(server.fd, server.fd), "dr1", SHORT_MS / 5, &error),
            error);
    until_ms = time_monotonic_ms() + 5 * SHORT_MS;
    while (time_monotonic_ms() < until_ms) {
        ck_assert_int_eq(waitpid(server.pid, NULL, WNOHANG), 0);
        g_usleep(10000);
    }
    unit_ok(points_put(store, VM_A, POINT_1, NULL, IMAGE_BYTES, &error), error);
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    ck_assert_int_eq(server_end(&first), EXIT_SERVED);
    ck_assert_uint_eq(server_points(&first), 1);
    g_free(server.path);
}
END_TEST

int main(void)
{
    return UNIT_RUN("serve", a_point_goes_over_as_it_is, files_of_a_point_come_back,
                    the_other_store_describes_itself, a_bundle_goes_over_and_comes_back,
                    a_refused_point_does_not_end_the_session,
                    a_refusal_in_the_middle_surfaces_and_the_next_point_works,
                    a_refusal_is_noticed_by_commit, an_abandoned_point_leaves_nothing,
                    conflicts_are_told_across_the_wire, zeros_are_not_sent_but_arrive,
                    a_server_that_dies_is_a_lost_connection, a_client_that_dies_leaves_no_point,
                    a_silent_client_is_hung_up_on, a_client_that_has_nothing_to_say_is_still_there);
}
