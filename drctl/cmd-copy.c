/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"
#include "drctl/jobs.h"
#include "drctl/output.h"

struct copying {
    struct context *context;
    struct store *from, *to;
    struct copy_wish wish;
    GPtrArray *points; /* of struct manifest: what is to be copied */
    json_t *results;
    struct table *table;
    unsigned failed;
    GError *first_error;
};

static void copying_clear(struct copying *copying)
{
    store_free(copying->from);
    store_free(copying->to);
    g_clear_pointer(&copying->points, g_ptr_array_unref);
    json_decref(copying->results);
    table_free(copying->table);
    g_clear_error(&copying->first_error);
}

/* The store that option NAME names. */
static struct store *open_store(struct context *context, const char *name, GError **error)
{
    const char *value = option_value(context, name);

    if (!value) {
        fail(error, ERROR_USAGE, "--%s STORE is needed: local, or the name of a remote", name);
        return NULL;
    }
    return context_open(context, value, error);
}

static bool prepare(struct copying *copying, GError **error)
{
    static const char *const headers[] = {"VM", "POINT", "BASE", ">BYTES", "STATE", NULL};
    struct context *context = copying->context;

    copying->results = json_array();
    copying->table = table_new(headers);
    if (!option_keep(context, &copying->wish.keep, error))
        return false;
    copying->from = open_store(context, "from", error);
    copying->to = copying->from ? open_store(context, "to", error) : NULL;
    if (copying->to)
        copying->points =
            store_copy_plan(copying->from, copying->to, context->args, &copying->wish, error);
    return copying->points != NULL;
}

static void add_result(struct copying *copying, const struct manifest *point, const char *state,
                       const GError *error)
{
    json_t *json = json_object();
    g_autofree char *bytes = bytes_format(manifest_bytes(point));

    json_set_string(json, "vm", point->vm);
    json_set_string(json, "uuid", point->uuid);
    json_set_string(json, "point", point->point);
    json_set_string(json, "base", point->base);
    json_set_u64(json, "bytes", manifest_bytes(point));
    json_set_string(json, "state", state);
    json_set_string(json, "error", error ? error->message : NULL);
    json_set_string(json, "kind", error ? error_kind_name(error_kind_of(error)) : NULL);
    json_array_append_new(copying->results, json);
    table_row(copying->table,
              (const char *[]){point->vm, point->point, point->base ? point->base : "full", bytes,
                               error ? error->message : state});
}

/* Does it say something about all points, and not about this one alone? */
static bool ends_all(const GError *error)
{
    switch (error_kind_of(error)) {
    case ERROR_NETWORK:
    case ERROR_AUTH:
    case ERROR_NO_SPACE:
    case ERROR_CANCELLED:
        return true;
    default:
        return false;
    }
}

/* Did somebody ask for the VM of POINT, and not for one that is based on it? */
static bool is_asked(const struct copying *copying, const struct manifest *point)
{
    const char *const *vms = (const char *const *)copying->context->args;

    return !*vms || g_strv_contains(vms, point->vm) || g_strv_contains(vms, point->uuid);
}

/* Of each VM that has got something; of failures the first is told. */
static bool drop_older(struct copying *copying, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    bool ok = true;

    for (unsigned i = 0; i < copying->points->len; i++) {
        const struct manifest *point = copying->points->pdata[i];

        if (is_asked(copying, point) && g_hash_table_add(seen, point->uuid) &&
            !drop_points(copying->to, point->uuid, &copying->wish.keep, copying->context->progress,
                         ok ? error : NULL))
            ok = false;
    }
    if (!ok)
        g_prefix_error(error, "all points were copied, but older ones stay: ");
    return ok;
}

static void copy_points(struct copying *copying)
{
    bool ended = false;

    for (unsigned i = 0; i < copying->points->len && !ended; i++) {
        const struct manifest *point = copying->points->pdata[i];
        g_autoptr(GError) error = NULL;
        bool copied =
            store_copy_point(copying->from, copying->to, point, copying->context->progress, &error);

        add_result(copying, point, copied ? "copied" : "failed", error);
        if (copied)
            continue;
        copying->failed++;
        ended = ends_all(error);
        if (!copying->first_error || ended) {
            g_clear_error(&copying->first_error);
            copying->first_error = g_steal_pointer(&error);
        }
    }
}

static void print_results(struct copying *copying)
{
    struct context *context = copying->context;

    progress_terminal_end(context->progress);
    if (context->json)
        print_json(copying->results);
    else if (json_array_size(copying->results) > 0)
        table_print(copying->table);
    else
        progress_note(context->progress, "%s has all points of %s %s", copying->to->label,
                      copying->from->label,
                      retention_is_empty(&copying->wish.keep) ? "already" : "that it is to keep");
}

static bool finish(struct copying *copying, GError **error)
{
    unsigned copied = (unsigned)json_array_size(copying->results) - copying->failed;

    print_results(copying);
    if (copying->failed == 0)
        return drop_older(copying, error);
    if (copied > 0 && !error_is(copying->first_error, ERROR_CANCELLED))
        return fail(error, ERROR_PARTIAL,
                    "%u of %u points were copied; the next run goes on with the others: %s", copied,
                    copying->points->len, copying->first_error->message);
    g_propagate_error(error, g_steal_pointer(&copying->first_error));
    return false;
}

static bool run(struct copying *copying, GError **error)
{
    if (!prepare(copying, error))
        return false;
    if (!option_set(copying->context, "dry-run")) {
        copy_points(copying);
        return finish(copying, error);
    }
    for (unsigned i = 0; i < copying->points->len; i++)
        add_result(copying, copying->points->pdata[i], "missing", NULL);
    print_results(copying);
    return true;
}

static bool cmd_copy(struct context *context, GError **error)
{
    struct copying copying = {.context = context};
    bool done = run(&copying, error);

    copying_clear(&copying);
    return done;
}

static const struct option copy_options[] = {
    {"from", "STORE", "where the points are: local, or the name of a remote"},
    {"to", "STORE", "where they are to be, likewise"},
    {"keep", "POLICY", "what is to stay there, as of [protection]; nothing else is copied"},
    {"dry-run", NULL, "say which points would be copied; change nothing"},
    {0},
};

const struct command copy_commands[] = {
    {
        .name = "copy",
        .args = "[VM]...",
        .max_args = -1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "copy recovery points from one store to another",
        .text =
            "Copies the points that the other store does not have, oldest first, as they are, "
            "with\n"
            "all points that they are based on. Each is compared with its SHA256SUMS and checked\n"
            "before it is committed. A copy that was interrupted begins again with the point that\n"
            "was on its way.",
        .options = copy_options,
        .run = cmd_copy,
    },
    {0},
};
