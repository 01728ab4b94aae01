/* SPDX-License-Identifier: Apache-2.0 */
#include "web/routes.h"

#include <string.h>

#include "web/pages.h"
#include "web/server.h"

#define HTML "text/html; charset=utf-8"
#define JSON "application/json"
#define RETRY_AFTER "60"
#define PNG_SIGNATURE "\x89PNG\r\n\x1a\n"

/* One request being answered. */
struct visit {
    const struct routes *routes;
    const struct config *config;
    const struct request *request;
    struct reply *reply;
    char *session; /* of whoever asks, or NULL: a bearer */
};

/* --- answers ---------------------------------------------------------------------------------- */

/* Is it data that is asked for, or does a program ask for a job? */
static bool is_data(const struct visit *visit)
{
    const char *path = visit->request->path;

    return g_str_has_prefix(path, "/api/") || g_str_equal(path, "/metrics") ||
           (g_str_has_prefix(path, "/do/") && visit->request->authorization);
}

static struct page page_new(const struct visit *visit, char **form_token)
{
    *form_token = visit->session ? access_form_token(visit->session) : NULL;
    return (struct page){g_string_new(NULL), visit->config, *form_token, visit->request->query,
                         time_now_ms()};
}

static void send_page(struct visit *visit, unsigned status, struct page *page)
{
    reply_text(visit->reply, status, HTML, g_string_free(page->html, FALSE));
}

/* Whoever asks for data gets data. */
static void refuse(struct visit *visit, unsigned status, enum error_kind kind, const char *title,
                   const char *text)
{
    g_autofree char *form_token = NULL;
    struct page page;

    if (is_data(visit)) {
        json_auto_t *json = json_object();

        json_set_string(json, "error", text);
        json_set_string(json, "kind", error_kind_name(kind));
        reply_text(visit->reply, status, JSON, json_text(json, 2));
        return;
    }
    page = page_new(visit, &form_token);
    page_problem(&page, title, text);
    send_page(visit, status, &page);
}

static void not_found(struct visit *visit)
{
    refuse(visit, 404, ERROR_NOT_FOUND, "Not found", "There is no such page.");
}

static void go_to(struct visit *visit, const char *place)
{
    reply_text(visit->reply, 303, "text/plain; charset=utf-8", g_strdup("see there\n"));
    reply_header(visit->reply, "Location", place);
}

static void set_cookie(struct visit *visit, const char *value)
{
    bool tls = visit->config->web.tls;
    g_autofree char *cookie = g_strdup_printf(
        "%s=%s; Path=/; HttpOnly; SameSite=Strict%s; Max-Age=%d", server_cookie_name(tls), value,
        tls ? "; Secure" : "", *value ? (int)(ACCESS_SESSION_MS / 1000) : 0);

    reply_header(visit->reply, "Set-Cookie", cookie);
}

/* --- who asks --------------------------------------------------------------------------------- */

static void login_page(struct visit *visit, unsigned status, const char *next, const char *problem)
{
    g_autofree char *form_token = NULL;
    struct page page = page_new(visit, &form_token);

    page_login(&page, place_is_ours(next) ? next : "/", problem);
    send_page(visit, status, &page);
}

/* Not let in: ANSWER of access_try(). */
static void turn_away(struct visit *visit, enum access_answer answer, const GError *error,
                      const char *next)
{
    bool later = answer == ACCESS_LATER, closed = answer == ACCESS_CLOSED;
    unsigned status = later ? 429 : closed ? 503 : 401;
    const char *text = later    ? "too many wrong tokens came from this address: wait a minute"
                       : closed ? error->message
                                : "this token is wrong";

    if (is_data(visit))
        refuse(visit, status, ERROR_AUTH, "", text);
    else
        login_page(visit, status, next, text);
    if (later)
        reply_header(visit->reply, "Retry-After", RETRY_AFTER);
}

