/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For the tests of runs: a job that leaves a trace of each of its steps, which can be told to fail
 * or to die in any of them, and short ways to ask the journal.
 */
#pragma once

#include "tests/unit.h"

#include <fcntl.h>
#include <signal.h>

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

G_GNUC_UNUSED static inline bool trace(const struct job *job, char letter, GError **error)
{
    g_autofree char *path = g_build_filename(job->dir, "trace", NULL);
    AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    return write(fd, &letter, 1) == 1 || fail_errno(error, errno, "cannot write %s", path);
}

G_GNUC_UNUSED static inline bool act(struct job *job, char letter, GError **error)
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

G_GNUC_UNUSED static inline void assert_traced(const struct job *job, const char *expected)
{
    g_autofree char *path = g_build_filename(job->dir, "trace", NULL), *text = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(file_read(path, 1000, &text, NULL, &error), error);
    ck_assert_str_eq(text, expected);
}

/* The files of which steps are there. */
G_GNUC_UNUSED static inline void assert_effects(const struct job *job, const char *expected)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) names = dir_list(job->dir, &error);
    g_autoptr(GString) found = g_string_new(NULL);

    for (char **name = names; *name; name++)
        if (strlen(*name) == 1)
            g_string_append(found, *name);
    ck_assert_str_eq(found->str, expected);
}

G_GNUC_UNUSED static inline struct catalog *open_catalog(const char *store)
{
    g_autoptr(GError) error = NULL;
    struct catalog *catalog = catalog_open(store, &error);

    unit_ok(catalog != NULL, error);
    return catalog;
}

G_GNUC_UNUSED static inline struct run *begin(struct catalog *catalog, const char *kind,
                                              const char *title)
{
    g_autoptr(GError) error = NULL;
    json_auto_t *plan = json_pack("{s:s}", "point", "20261120T221500.123Z");
    struct run *run = run_begin(catalog, kind, title, plan, &error);

    unit_ok(run != NULL, error);
    return run;
}

G_GNUC_UNUSED static inline struct run *resume(struct catalog *catalog, const char *id)
{
    g_autoptr(GError) error = NULL;
    struct run *run = run_resume(catalog, id, &error);

    unit_ok(run != NULL, error);
    return run;
}

G_GNUC_UNUSED static inline char *find(struct catalog *catalog, const char *kind, const char *title)
{
    g_autoptr(GError) error = NULL;
    char *id = NULL;

    unit_ok(run_find_interrupted(catalog, kind, title, &id, &error), error);
    return id;
}

G_GNUC_UNUSED static inline json_t *show(struct catalog *catalog, const char *id)
{
    g_autoptr(GError) error = NULL;
    json_t *shown = run_show(catalog, id, &error);

    unit_ok(shown != NULL, error);
    return shown;
}

/* All steps of a run as "subject/step=state ". */
G_GNUC_UNUSED static inline char *steps_of(struct catalog *catalog, const char *id)
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

G_GNUC_UNUSED static inline void assert_state(struct catalog *catalog, const char *id,
                                              const char *state)
{
    json_auto_t *shown = show(catalog, id);

    ck_assert_str_eq(json_get_string(shown, "state"), state);
}

G_GNUC_UNUSED static inline void assert_no_lock_files(struct catalog *catalog)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) names = dir_list(catalog_lock_dir(catalog), &error);

    unit_ok(names != NULL, error);
    ck_assert_ptr_null(names[0]);
}
