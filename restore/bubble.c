/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/bubble.h"

#include <string.h>

#include "restore/recovery-plan.h"
#include "restore/test-failover.h"

/* What the guests of one network had in common. */
struct segment {
    char *from;    /* "network prod" */
    char *network; /* that takes its place, or NULL: multicast */
    char *address; /* of the multicast group */
    char *port;
};

struct bubble {
    char *host;
    bool bridged; /* by networks of the host */
    char *tag;    /* at random, in the names of the networks */
    GPtrArray *segments;
};

static void segment_free(void *data)
{
    struct segment *segment = data;

    g_free(segment->from);
    g_free(segment->network);
    g_free(segment->address);
    g_free(segment->port);
    g_free(segment);
}

struct bubble *bubble_new(const char *uri, bool bridged)
{
    struct bubble *bubble = g_new0(struct bubble, 1);

    bubble->host = g_strdup(uri);
    bubble->bridged = bridged;
    bubble->tag = g_strdup_printf("%08x", g_random_int());
    bubble->segments = g_ptr_array_new_with_free_func(segment_free);
    return bubble;
}

void bubble_free(struct bubble *bubble)
{
    if (!bubble)
        return;
    g_free(bubble->host);
    g_free(bubble->tag);
    g_ptr_array_unref(bubble->segments);
    g_free(bubble);
}

/* ---- NICs */

/* 239.192.0.0/14 is for whoever needs an address inside an organisation (RFC 2365). */
static void choose_group(struct segment *segment)
{
    uint32_t random = g_random_int();

    segment->address = g_strdup_printf("239.%u.%u.%u", 192 + ((random >> 16) & 3),
                                       (random >> 8) & 0xff, random & 0xff);
    segment->port = g_strdup_printf("%d", g_random_int_range(20000, 32000));
}

/* The one that takes the place of FROM. */
static const struct segment *segment_for(struct bubble *bubble, const char *from)
{
    struct segment *segment;

    for (unsigned i = 0; i < bubble->segments->len; i++) {
        segment = bubble->segments->pdata[i];
        if (strcmp(segment->from, from) == 0)
            return segment;
    }
    segment = g_new0(struct segment, 1);
    segment->from = g_strdup(from);
    if (bubble->bridged)
        segment->network =
            g_strdup_printf(TEST_NETWORK_PREFIX "%s-%u", bubble->tag, bubble->segments->len + 1);
    else
        choose_group(segment);
    g_ptr_array_add(bubble->segments, segment);
    return segment;
}

/* "network prod", as it would be in a failover; NULL: the NIC was on a network of its own, as those of type user
 * are. */
static char *segment_name(const struct xml_node *nic, const struct plan_network *planned)
{
    g_autofree char *type = xml_attr(nic, "type");
    g_autofree char *name =
        xml_string(nic, "source/@network | source/@bridge | source/@dev | source/@address");
    g_autofree char *port = xml_string(nic, "source/@port");

    if (planned && planned->target)
        return g_strdup_printf("network %s", planned->target);
    if (!type || !name)
        return NULL;
    return g_strdup_printf("%s %s%s%s", type, name, port ? ":" : "", port ? port : "");
}

/* What the recovery plan says about it, or NULL. */
static const struct plan_network *planned_network(const struct rewrite *rewrite,
                                                  const struct xml_node *nic)
{
    g_autofree char *name = nic_network(nic);

    return name && rewrite->plan ? recovery_plan_network(rewrite->plan, name) : NULL;
}

static void join(struct xml_node *nic, const struct segment *segment)
{
    struct xml_node *source;

    rewrite_bare_nic(nic);
    xml_set_attr(nic, "type", segment->network ? "network" : "mcast");
    source = xml_add(nic, "source", NULL);
    if (segment->network) {
        xml_set_attr(source, "network", segment->network);
    } else {
        xml_set_attr(source, "address", segment->address);
        xml_set_attr(source, "port", segment->port);
    }
}

/* Why a NIC has no cable in the test, or NULL. */
static const char *unplugged(const struct plan_network *planned, const char *from)
{
    if (planned && planned->test_disconnected)
        return "is disconnected in a test, as the plan says";
    return from ? NULL : "was on a network of its own: it will be disconnected";
}

static void isolate_nics(struct bubble *bubble, const struct rewrite *rewrite)
{
    g_autoptr(GPtrArray) nics = xml_find_all(rewrite->domain, "devices/interface");

    for (unsigned i = 0; i < nics->len; i++) {
        const struct plan_network *planned = planned_network(rewrite, nics->pdata[i]);
        g_autofree char *from = segment_name(nics->pdata[i], planned);
        const char *why = unplugged(planned, from);
        const struct segment *segment = why ? NULL : segment_for(bubble, from);

        if (!segment) {
            remark(rewrite->findings, "NIC %u %s", i + 1, why);
            rewrite_unplug(nics->pdata[i]);
            continue;
        }
        join(nics->pdata[i], segment);
        if (segment->network)
            g_hash_table_insert(rewrite->platform->networks, g_strdup(segment->network),
                                GINT_TO_POINTER(true));
    }
}

