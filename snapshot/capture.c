/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/job.h"
#include "snapshot/mover.h"
#include "snapshot/recipe.h"

#define NVRAM_MAX_BYTES (64u << 20)

/* Everything of one point while it is being taken. */
struct capture {
    const struct point_request *request;
    struct file_lock *lock;
    struct reference *reference;
    GPtrArray *disks; /* of struct vm_disk */
    char *domain_xml; /* the definition that goes into the point */
    char *nvram;      /* content, or NULL */
    size_t nvram_len;
    struct incoming *incoming;
    struct job *job;
    struct manifest *manifest;
};

static void capture_free(struct capture *capture)
{
    if (!capture)
        return;
    /* The job first: it reads disks that the guest is waiting for. */
    job_free(capture->job);
    incoming_free(capture->incoming);
    manifest_free(capture->manifest);
    reference_free(capture->reference);
    g_clear_pointer(&capture->disks, g_ptr_array_unref);
    g_free(capture->domain_xml);
    g_free(capture->nvram);
    file_lock_free(capture->lock);
    g_free(capture);
}
DEFINE_CLEANUP(capture)

static const char *vm_name(const struct capture *capture)
{
    return domain_name(capture->request->domain);
}

/* --- before anything happens ------------------------------------------------------------------ */

static struct capture *capture_new(const struct point_request *request, GError **error)
{
    AUTO(capture) capture = g_new0(struct capture, 1);
    g_autofree char *lock = g_strdup_printf("%s/vm-%s.lock", catalog_lock_dir(request->catalog),
                                            domain_uuid(request->domain));
    g_autofree char *what = g_strdup_printf("VM %s", domain_name(request->domain));

    capture->request = request;
    capture->lock = file_lock_take(lock, what, error);
    return capture->lock ? g_steal_pointer(&capture) : NULL;
}

static bool check_running(const struct capture *capture, GError **error)
{
    enum domain_state state;

    if (!domain_state(capture->request->domain, &state, error))
        return false;
    if (state != DOMAIN_RUNNING && state != DOMAIN_PAUSED)
        return fail(error, ERROR_CONFLICT,
                    "it is %s; a recovery point is taken of a running VM: virsh start %s",
                    domain_state_name(state), vm_name(capture));
    return true;
}

/* The definition that will be restored is the inactive one; what disks there are now, the live one
 * tells. */
static bool look_at_domain(struct capture *capture, GError **error)
{
    g_autofree char *live = domain_xml(capture->request->domain, DOMAIN_XML_LIVE, error);
    g_autofree char *nvram = live ? vm_nvram_path(live) : NULL;

    if (!live)
        return false;
    capture->disks = vm_disks(live, error);
    capture->domain_xml = domain_xml(capture->request->domain, DOMAIN_XML_INACTIVE, error);
    if (!capture->disks || !capture->domain_xml)
        return false;
    for (unsigned i = 0; i < capture->disks->len; i++) {
        const struct vm_disk *disk = capture->disks->pdata[i];

        if (disk->skipped)
            progress_note(capture->request->progress, "%s: %s is not in the point: %s",
                          vm_name(capture), disk->target, disk->skipped);
    }
    return !nvram || file_read(nvram, NVRAM_MAX_BYTES, &capture->nvram, &capture->nvram_len, error);
}

/* Later than every point there is, even when the clock was set back: ids sort by time. */
static char *next_point_id(const struct reference *reference)
{
    int64_t now = time_now_ms(), newest;

    if (reference->newest && point_id_parse(reference->newest, &newest))
        now = MAX(now, newest + 1);
    return point_id_format(now);
}

static void note_replaced_disks(const struct capture *capture)
{
    const struct manifest *base = capture->reference->base;

    for (unsigned i = 0; base && i < capture->disks->len; i++) {
        const struct vm_disk *disk = capture->disks->pdata[i];

        if (!disk->skipped && disk->tracked && manifest_disk(base, disk->target) &&
            !reference_covers(capture->reference, disk))
            progress_note(capture->request->progress,
                          "%s: %s has another image than at point %s: read in full",
                          vm_name(capture), disk->target, base->point);
    }
}

