/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/lane.h"

struct lane {
    lane_fn *work;
    GThread *thread;
    struct piece pieces[LANE_PIECES];
    struct piece end;
    GAsyncQueue *idle, *busy; /* of struct piece */
    GMutex lock;
    GError *error; /* the first one; under the lock */
};

bool lane_check(struct lane *self, GError **error)
{
    bool ok;

    g_mutex_lock(&self->lock);
    ok = !self->error;
    if (!ok)
        g_propagate_error(error, g_error_copy(self->error));
    g_mutex_unlock(&self->lock);
    return ok;
}

static void *lane_run(void *data)
{
    struct lane *self = data;

    for (;;) {
        struct piece *piece = g_async_queue_pop(self->busy);
        g_autoptr(GError) error = NULL;

        if (piece == &self->end)
            return NULL;
        if (lane_check(self, NULL) && !self->work(piece, &error)) {
            g_mutex_lock(&self->lock);
            self->error = g_steal_pointer(&error);
            g_mutex_unlock(&self->lock);
        }
        g_async_queue_push(self->idle, piece);
    }
}

struct lane *lane_new(lane_fn *work)
{
    struct lane *self = g_new0(struct lane, 1);

    self->work = work;
    self->idle = g_async_queue_new();
    self->busy = g_async_queue_new();
    g_mutex_init(&self->lock);
    for (unsigned i = 0; i < LANE_PIECES; i++) {
        self->pieces[i].data = g_aligned_alloc(1, STORE_WRITE_MAX, LANE_ALIGN);
        g_async_queue_push(self->idle, &self->pieces[i]);
    }
    self->thread = g_thread_new("drctl-lane", lane_run, self);
    return self;
}

void lane_free(struct lane *self)
{
    if (!self)
        return;
    g_async_queue_push(self->busy, &self->end);
    g_thread_join(self->thread);
    for (unsigned i = 0; i < LANE_PIECES; i++)
        g_aligned_free(self->pieces[i].data);
    g_async_queue_unref(self->idle);
    g_async_queue_unref(self->busy);
    g_mutex_clear(&self->lock);
    g_clear_error(&self->error);
    g_free(self);
}

struct piece *lane_take(struct lane *self)
{
    return g_async_queue_pop(self->idle);
}

void lane_put(struct lane *self, struct piece *piece)
{
    g_async_queue_push(self->busy, piece);
}

bool lane_wait(struct lane *self, GError **error)
{
    struct piece *all[LANE_PIECES];

    /* Who holds all pieces knows that nobody works on one. */
    for (unsigned i = 0; i < LANE_PIECES; i++)
        all[i] = lane_take(self);
    for (unsigned i = 0; i < LANE_PIECES; i++)
        g_async_queue_push(self->idle, all[i]);
    return lane_check(self, error);
}
