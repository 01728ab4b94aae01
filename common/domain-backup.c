/* SPDX-License-Identifier: Apache-2.0 */
/* The backup half of host.h: jobs and checkpoints of a domain. */
#include "common/error.h"
#include "common/format.h"
#include "common/host-private.h"
#include "common/xml.h"

enum { JOB_END_DEADLINE_MS = 30 * 1000, JOB_POLL_US = 10 * 1000 };

bool domain_backup_begin(struct domain *domain, const char *backup_xml, const char *checkpoint_xml,
                         GError **error)
{
    int code = VIR_ERR_OK;

    if (virDomainBackupBegin(domain->handle, backup_xml, checkpoint_xml, 0) == 0)
        return true;
    code = libvirt_error_code();
    if (code != VIR_ERR_NO_DOMAIN_CHECKPOINT && code != VIR_ERR_CHECKPOINT_INCONSISTENT)
        return domain_fail(domain, error, "begin a backup of");
    return fail(error, ERROR_INTEGRITY, "cannot begin an incremental backup of domain %s at %s: %s",
                domain->name, domain->host->uri, libvirt_error_text());
}

bool domain_backup_xml(struct domain *domain, char **xml, GError **error)
{
    char *text = virDomainBackupGetXMLDesc(domain->handle, 0);

    if (!text && libvirt_error_code() != VIR_ERR_NO_DOMAIN_BACKUP)
        return domain_fail(domain, error, "read the backup job of");
    *xml = text;
    return true;
}

static const char *operation_name(int operation)
{
    switch (operation) {
    case VIR_DOMAIN_JOB_OPERATION_START:
        return "start";
    case VIR_DOMAIN_JOB_OPERATION_SAVE:
        return "save";
    case VIR_DOMAIN_JOB_OPERATION_RESTORE:
        return "restore";
    case VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN:
    case VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT:
        return "migration";
    case VIR_DOMAIN_JOB_OPERATION_SNAPSHOT:
    case VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_REVERT:
    case VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_DELETE:
        return "snapshot";
    case VIR_DOMAIN_JOB_OPERATION_DUMP:
        return "dump";
    case VIR_DOMAIN_JOB_OPERATION_BACKUP:
        return "backup";
    default:
        return "other";
    }
}

bool domain_job(struct domain *domain, const char **job, GError **error)
{
    virTypedParameterPtr params = NULL;
    int count = 0;
    int type = VIR_DOMAIN_JOB_NONE;
    int operation = VIR_DOMAIN_JOB_OPERATION_UNKNOWN;

    if (virDomainGetJobStats(domain->handle, &type, &params, &count, 0) < 0) {
        g_autoptr(GError) problem = NULL;

        domain_fail(domain, &problem, "read the job of");
        if (!domain_is_off(domain)) {
            g_propagate_error(error, g_steal_pointer(&problem));
            return false;
        }
        type = VIR_DOMAIN_JOB_NONE;
    }
    virTypedParamsGetInt(params, count, VIR_DOMAIN_JOB_OPERATION, &operation);
    virTypedParamsFree(params, count);
    *job = type == VIR_DOMAIN_JOB_NONE ? NULL : operation_name(operation);
    return true;
}

/* virDomainAbortJob ends whatever runs, also a migration: only with a backup job may it be called.
 */
static bool backup_is_running(struct domain *domain, bool *running, GError **error)
{
    g_autofree char *xml = NULL;

    if (!domain_backup_xml(domain, &xml, error))
        return false;
    *running = xml != NULL;
    return true;
}

/* This is how clean-up ends, so it does not listen to interrupts. libvirt has removed scratch files
 * and export when neither job nor backup is there any more. */
static bool wait_for_job_end(struct domain *domain, GError **error)
{
    int64_t deadline_ms = time_monotonic_ms() + JOB_END_DEADLINE_MS;

    while (true) {
        const char *job = NULL;
        bool running = false;

        if (!domain_job(domain, &job, error) || !backup_is_running(domain, &running, error))
            return false;
        if (!job && !running)
            return true;
        if (time_monotonic_ms() >= deadline_ms)
            return fail(error, ERROR_HYPERVISOR,
                        "the backup job of domain %s at %s did not end within %d s of its abort",
                        domain->name, domain->host->uri, JOB_END_DEADLINE_MS / 1000);
        g_usleep(JOB_POLL_US);
    }
}

bool domain_backup_end(struct domain *domain, GError **error)
{
    g_autoptr(GError) problem = NULL;
    const char *job = NULL;
    bool running = false;

    if (!backup_is_running(domain, &running, error))
        return false;
    if (!running)
        return true;
    if (virDomainAbortJob(domain->handle) == 0)
        return wait_for_job_end(domain, error);
    domain_fail(domain, &problem, "end the backup job of");
    /* It may be ending by itself, with the guest for instance, or after a begin that failed. */
    if (domain_job(domain, &job, NULL) && !job)
        return wait_for_job_end(domain, error);
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}

char **domain_checkpoints(struct domain *domain, GError **error)
{
    g_autoptr(GStrvBuilder) names = NULL;
    g_autofree virDomainCheckpointPtr *list = NULL;
    int count =
        virDomainListAllCheckpoints(domain->handle, &list, VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL);

    if (count < 0) {
        domain_fail(domain, error, "list the checkpoints of");
        return NULL;
    }
    names = g_strv_builder_new();
    for (int i = 0; i < count; i++) {
        g_strv_builder_add(names, virDomainCheckpointGetName(list[i]));
        virDomainCheckpointFree(list[i]);
    }
    return g_strv_builder_end(names);
}

