/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "drctl/deliver.h"
#include "drctl/metrics.h"
#include "drctl/output.h"

/* What was told of a problem: its record in CATALOG_ALERTS is {"since", "severity", "subject", "text", "told":
 * {<alert>: time}}. */
struct telling {
    struct context *context;
    const GPtrArray *problems; /* as they are now */
    bool blind;                /* nobody knows what of the rest is over */
    json_t *records;           /* as they were; key -> record */
    GError *failure;           /* the first one */
};

static struct problem *problem_of(const struct telling *telling, const char *key)
{
    for (unsigned i = 0; i < telling->problems->len; i++) {
        struct problem *problem = telling->problems->pdata[i];

        if (g_str_equal(problem->key, key))
            return problem;
    }
    return NULL;
}

static bool collect(const char *key, json_t *value, void *data)
{
    json_object_set(data, key, value);
    return true;
}

/* --- what an alert is told -------------------------------------------------------------------- */

static bool is_due(const struct alert *alert, const json_t *record, int64_t now_ms)
{
    const char *told = json_get_string(json_object_get(record, "told"), alert->name);
    int64_t ms;

    if (!told || !time_parse(told, &ms, NULL))
        return true;
    return alert->again_ms && now_ms - ms >= alert->again_ms;
}

static bool concerns(const struct alert *alert, const struct problem *problem)
{
    return alert->warnings || problem->severity == PROBLEM_CRITICAL;
}

/* The problems that ALERT has to hear of now, and the records of those that are over. */
static void sort_out(const struct telling *telling, const struct alert *alert, GPtrArray *news,
                     json_t *over)
{
    int64_t now_ms = time_now_ms();
    const char *key;
    json_t *record;

    for (unsigned i = 0; i < telling->problems->len; i++) {
        struct problem *problem = telling->problems->pdata[i];

        if (concerns(alert, problem) &&
            is_due(alert, json_object_get(telling->records, problem->key), now_ms))
            g_ptr_array_add(news, problem);
    }
    json_object_foreach(telling->records, key, record)
    {
        if (!telling->blind && !problem_of(telling, key) &&
            json_get_string(json_object_get(record, "told"), alert->name))
            json_object_set(over, key, record);
    }
}

static char *subject_of(const struct telling *telling, const GPtrArray *news, const json_t *over)
{
    const char *site = telling->context->config->site;
    g_autofree char *line = health_line(news);
    unsigned n = (unsigned)json_object_size(over);

    if (news->len > 0)
        return g_strdup_printf("[drctl %s] %s: %s", site,
                               health_worst(news) == PROBLEM_CRITICAL ? "CRITICAL" : "warning",
                               line);
    return g_strdup_printf("[drctl %s] over: %u problem%s", site, n, n == 1 ? "" : "s");
}

static char *text_of(const struct telling *telling, const GPtrArray *news, const json_t *over)
{
    GString *text = g_string_new(NULL);
    json_t *record;
    const char *key;

    for (unsigned i = 0; i < news->len; i++) {
        const struct problem *problem = news->pdata[i];

        g_string_append_printf(text, "%s: %s: %s\n",
                               problem->severity == PROBLEM_CRITICAL ? "CRITICAL" : "warning",
                               problem->subject, problem->text);
        if (problem->remedy)
            g_string_append_printf(text, "    -> %s\n", problem->remedy);
    }
    json_object_foreach((json_t *)over, key, record)
        g_string_append_printf(text, "over, since %s: %s: %s\n", json_get_string(record, "since"),
                               json_get_string(record, "subject"), json_get_string(record, "text"));
    g_string_append_printf(text, "\nAt site %s: %u problems in all, see drctl status.\n",
                           telling->context->config->site, telling->problems->len);
    return g_string_free(text, FALSE);
}

