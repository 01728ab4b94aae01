/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/metrics.h"

#include <inttypes.h>
#include <string.h>

#include "drctl/schedule.h"

#define PREFIX "drctl_"

/* One figure of several VMs: KEY of its JSON, or what VALUE makes of it. */
struct metric {
    const char *name, *help, *key;
    double (*value)(const json_t *vm); /* or NULL */
};

static void append_head(GString *text, const char *name, const char *help)
{
    g_string_append_printf(text, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s %s\n", name, help,
                           name, g_str_has_suffix(name, "_total") ? "counter" : "gauge");
}

/* Names of VMs come from other sites, too, and may have anything in them, of jobs not. */
static void append_label(GString *text, const char *name, const char *value)
{
    g_string_append_printf(text, "%s%s=\"", text->str[text->len - 1] == '{' ? "" : ",", name);
    for (const char *c = value ? value : ""; *c; c++) {
        if (*c == '"' || *c == '\\' || *c == '\n')
            g_string_append_c(text, '\\');
        g_string_append_c(text, *c == '\n' ? 'n' : *c);
    }
    g_string_append_c(text, '"');
}

/* By the locale "C", whatever the user's is. */
static void append_value(GString *text, double value)
{
    char number[G_ASCII_DTOSTR_BUF_SIZE];

    g_string_append_printf(text, " %s\n", g_ascii_formatd(number, sizeof(number), "%.15g", value));
}

/* --- of VMs ----------------------------------------------------------------------------------- */

static double rpo_state_number(const json_t *vm)
{
    const char *state = json_get_string(vm, "rpo_state");

    for (enum rpo_state i = RPO_OK; state && i <= RPO_VIOLATED; i++)
        if (g_str_equal(state, rpo_state_name(i)))
            return i;
    return -1;
}

static double point_failed(const json_t *vm)
{
    return json_get_string(vm, "error") != NULL;
}

static double is_unusual(const json_t *vm)
{
    return json_is_object(json_object_get(vm, "unusual_change"));
}

static double age_of(const json_t *vm, const char *key)
{
    const char *time = json_get_string(vm, key);
    int64_t ms;

    return time && time_parse(time, &ms, NULL) ? (double)(time_now_ms() - ms) / 1000 : -1;
}

static double tested_age(const json_t *vm)
{
    return age_of(vm, "tested");
}

static double is_proven(const json_t *vm)
{
    return json_get_string(vm, "proven") != NULL;
}

/* What is not known is not there. */
static bool value_of(const struct metric *metric, const json_t *vm, double *value)
{
    const json_t *member = metric->key ? json_object_get(vm, metric->key) : NULL;

    *value = metric->value ? metric->value(vm) : json_number_value(member);
    return metric->value ? *value >= 0 : json_is_number(member);
}

/* LABELS, which end with NULL, are keys of the JSON that tell one VM from all others: collectors refuse the whole file for
 * a figure that is there twice. */
static void append_metric(GString *text, const struct metric *metric, const json_t *list,
                          const char *const *labels)
{
    const json_t *vm;
    size_t i;

    if (json_array_size(list) > 0)
        append_head(text, metric->name, metric->help);
    json_array_foreach(list, i, vm)
    {
        double value;

        if (!value_of(metric, vm, &value))
            continue;
        g_string_append_printf(text, PREFIX "%s{", metric->name);
        for (const char *const *label = labels; *label; label++)
            append_label(text, *label, json_get_string(vm, *label));
        g_string_append_c(text, '}');
        append_value(text, value);
    }
}

