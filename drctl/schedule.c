/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/schedule.h"

#include <inttypes.h>
#include <string.h>

#include "drctl/jobs.h"
#include "drctl/output.h"

#define RETRY_FIRST_MS 10000
#define RETRY_MAX_MS (INT64_C(30) * 60 * 1000)
#define HOUSEKEEPING_MS 60000
#define METADATA_MS (INT64_C(5) * 60 * 1000)
/* Protections with the same objective are not all begun at the same instant. */
#define SPREAD_PART 10
/* Below that a process for each point costs more than the point. */
#define CONTINUOUS_MS 60000

struct making {
    struct context *context;
    GPtrArray *schedule;
    GPtrArray *problems;
    int64_t now_ms;
};

static void scheduled_free(void *data)
{
    struct scheduled *job = data;

    g_free(job->key);
    g_strfreev(job->words);
    g_free(job->link);
    g_strfreev(job->hosts);
    task_record_clear(&job->last);
    g_free(job);
}

/* --- when ------------------------------------------------------------------------------------ */

/* Twice as long after each failure, but often enough to keep an objective of EVERY_MS when it is mended. */
static int64_t retry_ms(unsigned failures, int64_t every_ms)
{
    int64_t wait_ms = (int64_t)RETRY_FIRST_MS << MIN(failures - 1, 10);

    return MIN(wait_ms, CLAMP(every_ms / 4, RETRY_FIRST_MS, RETRY_MAX_MS));
}

static int64_t spread_ms(const char *key, int64_t every_ms)
{
    return (int64_t)(g_str_hash(key) % (guint)MAX(every_ms / SPREAD_PART, 1));
}

/* JOB would be due at DUE_MS for WHY, if nothing had gone wrong; EVERY_MS: how often, about. */
static void set_due(struct scheduled *job, int64_t due_ms, const char *why, int64_t every_ms)
{
    const struct task_record *last = &job->last;

    job->due_ms = due_ms;
    job->why = why;
    if (job->runs || !last->started_ms)
        return;
    if (!last->ended_ms) {
        job->due_ms = 0;
        job->why = "missed";
    } else if (last->failures > 0 && due_ms != INT64_MAX) {
        job->due_ms = last->ended_ms + retry_ms(last->failures, every_ms);
        job->why = "retry";
    }
}

static void set_calendar(struct scheduled *job, const struct calendar *at)
{
    const struct task_record *last = &job->last;
    int64_t from_ms = last->started_ms ? last->started_ms : last->known_ms;

    set_due(job, calendar_next(at, from_ms), "at", RETRY_MAX_MS * 4);
}

/* --- protections ----------------------------------------------------------------------------- */

/* What the last points of a protection tell. */
struct newest {
    const struct protection *protection;
    int64_t due_ms;    /* when the first of its VMs needs the next point */
    GHashTable *vms;   /* names of what it covers */
    GHashTable *seen;  /* those of them that have a record */
    GHashTable *hosts; /* URIs */
};

int64_t rpo_slowest_ms(const json_t *record)
{
    double seconds = 0;
    const json_t *took;
    size_t i;

    json_array_foreach(json_object_get(record, "took"), i, took) seconds =
        MAX(seconds, json_number_value(took));
    return (int64_t)(seconds * 1000);
}

static bool look_at_record(const char *key, json_t *record, void *data)
{
    struct newest *newest = data;
    const char *vm = json_get_string(record, "vm"), *time = json_get_string(record, "time");
    const char *host = json_get_string(record, "host");
    struct rpo rpo = {.target_ms = newest->protection->rpo_ms, .took_ms = rpo_slowest_ms(record)};

    if (!vm || !g_hash_table_contains(newest->vms, vm) ||
        g_strcmp0(json_get_string(record, "protection"), newest->protection->name) != 0 ||
        g_strcmp0(json_get_string(record, "destination"), newest->protection->destination) != 0)
        return true;
    if (time)
        time_parse(time, &rpo.newest_ms, NULL);
    if (host)
        g_hash_table_add(newest->hosts, g_strdup(host));
    g_hash_table_add(newest->seen, g_strdup(vm));
    newest->due_ms = MIN(newest->due_ms, rpo_next_ms(&rpo));
    return true;
}

static GHashTable *names_of(const GPtrArray *vms)
{
    GHashTable *names = g_hash_table_new(g_str_hash, g_str_equal);

    for (unsigned i = 0; i < vms->len; i++)
        g_hash_table_add(names, ((struct protected_vm *)vms->pdata[i])->vm);
    return names;
}

