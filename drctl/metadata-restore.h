/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects of a pool bundle become what they were: first what is to be done with each is decided, then all of it is
 * shown, asked for and done. Nothing is started, and nothing that is there is replaced unless that was asked for.
 * Safe to repeat: what is the same as in the bundle is left alone.
 */
#pragma once

#include "drctl/command.h"

enum restore_action {
    RESTORE_SAME,    /* it is here as it is in the bundle */
    RESTORE_MAKE,    /* it is not here */
    RESTORE_REPLACE, /* another one is here, and is to go */
    RESTORE_KEEP,    /* another one is here, and stays */
    RESTORE_BLOCKED, /* it cannot be: WHY */
    RESTORE_NONE,    /* there is nothing to restore: WHY */
};
const char *restore_action_name(enum restore_action action);

struct restore_todo {
    const struct pool_object *object; /* borrowed */
    enum restore_action action;
    char *why;      /* or NULL */
    uint8_t *value; /* of a secret, or NULL */
    size_t value_len;
    bool done;
    char *error; /* why it could not be done, or NULL */
};

struct metadata_restore {
    struct context *context;
    const struct pool *pool; /* borrowed */
    bool replace;            /* what is there, too */
    bool all; /* nothing was named: of what hosts have each for itself, the one of this host */
    const char *passphrase; /* file of the one that values of secrets are sealed with, or NULL */
    struct host
        *host;        /* borrowed: where domains, networks and so on go; NULL: none is among them */
    char *host_name;  /* of it, see pool_host_name() */
    GPtrArray *todos; /* of struct restore_todo */
};
/* Decide about OBJECTS (of struct pool_object). */
bool metadata_restore_plan(struct metadata_restore *restore, const GPtrArray *objects,
                           GError **error);
/* Do it; what fails is told in its todo, and the rest goes on. */
void metadata_restore_do(struct metadata_restore *restore);
void metadata_restore_clear(struct metadata_restore *restore);

/* Write OBJECTS as plain files into DIR, which must not be there, or be empty: DIR/KIND/NAME with the extension of
 * its kind. Files have mode 0600; what they had is in DIR/host-files.json. */
bool metadata_write_files(const struct pool *pool, const GPtrArray *objects, const char *dir,
                          GError **error);
