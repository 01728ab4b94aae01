/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/move.h"
#include "drctl/wizard.h"

static bool come_home(struct context *context, GError **error)
{
    return cmd_move(context, true, error);
}

static bool cmd_failback(struct context *context, GError **error)
{
    return context->args[0] ? come_home(context, error)
                            : wizard_run(context, wizard_failback, come_home, error);
}

static const struct option failback_options[] = {
    {"from", "REMOTE", "where it runs; default: the only remote site"},
    {"yes", NULL, "do not ask"},
    {"dry-run", NULL, "show what would be done, change nothing"},
    {0},
};

const struct command failback_commands[] = {
    {
        .name = "failback",
        .args = "[VAPP|VM]",
        .max_args = 1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "bring a vApp home to this site, with all that it has written elsewhere",
        .text =
            "To be run at the site that comes back. What the VMs have here from before is kept as\n"
            "recovery points (diverged); only what differs from them is sent; then the vApp is "
            "shut\n"
            "down where it runs, the rest is sent, and it starts here. Needs an operator's key at\n"
            "the other site (drctl site add --operator there and here).\n"
            "On a terminal without arguments it asks for what it has to know.",
        .options = failback_options,
        .run = cmd_failback,
    },
    {0},
};
