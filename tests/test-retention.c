/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of retention.h, on calendars as they happen. */
#include "metadata/metadata.h"
#include "tests/unit.h"

#define HOUR_MS (INT64_C(3600) * 1000)
#define DAY_MS (24 * HOUR_MS)
#define POINTS_MAX 2000

/* Points of a VM, newest first. */
struct history {
    struct retention_point points[POINTS_MAX];
    unsigned count;
};

static void history_clear(struct history *history)
{
    for (unsigned i = 0; i < history->count; i++)
        retention_point_clear(&history->points[i]);
    g_free(history);
}
static void history_cleanup(struct history **history)
{
    history_clear(*history);
}
#define AUTO_HISTORY __attribute__((cleanup(history_cleanup))) struct history

static int64_t at(const char *time)
{
    g_autoptr(GError) error = NULL;
    int64_t ms;

    unit_ok(time_parse(time, &ms, &error), error);
    return ms;
}

static void use_zone(const char *zone)
{
    setenv("TZ", zone, 1);
    tzset();
}

static void add(struct history *history, int64_t time_ms)
{
    ck_assert_uint_lt(history->count, POINTS_MAX);
    history->points[history->count++].time_ms = time_ms;
}

/* COUNT points, the newest at NEWEST, STEP_MS between them. */
static struct history *every(const char *newest, int64_t step_ms, unsigned count)
{
    struct history *history = g_new0(struct history, 1);

    for (unsigned i = 0; i < count; i++)
        add(history, at(newest) - i * step_ms);
    return history;
}

static void decide(struct history *history, const char *policy)
{
    struct retention retention = {};
    g_autoptr(GError) error = NULL;

    unit_ok(retention_parse(policy, &retention, &error), error);
    retention_decide(&retention, history->points, history->count);
}

static unsigned kept(const struct history *history)
{
    unsigned count = 0;

    for (unsigned i = 0; i < history->count; i++)
        count += history->points[i].keep;
    return count;
}

static void is_kept(const struct history *history, unsigned i, const char *rule)
{
    ck_assert_msg(history->points[i].keep, "point %u: %s", i, history->points[i].rule);
    ck_assert_str_eq(history->points[i].rule, rule);
}

static void is_dropped(const struct history *history, unsigned i, const char *rule)
{
    ck_assert_msg(!history->points[i].keep, "point %u: %s", i, history->points[i].rule);
    ck_assert_str_eq(history->points[i].rule, rule);
}

START_TEST(reads_a_policy_and_writes_it_back)
{
    struct retention retention;
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;

    unit_ok(retention_parse("  yearly=3\tlast=24  daily=14 ", &retention, &error), error);
    ck_assert_uint_eq(retention.keep[RETENTION_LAST], 24);
    ck_assert_uint_eq(retention.keep[RETENTION_HOURLY], 0);
    ck_assert_uint_eq(retention.keep[RETENTION_YEARLY], 3);
    text = retention_text(&retention);
    ck_assert_str_eq(text, "last=24 daily=14 yearly=3");
}
END_TEST

START_TEST(refuses_a_policy_that_says_nothing_or_nonsense)
{
    static const struct {
        const char *text, *part;
    } wrong[] = {
        {"", "no rule is given"},      {"  ", "no rule is given"},
        {"last", "'last' is no rule"}, {"last=0", "from 1 to"},
        {"last=-1", "from 1 to"},      {"last=", "from 1 to"},
        {"last=100001", "from 1 to"},  {"daily=1 daily=2", "'daily' is there twice"},
        {"=3", "'=3' is no rule"},     {"secondly=3", "'secondly=3' is no rule"},
        {"dail=3", "'dail=3' is no"},  {"daily=3,weekly=2", "from 1 to"},
        {"daily =3", "'daily' is no"},
    };
    struct retention retention = {.keep = {7}};
    GError *error = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++)
        unit_fails(retention_parse(wrong[i].text, &retention, &error), error, ERROR_CONFIG,
                   wrong[i].part);
    ck_assert_uint_eq(retention.keep[RETENTION_LAST], 7);
}
END_TEST

START_TEST(no_policy_keeps_everything)
{
    AUTO_HISTORY *history = every("2026-11-20T12:00:00Z", HOUR_MS, 50);

    retention_decide(&(struct retention){}, history->points, history->count);
    ck_assert_uint_eq(kept(history), 50);
    ck_assert_str_eq(history->points[7].rule, "there is no policy");
}
END_TEST

START_TEST(last_keeps_the_newest)
{
    AUTO_HISTORY *history = every("2026-11-20T12:00:00Z", HOUR_MS, 10);

    decide(history, "last=3");
    is_kept(history, 0, "last #1");
    is_kept(history, 2, "last #3");
    is_dropped(history, 3, "no rule keeps it");
    ck_assert_uint_eq(kept(history), 3);
}
END_TEST

