/* SPDX-License-Identifier: Apache-2.0 */
/* An archive becomes points of the local store. It is read twice: to check it, then to bring it in, checked
 * anew, since nobody keeps the file as it is in between. */
#include <string.h>

#include "restore/archive.h"
#include "restore/ova.h"

/* What the store needs beside the files, and rather too much. */
#define SPARE_BYTES (UINT64_C(64) << 20)

struct importing {
    const struct site *site;
    const struct import_request *request;
    struct archive_result *result;
    GHashTable *present; /* "<uuid>/<point>" of what is here */
    uint64_t needed, done;
    /* Bringing in. */
    struct incoming *incoming;
    unsigned file;
};

static void importing_clear(struct importing *self)
{
    incoming_free(self->incoming);
    g_clear_pointer(&self->present, g_hash_table_unref);
}
#define AUTO_IMPORTING __attribute__((cleanup(importing_clear))) struct importing

static bool scan(struct importing *self, const struct archive_events *events,
                 bool (*finish)(struct importing *self, const struct archive_reader *reader,
                                GError **error),
                 GError **error)
{
    AUTO(archive_reader) reader = archive_reader_new(events);
    struct tarball_sink sink = {archive_reader_begin, archive_reader_data, archive_reader_end,
                                reader};

    return tarball_scan(self->request->file, TARBALL_ZSTD, &sink, error) &&
           archive_reader_finish(reader, error) && finish(self, reader, error);
}

static char *key_of(const struct manifest *manifest)
{
    return g_strconcat(manifest->uuid, "/", manifest->point, NULL);
}

static bool is_present(const struct importing *self, const struct manifest *manifest)
{
    g_autofree char *key = key_of(manifest);

    return g_hash_table_contains(self->present, key);
}

/* ---- Before anything is written */

static bool look_for(struct importing *self, const struct manifest *manifest, GError **error)
{
    g_autoptr(GPtrArray) points = store_points(self->site->store, manifest->uuid, error);

    for (unsigned i = 0; points && i < points->len; i++)
        g_hash_table_add(self->present, key_of(points->pdata[i]));
    return points != NULL;
}

bool archive_check_space(const struct site *site, const char *file, uint64_t needed, GError **error)
{
    g_autofree char *wants = NULL;
    g_autofree char *has = NULL;
    struct store_info info = {0};
    uint64_t reserve, room;

    if (!store_info(site->store, &info, error))
        return false;
    reserve = store_reserve_bytes(info.total_bytes);
    room = info.free_bytes > reserve ? info.free_bytes - reserve : 0;
    store_info_clear(&info);
    if (needed <= UINT64_MAX - SPARE_BYTES && needed + SPARE_BYTES <= room)
        return true;
    wants = bytes_format(needed);
    has = bytes_format(room);
    return fail(error, ERROR_NO_SPACE,
                "%s needs %s in the store, which has room for %s: make room (`drctl prune`, or a "
                "larger file system)",
                file, wants, has);
}

static bool check_point(void *context, const struct manifest *manifest, bool *skip, GError **error)
{
    struct importing *self = context;
    uint64_t bytes = manifest_bytes(manifest);

    if (!look_for(self, manifest, error))
        return false;
    progress_note(self->site->progress, "%s: checking point %s", manifest->vm, manifest->point);
    archive_vms_add(self->result->vms, manifest)->present = is_present(self, manifest);
    /* What is here needs no room, also in a store that is full. */
    if (is_present(self, manifest))
        return true;
    if (!g_uint64_checked_add(&self->needed, self->needed, bytes))
        self->needed = UINT64_MAX;
    return archive_check_space(self->site, self->request->file, self->needed, error);
}

static char *vapp_path(const struct site *site, const char *name)
{
    g_autofree char *file = g_strconcat(name, ".vapp", NULL);

    return g_build_filename(site->config->dir, file, NULL);
}

/* What the administrator has written stays. */
bool archive_check_vapp(const struct site *site, const struct vapp *vapp,
                        struct archive_result *result, GError **error)
{
    g_autofree char *path = vapp_path(site, vapp->name);
    g_autoptr(GError) cause = NULL;
    AUTO(vapp) here = vapp_find(site->config->dir, vapp->name, &cause);

    if (!here && !error_is(cause, ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&cause));
        return false;
    }
    if (!here && g_file_test(path, G_FILE_TEST_EXISTS | G_FILE_TEST_IS_SYMLINK))
        return fail(error, ERROR_CONFLICT, "%s is there and defines another vApp: rename it", path);
    if (!here)
        result->vapp_path = g_steal_pointer(&path);
    else if (strcmp(here->text, vapp->text) != 0)
        progress_note(site->progress, "vApp %s is defined otherwise by %s, which stays as it is",
                      vapp->name, here->path);
    return true;
}

static bool finish_check(struct importing *self, const struct archive_reader *reader,
                         GError **error)
{
    const struct vapp *vapp = archive_reader_vapp(reader);

    self->result->name = g_strdup(archive_reader_name(reader));
    self->result->is_vapp = vapp != NULL;
    return !vapp || archive_check_vapp(self->site, vapp, self->result, error);
}

/* ---- Bringing in */

static bool begin_point(void *context, const struct manifest *manifest, bool *skip, GError **error)
{
    struct importing *self = context;

    *skip = is_present(self, manifest);
    if (*skip)
        return true;
    progress_note(self->site->progress, "%s: writing point %s", manifest->vm, manifest->point);
    self->incoming = store_begin(self->site->store, manifest->uuid, manifest->point, error);
    return self->incoming != NULL;
}

static bool begin_file(void *context, const struct manifest_file *file, GError **error)
{
    struct importing *self = context;

    return incoming_open(self->incoming, file->name, &self->file, error);
}

static bool write_data(void *context, uint64_t offset, const void *data, size_t len, GError **error)
{
    struct importing *self = context;

    self->done += len;
    progress_bytes(self->site->progress, self->result->name, self->done, self->needed);
    return incoming_write(self->incoming, self->file, offset, data, len, error);
}

static bool commit_point(void *context, const struct manifest *manifest, GError **error)
{
    struct importing *self = context;
    bool done = incoming_commit(self->incoming, manifest, error);

    incoming_free(g_steal_pointer(&self->incoming));
    return done;
}

bool archive_write_vapp(const struct vapp *vapp, const struct archive_result *result,
                        GError **error)
{
    return !result->vapp_path ||
           file_write(result->vapp_path, vapp->text, strlen(vapp->text), 0644, error);
}

static bool finish_import(struct importing *self, const struct archive_reader *reader,
                          GError **error)
{
    const struct vapp *vapp = archive_reader_vapp(reader);

    return !vapp || archive_write_vapp(vapp, self->result, error);
}

bool import_archive(const struct site *site, const struct import_request *request,
                    struct archive_result *result, GError **error)
{
    AUTO_IMPORTING self = {.site = site, .request = request, .result = result};
    bool is_ova;
    struct archive_events check = {.point = check_point, .context = &self};
    struct archive_events bring = {begin_point, begin_file, write_data, commit_point, &self};

    if (!archive_check_name(request->file, &is_ova, error))
        return false;
    if (is_ova)
        return ova_import(site, request, result, error);
    if (request->as)
        return fail(
            error, ERROR_USAGE,
            "--as is for an OVA: what is in %s is called what it was; bring it up by another "
            "name with drctl restore --as",
            request->file);
    self.present = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    result->vms = archive_vms_new();
    if (!scan(&self, &check, finish_check, error)) {
        g_prefix_error(error, "nothing was imported: ");
        return false;
    }
    return request->dry_run || scan(&self, &bring, finish_import, error);
}
