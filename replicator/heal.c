/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damaged points are made whole. What is good is linked, what is damaged is brought or composed
 * beside it; when all of it was read back, checked and verified, the two directories change places.
 * Until then the damaged point stays as it is, and a kill at any time leaves the one or the other.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "replicator/copier.h"
#include "replicator/local.h"
#include "replicator/sums.h"

struct healing {
    struct local_store *store;
    const struct manifest *point; /* only its VM and its id are trusted */
    char *dir;                    /* of the damaged point */
    struct damage *damage;
    GHashTable *sums; /* its SHA256SUMS, or NULL when they are damaged */
    struct progress *progress;
    struct local_incoming *incoming;
    struct manifest *manifest; /* of the point as it will be */
    struct manifest *fresh;    /* the same with only those disks that are not linked */
};

static void healing_clear(struct healing *self)
{
    if (self->incoming)
        incoming_free(&self->incoming->incoming);
    manifest_free(self->manifest);
    manifest_free(self->fresh);
    damage_free(self->damage);
    g_clear_pointer(&self->sums, g_hash_table_unref);
    g_free(self->dir);
}
#define AUTO_HEALING __attribute__((cleanup(healing_clear))) struct healing

static struct manifest *copy_of(const struct manifest *manifest, GError **error)
{
    json_auto_t *json = manifest_json(manifest);

    return manifest_from_json(json, manifest->point, error);
}

static bool begin(struct healing *self, GError **error)
{
    self->incoming = local_begin_again(self->store, self->point->uuid, self->point->point, error);
    self->fresh = copy_of(self->manifest, error);
    return self->incoming && self->fresh;
}

/* Disk TARGET is as it was. */
static void not_fresh(struct healing *self, const char *target)
{
    for (unsigned i = 0; i < self->fresh->disks->len; i++)
        if (strcmp(((const struct manifest_disk *)self->fresh->disks->pdata[i])->target, target) ==
            0) {
            g_ptr_array_remove_index(self->fresh->disks, i);
            return;
        }
}

/* --- From another store ---------------------------------------------------------------------- */

/* Is the file that is here the one that the other store has? */
static bool is_good(const struct healing *self, const struct copier *copier, const char *name)
{
    return self->sums && !damage_file(self->damage, name) &&
           g_strcmp0(g_hash_table_lookup(self->sums, name), copier_sum(copier, name)) == 0;
}

static void note_linked_disks(struct healing *self, const struct copier *copier)
{
    for (unsigned i = 0; i < self->manifest->disks->len; i++) {
        const struct manifest_disk *disk = self->manifest->disks->pdata[i];

        if (is_good(self, copier, disk->file) && is_good(self, copier, disk->digests))
            not_fresh(self, disk->target);
    }
}

/* What this store still knows of the point decides what it is: another store must not change it. */
static bool check_same(const struct healing *self, const struct copier *copier, GError **error)
{
    GHashTableIter iter;
    void *name, *sum;

    if (!self->sums)
        return true;
    g_hash_table_iter_init(&iter, self->sums);
    while (g_hash_table_iter_next(&iter, &name, &sum))
        if (g_strcmp0(sum, copier_sum(copier, name)) != 0)
            return fail(error, ERROR_CONFLICT,
                        "%s is not the same there: the point was changed, or its points below were "
                        "dropped at one of the two stores",
                        (const char *)name);
    return true;
}

static bool fetch(struct healing *self, struct store *from, GError **error)
{
    AUTO(copier) copier = copier_new(from, self->point, self->progress);

    self->manifest = copier_manifest(copier, error);
    if (!self->manifest || !check_same(self, copier, error) || !begin(self, error))
        return false;
    note_linked_disks(self, copier);
    copier_expect(copier, manifest_bytes(self->manifest));
    for (unsigned i = 0; i < self->manifest->files->len; i++) {
        const struct manifest_file *file = self->manifest->files->pdata[i];
        bool done = is_good(self, copier, file->name)
                        ? local_link(self->incoming, file->name, error)
                        : copier_file(copier, &self->incoming->incoming, file, error);

        if (!done)
            return false;
    }
    return true;
}

