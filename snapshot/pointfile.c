/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "common/common.h"
#include "snapshot/pointfile.h"

int point_file_open(const char *path, uint64_t *bytes, GError **error)
{
    /* O_NONBLOCK: a FIFO would wait for its writer. */
    AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;

    if (fd < 0 && errno == ENOENT) {
        fail(error, ERROR_INTEGRITY, "%s is missing", path);
        return -1;
    }
    if (fd < 0 && errno != ELOOP) {
        fail_errno(error, errno, "cannot open %s", path);
        return -1;
    }
    if (fd >= 0 && fstat(fd, &st) < 0) {
        fail_errno(error, errno, "cannot look at %s", path);
        return -1;
    }
    if (fd < 0 || !S_ISREG(st.st_mode)) {
        fail(error, ERROR_INTEGRITY, "%s is not a regular file", path);
        return -1;
    }
    *bytes = (uint64_t)st.st_size;
    return fd_steal(&fd);
}
