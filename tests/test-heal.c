/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damaged points are healed: by what other points have, by another store. The points are real images;
 * what was healed is compared with what the disk was.
 */
#include "tests/disk-store.h"

/* vda has 4 MiB of random clusters in the first point; the second has clusters 10 to 19 anew. */
static struct disk_lab *lab_new(void)
{
    struct disk_lab *lab = disk_lab_new();
    struct disk *disk = disk_lab_add(lab, 8 * LAB_MIB, 3);

    disk_write(disk, 0, 4 * LAB_MIB, DISK_RANDOM);
    disk_write(disk, 5 * LAB_MIB, LAB_MIB, DISK_TEXT);
    disk_lab_point(lab);
    disk_write(disk, 10 * CLUSTER_BYTES, 10 * CLUSTER_BYTES, DISK_RANDOM);
    disk_lab_point(lab);
    return lab;
}

static char *point_dir(const struct disk_lab *lab, unsigned n)
{
    g_autofree char *id = disk_lab_id(n);

    return store_point_dir(lab->path, lab->uuid, id);
}

static struct manifest *manifest_of(const struct disk_lab *lab, unsigned n)
{
    g_autofree char *dir = point_dir(lab, n);
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    g_autoptr(GError) error = NULL;
    struct manifest *manifest = manifest_load(path, &error);

    unit_ok(manifest, error);
    return manifest;
}

static void turn_bit(const struct disk_lab *lab, unsigned n, const char *name, uint64_t offset)
{
    g_autofree char *dir = point_dir(lab, n);
    g_autofree char *path = g_build_filename(dir, name, NULL);
    AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte;

    ck_assert_int_eq(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= 1;
    ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)offset), 1);
}

/* A byte of CLUSTER in the image of the N-th point. */
static uint64_t offset_of(const struct disk_lab *lab, unsigned n, uint64_t number)
{
    g_autofree char *dir = point_dir(lab, n);
    g_autofree char *path = g_build_filename(dir, "vda.qcow2", NULL);
    g_autoptr(GError) error = NULL;
    AUTO(image) image = image_open(path, &error);
    struct image_cluster cluster;
    bool found;

    do
        unit_ok(image && image_next(image, &cluster, &found, &error), error);
    while (found && cluster.number != number);
    ck_assert(found);
    return cluster.offset + 100;
}

/* Verify the N-th point, as `drctl verify` does; is it whole? */
static bool verify(const struct disk_lab *lab, unsigned n)
{
    g_autofree char *dir = point_dir(lab, n);
    AUTO(manifest) manifest = manifest_of(lab, n);
    AUTO(damage) damage = damage_new();
    g_autoptr(GError) error = NULL;

    unit_ok(store_find_damage(dir, manifest, NULL, damage, &error), error);
    unit_ok(snapshot_find_damage(dir, manifest, NULL, damage, &error), error);
    if (damage->files->len == 0)
        return true;
    unit_ok(damage_save(dir, damage, &error), error);
    return false;
}

static bool heal(struct disk_lab *lab, unsigned n, struct store *from, GError **error)
{
    AUTO(manifest) point = manifest_new();

    point->vm = g_strdup("db");
    point->uuid = g_strdup(lab->uuid);
    point->point = disk_lab_id(n);
    return store_heal_point(lab->store, point, from, NULL, error);
}

static void assert_healed(struct disk_lab *lab, unsigned n)
{
    g_autofree char *dir = point_dir(lab, n);
    g_autofree char *note = g_build_filename(dir, DAMAGE_NAME, NULL);
    g_autofree char *incoming = g_build_filename(lab->path, "incoming", NULL);
    g_auto(GStrv) left = dir_list(incoming, NULL);

    ck_assert(!g_file_test(note, G_FILE_TEST_EXISTS));
    ck_assert(verify(lab, n));
    ck_assert_uint_eq(g_strv_length(left), 0);
    disk_lab_check(lab);
}

static void remove_tree(const char *dir)
{
    g_autoptr(GError) error = NULL;

    unit_ok(tree_remove(dir, &error), error);
}

/* --- by other points -------------------------------------------------------------------------- */

