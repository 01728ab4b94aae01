/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/job.h"

#include "snapshot/bitmaps.h"

#include <errno.h>
#include <unistd.h>

#define THAW_TIMEOUT_S 10
#define EXPLAIN_MS 1000 /* until libvirt has cleaned up a job that ended */

/* --- the capture journal ------------------------------------------------------------------- */

static bool journal_write(const struct job *job, bool frozen, GError **error)
{
    json_auto_t *entry = json_object();
    json_t *scratch = json_array();
    g_autofree char *life = vm_life(job->request->domain);
    GHashTableIter iter;
    void *path;

    json_set_string(entry, "checkpoint", job->checkpoint);
    json_set_string(entry, "socket", job->socket);
    json_object_set_new(entry, "scratch", scratch);
    json_object_set_new(entry, "frozen", json_boolean(frozen));
    json_set_string(entry, "life", life);
    g_hash_table_iter_init(&iter, job->scratch);
    while (g_hash_table_iter_next(&iter, NULL, &path))
        json_array_append_new(scratch, json_string(path));
    return catalog_put(job->request->catalog, CATALOG_CAPTURES, domain_uuid(job->request->domain),
                       entry, error);
}

static bool job_forget(const struct point_request *request, GError **error)
{
    return catalog_remove(request->catalog, CATALOG_CAPTURES, domain_uuid(request->domain), error);
}

/* --- names and places ----------------------------------------------------------------------- */

/* QEMU itself makes the socket and opens the scratch files, as its own user in system mode. */
static bool make_places(const struct point_request *request, const char *socket_dir, GError **error)
{
    uid_t uid;
    gid_t gid;

    if (!dir_make(request->run_dir, 0711, error) || !dir_make(request->scratch_dir, 0711, error) ||
        !dir_make(socket_dir, 0700, error))
        return false;
    if (host_qemu_identity(domain_host(request->domain), &uid, &gid) &&
        chown(socket_dir, uid, gid) < 0)
        return fail_errno(error, errno, "cannot give %s to QEMU's user", socket_dir);
    return true;
}

static struct job *job_new(const struct point_request *request, struct reference *reference,
                           GPtrArray *disks, const char *point)
{
    struct job *job = g_new0(struct job, 1);
    const char *uuid = domain_uuid(request->domain);

    job->request = request;
    job->reference = reference;
    job->disks = disks;
    job->socket = g_build_filename(request->run_dir, uuid, "nbd", NULL);
    job->scratch = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, g_free);
    for (unsigned i = 0; i < disks->len; i++) {
        const struct vm_disk *disk = disks->pdata[i];

        if (disk->skipped)
            continue;
        g_hash_table_insert(
            job->scratch, disk->target,
            g_strdup_printf("%s/%s.%s.%s", request->scratch_dir, uuid, point, disk->target));
        if (disk->tracked && !job->checkpoint)
            job->checkpoint = reference_new_checkpoint(reference, point);
    }
    return job;
}

/* --- the XML of the job ---------------------------------------------------------------------- */

static void describe_disk(const struct job *job, const struct vm_disk *disk,
                          struct xml_node *parent)
{
    struct xml_node *node = xml_add(parent, "disk", NULL);

    xml_set_attr(node, "name", disk->target);
    xml_set_attr(node, "backup", disk->skipped ? "no" : "yes");
    if (disk->skipped)
        return;
    xml_set_attr(node, "type", "file");
    xml_set_attr(node, "exportname", disk->target);
    if (reference_covers(job->reference, disk)) {
        xml_set_attr(node, "backupmode", "incremental");
        xml_set_attr(node, "incremental", job->reference->checkpoint);
        xml_set_attr(node, "exportbitmap", JOB_BITMAP);
    } else {
        xml_set_attr(node, "backupmode", "full");
    }
    xml_set_attr(xml_add(node, "driver", NULL), "type", "qcow2");
    xml_set_attr(xml_add(node, "scratch", NULL), "file",
                 g_hash_table_lookup(job->scratch, disk->target));
}

