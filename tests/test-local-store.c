/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "replicator/local.h"
#include "tests/points-get.h"

#define IMAGE_BYTES ((uint64_t)3 << 20)

struct place {
    char *path;
    struct catalog *catalog;
    struct store *store;
};

static bool refuse(const char *dir, const struct manifest *manifest, GError **error)
{
    return fail(error, ERROR_INTEGRITY, "the images are not what they should be");
}

static const struct point_ops refuse_ops = {.check = refuse, .salvage = points_salvage};

static struct place place_open(const char *path, const struct point_ops *ops)
{
    struct place place = {.path = g_strdup(path)};
    g_autoptr(GError) error = NULL;

    unit_ok(place.catalog = catalog_open(path, &error), error);
    unit_ok(place.store = store_open_local(path, place.catalog, ops, &error), error);
    return place;
}

static struct place place_new(const struct point_ops *ops)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *path = g_build_filename(dir, "store", NULL);
    g_autoptr(GError) error = NULL;

    unit_ok(store_create(path, "dr1", &error), error);
    return place_open(path, ops);
}

static void place_free(struct place *place)
{
    store_free(place->store);
    catalog_free(place->catalog);
    g_free(place->path);
}

static void put(struct place *place, const char *vm, const char *point, const char *base)
{
    g_autoptr(GError) error = NULL;

    unit_ok(points_put(place->store, vm, point, base, IMAGE_BYTES, &error), error);
}

/* Number of names in a directory of the store. */
static unsigned entries(const struct place *place, const char *sub)
{
    g_autofree char *path = g_build_filename(place->path, sub, NULL);
    g_auto(GStrv) names = dir_list(path, NULL);

    return g_strv_length(names);
}

static unsigned n_points(struct place *place, const char *vm)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) points = store_points(place->store, vm, &error);

    unit_ok(points, error);
    return points->len;
}

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

static void write_text(const char *path, const char *text)
{
    g_autoptr(GError) error = NULL;

    unit_ok(file_write(path, text, strlen(text), 0600, &error), error);
}

/* --- Making and opening --- */

START_TEST(makes_a_store_once)
{
    struct place place = place_new(&points_accept_ops);
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
    place_free(&place);
}
END_TEST

START_TEST(gives_files_of_a_point)
{
    struct place place = place_new(&points_accept_ops);

    put(&place, VM_A, POINT_1, NULL);
    points_get(place.store, place.path, POINT_1);
    place_free(&place);
}
END_TEST

START_TEST(modes_do_not_depend_on_the_umask)
{
    static const mode_t masks[] = {0, 0077, 0777};

    for (size_t i = 0; i < G_N_ELEMENTS(masks); i++) {
        mode_t old = umask(masks[i]);
        struct place place = place_new(&points_accept_ops);
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
        place_free(&place);
    }
}
END_TEST

START_TEST(opens_only_what_it_understands)
{
    struct place place = place_new(&points_accept_ops);
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
    place_free(&place);
}
END_TEST

/* --- Committing --- */

START_TEST(a_committed_point_is_whole_and_known)
{
    struct place place = place_new(&points_accept_ops);
    g_autoptr(GPtrArray) points = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *dir = store_point_dir(place.path, VM_A, POINT_1);
    const char *check[] = {"sh", "-c", "cd \"$0\" && sha256sum -c --strict SHA256SUMS", dir, NULL};
    g_autofree char *output = NULL;

    put(&place, VM_A, POINT_1, NULL);
    points = store_points(place.store, VM_A, &error);
    unit_ok(points, error);
    ck_assert_uint_eq(points->len, 1);
    unit_ok(points_verify(place.path, points->pdata[0], &error), error);
    unit_ok(process_run(check, 60, &output, &error), error);
    ck_assert_ptr_nonnull(strstr(output, "vda.qcow2: OK"));
    ck_assert_ptr_nonnull(strstr(output, "manifest.json: OK"));
    ck_assert_uint_eq(entries(&place, "incoming"), 0);
    place_free(&place);
}
END_TEST

