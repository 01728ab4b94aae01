/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata/catalog-private.h"

#include <string.h>
#include <unistd.h>

#define KEY_MAX 511 /* what LMDB is built for */
/* More than a put can add beyond its value. */
#define GROW_PUT_BYTES ((uint64_t)1 << 16)

static void cursor_cleanup(MDB_cursor **cursor)
{
    if (*cursor)
        mdb_cursor_close(*cursor);
}
#define AUTO_CURSOR __attribute__((cleanup(cursor_cleanup))) MDB_cursor *

static bool check_key(const char *key, GError **error)
{
    size_t len = strlen(key);

    if (len == 0)
        return fail(error, ERROR_FAILED, "a key of the catalog is empty");
    if (len > KEY_MAX)
        return fail(error, ERROR_FAILED,
                    "the name \"%.60s...\" is too long for the catalog: %" G_GSIZE_FORMAT
                    " bytes, at most %d",
                    key, len, KEY_MAX);
    return true;
}

static bool check_process(const struct environment *environment, GError **error)
{
    return environment->pid == getpid() ||
           fail(error, ERROR_FAILED, "the catalog %s was opened by the parent process",
                environment->path);
}

/* FLAGS: 0 to write, which waits for other writers, or MDB_RDONLY. */
static bool begin(const struct environment *environment, unsigned flags, MDB_txn **txn,
                  GError **error)
{
    int rc;

    if (!check_process(environment, error))
        return false;
    rc = mdb_txn_begin(environment->env, NULL, flags, txn);
    return rc == 0 || fail_lmdb(environment, rc, flags ? "read" : "write", error);
}

/* ---- Putting */

/* What one thread waits for. */
struct writing {
    const struct catalog_entry *entries;
    size_t n_entries;
    char **texts; /* of the values */
    bool done;
    GError *error;
};

static bool writing_init(struct writing *writing, const struct catalog_entry *entries,
                         size_t n_entries, GError **error)
{
    for (size_t i = 0; i < n_entries; i++)
        if (!check_key(entries[i].key, error))
            return false;
    *writing = (struct writing){
        .entries = entries, .n_entries = n_entries, .texts = g_new0(char *, n_entries + 1)};
    for (size_t i = 0; i < n_entries; i++)
        writing->texts[i] = entries[i].value ? json_text(entries[i].value, 0) : NULL;
    return true;
}

static void writing_clear(struct writing *writing)
{
    for (size_t i = 0; i < writing->n_entries; i++)
        g_free(writing->texts[i]);
    g_free(writing->texts);
    g_clear_error(&writing->error);
}
#define AUTO_WRITING __attribute__((cleanup(writing_clear))) struct writing

static uint64_t room_for(const struct writing *writing)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < writing->n_entries; i++)
        bytes += (writing->texts[i] ? strlen(writing->texts[i]) : 0) + GROW_PUT_BYTES;
    return bytes;
}

static int put_or_remove(MDB_txn *txn, MDB_dbi table, const char *key, char *text)
{
    MDB_val k = {.mv_size = strlen(key), .mv_data = (void *)key};
    MDB_val v = {.mv_size = text ? strlen(text) : 0, .mv_data = text};
    int rc = text ? mdb_put(txn, table, &k, &v, 0) : mdb_del(txn, table, &k, NULL);

    return !text && rc == MDB_NOTFOUND ? 0 : rc;
}

static int put_entries(const struct environment *environment, MDB_txn *txn,
                       const struct writing *writing)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < writing->n_entries; i++) {
        const struct catalog_entry *entry = &writing->entries[i];

        rc = put_or_remove(txn, environment->tables[entry->table], entry->key, writing->texts[i]);
    }
    return rc;
}

/* All of BATCH in one transaction. */
static bool commit(const struct environment *environment, struct writing *const *batch, size_t len,
                   GError **error)
{
    AUTO_TXN txn = NULL;
    uint64_t adding = 0;
    int rc = 0;

    for (size_t i = 0; i < len; i++)
        adding += room_for(batch[i]);
    if (!begin(environment, 0, &txn, error) || !environment_grow(environment, adding, error))
        return false;
    for (size_t i = 0; rc == 0 && i < len; i++)
        rc = put_entries(environment, txn, batch[i]);
    if (rc == 0)
        rc = mdb_txn_commit(g_steal_pointer(&txn));
    return rc == 0 || fail_lmdb(environment, rc, "write", error);
}

/* What one of them is refused for is not the fault of the others. */
static void commit_batch(const struct environment *environment, const GPtrArray *batch)
{
    struct writing *const *writings = (struct writing *const *)batch->pdata;
    g_autoptr(GError) why = NULL;

    if (commit(environment, writings, batch->len, &why))
        return;
    if (batch->len == 1)
        writings[0]->error = g_steal_pointer(&why);
    for (unsigned i = 0; batch->len > 1 && i < batch->len; i++)
        commit(environment, &writings[i], 1, &writings[i]->error);
}

/* With the lock held, which is let go meanwhile: others queue up for the next commit. */
static void commit_queue(struct environment *environment)
{
    g_autoptr(GPtrArray) batch = g_steal_pointer(&environment->queue);

    environment->queue = g_ptr_array_new();
    environment->committing = true;
    g_mutex_unlock(&environment->queue_lock);
    commit_batch(environment, batch);
    g_mutex_lock(&environment->queue_lock);
    for (unsigned i = 0; i < batch->len; i++)
        ((struct writing *)batch->pdata[i])->done = true;
    environment->committing = false;
    g_cond_broadcast(&environment->written);
}

static void write_shared(struct environment *environment, struct writing *writing)
{
    g_mutex_lock(&environment->queue_lock);
    g_ptr_array_add(environment->queue, writing);
    while (!writing->done) {
        if (environment->committing)
            g_cond_wait(&environment->written, &environment->queue_lock);
        else
            commit_queue(environment);
    }
    g_mutex_unlock(&environment->queue_lock);
}

