/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "metadata/metadata.h"

#define UUID "9b3f7c1e-2a4d-4e5f-8a6b-0c1d2e3f4a5b"
#define POINT "20261120T221500.123Z"

/* A store that is one directory: points arrive as plain files in it. */
struct heap {
    struct store store;
    char *dir;
};

struct heap_incoming {
    struct incoming incoming;
    const struct heap *heap;
    int fds[4];
    unsigned n;
    size_t largest;
    uint64_t sent;
};

static bool heap_open(struct incoming *incoming, const char *name, unsigned *file, GError **error)
{
    struct heap_incoming *heap = (struct heap_incoming *)incoming;
    g_autofree char *path = g_build_filename(heap->heap->dir, name, NULL);

    heap->fds[heap->n] = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (heap->fds[heap->n] < 0)
        return fail_errno(error, errno, "cannot create %s", name);
    *file = heap->n++;
    return true;
}

static bool heap_write(struct incoming *incoming, unsigned file, uint64_t offset, const void *data,
                       size_t len, GError **error)
{
    struct heap_incoming *heap = (struct heap_incoming *)incoming;

    heap->largest = MAX(heap->largest, len);
    heap->sent += len;
    return fd_write_at(heap->fds[file], offset, data, len, "file", error);
}

static bool heap_commit(struct incoming *incoming, const struct manifest *manifest, GError **error)
{
    struct heap_incoming *heap = (struct heap_incoming *)incoming;

    if (manifest->files->len != heap->n)
        return fail(error, ERROR_INTEGRITY, "%u files, not %u", heap->n, manifest->files->len);
    return true;
}

static uint64_t heap_sent_bytes(const struct incoming *incoming)
{
    return ((const struct heap_incoming *)incoming)->sent;
}

static void heap_incoming_free(struct incoming *incoming)
{
    struct heap_incoming *heap = (struct heap_incoming *)incoming;

    while (heap->n > 0)
        close(heap->fds[--heap->n]);
    g_free(heap);
}

static struct incoming *heap_begin(struct store *store, const char *vm_uuid, const char *point,
                                   const struct taker *taker, GError **error)
{
    static const struct incoming_ops ops = {.open = heap_open,
                                            .write = heap_write,
                                            .commit = heap_commit,
                                            .sent_bytes = heap_sent_bytes,
                                            .free = heap_incoming_free};
    struct heap_incoming *heap = g_new0(struct heap_incoming, 1);

    heap->incoming.ops = &ops;
    heap->heap = (struct heap *)store;
    return &heap->incoming;
}

static bool heap_info(struct store *store, struct store_info *out, GError **error)
{
    return disk_space(((struct heap *)store)->dir, &out->free_bytes, &out->total_bytes, error);
}

static GPtrArray *heap_points(struct store *store, const char *vm_uuid, GError **error)
{
    fail(error, ERROR_NOT_FOUND, "it keeps no points");
    return NULL;
}

static void heap_free(struct store *store)
{
    g_free(((struct heap *)store)->dir);
    g_free(store->label);
    g_free(store);
}

static struct store *heap_new(void)
{
    static const struct store_ops ops = {
        .info = heap_info, .points = heap_points, .begin = heap_begin, .free = heap_free};
    struct heap *heap = g_new0(struct heap, 1);

    heap->store.ops = &ops;
    heap->store.label = g_strdup("dr1");
    heap->dir = unit_dir();
    return &heap->store;
}

START_TEST(a_large_write_goes_out_in_pieces)
{
    size_t len = 2 * STORE_WRITE_MAX + 777;
    AUTO(store) store = heap_new();
    AUTO(incoming) incoming = NULL;
    AUTO(manifest) manifest = manifest_new();
    g_autofree char *path = g_build_filename(((struct heap *)store)->dir, "vda.qcow2", NULL);
    g_autofree char *data = g_malloc(len);
    g_autofree char *read = NULL;
    g_autoptr(GError) error = NULL;
    size_t read_len;

    for (size_t i = 0; i < len; i++)
        data[i] = (char)(i * 2654435761u >> 24);
    incoming = store_begin(store, UUID, POINT, &error);
    unit_ok(incoming, error);
    unit_ok(incoming_put(incoming, manifest, "vda.qcow2", data, len, &error), error);
    unit_ok(incoming_put(incoming, manifest, "empty", NULL, 0, &error), error);
    ck_assert_uint_eq(((struct heap_incoming *)incoming)->largest, STORE_WRITE_MAX);
    ck_assert_uint_eq(incoming_sent_bytes(incoming), len);
    ck_assert_uint_eq(manifest_file(manifest, "vda.qcow2")->bytes, len);
    ck_assert_uint_eq(manifest_file(manifest, "empty")->bytes, 0);
    unit_ok(file_read(path, len, &read, &read_len, &error), error);
    ck_assert_mem_eq(read, data, len);
    unit_ok(incoming_commit(incoming, manifest, &error), error);
}
END_TEST

