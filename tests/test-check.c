/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot_check_point() and snapshot_verify_point() on points of a real chain. */
#include "snapshot/bigendian.h"
#include "snapshot/qcow2.h"
#include "tests/disk.h"

#define MIB (UINT64_C(1) << 20)

/* A base and an increment of a disk with all kinds of clusters. */
struct chain {
    char *dir, *p0, *p1;
    struct manifest *base, *delta;
};

static void chain_clear(struct chain *chain)
{
    manifest_free(chain->base);
    manifest_free(chain->delta);
    g_free(chain->dir);
    g_free(chain->p0);
    g_free(chain->p1);
}
#define AUTO_CHAIN __attribute__((cleanup(chain_clear))) struct chain

static struct chain chain_new(void)
{
    struct chain chain = {.dir = unit_dir()};
    AUTO(disk) disk = disk_new(chain.dir, 40 * MIB + 512, 11);

    disk_scribble(disk, 0, disk->bytes, 100);
    chain.base = disk_point(disk, "p0");
    disk_scribble(disk, 0, disk->bytes, 40);
    disk_write(disk, 0, CLUSTER_BYTES, DISK_ZERO);
    disk_write(disk, MIB, CLUSTER_BYTES, DISK_TEXT);
    chain.delta = disk_point(disk, "p1");
    chain.p0 = g_build_filename(chain.dir, "p0", NULL);
    chain.p1 = g_build_filename(chain.dir, "p1", NULL);
    return chain;
}

static struct manifest_disk *vda(struct manifest *manifest)
{
    return g_ptr_array_index(manifest->disks, 0);
}

/* XOR the byte at OFFSET of file NAME of point P1 with 1. */
static void damage(const struct chain *chain, const char *name, uint64_t offset)
{
    g_autofree char *path = g_build_filename(chain->p1, name, NULL);
    AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte;

    ck_assert_int_eq(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= 1;
    ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)offset), 1);
}

static void refused(const struct chain *chain, const char *part)
{
    g_autoptr(GError) error = NULL;

    unit_fails(snapshot_check_point(chain->p1, chain->delta, &error), error, ERROR_INTEGRITY, part);
    unit_fails(snapshot_verify_point(chain->p1, chain->delta, NULL, &error), error, ERROR_INTEGRITY,
               part);
}

struct seen {
    struct progress progress;
    uint64_t done, total;
};

static void see_bytes(struct progress *progress, const char *subject, uint64_t done, uint64_t total)
{
    struct seen *seen = (struct seen *)progress;

    ck_assert_str_eq(subject, "db/vda");
    ck_assert(done >= seen->done && done <= total);
    seen->done = done;
    seen->total = total;
}

START_TEST(good_points_pass)
{
    AUTO_CHAIN chain = chain_new();
    g_autoptr(GError) error = NULL;
    struct seen seen = {.progress = {.bytes = see_bytes}};

    unit_ok(snapshot_check_point(chain.p0, chain.base, &error), error);
    unit_ok(snapshot_check_point(chain.p1, chain.delta, &error), error);
    unit_ok(snapshot_verify_point(chain.p0, chain.base, &seen.progress, &error), error);
    ck_assert_uint_eq(seen.done, vda(chain.base)->stored_bytes);
    ck_assert_uint_eq(seen.total, seen.done);
    unit_ok(snapshot_verify_point(chain.p1, chain.delta, NULL, &error), error);
}
END_TEST

START_TEST(refuses_a_point_that_is_not_what_the_manifest_says)
{
    AUTO_CHAIN chain = chain_new();
    struct manifest_disk *entry = vda(chain.delta);

    entry->virtual_bytes += 512;
    refused(&chain, "the manifest says");
    entry->virtual_bytes -= 512;
    entry->stored_bytes++;
    refused(&chain, "the manifest says");
    entry->stored_bytes--;
    entry->changed_bytes += CLUSTER_BYTES;
    refused(&chain, "the manifest says");
    entry->changed_bytes -= CLUSTER_BYTES - 1;
    refused(&chain, "the manifest says");
}
END_TEST

START_TEST(refuses_any_other_backing_name)
{
    AUTO_CHAIN chain = chain_new();
    struct manifest_disk *entry = vda(chain.delta);
    g_autoptr(GError) error = NULL;

    g_free(entry->base);
    entry->base = g_strdup("p2");
    refused(&chain, "backing file");
    g_free(entry->base);
    entry->base = NULL;
    refused(&chain, "backing file");
    /* one that should have one has none */
    vda(chain.base)->base = g_strdup("p1");
    unit_fails(snapshot_check_point(chain.p0, chain.base, &error), error, ERROR_INTEGRITY,
               "backing file");
}
END_TEST

