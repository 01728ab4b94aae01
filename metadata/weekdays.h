/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Days of the week as administrators write them: "mon", "mon..fri", "sat..mon", "mon,wed,fri".
 */
#pragma once

#include <stdbool.h>

#define WEEKDAYS 7u
#define WEEKDAYS_ALL ((1u << WEEKDAYS) - 1)

/* *DAYS: bit 0 is Sunday, as tm_wday counts. Unless EXACT, names may be whole, and letters large. On false *WRONG (may
 * be NULL; g_free) is the word that is no day. */
bool weekdays_parse(const char *text, bool exact, unsigned *days, char **wrong);
