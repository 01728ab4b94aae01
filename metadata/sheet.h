/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A document for people, written once and shown twice: as plain text, for a terminal or a printer, and as one HTML file
 * that needs nothing else, like the report of a run. All texts may be somebody else's; they are shown, never
 * interpreted.
 */
#pragma once

#include <glib.h>

#include "metadata/report.h"

struct sheet;
/* KIND stands above TITLE, small; NOTE below it, or NULL. */
struct sheet *sheet_new(const char *kind, const char *title, const char *note);
void sheet_free(struct sheet *sheet);
DEFINE_CLEANUP(sheet)

void sheet_section(struct sheet *sheet, const char *title);
void sheet_part(struct sheet *sheet, const char *title); /* of a section */
void sheet_paragraph(struct sheet *sheet, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* TEXT as it is, lines and all, such as commands. */
void sheet_block(struct sheet *sheet, const char *text);
/* A table begins; HEADERS are NULL-terminated. It ends with whatever else comes. */
void sheet_table(struct sheet *sheet, const char *const *headers);
/* As many CELLS as there are headers; NULL is empty. */
void sheet_row(struct sheet *sheet, const char *const *cells);
/* A drawing, for the HTML only: SVG of our own making. */
void sheet_drawing(struct sheet *sheet, const char *svg);
void sheet_picture(struct sheet *sheet, const struct report_picture *picture);

/* What is written so far; g_free. */
char *sheet_plain(struct sheet *sheet);
char *sheet_html(struct sheet *sheet);
