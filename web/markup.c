/* SPDX-License-Identifier: Apache-2.0 */
#include "web/markup.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define REFRESH_MIN_S 5
#define REFRESH_MAX_S 3600
#define REFRESH_S "30"

static const struct {
    const char *path, *name;
} places[] = {
    {"/", "Overview"}, {"/vapps", "vApps"}, {"/rpo", "RPO"},
    {"/vms", "VMs"},   {"/jobs", "Jobs"},   {"/runs", "Runs"},
};

/* --- the frame -------------------------------------------------------------------------------- */

const char *page_query(const struct page *page, const char *name)
{
    return page->query ? g_hash_table_lookup(page->query, name) : NULL;
}

unsigned page_refresh_s(const struct page *page)
{
    const char *text = page_query(page, "refresh");
    uint64_t seconds;

    return text && g_ascii_string_to_unsigned(text, 10, REFRESH_MIN_S, REFRESH_MAX_S, &seconds,
                                              NULL)
               ? (unsigned)seconds
               : 0;
}

static void write_navigation(struct page *page, const char *here)
{
    GString *html = page->html;

    g_string_append(html, "<nav aria-label=\"Pages\"><ul>");
    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++)
        g_string_append_printf(html, "<li><a href=\"%s\"%s>%s</a></li>", places[i].path,
                               g_str_equal(places[i].path, here) ? " aria-current=\"page\"" : "",
                               places[i].name);
    g_string_append(html, "</ul></nav>\n");
    if (page->form_token)
        g_string_append_printf(html,
                               "<form method=\"post\" action=\"/logout\"><input type=\"hidden\" "
                               "name=\"form\" value=\"%s\"/><button class=\"quiet\">Log "
                               "out</button></form>\n",
                               page->form_token);
}

