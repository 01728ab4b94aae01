/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A source that was taken over: it has the key, and wants to harm what is committed, or the store.
 */
#include "tests/server.h"

#define MIB (UINT64_C(1) << 20)
#define IMAGE_BYTES (5 * MIB)
#define DAY_MS (INT64_C(86400) * 1000)
/* Of another session: what may not have reached the disk when a quota is looked at. */
#define ON_ITS_WAY (10 * MIB)

/* --- What is committed --- */

START_TEST(a_committed_point_cannot_be_sent_again)
{
    struct server server = server_with_a_point(IMAGE_BYTES);
    struct hostile self = hostile_at(&server);

    hostile_begin(&self, 2, VM_A, POINT_1);
    hear_error(&self, 2, "exists already");
    /* Not even the name of one that exists leads into it. */
    hostile_begin(&self, 3, VM_A, POINT_2);
    hear_ok(&self, 3);
    say(&self, WIRE_OPEN, 3, "{\"file\":0,\"name\":\"../" POINT_1 "/vda.qcow2\"}");
    hear_error(&self, 3, "not a safe file name");
    say(&self, WIRE_ABORT, 3, "{}");
    hostile_end(&self);
    ck_assert_uint_eq(server_points(&server), 1);
}
END_TEST

START_TEST(a_commit_cannot_be_aimed_at_another_point)
{
    struct server server = server_with_a_point(IMAGE_BYTES);
    struct hostile self = hostile_at(&server);
    AUTO(manifest) manifest = points_manifest(VM_A, POINT_1, NULL, 10);
    g_autofree char *text = manifest_text(manifest);

    hostile_begin(&self, 2, VM_A, POINT_2);
    hear_ok(&self, 2);
    say(&self, WIRE_COMMIT, 2, text);
    hear_error(&self, 2, "not of the one that was begun");
    hostile_end(&self);
    ck_assert_uint_eq(server_points(&server), 1);
}
END_TEST

START_TEST(an_append_only_key_adds_points_and_bundles)
{
    struct server server;
    AUTO(store) store = NULL;
    g_autoptr(GError) error = NULL;

    rules.role = SERVE_APPEND_ONLY;
    server = server_new(&points_accept_ops);
    store = server_store(&server);
    unit_ok(points_put(store, VM_A, POINT_1, NULL, IMAGE_BYTES, &error), error);
    unit_ok(points_put(store, VM_A, POINT_2, POINT_1, IMAGE_BYTES, &error), error);
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    ck_assert_uint_eq(server_points(&server), 2);
}
END_TEST

START_TEST(a_point_of_the_future_is_refused)
{
    struct hostile self = hostile_greeted();
    g_autofree char *soon = point_id_format(time_now_ms() + DAY_MS - DAY_MS / 24);
    g_autofree char *late = point_id_format(time_now_ms() + DAY_MS + DAY_MS / 24);

    hostile_begin(&self, 2, VM_A, "99991231T235959.999Z");
    hear_error(&self, 2, "the clocks differ by more than a day");
    hostile_begin(&self, 3, VM_A, late);
    hear_error(&self, 3, "in the future of this site");
    hostile_begin(&self, 4, VM_A, soon);
    hear_ok(&self, 4);
    say(&self, WIRE_ABORT, 4, "{}");
    hostile_end(&self);
}
END_TEST

START_TEST(a_manifest_of_the_future_is_refused)
{
    struct hostile self = hostile_begun();
    AUTO(manifest) manifest = points_manifest(VM_A, POINT_1, NULL, 10);
    g_autofree char *text = NULL;

    manifest->time_ms = time_now_ms() + 2 * DAY_MS;
    text = manifest_text(manifest);
    say(&self, WIRE_COMMIT, 2, text);
    hostile_refused(&self, 2, "the time of the point is in the future");
}
END_TEST

/* --- The quota --- */

static struct server server_with_quota(uint64_t bytes)
{
    rules.quota = bytes;
    return server_new(&points_accept_ops);
}

/* Put points of a VM until one is refused for the quota; how many are there. */
static unsigned fill_up(struct store *store, const char *vm_uuid, uint64_t bytes)
{
    for (unsigned n = 0;; n++) {
        g_autofree char *point = point_id_format((int64_t)(n + 1) * 1000);
        g_autoptr(GError) error = NULL;

        if (points_put(store, vm_uuid, point, NULL, bytes, &error))
            continue;
        unit_fails(false, error, ERROR_NO_SPACE, "the quota of");
        return n;
    }
}

START_TEST(a_full_quota_takes_no_more_points)
{
    struct server server = server_with_quota(18 * MIB);
    AUTO(store) store = server_store(&server);
    struct store_info info = {0};
    GError *error = NULL;

    ck_assert_uint_eq(fill_up(store, VM_A, IMAGE_BYTES), 3);
    unit_fails(points_put(store, VM_B, POINT_1, NULL, IMAGE_BYTES, &error), error, ERROR_NO_SPACE,
               "points must be removed there, or --quota in authorized_keys there be raised");
    unit_ok(store_info(store, &info, &error), error);
    ck_assert_uint_lt(info.free_bytes, 3 * MIB);
    ck_assert_uint_eq(info.total_bytes, 18 * MIB);
    store_info_clear(&info);
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    ck_assert_uint_eq(server_points(&server), 3);
}
END_TEST

