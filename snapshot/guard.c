/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/guard.h"

#include <sys/stat.h>

#include "snapshot/space.h"

/*
 * What decides is the room that is left on the file system: only this also sees what other jobs and
 * programs take. It is asked for at every poll, and at once when QEMU tells that a scratch file has
 * grown by its share of the room, or that the guest stands still. Should the events not come, the
 * polls do.
 */
#define ROOM_POLL_MS 100
#define STATE_POLL_MS 500
#define MARK_STEP_MIN (UINT64_C(16) << 20) /* not to be rung for every write when little is left */

struct guard {
    const struct point_request *request;
    GHashTable *scratch;
    GThread *thread; /* NULL once it was joined */

    /* Only the thread. */
    struct domain_watch *watch;
    int64_t next_state_ms;

    GMutex lock; /* of all below */
    GCond changed;
    bool rung, stop;
    GError *given_up;
};

static void on_ring(void *context)
{
    struct guard *guard = context;

    g_mutex_lock(&guard->lock);
    guard->rung = true;
    g_cond_signal(&guard->changed);
    g_mutex_unlock(&guard->lock);
}

/* --- giving up ------------------------------------------------------------------------------- */

static bool release_guest(struct guard *guard, GError **error)
{
    const struct point_request *request = guard->request;

    if (domain_backup_end(request->domain, error) && guard_resume(request, error))
        return true;
    g_prefix_error(error,
                   "THE VM MAY BE PAUSED, look with: virsh domstate %s, and resume it with: "
                   "virsh resume %s: ",
                   domain_name(request->domain), domain_name(request->domain));
    return false;
}

/* The reason is there before the job ends: who reads from it notices the end at once, and asks. */
static void give_up(struct guard *guard, GError *why)
{
    GError *harm = NULL;

    g_mutex_lock(&guard->lock);
    guard->given_up = why;
    g_mutex_unlock(&guard->lock);
    if (release_guest(guard, &harm))
        return;
    g_mutex_lock(&guard->lock);
    g_error_free(guard->given_up);
    guard->given_up = harm;
    g_mutex_unlock(&guard->lock);
}

static GError *no_room(const struct guard *guard)
{
    GError *error = NULL;

    fail(&error, ERROR_NO_SPACE,
         "%s was about to be full: it keeps what the VM overwrites while the point is taken. The "
         "point was given up and the VM runs on; make room there, or set scratch in drctl.conf to "
         "a larger file system",
         guard->request->scratch_dir);
    return error;
}

static GError *was_paused(const struct guard *guard)
{
    GError *error = NULL;

    fail(&error, ERROR_NO_SPACE,
         "the VM was paused because a write found no space, probably in %s, where what it "
         "overwrites is kept while it is read; it runs again. Make room there, or set "
         "scratch in drctl.conf to a larger file system",
         guard->request->scratch_dir);
    return error;
}

/* --- looking --------------------------------------------------------------------------------- */

/* Each scratch file may take its share of ROOM before QEMU tells. */
static void set_marks(struct guard *guard, uint64_t room)
{
    uint64_t step = MAX(room / g_hash_table_size(guard->scratch), MARK_STEP_MIN);
    GHashTableIter iter;
    void *target, *path;

    g_hash_table_iter_init(&iter, guard->scratch);
    while (g_hash_table_iter_next(&iter, &target, &path)) {
        struct stat file;
        g_autoptr(GError) error = NULL;

        if (stat(path, &file) < 0 || domain_scratch_mark(guard->request->domain, target,
                                                         (uint64_t)file.st_size + step, &error))
            continue;
        g_debug("the guard only polls: %s", error->message);
    }
}

/* Without libvirt QEMU goes on serving, and no job can be ended; there is nothing to do about it. */
static bool is_paused(struct guard *guard, bool rung)
{
    enum domain_state state;

    if (!rung && time_monotonic_ms() < guard->next_state_ms)
        return false;
    guard->next_state_ms = time_monotonic_ms() + STATE_POLL_MS;
    return domain_state(guard->request->domain, &state, NULL) && state == DOMAIN_PAUSED_IO_ERROR;
}

/* False when the job has been given up. */
static bool look(struct guard *guard, bool rung)
{
    uint64_t room = 0;

    if (space_left(guard->request->scratch_dir, &room, NULL) && room == 0)
        give_up(guard, no_room(guard));
    else if (is_paused(guard, rung))
        give_up(guard, was_paused(guard));
    else if (rung)
        set_marks(guard, room);
    return guard->given_up == NULL;
}

/* False when it is over. */
static bool wait_for_ring(struct guard *guard, bool *rung)
{
    int64_t until = g_get_monotonic_time() + ROOM_POLL_MS * 1000;
    bool stop;

    g_mutex_lock(&guard->lock);
    while (!guard->rung && !guard->stop && g_cond_wait_until(&guard->changed, &guard->lock, until))
        continue;
    *rung = guard->rung;
    guard->rung = false;
    stop = guard->stop;
    g_mutex_unlock(&guard->lock);
    return !stop;
}

static void *guard_main(void *data)
{
    struct guard *guard = data;
    bool rung = true; /* to set the first marks */

    guard->watch = domain_watch_new(guard->request->domain, on_ring, guard, NULL);
    while (look(guard, rung) && wait_for_ring(guard, &rung))
        continue;
    domain_watch_free(guard->watch);
    return NULL;
}

/* --- life ------------------------------------------------------------------------------------ */

struct guard *guard_new(const struct point_request *request, GHashTable *scratch)
{
    struct guard *guard = g_new0(struct guard, 1);

    guard->request = request;
    guard->scratch = scratch;
    g_mutex_init(&guard->lock);
    g_cond_init(&guard->changed);
    guard->thread = g_thread_new("guard", guard_main, guard);
    return guard;
}

void guard_stop(struct guard *guard)
{
    if (!guard->thread)
        return;
    g_mutex_lock(&guard->lock);
    guard->stop = true;
    g_cond_signal(&guard->changed);
    g_mutex_unlock(&guard->lock);
    g_thread_join(g_steal_pointer(&guard->thread));
}

bool guard_check(struct guard *guard, GError **error)
{
    bool good;

    g_mutex_lock(&guard->lock);
    good = !guard->given_up;
    if (!good && error)
        *error = g_error_copy(guard->given_up);
    g_mutex_unlock(&guard->lock);
    return good;
}

void guard_free(struct guard *guard)
{
    if (!guard)
        return;
    guard_stop(guard);
    g_mutex_clear(&guard->lock);
    g_cond_clear(&guard->changed);
    g_clear_error(&guard->given_up);
    g_free(guard);
}

bool guard_resume(const struct point_request *request, GError **error)
{
    enum domain_state state;

    if (!domain_state(request->domain, &state, error))
        return false;
    if (state != DOMAIN_PAUSED_IO_ERROR)
        return true;
    progress_note(request->progress,
                  "%s: resuming the VM, which was paused because a write found no space",
                  domain_name(request->domain));
    return domain_resume(request->domain, error);
}
