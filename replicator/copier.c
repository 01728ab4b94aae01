/* SPDX-License-Identifier: Apache-2.0 */
#include "replicator/copier.h"

#include <string.h>

#include "replicator/sums.h"

struct copier {
    struct store *from; /* borrowed */
    char *vm_uuid, *point;
    GHashTable *sums;
    struct progress *progress;
    char *subject;
    uint64_t done, total;
    /* The file that is being copied. */
    struct incoming *into; /* borrowed */
    unsigned file;
    uint64_t at;
    const char *name;
    uint64_t expected; /* its bytes */
    struct digest *digest;
    GError *refused; /* by the destination, which must not look like an error of the source */
    bool was_refused;
};

struct copier *copier_new(struct store *from, const struct manifest *point,
                          struct progress *progress)
{
    struct copier *self = g_new0(struct copier, 1);

    self->from = from;
    self->vm_uuid = g_strdup(point->uuid);
    self->point = g_strdup(point->point);
    self->progress = progress;
    self->subject = g_strdup_printf("%s/%s", point->vm, point->point);
    self->digest = digest_new();
    return self;
}

void copier_free(struct copier *self)
{
    if (!self)
        return;
    g_clear_pointer(&self->sums, g_hash_table_unref);
    digest_free(self->digest);
    g_free(self->vm_uuid);
    g_free(self->point);
    g_free(self->subject);
    g_clear_error(&self->refused);
    g_free(self);
}

const char *copier_sum(const struct copier *self, const char *name)
{
    return g_hash_table_lookup(self->sums, name);
}

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

struct manifest *copier_manifest(struct copier *self, GError **error)
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

    if (len > self->expected - self->at)
        return fail(error, ERROR_INTEGRITY, "%s is damaged there: it is longer than it should be",
                    self->name);
    if (!incoming_write(self->into, self->file, self->at, data, len, &self->refused))
        return fail(error, ERROR_FAILED, "the destination refused it");
    digest_update(self->digest, data, len);
    self->at += len;
    self->done += len;
    progress_bytes(self->progress, self->subject, self->done, self->total);
    return interrupt_check(error);
}

bool copier_file(struct copier *self, struct incoming *into, const struct manifest_file *file,
                 GError **error)
{
    uint8_t digest[DIGEST_SIZE];

    self->into = into;
    self->at = 0;
    self->name = file->name;
    self->expected = file->bytes;
    self->was_refused = !incoming_open(into, file->name, &self->file, error);
    if (self->was_refused)
        return false;
    if (!store_get(self->from, self->vm_uuid, self->point, file->name, 0, pass_on, self, error)) {
        if (self->refused) {
            self->was_refused = true;
            g_clear_error(error);
            g_propagate_error(error, g_steal_pointer(&self->refused));
        }
        return false;
    }
    digest_final(self->digest, digest);
    return is_listed(self, file->name, digest, error);
}

bool copier_was_refused(const struct copier *self)
{
    return self->was_refused;
}

void copier_expect(struct copier *self, uint64_t bytes)
{
    self->total = bytes;
}
