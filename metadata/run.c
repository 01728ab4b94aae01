/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata/run-private.h"

#include <string.h>
#include <unistd.h>

/*
 * A run in the catalog: runs/<id> = {run, kind, title, state, started, ended, host, pid, result}; what may be
 * megabytes, is written once, and need not be read to list runs: plans/<id>/plan and plans/<id>/declared =
 * [{subject, steps: [name]}] (older runs have both in the first record); and steps/<id>/<subject>/<step> = {subject,
 * step, seq, state, started, ended, error}.
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
    json_t *plan;               /* null: it was begun without */
    struct file_lock *lock;     /* NULL after the end */
    struct cancel_watch *watch; /* as long as there is the lock */
    int64_t started_ms;
    GMutex mutex; /* guards next_seq */
    uint64_t next_seq;
};

static struct file_lock *lock_take(struct catalog *catalog, const char *id, GError **error)
{
    g_autofree char *path = run_lock_path(catalog, id);
    g_autofree char *what = g_strdup_printf("run %s", id);

    return file_lock_take(path, what, error);
}

/* Only with the lock held and the record final, see above. */
static void lock_discard(struct run *run)
{
    g_autofree char *path = run_lock_path(run->catalog, run->id);

    g_clear_pointer(&run->watch, cancel_watch_free);
    unlink(path);
    g_clear_pointer(&run->lock, file_lock_free);
}

