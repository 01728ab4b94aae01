/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <string.h>

#include "vapp/definition.h"

#define TEXT_MAX (256 * 1024)
#define ORDER_MAX 9999
#define DURATION_MAX_MS (24 * 60 * 60 * INT64_C(1000))
#define DEFAULT_TIMEOUT_MS (120 * INT64_C(1000))
#define DEFAULT_INTERVAL_MS 500 /* a guest that boots is not slowed down by us */
#define INTERVAL_MIN_MS 100
#define RETRIES_MAX 100000

/* One group [vm NAME] being read; what the readers below share. */
struct reader {
    const struct keyfile *keyfile;
    const char *group;
    struct vapp_vm *vm;
};

static void vapp_vm_free(void *data)
{
    struct vapp_vm *vm = data;

    g_free(vm->name);
    g_strfreev(vm->after);
    ready_rule_clear(vm);
    g_free(vm->address);
    g_free(vm);
}

void vapp_free(struct vapp *vapp)
{
    if (!vapp)
        return;
    g_free(vapp->name);
    g_free(vapp->path);
    g_free(vapp->text);
    g_ptr_array_unref(vapp->vms);
    g_free(vapp);
}

static struct vapp *vapp_new(const char *path, const char *text, size_t len)
{
    struct vapp *vapp = g_new0(struct vapp, 1);

    vapp->path = g_strdup(path);
    vapp->text = g_strndup(text, len);
    vapp->vms = g_ptr_array_new_with_free_func(vapp_vm_free);
    return vapp;
}

static struct vapp_vm *vapp_add_vm(struct vapp *vapp, const char *name)
{
    struct vapp_vm *vm = g_new0(struct vapp_vm, 1);

    vm->name = g_strdup(name);
    vm->after = g_new0(char *, 1);
    vm->ready_text = g_strdup("none");
    vm->ready_timeout_ms = DEFAULT_TIMEOUT_MS;
    vm->ready_interval_ms = DEFAULT_INTERVAL_MS;
    vm->ready_retries = READY_RETRIES_ANY;
    vm->stop_timeout_ms = DEFAULT_TIMEOUT_MS;
    g_ptr_array_add(vapp->vms, vm);
    return vm;
}

struct vapp *vapp_single(const char *vm)
{
    struct vapp *vapp = vapp_new(vm, "", 0);

    vapp->name = g_strdup(vm);
    vapp_add_vm(vapp, vm);
    return vapp;
}

const struct vapp_vm *vapp_vm(const struct vapp *vapp, const char *name)
{
    for (unsigned i = 0; i < vapp->vms->len; i++) {
        const struct vapp_vm *vm = g_ptr_array_index(vapp->vms, i);

        if (strcmp(vm->name, name) == 0)
            return vm;
    }
    return NULL;
}

/* ---- Keys of a VM */

static bool read_order(const struct reader *reader, GError **error)
{
    int64_t order = 0;

    if (!keyfile_number(reader->keyfile, reader->group, "order", 0, ORDER_MAX, &order, error))
        return false;
    reader->vm->order = (unsigned)order;
    return true;
}

static bool read_ready(const struct reader *reader, GError **error)
{
    g_autofree char *text = NULL;
    g_autofree char *problem = NULL;

    if (!keyfile_string(reader->keyfile, reader->group, "ready", &text, error))
        return false;
    if (!text || ready_rule_parse(text, reader->vm, &problem))
        return true;
    return keyfile_fail(reader->keyfile, reader->group, "ready", error, "%s", problem);
}

static bool read_retries(const struct reader *reader, GError **error)
{
    int64_t retries = -1;

    if (!keyfile_number(reader->keyfile, reader->group, "ready-retries", 0, RETRIES_MAX, &retries,
                        error))
        return false;
    if (retries >= 0)
        reader->vm->ready_retries = (unsigned)retries;
    return true;
}

/* Names are refused: the name server may be one of the VMs that are being recovered, and looking up
 * has no timeout. */
static bool read_address(const struct reader *reader, GError **error)
{
    g_autofree char *text = NULL;
    g_autofree char *bare = NULL;
    struct in6_addr unused;

    if (!keyfile_string(reader->keyfile, reader->group, "address", &text, error))
        return false;
    bare = text ? g_strndup(text, strcspn(text, "%")) : NULL;
    if (text && inet_pton(AF_INET, text, &unused) != 1 && inet_pton(AF_INET6, bare, &unused) != 1)
        return keyfile_fail(reader->keyfile, reader->group, "address", error,
                            "'%s' is not an IPv4 or IPv6 address (names are not looked up)", text);
    reader->vm->address = g_steal_pointer(&text);
    return true;
}

