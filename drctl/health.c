/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/health.h"

#include <string.h>

#include "drctl/jobs.h"
#include "drctl/output.h"
#include "drctl/schedule.h"
#include "drctl/service.h"

/* Of the store's file system. */
#define SPACE_WARNING_PART 10
#define SPACE_CRITICAL_PART 20
#define DAYS_WARNING 14
#define DAYS_CRITICAL 3
/* So often a job may fail before what it is for is in danger. */
#define JOB_FAILURES_CRITICAL 3

struct survey {
    struct context *context;
    GPtrArray *problems;
};

const char *problem_severity_name(enum problem_severity severity)
{
    return severity == PROBLEM_CRITICAL ? "critical" : "warning";
}

static void problem_free(void *data)
{
    struct problem *problem = data;

    g_free(problem->key);
    g_free(problem->subject);
    g_free(problem->text);
    g_free(problem->remedy);
    g_free(problem);
}

/* Takes the strings. */
static void add(const struct survey *survey, enum problem_severity severity, char *key,
                char *subject, char *text, char *remedy)
{
    struct problem *problem = g_new0(struct problem, 1);

    *problem = (struct problem){key, severity, subject, text, remedy};
    g_ptr_array_add(survey->problems, problem);
}

/* --- what is protected here ------------------------------------------------------------------- */

static char *key_of(const char *kind, const json_t *vm)
{
    const char *uuid = json_get_string(vm, "uuid"), *to = json_get_string(vm, "destination");

    return g_strconcat(kind, "/", uuid ? uuid : json_get_string(vm, "vm"), to ? "/" : NULL, to,
                       NULL);
}

static char *subject_of(const json_t *vm)
{
    return g_strdup_printf("VM %s", json_get_string(vm, "vm"));
}

static void look_at_rpo(const struct survey *survey, const json_t *vm)
{
    const char *state = json_get_string(vm, "rpo_state");
    const json_t *age = json_object_get(vm, "age_seconds");
    g_autofree char *old = duration_format(json_number_value(age));
    g_autofree char *target =
        duration_format(json_number_value(json_object_get(vm, "rpo_seconds")));
    bool violated = g_strcmp0(state, rpo_state_name(RPO_VIOLATED)) == 0;

    if (!state || g_strcmp0(state, rpo_state_name(RPO_OK)) == 0)
        return;
    add(survey, violated ? PROBLEM_CRITICAL : PROBLEM_WARNING, key_of("rpo", vm), subject_of(vm),
        !json_is_number(age) ? g_strdup("there is no point of it yet")
        : violated ? g_strdup_printf("its newest point is %s old, more than %s", old, target)
                   : g_strdup_printf("its points take too long to keep %s, or the next one is late",
                                     target),
        g_strdup_printf("drctl schedule tells what is at work; drctl replicate %s takes one now",
                        json_get_string(vm, "protection")));
}

/* Files that somebody encrypts are all changed at once. */
static void look_at_change(const struct survey *survey, const json_t *vm)
{
    const json_t *unusual = json_object_get(vm, "unusual_change");
    g_autofree char *bytes = NULL, *busiest = NULL, *when = time_text(unusual, "time");

    if (!when)
        return;
    bytes = bytes_format((uint64_t)json_number_value(json_object_get(unusual, "bytes_per_hour")));
    busiest = bytes_format(
        (uint64_t)json_number_value(json_object_get(unusual, "busiest_bytes_per_hour")));
    add(survey, PROBLEM_WARNING, key_of("change", vm), subject_of(vm),
        g_strdup_printf("%s of it changed in an hour until %s, and never more than %s in a month "
                        "before: is somebody encrypting its files?",
                        bytes, when, busiest),
        g_strdup_printf("look at the VM; drctl points %s lists the points from before, and drctl "
                        "failover and restore take one of them with --point",
                        json_get_string(vm, "vm")));
}

static void look_at_protected(const struct survey *survey, const json_t *vm)
{
    const char *error = json_get_string(vm, "error"), *problem = json_get_string(vm, "problem");

    look_at_rpo(survey, vm);
    look_at_change(survey, vm);
    if (problem)
        add(survey, PROBLEM_CRITICAL, key_of("owner", vm), subject_of(vm), g_strdup(problem), NULL);
    else if (error)
        add(survey, PROBLEM_WARNING, key_of("point", vm), subject_of(vm),
            g_strdup_printf("its last point failed: %s", error), NULL);
}

/* Whoever wrote it counts on it. */
static void look_at_empty(const struct survey *survey, const json_t *name)
{
    const struct config *config = survey->context->config;
    const struct protection *protection = config_protection(config, json_string_value(name), NULL);

    add(survey, PROBLEM_CRITICAL, g_strconcat("empty/", protection->name, NULL),
        g_strdup_printf("protection %s", protection->name), empty_text(protection),
        g_strdup_printf("virsh list --all shows which VMs there are; change vms or exclude in %s",
                        config->path));
}