/* g_strfreev */
static char **names_in(GHashTable *set)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    GHashTableIter iter;
    void *name;

    g_hash_table_iter_init(&iter, set);
    while (g_hash_table_iter_next(&iter, &name, NULL))
        g_strv_builder_add(builder, name);
    return g_strv_builder_end(builder);
}

/* When its objective makes JOB due, and where its VMs are. No host is asked: what patterns have come to mean since
 * the last point, and where VMs have gone, is seen when the next one is taken. */
static bool look_at_points(struct making *making, const struct protection *protection,
                           struct scheduled *job, int64_t *due_ms, GError **error)
{
    char *name[] = {protection->name, NULL};
    g_autoptr(GPtrArray) vms = recorded_vms(making->context, name, error);
    g_autoptr(GHashTable) names = vms ? names_of(vms) : NULL;
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GHashTable) hosts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    struct newest newest = {
        .protection = protection, .due_ms = INT64_MAX, .vms = names, .seen = seen, .hosts = hosts};

    if (!vms || !catalog_each(making->context->catalog, CATALOG_REPLICATION, "", look_at_record,
                              &newest, error))
        return false;
    if (g_hash_table_size(seen) < vms->len || vms->len == 0)
        newest.due_ms = 0;
    *due_ms = newest.due_ms;
    job->hosts = names_in(hosts);
    return true;
}

static struct scheduled *add(struct making *making, char *key, const char *const *words,
                             GError **error)
{
    struct scheduled *job = g_new0(struct scheduled, 1);

    job->key = key;
    job->words = g_strdupv((char **)words);
    job->due_ms = INT64_MAX;
    job->why = "";
    g_ptr_array_add(making->schedule, job);
    if (!task_know(making->context->catalog, key, error) ||
        !task_load(making->context->catalog, key, &job->last, error))
        return NULL;
    /* If the clock was set back since, that was now. */
    job->last.started_ms = MIN(job->last.started_ms, making->now_ms);
    job->last.ended_ms = MIN(job->last.ended_ms, making->now_ms);
    job->runs = task_runs(making->context->catalog, key);
    return job;
}

static bool add_protection(struct making *making, const struct protection *protection,
                           GError **error)
{
    bool continuous = protection->rpo_ms && protection->rpo_ms < CONTINUOUS_MS && !protection->at;
    const char *const words[] = {"replicate", protection->name, continuous ? "--continuous" : NULL,
                                 NULL};
    struct scheduled *job =
        add(making, g_strconcat("replicate/", protection->name, NULL), words, error);
    g_autoptr(GError) problem = NULL;
    int64_t due_ms;

    if (!job)
        return false;
    job->continuous = continuous;
    if (!g_str_equal(protection->destination, "local"))
        job->link = g_strdup(protection->destination);
    if (protection->at)
        set_calendar(job, protection->at);
    else if (continuous)
        set_due(job, 0, "rpo", protection->rpo_ms);
    if (look_at_points(making, protection, job, &due_ms, &problem) && !protection->at &&
        !continuous) {
        /* More than its objective away is what was taken before the clock was set back. */
        if (due_ms != INT64_MAX && due_ms > making->now_ms + protection->rpo_ms)
            due_ms = 0;
        if (due_ms != INT64_MAX)
            due_ms -= spread_ms(job->key, protection->rpo_ms);
        set_due(job, due_ms, "rpo", protection->rpo_ms);
    }
    if (problem)
        g_ptr_array_add(making->problems, g_strdup(problem->message));
    return true;
}

static bool add_protections(struct making *making, GError **error)
{
    const GPtrArray *protections = making->context->config->protections;

    for (unsigned i = 0; i < protections->len; i++) {
        const struct protection *protection = protections->pdata[i];

        if ((protection->rpo_ms || protection->at) && !add_protection(making, protection, error))
            return false;
    }
    return true;
}

/* --- the store ------------------------------------------------------------------------------- */

static struct scheduled *add_verify_job(struct making *making, GError **error)
{
    const struct config *config = making->context->config;
    g_autofree char *cycle = config->verify_cycle_ms
                                 ? g_strdup_printf("%" PRId64 "s", config->verify_cycle_ms / 1000)
                                 : NULL;
    const char *const words[] = {"verify", cycle ? "--cycle" : NULL, cycle, NULL};
    struct scheduled *job = add(making, g_strdup("verify"), words, error);

    if (job)
        job->of_store = true;
    return job;
}

static bool add_verify(struct making *making, GError **error)
{
    const struct calendar *at = making->context->config->verify_at;
    struct scheduled *job = at ? add_verify_job(making, error) : NULL;

    if (job)
        set_calendar(job, at);
    return job || !at;
}

