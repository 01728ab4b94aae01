/* SPDX-License-Identifier: Apache-2.0 */
/* metadata/proof.h, and what a store does with proofs of its points. */
#include "tests/disk-store.h"

static void save(const char *dir, const char *run, enum proof_verdict verdict)
{
    struct proof proof = {
        .run = (char *)run, .time_ms = 1764000000123, .verdict = verdict, .rto_seconds = 12.5};
    g_autoptr(GError) error = NULL;

    unit_ok(proof_save(dir, &proof, &error), error);
}

START_TEST(is_read_as_it_was_written)
{
    g_autofree char *dir = unit_dir();
    AUTO(proof) proof = NULL;

    ck_assert_ptr_null(proof_load(dir));
    ck_assert(!proof_passed(dir));
    save(dir, "r-1", PROOF_PASSED);
    proof = proof_load(dir);
    ck_assert_str_eq(proof->run, "r-1");
    ck_assert_int_eq(proof->time_ms, 1764000000123);
    ck_assert_int_eq(proof->verdict, PROOF_PASSED);
    ck_assert(proof->rto_seconds > 12.4 && proof->rto_seconds < 12.6);
    ck_assert(proof_passed(dir));
}
END_TEST

START_TEST(what_was_seen_is_replaced_only_by_what_is_seen)
{
    g_autofree char *dir = unit_dir();

    save(dir, "r-1", PROOF_UNPROVEN);
    ck_assert(!proof_passed(dir));
    save(dir, "r-2", PROOF_PASSED);
    save(dir, "r-3", PROOF_UNPROVEN);
    ck_assert(proof_passed(dir));
    save(dir, "r-4", PROOF_FAILED);
    ck_assert(!proof_passed(dir));
    save(dir, "r-5", PROOF_UNPROVEN);
    AUTO(proof) proof = proof_load(dir);

    ck_assert_str_eq(proof->run, "r-4");
}
END_TEST

START_TEST(what_cannot_be_read_proves_nothing)
{
    static const char *const bad[] = {
        "",
        "{}",
        "[]",
        "{\"format\": 2, \"run\": \"r\", \"time\": \"2026-11-20T22:15:00Z\", \"verdict\": "
        "\"passed\"}",
        "{\"format\": 1, \"run\": \"r\", \"time\": \"yesterday\", \"verdict\": \"passed\"}",
        "{\"format\": 1, \"run\": \"r\", \"time\": \"2026-11-20T22:15:00Z\", \"verdict\": "
        "\"great\"}",
        "{\"format\": 1, \"time\": \"2026-11-20T22:15:00Z\", \"verdict\": \"passed\"}",
    };
    g_autofree char *dir = unit_dir();
    g_autofree char *path = g_build_filename(dir, PROOF_NAME, NULL);

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;

        ck_assert_ptr_null(proof_parse(bad[i], strlen(bad[i]), &error));
        ck_assert(error_is(error, ERROR_INTEGRITY));
        unit_ok(file_write(path, bad[i], strlen(bad[i]), 0600, &error), error);
        ck_assert(!proof_passed(dir));
    }
    save(dir, "r-1", PROOF_PASSED);
    ck_assert(proof_passed(dir));
}
END_TEST

/* ---- In a store */

static struct disk_lab *lab_of_points(unsigned count)
{
    struct disk_lab *lab = disk_lab_new();
    struct disk *disk = disk_lab_add(lab, 4 * LAB_MIB, 3);

    for (unsigned i = 0; i < count; i++) {
        disk_scribble(disk, 0, disk->bytes, 30);
        disk_lab_point(lab);
    }
    return lab;
}

static char *point_dir(const struct disk_lab *lab, unsigned n)
{
    g_autofree char *id = disk_lab_id(n);

    return store_point_dir(lab->path, lab->uuid, id);
}

static const struct prune_decision *decision(const struct prune_result *result, unsigned n)
{
    g_autofree char *id = disk_lab_id(n);

    for (unsigned i = 0; i < result->decisions->len; i++) {
        const struct prune_decision *one = result->decisions->pdata[i];

        if (g_str_equal(one->point, id))
            return one;
    }
    ck_abort_msg("nothing was decided about point %u", n);
}

START_TEST(the_newest_proven_point_stays_and_a_merge_keeps_the_proof)
{
    AUTO(disk_lab) lab = lab_of_points(6);
    struct prune_request request = {.vm_uuid = lab->uuid};
    struct prune_result result;
    g_autofree char *old = point_dir(lab, 1);
    g_autofree char *proven = point_dir(lab, 2);
    g_autofree char *failed = point_dir(lab, 3);
    g_autoptr(GError) error = NULL;

    save(old, "r-1", PROOF_PASSED);
    save(proven, "r-2", PROOF_PASSED);
    save(failed, "r-3", PROOF_FAILED);
    unit_ok(retention_parse("last=1", &request.keep, &error), error);
    unit_ok(store_prune(lab->store, &request, &result, &error), error);
    ck_assert(!decision(&result, 1)->keep);
    ck_assert(decision(&result, 2)->keep);
    ck_assert_str_eq(decision(&result, 2)->rule, "last proven");
    ck_assert(!decision(&result, 3)->keep);
    ck_assert(!g_file_test(old, G_FILE_TEST_EXISTS) && !g_file_test(failed, G_FILE_TEST_EXISTS));
    /* It has taken over what was below it: another directory, the same content. */
    ck_assert(proof_passed(proven));
    ck_assert_uint_eq(disk_lab_check(lab), 3);
    prune_result_clear(&result);
}
END_TEST

START_TEST(nobody_sends_a_proof_as_a_file_of_a_point)
{
    AUTO(disk_lab) lab = lab_of_points(1);
    g_autoptr(GError) error = NULL;
    AUTO(incoming) incoming = store_begin(lab->store, lab->uuid, "20261120T221500.777Z", &error);
    unsigned file;

    unit_ok(incoming != NULL, error);
    unit_fails(incoming_open(incoming, PROOF_NAME, &file, &error), error, ERROR_INTEGRITY,
               "written by the store itself");
}
END_TEST

int main(void)
{
    return UNIT_RUN("proof", is_read_as_it_was_written,
                    what_was_seen_is_replaced_only_by_what_is_seen,
                    what_cannot_be_read_proves_nothing,
                    the_newest_proven_point_stays_and_a_merge_keeps_the_proof,
                    nobody_sends_a_proof_as_a_file_of_a_point);
}
