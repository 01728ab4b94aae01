/* SPDX-License-Identifier: Apache-2.0 */
/* The life of the page. */
#include "web/web.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "web/server.h"
#include "web/routes.h"

#define BACKLOG 64
#define LOOK_US 250000

static socklen_t fill_address(const struct web_config *web, struct sockaddr_storage *storage)
{
    struct sockaddr_in *four = (struct sockaddr_in *)storage;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)storage;

    memset(storage, 0, sizeof(*storage));
    if (inet_pton(AF_INET, web->address, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons(web->port);
        return sizeof(*four);
    }
    inet_pton(AF_INET6, web->address, &six->sin6_addr);
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(web->port);
    return sizeof(*six);
}

int web_listen(const struct web_config *web, GError **error)
{
    struct sockaddr_storage address;
    socklen_t len = fill_address(web, &address);
    AUTO_FD fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(fd, (struct sockaddr *)&address, len) < 0 || listen(fd, BACKLOG) < 0) {
        fail_errno(error, errno, "the web page cannot listen on port %u of %s", web->port,
                   web->address);
        return -1;
    }
    return fd_steal(&fd);
}

bool web_prepare(const struct config *config, char **text, GError **error)
{
    const struct web_config *web = &config->web;
    g_autofree char *fingerprint = NULL, *token = NULL;
    const char *open = strchr(web->address, ':') ? "[" : "", *close = *open ? "]" : "";
    AUTO_TLS_FILES files = {0};

    if (!access_token_make(web->token_file, error) ||
        !(token = access_token_read(web->token_file, error)))
        return false;
    if (web->tls) {
        if (!tls_make(web, error) || !tls_files_load(web, &files, error) ||
            !(fingerprint = tls_fingerprint(files.certificate, error)))
            return false;
    }
    *text = g_strdup_printf("the web page is at %s://%s%s%s:%u/, its token in %s%s%s",
                            web->tls ? "https" : "http", open, web->address, close, web->port,
                            web->token_file,
                            fingerprint ? "; SHA-256 fingerprint of its certificate: " : "",
                            fingerprint ? fingerprint : "");
    return true;
}

bool web_serve(const struct web_options *options, GError **error)
{
    const struct web_config *web = &options->config->web;
    AUTO(access) access = access_new(web->token_file);
    AUTO(data) data = data_new(options->program, options->config->dir);
    struct routes routes = {options, access, data};
    AUTO_TLS_FILES files = {0};
    struct server_options server_options = {options->fd, web->tls ? &files : NULL, routes_answer,
                                            &routes};

    if (web->tls && !tls_files_load(web, &files, error))
        return false;
    AUTO(server) server = server_start(&server_options, error);

    if (!server)
        return false;
    while (interrupt_check(NULL)) {
        server_look(server);
        g_usleep(LOOK_US);
    }
    return true;
}
