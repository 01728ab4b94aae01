/* SPDX-License-Identifier: Apache-2.0 */
/* What points achieved: that no gap is lost when it is made smaller, and the figures that follow from it. */
#include "tests/catalog-unit.h"

#define VM "11111111-2222-4333-8444-555555555555"
#define OTHER_VM "99999999-2222-4333-8444-555555555555"
#define MINUTE_MS (INT64_C(60) * 1000)
#define HOUR_MS (60 * MINUTE_MS)
#define DAY_MS (24 * HOUR_MS)
/* Midnight ten days ago: what is added is made smaller by the clock, too. */
static int64_t start_ms;
#define START_MS start_ms

/* A point of VM that shows AT_MS and took TOOK_MS to be there. */
static void add(struct catalog *catalog, const char *vm, int64_t at_ms, int64_t took_ms,
                int64_t rpo_ms)
{
    struct stretch point = {
        .vm_uuid = (char *)vm,
        .destination = (char *)"dr1",
        .vm = (char *)"db",
        .protection = (char *)"shop",
        .rpo_ms = rpo_ms,
        .from_ms = at_ms,
        .from_committed_ms = at_ms + took_ms,
        .to_ms = at_ms,
        .to_committed_ms = at_ms + took_ms,
        .points = 1,
        .bytes = 1000,
        .seconds = (double)took_ms / 1000,
    };
    g_autoptr(GError) error = NULL;

    unit_ok(history_add(catalog, &point, NULL, &error), error);
}

/* Of which the last one is late. */
static void add_three(struct catalog *catalog)
{
    add(catalog, VM, START_MS, MINUTE_MS, 15 * MINUTE_MS);
    add(catalog, VM, START_MS + 10 * MINUTE_MS, MINUTE_MS, 15 * MINUTE_MS);
    add(catalog, VM, START_MS + 40 * MINUTE_MS, MINUTE_MS, 15 * MINUTE_MS);
}

static GPtrArray *read_all(struct catalog *catalog, int64_t from_ms, int64_t to_ms)
{
    g_autoptr(GError) error = NULL;
    GPtrArray *history = history_read(catalog, from_ms, to_ms, &error);

    unit_ok(history, error);
    return history;
}

static void condense(struct catalog *catalog, int64_t now_ms)
{
    g_autoptr(GError) error = NULL;

    unit_ok(history_condense(catalog, now_ms, &error), error);
}

static double number_of(const json_t *json, const char *key)
{
    ck_assert_msg(json_is_number(json_object_get(json, key)), "%s is no number", key);
    return json_number_value(json_object_get(json, key));
}

/* The account of the only VM. */
static json_t *account(struct catalog *catalog, int64_t from_ms, int64_t to_ms)
{
    g_autoptr(GPtrArray) history = read_all(catalog, from_ms, to_ms);
    json_auto_t *list = account_rpo(history, from_ms, to_ms);

    ck_assert_uint_eq(json_array_size(list), 1);
    return json_incref(json_array_get(list, 0));
}

START_TEST(a_gap_is_from_the_instant_of_a_point_until_the_next_is_there)
{
    g_autofree char *store = unit_dir();
    AUTO(catalog) catalog = open_catalog(store);
    json_auto_t *vm = NULL;

    add_three(catalog);
    vm = account(catalog, START_MS, START_MS + 50 * MINUTE_MS);
    ck_assert_double_eq(number_of(vm, "worst_seconds"), 31 * 60);
    ck_assert_double_eq(number_of(vm, "mean_seconds"), 21 * 60);
    ck_assert_double_eq(number_of(vm, "age_seconds"), 10 * 60);
    ck_assert_uint_eq((unsigned)number_of(vm, "points"), 3);
    ck_assert_uint_eq(json_array_size(json_object_get(vm, "violations")), 1);
    /* 16 of the 49 minutes since the first one was there. */
    ck_assert_double_eq_tol(number_of(vm, "kept_percent"), 100.0 - 1600.0 / 49, 0.01);
}
END_TEST

