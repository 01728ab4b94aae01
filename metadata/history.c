/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata/history.h"

#include <string.h>

#define HOUR_MS (INT64_C(3600) * 1000)
#define DAY_MS (24 * HOUR_MS)
/* How old is what is made one an hour, and one a day. */
#define HOURLY_AFTER_MS DAY_MS
#define DAILY_AFTER_MS (30 * DAY_MS)
/* Entries of one transaction. */
#define BATCH 256
/* Beside the stretches: no UUID begins so. */
#define CONDENSED_KEY "condensed/"

void stretch_free(struct stretch *stretch)
{
    if (!stretch)
        return;
    g_free(stretch->vm_uuid);
    g_free(stretch->destination);
    g_free(stretch->vm);
    g_free(stretch->protection);
    g_free(stretch);
}

static void free_stretch(void *stretch)
{
    stretch_free(stretch);
}

bool stretch_is_of(const struct stretch *stretch, const struct stretch *other)
{
    return strcmp(stretch->vm_uuid, other->vm_uuid) == 0 &&
           strcmp(stretch->destination, other->destination) == 0;
}

int64_t stretch_gap_ms(const struct stretch *stretch, const struct stretch *next)
{
    return next->from_committed_ms - stretch->to_ms;
}

int64_t stretch_late_ms(const struct stretch *stretch, int64_t gap_ms)
{
    return stretch->rpo_ms > 0 ? MAX(gap_ms - stretch->rpo_ms, 0) : 0;
}

/* ---- Records */

static char *key_of(const struct stretch *stretch)
{
    g_autofree char *point = point_id_format(stretch->from_ms);

    return g_strdup_printf("%s/%s/%s", stretch->vm_uuid, stretch->destination, point);
}

static void set_ms(json_t *json, const char *key, int64_t ms)
{
    json_set_u64(json, key, (uint64_t)MAX(ms, 0));
}

static json_t *stretch_json(const struct stretch *stretch)
{
    json_t *json = json_object();

    json_set_string(json, "vm", stretch->vm);
    json_set_string(json, "protection", stretch->protection);
    set_ms(json, "rpo_ms", stretch->rpo_ms);
    set_ms(json, "from", stretch->from_ms);
    set_ms(json, "from_committed", stretch->from_committed_ms);
    set_ms(json, "to", stretch->to_ms);
    set_ms(json, "to_committed", stretch->to_committed_ms);
    json_set_u64(json, "points", stretch->points);
    set_ms(json, "worst_ms", stretch->worst_ms);
    set_ms(json, "sum_ms", stretch->sum_ms);
    json_set_u64(json, "late", stretch->late);
    set_ms(json, "late_ms", stretch->late_ms);
    json_set_u64(json, "bytes", stretch->bytes);
    json_set_real(json, "seconds", stretch->seconds);
    return json;
}

static bool need_ms(const json_t *json, const char *key, int64_t *ms)
{
    uint64_t value;

    if (!json_need_u64(json, key, &value, NULL) || value > INT64_MAX)
        return false;
    *ms = (int64_t)value;
    return true;
}

/* NULL for what is none. */
static struct stretch *stretch_parse(const char *key, const json_t *json)
{
    AUTO(stretch) stretch = g_new0(struct stretch, 1);
    g_auto(GStrv) parts = g_strsplit(key, "/", 3);

    if (g_strv_length(parts) != 3 || !uuid_is_valid(parts[0]) ||
        !need_ms(json, "rpo_ms", &stretch->rpo_ms) || !need_ms(json, "from", &stretch->from_ms) ||
        !need_ms(json, "from_committed", &stretch->from_committed_ms) ||
        !need_ms(json, "to", &stretch->to_ms) ||
        !need_ms(json, "to_committed", &stretch->to_committed_ms) ||
        !need_ms(json, "worst_ms", &stretch->worst_ms) ||
        !need_ms(json, "sum_ms", &stretch->sum_ms) ||
        !need_ms(json, "late_ms", &stretch->late_ms) ||
        !json_need_u64(json, "late", &stretch->late, NULL) ||
        !json_need_u64(json, "points", &stretch->points, NULL) ||
        !json_need_u64(json, "bytes", &stretch->bytes, NULL))
        return NULL;
    stretch->vm_uuid = g_strdup(parts[0]);
    stretch->destination = g_strdup(parts[1]);
    stretch->vm = g_strdup(json_get_string(json, "vm"));
    stretch->protection = g_strdup(json_get_string(json, "protection"));
    stretch->seconds = json_number_value(json_object_get(json, "seconds"));
    return g_steal_pointer(&stretch);
}

