/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"
#include "drctl/output.h"

#include <stdio.h>

/* What can be said without questions is said by the options of `drctl failover`. */
static bool cmd_test(struct context *context, GError **error)
{
    const char *name = context->args[0];

    if (name)
        return fail(error, ERROR_USAGE, "a test of %s is: drctl failover %s --test", name, name);
    context->command = failover_commands;
    g_hash_table_replace(context->options, g_strdup("test"), g_strdup(""));
    return context->command->run(context, error);
}

static bool cmd_test_cleanup(struct context *context, GError **error)
{
    const char *vapp = context->args[0];
    g_autoptr(GPtrArray) cleaned = NULL;
    json_auto_t *list = json_array();
    struct site site;
    bool good;

    if (!context_site(context, true, &site, error))
        return false;
    good = test_cleanup(&site, vapp, &cleaned, error);
    for (unsigned i = 0; i < cleaned->len; i++) {
        json_array_append_new(list, json_string(cleaned->pdata[i]));
        if (!context->json)
            printf("%s: cleaned up\n", (const char *)cleaned->pdata[i]);
    }
    if (context->json)
        print_json(list);
    else if (good && cleaned->len == 0)
        fputs("No test has left anything.\n", stderr);
    return good;
}

const struct command test_commands[] = {
    {
        .name = "test",
        .args = "",
        .max_args = 1,
        .summary = "on a terminal: ask what is to be tested, and test its failover",
        .text =
            "Asks as `drctl failover` does. Without questions, and with options: drctl failover "
            "VAPP\n--test. What a test has left that was killed: drctl test cleanup.",
        .run = cmd_test,
    },
    {
        .name = "test cleanup",
        .args = "[VAPP]",
        .max_args = 1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "remove what an interrupted test failover has left",
        .text =
            "A test cleans up by itself, also when it fails or is interrupted. What a test leaves\n"
            "that was killed is removed by this, and by the next failover or test.",
        .run = cmd_test_cleanup,
    },
    {0},
};
