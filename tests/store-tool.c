/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small program around a store, so that tests can trace, kill and run it by ssh:
 *
 *     store-tool commit STORE VM POINT BYTES     put one point of points.h
 *     store-tool serve --store STORE             what `drctl serve` does, with a check that accepts
 * all
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/points.h"

static bool run(int argc, char **argv, GError **error)
{
    bool serves = argc == 4 && strcmp(argv[1], "serve") == 0;
    bool commits = argc == 6 && strcmp(argv[1], "commit") == 0;
    const char *path = serves ? argv[3] : commits ? argv[2] : NULL;
    AUTO(catalog) catalog = path ? catalog_open(path, error) : NULL;
    AUTO(store) store = NULL;

    if (!path)
        return fail(error, ERROR_USAGE, "wrong usage");
    if (!catalog)
        return false;
    store = store_open_local(path, catalog, &points_accept_ops, error);
    if (!store)
        return false;
    return serves ? serve(store, &(struct serve_rules){0}, 0, 1, error)
                  : points_put(store, argv[3], argv[4], NULL, strtoull(argv[5], NULL, 10), error);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;

    if (run(argc, argv, &error))
        return 0;
    fprintf(stderr, "store-tool: %s\n", error->message);
    return error_exit_status(error);
}
