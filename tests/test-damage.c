/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damage of points: how it is found, to the cluster, how it is noted, and what it means for the
 * points above. The damage is done by turning bits in real files.
 */
#include "tests/disk.h"

#define MIB (UINT64_C(1) << 20)

/* p0: clusters 0 to 63, as they are, and 64 to 127, packed; p1: clusters 10 to 19 again. */
struct chain {
    char *dir, *p0, *p1;
    struct manifest *base, *delta;
};

static void save_manifest(struct manifest *manifest, const char *dir, const char *point,
                          const char *base)
{
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    struct manifest_disk *disk = manifest->disks->pdata[0];

    manifest->uuid = g_strdup("11111111-2222-4333-8444-555555555555");
    manifest->point = g_strdup(point);
    manifest->site = g_strdup("dc1");
    manifest->base = g_strdup(base);
    manifest_add_file(manifest, disk->file, disk->stored_bytes);
    manifest_add_file(manifest, disk->digests, 40);
    text = manifest_text(manifest);
    unit_ok(file_write(path, text, strlen(text), 0600, &error), error);
}

#define P0 "20261120T221500.001Z"
#define P1 "20261120T221500.002Z"

static struct chain chain_new(void)
{
    struct chain chain = {.dir = unit_dir()};
    AUTO(disk) disk = disk_new(chain.dir, 8 * MIB, 11);

    disk_write(disk, 0, 4 * MIB, DISK_RANDOM);
    disk_write(disk, 4 * MIB, 4 * MIB, DISK_TEXT);
    chain.base = disk_point(disk, P0);
    disk_write(disk, 10 * CLUSTER_BYTES, 10 * CLUSTER_BYTES, DISK_RANDOM);
    chain.delta = disk_point(disk, P1);
    chain.p0 = g_build_filename(chain.dir, P0, NULL);
    chain.p1 = g_build_filename(chain.dir, P1, NULL);
    save_manifest(chain.base, chain.p0, P0, NULL);
    save_manifest(chain.delta, chain.p1, P1, P0);
    return chain;
}

static void chain_clear(struct chain *chain)
{
    manifest_free(chain->base);
    manifest_free(chain->delta);
    g_free(chain->dir);
    g_free(chain->p0);
    g_free(chain->p1);
}
#define AUTO_CHAIN __attribute__((cleanup(chain_clear))) struct chain

static void turn_bit(const char *dir, const char *name, uint64_t offset)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte;

    ck_assert_int_eq(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= 1;
    ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)offset), 1);
}

/* Where CLUSTER lies in the image of DIR. */
static uint64_t offset_of(const char *dir, uint64_t number)
{
    g_autofree char *path = g_build_filename(dir, "vda.qcow2", NULL);
    g_autoptr(GError) error = NULL;
    AUTO(image) image = image_open(path, &error);
    struct image_cluster cluster;
    bool found;

    do
        unit_ok(image && image_next(image, &cluster, &found, &error), error);
    while (found && cluster.number != number);
    ck_assert(found);
    return cluster.offset;
}

static struct damage *find(const char *dir, const struct manifest *manifest)
{
    struct damage *damage = damage_new();
    g_autoptr(GError) error = NULL;

    unit_ok(snapshot_find_damage(dir, manifest, NULL, damage, &error), error);
    return damage;
}

static bool is_whole(const struct chain *chain, bool top, GError **error)
{
    g_autofree char *base = g_build_filename(chain->p0, "vda.qcow2", NULL);
    g_autofree char *delta = g_build_filename(chain->p1, "vda.qcow2", NULL);

    return snapshot_chain_is_whole(top ? (char *[]){delta, base, NULL} : (char *[]){base, NULL},
                                   error);
}

/* "1-3 7": from text, and to it. */
static GArray *ranges(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, " ", -1);
    GArray *set = cluster_ranges_new();

    for (char **part = parts; *part && **part; part++) {
        unsigned first, last;

        if (sscanf(*part, "%u-%u", &first, &last) < 2)
            last = first;
        cluster_ranges_append(set, first, last - first + 1);
    }
    return set;
}

