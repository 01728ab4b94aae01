/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "snapshot/digests.h"
#include "snapshot/image.h"
#include "snapshot/salvage.h"
#include "snapshot/snapshot.h"

/* What is read and unpacked at once: neighbours in the file. */
#define BATCH_BYTES (1u << 20)
#define BATCH_CLUSTERS 512
#define WORKERS 2
#define BATCHES_IN_FLIGHT (2 * WORKERS)

/* A disk of a point: its image and its digests, read side by side. */
struct disk {
    char *image_path;
    char *digests_path;
    struct image *image;
    struct digest_reader *digests;
    uint64_t clusters; /* passed so far */
};

struct item {
    struct image_cluster cluster;
    uint8_t digest[DIGEST_SIZE];
};

static void disk_clear(struct disk *disk)
{
    image_free(disk->image);
    digest_reader_free(disk->digests);
    g_free(disk->image_path);
    g_free(disk->digests_path);
}
#define AUTO_DISK __attribute__((cleanup(disk_clear))) struct disk

/* Exactly this name: QEMU would open whatever stands there, a device or "json:..." as well. */
static bool check_backing(const struct disk *disk, const struct manifest_disk *entry,
                          GError **error)
{
    const char *found = image_backing_name(disk->image);
    g_autofree char *expected = manifest_backing_name(entry);

    if (g_strcmp0(found, expected) != 0)
        return fail(error, ERROR_INTEGRITY,
                    "%s: the backing file is \"%s\" and the manifest says \"%s\"", disk->image_path,
                    found ? found : "", expected ? expected : "");
    return true;
}

static bool disk_open(struct disk *disk, const char *dir, const struct manifest_disk *entry,
                      GError **error)
{
    disk->image_path = g_build_filename(dir, entry->file, NULL);
    disk->digests_path = g_build_filename(dir, entry->digests, NULL);
    disk->image = image_open(disk->image_path, error);
    if (!disk->image)
        return false;
    if (image_virtual_bytes(disk->image) != entry->virtual_bytes)
        return fail(error, ERROR_INTEGRITY,
                    "%s: is of a disk of %" PRIu64 " bytes and the manifest says %" PRIu64,
                    disk->image_path, image_virtual_bytes(disk->image), entry->virtual_bytes);
    if (image_file_bytes(disk->image) != entry->stored_bytes)
        return fail(error, ERROR_INTEGRITY,
                    "%s: has %" PRIu64 " bytes and the manifest says %" PRIu64, disk->image_path,
                    image_file_bytes(disk->image), entry->stored_bytes);
    if (!check_backing(disk, entry, error))
        return false;
    disk->digests = digest_reader_open(disk->digests_path, entry->virtual_bytes, error);
    return disk->digests != NULL;
}

/* The next cluster of the image with its digest; they must come in pairs. */
static bool disk_next(struct disk *disk, struct item *item, bool *found, GError **error)
{
    struct digest_record record;
    bool has_digest;

    if (!image_next(disk->image, &item->cluster, found, error) ||
        !digest_reader_next(disk->digests, &record, &has_digest, error))
        return false;
    if (*found && (!has_digest || record.cluster > item->cluster.number))
        return fail(error, ERROR_INTEGRITY, "%s: cluster %" PRIu64 " of %s has no digest",
                    disk->digests_path, item->cluster.number, disk->image_path);
    if (has_digest && (!*found || record.cluster < item->cluster.number))
        return fail(error, ERROR_INTEGRITY, "%s: cluster %" PRIu64 " is not in %s",
                    disk->digests_path, record.cluster, disk->image_path);
    if (!*found)
        return true;
    if (item->cluster.kind == CLUSTER_ZERO &&
        memcmp(record.digest, cluster_zero_digest(), DIGEST_SIZE) != 0)
        return fail(error, ERROR_INTEGRITY,
                    "%s: cluster %" PRIu64 " is zero and has another digest", disk->digests_path,
                    record.cluster);
    memcpy(item->digest, record.digest, DIGEST_SIZE);
    disk->clusters++;
    return disk->clusters % 4096 != 0 || interrupt_check(error);
}

static bool disk_check_total(const struct disk *disk, const struct manifest_disk *entry,
                             GError **error)
{
    if (disk->clusters != entry->changed_bytes / CLUSTER_BYTES ||
        entry->changed_bytes % CLUSTER_BYTES != 0)
        return fail(error, ERROR_INTEGRITY,
                    "%s: holds %" PRIu64 " bytes of the disk and the manifest says %" PRIu64,
                    disk->image_path, disk->clusters * CLUSTER_BYTES, entry->changed_bytes);
    return true;
}

