/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "replicator/local.h"

#define STORE_JSON_MAX 65536

bool make_dir(const char *dir, mode_t mode, GError **error)
{
    if (g_file_test(dir, G_FILE_TEST_IS_DIR))
        return true;
    if (!dir_make(dir, mode, error))
        return false;
    if (chmod(dir, mode) < 0)
        return fail_errno(error, errno, "cannot set the mode of %s", dir);
    return true;
}

void explain_no_space(const char *path, GError **error)
{
    uint64_t free_bytes, total_bytes;
    g_autofree char *free_text = NULL;
    g_autofree char *old = NULL;

    if (!error || !error_is(*error, ERROR_NO_SPACE) ||
        !disk_space(path, &free_bytes, &total_bytes, NULL))
        return;
    free_text = bytes_format(free_bytes);
    old = g_steal_pointer(&(*error)->message);
    (*error)->message =
        g_strdup_printf("%s (%s are free at %s now); make room there", old, free_text, path);
}

char *store_point_dir(const char *store_path, const char *vm_uuid, const char *point)
{
    return g_build_filename(store_path, "vms", vm_uuid, point, NULL);
}

char *store_point_of(const char *name)
{
    g_auto(GStrv) parts = g_strsplit(name, "/", -1);
    int64_t ms;

    for (char **part = parts; *part && part[1]; part++)
        if (uuid_is_valid(part[0]) && point_id_parse(part[1], &ms))
            return g_strconcat(part[0], "/", part[1], NULL);
    return NULL;
}

/* --- Making and opening --------------------------------------------------------------------- */

bool store_create(const char *path, const char *site, GError **error)
{
    static const struct {
        const char *name;
        mode_t mode;
    } parts[] = {{"vms", MODE_PASSAGE},
                 {"incoming", MODE_PRIVATE_DIR},
                 {"pool", MODE_PRIVATE_DIR},
                 {"locks", MODE_PRIVATE_DIR}};
    g_autofree char *file = g_build_filename(path, "store.json", NULL);
    g_autofree char *uuid = g_uuid_string_random();
    json_auto_t *object = json_object();
    g_autofree char *text = NULL;

    if (!site_name_is_valid(site))
        return fail(error, ERROR_USAGE, "'%s' is not the name of a site", site);
    if (g_file_test(file, G_FILE_TEST_EXISTS))
        return fail(error, ERROR_CONFLICT, "there is a store at %s already", path);
    if (!make_dir(path, MODE_PASSAGE, error))
        return false;
    for (size_t i = 0; i < G_N_ELEMENTS(parts); i++) {
        g_autofree char *dir = g_build_filename(path, parts[i].name, NULL);

        if (!make_dir(dir, parts[i].mode, error))
            return false;
    }
    json_set_u64(object, "format", STORE_FORMAT);
    json_set_string(object, "uuid", uuid);
    json_set_string(object, "site", site);
    text = json_text(object, 2);
    /* Last: it makes the directory a store. */
    return file_write(file, text, strlen(text), MODE_PRIVATE_FILE, error);
}

