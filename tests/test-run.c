/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "metadata/metadata.h"

#define N_STEPS 4

/*
 * A job whose steps leave what a real one would: step N makes the file DIR/<n>, undoing removes it.
 * Each call also writes a letter to DIR/trace ("a" .. "d", undone "A" .. "D"), which outlives a
 * kill.
 */
struct job {
    const char *dir;
    char kill_at;     /* letter of the call that dies */
    bool kill_before; /* before its effect, else after */
    char fail_at;     /* letter of the call that fails */
};

static bool trace(const struct job *job, char letter, GError **error)
{
    g_autofree char *path = g_build_filename(job->dir, "trace", NULL);
    AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    return write(fd, &letter, 1) == 1 || fail_errno(error, errno, "cannot write %s", path);
}

static bool act(struct job *job, char letter, GError **error)
{
    char name[] = {g_ascii_tolower(letter), 0};
    g_autofree char *path = g_build_filename(job->dir, name, NULL);

    if (!trace(job, letter, error))
        return false;
    if (job->kill_at == letter && job->kill_before)
        raise(SIGKILL);
    if (g_ascii_islower(letter) ? !file_write(path, "", 0, 0600, error) : !tree_remove(path, error))
        return false;
    if (job->kill_at == letter)
        raise(SIGKILL);
    return job->fail_at != letter || fail(error, ERROR_HYPERVISOR, "%c cannot be", letter);
}

#define DEFINE_STEP(lower, upper)                                                                  \
    static bool do_##lower(void *job, GError **error)                                              \
    {                                                                                              \
        return act(job, #lower[0], error);                                                         \
    }                                                                                              \
    static bool undo_##lower(void *job, GError **error)                                            \
    {                                                                                              \
        return act(job, #upper[0], error);                                                         \
    }
DEFINE_STEP(a, A)
DEFINE_STEP(b, B)
DEFINE_STEP(c, C)
DEFINE_STEP(d, D)

static const struct step steps[N_STEPS] = {
    {"grant", do_a, undo_a},
    {"overlay", do_b, undo_b},
    {"define", do_c, undo_c},
    {"start", do_d, undo_d},
};

static void assert_traced(const struct job *job, const char *expected)
{
    g_autofree char *path = g_build_filename(job->dir, "trace", NULL), *text = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(file_read(path, 1000, &text, NULL, &error), error);
    ck_assert_str_eq(text, expected);
}

/* The files of which steps are there. */
static void assert_effects(const struct job *job, const char *expected)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) names = dir_list(job->dir, &error);
    g_autoptr(GString) found = g_string_new(NULL);

    for (char **name = names; *name; name++)
        if (strlen(*name) == 1)
            g_string_append(found, *name);
    ck_assert_str_eq(found->str, expected);
}

static struct catalog *open_catalog(const char *store)
{
    g_autoptr(GError) error = NULL;
    struct catalog *catalog = catalog_open(store, &error);

    unit_ok(catalog != NULL, error);
    return catalog;
}

static struct run *begin(struct catalog *catalog, const char *kind, const char *title)
{
    g_autoptr(GError) error = NULL;
    json_auto_t *plan = json_pack("{s:s}", "point", "20261120T221500.123Z");
    struct run *run = run_begin(catalog, kind, title, plan, &error);

    unit_ok(run != NULL, error);
    return run;
}

static struct run *resume(struct catalog *catalog, const char *id)
{
    g_autoptr(GError) error = NULL;
    struct run *run = run_resume(catalog, id, &error);

    unit_ok(run != NULL, error);
    return run;
}

static char *find(struct catalog *catalog, const char *kind, const char *title)
{
    g_autoptr(GError) error = NULL;
    char *id = NULL;

    unit_ok(run_find_interrupted(catalog, kind, title, &id, &error), error);
    return id;
}

static json_t *show(struct catalog *catalog, const char *id)
{
    g_autoptr(GError) error = NULL;
    json_t *shown = run_show(catalog, id, &error);

    unit_ok(shown != NULL, error);
    return shown;
}

/* All steps of a run as "subject/step=state ". */
static char *steps_of(struct catalog *catalog, const char *id)
{
    json_auto_t *shown = show(catalog, id);
    g_autoptr(GString) text = g_string_new(NULL);
    json_t *step;
    size_t i;

    json_array_foreach(json_object_get(shown, "steps"), i, step)
        g_string_append_printf(text, "%s/%s=%s ", json_get_string(step, "subject"),
                               json_get_string(step, "step"), json_get_string(step, "state"));
    return g_strdup(text->str);
}

static void assert_state(struct catalog *catalog, const char *id, const char *state)
{
    json_auto_t *shown = show(catalog, id);

    ck_assert_str_eq(json_get_string(shown, "state"), state);
}

static void assert_no_lock_files(struct catalog *catalog)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) names = dir_list(catalog_lock_dir(catalog), &error);

    unit_ok(names != NULL, error);
    ck_assert_ptr_null(names[0]);
}