static void assert_ranges(GArray *set, const char *expected)
{
    g_autoptr(GArray) wanted = ranges(expected);

    ck_assert_uint_eq(set->len, wanted->len);
    if (set->len)
        ck_assert_mem_eq(set->data, wanted->data, set->len * sizeof(struct cluster_range));
    g_array_unref(set);
}

START_TEST(a_whole_point_has_no_damage)
{
    AUTO_CHAIN chain = chain_new();
    AUTO(damage) damage = find(chain.p0, chain.base);
    g_autoptr(GError) error = NULL;

    ck_assert_uint_eq(damage->files->len, 0);
    unit_ok(is_whole(&chain, true, &error), error);
}
END_TEST

START_TEST(damage_is_found_to_the_cluster)
{
    AUTO_CHAIN chain = chain_new();
    const struct damaged_file *file;

    turn_bit(chain.p0, "vda.qcow2", offset_of(chain.p0, 3) + 100);
    turn_bit(chain.p0, "vda.qcow2", offset_of(chain.p0, 4) + 100);
    turn_bit(chain.p0, "vda.qcow2", offset_of(chain.p0, 60) + 65000);
    AUTO(damage) damage = find(chain.p0, chain.base);

    ck_assert_uint_eq(damage->files->len, 1);
    ck_assert_ptr_nonnull(file = damage_file(damage, "vda.qcow2"));
    ck_assert_uint_eq(file->clusters->len, 2);
    ck_assert_uint_eq(cluster_ranges_count(file->clusters), 3);
    ck_assert(damaged_file_has(file, 3) && damaged_file_has(file, 4) && damaged_file_has(file, 60));
    ck_assert(!damaged_file_has(file, 2) && !damaged_file_has(file, 5) &&
              !damaged_file_has(file, 61));
}
END_TEST

/* Where the L2 table of the image of DIR is: behind the last cluster. */
static uint64_t table_of(const char *dir)
{
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
    return (end + CLUSTER_BYTES - 1) / CLUSTER_BYTES * CLUSTER_BYTES;
}

START_TEST(an_image_whose_tables_are_damaged_lacks_no_cluster)
{
    for (unsigned i = 0; i < 3; i++) {
        AUTO_CHAIN chain = chain_new();
        uint64_t table = table_of(chain.p0);
        /* The header, an entry for a cluster, the L1 table. */
        const uint64_t offsets[] = {0, table + 8 * 3 + 5, table + CLUSTER_BYTES + 5};
        const struct damaged_file *file;

        turn_bit(chain.p0, "vda.qcow2", offsets[i]);
        AUTO(damage) damage = find(chain.p0, chain.base);

        ck_assert_ptr_nonnull(file = damage_file(damage, "vda.qcow2"));
        ck_assert(file->unreadable);
        ck_assert_uint_eq(cluster_ranges_count(file->clusters), 0);
    }
}
END_TEST

START_TEST(what_is_gone_beside_the_tables_is_known_to_the_cluster)
{
    AUTO_CHAIN chain = chain_new();
    const struct damaged_file *file;

    turn_bit(chain.p0, "vda.qcow2", offset_of(chain.p0, 3) + 100);
    turn_bit(chain.p0, "vda.qcow2", offset_of(chain.p0, 4) + 100);
    turn_bit(chain.p0, "vda.qcow2", offset_of(chain.p0, 70));
    turn_bit(chain.p0, "vda.qcow2", offset_of(chain.p0, 100) + 40);
    turn_bit(chain.p0, "vda.qcow2", offset_of(chain.p0, 120) + 1);
    turn_bit(chain.p0, "vda.qcow2", 0);
    AUTO(damage) damage = find(chain.p0, chain.base);
    GArray *clusters;

    ck_assert_ptr_nonnull(file = damage_file(damage, "vda.qcow2"));
    ck_assert(file->unreadable);
    clusters = cluster_ranges_union(file->clusters, NULL);
    assert_ranges(clusters, "3-4 70 100 120");
}
END_TEST

