/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/jobs.h"

#include <string.h>

static void protected_vm_free(void *data)
{
    struct protected_vm *vm = data;

    g_free(vm->vm);
    g_free(vm);
}

void protected_vms_add(GPtrArray *vms, const struct protection *protection, const char *name)
{
    for (unsigned i = 0; i < vms->len; i++) {
        const struct protected_vm *other = vms->pdata[i];

        if (g_str_equal(other->vm, name) &&
            g_str_equal(other->protection->destination, protection->destination))
            return;
    }
    struct protected_vm *vm = g_new0(struct protected_vm, 1);

    vm->protection = protection;
    vm->vm = g_strdup(name);
    g_ptr_array_add(vms, vm);
}

/* One question for what is covered. */
struct covering {
    struct context *context;
    GPtrArray *vms;     /* of struct protected_vm: the answer */
    const char *only;   /* name of a VM, or NULL: all */
    bool found;         /* is there anything? */
    bool by_records;    /* patterns mean what they meant when points were taken last */
    GPtrArray *present; /* of struct present_vm, once it is needed */
    GHashTable *named;  /* likewise: place_of() each VM that a protection names */
};

static void covering_clear(struct covering *covering)
{
    g_clear_pointer(&covering->vms, g_ptr_array_unref);
    g_clear_pointer(&covering->present, g_ptr_array_unref);
    g_clear_pointer(&covering->named, g_hash_table_unref);
}
#define AUTO_COVERING __attribute__((cleanup(covering_clear))) struct covering

static struct covering covering_of(struct context *context)
{
    return (struct covering){.context = context,
                             .vms = g_ptr_array_new_with_free_func(protected_vm_free)};
}

static const struct protected_vm *
find_covered(const GPtrArray *vms, const struct protection *protection, const char *name)
{
    for (unsigned i = 0; i < vms->len; i++) {
        const struct protected_vm *vm = vms->pdata[i];

        if (g_str_equal(vm->vm, name) &&
            g_str_equal(vm->protection->destination, protection->destination))
            return vm;
    }
    return NULL;
}

static void cover(struct covering *covering, const struct protection *protection, const char *name)
{
    if (covering->only && !g_str_equal(name, covering->only))
        return;
    covering->found = true;
    protected_vms_add(covering->vms, protection, name);
}

static void present_vm_free(void *data)
{
    struct present_vm *vm = data;

    g_free(vm->name);
    g_strfreev(vm->tags);
    g_free(vm);
}

static bool add_present(GPtrArray *present, struct domain *domain, bool with_tags, GError **error)
{
    struct present_vm *vm;
    enum domain_state state;
    g_autofree char *tags = NULL;
    g_autoptr(GError) gone = NULL;

    /* What lives only as long as a test failover is nobody's to protect. */
    if (test_failover_is_copy(domain))
        return true;
    if (!domain_state(domain, &state, &gone) ||
        (with_tags && !domain_metadata(domain, TAGS_NAMESPACE, &tags, &gone))) {
        /* Undefined since it was listed. */
        if (error_is(gone, ERROR_NOT_FOUND))
            return true;
        g_propagate_error(error, g_steal_pointer(&gone));
        return false;
    }
    vm = g_new0(struct present_vm, 1);
    vm->name = g_strdup(domain_name(domain));
    g_strlcpy(vm->uuid, domain_uuid(domain), sizeof(vm->uuid));
    vm->tags = tags_parse(tags);
    vm->runs = state != DOMAIN_OFF;
    g_ptr_array_add(present, vm);
    return true;
}

static int compare_names(const void *a, const void *b)
{
    const struct present_vm *left = *(void *const *)a, *right = *(void *const *)b;

    return strcmp(left->name, right->name);
}

GPtrArray *present_vms(struct context *context, bool with_tags, GError **error)
{
    GPtrArray *hosts = context_hosts(context, error);
    g_autoptr(GPtrArray) present = g_ptr_array_new_with_free_func(present_vm_free);

    for (unsigned i = 0; hosts && i < hosts->len; i++) {
        g_autoptr(GPtrArray) domains = host_domains(hosts->pdata[i], error);

        if (!domains)
            return NULL;
        for (unsigned k = 0; k < domains->len; k++)
            if (!add_present(present, domains->pdata[k], with_tags, error))
                return NULL;
    }
    g_ptr_array_sort(present, compare_names);
    return hosts ? g_steal_pointer(&present) : NULL;
}

