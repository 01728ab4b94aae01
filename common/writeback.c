/* SPDX-License-Identifier: Apache-2.0 */
#include "common/writeback.h"

#include <fcntl.h>
#include <glib.h>
#include <stdbool.h>
#include <unistd.h>

enum { INTERVAL_US = 200 * 1000 };

struct writeback {
    char *path;
    GThread *thread;
    GMutex mutex;
    GCond cond;
    bool ended;
};

/* Nothing here can fail in a way that matters: file_sync() is what makes the file durable. */
static void begin_writing(const char *path)
{
    AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd >= 0)
        sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

static void *writeback_main(void *data)
{
    struct writeback *writeback = data;

    g_mutex_lock(&writeback->mutex);
    while (!writeback->ended) {
        if (g_cond_wait_until(&writeback->cond, &writeback->mutex,
                              g_get_monotonic_time() + INTERVAL_US))
            continue;
        g_mutex_unlock(&writeback->mutex);
        begin_writing(writeback->path);
        g_mutex_lock(&writeback->mutex);
    }
    g_mutex_unlock(&writeback->mutex);
    return NULL;
}

struct writeback *writeback_start(const char *path)
{
    struct writeback *writeback = g_new0(struct writeback, 1);

    writeback->path = g_strdup(path);
    g_mutex_init(&writeback->mutex);
    g_cond_init(&writeback->cond);
    writeback->thread = g_thread_new("writeback", writeback_main, writeback);
    return writeback;
}

void writeback_free(struct writeback *writeback)
{
    if (!writeback)
        return;
    g_mutex_lock(&writeback->mutex);
    writeback->ended = true;
    g_cond_signal(&writeback->cond);
    g_mutex_unlock(&writeback->mutex);
    g_thread_join(writeback->thread);
    g_cond_clear(&writeback->cond);
    g_mutex_clear(&writeback->mutex);
    g_free(writeback->path);
    g_free(writeback);
}
