/* SPDX-License-Identifier: Apache-2.0 */
/* Points of one disk that are dropped, what was decided about each, and what is left then. */
#pragma once

#include "tests/disk-store.h"

G_GNUC_UNUSED static struct disk_lab *lab_of_points(unsigned count)
{
    struct disk_lab *lab = disk_lab_new();
    struct disk *disk = disk_lab_add(lab, 20 * LAB_MIB, 3);

    disk_scribble(disk, 0, disk->bytes, 60);
    for (unsigned i = 0; i < count; i++) {
        disk_lab_point(lab);
        disk_scribble(disk, 0, disk->bytes, 15);
    }
    return lab;
}

G_GNUC_UNUSED static bool prune(struct disk_lab *lab, const char *policy, bool dry_run,
                                struct prune_result *result, GError **error)
{
    struct prune_request request = {.vm_uuid = lab->uuid, .dry_run = dry_run};
    g_autoptr(GError) wrong = NULL;

    unit_ok(!policy || retention_parse(policy, &request.keep, &wrong), wrong);
    return store_prune(lab->store, &request, result, error);
}

/* Prune, and look at all that is left. */
G_GNUC_UNUSED static struct prune_result prunes(struct disk_lab *lab, const char *policy)
{
    struct prune_result result;
    g_autofree char *incoming = g_build_filename(lab->path, "incoming", NULL);
    g_auto(GStrv) left = NULL;
    g_autoptr(GError) error = NULL;
    unsigned kept = 0;

    unit_ok(prune(lab, policy, false, &result, &error), error);
    for (unsigned i = 0; i < result.decisions->len; i++)
        kept += ((const struct prune_decision *)result.decisions->pdata[i])->keep;
    ck_assert_uint_eq(disk_lab_check(lab), kept);
    unit_ok(left = dir_list(incoming, &error), error);
    ck_assert_uint_eq(g_strv_length(left), 0);
    return result;
}

/* What was decided about the N-th point of the lab. */
G_GNUC_UNUSED static void decided(const struct prune_result *result, unsigned n, bool keep,
                                  const char *rule)
{
    g_autofree char *id = disk_lab_id(n);

    for (unsigned i = 0; i < result->decisions->len; i++) {
        const struct prune_decision *decision = result->decisions->pdata[i];

        if (strcmp(decision->point, id) != 0)
            continue;
        ck_assert_msg(decision->keep == keep, "point %u: %s", n, decision->rule);
        ck_assert_msg(strstr(decision->rule, rule) != NULL, "point %u: %s", n, decision->rule);
        return;
    }
    ck_abort_msg("nothing was decided about point %u", n);
}

G_GNUC_UNUSED static char *base_of(const struct disk_lab *lab, unsigned n, const char *target)
{
    g_autofree char *id = disk_lab_id(n);
    g_autofree char *dir = store_point_dir(lab->path, lab->uuid, id);
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    g_autoptr(GError) error = NULL;
    AUTO(manifest) manifest = manifest_load(path, &error);

    unit_ok(manifest != NULL, error);
    return g_strdup(manifest_disk(manifest, target)->base);
}

G_GNUC_UNUSED static void based_on(const struct disk_lab *lab, unsigned n, int base)
{
    g_autofree char *found = base_of(lab, n, "vda");
    g_autofree char *expected = base < 0 ? NULL : disk_lab_id((unsigned)base);

    ck_assert_msg(g_strcmp0(found, expected) == 0, "point %u is based on %s", n, found);
}

/* Names and sizes of all that is in the store's vms/: to see that nothing changed. */
G_GNUC_UNUSED static char *listing(const struct disk_lab *lab)
{
    g_autofree char *vms = g_build_filename(lab->path, "vms", NULL);
    g_autoptr(GError) error = NULL;
    char *text;

    unit_ok(process_run((const char *[]){"find", vms, "-type", "f", "-printf", "%p %s %i\n", NULL},
                        20, &text, &error),
            error);
    return text;
}

/* Pruning fails with PART in the message, and changes nothing. */
G_GNUC_UNUSED static void refuses(struct disk_lab *lab, const char *policy, enum error_kind kind,
                                  const char *part)
{
    g_autofree char *before = listing(lab), *after = NULL;
    struct prune_result result;
    GError *error = NULL;

    unit_fails(prune(lab, policy, false, &result, &error), error, kind, part);
    after = listing(lab);
    ck_assert_str_eq(before, after);
}
