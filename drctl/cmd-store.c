/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/output.h"
#include "drctl/verification.h"

#include <stdio.h>

/* What stands in the catalog alone, and is lost with it. */
#define LOST                                                                                       \
    "the history of runs and points, the last result of each replication, and when points were "   \
    "verified"

/* --- rebuild ----------------------------------------------------------------------------------- */

static bool ignore_entry(const char *key, json_t *value, void *data)
{
    return true;
}

/* Can all of it be read? */
static bool check_catalog(const char *store_path, GError **error)
{
    AUTO(catalog) catalog = catalog_open(store_path, error);

    for (int table = 0; catalog && table < CATALOG_TABLES; table++)
        if (!catalog_each(catalog, (enum catalog_table)table, "", ignore_entry, NULL, error))
            return false;
    return catalog != NULL;
}

/* *ASIDE is where a damaged catalog was put, NULL if it is not damaged. */
static bool replace_damaged(const char *store_path, char **aside, GError **error)
{
    g_autoptr(GError) damage = NULL;

    *aside = NULL;
    if (check_catalog(store_path, &damage))
        return true;
    if (!error_is(damage, ERROR_INTEGRITY)) {
        g_propagate_error(error, g_steal_pointer(&damage));
        return false;
    }
    return catalog_set_aside(store_path, aside, error);
}

static bool clear_table(struct catalog *catalog, enum catalog_table table, GError **error)
{
    g_autoptr(GPtrArray) keys = catalog_keys(catalog, table, "", error);

    if (!keys)
        return false;
    for (unsigned i = 0; i < keys->len; i++)
        if (!catalog_remove(catalog, table, keys->pdata[i], error))
            return false;
    return true;
}

static unsigned count_vms(const GPtrArray *points)
{
    g_autoptr(GHashTable) vms = g_hash_table_new(g_str_hash, g_str_equal);

    for (unsigned i = 0; i < points->len; i++)
        g_hash_table_add(vms, ((const struct manifest *)points->pdata[i])->uuid);
    return g_hash_table_size(vms);
}

static void print_rebuilt(struct context *context, const GPtrArray *points, const char *aside,
                          char **unreadable)
{
    json_auto_t *json = json_object();

    json_set_u64(json, "points", points->len);
    json_set_u64(json, "vms", count_vms(points));
    json_set_u64(json, "unreadable", g_strv_length(unreadable));
    json_set_string(json, "aside", aside);
    if (context->json)
        print_json(json);
    else
        printf("The catalog knows %u points of %u VMs again.\n", points->len, count_vms(points));
    for (char **entry = unreadable; *entry; entry++)
        progress_note(context->progress, "damaged: %s", *entry);
    if (aside)
        progress_note(context->progress,
                      "the old catalog was damaged and is kept in %s; what cannot come back: " LOST,
                      aside);
}

static bool cmd_store_rebuild(struct context *context, GError **error)
{
    g_autofree char *aside = NULL;
    g_auto(GStrv) unreadable = NULL;
    g_autoptr(GPtrArray) points = NULL;

    if (!context_config(context, error) ||
        !replace_damaged(context->config->store, &aside, error) || !context_store(context, error) ||
        !clear_table(context->catalog, CATALOG_POINTS, error) ||
        !clear_table(context->catalog, CATALOG_VMS, error))
        return false;
    points = store_points(context->store, NULL, error);
    unreadable = points ? store_damaged_points(context->store, NULL, error) : NULL;
    if (!unreadable)
        return false;
    print_rebuilt(context, points, aside, unreadable);
    return true;
}

/* --- check ------------------------------------------------------------------------------------- */

struct summary {
    unsigned points, damaged, unreadable, arriving;
    uint64_t bytes, free_bytes, total_bytes;
};

static bool summarize(struct context *context, struct summary *summary, GError **error)
{
    const char *store = context->config->store;
    g_autofree char *incoming = g_build_filename(store, "incoming", NULL);
    g_autoptr(GPtrArray) points = store_points(context->store, NULL, error);
    g_auto(GStrv) unreadable = points ? store_damaged_points(context->store, NULL, error) : NULL;
    g_auto(GStrv) arriving = unreadable ? dir_list(incoming, error) : NULL;

    if (!arriving || !disk_space(store, &summary->free_bytes, &summary->total_bytes, error))
        return false;
    for (unsigned i = 0; i < points->len; i++) {
        AUTO_VERDICT verdict = {0};

        verdict_of(context, points->pdata[i], &verdict);
        summary->damaged += verdict.damage != NULL;
        summary->bytes += manifest_bytes(points->pdata[i]);
    }
    summary->points = points->len;
    summary->unreadable = g_strv_length(unreadable);
    summary->arriving = g_strv_length(arriving);
    return true;
}

static void print_summary(struct context *context, const struct summary *summary)
{
    g_autofree char *bytes = bytes_format(summary->bytes);
    g_autofree char *free_text = bytes_format(summary->free_bytes);
    g_autofree char *total = bytes_format(summary->total_bytes);
    json_auto_t *json = json_object();

    json_set_u64(json, "points", summary->points);
    json_set_u64(json, "bytes", summary->bytes);
    json_set_u64(json, "damaged", summary->damaged);
    json_set_u64(json, "unreadable", summary->unreadable);
    json_set_u64(json, "arriving", summary->arriving);
    json_set_u64(json, "free_bytes", summary->free_bytes);
    json_set_u64(json, "total_bytes", summary->total_bytes);
    if (context->json) {
        print_json(json);
        return;
    }
    printf("%s: %u points, %s; %u arriving or left of a transfer that was interrupted\n"
           "%u noted as damaged, %u without a manifest that can be read\n"
           "%s of %s are free\n",
           context->config->store, summary->points, bytes, summary->arriving, summary->damaged,
           summary->unreadable, free_text, total);
}

static bool cmd_store_check(struct context *context, GError **error)
{
    struct summary summary = {0};

    if (!context_store(context, error) || !summarize(context, &summary, error))
        return false;
    print_summary(context, &summary);
    if (summary.damaged + summary.unreadable > 0)
        return fail(error, ERROR_INTEGRITY, "%u points are damaged; see: drctl heal",
                    summary.damaged + summary.unreadable);
    return true;
}

const struct command store_commands[] = {
    {
        .name = "store check",
        .args = "",
        .flags = COMMAND_JSON,
        .summary = "what this site's store holds, and what is wrong with it",
        .run = cmd_store_check,
    },
    {
        .name = "store rebuild",
        .args = "",
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "make the catalog of this site's store anew from its files",
        .text = "Reads the manifests of all points again. A catalog that is damaged is moved away "
                "and kept;\n"
                "then " LOST "\n"
                "are lost. Recovery points never are.",
        .run = cmd_store_rebuild,
    },
    {0},
};
