/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/continuous.h"
#include "drctl/output.h"
#include "drctl/protected-plan.h"

/* --- output ---------------------------------------------------------------------------------- */

static void print_table(json_t *results)
{
    static const char *const headers[] = {"VM",    "POINT", "TO",  "CONSISTENCY", ">CHANGED",
                                          ">SENT", ">TIME", "WHY", NULL};
    AUTO(table) table = table_new(headers);
    size_t i;
    json_t *r;

    json_array_foreach(results, i, r)
    {
        bool ok = json_get_string(r, "point") != NULL;
        g_autofree char *changed =
            bytes_format((uint64_t)json_integer_value(json_object_get(r, "changed_bytes")));
        g_autofree char *sent =
            bytes_format((uint64_t)json_integer_value(json_object_get(r, "sent_bytes")));
        g_autofree char *took = duration_format(json_number_value(json_object_get(r, "seconds")));

        table_row(table, (const char *[]){
                             json_get_string(r, "vm"), ok ? json_get_string(r, "point") : "FAILED",
                             json_get_string(r, "destination"), json_get_string(r, "consistency"),
                             ok ? changed : NULL, ok ? sent : NULL, ok ? took : NULL,
                             json_get_string(r, ok ? "reason" : "kind")});
    }
    table_print(table);
}

static bool finish(struct replication *replication, GError **error)
{
    unsigned n = replication->vms->len;
    bool cancelled = error_is(replication->first_error, ERROR_CANCELLED);
    enum run_state state = cancelled ? RUN_CANCELLED
                           : replication->failed == 0
                               ? replication->aside_error ? RUN_PARTIAL : RUN_DONE
                           : replication->failed == n ? RUN_FAILED
                                                      : RUN_PARTIAL;
    size_t i;
    json_t *result;

    progress_terminal_end(replication->context->progress);
    if (replication->context->json)
        json_array_foreach(replication->results, i, result) print_json_line(result);
    else
        print_table(replication->results);
    if (!run_finish(replication->run, state, replication->results, error))
        return false;
    if (state == RUN_PARTIAL && replication->failed == 0) {
        g_set_error(error, DRCTL_ERROR, ERROR_PARTIAL, "the points are made, but not all else: %s",
                    replication->aside_error->message);
        return false;
    }
    if (state == RUN_PARTIAL)
        return fail(error, ERROR_PARTIAL,
                    "%u of %u VMs have no new recovery point; more: drctl run show %s",
                    replication->failed, n, run_id(replication->run));
    if (state == RUN_DONE)
        return true;
    g_propagate_error(error, g_steal_pointer(&replication->first_error));
    return false;
}

/* --- dry run --------------------------------------------------------------------------------- */

static bool dry_run(struct replication *replication, GError **error)
{
    static const char *const headers[] = {"VM", "DISK", "TO", "MODE", ">READ", "WHY", NULL};
    AUTO(table) table = table_new(headers);

    for (unsigned i = 0; i < replication->vms->len; i++) {
        const struct protected_vm *vm = replication->vms->pdata[i];
        AUTO(point_plan) plan = replication_plan(replication, vm, error);

        if (!plan) {
            g_prefix_error(error, "%s: ", vm->vm);
            return false;
        }
        json_array_append_new(replication->results, protected_plan_json(vm, plan));
        protected_plan_rows(table, vm, plan);
    }
    if (replication->context->json)
        print_json(replication->results);
    else
        table_print(table);
    return true;
}

/* --- the command ----------------------------------------------------------------------------- */

/* A destination that is asked for now needs no protection. */
static GPtrArray *vms_to_asked(struct replication *replication, const char *destination,
                               GError **error)
{
    struct context *context = replication->context;

    if (!*context->args) {
        fail(error, ERROR_USAGE, "--to: the points of what? Name VMs or vApps");
        return NULL;
    }
    replication->once = (struct protection){
        .name = context->args[0],
        .destination = (char *)destination,
        .quiesce = QUIESCE_TRY,
        .quiesce_timeout_s = 10,
        .group = GROUP_TRY,
        .compression = 1,
    };
    replication->vapps = g_ptr_array_new_with_free_func((GDestroyNotify)vapp_free);
    return vms_to(context, context->args, destination, &replication->once, replication->vapps,
                  error);
}

/* ALL is what the bundle tells of: what is protected, and what goes there now. */
static void tell_of_asked(struct replication *replication)
{
    for (unsigned i = 0; replication->vapps && i < replication->vms->len; i++) {
        const struct protected_vm *vm = replication->vms->pdata[i];

        protected_vms_add(replication->all, vm->protection, vm->vm);
    }
}

