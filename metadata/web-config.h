/* SPDX-License-Identifier: Apache-2.0 */
/*
 * [web] of drctl.conf: the page that `drctl daemon` serves. Without an address there is none.
 *
 *     [web]
 *     listen = 127.0.0.1:8443             ADDRESS:PORT, IPv6 in brackets; also `drctl daemon --http`
 *     tls = yes                           no: only on loopback, behind something that has TLS
 *     certificate = web-certificate.pem   relative to the configuration directory; both are made if
 *     key = web-key.pem                   they are not named and not there
 *     token-file = web-token              the same
 *     client-ca = ca.pem                  whoever has a certificate of it is let in; default: none
 *     actions = no                        may be asked for points, verification and test failovers
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct web_config {
    char *address; /* numeric, without brackets; NULL: there is no page */
    uint16_t port;
    bool tls;
    bool own_certificate;                 /* it was named, so it is not made */
    char *certificate, *key, *token_file; /* absolute */
    char *client_ca;                      /* absolute, or NULL */
    bool actions;
};

/* Let TEXT be where it listens. ERROR_CONFIG: it is no address, or others than this machine could listen to it without
 * TLS. */
bool web_config_listen(struct web_config *web, const char *text, GError **error);