START_TEST(a_later_point_gives_back_what_it_has_unchanged)
{
    AUTO(disk_lab) lab = lab_new();
    struct disk *disk = lab->disks->pdata[0];
    GError *error = NULL;

    turn_bit(lab, 0, "vda.qcow2", offset_of(lab, 0, 3));
    turn_bit(lab, 0, "vda.qcow2", offset_of(lab, 0, 85));
    ck_assert(!verify(lab, 0));
    unit_fails(heal(lab, 0, NULL, &error), error, ERROR_NOT_FOUND, "2 damaged clusters");
    ck_assert(!verify(lab, 0));
    /* As the next point has them afresh. */
    disk_touch(disk, 3);
    disk_touch(disk, 85);
    disk_lab_point(lab);
    store_heal_vm(lab->store, lab->uuid, NULL);
    assert_healed(lab, 0);
}
END_TEST

START_TEST(a_point_that_has_other_content_there_does_not_heal)
{
    AUTO(disk_lab) lab = lab_new();
    struct disk *disk = lab->disks->pdata[0];
    GError *error = NULL;

    turn_bit(lab, 0, "vda.qcow2", offset_of(lab, 0, 12));
    ck_assert(!verify(lab, 0));
    disk_write(disk, 12 * CLUSTER_BYTES, CLUSTER_BYTES, DISK_TEXT);
    disk_lab_point(lab);
    unit_fails(heal(lab, 0, NULL, &error), error, ERROR_NOT_FOUND, "1 damaged clusters");
    ck_assert(!verify(lab, 0));
}
END_TEST

/* In the L2 table, which lies behind the last cluster: that of cluster NUMBER. */
static uint64_t entry_of(const struct disk_lab *lab, unsigned n, uint64_t number)
{
    g_autofree char *dir = point_dir(lab, n);
    g_autofree char *path = g_build_filename(dir, "vda.qcow2", NULL);
    g_autoptr(GError) error = NULL;
    AUTO(image) image = image_open(path, &error);
    struct image_cluster cluster;
    uint64_t end = 0;
    bool found = true;

    while (found) {
        unit_ok(image && image_next(image, &cluster, &found, &error), error);
        end = found ? cluster.offset + cluster.len : end;
    }
    return (end + CLUSTER_BYTES - 1) / CLUSTER_BYTES * CLUSTER_BYTES + 8 * number + 5;
}

START_TEST(an_image_whose_tables_are_damaged_is_made_anew_of_its_own_clusters)
{
    AUTO(disk_lab) lab = lab_new();
    g_autoptr(GError) error = NULL;

    turn_bit(lab, 0, "vda.qcow2", entry_of(lab, 0, 85));
    turn_bit(lab, 0, "vda.qcow2", 30);
    ck_assert(!verify(lab, 0));
    unit_ok(heal(lab, 0, NULL, &error), error);
    assert_healed(lab, 0);
}
END_TEST

START_TEST(what_is_gone_beside_the_tables_comes_from_a_later_point)
{
    AUTO(disk_lab) lab = lab_new();
    struct disk *disk = lab->disks->pdata[0];
    GError *error = NULL;

    turn_bit(lab, 0, "vda.qcow2", offset_of(lab, 0, 83));
    turn_bit(lab, 0, "vda.qcow2", entry_of(lab, 0, 85));
    ck_assert(!verify(lab, 0));
    unit_fails(heal(lab, 0, NULL, &error), error, ERROR_NOT_FOUND, "1 damaged clusters");
    disk_touch(disk, 83);
    disk_lab_point(lab);
    unit_ok(heal(lab, 0, NULL, &error), error);
    assert_healed(lab, 0);
}
END_TEST

START_TEST(digests_are_made_anew_from_an_image_that_is_good)
{
    AUTO(disk_lab) lab = lab_new();
    g_autoptr(GError) error = NULL;

    turn_bit(lab, 0, "vda.digests", 500);
    ck_assert(!verify(lab, 0));
    unit_ok(heal(lab, 0, NULL, &error), error);
    assert_healed(lab, 0);
}
END_TEST

START_TEST(a_manifest_that_the_catalog_knows_is_written_again)
{
    AUTO(disk_lab) lab = lab_new();
    g_autoptr(GError) error = NULL;
    g_autofree char *dir = point_dir(lab, 1);
    AUTO(damage) damage = damage_new();

    turn_bit(lab, 1, MANIFEST_NAME, 0);
    damage_add(damage, MANIFEST_NAME, "it is not valid JSON");
    unit_ok(damage_save(dir, damage, &error), error);
    unit_ok(heal(lab, 1, NULL, &error), error);
    assert_healed(lab, 1);
}
END_TEST