START_TEST(a_day_is_kept_by_its_newest_point)
{
    AUTO_HISTORY *history = NULL;

    use_zone("UTC");
    history = every("2026-11-20T02:00:00Z", HOUR_MS, 72);
    decide(history, "daily=2");
    is_kept(history, 0, "daily #1");
    is_dropped(history, 1, "daily #1 is of the same day");
    is_dropped(history, 2, "daily #1 is of the same day");
    is_kept(history, 3, "daily #2"); /* the 19th at 23:00 */
    is_dropped(history, 26, "daily #2 is of the same day");
    is_dropped(history, 27, "no rule keeps it");
    ck_assert_uint_eq(kept(history), 2);
}
END_TEST

START_TEST(later_rules_go_on_where_earlier_ones_end)
{
    AUTO_HISTORY *history = NULL;

    use_zone("UTC");
    /* One a day from Friday 2026-11-20 back. */
    history = every("2026-11-20T12:00:00Z", DAY_MS, 800);
    decide(history, "last=2 daily=3 weekly=2 monthly=2 yearly=1");
    is_kept(history, 0, "last #1");
    is_kept(history, 1, "last #2");
    /* The 20th and the 19th are covered, so three more days count. */
    is_kept(history, 2, "daily #1");
    is_kept(history, 4, "daily #3");
    /* The 16th is the Monday of the covered week; Sunday the 15th is the newest of the one before. */
    is_dropped(history, 6, "weekly #1 is of the same week");
    is_kept(history, 5, "weekly #1");
    is_kept(history, 12, "weekly #2");
    /* November is covered. */
    is_kept(history, 20, "monthly #1");
    is_kept(history, 51, "monthly #2");
    is_kept(history, 324, "yearly #1"); /* 2025-12-31 */
    ck_assert_uint_eq(kept(history), 10);
}
END_TEST

START_TEST(what_one_rule_dropped_no_later_rule_revives)
{
    AUTO_HISTORY *history = NULL;

    use_zone("UTC");
    /* The week from September 28th to October 4th belongs to two months. */
    history = every("2026-10-04T12:00:00Z", DAY_MS, 14);
    decide(history, "weekly=1 monthly=2");
    is_kept(history, 0, "weekly #1");
    is_dropped(history, 4, "weekly #1 is of the same week"); /* September 30th */
    is_kept(history, 7, "monthly #1");                       /* September 27th */
    ck_assert_uint_eq(kept(history), 2);
}
END_TEST

START_TEST(a_long_pause_loses_nothing)
{
    static const char policy[] = "daily=3 weekly=2";
    AUTO_HISTORY *history = NULL;

    use_zone("UTC");
    history = every("2023-05-05T12:00:00Z", DAY_MS, 20);
    decide(history, policy);
    is_kept(history, 2, "daily #3");
    is_kept(history, 5, "weekly #1"); /* Sunday, April 30th */
    is_kept(history, 12, "weekly #2");
    ck_assert_uint_eq(kept(history), 5);
    for (unsigned i = 0; i < history->count; i++)
        retention_point_clear(&history->points[i]);
    /* One more, three years later: of the others one goes, as on any day. */
    memmove(history->points + 1, history->points, history->count++ * sizeof *history->points);
    history->points[0] = (struct retention_point){.time_ms = at("2026-05-05T12:00:00Z")};
    decide(history, policy);
    is_kept(history, 0, "daily #1");
    is_kept(history, 1, "daily #2");
    is_kept(history, 2, "daily #3");
    is_dropped(history, 3, "no rule keeps it");
    is_kept(history, 6, "weekly #1");
    is_kept(history, 13, "weekly #2");
    ck_assert_uint_eq(kept(history), 5);
}
END_TEST

START_TEST(weeks_are_those_of_iso_8601)
{
    AUTO_HISTORY *history = NULL;

    use_zone("UTC");
    /* 2026-12-28 to 2027-01-03 is week 53 of 2026. */
    history = every("2027-01-04T12:00:00Z", DAY_MS, 10);
    decide(history, "weekly=9");
    is_kept(history, 0, "weekly #1");
    is_kept(history, 1, "weekly #2");
    is_dropped(history, 7, "weekly #2 is of the same week");
    is_kept(history, 8, "weekly #3");
}
END_TEST

START_TEST(an_hour_that_comes_twice_is_one)
{
    AUTO_HISTORY *history = g_new0(struct history, 1);

    use_zone("Europe/Berlin");
    /* Summer time ended on 2026-10-25 at 03:00, which was 02:00 again: 01:00Z. */
    add(history, at("2026-10-25T02:30:00Z")); /* 03:30 */
    add(history, at("2026-10-25T01:30:00Z")); /* 02:30, the second time */
    add(history, at("2026-10-25T00:30:00Z")); /* 02:30 */
    add(history, at("2026-10-24T23:30:00Z")); /* 01:30 */
    decide(history, "hourly=9");
    is_kept(history, 1, "hourly #2");
    is_dropped(history, 2, "hourly #2 is of the same hour");
    is_kept(history, 3, "hourly #3");
}
END_TEST

