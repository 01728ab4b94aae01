/* SPDX-License-Identifier: Apache-2.0 */
/* How the site is, on one screen. */
#include "web/pages.h"

#include <inttypes.h>
#include <string.h>

#define SOME 8

/* --- words ------------------------------------------------------------------------------------ */

const char *protected_state(const json_t *vm)
{
    const char *state = json_get_string(vm, "state"), *rpo = json_get_string(vm, "rpo_state");

    return rpo && (g_strcmp0(state, "ok") == 0 || g_strcmp0(rpo, "violated") == 0) ? rpo : state;
}

const char *worse_state(const char *a, const char *b)
{
    static const char *const worst_first[] = {"stale",        "violated", "failed",
                                              "critical",     "at risk",  "warning",
                                              "no point yet", "ok",       NULL};

    for (unsigned i = 0; worst_first[i]; i++)
        if (g_strcmp0(a, worst_first[i]) == 0 || g_strcmp0(b, worst_first[i]) == 0)
            return worst_first[i];
    return a ? a : b;
}

static unsigned count_state(const json_t *list, const char *state)
{
    const json_t *vm;
    unsigned count = 0;
    size_t i;

    json_array_foreach(list, i, vm) count += g_strcmp0(protected_state(vm), state) == 0;
    return count;
}

static uint64_t sum(const json_t *list, const char *key)
{
    const json_t *vm;
    uint64_t all = 0;
    size_t i;

    json_array_foreach(list, i, vm)
    {
        json_int_t value = json_integer_value(json_object_get(vm, key));

        all += value > 0 ? (uint64_t)value : 0;
    }
    return all;
}

/* --- figures ---------------------------------------------------------------------------------- */

static void write_protected_tile(GString *html, const json_t *list)
{
    size_t all = json_array_size(list);
    unsigned good = count_state(list, "ok");
    g_autofree char *value = g_strdup_printf("%u of %zu", good, all);
    const char *worst = NULL;
    const json_t *vm;
    size_t i;

    json_array_foreach(list, i, vm) worst = worse_state(worst, protected_state(vm));
    tile(html, value, worst, "protected VMs as they should be");
}

/* The newest test, whatever it was of. */
static void write_test_tile(struct page *page, const json_t *plans)
{
    const json_t *plan, *newest = NULL;
    g_autofree char *when = NULL;
    size_t i;

    json_array_foreach(plans, i, plan)
    {
        const json_t *tested = json_object_get(plan, "tested");

        if (tested && json_get_time(tested, "time") > json_get_time(newest, "time"))
            newest = tested;
    }
    when = when_text(json_get_string(newest, "time"), page->now_ms);
    tile(page->html, when ? when : "never", json_get_string(newest, "verdict"),
         "last test failover of a plan");
}

static void write_space_tile(GString *html, const json_t *store)
{
    const json_t *days = json_object_get(store, "days_left");
    uint64_t free_bytes, total_bytes;
    g_autofree char *value = NULL, *label = NULL, *total = NULL, *left = NULL;

    if (!json_need_u64(store, "free_bytes", &free_bytes, NULL) ||
        !json_need_u64(store, "total_bytes", &total_bytes, NULL))
        return;
    value = bytes_format(free_bytes);
    total = bytes_format(total_bytes);
    if (json_is_number(days))
        left = g_strdup_printf(", for %.0f days", json_number_value(days));
    label = g_strdup_printf("free of %s for the store%s", total, left ? left : "");
    tile(html, value, NULL, label);
}

static void write_tiles(struct page *page, const struct papers *papers)
{
    const json_t *received = json_object_get(papers->status, "received");
    g_autofree char *stored = bytes_format(sum(received, "stored_bytes"));
    g_autofree char *points = g_strdup_printf("%" PRIu64, sum(received, "points"));
    g_autofree char *label =
        g_strdup_printf("recovery points of %zu VMs here, %s", json_array_size(received), stored);
    uint64_t damaged = sum(received, "damaged") + sum(received, "base_damaged");

    tiles_begin(page->html);
    write_protected_tile(page->html, json_object_get(papers->status, "protected"));
    tile(page->html, points, damaged ? "damaged" : NULL, label);
    write_test_tile(page, papers->plans);
    write_space_tile(page->html, json_object_get(papers->status, "store"));
    tiles_end(page->html);
}

/* --- what is wrong ---------------------------------------------------------------------------- */

