/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What people and scripts see. Results go to stdout, as a table or as JSON; notes, questions and
 * progress to stderr, so that a pipe gets the result only.
 */
#pragma once

#include "metadata/metadata.h"

/* A table: HEADERS is NULL-terminated; a header that begins with '>' is set flush right. */
struct table;
struct table *table_new(const char *const *headers);
/* One cell per header; NULL shows as "-". Cells are copied. */
void table_row(struct table *table, const char *const *cells);
void table_print(const struct table *table);
void table_free(struct table *table);
DEFINE_CLEANUP(table)

/* Indented JSON document, or one compact line of JSON Lines. */
void print_json(const json_t *json);
void print_json_line(const json_t *json);

/* "15 min ok" of {rpo_seconds, rpo_state}; NULL: nothing was promised. g_free */
char *rpo_text(const json_t *json);
/* TEXT as one word of a command line, in quotes only where that is needed; g_free. */
char *shell_word(const char *text);
/* The same of WORDS, with blanks between them. g_free */
char *shell_line(char *const *words);

/* The seconds that OBJECT has as KEY, for people; NULL if it has none; g_free. */
char *seconds_text(const json_t *object, const char *key);
/* The time that OBJECT has as KEY (RFC 3339), as of the clock on the wall here; NULL if it has none; g_free. */
char *time_text(const json_t *object, const char *key);

/* A text behind LEAD; on a terminal in lines that fit, all but the first as far to the right as LEAD is long. */
void print_wrapped(const char *lead, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Ask on the terminal; true only for exactly EXPECTED (case counts). Without a terminal:
 * ERROR_USAGE that names the switch INSTEAD ("--yes"). */
bool confirm(const char *question, const char *expected, const char *instead, GError **error);

/* Progress on stderr: one line that is redrawn on a terminal; notes only elsewhere, and where TERM is dumb. */
struct progress *progress_terminal_new(bool quiet);
/* Keep TEXT in the line that is redrawn, under all notes, cut to the width of the terminal; NULL: nothing.
 * Where stderr is no terminal nothing is shown. */
void progress_terminal_status(struct progress *progress, const char *text);
/* Clear the line, so that other output can follow. */
void progress_terminal_end(struct progress *progress);
void progress_terminal_free(struct progress *progress);