static bool read_store_json(struct local_store *self, GError **error)
{
    g_autofree char *file = g_build_filename(self->path, "store.json", NULL);
    g_autofree char *text = NULL;
    g_autoptr(GError) why = NULL;
    json_auto_t *object = NULL;
    const char *uuid, *site;
    uint64_t format;
    size_t len;

    if (!file_read(file, STORE_JSON_MAX, &text, &len, &why)) {
        if (error_is(why, ERROR_NOT_FOUND))
            return fail(error, ERROR_CONFIG,
                        "there is no store at %s: make one by `drctl init`, or is its file system "
                        "not mounted?",
                        self->path);
        return fail(error, ERROR_CONFIG, "%s", why->message);
    }
    object = json_parse(text, len, file, &why);
    if (!object || !json_need_u64(object, "format", &format, &why))
        return fail(error, ERROR_CONFIG, "%s is damaged: %s", file, why->message);
    if (format != STORE_FORMAT)
        return fail(error, ERROR_CONFIG,
                    "the store at %s has format %" PRIu64 ", this drctl (" DRCTL_VERSION
                    ") knows %d: update drctl",
                    self->path, format, STORE_FORMAT);
    if (!json_need_string(object, "uuid", &uuid, &why) ||
        !json_need_string(object, "site", &site, &why))
        return fail(error, ERROR_CONFIG, "%s is damaged: %s", file, why->message);
    if (!uuid_is_valid(uuid) || !site_name_is_valid(site))
        return fail(error, ERROR_CONFIG, "%s is damaged: its uuid or site is wrong", file);
    g_strlcpy(self->uuid, uuid, sizeof(self->uuid));
    self->site = g_strdup(site);
    return true;
}

static const struct store_ops local_store_ops;

struct store *store_open_local(const char *path, struct catalog *catalog,
                               const struct point_ops *point_ops, GError **error)
{
    struct local_store *self = g_new0(struct local_store, 1);

    g_assert(point_ops);
    self->store.ops = &local_store_ops;
    self->store.label = g_strdup_printf("store %s", path);
    self->path = g_strdup(path);
    self->catalog = catalog;
    self->point_ops = point_ops;
    if (!read_store_json(self, error)) {
        store_free(&self->store);
        return NULL;
    }
    /* Failing to tidy up must not keep anybody from a restore: the next begin of that VM tells. */
    local_partials_sweep(path);
    local_locks_sweep(path);
    return &self->store;
}

struct store *store_open_site(const struct config *config, struct catalog *catalog,
                              const struct point_ops *point_ops, GError **error)
{
    struct store *store = store_open_local(config->store, catalog, point_ops, error);

    if (store)
        ((struct local_store *)store)->config = config;
    return store;
}

struct store *store_open_destination(const struct config *config, struct catalog *catalog,
                                     const char *destination, const struct point_ops *point_ops,
                                     GError **error)
{
    const struct remote *remote;

    if (strcmp(destination, "local") == 0)
        return store_open_site(config, catalog, point_ops, error);
    remote = config_remote(config, destination, error);
    return remote ? store_open_remote(remote, error) : NULL;
}

static void local_free(struct store *store)
{
    struct local_store *self = (struct local_store *)store;

    g_free(self->store.label);
    g_free(self->path);
    g_free(self->site);
    g_free(self);
}

static bool local_info(struct store *store, struct store_info *out, GError **error)
{
    struct local_store *self = (struct local_store *)store;

    if (!disk_space(self->path, &out->free_bytes, &out->total_bytes, error))
        return false;
    g_strlcpy(out->uuid, self->uuid, sizeof(out->uuid));
    out->site = g_strdup(self->site);
    out->version = g_strdup(DRCTL_VERSION);
    out->clock_ms = time_now_ms();
    return true;
}

/* --- Files of points -------------------------------------------------------------------------- */

static bool get_pieces(int fd, const char *name, uint64_t offset, uint64_t size,
                       store_sink_fn *sink, void *context, GError **error)
{
    g_autofree uint8_t *buffer = g_malloc(STORE_WRITE_MAX);

    while (offset < size) {
        size_t len = (size_t)MIN(size - offset, STORE_WRITE_MAX);

        if (!interrupt_check(error) || !fd_read_at(fd, offset, buffer, len, name, error) ||
            !sink(context, buffer, len, error))
            return false;
        offset += len;
    }
    return true;
}

