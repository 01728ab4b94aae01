/* SPDX-License-Identifier: Apache-2.0 */
/* The page of the daemon, which begins it: stdin is the socket that listens, stdout leads to the daemon. */
#include "drctl/web-child.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "web/web.h"

/* One write of that length is never in part. */
static bool ask(void *context, const char *job, const char *peer)
{
    g_autofree char *line = g_strconcat(job, " ", peer, "\n", NULL);

    return write(STDOUT_FILENO, line, strlen(line)) == (ssize_t)strlen(line);
}

static bool cmd_web(struct context *context, GError **error)
{
    struct web_options options = {.program = "/proc/self/exe", .fd = STDIN_FILENO, .ask = ask};
    int listens = 0;
    socklen_t len = sizeof(listens);

    if (!context_config(context, error) || !web_child_configure(context, context->config, error))
        return false;
    if (!context->config->web.address ||
        getsockopt(STDIN_FILENO, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0 || !listens)
        return fail(error, ERROR_USAGE, "this is for drctl daemon, which serves the web page");
    options.config = context->config;
    return web_serve(&options, error);
}

static const struct option web_options[] = {
    {WEB_CHILD_OPTION, "ADDRESS:PORT", "where it listens"},
    {0},
};

const struct command web_commands[] = {
    {
        .name = "web",
        .args = "",
        .flags = COMMAND_INTERNAL,
        .summary = "serve the web page of the daemon",
        .options = web_options,
        .run = cmd_web,
    },
    {0},
};
