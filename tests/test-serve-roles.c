/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several sites have keys for one store: what each role may do, and that a key which is bound to a site
 * neither sees nor touches what others have there.
 */
#include <sys/mman.h>

#include "tests/server.h"

#define MIB (UINT64_C(1) << 20)
#define IMAGE_BYTES (5 * MIB)
#define VM_C "77777777-2222-4333-8444-555555555555"

static const char *const of_dc1[] = {"dc1", NULL};
static const char *const of_dc2[] = {"dc2", NULL};
static const char *const of_both[] = {"dc1", "dc2", NULL};

struct client {
    struct server server;
    struct store *store;
};

/* At the store at PATH, by a key with ROLE for SITES. */
static struct client client_at(const char *path, enum serve_role role, const char *const *sites)
{
    struct client self;

    rules.role = role;
    rules.sites = sites;
    self.server = server_again(path, &points_accept_ops, DEADLINE_MS);
    self.store = server_store(&self.server);
    return self;
}

static void client_end(struct client *self)
{
    store_free(self->store);
    ck_assert_int_eq(server_end(&self->server), EXIT_SERVED);
    g_free(self->server.path);
}

/* What the next server says at its end, of the other process. */
static struct serve_tally *tally_shared(void)
{
    struct serve_tally *tally =
        mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    ck_assert_ptr_ne(tally, MAP_FAILED);
    rules.tally = tally;
    return tally;
}

/* A point that SITE has taken. */
static bool put_of(struct store *store, const char *site, const char *vm, const char *point,
                   const char *base_vm, const char *base, GError **error)
{
    AUTO(manifest) manifest = points_manifest(vm, point, base, IMAGE_BYTES);
    AUTO(incoming) incoming = store_begin(store, vm, point, error);
    struct manifest_disk *disk = (struct manifest_disk *)manifest_disk(manifest, "vda");

    g_free(manifest->site);
    manifest->site = g_strdup(site);
    disk->base_vm = g_strdup(base_vm);
    return incoming && points_send(incoming, manifest, error) &&
           incoming_commit(incoming, manifest, error);
}

static unsigned points_seen(struct store *store, const char *vm)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) points = store_points(store, vm, &error);

    unit_ok(points, error);
    return points->len;
}

static bool get(struct store *store, const char *name, GError **error)
{
    g_autoptr(GByteArray) got = g_byte_array_new();

    return store_get(store, VM_A, POINT_1, name, 0, points_collect, got, error);
}

static bool put_owner(struct store *store, const char *vm, const char *site, GError **error)
{
    AUTO(owner) owner = owner_new(vm, "db", site, 3, NULL);

    return store_put_owner(store, owner, error);
}

static bool put_bundle(struct store *store, const char *site, const struct owner *owner,
                       GError **error)
{
    AUTO(bundle) bundle = bundle_new(site);
    bool sent;

    bundle_add_domain(bundle, "db", VM_A, "<domain/>");
    if (owner)
        bundle_add_owner(bundle, owner);
    return bundle_publish(bundle, store, &sent, error);
}

/* --- Roles --- */

START_TEST(a_key_that_pulls_reads_and_changes_nothing)
{
    struct server server = server_with_a_point(IMAGE_BYTES);
    struct serve_tally *tally = tally_shared();
    struct client pull = client_at(server.path, SERVE_PULL, NULL);
    struct prune_request prune = {.vm_uuid = VM_A};
    struct prune_result result;
    GError *error = NULL;

    ck_assert_uint_eq(points_seen(pull.store, NULL), 1);
    points_get(pull.store, server.path, POINT_1);
    unit_fails(points_put(pull.store, VM_A, POINT_2, NULL, IMAGE_BYTES, &error), error, ERROR_AUTH,
               "BEGIN is refused: this key may read points");
    unit_fails(put_owner(pull.store, VM_A, "dc1", &error), error, ERROR_AUTH, "may read points");
    unit_fails(store_prune(pull.store, &prune, &result, &error), error, ERROR_AUTH,
               "PRUNE is refused: this key may read points");
    client_end(&pull);
    ck_assert_uint_eq(tally->read_bytes, IMAGE_BYTES + 5);
    ck_assert_uint_eq(server_points(&server), 1);
}
END_TEST

