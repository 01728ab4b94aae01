/* SPDX-License-Identifier: Apache-2.0 */
/* An OVA becomes recovery points, and, if its VMs are a collection, a vApp. */
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
    const struct ovf *ovf;
    const char *name; /* of the VM */
    struct manifest *manifest;
    char *definition;
    GPtrArray *present; /* points of the VM that are here */
    struct incoming *incoming;
};

static void arrival_free(void *data)
{
    struct arrival *self = data;

    incoming_free(self->incoming);
    g_clear_pointer(&self->present, g_ptr_array_unref);
    manifest_free(self->manifest);
    g_free(self->definition);
    g_free(self);
}

/* The same machine is the same VM whenever it is imported, so it is seen when that was done before (version 8 of RFC 9562: 122 bits of anything). g_free */
static char *uuid_of(const struct ova *ova, const struct ovf *ovf, const char *name)
{
    AUTO(digest) digest = digest_new();
    uint8_t sum[DIGEST_SIZE];
    char hex[DIGEST_HEX_SIZE];

    digest_update(digest, ova->text, strlen(ova->text));
    digest_update(digest, name, strlen(name) + 1);
    for (unsigned i = 0; i < ovf->disks->len; i++) {
        const char *file = ((const struct ovf_disk *)ovf->disks->pdata[i])->file;

        digest_update(digest, ova_member(ova, file)->sums[OVA_SHA256], DIGEST_HEX_SIZE);
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
    manifest->uuid = uuid_of(self->ova, self->ovf, self->name);
    manifest->point = point_id_format(now);
    manifest->time_ms = now;
    manifest->site = g_strdup(self->site->config->site);
    manifest->consistency = CONSISTENCY_CRASH;
    manifest->reason = g_strdup_printf("imported from %s", base);
    self->definition = ovf_definition(self->ovf, manifest->vm, manifest->uuid);
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
    const struct ovf *ovf = self->ovf;

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

/* *NEEDED: in the store, beside what is there. */
static bool check(struct arrival *self, uint64_t *needed, GError **error)
{
    AUTO(xml) xml = NULL;

    if (!vm_name_is_valid(self->name))
        return fail(error, ERROR_USAGE, "'%s' cannot be the name of a VM: give it one with --as",
                    self->name);
    xml = definition_parse(self->definition, "what was made of it", error);
    if (!xml || !check_disks(self, needed, error))
        return false;
    self->present = store_points(self->site->store, self->manifest->uuid, error);
    if (self->present && self->present->len > 0)
        *needed = 0;
    return self->present != NULL;
}

/* ---- Bringing in */

static bool take_disk(const struct arrival *self, unsigned index, const char *socket_dir,
                      GError **error)
{
    const struct ova *ova = self->ova;
    const struct ovf_disk *disk = self->ovf->disks->pdata[index];
    g_autofree char *target = ovf_target(self->ovf, index);
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
    for (unsigned i = 0; i < self->ovf->disks->len; i++)
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

    added->present = present;
    for (unsigned i = 0; dry_run && !present && i < self->ovf->disks->len; i++)
        added->bytes +=
            ova_member(ova, ((const struct ovf_disk *)self->ovf->disks->pdata[i])->file)->bytes;
}

/* ---- All of it */

struct package {
    const struct site *site;
    const struct import_request *request;
    struct ova *ova;
    GPtrArray *arrivals; /* of struct arrival */
    struct vapp *vapp;   /* NULL: it is one VM */
};

static void package_clear(struct package *self)
{
    g_ptr_array_unref(self->arrivals);
    vapp_free(self->vapp);
    ova_free(self->ova);
}
#define AUTO_PACKAGE __attribute__((cleanup(package_clear))) struct package

/* A name that a file may have, too; g_free. */
static char *vapp_name(const char *name)
{
    return g_strcanon(g_strdup(name), G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "-_", '-');
}

static struct vapp *make_vapp(const struct ovf_package *package, const char *what, GError **error)
{
    g_autofree char *name = vapp_name(package->name);
    g_autoptr(GString) text = g_string_new(NULL);

    g_string_append_printf(text, "[vapp]\nname = %s\n", name);
    for (unsigned i = 0; i < package->vms->len; i++) {
        const struct ovf *ovf = package->vms->pdata[i];

        g_string_append_printf(text, "\n[vm %s]\norder = %u\n", ovf->name, ovf->order);
        if (ovf->delay_s)
            g_string_append_printf(text, "delay = %us\n", ovf->delay_s);
    }
    return vapp_parse(text->str, text->len, what, error);
}

static void add_arrival(struct package *self, const struct ovf *ovf)
{
    struct arrival *arrival = g_new0(struct arrival, 1);

    g_ptr_array_add(self->arrivals, arrival);
    arrival->site = self->site;
    arrival->ova = self->ova;
    arrival->ovf = ovf;
    arrival->name = self->request->as ? self->request->as : ovf->name ? ovf->name : "";
    describe(arrival);
}

static bool check_vms(const struct package *self, GError **error)
{
    uint64_t needed = 0;

    for (unsigned i = 0; i < self->arrivals->len; i++) {
        uint64_t of_vm = 0;

        if (!check(self->arrivals->pdata[i], &of_vm, error))
            return false;
        needed += of_vm;
    }
    return needed == 0 || archive_check_space(self->site, self->ova->path, needed, error);
}

/* They become groups of a definition. */
static bool check_names(const struct ovf_package *package, GError **error)
{
    for (unsigned i = 0; i < package->vms->len; i++) {
        const char *name = ((const struct ovf *)package->vms->pdata[i])->name;

        if (!vm_name_is_valid(name))
            return fail(error, ERROR_USAGE,
                        "'%s' cannot be the name of a VM: rename it where it comes from", name);
    }
    return true;
}

static bool check_collection(struct package *self, struct archive_result *result, GError **error)
{
    const struct ovf_package *package = self->ova->package;

    if (!package->name)
        return true;
    if (self->request->as)
        return fail(error, ERROR_USAGE,
                    "--as is for one VM: the %u of %s are called what they are called there; bring "
                    "one up by another name with drctl restore --as",
                    package->vms->len, self->ova->path);
    if (!check_names(package, error))
        return false;
    self->vapp = make_vapp(package, self->ova->path, error);
    for (unsigned i = 0; self->vapp && i < package->vms->len; i++) {
        const char *name = ((const struct ovf *)package->vms->pdata[i])->name;

        if (!vapp_vm(self->vapp, name))
            return fail(error, ERROR_USAGE,
                        "'%s' cannot be the name of a VM of a vApp: rename it where it comes from",
                        name);
    }
    return self->vapp && archive_check_vapp(self->site, self->vapp, result, error);
}

static bool look(struct package *self, struct archive_result *result, GError **error)
{
    self->ova = ova_open(self->request->file, self->site->progress, error);
    if (!self->ova || !check_collection(self, result, error))
        return false;
    for (unsigned i = 0; i < self->ova->package->vms->len; i++)
        add_arrival(self, self->ova->package->vms->pdata[i]);
    return check_vms(self, error);
}

static bool take(const struct package *self, const struct archive_result *result, GError **error)
{
    for (unsigned i = 0; i < self->arrivals->len; i++) {
        struct arrival *arrival = self->arrivals->pdata[i];

        if (arrival->present->len == 0 && !bring_in(arrival, error)) {
            g_prefix_error(error, "VM %s: ", arrival->name);
            return false;
        }
    }
    return !self->vapp || archive_write_vapp(self->vapp, result, error);
}

bool ova_import(const struct site *site, const struct import_request *request,
                struct archive_result *result, GError **error)
{
    AUTO_PACKAGE self = {.site = site, .request = request};

    self.arrivals = g_ptr_array_new_with_free_func(arrival_free);
    result->vms = archive_vms_new();
    if (!look(&self, result, error)) {
        g_prefix_error(error, "nothing was imported: ");
        return false;
    }
    if (!request->dry_run && !take(&self, result, error))
        return false;
    for (unsigned i = 0; i < self.arrivals->len; i++)
        tell(self.arrivals->pdata[i], request->dry_run, result);
    result->name =
        g_strdup(self.vapp ? self.vapp->name : ((struct arrival *)self.arrivals->pdata[0])->name);
    result->is_vapp = self.vapp != NULL;
    return true;
}
