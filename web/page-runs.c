/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs and runs, and what is not there. */
#include "web/pages.h"

#include <string.h>

/* --- jobs ------------------------------------------------------------------------------------- */

static const char *state_of_job(const json_t *job)
{
    if (json_is_true(json_object_get(job, "running")))
        return "running";
    if (json_integer_value(json_object_get(job, "failures")) > 0)
        return "failed";
    return json_get_string(job, "ended") ? "ok" : "waiting";
}

static void write_job(struct page *page, const json_t *job)
{
    GString *html = page->html;
    int64_t due_ms = json_get_time(job, "due");
    bool runs = json_is_true(json_object_get(job, "running"));
    g_autofree char *due = runs ? g_strdup("at work")
                           : due_ms && due_ms <= page->now_ms
                               ? g_strdup("now")
                               : when_text(json_get_string(job, "due"), page->now_ms);
    g_autofree char *started = when_text(json_get_string(job, "started"), page->now_ms);

    row_begin(html);
    cell_name(html, json_get_string(job, "job"), NULL);
    cell_state(html, state_of_job(job));
    cell_text(html, due ? due : "not by itself");
    cell_text(html, json_get_string(job, "why"));
    cell_text(html, started);
    cell_integer(html, job, "failures");
    cell_long(html, json_get_string(job, "error"));
    row_end(html);
}

void jobs_table(struct page *page, const json_t *schedule, const char *label, size_t some)
{
    static const char *const headers[] = {"Job",  "State",     "Next",    "Why",
                                          "Last", ">Failures", "Problem", NULL};
    const json_t *job;
    size_t i;

    if (json_array_size(schedule) == 0) {
        paragraph(page->html, schedule ? "There is nothing to be done." : "They are not known.");
        return;
    }
    table_begin(page->html, label, headers);
    json_array_foreach(schedule, i, job) if (!some || i < some) write_job(page, job);
    table_end(page->html);
}

static void write_actions(struct page *page, const struct papers *papers)
{
    const GPtrArray *protections = page->config->protections;
    const json_t *plan;
    size_t i;

    if (!page->config->web.actions || !page->form_token)
        return;
    section_begin(page->html, "Do it now");
    g_string_append(page->html, "<div class=\"actions\">\n");
    for (unsigned k = 0; k < protections->len; k++) {
        const struct protection *protection = protections->pdata[k];
        g_autofree char *text = g_strdup_printf("Take points of %s", protection->name);

        action_button(page, "replicate", protection->name, text);
    }
    json_array_foreach(papers->plans, i, plan)
    {
        const char *name = json_get_string(plan, "plan");
        g_autofree char *text = g_strdup_printf("Test the failover of %s", name ? name : "?");

        action_button(page, "test", name, text);
    }
    action_button(page, "verify", NULL, "Verify the points here");
    g_string_append(page->html, "</div>\n");
    section_end(page->html);
}

void page_jobs(struct page *page, const struct papers *papers)
{
    const char *asked = page_query(page, "asked");

    page_begin(page, "Jobs", "/jobs");
    g_string_append(page->html, "<h1>Jobs of the daemon</h1>\n");
    document_notice(page, &papers->documents[DOCUMENT_SCHEDULE], "The list of jobs");
    if (asked)
        notice(page->html, "none",
               "%s was asked for. It begins as soon as there is room for it, and is then among the "
               "runs.",
               asked);
    jobs_table(page, papers->schedule, "All jobs, what is due first comes first", 0);
    write_actions(page, papers);
    page_end(page, "/api/schedule");
}

/* --- runs ------------------------------------------------------------------------------------- */

static void write_run(struct page *page, const json_t *run)
{
    GString *html = page->html;
    const char *id = json_get_string(run, "run");
    int64_t started_ms = json_get_time(run, "started"), ended_ms = json_get_time(run, "ended");
    g_autofree char *took =
        started_ms && ended_ms ? duration_format((double)(ended_ms - started_ms) / 1000) : NULL;
    g_autofree char *href = path_of("/runs", id);

    row_begin(html);
    cell_name(html, id, href);
    cell_text(html, json_get_string(run, "kind"));
    cell_text(html, json_get_string(run, "title"));
    cell_state(html, json_get_string(run, "state"));
    cell_time(html, json_get_string(run, "started"));
    cell_number(html, took);
    row_end(html);
}

static bool is_wanted(const struct page *page, const json_t *run)
{
    const char *kind = page_query(page, "kind");

    return !kind || !*kind || g_strcmp0(json_get_string(run, "kind"), kind) == 0;
}

void runs_table(struct page *page, const json_t *runs, const char *label, size_t some)
{
    static const char *const headers[] = {"Run", "Kind", "What", "State", "Started", ">Took", NULL};
    const json_t *run;
    size_t i, shown = 0;

    if (json_array_size(runs) == 0) {
        paragraph(page->html,
                  runs ? "Nothing has been run here yet." : "What was run here is not known.");
        return;
    }
    table_begin(page->html, label, headers);
    json_array_foreach(runs, i, run)
    {
        if (!is_wanted(page, run) || (some && shown == some))
            continue;
        write_run(page, run);
        shown++;
    }
    table_end(page->html);
}

