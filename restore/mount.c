/* SPDX-License-Identifier: Apache-2.0 */
/* The disks of a point over NBD. */
#include "restore/look.h"

#include <string.h>

#include "restore/request.h"

/* ---- Which point */

/* The one VM that has a point of that id; g_free. */
static char *vm_of_point(const struct site *site, const char *point, GError **error)
{
    g_autoptr(GPtrArray) points = store_points(site->store, NULL, error);
    g_autoptr(GString) others = g_string_new(NULL);
    const struct manifest *found = NULL;
    unsigned count = 0;

    for (unsigned i = 0; points && i < points->len; i++) {
        const struct manifest *manifest = points->pdata[i];

        if (strcmp(manifest->point, point) != 0)
            continue;
        found = manifest;
        g_string_append_printf(others, "%s%s", count++ ? ", " : "", manifest->vm);
    }
    if (points && count == 0)
        fail(error, ERROR_NOT_FOUND, "there is no point %s here; `drctl points` lists them", point);
    else if (points && count > 1)
        fail(error, ERROR_CONFLICT, "point %s is one of several VMs (%s): name one, and --point %s",
             point, others->str, point);
    return count == 1 ? g_strdup(found->uuid) : NULL;
}

struct origin *look_at_point(const struct site *site, const char *what, const char *point,
                             GError **error)
{
    struct restore_request request = {.vm = what, .point = point};
    g_autofree char *uuid = NULL;
    g_autoptr(GError) cause = NULL;
    struct origin *origin;
    int64_t ms;

    if (!point && point_id_parse(what, &ms)) {
        uuid = vm_of_point(site, what, error);
        if (!uuid)
            return NULL;
        request = (struct restore_request){.vm = uuid, .point = what};
    }
    /* It relies on there being an error to be set. */
    origin = request_origin(site, &request, &cause);
    if (!origin)
        g_propagate_error(error, g_steal_pointer(&cause));
    return origin;
}

const struct origin_disk *look_at_disk(const struct origin *origin, const char *target,
                                       GError **error)
{
    g_autoptr(GString) others = g_string_new(NULL);

    for (unsigned i = 0; i < origin->disks->len; i++) {
        const struct origin_disk *disk = origin->disks->pdata[i];

        if (strcmp(disk->target, target) == 0)
            return disk;
        g_string_append_printf(others, "%s%s", i ? ", " : "", disk->target);
    }
    fail(error, ERROR_NOT_FOUND, "point %s of %s has no disk %s; it has: %s",
         origin->manifest->point, origin->manifest->vm, target, others->len ? others->str : "none");
    return NULL;
}

/* ---- Serving */

struct mount {
    struct origin *origin;
    struct workdir *workdir;
    GPtrArray *servers; /* of struct child */
};

static void free_server(void *server)
{
    child_free(server);
}

void mount_free(struct mount *mount)
{
    if (!mount)
        return;
    g_ptr_array_unref(mount->servers);
    workdir_free(mount->workdir);
    origin_free(mount->origin);
    g_free(mount);
}

static bool serve_disk(struct mount *mount, const struct origin_disk *disk, GPtrArray *disks,
                       GError **error)
{
    g_autofree char *socket = g_build_filename(mount->workdir->path, disk->target, NULL);
    struct child *child = snapshot_serve(disk->chain[0], disk->target, socket, NULL, error);
    g_autofree char *escaped = NULL;
    struct mounted_disk *mounted;

    if (!child)
        return false;
    g_ptr_array_add(mount->servers, child);
    mounted = g_new0(struct mounted_disk, 1);
    g_ptr_array_add(disks, mounted);
    escaped = g_uri_escape_string(socket, "/", FALSE);
    mounted->target = g_strdup(disk->target);
    mounted->uri = g_strdup_printf("nbd+unix:///%s?socket=%s", disk->target, escaped);
    mounted->socket = g_steal_pointer(&socket);
    mounted->virtual_bytes = disk->virtual_bytes;
    return true;
}

static void mounted_disk_free(void *data)
{
    struct mounted_disk *disk = data;

    g_free(disk->target);
    g_free(disk->uri);
    g_free(disk->socket);
    g_free(disk);
}

void mount_result_clear(struct mount_result *result)
{
    g_clear_pointer(&result->vm, g_free);
    g_clear_pointer(&result->point, g_free);
    g_clear_pointer(&result->disks, g_ptr_array_unref);
}

static bool serve_all(struct mount *mount, const struct mount_request *request, GPtrArray *disks,
                      GError **error)
{
    const struct origin_disk *only =
        request->disk ? look_at_disk(mount->origin, request->disk, error) : NULL;

    if (request->disk && !only)
        return false;
    for (unsigned i = 0; i < mount->origin->disks->len; i++) {
        const struct origin_disk *disk = mount->origin->disks->pdata[i];

        if ((!only || disk == only) && !serve_disk(mount, disk, disks, error))
            return false;
    }
    return true;
}

struct mount *mount_new(const struct site *site, const struct mount_request *request,
                        struct mount_result *result, GError **error)
{
    AUTO(mount) mount = g_new0(struct mount, 1);

    mount->servers = g_ptr_array_new_with_free_func(free_server);
    mount->origin = look_at_point(site, request->what, request->point, error);
    if (!mount->origin)
        return NULL;
    mount->workdir = workdir_new(site->config->run_dir, error);
    if (!mount->workdir)
        return NULL;
    result->vm = g_strdup(mount->origin->manifest->vm);
    result->point = g_strdup(mount->origin->manifest->point);
    result->disks = g_ptr_array_new_with_free_func(mounted_disk_free);
    return serve_all(mount, request, result->disks, error) ? g_steal_pointer(&mount) : NULL;
}

bool mount_runs(struct mount *mount, GError **error)
{
    for (unsigned i = 0; i < mount->servers->len; i++)
        if (!child_runs(mount->servers->pdata[i], error))
            return false;
    return true;
}
