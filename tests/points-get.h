/* SPDX-License-Identifier: Apache-2.0 */
/* store_get() of any store, against the files that lie in its directory. */
#pragma once

#include "tests/points.h"
#include "tests/unit.h"

static inline bool points_collect(void *context, const void *data, size_t len, GError **error)
{
    g_byte_array_append(context, data, (unsigned)len);
    return true;
}

/* Read files of a committed point of VM_A through STORE, which must be what lies under PATH. */
static inline void points_get(struct store *store, const char *path, const char *point)
{
    g_autofree char *dir = store_point_dir(path, VM_A, point);
    g_autofree char *file = g_build_filename(dir, "vda.qcow2", NULL);
    g_autoptr(GByteArray) got = g_byte_array_new();
    g_autofree char *content = NULL;
    GError *error = NULL;
    gsize len;

    ck_assert(g_file_get_contents(file, &content, &len, NULL));
    unit_ok(store_get(store, VM_A, point, "vda.qcow2", 0, points_collect, got, &error), error);
    ck_assert_uint_eq(got->len, len);
    ck_assert_mem_eq(got->data, content, len);
    g_byte_array_set_size(got, 0);
    unit_ok(store_get(store, VM_A, point, "vda.qcow2", len - 5, points_collect, got, &error),
            error);
    ck_assert_uint_eq(got->len, 5);
    ck_assert_mem_eq(got->data, content + len - 5, 5);
    unit_fails(store_get(store, VM_A, point, "vdz.qcow2", 0, points_collect, got, &error), error,
               ERROR_NOT_FOUND, "vdz.qcow2");
    unit_fails(
        store_get(store, VM_A, "20200101T000000.000Z", "vda.qcow2", 0, points_collect, got, &error),
        error, ERROR_NOT_FOUND, "20200101T000000.000Z");
    unit_fails(store_get(store, VM_A, point, "../vda.qcow2", 0, points_collect, got, &error), error,
               ERROR_INTEGRITY, "safe file name");
}