static void write_problem(GString *html, const json_t *problem)
{
    const char *remedy = json_get_string(problem, "remedy");

    g_string_append(html, "<li>");
    html_state(html, json_get_string(problem, "severity"));
    g_string_append(html, " <b>");
    html_text(html, json_get_string(problem, "subject"));
    g_string_append(html, "</b>: ");
    html_text(html, json_get_string(problem, "text"));
    if (remedy) {
        g_string_append(html, "<br/><span class=\"remedy\">What to do: ");
        html_text(html, remedy);
        g_string_append(html, "</span>");
    }
    g_string_append(html, "</li>\n");
}

static void write_problems(GString *html, const json_t *problems)
{
    const json_t *problem;
    size_t i;

    if (!problems)
        return;
    if (json_array_size(problems) == 0) {
        notice(html, "good", "Nothing is wrong.");
        return;
    }
    section_begin(html, "What is wrong");
    g_string_append(html, "<ul class=\"problems\">\n");
    json_array_foreach(problems, i, problem) write_problem(html, problem);
    g_string_append(html, "</ul>\n");
    section_end(html);
}

/* --- vApps ------------------------------------------------------------------------------------ */

static void write_vapp(struct page *page, const json_t *vapp)
{
    GString *html = page->html;
    g_autofree char *tested = when_text(json_get_string(vapp, "tested"), page->now_ms);
    g_autofree char *next = when_text(json_get_string(vapp, "next"), page->now_ms);
    g_autofree char *vms = g_strdup_printf("%zu", json_array_size(json_object_get(vapp, "vms")));

    row_begin(html);
    cell_name(html, json_get_string(vapp, "vapp"), "/vapps");
    cell_state(html,
               worse_state(json_get_string(vapp, "rpo_state"), json_get_string(vapp, "severity")));
    cell_text(html, json_get_string(vapp, "owner"));
    cell_number(html, vms);
    cell_seconds(html, vapp, "rpo_seconds");
    cell_seconds(html, vapp, "age_seconds");
    cell_text(html, json_get_string(vapp, "consistency"));
    cell_text(html, tested);
    cell_text(html, next);
    cell_long(html, json_get_string(vapp, "problem"));
    row_end(html);
}

static void write_vapps(struct page *page, const json_t *vapps)
{
    static const char *const headers[] = {"vApp", "State",   "Owner",       ">VMs",
                                          ">RPO", ">Age",    "Consistency", "Tested",
                                          "Next", "Problem", NULL};
    const json_t *vapp;
    size_t i;

    if (json_array_size(vapps) == 0)
        return;
    section_begin(page->html, "vApps");
    table_begin(page->html, "vApps", headers);
    json_array_foreach(vapps, i, vapp) write_vapp(page, vapp);
    table_end(page->html);
    section_end(page->html);
}

/* --- protections ------------------------------------------------------------------------------ */

/* All VMs of one. */
struct group {
    const char *state;
    unsigned vms;
    const json_t *oldest; /* the VM whose newest point is oldest */
};

/* One that is not there is older than all. */
static double age_of(const json_t *vm)
{
    const json_t *age = json_object_get(vm, "age_seconds");

    return json_is_number(age) ? json_number_value(age) : G_MAXDOUBLE;
}

static struct group group_of(const json_t *list, const char *protection)
{
    struct group group = {0};
    const json_t *vm;
    size_t i;

    json_array_foreach(list, i, vm)
    {
        if (g_strcmp0(json_get_string(vm, "protection"), protection) != 0)
            continue;
        group.vms++;
        group.state = worse_state(group.state, protected_state(vm));
        if (!group.oldest || age_of(vm) > age_of(group.oldest))
            group.oldest = vm;
    }
    return group;
}

static const json_t *job_of(const json_t *schedule, const char *protection)
{
    g_autofree char *key = g_strconcat("replicate/", protection, NULL);

    return json_find(schedule, "job", key);
}

/* "running", "in 3 min", or NULL: not by itself. g_free */
static char *next_text(const json_t *job, int64_t now_ms)
{
    if (json_is_true(json_object_get(job, "running")))
        return g_strdup("at work");
    if (json_get_time(job, "due") && json_get_time(job, "due") <= now_ms)
        return g_strdup("now");
    return when_text(json_get_string(job, "due"), now_ms);
}

