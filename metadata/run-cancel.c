/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stopping a run from another process. The wish is a file beside the run's lock, which the process that
 * executes the run looks for: a signal would need its user, could hit another process that has got its
 * pid since, and would kill it if it has had its interrupt already.
 */
#include "metadata/run-private.h"

#include <unistd.h>

#define LOOK_US (250 * 1000)
#define POLL_US (100 * 1000)

struct cancel_watch {
    char *path;
    GThread *thread;
    GMutex lock;
    GCond freed;
    bool over; /* guarded by LOCK */
};

static char *wish_path(struct catalog *catalog, const char *id)
{
    g_autofree char *name = g_strdup_printf("run-%s.cancel", id);

    return g_build_filename(catalog_lock_dir(catalog), name, NULL);
}

static void *watch_main(void *data)
{
    struct cancel_watch *watch = data;

    g_mutex_lock(&watch->lock);
    while (!watch->over) {
        if (access(watch->path, F_OK) == 0) {
            interrupt_request();
            break;
        }
        g_cond_wait_until(&watch->freed, &watch->lock, g_get_monotonic_time() + LOOK_US);
    }
    g_mutex_unlock(&watch->lock);
    return NULL;
}

struct cancel_watch *cancel_watch_new(struct catalog *catalog, const char *id)
{
    struct cancel_watch *watch = g_new0(struct cancel_watch, 1);

    watch->path = wish_path(catalog, id);
    unlink(watch->path);
    g_mutex_init(&watch->lock);
    g_cond_init(&watch->freed);
    watch->thread = g_thread_new("run-cancel", watch_main, watch);
    return watch;
}

void cancel_watch_free(struct cancel_watch *watch)
{
    if (!watch)
        return;
    g_mutex_lock(&watch->lock);
    watch->over = true;
    g_cond_signal(&watch->freed);
    g_mutex_unlock(&watch->lock);
    g_thread_join(watch->thread);
    unlink(watch->path);
    g_mutex_clear(&watch->lock);
    g_cond_clear(&watch->freed);
    g_free(watch->path);
    g_free(watch);
}

static bool wait_until_free(const char *lock, GError **error)
{
    while (file_lock_held(lock)) {
        if (!interrupt_check(error))
            return false;
        g_usleep(POLL_US);
    }
    return true;
}

bool run_cancel(struct catalog *catalog, const char *id, GError **error)
{
    json_auto_t *record = run_show(catalog, id, error);
    g_autofree char *lock = NULL;
    g_autofree char *wish = NULL;
    bool stopped;

    if (!record)
        return false;
    if (run_state_is(record, run_state_name(RUN_INTERRUPTED)))
        return fail(error, ERROR_CONFLICT,
                    "run %s is not executing, it was interrupted: drctl run resume %s goes on with "
                    "it",
                    id, id);
    if (!run_state_is(record, run_state_name(RUN_RUNNING)))
        return fail(error, ERROR_CONFLICT, "run %s has ended (%s), nothing is left to cancel", id,
                    json_get_string(record, "state"));
    lock = run_lock_path(catalog, id);
    wish = wish_path(catalog, id);
    if (!file_write(wish, "", 0, 0600, error))
        return false;
    stopped = wait_until_free(lock, error);
    unlink(wish); /* its process has done so, unless it was killed, or had just ended */
    return stopped;
}