static void log_in(struct visit *visit)
{
    const struct request *request = visit->request;
    const char *token = request->form ? g_hash_table_lookup(request->form, "token") : NULL;
    const char *next = request->form ? g_hash_table_lookup(request->form, "next") : NULL;
    g_autoptr(GError) error = NULL;
    enum access_answer answer;

    if (request->origin &&
        !origin_is_ours(request->origin, request->host, visit->config->web.tls)) {
        refuse(visit, 403, ERROR_AUTH, "Refused", "This form is not from this server.");
        return;
    }
    answer = access_try(visit->routes->access, request->peer, token, time_monotonic_ms(), &error);
    if (answer != ACCESS_GRANTED) {
        turn_away(visit, answer, error, next);
        return;
    }
    visit->session = access_begin(visit->routes->access, time_monotonic_ms());
    go_to(visit, place_is_ours(next) ? next : "/");
    set_cookie(visit, visit->session);
}

/* A certificate is shown by the browser whoever has made it ask, so it only opens a session. */
static bool begin_certified(struct visit *visit)
{
    if (visit->request->post) {
        refuse(visit, 403, ERROR_AUTH, "Refused",
               "Load the page first: this form is of no session.");
        return false;
    }
    if (is_data(visit))
        return true;
    visit->session = access_begin(visit->routes->access, time_monotonic_ms());
    set_cookie(visit, visit->session);
    return true;
}

/* False: turned away. */
static bool is_let_in(struct visit *visit)
{
    const struct request *request = visit->request;
    struct access *access = visit->routes->access;
    g_autoptr(GError) error = NULL;
    enum access_answer answer;

    if (access_goes_on(access, request->session, time_monotonic_ms())) {
        visit->session = g_strdup(request->session);
        return true;
    }
    if (request->authorization) {
        answer = access_try(access, request->peer, bearer_of(request->authorization),
                            time_monotonic_ms(), &error);
        if (answer == ACCESS_GRANTED)
            return true;
        turn_away(visit, answer, error, request->path);
        return false;
    }
    if (request->certified)
        return begin_certified(visit);
    if (is_data(visit)) {
        refuse(visit, 401, ERROR_AUTH, "", "a token is needed: Authorization: Bearer TOKEN");
        reply_header(visit->reply, "WWW-Authenticate", "Bearer realm=\"drctl\"");
    } else {
        login_page(visit, 401, request->post ? "/" : request->path, NULL);
    }
    return false;
}

/* Is a form from a page of the session that it comes with? What a bearer sends no browser has sent by itself. */
static bool is_meant(struct visit *visit)
{
    const struct request *request = visit->request;
    const char *given = request->form ? g_hash_table_lookup(request->form, "form") : NULL;
    g_autofree char *right = visit->session ? access_form_token(visit->session) : NULL;

    if (!visit->session ||
        (origin_is_ours(request->origin, request->host, visit->config->web.tls) &&
         access_same(given, right)))
        return true;
    refuse(visit, 403, ERROR_AUTH, "Refused",
           "This form is not from a page of your session. Load the page anew and try again.");
    return false;
}

/* --- data ------------------------------------------------------------------------------------- */

static const struct {
    const char *path;
    enum document_kind kind;
} interfaces[] = {
    {"/api/status", DOCUMENT_STATUS},     {"/api/rpo", DOCUMENT_RPO_WEEK},
    {"/api/rpo/day", DOCUMENT_RPO_DAY},   {"/api/rpo/month", DOCUMENT_RPO_MONTH},
    {"/api/schedule", DOCUMENT_SCHEDULE}, {"/api/runs", DOCUMENT_RUNS},
    {"/api/vapps", DOCUMENT_VAPPS},       {"/api/plans", DOCUMENT_PLANS},
    {"/api/sites", DOCUMENT_SITES},       {"/metrics", DOCUMENT_METRICS},
};

