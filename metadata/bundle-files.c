/* SPDX-License-Identifier: Apache-2.0 */
/* Files of the host in a pool bundle: files/<path> holds the content, host-files.json all else. */
#include <string.h>

#include "metadata/bundle.h"

#define MODE_MAX 0777u
#define TEXT_MAX_BYTES 200

/* ---- Into it */

static json_t *file_json(const struct host_file *file, bool base64)
{
    json_t *json = json_object();
    g_autofree char *mode = g_strdup_printf("%04o", file->mode);

    if (file->left_out) {
        json_set_string(json, "left_out", file->left_out);
        return json;
    }
    json_set_string(json, "type", file->is_directory ? "directory" : "file");
    json_set_string(json, "mode", mode);
    json_set_string(json, "user", file->user);
    json_set_string(json, "group", file->group);
    json_set_u64(json, "uid", file->uid);
    json_set_u64(json, "gid", file->gid);
    json_object_set_new(json, "base64", json_boolean(base64));
    return json;
}

static json_t *add_file(struct bundle *bundle, const struct host_file *file)
{
    g_autofree char *path = g_strconcat("files", file->path, NULL);
    bool is_text = file->data && strlen(file->data) == file->len &&
                   g_utf8_validate(file->data, (gssize)file->len, NULL);
    g_autofree char *encoded =
        file->data && !is_text ? g_base64_encode((const uint8_t *)file->data, file->len) : NULL;
    struct host_file unnamed = {.left_out = (char *)"its name is too long"};

    if (!bundle_takes(path))
        return file_json(&unnamed, false);
    if (file->data)
        bundle_add(bundle, path, encoded ? encoded : file->data);
    return file_json(file, encoded != NULL);
}

void bundle_add_files(struct bundle *bundle, const GPtrArray *files)
{
    json_auto_t *index = json_object();
    g_autofree char *text = NULL;

    if (files->len == 0)
        return;
    for (unsigned i = 0; i < files->len; i++) {
        const struct host_file *file = files->pdata[i];

        json_object_set_new(index, file->path, add_file(bundle, file));
    }
    text = json_text(index, 2);
    bundle_add(bundle, BUNDLE_FILES, text);
}

/* ---- Out of it */

static bool read_mode(struct host_file *file, const json_t *json, GError **error)
{
    const char *mode;
    uint64_t bits;

    if (!json_need_string(json, "mode", &mode, error))
        return false;
    if (!g_ascii_string_to_unsigned(mode, 8, 0, MODE_MAX, &bits, NULL))
        return fail(error, ERROR_INTEGRITY, "\"mode\" is not one");
    file->mode = (mode_t)bits;
    return true;
}

/* Texts of the other side come to a terminal. */
static char *read_text(const json_t *json, const char *key)
{
    const char *text = json_get_string(json, key);

    return text ? text_harmless(text, TEXT_MAX_BYTES) : NULL;
}

static bool read_owner(struct host_file *file, const json_t *json, GError **error)
{
    uint64_t uid, gid;

    if (!json_need_u64(json, "uid", &uid, error) || !json_need_u64(json, "gid", &gid, error))
        return false;
    if (uid >= UINT32_MAX || gid >= UINT32_MAX)
        return fail(error, ERROR_INTEGRITY, "\"uid\" or \"gid\" is too large");
    file->uid = (uid_t)uid;
    file->gid = (gid_t)gid;
    file->user = read_text(json, "user");
    file->group = read_text(json, "group");
    return true;
}

static bool read_data(const struct bundle *bundle, struct host_file *file, const json_t *json,
                      GError **error)
{
    g_autofree char *path = g_strconcat("files", file->path, NULL);
    const char *text = bundle_member(bundle, path);

    if (!text)
        return fail(error, ERROR_INTEGRITY, "there is no %s", path);
    file->len = strlen(text);
    file->data = json_is_true(json_object_get(json, "base64"))
                     ? (char *)g_base64_decode(text, &file->len)
                     : g_strdup(text);
    return true;
}

static bool read_file(const struct bundle *bundle, struct host_file *file, const json_t *json,
                      GError **error)
{
    const char *type;

    file->left_out = read_text(json, "left_out");
    if (file->left_out)
        return true;
    if (!json_need_string(json, "type", &type, error) || !read_mode(file, json, error) ||
        !read_owner(file, json, error))
        return false;
    file->is_directory = strcmp(type, "directory") == 0;
    return file->is_directory || read_data(bundle, file, json, error);
}

GPtrArray *bundle_files(const struct bundle *bundle, GError **error)
{
    g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func((GDestroyNotify)host_file_free);
    const char *text = bundle_member(bundle, BUNDLE_FILES);
    json_auto_t *index = text ? json_parse(text, strlen(text), BUNDLE_FILES, error) : json_object();
    const char *path;
    json_t *json;

    if (!index)
        return NULL;
    if (!json_is_object(index)) {
        fail(error, ERROR_INTEGRITY, BUNDLE_FILES " is not an object");
        return NULL;
    }
    json_object_foreach(index, path, json)
    {
        struct host_file *file = g_new0(struct host_file, 1);

        file->path = g_strdup(path);
        g_ptr_array_add(files, file);
        if (!host_path_is_valid(path)) {
            fail(error, ERROR_INTEGRITY, BUNDLE_FILES ": '%s' is not a path", path);
            return NULL;
        }
        if (!read_file(bundle, file, json, error)) {
            g_prefix_error(error, BUNDLE_FILES ": %s: ", path);
            return NULL;
        }
    }
    return g_steal_pointer(&files);
}
