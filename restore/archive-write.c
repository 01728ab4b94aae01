/* SPDX-License-Identifier: Apache-2.0 */
/* Points become an archive. */
#include <string.h>

#include "restore/archive.h"
#include "restore/export-choice.h"
#include "restore/ova.h"

#define NVRAM_MAX_BYTES (64u << 20)

struct archived_vm {
    const struct origin *origin; /* borrowed from the choice */
    struct manifest *manifest;   /* of the archive */
    GPtrArray *disks;            /* of struct merged_disk */
};

struct writing {
    const struct site *site;
    const struct export_request *request;
    char *dir; /* of the archive */
    struct export_choice choice;
    GPtrArray *vms; /* of struct archived_vm */
};

char *archive_member(const char *vm_uuid, const char *point, const char *name)
{
    return g_strdup_printf("vms/%s/%s/%s", vm_uuid, point, name);
}

char *archive_vapp_member(const char *name)
{
    return g_strdup_printf("vapps/%s.vapp", name);
}

bool archive_check_name(const char *file, bool *is_ova, GError **error)
{
    *is_ova = g_str_has_suffix(file, OVA_SUFFIX);
    return *is_ova || g_str_has_suffix(file, ARCHIVE_SUFFIX) ||
           fail(
               error, ERROR_USAGE,
               "%s: what kind of file it is follows from its name: it must end with " ARCHIVE_SUFFIX
               " or " OVA_SUFFIX,
               file);
}

void archive_sum(GString *sums, const char *name, const uint8_t digest[DIGEST_SIZE])
{
    char hex[DIGEST_HEX_SIZE];

    digest_to_hex(digest, hex);
    g_string_append_printf(sums, "%s  %s\n", hex, name);
}

static void vm_free(void *data)
{
    struct archived_vm *vm = data;

    g_clear_pointer(&vm->disks, g_ptr_array_unref);
    manifest_free(vm->manifest);
    g_free(vm);
}

static void free_disk(void *disk)
{
    merged_disk_free(disk);
}

static void writing_clear(struct writing *self)
{
    g_free(self->dir);
    g_clear_pointer(&self->vms, g_ptr_array_unref);
    export_choice_clear(&self->choice);
}
#define AUTO_WRITING __attribute__((cleanup(writing_clear))) struct writing

/* ---- What each of them becomes */

static struct manifest *describe(const struct manifest *from, const char *site)
{
    struct manifest *manifest = manifest_new();

    manifest->vm = g_strdup(from->vm);
    manifest->uuid = g_strdup(from->uuid);
    manifest->point = g_strdup(from->point);
    manifest->time_ms = from->time_ms;
    manifest->site = g_strdup(from->site);
    manifest->consistency = from->consistency;
    manifest->group = g_strdup(from->group);
    manifest->group_members = from->group_members;
    manifest->group_skew_ms = from->group_skew_ms;
    /* No checkpoint: the next point that is sent to where it gets is compared with it. */
    manifest->label = g_strdup(from->label);
    manifest->reason = g_strdup_printf("exported at site %s", site);
    return manifest;
}

static void add_vm(struct writing *self, const struct origin *origin)
{
    struct archived_vm *vm = g_new0(struct archived_vm, 1);

    g_ptr_array_add(self->vms, vm);
    vm->origin = origin;
    vm->disks = g_ptr_array_new_with_free_func(free_disk);
}

static bool measure_vm(const struct writing *self, struct archived_vm *vm, GError **error)
{
    const struct origin *origin = vm->origin;

    vm->manifest = describe(origin->manifest, self->site->config->site);
    for (unsigned i = 0; i < origin->disks->len; i++) {
        const struct origin_disk *from = origin->disks->pdata[i];
        struct merged_disk *disk = merged_disk_new(vm->manifest, from->target, from->chain,
                                                   self->dir, self->site->progress, error);

        if (!disk)
            return false;
        g_ptr_array_add(vm->disks, disk);
    }
    return true;
}

/* Damage must not travel: what is copied is not unpacked. */
static bool prepare_vm(const struct writing *self, struct archived_vm *vm, GError **error)
{
    progress_note(self->site->progress, "%s: verifying point %s", vm->origin->manifest->vm,
                  vm->origin->manifest->point);
    return origin_verify(vm->origin, snapshot_verify_point, self->site->progress, error) &&
           measure_vm(self, vm, error);
}

/* ---- Writing */

static bool add_small(struct archived_vm *vm, struct tarball_out *out, const char *name,
                      const void *data, size_t len, GString *sums, GError **error)
{
    g_autofree char *member = archive_member(vm->manifest->uuid, vm->manifest->point, name);
    uint8_t digest[DIGEST_SIZE];

    digest_buffer(data, len, digest);
    if (sums)
        archive_sum(sums, name, digest);
    return tarball_out_add(out, member, data, len, error);
}

