/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Points are copied between stores, of which one is behind a server in another process.
 */
#include "tests/unit.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "replicator/local.h"
#include "replicator/remote.h"
#include "replicator/serve.h"
#include "tests/points.h"

#define IMAGE_BYTES ((uint64_t)3 << 19)
#define DEADLINE_MS 20000

struct place {
    char *path;
    struct catalog *catalog;
    struct store *store;
};

static struct place place_open(const char *path)
{
    struct place place = {.path = g_strdup(path)};
    g_autoptr(GError) error = NULL;

    unit_ok(place.catalog = catalog_open(path, &error), error);
    unit_ok(place.store = store_open_local(path, place.catalog, &points_accept_ops, &error), error);
    return place;
}

static struct place place_new(void)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *path = g_build_filename(dir, "store", NULL);
    g_autoptr(GError) error = NULL;

    unit_ok(store_create(path, "dr1", &error), error);
    return place_open(path);
}

static void place_clear(struct place *place)
{
    store_free(place->store);
    catalog_free(place->catalog);
    g_free(place->path);
}
#define AUTO_PLACE __attribute__((cleanup(place_clear))) struct place

static void put(struct place *place, const char *vm, const char *point, const char *base)
{
    g_autoptr(GError) error = NULL;

    unit_ok(points_put(place->store, vm, point, base, IMAGE_BYTES, &error), error);
}

static char *const no_vms[] = {NULL};

/* Copy what the plan says; how many points those are. */
static unsigned copy(struct place *from, struct place *to, char *const *vms)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) plan = store_copy_plan(from->store, to->store, vms, &error);

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
    unit_fails(store_copy_plan(from.store, to.store, (char *[]){(char *)"nobody", NULL}, &error),
               error, ERROR_NOT_FOUND, "nobody");
    ck_assert_uint_eq(copy(&from, &to, (char *[]){(char *)"db", NULL}), 1);
}
END_TEST

START_TEST(a_store_is_not_copied_into_itself)
{
    AUTO_PLACE place = place_new();
    AUTO_PLACE again = place_open(place.path);
    GError *error = NULL;

    unit_fails(store_copy_plan(place.store, again.store, no_vms, &error), error, ERROR_USAGE,
               "same store");
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
    unit_ok(plan = store_copy_plan(from.store, to.store, no_vms, &error), error);
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
        g_autoptr(GPtrArray) plan = store_copy_plan(from.store, to.store, no_vms, &error);

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
    g_autoptr(GPtrArray) plan = store_copy_plan(from.store, to.store, no_vms, &error);
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

static struct store *serve_place(const char *path, pid_t *pid)
{
    g_autoptr(GError) error = NULL;
    struct store *store;
    int fds[2];

    signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    *pid = fork();
    ck_assert_int_ge(*pid, 0);
    if (*pid == 0) {
        struct place place;

        close_range(3, (unsigned)fds[1] - 1, 0);
        place = place_open(path);
        serve_link(place.store, &(struct serve_rules){0}, link_fd_new(fds[1], fds[1]), DEADLINE_MS,
                   NULL);
        place_clear(&place);
        _exit(0);
    }
    close(fds[1]);
    unit_ok(store = store_open_link(link_fd_new(fds[0], fds[0]), "dr1", DEADLINE_MS, &error),
            error);
    return store;
}

START_TEST(copies_to_a_remote_store_and_back)
{
    AUTO_PLACE from = place_new();
    AUTO_PLACE back = place_new();
    g_autofree char *dir = unit_dir();
    g_autofree char *path = g_build_filename(dir, "far", NULL);
    g_autoptr(GError) error = NULL;
    struct place far = {.path = path};
    pid_t pid;

    unit_ok(store_create(path, "dr1", &error), error);
    far.store = serve_place(path, &pid);
    put(&from, VM_A, POINT_1, NULL);
    put(&from, VM_A, POINT_2, POINT_1);
    ck_assert_uint_eq(copy(&from, &far, no_vms), 2);
    ck_assert_uint_eq(copy(&far, &back, no_vms), 2);
    ck_assert_uint_eq(count_points(&back), 2);
    assert_same(&from, &far, VM_A, POINT_2);
    assert_same(&from, &back, VM_A, POINT_2);
    store_free(far.store);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}
END_TEST

START_TEST(a_remote_store_tells_which_points_are_damaged)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *path = g_build_filename(dir, "far", NULL);
    g_autofree char *point = store_point_dir(path, VM_A, POINT_1);
    g_autoptr(GError) error = NULL;
    struct place far = {.path = path};
    AUTO(damage) damage = damage_new();
    pid_t pid;

    unit_ok(store_create(path, "dr1", &error), error);
    far.store = serve_place(path, &pid);
    g_auto(GStrv) unknown = store_damaged(far.store, VM_A, &error);

    unit_ok(unknown, error);
    put(&far, VM_A, POINT_1, NULL);
    put(&far, VM_A, POINT_2, POINT_1);
    damage_add(damage, "vda.qcow2", "a test");
    unit_ok(damage_save(point, damage, &error), error);
    g_auto(GStrv) points = store_damaged(far.store, VM_A, &error);

    unit_ok(points, error);
    ck_assert_uint_eq(g_strv_length(unknown), 0);
    ck_assert_uint_eq(g_strv_length(points), 1);
    ck_assert_str_eq(points[0], POINT_1);
    store_free(far.store);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "copy", copies_what_is_missing_as_it_is_and_only_that, copies_the_vms_that_are_named,
        a_store_is_not_copied_into_itself, bases_come_before_what_is_based_on_them,
        a_damaged_point_is_refused_and_the_others_can_be_copied,
        a_point_that_was_removed_meanwhile_is_told, a_remote_store_tells_which_points_are_damaged,
        copies_to_a_remote_store_and_back);
}
