/* SPDX-License-Identifier: Apache-2.0 */
/* What a host has beside domains: networks, storage pools, nwfilters, secrets. */
#include "common/host.h"

#include "common/error.h"
#include "common/host-private.h"
#include "common/xml.h"

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virNWFilter, virNWFilterFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virSecret, virSecretFree)

void host_object_free(struct host_object *object)
{
    if (!object)
        return;
    g_free(object->name);
    g_free(object->xml);
    g_free(object);
}

/* Takes over XML. */
static char *with_autostart(char *xml, int autostart)
{
    g_autofree char *before = xml;

    return autostart == 1 ? g_strconcat(before, HOST_AUTOSTARTS, NULL) : g_steal_pointer(&before);
}

/* Takes over XML. */
static void add_object(GPtrArray *objects, const char *name, char *xml, bool active)
{
    struct host_object *object = g_new0(struct host_object, 1);

    object->name = g_strdup(name);
    object->xml = xml;
    object->active = active;
    g_ptr_array_add(objects, object);
}

/* A libvirt without this driver has no such objects. */
static bool is_driver_missing(void)
{
    return libvirt_error_code() == VIR_ERR_NO_SUPPORT;
}

static bool add_network(struct host *host, GPtrArray *objects, virNetworkPtr network,
                        GError **error)
{
    const char *name = virNetworkGetName(network);
    char *xml = virNetworkGetXMLDesc(network, VIR_NETWORK_XML_INACTIVE);
    int autostart = 0;

    if (xml) {
        virNetworkGetAutostart(network, &autostart);
        add_object(objects, name, with_autostart(xml, autostart), virNetworkIsActive(network) == 1);
        return true;
    }
    /* Undefined since it was listed. */
    if (libvirt_error_code() == VIR_ERR_NO_NETWORK)
        return true;
    return host_fail(host, error, "read the definition of network %s", name);
}

GPtrArray *host_networks(struct host *host, GError **error)
{
    g_autoptr(GPtrArray) objects = g_ptr_array_new_with_free_func((GDestroyNotify)host_object_free);
    g_autofree virNetworkPtr *networks = NULL;
    int count = virConnectListAllNetworks(host->connection, &networks, 0);
    bool good = count >= 0 || is_driver_missing() || host_fail(host, error, "list the networks");

    for (int i = 0; i < count; i++) {
        g_autoptr(virNetwork) network = networks[i];

        good = good && add_network(host, objects, network, error);
    }
    return good ? g_steal_pointer(&objects) : NULL;
}

/* How full it is, is no part of its definition, and another number each time that libvirt looks. Takes DESCRIPTION. */
static char *pool_definition(char *description)
{
    static const char *const figures[] = {"capacity", "allocation", "available"};
    AUTO(xml) xml = xml_parse(description, "storage pool", NULL);

    if (!xml)
        return description;
    for (unsigned i = 0; i < G_N_ELEMENTS(figures); i++) {
        struct xml_node *figure = xml_find(xml_root(xml), figures[i]);

        if (figure)
            xml_remove(figure);
    }
    g_free(description);
    return xml_dump(xml);
}

static bool add_pool(struct host *host, GPtrArray *objects, virStoragePoolPtr pool, GError **error)
{
    const char *name = virStoragePoolGetName(pool);
    char *xml = virStoragePoolGetXMLDesc(pool, VIR_STORAGE_XML_INACTIVE);
    int autostart = 0;

    if (xml) {
        virStoragePoolGetAutostart(pool, &autostart);
        add_object(objects, name, with_autostart(pool_definition(xml), autostart),
                   virStoragePoolIsActive(pool) == 1);
        return true;
    }
    /* Undefined since it was listed. */
    if (libvirt_error_code() == VIR_ERR_NO_STORAGE_POOL)
        return true;
    return host_fail(host, error, "read the definition of storage pool %s", name);
}

GPtrArray *host_storage_pools(struct host *host, GError **error)
{
    g_autoptr(GPtrArray) objects = g_ptr_array_new_with_free_func((GDestroyNotify)host_object_free);
    g_autofree virStoragePoolPtr *pools = NULL;
    int count = virConnectListAllStoragePools(host->connection, &pools, 0);
    bool good =
        count >= 0 || is_driver_missing() || host_fail(host, error, "list the storage pools");

    for (int i = 0; i < count; i++) {
        g_autoptr(virStoragePool) pool = pools[i];

        good = good && add_pool(host, objects, pool, error);
    }
    return good ? g_steal_pointer(&objects) : NULL;
}