static bool prepare(struct capture *capture, GError **error)
{
    const struct point_request *request = capture->request;
    g_autofree char *point = NULL;

    if (!check_running(capture, error) || !job_reconcile(request, error) ||
        !look_at_domain(capture, error))
        return false;
    capture->reference =
        reference_choose(request->domain, request->destination, request->force_full, error);
    if (!capture->reference)
        return false;
    note_replaced_disks(capture);
    point = next_point_id(capture->reference);
    capture->incoming =
        store_begin(request->destination, domain_uuid(request->domain), point, error);
    if (!capture->incoming)
        return false;
    capture->manifest = manifest_new();
    capture->manifest->point = g_steal_pointer(&point);
    capture->manifest->vm = g_strdup(vm_name(capture));
    capture->manifest->uuid = g_strdup(domain_uuid(request->domain));
    capture->manifest->site = g_strdup(request->site);
    return true;
}

/* --- the instant ------------------------------------------------------------------------------ */

static bool begin_job(struct capture *capture, GError **error)
{
    capture->job = job_begin(capture->request, capture->reference, capture->disks,
                             capture->manifest->point, error);
    return capture->job != NULL;
}

/* A bitmap that libvirt or QEMU calls broken (the VM was killed, the host lost power) costs a full
 * read, not the point. */
static bool begin_job_or_full(struct capture *capture, GError **error)
{
    g_autoptr(GError) broken = NULL;
    const char *reason =
        "the VM's record of changes is broken (it was killed or lost power): read in full";

    if (begin_job(capture, &broken))
        return true;
    if (!capture->reference->base || !error_is(broken, ERROR_INTEGRITY)) {
        g_propagate_error(error, g_steal_pointer(&broken));
        return false;
    }
    progress_note(capture->request->progress, "%s: %s", vm_name(capture), reason);
    g_debug("%s: %s", vm_name(capture), broken->message);
    reference_drop_base(capture->reference, reason);
    return begin_job(capture, error);
}

/* --- the disks -------------------------------------------------------------------------------- */

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
    g_autofree char *subject = g_strdup_printf("%s/%s", vm_name(capture), disk->target);
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

static bool take_disks(struct capture *capture, GError **error)
{
    for (unsigned i = 0; i < capture->disks->len; i++) {
        const struct vm_disk *disk = capture->disks->pdata[i];

        if (!disk->skipped && !take_disk(capture, disk, error))
            return false;
    }
    /* Before the commit: QEMU's copy-before-write ends as early as it can. */
    return job_end(capture->job, error);
}

/* --- the end ---------------------------------------------------------------------------------- */

static bool put_texts(struct capture *capture, GError **error)
{
    struct manifest *manifest = capture->manifest;
    g_autofree char *recipe = recipe_text(manifest, capture->disks, capture->nvram != NULL);

    return incoming_put(capture->incoming, manifest, "domain.xml", capture->domain_xml,
                        strlen(capture->domain_xml), error) &&
           (!capture->nvram || incoming_put(capture->incoming, manifest, "nvram.fd", capture->nvram,
                                            capture->nvram_len, error)) &&
           incoming_put(capture->incoming, manifest, "RESTORE.txt", recipe, strlen(recipe), error);
}

static bool is_delta(const struct manifest *manifest)
{
    for (unsigned i = 0; i < manifest->disks->len; i++)
        if (((struct manifest_disk *)manifest->disks->pdata[i])->base)
            return true;
    return false;
}

static bool commit(struct capture *capture, GError **error)
{
    struct manifest *manifest = capture->manifest;
    GError *failure = NULL;

    manifest->time_ms = capture->job->time_ms;
    manifest->consistency = capture->job->consistency;
    manifest->checkpoint = g_strdup(capture->job->checkpoint);
    if (is_delta(manifest))
        manifest->base = g_strdup(capture->reference->base->point);
    manifest->reason = g_strdup(!manifest->base && capture->reference->base
                                    ? "no disk has a usable record of changes: read in full"
                                    : capture->reference->reason);
    if (!put_texts(capture, error))
        return false;
    if (!incoming_commit(capture->incoming, manifest, &failure)) {
        /* An answer that was lost may have been a yes: the next run asks, and sweeps. */
        capture->job->keep_checkpoint = error_is(failure, ERROR_NETWORK);
        g_propagate_error(error, failure);
        return false;
    }
    capture->job->keep_checkpoint = true;
    return true;
}

/* The point is safe; from here on nothing can take it back, so what fails is only told. */
static void clean_up(struct capture *capture)
{
    g_autoptr(GError) error = NULL;

    if (!reference_sweep(capture->reference, capture->request->domain, capture->job->checkpoint,
                         &error))
        progress_note(capture->request->progress, "%s: the next run will clean up: %s",
                      vm_name(capture), error->message);
}