START_TEST(every_error_names_the_store)
{
    AUTO(store) store = heap_new();
    AUTO(manifest) manifest = manifest_new();
    AUTO(incoming) incoming = NULL;
    g_autoptr(GError) error = NULL;
    unsigned file;

    unit_fails(store_points(store, NULL, &error), error, ERROR_NOT_FOUND,
               "dr1: it keeps no points");
    incoming = store_begin(store, UUID, POINT, &error);
    unit_ok(incoming, error);
    unit_ok(incoming_open(incoming, "a", &file, &error), error);
    unit_fails(incoming_open(incoming, "a", &file, &error), error, ERROR_IO, "dr1: cannot create");
    unit_fails(incoming_commit(incoming, manifest, &error), error, ERROR_INTEGRITY, "dr1: 1 files");
}
END_TEST

START_TEST(refuses_arguments_that_could_become_other_paths)
{
    static const char *const names[] = {"",   "..", "../a",          "a/b",
                                        ".a", "-a", "manifest.json", "SHA256SUMS"};
    AUTO(store) store = heap_new();
    AUTO(incoming) incoming = NULL;
    g_autoptr(GError) error = NULL;
    struct bundle_id id = {.site = (char *)"dc1", .time = (char *)"../x"};
    struct bundle_id *newest = NULL;
    char *data = NULL;
    unsigned file = 9;
    size_t len;

    unit_fails(store_points(store, "../x", &error), error, ERROR_INTEGRITY, "dr1: '../x'");
    unit_fails(store_begin(store, "../x", POINT, &error), error, ERROR_INTEGRITY, "dr1: '../x'");
    unit_fails(store_begin(store, UUID, "../x", &error), error, ERROR_INTEGRITY, "dr1: '../x'");
    unit_fails(store_newest_bundle(store, "../x", &newest, &error), error, ERROR_INTEGRITY,
               "dr1: '../x'");
    unit_fails(store_get_bundle(store, &id, &data, &len, &error), error, ERROR_INTEGRITY,
               "dr1: '../x'");
    unit_fails(store_put_bundle(store, "", 0, &error), error, ERROR_INTEGRITY, "dr1: ");
    unit_fails(store_put_bundle(store, "x", (size_t)BUNDLE_MAX_BYTES + 1, &error), error,
               ERROR_INTEGRITY, "dr1: ");
    incoming = store_begin(store, UUID, POINT, &error);
    unit_ok(incoming, error);
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        unit_fails(incoming_open(incoming, names[i], &file, &error), error, ERROR_INTEGRITY,
                   "dr1: ");
    ck_assert_uint_eq(file, 9);
    unit_ok(incoming_open(incoming, "a", &file, &error), error);
    unit_fails(incoming_write(incoming, file, INT64_MAX, "xx", 2, &error), error, ERROR_INTEGRITY,
               "dr1: ");
    unit_fails(incoming_write(incoming, file, UINT64_MAX, "xx", 2, &error), error, ERROR_INTEGRITY,
               "dr1: ");
}
END_TEST

START_TEST(info_is_filled_in)
{
    AUTO(store) store = heap_new();
    struct store_info info;
    g_autoptr(GError) error = NULL;

    unit_ok(store_info(store, &info, &error), error);
    ck_assert_uint_gt(info.total_bytes, 0);
    ck_assert_ptr_null(info.site);
    store_info_clear(&info);
}
END_TEST

int main(void)
{
    return UNIT_RUN("store-interface", a_large_write_goes_out_in_pieces,
                    every_error_names_the_store, refuses_arguments_that_could_become_other_paths,
                    info_is_filled_in);
}