/* ---- Making it smaller */

struct condensing {
    int64_t now_ms;
    GPtrArray *keep; /* of struct stretch: those that have become more than they were */
    GPtrArray *gone; /* char *: keys of what went into others, or is too old */
    /* The newest so far of its VM and destination, ours until it is in KEEP, or NULL; and whether others went into it. */
    struct stretch *at;
    bool grown;
};

/* Which stretch of time MS is in; those of one are made one. */
static int64_t bucket_of(const struct condensing *self, int64_t ms)
{
    int64_t age_ms = self->now_ms - ms;

    return age_ms > DAILY_AFTER_MS ? ms / DAY_MS * DAY_MS : ms / HOUR_MS * HOUR_MS;
}

static bool go_together(const struct condensing *self, const struct stretch *one,
                        const struct stretch *next)
{
    return stretch_is_of(one, next) && one->rpo_ms == next->rpo_ms &&
           g_strcmp0(one->protection, next->protection) == 0 &&
           self->now_ms - next->to_ms > HOURLY_AFTER_MS &&
           bucket_of(self, one->from_ms) == bucket_of(self, next->to_ms);
}

static void add_next(struct stretch *one, const struct stretch *next)
{
    int64_t gap_ms = stretch_gap_ms(one, next), late_ms = stretch_late_ms(next, gap_ms);

    one->worst_ms = MAX(MAX(one->worst_ms, next->worst_ms), gap_ms);
    one->sum_ms += next->sum_ms + gap_ms;
    one->late += next->late + (late_ms > 0);
    one->late_ms += next->late_ms + late_ms;
    one->to_ms = next->to_ms;
    one->to_committed_ms = next->to_committed_ms;
    one->points += next->points;
    one->bytes += next->bytes;
    one->seconds += next->seconds;
}

/* A condensing that was killed has left what is in the one before already. */
static bool is_covered(const struct stretch *one, const struct stretch *next)
{
    return stretch_is_of(one, next) && next->to_ms <= one->to_ms;
}

static void close_stretch(struct condensing *self)
{
    if (self->at && self->grown)
        g_ptr_array_add(self->keep, self->at);
    else
        stretch_free(self->at);
    self->at = NULL;
    self->grown = false;
}

static bool condense_one(const char *key, json_t *value, void *data)
{
    struct condensing *self = data;
    AUTO(stretch) stretch = stretch_parse(key, value);

    if (!stretch)
        return true;
    if (self->now_ms - stretch->to_ms > HISTORY_KEEP_MS ||
        (self->at && is_covered(self->at, stretch))) {
        g_ptr_array_add(self->gone, g_strdup(key));
    } else if (self->at && go_together(self, self->at, stretch)) {
        add_next(self->at, stretch);
        self->grown = true;
        g_ptr_array_add(self->gone, g_strdup(key));
    } else {
        close_stretch(self);
        self->at = g_steal_pointer(&stretch);
    }
    return true;
}

static void free_values(void *value)
{
    json_decref(value);
}

