/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata/pace.h"

#include <inttypes.h>
#include <string.h>

#define HOUR_MS (INT64_C(3600) * 1000)
#define DAY_MS (24 * HOUR_MS)
/* Less than that in an hour is nobody's attack, and less than so many hours are no habit. */
#define UNUSUAL_BYTES (256.0 * 1024 * 1024)
#define UNUSUAL_TIMES 4
#define HABIT_HOURS 7
#define HABIT_DAYS 30
/* So long it is told. */
#define UNUSUAL_MS DAY_MS

/* ---- VMs */

static int64_t ms_of(const json_t *json, const char *key)
{
    return json_integer_value(json_object_get(json, key));
}

static double bytes_of(const json_t *json, const char *key)
{
    return json_number_value(json_object_get(json, key));
}

double pace_bytes(const json_t *pace)
{
    int64_t took_ms = ms_of(pace, "last") - ms_of(pace, "since");

    if (took_ms <= 0)
        return -1;
    return bytes_of(pace, "bytes") * (double)HOUR_MS / (double)MAX(took_ms, HOUR_MS);
}

static double busiest(const json_t *pace)
{
    const json_t *days = json_object_get(pace, "busiest"), *day;
    double most = 0;
    size_t i;

    json_array_foreach(days, i, day) most = MAX(most, json_number_value(json_array_get(day, 1)));
    return most;
}

/* What is too old for a habit, and what a clock has noted that was ahead. */
static void drop_days(json_t *days, json_int_t today)
{
    for (size_t i = json_array_size(days); i > 0; i--) {
        json_int_t day = json_integer_value(json_array_get(json_array_get(days, i - 1), 0));

        if (day <= today - HABIT_DAYS || day > today)
            json_array_remove(days, i - 1);
    }
}

/* The hour of PACE is over: it is a habit now. */
static void end_hour(json_t *pace)
{
    json_t *days = json_object_get(pace, "busiest");
    json_t *newest = json_array_get(days, json_array_size(days) - 1);
    json_int_t day = ms_of(pace, "last") / DAY_MS;
    double bytes = pace_bytes(pace);

    if (bytes < 0)
        return;
    if (!newest || json_integer_value(json_array_get(newest, 0)) != day)
        json_array_append_new(days, json_pack("[I, f]", day, bytes));
    else if (bytes > json_number_value(json_array_get(newest, 1)))
        json_array_set_new(newest, 1, json_real(bytes));
    drop_days(days, day);
    json_object_set_new(pace, "hours", json_integer(ms_of(pace, "hours") + 1));
}

static void begin_hour(json_t *pace, int64_t ms)
{
    json_object_set_new(pace, "since", json_integer(ms));
    json_object_set_new(pace, "bytes", json_integer(0));
}

static void note_unusual(json_t *pace)
{
    double bytes = pace_bytes(pace), most = busiest(pace);

    if (ms_of(pace, "hours") >= HABIT_HOURS && bytes > UNUSUAL_BYTES &&
        bytes > UNUSUAL_TIMES * most)
        json_object_set_new(pace, "unusual",
                            json_pack("{s:I, s:f, s:f}", "at", ms_of(pace, "last"), "bytes", bytes,
                                      "busiest", most));
}

json_t *pace_next(const json_t *pace, int64_t to_ms, uint64_t changed_bytes, bool full)
{
    json_t *next = json_is_object(pace)
                       ? json_deep_copy(pace)
                       : json_pack("{s:I, s:I, s:i, s:i, s:[], s:n}", "since", to_ms, "last", to_ms,
                                   "bytes", 0, "hours", 0, "busiest", "unusual");

    /* The clock was set back: nobody knows in which time that has changed. */
    full |= to_ms < ms_of(next, "last");
    if (ms_of(next, "last") - ms_of(next, "since") >= HOUR_MS || full) {
        end_hour(next);
        begin_hour(next, full ? to_ms : ms_of(next, "last"));
    }
    json_object_set_new(next, "last", json_integer(to_ms));
    if (!full) {
        json_object_set_new(next, "bytes",
                            json_integer(ms_of(next, "bytes") + (json_int_t)changed_bytes));
        note_unusual(next);
    }
    return next;
}

