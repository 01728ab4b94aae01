/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/run-job.h"

#include <sys/resource.h>

START_TEST(journals_a_run_and_its_steps)
{
    g_autofree char *store = unit_dir(), *dir = unit_dir(), *done = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    AUTO(run) run = begin(catalog, "failover", "shop");
    json_auto_t *result = json_pack("{s:i}", "rto", 42), *shown = NULL;
    struct job job = {.dir = dir};

    ck_assert(g_regex_match_simple("^r-[0-9]{8}-[0-9]{4}-1$", run_id(run), 0, 0));
    unit_ok(run_steps(run, "db", steps, N_STEPS, &job, &error), error);
    unit_ok(run_steps(run, "app", steps, 1, &job, &error), error);
    done = steps_of(catalog, run_id(run));
    ck_assert_str_eq(done, "db/grant=done db/overlay=done db/define=done db/start=done "
                           "app/grant=done ");
    assert_state(catalog, run_id(run), "running");
    unit_ok(run_finish(run, RUN_PARTIAL, result, &error), error);

    shown = show(catalog, run_id(run));
    ck_assert_str_eq(json_get_string(shown, "run"), run_id(run));
    ck_assert_str_eq(json_get_string(shown, "kind"), "failover");
    ck_assert_str_eq(json_get_string(shown, "title"), "shop");
    ck_assert_str_eq(json_get_string(shown, "state"), "partially-failed");
    ck_assert_str_eq(json_get_string(shown, "host"), g_get_host_name());
    ck_assert_int_eq(json_integer_value(json_object_get(shown, "pid")), getpid());
    ck_assert(json_equal(json_object_get(shown, "result"), result));
    ck_assert_str_eq(json_get_string(json_object_get(shown, "plan"), "point"),
                     "20261120T221500.123Z");
    assert_no_lock_files(catalog);
    unit_fails(run_finish(run, RUN_DONE, NULL, &error), error, ERROR_CONFLICT, "already");
}
END_TEST

START_TEST(writes_times_that_can_be_read)
{
    g_autofree char *store = unit_dir(), *dir = unit_dir();
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    int64_t before = time_now_ms(), started, ended;
    AUTO(run) run = begin(catalog, "failover", "shop");
    struct job job = {.dir = dir};
    json_auto_t *shown = NULL;
    json_t *step;

    unit_ok(run_steps(run, "db", steps, 1, &job, &error), error);
    unit_ok(run_finish(run, RUN_DONE, NULL, &error), error);
    shown = show(catalog, run_id(run));
    unit_ok(time_parse(json_get_string(shown, "started"), &started, &error), error);
    unit_ok(time_parse(json_get_string(shown, "ended"), &ended, &error), error);
    ck_assert(before <= started && started <= ended && ended <= time_now_ms());
    ck_assert_int_eq(started, run_started_ms(run));
    step = json_array_get(json_object_get(shown, "steps"), 0);
    unit_ok(time_parse(json_get_string(step, "started"), &started, &error), error);
    unit_ok(time_parse(json_get_string(step, "ended"), &ended, &error), error);
    ck_assert(before <= started && started <= ended);
    ck_assert(json_is_null(json_object_get(step, "error")));
}
END_TEST

START_TEST(stops_at_a_failure_and_repeats_that_step_later)
{
    g_autofree char *store = unit_dir(), *dir = unit_dir(), *states = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    AUTO(run) run = begin(catalog, "failover", "shop");
    struct job job = {.dir = dir, .fail_at = 'c'};
    json_auto_t *shown = NULL;
    json_t *step;

    unit_fails(run_steps(run, "db", steps, N_STEPS, &job, &error), error, ERROR_HYPERVISOR,
               "c cannot be");
    states = steps_of(catalog, run_id(run));
    ck_assert_str_eq(states, "db/grant=done db/overlay=done db/define=failed ");
    shown = show(catalog, run_id(run));
    step = json_array_get(json_object_get(shown, "steps"), 2);
    ck_assert_str_eq(json_get_string(step, "error"), "c cannot be");
    job.fail_at = 0;
    unit_ok(run_steps(run, "db", steps, N_STEPS, &job, &error), error);
    assert_traced(&job, "abccd");
}
END_TEST

