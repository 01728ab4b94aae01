/* SPDX-License-Identifier: Apache-2.0 */
/* Several VMs at one instant; their guests have no system, so nothing is frozen here (tests/lab-e2e does). */
#include "tests/capture-lab.h"

#define N 2

struct guests {
    struct lab *labs[N];
    struct round_vm vms[N];
};

/* Two guests, whose points go to the store of the first. */
static struct guests guests_new(const char *first, const char *second)
{
    struct guests guests = {.labs = {lab_new(first, "qcow2"), lab_new(second, "qcow2")}};

    return guests;
}

static void guests_free(struct guests *guests)
{
    for (unsigned i = 0; i < N; i++) {
        point_result_clear(&guests->vms[i].result);
        g_clear_error(&guests->vms[i].error);
        lab_free(guests->labs[i]);
    }
}
#define AUTO_GUESTS __attribute__((cleanup(guests_free))) struct guests

static void take_round(struct guests *guests, enum group_mode mode)
{
    for (unsigned i = 0; i < N; i++) {
        struct lab *lab = guests->labs[i];

        point_result_clear(&guests->vms[i].result);
        g_clear_error(&guests->vms[i].error);
        guests->vms[i] = (struct round_vm){.request = request_of(lab)};
        guests->vms[i].request.destination = guests->labs[0]->store;
        guests->vms[i].request.catalog = guests->labs[0]->catalog;
    }
    snapshot_take_round(guests->vms, N, mode);
}

static const struct manifest *manifest_of(const struct guests *guests, unsigned i)
{
    unit_ok(guests->vms[i].result.manifest, guests->vms[i].error);
    return guests->vms[i].result.manifest;
}

static void end_the_domain(const struct lab *lab)
{
    VIRSH("destroy", domain_name(lab->domain));
}

START_TEST(all_points_of_a_round_name_it_and_its_skew)
{
    AUTO_GUESTS guests = guests_new("db", "app");

    guest_io(guests.labs[0], 0, "write -P 1 0 1M");
    take_round(&guests, GROUP_REQUIRE);
    for (unsigned i = 0; i < N; i++) {
        const struct manifest *manifest = manifest_of(&guests, i);

        ck_assert_int_eq(manifest->consistency, CONSISTENCY_GROUP_CRASH);
        ck_assert_str_eq(manifest->group, manifest_of(&guests, 0)->group);
        ck_assert_uint_eq(manifest->group_members, N);
        ck_assert_uint_lt(manifest->group_skew_ms, 30000);
        ck_assert_uint_eq(manifest->group_skew_ms, manifest_of(&guests, 0)->group_skew_ms);
    }
    take_round(&guests, GROUP_TRY);
    ck_assert_ptr_nonnull(manifest_of(&guests, 1)->base);
    ck_assert_ptr_nonnull(manifest_of(&guests, 1)->group);
}
END_TEST

/* No instant lies outside of what was measured. */
START_TEST(the_skew_covers_all_instants)
{
    AUTO_GUESTS guests = guests_new("early", "late");
    int64_t apart;

    take_round(&guests, GROUP_TRY);
    apart = manifest_of(&guests, 1)->time_ms - manifest_of(&guests, 0)->time_ms;
    ck_assert_int_le(llabs(apart), (int64_t)manifest_of(&guests, 0)->group_skew_ms);
}
END_TEST

START_TEST(a_vm_that_is_off_takes_part)
{
    AUTO_GUESTS guests = guests_new("awake", "asleep");

    guest_io(guests.labs[1], 0, "write -P 1 0 1M");
    end_the_domain(guests.labs[1]);
    for (unsigned i = 0; i < 2; i++) {
        take_round(&guests, GROUP_REQUIRE);
        ck_assert_str_eq(manifest_of(&guests, 1)->group, manifest_of(&guests, 0)->group);
        ck_assert_uint_eq(manifest_changed_bytes(manifest_of(&guests, 1)), i ? 0 : 1 << 20);
    }
    assert_nothing_is_left(guests.labs[1]);
}
END_TEST

START_TEST(who_cannot_take_part_makes_the_others_points_by_themselves)
{
    AUTO_GUESTS guests = guests_new("stays", "busy");
    AUTO(file_lock) lock = NULL;
    g_autofree char *path =
        g_strdup_printf("%s/vm-%s.lock", catalog_lock_dir(guests.labs[0]->catalog),
                        domain_uuid(guests.labs[1]->domain));

    unit_ok(lock = file_lock_take(path, "busy", NULL), (GError *)NULL);
    take_round(&guests, GROUP_TRY);
    ck_assert_int_eq(manifest_of(&guests, 0)->consistency, CONSISTENCY_CRASH);
    ck_assert_ptr_null(manifest_of(&guests, 0)->group);
    ck_assert_ptr_null(guests.vms[1].result.manifest);
    ck_assert(error_is(guests.vms[1].error, ERROR_CONFLICT));
    assert_nothing_is_left(guests.labs[0]);
}
END_TEST

START_TEST(a_required_round_that_loses_a_vm_gives_no_point_and_leaves_nothing)
{
    AUTO_GUESTS guests = guests_new("void", "absent");
    g_autoptr(GPtrArray) points = NULL;

    end_the_domain(guests.labs[1]);
    domain_undefine(guests.labs[1]->domain, NULL);
    take_round(&guests, GROUP_REQUIRE);
    for (unsigned i = 0; i < N; i++)
        ck_assert_ptr_null(guests.vms[i].result.manifest);
    ck_assert_ptr_nonnull(strstr(guests.vms[0].error->message, "the round lost absent"));
    unit_ok(points = store_points(guests.labs[0]->store, NULL, NULL), (GError *)NULL);
    ck_assert_uint_eq(points->len, 0);
    assert_nothing_is_left(guests.labs[0]);
    ck_assert_uint_eq(count_checkpoints(guests.labs[0]), 0);
}
END_TEST

int main(void)
{
    become_ordinary_user();
    return SESSION_RUN("round", all_points_of_a_round_name_it_and_its_skew,
                       the_skew_covers_all_instants, a_vm_that_is_off_takes_part,
                       who_cannot_take_part_makes_the_others_points_by_themselves,
                       a_required_round_that_loses_a_vm_gives_no_point_and_leaves_nothing);
}
