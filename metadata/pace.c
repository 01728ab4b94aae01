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

/* ---- VMs */

/* In an hour: BYTES that have come between two points. */
static double per_hour(uint64_t bytes, int64_t from_ms, int64_t to_ms)
{
    return (double)bytes * (double)HOUR_MS / (double)MAX(to_ms - from_ms, HOUR_MS);
}

/* Which of the stretches from FIRST on end within an hour with it; the number of the first that does not. */
static unsigned end_of_hour(struct stretch *const *stretches, unsigned first, unsigned count)
{
    unsigned end = first + 1;

    while (end < count && stretches[end]->to_ms - stretches[first]->to_ms < HOUR_MS)
        end++;
    return end;
}

static uint64_t changed_in(struct stretch *const *stretches, unsigned first, unsigned end)
{
    uint64_t bytes = 0;

    for (unsigned i = first; i < end; i++)
        bytes += stretches[i]->changed_bytes;
    return bytes;
}

void pace_of(struct stretch *const *stretches, unsigned count, struct pace *pace)
{
    unsigned recent = count;

    *pace = (struct pace){0};
    /* The first of all has none before it, which would tell over how long it has changed. */
    while (recent > 1 && stretches[count - 1]->to_ms - stretches[recent - 1]->to_ms < HOUR_MS)
        recent--;
    if (recent == count)
        return;
    pace->known = changed_in(stretches, recent, count) > 0;
    pace->bytes = per_hour(changed_in(stretches, recent, count), stretches[recent - 1]->to_ms,
                           stretches[count - 1]->to_ms);
    for (unsigned i = 1, end; i < recent; i = end, pace->hours++) {
        end = end_of_hour(stretches, i, recent);
        pace->busiest_bytes =
            MAX(pace->busiest_bytes, per_hour(changed_in(stretches, i, end),
                                              stretches[i - 1]->to_ms, stretches[end - 1]->to_ms));
    }
}

bool pace_is_unusual(const struct pace *pace)
{
    return pace->hours >= HABIT_HOURS && pace->bytes > UNUSUAL_BYTES &&
           pace->bytes > UNUSUAL_TIMES * pace->busiest_bytes;
}

/* ---- The store */

/* Beside the stretches in the catalog: no UUID begins so. */
#define SPACE_KEY "space/"
#define SPACE_MS (7 * DAY_MS)
/* Room that comes and goes within that tells nothing. */
#define SPACE_MIN_MS (DAY_MS / 2)

/* Samples of the time from FROM_MS on, for the straight line through them. */
struct space {
    int64_t from_ms, first_ms, last_ms;
    double count, sum_x, sum_y, sum_xx, sum_xy; /* x in days, y in bytes used */
    char *newest, *too_old;                     /* keys, or NULL */
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

    g_free(self->newest);
    self->newest = g_strdup(key);
    if (!self->too_old && ms < self->from_ms - PACE_MS)
        self->too_old = g_strdup(key);
    if (ms >= self->from_ms && json_need_u64(value, "free", &free_bytes, NULL) &&
        json_need_u64(value, "total", &total_bytes, NULL))
        add_sample(self, ms, (double)total_bytes - (double)free_bytes);
    return true;
}

static void space_clear(struct space *space)
{
    g_free(space->newest);
    g_free(space->too_old);
}
#define AUTO_SPACE __attribute__((cleanup(space_clear))) struct space

bool space_note(struct catalog *catalog, uint64_t free_bytes, uint64_t total_bytes, int64_t now_ms,
                GError **error)
{
    AUTO_SPACE space = {.from_ms = now_ms - SPACE_MS};
    g_autofree char *key = space_key(now_ms);
    json_auto_t *sample = json_object();
    struct catalog_entry entries[] = {{CATALOG_HISTORY, key, sample},
                                      {CATALOG_HISTORY, NULL, NULL}};

    if (!catalog_each(catalog, CATALOG_HISTORY, SPACE_KEY, read_sample, &space, error))
        return false;
    if (g_strcmp0(space.newest, key) == 0)
        return true;
    json_set_u64(sample, "free", free_bytes);
    json_set_u64(sample, "total", total_bytes);
    entries[1].key = space.too_old;
    return catalog_put_all(catalog, entries, space.too_old ? 2 : 1, error);
}

bool space_days_left(struct catalog *catalog, uint64_t free_bytes, int64_t now_ms, double *days,
                     GError **error)
{
    AUTO_SPACE space = {.from_ms = now_ms - SPACE_MS};
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
