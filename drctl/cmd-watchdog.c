/* SPDX-License-Identifier: Apache-2.0 */
/* What drctl starts beside itself while a guest is frozen; nobody else does. */
#include "drctl/command.h"

static bool cmd_watchdog(struct context *context, GError **error)
{
    return snapshot_watchdog(context->args, error);
}

const struct command watchdog_commands[] = {
    {
        .name = "thaw-watchdog",
        .args = "URI UUID SECONDS",
        .min_args = 3,
        .max_args = 3,
        .flags = COMMAND_NO_CONFIG | COMMAND_INTERNAL,
        .summary = "thaw a VM when the process at the other end of stdin does not",
        .run = cmd_watchdog,
    },
    {0},
};
