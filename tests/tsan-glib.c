/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ThreadSanitizer sees what is instrumented and what libpthread does. GLib is neither: its locks
 * are futexes. These functions stand before those of GLib in each program that is built with
 * -Db_sanitize=thread, and in no other: they call them, and tell the sanitizer what was locked and
 * what was handed over. Whoever uses another way of GLib to synchronise adds it here, or the
 * sanitizer reports him. tests/test-tsan.c shows that it finds races, and only these.
 *
 * Memory that GLib's slices hand from one thread to another cannot be told; tests/meson.build turns
 * them off (G_SLICE).
 */
#include <dlfcn.h>
#include <glib.h>
#include <sanitizer/tsan_interface.h>

const char *__tsan_default_options(void);
const char *__tsan_default_suppressions(void);

/* The first race ends the program, so that no test can pass over it. */
const char *__tsan_default_options(void)
{
    return "halt_on_error=1";
}

/* What these libraries do between themselves and libc: their own locks are not seen, or order what
 * is not. What our code does with memory is looked at whoever allocated it. */
const char *__tsan_default_suppressions(void)
{
    return "called_from_lib:libglib-2.0.so\n" /* main loop, queues: futexes */
           "called_from_lib:libvirt.so\n"     /* its event loop is GLib's */
           "called_from_lib:libtirpc.so\n";   /* padding goes to a static buffer, never read */
}

/* GLib's own function NAME. */
#define REAL(name) ((__typeof__(&(name)))dlsym(RTLD_NEXT, #name))

/* --- locks ----------------------------------------------------------------------------------- */

void g_mutex_init(GMutex *mutex)
{
    REAL(g_mutex_init)(mutex);
    __tsan_mutex_create(mutex, 0);
}

void g_mutex_clear(GMutex *mutex)
{
    __tsan_mutex_destroy(mutex, 0);
    REAL(g_mutex_clear)(mutex);
}

static void before_lock(GMutex *mutex)
{
    __tsan_mutex_pre_lock(mutex, 0);
}

static void after_lock(GMutex *mutex)
{
    __tsan_mutex_post_lock(mutex, 0, 0);
}

void g_mutex_lock(GMutex *mutex)
{
    before_lock(mutex);
    REAL(g_mutex_lock)(mutex);
    after_lock(mutex);
}

void g_mutex_unlock(GMutex *mutex)
{
    __tsan_mutex_pre_unlock(mutex, 0);
    REAL(g_mutex_unlock)(mutex);
    __tsan_mutex_post_unlock(mutex, 0);
}

/* Waiting gives the lock up and takes it again; that is all that a condition orders. */
static void before_wait(GMutex *mutex)
{
    __tsan_mutex_pre_unlock(mutex, 0);
    __tsan_mutex_post_unlock(mutex, 0);
}

static void after_wait(GMutex *mutex)
{
    before_lock(mutex);
    after_lock(mutex);
}

void g_cond_wait(GCond *cond, GMutex *mutex)
{
    before_wait(mutex);
    REAL(g_cond_wait)(cond, mutex);
    after_wait(mutex);
}

gboolean g_cond_wait_until(GCond *cond, GMutex *mutex, gint64 end_time)
{
    gboolean woken;

    before_wait(mutex);
    woken = REAL(g_cond_wait_until)(cond, mutex, end_time);
    after_wait(mutex);
    return woken;
}

/* --- what is handed from one thread to another ------------------------------------------------- */

void g_async_queue_push(GAsyncQueue *queue, gpointer data)
{
    __tsan_release(queue);
    REAL(g_async_queue_push)(queue, data);
}

static void *popped(GAsyncQueue *queue, void *data)
{
    if (data)
        __tsan_acquire(queue);
    return data;
}

gpointer g_async_queue_pop(GAsyncQueue *queue)
{
    return popped(queue, REAL(g_async_queue_pop)(queue));
}

gpointer g_async_queue_try_pop(GAsyncQueue *queue)
{
    return popped(queue, REAL(g_async_queue_try_pop)(queue));
}

gpointer g_async_queue_timeout_pop(GAsyncQueue *queue, guint64 timeout)
{
    return popped(queue, REAL(g_async_queue_timeout_pop)(queue, timeout));
}

/* Who finds it done at once reads LOCATION in our code, atomically, which the sanitizer sees. */
gboolean(g_once_init_enter)(volatile void *location)
{
    gboolean mine = REAL(g_once_init_enter)(location);

    if (!mine)
        __tsan_acquire((void *)location);
    return mine;
}

void(g_once_init_leave)(volatile void *location, gsize result)
{
    __tsan_release((void *)location);
    REAL(g_once_init_leave)(location, result);
}

/* Who drops the last reference has seen what all others did. */
gboolean(g_atomic_ref_count_dec)(gatomicrefcount *count)
{
    gboolean last;

    __tsan_release(count);
    last = REAL(g_atomic_ref_count_dec)(count);
    if (last)
        __tsan_acquire(count);
    return last;
}
