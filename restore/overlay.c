/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define QEMU_IMG_TIMEOUT_S 120
#define MODE_IMAGES 0711
#define MODE_OVERLAYS 0750

char *overlay_dir(const char *images, const char *vm, const char *uuid, const char *run)
{
    g_autofree char *name = g_strdup_printf("%s.%s", vm, run);

    if (name_is_safe(name))
        return g_build_filename(images, name, NULL);
    g_free(name);
    name = g_strdup_printf("%s.%s", uuid, run);
    return g_build_filename(images, name, NULL);
}

const char *overlay_run(const char *dir)
{
    const char *end = g_strrstr(dir, ".r-");

    return end && end > dir ? end + 1 : NULL;
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

static char *copy_path(const char *dir, const char *target)
{
    g_autofree char *name = g_strconcat(target, ".base.qcow2", NULL);

    return g_build_filename(dir, name, NULL);
}

static char *lost_path(const char *dir, const char *target)
{
    g_autofree char *name = g_strconcat(target, OVERLAY_LOST_SUFFIX, NULL);

    return g_build_filename(dir, name, NULL);
}

static bool must_copy(const struct origin_disk *disk)
{
    return g_strv_length(disk->chain) > OVERLAY_MAX_LAYERS ||
           (disk->lost && disk->lost->unreadable);
}

char **overlay_chain(const char *dir, const struct origin_disk *disk)
{
    g_autoptr(GStrvBuilder) chain = g_strv_builder_new();
    g_autofree char *copy = copy_path(dir, disk->target);
    g_autofree char *lost = lost_path(dir, disk->target);

    /* What is lost is an error in the copy itself. */
    if (must_copy(disk)) {
        g_strv_builder_add(chain, copy);
    } else {
        if (disk->lost)
            g_strv_builder_add(chain, lost);
        g_strv_builder_addv(chain, (const char **)disk->chain);
    }
    return g_strv_builder_end(chain);
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

static bool make_lost(void *context, const char *path, GError **error)
{
    const struct origin_disk *disk = context;

    return snapshot_write_lost(path, disk->chain[0], disk->virtual_bytes, disk->lost->clusters,
                               error);
}

static bool make_copy(void *context, const char *path, GError **error)
{
    const struct origin_disk *disk = context;

    return snapshot_flatten(path, disk->chain, disk->lost->clusters, NULL, disk->target, error);
}

/* What lies between the overlay and the point, if anything has to. */
static bool create_between(const struct origin_disk *disk, char *const *chain,
                           const struct qemu_user *user, GError **error)
{
    const char *const copy[] = {"qemu-img", "convert", "-q",           "-f", "qcow2",
                                "-O",       "qcow2",   disk->chain[0], NULL};

    if (strcmp(chain[0], disk->chain[0]) == 0)
        return true;
    if (!disk->lost)
        return image_make(chain[0], copy, 0, user, error);
    return image_make_by(chain[0], must_copy(disk) ? make_copy : make_lost, (void *)disk, user,
                         error);
}

/* A write that is smaller than a cluster reads the rest of it, unless clusters have parts: so the guest can
 * write over what is lost, whatever sectors its file systems have. */
#define WITH_PARTS "extended_l2=on"
#define WITHOUT_PARTS "extended_l2=off"

static bool create_disk(const char *dir, const struct origin_disk *disk,
                        const struct qemu_user *user, GError **error)
{
    g_autofree char *path = overlay_path(dir, disk->target);
    g_auto(GStrv) chain = overlay_chain(dir, disk);
    const char *const create[] = {"qemu-img",
                                  "create",
                                  "-q",
                                  "-f",
                                  "qcow2",
                                  "-o",
                                  disk->lost ? WITH_PARTS : WITHOUT_PARTS,
                                  "-F",
                                  "qcow2",
                                  "-b",
                                  chain[0],
                                  NULL};

    return create_between(disk, chain, user, error) &&
           image_make(path, create, QEMU_IMG_TIMEOUT_S, user, error);
}

static bool copy_nvram(const char *dir, const char *from, const struct qemu_user *user,
                       GError **error)
{
    g_autofree char *path = overlay_nvram_path(dir);

    if (!g_file_test(path, G_FILE_TEST_EXISTS) && !file_copy(from, path, 0600, error))
        return false;
    return image_give(path, user, 0600, error);
}

/* A link that is there already leads there, too: nobody else makes one of this run. */
static bool make_link(const char *link, const char *dir, GError **error)
{
    g_autofree char *images = g_path_get_dirname(link);

    if (strcmp(link, dir) == 0)
        return true;
    if (!dir_make(images, MODE_IMAGES, error))
        return false;
    if (symlink(dir, link) < 0 && errno != EEXIST)
        return fail_errno(error, errno, "cannot make the link %s to %s", link, dir);
    return dir_sync(images, error);
}

bool overlay_create(const char *dir, const char *link, const struct origin *origin,
                    const struct qemu_user *user, GError **error)
{
    g_autofree char *images = g_path_get_dirname(dir);

    if (!dir_make(images, MODE_IMAGES, error) || !dir_make(dir, MODE_OVERLAYS, error) ||
        !image_give(dir, user, MODE_OVERLAYS, error) || !make_link(link, dir, error))
        return false;
    for (unsigned i = 0; i < origin->disks->len; i++)
        if (!create_disk(dir, origin->disks->pdata[i], user, error))
            return false;
    return !origin->nvram || copy_nvram(dir, origin->nvram, user, error);
}

bool overlay_remove(const char *dir, const char *link, GError **error)
{
    /* Removing does not follow links. First, so that there is never one that leads nowhere. */
    return (strcmp(link, dir) == 0 || tree_remove(link, error)) && tree_remove(dir, error);
}
