/* SPDX-License-Identifier: Apache-2.0 */
#include "common/errand.h"

#include "common/error.h"

struct errand {
    gatomicrefcount refs; /* of who waits, and of the thread */
    errand_fn *work;
    void *input;
    GDestroyNotify free_input, free_result;
    GMutex lock; /* of: */
    GCond ended;
    bool done;
    void *result;
    GError *error;
};

void errand_free(struct errand *errand)
{
    if (!errand || !g_atomic_ref_count_dec(&errand->refs))
        return;
    if (errand->result)
        errand->free_result(errand->result);
    errand->free_input(errand->input);
    g_clear_error(&errand->error);
    g_mutex_clear(&errand->lock);
    g_cond_clear(&errand->ended);
    g_free(errand);
}

static void *run(void *data)
{
    struct errand *errand = data;
    GError *error = NULL;
    void *result = errand->work(errand->input, &error);

    g_mutex_lock(&errand->lock);
    errand->result = result;
    errand->error = error;
    errand->done = true;
    g_cond_signal(&errand->ended);
    g_mutex_unlock(&errand->lock);
    errand_free(errand);
    return NULL;
}

struct errand *errand_new(const char *thread, errand_fn *work, void *input,
                          GDestroyNotify free_input, GDestroyNotify free_result)
{
    struct errand *errand = g_new0(struct errand, 1);

    g_atomic_ref_count_init(&errand->refs);
    errand->work = work;
    errand->input = input;
    errand->free_input = free_input;
    errand->free_result = free_result;
    g_mutex_init(&errand->lock);
    g_cond_init(&errand->ended);
    g_atomic_ref_count_inc(&errand->refs);
    g_thread_unref(g_thread_new(thread, run, errand));
    return errand;
}

void *errand_wait(struct errand *errand, int64_t until_us, GError **error)
{
    void *result;

    g_mutex_lock(&errand->lock);
    while (!errand->done && g_cond_wait_until(&errand->ended, &errand->lock, until_us))
        ;
    result = errand->result;
    if (!errand->done)
        fail(error, ERROR_NETWORK, "no answer within the time that there is");
    else if (!result)
        g_propagate_error(error, g_error_copy(errand->error));
    g_mutex_unlock(&errand->lock);
    return result;
}

void *errand_steal(struct errand *errand)
{
    void *result;

    g_mutex_lock(&errand->lock);
    result = g_steal_pointer(&errand->result);
    g_mutex_unlock(&errand->lock);
    return result;
}
