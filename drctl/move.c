/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/move.h"
#include "drctl/live.h"
#include "drctl/output.h"
#include "drctl/resume.h"
#include "drctl/vm-results.h"
#include "drctl/wizard.h"

#include <stdio.h>

/* --- the plan -------------------------------------------------------------------------------- */

static json_t *plan_json(const struct move *move)
{
    json_t *json = json_object(), *vms = json_array();

    json_set_string(json, "vapp", move->vapp);
    json_set_string(json, "site", move->site);
    json_set_string(json, "resumes", move->resumes);
    for (unsigned i = 0; i < move->vms->len; i++) {
        const struct move_vm *vm = move->vms->pdata[i];
        json_t *entry = json_object();

        json_set_string(entry, "vm", vm->name);
        json_set_string(entry, "uuid", vm->uuid);
        json_set_string(entry, "copy", vm->copy);
        json_array_append_new(vms, entry);
    }
    json_object_set_new(json, "vms", vms);
    return json;
}

static const char *copy_text(const struct move *move, const struct move_vm *vm)
{
    if (!vm->copy)
        return move->back ? "nothing: all of it is sent" : "nothing";
    return move->back ? "old disks: kept as a point, and only what differs is sent"
                      : "old disks: put aside";
}

static void print_plan(struct context *context, const struct move *move)
{
    static const char *const headers[] = {"VM", "HERE", NULL};
    AUTO(table) table = table_new(headers);

    printf("%s of %s from %s, where it runs, to %s.\n\n", move->back ? "Failback" : "Planned move",
           move->vapp, move->site, context->config->site);
    if (move->resumes)
        printf("This goes on with run %s, which was interrupted.\n\n", move->resumes);
    for (unsigned i = 0; i < move->vms->len; i++) {
        const struct move_vm *vm = move->vms->pdata[i];

        table_row(table, (const char *[]){vm->name, copy_text(move, vm)});
    }
    table_print(table);
    putchar('\n');
    print_wrapped("",
                  "Its VMs are replicated while they run, then shut down at %s, the rest is sent, "
                  "and they start here. If anything fails before that, they start again at %s.",
                  move->site, move->site);
}

static const char *kind_of(const struct move *move)
{
    return move->back ? "failback" : "planned";
}

/* By how long nothing ran before. */
static void print_expected(struct context *context, const struct move *move)
{
    json_auto_t *forecast = run_forecast(context->catalog, kind_of(move), move->vapp, NULL);
    g_autofree char *down = seconds_text(forecast, "down_seconds");

    putchar('\n');
    if (down)
        print_wrapped("", "Expected: down for %s, as the last times; nothing is lost.", down);
    else
        print_wrapped("",
                      "Expected: nothing is lost. How long it is down is not known: %s was not "
                      "moved here like this yet.",
                      move->vapp);
}

static bool confirm_plan(struct context *context, const struct move *move, GError **error)
{
    g_autofree char *question =
        g_strdup_printf("\nType the name of the vApp (%s) to move it here:", move->vapp);

    if (option_set(context, "yes"))
        return true;
    if (context->json)
        return fail(error, ERROR_USAGE,
                    "--json shows no plan to confirm: add --yes, or look with --dry-run first");
    print_expected(context, move);
    wizard_show_command(context, true);
    return confirm(question, move->vapp, "--yes", error);
}

/* --- the result ------------------------------------------------------------------------------ */

/* What the last point of each VM is, which holds all of it. */
static void add_points(const struct move_result *result, json_t *vms)
{
    json_t *entry;
    size_t i;

    json_array_foreach(vms, i, entry)
    {
        const char *name = json_get_string(entry, "vm");

        for (unsigned k = 0; k < result->plan->vms->len; k++) {
            const struct failover_vm *vm = result->plan->vms->pdata[k];

            if (g_str_equal(vm->name, name))
                json_set_string(entry, "point", vm->point);
        }
    }
}