/* --- From what this store has ---------------------------------------------------------------- */

/* The manifest, which may itself be what is damaged: then the catalog knows it, and SHA256SUMS proves
 * it. */
static struct manifest *proven_manifest(const struct healing *self, GError **error)
{
    const char *expected = g_hash_table_lookup(self->sums, MANIFEST_NAME);
    AUTO(manifest) manifest = NULL;
    g_autofree char *text = NULL;
    uint8_t digest[DIGEST_SIZE];
    char hex[DIGEST_HEX_SIZE];

    if (!damage_file(self->damage, MANIFEST_NAME))
        return local_manifest(self->store->path, self->point->uuid, self->point->point, error);
    manifest = local_cached_manifest(self->store, self->point->uuid, self->point->point);
    text = manifest ? manifest_text(manifest) : g_strdup("");
    digest_buffer(text, strlen(text), digest);
    digest_to_hex(digest, hex);
    if (g_strcmp0(hex, expected) == 0)
        return g_steal_pointer(&manifest);
    fail(error, ERROR_NOT_FOUND, "its manifest is damaged, and nothing here says what it was");
    return NULL;
}

static void set_layer(struct image_layer *layer, const char *dir, const struct manifest_disk *disk)
{
    layer->image = g_build_filename(dir, disk->file, NULL);
    layer->digests = g_build_filename(dir, disk->digests, NULL);
    layer->virtual_bytes = disk->virtual_bytes;
}

static void layer_clear(void *data)
{
    struct image_layer *layer = data;

    g_free(layer->image);
    g_free(layer->digests);
}

/* Images of the same disk in the VM's other points, newest first. */
static GArray *find_donors(const struct healing *self, const struct manifest_disk *disk,
                           GError **error)
{
    g_autoptr(GPtrArray) points = local_points(&self->store->store, self->point->uuid, error);
    GArray *donors;

    if (!points)
        return NULL;
    donors = g_array_new(FALSE, TRUE, sizeof(struct image_layer));
    g_array_set_clear_func(donors, layer_clear);
    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *other = points->pdata[i];
        const struct manifest_disk *same = manifest_disk(other, disk->target);
        g_autofree char *dir = store_point_dir(self->store->path, other->uuid, other->point);
        struct image_layer layer;

        if (!same || strcmp(other->point, self->point->point) == 0)
            continue;
        set_layer(&layer, dir, same);
        g_array_append_val(donors, layer);
    }
    return donors;
}

static bool repair_image(struct healing *self, const struct manifest_disk *old,
                         const struct damaged_file *damage, GError **error)
{
    g_autoptr(GArray) donors = find_donors(self, old, error);
    struct repair_job job = {
        .damage = damage,
        .donors = donors ? (struct image_layer *)(void *)donors->data : NULL,
        .donor_count = donors ? donors->len : 0,
        .into = &self->incoming->incoming,
        .manifest = self->manifest,
        .disk = (struct manifest_disk *)manifest_disk(self->manifest, old->target),
    };
    bool done;

    if (!donors)
        return false;
    set_layer(&job.layer, self->dir, old);
    manifest_remove_file(self->manifest, old->file);
    manifest_remove_file(self->manifest, old->digests);
    done = self->store->point_ops->repair(&job, error);
    layer_clear(&job.layer);
    return done;
}

static bool repair_digests(struct healing *self, const struct manifest_disk *old, GError **error)
{
    struct image_layer layer;
    bool done;

    set_layer(&layer, self->dir, old);
    done = local_link(self->incoming, old->file, error) &&
           self->store->point_ops->make_digests(&layer, &self->incoming->incoming, old->digests,
                                                error);
    layer_clear(&layer);
    return done;
}