static bool read_duration(const struct reader *reader, const char *key, int64_t min_ms,
                          int64_t *out_ms, GError **error)
{
    return keyfile_duration(reader->keyfile, reader->group, key, min_ms, DURATION_MAX_MS, out_ms,
                            error);
}

static bool read_vm(const struct reader *reader, GError **error)
{
    static const char *const keys[] = {
        "order",          "after",   "ready", "ready-timeout", "ready-retries",
        "ready-interval", "address", "delay", "stop-timeout",  NULL};
    struct vapp_vm *vm = reader->vm;

    return keyfile_check_keys(reader->keyfile, reader->group, keys, error) &&
           read_order(reader, error) &&
           keyfile_list(reader->keyfile, reader->group, "after", &vm->after, error) &&
           read_ready(reader, error) && read_address(reader, error) &&
           read_duration(reader, "ready-timeout", 1, &vm->ready_timeout_ms, error) &&
           read_duration(reader, "ready-interval", INTERVAL_MIN_MS, &vm->ready_interval_ms,
                         error) &&
           read_retries(reader, error) && read_duration(reader, "delay", 0, &vm->delay_ms, error) &&
           read_duration(reader, "stop-timeout", 0, &vm->stop_timeout_ms, error);
}

/* ---- Groups */

static bool read_vapp_group(struct vapp *vapp, const struct keyfile *keyfile, GError **error)
{
    static const char *const keys[] = {"name", NULL};

    if (!keyfile_check_keys(keyfile, "vapp", keys, error) ||
        !keyfile_string(keyfile, "vapp", "name", &vapp->name, error))
        return false;
    if (vapp->name && !name_is_safe(vapp->name))
        return keyfile_fail(keyfile, "vapp", "name", error,
                            "'%s' is not a name: write up to 255 letters, digits and . _ - (not "
                            "first)",
                            vapp->name);
    return true;
}

static bool vm_name_check(const struct vapp *vapp, const struct keyfile *keyfile, const char *group,
                          const char *name, GError **error)
{
    if (*name == '\0')
        return keyfile_fail(keyfile, group, NULL, error,
                            "the name of the VM is missing: write [vm NAME]");
    if (strpbrk(name, "/;"))
        return keyfile_fail(keyfile, group, NULL, error, "the name of a VM has no / and no ;");
    if (vapp_vm(vapp, name))
        return keyfile_fail(keyfile, group, NULL, error, "VM '%s' is there twice", name);
    if (vapp->vms->len == VAPP_VMS_MAX)
        return keyfile_fail(keyfile, group, NULL, error, "a vApp has at most %d VMs", VAPP_VMS_MAX);
    return true;
}

static bool read_vm_group(struct vapp *vapp, const struct keyfile *keyfile, const char *group,
                          GError **error)
{
    g_autofree char *name = g_strstrip(g_strdup(group + strlen("vm")));
    struct reader reader = {keyfile, group, NULL};

    if (!vm_name_check(vapp, keyfile, group, name, error))
        return false;
    reader.vm = vapp_add_vm(vapp, name);
    return read_vm(&reader, error);
}

static bool read_group(struct vapp *vapp, const struct keyfile *keyfile, const char *group,
                       GError **error)
{
    if (strcmp(group, "vapp") == 0)
        return read_vapp_group(vapp, keyfile, error);
    if (strcmp(group, "vm") == 0 || g_str_has_prefix(group, "vm "))
        return read_vm_group(vapp, keyfile, group, error);
    return keyfile_fail(keyfile, group, NULL, error,
                        "there is no such group; there are [vapp] and [vm NAME]");
}

static bool read_groups(struct vapp *vapp, const struct keyfile *keyfile, GError **error)
{
    for (char **group = keyfile_groups(keyfile); *group; group++)
        if (!read_group(vapp, keyfile, *group, error))
            return false;
    if (!vapp->name)
        return keyfile_fail(keyfile, "vapp", "name", error, "the key is missing");
    if (vapp->vms->len == 0)
        return fail(error, ERROR_CONFIG, "%s: there is no VM: write a group [vm NAME] for each",
                    vapp->path);
    return order_solve(vapp->path, vapp->vms, error);
}

struct vapp *vapp_parse(const char *text, size_t len, const char *what, GError **error)
{
    AUTO(keyfile) keyfile = NULL;
    AUTO(vapp) vapp = NULL;

