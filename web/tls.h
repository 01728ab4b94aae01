/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates, by GnuTLS, which is what libmicrohttpd speaks TLS with.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "metadata/metadata.h"

/* What a server shows, PEM. */
struct tls_files {
    char *certificate, *key;
    char *client_ca; /* or NULL */
};
void tls_files_clear(struct tls_files *files);
#define AUTO_TLS_FILES __attribute__((cleanup(tls_files_clear))) struct tls_files
/* Read them, as WEB says. ERROR_CONFIG: they do not fit together, or the key is open to others. */
bool tls_files_load(const struct web_config *web, struct tls_files *files, GError **error);

/* Make a key and a certificate that vouches for itself where WEB names none and there are none: for the host's name, "localhost" and the address
 * that is listened to, for ten years. */
bool tls_make(const struct web_config *web, GError **error);
/* "AB:CD:...": the SHA-256 of the certificate in PEM text; g_free */
char *tls_fingerprint(const char *certificate, GError **error);
/* Has the other side of SESSION (gnutls_session_t) a certificate of a client that an authority of ours has signed? */
bool tls_is_certified(void *session);
