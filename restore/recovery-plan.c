/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/recovery-plan.h"

#include <string.h>

#define TEXT_MAX (256 * 1024)
#define GROUPS_MAX 2000
#define MEMORY_MIN (UINT64_C(1) << 20)
#define MEMORY_MAX (UINT64_C(1) << 44)
#define CPUS_MAX 4096
#define HOOK_MAX_MS (24 * 60 * 60 * INT64_C(1000))
#define TEST_EVERY_MIN_MS (60 * 60 * INT64_C(1000))
#define TEST_EVERY_MAX_MS (10 * 365 * 24 * TEST_EVERY_MIN_MS)
#define ADDRESS_KEY "address "

static void network_free(void *data)
{
    struct plan_network *network = data;

    g_free(network->name);
    g_free(network->target);
    g_array_unref(network->rules);
    g_free(network->gateway);
    g_strfreev(network->dns);
    g_free(network);
}

static void address_free(void *data)
{
    struct plan_address *address = data;

    g_free(address->nic);
    g_free(address);
}

static void vm_free(void *data)
{
    struct plan_vm *vm = data;

    g_free(vm->name);
    g_free(vm->host);
    g_free(vm->storage);
    g_strfreev(vm->apart);
    g_strfreev(vm->together);
    g_ptr_array_unref(vm->addresses);
    g_free(vm->before);
    g_free(vm->after);
    g_free(vm->in_guest);
    g_free(vm);
}

void recovery_plan_free(struct recovery_plan *plan)
{
    if (!plan)
        return;
    g_strfreev(plan->contacts);
    g_strfreev(plan->notes);
    g_free(plan->name);
    g_free(plan->path);
    g_free(plan->text);
    g_strfreev(plan->vapps);
    g_free(plan->site);
    g_free(plan->storage);
    g_ptr_array_unref(plan->networks);
    g_ptr_array_unref(plan->vms);
    g_free(plan);
}

static struct recovery_plan *plan_new(const char *name)
{
    struct recovery_plan *plan = g_new0(struct recovery_plan, 1);

    plan->name = g_strdup(name);
    plan->hydrate = -1;
    plan->networks = g_ptr_array_new_with_free_func(network_free);
    plan->vms = g_ptr_array_new_with_free_func(vm_free);
    return plan;
}

struct recovery_plan *recovery_plan_default(const char *vapp)
{
    struct recovery_plan *plan = plan_new(vapp);

    plan->text = g_strdup("");
    plan->vapps = g_new0(char *, 2);
    plan->vapps[0] = g_strdup(vapp);
    return plan;
}

const struct plan_network *recovery_plan_network(const struct recovery_plan *plan, const char *name)
{
    for (unsigned i = 0; i < plan->networks->len; i++) {
        const struct plan_network *network = plan->networks->pdata[i];

        if (strcmp(network->name, name) == 0)
            return network;
    }
    return NULL;
}

const struct plan_vm *recovery_plan_vm(const struct recovery_plan *plan, const char *name)
{
    for (unsigned i = 0; i < plan->vms->len; i++) {
        const struct plan_vm *vm = plan->vms->pdata[i];

        if (strcmp(vm->name, name) == 0)
            return vm;
    }
    return NULL;
}

/* ---- [plan] */

static bool read_hydrate(struct recovery_plan *plan, const struct keyfile *keyfile, GError **error)
{
    bool hydrate = false;

    if (!keyfile_switch(keyfile, "plan", "hydrate", &hydrate, error))
        return false;
    if (keyfile_has(keyfile, "plan", "hydrate"))
        plan->hydrate = hydrate;
    return true;
}

static bool read_commit(struct recovery_plan *plan, const struct keyfile *keyfile, GError **error)
{
    static const char *const words[] = {"commit", "rollback", NULL};
    unsigned word = 0;

    if (!keyfile_duration(keyfile, "plan", "commit-after", 0, COMMIT_AFTER_MAX_MS,
                          &plan->commit.after_ms, error) ||
        !keyfile_word(keyfile, "plan", "on-timeout", words, &word, error))
        return false;
    plan->commit.rolls_back = word == 1;
    if (keyfile_has(keyfile, "plan", "on-timeout") && plan->commit.after_ms == 0)
        return keyfile_fail(keyfile, "plan", "on-timeout", error,
                            "is of use only beside `commit-after`");
    return true;
}

