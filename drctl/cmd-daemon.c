/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "drctl/output.h"
#include "drctl/schedule.h"
#include "drctl/service.h"
#include "drctl/trail.h"
#include "drctl/web-child.h"

#define TICK_MS 1000
/* How often it is looked at what there is to do, if nothing is due before: plans change, others do jobs. */
#define LOOK_MS 10000
/* How long jobs may take to stop at a safe place when the daemon ends. */
#define STOP_MS 60000
/* What cannot even begin, or tell that it did, is not begun again at once. */
#define AGAIN_MS 10000
#define LOG_TAIL 4096
/* So many jobs that the page was asked for are taken at a time: it cannot keep us from the others. */
#define ASKED_MAX 64

/* A process that this daemon has started. What it does is told by its job, see task.h. */
struct process {
    pid_t pid;
    char *key;
    char *log;       /* path of what it says */
    bool continuous; /* it reads drctl.conf when it begins, and does not end by itself */
};

/* The last start of a job here. */
struct begun {
    int64_t ms; /* monotonic */
    bool failed;
};

struct daemon {
    struct context *context;
    GPtrArray *processes;  /* of struct process */
    GHashTable *begun;     /* key -> struct begun */
    GHashTable *told;      /* problems that were told already */
    int64_t look_ms;       /* monotonic: when something may be due next */
    struct timespec mtime; /* of drctl.conf as it was read */
    struct service service;
    struct web_child page;
    GHashTable *asked; /* key of a job that somebody has asked the page for -> from where */
};

/* --- what is told ----------------------------------------------------------------------------- */

G_GNUC_PRINTF(1, 2) static void tell(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    fflush(stderr);
}

/* The same again is no news. */
static void tell_once(struct daemon *daemon, const char *text)
{
    if (g_hash_table_add(daemon->told, g_strdup(text)))
        tell("drctl: %s", text);
}

static void tell_log(const struct process *process)
{
    AUTO_FD fd = open(process->log, O_RDONLY | O_CLOEXEC);
    char text[LOG_TAIL + 1];
    struct stat st;
    ssize_t len = -1;

    if (fd >= 0 && fstat(fd, &st) == 0)
        len = pread(fd, text, LOG_TAIL, MAX(st.st_size - LOG_TAIL, 0));
    if (len <= 0)
        return;
    text[len] = '\0';
    g_auto(GStrv) lines = g_strsplit(g_strchomp(text), "\n", -1);

    for (char **line = lines; *line; line++)
        tell("%s: %s", process->key, *line);
}

/* --- processes -------------------------------------------------------------------------------- */

static void process_free(void *data)
{
    struct process *process = data;

    g_free(process->key);
    g_free(process->log);
    g_free(process);
}

static bool is_process(const struct daemon *daemon, const char *key)
{
    for (unsigned i = 0; i < daemon->processes->len; i++)
        if (g_str_equal(((struct process *)daemon->processes->pdata[i])->key, key))
            return true;
    return false;
}

static char *log_path(const struct config *config, const char *key)
{
    g_autofree char *name = g_strconcat("job-", key, ".log", NULL);

    g_strdelimit(name, "/", '.');
    return g_build_filename(config->run_dir, name, NULL);
}

/* In the child. It goes on when the daemon dies: so what it says goes into a file. */
G_GNUC_NORETURN static void become(const char *const *argv, const char *log, const char *asked_from)
{
    int null = open("/dev/null", O_RDWR);
    int file = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    dup2(file >= 0 ? file : null, STDERR_FILENO);
    if (asked_from)
        g_setenv(TRAIL_ASKED_FROM, asked_from, TRUE);
    execv("/proc/self/exe", (char **)argv);
    _exit(127);
}

static void start(struct daemon *daemon, const struct scheduled *job)
{
    const struct config *config = daemon->context->config;
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    struct process *process;
    pid_t pid;

    g_ptr_array_add(argv, (char *)"drctl");
    g_ptr_array_add(argv, (char *)"--config");
    g_ptr_array_add(argv, config->dir);
    g_ptr_array_add(argv, (char *)"job");
    g_ptr_array_add(argv, job->key);
    g_ptr_array_add(argv, (char *)"--");
    for (char **word = job->words; *word; word++)
        g_ptr_array_add(argv, *word);
    g_ptr_array_add(argv, NULL);

    process = g_new0(struct process, 1);
    process->key = g_strdup(job->key);
    process->log = log_path(config, job->key);
    process->continuous = job->continuous;
    pid = fork();
    if (pid == 0)
        become((const char *const *)argv->pdata, process->log,
               g_hash_table_lookup(daemon->asked, job->key));
    if (pid < 0) {
        tell("drctl: cannot start %s: %s", job->key, g_strerror(errno));
        process_free(process);
        return;
    }
    process->pid = pid;
    g_ptr_array_add(daemon->processes, process);
    g_hash_table_replace(
        daemon->begun, g_strdup(job->key),
        g_memdup2(&(struct begun){.ms = time_monotonic_ms()}, sizeof(struct begun)));
    tell("%s: begins (%s)", job->key, job->why);
}

