/* SPDX-License-Identifier: Apache-2.0 */
/* What is unusual for a VM, and how long a store has room. */
#include "tests/catalog-unit.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define MINUTE_MS (INT64_C(60) * 1000)
#define HOUR_MS (60 * MINUTE_MS)
#define DAY_MS (24 * HOUR_MS)
#define START_MS (INT64_C(1000) * DAY_MS)

struct habit {
    json_t *pace;
    int64_t last_ms;
};

static void habit_clear(struct habit *habit)
{
    json_decref(habit->pace);
}
#define AUTO_HABIT __attribute__((cleanup(habit_clear))) struct habit

static void add(struct habit *habit, int64_t at_ms, uint64_t changed_bytes, bool full)
{
    json_auto_t *before = habit->pace;

    habit->pace = pace_next(before, at_ms, changed_bytes, full);
    habit->last_ms = at_ms;
}

/* A full one, and COUNT others; returns when the next one would be. */
static int64_t add_many(struct habit *habit, unsigned count, int64_t every_ms,
                        uint64_t changed_bytes)
{
    add(habit, START_MS, 100 * GIB, true);
    for (unsigned i = 1; i <= count; i++)
        add(habit, START_MS + i * every_ms, changed_bytes, false);
    return START_MS + (count + 1) * every_ms;
}

static bool is_unusual(const struct habit *habit)
{
    const json_t *unusual;

    return pace_is_unusual(habit->pace, habit->last_ms + MINUTE_MS, &unusual);
}

START_TEST(what_a_vm_always_does_is_usual)
{
    AUTO_HABIT habit = {0};

    add_many(&habit, 100, 15 * MINUTE_MS, 400 * MIB);
    ck_assert(!is_unusual(&habit));
    ck_assert_double_eq_tol(pace_bytes(habit.pace), 1600.0 * MIB, 1);
}
END_TEST

START_TEST(many_times_as_much_at_once_is_not)
{
    AUTO_HABIT habit = {0};
    int64_t next_ms = add_many(&habit, 100, 15 * MINUTE_MS, 40 * MIB);
    const json_t *unusual;

    add(&habit, next_ms, 2 * GIB, false);
    ck_assert(is_unusual(&habit));
    pace_is_unusual(habit.pace, next_ms, &unusual);
    ck_assert_double_eq_tol(json_number_value(json_object_get(unusual, "bytes")), 2.0 * GIB, 1);
    ck_assert_double_eq_tol(json_number_value(json_object_get(unusual, "busiest")), 160.0 * MIB, 1);
    /* It is told for a day, whatever comes after it. */
    for (unsigned i = 2; i < 20; i++)
        add(&habit, next_ms + i * HOUR_MS, MIB, false);
    ck_assert(pace_is_unusual(habit.pace, next_ms + 23 * HOUR_MS, &unusual));
    ck_assert(!pace_is_unusual(habit.pace, next_ms + 27 * HOUR_MS, &unusual));
}
END_TEST

START_TEST(a_busy_night_each_month_is_usual)
{
    AUTO_HABIT habit = {0};
    int64_t next_ms = add_many(&habit, 29, DAY_MS, 40 * 24 * MIB);

    add(&habit, next_ms, 4 * GIB * 24, false);
    ck_assert(is_unusual(&habit));
    next_ms += DAY_MS;
    for (unsigned i = 0; i < 28; i++, next_ms += DAY_MS)
        add(&habit, next_ms, 40 * 24 * MIB, false);
    ck_assert(!is_unusual(&habit));
    add(&habit, next_ms, 5 * GIB * 24, false);
    ck_assert(!is_unusual(&habit));
}
END_TEST

START_TEST(what_was_a_month_ago_is_forgotten)
{
    AUTO_HABIT habit = {0};
    int64_t next_ms = add_many(&habit, 10, DAY_MS, 4 * GIB * 24);

    for (unsigned i = 0; i < 40; i++, next_ms += DAY_MS)
        add(&habit, next_ms, 40 * 24 * MIB, false);
    add(&habit, next_ms, 4 * GIB * 24, false);
    ck_assert(is_unusual(&habit));
    ck_assert_uint_le(json_array_size(json_object_get(habit.pace, "busiest")), 30);
}
END_TEST