static bool any_protection_has_tags(const struct config *config)
{
    for (unsigned i = 0; i < config->protections->len; i++)
        if (protection_has_tags(config->protections->pdata[i]))
            return true;
    return false;
}

static char *place_of(const char *vm, const char *destination)
{
    return g_strdup_printf("%s at %s", vm, destination);
}

/* A vApp that cannot be read is told of by who asks for what it covers. */
static void add_named(GHashTable *named, const struct protection *protection, const char *dir)
{
    AUTO(vapp) vapp = protection->vapp ? vapp_find(dir, protection->vapp, NULL) : NULL;

    for (char **name = protection->vms; name && *name; name++)
        g_hash_table_add(named, place_of(*name, protection->destination));
    for (unsigned i = 0; vapp && i < vapp->vms->len; i++)
        g_hash_table_add(named, place_of(((const struct vapp_vm *)vapp->vms->pdata[i])->name,
                                         protection->destination));
}

static GHashTable *named_vms(const struct context *context)
{
    const GPtrArray *protections = context->config->protections;
    GHashTable *named = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (unsigned i = 0; i < protections->len; i++)
        add_named(named, protections->pdata[i], context->config_dir);
    return named;
}

/* A new VM that several patterns mean must not stop anything: the first one has it, and a name in full goes
 * before all patterns. */
static bool is_meant(const struct covering *covering, const struct protection *protection,
                     const struct present_vm *vm)
{
    const struct config *config = covering->context->config;
    g_autofree char *place = place_of(vm->name, protection->destination);

    return protection_that_selects(config, protection->destination, vm->name, vm->tags) ==
               protection &&
           !g_hash_table_contains(covering->named, place);
}

static bool cover_present(struct covering *covering, const struct protection *protection,
                          GError **error)
{
    if (!covering->present)
        covering->present = present_vms(covering->context,
                                        any_protection_has_tags(covering->context->config), error);
    if (!covering->named)
        covering->named = named_vms(covering->context);
    for (unsigned i = 0; covering->present && i < covering->present->len; i++) {
        const struct present_vm *vm = covering->present->pdata[i];

        if (is_meant(covering, protection, vm))
            cover(covering, protection, vm->name);
    }
    return covering->present != NULL;
}

struct recording {
    struct covering *covering;
    const struct protection *protection;
};

static bool cover_record(const char *key, json_t *record, void *data)
{
    const struct recording *recording = data;
    const struct protection *protection = recording->protection;
    const char *vm = json_get_string(record, "vm");

    if (vm && g_strcmp0(json_get_string(record, "protection"), protection->name) == 0 &&
        g_strcmp0(json_get_string(record, "destination"), protection->destination) == 0)
        cover(recording->covering, protection, vm);
    return true;
}

static bool cover_records(struct covering *covering, const struct protection *protection,
                          GError **error)
{
    struct recording recording = {covering, protection};
    struct catalog *catalog = context_catalog(covering->context, error);

    return catalog &&
           catalog_each(catalog, CATALOG_REPLICATION, "", cover_record, &recording, error);
}

static bool cover_vapp(struct covering *covering, const struct protection *protection,
                       GError **error)
{
    AUTO(vapp) vapp = vapp_find(covering->context->config_dir, protection->vapp, error);

    if (!vapp) {
        g_prefix_error(error, "[protection %s] vapp: ", protection->name);
        return false;
    }
    for (unsigned i = 0; i < vapp->vms->len; i++)
        cover(covering, protection, ((const struct vapp_vm *)vapp->vms->pdata[i])->name);
    return true;
}

static bool cover_protection(struct covering *covering, const struct protection *protection,
                             GError **error)
{
    for (char **name = protection->vms; name && *name; name++)
        cover(covering, protection, *name);
    if (protection->vapp)
        return cover_vapp(covering, protection, error);
    return !protection_is_open(protection) ||
           (covering->by_records ? cover_records : cover_present)(covering, protection, error);
}

static bool cover_named(struct covering *covering, const char *name, GError **error)
{
    const struct config *config = covering->context->config;

    covering->found = false;
    for (unsigned i = 0; i < config->protections->len; i++) {
        const struct protection *protection = config->protections->pdata[i];
        bool whole = !name || g_str_equal(protection->name, name);

        covering->only = whole ? NULL : name;
        covering->found |= whole;
        if (!cover_protection(covering, protection, error))
            return false;
    }
    if (!covering->found && name)
        return fail(error, ERROR_NOT_FOUND,
                    "%s is neither a protection nor a protected VM; protections are in %s", name,
                    config->path);
    return true;
}

