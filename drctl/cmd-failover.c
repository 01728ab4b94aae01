/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"
#include "drctl/elsewhere.h"
#include "drctl/failover-options.h"
#include "drctl/failover-plan.h"
#include "drctl/live.h"
#include "drctl/move.h"
#include "drctl/output.h"
#include "drctl/resume.h"
#include "drctl/testing.h"
#include "drctl/vm-results.h"
#include "drctl/windows.h"
#include "drctl/wizard.h"

#include <stdio.h>
#include <unistd.h>

/* --- the plan -------------------------------------------------------------------------------- */

static void print_plan(struct context *context, const struct failover_plan *plan)
{
    g_autofree char *policy = commit_policy_text(&plan->commit, plan->vapp);

    printf("Failover of %s: VMs of site %s start at site %s.\n\n", plan->vapp, plan->site,
           context->config->site);
    if (plan->resumes)
        printf("This goes on with run %s, which was interrupted.\n\n", plan->resumes);
    failover_plan_print(context, plan);
    if (policy) {
        putchar('\n');
        print_wrapped("", "It is not committed at once: %s.", policy);
    }
    printf("\nLOST is what the VM wrote after its point, counted until now.\n");
}

/* Is there a VM that would start if somebody accepted what it has lost? */
static bool asks_for_acceptance(const struct failover_plan *plan)
{
    for (unsigned i = 0; i < plan->vms->len; i++) {
        const struct failover_vm *vm = plan->vms->pdata[i];

        if (vm->lost->len > 0 && !vm->accepts_damage)
            return true;
    }
    return false;
}

/* Only where somebody sits who has just read the plan, and will read the next one. */
static bool may_ask(const struct context *context, const struct failover_plan *plan)
{
    return !plan->resumes && !context->json && !option_set(context, "yes") &&
           !option_set(context, "dry-run") && isatty(STDIN_FILENO);
}

static bool is_accepted(struct context *context, const struct failover_plan *plan)
{
    bool accepted;

    if (!may_ask(context, plan))
        return false;
    accepted = confirm(
        "\nNo point of some of these VMs is whole. They can start nevertheless: the guests\n"
        "get I/O errors where they read what is lost.\n"
        "Type \"accept damage\" for that, or press Enter to leave these VMs out:",
        "accept damage", "--accept-damage", NULL);
    if (accepted)
        wizard_set_option(context, "accept-damage", NULL);
    return accepted;
}

static bool is_off(const struct silent_host *host)
{
    g_autofree char *question = g_strdup_printf(
        "\nHost %s does not answer, and %u of these VMs may run there. If they do,\nand start here "
        "too, both copies write.\n"
        "Type the name of the host (%s) if it is off and stays off,\nor press Enter to leave these "
        "VMs out:",
        host->uri, host->vms, host->uri);

    return confirm(question, host->uri, "--host-down", NULL);
}

/* Who sits there may know what has become of a host. Is the plan another one with that? */
static bool is_told_of_hosts(struct context *context, const struct failover_plan *plan)
{
    const char *known = option_value(context, "host-down");
    g_autoptr(GString) down = g_string_new(known);
    bool told = false;

    for (unsigned i = 0; i < plan->silent->len && may_ask(context, plan); i++) {
        const struct silent_host *host = plan->silent->pdata[i];

        if (host->down || host->vms == 0 || !is_off(host))
            continue;
        g_string_append_printf(down, "%s%s", down->len > 0 ? ";" : "", host->uri);
        told = true;
    }
    if (told)
        wizard_set_option(context, "host-down", down->str);
    return told;
}

#define ASK_SOURCE_MS 3000

/* Nothing at the source is stopped from here; but who is told that it can still be reached can do so. */
static void warn_of_source(struct context *context, const struct failover_plan *plan)
{
    g_autoptr(GPtrArray) peers = peers_ask(context->config, ASK_SOURCE_MS);

    for (unsigned i = 0; i < peers->len; i++) {
        const struct peer *peer = peers->pdata[i];

        if (peer->owners && g_str_equal(peer->name, plan->site))
            printf(
                "\nSite %s ANSWERS: its VMs may still run. Stop them there first: drctl fence %s\n",
                plan->site, plan->vapp);
    }
    fflush(stdout);
}

static double worst_rpo(const struct failover_plan *plan, int64_t started_ms)
{
    double worst = 0;

    for (unsigned i = 0; i < plan->vms->len; i++) {
        const struct failover_vm *vm = plan->vms->pdata[i];

        if (vm->point)
            worst = MAX(worst, failover_rpo_seconds(vm, started_ms));
    }
    return worst;
}

