/* SPDX-License-Identifier: Apache-2.0 */
/* Recovery points become an OVA. Their disks are made as files first: nobody else can say how large they get. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "restore/archive.h"
#include "restore/export-choice.h"
#include "restore/image.h"
#include "restore/ova.h"
#include "restore/rewrite.h"
#include "restore/workdir.h"

#define COPY_BYTES ((size_t)1 << 20)

struct parting {
    const struct site *site;
    const char *file;
    struct export_choice choice;
    struct ovf_package *package; /* its VMs are those of the choice */
    struct workdir *workdir;     /* of the disks, until they are in the file */
};

static void parting_clear(struct parting *self)
{
    workdir_free(self->workdir);
    ovf_package_free(self->package);
    export_choice_clear(&self->choice);
}
#define AUTO_PARTING __attribute__((cleanup(parting_clear))) struct parting

/* ---- What each VM becomes */

/* A name that is fit for every file system: of members only. g_free */
static char *plain_name(const char *name)
{
    return g_strcanon(g_strdup(name), G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "-_", '_');
}

/* Of several VMs the names of files begin with a number: what plain_name() makes of them may be the same. */
static char *disk_file(const struct parting *self, const char *vm, unsigned index)
{
    g_autofree char *name = plain_name(vm);

    if (!self->package->name)
        return g_strdup_printf("%s-disk%u.vmdk", name, index + 1);
    return g_strdup_printf("%u-%s-disk%u.vmdk", self->package->vms->len, name, index + 1);
}

static bool describe_vm(const struct parting *self, const struct origin *origin, GError **error)
{
    const char *name = origin->manifest->vm;
    AUTO(xml) xml = definition_parse(origin->definition, DEFINITION_NAME " of the point", error);
    struct ovf *ovf = xml ? ovf_of_definition(xml_root(xml)) : NULL;

    if (!ovf)
        return false;
    g_ptr_array_add(self->package->vms, ovf);
    g_free(ovf->name);
    ovf->name = g_strdup(name);
    for (unsigned i = 0; i < origin->disks->len; i++) {
        const struct origin_disk *from = origin->disks->pdata[i];
        struct ovf_disk *disk = ovf_add_disk(ovf);

        disk->file = disk_file(self, name, i);
        disk->bus = ovf_bus_of(xml_root(xml), from->target);
        disk->capacity_bytes = from->virtual_bytes;
    }
    return ovf->disks->len > 0 ||
           fail(error, ERROR_CONFLICT, "VM %s has no disk in its point", name);
}

/* What must have started before VM number INDEX, among LEVELS of those before it. */
static unsigned level_of(const struct vapp *vapp, unsigned index, const unsigned *levels)
{
    const struct vapp_vm *vm = vapp->vms->pdata[index];
    unsigned level = 1;

    for (unsigned i = 0; i < index; i++) {
        const struct vapp_vm *before = vapp->vms->pdata[i];
        bool waits = before->order < vm->order ||
                     g_strv_contains((const char *const *)vm->after, before->name);

        if (waits)
            level = MAX(level, levels[i] + 1);
    }
    return level;
}

/* A descriptor has numbers only, so what is `after` another VM of its order gets a higher one. */
static void take_order(const struct parting *self)
{
    const struct vapp *vapp = self->choice.source.order;
    g_autofree unsigned *levels = g_new0(unsigned, vapp->vms->len);

    for (unsigned i = 0; i < vapp->vms->len; i++) {
        const struct vapp_vm *vm = vapp->vms->pdata[i];
        struct ovf *ovf = self->package->vms->pdata[i];

        ovf->order = levels[i] = level_of(vapp, i, levels);
        ovf->delay_s = (unsigned)((vm->delay_ms + 999) / 1000);
    }
}

static bool describe(struct parting *self, GError **error)
{
    const GPtrArray *origins = self->choice.origins;

    self->package = ovf_package_new();
    if (export_is_vapp(&self->choice))
        self->package->name = g_strdup(self->choice.source.order->name);
    for (unsigned i = 0; i < origins->len; i++)
        if (!describe_vm(self, origins->pdata[i], error))
            return false;
    take_order(self);
    return true;
}

/* ---- Disks */

static char *disk_path(const struct parting *self, const struct ovf_disk *disk)
{
    return g_build_filename(self->workdir->path, disk->file, NULL);
}

static bool make_dir(struct parting *self, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(self->file);

    self->workdir = workdir_new(parent, error);
    return self->workdir != NULL;
}

static bool convert_disk(const struct parting *self, const struct origin_disk *from,
                         struct ovf_disk *disk, GError **error)
{
    static const struct qemu_user ourselves = {.other = false};
    g_autofree char *path = disk_path(self, disk);
    const char *const command[] = {"qemu-img",     "convert", "-q",
                                   "-f",           "qcow2",   "-O",
                                   "vmdk",         "-o",      "subformat=streamOptimized",
                                   from->chain[0], NULL};
    struct stat status;