static json_t *json_of(const struct telling *telling, const char *subject, const GPtrArray *news,
                       const json_t *over)
{
    json_t *json = json_object(), *list = json_array(), *record;
    g_autofree char *now = time_format(time_now_ms());
    const char *key;

    json_set_string(json, "site", telling->context->config->site);
    json_set_string(json, "time", now);
    json_set_string(json, "subject", subject);
    json_object_set_new(json, "problems", problems_json(news));
    json_object_foreach((json_t *)over, key, record)
    {
        json_t *entry = json_object();

        json_set_string(entry, "key", key);
        json_set_string(entry, "subject", json_get_string(record, "subject"));
        json_set_string(entry, "text", json_get_string(record, "text"));
        json_set_string(entry, "since", json_get_string(record, "since"));
        json_array_append_new(list, entry);
    }
    json_object_set_new(json, "over", list);
    return json;
}

/* --- what was told ---------------------------------------------------------------------------- */

static void note_told(struct telling *telling, const struct alert *alert, const GPtrArray *news,
                      const json_t *over)
{
    g_autofree char *now = time_format(time_now_ms());
    const char *key;
    json_t *record;

    for (unsigned i = 0; i < news->len; i++) {
        const struct problem *problem = news->pdata[i];

        json_set_string(json_object_get(json_object_get(telling->records, problem->key), "told"),
                        alert->name, now);
    }
    json_object_foreach((json_t *)over, key, record)
        json_object_del(json_object_get(record, "told"), alert->name);
}

static void tell(struct telling *telling, const struct alert *alert)
{
    g_autoptr(GPtrArray) news = g_ptr_array_new();
    json_auto_t *over = json_object();
    g_autofree char *subject = NULL, *text = NULL;
    json_auto_t *json = NULL;
    GError *why = NULL;

    sort_out(telling, alert, news, over);
    if (news->len == 0 && json_object_size(over) == 0)
        return;
    subject = subject_of(telling, news, over);
    text = text_of(telling, news, over);
    json = json_of(telling, subject, news, over);
    struct message message = {
        .severity =
            news->len ? problem_severity_name((enum problem_severity)health_worst(news)) : "ok",
        .subject = subject,
        .text = text,
        .json = json,
    };
    if (message_deliver(alert, &message, &why)) {
        note_told(telling, alert, news, over);
        return;
    }
    progress_note(telling->context->progress, "%s", why->message);
    if (telling->failure)
        g_error_free(why);
    else
        telling->failure = why;
}

/* Every problem has a record from now on. */
static void begin_records(struct telling *telling)
{
    g_autofree char *now = time_format(time_now_ms());

    for (unsigned i = 0; i < telling->problems->len; i++) {
        const struct problem *problem = telling->problems->pdata[i];
        json_t *record = json_object_get(telling->records, problem->key);

        if (!record) {
            record = json_object();
            json_object_set_new(telling->records, problem->key, record);
            json_set_string(record, "since", now);
            json_object_set_new(record, "told", json_object());
        }
        json_set_string(record, "severity", problem_severity_name(problem->severity));
        json_set_string(record, "subject", problem->subject);
        json_set_string(record, "text", problem->text);
    }
}

/* Is there still somebody who was told of it, and not that it is over? */
static bool is_awaited(const struct telling *telling, const json_t *record)
{
    const GPtrArray *alerts = telling->context->config->alerts;

    for (unsigned i = 0; i < alerts->len; i++)
        if (json_get_string(json_object_get(record, "told"),
                            ((struct alert *)alerts->pdata[i])->name))
            return true;
    return false;
}

/* What is over, and told to all who knew of it, is forgotten. */
static bool save_records(const struct telling *telling, GError **error)
{
    struct catalog *catalog = telling->context->catalog;
    const char *key;
    json_t *record;

    json_object_foreach(telling->records, key, record)
    {
        bool over = !problem_of(telling, key) && !is_awaited(telling, record);

        if (over ? !catalog_remove(catalog, CATALOG_ALERTS, key, error)
                 : !catalog_put(catalog, CATALOG_ALERTS, key, record, error))
            return false;
    }
    return true;
}