/* Until all was ready, the last times; *OF: the last times of what. 0: nobody knows. */
static double expected_rto(struct context *context, const struct failover_plan *plan,
                           const char **of)
{
    static const struct {
        const char *kind, *of;
    } kinds[] = {{"failover", "as the last times"}, {"test", "as its last tests"}};
    double seconds = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(kinds) && !(seconds > 0); i++) {
        json_auto_t *forecast = run_forecast(context->catalog, kinds[i].kind, plan->vapp, NULL);

        seconds = json_number_value(json_object_get(forecast, "rto_seconds"));
        *of = kinds[i].of;
    }
    return seconds;
}

/* By what is lost now, and by how long it took before. */
static void print_expected(struct context *context, const struct failover_plan *plan)
{
    const char *of;
    double seconds = expected_rto(context, plan, &of);
    g_autofree char *rpo = duration_format((double)(int64_t)worst_rpo(plan, time_now_ms()));
    g_autofree char *rto = duration_format(seconds);

    putchar('\n');
    if (seconds > 0)
        print_wrapped("", "Expected: ready after %s, %s; what was written in the last %s is lost.",
                      rto, of, rpo);
    else
        print_wrapped("",
                      "Expected: what was written in the last %s is lost. How long it takes is not "
                      "known: %s was not failed over here yet.",
                      rpo, plan->vapp);
}

static bool confirm_plan(struct context *context, const struct failover_plan *plan, GError **error)
{
    g_autofree char *question = g_strdup_printf("\nBefore you go on: these VMs must not run at %s "
                                                "any more,\nand must not start there again.\n"
                                                "Type the name of the vApp (%s) to start it here:",
                                                plan->site, plan->vapp);

    if (option_set(context, "yes"))
        return true;
    if (context->json)
        return fail(error, ERROR_USAGE,
                    "--json shows no plan to confirm: add --yes, or look with --dry-run first");
    print_expected(context, plan);
    wizard_show_command(context, true);
    warn_of_source(context, plan);
    return confirm(question, plan->vapp, "--yes", error);
}

/* --- the result ------------------------------------------------------------------------------ */

static const struct failover_vm *planned_vm(const struct failover_plan *plan, const char *name)
{
    for (unsigned i = 0; i < plan->vms->len; i++) {
        const struct failover_vm *vm = plan->vms->pdata[i];

        if (g_str_equal(vm->name, name))
            return vm;
    }
    return NULL;
}

/* Null where nothing is ready. */
static void set_rto(json_t *json, double seconds)
{
    if (seconds > 0)
        json_set_real(json, "rto_seconds", seconds);
    else
        json_set_string(json, "rto_seconds", NULL);
}

static json_t *result_json(const struct failover_plan *plan, const struct failover_result *result)
{
    json_t *json = json_object(), *vms = vm_results_json(result->vms), *entry;
    size_t i;

    json_array_foreach(vms, i, entry)
    {
        const struct failover_vm *vm = planned_vm(plan, json_get_string(entry, "vm"));

        json_set_string(entry, "point", vm ? vm->point : NULL);
        json_object_set_new(entry, "lost", vm ? lost_disks_json(vm->lost) : json_array());
        set_rto(entry, result->vm_rto_seconds[i]);
        if (vm && vm->point)
            json_set_real(entry, "rpo_seconds", failover_rpo_seconds(vm, result->started_ms));
    }
    json_set_string(json, "run", result->run);
    json_set_string(json, "vapp", plan->vapp);
    json_set_string(json, "state", run_state_name(result->state));
    set_rto(json, result->rto_seconds);
    json_object_set_new(json, "committed", json_boolean(plan->commit.after_ms == 0));
    json_object_set_new(json, "vms", vms);
    return json;
}

/* It will be looked for later, by somebody else. */
static void print_lost(const struct failover_plan *plan)
{
    for (unsigned i = 0; i < plan->vms->len; i++) {
        const struct failover_vm *vm = plan->vms->pdata[i];

        for (unsigned k = 0; vm->accepts_damage && k < vm->lost->len; k++) {
            g_autofree char *text = lost_disk_text(vm->lost->pdata[k]);

            printf("%s: %s\n", vm->name, text);
        }
    }
}

/* Is it for good, and do the VMs come off their points? */
static void print_commitment(const struct failover_plan *plan)
{
    g_autofree char *policy = commit_policy_text(&plan->commit, plan->vapp);

    if (policy)
        print_wrapped("",
                      "The failover is not committed: %s, by `drctl run due`, which a timer must "
                      "call. `drctl commit %s` commits it now.",
                      policy, plan->vapp);
    else if (plan->hydrate)
        puts("QEMU copies them off their points now; `drctl status` shows how far it is.");
    else
        printf("`drctl hydrate %s` copies them off their points, while they run.\n", plan->vapp);
}