/* When step I of run ID ended; g_free. */
static char *step_ended(struct catalog *catalog, const char *id, size_t i)
{
    json_auto_t *shown = show(catalog, id);

    return g_strdup(json_get_string(json_array_get(json_object_get(shown, "steps"), i), "ended"));
}

START_TEST(undoes_what_was_begun_in_reverse_order)
{
    g_autofree char *store = unit_dir(), *dir = unit_dir(), *states = NULL;
    g_autofree char *ended = NULL, *again = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    AUTO(run) run = begin(catalog, "failover", "shop");
    struct job job = {.dir = dir, .fail_at = 'c'};

    ck_assert(!run_steps(run, "db", steps, N_STEPS, &job, NULL));
    job.fail_at = 'B';
    unit_fails(run_undo(run, "db", steps, N_STEPS, &job, &error), error, ERROR_HYPERVISOR, "B");
    assert_traced(&job, "abcCBA");
    states = steps_of(catalog, run_id(run));
    ck_assert_str_eq(states, "db/grant=undone db/overlay=undo-failed db/define=undone ");
    job.fail_at = 0;
    ended = step_ended(catalog, run_id(run), 1);
    unit_ok(run_undo(run, "db", steps, N_STEPS, &job, &error), error);
    assert_traced(&job, "abcCBAB");
    /* How long it took is known still. */
    again = step_ended(catalog, run_id(run), 1);
    ck_assert_str_eq(ended, again);
    unit_ok(run_steps(run, "db", steps, N_STEPS, &job, &error), error);
    assert_traced(&job, "abcCBABabcd");
}
END_TEST

static bool press_ctrl_c(void *context, GError **error)
{
    interrupt_request();
    return true;
}

START_TEST(stops_between_steps_when_interrupted_but_undoes)
{
    static const struct step table[] = {
        {"check", press_ctrl_c, NULL}, {"grant", do_a, undo_a}, {"overlay", do_b, undo_b}};
    g_autofree char *store = unit_dir(), *dir = unit_dir(), *states = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    AUTO(run) run = begin(catalog, "failover", "shop");
    struct job job = {.dir = dir};

    unit_ok(run_steps(run, "db", table + 1, 1, &job, &error), error);
    unit_fails(run_steps(run, "db", table, 3, &job, &error), error, ERROR_CANCELLED, "interrupted");
    states = steps_of(catalog, run_id(run));
    ck_assert_str_eq(states, "db/grant=done db/check=done ");
    unit_ok(run_undo(run, "db", table, 3, &job, &error), error);
    assert_traced(&job, "aA");
    unit_ok(run_finish(run, RUN_CANCELLED, NULL, &error), error);
    assert_state(catalog, run_id(run), "cancelled");
}
END_TEST

START_TEST(tells_what_was_declared_and_not_begun)
{
    g_autofree char *store = unit_dir(), *dir = unit_dir(), *id = NULL;
    g_autofree char *executing = NULL, *stopped = NULL, *resumed = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    AUTO(run) run = begin(catalog, "failover", "shop");
    const struct run_subject subjects[] = {
        {"db", steps, 2}, {"db", steps + 3, 1}, {"app", steps, 1}};
    struct job job = {.dir = dir};
    json_auto_t *list = NULL;

    id = g_strdup(run_id(run));
    unit_ok(run_declare(run, subjects, G_N_ELEMENTS(subjects), &error), error);
    unit_ok(run_steps(run, "db", steps, 1, &job, &error), error);
    executing = steps_of(catalog, id);
    ck_assert_str_eq(executing,
                     "db/grant=done db/overlay=waiting db/start=waiting app/grant=waiting ");
    run_free(g_steal_pointer(&run));
    stopped = steps_of(catalog, id);
    ck_assert_str_eq(stopped, "db/grant=done db/overlay=not-executed db/start=not-executed "
                              "app/grant=not-executed ");
    list = run_list(catalog, &error);
    ck_assert_ptr_null(json_object_get(json_array_get(list, 0), "declared"));
    run = resume(catalog, id);
    unit_ok(run_steps(run, "app", steps, 1, &job, &error), error);
    unit_ok(run_finish(run, RUN_PARTIAL, NULL, &error), error);
    resumed = steps_of(catalog, id);
    ck_assert_str_eq(resumed, "db/grant=done app/grant=done db/overlay=not-executed "
                              "db/start=not-executed ");
}
END_TEST

