/* SPDX-License-Identifier: Apache-2.0 */
/* VMs, vApps, and the points of a VM. */
#include "web/pages.h"

#include <inttypes.h>
#include <string.h>

/* --- VMs -------------------------------------------------------------------------------------- */

static bool has(const json_t *vm, const char *key, const char *part)
{
    const char *text = json_get_string(vm, key);

    return text && strstr(text, part);
}

/* What somebody looks for is in its name, its protection or its site. */
static bool is_wanted(const struct page *page, const json_t *vm)
{
    const char *part = page_query(page, "q");

    return !part || has(vm, "vm", part) || has(vm, "uuid", part) || has(vm, "protection", part) ||
           has(vm, "destination", part) || has(vm, "site", part);
}

static void write_search(struct page *page)
{
    GString *html = page->html;

    g_string_append(html, "<form method=\"get\" action=\"/vms\" role=\"search\" "
                          "class=\"search\"><label for=\"q\">Name, protection or site has</label> "
                          "<input id=\"q\" name=\"q\" type=\"search\" value=\"");
    html_text(html, page_query(page, "q"));
    g_string_append(html, "\"/> <button>Show</button></form>\n");
}

static void write_protected(struct page *page, const json_t *vm)
{
    GString *html = page->html;
    const char *error = json_get_string(vm, "error"), *problem = json_get_string(vm, "problem");
    g_autofree char *href =
        points_path(json_get_string(vm, "vm"), json_get_string(vm, "destination"));

    row_begin(html);
    cell_name(html, json_get_string(vm, "vm"), href);
    cell_state(html, protected_state(vm));
    cell_text(html, json_get_string(vm, "protection"));
    cell_text(html, json_get_string(vm, "destination"));
    cell_seconds(html, vm, "rpo_seconds");
    cell_seconds(html, vm, "age_seconds");
    cell_time(html, json_get_string(vm, "time"));
    cell_bytes(html, vm, "lag_bytes");
    cell_text(html, json_get_string(vm, "owner"));
    cell_long(html, problem ? problem : error);
    row_end(html);
}

static void write_received(struct page *page, const json_t *vm)
{
    GString *html = page->html;
    json_int_t damaged = json_integer_value(json_object_get(vm, "damaged")) +
                         json_integer_value(json_object_get(vm, "base_damaged"));
    const char *proven = json_get_string(vm, "proven"), *tested = json_get_string(vm, "tested");
    const char *problem = json_get_string(vm, "problem"), *remedy = json_get_string(vm, "remedy");
    g_autofree char *href = path_of("/points", json_get_string(vm, "vm"));
    g_autofree char *when = when_text(tested, page->now_ms);

    row_begin(html);
    cell_name(html, json_get_string(vm, "vm"), href);
    cell_state(html, problem ? "stale" : damaged > 0 ? "damaged" : "ok");
    cell_text(html, json_get_string(vm, "site"));
    cell_integer(html, vm, "points");
    cell_seconds(html, vm, "age_seconds");
    cell_text(html, json_get_string(vm, "consistency"));
    cell_bytes(html, vm, "stored_bytes");
    cell_state(html, !tested ? NULL : proven ? "passed" : "unproven");
    cell_text(html, when);
    cell_text(html, json_get_string(vm, "owner"));
    cell_long(html, problem ? problem : remedy);
    row_end(html);
}

static void write_unprotected(struct page *page, const json_t *vm)
{
    row_begin(page->html);
    cell_name(page->html, json_get_string(vm, "vm"), NULL);
    cell_text(page->html, json_is_true(json_object_get(vm, "running")) ? "running" : "off");
    cell_text(page->html, json_get_string(vm, "uuid"));
    row_end(page->html);
}

static void write_vms(struct page *page, const json_t *list, const char *title,
                      const char *const *headers,
                      void (*write)(struct page *page, const json_t *vm))
{
    const json_t *vm;
    size_t i, shown = 0;

    section_begin(page->html, title);
    table_begin(page->html, title, headers);
    json_array_foreach(list, i, vm)
    {
        if (!is_wanted(page, vm))
            continue;
        write(page, vm);
        shown++;
    }
    table_end(page->html);
    if (shown < json_array_size(list))
        paragraph(page->html, "%zu of %zu are shown.", shown, json_array_size(list));
    else if (shown == 0)
        paragraph(page->html, "There are none.");
    section_end(page->html);
}