START_TEST(no_point_until_the_end_is_a_violation_too)
{
    g_autofree char *store = unit_dir();
    AUTO(catalog) catalog = open_catalog(store);
    json_auto_t *vm = NULL;

    add(catalog, VM, START_MS, MINUTE_MS, 15 * MINUTE_MS);
    vm = account(catalog, START_MS + HOUR_MS, START_MS + 3 * HOUR_MS);
    ck_assert_double_eq(number_of(vm, "worst_seconds"), 3 * 3600);
    ck_assert_uint_eq((unsigned)number_of(vm, "points"), 0);
    ck_assert_double_eq(number_of(vm, "kept_percent"), 0);
    ck_assert_uint_eq(json_array_size(json_object_get(vm, "violations")), 1);
}
END_TEST

START_TEST(what_was_before_says_how_the_time_begins)
{
    int64_t from_ms = START_MS + 5 * HOUR_MS + 30 * MINUTE_MS;
    int64_t to_ms = START_MS + 8 * HOUR_MS + MINUTE_MS;
    g_autofree char *store = unit_dir();
    AUTO(catalog) catalog = open_catalog(store);
    g_autoptr(GPtrArray) history = NULL;
    json_auto_t *vm = NULL;

    for (int i = 0; i < 10; i++)
        add(catalog, VM, START_MS + i * HOUR_MS, MINUTE_MS, 0);
    history = read_all(catalog, from_ms, to_ms);
    ck_assert_uint_eq(history->len, 4);
    vm = account(catalog, from_ms, to_ms);
    ck_assert_double_eq(number_of(vm, "worst_seconds"), 61 * 60);
    ck_assert(json_is_null(json_object_get(vm, "rpo_seconds")));
    ck_assert(json_is_null(json_object_get(vm, "kept_percent")));
}
END_TEST

START_TEST(all_that_was_late_counts_when_it_was_made_one_entry)
{
    g_autofree char *store = unit_dir();
    AUTO(catalog) catalog = open_catalog(store);
    json_auto_t *before = NULL, *after = NULL, *part = NULL;

    /* 20 min and one for the point itself, where 15 were wanted. */
    for (int i = 0; i <= 24; i++)
        add(catalog, VM, START_MS + i * 20 * MINUTE_MS, MINUTE_MS, 15 * MINUTE_MS);
    before = account(catalog, START_MS, START_MS + 8 * HOUR_MS + MINUTE_MS);
    ck_assert_uint_eq((unsigned)number_of(before, "late"), 24);
    ck_assert_double_eq(number_of(before, "late_seconds"), 24 * 6 * 60);
    ck_assert_double_eq_tol(number_of(before, "kept_percent"), 70, 0.01);
    condense(catalog, START_MS + 40 * DAY_MS);
    ck_assert_uint_eq(count_all(catalog, CATALOG_HISTORY, VM), 1);
    after = account(catalog, START_MS, START_MS + 8 * HOUR_MS + MINUTE_MS);
    ck_assert_double_eq(number_of(after, "late"), 24);
    ck_assert_double_eq(number_of(after, "late_seconds"), 24 * 6 * 60);
    ck_assert_double_eq_tol(number_of(after, "kept_percent"), 70, 0.01);
    /* A time that ends within the entry. */
    part = account(catalog, START_MS, START_MS + HOUR_MS);
    ck_assert_double_eq(number_of(part, "age_seconds"), 0);
    ck_assert_uint_eq(json_array_size(json_object_get(part, "gaps")), 1);
    ck_assert_double_ge(number_of(part, "kept_percent"), 0);
}
END_TEST

/* An entry of a day that the time begins in, and the one before. */
START_TEST(a_gap_that_ended_before_does_not_count)
{
    g_autofree char *store = unit_dir();
    AUTO(catalog) catalog = open_catalog(store);
    json_auto_t *vm = NULL;

    add(catalog, VM, START_MS, MINUTE_MS, 0);
    for (int i = 24; i < 48; i++)
        add(catalog, VM, START_MS + i * HOUR_MS, MINUTE_MS, 0);
    condense(catalog, START_MS + 40 * DAY_MS);
    ck_assert_uint_eq(count_all(catalog, CATALOG_HISTORY, VM), 2);
    vm = account(catalog, START_MS + 36 * HOUR_MS, START_MS + 47 * HOUR_MS);
    ck_assert_double_eq(number_of(vm, "worst_seconds"), 61 * 60);
    ck_assert_double_eq(number_of(vm, "mean_seconds"), 61 * 60);
}
END_TEST

