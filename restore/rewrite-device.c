/* SPDX-License-Identifier: Apache-2.0 */
/* Devices that reach out of the guest: networks, host devices, consoles, displays. */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "restore/rewrite.h"

static bool is_in(const char *text, const char *const *list)
{
    return text && g_strv_contains(list, text);
}

static bool is_here(const char *path)
{
    return g_file_test(path, G_FILE_TEST_EXISTS);
}

static bool parent_is_here(const char *path)
{
    g_autofree char *parent = g_path_get_dirname(path);

    return g_file_test(parent, G_FILE_TEST_IS_DIR);
}

/* ---- Networks */

/* Why the NIC has nothing here to be plugged into; NULL: it has. g_free. */
static char *nic_problem(const struct platform *platform, const struct xml_node *nic)
{
    /* They need nothing of the host but a port. */
    static const char *const self_contained[] = {"user", "mcast", "udp", "server", "client", NULL};
    g_autofree char *type = xml_attr(nic, "type");
    g_autofree char *name = nic_network(nic);

    if (is_in(type, self_contained))
        return NULL;
    if (g_strcmp0(type, "network") == 0 && name) {
        if (!g_hash_table_contains(platform->networks, name))
            return g_strdup_printf("network %s does not exist here", name);
        if (!g_hash_table_lookup(platform->networks, name))
            return g_strdup_printf("network %s is not started here (virsh net-start %s)", name,
                                   name);
        return NULL;
    }
    if ((g_strcmp0(type, "bridge") == 0 || g_strcmp0(type, "direct") == 0) && name)
        return platform_has_link(platform, name)
                   ? NULL
                   : g_strdup_printf("%s %s does not exist here",
                                     g_strcmp0(type, "bridge") == 0 ? "bridge" : "link", name);
    return g_strdup_printf("a NIC of type %s belongs to the host it ran at",
                           type ? type : "(none)");
}

/* What only other types know goes. */
void rewrite_bare_nic(struct xml_node *nic)
{
    static const char *const kept[] = {"mac",  "model", "address", "boot", "rom",
                                       "acpi", "alias", "link",    NULL};
    g_autoptr(GPtrArray) children = xml_find_all(nic, "*");

    for (unsigned i = 0; i < children->len; i++)
        if (!is_in(xml_name(children->pdata[i]), kept))
            xml_remove(children->pdata[i]);
    xml_set_attr(nic, "managed", NULL);
    xml_set_attr(nic, "trustGuestRxFilters", NULL);
}

/* As every libvirt and QEMU can start it, privileged or not: user networking, which needs nothing of the
 * host, with its link down. (<interface type='null'> would say it better, but starting one kills libvirt
 * 9.0.) */
void rewrite_unplug(struct xml_node *nic)
{
    rewrite_bare_nic(nic);
    xml_set_attr(nic, "type", "user");
    xml_set_attr(xml_child(nic, "link"), "state", "down");
}

static void adapt_nics(const struct rewrite *rewrite)
{
    g_autoptr(GPtrArray) nics = xml_find_all(rewrite->domain, "devices/interface");

    for (unsigned i = 0; i < nics->len; i++) {
        g_autofree char *problem = nic_problem(rewrite->platform, nics->pdata[i]);
        g_autofree char *mac = xml_string(nics->pdata[i], "mac/@address");

        if (!problem)
            continue;
        remark(rewrite->findings,
               "%s: NIC %u%s%s will be disconnected" REMEDY
               "name another one: `target` of its [network] in the recovery plan, or make it",
               problem, i + 1, mac ? ", " : "", mac ? mac : "");
        rewrite_unplug(nics->pdata[i]);
    }
}

/* ---- Devices and directories of the host */

static void remove_host_devices(const struct rewrite *rewrite)
{
    g_autoptr(GPtrArray) nodes = xml_find_all(rewrite->domain, "devices/hostdev");

    for (unsigned i = 0; i < nodes->len; i++) {
        g_autofree char *type = xml_attr(nodes->pdata[i], "type");

        remark(rewrite->findings,
               "%s device of the other host: removed" REMEDY
               "if it must have one, attach one of this host (virsh attach-device)",
               type ? type : "a");
        xml_remove(nodes->pdata[i]);
    }
}