START_TEST(a_key_that_pulls_sends_no_bundle)
{
    struct server server = server_with_a_point(IMAGE_BYTES);
    AUTO(store) store = NULL;
    struct server again;
    GError *error = NULL;

    rules.role = SERVE_PULL;
    again = server_again(server.path, &points_accept_ops, DEADLINE_MS);
    store = server_store(&again);
    unit_fails(put_bundle(store, "dc1", NULL, &error), error, ERROR_AUTH, "may read points");
    g_clear_pointer(&store, store_free);
    server_end(&again);
    g_free(again.path);
    ck_assert_uint_eq(server_points(&server), 1);
}
END_TEST

START_TEST(a_key_that_pushes_reads_no_content)
{
    struct server server = server_with_a_point(IMAGE_BYTES);
    struct serve_tally *tally = tally_shared();
    struct client push = client_at(server.path, SERVE_PUSH, of_dc1);
    AUTO(bundle) bundle = NULL;
    GError *error = NULL;

    unit_ok(points_put(push.store, VM_A, POINT_2, POINT_1, IMAGE_BYTES, &error), error);
    unit_ok(get(push.store, "vda.digests", &error), error);
    unit_fails(get(push.store, "vda.qcow2", &error), error, ERROR_AUTH, "vda.qcow2 is refused");
    unit_fails(get(push.store, "domain.xml", &error), error, ERROR_AUTH, "drctl serve --role push");
    unit_ok(put_bundle(push.store, "dc1", NULL, &error), error);
    bundle = bundle_fetch(push.store, "dc1", &error);
    unit_fails(bundle, error, ERROR_AUTH, "BUNDLE-GET is refused");
    client_end(&push);
    ck_assert_uint_eq(tally->points, 1);
    ck_assert_uint_eq(tally->read_bytes, 0);
    ck_assert_uint_eq(server_points(&server), 2);
}
END_TEST

/* --- A key of a site --- */

START_TEST(a_key_sends_points_of_its_site_only)
{
    struct server server = server_with_a_point(IMAGE_BYTES);
    struct client dc1 = client_at(server.path, SERVE_APPEND_ONLY, of_dc1);
    struct taker taker = {"dc2", 0};
    AUTO(incoming) incoming = NULL;
    GError *error = NULL;

    unit_fails(put_of(dc1.store, "dc2", VM_A, POINT_2, NULL, NULL, &error), error, ERROR_AUTH,
               "the point is of site dc2, and this key is only for dc1");
    unit_fails(put_of(dc1.store, "dr1", VM_A, POINT_2, NULL, NULL, &error), error, ERROR_AUTH,
               "the point is of site dr1");
    incoming = store_begin_by(dc1.store, VM_A, POINT_2, &taker, &error);
    unit_fails(incoming, error, ERROR_AUTH, "is of site dc2");
    unit_ok(put_of(dc1.store, "dc1", VM_A, POINT_2, NULL, POINT_1, &error), error);
    client_end(&dc1);
    ck_assert_uint_eq(server_points(&server), 2);
}
END_TEST

START_TEST(vms_of_another_site_are_not_there)
{
    struct server server = server_with_a_point(IMAGE_BYTES);
    struct client dc2 = client_at(server.path, SERVE_ALL, of_dc2);
    struct prune_request prune = {.vm_uuid = VM_A};
    struct prune_result result;
    g_auto(GStrv) damaged = NULL;
    GError *error = NULL;

    ck_assert_uint_eq(points_seen(dc2.store, NULL), 0);
    ck_assert_uint_eq(points_seen(dc2.store, VM_A), 0);
    ck_assert_uint_eq(points_seen(dc2.store, "db"), 0);
    unit_fails(get(dc2.store, "vda.qcow2", &error), error, ERROR_AUTH, "is not of dc2");
    unit_fails(store_prune(dc2.store, &prune, &result, &error), error, ERROR_AUTH, "is not of dc2");
    damaged = store_damaged(dc2.store, VM_A, &error);
    unit_fails(damaged, error, ERROR_AUTH, "is not of dc2");
    unit_fails(put_of(dc2.store, "dc2", VM_A, POINT_2, NULL, NULL, &error), error, ERROR_AUTH,
               "name all of them in --site");
    unit_ok(put_of(dc2.store, "dc2", VM_B, POINT_1, NULL, NULL, &error), error);
    ck_assert_uint_eq(points_seen(dc2.store, "db"), 1);
    client_end(&dc2);
    ck_assert_uint_eq(server_points(&server), 1);
}
END_TEST

