/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All pages, made of one JSON object {status, schedule, runs, run, points, vapps, plans, sites}; and what must be so whatever
 * stands in it: they are well-formed, and nothing of it is markup.
 */
#pragma once

#include <glib.h>
#include <string.h>

#include "web/pages.h"

typedef void web_complain(const char *page, const char *what, const char *html);

/* Elements and attributes that none of our pages has. */
static const char *const web_papers_never[] = {
    "//script",
    "//style",
    "//iframe",
    "//object",
    "//embed",
    "//base",
    "//@style",
    "//@onload",
    "//@onerror",
    "//@onclick",
    "//@formaction",
    "//@href[starts-with(translate(., 'JAVSCRIPTD', 'javscriptd'), 'javascript:')]",
    "//@src[not(starts-with(., '/evidence/'))]"};

static inline void web_papers_look(const char *name, char *html, web_complain *complain)
{
    g_autofree char *text = html;
    g_autoptr(GError) error = NULL;
    /* Without <!DOCTYPE html>, which our XML has not. */
    AUTO(xml) xml = xml_parse(strstr(text, "<html"), name, &error);

    if (!xml) {
        complain(name, error->message, text);
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(web_papers_never); i++)
        if (xml_find(xml_root(xml), web_papers_never[i]))
            complain(name, web_papers_never[i], text);
}

static inline struct config *web_papers_config(void)
{
    static const char text[] = "[site]\nname = dc1\n[remote dr1]\naddress = u@192.0.2.1\n"
                               "[protection shop]\nvapp = shop\ndestination = dr1\nrpo = 15min\n"
                               "[web]\nactions = yes\n";

    return config_parse(text, strlen(text), "/nonexistent", NULL);
}

static inline void web_papers_check(const json_t *json, web_complain *complain)
{
    static const struct {
        const char *name;
        void (*write)(struct page *page, const struct papers *papers);
    } pages[] = {{"overview", page_overview}, {"vapps", page_vapps},   {"vms", page_vms},
                 {"rpo", page_rpo},           {"points", page_points}, {"jobs", page_jobs},
                 {"runs", page_runs},         {"run", page_run}};
    AUTO(config) config = web_papers_config();
    struct document documents[DOCUMENT_KINDS] = {0};
    const char *subject = json_get_string(json, "subject");
    g_autoptr(GHashTable) query = g_hash_table_new(g_str_hash, g_str_equal);
    struct papers papers = {
        .status = json_object_get(json, "status"),
        .schedule = json_object_get(json, "schedule"),
        .runs = json_object_get(json, "runs"),
        .run = json_object_get(json, "run"),
        .points = json_object_get(json, "points"),
        .vapps = json_object_get(json, "vapps"),
        .plans = json_object_get(json, "plans"),
        .sites = json_object_get(json, "sites"),
        .rpo = json_object_get(json, "rpo"),
        .rpo_kind = DOCUMENT_RPO_WEEK,
        .documents = documents,
        .subject = subject ? subject : "subject",
    };

    for (unsigned i = 0; i < DOCUMENT_KINDS; i++)
        documents[i].error = (char *)json_get_string(json, "error");
    g_hash_table_insert(query, (void *)"q", (void *)json_get_string(json, "q"));
    g_hash_table_insert(query, (void *)"asked", (void *)json_get_string(json, "q"));
    for (unsigned i = 0; i < G_N_ELEMENTS(pages); i++) {
        struct page page = {g_string_new(NULL), config, "form", query, 1800000000000};

        pages[i].write(&page, &papers);
        web_papers_look(pages[i].name, g_string_free(page.html, FALSE), complain);
    }
}