/* Those that there are, to choose from. */
static void write_kinds(struct page *page, const json_t *runs)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    const char *chosen = page_query(page, "kind");
    GString *html = page->html;
    const json_t *run;
    size_t i;

    g_string_append(html, "<form method=\"get\" action=\"/runs\" class=\"search\"><label "
                          "for=\"kind\">Kind</label> <select id=\"kind\" name=\"kind\">"
                          "<option value=\"\">all</option>");
    json_array_foreach(runs, i, run)
    {
        const char *kind = json_get_string(run, "kind");

        if (!kind || !g_hash_table_add(seen, (void *)kind))
            continue;
        g_string_append_printf(html, "<option%s>",
                               g_strcmp0(kind, chosen) == 0 ? " selected=\"selected\"" : "");
        html_text(html, kind);
        g_string_append(html, "</option>");
    }
    g_string_append(html, "</select> <button>Show</button></form>\n");
}

void page_runs(struct page *page, const struct papers *papers)
{
    page_begin(page, "Runs", "/runs");
    g_string_append(page->html, "<h1>Runs</h1>\n");
    document_notice(page, &papers->documents[DOCUMENT_RUNS], "The list of runs");
    write_kinds(page, papers->runs);
    runs_table(page, papers->runs, "What was run at this site, newest first", 0);
    page_end(page, "/api/runs");
}

/* The pictures are fetched by their numbers. */
static void write_report(struct page *page, const json_t *run, const char *id)
{
    g_autoptr(GPtrArray) pictures = run_report_picture_names(run);
    g_autofree struct report_picture *list = g_new0(struct report_picture, pictures->len + 1);
    g_autoptr(GPtrArray) places = g_ptr_array_new_with_free_func(g_free);

    for (unsigned i = 0; i < pictures->len; i++) {
        char *place = g_strdup_printf("/evidence/%s/%u", id, i);

        g_ptr_array_add(places, place);
        list[i] = *(const struct report_picture *)pictures->pdata[i];
        if (evidence_is_ours(page->config, list[i].path))
            list[i].place = place;
    }
    run_report_body(page->html, run, list, pictures->len);
}

void page_run(struct page *page, const struct papers *papers)
{
    const char *kind = json_get_string(papers->run, "kind");
    g_autofree char *title = g_strdup_printf("%s of %s", kind ? kind : "Run",
                                             json_get_string(papers->run, "title")
                                                 ? json_get_string(papers->run, "title")
                                                 : papers->subject);
    g_autofree char *api = path_of("/api/runs", papers->subject);
    g_autofree char *report = g_strdup_printf("/report/%s", papers->subject);

    page_begin(page, title, "/runs");
    document_notice(page, &papers->documents[DOCUMENT_RUN], "What is known of this run");
    if (papers->run) {
        write_report(page, papers->run, papers->subject);
        g_string_append(page->html, "<p class=\"after\"><a href=\"");
        html_text(page->html, report);
        g_string_append(page->html, "\">This report as one file</a></p>\n");
    }
    page_end(page, api);
}

bool evidence_is_ours(const struct config *config, const char *path)
{
    g_autofree char *dir = g_build_filename(config->store, "evidence", "", NULL);

    return path && g_str_has_prefix(path, dir) && !strstr(path, "/../") &&
           g_file_test(path, G_FILE_TEST_IS_REGULAR);
}

/* --- logging in, and what is not there -------------------------------------------------------- */

void page_login(struct page *page, const char *next, const char *problem)
{
    GString *html = page->html;

    page_begin(page, "Log in", NULL);
    g_string_append(html, "<h1>Log in</h1>\n");
    if (problem)
        notice(html, "bad", "%s", problem);
    g_string_append(html, "<form method=\"post\" action=\"/login\" class=\"login\">"
                          "<input type=\"hidden\" name=\"next\" value=\"");
    html_text(html, next);
    g_string_append(html, "\"/>\n<p><label for=\"token\">Token of this site's web page</label><br/>"
                          "<input id=\"token\" name=\"token\" type=\"password\" "
                          "autocomplete=\"current-password\" required=\"required\" "
                          "autofocus=\"autofocus\" aria-describedby=\"where\"/></p>\n"
                          "<p id=\"where\" class=\"note\">It is in the file that the daemon names "
                          "when it begins.</p>\n<p><button>Log in</button></p></form>\n");
    page_end(page, NULL);
}

void page_problem(struct page *page, const char *title, const char *text)
{
    page_begin(page, title, page->form_token ? "" : NULL);
    g_string_append(page->html, "<h1>");
    html_text(page->html, title);
    g_string_append(page->html, "</h1>\n");
    paragraph(page->html, "%s", text);
    page_end(page, NULL);
}