/* What is old is none here: whoever asks is no person who sees that it is. */
static void send_document(struct visit *visit, enum document_kind kind, const char *arg)
{
    AUTO_DOCUMENT document = {0};

    data_get(visit->routes->data, kind, arg, true, &document);
    if (!document.current) {
        bool missing = document.status == EXIT_NOT_FOUND;

        refuse(visit, missing ? 404 : 503, missing ? ERROR_NOT_FOUND : ERROR_FAILED, "",
               document.error);
        return;
    }
    reply_text(visit->reply, 200,
               kind == DOCUMENT_METRICS ? "text/plain; version=0.0.4; charset=utf-8" : JSON,
               g_steal_pointer(&document.text));
}

/* The points of VM, where the request asks for them: of which document, and of what in it (g_free). False: there is no such
 * site. */
static bool points_of(const struct visit *visit, const char *vm, enum document_kind *kind,
                      char **arg)
{
    const char *at = g_hash_table_lookup(visit->request->query, "at");
    bool is_local = !at || g_str_equal(at, "local");

    if (!is_local && !config_remote(visit->config, at, NULL))
        return false;
    *kind = is_local ? DOCUMENT_POINTS : DOCUMENT_POINTS_AT;
    *arg = is_local ? g_strdup(vm) : g_strconcat(at, "/", vm, NULL);
    return true;
}

static void answer_points_data(struct visit *visit)
{
    const char *vm = g_hash_table_lookup(visit->request->query, "vm");
    g_autofree char *arg = NULL;
    enum document_kind kind;

    if (!vm && !g_hash_table_contains(visit->request->query, "at"))
        send_document(visit, DOCUMENT_POINTS, NULL);
    else if (argument_is_safe(vm) && points_of(visit, vm, &kind, &arg))
        send_document(visit, kind, arg);
    else
        not_found(visit);
}

static void answer_data(struct visit *visit)
{
    const char *path = visit->request->path;
    const char *run = g_str_has_prefix(path, "/api/runs/") ? path + strlen("/api/runs/") : NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(interfaces); i++) {
        if (g_str_equal(path, interfaces[i].path)) {
            send_document(visit, interfaces[i].kind, NULL);
            return;
        }
    }
    if (g_str_equal(path, "/api/points"))
        answer_points_data(visit);
    else if (run && name_is_safe(run))
        send_document(visit, DOCUMENT_RUN, run);
    else
        not_found(visit);
}

/* --- pages ------------------------------------------------------------------------------------ */

#define NEEDS(kind) (1u << DOCUMENT_##kind)

static const struct {
    const char *path;
    unsigned documents;
    void (*write)(struct page *page, const struct papers *papers);
} pages[] = {
    {"/", NEEDS(STATUS) | NEEDS(SCHEDULE) | NEEDS(RUNS) | NEEDS(PLANS) | NEEDS(SITES),
     page_overview},
    {"/vapps", NEEDS(STATUS) | NEEDS(VAPPS) | NEEDS(PLANS), page_vapps},
    {"/rpo", NEEDS(RPO_WEEK), page_rpo},
    {"/rpo/day", NEEDS(RPO_DAY), page_rpo},
    {"/rpo/month", NEEDS(RPO_MONTH), page_rpo},
    {"/vms", NEEDS(STATUS), page_vms},
    {"/jobs", NEEDS(SCHEDULE) | NEEDS(PLANS), page_jobs},
    {"/runs", NEEDS(RUNS), page_runs},
};

/* Documents, and what they say. */
struct load {
    struct document documents[DOCUMENT_KINDS];
    json_t *json[DOCUMENT_KINDS];
};

static void load_clear(struct load *load)
{
    for (unsigned i = 0; i < DOCUMENT_KINDS; i++) {
        document_clear(&load->documents[i]);
        json_decref(load->json[i]);
    }
}
#define AUTO_LOAD __attribute__((cleanup(load_clear))) struct load