static bool check_disk(const char *dir, const struct manifest_disk *entry, GError **error)
{
    AUTO_DISK disk = {};
    struct item item;
    bool found;

    if (!disk_open(&disk, dir, entry, error))
        return false;
    do {
        if (!disk_next(&disk, &item, &found, error))
            return false;
    } while (found);
    return disk_check_total(&disk, entry, error);
}

bool snapshot_check_point(const char *dir, const struct manifest *manifest, GError **error)
{
    for (guint i = 0; i < manifest->disks->len; i++)
        if (!check_disk(dir, g_ptr_array_index(manifest->disks, i), error))
            return false;
    return true;
}

/* ---- verification ---- */

struct batch {
    uint64_t start, end; /* in the file */
    unsigned count;
    struct item items[BATCH_CLUSTERS];
};

/* Shared by the thread that lists what is to be read, and the workers that read and compare. */
struct verifier {
    struct disk *disk;
    GAsyncQueue *batches; /* to the workers; end_of_batches ends one of them */
    GMutex lock;
    GCond returned; /* a batch was done */
    unsigned in_flight;
    GError *error;   /* the first */
    GArray *bad;     /* of uint64_t: clusters that are wrong, to go on with the others; or NULL */
    bool plain_only; /* frames have checksums of their own */
    struct progress *progress;
    char *subject;
};

static bool verify_item(const struct verifier *verifier, const struct item *item,
                        const uint8_t *data, struct unpacker *unpacker, uint8_t *plain,
                        GError **error)
{
    uint8_t digest[DIGEST_SIZE];

    if (!image_cluster_unpack(&item->cluster, data, unpacker, verifier->disk->image_path, plain,
                              error))
        return false;
    digest_buffer(plain, CLUSTER_BYTES, digest);
    if (memcmp(digest, item->digest, DIGEST_SIZE) != 0)
        return fail(error, ERROR_INTEGRITY,
                    "%s: cluster %" PRIu64 " at 0x%" PRIx64
                    " does not have the content of its digest",
                    verifier->disk->image_path, item->cluster.number, item->cluster.offset);
    return true;
}

/* A cluster that is wrong: an error, or noted. */
static bool verify_or_note(struct verifier *verifier, const struct item *item, const uint8_t *data,
                           struct unpacker *unpacker, uint8_t *plain, GError **error)
{
    if (!verifier->bad)
        return verify_item(verifier, item, data, unpacker, plain, error);
    if (data && verify_item(verifier, item, data, unpacker, plain, NULL))
        return true;
    g_mutex_lock(&verifier->lock);
    g_array_append_val(verifier->bad, item->cluster.number);
    g_mutex_unlock(&verifier->lock);
    return true;
}

/* Somewhere in BATCH the disk cannot be read: which clusters can? */
static bool verify_apart(struct verifier *verifier, const struct batch *batch,
                         struct unpacker *unpacker, uint8_t *data, uint8_t *plain, GError **error)
{
    for (unsigned i = 0; i < batch->count; i++) {
        const struct item *item = &batch->items[i];
        bool got = fd_read_at(image_fd(verifier->disk->image), item->cluster.offset, data,
                              item->cluster.len, verifier->disk->image_path, NULL);

        if (!verify_or_note(verifier, item, got ? data : NULL, unpacker, plain, error))
            return false;
    }
    return true;
}

static bool verify_batch(struct verifier *verifier, const struct batch *batch, GError **error)
{
    AUTO(unpacker) unpacker = unpacker_new();
    g_autofree uint8_t *data = g_malloc(batch->end - batch->start);
    g_autofree uint8_t *plain = g_malloc(CLUSTER_BYTES);

    if (!fd_read_at(image_fd(verifier->disk->image), batch->start, data, batch->end - batch->start,
                    verifier->disk->image_path, verifier->bad ? NULL : error))
        return verifier->bad && verify_apart(verifier, batch, unpacker, data, plain, error);
    for (unsigned i = 0; i < batch->count; i++)
        if (!verify_or_note(verifier, &batch->items[i],
                            data + (batch->items[i].cluster.offset - batch->start), unpacker, plain,
                            error))
            return false;
    return true;
}

static struct batch end_of_batches;

static void work(struct verifier *verifier, struct batch *batch)
{
    GError *error = NULL;

    verify_batch(verifier, batch, &error);
    g_free(batch);
    g_mutex_lock(&verifier->lock);
    if (!verifier->error)
        verifier->error = g_steal_pointer(&error);
    verifier->in_flight--;
    g_cond_signal(&verifier->returned);
    g_mutex_unlock(&verifier->lock);
    g_clear_error(&error);
}