static bool local_get(struct store *store, const char *vm_uuid, const char *point, const char *name,
                      uint64_t offset, store_sink_fn *sink, void *context, GError **error)
{
    struct local_store *self = (struct local_store *)store;
    g_autofree char *dir = store_point_dir(self->path, vm_uuid, point);
    g_autofree char *path = g_build_filename(dir, name, NULL);
    AUTO_FD fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat status;

    if (fd < 0 || fstat(fd, &status) < 0)
        return fail_errno(error, errno, "cannot read %s of point %s of VM %s", name, point,
                          vm_uuid);
    if (!S_ISREG(status.st_mode))
        return fail(error, ERROR_INTEGRITY, "%s is not a file", path);
    return get_pieces(fd, name, offset, (uint64_t)status.st_size, sink, context, error);
}

static const struct store_ops local_store_ops = {
    .info = local_info,
    .points = local_points,
    .get = local_get,
    .damaged = local_damaged,
    .similar = local_similar,
    .begin = local_begin,
    .prune = local_prune,
    .newest_bundle = local_newest_bundle,
    .bundles = local_bundles,
    .get_bundle = local_get_bundle,
    .put_bundle = local_put_bundle,
    .owners = local_owners,
    .put_owners = local_put_owners,
    .free = local_free,
};

void chain_place_clear(struct chain_place *place)
{
    g_clear_pointer(&place->vm_uuid, g_free);
    g_clear_pointer(&place->point, g_free);
    g_clear_pointer(&place->target, g_free);
}

static struct chain_place place_below(const struct manifest *manifest,
                                      const struct manifest_disk *disk)
{
    if (!disk->base)
        return (struct chain_place){0};
    return (struct chain_place){g_strdup(manifest_base_vm(manifest, disk)), g_strdup(disk->base),
                                g_strdup(manifest_base_target(disk))};
}

bool local_chain_step(struct local_store *self, struct chain_place *place,
                      struct image_layer *layer, GError **error)
{
    AUTO(manifest) manifest = local_manifest(self->path, place->vm_uuid, place->point, error);
    g_autofree char *dir = store_point_dir(self->path, place->vm_uuid, place->point);
    const struct manifest_disk *disk = manifest ? manifest_disk(manifest, place->target) : NULL;

    if (!manifest)
        return false;
    if (!disk)
        return fail(error, ERROR_INTEGRITY, "point %s of VM %s has no disk %s", place->point,
                    place->vm_uuid, place->target);
    layer->image = g_build_filename(dir, disk->file, NULL);
    layer->digests = g_build_filename(dir, disk->digests, NULL);
    layer->virtual_bytes = disk->virtual_bytes;
    chain_place_clear(place);
    *place = place_below(manifest, disk);
    return true;
}

/* The image at *PLACE, which becomes the place below it. */
static char *next_image(struct local_store *self, struct chain_place *place, GError **error)
{
    struct image_layer layer;

    if (!local_chain_step(self, place, &layer, error))
        return NULL;
    g_free(layer.digests);
    if (g_file_test(layer.image, G_FILE_TEST_IS_REGULAR))
        return layer.image;
    fail(error, ERROR_INTEGRITY, "%s is missing", layer.image);
    g_free(layer.image);
    return NULL;
}

char **store_chain(struct store *local, const char *vm_uuid, const char *point, const char *target,
                   GError **error)
{
    struct local_store *self = (struct local_store *)local;
    g_autoptr(GPtrArray) images = g_ptr_array_new_with_free_func(g_free);
    AUTO_CHAIN_PLACE at = {g_strdup(vm_uuid), g_strdup(point), g_strdup(target)};

    g_assert(local->ops == &local_store_ops);
    /* It ends: manifest_parse() accepts only bases that are older, of whatever VM. */
    while (at.point) {
        char *image = next_image(self, &at, error);

        if (!image) {
            /* Of the top it is the caller who knows that it should be there. */
            if (images->len > 0 && error && *error)
                (*error)->code = ERROR_INTEGRITY;
            g_prefix_error(error, "chain of %s at point %s: ", target, point);
            return NULL;
        }
        g_ptr_array_add(images, image);
    }
    g_ptr_array_add(images, NULL);
    return (char **)g_ptr_array_steal(images, NULL);
}
