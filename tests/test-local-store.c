/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/place.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "tests/points-get.h"

static mode_t mode_of(const char *path)
{
    struct stat st;

    ck_assert_int_eq(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static char *point_file(const struct place *place, const char *point, const char *name)
{
    g_autofree char *dir = store_point_dir(place->path, VM_A, point);

    return g_build_filename(dir, name, NULL);
}

/* --- Making and opening --- */

START_TEST(makes_a_store_once)
{
    struct place place = place_new();
    struct store_info info = {0};
    GError *error = NULL;

    unit_fails(store_create(place.path, "dr1", &error), error, ERROR_CONFLICT, "already");
    unit_ok(store_info(place.store, &info, &error), error);
    ck_assert(uuid_is_valid(info.uuid));
    ck_assert_str_eq(info.site, "dr1");
    ck_assert_str_eq(info.version, DRCTL_VERSION);
    ck_assert_uint_gt(info.total_bytes, info.free_bytes);
    ck_assert_int_lt(llabs(info.clock_ms - time_now_ms()), 60000);
    store_info_clear(&info);
    place_clear(&place);
}
END_TEST

START_TEST(gives_files_of_a_point)
{
    struct place place = place_new();

    put(&place, VM_A, POINT_1, NULL);
    points_get(place.store, place.path, POINT_1);
    place_clear(&place);
}
END_TEST

START_TEST(modes_do_not_depend_on_the_umask)
{
    static const mode_t masks[] = {0, 0077, 0777};

    for (size_t i = 0; i < G_N_ELEMENTS(masks); i++) {
        mode_t old = umask(masks[i]);
        struct place place = place_new();
        g_autofree char *vm = g_build_filename(place.path, "vms", VM_A, NULL);
        g_autofree char *point = store_point_dir(place.path, VM_A, POINT_1);
        g_autofree char *image = point_file(&place, POINT_1, "vda.qcow2");
        g_autofree char *manifest = point_file(&place, POINT_1, "manifest.json");
        g_autofree char *pool = g_build_filename(place.path, "pool", NULL);

        put(&place, VM_A, POINT_1, NULL);
        umask(old);
        ck_assert_int_eq(mode_of(place.path), 0711);
        ck_assert_int_eq(mode_of(vm), 0711);
        ck_assert_int_eq(mode_of(pool), 0700);
        ck_assert_int_eq(mode_of(point), 0700);
        ck_assert_int_eq(mode_of(image), 0600);
        ck_assert_int_eq(mode_of(manifest), 0600);
        place_clear(&place);
    }
}
END_TEST

START_TEST(opens_only_what_it_understands)
{
    struct place place = place_new();
    g_autofree char *file = g_build_filename(place.path, "store.json", NULL);
    g_autofree char *missing = g_build_filename(place.path, "vms", NULL);
    GError *error = NULL;

    unit_fails(store_open_local(missing, place.catalog, &points_accept_ops, &error), error,
               ERROR_CONFIG, "drctl init");
    write_text(file, "{\"format\": 2, \"other\": true}");
    unit_fails(store_open_local(place.path, place.catalog, &points_accept_ops, &error), error,
               ERROR_CONFIG, "update drctl");
    write_text(file, "{\"format\": 1}");
    unit_fails(store_open_local(place.path, place.catalog, &points_accept_ops, &error), error,
               ERROR_CONFIG, "damaged");
    write_text(file, "{\"format\": 1, \"uuid\": \"../..\", \"site\": \"dr1\"}");
    unit_fails(store_open_local(place.path, place.catalog, &points_accept_ops, &error), error,
               ERROR_CONFIG, "damaged");
    write_text(file, "{");
    unit_fails(store_open_local(place.path, place.catalog, &points_accept_ops, &error), error,
               ERROR_CONFIG, "damaged");
    place_clear(&place);
}
END_TEST

/* --- Points and the catalog --- */

START_TEST(points_come_newest_first)
{
    struct place place = place_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) all = NULL;
    static const char *const order[] = {POINT_3, POINT_2, POINT_1};

    put(&place, VM_A, POINT_1, NULL);
    put(&place, VM_B, POINT_2, NULL);
    put(&place, VM_A, POINT_3, POINT_1);
    unit_ok(all = store_points(place.store, NULL, &error), error);
    ck_assert_uint_eq(all->len, 3);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_str_eq(((struct manifest *)all->pdata[i])->point, order[i]);
    ck_assert_uint_eq(n_points(&place, VM_A), 2);
    ck_assert_uint_eq(n_points(&place, VM_B), 1);
    place_clear(&place);
}
END_TEST

static bool in_catalog(struct place *place, const char *point)
{
    g_autofree char *key = g_strconcat(VM_A, "/", point, NULL);
    json_auto_t *value = NULL;

    return catalog_get(place->catalog, CATALOG_POINTS, key, &value, NULL) && value;
}

START_TEST(the_catalog_heals_itself)
{
    struct place place = place_new();
    g_autofree char *gone = store_point_dir(place.path, VM_A, POINT_2);
    g_autoptr(GError) error = NULL;
    json_auto_t *rubbish = json_string("rubbish");

    put(&place, VM_A, POINT_1, NULL);
    put(&place, VM_A, POINT_2, NULL);
    ck_assert(in_catalog(&place, POINT_1));
    unit_ok(catalog_remove(place.catalog, CATALOG_POINTS, VM_A "/" POINT_1, &error), error);
    unit_ok(tree_remove(gone, &error), error);
    ck_assert_uint_eq(n_points(&place, VM_A), 1);
    ck_assert(in_catalog(&place, POINT_1));
    ck_assert(!in_catalog(&place, POINT_2));
    unit_ok(catalog_put(place.catalog, CATALOG_POINTS, VM_A "/" POINT_1, rubbish, &error), error);
    ck_assert_uint_eq(n_points(&place, VM_A), 1);
    place_clear(&place);
}
END_TEST

/* The manifest of POINT_1 with another name of the VM, in a directory that takes its place. */
static void rename_vm_in(struct place *place, const char *name)
{
    g_autofree char *dir = store_point_dir(place->path, VM_A, POINT_1);
    g_autofree char *old = g_strconcat(dir, ".old", NULL);
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    g_autoptr(GError) error = NULL;
    AUTO(manifest) manifest = manifest_load(path, &error);
    g_autofree char *text = NULL;

    unit_ok(manifest, error);
    g_free(manifest->vm);
    manifest->vm = g_strdup(name);
    text = manifest_text(manifest);
    ck_assert_int_eq(rename(dir, old), 0);
    ck_assert_int_eq(mkdir(dir, 0700), 0);
    write_text(path, text);
    unit_ok(tree_remove(old, &error), error);
}

START_TEST(vms_are_found_by_all_names_they_had)
{
    struct place place = place_new();
    g_autoptr(GPtrArray) points = NULL;
    g_autoptr(GError) error = NULL;
    char *name;

    put(&place, VM_A, POINT_1, NULL);
    put(&place, VM_A, POINT_2, NULL);
    put(&place, VM_B, POINT_3, NULL);
    unit_ok(points = store_points(place.store, VM_A, &error), error);
    name = ((struct manifest *)points->pdata[0])->vm;
    ck_assert_uint_eq(n_points(&place, name), 3);
    rename_vm_in(&place, "new name");
    /* The catalog knows the directory that was there before, and not what is in the new one. */
    ck_assert_uint_eq(n_points(&place, "new name"), 0);
    ck_assert_uint_eq(n_points(&place, name), 3);
    ck_assert_uint_eq(n_points(&place, "new name"), 2);
    unit_ok(catalog_remove(place.catalog, CATALOG_VMS, "/" VM_A, &error), error);
    unit_ok(catalog_remove(place.catalog, CATALOG_VMS, "new name/" VM_A, &error), error);
    unit_ok(catalog_remove(place.catalog, CATALOG_POINTS, VM_A "/" POINT_1, &error), error);
    ck_assert_uint_eq(n_points(&place, "new name"), 2);
    ck_assert_uint_eq(n_points(&place, "nobody"), 0);
    place_clear(&place);
}
END_TEST

START_TEST(a_damaged_manifest_is_named_and_hides_nothing_else)
{
    struct place place = place_new();
    g_autofree char *manifest = point_file(&place, POINT_1, "manifest.json");
    g_auto(GStrv) damaged = NULL;
    g_autoptr(GError) error = NULL;

    put(&place, VM_A, POINT_1, NULL);
    put(&place, VM_A, POINT_2, NULL);
    write_text(manifest, "{\"format\": 1, \"vm\": ");
    ck_assert_uint_eq(n_points(&place, VM_A), 2);
    unit_ok(catalog_remove(place.catalog, CATALOG_POINTS, VM_A "/" POINT_1, &error), error);
    ck_assert_uint_eq(n_points(&place, VM_A), 1);
    unit_ok(damaged = store_damaged_points(place.store, NULL, &error), error);
    ck_assert_uint_eq(g_strv_length(damaged), 1);
    ck_assert(g_str_has_prefix(damaged[0], VM_A "/" POINT_1 ": "));
    place_clear(&place);
}
END_TEST

START_TEST(a_chain_leads_down_to_the_full_image)
{
    struct place place = place_new();
    g_autofree char *top = point_file(&place, POINT_3, "vda.qcow2");
    g_autofree char *full = point_file(&place, POINT_1, "vda.qcow2");
    g_autofree char *middle = point_file(&place, POINT_2, "vda.qcow2");
    g_auto(GStrv) chain = NULL;
    GError *error = NULL;

    put(&place, VM_A, POINT_1, NULL);
    put(&place, VM_A, POINT_2, POINT_1);
    put(&place, VM_A, POINT_3, POINT_2);
    unit_ok(chain = store_chain(place.store, VM_A, POINT_3, "vda", &error), error);
    ck_assert_uint_eq(g_strv_length(chain), 3);
    ck_assert_str_eq(chain[0], top);
    ck_assert_str_eq(chain[2], full);
    unit_fails(store_chain(place.store, VM_A, POINT_3, "vdb", &error), error, ERROR_INTEGRITY,
               "no disk vdb");
    unit_fails(store_chain(place.store, VM_B, POINT_3, "vda", &error), error, ERROR_NOT_FOUND,
               POINT_3);
    ck_assert_int_eq(unlink(full), 0);
    unit_fails(store_chain(place.store, VM_A, POINT_3, "vda", &error), error, ERROR_INTEGRITY,
               full);
    g_clear_pointer(&full, g_free);
    full = g_path_get_dirname(middle);
    unit_ok(tree_remove(full, &error), error);
    unit_fails(store_chain(place.store, VM_A, POINT_3, "vda", &error), error, ERROR_INTEGRITY,
               POINT_2);
    place_clear(&place);
}
END_TEST

START_TEST(a_chain_leads_through_points_of_other_vms)
{
    struct place place = place_new();
    g_autofree char *full = store_point_dir(place.path, VM_B, POINT_1);
    g_auto(GStrv) chain = NULL;
    GError *error = NULL;

    put(&place, VM_B, POINT_1, NULL);
    unit_ok(points_put_on(place.store, VM_A, POINT_2, VM_B, POINT_1, IMAGE_BYTES, &error), error);
    put(&place, VM_A, POINT_3, POINT_2);
    unit_ok(chain = store_chain(place.store, VM_A, POINT_3, "vda", &error), error);
    ck_assert_uint_eq(g_strv_length(chain), 3);
    ck_assert(g_str_has_prefix(chain[2], full));
    unit_ok(tree_remove(full, &error), error);
    unit_fails(store_chain(place.store, VM_A, POINT_3, "vda", &error), error, ERROR_INTEGRITY,
               VM_B);
    place_clear(&place);
}
END_TEST

/* --- Verifying --- */

START_TEST(verifying_finds_every_damage)
{
    static const char *const files[] = {"vda.qcow2", "vda.digests", "domain.xml", "manifest.json"};
    struct place place = place_new();
    g_autoptr(GPtrArray) points = NULL;
    GError *error = NULL;

    put(&place, VM_A, POINT_1, NULL);
    unit_ok(points = store_points(place.store, VM_A, &error), error);
    unit_ok(store_verify_point(place.path, points->pdata[0], NULL, &error), error);
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = point_file(&place, POINT_1, files[i]);
        g_autofree char *good = NULL;
        g_autofree char *expected = g_strdup_printf("%s: it has changed", files[i]);
        size_t len;

        unit_ok(file_read(path, IMAGE_BYTES, &good, &len, &error), error);
        good[len - 1] ^= 1;
        unit_ok(file_write(path, good, len, 0600, &error), error);
        unit_fails(store_verify_point(place.path, points->pdata[0], NULL, &error), error,
                   ERROR_INTEGRITY, expected);
        good[len - 1] ^= 1;
        unit_ok(file_write(path, good, len, 0600, &error), error);
    }
    unit_ok(store_verify_point(place.path, points->pdata[0], NULL, &error), error);
    place_clear(&place);
}
END_TEST

