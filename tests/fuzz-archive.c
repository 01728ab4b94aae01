/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of what is imported. The first byte of the input says what the rest is:
 *
 *     't'  an archive, without the compression around it
 *     'z'  an archive
 *     'o'  the descriptor of an OVA
 *     'p'  an OVA
 */
#include <string.h>

#include "restore/archive.h"
#include "restore/ova.h"
#include "tests/fuzz.h"

/* Whoever is told of an archive is told one thing after the other, and all of it. */
struct watcher {
    const struct manifest *manifest;
    unsigned files;
    const struct manifest_file *file;
    uint64_t at;
};

static void end_file(struct watcher *self)
{
    if (self->file)
        fuzz_require(self->at == self->file->bytes);
    self->file = NULL;
}

static bool watch_point(void *context, const struct manifest *manifest, bool *skip, GError **error)
{
    struct watcher *self = context;

    fuzz_require(!self->manifest && uuid_is_valid(manifest->uuid) && name_is_safe(manifest->point));
    fuzz_require(!manifest->base && !manifest->checkpoint);
    *self = (struct watcher){.manifest = manifest};
    return true;
}

static bool watch_file(void *context, const struct manifest_file *file, GError **error)
{
    struct watcher *self = context;

    end_file(self);
    fuzz_require(self->manifest && name_is_safe(file->name) && !name_is_of_store(file->name));
    fuzz_require(self->manifest->files->pdata[self->files++] == file);
    self->file = file;
    self->at = 0;
    return true;
}

static bool watch_data(void *context, uint64_t offset, const void *data, size_t len, GError **error)
{
    struct watcher *self = context;

    fuzz_require(self->file && offset == self->at && len <= self->file->bytes - offset);
    self->at += len;
    return true;
}

static bool watch_commit(void *context, const struct manifest *manifest, GError **error)
{
    struct watcher *self = context;

    end_file(self);
    fuzz_require(manifest == self->manifest && self->files == manifest->files->len);
    self->manifest = NULL;
    return true;
}

static void read_archive(const char *path, enum tarball_kind kind)
{
    struct watcher watcher = {0};
    struct archive_events events = {watch_point, watch_file, watch_data, watch_commit, &watcher};
    AUTO(archive_reader) reader = archive_reader_new(&events);
    struct tarball_sink sink = {archive_reader_begin, archive_reader_data, archive_reader_end,
                                reader};
    g_autoptr(GError) error = NULL;
    bool done = tarball_scan(path, kind, &sink, &error) && archive_reader_finish(reader, &error);

    fuzz_require(done == (error == NULL));
    if (!done)
        return;
    fuzz_require(!watcher.manifest);
    fuzz_require(vm_name_is_valid(archive_reader_name(reader)));
    if (archive_reader_vapp(reader))
        fuzz_require(name_is_safe(archive_reader_name(reader)));
}

static char *dir;

static void clean_up(void)
{
    tree_remove(dir, NULL);
}

/* The same file for all inputs. */
static const char *write_input(const uint8_t *data, size_t len)
{
    static char *path;
    g_autoptr(GError) error = NULL;

    if (!path) {
        dir = g_dir_make_tmp("drctl-fuzz-XXXXXX", NULL);
        fuzz_require(dir != NULL);
        path = g_build_filename(dir, "input", NULL);
        atexit(clean_up);
    }
    if (!g_file_set_contents_full(path, (const char *)data, (gssize)len, G_FILE_SET_CONTENTS_NONE,
                                  0600, &error))
        fuzz_fail("%s", error->message);
    return path;
}

static void check_vm(const struct ovf *ovf)
{
    g_autofree char *definition = ovf_definition(ovf, "db", "11111111-2222-3333-4444-555555555555");
    AUTO(xml) xml = xml_parse(definition, "definition", NULL);

    fuzz_require(ovf->disks->len > 0 && ovf->memory_bytes > 0 && ovf->cpus > 0);
    fuzz_require(xml && !xml_find(xml_root(xml), "devices/disk/source"));
}

static void check_same_vm(const struct ovf *one, const struct ovf *other)
{
    fuzz_require(one->disks->len == other->disks->len && one->nics->len == other->nics->len);
    for (unsigned i = 0; i < one->disks->len; i++) {
        const struct ovf_disk *a = one->disks->pdata[i], *b = other->disks->pdata[i];

        fuzz_require(strcmp(a->file, b->file) == 0 && a->capacity_bytes == b->capacity_bytes);
    }
}

/* What is made of a descriptor is definitions, and a descriptor that says the same. */
static void read_ovf(const char *data, size_t len)
{
    g_autofree char *text = g_strndup(data, len);
    g_autoptr(GError) error = NULL;
    AUTO(ovf_package) package = ovf_parse(text, "descriptor", &error);
    g_autofree char *written = NULL;
    AUTO(ovf_package) again = NULL;

    fuzz_require((package == NULL) == (error != NULL));
    if (!package)
        return;
    fuzz_require(package->vms->len > 0);
    for (unsigned i = 0; i < package->vms->len; i++) {
        const struct ovf *ovf = package->vms->pdata[i];

        check_vm(ovf);
        /* It is written in MiB. */
        if (ovf->memory_bytes < 1 << 20)
            return;
    }
    written = ovf_text(package);
    again = ovf_parse(written, "what we wrote", &error);
    if (!again)
        fuzz_fail("%s", error->message);
    fuzz_require(again->vms->len == package->vms->len);
    for (unsigned i = 0; i < package->vms->len; i++)
        check_same_vm(package->vms->pdata[i], again->vms->pdata[i]);
}

static void read_ova(const char *path)
{
    g_autoptr(GError) error = NULL;
    AUTO(ova) ova = ova_open(path, NULL, &error);
    g_autoptr(GPtrArray) disks = ova ? ovf_package_disks(ova->package) : NULL;

    fuzz_require((ova == NULL) == (error != NULL));
    for (unsigned i = 0; disks && i < disks->len; i++) {
        const struct ovf_disk *disk = disks->pdata[i];
        g_autofree char *image = ova_image(ova, ova_member(ova, disk->file));

        fuzz_require(strstr(image, "\"backing\":null") != NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    if (data[0] == 't')
        read_archive(write_input(data + 1, len - 1), TARBALL_PLAIN);
    else if (data[0] == 'z')
        read_archive(write_input(data + 1, len - 1), TARBALL_ZSTD);
    else if (data[0] == 'o')
        read_ovf((const char *)data + 1, len - 1);
    else if (data[0] == 'p')
        read_ova(write_input(data + 1, len - 1));
    return 0;
}