void page_begin(struct page *page, const char *title, const char *here)
{
    GString *html = page->html;
    unsigned refresh_s = page_refresh_s(page);

    g_string_append(html, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
                          "<meta name=\"viewport\" content=\"width=device-width, "
                          "initial-scale=1\"/>\n");
    if (refresh_s && here)
        g_string_append_printf(html, "<meta http-equiv=\"refresh\" content=\"%u\"/>\n", refresh_s);
    g_string_append(html, "<title>");
    html_text(html, title);
    g_string_append(html, " - ");
    html_text(html, page->config->site);
    g_string_append(html, " - drctl</title>\n<link rel=\"stylesheet\" href=\"/style.css\"/>\n"
                          "<link rel=\"icon\" type=\"image/svg+xml\" href=\"/icon.svg\"/>\n"
                          "</head>\n<body class=\"web\">\n<a class=\"skip\" href=\"#main\">Skip to "
                          "the content</a>\n<header class=\"top\"><p class=\"brand\">drctl <b>");
    html_text(html, page->config->site);
    g_string_append(html, "</b></p>\n");
    if (here)
        write_navigation(page, here);
    g_string_append(html, "</header>\n<main id=\"main\" tabindex=\"-1\">\n");
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* What was asked for, with another REFRESH (NULL: none); g_free. */
static char *query_with(const struct page *page, const char *refresh)
{
    g_autofree char **names =
        page->query ? (char **)g_hash_table_get_keys_as_array(page->query, NULL) : NULL;
    GString *query = g_string_new("?");

    if (names)
        qsort(names, g_strv_length(names), sizeof(*names), compare_names);
    for (char **name = names; name && *name; name++) {
        const char *value = page_query(page, *name);

        if (g_str_equal(*name, "refresh") || !value)
            continue;
        g_string_append_uri_escaped(query, *name, NULL, FALSE);
        g_string_append_c(query, '=');
        g_string_append_uri_escaped(query, value, NULL, FALSE);
        g_string_append_c(query, '&');
    }
    if (refresh)
        g_string_append_printf(query, "refresh=%s", refresh);
    else
        g_string_truncate(query, query->len - (query->len > 1));
    return g_string_free(query, FALSE);
}

/* A page that changes by itself takes the place away from who reads it: only for whoever wants that. */
static void write_refresh(struct page *page)
{
    unsigned refresh_s = page_refresh_s(page);
    g_autofree char *query = query_with(page, refresh_s ? NULL : REFRESH_S);

    if (refresh_s)
        g_string_append_printf(page->html, " &#183; loaded anew every %u s, ", refresh_s);
    else
        g_string_append(page->html, " &#183; ");
    g_string_append(page->html, "<a href=\"");
    html_text(page->html, query);
    g_string_append_printf(page->html, "\">%s</a>",
                           refresh_s ? "stop that" : "load anew every " REFRESH_S " s");
}

void page_end(struct page *page, const char *api)
{
    GString *html = page->html;
    g_autofree char *now_text = time_format(page->now_ms);
    g_autofree char *now = html_time(now_text);

    g_string_append_printf(html, "</main>\n<footer><p>drctl %s &#183; %s", DRCTL_VERSION, now);
    if (api) {
        write_refresh(page);
        g_string_append(html, " &#183; <a href=\"");
        html_text(html, api);
        g_string_append_printf(html, "\">as JSON</a> &#183; <a href=\"/metrics\">metrics</a>%s",
                               page->config->web.actions ? "" : " &#183; read-only");
    }
    g_string_append(html, "</p></footer>\n</body>\n</html>\n");
}

/* --- text ------------------------------------------------------------------------------------- */

void section_begin(GString *html, const char *title)
{
    g_string_append(html, "<section>\n<h2>");
    html_text(html, title);
    g_string_append(html, "</h2>\n");
}

void section_end(GString *html)
{
    g_string_append(html, "</section>\n");
}

G_GNUC_PRINTF(2, 0) static void append_format(GString *html, const char *format, va_list args)
{
    g_autofree char *text = g_strdup_vprintf(format, args);

    html_text(html, text);
}

void paragraph(GString *html, const char *format, ...)
{
    va_list args;

    g_string_append(html, "<p>");
    va_start(args, format);
    append_format(html, format, args);
    va_end(args);
    g_string_append(html, "</p>\n");
}

void notice(GString *html, const char *class, const char *format, ...)
{
    va_list args;

    g_string_append_printf(html, "<p class=\"notice %s\" role=\"%s\">", class,
                           g_str_equal(class, "bad") ? "alert" : "status");
    va_start(args, format);
    append_format(html, format, args);
    va_end(args);
    g_string_append(html, "</p>\n");
}

void document_notice(const struct page *page, const struct document *document, const char *what)
{
    g_autofree char *age = duration_format((double)(page->now_ms - document->made_ms) / 1000);

    if (!document->error)
        return;
    if (document->current)
        notice(page->html, "warn", "%s is not whole: %s", what, document->error);
    else if (document->text)
        notice(page->html, "bad", "%s is that of %s ago: %s", what, age, document->error);
    else
        notice(page->html, "bad", "%s is not known: %s", what, document->error);
}

/* --- tables ----------------------------------------------------------------------------------- */

void table_begin(GString *html, const char *label, const char *const *headers)
{
    g_string_append(html, "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"");
    html_text(html, label);
    g_string_append(html, "\"><table>\n<caption class=\"unseen\">");
    html_text(html, label);
    g_string_append(html, "</caption>\n<thead><tr>");
    for (; *headers; headers++) {
        bool right = **headers == '>';

        g_string_append_printf(html, "<th scope=\"col\"%s>", right ? " class=\"num\"" : "");
        html_text(html, *headers + right);
        g_string_append(html, "</th>");
    }
    g_string_append(html, "</tr></thead>\n<tbody>\n");
}

void table_end(GString *html)
{
    g_string_append(html, "</tbody></table></div>\n");
}

void row_begin(GString *html)
{
    g_string_append(html, "<tr>");
}

void row_end(GString *html)
{
    g_string_append(html, "</tr>\n");
}

static void append_link(GString *html, const char *text, const char *href)
{
    if (href) {
        g_string_append(html, "<a href=\"");
        html_text(html, href);
        g_string_append(html, "\">");
    }
    html_text(html, text && *text ? text : "–");
    if (href)
        g_string_append(html, "</a>");
}

void cell_name(GString *html, const char *text, const char *href)
{
    g_string_append(html, "<th scope=\"row\">");
    append_link(html, text, href);
    g_string_append(html, "</th>");
}

void cell_link(GString *html, const char *text, const char *href)
{
    g_string_append(html, "<td>");
    append_link(html, text, href);
    g_string_append(html, "</td>");
}

void cell_text(GString *html, const char *text)
{
    cell_link(html, text, NULL);
}

void cell_long(GString *html, const char *text)
{
    g_string_append(html, "<td class=\"long\">");
    append_link(html, text, NULL);
    g_string_append(html, "</td>");
}

void cell_number(GString *html, const char *text)
{
    g_string_append(html, "<td class=\"num\">");
    append_link(html, text, NULL);
    g_string_append(html, "</td>");
}

void cell_state(GString *html, const char *state)
{
    g_string_append(html, "<td>");
    if (state)
        html_state(html, state);
    else
        g_string_append(html, "–");
    g_string_append(html, "</td>");
}

void cell_time(GString *html, const char *time)
{
    g_autofree char *text = html_time(time);

    g_string_append(html, "<td class=\"when\">");
    html_text(html, text);
    g_string_append(html, "</td>");
}

void cell_seconds(GString *html, const json_t *json, const char *key)
{
    g_autofree char *text = html_seconds(json, key);

    cell_number(html, text);
}

void cell_bytes(GString *html, const json_t *json, const char *key)
{
    const json_t *bytes = json_object_get(json, key);
    g_autofree char *text =
        json_is_integer(bytes) ? bytes_format((uint64_t)json_integer_value(bytes)) : NULL;

    cell_number(html, text);
}

void cell_integer(GString *html, const json_t *json, const char *key)
{
    const json_t *number = json_object_get(json, key);
    g_autofree char *text = json_is_integer(number)
                                ? g_strdup_printf("%" PRId64, (int64_t)json_integer_value(number))
                                : NULL;

    cell_number(html, text);
}

/* --- figures and forms ------------------------------------------------------------------------ */

void tiles_begin(GString *html)
{
    g_string_append(html, "<ul class=\"tiles\">\n");
}

void tiles_end(GString *html)
{
    g_string_append(html, "</ul>\n");
}

void tile(GString *html, const char *value, const char *state, const char *label)
{
    g_string_append(html, "<li><b>");
    html_text(html, value);
    g_string_append(html, "</b>");
    if (state)
        html_state(html, state);
    g_string_append(html, "<span>");
    html_text(html, label);
    g_string_append(html, "</span></li>\n");
}

static void hidden_field(GString *html, const char *name, const char *value)
{
    g_string_append_printf(html, "<input type=\"hidden\" name=\"%s\" value=\"", name);
    html_text(html, value);
    g_string_append(html, "\"/>");
}

void action_button(const struct page *page, const char *job, const char *name, const char *text)
{
    GString *html = page->html;

    if (!page->config->web.actions || !page->form_token)
        return;
    g_string_append_printf(html, "<form method=\"post\" action=\"/do/%s\" class=\"action\">", job);
    hidden_field(html, "form", page->form_token);
    if (name)
        hidden_field(html, "name", name);
    g_string_append(html, "<button>");
    html_text(html, text);
    g_string_append(html, "</button></form>\n");
}

char *path_of(const char *folder, const char *name)
{
    g_autofree char *escaped = g_uri_escape_string(name ? name : "", NULL, FALSE);

    return g_strconcat(folder, "/", escaped, NULL);
}

char *points_path(const char *vm, const char *site)
{
    g_autofree char *path = path_of("/points", vm);
    g_autofree char *escaped = site ? g_uri_escape_string(site, NULL, FALSE) : NULL;

    if (!site || g_str_equal(site, "local"))
        return g_steal_pointer(&path);
    return g_strconcat(path, "?at=", escaped, NULL);
}

char *when_text(const char *time, int64_t now_ms)
{
    g_autofree char *text = NULL;
    int64_t ms;

    if (!time || !time_parse(time, &ms, NULL))
        return NULL;
    text = duration_format((double)ABS(now_ms - ms) / 1000);
    if (ABS(now_ms - ms) < 1000)
        return g_strdup("now");
    return ms > now_ms ? g_strconcat("in ", text, NULL) : g_strconcat(text, " ago", NULL);
}
