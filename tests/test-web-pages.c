/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"
#include "tests/web-papers.h"

#define HOSTILE "<script>alert(1)</script>\\\" onload=\\\"x' &amp; \\u0001\\uffff\\u202e"

static const char site[] =
    "{'status': {'site': 'dc1', 'protected': ["
    "{'vm': 'NAME', 'uuid': 'u', 'protection': 'shop', 'destination': 'dr1', 'state': 'ok', "
    "'point': 'NAME', 'time': '2026-11-28T08:00:00.000Z', 'age_seconds': 100, 'rpo_seconds': 900, "
    "'rpo_state': 'at risk', 'lag_bytes': 5, 'error': 'NAME', 'owner': 'NAME', 'problem': 'NAME'}],"
    "'received': [{'vm': 'NAME', 'site': 'NAME', 'points': 3, 'damaged': 1, 'stored_bytes': 1000, "
    "'consistency': 'NAME', 'tested': '2026-11-28T08:00:00.000Z', 'proven': 'NAME', 'remedy': "
    "'NAME'}], 'unprotected': [{'vm': 'NAME', 'uuid': 'NAME', 'running': true}], 'vapps': "
    "[{'vapp': "
    "'NAME', 'vms': ['NAME'], 'owner': 'NAME', 'rpo_state': 'NAME', 'consistency': 'NAME', "
    "'problem': 'NAME', 'remedy': 'NAME'}], 'store': {'free_bytes': 1, 'total_bytes': 2, "
    "'days_left': 3.5}, 'problems': [{'key': 'NAME', 'severity': 'critical', 'subject': 'NAME', "
    "'text': "
    "'NAME', 'remedy': 'NAME'}]},"
    "'schedule': [{'job': 'NAME', 'command': 'NAME', 'due': null, 'why': 'NAME', 'failures': 2, "
    "'error': 'NAME'}],"
    "'runs': [{'run': 'NAME', 'kind': 'NAME', 'title': 'NAME', 'state': 'NAME', 'started': "
    "'2026-11-28T08:00:00.000Z', 'ended': null}],"
    "'run': {'run': 'NAME', 'kind': 'NAME', 'title': 'NAME', 'state': 'NAME', 'started': "
    "'2026-11-28T08:00:00.000Z', 'host': 'NAME', 'result': {'verdict': 'NAME', 'vms': [{'vm': "
    "'NAME', 'pictures': [{'caption': 'NAME', 'path': 'NAME'}]}]}, 'steps': [], 'executed': 0, "
    "'not_executed': 0, 'vms': [{'vm': 'NAME', 'state': 'NAME', 'findings': ['NAME'], 'evidence': "
    "[{'what': 'NAME', 'value': 'NAME', 'ok': true}], 'steps': [{'subject': 'NAME', 'step': "
    "'NAME', 'state': 'failed', 'started': '2026-11-28T08:00:00.000Z', 'error': 'NAME'}]}]},"
    "'points': [{'point': 'NAME', 'time': 'NAME', 'consistency': 'NAME', 'base': 'NAME', 'damage': "
    "'NAME', 'disks': [{'changed_bytes': 1, 'stored_bytes': 2}], 'tested': {'run': 'NAME', "
    "'verdict': 'NAME'}}],"
    "'vapps': [{'vapp': 'NAME', 'vms': [{'vm': 'NAME', 'order': 1, 'after': ['NAME'], 'ready': "
    "'NAME'}]}],"
    "'plans': [{'plan': 'NAME', 'vapps': ['NAME'], 'site': 'NAME', 'check': {'expired': 'NAME'}, "
    "'problem': 'NAME', 'tested': {'run': 'NAME', 'time': 'NAME', 'verdict': 'passed'}}],"
    "'rpo': {'from': '2026-11-21T08:00:00.000Z', 'to': '2026-11-28T08:00:00.000Z', 'vms': [{'vm': "
    "'NAME', 'destination': 'NAME', 'rpo_seconds': 900, 'worst_seconds': 1000, 'kept_percent': "
    "9.5, "
    "'violations': [{'until': 'NAME', 'seconds': 5}], 'gaps': [{'until': "
    "'2026-11-27T08:00:00.000Z', 'seconds': 1000}]}], 'without_points': [{'vm': 'NAME', "
    "'destination': 'NAME'}]},"
    "'sites': [{'remote': 'NAME', 'version': 'NAME', 'free_bytes': 1}],"
    "'subject': 'NAME', 'error': 'NAME', 'q': 'NAME'}";

/* The site with NAME wherever somebody else's text can be. */
static json_t *site_of(const char *name)
{
    g_auto(GStrv) quotes = g_strsplit(site, "'", -1);
    g_autofree char *quoted = g_strjoinv("\"", quotes);
    g_auto(GStrv) parts = g_strsplit(quoted, "NAME", -1);
    g_autofree char *text = g_strjoinv(name, parts);
    GError *error = NULL;
    json_t *json = json_parse(text, strlen(text), "site", &error);

    unit_ok(json, error);
    return json;
}

