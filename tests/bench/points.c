/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store of very many points, without their disks: bench-points STORE COUNT. STORE is one that drctl has made and nobody
 * uses. COUNT points are added, 100 of each VM: vm-0, vm-1 and so on; each has its directory, its manifest
 * and its records in the catalog. The catalog's own interface makes each change durable, which would take hours for a
 * million: here LMDB gets all of them in one transaction, in the same form.
 */
#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "metadata/metadata.h"

#define POINTS_OF_A_VM 100u
#define FIRST_MS INT64_C(1767225600000)
#define INTERVAL_MS (15 * 60 * 1000)

G_GNUC_NORETURN static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench-points: %s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

static struct manifest *make_manifest(unsigned number)
{
    struct manifest *manifest = manifest_new();
    unsigned vm = number / POINTS_OF_A_VM, nth = number % POINTS_OF_A_VM;
    struct manifest_disk *disk = manifest_add_disk(manifest, "vda");

    manifest->vm = g_strdup_printf("vm-%u", vm);
    manifest->uuid = g_strdup_printf("00000000-0000-4000-8000-%012u", vm);
    manifest->time_ms = FIRST_MS + nth * (int64_t)INTERVAL_MS;
    manifest->point = point_id_format(manifest->time_ms);
    manifest->site = g_strdup("bench");
    manifest->checkpoint = g_strdup_printf("drctl-00000000-%s-00000000", manifest->point);
    manifest->reason = g_strdup(nth ? "changes since the last point" : "the first point");
    if (nth) {
        manifest->base = point_id_format(manifest->time_ms - INTERVAL_MS);
        disk->base = g_strdup(manifest->base);
    }
    disk->virtual_bytes = UINT64_C(8) << 30;
    disk->changed_bytes = 16u << 20;
    disk->stored_bytes = 6u << 20;
    manifest_add_file(manifest, disk->file, disk->stored_bytes);
    manifest_add_file(manifest, disk->digests, 10280);
    return manifest;
}

/* Returns the inode of the point's directory. */
static uint64_t write_point(const char *store, const struct manifest *manifest, const char *text)
{
    g_autofree char *dir = g_build_filename(store, "vms", manifest->uuid, manifest->point, NULL);
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    struct stat status;
    FILE *file;

    if (g_mkdir_with_parents(dir, 0755) < 0 || stat(dir, &status) < 0)
        die(dir, g_strerror(errno));
    file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0)
        die(path, g_strerror(errno));
    return status.st_ino;
}

/* Takes VALUE. */
static void put(MDB_txn *txn, MDB_dbi table, const char *key, json_t *value)
{
    g_autofree char *text = json_text(value, 0);
    MDB_val k = {strlen(key), (void *)key}, v = {strlen(text), text};
    int rc = mdb_put(txn, table, &k, &v, 0);

    json_decref(value);
    if (rc != 0)
        die(key, mdb_strerror(rc));
}

static MDB_dbi open_table(MDB_txn *txn, const char *name)
{
    MDB_dbi table;
    int rc = mdb_dbi_open(txn, name, 0, &table);

    if (rc != 0)
        die(name, mdb_strerror(rc));
    return table;
}

static void add_point(const char *store, unsigned number, MDB_txn *txn, MDB_dbi points, MDB_dbi vms)
{
    AUTO(manifest) manifest = make_manifest(number);
    g_autofree char *text = manifest_text(manifest);
    g_autofree char *key = g_strconcat(manifest->uuid, "/", manifest->point, NULL);
    json_t *entry = json_object();

    json_set_u64(entry, "inode", write_point(store, manifest, text));
    json_object_set_new(entry, "manifest", manifest_json(manifest));
    put(txn, points, key, entry);
    if (number % POINTS_OF_A_VM == 0) {
        g_autofree char *name = g_strconcat(manifest->vm, "/", manifest->uuid, NULL);
        g_autofree char *known = g_strconcat("/", manifest->uuid, NULL);

        put(txn, vms, name, json_object());
        put(txn, vms, known, json_object());
    }
}

static void add_points(const char *store, unsigned count, MDB_env *env)
{
    MDB_txn *txn = NULL;
    MDB_dbi points, vms;
    int rc = mdb_txn_begin(env, NULL, 0, &txn);

    if (rc != 0)
        die("the catalog", mdb_strerror(rc));
    points = open_table(txn, "points");
    vms = open_table(txn, "vms");
    for (unsigned number = 0; number < count; number++)
        add_point(store, number, txn, points, vms);
    rc = mdb_txn_commit(txn);
    if (rc != 0)
        die("the catalog", mdb_strerror(rc));
}

int main(int argc, char **argv)
{
    g_autofree char *catalog = argc == 3 ? g_build_filename(argv[1], "catalog", NULL) : NULL;
    MDB_env *env = NULL;
    int rc;

    if (!catalog)
        die("usage", "bench-points STORE COUNT");
    rc = mdb_env_create(&env);
    if (rc == 0)
        rc = mdb_env_set_mapsize(env, (size_t)16 << 30);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(env, 2);
    if (rc == 0)
        rc = mdb_env_open(env, catalog, 0, 0600);
    if (rc != 0)
        die(catalog, mdb_strerror(rc));
    add_points(argv[1], (unsigned)strtoul(argv[2], NULL, 10), env);
    mdb_env_close(env);
    return EXIT_SUCCESS;
}