/* Patterns that mean nothing are an error, which keeps nobody else from his points. */
static bool note_empty(struct replication *replication, GError **error)
{
    const struct context *context = replication->context;
    g_autoptr(GPtrArray) empty =
        empty_protections(context->config, context->args, replication->all);

    if (empty->len == 0)
        return true;
    if (replication->vms->len == 0)
        return fail_empty(context->config, empty->pdata[0], error);
    for (unsigned i = 0; i < empty->len; i++) {
        g_clear_error(&replication->aside_error);
        fail_empty(context->config, empty->pdata[i], &replication->aside_error);
        progress_note(context->progress, "%s", replication->aside_error->message);
    }
    return true;
}

static bool prepare(struct replication *replication, GError **error)
{
    struct context *context = replication->context;
    const char *to = option_value(context, "to");
    char *none[] = {NULL};

    replication->vms =
        to ? vms_to_asked(replication, to, error) : protected_vms(context, context->args, error);
    if (!replication->vms)
        return false;
    replication->all = protected_vms(context, none, error);
    if (!replication->all || (!to && !note_empty(replication, error)))
        return false;
    if (replication->vms->len == 0)
        return fail(error, ERROR_CONFIG,
                    "nothing is protected: add a [protection NAME] group to %s",
                    context->config->path);
    tell_of_asked(replication);
    return context_store(context, error) && context_hosts(context, error);
}

static bool begin_run(struct replication *replication, GError **error)
{
    json_auto_t *plan = json_object();
    json_t *vms = json_array();
    g_autofree char *title = g_strjoinv(" ", replication->context->args);

    for (unsigned i = 0; i < replication->vms->len; i++)
        json_array_append_new(vms,
                              json_string(((struct protected_vm *)replication->vms->pdata[i])->vm));
    json_object_set_new(plan, "vms", vms);
    replication->run =
        run_begin(replication->context->catalog, "replicate", *title ? title : "all", plan, error);
    return replication->run != NULL;
}

/* The one protection whose rpo says how often. */
static const struct protection *continuous_protection(struct replication *replication,
                                                      GError **error)
{
    struct context *context = replication->context;
    const struct protection *protection = NULL;

    if (!context->args[0] || context->args[1] || option_set(context, "to") ||
        option_set(context, "dry-run") || context->json)
        fail(error, ERROR_USAGE,
             "--continuous: name one protection, and give neither --to, --dry-run nor --json");
    else
        protection = config_protection(context->config, context->args[0], error);
    if (protection && !protection->rpo_ms) {
        fail(error, ERROR_CONFIG, "%s: [protection %s] rpo: is missing, and says how often",
             context->config->path, protection->name);
        return NULL;
    }
    return protection;
}

/* It ends by an interrupt, or because it cannot go on. */
static bool take_continuously(struct replication *replication, GError **error)
{
    const struct protection *protection = continuous_protection(replication, error);
    GError *failure = NULL;
    if (!protection)
        return false;
    continuous_run(replication, protection, &failure);
    run_finish(replication->run, error_is(failure, ERROR_CANCELLED) ? RUN_CANCELLED : RUN_FAILED,
               replication->results, NULL);
    g_propagate_error(error, failure);
    return false;
}

static bool replicate(struct replication *replication, GError **error)
{
    if (!prepare(replication, error) || (option_set(replication->context, "continuous") &&
                                         !continuous_protection(replication, error)))
        return false;
    if (option_set(replication->context, "dry-run"))
        return dry_run(replication, error);
    if (!forget_left_vms(replication->context, replication->all, error) ||
        !begin_run(replication, error))
        return false;
    if (option_set(replication->context, "continuous"))
        return take_continuously(replication, error);
    replication_take_points(replication);
    if (!option_set(replication->context, "keep-all"))
        replication_drop_older(replication);
    return finish(replication, error);
}

static bool cmd_replicate(struct context *context, GError **error)
{
    struct replication replication;
    bool ok;

    replication_init(&replication, context);
    ok = replicate(&replication, error);
    replication_clear(&replication);
    return ok;
}

static const struct option replicate_options[] = {
    {"full", NULL, "read whole disks and make points that need no older one"},
    {"to", "REMOTE", "points of these VMs and vApps to that site, protected or not"},
    {"keep-all", NULL, "drop no older points, whatever the protections keep"},
    {"continuous", NULL, "of one protection, again and again, as often as its rpo asks for"},
    {"dry-run", NULL, "say what would be read, change nothing"},
    {0},
};

const struct command replicate_commands[] = {
    {
        .name = "replicate",
        .args = "[PROTECTION|VM|VAPP]...",
        .max_args = -1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "take recovery points of VMs and ship them",
        .text =
            "Takes one recovery point of each VM of the named protections (or of the named VMs,\n"
            "or of everything that is protected) and commits it at the destination. The first\n"
            "point is complete, later ones hold what changed since. --json prints one line per VM.",
        .options = replicate_options,
        .run = cmd_replicate,
    },
    {0},
};
