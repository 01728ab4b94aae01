/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One question and its answer, without anything of the server that carries them.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "common/common.h"

#define REQUEST_FORM_MAX 4096 /* bytes */
#define REQUEST_FIELDS_MAX 32 /* of a query or a form */

struct request {
    bool post;                 /* else GET or HEAD */
    const char *path;          /* decoded, from '/' on */
    const char *peer;          /* numeric address */
    const char *authorization; /* headers; NULL: not there */
    const char *origin, *host;
    const char *session; /* cookie, or NULL */
    bool certified;      /* by a client certificate */
    GHashTable *query;   /* name -> value */
    GHashTable *form;    /* the same of the body of a POST; NULL: it is none */
};

struct reply {
    unsigned status;
    const char *type;
    GBytes *body;
    GHashTable *headers; /* besides those that all have; name -> value */
};
void reply_init(struct reply *reply);
void reply_clear(struct reply *reply);
#define AUTO_REPLY __attribute__((cleanup(reply_clear))) struct reply
void reply_header(struct reply *reply, const char *name, const char *value);
/* Takes TEXT, of g_malloc. */
void reply_text(struct reply *reply, unsigned status, const char *type, char *text);

/* "a=b&c=d+e%21" of a form: name -> value, of the first of each name. NULL: it is not one. g_hash_table_unref */
GHashTable *form_parse(const char *text, size_t len);
/* What stands behind "Bearer ", or NULL. */
const char *bearer_of(const char *authorization);
/* Was the question asked by a page of ours? A browser says in ORIGIN which page it was. */
bool origin_is_ours(const char *origin, const char *host, bool tls);
/* Is TEXT a place at this server to go on to? Never one of another. */
bool place_is_ours(const char *text);
/* May TEXT be an argument of a command? Not an option, not empty, no control characters. */
bool argument_is_safe(const char *text);