START_TEST(a_point_that_is_there_after_the_end_does_not_count)
{
    g_autofree char *store = unit_dir();
    AUTO(catalog) catalog = open_catalog(store);
    json_auto_t *vm = NULL;

    add(catalog, VM, START_MS, MINUTE_MS, 15 * MINUTE_MS);
    add(catalog, VM, START_MS + 10 * MINUTE_MS, 20 * MINUTE_MS, 15 * MINUTE_MS);
    vm = account(catalog, START_MS, START_MS + 12 * MINUTE_MS);
    ck_assert_uint_eq((unsigned)number_of(vm, "points"), 1);
    ck_assert_double_eq(number_of(vm, "age_seconds"), 12 * 60);
    ck_assert_uint_eq((unsigned)number_of(vm, "late"), 0);
}
END_TEST

/* Two hours of points every 5 s, of which one was late. */
static void add_two_hours(struct catalog *catalog, const char *vm)
{
    for (int i = 0; i < 2 * HOUR_MS / 5000; i++)
        if (i < 700 || i > 710)
            add(catalog, vm, START_MS + i * INT64_C(5000), 1000, 10000);
}

START_TEST(an_rpo_of_seconds_becomes_one_entry_an_hour_and_keeps_its_worst_gap)
{
    g_autofree char *store = unit_dir();
    AUTO(catalog) catalog = open_catalog(store);
    json_auto_t *before = NULL, *after = NULL, *later = NULL;

    add_two_hours(catalog, VM);
    before = account(catalog, START_MS, START_MS + 2 * HOUR_MS);
    condense(catalog, START_MS + 3 * DAY_MS);
    ck_assert_uint_eq(count_all(catalog, CATALOG_HISTORY, VM), 2);
    after = account(catalog, START_MS, START_MS + 2 * HOUR_MS);
    ck_assert_double_eq(number_of(before, "worst_seconds"), 61);
    ck_assert_double_eq(number_of(after, "worst_seconds"), 61);
    ck_assert_double_eq(number_of(after, "mean_seconds"), number_of(before, "mean_seconds"));
    ck_assert_double_eq(number_of(after, "points"), number_of(before, "points"));
    ck_assert_double_eq(number_of(after, "bytes"), number_of(before, "bytes"));
    ck_assert_uint_eq(json_array_size(json_object_get(after, "violations")), 1);
    condense(catalog, START_MS + 40 * DAY_MS);
    ck_assert_uint_eq(count_all(catalog, CATALOG_HISTORY, VM), 1);
    later = account(catalog, START_MS, START_MS + 2 * HOUR_MS);
    ck_assert_double_eq(number_of(later, "worst_seconds"), 61);
    ck_assert_double_eq(number_of(later, "points"), number_of(before, "points"));
    condense(catalog, START_MS + 402 * DAY_MS);
    ck_assert_uint_eq(count_all(catalog, CATALOG_HISTORY, VM), 0);
}
END_TEST

START_TEST(what_is_of_the_last_day_of_another_vm_or_another_rpo_stays_apart)
{
    g_autofree char *store = unit_dir();
    AUTO(catalog) catalog = open_catalog(store);

    add(catalog, VM, START_MS, 1000, 10000);
    add(catalog, VM, START_MS + 5000, 1000, 10000);
    add(catalog, VM, START_MS + 10000, 1000, 20000);
    add(catalog, OTHER_VM, START_MS + 5000, 1000, 10000);
    condense(catalog, START_MS + DAY_MS / 2);
    ck_assert_uint_eq(count_all(catalog, CATALOG_HISTORY, VM), 3);
    condense(catalog, START_MS + 2 * DAY_MS);
    ck_assert_uint_eq(count_all(catalog, CATALOG_HISTORY, VM), 2);
    ck_assert_uint_eq(count_all(catalog, CATALOG_HISTORY, OTHER_VM), 1);
}
END_TEST

