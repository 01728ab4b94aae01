/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "common/common.h"
#include "metadata/retention.h"

static const struct {
    const char *name;
    const char *period; /* format of its id, in local time; NULL: each instant is one */
    const char *of_same;
} rules[RETENTION_RULES] = {
    [RETENTION_LAST] = {"last", NULL, "instant"},
    [RETENTION_HOURLY] = {"hourly", "%Y/%m/%d/%H", "hour"},
    [RETENTION_DAILY] = {"daily", "%Y/%m/%d", "day"},
    [RETENTION_WEEKLY] = {"weekly", "%G/%V", "week"},
    [RETENTION_MONTHLY] = {"monthly", "%Y/%m", "month"},
    [RETENTION_YEARLY] = {"yearly", "%Y", "year"},
};

static bool parse_word(const char *word, struct retention *retention, GError **error)
{
    const char *equals = strchr(word, '=');
    uint64_t count;

    for (unsigned i = 0; equals && i < RETENTION_RULES; i++) {
        if (strlen(rules[i].name) != (size_t)(equals - word) ||
            strncmp(word, rules[i].name, (size_t)(equals - word)) != 0)
            continue;
        if (retention->keep[i])
            return fail(error, ERROR_CONFIG, "'%s' is there twice", rules[i].name);
        if (!g_ascii_string_to_unsigned(equals + 1, 10, 1, RETENTION_MAX, &count, NULL))
            return fail(error, ERROR_CONFIG,
                        "'%s': how many is a number from 1 to %d; leave the rule out to keep none "
                        "by it",
                        word, RETENTION_MAX);
        retention->keep[i] = (unsigned)count;
        return true;
    }
    return fail(error, ERROR_CONFIG,
                "'%s' is no rule; rules are last=N, hourly=N, daily=N, weekly=N, monthly=N and "
                "yearly=N",
                word);
}

bool retention_parse(const char *text, struct retention *retention, GError **error)
{
    g_auto(GStrv) words = g_strsplit_set(text, " \t", -1);
    struct retention parsed = {};

    for (char **word = words; *word; word++)
        if (**word && !parse_word(*word, &parsed, error))
            return false;
    if (retention_is_empty(&parsed))
        return fail(error, ERROR_CONFIG,
                    "no rule is given, such as: last=24 daily=14; to keep every point, give no "
                    "policy");
    *retention = parsed;
    return true;
}

char *retention_text(const struct retention *retention)
{
    GString *text = g_string_new(NULL);

    for (unsigned i = 0; i < RETENTION_RULES; i++)
        if (retention->keep[i])
            g_string_append_printf(text, "%s%s=%u", text->len ? " " : "", rules[i].name,
                                   retention->keep[i]);
    return g_string_free(text, FALSE);
}

bool retention_is_empty(const struct retention *retention)
{
    for (unsigned i = 0; i < RETENTION_RULES; i++)
        if (retention->keep[i])
            return false;
    return true;
}

void retention_point_clear(struct retention_point *point)
{
    g_clear_pointer(&point->rule, g_free);
}

/* The id of the period of RULE that POINT lies in. An instant that no calendar has is one of its own.
 */
static char *period_of(const struct retention_point *point, enum retention_rule rule)
{
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_local(point->time_ms / 1000);

    if (!time || !rules[rule].period)
        return g_strdup_printf("%" PRId64, point->time_ms);
    return g_date_time_format(time, rules[rule].period);
}

static void mark(struct retention_point *point, bool keep, char *rule)
{
    point->keep = keep;
    point->rule = rule;
}

/* The periods of RULE that earlier rules have kept a point of. */
static GHashTable *periods_kept(enum retention_rule rule, const struct retention_point *points,
                                unsigned count)
{
    GHashTable *periods = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (unsigned i = 0; i < count; i++)
        if (points[i].keep && !points[i].protected_by)
            g_hash_table_add(periods, period_of(&points[i], rule));
    return periods;
}

static void apply_rule(enum retention_rule rule, unsigned keep, struct retention_point *points,
                       unsigned count)
{
    g_autoptr(GHashTable) before = periods_kept(rule, points, count);
    /* period -> its number in this rule */
    g_autoptr(GHashTable) taken = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (unsigned i = 0; i < count; i++) {
        g_autofree char *period = points[i].rule ? NULL : period_of(&points[i], rule);
        unsigned number;

        if (!period || g_hash_table_contains(before, period))
            continue;
        number = GPOINTER_TO_UINT(g_hash_table_lookup(taken, period));
        if (number) {
            mark(&points[i], false,
                 g_strdup_printf("%s #%u is of the same %s", rules[rule].name, number,
                                 rules[rule].of_same));
            continue;
        }
        if (g_hash_table_size(taken) == keep)
            return;
        number = g_hash_table_size(taken) + 1;
        g_hash_table_insert(taken, g_steal_pointer(&period), GUINT_TO_POINTER(number));
        mark(&points[i], true, g_strdup_printf("%s #%u", rules[rule].name, number));
    }
}

void retention_decide(const struct retention *retention, struct retention_point *points,
                      unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        mark(&points[i], points[i].protected_by != NULL, g_strdup(points[i].protected_by));
    for (unsigned rule = 0; rule < RETENTION_RULES; rule++)
        if (retention->keep[rule])
            apply_rule((enum retention_rule)rule, retention->keep[rule], points, count);
    for (unsigned i = 0; i < count; i++)
        if (!points[i].rule && retention_is_empty(retention))
            mark(&points[i], true, g_strdup("there is no policy"));
        else if (!points[i].rule)
            mark(&points[i], false, g_strdup("no rule keeps it"));
}
