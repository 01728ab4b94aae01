/* SPDX-License-Identifier: Apache-2.0 */
/* Which site owns a VM: the records, who may claim, and what stores make of them, here and behind serve. */
#include "tests/serving.h"

#include <sys/wait.h>

#include "tests/place.h"

static bool claim(const char *path, const char *site, uint64_t epoch, GError **error)
{
    AUTO(owner) owner = owner_new(VM_A, "db", site, epoch, "r-20261120-2215-1");

    return owner_claim(path, owner, error);
}

/* "dr1 3", or "none" */
static char *owner_in(const char *path)
{
    g_autoptr(GError) error = NULL;
    AUTO(owner) owner = NULL;

    unit_ok(owner_read(path, VM_A, &owner, &error), error);
    return owner ? g_strdup_printf("%s %" PRIu64, owner->site, owner->epoch) : g_strdup("none");
}

#define ck_owner(path, text)                                                                       \
    do {                                                                                           \
        g_autofree char *found = owner_in(path);                                                   \
        ck_assert_str_eq(found, text);                                                             \
    } while (0)

static void damage(const char *path)
{
    g_autofree char *file = g_strdup_printf("%s/owners/" VM_A ".json", path);
    g_autoptr(GError) error = NULL;

    unit_ok(file_write(file, "{\"format\": 1,", 13, 0600, &error), error);
}

START_TEST(a_record_comes_back_as_it_was_put_down)
{
    g_autofree char *path = unit_dir();
    AUTO(owner) owner = owner_new(VM_A, "db", "dr1", 7, NULL);
    AUTO(owner) read = NULL;
    g_autoptr(GError) error = NULL;

    ck_owner(path, "none");
    unit_ok(owner_claim(path, owner, &error), error);
    unit_ok(owner_read(path, VM_A, &read, &error), error);
    ck_assert_str_eq(read->uuid, VM_A);
    ck_assert_str_eq(read->vm, "db");
    ck_assert_str_eq(read->site, "dr1");
    ck_assert_uint_eq(read->epoch, 7);
    ck_assert_int_eq(read->since_ms, owner->since_ms);
    ck_assert_ptr_null(read->run);
}
END_TEST

START_TEST(only_a_newer_epoch_replaces_a_record)
{
    g_autofree char *path = unit_dir();
    g_autoptr(GError) error = NULL;

    unit_ok(claim(path, "dr1", 2, &error), error);
    unit_fails(claim(path, "dc1", 1, &error), error, ERROR_CONFLICT, "belongs to site dr1 since");
    unit_fails(claim(path, "dc1", 2, &error), error, ERROR_CONFLICT, "(epoch 2)");
    ck_owner(path, "dr1 2");
    unit_ok(claim(path, "dr1", 2, &error), error);
    unit_ok(claim(path, "dc1", 3, &error), error);
    ck_owner(path, "dc1 3");
}
END_TEST

START_TEST(nobody_can_jump_to_the_last_epoch)
{
    g_autofree char *path = unit_dir();
    g_autoptr(GError) error = NULL;

    unit_fails(claim(path, "dc1", OWNER_EPOCHS_AHEAD + 1, &error), error, ERROR_INTEGRITY,
               "too far ahead");
    unit_fails(claim(path, "dc1", UINT64_MAX, &error), error, ERROR_INTEGRITY, "wrong");
    unit_fails(claim(path, "dc1", 0, &error), error, ERROR_INTEGRITY, "wrong");
    ck_owner(path, "none");
}
END_TEST

START_TEST(taking_a_vm_makes_the_epoch_after_all_that_are_known)
{
    g_autofree char *path = unit_dir();
    AUTO(owner) want = owner_new(VM_A, "db", "dr1", 0, "r-20261120-2215-1");
    AUTO(owner) got = NULL;
    AUTO(owner) again = NULL;
    AUTO(owner) later = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(claim(path, "dc1", 4, &error), error);
    unit_ok(owner_take(path, want, 9, &got, &error), error);
    ck_assert_uint_eq(got->epoch, 10);
    ck_owner(path, "dr1 10");
    /* It has it: a run that is repeated changes nothing. */
    unit_ok(owner_take(path, want, 9, &again, &error), error);
    ck_assert_uint_eq(again->epoch, 10);
    /* Unless somebody else has claimed it meanwhile. */
    unit_ok(owner_take(path, want, 10, &later, &error), error);
    ck_owner(path, "dr1 11");
}
END_TEST