START_TEST(a_point_that_comes_late_has_more_in_it)
{
    AUTO_HABIT habit = {0};
    int64_t next_ms = add_many(&habit, 100, 15 * MINUTE_MS, 100 * MIB);

    add(&habit, next_ms + 2 * DAY_MS, 48 * 400 * MIB, false);
    ck_assert(!is_unusual(&habit));
    ck_assert_double_eq_tol(pace_bytes(habit.pace), 400.0 * MIB, 4.0 * MIB);
}
END_TEST

START_TEST(little_is_never_unusual)
{
    AUTO_HABIT habit = {0};
    int64_t next_ms = add_many(&habit, 100, HOUR_MS, MIB);

    add(&habit, next_ms, 200 * MIB, false);
    ck_assert(!is_unusual(&habit));
}
END_TEST

START_TEST(a_vm_that_is_new_has_no_habits)
{
    AUTO_HABIT habit = {0};
    const json_t *unusual;

    ck_assert(!pace_is_unusual(NULL, START_MS, &unusual));
    ck_assert_double_lt(pace_bytes(NULL), 0);
    add(&habit, START_MS, 10 * GIB, true);
    ck_assert_double_lt(pace_bytes(habit.pace), 0);
    for (unsigned i = 1; i < 5; i++)
        add(&habit, START_MS + i * HOUR_MS, MIB, false);
    add(&habit, START_MS + 5 * HOUR_MS, 10 * GIB, false);
    ck_assert(!is_unusual(&habit));
}
END_TEST

START_TEST(a_full_point_says_nothing)
{
    AUTO_HABIT habit = {0};
    int64_t next_ms = add_many(&habit, 100, HOUR_MS, MIB);

    add(&habit, next_ms, 100 * GIB, true);
    ck_assert(!is_unusual(&habit));
    add(&habit, next_ms + HOUR_MS, MIB, false);
    ck_assert(!is_unusual(&habit));
    ck_assert_double_eq_tol(pace_bytes(habit.pace), MIB, 1);
}
END_TEST

START_TEST(a_clock_that_was_ahead_spoils_nothing_for_long)
{
    AUTO_HABIT habit = {0};
    int64_t next_ms = add_many(&habit, 30, HOUR_MS, MIB);
    const json_t *unusual;

    /* For an hour it is ten years later, and much changes. */
    for (unsigned i = 0; i < 3; i++)
        add(&habit, START_MS + 3650 * DAY_MS + i * HOUR_MS, 4 * GIB, false);
    for (unsigned i = 0; i < 10; i++, next_ms += HOUR_MS)
        add(&habit, next_ms, MIB, false);
    ck_assert(!pace_is_unusual(habit.pace, next_ms, &unusual));
    ck_assert_double_eq_tol(pace_bytes(habit.pace), MIB, 1);
    add(&habit, next_ms, 2 * GIB, false);
    ck_assert(is_unusual(&habit));
}
END_TEST

/* --- The store --- */

static void note(struct catalog *catalog, int64_t at_ms, uint64_t free_bytes)
{
    g_autoptr(GError) error = NULL;

    unit_ok(space_note(catalog, free_bytes, 1000 * GIB, at_ms, &error), error);
}

static double days_left(struct catalog *catalog, uint64_t free_bytes, int64_t now_ms)
{
    g_autoptr(GError) error = NULL;
    double days;

    unit_ok(space_days_left(catalog, free_bytes, now_ms, &days, &error), error);
    return days;
}

/* A GiB an hour, as of FROM_MS, from 500 GiB on. */
static void fill_evenly(struct catalog *catalog, int64_t from_ms, unsigned hours)
{
    for (unsigned hour = 0; hour <= hours; hour++)
        note(catalog, from_ms + hour * HOUR_MS, 500 * GIB - hour * GIB);
}

