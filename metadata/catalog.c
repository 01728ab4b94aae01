/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata/catalog-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define CATALOG_FORMAT "1"
/* Address space, not disk space: the file is sparse and grows as it is used. */
#define MAP_BYTES (sizeof(void *) >= 8 ? (size_t)16 << 30 : (size_t)1 << 30)
/* More than one of our transactions can add beyond what it says, see environment_grow(). */
#define GROW_BYTES ((uint64_t)1 << 20)
/* Room for about a thousand readers, see lock_file_reserve(). */
#define LOCK_FILE_BYTES 65536
/* Less than this free is a full disk. */
#define NO_SPACE_BYTES ((uint64_t)1 << 20)

static const char *const table_names[CATALOG_TABLES] = {
    [CATALOG_POINTS] = "points",
    [CATALOG_VMS] = "vms",
    [CATALOG_RUNS] = "runs",
    [CATALOG_PLANS] = "plans",
    [CATALOG_STEPS] = "steps",
    [CATALOG_CAPTURES] = "captures",
    [CATALOG_IMAGES] = "images",
    [CATALOG_REPLICATION] = "replication",
    [CATALOG_SKETCHES] = "sketches",
    [CATALOG_VERIFIED] = "verified",
    [CATALOG_PREFLIGHTS] = "preflights",
    [CATALOG_WINDOWS] = "windows",
    [CATALOG_TASKS] = "tasks",
    [CATALOG_ALERTS] = "alerts",
    [CATALOG_HISTORY] = "history",
};

static GMutex registry_mutex;
static GSList *registry; /* of struct environment; guarded by registry_mutex */

const char *catalog_table_name(enum catalog_table table)
{
    return table_names[table];
}

void txn_cleanup(MDB_txn **txn)
{
    if (*txn)
        mdb_txn_abort(*txn);
}

/* Where a write ended short LMDB says EIO. Is a full file system or a limit behind it? */
static bool space_is_short(const struct environment *environment)
{
    uint64_t free_bytes, total_bytes;
    struct rlimit limit;
    struct stat st;
    mdb_filehandle_t fd;

    if (disk_space(environment->path, &free_bytes, &total_bytes, NULL) &&
        free_bytes < NO_SPACE_BYTES)
        return true;
    return mdb_env_get_fd(environment->env, &fd) == 0 && fstat(fd, &st) == 0 &&
           getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
           limit.rlim_cur < (uint64_t)st.st_size + NO_SPACE_BYTES;
}

bool environment_damaged(const struct environment *environment, const char *why, GError **error)
{
    return fail(
        error, ERROR_INTEGRITY,
        "the catalog %s is damaged or not one of drctl: %s; `drctl store rebuild` makes a new one: "
        "recovery points are not lost, the history of runs is",
        environment->path, why);
}

bool fail_lmdb(const struct environment *environment, int rc, const char *what, GError **error)
{
    if (rc == EIO && space_is_short(environment))
        rc = ENOSPC;
    switch (rc) {
    case MDB_MAP_FULL:
        return fail(error, ERROR_NO_SPACE,
                    "cannot %s the catalog %s: it has reached its limit of %" G_GSIZE_FORMAT
                    " bytes; move that directory away and a new one is made: recovery points are "
                    "not lost, the history of runs is",
                    what, environment->path, MAP_BYTES);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return fail(
            error, ERROR_NO_SPACE,
            "cannot %s the catalog %s: %s; nothing was changed, make room on the file system "
            "of the store",
            what, environment->path, g_strerror(rc));
    case MDB_INVALID:
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
        return environment_damaged(environment, mdb_strerror(rc), error);
    case MDB_MAP_RESIZED:
        return fail(error, ERROR_CONFLICT,
                    "cannot %s the catalog %s: another version of drctl has enlarged it; run the "
                    "command again",
                    what, environment->path);
    case MDB_READERS_FULL:
        return fail(error, ERROR_CONFLICT,
                    "cannot %s the catalog %s: too many others read it; try again later", what,
                    environment->path);
    case MDB_PANIC:
        return fail(error, ERROR_IO,
                    "cannot %s the catalog %s: an earlier write failed; run the command again",
                    what, environment->path);
    }
    if (rc > 0)
        return fail_errno(error, rc, "cannot %s the catalog %s", what, environment->path);
    return fail(error, ERROR_FAILED, "cannot %s the catalog %s: %s", what, environment->path,
                mdb_strerror(rc));
}

/* How long data.mdb must be to hold all pages of the newest transaction, and how long it is. */
static bool data_length(const struct environment *environment, uint64_t *needed, uint64_t *actual,
                        GError **error)
{
    MDB_envinfo info;
    MDB_stat stat;
    struct stat st;
    mdb_filehandle_t fd;

    mdb_env_info(environment->env, &info);
    mdb_env_stat(environment->env, &stat);
    mdb_env_get_fd(environment->env, &fd);
    if (fstat(fd, &st) < 0)
        return fail_errno(error, errno, "cannot read the catalog %s", environment->path);
    *needed = ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
    *actual = (uint64_t)st.st_size;
    return true;
}

