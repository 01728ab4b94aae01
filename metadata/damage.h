/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was found to be damaged in a committed point: damage.json in the point's directory, see
 * drctl-store(5). It is no file of the point: whoever verifies writes it, and whoever heals the point
 * or finds it whole removes it. As long as it is there the damaged files are kept, and not trusted.
 *
 *     {"format": 1, "time": RFC 3339,
 *      "files": [{"name", "why", "unreadable", "clusters": [[first, count], ...]}]}
 *
 * Clusters are those of the disk that the file, an image, cannot give any more. Unreadable is an image
 * that cannot be opened at all, because its tables are damaged.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "metadata/cluster-ranges.h"

#define DAMAGE_NAME "damage.json"
#define DAMAGE_FORMAT 1
#define DAMAGE_MAX_BYTES (8u << 20)

struct damaged_file {
    char *name;
    char *why;        /* one line */
    bool unreadable;  /* an image whose tables are damaged: nobody can open it as it is */
    GArray *clusters; /* cluster-ranges.h; of too many, some that are good are among them */
};

struct damage {
    int64_t time_ms;  /* when it was found */
    GPtrArray *files; /* of struct damaged_file, each name once */
};

struct damage *damage_new(void);
void damage_free(struct damage *damage);
DEFINE_CLEANUP(damage)

/* File NAME is damaged, and this is WHY; of several reasons the first is kept. Borrowed. */
struct damaged_file *damage_add(struct damage *damage, const char *name, const char *why);
struct damaged_file *damage_file(const struct damage *damage, const char *name);
/* Clusters must ascend. */
void damaged_file_add(struct damaged_file *file, uint64_t first, uint64_t count);
bool damaged_file_has(const struct damaged_file *file, uint64_t cluster);

/* "vda.qcow2: why; domain.xml: why"; g_free. */
char *damage_text(const struct damage *damage);

/* The content of damage.json; ERROR_INTEGRITY. */
struct damage *damage_parse(const char *text, size_t len, GError **error);
/* Of the point in directory DIR; *DAMAGE is NULL when none is noted. A note that cannot be read says
 * that everything is damaged: ERROR_INTEGRITY. */
bool damage_load(const char *dir, struct damage **damage, GError **error);
/* Note it durably. */
bool damage_save(const char *dir, const struct damage *damage, GError **error);
/* The point was found to be whole. */
bool damage_forget(const char *dir, GError **error);