/* Every disk is listed: once one is, libvirt silently leaves out those that are not. */
static char *backup_xml(const struct job *job)
{
    AUTO(xml) xml = xml_new("domainbackup");
    struct xml_node *root = xml_root(xml);
    struct xml_node *server = xml_add(root, "server", NULL);
    struct xml_node *disks = xml_add(root, "disks", NULL);

    xml_set_attr(root, "mode", "pull");
    xml_set_attr(server, "transport", "unix");
    xml_set_attr(server, "socket", job->socket);
    for (unsigned i = 0; i < job->disks->len; i++)
        describe_disk(job, job->disks->pdata[i], disks);
    return xml_dump(xml);
}

static char *checkpoint_xml(const struct job *job)
{
    AUTO(xml) xml = xml_new("domaincheckpoint");
    g_autofree char *description = bitmaps_describe(job->request->domain, job->disks);
    struct xml_node *disks;

    xml_add(xml_root(xml), "name", job->checkpoint);
    xml_add(xml_root(xml), "description", description);
    disks = xml_add(xml_root(xml), "disks", NULL);
    for (unsigned i = 0; i < job->disks->len; i++) {
        const struct vm_disk *disk = job->disks->pdata[i];
        struct xml_node *node = xml_add(disks, "disk", NULL);

        xml_set_attr(node, "name", disk->target);
        xml_set_attr(node, "checkpoint", !disk->skipped && disk->tracked ? "bitmap" : "no");
    }
    return xml_dump(xml);
}

/* --- is it there? ----------------------------------------------------------------------------- */

/* Is the running backup job ours? Its socket lies where only drctl puts sockets. */
static bool job_is_ours(const struct point_request *request, const char *xml_text)
{
    AUTO(xml) xml = xml_parse(xml_text, "the backup job", NULL);
    g_autofree char *socket = xml ? xml_string(xml_root(xml), "server/@socket") : NULL;
    g_autofree char *ours = g_build_filename(request->run_dir, domain_uuid(request->domain), NULL);

    return socket && g_str_has_prefix(socket, ours);
}

/* libvirt has one job for a domain at a time, and lets others wait. */
static bool check_idle(const struct point_request *request, GError **error)
{
    const char *other = NULL;

    if (!domain_job(request->domain, &other, error))
        return false;
    return !other || fail(error, ERROR_CONFLICT,
                          "libvirt is busy with this VM (%s); try again when it is done", other);
}

/* Between the end of a job and that of its NBD server QEMU gives out what the disk is now. Setting a
 * mark waits for its turn at QEMU, so libvirt has heard of an end before, and forgotten the job. */
static bool check_is_there(const struct job *job, GError **error)
{
    struct domain *domain = job->request->domain;
    g_autofree char *xml = NULL;
    GHashTableIter iter;
    void *target;

    g_hash_table_iter_init(&iter, job->scratch);
    while (g_hash_table_iter_next(&iter, &target, NULL))
        domain_scratch_mark(domain, target, G_MAXINT64, NULL);
    if (!domain_backup_xml(domain, &xml, error))
        return false;
    return (xml && job_is_ours(job->request, xml)) ||
           fail(error, ERROR_CONFLICT,
                "the backup job ended before the point was whole: the VM was shut off, or somebody "
                "ended its job (virsh domjobabort)");
}

/* --- quiesce --------------------------------------------------------------------------------- */

/* A guest that cannot freeze makes the point crash-consistent, unless the protection requires more.
 */
static bool degrade(const struct point_request *request, GError *why, GError **error)
{
    if (request->quiesce == QUIESCE_REQUIRE) {
        g_propagate_prefixed_error(error, why, "quiesce = require: ");
        return false;
    }
    progress_note(request->progress, "%s: crash-consistent only: %s", domain_name(request->domain),
                  why->message);
    g_error_free(why);
    return true;
}

/* Is somebody there who freezes, and somebody who thaws if we cannot? */
static bool ready_to_freeze(struct job *job, GError **error)
{
    const struct point_request *request = job->request;
    GError *why = NULL;

    if (request->quiesce == QUIESCE_OFF)
        return true;
    if (domain_agent_ping(request->domain, request->quiesce_timeout_s, &why))
        job->watchdog = watchdog_start(request, &why);
    return job->watchdog || degrade(request, why, error);
}