static void tell_end(struct daemon *daemon, const struct process *process, int status)
{
    struct begun *begun = g_hash_table_lookup(daemon->begun, process->key);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILED;

    begun->failed = code != EXIT_DONE && code != EXIT_INTERRUPTED;
    if (code != EXIT_DONE)
        tell_log(process);
    if (WIFSIGNALED(status))
        tell("%s: killed by signal %d, it is done again", process->key, WTERMSIG(status));
    else
        tell("%s: %s", process->key,
             code == EXIT_DONE          ? "done"
             : code == EXIT_INTERRUPTED ? "interrupted"
                                        : "failed");
}

static void reap(struct daemon *daemon)
{
    for (unsigned i = 0; i < daemon->processes->len;) {
        const struct process *process = daemon->processes->pdata[i];
        int status;

        if (waitpid(process->pid, &status, WNOHANG) <= 0) {
            i++;
            continue;
        }
        tell_end(daemon, process, status);
        daemon->look_ms = 0;
        g_ptr_array_remove_index(daemon->processes, i);
    }
}

/* --- what is begun ---------------------------------------------------------------------------- */

/* How many are at work: of all, of the store, of one link and of one host. What never ends is not among them, or
 * nothing else would ever begin. */
struct load {
    unsigned jobs, store;
    GHashTable *links, *hosts; /* name of a remote, URI -> how many */
};

static unsigned load_of(GHashTable *loads, const char *name)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(loads, name));
}

static void load_more(GHashTable *loads, const char *name)
{
    g_hash_table_replace(loads, g_strdup(name), GUINT_TO_POINTER(load_of(loads, name) + 1));
}

static void load_add(struct load *load, const struct scheduled *job)
{
    if (job->continuous)
        return;
    load->jobs++;
    load->store += job->of_store;
    if (job->link)
        load_more(load->links, job->link);
    for (char **host = job->hosts; host && *host; host++)
        load_more(load->hosts, *host);
}

static bool load_has_room(const struct load *load, const struct config *config,
                          const struct scheduled *job)
{
    if (job->continuous)
        return true;
    for (char **host = job->hosts; host && *host; host++)
        if (load_of(load->hosts, *host) >= config->host_jobs)
            return false;
    return load->jobs < config->jobs && (!job->of_store || load->store < config->store_jobs) &&
           (!job->link || load_of(load->links, job->link) < config->link_jobs);
}

/* What could not even begin waits. */
static bool is_due(const struct daemon *daemon, const struct scheduled *job, int64_t now_ms)
{
    const struct begun *begun = g_hash_table_lookup(daemon->begun, job->key);

    return job->due_ms <= now_ms &&
           !(begun && begun->failed && time_monotonic_ms() - begun->ms < AGAIN_MS);
}

/* What runs already, or cannot be, is asked for no more. */
static void add_asked(struct daemon *daemon, GPtrArray *schedule)
{
    GHashTableIter iter;
    void *key;

    g_hash_table_iter_init(&iter, daemon->asked);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        g_autoptr(GError) error = NULL;
        const struct scheduled *job = schedule_ask(daemon->context, schedule, key, &error);

        if (error)
            tell("drctl: %s", error->message);
        if (!job || job->runs || is_process(daemon, key))
            g_hash_table_iter_remove(&iter);
    }
}

static void start_due(struct daemon *daemon, const GPtrArray *schedule)
{
    const struct config *config = daemon->context->config;
    g_autoptr(GHashTable) links = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GHashTable) hosts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    struct load load = {.links = links, .hosts = hosts};
    int64_t now_ms = time_now_ms();

    for (unsigned i = 0; i < schedule->len; i++) {
        const struct scheduled *job = schedule->pdata[i];

        if (job->runs || is_process(daemon, job->key))
            load_add(&load, job);
    }
    for (unsigned i = 0; i < schedule->len; i++) {
        const struct scheduled *job = schedule->pdata[i];

        if (job->runs || is_process(daemon, job->key) || !is_due(daemon, job, now_ms) ||
            !load_has_room(&load, config, job))
            continue;
        start(daemon, job);
        g_hash_table_remove(daemon->asked, job->key);
        load_add(&load, job);
    }
}