START_TEST(an_image_that_is_not_there_lacks_all_its_clusters)
{
    AUTO_CHAIN chain = chain_new();
    g_autofree char *path = g_build_filename(chain.p1, "vda.qcow2", NULL);

    ck_assert_int_eq(unlink(path), 0);
    AUTO(damage) damage = find(chain.p1, chain.delta);
    assert_ranges(cluster_ranges_union(damage_file(damage, "vda.qcow2")->clusters, NULL), "10-19");
}
END_TEST

START_TEST(without_image_and_digests_the_whole_disk_is_missing)
{
    AUTO_CHAIN chain = chain_new();

    turn_bit(chain.p1, "vda.qcow2", 0);
    turn_bit(chain.p1, "vda.digests", 0);
    AUTO(damage) damage = find(chain.p1, chain.delta);

    ck_assert_uint_eq(cluster_ranges_count(damage_file(damage, "vda.qcow2")->clusters),
                      8 * MIB / CLUSTER_BYTES);
}
END_TEST

START_TEST(an_unchanged_image_is_not_doubted_because_of_its_digests)
{
    AUTO_CHAIN chain = chain_new();
    AUTO(damage) damage = damage_new();
    g_autoptr(GError) error = NULL;

    turn_bit(chain.p0, "vda.digests", 100);
    damage_add(damage, "vda.digests", "it has changed");
    unit_ok(snapshot_find_damage(chain.p0, chain.base, NULL, damage, &error), error);
    ck_assert_uint_eq(damage->files->len, 1);
}
END_TEST

START_TEST(what_a_later_point_has_afresh_is_not_missed_by_it)
{
    AUTO_CHAIN chain = chain_new();
    AUTO(damage) damage = damage_new();
    struct damaged_file *file = damage_add(damage, "vda.qcow2", "a test");
    GError *error = NULL;

    damaged_file_add(file, 12, 3);
    unit_ok(damage_save(chain.p0, damage, &error), error);
    unit_ok(is_whole(&chain, true, &error), error);
    unit_fails(is_whole(&chain, false, &error), error, ERROR_INTEGRITY, "3 clusters");
    damaged_file_add(file, 19, 2);
    unit_ok(damage_save(chain.p0, damage, &error), error);
    unit_fails(is_whole(&chain, true, &error), error, ERROR_INTEGRITY, "1 clusters");
    unit_ok(damage_forget(chain.p0, &error), error);
    unit_ok(is_whole(&chain, true, &error), error);
}
END_TEST

/* Note in DIR that clusters FIRST to FIRST + COUNT - 1 are gone, and that file ALSO (or NULL) is, too. */
static void note(const char *dir, uint64_t first, uint64_t count, const char *also)
{
    AUTO(damage) damage = damage_new();
    g_autoptr(GError) error = NULL;

    damaged_file_add(damage_add(damage, "vda.qcow2", "a test"), first, count);
    if (also)
        damage_add(damage, also, "a test");
    unit_ok(damage_save(dir, damage, &error), error);
}

static void assert_lost(const struct chain *chain, const char *expected, const char *part)
{
    g_autofree char *base = g_build_filename(chain->p0, "vda.qcow2", NULL);
    g_autofree char *delta = g_build_filename(chain->p1, "vda.qcow2", NULL);
    AUTO_CHAIN_LOSS loss = {0};
    g_autoptr(GError) error = NULL;

    unit_ok(snapshot_chain_loss((char *[]){delta, base, NULL}, &loss, &error), error);
    ck_assert_ptr_nonnull(loss.text);
    ck_assert_msg(strstr(loss.text, part), "no '%s' in: %s", part, loss.text);
    assert_ranges(g_steal_pointer(&loss.clusters), expected);
}