bool environment_grow(const struct environment *environment, uint64_t adding, GError **error)
{
    uint64_t needed, actual;
    mdb_filehandle_t fd;

    if (!data_length(environment, &needed, &actual, error))
        return false;
    needed += adding + GROW_BYTES;
    if (actual >= needed)
        return true;
    mdb_env_get_fd(environment->env, &fd);
    if (ftruncate(fd, (off_t)(needed + GROW_BYTES)) < 0)
        return fail_lmdb(environment, errno, "write", error);
    return true;
}

static bool data_is_whole(const struct environment *environment, GError **error)
{
    uint64_t needed, actual;

    if (!data_length(environment, &needed, &actual, error))
        return false;
    return actual >= needed || environment_damaged(environment, "data.mdb was cut short", error);
}

/* LMDB writes to a mapped lock.mdb: without blocks of its own on a full disk that is a SIGBUS. */
static bool lock_file_reserve(const char *dir, GError **error)
{
    g_autofree char *path = g_build_filename(dir, "lock.mdb", NULL);
    AUTO_FD fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return fail_errno(error, errno, "cannot open the catalog %s", path);
    if (st.st_size >= LOCK_FILE_BYTES && st.st_blocks * 512 >= LOCK_FILE_BYTES)
        return true;
    if (fallocate(fd, 0, 0, LOCK_FILE_BYTES) < 0 && errno != EOPNOTSUPP)
        return fail_errno(error, errno, "cannot reserve space for the catalog %s", path);
    return true;
}

static bool read_format(struct environment *environment, MDB_txn *txn, MDB_dbi meta, GError **error)
{
    MDB_val key = {.mv_size = strlen("format"), .mv_data = (void *)"format"};
    MDB_val value;
    int rc = mdb_get(txn, meta, &key, &value);

    if (rc != 0)
        return rc == MDB_NOTFOUND ? environment_damaged(environment, "it has no format", error)
                                  : fail_lmdb(environment, rc, "read", error);
    if (value.mv_size != strlen(CATALOG_FORMAT) ||
        memcmp(value.mv_data, CATALOG_FORMAT, value.mv_size) != 0)
        return environment_damaged(environment, "its format is of another version of drctl", error);
    return true;
}

/* Handles of tables that exist. The transaction has to be committed for them to stay, also when it
 * only reads. *MISSING when this is a new catalog. */
static bool tables_find(struct environment *environment, bool *missing, GError **error)
{
    AUTO_TXN txn = NULL;
    MDB_dbi meta;
    int rc = mdb_txn_begin(environment->env, NULL, MDB_RDONLY, &txn);

    *missing = false;
    if (rc == 0)
        rc = mdb_dbi_open(txn, "meta", 0, &meta);
    if (rc == MDB_NOTFOUND) {
        *missing = true;
        return true;
    }
    if (rc != 0)
        return fail_lmdb(environment, rc, "open", error);
    if (!read_format(environment, txn, meta, error))
        return false;
    for (int i = 0; rc == 0 && i < CATALOG_TABLES; i++)
        rc = mdb_dbi_open(txn, table_names[i], 0, &environment->tables[i]);
    /* One that an older drctl did not know. */
    if (rc == MDB_NOTFOUND) {
        *missing = true;
        return true;
    }
    if (rc == 0)
        rc = mdb_txn_commit(g_steal_pointer(&txn));
    return rc == 0 || fail_lmdb(environment, rc, "open", error);
}

/* Make all tables in one transaction. Another process may be faster: then they are opened. */
static bool tables_make(struct environment *environment, GError **error)
{
    MDB_val key = {.mv_size = strlen("format"), .mv_data = (void *)"format"};
    MDB_val value = {.mv_size = strlen(CATALOG_FORMAT), .mv_data = (void *)CATALOG_FORMAT};
    AUTO_TXN txn = NULL;
    MDB_stat stat;
    MDB_dbi meta, root;
    int rc = mdb_txn_begin(environment->env, NULL, 0, &txn);

    if (rc == 0 && !environment_grow(environment, 0, error))
        return false;
    if (rc == 0)
        rc = mdb_dbi_open(txn, NULL, 0, &root);
    if (rc == 0)
        rc = mdb_stat(txn, root, &stat);
    if (rc == 0)
        rc = mdb_dbi_open(txn, "meta", 0, &meta);
    if (rc == MDB_NOTFOUND && stat.ms_entries > 0)
        return environment_damaged(environment, "it belongs to another program", error);
    if (rc == MDB_NOTFOUND)
        rc = mdb_dbi_open(txn, "meta", MDB_CREATE, &meta);
    if (rc == 0)
        rc = mdb_put(txn, meta, &key, &value, 0);
    for (int i = 0; rc == 0 && i < CATALOG_TABLES; i++)
        rc = mdb_dbi_open(txn, table_names[i], MDB_CREATE, &environment->tables[i]);
    if (rc == 0)
        rc = mdb_txn_commit(g_steal_pointer(&txn));
    return rc == 0 || fail_lmdb(environment, rc, "make", error);
}

