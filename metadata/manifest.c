/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "metadata/damage.h"
#include "metadata/manifest.h"
#include "metadata/proof.h"

static const char *const consistency_names[CONSISTENCIES] = {
    [CONSISTENCY_CRASH] = "crash",
    [CONSISTENCY_FILESYSTEM] = "filesystem",
    [CONSISTENCY_GROUP_CRASH] = "group-crash",
    [CONSISTENCY_GROUP_FILESYSTEM] = "group-filesystem",
};

const char *consistency_name(enum consistency consistency)
{
    return consistency_names[consistency];
}

bool consistency_parse(const char *name, enum consistency *consistency)
{
    for (unsigned i = 0; i < CONSISTENCIES; i++) {
        if (g_strcmp0(name, consistency_names[i]) != 0)
            continue;
        *consistency = (enum consistency)i;
        return true;
    }
    return false;
}

bool consistency_is_group(enum consistency consistency)
{
    return consistency >= CONSISTENCY_GROUP_CRASH;
}

static void disk_free(void *data)
{
    struct manifest_disk *disk = data;

    g_free(disk->target);
    g_free(disk->file);
    g_free(disk->digests);
    g_free(disk->base);
    g_free(disk->base_vm);
    g_free(disk->base_target);
    g_free(disk);
}

static void file_free(void *data)
{
    struct manifest_file *file = data;

    g_free(file->name);
    g_free(file);
}

struct manifest *manifest_new(void)
{
    struct manifest *manifest = g_new0(struct manifest, 1);

    manifest->disks = g_ptr_array_new_with_free_func(disk_free);
    manifest->files = g_ptr_array_new_with_free_func(file_free);
    return manifest;
}

bool name_is_of_store(const char *name)
{
    return strcmp(name, MANIFEST_NAME) == 0 || strcmp(name, SHA256SUMS_NAME) == 0 ||
           strcmp(name, DAMAGE_NAME) == 0 || strcmp(name, PROOF_NAME) == 0;
}

void manifest_free(struct manifest *manifest)
{
    if (!manifest)
        return;
    g_free(manifest->vm);
    g_free(manifest->uuid);
    g_free(manifest->point);
    g_free(manifest->site);
    g_free(manifest->group);
    g_free(manifest->base);
    g_free(manifest->checkpoint);
    g_free(manifest->reason);
    g_free(manifest->label);
    g_ptr_array_unref(manifest->disks);
    g_ptr_array_unref(manifest->files);
    g_free(manifest);
}

struct manifest_disk *manifest_add_disk(struct manifest *manifest, const char *target)
{
    struct manifest_disk *disk = g_new0(struct manifest_disk, 1);

    disk->target = g_strdup(target);
    disk->file = g_strdup_printf("%s.qcow2", target);
    disk->digests = g_strdup_printf("%s.digests", target);
    g_ptr_array_add(manifest->disks, disk);
    return disk;
}

void manifest_add_file(struct manifest *manifest, const char *name, uint64_t bytes)
{
    struct manifest_file *file = g_new0(struct manifest_file, 1);

    file->name = g_strdup(name);
    file->bytes = bytes;
    g_ptr_array_add(manifest->files, file);
}

void manifest_remove_file(struct manifest *manifest, const char *name)
{
    for (unsigned i = 0; i < manifest->files->len; i++) {
        const struct manifest_file *file = manifest->files->pdata[i];

        if (strcmp(file->name, name) != 0)
            continue;
        g_ptr_array_remove_index(manifest->files, i);
        return;
    }
}

const char *manifest_newest_base(const struct manifest *manifest)
{
    const char *newest = NULL;

    for (unsigned i = 0; i < manifest->disks->len; i++) {
        const struct manifest_disk *disk = manifest->disks->pdata[i];

        if (disk->base && (!newest || strcmp(disk->base, newest) > 0))
            newest = disk->base;
    }
    return newest;
}

void manifest_set_base(struct manifest *manifest)
{
    g_free(manifest->base);
    manifest->base = g_strdup(manifest_newest_base(manifest));
}

const struct manifest_disk *manifest_disk(const struct manifest *manifest, const char *target)
{
    for (unsigned i = 0; i < manifest->disks->len; i++) {
        const struct manifest_disk *disk = manifest->disks->pdata[i];

        if (strcmp(disk->target, target) == 0)
            return disk;
    }
    return NULL;
}

const struct manifest_disk *manifest_disk_of_image(const struct manifest *manifest,
                                                   const char *name)
{
    for (unsigned i = 0; i < manifest->disks->len; i++) {
        const struct manifest_disk *disk = manifest->disks->pdata[i];

        if (strcmp(disk->file, name) == 0)
            return disk;
    }
    return NULL;
}

const struct manifest_file *manifest_file(const struct manifest *manifest, const char *name)
{
    for (unsigned i = 0; i < manifest->files->len; i++) {
        const struct manifest_file *file = manifest->files->pdata[i];

        if (strcmp(file->name, name) == 0)
            return file;
    }
    return NULL;
}

const char *manifest_base_vm(const struct manifest *manifest, const struct manifest_disk *disk)
{
    return disk->base_vm ? disk->base_vm : manifest->uuid;
}

const char *manifest_base_target(const struct manifest_disk *disk)
{
    return disk->base_target ? disk->base_target : disk->target;
}

char *manifest_backing_name(const struct manifest_disk *disk)
{
    const char *target = manifest_base_target(disk);

    if (!disk->base)
        return NULL;
    return disk->base_vm
               ? g_strdup_printf("../../%s/%s/%s.qcow2", disk->base_vm, disk->base, target)
               : g_strdup_printf("../%s/%s.qcow2", disk->base, target);
}