START_TEST(a_store_that_fills_evenly_has_so_many_days)
{
    g_autofree char *store = unit_dir();
    AUTO(catalog) catalog = open_catalog(store);

    fill_evenly(catalog, START_MS, 48);
    ck_assert_double_eq_tol(days_left(catalog, 452 * GIB, START_MS + 2 * DAY_MS), 452.0 / 24, 0.01);
}
END_TEST

START_TEST(what_is_old_does_not_count)
{
    g_autofree char *store = unit_dir();
    AUTO(catalog) catalog = open_catalog(store);

    note(catalog, START_MS, 900 * GIB);
    fill_evenly(catalog, START_MS + 20 * DAY_MS, 48);
    ck_assert_double_eq_tol(days_left(catalog, 452 * GIB, START_MS + 22 * DAY_MS), 452.0 / 24,
                            0.01);
}
END_TEST

START_TEST(one_that_does_not_fill_has_room_for_ever)
{
    g_autofree char *store = unit_dir();
    AUTO(catalog) catalog = open_catalog(store);

    ck_assert_double_lt(days_left(catalog, 452 * GIB, START_MS), 0);
    note(catalog, START_MS, 500 * GIB);
    ck_assert_double_lt(days_left(catalog, 452 * GIB, START_MS), 0);
    for (unsigned hour = 1; hour <= 48; hour++)
        note(catalog, START_MS + hour * HOUR_MS, 500 * GIB + hour * GIB);
    ck_assert_double_lt(days_left(catalog, 548 * GIB, START_MS + 2 * DAY_MS), 0);
}
END_TEST

START_TEST(a_sample_of_a_clock_that_was_ahead_does_not_count_and_goes)
{
    g_autofree char *store = unit_dir();
    AUTO(catalog) catalog = open_catalog(store);
    g_autoptr(GError) error = NULL;
    unsigned samples = 0;

    note(catalog, START_MS + 3650 * DAY_MS, 900 * GIB);
    fill_evenly(catalog, START_MS, 48);
    ck_assert_double_eq_tol(days_left(catalog, 452 * GIB, START_MS + 2 * DAY_MS), 452.0 / 24, 0.01);
    unit_ok(catalog_each(catalog, CATALOG_HISTORY, "space/", count, &samples, &error), error);
    ck_assert_uint_eq(samples, 49);
}
END_TEST

START_TEST(a_few_hours_tell_nothing)
{
    g_autofree char *store = unit_dir();
    AUTO(catalog) catalog = open_catalog(store);

    fill_evenly(catalog, START_MS, 6);
    ck_assert_double_lt(days_left(catalog, 494 * GIB, START_MS + 6 * HOUR_MS), 0);
}
END_TEST

START_TEST(samples_are_one_an_hour_and_do_not_become_more_for_ever)
{
    g_autofree char *store = unit_dir();
    AUTO(catalog) catalog = open_catalog(store);
    g_autoptr(GError) error = NULL;
    unsigned samples = 0;

    /* A sample a day is enough to see it. */
    for (unsigned day = 0; day < 60; day++)
        for (unsigned minute = 0; minute < 3; minute++)
            note(catalog, START_MS + day * DAY_MS + minute * MINUTE_MS, 500 * GIB);
    unit_ok(catalog_each(catalog, CATALOG_HISTORY, "space/", count, &samples, &error), error);
    ck_assert_uint_ge(samples, 37);
    ck_assert_uint_le(samples, 39);
}
END_TEST

int main(void)
{
    return UNIT_RUN("pace", what_a_vm_always_does_is_usual, many_times_as_much_at_once_is_not,
                    a_busy_night_each_month_is_usual, what_was_a_month_ago_is_forgotten,
                    a_point_that_comes_late_has_more_in_it, little_is_never_unusual,
                    a_vm_that_is_new_has_no_habits, a_full_point_says_nothing,
                    a_clock_that_was_ahead_spoils_nothing_for_long,
                    a_sample_of_a_clock_that_was_ahead_does_not_count_and_goes,
                    a_store_that_fills_evenly_has_so_many_days, what_is_old_does_not_count,
                    one_that_does_not_fill_has_room_for_ever, a_few_hours_tell_nothing,
                    samples_are_one_an_hour_and_do_not_become_more_for_ever);
}
