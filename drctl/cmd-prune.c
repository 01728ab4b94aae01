/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/jobs.h"
#include "drctl/output.h"

#include <stdio.h>
#include <string.h>

struct pruning {
    struct context *context;
    const char *destination;
    struct store *store;
    bool dry_run;
    struct retention keep;
    GPtrArray *protected; /* of struct protected_vm */
    GPtrArray *vms;       /* of struct manifest: the newest point of each VM */
    json_t *points, *errors;
    struct table *table;
    unsigned dropped;
    uint64_t freed_bytes;
    GError *first_error;
};

static void pruning_clear(struct pruning *pruning)
{
    store_free(pruning->store);
    g_clear_pointer(&pruning->protected, g_ptr_array_unref);
    g_clear_pointer(&pruning->vms, g_ptr_array_unref);
    json_decref(pruning->points);
    json_decref(pruning->errors);
    table_free(pruning->table);
    g_clear_error(&pruning->first_error);
}

/* --- what to prune --------------------------------------------------------------------------- */

/* The VMs of store_points(NAME), by the newest point of each. */
static bool add_vms(struct pruning *pruning, const char *name, GError **error)
{
    g_autoptr(GPtrArray) points = store_points(pruning->store, name, error);
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    if (!points)
        return false;
    if (name && points->len == 0)
        return fail(error, ERROR_NOT_FOUND, "there is no recovery point of %s in %s", name,
                    pruning->store->label);
    for (unsigned i = 0; i < pruning->vms->len; i++)
        g_hash_table_add(seen, g_strdup(((struct manifest *)pruning->vms->pdata[i])->uuid));
    while (points->len > 0) {
        struct manifest *manifest = g_ptr_array_steal_index(points, 0);

        if (g_hash_table_add(seen, g_strdup(manifest->uuid)))
            g_ptr_array_add(pruning->vms, manifest);
        else
            manifest_free(manifest);
    }
    return true;
}

/* What the protection that sends VM there keeps, or would if there still was such a VM; an empty policy if there
 * is none. */
static struct retention policy_of(const struct pruning *pruning, const char *vm)
{
    const struct protection *selects;

    if (!retention_is_empty(&pruning->keep))
        return pruning->keep;
    for (unsigned i = 0; i < pruning->protected->len; i++) {
        const struct protected_vm *protected = pruning->protected->pdata[i];

        if (g_str_equal(protected->vm, vm) &&
            g_str_equal(protected->protection->destination, pruning->destination))
            return protected->protection->keep;
    }
    selects = protection_that_selects(pruning->context->config, pruning->destination, vm, NULL);
    if (selects)
        return selects->keep;
    return (struct retention){0};
}

/* Another site has a policy of its own, which is not known here. */
static bool check_policies(const struct pruning *pruning, GError **error)
{
    const struct config *config = pruning->context->config;

    if (!g_str_equal(pruning->destination, "local") || !retention_is_empty(&config->keep))
        return true;
    for (unsigned i = 0; i < pruning->vms->len; i++) {
        struct retention keep = policy_of(pruning, ((struct manifest *)pruning->vms->pdata[i])->vm);

        if (!retention_is_empty(&keep))
            return true;
    }
    return fail(error, ERROR_CONFIG,
                "no policy says what to keep: give --keep, or set keep in [site] or in a "
                "[protection] of %s, see drctl.conf(5)",
                config->path);
}

static bool prepare(struct pruning *pruning, GError **error)
{
    static const char *const headers[] = {"VM", "POINT", "DECISION", "RULE", ">SIZE", NULL};
    struct context *context = pruning->context;
    char *none[] = {NULL};

    pruning->points = json_array();
    pruning->errors = json_array();
    pruning->table = table_new(headers);
    pruning->vms = g_ptr_array_new_with_free_func((GDestroyNotify)manifest_free);
    if (!option_keep(context, &pruning->keep, error) || !context_config(context, error))
        return false;
    pruning->protected = recorded_vms(context, none, error);
    if (pruning->protected)
        pruning->store = context_open(context, pruning->destination, error);
    if (!pruning->store || (!*context->args && !add_vms(pruning, NULL, error)))
        return false;
    for (char **name = context->args; *name; name++)
        if (!add_vms(pruning, *name, error))
            return false;
    return pruning->vms->len == 0 || check_policies(pruning, error);
}

/* --- doing it -------------------------------------------------------------------------------- */

static void add_decision(struct pruning *pruning, const struct prune_decision *decision)
{
    g_autofree char *bytes = bytes_format(decision->bytes);

    json_array_append_new(pruning->points, prune_decision_json(decision));
    table_row(pruning->table,
              (const char *[]){decision->vm, decision->point, decision->keep ? "keep" : "drop",
                               decision->rule, bytes});
    pruning->dropped += !decision->keep;
}