START_TEST(a_damaged_record_is_told_and_stops_no_failover)
{
    g_autofree char *path = unit_dir();
    AUTO(owner) want = owner_new(VM_A, "db", "dr1", 0, NULL);
    AUTO(owner) other = owner_new(VM_B, "app", "dr1", 1, NULL);
    AUTO(owner) got = NULL;
    g_autoptr(GPtrArray) listed = NULL;
    struct taker taker = {"dc1", 0};
    g_autoptr(GError) error = NULL;

    unit_ok(claim(path, "dc1", 4, &error), error);
    unit_ok(owner_claim(path, other, &error), error);
    damage(path);
    unit_fails(owner_read(path, VM_A, &got, &error), error, ERROR_INTEGRITY, "drctl failover");
    unit_fails(claim(path, "dc1", 5, &error), error, ERROR_INTEGRITY, "damaged");
    unit_fails(owner_admits(path, VM_A, &taker, &error), error, ERROR_INTEGRITY, "damaged");
    unit_ok(listed = owner_list(path, &error), error);
    ck_assert_uint_eq(listed->len, 1);
    ck_assert_str_eq(((struct owner *)listed->pdata[0])->vm, "app");
    /* Nobody knows what it said, but nobody has failed over a thousand times either. */
    unit_ok(owner_take(path, want, 0, &got, &error), error);
    ck_owner(path, "dr1 1024");
}
END_TEST

/* Of several that claim the same epoch, in processes of their own, exactly one has it. */
START_TEST(of_two_that_claim_at_once_one_wins)
{
    g_autofree char *path = unit_dir();
    pid_t pids[4];
    unsigned won = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(pids); i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            g_autofree char *site = g_strdup_printf("site-%u", i);

            _exit(claim(path, site, 1, NULL) ? 0 : 1);
        }
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(pids); i++) {
        int status = -1;

        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        won += status == 0;
    }
    ck_assert_uint_eq(won, 1);
}
END_TEST

/* What a record may not say: each is valid but for one thing. */
START_TEST(refuses_a_record_that_is_wrong)
{
    static const char *const wrong[] = {
        "{\"format\":2,\"uuid\":\"" VM_A "\",\"vm\":\"db\",\"site\":\"dc1\",\"epoch\":1,\"since\":"
        "\"2026-11-20T22:15:00Z\",\"run\":null}",
        "{\"format\":1,\"uuid\":\"../../x\",\"vm\":\"db\",\"site\":\"dc1\",\"epoch\":1,\"since\":"
        "\"2026-11-20T22:15:00Z\",\"run\":null}",
        "{\"format\":1,\"uuid\":\"" VM_A "\",\"vm\":\"a/b\",\"site\":\"dc1\",\"epoch\":1,\"since\":"
        "\"2026-11-20T22:15:00Z\",\"run\":null}",
        "{\"format\":1,\"uuid\":\"" VM_A "\",\"vm\":\"db\",\"site\":\"DC 1\",\"epoch\":1,\"since\":"
        "\"2026-11-20T22:15:00Z\",\"run\":null}",
        "{\"format\":1,\"uuid\":\"" VM_A "\",\"vm\":\"db\",\"site\":\"dc1\",\"epoch\":-1,\"since\":"
        "\"2026-11-20T22:15:00Z\",\"run\":null}",
        "{\"format\":1,\"uuid\":\"" VM_A "\",\"vm\":\"db\",\"site\":\"dc1\",\"epoch\":1,\"since\":"
        "\"yesterday\",\"run\":null}",
        "{\"format\":1,\"uuid\":\"" VM_A "\",\"vm\":\"db\",\"site\":\"dc1\",\"epoch\":1,\"since\":"
        "\"2026-11-20T22:15:00Z\",\"run\":\"../x\"}",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        json_auto_t *json = json_parse(wrong[i], strlen(wrong[i]), "it", NULL);
        g_autoptr(GError) error = NULL;

        ck_assert_ptr_nonnull(json);
        ck_assert_msg(!owner_parse(json, &error), "record %u is taken", i);
        ck_assert_msg(error != NULL, "record %u", i);
    }
}
END_TEST

/* --- Stores ---------------------------------------------------------------------------------- */

static bool put_point(struct store *store, const char *point, const char *site, uint64_t epoch,
                      GError **error)
{
    AUTO(manifest) manifest = points_manifest(VM_A, point, NULL, POINTS_CLUSTER);
    struct taker taker = {site, epoch};
    AUTO(incoming) incoming = store_begin_by(store, VM_A, point, &taker, error);

    return incoming && points_send(incoming, manifest, error) &&
           incoming_commit(incoming, manifest, error);
}

static void a_stale_site_is_refused_at(struct store *store, const char *path)
{
    g_autoptr(GError) error = NULL;

    unit_ok(put_point(store, POINT_1, "dc1", 0, &error), error);
    unit_ok(claim(path, "dr1", 1, &error), error);
    unit_fails(put_point(store, POINT_2, "dc1", 0, &error), error, ERROR_AUTH,
               "belongs to site dr1 since");
    unit_fails(put_point(store, POINT_2, "dc1", 0, &error), error, ERROR_AUTH, "drctl failback db");
    unit_ok(put_point(store, POINT_2, "dr1", 1, &error), error);
    /* A copy of a point is no new state of the VM. */
    unit_ok(points_put(store, VM_A, POINT_3, NULL, POINTS_CLUSTER, &error), error);
}

