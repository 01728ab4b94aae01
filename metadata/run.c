/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata/run.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * A run in the catalog: runs/<id> = {run, kind, title, state, started, ended, host, pid, plan,
 * result}, steps/<id>/<subject>/<step> = {subject, step, seq, state, started, ended, error}.
 *
 * What makes take-over safe:
 * - The lock is taken before the record exists and let go after the record is final. Who finds the
 *   lock free and *then* reads `running` has found an interrupted run; never in the other order.
 * - The lock file is removed only when the record is final and by the holder of the lock. Who gets
 * the lock reads the record again, so a lock on a file that has just been removed starts nothing.
 */
struct run {
    struct catalog *catalog;
    char *id;
    json_t *record;
    struct file_lock *lock; /* NULL after the end */
    int64_t started_ms;
    GMutex mutex; /* guards next_seq */
    uint64_t next_seq;
};

static const char *const state_names[] = {
    [RUN_RUNNING] = "running", [RUN_DONE] = "done",           [RUN_PARTIAL] = "partially-failed",
    [RUN_FAILED] = "failed",   [RUN_CANCELLED] = "cancelled", [RUN_INTERRUPTED] = "interrupted",
};

const char *run_state_name(enum run_state state)
{
    return state_names[state];
}

static bool state_is(const json_t *record, const char *state)
{
    return g_strcmp0(json_get_string(record, "state"), state) == 0;
}

static void set_time(json_t *record, const char *key, int64_t ms)
{
    g_autofree char *text = time_format(ms);

    json_set_string(record, key, text);
}

static char *lock_path(struct catalog *catalog, const char *id)
{
    g_autofree char *name = g_strdup_printf("run-%s.lock", id);

    return g_build_filename(catalog_lock_dir(catalog), name, NULL);
}

static struct file_lock *lock_take(struct catalog *catalog, const char *id, GError **error)
{
    g_autofree char *path = lock_path(catalog, id);
    g_autofree char *what = g_strdup_printf("run %s", id);

    return file_lock_take(path, what, error);
}

/* Only with the lock held and the record final, see above. */
static void lock_discard(struct catalog *catalog, const char *id, struct file_lock *lock)
{
    g_autofree char *path = lock_path(catalog, id);

    unlink(path);
    file_lock_free(lock);
}

void run_free(struct run *run)
{
    if (!run)
        return;
    file_lock_free(run->lock);
    json_decref(run->record);
    g_mutex_clear(&run->mutex);
    g_free(run->id);
    g_free(run);
}

const char *run_id(const struct run *run)
{
    return run->id;
}

const json_t *run_plan(const struct run *run)
{
    const json_t *plan = json_object_get(run->record, "plan");

    return json_is_null(plan) ? NULL : plan;
}

int64_t run_started_ms(const struct run *run)
{
    return run->started_ms;
}

static struct run *run_new(struct catalog *catalog, const char *id)
{
    struct run *run = g_new0(struct run, 1);

    run->catalog = catalog;
    run->id = g_strdup(id);
    g_mutex_init(&run->mutex);
    return run;
}

static void set_copy(json_t *record, const char *key, const json_t *value)
{
    json_object_set_new(record, key, value ? json_deep_copy(value) : json_null());
}

static void set_executor(json_t *record)
{
    json_set_string(record, "host", g_get_host_name());
    json_set_u64(record, "pid", (uint64_t)getpid());
}

static json_t *record_new(const char *kind, const char *title, const json_t *plan, int64_t now_ms)
{
    json_t *record = json_object();

    json_set_string(record, "run", NULL);
    json_set_string(record, "kind", kind);
    json_set_string(record, "title", title);
    json_set_string(record, "state", run_state_name(RUN_RUNNING));
    set_time(record, "started", now_ms);
    json_set_string(record, "ended", NULL);
    set_executor(record);
    set_copy(record, "plan", plan);
    json_set_string(record, "result", NULL);
    return record;
}

