/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pool bundle is made of, as people call it: KIND/NAME, such as domain/db, network/lan or file/etc/hosts.
 * Of domains the name is the VM's; of secrets the UUID. Where several hosts have different things of one name, those
 * of all but the first host are KIND/HOST/NAME.
 */
#pragma once

#include "metadata/bundle.h"

/* In the order in which they are made anew: what needs another one comes later. */
enum pool_kind {
    POOL_CONF, /* drctl.conf; its name is drctl.conf, too */
    POOL_SECRET,
    POOL_NWFILTER,
    POOL_NETWORK,
    POOL_POOL,
    POOL_DOMAIN,
    POOL_VAPP,
    POOL_PLAN,
    POOL_FILE, /* files and directories of the host */
    POOL_HOST, /* capabilities: only to be read */
};
const char *pool_kind_name(enum pool_kind kind);

struct pool_object {
    enum pool_kind kind;
    char *name;
    char *id;          /* "domain/db" */
    char *host;        /* whose alone it is, or NULL */
    char *uuid;        /* of a domain, or NULL */
    const char *text;  /* borrowed from the bundle; NULL for directories and what was left out */
    const char *value; /* of a secret, sealed; borrowed, or NULL */
    const struct host_file *file; /* borrowed, or NULL */
};

struct pool {
    struct bundle *bundle;
    GPtrArray *files;   /* of struct host_file */
    GPtrArray *objects; /* of struct pool_object, by kind and name */
};
/* Takes BUNDLE, also on an error: ERROR_INTEGRITY. */
struct pool *pool_new(struct bundle *bundle, GError **error);
void pool_free(struct pool *pool);
DEFINE_CLEANUP(pool)

/* The objects that WORD means: KIND/NAME, domain/UUID, an absolute path (and what is below it), or a NAME that there is once.
 * Of borrowed struct pool_object. ERROR_NOT_FOUND, or ERROR_USAGE that names those of that name. */
GPtrArray *pool_find(const struct pool *pool, const char *word, GError **error);

struct pool_change {
    char sign; /* '+' it is new, '-' it is gone, '~' it is another one */
    const char *id;
};
/* From BEFORE (may be NULL) to AFTER; of struct pool_change, borrowing from both; g_array_unref. */
GArray *pool_changes(const struct pool *before, const struct pool *after);