static void append_vms(GString *text, const struct status *status)
{
    static const struct metric protected[] = {
        {"rpo_target_seconds", "How old the newest point may be", "rpo_seconds", NULL},
        {"rpo_state", "0 ok, 1 at risk, 2 violated", NULL, rpo_state_number},
        {"point_age_seconds", "How old what the newest point shows is", "age_seconds", NULL},
        {"point_failed", "1: the last attempt to take a point failed", NULL, point_failed},
        {"lag_bytes", "Written since the newest point", "lag_bytes", NULL},
        {"point_duration_seconds", "What the newest point took", "took_seconds", NULL},
        {"rpo_violations_total", "Points that came later than the objective", "violations", NULL},
        {"change_bytes_per_hour", "Changed in an hour, by the newest points",
         "change_bytes_per_hour", NULL},
        {"change_unusual", "1: within a day it was several times as much as ever before", NULL,
         is_unusual},
    };
    static const struct metric received[] = {
        {"received_point_age_seconds", "The same, of points of other sites here", "age_seconds",
         NULL},
        {"received_points", "How many there are", "points", NULL},
        {"received_stored_bytes", "What they take", "stored_bytes", NULL},
        {"received_damaged_points", "How many of them are damaged", "damaged", NULL},
        {"test_age_seconds", "Since the last test failover with a point of the VM", NULL,
         tested_age},
        {"test_rto_seconds", "What that took until the VM was ready", "rto_seconds", NULL},
        {"proven", "1: there is a point that a test failover passed with", NULL, is_proven},
    };

    static const char *const by_destination[] = {"vm", "destination", NULL};
    /* One that was made anew has the name of the old one, whose points are still here. */
    static const char *const by_uuid[] = {"vm", "site", "uuid", NULL};

    for (unsigned i = 0; i < G_N_ELEMENTS(protected); i++)
        append_metric(text, &protected[i], json_object_get(status->json, "protected"),
                      by_destination);
    for (unsigned i = 0; i < G_N_ELEMENTS(received); i++)
        append_metric(text, &received[i], json_object_get(status->json, "received"), by_uuid);
}

/* --- of the site ------------------------------------------------------------------------------ */

static void append_plain(GString *text, const char *name, const char *help, double value)
{
    append_head(text, name, help);
    g_string_append_printf(text, PREFIX "%s", name);
    append_value(text, value);
}

static void append_space(GString *text, const json_t *store)
{
    const json_t *days = json_object_get(store, "days_left");

    append_plain(text, "store_free_bytes", "Free in the file system of the store",
                 json_number_value(json_object_get(store, "free_bytes")));
    append_plain(text, "store_total_bytes", "The size of that file system",
                 json_number_value(json_object_get(store, "total_bytes")));
    if (json_is_number(days))
        append_plain(text, "store_days_left", "Until it is full, if it goes on as in the last week",
                     json_number_value(days));
}

static void append_problems(GString *text, const GPtrArray *problems)
{
    append_head(text, "problems", "What drctl status tells that is wrong");
    for (enum problem_severity severity = PROBLEM_WARNING; severity <= PROBLEM_CRITICAL;
         severity++) {
        unsigned count = 0;

        for (unsigned i = 0; i < problems->len; i++)
            count += ((struct problem *)problems->pdata[i])->severity == severity;
        g_string_append_printf(text, PREFIX "problems{severity=\"%s\"} %u\n",
                               problem_severity_name(severity), count);
    }
}

static void append_jobs(GString *text, const GPtrArray *schedule)
{
    append_head(text, "job_failures", "How often a job has failed since it has succeeded");
    for (unsigned i = 0; i < schedule->len; i++) {
        const struct scheduled *job = schedule->pdata[i];

        g_string_append_printf(text, PREFIX "job_failures{job=\"%s\"} %u\n", job->key,
                               job->last.failures);
    }
    append_head(text, "job_started_timestamp_seconds", "When a job was begun last");
    for (unsigned i = 0; i < schedule->len; i++) {
        const struct scheduled *job = schedule->pdata[i];

        if (job->last.started_ms)
            g_string_append_printf(text,
                                   PREFIX "job_started_timestamp_seconds{job=\"%s\"} %" PRId64 "\n",
                                   job->key, job->last.started_ms / 1000);
    }
    append_head(text, "job_duration_seconds", "What a job took that has ended");
    for (unsigned i = 0; i < schedule->len; i++) {
        const struct scheduled *job = schedule->pdata[i];

        if (job->last.ended_ms < job->last.started_ms || !job->last.ended_ms)
            continue;
        g_string_append_printf(text, PREFIX "job_duration_seconds{job=\"%s\"}", job->key);
        append_value(text, (double)(job->last.ended_ms - job->last.started_ms) / 1000);
    }
}

char *metrics_text(struct context *context, const struct status *status, const GPtrArray *problems)
{
    const json_t *unprotected = json_object_get(status->json, "unprotected");
    GString *text = g_string_new(NULL);

    append_vms(text, status);
    append_space(text, json_object_get(status->json, "store"));
    if (json_is_array(unprotected))
        append_plain(text, "unprotected_vms", "VMs of this site that no protection covers",
                     (double)json_array_size(unprotected));
    append_problems(text, problems);
    append_jobs(text, status->schedule);
    /* Whoever reads a file must see when nobody writes it any more. */
    append_plain(text, "metrics_timestamp_seconds", "When these figures were taken",
                 (double)(time_now_ms() / 1000));
    append_plain(text, "daemon_running", "1: drctl daemon runs", schedule_is_kept(context));
    return g_string_free(text, FALSE);
}