static void add_failure(struct pruning *pruning, const struct manifest *vm, GError *failure)
{
    json_t *json = json_object();

    progress_note(pruning->context->progress, "%s: %s", vm->vm, failure->message);
    json_set_string(json, "vm", vm->vm);
    json_set_string(json, "uuid", vm->uuid);
    json_set_string(json, "error", failure->message);
    json_set_string(json, "kind", error_kind_name(error_kind_of(failure)));
    json_array_append_new(pruning->errors, json);
    if (pruning->first_error)
        g_error_free(failure);
    else
        pruning->first_error = failure;
}

static void prune_vm(struct pruning *pruning, const struct manifest *vm)
{
    struct prune_request request = {.vm_uuid = vm->uuid,
                                    .keep = policy_of(pruning, vm->vm),
                                    .dry_run = pruning->dry_run,
                                    .progress = pruning->context->progress};
    struct prune_result result;
    GError *failure = NULL;

    if (!interrupt_check(&failure) || !store_prune(pruning->store, &request, &result, &failure)) {
        add_failure(pruning, vm, failure);
        return;
    }
    for (unsigned i = 0; i < result.decisions->len; i++)
        add_decision(pruning, result.decisions->pdata[i]);
    pruning->freed_bytes += result.freed_bytes;
    prune_result_clear(&result);
}

/* --- output ---------------------------------------------------------------------------------- */

static void print_document(const struct pruning *pruning)
{
    json_auto_t *document = json_object();

    json_object_set_new(document, "dry_run", json_boolean(pruning->dry_run));
    json_object_set(document, "points", pruning->points);
    json_object_set(document, "errors", pruning->errors);
    json_set_u64(document, "dropped", pruning->dropped);
    json_set_u64(document, "freed_bytes", pruning->freed_bytes);
    print_json(document);
}

static void print_table(const struct pruning *pruning)
{
    g_autofree char *freed = bytes_format(pruning->freed_bytes);
    const char *points = pruning->dropped == 1 ? "point" : "points";

    if (json_array_size(pruning->points) > 0)
        table_print(pruning->table);
    if (pruning->dry_run)
        printf("%u %s would go; that would free at most %s.\n", pruning->dropped, points, freed);
    else
        printf("%u %s dropped, %s freed.\n", pruning->dropped, points, freed);
}

static bool finish(struct pruning *pruning, GError **error)
{
    size_t failed = json_array_size(pruning->errors);

    progress_terminal_end(pruning->context->progress);
    if (pruning->context->json)
        print_document(pruning);
    else
        print_table(pruning);
    if (failed == 0)
        return true;
    if (failed < pruning->vms->len && !error_is(pruning->first_error, ERROR_CANCELLED))
        return fail(error, ERROR_PARTIAL, "%zu of %u VMs were not pruned: %s", failed,
                    pruning->vms->len, pruning->first_error->message);
    g_propagate_error(error, g_steal_pointer(&pruning->first_error));
    return false;
}

static bool prune(struct pruning *pruning, GError **error)
{
    if (!prepare(pruning, error))
        return false;
    for (unsigned i = 0; i < pruning->vms->len; i++)
        prune_vm(pruning, pruning->vms->pdata[i]);
    return finish(pruning, error);
}

static bool cmd_prune(struct context *context, GError **error)
{
    const char *destination = option_value(context, "store");
    struct pruning pruning = {
        .context = context,
        .destination = destination ? destination : "local",
        .dry_run = option_set(context, "dry-run"),
    };
    bool done = prune(&pruning, error);

    pruning_clear(&pruning);
    return done;
}

static const struct option prune_options[] = {
    {"dry-run", NULL, "say what would go and why; change nothing"},
    {"keep", "POLICY", "this policy instead of the protection's: \"last=24 daily=14\""},
    {"store", "DESTINATION", "another store than this site's: the name of a remote"},
    {0},
};

const struct command prune_commands[] = {
    {
        .name = "prune",
        .args = "[VM]...",
        .max_args = -1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "drop recovery points that no policy keeps",
        .text =
            "Drops points by the rules of keep in drctl.conf(5), each with its reason. The "
            "content\n"
            "of a point that goes is merged into the point that is based on it, so that all "
            "others\n"
            "stay what they are. The two newest points, the last one that was verified, and what\n"
            "is in use always stay.",
        .options = prune_options,
        .run = cmd_prune,
    },
    {0},
};
