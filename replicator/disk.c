/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

#include "replicator/disk.h"

/* Writeback starts while data arrives, and never lags more than a little behind: then the fsync of
 * the commit is short, and the page cache is not filled with what nobody will read. */
#define WRITEBACK_STEP ((uint64_t)8 << 20)
#define WRITEBACK_LAG (4 * WRITEBACK_STEP)

void disk_file_close(struct disk_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}

static void set_direct(struct disk_file *file, bool direct)
{
    int flags;

    if (file->no_direct || direct == file->direct)
        return;
    flags = fcntl(file->fd, F_GETFL);
    if (fcntl(file->fd, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0)
        file->direct = direct;
    else
        file->no_direct = true;
}

static bool is_aligned(uint64_t number)
{
    return number % LANE_ALIGN == 0;
}

/* Some file systems accept the flag and refuse the I/O. */
static bool refused_direct(struct disk_file *file)
{
    if (errno != EINVAL || !file->direct)
        return false;
    set_direct(file, false);
    file->no_direct = true;
    return true;
}

static bool sync_range(struct disk_file *file, uint64_t from, uint64_t to, unsigned flags,
                       GError **error)
{
    if (sync_file_range(file->fd, (off_t)from, (off_t)(to - from), flags) == 0)
        return true;
    /* Where it cannot be done, the fsync is only longer. */
    if (errno == ENOSYS || errno == ESPIPE || errno == EINVAL || errno == EOPNOTSUPP)
        return true;
    return fail_errno(error, errno, "cannot write %s", file->name);
}

static bool start_writeback(struct disk_file *file, uint64_t end, GError **error)
{
    uint64_t to = end - end % WRITEBACK_STEP;

    if (to <= file->started)
        return true;
    if (!sync_range(file, file->started, to, SYNC_FILE_RANGE_WRITE, error))
        return false;
    file->started = to;
    if (to < file->finished + WRITEBACK_LAG + WRITEBACK_STEP)
        return true;
    to -= WRITEBACK_LAG;
    if (!sync_range(file, file->finished, to,
                    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                        SYNC_FILE_RANGE_WAIT_AFTER,
                    error))
        return false;
    posix_fadvise(file->fd, (off_t)file->finished, (off_t)(to - file->finished),
                  POSIX_FADV_DONTNEED);
    file->finished = to;
    return true;
}

bool disk_write(struct disk_file *file, const struct piece *piece, GError **error)
{
    size_t done = 0;

    set_direct(file, is_aligned(piece->offset) && is_aligned(piece->len));
    while (done < piece->len) {
        ssize_t put =
            pwrite(file->fd, piece->data + done, piece->len - done, (off_t)(piece->offset + done));

        if (put > 0)
            done += (size_t)put;
        else if (put < 0 && (errno == EINTR || refused_direct(file)))
            continue;
        else
            return fail_errno(error, put < 0 ? errno : EIO, "cannot write %s", file->name);
        if (!is_aligned(done))
            set_direct(file, false);
    }
    return file->direct || start_writeback(file, piece->offset + piece->len, error);
}

bool disk_read(struct disk_file *file, struct piece *piece, GError **error)
{
    size_t want = (piece->len + LANE_ALIGN - 1) / LANE_ALIGN * LANE_ALIGN, done = 0;

    set_direct(file, is_aligned(piece->offset));
    while (done < piece->len) {
        ssize_t got =
            pread(file->fd, piece->data + done, want - done, (off_t)(piece->offset + done));

        if (got > 0)
            done += (size_t)got;
        else if (got < 0 && (errno == EINTR || refused_direct(file)))
            continue;
        else if (got < 0)
            return fail_errno(error, errno, "cannot read %s", file->name);
        else
            return fail(error, ERROR_INTEGRITY, "%s is too short: it ends before offset %" PRIu64,
                        file->name, piece->offset + piece->len);
        if (!is_aligned(done))
            set_direct(file, false);
    }
    return true;
}

void disk_forget(struct disk_file *file)
{
    posix_fadvise(file->fd, 0, 0, POSIX_FADV_DONTNEED);
}
