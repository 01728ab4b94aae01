/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/export-choice.h"

#include <string.h>

#include "restore/group.h"
#include "restore/request.h"

struct choosing {
    const struct site *site;
    const struct export_request *request;
    struct export_choice *choice;
};

static void free_origin(void *origin)
{
    origin_free(origin);
}

void export_choice_clear(struct export_choice *choice)
{
    g_clear_pointer(&choice->origins, g_ptr_array_unref);
    source_clear(&choice->source);
}

bool export_is_vapp(const struct export_choice *choice)
{
    return choice->source.order->text && *choice->source.order->text;
}

static void free_points(void *points)
{
    g_ptr_array_unref(points);
}

/* The points of each VM of the vApp, newest first; of GPtrArray. */
static GPtrArray *histories_of(const struct choosing *self, GError **error)
{
    g_autoptr(GPtrArray) histories = g_ptr_array_new_with_free_func(free_points);
    const GPtrArray *vms = self->choice->source.order->vms;

    for (unsigned i = 0; i < vms->len; i++) {
        const char *name = ((const struct vapp_vm *)vms->pdata[i])->name;
        const char *uuid = self->choice->source.uuids
                               ? g_hash_table_lookup(self->choice->source.uuids, name)
                               : NULL;
        AUTO(manifest) newest = uuid ? NULL : origin_find_vm(self->site, name, error);
        GPtrArray *points;

        if (!uuid && !newest)
            return NULL;
        points = store_points(self->site->store, uuid ? uuid : newest->uuid, error);
        if (!points)
            return NULL;
        g_ptr_array_add(histories, points);
        if (points->len == 0) {
            fail(error, ERROR_NOT_FOUND, "there is no recovery point of VM %s here", name);
            return NULL;
        }
    }
    return g_steal_pointer(&histories);
}

static bool is_usable(const struct manifest *manifest, void *context)
{
    const struct choosing *self = context;
    AUTO(origin) origin = origin_open(self->site, manifest->uuid, manifest->point, NULL);

    return origin != NULL;
}

static const char *point_of_round(const GPtrArray *points, const char *group)
{
    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];

        if (g_strcmp0(manifest->group, group) == 0)
            return manifest->point;
    }
    return NULL;
}

static bool choose_one(const struct choosing *self, const GPtrArray *points, const char *group,
                       GError **error)
{
    const struct manifest *newest = points->pdata[0];
    struct restore_request request = {
        .vm = newest->uuid,
        .point = group ? point_of_round(points, group) : self->request->point,
    };
    struct origin *origin = request_origin(self->site, &request, error);

    if (origin)
        g_ptr_array_add(self->choice->origins, origin);
    return origin != NULL;
}

/* All from one round, if there is one; otherwise the newest of each. */
static bool choose(struct choosing *self, GError **error)
{
    AUTO(bundles) bundles = bundles_new(self->site);
    const char *group;

    if (!source_find(bundles, self->request->name, NULL, &self->choice->source, error))
        return false;
    if (self->request->point && export_is_vapp(self->choice))
        return fail(error, ERROR_USAGE, "--point is for one VM, and %s is a vApp",
                    self->request->name);
    g_autoptr(GPtrArray) histories = histories_of(self, error);
    if (!histories)
        return false;
    group = histories->len > 1 ? group_choose(histories, is_usable, self) : NULL;
    for (unsigned i = 0; i < histories->len; i++)
        if (!choose_one(self, histories->pdata[i], group, error))
            return false;
    return true;
}

bool export_choose(const struct site *site, const struct export_request *request,
                   struct export_choice *choice, GError **error)
{
    struct choosing self = {site, request, choice};

    choice->origins = g_ptr_array_new_with_free_func(free_origin);
    return choose(&self, error);
}
