/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <string.h>

#include "vapp/definition.h"

#define TEXT_MAX (1024 * 1024)
#define VMS_MAX 1000 /* each has a thread of its own while it starts */
#define ORDER_MAX 9999
#define DURATION_MAX_MS (24 * 60 * 60 * INT64_C(1000))
#define DEFAULT_TIMEOUT_MS (120 * INT64_C(1000))

struct parser {
    const char *what;
    struct vapp *vapp;
    struct vapp_vm *vm; /* the group's VM; NULL in [vapp] and before the first group */
    char *group;        /* as in "[vm db]"; NULL before the first group */
    GHashTable *keys;   /* seen in this group */
    unsigned line;
};

static void vapp_vm_free(void *data)
{
    struct vapp_vm *vm = data;

    g_free(vm->name);
    g_strfreev(vm->after);
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
    vm->ready_timeout_ms = DEFAULT_TIMEOUT_MS;
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

const char *ready_kind_name(enum ready_kind kind)
{
    static const char *const names[] = {
        [READY_NONE] = "none",
        [READY_AGENT] = "agent",
        [READY_TCP] = "tcp",
    };

    return names[kind];
}

/* ---- Values: what is wrong and what would be right; where it stands is added by the caller. */

static bool set_order(struct vapp_vm *vm, const char *value, GError **error)
{
    uint64_t order;

    if (!g_ascii_string_to_unsigned(value, 10, 0, ORDER_MAX, &order, NULL))
        return fail(error, ERROR_CONFIG, "'%s' is not a whole number from 0 to %d", value,
                    ORDER_MAX);
    vm->order = (unsigned)order;
    return true;
}

static bool set_after(struct vapp_vm *vm, const char *value, GError **error)
{
    g_auto(GStrv) names = g_strsplit(value, ";", -1);
    g_autoptr(GStrvBuilder) after = g_strv_builder_new();
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    for (char **name = names; *name; name++) {
        if (*g_strstrip(*name) == '\0')
            continue;
        if (!g_hash_table_add(seen, *name))
            return fail(error, ERROR_CONFIG, "'%s' is named twice", *name);
        g_strv_builder_add(after, *name);
    }
    g_strfreev(vm->after);
    vm->after = g_strv_builder_end(after);
    return true;
}

static bool set_ready(struct vapp_vm *vm, const char *value, GError **error)
{
    uint64_t port;

    if (strcmp(value, "none") == 0) {
        vm->ready = READY_NONE;
        return true;
    }
    if (strcmp(value, "agent") == 0) {
        vm->ready = READY_AGENT;
        return true;
    }
    if (!g_str_has_prefix(value, "tcp:"))
        return fail(error, ERROR_CONFIG, "'%s' is none of agent, tcp:PORT, none", value);
    if (!g_ascii_string_to_unsigned(value + strlen("tcp:"), 10, 1, UINT16_MAX, &port, NULL))
        return fail(error, ERROR_CONFIG, "'%s': the port is not a number from 1 to 65535", value);
    vm->ready = READY_TCP;
    vm->ready_port = (uint16_t)port;
    return true;
}

/* Names are refused: the name server may be one of the VMs that are being recovered, and looking up
 * has no timeout. */
static bool set_address(struct vapp_vm *vm, const char *value, GError **error)
{
    g_autofree char *bare = g_strndup(value, strcspn(value, "%"));
    struct in6_addr unused;

    if (inet_pton(AF_INET, value, &unused) != 1 && inet_pton(AF_INET6, bare, &unused) != 1)
        return fail(error, ERROR_CONFIG,
                    "'%s' is not an IPv4 or IPv6 address (names are not looked up)", value);
    vm->address = g_strdup(value);
    return true;
}

static bool parse_duration(const char *value, int64_t min_ms, int64_t *ms, GError **error)
{
    int64_t parsed;

    if (!duration_parse(value, &parsed, error))
        return false;
    if (parsed < min_ms || parsed > DURATION_MAX_MS)
        return fail(error, ERROR_CONFIG, "'%s' is not from %d ms to 24h", value, (int)min_ms);
    *ms = parsed;
    return true;
}

static bool set_ready_timeout(struct vapp_vm *vm, const char *value, GError **error)
{
    return parse_duration(value, 1, &vm->ready_timeout_ms, error);
}

static bool set_delay(struct vapp_vm *vm, const char *value, GError **error)
{
    return parse_duration(value, 0, &vm->delay_ms, error);
}

static bool set_stop_timeout(struct vapp_vm *vm, const char *value, GError **error)
{
    return parse_duration(value, 0, &vm->stop_timeout_ms, error);
}

static const struct vm_key {
    const char *name;
    bool (*set)(struct vapp_vm *vm, const char *value, GError **error);
} vm_keys[] = {
    {"order", set_order},
    {"after", set_after},
    {"ready", set_ready},
    {"ready-timeout", set_ready_timeout},
    {"address", set_address},
    {"delay", set_delay},
    {"stop-timeout", set_stop_timeout},
};

static bool set_vm_key(struct vapp_vm *vm, const char *key, const char *value, GError **error)
{
    g_autoptr(GString) known = g_string_new(NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(vm_keys); i++) {
        if (strcmp(vm_keys[i].name, key) == 0)
            return vm_keys[i].set(vm, value, error);
        g_string_append_printf(known, "%s%s", i ? ", " : "", vm_keys[i].name);
    }
    return fail(error, ERROR_CONFIG, "there is no such key, a VM has: %s", known->str);
}

static bool set_vapp_key(struct vapp *vapp, const char *key, const char *value, GError **error)
{
    if (strcmp(key, "name") != 0)
        return fail(error, ERROR_CONFIG, "there is no such key, a vApp has: name");
    if (!name_is_safe(value))
        return fail(error, ERROR_CONFIG,
                    "'%s' is not a name: write up to 255 letters, digits and . _ - (not first)",
                    value);
    vapp->name = g_strdup(value);
    return true;
}

/* ---- Lines */

static bool vm_name_check(const char *name, GError **error)
{
    if (*name == '\0')
        return fail(error, ERROR_CONFIG, "the name of the VM is missing: write [vm NAME]");
    for (const char *c = name; *c; c++)
        if (strchr("/;[]", *c) || g_ascii_iscntrl(*c))
            return fail(error, ERROR_CONFIG,
                        "the name of a VM has no control characters and none of / ; [ ]");
    return true;
}

static bool enter_vm(struct parser *parser, const char *name, GError **error)
{
    if (!vm_name_check(name, error))
        return false;
    if (vapp_vm(parser->vapp, name))
        return fail(error, ERROR_CONFIG, "the group is there twice");
    if (parser->vapp->vms->len == VMS_MAX)
        return fail(error, ERROR_CONFIG, "a vApp has at most %d VMs", VMS_MAX);
    parser->vm = vapp_add_vm(parser->vapp, name);
    return true;
}

static bool enter_vapp(struct parser *parser, bool *vapp_seen, GError **error)
{
    if (*vapp_seen)
        return fail(error, ERROR_CONFIG, "the group is there twice");
    *vapp_seen = true;
    parser->vm = NULL;
    return true;
}

static bool parse_group(struct parser *parser, char *line, bool *vapp_seen, GError **error)
{
    size_t len = strlen(line);
    g_autofree char *inner = NULL;
    bool good;

    if (line[len - 1] != ']')
        return fail(error, ERROR_CONFIG, "%s: line %u: '%s' is not a group: the ] is missing",
                    parser->what, parser->line, line);
    inner = g_strstrip(g_strndup(line + 1, len - 2));
    g_free(parser->group);
    parser->group = g_strdup_printf("[%s]", inner);
    g_hash_table_remove_all(parser->keys);
    if (strcmp(inner, "vapp") == 0)
        good = enter_vapp(parser, vapp_seen, error);
    else if (strcmp(inner, "vm") == 0 || g_str_has_prefix(inner, "vm "))
        good = enter_vm(parser, g_strstrip(inner + strlen("vm")), error);
    else
        good = fail(error, ERROR_CONFIG, "there is no such group: write [vapp] or [vm NAME]");
    if (!good)
        g_prefix_error(error, "%s: %s: ", parser->what, parser->group);
    return good;
}

/* There are no comments behind values: `after` is a list with semicolons. Who tries gets told. */
static const char *comment_hint(const char *key, const char *value)
{
    if (strchr(value, '#') || (strcmp(key, "after") != 0 && strchr(value, ';')))
        return "; a comment needs a line of its own";
    return "";
}

static bool set_key(struct parser *parser, char *key, const char *value, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (g_hash_table_contains(parser->keys, key))
        return fail(error, ERROR_CONFIG, "%s: %s %s: the key is there twice", parser->what,
                    parser->group, key);
    g_hash_table_add(parser->keys, g_strdup(key));
    if (*value == '\0' && strcmp(key, "after") != 0)
        fail(&why, ERROR_CONFIG, "the value is missing");
    else if (parser->vm)
        set_vm_key(parser->vm, key, value, &why);
    else
        set_vapp_key(parser->vapp, key, value, &why);
    if (!why)
        return true;
    return fail(error, ERROR_CONFIG, "%s: %s %s: %s%s", parser->what, parser->group, key,
                why->message, comment_hint(key, value));
}

static bool parse_line(struct parser *parser, char *line, bool *vapp_seen, GError **error)
{
    char *equals;

    g_strstrip(line);
    if (*line == '\0' || *line == '#' || *line == ';')
        return true;
    if (*line == '[')
        return parse_group(parser, line, vapp_seen, error);
    equals = strchr(line, '=');
    if (!equals || equals == line)
        return fail(error, ERROR_CONFIG, "%s: line %u: '%s' is not KEY = VALUE", parser->what,
                    parser->line, line);
    *equals = '\0';
    g_strchomp(line);
    if (!parser->group)
        return fail(error, ERROR_CONFIG, "%s: line %u: '%s' stands before the first group",
                    parser->what, parser->line, line);
    return set_key(parser, line, g_strchug(equals + 1), error);
}

static bool parse_lines(struct parser *parser, GError **error)
{
    g_auto(GStrv) lines = g_strsplit(parser->vapp->text, "\n", -1);
    bool vapp_seen = false;

    for (char **line = lines; *line; line++) {
        parser->line++;
        if (!parse_line(parser, *line, &vapp_seen, error))
            return false;
    }
    return true;
}

static bool check_whole(const struct vapp *vapp, const char *what, GError **error)
{
    if (!vapp->name)
        return fail(error, ERROR_CONFIG, "%s: [vapp] name: the key is missing", what);
    if (vapp->vms->len == 0)
        return fail(error, ERROR_CONFIG, "%s: there is no VM: write a group [vm NAME] for each",
                    what);
    return order_solve(what, vapp->vms, error);
}

struct vapp *vapp_parse(const char *text, size_t len, const char *what, GError **error)
{
    AUTO(vapp) vapp = NULL;
    struct parser parser = {.what = what};
    bool good;

    if (len > TEXT_MAX || !g_utf8_validate(text, (gssize)len, NULL)) {
        fail(error, ERROR_CONFIG, "%s: this is not UTF-8 text of at most 1 MiB", what);
        return NULL;
    }
    vapp = vapp_new(what, text, len);
    parser.vapp = vapp;
    parser.keys = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    good = parse_lines(&parser, error) && check_whole(vapp, what, error);
    g_hash_table_unref(parser.keys);
    g_free(parser.group);
    return good ? g_steal_pointer(&vapp) : NULL;
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