/* --- what is held for others ------------------------------------------------------------------ */

static void look_at_received(const struct survey *survey, const json_t *vm)
{
    json_int_t damaged = json_integer_value(json_object_get(vm, "damaged"));
    json_int_t based = json_integer_value(json_object_get(vm, "base_damaged"));
    const char *whole = json_get_string(vm, "whole_point"),
               *problem = json_get_string(vm, "problem");
    const char *remedy = json_get_string(vm, "remedy");

    if (damaged + based > 0)
        add(survey, PROBLEM_CRITICAL, key_of("damage", vm), subject_of(vm),
            g_strdup_printf("%lld of its points are damaged%s%s", (long long)(damaged + based),
                            whole ? ", the newest whole one is " : ", none is whole",
                            whole ? whole : ""),
            remedy ? g_strdup(remedy)
                   : g_strdup_printf("drctl heal %s", json_get_string(vm, "vm")));
    if (problem)
        add(survey, PROBLEM_CRITICAL, key_of("owner", vm), subject_of(vm), g_strdup(problem), NULL);
}

static void look_at_each(const struct survey *survey, const json_t *list,
                         void (*look)(const struct survey *survey, const json_t *entry))
{
    const json_t *entry;
    size_t i;

    json_array_foreach(list, i, entry) look(survey, entry);
}

/* --- jobs, tests, space ----------------------------------------------------------------------- */

static void look_at_job(const struct survey *survey, const struct scheduled *job)
{
    const struct task_record *last = &job->last;
    g_autofree char *command = shell_line(job->words);

    /* What became of single VMs is told with them, and what became of tests with their plans. */
    if (last->failures == 0 || g_str_has_prefix(job->key, "test/"))
        return;
    add(survey, last->failures >= JOB_FAILURES_CRITICAL ? PROBLEM_CRITICAL : PROBLEM_WARNING,
        g_strconcat("job/", job->key, NULL), g_strdup_printf("job %s", job->key),
        g_strdup_printf("failed %u times, last: %s", last->failures,
                        last->error ? last->error : "?"),
        g_strdup_printf("drctl %s tells more; it is tried again by itself", command));
}

static void look_at_jobs(const struct survey *survey, const struct status *status)
{
    bool wanted = false;

    for (unsigned i = 0; i < status->schedule->len; i++) {
        const struct scheduled *job = status->schedule->pdata[i];

        look_at_job(survey, job);
        /* Without a schedule of its own a site needs no daemon. */
        wanted |= !g_str_equal(job->key, SCHEDULE_HOUSEKEEPING) &&
                  !g_str_equal(job->key, SCHEDULE_METADATA);
    }
    for (unsigned i = 0; i < status->wrong->len; i++) {
        /* Keys of the catalog are short, and errors are not. */
        g_autofree char *digest =
            g_compute_checksum_for_string(G_CHECKSUM_SHA256, status->wrong->pdata[i], -1);

        add(survey, PROBLEM_CRITICAL, g_strconcat("config/", digest, NULL),
            g_strdup("the configuration"), g_strdup(status->wrong->pdata[i]), NULL);
    }
    if (wanted && !schedule_is_kept(survey->context))
        add(survey, PROBLEM_CRITICAL, g_strdup("daemon"), g_strdup("the daemon"),
            g_strdup("does not run, so nothing is done by itself"),
            g_strdup(service_remedy(survey->context->config_dir)));
}

static void look_at_plan(const struct survey *survey, const struct recovery_plan *plan,
                         const json_t *runs)
{
    AUTO_TEST_RECORD last;
    g_autofree char *subject = g_strdup_printf("plan %s", plan->name);

    test_find_last(runs, plan->name, &last);
    if (last.run && last.verdict == PROOF_FAILED)
        add(survey, PROBLEM_CRITICAL, g_strconcat("test/", plan->name, NULL), g_strdup(subject),
            g_strdup("its last test failover failed"),
            g_strdup_printf("drctl run show %s tells why", last.run));
    if (test_due_ms(plan, &last) <= time_now_ms())
        add(survey, PROBLEM_WARNING, g_strconcat("untested/", plan->name, NULL), g_strdup(subject),
            g_strdup("its test is overdue"),
            g_strdup_printf("drctl failover %s --test", plan->name));
}

