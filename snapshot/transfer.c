/* SPDX-License-Identifier: Apache-2.0 */
/* The disks of a capture on their way to its destination. */
#include "snapshot/capture.h"
#include "snapshot/disk-sink.h"
#include "snapshot/mover.h"

static struct manifest_disk *describe_disk(struct capture *capture, const struct vm_disk *disk)
{
    struct manifest_disk *entry = manifest_add_disk(capture->manifest, disk->target);

    if (reference_covers(capture->reference, disk))
        entry->base = g_strdup(capture->reference->base->point);
    return entry;
}

static bool watch_job(void *context, GError **error)
{
    return job_watch(context, error);
}

static bool move_disk(struct capture *capture, const struct vm_disk *disk, struct disk_sink *sink,
                      GError **error)
{
    g_autofree char *subject = g_strdup_printf("%s/%s", capture_vm(capture), disk->target);
    AUTO(reader)
    reader = reader_open(capture->job->socket, disk->target, sink->entry->base ? JOB_BITMAP : NULL,
                         error);

    if (!reader)
        return false;
    sink->entry->virtual_bytes = reader_size(reader);
    AUTO(composer) composer = disk_sink_composer(sink, error);
    struct move move = {
        .reader = reader,
        .composer = composer,
        .compression = capture->request->compression,
        .subject = subject,
        .progress = capture->request->progress,
        .watch = watch_job,
        .watch_context = capture->job,
    };

    return composer && mover_run(&move, error) &&
           disk_sink_finish(sink, composer, capture->manifest, error);
}

static bool take_disk(struct capture *capture, const struct vm_disk *disk, GError **error)
{
    struct manifest_disk *entry = describe_disk(capture, disk);
    struct disk_sink sink;

    if (disk_sink_open(&sink, capture->incoming, entry, error) &&
        move_disk(capture, disk, &sink, error))
        return true;
    g_prefix_error(error, "disk %s: ", disk->target);
    return false;
}

bool capture_transfer(struct capture *capture, GError **error)
{
    for (unsigned i = 0; i < capture->disks->len; i++) {
        const struct vm_disk *disk = capture->disks->pdata[i];

        if (!disk->skipped && !take_disk(capture, disk, error)) {
            job_explain(capture->job, error);
            return false;
        }
    }
    /* Before the commit: QEMU's copy-before-write ends as early as it can. */
    return job_end(capture->job, error);
}
