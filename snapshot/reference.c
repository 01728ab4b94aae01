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

/* The points at a destination, by VM. Those of other VMs are asked for when a disk stands on one. */
struct known_points {
    struct store *destination;
    GHashTable *of_vm; /* UUID -> GPtrArray of struct manifest */
};

static const GPtrArray *points_of(struct known_points *known, const char *vm_uuid, GError **error)
{
    GPtrArray *points = g_hash_table_lookup(known->of_vm, vm_uuid);

    if (points)
        return points;
    points = store_points(known->destination, vm_uuid, error);
    if (points)
        g_hash_table_insert(known->of_vm, g_strdup(vm_uuid), points);
    return points;
}

/* Is every point there that DISK is based on? Bases are older, so this ends. */
static bool check_chain(struct known_points *known, const struct manifest *manifest,
                        const struct manifest_disk *disk, bool *complete, GError **error)
{
    while (disk && disk->base) {
        const GPtrArray *points = points_of(known, manifest_base_vm(manifest, disk), error);

        if (!points)
            return false;
        manifest = find_point(points, disk->base);
        disk = manifest ? manifest_disk(manifest, manifest_base_target(disk)) : NULL;
    }
    *complete = disk != NULL;
    return true;
}

static bool check_chains(struct known_points *known, const struct manifest *manifest,
                         bool *complete, GError **error)
{
    *complete = true;
    for (unsigned i = 0; *complete && i < manifest->disks->len; i++)
        if (!check_chain(known, manifest, manifest->disks->pdata[i], complete, error))
            return false;
    return true;
}

static bool has_its_bases(struct store *destination, GPtrArray *points,
                          const struct manifest *manifest, bool *complete, GError **error)
{
    struct known_points known = {
        destination,
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_ptr_array_unref)};
    bool known_all;

    g_hash_table_insert(known.of_vm, g_strdup(manifest->uuid), g_ptr_array_ref(points));
    known_all = check_chains(&known, manifest, complete, error);
    g_hash_table_unref(known.of_vm);
    return known_all;
}

/* The newest of POINTS whose checkpoint is among NAMES, or NULL; borrowed. */
static struct manifest *newest_tracked(GPtrArray *points, char **names)
{
    for (unsigned i = 0; i < points->len; i++) {
        struct manifest *manifest = points->pdata[i];

        if (manifest->checkpoint &&
            g_strv_contains((const char *const *)names, manifest->checkpoint))
            return manifest;
    }
    return NULL;
}

/* Go on from TRACKED, one of POINTS, if it can be. */
static bool take_base(struct reference *reference, struct domain *domain, struct store *destination,
                      GPtrArray *points, struct manifest *tracked, GError **error)
{
    bool complete;
    unsigned at;

    if (!has_its_bases(destination, points, tracked, &complete, error))
        return false;
    if (!complete) {
        reference->reason = g_strdup(
            "a point that the last one is based on is missing at the destination: read in full");
        return true;
    }
    reference->covered = bitmap_targets(domain, tracked->checkpoint, error);
    if (!reference->covered)
        return false;
    reference->reason = g_strdup_printf("changes since %s", tracked->point);
    g_ptr_array_find(points, tracked, &at);
    reference->base = g_ptr_array_steal_index(points, at);
    return true;
}

static bool find_base(struct reference *reference, struct domain *domain, struct store *destination,
                      GPtrArray *points, bool force_full, GError **error)
{
    g_auto(GStrv) names = domain_checkpoints(domain, error);
    struct manifest *tracked;

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
    tracked = newest_tracked(points, names);
    if (tracked)
        return take_base(reference, domain, destination, points, tracked, error);
    reference->reason = g_strdup("the VM has lost the checkpoint of its last point: read in full");
    return true;
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

    if (!points || !find_base(reference, domain, destination, points, force_full, error))
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
