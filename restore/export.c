/* SPDX-License-Identifier: Apache-2.0 */
/* A point as plain files: qcow2 images that need nothing else, domain.xml, NVRAM; and, if something of the disks
 * is lost, what. No libvirt. */
#include "restore/image.h"
#include "restore/request.h"

#include <string.h>
#include <sys/stat.h>

/* Room for file system metadata and the small files. */
#define SPARE_BYTES (UINT64_C(16) << 20)
#define MEASURE_TIMEOUT_S 600
/* What the disks have lost. */
#define LOST_NAME "LOST.json"

struct export
{
    const struct site *site;
    const struct origin *origin;
    const struct origin_disk *disk; /* of the disk steps */
    const char *dir;
};

static char *image_path(const struct export *export, const char *target)
{
    g_autofree char *name = g_strconcat(target, ".qcow2", NULL);

    return g_build_filename(export->dir, name, NULL);
}

static bool has_lost(const struct export *export)
{
    for (unsigned i = 0; i < export->origin->disks->len; i++)
        if (((const struct origin_disk *)export->origin->disks->pdata[i])->lost)
            return true;
    return false;
}

/* All that an export makes, in the order of struct restore_result's paths; g_strfreev. */
static char **export_paths(const struct export *export)
{
    g_autoptr(GPtrArray) paths = g_ptr_array_new();

    for (unsigned i = 0; i < export->origin->disks->len; i++) {
        const struct origin_disk *disk = export->origin->disks->pdata[i];

        g_ptr_array_add(paths, image_path(export, disk->target));
    }
    g_ptr_array_add(paths, g_build_filename(export->dir, "domain.xml", NULL));
    if (export->origin->nvram)
        g_ptr_array_add(paths, g_build_filename(export->dir, "nvram.fd", NULL));
    if (has_lost(export))
        g_ptr_array_add(paths, g_build_filename(export->dir, LOST_NAME, NULL));
    g_ptr_array_add(paths, NULL);
    return (char **)g_ptr_array_steal(paths, NULL);
}

/* ---- Before anything is written */

static bool check_absent(const struct export *export, GError **error)
{
    g_auto(GStrv) paths = export_paths(export);

    for (char **path = paths; *path; path++)
        if (g_file_test(*path, G_FILE_TEST_EXISTS | G_FILE_TEST_IS_SYMLINK))
            return fail(error, ERROR_CONFLICT,
                        "%s exists already: restore to another directory, or remove it", *path);
    return true;
}

/* What qemu-img will need for one image, at most. */
static bool measure(const char *image, uint64_t *bytes, GError **error)
{
    const char *const argv[] = {"qemu-img", "measure", "--output=json", "-f", "qcow2",
                                "-O",       "qcow2",   image,           NULL};
    g_autofree char *text = NULL;
    json_auto_t *json = NULL;

    if (!process_run(argv, MEASURE_TIMEOUT_S, &text, error))
        return false;
    json = json_parse(text, strlen(text), "qemu-img measure", error);
    return json && json_need_u64(json, "required", bytes, error);
}

/* What a copy of clusters needs, at most. */
static uint64_t chain_bytes(const struct origin_disk *disk)
{
    uint64_t bytes = 0;
    struct stat status;

    for (char **image = disk->chain; *image; image++)
        bytes += stat(*image, &status) == 0 ? (uint64_t)status.st_size : 0;
    return bytes;
}

static bool check_space(const struct export *export, GError **error)
{
    uint64_t needed = SPARE_BYTES;
    uint64_t free_bytes;
    uint64_t total_bytes;

    for (unsigned i = 0; i < export->origin->disks->len; i++) {
        const struct origin_disk *disk = export->origin->disks->pdata[i];
        uint64_t bytes;

        if (disk->lost && disk->lost->unreadable)
            bytes = chain_bytes(disk);
        else if (!measure(disk->chain[0], &bytes, error))
            return false;
        needed += bytes;
    }
    if (!disk_space(export->dir, &free_bytes, &total_bytes, error))
        return false;
    if (needed <= free_bytes)
        return true;
    g_autofree char *wants = bytes_format(needed);
    g_autofree char *has = bytes_format(free_bytes);

    return fail(error, ERROR_NO_SPACE,
                "%s of %s needs %s, %s has %s free: make room, or restore "
                "to another file system",
                export->origin->manifest->point, export->origin->manifest->vm, wants, export->dir,
                has);
}