START_TEST(executes_again_what_must_hold_now)
{
    g_autofree char *store = unit_dir(), *dir = unit_dir();
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    int64_t before_ms = time_now_ms(), ended_ms = -1;
    AUTO(run) run = begin(catalog, "failover", "shop");
    struct job job = {.dir = dir};

    unit_ok(run_step_done(run, "db", &steps[0], &ended_ms, &error), error);
    ck_assert_int_eq(ended_ms, 0);
    unit_ok(run_steps(run, "db", steps, 1, &job, &error), error);
    unit_ok(run_again(run, "db", &steps[0], &job, &error), error);
    assert_traced(&job, "aa");
    unit_ok(run_step_done(run, "db", &steps[0], &ended_ms, &error), error);
    ck_assert(before_ms <= ended_ms && ended_ms <= time_now_ms());
    job.fail_at = 'a';
    unit_fails(run_again(run, "db", &steps[0], &job, &error), error, ERROR_HYPERVISOR,
               "a cannot be");
    unit_ok(run_step_done(run, "db", &steps[0], &ended_ms, &error), error);
    ck_assert_int_eq(ended_ms, 0);
}
END_TEST

static bool wait_in_vain(void *context, GError **error)
{
    interrupt_request();
    return interrupt_check(error);
}

START_TEST(a_step_that_was_interrupted_has_not_failed)
{
    static const struct step table[] = {{"ready", wait_in_vain, NULL}};
    g_autofree char *store = unit_dir(), *states = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    AUTO(run) run = begin(catalog, "failover", "shop");

    unit_fails(run_steps(run, "db", table, 1, NULL, &error), error, ERROR_CANCELLED, "interrupted");
    states = steps_of(catalog, run_id(run));
    ck_assert_str_eq(states, "db/ready=interrupted ");
}
END_TEST

static void end_after(struct catalog *catalog, const char *title, enum run_state state, double db_s,
                      double app_s)
{
    json_auto_t *result =
        json_pack("{s:f, s:[{s:s, s:f}, {s:s, s:n}]}", "rto_seconds", MAX(db_s, app_s), "vms", "vm",
                  "db", "rto_seconds", db_s, "vm", "app", "rto_seconds");
    g_autoptr(GError) error = NULL;
    AUTO(run) run = begin(catalog, "failover", title);

    if (app_s > 0)
        json_set_real(json_array_get(json_object_get(result, "vms"), 1), "rto_seconds", app_s);
    unit_ok(run_finish(run, state, result, &error), error);
}

static double forecast_of(struct catalog *catalog, const char *vm, uint64_t runs)
{
    g_autoptr(GError) error = NULL;
    json_auto_t *forecast = run_forecast(catalog, "failover", "shop", &error);
    const json_t *from = vm ? json_object_get(forecast, "vms") : forecast;
    uint64_t counted = 0;

    unit_ok(forecast && json_need_u64(forecast, "runs", &counted, &error), error);
    ck_assert_uint_eq(counted, runs);
    return json_number_value(json_object_get(from, vm ? vm : "rto_seconds"));
}

START_TEST(expects_what_the_last_good_runs_of_the_kind_took)
{
    g_autofree char *store = unit_dir();
    AUTO(catalog) catalog = open_catalog(store);

    ck_assert_double_eq(forecast_of(catalog, NULL, 0), 0);
    for (unsigned i = 0; i < 5; i++)
        end_after(catalog, "shop", RUN_DONE, 1000, 2000); /* too long ago */
    end_after(catalog, "shop", RUN_DONE, 10, 20);
    end_after(catalog, "shop", RUN_DONE, 500, 600); /* an exception */
    end_after(catalog, "shop", RUN_DONE, 11, 22);
    end_after(catalog, "mail", RUN_DONE, 1, 1);
    end_after(catalog, "shop", RUN_PARTIAL, 1, 0);
    end_after(catalog, "shop", RUN_DONE, 12, 21);
    end_after(catalog, "shop", RUN_DONE, 9, 0);
    ck_assert_double_eq(forecast_of(catalog, "db", 5), 11);
    ck_assert_double_eq(forecast_of(catalog, "app", 5), 22);
    ck_assert_double_eq(forecast_of(catalog, NULL, 5), 21);
}
END_TEST

