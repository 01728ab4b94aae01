/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/run-report.h"

#include "drctl/live.h"
#include "drctl/output.h"

#include <stdio.h>
#include <string.h>

#define REPORT_MODE 0644 /* it is made to be handed on, and says nothing that is secret */

static bool state_is(const json_t *json, const char *state)
{
    return g_strcmp0(json_get_string(json, "state"), state) == 0;
}

static char *step_took(const json_t *step)
{
    const char *started = json_get_string(step, "started"), *ended = json_get_string(step, "ended");
    int64_t from, to;

    if (!started || !ended || !time_parse(started, &from, NULL) || !time_parse(ended, &to, NULL))
        return NULL;
    return duration_format((double)(to - from) / 1000);
}

/* ---- Parts */

static void print_head(struct context *context, const json_t *report)
{
    g_autofree char *took = seconds_text(report, "seconds");
    g_autofree char *started = time_text(report, "started");
    g_autofree char *left = NULL;

    printf("%s: %s %s, %s\nstarted %s", json_get_string(report, "run"),
           json_get_string(report, "kind"), json_get_string(report, "title"),
           json_get_string(report, "state"), started ? started : "-");
    if (state_is(report, run_state_name(RUN_RUNNING))) {
        json_auto_t *forecast = run_forecast(context->catalog, json_get_string(report, "kind"),
                                             json_get_string(report, "title"), NULL);

        left = forecast_text(forecast, json_number_value(json_object_get(report, "seconds")));
        printf(", %s so far%s%s", took ? took : "-", left ? ", " : "", left ? left : "");
    } else if (took) {
        printf(", took %s", took);
    }
    puts("");
}

static void print_summary(const json_t *report)
{
    const json_t *result = json_object_get(report, "result");
    g_autofree char *rto = seconds_text(result, "rto_seconds");
    g_autofree char *rpo = seconds_text(report, "rpo_seconds");
    const char *verdict = json_get_string(result, "verdict");

    if (rto)
        printf("  RTO  %s  from the start of the run until the last VM was ready\n", rto);
    if (rpo)
        printf("  RPO  %s  before the start of the run, the oldest point that was used\n", rpo);
    if (verdict)
        printf("%s\n", verdict);
}

static bool has_plan(const json_t *report)
{
    return json_object_get(json_object_get(report, "plan"), "vms") ||
           json_object_get(json_object_get(report, "result"), "vms");
}

static void print_vms(const json_t *report)
{
    static const char *const headers[] = {"VM", "STATE", ">RTO", ">LOST", "POINT", "PROBLEM", NULL};
    AUTO(table) table = table_new(headers);
    const json_t *vm;
    size_t i;

    json_array_foreach(json_object_get(report, "vms"), i, vm)
    {
        g_autofree char *rto = seconds_text(vm, "rto_seconds");
        g_autofree char *rpo = seconds_text(vm, "rpo_seconds");
        const char *problem = json_get_string(vm, "error");

        table_row(table,
                  (const char *[]){json_get_string(vm, "vm"), json_get_string(vm, "state"), rto,
                                   rpo, json_get_string(vm, "point"), problem ? problem : ""});
    }
    puts("");
    table_print(table);
}

static void print_steps(const json_t *report)
{
    static const char *const headers[] = {"SUBJECT", "STEP", "STATE", ">TOOK", "ERROR", NULL};
    AUTO(table) table = table_new(headers);
    const json_t *step;
    size_t i;

    json_array_foreach(json_object_get(report, "steps"), i, step)
    {
        g_autofree char *took = step_took(step);
        const char *problem = json_get_string(step, "error");

        table_row(table,
                  (const char *[]){json_get_string(step, "subject"), json_get_string(step, "step"),
                                   json_get_string(step, "state"), took, problem ? problem : ""});
    }
    puts("");
    table_print(table);
}

static void print_evidence(const json_t *report)
{
    static const char *const headers[] = {"VM", "EVIDENCE", "", "", NULL};
    AUTO(table) table = table_new(headers);
    const json_t *vm, *piece;
    bool any = false;
    size_t i, k;

    json_array_foreach(json_object_get(report, "vms"), i, vm)
    {
        json_array_foreach(json_object_get(vm, "evidence"), k, piece)
        {
            const json_t *ok = json_object_get(piece, "ok");
            const char *passed = json_is_true(ok) ? "passed" : "failed";

            any = true;
            table_row(table,
                      (const char *[]){json_get_string(vm, "vm"), json_get_string(piece, "what"),
                                       json_get_string(piece, "value"),
                                       json_is_boolean(ok) ? passed : ""});
        }
    }
    if (!any)
        return;
    puts("");
    table_print(table);
}

void run_report_print(struct context *context, const json_t *report)
{
    print_head(context, report);
    print_summary(report);
    if (has_plan(report))
        print_vms(report);
    print_evidence(report);
    if (json_array_size(json_object_get(report, "steps")) > 0)
        print_steps(report);
}

/* "start, ready"; empty if all was done. g_free. */
static char *steps_left(const json_t *vm)
{
    GString *left = g_string_new(NULL);
    const json_t *step;
    size_t i;

    json_array_foreach(json_object_get(vm, "steps"), i, step) if (!state_is(step, "done"))
        g_string_append_printf(left, "%s%s", left->len ? ", " : "", json_get_string(step, "step"));
    return g_string_free(left, FALSE);
}

void run_report_print_left(const json_t *report)
{
    const json_t *vm;
    size_t i;

    json_array_foreach(json_object_get(report, "vms"), i, vm)
    {
        g_autofree char *left = steps_left(vm);

        if (*left)
            printf("  %s: %s\n", json_get_string(vm, "vm"), left);
    }
}

/* ---- The file */

bool run_report_write(const json_t *run, const char *path, GError **error)
{
    g_autoptr(GPtrArray) pictures = run_report_pictures(run);
    g_autofree struct report_picture *list = g_new0(struct report_picture, pictures->len);
    g_autofree char *html = NULL;

    for (unsigned i = 0; i < pictures->len; i++)
        list[i] = *(const struct report_picture *)pictures->pdata[i];
    html = run_report_html(run, list, pictures->len);
    return file_write(path, html, strlen(html), REPORT_MODE, error);
}
