/* SPDX-License-Identifier: Apache-2.0 */
/* What drctl.conf says about the daemon: when it does what. */
#include "metadata/config-private.h"
#include "metadata/rpo.h"

#define DAY_MS (INT64_C(24) * 3600 * 1000)
#define RPO_MAX_MS (366 * DAY_MS)
#define CYCLE_MAX_MS (3660 * DAY_MS)
#define JOBS_MAX 100
#define AGAIN_DEFAULT_MS DAY_MS
#define AGAIN_MAX_MS (366 * DAY_MS)

static const char *const severity_names[] = {"critical", "warning", NULL};

static bool read_calendar(const struct reader *reader, const char *key, struct calendar **out,
                          GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) problem = NULL;

    if (!keyfile_string(reader->keyfile, reader->group, key, &text, error))
        return false;
    if (!text)
        return true;
    calendar_free(*out);
    *out = calendar_parse(text, &problem);
    return *out || keyfile_fail(reader->keyfile, reader->group, key, error, "%s", problem->message);
}

bool config_read_schedule(const struct reader *reader, struct protection *protection,
                          GError **error)
{
    return keyfile_duration(reader->keyfile, reader->group, "rpo", RPO_MIN_MS, RPO_MAX_MS,
                            &protection->rpo_ms, error) &&
           read_calendar(reader, "at", &protection->at, error);
}

static bool read_jobs(const struct reader *reader, GError **error)
{
    struct config *config = reader->config;
    const struct {
        const char *key;
        unsigned *limit;
    } limits[] = {{"jobs", &config->jobs},
                  {"host-jobs", &config->host_jobs},
                  {"link-jobs", &config->link_jobs},
                  {"store-jobs", &config->store_jobs}};

    for (size_t i = 0; i < G_N_ELEMENTS(limits); i++) {
        int64_t value = *limits[i].limit;

        if (!keyfile_number(reader->keyfile, reader->group, limits[i].key, 1, JOBS_MAX, &value,
                            error))
            return false;
        *limits[i].limit = (unsigned)value;
    }
    return true;
}

bool config_read_daemon(const struct reader *reader, GError **error)
{
    static const char *const keys[] = {"jobs",       "host-jobs",    "link-jobs",
                                       "store-jobs", "verify-cycle", "verify-at",
                                       "prune-at",   "metrics",      NULL};
    struct config *config = reader->config;

    if (!keyfile_check_keys(reader->keyfile, reader->group, keys, error) ||
        !read_jobs(reader, error) ||
        !keyfile_duration(reader->keyfile, reader->group, "verify-cycle", DAY_MS, CYCLE_MAX_MS,
                          &config->verify_cycle_ms, error) ||
        !read_calendar(reader, "verify-at", &config->verify_at, error) ||
        !read_calendar(reader, "prune-at", &config->prune_at, error) ||
        !config_read_path(reader, "metrics", NULL, &config->metrics, error))
        return false;
    return !config->verify_cycle_ms || config->verify_at ||
           keyfile_fail(reader->keyfile, reader->group, "verify-cycle", error,
                        "says how often all is verified, but nothing says when: add verify-at, "
                        "such as 03:00");
}

/* --- [copy NAME] ------------------------------------------------------------------------------ */

void copy_rule_free(void *data)
{
    struct copy_rule *rule = data;

    g_free(rule->name);
    g_free(rule->from);
    g_free(rule->to);
    g_strfreev(rule->vms);
    calendar_free(rule->at);
    g_free(rule);
}

bool config_read_copy(const struct reader *reader, GError **error)
{
    static const char *const keys[] = {"from", "to", "vms", "at", "keep", NULL};
    struct copy_rule *rule = g_new0(struct copy_rule, 1);

    g_ptr_array_add(reader->config->copies, rule);
    rule->name = g_strdup(reader->name);
    if (!keyfile_check_keys(reader->keyfile, reader->group, keys, error) ||
        !keyfile_string(reader->keyfile, reader->group, "from", &rule->from, error) ||
        !keyfile_string(reader->keyfile, reader->group, "to", &rule->to, error) ||
        !keyfile_list(reader->keyfile, reader->group, "vms", &rule->vms, error) ||
        !read_calendar(reader, "at", &rule->at, error) ||
        !config_read_keep(reader, &rule->keep, error))
        return false;
    if (!rule->from)
        rule->from = g_strdup("local");
    return rule->at || keyfile_fail(reader->keyfile, reader->group, "at", error,
                                    "is missing: when points are copied, such as 05:00");
}

