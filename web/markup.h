/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts that pages are made of: the frame of each, tables, figures, forms. All is well-formed as XML.
 */
#pragma once

#include "web/data.h"
#include "metadata/metadata.h"

/* What a page may show, and to whom. All borrowed. */
struct page {
    GString *html;
    const struct config *config;
    const char *form_token; /* of a session; NULL: there are no forms */
    GHashTable *query;      /* of the request */
    int64_t now_ms;
};

/* HERE is the path of the page, for the navigation; NULL: nobody is logged in. */
void page_begin(struct page *page, const char *title, const char *here);
/* API is the path of what the page shows as JSON, or NULL. */
void page_end(struct page *page, const char *api);
/* Does somebody want it to be loaded again and again? */
unsigned page_refresh_s(const struct page *page);
/* What a request asks for as NAME; borrowed, or NULL. */
const char *page_query(const struct page *page, const char *name);

/* "<h2>TITLE</h2>", in a section that the next one, or section_end(), ends. */
void section_begin(GString *html, const char *title);
void section_end(GString *html);
/* A paragraph that stands out: CLASS is "good", "warn", "bad" or "none". */
void notice(GString *html, const char *class, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* Why DOCUMENT is not new, or not there; nothing where all is well. WHAT: "The state of this site". */
void document_notice(const struct page *page, const struct document *document, const char *what);
void paragraph(GString *html, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* HEADERS is NULL-terminated; those that begin with '>' are flush right. LABEL says what it is to those who do not see it. */
void table_begin(GString *html, const char *label, const char *const *headers);
void table_end(GString *html);
void row_begin(GString *html);
void row_end(GString *html);
/* The first cell of a row, which names it; HREF may be NULL. */
void cell_name(GString *html, const char *text, const char *href);
/* NULL is a dash. */
void cell_text(GString *html, const char *text);
/* What may take several lines. */
void cell_long(GString *html, const char *text);
void cell_number(GString *html, const char *text);
void cell_state(GString *html, const char *state);
void cell_link(GString *html, const char *text, const char *href);
void cell_time(GString *html, const char *time);
void cell_seconds(GString *html, const json_t *json, const char *key);
void cell_bytes(GString *html, const json_t *json, const char *key);
void cell_integer(GString *html, const json_t *json, const char *key);

void tiles_begin(GString *html);
void tiles_end(GString *html);
/* STATE may be NULL. */
void tile(GString *html, const char *value, const char *state, const char *label);

/* A button that asks for JOB ("replicate", "verify", "test") of NAME (or NULL); nothing where that is not allowed. */
void action_button(const struct page *page, const char *job, const char *name, const char *text);

/* "/points/web%201"; g_free */
char *path_of(const char *folder, const char *name);
/* Of the points of VM in the store of SITE (NULL or "local": this one). g_free */
char *points_path(const char *vm, const char *site);
/* "3 min 10 s ago", "in 2 h", "now"; NULL stays NULL. g_free */
char *when_text(const char *time, int64_t now_ms);
