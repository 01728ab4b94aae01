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
#define SPARE_BYTES (UINT64_C(64) << 20)

struct arrival {
    const struct site *site;
    const struct ova *ova;
    const char *name; /* of the VM */
    struct manifest *manifest;
    char *definition;
    struct incoming *incoming;
};

static void arrival_clear(struct arrival *self)
{
    incoming_free(self->incoming);
    manifest_free(self->manifest);
    g_free(self->definition);
}
#define AUTO_ARRIVAL __attribute__((cleanup(arrival_clear))) struct arrival

/* The same machine is the same VM whenever it is imported, so what has arrived of an import that was
 * interrupted is found again (version 8 of RFC 9562: 122 bits of anything). g_free */
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

    *bytes = SPARE_BYTES;
    for (unsigned i = 0; i < ovf->disks->len; i++) {
        const struct ovf_disk *disk = ovf->disks->pdata[i];
        uint64_t stored = ova_member(self->ova, disk->file)->bytes;

        if (!look_at_disk(self->ova, disk, error))
            return false;
        *bytes += stored + stored / SPARE_PART;
    }
    return true;
}

static bool check_space(const struct arrival *self, uint64_t needed, GError **error)
{
    g_autofree char *wants = bytes_format(needed);
    g_autofree char *has = NULL;
    struct store_info info = {0};
    bool fits;

    if (!store_info(self->site->store, &info, error))
        return false;
    has = bytes_format(info.free_bytes);
    fits = needed <= info.free_bytes;
    store_info_clear(&info);
    return fits || fail(error, ERROR_NO_SPACE,
                        "%s needs %s in the store, which has %s free: make room (`drctl prune`, or "
                        "a larger file system)",
                        self->ova->path, wants, has);
}

static bool check(const struct arrival *self, GError **error)
{
    AUTO(xml) xml = NULL;
    uint64_t needed;

    if (!vm_name_is_valid(self->name))
        return fail(error, ERROR_USAGE, "'%s' cannot be the name of a VM: give it one with --as",
                    self->name);
    xml = definition_parse(self->definition, "what was made of it", error);
    return xml && check_disks(self, &needed, error) && check_space(self, needed, error);
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

bool ova_import(const struct site *site, const struct import_request *request,
                struct archive_result *result, GError **error)
{
    AUTO(ova) ova = ova_open(request->file, site->progress, error);
    AUTO_ARRIVAL self = {.site = site, .ova = ova};
    struct archive_vm *added;

    result->vms = archive_vms_new();
    if (ova) {
        self.name = request->as ? request->as : ova->ovf->name ? ova->ovf->name : "";
        describe(&self);
    }
    if (!ova || !check(&self, error)) {
        g_prefix_error(error, "nothing was imported: ");
        return false;
    }
    if (!request->dry_run && !bring_in(&self, error))
        return false;
    result->name = g_strdup(self.name);
    added = archive_vms_add(result->vms, self.manifest);
    for (unsigned i = 0; request->dry_run && i < ova->ovf->disks->len; i++)
        added->bytes +=
            ova_member(ova, ((const struct ovf_disk *)ova->ovf->disks->pdata[i])->file)->bytes;
    return true;
}