static bool repair_disk(struct healing *self, const struct manifest_disk *old, GError **error)
{
    const struct damaged_file *image = damage_file(self->damage, old->file);
    const struct damaged_file *digests = damage_file(self->damage, old->digests);

    if (image && digests)
        return fail(error, ERROR_NOT_FOUND, "both %s and %s are damaged", old->file, old->digests);
    if (image)
        return repair_image(self, old, image, error);
    if (digests)
        return repair_digests(self, old, error);
    not_fresh(self, old->target);
    return local_link(self->incoming, old->file, error) &&
           local_link(self->incoming, old->digests, error);
}

static bool is_of_disk(const struct manifest *manifest, const char *name)
{
    for (unsigned i = 0; i < manifest->disks->len; i++) {
        const struct manifest_disk *disk = manifest->disks->pdata[i];

        if (strcmp(disk->file, name) == 0 || strcmp(disk->digests, name) == 0)
            return true;
    }
    return false;
}

static bool link_others(struct healing *self, const struct manifest *old, GError **error)
{
    for (unsigned i = 0; i < old->files->len; i++) {
        const char *name = ((const struct manifest_file *)old->files->pdata[i])->name;

        if (is_of_disk(old, name))
            continue;
        if (damage_file(self->damage, name))
            return fail(error, ERROR_NOT_FOUND, "%s is damaged, and is nowhere else in this store",
                        name);
        if (!local_link(self->incoming, name, error))
            return false;
    }
    return true;
}

/* Were digests made anew that are not those of the commit? Then the image is not what it was. */
static bool check_digests(const struct healing *self, const struct manifest *old, GError **error)
{
    g_autoptr(GHashTable) sums = sums_read(self->incoming->dir, error);

    for (unsigned i = 0; sums && i < old->disks->len; i++) {
        const char *name = ((const struct manifest_disk *)old->disks->pdata[i])->digests;

        if (g_strcmp0(g_hash_table_lookup(sums, name), g_hash_table_lookup(self->sums, name)) != 0)
            return fail(error, ERROR_INTEGRITY, "%s does not become what it was", name);
    }
    return sums != NULL;
}

static bool repair(struct healing *self, GError **error)
{
    AUTO(manifest) old = NULL;

    if (!self->sums)
        return fail(error, ERROR_NOT_FOUND,
                    SHA256SUMS_NAME " is damaged, so nothing here says what is good");
    old = proven_manifest(self, error);
    self->manifest = old ? copy_of(old, error) : NULL;
    if (!self->manifest || !begin(self, error) || !link_others(self, old, error))
        return false;
    for (unsigned i = 0; i < old->disks->len; i++)
        if (!repair_disk(self, old->disks->pdata[i], error))
            return false;
    /* The sizes are those of the images as they are now. */
    manifest_free(g_steal_pointer(&self->fresh));
    self->fresh = copy_of(self->manifest, error);
    for (unsigned i = 0; self->fresh && i < old->disks->len; i++) {
        const struct manifest_disk *disk = old->disks->pdata[i];

        if (!damage_file(self->damage, disk->file) && !damage_file(self->damage, disk->digests))
            not_fresh(self, disk->target);
    }
    return self->fresh && local_settle(self->incoming, self->manifest, self->fresh, error) &&
           check_digests(self, old, error);
}

/* --- Changing places ------------------------------------------------------------------------- */

/* QEMU may have been granted the point; it will want to open it again. */
static bool keep_mode(const char *from, const char *to, GError **error)
{
    struct stat status;

    if (stat(from, &status) < 0 && errno == ENOENT)
        return true;
    if (chown(to, (uid_t)-1, status.st_gid) < 0 || chmod(to, status.st_mode & 07777) < 0)
        return fail_errno(error, errno, "cannot give %s the mode of %s", to, from);
    return true;
}

static bool keep_modes(const struct healing *self, GError **error)
{
    g_auto(GStrv) names = dir_list(self->incoming->dir, error);

    for (char **name = names; name && *name; name++) {
        g_autofree char *from = g_build_filename(self->dir, *name, NULL);
        g_autofree char *to = g_build_filename(self->incoming->dir, *name, NULL);

        if (!keep_mode(from, to, error))
            return false;
    }
    return names && keep_mode(self->dir, self->incoming->dir, error);
}

