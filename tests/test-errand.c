/* SPDX-License-Identifier: Apache-2.0 */
/* What is done for somebody who may lose patience. */
#include "common/common.h"
#include "tests/unit.h"

/* Shared by a test and its errand, which may end after the test has given it up. */
struct work {
    GMutex lock;
    GCond changed;
    bool may_end, input_freed, result_freed;
    bool fails;
};

static struct work work;

static void set(bool *flag)
{
    g_mutex_lock(&work.lock);
    *flag = true;
    g_cond_broadcast(&work.changed);
    g_mutex_unlock(&work.lock);
}

static void wait_for(const bool *flag)
{
    gint64 until = g_get_monotonic_time() + (gint64)UNIT_PATIENCE_MS * 1000;

    g_mutex_lock(&work.lock);
    while (!*flag)
        ck_assert(g_cond_wait_until(&work.changed, &work.lock, until));
    g_mutex_unlock(&work.lock);
}

static void *do_work(void *input, GError **error)
{
    wait_for(&work.may_end);
    if (!work.fails)
        return g_strconcat(input, " done", NULL);
    fail(error, ERROR_HYPERVISOR, "%s failed", (char *)input);
    return NULL;
}

static void free_input(void *input)
{
    g_free(input);
    set(&work.input_freed);
}

static void free_result(void *result)
{
    g_free(result);
    set(&work.result_freed);
}

static struct errand *begin(void)
{
    work = (struct work){0};
    return errand_new("test", do_work, g_strdup("it"), free_input, free_result);
}

static int64_t in_ms(int64_t ms)
{
    return g_get_monotonic_time() + ms * 1000;
}

START_TEST(a_result_can_be_waited_for_and_taken)
{
    AUTO(errand) errand = begin();
    g_autofree char *taken = NULL;
    g_autoptr(GError) error = NULL;

    set(&work.may_end);
    ck_assert_str_eq(errand_wait(errand, in_ms(UNIT_PATIENCE_MS), &error), "it done");
    ck_assert_str_eq(errand_wait(errand, 0, &error), "it done");
    taken = errand_steal(errand);
    ck_assert_str_eq(taken, "it done");
}
END_TEST

START_TEST(a_failure_is_told_each_time)
{
    AUTO(errand) errand = begin();

    work.fails = true;
    set(&work.may_end);
    for (unsigned i = 0; i < 2; i++) {
        g_autoptr(GError) error = NULL;

        unit_fails(errand_wait(errand, in_ms(UNIT_PATIENCE_MS), &error) != NULL, error,
                   ERROR_HYPERVISOR, "it failed");
    }
}
END_TEST

START_TEST(what_is_given_up_is_cleaned_up_when_it_ends)
{
    struct errand *errand = begin();
    g_autoptr(GError) error = NULL;

    unit_fails(errand_wait(errand, in_ms(20), &error) != NULL, error, ERROR_NETWORK, "no answer");
    errand_free(errand);
    ck_assert(!work.input_freed);
    set(&work.may_end);
    wait_for(&work.input_freed);
    wait_for(&work.result_freed);
}
END_TEST

int main(void)
{
    return UNIT_RUN("errand", a_result_can_be_waited_for_and_taken, a_failure_is_told_each_time,
                    what_is_given_up_is_cleaned_up_when_it_ends);
}
