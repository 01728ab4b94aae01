/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/pool.h"

#include <string.h>

/* Not what there can be no member of. */
static void add_member(struct bundle *bundle, const char *path, const char *text)
{
    if (bundle_takes(path) && g_utf8_validate(text, -1, NULL))
        bundle_add(bundle, path, text);
}

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

static bool add_protected(struct bundle *bundle, const char *store, GPtrArray *hosts,
                          GPtrArray *vms, GError **error)
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

static bool add_other(struct bundle *bundle, struct domain *domain, GError **error)
{
    g_autofree char *protected = g_strdup_printf("domains/%s.xml", domain_uuid(domain));
    g_autofree char *path = g_strdup_printf("others/%s.xml", domain_uuid(domain));
    g_autofree char *xml = NULL;
    g_autoptr(GError) why = NULL;

    if (bundle_member(bundle, protected) || test_failover_is_copy(domain))
        return true;
    xml = domain_xml(domain, DOMAIN_XML_INACTIVE, &why);
    if (xml)
        add_member(bundle, path, xml);
    /* Undefined since it was listed. */
    if (xml || error_is(why, ERROR_NOT_FOUND))
        return true;
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

static bool add_others(struct bundle *bundle, struct host *host, GError **error)
{
    g_autoptr(GPtrArray) domains = host_domains(host, error);

    for (unsigned i = 0; domains && i < domains->len; i++)
        if (!add_other(bundle, domains->pdata[i], error))
            return false;
    return domains != NULL;
}

/* What is not the same as that of a host before is HOST's alone; of secrets the first one counts. */
static void add_objects(struct bundle *bundle, const char *folder, const GPtrArray *objects,
                        const char *host)
{
    for (unsigned i = 0; i < objects->len; i++) {
        const struct host_object *object = objects->pdata[i];
        g_autofree char *path = g_strdup_printf("%s/%s.xml", folder, object->name);
        g_autofree char *own = g_strdup_printf("hosts/%s/%s", host, path);
        const char *first = bundle_member(bundle, path);

        if (!g_str_has_prefix(object->name, TEST_NETWORK_PREFIX))
            add_member(bundle, first && strcmp(first, object->xml) != 0 ? own : path, object->xml);
    }
}

/* Only if that was asked for, and never so that somebody else can read it. */
static bool add_values(struct bundle *bundle, struct host *host, const GPtrArray *secrets,
                       const struct config *config, GError **error)
{
    uint8_t key[SEAL_KEY_SIZE];

    if (!config->secret_values || secrets->len == 0)
        return true;
    if (!secret_key_load(config->secret_values, config->site, key, error))
        return false;
    for (unsigned i = 0; i < secrets->len; i++) {
        const char *uuid = ((const struct host_object *)secrets->pdata[i])->name;
        g_autofree char *path = g_strdup_printf("secret-values/%s.sealed", uuid);
        g_autofree char *sealed = NULL;
        g_autofree uint8_t *value = NULL;
        size_t len;

        if (bundle_member(bundle, path))
            continue;
        if (!host_secret_value(host, uuid, &value, &len, error))
            return false;
        if (!value || len == 0)
            continue;
        sealed = secret_value_seal(key, uuid, value, len);
        add_member(bundle, path, sealed);
    }
    return true;
}

char *pool_host_name(const GPtrArray *hosts, struct host *host, GError **error)
{
    g_autofree char *name = host_hostname(host, error);
    unsigned n = 1;

    for (unsigned i = 0; name && hosts->pdata[i] != host; i++) {
        g_autofree char *before = host_hostname(hosts->pdata[i], error);

        if (!before)
            return NULL;
        n += g_str_equal(before, name);
    }
    return name && n > 1 ? g_strdup_printf("%s-%u", name, n) : g_steal_pointer(&name);
}

static bool add_capabilities(struct bundle *bundle, struct host *host, const char *name,
                             GError **error)
{
    g_autofree char *xml = host_capabilities(host, error);
    g_autofree char *path = g_strdup_printf("capabilities/%s.xml", name);

    if (xml)
        add_member(bundle, path, xml);
    return xml != NULL;
}

static bool add_host(struct bundle *bundle, struct host *host, const char *name,
                     const struct config *config, GError **error)
{
    g_autoptr(GPtrArray) networks = host_networks(host, error);
    g_autoptr(GPtrArray) pools = networks ? host_storage_pools(host, error) : NULL;
    g_autoptr(GPtrArray) filters = pools ? host_nwfilters(host, error) : NULL;
    g_autoptr(GPtrArray) secrets = filters ? host_secrets(host, error) : NULL;

    if (!secrets)
        return false;
    add_objects(bundle, "networks", networks, name);
    add_objects(bundle, "pools", pools, name);
    add_objects(bundle, "nwfilters", filters, name);
    add_objects(bundle, "secrets", secrets, name);
    return add_values(bundle, host, secrets, config, error) &&
           add_capabilities(bundle, host, name, error) && add_others(bundle, host, error);
}

static bool add_hosts(struct bundle *bundle, const GPtrArray *hosts, const struct config *config,
                      GError **error)
{
    for (unsigned i = 0; i < hosts->len; i++) {
        g_autofree char *name = pool_host_name(hosts, hosts->pdata[i], error);

        if (!name || !add_host(bundle, hosts->pdata[i], name, config, error))
            return false;
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

/* A plan that is wrong is what there is. */
static bool add_plans(struct bundle *bundle, const char *dir, GError **error)
{
    g_auto(GStrv) names = dir_list(dir, error);

    for (char **name = names; name && *name; name++) {
        g_autofree char *path = g_build_filename(dir, *name, NULL);
        g_autofree char *member = g_strconcat("plans/", *name, NULL);
        g_autofree char *text = NULL;

        if (g_str_has_suffix(*name, ".plan") &&
            file_read(path, CONFIG_MAX_BYTES, &text, NULL, NULL))
            add_member(bundle, member, text);
    }
    return names != NULL;
}

/* Whoever holds the bundle must not be able to log in where this site can, nor to sign as it does: with its own key
 * also where no [remote] names that. */
static GPtrArray *private_keys(const struct config *config)
{
    GPtrArray *keys = g_ptr_array_new_with_free_func(g_free);

    g_ptr_array_add(keys, g_build_filename(config->dir, SITE_KEY_FILE, NULL));

    for (unsigned i = 0; i < config->remotes->len; i++)
        g_ptr_array_add(keys, g_strdup(((const struct remote *)config->remotes->pdata[i])->key));
    for (unsigned i = 0; i < config->alerts->len; i++) {
        const struct alert *alert = config->alerts->pdata[i];

        if (alert->smtp_password_file)
            g_ptr_array_add(keys, g_strdup(alert->smtp_password_file));
    }
    if (config->secret_values)
        g_ptr_array_add(keys, g_strdup(config->secret_values));
    g_ptr_array_add(keys, g_strdup(config->web.key));
    g_ptr_array_add(keys, g_strdup(config->web.token_file));
    g_ptr_array_add(keys, NULL);
    return keys;
}

static bool add_files(struct bundle *bundle, const struct config *config, GError **error)
{
    g_autoptr(GPtrArray) keys = private_keys(config);
    g_autoptr(GPtrArray) files = host_files_read(config->host_files, (char *const *)keys->pdata);
    g_autofree char *conf = NULL;

    if (!file_read(config->path, CONFIG_MAX_BYTES, &conf, NULL, error))
        return false;
    add_member(bundle, BUNDLE_CONF, conf);
    bundle_add_files(bundle, files);
    return add_plans(bundle, config->dir, error);
}

/* --- what no configuration says ---------------------------------------------------------------- */

struct telling {
    struct context *context;
    const char *destination;
    struct bundle *bundle;
};

/* As one that is protected, if it is still here. */
static bool tell_vm(const struct telling *telling, const char *uuid, GError **error)
{
    AUTO(domain) domain = find_domain(telling->context->hosts, uuid, NULL);
    g_autofree char *xml = NULL;

    if (!domain || g_hash_table_contains(telling->bundle->vms, domain_name(domain)))
        return true;
    xml = domain_xml(domain, DOMAIN_XML_INACTIVE, error);
    if (!xml || !add_owner(telling->bundle, telling->context->config->store, domain, error))
        return false;
    bundle_add_domain(telling->bundle, domain_name(domain), domain_uuid(domain), xml);
    return true;
}

/* Who has points of a VM must know it as long as it is here, whether it is protected now or was once. */
static bool tell_recorded(const char *key, json_t *record, void *data)
{
    const struct telling *telling = data;
    g_auto(GStrv) parts = g_strsplit(key, "/", 2);

    if (g_strcmp0(json_get_string(record, "destination"), telling->destination) == 0)
        tell_vm(telling, parts[0], NULL);
    return true;
}

static bool any_vm_of(const struct vapp *vapp, GHashTable *names)
{
    for (unsigned i = 0; i < vapp->vms->len; i++)
        if (g_hash_table_contains(names, ((const struct vapp_vm *)vapp->vms->pdata[i])->name))
            return true;
    return false;
}

/* They came from another site, which may be gone. */
static bool tell_vapps_of(const struct telling *telling, GHashTable *taken, GError **error)
{
    g_autoptr(GPtrArray) vapps = NULL, theirs = g_ptr_array_new();
    struct site site;

    if (!context_site(telling->context, true, &site, error) || !(vapps = site_vapps(&site, error)))
        return false;
    for (unsigned i = 0; i < vapps->len; i++)
        if (any_vm_of(vapps->pdata[i], taken))
            g_ptr_array_add(theirs, vapps->pdata[i]);
    add_vapps(telling->bundle, theirs);
    return true;
}

/* What was failed over is this site's now. */
static bool tell_taken(const struct telling *telling, GError **error)
{
    const struct config *config = telling->context->config;
    g_autoptr(GPtrArray) owners = owner_list(config->store, error);
    g_autoptr(GHashTable) taken = g_hash_table_new(g_str_hash, g_str_equal);

    for (unsigned i = 0; owners && i < owners->len; i++) {
        const struct owner *owner = owners->pdata[i];

        if (!g_str_equal(owner->site, config->site))
            continue;
        if (!tell_vm(telling, owner->uuid, error))
            return false;
        if (g_hash_table_contains(telling->bundle->vms, owner->vm))
            g_hash_table_add(taken, owner->vm);
    }
    return owners && (g_hash_table_size(taken) == 0 || tell_vapps_of(telling, taken, error));
}

/* --- all --------------------------------------------------------------------------------------- */

static struct bundle *site_bundle(struct context *context, const char *destination, GPtrArray *vms,
                                  GPtrArray *vapps, GError **error)
{
    const struct config *config = context_config(context, error);
    GPtrArray *hosts = config ? context_hosts(context, error) : NULL;
    struct catalog *catalog = hosts ? context_catalog(context, error) : NULL;
    AUTO(bundle) bundle = catalog ? bundle_new(config->site) : NULL;
    struct telling telling = {context, destination, bundle};

    if (!bundle || !add_protected(bundle, config->store, hosts, vms, error) ||
        !catalog_each(catalog, CATALOG_REPLICATION, "", tell_recorded, &telling, error) ||
        !tell_taken(&telling, error))
        return NULL;
    if (vapps)
        add_vapps(bundle, vapps);
    if (!add_own_vapps(bundle, config->dir, error) || !add_files(bundle, config, error) ||
        !add_hosts(bundle, hosts, config, error))
        return NULL;
    return g_steal_pointer(&bundle);
}

bool pool_publish(struct context *context, const char *destination, struct store *store,
                  GPtrArray *vms, GPtrArray *vapps, GError **error)
{
    AUTO(bundle) bundle = site_bundle(context, destination, vms, vapps, error);
    bool sent;

    if (!bundle || !bundle_publish(bundle, store, &sent, error)) {
        g_prefix_error(error, "pool metadata: ");
        return false;
    }
    if (sent)
        progress_note(context->progress, "pool metadata: generation %" G_GUINT64_FORMAT " is at %s",
                      bundle->id->generation, store->label);
    return true;
}