START_TEST(expects_a_move_to_be_down_as_long_as_the_last_ones)
{
    g_autofree char *store = unit_dir();
    AUTO(catalog) catalog = open_catalog(store);
    static const double downs[] = {7, 900, 5};
    g_autoptr(GError) error = NULL;
    json_auto_t *forecast = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(downs); i++) {
        json_auto_t *result = json_pack("{s:f}", "down_seconds", downs[i]);
        AUTO(run) run = begin(catalog, "planned", "shop");

        unit_ok(run_finish(run, RUN_DONE, result, &error), error);
    }
    forecast = run_forecast(catalog, "planned", "shop", &error);
    unit_ok(forecast, error);
    ck_assert_double_eq(json_number_value(json_object_get(forecast, "down_seconds")), 7);
    ck_assert_ptr_null(json_object_get(forecast, "rto_seconds"));
}
END_TEST

struct thread_work {
    struct run *run;
    struct job job;
    char *dir;
    char subject[8];
};

static void *run_in_thread(void *data)
{
    struct thread_work *work = data;

    work->job.dir = work->dir;
    return run_steps(work->run, work->subject, steps, N_STEPS, &work->job, NULL) ? data : NULL;
}

START_TEST(runs_steps_of_several_subjects_at_once)
{
    g_autofree char *store = unit_dir();
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    AUTO(run) run = begin(catalog, "failover", "shop");
    struct thread_work works[6] = {0};
    GThread *threads[G_N_ELEMENTS(works)];
    json_auto_t *shown = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(works); i++) {
        works[i].run = run;
        works[i].dir = unit_dir();
        g_snprintf(works[i].subject, sizeof(works[i].subject), "vm%u", i);
        threads[i] = g_thread_new(works[i].subject, run_in_thread, &works[i]);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(works); i++) {
        ck_assert_ptr_nonnull(g_thread_join(threads[i]));
        assert_traced(&works[i].job, "abcd");
        g_free(works[i].dir);
    }
    unit_ok(run_finish(run, RUN_DONE, NULL, &error), error);
    shown = show(catalog, run_id(run));
    ck_assert_uint_eq(json_array_size(json_object_get(shown, "steps")),
                      N_STEPS * G_N_ELEMENTS(works));
}
END_TEST

START_TEST(finds_the_newest_interrupted_run_of_its_kind_and_title)
{
    static const char *const runs[][2] = {
        {"failover", "shop"}, {"failover", "shop"}, {"failover", "mail"}, {"restore", "shop"}};
    g_autofree char *store = unit_dir(), *second = NULL, *found = NULL, *none = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    AUTO(run) ended = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(runs); i++) {
        AUTO(run) run = begin(catalog, runs[i][0], runs[i][1]);

        if (i == 1)
            second = g_strdup(run_id(run));
    }
    ended = begin(catalog, "failover", "shop");
    unit_ok(run_finish(ended, RUN_FAILED, NULL, &error), error);
    found = find(catalog, "failover", "shop");
    ck_assert_str_eq(found, second);
    none = find(catalog, "failover", "web");
    ck_assert_ptr_null(none);
}
END_TEST

START_TEST(resumes_with_the_same_plan_and_the_first_start)
{
    g_autofree char *store = unit_dir(), *id = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    AUTO(run) run = begin(catalog, "failover", "shop");
    int64_t started_ms = run_started_ms(run), deadline = time_monotonic_ms() + 5000;

    id = g_strdup(run_id(run));
    run_free(g_steal_pointer(&run));
    while (time_now_ms() == started_ms && time_monotonic_ms() < deadline)
        continue;
    run = resume(catalog, id);
    ck_assert_str_eq(run_id(run), id);
    ck_assert_int_eq(run_started_ms(run), started_ms);
    ck_assert_str_eq(json_get_string(run_plan(run), "point"), "20261120T221500.123Z");
}
END_TEST