START_TEST(what_is_lost_of_a_chain_is_known_to_the_cluster)
{
    AUTO_CHAIN chain = chain_new();

    note(chain.p0, 5, 25, NULL);
    assert_lost(&chain, "5-9 20-29", "15 clusters of vda.qcow2 in point " P0);
    /* Both lack it, and the upper one shows. */
    note(chain.p1, 12, 2, NULL);
    assert_lost(&chain, "5-9 12-13 20-29", "2 clusters of vda.qcow2 in point " P1);
    assert_lost(&chain, "5-9 12-13 20-29", "17 clusters of vda.qcow2 in point " P0);
}
END_TEST

START_TEST(damaged_digests_do_not_prove_that_a_layer_has_something_afresh)
{
    AUTO_CHAIN chain = chain_new();

    note(chain.p0, 12, 3, NULL);
    note(chain.p1, 0, 1, "vda.digests");
    assert_lost(&chain, "0 12-14", "3 clusters");
    note(chain.p1, 0, 1, SHA256SUMS_NAME);
    assert_lost(&chain, "0 12-14", "3 clusters");
    note(chain.p1, 0, 1, "domain.xml");
    assert_lost(&chain, "0", "1 clusters");
}
END_TEST

START_TEST(what_lies_behind_the_end_of_a_smaller_layer_is_not_missed)
{
    AUTO_CHAIN chain = chain_new();
    g_autoptr(GArray) below = ranges("30 62-63 64-70");
    char none[] = "none";
    struct manifest_disk small = {.file = none, .digests = none};

    small.virtual_bytes = 4 * MIB - CLUSTER_BYTES / 2;
    assert_ranges(snapshot_layer_loss(chain.p1, &small, NULL, below), "30 62-63");
    small.virtual_bytes = 30 * CLUSTER_BYTES;
    ck_assert_ptr_null(snapshot_layer_loss(chain.p1, &small, NULL, below));
}
END_TEST

START_TEST(an_image_whose_tables_are_damaged_is_told_apart)
{
    AUTO_CHAIN chain = chain_new();
    g_autofree char *base = g_build_filename(chain.p0, "vda.qcow2", NULL);
    AUTO_CHAIN_LOSS loss = {0};
    g_autoptr(GError) error = NULL;

    turn_bit(chain.p0, "vda.qcow2", 0);
    AUTO(damage) damage = find(chain.p0, chain.base);
    unit_ok(damage_save(chain.p0, damage, &error), error);
    unit_ok(snapshot_chain_loss((char *[]){base, NULL}, &loss, &error), error);
    ck_assert(loss.unreadable);
    ck_assert_ptr_nonnull(strstr(loss.text, "the tables of vda.qcow2"));
}
END_TEST

START_TEST(a_note_is_read_as_it_was_written)
{
    g_autofree char *dir = unit_dir();
    AUTO(damage) damage = damage_new();
    AUTO(damage) again = NULL;
    g_autoptr(GError) error = NULL;
    struct damaged_file *file = damage_add(damage, "vda.qcow2", "bits \"turned\"");

    damaged_file_add(file, 1, 2);
    damaged_file_add(file, 3, 1);
    damaged_file_add(file, 9, 1);
    damage_add(damage, "domain.xml", "gone");
    unit_ok(damage_save(dir, damage, &error), error);
    unit_ok(damage_load(dir, &again, &error), error);
    ck_assert_uint_eq(again->files->len, 2);
    ck_assert_int_eq(again->time_ms, damage->time_ms);
    file = damage_file(again, "vda.qcow2");
    ck_assert_str_eq(file->why, "bits \"turned\"");
    ck_assert_uint_eq(file->clusters->len, 2);
    ck_assert_uint_eq(cluster_ranges_count(file->clusters), 4);
    ck_assert_uint_eq(cluster_ranges_count(damage_file(again, "domain.xml")->clusters), 0);
}
END_TEST