bool storage_name_is_valid(const char *name)
{
    return *name == '/' || (*name && !strchr(name, '/'));
}

static bool read_storage(const struct keyfile *keyfile, const char *group, char **storage,
                         GError **error)
{
    if (!keyfile_string(keyfile, group, "storage", storage, error))
        return false;
    if (*storage && !storage_name_is_valid(*storage))
        return keyfile_fail(keyfile, group, "storage", error,
                            "'%s' is neither an absolute path nor the name of a pool", *storage);
    return true;
}

static bool read_plan_group(struct recovery_plan *plan, const struct keyfile *keyfile,
                            GError **error)
{
    static const char *const keys[] = {"vapps",        "site",       "hydrate",    "storage",
                                       "commit-after", "on-timeout", "test-every", "contacts",
                                       "notes",        NULL};

    if (!keyfile_check_keys(keyfile, "plan", keys, error) ||
        !keyfile_list(keyfile, "plan", "vapps", &plan->vapps, error) ||
        !keyfile_string(keyfile, "plan", "site", &plan->site, error) ||
        !keyfile_list(keyfile, "plan", "contacts", &plan->contacts, error) ||
        !keyfile_list(keyfile, "plan", "notes", &plan->notes, error) ||
        !keyfile_duration(keyfile, "plan", "test-every", TEST_EVERY_MIN_MS, TEST_EVERY_MAX_MS,
                          &plan->test_every_ms, error))
        return false;
    if (plan->site && !site_name_is_valid(plan->site))
        return keyfile_fail(keyfile, "plan", "site", error, "'%s' is not the name of a site",
                            plan->site);
    return read_hydrate(plan, keyfile, error) && read_commit(plan, keyfile, error) &&
           read_storage(keyfile, "plan", &plan->storage, error);
}

/* ---- [network NAME] */

static bool read_target(struct plan_network *network, const struct keyfile *keyfile,
                        const char *group, GError **error)
{
    if (!keyfile_string(keyfile, group, "target", &network->target, error))
        return false;
    network->disconnected = g_strcmp0(network->target, "disconnected") == 0;
    if (network->disconnected)
        g_clear_pointer(&network->target, g_free);
    return true;
}

/* What has no cable here needs none in a test. */
static bool read_test(struct plan_network *network, const struct keyfile *keyfile,
                      const char *group, GError **error)
{
    static const char *const words[] = {"isolated", "disconnected", NULL};
    unsigned word = network->disconnected;

    if (!keyfile_word(keyfile, group, "test", words, &word, error))
        return false;
    network->test_disconnected = word == 1;
    return true;
}

static bool read_rules(struct plan_network *network, const struct keyfile *keyfile,
                       const char *group, GError **error)
{
    g_auto(GStrv) texts = NULL;

    if (!keyfile_list(keyfile, group, "address", &texts, error))
        return false;
    for (char **text = texts; text && *text; text++) {
        struct ip_rule rule;
        const char *problem;

        if (!ip_rule_parse(*text, &rule, &problem))
            return keyfile_fail(keyfile, group, "address", error, "'%s' %s", *text, problem);
        g_array_append_val(network->rules, rule);
    }
    return true;
}

static bool check_address(const struct keyfile *keyfile, const char *group, const char *key,
                          const char *text, GError **error)
{
    int family;

    return ip_is_address(text, &family) ||
           keyfile_fail(keyfile, group, key, error, "'%s' is not an IPv4 or IPv6 address", text);
}