/* Try to become run ID; *TAKEN when somebody else is or was. */
static bool claim(struct run *run, bool *taken, GError **error)
{
    g_autoptr(GError) cause = NULL;
    AUTO(file_lock) lock = NULL;
    json_auto_t *old = NULL;
    bool inserted;

    *taken = true;
    if (!catalog_get(run->catalog, CATALOG_RUNS, run->id, &old, error))
        return false;
    if (old)
        return true;
    lock = lock_take(run->catalog, run->id, &cause);
    if (error_is(cause, ERROR_CONFLICT))
        return true;
    if (!lock) {
        g_propagate_error(error, g_steal_pointer(&cause));
        return false;
    }
    json_set_string(run->record, "run", run->id);
    if (!catalog_insert(run->catalog, CATALOG_RUNS, run->id, run->record, &inserted, error))
        return false;
    if (inserted) {
        run->lock = g_steal_pointer(&lock);
        *taken = false;
    }
    return true;
}

struct run *run_begin(struct catalog *catalog, const char *kind, const char *title,
                      const json_t *plan, GError **error)
{
    AUTO(run) run = run_new(catalog, NULL);
    int64_t now_ms = time_now_ms();
    g_autoptr(GDateTime) now = g_date_time_new_from_unix_utc(now_ms / 1000);
    g_autofree char *minute = g_date_time_format(now, "r-%Y%m%d-%H%M");
    bool taken = true;

    run->record = record_new(kind, title, plan, now_ms);
    run->started_ms = now_ms;
    for (unsigned n = 1; taken; n++) {
        g_free(run->id);
        run->id = g_strdup_printf("%s-%u", minute, n);
        if (!claim(run, &taken, error)) {
            g_prefix_error(error, "cannot begin the %s of %s: ", kind, title);
            return NULL;
        }
    }
    return g_steal_pointer(&run);
}

static bool get_run(struct catalog *catalog, const char *id, json_t **record, GError **error)
{
    /* ID becomes a file name. */
    *record = NULL;
    if (name_is_safe(id) && !catalog_get(catalog, CATALOG_RUNS, id, record, error))
        return false;
    return *record ||
           fail(error, ERROR_NOT_FOUND, "there is no run %s; drctl run list shows all", id);
}

static bool highest_seq(const char *key, json_t *value, void *data)
{
    uint64_t *next = data;
    uint64_t seq;

    if (json_need_u64(value, "seq", &seq, NULL))
        *next = MAX(*next, seq + 1);
    return true;
}

/* With the lock held: is the record still that of an interrupted run? Then it becomes ours. */
static bool take_over(struct run *run, GError **error)
{
    g_autofree char *prefix = g_strdup_printf("%s/", run->id);
    const char *started;

    if (!get_run(run->catalog, run->id, &run->record, error))
        return false;
    if (!state_is(run->record, run_state_name(RUN_RUNNING))) {
        lock_discard(run->catalog, run->id, g_steal_pointer(&run->lock));
        return fail(error, ERROR_CONFLICT, "run %s has ended (%s), nothing is left to resume",
                    run->id, json_get_string(run->record, "state"));
    }
    set_executor(run->record);
    return json_need_string(run->record, "started", &started, error) &&
           time_parse(started, &run->started_ms, error) &&
           catalog_each(run->catalog, CATALOG_STEPS, prefix, highest_seq, &run->next_seq, error) &&
           catalog_put(run->catalog, CATALOG_RUNS, run->id, run->record, error);
}

struct run *run_resume(struct catalog *catalog, const char *id, GError **error)
{
    AUTO(run) run = run_new(catalog, id);
    json_auto_t *record = NULL;

    if (!get_run(catalog, id, &record, error))
        return NULL;
    run->lock = lock_take(catalog, id, error);
    if (!run->lock || !take_over(run, error))
        return NULL;
    return g_steal_pointer(&run);
}

bool run_finish(struct run *run, enum run_state state, const json_t *result, GError **error)
{
    json_auto_t *record = NULL;

    if (state == RUN_RUNNING || state == RUN_INTERRUPTED)
        return fail(error, ERROR_FAILED, "run %s cannot end as %s", run->id, run_state_name(state));
    if (!run->lock)
        return fail(error, ERROR_CONFLICT, "run %s has ended already", run->id);
    record = json_copy(run->record);
    json_set_string(record, "state", run_state_name(state));
    set_time(record, "ended", time_now_ms());
    set_copy(record, "result", result);
    if (!catalog_put(run->catalog, CATALOG_RUNS, run->id, record, error)) {
        g_prefix_error(error, "cannot end run %s: ", run->id);
        return false;
    }
    lock_discard(run->catalog, run->id, g_steal_pointer(&run->lock));
    return true;
}