static void environment_free(struct environment *environment)
{
    if (!environment)
        return;
    /* In a child of the process that opened it, closing would clear the parent's readers. */
    if (environment->env && environment->pid == getpid())
        mdb_env_close(environment->env);
    g_mutex_clear(&environment->queue_lock);
    g_cond_clear(&environment->written);
    g_ptr_array_unref(environment->queue);
    g_free(environment->path);
    g_free(environment);
}
DEFINE_CLEANUP(environment)

static bool environment_identify(struct environment *environment, GError **error)
{
    struct stat st;
    mdb_filehandle_t fd;

    mdb_env_get_fd(environment->env, &fd);
    if (fstat(fd, &st) < 0)
        return fail_errno(error, errno, "cannot read the catalog %s", environment->path);
    environment->device = st.st_dev;
    environment->inode = st.st_ino;
    return true;
}

static struct environment *environment_open(const char *dir, GError **error)
{
    AUTO(environment) environment = g_new0(struct environment, 1);
    bool missing;
    int rc, dead;

    environment->path = g_strdup(dir);
    environment->pid = getpid();
    environment->queue = g_ptr_array_new();
    g_mutex_init(&environment->queue_lock);
    g_cond_init(&environment->written);
    if (!lock_file_reserve(dir, error))
        return NULL;
    rc = mdb_env_create(&environment->env);
    if (rc == 0)
        rc = mdb_env_set_mapsize(environment->env, MAP_BYTES);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(environment->env, CATALOG_TABLES + 1);
    if (rc == 0)
        rc = mdb_env_open(environment->env, dir, MDB_NOTLS, 0600);
    if (rc == 0)
        rc = mdb_reader_check(environment->env, &dead);
    if (rc != 0) {
        fail_lmdb(environment, rc, "open", error);
        return NULL;
    }
    if (!environment_identify(environment, error) || !data_is_whole(environment, error) ||
        !tables_find(environment, &missing, error) || (missing && !tables_make(environment, error)))
        return NULL;
    return g_steal_pointer(&environment);
}

/* Call with registry_mutex held. */
static struct environment *registry_find(const char *dir)
{
    g_autofree char *path = g_build_filename(dir, "data.mdb", NULL);
    struct stat st;

    if (stat(path, &st) < 0)
        return NULL;
    for (GSList *item = registry; item; item = item->next) {
        struct environment *environment = item->data;

        if (environment->pid == getpid() && environment->device == st.st_dev &&
            environment->inode == st.st_ino)
            return environment;
    }
    return NULL;
}

static struct environment *environment_share(const char *dir, GError **error)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&registry_mutex);
    struct environment *environment = registry_find(dir);

    if (!environment) {
        environment = environment_open(dir, error);
        if (!environment)
            return NULL;
        registry = g_slist_prepend(registry, environment);
    }
    environment->users++;
    return environment;
}

static void environment_release(struct environment *environment)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&registry_mutex);

    if (--environment->users > 0)
        return;
    registry = g_slist_remove(registry, environment);
    environment_free(environment);
}

struct catalog *catalog_open(const char *store_path, GError **error)
{
    g_autofree char *dir = g_build_filename(store_path, "catalog", NULL);
    g_autofree char *lock_dir = g_build_filename(store_path, "locks", NULL);
    struct environment *environment;
    struct catalog *catalog;

    if (!g_file_test(store_path, G_FILE_TEST_IS_DIR)) {
        fail(error, ERROR_NOT_FOUND,
             "the store %s is not there; mount its disk, or make a site with drctl init",
             store_path);
        return NULL;
    }
    if (!dir_make(dir, 0700, error) || !dir_make(lock_dir, 0700, error))
        return NULL;
    environment = environment_share(dir, error);
    if (!environment)
        return NULL;
    catalog = g_new0(struct catalog, 1);
    catalog->environment = environment;
    catalog->lock_dir = g_steal_pointer(&lock_dir);
    return catalog;
}

/* Does anybody do anything with this store that it would lose? */
static bool check_idle(const char *store_path, GError **error)
{
    g_autofree char *dir = g_build_filename(store_path, "locks", NULL);
    g_auto(GStrv) names = dir_list(dir, error);

    for (char **name = names; name && *name; name++) {
        g_autofree char *path = g_build_filename(dir, *name, NULL);

        if (file_lock_held(path))
            return fail(error, ERROR_CONFLICT,
                        "another drctl is at work here (%s is locked): wait until it has ended",
                        path);
    }
    return names != NULL;
}

bool catalog_set_aside(const char *store_path, char **where, GError **error)
{
    g_autofree char *dir = g_build_filename(store_path, "catalog", NULL);
    g_autofree char *now = point_id_format(time_now_ms());
    g_autofree char *aside = g_strdup_printf("%s.damaged-%s", dir, now);

    if (!check_idle(store_path, error) || !path_rename(dir, aside, error))
        return false;
    *where = g_steal_pointer(&aside);
    return true;
}

void catalog_free(struct catalog *catalog)
{
    if (!catalog)
        return;
    environment_release(catalog->environment);
    g_free(catalog->lock_dir);
    g_free(catalog);
}

const char *catalog_lock_dir(const struct catalog *catalog)
{
    return catalog->lock_dir;
}
