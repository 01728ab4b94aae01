/* SPDX-License-Identifier: Apache-2.0 */
/* Reading an archive: what must come next is known, and nothing else is taken. */
#include <inttypes.h>
#include <string.h>

#include "restore/archive.h"
#include "restore/rewrite.h"

#define HEAD_MAX_BYTES (1u << 20)
#define TEXT_MAX_BYTES (4u << 20) /* of a definition, as origin.c has it */

/* What the member that comes next is. */
enum stage { STAGE_HEAD, STAGE_VAPP, STAGE_MANIFEST, STAGE_FILE, STAGE_SUMS, STAGE_OVER };

struct archive_reader {
    const struct archive_events *events;
    enum stage stage;
    json_t *head;
    struct vapp *vapp;
    size_t vm;     /* which one of the head */
    unsigned file; /* which one of the manifest */
    struct manifest *manifest;
    bool skip;     /* nobody wants its files */
    GString *sums; /* as they must be */
    uint8_t manifest_digest[DIGEST_SIZE];
    /* Of the member that is being read. */
    GString *text; /* NULL: it is not kept */
    struct digest *digest;
    uint64_t at;
};

struct archive_reader *archive_reader_new(const struct archive_events *events)
{
    struct archive_reader *self = g_new0(struct archive_reader, 1);

    self->events = events;
    self->digest = digest_new();
    return self;
}

static void drop_text(struct archive_reader *self)
{
    if (self->text)
        g_string_free(g_steal_pointer(&self->text), TRUE);
}

static void drop_point(struct archive_reader *self)
{
    g_clear_pointer(&self->manifest, manifest_free);
    if (self->sums)
        g_string_free(g_steal_pointer(&self->sums), TRUE);
}

void archive_reader_free(struct archive_reader *self)
{
    if (!self)
        return;
    drop_text(self);
    drop_point(self);
    digest_free(self->digest);
    vapp_free(self->vapp);
    json_decref(self->head);
    g_free(self);
}

const char *archive_reader_name(const struct archive_reader *self)
{
    return json_get_string(self->head, "name");
}

const struct vapp *archive_reader_vapp(const struct archive_reader *self)
{
    return self->vapp;
}

/* ---- What must come next */

static const json_t *vm_of(const struct archive_reader *self)
{
    return json_array_get(json_object_get(self->head, "vms"), self->vm);
}

static const struct manifest_file *file_of(const struct archive_reader *self)
{
    return self->manifest->files->pdata[self->file];
}

/* Its name; g_free. */
static char *expected_name(const struct archive_reader *self)
{
    const char *uuid = json_get_string(vm_of(self), "uuid");
    const char *point = json_get_string(vm_of(self), "point");

    switch (self->stage) {
    case STAGE_HEAD:
        return g_strdup(ARCHIVE_HEAD);
    case STAGE_VAPP:
        return archive_vapp_member(archive_reader_name(self));
    case STAGE_MANIFEST:
        return archive_member(uuid, point, MANIFEST_NAME);
    case STAGE_FILE:
        return archive_member(uuid, point, file_of(self)->name);
    case STAGE_SUMS:
        return archive_member(uuid, point, SHA256SUMS_NAME);
    case STAGE_OVER:
        break;
    }
    return NULL;
}

/* How large may it be? What is kept in memory has a limit of its own. */
static bool check_size(const struct archive_reader *self, const char *name, uint64_t bytes,
                       GError **error)
{
    uint64_t max = self->stage == STAGE_HEAD || self->stage == STAGE_VAPP ? HEAD_MAX_BYTES
                                                                          : MANIFEST_MAX_BYTES;

    if (self->stage == STAGE_FILE) {
        if (bytes != file_of(self)->bytes)
            return fail(error, ERROR_INTEGRITY,
                        "%s has %" PRIu64 " bytes, the manifest says %" PRIu64, name, bytes,
                        file_of(self)->bytes);
        max = strcmp(file_of(self)->name, DEFINITION_NAME) == 0 ? TEXT_MAX_BYTES : UINT64_MAX;
    }
    return bytes <= max ||
           fail(error, ERROR_INTEGRITY, "%s has more than %" PRIu64 " bytes", name, max);
}