static void load_one(struct visit *visit, enum document_kind kind, const char *arg,
                     struct load *load)
{
    struct document *document = &load->documents[kind];
    g_autoptr(GError) error = NULL;

    data_get(visit->routes->data, kind, arg, false, document);
    if (!document->text)
        return;
    load->json[kind] = json_parse(document->text, document->len, "what drctl printed", &error);
    if (!load->json[kind]) {
        g_free(document->error);
        document->error = g_strdup(error->message);
    }
}

static struct papers papers_of(struct load *load, const char *subject)
{
    unsigned rpo = DOCUMENT_RPO_DAY;

    while (rpo < DOCUMENT_RPO_MONTH && !load->documents[rpo].text && !load->documents[rpo].error)
        rpo++;
    return (struct papers){
        .status = load->json[DOCUMENT_STATUS],
        .schedule = load->json[DOCUMENT_SCHEDULE],
        .runs = load->json[DOCUMENT_RUNS],
        .run = load->json[DOCUMENT_RUN],
        .points = load->json[DOCUMENT_POINTS_AT] ? load->json[DOCUMENT_POINTS_AT]
                                                 : load->json[DOCUMENT_POINTS],
        .vapps = load->json[DOCUMENT_VAPPS],
        .plans = load->json[DOCUMENT_PLANS],
        .sites = load->json[DOCUMENT_SITES],
        .rpo = load->json[rpo],
        .rpo_kind = rpo,
        .documents = load->documents,
        .subject = subject,
    };
}

static void send_papers(struct visit *visit, struct load *load, const char *subject,
                        void (*write)(struct page *page, const struct papers *papers))
{
    g_autofree char *form_token = NULL;
    struct page page = page_new(visit, &form_token);
    struct papers papers = papers_of(load, subject);

    write(&page, &papers);
    send_page(visit, 200, &page);
}

/* All at once, and then one after the other. */
static void answer_page(struct visit *visit, unsigned documents,
                        void (*write)(struct page *page, const struct papers *papers))
{
    AUTO_LOAD load = {0};

    for (unsigned kind = 0; kind < DOCUMENT_KINDS; kind++)
        if (documents & 1u << kind)
            data_want(visit->routes->data, kind);
    for (unsigned kind = 0; kind < DOCUMENT_KINDS; kind++)
        if (documents & 1u << kind)
            load_one(visit, kind, NULL, &load);
    send_papers(visit, &load, NULL, write);
}

/* A page about SUBJECT, which its document, of ARG, is of. */
static void answer_about(struct visit *visit, enum document_kind kind, const char *arg,
                         const char *subject,
                         void (*write)(struct page *page, const struct papers *papers))
{
    AUTO_LOAD load = {0};

    load_one(visit, kind, arg, &load);
    if (!load.json[kind] && load.documents[kind].status == EXIT_NOT_FOUND)
        refuse(visit, 404, ERROR_NOT_FOUND, "Not found", load.documents[kind].error);
    else
        send_papers(visit, &load, subject, write);
}

static void answer_points(struct visit *visit, const char *vm)
{
    g_autofree char *arg = NULL;
    enum document_kind kind;

    if (argument_is_safe(vm) && points_of(visit, vm, &kind, &arg))
        answer_about(visit, kind, arg, vm, page_points);
    else
        not_found(visit);
}

/* --- pictures and reports --------------------------------------------------------------------- */

static bool load_run(struct visit *visit, const char *id, struct load *load)
{
    load_one(visit, DOCUMENT_RUN, id, load);
    if (load->json[DOCUMENT_RUN])
        return true;
    refuse(visit, load->documents[DOCUMENT_RUN].status == EXIT_NOT_FOUND ? 404 : 503,
           ERROR_NOT_FOUND, "Not found", load->documents[DOCUMENT_RUN].error);
    return false;
}

