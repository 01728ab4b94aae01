/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One message by one way: mail (SMTP, with TLS unless the server is this machine), an HTTP POST, or a command.
 */
#pragma once

#include "metadata/metadata.h"

struct message {
    const char *severity; /* "critical", "warning" or "ok" */
    const char *subject;  /* one line */
    const char *text;     /* lines */
    const json_t *json;   /* the same for programs */
};

/* ERROR_NETWORK or ERROR_FAILED when it could not be delivered. */
bool message_deliver(const struct alert *alert, const struct message *message, GError **error);
