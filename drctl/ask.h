/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions on a terminal, as plain lines: nothing is drawn twice, nothing is coloured, so they work on any
 * terminal and over any link. `q`, Ctrl-C and the end of the input are an answer to each of them:
 * ERROR_CANCELLED, which says that nothing was changed.
 */
#pragma once

#include "metadata/metadata.h"

/* Can somebody be asked: are stdin, stdout and stderr a terminal? */
bool can_ask(void);
/* A line, without blanks around it; Enter alone is PRESET, or is asked again if that is NULL. g_free. */
char *ask_text(const char *question, const char *preset, GError **error);
bool ask_yes(const char *question, bool preset, bool *yes, GError **error);

/* A numbered list to choose from. HEADERS as for a table, with NULL at the end; the first column is the name. */
struct menu;
struct menu *menu_new(const char *const *headers);
void menu_free(struct menu *menu);
DEFINE_CLEANUP(menu)
/* One cell for each header; copied. */
void menu_add(struct menu *menu, const char *const *cells);
/* *CHOSEN counts from 0. Answers are a number, a name, or a part of names, which leaves the others out of the
 * list, as does a name that is there twice. Enter alone is the first. There must be an entry. */
bool menu_ask(struct menu *menu, const char *question, unsigned *chosen, GError **error);
