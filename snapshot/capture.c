/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/capture.h"
#include "snapshot/checkpoint.h"
#include "snapshot/recipe.h"

#define NVRAM_MAX_BYTES (64u << 20)

void capture_free(struct capture *capture)
{
    if (!capture)
        return;
    /* The job first: it reads disks that the guest is waiting for. */
    job_free(capture->job);
    offline_free(capture->offline);
    incoming_free(capture->incoming);
    manifest_free(capture->manifest);
    reference_free(capture->reference);
    g_clear_pointer(&capture->disks, g_ptr_array_unref);
    g_free(capture->domain_xml);
    g_free(capture->nvram);
    file_lock_free(capture->lock);
    g_free(capture);
}

const char *capture_vm(const struct capture *capture)
{
    return domain_name(capture->request->domain);
}

/* --- before anything happens ------------------------------------------------------------------ */

struct capture *capture_new(const struct point_request *request, GError **error)
{
    AUTO(capture) capture = g_new0(struct capture, 1);
    g_autofree char *lock = g_strdup_printf("%s/vm-%s.lock", catalog_lock_dir(request->catalog),
                                            domain_uuid(request->domain));
    g_autofree char *what = g_strdup_printf("VM %s", domain_name(request->domain));

    capture->request = request;
    capture->started_ms = time_monotonic_ms();
    capture->lock = file_lock_take(lock, what, error);
    return capture->lock ? g_steal_pointer(&capture) : NULL;
}

static bool look_at_state(struct capture *capture, GError **error)
{
    enum domain_state state;

    if (!domain_state(capture->request->domain, &state, error))
        return false;
    capture->off = state == DOMAIN_OFF;
    if (state != DOMAIN_RUNNING && state != DOMAIN_PAUSED && state != DOMAIN_OFF)
        return fail(error, ERROR_CONFLICT,
                    "it is %s; a recovery point is taken of a VM that runs or is off",
                    domain_state_name(state));
    return true;
}

static bool look_at_disk(const struct capture *capture, struct vm_disk *disk, GError **error)
{
    if (!disk->skipped)
        return !capture->off || vm_disk_look(disk, error);
    progress_note(capture->request->progress, "%s: %s is not in the point: %s", capture_vm(capture),
                  disk->target, disk->skipped);
    return true;
}

/* The definition that will be restored is the inactive one; what disks there are now, the live one
 * tells. */