START_TEST(verifying_names_all_that_is_wrong)
{
    struct place place = place_new();
    g_autofree char *image = point_file(&place, POINT_1, "vda.qcow2");
    g_autofree char *domain = point_file(&place, POINT_1, "domain.xml");
    g_autofree char *sums = point_file(&place, POINT_1, "SHA256SUMS");
    g_autoptr(GPtrArray) points = NULL;
    GError *error = NULL;

    put(&place, VM_A, POINT_1, NULL);
    unit_ok(points = store_points(place.store, VM_A, &error), error);
    ck_assert_int_eq(truncate(image, 1000), 0);
    ck_assert_int_eq(unlink(domain), 0);
    unit_fails(
        store_verify_point(place.path, points->pdata[0], NULL, &error), error, ERROR_INTEGRITY,
        "vda.qcow2: it has 1000 bytes instead of 3145728; domain.xml: No such file or directory");
    write_text(sums, "nonsense\n");
    unit_fails(store_verify_point(place.path, points->pdata[0], NULL, &error), error,
               ERROR_INTEGRITY, "line 1");
    write_text(sums, "");
    unit_fails(store_verify_point(place.path, points->pdata[0], NULL, &error), error,
               ERROR_INTEGRITY, "SHA256SUMS: manifest.json is not in it");
    place_clear(&place);
}
END_TEST

