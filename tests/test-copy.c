/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Points are copied between stores, of which one is behind a server in another process.
 */
#include "tests/place.h"
#include "tests/server.h"

static char *const no_vms[] = {NULL};

/* Copy what the plan says; how many points those are. */
static unsigned copy(struct place *from, struct place *to, char *const *vms)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) plan = store_copy_plan(from->store, to->store, vms, NULL, &error);

    unit_ok(plan, error);
    for (unsigned i = 0; i < plan->len; i++)
        unit_ok(store_copy_point(from->store, to->store, plan->pdata[i], NULL, &error), error);
    return plan->len;
}

static char *point_text(const struct place *place, const char *vm, const char *point,
                        const char *name)
{
    g_autofree char *dir = store_point_dir(place->path, vm, point);
    g_autofree char *path = g_build_filename(dir, name, NULL);
    char *text = NULL;

    ck_assert(g_file_get_contents(path, &text, NULL, NULL));
    return text;
}

static void assert_same(const struct place *a, const struct place *b, const char *vm,
                        const char *point)
{
    g_autofree char *left = point_text(a, vm, point, SHA256SUMS_NAME);
    g_autofree char *right = point_text(b, vm, point, SHA256SUMS_NAME);

    ck_assert_str_eq(left, right);
}

static void damage(const struct place *place, const char *point, const char *name)
{
    g_autofree char *dir = store_point_dir(place->path, VM_A, point);
    g_autofree char *path = g_build_filename(dir, name, NULL);
    FILE *file = fopen(path, "r+");

    ck_assert(file && fseek(file, 40, SEEK_SET) == 0 && fputs("DAMAGE", file) > 0);
    fclose(file);
}

static unsigned count_points(struct place *place)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) points = store_points(place->store, NULL, &error);

    unit_ok(points, error);
    for (unsigned i = 0; i < points->len; i++)
        unit_ok(points_verify(place->path, points->pdata[i], &error), error);
    return points->len;
}

START_TEST(copies_what_is_missing_as_it_is_and_only_that)
{
    AUTO_PLACE from = place_new();
    AUTO_PLACE to = place_new();

    put(&from, VM_A, POINT_1, NULL);
    put(&from, VM_A, POINT_2, POINT_1);
    put(&from, VM_B, POINT_1, NULL);
    ck_assert_uint_eq(copy(&from, &to, no_vms), 3);
    put(&from, VM_A, POINT_3, POINT_2);
    ck_assert_uint_eq(copy(&from, &to, no_vms), 1);
    ck_assert_uint_eq(copy(&from, &to, no_vms), 0);
    ck_assert_uint_eq(count_points(&to), 4);
    assert_same(&from, &to, VM_A, POINT_1);
    assert_same(&from, &to, VM_A, POINT_3);
    assert_same(&from, &to, VM_B, POINT_1);
}
END_TEST

START_TEST(copies_the_vms_that_are_named)
{
    AUTO_PLACE from = place_new();
    AUTO_PLACE to = place_new();
    GError *error = NULL;

    put(&from, VM_A, POINT_1, NULL);
    put(&from, VM_B, POINT_2, NULL);
    ck_assert_uint_eq(copy(&from, &to, (char *[]){(char *)VM_B, NULL}), 1);
    unit_ok(store_points(to.store, VM_B, &error), error);
    unit_fails(
        store_copy_plan(from.store, to.store, (char *[]){(char *)"nobody", NULL}, NULL, &error),
        error, ERROR_NOT_FOUND, "nobody");
    ck_assert_uint_eq(copy(&from, &to, (char *[]){(char *)"db", NULL}), 1);
}
END_TEST

START_TEST(a_store_is_not_copied_into_itself)
{
    AUTO_PLACE place = place_new();
    AUTO_PLACE again = place_open(place.path, &points_accept_ops);
    GError *error = NULL;

    unit_fails(store_copy_plan(place.store, again.store, no_vms, NULL, &error), error, ERROR_USAGE,
               "same store");
}
END_TEST

/* Which points of VM_A a policy leaves of a plan, as the last digits of their ids. */
static char *planned(struct place *from, struct place *to, const char *policy)
{
    struct copy_wish wish = {};
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) plan = NULL;
    GString *text = g_string_new(NULL);

    unit_ok(retention_parse(policy, &wish.keep, &error), error);
    plan = store_copy_plan(from->store, to->store, no_vms, &wish, &error);
    unit_ok(plan, error);
    for (unsigned i = 0; i < plan->len; i++) {
        const struct manifest *point = plan->pdata[i];

        ck_assert_str_eq(point->uuid, VM_A);
        g_string_append_c(text, point->point[strlen(POINT_1) - 2]);
    }
    return g_string_free(text, FALSE);
}

START_TEST(what_would_not_stay_there_is_not_copied_but_as_a_base)
{
    AUTO_PLACE from = place_new();
    AUTO_PLACE to = place_new();
    g_autofree char *all = NULL, *last = NULL, *based = NULL, *old = NULL;

    put(&from, VM_A, POINT_1, NULL);
    put(&from, VM_A, POINT_2, NULL);
    all = planned(&from, &to, "last=2");
    ck_assert_str_eq(all, "12");
    last = planned(&from, &to, "last=1");
    ck_assert_str_eq(last, "2");
    put(&from, VM_A, POINT_3, POINT_1);
    based = planned(&from, &to, "last=1");
    ck_assert_str_eq(based, "13");
    /* What is there counts: the two that are older would be dropped at once. */
    put(&to, VM_A, POINT_3, NULL);
    old = planned(&from, &to, "last=1");
    ck_assert_str_eq(old, "");
}
END_TEST

