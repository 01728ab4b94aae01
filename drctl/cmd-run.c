/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"
#include "drctl/output.h"

#include <stdio.h>

/* RFC 3339 to local time for a table; NULL stays NULL. g_free */
static char *local_time(const char *text)
{
    int64_t ms;

    return text && time_parse(text, &ms, NULL) ? time_format_local(ms) : NULL;
}

static char *time_between(const char *from, const char *to)
{
    int64_t start, end;

    if (!from || !to || !time_parse(from, &start, NULL) || !time_parse(to, &end, NULL))
        return NULL;
    return duration_format((double)(end - start) / 1000);
}

static bool cmd_run_list(struct context *context, GError **error)
{
    static const char *const headers[] = {"RUN", "KIND", "WHAT", "STATE", "STARTED", ">TOOK", NULL};
    json_auto_t *runs = NULL;
    AUTO(table) table = table_new(headers);
    size_t i;
    json_t *run;

    if (!context_catalog(context, error) || !(runs = run_list(context->catalog, error)))
        return false;
    if (context->json) {
        print_json(runs);
        return true;
    }
    json_array_foreach(runs, i, run)
    {
        g_autofree char *started = local_time(json_get_string(run, "started"));
        g_autofree char *took =
            time_between(json_get_string(run, "started"), json_get_string(run, "ended"));

        table_row(table, (const char *[]){json_get_string(run, "run"), json_get_string(run, "kind"),
                                          json_get_string(run, "title"),
                                          json_get_string(run, "state"), started, took});
    }
    if (json_array_size(runs) > 0)
        table_print(table);
    else
        fputs("Nothing has been run here yet.\n", stderr);
    return true;
}

static void print_steps(json_t *steps)
{
    static const char *const headers[] = {"SUBJECT", "STEP", "STATE", ">TOOK", "ERROR", NULL};
    AUTO(table) table = table_new(headers);
    size_t i;
    json_t *step;

    json_array_foreach(steps, i, step)
    {
        g_autofree char *took =
            time_between(json_get_string(step, "started"), json_get_string(step, "ended"));
        const char *problem = json_get_string(step, "error");

        table_row(table,
                  (const char *[]){json_get_string(step, "subject"), json_get_string(step, "step"),
                                   json_get_string(step, "state"), took, problem ? problem : ""});
    }
    table_print(table);
}

static bool cmd_run_show(struct context *context, GError **error)
{
    json_auto_t *run = NULL;

    if (!context_catalog(context, error) ||
        !(run = run_show(context->catalog, context->args[0], error)))
        return false;
    if (context->json) {
        print_json(run);
        return true;
    }
    g_autofree char *started = local_time(json_get_string(run, "started"));
    g_autofree char *took =
        time_between(json_get_string(run, "started"), json_get_string(run, "ended"));

    printf("%s: %s %s, %s\nstarted %s%s%s\n\n", json_get_string(run, "run"),
           json_get_string(run, "kind"), json_get_string(run, "title"),
           json_get_string(run, "state"), started, took ? ", took " : "", took ? took : "");
    print_steps(json_object_get(run, "steps"));
    return true;
}

const struct command run_commands[] = {
    {
        .name = "run list",
        .args = "",
        .flags = COMMAND_JSON,
        .summary = "what was run at this site, newest first",
        .run = cmd_run_list,
    },
    {
        .name = "run show",
        .args = "RUN",
        .min_args = 1,
        .max_args = 1,
        .flags = COMMAND_JSON,
        .summary = "the steps of one run",
        .run = cmd_run_show,
    },
    {0},
};