START_TEST(too_many_stretches_become_fewer_larger_ones)
{
    g_autofree char *dir = unit_dir();
    AUTO(damage) damage = damage_new();
    AUTO(damage) again = NULL;
    g_autoptr(GError) error = NULL;
    struct damaged_file *file = damage_add(damage, "vda.qcow2", "why");

    for (uint64_t i = 0; i < 2 * CLUSTER_RANGES_MAX; i++)
        damaged_file_add(file, 2 * i, 1);
    ck_assert_uint_eq(file->clusters->len, CLUSTER_RANGES_MAX);
    for (uint64_t i = 0; i < 2 * CLUSTER_RANGES_MAX; i++)
        ck_assert(damaged_file_has(file, 2 * i));
    ck_assert(!damaged_file_has(file, 1));
    unit_ok(damage_save(dir, damage, &error) && damage_load(dir, &again, &error), error);
    ck_assert_uint_eq(damage_file(again, "vda.qcow2")->clusters->len, CLUSTER_RANGES_MAX);
}
END_TEST

START_TEST(a_note_that_cannot_be_read_is_damage_too)
{
    static const char *const texts[] = {
        "{",
        "[]",
        "{\"format\":2,\"time\":\"2026-11-20T22:15:00.123Z\",\"files\":[]}",
        "{\"format\":1,\"time\":\"2026-11-20T22:15:00.123Z\",\"files\":[{\"name\":\"../x\",\"why\":"
        "\"\",\"clusters\":[]}]}",
        "{\"format\":1,\"time\":\"2026-11-20T22:15:00.123Z\",\"files\":[{\"name\":\"x\",\"why\":"
        "\"\",\"clusters\":[[5,1],[2,1]]}]}",
        "{\"format\":1,\"time\":\"2026-11-20T22:15:00.123Z\",\"files\":[{\"name\":\"x\",\"why\":"
        "\"\",\"clusters\":[[-5,1]]}]}",
    };
    AUTO_CHAIN chain = chain_new();
    g_autofree char *path = g_build_filename(chain.p0, DAMAGE_NAME, NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        GError *error = NULL;

        unit_ok(file_write(path, texts[i], strlen(texts[i]), 0600, &error), error);
        unit_fails(is_whole(&chain, true, &error), error, ERROR_INTEGRITY, DAMAGE_NAME);
    }
}
END_TEST

/* --- sets of clusters -------------------------------------------------------------------------- */

START_TEST(sets_of_clusters_are_added_and_cut)
{
    g_autoptr(GArray) none = ranges("");
    g_autoptr(GArray) a = ranges("1-3 7 20-29");
    g_autoptr(GArray) b = ranges("0 4 6-8 25-40 50");

    assert_ranges(cluster_ranges_union(a, b), "0-4 6-8 20-40 50");
    assert_ranges(cluster_ranges_union(b, a), "0-4 6-8 20-40 50");
    assert_ranges(cluster_ranges_union(a, NULL), "1-3 7 20-29");
    assert_ranges(cluster_ranges_union(NULL, none), "");
    assert_ranges(cluster_ranges_minus(a, b), "1-3 20-24");
    assert_ranges(cluster_ranges_minus(b, a), "0 4 6 8 30-40 50");
    assert_ranges(cluster_ranges_minus(a, a), "");
    assert_ranges(cluster_ranges_minus(a, none), "1-3 7 20-29");
    assert_ranges(cluster_ranges_minus(none, a), "");
    assert_ranges(cluster_ranges_below(a, 25), "1-3 7 20-24");
    assert_ranges(cluster_ranges_below(a, 20), "1-3 7");
    assert_ranges(cluster_ranges_below(a, 0), "");
    ck_assert_uint_eq(cluster_ranges_count(a), 14);
    ck_assert_uint_eq(cluster_ranges_common(a, b), 6);
    ck_assert_uint_eq(cluster_ranges_common(b, a), 6);
    ck_assert_uint_eq(cluster_ranges_common(a, none), 0);
    ck_assert_uint_eq(cluster_ranges_count(NULL), 0);
}
END_TEST

