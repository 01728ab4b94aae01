/* SPDX-License-Identifier: Apache-2.0 */
/* What drctl.conf says about the page of the daemon. */
#include <arpa/inet.h>
#include <string.h>

#include "metadata/config-private.h"

void web_config_init(struct web_config *web, const char *dir)
{
    web->tls = true;
    web->certificate = g_build_filename(dir, "web-certificate.pem", NULL);
    web->key = g_build_filename(dir, "web-key.pem", NULL);
    web->token_file = g_build_filename(dir, "web-token", NULL);
}

void web_config_clear(struct web_config *web)
{
    g_free(web->address);
    g_free(web->certificate);
    g_free(web->key);
    g_free(web->token_file);
    g_free(web->client_ca);
}

static bool is_loopback(const char *address)
{
    struct in6_addr six;
    struct in_addr four;

    if (inet_pton(AF_INET, address, &four) == 1)
        return ntohl(four.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, address, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

bool web_config_listen(struct web_config *web, const char *text, GError **error)
{
    g_autofree char *user = NULL, *host = NULL;
    bool has_port = strrchr(text, ':') > strrchr(text, ']');
    uint16_t port;

    if (strchr(text, '@') || !has_port || !address_parse(text, &user, &host, &port, NULL) ||
        !g_hostname_is_ip_address(host) || strchr(host, '%'))
        return fail(error, ERROR_CONFIG,
                    "'%s' is not ADDRESS:PORT, such as 127.0.0.1:8443 or [::1]:8443", text);
    if (!web->tls && !is_loopback(host))
        return fail(error, ERROR_CONFIG,
                    "'%s' can be reached from other machines, and without TLS they could read the "
                    "token: remove tls = no, or listen on 127.0.0.1 or [::1]",
                    text);
    g_free(web->address);
    web->address = g_steal_pointer(&host);
    web->port = port;
    return true;
}

static bool read_listen(const struct reader *reader, struct web_config *web, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) problem = NULL;

    if (!keyfile_string(reader->keyfile, reader->group, "listen", &text, error))
        return false;
    return !text || web_config_listen(web, text, &problem) ||
           keyfile_fail(reader->keyfile, reader->group, "listen", error, "%s", problem->message);
}

/* Half of a pair would be used with the other half of another one. */
static bool check_pair(const struct reader *reader, struct web_config *web, GError **error)
{
    bool certificate = keyfile_has(reader->keyfile, reader->group, "certificate");

    web->own_certificate = certificate;
    if (certificate != keyfile_has(reader->keyfile, reader->group, "key"))
        return keyfile_fail(reader->keyfile, reader->group, certificate ? "key" : "certificate",
                            error, "is missing: certificate and key go together");
    return web->tls || !web->client_ca ||
           keyfile_fail(reader->keyfile, reader->group, "client-ca", error,
                        "needs TLS: remove tls = no");
}

bool config_read_web(const struct reader *reader, GError **error)
{
    static const char *const keys[] = {"listen",     "tls",       "certificate", "key",
                                       "token-file", "client-ca", "actions",     NULL};
    struct web_config *web = &reader->config->web;
    const char *dir = reader->config->dir;

    return keyfile_check_keys(reader->keyfile, reader->group, keys, error) &&
           keyfile_switch(reader->keyfile, reader->group, "tls", &web->tls, error) &&
           read_listen(reader, web, error) &&
           config_read_path(reader, "certificate", dir, &web->certificate, error) &&
           config_read_path(reader, "key", dir, &web->key, error) &&
           config_read_path(reader, "token-file", dir, &web->token_file, error) &&
           config_read_path(reader, "client-ca", dir, &web->client_ca, error) &&
           keyfile_switch(reader->keyfile, reader->group, "actions", &web->actions, error) &&
           check_pair(reader, web, error);
}