static bool tell_all(struct context *context, const GPtrArray *problems, bool blind, GError **error)
{
    json_auto_t *records = json_object();
    struct telling telling = {
        .context = context, .problems = problems, .blind = blind, .records = records};

    if (!catalog_each(context->catalog, CATALOG_ALERTS, "", collect, records, error))
        return false;
    begin_records(&telling);
    for (unsigned i = 0; i < context->config->alerts->len; i++)
        tell(&telling, context->config->alerts->pdata[i]);
    if (!save_records(&telling, telling.failure ? NULL : &telling.failure) || telling.failure) {
        g_propagate_error(error, telling.failure);
        return false;
    }
    return true;
}

/* --- the commands ----------------------------------------------------------------------------- */

static bool write_metrics(struct context *context, const struct status *status,
                          const GPtrArray *problems, GError **error)
{
    g_autofree char *text = metrics_text(context, status, problems);

    /* Others read it. */
    return file_write(context->config->metrics, text, strlen(text), 0644, error);
}

static GPtrArray *look(struct context *context, struct status *status, GError **error)
{
    return status_make(context, status, error) ? health_problems(context, status, error) : NULL;
}

/* That nobody can tell how the site is, because libvirt does not answer perhaps, is what must be told. */
static bool cmd_alert_send(struct context *context, GError **error)
{
    AUTO_STATUS status = {0};
    g_autoptr(GPtrArray) problems = NULL;
    g_autoptr(GError) why = NULL;
    bool blind;

    if (!context_catalog(context, error))
        return false;
    problems = look(context, &status, &why);
    blind = !problems;
    if (blind)
        problems = health_unknown(why);
    if (!blind && context->config->metrics && !write_metrics(context, &status, problems, error))
        return false;
    return tell_all(context, problems, blind, error);
}

static bool test_one(const struct context *context, const struct alert *alert, GError **error)
{
    g_autofree char *subject = g_strdup_printf("[drctl %s] this is a test", context->config->site);
    json_auto_t *json = json_object();
    struct message message = {
        .severity = "ok",
        .subject = subject,
        .text = "Nothing is wrong: drctl alert test was called.\n",
        .json = json,
    };

    json_set_string(json, "site", context->config->site);
    json_set_string(json, "subject", subject);
    json_object_set_new(json, "test", json_true());
    return message_deliver(alert, &message, error);
}

static bool cmd_alert_test(struct context *context, GError **error)
{
    const struct config *config = context_config(context, error);
    bool any = false;

    for (unsigned i = 0; config && i < config->alerts->len; i++) {
        const struct alert *alert = config->alerts->pdata[i];

        if (context->args[0] && !g_str_equal(context->args[0], alert->name))
            continue;
        if (!test_one(context, alert, error))
            return false;
        printf("%s: delivered\n", alert->name);
        any = true;
    }
    return config && (any || fail(error, ERROR_NOT_FOUND, "there is no [alert %s] in %s",
                                  context->args[0] ? context->args[0] : "NAME", config->path));
}

static bool cmd_metrics(struct context *context, GError **error)
{
    AUTO_STATUS status = {0};
    g_autoptr(GPtrArray) problems = look(context, &status, error);
    g_autofree char *text = problems ? metrics_text(context, &status, problems) : NULL;

    if (text)
        fputs(text, stdout);
    return text != NULL;
}

const struct command alert_commands[] = {
    {
        .name = "alert send",
        .args = "",
        .summary = "tell of what is wrong, and of what is over; write metrics",
        .text =
            "drctl daemon does it each minute. Everybody is told of a problem once, and again as\n"
            "often as [alert NAME] says.",
        .run = cmd_alert_send,
    },
    {
        .name = "alert test",
        .args = "[NAME]",
        .max_args = 1,
        .summary = "send a message, to see whether it arrives",
        .run = cmd_alert_test,
    },
    {
        .name = "metrics",
        .args = "",
        .summary = "figures of this site, in the text format of Prometheus",
        .run = cmd_metrics,
    },
    {0},
};
