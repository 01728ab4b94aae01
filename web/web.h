/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public header of web/: the page of the daemon, see drctl(1), THE WEB PAGE, and ARCHITECTURE.md, The page. It shows
 * what read-only commands of drctl print, to whoever has the token, and opens neither catalog nor libvirt.
 */
#pragma once

#include "metadata/metadata.h"

/* A socket that listens where WEB says. */
int web_listen(const struct web_config *web, GError **error);
/* Make what CONFIG does not name and is not there: token, key and certificate. *TEXT (g_free) says where the page
 * is, and where the token. */
bool web_prepare(const struct config *config, char **text, GError **error);

struct web_options {
    const struct config *config;
    const char *program; /* drctl */
    int fd;              /* of web_listen() */
    /* A job was asked for: "replicate/shop", "verify", "test/shop", from the address PEER. False: nobody hears it. */
    bool (*ask)(void *context, const char *job, const char *peer);
    void *context;
};
/* Serve until interrupt_request(). */
bool web_serve(const struct web_options *options, GError **error);
