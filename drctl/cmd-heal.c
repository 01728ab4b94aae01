/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/output.h"
#include "drctl/verification.h"

struct heal {
    struct context *context;
    struct store *from; /* NULL: this store only */
    json_t *results;
    struct table *table;
    unsigned points, damaged;
};

static void add_result(struct heal *heal, const struct manifest *point, bool healed,
                       const char *damage)
{
    json_t *json = json_object();

    heal->points++;
    heal->damaged += !healed;
    json_set_string(json, "vm", point->vm);
    json_set_string(json, "uuid", point->uuid);
    json_set_string(json, "point", point->point);
    json_object_set_new(json, "healed", json_boolean(healed));
    json_set_string(json, "error", healed ? NULL : damage);
    json_array_append_new(heal->results, json);
    table_row(heal->table, (const char *[]){point->vm, point->point, healed ? "healed" : damage});
}

static bool heal_point(struct heal *heal, const struct manifest *point, GError **error)
{
    struct context *context = heal->context;
    AUTO_VERDICT verdict = {0};
    g_autoptr(GError) why = NULL;

    verdict_of(context, point, &verdict);
    if (!verdict.damage)
        return true;
    if (option_set(context, "dry-run")) {
        add_result(heal, point, false, verdict.damage);
        return true;
    }
    if (store_heal_point(context->store, point, heal->from, context->progress, &why)) {
        add_result(heal, point, true, NULL);
        return true;
    }
    if (error_is(why, ERROR_CANCELLED) || error_is(why, ERROR_NETWORK)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    add_result(heal, point, false, why->message);
    return true;
}

/* Bases first: what is healed in them may be what another point needs. */
static bool heal_points(struct heal *heal, GError **error)
{
    struct context *context = heal->context;
    g_autoptr(GPtrArray) points = store_points(context->store, context->args[0], error);
    g_auto(GStrv) unreadable =
        points ? store_damaged_points(context->store, context->args[0], error) : NULL;

    for (char **entry = unreadable; entry && *entry; entry++) {
        g_auto(GStrv) parts = g_strsplit_set(*entry, "/:", 3);
        AUTO(manifest) point = manifest_new();
        g_autoptr(GError) why = NULL;

        point->vm = g_strdup(parts[0]);
        point->uuid = g_strdup(parts[0]);
        point->point = g_strdup(parts[1]);
        fail(&why, ERROR_INTEGRITY, "%s", g_strchug(parts[2]));
        if (option_set(context, "dry-run")) {
            add_result(heal, point, false, why->message);
            continue;
        }
        note_unreadable(context, point, why);
        if (!heal_point(heal, point, error))
            return false;
    }
    for (unsigned i = unreadable ? points->len : 0; i-- > 0;)
        if (!heal_point(heal, points->pdata[i], error))
            return false;
    return unreadable != NULL;
}

static bool finish(struct heal *heal, GError **error)
{
    struct context *context = heal->context;

    progress_terminal_end(context->progress);
    if (context->json)
        print_json(heal->results);
    else if (heal->points > 0)
        table_print(heal->table);
    else
        progress_note(context->progress,
                      "nothing is noted as damaged; `drctl verify` looks for it");
    if (heal->damaged == 0 || option_set(context, "dry-run"))
        return true;
    return fail(error, ERROR_INTEGRITY, "%u of %u points stay damaged%s", heal->damaged,
                heal->points,
                heal->from ? "" : "; another store may have them: drctl heal --from REMOTE");
}

static bool run(struct heal *heal, GError **error)
{
    struct context *context = heal->context;
    const char *from = option_value(context, "from");

    if (!context_store(context, error))
        return false;
    if (from && (!config_remote(context->config, from, error) ||
                 !(heal->from = context_open(context, from, error))))
        return false;
    return heal_points(heal, error) && finish(heal, error);
}

static bool cmd_heal(struct context *context, GError **error)
{
    static const char *const headers[] = {"VM", "POINT", "STATE", NULL};
    json_auto_t *results = json_array();
    AUTO(table) table = table_new(headers);
    struct heal heal = {.context = context, .results = results, .table = table};
    bool done = run(&heal, error);

    store_free(heal.from);
    return done;
}

static const struct option heal_options[] = {
    {"from", "REMOTE", "take what is damaged from that site's store"},
    {"dry-run", NULL, "list what is damaged; change nothing"},
    {0},
};

const struct command heal_commands[] = {
    {
        .name = "heal",
        .args = "[VM]",
        .max_args = 1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "make damaged recovery points whole again",
        .text =
            "Takes what `drctl verify` found damaged from other points in this store that have "
            "the\n"
            "same content, or from another store that has the same point. The damaged files are\n"
            "removed only when the new ones were verified. Exit status 5 when some stay damaged.",
        .options = heal_options,
        .run = cmd_heal,
    },
    {0},
};