bool job_freeze(struct job *job, GError **error)
{
    const struct point_request *request = job->request;
    unsigned count = 0;
    GError *why = NULL;

    if (!job->watchdog)
        return true;
    if (!watchdog_tell(job->watchdog, WATCHDOG_FREEZING, &why))
        return degrade(request, why, error);
    if (!journal_write(job, true, error))
        return false;
    job->may_be_frozen = true;
    if (!domain_freeze(request->domain, request->quiesce_timeout_s, &count, &why))
        return degrade(request, why, error);
    if (count > 0)
        job->frozen_at_ms = time_monotonic_ms();
    /* If it is gone now, we are still here. */
    watchdog_tell(job->watchdog, WATCHDOG_FROZEN, NULL);
    return true;
}

/* What was frozen for longer may have been thawed by now. */
static bool check_still_frozen(struct job *job, GError **error)
{
    GError *why = NULL;

    if (!job->frozen_at_ms || time_monotonic_ms() - job->frozen_at_ms < FROZEN_MAX_MS)
        return true;
    job->frozen_at_ms = 0;
    fail(&why, ERROR_HYPERVISOR, "its file systems were frozen for %d s before the point began",
         FROZEN_MAX_MS / 1000);
    return degrade(job->request, why, error);
}

/* The thaw that must not be forgotten: its failure says how to do it by hand. */
static bool thaw_guest(struct domain *domain, GError **error)
{
    if (domain_thaw(domain, THAW_TIMEOUT_S, error))
        return true;
    g_prefix_error(
        error, "THE GUEST'S FILE SYSTEMS MAY STILL BE FROZEN, thaw them with: virsh domfsthaw %s: ",
        domain_name(domain));
    return false;
}

bool job_thaw(struct job *job, GError **error)
{
    if (!job->may_be_frozen)
        return true;
    if (!thaw_guest(job->request->domain, error))
        return false;
    job->may_be_frozen = false;
    watchdog_tell(job->watchdog, WATCHDOG_THAWED, NULL);
    return journal_write(job, false, error);
}

/* --- the beginning ---------------------------------------------------------------------------- */

struct job *job_prepare(const struct point_request *request, struct reference *reference,
                        GPtrArray *disks, const char *point, GError **error)
{
    AUTO(job) job = job_new(request, reference, disks, point);
    g_autofree char *socket_dir = g_path_get_dirname(job->socket);

    if (!check_idle(request, error) || !make_places(request, socket_dir, error) ||
        !journal_write(job, false, error) || !ready_to_freeze(job, error))
        return NULL;
    return g_steal_pointer(&job);
}

static bool begin_once(struct job *job, GError **error)
{
    g_autofree char *backup = backup_xml(job);
    g_autofree char *checkpoint = job->checkpoint ? checkpoint_xml(job) : NULL;

    if (!check_still_frozen(job, error))
        return false;
    job->time_ms = time_now_ms();
    return domain_backup_begin(job->request->domain, backup, checkpoint, error);
}

bool job_begin(struct job *job, GError **error)
{
    const struct point_request *request = job->request;
    GError *why = NULL;

    while (!begin_once(job, &why)) {
        if (!reference_distrust_bitmaps(job->reference, request->domain, job->disks, why)) {
            g_propagate_error(error, why);
            return false;
        }
        progress_note(request->progress, "%s: %s", domain_name(request->domain), why->message);
        g_clear_error(&why);
    }
    job->guard = guard_new(request, job->scratch);
    if (!check_still_frozen(job, error))
        return false;
    job->consistency = job->frozen_at_ms ? CONSISTENCY_FILESYSTEM : CONSISTENCY_CRASH;
    return true;
}

struct job *job_start(const struct point_request *request, struct reference *reference,
                      GPtrArray *disks, const char *point, GError **error)
{
    AUTO(job) job = job_prepare(request, reference, disks, point, error);
    bool begun = job && job_freeze(job, error) && job_begin(job, error);

    /* The first failure is the one to tell. */
    if (!job || !job_thaw(job, begun ? error : NULL) || !begun)
        return NULL;
    return g_steal_pointer(&job);
}

/* --- the end --------------------------------------------------------------------------------- */

static bool remove_file(const char *path, GError **error)
{
    if (path && unlink(path) < 0 && errno != ENOENT)
        return fail_errno(error, errno, "cannot remove %s", path);
    return true;
}

static bool is_whole(struct job *job, GError **error)
{
    guard_stop(job->guard);
    return guard_check(job->guard, error) && check_is_there(job, error);
}

