/* SPDX-License-Identifier: Apache-2.0 */
#include "common/host.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "common/error.h"
#include "common/host-private.h"
#include "common/xml.h"

int libvirt_error_code(void)
{
    virErrorPtr last = virGetLastError();

    return last ? (int)last->code : VIR_ERR_OK;
}

/* What a caller can act upon; all the rest is the hypervisor's refusal. */
static enum error_kind libvirt_error_kind(void)
{
    switch (libvirt_error_code()) {
    case VIR_ERR_NO_DOMAIN:
    case VIR_ERR_NO_DOMAIN_CHECKPOINT:
    case VIR_ERR_NO_NETWORK:
    case VIR_ERR_NO_STORAGE_POOL:
    case VIR_ERR_NO_STORAGE_VOL:
        return ERROR_NOT_FOUND;
    case VIR_ERR_CHECKPOINT_INCONSISTENT:
        return ERROR_INTEGRITY;
    default:
        return ERROR_HYPERVISOR;
    }
}

const char *libvirt_error_text(void)
{
    virErrorPtr last = virGetLastError();

    return last && last->message ? last->message : "libvirt gave no reason";
}

bool host_fail(const struct host *host, GError **error, const char *format, ...)
{
    g_autofree char *what = NULL;
    va_list args;

    va_start(args, format);
    what = g_strdup_vprintf(format, args);
    va_end(args);
    return fail(error, libvirt_error_kind(), "cannot %s at %s: %s", what, host->uri,
                libvirt_error_text());
}

/* libvirt prints every error to stderr unless told not to; ours are printed once, by main. */
static void keep_quiet(void *opaque, virErrorPtr last)
{
}

/* libvirt writes to sockets without MSG_NOSIGNAL: a daemon that died would end us with it. */
static void survive_lost_connections(void)
{
    struct sigaction action = {0};

    if (sigaction(SIGPIPE, NULL, &action) < 0 || action.sa_handler != SIG_DFL)
        return;
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
}

static void libvirt_prepare(void)
{
    static gsize done = 0;

    if (g_once_init_enter(&done)) {
        virInitialize();
        virEventRegisterDefaultImpl();
        virSetErrorFunc(NULL, keep_quiet);
        survive_lost_connections();
        g_once_init_leave(&done, 1);
    }
}

struct host *host_open(const char *uri, GError **error)
{
    virConnectPtr connection = NULL;
    struct host *host = NULL;

    libvirt_prepare();
    events_hold();
    connection = virConnectOpen(uri);
    if (!connection) {
        fail(error, ERROR_HYPERVISOR,
             "cannot connect to libvirt at %s: %s; \"virsh -c '%s' version\" must work for this "
             "user",
             uri, libvirt_error_text(), uri);
        events_release();
        return NULL;
    }
    host = g_new0(struct host, 1);
    g_atomic_ref_count_init(&host->refs);
    host->connection = connection;
    host->uri = g_strdup(uri);
    g_mutex_init(&host->lock);
    return host;
}

void host_free(struct host *host)
{
    if (!host || !g_atomic_ref_count_dec(&host->refs))
        return;
    virConnectClose(host->connection);
    events_release();
    g_mutex_clear(&host->lock);
    g_free(host->uri);
    g_free(host);
}

const char *host_uri(const struct host *host)
{
    return host->uri;
}

/* In session mode QEMU runs as the user of the daemon. */
static bool uri_is_session(const char *uri)
{
    g_autoptr(GUri) parsed = g_uri_parse(uri, G_URI_FLAGS_NONE, NULL);

    return parsed && g_str_equal(g_uri_get_path(parsed), "/session");
}

bool host_is_session(const struct host *host)
{
    return uri_is_session(host->uri);
}

bool host_is_local(const struct host *host)
{
    g_autoptr(GUri) parsed = g_uri_parse(host->uri, G_URI_FLAGS_NONE, NULL);
    const char *server = parsed ? g_uri_get_host(parsed) : NULL;

    return !server || !*server;
}

char *host_hostname(struct host *host, GError **error)
{
    char *name = virConnectGetHostname(host->connection);

    if (!name)
        host_fail(host, error, "ask for the name of the host");
    return name;
}

char *host_capabilities(struct host *host, GError **error)
{
    char *xml = virConnectGetCapabilities(host->connection);

    if (!xml)
        host_fail(host, error, "read the capabilities of the host");
    return xml;
}