/* Is it there, of what may be shown, and what it should be? */
static bool picture_load(const struct visit *visit, struct report_picture *picture)
{
    return evidence_is_ours(visit->config, picture->path) && report_picture_load(picture) &&
           picture->len > strlen(PNG_SIGNATURE) &&
           memcmp(picture->data, PNG_SIGNATURE, strlen(PNG_SIGNATURE)) == 0;
}

/* PLACE is "RUN/NUMBER". */
static void answer_picture(struct visit *visit, const char *place)
{
    g_auto(GStrv) parts = g_strsplit(place, "/", 3);
    g_autoptr(GPtrArray) pictures = NULL;
    AUTO_LOAD load = {0};
    struct report_picture *picture;
    uint64_t number;

    if (g_strv_length(parts) != 2 || !name_is_safe(parts[0]) ||
        !g_ascii_string_to_unsigned(parts[1], 10, 0, UINT32_MAX, &number, NULL)) {
        not_found(visit);
        return;
    }
    if (!load_run(visit, parts[0], &load))
        return;
    pictures = run_report_picture_names(load.json[DOCUMENT_RUN]);
    picture = number < pictures->len ? pictures->pdata[number] : NULL;
    if (!picture || !picture_load(visit, picture)) {
        not_found(visit);
        return;
    }
    visit->reply->status = 200;
    visit->reply->type = picture->type;
    visit->reply->body = g_bytes_new_take((void *)picture->data, picture->len);
    picture->data = NULL;
    reply_header(visit->reply, "Cache-Control", "private, max-age=3600");
}

/* It has its style within itself, which our pages must not: so it is a file. */
static void answer_report(struct visit *visit, const char *id)
{
    g_autoptr(GPtrArray) pictures = NULL;
    g_autofree struct report_picture *list = NULL;
    g_autofree char *disposition = g_strdup_printf("attachment; filename=\"drctl-%s.html\"", id);
    AUTO_LOAD load = {0};

    if (!load_run(visit, id, &load))
        return;
    pictures = run_report_picture_names(load.json[DOCUMENT_RUN]);
    list = g_new0(struct report_picture, pictures->len + 1);
    for (unsigned i = 0; i < pictures->len; i++) {
        picture_load(visit, pictures->pdata[i]);
        list[i] = *(const struct report_picture *)pictures->pdata[i];
    }
    reply_text(visit->reply, 200, HTML,
               run_report_html(load.json[DOCUMENT_RUN], list, pictures->len));
    reply_header(visit->reply, "Content-Disposition", disposition);
}

/* --- what is asked for ------------------------------------------------------------------------ */

static bool is_plan(struct visit *visit, const char *name)
{
    AUTO_LOAD load = {0};

    load_one(visit, DOCUMENT_PLANS, NULL, &load);
    return json_find(load.json[DOCUMENT_PLANS], "plan", name) != NULL;
}

/* The key of the job, or NULL: there is nothing of that name. g_free */
static char *job_key(struct visit *visit, const char *job, const char *name)
{
    if (g_str_equal(job, "verify"))
        return g_strdup("verify");
    if (!argument_is_safe(name))
        return NULL;
    if (g_str_equal(job, "replicate") && config_protection(visit->config, name, NULL))
        return g_strconcat("replicate/", name, NULL);
    return g_str_equal(job, "test") && is_plan(visit, name) ? g_strconcat("test/", name, NULL)
                                                            : NULL;
}

static void send_asked(struct visit *visit, const char *key)
{
    g_autofree char *escaped = g_uri_escape_string(key, NULL, FALSE);
    g_autofree char *place = g_strconcat("/jobs?asked=", escaped, NULL);
    json_auto_t *json = json_object();

    data_forget(visit->routes->data, DOCUMENT_SCHEDULE);
    data_forget(visit->routes->data, DOCUMENT_RUNS);
    if (visit->session) {
        go_to(visit, place);
        return;
    }
    json_set_string(json, "asked", key);
    reply_text(visit->reply, 202, JSON, json_text(json, 2));
}

