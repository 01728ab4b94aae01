/* SPDX-License-Identifier: Apache-2.0 */
/* Disks: which of them come from the point, which from this host, and where they are. */
#include <string.h>

#include "restore/rewrite.h"

static void remove_child(struct xml_node *node, const char *name)
{
    g_autoptr(GPtrArray) children = xml_find_all(node, name);

    for (unsigned i = 0; i < children->len; i++)
        xml_remove(children->pdata[i]);
}

/* What the disk's medium is called, for people; NULL when it has none. */
static char *medium_name(const struct xml_node *disk)
{
    g_autofree char *pool = xml_string(disk, "source/@pool");
    g_autofree char *volume = xml_string(disk, "source/@volume");

    if (pool && volume)
        return g_strdup_printf("%s/%s", pool, volume);
    return xml_string(disk, "source/@file | source/@dev | source/@dir | source/@name");
}

/* Is that medium at this host? Of what lies on the network we cannot tell, so it counts as not
 * here. */
static bool medium_is_here(const struct rewrite *rewrite, const struct xml_node *disk)
{
    g_autofree char *path = xml_string(disk, "source/@file | source/@dev | source/@dir");
    g_autofree char *pool = xml_string(disk, "source/@pool");
    g_autofree char *volume = xml_string(disk, "source/@volume");
    g_autofree char *found = NULL;

    if (path)
        return g_file_test(path, G_FILE_TEST_EXISTS);
    if (pool && volume && rewrite->platform->host)
        found = host_volume_path(rewrite->platform->host, pool, volume, NULL);
    return found != NULL;
}

static void eject(struct xml_node *disk)
{
    remove_child(disk, "source");
    remove_child(disk, "backingStore");
    remove_child(disk, "auth");
    xml_set_attr(disk, "type", "file");
}

/* A disk that is not in the point: media, and what replication had to skip. */
static void adapt_foreign(const struct rewrite *rewrite, struct xml_node *disk, const char *target)
{
    g_autofree char *device = xml_attr(disk, "device");
    g_autofree char *medium = medium_name(disk);
    bool removable = g_strcmp0(device, "cdrom") == 0 || g_strcmp0(device, "floppy") == 0;

    if (!medium && removable)
        return;
    if (medium && medium_is_here(rewrite, disk)) {
        remark(rewrite->findings, "%s %s is not in the point: %s of this host takes its place",
               removable ? device : "disk", target, medium);
        return;
    }
    if (removable) {
        remark(rewrite->findings,
               "%s %s: %s is not here: ejected" REMEDY "copy it there if the VM needs it", device,
               target, medium);
        eject(disk);
        return;
    }
    remark(rewrite->findings,
           "disk %s (%s) is neither in the point nor here: removed" REMEDY
           "if the VM does not start without it, `drctl restore --to-dir` and define it by hand",
           target, medium ? medium : "no source");
    xml_remove(disk);
}

/* What is lost is an error for the guest: it must neither be stopped by that, nor be told that all is
 * well. That is what QEMU does unless it is told otherwise. */
static void report_errors(const struct rewrite *rewrite, struct xml_node *disk, const char *target)
{
    static const char *const policies[] = {"error_policy", "rerror_policy"};
    struct xml_node *driver = xml_child(disk, "driver");

    for (unsigned i = 0; i < G_N_ELEMENTS(policies); i++) {
        g_autofree char *policy = xml_attr(driver, policies[i]);

        if (!policy)
            continue;
        remark(rewrite->findings,
               "disk %s: %s='%s' is dropped, so that the guest sees what is lost", target,
               policies[i], policy);
        xml_set_attr(driver, policies[i], NULL);
    }
}

static void adapt_own(const struct rewrite *rewrite, struct xml_node *disk, const char *target)
{
    /* The point holds what the guest sees, so it is not encrypted any more. */
    if (xml_find(disk, "encryption | source/encryption"))
        remark(rewrite->findings,
               "disk %s was encrypted by QEMU: the point and what is made of it are not", target);
    if (rewrite->lost && lost_disk_of(rewrite->lost, target))
        report_errors(rewrite, disk, target);
}