static void print_result(struct context *context, const struct failover_plan *plan,
                         const struct failover_result *result)
{
    g_autofree char *rto =
        result->rto_seconds > 0 ? duration_format(result->rto_seconds) : g_strdup("none");
    g_autofree char *rpo = duration_format(worst_rpo(plan, result->started_ms));

    puts("");
    vm_results_print(result->vms, result->vm_rto_seconds);
    printf("\nFailover of %s %s (run %s).\n"
           "  RTO  %s  %s\n"
           "  RPO  %s  before the start of the run, the oldest point that was used\n",
           plan->vapp, run_state_name(result->state), result->run, rto,
           result->rto_seconds > 0 ? "from the start of the run until the last VM was ready"
                                   : "as no VM is ready",
           rpo);
    print_lost(plan);
    print_wrapped("",
                  "The VMs run on overlays over their points in %s; the points stay as they are.",
                  context->config->store);
    print_wrapped("",
                  "They belong to this site now: points of the old copies at %s are refused, and "
                  "its guard, if it has one (drctl guard install), does not let them start. When "
                  "that site is back: drctl failback %s, there.",
                  plan->site, plan->vapp);
    print_commitment(plan);
}

/* Whoever was asked for everything is told how it goes on. */
static void print_next(struct context *context, const struct failover_plan *plan,
                       const struct failover_result *result)
{
    if (!context->asked)
        return;
    printf("\nWhat comes next:\n"
           "  drctl run show %s  what was done (--report FILE: to hand on)\n"
           "  drctl vapp status %s  how they are now\n"
           "  drctl failback %s  at %s, as soon as it is back\n",
           result->run, plan->vapp, plan->vapp, plan->site);
    wizard_show_command(context, true);
}

/* --- the command ----------------------------------------------------------------------------- */

static bool execute(struct context *context, const struct site *site,
                    const struct failover_plan *plan, GError **error)
{
    struct failover_result result = {0};
    struct live *live = live_new(context, "failover", plan->vapp);
    bool ok = failover_execute(site, plan, live_report, live, &result, error);

    live_free(live);
    if (result.vms && context->json) {
        json_auto_t *json = result_json(plan, &result);

        print_json(json);
    } else if (result.vms) {
        print_result(context, plan, &result);
        print_next(context, plan, &result);
    }
    failover_result_clear(&result);
    return ok;
}

static struct failover_plan *make_plan(struct context *context, const struct site *site, bool show,
                                       GError **error)
{
    const char *down = option_value(context, "host-down");
    g_auto(GStrv) hosts = down ? g_strsplit(down, ";", -1) : NULL;
    struct commit_policy policy = {0};
    struct failover_plan *plan;
    bool said;

    if (!failover_read_policy(context, &policy, &said, error))
        return NULL;
    struct failover_request request = {
        .name = context->args[0],
        .skip_optional = option_set(context, "skip-optional"),
        .commit = said ? &policy : NULL,
        .accept_damage = option_set(context, "accept-damage"),
        .down = hosts,
        .test = option_set(context, "test"),
    };

    if (!failover_read_points(context, &request, error))
        return NULL;
    plan = failover_plan_make(site, &request, error);
    if (plan && show && !context->json && !request.test)
        print_plan(context, plan);
    return plan;
}

/* VMs of PLAN that could have better points if those were whole: UUID and, where it is not the newest, the point. */
static char **worse_vms(const struct failover_plan *plan)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();

    for (unsigned i = 0; i < plan->vms->len; i++) {
        const struct failover_vm *vm = plan->vms->pdata[i];

        if (vm->uuid && (vm->passed_over || vm->lost->len > 0))
            g_strv_builder_add_many(builder, vm->uuid, vm->passed_over ? "" : vm->point, NULL);
    }
    return g_strv_builder_end(builder);
}

/* What is noted as damaged of them is had from elsewhere, if anybody has it. As long as there is a plan nobody may change its
 * points. */
static struct failover_plan *mend_plan(struct context *context, const struct site *site,
                                       struct failover_plan *plan, GError **error)
{
    g_auto(GStrv) vms = worse_vms(plan);
    bool mended = false;

    if (!*vms)
        return plan;
    failover_plan_free(plan);
    for (char **vm = vms; *vm; vm += 2) {
        bool better;

        if (!elsewhere_mend(context, vm[0], *vm[1] ? vm[1] : NULL, false, &better, error))
            return NULL;
        mended |= better;
    }
    if (mended)
        puts("");
    return make_plan(context, site, mended, error);
}

