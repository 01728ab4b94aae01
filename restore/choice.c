/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/choice.h"

#include <string.h>

void choice_clear(struct choice *choice)
{
    g_clear_pointer(&choice->group, g_free);
    g_clear_pointer(&choice->lists, g_hash_table_unref);
}

bool request_has_choice(const struct failover_request *request)
{
    return request->point || request->until_ms || request->proven;
}

bool choice_is_free(const struct choice *choice)
{
    return !request_has_choice(choice->wanted);
}

/* Is MANIFEST the point, or of the round, that was named? */
static bool is_named(const struct choice *choice, const struct manifest *manifest)
{
    const char *name = choice->wanted->point;

    return name && (strcmp(manifest->point, name) == 0 ||
                    g_strcmp0(manifest->group, choice->group ? choice->group : name) == 0);
}

/* A point stands for its instant, and for its round if it is of one. */
static bool find_named(struct choice *choice, const char *vm_uuid, bool *found, GError **error)
{
    g_autoptr(GPtrArray) points = store_points(choice->site->store, vm_uuid, error);

    for (unsigned i = 0; points && i < points->len && !*found; i++) {
        const struct manifest *manifest = points->pdata[i];

        if (!is_named(choice, manifest))
            continue;
        *found = true;
        choice->until_ms = manifest->time_ms;
        choice->group = g_strdup(manifest->group);
    }
    return points != NULL;
}

bool choice_settle(struct choice *choice, const struct site *site,
                   const struct failover_request *wanted, const GPtrArray *uuids, GError **error)
{
    bool found = false;

    *choice = (struct choice){.site = site,
                              .wanted = wanted,
                              .until_ms = wanted->until_ms ? wanted->until_ms : INT64_MAX,
                              .lists = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                                             (GDestroyNotify)g_ptr_array_unref)};
    if (!wanted->point)
        return true;
    for (unsigned i = 0; i < uuids->len && !found; i++)
        if (!find_named(choice, uuids->pdata[i], &found, error))
            return false;
    return found || fail(error, ERROR_NOT_FOUND,
                         "there is no point or round %s of it here; `drctl points` lists them",
                         wanted->point);
}

static bool may_take(const struct choice *choice, const struct manifest *manifest)
{
    g_autofree char *dir = NULL;

    if (manifest->time_ms > choice->until_ms)
        return false;
    if (!choice->wanted->proven)
        return true;
    dir = store_point_dir(choice->site->config->store, manifest->uuid, manifest->point);
    return proof_passed(dir);
}

/* Only the one that was named, if it is there. */
static bool leave_named(const struct choice *choice, GPtrArray *points)
{
    for (unsigned i = 0; i < points->len; i++) {
        if (!is_named(choice, points->pdata[i]))
            continue;
        g_ptr_array_remove_range(points, i + 1, points->len - i - 1);
        g_ptr_array_remove_range(points, 0, i);
        return true;
    }
    return false;
}

static GPtrArray *read_list(const struct choice *choice, const char *vm_uuid, GError **error)
{
    GPtrArray *points = store_points(choice->site->store, vm_uuid, error);

    if (!points || leave_named(choice, points))
        return points;
    for (unsigned i = points->len; i-- > 0;)
        if (!may_take(choice, points->pdata[i]))
            g_ptr_array_remove_index(points, i);
    return points;
}

GPtrArray *choice_list(const struct choice *choice, const char *vm_uuid, GError **error)
{
    GPtrArray *points = g_hash_table_lookup(choice->lists, vm_uuid);

    if (points)
        return g_ptr_array_ref(points);
    points = read_list(choice, vm_uuid, error);
    if (points)
        g_hash_table_insert(choice->lists, g_strdup(vm_uuid), g_ptr_array_ref(points));
    return points;
}

void choice_forget(struct choice *choice)
{
    g_hash_table_remove_all(choice->lists);
}

static void fail_empty(const struct choice *choice, GError **error)
{
    g_autofree char *until =
        choice->until_ms < INT64_MAX ? time_format_local(choice->until_ms) : NULL;

    if (choice->wanted->proven)
        fail(error, ERROR_NOT_FOUND,
             "none of its points here%s%s is proven by a test (drctl failover --test)",
             until ? " until " : "", until ? until : "");
    else if (until)
        fail(error, ERROR_NOT_FOUND, "it has no recovery point here that is not newer than %s",
             until);
    else
        fail(error, ERROR_NOT_FOUND, "it has no recovery point here");
}

GPtrArray *choice_points(const struct choice *choice, const char *vm_uuid, GError **error)
{
    g_autoptr(GPtrArray) points = choice_list(choice, vm_uuid, error);

    if (!points || points->len > 0)
        return g_steal_pointer(&points);
    fail_empty(choice, error);
    return NULL;
}
