/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata/guarded.h"

#include <inttypes.h>
#include <string.h>

#include "metadata/manifest.h"
#include "metadata/owner.h"

#define GUARDED_MAX_BYTES 4096u
#define GUARDED_MODE 0600
#define GUARDED_DIR_MODE 0700
#define BOOT_ID "/proc/sys/kernel/random/boot_id"

struct guarded *guarded_new(const char *uuid, const char *vm, enum guard_mode mode)
{
    struct guarded *guarded = g_new0(struct guarded, 1);

    g_strlcpy(guarded->uuid, uuid, sizeof(guarded->uuid));
    guarded->vm = g_strdup(vm);
    guarded->mode = mode;
    return guarded;
}

void guarded_free(struct guarded *guarded)
{
    if (!guarded)
        return;
    g_free(guarded->vm);
    g_free(guarded);
}

char *guarded_dir(const char *config_dir)
{
    return g_build_filename(config_dir, "guard", NULL);
}

static char *guarded_path(const char *config_dir, const char *uuid)
{
    return g_build_filename(config_dir, "guard", uuid, NULL);
}

/* Of the running kernel; empty if it does not tell. g_free */
static char *boot_id(void)
{
    char *id = NULL;

    if (!g_file_get_contents(BOOT_ID, &id, NULL, NULL))
        return g_strdup("");
    return g_strstrip(id);
}

/* --- Lines ----------------------------------------------------------------------------------- */

static bool parse_mode(const char *value, enum guard_mode *mode)
{
    for (*mode = GUARD_OFF; *mode <= GUARD_STRICT; (*mode)++)
        if (strcmp(value, guard_mode_name(*mode)) == 0)
            return true;
    return false;
}

/* What was claimed before this boot of the host is not confirmed any more. */
static bool parse_claimed(const char *value, uint64_t *epoch)
{
    g_auto(GStrv) words = g_strsplit(value, " ", 2);
    g_autofree char *boot = boot_id();

    if (!words[0] || !words[1] ||
        !g_ascii_string_to_unsigned(words[0], 10, 1, INT64_MAX, epoch, NULL))
        return false;
    if (!*boot || strcmp(words[1], boot) != 0)
        *epoch = 0;
    return true;
}

static bool parse_line(const char *key, const char *value, struct guarded *guarded)
{
    if (strcmp(key, "vm") == 0) {
        g_free(guarded->vm);
        guarded->vm = g_strdup(value);
        return vm_name_is_valid(value);
    }
    if (strcmp(key, "mode") == 0)
        return parse_mode(value, &guarded->mode);
    if (strcmp(key, "autostart") == 0)
        return guarded->autostart = strcmp(value, "yes") == 0;
    if (strcmp(key, "fenced") == 0)
        return time_parse(value, &guarded->fenced_ms, NULL);
    return strcmp(key, "claimed") == 0 && parse_claimed(value, &guarded->claimed_epoch);
}

static struct guarded *parse(const char *text, const char *uuid)
{
    AUTO(guarded) guarded = guarded_new(uuid, NULL, GUARD_OFF);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    bool has_mode = false;

    for (char **line = lines; *line; line++) {
        char *equals = strchr(*line, '=');

        if (!**line)
            continue;
        if (!equals)
            return NULL;
        *equals = '\0';
        if (!parse_line(*line, equals + 1, guarded))
            return NULL;
        has_mode |= strcmp(*line, "mode") == 0;
    }
    return guarded->vm && has_mode ? g_steal_pointer(&guarded) : NULL;
}

static char *text_of(const struct guarded *guarded)
{
    g_autofree char *boot = boot_id();
    GString *text = g_string_new(NULL);

    g_string_append_printf(text, "vm=%s\nmode=%s\n", guarded->vm, guard_mode_name(guarded->mode));
    if (guarded->autostart)
        g_string_append(text, "autostart=yes\n");
    if (guarded->fenced_ms) {
        g_autofree char *time = time_format(guarded->fenced_ms);

        g_string_append_printf(text, "fenced=%s\n", time);
    }
    if (guarded->claimed_epoch)
        g_string_append_printf(text, "claimed=%" PRIu64 " %s\n", guarded->claimed_epoch, boot);
    return g_string_free(text, FALSE);
}

/* --- Files ----------------------------------------------------------------------------------- */

