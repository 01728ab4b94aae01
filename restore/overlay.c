/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define QEMU_IMG_TIMEOUT_S 120
#define MODE_IMAGES 0711
#define MODE_OVERLAYS 0750
#define MODE_FILE 0600

char *overlay_dir(const struct config *config, const char *vm, const char *uuid, const char *run)
{
    g_autofree char *name = g_strdup_printf("%s.%s", vm, run);

    if (name_is_safe(name))
        return g_build_filename(config->images, name, NULL);
    g_free(name);
    name = g_strdup_printf("%s.%s", uuid, run);
    return g_build_filename(config->images, name, NULL);
}

char *overlay_path(const char *dir, const char *target)
{
    g_autofree char *name = g_strconcat(target, ".qcow2", NULL);

    return g_build_filename(dir, name, NULL);
}

char *overlay_nvram_path(const char *dir)
{
    return g_build_filename(dir, "nvram.fd", NULL);
}

/* ---- Access to the point */

/* Do the bits of STAT allow USER what NEEDED (04 read, 01 pass) says? */
static bool allows(const struct stat *st, const struct qemu_user *user, mode_t needed)
{
    if (user->uid == 0)
        return true;
    if (st->st_uid == user->uid)
        return ((st->st_mode >> 6) & needed) == needed;
    if (st->st_gid == user->gid)
        return ((st->st_mode >> 3) & needed) == needed;
    return (st->st_mode & needed) == needed;
}

bool overlay_check_passage(const char *dir, const struct qemu_user *user, GError **error)
{
    g_autofree char *at = g_canonicalize_filename(dir, NULL);

    while (user->other) {
        struct stat st;
        char *parent;

        if (stat(at, &st) == 0 && !allows(&st, user, 01))
            return fail(error, ERROR_AUTH,
                        "QEMU (user %u, group %u) may not pass through %s: chmod o+x %s",
                        (unsigned)user->uid, (unsigned)user->gid, at, at);
        if (strcmp(at, "/") == 0)
            return true;
        parent = g_path_get_dirname(at);
        g_free(at);
        at = parent;
    }
    return true;
}

/* Give USER's group NEEDED on PATH, which is a file or directory of the store. */
static bool grant(const char *path, int flags, const struct qemu_user *user, mode_t needed,
                  GError **error)
{
    AUTO_FD fd = open(path, flags | O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    mode_t group;

    if (fd < 0 || fstat(fd, &st) < 0)
        return fail_errno(error, errno, "cannot open %s", path);
    if (allows(&st, user, needed))
        return true;
    /* What another group was allowed is not for QEMU's. */
    group = (st.st_gid == user->gid ? st.st_mode & 0070 : 0) | (needed << 3);
    if (fchown(fd, (uid_t)-1, user->gid) < 0 || fchmod(fd, (st.st_mode & 07707) | group) < 0)
        return fail_errno(error, errno, "cannot let QEMU (group %u) read %s", (unsigned)user->gid,
                          path);
    return true;
}

static bool grant_image(const char *file, const struct qemu_user *user, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(file);

    return grant(dir, O_DIRECTORY, user, 01, error) && grant(file, 0, user, 04, error);
}

bool overlay_grant(const struct origin *origin, const struct qemu_user *user, GError **error)
{
    for (unsigned i = 0; user->other && i < origin->disks->len; i++) {
        const struct origin_disk *disk = origin->disks->pdata[i];

        for (char **file = disk->chain; *file; file++)
            if (!grant_image(*file, user, error))
                return false;
    }
    return true;
}

/* ---- Overlays */

/* PATH is .tmp-<name> while it is made. */
static char *temporary(const char *path)
{
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *base = g_path_get_basename(path);
    g_autofree char *name = g_strconcat(".tmp-", base, NULL);

    return g_build_filename(dir, name, NULL);
}

static bool exists(const char *path)
{
    return g_file_test(path, G_FILE_TEST_EXISTS);
}

static bool give(const char *path, const struct qemu_user *user, mode_t mode, GError **error)
{
    if (chmod(path, mode) < 0 || (user->other && chown(path, user->uid, user->gid) < 0))
        return fail_errno(error, errno, "cannot give %s to QEMU", path);
    return true;
}

static bool create_image(const char *path, const char *base, const struct qemu_user *user,
                         GError **error)
{
    g_autofree char *temp = temporary(path);
    const char *const argv[] = {"qemu-img", "create", "-q", "-f", "qcow2", "-F",
                                "qcow2",    "-b",     base, temp, NULL};

    if (exists(path))
        return true;
    return tree_remove(temp, error) && process_run(argv, QEMU_IMG_TIMEOUT_S, NULL, error) &&
           give(temp, user, MODE_FILE, error) && file_sync(temp, error) &&
           path_rename(temp, path, error);
}

static bool copy_nvram(const char *dir, const char *from, const struct qemu_user *user,
                       GError **error)
{
    g_autofree char *path = overlay_nvram_path(dir);
    g_autofree char *temp = temporary(path);

    if (exists(path))
        return true;
    return tree_remove(temp, error) && file_copy(from, temp, MODE_FILE, error) &&
           give(temp, user, MODE_FILE, error) && path_rename(temp, path, error);
}

bool overlay_create(const char *dir, const struct origin *origin, const struct qemu_user *user,
                    GError **error)
{
    g_autofree char *images = g_path_get_dirname(dir);

    if (!dir_make(images, MODE_IMAGES, error) || !dir_make(dir, MODE_OVERLAYS, error) ||
        !give(dir, user, MODE_OVERLAYS, error))
        return false;
    for (unsigned i = 0; i < origin->disks->len; i++) {
        const struct origin_disk *disk = origin->disks->pdata[i];
        g_autofree char *path = overlay_path(dir, disk->target);

        if (!create_image(path, disk->chain[0], user, error))
            return false;
    }
    return !origin->nvram || copy_nvram(dir, origin->nvram, user, error);
}