/* Two sites have points of it, and none is the store's own: it is neither's alone. */
START_TEST(a_vm_of_two_sites_is_for_the_key_of_both)
{
    struct server server = server_with_a_point(IMAGE_BYTES);
    struct client both = client_at(server.path, SERVE_APPEND_ONLY, of_both);
    struct client one;
    GError *error = NULL;

    unit_ok(put_of(both.store, "dc2", VM_A, POINT_2, NULL, POINT_1, &error), error);
    ck_assert_uint_eq(points_seen(both.store, NULL), 2);
    client_end(&both);
    for (unsigned i = 0; i < 2; i++) {
        one = client_at(server.path, SERVE_APPEND_ONLY, i ? of_dc2 : of_dc1);
        ck_assert_uint_eq(points_seen(one.store, NULL), 0);
        unit_fails(get(one.store, "vda.qcow2", &error), error, ERROR_AUTH, "is not of dc");
        client_end(&one);
    }
    ck_assert_uint_eq(server_points(&server), 2);
}
END_TEST

/* The store of SERVER has verified POINT_1 of VM_A, and knows what its disk is like. */
static void remember_sketch(const struct server *server, struct sketch *sketch)
{
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = catalog_open(server->path, &error);
    json_auto_t *entry = NULL, *verified = json_pack("{s:b}", "ok", true);

    unit_ok(catalog, error);
    *sketch = (struct sketch){0};
    for (uint64_t i = 0; i < 64; i++) {
        uint8_t digest[DIGEST_SIZE];

        digest_buffer(&i, sizeof(i), digest);
        sketch_add(sketch, i, digest);
    }
    sketch_finish(sketch);
    entry = sketch_json(sketch);
    json_set_string(entry, "point", POINT_1);
    json_set_u64(entry, "virtual_bytes", UINT64_C(1) << 40);
    unit_ok(catalog_put(catalog, CATALOG_SKETCHES, VM_A "/vda", entry, &error), error);
    unit_ok(catalog_put(catalog, CATALOG_VERIFIED, VM_A "/" POINT_1, verified, &error), error);
}

START_TEST(a_disk_is_not_like_one_of_another_site)
{
    struct server server = server_with_a_point(IMAGE_BYTES);
    g_autofree struct sketch *sketch = g_new(struct sketch, 1);

    remember_sketch(&server, sketch);
    for (unsigned i = 0; i < 2; i++) {
        struct client client = client_at(server.path, SERVE_PUSH, i ? of_dc2 : of_dc1);
        AUTO(similar_image) image = NULL;
        g_autoptr(GError) error = NULL;

        unit_ok(store_similar(client.store, sketch, POINT_3, &image, &error), error);
        ck_assert_msg(!image == (i == 1), "the key of dc%u", i + 1);
        client_end(&client);
    }
    ck_assert_uint_eq(server_points(&server), 1);
}
END_TEST

