/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/reference.h"

#include <string.h>

#include "snapshot/bitmaps.h"
#include "snapshot/lost.h"

const char *disk_mode_name(enum disk_mode mode)
{
    static const char *const names[] = {
        [DISK_FULL] = "full", [DISK_INCREMENT] = "increment", [DISK_COMPARE] = "compare"};

    return names[mode];
}

static void disk_reference_free(void *data)
{
    struct disk_reference *disk = data;

    g_free(disk->target);
    g_clear_pointer(&disk->chain, g_array_unref);
    g_clear_pointer(&disk->lost, g_array_unref);
    arrived_free(disk->arrived);
    g_free(disk->why);
    g_free(disk);
}

void reference_free(struct reference *reference)
{
    if (!reference)
        return;
    if (reference->spool_dir)
        tree_remove(reference->spool_dir, NULL);
    g_free(reference->tag);
    g_free(reference->newest);
    g_free(reference->checkpoint);
    history_free(reference->history);
    g_clear_pointer(&reference->disks, g_ptr_array_unref);
    g_free(reference->spool_dir);
    g_free(reference->reason);
    g_free(reference);
}

/* --- choosing -------------------------------------------------------------------------------- */

static void set_mode(struct disk_reference *disk, enum disk_mode mode, const char *why)
{
    disk->mode = mode;
    disk->compared = mode == DISK_COMPARE;
    g_free(disk->why);
    disk->why = g_strdup(why);
    if (mode == DISK_FULL)
        g_clear_pointer(&disk->chain, g_array_unref);
}

/* The newest point that has the disk, and all that it is based on. */
static bool find_base(struct reference *reference, struct disk_reference *disk, const char *vm,
                      GError **error)
{
    const GPtrArray *points = history_points(reference->history);
    const char *why = "new disk";

    for (unsigned i = 0; i < points->len && !disk->chain; i++) {
        const struct manifest *manifest = points->pdata[i];
        g_autoptr(GError) missing = NULL;

        if (!manifest_disk(manifest, disk->target))
            continue;
        disk->chain =
            history_chain(reference->history, vm, manifest->point, disk->target, &missing);
        if (!disk->chain && !error_is(missing, ERROR_NOT_FOUND)) {
            g_propagate_error(error, g_steal_pointer(&missing));
            return false;
        }
        why = "a point that the last one is based on is missing at the destination";
    }
    if (!disk->chain)
        set_mode(disk, DISK_FULL, why);
    return true;
}

static const struct history_layer *base_of(const struct disk_reference *disk)
{
    return &g_array_index(disk->chain, struct history_layer, 0);
}

/* The bitmaps of a checkpoint count from the point that it was made with, whose id is in its name. Is
 * POINT older (< 0), that point, or newer (> 0)? */
static int order_to_maker(const struct reference *reference, const char *point)
{
    return strncmp(point, reference->checkpoint + strlen(reference->tag), strlen(point));
}

static const char *no_checkpoint(const struct reference *reference)
{
    const GPtrArray *points = history_points(reference->history);

    const char *name = ((struct manifest *)points->pdata[0])->checkpoint;

    if (!name)
        return "its last point was taken while the VM was off";
    return g_str_has_prefix(name, reference->tag)
               ? "the VM has lost the checkpoint of its last point"
               : "its last point was copied here from another store";
}

/* A newer base is fine: the bitmaps tell too much then, which comparing finds out. */
static void choose_mode(const struct reference *reference, const struct bitmaps *bitmaps,
                        const struct vm_disk *vm_disk, struct disk_reference *disk)
{
    g_autofree char *no_record =
        vm_disk->tracked ? NULL
                         : g_strdup_printf("%s: no record of changes is possible", vm_disk->format);
    const char *lack = !vm_disk->tracked ? no_record
                       : bitmaps         ? bitmaps_lack(bitmaps, vm_disk)
                                         : no_checkpoint(reference);
    int order = lack ? 0 : order_to_maker(reference, base_of(disk)->point);

    if (!lack && order < 0)
        lack = "there is no record of its changes since the last point";
    if (lack) {
        set_mode(disk, DISK_COMPARE, lack);
        return;
    }
    set_mode(disk, DISK_INCREMENT, NULL);
    disk->needs_digests = bitmaps_survived_a_stop(bitmaps);
    disk->compared = order > 0 || disk->needs_digests;
}

static bool choose_disk(struct reference *reference, const struct point_request *request,
                        const struct bitmaps *bitmaps, const struct vm_disk *vm_disk,
                        GError **error)
{
    struct disk_reference *disk = g_new0(struct disk_reference, 1);

    g_ptr_array_add(reference->disks, disk);
    disk->target = g_strdup(vm_disk->target);
    if (reference->reason)
        return true; /* full, whatever there is */
    if (!find_base(reference, disk, domain_uuid(request->domain), error))
        return false;
    if (!disk->chain)
        return true;
    choose_mode(reference, bitmaps, vm_disk, disk);
    return lost_find(reference->history, disk->chain, &disk->lost, error);
}