static bool read_route(struct plan_network *network, const struct keyfile *keyfile,
                       const char *group, GError **error)
{
    if (!keyfile_string(keyfile, group, "gateway", &network->gateway, error) ||
        !keyfile_list(keyfile, group, "dns", &network->dns, error) ||
        (network->gateway && !check_address(keyfile, group, "gateway", network->gateway, error)))
        return false;
    for (char **server = network->dns; server && *server; server++)
        if (!check_address(keyfile, group, "dns", *server, error))
            return false;
    return true;
}

static bool read_network(struct recovery_plan *plan, const struct keyfile *keyfile,
                         const char *group, const char *name, GError **error)
{
    static const char *const keys[] = {"target", "test", "address", "gateway", "dns", NULL};
    struct plan_network *network;

    if (recovery_plan_network(plan, name))
        return keyfile_fail(keyfile, group, NULL, error, "network '%s' is there twice", name);
    network = g_new0(struct plan_network, 1);
    network->name = g_strdup(name);
    network->rules = g_array_new(false, false, sizeof(struct ip_rule));
    g_ptr_array_add(plan->networks, network);
    if (!keyfile_check_keys(keyfile, group, keys, error) ||
        !read_target(network, keyfile, group, error) ||
        !read_test(network, keyfile, group, error) || !read_rules(network, keyfile, group, error) ||
        !read_route(network, keyfile, group, error))
        return false;
    if (network->disconnected && network->rules->len > 0)
        return keyfile_fail(keyfile, group, "address", error,
                            "a network that is disconnected has no addresses");
    return true;
}

/* ---- [vm NAME] */

static bool read_size(struct plan_vm *vm, const struct keyfile *keyfile, const char *group,
                      GError **error)
{
    g_autofree char *memory = NULL;
    int64_t cpus = 0;

    if (!keyfile_string(keyfile, group, "memory", &memory, error) ||
        !keyfile_number(keyfile, group, "cpus", 1, CPUS_MAX, &cpus, error))
        return false;
    vm->cpus = (unsigned)cpus;
    if (memory && (!bytes_parse(memory, &vm->memory_bytes, NULL) || vm->memory_bytes < MEMORY_MIN ||
                   vm->memory_bytes > MEMORY_MAX))
        return keyfile_fail(keyfile, group, "memory", error,
                            "'%s' is not a size from 1MiB to 16TiB, such as 2GiB", memory);
    return true;
}

static bool read_neighbours(struct plan_vm *vm, const struct keyfile *keyfile, const char *group,
                            GError **error)
{
    if (!keyfile_list(keyfile, group, "apart", &vm->apart, error) ||
        !keyfile_list(keyfile, group, "together", &vm->together, error))
        return false;
    for (char **name = vm->apart; *name; name++)
        if (strcmp(*name, vm->name) == 0 ||
            g_strv_contains((const char *const *)vm->together, *name))
            return keyfile_fail(keyfile, group, "apart", error, "'%s' cannot be apart from '%s'",
                                *name, vm->name);
    return true;
}

static bool read_addresses(struct plan_vm *vm, const struct keyfile *keyfile, const char *group,
                           GError **error)
{
    g_auto(GStrv) keys = keyfile_keys(keyfile, group);

    for (char **key = keys; key && *key; key++) {
        g_autofree char *text = NULL;
        struct plan_address *address;

        if (!g_str_has_prefix(*key, ADDRESS_KEY))
            continue;
        if (!keyfile_string(keyfile, group, *key, &text, error))
            return false;
        address = g_new0(struct plan_address, 1);
        address->nic = g_strstrip(g_strdup(*key + strlen(ADDRESS_KEY)));
        g_ptr_array_add(vm->addresses, address);
        if (!ip_prefix_parse(text, &address->address))
            return keyfile_fail(keyfile, group, *key, error,
                                "'%s' is not ADDRESS/BITS, such as 198.51.100.10/24", text);
    }
    return true;
}