bool catalog_put_all(struct catalog *catalog, const struct catalog_entry *entries, size_t n_entries,
                     GError **error)
{
    AUTO_WRITING writing = {0};

    if (!check_process(catalog->environment, error) ||
        !writing_init(&writing, entries, n_entries, error))
        return false;
    write_shared(catalog->environment, &writing);
    if (!writing.error)
        return true;
    g_propagate_error(error, g_steal_pointer(&writing.error));
    return false;
}

bool catalog_put(struct catalog *catalog, enum catalog_table table, const char *key,
                 const json_t *value, GError **error)
{
    struct catalog_entry entry = {table, key, value};

    return catalog_put_all(catalog, &entry, 1, error);
}

bool catalog_insert(struct catalog *catalog, const struct catalog_entry *entries, size_t n_entries,
                    bool *inserted, GError **error)
{
    struct environment *environment = catalog->environment;
    AUTO_WRITING writing = {0};
    AUTO_TXN txn = NULL;
    MDB_val k = {.mv_size = strlen(entries->key), .mv_data = (void *)entries->key};
    MDB_val v;
    int rc;

    if (!writing_init(&writing, entries, n_entries, error) || !begin(environment, 0, &txn, error) ||
        !environment_grow(environment, room_for(&writing), error))
        return false;
    rc = mdb_get(txn, environment->tables[entries->table], &k, &v);
    if (rc == 0) {
        *inserted = false;
        return true;
    }
    if (rc == MDB_NOTFOUND)
        rc = put_entries(environment, txn, &writing);
    if (rc == 0)
        rc = mdb_txn_commit(g_steal_pointer(&txn));
    if (rc != 0)
        return fail_lmdb(environment, rc, "write", error);
    *inserted = true;
    return true;
}

/* ---- Reading, removing */

static json_t *parse_value(struct catalog *catalog, enum catalog_table table, const char *key,
                           const MDB_val *value, GError **error)
{
    g_autofree char *what = g_strdup_printf("record %s/%s", catalog_table_name(table), key);
    g_autoptr(GError) cause = NULL;
    json_t *json = json_parse(value->mv_data, value->mv_size, what, &cause);

    if (!json)
        environment_damaged(catalog->environment, cause->message, error);
    return json;
}

bool catalog_get(struct catalog *catalog, enum catalog_table table, const char *key, json_t **value,
                 GError **error)
{
    struct environment *environment = catalog->environment;
    MDB_val k = {.mv_size = strlen(key), .mv_data = (void *)key};
    AUTO_TXN txn = NULL;
    MDB_val v;
    json_t *parsed;
    int rc;

    if (!check_key(key, error) || !begin(environment, MDB_RDONLY, &txn, error))
        return false;
    rc = mdb_get(txn, environment->tables[table], &k, &v);
    if (rc == MDB_NOTFOUND) {
        *value = NULL;
        return true;
    }
    if (rc != 0)
        return fail_lmdb(environment, rc, "read", error);
    parsed = parse_value(catalog, table, key, &v, error);
    if (!parsed)
        return false;
    *value = parsed;
    return true;
}

bool catalog_remove(struct catalog *catalog, enum catalog_table table, const char *key,
                    GError **error)
{
    struct environment *environment = catalog->environment;
    MDB_val k = {.mv_size = strlen(key), .mv_data = (void *)key};
    AUTO_TXN txn = NULL;
    int rc;

    if (!check_key(key, error) || !begin(environment, 0, &txn, error) ||
        !environment_grow(environment, 0, error))
        return false;
    rc = mdb_del(txn, environment->tables[table], &k, NULL);
    if (rc == MDB_NOTFOUND)
        return true;
    if (rc == 0)
        rc = mdb_txn_commit(g_steal_pointer(&txn));
    return rc == 0 || fail_lmdb(environment, rc, "write", error);
}

bool catalog_each(struct catalog *catalog, enum catalog_table table, const char *prefix,
                  catalog_each_fn *each, void *data, GError **error)
{
    struct environment *environment = catalog->environment;
    size_t prefix_len = strlen(prefix);
    MDB_val k = {.mv_size = prefix_len, .mv_data = (void *)prefix};
    AUTO_TXN txn = NULL;
    AUTO_CURSOR cursor = NULL;
    MDB_val v;
    int rc;

    if ((prefix_len > 0 && !check_key(prefix, error)) ||
        !begin(environment, MDB_RDONLY, &txn, error))
        return false;
    rc = mdb_cursor_open(txn, environment->tables[table], &cursor);
    if (rc == 0)
        rc = mdb_cursor_get(cursor, &k, &v, prefix_len > 0 ? MDB_SET_RANGE : MDB_FIRST);
    for (; rc == 0; rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        g_autofree char *key = g_strndup(k.mv_data, k.mv_size);
        json_auto_t *value = NULL;

        if (k.mv_size < prefix_len || memcmp(k.mv_data, prefix, prefix_len) != 0)
            return true;
        value = parse_value(catalog, table, key, &v, error);
        if (!value)
            return false;
        if (!each(key, value, data))
            return true;
    }
    return rc == MDB_NOTFOUND || fail_lmdb(environment, rc, "read", error);
}

static bool take_key(const char *key, json_t *value, void *data)
{
    g_ptr_array_add(data, g_strdup(key));
    return true;
}

GPtrArray *catalog_keys(struct catalog *catalog, enum catalog_table table, const char *prefix,
                        GError **error)
{
    g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);

    return catalog_each(catalog, table, prefix, take_key, keys, error) ? g_steal_pointer(&keys)
                                                                       : NULL;
}
