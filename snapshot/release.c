/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU refuses to revert a disk to an internal snapshot as long as it has a dirty bitmap. So all of
 * ours are removed, and with them what points know of their VM; the points themselves are not
 * touched.
 */
#include "snapshot/disks.h"
#include "snapshot/job.h"

#include <string.h>

#define QEMU_IMG_TIMEOUT_S 60

static void release_bitmap_free(void *data)
{
    struct release_bitmap *bitmap = data;

    g_free(bitmap->target);
    g_free(bitmap->image);
    g_free(bitmap->name);
    g_free(bitmap);
}

void release_clear(struct release *release)
{
    g_clear_pointer(&release->checkpoints, g_strfreev);
    g_clear_pointer(&release->bitmaps, g_ptr_array_unref);
}

static bool is_ours(const char *name)
{
    return name && g_str_has_prefix(name, CHECKPOINT_PREFIX);
}

/* --- what is there --------------------------------------------------------------------------- */

static bool list_checkpoints(struct domain *domain, struct release *release, GError **error)
{
    g_auto(GStrv) names = domain_checkpoints(domain, error);
    g_autoptr(GStrvBuilder) ours = g_strv_builder_new();

    if (!names)
        return false;
    for (char **name = names; *name; name++)
        if (is_ours(*name))
            g_strv_builder_add(ours, *name);
    release->checkpoints = g_strv_builder_end(ours);
    return true;
}

/* Nothing else may have the image open: qemu-img looks for the lock. */
static json_t *image_info(const char *image, GError **error)
{
    const char *const argv[] = {"qemu-img", "info", "--output=json", "-f", "qcow2", image, NULL};
    g_autofree char *text = NULL;

    return process_run(argv, QEMU_IMG_TIMEOUT_S, &text, error)
               ? json_parse(text, strlen(text), "qemu-img info", error)
               : NULL;
}

static bool list_bitmaps_of(const struct vm_disk *disk, struct release *release, GError **error)
{
    json_auto_t *info = image_info(disk->source, error);
    const json_t *specific = json_object_get(info, "format-specific");
    json_t *list = json_object_get(json_object_get(specific, "data"), "bitmaps"), *entry;
    size_t i;

    json_array_foreach(list, i, entry)
    {
        const char *name = json_get_string(entry, "name");
        struct release_bitmap *bitmap;

        if (!is_ours(name))
            continue;
        bitmap = g_new0(struct release_bitmap, 1);
        bitmap->target = g_strdup(disk->target);
        bitmap->image = g_strdup(disk->source);
        bitmap->name = g_strdup(name);
        g_ptr_array_add(release->bitmaps, bitmap);
    }
    return info != NULL;
}

static bool list_bitmaps(struct domain *domain, struct release *release, GError **error)
{
    g_autofree char *xml = domain_xml(domain, DOMAIN_XML_INACTIVE, error);
    g_autoptr(GPtrArray) disks = xml ? vm_disks(domain_host(domain), xml, error) : NULL;

    for (unsigned i = 0; disks && i < disks->len; i++) {
        const struct vm_disk *disk = disks->pdata[i];

        if (!disk->skipped && disk->tracked && disk->source &&
            !list_bitmaps_of(disk, release, error)) {
            g_prefix_error(error, "disk %s: ", disk->target);
            return false;
        }
    }
    return disks != NULL;
}

static bool look(struct domain *domain, struct release *release, GError **error)
{
    enum domain_state state;

    if (!domain_state(domain, &state, error) || !list_checkpoints(domain, release, error))
        return false;
    release->running = state != DOMAIN_OFF;
    /* Of a VM that runs the bitmaps are QEMU's, and go with their checkpoints. */
    return release->running || list_bitmaps(domain, release, error);
}

/* --- away with it ---------------------------------------------------------------------------- */

static bool remove_bitmap(const struct release_bitmap *bitmap, GError **error)
{
    const char *const argv[] = {"qemu-img", "bitmap",      "--remove",   "-f",
                                "qcow2",    bitmap->image, bitmap->name, NULL};

    return process_run(argv, QEMU_IMG_TIMEOUT_S, NULL, error);
}

/* Bitmaps first: killed in between, the next point or the next release finds a checkpoint without
 * them, which both can do with. */
static bool remove_all(struct domain *domain, const struct release *release, GError **error)
{
    for (unsigned i = 0; i < release->bitmaps->len; i++)
        if (!remove_bitmap(release->bitmaps->pdata[i], error))
            return false;
    for (char **name = release->checkpoints; *name; name++)
        if (!domain_checkpoint_delete(domain, *name, error))
            return false;
    return true;
}

static struct file_lock *lock_vm(const struct point_request *request, GError **error)
{
    g_autofree char *path = g_strdup_printf("%s/vm-%s.lock", catalog_lock_dir(request->catalog),
                                            domain_uuid(request->domain));
    g_autofree char *what = g_strdup_printf("VM %s", domain_name(request->domain));

    return file_lock_take(path, what, error);
}

static bool release_all(const struct point_request *request, bool dry_run, struct release *release,
                        GError **error)
{
    AUTO(file_lock) lock = lock_vm(request, error);

    if (!lock || (!dry_run && !job_reconcile(request, error)))
        return false;
    return look(request->domain, release, error) &&
           (dry_run || remove_all(request->domain, release, error));
}

bool snapshot_release(const struct point_request *request, bool dry_run, struct release *release,
                      GError **error)
{
    *release = (struct release){.bitmaps = g_ptr_array_new_with_free_func(release_bitmap_free)};
    if (release_all(request, dry_run, release, error))
        return true;
    release_clear(release);
    return false;
}
