/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For the tests of the catalog: records that are numbers.
 */
#pragma once

#include "tests/unit.h"

#include "metadata/metadata.h"

G_GNUC_UNUSED static inline struct catalog *open_catalog(const char *store)
{
    g_autoptr(GError) error = NULL;
    struct catalog *catalog = catalog_open(store, &error);

    unit_ok(catalog != NULL, error);
    return catalog;
}

G_GNUC_UNUSED static inline json_t *number(unsigned n)
{
    return json_pack("{s:i}", "n", (int)n);
}

G_GNUC_UNUSED static inline bool put_number(struct catalog *catalog, const char *key, unsigned n,
                                            GError **error)
{
    json_auto_t *value = number(n);

    return catalog_put(catalog, CATALOG_RUNS, key, value, error);
}

/* The number under KEY, or -1. */
G_GNUC_UNUSED static inline int get_number(struct catalog *catalog, enum catalog_table table,
                                           const char *key)
{
    g_autoptr(GError) error = NULL;
    json_auto_t *value = NULL;

    unit_ok(catalog_get(catalog, table, key, &value, &error), error);
    return value ? (int)json_integer_value(json_object_get(value, "n")) : -1;
}

G_GNUC_UNUSED static inline bool count(const char *key, json_t *value, void *data)
{
    (*(unsigned *)data)++;
    return true;
}

G_GNUC_UNUSED static inline unsigned count_all(struct catalog *catalog, enum catalog_table table,
                                               const char *prefix)
{
    g_autoptr(GError) error = NULL;
    unsigned n = 0;

    unit_ok(catalog_each(catalog, table, prefix, count, &n, &error), error);
    return n;
}