/* What our own client would not ask, or not so. */
START_TEST(each_request_by_itself_is_refused)
{
    struct server server = server_with_a_point(IMAGE_BYTES);
    struct client dc1 = client_at(server.path, SERVE_APPEND_ONLY, of_dc1);
    AUTO(owner) stolen = owner_new(VM_A, "db", "dc2", 9, NULL);
    json_auto_t *json = owner_json(stolen);
    g_autofree char *claim = json_text(json, 0);
    g_autofree char *get = NULL;
    AUTO(bundle_id) id = NULL;
    struct hostile self;
    GError *error = NULL;

    unit_ok(put_bundle(dc1.store, "dc1", NULL, &error), error);
    unit_ok(store_newest_bundle(dc1.store, "dc1", &id, &error), error);
    client_end(&dc1);
    get = g_strdup_printf("{\"site\":\"dc1\",\"time\":\"%s\"}", id->time);
    rules.sites = of_dc2;
    self = hostile_at(&server);
    say(&self, WIRE_BUNDLE_ID, 2, "{\"site\":\"dc1\"}");
    hear_error(&self, 2, "the pool bundle is of site dc1");
    say(&self, WIRE_BUNDLE_ID, 3, "{\"site\":\"dc1\",\"list\":true}");
    hear_error(&self, 3, "the pool bundle is of site dc1");
    say(&self, WIRE_BUNDLE_GET, 4, get);
    hear_error(&self, 4, "the pool bundle is of site dc1");
    say(&self, WIRE_PUT_OWNER, 5, claim);
    hear_error(&self, 5, "is not of dc2");
    hostile_end(&self);
    ck_assert_uint_eq(server_points(&server), 1);
}
END_TEST

START_TEST(no_point_is_based_on_what_another_site_has)
{
    struct server server = server_with_a_point(IMAGE_BYTES);
    struct client dc2 = client_at(server.path, SERVE_APPEND_ONLY, of_dc2);
    struct client both;
    GError *error = NULL;

    unit_fails(put_of(dc2.store, "dc2", VM_B, POINT_2, VM_A, POINT_1, &error), error, ERROR_AUTH,
               "disk vda is based on another VM: VM " VM_A " is not of dc2");
    client_end(&dc2);
    both = client_at(server.path, SERVE_APPEND_ONLY, of_both);
    unit_ok(put_of(both.store, "dc2", VM_B, POINT_2, VM_A, POINT_1, &error), error);
    ck_assert_uint_eq(points_seen(both.store, NULL), 2);
    client_end(&both);
    ck_assert_uint_eq(server_points(&server), 1);
}
END_TEST

/* The store is at dr1, which takes VMs over. */
START_TEST(what_the_site_of_the_store_took_over_is_still_seen)
{
    struct server server = server_with_a_point(IMAGE_BYTES);
    struct client here = client_at(server.path, SERVE_ALL, NULL);
    struct client dc1;
    GError *error = NULL;

    unit_ok(put_of(here.store, "dr1", VM_A, POINT_2, NULL, POINT_1, &error), error);
    unit_ok(put_of(here.store, "dr1", VM_B, POINT_1, NULL, NULL, &error), error);
    client_end(&here);
    dc1 = client_at(server.path, SERVE_APPEND_ONLY, of_dc1);
    ck_assert_uint_eq(points_seen(dc1.store, NULL), 2);
    unit_ok(put_of(dc1.store, "dc1", VM_A, POINT_3, NULL, POINT_2, &error), error);
    unit_fails(put_of(dc1.store, "dc1", VM_B, POINT_2, NULL, NULL, &error), error, ERROR_AUTH,
               "is not of dc1");
    client_end(&dc1);
    ck_assert_uint_eq(server_points(&server), 3);
}
END_TEST

START_TEST(nobody_says_who_owns_a_vm_of_another_site)
{
    struct server server = server_with_a_point(IMAGE_BYTES);
    struct client dc1 = client_at(server.path, SERVE_APPEND_ONLY, of_dc1);
    struct client dc2;
    g_autoptr(GPtrArray) seen = NULL;
    AUTO(owner) stolen = owner_new(VM_A, "db", "dc2", 9, NULL);
    GError *error = NULL;

    /* It moves to the site of the store. */
    unit_ok(put_owner(dc1.store, VM_A, "dr1", &error), error);
    unit_fails(put_owner(dc1.store, VM_A, "dc2", &error), error, ERROR_AUTH, "is of site dc2");
    client_end(&dc1);
    dc2 = client_at(server.path, SERVE_APPEND_ONLY, of_dc2);
    unit_fails(put_owner(dc2.store, VM_A, "dc2", &error), error, ERROR_AUTH, "is not of dc2");
    unit_fails(put_bundle(dc2.store, "dc2", stolen, &error), error, ERROR_AUTH, "is not of dc2");
    unit_ok(put_owner(dc2.store, VM_B, "dc2", &error), error);
    seen = store_owners(dc2.store, &error);
    unit_ok(seen, error);
    ck_assert_uint_eq(seen->len, 1);
    ck_assert_str_eq(((struct owner *)seen->pdata[0])->uuid, VM_B);
    client_end(&dc2);
    /* What has an owner and no point yet is no stranger's either. */
    dc1 = client_at(server.path, SERVE_APPEND_ONLY, of_dc1);
    unit_fails(put_of(dc1.store, "dc1", VM_B, POINT_1, NULL, NULL, &error), error, ERROR_AUTH,
               "is not of dc1");
    client_end(&dc1);
    ck_assert_uint_eq(server_points(&server), 1);
}
END_TEST

