/* SPDX-License-Identifier: Apache-2.0 */
/* The report of a run as one HTML file. */
#include "metadata/report-private.h"

#include <inttypes.h>
#include <string.h>

/* One report being written. */
struct page {
    GString *html;
    const json_t *report;
    const struct report_picture *pictures;
    size_t n_pictures;
};

/* ---- Words */

void html_text(GString *html, const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text ? text : "", -1);
    g_autofree char *escaped = NULL;

    /* There is no way to write control characters in HTML, and nothing to see. */
    for (char *c = valid; *c; c++)
        if (g_ascii_iscntrl(*c))
            *c = ' ';
    /* Nor what is no character at all, U+FFFE and U+FFFF. */
    for (char *c = valid; (c = strstr(c, "\xef\xbf")); c += 3)
        if ((unsigned char)c[2] >= 0xbe)
            memset(c, ' ', 3);
    escaped = g_markup_escape_text(valid, -1);
    g_string_append(html, escaped);
}

static bool is_in(const char *text, const char *const *list)
{
    return text && g_strv_contains(list, text);
}

const char *html_state_class(const char *state)
{
    static const char *const good[] = {"done", "undone", "ok", "passed", NULL};
    static const char *const bad[] = {"failed",   "partially-failed", "undo-failed", "interrupted",
                                      "violated", "critical",         "damaged",     "stale",
                                      NULL};
    static const char *const warn[] = {"at risk", "warning", "unproven", "no point yet",
                                       "overdue", "expired", NULL};
    static const char *const none[] = {
        "waiting",     "not-executed",  "skipped",   "cancelled", "not verified",
        "not checked", "not asked yet", "held here", "unknown",   NULL};

    if (!state || is_in(state, none))
        return "none";
    if (is_in(state, good))
        return "good";
    if (is_in(state, warn))
        return "warn";
    return is_in(state, bad) ? "bad" : "busy";
}

void html_state(GString *html, const char *state)
{
    g_string_append_printf(html, "<span class=\"state %s\">", html_state_class(state));
    html_text(html, state ? state : "unknown");
    g_string_append(html, "</span>");
}

char *html_seconds(const json_t *json, const char *key)
{
    const json_t *seconds = json_object_get(json, key);

    return json_is_number(seconds) ? duration_format(json_number_value(seconds)) : g_strdup("–");
}

char *html_time(const char *time)
{
    int64_t ms;
    g_autoptr(GDateTime) instant = NULL;

    if (!time || !time_parse(time, &ms, NULL))
        return g_strdup("–");
    instant = g_date_time_new_from_unix_utc(ms / 1000);
    return g_date_time_format(instant, "%Y-%m-%d %H:%M:%S UTC");
}

/* ---- Head and summary */

/* Should anything of a guest's text ever get through as markup, it could still load and run nothing. */
#define HEAD                                                                                       \
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"                      \
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "        \
    "'unsafe-inline'; img-src data:\">\n"                                                          \
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>"

void html_head(GString *html, const char *title)
{
    g_string_append(html, HEAD);
    html_text(html, title);
    g_string_append_printf(html, "</title>\n<style>\n%s</style>\n</head>\n<body>\n", html_style);
}

void html_foot(GString *html)
{
    g_autofree char *now_text = time_format(time_now_ms());
    g_autofree char *now = html_time(now_text);

    g_string_append_printf(html, "<footer>drctl %s, written %s</footer>\n</body>\n</html>\n",
                           DRCTL_VERSION, now);
}

static void write_head(struct page *page)
{
    const json_t *report = page->report;
    const char *kind = json_get_string(report, "kind"), *title = json_get_string(report, "title");
    const char *state = json_get_string(report, "state");
    g_autofree char *text =
        g_strdup_printf("%s of %s: %s", kind ? kind : "", title ? title : "", state ? state : "");

    html_head(page->html, text);
}

static void write_header(struct page *page)
{
    const json_t *report = page->report;
    const char *from = json_get_string(json_object_get(report, "plan"), "site");
    g_autofree char *started = html_time(json_get_string(report, "started"));
    g_autofree char *took = html_seconds(report, "seconds");
    GString *html = page->html;

    g_string_append(html, "<header>\n<p class=\"kind\">");
    html_text(html, json_get_string(report, "kind"));
    g_string_append(html, " report</p>\n<h1>");
    html_text(html, json_get_string(report, "title"));
    g_string_append_c(html, ' ');
    html_state(html, json_get_string(report, "state"));
    g_string_append(html, "</h1>\n<p class=\"sub\">Run ");
    html_text(html, json_get_string(report, "run"));
    g_string_append(html, " on ");
    html_text(html, json_get_string(report, "host"));
    if (from) {
        g_string_append(html, ", VMs of site ");
        html_text(html, from);
    }
    g_string_append_printf(html, "<br/>Started %s, took %s</p>\n</header>\n", started, took);
}

