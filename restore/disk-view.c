/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "restore/look.h"

#define READY_MS 20000
#define POLL_US 10000
#define RUN_S 3600
#define SPARE_BYTES (UINT64_C(64) << 20)

struct disk_view {
    struct workdir *workdir;
    char *path;
    struct child *server; /* NULL: PATH is a copy */
    char *pid;
};

/* ---- By FUSE */

static char *blockdev_text(const struct origin_disk *disk)
{
    json_auto_t *json = json_object();
    json_t *file = json_object();

    json_set_string(file, "driver", "file");
    json_set_string(file, "filename", disk->chain[0]);
    json_set_string(file, "locking", "off");
    json_set_string(json, "driver", "qcow2");
    json_set_string(json, "node-name", "disk");
    json_object_set_new(json, "read-only", json_true());
    json_object_set_new(json, "file", file);
    return json_text(json, 0);
}

static char *export_text(const char *path)
{
    json_auto_t *json = json_object();

    json_set_string(json, "type", "fuse");
    json_set_string(json, "id", "view");
    json_set_string(json, "node-name", "disk");
    json_set_string(json, "mountpoint", path);
    json_object_set_new(json, "writable", json_false());
    return json_text(json, 0);
}

/* QEMU makes the file first, and then writes into it. */
static bool wait_for(struct child *child, const char *pid_file, GError **error)
{
    int64_t deadline_ms = time_monotonic_ms() + READY_MS;
    struct stat status;

    while (stat(pid_file, &status) < 0 || status.st_size == 0) {
        if (!interrupt_check(error) || !child_runs(child, error))
            return false;
        if (time_monotonic_ms() >= deadline_ms)
            return fail(error, ERROR_HYPERVISOR, "qemu-storage-daemon was not ready after %d s",
                        READY_MS / 1000);
        g_usleep(POLL_US);
    }
    return true;
}

/* In a mount namespace, and for all but root in a user namespace, which may mount then. What is mounted there
 * goes with the last process that is in it. */
static bool serve_disk(struct disk_view *view, const struct origin_disk *disk, GError **error)
{
    g_autofree char *pid_file = g_build_filename(view->workdir->path, "pid", NULL);
    g_autofree char *blockdev = blockdev_text(disk);
    g_autofree char *export = export_text(view->path);
    /* Private is what --mount is anyway. */
    const char *const argv[] = {"unshare",
                                "--mount",
                                geteuid() == 0 ? "--propagation=private" : "--map-root-user",
                                "--",
                                "qemu-storage-daemon",
                                "--pidfile",
                                pid_file,
                                "--blockdev",
                                blockdev,
                                "--export",
                                export,
                                NULL};

    if (!file_write(view->path, "", 0, 0600, error))
        return false;
    view->server = child_start(argv, error);
    if (!view->server || !wait_for(view->server, pid_file, error) ||
        !file_read(pid_file, 100, &view->pid, NULL, error))
        return false;
    g_strstrip(view->pid);
    return true;
}

/* ---- As a copy */

bool look_check_room(const char *dir, uint64_t bytes, const char *what, GError **error)
{
    g_autofree char *wants = NULL;
    g_autofree char *has = NULL;
    uint64_t free_bytes, total_bytes;

    if (!disk_space(dir, &free_bytes, &total_bytes, error))
        return false;
    if (free_bytes >= SPARE_BYTES && bytes <= free_bytes - SPARE_BYTES)
        return true;
    wants = bytes_format(bytes);
    has = bytes_format(free_bytes);
    return fail(error, ERROR_NO_SPACE, "a copy of %s needs %s in %s, which has %s free", what,
                wants, dir, has);
}

static bool check_space(const struct disk_view *view, const struct origin_disk *disk,
                        GError **error)
{
    const char *const argv[] = {"qemu-img", "measure", "--output=json", "-f", "qcow2",
                                "-O",       "raw",     disk->chain[0],  NULL};
    g_autofree char *what = g_strconcat("disk ", disk->target, NULL);
    g_autofree char *text = NULL;
    json_auto_t *json = NULL;
    uint64_t needed;

    return process_run(argv, RUN_S, &text, error) &&
           (json = json_parse(text, strlen(text), "qemu-img measure", error)) &&
           json_need_u64(json, "required", &needed, error) &&
           look_check_room(view->workdir->path, needed, what, error);
}