/* What has become more is put before what is in it goes. */
static bool write_all(struct catalog *catalog, const struct condensing *self, GError **error)
{
    g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) values = g_ptr_array_new_with_free_func(free_values);
    g_autoptr(GArray) entries = g_array_new(FALSE, TRUE, sizeof(struct catalog_entry));

    for (unsigned i = 0; i < self->keep->len; i++) {
        struct catalog_entry entry = {.table = CATALOG_HISTORY};
        char *key = key_of(self->keep->pdata[i]);
        json_t *value = stretch_json(self->keep->pdata[i]);

        g_ptr_array_add(keys, key);
        g_ptr_array_add(values, value);
        entry.key = key;
        entry.value = value;
        g_array_append_val(entries, entry);
    }
    for (unsigned i = 0; i < self->gone->len; i++) {
        struct catalog_entry entry = {.table = CATALOG_HISTORY, .key = self->gone->pdata[i]};

        g_array_append_val(entries, entry);
    }
    for (unsigned i = 0; i < entries->len; i += BATCH)
        if (!catalog_put_all(catalog, &g_array_index(entries, struct catalog_entry, i),
                             MIN(BATCH, entries->len - i), error))
            return false;
    return true;
}

bool history_condense(struct catalog *catalog, int64_t now_ms, GError **error)
{
    g_autoptr(GPtrArray) keep = g_ptr_array_new_with_free_func(free_stretch);
    g_autoptr(GPtrArray) gone = g_ptr_array_new_with_free_func(g_free);
    struct condensing self = {.now_ms = now_ms, .keep = keep, .gone = gone};
    bool read = catalog_each(catalog, CATALOG_HISTORY, "", condense_one, &self, error);

    close_stretch(&self);
    return read && write_all(catalog, &self, error);
}

/* Of all processes the first one that comes on a day. */
static bool condense_daily(struct catalog *catalog, GError **error)
{
    g_autofree char *now = point_id_format(time_now_ms());
    g_autofree char *key = g_strdup_printf(CONDENSED_KEY "%.8s", now);
    g_autoptr(GPtrArray) before = catalog_keys(catalog, CATALOG_HISTORY, CONDENSED_KEY, error);
    json_auto_t *value = json_object();
    struct catalog_entry entry = {CATALOG_HISTORY, key, value};
    bool first;

    if (!before)
        return false;
    if (g_ptr_array_find_with_equal_func(before, key, g_str_equal, NULL))
        return true;
    if (!catalog_insert(catalog, &entry, 1, &first, error))
        return false;
    if (!first)
        return true;
    for (unsigned i = 0; i < before->len; i++)
        if (!catalog_remove(catalog, CATALOG_HISTORY, before->pdata[i], error))
            return false;
    return history_condense(catalog, time_now_ms(), error);
}

bool history_add(struct catalog *catalog, const struct stretch *point,
                 const struct catalog_entry *with, GError **error)
{
    g_autofree char *key = key_of(point);
    json_auto_t *value = stretch_json(point);
    struct catalog_entry entries[2] = {{CATALOG_HISTORY, key, value}};

    if (with)
        entries[1] = *with;
    return catalog_put_all(catalog, entries, with ? 2 : 1, error) && condense_daily(catalog, error);
}

/* ---- Reading */

struct reading {
    int64_t from_ms, to_ms;
    GPtrArray *found;
};

static bool read_one(const char *key, json_t *value, void *data)
{
    struct reading *self = data;
    AUTO(stretch) stretch = stretch_parse(key, value);
    struct stretch *last = self->found->len ? self->found->pdata[self->found->len - 1] : NULL;

    if (!stretch || stretch->from_committed_ms > self->to_ms || (last && is_covered(last, stretch)))
        return true;
    if (last && stretch_is_of(last, stretch) && stretch->to_committed_ms < self->from_ms)
        g_ptr_array_set_size(self->found, (int)self->found->len - 1);
    g_ptr_array_add(self->found, g_steal_pointer(&stretch));
    return true;
}

GPtrArray *history_read(struct catalog *catalog, int64_t from_ms, int64_t to_ms, GError **error)
{
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(free_stretch);
    struct reading reading = {from_ms, to_ms, found};

    return catalog_each(catalog, CATALOG_HISTORY, "", read_one, &reading, error)
               ? g_steal_pointer(&found)
               : NULL;
}