/* PLAN has been shown. */
static bool execute_shown(struct context *context, const struct site *site,
                          const struct failover_plan *plan, bool dry_run, GError **error)
{
    if (dry_run && context->json) {
        json_auto_t *json = failover_plan_json(plan);

        print_json(json);
    }
    fflush(stdout);
    if (!failover_plan_check(plan, error))
        return false;
    return dry_run || (confirm_plan(context, plan, error) && execute(context, site, plan, error));
}

/* A test can wait until all hosts are there, and whatever cleans up after it needs the one that it was at. */
static bool find_site(struct context *context, struct site *site, GError **error)
{
    return option_set(context, "test") ? context_site(context, true, site, error)
                                       : context_site_in_need(context, site, error);
}

static bool fail_over(struct context *context, GError **error)
{
    struct site site;

    if (option_set(context, "planned"))
        return cmd_move(context, false, error);
    if (!find_site(context, &site, error))
        return false;
    if (option_set(context, "test"))
        testing_sweep(context, &site);
    AUTO(failover_plan) plan = make_plan(context, &site, true, error);

    if (option_set(context, "test"))
        return plan && testing_run(context, &site, plan, error);

    if (plan && is_told_of_hosts(context, plan)) {
        failover_plan_free(plan);
        puts("");
        plan = make_plan(context, &site, true, error);
    }
    if (plan && !option_set(context, "dry-run"))
        plan = mend_plan(context, &site, plan, error);
    if (plan && asks_for_acceptance(plan) && is_accepted(context, plan)) {
        failover_plan_free(plan);
        puts("");
        plan = make_plan(context, &site, true, error);
    }
    /* Ctrl-C at that question leaves, too. */
    return plan && interrupt_check(error) &&
           execute_shown(context, &site, plan, option_set(context, "dry-run"), error);
}

static bool cmd_failover(struct context *context, GError **error)
{
    if (!failover_check_options(context, error))
        return false;
    return context->args[0] ? fail_over(context, error)
                            : wizard_run(context, wizard_failover, fail_over, error);
}

bool failover_resume(struct context *context, const json_t *run, GError **error)
{
    AUTO(failover_plan) plan = NULL;
    struct site site;

    if (!context_site_in_need(context, &site, error))
        return false;
    plan = failover_plan_resume(&site, json_get_string(run, "run"), error);
    if (plan && !context->json)
        print_plan(context, plan);
    return plan && execute_shown(context, &site, plan, false, error);
}

static const struct option failover_options[] = {
    {"yes", NULL, "do not ask: the VMs of the lost site are known to be off"},
    {"dry-run", NULL, "show the plan, change nothing"},
    {"accept-damage", NULL, "start a VM of which no point is whole; what is lost is an I/O error"},
    {"host-down", "HOSTS", "these hosts here do not answer, and are off with all their VMs"},
    {"skip-optional", NULL, "leave out the VMs that the recovery plan can do without"},
    {"planned", NULL, "the vApp runs at the other site: shut it down there, and lose nothing"},
    {"from", "REMOTE", "with --planned: where it runs; default: the only remote site"},
    {"commit-after", "TIME", "it can be taken back for that time, such as 30min"},
    {"on-timeout", "ACTION", "what becomes of it then: commit (default) or rollback"},
    {"point", "POINT",
     "from this point or round; `latest`; `proven`: the newest that a test passed with"},
    {"at", "TIME", "from the newest points that are not newer: 2026-11-20T22:15:00Z, or 2h (ago)"},
    {"test", NULL, "only a test: copies that can reach nothing, looked at and removed again"},
    {"keep", "TIME", "with --test: leave the copies for so long, or until Ctrl-C"},
    {"cap", "SIZE", "with --test: what the copies may write; default: half of what is free"},
    {0},
};

const struct command failover_commands[] = {
    {
        .name = "failover",
        .args = "[VAPP|VM]",
        .max_args = 1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "start a vApp of a lost site here, from its newest recovery points",
        .text =
            "Needs nothing of the lost site. By the recovery plan of that name, if there is one\n"
            "(drctl plan). Shows what it will do and asks; then makes overlays over the\n"
            "newest complete points, defines the VMs, starts them in the order of the vApp and "
            "waits\n"
            "until each is ready. A failover that was interrupted is finished by the same "
            "command.\n"
            "On a terminal without arguments it asks for what it has to know.",
        .options = failover_options,
        .run = cmd_failover,
    },
    {0},
};
