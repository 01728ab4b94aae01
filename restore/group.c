/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/group.h"

#include <string.h>

/* The point of round GROUP among POINTS, or NULL. */
static const struct manifest *member_of(const GPtrArray *points, const char *group)
{
    for (unsigned i = 0; i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];

        if (g_strcmp0(manifest->group, group) == 0)
            return manifest;
    }
    return NULL;
}

/* Is every one of POINTS that is newer than MEMBER a point of some round, too? */
static bool only_rounds_since(const GPtrArray *points, const struct manifest *member)
{
    for (unsigned i = 0; points->pdata[i] != member; i++)
        if (!((const struct manifest *)points->pdata[i])->group)
            return false;
    return true;
}

static bool is_complete(const GPtrArray *histories, const char *group, group_usable_fn *usable,
                        void *context)
{
    for (unsigned i = 0; i < histories->len; i++) {
        const struct manifest *member = member_of(histories->pdata[i], group);

        if (!member || !only_rounds_since(histories->pdata[i], member) ||
            (usable && !usable(member, context)))
            return false;
    }
    return true;
}

const char *group_choose(const GPtrArray *histories, group_usable_fn *usable, void *context)
{
    const GPtrArray *first = histories->len > 0 ? histories->pdata[0] : NULL;

    for (unsigned i = 0; first && i < first->len; i++) {
        const struct manifest *manifest = first->pdata[i];

        if (!manifest->group)
            return NULL;
        if (is_complete(histories, manifest->group, usable, context))
            return manifest->group;
    }
    return NULL;
}
