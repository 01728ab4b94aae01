/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What noted damage means for the points of this site's store: which of them stand on a damaged one, also
 * of another VM, and need what is lost there. It is worked out from the notes, and from the digests of what
 * lies above a damaged image; no image is read. Every point that is looked at is remembered, so a list of
 * points costs one look each.
 */
#pragma once

#include "drctl/command.h"

struct damage_map;
/* POINTS (of struct manifest, borrowed, as are the names in them) are those that will be asked for; what they
 * stand on is found in the store. */
struct damage_map *damage_map_new(struct context *context, const GPtrArray *points);
void damage_map_free(struct damage_map *map);
DEFINE_CLEANUP(damage_map)

/* A damaged image that a point needs something of. Owned by the map. */
struct culprit {
    char *vm, *uuid, *point;
    char *file;
    char *why;
    bool unreadable;
    GArray *clusters;   /* that the image cannot give, cluster-ranges.h */
    uint64_t needed_by; /* points that were asked for and are not damaged themselves */
};

/* What one point lacks. */
struct lack {
    bool damaged;        /* something is noted of the point itself */
    uint64_t lost_bytes; /* of its disks, by its own damage or that of its bases */
    GPtrArray
        *culprits; /* of const struct culprit: the damaged bases that it needs; NULL: unknown */
};
void lack_clear(struct lack *lack);
#define AUTO_LACK __attribute__((cleanup(lack_clear))) struct lack
/* POINT is one of those that the map was made for, each asked for once. */
void damage_map_look(struct damage_map *map, const struct manifest *point, struct lack *lack);

/* Set "base_damage", "lost_bytes" and "remedy" in JSON, of POINT. */
void lack_to_json(const struct lack *lack, const struct manifest *point, json_t *json);
/* What can be done about POINT, or NULL if there is nothing to be done; g_free. */
char *lack_remedy(const struct lack *lack, const struct manifest *point);

/* Tell for each damaged image what needs it, and what can be done. */
void damage_map_note(const struct damage_map *map, struct progress *progress);
