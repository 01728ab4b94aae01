/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/platform.h"

#include <net/if.h>
#include <stdlib.h>

void platform_free(struct platform *platform)
{
    if (!platform)
        return;
    g_free(platform->name);
    xml_free(platform->capabilities);
    if (!platform->supports)
        xml_free(platform->domain_support);
    g_clear_pointer(&platform->supports, g_hash_table_unref);
    g_clear_pointer(&platform->archs, g_hash_table_unref);
    g_clear_pointer(&platform->networks, g_hash_table_unref);
    g_clear_pointer(&platform->links, g_hash_table_unref);
    g_free(platform);
}

static bool read_networks(struct platform *platform, GError **error)
{
    g_autoptr(GPtrArray) networks = host_networks(platform->host, error);

    if (!networks)
        return false;
    platform->networks = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (unsigned i = 0; i < networks->len; i++) {
        const struct host_object *network = networks->pdata[i];

        g_hash_table_insert(platform->networks, g_strdup(network->name),
                            GINT_TO_POINTER(network->active));
    }
    return true;
}

struct platform *platform_probe(struct host *host, GError **error)
{
    AUTO(platform) platform = g_new0(struct platform, 1);
    g_autofree char *text = host_capabilities(host, error);

    platform->name = g_strdup(host_uri(host));
    platform->host = host;
    platform->links = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    platform->capabilities = text ? xml_parse(text, "the host's capabilities", error) : NULL;
    if (!platform->capabilities || !read_networks(platform, error))
        return NULL;
    if (!host_memory_free(host, &platform->memory_free_bytes, NULL))
        platform->memory_free_bytes = UINT64_MAX;
    if (!host_cpus_used(host, &platform->cpus_used, NULL))
        platform->cpus_used = 0;
    return g_steal_pointer(&platform);
}

static void free_support(void *support)
{
    xml_free(support);
}

/* Owned by supports; NULL when the host refuses. */
static struct xml *ask_support(struct platform *platform, const char *arch, const char *machine,
                               const char *type)
{
    char *key =
        g_strdup_printf("%s|%s|%s", arch ? arch : "", machine ? machine : "", type ? type : "");
    g_autofree char *text = NULL;
    struct xml *support = NULL;

    if (!platform->supports)
        platform->supports = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, free_support);
    if (g_hash_table_lookup_extended(platform->supports, key, NULL, (void **)&support)) {
        g_free(key);
        return support;
    }
    text = host_domain_capabilities(platform->host, NULL, arch, machine, type, NULL);
    if (text)
        support = xml_parse(text, "the host's domain capabilities", NULL);
    g_hash_table_insert(platform->supports, key, support);
    return support;
}

void platform_ask_support(struct platform *platform, const struct xml_node *domain)
{
    g_autofree char *arch = xml_string(domain, "os/type/@arch");
    g_autofree char *machine = xml_string(domain, "os/type/@machine");
    g_autofree char *type = xml_attr(domain, "type");

    if (platform->host)
        platform->domain_support = ask_support(platform, arch, machine, type);
}

/* Is there an element of the capabilities at PATH whose text, or whose ATTRIBUTE, is VALUE?
 * Compared here and not in XPath: the value comes from a file, and might close the quotes. */
static bool has_value(const struct platform *platform, const char *path, const char *attribute,
                      const char *value)
{
    g_autoptr(GPtrArray) nodes = xml_find_all(xml_root(platform->capabilities), path);

    for (unsigned i = 0; i < nodes->len; i++) {
        g_autofree char *text = attribute ? xml_attr(nodes->pdata[i], attribute)
                                          : xml_string(nodes->pdata[i], "text()");

        if (g_strcmp0(text, value) == 0)
            return true;
    }
    return false;
}

bool platform_has_secmodel(const struct platform *platform, const char *model)
{
    return has_value(platform, "/capabilities/host/secmodel/model", NULL, model);
}

