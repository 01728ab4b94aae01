/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/output.h"
#include "drctl/resume.h"
#include "drctl/windows.h"

#include <stdio.h>

/* ---- Showing */

static char *vm_names(const struct window *window)
{
    g_autoptr(GString) names = g_string_new(NULL);

    for (unsigned i = 0; i < window->vms->len; i++)
        g_string_append_printf(names, "%s%s", i ? ", " : "",
                               ((const struct window_vm *)window->vms->pdata[i])->name);
    return g_strdup(names->str);
}

/* A time that is over is shown as what it is. */
static char *until_text(const struct window *window)
{
    g_autofree char *until = NULL;

    if (window->until_ms == 0)
        return g_strdup("its run has not ended");
    until = time_format_local(window->until_ms);
    return window_is_due(window) ? g_strdup_printf("%s (over)", until) : g_steal_pointer(&until);
}

void windows_print(const GPtrArray *windows)
{
    static const char *const headers[] = {"FAILOVER", "FROM", "RUN", "VMS", "UNTIL", "THEN", NULL};
    AUTO(table) table = table_new(headers);

    for (unsigned i = 0; i < windows->len; i++) {
        const struct window *window = windows->pdata[i];
        g_autofree char *names = vm_names(window);
        g_autofree char *until = until_text(window);

        table_row(table, (const char *[]){window->name, window->from, window->run, names, until,
                                          window_timeout_name(&window->policy)});
    }
    table_print(table);
}

char *commit_policy_text(const struct commit_policy *policy, const char *name)
{
    g_autofree char *after =
        policy->after_ms > 0 ? duration_format((double)policy->after_ms / 1000) : NULL;

    if (!after)
        return NULL;
    return g_strdup_printf("until %s after its end it can be taken back (drctl rollback %s); then "
                           "it is %s",
                           after, name, policy->rolls_back ? "rolled back" : "committed");
}

void commit_policy_json(const struct commit_policy *policy, json_t *json)
{
    json_set_real(json, "commit_after_seconds", (double)policy->after_ms / 1000);
    json_set_string(json, "on_timeout", policy->after_ms == 0 ? NULL : window_timeout_name(policy));
}

/* ---- Ending one */

struct ending {
    struct context *context;
    struct site site;
    json_t *results; /* array */
    unsigned failed;
    GError *first_error;
};

static void ending_clear(struct ending *ending)
{
    json_decref(ending->results);
    g_clear_error(&ending->first_error);
}
#define AUTO_ENDING __attribute__((cleanup(ending_clear))) struct ending

static void print_end(const struct window *window, bool back, const char *run)
{
    g_autofree char *names = vm_names(window);

    if (!back) {
        printf("The failover of %s (run %s) is committed: %s stay here.\n", window->name,
               window->run, names);
        return;
    }
    printf("The failover of %s (run %s) is rolled back (run %s): %s are gone from here, and belong "
           "to site %s.\n"
           "There they are started by `drctl fence %s --release`, if they were fenced, and `drctl "
           "vapp start`.\n",
           window->name, window->run, run, names, window->from, window->name);
}

static void end_one(struct ending *ending, const struct window *window, bool back)
{
    json_t *json = window_json(window);
    g_autoptr(GError) cause = NULL;
    g_autofree char *run = NULL;
    bool done = back ? window_roll_back(&ending->site, window, &run, &cause)
                     : window_commit(&ending->site, window, &cause);

    progress_terminal_end(ending->context->progress);
    json_set_string(json, "action", back ? "rollback" : "commit");
    json_set_string(json, "by", run);
    json_set_string(json, "error", cause ? cause->message : NULL);
    json_array_append_new(ending->results, json);
    if (done) {
        if (!ending->context->json)
            print_end(window, back, run);
        return;
    }
    ending->failed++;
    if (!ending->first_error)
        ending->first_error = g_error_copy(cause);
}

static bool finish(struct ending *ending, GError **error)
{
    if (ending->context->json)
        print_json(ending->results);
    if (ending->failed == 0)
        return true;
    if (ending->failed < json_array_size(ending->results))
        return fail(error, ERROR_PARTIAL, "%u of %zu failovers: %s", ending->failed,
                    json_array_size(ending->results), ending->first_error->message);
    g_propagate_error(error, g_steal_pointer(&ending->first_error));
    return false;
}

static bool begin(struct ending *ending, struct context *context, GError **error)
{
    *ending = (struct ending){.context = context, .results = json_array()};
    return context_site(context, true, &ending->site, error);
}

/* ---- The commands */