/* --- [alert NAME] ----------------------------------------------------------------------------- */

void alert_free(void *data)
{
    struct alert *alert = data;

    g_free(alert->name);
    g_strfreev(alert->mail);
    g_free(alert->smtp);
    g_free(alert->smtp_user);
    g_free(alert->smtp_password_file);
    g_free(alert->from);
    g_strfreev(alert->command);
    g_free(alert->webhook);
    g_free(alert->ca_file);
    g_free(alert);
}

/* A word after the other; there is no shell. */
static bool read_command(const struct reader *reader, struct alert *alert, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) problem = NULL;

    if (!keyfile_string(reader->keyfile, reader->group, "command", &text, error))
        return false;
    if (text && !g_shell_parse_argv(text, NULL, &alert->command, &problem))
        return keyfile_fail(reader->keyfile, reader->group, "command", error, "%s",
                            problem->message);
    return !alert->command || g_path_is_absolute(alert->command[0]) ||
           keyfile_fail(reader->keyfile, reader->group, "command", error,
                        "'%s' is not absolute: write the whole path", alert->command[0]);
}

static bool check_url(const struct reader *reader, const char *key, const char *url,
                      const char *const *schemes, GError **error)
{
    g_autofree char *scheme = url ? g_uri_parse_scheme(url) : NULL;
    g_autofree char *known = g_strjoinv(" or ", (char **)schemes);

    return !url ||
           (scheme && g_strv_contains(schemes, scheme) &&
            g_uri_is_valid(url, G_URI_FLAGS_NONE, NULL)) ||
           keyfile_fail(reader->keyfile, reader->group, key, error, "'%s' is not an address of %s",
                        url, known);
}

static bool check_alert(const struct reader *reader, const struct alert *alert, GError **error)
{
    static const char *const smtp[] = {"smtp", "smtps", NULL}, *const web[] = {"https", "http",
                                                                               NULL};
    unsigned ways = !!alert->mail + !!alert->command + !!alert->webhook;

    if (ways != 1)
        return keyfile_fail(reader->keyfile, reader->group, NULL, error,
                            "needs one of mail, command and webhook");
    if (alert->mail && !alert->smtp)
        return keyfile_fail(reader->keyfile, reader->group, "smtp", error,
                            "is missing: the mail server, such as smtps://mail.example.org");
    if (!alert->mail && (alert->smtp || alert->smtp_user || alert->from))
        return keyfile_fail(reader->keyfile, reader->group, "smtp", error, "goes with mail");
    if (!alert->smtp_user != !alert->smtp_password_file)
        return keyfile_fail(reader->keyfile, reader->group, "smtp-user", error,
                            "and smtp-password-file go together");
    return check_url(reader, "smtp", alert->smtp, smtp, error) &&
           check_url(reader, "webhook", alert->webhook, web, error);
}

bool config_read_alert(const struct reader *reader, GError **error)
{
    static const char *const keys[] = {"mail", "smtp",    "smtp-user", "smtp-password-file",
                                       "from", "command", "webhook",   "ca-file",
                                       "tell", "again",   NULL};
    struct alert *alert = g_new0(struct alert, 1);
    const struct keyfile *keyfile = reader->keyfile;
    const char *group = reader->group;
    unsigned severity = 1;

    g_ptr_array_add(reader->config->alerts, alert);
    alert->name = g_strdup(reader->name);
    alert->again_ms = AGAIN_DEFAULT_MS;
    if (!keyfile_check_keys(keyfile, group, keys, error) ||
        !keyfile_list(keyfile, group, "mail", &alert->mail, error) ||
        !keyfile_string(keyfile, group, "smtp", &alert->smtp, error) ||
        !keyfile_string(keyfile, group, "smtp-user", &alert->smtp_user, error) ||
        !config_read_path(reader, "smtp-password-file", reader->config->dir,
                          &alert->smtp_password_file, error) ||
        !keyfile_string(keyfile, group, "from", &alert->from, error) ||
        !read_command(reader, alert, error) ||
        !keyfile_string(keyfile, group, "webhook", &alert->webhook, error) ||
        !config_read_path(reader, "ca-file", reader->config->dir, &alert->ca_file, error) ||
        !keyfile_word(keyfile, group, "tell", severity_names, &severity, error) ||
        !keyfile_duration(keyfile, group, "again", 0, AGAIN_MAX_MS, &alert->again_ms, error))
        return false;
    alert->warnings = severity == 1;
    return check_alert(reader, alert, error);
}