bool pace_is_unusual(const json_t *pace, int64_t now_ms, const json_t **unusual)
{
    *unusual = json_object_get(pace, "unusual");
    return json_is_object(*unusual) && ABS(now_ms - ms_of(*unusual, "at")) < UNUSUAL_MS;
}

/* ---- The store */

/* Beside the stretches in the catalog: no UUID begins so. */
#define SPACE_KEY "space/"
#define SPACE_MS (7 * DAY_MS)
#define SPACE_KEEP_MS (30 * DAY_MS)
/* Room that comes and goes within that tells nothing. */
#define SPACE_MIN_MS (DAY_MS / 2)

/* Samples of the time from FROM_MS to TO_MS, for the straight line through them. */
struct space {
    int64_t from_ms, to_ms, first_ms, last_ms;
    double count, sum_x, sum_y, sum_xx, sum_xy; /* x in days, y in bytes used */
    char *useless;                              /* key, or NULL */
};

static char *space_key(int64_t ms)
{
    return g_strdup_printf(SPACE_KEY "%012" PRId64, ms / HOUR_MS);
}

static void add_sample(struct space *self, int64_t ms, double used)
{
    double x = (double)(ms - self->from_ms) / DAY_MS;

    if (self->count == 0)
        self->first_ms = ms;
    self->last_ms = ms;
    self->count++;
    self->sum_x += x;
    self->sum_y += used;
    self->sum_xx += x * x;
    self->sum_xy += x * used;
}

static bool read_sample(const char *key, json_t *value, void *data)
{
    struct space *self = data;
    int64_t ms = g_ascii_strtoll(key + strlen(SPACE_KEY), NULL, 10) * HOUR_MS;
    uint64_t free_bytes, total_bytes;

    /* A clock that was ahead has noted what is not yet. */
    if (!self->useless && (ms < self->from_ms - SPACE_KEEP_MS || ms > self->to_ms))
        self->useless = g_strdup(key);
    if (ms >= self->from_ms && ms <= self->to_ms &&
        json_need_u64(value, "free", &free_bytes, NULL) &&
        json_need_u64(value, "total", &total_bytes, NULL))
        add_sample(self, ms, (double)total_bytes - (double)free_bytes);
    return true;
}

static void space_clear(struct space *space)
{
    g_free(space->useless);
}
#define AUTO_SPACE __attribute__((cleanup(space_clear))) struct space

bool space_note(struct catalog *catalog, uint64_t free_bytes, uint64_t total_bytes, int64_t now_ms,
                GError **error)
{
    AUTO_SPACE space = {.from_ms = now_ms - SPACE_MS, .to_ms = now_ms};
    g_autofree char *key = space_key(now_ms);
    json_auto_t *sample = json_object();
    json_auto_t *before = NULL;
    struct catalog_entry entries[] = {{CATALOG_HISTORY, key, sample},
                                      {CATALOG_HISTORY, NULL, NULL}};

    if (!catalog_get(catalog, CATALOG_HISTORY, key, &before, error))
        return false;
    if (before)
        return true;
    if (!catalog_each(catalog, CATALOG_HISTORY, SPACE_KEY, read_sample, &space, error))
        return false;
    json_set_u64(sample, "free", free_bytes);
    json_set_u64(sample, "total", total_bytes);
    entries[1].key = space.useless;
    return catalog_put_all(catalog, entries, space.useless ? 2 : 1, error);
}

bool space_days_left(struct catalog *catalog, uint64_t free_bytes, int64_t now_ms, double *days,
                     GError **error)
{
    AUTO_SPACE space = {.from_ms = now_ms - SPACE_MS, .to_ms = now_ms};
    double spread, slope;

    *days = -1;
    if (!catalog_each(catalog, CATALOG_HISTORY, SPACE_KEY, read_sample, &space, error))
        return false;
    spread = space.count * space.sum_xx - space.sum_x * space.sum_x;
    if (space.last_ms - space.first_ms < SPACE_MIN_MS || spread <= 0)
        return true;
    slope = (space.count * space.sum_xy - space.sum_x * space.sum_y) / spread;
    if (slope > 0)
        *days = (double)free_bytes / slope;
    return true;
}