static void *worker_main(void *data)
{
    struct verifier *verifier = data;
    struct batch *batch;

    while ((batch = g_async_queue_pop(verifier->batches)) != &end_of_batches)
        work(verifier, batch);
    return NULL;
}

/* Hand a batch to the workers as soon as they keep up; false when one has found an error. */
static bool submit(struct verifier *verifier, struct batch **batch)
{
    bool going;

    g_mutex_lock(&verifier->lock);
    while (verifier->in_flight >= BATCHES_IN_FLIGHT)
        g_cond_wait(&verifier->returned, &verifier->lock);
    going = !verifier->error;
    if (going)
        verifier->in_flight++;
    g_mutex_unlock(&verifier->lock);
    if (!going)
        return false;
    progress_bytes(verifier->progress, verifier->subject, (*batch)->end,
                   image_file_bytes(verifier->disk->image));
    g_async_queue_push(verifier->batches, g_steal_pointer(batch));
    return true;
}

static bool batch_has_room(const struct batch *batch, const struct image_cluster *cluster)
{
    return batch->count < BATCH_CLUSTERS &&
           cluster->offset + cluster->len - batch->start <= BATCH_BYTES;
}

static void batch_add(struct batch *batch, const struct item *item)
{
    if (batch->count == 0)
        batch->start = item->cluster.offset;
    batch->end = item->cluster.offset + item->cluster.len;
    batch->items[batch->count++] = *item;
}

/* Go through the disk and give batches to the workers. An error that a worker finds ends
 * this early, and is in verifier->error. */
static bool verify_clusters(struct verifier *verifier, GError **error)
{
    g_autofree struct batch *batch = NULL;
    struct item item;
    bool found;

    for (;;) {
        if (!disk_next(verifier->disk, &item, &found, error))
            return false;
        if (found && (item.cluster.kind == CLUSTER_ZERO ||
                      (verifier->plain_only && item.cluster.kind == CLUSTER_PACKED)))
            continue;
        if (batch && (!found || !batch_has_room(batch, &item.cluster)) &&
            (!submit(verifier, &batch) || !interrupt_check(error)))
            return false;
        if (!found)
            return true;
        if (!batch)
            batch = g_new0(struct batch, 1);
        batch_add(batch, &item);
    }
}

/* Run verify_clusters() with its workers and wait for them. */
static bool run_verifier(struct verifier *verifier, GError **error)
{
    GThread *workers[WORKERS];
    bool done;

    g_mutex_init(&verifier->lock);
    g_cond_init(&verifier->returned);
    verifier->batches = g_async_queue_new();
    for (unsigned i = 0; i < WORKERS; i++)
        workers[i] = g_thread_new("verify", worker_main, verifier);
    done = verify_clusters(verifier, error);
    for (unsigned i = 0; i < WORKERS; i++)
        g_async_queue_push(verifier->batches, &end_of_batches);
    for (unsigned i = 0; i < WORKERS; i++)
        g_thread_join(workers[i]);
    g_async_queue_unref(verifier->batches);
    g_mutex_clear(&verifier->lock);
    g_cond_clear(&verifier->returned);
    if (!verifier->error)
        return done;
    if (error)
        g_clear_error(error);
    g_propagate_error(error, verifier->error);
    return false;
}

static bool verify_disk(const char *dir, const char *vm, const struct manifest_disk *entry,
                        struct verifier verifier, GError **error)
{
    AUTO_DISK disk = {};
    g_autofree char *subject = g_strdup_printf("%s/%s", vm, entry->target);

    verifier.disk = &disk;
    verifier.subject = subject;

    if (!disk_open(&disk, dir, entry, error))
        return false;
    /* The disk is asked, not the page cache. */
    posix_fadvise(image_fd(disk.image), 0, 0, POSIX_FADV_DONTNEED);
    posix_fadvise(image_fd(disk.image), 0, 0, POSIX_FADV_SEQUENTIAL);
    if (!run_verifier(&verifier, error) || !disk_check_total(&disk, entry, error))
        return false;
    progress_bytes(verifier.progress, subject, entry->stored_bytes, entry->stored_bytes);
    return true;
}

static bool verify_disks(const char *dir, const struct manifest *manifest, struct verifier verifier,
                         GError **error)
{
    for (guint i = 0; i < manifest->disks->len; i++)
        if (!verify_disk(dir, manifest->vm, manifest->disks->pdata[i], verifier, error))
            return false;
    return true;
}