static bool add_prune(struct making *making, GError **error)
{
    static const char *const words[] = {"prune", NULL};
    const struct config *config = making->context->config;
    struct scheduled *job = config->prune_at ? add(making, g_strdup("prune"), words, error) : NULL;

    if (job) {
        job->of_store = true;
        set_calendar(job, config->prune_at);
    }
    return job || !config->prune_at;
}

static bool add_copy(struct making *making, const struct copy_rule *rule, GError **error)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    bool is_local = g_str_equal(rule->from, "local") || g_str_equal(rule->to, "local");
    g_autofree char *keep = retention_text(&rule->keep);
    g_auto(GStrv) words = NULL;
    struct scheduled *job;

    g_strv_builder_add_many(builder, "copy", "--from", rule->from, "--to", rule->to, NULL);
    if (*keep)
        g_strv_builder_add_many(builder, "--keep", keep, NULL);
    if (rule->vms)
        g_strv_builder_addv(builder, (const char **)rule->vms);
    words = g_strv_builder_end(builder);
    job = add(making, g_strconcat("copy/", rule->name, NULL), (const char *const *)words, error);
    if (!job)
        return false;
    job->link = g_strdup(g_str_equal(rule->to, "local") ? rule->from : rule->to);
    job->of_store = is_local;
    set_calendar(job, rule->at);
    return true;
}

static bool add_copies(struct making *making, GError **error)
{
    const GPtrArray *copies = making->context->config->copies;

    for (unsigned i = 0; i < copies->len; i++)
        if (!add_copy(making, copies->pdata[i], error))
            return false;
    return true;
}

/* Failovers whose time to be taken back is over, disks that are still copied off their points. */
static bool add_housekeeping(struct making *making, GError **error)
{
    static const char *const words[] = {"run", "due", NULL};
    struct scheduled *job = add(making, g_strdup(SCHEDULE_HOUSEKEEPING), words, error);

    if (job)
        set_due(job, job->last.started_ms + HOUSEKEEPING_MS, "due", HOUSEKEEPING_MS);
    return job != NULL;
}

/* Also of a site that only waits for the others: its plans must be known elsewhere, too. */
static bool add_metadata(struct making *making, GError **error)
{
    static const char *const words[] = {"metadata", "send", NULL};
    bool wanted = making->context->config->remotes->len > 0;
    struct scheduled *job = wanted ? add(making, g_strdup(SCHEDULE_METADATA), words, error) : NULL;

    if (job)
        set_due(job, job->last.started_ms + METADATA_MS, "due", METADATA_MS);
    return job || !wanted;
}

static bool add_watch(struct making *making, GError **error)
{
    static const char *const words[] = {"alert", "send", NULL};
    const struct config *config = making->context->config;
    bool wanted = config->metrics || config->alerts->len > 0;
    struct scheduled *job = wanted ? add(making, g_strdup("alert"), words, error) : NULL;

    if (job)
        set_due(job, job->last.started_ms + HOUSEKEEPING_MS, "due", HOUSEKEEPING_MS);
    return job || !wanted;
}

/* --- tests ----------------------------------------------------------------------------------- */

static struct scheduled *add_test_job(struct making *making, const char *plan, GError **error)
{
    const char *const words[] = {"failover", plan, "--test", NULL};

    return add(making, g_strconcat("test/", plan, NULL), words, error);
}

static bool add_test(struct making *making, const struct recovery_plan *plan, const json_t *runs,
                     GError **error)
{
    struct scheduled *job = add_test_job(making, plan->name, error);
    AUTO_TEST_RECORD last;

    if (!job)
        return false;
    test_find_last(runs, plan->name, &last);
    set_due(job, test_due_ms(plan, &last), "due", plan->test_every_ms);
    /* A test that has failed is a result, too: it is told, and not repeated until it is due. */
    if (job->last.ended_ms && last.run)
        job->due_ms = MAX(job->due_ms, test_due_ms(plan, &last));
    return true;
}

static bool add_tests(struct making *making, GError **error)
{
    struct context *context = making->context;
    g_autoptr(GError) problem = NULL;
    g_autoptr(GPtrArray) plans = recovery_plan_load_all(context->config->dir, &problem);
    json_auto_t *runs = NULL;

    if (!plans)
        g_ptr_array_add(making->problems, g_strdup(problem->message));
    for (unsigned i = 0; plans && i < plans->len; i++) {
        const struct recovery_plan *plan = plans->pdata[i];

        if (!plan->test_every_ms)
            continue;
        /* All that was ever run here: not without need. */
        if (!runs && !(runs = run_list(context->catalog, error)))
            return false;
        if (!add_test(making, plan, runs, error))
            return false;
    }
    return true;
}