/* ---- Architectures */

/* <arch name='x86_64'> of full virtualisation. It is asked for with each VM, and may name a hundred machines. */
struct arch {
    char *emulator;
    GHashTable *machines, *types; /* sets */
};

static void arch_free(void *data)
{
    struct arch *arch = data;

    if (!arch)
        return;
    g_free(arch->emulator);
    g_hash_table_unref(arch->machines);
    g_hash_table_unref(arch->types);
    g_free(arch);
}

/* The strings at XPATH of all NODES. */
static GHashTable *set_of(const GPtrArray *nodes, const char *xpath)
{
    GHashTable *set = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (unsigned i = 0; i < nodes->len; i++) {
        char *text = xml_string(nodes->pdata[i], xpath);

        if (text)
            g_hash_table_add(set, text);
    }
    return set;
}

static struct arch *read_arch(const struct xml_node *node)
{
    g_autoptr(GPtrArray) machines = xml_find_all(node, "machine | domain/machine");
    g_autoptr(GPtrArray) domains = xml_find_all(node, "domain");
    struct arch *arch = g_new0(struct arch, 1);

    arch->emulator = xml_string(node, "emulator/text()");
    arch->machines = set_of(machines, "text()");
    arch->types = set_of(domains, "@type");
    return arch;
}

static void read_archs(struct platform *platform)
{
    g_autoptr(GPtrArray) nodes =
        xml_find_all(xml_root(platform->capabilities), "/capabilities/guest[os_type='hvm']/arch");

    platform->archs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, arch_free);
    for (unsigned i = 0; i < nodes->len; i++) {
        char *name = xml_attr(nodes->pdata[i], "name");

        if (name && !g_hash_table_contains(platform->archs, name))
            g_hash_table_insert(platform->archs, name, read_arch(nodes->pdata[i]));
        else
            g_free(name);
    }
}

/* NULL: the host does not know it. */
static const struct arch *find_arch(struct platform *platform, const char *name)
{
    if (!platform->archs)
        read_archs(platform);
    return name ? g_hash_table_lookup(platform->archs, name) : NULL;
}

char *platform_emulator(struct platform *platform, const char *arch)
{
    const struct arch *known = find_arch(platform, arch);

    return known ? g_strdup(known->emulator) : NULL;
}

bool platform_has_machine(struct platform *platform, const char *arch, const char *machine)
{
    const struct arch *known = find_arch(platform, arch);

    return known && machine && g_hash_table_contains(known->machines, machine);
}

bool platform_has_virt_type(struct platform *platform, const char *arch, const char *type)
{
    const struct arch *known = find_arch(platform, arch);

    return known && type && g_hash_table_contains(known->types, type);
}

static unsigned count(const struct platform *platform, const char *xpath)
{
    g_autofree char *text = xml_string(xml_root(platform->capabilities), xpath);

    return text ? (unsigned)strtoul(text, NULL, 10) : 0;
}

unsigned platform_cpus(const struct platform *platform)
{
    return count(platform, "count(/capabilities/host/topology/cells/cell/cpus/cpu)");
}

unsigned platform_numa_nodes(const struct platform *platform)
{
    return count(platform, "count(/capabilities/host/topology/cells/cell)");
}

bool platform_has_network(const struct platform *platform, const char *name)
{
    return g_hash_table_lookup(platform->networks, name) || platform_has_link(platform, name);
}

/* Asked for each VM and host, and the kernel only once. */
bool platform_has_link(const struct platform *platform, const char *name)
{
    void *known;
    bool exists;

    if (platform->links && g_hash_table_lookup_extended(platform->links, name, NULL, &known))
        return GPOINTER_TO_INT(known);
    exists = if_nametoindex(name) != 0;
    if (platform->links)
        g_hash_table_insert(platform->links, g_strdup(name), GINT_TO_POINTER(exists));
    return exists;
}