/* Steps */

static char *step_key(const struct run *run, const char *subject, const struct step *step)
{
    return g_strdup_printf("%s/%s/%s", run->id, subject, step->name);
}

static uint64_t next_seq(struct run *run)
{
    uint64_t seq;

    g_mutex_lock(&run->mutex);
    seq = run->next_seq++;
    g_mutex_unlock(&run->mutex);
    return seq;
}

/* Journal the beginning; returns the record. */
static json_t *step_begin(struct run *run, const char *subject, const struct step *step,
                          GError **error)
{
    g_autofree char *key = step_key(run, subject, step);
    json_auto_t *record = json_object();

    json_set_string(record, "subject", subject);
    json_set_string(record, "step", step->name);
    json_set_u64(record, "seq", next_seq(run));
    json_set_string(record, "state", "running");
    set_time(record, "started", time_now_ms());
    json_set_string(record, "ended", NULL);
    json_set_string(record, "error", NULL);
    if (!catalog_put(run->catalog, CATALOG_STEPS, key, record, error))
        return NULL;
    return json_incref(record);
}

/* Journal the end of a step or of its undoing, with the error that it ended with or NULL. */
static bool step_end(struct run *run, const char *key, json_t *record, const char *state,
                     const GError *cause, GError **error)
{
    json_set_string(record, "state", state);
    json_set_string(record, "error", cause ? cause->message : NULL);
    set_time(record, "ended", time_now_ms());
    return catalog_put(run->catalog, CATALOG_STEPS, key, record, error);
}

/* FUNCTION with the certainty that a failure says something. */
static bool call(bool (*function)(void *, GError **), const char *subject, const struct step *step,
                 void *context, GError **error)
{
    g_autoptr(GError) cause = NULL;

    if (function(context, &cause))
        return true;
    if (!cause)
        return fail(error, ERROR_FAILED, "step %s of %s failed", step->name, subject);
    g_propagate_error(error, g_steal_pointer(&cause));
    return false;
}

static bool run_step(struct run *run, const char *subject, const struct step *step, void *context,
                     GError **error)
{
    g_autofree char *key = step_key(run, subject, step);
    json_auto_t *record = NULL;
    g_autoptr(GError) cause = NULL;

    if (!catalog_get(run->catalog, CATALOG_STEPS, key, &record, error))
        return false;
    if (record && state_is(record, "done"))
        return true;
    if (!interrupt_check(error))
        return false;
    json_decref(record);
    record = step_begin(run, subject, step, error);
    if (!record)
        return false;
    if (call(step->run, subject, step, context, &cause))
        return step_end(run, key, record, "done", NULL, error);
    /* If this cannot be journaled the step stays `running`, which a resumed run repeats as well. */
    step_end(run, key, record, "failed", cause, NULL);
    g_propagate_error(error, g_steal_pointer(&cause));
    return false;
}

bool run_steps(struct run *run, const char *subject, const struct step *steps, size_t n_steps,
               void *context, GError **error)
{
    for (size_t i = 0; i < n_steps; i++)
        if (!run_step(run, subject, &steps[i], context, error))
            return false;
    return true;
}

static bool undo_step(struct run *run, const char *subject, const struct step *step, void *context,
                      GError **error)
{
    g_autofree char *key = step_key(run, subject, step);
    json_auto_t *record = NULL;
    g_autoptr(GError) cause = NULL;

    if (!catalog_get(run->catalog, CATALOG_STEPS, key, &record, error))
        return false;
    if (!record || state_is(record, "undone"))
        return true;
    json_set_string(record, "state", "undoing");
    if (!catalog_put(run->catalog, CATALOG_STEPS, key, record, error))
        return false;
    if (!step->undo || call(step->undo, subject, step, context, &cause))
        return step_end(run, key, record, "undone", NULL, error);
    step_end(run, key, record, "undo-failed", cause, NULL);
    g_propagate_error(error, g_steal_pointer(&cause));
    return false;
}