/* Commit MANIFEST after points_send() of the untouched one; what must not be there is not. */
static void refuses_manifest(struct place *place, struct manifest *manifest, enum error_kind kind,
                             const char *part)
{
    AUTO(manifest) sent = points_manifest(VM_A, POINT_2, NULL, IMAGE_BYTES);
    AUTO(incoming) incoming = NULL;
    GError *error = NULL;

    unit_ok(incoming = store_begin(place->store, VM_A, POINT_2, &error), error);
    unit_ok(points_send(incoming, sent, &error), error);
    unit_fails(incoming_commit(incoming, manifest, &error), error, kind, part);
    ck_assert_uint_eq(n_points(place, VM_A), 1);
    /* Already now, not only when it is freed. What arrived is as good with another base. */
    ck_assert_uint_eq(entries(place, "incoming"), kind == ERROR_NOT_FOUND);
    unit_fails(incoming_commit(incoming, sent, &error), error, ERROR_FAILED, "discarded");
}

static struct manifest *good_manifest(void)
{
    struct manifest *manifest = points_manifest(VM_A, POINT_2, NULL, IMAGE_BYTES);

    manifest_add_file(manifest, "domain.xml", strlen(POINTS_DOMAIN));
    return manifest;
}

START_TEST(refuses_a_manifest_that_does_not_match)
{
    struct place place = place_new(&points_accept_ops);
    AUTO(manifest) longer = good_manifest();
    AUTO(manifest) missing = good_manifest();
    AUTO(manifest) unlisted = points_manifest(VM_A, POINT_2, NULL, IMAGE_BYTES);
    AUTO(manifest) other_vm = good_manifest();
    AUTO(manifest) other_point = good_manifest();
    AUTO(manifest) senseless = good_manifest();

    put(&place, VM_A, POINT_1, NULL);
    ((struct manifest_file *)manifest_file(longer, "vda.qcow2"))->bytes++;
    refuses_manifest(&place, longer, ERROR_INTEGRITY, "vda.qcow2 should have 3145729 bytes");
    manifest_add_file(missing, "nvram.fd", 5);
    refuses_manifest(&place, missing, ERROR_INTEGRITY, "3 files arrived, the manifest lists 4");
    refuses_manifest(&place, unlisted, ERROR_INTEGRITY, "domain.xml arrived, but");
    memcpy(other_vm->uuid, VM_B, strlen(VM_B));
    refuses_manifest(&place, other_vm, ERROR_INTEGRITY, "not of the one that was begun");
    memcpy(other_point->point, POINT_3, strlen(POINT_3));
    refuses_manifest(&place, other_point, ERROR_INTEGRITY, "not of the one that was begun");
    g_free(senseless->site);
    senseless->site = g_strdup("../x");
    refuses_manifest(&place, senseless, ERROR_INTEGRITY, "site");
    place_free(&place);
}
END_TEST

START_TEST(refuses_a_base_that_is_not_here)
{
    struct place place = place_new(&points_accept_ops);
    AUTO(manifest) manifest = good_manifest();
    struct manifest_disk *disk = (struct manifest_disk *)manifest_disk(manifest, "vda");

    put(&place, VM_A, POINT_1, NULL);
    put(&place, VM_B, "20261120T221500.000Z", NULL);
    manifest->base = g_strdup("20261120T221500.000Z");
    disk->base = g_strdup(manifest->base);
    refuses_manifest(&place, manifest, ERROR_NOT_FOUND, "the base of disk vda is not here");
    place_free(&place);
}
END_TEST

START_TEST(a_base_may_be_of_another_vm_and_must_be_here)
{
    struct place place = place_new(&points_accept_ops);
    AUTO(manifest) manifest = good_manifest();
    struct manifest_disk *disk = (struct manifest_disk *)manifest_disk(manifest, "vda");

    put(&place, VM_A, POINT_1, NULL);
    manifest->base = g_strdup(POINT_1);
    disk->base = g_strdup(POINT_1);
    disk->base_vm = g_strdup(VM_B);
    refuses_manifest(&place, manifest, ERROR_NOT_FOUND, "the base of disk vda is not here");
    put(&place, VM_B, POINT_1, NULL);
    disk->base_target = g_strdup("vdb");
    refuses_manifest(&place, manifest, ERROR_INTEGRITY, "has no disk vdb in a file vdb.qcow2");
    place_free(&place);
}
END_TEST

START_TEST(a_refused_check_leaves_nothing)
{
    struct place place = place_new(&refuse_ops);
    GError *error = NULL;

    unit_fails(points_put(place.store, VM_A, POINT_1, NULL, IMAGE_BYTES, &error), error,
               ERROR_INTEGRITY, "the images are not what they should be");
    ck_assert_uint_eq(n_points(&place, VM_A), 0);
    ck_assert_uint_eq(entries(&place, "incoming"), 0);
    ck_assert_uint_eq(entries(&place, "vms"), 0);
    place_free(&place);
}
END_TEST