static bool cmd_commit(struct context *context, GError **error)
{
    AUTO_ENDING ending = {0};
    g_autoptr(GPtrArray) windows = NULL;

    if (!begin(&ending, context, error) ||
        !(windows = windows_of(context->catalog, context->args[0], error)))
        return false;
    for (unsigned i = 0; i < windows->len; i++)
        end_one(&ending, windows->pdata[i], false);
    return finish(&ending, error);
}

static bool confirm_rollback(struct context *context, const GPtrArray *windows, GError **error)
{
    const struct window *first = windows->pdata[0];
    g_autofree char *question = g_strdup_printf(
        "\nThese VMs are destroyed here, with all that they have written since the failover, and "
        "belong to site %s again.\nType the name of the failover (%s):",
        first->from, first->name);

    if (option_set(context, "yes"))
        return true;
    if (context->json)
        return fail(error, ERROR_USAGE, "--json asks nothing: add --yes, or look with --dry-run");
    fflush(stdout);
    return confirm(question, first->name, "--yes", error);
}

/* Only look. */
static bool show(struct context *context, const GPtrArray *windows)
{
    json_auto_t *json = json_array();

    for (unsigned i = 0; i < windows->len; i++)
        json_array_append_new(json, window_json(windows->pdata[i]));
    if (context->json)
        print_json(json);
    return true;
}

static bool cmd_rollback(struct context *context, GError **error)
{
    AUTO_ENDING ending = {0};
    g_autoptr(GPtrArray) windows = NULL;

    if (!begin(&ending, context, error) ||
        !(windows = windows_of(context->catalog, context->args[0], error)))
        return false;
    if (!context->json)
        windows_print(windows);
    if (option_set(context, "dry-run"))
        return show(context, windows);
    if (!confirm_rollback(context, windows, error))
        return false;
    for (unsigned i = 0; i < windows->len; i++)
        end_one(&ending, windows->pdata[i], true);
    return finish(&ending, error);
}

bool rollback_resume(struct context *context, const json_t *run, GError **error)
{
    AUTO_ENDING ending = {0};
    AUTO(window) window = NULL;

    if (!begin(&ending, context, error) ||
        !(window = window_of_rollback(&ending.site, json_get_string(run, "run"), error)))
        return false;
    end_one(&ending, window, true);
    return finish(&ending, error);
}

/* What is due of WINDOWS. */
static bool end_due(struct context *context, const GPtrArray *windows, GError **error)
{
    AUTO_ENDING ending = {0};
    g_autoptr(GPtrArray) due = g_ptr_array_new();

    for (unsigned i = 0; i < windows->len; i++)
        if (window_is_due(windows->pdata[i]))
            g_ptr_array_add(due, windows->pdata[i]);
    if (option_set(context, "dry-run") && due->len > 0 && !context->json)
        windows_print(due);
    if (option_set(context, "dry-run") || due->len == 0)
        return show(context, due);
    if (!begin(&ending, context, error))
        return false;
    for (unsigned i = 0; i < due->len; i++) {
        const struct window *window = due->pdata[i];

        end_one(&ending, window, window->policy.rolls_back);
    }
    return finish(&ending, error);
}

bool windows_end_due(struct context *context, GError **error)
{
    g_autoptr(GPtrArray) windows = NULL;
    struct site site;

    if (!context_catalog(context, error) || !(windows = window_list(context->catalog, error)) ||
        !end_due(context, windows, error))
        return false;
    if (option_set(context, "dry-run") || !hydration_is_possible(context->config))
        return true;
    return context_site(context, true, &site, error) && hydration_go_on(&site, error);
}

static const struct option rollback_options[] = {
    {"yes", NULL, "do not ask"},
    {"dry-run", NULL, "show what would be taken back, change nothing"},
    {0},
};

const struct command commit_commands[] = {
    {
        .name = "commit",
        .args = "VAPP|VM",
        .min_args = 1,
        .max_args = 1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "let a failover count for good, before its time to be taken back is over",
        .run = cmd_commit,
    },
    {
        .name = "rollback",
        .args = "VAPP|VM",
        .min_args = 1,
        .max_args = 1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary =
            "take a failover back that is not committed: its VMs are gone, as if it had not been",
        .text =
            "Destroys what the failover has brought up, with all that it has written, and gives "
            "the\n"
            "VMs to the site that they came from, by a newer epoch. Needs a failover with "
            "--commit-after,\n"
            "or commit-after in its recovery plan.",
        .options = rollback_options,
        .run = cmd_rollback,
    },
    {0},
};
