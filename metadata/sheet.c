/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata/sheet.h"

#include <string.h>

#include "metadata/report-private.h"

#define PLAIN_WIDTH 96
#define CELL_WIDTH_MAX 60

struct sheet {
    GString *plain, *html;
    char *title;
    char **headers;  /* of the table that is being written, or NULL */
    GPtrArray *rows; /* of char **, as many as HEADERS */
};

static void free_row(void *row)
{
    g_strfreev(row);
}

/* ---- Plain text */

/* Without what a terminal would act on. */
static char *harmless(const char *text)
{
    return text_harmless(text ? text : "", G_MAXSIZE);
}

static void plain_wrapped(GString *plain, const char *text)
{
    g_autofree char *safe = harmless(text);
    g_auto(GStrv) words = g_strsplit(safe, " ", -1);
    size_t column = 0;

    for (char **word = words; *word; word++) {
        size_t len = (size_t)g_utf8_strlen(*word, -1);

        if (column > 0 && column + 1 + len > PLAIN_WIDTH) {
            g_string_append_c(plain, '\n');
            column = 0;
        }
        g_string_append_printf(plain, "%s%s", column ? " " : "", *word);
        column += len + (column > 0);
    }
    g_string_append_c(plain, '\n');
}

static void plain_heading(GString *plain, const char *title, char line)
{
    g_autofree char *safe = harmless(title);
    g_autofree char *rule = g_strnfill((size_t)g_utf8_strlen(safe, -1), line);

    g_string_append_printf(plain, "\n%s\n%s\n", safe, rule);
}

/* ---- Tables */

static void widen(size_t *widths, char *const *cells)
{
    for (; *cells; cells++, widths++)
        *widths = CLAMP((size_t)g_utf8_strlen(*cells, -1), *widths, CELL_WIDTH_MAX);
}

static void plain_row(const struct sheet *self, char *const *cells, const size_t *widths)
{
    g_autoptr(GString) line = g_string_new(NULL);

    for (unsigned i = 0; cells[i]; i++) {
        size_t len = (size_t)g_utf8_strlen(cells[i], -1);

        g_string_append(line, cells[i]);
        for (; cells[i + 1] && len < widths[i] + 2; len++)
            g_string_append_c(line, ' ');
    }
    g_string_append_printf(self->plain, "%s\n", g_strchomp(line->str));
}

static void html_row(const struct sheet *self, char *const *cells, const char *tag)
{
    g_string_append(self->html, "<tr>");
    for (; *cells; cells++) {
        g_string_append_printf(self->html, "<%s>", tag);
        html_text(self->html, *cells);
        g_string_append_printf(self->html, "</%s>", tag);
    }
    g_string_append(self->html, "</tr>\n");
}

/* Only then it is known how wide its columns are. */
static void end_table(struct sheet *self)
{
    g_autofree size_t *widths = NULL;

    if (!self->headers)
        return;
    widths = g_new0(size_t, g_strv_length(self->headers));
    widen(widths, self->headers);
    for (unsigned i = 0; i < self->rows->len; i++)
        widen(widths, self->rows->pdata[i]);
    g_string_append_c(self->plain, '\n');
    plain_row(self, self->headers, widths);
    g_string_append(self->html, "<div class=\"scroll\"><table>\n");
    html_row(self, self->headers, "th");
    for (unsigned i = 0; i < self->rows->len; i++) {
        plain_row(self, self->rows->pdata[i], widths);
        html_row(self, self->rows->pdata[i], "td");
    }
    g_string_append(self->html, "</table></div>\n");
    g_clear_pointer(&self->headers, g_strfreev);
    g_ptr_array_set_size(self->rows, 0);
}

void sheet_table(struct sheet *self, const char *const *headers)
{
    end_table(self);
    self->headers = g_strdupv((char **)headers);
}

void sheet_row(struct sheet *self, const char *const *cells)
{
    unsigned n = g_strv_length(self->headers);
    char **row = g_new0(char *, n + 1);

    for (unsigned i = 0; i < n; i++)
        row[i] = harmless(cells[i]);
    g_ptr_array_add(self->rows, row);
}

/* ---- The rest */

struct sheet *sheet_new(const char *kind, const char *title, const char *note)
{
    struct sheet *self = g_new0(struct sheet, 1);

    self->plain = g_string_new(NULL);
    self->html = g_string_new(NULL);
    self->rows = g_ptr_array_new_with_free_func(free_row);
    self->title = g_strdup_printf("%s: %s", kind, title);
    plain_wrapped(self->plain, self->title);
    g_string_append(self->html, "<header>\n<p class=\"kind\">");
    html_text(self->html, kind);
    g_string_append(self->html, "</p>\n<h1>");
    html_text(self->html, title);
    g_string_append(self->html, "</h1>\n");
    if (note) {
        plain_wrapped(self->plain, note);
        g_string_append(self->html, "<p class=\"sub\">");
        html_text(self->html, note);
        g_string_append(self->html, "</p>\n");
    }
    g_string_append(self->html, "</header>\n");
    return self;
}

void sheet_free(struct sheet *self)
{
    if (!self)
        return;
    g_string_free(self->plain, TRUE);
    g_string_free(self->html, TRUE);
    g_strfreev(self->headers);
    g_ptr_array_unref(self->rows);
    g_free(self->title);
    g_free(self);
}

static void heading(struct sheet *self, const char *title, char line, const char *tag)
{
    end_table(self);
    plain_heading(self->plain, title, line);
    g_string_append_printf(self->html, "<%s>", tag);
    html_text(self->html, title);
    g_string_append_printf(self->html, "</%s>\n", tag);
}

void sheet_section(struct sheet *self, const char *title)
{
    heading(self, title, '=', "h2");
}

void sheet_part(struct sheet *self, const char *title)
{
    heading(self, title, '-', "h3");
}

void sheet_paragraph(struct sheet *self, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    end_table(self);
    g_string_append_c(self->plain, '\n');
    plain_wrapped(self->plain, text);
    g_string_append(self->html, "<p>");
    html_text(self->html, text);
    g_string_append(self->html, "</p>\n");
}

void sheet_block(struct sheet *self, const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    end_table(self);
    g_string_append_c(self->plain, '\n');
    g_string_append(self->html, "<pre>");
    for (char **line = lines; *line; line++) {
        g_autofree char *safe = harmless(*line);

        if (!line[1] && !*safe)
            break;
        g_string_append_printf(self->plain, "    %s\n", safe);
        html_text(self->html, safe);
        g_string_append_c(self->html, '\n');
    }
    g_string_append(self->html, "</pre>\n");
}

void sheet_drawing(struct sheet *self, const char *svg)
{
    end_table(self);
    g_string_append_printf(self->html, "<div class=\"scroll\">%s</div>\n", svg);
}

void sheet_picture(struct sheet *self, const struct report_picture *picture)
{
    end_table(self);
    html_picture(self->html, picture);
}

char *sheet_plain(struct sheet *self)
{
    end_table(self);
    return g_strdup(self->plain->str);
}

char *sheet_html(struct sheet *self)
{
    GString *page = g_string_new(NULL);

    end_table(self);
    html_head(page, self->title);
    g_string_append(page, self->html->str);
    html_foot(page);
    return g_string_free(page, FALSE);
}
