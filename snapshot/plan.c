/* SPDX-License-Identifier: Apache-2.0 */
/* What a point would be, without taking it. */
#include "snapshot/capture.h"

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

static GPtrArray *plan_disks(const struct capture *capture)
{
    const char *checkpoint = capture->reference->checkpoint;
    AUTO(xml) sizes = checkpoint ? checkpoint_sizes(capture->request->domain, checkpoint) : NULL;
    GPtrArray *disks = capture_disks(capture);

    for (unsigned i = 0; sizes && i < disks->len; i++) {
        struct point_disk *disk = disks->pdata[i];

        if (disk->mode != DISK_INCREMENT)
            continue;
        disk->read_is_known = true;
        disk->read_bytes = checkpoint_size(sizes, disk->target);
    }
    return disks;
}

static char **skipped_disks(const struct capture *capture)
{
    g_autoptr(GStrvBuilder) skipped = g_strv_builder_new();

    for (unsigned i = 0; i < capture->disks->len; i++) {
        const struct vm_disk *disk = capture->disks->pdata[i];
        g_autofree char *text = g_strdup_printf("%s: %s", disk->target, disk->skipped);

        if (disk->skipped)
            g_strv_builder_add(skipped, text);
    }
    return g_strv_builder_end(skipped);
}

struct point_plan *snapshot_plan_point(const struct point_request *request, GError **error)
{
    AUTO(capture) capture = capture_new(request, error);
    AUTO(point_plan) plan = g_new0(struct point_plan, 1);

    if (!capture || !capture_look(capture, error) || !capture_choose_reference(capture, error))
        return NULL;
    plan->disks = plan_disks(capture);
    plan->base = g_strdup(reference_newest_base(capture->reference));
    plan->reason = capture_reason(capture);
    plan->skipped = skipped_disks(capture);
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
