/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Committed points go from one store to another as they are. The source is not trusted more than a
 * source of new points: what arrives is compared with its SHA256SUMS, and the destination checks it
 * as it checks every point.
 */
#include <inttypes.h>
#include <string.h>

#include "replicator/sums.h"

/* --- One point ------------------------------------------------------------------------------ */

struct copier {
    struct store *from; /* borrowed */
    const char *vm_uuid, *point;
    GHashTable *sums;
    struct incoming *incoming;
    struct progress *progress;
    char *subject;
    uint64_t done, total;
    /* The file that is being copied. */
    unsigned file;
    uint64_t at;
    struct digest *digest;
    GError *refused; /* by the destination, which must not look like an error of the source */
};

static void copier_clear(struct copier *self)
{
    g_clear_pointer(&self->sums, g_hash_table_unref);
    incoming_free(self->incoming);
    digest_free(self->digest);
    g_free(self->subject);
    g_clear_error(&self->refused);
}
#define AUTO_COPIER __attribute__((cleanup(copier_clear))) struct copier

struct small_file {
    GByteArray *bytes;
    size_t max;
    const char *name;
};

static bool take_small(void *context, const void *data, size_t len, GError **error)
{
    struct small_file *file = context;

    if (len > file->max - file->bytes->len)
        return fail(error, ERROR_INTEGRITY, "%s has more than %zu bytes", file->name, file->max);
    g_byte_array_append(file->bytes, data, (unsigned)len);
    return true;
}

/* A whole file of at most MAX bytes as text; g_free. */
static char *get_text(struct copier *self, const char *name, size_t max, size_t *len,
                      GError **error)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    struct small_file file = {bytes, max, name};

    if (!store_get(self->from, self->vm_uuid, self->point, name, 0, take_small, &file, error))
        return NULL;
    *len = bytes->len;
    g_byte_array_append(bytes, (const uint8_t *)"", 1);
    return (char *)g_byte_array_free(g_steal_pointer(&bytes), FALSE);
}

static bool is_listed(const struct copier *self, const char *name,
                      const uint8_t digest[DIGEST_SIZE], GError **error)
{
    const char *expected = g_hash_table_lookup(self->sums, name);
    char hex[DIGEST_HEX_SIZE];

    digest_to_hex(digest, hex);
    if (g_strcmp0(hex, expected) != 0)
        return fail(error, ERROR_INTEGRITY,
                    "%s: %s of point %s is damaged: its SHA-256 is not that in " SHA256SUMS_NAME
                    "; see: drctl verify, at that site",
                    self->from->label, name, self->point);
    return true;
}

/* Read SHA256SUMS, and the manifest as it is now: the point may have been rewritten since it was
 * listed. */
static struct manifest *get_manifest(struct copier *self, GError **error)
{
    size_t len;
    g_autofree char *sums = get_text(self, SHA256SUMS_NAME, SUMS_MAX, &len, error);
    g_autofree char *text = NULL;
    AUTO(manifest) manifest = NULL;
    uint8_t digest[DIGEST_SIZE];

    self->sums = sums ? sums_parse(sums, SHA256SUMS_NAME, error) : NULL;
    if (!self->sums)
        return NULL;
    text = get_text(self, MANIFEST_NAME, MANIFEST_MAX_BYTES, &len, error);
    if (!text)
        return NULL;
    digest_buffer(text, len, digest);
    if (!is_listed(self, MANIFEST_NAME, digest, error))
        return NULL;
    manifest = manifest_parse(text, len, MANIFEST_NAME, error);
    if (manifest &&
        (strcmp(manifest->uuid, self->vm_uuid) != 0 || strcmp(manifest->point, self->point) != 0)) {
        fail(error, ERROR_INTEGRITY, "%s: the manifest is of point %s of VM %s", self->from->label,
             manifest->point, manifest->uuid);
        return NULL;
    }
    return g_steal_pointer(&manifest);
}

