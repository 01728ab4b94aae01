/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/wizard.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "drctl/ask.h"
#include "drctl/output.h"

void wizard_set_argument(struct context *context, const char *argument)
{
    g_strfreev(context->args);
    context->args = g_new0(char *, 2);
    context->args[0] = g_strdup(argument);
}

void wizard_set_option(struct context *context, const char *name, const char *value)
{
    g_hash_table_replace(context->options, g_strdup(name), g_strdup(value ? value : ""));
}

bool wizard_ask_option(struct context *context, const char *name, const char *question,
                       const char *preset, wizard_read_fn *read, GError **error)
{
    for (;;) {
        g_autoptr(GError) why = NULL;
        g_autofree char *answer = ask_text(question, preset, error);

        if (!answer)
            return false;
        wizard_set_option(context, name, answer);
        if (read(context, &why))
            return true;
        g_hash_table_remove(context->options, name);
        print_wrapped("", "%s", why->message);
    }
}

char *wizard_age(int64_t ms)
{
    return duration_format((double)((time_now_ms() - ms) / 1000));
}

char *wizard_rough_age(int64_t ms)
{
    int64_t seconds = (time_now_ms() - ms) / 1000;

    return seconds < 60          ? g_strdup_printf("%" PRId64 " s", seconds)
           : seconds < 3600      ? g_strdup_printf("%" PRId64 " min", seconds / 60)
           : seconds < 24 * 3600 ? g_strdup_printf("%" PRId64 " h", seconds / 3600)
                                 : g_strdup_printf("%" PRId64 " d", seconds / (24 * 3600));
}

/* --- the command line ------------------------------------------------------------------------ */

void wizard_show_command(const struct context *context, bool confirmed)
{
    g_autofree char *line = context->asked ? command_line(context, confirmed) : NULL;

    if (line)
        printf("\nThe same without these questions:\n  %s\n", line);
    fflush(stdout);
}

bool wizard_run(struct context *context, wizard_fn *ask, wizard_fn *run, GError **error)
{
    g_autoptr(GError) cause = NULL;

    if (!can_ask() || context->json)
        return fail_usage(context->command, error);
    context->asked = true;
    if (ask(context, &cause))
        return run(context, error);
    /* Also while something was looked at. */
    if (error_is(cause, ERROR_CANCELLED))
        return fail(error, ERROR_CANCELLED, "left: nothing was changed");
    g_propagate_error(error, g_steal_pointer(&cause));
    return false;
}
