/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <glib-unix.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/error.h"
#include "common/format.h"
#include "common/process.h"

#define TICK_MS 200        /* between two looks at the interrupt flag */
#define STDERR_KEEP 4096   /* bytes of the end of stderr */
#define STDERR_LINES 3     /* lines of it that an error shows */
#define GROUP_END_MS 10000 /* for a process group that was asked to end */

static const struct {
    const char *program, *package;
} packages[] = {
    {"qemu-img", "qemu-utils"},        {"qemu-nbd", "qemu-utils"},
    {"ssh", "openssh-client"},         {"ssh-keygen", "openssh-client"},
    {"ssh-keyscan", "openssh-client"}, {"virsh", "libvirt-clients"},
};

/* A child and what it has said so far. */
struct process {
    char *name;
    GPid pid;
    int pidfd, out, err;
    GString *out_text, *err_text;
};

static struct process process_of(const char *const *argv)
{
    return (struct process){.name = g_path_get_basename(argv[0]),
                            .pidfd = -1,
                            .out = -1,
                            .err = -1,
                            .out_text = g_string_new(NULL),
                            .err_text = g_string_new(NULL)};
}

/* Its wait status; until then its number is not given away. */
static int reap(struct process *process)
{
    int status = 0;

    while (waitpid(process->pid, &status, 0) < 0 && errno == EINTR)
        continue;
    process->pid = 0;
    return status;
}

/* A child that still runs here is one that we gave up. */
static void process_clear(struct process *process)
{
    if (process->pid) {
        kill(-process->pid, SIGKILL);
        kill(process->pid, SIGKILL);
        reap(process);
    }
    g_free(process->name);
    fd_cleanup(&process->pidfd);
    fd_cleanup(&process->out);
    fd_cleanup(&process->err);
    g_string_free(process->out_text, TRUE);
    g_string_free(process->err_text, TRUE);
}
#define AUTO_PROCESS __attribute__((cleanup(process_clear))) struct process

static bool fail_spawn(const char *name, const GError *cause, GError **error)
{
    if (!g_error_matches(cause, G_SPAWN_ERROR, G_SPAWN_ERROR_NOENT))
        return fail(error, ERROR_FAILED, "cannot run %s: %s", name, cause->message);
    for (size_t i = 0; i < G_N_ELEMENTS(packages); i++)
        if (strcmp(packages[i].program, name) == 0)
            return fail(error, ERROR_FAILED,
                        "cannot run %s: it is not installed; on Debian: apt-get install %s", name,
                        packages[i].package);
    return fail(error, ERROR_FAILED, "cannot run %s: it is not installed", name);
}

/* In the child: nobody else would end it when we are killed, and what it writes would be written
 * beside what we start again. */
static void die_with_parent(void *parent)
{
    setpgid(0, 0); /* what it starts is given up with it */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != GPOINTER_TO_INT(parent))
        _exit(127);
}

static bool process_start(struct process *process, const char *const *argv, GError **error)
{
    GSpawnFlags flags = G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_CLOEXEC_PIPES;
    g_auto(GStrv) env = g_environ_setenv(g_get_environ(), "LC_ALL", "C", TRUE);
    g_autoptr(GError) cause = NULL;

    if (!g_spawn_async_with_pipes(NULL, (char **)argv, env, flags, die_with_parent,
                                  GINT_TO_POINTER(getpid()), &process->pid, NULL, &process->out,
                                  &process->err, &cause))
        return fail_spawn(process->name, cause, error);
    process->pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0);
    if (process->pidfd < 0)
        return fail_errno(error, errno, "cannot watch %s", process->name);
    g_unix_set_fd_nonblocking(process->out, TRUE, NULL);
    g_unix_set_fd_nonblocking(process->err, TRUE, NULL);
    return true;
}

/* Takes what is there, but no more than a pipe can hold: a child that never stops writing must not
 * keep us from looking at the clock. KEEP is how much of the end is of interest. */
static void drain(int *fd, GString *into, size_t keep)
{
    char buffer[16 << 10];

    for (unsigned i = 0; *fd >= 0 && i < (1 << 20) / sizeof(buffer); i++) {
        ssize_t got = read(*fd, buffer, sizeof(buffer));

        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got <= 0) {
            fd_cleanup(fd);
            *fd = -1;
            return;
        }
        g_string_append_len(into, buffer, got);
        if (into->len > keep)
            g_string_erase(into, 0, (gssize)(into->len - keep));
    }
}

/* What is done whenever it has said something, or a little time has passed; ENDED: for the last time. */
typedef bool tick_fn(void *context, struct process *process, bool ended, GError **error);

/* Until the child itself ends: whoever inherited its pipes may live on. KEEP is how much of the end of its
 * output is of interest. */
static bool process_wait(struct process *process, size_t keep, tick_fn *tick, void *context,
                         GError **error)
{
    for (;;) {
        struct pollfd polled[] = {{.fd = process->out, .events = POLLIN},
                                  {.fd = process->err, .events = POLLIN},
                                  {.fd = process->pidfd, .events = POLLIN}};
        bool ended;

        poll(polled, G_N_ELEMENTS(polled), TICK_MS);
        ended = polled[2].revents != 0;
        drain(&process->out, process->out_text, keep);
        drain(&process->err, process->err_text, STDERR_KEEP);
        if (!tick(context, process, ended, error))
            return false;
        if (ended)
            return true;
        if (!interrupt_check(error))
            return false;
    }
}

