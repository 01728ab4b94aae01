/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whom to tell when something is wrong: [alert NAME] of drctl.conf, one way each.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct alert {
    char *name;
    char **mail;                          /* addresses, or NULL */
    char *smtp;                           /* URL of the mail server, with mail */
    char *smtp_user, *smtp_password_file; /* or NULL */
    char *from;
    char **command; /* words, or NULL */
    char *webhook;  /* URL, or NULL */
    char *
        ca_file; /* that the server's certificate is checked against, or NULL: those of the system */
    bool warnings;    /* also of warnings, not only of what is critical */
    int64_t again_ms; /* how often of what goes on; 0: once */
};