static GPtrArray *covered_vms(struct covering *covering, char *const *names, GError **error)
{
    if (!context_config(covering->context, error) ||
        (!*names && !cover_named(covering, NULL, error)))
        return NULL;
    for (; *names; names++)
        if (!cover_named(covering, *names, error))
            return NULL;
    return g_steal_pointer(&covering->vms);
}

GPtrArray *protected_vms(struct context *context, char *const *names, GError **error)
{
    AUTO_COVERING covering = covering_of(context);

    return covered_vms(&covering, names, error);
}

GPtrArray *recorded_vms(struct context *context, char *const *names, GError **error)
{
    AUTO_COVERING covering = covering_of(context);

    covering.by_records = true;
    return covered_vms(&covering, names, error);
}

/* --- what patterns do not cover (any more) ---------------------------------------------------- */

static bool covers_any(const GPtrArray *vms, const struct protection *protection)
{
    for (unsigned i = 0; i < vms->len; i++)
        if (((const struct protected_vm *)vms->pdata[i])->protection == protection)
            return true;
    return false;
}

static bool is_asked_for(const struct protection *protection, char *const *names)
{
    return !*names || g_strv_contains((const char *const *)names, protection->name);
}

GPtrArray *empty_protections(const struct config *config, char *const *names, const GPtrArray *vms)
{
    GPtrArray *empty = g_ptr_array_new();

    for (unsigned i = 0; i < config->protections->len; i++) {
        struct protection *protection = config->protections->pdata[i];

        if (protection_is_open(protection) && is_asked_for(protection, names) &&
            !covers_any(vms, protection))
            g_ptr_array_add(empty, protection);
    }
    return empty;
}

char *empty_text(const struct protection *protection)
{
    g_autofree char *patterns = protection_patterns_text(protection);

    return g_strdup_printf("no VM of this site is meant by %s, or each has a protection already: "
                           "nothing is protected by this one",
                           patterns);
}

bool fail_empty(const struct config *config, const struct protection *protection, GError **error)
{
    g_autofree char *text = empty_text(protection);

    return fail(error, ERROR_CONFIG, "%s: [protection %s] vms: %s; see: virsh list --all",
                config->path, protection->name, text);
}

struct leaving {
    const struct config *config;
    const GPtrArray *vms;
    GPtrArray *keys; /* of the records that are not meant any more */
};

static bool find_left(const char *key, json_t *record, void *data)
{
    const struct leaving *leaving = data;
    const char *name = json_get_string(record, "protection"), *vm = json_get_string(record, "vm");
    const struct protection *protection =
        name ? config_protection(leaving->config, name, NULL) : NULL;
    const struct protected_vm *covered;

    if (!vm || !protection || !protection_is_open(protection))
        return true;
    covered = find_covered(leaving->vms, protection, vm);
    if (!covered || covered->protection != protection)
        g_ptr_array_add(leaving->keys, g_strdup(key));
    return true;
}

bool forget_left_vms(struct context *context, const GPtrArray *vms, GError **error)
{
    g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);
    struct leaving leaving = {context->config, vms, keys};
    struct catalog *catalog = context_catalog(context, error);

    if (!catalog || !catalog_each(catalog, CATALOG_REPLICATION, "", find_left, &leaving, error))
        return false;
    for (unsigned i = 0; i < keys->len; i++) {
        json_auto_t *record = NULL;

        if (!catalog_get(catalog, CATALOG_REPLICATION, keys->pdata[i], &record, error))
            return false;
        json_set_string(record, "protection", NULL);
        if (!catalog_put(catalog, CATALOG_REPLICATION, keys->pdata[i], record, error))
            return false;
    }
    return true;
}

/* The protection that covers VM with DESTINATION, or NULL. */
static bool find_protection(struct covering *covering, const char *vm, const char *destination,
                            const struct protection **protection, GError **error)
{
    const GPtrArray *protections = covering->context->config->protections;

    *protection = NULL;
    covering->only = vm;
    covering->found = false;
    for (unsigned i = 0; i < protections->len && !*protection; i++) {
        const struct protection *candidate = protections->pdata[i];

        if (!g_str_equal(candidate->destination, destination))
            continue;
        if (!cover_protection(covering, candidate, error))
            return false;
        if (covering->found)
            *protection = candidate;
    }
    return true;
}