static void print_result_json(const struct move *move, const struct move_result *result)
{
    json_auto_t *json = json_object();
    json_t *vms = result->started.vms ? vm_results_json(result->started.vms) : json_array();

    if (result->plan)
        add_points(result, vms);
    json_set_string(json, "run", result->run);
    json_set_string(json, "vapp", move->vapp);
    json_set_string(json, "site", move->site);
    json_set_string(json, "state", run_state_name(result->state));
    json_set_real(json, "down_seconds", result->down_seconds);
    json_object_set_new(json, "vms", vms);
    print_json(json);
}

static void print_result(struct context *context, const struct move *move,
                         const struct move_result *result)
{
    g_autofree char *down = duration_format(result->down_seconds);

    puts("");
    if (result->started.vms)
        vm_results_print(result->started.vms, NULL);
    printf("\n%s of %s %s (run %s).\n", move->back ? "Failback" : "Planned failover", move->vapp,
           run_state_name(result->state), result->run);
    if (result->down_seconds > 0)
        printf("  down  %s  from the stop at %s until all were ready here\n", down, move->site);
    puts("  RPO   0  all that was written there is here");
    if (move->back)
        printf("What was here before is kept: drctl points shows it as diverged, and the old disks "
               "are where they were.\n");
    printf("The VMs belong to %s now, and must not start at %s.\n", context->config->site,
           move->site);
    wizard_show_command(context, true);
}

/* --- the command ----------------------------------------------------------------------------- */

/* Where it runs: FROM, which is a remote of that name, or the only one. */
static const struct remote *peer_remote(struct context *context, const char *from, const char *vapp,
                                        GError **error)
{
    const struct config *config = context_config(context, error);

    if (!config)
        return NULL;
    if (from)
        return config_remote(config, from, error);
    if (config->remotes->len == 1)
        return config->remotes->pdata[0];
    fail(error, config->remotes->len ? ERROR_USAGE : ERROR_CONFIG,
         config->remotes->len ? "several remote sites are configured: say with --from where %s runs"
                              : "no remote site is configured that %s could run at: drctl site add",
         vapp);
    return NULL;
}

static bool execute(struct context *context, const struct site *site, struct store *peer,
                    const struct move *move, GError **error)
{
    struct move_result result = {0};
    struct live *live = live_new(context, kind_of(move), move->vapp);
    bool ok = move_execute(site, move, peer, live_report, live, &result, error);

    live_free(live);
    if ((result.started.vms || ok) && context->json)
        print_result_json(move, &result);
    else if (result.started.vms || ok)
        print_result(context, move, &result);
    move_result_clear(&result);
    return ok;
}

static void show_plan(struct context *context, const struct move *move, bool dry_run)
{
    json_auto_t *json = plan_json(move);

    if (!context->json)
        print_plan(context, move);
    else if (dry_run)
        print_json(json);
    fflush(stdout);
}

static bool run(struct context *context, const char *vapp, const char *from, bool back,
                bool dry_run, GError **error)
{
    struct site site;
    const struct remote *remote = peer_remote(context, from, vapp, error);
    AUTO(store) peer = NULL;
    AUTO(move) move = NULL;

    if (!remote || !context_site(context, true, &site, error))
        return false;
    peer = context_open(context, remote->name, error);
    if (!peer)
        g_prefix_error(error, "%s cannot be moved (if its site is lost: drctl failover %s): ", vapp,
                       vapp);
    move = peer ? move_new(&site, vapp, peer, back, error) : NULL;
    if (!move)
        return false;
    show_plan(context, move, dry_run);
    return dry_run ||
           (confirm_plan(context, move, error) && execute(context, &site, peer, move, error));
}

bool cmd_move(struct context *context, bool back, GError **error)
{
    return run(context, context->args[0], option_value(context, "from"), back,
               option_set(context, "dry-run"), error);
}

bool move_resume(struct context *context, const json_t *record, GError **error)
{
    const json_t *plan = json_object_get(record, "plan");
    const char *site = json_get_string(plan, "site");
    bool back = g_strcmp0(json_get_string(record, "kind"), "failback") == 0;
    const struct config *config = context_config(context, error);

    /* A remote is called as its site is, unless there is only one. */
    if (!config)
        return false;
    return run(context, json_get_string(record, "title"),
               site && config_remote(config, site, NULL) ? site : NULL, back, false, error);
}
