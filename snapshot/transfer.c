/* SPDX-License-Identifier: Apache-2.0 */
/* The disks of a capture on their way to its destination. */
#include "snapshot/capture.h"
#include "snapshot/mover.h"

/* The two files of one disk on their way to the destination. */
struct disk_files {
    struct incoming *incoming;
    unsigned image, digests;
};

static bool write_image(void *context, uint64_t offset, const void *data, size_t len,
                        GError **error)
{
    struct disk_files *files = context;

    return incoming_write(files->incoming, files->image, offset, data, len, error);
}

static bool write_digests(void *context, uint64_t offset, const void *data, size_t len,
                          GError **error)
{
    struct disk_files *files = context;

    return incoming_write(files->incoming, files->digests, offset, data, len, error);
}

static struct manifest_disk *describe_disk(struct capture *capture, const struct vm_disk *disk)
{
    struct manifest_disk *entry = manifest_add_disk(capture->manifest, disk->target);

    if (reference_covers(capture->reference, disk))
        entry->base = g_strdup(capture->reference->base->point);
    return entry;
}

static bool open_files(struct capture *capture, const struct manifest_disk *entry,
                       struct disk_files *files, GError **error)
{
    files->incoming = capture->incoming;
    return incoming_open(capture->incoming, entry->file, &files->image, error) &&
           incoming_open(capture->incoming, entry->digests, &files->digests, error);
}

static bool watch_job(void *context, GError **error)
{
    return job_watch(context, error);
}

static bool move_disk(struct capture *capture, const struct vm_disk *disk,
                      struct manifest_disk *entry, struct disk_files *files,
                      struct composer_totals *totals, GError **error)
{
    g_autofree char *subject = g_strdup_printf("%s/%s", capture_vm(capture), disk->target);
    g_autofree char *backing =
        entry->base ? g_strdup_printf("../%s/%s", entry->base, entry->file) : NULL;
    struct composer_output output = {write_image, write_digests, files};
    AUTO(reader)
    reader =
        reader_open(capture->job->socket, disk->target, entry->base ? JOB_BITMAP : NULL, error);

    if (!reader)
        return false;
    entry->virtual_bytes = reader_size(reader);
    AUTO(composer) composer = composer_new(output, entry->virtual_bytes, backing, error);
    struct move move = {
        .reader = reader,
        .composer = composer,
        .compression = capture->request->compression,
        .subject = subject,
        .progress = capture->request->progress,
        .watch = watch_job,
        .watch_context = capture->job,
    };

    return composer && mover_run(&move, error) && composer_finish(composer, totals, error);
}

static bool take_disk(struct capture *capture, const struct vm_disk *disk, GError **error)
{
    struct manifest_disk *entry = describe_disk(capture, disk);
    struct disk_files files;
    struct composer_totals totals;

    if (!open_files(capture, entry, &files, error) ||
        !move_disk(capture, disk, entry, &files, &totals, error)) {
        g_prefix_error(error, "disk %s: ", disk->target);
        return false;
    }
    entry->changed_bytes = totals.changed_bytes;
    entry->stored_bytes = totals.image_bytes;
    manifest_add_file(capture->manifest, entry->file, totals.image_bytes);
    manifest_add_file(capture->manifest, entry->digests, totals.digests_bytes);
    return true;
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
