/* SPDX-License-Identifier: Apache-2.0 */
#include "common/parallel.h"

#include <glib.h>

struct task {
    void (*work)(void *item);
    void *item;
    GThread *thread; /* NULL: there was none to be had */
};

static void *task_run(void *data)
{
    struct task *task = data;

    task->work(task->item);
    return NULL;
}

void in_parallel(void *items, size_t count, size_t size, void (*work)(void *item))
{
    g_autofree struct task *tasks = g_new0(struct task, count);

    for (size_t i = 0; i < count; i++) {
        tasks[i] = (struct task){.work = work, .item = (char *)items + i * size};
        if (count > 1)
            tasks[i].thread = g_thread_try_new("drctl-parallel", task_run, &tasks[i], NULL);
        if (!tasks[i].thread)
            work(tasks[i].item);
    }
    for (size_t i = 0; i < count; i++)
        if (tasks[i].thread)
            g_thread_join(tasks[i].thread);
}
