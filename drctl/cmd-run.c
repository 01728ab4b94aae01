/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"
#include "drctl/output.h"
#include "drctl/resume.h"
#include "drctl/run-report.h"
#include "drctl/windows.h"

#include <stdio.h>
#include <string.h>

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
        g_autofree char *started = time_text(run, "started");
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

static json_t *named_run(struct context *context, GError **error)
{
    return context_catalog(context, error) ? run_show(context->catalog, context->args[0], error)
                                           : NULL;
}

static bool cmd_run_show(struct context *context, GError **error)
{
    json_auto_t *run = named_run(context, error);
    json_auto_t *report = run ? run_report(run) : NULL;
    const char *path = option_value(context, "report");

    if (!run || (path && !run_report_write(run, path, error)))
        return false;
    if (context->json)
        print_json(report);
    else if (path)
        printf("The report of run %s is in %s.\n", context->args[0], path);
    else
        run_report_print(context, report);
    return true;
}

/* --- going on ------------------------------------------------------------------------------- */

static bool state_is(const json_t *run, enum run_state state)
{
    return g_strcmp0(json_get_string(run, "state"), run_state_name(state)) == 0;
}

static bool check_interrupted(const json_t *run, const char *id, GError **error)
{
    if (state_is(run, RUN_INTERRUPTED))
        return true;
    if (state_is(run, RUN_RUNNING))
        return fail(error, ERROR_CONFLICT,
                    "run %s is executing; drctl run show %s tells how far it is", id, id);
    return fail(error, ERROR_CONFLICT, "run %s has ended (%s), nothing is left to resume", id,
                json_get_string(run, "state"));
}

static bool cmd_run_resume(struct context *context, GError **error)
{
    static const struct {
        const char *kind;
        bool (*resume)(struct context *context, const json_t *run, GError **error);
    } kinds[] = {
        {"failover", failover_resume}, {"planned", move_resume},      {"failback", move_resume},
        {"restore", restore_resume},   {"rollback", rollback_resume},
    };
    json_auto_t *run = named_run(context, error);
    const char *kind = json_get_string(run, "kind");

    if (!run || !check_interrupted(run, context->args[0], error))
        return false;
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (g_strcmp0(kinds[i].kind, kind) == 0)
            return kinds[i].resume(context, run, error);
    if (g_strcmp0(kind, "test") == 0)
        return fail(error, ERROR_CONFLICT,
                    "a test is not resumed: drctl test cleanup %s removes what it left",
                    json_get_string(run, "title"));
    return fail(error, ERROR_CONFLICT,
                "a run of %s is not resumed: the next drctl %s goes on from what this one has done",
                kind, kind);
}

/* --- stopping ------------------------------------------------------------------------------- */

static void print_cancelled(const json_t *report, const char *id)
{
    const char *state = json_get_string(report, "state");

    if (!state_is(report, RUN_INTERRUPTED)) {
        printf("Run %s has ended (%s), before it could be stopped or because of it.\n", id, state);
        return;
    }
    printf("Run %s has stopped. What is left:\n", id);
    run_report_print_left(report);
    printf("drctl run resume %s goes on with it.\n", id);
}

static bool cmd_run_cancel(struct context *context, GError **error)
{
    const char *id = context->args[0];
    json_auto_t *before = named_run(context, error);
    json_auto_t *run = NULL;
    json_auto_t *report = NULL;

    if (!before)
        return false;
    if (state_is(before, RUN_RUNNING))
        progress_note(context->progress, "waiting until run %s has ended what it is doing", id);
    if (!run_cancel(context->catalog, id, error) || !(run = named_run(context, error)))
        return false;
    report = run_report(run);
    if (context->json)
        print_json(report);
    else
        print_cancelled(report, id);
    return true;
}

static const struct option show_options[] = {
    {"report", "FILE", "write it as one HTML file, with timeline and pictures"},
    {0},
};

static const struct option resume_options[] = {
    {"yes", NULL, "do not ask: the VMs of the lost site are known to be off"},
    {0},
};

static const struct option due_options[] = {
    {"dry-run", NULL, "show what is due, change nothing"},
    {0},
};

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
        .summary = "what a run has done and not done, or a report of it",
        .options = show_options,
        .run = cmd_run_show,
    },
    {
        .name = "run resume",
        .args = "RUN",
        .min_args = 1,
        .max_args = 1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "go on with a run that was interrupted",
        .text =
            "It goes on where it was, with what was decided when it began. What was done is not\n"
            "done again.",
        .options = resume_options,
        .run = cmd_run_resume,
    },
    {
        .name = "run cancel",
        .args = "RUN",
        .min_args = 1,
        .max_args = 1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "stop a run that another drctl executes, at its next safe place",
        .text = "As Ctrl-C there would. Waits until it has stopped and says what is left.",
        .run = cmd_run_cancel,
    },
    {
        .name = "run due",
        .args = "",
        .flags = COMMAND_JSON | COMMAND_OFTEN,
        .summary = "do what is due: end failovers whose time is over, hydrate on",
        .text =
            "drctl daemon does it each minute; without one, a timer. Does nothing when nothing is\n"
            "due.",
        .options = due_options,
        .run = windows_end_due,
    },
    {0},
};