static bool add_vapp_to(struct covering *covering, GPtrArray *vms, const struct vapp *vapp,
                        const char *destination, const struct protection *others, GError **error)
{
    for (unsigned i = 0; i < vapp->vms->len; i++) {
        const struct vapp_vm *vm = vapp->vms->pdata[i];
        const struct protection *protection;

        if (!find_protection(covering, vm->name, destination, &protection, error))
            return false;
        protected_vms_add(vms, protection ? protection : others, vm->name);
    }
    return true;
}

GPtrArray *vms_to(struct context *context, char *const *names, const char *destination,
                  const struct protection *others, GPtrArray *vapps, GError **error)
{
    g_autoptr(GPtrArray) vms = g_ptr_array_new_with_free_func(protected_vm_free);
    AUTO_COVERING covering = covering_of(context);
    struct site site;

    if (!context_site(context, false, &site, error) ||
        (!g_str_equal(destination, "local") && !config_remote(context->config, destination, error)))
        return NULL;
    for (; *names; names++) {
        g_autoptr(GError) unknown = NULL;
        struct vapp *vapp = site_vapp(&site, *names, &unknown);
        AUTO(vapp) single = vapp ? NULL : vapp_single(*names);

        if (!vapp && !error_is(unknown, ERROR_NOT_FOUND)) {
            g_propagate_error(error, g_steal_pointer(&unknown));
            return NULL;
        }
        if (vapp)
            g_ptr_array_add(vapps, vapp);
        if (!add_vapp_to(&covering, vms, vapp ? vapp : single, destination, others, error))
            return NULL;
    }
    return g_steal_pointer(&vms);
}

struct domain *find_domain(GPtrArray *hosts, const char *name, GError **error)
{
    AUTO(domain) off = NULL;

    for (unsigned i = 0; i < hosts->len; i++) {
        g_autoptr(GError) not_here = NULL;
        AUTO(domain) domain = host_domain(hosts->pdata[i], name, &not_here);
        enum domain_state state = DOMAIN_RUNNING;

        if (!domain && !error_is(not_here, ERROR_NOT_FOUND)) {
            g_propagate_error(error, g_steal_pointer(&not_here));
            return NULL;
        }
        if (domain && hosts->len > 1 && !domain_state(domain, &state, error))
            return NULL;
        if (domain && state != DOMAIN_OFF)
            return g_steal_pointer(&domain);
        if (!off)
            off = g_steal_pointer(&domain);
    }
    if (!off)
        fail(error, ERROR_NOT_FOUND,
             "there is no VM %s on this site's libvirt hosts; see: virsh list --all", name);
    return g_steal_pointer(&off);
}

char *replication_key(const char *vm_uuid, const char *destination)
{
    return g_strdup_printf("%s/%s", vm_uuid, destination);
}

/* --- older points ---------------------------------------------------------------------------- */

bool option_keep(const struct context *context, struct retention *keep, GError **error)
{
    const char *text = option_value(context, "keep");
    g_autoptr(GError) problem = NULL;

    return !text || retention_parse(text, keep, &problem) ||
           fail(error, ERROR_USAGE, "--keep: %s", problem->message);
}

bool drop_points(struct store *store, const char *vm_uuid, const struct retention *keep,
                 struct progress *progress, GError **error)
{
    struct prune_request request = {.vm_uuid = vm_uuid, .keep = *keep, .progress = progress};
    struct prune_result result;
    unsigned dropped = 0;

    if (retention_is_empty(keep))
        return true;
    if (!interrupt_check(error) || !store_prune(store, &request, &result, error))
        return false;
    for (unsigned i = 0; i < result.decisions->len; i++)
        dropped += !((const struct prune_decision *)result.decisions->pdata[i])->keep;
    if (dropped > 0) {
        const struct prune_decision *newest = result.decisions->pdata[0];
        g_autofree char *freed = bytes_format(result.freed_bytes);

        progress_note(progress, "%s: %u older %s dropped at %s, %s freed", newest->vm, dropped,
                      dropped == 1 ? "point" : "points", store->label, freed);
    }
    prune_result_clear(&result);
    return true;
}
