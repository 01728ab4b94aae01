/* SPDX-License-Identifier: Apache-2.0 */
/* Damage at the destination and the next point of a running guest: it has afresh what is lost. */
#include "tests/capture-lab.h"

#include <fcntl.h>

#include "snapshot/image.h"

/* Turn a bit in COUNT clusters of vda in POINT, from FIRST on, and note what a verification finds. */
static void damage_clusters(const struct lab *lab, const struct manifest *point, uint64_t first,
                            uint64_t count)
{
    g_autofree char *dir = store_point_dir(lab->store_path, point->uuid, point->point);
    g_autofree char *path = g_build_filename(dir, "vda.qcow2", NULL);
    g_autoptr(GError) error = NULL;
    AUTO(damage) damage = damage_new();
    AUTO(image) image = image_open(path, &error);
    AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC);
    struct image_cluster cluster;
    bool found = true;

    while (found) {
        uint8_t byte;

        unit_ok(image && image_next(image, &cluster, &found, &error), error);
        if (!found || cluster.number < first || cluster.number >= first + count)
            continue;
        ck_assert_int_eq(pread(fd, &byte, 1, (off_t)cluster.offset + 5), 1);
        byte ^= 1;
        ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)cluster.offset + 5), 1);
    }
    unit_ok(store_find_damage(dir, point, NULL, damage, &error) &&
                snapshot_find_damage(dir, point, NULL, damage, &error),
            error);
    ck_assert_uint_eq(cluster_ranges_count(damage_file(damage, "vda.qcow2")->clusters), count);
    unit_ok(damage_save(dir, damage, &error), error);
}

static bool is_whole(const struct lab *lab, const char *point)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) chain = store_chain(lab->store, domain_uuid(lab->domain), point, "vda", &error);

    unit_ok(chain, error);
    return snapshot_chain_is_whole(chain, NULL);
}

START_TEST(the_next_point_has_afresh_what_is_damaged_and_heals_it)
{
    AUTO(lab) lab = lab_new("afresh", "qcow2");

    guest_io(lab, 0, "write -P 17 0 2M");
    AUTO(manifest) first = take_true_point(lab);
    AUTO(manifest) second = take_true_point(lab);

    damage_clusters(lab, first, 4, 3);
    ck_assert(!is_whole(lab, first->point) && !is_whole(lab, second->point));
    AUTO(manifest) third = take_true_point(lab);

    ck_assert_str_eq(third->base, second->point);
    ck_assert_uint_eq(manifest_changed_bytes(third), 3 << 16);
    ck_assert(is_whole(lab, third->point) && !is_whole(lab, second->point));
    store_heal_vm(lab->store, domain_uuid(lab->domain), NULL);
    ck_assert(is_whole(lab, first->point) && is_whole(lab, second->point));
    assert_point_is_true(lab, first->point);
    assert_point_is_true(lab, second->point);
    assert_point_is_true(lab, third->point);
    /* And no more than once. */
    AUTO(manifest) fourth = take_true_point(lab);

    ck_assert_uint_eq(manifest_changed_bytes(fourth), 0);
}
END_TEST

START_TEST(what_has_changed_meanwhile_makes_the_newest_whole_only)
{
    AUTO(lab) lab = lab_new("changed", "qcow2");

    guest_io(lab, 0, "write -P 17 0 2M");
    AUTO(manifest) first = take_true_point(lab);

    damage_clusters(lab, first, 4, 2);
    guest_io(lab, 0, "write -P 18 256k 64k");
    AUTO(manifest) second = take_true_point(lab);

    ck_assert_uint_eq(manifest_changed_bytes(second), 2 << 16);
    store_heal_vm(lab->store, domain_uuid(lab->domain), NULL);
    ck_assert(is_whole(lab, second->point) && !is_whole(lab, first->point));
    /* The first stays damaged, but nothing above it needs that any more. */
    AUTO(manifest) third = take_true_point(lab);

    ck_assert_uint_eq(manifest_changed_bytes(third), 0);
    ck_assert(is_whole(lab, third->point) && !is_whole(lab, first->point));
    assert_point_is_true(lab, third->point);
}
END_TEST

int main(void)
{
    become_ordinary_user();
    return SESSION_RUN("refresh", the_next_point_has_afresh_what_is_damaged_and_heals_it,
                       what_has_changed_meanwhile_makes_the_newest_whole_only);
}