START_TEST(a_store_refuses_points_of_a_vm_that_another_site_owns)
{
    struct place place = place_new();

    a_stale_site_is_refused_at(place.store, place.path);
    place_clear(&place);
}
END_TEST

START_TEST(a_store_at_another_site_refuses_them_too)
{
    struct place place = place_new();
    struct serving serving;

    serving_start(&serving, place.store);
    a_stale_site_is_refused_at(serving.remote, place.path);
    serving_end(&serving);
    place_clear(&place);
}
END_TEST

/* The site fails over while a point of the VM is on its way. */
START_TEST(a_point_whose_vm_was_failed_over_meanwhile_is_not_committed)
{
    AUTO(manifest) manifest = points_manifest(VM_A, POINT_1, NULL, POINTS_CLUSTER);
    struct taker taker = {"dc1", 0};
    g_autoptr(GPtrArray) points = NULL;
    struct incoming *incoming;
    struct place place;
    g_autoptr(GError) error = NULL;

    place = place_new();
    unit_ok(incoming = store_begin_by(place.store, VM_A, POINT_1, &taker, &error), error);
    unit_ok(points_send(incoming, manifest, &error), error);
    unit_ok(claim(place.path, "dr1", 1, &error), error);
    unit_fails(incoming_commit(incoming, manifest, &error), error, ERROR_AUTH, "site dr1");
    incoming_free(incoming);
    unit_ok(points = store_points(place.store, VM_A, &error), error);
    ck_assert_uint_eq(points->len, 0);
    place_clear(&place);
}
END_TEST

START_TEST(owners_are_told_and_learned_over_the_wire)
{
    AUTO(owner) dr1 = owner_new(VM_A, "db", "dr1", 1, "r-20261120-2215-1");
    AUTO(owner) older = owner_new(VM_A, "db", "dc1", 1, NULL);
    AUTO(owner) other = owner_new(VM_B, "app", "dr1", 1, NULL);
    g_autoptr(GPtrArray) none = NULL;
    g_autoptr(GPtrArray) owners = NULL;
    struct place place;
    struct serving serving;
    g_autoptr(GError) error = NULL;

    place = place_create("dc1", &points_accept_ops);
    serving_start(&serving, place.store);
    unit_ok(none = store_owners(serving.remote, &error), error);
    ck_assert_uint_eq(none->len, 0);
    unit_ok(store_put_owner(serving.remote, dr1, &error), error);
    unit_ok(store_put_owner(serving.remote, other, &error), error);
    unit_fails(store_put_owner(serving.remote, older, &error), error, ERROR_CONFLICT,
               "belongs to site dr1");
    unit_ok(owners = store_owners(serving.remote, &error), error);
    ck_assert_uint_eq(owners->len, 2);
    ck_assert_str_eq(((struct owner *)owners->pdata[0])->run, "r-20261120-2215-1");
    ck_assert_str_eq(((struct owner *)owners->pdata[1])->uuid, VM_B);
    ck_owner(place.path, "dr1 1");
    serving_end(&serving);
    place_clear(&place);
}
END_TEST

/* Of as many VMs as need several messages. */
#define MANY 1203u

static GPtrArray *many_owners(const char *site, uint64_t epoch)
{
    GPtrArray *owners = owners_new();

    for (unsigned i = 0; i < MANY; i++) {
        g_autofree char *uuid = g_strdup_printf("6f2a7c1e-0000-4000-8000-%012x", i);
        g_autofree char *vm = g_strdup_printf("vm%u", i);

        g_ptr_array_add(owners, owner_new(uuid, vm, site, epoch, "r-20261120-2215-1"));
    }
    return owners;
}

START_TEST(many_are_taken_and_told_at_once)
{
    g_autoptr(GPtrArray) claims = many_owners("dr1", 0), taken = NULL, again = NULL, known = NULL;
    g_autoptr(GPtrArray) refused = owner_refusals_new();
    g_autofree char *here = unit_dir();
    struct place place;
    struct serving serving;
    g_autoptr(GError) error = NULL;

    unit_ok(taken = owners_take(here, claims, &error), error);
    unit_ok(again = owners_take(here, claims, &error), error);
    ck_assert_uint_eq(again->len, MANY);
    for (unsigned i = 0; i < MANY; i++) {
        ck_assert_str_eq(((struct owner *)again->pdata[i])->uuid,
                         ((struct owner *)claims->pdata[i])->uuid);
        ck_assert_uint_eq(((struct owner *)again->pdata[i])->epoch, 1);
    }
    place = place_create("dc1", &points_accept_ops);
    serving_start(&serving, place.store);
    unit_ok(store_put_owners(serving.remote, taken, refused, &error), error);
    ck_assert_uint_eq(refused->len, 0);
    unit_ok(known = store_owners(place.store, &error), error);
    ck_assert_uint_eq(known->len, MANY);
    serving_end(&serving);
    place_clear(&place);
}
END_TEST