void page_vms(struct page *page, const struct papers *papers)
{
    static const char *const protected[] = {"VM",    "State",   "Protection", "To",
                                            ">RPO",  ">Age",    "Last point", ">Written since",
                                            "Owner", "Problem", NULL};
    static const char *const received[] = {"VM",     "State",       "From",    ">Points",
                                           ">Age",   "Consistency", ">Stored", "Proven",
                                           "Tested", "Owner",       "Problem", NULL};

    static const char *const unprotected[] = {"VM", "Now", "UUID", NULL};
    const json_t *list = json_object_get(papers->status, "unprotected");

    page_begin(page, "VMs", "/vms");
    g_string_append(page->html, "<h1>VMs</h1>\n");
    document_notice(page, &papers->documents[DOCUMENT_STATUS], "What is known of the VMs");
    write_search(page);
    write_vms(page, json_object_get(papers->status, "protected"), "Protected at this site",
              protected, write_protected);
    write_vms(page, json_object_get(papers->status, "received"),
              "Recovery points in this site's store", received, write_received);
    if (json_array_size(list) > 0)
        write_vms(page, list, "Protected by nothing", unprotected, write_unprotected);
    page_end(page, "/api/status");
}

/* --- points ----------------------------------------------------------------------------------- */

static const char *state_of_point(const json_t *point)
{
    if (json_get_string(point, "damage") ||
        json_array_size(json_object_get(point, "base_damage")) > 0)
        return "damaged";
    return json_get_string(point, "verified") ? "ok" : "not verified";
}

static uint64_t sum_of_disks(const json_t *point, const char *key)
{
    const json_t *disk;
    uint64_t all = 0, bytes;
    size_t i;

    json_array_foreach(json_object_get(point, "disks"), i,
                       disk) if (json_need_u64(disk, key, &bytes, NULL)) all += bytes;
    return all;
}

static void write_point(struct page *page, const json_t *point)
{
    GString *html = page->html;
    const json_t *tested = json_object_get(point, "tested");
    const char *run = json_get_string(tested, "run"), *base = json_get_string(point, "base");
    const char *damage = json_get_string(point, "damage");
    g_autofree char *age = when_text(json_get_string(point, "time"), page->now_ms);
    g_autofree char *changed = bytes_format(sum_of_disks(point, "changed_bytes"));
    g_autofree char *stored = bytes_format(sum_of_disks(point, "stored_bytes"));
    g_autofree char *href = run ? path_of("/runs", run) : NULL;

    row_begin(html);
    cell_name(html, json_get_string(point, "point"), NULL);
    cell_text(html, age);
    cell_state(html, state_of_point(point));
    cell_text(html, json_get_string(point, "consistency"));
    cell_number(html, changed);
    cell_number(html, stored);
    cell_text(html, base ? base : "full");
    cell_state(html, json_get_string(tested, "verdict"));
    cell_link(html, run, href);
    cell_long(html, damage ? damage : json_get_string(point, "remedy"));
    row_end(html);
}

/* Where the points are, as a query of other pages. g_free */
static char *api_of(const struct papers *papers, const char *at)
{
    g_autofree char *vm = g_uri_escape_string(papers->subject, NULL, FALSE);
    g_autofree char *site = at ? g_uri_escape_string(at, NULL, FALSE) : NULL;

    return g_strconcat("/api/points?vm=", vm, at ? "&at=" : NULL, site, NULL);
}

void page_points(struct page *page, const struct papers *papers)
{
    static const char *const headers[] = {"Point",    "Taken",   "State", "Consistency",
                                          ">Changed", ">Stored", "Base",  "Test",
                                          "Run",      "Problem", NULL};
    g_autofree char *title = g_strdup_printf("Recovery points of %s", papers->subject);
    const char *at = page_query(page, "at");
    g_autofree char *api = api_of(papers, at);
    const json_t *point;
    size_t i;

    page_begin(page, title, "/vms");
    g_string_append(page->html, "<h1>");
    html_text(page->html, title);
    g_string_append(page->html, "</h1>\n");
    paragraph(page->html, "In the store of %s, the newest first.", at ? at : "this site");
    document_notice(page, &papers->documents[at ? DOCUMENT_POINTS_AT : DOCUMENT_POINTS],
                    "The list");
    if (papers->points) {
        table_begin(page->html, title, headers);
        json_array_foreach(papers->points, i, point) write_point(page, point);
        table_end(page->html);
    }
    page_end(page, api);
}

/* --- vApps ------------------------------------------------------------------------------------ */

/* "db, cache"; g_free */
static char *names_text(const json_t *names)
{
    GString *text = g_string_new(NULL);
    const json_t *name;
    size_t i;

    json_array_foreach(names, i, name) if (json_is_string(name))
        g_string_append_printf(text, "%s%s", text->len ? ", " : "", json_string_value(name));
    return g_string_free(text, FALSE);
}