static bool is_kept(const struct archive_reader *self)
{
    return self->stage != STAGE_FILE || strcmp(file_of(self)->name, DEFINITION_NAME) == 0;
}

bool archive_reader_begin(void *reader, const char *name, uint64_t bytes, uint64_t at,
                          GError **error)
{
    struct archive_reader *self = reader;
    g_autofree char *expected = expected_name(self);

    if (!expected)
        return fail(error, ERROR_INTEGRITY, "there is %s where it should end", name);
    if (strcmp(name, expected) != 0)
        return fail(error, ERROR_INTEGRITY, "there is %s where %s should be", name, expected);
    if (!check_size(self, name, bytes, error))
        return false;
    drop_text(self);
    if (is_kept(self))
        self->text = g_string_new(NULL);
    self->at = 0;
    return self->stage != STAGE_FILE || self->skip || !self->events->file ||
           self->events->file(self->events->context, file_of(self), error);
}

bool archive_reader_data(void *reader, const void *data, size_t len, GError **error)
{
    struct archive_reader *self = reader;
    uint64_t at = self->at;

    if (self->text)
        g_string_append_len(self->text, data, (gssize)len);
    digest_update(self->digest, data, len);
    self->at += len;
    return self->stage != STAGE_FILE || self->skip || !self->events->data ||
           self->events->data(self->events->context, at, data, len, error);
}

/* ---- What has come */

static bool check_vm(const json_t *entry, GHashTable *seen, GError **error)
{
    const char *vm, *uuid, *point;
    int64_t ms;

    if (!json_need_string(entry, "vm", &vm, error) ||
        !json_need_string(entry, "uuid", &uuid, error) ||
        !json_need_string(entry, "point", &point, error))
        return false;
    if (!vm_name_is_valid(vm) || !uuid_is_valid(uuid) || !point_id_parse(point, &ms))
        return fail(error, ERROR_INTEGRITY, "\"vms\" has one without a good name, UUID or point");
    return g_hash_table_add(seen, (char *)uuid) ||
           fail(error, ERROR_INTEGRITY, "VM %s is there twice", uuid);
}

static bool check_vms(const json_t *vms, bool is_vapp, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    size_t count = json_array_size(vms);

    if (count == 0 || count > ARCHIVE_MAX_VMS || (!is_vapp && count > 1))
        return fail(error, ERROR_INTEGRITY, "it cannot have %zu VMs", count);
    for (size_t i = 0; i < count; i++)
        if (!check_vm(json_array_get(vms, i), seen, error))
            return false;
    return true;
}

static bool take_head(struct archive_reader *self, GError **error)
{
    json_auto_t *head = json_parse(self->text->str, self->text->len, ARCHIVE_HEAD, error);
    const char *kind, *name;
    uint64_t format;
    json_t *vms;
    bool is_vapp;

    if (!head || !json_need_string(head, "kind", &kind, error) ||
        !json_need_u64(head, "format", &format, error))
        return false;
    if (strcmp(kind, ARCHIVE_KIND) != 0 || format != ARCHIVE_FORMAT)
        return fail(error, ERROR_INTEGRITY,
                    "it is a %s of format %" PRIu64 ", and only %s of format %d is known here",
                    kind, format, ARCHIVE_KIND, ARCHIVE_FORMAT);
    if (!json_need_string(head, "name", &name, error) ||
        !json_need_bool(head, "vapp", &is_vapp, error) ||
        !json_need_array(head, "vms", &vms, error) || !check_vms(vms, is_vapp, error))
        return false;
    /* The name of a vApp becomes that of a file. */
    if (is_vapp ? !name_is_safe(name) : !vm_name_is_valid(name))
        return fail(error, ERROR_INTEGRITY, "its name is not one of a %s", is_vapp ? "vApp" : "VM");
    self->head = g_steal_pointer(&head);
    self->stage = is_vapp ? STAGE_VAPP : STAGE_MANIFEST;
    return true;
}

