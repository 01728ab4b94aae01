/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/error.h"
#include "common/file.h"
#include "common/lock.h"

struct file_lock {
    int fd;
    char *path;
};

static struct flock whole_file(short type)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET};
}

/* The pid is there for people only; a full disk must not keep anybody from locking. */
static void holder_write(int fd)
{
    g_autofree char *text = g_strdup_printf("pid %d\n", (int)getpid());

    if (ftruncate(fd, 0) == 0)
        fd_write_at(fd, 0, text, strlen(text), "lock", NULL);
}

/* Of several holders none is named. */
static void holder_forget(int fd)
{
    if (ftruncate(fd, 0) < 0)
        g_debug("a lock file names its last holder: %s", g_strerror(errno));
}

static char *holder_read(int fd)
{
    char text[32] = "";
    ssize_t len = pread(fd, text, sizeof(text) - 1, 0);

    g_strstrip(text);
    return g_strdup(len > 0 && g_str_is_ascii(text) && text[0] ? text : "another process");
}

static bool fail_lock(int fd, int err, const char *path, const char *what, GError **error)
{
    g_autofree char *holder = holder_read(fd);

    if (err != EAGAIN && err != EACCES)
        return fail_errno(error, err, "cannot lock %s", path);
    return fail(error, ERROR_CONFLICT, "%s is in use by %s", what, holder);
}

static bool lock_at_once(int fd, const char *path, const char *what, GError **error)
{
    struct flock range = whole_file(F_WRLCK);

    return fcntl(fd, F_OFD_SETLK, &range) == 0 || fail_lock(fd, errno, path, what, error);
}

static bool lock_shared(int fd, const char *path, GError **error)
{
    struct flock range = whole_file(F_RDLCK);

    while (fcntl(fd, F_OFD_SETLKW, &range) < 0) {
        if (errno != EINTR)
            return fail_errno(error, errno, "cannot lock %s", path);
        if (!interrupt_check(error))
            return false;
    }
    return true;
}

/* Is the open file still the one at PATH? It may have been discarded before we had its lock. */
static bool is_current(int fd, const char *path)
{
    struct stat ours, there;

    return fstat(fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_dev == there.st_dev &&
           ours.st_ino == there.st_ino;
}

/* The descriptor of the locked file; -1 if it cannot be had. WHAT: of a lock for ourselves only. */
static int open_locked(const char *path, const char *what, GError **error)
{
    while (true) {
        AUTO_FD fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        if (fd < 0) {
            fail_errno(error, errno, "cannot open the lock file %s", path);
            return -1;
        }
        if (what ? !lock_at_once(fd, path, what, error) : !lock_shared(fd, path, error))
            return -1;
        if (is_current(fd, path))
            return fd_steal(&fd);
    }
}

static struct file_lock *lock_new(const char *path, int fd)
{
    struct file_lock *lock = g_new0(struct file_lock, 1);

    lock->fd = fd;
    lock->path = g_strdup(path);
    return lock;
}

struct file_lock *file_lock_take(const char *path, const char *what, GError **error)
{
    int fd = open_locked(path, what, error);

    if (fd < 0)
        return NULL;
    holder_write(fd);
    return lock_new(path, fd);
}

struct file_lock *file_lock_share(const char *path, GError **error)
{
    int fd = open_locked(path, NULL, error);

    if (fd < 0)
        return NULL;
    holder_forget(fd);
    return lock_new(path, fd);
}

bool file_lock_held(const char *path)
{
    AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
    struct flock range = whole_file(F_WRLCK);

    /* When we cannot know, "held" is the answer that removes and takes over nothing. */
    if (fd < 0)
        return errno != ENOENT;
    return fcntl(fd, F_OFD_GETLK, &range) < 0 || range.l_type != F_UNLCK;
}

void file_lock_free(struct file_lock *lock)
{
    if (!lock)
        return;
    close(lock->fd);
    g_free(lock->path);
    g_free(lock);
}

void file_lock_discard(struct file_lock *lock)
{
    unlink(lock->path);
    file_lock_free(lock);
}