START_TEST(a_new_session_knows_what_is_there)
{
    struct server server = server_with_quota(18 * MIB);
    struct server again = server_again(server.path, &points_accept_ops, DEADLINE_MS);
    AUTO(store) store = server_store(&server);
    AUTO(store) other = server_store(&again);

    ck_assert_uint_eq(fill_up(store, VM_A, IMAGE_BYTES), 3);
    ck_assert_uint_eq(fill_up(other, VM_B, IMAGE_BYTES), 0);
    g_clear_pointer(&store, store_free);
    g_clear_pointer(&other, store_free);
    ck_assert_int_eq(server_end(&again), EXIT_SERVED);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    ck_assert_uint_eq(server_points(&server), 3);
    g_free(again.path);
}
END_TEST

START_TEST(what_is_removed_makes_room)
{
    struct server server = server_with_quota(18 * MIB);
    AUTO(store) store = server_store(&server);
    g_autofree char *first = point_id_format(1000);
    g_autofree char *dir = store_point_dir(server.path, VM_A, first);
    GError *error = NULL;

    ck_assert_uint_eq(fill_up(store, VM_A, IMAGE_BYTES), 3);
    unit_ok(tree_remove(dir, &error), error);
    unit_ok(points_put(store, VM_B, POINT_1, NULL, IMAGE_BYTES, &error), error);
    unit_fails(points_put(store, VM_B, POINT_2, NULL, IMAGE_BYTES, &error), error, ERROR_NO_SPACE,
               "the quota of");
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    ck_assert_uint_eq(server_points(&server), 2);
}
END_TEST

/* Send a file until it is refused; how much was sent. */
static uint64_t send_until_refused(struct hostile *self, uint32_t request)
{
    uint64_t sent = 0;

    say(self, WIRE_OPEN, request, "{\"file\":0,\"name\":\"a\"}");
    for (uint32_t ask = request + 1;; ask++) {
        struct frame frame;

        say_data(self, request, 0, sent, MIB);
        sent += MIB;
        /* The answer comes behind all that was said about the data. */
        say(self, WIRE_INFO, ask, "{}");
        frame = hear(self);
        if (frame.type == WIRE_ERROR) {
            ck_assert_uint_eq(frame.request, request);
            hear_ok(self, ask);
            return sent;
        }
        ck_assert_uint_eq(frame.request, ask);
    }
}

START_TEST(a_file_without_end_is_cut_off)
{
    struct hostile self;
    uint64_t sent;

    rules.quota = 20 * MIB;
    self = hostile_begun();
    sent = send_until_refused(&self, 2);
    ck_assert_uint_eq(sent, 20 * MIB);
    say(&self, WIRE_ABORT, 2, "{}");
    hostile_end(&self);
}
END_TEST

START_TEST(points_that_arrive_at_the_same_time_share_the_quota)
{
    struct server server = server_with_quota(60 * MIB);
    struct hostile first = hostile_at(&server);
    struct hostile second = hostile_at(&server);
    uint64_t sent;

    hostile_begin(&first, 2, VM_A, POINT_1);
    hear_ok(&first, 2);
    say(&first, WIRE_OPEN, 2, "{\"file\":0,\"name\":\"a\"}");
    for (uint64_t at = 0; at < 40 * MIB; at += MIB)
        say_data(&first, 2, 0, at, MIB);
    say(&first, WIRE_INFO, 3, "{}");
    hear_ok(&first, 3);
    hostile_begin(&second, 2, VM_B, POINT_1);
    hear_ok(&second, 2);
    sent = send_until_refused(&second, 2);
    ck_assert_uint_lt(sent, 20 * MIB + ON_ITS_WAY);
    say(&second, WIRE_ABORT, 2, "{}");
    hostile_end(&second);
    hostile_end(&first);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    ck_assert_uint_eq(server_points(&server), 0);
}
END_TEST

START_TEST(empty_files_do_not_come_for_nothing)
{
    struct hostile self;
    unsigned n;

    rules.quota = MIB;
    self = hostile_begun();
    for (n = 0; n < POINT_MAX_FILES; n++) {
        g_autofree char *text = g_strdup_printf("{\"file\":%u,\"name\":\"f%u\"}", n, n);

        say(&self, WIRE_OPEN, 2, text);
    }
    hostile_refused(&self, 2, "the quota of 1 MiB");
}
END_TEST

START_TEST(small_points_do_not_come_for_nothing)
{
    struct server server = server_with_quota(2 * MIB);
    AUTO(store) store = server_store(&server);

    ck_assert_uint_lt(fill_up(store, VM_A, POINTS_CLUSTER), 2 * MIB / (6 * QUOTA_FILE_COST));
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    ck_assert_uint_gt(server_points(&server), 3);
}
END_TEST