static void adapt_filesystems(const struct rewrite *rewrite)
{
    g_autoptr(GPtrArray) nodes = xml_find_all(rewrite->domain, "devices/filesystem");

    for (unsigned i = 0; i < nodes->len; i++) {
        g_autofree char *dir =
            xml_string(nodes->pdata[i], "source/@dir | source/@file | source/@socket");

        if (dir && is_here(dir)) {
            remark(rewrite->findings, "shared directory %s of this host takes its place", dir);
            continue;
        }
        remark(rewrite->findings,
               "shared directory %s is not here: removed" REMEDY "make that directory here",
               dir ? dir : "(unnamed)");
        xml_remove(nodes->pdata[i]);
    }
}

static bool supports_tpm(const struct platform *platform)
{
    const struct xml *support = platform->domain_support;

    return !support || xml_find(xml_root(support), "devices/tpm[@supported='yes']/"
                                                   "enum[@name='backendModel']"
                                                   "[value='emulator']");
}

static void adapt_tpm(const struct rewrite *rewrite)
{
    struct xml_node *tpm = xml_find(rewrite->domain, "devices/tpm");
    g_autofree char *type = tpm ? xml_string(tpm, "backend/@type") : NULL;

    if (!tpm)
        return;
    if (g_strcmp0(type, "emulator") != 0) {
        remark(rewrite->findings, "the other host's TPM: removed");
        xml_remove(tpm);
    } else if (!supports_tpm(rewrite->platform)) {
        block(rewrite->findings, "it has an emulated TPM, which this host cannot run" REMEDY
                                 "install swtpm (Debian: swtpm swtpm-tools)");
    } else {
        remark(rewrite->findings,
               "its TPM starts empty: what was sealed with it cannot be opened by it" REMEDY
               "have the recovery keys at hand");
    }
}

/* ---- Consoles and channels */

#define CHARACTER_DEVICES "devices/serial | devices/parallel | devices/console | devices/channel"

static bool is_agent_channel(const struct xml_node *node)
{
    return strcmp(xml_name(node), "channel") == 0;
}

/* Make it one that is always there and belongs to nobody else. */
static void make_private(struct xml_node *node)
{
    g_autoptr(GPtrArray) gone = xml_find_all(node, "source | protocol");

    for (unsigned i = 0; i < gone->len; i++)
        xml_remove(gone->pdata[i]);
    xml_set_attr(node, "type", is_agent_channel(node) ? "unix" : "pty");
    xml_set_attr(node, "tty", NULL);
}

static void drop_log(struct xml_node *node)
{
    struct xml_node *log = xml_find(node, "log");

    if (log)
        xml_remove(log);
}

/* Why the definition, which comes from another site, must not have PATH here; NULL: it may. What it
 * would write to is new here, or it would be written over. */
static const char *path_problem(const char *type, const char *path)
{
    static const char *const with_path[] = {"file", "unix", "pipe", "dev", NULL};

    if (!path || !is_in(type, with_path))
        return NULL;
    if (strcmp(type, "dev") == 0 || strcmp(type, "pipe") == 0)
        return is_here(path) ? NULL : "is not here";
    if (is_here(path))
        return "exists here already";
    return parent_is_here(path) ? NULL : "has no directory here";
}

static void adapt_character_device(const struct rewrite *rewrite, struct xml_node *node)
{
    g_autofree char *type = xml_attr(node, "type");
    g_autofree char *path = xml_string(node, "source/@path");
    g_autofree char *log = xml_string(node, "log/@file");
    const char *problem = path_problem(type, path);

    if (path_problem("file", log))
        drop_log(node);
    if (problem && !is_agent_channel(node))
        remark(rewrite->findings, "%s to %s, which %s: it becomes a pty", xml_name(node), path,
               problem);
    if (problem)
        make_private(node);
    else if (path && (g_strcmp0(type, "dev") == 0 || g_strcmp0(type, "pipe") == 0))
        remark(rewrite->findings, "%s: %s of this host takes its place", xml_name(node), path);
}

static void adapt_character_devices(const struct rewrite *rewrite)
{
    g_autoptr(GPtrArray) nodes = xml_find_all(rewrite->domain, CHARACTER_DEVICES);

    for (unsigned i = 0; i < nodes->len; i++)
        adapt_character_device(rewrite, nodes->pdata[i]);
}