/* The last lines of stderr in one line, without the name that most programs put before them. */
static char *last_words(const struct process *process)
{
    g_auto(GStrv) lines = g_strsplit(process->err_text->str, "\n", -1);
    g_autofree char *prefix = g_strconcat(process->name, ": ", NULL);
    g_autoptr(GString) words = g_string_new(NULL);
    unsigned wanted = STDERR_LINES;

    for (unsigned i = g_strv_length(lines); i-- > 0 && wanted;) {
        const char *line = g_strstrip(lines[i]);

        if (g_str_has_prefix(line, prefix))
            line += strlen(prefix);
        if (!*line)
            continue;
        if (words->len)
            g_string_prepend(words, "; ");
        g_string_prepend(words, line);
        wanted--;
    }
    return g_utf8_make_valid(words->str, (gssize)words->len);
}

static bool process_result(struct process *process, GError **error)
{
    g_autofree char *words = last_words(process);
    int status = reap(process);

    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    if (WIFSIGNALED(status))
        return fail(error, ERROR_FAILED, "%s: killed by signal %d (%s)", process->name,
                    WTERMSIG(status), strsignal(WTERMSIG(status)));
    if (!*words)
        return fail(error, ERROR_FAILED, "%s: exit status %d", process->name, WEXITSTATUS(status));
    return fail(error, ERROR_FAILED, "%s: %s", process->name, words);
}

struct patience {
    unsigned timeout_s; /* 0: endless */
    int64_t deadline_ms;
};

static bool have_patience(void *context, struct process *process, bool ended, GError **error)
{
    const struct patience *patience = context;

    return ended || !patience->timeout_s || time_monotonic_ms() < patience->deadline_ms ||
           fail(error, ERROR_FAILED, "%s: gave up after %u s", process->name, patience->timeout_s);
}

bool process_run(const char *const *argv, unsigned timeout_s, char **output, GError **error)
{
    AUTO_PROCESS process = process_of(argv);
    struct patience patience = {timeout_s, time_monotonic_ms() + (int64_t)timeout_s * 1000};

    if (!interrupt_check(error) || !process_start(&process, argv, error) ||
        !process_wait(&process, output ? SIZE_MAX : 0, have_patience, &patience, error) ||
        !process_result(&process, error))
        return false;
    if (output)
        *output = g_strdup(process.out_text->str);
    return true;
}

/* --- Watched -------------------------------------------------------------------------------- */

/* Pass on the lines that are whole; those that are LAST need no end. */
static bool take_lines(struct process *process, const struct process_watch *watch, bool last,
                       GError **error)
{
    GString *text = process->err_text;

    while (text->len > 0) {
        const char *end = memchr(text->str, '\n', text->len);
        size_t len = end ? (size_t)(end - text->str) : text->len;
        g_autofree char *line = NULL;

        if (!end && !last)
            return true;
        line = g_strndup(text->str, len);
        g_string_erase(text, 0, (gssize)MIN(len + 1, text->len));
        if (watch->line && *g_strchomp(line) && !watch->line(watch->context, line, error))
            return false;
    }
    return true;
}

static bool look_after(void *context, struct process *process, bool ended, GError **error)
{
    const struct process_watch *watch = context;

    if (process->out_text->len > watch->output_max)
        return fail(error, ERROR_FAILED, "%s: printed more than %zu bytes", process->name,
                    watch->output_max);
    return take_lines(process, watch, ended, error) &&
           (ended || !watch->look || watch->look(watch->context, error));
}

/* Who is asked can still put things in order, such as to thaw a guest. Nobody reads what it says. */
static void end_group(struct process *process)
{
    int64_t deadline = time_monotonic_ms() + GROUP_END_MS;
    struct pollfd polled = {.fd = process->pidfd, .events = POLLIN};

    kill(-process->pid, SIGTERM);
    fd_cleanup(&process->out);
    fd_cleanup(&process->err);
    process->out = process->err = -1;
    while (poll(&polled, 1, TICK_MS) <= 0 && time_monotonic_ms() < deadline)
        continue;
}

bool process_watch(const char *const *argv, const struct process_watch *watch, char **output,
                   int *status, GError **error)
{
    AUTO_PROCESS process = process_of(argv);
    int wait_status;

    if (!interrupt_check(error) || !process_start(&process, argv, error))
        return false;
    if (!process_wait(&process, watch->output_max + 1, look_after, (void *)watch, error)) {
        end_group(&process);
        return false;
    }
    /* What it has left behind has no use any more. */
    kill(-process.pid, SIGKILL);
    wait_status = reap(&process);
    *status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
    *output = g_strdup(process.out_text->str);
    return true;
}

/* --- Beside us ------------------------------------------------------------------------------ */

struct child {
    struct process process;
};

struct child *child_start(const char *const *argv, GError **error)
{
    AUTO(child) child = g_new0(struct child, 1);

    child->process = process_of(argv);
    return process_start(&child->process, argv, error) ? g_steal_pointer(&child) : NULL;
}

bool child_runs(struct child *child, GError **error)
{
    struct process *process = &child->process;
    struct pollfd polled = {.fd = process->pidfd, .events = POLLIN};
    bool ended = process->pid == 0 || poll(&polled, 1, 0) > 0;

    drain(&process->out, process->out_text, 0);
    drain(&process->err, process->err_text, STDERR_KEEP);
    if (!ended)
        return true;
    if (process->pid == 0 || process_result(process, error))
        fail(error, ERROR_FAILED, "%s: ended too early", process->name);
    return false;
}

void child_free(struct child *child)
{
    if (!child)
        return;
    process_clear(&child->process);
    g_free(child);
}
