/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the HTML report share. Private to metadata/. */
#pragma once

#include "metadata/report.h"

/* Append TEXT (NULL: nothing) so that it is text between tags and in quoted attributes. */
void html_text(GString *html, const char *text);
/* The class of a state: "good", "bad", "busy" or "none". */
const char *html_state_class(const char *state);
/* Append when each step of each VM of REPORT was under way, as SVG. */
void html_timeline(GString *html, const json_t *report);
/* The style sheet; a constant. */
extern const char html_style[];