GPtrArray *host_nwfilters(struct host *host, GError **error)
{
    g_autoptr(GPtrArray) objects = g_ptr_array_new_with_free_func((GDestroyNotify)host_object_free);
    g_autofree virNWFilterPtr *filters = NULL;
    int count = virConnectListAllNWFilters(host->connection, &filters, 0);
    bool good = count >= 0 || is_driver_missing() || host_fail(host, error, "list the nwfilters");

    for (int i = 0; i < count; i++) {
        g_autoptr(virNWFilter) filter = filters[i];
        const char *name = virNWFilterGetName(filter);
        char *xml = good ? virNWFilterGetXMLDesc(filter, 0) : NULL;

        if (xml)
            add_object(objects, name, xml, false);
        else if (good && libvirt_error_code() != VIR_ERR_NO_NWFILTER)
            good = host_fail(host, error, "read the definition of nwfilter %s", name);
    }
    return good ? g_steal_pointer(&objects) : NULL;
}

static bool add_secret(struct host *host, GPtrArray *objects, virSecretPtr secret, GError **error)
{
    char uuid[VIR_UUID_STRING_BUFLEN];
    char *xml;

    virSecretGetUUIDString(secret, uuid);
    xml = virSecretGetXMLDesc(secret, 0);
    if (xml)
        add_object(objects, uuid, xml, false);
    return xml || libvirt_error_code() == VIR_ERR_NO_SECRET ||
           host_fail(host, error, "read the definition of secret %s", uuid);
}

GPtrArray *host_secrets(struct host *host, GError **error)
{
    g_autoptr(GPtrArray) objects = g_ptr_array_new_with_free_func((GDestroyNotify)host_object_free);
    g_autofree virSecretPtr *secrets = NULL;
    int count = virConnectListAllSecrets(host->connection, &secrets, 0);
    bool good = count >= 0 || is_driver_missing() || host_fail(host, error, "list the secrets");

    for (int i = 0; i < count; i++) {
        g_autoptr(virSecret) secret = secrets[i];

        good = good && add_secret(host, objects, secret, error);
    }
    return good ? g_steal_pointer(&objects) : NULL;
}

/* ---- Making them */

bool host_define_network(struct host *host, const char *xml, GError **error)
{
    g_autoptr(virNetwork) made = virNetworkDefineXML(host->connection, xml);

    return (made && virNetworkSetAutostart(made, g_str_has_suffix(xml, HOST_AUTOSTARTS)) == 0) ||
           host_fail(host, error, "define the network");
}

bool host_define_storage_pool(struct host *host, const char *xml, GError **error)
{
    g_autoptr(virStoragePool) made = virStoragePoolDefineXML(host->connection, xml, 0);

    return (made &&
            virStoragePoolSetAutostart(made, g_str_has_suffix(xml, HOST_AUTOSTARTS)) == 0) ||
           host_fail(host, error, "define the storage pool");
}

bool host_define_nwfilter(struct host *host, const char *xml, GError **error)
{
    g_autoptr(virNWFilter) made = virNWFilterDefineXML(host->connection, xml);

    return made || host_fail(host, error, "define the nwfilter");
}

bool host_define_secret(struct host *host, const char *xml, GError **error)
{
    g_autoptr(virSecret) made = virSecretDefineXML(host->connection, xml, 0);

    return made || host_fail(host, error, "define the secret");
}

bool host_secret_value(struct host *host, const char *uuid, uint8_t **value, size_t *len,
                       GError **error)
{
    g_autoptr(virSecret) secret = virSecretLookupByUUIDString(host->connection, uuid);

    *value = secret ? virSecretGetValue(secret, len, 0) : NULL;
    return *value || libvirt_error_code() == VIR_ERR_NO_SECRET ||
           libvirt_error_code() == VIR_ERR_INVALID_SECRET ||
           host_fail(host, error, "read the value of secret %s", uuid);
}

bool host_set_secret_value(struct host *host, const char *uuid, const uint8_t *value, size_t len,
                           GError **error)
{
    g_autoptr(virSecret) secret = virSecretLookupByUUIDString(host->connection, uuid);

    return (secret && virSecretSetValue(secret, value, len, 0) == 0) ||
           host_fail(host, error, "set the value of secret %s", uuid);
}