void run_free(struct run *run)
{
    if (!run)
        return;
    cancel_watch_free(run->watch);
    file_lock_free(run->lock);
    json_decref(run->record);
    json_decref(run->plan);
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
    return json_is_null(run->plan) ? NULL : run->plan;
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

static json_t *record_new(const char *kind, const char *title, int64_t now_ms)
{
    json_t *record = json_object();

    json_set_string(record, "run", NULL);
    json_set_string(record, "kind", kind);
    json_set_string(record, "title", title);
    json_set_string(record, "state", run_state_name(RUN_RUNNING));
    json_set_time(record, "started", now_ms);
    json_set_string(record, "ended", NULL);
    set_executor(record);
    json_set_string(record, "result", NULL);
    return record;
}

/* The record and the plan appear together. */
static bool insert(struct run *run, bool *inserted, GError **error)
{
    g_autofree char *plan = run_part_key(run->id, "plan");
    const struct catalog_entry entries[] = {{CATALOG_RUNS, run->id, run->record},
                                            {CATALOG_PLANS, plan, run->plan}};

    return catalog_insert(run->catalog, entries, run_plan(run) ? 2 : 1, inserted, error);
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
    if (!insert(run, &inserted, error))
        return false;
    if (inserted) {
        run->lock = g_steal_pointer(&lock);
        run->watch = cancel_watch_new(run->catalog, run->id);
        *taken = false;
    }
    return true;
}

/* ---- The last one of this process */

static GMutex latest_mutex;
static char *latest;

static void note_latest(const char *id)
{
    g_mutex_lock(&latest_mutex);
    g_free(latest);
    latest = g_strdup(id);
    g_mutex_unlock(&latest_mutex);
}

char *run_latest(void)
{
    char *id;

    g_mutex_lock(&latest_mutex);
    id = g_strdup(latest);
    g_mutex_unlock(&latest_mutex);
    return id;
}

struct run *run_begin(struct catalog *catalog, const char *kind, const char *title,
                      const json_t *plan, GError **error)
{
    AUTO(run) run = run_new(catalog, NULL);
    int64_t now_ms = time_now_ms();
    g_autoptr(GDateTime) now = g_date_time_new_from_unix_utc(now_ms / 1000);
    g_autofree char *minute = g_date_time_format(now, "r-%Y%m%d-%H%M");
    bool taken = true;

    run->record = record_new(kind, title, now_ms);
    run->plan = plan ? json_deep_copy(plan) : json_null();
    run->started_ms = now_ms;
    for (unsigned n = 1; taken; n++) {
        g_free(run->id);
        run->id = g_strdup_printf("%s-%u", minute, n);
        if (!claim(run, &taken, error)) {
            g_prefix_error(error, "cannot begin the %s of %s: ", kind, title);
            return NULL;
        }
    }
    note_latest(run->id);
    return g_steal_pointer(&run);
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

    if (!run_record(run->catalog, run->id, &run->record, error))
        return false;
    if (!run_state_is(run->record, run_state_name(RUN_RUNNING))) {
        lock_discard(run);
        return fail(error, ERROR_CONFLICT, "run %s has ended (%s), nothing is left to resume",
                    run->id, json_get_string(run->record, "state"));
    }
    set_executor(run->record);
    return run_part(run->catalog, run->record, "plan", &run->plan, error) &&
           json_need_string(run->record, "started", &started, error) &&
           time_parse(started, &run->started_ms, error) &&
           catalog_each(run->catalog, CATALOG_STEPS, prefix, highest_seq, &run->next_seq, error) &&
           catalog_put(run->catalog, CATALOG_RUNS, run->id, run->record, error);
}

struct run *run_resume(struct catalog *catalog, const char *id, GError **error)
{
    AUTO(run) run = run_new(catalog, id);
    json_auto_t *record = NULL;

    if (!run_record(catalog, id, &record, error))
        return NULL;
    run->lock = lock_take(catalog, id, error);
    if (!run->lock || !take_over(run, error))
        return NULL;
    run->watch = cancel_watch_new(catalog, id);
    note_latest(id);
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
    json_set_time(record, "ended", time_now_ms());
    set_copy(record, "result", result);
    if (!catalog_put(run->catalog, CATALOG_RUNS, run->id, record, error)) {
        g_prefix_error(error, "cannot end run %s: ", run->id);
        return false;
    }
    lock_discard(run);
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

/* A step that is done, of which the journal does not say so yet: its end and the beginning of the next one
 * are one commit. A kill in between is a kill before that end was journaled. */
struct ended {
    char *key;
    json_t *record; /* NULL: there is none */
};

static void ended_clear(struct ended *ended)
{
    g_clear_pointer(&ended->key, g_free);
    g_clear_pointer(&ended->record, json_decref);
}
#define AUTO_ENDED __attribute__((cleanup(ended_clear))) struct ended

/* Journal ENDED and the beginning of a step, RECORD (NULL: only what is ended). */
static bool journal(struct run *run, struct ended *ended, const char *key, const json_t *record,
                    GError **error)
{
    struct catalog_entry entries[2];
    size_t n_entries = 0;

    if (ended->record)
        entries[n_entries++] = (struct catalog_entry){CATALOG_STEPS, ended->key, ended->record};
    if (record)
        entries[n_entries++] = (struct catalog_entry){CATALOG_STEPS, key, record};
    if (n_entries > 0 && !catalog_put_all(run->catalog, entries, n_entries, error))
        return false;
    ended_clear(ended);
    return true;
}

static json_t *step_record(struct run *run, const char *subject, const struct step *step)
{
    json_t *record = json_object();

    json_set_string(record, "subject", subject);
    json_set_string(record, "step", step->name);
    json_set_u64(record, "seq", next_seq(run));
    json_set_string(record, "state", "running");
    json_set_time(record, "started", time_now_ms());
    json_set_string(record, "ended", NULL);
    json_set_string(record, "error", NULL);
    return record;
}

/* The end of a step or of its undoing, with the error that it ended with or NULL. When a step that is undone
 * had ended stays known: it tells how long it took. */
static void set_end(json_t *record, const char *state, const GError *cause)
{
    json_set_string(record, "state", state);
    json_set_string(record, "error", cause ? cause->message : NULL);
    if (!json_get_string(record, "ended"))
        json_set_time(record, "ended", time_now_ms());
}

static bool step_end(struct run *run, const char *key, json_t *record, const char *state,
                     const GError *cause, GError **error)
{
    set_end(record, state, cause);
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

/* Journals what is in ENDED, and leaves there that this one is done. */
static bool do_step(struct run *run, const char *subject, const struct step *step, void *context,
                    struct ended *ended, GError **error)
{
    g_autofree char *key = step_key(run, subject, step);
    json_auto_t *record = NULL;
    g_autoptr(GError) cause = NULL;
    bool cancelled;

    if (!interrupt_check(error))
        return false;
    record = step_record(run, subject, step);
    if (!journal(run, ended, key, record, error))
        return false;
    if (call(step->run, subject, step, context, &cause)) {
        set_end(record, "done", NULL);
        *ended = (struct ended){g_steal_pointer(&key), g_steal_pointer(&record)};
        return true;
    }
    /* If this cannot be journaled the step stays `running`, which a resumed run repeats as well. */
    cancelled = error_is(cause, ERROR_CANCELLED);
    step_end(run, key, record, cancelled ? "interrupted" : "failed", cause, NULL);
    g_propagate_error(error, g_steal_pointer(&cause));
    return false;
}

static bool do_step_unless_done(struct run *run, const char *subject, const struct step *step,
                                void *context, struct ended *ended, GError **error)
{
    g_autofree char *key = step_key(run, subject, step);
    json_auto_t *record = NULL;

    if (!catalog_get(run->catalog, CATALOG_STEPS, key, &record, error))
        return false;
    return (record && run_state_is(record, "done")) ||
           do_step(run, subject, step, context, ended, error);
}

bool run_again(struct run *run, const char *subject, const struct step *step, void *context,
               GError **error)
{
    AUTO_ENDED ended = {0};

    return do_step(run, subject, step, context, &ended, error) &&
           journal(run, &ended, NULL, NULL, error);
}

bool run_steps(struct run *run, const char *subject, const struct step *steps, size_t n_steps,
               void *context, GError **error)
{
    AUTO_ENDED ended = {0};
    bool good = true;

    for (size_t i = 0; good && i < n_steps; i++)
        good = do_step_unless_done(run, subject, &steps[i], context, &ended, error);
    /* What is done is done, whatever came after it. */
    return journal(run, &ended, NULL, NULL, good ? error : NULL) && good;
}

/* Of several subjects; all arrays have N elements. */
struct together {
    size_t n;
    char **keys; /* NULL-terminated */
    json_t **records;
};

static void together_clear(struct together *together)
{
    for (size_t i = 0; i < together->n; i++)
        json_decref(together->records[i]);
    g_free(together->records);
    g_strfreev(together->keys);
}
#define AUTO_TOGETHER __attribute__((cleanup(together_clear))) struct together

static bool journal_together(struct run *run, const struct together *together, GError **error)
{
    g_autofree struct catalog_entry *entries = g_new0(struct catalog_entry, together->n);

    for (size_t i = 0; i < together->n; i++)
        entries[i] = (struct catalog_entry){CATALOG_STEPS, together->keys[i], together->records[i]};
    return catalog_put_all(run->catalog, entries, together->n, error);
}

static bool end_together(struct run *run, const struct together *together, const GError *cause,
                         GError **error)
{
    const char *state = !cause                             ? "done"
                        : error_is(cause, ERROR_CANCELLED) ? "interrupted"
                                                           : "failed";

    for (size_t i = 0; i < together->n; i++)
        set_end(together->records[i], state, cause);
    return journal_together(run, together, error);
}

static bool are_done(struct run *run, const struct together *together, bool *done, GError **error)
{
    *done = true;
    for (size_t i = 0; *done && i < together->n; i++) {
        json_auto_t *record = NULL;

        if (!catalog_get(run->catalog, CATALOG_STEPS, together->keys[i], &record, error))
            return false;
        *done = record && run_state_is(record, "done");
    }
    return true;
}

bool run_together(struct run *run, const char *const *subjects, size_t n_subjects,
                  const struct step *step, void *context, GError **error)
{
    AUTO_TOGETHER together = {n_subjects, g_new0(char *, n_subjects + 1),
                              g_new0(json_t *, n_subjects)};
    g_autoptr(GError) cause = NULL;
    bool done;

    for (size_t i = 0; i < n_subjects; i++)
        together.keys[i] = step_key(run, subjects[i], step);
    if (!are_done(run, &together, &done, error) || (!done && !interrupt_check(error)))
        return false;
    if (done)
        return true;
    for (size_t i = 0; i < n_subjects; i++)
        together.records[i] = step_record(run, subjects[i], step);
    if (!journal_together(run, &together, error))
        return false;
    if (call(step->run, "all", step, context, &cause))
        return end_together(run, &together, NULL, error);
    end_together(run, &together, cause, NULL);
    g_propagate_error(error, g_steal_pointer(&cause));
    return false;
}

static bool undo_step(struct run *run, const char *subject, const struct step *step, void *context,
                      GError **error)
{
    g_autofree char *key = step_key(run, subject, step);
    json_auto_t *record = NULL;
    g_autoptr(GError) cause = NULL;

    if (!catalog_get(run->catalog, CATALOG_STEPS, key, &record, error))
        return false;
    if (!record || run_state_is(record, "undone"))
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

bool run_step_done(struct run *run, const char *subject, const struct step *step, int64_t *ended_ms,
                   GError **error)
{
    g_autofree char *key = step_key(run, subject, step);
    json_auto_t *record = NULL;
    const char *ended;

    *ended_ms = 0;
    if (!catalog_get(run->catalog, CATALOG_STEPS, key, &record, error))
        return false;
    return !record || !run_state_is(record, "done") ||
           (json_need_string(record, "ended", &ended, error) && time_parse(ended, ended_ms, error));
}

/* ---- What is going to be done */

static json_t *declaration(const struct run_subject *subject)
{
    json_t *json = json_object();
    json_t *names = json_array();

    for (size_t i = 0; i < subject->n_steps; i++)
        json_array_append_new(names, json_string(subject->steps[i].name));
    json_set_string(json, "subject", subject->name);
    json_object_set_new(json, "steps", names);
    return json;
}

bool run_declare(struct run *run, const struct run_subject *subjects, size_t n_subjects,
                 GError **error)
{
    g_autofree char *key = run_part_key(run->id, "declared");
    json_auto_t *declared = json_array();

    for (size_t i = 0; i < n_subjects; i++)
        json_array_append_new(declared, declaration(&subjects[i]));
    return catalog_put(run->catalog, CATALOG_PLANS, key, declared, error);
}