/* --- Arriving data --- */

static struct incoming *begin_image(struct place *place, unsigned *file)
{
    g_autoptr(GError) error = NULL;
    struct incoming *incoming = store_begin(place->store, VM_A, POINT_1, &error);

    unit_ok(incoming, error);
    unit_ok(incoming_open(incoming, "vda.qcow2", file, &error), error);
    return incoming;
}

static void refuses_writes(const uint64_t (*writes)[2], size_t n, uint64_t bytes, const char *part)
{
    struct place place = place_new(&points_accept_ops);
    AUTO(manifest) manifest = points_manifest(VM_A, POINT_1, NULL, bytes);
    g_autofree char *data = g_malloc0(STORE_WRITE_MAX);
    GError *error = NULL;
    unsigned file;
    AUTO(incoming) incoming = begin_image(&place, &file);

    for (size_t i = 0; i < n; i++)
        unit_ok(incoming_write(incoming, file, writes[i][0], data, writes[i][1], &error), error);
    unit_ok(incoming_open(incoming, "vda.digests", &file, &error), error);
    unit_ok(incoming_write(incoming, file, 0, data, 16, &error), error);
    unit_fails(incoming_commit(incoming, manifest, &error), error, ERROR_INTEGRITY, part);
    ck_assert_uint_eq(n_points(&place, VM_A), 0);
    g_clear_pointer(&incoming, incoming_free);
    place_free(&place);
}

START_TEST(every_byte_arrives_once)
{
    static const uint64_t hole[][2] = {{0, 100}, {200, 100}};
    static const uint64_t no_header[][2] = {{65536, 100}};
    static const uint64_t twice[][2] = {{100, 100}, {0, 100}, {150, 100}};
    static const uint64_t again[][2] = {{0, 100}, {100, 100}, {0, 200}};

    refuses_writes(hole, 2, 300, "bytes 100 to 200 never arrived");
    refuses_writes(no_header, 1, 65636, "bytes 0 to 65536 never arrived");
    refuses_writes(twice, 3, 250, "offset 150 arrived twice");
    refuses_writes(again, 3, 200, "arrived twice");
}
END_TEST

START_TEST(refuses_unsafe_names_and_second_files)
{
    static const char *const names[] = {"../x", "/etc/passwd", "", ".hidden", "a/b", "-rf", "a b"};
    struct place place = place_new(&points_accept_ops);
    GError *error = NULL;
    unsigned file;

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        AUTO(incoming) incoming = begin_image(&place, &file);

        /* Past the checks of incoming_open(). */
        unit_fails(incoming->ops->open(incoming, names[i], &file, &error), error, ERROR_INTEGRITY,
                   "unsafe name");
        unit_fails(incoming_write(incoming, 0, 0, "x", 1, &error), error, ERROR_FAILED,
                   "discarded");
    }
    AUTO(incoming) incoming = begin_image(&place, &file);
    unit_fails(incoming_open(incoming, "vda.qcow2", &file, &error), error, ERROR_INTEGRITY,
               "opened twice");
    g_clear_pointer(&incoming, incoming_free);
    ck_assert_uint_eq(entries(&place, "incoming"), 0);
    place_free(&place);
}
END_TEST

START_TEST(refuses_more_than_a_point_can_be)
{
    struct place place = place_new(&points_accept_ops);
    AUTO(manifest) manifest = points_manifest(VM_A, POINT_1, NULL, IMAGE_BYTES);
    GError *error = NULL;
    unsigned file;
    bool opened = true;
    AUTO(incoming) incoming = begin_image(&place, &file);

    unit_fails(incoming_write(incoming, file, POINT_MAX_FILE_BYTES, "x", 1, &error), error,
               ERROR_INTEGRITY, "beyond");
    g_clear_pointer(&incoming, incoming_free);
    incoming = begin_image(&place, &file);
    unit_fails(incoming->ops->write(incoming, file, UINT64_MAX, "x", 1, &error), error,
               ERROR_INTEGRITY, "beyond");
    g_clear_pointer(&incoming, incoming_free);
    incoming = begin_image(&place, &file);
    unit_fails(incoming_write(incoming, 7, 0, "x", 1, &error), error, ERROR_INTEGRITY,
               "not opened");
    g_clear_pointer(&incoming, incoming_free);
    incoming = begin_image(&place, &file);
    for (unsigned i = 0; i < POINT_MAX_FILES && opened; i++) {
        g_autofree char *name = g_strdup_printf("f%u", i);

        opened = incoming_open(incoming, name, &file, &error);
    }
    unit_fails(opened, error, ERROR_INTEGRITY, "more than 256 files");
    g_clear_pointer(&incoming, incoming_free);
    incoming = begin_image(&place, &file);
    opened = true;
    for (uint64_t i = 0; i <= POINT_MAX_RUNS && opened; i++)
        opened = incoming_write(incoming, file, 2 * i, "x", 1, &error);
    /* Writes are queued: it may take until here. */
    if (opened)
        opened = incoming_commit(incoming, manifest, &error);
    unit_fails(opened, error, ERROR_INTEGRITY, "too small pieces");
    g_clear_pointer(&incoming, incoming_free);
    place_free(&place);
}
END_TEST

