/* SPDX-License-Identifier: Apache-2.0 */
/* What was achieved of the RPOs, over time. */
#include "web/pages.h"

#include <string.h>

static const struct {
    unsigned kind;
    const char *path, *api, *name, *title;
} spans[] = {
    {DOCUMENT_RPO_DAY, "/rpo/day", "/api/rpo/day", "a day", "the last day"},
    {DOCUMENT_RPO_WEEK, "/rpo", "/api/rpo", "a week", "the last 7 days"},
    {DOCUMENT_RPO_MONTH, "/rpo/month", "/api/rpo/month", "a month", "the last 30 days"},
};

static void write_spans(GString *html, unsigned kind)
{
    g_string_append(html, "<nav class=\"spans\" aria-label=\"Time\"><ul>");
    for (unsigned i = 0; i < G_N_ELEMENTS(spans); i++)
        g_string_append_printf(html, "<li><a href=\"%s\"%s>%s</a></li>", spans[i].path,
                               spans[i].kind == kind ? " aria-current=\"page\"" : "",
                               spans[i].name);
    g_string_append(html, "</ul></nav>\n");
}

/* Of the whole time; what holds now is told elsewhere. */
static const char *state_of(const json_t *vm)
{
    if (!json_is_number(json_object_get(vm, "rpo_seconds")))
        return NULL;
    return json_array_size(json_object_get(vm, "violations")) > 0 ? "violated" : "ok";
}

static void write_row(GString *html, const json_t *vm)
{
    const json_t *kept = json_object_get(vm, "kept_percent");
    g_autofree char *percent =
        json_is_number(kept) ? g_strdup_printf("%.2f %%", json_number_value(kept)) : NULL;
    g_autofree char *over =
        g_strdup_printf("%zu", json_array_size(json_object_get(vm, "violations")));
    g_autofree char *href =
        points_path(json_get_string(vm, "vm"), json_get_string(vm, "destination"));

    row_begin(html);
    cell_name(html, json_get_string(vm, "vm"), href);
    cell_state(html, state_of(vm));
    cell_text(html, json_get_string(vm, "destination"));
    cell_seconds(html, vm, "rpo_seconds");
    cell_seconds(html, vm, "worst_seconds");
    cell_seconds(html, vm, "mean_seconds");
    cell_number(html, percent);
    cell_number(html, over);
    cell_integer(html, vm, "points");
    cell_bytes(html, vm, "bytes");
    row_end(html);
}

static void write_table(GString *html, const json_t *vms)
{
    static const char *const headers[] = {"VM",    "State", "To",      ">RPO",   ">Worst", ">Mean",
                                          ">Kept", ">Over", ">Points", ">Bytes", NULL};
    const json_t *vm;
    size_t i;

    section_begin(html, "How old the newest state became");
    table_begin(html, "How old the newest state of each VM became", headers);
    json_array_foreach(vms, i, vm) write_row(html, vm);
    table_end(html);
    section_end(html);
}

static void write_drawing(GString *html, const json_t *vm, int64_t from_ms, int64_t to_ms)
{
    const char *name = json_get_string(vm, "vm"), *to = json_get_string(vm, "destination");
    g_autofree char *svg = account_drawing(vm, from_ms, to_ms);
    g_autofree char *title = g_strdup_printf("%s to %s", name ? name : "?", to ? to : "?");

    g_string_append(html, "<h3>");
    html_text(html, title);
    g_string_append_printf(html, "</h3>\n<div class=\"scroll\" role=\"region\" tabindex=\"0\" "
                                 "aria-label=\"");
    html_text(html, title);
    g_string_append_printf(html, "\">%s</div>\n", svg);
}

static void write_drawings(GString *html, const json_t *rpo)
{
    const json_t *vm;
    size_t i;

    section_begin(html, "Over time");
    g_string_append(html,
                    "<p class=\"note\">A bar is how old the newest point was when the next one "
                    "was there; the dashed line is the RPO. What is over it is red, and "
                    "higher than the line.</p>\n");
    json_array_foreach(json_object_get(rpo, "vms"), i, vm)
        write_drawing(html, vm, json_get_time(rpo, "from"), json_get_time(rpo, "to"));
    section_end(html);
}

/* Points that were taken before this was kept are in no history. */
static void write_without(GString *html, const json_t *list)
{
    g_autoptr(GString) names = g_string_new(NULL);
    const json_t *vm;
    size_t i;

    json_array_foreach(list, i, vm)
    {
        const char *name = json_get_string(vm, "vm"), *to = json_get_string(vm, "destination");

        g_string_append_printf(names, "%s%s (to %s)", names->len ? ", " : "", name ? name : "?",
                               to ? to : "?");
    }
    if (names->len)
        notice(html, "warn", "Protected, but no point is known of in this time: %s", names->str);
}

void page_rpo(struct page *page, const struct papers *papers)
{
    GString *html = page->html;
    unsigned span = 0;

    while (span + 1 < G_N_ELEMENTS(spans) && spans[span].kind != papers->rpo_kind)
        span++;
    page_begin(page, "RPO", "/rpo");
    g_string_append_printf(html, "<h1>RPO of %s</h1>\n", spans[span].title);
    write_spans(html, spans[span].kind);
    document_notice(page, &papers->documents[papers->rpo_kind], "What was achieved");
    write_without(html, json_object_get(papers->rpo, "without_points"));
    if (json_array_size(json_object_get(papers->rpo, "vms")) > 0) {
        write_table(html, json_object_get(papers->rpo, "vms"));
        write_drawings(html, papers->rpo);
    } else if (papers->rpo) {
        paragraph(html, "No point was taken from here in this time.");
    }
    page_end(page, spans[span].api);
}
