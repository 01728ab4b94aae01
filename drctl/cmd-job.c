/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"

/* The command itself, in this process: how it ends is how the job ends. */
static bool execute(struct context *context, GError **error)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    int status;

    g_ptr_array_add(words, (char *)"--config");
    g_ptr_array_add(words, context->config_dir);
    for (char **word = context->args + 1; *word; word++)
        g_ptr_array_add(words, *word);
    g_ptr_array_add(words, NULL);
    return program_run((char **)words->pdata, &status, error);
}

static bool cmd_job(struct context *context, GError **error)
{
    struct catalog *catalog = context_catalog(context, error);
    struct task *job = catalog ? task_begin(catalog, context->args[0], error) : NULL;
    GError *failure = NULL;

    if (!job)
        return false;
    execute(context, &failure);
    task_end(job, failure);
    if (!failure)
        return true;
    g_propagate_error(error, failure);
    return false;
}

const struct command job_commands[] = {
    {
        .name = "job",
        .args = "JOB COMMAND [ARGUMENT]...",
        .min_args = 2,
        .max_args = -1,
        .flags = COMMAND_INTERNAL,
        .summary = "execute a job of the daemon",
        .run = cmd_job,
    },
    {0},
};