START_TEST(one_transfer_of_a_vm_at_a_time)
{
    struct place place = place_new(&points_accept_ops);
    GError *error = NULL;
    unsigned file;
    AUTO(incoming) incoming = begin_image(&place, &file);
    AUTO(incoming) other = NULL;

    unit_fails(store_begin(place.store, VM_A, POINT_2, &error), error, ERROR_CONFLICT,
               "another transfer of this VM is running");
    unit_ok(other = store_begin(place.store, VM_B, POINT_2, &error), error);
    g_clear_pointer(&incoming, incoming_free);
    unit_ok(incoming = store_begin(place.store, VM_A, POINT_2, &error), error);
    g_clear_pointer(&incoming, incoming_free);
    g_clear_pointer(&other, incoming_free);
    place_free(&place);
}
END_TEST

START_TEST(never_replaces_a_point)
{
    struct place place = place_new(&points_accept_ops);
    GError *error = NULL;

    put(&place, VM_A, POINT_1, NULL);
    unit_fails(store_begin(place.store, VM_A, POINT_1, &error), error, ERROR_CONFLICT,
               "exists already");
    place_free(&place);
}
END_TEST

START_TEST(opening_sweeps_what_no_process_holds)
{
    struct place place = place_new(&points_accept_ops);
    g_autofree char *dead = g_build_filename(place.path, "incoming", VM_B "." POINT_1, NULL);
    g_autofree char *file = g_build_filename(dead, "vda.qcow2", NULL);
    g_autofree char *foreign = g_build_filename(place.path, "incoming", "notes", NULL);
    g_autoptr(GError) error = NULL;
    unsigned number;
    AUTO(incoming) incoming = begin_image(&place, &number);
    struct place again;

    ck_assert_int_eq(mkdir(dead, 0700), 0);
    write_text(file, "half an image");
    ck_assert_int_eq(mkdir(foreign, 0700), 0);
    again = place_open(place.path, &points_accept_ops);
    ck_assert(!g_file_test(dead, G_FILE_TEST_EXISTS));
    ck_assert(g_file_test(foreign, G_FILE_TEST_EXISTS));
    unit_ok(incoming_write(incoming, number, 0, "x", 1, &error), error);
    ck_assert_uint_eq(entries(&place, "incoming"), 2);
    g_clear_pointer(&incoming, incoming_free);
    place_free(&again);
    place_free(&place);
}
END_TEST

START_TEST(begin_sweeps_what_was_left_meanwhile)
{
    struct place place = place_new(&points_accept_ops);
    g_autofree char *dead = g_build_filename(place.path, "incoming", VM_A "." POINT_1, NULL);

    ck_assert_int_eq(mkdir(dead, 0700), 0);
    put(&place, VM_A, POINT_1, NULL);
    ck_assert_uint_eq(entries(&place, "incoming"), 0);
    place_free(&place);
}
END_TEST

/* --- Points and the catalog --- */

START_TEST(points_come_newest_first)
{
    struct place place = place_new(&points_accept_ops);
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
    place_free(&place);
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
    struct place place = place_new(&points_accept_ops);
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
    place_free(&place);
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
    struct place place = place_new(&points_accept_ops);
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
    place_free(&place);
}
END_TEST

START_TEST(a_damaged_manifest_is_named_and_hides_nothing_else)
{
    struct place place = place_new(&points_accept_ops);
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
    place_free(&place);
}
END_TEST

