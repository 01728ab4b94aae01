/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `drctl points` and `drctl status` say of damage: of a point itself, and of those that stand on it, also
 * of another VM.
 */
#include "tests/disk-store.h"
#include "tests/rebase.h"

#define CLONE "99999999-2222-4333-8444-555555555555"

/* A point of VM "clone" that is what point 1 of the lab's VM is, on that one's point 0. */
static void clone_point(struct disk_lab *lab)
{
    g_autofree char *id = disk_lab_id(1), *point = disk_lab_id(9);
    g_autofree char *image = disk_lab_image(lab, id, "vda");
    g_autofree char *dir = g_path_get_dirname(image);
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    g_autofree char *digests = g_build_filename(dir, "vda.digests", NULL);
    g_autofree char *backing = NULL, *image_data = NULL, *digests_data = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(manifest) manifest = manifest_load(path, &error);
    AUTO(incoming) incoming = store_begin(lab->store, CLONE, point, &error);
    struct manifest_disk *disk = manifest ? manifest->disks->pdata[0] : NULL;
    size_t image_len, digests_len;

    unit_ok(manifest && incoming, error);
    g_free(manifest->vm);
    g_free(manifest->uuid);
    g_free(manifest->point);
    manifest->vm = g_strdup("clone");
    manifest->uuid = g_strdup(CLONE);
    manifest->point = g_strdup(point);
    point_id_parse(point, &manifest->time_ms);
    disk->base_vm = g_strdup(LAB_VM);
    backing = manifest_backing_name(disk);
    g_ptr_array_set_size(manifest->files, 0);
    unit_ok(file_read(image, 64 << 20, &image_data, &image_len, &error), error);
    unit_ok(file_read(digests, 64 << 20, &digests_data, &digests_len, &error), error);
    rebase_image(image_data, backing);
    unit_ok(incoming_put(incoming, manifest, "vda.qcow2", image_data, image_len, &error), error);
    unit_ok(incoming_put(incoming, manifest, "vda.digests", digests_data, digests_len, &error),
            error);
    unit_ok(incoming_put(incoming, manifest, "domain.xml", "<domain/>\n", 10, &error), error);
    unit_ok(incoming_commit(incoming, manifest, &error), error);
}

/* p0: 4 MiB; p1: clusters 10 to 19 of them again; p2: cluster 3; p3: nothing. */
static struct disk_lab *lab_new(void)
{
    struct disk_lab *lab = disk_lab_new();
    struct disk *disk = disk_lab_add(lab, 8 * LAB_MIB, 3);

    disk_write(disk, 0, 4 * LAB_MIB, DISK_RANDOM);
    disk_lab_point(lab);
    disk_write(disk, 10 * CLUSTER_BYTES, 10 * CLUSTER_BYTES, DISK_RANDOM);
    disk_lab_point(lab);
    disk_write(disk, 3 * CLUSTER_BYTES, CLUSTER_BYTES, DISK_TEXT);
    disk_lab_point(lab);
    disk_lab_point(lab);
    clone_point(lab);
    disk_lab_close_store(lab);
    return lab;
}

static void note(const struct disk_lab *lab, unsigned n, uint64_t first, uint64_t count)
{
    g_autofree char *id = disk_lab_id(n);
    g_autofree char *dir = store_point_dir(lab->path, lab->uuid, id);
    AUTO(damage) damage = damage_new();
    g_autoptr(GError) error = NULL;

    damaged_file_add(damage_add(damage, "vda.qcow2", "a bit was turned"), first, count);
    unit_ok(damage_save(dir, damage, &error), error);
}

/* Standard output of drctl, and its notes. */
static char *drctl(const struct disk_lab *lab, const char *command)
{
    g_autofree char *line = g_strdup_printf("'%s' --config '%s' %s 2>&1", DRCTL, lab->dir, command);
    char *output = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(process_run((const char *[]){"sh", "-c", line, NULL}, 50, &output, &error), error);
    return output;
}

static json_t *drctl_json(const struct disk_lab *lab, const char *command)
{
    g_autofree char *line = g_strconcat("--quiet ", command, " --json", NULL);
    g_autofree char *output = drctl(lab, line);
    g_autoptr(GError) error = NULL;
    json_t *json = json_parse(output, strlen(output), command, &error);

    unit_ok(json != NULL, error);
    return json;
}

/* Point N of the list: how much it lacks, and on account of point BASE (< 0: of none). */
static void assert_lacks(const json_t *list, unsigned i, uint64_t clusters, int base)
{
    const json_t *point = json_array_get(list, i);
    const json_t *culprits = json_object_get(point, "base_damage");
    g_autofree char *id = disk_lab_id(base < 0 ? 0 : (unsigned)base);

    ck_assert_msg((uint64_t)json_integer_value(json_object_get(point, "lost_bytes")) ==
                      clusters * CLUSTER_BYTES,
                  "entry %u", i);
    ck_assert_uint_eq(json_array_size(culprits), base >= 0);
    if (base < 0)
        return;
    ck_assert_str_eq(json_get_string(json_array_get(culprits, 0), "point"), id);
    ck_assert_str_eq(json_get_string(json_array_get(culprits, 0), "uuid"), LAB_VM);
    ck_assert_str_eq(json_get_string(json_array_get(culprits, 0), "why"), "a bit was turned");
    ck_assert_ptr_nonnull(strstr(json_get_string(point, "remedy"), "drctl heal db"));
}