static bool put_bundle(struct store *store, uint64_t generation, GError **error)
{
    AUTO(bundle) bundle = bundle_new("dc1");
    g_autofree uint8_t *noise = g_malloc(MIB);
    g_autofree char *text = NULL;
    g_autofree char *packed = NULL;
    size_t len;

    points_fill(noise, 0, MIB, (uint32_t)generation);
    text = g_base64_encode(noise, MIB);
    bundle_add_domain(bundle, "db", VM_A, text);
    bundle_seal(bundle);
    bundle->id->generation = generation;
    bundle->id->time = point_id_format((int64_t)generation * 1000);
    return bundle_pack(bundle, &packed, &len, error) && store_put_bundle(store, packed, len, error);
}

START_TEST(bundles_are_within_the_quota)
{
    struct server server = server_with_quota(4 * MIB);
    AUTO(store) store = server_store(&server);
    GError *error = NULL;

    for (uint64_t i = 1; i <= 3; i++)
        unit_ok(put_bundle(store, i, &error), error);
    unit_fails(put_bundle(store, 4, &error), error, ERROR_NO_SPACE, "the quota of 4 MiB");
    unit_fails(points_put(store, VM_A, POINT_1, NULL, IMAGE_BYTES, &error), error, ERROR_NO_SPACE,
               "the quota of");
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    ck_assert_uint_eq(server_points(&server), 0);
}
END_TEST

/* --- Lock files --- */

static char **lock_files(const struct server *server)
{
    g_autofree char *dir = g_build_filename(server->path, "locks", NULL);
    g_autoptr(GError) error = NULL;
    char **names = dir_list(dir, &error);

    unit_ok(names, error);
    return names;
}

static void assert_no_lock_files(const struct server *server)
{
    g_auto(GStrv) names = lock_files(server);

    for (char **name = names; *name; name++)
        ck_assert_msg(!g_str_has_prefix(*name, "point-") && !g_str_has_prefix(*name, "read-"),
                      "%s is left", *name);
}

START_TEST(vms_that_were_only_begun_leave_no_files)
{
    struct server server = server_new(&points_accept_ops);
    struct hostile self = hostile_at(&server);
    g_auto(GStrv) names = NULL;

    for (uint32_t i = 2; i < 100; i++) {
        g_autofree char *vm = g_uuid_string_random();

        hostile_begin(&self, i, vm, POINT_1);
        hear_ok(&self, i);
        if (i % 2)
            say(&self, WIRE_OPEN, i, "{\"file\":0,\"name\":\"../a\"}");
        if (i % 2)
            hear_error(&self, i, "safe");
        say(&self, WIRE_ABORT, i, "{}");
    }
    /* What is refused at once. */
    hostile_begin(&self, 100, VM_A, "20990101T000000.000Z");
    hear_error(&self, 100, "in the future");
    hostile_end(&self);
    assert_no_lock_files(&server);
    AUTO(store) store = server_store(&server);
    g_autoptr(GError) error = NULL;

    unit_ok(points_put(store, VM_A, POINT_1, NULL, IMAGE_BYTES, &error), error);
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    names = lock_files(&server);
    ck_assert(g_strv_contains((const char *const *)names, "point-" VM_A ".lock"));
    g_free(server.path);
}
END_TEST

/* However they came: they count, and the next who opens the store removes them. */
START_TEST(lock_files_are_within_the_quota)
{
    struct server server = server_with_quota(2 * MIB);
    AUTO(store) store = server_store(&server);
    g_autoptr(GError) error = NULL;
    struct server again;

    for (unsigned i = 0; i < 2 * MIB / QUOTA_FILE_COST; i++) {
        g_autofree char *vm = g_uuid_string_random();
        g_autofree char *path = g_strdup_printf("%s/locks/read-%s.lock", server.path, vm);

        unit_ok(g_file_set_contents(path, "", 0, &error), error);
    }
    unit_fails(points_put(store, VM_A, POINT_1, NULL, POINTS_CLUSTER, &error), error,
               ERROR_NO_SPACE, "the quota of");
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    again = server_again(server.path, &points_accept_ops, DEADLINE_MS);
    store = server_store(&again);
    unit_ok(points_put(store, VM_A, POINT_1, NULL, POINTS_CLUSTER, &error), error);
    g_clear_pointer(&store, store_free);
    ck_assert_int_eq(server_end(&again), EXIT_SERVED);
    ck_assert_uint_eq(server_points(&server), 1);
    g_free(again.path);
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "serve-rules", a_committed_point_cannot_be_sent_again,
        a_commit_cannot_be_aimed_at_another_point, an_append_only_key_adds_points_and_bundles,
        a_point_of_the_future_is_refused, a_manifest_of_the_future_is_refused,
        a_full_quota_takes_no_more_points, a_new_session_knows_what_is_there,
        what_is_removed_makes_room, a_file_without_end_is_cut_off,
        points_that_arrive_at_the_same_time_share_the_quota, empty_files_do_not_come_for_nothing,
        small_points_do_not_come_for_nothing, bundles_are_within_the_quota,
        vms_that_were_only_begun_leave_no_files, lock_files_are_within_the_quota);
}