/* The checkpoint of the newest of the points that the VM still has. */
static bool find_checkpoint(struct reference *reference, struct domain *domain, GError **error)
{
    const GPtrArray *points = history_points(reference->history);
    g_auto(GStrv) names = domain_checkpoints(domain, error);

    if (!names)
        return false;
    for (unsigned i = 0; i < points->len && !reference->checkpoint; i++) {
        const char *name = ((struct manifest *)points->pdata[i])->checkpoint;

        if (name && g_str_has_prefix(name, reference->tag) &&
            g_strv_contains((const char *const *)names, name))
            reference->checkpoint = g_strdup(name);
    }
    return true;
}

static bool choose(struct reference *reference, const struct point_request *request,
                   const GPtrArray *disks, GError **error)
{
    const GPtrArray *points = history_points(reference->history);
    AUTO(bitmaps) bitmaps = NULL;

    if (points->len == 0)
        reference->reason = g_strdup("first point");
    else if (request->force_full)
        reference->reason = g_strdup("full point as asked");
    if (points->len > 0)
        reference->newest = g_strdup(((struct manifest *)points->pdata[0])->point);
    if (!find_checkpoint(reference, request->domain, error))
        return false;
    if (reference->checkpoint) {
        bitmaps = bitmaps_look(request->domain, reference->checkpoint, reference->running, error);
        if (!bitmaps)
            return false;
        reference->unsure = bitmaps_are_unsure(bitmaps);
    }
    for (unsigned i = 0; i < disks->len; i++) {
        const struct vm_disk *disk = disks->pdata[i];

        if (!disk->skipped && !choose_disk(reference, request, bitmaps, disk, error))
            return false;
    }
    return true;
}

struct reference *reference_choose(const struct point_request *request, const GPtrArray *disks,
                                   bool running, GError **error)
{
    AUTO(reference) reference = g_new0(struct reference, 1);
    struct store_info info = {0};
    const char *uuid = domain_uuid(request->domain);

    if (!store_info(request->destination, &info, error))
        return NULL;
    reference->tag = g_strdup_printf(CHECKPOINT_PREFIX "%.8s-", info.uuid);
    store_info_clear(&info);
    reference->running = running;
    reference->spool_dir = g_strdup_printf("%s/%s.digests", request->scratch_dir, uuid);
    reference->disks = g_ptr_array_new_with_free_func(disk_reference_free);
    reference->history = history_new(request->destination, uuid, error);
    if (!reference->history || !choose(reference, request, disks, error))
        return NULL;
    return g_steal_pointer(&reference);
}

struct disk_reference *reference_disk(const struct reference *reference, const char *target)
{
    for (unsigned i = 0; i < reference->disks->len; i++) {
        struct disk_reference *disk = reference->disks->pdata[i];

        if (g_str_equal(disk->target, target))
            return disk;
    }
    return NULL;
}

bool reference_covers(const struct reference *reference, const struct vm_disk *disk)
{
    return reference_disk(reference, disk->target)->mode == DISK_INCREMENT;
}

/* How many of the DISKS (of struct vm_disk) relied on a bitmap that BITMAPS (NULL: there are none) does
 * not have. */
static unsigned compare_lacking(struct reference *reference, const GPtrArray *disks,
                                const struct bitmaps *bitmaps)
{
    unsigned count = 0;

    for (unsigned i = 0; i < disks->len; i++) {
        const struct vm_disk *vm_disk = disks->pdata[i];
        struct disk_reference *disk =
            vm_disk->skipped ? NULL : reference_disk(reference, vm_disk->target);
        const char *lack =
            bitmaps ? bitmaps_lack(bitmaps, vm_disk) : "the record of its changes is broken";

        if (!disk || disk->mode != DISK_INCREMENT || !lack)
            continue;
        set_mode(disk, DISK_COMPARE, lack);
        count++;
    }
    return count;
}

bool reference_distrust_bitmaps(struct reference *reference, struct domain *domain,
                                const GPtrArray *disks, const GError *why)
{
    AUTO(bitmaps) bitmaps = NULL;

    if (!error_is(why, ERROR_INTEGRITY) && !(reference->unsure && error_is(why, ERROR_HYPERVISOR)))
        return false;
    bitmaps = bitmaps_look(domain, reference->checkpoint, reference->running, NULL);

    return compare_lacking(reference, disks, bitmaps) > 0 ||
           compare_lacking(reference, disks, NULL) > 0;
}

/* --- what the base has ----------------------------------------------------------------------- */

