/* SPDX-License-Identifier: Apache-2.0 */
/* Reading: first the types, then what the values say. */
#include <inttypes.h>
#include <string.h>

#include "metadata/config.h"
#include "metadata/manifest.h"

#define CLUSTER_BYTES (UINT64_C(64) << 10)

/* Nothing that a terminal would act on, C1 included. */
static bool is_one_line(const char *text)
{
    if (!g_utf8_validate(text, -1, NULL))
        return false;
    for (; *text; text = g_utf8_next_char(text))
        if (g_unichar_iscntrl(g_utf8_get_char(text)))
            return false;
    return true;
}

bool vm_name_is_valid(const char *name)
{
    return *name && strlen(name) <= 255 && !strchr(name, '/') && is_one_line(name);
}

/* --- Types ---------------------------------------------------------------------------------- */

static bool only_keys(const json_t *object, const char *const *known, GError **error)
{
    const char *key;
    json_t *value;

    if (!json_is_object(object))
        return fail(error, ERROR_INTEGRITY, "is not an object");
    json_object_foreach((json_t *)object, key, value) if (!g_strv_contains(known, key)) return fail(
        error, ERROR_INTEGRITY, "\"%s\" is not a key of format %d", key, MANIFEST_FORMAT);
    return true;
}

static bool read_string(const json_t *object, const char *key, char **out, GError **error)
{
    const char *text;

    if (!json_need_string(object, key, &text, error))
        return false;
    *out = g_strdup(text);
    return true;
}

/* A missing key is as good as null. */
static bool read_optional(const json_t *object, const char *key, char **out, GError **error)
{
    const json_t *value = json_object_get(object, key);

    return !value || json_is_null(value) || read_string(object, key, out, error);
}

static bool read_time(const json_t *object, int64_t *ms, GError **error)
{
    const char *text;

    if (!json_need_string(object, "time", &text, error))
        return false;
    if (!time_parse(text, ms, NULL))
        return fail(error, ERROR_INTEGRITY, "\"time\" is '%s', not a time", text);
    return true;
}

static bool read_consistency(const json_t *object, enum consistency *out, GError **error)
{
    const char *text;

    if (!json_need_string(object, "consistency", &text, error))
        return false;
    if (consistency_parse(text, out))
        return true;
    return fail(error, ERROR_INTEGRITY, "\"consistency\" is '%s', which is none", text);
}

static bool read_group(struct manifest *manifest, const json_t *object, GError **error)
{
    static const char *const keys[] = {"id", "members", "skew_ms", NULL};
    const json_t *group = json_object_get(object, "group");

    if (!group || json_is_null(group))
        return true;
    if (only_keys(group, keys, error) && read_string(group, "id", &manifest->group, error) &&
        json_need_u64(group, "members", &manifest->group_members, error) &&
        json_need_u64(group, "skew_ms", &manifest->group_skew_ms, error))
        return true;
    g_prefix_error(error, "\"group\": ");
    return false;
}

static bool read_disk(struct manifest *manifest, const json_t *json, GError **error)
{
    static const char *const keys[] = {
        "target",      "file",          "digests",       "base",         "base_vm",
        "base_target", "virtual_bytes", "changed_bytes", "stored_bytes", NULL};
    struct manifest_disk *disk = g_new0(struct manifest_disk, 1);

    g_ptr_array_add(manifest->disks, disk);
    return only_keys(json, keys, error) && read_string(json, "target", &disk->target, error) &&
           read_string(json, "file", &disk->file, error) &&
           read_string(json, "digests", &disk->digests, error) &&
           read_optional(json, "base", &disk->base, error) &&
           read_optional(json, "base_vm", &disk->base_vm, error) &&
           read_optional(json, "base_target", &disk->base_target, error) &&
           json_need_u64(json, "virtual_bytes", &disk->virtual_bytes, error) &&
           json_need_u64(json, "changed_bytes", &disk->changed_bytes, error) &&
           json_need_u64(json, "stored_bytes", &disk->stored_bytes, error);
}

static bool read_file(struct manifest *manifest, const json_t *json, GError **error)
{
    static const char *const keys[] = {"name", "bytes", NULL};
    struct manifest_file *file = g_new0(struct manifest_file, 1);

    g_ptr_array_add(manifest->files, file);
    return only_keys(json, keys, error) && read_string(json, "name", &file->name, error) &&
           json_need_u64(json, "bytes", &file->bytes, error);
}

static bool read_each(struct manifest *manifest, const json_t *object, const char *key,
                      bool (*read)(struct manifest *manifest, const json_t *json, GError **error),
                      GError **error)
{
    json_t *array, *value;
    size_t i;

    if (!json_need_array(object, key, &array, error))
        return false;
    json_array_foreach(array, i, value)
    {
        if (read(manifest, value, error))
            continue;
        g_prefix_error(error, "%s %zu: ", key, i + 1);
        return false;
    }
    return true;
}