/* --- Pool bundles --- */

static char *bundle_data(uint64_t generation, const char *time, size_t *len)
{
    AUTO(bundle) bundle = bundle_new("dc1");
    g_autoptr(GError) error = NULL;
    char *data;

    bundle_add_domain(bundle, "db", VM_A, "<domain/>");
    bundle_seal(bundle);
    bundle->id->generation = generation;
    bundle->id->time = g_strdup(time);
    unit_ok(bundle_pack(bundle, &data, len, &error), error);
    return data;
}

static bool put_bundle(struct place *place, uint64_t generation, const char *time, GError **error)
{
    size_t len;
    g_autofree char *data = bundle_data(generation, time, &len);

    return store_put_bundle(place->store, data, len, error);
}

static uint64_t newest_generation(struct place *place)
{
    AUTO(bundle_id) id = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(store_newest_bundle(place->store, "dc1", &id, &error), error);
    return id ? id->generation : 0;
}

START_TEST(the_newest_bundle_is_the_highest_generation)
{
    struct place place = place_new();
    AUTO(bundle_id) id = NULL;
    g_autofree char *data = NULL;
    GError *error = NULL;
    size_t len, expected_len;
    g_autofree char *expected = bundle_data(2, POINT_1, &expected_len);

    ck_assert_uint_eq(newest_generation(&place), 0);
    unit_ok(put_bundle(&place, 1, POINT_3, &error), error);
    unit_ok(put_bundle(&place, 2, POINT_1, &error), error);
    unit_ok(store_newest_bundle(place.store, "dc1", &id, &error), error);
    ck_assert_uint_eq(id->generation, 2);
    unit_ok(store_get_bundle(place.store, id, &data, &len, &error), error);
    ck_assert_uint_eq(len, expected_len);
    ck_assert_mem_eq(data, expected, len);
    unit_fails(put_bundle(&place, 2, POINT_2, &error), error, ERROR_CONFLICT, "not newer");
    unit_fails(put_bundle(&place, 3, POINT_1, &error), error, ERROR_CONFLICT, "exists");
    place_clear(&place);
}
END_TEST

