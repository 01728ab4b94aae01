/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of runs, whoever executes them. */
#include "metadata/run-private.h"

#include <string.h>

static const char *const state_names[] = {
    [RUN_RUNNING] = "running", [RUN_DONE] = "done",           [RUN_PARTIAL] = "partially-failed",
    [RUN_FAILED] = "failed",   [RUN_CANCELLED] = "cancelled", [RUN_INTERRUPTED] = "interrupted",
};

const char *run_state_name(enum run_state state)
{
    return state_names[state];
}

bool run_state_is(const json_t *record, const char *state)
{
    return g_strcmp0(json_get_string(record, "state"), state) == 0;
}

char *run_lock_path(struct catalog *catalog, const char *id)
{
    g_autofree char *name = g_strdup_printf("run-%s.lock", id);

    return g_build_filename(catalog_lock_dir(catalog), name, NULL);
}

bool run_record(struct catalog *catalog, const char *id, json_t **record, GError **error)
{
    /* ID becomes a file name. */
    *record = NULL;
    if (name_is_safe(id) && !catalog_get(catalog, CATALOG_RUNS, id, record, error))
        return false;
    return *record ||
           fail(error, ERROR_NOT_FOUND, "there is no run %s; drctl run list shows all", id);
}

char *run_part_key(const char *id, const char *part)
{
    return g_strdup_printf("%s/%s", id, part);
}

bool run_part(struct catalog *catalog, const json_t *record, const char *part, json_t **value,
              GError **error)
{
    const char *id = json_get_string(record, "run");
    g_autofree char *key = run_part_key(id ? id : "", part);

    *value = json_incref(json_object_get(record, part));
    if (!*value && !catalog_get(catalog, CATALOG_PLANS, key, value, error))
        return false;
    if (!*value)
        *value = json_null();
    return true;
}

/* Replace *RECORD's stored state by the true one. The lock is looked at before the record is read
 * again: a run may end in between. */
static bool compute_state(struct catalog *catalog, json_t **record, GError **error)
{
    const char *id = json_get_string(*record, "run");
    g_autofree char *path = NULL;
    json_t *newer;

    if (!id || !name_is_safe(id) || !run_state_is(*record, run_state_name(RUN_RUNNING)))
        return true;
    path = run_lock_path(catalog, id);
    if (file_lock_held(path))
        return true;
    if (!run_record(catalog, id, &newer, error))
        return false;
    json_decref(*record);
    *record = newer;
    if (run_state_is(newer, run_state_name(RUN_RUNNING)))
        json_set_string(newer, "state", run_state_name(RUN_INTERRUPTED));
    return true;
}

static bool collect(const char *key, json_t *value, void *data)
{
    g_ptr_array_add(data, json_incref(value));
    return true;
}

static void unref_json(void *json)
{
    json_decref(json);
}

static GPtrArray *collect_all(struct catalog *catalog, enum catalog_table table, const char *prefix,
                              GError **error)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(unref_json);

    return catalog_each(catalog, table, prefix, collect, all, error) ? g_steal_pointer(&all) : NULL;
}

/* They begin with the time. Numbers do not sort as text: "r-20261120-2215-10" is newer than
 * "r-20261120-2215-9". */
bool run_is_before(const char *one, const char *other)
{
    return one && other && strverscmp(one, other) < 0;
}

static int compare_newest_first(const void *a, const void *b)
{
    const char *left = json_get_string(*(json_t *const *)a, "run");
    const char *right = json_get_string(*(json_t *const *)b, "run");

    return left && right ? strverscmp(right, left) : !left - !right;
}

GPtrArray *runs_newest_first(struct catalog *catalog, GError **error)
{
    g_autoptr(GPtrArray) runs = collect_all(catalog, CATALOG_RUNS, "", error);

    if (!runs)
        return NULL;
    for (guint i = 0; i < runs->len; i++) {
        json_t **record = (json_t **)&runs->pdata[i];

        if (!compute_state(catalog, record, error))
            return NULL;
    }
    g_ptr_array_sort(runs, compare_newest_first);
    return g_steal_pointer(&runs);
}

static json_t *head_of(json_t *record)
{
    json_object_del(record, "plan");
    json_object_del(record, "result");
    json_object_del(record, "declared");
    return record;
}

json_t *run_list(struct catalog *catalog, GError **error)
{
    g_autoptr(GPtrArray) runs = runs_newest_first(catalog, error);
    json_t *list;

    if (!runs)
        return NULL;
    list = json_array();
    for (guint i = 0; i < runs->len; i++)
        json_array_append(list, head_of(runs->pdata[i]));
    return list;
}

