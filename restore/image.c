/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/image.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

/* ".tmp-<name>-": what stands before the process id in the names of unfinished files. */
static char *temporary_prefix(const char *path)
{
    g_autofree char *base = g_path_get_basename(path);

    return g_strdup_printf(".tmp-%s-", base);
}

static bool sweep(const char *path, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(path);
    g_autofree char *prefix = temporary_prefix(path);
    g_autoptr(GDir) dir = g_dir_open(parent, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *left = g_build_filename(parent, name, NULL);

        if (g_str_has_prefix(name, prefix) && !tree_remove(left, error))
            return false;
    }
    return true;
}

bool image_give(const char *path, const struct qemu_user *user, mode_t mode, GError **error)
{
    if (chmod(path, mode) < 0 || (user->other && chown(path, user->uid, user->gid) < 0))
        return fail_errno(error, errno, "cannot give %s to QEMU", path);
    return true;
}

/* The name is this process's own: the qemu-img of one that was killed may still be at work. */
static char *temporary(const char *path)
{
    g_autofree char *parent = g_path_get_dirname(path);
    g_autofree char *prefix = temporary_prefix(path);

    return g_strdup_printf("%s/%s%d", parent, prefix, (int)getpid());
}

/* MAKER with its file on the way to the disk all the while. */
static bool run_maker(const char *path, image_maker *maker, void *context, GError **error)
{
    AUTO(writeback) writeback = writeback_start(path);

    return maker(context, path, error);
}

bool image_make_by(const char *path, image_maker *maker, void *context,
                   const struct qemu_user *user, GError **error)
{
    g_autofree char *temp = temporary(path);

    if (g_file_test(path, G_FILE_TEST_EXISTS))
        return true;
    return sweep(path, error) && run_maker(temp, maker, context, error) &&
           image_give(temp, user, 0600, error) && file_sync(temp, error) &&
           path_rename(temp, path, error);
}

struct command {
    const char *const *argv;
    unsigned timeout_s;
};

static bool run_command(void *context, const char *path, GError **error)
{
    const struct command *command = context;
    g_autoptr(GPtrArray) argv = g_ptr_array_new();

    for (const char *const *arg = command->argv; *arg; arg++)
        g_ptr_array_add(argv, (char *)*arg);
    g_ptr_array_add(argv, (char *)path);
    g_ptr_array_add(argv, NULL);
    return process_run((const char *const *)argv->pdata, command->timeout_s, NULL, error);
}

bool image_make(const char *path, const char *const *command, unsigned timeout_s,
                const struct qemu_user *user, GError **error)
{
    struct command context = {command, timeout_s};

    return image_make_by(path, run_command, &context, user, error);
}

bool image_remove(const char *path, GError **error)
{
    return sweep(path, error) && tree_remove(path, error);
}