START_TEST(days_are_those_of_the_place)
{
    AUTO_HISTORY *history = g_new0(struct history, 1);

    use_zone("America/New_York");
    add(history, at("2026-11-20T04:30:00Z")); /* the 19th, 23:30 */
    add(history, at("2026-11-19T14:00:00Z")); /* the 19th */
    decide(history, "daily=9");
    is_kept(history, 0, "daily #1");
    is_dropped(history, 1, "daily #1 is of the same day");
}
END_TEST

START_TEST(two_points_of_one_second_are_two)
{
    AUTO_HISTORY *history = g_new0(struct history, 1);

    add(history, at("2026-11-20T12:00:00.900Z"));
    add(history, at("2026-11-20T12:00:00.100Z"));
    add(history, at("2026-11-20T11:00:00.000Z"));
    decide(history, "last=2");
    is_kept(history, 1, "last #2");
    is_dropped(history, 2, "no rule keeps it");
}
END_TEST

START_TEST(a_clock_that_went_back_confuses_nothing)
{
    AUTO_HISTORY *history = g_new0(struct history, 1);

    use_zone("UTC");
    /* The ids of points ascend whatever the clock says; here are their times. */
    add(history, at("2026-11-20T12:00:00Z"));
    add(history, at("2029-01-01T12:00:00Z"));
    add(history, at("2026-11-20T10:00:00Z"));
    add(history, at("2026-11-19T10:00:00Z"));
    decide(history, "daily=3");
    is_kept(history, 0, "daily #1");
    is_kept(history, 1, "daily #2");
    is_dropped(history, 2, "daily #1 is of the same day");
    is_kept(history, 3, "daily #3");
}
END_TEST

START_TEST(what_is_protected_stays_and_does_not_count)
{
    AUTO_HISTORY *history = NULL;

    use_zone("UTC");
    history = every("2026-11-20T12:00:00Z", DAY_MS, 6);
    history->points[0].protected_by = "in use";
    history->points[5].protected_by = "base of 2 points";
    decide(history, "daily=2");
    is_kept(history, 0, "in use");
    is_kept(history, 1, "daily #1");
    is_kept(history, 2, "daily #2");
    is_dropped(history, 3, "no rule keeps it");
    is_kept(history, 5, "base of 2 points");
    ck_assert_uint_eq(kept(history), 4);
}
END_TEST

START_TEST(a_protected_point_does_not_stand_for_its_day)
{
    AUTO_HISTORY *history = NULL;

    use_zone("UTC");
    history = every("2026-11-20T12:00:00Z", HOUR_MS, 3);
    history->points[0].protected_by = "in use";
    decide(history, "last=1 daily=1");
    is_kept(history, 1, "last #1");
    is_dropped(history, 2, "no rule keeps it");
}
END_TEST

/* The newest of a month may have gone long before the month becomes the oldest that counts; then
 * another stands for it. The numbers are the same. */
START_TEST(pruning_every_day_keeps_as_many_as_pruning_once)
{
    static const char policy[] = "last=3 daily=7 weekly=4 monthly=6 yearly=2";
    AUTO_HISTORY *all = NULL;
    g_autoptr(GArray) left = g_array_new(FALSE, FALSE, sizeof(int64_t));
    unsigned recent = 0;

    use_zone("Europe/Berlin");
    all = every("2026-11-20T12:00:00Z", DAY_MS, 730);
    decide(all, policy);
    for (unsigned day = all->count; day-- > 0;) {
        AUTO_HISTORY *now = g_new0(struct history, 1);

        g_array_insert_val(left, 0, all->points[day].time_ms);
        for (unsigned i = 0; i < left->len; i++)
            add(now, g_array_index(left, int64_t, i));
        decide(now, policy);
        for (unsigned i = now->count; i-- > 0;)
            if (!now->points[i].keep)
                g_array_remove_index(left, i);
    }
    ck_assert_uint_eq(left->len, kept(all));
    for (unsigned i = 0; recent < 3 + 7 + 4; i++)
        if (all->points[i].keep)
            ck_assert_int_eq(g_array_index(left, int64_t, recent++), all->points[i].time_ms);
}
END_TEST

START_TEST(the_first_instant_of_the_calendar_is_decided_too)
{
    AUTO_HISTORY *history = g_new0(struct history, 1);

    use_zone("America/New_York");
    add(history, at("0001-01-01T00:00:00Z"));
    decide(history, "yearly=1");
    is_kept(history, 0, "yearly #1");
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "retention", reads_a_policy_and_writes_it_back,
        refuses_a_policy_that_says_nothing_or_nonsense, no_policy_keeps_everything,
        last_keeps_the_newest, a_day_is_kept_by_its_newest_point,
        later_rules_go_on_where_earlier_ones_end, what_one_rule_dropped_no_later_rule_revives,
        a_long_pause_loses_nothing, weeks_are_those_of_iso_8601, an_hour_that_comes_twice_is_one,
        days_are_those_of_the_place, two_points_of_one_second_are_two,
        a_clock_that_went_back_confuses_nothing, what_is_protected_stays_and_does_not_count,
        a_protected_point_does_not_stand_for_its_day,
        pruning_every_day_keeps_as_many_as_pruning_once,
        the_first_instant_of_the_calendar_is_decided_too);
}
