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

/* All VMs of PROTECTION, or only ONLY; *FOUND says whether there was any. */
static bool add_protection(struct context *context, GPtrArray *vms,
                           const struct protection *protection, const char *only, bool *found,
                           GError **error)
{
    AUTO(vapp) vapp = NULL;

    for (char **name = protection->vms; name && *name; name++) {
        if (!only || g_str_equal(*name, only)) {
            protected_vms_add(vms, protection, *name);
            *found = true;
        }
    }
    if (!protection->vapp)
        return true;
    vapp = vapp_find(context->config_dir, protection->vapp, error);
    if (!vapp) {
        g_prefix_error(error, "[protection %s] vapp: ", protection->name);
        return false;
    }
    for (unsigned i = 0; i < vapp->vms->len; i++) {
        const struct vapp_vm *vm = vapp->vms->pdata[i];

        if (!only || g_str_equal(vm->name, only)) {
            protected_vms_add(vms, protection, vm->name);
            *found = true;
        }
    }
    return true;
}

static bool add_named(struct context *context, GPtrArray *vms, const char *name, GError **error)
{
    const struct config *config = context->config;
    bool found = false;

    for (unsigned i = 0; i < config->protections->len; i++) {
        const struct protection *protection = config->protections->pdata[i];
        bool whole = !name || g_str_equal(protection->name, name);

        if (!add_protection(context, vms, protection, whole ? NULL : name, &found, error))
            return false;
    }
    if (!found && name)
        return fail(error, ERROR_NOT_FOUND,
                    "%s is neither a protection nor a protected VM; protections are in %s", name,
                    config->path);
    return true;
}

GPtrArray *protected_vms(struct context *context, char *const *names, GError **error)
{
    g_autoptr(GPtrArray) vms = g_ptr_array_new_with_free_func(protected_vm_free);

    if (!context_config(context, error))
        return NULL;
    if (!*names && !add_named(context, vms, NULL, error))
        return NULL;
    for (; *names; names++)
        if (!add_named(context, vms, *names, error))
            return NULL;
    return g_steal_pointer(&vms);
}

/* The protection that covers VM with DESTINATION, or NULL. */
static bool find_protection(struct context *context, const char *vm, const char *destination,
                            const struct protection **protection, GError **error)
{
    const GPtrArray *protections = context->config->protections;

    *protection = NULL;
    for (unsigned i = 0; i < protections->len && !*protection; i++) {
        g_autoptr(GPtrArray) covered = g_ptr_array_new_with_free_func(protected_vm_free);
        const struct protection *candidate = protections->pdata[i];
        bool found = false;

        if (!g_str_equal(candidate->destination, destination))
            continue;
        if (!add_protection(context, covered, candidate, vm, &found, error))
            return false;
        if (found)
            *protection = candidate;
    }
    return true;
}

static bool add_vapp_to(struct context *context, GPtrArray *vms, const struct vapp *vapp,
                        const char *destination, const struct protection *others, GError **error)
{
    for (unsigned i = 0; i < vapp->vms->len; i++) {
        const struct vapp_vm *vm = vapp->vms->pdata[i];
        const struct protection *protection;

        if (!find_protection(context, vm->name, destination, &protection, error))
            return false;
        protected_vms_add(vms, protection ? protection : others, vm->name);
    }
    return true;
}

