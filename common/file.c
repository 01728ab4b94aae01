/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "common/error.h"
#include "common/file.h"

#define TEMP_PREFIX ".tmp-"
#define READ_STEP ((size_t)64 << 10)
#define COPY_BUFFER ((size_t)1 << 20)
#define COPY_STEP ((off_t)64 << 20) /* between two looks at the interrupt flag */

/* A file on its way to be PATH's replacement. Clearing it without a commit removes it. */
struct temp_file {
    char *path;
    int fd;
};

static void temp_file_clear(struct temp_file *temp)
{
    if (temp->fd >= 0)
        close(temp->fd);
    if (temp->path)
        unlink(temp->path);
    g_free(temp->path);
}
#define AUTO_TEMP_FILE __attribute__((cleanup(temp_file_clear))) struct temp_file

static bool temp_file_open(struct temp_file *temp, const char *target, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(target);
    g_autofree char *path = g_build_filename(dir, TEMP_PREFIX "XXXXXX", NULL);

    temp->fd = mkostemp(path, O_CLOEXEC);
    if (temp->fd < 0)
        return fail_errno(error, errno, "cannot write %s", target);
    temp->path = g_steal_pointer(&path);
    return true;
}

/* rename(2) that can refuse to replace, also where the file system cannot (NFS, old FUSE): there
 * the look before the rename is not atomic. */
static int rename_path(const char *from, const char *to, bool replace)
{
    struct stat st;

    if (replace)
        return rename(from, to);
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    if (lstat(to, &st) == 0) {
        errno = EEXIST;
        return -1;
    }
    return rename(from, to);
}

static bool parent_sync(const char *path, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path);

    return dir_sync(dir, error);
}

static bool temp_file_place(struct temp_file *temp, const char *target, mode_t mode, bool replace,
                            GError **error)
{
    if (fchmod(temp->fd, mode) < 0 || fsync(temp->fd) < 0)
        return fail_errno(error, errno, "cannot write %s", target);
    if (rename_path(temp->path, target, replace) < 0) {
        if (errno == EEXIST)
            return fail(error, ERROR_CONFLICT, "cannot create %s: it exists", target);
        return fail_errno(error, errno, "cannot write %s", target);
    }
    g_clear_pointer(&temp->path, g_free);
    return true;
}

static bool temp_file_commit(struct temp_file *temp, const char *target, mode_t mode, bool replace,
                             GError **error)
{
    return temp_file_place(temp, target, mode, replace, error) && parent_sync(target, error);
}

bool file_write(const char *path, const void *data, size_t len, mode_t mode, GError **error)
{
    AUTO_TEMP_FILE temp = {.fd = -1};

    return temp_file_open(&temp, path, error) && fd_write_at(temp.fd, 0, data, len, path, error) &&
           temp_file_commit(&temp, path, mode, true, error);
}

bool file_write_owned(const char *path, const void *data, size_t len, mode_t mode, uid_t uid,
                      gid_t gid, GError **error)
{
    AUTO_TEMP_FILE temp = {.fd = -1};

    if (!temp_file_open(&temp, path, error) || !fd_write_at(temp.fd, 0, data, len, path, error))
        return false;
    if (fchown(temp.fd, uid, gid) < 0)
        return fail_errno(error, errno, "cannot set the owner of %s", path);
    return temp_file_commit(&temp, path, mode, true, error);
}

struct file_text {
    char *path;
    char *text;
};

static void file_text_clear(void *data)
{
    struct file_text *file = data;

    g_free(file->path);
    g_free(file->text);
}

GArray *file_texts_new(void)
{
    GArray *files = g_array_new(FALSE, FALSE, sizeof(struct file_text));

    g_array_set_clear_func(files, file_text_clear);
    return files;
}

void file_texts_add(GArray *files, char *path, char *text)
{
    struct file_text file = {path, text};

    g_array_append_val(files, file);
}

static bool file_text_write(const struct file_text *file, mode_t mode, GError **error)
{
    AUTO_TEMP_FILE temp = {.fd = -1};

    return temp_file_open(&temp, file->path, error) &&
           fd_write_at(temp.fd, 0, file->text, strlen(file->text), file->path, error) &&
           temp_file_place(&temp, file->path, mode, true, error);
}