START_TEST(of_many_only_those_that_are_not_newer_are_refused)
{
    g_autoptr(GPtrArray) owners = many_owners("dr1", 1), refused = owner_refusals_new();
    AUTO(owner) newer = owner_copy(owners->pdata[700]);
    struct owner_refusal *refusal, *twice;
    AUTO(owner) first = NULL;
    struct place place;
    struct serving serving;
    g_autoptr(GError) error = NULL;

    newer->epoch = 2;
    g_ptr_array_add(owners, owner_new(newer->uuid, "again", "dr2", 9, NULL));
    ((struct owner *)owners->pdata[1])->epoch = 5;
    g_ptr_array_add(owners,
                    owner_new(((struct owner *)owners->pdata[1000])->uuid, "one", "dr1", 3, NULL));
    place = place_create("dc1", &points_accept_ops);
    unit_ok(owner_claim(place.path, newer, &error), error);
    serving_start(&serving, place.store);
    unit_ok(store_put_owners(serving.remote, owners, refused, &error), error);
    ck_assert_uint_eq(refused->len, 2);
    refusal = refused->pdata[0];
    ck_assert_str_eq(refusal->uuid, newer->uuid);
    ck_assert(error_is(refusal->why, ERROR_CONFLICT));
    ck_assert_ptr_nonnull(strstr(refusal->why->message, "belongs to site dr1"));
    twice = refused->pdata[1];
    ck_assert_ptr_nonnull(strstr(twice->why->message, "two records of VM one at once"));
    unit_ok(owner_read(place.path, ((struct owner *)owners->pdata[1])->uuid, &first, &error),
            error);
    ck_assert_uint_eq(first->epoch, 5);
    serving_end(&serving);
    place_clear(&place);
}
END_TEST

START_TEST(a_pool_bundle_brings_the_owners_with_it)
{
    AUTO(owner) owner = owner_new(VM_A, "db", "dr1", 2, NULL);
    AUTO(bundle) bundle = bundle_new("dr1");
    AUTO(bundle) fetched = NULL;
    g_autoptr(GPtrArray) owners = NULL;
    struct place place;
    bool sent;
    g_autoptr(GError) error = NULL;

    place = place_create("dr2", &points_accept_ops);
    bundle_add_domain(bundle, "db", VM_A, "<domain/>");
    bundle_add_owner(bundle, owner);
    unit_ok(claim(place.path, "dc1", 1, &error), error);
    unit_ok(bundle_publish(bundle, place.store, &sent, &error), error);
    ck_owner(place.path, "dr1 2");
    unit_ok(fetched = bundle_fetch(place.store, "dr1", &error), error);
    unit_ok(owners = bundle_owners(fetched, &error), error);
    ck_assert_uint_eq(owners->len, 1);
    ck_assert_uint_eq(((struct owner *)owners->pdata[0])->epoch, 2);
    place_clear(&place);
}
END_TEST

START_TEST(a_bundle_with_an_older_owner_changes_nothing)
{
    AUTO(owner) owner = owner_new(VM_A, "db", "dr1", 2, NULL);
    AUTO(bundle) bundle = bundle_new("dr1");
    struct place place;
    bool sent;
    g_autoptr(GError) error = NULL;

    place = place_create("dr2", &points_accept_ops);
    bundle_add_domain(bundle, "db", VM_A, "<domain/>");
    bundle_add_owner(bundle, owner);
    unit_ok(claim(place.path, "dc1", 3, &error), error);
    unit_ok(bundle_publish(bundle, place.store, &sent, &error), error);
    ck_assert(sent);
    ck_owner(place.path, "dc1 3");
    place_clear(&place);
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "owner", a_record_comes_back_as_it_was_put_down, only_a_newer_epoch_replaces_a_record,
        nobody_can_jump_to_the_last_epoch, taking_a_vm_makes_the_epoch_after_all_that_are_known,
        a_damaged_record_is_told_and_stops_no_failover, of_two_that_claim_at_once_one_wins,
        refuses_a_record_that_is_wrong, a_store_refuses_points_of_a_vm_that_another_site_owns,
        a_store_at_another_site_refuses_them_too,
        a_point_whose_vm_was_failed_over_meanwhile_is_not_committed,
        owners_are_told_and_learned_over_the_wire, many_are_taken_and_told_at_once,
        of_many_only_those_that_are_not_newer_are_refused, a_pool_bundle_brings_the_owners_with_it,
        a_bundle_with_an_older_owner_changes_nothing);
}