static bool pass_on(void *context, const void *data, size_t len, GError **error)
{
    struct copier *self = context;

    if (!incoming_write(self->incoming, self->file, self->at, data, len, &self->refused))
        return fail(error, ERROR_FAILED, "the destination refused it");
    digest_update(self->digest, data, len);
    self->at += len;
    self->done += len;
    progress_bytes(self->progress, self->subject, self->done, self->total);
    return interrupt_check(error);
}

static bool copy_file(struct copier *self, const struct manifest_file *file, GError **error)
{
    uint8_t digest[DIGEST_SIZE];

    self->at = 0;
    if (!incoming_open(self->incoming, file->name, &self->file, error))
        return false;
    if (!store_get(self->from, self->vm_uuid, self->point, file->name, 0, pass_on, self, error)) {
        if (self->refused) {
            g_clear_error(error);
            g_propagate_error(error, g_steal_pointer(&self->refused));
        }
        return false;
    }
    digest_final(self->digest, digest);
    return is_listed(self, file->name, digest, error);
}

static bool copy_files(struct copier *self, const struct manifest *manifest, GError **error)
{
    for (unsigned i = 0; i < manifest->files->len; i++)
        self->total += ((const struct manifest_file *)manifest->files->pdata[i])->bytes;
    for (unsigned i = 0; i < manifest->files->len; i++)
        if (!copy_file(self, manifest->files->pdata[i], error))
            return false;
    return true;
}

bool store_copy_point(struct store *from, struct store *to, const struct manifest *point,
                      struct progress *progress, GError **error)
{
    AUTO_COPIER self = {
        .from = from,
        .vm_uuid = point->uuid,
        .point = point->point,
        .progress = progress,
        .subject = g_strdup_printf("%s/%s", point->vm, point->point),
        .digest = digest_new(),
    };
    AUTO(manifest) manifest = get_manifest(&self, error);

    self.incoming = manifest ? store_begin(to, point->uuid, point->point, error) : NULL;
    return self.incoming && copy_files(&self, manifest, error) &&
           incoming_commit(self.incoming, manifest, error);
}

/* --- Which points --------------------------------------------------------------------------- */

struct plan {
    struct store *from, *to; /* borrowed */
    GHashTable *vms;         /* UUIDs of those that were looked at */
    GHashTable *have;        /* "<vm>/<point>" -> struct manifest at FROM */
    GHashTable *there;       /* "<vm>/<point>" at TO, or chosen already */
    GPtrArray *chosen;       /* of struct manifest */
};

static void plan_clear(struct plan *self)
{
    g_hash_table_unref(self->vms);
    g_hash_table_unref(self->have);
    g_hash_table_unref(self->there);
    g_ptr_array_unref(self->chosen);
}
#define AUTO_PLAN __attribute__((cleanup(plan_clear))) struct plan

static char *key_of(const char *vm_uuid, const char *point)
{
    return g_strconcat(vm_uuid, "/", point, NULL);
}

/* What both stores have of VM; NULL: of all. */
static bool look_at(struct plan *self, const char *vm, GError **error)
{
    g_autoptr(GPtrArray) here = store_points(self->from, vm, error);
    g_autoptr(GPtrArray) there = here ? store_points(self->to, vm, error) : NULL;

    if (!there)
        return false;
    for (unsigned i = 0; i < there->len; i++) {
        const struct manifest *manifest = there->pdata[i];

        g_hash_table_add(self->there, key_of(manifest->uuid, manifest->point));
    }
    g_ptr_array_set_free_func(here, NULL);
    for (unsigned i = 0; i < here->len; i++) {
        struct manifest *manifest = here->pdata[i];

        g_hash_table_add(self->vms, g_strdup(manifest->uuid));
        g_hash_table_insert(self->have, key_of(manifest->uuid, manifest->point), manifest);
    }
    if (vm)
        g_hash_table_add(self->vms, g_strdup(vm));
    return true;
}

