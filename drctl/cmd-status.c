/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/health.h"
#include "drctl/hydration.h"
#include "drctl/output.h"
#include "drctl/vapp-status.h"
#include "drctl/windows.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* In a line of many. */
#define SHOWN_NAMES 8
/* Of more VMs those are not listed that are well and in a vApp, which stands for them. */
#define SHOWN_VMS 20

/* --- output ---------------------------------------------------------------------------------- */

static char *bytes_text(const json_t *json, const char *key)
{
    const json_t *bytes = json_object_get(json, key);

    return json_is_integer(bytes) ? bytes_format((uint64_t)json_integer_value(bytes)) : NULL;
}

static char *number_text(const json_t *json, const char *key)
{
    return g_strdup_printf("%" JSON_INTEGER_FORMAT, json_integer_value(json_object_get(json, key)));
}

/* How long ago the VM was tested last; and whether that, or an earlier test, has proven a point. */
static char *tested_text(const json_t *json)
{
    const char *tested = json_get_string(json, "tested");
    g_autofree char *age = NULL;
    int64_t ms;

    if (!tested || !time_parse(tested, &ms, NULL))
        return NULL;
    age = duration_format((double)(time_now_ms() - ms) / 1000);
    return g_strconcat(age, json_get_string(json, "proven") ? "" : ", unproven", NULL);
}

static void print_protected(json_t *list)
{
    static const char *const headers[] = {"VM",  "TO",   "STATE",   "LAST POINT", ">AGE",
                                          "RPO", ">LAG", "PROBLEM", NULL};
    AUTO(table) table = table_new(headers);
    size_t i;
    json_t *json;

    puts("Protected at this site (LAG: written since the last point):\n");
    json_array_foreach(list, i, json)
    {
        g_autofree char *age = seconds_text(json, "age_seconds");
        g_autofree char *lag = bytes_text(json, "lag_bytes");
        g_autofree char *rpo = rpo_text(json);
        const char *error = json_get_string(json, "error");
        const char *owned = json_get_string(json, "problem");
        /* The way out follows the problem; `drctl run show` and --json have it whole. */
        g_autofree char *problem = g_strndup(error ? error : "", error ? strcspn(error, ";") : 0);

        table_row(table, (const char *[]){
                             json_get_string(json, "vm"), json_get_string(json, "destination"),
                             json_get_string(json, "state"), json_get_string(json, "point"), age,
                             rpo, lag, owned ? owned : problem});
    }
    table_print(table);
}

static void print_received(json_t *list)
{
    static const char *const headers[] = {
        "VM",      "FROM",        "LAST POINT", ">AGE",  ">POINTS", ">DAMAGED", ">ON DAMAGED",
        ">STORED", "CONSISTENCY", "TESTED",     "OWNER", "PROBLEM", NULL};
    AUTO(table) table = table_new(headers);
    size_t i;
    json_t *json;

    puts("Recovery points in this site's store:\n");
    json_array_foreach(list, i, json)
    {
        g_autofree char *age = seconds_text(json, "age_seconds");
        g_autofree char *stored = bytes_text(json, "stored_bytes");
        g_autofree char *points = number_text(json, "points");
        g_autofree char *damaged = number_text(json, "damaged");
        g_autofree char *tested = tested_text(json);
        g_autofree char *on_damaged = number_text(json, "base_damaged");
        const char *problem = json_get_string(json, "problem");

        table_row(table,
                  (const char *[]){json_get_string(json, "vm"), json_get_string(json, "site"),
                                   json_get_string(json, "point"), age, points, damaged, on_damaged,
                                   stored, json_get_string(json, "consistency"), tested,
                                   json_get_string(json, "owner"), problem ? problem : ""});
    }
    table_print(table);
}

/* A few names, and how many more there are. */
static void print_unprotected(const json_t *list)
{
    g_autoptr(GString) text = g_string_new(NULL);
    size_t count = json_array_size(list), shown = MIN(count, SHOWN_NAMES);

    if (count == 0)
        return;
    for (size_t i = 0; i < shown; i++) {
        const json_t *vm = json_array_get(list, i);

        g_string_append_printf(text, "%s%s%s", i ? ", " : "", json_get_string(vm, "vm"),
                               json_is_true(json_object_get(vm, "running")) ? "" : " (off)");
    }
    if (shown < count)
        g_string_append_printf(text, " and %zu more", count - shown);
    puts("");
    print_wrapped("", "Not protected (drctl protect): %s", text->str);
}

static void print_recovered(const GPtrArray *recovered)
{
    if (hydration_left(recovered) == 0)
        return;
    puts("\nRecovered VMs that still lie upon their points (drctl hydrate):\n");
    hydrations_print(recovered, true);
}

static void print_windows(const GPtrArray *windows)
{
    bool due = false;

    if (windows->len == 0)
        return;
    puts("\nFailovers that are not committed (drctl commit, drctl rollback):\n");
    windows_print(windows);
    for (unsigned i = 0; i < windows->len; i++)
        due |= window_is_due(windows->pdata[i]);
    if (due)
        puts("Time is over for some of them: `drctl run due` ends them, let a timer call it.");
}

static void print_store(const struct config *config, const json_t *store)
{
    const json_t *days = json_object_get(store, "days_left");
    g_autofree char *free_text = bytes_text(store, "free_bytes");
    g_autofree char *until =
        json_is_number(days) ? g_strdup_printf(", enough for %.0f days", json_number_value(days))
                             : g_strdup("");

    printf("Site %s, store %s, %s free%s\n", config->site, config->store, free_text, until);
}

