/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/disk-sink.h"

static bool write_image(void *context, uint64_t offset, const void *data, size_t len,
                        GError **error)
{
    struct disk_sink *sink = context;

    return incoming_write(sink->incoming, sink->image, offset, data, len, error);
}

static bool write_digests(void *context, uint64_t offset, const void *data, size_t len,
                          GError **error)
{
    struct disk_sink *sink = context;

    return incoming_write(sink->incoming, sink->digests, offset, data, len, error);
}

static bool borrow(void *context, uint64_t offset, size_t len, const struct partial_place *from,
                   GError **error)
{
    struct disk_sink *sink = context;

    return incoming_reuse(sink->incoming, sink->image, offset, len, from, error);
}

bool disk_sink_open(struct disk_sink *sink, struct incoming *incoming, struct manifest_disk *entry,
                    GError **error)
{
    *sink = (struct disk_sink){.incoming = incoming, .entry = entry};
    return incoming_open(incoming, entry->file, &sink->image, error) &&
           incoming_open(incoming, entry->digests, &sink->digests, error);
}

struct composer *disk_sink_composer(struct disk_sink *sink, GError **error)
{
    const struct manifest_disk *entry = sink->entry;
    struct composer_output output = {
        .image = write_image, .digests = write_digests, .context = sink, .borrow = borrow};
    g_autofree char *backing = manifest_backing_name(entry);

    return composer_new(output, entry->virtual_bytes, backing, error);
}

bool disk_sink_finish(struct disk_sink *sink, struct composer *composer, struct manifest *manifest,
                      GError **error)
{
    struct composer_totals totals;

    if (!composer_finish(composer, &totals, error))
        return false;
    sink->entry->changed_bytes = totals.changed_bytes;
    sink->entry->stored_bytes = totals.image_bytes;
    manifest_add_file(manifest, sink->entry->file, totals.image_bytes);
    manifest_add_file(manifest, sink->entry->digests, totals.digests_bytes);
    return true;
}