/* Before anything else: another format may have other keys. */
static bool read_format(const json_t *json, GError **error)
{
    uint64_t format;

    if (!json_is_object(json))
        return fail(error, ERROR_INTEGRITY, "is not an object");
    if (!json_need_u64(json, "format", &format, error))
        return false;
    if (format != MANIFEST_FORMAT)
        return fail(error, ERROR_INTEGRITY,
                    "is of format %" PRIu64 ", this drctl knows format %d: use a newer drctl",
                    format, MANIFEST_FORMAT);
    return true;
}

static bool read_manifest(struct manifest *manifest, const json_t *json, GError **error)
{
    static const char *const keys[] = {"format", "vm",          "uuid",  "point", "time",
                                       "site",   "consistency", "group", "base",  "checkpoint",
                                       "reason", "label",       "disks", "files", NULL};

    return read_format(json, error) && only_keys(json, keys, error) &&
           read_string(json, "vm", &manifest->vm, error) &&
           read_string(json, "uuid", &manifest->uuid, error) &&
           read_string(json, "point", &manifest->point, error) &&
           read_time(json, &manifest->time_ms, error) &&
           read_string(json, "site", &manifest->site, error) &&
           read_consistency(json, &manifest->consistency, error) &&
           read_group(manifest, json, error) &&
           read_optional(json, "base", &manifest->base, error) &&
           read_optional(json, "checkpoint", &manifest->checkpoint, error) &&
           read_optional(json, "reason", &manifest->reason, error) &&
           (!json_object_get(json, "label") ||
            read_string(json, "label", &manifest->label, error)) &&
           read_each(manifest, json, "disks", read_disk, error) &&
           read_each(manifest, json, "files", read_file, error);
}

/* --- Values --------------------------------------------------------------------------------- */

static bool check_group(const struct manifest *manifest, GError **error)
{
    int64_t ms;

    if (consistency_is_group(manifest->consistency) != (manifest->group != NULL))
        return fail(error, ERROR_INTEGRITY, "\"consistency\" is %s, and \"group\" is %s",
                    consistency_name(manifest->consistency), manifest->group ? "there" : "missing");
    if (manifest->group && !point_id_parse(manifest->group, &ms))
        return fail(error, ERROR_INTEGRITY, "\"group\" is '%s', not an id", manifest->group);
    if (manifest->group && manifest->group_members == 0)
        return fail(error, ERROR_INTEGRITY, "\"group\" has no members");
    return true;
}

static bool check_head(const struct manifest *manifest, GError **error)
{
    int64_t ms;

    if (!vm_name_is_valid(manifest->vm))
        return fail(error, ERROR_INTEGRITY, "\"vm\" is not the name of a VM");
    if (!uuid_is_valid(manifest->uuid))
        return fail(error, ERROR_INTEGRITY, "\"uuid\" is '%s', not a UUID", manifest->uuid);
    if (!point_id_parse(manifest->point, &ms))
        return fail(error, ERROR_INTEGRITY, "\"point\" is '%s', not the id of a point",
                    manifest->point);
    if (!site_name_is_valid(manifest->site))
        return fail(error, ERROR_INTEGRITY, "\"site\" is '%s', not the name of a site",
                    manifest->site);
    if (manifest->checkpoint && !name_is_safe(manifest->checkpoint))
        return fail(error, ERROR_INTEGRITY, "\"checkpoint\" is not a safe name");
    if (manifest->reason && !is_one_line(manifest->reason))
        return fail(error, ERROR_INTEGRITY, "\"reason\" is not one line of text");
    if (manifest->label && !name_is_safe(manifest->label))
        return fail(error, ERROR_INTEGRITY, "\"label\" is not a safe name");
    return check_group(manifest, error);
}

static bool check_files(const struct manifest *manifest, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    for (unsigned i = 0; i < manifest->files->len; i++) {
        const struct manifest_file *file = manifest->files->pdata[i];

        if (!name_is_safe(file->name))
            return fail(error, ERROR_INTEGRITY, "file '%s' has an unsafe name", file->name);
        if (name_is_of_store(file->name))
            return fail(error, ERROR_INTEGRITY, "file %s is written by the store itself",
                        file->name);
        if (!g_hash_table_add(seen, file->name))
            return fail(error, ERROR_INTEGRITY, "file %s is there twice", file->name);
    }
    return true;
}