/* What is connected in the same way, and is of no use without it. */
static void adapt_connected_devices(const struct rewrite *rewrite)
{
    g_autoptr(GPtrArray) nodes =
        xml_find_all(rewrite->domain, "devices/smartcard | devices/redirdev | devices/rng");

    for (unsigned i = 0; i < nodes->len; i++) {
        struct xml_node *backend = xml_find(nodes->pdata[i], "self::rng/backend");
        struct xml_node *node = backend ? backend : nodes->pdata[i];
        g_autofree char *type = xml_attr(node, "type");
        g_autofree char *path = xml_string(node, "source/@path");
        g_autofree char *log = xml_string(node, "log/@file");
        const char *problem = path_problem(type, path);

        if (path_problem("file", log))
            drop_log(node);
        if (!problem)
            continue;
        remark(rewrite->findings, "%s to %s, which %s: removed", xml_name(nodes->pdata[i]), path,
               problem);
        xml_remove(nodes->pdata[i]);
    }
}

/* ---- Displays */

/* Can a server listen at ADDRESS here? Asked of the kernel, which knows best. */
static bool address_is_here(const char *address)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    bool is_v6 = inet_pton(AF_INET6, address, &v6.sin6_addr) == 1;
    AUTO_FD fd = -1;

    if (!is_v6 && inet_pton(AF_INET, address, &v4.sin_addr) != 1)
        return true; /* a name, which may mean something here */
    fd = socket(is_v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    return is_v6 ? bind(fd, (struct sockaddr *)&v6, sizeof(v6)) == 0
                 : bind(fd, (struct sockaddr *)&v4, sizeof(v4)) == 0;
}

static void adapt_displays(const struct rewrite *rewrite)
{
    g_autoptr(GPtrArray) nodes = xml_find_all(
        rewrite->domain, "devices/graphics[@listen] | devices/graphics/listen[@address]");

    for (unsigned i = 0; i < nodes->len; i++) {
        const char *name = strcmp(xml_name(nodes->pdata[i]), "listen") == 0 ? "address" : "listen";
        g_autofree char *address = xml_attr(nodes->pdata[i], name);

        if (address_is_here(address))
            continue;
        if (strcmp(name, "address") == 0)
            remark(rewrite->findings, "display at %s, which is not here: at 127.0.0.1", address);
        xml_set_attr(nodes->pdata[i], name, "127.0.0.1");
    }
}

/* QEMU takes a socket away from whoever has it. Without a path libvirt makes one that is the VM's own. ALL: also what
 * nobody has. */
static void drop_display_sockets(const struct xml_node *domain, bool all)
{
    g_autoptr(GPtrArray) nodes =
        xml_find_all(domain, "devices/graphics[@socket] | devices/graphics/listen[@socket]");

    for (unsigned i = 0; i < nodes->len; i++) {
        struct xml_node *node = nodes->pdata[i];
        g_autofree char *path = xml_attr(node, "socket");

        if (!all && !path_problem("unix", path))
            continue;
        xml_set_attr(node, "socket", NULL);
        if (strcmp(xml_name(node), "graphics") == 0)
            xml_set_attr(xml_child(node, "listen"), "type", "socket");
    }
}

void rewrite_devices(const struct rewrite *rewrite)
{
    adapt_nics(rewrite);
    remove_host_devices(rewrite);
    adapt_filesystems(rewrite);
    adapt_tpm(rewrite);
    adapt_character_devices(rewrite);
    adapt_connected_devices(rewrite);
    adapt_displays(rewrite);
    drop_display_sockets(rewrite->domain, false);
}

/* ---- Renaming: a copy beside the original */

/* 52:54:00 is QEMU's. */
static char *random_mac(void)
{
    uint32_t tail = g_random_int();

    return g_strdup_printf("52:54:00:%02x:%02x:%02x", (tail >> 16) & 0xff, (tail >> 8) & 0xff,
                           tail & 0xff);
}