static void write_vapp_vm(struct page *page, const struct papers *papers, const json_t *vm)
{
    GString *html = page->html;
    const char *name = json_get_string(vm, "vm");
    const json_t *here = json_find(json_object_get(papers->status, "protected"), "vm", name);
    const json_t *held = json_find(json_object_get(papers->status, "received"), "vm", name);
    const json_t *known = here ? here : held;
    const char *tested = json_get_string(held, "tested");
    g_autofree char *href = points_path(name, json_get_string(here, "destination"));
    g_autofree char *after = names_text(json_object_get(vm, "after"));

    row_begin(html);
    cell_name(html, name, href);
    cell_integer(html, vm, "order");
    cell_text(html, after);
    cell_text(html, json_get_string(vm, "ready"));
    cell_state(html, here ? protected_state(here) : held ? "held here" : NULL);
    cell_seconds(html, here, "rpo_seconds");
    cell_seconds(html, known, "age_seconds");
    cell_time(html, json_get_string(known, "time"));
    cell_state(html, !tested ? NULL : json_get_string(held, "proven") ? "passed" : "unproven");
    cell_text(html, json_get_string(known, "owner"));
    row_end(html);
}

static void write_vapp(struct page *page, const struct papers *papers, const json_t *vapp)
{
    static const char *const headers[] = {"VM",     ">Order", "After", "Ready when",
                                          "State",  ">RPO",   ">Age",  "Last point",
                                          "Proven", "Owner",  NULL};
    const char *name = json_get_string(vapp, "vapp");
    g_autofree char *label = g_strdup_printf("VMs of %s", name ? name : "?");
    const json_t *vm;
    size_t i;

    section_begin(page->html, name);
    table_begin(page->html, label, headers);
    json_array_foreach(json_object_get(vapp, "vms"), i, vm) write_vapp_vm(page, papers, vm);
    table_end(page->html);
    section_end(page->html);
}

static const char *state_of_check(const json_t *check)
{
    json_int_t blocked = json_integer_value(json_object_get(check, "blocked"));

    if (!json_is_object(check))
        return "not checked";
    if (json_get_string(check, "expired"))
        return "expired";
    return blocked > 0 ? "failed" : "ok";
}

static void write_plan(struct page *page, const json_t *plan)
{
    GString *html = page->html;
    const json_t *tested = json_object_get(plan, "tested"), *check = json_object_get(plan, "check");
    const char *name = json_get_string(plan, "plan"), *run = json_get_string(tested, "run");
    const char *expired = json_get_string(check, "expired");
    g_autofree char *vapps = names_text(json_object_get(plan, "vapps"));
    g_autofree char *due = when_text(json_get_string(plan, "test_due"), page->now_ms);
    g_autofree char *when = when_text(json_get_string(tested, "time"), page->now_ms);
    g_autofree char *href = run ? path_of("/runs", run) : NULL;

    row_begin(html);
    cell_name(html, name, NULL);
    cell_text(html, vapps);
    cell_text(html, json_get_string(plan, "site"));
    cell_state(html, state_of_check(check));
    cell_state(html, json_get_string(tested, "verdict"));
    cell_link(html, when, href);
    cell_text(html, due);
    cell_long(html, expired ? expired : json_get_string(plan, "problem"));
    if (page->config->web.actions && page->form_token) {
        g_string_append(html, "<td>");
        action_button(page, "test", name, "Test now");
        g_string_append(html, "</td>");
    }
    row_end(html);
}

static void write_plans(struct page *page, const struct papers *papers)
{
    bool actions = page->config->web.actions && page->form_token;
    const char *const headers[] = {"Plan",      "vApps",     "Site",
                                   "Check",     "Last test", "Tested",
                                   "Next test", "Problem",   actions ? "Do" : NULL,
                                   NULL};
    const json_t *plan;
    size_t i;

    section_begin(page->html, "Recovery plans");
    document_notice(page, &papers->documents[DOCUMENT_PLANS], "The list of plans");
    if (json_array_size(papers->plans) > 0) {
        table_begin(page->html, "Recovery plans", headers);
        json_array_foreach(papers->plans, i, plan) write_plan(page, plan);
        table_end(page->html);
    } else if (papers->plans) {
        paragraph(page->html, "There is none: each vApp has the default plan.");
    }
    section_end(page->html);
}

void page_vapps(struct page *page, const struct papers *papers)
{
    const json_t *vapp;
    size_t i;

    page_begin(page, "vApps", "/vapps");
    g_string_append(page->html, "<h1>vApps</h1>\n");
    document_notice(page, &papers->documents[DOCUMENT_VAPPS], "The list of vApps");
    document_notice(page, &papers->documents[DOCUMENT_STATUS], "What is known of the VMs");
    if (papers->vapps && json_array_size(papers->vapps) == 0)
        paragraph(page->html, "This site has no vApp, and has been told of none.");
    json_array_foreach(papers->vapps, i, vapp) write_vapp(page, papers, vapp);
    write_plans(page, papers);
    page_end(page, "/api/vapps");
}