/* ---- Other ways out */

static void take_away(const struct xml_node *domain, const char *xpath, const char *what,
                      struct findings *findings)
{
    g_autoptr(GPtrArray) nodes = xml_find_all(domain, xpath);

    if (nodes->len > 0)
        remark(findings, "%s: not in a test", what);
    for (unsigned i = 0; i < nodes->len; i++)
        xml_remove(nodes->pdata[i]);
}

/* What replication skipped is somebody else's as well: a test writes to nothing of that. */
static void take_away_disks(const struct xml_node *domain, const struct manifest *manifest,
                            struct findings *findings)
{
    g_autoptr(GPtrArray) disks = xml_find_all(
        domain, "devices/disk[not(@device='cdrom')][source/@* or source/* or @type!='file']");

    for (unsigned i = 0; i < disks->len; i++) {
        g_autofree char *target = xml_string(disks->pdata[i], "target/@dev");

        if (target && manifest_disk(manifest, target))
            continue;
        remark(findings, "disk %s is not in the point: not in a test", target ? target : "?");
        xml_remove(disks->pdata[i]);
    }
}

void bubble_take(struct bubble *bubble, const struct rewrite *rewrite, const char *name,
                 const char *uuid)
{
    static const char *const ways[][2] = {
        {"devices/filesystem", "shared directories"},
        {"devices/vsock", "its socket to the host (vsock)"},
        {"devices/shmem", "memory that it shares"},
        {"devices/lease", "leases"},
        {"devices/memory[source/path]", "memory that is a file of the host"},
        {"devices/redirdev[@type!='spicevmc'] | devices/smartcard", "redirected devices"},
        {"devices/input[source]", "input devices of the host"},
        {"devices/pstore", "the file that its kernel leaves its last words in"},
        {"*[local-name()='commandline']", "its own QEMU arguments, which could lead anywhere"},
    };

    rewrite_rename_alone(rewrite->domain, name, uuid, rewrite->findings);
    isolate_nics(bubble, rewrite);
    take_away_disks(rewrite->domain, rewrite->manifest, rewrite->findings);
    for (unsigned i = 0; i < G_N_ELEMENTS(ways); i++)
        take_away(rewrite->domain, ways[i][0], ways[i][1], rewrite->findings);
}

/* ---- Making it */

json_t *bubble_to_json(const struct bubble *bubble)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < bubble->segments->len; i++) {
        const struct segment *segment = bubble->segments->pdata[i];
        json_t *json = json_object();

        json_set_string(json, "host", bubble->host);
        json_set_string(json, "from", segment->from);
        json_set_string(json, "network", segment->network);
        json_array_append_new(list, json);
    }
    return list;
}

/* Without <ip> the host has no address on the bridge, without <forward> nothing leaves it. */
static char *network_xml(const char *name)
{
    AUTO(xml) xml = xml_new("network");
    struct xml_node *bridge;

    xml_add(xml_root(xml), "name", name);
    bridge = xml_add(xml_root(xml), "bridge", NULL);
    xml_set_attr(bridge, "stp", "off");
    xml_set_attr(bridge, "delay", "0");
    return xml_dump(xml);
}

static struct host *find_host(GPtrArray *hosts, const char *uri, GError **error)
{
    for (unsigned i = 0; i < hosts->len; i++)
        if (g_strcmp0(host_uri(hosts->pdata[i]), uri) == 0)
            return hosts->pdata[i];
    fail(error, ERROR_CONFIG, "host %s is not one of [site] libvirt any more", uri ? uri : "?");
    return NULL;
}

bool bubble_up(const json_t *json, GPtrArray *hosts, GError **error)
{
    const json_t *segment;
    size_t i;

    json_array_foreach((json_t *)json, i, segment)
    {
        const char *name = json_get_string(segment, "network");
        struct host *host = name ? find_host(hosts, json_get_string(segment, "host"), error) : NULL;
        g_autofree char *xml = name ? network_xml(name) : NULL;

        if (name && (!host || !host_network_start(host, name, xml, error)))
            return false;
    }
    return true;
}

bool bubble_down(const json_t *json, GPtrArray *hosts, GError **error)
{
    const json_t *segment;
    size_t i;

    json_array_foreach((json_t *)json, i, segment)
    {
        const char *name = json_get_string(segment, "network");
        struct host *host = name ? find_host(hosts, json_get_string(segment, "host"), error) : NULL;

        if (name && (!host || !host_network_stop(host, name, error)))
            return false;
    }
    return true;
}
