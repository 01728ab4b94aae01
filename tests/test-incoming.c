/* SPDX-License-Identifier: Apache-2.0 */
/* How a point arrives: its files, its commit, and what is refused on the way. */
#include "tests/place.h"

#include <sys/stat.h>

/* --- Committing --- */

START_TEST(a_committed_point_is_whole_and_known)
{
    struct place place = place_new();
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
    place_clear(&place);
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
    struct place place = place_new();
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
    place_clear(&place);
}
END_TEST

START_TEST(refuses_a_base_that_is_not_here)
{
    struct place place = place_new();
    AUTO(manifest) manifest = good_manifest();
    struct manifest_disk *disk = (struct manifest_disk *)manifest_disk(manifest, "vda");

    put(&place, VM_A, POINT_1, NULL);
    put(&place, VM_B, "20261120T221500.000Z", NULL);
    manifest->base = g_strdup("20261120T221500.000Z");
    disk->base = g_strdup(manifest->base);
    refuses_manifest(&place, manifest, ERROR_NOT_FOUND, "the base of disk vda is not here");
    place_clear(&place);
}
END_TEST

START_TEST(a_base_may_be_of_another_vm_and_must_be_here)
{
    struct place place = place_new();
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
    place_clear(&place);
}
END_TEST

START_TEST(a_refused_check_leaves_nothing)
{
    struct place place = place_create("dr1", &points_refuse_ops);
    GError *error = NULL;

    unit_fails(points_put(place.store, VM_A, POINT_1, NULL, IMAGE_BYTES, &error), error,
               ERROR_INTEGRITY, "the images are not what they should be");
    ck_assert_uint_eq(n_points(&place, VM_A), 0);
    ck_assert_uint_eq(entries(&place, "incoming"), 0);
    ck_assert_uint_eq(entries(&place, "vms"), 0);
    place_clear(&place);
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
    struct place place = place_new();
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
    place_clear(&place);
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
    struct place place = place_new();
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
    place_clear(&place);
}
END_TEST

START_TEST(refuses_more_than_a_point_can_be)
{
    struct place place = place_new();
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
    place_clear(&place);
}
END_TEST

START_TEST(one_transfer_of_a_vm_at_a_time)
{
    struct place place = place_new();
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
    place_clear(&place);
}
END_TEST

START_TEST(never_replaces_a_point)
{
    struct place place = place_new();
    GError *error = NULL;

    put(&place, VM_A, POINT_1, NULL);
    unit_fails(store_begin(place.store, VM_A, POINT_1, &error), error, ERROR_CONFLICT,
               "exists already");
    place_clear(&place);
}
END_TEST

START_TEST(opening_sweeps_what_no_process_holds)
{
    struct place place = place_new();
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
    place_clear(&again);
    place_clear(&place);
}
END_TEST

START_TEST(begin_sweeps_what_was_left_meanwhile)
{
    struct place place = place_new();
    g_autofree char *dead = g_build_filename(place.path, "incoming", VM_A "." POINT_1, NULL);

    ck_assert_int_eq(mkdir(dead, 0700), 0);
    put(&place, VM_A, POINT_1, NULL);
    ck_assert_uint_eq(entries(&place, "incoming"), 0);
    place_clear(&place);
}
END_TEST

int main(void)
{
    return UNIT_RUN("incoming", a_committed_point_is_whole_and_known,
                    refuses_a_manifest_that_does_not_match, refuses_a_base_that_is_not_here,
                    a_base_may_be_of_another_vm_and_must_be_here, a_refused_check_leaves_nothing,
                    every_byte_arrives_once, refuses_unsafe_names_and_second_files,
                    refuses_more_than_a_point_can_be, one_transfer_of_a_vm_at_a_time,
                    never_replaces_a_point, opening_sweeps_what_no_process_holds,
                    begin_sweeps_what_was_left_meanwhile);
}