START_TEST(a_point_whose_base_is_damaged_is_marked_unless_it_has_that_afresh)
{
    AUTO(disk_lab) lab = lab_new();
    json_auto_t *list = NULL;

    note(lab, 0, 3, 1);
    list = drctl_json(lab, "points db");
    ck_assert_uint_eq(json_array_size(list), 4);
    assert_lacks(list, 0, 0, -1);
    assert_lacks(list, 1, 0, -1);
    assert_lacks(list, 2, 1, 0);
    assert_lacks(list, 3, 1, -1);
    ck_assert(json_is_null(json_object_get(json_array_get(list, 0), "remedy")));
    ck_assert_ptr_nonnull(json_get_string(json_array_get(list, 3), "damage"));
    ck_assert_ptr_null(json_get_string(json_array_get(list, 2), "damage"));
}
END_TEST

START_TEST(points_of_a_clone_are_marked_for_the_base_of_another_vm)
{
    AUTO(disk_lab) lab = lab_new();
    json_auto_t *list = NULL, *whole = NULL;
    g_autofree char *text = NULL;

    note(lab, 0, 9, 2);
    list = drctl_json(lab, "points clone");
    assert_lacks(list, 0, 1, 0);
    text = drctl(lab, "points clone");
    ck_assert_msg(strstr(text, "BASE DAMAGED"), "%s", text);
    ck_assert_msg(strstr(text, "of db is damaged, and 1 of these points"), "%s", text);
    ck_assert_msg(strstr(text, "drctl heal db --from REMOTE"), "%s", text);
    /* What it does not stand on does not matter. */
    note(lab, 0, 12, 2);
    note(lab, 1, 10, 1);
    whole = drctl_json(lab, "points clone");
    assert_lacks(whole, 0, 0, -1);
}
END_TEST

START_TEST(status_counts_what_stands_on_damage_and_names_the_newest_whole_point)
{
    AUTO(disk_lab) lab = lab_new();
    g_autofree char *newest = disk_lab_id(3);
    json_auto_t *status = NULL, *healthy = drctl_json(lab, "status");
    const json_t *received = json_object_get(healthy, "received"), *db, *clone;

    ck_assert_str_eq(json_get_string(json_array_get(received, 1), "whole_point"), newest);
    note(lab, 0, 3, 1);
    status = drctl_json(lab, "status");
    received = json_object_get(status, "received");
    clone = json_array_get(received, 0);
    db = json_array_get(received, 1);
    ck_assert_str_eq(json_get_string(db, "vm"), "db");
    ck_assert_int_eq(json_integer_value(json_object_get(db, "damaged")), 1);
    ck_assert_int_eq(json_integer_value(json_object_get(db, "base_damaged")), 1);
    ck_assert_str_eq(json_get_string(db, "whole_point"), newest);
    ck_assert_int_eq(json_integer_value(json_object_get(clone, "damaged")), 0);
    ck_assert_int_eq(json_integer_value(json_object_get(clone, "base_damaged")), 1);
    ck_assert(json_is_null(json_object_get(clone, "whole_point")));
    ck_assert_ptr_nonnull(strstr(json_get_string(clone, "remedy"), "drctl heal db"));
}
END_TEST

/* Only notes and digests: with all images gone the answer is the same. */
START_TEST(no_image_is_read_for_that)
{
    AUTO(disk_lab) lab = lab_new();
    json_auto_t *list = NULL;

    note(lab, 0, 3, 1);
    for (unsigned i = 0; i < 4; i++) {
        g_autofree char *id = disk_lab_id(i);
        g_autofree char *image = disk_lab_image(lab, id, "vda");

        ck_assert_int_eq(unlink(image), 0);
    }
    list = drctl_json(lab, "points db");
    assert_lacks(list, 1, 0, -1);
    assert_lacks(list, 2, 1, 0);
}
END_TEST

START_TEST(a_note_that_cannot_be_read_marks_all_that_stands_on_it)
{
    AUTO(disk_lab) lab = lab_new();
    g_autofree char *id = disk_lab_id(1);
    g_autofree char *dir = store_point_dir(lab->path, lab->uuid, id);
    g_autofree char *path = g_build_filename(dir, DAMAGE_NAME, NULL);
    json_auto_t *list = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(file_write(path, "{", 1, 0600, &error), error);
    list = drctl_json(lab, "points db");
    ck_assert_uint_eq(json_array_size(json_object_get(json_array_get(list, 0), "base_damage")), 1);
    ck_assert_uint_eq(json_array_size(json_object_get(json_array_get(list, 3), "base_damage")), 0);
}
END_TEST

int main(void)
{
    return UNIT_RUN("points", a_point_whose_base_is_damaged_is_marked_unless_it_has_that_afresh,
                    points_of_a_clone_are_marked_for_the_base_of_another_vm,
                    status_counts_what_stands_on_damage_and_names_the_newest_whole_point,
                    no_image_is_read_for_that,
                    a_note_that_cannot_be_read_marks_all_that_stands_on_it);
}
