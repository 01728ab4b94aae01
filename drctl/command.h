/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a command of drctl is: one entry of a const table, from which parsing, --help, completion
 * and the check of the man page are made. One file per command exports its entries.
 */
#pragma once

#include "restore/restore.h"

struct option {
    const char *name; /* without the dashes; NULL ends a table */
    const char *arg;  /* placeholder of its value, or NULL: a switch */
    const char *help;
};

enum {
    COMMAND_NO_CONFIG = 1, /* runs where there is no drctl.conf yet */
    COMMAND_JSON = 2,      /* has --json */
    COMMAND_INTERNAL = 4,  /* for drctl itself: not in the list of commands */
    COMMAND_CHANGES = 8,   /* or shows what is in a VM: it is in the audit log */
    COMMAND_OFTEN = 16,    /* likewise, but only when it had something to do: a run */
};

struct context;

struct command {
    const char *name;       /* "replicate", "vapp start"; NULL ends a table */
    const char *args;       /* "[VM]..." for the usage line, or "" */
    int min_args, max_args; /* -1: any number */
    unsigned flags;
    const char *summary;          /* one line */
    const char *text;             /* a few sentences more, wrapped by hand at 80, or NULL */
    const struct option *options; /* or NULL */
    bool (*run)(struct context *context, GError **error);
};

/* One invocation. What a command asks for is opened on demand and closed at the end. */
struct context {
    const struct command *command;
    char *config_dir;
    char **args;         /* NULL-terminated */
    GHashTable *options; /* name -> value, "" for switches */
    bool json;
    bool quiet;
    bool asked; /* for its arguments, by a wizard */
    struct progress *progress;
    int exit_status; /* of a command that has succeeded, and says more than that; else 0 */
    json_t *outcome; /* what the audit log shall have of it beside, or NULL */

    struct config *config;
    struct catalog *catalog;
    struct store *store; /* local */
    GPtrArray *hosts;
    bool hosts_tried;
    GPtrArray *silent; /* of struct silent_host: those that do not answer */
};

const struct config *context_config(struct context *context, GError **error);
struct catalog *context_catalog(struct context *context, GError **error);
struct store *context_store(struct context *context, GError **error);
/* Another handle of the store NAME: `local`, or that of a remote, whose link is had again when it is
 * lost. */
struct store *context_open(struct context *context, const char *name, GError **error);
/* All hosts of the configuration, connected; of struct host; borrowed. */
GPtrArray *context_hosts(struct context *context, GError **error);
/* Everything for restore/. The hosts are connected only if NEED_HOSTS, else there are none. */
bool context_site(struct context *context, bool need_hosts, struct site *site, GError **error);
/* The same for what must go on when a host is lost: those that do not answer are told of in the site, unless none
 * does. */
bool context_site_in_need(struct context *context, struct site *site, GError **error);
void context_clear(struct context *context);

bool option_set(const struct context *context, const char *name);
/* How the command would be typed; CONFIRMED: with --yes. g_free */
char *command_line(const struct context *context, bool confirmed);
/* NULL when not given. */
const char *option_value(const struct context *context, const char *name);

/* All tables, NULL-terminated. */
extern const struct command *const all_commands[];
extern const struct command alert_commands[], archive_commands[], audit_commands[],
    commit_commands[], complete_commands[], config_commands[], copy_commands[], daemon_commands[],
    failback_commands[], failover_commands[], fence_commands[], files_commands[], guard_commands[],
    heal_commands[], help_commands[], hydrate_commands[], init_commands[], job_commands[],
    metadata_commands[], metadata_send_commands[], mount_commands[], plan_commands[],
    points_commands[], protect_commands[], prune_commands[], release_commands[],
    replicate_commands[], report_commands[], restore_commands[], run_commands[], serve_commands[],
    site_commands[], status_commands[], store_commands[], test_commands[], vapp_commands[],
    verify_commands[], watchdog_commands[], web_commands[];

/* A whole invocation: what ARGV (NULL-terminated, without the program's name) says. *STATUS is its exit status. */
bool program_run(char **argv, int *status, GError **error);

/* The command that ARGV begins with, longest name first; *WORDS is how many words its name has.
 * NULL if none. */
const struct command *command_find(char *const *argv, unsigned *words);
/* Is WORD the first one of several commands, such as "vapp"? */
bool command_is_group(const char *word);
/* Its own, then those that it has in common with others; each may be NULL. Without COMMAND: what may stand in front of
 * any. */
#define OPTION_TABLES 3
void command_options(const struct command *command, const struct option *tables[OPTION_TABLES]);
/* The one of them with this name, without the dashes; or NULL. */
const struct option *command_option(const struct command *command, const char *name, size_t len);
/* Fill ARGS and OPTIONS of CONTEXT; ERROR_USAGE. */
bool command_parse(struct context *context, char *const *argv, GError **error);
/* How it is to be called: ERROR_USAGE; returns false. */
bool fail_usage(const struct command *command, GError **error);
void command_help(const struct command *command);
void program_help(void);