bool guarded_read(const char *config_dir, const char *uuid, struct guarded **out, GError **error)
{
    g_autofree char *path = guarded_path(config_dir, uuid);
    g_autofree char *text = NULL;
    g_autoptr(GError) why = NULL;
    struct guarded *guarded;

    if (!file_read(path, GUARDED_MAX_BYTES, &text, NULL, &why)) {
        *out = NULL;
        if (error_is(why, ERROR_NOT_FOUND))
            return true;
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    guarded = parse(text, uuid);
    if (!guarded)
        return fail(
            error, ERROR_INTEGRITY,
            "%s, which says how the guard treats the VM, is damaged. If the VM is to run at "
            "this site, `drctl fence --release` here makes it anew",
            path);
    *out = guarded;
    return true;
}

static bool write_all(const char *config_dir, const GPtrArray *list, GError **error)
{
    g_autofree char *dir = guarded_dir(config_dir);
    g_autoptr(GArray) files = file_texts_new();

    for (unsigned i = 0; i < list->len; i++) {
        const struct guarded *guarded = list->pdata[i];

        file_texts_add(files, guarded_path(config_dir, guarded->uuid), text_of(guarded));
    }
    return dir_make(dir, GUARDED_DIR_MODE, error) && file_texts_write(files, GUARDED_MODE, error);
}

bool guarded_write(const char *config_dir, const struct guarded *guarded, GError **error)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new();

    g_ptr_array_add(list, (void *)guarded);
    return write_all(config_dir, list, error);
}

bool guarded_remove(const char *config_dir, const char *uuid, GError **error)
{
    g_autofree char *path = guarded_path(config_dir, uuid);

    return tree_remove(path, error);
}

GPtrArray *guarded_list(const char *config_dir, GError **error)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)guarded_free);
    g_autofree char *dir = guarded_dir(config_dir);
    g_auto(GStrv) names = dir_list(dir, error);

    if (!names)
        return NULL;
    for (char **name = names; *name; name++) {
        struct guarded *guarded = NULL;

        if (!uuid_is_valid(*name))
            continue;
        if (!guarded_read(config_dir, *name, &guarded, NULL) || !guarded)
            guarded = guarded_new(*name, *name, GUARD_STRICT);
        g_ptr_array_add(list, guarded);
    }
    return g_steal_pointer(&list);
}

bool guarded_uri_has_hooks(const char *uri)
{
    g_autofree char *path = NULL;

    return g_uri_split(uri, G_URI_FLAGS_NONE, NULL, NULL, NULL, NULL, &path, NULL, NULL, NULL) &&
           strcmp(path, "/system") == 0;
}

/* --- What becomes of a VM -------------------------------------------------------------------- */

bool guarded_arm(const char *config_dir, const char *uuid, const char *vm, enum guard_mode mode,
                 GError **error)
{
    AUTO(guarded) guarded = NULL;

    if (!guarded_read(config_dir, uuid, &guarded, error))
        return false;
    if (guarded && guarded->mode == mode && strcmp(guarded->vm, vm) == 0)
        return true;
    if (!guarded)
        guarded = guarded_new(uuid, vm, mode);
    g_free(guarded->vm);
    guarded->vm = g_strdup(vm);
    guarded->mode = mode;
    return guarded_write(config_dir, guarded, error);
}

static struct guarded *claimed(const char *config_dir, const struct owner *owner,
                               enum guard_mode mode, GError **error)
{
    struct guarded *guarded = NULL;
    g_autoptr(GError) why = NULL;

    if (!guarded_read(config_dir, owner->uuid, &guarded, &why) && !error_is(why, ERROR_INTEGRITY)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
    }
    if (!guarded)
        guarded = guarded_new(owner->uuid, owner->vm, mode);
    guarded->mode = mode;
    guarded->fenced_ms = 0;
    guarded->claimed_epoch = owner->epoch;
    return guarded;
}

GPtrArray *guarded_claim(const char *config_dir, const GPtrArray *owners, enum guard_mode mode,
                         GError **error)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify)guarded_free);

    for (unsigned i = 0; i < owners->len; i++) {
        struct guarded *guarded = claimed(config_dir, owners->pdata[i], mode, error);

        if (!guarded)
            return NULL;
        g_ptr_array_add(list, guarded);
    }
    return write_all(config_dir, list, error) ? g_steal_pointer(&list) : NULL;
}
