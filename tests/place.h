/* SPDX-License-Identifier: Apache-2.0 */
/* A store in a directory of its own, open, for tests of stores; its points are those of tests/points.h. */
#pragma once

#include "tests/unit.h"

#include "replicator/local.h"
#include "tests/points.h"

#define IMAGE_BYTES ((uint64_t)3 << 20)

struct place {
    char *path;
    struct catalog *catalog;
    struct store *store;
};

/* The store that is there already. */
G_GNUC_UNUSED static inline struct place place_open(const char *path, const struct point_ops *ops)
{
    struct place place = {.path = g_strdup(path)};
    g_autoptr(GError) error = NULL;

    unit_ok(place.catalog = catalog_open(path, &error), error);
    unit_ok(place.store = store_open_local(path, place.catalog, ops, &error), error);
    return place;
}

G_GNUC_UNUSED static inline struct place place_create(const char *site, const struct point_ops *ops)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *path = g_build_filename(dir, "store", NULL);
    g_autoptr(GError) error = NULL;

    unit_ok(store_create(path, site, &error), error);
    return place_open(path, ops);
}

G_GNUC_UNUSED static inline struct place place_new(void)
{
    return place_create("dr1", &points_accept_ops);
}

G_GNUC_UNUSED static inline void place_clear(struct place *place)
{
    store_free(place->store);
    catalog_free(place->catalog);
    g_free(place->path);
}
#define AUTO_PLACE __attribute__((cleanup(place_clear))) struct place

G_GNUC_UNUSED static inline void put(struct place *place, const char *vm, const char *point,
                                     const char *base)
{
    g_autoptr(GError) error = NULL;

    unit_ok(points_put(place->store, vm, point, base, IMAGE_BYTES, &error), error);
}

/* Number of names in a directory of the store. */
G_GNUC_UNUSED static inline unsigned entries(const struct place *place, const char *sub)
{
    g_autofree char *path = g_build_filename(place->path, sub, NULL);
    g_auto(GStrv) names = dir_list(path, NULL);

    return g_strv_length(names);
}

G_GNUC_UNUSED static inline unsigned n_points(struct place *place, const char *vm)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) points = store_points(place->store, vm, &error);

    unit_ok(points, error);
    return points->len;
}

G_GNUC_UNUSED static inline void write_text(const char *path, const char *text)
{
    g_autoptr(GError) error = NULL;

    unit_ok(file_write(path, text, strlen(text), 0600, &error), error);
}
