/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/run-job.h"

#include <sys/wait.h>

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

static bool wait_for_interrupt(void *ready, GError **error)
{
    if (write(*(int *)ready, "x", 1) != 1)
        _exit(1);
    while (interrupt_check(error))
        g_usleep(1000);
    return false;
}

static bool never(void *context, GError **error)
{
    _exit(2);
}

/* In a child: a run that would never end; it finishes it if it is told to do so. */
static void execute_for_ever(const char *store, int ready, bool finish)
{
    static const struct step table[] = {{"wait", wait_for_interrupt, NULL}, {"never", never, NULL}};
    struct catalog *catalog = catalog_open(store, NULL);
    struct run *run = run_begin(catalog, "failover", "shop", NULL, NULL);
    const struct run_subject subject = {"db", table, 2};

    if (!run || !run_declare(run, &subject, 1, NULL) ||
        run_steps(run, "db", table, 2, &ready, NULL))
        _exit(1);
    if (finish)
        run_finish(run, RUN_CANCELLED, NULL, NULL);
    run_free(run);
    catalog_free(catalog);
    _exit(0);
}

static void check_cancel(bool finish, const char *state)
{
    g_autofree char *store = unit_dir(), *steps_after = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = NULL;
    json_auto_t *list = NULL;
    int ready[2], status;
    const char *id;
    pid_t child;
    char byte;

    ck_assert(pipe(ready) == 0);
    child = fork();
    if (child == 0)
        execute_for_ever(store, ready[1], finish);
    close(ready[1]);
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    catalog = open_catalog(store);
    list = run_list(catalog, &error);
    id = json_get_string(json_array_get(list, 0), "run");
    unit_ok(run_cancel(catalog, id, &error), error);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_state(catalog, id, state);
    steps_after = steps_of(catalog, id);
    ck_assert_str_eq(steps_after, "db/wait=interrupted db/never=not-executed ");
    ck_assert(!run_cancel(catalog, id, &error));
    ck_assert_msg(error_is(error, ERROR_CONFLICT), "%s", error->message);
}

START_TEST(stops_a_run_of_another_process_before_its_next_step)
{
    check_cancel(false, "interrupted");
}
END_TEST

START_TEST(stops_a_run_that_ends_because_of_it)
{
    check_cancel(true, "cancelled");
}
END_TEST

START_TEST(a_wish_to_stop_dies_with_its_process)
{
    g_autofree char *store = unit_dir(), *id = NULL, *wish = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = open_catalog(store);
    AUTO(run) run = begin(catalog, "failover", "shop");

    id = g_strdup(run_id(run));
    run_free(g_steal_pointer(&run));
    wish = g_strdup_printf("%s/run-%s.cancel", catalog_lock_dir(catalog), id);
    unit_ok(file_write(wish, "", 0, 0600, &error), error);
    unit_fails(run_cancel(catalog, id, &error), error, ERROR_CONFLICT, "drctl run resume");
    run = resume(catalog, id);
    ck_assert(!g_file_test(wish, G_FILE_TEST_EXISTS));
    unit_ok(run_finish(run, RUN_DONE, NULL, &error), error);
    unit_ok(interrupt_check(&error), error);
    unit_fails(run_cancel(catalog, id, &error), error, ERROR_CONFLICT, "has ended (done)");
    unit_fails(run_cancel(catalog, "r-1", &error), error, ERROR_NOT_FOUND, "no run r-1");
    assert_no_lock_files(catalog);
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

int main(void)
{
    return UNIT_RUN(
        "run-kill", goes_on_after_a_kill_in_any_step, goes_on_after_a_kill_in_every_step_of_one_run,
        undoes_to_the_end_after_a_kill_while_undoing, leaves_an_executing_run_alone,
        stops_a_run_of_another_process_before_its_next_step, stops_a_run_that_ends_because_of_it,
        a_wish_to_stop_dies_with_its_process, gives_every_run_its_own_id_when_many_processes_begin);
}