static void write_tile(struct page *page, const char *value, const char *label)
{
    g_string_append(page->html, "<li><b>");
    html_text(page->html, value);
    g_string_append_printf(page->html, "</b><span>%s</span></li>\n", label);
}

static void count_vms(const json_t *report, unsigned *done, unsigned *all)
{
    const json_t *vm;
    size_t i;

    *done = *all = 0;
    json_array_foreach(json_object_get(report, "vms"), i, vm)
    {
        *done += g_strcmp0(json_get_string(vm, "state"), "done") == 0;
        ++*all;
    }
}

static void write_summary(struct page *page)
{
    const json_t *result = json_object_get(page->report, "result");
    const char *verdict = json_get_string(result, "verdict");
    g_autofree char *rto = html_seconds(result, "rto_seconds");
    g_autofree char *rpo = html_seconds(page->report, "rpo_seconds");
    uint64_t executed = 0, not_executed = 0;
    g_autofree char *vms = NULL;
    g_autofree char *steps = NULL;
    unsigned done, all;

    count_vms(page->report, &done, &all);
    json_need_u64(page->report, "executed", &executed, NULL);
    json_need_u64(page->report, "not_executed", &not_executed, NULL);
    vms = g_strdup_printf("%u of %u", done, all);
    steps = g_strdup_printf("%" PRIu64 " of %" PRIu64, executed, executed + not_executed);
    g_string_append(page->html, "<ul class=\"tiles\">\n");
    write_tile(page, rto, "RTO: from the start until the last VM was ready");
    write_tile(page, rpo, "RPO: from the oldest point used to the start");
    write_tile(page, vms, "VMs done");
    write_tile(page, steps, "steps executed");
    g_string_append(page->html, "</ul>\n");
    if (!verdict)
        return;
    g_string_append(page->html, "<p class=\"verdict\">");
    html_text(page->html, verdict);
    g_string_append(page->html, "</p>\n");
}

/* ---- A VM */

static void write_fact(struct page *page, const char *what, const char *value)
{
    if (!value)
        return;
    g_string_append_printf(page->html, "<dt>%s</dt><dd>", what);
    html_text(page->html, value);
    g_string_append(page->html, "</dd>\n");
}

static void write_facts(struct page *page, const json_t *vm)
{
    const char *point = json_get_string(vm, "point");
    const char *consistency = json_get_string(vm, "consistency");
    g_autofree char *from = point ? g_strdup_printf("%s%s%s", point, consistency ? ", " : "",
                                                    consistency ? consistency : "")
                                  : NULL;
    g_autofree char *rto = html_seconds(vm, "rto_seconds");
    g_autofree char *rpo = html_seconds(vm, "rpo_seconds");

    g_string_append(page->html, "<dl>\n");
    write_fact(page, "Ready after",
               json_is_number(json_object_get(vm, "rto_seconds")) ? rto : NULL);
    write_fact(page, "Lost", json_is_number(json_object_get(vm, "rpo_seconds")) ? rpo : NULL);
    write_fact(page, "Recovery point", from);
    write_fact(page, "Host", json_get_string(vm, "host"));
    write_fact(page, "Problem", json_get_string(vm, "error"));
    g_string_append(page->html, "</dl>\n");
}

static void write_findings(struct page *page, const json_t *vm)
{
    const json_t *findings = json_object_get(vm, "findings"), *finding;
    size_t i;

    if (json_array_size(findings) == 0)
        return;
    g_string_append(page->html, "<p class=\"note\">Found when it was planned:</p>\n"
                                "<ul class=\"findings\">\n");
    json_array_foreach(findings, i, finding)
    {
        g_string_append(page->html, "<li>");
        html_text(page->html, json_string_value(finding));
        g_string_append(page->html, "</li>\n");
    }
    g_string_append(page->html, "</ul>\n");
}

static void write_evidence(struct page *page, const json_t *vm)
{
    const json_t *evidence = json_object_get(vm, "evidence"), *piece;
    size_t i;

    if (json_array_size(evidence) == 0)
        return;
    g_string_append(page->html, "<div class=\"scroll\"><table aria-label=\"Evidence\">\n"
                                "<tr><th>Evidence</th><th>Value</th><th>Result</th></tr>\n");
    json_array_foreach(evidence, i, piece)
    {
        const json_t *ok = json_object_get(piece, "ok");

        g_string_append(page->html, "<tr><td>");
        html_text(page->html, json_get_string(piece, "what"));
        g_string_append(page->html, "</td><td>");
        html_text(page->html, json_get_string(piece, "value"));
        g_string_append_printf(page->html, "</td><td class=\"%s\">%s</td></tr>\n",
                               json_is_false(ok) ? "bad" : "good",
                               json_is_boolean(ok) ? json_is_true(ok) ? "passed" : "failed" : "");
    }
    g_string_append(page->html, "</table></div>\n");
}

