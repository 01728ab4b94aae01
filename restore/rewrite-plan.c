/* SPDX-License-Identifier: Apache-2.0 */
/* What the recovery plan changes in a definition, before it is adapted to the host. */
#include <inttypes.h>
#include <string.h>

#include "restore/recovery-plan.h"
#include "restore/rewrite.h"

static void remove_all(const struct xml_node *from, const char *xpath)
{
    g_autoptr(GPtrArray) nodes = xml_find_all(from, xpath);

    for (unsigned i = 0; i < nodes->len; i++)
        xml_remove(nodes->pdata[i]);
}

/* ---- Size */

/* Its memory is the sum of its cells, and its CPUs are those of its cells: to share another amount
 * out among them is not ours to guess. */
static bool has_cells(const struct rewrite *rewrite, const char *what)
{
    if (!xml_find(rewrite->domain, "cpu/numa/cell"))
        return false;
    remark(rewrite->findings,
           "its %s is laid out in NUMA cells: it stays as it was, whatever the plan says" REMEDY
           "remove `%s` of the VM from the recovery plan",
           what, what);
    return true;
}

/* Modules that are plugged in would count beside it. */
static void set_memory(const struct rewrite *rewrite, uint64_t bytes)
{
    g_autofree char *text = g_strdup_printf("%" PRIu64, bytes >> 10);
    struct xml_node *memory = xml_child(rewrite->domain, "memory");

    remove_all(rewrite->domain, "currentMemory | maxMemory | devices/memory");
    xml_set_attr(memory, "unit", "KiB");
    xml_set_text(memory, text);
}

static void set_cpus(const struct rewrite *rewrite, unsigned cpus)
{
    g_autofree char *text = g_strdup_printf("%u", cpus);
    struct xml_node *vcpu = xml_child(rewrite->domain, "vcpu");

    remove_all(rewrite->domain, "vcpus | cpu/topology | cputune/vcpupin | cputune/vcpusched");
    xml_set_attr(vcpu, "current", NULL);
    xml_set_text(vcpu, text);
}

static void resize(const struct rewrite *rewrite)
{
    const struct plan_vm *vm = recovery_plan_vm(rewrite->plan, rewrite->vm);

    if (vm && vm->memory_bytes && !has_cells(rewrite, "memory"))
        set_memory(rewrite, vm->memory_bytes);
    if (vm && vm->cpus && !has_cells(rewrite, "cpus"))
        set_cpus(rewrite, vm->cpus);
}

/* ---- Networks */

char *nic_network(const struct xml_node *nic)
{
    return xml_string(nic, "source/@network | source/@bridge | source/@dev");
}

/* A network of libvirt if there is one of that name, else a bridge. What belongs to the old one (a port
 * group, a switch's port, VLAN tags) means nothing at the new one. */
static void plug_into(struct xml_node *nic, const struct platform *platform, const char *target)
{
    bool is_bridge =
        !g_hash_table_contains(platform->networks, target) && platform_has_link(platform, target);

    remove_all(nic, "source | virtualport | vlan | target");
    xml_set_attr(nic, "type", is_bridge ? "bridge" : "network");
    xml_set_attr(nic, "managed", NULL);
    xml_set_attr(xml_add(nic, "source", NULL), is_bridge ? "bridge" : "network", target);
}

/* The NIC of that address when the VM ran here before, if it was plugged into something; or NULL. */
static struct xml_node *nic_before(const struct rewrite *rewrite, const struct xml_node *nic)
{
    g_autofree char *mac = xml_string(nic, "mac/@address");
    g_autoptr(GPtrArray) nics =
        rewrite->before && mac ? xml_find_all(rewrite->before, "devices/interface") : NULL;

    for (unsigned i = 0; nics && i < nics->len; i++) {
        g_autofree char *its = xml_string(nics->pdata[i], "mac/@address");
        g_autofree char *network = nic_network(nics->pdata[i]);

        if (its && network && g_ascii_strcasecmp(its, mac) == 0)
            return nics->pdata[i];
    }
    return NULL;
}

/* At the other site it may have had nothing to be plugged into, or something else. */
static void plug_as_before(const struct rewrite *rewrite, struct xml_node *nic)
{
    const struct xml_node *before = nic_before(rewrite, nic);
    g_autofree char *network = before ? nic_network(before) : NULL, *now = nic_network(nic);
    g_autofree char *mac = xml_string(nic, "mac/@address");

    if (!before || g_strcmp0(network, now) == 0)
        return;
    remark(rewrite->findings, "NIC %s is plugged into %s, as it was here before", mac, network);
    xml_replace(nic, before);
}

static void map_nic(const struct rewrite *rewrite, struct xml_node *nic)
{
    g_autofree char *name = nic_network(nic);
    const struct plan_network *network =
        name && rewrite->plan ? recovery_plan_network(rewrite->plan, name) : NULL;

    if (network && network->disconnected)
        rewrite_unplug(nic);
    else if (network && network->target && strcmp(network->target, name) != 0)
        plug_into(nic, rewrite->platform, network->target);
    else if (!network)
        plug_as_before(rewrite, nic);
}

void rewrite_plan(const struct rewrite *rewrite)
{
    g_autoptr(GPtrArray) nics = NULL;

    if (rewrite->plan)
        resize(rewrite);
    nics = xml_find_all(rewrite->domain, "devices/interface");
    for (unsigned i = 0; i < nics->len; i++)
        map_nic(rewrite, nics->pdata[i]);
}
