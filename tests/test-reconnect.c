/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Links to a real `drctl serve` that are lost while a store is asked, or while points go from store to
 * store: who is patient gets what was asked for, and gets it once.
 */
#include "tests/away.h"
#include "tests/disk-store.h"

#define PATIENCE_MS 20000
#define IMAGE_BYTES (8 * LAB_MIB)
/* What was on its way, and what is asked besides. */
#define WINDOW_BYTES (2 * LAB_MIB)

/* The store of a lab, with two points, and an empty one; and a link to one of them. */
struct pair {
    struct disk_lab *lab;
    char *other_path;
    struct catalog *catalog;
    struct store *other;
    struct away away;
    struct store *far;
};

static struct store *dial(struct away *away, const char *path, int64_t retry_ms)
{
    struct dialler dialler = {.dial = away_dial, .context = away};
    g_autoptr(GError) error = NULL;
    struct store *store;

    *away = (struct away){.drctl = DRCTL, .store_path = path, .end = AWAY_LINK_CUT};
    store = store_open_dialler(&dialler, "dr1", AWAY_PING_MS, &error);
    unit_ok(store != NULL, error);
    store_be_patient(store, retry_ms, NULL);
    return store;
}

static struct pair *pair_new(bool lab_is_far, int64_t retry_ms)
{
    struct pair *pair = g_new0(struct pair, 1);
    struct disk *disk;
    g_autoptr(GError) error = NULL;

    pair->lab = disk_lab_new();
    disk = disk_lab_add(pair->lab, 2 * IMAGE_BYTES, 7);
    disk_write(disk, LAB_MIB, IMAGE_BYTES, DISK_RANDOM);
    disk_lab_point(pair->lab);
    disk_write(disk, 2 * LAB_MIB, LAB_MIB, DISK_RANDOM);
    disk_lab_point(pair->lab);
    pair->other_path = g_build_filename(pair->lab->dir, "other", NULL);
    unit_ok(store_create(pair->other_path, "dr1", &error), error);
    unit_ok(pair->catalog = catalog_open(pair->other_path, &error), error);
    pair->other = store_open_local(pair->other_path, pair->catalog, &snapshot_point_ops, &error);
    unit_ok(pair->other != NULL, error);
    pair->far = dial(&pair->away, lab_is_far ? pair->lab->path : pair->other_path, retry_ms);
    return pair;
}

static void pair_free(struct pair *pair)
{
    store_free(pair->far);
    away_wait(&pair->away);
    store_free(pair->other);
    catalog_free(pair->catalog);
    g_free(pair->other_path);
    disk_lab_free(pair->lab);
    g_free(pair);
}
DEFINE_CLEANUP(pair)

/* --- what is asked for ------------------------------------------------------------------------ */

static unsigned count_points(struct store *store)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) points = store_points(store, LAB_VM, &error);

    unit_ok(points != NULL, error);
    return points->len;
}

START_TEST(a_list_is_asked_for_again)
{
    AUTO(pair) pair = pair_new(true, PATIENCE_MS);

    pair->away.back = 300; /* in the middle of the first manifest */
    ck_assert_uint_eq(count_points(pair->far), 2);
    ck_assert_uint_eq(pair->away.dialled, 2);
}
END_TEST

START_TEST(who_is_not_patient_is_told_at_once)
{
    AUTO(pair) pair = pair_new(true, 0);
    GError *error = NULL;

    pair->away.back = 300;
    unit_fails(store_points(pair->far, LAB_VM, &error), error, ERROR_NETWORK, "dr1: ");
    ck_assert_uint_eq(pair->away.dialled, 1);
}
END_TEST

START_TEST(patience_ends)
{
    AUTO(pair) pair = pair_new(true, 1500);
    GError *error = NULL;

    pair->away.drctl = "/bin/false";
    pair->away.back = 300;
    unit_fails(store_points(pair->far, LAB_VM, &error), error, ERROR_NETWORK, "dr1");
    ck_assert_uint_ge(pair->away.dialled, 2);
}
END_TEST

/* Connecting anew would take the link away from under the point. */
START_TEST(nothing_is_asked_for_again_while_a_point_arrives)
{
    AUTO(pair) pair = pair_new(false, PATIENCE_MS);
    g_autofree char *id = disk_lab_id(9);
    GError *error = NULL;
    struct incoming *incoming = store_begin(pair->far, LAB_VM, id, &error);

    unit_ok(incoming != NULL, error);
    pair->away.back = 1;
    unit_fails(store_points(pair->far, LAB_VM, &error), error, ERROR_NETWORK, "dr1: ");
    ck_assert_uint_eq(pair->away.dialled, 1);
    incoming_free(incoming);
    ck_assert_uint_eq(count_points(pair->far), 0);
    ck_assert_uint_eq(pair->away.dialled, 2);
}
END_TEST

static bool refuse(void *context, const void *data, size_t len, GError **error)
{
    return fail(error, ERROR_NETWORK, "no link to where it should go");
}

