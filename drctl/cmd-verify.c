/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"
#include "drctl/output.h"

#include <stdio.h>

static json_t *verdict_json(const struct manifest *manifest, const GError *error)
{
    json_t *json = json_object();

    json_set_string(json, "vm", manifest->vm);
    json_set_string(json, "uuid", manifest->uuid);
    json_set_string(json, "point", manifest->point);
    json_object_set_new(json, "ok", json_boolean(!error));
    json_set_string(json, "error", error ? error->message : NULL);
    return json;
}

/* Every layer below this point is there and is what its manifest says. */
static bool verify_chains(struct context *context, const struct manifest *manifest, GError **error)
{
    for (unsigned i = 0; i < manifest->disks->len; i++) {
        const struct manifest_disk *disk = manifest->disks->pdata[i];
        g_auto(GStrv) chain =
            store_chain(context->store, manifest->uuid, manifest->point, disk->target, error);

        if (!chain)
            return false;
    }
    return true;
}

static bool verify_point(struct context *context, const struct manifest *manifest, GError **error)
{
    const char *store = context->config->store;
    g_autofree char *dir = store_point_dir(store, manifest->uuid, manifest->point);

    return store_verify_point(store, manifest, context->progress, error) &&
           snapshot_check_point(dir, manifest, error) && verify_chains(context, manifest, error) &&
           snapshot_verify_point(dir, manifest, context->progress, error);
}

struct verification {
    json_t *list;
    struct table *table;
    unsigned points, damaged;
};

static void add_verdict(struct verification *verification, const struct manifest *manifest,
                        const GError *damage)
{
    verification->points++;
    verification->damaged += damage != NULL;
    json_array_append_new(verification->list, verdict_json(manifest, damage));
    table_row(verification->table,
              (const char *[]){manifest->vm, manifest->point, damage ? damage->message : "whole"});
}

static bool verify_one(struct context *context, const struct manifest *manifest,
                       struct verification *verification, GError **error)
{
    g_autoptr(GError) damage = NULL;

    if (!verify_point(context, manifest, &damage) && error_is(damage, ERROR_CANCELLED)) {
        g_propagate_error(error, g_steal_pointer(&damage));
        return false;
    }
    add_verdict(verification, manifest, damage);
    return true;
}

static bool is_wanted(const struct context *context, const struct manifest *manifest)
{
    const char *point = option_value(context, "point");

    return !point || g_str_equal(point, manifest->point);
}

static const struct manifest *newest_of(const GPtrArray *points, const char *uuid)
{
    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];

        if (g_str_equal(manifest->uuid, uuid))
            return manifest;
    }
    return NULL;
}

/* Points without a readable manifest: nobody could use them, and nothing else lists them. */
static bool add_unreadable(struct context *context, const GPtrArray *points,
                           struct verification *verification, GError **error)
{
    g_auto(GStrv) damaged = store_damaged_points(context->store, context->args[0], error);

    if (!damaged)
        return false;
    for (char **entry = damaged; *entry; entry++) {
        g_auto(GStrv) parts = g_strsplit_set(*entry, "/:", 3);
        AUTO(manifest) manifest = manifest_new();
        const struct manifest *sibling = newest_of(points, parts[0]);
        g_autoptr(GError) damage = NULL;

        manifest->vm = g_strdup(sibling ? sibling->vm : parts[0]);
        manifest->uuid = g_strdup(parts[0]);
        manifest->point = g_strdup(parts[1]);
        if (!is_wanted(context, manifest))
            continue;
        fail(&damage, ERROR_INTEGRITY, "%s", g_strchug(parts[2]));
        add_verdict(verification, manifest, damage);
    }
    return true;
}

static bool finish(struct context *context, const struct verification *verification, GError **error)
{
    progress_terminal_end(context->progress);
    if (context->json)
        print_json(verification->list);
    else if (verification->points > 0)
        table_print(verification->table);
    if (verification->points == 0)
        return fail(error, ERROR_NOT_FOUND,
                    "there is no such recovery point in this store; see: drctl points");
    if (verification->damaged > 0)
        return fail(
            error, ERROR_INTEGRITY,
            "%u of %u points are damaged; they and the points based on them cannot be trusted. "
            "The next point is whole again if it is taken with: drctl replicate --full",
            verification->damaged, verification->points);
    return true;
}

static bool cmd_verify(struct context *context, GError **error)
{
    static const char *const headers[] = {"VM", "POINT", "VERDICT", NULL};
    json_auto_t *list = json_array();
    AUTO(table) table = table_new(headers);
    struct verification verification = {.list = list, .table = table};

    if (!context_store(context, error))
        return false;
    g_autoptr(GPtrArray) points = store_points(context->store, context->args[0], error);

    for (unsigned i = 0; points && i < points->len; i++)
        if (is_wanted(context, points->pdata[i]) &&
            !verify_one(context, points->pdata[i], &verification, error))
            return false;
    return points && add_unreadable(context, points, &verification, error) &&
           finish(context, &verification, error);
}

static const struct option verify_options[] = {
    {"point", "POINT", "only this point"},
    {0},
};

const struct command verify_commands[] = {
    {
        .name = "verify",
        .args = "[VM]",
        .max_args = 1,
        .flags = COMMAND_JSON,
        .summary = "re-read recovery points and compare them with their digests",
        .text =
            "Reads every file of the points in this site's store against SHA256SUMS, checks the\n"
            "structure of the images, unpacks every cluster and compares it with the digest taken\n"
            "of it at the source. Exit status 5 when anything differs.",
        .options = verify_options,
        .run = cmd_verify,
    },
    {0},
};
