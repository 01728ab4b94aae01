/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the HTML report share. Private to metadata/. */
#pragma once

#include "metadata/html.h"
#include "metadata/report.h"

/* Append what comes before and after the content of a page: everything in one file, and nothing that could be loaded
 * or run. */
void html_head(GString *html, const char *title);
void html_foot(GString *html);
void html_picture(GString *html, const struct report_picture *picture);
/* Append when each step of each VM of REPORT was under way, as SVG. */
void html_timeline(GString *html, const json_t *report);
