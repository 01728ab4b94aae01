/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalog of a site: LMDB in STORE/catalog/, shared by all drctl processes of the site, durable
 * at each commit. It caches manifests (the directories of the store are the truth about points, so
 * it may be deleted at any time), and keeps what exists nowhere else: runs and their steps, the
 * capture journal (what a killed point left behind in libvirt), how the images of VMs that are off
 * looked at their last point, and the last result of each replication for `drctl status`.
 *
 * Values are JSON. Every call is its own transaction, but that puts of several threads at once share
 * one: a commit waits for the disk, twice. All calls are safe from several threads. Keys have
 * 1 to 511 bytes. A full disk is ERROR_NO_SPACE and changes nothing; a catalog that is damaged or
 * not ours is ERROR_INTEGRITY and may be set aside. A catalog opened before fork() is refused in
 * the child.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "common/common.h"

struct catalog;

enum catalog_table {
    CATALOG_POINTS,      /* "<vm-uuid>/<point>" -> manifest */
    CATALOG_VMS,         /* "<name>/<vm-uuid>" -> {}, "/<vm-uuid>" when all are there */
    CATALOG_RUNS,        /* "<run-id>" -> run */
    CATALOG_PLANS,       /* "<run-id>/plan", "<run-id>/declared": what is large and never changes */
    CATALOG_STEPS,       /* "<run-id>/<subject>/<step>" -> step state */
    CATALOG_CAPTURES,    /* "<vm-uuid>" -> journal of a point in progress */
    CATALOG_IMAGES,      /* "<vm-uuid>/<store>" -> images of a VM that is off at its last point */
    CATALOG_REPLICATION, /* "<vm-uuid>/<destination>" -> last result */
    CATALOG_SKETCHES,    /* "<vm-uuid>/<target>" -> sketch of the disk at one of its points */
    CATALOG_VERIFIED,    /* "<vm-uuid>/<point>" -> {time, ok, error} of its last verification */
    CATALOG_PREFLIGHTS,  /* "<recovery plan>" -> last check of it */
    CATALOG_WINDOWS,     /* "<run-id>" -> a failover that is not committed yet */
    CATALOG_TASKS,       /* "<job>" -> when it was executed last, and how that ended */
    CATALOG_ALERTS,      /* "<problem>" -> who was told of it, and when */
    CATALOG_HISTORY, /* "<vm-uuid>/<destination>/<point>" -> what points achieved, see history.h */
    CATALOG_TABLES
};

/* Open or make STORE/catalog; STORE itself must be there (ERROR_NOT_FOUND: it may be a disk that is
 * not mounted). Opening the same one several times in one process is fine. */
struct catalog *catalog_open(const char *store_path, GError **error);
void catalog_free(struct catalog *catalog);
DEFINE_CLEANUP(catalog)

/* Move a catalog that is damaged away, to *WHERE (g_free), so that the next catalog_open() makes a new
 * one. ERROR_CONFLICT while another drctl is at work. */
bool catalog_set_aside(const char *store_path, char **where, GError **error);

/* Replace. */
bool catalog_put(struct catalog *catalog, enum catalog_table table, const char *key,
                 const json_t *value, GError **error);
/* Replace several, all or none; what has no value is removed. */
struct catalog_entry {
    enum catalog_table table;
    const char *key;
    const json_t *value; /* or NULL, for catalog_put_all() */
};
bool catalog_put_all(struct catalog *catalog, const struct catalog_entry *entries, size_t n_entries,
                     GError **error);
/* Put ENTRIES only where there is none of the key of the first; *INSERTED says so. Of several processes exactly one
 * wins. */
bool catalog_insert(struct catalog *catalog, const struct catalog_entry *entries, size_t n_entries,
                    bool *inserted, GError **error);
/* *VALUE (json_decref) is NULL when there is none. */
bool catalog_get(struct catalog *catalog, enum catalog_table table, const char *key, json_t **value,
                 GError **error);
/* A missing key is fine. */
bool catalog_remove(struct catalog *catalog, enum catalog_table table, const char *key,
                    GError **error);
/* Call EACH for every key that starts with PREFIX, in order, from one snapshot; it returns false to
 * stop. The value is borrowed. Reads only; EACH must not write to the catalog. */
typedef bool catalog_each_fn(const char *key, json_t *value, void *data);
bool catalog_each(struct catalog *catalog, enum catalog_table table, const char *prefix,
                  catalog_each_fn *each, void *data, GError **error);
/* Only the keys, in order; of char *. */
GPtrArray *catalog_keys(struct catalog *catalog, enum catalog_table table, const char *prefix,
                        GError **error);
/* Directory for lock files of the site (STORE/locks). */
const char *catalog_lock_dir(const struct catalog *catalog);