/* libvirt has no code of its own for "this host has no such emulator, architecture or machine". */
static bool is_refused_choice(void)
{
    virErrorPtr last = virGetLastError();

    if (!last || last->domain == VIR_FROM_RPC)
        return false;
    return last->code == VIR_ERR_INVALID_ARG || last->code == VIR_ERR_CONFIG_UNSUPPORTED ||
           last->code == VIR_ERR_SYSTEM_ERROR;
}

char *host_domain_capabilities(struct host *host, const char *emulator, const char *arch,
                               const char *machine, const char *virt_type, GError **error)
{
    char *xml =
        virConnectGetDomainCapabilities(host->connection, emulator, arch, machine, virt_type, 0);

    if (xml)
        return xml;
    fail(error, is_refused_choice() ? ERROR_NOT_FOUND : libvirt_error_kind(),
         "no guest of type %s, architecture %s, machine %s, emulator %s can run at %s: %s",
         virt_type ? virt_type : "(default)", arch ? arch : "(default)",
         machine ? machine : "(default)", emulator ? emulator : "(default)", host->uri,
         libvirt_error_text());
    return NULL;
}

/* "+64055:+107" */
static bool label_parse(const char *label, uid_t *uid, gid_t *gid)
{
    unsigned user = 0;
    unsigned group = 0;

    if (sscanf(label, "+%u:+%u", &user, &group) != 2)
        return false;
    *uid = user;
    *gid = group;
    return true;
}

static struct host_owners ask_owners(struct host *host)
{
    g_autofree char *text = host_capabilities(host, NULL);
    AUTO(xml) capabilities = text ? xml_parse(text, "capabilities", NULL) : NULL;
    const struct xml_node *dac =
        capabilities ? xml_find(xml_root(capabilities), "host/secmodel[model='dac']") : NULL;
    g_autofree char *label = dac ? xml_string(dac, "baselabel[@type='qemu']") : NULL;
    struct host_owners owners = {.known = capabilities != NULL, .managed = dac != NULL};

    owners.labelled = label && label_parse(label, &owners.uid, &owners.gid);
    return owners;
}

/* A daemon that is started anew, with other settings, ends the connection. */
static struct host_owners host_owners(struct host *host)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&host->lock);

    if (!host->owners.known)
        host->owners = ask_owners(host);
    return host->owners;
}

bool host_qemu_identity(struct host *host, uid_t *uid, gid_t *gid)
{
    struct host_owners owners = {0};

    if (uri_is_session(host->uri))
        return false;
    owners = host_owners(host);
    if (!owners.labelled || owners.uid == geteuid())
        return false;
    *uid = owners.uid;
    *gid = owners.gid;
    return true;
}

bool host_manages_owners(struct host *host)
{
    return host_owners(host).managed;
}

/* Free pages and the page cache: what a new guest can have without anybody swapping. */
bool host_memory_free(struct host *host, uint64_t *bytes, GError **error)
{
    g_autofree virNodeMemoryStatsPtr stats = NULL;
    int count = 0;
    uint64_t kib = 0;

    if (virNodeGetMemoryStats(host->connection, VIR_NODE_MEMORY_STATS_ALL_CELLS, NULL, &count, 0) <
        0)
        return host_fail(host, error, "read the free memory");
    stats = g_new0(virNodeMemoryStats, (size_t)count);
    if (virNodeGetMemoryStats(host->connection, VIR_NODE_MEMORY_STATS_ALL_CELLS, stats, &count, 0) <
        0)
        return host_fail(host, error, "read the free memory");
    for (int i = 0; i < count; i++)
        if (g_str_equal(stats[i].field, VIR_NODE_MEMORY_STATS_FREE) ||
            g_str_equal(stats[i].field, VIR_NODE_MEMORY_STATS_BUFFERS) ||
            g_str_equal(stats[i].field, VIR_NODE_MEMORY_STATS_CACHED))
            kib += stats[i].value;
    *bytes = kib * 1024;
    return true;
}