START_TEST(refuses_what_is_no_bundle)
{
    struct place place = place_new();
    GError *error = NULL;

    unit_fails(store_put_bundle(place.store, "nonsense", 8, &error), error, ERROR_INTEGRITY,
               "the pool bundle");
    ck_assert_uint_eq(entries(&place, "pool"), 0);
    place_clear(&place);
}
END_TEST

START_TEST(a_damaged_bundle_does_not_hide_the_one_before)
{
    struct place place = place_new();
    g_autofree char *newest = g_build_filename(place.path, "pool", "dc1", POINT_2 ".tar.zst", NULL);
    g_autoptr(GError) error = NULL;

    unit_ok(put_bundle(&place, 1, POINT_1, &error), error);
    unit_ok(put_bundle(&place, 2, POINT_2, &error), error);
    write_text(newest, "damaged");
    ck_assert_uint_eq(newest_generation(&place), 1);
    place_clear(&place);
}
END_TEST

/* Generations FIRST to LAST, each a second later. */
static void put_bundles(struct place *place, uint64_t first, uint64_t last)
{
    g_autoptr(GError) error = NULL;

    for (uint64_t i = first; i <= last; i++) {
        g_autofree char *time = point_id_format((int64_t)i * 1000);

        unit_ok(put_bundle(place, i, time, &error), error);
    }
}