bool job_end(struct job *job, GError **error)
{
    const struct point_request *request = job->request;
    bool whole;

    if (!job->guard)
        return remove_file(job->socket, error);
    whole = is_whole(job, error);
    if (!domain_backup_end(request->domain, whole ? error : NULL) ||
        !guard_resume(request, whole ? error : NULL))
        return false;
    g_clear_pointer(&job->guard, guard_free);
    /* libvirt removes the scratch files; QEMU leaves the socket. */
    return remove_file(job->socket, whole ? error : NULL) && whole;
}

bool job_watch(struct job *job, GError **error)
{
    return guard_check(job->guard, error);
}

/* NBD may notice the end first. */
void job_explain(struct job *job, GError **error)
{
    int64_t deadline_ms = time_monotonic_ms() + EXPLAIN_MS;
    GError *why = NULL;

    if (!job->guard || !error || !error_is(*error, ERROR_HYPERVISOR))
        return;
    while (is_whole(job, &why)) {
        if (time_monotonic_ms() >= deadline_ms)
            return;
        g_usleep(20 * 1000);
    }
    g_clear_error(error);
    g_propagate_error(error, why);
}

void job_free(struct job *job)
{
    if (!job)
        return;
    /* What fails here the next run finds: in the journal, and in the names of checkpoints. */
    job_thaw(job, NULL);
    job_end(job, NULL);
    if (!job->guard && !job->may_be_frozen)
        job_forget(job->request, NULL);
    if (job->checkpoint && !job->keep_checkpoint)
        domain_checkpoint_delete(job->request->domain, job->checkpoint, NULL);
    guard_free(job->guard);
    watchdog_free(job->watchdog);
    g_free(job->checkpoint);
    g_free(job->socket);
    g_hash_table_unref(job->scratch);
    g_free(job);
}

/* --- what others have left --------------------------------------------------------------------- */

/* Where its reader connects tells whose it is, as far as anything does. */
static bool fail_foreign_job(const struct point_request *request, const char *xml_text,
                             GError **error)
{
    AUTO(xml) xml = xml_parse(xml_text, "the backup job", NULL);
    g_autofree char *socket = xml ? xml_string(xml_root(xml), "server/@socket") : NULL;
    g_autofree char *port = xml ? xml_string(xml_root(xml), "server/@port") : NULL;
    g_autofree char *where =
        socket ? g_strdup(socket) : g_strdup_printf("port %s", port ? port : "unknown");

    return fail(error, ERROR_CONFLICT,
                "another program is backing up this VM (it reads at %s); wait for it, or end its "
                "job with: virsh domjobabort %s",
                where, domain_name(request->domain));
}

static bool end_left_job(const struct point_request *request, GError **error)
{
    g_autofree char *xml = NULL;

    if (!domain_backup_xml(request->domain, &xml, error))
        return false;
    if (xml && !job_is_ours(request, xml))
        return fail_foreign_job(request, xml, error);
    if (xml) {
        progress_note(request->progress, "%s: ending the backup job of a run that was killed",
                      domain_name(request->domain));
        return domain_backup_end(request->domain, error);
    }
    return check_idle(request, error);
}

/* Thaw what a killed run has left frozen, if the guest still lives the same life. */
static bool thaw_left(const struct point_request *request, const json_t *entry, GError **error)
{
    g_autofree char *life = vm_life(request->domain);

    return !json_is_true(json_object_get(entry, "frozen")) ||
           g_strcmp0(json_get_string(entry, "life"), life) != 0 ||
           thaw_guest(request->domain, error);
}

bool job_reconcile(const struct point_request *request, GError **error)
{
    json_auto_t *entry = NULL;
    size_t i;
    json_t *path;

    if (!catalog_get(request->catalog, CATALOG_CAPTURES, domain_uuid(request->domain), &entry,
                     error) ||
        !end_left_job(request, error))
        return false;
    if (!entry)
        return true;
    if (!thaw_left(request, entry, error))
        return false;
    if (!guard_resume(request, error) || !remove_file(json_get_string(entry, "socket"), error))
        return false;
    json_array_foreach(json_object_get(entry, "scratch"), i,
                       path) if (!remove_file(json_string_value(path), error)) return false;
    return job_forget(request, error);
}
