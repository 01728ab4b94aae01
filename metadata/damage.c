/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata/damage.h"

#include <inttypes.h>
#include <string.h>

#define DAMAGE_MODE 0600

static void damaged_file_free(void *data)
{
    struct damaged_file *file = data;

    g_free(file->name);
    g_free(file->why);
    g_array_unref(file->clusters);
    g_free(file);
}

struct damage *damage_new(void)
{
    struct damage *damage = g_new0(struct damage, 1);

    damage->time_ms = time_now_ms();
    damage->files = g_ptr_array_new_with_free_func(damaged_file_free);
    return damage;
}

void damage_free(struct damage *damage)
{
    if (!damage)
        return;
    g_ptr_array_unref(damage->files);
    g_free(damage);
}

struct damaged_file *damage_file(const struct damage *damage, const char *name)
{
    for (unsigned i = 0; i < damage->files->len; i++) {
        struct damaged_file *file = damage->files->pdata[i];

        if (strcmp(file->name, name) == 0)
            return file;
    }
    return NULL;
}

struct damaged_file *damage_add(struct damage *damage, const char *name, const char *why)
{
    struct damaged_file *file = damage_file(damage, name);

    if (file)
        return file;
    file = g_new0(struct damaged_file, 1);
    file->name = g_strdup(name);
    file->why = g_strdup(why);
    file->clusters = cluster_ranges_new();
    g_ptr_array_add(damage->files, file);
    return file;
}

void damaged_file_add(struct damaged_file *file, uint64_t first, uint64_t count)
{
    cluster_ranges_add(file->clusters, first, count);
}

bool damaged_file_has(const struct damaged_file *file, uint64_t cluster)
{
    return cluster_ranges_has(file->clusters, cluster);
}

char *damage_text(const struct damage *damage)
{
    GString *text = g_string_new(NULL);

    for (unsigned i = 0; i < damage->files->len; i++) {
        const struct damaged_file *file = damage->files->pdata[i];

        g_string_append_printf(text, "%s%s: %s", i ? "; " : "", file->name, file->why);
    }
    return g_string_free(text, FALSE);
}

/* --- damage.json ----------------------------------------------------------------------------- */

static bool parse_file(const json_t *entry, struct damage *damage, GError **error)
{
    const char *name, *why;
    struct damaged_file *file;
    json_t *clusters;

    if (!json_need_string(entry, "name", &name, error) ||
        !json_need_string(entry, "why", &why, error) ||
        !json_need_array(entry, "clusters", &clusters, error))
        return false;
    if (!name_is_safe(name) || damage_file(damage, name))
        return fail(error, ERROR_INTEGRITY, "a file has no good name");
    file = damage_add(damage, name, why);
    file->unreadable = json_is_true(json_object_get(entry, "unreadable"));
    return cluster_ranges_parse(clusters, file->clusters, error);
}

static bool parse(const char *text, size_t len, struct damage *damage, GError **error)
{
    json_auto_t *json = json_parse(text, len, DAMAGE_NAME, error);
    const char *time;
    uint64_t format;
    json_t *files, *entry;
    size_t i;

    if (!json || !json_need_u64(json, "format", &format, error))
        return false;
    if (format != DAMAGE_FORMAT)
        return fail(error, ERROR_INTEGRITY, "format %" PRIu64 " is not known", format);
    if (!json_need_string(json, "time", &time, error) ||
        !time_parse(time, &damage->time_ms, error) ||
        !json_need_array(json, "files", &files, error))
        return false;
    json_array_foreach(files, i, entry) if (!parse_file(entry, damage, error)) return false;
    return true;
}

struct damage *damage_parse(const char *text, size_t len, GError **error)
{
    AUTO(damage) damage = damage_new();

    return parse(text, len, damage, error) ? g_steal_pointer(&damage) : NULL;
}

bool damage_load(const char *dir, struct damage **damage, GError **error)
{
    g_autofree char *path = g_build_filename(dir, DAMAGE_NAME, NULL);
    g_autofree char *text = NULL;
    g_autoptr(GError) why = NULL;
    size_t len;

    *damage = NULL;
    if (!file_read(path, DAMAGE_MAX_BYTES, &text, &len, &why)) {
        if (error_is(why, ERROR_NOT_FOUND))
            return true;
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    *damage = damage_parse(text, len, error);
    if (!*damage)
        g_prefix_error(error, "%s: ", path);
    return *damage != NULL;
}

bool damage_save(const char *dir, const struct damage *damage, GError **error)
{
    g_autofree char *path = g_build_filename(dir, DAMAGE_NAME, NULL);
    g_autofree char *time = time_format(damage->time_ms);
    json_auto_t *json = json_object();
    json_t *files = json_array();
    g_autofree char *text = NULL;

    for (unsigned i = 0; i < damage->files->len; i++) {
        const struct damaged_file *file = damage->files->pdata[i];
        json_t *entry = json_object();

        json_set_string(entry, "name", file->name);
        json_set_string(entry, "why", file->why);
        json_object_set_new(entry, "unreadable", json_boolean(file->unreadable));
        json_object_set_new(entry, "clusters", cluster_ranges_json(file->clusters));
        json_array_append_new(files, entry);
    }
    json_set_u64(json, "format", DAMAGE_FORMAT);
    json_set_string(json, "time", time);
    json_object_set_new(json, "files", files);
    text = json_text(json, 0);
    return file_write(path, text, strlen(text), DAMAGE_MODE, error);
}

bool damage_forget(const char *dir, GError **error)
{
    g_autofree char *path = g_build_filename(dir, DAMAGE_NAME, NULL);

    return !g_file_test(path, G_FILE_TEST_EXISTS) ||
           (tree_remove(path, error) && dir_sync(dir, error));
}
