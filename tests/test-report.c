/* SPDX-License-Identifier: Apache-2.0 */
/* The report of a run: what follows from its journal, and that its HTML is whole and harmless. */
#include "tests/run-job.h"

#define PLAN                                                                                       \
    "{\"site\": \"dc1\", \"vms\": ["                                                               \
    "{\"vm\": \"db\", \"point\": \"20261120T220000.000Z\", \"time\": "                             \
    "\"2026-11-20T22:00:00.000Z\","                                                                \
    " \"consistency\": \"filesystem\", \"host\": \"qemu:///system\","                              \
    " \"findings\": [\"network <prod> does not exist here\"]},"                                    \
    "{\"vm\": \"app\", \"point\": null, \"findings\": []}]}"
#define RESULT                                                                                     \
    "{\"rto_seconds\": 41.5, \"verdict\": \"it works\", \"vms\": ["                                \
    "{\"vm\": \"db\", \"state\": \"done\", \"rto_seconds\": 12.5, \"rpo_seconds\": 900,"           \
    " \"evidence\": [{\"what\": \"agent\", \"value\": \"answers & <more>\", \"ok\": true}]},"      \
    "{\"vm\": \"app\", \"state\": \"skipped\", \"error\": \"<script>alert(1)</script>\"}]}"

static json_t *parsed(const char *text)
{
    g_autoptr(GError) error = NULL;
    json_t *json = json_parse(text, strlen(text), "test", &error);

    unit_ok(json != NULL, error);
    return json;
}

/* A run of which all is done but the steps of app. */
static json_t *finished_run(const char *store, const char *dir)
{
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    json_auto_t *plan = parsed(PLAN), *result = parsed(RESULT);
    AUTO(run) run = run_begin(catalog, "failover", "shop", plan, &error);
    const struct run_subject subjects[] = {{"db", steps, N_STEPS}, {"app", steps, 2}};
    struct job job = {.dir = dir};

    unit_ok(run != NULL, error);
    unit_ok(run_declare(run, subjects, 2, &error), error);
    unit_ok(run_steps(run, "db", steps, N_STEPS, &job, &error), error);
    unit_ok(run_finish(run, RUN_PARTIAL, result, &error), error);
    return show(catalog, run_id(run));
}

static const json_t *vm_of(const json_t *report, const char *name)
{
    const json_t *vm;
    size_t i;

    json_array_foreach(json_object_get(report, "vms"), i,
                       vm) if (g_str_equal(json_get_string(vm, "vm"), name)) return vm;
    ck_abort_msg("no VM %s in the report", name);
    return NULL;
}

START_TEST(a_report_puts_plan_result_and_steps_of_each_vm_together)
{
    g_autofree char *store = unit_dir(), *dir = unit_dir();
    json_auto_t *run = finished_run(store, dir);
    json_auto_t *report = run_report(run);
    const json_t *db = vm_of(report, "db"), *app = vm_of(report, "app");

    ck_assert_uint_eq(json_array_size(json_object_get(report, "vms")), 2);
    ck_assert_int_eq(json_integer_value(json_object_get(report, "executed")), 4);
    ck_assert_int_eq(json_integer_value(json_object_get(report, "not_executed")), 2);
    ck_assert(json_real_value(json_object_get(report, "rpo_seconds")) > 899);
    ck_assert(json_is_real(json_object_get(report, "seconds")));
    ck_assert_str_eq(json_get_string(db, "state"), "done");
    ck_assert_str_eq(json_get_string(db, "point"), "20261120T220000.000Z");
    ck_assert_str_eq(json_get_string(db, "host"), "qemu:///system");
    ck_assert(json_real_value(json_object_get(db, "rto_seconds")) > 12);
    ck_assert_uint_eq(json_array_size(json_object_get(db, "steps")), N_STEPS);
    ck_assert_str_eq(json_get_string(app, "state"), "skipped");
    ck_assert(json_is_null(json_object_get(app, "point")));
    ck_assert_uint_eq(json_array_size(json_object_get(app, "steps")), 2);
}
END_TEST