    progress_note(self->site->progress, "packing %s", disk->file);
    if (!image_make(path, command, 0, &ourselves, error))
        return false;
    if (stat(path, &status) < 0)
        return fail_errno(error, errno, "cannot read %s", path);
    disk->file_bytes = (uint64_t)status.st_size;
    return true;
}

static bool convert_vm(const struct parting *self, const struct ovf *ovf,
                       const struct origin *origin, GError **error)
{
    if (!origin_verify(origin, snapshot_verify_for_qemu, self->site->progress, error))
        return false;
    for (unsigned i = 0; i < ovf->disks->len; i++)
        if (!convert_disk(self, origin->disks->pdata[i], ovf->disks->pdata[i], error))
            return false;
    return true;
}

/* To OUT, or if that is NULL nowhere; its digest. */
static bool read_disk(const struct parting *self, const struct ovf_disk *disk,
                      struct tarball_out *out, char hex[DIGEST_HEX_SIZE], GError **error)
{
    g_autofree char *path = disk_path(self, disk);
    g_autofree uint8_t *buffer = g_malloc(COPY_BYTES);
    AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
    AUTO(digest) digest = digest_new();
    uint8_t sum[DIGEST_SIZE];

    if (fd < 0)
        return fail_errno(error, errno, "cannot read %s", path);
    for (uint64_t at = 0; at < disk->file_bytes;) {
        size_t part = (size_t)MIN(disk->file_bytes - at, COPY_BYTES);

        if (!interrupt_check(error) || !fd_read_at(fd, at, buffer, part, path, error) ||
            (out && !tarball_out_write(out, buffer, part, error)))
            return false;
        digest_update(digest, buffer, part);
        at += part;
    }
    digest_final(digest, sum);
    digest_to_hex(sum, hex);
    return true;
}

/* ---- The file */

static void add_sum(GString *sums, const char *name, const char *hex)
{
    g_string_append_printf(sums, "SHA256(%s)= %s\n", name, hex);
}

/* Descriptor, then digests, then disks: so that they can be checked as they stream in (DSP0243, 5.2). */
static bool write_members(const struct parting *self, struct tarball_out *out, GError **error)
{
    g_autofree char *name = plain_name(self->choice.source.order->name);
    g_autofree char *ovf_name = g_strconcat(name, ".ovf", NULL);
    g_autofree char *mf_name = g_strconcat(name, ".mf", NULL);
    g_autofree char *text = ovf_text(self->package);
    g_autoptr(GPtrArray) disks = ovf_package_disks(self->package);
    g_autoptr(GString) sums = g_string_new(NULL);
    char hex[DIGEST_HEX_SIZE];
    uint8_t sum[DIGEST_SIZE];

    digest_buffer(text, strlen(text), sum);
    digest_to_hex(sum, hex);
    add_sum(sums, ovf_name, hex);
    for (unsigned i = 0; i < disks->len; i++) {
        const struct ovf_disk *disk = disks->pdata[i];

        if (!read_disk(self, disk, NULL, hex, error))
            return false;
        add_sum(sums, disk->file, hex);
    }
    if (!tarball_out_add(out, ovf_name, text, strlen(text), error) ||
        !tarball_out_add(out, mf_name, sums->str, sums->len, error))
        return false;
    for (unsigned i = 0; i < disks->len; i++) {
        const struct ovf_disk *disk = disks->pdata[i];

        if (!tarball_out_begin(out, disk->file, disk->file_bytes, error) ||
            !read_disk(self, disk, out, hex, error))
            return false;
    }
    return true;
}

static bool write_file(struct parting *self, GError **error)
{
    AUTO(tarball_out) out = tarball_out_new(self->file, TARBALL_PLAIN, time_now_ms(), error);

    if (!out || !describe(self, error) || !make_dir(self, error))
        return false;
    for (unsigned i = 0; i < self->package->vms->len; i++) {
        const struct ovf *ovf = self->package->vms->pdata[i];

        if (convert_vm(self, ovf, self->choice.origins->pdata[i], error))
            continue;
        g_prefix_error(error, "VM %s: ", ovf->name);
        return false;
    }
    return write_members(self, out, error) && tarball_out_commit(out, error);
}

static void tell(const struct parting *self, struct archive_result *result)
{
    result->name = g_strdup(self->choice.source.order->name);
    result->is_vapp = export_is_vapp(&self->choice);
    result->vms = archive_vms_new();
    for (unsigned i = 0; i < self->package->vms->len; i++) {
        const struct origin *origin = self->choice.origins->pdata[i];
        const struct ovf *ovf = self->package->vms->pdata[i];
        struct archive_vm *added = archive_vms_add(result->vms, origin->manifest);

        added->bytes = 0;
        for (unsigned k = 0; k < ovf->disks->len; k++)
            added->bytes += ((const struct ovf_disk *)ovf->disks->pdata[k])->file_bytes;
    }
}

bool ova_export(const struct site *site, const struct export_request *request,
                struct archive_result *result, GError **error)
{
    AUTO_PARTING self = {.site = site, .file = request->file};

    if (!export_choose(site, request, &self.choice, error) || !write_file(&self, error))
        return false;
    tell(&self, result);
    return true;
}