/* In a child: begin (or resume) a run and work on it until the job's kill. */
static void work_until_killed(const char *store, struct job *job, const char *id, bool undo)
{
    struct catalog *catalog = catalog_open(store, NULL);
    struct run *run =
        id ? run_resume(catalog, id, NULL) : run_begin(catalog, "failover", "shop", NULL, NULL);

    if (run && run_steps(run, "db", steps, N_STEPS, job, NULL) && undo)
        run_undo(run, "db", steps, N_STEPS, job, NULL);
    _exit(1);
}

static pid_t kill_in(const char *store, struct job job, const char *id, bool undo)
{
    int status;
    pid_t child = fork();

    if (child == 0)
        work_until_killed(store, &job, id, undo);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    return child;
}

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

/* For each step, killed before and after its effect: the next one ends in the same state. */
START_TEST(goes_on_after_a_kill_in_any_step)
{
    static const struct {
        char kill_at;
        bool before;
        const char *trace, *effects, *journal;
    } cases[] = {
        {'a', true, "aabcd", "", "db/grant=interrupted "},
        {'a', false, "aabcd", "a", "db/grant=interrupted "},
        {'b', true, "abbcd", "a", "db/grant=done db/overlay=interrupted "},
        {'b', false, "abbcd", "ab", "db/grant=done db/overlay=interrupted "},
        {'c', true, "abccd", "ab", "db/grant=done db/overlay=done db/define=interrupted "},
        {'c', false, "abccd", "abc", "db/grant=done db/overlay=done db/define=interrupted "},
        {'d', true, "abcdd", "abc",
         "db/grant=done db/overlay=done db/define=done db/start=interrupted "},
        {'d', false, "abcdd", "abcd",
         "db/grant=done db/overlay=done db/define=done db/start=interrupted "},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *store = unit_dir(), *dir = unit_dir();
        g_autofree char *id = NULL, *journal = NULL, *done = NULL, *none = NULL;
        struct job job = {.dir = dir, .kill_at = cases[i].kill_at, .kill_before = cases[i].before};
        g_autoptr(GError) error = NULL;
        AUTO(catalog) catalog = NULL;
        AUTO(run) run = NULL;

        kill_in(store, job, NULL, false);
        assert_effects(&job, cases[i].effects);
        catalog = open_catalog(store);
        id = find(catalog, "failover", "shop");
        ck_assert_ptr_nonnull(id);
        assert_state(catalog, id, "interrupted");
        journal = steps_of(catalog, id);
        ck_assert_str_eq(journal, cases[i].journal);

        run = resume(catalog, id);
        job.kill_at = 0;
        unit_ok(run_steps(run, "db", steps, N_STEPS, &job, &error), error);
        unit_ok(run_finish(run, RUN_DONE, NULL, &error), error);
        assert_traced(&job, cases[i].trace);
        assert_effects(&job, "abcd");
        assert_state(catalog, id, "done");
        done = steps_of(catalog, id);
        ck_assert_str_eq(done, "db/grant=done db/overlay=done db/define=done db/start=done ");
        none = find(catalog, "failover", "shop");
        ck_assert_ptr_null(none);
        assert_no_lock_files(catalog);
    }
}
END_TEST

START_TEST(goes_on_after_a_kill_in_every_step_of_one_run)
{
    g_autofree char *store = unit_dir(), *dir = unit_dir(), *id = NULL;
    struct job job = {.dir = dir};
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; i < N_STEPS; i++) {
        AUTO(catalog) catalog = NULL;

        job.kill_at = (char)('a' + i);
        kill_in(store, job, id, false);
        catalog = open_catalog(store);
        g_free(id);
        id = find(catalog, "failover", "shop");
        ck_assert_ptr_nonnull(id);
    }
    job.kill_at = 0;
    {
        AUTO(catalog) catalog = open_catalog(store);
        AUTO(run) run = resume(catalog, id);

        unit_ok(run_steps(run, "db", steps, N_STEPS, &job, &error), error);
        unit_ok(run_finish(run, RUN_DONE, NULL, &error), error);
    }
    assert_traced(&job, "aabbccdd");
}
END_TEST

