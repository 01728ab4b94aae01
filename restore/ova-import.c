/* SPDX-License-Identifier: Apache-2.0 */
/* An OVA becomes a recovery point. */
#include <string.h>

#include "restore/archive.h"
#include "restore/ova.h"
#include "restore/rewrite.h"
#include "restore/workdir.h"

#define COMPRESSION 1
/* The store packs what was packed, a little worse at times, and needs tables. */
#define SPARE_PART 8

struct arrival {
    const struct site *site;
    const struct ova *ova;
    const char *name; /* of the VM */
    struct manifest *manifest;
    char *definition;
    GPtrArray *present; /* points of the VM that are here */
    struct incoming *incoming;
};

static void arrival_clear(struct arrival *self)
{
    incoming_free(self->incoming);
    g_clear_pointer(&self->present, g_ptr_array_unref);
    manifest_free(self->manifest);
    g_free(self->definition);
}
#define AUTO_ARRIVAL __attribute__((cleanup(arrival_clear))) struct arrival

/* The same machine is the same VM whenever it is imported, so it is seen when that was done before (version 8 of RFC 9562: 122 bits of anything). g_free */
static char *uuid_of(const struct ova *ova, const char *name)
{
    AUTO(digest) digest = digest_new();
    uint8_t sum[DIGEST_SIZE];
    char hex[DIGEST_HEX_SIZE];

    digest_update(digest, ova->text, strlen(ova->text));
    digest_update(digest, name, strlen(name) + 1);
    for (unsigned i = 0; i < ova->ovf->disks->len; i++) {
        const char *file = ((const struct ovf_disk *)ova->ovf->disks->pdata[i])->file;

        digest_update(digest, ova_member(ova, file)->sha256, DIGEST_HEX_SIZE);
    }
    digest_final(digest, sum);
    sum[6] = (sum[6] & 0x0f) | 0x80;
    sum[8] = (sum[8] & 0x3f) | 0x80;
    digest_to_hex(sum, hex);
    return g_strdup_printf("%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

static void describe(struct arrival *self)
{
    struct manifest *manifest = self->manifest = manifest_new();
    int64_t now = time_now_ms();
    g_autofree char *base = g_path_get_basename(self->ova->path);

    manifest->vm = g_strdup(self->name);
    manifest->uuid = uuid_of(self->ova, self->name);
    manifest->point = point_id_format(now);
    manifest->time_ms = now;
    manifest->site = g_strdup(self->site->config->site);
    manifest->consistency = CONSISTENCY_CRASH;
    manifest->reason = g_strdup_printf("imported from %s", base);
    self->definition = ovf_definition(self->ova->ovf, manifest->vm, manifest->uuid);
}

/* ---- Before anything is written */

/* Can QEMU open it? */
static bool look_at_disk(const struct ova *ova, const struct ovf_disk *disk, GError **error)
{
    g_autofree char *image = ova_image(ova, ova_member(ova, disk->file));
    const char *const argv[] = {"qemu-img", "info", "--output=json", image, NULL};
    g_autofree char *text = NULL;
    json_auto_t *json = NULL;
    uint64_t bytes;

    if (!process_run(argv, 60, &text, error) ||
        !(json = json_parse(text, strlen(text), "qemu-img info", error)) ||
        !json_need_u64(json, "virtual-size", &bytes, error)) {
        g_prefix_error(error, "disk %s: ", disk->file);
        return false;
    }
    return bytes == disk->capacity_bytes ||
           fail(error, ERROR_INTEGRITY, "disk %s is not as large as the descriptor says",
                disk->file);
}

static bool check_disks(const struct arrival *self, uint64_t *bytes, GError **error)
{
    const struct ovf *ovf = self->ova->ovf;

    *bytes = 0;
    for (unsigned i = 0; i < ovf->disks->len; i++) {
        const struct ovf_disk *disk = ovf->disks->pdata[i];
        uint64_t stored = ova_member(self->ova, disk->file)->bytes;

        if (!look_at_disk(self->ova, disk, error))
            return false;
        *bytes += stored + stored / SPARE_PART;
    }
    return true;
}

static bool check(struct arrival *self, GError **error)
{
    AUTO(xml) xml = NULL;
    uint64_t needed;

    if (!vm_name_is_valid(self->name))
        return fail(error, ERROR_USAGE, "'%s' cannot be the name of a VM: give it one with --as",
                    self->name);
    xml = definition_parse(self->definition, "what was made of it", error);
    if (!xml || !check_disks(self, &needed, error))
        return false;
    self->present = store_points(self->site->store, self->manifest->uuid, error);
    return self->present && (self->present->len > 0 ||
                             archive_check_space(self->site, self->ova->path, needed, error));
}

/* ---- Bringing in */

static bool take_disk(const struct arrival *self, unsigned index, const char *socket_dir,
                      GError **error)
{
    const struct ova *ova = self->ova;
    const struct ovf_disk *disk = ova->ovf->disks->pdata[index];
    g_autofree char *target = ovf_target(ova->ovf, index);
    g_autofree char *image = ova_image(ova, ova_member(ova, disk->file));
    struct image_job job = {
        .image = image,
        .socket_dir = socket_dir,
        .into = self->incoming,
        .manifest = self->manifest,
        .disk = manifest_add_disk(self->manifest, target),
        .compression = COMPRESSION,
        .progress = self->site->progress,
    };

    if (snapshot_take_image(&job, error))
        return true;
    g_prefix_error(error, "disk %s: ", disk->file);
    return false;
}

static bool bring_in(struct arrival *self, GError **error)
{
    struct manifest *manifest = self->manifest;
    AUTO(workdir) workdir = workdir_new(self->site->config->run_dir, error);

    if (!workdir)
        return false;
    self->incoming = store_begin(self->site->store, manifest->uuid, manifest->point, error);
    if (!self->incoming)
        return false;
    for (unsigned i = 0; i < self->ova->ovf->disks->len; i++)
        if (!take_disk(self, i, workdir->path, error))
            return false;
    return incoming_put(self->incoming, manifest, DEFINITION_NAME, self->definition,
                        strlen(self->definition), error) &&
           incoming_commit(self->incoming, manifest, error);
}

static void tell(const struct arrival *self, bool dry_run, struct archive_result *result)
{
    const struct ova *ova = self->ova;
    bool present = self->present->len > 0;
    struct archive_vm *added = archive_vms_add(result->vms, present ? self->present->pdata[0]
                                                                    : (const void *)self->manifest);

    result->name = g_strdup(self->name);
    added->present = present;
    for (unsigned i = 0; dry_run && !present && i < ova->ovf->disks->len; i++)
        added->bytes +=
            ova_member(ova, ((const struct ovf_disk *)ova->ovf->disks->pdata[i])->file)->bytes;
}

bool ova_import(const struct site *site, const struct import_request *request,
                struct archive_result *result, GError **error)
{
    AUTO(ova) ova = ova_open(request->file, site->progress, error);
    AUTO_ARRIVAL self = {.site = site, .ova = ova};

    result->vms = archive_vms_new();
    if (ova) {
        self.name = request->as ? request->as : ova->ovf->name ? ova->ovf->name : "";
        describe(&self);
    }
    if (!ova || !check(&self, error)) {
        g_prefix_error(error, "nothing was imported: ");
        return false;
    }
    if (self.present->len == 0 && !request->dry_run && !bring_in(&self, error))
        return false;
    tell(&self, request->dry_run, result);
    return true;
}
