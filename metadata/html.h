/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all HTML of drctl is made of, in reports and on the page of the daemon. What is appended is well-formed as XML, too.
 */
#pragma once

#include <glib.h>

#include "common/common.h"

/* Append TEXT (NULL: nothing) so that it is text between tags and in quoted attributes. */
void html_text(GString *html, const char *text);
/* The class of a state: "good", "warn", "bad", "busy" or "none". */
const char *html_state_class(const char *state);
/* Append STATE with its colour and its sign. */
void html_state(GString *html, const char *state);
/* The seconds that JSON has as KEY: "3 min 10 s", or a dash; g_free. */
char *html_seconds(const json_t *json, const char *key);
/* RFC 3339 as a time in UTC, as whoever reads it may be in another time zone than the site, or a dash; g_free. */
char *html_time(const char *time);
/* The style sheet; a constant. */
extern const char html_style[];
