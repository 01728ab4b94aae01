/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/reference.h"

/* What the image of DISK is known by; "" if it has no path. */
static const char *disk_identity(const struct vm_disk *disk)
{
    return disk->images->len > 0 ? disk->images->pdata[0] : "";
}

char *reference_describe(const GPtrArray *disks)
{
    json_auto_t *images = json_object();

    for (unsigned i = 0; i < disks->len; i++) {
        const struct vm_disk *disk = disks->pdata[i];

        if (!disk->skipped && disk->tracked)
            json_set_string(images, disk->target, disk_identity(disk));
    }
    return json_text(images, 0);
}

/* Targets with a bitmap and their images, from <domaincheckpoint>. Without a description that is
 * ours nothing is covered. */
static GHashTable *bitmap_targets(struct domain *domain, const char *checkpoint, GError **error)
{
    g_autofree char *text = domain_checkpoint_xml(domain, checkpoint, false, error);
    AUTO(xml) xml = text ? xml_parse(text, checkpoint, error) : NULL;

    if (!xml)
        return NULL;
    g_autofree char *description = xml_string(xml_root(xml), "/domaincheckpoint/description");
    json_auto_t *images =
        description ? json_parse(description, strlen(description), checkpoint, NULL) : NULL;
    g_autoptr(GPtrArray) disks =
        xml_find_all(xml_root(xml), "/domaincheckpoint/disks/disk[@checkpoint='bitmap']");
    GHashTable *targets = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

    for (unsigned i = 0; i < disks->len; i++) {
        char *name = xml_attr(disks->pdata[i], "name");
        const char *image = name ? json_string_value(json_object_get(images, name)) : NULL;

        if (image)
            g_hash_table_insert(targets, name, g_strdup(image));
        else
            g_free(name);
    }
    return targets;
}

static const struct manifest *find_point(const GPtrArray *points, const char *id)
{
    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];

        if (g_str_equal(manifest->point, id))
            return manifest;
    }
    return NULL;
}

/* Is every point there that MANIFEST's disks are based on? Bases are older, so this ends. */
static bool has_its_bases(const GPtrArray *points, const struct manifest *manifest)
{
    for (unsigned i = 0; i < manifest->disks->len; i++) {
        const struct manifest_disk *disk = manifest->disks->pdata[i];
        const char *target = disk->target;

        while (disk && disk->base) {
            const struct manifest *base = find_point(points, disk->base);

            disk = base ? manifest_disk(base, target) : NULL;
        }
        if (!disk)
            return false;
    }
    return true;
}

/* The newest of POINTS whose checkpoint is among NAMES; steals it from POINTS. *COMPLETE: its bases
 * are there. */
static struct manifest *newest_tracked(GPtrArray *points, char **names, bool *complete)
{
    for (unsigned i = 0; i < points->len; i++) {
        struct manifest *manifest = points->pdata[i];

        if (manifest->checkpoint &&
            g_strv_contains((const char *const *)names, manifest->checkpoint)) {
            *complete = has_its_bases(points, manifest);
            g_ptr_array_set_free_func(points, NULL);
            g_ptr_array_remove_index(points, i);
            g_ptr_array_set_free_func(points, (GDestroyNotify)manifest_free);
            return manifest;
        }
    }
    return NULL;
}

static bool find_base(struct reference *reference, struct domain *domain, GPtrArray *points,
                      bool force_full, GError **error)
{
    g_auto(GStrv) names = domain_checkpoints(domain, error);
    bool complete = false;

    if (!names)
        return false;
    if (points->len == 0) {
        reference->reason = g_strdup("first point: read in full");
        return true;
    }
    reference->newest = g_strdup(((struct manifest *)points->pdata[0])->point);
    if (force_full) {
        reference->reason = g_strdup("full point as asked");
        return true;
    }
    reference->base = newest_tracked(points, names, &complete);
    if (!reference->base) {
        reference->reason =
            g_strdup("the VM has lost the checkpoint of its last point: read in full");
        return true;
    }
    if (!complete) {
        reference_drop_base(reference, "a point that the last one is based on is missing at the "
                                       "destination: read in full");
        return true;
    }
    reference->reason = g_strdup_printf("changes since %s", reference->base->point);
    reference->covered = bitmap_targets(domain, reference->base->checkpoint, error);
    return reference->covered != NULL;
}

struct reference *reference_choose(struct domain *domain, struct store *destination,
                                   bool force_full, GError **error)
{
    AUTO(reference) reference = g_new0(struct reference, 1);
    struct store_info info = {0};

    if (!store_info(destination, &info, error))
        return NULL;
    reference->tag = g_strdup_printf(CHECKPOINT_PREFIX "%.8s-", info.uuid);
    store_info_clear(&info);
    g_autoptr(GPtrArray) points = store_points(destination, domain_uuid(domain), error);

    if (!points || !find_base(reference, domain, points, force_full, error))
        return NULL;
    return g_steal_pointer(&reference);
}

void reference_drop_base(struct reference *reference, const char *reason)
{
    manifest_free(g_steal_pointer(&reference->base));
    g_clear_pointer(&reference->covered, g_hash_table_unref);
    g_free(reference->reason);
    reference->reason = g_strdup(reason);
}

void reference_free(struct reference *reference)
{
    if (!reference)
        return;
    g_free(reference->tag);
    g_free(reference->newest);
    manifest_free(reference->base);
    g_clear_pointer(&reference->covered, g_hash_table_unref);
    g_free(reference->reason);
    g_free(reference);
}

static bool is_same_image(const struct vm_disk *disk, const char *identity)
{
    for (unsigned i = 0; i < disk->images->len; i++)
        if (g_str_equal(disk->images->pdata[i], identity))
            return true;
    return disk->images->len == 0 && *identity == '\0';
}

bool reference_covers(const struct reference *reference, const struct vm_disk *disk)
{
    const char *identity =
        reference->base ? g_hash_table_lookup(reference->covered, disk->target) : NULL;

    return identity && disk->tracked && is_same_image(disk, identity) &&
           manifest_disk(reference->base, disk->target);
}

char *reference_new_checkpoint(const struct reference *reference, const char *point)
{
    return g_strdup_printf("%s%s-%08x", reference->tag, point, g_random_int());
}

bool reference_sweep(const struct reference *reference, struct domain *domain, const char *keep,
                     GError **error)
{
    g_auto(GStrv) names = domain_checkpoints(domain, error);

    if (!names)
        return false;
    for (char **name = names; *name; name++)
        if (g_str_has_prefix(*name, reference->tag) && g_strcmp0(*name, keep) != 0 &&
            !domain_checkpoint_delete(domain, *name, error))
            return false;
    return true;
}