GPtrArray *vms_to(struct context *context, char *const *names, const char *destination,
                  const struct protection *others, GPtrArray *vapps, GError **error)
{
    g_autoptr(GPtrArray) vms = g_ptr_array_new_with_free_func(protected_vm_free);
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
        if (!add_vapp_to(context, vms, vapp ? vapp : single, destination, others, error))
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

/* --- the pool bundle ------------------------------------------------------------------------- */

static bool add_owner(struct bundle *bundle, const char *store, struct domain *domain,
                      GError **error)
{
    AUTO(owner) owner = NULL;

    if (!owner_read(store, domain_uuid(domain), &owner, error))
        return false;
    if (owner)
        bundle_add_owner(bundle, owner);
    return true;
}

static bool add_domains(struct bundle *bundle, const char *store, GPtrArray *hosts, GPtrArray *vms,
                        GError **error)
{
    for (unsigned i = 0; i < vms->len; i++) {
        const struct protected_vm *vm = vms->pdata[i];
        AUTO(domain) domain = find_domain(hosts, vm->vm, NULL);

        if (!domain)
            continue; /* its own point will fail and say so; the others must travel all the same */
        g_autofree char *xml = domain_xml(domain, DOMAIN_XML_INACTIVE, error);

        if (!xml || !add_owner(bundle, store, domain, error))
            return false;
        bundle_add_domain(bundle, vm->vm, domain_uuid(domain), xml);
    }
    return true;
}

static void add_objects(struct bundle *bundle, const char *folder, GPtrArray *objects)
{
    for (unsigned i = 0; i < objects->len; i++) {
        const struct host_object *object = objects->pdata[i];
        g_autofree char *path = g_strdup_printf("%s/%s.xml", folder, object->name);

        if (name_is_safe(object->name) && !g_str_has_prefix(object->name, TEST_NETWORK_PREFIX))
            bundle_add(bundle, path, object->xml);
    }
}

static bool add_hosts(struct bundle *bundle, GPtrArray *hosts, GError **error)
{
    for (unsigned i = 0; i < hosts->len; i++) {
        g_autoptr(GPtrArray) networks = host_networks(hosts->pdata[i], error);
        g_autoptr(GPtrArray) pools = networks ? host_storage_pools(hosts->pdata[i], error) : NULL;

        if (!pools)
            return false;
        add_objects(bundle, "networks", networks);
        add_objects(bundle, "pools", pools);
    }
    return true;
}

static void add_vapps(struct bundle *bundle, GPtrArray *vapps)
{
    for (unsigned i = 0; i < vapps->len; i++) {
        const struct vapp *vapp = vapps->pdata[i];
        g_autofree char *path = g_strdup_printf("vapps/%s.vapp", vapp->name);

        bundle_add(bundle, path, vapp->text);
    }
}

static bool add_own_vapps(struct bundle *bundle, const char *dir, GError **error)
{
    g_autoptr(GPtrArray) vapps = vapp_load_all(dir, error);

    if (vapps)
        add_vapps(bundle, vapps);
    return vapps != NULL;
}

struct bundle *site_bundle(struct context *context, GPtrArray *vms, GPtrArray *vapps,
                           GError **error)
{
    const struct config *config = context_config(context, error);
    GPtrArray *hosts = config ? context_hosts(context, error) : NULL;
    AUTO(bundle) bundle = hosts ? bundle_new(config->site) : NULL;

    if (bundle && vapps)
        add_vapps(bundle, vapps);
    if (!bundle || !add_domains(bundle, config->store, hosts, vms, error) ||
        !add_hosts(bundle, hosts, error) || !add_own_vapps(bundle, config->dir, error))
        return NULL;
    return g_steal_pointer(&bundle);
}

char *replication_key(const char *vm_uuid, const char *destination)
{
    return g_strdup_printf("%s/%s", vm_uuid, destination);
}

/* --- older points ---------------------------------------------------------------------------- */

bool drop_points(struct store *store, const char *vm_uuid, const struct protection *protection,
                 struct progress *progress, GError **error)
{
    struct prune_request request = {
        .vm_uuid = vm_uuid, .keep = protection->keep, .progress = progress};
    struct prune_result result;
    unsigned dropped = 0;

    if (retention_is_empty(&protection->keep))
        return true;
    if (!interrupt_check(error) || !store_prune(store, &request, &result, error))
        return false;
    for (unsigned i = 0; i < result.decisions->len; i++)
        dropped += !((const struct prune_decision *)result.decisions->pdata[i])->keep;
    if (dropped > 0) {
        const struct prune_decision *newest = result.decisions->pdata[0];
        g_autofree char *freed = bytes_format(result.freed_bytes);

        progress_note(progress, "%s: %u older %s dropped at %s, %s freed", newest->vm, dropped,
                      dropped == 1 ? "point" : "points", protection->destination, freed);
    }
    prune_result_clear(&result);
    return true;
}