bool file_texts_write(const GArray *files, mode_t mode, GError **error)
{
    const struct file_text *first = files->len ? &g_array_index(files, struct file_text, 0) : NULL;

    for (unsigned i = 0; i < files->len; i++)
        if (!file_text_write(&first[i], mode, error))
            return false;
    return !first || parent_sync(first->path, error);
}

/* The size of a file is only a hint: it may grow while we read, and /proc says 0. */
bool file_read(const char *path, size_t max, char **data, size_t *len, GError **error)
{
    AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
    g_autofree char *buffer = NULL;
    size_t room = 0, used = 0;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return fail_errno(error, errno, "cannot open %s", path);
    room = MIN((size_t)st.st_size, max) + 1;
    buffer = g_malloc(room + 1);
    for (;;) {
        ssize_t got = read(fd, buffer + used, room - used);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno(error, errno, "cannot read %s", path);
        if (got == 0)
            break;
        used += (size_t)got;
        if (used > max)
            return fail(error, ERROR_INTEGRITY, "%s is larger than %zu bytes", path, max);
        if (used == room) {
            room = MIN(2 * room + READ_STEP, max + 1);
            buffer = g_realloc(buffer, room + 1);
        }
    }
    buffer[used] = '\0';
    *data = g_steal_pointer(&buffer);
    if (len)
        *len = used;
    return true;
}

bool fd_read_at(int fd, uint64_t offset, void *data, size_t len, const char *name, GError **error)
{
    for (size_t done = 0; done < len;) {
        ssize_t got = pread(fd, (char *)data + done, len - done, (off_t)(offset + done));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno(error, errno, "cannot read %s at offset %" PRIu64, name,
                              offset + done);
        if (got == 0)
            return fail(error, ERROR_INTEGRITY, "%s is too short: it ends before offset %" PRIu64,
                        name, offset + len);
        done += (size_t)got;
    }
    return true;
}

bool fd_write_at(int fd, uint64_t offset, const void *data, size_t len, const char *name,
                 GError **error)
{
    for (size_t done = 0; done < len;) {
        ssize_t put = pwrite(fd, (const char *)data + done, len - done, (off_t)(offset + done));

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return fail_errno(error, put < 0 ? errno : EIO, "cannot write %s at offset %" PRIu64,
                              name, offset + done);
        done += (size_t)put;
    }
    return true;
}

/* One copy that is under way. */
struct copy {
    int in, out;
    const char *from, *to;
};

static bool copy_buffered(const struct copy *copy, off_t start, off_t end, GError **error)
{
    g_autofree char *buffer = g_malloc(COPY_BUFFER);

    while (start < end) {
        size_t step = MIN((size_t)(end - start), COPY_BUFFER);

        if (!interrupt_check(error) ||
            !fd_read_at(copy->in, (uint64_t)start, buffer, step, copy->from, error) ||
            !fd_write_at(copy->out, (uint64_t)start, buffer, step, copy->to, error))
            return false;
        start += (off_t)step;
    }
    return true;
}

static bool copy_extent(const struct copy *copy, off_t start, off_t end, GError **error)
{
    off_t in = start, out = start;

    while (in < end) {
        ssize_t step;

        if (!interrupt_check(error))
            return false;
        step = copy_file_range(copy->in, &in, copy->out, &out, (size_t)MIN(end - in, COPY_STEP), 0);
        if (step > 0 || (step < 0 && errno == EINTR))
            continue;
        if (step < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO))
            return fail_errno(error, errno, "cannot copy %s to %s", copy->from, copy->to);
        /* Not between these two files; reading and writing says whether more is wrong. */
        return copy_buffered(copy, in, end, error);
    }
    return true;
}