START_TEST(what_the_catalog_says_is_not_believed_without_proof)
{
    AUTO(disk_lab) lab = lab_new();
    g_autofree char *dir = point_dir(lab, 1);
    g_autofree char *id = disk_lab_id(1);
    g_autofree char *key = g_strconcat(lab->uuid, "/", id, NULL);
    AUTO(damage) damage = damage_new();
    json_auto_t *entry = NULL;
    GError *error = NULL;

    unit_ok(catalog_get(lab->catalog, CATALOG_POINTS, key, &entry, &error), error);
    json_set_string(json_object_get(entry, "manifest"), "vm", "somebody");
    unit_ok(catalog_put(lab->catalog, CATALOG_POINTS, key, entry, &error), error);
    turn_bit(lab, 1, MANIFEST_NAME, 0);
    damage_add(damage, MANIFEST_NAME, "it is not valid JSON");
    unit_ok(damage_save(dir, damage, &error), error);
    unit_fails(heal(lab, 1, NULL, &error), error, ERROR_NOT_FOUND, "manifest is damaged");
}
END_TEST

START_TEST(what_nothing_here_can_prove_stays_as_it_is)
{
    static const char *const files[] = {"domain.xml", SHA256SUMS_NAME};

    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        AUTO(disk_lab) lab = lab_new();
        GError *error = NULL;

        turn_bit(lab, 1, files[i], i ? DIGEST_HEX_SIZE - 1 : 2);
        ck_assert(!verify(lab, 1));
        unit_fails(heal(lab, 1, NULL, &error), error, ERROR_NOT_FOUND, files[i]);
        ck_assert(!verify(lab, 1));
    }
}
END_TEST

/* --- by another store -------------------------------------------------------------------------- */

struct twin {
    char *path;
    struct catalog *catalog;
    struct store *store;
};

/* Another store with the same points. */
static struct twin twin_new(struct disk_lab *lab)
{
    struct twin twin = {.path = g_build_filename(lab->dir, "twin", NULL)};
    g_autoptr(GError) error = NULL;
    char *const none[] = {NULL};

    unit_ok(store_create(twin.path, "dr2", &error), error);
    unit_ok(twin.catalog = catalog_open(twin.path, &error), error);
    unit_ok(twin.store = store_open_local(twin.path, twin.catalog, &snapshot_point_ops, &error),
            error);
    g_autoptr(GPtrArray) plan = store_copy_plan(lab->store, twin.store, none, NULL, &error);

    unit_ok(plan, error);
    for (unsigned i = 0; i < plan->len; i++)
        unit_ok(store_copy_point(lab->store, twin.store, plan->pdata[i], NULL, &error), error);
    return twin;
}