START_TEST(refuses_to_resume_what_has_ended_or_never_was)
{
    static const char *const strangers[] = {"r-20200101-0000-1", "../catalog/data", "", "a b"};
    g_autofree char *store = unit_dir();
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    AUTO(run) run = begin(catalog, "failover", "shop");

    unit_fails(run_finish(run, RUN_RUNNING, NULL, &error), error, ERROR_FAILED, "running");
    unit_ok(run_finish(run, RUN_DONE, NULL, &error), error);
    unit_fails(run_resume(catalog, run_id(run), &error), error, ERROR_CONFLICT, "has ended (done)");
    for (unsigned i = 0; i < G_N_ELEMENTS(strangers); i++) {
        unit_fails(run_resume(catalog, strangers[i], &error), error, ERROR_NOT_FOUND, "no run");
        unit_fails(run_show(catalog, strangers[i], &error), error, ERROR_NOT_FOUND, "no run");
    }
    assert_no_lock_files(catalog);
}
END_TEST

/* A plan may be megabytes: it is neither written again nor read where it is not asked for. */
START_TEST(plan_and_declaration_are_beside_the_record)
{
    g_autofree char *store = unit_dir(), *key = NULL, *declared = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    AUTO(run) run = begin(catalog, "failover", "shop");
    const struct run_subject subject = {"db", steps, N_STEPS};
    json_auto_t *record = NULL, *plan = NULL, *names = NULL, *head = NULL;

    unit_ok(run_declare(run, &subject, 1, &error), error);
    key = g_strdup_printf("%s/plan", run_id(run));
    declared = g_strdup_printf("%s/declared", run_id(run));
    unit_ok(catalog_get(catalog, CATALOG_RUNS, run_id(run), &record, &error), error);
    unit_ok(catalog_get(catalog, CATALOG_PLANS, key, &plan, &error), error);
    unit_ok(catalog_get(catalog, CATALOG_PLANS, declared, &names, &error), error);
    ck_assert_ptr_null(json_object_get(record, "plan"));
    ck_assert_ptr_null(json_object_get(record, "declared"));
    ck_assert(json_equal(plan, run_plan(run)));
    ck_assert_uint_eq(json_array_size(names), 1);
    unit_ok(head = run_head(catalog, run_id(run), &error), error);
    ck_assert_str_eq(json_get_string(head, "state"), "running");
    ck_assert_ptr_null(json_object_get(head, "plan"));
}
END_TEST

/* As an older drctl has left it. */
START_TEST(a_run_that_has_its_plan_in_the_record_is_gone_on_with)
{
    g_autofree char *store = unit_dir(), *id = NULL, *key = NULL, *states = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    AUTO(run) run = begin(catalog, "failover", "shop");
    json_auto_t *record = NULL, *shown = NULL;

    id = g_strdup(run_id(run));
    key = g_strdup_printf("%s/plan", id);
    unit_ok(catalog_get(catalog, CATALOG_RUNS, id, &record, &error), error);
    run_free(g_steal_pointer(&run));
    json_object_set_new(record, "plan", json_pack("{s:s}", "point", "old"));
    json_object_set_new(record, "declared",
                        json_pack("[{s:s,s:[s]}]", "subject", "db", "steps", "grant"));
    unit_ok(catalog_put(catalog, CATALOG_RUNS, id, record, &error), error);
    unit_ok(catalog_remove(catalog, CATALOG_PLANS, key, &error), error);
    run = resume(catalog, id);
    ck_assert_str_eq(json_get_string(run_plan(run), "point"), "old");
    shown = show(catalog, id);
    ck_assert_str_eq(json_get_string(json_object_get(shown, "plan"), "point"), "old");
    states = steps_of(catalog, id);
    ck_assert_str_eq(states, "db/grant=waiting ");
}
END_TEST

