/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/origin.h"

#include <string.h>

#define DEFINITION_NAME "domain.xml"
#define NVRAM_NAME "nvram.fd"
#define DEFINITION_MAX_BYTES (4u << 20)

static void disk_free(void *data)
{
    struct origin_disk *disk = data;

    g_free(disk->target);
    g_strfreev(disk->chain);
    lost_disk_free(disk->lost);
    g_free(disk);
}

void origin_free(struct origin *origin)
{
    if (!origin)
        return;
    manifest_free(origin->manifest);
    g_free(origin->dir);
    g_free(origin->definition);
    g_free(origin->nvram);
    g_ptr_array_unref(origin->disks);
    g_clear_pointer(&origin->locks, g_hash_table_unref);
    g_free(origin);
}

static struct manifest *load_manifest(const char *dir, GError **error)
{
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);

    return manifest_load(path, error);
}

/* Leave those disks alone whose images are noted as unreadable: nobody is going to open them. */
static bool forget_unreadable(const char *dir, struct manifest *manifest, GError **error)
{
    AUTO(damage) damage = NULL;

    if (!damage_load(dir, &damage, error))
        return false;
    for (unsigned i = manifest->disks->len; damage && i-- > 0;) {
        const struct manifest_disk *disk = manifest->disks->pdata[i];
        const struct damaged_file *file = damage_file(damage, disk->file);

        if (file && file->unreadable)
            g_ptr_array_remove_index(manifest->disks, i);
    }
    return true;
}

/* Check the point in which layer FILE lies, unless it is among CHECKED. */
static bool check_layer(const struct origin *origin, const char *file, bool damaged,
                        GHashTable *checked, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(file);
    bool is_top = !damaged && strcmp(dir, origin->dir) == 0;
    AUTO(manifest) manifest = NULL;

    if (g_hash_table_contains(checked, dir))
        return true;
    manifest = is_top ? NULL : load_manifest(dir, error);
    if ((!manifest && !is_top) || (damaged && !forget_unreadable(dir, manifest, error)) ||
        !snapshot_check_point(dir, is_top ? origin->manifest : manifest, error))
        return false;
    return g_hash_table_add(checked, g_steal_pointer(&dir));
}

/* *NEW: it was not held before. */
static bool hold_vm(struct origin *origin, const struct site *site, const char *vm_uuid, bool *new,
                    GError **error)
{
    struct file_lock *lock;

    if (g_hash_table_contains(origin->locks, vm_uuid))
        return true;
    lock = store_read_lock(site->config->store, vm_uuid, error);
    if (!lock)
        return false;
    g_hash_table_insert(origin->locks, g_strdup(vm_uuid), lock);
    *new = true;
    return true;
}

/* A chain may lead through points of other VMs. While those were not held it may have changed, so it
 * is asked for again until all are. */
static char **held_chain(struct origin *origin, const struct site *site, const char *target,
                         GError **error)
{
    for (;;) {
        g_auto(GStrv) chain = store_chain(site->store, origin->manifest->uuid,
                                          origin->manifest->point, target, error);
        bool new = false;

        for (char **file = chain; file && *file; file++) {
            g_autofree char *dir = g_path_get_dirname(*file);
            g_autofree char *vm_dir = g_path_get_dirname(dir);
            g_autofree char *vm_uuid = g_path_get_basename(vm_dir);

            if (!hold_vm(origin, site, vm_uuid, &new, error))
                return NULL;
        }
        if (!new)
            return g_steal_pointer(&chain);
    }
}

/* What the chain of DISK has lost, as far as that is known. */
static bool find_loss(struct origin_disk *disk, GError **error)
{
    AUTO_CHAIN_LOSS loss = {0};

    if (!snapshot_chain_loss(disk->chain, &loss, error))
        return false;
    if (loss.unbounded)
        return fail(error, ERROR_INTEGRITY,
                    "%s; and its digests, too, so nothing tells what is left", loss.text);
    if (loss.unreadable && !loss.clusters)
        return fail(error, ERROR_INTEGRITY,
                    "%s; nothing of it is lost: `drctl heal` makes them anew", loss.text);
    if (loss.clusters)
        disk->lost = lost_disk_new(disk->target, &loss);
    return true;
}