static void print_vms(json_t *protected, json_t *received)
{
    if (json_array_size(protected) > 0) {
        puts("");
        print_protected(protected);
    }
    if (json_array_size(received) > 0) {
        puts("");
        print_received(received);
    }
}

static void print_problems(const GPtrArray *problems)
{
    if (problems->len == 0)
        return;
    puts("\nWhat is wrong:\n");
    for (unsigned i = 0; i < problems->len; i++) {
        const struct problem *problem = problems->pdata[i];

        print_wrapped(problem->severity == PROBLEM_CRITICAL ? "  ! " : "  - ", "%s: %s",
                      problem->subject, problem->text);
        if (problem->remedy)
            print_wrapped("      -> ", "%s", problem->remedy);
    }
}

static bool has_problem(const GPtrArray *problems, const char *vm)
{
    g_autofree char *subject = g_strdup_printf("VM %s", vm);

    for (unsigned i = 0; i < problems->len; i++)
        if (g_str_equal(((struct problem *)problems->pdata[i])->subject, subject))
            return true;
    return false;
}

/* Take VMs out of LIST that their vApp stands for; how many. */
static size_t leave_out(json_t *list, const json_t *vapps, const GPtrArray *problems)
{
    size_t count = 0;

    for (size_t i = json_array_size(list); i > 0; i--) {
        const char *vm = json_get_string(json_array_get(list, i - 1), "vm");

        if (vapps_have(vapps, vm) && !has_problem(problems, vm)) {
            json_array_remove(list, i - 1);
            count++;
        }
    }
    return count;
}

static void print_all(struct context *context, const struct status *status, const json_t *vapps,
                      const GPtrArray *problems)
{
    json_t *protected = json_object_get(status->json, "protected");
    json_t *received = json_object_get(status->json, "received");
    bool many = json_array_size(protected) + json_array_size(received) > SHOWN_VMS;
    size_t left_out = 0;

    if (many && !option_set(context, "vms"))
        left_out = leave_out(protected, vapps, problems) + leave_out(received, vapps, problems);
    print_store(context->config, json_object_get(status->json, "store"));
    if (json_array_size(vapps) > 0) {
        puts("");
        vapps_print(vapps);
    }
    print_vms(protected, received);
    if (left_out > 0)
        printf("\n%zu more, of vApps, are well: drctl status --vms lists them, too.\n", left_out);
    else if (json_array_size(protected) + json_array_size(received) == 0)
        puts("\nNothing is protected here and no recovery points have arrived.");
    print_unprotected(json_object_get(status->json, "unprotected"));
    print_recovered(status->recovered);
    print_windows(status->windows);
    print_problems(problems);
}

static bool show(struct context *context, GError **error)
{
    AUTO_STATUS status = {0};
    g_autoptr(GPtrArray) problems = NULL;
    json_auto_t *vapps = NULL;
    g_autoptr(GError) why = NULL;

    if (!status_make(context, &status, error))
        return false;
    problems = health_problems(context, &status, error);
    if (!problems)
        return false;
    vapps = vapps_json(context, status.json, problems, &why);
    if (why)
        progress_note(context->progress, "vApps are not shown: %s", why->message);
    if (!context->json) {
        print_all(context, &status, vapps, problems);
        return true;
    }
    json_object_set(status.json, "vapps", vapps ? vapps : json_null());
    json_object_set_new(status.json, "problems", problems_json(problems));
    print_json(status.json);
    return true;
}

/* --- for a monitor, and for somebody who watches ---------------------------------------------- */

/* One line and an exit status, as monitors want them from their plugins. What cannot be told is UNKNOWN. */
static bool check(struct context *context)
{
    static const char *const words[] = {"OK", "WARNING", "CRITICAL", "UNKNOWN"};
    AUTO_STATUS status = {0};
    g_autoptr(GPtrArray) problems = NULL;
    g_autoptr(GError) failure = NULL;
    g_autofree char *line = NULL;
    int code = 3;

    if (status_make(context, &status, &failure))
        problems = health_problems(context, &status, &failure);
    if (problems) {
        code = health_worst(problems);
        line = health_line(problems);
    }
    printf("DRCTL %s - %s\n", words[code], line ? line : failure->message);
    context->exit_status = code;
    return true;
}

#define WATCH_MS 2000

static bool watch(struct context *context, GError **error)
{
    if (!isatty(STDOUT_FILENO) || context->json)
        return fail(error, ERROR_USAGE, "--watch needs a terminal, and goes without --json");
    while (interrupt_check(NULL)) {
        /* To the top, and nothing is left of what was there. */
        fputs("\033[H\033[2J", stdout);
        if (!show(context, error))
            return false;
        fflush(stdout);
        for (unsigned i = 0; i < WATCH_MS / 100 && interrupt_check(NULL); i++)
            g_usleep(100000);
    }
    return true;
}

static bool cmd_status(struct context *context, GError **error)
{
    if (option_set(context, "check"))
        return check(context);
    return option_set(context, "watch") ? watch(context, error) : show(context, error);
}

static const struct option status_options[] = {
    {"vms", NULL, "all VMs, also where there are many and their vApp stands for them"},
    {"watch", NULL, "again and again, until Ctrl-C"},
    {"check", NULL, "one line for a monitor; exit status 0 ok, 1 warning, 2 critical, 3 unknown"},
    {0},
};

const struct command status_commands[] = {
    {
        .name = "status",
        .args = "",
        .flags = COMMAND_JSON,
        .summary = "per vApp and VM: last recovery point, RPO, what is wrong, and what to do",
        .options = status_options,
        .run = cmd_status,
    },
    {0},
};