static void choose(struct plan *self, const char *vm_uuid, const char *point)
{
    g_autofree char *key = key_of(vm_uuid, point);
    void *stored = NULL, *manifest = NULL;

    if (g_hash_table_contains(self->there, key) ||
        !g_hash_table_steal_extended(self->have, key, &stored, &manifest))
        return;
    g_hash_table_add(self->there, stored);
    g_ptr_array_add(self->chosen, manifest);
}

static bool choose_bases(struct plan *self, const struct manifest *manifest, GError **error)
{
    for (unsigned i = 0; i < manifest->disks->len; i++) {
        const struct manifest_disk *disk = manifest->disks->pdata[i];
        const char *vm = disk->base ? manifest_base_vm(manifest, disk) : NULL;

        if (!vm)
            continue;
        if (!g_hash_table_contains(self->vms, vm) && !look_at(self, vm, error))
            return false;
        choose(self, vm, disk->base);
    }
    return true;
}

/* VM: a name or a UUID. */
static bool choose_vm(struct plan *self, const char *vm, GError **error)
{
    g_autoptr(GPtrArray) points = store_points(self->from, vm, error);

    if (!points)
        return false;
    if (points->len == 0)
        return fail(error, ERROR_NOT_FOUND, "%s: there is no recovery point of %s",
                    self->from->label, vm);
    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];

        if (!g_hash_table_contains(self->vms, manifest->uuid) &&
            !look_at(self, manifest->uuid, error))
            return false;
        choose(self, manifest->uuid, manifest->point);
    }
    return true;
}

static bool choose_all(struct plan *self, GError **error)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    GHashTableIter iter;
    void *manifest;

    if (!look_at(self, NULL, error))
        return false;
    g_hash_table_iter_init(&iter, self->have);
    while (g_hash_table_iter_next(&iter, NULL, &manifest))
        g_ptr_array_add(all, manifest);
    for (unsigned i = 0; i < all->len; i++) {
        const struct manifest *point = all->pdata[i];

        choose(self, point->uuid, point->point);
    }
    return true;
}

static int oldest_first(const void *a, const void *b)
{
    const struct manifest *left = *(struct manifest *const *)a;
    const struct manifest *right = *(struct manifest *const *)b;
    int order = strcmp(left->point, right->point);

    return order ? order : strcmp(left->uuid, right->uuid);
}

static bool are_different(struct store *from, struct store *to, GError **error)
{
    struct store_info left = {0}, right = {0};
    bool same, ok = store_info(from, &left, error) && store_info(to, &right, error);

    same = ok && strcmp(left.uuid, right.uuid) == 0;
    store_info_clear(&left);
    store_info_clear(&right);
    if (same)
        return fail(error, ERROR_USAGE, "%s and %s are the same store", from->label, to->label);
    return ok;
}

static bool make_plan(struct plan *self, char *const *vms, GError **error)
{
    if (!*vms && !choose_all(self, error))
        return false;
    for (; *vms; vms++)
        if (!choose_vm(self, *vms, error))
            return false;
    /* It grows: bases have bases. */
    for (unsigned i = 0; i < self->chosen->len; i++)
        if (!choose_bases(self, self->chosen->pdata[i], error))
            return false;
    return true;
}

GPtrArray *store_copy_plan(struct store *from, struct store *to, char *const *vms, GError **error)
{
    AUTO_PLAN self = {
        .from = from,
        .to = to,
        .vms = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
        .have =
            g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)manifest_free),
        .there = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
        .chosen = g_ptr_array_new_with_free_func((GDestroyNotify)manifest_free),
    };

    if (!are_different(from, to, error) || !make_plan(&self, vms, error))
        return NULL;
    g_ptr_array_sort(self.chosen, oldest_first);
    return g_ptr_array_ref(self.chosen);
}