START_TEST(refuses_a_backing_name_outside_of_the_store)
{
    static const char *const names[] = {"/dev/sda", "json:{}", "../p0/../p0/vda.qcow2",
                                        "nbd:host:1", "../p0/vda.qcow2 "};

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        AUTO_CHAIN chain = chain_new();
        g_autofree char *image = g_build_filename(chain.p1, "vda.qcow2", NULL);
        g_autofree char *digests = g_build_filename(chain.p1, "vda.digests", NULL);
        struct manifest_disk *entry = vda(chain.delta);
        struct disk_files files;
        struct composer_totals totals;
        AUTO(composer)
        composer = composer_new(disk_files_open(&files, image, digests), entry->virtual_bytes,
                                names[i], NULL);

        ck_assert(composer_finish(composer, &totals, NULL));
        disk_files_close(&files, &totals);
        entry->stored_bytes = totals.image_bytes;
        entry->changed_bytes = 0;
        refused(&chain, "backing file");
    }
}
END_TEST

START_TEST(refuses_digests_that_do_not_match_the_clusters)
{
    AUTO_CHAIN chain = chain_new();
    g_autofree char *mine = g_build_filename(chain.p1, "vda.digests", NULL);
    g_autofree char *other = g_build_filename(chain.p0, "vda.digests", NULL);

    ck_assert_int_eq(rename(other, mine), 0);
    refused(&chain, "vda.digests: cluster");
}
END_TEST

START_TEST(refuses_a_zero_cluster_with_another_digest)
{
    AUTO_CHAIN chain = chain_new();

    damage(&chain, "vda.digests", DIGESTS_HEADER_BYTES + 8 + 5);
    refused(&chain, "cluster 0 is zero");
}
END_TEST

START_TEST(refuses_missing_files)
{
    AUTO_CHAIN chain = chain_new();
    g_autofree char *image = g_build_filename(chain.p1, "vda.qcow2", NULL);
    g_autofree char *digests = g_build_filename(chain.p1, "vda.digests", NULL);

    ck_assert_int_eq(unlink(digests), 0);
    refused(&chain, "vda.digests is missing");
    ck_assert_int_eq(unlink(image), 0);
    refused(&chain, "vda.qcow2 is missing");
}
END_TEST

/* The first cluster of KIND of point P1; it is the *INDEX'th of the image. */
static struct image_cluster find_cluster(const struct chain *chain, enum cluster_kind kind,
                                         unsigned *index)
{
    g_autofree char *path = g_build_filename(chain->p1, "vda.qcow2", NULL);
    AUTO(image) image = image_open(path, NULL);
    struct image_cluster cluster;
    bool found;

    *index = UINT_MAX;
    do {
        ++*index;
        ck_assert(image_next(image, &cluster, &found, NULL));
        ck_assert(found);
    } while (cluster.kind != kind);
    return cluster;
}

/* Damage of the content is what only verification sees. */
static void check_damage(enum cluster_kind kind, uint64_t at)
{
    AUTO_CHAIN chain = chain_new();
    unsigned index;
    struct image_cluster cluster = find_cluster(&chain, kind, &index);
    g_autofree char *number = g_strdup_printf("cluster %lu ", (unsigned long)cluster.number);
    g_autoptr(GError) error = NULL;

    damage(&chain, "vda.qcow2", cluster.offset + at);
    unit_ok(snapshot_check_point(chain.p1, chain.delta, &error), error);
    unit_fails(snapshot_verify_point(chain.p1, chain.delta, NULL, &error), error, ERROR_INTEGRITY,
               number);
}

START_TEST(verification_finds_a_flipped_bit_in_a_plain_cluster)
{
    check_damage(CLUSTER_PLAIN, 0);
    check_damage(CLUSTER_PLAIN, CLUSTER_BYTES - 1);
}
END_TEST

START_TEST(verification_finds_a_flipped_bit_in_a_packed_cluster)
{
    check_damage(CLUSTER_PACKED, 0);
    check_damage(CLUSTER_PACKED, 7);
    check_damage(CLUSTER_PACKED, 100);
}
END_TEST

START_TEST(verification_finds_a_wrong_digest)
{
    AUTO_CHAIN chain = chain_new();
    g_autoptr(GError) error = NULL;
    unsigned index;

    find_cluster(&chain, CLUSTER_PACKED, &index);
    damage(&chain, "vda.digests", DIGESTS_HEADER_BYTES + index * DIGESTS_RECORD_BYTES + 8 + 31);
    unit_ok(snapshot_check_point(chain.p1, chain.delta, &error), error);
    unit_fails(snapshot_verify_point(chain.p1, chain.delta, NULL, &error), error, ERROR_INTEGRITY,
               "content of its digest");
}
END_TEST

START_TEST(an_interrupt_ends_the_verification)
{
    AUTO_CHAIN chain = chain_new();
    g_autoptr(GError) error = NULL;

    interrupt_request();
    ck_assert(!snapshot_verify_point(chain.p0, chain.base, NULL, &error));
    ck_assert(error_is(error, ERROR_CANCELLED));
}
END_TEST

int main(void)
{
    return UNIT_RUN("check", good_points_pass, refuses_a_point_that_is_not_what_the_manifest_says,
                    refuses_any_other_backing_name, refuses_a_backing_name_outside_of_the_store,
                    refuses_digests_that_do_not_match_the_clusters,
                    refuses_a_zero_cluster_with_another_digest, refuses_missing_files,
                    verification_finds_a_flipped_bit_in_a_plain_cluster,
                    verification_finds_a_flipped_bit_in_a_packed_cluster,
                    verification_finds_a_wrong_digest, an_interrupt_ends_the_verification);
}
