/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a store may hold while a session of `drctl serve --quota` adds to it: committed points, pool
 * bundles, lock files and all that is arriving, also in other sessions. For a key that is bound to sites (serve
 * --site) it is what the store may hold of these: points that were taken there, their bundles, what arrives by
 * such keys. A file counts FILE_COST more than its
 * bytes, so that a quota bounds inodes and the catalog, too.
 *
 * A session counts down what room there was; it looks again when that is used up, or when so much
 * has come that others may have added as much. So one session is bounded exactly, and each further
 * one can exceed the quota by what it sends between two looks. Directories that have not changed are
 * not counted again.
 */
#pragma once

#include "replicator/local.h"

#define QUOTA_FILE_COST ((uint64_t)16 << 10)

/* NULL is no quota, in which everything fits. */
struct quota;

struct namespace;

/* LOCAL, a store in a directory, and NAMESPACE (session.h), or NULL, are borrowed; BYTES is the most that the store
 * may hold of it, 0: no quota. */
struct quota *quota_new(struct store *local, uint64_t bytes, const struct namespace *namespace);
void quota_free(struct quota *quota);
DEFINE_CLEANUP(quota)

/* This session's own point begins to arrive. ERROR_NO_SPACE, as all that follow. */
bool quota_begin(struct quota *quota, const char *vm_uuid, const char *point, GError **error);
/* BYTES more of it. */
bool quota_take(struct quota *quota, uint64_t bytes, GError **error);
/* It was committed or discarded. */
void quota_end(struct quota *quota);
/* Is there room for BYTES that are stored right now? */
bool quota_fits(struct quota *quota, uint64_t bytes, GError **error);
/* What is more than the quota has is neither free nor there for this session. */
bool quota_reduce(struct quota *quota, struct store_info *info, GError **error);
