/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata/host-files.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODE_BITS 0777u
/* libvirt keeps values of secrets there, encoded but not encrypted. */
#define SECRETS_DIR "libvirt/secrets"
#define SECRET_SUFFIX ".base64"

void host_file_free(struct host_file *file)
{
    if (!file)
        return;
    g_free(file->path);
    g_free(file->user);
    g_free(file->group);
    g_free(file->data);
    g_free(file->left_out);
    g_free(file);
}

bool host_path_is_valid(const char *path)
{
    g_autofree char *canonical =
        g_path_is_absolute(path) ? g_canonicalize_filename(path, NULL) : NULL;

    if (!canonical || strcmp(canonical, path) != 0 || !path[1] || path[1] == '/' ||
        strlen(path) > 900 || !g_utf8_validate(path, -1, NULL))
        return false;
    for (const char *at = path; *at; at++)
        if (g_ascii_iscntrl(*at))
            return false;
    return true;
}

bool host_path_is_chosen(const char *path, char *const *paths)
{
    for (; paths && *paths; paths++) {
        size_t len = strlen(*paths);

        if (strncmp(path, *paths, len) == 0 && (path[len] == '\0' || path[len] == '/'))
            return true;
    }
    return false;
}

/* ---- Reading */

struct reading {
    GPtrArray *files;
    char *const *leave_out;
    size_t bytes;
};

static char *user_name(uid_t uid)
{
    const struct passwd *user = getpwuid(uid);

    return user ? g_strdup(user->pw_name) : NULL;
}

static char *group_name(gid_t gid)
{
    const struct group *group = getgrgid(gid);

    return group ? g_strdup(group->gr_name) : NULL;
}

static struct host_file *add(struct reading *reading, const char *path, const struct stat *st)
{
    struct host_file *file = g_new0(struct host_file, 1);

    file->path = g_strdup(path);
    g_ptr_array_add(reading->files, file);
    if (!st)
        return file;
    file->is_directory = S_ISDIR(st->st_mode);
    file->mode = st->st_mode & MODE_BITS;
    file->uid = st->st_uid;
    file->gid = st->st_gid;
    file->user = user_name(st->st_uid);
    file->group = group_name(st->st_gid);
    return file;
}

static void leave_out(struct reading *reading, const char *path, const char *why)
{
    add(reading, path, NULL)->left_out = g_strdup(why);
}

static bool is_secret_value(const char *path)
{
    g_autofree char *dir = g_path_get_dirname(path);

    return g_str_has_suffix(dir, "/" SECRETS_DIR) && g_str_has_suffix(path, SECRET_SUFFIX);
}

/* Whatever it is called there. */
static bool is_left_out(const struct reading *reading, const char *path, const struct stat *st)
{
    struct stat other;

    for (char *const *out = reading->leave_out; out && *out; out++)
        if (strcmp(*out, path) == 0 ||
            (stat(*out, &other) == 0 && other.st_dev == st->st_dev && other.st_ino == st->st_ino))
            return true;
    return false;
}

/* Why PATH is not read, or NULL. */
static const char *refusal(const struct reading *reading, const char *path, const struct stat *st)
{
    if (reading->files->len >= HOST_FILES_MAX)
        return "there are more than 2000: what follows is left out, too";
    if (is_left_out(reading, path, st))
        return "a private key or password of this site";
    if (is_secret_value(path))
        return "the value of a secret";
    if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode))
        return S_ISLNK(st->st_mode) ? "a symbolic link" : "neither a file nor a directory";
    if (S_ISREG(st->st_mode) && (size_t)st->st_size > HOST_FILE_MAX_BYTES)
        return "larger than 1 MiB";
    if (S_ISREG(st->st_mode) && reading->bytes + (size_t)st->st_size > HOST_FILES_MAX_BYTES)
        return "all together are larger than 16 MiB";
    return NULL;
}

/* Grows and shrinks of the file meanwhile do not matter: what is read is what there was. */
static bool read_all(int fd, char **data, size_t *len)
{
    g_autofree char *buffer = g_malloc(HOST_FILE_MAX_BYTES + 1);
    size_t done = 0;
    ssize_t got;

    do {
        got = read(fd, buffer + done, HOST_FILE_MAX_BYTES - done);
        done += got > 0 ? (size_t)got : 0;
    } while ((got > 0 && done < HOST_FILE_MAX_BYTES) || (got < 0 && errno == EINTR));
    if (got < 0)
        return false;
    buffer[done] = '\0';
    *data = g_memdup2(buffer, done + 1);
    *len = done;
    return true;
}

static void read_at(struct reading *reading, int dir, const char *name, const char *path);

/* By descriptors: a name that becomes a link meanwhile leads nowhere. FILE is the directory. Of those that are too many only the
 * first one is named. */
