/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/output.h"
#include "drctl/verification.h"

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

/* LISTED may have been dropped or replaced since it was listed; from here on it is not. */
static bool verify_one(struct context *context, const struct manifest *listed,
                       struct verification *verification, GError **error)
{
    AUTO(file_lock) lock = store_read_lock(context->config->store, listed->uuid, error);
    g_autofree char *dir = store_point_dir(context->config->store, listed->uuid, listed->point);
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    AUTO(manifest) now = NULL;
    g_autoptr(GError) damage = NULL;

    if (!lock)
        return false;
    if (!g_file_test(dir, G_FILE_TEST_IS_DIR))
        return true;
    now = manifest_load(path, NULL);
    if (!verify_point(context, now ? now : listed, &damage, error))
        return false;
    add_verdict(verification, listed, damage);
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
        note_unreadable(context, manifest, damage);
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
    if (verification->points == 0 && !option_set(context, "cycle"))
        return fail(error, ERROR_NOT_FOUND,
                    "there is no such recovery point in this store; see: drctl points");
    if (verification->damaged > 0)
        return fail(error, ERROR_INTEGRITY,
                    "%u of %u points are damaged; they are kept, but not used. The next point of "
                    "each of these "
                    "VMs has afresh what is damaged, and what can be healed is: drctl heal",
                    verification->damaged, verification->points);
    return true;
}

static bool verify_all(struct context *context, const GPtrArray *points,
                       struct verification *verification, GError **error)
{
    /* Oldest first: what is wrong with a base matters to those above it. */
    for (unsigned i = points->len; i-- > 0;)
        if (is_wanted(context, points->pdata[i]) &&
            !verify_one(context, points->pdata[i], verification, error))
            return false;
    return add_unreadable(context, points, verification, error);
}

/* --- a part of it each time ------------------------------------------------------------------- */

/* Where the time of the last run with --cycle is kept, beside the verdicts. */
#define CYCLE_KEY "cycle"
#define FIRST_INTERVAL_MS ((int64_t)24 * 60 * 60 * 1000)

struct candidate {
    const struct manifest *point;
    int64_t verified_ms;
};

/* All of a point was read back when it was committed. */
static GArray *candidates_new(struct context *context, const GPtrArray *points)
{
    GArray *candidates = g_array_new(FALSE, FALSE, sizeof(struct candidate));

    for (unsigned i = 0; i < points->len; i++) {
        struct candidate candidate = {.point = points->pdata[i]};
        AUTO_VERDICT verdict = {0};

        verdict_of(context, candidate.point, &verdict);
        candidate.verified_ms = MAX(candidate.point->time_ms, verdict.verified_ms);
        g_array_append_val(candidates, candidate);
    }
    return candidates;
}

static int oldest_first(const void *a, const void *b)
{
    const struct candidate *left = a, *right = b;

    return left->verified_ms < right->verified_ms ? -1 : left->verified_ms > right->verified_ms;
}

static int64_t last_run_ms(struct context *context, int64_t now_ms)
{
    json_auto_t *json = NULL;
    const char *time;
    int64_t ms = now_ms - FIRST_INTERVAL_MS;

    if (catalog_get(context->catalog, CATALOG_VERIFIED, CYCLE_KEY, &json, NULL) && json &&
        (time = json_get_string(json, "time")))
        time_parse(time, &ms, NULL);
    return MIN(ms, now_ms);
}

static bool remember_run(struct context *context, int64_t now_ms, GError **error)
{
    json_auto_t *json = json_object();
    g_autofree char *time = time_format(now_ms);

    json_set_string(json, "time", time);
    return catalog_put(context->catalog, CATALOG_VERIFIED, CYCLE_KEY, json, error);
}

static unsigned count_due(struct context *context, const GArray *candidates, int64_t now_ms,
                          int64_t cycle_ms)
{
    g_autofree struct cycle_item *items = g_new0(struct cycle_item, candidates->len);

    for (unsigned i = 0; i < candidates->len; i++) {
        const struct candidate *candidate = &g_array_index(candidates, struct candidate, i);

        items[i].bytes = manifest_stored_bytes(candidate->point);
        items[i].verified_ms = candidate->verified_ms;
    }
    return cycle_due(items, candidates->len, now_ms, cycle_ms,
                     now_ms - last_run_ms(context, now_ms));
}

static bool verify_due(struct context *context, const GPtrArray *points,
                       struct verification *verification, GError **error)
{
    g_autoptr(GArray) candidates = candidates_new(context, points);
    int64_t now_ms = time_now_ms(), cycle_ms;
    unsigned due;

    if (!duration_parse(option_value(context, "cycle"), &cycle_ms, NULL) || cycle_ms <= 0)
        return fail(error, ERROR_USAGE, "--cycle %s is not a time, such as 30d",
                    option_value(context, "cycle"));
    g_array_sort(candidates, oldest_first);
    due = count_due(context, candidates, now_ms, cycle_ms);
    for (unsigned i = 0; i < due; i++)
        if (!verify_one(context, g_array_index(candidates, struct candidate, i).point, verification,
                        error))
            return false;
    return add_unreadable(context, points, verification, error) &&
           remember_run(context, now_ms, error);
}

/* --- the command ------------------------------------------------------------------------------ */

static bool verify(struct context *context, const GPtrArray *points,
                   struct verification *verification, GError **error)
{
    return (option_set(context, "cycle") ? verify_due : verify_all)(context, points, verification,
                                                                    error) &&
           finish(context, verification, error);
}

static bool cmd_verify(struct context *context, GError **error)
{
    static const char *const headers[] = {"VM", "POINT", "VERDICT", NULL};
    json_auto_t *list = json_array();
    AUTO(table) table = table_new(headers);
    struct verification verification = {.list = list, .table = table};

    if (option_set(context, "cycle") && (context->args[0] || option_set(context, "point")))
        return fail(error, ERROR_USAGE, "--cycle is about the whole store: no VM, no --point");
    if (!context_store(context, error))
        return false;
    g_autoptr(GPtrArray) points = store_points(context->store, context->args[0], error);

    return points && verify(context, points, &verification, error);
}

static const struct option verify_options[] = {
    {"point", "POINT", "only this point"},
    {"cycle", "TIME", "only what is due so that all is verified once in this time, such as 30d"},
    {0},
};

const struct command verify_commands[] = {
    {
        .name = "verify",
        .args = "[VM]",
        .max_args = 1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "re-read recovery points and compare them with their digests",
        .text =
            "Reads every file of the points in this site's store against SHA256SUMS, checks the\n"
            "structure of the images, unpacks every cluster and compares it with the digest taken\n"
            "of it at the source. Exit status 5 when anything differs. A damaged point is kept "
            "and\n"
            "marked: it is not used until it is healed.",
        .options = verify_options,
        .run = cmd_verify,
    },
    {0},
};
