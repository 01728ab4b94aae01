/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command on a terminal that was given no argument asks for what it has to know. The answers become arguments
 * and options of the context, as if they had been typed; then the command runs as it does with them, by the
 * same function: a wizard does nothing itself. What could have been typed is shown.
 */
#pragma once

#include "drctl/command.h"

typedef bool wizard_fn(struct context *context, GError **error);
/* ASK, then RUN. ERROR_USAGE where nobody can be asked. */
bool wizard_run(struct context *context, wizard_fn *ask, wizard_fn *run, GError **error);
/* Has a wizard asked? Then say how it goes without; CONFIRMED: with --yes, which stands for a name that is typed. */
void wizard_show_command(const struct context *context, bool confirmed);

/* The answers, for ASK. VALUE: NULL for a switch. */
void wizard_set_argument(struct context *context, const char *argument);
void wizard_set_option(struct context *context, const char *name, const char *value);
/* Ask for the value of an option, as ask_text(), until READ, which may be what the command reads it with, has no
 * objection. */
typedef bool wizard_read_fn(const struct context *context, GError **error);
bool wizard_ask_option(struct context *context, const char *name, const char *question,
                       const char *preset, wizard_read_fn *read, GError **error);

/* How long ago, in whole seconds; g_free. */
char *wizard_age(int64_t ms);
/* The same in one unit, where there is little room: "3 h". */
char *wizard_rough_age(int64_t ms);

wizard_fn wizard_failover, wizard_failback, wizard_restore;