START_TEST(bases_come_before_what_is_based_on_them)
{
    AUTO_PLACE from = place_new();
    AUTO_PLACE to = place_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) plan = NULL;

    put(&from, VM_A, POINT_1, NULL);
    put(&from, VM_A, POINT_2, POINT_1);
    put(&from, VM_A, POINT_3, POINT_1);
    unit_ok(plan = store_copy_plan(from.store, to.store, no_vms, NULL, &error), error);
    ck_assert_uint_eq(plan->len, 3);
    for (unsigned i = 1; i < plan->len; i++)
        ck_assert_str_lt(((struct manifest *)plan->pdata[i - 1])->point,
                         ((struct manifest *)plan->pdata[i])->point);
}
END_TEST

START_TEST(a_damaged_point_is_refused_and_the_others_can_be_copied)
{
    static const char *const files[] = {"vda.qcow2", "domain.xml", MANIFEST_NAME, SHA256SUMS_NAME};

    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        AUTO_PLACE from = place_new();
        AUTO_PLACE to = place_new();
        GError *error = NULL;

        put(&from, VM_A, POINT_1, NULL);
        put(&from, VM_A, POINT_2, NULL);
        g_autoptr(GPtrArray) plan = store_copy_plan(from.store, to.store, no_vms, NULL, &error);

        unit_ok(plan && plan->len == 2, error);
        damage(&from, POINT_1, files[i]);
        unit_fails(store_copy_point(from.store, to.store, plan->pdata[0], NULL, &error), error,
                   ERROR_INTEGRITY, i < 3 ? files[i] : "SHA256");
        unit_ok(store_copy_point(from.store, to.store, plan->pdata[1], NULL, &error), error);
        ck_assert_uint_eq(count_points(&to), 1);
    }
}
END_TEST

START_TEST(a_point_that_was_removed_meanwhile_is_told)
{
    AUTO_PLACE from = place_new();
    AUTO_PLACE to = place_new();
    GError *error = NULL;

    put(&from, VM_A, POINT_1, NULL);
    put(&from, VM_A, POINT_2, POINT_1);
    g_autoptr(GPtrArray) plan = store_copy_plan(from.store, to.store, no_vms, NULL, &error);
    g_autofree char *dir = store_point_dir(from.path, VM_A, POINT_1);

    unit_ok(plan && plan->len == 2 && tree_remove(dir, &error), error);
    unit_fails(store_copy_point(from.store, to.store, plan->pdata[0], NULL, &error), error,
               ERROR_NOT_FOUND, POINT_1);
    /* What was based on it has no base there. */
    unit_fails(store_copy_point(from.store, to.store, plan->pdata[1], NULL, &error), error,
               ERROR_NOT_FOUND, "base");
    ck_assert_uint_eq(count_points(&to), 0);
}
END_TEST

/* --- Over the wire --------------------------------------------------------------------------- */

START_TEST(copies_to_a_remote_store_and_back)
{
    AUTO_PLACE from = place_new();
    AUTO_PLACE back = place_new();
    struct server server = server_new(&points_accept_ops);
    struct place far = {.path = server.path, .store = server_store(&server)};

    put(&from, VM_A, POINT_1, NULL);
    put(&from, VM_A, POINT_2, POINT_1);
    ck_assert_uint_eq(copy(&from, &far, no_vms), 2);
    ck_assert_uint_eq(copy(&far, &back, no_vms), 2);
    ck_assert_uint_eq(count_points(&back), 2);
    assert_same(&from, &far, VM_A, POINT_2);
    assert_same(&from, &back, VM_A, POINT_2);
    store_free(far.store);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    g_free(server.path);
}
END_TEST

START_TEST(a_remote_store_tells_which_points_are_damaged)
{
    struct server server = server_new(&points_accept_ops);
    struct place far = {.path = server.path, .store = server_store(&server)};
    g_autofree char *point = store_point_dir(server.path, VM_A, POINT_1);
    g_autoptr(GError) error = NULL;
    AUTO(damage) damage = damage_new();

    g_auto(GStrv) unknown = store_damaged(far.store, VM_A, &error);

    unit_ok(unknown, error);
    put(&far, VM_A, POINT_1, NULL);
    put(&far, VM_A, POINT_2, POINT_1);
    /* The server heals after each commit: what it is asked now it answers when that is over, and it will
     * not take our note for something to heal. */
    g_auto(GStrv) healed = store_damaged(far.store, VM_A, &error);

    unit_ok(healed, error);
    damage_add(damage, "vda.qcow2", "a test");
    unit_ok(damage_save(point, damage, &error), error);
    g_auto(GStrv) points = store_damaged(far.store, VM_A, &error);

    unit_ok(points, error);
    ck_assert_uint_eq(g_strv_length(unknown), 0);
    ck_assert_uint_eq(g_strv_length(points), 1);
    ck_assert_str_eq(points[0], POINT_1);
    store_free(far.store);
    ck_assert_int_eq(server_end(&server), EXIT_SERVED);
    g_free(server.path);
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "copy", copies_what_is_missing_as_it_is_and_only_that, copies_the_vms_that_are_named,
        what_would_not_stay_there_is_not_copied_but_as_a_base, a_store_is_not_copied_into_itself,
        bases_come_before_what_is_based_on_them,
        a_damaged_point_is_refused_and_the_others_can_be_copied,
        a_point_that_was_removed_meanwhile_is_told, a_remote_store_tells_which_points_are_damaged,
        copies_to_a_remote_store_and_back);
}
