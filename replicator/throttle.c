/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "replicator/throttle.h"

#define RUN_DIR_MODE 0711 /* QEMU's user passes through it to our sockets */
#define SECOND_NS INT64_C(1000000000)
/* What was not used for so long may be made up for: a short point is not delayed at all. */
#define BURST_NS (SECOND_NS / 10)
#define SLICES_PER_SECOND 20
#define SLICE_MIN ((uint64_t)16 << 10)
#define SLICE_MAX ((uint64_t)1 << 20)
/* No queue is so long: at most a quarter of a second for each process. */
#define QUEUE_MAX_NS (10 * SECOND_NS)
/* A slept second ends early when the limit is lifted, or by Ctrl-C. */
#define NAP_MAX_NS (SECOND_NS / 2)
#define LOCK_TRIES 100
#define LOCK_PAUSE_US 1000

struct throttle {
    const struct limit *limit; /* borrowed */
    char *path;
    int fd;
};

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND_NS + now.tv_nsec;
}

static uint64_t rate_now(const struct throttle *self)
{
    return limit_rate(self->limit, time_now_ms(), NULL);
}

struct throttle *throttle_open(const char *file, const struct limit *limit, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(file);
    AUTO_FD fd = -1;
    struct throttle *self;

    if (!dir_make(dir, RUN_DIR_MODE, error))
        return NULL;
    fd = open(file, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        fail_errno(error, errno, "cannot open %s, which keeps the bandwidth limit", file);
        return NULL;
    }
    self = g_new0(struct throttle, 1);
    self->limit = limit;
    self->path = g_strdup(file);
    self->fd = fd_steal(&fd);
    return self;
}

void throttle_free(struct throttle *self)
{
    if (!self)
        return;
    close(self->fd);
    g_free(self->path);
    g_free(self);
}

size_t throttle_slice(const struct throttle *self)
{
    uint64_t rate = rate_now(self);

    return rate ? (size_t)CLAMP(rate / SLICES_PER_SECOND, SLICE_MIN, SLICE_MAX) : SLICE_MAX;
}

/* --- The instant that is shared --------------------------------------------------------------- */

/* It is held for microseconds, so it is tried and not waited for: a process that was stopped just
 * then must not stop the others. Without the lock a reservation can be lost, no more. */
static void lock(struct throttle *self)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    for (int i = 0; i < LOCK_TRIES && fcntl(self->fd, F_OFD_SETLK, &whole) < 0; i++)
        g_usleep(LOCK_PAUSE_US);
}

static void unlock(struct throttle *self)
{
    struct flock whole = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

    fcntl(self->fd, F_OFD_SETLK, &whole);
}

/* From when on is the line free, as the others know it? */
static int64_t read_free_ns(struct throttle *self, int64_t now)
{
    int64_t free_ns = 0;

    if (pread(self->fd, &free_ns, sizeof(free_ns), 0) != sizeof(free_ns) || free_ns < 0 ||
        free_ns > now + QUEUE_MAX_NS)
        return now;
    return MAX(free_ns, now - BURST_NS);
}

/* Take the next COST_NS of the line. *TURN_NS is when they begin. */
static bool reserve(struct throttle *self, int64_t cost_ns, int64_t *turn_ns, GError **error)
{
    int64_t begin, end;
    ssize_t put;

    lock(self);
    begin = read_free_ns(self, now_ns());
    end = begin + cost_ns;
    put = pwrite(self->fd, &end, sizeof(end), 0);
    unlock(self);
    if (put != sizeof(end))
        return fail_errno(error, put < 0 ? errno : ENOSPC,
                          "cannot write %s, which keeps the bandwidth limit", self->path);
    *turn_ns = begin;
    return true;
}

/* Until TURN_NS, or until the limit is lifted. */
static bool wait_for(struct throttle *self, int64_t turn_ns, GError **error)
{
    for (;;) {
        int64_t left = turn_ns - now_ns();
        struct timespec nap = {.tv_nsec = CLAMP(left, 0, NAP_MAX_NS)};

        if (!interrupt_check(error))
            return false;
        if (left <= 0 || !rate_now(self))
            return true;
        /* A signal ends it early. */
        nanosleep(&nap, NULL);
    }
}

bool throttle_wait(struct throttle *self, size_t bytes, GError **error)
{
    uint64_t rate = rate_now(self);
    int64_t turn_ns = 0;

    if (!rate)
        return true;
    return reserve(self, (int64_t)(bytes * (uint64_t)SECOND_NS / rate), &turn_ns, error) &&
           wait_for(self, turn_ns, error);
}