/* --- the configuration ------------------------------------------------------------------------ */

static struct timespec mtime_of(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? st.st_mtim : (struct timespec){0};
}

/* What is wrong is told, and what was right stays in force. */
static void read_config(struct daemon *daemon, bool asked)
{
    struct context *context = daemon->context;
    struct timespec mtime = mtime_of(context->config->path);
    g_autoptr(GError) error = NULL;
    struct config *config;

    if (!asked && mtime.tv_sec == daemon->mtime.tv_sec && mtime.tv_nsec == daemon->mtime.tv_nsec)
        return;
    daemon->mtime = mtime;
    config = config_load(context->config_dir, &error);
    if (config && !web_child_configure(context, config, &error))
        g_clear_pointer(&config, config_free);
    if (!config) {
        tell("drctl: %s (the configuration that was read before stays in force)", error->message);
        return;
    }
    if (!g_str_equal(config->store, context->config->store)) {
        tell("drctl: %s: the store is %s now, which takes a new start of the daemon", config->path,
             config->store);
        config_free(config);
        return;
    }
    config_free(context->config);
    context->config = config;
    daemon->look_ms = 0;
    tell("drctl: %s was read", config->path);
    /* It reads it when it begins, and is begun again at once. */
    web_child_end(&daemon->page);
    for (unsigned i = 0; i < daemon->processes->len; i++) {
        const struct process *process = daemon->processes->pdata[i];

        if (process->continuous)
            kill(process->pid, SIGTERM);
    }
}

/* --- the loop --------------------------------------------------------------------------------- */

/* The next look is when the first of those that wait is due. */
static int64_t wait_ms(const GPtrArray *schedule)
{
    int64_t now_ms = time_now_ms(), first_ms = now_ms + LOOK_MS;

    for (unsigned i = 0; i < schedule->len; i++) {
        const struct scheduled *job = schedule->pdata[i];

        if (job->due_ms > now_ms)
            first_ms = MIN(first_ms, job->due_ms);
    }
    return first_ms - now_ms;
}

/* How full it is becomes known by somebody who is always there. */
static void look_at_store(struct daemon *daemon)
{
    uint64_t free_bytes, total_bytes;
    g_autoptr(GError) error = NULL;

    if (disk_space(daemon->context->config->store, &free_bytes, &total_bytes, &error))
        space_note(daemon->context->catalog, free_bytes, total_bytes, time_now_ms(), &error);
    if (error)
        tell_once(daemon, error->message);
}

static void look(struct daemon *daemon)
{
    g_autoptr(GPtrArray) problems = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) schedule = schedule_make(daemon->context, &problems, &error);

    look_at_store(daemon);
    for (unsigned i = 0; i < problems->len; i++)
        tell_once(daemon, problems->pdata[i]);
    if (schedule) {
        add_asked(daemon, schedule);
        start_due(daemon, schedule);
    } else {
        tell_once(daemon, error->message);
    }
    daemon->look_ms = time_monotonic_ms() + (schedule ? wait_ms(schedule) : LOOK_MS);
}

/* Whatever is wrong with the page: points are taken all the same. */
static void keep_page(struct daemon *daemon)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *news = NULL;
    char *key, *peer;

    if (!web_child_keep(&daemon->page, daemon->context, &news, &error))
        tell_once(daemon, error->message);
    if (news)
        tell_once(daemon, news);
    for (unsigned i = 0; i < ASKED_MAX && (key = web_child_asked(&daemon->page, &peer)); i++) {
        daemon->look_ms = 0;
        g_hash_table_replace(daemon->asked, key, peer);
    }
}

static void tick(struct daemon *daemon)
{
    read_config(daemon, false);
    reap(daemon);
    keep_page(daemon);
    if (time_monotonic_ms() >= daemon->look_ms)
        look(daemon);
    service_alive(&daemon->service, daemon->processes->len);
}

/* Jobs stop where they can be gone on with. */
static void stop(struct daemon *daemon)
{
    int64_t until_ms = time_monotonic_ms() + STOP_MS;

    service_stopping(&daemon->service);
    web_child_end(&daemon->page);
    for (unsigned i = 0; i < daemon->processes->len; i++)
        kill(((struct process *)daemon->processes->pdata[i])->pid, SIGTERM);
    while (daemon->processes->len > 0 && time_monotonic_ms() < until_ms) {
        g_usleep(50000);
        reap(daemon);
    }
    for (unsigned i = 0; i < daemon->processes->len; i++)
        tell("%s: does not stop, and goes on without the daemon",
             ((struct process *)daemon->processes->pdata[i])->key);
}

