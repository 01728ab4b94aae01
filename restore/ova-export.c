/* SPDX-License-Identifier: Apache-2.0 */
/* A recovery point becomes an OVA. Its disks are made as files first: nobody else can say how large they get. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "restore/archive.h"
#include "restore/image.h"
#include "restore/ova.h"
#include "restore/request.h"
#include "restore/workdir.h"

#define COPY_BYTES ((size_t)1 << 20)

struct parting {
    const struct site *site;
    const char *file;
    struct origin *origin;
    struct ovf *ovf;
    struct workdir *workdir; /* of the disks, until they are in the file */
};

static void parting_clear(struct parting *self)
{
    workdir_free(self->workdir);
    ovf_free(self->ovf);
    origin_free(self->origin);
}
#define AUTO_PARTING __attribute__((cleanup(parting_clear))) struct parting

static char *disk_path(const struct parting *self, unsigned index)
{
    return g_build_filename(self->workdir->path,
                            ((struct ovf_disk *)self->ovf->disks->pdata[index])->file, NULL);
}

/* A name that is fit for every file system: of members only. g_free */
static char *plain_name(const char *name)
{
    return g_strcanon(g_strdup(name), G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "-_", '_');
}

static bool describe(struct parting *self, GError **error)
{
    const struct origin *origin = self->origin;
    AUTO(xml) xml = definition_parse(origin->definition, DEFINITION_NAME " of the point", error);
    g_autofree char *name = plain_name(origin->manifest->vm);

    if (!xml)
        return false;
    self->ovf = ovf_of_definition(xml_root(xml));
    g_free(self->ovf->name);
    self->ovf->name = g_strdup(origin->manifest->vm);
    for (unsigned i = 0; i < origin->disks->len; i++) {
        const struct origin_disk *from = origin->disks->pdata[i];
        struct ovf_disk *disk = ovf_add_disk(self->ovf);

        disk->file = g_strdup_printf("%s-disk%u.vmdk", name, i + 1);
        disk->bus = ovf_bus_of(xml_root(xml), from->target);
        disk->capacity_bytes = from->virtual_bytes;
    }
    if (self->ovf->disks->len == 0)
        return fail(error, ERROR_CONFLICT, "VM %s has no disk in its point", self->ovf->name);
    return true;
}

static bool make_dir(struct parting *self, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(self->file);

    self->workdir = workdir_new(parent, error);
    return self->workdir != NULL;
}

static bool convert_disk(struct parting *self, unsigned index, GError **error)
{
    static const struct qemu_user ourselves = {.other = false};
    const struct origin_disk *from = self->origin->disks->pdata[index];
    struct ovf_disk *disk = self->ovf->disks->pdata[index];
    g_autofree char *path = disk_path(self, index);
    const char *const command[] = {"qemu-img",     "convert", "-q",
                                   "-f",           "qcow2",   "-O",
                                   "vmdk",         "-o",      "subformat=streamOptimized",
                                   from->chain[0], NULL};
    struct stat status;

    progress_note(self->site->progress, "%s: packing %s", self->ovf->name, disk->file);
    if (!image_make(path, command, 0, &ourselves, error))
        return false;
    if (stat(path, &status) < 0)
        return fail_errno(error, errno, "cannot read %s", path);
    disk->file_bytes = (uint64_t)status.st_size;
    return true;
}

/* To OUT, or if that is NULL nowhere; its digest. */
static bool read_disk(const struct parting *self, unsigned index, struct tarball_out *out,
                      char hex[DIGEST_HEX_SIZE], GError **error)
{
    const struct ovf_disk *disk = self->ovf->disks->pdata[index];
    g_autofree char *path = disk_path(self, index);
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

static char *sum_line(const char *name, const char *hex)
{
    return g_strdup_printf("SHA256(%s)= %s\n", name, hex);
}

/* Descriptor, then digests, then disks: so that they can be checked as they stream in (DSP0243, 5.2). */
static bool write_members(const struct parting *self, struct tarball_out *out, GError **error)
{
    g_autofree char *name = plain_name(self->ovf->name);
    g_autofree char *ovf_name = g_strconcat(name, ".ovf", NULL);
    g_autofree char *mf_name = g_strconcat(name, ".mf", NULL);
    g_autofree char *text = ovf_text(self->ovf);
    g_autoptr(GString) sums = g_string_new(NULL);
    char hex[DIGEST_HEX_SIZE];
    uint8_t sum[DIGEST_SIZE];
    g_autofree char *first = NULL;

    digest_buffer(text, strlen(text), sum);
    digest_to_hex(sum, hex);
    first = sum_line(ovf_name, hex);
    g_string_append(sums, first);
    for (unsigned i = 0; i < self->ovf->disks->len; i++) {
        g_autofree char *line = NULL;

        if (!read_disk(self, i, NULL, hex, error))
            return false;
        line = sum_line(((const struct ovf_disk *)self->ovf->disks->pdata[i])->file, hex);
        g_string_append(sums, line);
    }
    if (!tarball_out_add(out, ovf_name, text, strlen(text), error) ||
        !tarball_out_add(out, mf_name, sums->str, sums->len, error))
        return false;
    for (unsigned i = 0; i < self->ovf->disks->len; i++) {
        const struct ovf_disk *disk = self->ovf->disks->pdata[i];

        if (!tarball_out_begin(out, disk->file, disk->file_bytes, error) ||
            !read_disk(self, i, out, hex, error))
            return false;
    }
    return true;
}

static bool write_file(struct parting *self, GError **error)
{
    AUTO(tarball_out) out = tarball_out_new(self->file, TARBALL_PLAIN, time_now_ms(), error);

    if (!out || !describe(self, error) || !make_dir(self, error) ||
        !origin_verify(self->origin, snapshot_verify_for_qemu, self->site->progress, error))
        return false;
    for (unsigned i = 0; i < self->ovf->disks->len; i++)
        if (!convert_disk(self, i, error))
            return false;
    return write_members(self, out, error) && tarball_out_commit(out, error);
}

bool ova_export(const struct site *site, const struct export_request *request,
                struct archive_result *result, GError **error)
{
    struct restore_request point = {.vm = request->name, .point = request->point};
    AUTO_PARTING self = {.site = site, .file = request->file};
    struct archive_vm *added;

    self.origin = request_origin(site, &point, error);
    if (!self.origin || !write_file(&self, error))
        return false;
    result->name = g_strdup(self.origin->manifest->vm);
    result->vms = archive_vms_new();
    added = archive_vms_add(result->vms, self.origin->manifest);
    added->bytes = 0;
    for (unsigned i = 0; i < self.ovf->disks->len; i++)
        added->bytes += ((const struct ovf_disk *)self.ovf->disks->pdata[i])->file_bytes;
    return true;
}
