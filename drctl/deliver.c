/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/deliver.h"

#include <curl/curl.h>
#include <string.h>
#include <unistd.h>

#define TIMEOUT_S 30L
#define PASSWORD_MAX 4096

static void curl_cleanup(CURL **curl)
{
    if (*curl)
        curl_easy_cleanup(*curl);
}
#define AUTO_CURL __attribute__((cleanup(curl_cleanup))) CURL

static void slist_cleanup(struct curl_slist **list)
{
    curl_slist_free_all(*list);
}
#define AUTO_SLIST __attribute__((cleanup(slist_cleanup))) struct curl_slist

static CURL *handle_new(const struct alert *alert, const char *url)
{
    CURL *curl = curl_easy_init();

    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    if (alert->ca_file)
        curl_easy_setopt(curl, CURLOPT_CAINFO, alert->ca_file);
    return curl;
}

static bool perform(CURL *curl, const struct alert *alert, const char *url, GError **error)
{
    char reason[CURL_ERROR_SIZE] = "";
    CURLcode code;

    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
    code = curl_easy_perform(curl);
    return code == CURLE_OK || fail(error, ERROR_NETWORK, "[alert %s] %s: %s", alert->name, url,
                                    *reason ? reason : curl_easy_strerror(code));
}

/* --- mail ------------------------------------------------------------------------------------- */

/* As RFC 5322 wants it. */
static char *mail_date(void)
{
    static const char *const days[] = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();

    return g_strdup_printf(
        "%s, %d %s %d %02d:%02d:%02d +0000", days[g_date_time_get_day_of_week(now) - 1],
        g_date_time_get_day_of_month(now), months[g_date_time_get_month(now) - 1],
        g_date_time_get_year(now), g_date_time_get_hour(now), g_date_time_get_minute(now),
        g_date_time_get_second(now));
}

/* What came from elsewhere must not end the line. */
static char *one_line(const char *text)
{
    char *line = g_strdup(text);

    for (char *c = line; *c; c++)
        if (g_ascii_iscntrl(*c))
            *c = ' ';
    return line;
}

/* A line that begins with a dot is libcurl's business. */
static char *mail_text(const struct alert *alert, const char *from, const struct message *message)
{
    g_autofree char *to = g_strjoinv(", ", alert->mail);
    g_autofree char *subject = one_line(message->subject);
    g_autofree char *encoded = g_base64_encode((const unsigned char *)subject, strlen(subject));
    g_autofree char *date = mail_date();
    g_autofree char *id = g_uuid_string_random();
    g_auto(GStrv) lines = g_strsplit(message->text, "\n", -1);
    g_autofree char *body = g_strjoinv("\r\n", lines);

    return g_strdup_printf("From: %s\r\nTo: %s\r\nDate: %s\r\nMessage-ID: <%s@drctl>\r\n"
                           "Subject: =?UTF-8?B?%s?=\r\nMIME-Version: 1.0\r\n"
                           "Content-Type: text/plain; charset=UTF-8\r\n"
                           "Content-Transfer-Encoding: 8bit\r\nAuto-Submitted: auto-generated\r\n"
                           "\r\n%s\r\n",
                           from, to, date, id, encoded, body);
}

struct upload {
    const char *text;
    size_t left;
};

static size_t read_text(char *buffer, size_t size, size_t n, void *data)
{
    struct upload *upload = data;
    size_t len = MIN(size * n, upload->left);

    memcpy(buffer, upload->text, len);
    upload->text += len;
    upload->left -= len;
    return len;
}

static bool is_this_machine(const char *url)
{
    g_autoptr(GUri) uri = g_uri_parse(url, G_URI_FLAGS_NONE, NULL);
    const char *host = uri ? g_uri_get_host(uri) : NULL;

    return host && (g_str_equal(host, "localhost") || g_str_equal(host, "127.0.0.1") ||
                    g_str_equal(host, "::1"));
}

static bool set_password(CURL *curl, const struct alert *alert, GError **error)
{
    g_autofree char *password = NULL;

    if (!alert->smtp_user)
        return true;
    if (!file_read(alert->smtp_password_file, PASSWORD_MAX, &password, NULL, error)) {
        g_prefix_error(error, "[alert %s] ", alert->name);
        return false;
    }
    curl_easy_setopt(curl, CURLOPT_USERNAME, alert->smtp_user);
    curl_easy_setopt(curl, CURLOPT_PASSWORD, g_strchomp(password));
    return true;
}

static bool deliver_mail(const struct alert *alert, const struct message *message, GError **error)
{
    AUTO_CURL *curl = handle_new(alert, alert->smtp);
    AUTO_SLIST *recipients = NULL;
    g_autofree char *from =
        alert->from ? g_strdup(alert->from) : g_strdup_printf("drctl@%s", g_get_host_name());
    g_autofree char *text = mail_text(alert, from, message);
    struct upload upload = {text, strlen(text)};

    for (char **to = alert->mail; *to; to++)
        recipients = curl_slist_append(recipients, *to);
    curl_easy_setopt(curl, CURLOPT_MAIL_FROM, from);
    curl_easy_setopt(curl, CURLOPT_MAIL_RCPT, recipients);
    curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(curl, CURLOPT_READFUNCTION, read_text);
    curl_easy_setopt(curl, CURLOPT_READDATA, &upload);
    /* Otherwise whoever sits between reads what is wrong here, and the password. */
    if (!is_this_machine(alert->smtp))
        curl_easy_setopt(curl, CURLOPT_USE_SSL, (long)CURLUSESSL_ALL);
    return set_password(curl, alert, error) && perform(curl, alert, alert->smtp, error);
}

/* --- web -------------------------------------------------------------------------------------- */

static size_t ignore(char *buffer, size_t size, size_t n, void *data)
{
    return size * n;
}

static bool deliver_webhook(const struct alert *alert, const struct message *message,
                            GError **error)
{
    AUTO_CURL *curl = handle_new(alert, alert->webhook);
    AUTO_SLIST *headers = curl_slist_append(NULL, "Content-Type: application/json");
    g_autofree char *text = json_text(message->json, 0);

    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, text);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, ignore);
    curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    return perform(curl, alert, alert->webhook, error);
}

/* --- a command -------------------------------------------------------------------------------- */

static bool deliver_command(const struct alert *alert, const struct message *message,
                            GError **error)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();

    for (char **word = alert->command; *word; word++)
        g_ptr_array_add(argv, *word);
    g_ptr_array_add(argv, (char *)message->severity);
    g_ptr_array_add(argv, (char *)message->subject);
    g_ptr_array_add(argv, (char *)message->text);
    g_ptr_array_add(argv, NULL);
    if (process_run((const char *const *)argv->pdata, (unsigned)TIMEOUT_S, NULL, error))
        return true;
    g_prefix_error(error, "[alert %s] ", alert->name);
    return false;
}

bool message_deliver(const struct alert *alert, const struct message *message, GError **error)
{
    if (alert->mail)
        return deliver_mail(alert, message, error);
    return alert->webhook ? deliver_webhook(alert, message, error)
                          : deliver_command(alert, message, error);
}