    if (len > TEXT_MAX) {
        fail(error, ERROR_CONFIG, "%s: a definition has at most %d KiB", what, TEXT_MAX / 1024);
        return NULL;
    }
    keyfile = keyfile_parse(text, len, what, error);
    if (!keyfile)
        return NULL;
    vapp = vapp_new(what, text, len);
    return read_groups(vapp, keyfile, error) ? g_steal_pointer(&vapp) : NULL;
}

/* ---- Files */

struct vapp *vapp_load(const char *path, GError **error)
{
    g_autofree char *text = NULL;
    size_t len;

    if (!file_read(path, TEXT_MAX, &text, &len, error))
        return NULL;
    return vapp_parse(text, len, path, error);
}

static void vapp_free_element(void *data)
{
    vapp_free(data);
}

/* The vApps of DIR in the order of their file names. A file with an error fails all, unless
 * FIRST_BAD takes the error. */
static GPtrArray *load_files(const char *dir, GError **first_bad, GError **error)
{
    g_autoptr(GPtrArray) vapps = g_ptr_array_new_with_free_func(vapp_free_element);
    g_auto(GStrv) names = dir_list(dir, error);

    for (char **name = names; name && *name; name++) {
        g_autofree char *path = g_build_filename(dir, *name, NULL);
        g_autoptr(GError) why = NULL;
        struct vapp *vapp;

        if (**name == '.' || !g_str_has_suffix(*name, ".vapp"))
            continue;
        vapp = vapp_load(path, &why);
        if (vapp) {
            g_ptr_array_add(vapps, vapp);
        } else if (!first_bad) {
            g_propagate_error(error, g_steal_pointer(&why));
            return NULL;
        } else if (!*first_bad) {
            *first_bad = g_steal_pointer(&why);
        }
    }
    return names ? g_steal_pointer(&vapps) : NULL;
}

static int compare_name(const void *a, const void *b)
{
    const struct vapp *const *left = a, *const *right = b;

    return strcmp((*left)->name, (*right)->name);
}

static bool fail_same_name(const struct vapp *one, const struct vapp *other, GError **error)
{
    return fail(error, ERROR_CONFIG, "%s: [vapp] name: '%s' is the name of the vApp in %s too",
                other->path, other->name, one->path);
}

GPtrArray *vapp_load_all(const char *dir, GError **error)
{
    g_autoptr(GPtrArray) vapps = load_files(dir, NULL, error);

    if (!vapps)
        return NULL;
    g_ptr_array_sort(vapps, compare_name);
    for (unsigned i = 1; i < vapps->len; i++) {
        const struct vapp *one = g_ptr_array_index(vapps, i - 1);
        const struct vapp *other = g_ptr_array_index(vapps, i);

        if (strcmp(one->name, other->name) == 0) {
            fail_same_name(one, other, error);
            return NULL;
        }
    }
    return g_steal_pointer(&vapps);
}

static void fail_no_vapp(const char *dir, const char *name, const GPtrArray *vapps, GError **error)
{
    g_autoptr(GString) known = g_string_new(NULL);

    for (unsigned i = 0; i < vapps->len; i++) {
        const struct vapp *vapp = g_ptr_array_index(vapps, i);

        g_string_append_printf(known, "%s%s", i ? ", " : "", vapp->name);
    }
    if (vapps->len > 0)
        fail(error, ERROR_NOT_FOUND, "there is no vApp '%s' in %s, only: %s", name, dir,
             known->str);
    else
        fail(error, ERROR_NOT_FOUND,
             "there is no vApp '%s': %s holds none; drctl-vapp(5) says how to write one", name,
             dir);
}

/* Another vApp's broken file is no reason not to start this one in a disaster, unless this one is
 * nowhere else. */
struct vapp *vapp_find(const char *dir, const char *name, GError **error)
{
    g_autoptr(GError) bad = NULL;
    g_autoptr(GPtrArray) vapps = load_files(dir, &bad, error);
    struct vapp *found = NULL;
    unsigned at = 0;

    if (!vapps)
        return NULL;
    g_ptr_array_sort(vapps, compare_name);
    for (unsigned i = 0; i < vapps->len; i++) {
        struct vapp *vapp = g_ptr_array_index(vapps, i);

        if (strcmp(vapp->name, name) != 0)
            continue;
        if (found) {
            fail_same_name(found, vapp, error);
            return NULL;
        }
        found = vapp;
        at = i;
    }
    if (found)
        return g_ptr_array_steal_index(vapps, at);
    if (bad)
        g_propagate_error(error, g_steal_pointer(&bad));
    else
        fail_no_vapp(dir, name, vapps, error);
    return NULL;
}
