/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/web-child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "web/web.h"

#define AGAIN_MS 10000
#define KEY_MAX 512

bool web_child_configure(const struct context *context, struct config *config, GError **error)
{
    const char *address = option_value(context, WEB_CHILD_OPTION);

    return !address || web_config_listen(&config->web, address, error);
}

void web_child_init(struct web_child *self)
{
    *self = (struct web_child){.listener = -1, .asked = -1};
}

/* In the child. It has nothing that it would have to put in order, so it is just killed. */
G_GNUC_NORETURN static void become(const char *const *argv, pid_t daemon, int listener, int asked)
{
    sigset_t none;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != daemon)
        _exit(127);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    dup2(listener, STDIN_FILENO);
    dup2(asked, STDOUT_FILENO);
    execv("/proc/self/exe", (char **)argv);
    _exit(127);
}

static bool begin(struct web_child *self, struct context *context, GError **error)
{
    const char *address = option_value(context, WEB_CHILD_OPTION);
    const char *const argv[] = {
        "drctl", "--config", context->config->dir, "web", address ? "--" WEB_CHILD_OPTION : NULL,
        address, NULL};
    pid_t daemon = getpid();
    int ends[2];

    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return fail_errno(error, errno, "the web page does not begin");
    self->pid = fork();
    if (self->pid == 0)
        become(argv, daemon, self->listener, ends[1]);
    close(ends[1]);
    self->asked = ends[0];
    self->line = g_string_new(NULL);
    if (self->pid > 0)
        return true;
    web_child_end(self);
    return fail_errno(error, errno, "the web page does not begin");
}

static void forget(struct web_child *self)
{
    self->pid = 0;
    fd_cleanup(&self->asked);
    self->asked = -1;
    if (self->line)
        g_string_free(self->line, TRUE);
    self->line = NULL;
}

/* False: it has ended by itself. */
static bool lives(struct web_child *self, GError **error)
{
    int status;

    if (waitpid(self->pid, &status, WNOHANG) <= 0)
        return true;
    forget(self);
    if (WIFSIGNALED(status))
        return fail(error, ERROR_FAILED, "the web page was killed by signal %d, it is begun again",
                    WTERMSIG(status));
    return fail(error, ERROR_FAILED, "the web page has ended (exit status %d), it is begun again",
                WEXITSTATUS(status));
}

bool web_child_keep(struct web_child *self, struct context *context, char **news, GError **error)
{
    const struct config *config = context->config;
    int64_t now_ms = time_monotonic_ms();

    if (!config->web.address || (self->pid > 0 && lives(self, error)))
        return true;
    if (*error)
        return false;
    if (now_ms < self->again_ms)
        return true;
    self->again_ms = now_ms + AGAIN_MS;
    if (self->listener < 0)
        self->listener = web_listen(&config->web, error);
    return self->listener >= 0 && web_prepare(config, news, error) && begin(self, context, error);
}

static char *end_of_line(const struct web_child *self)
{
    return self->line ? memchr(self->line->str, '\n', self->line->len) : NULL;
}

/* Not more is read than is taken. What is longer than any line of ours is none. */
static void hear(struct web_child *self)
{
    char text[KEY_MAX];
    ssize_t len = self->asked >= 0 ? read(self->asked, text, sizeof(text)) : -1;

    if (len <= 0)
        return;
    if (self->line->len > KEY_MAX)
        g_string_truncate(self->line, 0);
    g_string_append_len(self->line, text, len);
}

char *web_child_asked(struct web_child *self, char **peer)
{
    char *end = end_of_line(self), *key, *blank;

    if (!end) {
        hear(self);
        end = end_of_line(self);
    }
    if (!end)
        return NULL;
    key = g_strndup(self->line->str, (size_t)(end - self->line->str));
    g_string_erase(self->line, 0, end + 1 - self->line->str);
    /* Addresses have no blanks. */
    blank = strrchr(key, ' ');
    *peer = g_strdup(blank ? blank + 1 : "");
    if (blank)
        *blank = '\0';
    return key;
}

void web_child_end(struct web_child *self)
{
    if (self->pid > 0) {
        kill(self->pid, SIGKILL);
        waitpid(self->pid, NULL, 0);
    }
    forget(self);
    fd_cleanup(&self->listener);
    self->listener = -1;
    self->again_ms = 0;
}
