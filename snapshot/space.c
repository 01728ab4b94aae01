/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/space.h"

#include "snapshot/cluster.h"

#define RESERVE_MIN (UINT64_C(64) << 20)
#define RESERVE_MAX (UINT64_C(1) << 30)
#define RESERVE_SHARE 20 /* one 20th of the file system */
#define READ_SHARE 100   /* one 100th of what is read is overwritten meanwhile */

/* Header, L1 table, refcount table and a refcount block. */
#define IMAGE_MIN_BYTES (UINT64_C(4) * CLUSTER_BYTES)

static uint64_t reserve_of(uint64_t total)
{
    return CLAMP(total / RESERVE_SHARE, RESERVE_MIN, RESERVE_MAX);
}

bool space_left(const char *dir, uint64_t *bytes, GError **error)
{
    uint64_t free_bytes, total;

    if (!disk_space(dir, &free_bytes, &total, error))
        return false;
    *bytes = free_bytes - MIN(free_bytes, reserve_of(total));
    return true;
}

/* --- estimates -------------------------------------------------------------------------------- */

/* What is not known counts nothing: a wrong alarm costs a point. */
static void add_disk(const struct point_request *request, const struct disk_reference *disk,
                     struct space_need *need)
{
    uint64_t capacity, allocation;

    need->disks++;
    if (disk->mode == DISK_INCREMENT ||
        !domain_disk_bytes(request->domain, disk->target, &capacity, &allocation, NULL))
        return;
    need->read += MIN(allocation, capacity);
    if (disk->mode == DISK_FULL)
        need->sent += MIN(allocation, capacity);
}

/* What bitmaps call changed is read, and sent; of disks that are compared it may not have. */
static void add_point(const struct point_request *request, const struct reference *reference,
                      struct space_need *need)
{
    uint64_t dirty = 0;

    need->points++;
    if (reference->checkpoint &&
        snapshot_dirty_bytes(request->domain, reference->checkpoint, &dirty)) {
        need->read += dirty;
        need->sent += dirty;
    }
    for (unsigned i = 0; i < reference->disks->len; i++)
        add_disk(request, reference->disks->pdata[i], need);
}

/* --- the two places --------------------------------------------------------------------------- */

/* "this point needs"; g_free. */
static char *who_needs(const struct space_need *need)
{
    return need->points == 1 ? g_strdup("this point needs")
                             : g_strdup_printf("the %u points that are taken at the same time need",
                                               need->points);
}

static bool check_scratch(const struct point_request *request, const struct space_need *need,
                          GError **error)
{
    uint64_t free_bytes, total, needed;

    if (!disk_space(request->scratch_dir, &free_bytes, &total, error))
        return false;
    needed = reserve_of(total) + need->read / READ_SHARE;
    if (free_bytes >= needed)
        return true;
    g_autofree char *has = bytes_format(free_bytes);
    g_autofree char *wants = bytes_format(needed);
    g_autofree char *who = who_needs(need);

    return fail(error, ERROR_NO_SPACE,
                "%s has %s free, and %s %s there for what is overwritten meanwhile; make room, or "
                "set scratch in drctl.conf to a larger file system",
                request->scratch_dir, has, who, wants);
}

static bool check_destination(const struct point_request *request, const struct space_need *need,
                              GError **error)
{
    uint64_t certain = need->disks * IMAGE_MIN_BYTES;
    struct store_info info;

    if (!store_info(request->destination, &info, error))
        return false;
    g_autofree char *has = bytes_format(info.free_bytes);
    g_autofree char *who = who_needs(need);
    uint64_t free_bytes = info.free_bytes;

    store_info_clear(&info);
    if (free_bytes < certain) {
        g_autofree char *wants = bytes_format(certain);

        return fail(error, ERROR_NO_SPACE,
                    "%s has %s free, and %s %s even if all data can be compressed; make room there",
                    request->destination->label, has, who, wants);
    }
    if (free_bytes < need->sent) {
        g_autofree char *read = bytes_format(need->sent);

        progress_note(request->progress,
                      "%s: %s are to be read and %s has %s free: there is room for the point only "
                      "if it compresses well",
                      domain_name(request->domain), read, request->destination->label, has);
    }
    return true;
}

bool space_check(const struct point_request *request, const struct reference *reference,
                 struct space_need *need, GError **error)
{
    struct space_need with = *need;
    uint64_t read = with.read;

    add_point(request, reference, &with);
    /* Nobody overwrites what is read of a VM that is off. */
    if (!reference->running)
        with.read = read;
    else if (!check_scratch(request, &with, error))
        return false;
    if (!check_destination(request, &with, error))
        return false;
    *need = with;
    return true;
}
