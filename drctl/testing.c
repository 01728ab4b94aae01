/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/testing.h"

#include <stdio.h>

#include "drctl/failover-plan.h"
#include "drctl/live.h"
#include "drctl/output.h"
#include "drctl/wizard.h"

/* --- what is left of others ------------------------------------------------------------------- */

/* Their memory and space are needed now. That it fails is told, not more. */
void testing_sweep(struct context *context, const struct site *site)
{
    g_autoptr(GPtrArray) cleaned = NULL;
    g_autoptr(GError) why = NULL;

    if (option_set(context, "dry-run"))
        return;
    if (!test_cleanup(site, NULL, &cleaned, &why))
        progress_note(site->progress, "%s", why->message);
    for (unsigned i = 0; i < cleaned->len; i++)
        progress_note(site->progress, "test %s had been interrupted: cleaned up",
                      (const char *)cleaned->pdata[i]);
}

static void remind_of_interrupted(struct context *context, const json_t *runs)
{
    const json_t *run;
    size_t i;

    json_array_foreach((json_t *)runs, i, run)
    {
        const char *title = json_get_string(run, "title");

        if (g_strcmp0(json_get_string(run, "kind"), "test") == 0 &&
            g_strcmp0(json_get_string(run, "state"), run_state_name(RUN_INTERRUPTED)) == 0)
            progress_note(
                context->progress,
                "test %s of %s was interrupted, and its VMs may run: drctl test cleanup %s",
                json_get_string(run, "run"), title, title);
    }
}

static void remind_of_due(struct context *context, const json_t *runs)
{
    g_autoptr(GPtrArray) plans = recovery_plan_load_all(context->config->dir, NULL);

    for (unsigned i = 0; plans && i < plans->len; i++) {
        const struct recovery_plan *plan = plans->pdata[i];
        AUTO_TEST_RECORD last;

        test_find_last(runs, plan->name, &last);
        if (test_due_ms(plan, &last) <= time_now_ms())
            progress_note(context->progress, "a test of plan %s is due: drctl failover %s --test",
                          plan->name, plan->name);
    }
}

void testing_remind(struct context *context)
{
    json_auto_t *runs = run_list(context->catalog, NULL);

    remind_of_interrupted(context, runs);
    remind_of_due(context, runs);
}

/* --- when ------------------------------------------------------------------------------------- */

char *testing_text(const json_t *runs, const struct recovery_plan *plan)
{
    g_autofree char *age = NULL;
    int64_t now_ms = time_now_ms();
    const char *due;
    AUTO_TEST_RECORD last;

    test_find_last(runs, plan->name, &last);
    due = test_due_ms(plan, &last) <= now_ms ? ", due now" : "";
    if (!last.run)
        return g_strconcat("never", due, NULL);
    age = duration_format((double)(now_ms - last.ended_ms) / 1000);
    return g_strdup_printf("%s %s ago%s", proof_verdict_name(last.verdict), age, due);
}

void testing_describe(const json_t *runs, const struct recovery_plan *plan, json_t *json)
{
    json_t *tested = json_null();
    g_autofree char *due = NULL;
    g_autofree char *time = NULL;
    AUTO_TEST_RECORD last;

    test_find_last(runs, plan->name, &last);
    if (plan->test_every_ms)
        due = time_format(test_due_ms(plan, &last));
    if (last.run) {
        time = time_format(last.ended_ms);
        tested = json_object();
        json_set_string(tested, "run", last.run);
        json_set_string(tested, "time", time);
        json_set_string(tested, "verdict", proof_verdict_name(last.verdict));
    }
    json_object_set_new(json, "tested", tested);
    json_set_string(json, "test_due", due);
}

/* --- the result ------------------------------------------------------------------------------- */

/* How it was seen, or why it was not. */
static void print_seen(const json_t *vms)
{
    const json_t *vm;
    size_t i;

    json_array_foreach((json_t *)vms, i, vm)
    {
        const char *problem = json_get_string(vm, "error"), *seen = json_get_string(vm, "seen");

        if (problem || seen)
            print_wrapped("  - ", "%s: %s", json_get_string(vm, "vm"), problem ? problem : seen);
    }
}

