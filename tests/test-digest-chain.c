/* SPDX-License-Identifier: Apache-2.0 */
/* What a chain of digests tells is what is on the disk. */
#include "snapshot/digest-chain.h"
#include "tests/disk.h"

#define MIB (UINT64_C(1) << 20)
#define LAYERS_MAX 150

/* The points of a disk, the newest first. */
struct points {
    char *paths[LAYERS_MAX];
    struct digest_layer layers[LAYERS_MAX];
    unsigned count;
};

static void points_clear(struct points *points)
{
    for (unsigned i = 0; i < points->count; i++)
        g_free(points->paths[LAYERS_MAX - 1 - i]);
}
#define AUTO_POINTS __attribute__((cleanup(points_clear))) struct points

static const struct digest_layer *top(const struct points *points)
{
    return points->layers + LAYERS_MAX - points->count;
}

static void take(struct points *points, struct disk *disk)
{
    g_autofree char *name = g_strdup_printf("p%u", points->count);
    AUTO(manifest) manifest = disk_point(disk, name);
    unsigned place = LAYERS_MAX - ++points->count;

    points->paths[place] = g_build_filename(disk->dir, name, "vda.digests", NULL);
    points->layers[place] = (struct digest_layer){points->paths[place], disk->bytes};
}

/* The digest of CLUSTER of the disk as it is now. */
static void true_digest(const struct disk *disk, uint64_t cluster, uint8_t digest[DIGEST_SIZE])
{
    g_autofree uint8_t *plain = g_malloc0(CLUSTER_BYTES);

    ck_assert_int_ge(pread(disk->fd, plain, CLUSTER_BYTES, (off_t)(cluster * CLUSTER_BYTES)), 0);
    digest_buffer(plain, CLUSTER_BYTES, digest);
}

/* Compare the chain with the disk; returns the number of clusters of which it cannot tell. */
static unsigned compare(const struct points *points, const struct disk *disk)
{
    g_autoptr(GError) error = NULL;
    AUTO(digest_chain) chain = digest_chain_open(top(points), points->count, &error);
    struct chain_record record = {};
    uint8_t expected[DIGEST_SIZE];
    unsigned hidden = 0;
    bool found;

    unit_ok(chain != NULL, error);
    unit_ok(digest_chain_next(chain, &record, &found, &error), error);
    for (uint64_t n = 0; n < cluster_count(disk->bytes); n++) {
        bool here = found && record.cluster == n;

        true_digest(disk, n, expected);
        if (here && record.hidden > 0)
            hidden++;
        else
            ck_assert_msg(
                memcmp(here ? record.digest : cluster_zero_digest(), expected, DIGEST_SIZE) == 0,
                "cluster %u", (unsigned)n);
        if (here)
            unit_ok(digest_chain_next(chain, &record, &found, &error), error);
    }
    ck_assert(!found);
    return hidden;
}

START_TEST(the_newest_layer_wins)
{
    g_autofree char *dir = unit_dir();
    AUTO(disk) disk = disk_new(dir, 40 * MIB + 512, 5);
    AUTO_POINTS points = {};

    disk_scribble(disk, 0, disk->bytes, 200);
    for (unsigned i = 0; i < 12; i++) {
        take(&points, disk);
        ck_assert_uint_eq(compare(&points, disk), 0);
        disk_scribble(disk, 0, disk->bytes, 30);
    }
}
END_TEST

START_TEST(a_layer_without_clusters_changes_nothing)
{
    g_autofree char *dir = unit_dir();
    AUTO(disk) disk = disk_new(dir, MIB, 6);
    AUTO_POINTS points = {};

    take(&points, disk);
    ck_assert_uint_eq(compare(&points, disk), 0);
    disk_scribble(disk, 0, disk->bytes, 3);
    take(&points, disk);
    take(&points, disk);
    ck_assert_uint_eq(compare(&points, disk), 0);
}
END_TEST

