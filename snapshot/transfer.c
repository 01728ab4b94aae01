/* SPDX-License-Identifier: Apache-2.0 */
/* The disks of a capture on their way to its destination. */
#include "snapshot/capture.h"
#include "snapshot/disk-sink.h"
#include "snapshot/mover.h"
#include "snapshot/sketch.h"

static struct reader *open_reader(const struct capture *capture, const struct disk_reference *disk,
                                  GError **error)
{
    bool increment = disk->mode == DISK_INCREMENT;
    g_autofree char *socket = NULL;

    if (!capture->off)
        return reader_open(capture->job->socket, disk->target, increment ? JOB_BITMAP : NULL,
                           error);
    socket = offline_serve(capture->offline, capture->reference, disk->target, error);
    return socket ? reader_open(socket, disk->target,
                                increment ? capture->reference->checkpoint : NULL, error)
                  : NULL;
}

/* The destination has nothing of this disk to go on from, but may have one that it is like. */
static bool find_similar(struct capture *capture, struct disk_reference *disk, GError **error)
{
    g_autofree struct sketch *sketch = g_new(struct sketch, 1);
    AUTO(similar_image) image = NULL;
    AUTO(reader) reader = open_reader(capture, disk, error);

    return reader && sketch_read(reader, sketch, error) &&
           store_similar(capture->request->destination, sketch, capture->manifest->point, &image,
                         error) &&
           (!image || reference_take_similar(capture->reference, disk, image, error));
}

static struct manifest_disk *describe_disk(struct capture *capture,
                                           const struct disk_reference *disk)
{
    struct manifest_disk *entry = manifest_add_disk(capture->manifest, disk->target);
    const struct history_layer *base =
        disk->chain ? &g_array_index(disk->chain, struct history_layer, 0) : NULL;

    if (!base)
        return entry;
    entry->base = g_strdup(base->point);
    if (!g_str_equal(base->vm, capture->manifest->uuid))
        entry->base_vm = g_strdup(base->vm);
    if (!g_str_equal(base->disk->target, disk->target))
        entry->base_target = g_strdup(base->disk->target);
    return entry;
}

static bool watch(void *context, GError **error)
{
    const struct capture *capture = context;

    return capture->off ? offline_watch(capture->offline, error) : job_watch(capture->job, error);
}

static bool move_disk(struct capture *capture, struct disk_reference *disk, struct disk_sink *sink,
                      GError **error)
{
    g_autofree char *subject = g_strdup_printf("%s/%s", capture_vm(capture), disk->target);
    AUTO(reader) reader = open_reader(capture, disk, error);
    AUTO(baseline) baseline = NULL;

    if (!reader || !reference_baseline(capture->reference, disk, &baseline, error))
        return false;
    sink->entry->virtual_bytes = reader_size(reader);
    AUTO(composer) composer = disk_sink_composer(sink, error);
    struct move move = {
        .reader = reader,
        .composer = composer,
        .baseline = baseline,
        .lost = disk->lost,
        .arrived = disk->arrived,
        .compression = capture->request->compression,
        .subject = subject,
        .progress = capture->request->progress,
        .watch = watch,
        .watch_context = capture,
    };

    return composer && mover_run(&move, &disk->read_bytes, error) &&
           disk_sink_finish(sink, composer, capture->manifest, error);
}

/* An image that sets nothing. */
static bool repeat_disk(struct capture *capture, const struct disk_reference *disk,
                        struct disk_sink *sink, GError **error)
{
    sink->entry->virtual_bytes =
        g_array_index(disk->chain, struct history_layer, 0).disk->virtual_bytes;
    AUTO(composer) composer = disk_sink_composer(sink, error);

    return composer && disk_sink_finish(sink, composer, capture->manifest, error);
}

static void note_cost(const struct capture *capture, const struct disk_reference *disk)
{
    g_autofree char *cost = disk_reference_cost(disk);

    if (cost)
        progress_note(capture->request->progress, "%s/%s: %s", capture_vm(capture), disk->target,
                      cost);
}

static bool transfer_disk(struct capture *capture, struct disk_reference *disk, GError **error)
{
    struct manifest_disk *entry = describe_disk(capture, disk);
    struct disk_sink sink;

    if (!disk_sink_open(&sink, capture->incoming, entry, error) ||
        !(disk->unchanged ? repeat_disk(capture, disk, &sink, error)
                          : move_disk(capture, disk, &sink, error)))
        return false;
    disk->done = true;
    disk->changed_bytes = entry->changed_bytes;
    note_cost(capture, disk);
    return true;
}

static bool fetch_arrived(struct capture *capture, GError **error)
{
    if (!reference_fetch_arrived(capture->reference, capture->incoming, error))
        return false;
    for (unsigned i = 0; i < capture->reference->disks->len; i++) {
        const struct disk_reference *disk = capture->reference->disks->pdata[i];
        g_autofree char *bytes = disk->arrived ? bytes_format(arrived_bytes(disk->arrived)) : NULL;

        if (bytes)
            progress_note(capture->request->progress,
                          "%s/%s: %s are there from an interrupted transfer, and are not sent "
                          "again where they are still the same",
                          capture_vm(capture), disk->target, bytes);
    }
    return true;
}

bool capture_take_place(struct capture *capture, GError **error)
{
    const struct point_request *request = capture->request;
    struct taker taker = {request->site, request->epoch};
    /* What diverged is of the site that does not own the VM any more. */
    bool diverged = g_strcmp0(request->label, MANIFEST_DIVERGED) == 0;

    capture->incoming = store_begin_by(request->destination, domain_uuid(request->domain),
                                       capture->manifest->point, diverged ? NULL : &taker, error);
    return capture->incoming != NULL;
}

/* Only now: a store takes one point at a time, and a round has several. */
static bool take_place(struct capture *capture, GError **error)
{
    return capture_take_place(capture, error) && fetch_arrived(capture, error);
}

static bool take_disk(struct capture *capture, struct disk_reference *disk, GError **error)
{
    bool wants_base = disk->mode == DISK_FULL && !capture->request->force_full;

    if ((!wants_base || find_similar(capture, disk, error)) && transfer_disk(capture, disk, error))
        return true;
    g_prefix_error(error, "disk %s: ", disk->target);
    return false;
}

/* Nothing is left of an attempt before. */
static void forget_disks(struct manifest *manifest)
{
    g_ptr_array_set_size(manifest->disks, 0);
    g_ptr_array_set_size(manifest->files, 0);
}

static bool take_disks(struct capture *capture, GError **error)
{
    const GPtrArray *disks = capture->reference->disks;

    forget_disks(capture->manifest);
    /* The second time of bases whose bitmaps turned out to be broken when the job began. */
    if (!take_place(capture, error) || !reference_fetch(capture->reference, error))
        return false;
    for (unsigned i = 0; i < disks->len; i++) {
        if (!take_disk(capture, disks->pdata[i], error)) {
            if (!capture->off)
                job_explain(capture->job, error);
            return false;
        }
    }
    return true;
}

bool capture_transfer(struct capture *capture, GError **error)
{
    GError *why = NULL;

    while (!take_disks(capture, &why)) {
        if (!capture_reconnect(capture, why, error))
            return false;
        why = NULL;
    }
    /* Before the commit: QEMU's copy-before-write ends as early as it can. */
    return capture->off ? offline_end(capture->offline, error) : job_end(capture->job, error);
}
