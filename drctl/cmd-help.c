/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"

#include <stdio.h>
#include <string.h>

/* All commands of a group ("vapp"), when there is no command of that very name. */
static bool help_for_group(const char *word)
{
    g_autofree char *prefix = g_strconcat(word, " ", NULL);
    bool any = false;

    for (const struct command *const *table = all_commands; *table; table++) {
        for (const struct command *command = *table; command->name; command++) {
            if (!g_str_has_prefix(command->name, prefix))
                continue;
            if (any)
                puts("\n");
            command_help(command);
            any = true;
        }
    }
    return any;
}

static bool cmd_help(struct context *context, GError **error)
{
    unsigned words;
    const struct command *command;
    g_autofree char *name = g_strjoinv(" ", context->args);

    if (!*context->args) {
        program_help();
        return true;
    }
    command = command_find(context->args, &words);
    if (command)
        command_help(command);
    else if (!help_for_group(context->args[0]))
        return fail(error, ERROR_USAGE, "there is no command \"%s\"; see: drctl help", name);
    return true;
}

const struct command help_commands[] = {
    {
        .name = "help",
        .args = "[COMMAND]",
        .max_args = -1,
        .flags = COMMAND_NO_CONFIG,
        .summary = "what a command does, with its options",
        .run = cmd_help,
    },
    {0},
};