/* Holes stay holes. */
static bool copy_content(const struct copy *copy, off_t size, GError **error)
{
    for (off_t at = 0; at < size;) {
        off_t data = lseek(copy->in, at, SEEK_DATA), hole;

        if (data < 0 && errno == ENXIO)
            break;
        if (data < 0)
            data = at;
        hole = lseek(copy->in, data, SEEK_HOLE);
        if (hole < 0 || hole > size)
            hole = size;
        if (!copy_extent(copy, data, hole, error))
            return false;
        at = hole;
    }
    if (ftruncate(copy->out, size) < 0)
        return fail_errno(error, errno, "cannot write %s", copy->to);
    return true;
}

bool file_copy(const char *from, const char *to, mode_t mode, GError **error)
{
    AUTO_FD in = open(from, O_RDONLY | O_CLOEXEC);
    AUTO_TEMP_FILE temp = {.fd = -1};
    struct stat st, old;
    struct copy copy;

    if (in < 0 || fstat(in, &st) < 0)
        return fail_errno(error, errno, "cannot open %s", from);
    if (!S_ISREG(st.st_mode))
        return fail(error, ERROR_IO, "cannot copy %s: it is not a regular file", from);
    if (lstat(to, &old) == 0)
        return fail(error, ERROR_CONFLICT, "cannot create %s: it exists", to);
    if (!temp_file_open(&temp, to, error))
        return false;
    copy = (struct copy){.in = in, .out = temp.fd, .from = from, .to = to};
    if (ioctl(temp.fd, FICLONE, in) < 0 && !copy_content(&copy, st.st_size, error))
        return false;
    return temp_file_commit(&temp, to, mode, false, error);
}

static bool path_sync(const char *path, int flags, GError **error)
{
    AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | flags);

    if (fd < 0 || fsync(fd) < 0)
        return fail_errno(error, errno, "cannot sync %s", path);
    return true;
}

bool file_sync(const char *path, GError **error)
{
    return path_sync(path, 0, error);
}

bool dir_sync(const char *path, GError **error)
{
    return path_sync(path, O_DIRECTORY, error);
}

bool dir_make(const char *path, mode_t mode, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(path);
    int saved_errno;

    if (g_file_test(path, G_FILE_TEST_IS_DIR))
        return true;
    if (strcmp(parent, path) != 0 && !dir_make(parent, mode, error))
        return false;
    if (mkdir(path, mode) == 0)
        return dir_sync(parent, error);
    saved_errno = errno;
    /* Somebody else may have made it meanwhile, or PATH ends with a slash. */
    if (saved_errno == EEXIST && g_file_test(path, G_FILE_TEST_IS_DIR))
        return true;
    return fail_errno(error, saved_errno, "cannot create directory %s", path);
}

bool path_rename(const char *from, const char *to, GError **error)
{
    g_autofree char *from_dir = g_path_get_dirname(from);
    g_autofree char *to_dir = g_path_get_dirname(to);

    if (rename_path(from, to, false) < 0) {
        if (errno == EEXIST || errno == ENOTEMPTY)
            return fail(error, ERROR_CONFLICT, "cannot rename %s to %s: the latter exists", from,
                        to);
        return fail_errno(error, errno, "cannot rename %s to %s", from, to);
    }
    return dir_sync(to_dir, error) && (strcmp(from_dir, to_dir) == 0 || dir_sync(from_dir, error));
}

static bool parents_sync(const char *a, const char *b, GError **error)
{
    return parent_sync(a, error) && parent_sync(b, error);
}

bool path_exchange(const char *a, const char *b, GError **error)
{
    if (renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) < 0) {
        if (errno == EINVAL || errno == ENOSYS)
            return fail(error, ERROR_FAILED,
                        "the file system of %s cannot let two directories change places "
                        "(RENAME_EXCHANGE); local file systems such as ext4, xfs and btrfs can",
                        a);
        return fail_errno(error, errno, "cannot let %s and %s change places", a, b);
    }
    if (parents_sync(a, b, error))
        return true;
    if (renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0)
        parents_sync(a, b, NULL);
    return false;
}