START_TEST(a_set_of_clusters_is_within_another_or_not)
{
    g_autoptr(GArray) outer = ranges("1-3 7 20-29");
    static const char *const inside[] = {"", "1", "3 7", "1-3 7 20-29", "21-29"};
    static const char *const outside[] = {"0", "3-4", "4-6", "7-8", "19-21", "30", "1-3 7 20-30"};

    for (size_t i = 0; i < G_N_ELEMENTS(inside); i++) {
        g_autoptr(GArray) set = ranges(inside[i]);

        ck_assert_msg(cluster_ranges_within(set, outer), "%s", inside[i]);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(outside); i++) {
        g_autoptr(GArray) set = ranges(outside[i]);

        ck_assert_msg(!cluster_ranges_within(set, outer), "%s", outside[i]);
    }
}
END_TEST

/* --- cycles ----------------------------------------------------------------------------------- */

#define DAY ((int64_t)86400000)

START_TEST(a_cycle_spreads_the_store_evenly)
{
    struct cycle_item items[30];
    unsigned runs[30] = {0};

    /* All were verified at once; a run a day must not leave them all to the last. */
    for (unsigned i = 0; i < 30; i++)
        items[i] = (struct cycle_item){100, 0};
    for (unsigned day = 1; day <= 30; day++) {
        unsigned due = cycle_due(items, 30, day * DAY, 30 * DAY, DAY);

        runs[day - 1] = due;
        ck_assert_uint_le(due, 2);
        memmove(items, items + due, (30 - due) * sizeof *items);
        for (unsigned i = 30 - due; i < 30; i++)
            items[i] = (struct cycle_item){100, day * DAY};
    }
    for (unsigned i = 0; i < 30; i++)
        ck_assert_int_gt(items[i].verified_ms, 0);
    ck_assert_uint_ge(runs[0], 1);
}
END_TEST

START_TEST(what_is_overdue_is_verified_at_once)
{
    struct cycle_item items[] = {{100, 0}, {100, 0}, {100, 40 * DAY}};

    ck_assert_uint_eq(cycle_due(items, 3, 40 * DAY, 30 * DAY, 0), 2);
    ck_assert_uint_eq(cycle_due(items, 0, 40 * DAY, 30 * DAY, DAY), 0);
}
END_TEST

START_TEST(the_pace_looks_ahead_at_what_will_be_due_together)
{
    struct cycle_item items[] = {{1, 10 * DAY}, {1000, 11 * DAY}};

    /* 1001 bytes in 11 days: the large one begins before its last day. */
    ck_assert_uint_eq(cycle_due(items, 2, 30 * DAY, 30 * DAY, DAY), 2);
    /* Nothing is due when nothing has passed. */
    ck_assert_uint_eq(cycle_due(items, 2, 30 * DAY, 30 * DAY, 0), 0);
}
END_TEST

int main(void)
{
    return UNIT_RUN("damage", a_whole_point_has_no_damage, damage_is_found_to_the_cluster,
                    an_image_whose_tables_are_damaged_lacks_no_cluster,
                    what_is_gone_beside_the_tables_is_known_to_the_cluster,
                    an_image_that_is_not_there_lacks_all_its_clusters,
                    without_image_and_digests_the_whole_disk_is_missing,
                    an_unchanged_image_is_not_doubted_because_of_its_digests,
                    what_a_later_point_has_afresh_is_not_missed_by_it,
                    what_is_lost_of_a_chain_is_known_to_the_cluster,
                    damaged_digests_do_not_prove_that_a_layer_has_something_afresh,
                    what_lies_behind_the_end_of_a_smaller_layer_is_not_missed,
                    an_image_whose_tables_are_damaged_is_told_apart,
                    a_note_is_read_as_it_was_written, too_many_stretches_become_fewer_larger_ones,
                    a_note_that_cannot_be_read_is_damage_too, sets_of_clusters_are_added_and_cut,
                    a_set_of_clusters_is_within_another_or_not, a_cycle_spreads_the_store_evenly,
                    what_is_overdue_is_verified_at_once,
                    the_pace_looks_ahead_at_what_will_be_due_together);
}