/* ---- Steps */

static bool copy_rest(void *context, const char *path, GError **error)
{
    const struct export *export = context;
    const struct origin_disk *disk = export->disk;
    g_autoptr(GArray) none = cluster_ranges_new();

    return snapshot_flatten(path, disk->chain, disk->lost ? disk->lost->clusters : none,
                            export->site->progress, disk->target, error);
}

/* A finished file of that name is this run's: there was none when it was planned. */
static bool step_convert(void *context, GError **error)
{
    static const struct qemu_user ourselves = {.other = false};
    struct export *export = context;
    g_autofree char *path = image_path(export, export->disk->target);
    /* Out of order, on all cores: the image is made anew, so nothing is lost by it. */
    const char *const command[] = {"qemu-img",
                                   "convert",
                                   "-q",
                                   "-W",
                                   "-m",
                                   "16",
                                   "-f",
                                   "qcow2",
                                   "-O",
                                   "qcow2",
                                   export->disk->chain[0],
                                   NULL};

    progress_note(export->site->progress, "%s: writing %s", export->origin->manifest->vm, path);
    if (has_lost(export))
        return image_make_by(path, copy_rest, export, &ourselves, error);
    return image_make(path, command, 0, &ourselves, error);
}

static bool undo_convert(void *context, GError **error)
{
    const struct export *export = context;
    g_autofree char *path = image_path(export, export->disk->target);

    return image_remove(path, error);
}

static char *nvram_path(const struct export *export)
{
    return g_build_filename(export->dir, "nvram.fd", NULL);
}

static bool step_nvram(void *context, GError **error)
{
    const struct export *export = context;
    g_autofree char *path = nvram_path(export);

    return !export->origin->nvram || g_file_test(path, G_FILE_TEST_EXISTS) ||
           file_copy(export->origin->nvram, path, 0600, error);
}

static bool undo_nvram(void *context, GError **error)
{
    g_autofree char *path = nvram_path(context);

    return tree_remove(path, error);
}

static char *definition_path(const struct export *export)
{
    return g_build_filename(export->dir, "domain.xml", NULL);
}

/* The definition as it was, but with its disks where they are now. It may hold secrets. */
static bool step_definition(void *context, GError **error)
{
    const struct export *export = context;
    const GPtrArray *disks = export->origin->disks;
    AUTO(xml) xml = definition_parse(export->origin->definition, "domain.xml of the point", error);
    g_autofree struct placement_disk *places = g_new0(struct placement_disk, disks->len);
    g_auto(GStrv) left_out = origin_left_out(export->origin);
    g_auto(GStrv) paths = export_paths(export);
    g_autofree char *nvram = nvram_path(export);
    g_autofree char *path = definition_path(export);
    g_autofree char *text = NULL;
    struct placement placement = {.disks = places, .n_disks = disks->len};

    if (!xml)
        return false;
    for (unsigned i = 0; i < disks->len; i++)
        places[i] = (struct placement_disk){((const struct origin_disk *)disks->pdata[i])->target,
                                            paths[i], NULL};
    placement.nvram = export->origin->nvram ? nvram : NULL;
    rewrite_leave_out(xml_root(xml), left_out);
    rewrite_place(xml_root(xml), &placement);
    text = xml_dump(xml);
    return file_write(path, text, strlen(text), 0600, error);
}

static bool undo_definition(void *context, GError **error)
{
    g_autofree char *path = definition_path(context);

    return tree_remove(path, error);
}

static bool step_lost(void *context, GError **error)
{
    const struct export *export = context;
    g_autofree char *path = g_build_filename(export->dir, LOST_NAME, NULL);
    g_autoptr(GPtrArray) lost = origin_lost(export->origin);
    json_auto_t *json = lost_disks_json(lost);
    g_autofree char *text = json_text(json, 2);

    return lost->len == 0 || file_write(path, text, strlen(text), 0600, error);
}

static bool undo_lost(void *context, GError **error)
{
    const struct export *export = context;
    g_autofree char *path = g_build_filename(export->dir, LOST_NAME, NULL);

    return tree_remove(path, error);
}

