/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What interrupted transfers left in incoming/. Nothing has to be done for it when a transfer ends, so
 * it is there after any kill: whatever of a VM lies in incoming/ while nobody holds the VM's place is
 * a partial. It gets a name that says so, and is kept as long as it may be of use.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "replicator/local.h"

#define UUID_LEN 36
#define POINT_ID_LEN strlen("20261120T221500.123Z")
#define PARTIAL_SUFFIX ".partial-"
/* Less is sent again sooner than it is looked for. */
#define PARTIAL_MIN_BYTES ((uint64_t)1 << 20)
#define PARTIAL_MAX_AGE_MS (INT64_C(7) * 24 * 3600 * 1000)

/* "<vm-uuid>.<point-id>", with ".partial-<number>" once it was seen to be one. */
struct leftover {
    char uuid[UUID_LEN + 1];
    char *point;
    unsigned number; /* 0: not yet named so */
    bool rubbish;    /* something else follows: it is not of a transfer */
    char *dir;
};

static void leftover_free(void *data)
{
    struct leftover *leftover = data;

    if (!leftover)
        return;
    g_free(leftover->point);
    g_free(leftover->dir);
    g_free(leftover);
}
DEFINE_CLEANUP(leftover)

/* SUFFIX is what follows the id of the point. */
static void parse_suffix(struct leftover *leftover, const char *suffix)
{
    const char *number = suffix + strlen(PARTIAL_SUFFIX);
    uint64_t value = 0;

    leftover->rubbish =
        *suffix && (!g_str_has_prefix(suffix, PARTIAL_SUFFIX) ||
                    !g_ascii_string_to_unsigned(number, 10, 1, UINT_MAX - 1, &value, NULL));
    leftover->number = (unsigned)value;
}

static struct leftover *leftover_parse(const char *base, const char *name)
{
    AUTO(leftover) leftover = g_new0(struct leftover, 1);
    const char *point = name + UUID_LEN + 1;
    int64_t ms;

    if (strlen(name) < UUID_LEN + 1 + POINT_ID_LEN || name[UUID_LEN] != '.')
        return NULL;
    g_strlcpy(leftover->uuid, name, sizeof(leftover->uuid));
    leftover->point = g_strndup(point, POINT_ID_LEN);
    leftover->dir = g_build_filename(base, name, NULL);
    if (!uuid_is_valid(leftover->uuid) || !point_id_parse(leftover->point, &ms))
        return NULL;
    parse_suffix(leftover, point + POINT_ID_LEN);
    return g_steal_pointer(&leftover);
}

static unsigned order(const struct leftover *leftover)
{
    return leftover->number || leftover->rubbish ? leftover->number : UINT_MAX;
}

static int newest_first(const void *a, const void *b)
{
    const struct leftover *left = *(struct leftover *const *)a;
    const struct leftover *right = *(struct leftover *const *)b;
    int by_point = strcmp(right->point, left->point);

    return by_point ? by_point : (order(left) < order(right)) - (order(left) > order(right));
}

/* Of VM_UUID, or of all (NULL); of struct leftover, newest first. */
static GPtrArray *find(const char *store_path, const char *vm_uuid, GError **error)
{
    g_autofree char *base = g_build_filename(store_path, "incoming", NULL);
    g_auto(GStrv) names = dir_list(base, error);
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func(leftover_free);

    if (!names)
        return NULL;
    for (char **name = names; *name; name++) {
        AUTO(leftover) leftover = leftover_parse(base, *name);

        if (leftover && (!vm_uuid || strcmp(leftover->uuid, vm_uuid) == 0))
            g_ptr_array_add(found, g_steal_pointer(&leftover));
    }
    g_ptr_array_sort(found, newest_first);
    return g_steal_pointer(&found);
}

/* The bytes of the images in DIR, and when the last of them came. */
static uint64_t image_bytes(const char *dir, int64_t *changed_ms)
{
    g_auto(GStrv) names = dir_list(dir, NULL);
    uint64_t bytes = 0;

    *changed_ms = 0;
    for (char **name = names; name && *name; name++) {
        g_autofree char *path = g_build_filename(dir, *name, NULL);
        struct stat status;

        if (!g_str_has_suffix(*name, ".qcow2") || lstat(path, &status) < 0)
            continue;
        bytes += (uint64_t)status.st_size;
        *changed_ms = MAX(*changed_ms, (int64_t)status.st_mtim.tv_sec * 1000);
    }
    return bytes;
}

static bool is_of_use(const struct leftover *leftover)
{
    int64_t changed_ms;

    return !leftover->rubbish && image_bytes(leftover->dir, &changed_ms) >= PARTIAL_MIN_BYTES &&
           time_now_ms() - changed_ms <= PARTIAL_MAX_AGE_MS;
}

/* NEXT is the next older one, or NULL. */
static bool name_it(struct leftover *leftover, const struct leftover *next, GError **error)
{
    bool same_point = next && strcmp(next->point, leftover->point) == 0;
    g_autofree char *named = NULL;

    leftover->number = same_point ? next->number + 1 : 1;
    named = g_strdup_printf("%s" PARTIAL_SUFFIX "%u", leftover->dir, leftover->number);
    if (!path_rename(leftover->dir, named, error))
        return false;
    g_free(leftover->dir);
    leftover->dir = g_steal_pointer(&named);
    return true;
}

char **local_partials_settle(const char *store_path, const char *vm_uuid, GError **error)
{
    g_autoptr(GPtrArray) found = find(store_path, vm_uuid, error);
    g_autoptr(GPtrArray) kept = g_ptr_array_new_with_free_func(g_free);

    if (!found)
        return NULL;
    for (unsigned i = 0; i < found->len; i++) {
        struct leftover *leftover = found->pdata[i];

        if (kept->len == PARTIALS_MAX || !is_of_use(leftover)) {
            if (!tree_remove(leftover->dir, error))
                return NULL;
            continue;
        }
        if (leftover->number == 0 &&
            !name_it(leftover, i + 1 < found->len ? found->pdata[i + 1] : NULL, error))
            return NULL;
        g_ptr_array_add(kept, g_strdup(leftover->dir));
    }
    g_ptr_array_add(kept, NULL);
    return (char **)g_ptr_array_steal(kept, NULL);
}

bool local_sweep_vm(const char *store_path, const char *vm_uuid, GError **error)
{
    g_auto(GStrv) kept = local_partials_settle(store_path, vm_uuid, error);

    return kept != NULL;
}

bool local_partials_remove(const char *store_path, const char *vm_uuid, GError **error)
{
    g_autoptr(GPtrArray) found = find(store_path, vm_uuid, error);

    if (!found)
        return false;
    for (unsigned i = 0; i < found->len; i++)
        if (!tree_remove(((struct leftover *)found->pdata[i])->dir, error))
            return false;
    return true;
}

void local_partials_sweep(const char *store_path)
{
    g_autoptr(GPtrArray) found = find(store_path, NULL, NULL);

    for (unsigned i = 0; found && i < found->len; i++) {
        const struct leftover *leftover = found->pdata[i];
        g_autofree char *path = local_lock_path(store_path, leftover->uuid);
        AUTO(file_lock) lock = file_lock_take(path, leftover->uuid, NULL);

        if (lock)
            local_sweep_vm(store_path, leftover->uuid, NULL);
    }
}