static void write_protection(struct page *page, const struct papers *papers,
                             const struct protection *protection)
{
    GString *html = page->html;
    struct group group = group_of(json_object_get(papers->status, "protected"), protection->name);
    g_autofree char *href = g_strconcat("/vms?q=", protection->name, NULL);
    g_autofree char *vms = g_strdup_printf("%u", group.vms);
    g_autofree char *rpo =
        protection->rpo_ms ? duration_format((double)protection->rpo_ms / 1000) : NULL;
    g_autofree char *next = next_text(job_of(papers->schedule, protection->name), page->now_ms);

    row_begin(html);
    cell_name(html, protection->name, href);
    cell_state(html, group.state);
    cell_text(html, protection->vapp ? protection->vapp : "");
    cell_number(html, vms);
    cell_text(html, protection->destination);
    cell_number(html, rpo);
    cell_seconds(html, group.oldest, "age_seconds");
    cell_text(html, next);
    row_end(html);
}

static void write_protections(struct page *page, const struct papers *papers)
{
    static const char *const headers[] = {"Protection", "State",         "vApp", ">VMs", "To",
                                          ">RPO",       ">Oldest point", "Next", NULL};
    const GPtrArray *protections = page->config->protections;

    if (protections->len == 0)
        return;
    section_begin(page->html, "Protections");
    table_begin(page->html, "Protections", headers);
    for (unsigned i = 0; i < protections->len; i++)
        write_protection(page, papers, protections->pdata[i]);
    table_end(page->html);
    section_end(page->html);
}

/* --- sites ------------------------------------------------------------------------------------ */

/* The line of NOTES that is about REMOTE; g_free. */
static char *note_about(const char *notes, const char *remote)
{
    g_auto(GStrv) lines = g_strsplit(notes ? notes : "", "\n", -1);

    /* "dr1" is not what "dr10: ..." is about. */
    for (char **line = lines; *line; line++) {
        char next = g_str_has_prefix(*line, remote) ? (*line)[strlen(remote)] : '-';

        if (!g_ascii_isalnum(next) && next != '-')
            return g_strdup(*line);
    }
    return NULL;
}

static void write_remote(struct page *page, const struct papers *papers,
                         const struct remote *remote)
{
    const struct document *document = &papers->documents[DOCUMENT_SITES];
    const json_t *answer = json_find(papers->sites, "remote", remote->name);
    GString *html = page->html;
    g_autofree char *note = answer ? NULL : note_about(document->notes, remote->name);
    g_autofree char *clock = NULL;
    const json_t *difference = json_object_get(answer, "clock_difference_seconds");

    if (json_is_number(difference))
        clock = g_strdup_printf("%+.1f s", json_number_value(difference));
    row_begin(html);
    cell_name(html, remote->name, NULL);
    cell_state(html, answer ? "ok" : !document->text ? "not asked yet" : "failed");
    cell_text(html, remote->host);
    cell_text(html, json_get_string(answer, "version"));
    cell_bytes(html, answer, "free_bytes");
    cell_bytes(html, answer, "total_bytes");
    cell_number(html, clock);
    cell_long(html, note);
    row_end(html);
}

static void write_sites(struct page *page, const struct papers *papers)
{
    static const char *const headers[] = {"Site",    "Link",   "Address", "drctl", ">Free",
                                          ">Of all", ">Clock", "Problem", NULL};
    const GPtrArray *remotes = page->config->remotes;

    if (remotes->len == 0)
        return;
    section_begin(page->html, "Other sites");
    table_begin(page->html, "Other sites", headers);
    for (unsigned i = 0; i < remotes->len; i++)
        write_remote(page, papers, remotes->pdata[i]);
    table_end(page->html);
    section_end(page->html);
}

/* --- all -------------------------------------------------------------------------------------- */

static void write_heading(struct page *page, const struct papers *papers)
{
    const json_t *problems = json_object_get(papers->status, "problems");
    const char *worst = json_get_string(json_array_get(problems, 0), "severity");

    g_string_append(page->html, "<h1>Site ");
    html_text(page->html, page->config->site);
    g_string_append_c(page->html, ' ');
    html_state(page->html, !problems ? "unknown" : worst ? worst : "ok");
    g_string_append(page->html, "</h1>\n");
}

void page_overview(struct page *page, const struct papers *papers)
{
    page_begin(page, "Overview", "/");
    write_heading(page, papers);
    document_notice(page, &papers->documents[DOCUMENT_STATUS], "The state of this site");
    write_tiles(page, papers);
    write_problems(page->html, json_object_get(papers->status, "problems"));
    write_vapps(page, json_object_get(papers->status, "vapps"));
    write_protections(page, papers);
    write_sites(page, papers);
    section_begin(page->html, "Jobs");
    jobs_table(page, papers->schedule, "What is at work, and what comes next", SOME);
    section_end(page->html);
    section_begin(page->html, "Latest runs");
    runs_table(page, papers->runs, "The latest runs", SOME);
    section_end(page->html);
    page_end(page, "/api/status");
}