bool snapshot_take_point(const struct point_request *request, struct point_result *result,
                         GError **error)
{
    int64_t started = time_monotonic_ms();
    AUTO(capture) capture = capture_new(request, error);

    if (!capture || !prepare(capture, error) || !begin_job_or_full(capture, error) ||
        !take_disks(capture, error) || !commit(capture, error)) {
        g_prefix_error(error, "no recovery point of %s: ", domain_name(request->domain));
        return false;
    }
    clean_up(capture);
    result->changed_bytes = manifest_changed_bytes(capture->manifest);
    result->sent_bytes = incoming_sent_bytes(capture->incoming);
    result->manifest = g_steal_pointer(&capture->manifest);
    result->seconds = (double)(time_monotonic_ms() - started) / 1000;
    return true;
}

void point_result_clear(struct point_result *result)
{
    g_clear_pointer(&result->manifest, manifest_free);
}

/* --- planning --------------------------------------------------------------------------------- */

static void point_plan_disk_free(void *data)
{
    struct point_plan_disk *disk = data;

    g_free(disk->target);
    g_free(disk);
}

/* <disk name='vda' ... size='BYTES'/> of a checkpoint's XML. */
static uint64_t checkpoint_size(const struct xml *checkpoint, const char *target)
{
    g_autofree char *xpath =
        g_strdup_printf("/domaincheckpoint/disks/disk[@name='%s']/@size", target);
    g_autofree char *size = xml_string(xml_root(checkpoint), xpath);

    return size ? g_ascii_strtoull(size, NULL, 10) : 0;
}

static struct xml *checkpoint_sizes(struct domain *domain, const char *checkpoint)
{
    g_autofree char *text = domain_checkpoint_xml(domain, checkpoint, true, NULL);

    return text ? xml_parse(text, checkpoint, NULL) : NULL;
}

static void plan_disk(struct point_plan *plan, const struct vm_disk *disk,
                      const struct reference *reference, const struct xml *sizes)
{
    struct point_plan_disk *planned = g_new0(struct point_plan_disk, 1);

    planned->target = g_strdup(disk->target);
    planned->incremental = sizes && reference_covers(reference, disk);
    if (planned->incremental)
        planned->dirty_bytes = checkpoint_size(sizes, disk->target);
    g_ptr_array_add(plan->disks, planned);
}

struct point_plan *snapshot_plan_point(const struct point_request *request, GError **error)
{
    AUTO(capture) capture = capture_new(request, error);
    AUTO(point_plan) plan = g_new0(struct point_plan, 1);
    AUTO(xml) sizes = NULL;
    g_autoptr(GStrvBuilder) skipped = g_strv_builder_new();

    plan->disks = g_ptr_array_new_with_free_func(point_plan_disk_free);
    if (!capture || !check_running(capture, error) || !look_at_domain(capture, error))
        return NULL;
    capture->reference =
        reference_choose(request->domain, request->destination, request->force_full, error);
    if (!capture->reference)
        return NULL;
    if (capture->reference->base)
        sizes = checkpoint_sizes(request->domain, capture->reference->base->checkpoint);
    for (unsigned i = 0; i < capture->disks->len; i++) {
        const struct vm_disk *disk = capture->disks->pdata[i];

        g_autofree char *text = g_strdup_printf("%s: %s", disk->target, disk->skipped);

        if (disk->skipped)
            g_strv_builder_add(skipped, text);
        else
            plan_disk(plan, disk, capture->reference, sizes);
    }
    plan->base = capture->reference->base ? g_strdup(capture->reference->base->point) : NULL;
    plan->reason = g_strdup(capture->reference->reason);
    plan->skipped = g_strv_builder_end(skipped);
    return g_steal_pointer(&plan);
}

void point_plan_free(struct point_plan *plan)
{
    if (!plan)
        return;
    g_free(plan->base);
    g_free(plan->reason);
    g_clear_pointer(&plan->disks, g_ptr_array_unref);
    g_strfreev(plan->skipped);
    g_free(plan);
}

bool snapshot_dirty_bytes(struct domain *domain, const char *checkpoint, uint64_t *bytes)
{
    AUTO(xml) sizes = checkpoint_sizes(domain, checkpoint);
    uint64_t total = 0;

    if (!sizes)
        return false;
    g_autoptr(GPtrArray) disks =
        xml_find_all(xml_root(sizes), "/domaincheckpoint/disks/disk[@size]");

    for (unsigned i = 0; i < disks->len; i++) {
        g_autofree char *size = xml_attr(disks->pdata[i], "size");

        total += g_ascii_strtoull(size, NULL, 10);
    }
    *bytes = total;
    return disks->len > 0;
}