static void complain(const char *page, const char *what, const char *html)
{
    ck_abort_msg("%s: %s\n%s", page, what, html);
}

START_TEST(text_of_others_is_never_markup)
{
    json_auto_t *plain = site_of("web 1"), *hostile = site_of(HOSTILE);

    web_papers_check(plain, complain);
    web_papers_check(hostile, complain);
}
END_TEST

/* Whatever a newer drctl prints, or a damaged one. */
START_TEST(what_has_another_shape_is_left_out)
{
    json_auto_t *whole = site_of("x");
    const char *key;
    json_t *value;

    json_object_foreach(whole, key, value)
    {
        json_auto_t *strange = json_copy(whole);

        json_object_set_new(strange, key, json_pack("[{s:n}, [], i, s, n]", "vm", 5, "text"));
        web_papers_check(strange, complain);
        json_object_set_new(
            strange, key,
            json_pack("{s:i, s:[i], s:{s:n}}", "vms", 1, "protected", 2, "received", "vm"));
        web_papers_check(strange, complain);
        json_object_del(strange, key);
        web_papers_check(strange, complain);
    }
}
END_TEST

/* The page WRITE makes of JSON; g_free. */
static char *page_text(const json_t *status, struct document *document,
                       void (*write)(struct page *page, const struct papers *papers),
                       const char *form_token)
{
    AUTO(config) config = web_papers_config();
    struct document documents[DOCUMENT_KINDS] = {[DOCUMENT_STATUS] = *document};
    struct papers papers = {.status = status, .documents = documents, .subject = "db"};
    struct page page = {g_string_new(NULL), config, form_token, NULL, 1800000000000};

    write(&page, &papers);
    return g_string_free(page.html, FALSE);
}

START_TEST(what_is_old_is_called_old)
{
    struct document document = {.text = (char *)"{}",
                                .made_ms = 1800000000000 - 180000,
                                .error = (char *)"cannot connect to libvirt"};
    json_auto_t *json = site_of("x");
    g_autofree char *html =
        page_text(json_object_get(json, "status"), &document, page_overview, NULL);

    ck_assert_ptr_nonnull(strstr(html, "is that of 3 min ago: cannot connect to libvirt"));
    document.text = NULL;
    g_free(html);
    html = page_text(NULL, &document, page_overview, NULL);
    ck_assert_ptr_nonnull(strstr(html, "is not known: cannot connect to libvirt"));
    ck_assert_ptr_null(strstr(html, "Nothing is wrong"));
    ck_assert_ptr_nonnull(strstr(html, ">unknown<"));
}
END_TEST

/* Whoever lets a page be loaded anew goes on to see what he looked for. */
START_TEST(a_page_that_is_loaded_anew_shows_the_same)
{
    AUTO(config) config = web_papers_config();
    g_autoptr(GHashTable) query = g_hash_table_new(g_str_hash, g_str_equal);
    struct page page = {g_string_new(NULL), config, NULL, query, 1800000000000};

    g_hash_table_insert(query, (void *)"q", (void *)"a&b <");
    page_end(&page, "/api/status");
    ck_assert_ptr_nonnull(strstr(page.html->str, "href=\"?q=a%26b%20%3C&amp;refresh=30\""));
    g_string_truncate(page.html, 0);
    g_hash_table_insert(query, (void *)"refresh", (void *)"10");
    page_begin(&page, "VMs", "/vms");
    page_end(&page, "/api/status");
    ck_assert_ptr_nonnull(strstr(page.html->str, "http-equiv=\"refresh\" content=\"10\""));
    ck_assert_ptr_nonnull(strstr(page.html->str, "href=\"?q=a%26b%20%3C\">stop that"));
    g_hash_table_insert(query, (void *)"refresh", (void *)"1; url=//evil.example");
    ck_assert_uint_eq(page_refresh_s(&page), 0);
    g_string_free(page.html, TRUE);
}
END_TEST

START_TEST(buttons_are_for_sessions_only)
{
    struct document document = {0};
    g_autofree char *with = page_text(NULL, &document, page_jobs, "token");
    g_autofree char *without = page_text(NULL, &document, page_jobs, NULL);

    ck_assert_ptr_nonnull(strstr(with, "action=\"/do/replicate\""));
    ck_assert_ptr_nonnull(strstr(with, "name=\"form\" value=\"token\""));
    ck_assert_ptr_null(strstr(without, "<form"));
}
END_TEST

