/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/offline.h"

#include <string.h>

/* Two writes can fall into one tick of a file's times: what has just changed may change unseen. */
#define SETTLED_MS 2000

static char *socket_dir(const struct point_request *request)
{
    return g_build_filename(request->run_dir, domain_uuid(request->domain), "off", NULL);
}

bool offline_sweep(const struct point_request *request, GError **error)
{
    g_autofree char *dir = socket_dir(request);

    return tree_remove(dir, error);
}

void offline_free(struct offline *offline)
{
    if (!offline)
        return;
    g_hash_table_unref(offline->children);
    tree_remove(offline->dir, NULL);
    g_free(offline->dir);
    g_hash_table_unref(offline->stamps);
    json_decref(offline->settled);
    g_free(offline);
}

/* --- what nobody has written to --------------------------------------------------------------- */

static char *record_key(const struct point_request *request, const struct reference *reference)
{
    return g_strdup_printf("%s/%s", domain_uuid(request->domain), reference->tag);
}

/* What the disk looked like when the point that it is based on was taken; borrowed from RECORD. */
static const char *stamp_at_base(const json_t *record, const struct disk_reference *disk)
{
    const struct history_layer *base =
        disk->chain ? &g_array_index(disk->chain, struct history_layer, 0) : NULL;

    return base && g_strcmp0(json_get_string(record, "point"), base->point) == 0
               ? json_get_string(json_object_get(record, "stamps"), disk->target)
               : NULL;
}

static void look_at_stamp(struct offline *offline, const json_t *record,
                          const struct vm_disk *vm_disk, struct disk_reference *disk)
{
    int64_t now_ms = time_now_ms(), changed_ms;
    char *stamp = vm_disk_stamp(vm_disk, &changed_ms);

    disk->unchanged = stamp && !disk->lost && g_strcmp0(stamp, stamp_at_base(record, disk)) == 0;
    if (stamp && changed_ms < now_ms - SETTLED_MS)
        json_set_string(offline->settled, disk->target, stamp);
    g_hash_table_insert(offline->stamps, disk->target, stamp);
}

struct offline *offline_new(const struct point_request *request, const struct reference *reference,
                            const GPtrArray *disks, GError **error)
{
    AUTO(offline) offline = g_new0(struct offline, 1);
    g_autofree char *key = record_key(request, reference);
    json_auto_t *record = NULL;

    offline->request = request;
    offline->disks = disks;
    offline->dir = socket_dir(request);
    offline->children =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)child_free);
    offline->stamps = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, g_free);
    offline->settled = json_object();
    if (!catalog_get(request->catalog, CATALOG_IMAGES, key, &record, error))
        return NULL;
    for (unsigned i = 0; i < disks->len; i++) {
        const struct vm_disk *disk = disks->pdata[i];

        if (!disk->skipped)
            look_at_stamp(offline, record, disk, reference_disk(reference, disk->target));
    }
    return g_steal_pointer(&offline);
}

bool offline_remember(const struct offline *offline, const struct reference *reference,
                      const char *point, GError **error)
{
    g_autofree char *key = record_key(offline->request, reference);
    json_auto_t *record = json_object();

    json_set_string(record, "point", point);
    json_object_set(record, "stamps", offline->settled);
    return catalog_put(offline->request->catalog, CATALOG_IMAGES, key, record, error);
}

/* --- serving ---------------------------------------------------------------------------------- */

/* As JSON, which needs no quoting of paths, and without a driver for the file: QEMU finds out
 * whether it is a device. */
static char *image_description(const struct vm_disk *disk)
{
    json_auto_t *image = json_object();
    g_autofree char *text = NULL;

    json_set_string(image, "driver", disk->format);
    json_object_set_new(image, "read-only", json_true());
    json_object_set_new(image, "force-share", json_true());
    json_set_string(image, "file.filename", disk->source);
    text = json_text(image, 0);
    return g_strconcat("json:", text, NULL);
}

static const struct vm_disk *find_disk(const struct offline *offline, const char *target)
{
    unsigned i = 0;

    while (!g_str_equal(((const struct vm_disk *)offline->disks->pdata[i])->target, target))
        i++;
    return offline->disks->pdata[i];
}

char *offline_serve(struct offline *offline, const struct reference *reference, const char *target,
                    GError **error)
{
    const struct vm_disk *disk = find_disk(offline, target);
    g_autofree char *socket = g_build_filename(offline->dir, target, NULL);
    g_autofree char *image = image_description(disk);
    struct child *child;

    if (g_hash_table_contains(offline->children, target))
        return g_steal_pointer(&socket);
    child = snapshot_serve(image, target, socket,
                           reference_covers(reference, disk) ? reference->checkpoint : NULL, error);
    if (!child)
        return NULL;
    g_hash_table_insert(offline->children, disk->target, child);
    return g_steal_pointer(&socket);
}

bool offline_begin(struct offline *offline, GError **error)
{
    offline->time_ms = time_now_ms();
    offline->consistency =
        domain_was_shut_down(offline->request->domain) ? CONSISTENCY_FILESYSTEM : CONSISTENCY_CRASH;
    return dir_make(offline->request->run_dir, 0711, error) && dir_make(offline->dir, 0700, error);
}

/* --- was it still what it was? ---------------------------------------------------------------- */

bool offline_watch(struct offline *offline, GError **error)
{
    enum domain_state state;

    if (!domain_state(offline->request->domain, &state, error))
        return false;
    return state == DOMAIN_OFF ||
           fail(error, ERROR_CONFLICT, "the VM was started while its disks were read");
}

bool offline_end(struct offline *offline, GError **error)
{
    g_hash_table_remove_all(offline->children);
    if (!offline_watch(offline, error))
        return false;
    for (unsigned i = 0; i < offline->disks->len; i++) {
        const struct vm_disk *disk = offline->disks->pdata[i];
        const char *before = g_hash_table_lookup(offline->stamps, disk->target);
        int64_t changed_ms;
        g_autofree char *now = before ? vm_disk_stamp(disk, &changed_ms) : NULL;

        if (g_strcmp0(before, now) != 0)
            return fail(error, ERROR_CONFLICT,
                        "somebody wrote to disk %s (%s) while it was read, though the VM is off; "
                        "try again when that is done",
                        disk->target, disk->source);
    }
    return true;
}