static void ask_for(struct visit *visit, const char *job)
{
    const struct web_options *options = visit->routes->options;
    const char *name =
        visit->request->form ? g_hash_table_lookup(visit->request->form, "name") : NULL;
    g_autofree char *key = NULL;

    if (!visit->config->web.actions) {
        refuse(visit, 403, ERROR_AUTH, "Read-only",
               "This page only shows: actions = yes in [web] of drctl.conf lets it ask for jobs.");
        return;
    }
    key = job_key(visit, job, name);
    if (!key)
        refuse(visit, 404, ERROR_NOT_FOUND, "Not found",
               "There is no such job: replicate of a protection, test of a plan, or verify.");
    else if (!options->ask(options->context, key, visit->request->peer))
        refuse(visit, 503, ERROR_FAILED, "Not now", "The daemon does not listen.");
    else
        send_asked(visit, key);
}

static void answer_post(struct visit *visit)
{
    const char *path = visit->request->path;

    if (!is_meant(visit))
        return;
    if (g_str_equal(path, "/logout")) {
        access_end(visit->routes->access, visit->session);
        go_to(visit, "/");
        set_cookie(visit, "");
    } else if (g_str_has_prefix(path, "/do/")) {
        ask_for(visit, path + strlen("/do/"));
    } else {
        refuse(visit, 405, ERROR_USAGE, "Not here", "Nothing can be sent to this page.");
        reply_header(visit->reply, "Allow", "GET, HEAD");
    }
}

/* --- all -------------------------------------------------------------------------------------- */

/* What is the same for all, and tells nothing of the site. */
static bool answer_static(struct visit *visit)
{
    const char *path = visit->request->path;

    if (g_str_equal(path, "/style.css"))
        reply_text(visit->reply, 200, "text/css; charset=utf-8",
                   g_strconcat(html_style, web_style, NULL));
    else if (g_str_equal(path, "/icon.svg"))
        reply_text(visit->reply, 200, "image/svg+xml", g_strdup(web_icon));
    else
        return false;
    reply_header(visit->reply, "Cache-Control", "max-age=600");
    return true;
}

static void answer_get(struct visit *visit)
{
    const char *path = visit->request->path;
    static const char points[] = "/points/", runs[] = "/runs/", evidence[] = "/evidence/",
                      report[] = "/report/";

    for (unsigned i = 0; i < G_N_ELEMENTS(pages); i++) {
        if (g_str_equal(path, pages[i].path)) {
            answer_page(visit, pages[i].documents, pages[i].write);
            return;
        }
    }
    if (is_data(visit))
        answer_data(visit);
    else if (g_str_has_prefix(path, points))
        answer_points(visit, path + strlen(points));
    else if (g_str_has_prefix(path, runs) && name_is_safe(path + strlen(runs)))
        answer_about(visit, DOCUMENT_RUN, path + strlen(runs), path + strlen(runs), page_run);
    else if (g_str_has_prefix(path, evidence))
        answer_picture(visit, path + strlen(evidence));
    else if (g_str_has_prefix(path, report) && name_is_safe(path + strlen(report)))
        answer_report(visit, path + strlen(report));
    else
        not_found(visit);
}

static void answer(struct visit *visit)
{
    if (visit->request->post)
        answer_post(visit);
    else if (g_str_equal(visit->request->path, "/login"))
        go_to(visit, "/");
    else
        answer_get(visit);
}

void routes_answer(void *context, const struct request *request, struct reply *reply)
{
    const struct routes *routes = context;
    struct visit visit = {routes, routes->options->config, request, reply, NULL};

    if (request->post && g_str_equal(request->path, "/login"))
        log_in(&visit);
    else if (request->post ? is_let_in(&visit) : !answer_static(&visit) && is_let_in(&visit))
        answer(&visit);
    g_free(visit.session);
}