static void rename_nics(const struct xml_node *domain)
{
    g_autoptr(GPtrArray) nics = xml_find_all(domain, "devices/interface");

    for (unsigned i = 0; i < nics->len; i++) {
        struct xml_node *target = xml_find(nics->pdata[i], "target[@dev]");
        struct xml_node *port = xml_find(nics->pdata[i], "virtualport/parameters");
        g_autofree char *mac = random_mac();

        xml_set_attr(xml_child(nics->pdata[i], "mac"), "address", mac);
        if (target)
            xml_remove(target);
        if (port)
            xml_set_attr(port, "interfaceid", NULL);
    }
}

/* PATH with OLD in its last component replaced by NAME; NULL when it is not in there. */
static char *renamed_path(const char *path, const char *old, const char *name)
{
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *base = g_path_get_basename(path);
    g_autoptr(GString) text = g_string_new(base);

    if (!g_string_replace(text, old, name, 1))
        return NULL;
    return g_build_filename(dir, text->str, NULL);
}

static void rename_log(struct xml_node *node, const char *old, const char *name)
{
    struct xml_node *log = xml_find(node, "log[@file]");
    g_autofree char *path = log ? xml_attr(log, "file") : NULL;
    g_autofree char *renamed = path ? renamed_path(path, old, name) : NULL;

    if (renamed)
        xml_set_attr(log, "file", renamed);
    else if (log)
        xml_remove(log);
}

/* Files that it would write over, sockets and ports that it would take from the original. */
static void rename_character_device(struct xml_node *node, const char *old, const char *name,
                                    struct findings *findings)
{
    static const char *const shared[] = {"file", "unix", "pipe", "dev", "tcp", "udp", "nmdm", NULL};
    g_autofree char *type = xml_attr(node, "type");
    struct xml_node *source = xml_find(node, "source[@path]");
    g_autofree char *path = source ? xml_attr(source, "path") : NULL;
    g_autofree char *renamed = path ? renamed_path(path, old, name) : NULL;

    rename_log(node, old, name);
    if (!is_in(type, shared) || (is_agent_channel(node) && !path && strcmp(type, "unix") == 0))
        return;
    if (renamed && strcmp(type, "dev") != 0) {
        xml_set_attr(source, "path", renamed);
        return;
    }
    if (!is_agent_channel(node))
        remark(findings, "%s of type %s: it becomes a pty, so that it is not the original's",
               xml_name(node), type);
    make_private(node);
}

static void rename_displays(const struct xml_node *domain)
{
    g_autoptr(GPtrArray) nodes = xml_find_all(domain, "devices/graphics[@port or @tlsPort]");

    for (unsigned i = 0; i < nodes->len; i++) {
        xml_set_attr(nodes->pdata[i], "port", NULL);
        xml_set_attr(nodes->pdata[i], "tlsPort", NULL);
        xml_set_attr(nodes->pdata[i], "autoport", "yes");
    }
    drop_display_sockets(domain, true);
}

static void rename_vsock(const struct xml_node *domain)
{
    struct xml_node *cid = xml_find(domain, "devices/vsock/cid");

    if (!cid)
        return;
    xml_set_attr(cid, "address", NULL);
    xml_set_attr(cid, "auto", "yes");
}

/* libvirt insists that the UUID in the SMBIOS tables is the domain's. */
static void rename_sysinfo(const struct xml_node *domain, const char *uuid)
{
    struct xml_node *entry = xml_find(domain, "sysinfo/system/entry[@name='uuid']");

    if (entry)
        xml_set_text(entry, uuid);
}

void rewrite_rename(struct xml_node *domain, const char *name, const char *uuid,
                    struct findings *findings)
{
    rewrite_rename_alone(domain, name, uuid, findings);
    rename_nics(domain);
}

void rewrite_rename_alone(struct xml_node *domain, const char *name, const char *uuid,
                          struct findings *findings)
{
    g_autofree char *old = xml_string(domain, "name/text()");
    g_autoptr(GPtrArray) nodes = xml_find_all(domain, CHARACTER_DEVICES);

    for (unsigned i = 0; old && i < nodes->len; i++)
        rename_character_device(nodes->pdata[i], old, name, findings);
    rewrite_identify(domain, name, uuid);
    rename_sysinfo(domain, uuid);
    rename_displays(domain);
    rename_vsock(domain);
}
