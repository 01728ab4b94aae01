/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many drctl at once on one store: some commit points and prune them, some list, verify under the
 * readers' lock and heal, one makes the catalog anew. Nobody waits for anybody else but for an
 * instant, nobody fails, and all that is left is whole.
 */
#include "tests/disk-store.h"

#include <sys/wait.h>

#define WRITERS 4
#define READERS 3
#define ROUNDS 15

/* The store of LAB as VM NUMBER's drctl sees it. */
static struct disk_lab *lab_of_vm(const struct disk_lab *lab, unsigned number)
{
    struct disk_lab *own = g_new0(struct disk_lab, 1);
    g_autofree char *truth = g_strdup_printf("%s/vm%u/truth", lab->dir, number);
    g_autoptr(GError) error = NULL;

    own->dir = g_strdup_printf("%s/vm%u", lab->dir, number);
    own->path = g_strdup(lab->path);
    own->uuid = g_strdup_printf("%08x-2222-4333-8444-555555555555", number);
    own->disks = g_ptr_array_new_with_free_func((GDestroyNotify)disk_free);
    unit_ok(dir_make(truth, 0700, &error), error);
    disk_lab_configure(own, "");
    return own;
}

static void prune_points(struct disk_lab *lab)
{
    struct prune_request request = {.vm_uuid = lab->uuid};
    struct prune_result result = {0};
    g_autoptr(GError) error = NULL;

    unit_ok(retention_parse("last=3", &request.keep, &error), error);
    /* A reader may be in the way: then nothing is dropped this time. */
    if (!store_prune(lab->store, &request, &result, &error))
        ck_assert_msg(error_is(error, ERROR_CONFLICT), "%s", error->message);
    prune_result_clear(&result);
}

static void write_points(const struct disk_lab *shared, unsigned number)
{
    AUTO(disk_lab) lab = lab_of_vm(shared, number);
    struct disk *disk = disk_lab_add(lab, 4 * LAB_MIB, number);

    for (unsigned round = 0; round < ROUNDS; round++) {
        disk_scribble(disk, 0, disk->bytes, 8);
        disk_lab_point(lab);
        if (round % 2)
            prune_points(lab);
    }
    ck_assert_uint_ge(disk_lab_check(lab), 3);
}

static void verify_point(const struct disk_lab *lab, const struct manifest *point)
{
    g_autoptr(GError) error = NULL;
    AUTO(file_lock) lock = store_read_lock(lab->path, point->uuid, &error);
    g_autofree char *dir = store_point_dir(lab->path, point->uuid, point->point);
    AUTO(manifest) now = NULL;
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    AUTO(damage) damage = damage_new();
    g_autofree char *text = NULL;

    unit_ok(lock, error);
    now = manifest_load(path, NULL);
    if (!now)
        return; /* dropped since it was listed */
    unit_ok(store_find_damage(dir, now, NULL, damage, &error) &&
                snapshot_find_damage(dir, now, NULL, damage, &error),
            error);
    text = damage_text(damage);
    ck_assert_msg(damage->files->len == 0, "%s", text);
}

static void read_points(const struct disk_lab *shared, unsigned number)
{
    AUTO(disk_lab) lab = lab_of_vm(shared, number);

    for (unsigned round = 0; round < ROUNDS; round++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) points = store_points(lab->store, NULL, &error);

        unit_ok(points, error);
        for (unsigned i = 0; i < points->len; i++)
            verify_point(lab, points->pdata[i]);
    }
}

/* What `drctl store rebuild` does to a catalog that is whole. */
static void rebuild(const struct disk_lab *shared, unsigned number)
{
    AUTO(disk_lab) lab = lab_of_vm(shared, number);

    for (unsigned round = 0; round < ROUNDS; round++) {
        g_autoptr(GPtrArray) keys = NULL;
        g_autoptr(GError) error = NULL;
        g_autoptr(GPtrArray) points = NULL;

        unit_ok(keys = catalog_keys(lab->catalog, CATALOG_POINTS, "", &error), error);
        for (unsigned i = 0; i < keys->len; i++)
            unit_ok(catalog_remove(lab->catalog, CATALOG_POINTS, keys->pdata[i], &error), error);
        unit_ok(points = store_points(lab->store, NULL, &error), error);
    }
}

static pid_t start(void (*work)(const struct disk_lab *, unsigned), const struct disk_lab *lab,
                   unsigned number)
{
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        work(lab, number);
        _exit(0);
    }
    return pid;
}

START_TEST(many_processes_share_a_store)
{
    AUTO(disk_lab) lab = disk_lab_new();
    pid_t pids[WRITERS + READERS + 1];
    g_autoptr(GError) error = NULL;
    unsigned n = 0;

    disk_lab_close_store(lab);
    for (unsigned i = 0; i < WRITERS; i++, n++)
        pids[n] = start(write_points, lab, n);
    for (unsigned i = 0; i < READERS; i++, n++)
        pids[n] = start(read_points, lab, n);
    pids[n] = start(rebuild, lab, n);
    for (unsigned i = 0; i <= n; i++) {
        int status;

        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "process %u: status %d", i,
                      status);
    }
    disk_lab_open_store(lab);
    g_autoptr(GPtrArray) points = store_points(lab->store, NULL, &error);

    unit_ok(points, error);
    ck_assert_uint_ge(points->len, 3 * WRITERS);
    for (unsigned i = 0; i < points->len; i++)
        verify_point(lab, points->pdata[i]);
}
END_TEST

int main(void)
{
    return UNIT_RUN("store-parallel", many_processes_share_a_store);
}
