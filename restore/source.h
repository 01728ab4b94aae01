/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who knows a vApp or VM that is to be brought up here, and what it consists of: the pool bundles of
 * other sites, this site's own *.vapp, or at least recovery points. Private to restore/.
 */
#pragma once

#include "restore/restore.h"

struct source {
    struct vapp *order;
    char *site;
    GHashTable *uuids; /* name -> UUID, of the site's bundle; NULL: ask the points */
    bool is_own;       /* this site's own bundle */
    char *time;        /* of the bundle */
};

/* The newest bundle of each site, read when it is asked for first: one bundle tells of many vApps. */
struct bundles;
struct bundles *bundles_new(const struct site *site);
void bundles_free(struct bundles *bundles);
DEFINE_CLEANUP(bundles)

void source_clear(struct source *source);
#define AUTO_SOURCE __attribute__((cleanup(source_clear))) struct source

/* Fill SOURCE (zeroed by the caller). FROM: only what that site has published counts, unless NULL.
 * ERROR_NOT_FOUND when nobody knows NAME. */
bool source_find(struct bundles *bundles, const char *name, const char *from, struct source *source,
                 GError **error);