START_TEST(records_name_the_layer_that_has_them)
{
    g_autofree char *dir = unit_dir();
    AUTO(disk) disk = disk_new(dir, MIB, 7);
    AUTO_POINTS points = {};
    g_autoptr(GError) error = NULL;
    struct chain_record record;
    bool found;

    disk_write(disk, 0, 2 * CLUSTER_BYTES, DISK_RANDOM);
    take(&points, disk);
    disk_write(disk, CLUSTER_BYTES, 2 * CLUSTER_BYTES, DISK_ZERO);
    take(&points, disk);
    AUTO(digest_chain) chain = digest_chain_open(top(&points), points.count, &error);

    unit_ok(chain != NULL, error);
    for (uint64_t n = 0; n < 3; n++) {
        unit_ok(digest_chain_next(chain, &record, &found, &error), error);
        ck_assert(found);
        ck_assert_uint_eq(record.cluster, n);
        ck_assert_uint_eq(record.layer, n == 0 ? 1 : 0);
        ck_assert_uint_eq(record.hidden, 0);
    }
    unit_ok(digest_chain_next(chain, &record, &found, &error), error);
    ck_assert(!found);
    ck_assert_uint_eq(digest_chain_limit(chain), MIB);
}
END_TEST

START_TEST(what_a_disk_lost_when_it_shrank_does_not_come_back)
{
    g_autofree char *dir = unit_dir();
    AUTO(disk) disk = disk_new(dir, 4 * MIB, 8);
    AUTO_POINTS points = {};

    disk_write(disk, 0, (size_t)disk->bytes, DISK_RANDOM);
    take(&points, disk);
    disk_resize(disk, MIB);
    take(&points, disk);
    ck_assert_uint_eq(compare(&points, disk), 0);
    disk_resize(disk, 5 * MIB);
    disk_write(disk, 3 * MIB, CLUSTER_BYTES, DISK_TEXT);
    take(&points, disk);
    ck_assert_uint_eq(compare(&points, disk), 0);
}
END_TEST

START_TEST(it_tells_of_which_cluster_it_knows_only_the_beginning)
{
    g_autofree char *dir = unit_dir();
    AUTO(disk) disk = disk_new(dir, 4 * MIB, 9);
    AUTO_POINTS points = {};

    disk_write(disk, 0, (size_t)disk->bytes, DISK_RANDOM);
    take(&points, disk);
    disk_resize(disk, MIB + 512);
    take(&points, disk);
    disk_resize(disk, 4 * MIB);
    take(&points, disk);
    ck_assert_uint_eq(compare(&points, disk), 1);
    disk_write(disk, MIB, 512, DISK_TEXT);
    take(&points, disk);
    ck_assert_uint_eq(compare(&points, disk), 0);
}
END_TEST

START_TEST(a_long_chain_is_read_in_one_pass)
{
    g_autofree char *dir = unit_dir();
    AUTO(disk) disk = disk_new(dir, 8 * MIB, 10);
    AUTO_POINTS points = {};

    for (unsigned i = 0; i < LAYERS_MAX; i++) {
        disk_scribble(disk, 0, disk->bytes, 2);
        take(&points, disk);
    }
    ck_assert_uint_eq(compare(&points, disk), 0);
}
END_TEST

START_TEST(refuses_a_damaged_layer_by_its_name)
{
    g_autofree char *dir = unit_dir();
    AUTO(disk) disk = disk_new(dir, MIB, 11);
    AUTO_POINTS points = {};
    GError *error = NULL;

    disk_scribble(disk, 0, disk->bytes, 3);
    take(&points, disk);
    disk_scribble(disk, 0, disk->bytes, 3);
    take(&points, disk);
    ck_assert_int_eq(truncate(points.paths[LAYERS_MAX - 1], 100), 0);
    unit_fails(digest_chain_open(top(&points), points.count, &error) != NULL, error,
               ERROR_INTEGRITY, "p0/vda.digests");
}
END_TEST

int main(void)
{
    return UNIT_RUN("digest-chain", the_newest_layer_wins, a_layer_without_clusters_changes_nothing,
                    records_name_the_layer_that_has_them,
                    what_a_disk_lost_when_it_shrank_does_not_come_back,
                    it_tells_of_which_cluster_it_knows_only_the_beginning,
                    a_long_chain_is_read_in_one_pass, refuses_a_damaged_layer_by_its_name);
}
