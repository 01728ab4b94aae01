/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"

#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "drctl/output.h"
#include "drctl/trail.h"

static void on_signal(int signal)
{
    interrupt_request();
}

/* The first interrupt stops at the next safe place, a second one at once. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error like a full disk */
}

/* A plan holds a lock for each VM, so that what it names is not dropped meanwhile: the 1024 files that a
 * shell allows are few for a site. */
static void allow_many_files(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* What may stand in front of the command, beside what any command takes. */
static bool is_leading_option(const char *word)
{
    static const char *const words[] = {"--config", "--quiet",   "--json", "--help",
                                        "-h",       "--version", "-V",     NULL};

    return g_strv_contains(words, word) || g_str_has_prefix(word, "--config=");
}

/* Options in front of the command are moved behind it. *ARGV is advanced to the command. */
static bool take_leading_options(char ***argv, GPtrArray *moved, GError **error)
{
    for (; **argv && g_str_has_prefix(**argv, "-"); (*argv)++) {
        if (!is_leading_option(**argv))
            return fail(error, ERROR_USAGE,
                        "unknown option %s in front of a command; see: drctl help", **argv);
        g_ptr_array_add(moved, **argv);
        if (!g_str_equal(**argv, "--config"))
            continue;
        if (!(*argv)[1])
            return fail(error, ERROR_USAGE, "option --config needs a value: --config DIR");
        g_ptr_array_add(moved, *++*argv);
    }
    return true;
}

static bool wants(const GPtrArray *options, const char *name)
{
    return g_ptr_array_find_with_equal_func((GPtrArray *)options, name, g_str_equal, NULL);
}

static bool run_audited(struct context *context, GError **error)
{
    struct trail trail;
    GError *failure = NULL;

    trail_begin(context, &trail);
    if (!context->command->run(context, &failure) && !failure)
        fail(&failure, ERROR_FAILED, "%s failed", context->command->name);
    trail_end(context, &trail, failure);
    if (!failure)
        return true;
    g_propagate_error(error, failure);
    return false;
}

static bool run_command(struct context *context, char **argv, GError **error)
{
    if (!command_parse(context, argv, error))
        return false;
    if (option_set(context, "help")) {
        command_help(context->command);
        return true;
    }
    context->config_dir = option_value(context, "config")
                              ? g_canonicalize_filename(option_value(context, "config"), NULL)
                              : config_default_dir();
    context->progress = progress_terminal_new(context->quiet);
    return run_audited(context, error);
}

static bool fail_unknown_command(char *const *argv, GError **error)
{
    bool second = argv[1] && argv[1][0] != '-';

    return fail(error, ERROR_USAGE, "there is no command \"%s%s%s\"; see: drctl help%s%s", argv[0],
                second ? " " : "", second ? argv[1] : "", command_is_group(argv[0]) ? " " : "",
                command_is_group(argv[0]) ? argv[0] : "");
}

static bool dispatch(struct context *context, char **argv, GError **error)
{
    g_autoptr(GPtrArray) rest = g_ptr_array_new();
    unsigned words;

    if (!take_leading_options(&argv, rest, error))
        return false;
    if (wants(rest, "--version") || wants(rest, "-V")) {
        puts("drctl " DRCTL_VERSION);
        return true;
    }
    if (!*argv || wants(rest, "--help") || wants(rest, "-h")) {
        program_help();
        return wants(rest, "--help") || wants(rest, "-h") ||
               fail(error, ERROR_USAGE, "which command?");
    }
    context->command = command_find(argv, &words);
    if (!context->command)
        return fail_unknown_command(argv, error);
    for (char **arg = argv + words; *arg; arg++)
        g_ptr_array_add(rest, *arg);
    g_ptr_array_add(rest, NULL);
    return run_command(context, (char **)rest->pdata, error);
}

/* Error texts may quote what came from the other side or from a guest: no control character of it
 * reaches the terminal. */
static void print_error(const GError *error)
{
    g_autofree char *text = g_utf8_make_valid(error->message, -1);

    for (char *c = text; *c; c++)
        if (g_ascii_iscntrl(*c) && *c != '\n')
            *c = '?';
    fprintf(stderr, "drctl: %s\n", text);
}

bool program_run(char **argv, int *status, GError **error)
{
    struct context context = {
        .options = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free),
    };
    GError *failure = NULL;
    bool ok = dispatch(&context, argv, &failure);

    *status = ok ? context.exit_status : (int)error_exit_status(failure);
    if (failure)
        g_propagate_error(error, failure);
    if (context.progress)
        progress_terminal_end(context.progress);
    context_clear(&context);
    return ok;
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    int status;

    setlocale(LC_CTYPE, "");
    catch_signals();
    allow_many_files();
    if (!program_run(argv + 1, &status, &error)) {
        fflush(stdout);
        print_error(error);
    }
    return status;
}