bool capture_look(struct capture *capture, GError **error)
{
    g_autofree char *live = domain_xml(capture->request->domain, DOMAIN_XML_LIVE, error);
    g_autofree char *nvram = live ? vm_nvram_path(live) : NULL;

    if (!live || !look_at_state(capture, error))
        return false;
    capture->disks = vm_disks(domain_host(capture->request->domain), live, error);
    capture->domain_xml = domain_xml(capture->request->domain, DOMAIN_XML_INACTIVE, error);
    if (!capture->disks || !capture->domain_xml)
        return false;
    for (unsigned i = 0; i < capture->disks->len; i++)
        if (!look_at_disk(capture, capture->disks->pdata[i], error))
            return false;
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

bool capture_choose_reference(struct capture *capture, GError **error)
{
    g_clear_pointer(&capture->reference, reference_free);
    capture->reference = reference_choose(capture->request, capture->disks, !capture->off, error);
    return capture->reference != NULL;
}

bool capture_prepare(struct capture *capture, struct space_need *need, GError **error)
{
    const struct point_request *request = capture->request;
    g_autofree char *point = NULL;

    if (!capture_choose_reference(capture, error))
        return false;
    if (!capture->off && !request->force_full &&
        checkpoint_restore(capture->reference, request->domain) &&
        !capture_choose_reference(capture, error))
        return false;
    if (capture->off) {
        capture->offline = offline_new(request, capture->reference, capture->disks, error);
        if (!capture->offline)
            return false;
    }
    if (!offline_sweep(request, error) || !space_check(request, capture->reference, need, error) ||
        !reference_fetch(capture->reference, error))
        return false;
    point = next_point_id(capture->reference);
    capture->manifest = manifest_new();
    capture->manifest->point = g_steal_pointer(&point);
    capture->manifest->vm = g_strdup(capture_vm(capture));
    capture->manifest->uuid = g_strdup(domain_uuid(request->domain));
    capture->manifest->site = g_strdup(request->site);
    return true;
}

/* --- the instant ------------------------------------------------------------------------------ */

bool capture_begin(struct capture *capture, GError **error)
{
    if (capture->off)
        return offline_begin(capture->offline, error);
    capture->job = job_start(capture->request, capture->reference, capture->disks,
                             capture->manifest->point, error);
    return capture->job != NULL;
}

bool capture_ready(struct capture *capture, GError **error)
{
    if (capture->off)
        return true;
    capture->job = job_prepare(capture->request, capture->reference, capture->disks,
                               capture->manifest->point, error);
    return capture->job != NULL;
}

bool capture_freeze(struct capture *capture, GError **error)
{
    return capture->off || job_freeze(capture->job, error);
}

bool capture_start(struct capture *capture, GError **error)
{
    return capture->off ? offline_begin(capture->offline, error) : job_begin(capture->job, error);
}

bool capture_thaw(struct capture *capture, GError **error)
{
    return capture->off || job_thaw(capture->job, error);
}

void capture_join(struct capture *capture, const char *group, uint64_t members, uint64_t skew_ms)
{
    struct manifest *manifest = capture->manifest;

    manifest->group = g_strdup(group);
    manifest->group_members = members;
    manifest->group_skew_ms = skew_ms;
}

/* --- the end ---------------------------------------------------------------------------------- */

static enum consistency consistency_of(const struct capture *capture)
{
    enum consistency reached =
        capture->off ? capture->offline->consistency : capture->job->consistency;

    if (!capture->manifest->group)
        return reached;
    return reached == CONSISTENCY_FILESYSTEM ? CONSISTENCY_GROUP_FILESYSTEM
                                             : CONSISTENCY_GROUP_CRASH;
}

static bool put_text(struct capture *capture, const char *name, const char *text, GError **error)
{
    return incoming_put(capture->incoming, capture->manifest, name, text, strlen(text), error);
}

static bool put_texts(struct capture *capture, GError **error)
{
    struct manifest *manifest = capture->manifest;
    g_autofree char *checkpoint =
        manifest->checkpoint ? checkpoint_record(capture->request->domain, manifest->checkpoint)
                             : NULL;
    g_autofree char *recipe = recipe_text(manifest, capture->disks, capture->nvram != NULL);

    return put_text(capture, "domain.xml", capture->domain_xml, error) &&
           (!checkpoint || put_text(capture, CHECKPOINT_FILE, checkpoint, error)) &&
           (!capture->nvram || incoming_put(capture->incoming, manifest, "nvram.fd", capture->nvram,
                                            capture->nvram_len, error)) &&
           put_text(capture, "RESTORE.txt", recipe, error);
}

/* The point is safe; from here on nothing can take it back, so what fails is only told. */
static void clean_up(struct capture *capture)
{
    g_autoptr(GError) error = NULL;
    const struct manifest *manifest = capture->manifest;
    struct domain *domain = capture->request->domain;

    if (capture->off
            ? !offline_remember(capture->offline, capture->reference, manifest->point, &error)
            : !reference_sweep(capture->reference, domain, manifest->checkpoint, &error))
        progress_note(capture->request->progress, "%s: the next run will clean up: %s",
                      capture_vm(capture), error->message);
}

char *capture_reason(const struct capture *capture)
{
    g_autofree char *reason = reference_reason(capture->reference);
    const char *base = reference_newest_base(capture->reference);
    bool saved = capture->off && domain_is_saved(capture->request->domain);
    const char *off =
        saved ? "the VM is off, its saved memory is not in the point" : "the VM is off";

    if (!capture->off)
        return g_steal_pointer(&reason);
    if (base && capture->manifest && manifest_changed_bytes(capture->manifest) == 0)
        return g_strdup_printf("%s; unchanged since %s", off, base);
    return g_strdup_printf("%s; %s", off, reason);
}

static void describe_point(struct capture *capture)
{
    struct manifest *manifest = capture->manifest;
    const struct job *job = capture->job;

    manifest->time_ms = job ? job->time_ms : capture->offline->time_ms;
    manifest->consistency = consistency_of(capture);
    manifest->checkpoint = g_strdup(job ? job->checkpoint : capture->reference->checkpoint);
    manifest->base = g_strdup(reference_newest_base(capture->reference));
    manifest->reason = capture_reason(capture);
    manifest->label = g_strdup(capture->request->label);
}

static bool commit(struct capture *capture, GError **error)
{
    GError *failure = NULL;
    bool committed;

    describe_point(capture);
    if (!put_texts(capture, error))
        return false;
    committed = incoming_commit(capture->incoming, capture->manifest, &failure);
    /* An answer that was lost may have been a yes. If it cannot be asked for now, the next run asks, and
     * sweeps. */
    if (capture->job)
        capture->job->keep_checkpoint = committed || error_is(failure, ERROR_NETWORK);
    if (!committed && !capture_was_committed(capture, failure, error))
        return false;
    clean_up(capture);
    return true;
}

static void point_disk_free(void *data)
{
    struct point_disk *disk = data;

    g_free(disk->target);
    g_free(disk);
}

GPtrArray *capture_disks(const struct capture *capture)
{
    GPtrArray *disks = g_ptr_array_new_with_free_func(point_disk_free);

    for (unsigned i = 0; i < capture->reference->disks->len; i++) {
        const struct disk_reference *from = capture->reference->disks->pdata[i];
        struct point_disk *disk = g_new0(struct point_disk, 1);

        *disk = (struct point_disk){g_strdup(from->target), from->mode, from->done,
                                    from->read_bytes, from->changed_bytes};
        g_ptr_array_add(disks, disk);
    }
    return disks;
}

bool capture_finish(struct capture *capture, struct point_result *result, GError **error)
{
    if (!capture_transfer(capture, error) || !commit(capture, error))
        return false;
    result->changed_bytes = manifest_changed_bytes(capture->manifest);
    result->sent_bytes =
        capture->sent_bytes + (capture->incoming ? incoming_sent_bytes(capture->incoming) : 0);
    result->disks = capture_disks(capture);
    result->manifest = g_steal_pointer(&capture->manifest);
    result->seconds = (double)(time_monotonic_ms() - capture->started_ms) / 1000;
    return true;
}

bool capture_was_overtaken(const struct capture *capture)
{
    enum domain_state state;

    return capture->off && domain_state(capture->request->domain, &state, NULL) &&
           state != DOMAIN_OFF;
}

static bool take_point(struct capture *capture, struct point_result *result, GError **error)
{
    struct space_need need = {0};

    return capture_look(capture, error) && capture_prepare(capture, &need, error) &&
           capture_begin(capture, error) && capture_finish(capture, result, error);
}

/* A VM that is started while its disks are read goes first: what was read is thrown away, and the
 * point taken of the running VM. */
static bool take_point_as_it_is(const struct point_request *request, struct point_result *result,
                                GError **error)
{
    AUTO(capture) capture = capture_new(request, error);
    g_autoptr(GError) cause = NULL;

    if (!capture || !job_reconcile(request, error))
        return false;
    if (take_point(capture, result, &cause))
        return true;
    if (!capture_was_overtaken(capture)) {
        g_propagate_error(error, g_steal_pointer(&cause));
        return false;
    }
    progress_note(request->progress, "%s: %s; beginning again", capture_vm(capture),
                  cause->message);
    g_clear_pointer(&capture, capture_free);
    capture = capture_new(request, error);
    return capture && take_point(capture, result, error);
}

bool snapshot_take_point(const struct point_request *request, struct point_result *result,
                         GError **error)
{
    if (take_point_as_it_is(request, result, error))
        return true;
    g_prefix_error(error, "no recovery point of %s: ", domain_name(request->domain));
    return false;
}

void point_result_clear(struct point_result *result)
{
    g_clear_pointer(&result->manifest, manifest_free);
    g_clear_pointer(&result->disks, g_ptr_array_unref);
}