static void print_vms(const json_t *vms)
{
    static const char *const headers[] = {"VM", "VERDICT", "POINT", ">LOST", ">BOOT", NULL};
    AUTO(table) table = table_new(headers);
    const json_t *vm;
    size_t i;

    json_array_foreach((json_t *)vms, i, vm)
    {
        g_autofree char *lost = seconds_text(vm, "rpo_seconds");
        g_autofree char *boot = seconds_text(vm, "boot_seconds");
        const char *verdict = json_get_string(vm, "verdict");

        table_row(table, (const char *[]){json_get_string(vm, "vm"),
                                          verdict ? verdict : json_get_string(vm, "state"),
                                          json_get_string(vm, "point"), lost, boot});
    }
    table_print(table);
    print_seen(vms);
}

static void print_result(const struct failover_plan *plan, const struct test_outcome *result)
{
    const char *stopped = json_get_string(result->evidence, "stopped");
    g_autofree char *rto = seconds_text(result->evidence, "rto_seconds");
    g_autofree char *rpo = seconds_text(result->evidence, "rpo_seconds");

    puts("");
    print_vms(json_object_get(result->evidence, "vms"));
    printf("\nTest of %s %s (run %s).\n", plan->vapp,
           stopped ? "stopped" : proof_verdict_name(result->verdict), result->run);
    printf("  RTO  %s  from the start of the run until the last VM was ready\n"
           "  RPO  %s  before the start of the run, the oldest point that was used\n",
           rto ? rto : "none", rpo ? rpo : "none");
    print_wrapped("",
                  "What was seen of it is in %s; `drctl run show %s --report FILE` makes one page "
                  "of it.",
                  result->dir, result->run);
}

static void print_plan(struct context *context, const struct failover_plan *plan)
{
    print_wrapped("",
                  "Test of a failover of %s: copies of the VMs of site %s start in networks that "
                  "lead nowhere, and are removed again.",
                  plan->vapp, plan->site);
    putchar('\n');
    failover_plan_print(context, plan);
    printf("\nLOST is what the VM wrote after its point, counted until now.\n");
}

/* --- the command ------------------------------------------------------------------------------ */

static bool read_request(struct context *context, struct test_request *request, GError **error)
{
    const char *cap = option_value(context, "cap"), *keep = option_value(context, "keep");

    *request = (struct test_request){0};
    if ((cap && !bytes_parse(cap, &request->cap_bytes, error)) ||
        (keep && !duration_parse(keep, &request->keep_ms, error)))
        return false;
    return !cap || request->cap_bytes > 0 ||
           fail(error, ERROR_USAGE, "--cap 0: VMs that may write nothing do not start");
}

static bool execute(struct context *context, const struct site *site,
                    const struct failover_plan *plan, const struct test_request *request,
                    GError **error)
{
    struct test_outcome result = {0};
    struct live *live = live_new(context, "test", plan->vapp);
    bool ok = test_execute(site, plan, request, live_report, live, &result, error);

    live_free(live);
    if (result.evidence && context->json)
        print_json(result.evidence);
    else if (result.evidence)
        print_result(plan, &result);
    test_outcome_clear(&result);
    return ok;
}

bool testing_run(struct context *context, const struct site *site, const struct failover_plan *plan,
                 GError **error)
{
    bool dry_run = option_set(context, "dry-run");
    struct test_request how;

    if (!read_request(context, &how, error))
        return false;
    if (!context->json)
        print_plan(context, plan);
    wizard_show_command(context, false);
    if (dry_run && context->json) {
        json_auto_t *json = failover_plan_json(plan);

        print_json(json);
    }
    fflush(stdout);
    return failover_plan_check(plan, error) &&
           (dry_run || execute(context, site, plan, &how, error));
}