static bool write_vm(struct archived_vm *vm, struct tarball_out *out, GError **error)
{
    const char *definition = vm->origin->definition;
    size_t definition_len = strlen(definition), nvram_len = 0;
    g_autoptr(GString) sums = g_string_new(NULL);
    g_autofree char *nvram = NULL;
    g_autofree char *text = NULL;
    uint8_t digest[DIGEST_SIZE];

    if (vm->origin->nvram &&
        !file_read(vm->origin->nvram, NVRAM_MAX_BYTES, &nvram, &nvram_len, error))
        return false;
    manifest_add_file(vm->manifest, DEFINITION_NAME, definition_len);
    if (nvram)
        manifest_add_file(vm->manifest, NVRAM_NAME, nvram_len);
    text = manifest_text(vm->manifest);
    if (!add_small(vm, out, MANIFEST_NAME, text, strlen(text), NULL, error))
        return false;
    for (unsigned i = 0; i < vm->disks->len; i++)
        if (!merged_disk_write(vm->disks->pdata[i], out, sums, error))
            return false;
    if (!add_small(vm, out, DEFINITION_NAME, definition, definition_len, sums, error) ||
        (nvram && !add_small(vm, out, NVRAM_NAME, nvram, nvram_len, sums, error)))
        return false;
    digest_buffer(text, strlen(text), digest);
    archive_sum(sums, MANIFEST_NAME, digest);
    return add_small(vm, out, SHA256SUMS_NAME, sums->str, sums->len, NULL, error);
}

static json_t *head_json(const struct writing *self, const char *time)
{
    json_t *json = json_object(), *vms = json_array();

    json_set_u64(json, "format", ARCHIVE_FORMAT);
    json_set_string(json, "kind", ARCHIVE_KIND);
    json_set_string(json, "name", self->choice.source.order->name);
    json_set_string(json, "site", self->site->config->site);
    json_set_string(json, "time", time);
    json_object_set_new(json, "vapp", json_boolean(export_is_vapp(&self->choice)));
    for (unsigned i = 0; i < self->vms->len; i++) {
        const struct manifest *from = ((struct archived_vm *)self->vms->pdata[i])->origin->manifest;
        json_t *entry = json_object();

        json_set_string(entry, "vm", from->vm);
        json_set_string(entry, "uuid", from->uuid);
        json_set_string(entry, "point", from->point);
        json_array_append_new(vms, entry);
    }
    json_object_set_new(json, "vms", vms);
    return json;
}

static bool write_head(const struct writing *self, struct tarball_out *out, int64_t now,
                       GError **error)
{
    g_autofree char *time = time_format(now);
    json_auto_t *json = head_json(self, time);
    g_autofree char *text = json_text(json, 2);
    const struct vapp *order = self->choice.source.order;
    g_autofree char *member = archive_vapp_member(order->name);

    return tarball_out_add(out, ARCHIVE_HEAD, text, strlen(text), error) &&
           (!export_is_vapp(&self->choice) ||
            tarball_out_add(out, member, order->text, strlen(order->text), error));
}

static bool write_archive(const struct writing *self, GError **error)
{
    int64_t now = time_now_ms();
    AUTO(tarball_out) out = tarball_out_new(self->request->file, TARBALL_ZSTD, now, error);

    if (!out || !write_head(self, out, now, error))
        return false;
    for (unsigned i = 0; i < self->vms->len; i++) {
        struct archived_vm *vm = self->vms->pdata[i];

        if (!prepare_vm(self, vm, error) || !write_vm(vm, out, error)) {
            g_prefix_error(error, "VM %s: ", vm->origin->manifest->vm);
            return false;
        }
        g_ptr_array_set_size(vm->disks, 0);
    }
    return tarball_out_commit(out, error);
}

static void tell(const struct writing *self, struct archive_result *result)
{
    result->name = g_strdup(self->choice.source.order->name);
    result->is_vapp = export_is_vapp(&self->choice);
    result->vms = archive_vms_new();
    for (unsigned i = 0; i < self->vms->len; i++)
        archive_vms_add(result->vms, ((struct archived_vm *)self->vms->pdata[i])->manifest);
}

bool export_archive(const struct site *site, const struct export_request *request,
                    struct archive_result *result, GError **error)
{
    AUTO_WRITING self = {.site = site, .request = request};
    bool is_ova;

    if (!archive_check_name(request->file, &is_ova, error))
        return false;
    if (is_ova)
        return ova_export(site, request, result, error);
    self.dir = g_path_get_dirname(request->file);
    self.vms = g_ptr_array_new_with_free_func(vm_free);
    if (!export_choose(site, request, &self.choice, error))
        return false;
    for (unsigned i = 0; i < self.choice.origins->len; i++)
        add_vm(&self, self.choice.origins->pdata[i]);
    if (!write_archive(&self, error))
        return false;
    tell(&self, result);
    return true;
}

/* ---- Results */

static void archive_vm_free(void *data)
{
    struct archive_vm *vm = data;

    g_free(vm->vm);
    g_free(vm->uuid);
    g_free(vm->point);
    g_free(vm);
}

GPtrArray *archive_vms_new(void)
{
    return g_ptr_array_new_with_free_func(archive_vm_free);
}

struct archive_vm *archive_vms_add(GPtrArray *vms, const struct manifest *manifest)
{
    struct archive_vm *vm = g_new0(struct archive_vm, 1);

    vm->vm = g_strdup(manifest->vm);
    vm->uuid = g_strdup(manifest->uuid);
    vm->point = g_strdup(manifest->point);
    vm->bytes = manifest_bytes(manifest);
    g_ptr_array_add(vms, vm);
    return vm;
}

void archive_result_clear(struct archive_result *result)
{
    g_clear_pointer(&result->name, g_free);
    g_clear_pointer(&result->vapp_path, g_free);
    g_clear_pointer(&result->vms, g_ptr_array_unref);
}