/* "db=busy app=waiting " */
static char *states_of(const json_t *run)
{
    json_auto_t *report = run_report(run);
    GString *text = g_string_new(NULL);
    const json_t *vm;
    size_t i;

    json_array_foreach(json_object_get(report, "vms"), i, vm) g_string_append_printf(
        text, "%s=%s ", json_get_string(vm, "vm"), json_get_string(vm, "state"));
    return g_string_free(text, FALSE);
}

START_TEST(the_state_of_a_vm_without_a_result_follows_from_its_steps)
{
    static const struct {
        const char *steps, *states;
    } cases[] = {
        {"", ""},
        {"[\"db\", \"waiting\"]", "db=waiting "},
        {"[\"db\", \"not-executed\"]", "db=not-executed "},
        {"[\"db\", \"done\"]", "db=done "},
        {"[\"db\", \"failed\"]", "db=failed "},
        {"[\"db\", \"running\"], [\"app\", \"waiting\"]", "db=step0 app=waiting "},
        {"[\"db\", \"done\"], [\"db\", \"not-executed\"]", "db=interrupted "},
        {"[\"db\", \"done\"], [\"db\", \"waiting\"]", "db=waiting "},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = g_strdup_printf("[%s]", cases[i].steps), *states = NULL;
        json_auto_t *list = parsed(text), *run = json_pack("{s:s, s:[]}", "state", "x", "steps");
        const json_t *entry;
        size_t k;

        json_array_foreach(list, k, entry)
        {
            const char *state = json_string_value(json_array_get(entry, 1));
            bool begun = !g_str_equal(state, "waiting") && !g_str_equal(state, "not-executed");
            g_autofree char *name = g_strdup_printf("step%zu", k);

            json_array_append_new(json_object_get(run, "steps"),
                                  json_pack("{s:O, s:s, s:s, s:s?}", "subject",
                                            json_array_get(entry, 0), "step", name, "state", state,
                                            "started", begun ? "2026-11-20T22:00:00.000Z" : NULL));
        }
        states = states_of(run);
        ck_assert_str_eq(states, cases[i].states);
    }
}
END_TEST

/* As XML, which our HTML is but for what stands before <html> and the tags that are never closed. */
static void assert_well_formed(const char *html)
{
    g_autoptr(GString) text = g_string_new(strstr(html, "<html"));
    g_autoptr(GRegex) open = g_regex_new("<(meta|img|br)([^>]*?)/?>", 0, 0, NULL);
    g_autofree char *closed = g_regex_replace(open, text->str, -1, 0, "<\\1\\2/>", 0, NULL);
    g_autoptr(GError) error = NULL;
    AUTO(xml) xml = xml_parse(closed, "report", &error);

    unit_ok(xml != NULL, error);
}

START_TEST(the_page_shows_all_and_loads_and_runs_nothing)
{
    static const uint8_t png[] = {0x89, 'P', 'N', 'G'};
    const struct report_picture pictures[] = {
        {.vm = "db",
         .caption = "screen of <db>",
         .type = "image/png",
         .data = png,
         .len = sizeof(png)},
        {.vm = NULL, .caption = "of the run", .type = "image/png", .data = png, .len = sizeof(png)},
    };
    static const char *const there[] = {"failover report",
                                        "shop",
                                        "partially-failed",
                                        "it works",
                                        "41.5 s",
                                        "12.5 s",
                                        "15 min",
                                        "1 of 2",
                                        "4 of 6",
                                        "<svg",
                                        "network &lt;prod&gt; does not exist here",
                                        "not-executed",
                                        "answers &amp; &lt;more&gt;",
                                        "&lt;script&gt;alert(1)",
                                        "data:image/png;base64,iVBORw==",
                                        "screen of &lt;db&gt;",
                                        "prefers-color-scheme:dark",
                                        "@media print"};
    g_autofree char *store = unit_dir(), *dir = unit_dir();
    json_auto_t *run = finished_run(store, dir);
    g_autofree char *html = run_report_html(run, pictures, 2);

    for (unsigned i = 0; i < G_N_ELEMENTS(there); i++)
        ck_assert_msg(strstr(html, there[i]) != NULL, "no %s", there[i]);
    ck_assert_ptr_null(strstr(html, "<script"));
    ck_assert_ptr_null(strstr(html, "http:"));
    ck_assert_ptr_null(strstr(html, "https:"));
    ck_assert_ptr_nonnull(strstr(html, "default-src 'none'"));
    assert_well_formed(html);
}
END_TEST

