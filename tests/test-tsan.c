/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ThreadSanitizer, as we build with it, finds what is a race and nothing else. It would be silent,
 * too, if it were broken or if everything were suppressed. Only built with -Db_sanitize=thread, and
 * run so that a report does not end the program.
 */
#include "common/common.h"
#include "tests/unit.h"

void __tsan_on_report(void *report);

#define ROUNDS 2000

static unsigned reports;

/* The sanitizer calls this for each report. */
void __tsan_on_report(void *report)
{
    reports++;
}

/* What two threads do at the same time. No two fields are beside each other in one word of 8 bytes,
 * in which the sanitizer would have to choose. */
struct shared {
    GMutex lock, other_lock;
    GCond changed;
    GAsyncQueue *queue;
    gatomicrefcount refs;
    gsize once;
    uint64_t value;
    uint64_t turn;
};

static void run(GThreadFunc first, GThreadFunc second)
{
    struct shared *shared = g_new0(struct shared, 1);
    GThread *threads[2];

    g_mutex_init(&shared->lock);
    g_mutex_init(&shared->other_lock);
    g_cond_init(&shared->changed);
    g_atomic_ref_count_init(&shared->refs);
    g_atomic_ref_count_inc(&shared->refs);
    shared->queue = g_async_queue_new();
    threads[0] = g_thread_new("first", first, shared);
    threads[1] = g_thread_new("second", second, shared);
    for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    shared->value++;
    g_async_queue_unref(shared->queue);
    g_cond_clear(&shared->changed);
    g_mutex_clear(&shared->other_lock);
    g_mutex_clear(&shared->lock);
    g_free(shared);
}

static void *add(void *data)
{
    struct shared *shared = data;

    for (unsigned i = 0; i < ROUNDS; i++)
        shared->value++;
    return NULL;
}

static void *add_locked(void *data)
{
    struct shared *shared = data;

    for (unsigned i = 0; i < ROUNDS; i++) {
        g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&shared->lock);

        shared->value++;
    }
    return NULL;
}

static void *add_under_another_lock(void *data)
{
    struct shared *shared = data;

    for (unsigned i = 0; i < ROUNDS; i++) {
        g_mutex_lock(&shared->other_lock);
        shared->value++;
        g_mutex_unlock(&shared->other_lock);
    }
    return NULL;
}

/* Two that take turns; VALUE is touched without the lock by whose turn it is. */
static void take_turns(struct shared *shared, uint64_t me)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        g_mutex_lock(&shared->lock);
        while (shared->turn != me)
            if (i % 2)
                g_cond_wait(&shared->changed, &shared->lock);
            else
                g_cond_wait_until(&shared->changed, &shared->lock,
                                  g_get_monotonic_time() + G_TIME_SPAN_SECOND);
        g_mutex_unlock(&shared->lock);
        shared->value++;
        g_mutex_lock(&shared->lock);
        shared->turn = !me;
        g_cond_signal(&shared->changed);
        g_mutex_unlock(&shared->lock);
    }
}

static void *take_even_turns(void *data)
{
    take_turns(data, 0);
    return NULL;
}

static void *take_odd_turns(void *data)
{
    take_turns(data, 1);
    return NULL;
}

static void *hand_over(void *data)
{
    struct shared *shared = data;

    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t *number = g_new(uint64_t, 1);

        *number = i;
        g_async_queue_push(shared->queue, number);
    }
    return NULL;
}

static uint64_t *pop(GAsyncQueue *queue, unsigned how)
{
    uint64_t *number = NULL;

    while (!number)
        number = how == 0   ? g_async_queue_pop(queue)
                 : how == 1 ? g_async_queue_try_pop(queue)
                            : g_async_queue_timeout_pop(queue, G_TIME_SPAN_SECOND);
    return number;
}

static void receive_all(struct shared *shared, unsigned how)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        g_autofree uint64_t *number = pop(shared->queue, how);

        *number += 1;
    }
}

static void *receive(void *data)
{
    receive_all(data, 0);
    return NULL;
}

static void *receive_trying(void *data)
{
    receive_all(data, 1);
    return NULL;
}

static void *receive_for_a_while(void *data)
{
    receive_all(data, 2);
    return NULL;
}

/* What it goes on doing with what it has given away. */
static void *hand_over_and_keep(void *data)
{
    struct shared *shared = data;

    for (unsigned i = 0; i < ROUNDS; i++)
        g_async_queue_push(shared->queue, &shared->value);
    return add(data);
}

static void *receive_kept(void *data)
{
    struct shared *shared = data;

    for (unsigned i = 0; i < ROUNDS; i++)
        *(uint64_t *)g_async_queue_pop(shared->queue) += 1;
    return NULL;
}

static void *set_once(void *data)
{
    struct shared *shared = data;

    /* The other one, if it comes meanwhile, waits in g_once_init_enter(). */
    if (g_once_init_enter(&shared->once)) {
        g_usleep(1000);
        shared->value = 1;
        g_once_init_leave(&shared->once, 1);
    }
    ck_assert_uint_eq(shared->value, 1);
    return NULL;
}

/* Who is the last may look at all of it. */
static void *drop(struct shared *shared)
{
    if (g_atomic_ref_count_dec(&shared->refs))
        ck_assert_uint_eq(shared->value, shared->turn);
    return NULL;
}

static void *use_value(void *data)
{
    ((struct shared *)data)->value = 1;
    return drop(data);
}

static void *use_turn(void *data)
{
    ((struct shared *)data)->turn = 1;
    return drop(data);
}

START_TEST(finds_a_race_without_a_lock)
{
    run(add, add);
    ck_assert_uint_gt(reports, 0);
}
END_TEST

START_TEST(finds_a_race_under_two_locks)
{
    run(add_locked, add_under_another_lock);
    ck_assert_uint_gt(reports, 0);
}
END_TEST

START_TEST(finds_a_race_with_who_does_not_lock)
{
    run(add_locked, add);
    ck_assert_uint_gt(reports, 0);
}
END_TEST

START_TEST(finds_a_race_about_what_was_handed_over)
{
    run(hand_over_and_keep, receive_kept);
    ck_assert_uint_gt(reports, 0);
}
END_TEST

START_TEST(a_lock_is_no_race)
{
    run(add_locked, add_locked);
    ck_assert_uint_eq(reports, 0);
}
END_TEST

START_TEST(taking_turns_is_no_race)
{
    run(take_even_turns, take_odd_turns);
    ck_assert_uint_eq(reports, 0);
}
END_TEST

START_TEST(handing_over_is_no_race)
{
    run(hand_over, receive);
    run(hand_over, receive_trying);
    run(hand_over, receive_for_a_while);
    ck_assert_uint_eq(reports, 0);
}
END_TEST

START_TEST(what_is_done_once_is_no_race)
{
    for (unsigned i = 0; i < 100; i++)
        run(set_once, set_once);
    ck_assert_uint_eq(reports, 0);
}
END_TEST

START_TEST(the_last_user_frees_without_a_race)
{
    for (unsigned i = 0; i < 100; i++)
        run(use_value, use_turn);
    ck_assert_uint_eq(reports, 0);
}
END_TEST

int main(void)
{
    return UNIT_RUN("tsan", finds_a_race_without_a_lock, finds_a_race_under_two_locks,
                    finds_a_race_with_who_does_not_lock, finds_a_race_about_what_was_handed_over,
                    a_lock_is_no_race, taking_turns_is_no_race, handing_over_is_no_race,
                    what_is_done_once_is_no_race, the_last_user_frees_without_a_race);
}