bool host_cpus_used(struct host *host, unsigned *cpus, GError **error)
{
    g_autofree virDomainPtr *handles = NULL;
    int count =
        virConnectListAllDomains(host->connection, &handles, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    unsigned sum = 0;

    if (count < 0)
        return host_fail(host, error, "list the domains that run");
    for (int i = 0; i < count; i++) {
        g_autoptr(virDomain) domain = handles[i];
        virDomainInfo info;

        /* One that is gone by now takes none. */
        if (virDomainGetInfo(domain, &info) == 0)
            sum += info.nrVirtCpu;
    }
    *cpus = sum;
    return true;
}

bool host_network_start(struct host *host, const char *name, const char *xml, GError **error)
{
    g_autoptr(virNetwork) there = virNetworkLookupByName(host->connection, name);
    g_autoptr(virNetwork) made = NULL;

    if (there && virNetworkIsActive(there) == 1)
        return true;
    made = virNetworkCreateXML(host->connection, xml);
    return made || host_fail(host, error, "start network %s", name);
}

bool host_network_stop(struct host *host, const char *name, GError **error)
{
    g_autoptr(virNetwork) network = virNetworkLookupByName(host->connection, name);

    if (!network)
        return libvirt_error_code() == VIR_ERR_NO_NETWORK ||
               host_fail(host, error, "find network %s", name);
    return virNetworkDestroy(network) == 0 || host_fail(host, error, "stop network %s", name);
}

char *host_pool_directory(struct host *host, const char *pool, GError **error)
{
    g_autoptr(virStoragePool) found = virStoragePoolLookupByName(host->connection, pool);
    g_autofree char *text = found ? virStoragePoolGetXMLDesc(found, 0) : NULL;
    AUTO(xml) xml = NULL;
    g_autofree char *path = NULL;

    if (!text) {
        host_fail(host, error, "find storage pool %s", pool);
        return NULL;
    }
    if (virStoragePoolIsActive(found) != 1) {
        fail(error, ERROR_CONFIG, "storage pool %s at %s is not active", pool, host->uri);
        return NULL;
    }
    xml = xml_parse(text, "storage pool", error);
    if (!xml)
        return NULL;
    if (xml_find(xml_root(xml), "/pool[@type='dir' or @type='fs' or @type='netfs']"))
        path = xml_string(xml_root(xml), "target/path");
    if (!path)
        fail(error, ERROR_CONFIG, "storage pool %s at %s keeps no files in a directory", pool,
             host->uri);
    return g_steal_pointer(&path);
}

char *host_volume_path(struct host *host, const char *pool, const char *volume, GError **error)
{
    g_autoptr(virStoragePool) found = virStoragePoolLookupByName(host->connection, pool);
    g_autoptr(virStorageVol) vol = found ? virStorageVolLookupByName(found, volume) : NULL;
    char *path = vol ? virStorageVolGetPath(vol) : NULL;

    if (!path)
        host_fail(host, error, "find volume %s of storage pool %s", volume, pool);
    return path;
}

GPtrArray *host_domains(struct host *host, GError **error)
{
    g_autoptr(GPtrArray) domains = NULL;
    g_autofree virDomainPtr *handles = NULL;
    int count = virConnectListAllDomains(host->connection, &handles, 0);

    if (count < 0) {
        host_fail(host, error, "list the domains");
        return NULL;
    }
    domains = g_ptr_array_new_with_free_func((GDestroyNotify)domain_free);
    for (int i = 0; i < count; i++)
        g_ptr_array_add(domains, domain_new(host, handles[i]));
    return g_steal_pointer(&domains);
}

struct domain *host_domain(struct host *host, const char *name_or_uuid, GError **error)
{
    virDomainPtr handle = NULL;

    if (g_uuid_string_is_valid(name_or_uuid))
        handle = virDomainLookupByUUIDString(host->connection, name_or_uuid);
    if (!handle)
        handle = virDomainLookupByName(host->connection, name_or_uuid);
    if (!handle) {
        host_fail(host, error, "find domain %s", name_or_uuid);
        return NULL;
    }
    return domain_new(host, handle);
}

/* The <name> in a definition, for messages; g_free. */
static char *definition_name(const char *text)
{
    AUTO(xml) xml = xml_parse(text, "domain definition", NULL);
    g_autofree char *name = xml ? xml_string(xml_root(xml), "name") : NULL;

    return name ? g_steal_pointer(&name) : g_strdup("without a name");
}

struct domain *host_define(struct host *host, const char *xml, GError **error)
{
    g_autofree char *name = definition_name(xml);
    virDomainPtr handle =
        virDomainDefineXMLFlags(host->connection, xml, VIR_DOMAIN_DEFINE_VALIDATE);

    if (!handle) {
        host_fail(host, error, "define domain %s", name);
        return NULL;
    }
    return domain_new(host, handle);
}