/* All names but "." and ".."; takes FD. */
static GPtrArray *names_read(int fd, const char *path, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    DIR *dir = fdopendir(fd);
    int saved_errno;

    if (!dir) {
        fail_errno(error, errno, "cannot list %s", path);
        close(fd);
        return NULL;
    }
    errno = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL; errno = 0)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            g_ptr_array_add(names, g_strdup(entry->d_name));
    saved_errno = errno;
    closedir(dir);
    if (saved_errno) {
        fail_errno(error, saved_errno, "cannot list %s", path);
        return NULL;
    }
    return g_steal_pointer(&names);
}

static bool remove_at(int parent, const char *name, const char *path, GError **error);

static bool remove_directory(int parent, const char *name, const char *path, GError **error)
{
    AUTO_FD fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    g_autoptr(GPtrArray) names = NULL;

    if (fd < 0)
        return fail_errno(error, errno, "cannot remove %s", path);
    names = names_read(fcntl(fd, F_DUPFD_CLOEXEC, 0), path, error);
    if (!names)
        return false;
    for (unsigned i = 0; i < names->len; i++) {
        g_autofree char *inner = g_build_filename(path, names->pdata[i], NULL);

        if (!remove_at(fd, names->pdata[i], inner, error))
            return false;
    }
    if (unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return fail_errno(error, errno, "cannot remove %s", path);
    return true;
}

/* Works from directory descriptors, so that nobody can put a link in our way. */
static bool remove_at(int parent, const char *name, const char *path, GError **error)
{
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return true;
    if (errno == EISDIR)
        return remove_directory(parent, name, path, error);
    return fail_errno(error, errno, "cannot remove %s", path);
}

bool tree_remove(const char *path, GError **error)
{
    struct stat st;

    if (lstat(path, &st) < 0 && (errno == ENOENT || errno == ENOTDIR))
        return true;
    return remove_at(AT_FDCWD, path, path, error) && parent_sync(path, error);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

char **dir_list(const char *path, GError **error)
{
    g_autoptr(GPtrArray) names = NULL;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 && errno == ENOENT)
        return g_new0(char *, 1);
    if (fd < 0) {
        fail_errno(error, errno, "cannot list %s", path);
        return NULL;
    }
    names = names_read(fd, path, error);
    if (!names)
        return NULL;
    for (unsigned i = names->len; i-- > 0;)
        if (g_str_has_prefix(names->pdata[i], TEMP_PREFIX))
            g_ptr_array_remove_index_fast(names, i);
    g_ptr_array_sort(names, compare_names);
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_steal(names, NULL);
}

bool disk_space(const char *path, uint64_t *free_bytes, uint64_t *total_bytes, GError **error)
{
    g_autofree char *at = g_strdup(path);
    struct statvfs fs;

    while (statvfs(at, &fs) < 0) {
        int saved_errno = errno;
        g_autofree char *parent = g_path_get_dirname(at);

        if (saved_errno != ENOENT || strcmp(parent, at) == 0)
            return fail_errno(error, saved_errno, "cannot ask for the free space at %s", path);
        g_free(at);
        at = g_steal_pointer(&parent);
    }
    *free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    *total_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
    return true;
}

bool name_is_safe(const char *name)
{
    size_t len = strlen(name);

    if (len < 1 || len > 255 || name[0] == '.' || name[0] == '-')
        return false;
    for (size_t i = 0; i < len; i++)
        if (!g_ascii_isalnum(name[i]) && !strchr("._-", name[i]))
            return false;
    return true;
}

bool uuid_is_valid(const char *uuid)
{
    if (strlen(uuid) != 36)
        return false;
    for (size_t i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (dash ? uuid[i] != '-' : !strchr("0123456789abcdef", uuid[i]))
            return false;
    }
    return true;
}

/* --- Bytes ---------------------------------------------------------------------------------- */

/* If the first 16 bytes are zero, and each byte is the same as the one 16 before, all are zero; so
 * the library's vectorized memcmp() does the work. */
bool bytes_are_zero(const void *data, size_t len)
{
    static const uint8_t zeros[16];
    const uint8_t *bytes = data;

    if (len <= sizeof zeros)
        return memcmp(bytes, zeros, len) == 0;
    return memcmp(bytes, zeros, sizeof zeros) == 0 &&
           memcmp(bytes, bytes + sizeof zeros, len - sizeof zeros) == 0;
}