static bool add_disk(struct origin *origin, const struct site *site,
                     const struct manifest_disk *from, bool damaged, GHashTable *checked,
                     GError **error)
{
    struct origin_disk *disk = g_new0(struct origin_disk, 1);

    g_ptr_array_add(origin->disks, disk);
    disk->target = g_strdup(from->target);
    disk->virtual_bytes = from->virtual_bytes;
    disk->chain = held_chain(origin, site, from->target, error);
    if (!disk->chain ||
        !(damaged ? find_loss(disk, error) : snapshot_chain_is_whole(disk->chain, error)))
        return false;
    for (char **file = disk->chain; *file; file++)
        if (!check_layer(origin, *file, damaged, checked, error))
            return false;
    return true;
}

/* Files that a VM is made of, beside its disks, must not be noted as damaged. */
static bool check_files(const char *dir, GError **error)
{
    static const char *const needed[] = {MANIFEST_NAME, DEFINITION_NAME, NVRAM_NAME};
    AUTO(damage) damage = NULL;

    if (!damage_load(dir, &damage, error))
        return false;
    for (size_t i = 0; damage && i < G_N_ELEMENTS(needed); i++) {
        const struct damaged_file *file = damage_file(damage, needed[i]);

        if (file)
            return fail(error, ERROR_INTEGRITY,
                        "%s is damaged (%s); `drctl heal` can get it from another store",
                        file->name, file->why);
    }
    return true;
}

static bool read_files(struct origin *origin, GError **error)
{
    g_autofree char *path = g_build_filename(origin->dir, DEFINITION_NAME, NULL);

    if (!manifest_file(origin->manifest, DEFINITION_NAME))
        return fail(error, ERROR_INTEGRITY, "it has no %s", DEFINITION_NAME);
    if (manifest_file(origin->manifest, NVRAM_NAME))
        origin->nvram = g_build_filename(origin->dir, NVRAM_NAME, NULL);
    return file_read(path, DEFINITION_MAX_BYTES, &origin->definition, NULL, error);
}

static bool load(struct origin *origin, const struct site *site, bool damaged, GError **error)
{
    g_autoptr(GHashTable) checked = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    origin->manifest = load_manifest(origin->dir, error);
    if (!origin->manifest || !check_files(origin->dir, error))
        return false;
    for (unsigned i = 0; i < origin->manifest->disks->len; i++)
        if (!add_disk(origin, site, origin->manifest->disks->pdata[i], damaged, checked, error))
            return false;
    return read_files(origin, error);
}

static struct origin *open_point(const struct site *site, const char *vm_uuid, const char *point,
                                 bool damaged, GError **error)
{
    AUTO(origin) origin = g_new0(struct origin, 1);
    bool new;

    origin->disks = g_ptr_array_new_with_free_func(disk_free);
    origin->locks =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)file_lock_free);
    /* Both become parts of a path. */
    if (!uuid_is_valid(vm_uuid) || !name_is_safe(point)) {
        fail(error, ERROR_NOT_FOUND, "'%s' is not the id of a point", point);
        return NULL;
    }
    origin->dir = store_point_dir(site->config->store, vm_uuid, point);
    if (!hold_vm(origin, site, vm_uuid, &new, error))
        return NULL;
    if (!g_file_test(origin->dir, G_FILE_TEST_IS_DIR)) {
        fail(error, ERROR_NOT_FOUND, "VM %s has no point %s here; `drctl points` lists them",
             vm_uuid, point);
        return NULL;
    }
    if (!load(origin, site, damaged, error)) {
        g_prefix_error(error, "point %s cannot be used: ", point);
        return NULL;
    }
    return g_steal_pointer(&origin);
}