static bool look_at_plans(const struct survey *survey, GError **error)
{
    struct context *context = survey->context;
    g_autoptr(GPtrArray) plans = recovery_plan_load_all(context->config->dir, NULL);
    json_auto_t *runs = run_list(context->catalog, error);

    /* A plan that is wrong was told with the jobs. */
    for (unsigned i = 0; runs && plans && i < plans->len; i++)
        look_at_plan(survey, plans->pdata[i], runs);
    return runs != NULL;
}

static void look_at_windows(const struct survey *survey, const GPtrArray *windows)
{
    for (unsigned i = 0; i < windows->len; i++) {
        const struct window *window = windows->pdata[i];

        if (window_is_due(window))
            add(survey, PROBLEM_WARNING, g_strconcat("window/", window->run, NULL),
                g_strdup_printf("the failover of %s", window->name),
                g_strdup("its time to be taken back is over, and nobody has ended it"),
                g_strdup("drctl run due"));
    }
}

static void look_at_space(const struct survey *survey, const json_t *store)
{
    json_int_t free_bytes = json_integer_value(json_object_get(store, "free_bytes"));
    json_int_t total_bytes = json_integer_value(json_object_get(store, "total_bytes"));
    const json_t *days_left = json_object_get(store, "days_left");
    double days = json_is_number(days_left) ? json_number_value(days_left) : G_MAXDOUBLE;
    g_autofree char *left = bytes_format((uint64_t)free_bytes);
    g_autofree char *all = bytes_format((uint64_t)total_bytes);
    g_autofree char *until =
        days < G_MAXDOUBLE
            ? g_strdup_printf(", which is enough for %.0f days if it goes on as in the last week",
                              days)
            : NULL;

    if (free_bytes >= total_bytes / SPACE_WARNING_PART && days >= DAYS_WARNING)
        return;
    add(survey,
        free_bytes < total_bytes / SPACE_CRITICAL_PART || days < DAYS_CRITICAL ? PROBLEM_CRITICAL
                                                                               : PROBLEM_WARNING,
        g_strdup("space"), g_strdup("the store"),
        g_strdup_printf("has %s of %s left in %s%s", left, all, survey->context->config->store,
                        until ? until : ""),
        g_strdup("drctl prune --dry-run tells what could go; keep in drctl.conf, what stays"));
}

/* --- all -------------------------------------------------------------------------------------- */

static int compare_worst(const void *a, const void *b)
{
    const struct problem *left = *(void *const *)a, *right = *(void *const *)b;

    return left->severity != right->severity ? (int)right->severity - (int)left->severity
                                             : strcmp(left->key, right->key);
}

GPtrArray *health_problems(struct context *context, const struct status *status, GError **error)
{
    g_autoptr(GPtrArray) problems = g_ptr_array_new_with_free_func(problem_free);
    struct survey survey = {context, problems};

    look_at_each(&survey, json_object_get(status->json, "protected"), look_at_protected);
    look_at_each(&survey, json_object_get(status->json, "empty"), look_at_empty);
    look_at_each(&survey, json_object_get(status->json, "received"), look_at_received);
    look_at_windows(&survey, status->windows);
    look_at_space(&survey, json_object_get(status->json, "store"));
    look_at_jobs(&survey, status);
    if (!look_at_plans(&survey, error))
        return NULL;
    g_ptr_array_sort(problems, compare_worst);
    return g_steal_pointer(&problems);
}

GPtrArray *health_unknown(const GError *why)
{
    GPtrArray *problems = g_ptr_array_new_with_free_func(problem_free);
    struct survey survey = {.problems = problems};

    add(&survey, PROBLEM_CRITICAL, g_strdup("unknown"), g_strdup("the site"),
        g_strdup_printf("how it is cannot be told: %s", why->message), NULL);
    return problems;
}

int health_worst(const GPtrArray *problems)
{
    return problems->len > 0 ? (int)((struct problem *)problems->pdata[0])->severity : 0;
}

char *health_line(const GPtrArray *problems)
{
    const struct problem *worst = problems->len > 0 ? problems->pdata[0] : NULL;
    GString *line = g_string_new(worst ? NULL : "nothing is wrong");

    if (worst)
        g_string_append_printf(line, "%s: %s", worst->subject, worst->text);
    if (problems->len > 1)
        g_string_append_printf(line, "; and %u more", problems->len - 1);
    return g_string_free(line, FALSE);
}

json_t *problems_json(const GPtrArray *problems)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < problems->len; i++) {
        const struct problem *problem = problems->pdata[i];
        json_t *json = json_object();

        json_set_string(json, "key", problem->key);
        json_set_string(json, "severity", problem_severity_name(problem->severity));
        json_set_string(json, "subject", problem->subject);
        json_set_string(json, "text", problem->text);
        json_set_string(json, "remedy", problem->remedy);
        json_array_append_new(list, json);
    }
    return list;
}