/* Killed when the first part was written and the others had not gone. */
START_TEST(what_a_killed_condensing_has_left_does_not_count_twice)
{
    g_autofree char *store = unit_dir();
    AUTO(catalog) catalog = open_catalog(store);
    json_auto_t *vm = NULL;

    for (int i = 0; i < 5; i++)
        add(catalog, VM, START_MS + i * INT64_C(5000), 1000, 10000);
    condense(catalog, START_MS + 3 * DAY_MS);
    ck_assert_uint_eq(count_all(catalog, CATALOG_HISTORY, VM), 1);
    for (int i = 1; i < 5; i++)
        add(catalog, VM, START_MS + i * INT64_C(5000), 1000, 10000);
    vm = account(catalog, START_MS, START_MS + MINUTE_MS);
    ck_assert_uint_eq((unsigned)number_of(vm, "points"), 5);
    condense(catalog, START_MS + 3 * DAY_MS);
    ck_assert_uint_eq(count_all(catalog, CATALOG_HISTORY, VM), 1);
}
END_TEST

START_TEST(the_drawing_shows_what_is_over_and_what_is_not)
{
    g_autofree char *store = unit_dir();
    AUTO(catalog) catalog = open_catalog(store);
    json_auto_t *vm = NULL;
    g_autofree char *svg = NULL;

    add_three(catalog);
    vm = account(catalog, START_MS, START_MS + 50 * MINUTE_MS);
    json_set_string(vm, "vm", "<db>");
    svg = account_drawing(vm, START_MS, START_MS + 50 * MINUTE_MS);
    ck_assert_ptr_nonnull(strstr(svg, "class=\"over\""));
    ck_assert_ptr_nonnull(strstr(svg, "class=\"bar\""));
    ck_assert_ptr_nonnull(strstr(svg, "class=\"target\""));
    ck_assert_ptr_nonnull(strstr(svg, "&lt;db&gt;"));
    ck_assert_ptr_null(strstr(svg, "<db>"));
}
END_TEST

/* --- Sheets --- */

START_TEST(a_sheet_is_the_same_as_text_and_as_html)
{
    static const char *const headers[] = {"VM", "What", NULL};
    AUTO(sheet) sheet = sheet_new("Runbook", "shop", "for site dr1");
    g_autofree char *plain = NULL;
    g_autofree char *html = NULL;

    sheet_section(sheet, "Order");
    sheet_table(sheet, headers);
    sheet_row(sheet, (const char *[]){"a-long-name", "first"});
    sheet_row(sheet, (const char *[]){"b", NULL});
    sheet_paragraph(sheet, "Do <%s>:", "this\033[2J");
    sheet_block(sheet, "one\n  two & three\n");
    plain = sheet_plain(sheet);
    html = sheet_html(sheet);
    ck_assert_str_eq(plain, "Runbook: shop\nfor site dr1\n\nOrder\n=====\n\n"
                            "VM           What\na-long-name  first\nb\n\n"
                            "Do <this?[2J>:\n\n    one\n      two & three\n");
    ck_assert_ptr_nonnull(strstr(html, "<td>a-long-name</td><td>first</td>"));
    ck_assert_ptr_nonnull(strstr(html, "Do &lt;this [2J&gt;:"));
    ck_assert_ptr_nonnull(strstr(html, "<pre>one\n  two &amp; three\n</pre>"));
    ck_assert_ptr_nonnull(strstr(html, "default-src 'none'"));
    ck_assert_ptr_nonnull(strstr(html, "</html>"));
}
END_TEST

int main(void)
{
    start_ms = (time_now_ms() / DAY_MS - 10) * DAY_MS;
    return UNIT_RUN(
        "history", a_gap_is_from_the_instant_of_a_point_until_the_next_is_there,
        no_point_until_the_end_is_a_violation_too, what_was_before_says_how_the_time_begins,
        an_rpo_of_seconds_becomes_one_entry_an_hour_and_keeps_its_worst_gap,
        what_is_of_the_last_day_of_another_vm_or_another_rpo_stays_apart,
        what_a_killed_condensing_has_left_does_not_count_twice,
        all_that_was_late_counts_when_it_was_made_one_entry, a_gap_that_ended_before_does_not_count,
        a_point_that_is_there_after_the_end_does_not_count,
        the_drawing_shows_what_is_over_and_what_is_not, a_sheet_is_the_same_as_text_and_as_html);
}