struct origin *origin_open(const struct site *site, const char *vm_uuid, const char *point,
                           GError **error)
{
    return open_point(site, vm_uuid, point, false, error);
}

struct origin *origin_open_damaged(const struct site *site, const char *vm_uuid, const char *point,
                                   GError **error)
{
    return open_point(site, vm_uuid, point, true, error);
}

GPtrArray *origin_lost(const struct origin *origin)
{
    GPtrArray *lost = lost_disks_new();

    for (unsigned i = 0; i < origin->disks->len; i++) {
        const struct origin_disk *disk = origin->disks->pdata[i];

        if (disk->lost)
            g_ptr_array_add(lost, lost_disk_copy(disk->lost));
    }
    return lost;
}

bool origin_accept(struct origin *origin, const GPtrArray *lost, GError **error)
{
    for (unsigned i = 0; i < origin->disks->len; i++) {
        struct origin_disk *disk = origin->disks->pdata[i];
        const struct lost_disk *accepted = lost_disk_of(lost, disk->target);
        g_autofree char *text = disk->lost ? lost_disk_text(disk->lost) : NULL;

        if (disk->lost &&
            (!accepted || !cluster_ranges_within(disk->lost->clusters, accepted->clusters) ||
             (disk->lost->unreadable && !accepted->unreadable)))
            return fail(error, ERROR_INTEGRITY, "more of point %s is damaged than was accepted: %s",
                        origin->manifest->point, text);
        lost_disk_free(disk->lost);
        disk->lost = accepted ? lost_disk_copy(accepted) : NULL;
    }
    return true;
}

static bool verify_layer(const char *file, origin_verify_fn *verify, struct progress *progress,
                         GHashTable *verified, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(file);
    AUTO(manifest) manifest = NULL;

    if (g_hash_table_contains(verified, dir))
        return true;
    manifest = load_manifest(dir, error);
    if (!manifest || !verify(dir, manifest, progress, error))
        return false;
    return g_hash_table_add(verified, g_steal_pointer(&dir));
}

static bool verify_files(const struct origin *origin, GError **error)
{
    return store_verify_file(origin->dir, origin->manifest, DEFINITION_NAME, error) &&
           (!origin->nvram || store_verify_file(origin->dir, origin->manifest, NVRAM_NAME, error));
}

bool origin_verify(const struct origin *origin, origin_verify_fn *verify, struct progress *progress,
                   GError **error)
{
    g_autoptr(GHashTable) verified = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (unsigned i = 0; i < origin->disks->len; i++) {
        const struct origin_disk *disk = origin->disks->pdata[i];

        for (char **file = disk->chain; *file; file++)
            if (!verify_layer(*file, verify, progress, verified, error))
                return false;
    }
    return verify_files(origin, error);
}

static bool has_disk(const struct origin *origin, const char *target)
{
    for (unsigned i = 0; i < origin->disks->len; i++)
        if (strcmp(((const struct origin_disk *)origin->disks->pdata[i])->target, target) == 0)
            return true;
    return false;
}

bool origin_only(struct origin *origin, const char *disks, GError **error)
{
    g_auto(GStrv) wanted = g_strsplit(disks ? disks : "", ",", -1);

    if (!disks)
        return true;
    if (!*wanted)
        return fail(error, ERROR_USAGE, "which disk?");
    for (char **target = wanted; *target; target++)
        if (!has_disk(origin, *target))
            return fail(error, ERROR_NOT_FOUND, "point %s of %s has no disk '%s'",
                        origin->manifest->point, origin->manifest->vm, *target);
    for (unsigned i = origin->disks->len; i-- > 0;) {
        const struct origin_disk *disk = origin->disks->pdata[i];

        if (!g_strv_contains((const char *const *)wanted, disk->target))
            g_ptr_array_remove_index(origin->disks, i);
    }
    return true;
}

