/* SPDX-License-Identifier: Apache-2.0 */
/* Images that nobody is to write to, by qemu-nbd; and what is read of them becoming a disk of a point. */
#include "snapshot/disk-sink.h"
#include "snapshot/mover.h"

#define READY_MS 20000
#define POLL_US 10000

/* It writes its pid when it has opened the image and listens. */
static bool wait_until_ready(struct child *child, const char *pid_file, GError **error)
{
    int64_t deadline_ms = time_monotonic_ms() + READY_MS;

    while (!g_file_test(pid_file, G_FILE_TEST_EXISTS)) {
        if (!interrupt_check(error) || !child_runs(child, error))
            return false;
        if (time_monotonic_ms() >= deadline_ms)
            return fail(error, ERROR_HYPERVISOR, "qemu-nbd was not ready after %d s",
                        READY_MS / 1000);
        g_usleep(POLL_US);
    }
    return true;
}

struct child *snapshot_serve(const char *image, const char *export, const char *socket,
                             const char *bitmap, GError **error)
{
    g_autofree char *pid_file = g_strconcat(socket, ".pid", NULL);
    const char *argv[] = {"qemu-nbd", "--read-only", "--persistent", "--shared=16", "-x",
                          export,     "-k",          socket,         "--pid-file",  pid_file,
                          image,      NULL,          NULL,           NULL};

    if (bitmap) {
        argv[11] = "-B";
        argv[12] = bitmap;
    }
    /* Of a process that was killed. */
    unlink(pid_file);
    unlink(socket);
    AUTO(child) child = child_start(argv, error);

    return child && wait_until_ready(child, pid_file, error) ? g_steal_pointer(&child) : NULL;
}

static bool move(const struct image_job *job, struct reader *reader, struct composer *composer,
                 GError **error)
{
    g_autofree char *subject = g_strdup_printf("%s/%s", job->manifest->vm, job->disk->target);
    struct move move = {
        .reader = reader,
        .composer = composer,
        .compression = job->compression,
        .subject = subject,
        .progress = job->progress,
    };
    uint64_t read_bytes;

    return mover_run(&move, &read_bytes, error);
}

bool snapshot_take_image(const struct image_job *job, GError **error)
{
    g_autofree char *socket = g_build_filename(job->socket_dir, job->disk->target, NULL);
    AUTO(child) child = snapshot_serve(job->image, job->disk->target, socket, NULL, error);
    AUTO(reader) reader = child ? reader_open(socket, job->disk->target, NULL, error) : NULL;
    struct disk_sink sink;

    if (!reader || !disk_sink_open(&sink, job->into, job->disk, error))
        return false;
    job->disk->virtual_bytes = reader_size(reader);
    AUTO(composer) composer = disk_sink_composer(&sink, error);

    return composer && move(job, reader, composer, error) &&
           disk_sink_finish(&sink, composer, job->manifest, error);
}