START_TEST(pictures_that_the_run_names_are_in_the_page)
{
    g_autofree char *dir = unit_dir(), *path = g_build_filename(dir, "a.png", NULL);
    json_auto_t *run =
        json_pack("{s:s, s:{s:[{s:s, s:[{s:s, s:s}, {s:s, s:s}]}]}}", "state", "done", "result",
                  "vms", "vm", "db", "pictures", "caption", "after boot", "path", path, "caption",
                  "lost one", "path", "/nowhere/b.png");
    g_autoptr(GPtrArray) pictures = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *html = NULL;
    struct report_picture list[2];

    unit_ok(file_write(path, "\x89PNG", 4, 0600, &error), error);
    pictures = run_report_pictures(run);
    ck_assert_uint_eq(pictures->len, 2);
    for (unsigned i = 0; i < 2; i++)
        list[i] = *(struct report_picture *)pictures->pdata[i];
    html = run_report_html(run, list, 2);
    ck_assert_ptr_nonnull(strstr(html, "data:image/png;base64,iVBORw=="));
    ck_assert_ptr_nonnull(strstr(html, "after boot"));
    ck_assert_ptr_nonnull(strstr(html, "lost one (the picture cannot be read any more)"));
    assert_well_formed(html);
}
END_TEST

START_TEST(hostile_names_and_texts_stay_text)
{
    const char *hostile = "\"><img src=x onerror=alert(1)>&#x3c;\x01\x1b[31m'";
    g_autofree char *store = unit_dir(), *dir = unit_dir(), *html = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    json_auto_t *plan = json_pack("{s:s, s:[{s:s, s:[s]}]}", "site", hostile, "vms", "vm", hostile,
                                  "findings", hostile);
    AUTO(run) run = run_begin(catalog, "failover", hostile, plan, &error);
    const struct step table[] = {{"grant", do_a, undo_a}};
    struct job job = {.dir = dir, .fail_at = 'a'};
    json_auto_t *shown = NULL;

    unit_ok(run != NULL, error);
    run_steps(run, "vm", table, 1, &job, NULL);
    shown = show(catalog, run_id(run));
    html = run_report_html(shown, NULL, 0);
    ck_assert_ptr_null(strstr(html, "<img"));
    ck_assert_ptr_nonnull(strstr(html, "&amp;#x3c;"));
    for (const char *c = html; *c; c++)
        ck_assert(*c == '\n' || !g_ascii_iscntrl(*c));
    assert_well_formed(html);
}
END_TEST

START_TEST(a_run_of_any_kind_and_age_has_a_page)
{
    g_autofree char *store = unit_dir(), *html = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    json_auto_t *result = json_pack("[{s:s}]", "vm", "db"), *shown = NULL;
    AUTO(run) run = run_begin(catalog, "replicate", "all", NULL, &error);

    unit_ok(run_finish(run, RUN_DONE, result, &error), error);
    shown = show(catalog, run_id(run));
    html = run_report_html(shown, NULL, 0);
    ck_assert_ptr_nonnull(strstr(html, "replicate report"));
    assert_well_formed(html);
}
END_TEST

int main(void)
{
    return UNIT_RUN("report", a_report_puts_plan_result_and_steps_of_each_vm_together,
                    the_state_of_a_vm_without_a_result_follows_from_its_steps,
                    the_page_shows_all_and_loads_and_runs_nothing,
                    pictures_that_the_run_names_are_in_the_page, hostile_names_and_texts_stay_text,
                    a_run_of_any_kind_and_age_has_a_page);
}