static bool fetch_disk(const struct reference *reference, struct disk_reference *disk,
                       GError **error)
{
    g_autoptr(GError) cause = NULL;
    g_autofree char *why = NULL;

    disk->fetched =
        baseline_fetch(reference->history, disk->chain, reference->spool_dir, disk->target, &cause);
    if (disk->fetched)
        return true;
    if (!error_is(cause, ERROR_INTEGRITY) && !error_is(cause, ERROR_NOT_FOUND)) {
        g_propagate_prefixed_error(error, g_steal_pointer(&cause),
                                   "digests of disk %s: ", disk->target);
        return false;
    }
    disk->compared = false;
    if (disk->mode == DISK_INCREMENT && !disk->needs_digests)
        return true; /* it tells too much, but nothing wrong */
    why = g_strdup_printf("the digests of its base cannot be had: %s", cause->message);
    set_mode(disk, DISK_FULL, why);
    return true;
}

bool reference_fetch(struct reference *reference, GError **error)
{
    for (unsigned i = 0; i < reference->disks->len; i++) {
        struct disk_reference *disk = reference->disks->pdata[i];

        if (disk->compared && !disk->unchanged && !disk->fetched &&
            !fetch_disk(reference, disk, error))
            return false;
    }
    return true;
}

bool reference_take_similar(struct reference *reference, struct disk_reference *disk,
                            const struct similar_image *image, GError **error)
{
    g_autofree char *why =
        g_strdup_printf("similar to %s of VM %s at %s (%u %% the same)", image->target, image->vm,
                        image->point, image->overlap.matched * 100 / image->overlap.sampled);
    g_autoptr(GError) missing = NULL;
    GArray *chain =
        history_chain(reference->history, image->vm_uuid, image->point, image->target, &missing);

    if (!chain && error_is(missing, ERROR_NOT_FOUND))
        return true;
    if (!chain) {
        g_propagate_error(error, g_steal_pointer(&missing));
        return false;
    }
    disk->chain = chain;
    disk->similar = true;
    set_mode(disk, DISK_COMPARE, why);
    return lost_find(reference->history, chain, &disk->lost, error) &&
           fetch_disk(reference, disk, error);
}

bool reference_fetch_arrived(struct reference *reference, struct incoming *incoming, GError **error)
{
    for (unsigned i = 0; i < reference->disks->len; i++) {
        struct disk_reference *disk = reference->disks->pdata[i];

        g_clear_pointer(&disk->arrived, arrived_free);
        if (!arrived_fetch(incoming, disk->target, reference->spool_dir, &disk->arrived, error))
            return false;
    }
    return true;
}

/* The layers of the base that its bitmap does not count from. When the image was rolled back behind
 * our back, the bitmap was too, and it may call clean what only these layers have. */
static unsigned newer_layers(const struct reference *reference, const struct disk_reference *disk)
{
    unsigned n = 0;

    if (disk->mode != DISK_INCREMENT)
        return 0;
    while (n < disk->chain->len &&
           order_to_maker(reference, g_array_index(disk->chain, struct history_layer, n).point) > 0)
        n++;
    return n;
}

bool reference_baseline(const struct reference *reference, const struct disk_reference *disk,
                        struct baseline **baseline, GError **error)
{
    if (disk->mode == DISK_FULL)
        *baseline = baseline_new_empty();
    else if (disk->compared)
        *baseline = baseline_open(disk->chain, reference->spool_dir, disk->target,
                                  newer_layers(reference, disk), error);
    else
        *baseline = NULL;
    return *baseline || !disk->compared;
}

/* --- for people ------------------------------------------------------------------------------ */

char *disk_reference_cost(const struct disk_reference *disk)
{
    g_autofree char *read = bytes_format(disk->read_bytes);
    g_autofree char *changed = bytes_format(disk->changed_bytes);

    if (!disk->why || disk->unchanged)
        return NULL;
    if (disk->mode == DISK_FULL)
        return g_strdup_printf("%s: read in full", disk->why);
    if (!disk->done)
        return g_strdup_printf("%s: read and compared", disk->why);
    return g_strdup_printf("%s: read %s, %s differ", disk->why, read, changed);
}

static const char *newest_base(const struct reference *reference, bool of_similar)
{
    const char *newest = NULL;

    for (unsigned i = 0; i < reference->disks->len; i++) {
        const struct disk_reference *disk = reference->disks->pdata[i];

        if (disk->chain && (of_similar || !disk->similar) &&
            g_strcmp0(base_of(disk)->point, newest) > 0)
            newest = base_of(disk)->point;
    }
    return newest;
}

const char *reference_newest_base(const struct reference *reference)
{
    return newest_base(reference, true);
}

char *reference_reason(const struct reference *reference)
{
    g_autoptr(GString) reason = g_string_new(reference->reason);
    const char *since = newest_base(reference, false);

    if (since)
        g_string_append_printf(reason, "changes since %s", since);
    else if (!reference->newest && !newest_base(reference, true))
        g_string_append(reason, ": read in full");
    for (unsigned i = 0; i < reference->disks->len; i++) {
        const struct disk_reference *disk = reference->disks->pdata[i];
        g_autofree char *cost = disk_reference_cost(disk);

        if (cost)
            g_string_append_printf(reason, "%s%s: %s", reason->len ? "; " : "", disk->target, cost);
    }
    return g_strdup(reason->str);
}

/* --- checkpoints ----------------------------------------------------------------------------- */

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
