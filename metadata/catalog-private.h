/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the catalog share: catalog.c opens and closes it, catalog-records.c reads and writes. This
 * header is the only includer of LMDB. Private to metadata/.
 */
#pragma once

#include <lmdb.h>
#include <sys/types.h>

#include "metadata/catalog.h"

/* LMDB allows a process one environment for one file: the locks of a second one would vanish when
 * the first is closed (fcntl(2)). So all catalogs of one data.mdb share this. It is found by the
 * file, not by its path, and by the process, because an environment does not survive fork(). */
struct environment {
    MDB_env *env;
    MDB_dbi tables[CATALOG_TABLES];
    char *path;
    dev_t device;
    ino_t inode;
    pid_t pid;
    unsigned users;
    GMutex queue_lock; /* of the rest, which is catalog-records.c's */
    GCond written;
    GPtrArray *queue; /* of struct writing: what is to be put and is not yet */
    bool committing;  /* a thread, without the lock */
};

struct catalog {
    struct environment *environment;
    char *lock_dir;
};

void txn_cleanup(MDB_txn **txn);
#define AUTO_TXN __attribute__((cleanup(txn_cleanup))) MDB_txn *

const char *catalog_table_name(enum catalog_table table);
/* ERROR_INTEGRITY; returns false. */
bool environment_damaged(const struct environment *environment, const char *why, GError **error);
/* RC is LMDB's: positive for errno, negative for its own. Returns false. */
bool fail_lmdb(const struct environment *environment, int rc, const char *what, GError **error);
/* Under the writer's lock, before ADDING bytes of values are put: a page behind the end of the file is a
 * SIGBUS for whoever reads it, so a file that was cut short has to be found when it is opened. LMDB alone
 * does not write free pages at the end and leaves the file shorter than its last page now and then;
 * growing it first makes the length a proof. */
bool environment_grow(const struct environment *environment, uint64_t adding, GError **error);