static bool take_vapp(struct archive_reader *self, GError **error)
{
    g_autofree char *member = archive_vapp_member(archive_reader_name(self));

    self->vapp = vapp_parse(self->text->str, self->text->len, member, error);
    if (!self->vapp)
        return false;
    if (strcmp(self->vapp->name, archive_reader_name(self)) != 0)
        return fail(error, ERROR_INTEGRITY, "%s is that of %s", member, self->vapp->name);
    self->stage = STAGE_MANIFEST;
    return true;
}

static bool check_manifest(const struct archive_reader *self, const struct manifest *manifest,
                           GError **error)
{
    const json_t *vm = vm_of(self);

    if (g_strcmp0(manifest->vm, json_get_string(vm, "vm")) != 0 ||
        g_strcmp0(manifest->uuid, json_get_string(vm, "uuid")) != 0 ||
        g_strcmp0(manifest->point, json_get_string(vm, "point")) != 0)
        return fail(error, ERROR_INTEGRITY, "a manifest is not that of the point it lies in");
    if (manifest->base || manifest_newest_base(manifest) || manifest->checkpoint)
        return fail(error, ERROR_INTEGRITY, "point %s of %s is not a full one", manifest->point,
                    manifest->vm);
    return manifest_file(manifest, DEFINITION_NAME) ||
           fail(error, ERROR_INTEGRITY, "VM %s has no " DEFINITION_NAME, manifest->vm);
}

static bool take_manifest(struct archive_reader *self, GError **error)
{
    AUTO(manifest)
    manifest = manifest_parse(self->text->str, self->text->len, MANIFEST_NAME, error);

    if (!manifest || !check_manifest(self, manifest, error))
        return false;
    digest_final(self->digest, self->manifest_digest);
    self->manifest = g_steal_pointer(&manifest);
    self->sums = g_string_new(NULL);
    self->file = 0;
    self->skip = false;
    self->stage = STAGE_FILE;
    return !self->events->point ||
           self->events->point(self->events->context, self->manifest, &self->skip, error);
}

/* What would only be found when it is to be started. */
static bool check_definition(const struct archive_reader *self, GError **error)
{
    g_autofree char *what = g_strdup_printf(DEFINITION_NAME " of %s", self->manifest->vm);
    AUTO(xml) xml = definition_parse(self->text->str, what, error);

    return xml != NULL;
}

static bool take_file(struct archive_reader *self, GError **error)
{
    uint8_t digest[DIGEST_SIZE];

    if (self->text && !check_definition(self, error))
        return false;
    digest_final(self->digest, digest);
    archive_sum(self->sums, file_of(self)->name, digest);
    if (++self->file == self->manifest->files->len)
        self->stage = STAGE_SUMS;
    return true;
}

static bool take_sums(struct archive_reader *self, GError **error)
{
    archive_sum(self->sums, MANIFEST_NAME, self->manifest_digest);
    if (!g_string_equal(self->sums, self->text))
        return fail(error, ERROR_INTEGRITY,
                    "point %s of %s is damaged: its files are not those of its " SHA256SUMS_NAME,
                    self->manifest->point, self->manifest->vm);
    if (!self->skip && self->events->commit &&
        !self->events->commit(self->events->context, self->manifest, error))
        return false;
    drop_point(self);
    self->stage = ++self->vm < json_array_size(json_object_get(self->head, "vms")) ? STAGE_MANIFEST
                                                                                   : STAGE_OVER;
    return true;
}

bool archive_reader_end(void *reader, GError **error)
{
    static bool (*const take[])(struct archive_reader * self, GError * *error) = {
        [STAGE_HEAD] = take_head, [STAGE_VAPP] = take_vapp, [STAGE_MANIFEST] = take_manifest,
        [STAGE_FILE] = take_file, [STAGE_SUMS] = take_sums,
    };
    struct archive_reader *self = reader;
    uint8_t digest[DIGEST_SIZE];
    bool taken = take[self->stage](self, error);

    /* Begin anew, whoever has asked for it. */
    digest_final(self->digest, digest);
    return taken;
}

bool archive_reader_finish(const struct archive_reader *self, GError **error)
{
    g_autofree char *expected = expected_name(self);

    return !expected || fail(error, ERROR_INTEGRITY, "it ends where %s should be", expected);
}