bool snapshot_verify_point(const char *dir, const struct manifest *manifest,
                           struct progress *progress, GError **error)
{
    return verify_disks(dir, manifest, (struct verifier){.progress = progress}, error);
}

bool snapshot_verify_for_qemu(const char *dir, const struct manifest *manifest,
                              struct progress *progress, GError **error)
{
    return verify_disks(dir, manifest, (struct verifier){.progress = progress, .plain_only = true},
                        error);
}

/* ---- damage ---- */

static int by_number(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;

    return *left < *right ? -1 : *left > *right;
}

static void note_clusters(struct damage *damage, const struct manifest_disk *entry, GArray *bad)
{
    g_autofree char *why =
        g_strdup_printf("%u clusters do not have the content of their digests", bad->len);
    struct damaged_file *file = damage_add(damage, entry->file, why);

    g_array_sort(bad, by_number);
    for (unsigned i = 0; i < bad->len; i++)
        damaged_file_add(file, g_array_index(bad, uint64_t, i), 1);
}

/* Can the digests be relied upon for telling what an image should have? ALL (of struct cluster_range)
 * becomes that. */
static bool read_digests(const char *path, const struct manifest_disk *entry,
                         const struct damage *damage, GArray *all)
{
    AUTO(digest_reader) digests = digest_reader_open(path, entry->virtual_bytes, NULL);
    struct digest_record record;
    bool found = true;

    if (damage_file(damage, entry->digests) || damage_file(damage, SHA256SUMS_NAME))
        return false;
    while (digests && found) {
        if (!digest_reader_next(digests, &record, &found, NULL))
            return false;
        if (found)
            cluster_ranges_add(all, record.cluster, 1);
    }
    return digests != NULL;
}

/* Those clusters of an image whose tables are damaged that do not lie where they belong. */
static bool note_missing(struct salvage *salvage, struct damaged_file *file, GError **error)
{
    struct salvaged salvaged;
    bool there;

    for (uint64_t n = 1; salvage_survey(salvage, &salvaged, &there); n++) {
        if (n % 4096 == 0 && !interrupt_check(error))
            return false;
        if (!there)
            damaged_file_add(file, salvaged.cluster, 1);
    }
    return true;
}

/* An image that cannot be opened: which of its clusters are gone? */
static bool note_image(const char *dir, const struct manifest_disk *entry, struct damage *damage,
                       const char *why, GError **error)
{
    g_autofree char *image = g_build_filename(dir, entry->file, NULL);
    g_autofree char *digests = g_build_filename(dir, entry->digests, NULL);
    g_autoptr(GArray) all = cluster_ranges_new();
    bool relied = read_digests(digests, entry, damage, all);
    AUTO(salvage) salvage = relied ? salvage_open(image, digests, 0, NULL) : NULL;
    struct damaged_file *file = damage_add(damage, entry->file, why);

    file->unreadable = true;
    if (salvage)
        return note_missing(salvage, file, error);
    if (relied)
        g_array_append_vals(file->clusters, all->data, all->len);
    else
        damaged_file_add(file, 0, cluster_count(entry->virtual_bytes));
    return true;
}

static bool find_disk_damage(const char *dir, const char *vm, const struct manifest_disk *entry,
                             struct progress *progress, struct damage *damage, GError **error)
{
    g_autoptr(GArray) bad = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    g_autoptr(GError) why = NULL;

    /* The image is what it was; what would differ is what the digests say now. */
    if (damage_file(damage, entry->digests) && !damage_file(damage, entry->file))
        return true;
    if (verify_disk(dir, vm, entry, (struct verifier){.bad = bad, .progress = progress}, &why)) {
        if (bad->len)
            note_clusters(damage, entry, bad);
        return true;
    }
    if (error_is(why, ERROR_CANCELLED)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    return note_image(dir, entry, damage, why->message, error);
}

bool snapshot_find_damage(const char *dir, const struct manifest *manifest,
                          struct progress *progress, struct damage *damage, GError **error)
{
    for (guint i = 0; i < manifest->disks->len; i++)
        if (!find_disk_damage(dir, manifest->vm, g_ptr_array_index(manifest->disks, i), progress,
                              damage, error))
            return false;
    return true;
}

const struct point_ops snapshot_point_ops = {
    .check = snapshot_check_point,
    .verify = snapshot_verify_point,
    .merge = snapshot_merge,
    .same_content = snapshot_same_content,
    .sketch = snapshot_sketch,
    .salvage = snapshot_salvage,
    .repair = snapshot_repair,
    .make_digests = snapshot_make_digests,
};