bool run_undo(struct run *run, const char *subject, const struct step *steps, size_t n_steps,
              void *context, GError **error)
{
    g_autoptr(GError) first = NULL;

    for (size_t i = n_steps; i-- > 0;) {
        g_autoptr(GError) cause = NULL;

        if (!undo_step(run, subject, &steps[i], context, &cause) && !first)
            first = g_steal_pointer(&cause);
    }
    if (!first)
        return true;
    g_propagate_error(error, g_steal_pointer(&first));
    return false;
}

/* Reading */

/* Replace *RECORD's stored state by the true one. The lock is looked at before the record is read
 * again: a run may end in between. */
static bool compute_state(struct catalog *catalog, json_t **record, GError **error)
{
    const char *id = json_get_string(*record, "run");
    g_autofree char *path = NULL;
    json_t *newer;

    if (!id || !name_is_safe(id) || !state_is(*record, run_state_name(RUN_RUNNING)))
        return true;
    path = lock_path(catalog, id);
    if (file_lock_held(path))
        return true;
    if (!get_run(catalog, id, &newer, error))
        return false;
    json_decref(*record);
    *record = newer;
    if (state_is(newer, run_state_name(RUN_RUNNING)))
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

/* Numbers do not sort as text: "r-20261120-2215-10" is newer than "r-20261120-2215-9". */
static int compare_newest_first(const void *a, const void *b)
{
    const char *left = json_get_string(*(json_t *const *)a, "run");
    const char *right = json_get_string(*(json_t *const *)b, "run");
    size_t minute = strlen("r-YYYYMMDD-HHMM-");
    uint64_t left_n, right_n;
    int order;

    if (!left || !right)
        return !left - !right;
    order = strncmp(right, left, minute);
    if (order != 0 || strlen(left) < minute || strlen(right) < minute)
        return order;
    left_n = g_ascii_strtoull(left + minute, NULL, 10);
    right_n = g_ascii_strtoull(right + minute, NULL, 10);
    return (left_n < right_n) - (left_n > right_n);
}

/* All runs with their true states, newest first. */
static GPtrArray *runs_sorted(struct catalog *catalog, GError **error)
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

json_t *run_list(struct catalog *catalog, GError **error)
{
    g_autoptr(GPtrArray) runs = runs_sorted(catalog, error);
    json_t *list;

    if (!runs)
        return NULL;
    list = json_array();
    for (guint i = 0; i < runs->len; i++) {
        json_t *record = g_ptr_array_index(runs, i);

        json_object_del(record, "plan");
        json_object_del(record, "result");
        json_array_append(list, record);
    }
    return list;
}

bool run_find_interrupted(struct catalog *catalog, const char *kind, const char *title, char **id,
                          GError **error)
{
    g_autoptr(GPtrArray) runs = runs_sorted(catalog, error);

    if (!runs)
        return false;
    *id = NULL;
    for (guint i = 0; i < runs->len && !*id; i++) {
        const json_t *record = g_ptr_array_index(runs, i);

        if (state_is(record, run_state_name(RUN_INTERRUPTED)) &&
            g_strcmp0(json_get_string(record, "kind"), kind) == 0 &&
            g_strcmp0(json_get_string(record, "title"), title) == 0)
            *id = g_strdup(json_get_string(record, "run"));
    }
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
    if (!executing && (state_is(step, "running") || state_is(step, "undoing")))
        json_set_string(step, "state", "interrupted");
}

json_t *run_show(struct catalog *catalog, const char *id, GError **error)
{
    g_autofree char *prefix = g_strdup_printf("%s/", id);
    g_autoptr(GPtrArray) steps = NULL;
    json_auto_t *record = NULL;
    json_t *list;

    if (!get_run(catalog, id, &record, error) || !compute_state(catalog, &record, error))
        return NULL;
    steps = collect_all(catalog, CATALOG_STEPS, prefix, error);
    if (!steps)
        return NULL;
    g_ptr_array_sort(steps, compare_seq);
    list = json_array();
    for (guint i = 0; i < steps->len; i++) {
        json_t *step = g_ptr_array_index(steps, i);

        present_step(step, state_is(record, run_state_name(RUN_RUNNING)));
        json_array_append(list, step);
    }
    json_object_set_new(record, "steps", list);
    return g_steal_pointer(&record);
}