static void write_step(struct page *page, const json_t *step)
{
    const char *started = json_get_string(step, "started");
    const char *ended = json_get_string(step, "ended");
    int64_t from_ms = 0, to_ms = 0;
    bool both =
        started && ended && time_parse(started, &from_ms, NULL) && time_parse(ended, &to_ms, NULL);
    g_autofree char *took =
        both ? duration_format((double)(to_ms - from_ms) / 1000) : g_strdup("–");
    g_autofree char *when = html_time(started);

    g_string_append(page->html, "<tr><td>");
    html_text(page->html, json_get_string(step, "step"));
    g_string_append(page->html, "</td><td>");
    html_state(page->html, json_get_string(step, "state"));
    g_string_append_printf(page->html, "</td><td>%s</td><td class=\"num\">%s</td><td>", when, took);
    html_text(page->html, json_get_string(step, "error"));
    g_string_append(page->html, "</td></tr>\n");
}

static void write_steps(struct page *page, const json_t *vm)
{
    const json_t *steps = json_object_get(vm, "steps"), *step;
    size_t i;

    if (json_array_size(steps) == 0)
        return;
    g_string_append(
        page->html,
        "<div class=\"scroll\"><table "
        "class=\"steps\" aria-label=\"Steps\">\n<tr><th>Step</th><th>State</th><th>Started</th>"
        "<th class=\"num\">Took</th><th>Problem</th></tr>\n");
    json_array_foreach(steps, i, step) write_step(page, step);
    g_string_append(page->html, "</table></div>\n");
}

void html_picture(GString *html, const struct report_picture *picture)
{
    g_autofree char *data = picture->place ? NULL : g_base64_encode(picture->data, picture->len);

    g_string_append(html, "<figure>");
    if (picture->data || picture->place) {
        g_string_append(html, data ? "<img src=\"data:" : "<img src=\"");
        html_text(html, data ? picture->type : picture->place);
        g_string_append_printf(html, "%s%s\" alt=\"", data ? ";base64," : "", data ? data : "");
        html_text(html, picture->caption);
        g_string_append(html, "\"/>");
    }
    g_string_append(html, "<figcaption>");
    html_text(html, picture->caption);
    g_string_append(
        html, picture->data || picture->place ? "" : " (the picture cannot be read any more)");
    g_string_append(html, "</figcaption></figure>\n");
}

/* Those of VM; NULL: of the run. */
static void write_pictures(struct page *page, const char *vm)
{
    bool begun = false;

    for (size_t i = 0; i < page->n_pictures; i++) {
        if (g_strcmp0(page->pictures[i].vm, vm) != 0)
            continue;
        if (!begun)
            g_string_append(page->html, "<div class=\"pictures\">\n");
        begun = true;
        html_picture(page->html, &page->pictures[i]);
    }
    if (begun)
        g_string_append(page->html, "</div>\n");
}

static void write_vm(struct page *page, const json_t *vm)
{
    const char *name = json_get_string(vm, "vm");

    g_string_append(page->html, "<article>\n<h3>");
    html_text(page->html, name);
    g_string_append_c(page->html, ' ');
    html_state(page->html, json_get_string(vm, "state"));
    g_string_append(page->html, "</h3>\n");
    write_facts(page, vm);
    write_findings(page, vm);
    write_evidence(page, vm);
    write_steps(page, vm);
    write_pictures(page, name);
    g_string_append(page->html, "</article>\n");
}

/* ---- All of it */

void run_report_body(GString *html, const json_t *report, const struct report_picture *pictures,
                     size_t n_pictures)
{
    struct page page = {html, report, pictures, n_pictures};
    const json_t *vms = json_object_get(report, "vms"), *vm;
    size_t i;

    write_header(&page);
    write_summary(&page);
    write_pictures(&page, NULL);
    if (json_array_size(vms) == 0)
        return;
    g_string_append(html, "<section>\n<h2>Timeline</h2>\n");
    html_timeline(html, report);
    g_string_append(html, "</section>\n<section>\n<h2>VMs</h2>\n");
    json_array_foreach(vms, i, vm) write_vm(&page, vm);
    g_string_append(html, "</section>\n");
}

char *run_report_html(const json_t *run, const struct report_picture *pictures, size_t n_pictures)
{
    json_auto_t *report = run_report(run);
    struct page page = {
        .html = g_string_new(NULL),
        .report = report,
        .pictures = pictures,
        .n_pictures = n_pictures,
    };

    write_head(&page);
    run_report_body(page.html, report, pictures, n_pictures);
    html_foot(page.html);
    return g_string_free(page.html, FALSE);
}