/* What was linked has not been read: whether the point is whole, the next verification says. */
static void forget_verdict(const struct healing *self)
{
    g_autofree char *key = g_strconcat(self->point->uuid, "/", self->point->point, NULL);

    catalog_remove(self->store->catalog, CATALOG_VERIFIED, key, NULL);
}

/* A verification may have found more since we looked. */
static bool check_damage(const struct healing *self, GError **error)
{
    AUTO(damage) now = NULL;
    g_autofree char *before = damage_text(self->damage);
    g_autofree char *after = NULL;

    if (!damage_load(self->dir, &now, NULL))
        return true; /* as before: the note itself cannot be read */
    after = now ? damage_text(now) : NULL;
    return g_strcmp0(before, after) == 0 ||
           fail(error, ERROR_CONFLICT, "more of it was found damaged meanwhile; heal it again");
}

static bool exchange(struct healing *self, GError **error)
{
    g_autofree char *path = local_read_lock_path(self->store->path, self->point->uuid);
    g_autofree char *what = g_strdup_printf("the points of VM %s", self->point->uuid);
    AUTO(file_lock) lock = NULL;

    if (!self->store->point_ops->verify(self->incoming->dir, self->fresh, self->progress, error) ||
        !keep_modes(self, error))
        return false;
    lock = file_lock_take(path, what, error);
    if (!lock || !check_damage(self, error) ||
        !path_exchange(self->incoming->dir, self->dir, error))
        return false;
    local_cache_put(self->store, self->manifest);
    forget_verdict(self);
    return true;
}

/* --- All of it ------------------------------------------------------------------------------- */

static bool heal(struct healing *self, struct store *from, GError **error)
{
    if (from)
        return fetch(self, from, error) &&
               local_settle(self->incoming, self->manifest, self->fresh, error) &&
               exchange(self, error);
    return repair(self, error) && exchange(self, error);
}

/* A note that cannot be read says that all is damaged. */
static bool load_damage(struct healing *self)
{
    g_autoptr(GError) why = NULL;

    if (!damage_load(self->dir, &self->damage, &why)) {
        self->damage = damage_new();
        damage_add(self->damage, SHA256SUMS_NAME, why->message);
    }
    if (self->damage && !damage_file(self->damage, SHA256SUMS_NAME))
        self->sums = sums_read(self->dir, NULL);
    return self->damage != NULL;
}

bool store_heal_point(struct store *local, const struct manifest *point, struct store *from,
                      struct progress *progress, GError **error)
{
    AUTO_HEALING self = {
        .store = (struct local_store *)local,
        .point = point,
        .progress = progress,
    };
    AUTO(file_lock) lock = local_take_place(self.store, point->uuid, error);

    self.dir = store_point_dir(self.store->path, point->uuid, point->point);
    if (!lock || !load_damage(&self))
        return lock != NULL;
    if (heal(&self, from, error))
        return true;
    explain_no_space(self.store->path, error);
    g_prefix_error(error, "point %s of %s stays damaged: ", point->point, point->vm);
    return false;
}

static bool is_noted(const struct local_store *store, const struct manifest *point)
{
    g_autofree char *dir = store_point_dir(store->path, point->uuid, point->point);
    g_autofree char *note = g_build_filename(dir, DAMAGE_NAME, NULL);

    return g_file_test(note, G_FILE_TEST_EXISTS);
}

void store_heal_vm(struct store *local, const char *vm_uuid, struct progress *progress)
{
    g_autoptr(GPtrArray) points = local_points(local, vm_uuid, NULL);

    for (unsigned i = 0; points && i < points->len; i++) {
        const struct manifest *point = points->pdata[i];
        g_autoptr(GError) why = NULL;

        if (!is_noted((const struct local_store *)local, point))
            continue;
        if (store_heal_point(local, point, NULL, progress, &why))
            progress_note(progress, "point %s of %s is healed", point->point, point->vm);
        else
            progress_note(progress, "%s", why->message);
    }
}