static bool copy(struct disk_view *view, const struct origin_disk *disk, GError **error)
{
    const char *const argv[] = {"qemu-img", "convert", "-q",           "-f",       "qcow2",
                                "-O",       "raw",     disk->chain[0], view->path, NULL};

    return check_space(view, disk, error) && process_run(argv, 0, NULL, error);
}

/* ---- Either */

static bool open_view(struct disk_view *view, const struct site *site,
                      const struct origin_disk *disk, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (serve_disk(view, disk, &why))
        return true;
    if (error_is(why, ERROR_CANCELLED)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    g_clear_pointer(&view->server, child_free);
    progress_note(
        site->progress,
        "disk %s is copied to %s first, because FUSE cannot be used (%s; it needs /dev/fuse, "
        "unshare, nsenter and qemu-storage-daemon)",
        disk->target, view->workdir->path, why->message);
    return copy(view, disk, error);
}

struct disk_view *disk_view_open(const struct site *site, const struct origin_disk *disk,
                                 GError **error)
{
    AUTO(disk_view) view = g_new0(struct disk_view, 1);

    view->workdir = workdir_new(site->config->scratch, error);
    if (!view->workdir)
        return NULL;
    view->path = g_build_filename(view->workdir->path, "disk", NULL);
    return open_view(view, site, disk, error) ? g_steal_pointer(&view) : NULL;
}

void disk_view_free(struct disk_view *view)
{
    if (!view)
        return;
    child_free(view->server);
    workdir_free(view->workdir);
    g_free(view->path);
    g_free(view->pid);
    g_free(view);
}

const char *disk_view_path(const struct disk_view *view)
{
    return view->path;
}

const char *disk_view_dir(const struct disk_view *view)
{
    return view->workdir->path;
}

/* Where PROGRAM is: those that look at file systems are in directories that only root's PATH has. g_free */
static char *find_program(const char *program, GError **error)
{
    static const char *const dirs[] = {"/usr/sbin", "/sbin"};
    char *found = g_find_program_in_path(program);

    for (unsigned i = 0; !found && i < G_N_ELEMENTS(dirs); i++) {
        g_autofree char *path = g_build_filename(dirs[i], program, NULL);

        if (g_file_test(path, G_FILE_TEST_IS_EXECUTABLE))
            found = g_steal_pointer(&path);
    }
    if (!found)
        fail(error, ERROR_FAILED,
             "cannot run %s: it is not installed; on Debian: apt-get install %s", program,
             strcmp(program, "debugfs") == 0 ? "e2fsprogs" : "util-linux");
    return found;
}

/* ARGV as a command that sees the disk; g_strfreev. */
static char **command_of(const struct disk_view *view, const char *const *argv, GError **error)
{
    g_autoptr(GStrvBuilder) all = g_strv_builder_new();
    g_autofree char *program = find_program(argv[0], error);

    if (!program)
        return NULL;
    if (view->server) {
        g_strv_builder_add_many(all, "nsenter", "--target", view->pid, "--mount", NULL);
        if (geteuid() != 0)
            g_strv_builder_add_many(all, "--user", "--preserve-credentials", NULL);
        g_strv_builder_add(all, "--");
    }
    g_strv_builder_add(all, program);
    g_strv_builder_addv(all, (const char **)argv + 1);
    return g_strv_builder_end(all);
}

bool disk_view_run(const struct disk_view *view, const char *const *argv, char **output,
                   GError **error)
{
    g_auto(GStrv) command = command_of(view, argv, error);

    return command && process_run((const char *const *)command, RUN_S, output, error);
}

bool disk_view_watch(const struct disk_view *view, const char *const *argv,
                     const struct process_watch *watch, char **output, int *status, GError **error)
{
    g_auto(GStrv) command = command_of(view, argv, error);

    return command && process_watch((const char *const *)command, watch, output, status, error);
}