/* --- all ------------------------------------------------------------------------------------- */

static int compare_due(const void *a, const void *b)
{
    const struct scheduled *left = *(void *const *)a, *right = *(void *const *)b;

    return (left->due_ms > right->due_ms) - (left->due_ms < right->due_ms);
}

GPtrArray *schedule_make(struct context *context, GPtrArray **problems, GError **error)
{
    g_autoptr(GPtrArray) schedule = g_ptr_array_new_with_free_func(scheduled_free);
    struct making making = {.context = context,
                            .schedule = schedule,
                            .problems = g_ptr_array_new_with_free_func(g_free),
                            .now_ms = time_now_ms()};

    *problems = making.problems;
    if (!context_catalog(context, error) || !add_protections(&making, error) ||
        !add_verify(&making, error) || !add_prune(&making, error) || !add_copies(&making, error) ||
        !add_housekeeping(&making, error) || !add_watch(&making, error) ||
        !add_metadata(&making, error) || !add_tests(&making, error))
        return NULL;
    g_ptr_array_sort(schedule, compare_due);
    return g_steal_pointer(&schedule);
}

/* --- what is asked for ------------------------------------------------------------------------- */

static bool has_plan(struct context *context, const char *name, GError **error)
{
    g_autoptr(GPtrArray) plans = recovery_plan_load_all(context->config->dir, error);

    for (unsigned i = 0; plans && i < plans->len; i++)
        if (g_str_equal(((struct recovery_plan *)plans->pdata[i])->name, name))
            return true;
    return plans && fail(error, ERROR_NOT_FOUND, "there is no recovery plan %s", name);
}

/* One that is not in the schedule, because nothing says when it is due. */
static bool add_asked(struct making *making, const char *key, GError **error)
{
    static const char replicate[] = "replicate/", test[] = "test/";
    struct context *context = making->context;
    const struct protection *protection;

    if (g_str_equal(key, "verify"))
        return add_verify_job(making, error) != NULL;
    if (g_str_has_prefix(key, test))
        return has_plan(context, key + strlen(test), error) &&
               add_test_job(making, key + strlen(test), error);
    if (!g_str_has_prefix(key, replicate))
        return fail(error, ERROR_NOT_FOUND, "nobody may ask for the job %s", key);
    protection = config_protection(context->config, key + strlen(replicate), error);
    return protection && add_protection(making, protection, error);
}

static struct scheduled *find_job(const GPtrArray *schedule, const char *key)
{
    for (unsigned i = 0; i < schedule->len; i++)
        if (g_str_equal(((struct scheduled *)schedule->pdata[i])->key, key))
            return schedule->pdata[i];
    return NULL;
}

const struct scheduled *schedule_ask(struct context *context, GPtrArray *schedule, const char *key,
                                     GError **error)
{
    g_autoptr(GPtrArray) problems = g_ptr_array_new_with_free_func(g_free);
    struct making making = {context, schedule, problems, time_now_ms()};
    struct scheduled *job = find_job(schedule, key);

    if (!job && add_asked(&making, key, error))
        job = find_job(schedule, key);
    if (!job)
        return NULL;
    job->due_ms = 0;
    job->why = "asked";
    g_ptr_array_sort(schedule, compare_due);
    return job;
}

char *schedule_lock_path(struct context *context)
{
    return g_build_filename(catalog_lock_dir(context->catalog), "daemon.lock", NULL);
}

bool schedule_is_kept(struct context *context)
{
    g_autofree char *path = schedule_lock_path(context);

    return file_lock_held(path);
}

json_t *schedule_json(const GPtrArray *schedule)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < schedule->len; i++) {
        const struct scheduled *job = schedule->pdata[i];
        g_autofree char *command = shell_line(job->words);
        json_t *json = json_object();

        json_set_string(json, "job", job->key);
        json_set_string(json, "command", command);
        json_set_time(json, "due",
                      job->due_ms == INT64_MAX ? 0 : MAX(job->due_ms, job->last.ended_ms));
        json_set_string(json, "why", job->why);
        json_object_set_new(json, "running", json_boolean(job->runs));
        json_set_time(json, "started", job->last.started_ms);
        json_set_time(json, "ended", job->last.ended_ms);
        json_object_set_new(json, "status", json_integer(job->last.status));
        json_set_u64(json, "failures", job->last.failures);
        json_set_string(json, "error", job->last.error);
        json_array_append_new(list, json);
    }
    return list;
}
