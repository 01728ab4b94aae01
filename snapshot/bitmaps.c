/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/bitmaps.h"

struct bitmap {
    char *image; /* identity of the image that it was made of, "" of a network disk */
    bool good;
};

/* Beside the targets; no target is called so. */
#define LIFE_KEY "/life"

struct bitmaps {
    char *checkpoint;
    bool survived_a_stop;
    bool unsure;           /* which are good */
    GHashTable *by_target; /* target -> struct bitmap */
};

/* --- what a checkpoint remembers ------------------------------------------------------------- */

/* What the image of DISK is known by; "" if it has no path. */
static const char *disk_identity(const struct vm_disk *disk)
{
    return disk->images->len > 0 ? disk->images->pdata[0] : "";
}

char *bitmaps_describe(struct domain *domain, const GPtrArray *disks)
{
    json_auto_t *images = json_object();
    g_autofree char *life = vm_life(domain);

    json_set_string(images, LIFE_KEY, life);

    for (unsigned i = 0; i < disks->len; i++) {
        const struct vm_disk *disk = disks->pdata[i];

        if (!disk->skipped && disk->tracked)
            json_set_string(images, disk->target, disk_identity(disk));
    }
    return json_text(images, 0);
}

/* --- reading it ------------------------------------------------------------------------------ */

static void bitmap_free(void *data)
{
    struct bitmap *bitmap = data;

    g_free(bitmap->image);
    g_free(bitmap);
}

void bitmaps_free(struct bitmaps *bitmaps)
{
    if (!bitmaps)
        return;
    g_free(bitmaps->checkpoint);
    g_hash_table_unref(bitmaps->by_target);
    g_free(bitmaps);
}

/* Without a description that is ours there is no bitmap to rely on. Of a running VM libvirt tells
 * the size of good bitmaps only. */
static void add_bitmap(struct bitmaps *bitmaps, const struct xml_node *disk, const json_t *images)
{
    g_autofree char *target = xml_attr(disk, "name");
    g_autofree char *size = xml_attr(disk, "size");
    const char *image = target ? json_string_value(json_object_get(images, target)) : NULL;
    struct bitmap *bitmap;

    if (!image)
        return;
    bitmap = g_new0(struct bitmap, 1);
    bitmap->image = g_strdup(image);
    bitmap->good = size != NULL;
    g_hash_table_insert(bitmaps->by_target, g_steal_pointer(&target), bitmap);
}

/* QEMU may be unable to tell of any disk, because an overlay has grown beyond the image below it, and
 * bitmaps of different sizes do not add up: then we are UNSURE. */
static char *checkpoint_text(struct domain *domain, const char *checkpoint, bool running,
                             bool *unsure, GError **error)
{
    g_autoptr(GError) why = NULL;
    char *text = domain_checkpoint_xml(domain, checkpoint, running, &why);

    *unsure = !text && running && error_is(why, ERROR_HYPERVISOR);
    if (*unsure)
        return domain_checkpoint_xml(domain, checkpoint, false, error);
    if (!text)
        g_propagate_error(error, g_steal_pointer(&why));
    return text;
}

struct bitmaps *bitmaps_look(struct domain *domain, const char *checkpoint, bool running,
                             GError **error)
{
    bool unsure;
    g_autofree char *text = checkpoint_text(domain, checkpoint, running, &unsure, error);
    AUTO(xml) xml = text ? xml_parse(text, checkpoint, error) : NULL;
    g_autofree char *life = vm_life(domain);
    struct bitmaps *bitmaps;

    if (!xml)
        return NULL;
    g_autofree char *description = xml_string(xml_root(xml), "/domaincheckpoint/description");
    json_auto_t *images =
        description ? json_parse(description, strlen(description), checkpoint, NULL) : NULL;
    g_autoptr(GPtrArray) disks =
        xml_find_all(xml_root(xml), "/domaincheckpoint/disks/disk[@checkpoint='bitmap']");

    bitmaps = g_new0(struct bitmaps, 1);
    bitmaps->checkpoint = g_strdup(checkpoint);
    bitmaps->unsure = unsure;
    bitmaps->survived_a_stop = g_strcmp0(json_get_string(images, LIFE_KEY), life) != 0;
    bitmaps->by_target = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, bitmap_free);
    for (unsigned i = 0; i < disks->len; i++)
        add_bitmap(bitmaps, disks->pdata[i], images);
    return bitmaps;
}

/* The image may have been given overlays since: QEMU has taken its bitmap along. Of a VM that is off
 * only the bitmap of the top image can be read. */
static bool lies_upon(const struct vm_disk *disk, const char *identity)
{
    if (disk->bitmaps)
        return g_str_equal(disk_identity(disk), identity);
    for (unsigned i = 0; i < disk->images->len; i++)
        if (g_str_equal(disk->images->pdata[i], identity))
            return true;
    return disk->images->len == 0 && *identity == '\0';
}

static bool is_good(const struct bitmaps *bitmaps, const struct bitmap *bitmap,
                    const struct vm_disk *disk)
{
    if (disk->bitmaps)
        return g_ptr_array_find_with_equal_func(disk->bitmaps, bitmaps->checkpoint, g_str_equal,
                                                NULL);
    return bitmaps->unsure ? disk->images->len <= 1 : bitmap->good;
}

bool bitmaps_survived_a_stop(const struct bitmaps *bitmaps)
{
    return bitmaps->survived_a_stop;
}

bool bitmaps_are_unsure(const struct bitmaps *bitmaps)
{
    return bitmaps->unsure;
}

const char *bitmaps_lack(const struct bitmaps *bitmaps, const struct vm_disk *disk)
{
    const struct bitmap *bitmap = g_hash_table_lookup(bitmaps->by_target, disk->target);

    if (!bitmap)
        return "there is no record of its changes since the last point";
    if (!lies_upon(disk, bitmap->image))
        return "it has another image than at the last point";
    if (!is_good(bitmaps, bitmap, disk) && bitmaps->unsure)
        return "QEMU cannot tell its changes across the images that it consists of";
    if (!is_good(bitmaps, bitmap, disk))
        return "the record of its changes is lost or broken (QEMU was killed, the host lost power)";
    return NULL;
}