static bool read_hooks(struct plan_vm *vm, const struct keyfile *keyfile, const char *group,
                       GError **error)
{
    vm->hook_timeout_ms = PLAN_HOOK_TIMEOUT_MS;
    if (!keyfile_string(keyfile, group, "before", &vm->before, error) ||
        !keyfile_string(keyfile, group, "after", &vm->after, error) ||
        !keyfile_string(keyfile, group, "in-guest", &vm->in_guest, error) ||
        !keyfile_duration(keyfile, group, "hook-timeout", 1000, HOOK_MAX_MS, &vm->hook_timeout_ms,
                          error))
        return false;
    if (keyfile_has(keyfile, group, "hook-timeout") && !vm->before && !vm->after && !vm->in_guest)
        return keyfile_fail(keyfile, group, "hook-timeout", error,
                            "is of use only beside `before`, `after` or `in-guest`");
    return true;
}

static bool read_vm(struct recovery_plan *plan, const struct keyfile *keyfile, const char *group,
                    const char *name, GError **error)
{
    static const char *const keys[] = {
        "host",  "memory",   "cpus",         "optional",    "apart",   "together", "before",
        "after", "in-guest", "hook-timeout", "address NIC", "storage", NULL};
    struct plan_vm *vm;

    if (!vm_name_is_valid(name))
        return keyfile_fail(keyfile, group, NULL, error, "'%s' cannot be the name of a VM", name);
    if (recovery_plan_vm(plan, name))
        return keyfile_fail(keyfile, group, NULL, error, "VM '%s' is there twice", name);
    vm = g_new0(struct plan_vm, 1);
    vm->name = g_strdup(name);
    vm->apart = g_new0(char *, 1);
    vm->together = g_new0(char *, 1);
    vm->addresses = g_ptr_array_new_with_free_func(address_free);
    g_ptr_array_add(plan->vms, vm);
    return keyfile_check_keys(keyfile, group, keys, error) &&
           keyfile_string(keyfile, group, "host", &vm->host, error) &&
           read_storage(keyfile, group, &vm->storage, error) &&
           read_size(vm, keyfile, group, error) &&
           keyfile_switch(keyfile, group, "optional", &vm->optional, error) &&
           read_neighbours(vm, keyfile, group, error) &&
           read_addresses(vm, keyfile, group, error) && read_hooks(vm, keyfile, group, error);
}

/* ---- The file */

/* What stands behind WORD in "[WORD NAME]", or NULL when it is another kind of group; g_free. */
static char *group_name(const char *group, const char *word)
{
    size_t len = strlen(word);

    if (strncmp(group, word, len) != 0 || (group[len] != ' ' && group[len] != '\0'))
        return NULL;
    return g_strstrip(g_strdup(group + len));
}

static bool read_group(struct recovery_plan *plan, const struct keyfile *keyfile, const char *group,
                       GError **error)
{
    g_autofree char *network = group_name(group, "network");
    g_autofree char *vm = group_name(group, "vm");
    const char *name = network ? network : vm;

    if (strcmp(group, "plan") == 0)
        return read_plan_group(plan, keyfile, error);
    if (!name)
        return keyfile_fail(keyfile, group, NULL, error,
                            "there is no such group; there are [plan], [network NAME] and [vm "
                            "NAME]");
    if (!*name)
        return keyfile_fail(keyfile, group, NULL, error, "the name is missing: write [%s NAME]",
                            group);
    return network ? read_network(plan, keyfile, group, name, error)
                   : read_vm(plan, keyfile, group, name, error);
}

/* A guest gets them together with an address: without any they would be for nobody. */
static bool check_routes(const struct recovery_plan *plan, GError **error)
{
    for (unsigned i = 0; i < plan->vms->len; i++)
        if (((const struct plan_vm *)plan->vms->pdata[i])->addresses->len > 0)
            return true;
    for (unsigned i = 0; i < plan->networks->len; i++) {
        const struct plan_network *network = plan->networks->pdata[i];

        if (network->rules->len == 0 && (network->gateway || network->dns))
            return fail(error, ERROR_CONFIG,
                        "%s: [network %s] %s: is of use only beside `address`, which is missing",
                        plan->path, network->name, network->gateway ? "gateway" : "dns");
    }
    return true;
}