char **origin_left_out(const struct origin *origin)
{
    g_autoptr(GStrvBuilder) targets = g_strv_builder_new();

    for (unsigned i = 0; i < origin->manifest->disks->len; i++) {
        const struct manifest_disk *disk = origin->manifest->disks->pdata[i];

        if (!has_disk(origin, disk->target))
            g_strv_builder_add(targets, disk->target);
    }
    return g_strv_builder_end(targets);
}

/* One that is not complete, if anything of it can be used. */
static struct origin *newest_damaged(const struct site *site, const GPtrArray *points)
{
    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];
        struct origin *origin = origin_open_damaged(site, manifest->uuid, manifest->point, NULL);

        if (origin)
            return origin;
    }
    return NULL;
}

/* Points that stand on one damaged base all fail by the same. */
#define CAUSES_TOLD 3u

static void remark_causes(struct findings *findings, const GPtrArray *causes)
{
    for (unsigned i = 0; i < MIN(causes->len, CAUSES_TOLD); i++)
        remark(findings, "%s", (const char *)causes->pdata[i]);
    if (causes->len > CAUSES_TOLD)
        remark(findings, "nor can %u older ones; `drctl points` shows which are damaged",
               causes->len - CAUSES_TOLD);
}

void origin_release(struct origin *origin)
{
    g_hash_table_remove_all(origin->locks);
}

struct origin *origin_first(const struct site *site, const GPtrArray *points,
                            struct findings *findings, GError **error)
{
    g_autoptr(GPtrArray) causes = g_ptr_array_new_with_free_func(g_free);
    struct origin *origin = NULL;

    for (unsigned i = 0; i < points->len && !origin; i++) {
        const struct manifest *manifest = points->pdata[i];
        g_autoptr(GError) cause = NULL;

        origin = origin_open(site, manifest->uuid, manifest->point, &cause);
        if (!origin)
            g_ptr_array_add(causes, g_strdup(cause->message));
    }
    remark_causes(findings, causes);
    if (!origin)
        origin = newest_damaged(site, points);
    if (!origin && points->len)
        fail(error, ERROR_INTEGRITY, "none of its %u points is complete; `drctl verify` tells more",
             points->len);
    else if (!origin)
        fail(error, ERROR_NOT_FOUND, "it has no recovery point here");
    return origin;
}

struct origin *origin_newest(const struct site *site, const char *vm_uuid,
                             struct findings *findings, GError **error)
{
    g_autoptr(GPtrArray) points = store_points(site->store, vm_uuid, error);

    return points ? origin_first(site, points, findings, error) : NULL;
}

/* The newest manifest of each VM among POINTS, newest first; borrowed. */
static GPtrArray *find_candidates(const GPtrArray *points)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    GPtrArray *found = g_ptr_array_new();

    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];

        if (g_hash_table_add(seen, manifest->uuid))
            g_ptr_array_add(found, points->pdata[i]);
    }
    return found;
}

static bool fail_ambiguous(const GPtrArray *candidates, const char *vm, GError **error)
{
    g_autoptr(GString) list = g_string_new(NULL);

    for (unsigned i = 0; i < candidates->len; i++) {
        const struct manifest *manifest = candidates->pdata[i];

        g_string_append_printf(list, "%s%s of site %s", i ? ", " : "", manifest->uuid,
                               manifest->site);
    }
    return fail(error, ERROR_CONFLICT, "several VMs are called %s: name one by its UUID: %s", vm,
                list->str);
}

struct manifest *origin_find_vm(const struct site *site, const char *vm, GError **error)
{
    g_autoptr(GPtrArray) points = store_points(site->store, vm, error);
    g_autoptr(GPtrArray) candidates = points ? find_candidates(points) : NULL;
    unsigned at;

    if (!candidates)
        return NULL;
    if (candidates->len == 0) {
        fail(error, ERROR_NOT_FOUND, "there is no recovery point of a VM %s here", vm);
        return NULL;
    }
    if (candidates->len > 1) {
        fail_ambiguous(candidates, vm, error);
        return NULL;
    }
    g_ptr_array_find(points, candidates->pdata[0], &at);
    return g_ptr_array_steal_index(points, at);
}