char *domain_checkpoint_xml(struct domain *domain, const char *name, bool with_size, GError **error)
{
    unsigned flags =
        VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN | (with_size ? VIR_DOMAIN_CHECKPOINT_XML_SIZE : 0);
    g_autoptr(virDomainCheckpoint) checkpoint =
        virDomainCheckpointLookupByName(domain->handle, name, 0);
    char *xml = checkpoint ? virDomainCheckpointGetXMLDesc(checkpoint, flags) : NULL;

    if (!xml)
        domain_fail(domain, error, "read checkpoint %s of", name);
    return xml;
}

bool domain_checkpoint_redefine(struct domain *domain, const char *xml, GError **error)
{
    g_autoptr(virDomainCheckpoint) checkpoint = virDomainCheckpointCreateXML(
        domain->handle, xml,
        VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE | VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE);

    if (checkpoint)
        return true;
    if (libvirt_error_code() != VIR_ERR_CHECKPOINT_INCONSISTENT)
        return domain_fail(domain, error, "redefine a checkpoint of");
    return fail(error, ERROR_INTEGRITY, "cannot redefine a checkpoint of domain %s at %s: %s",
                domain->name, domain->host->uri, libvirt_error_text());
}

static bool discard(virDomainCheckpointPtr checkpoint, unsigned flags)
{
    return virDomainCheckpointDelete(checkpoint, flags) == 0;
}

/* A definition of the checkpoint TEXT with one disk only; g_free. */
static char *definition_of_one_disk(const char *text, const char *target)
{
    AUTO(xml) xml = xml_parse(text, "checkpoint", NULL);
    g_autoptr(GPtrArray) others = NULL;
    struct xml_node *parent = NULL;

    if (!xml)
        return NULL;
    /* Its children have been given to its parent already. */
    parent = xml_find(xml_root(xml), "parent");
    if (parent)
        xml_remove(parent);
    others = xml_find_all(xml_root(xml), "disks/disk");
    for (unsigned i = 0; i < others->len; i++) {
        g_autofree char *name = xml_attr(others->pdata[i], "name");

        xml_set_attr(others->pdata[i], "size", NULL);
        if (g_strcmp0(name, target) == 0)
            continue;
        xml_set_attr(others->pdata[i], "checkpoint", "no");
        xml_set_attr(others->pdata[i], "bitmap", NULL);
    }
    return xml_dump(xml);
}

/* libvirt deletes either the bitmaps of all disks or none, and none when one is missing. Deleting
 * the checkpoint as one of this disk only gets the bitmap away if there is one. */
static bool discard_disk(struct domain *domain, const char *name, const char *text,
                         const char *target, GError **error)
{
    g_autofree char *single = definition_of_one_disk(text, target);
    g_autoptr(virDomainCheckpoint) checkpoint =
        single ? virDomainCheckpointCreateXML(domain->handle, single,
                                              VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE)
               : NULL;

    if (!checkpoint)
        return domain_fail(domain, error, "delete the bitmap %s of disk %s of", name, target);
    return discard(checkpoint, 0) ||
           discard(checkpoint, VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY) ||
           domain_fail(domain, error, "delete the bitmap %s of disk %s of", name, target);
}

static bool discard_disk_by_disk(struct domain *domain, virDomainCheckpointPtr checkpoint,
                                 const char *name, const char *text, GError **error)
{
    AUTO(xml) xml = xml_parse(text, "checkpoint", error);
    g_autoptr(GPtrArray) disks = NULL;
    bool good = true;

    if (!xml)
        return false;
    if (!discard(checkpoint, VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY))
        return domain_fail(domain, error, "forget checkpoint %s of", name);
    disks = xml_find_all(xml_root(xml), "disks/disk[@checkpoint='bitmap']");
    for (unsigned i = 0; i < disks->len && good; i++) {
        g_autofree char *target = xml_attr(disks->pdata[i], "name");

        good = discard_disk(domain, name, text, target, error);
    }
    return good;
}

/* Is a bitmap missing or broken? libvirt gives no code for that (and its text may be translated),
 * but it tells the size of good bitmaps only. */
static bool lacks_a_bitmap(const char *text)
{
    AUTO(xml) xml = xml_parse(text, "checkpoint", NULL);

    return xml && xml_find(xml_root(xml), "disks/disk[@checkpoint='bitmap' and not(@size)]");
}

bool domain_checkpoint_delete(struct domain *domain, const char *name, GError **error)
{
    g_autoptr(virDomainCheckpoint) checkpoint =
        virDomainCheckpointLookupByName(domain->handle, name, 0);
    g_autoptr(GError) problem = NULL;
    g_autofree char *text = NULL;

    if (!checkpoint)
        return libvirt_error_code() == VIR_ERR_NO_DOMAIN_CHECKPOINT ||
               domain_fail(domain, error, "find checkpoint %s of", name);
    /* Without QEMU nobody can remove the bitmaps; they stay in the images, harmless. */
    if (domain_is_off(domain))
        return discard(checkpoint, VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY) ||
               domain_fail(domain, error, "forget checkpoint %s of", name);
    if (discard(checkpoint, 0))
        return true;
    domain_fail(domain, &problem, "delete checkpoint %s of", name);
    text = domain_checkpoint_xml(domain, name, true, NULL);
    if (text && lacks_a_bitmap(text))
        return discard_disk_by_disk(domain, checkpoint, name, text, error);
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}