/* --- Writing. */

static json_t *disk_json(const struct manifest_disk *disk)
{
    json_t *json = json_object();

    json_set_string(json, "target", disk->target);
    json_set_string(json, "file", disk->file);
    json_set_string(json, "digests", disk->digests);
    json_set_string(json, "base", disk->base);
    if (disk->base_vm)
        json_set_string(json, "base_vm", disk->base_vm);
    if (disk->base_target)
        json_set_string(json, "base_target", disk->base_target);
    json_set_u64(json, "virtual_bytes", disk->virtual_bytes);
    json_set_u64(json, "changed_bytes", disk->changed_bytes);
    json_set_u64(json, "stored_bytes", disk->stored_bytes);
    return json;
}

static json_t *disks_json(const struct manifest *manifest)
{
    json_t *disks = json_array();

    for (unsigned i = 0; i < manifest->disks->len; i++)
        json_array_append_new(disks, disk_json(manifest->disks->pdata[i]));
    return disks;
}

static json_t *files_json(const struct manifest *manifest)
{
    json_t *files = json_array();

    for (unsigned i = 0; i < manifest->files->len; i++) {
        const struct manifest_file *file = manifest->files->pdata[i];
        json_t *json = json_object();

        json_set_string(json, "name", file->name);
        json_set_u64(json, "bytes", file->bytes);
        json_array_append_new(files, json);
    }
    return files;
}

static char *one_line(const char *text)
{
    GString *line = g_string_new(NULL);
    g_autofree char *valid = text ? g_utf8_make_valid(text, -1) : NULL;

    for (const char *at = valid; at && *at; at = g_utf8_next_char(at)) {
        gunichar c = g_utf8_get_char(at);

        g_string_append_unichar(line, g_unichar_iscntrl(c) ? ' ' : c);
    }
    return g_string_free(line, FALSE);
}

static void set_time(json_t *json, int64_t ms)
{
    g_autofree char *time = time_format(ms);

    json_set_string(json, "time", time);
}

static void set_group(json_t *json, const struct manifest *manifest)
{
    json_t *group;

    if (!manifest->group)
        return;
    group = json_object();
    json_set_string(group, "id", manifest->group);
    json_set_u64(group, "members", manifest->group_members);
    json_set_u64(group, "skew_ms", manifest->group_skew_ms);
    json_object_set_new(json, "group", group);
}

json_t *manifest_json(const struct manifest *manifest)
{
    json_t *json = json_object();
    g_autofree char *reason = one_line(manifest->reason);

    json_set_u64(json, "format", MANIFEST_FORMAT);
    json_set_string(json, "vm", manifest->vm);
    json_set_string(json, "uuid", manifest->uuid);
    json_set_string(json, "point", manifest->point);
    set_time(json, manifest->time_ms);
    json_set_string(json, "site", manifest->site);
    json_set_string(json, "consistency", consistency_name(manifest->consistency));
    set_group(json, manifest);
    json_set_string(json, "base", manifest->base);
    json_set_string(json, "checkpoint", manifest->checkpoint);
    json_set_string(json, "reason", manifest->reason ? reason : NULL);
    if (manifest->label)
        json_set_string(json, "label", manifest->label);
    json_object_set_new(json, "disks", disks_json(manifest));
    json_object_set_new(json, "files", files_json(manifest));
    return json;
}

char *manifest_text(const struct manifest *manifest)
{
    json_auto_t *json = manifest_json(manifest);

    return json_text(json, 2);
}

static json_t *disk_summaries(const struct manifest *manifest)
{
    json_t *disks = json_array();

    for (unsigned i = 0; i < manifest->disks->len; i++) {
        const struct manifest_disk *disk = manifest->disks->pdata[i];
        json_t *json = json_object();

        json_set_string(json, "target", disk->target);
        json_set_string(json, "base", disk->base);
        json_set_string(json, "base_vm", disk->base ? manifest_base_vm(manifest, disk) : NULL);
        json_set_string(json, "base_target", disk->base ? manifest_base_target(disk) : NULL);
        json_set_u64(json, "virtual_bytes", disk->virtual_bytes);
        json_set_u64(json, "changed_bytes", disk->changed_bytes);
        json_set_u64(json, "stored_bytes", disk->stored_bytes);
        json_array_append_new(disks, json);
    }
    return disks;
}

json_t *manifest_summary(const struct manifest *manifest, const char *path)
{
    json_t *json = json_object();

    json_set_string(json, "vm", manifest->vm);
    json_set_string(json, "uuid", manifest->uuid);
    json_set_string(json, "point", manifest->point);
    set_time(json, manifest->time_ms);
    json_set_string(json, "consistency", consistency_name(manifest->consistency));
    set_group(json, manifest);
    json_set_string(json, "base", manifest->base);
    json_set_string(json, "label", manifest->label);
    json_set_string(json, "path", path);
    json_object_set_new(json, "disks", disk_summaries(manifest));
    return json;
}

uint64_t manifest_bytes(const struct manifest *manifest)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < manifest->files->len; i++)
        if (!g_uint64_checked_add(&sum, sum,
                                  ((const struct manifest_file *)manifest->files->pdata[i])->bytes))
            return UINT64_MAX;
    return sum;
}

uint64_t manifest_changed_bytes(const struct manifest *manifest)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < manifest->disks->len; i++)
        sum += ((const struct manifest_disk *)manifest->disks->pdata[i])->changed_bytes;
    return sum;
}

uint64_t manifest_stored_bytes(const struct manifest *manifest)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < manifest->disks->len; i++)
        sum += ((const struct manifest_disk *)manifest->disks->pdata[i])->stored_bytes;
    return sum;
}