static bool read_groups(struct recovery_plan *plan, const struct keyfile *keyfile, GError **error)
{
    char **groups = keyfile_groups(keyfile);

    if (g_strv_length(groups) > GROUPS_MAX)
        return fail(error, ERROR_CONFIG, "%s: a plan has at most %d groups", plan->path,
                    GROUPS_MAX);
    for (char **group = groups; *group; group++)
        if (!read_group(plan, keyfile, *group, error))
            return false;
    if (!plan->vapps)
        return keyfile_fail(keyfile, "plan", "vapps", error, "the key is missing");
    return check_routes(plan, error);
}

struct recovery_plan *recovery_plan_parse(const char *text, size_t len, const char *name,
                                          const char *what, GError **error)
{
    AUTO(keyfile) keyfile = NULL;
    AUTO(recovery_plan) plan = NULL;

    if (len > TEXT_MAX) {
        fail(error, ERROR_CONFIG, "%s: a plan has at most %d KiB", what, TEXT_MAX / 1024);
        return NULL;
    }
    keyfile = keyfile_parse(text, len, what, error);
    if (!keyfile)
        return NULL;
    plan = plan_new(name);
    plan->path = g_strdup(what);
    plan->text = g_strndup(text, len);
    return read_groups(plan, keyfile, error) ? g_steal_pointer(&plan) : NULL;
}

static struct recovery_plan *load(const char *dir, const char *name, GError **error)
{
    g_autofree char *file = g_strconcat(name, PLAN_SUFFIX, NULL);
    g_autofree char *path = g_build_filename(dir, file, NULL);
    g_autofree char *text = NULL;
    size_t len;

    if (!file_read(path, TEXT_MAX, &text, &len, error))
        return NULL;
    return recovery_plan_parse(text, len, name, path, error);
}

struct recovery_plan *recovery_plan_find(const char *dir, const char *name, GError **error)
{
    g_autoptr(GError) cause = NULL;
    struct recovery_plan *plan = name_is_safe(name) ? load(dir, name, &cause) : NULL;

    if (!plan && (!cause || error_is(cause, ERROR_NOT_FOUND)))
        return recovery_plan_default(name);
    if (!plan)
        g_propagate_error(error, g_steal_pointer(&cause));
    return plan;
}

static void plan_free_element(void *data)
{
    recovery_plan_free(data);
}

GPtrArray *recovery_plan_load_all(const char *dir, GError **error)
{
    g_autoptr(GPtrArray) plans = g_ptr_array_new_with_free_func(plan_free_element);
    g_auto(GStrv) files = dir_list(dir, error);

    for (char **file = files; file && *file; file++) {
        g_autofree char *name = NULL;
        struct recovery_plan *plan;

        if (!g_str_has_suffix(*file, PLAN_SUFFIX))
            continue;
        name = g_strndup(*file, strlen(*file) - strlen(PLAN_SUFFIX));
        if (!name_is_safe(name))
            continue;
        plan = load(dir, name, error);
        if (!plan)
            return NULL;
        g_ptr_array_add(plans, plan);
    }
    return files ? g_steal_pointer(&plans) : NULL;
}

bool recovery_plan_write(const char *dir, const char *name, const char *text, char **path,
                         GError **error)
{
    g_autofree char *file = g_strconcat(name, PLAN_SUFFIX, NULL);
    g_autofree char *whole = g_build_filename(dir, file, NULL);

    if (!name_is_safe(name))
        return fail(error, ERROR_USAGE,
                    "'%s' cannot be the name of a plan: write one by hand, with another name and "
                    "vapps = %s",
                    name, name);
    if (g_file_test(whole, G_FILE_TEST_EXISTS))
        return fail(error, ERROR_CONFLICT,
                    "%s exists already; `drctl plan new %s --dry-run` prints what would be new",
                    whole, name);
    if (!file_write(whole, text, strlen(text), 0644, error))
        return false;
    *path = g_steal_pointer(&whole);
    return true;
}
