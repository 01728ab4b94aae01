/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"
#include "drctl/output.h"

#include <stdio.h>
#include <string.h>

/* In the order of `drctl help`. */
const struct command *const all_commands[] = {
    failover_commands,  failback_commands,      commit_commands,
    hydrate_commands,   fence_commands,         run_commands,

    status_commands,    points_commands,        test_commands,
    plan_commands,      report_commands,        audit_commands,

    restore_commands,   mount_commands,         files_commands,
    archive_commands,

    replicate_commands, verify_commands,        copy_commands,
    prune_commands,     heal_commands,          release_commands,
    store_commands,

    vapp_commands,

    metadata_commands,  metadata_send_commands,

    init_commands,      site_commands,          config_commands,
    protect_commands,   guard_commands,         serve_commands,

    daemon_commands,    alert_commands,

    help_commands,      watchdog_commands,      job_commands,
    complete_commands,  web_commands,           NULL,
};

/* What stands above a table in `drctl help`. */
static const struct {
    const struct command *table;
    const char *text;
} headings[] = {
    {failover_commands, "A site is lost, or VMs are to move"},
    {status_commands, "How is it, and would it work?"},
    {restore_commands, "Something is to come back"},
    {replicate_commands, "Recovery points"},
    {vapp_commands, "VMs that belong together"},
    {metadata_commands, "Definitions and files of hosts"},
    {init_commands, "Set up"},
    {daemon_commands, "By itself"},
    {help_commands, "More"},
};

static const struct option global_options[] = {
    {"config", "DIR", "configuration directory instead of the default one"},
    {"quiet", NULL, "no notes and no progress on stderr"},
    {"help", NULL, "what this command does"},
    {0},
};

static const struct option json_option[] = {
    {"json", NULL, "the result as JSON"},
    {0},
};

/* --- finding --------------------------------------------------------------------------------- */

/* How many words of ARGV spell NAME, or 0. */
static unsigned words_matched(const char *name, char *const *argv)
{
    g_auto(GStrv) words = g_strsplit(name, " ", -1);
    unsigned i;

    for (i = 0; words[i]; i++)
        if (!argv[i] || !g_str_equal(words[i], argv[i]))
            return 0;
    return i;
}

const struct command *command_find(char *const *argv, unsigned *words)
{
    const struct command *best = NULL;

    *words = 0;
    for (const struct command *const *table = all_commands; *table; table++) {
        for (const struct command *command = *table; command->name; command++) {
            unsigned n = words_matched(command->name, argv);

            if (n > *words) {
                *words = n;
                best = command;
            }
        }
    }
    return best;
}

bool command_is_group(const char *word)
{
    g_autofree char *prefix = g_strconcat(word, " ", NULL);

    for (const struct command *const *table = all_commands; *table; table++)
        for (const struct command *command = *table; command->name; command++)
            if (g_str_has_prefix(command->name, prefix))
                return true;
    return false;
}

/* --- parsing --------------------------------------------------------------------------------- */

static const struct option *find_in(const struct option *table, const char *name, size_t len)
{
    for (; table && table->name; table++)
        if (strlen(table->name) == len && strncmp(table->name, name, len) == 0)
            return table;
    return NULL;
}

void command_options(const struct command *command, const struct option *tables[OPTION_TABLES])
{
    tables[0] = command ? command->options : NULL;
    tables[1] = !command || command->flags & COMMAND_JSON ? json_option : NULL;
    tables[2] = global_options;
}

const struct option *command_option(const struct command *command, const char *name, size_t len)
{
    const struct option *tables[OPTION_TABLES], *option = NULL;

    command_options(command, tables);
    for (unsigned i = 0; i < OPTION_TABLES && !option; i++)
        option = find_in(tables[i], name, len);
    return option;
}

/* One "--name", "--name=value" or "--name value"; *USED is how many words it took. */
static bool parse_option(struct context *context, char *const *argv, unsigned *used, GError **error)
{
    const char *name = g_str_has_prefix(argv[0], "--") ? argv[0] + 2 : "";
    size_t len = strcspn(name, "=");
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    const struct option *option = command_option(context->command, name, len);

    *used = 1;
    if (!option)
        return fail(error, ERROR_USAGE, "unknown option %s; see: drctl help %s", argv[0],
                    context->command->name);
    if (!option->arg && value)
        return fail(error, ERROR_USAGE, "option --%s takes no value", option->name);
    if (option->arg && !value && argv[1] && !g_str_has_prefix(argv[1], "--")) {
        value = argv[1];
        *used = 2;
    }
    if (option->arg && !value)
        return fail(error, ERROR_USAGE, "option --%s needs a value: --%s %s", option->name,
                    option->name, option->arg);
    g_hash_table_replace(context->options, g_strdup(option->name), g_strdup(value ? value : ""));
    return true;
}

