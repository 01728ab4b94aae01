/* SPDX-License-Identifier: Apache-2.0 */
/* How long a run will take, by those before it. */
#include "metadata/run-private.h"

#define RUNS_MAX 5 /* older ones say little about the hosts of today */

struct times {
    GArray *all;     /* of double: seconds of whole runs */
    GArray *down;    /* likewise: in which nothing ran, of moves */
    GHashTable *vms; /* name -> GArray of double */
};

static void array_free(void *array)
{
    g_array_unref(array);
}

static void times_clear(struct times *times)
{
    g_array_unref(times->all);
    g_array_unref(times->down);
    g_hash_table_unref(times->vms);
}
#define AUTO_TIMES __attribute__((cleanup(times_clear))) struct times

static void add_seconds(GArray *seconds, const json_t *from, const char *key)
{
    double value = json_number_value(json_object_get(from, key));

    if (value > 0)
        g_array_append_val(seconds, value);
}

static GArray *times_of(struct times *times, const char *vm)
{
    GArray *seconds = g_hash_table_lookup(times->vms, vm);

    if (!seconds) {
        seconds = g_array_new(FALSE, FALSE, sizeof(double));
        g_hash_table_insert(times->vms, g_strdup(vm), seconds);
    }
    return seconds;
}

static void take_result(struct times *times, const json_t *result)
{
    const json_t *vm;
    size_t i;

    add_seconds(times->all, result, "rto_seconds");
    add_seconds(times->down, result, "down_seconds");
    json_array_foreach(json_object_get(result, "vms"), i, vm)
    {
        const char *name = json_get_string(vm, "vm");

        if (name)
            add_seconds(times_of(times, name), vm, "rto_seconds");
    }
}

static int compare_doubles(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

/* The median: one run in which somebody had to look for a cable says nothing about the next. */
static double typical(GArray *seconds)
{
    g_array_sort(seconds, compare_doubles);
    return g_array_index(seconds, double, seconds->len / 2);
}

static json_t *times_json(struct times *times)
{
    json_t *json = json_object();
    json_t *vms = json_object();
    GHashTableIter iter;
    void *name, *seconds;

    json_set_u64(json, "runs", times->all->len);
    if (times->all->len > 0)
        json_set_real(json, "rto_seconds", typical(times->all));
    if (times->down->len > 0)
        json_set_real(json, "down_seconds", typical(times->down));
    g_hash_table_iter_init(&iter, times->vms);
    while (g_hash_table_iter_next(&iter, &name, &seconds))
        if (((GArray *)seconds)->len > 0)
            json_set_real(vms, name, typical(seconds));
    json_object_set_new(json, "vms", vms);
    return json;
}

json_t *run_forecast(struct catalog *catalog, const char *kind, const char *title, GError **error)
{
    g_autoptr(GPtrArray) runs = runs_newest_first(catalog, error);
    AUTO_TIMES times = {
        .all = g_array_new(FALSE, FALSE, sizeof(double)),
        .down = g_array_new(FALSE, FALSE, sizeof(double)),
        .vms = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, array_free),
    };

    if (!runs)
        return NULL;
    for (guint i = 0; i < runs->len && MAX(times.all->len, times.down->len) < RUNS_MAX; i++) {
        const json_t *record = runs->pdata[i];

        if (run_state_is(record, run_state_name(RUN_DONE)) &&
            g_strcmp0(json_get_string(record, "kind"), kind) == 0 &&
            g_strcmp0(json_get_string(record, "title"), title) == 0)
            take_result(&times, json_object_get(record, "result"));
    }
    return times_json(&times);
}
