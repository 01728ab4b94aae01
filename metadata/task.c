/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "metadata/task.h"

struct task {
    struct catalog *catalog;
    char *key;
    struct file_lock *lock;
    struct task_record record;
};

void task_record_clear(struct task_record *record)
{
    g_clear_pointer(&record->error, g_free);
}

/* --- the record ------------------------------------------------------------------------------ */

bool task_load(struct catalog *catalog, const char *key, struct task_record *record, GError **error)
{
    json_auto_t *json = NULL;

    *record = (struct task_record){0};
    if (!catalog_get(catalog, CATALOG_TASKS, key, &json, error))
        return false;
    if (!json)
        return true;
    record->known_ms = json_get_time(json, "known");
    record->started_ms = json_get_time(json, "started");
    record->ended_ms = json_get_time(json, "ended");
    record->status = (int)json_integer_value(json_object_get(json, "status"));
    record->failures = (unsigned)json_integer_value(json_object_get(json, "failures"));
    record->error = g_strdup(json_get_string(json, "error"));
    return true;
}

static bool save(struct catalog *catalog, const char *key, const struct task_record *record,
                 GError **error)
{
    json_auto_t *json = json_object();

    json_set_time(json, "known", record->known_ms);
    json_set_time(json, "started", record->started_ms);
    json_set_time(json, "ended", record->ended_ms);
    json_object_set_new(json, "status", json_integer(record->status));
    json_set_u64(json, "failures", record->failures);
    json_set_string(json, "error", record->error);
    return catalog_put(catalog, CATALOG_TASKS, key, json, error);
}

bool task_know(struct catalog *catalog, const char *key, GError **error)
{
    AUTO_TASK_RECORD record = {0};

    if (!task_load(catalog, key, &record, error))
        return false;
    if (record.known_ms)
        return true;
    record.known_ms = time_now_ms();
    return save(catalog, key, &record, error);
}

/* --- the lock -------------------------------------------------------------------------------- */

/* "job-replicate-shop.lock": names have no '/' nor more than one form. */
static char *lock_path(const struct catalog *catalog, const char *key)
{
    g_autofree char *name = g_strconcat("job-", key, ".lock", NULL);

    g_strdelimit(name, "/", '.');
    return g_build_filename(catalog_lock_dir(catalog), name, NULL);
}

bool task_runs(const struct catalog *catalog, const char *key)
{
    g_autofree char *path = lock_path(catalog, key);

    return file_lock_held(path);
}

static void task_free(struct task *task)
{
    file_lock_free(task->lock);
    task_record_clear(&task->record);
    g_free(task->key);
    g_free(task);
}

struct task *task_begin(struct catalog *catalog, const char *key, GError **error)
{
    g_autofree char *path = lock_path(catalog, key);
    g_autofree char *what = g_strdup_printf("job %s", key);
    struct task *task = g_new0(struct task, 1);

    task->catalog = catalog;
    task->key = g_strdup(key);
    task->lock = file_lock_take(path, what, error);
    if (task->lock && task_load(catalog, key, &task->record, error)) {
        task->record.started_ms = time_now_ms();
        task->record.ended_ms = 0;
        if (!task->record.known_ms)
            task->record.known_ms = task->record.started_ms;
        if (save(catalog, key, &task->record, error))
            return task;
    }
    task_free(task);
    return NULL;
}

/* What cannot be written looks as if the process had been killed: it is done again. */
void task_end(struct task *task, const GError *failure)
{
    struct task_record *record = &task->record;

    if (error_is(failure, ERROR_CANCELLED)) {
        task_free(task);
        return;
    }
    record->ended_ms = time_now_ms();
    record->status = (int)error_exit_status(failure);
    record->failures = failure ? record->failures + 1 : 0;
    g_clear_pointer(&record->error, g_free);
    if (failure)
        record->error = g_strdup(failure->message);
    save(task->catalog, task->key, record, NULL);
    task_free(task);
}