static void run_until_stopped(struct daemon *daemon)
{
    static const struct timespec tick_time = {.tv_nsec = TICK_MS % 1000 * 1000000,
                                              .tv_sec = TICK_MS / 1000};
    sigset_t signals;
    int signal = 0;

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    service_ready(&daemon->service);
    while (signal != SIGTERM && signal != SIGINT) {
        if (signal == SIGHUP)
            read_config(daemon, true);
        tick(daemon);
        signal = sigtimedwait(&signals, NULL, &tick_time);
    }
    stop(daemon);
}

static bool cmd_daemon(struct context *context, GError **error)
{
    struct catalog *catalog = context_catalog(context, error);
    g_autofree char *path = catalog ? schedule_lock_path(context) : NULL;
    AUTO(file_lock) lock = path ? file_lock_take(path, "this site's daemon", error) : NULL;
    struct daemon daemon = {.context = context};

    if (!lock || !web_child_configure(context, context->config, error) ||
        !dir_make(context->config->run_dir, 0711, error))
        return false;
    web_child_init(&daemon.page);
    daemon.asked = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    daemon.processes = g_ptr_array_new_with_free_func(process_free);
    daemon.begun = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    daemon.told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    daemon.mtime = mtime_of(context->config->path);
    service_open(&daemon.service);
    run_until_stopped(&daemon);
    service_close(&daemon.service);
    g_ptr_array_unref(daemon.processes);
    g_hash_table_unref(daemon.begun);
    g_hash_table_unref(daemon.told);
    g_hash_table_unref(daemon.asked);
    return true;
}

/* --- what it is going to do ------------------------------------------------------------------- */

static void print_schedule(const GPtrArray *schedule, int64_t now_ms)
{
    static const char *const headers[] = {"JOB", "NEXT", "WHY", "LAST", "PROBLEM", NULL};
    AUTO(table) table = table_new(headers);

    for (unsigned i = 0; i < schedule->len; i++) {
        const struct scheduled *job = schedule->pdata[i];
        const struct task_record *last = &job->last;
        g_autofree char *in = duration_format((double)(job->due_ms - now_ms) / 1000);
        g_autofree char *ago = duration_format((double)(now_ms - last->started_ms) / 1000);
        g_autofree char *next = job->runs                  ? g_strdup("running")
                                : job->due_ms == INT64_MAX ? NULL
                                : job->due_ms <= now_ms    ? g_strdup("now")
                                                           : g_strconcat("in ", in, NULL);
        g_autofree char *before = last->started_ms ? g_strconcat(ago, " ago", NULL) : NULL;

        table_row(table, (const char *[]){job->key, next, job->why, before,
                                          last->error ? last->error : ""});
    }
    table_print(table);
}

static bool cmd_schedule(struct context *context, GError **error)
{
    g_autoptr(GPtrArray) problems = NULL;
    g_autoptr(GPtrArray) schedule = NULL;

    if (!context_catalog(context, error))
        return false;
    schedule = schedule_make(context, &problems, error);
    if (!schedule)
        return false;
    if (context->json) {
        json_auto_t *json = schedule_json(schedule);

        print_json(json);
    } else {
        print_schedule(schedule, time_now_ms());
    }
    for (unsigned i = 0; i < problems->len; i++)
        progress_note(context->progress, "%s", (char *)problems->pdata[i]);
    if (!schedule_is_kept(context))
        progress_note(context->progress,
                      "no daemon runs here: nothing of this happens by itself; %s",
                      service_remedy(context->config_dir));
    return true;
}

static const struct option daemon_options[] = {
    {WEB_CHILD_OPTION, "ADDRESS:PORT",
     "serve the web page there, as listen in [web] of drctl.conf"},
    {0},
};

const struct command daemon_commands[] = {
    {
        .name = "daemon",
        .args = "",
        .flags = COMMAND_CHANGES,
        .summary = "do by itself what drctl.conf and the recovery plans say, when it is due",
        .text =
            "Starts points, copies, verification, pruning and test failovers, each as a process of "
            "its\n"
            "own, and stays in the foreground. SIGHUP reads drctl.conf anew, which a change of\n"
            "it does, too; SIGTERM stops jobs at a safe place.",
        .options = daemon_options,
        .run = cmd_daemon,
    },
    {
        .name = "schedule",
        .args = "",
        .flags = COMMAND_JSON,
        .summary = "show what the daemon does next, and how that went last",
        .run = cmd_schedule,
    },
    {0},
};