START_TEST(bundles_of_another_site_are_neither_read_nor_replaced)
{
    struct server server = server_with_a_point(IMAGE_BYTES);
    struct client dc1 = client_at(server.path, SERVE_APPEND_ONLY, of_dc1);
    struct client dc2;
    AUTO(bundle) bundle = NULL;
    AUTO(bundle) none = NULL;
    GError *error = NULL;

    unit_ok(put_bundle(dc1.store, "dc1", NULL, &error), error);
    unit_ok(bundle = bundle_fetch(dc1.store, "dc1", &error), error);
    client_end(&dc1);
    dc2 = client_at(server.path, SERVE_APPEND_ONLY, of_dc2);
    none = bundle_fetch(dc2.store, "dc1", &error);
    unit_fails(none, error, ERROR_AUTH, "the pool bundle is of site dc1");
    {
        g_autofree char *packed = NULL;
        size_t len;

        bundle->id->generation++;
        g_free(bundle->id->time);
        bundle->id->time = point_id_format(time_now_ms());
        unit_ok(bundle_pack(bundle, &packed, &len, &error), error);
        unit_fails(store_put_bundle(dc2.store, packed, len, &error), error, ERROR_AUTH,
                   "the pool bundle is of site dc1");
    }
    client_end(&dc2);
    ck_assert_uint_eq(server_points(&server), 1);
}
END_TEST

/* --- Quotas --- */

/* How many points of VM fit. */
static unsigned fill_up(struct store *store, const char *site, const char *vm)
{
    for (unsigned n = 0;; n++) {
        g_autofree char *point = point_id_format((int64_t)(n + 1) * 1000);
        g_autoptr(GError) error = NULL;

        if (put_of(store, site, vm, point, NULL, NULL, &error))
            continue;
        unit_fails(false, error, ERROR_NO_SPACE, "the quota of 18 MiB of site ");
        return n;
    }
}

START_TEST(each_site_has_a_quota_of_its_own)
{
    struct server server = server_new(&points_accept_ops);
    struct client dc1, dc2, all;
    struct store_info info = {0};
    g_autoptr(GError) error = NULL;

    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    rules.quota = 18 * MIB;
    dc1 = client_at(server.path, SERVE_APPEND_ONLY, of_dc1);
    ck_assert_uint_eq(fill_up(dc1.store, "dc1", VM_A), 3);
    dc2 = client_at(server.path, SERVE_APPEND_ONLY, of_dc2);
    unit_ok(store_info(dc2.store, &info, &error), error);
    ck_assert_uint_eq(info.free_bytes, 18 * MIB);
    store_info_clear(&info);
    ck_assert_uint_eq(fill_up(dc2.store, "dc2", VM_B), 3);
    ck_assert_uint_eq(fill_up(dc1.store, "dc1", VM_C), 0);
    client_end(&dc2);
    client_end(&dc1);
    rules.quota = 40 * MIB;
    all = client_at(server.path, SERVE_APPEND_ONLY, NULL);
    unit_ok(store_info(all.store, &info, &error), error);
    ck_assert_uint_lt(info.free_bytes, 10 * MIB);
    store_info_clear(&info);
    client_end(&all);
    ck_assert_uint_eq(server_points(&server), 3);
}
END_TEST

/* --- What was interrupted --- */

