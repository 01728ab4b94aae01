/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store of very many points, without their disks: bench-points STORE COUNT. STORE is one that drctl has made and nobody
 * uses. COUNT points are added, 100 of each VM: vm-0, vm-1 and so on; each has its directory, its manifest
 * and its record in the catalog. The catalog's own interface makes each change durable, which would take hours for a
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

static void write_point(const char *store, const struct manifest *manifest, const char *text)
{
    g_autofree char *dir = g_build_filename(store, "vms", manifest->uuid, manifest->point, NULL);
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    FILE *file;

    if (g_mkdir_with_parents(dir, 0755) < 0)
        die(dir, g_strerror(errno));
    file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0)
        die(path, g_strerror(errno));
}

static void put(MDB_txn *txn, MDB_dbi table, const struct manifest *manifest, const char *text)
{
    g_autofree char *key = g_strconcat(manifest->uuid, "/", manifest->point, NULL);
    g_autoptr(GError) error = NULL;
    json_auto_t *json = json_parse(text, strlen(text), key, &error);
    g_autofree char *value = json ? json_text(json, 0) : NULL;
    MDB_val k = {strlen(key), key}, v = {value ? strlen(value) : 0, value};
    int rc;

    if (!json)
        die(key, error->message);
    rc = mdb_put(txn, table, &k, &v, 0);
    if (rc != 0)
        die(key, mdb_strerror(rc));
}

static void add_points(const char *store, unsigned count, MDB_env *env)
{
    MDB_txn *txn = NULL;
    MDB_dbi table;
    int rc = mdb_txn_begin(env, NULL, 0, &txn);

    if (rc == 0)
        rc = mdb_dbi_open(txn, "points", 0, &table);
    if (rc != 0)
        die("the catalog", mdb_strerror(rc));
    for (unsigned number = 0; number < count; number++) {
        AUTO(manifest) manifest = make_manifest(number);
        g_autofree char *text = manifest_text(manifest);

        write_point(store, manifest, text);
        put(txn, table, manifest, text);
    }
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
        rc = mdb_env_set_maxdbs(env, 1);
    if (rc == 0)
        rc = mdb_env_open(env, catalog, 0, 0600);
    if (rc != 0)
        die(catalog, mdb_strerror(rc));
    add_points(argv[1], (unsigned)strtoul(argv[2], NULL, 10), env);
    mdb_env_close(env);
    return EXIT_SUCCESS;
}