START_TEST(undoes_to_the_end_after_a_kill_while_undoing)
{
    static const char *const traces[] = {"abcdDCBAA", "abcdDCBBA", "abcdDCCBA", "abcdDDCBA"};

    for (unsigned i = 0; i < N_STEPS * 2; i++) {
        g_autofree char *store = unit_dir(), *dir = unit_dir(), *id = NULL, *undone = NULL;
        struct job job = {.dir = dir, .kill_at = (char)('A' + i / 2), .kill_before = i % 2};
        g_autoptr(GError) error = NULL;
        AUTO(catalog) catalog = NULL;
        AUTO(run) run = NULL;

        kill_in(store, job, NULL, true);
        catalog = open_catalog(store);
        id = find(catalog, "failover", "shop");
        run = resume(catalog, id);
        job.kill_at = 0;
        unit_ok(run_undo(run, "db", steps, N_STEPS, &job, &error), error);
        assert_traced(&job, traces[i / 2]);
        assert_effects(&job, "");
        undone = steps_of(catalog, id);
        ck_assert_str_eq(undone,
                         "db/grant=undone db/overlay=undone db/define=undone db/start=undone ");
    }
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

START_TEST(undoes_what_was_begun_in_reverse_order)
{
    g_autofree char *store = unit_dir(), *dir = unit_dir(), *states = NULL;
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
    unit_ok(run_undo(run, "db", steps, N_STEPS, &job, &error), error);
    assert_traced(&job, "abcCBAB");
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

/* In a child: begin a run, say so through READY and wait until GO is closed. */
static void execute_until(const char *store, int ready, int go)
{
    struct catalog *catalog = catalog_open(store, NULL);
    struct run *run = run_begin(catalog, "failover", "shop", NULL, NULL);
    char byte = 0;

    if (!run || write(ready, "x", 1) != 1 || read(go, &byte, 1) != 0)
        _exit(1);
    _exit(0);
}

START_TEST(leaves_an_executing_run_alone)
{
    g_autofree char *store = unit_dir(), *none = NULL, *found = NULL, *pid = NULL;
    g_autoptr(GError) error = NULL;
    int ready[2], go[2], status;
    AUTO(catalog) catalog = NULL;
    json_auto_t *list = NULL;
    AUTO(run) run = NULL;
    const char *id;
    pid_t child;
    char byte;

    ck_assert(pipe(ready) == 0 && pipe(go) == 0);
    child = fork();
    if (child == 0) {
        close(go[1]);
        execute_until(store, ready[1], go[0]);
    }
    close(ready[1]);
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);

    catalog = open_catalog(store);
    none = find(catalog, "failover", "shop");
    ck_assert_ptr_null(none);
    list = run_list(catalog, &error);
    ck_assert_uint_eq(json_array_size(list), 1);
    ck_assert_str_eq(json_get_string(json_array_get(list, 0), "state"), "running");
    ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(list, 0), "pid")), child);
    id = json_get_string(json_array_get(list, 0), "run");
    pid = g_strdup_printf("in use by pid %d", (int)child);
    unit_fails(run_resume(catalog, id, &error), error, ERROR_CONFLICT, pid);

    close(go[1]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    found = find(catalog, "failover", "shop");
    ck_assert_str_eq(found, id);
    run = resume(catalog, id);
    assert_state(catalog, id, "running");
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

/* In a child: begin, work on and finish some runs. */
static void begin_many(const char *store, const char *dir)
{
    struct catalog *catalog = catalog_open(store, NULL);
    struct job job = {.dir = dir};

    for (unsigned i = 0; i < 10; i++) {
        struct run *run = run_begin(catalog, "replicate", "db", NULL, NULL);

        if (!run || !run_steps(run, "db", steps, 1, &job, NULL) ||
            !run_finish(run, RUN_DONE, NULL, NULL))
            _exit(1);
        run_free(run);
    }
    catalog_free(catalog);
    _exit(0);
}

START_TEST(gives_every_run_its_own_id_when_many_processes_begin)
{
    g_autofree char *store = unit_dir(), *dir = unit_dir();
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = NULL;
    json_auto_t *list = NULL;
    pid_t children[4];

    for (unsigned i = 0; i < G_N_ELEMENTS(children); i++) {
        children[i] = fork();
        if (children[i] == 0)
            begin_many(store, dir);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(children); i++) {
        int status;

        ck_assert_int_eq(waitpid(children[i], &status, 0), children[i]);
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    catalog = open_catalog(store);
    list = run_list(catalog, &error);
    ck_assert_uint_eq(json_array_size(list), 40);
    for (unsigned i = 0; i < 40; i++) {
        const char *id = json_get_string(json_array_get(list, i), "run");
        g_autofree char *done = steps_of(catalog, id);

        ck_assert_str_eq(done, "db/grant=done ");
    }
    /* Who lost the race for an id may leave an empty lock file, which means nothing. */
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
        goes_on_after_a_kill_in_any_step, goes_on_after_a_kill_in_every_step_of_one_run,
        undoes_to_the_end_after_a_kill_while_undoing,
        stops_at_a_failure_and_repeats_that_step_later, undoes_what_was_begun_in_reverse_order,
        stops_between_steps_when_interrupted_but_undoes, runs_steps_of_several_subjects_at_once,
        leaves_an_executing_run_alone, finds_the_newest_interrupted_run_of_its_kind_and_title,
        resumes_with_the_same_plan_and_the_first_start,
        refuses_to_resume_what_has_ended_or_never_was, lists_runs_newest_first,
        gives_every_run_its_own_id_when_many_processes_begin,
        repeats_a_step_whose_end_the_full_disk_could_not_take);
}