json_t *run_head(struct catalog *catalog, const char *id, GError **error)
{
    json_auto_t *record = NULL;

    if (!run_record(catalog, id, &record, error) || !compute_state(catalog, &record, error))
        return NULL;
    return json_incref(head_of(record));
}

bool run_find_interrupted(struct catalog *catalog, const char *kind, const char *title, char **id,
                          GError **error)
{
    g_autoptr(GPtrArray) runs = runs_newest_first(catalog, error);

    if (!runs)
        return false;
    *id = NULL;
    for (guint i = 0; i < runs->len && !*id; i++) {
        const json_t *record = g_ptr_array_index(runs, i);

        if (run_state_is(record, run_state_name(RUN_INTERRUPTED)) &&
            g_strcmp0(json_get_string(record, "kind"), kind) == 0 &&
            g_strcmp0(json_get_string(record, "title"), title) == 0)
            *id = g_strdup(json_get_string(record, "run"));
    }
    return true;
}

bool run_has_ended(struct catalog *catalog, const char *id, bool *ended, GError **error)
{
    json_auto_t *record = NULL;

    if (!run_record(catalog, id, &record, error))
        return false;
    *ended = !run_state_is(record, run_state_name(RUN_RUNNING));
    return true;
}

static int compare_seq(const void *a, const void *b)
{
    uint64_t left = 0, right = 0;

    json_need_u64(*(json_t *const *)a, "seq", &left, NULL);
    json_need_u64(*(json_t *const *)b, "seq", &right, NULL);
    return (left > right) - (left < right);
}

/* What a step of a run says to people; a step cannot be under way when its run is not. */
static void present_step(json_t *step, bool executing)
{
    json_object_del(step, "seq");
    if (!executing && (run_state_is(step, "running") || run_state_is(step, "undoing")))
        json_set_string(step, "state", "interrupted");
}

/* The steps that were begun, as "subject/step". */
static GHashTable *names_of(const GPtrArray *steps)
{
    GHashTable *names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (guint i = 0; i < steps->len; i++)
        g_hash_table_add(names,
                         g_strdup_printf("%s/%s", json_get_string(steps->pdata[i], "subject"),
                                         json_get_string(steps->pdata[i], "step")));
    return names;
}

static json_t *step_not_begun(const char *subject, const char *name, const char *state)
{
    json_t *step = json_object();

    json_set_string(step, "subject", subject);
    json_set_string(step, "step", name);
    json_set_string(step, "state", state);
    json_set_string(step, "started", NULL);
    json_set_string(step, "ended", NULL);
    json_set_string(step, "error", NULL);
    return step;
}

/* Add those STEPS of SUBJECT to LIST that were not BEGUN. */
static void add_not_begun(json_t *list, const char *subject, const json_t *steps, GHashTable *begun,
                          const char *state)
{
    const json_t *step;
    size_t i;

    json_array_foreach(steps, i, step)
    {
        const char *name = json_string_value(step);
        g_autofree char *key = g_strdup_printf("%s/%s", subject, name);

        if (!g_hash_table_contains(begun, key))
            json_array_append_new(list, step_not_begun(subject, name, state));
    }
}

static void add_all_not_begun(json_t *list, const json_t *declared, const GPtrArray *steps,
                              const char *state)
{
    g_autoptr(GHashTable) begun = names_of(steps);
    const json_t *subject;
    size_t i;

    json_array_foreach(declared, i, subject) add_not_begun(
        list, json_get_string(subject, "subject"), json_object_get(subject, "steps"), begun, state);
}

json_t *run_show(struct catalog *catalog, const char *id, GError **error)
{
    g_autofree char *prefix = g_strdup_printf("%s/", id);
    g_autoptr(GPtrArray) steps = NULL;
    json_auto_t *record = NULL, *declared = NULL;
    json_t *list, *plan;
    bool executing;

    if (!run_record(catalog, id, &record, error) || !compute_state(catalog, &record, error) ||
        !run_part(catalog, record, "declared", &declared, error) ||
        !run_part(catalog, record, "plan", &plan, error))
        return NULL;
    json_object_set_new(record, "plan", plan);
    steps = collect_all(catalog, CATALOG_STEPS, prefix, error);
    if (!steps)
        return NULL;
    g_ptr_array_sort(steps, compare_seq);
    list = json_array();
    executing = run_state_is(record, run_state_name(RUN_RUNNING));
    for (guint i = 0; i < steps->len; i++) {
        json_t *step = g_ptr_array_index(steps, i);

        present_step(step, executing);
        json_array_append(list, step);
    }
    add_all_not_begun(list, declared, steps, executing ? "waiting" : "not-executed");
    json_object_del(record, "declared");
    json_object_set_new(record, "steps", list);
    return g_steal_pointer(&record);
}