static void twin_clear(struct twin *twin)
{
    store_free(twin->store);
    catalog_free(twin->catalog);
    g_free(twin->path);
}
#define AUTO_TWIN __attribute__((cleanup(twin_clear))) struct twin

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The lines of SHA256SUMS, sorted. */
static char *sums_of(const struct disk_lab *lab, unsigned n)
{
    g_autofree char *dir = point_dir(lab, n);
    g_autofree char *path = g_build_filename(dir, SHA256SUMS_NAME, NULL);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    ck_assert(g_file_get_contents(path, &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    qsort(lines, g_strv_length(lines), sizeof *lines, by_name);
    return g_strjoinv("\n", lines);
}

START_TEST(another_store_gives_any_file_back_as_it_was)
{
    static const char *const files[] = {"vda.qcow2", "vda.digests", "domain.xml", MANIFEST_NAME,
                                        SHA256SUMS_NAME};

    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        AUTO(disk_lab) lab = lab_new();
        AUTO_TWIN twin = twin_new(lab);
        g_autofree char *before = sums_of(lab, 1);
        g_autofree char *after = NULL;
        g_autofree char *dir = point_dir(lab, 1);
        AUTO(damage) damage = damage_new();
        g_autoptr(GError) error = NULL;

        turn_bit(lab, 1, files[i], 0);
        damage_add(damage, files[i], "a bit was turned");
        unit_ok(damage_save(dir, damage, &error), error);
        unit_ok(heal(lab, 1, twin.store, &error), error);
        assert_healed(lab, 1);
        after = sums_of(lab, 1);
        ck_assert_str_eq(before, after);
    }
}
END_TEST

START_TEST(a_store_that_is_damaged_itself_does_not_heal)
{
    AUTO(disk_lab) lab = lab_new();
    AUTO_TWIN twin = twin_new(lab);
    g_autofree char *id = disk_lab_id(0);
    g_autofree char *dir = store_point_dir(twin.path, lab->uuid, id);
    g_autofree char *image = g_build_filename(dir, "vda.qcow2", NULL);
    AUTO_FD fd = open(image, O_RDWR | O_CLOEXEC);
    GError *error = NULL;

    turn_bit(lab, 0, "vda.qcow2", offset_of(lab, 0, 3));
    ck_assert(!verify(lab, 0));
    ck_assert_int_eq(pwrite(fd, "damage", 6, 100000), 6);
    unit_fails(heal(lab, 0, twin.store, &error), error, ERROR_INTEGRITY, "vda.qcow2");
    ck_assert(!verify(lab, 0));
    remove_tree(dir);
    unit_fails(heal(lab, 0, twin.store, &error), error, ERROR_NOT_FOUND, "stays damaged");
    ck_assert(!verify(lab, 0));
}
END_TEST

START_TEST(what_is_good_is_not_brought_again_and_keeps_its_mode)
{
    AUTO(disk_lab) lab = lab_new();
    AUTO_TWIN twin = twin_new(lab);
    g_autofree char *dir = point_dir(lab, 1);
    g_autofree char *image = g_build_filename(dir, "vda.qcow2", NULL);
    g_autofree char *domain = g_build_filename(dir, "domain.xml", NULL);
    struct stat before, after;
    g_autoptr(GError) error = NULL;

    ck_assert_int_eq(chmod(dir, 0710) | chmod(image, 0640) | chmod(domain, 0640), 0);
    ck_assert_int_eq(stat(image, &before), 0);
    turn_bit(lab, 1, "domain.xml", 3);
    ck_assert(!verify(lab, 1));
    unit_ok(heal(lab, 1, twin.store, &error), error);
    assert_healed(lab, 1);
    ck_assert_int_eq(stat(image, &after), 0);
    ck_assert_uint_eq(before.st_ino, after.st_ino);
    ck_assert_int_eq(stat(domain, &after), 0);
    ck_assert_uint_eq(after.st_mode & 07777, 0640);
    ck_assert_int_eq(stat(dir, &after), 0);
    ck_assert_uint_eq(after.st_mode & 07777, 0710);
}
END_TEST

START_TEST(readers_are_not_surprised)
{
    AUTO(disk_lab) lab = lab_new();
    AUTO_TWIN twin = twin_new(lab);
    GError *error = NULL;
    AUTO(file_lock) reader = store_read_lock(lab->path, lab->uuid, &error);

    turn_bit(lab, 1, "domain.xml", 3);
    ck_assert(reader && !verify(lab, 1));
    unit_fails(heal(lab, 1, twin.store, &error), error, ERROR_CONFLICT, "in use");
    g_clear_pointer(&reader, file_lock_free);
    unit_ok(heal(lab, 1, twin.store, &error), error);
    assert_healed(lab, 1);
}
END_TEST

START_TEST(a_damaged_point_is_not_pruned_into_another)
{
    AUTO(disk_lab) lab = lab_new();
    struct prune_request request = {.vm_uuid = lab->uuid};
    struct prune_result result;
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; i < 3; i++)
        disk_lab_point(lab);
    turn_bit(lab, 2, "domain.xml", 3);
    ck_assert(!verify(lab, 2));
    unit_ok(retention_parse("last=3", &request.keep, &error), error);
    unit_ok(store_prune(lab->store, &request, &result, &error), error);
    prune_result_clear(&result);
    ck_assert(!verify(lab, 2));
}
END_TEST

int main(void)
{
    return UNIT_RUN("heal", a_later_point_gives_back_what_it_has_unchanged,
                    a_point_that_has_other_content_there_does_not_heal,
                    an_image_whose_tables_are_damaged_is_made_anew_of_its_own_clusters,
                    what_is_gone_beside_the_tables_comes_from_a_later_point,
                    digests_are_made_anew_from_an_image_that_is_good,
                    a_manifest_that_the_catalog_knows_is_written_again,
                    what_the_catalog_says_is_not_believed_without_proof,
                    what_nothing_here_can_prove_stays_as_it_is,
                    another_store_gives_any_file_back_as_it_was,
                    a_store_that_is_damaged_itself_does_not_heal,
                    what_is_good_is_not_brought_again_and_keeps_its_mode, readers_are_not_surprised,
                    a_damaged_point_is_not_pruned_into_another);
}