bool fail_usage(const struct command *command, GError **error)
{
    return fail(error, ERROR_USAGE, "usage: drctl %s%s%s [OPTION]...; see: drctl help %s",
                command->name, *command->args ? " " : "", command->args, command->name);
}

static bool check_arg_count(const struct context *context, unsigned count, GError **error)
{
    const struct command *command = context->command;

    if ((int)count >= command->min_args &&
        (command->max_args < 0 || (int)count <= command->max_args))
        return true;
    return fail_usage(command, error);
}

bool command_parse(struct context *context, char *const *argv, GError **error)
{
    g_autoptr(GStrvBuilder) args = g_strv_builder_new();
    bool only_args = false;

    for (unsigned used; *argv; argv += used) {
        used = 1;
        if (!only_args && g_str_equal(*argv, "--"))
            only_args = true;
        else if (only_args || !g_str_has_prefix(*argv, "-"))
            g_strv_builder_add(args, *argv);
        else if (g_str_equal(*argv, "-h"))
            g_hash_table_replace(context->options, g_strdup("help"), g_strdup(""));
        else if (!parse_option(context, argv, &used, error))
            return false;
    }
    context->json = option_set(context, "json");
    context->quiet = option_set(context, "quiet");
    context->args = g_strv_builder_end(args);
    return option_set(context, "help") ||
           check_arg_count(context, g_strv_length(context->args), error);
}

bool option_set(const struct context *context, const char *name)
{
    return g_hash_table_contains(context->options, name);
}

const char *option_value(const struct context *context, const char *name)
{
    return g_hash_table_lookup(context->options, name);
}

/* --- as it would be typed -------------------------------------------------------------------- */

static void append_word(GString *line, const char *word)
{
    g_autofree char *quoted = shell_word(word);

    g_string_append_printf(line, " %s", quoted);
}

static void append_option(GString *line, const struct context *context, const char *name,
                          bool has_value)
{
    if (!option_set(context, name))
        return;
    g_string_append_printf(line, " --%s", name);
    if (has_value)
        append_word(line, option_value(context, name));
}

char *command_line(const struct context *context, bool confirmed)
{
    const struct option *option = context->command->options;
    GString *line = g_string_new("drctl");

    append_option(line, context, "config", true);
    g_string_append_printf(line, " %s", context->command->name);
    for (char **arg = context->args; *arg; arg++)
        append_word(line, *arg);
    for (; option && option->name; option++)
        append_option(line, context, option->name, option->arg != NULL);
    if (confirmed)
        g_string_append(line, " --yes");
    return g_string_free(line, FALSE);
}

/* --- help ------------------------------------------------------------------------------------ */

static void print_options(const struct option *options)
{
    for (; options && options->name; options++) {
        g_autofree char *left = g_strdup_printf("--%s%s%s", options->name, options->arg ? " " : "",
                                                options->arg ? options->arg : "");

        printf("  %-24s %s\n", left, options->help);
    }
}

void command_help(const struct command *command)
{
    const struct option *tables[OPTION_TABLES];

    printf("drctl %s%s%s [OPTION]...\n\n%s\n", command->name, *command->args ? " " : "",
           command->args, command->summary);
    if (command->text)
        printf("\n%s\n", command->text);
    puts("\nOptions:");
    command_options(command, tables);
    for (unsigned i = 0; i < OPTION_TABLES; i++)
        print_options(tables[i]);
}

static void print_heading(const struct command *table)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(headings); i++)
        if (headings[i].table == table)
            printf("%s\n", headings[i].text);
}

void program_help(void)
{
    puts("drctl: disaster recovery and backup for libvirt hosts\n\n"
         "usage: drctl [--config DIR] COMMAND [ARGUMENT]... [OPTION]...\n");
    for (const struct command *const *table = all_commands; *table; table++) {
        print_heading(*table);
        for (const struct command *command = *table; command->name; command++)
            if (!(command->flags & COMMAND_INTERNAL))
                printf("  %-16s %s\n", command->name, command->summary);
    }
    puts("\n`drctl help COMMAND` tells more about one; the manual is drctl(1).\n\n"
         "Exit status: 0 done, 1 failed, 2 usage or configuration, 3 partially failed, 4 not "
         "found,\n"
         "5 integrity, 6 network or remote, 7 hypervisor, 130 interrupted.");
}