/* All bundles that are here arrived so long ago. */
static void age_bundles(const struct place *place, unsigned days)
{
    g_autofree char *dir = g_build_filename(place->path, "pool", "dc1", NULL);
    g_auto(GStrv) names = dir_list(dir, NULL);
    struct timespec times[2] = {{.tv_sec = time(NULL) - days * 86400}};

    times[1] = times[0];
    for (char **name = names; *name; name++) {
        g_autofree char *path = g_build_filename(dir, *name, NULL);

        ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
    }
}

START_TEST(old_bundles_go)
{
    struct place place = place_new();

    put_bundles(&place, 1, 40);
    ck_assert_uint_eq(entries(&place, "pool/dc1"), 40);
    age_bundles(&place, 31);
    put_bundles(&place, 41, 41);
    ck_assert_uint_eq(newest_generation(&place), 41);
    ck_assert_uint_eq(entries(&place, "pool/dc1"), 32);
    place_clear(&place);
}
END_TEST

START_TEST(many_new_bundles_do_not_push_out_the_last_good_one)
{
    struct place place = place_new();
    g_autofree char *time = point_id_format(3000);
    g_autofree char *good = g_strconcat(place.path, "/pool/dc1/", time, ".tar.zst", NULL);

    put_bundles(&place, 1, 3);
    age_bundles(&place, 400);
    put_bundles(&place, 4, 60);
    ck_assert(g_file_test(good, G_FILE_TEST_EXISTS));
    age_bundles(&place, 29);
    put_bundles(&place, 61, 61);
    ck_assert(g_file_test(good, G_FILE_TEST_EXISTS));
    age_bundles(&place, 31);
    put_bundles(&place, 62, 62);
    ck_assert(!g_file_test(good, G_FILE_TEST_EXISTS));
    place_clear(&place);
}
END_TEST

START_TEST(no_bundle_is_the_newest_for_ever)
{
    struct place place = place_new();
    g_autoptr(GError) error = NULL;

    unit_fails(put_bundle(&place, INT64_MAX, POINT_1, &error), error, ERROR_INTEGRITY,
               "too far ahead of 0");
    put_bundles(&place, 5, 5);
    unit_fails(put_bundle(&place, UINT64_C(1) << 21, POINT_1, &error), error, ERROR_INTEGRITY,
               "too far ahead of 5");
    ck_assert_uint_eq(newest_generation(&place), 5);
    place_clear(&place);
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "local-store", makes_a_store_once, gives_files_of_a_point, modes_do_not_depend_on_the_umask,
        opens_only_what_it_understands, points_come_newest_first, the_catalog_heals_itself,
        vms_are_found_by_all_names_they_had, a_damaged_manifest_is_named_and_hides_nothing_else,
        a_chain_leads_down_to_the_full_image, a_chain_leads_through_points_of_other_vms,
        verifying_finds_every_damage, verifying_names_all_that_is_wrong,
        the_newest_bundle_is_the_highest_generation, refuses_what_is_no_bundle,
        a_damaged_bundle_does_not_hide_the_one_before, old_bundles_go,
        many_new_bundles_do_not_push_out_the_last_good_one, no_bundle_is_the_newest_for_ever);
}
