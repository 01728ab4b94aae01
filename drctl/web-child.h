/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process that serves the page of the daemon (web/web.h), as the daemon sees it: it is begun again when it ends, and
 * dies with the daemon. Nothing here waits for it.
 */
#pragma once

#include "drctl/command.h"

#define WEB_CHILD_OPTION "http" /* of the commands daemon and web */

struct web_child {
    pid_t pid;        /* 0: it does not run */
    int listener;     /* -1: not yet */
    int asked;        /* what it says, or -1 */
    GString *line;    /* of what it says */
    int64_t again_ms; /* monotonic: not before that */
};

/* Let CONFIG say what the option of CONTEXT says, if it is given. */
bool web_child_configure(const struct context *context, struct config *config, GError **error);
void web_child_init(struct web_child *child);
/* To be called often: see that it runs, if it shall. *NEWS (g_free) is what is to be told, or NULL. */
bool web_child_keep(struct web_child *child, struct context *context, char **news, GError **error);
/* The next job that somebody has asked it for, or NULL; g_free. *PEER (g_free): the address that it was asked from. */
char *web_child_asked(struct web_child *child, char **peer);
/* It may be begun again at once then, at another address, too. */
void web_child_end(struct web_child *child);