START_TEST(a_chain_leads_down_to_the_full_image)
{
    struct place place = place_new(&points_accept_ops);
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
    place_free(&place);
}
END_TEST

START_TEST(a_chain_leads_through_points_of_other_vms)
{
    struct place place = place_new(&points_accept_ops);
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
    place_free(&place);
}
END_TEST

/* --- Verifying --- */

START_TEST(verifying_finds_every_damage)
{
    static const char *const files[] = {"vda.qcow2", "vda.digests", "domain.xml", "manifest.json"};
    struct place place = place_new(&points_accept_ops);
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
    place_free(&place);
}
END_TEST

START_TEST(verifying_names_all_that_is_wrong)
{
    struct place place = place_new(&points_accept_ops);
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
    place_free(&place);
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
    struct place place = place_new(&points_accept_ops);
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
    place_free(&place);
}
END_TEST

START_TEST(refuses_what_is_no_bundle)
{
    struct place place = place_new(&points_accept_ops);
    GError *error = NULL;

    unit_fails(store_put_bundle(place.store, "nonsense", 8, &error), error, ERROR_INTEGRITY,
               "the pool bundle");
    ck_assert_uint_eq(entries(&place, "pool"), 0);
    place_free(&place);
}
END_TEST

START_TEST(a_damaged_bundle_does_not_hide_the_one_before)
{
    struct place place = place_new(&points_accept_ops);
    g_autofree char *newest = g_build_filename(place.path, "pool", "dc1", POINT_2 ".tar.zst", NULL);
    g_autoptr(GError) error = NULL;

    unit_ok(put_bundle(&place, 1, POINT_1, &error), error);
    unit_ok(put_bundle(&place, 2, POINT_2, &error), error);
    write_text(newest, "damaged");
    ck_assert_uint_eq(newest_generation(&place), 1);
    place_free(&place);
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
    struct place place = place_new(&points_accept_ops);

    put_bundles(&place, 1, 40);
    ck_assert_uint_eq(entries(&place, "pool/dc1"), 40);
    age_bundles(&place, 31);
    put_bundles(&place, 41, 41);
    ck_assert_uint_eq(newest_generation(&place), 41);
    ck_assert_uint_eq(entries(&place, "pool/dc1"), 32);
    place_free(&place);
}
END_TEST

START_TEST(many_new_bundles_do_not_push_out_the_last_good_one)
{
    struct place place = place_new(&points_accept_ops);
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
    place_free(&place);
}
END_TEST

START_TEST(no_bundle_is_the_newest_for_ever)
{
    struct place place = place_new(&points_accept_ops);
    g_autoptr(GError) error = NULL;

    unit_fails(put_bundle(&place, INT64_MAX, POINT_1, &error), error, ERROR_INTEGRITY,
               "too far ahead of 0");
    put_bundles(&place, 5, 5);
    unit_fails(put_bundle(&place, UINT64_C(1) << 21, POINT_1, &error), error, ERROR_INTEGRITY,
               "too far ahead of 5");
    ck_assert_uint_eq(newest_generation(&place), 5);
    place_free(&place);
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "local-store", makes_a_store_once, gives_files_of_a_point, modes_do_not_depend_on_the_umask,
        opens_only_what_it_understands, a_committed_point_is_whole_and_known,
        refuses_a_manifest_that_does_not_match, refuses_a_base_that_is_not_here,
        a_base_may_be_of_another_vm_and_must_be_here, a_refused_check_leaves_nothing,
        every_byte_arrives_once, refuses_unsafe_names_and_second_files,
        refuses_more_than_a_point_can_be, one_transfer_of_a_vm_at_a_time, never_replaces_a_point,
        opening_sweeps_what_no_process_holds, begin_sweeps_what_was_left_meanwhile,
        points_come_newest_first, the_catalog_heals_itself, vms_are_found_by_all_names_they_had,
        a_damaged_manifest_is_named_and_hides_nothing_else, a_chain_leads_down_to_the_full_image,
        a_chain_leads_through_points_of_other_vms, verifying_finds_every_damage,
        verifying_names_all_that_is_wrong, the_newest_bundle_is_the_highest_generation,
        refuses_what_is_no_bundle, a_damaged_bundle_does_not_hide_the_one_before, old_bundles_go,
        many_new_bundles_do_not_push_out_the_last_good_one, no_bundle_is_the_newest_for_ever);
}