static bool check_disk_sizes(const struct manifest *manifest, const struct manifest_disk *disk,
                             GError **error)
{
    const struct manifest_file *image = manifest_file(manifest, disk->file);
    uint64_t max_changed;

    if (!image || !manifest_file(manifest, disk->digests))
        return fail(error, ERROR_INTEGRITY, "disk %s: %s is not among the files", disk->target,
                    image ? disk->digests : disk->file);
    if (image->bytes != disk->stored_bytes)
        return fail(error, ERROR_INTEGRITY,
                    "disk %s: \"stored_bytes\" is %" PRIu64 ", but %s has %" PRIu64, disk->target,
                    disk->stored_bytes, disk->file, image->bytes);
    if (disk->virtual_bytes == 0 || disk->virtual_bytes > MANIFEST_MAX_VIRTUAL_BYTES)
        return fail(error, ERROR_INTEGRITY, "disk %s: %" PRIu64 " is not the size of a disk",
                    disk->target, disk->virtual_bytes);
    max_changed = (disk->virtual_bytes + CLUSTER_BYTES - 1) / CLUSTER_BYTES * CLUSTER_BYTES;
    if (disk->changed_bytes > max_changed)
        return fail(error, ERROR_INTEGRITY,
                    "disk %s: \"changed_bytes\" is %" PRIu64 ", more than the disk has",
                    disk->target, disk->changed_bytes);
    return true;
}

static bool check_base(const struct manifest *manifest, const struct manifest_disk *disk,
                       GError **error)
{
    int64_t ms;

    if (disk->base && !point_id_parse(disk->base, &ms))
        return fail(error, ERROR_INTEGRITY, "disk %s: base '%s' is not the id of a point",
                    disk->target, disk->base);
    if (disk->base && strcmp(disk->base, manifest->point) >= 0)
        return fail(error, ERROR_INTEGRITY, "disk %s: base %s is not older than the point",
                    disk->target, disk->base);
    if (!disk->base && (disk->base_vm || disk->base_target))
        return fail(error, ERROR_INTEGRITY, "disk %s: half a base", disk->target);
    if (disk->base_vm &&
        (!uuid_is_valid(disk->base_vm) || strcmp(disk->base_vm, manifest->uuid) == 0))
        return fail(error, ERROR_INTEGRITY, "disk %s: base_vm '%s' is not the UUID of another VM",
                    disk->target, disk->base_vm);
    if (disk->base_target && !name_is_safe(disk->base_target))
        return fail(error, ERROR_INTEGRITY, "disk %s: base_target '%s' is an unsafe name",
                    disk->target, disk->base_target);
    return true;
}

/* Bases of bases end, because each is older than what is based on it. */
static bool check_disk(const struct manifest *manifest, const struct manifest_disk *disk,
                       GError **error)
{
    if (!name_is_safe(disk->target))
        return fail(error, ERROR_INTEGRITY, "disk '%s' has an unsafe name", disk->target);
    if (manifest_disk(manifest, disk->target) != disk)
        return fail(error, ERROR_INTEGRITY, "disk %s is there twice", disk->target);
    return check_base(manifest, disk, error) && check_disk_sizes(manifest, disk, error);
}

/* No file is the image or the digests of two disks. */
static bool check_disk_files(const struct manifest *manifest, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    for (unsigned i = 0; i < manifest->disks->len; i++) {
        const struct manifest_disk *disk = manifest->disks->pdata[i];

        if (!g_hash_table_add(seen, disk->file) || !g_hash_table_add(seen, disk->digests))
            return fail(error, ERROR_INTEGRITY, "disk %s: %s or %s has two uses", disk->target,
                        disk->file, disk->digests);
    }
    return true;
}

static bool check_disks(const struct manifest *manifest, GError **error)
{
    const char *newest = manifest_newest_base(manifest);

    if (manifest->disks->len > MANIFEST_MAX_DISKS)
        return fail(error, ERROR_INTEGRITY, "has %u disks, more than %d", manifest->disks->len,
                    MANIFEST_MAX_DISKS);
    for (unsigned i = 0; i < manifest->disks->len; i++)
        if (!check_disk(manifest, manifest->disks->pdata[i], error))
            return false;
    if (g_strcmp0(manifest->base, newest) != 0)
        return fail(error, ERROR_INTEGRITY, "\"base\" is %s, but the newest base of a disk is %s",
                    manifest->base ? manifest->base : "null", newest ? newest : "null");
    return check_disk_files(manifest, error);
}

struct manifest *manifest_from_json(const json_t *json, const char *what, GError **error)
{
    AUTO(manifest) manifest = manifest_new();

    if (!read_manifest(manifest, json, error) || !check_head(manifest, error) ||
        !check_files(manifest, error) || !check_disks(manifest, error)) {
        g_prefix_error(error, "%s: ", what);
        return NULL;
    }
    return g_steal_pointer(&manifest);
}

struct manifest *manifest_parse(const char *text, size_t len, const char *what, GError **error)
{
    json_auto_t *json = NULL;

    if (len > MANIFEST_MAX_BYTES) {
        fail(error, ERROR_INTEGRITY, "%s is larger than %u bytes", what, MANIFEST_MAX_BYTES);
        return NULL;
    }
    json = json_parse(text, len, what, error);
    return json ? manifest_from_json(json, what, error) : NULL;
}

struct manifest *manifest_load(const char *path, GError **error)
{
    g_autofree char *text = NULL;
    size_t len;

    if (!file_read(path, MANIFEST_MAX_BYTES, &text, &len, error))
        return NULL;
    return manifest_parse(text, len, path, error);
}