/* It is lost elsewhere: here there is nothing to be had again. */
START_TEST(a_loss_behind_the_sink_is_no_loss_of_this_link)
{
    AUTO(pair) pair = pair_new(true, PATIENCE_MS);
    g_autofree char *id = disk_lab_id(0);
    GError *error = NULL;

    unit_fails(store_get(pair->far, LAB_VM, id, "vda.qcow2", 0, refuse, NULL, &error), error,
               ERROR_NETWORK, "no link to where it should go");
    ck_assert_uint_eq(pair->away.dialled, 1);
}
END_TEST

static bool publish(struct pair *pair, struct bundle *bundle)
{
    g_autoptr(GError) error = NULL;
    bool sent;

    unit_ok(bundle_publish(bundle, pair->far, &sent, &error), error);
    return sent;
}

START_TEST(a_pool_bundle_is_sent_once)
{
    AUTO(pair) pair = pair_new(false, PATIENCE_MS);
    AUTO(bundle) bundle = bundle_new("dc1");
    AUTO(bundle_id) id = NULL;
    g_autoptr(GError) error = NULL;

    bundle_add_domain(bundle, "db", LAB_VM, "<domain/>");
    /* There is none yet, and the end of the answer to the new one is lost. */
    pair->away.back = WIRE_HEADER + strlen("{\"bundle\":null}") + WIRE_HEADER;
    ck_assert(publish(pair, bundle));
    ck_assert_uint_eq(pair->away.dialled, 2);
    unit_ok(store_newest_bundle(pair->other, "dc1", &id, &error), error);
    ck_assert_uint_eq(id->generation, 1);
    ck_assert(!publish(pair, bundle));
    /* And one that has not come through. */
    bundle_add(bundle, "networks/new.xml", "<network/>");
    pair->away.bytes = 200;
    ck_assert(publish(pair, bundle));
    ck_assert_uint_eq(pair->away.dialled, 3);
    ck_assert_uint_eq(bundle->id->generation, 2);
}
END_TEST

/* --- points from store to store --------------------------------------------------------------- */

static void copy(struct store *from, struct store *to)
{
    char *const all[] = {NULL};
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) plan = store_copy_plan(from, to, all, NULL, &error);

    unit_ok(plan != NULL, error);
    for (unsigned i = 0; i < plan->len; i++)
        unit_ok(store_copy_point(from, to, plan->pdata[i], NULL, &error), error);
}

/* The other store has what the lab has. */
static void assert_copied(struct pair *pair)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) points = store_points(pair->other, LAB_VM, &error);

    unit_ok(points != NULL, error);
    ck_assert_uint_eq(points->len, 2);
    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];
        g_autofree char *dir = store_point_dir(pair->other_path, LAB_VM, manifest->point);
        g_autofree char *image = g_build_filename(dir, "vda.qcow2", NULL);
        g_autofree char *truth = disk_lab_truth(pair->lab, manifest->point, "vda");

        unit_ok(store_verify_point(pair->other_path, manifest, NULL, &error), error);
        unit_ok(snapshot_verify_point(dir, manifest, NULL, &error), error);
        qemu_compares(truth, image);
    }
}

START_TEST(a_copy_to_afar_outlives_its_link)
{
    AUTO(pair) pair = pair_new(false, PATIENCE_MS);

    pair->away.bytes = IMAGE_BYTES / 2;
    copy(pair->lab->store, pair->far);
    ck_assert_uint_eq(pair->away.dialled, 2);
    assert_copied(pair);
}
END_TEST

START_TEST(a_copy_outlives_its_server)
{
    AUTO(pair) pair = pair_new(false, PATIENCE_MS);

    pair->away.end = AWAY_SERVE_KILLED;
    pair->away.bytes = IMAGE_BYTES / 2;
    copy(pair->lab->store, pair->far);
    ck_assert_uint_eq(pair->away.dialled, 2);
    assert_copied(pair);
}
END_TEST

START_TEST(the_lost_answer_to_the_commit_of_a_copy_is_asked_for)
{
    AUTO(pair) pair = pair_new(false, PATIENCE_MS);

    pair->away.after_commit = true;
    copy(pair->lab->store, pair->far);
    ck_assert_uint_eq(pair->away.dialled, 2);
    assert_copied(pair);
}
END_TEST

START_TEST(a_copy_from_afar_goes_on_in_the_middle_of_a_file)
{
    AUTO(pair) pair = pair_new(true, PATIENCE_MS);

    pair->away.back = IMAGE_BYTES * 9 / 10;
    copy(pair->far, pair->other);
    ck_assert_uint_eq(pair->away.dialled, 2);
    ck_assert_uint_le(pair->away.received, IMAGE_BYTES + LAB_MIB + WINDOW_BYTES);
    assert_copied(pair);
}
END_TEST

int main(void)
{
    return UNIT_RUN("reconnect", a_list_is_asked_for_again, who_is_not_patient_is_told_at_once,
                    patience_ends, nothing_is_asked_for_again_while_a_point_arrives,
                    a_loss_behind_the_sink_is_no_loss_of_this_link, a_pool_bundle_is_sent_once,
                    a_copy_to_afar_outlives_its_link, a_copy_outlives_its_server,
                    the_lost_answer_to_the_commit_of_a_copy_is_asked_for,
                    a_copy_from_afar_goes_on_in_the_middle_of_a_file);
}
