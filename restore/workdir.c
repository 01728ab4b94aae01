/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/workdir.h"

#include <errno.h>

/* PARENT may be anybody's directory: what is called so is ours. */
#define PREFIX "drctl-work-"
#define LOCK_NAME "lock"

/* One without a lock file has just been made. */
static void sweep(const char *parent)
{
    g_auto(GStrv) names = dir_list(parent, NULL);

    for (char **name = names; name && *name; name++) {
        g_autofree char *dir = g_build_filename(parent, *name, NULL);
        g_autofree char *lock = g_build_filename(dir, LOCK_NAME, NULL);

        if (g_str_has_prefix(*name, PREFIX) && g_file_test(lock, G_FILE_TEST_EXISTS) &&
            !file_lock_held(lock))
            tree_remove(dir, NULL);
    }
}

struct workdir *workdir_new(const char *parent, GError **error)
{
    AUTO(workdir) workdir = g_new0(struct workdir, 1);
    g_autofree char *path = g_build_filename(parent, PREFIX "XXXXXX", NULL);
    g_autofree char *lock = NULL;

    sweep(parent);
    if (!dir_make(parent, 0711, error))
        return NULL;
    if (!g_mkdtemp(path)) {
        fail_errno(error, errno, "cannot make a directory in %s", parent);
        return NULL;
    }
    workdir->path = g_steal_pointer(&path);
    lock = g_build_filename(workdir->path, LOCK_NAME, NULL);
    workdir->lock = file_lock_take(lock, workdir->path, error);
    return workdir->lock ? g_steal_pointer(&workdir) : NULL;
}

void workdir_free(struct workdir *workdir)
{
    if (!workdir)
        return;
    if (workdir->lock)
        tree_remove(workdir->path, NULL);
    file_lock_free(workdir->lock);
    g_free(workdir->path);
    g_free(workdir);
}