/* Send BYTES of an image of VM_A as SITES, and hang up. */
static void leave_partial(const char *path, const char *const *sites, uint64_t bytes)
{
    struct server server = {.path = (char *)path};
    struct hostile self;

    rules.sites = sites;
    self = hostile_at(&server);
    hostile_begin(&self, 2, VM_A, POINT_1);
    hear_ok(&self, 2);
    say(&self, WIRE_OPEN, 2, "{\"file\":0,\"name\":\"vda.qcow2\"}");
    for (uint64_t at = 0; at < bytes; at += MIB)
        say_data(&self, 2, 0, at, MIB);
    say(&self, WIRE_INFO, 3, "{}");
    hear_ok(&self, 3);
    hostile_end(&self);
}

static char *partials_for(const char *path, const char *const *sites)
{
    struct server server = {.path = (char *)path};
    struct hostile self;
    struct frame frame;
    char *text;

    rules.sites = sites;
    self = hostile_at(&server);
    hostile_begin(&self, 2, VM_A, POINT_2);
    frame = hear(&self);
    text = g_strndup((const char *)frame.payload, frame.len);
    say(&self, WIRE_ABORT, 2, "{}");
    hostile_end(&self);
    return text;
}

START_TEST(what_arrived_of_another_site_is_not_reused)
{
    struct server server = server_new(&points_accept_ops);
    g_autofree char *theirs = NULL;
    g_autofree char *ours = NULL;
    struct client dc2;
    struct store_info info = {0};
    g_autoptr(GError) error = NULL;

    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    leave_partial(server.path, of_dc1, 4 * MIB);
    theirs = partials_for(server.path, of_dc2);
    ck_assert_str_eq(theirs, "{\"partials\":0}");
    ours = partials_for(server.path, of_dc1);
    ck_assert_str_eq(ours, "{\"partials\":1}");
    rules.quota = 18 * MIB;
    dc2 = client_at(server.path, SERVE_APPEND_ONLY, of_dc2);
    unit_ok(store_info(dc2.store, &info, &error), error);
    ck_assert_uint_eq(info.free_bytes, 18 * MIB);
    store_info_clear(&info);
    client_end(&dc2);
    dc2 = client_at(server.path, SERVE_APPEND_ONLY, of_dc1);
    unit_ok(store_info(dc2.store, &info, &error), error);
    ck_assert_uint_le(info.free_bytes, 14 * MIB);
    store_info_clear(&info);
    client_end(&dc2);
    ck_assert_uint_eq(server_points(&server), 0);
}
END_TEST

START_TEST(a_committed_point_has_no_more_files_than_its_manifest_says)
{
    struct server server = server_with_a_point(IMAGE_BYTES);
    struct client dc1 = client_at(server.path, SERVE_PUSH, of_dc1);
    g_autofree char *dir = store_point_dir(server.path, VM_A, POINT_2);
    g_auto(GStrv) names = NULL;
    g_autofree char *list = NULL;
    GError *error = NULL;

    unit_ok(points_put(dc1.store, VM_A, POINT_2, POINT_1, IMAGE_BYTES, &error), error);
    unit_ok(names = dir_list(dir, &error), error);
    list = g_strjoinv(" ", names);
    ck_assert_str_eq(list, "SHA256SUMS domain.xml manifest.json vda.digests vda.qcow2");
    client_end(&dc1);
    ck_assert_uint_eq(server_points(&server), 2);
}
END_TEST

int main(void)
{
    return UNIT_RUN("serve-roles", a_key_that_pulls_reads_and_changes_nothing,
                    a_key_that_pulls_sends_no_bundle, a_key_that_pushes_reads_no_content,
                    a_key_sends_points_of_its_site_only, vms_of_another_site_are_not_there,
                    a_vm_of_two_sites_is_for_the_key_of_both,
                    a_disk_is_not_like_one_of_another_site, each_request_by_itself_is_refused,
                    no_point_is_based_on_what_another_site_has,
                    what_the_site_of_the_store_took_over_is_still_seen,
                    nobody_says_who_owns_a_vm_of_another_site,
                    bundles_of_another_site_are_neither_read_nor_replaced,
                    each_site_has_a_quota_of_its_own, what_arrived_of_another_site_is_not_reused,
                    a_committed_point_has_no_more_files_than_its_manifest_says);
}