static const struct step disk_steps[] = {
    {.name = "convert", .run = step_convert, .undo = undo_convert},
};
static const struct step vm_steps[] = {
    {.name = "nvram", .run = step_nvram, .undo = undo_nvram},
    {.name = "definition", .run = step_definition, .undo = undo_definition},
    {.name = "lost", .run = step_lost, .undo = undo_lost},
};

static bool do_disks(struct export *export, struct run *run, GError **error)
{
    for (unsigned i = 0; i < export->origin->disks->len; i++) {
        export->disk = export->origin->disks->pdata[i];
        if (!run_steps(run, export->disk->target, disk_steps, G_N_ELEMENTS(disk_steps), export,
                       error))
            return false;
    }
    return true;
}

/* What qemu-img has met, it calls an I/O error. Is it damage of the point? */
static bool explain_failure(const struct export *export, GError **error)
{
    g_autoptr(GError) damage = NULL;

    if (!error_is(*error, ERROR_CANCELLED) &&
        !origin_verify(export->origin, snapshot_verify_point, export->site->progress, &damage) &&
        error_is(damage, ERROR_INTEGRITY)) {
        g_clear_error(error);
        g_propagate_error(error, g_steal_pointer(&damage));
    }
    return false;
}

/* Beforehand only what qemu-img would copy without a word: every cluster is unpacked once, by it. What is
 * left of a damaged point is compared with its digests while it is copied. */
static bool do_steps(struct export *export, struct run *run, GError **error)
{
    if (!has_lost(export) &&
        !origin_verify(export->origin, snapshot_verify_for_qemu, export->site->progress, error))
        return false;
    if (!do_disks(export, run, error))
        return has_lost(export) ? false : explain_failure(export, error);
    return run_steps(run, "vm", vm_steps, G_N_ELEMENTS(vm_steps), export, error);
}

/* A failed restore leaves nothing, so that the same command can be tried again. */
static void undo_steps(struct export *export, struct run *run)
{
    for (unsigned i = 0; i < export->origin->disks->len; i++) {
        export->disk = export->origin->disks->pdata[i];
        run_undo(run, export->disk->target, disk_steps, G_N_ELEMENTS(disk_steps), export, NULL);
    }
    run_undo(run, "vm", vm_steps, G_N_ELEMENTS(vm_steps), export, NULL);
}

/* ---- The run */

static bool declare(const struct export *export, struct run *run, GError **error)
{
    unsigned n_disks = export->origin->disks->len;
    g_autofree struct run_subject *subjects = g_new0(struct run_subject, n_disks + 1);

    for (unsigned i = 0; i < n_disks; i++) {
        const struct origin_disk *disk = export->origin->disks->pdata[i];

        subjects[i] = (struct run_subject){disk->target, disk_steps, G_N_ELEMENTS(disk_steps)};
    }
    subjects[n_disks] = (struct run_subject){"vm", vm_steps, G_N_ELEMENTS(vm_steps)};
    return run_declare(run, subjects, n_disks + 1, error);
}

static struct run *begin(const struct export *export, const struct restore_request *request,
                         GError **error)
{
    json_auto_t *json = request_plan(request, export->origin);
    AUTO(run) run = NULL;

    if (!check_absent(export, error) || !check_space(export, error))
        return NULL;
    run = run_begin(export->site->catalog, RESTORE_KIND, export->dir, json, error);
    return run && declare(export, run, error) ? g_steal_pointer(&run) : NULL;
}

bool restore_to_dir(const struct site *site, const struct restore_request *request,
                    struct restore_result *result, GError **error)
{
    g_autofree char *dir = g_canonicalize_filename(request->to_dir, NULL);
    AUTO(run) run = request_resume(site, request, dir, error);
    AUTO(origin)
    origin = *error ? NULL
             : run  ? request_origin_again(site, run_plan(run), error)
                    : request_origin(site, request, error);
    struct export export = {.site = site, .origin = origin, .dir = dir};

    if (!origin)
        return false;
    if (!run)
        run = begin(&export, request, error);
    if (!run)
        return false;
    result->run = g_strdup(run_id(run));
    if (!dir_make(dir, 0700, error) || !do_steps(&export, run, error)) {
        if (!error_is(*error, ERROR_CANCELLED))
            undo_steps(&export, run);
        return request_fail(run, error);
    }
    result->vm = g_strdup(origin->manifest->vm);
    result->point = g_strdup(origin->manifest->point);
    result->paths = export_paths(&export);
    return request_done(run, origin, result, error);
}