/* A run names the files of its pictures, and its record is nobody's word. */
START_TEST(only_evidence_of_the_store_is_a_picture)
{
    static const char *const theirs[] = {"secret", "evidence/../secret", "evidence/r-1",
                                         "evidence"};
    g_autofree char *dir = unit_dir();
    g_autofree char *text = g_strdup_printf("[site]\nname = dc1\nstore = %s\n", dir);
    AUTO(config) config = config_parse(text, strlen(text), "/nonexistent", NULL);
    g_autofree char *evidence = g_build_filename(dir, "evidence", "r-1", NULL);
    g_autofree char *picture = g_build_filename(evidence, "db.png", NULL);
    g_autofree char *secret = g_build_filename(dir, "secret", NULL);

    ck_assert_int_eq(g_mkdir_with_parents(evidence, 0700), 0);
    ck_assert(g_file_set_contents(picture, "x", 1, NULL));
    ck_assert(g_file_set_contents(secret, "x", 1, NULL));
    ck_assert(evidence_is_ours(config, picture));
    ck_assert(!evidence_is_ours(config, NULL));
    ck_assert(!evidence_is_ours(config, "/etc/passwd"));
    for (unsigned i = 0; i < G_N_ELEMENTS(theirs); i++) {
        g_autofree char *path = g_build_filename(dir, theirs[i], NULL);

        ck_assert_msg(!evidence_is_ours(config, path), "%s", path);
    }
}
END_TEST

START_TEST(the_worst_of_several_states_is_told)
{
    json_auto_t *json = site_of("x");
    json_t *vm = json_array_get(json_object_get(json_object_get(json, "status"), "protected"), 0);

    ck_assert_str_eq(protected_state(vm), "at risk");
    json_set_string(vm, "state", "failed");
    ck_assert_str_eq(protected_state(vm), "failed");
    json_set_string(vm, "rpo_state", "violated");
    ck_assert_str_eq(protected_state(vm), "violated");
    ck_assert_str_eq(worse_state("ok", "at risk"), "at risk");
    ck_assert_str_eq(worse_state(NULL, "ok"), "ok");
    ck_assert_str_eq(worse_state("violated", "failed"), "violated");
    ck_assert_str_eq(worse_state("at risk", "critical"), "critical");
    ck_assert_str_eq(worse_state("ok", "warning"), "warning");
    ck_assert_ptr_null(worse_state(NULL, NULL));
}
END_TEST

/* What the pages call a state and nobody works at has not the sign of work. */
START_TEST(only_work_is_called_busy)
{
    static const char *const still[] = {"not verified", "not checked", "not asked yet",
                                        "held here",    "unknown",     "waiting"};

    for (unsigned i = 0; i < G_N_ELEMENTS(still); i++)
        ck_assert_str_eq(html_state_class(still[i]), "none");
    ck_assert_str_eq(html_state_class("expired"), "warn");
    ck_assert_str_eq(html_state_class("running"), "busy");
}
END_TEST

START_TEST(a_warning_is_no_failure)
{
    struct document document = {0};
    json_auto_t *status =
        json_pack("{s:[{s:s, s:s, s:s, s:s}]}", "vapps", "vapp", "shop", "rpo_state", "ok",
                  "severity", "warning", "problem", "plan shop: its test is overdue");
    g_autofree char *html = page_text(status, &document, page_overview, NULL);

    ck_assert_ptr_nonnull(strstr(html, "its test is overdue"));
    ck_assert_ptr_nonnull(strstr(html, "<span class=\"state warn\">warning</span>"));
    ck_assert_ptr_null(strstr(html, ">failed<"));
}
END_TEST

START_TEST(what_is_wrong_with_a_site_is_told_beside_that_site)
{
    AUTO(config) config = web_papers_config();
    struct document documents[DOCUMENT_KINDS] = {
        [DOCUMENT_SITES] = {.text = (char *)"[]",
                            .notes = (char *)"dr10: is full\ndr1-b: is off\ndr1: hung up"}};
    struct papers papers = {.documents = documents, .subject = "db"};
    struct page page = {g_string_new(NULL), config, NULL, NULL, 1800000000000};

    page_overview(&page, &papers);
    ck_assert_ptr_nonnull(strstr(page.html->str, "dr1: hung up"));
    ck_assert_ptr_null(strstr(page.html->str, "dr10"));
    ck_assert_ptr_null(strstr(page.html->str, "dr1-b"));
    g_string_free(page.html, TRUE);
}
END_TEST

int main(void)
{
    return UNIT_RUN("web-pages", text_of_others_is_never_markup, what_has_another_shape_is_left_out,
                    what_is_old_is_called_old, a_page_that_is_loaded_anew_shows_the_same,
                    buttons_are_for_sessions_only, only_evidence_of_the_store_is_a_picture,
                    the_worst_of_several_states_is_told, only_work_is_called_busy,
                    a_warning_is_no_failure, what_is_wrong_with_a_site_is_told_beside_that_site);
}