static void read_dir(struct reading *reading, int parent, const char *own_name,
                     struct host_file *file)
{
    AUTO_FD fd = openat(parent, own_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    g_autofree char *problem = fd < 0 ? g_strdup(g_strerror(errno)) : NULL;
    g_autofree char *opened = g_strdup_printf("/proc/self/fd/%d", fd);
    g_autoptr(GError) why = NULL;
    g_auto(GStrv) names = problem ? NULL : dir_list(opened, &why);

    if (!names) {
        file->left_out = g_strdup(problem ? problem : why->message);
        return;
    }
    for (char **name = names; *name && reading->files->len <= HOST_FILES_MAX; name++) {
        g_autofree char *below = g_build_filename(file->path, *name, NULL);

        if (host_path_is_valid(below))
            read_at(reading, fd, *name, below);
    }
}

static void read_file(struct reading *reading, int dir, const char *name, const char *path)
{
    AUTO_FD fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct host_file *file;
    struct stat st;
    char *data;
    size_t len;

    errno = fd < 0 ? errno : 0;
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !read_all(fd, &data, &len)) {
        leave_out(reading, path, errno ? g_strerror(errno) : "it has changed meanwhile");
        return;
    }
    file = add(reading, path, &st);
    file->data = data;
    file->len = len;
    reading->bytes += len;
}

static void read_at(struct reading *reading, int dir, const char *name, const char *path)
{
    const char *why;
    struct stat st;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        if (errno != ENOENT)
            leave_out(reading, path, g_strerror(errno));
        return;
    }
    why = refusal(reading, path, &st);
    if (why) {
        leave_out(reading, path, why);
    } else if (S_ISDIR(st.st_mode)) {
        read_dir(reading, dir, name, add(reading, path, &st));
    } else {
        read_file(reading, dir, name, path);
    }
}

static int compare_paths(const void *a, const void *b)
{
    const struct host_file *left = *(void *const *)a, *right = *(void *const *)b;

    return strcmp(left->path, right->path);
}

GPtrArray *host_files_read(char *const *paths, char *const *leave_out_paths)
{
    struct reading reading = {.files =
                                  g_ptr_array_new_with_free_func((GDestroyNotify)host_file_free),
                              .leave_out = leave_out_paths};

    for (; paths && *paths; paths++)
        read_at(&reading, AT_FDCWD, *paths, *paths);
    g_ptr_array_sort(reading.files, compare_paths);
    /* One that is chosen twice is there once. */
    for (unsigned i = reading.files->len; i-- > 1;)
        if (compare_paths(&reading.files->pdata[i - 1], &reading.files->pdata[i]) == 0)
            g_ptr_array_remove_index(reading.files, i);
    return reading.files;
}

/* ---- Writing */

static void find_owner(const struct host_file *file, uid_t *uid, gid_t *gid)
{
    const struct passwd *user = file->user ? getpwnam(file->user) : NULL;
    const struct group *group = file->group ? getgrnam(file->group) : NULL;

    *uid = user ? user->pw_uid : file->uid;
    *gid = group ? group->gr_gid : file->gid;
}

static bool has_attributes(const struct host_file *file, const struct stat *st)
{
    uid_t uid;
    gid_t gid;

    find_owner(file, &uid, &gid);
    return (st->st_mode & MODE_BITS) == file->mode &&
           (geteuid() != 0 || (st->st_uid == uid && st->st_gid == gid));
}

static bool has_content(const struct host_file *file)
{
    g_autofree char *data = NULL;
    size_t len;

    return file_read(file->path, HOST_FILE_MAX_BYTES, &data, &len, NULL) && len == file->len &&
           memcmp(data, file->data, len) == 0;
}

enum host_file_state host_file_state(const struct host_file *file)
{
    struct stat st;

    if (lstat(file->path, &st) < 0)
        return errno == ENOENT || errno == ENOTDIR ? HOST_FILE_MISSING : HOST_FILE_DIFFERS;
    if (!(file->is_directory ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode)) ||
        !has_attributes(file, &st) || (!file->is_directory && !has_content(file)))
        return HOST_FILE_DIFFERS;
    return HOST_FILE_SAME;
}

/* The directory that is to hold it must be where its path says; before it is made, the one above it. */
static bool check_parent(const char *path, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(path);
    g_autofree char *real = realpath(parent, NULL);

    if (!real && errno == ENOENT && !g_file_test(parent, G_FILE_TEST_IS_SYMLINK))
        return check_parent(parent, error);
    if (!real)
        return fail_errno(error, errno, "cannot look at %s", parent);
    return strcmp(real, parent) == 0 ||
           fail(error, ERROR_CONFLICT,
                "%s leads to %s by a link: write to another directory by --to-dir", parent, real);
}

static bool set_attributes(const struct host_file *file, GError **error)
{
    AUTO_FD fd = open(file->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    uid_t uid;
    gid_t gid;

    find_owner(file, &uid, &gid);
    if (fd < 0 || (geteuid() == 0 && fchown(fd, uid, gid) < 0) || fchmod(fd, file->mode) < 0)
        return fail_errno(error, errno, "cannot set mode and owner of %s", file->path);
    return true;
}

bool host_file_write(const struct host_file *file, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(file->path);
    struct stat st;
    uid_t uid;
    gid_t gid;

    if (!check_parent(file->path, error) || !dir_make(parent, 0755, error))
        return false;
    if (lstat(file->path, &st) == 0 &&
        !(file->is_directory ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode)))
        return fail(error, ERROR_CONFLICT, "%s is not a %s: move it away first", file->path,
                    file->is_directory ? "directory" : "file");
    if (file->is_directory)
        return dir_make(file->path, file->mode, error) && set_attributes(file, error);
    if (geteuid() != 0)
        return file_write(file->path, file->data, file->len, file->mode, error);
    find_owner(file, &uid, &gid);
    return file_write_owned(file->path, file->data, file->len, file->mode, uid, gid, error);
}