START_TEST(does_a_step_for_several_subjects_together)
{
    static const char *const subjects[] = {"db", "app", "web"};
    g_autofree char *store = unit_dir(), *dir = unit_dir(), *states = NULL, *failed = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    AUTO(run) run = begin(catalog, "failover", "shop");
    struct job job = {.dir = dir, .fail_at = 'a'};

    unit_fails(run_together(run, subjects, 3, steps, &job, &error), error, ERROR_HYPERVISOR,
               "a cannot be");
    failed = steps_of(catalog, run_id(run));
    ck_assert_str_eq(failed, "db/grant=failed app/grant=failed web/grant=failed ");
    job.fail_at = 0;
    unit_ok(run_together(run, subjects, 2, steps, &job, &error), error);
    unit_ok(run_together(run, subjects, 2, steps, &job, &error), error);
    assert_traced(&job, "aa");
    /* One of them is not done. */
    unit_ok(run_together(run, subjects, 3, steps, &job, &error), error);
    assert_traced(&job, "aaa");
    states = steps_of(catalog, run_id(run));
    ck_assert_str_eq(states, "db/grant=done app/grant=done web/grant=done ");
    unit_ok(run_together(run, subjects, 0, steps, &job, &error), error);
    assert_traced(&job, "aaa");
}
END_TEST

START_TEST(lists_runs_newest_first)
{
    g_autofree char *store = unit_dir();
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    char *ids[13];
    json_auto_t *list = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(ids); i++) {
        AUTO(run) run = begin(catalog, "replicate", "db");

        ids[i] = g_strdup(run_id(run));
        if (i % 2)
            unit_ok(run_finish(run, RUN_DONE, NULL, &error), error);
    }
    list = run_list(catalog, &error);
    ck_assert_uint_eq(json_array_size(list), G_N_ELEMENTS(ids));
    for (unsigned i = 0; i < G_N_ELEMENTS(ids); i++) {
        const json_t *item = json_array_get(list, G_N_ELEMENTS(ids) - 1 - i);

        ck_assert_str_eq(json_get_string(item, "run"), ids[i]);
        ck_assert_str_eq(json_get_string(item, "state"), i % 2 ? "done" : "interrupted");
        ck_assert_ptr_null(json_object_get(item, "plan"));
        g_free(ids[i]);
    }
}
END_TEST

static void limit_file_size(rlim_t bytes)
{
    struct rlimit limit;

    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static bool fill_the_disk(void *job, GError **error)
{
    bool ok = act(job, 'a', error);

    limit_file_size(4096);
    return ok;
}

START_TEST(repeats_a_step_whose_end_the_full_disk_could_not_take)
{
    static const struct step table[] = {{"grant", fill_the_disk, NULL}};
    g_autofree char *store = unit_dir(), *dir = unit_dir(), *id = NULL, *states = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    AUTO(run) run = begin(catalog, "failover", "shop");
    struct job job = {.dir = dir};

    id = g_strdup(run_id(run));
    unit_fails(run_steps(run, "db", table, 1, &job, &error), error, ERROR_NO_SPACE, "make room");
    unit_fails(run_begin(catalog, "failover", "mail", NULL, &error), error, ERROR_NO_SPACE,
               "cannot begin the failover of mail");
    unit_fails(run_finish(run, RUN_FAILED, NULL, &error), error, ERROR_NO_SPACE, id);
    run_free(g_steal_pointer(&run));
    assert_state(catalog, id, "interrupted");

    limit_file_size(RLIM_INFINITY);
    run = resume(catalog, id);
    unit_ok(run_steps(run, "db", steps, 1, &job, &error), error);
    assert_traced(&job, "aa");
    unit_ok(run_finish(run, RUN_DONE, NULL, &error), error);
    states = steps_of(catalog, id);
    ck_assert_str_eq(states, "db/grant=done ");
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "run", journals_a_run_and_its_steps, writes_times_that_can_be_read,
        stops_at_a_failure_and_repeats_that_step_later, undoes_what_was_begun_in_reverse_order,
        stops_between_steps_when_interrupted_but_undoes, runs_steps_of_several_subjects_at_once,
        does_a_step_for_several_subjects_together, plan_and_declaration_are_beside_the_record,
        a_run_that_has_its_plan_in_the_record_is_gone_on_with,
        tells_what_was_declared_and_not_begun, executes_again_what_must_hold_now,
        a_step_that_was_interrupted_has_not_failed,
        expects_what_the_last_good_runs_of_the_kind_took,
        expects_a_move_to_be_down_as_long_as_the_last_ones,
        finds_the_newest_interrupted_run_of_its_kind_and_title,
        resumes_with_the_same_plan_and_the_first_start,
        refuses_to_resume_what_has_ended_or_never_was, lists_runs_newest_first,
        repeats_a_step_whose_end_the_full_disk_could_not_take);
}