void rewrite_disks(const struct rewrite *rewrite)
{
    g_autoptr(GPtrArray) disks = xml_find_all(rewrite->domain, "devices/disk");

    for (unsigned i = 0; i < disks->len; i++) {
        g_autofree char *target = xml_string(disks->pdata[i], "target/@dev");

        if (target && manifest_disk(rewrite->manifest, target))
            adapt_own(rewrite, disks->pdata[i], target);
        else
            adapt_foreign(rewrite, disks->pdata[i], target ? target : "without a target");
    }
}

void rewrite_leave_out(struct xml_node *domain, char *const *targets)
{
    g_autoptr(GPtrArray) disks = xml_find_all(domain, "devices/disk");

    for (unsigned i = 0; i < disks->len; i++) {
        g_autofree char *target = xml_string(disks->pdata[i], "target/@dev");

        if (target && g_strv_contains((const char *const *)targets, target))
            xml_remove(disks->pdata[i]);
    }
}

/* ---- Placing */

/* libvirt looks for layers itself unless they are written down; and only where they are written
 * down can it be told to leave their owners alone. */
static void add_chain(struct xml_node *disk, const struct placement *placement,
                      const char *const *chain)
{
    struct xml_node *at = disk;

    for (; chain && *chain; chain++) {
        struct xml_node *source;
        struct xml_node *label;

        at = xml_add(at, "backingStore", NULL);
        xml_set_attr(at, "type", "file");
        xml_set_attr(xml_add(at, "format", NULL), "type", "qcow2");
        source = xml_add(at, "source", NULL);
        xml_set_attr(source, "file", *chain);
        if (!placement->keep_owners)
            continue;
        label = xml_add(source, "seclabel", NULL);
        xml_set_attr(label, "model", "dac");
        xml_set_attr(label, "relabel", "no");
    }
    xml_add(at, "backingStore", NULL);
}

static void place_disk(struct xml_node *disk, const struct placement *placement,
                       const struct placement_disk *where)
{
    static const char *const gone[] = {"source", "backingStore", "mirror", "auth", "encryption"};
    struct xml_node *driver;

    for (unsigned i = 0; i < G_N_ELEMENTS(gone); i++)
        remove_child(disk, gone[i]);
    xml_set_attr(disk, "type", "file");
    xml_set_attr(disk, "device", "disk");
    xml_set_attr(disk, "rawio", NULL);
    xml_set_attr(disk, "sgio", NULL);
    driver = xml_child(disk, "driver");
    xml_set_attr(driver, "name", "qemu");
    xml_set_attr(driver, "type", "qcow2");
    xml_set_attr(xml_add(disk, "source", NULL), "file", where->file);
    add_chain(disk, placement, where->chain);
}

static void place_nvram(struct xml_node *domain, const char *path)
{
    struct xml_node *nvram = xml_find(domain, "os/nvram");
    g_autofree char *template = NULL;

    if (!nvram && !path)
        return;
    if (!nvram)
        nvram = xml_add(xml_child(domain, "os"), "nvram", NULL);
    template = xml_attr(nvram, "template");
    remove_child(nvram, "*");
    xml_set_attr(nvram, "type", NULL);
    xml_set_text(nvram, path ? path : "");
    /* An element that says nothing. */
    if (!path && !template)
        xml_remove(nvram);
}

static void add_mark(struct xml_node *domain, const struct recovered *origin)
{
    struct xml_node *mark =
        xml_add_ns(xml_child(domain, "metadata"), "drctl", RECOVERED_NAMESPACE, "recovered");

    xml_set_attr(mark, "site", origin->site);
    xml_set_attr(mark, "vm", origin->vm);
    xml_set_attr(mark, "point", origin->point);
    xml_set_attr(mark, "run", origin->run);
}

void rewrite_place(struct xml_node *domain, const struct placement *placement)
{
    g_autoptr(GPtrArray) disks = xml_find_all(domain, "devices/disk");

    for (unsigned i = 0; i < disks->len; i++) {
        g_autofree char *target = xml_string(disks->pdata[i], "target/@dev");

        for (unsigned k = 0; k < placement->n_disks; k++)
            if (g_strcmp0(target, placement->disks[k].target) == 0)
                place_disk(disks->pdata[i], placement, &placement->disks[k]);
    }
    place_nvram(domain, placement->nvram);
    if (placement->origin)
        add_mark(domain, placement->origin);
}
