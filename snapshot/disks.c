/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/disks.h"

#include <sys/stat.h>

static void vm_disk_free(void *data)
{
    struct vm_disk *disk = data;

    g_free(disk->target);
    g_free(disk->source);
    g_free(disk->skipped);
    g_free(disk->format);
    g_ptr_array_unref(disk->images);
    g_free(disk);
}

/* The path, and of a file its inode: a name alone says nothing once files have been renamed. */
static char *image_identity(const char *path)
{
    struct stat status;

    if (stat(path, &status) == 0 && S_ISREG(status.st_mode))
        return g_strdup_printf("%s#%ju", path, (uintmax_t)status.st_ino);
    return g_strdup(path);
}

static void add_images(GPtrArray *images, const struct xml_node *disk, const char *xpath)
{
    g_autoptr(GPtrArray) sources = xml_find_all(disk, xpath);

    for (unsigned i = 0; i < sources->len; i++) {
        g_autofree char *path = xml_string(sources->pdata[i], "@file | @dev");

        if (path)
            g_ptr_array_add(images, image_identity(path));
    }
}

static bool has(const struct xml_node *node, const char *xpath)
{
    return xml_find(node, xpath) != NULL;
}

static char *reason_to_skip(const struct xml_node *node)
{
    g_autofree char *device = xml_attr(node, "device");

    if (device && !g_str_equal(device, "disk"))
        return g_steal_pointer(&device); /* cdrom, floppy, lun */
    if (has(node, "readonly"))
        return g_strdup("read-only");
    if (has(node, "shareable"))
        return g_strdup("shared between VMs");
    if (has(node, "transient"))
        return g_strdup("transient");
    if (!has(node, "source"))
        return g_strdup("no medium");
    return NULL;
}

static struct vm_disk *vm_disk_new(const struct xml_node *node)
{
    struct vm_disk *disk = g_new0(struct vm_disk, 1);

    disk->target = xml_string(node, "target/@dev");
    disk->source = xml_string(node, "source/@file | source/@dev");
    disk->skipped = reason_to_skip(node);
    disk->format = xml_string(node, "driver/@type");
    if (!disk->format)
        disk->format = g_strdup("raw"); /* libvirt's default */
    disk->tracked = g_str_equal(disk->format, "qcow2");
    disk->images = g_ptr_array_new_with_free_func(g_free);
    add_images(disk->images, node, "source");
    add_images(disk->images, node, "backingStore//source");
    return disk;
}

GPtrArray *vm_disks(const char *domain_xml, GError **error)
{
    AUTO(xml) xml = xml_parse(domain_xml, "the domain's XML", error);

    if (!xml)
        return NULL;
    g_autoptr(GPtrArray) nodes = xml_find_all(xml_root(xml), "/domain/devices/disk");
    g_autoptr(GPtrArray) disks = g_ptr_array_new_with_free_func(vm_disk_free);
    unsigned in_point = 0;

    for (unsigned i = 0; i < nodes->len; i++) {
        struct vm_disk *disk = vm_disk_new(nodes->pdata[i]);

        g_ptr_array_add(disks, disk);
        in_point += !disk->skipped;
        if (!disk->target || !name_is_safe(disk->target)) {
            fail(error, ERROR_INTEGRITY, "disk %u of the domain has no usable target name", i + 1);
            return NULL;
        }
    }
    if (in_point == 0) {
        fail(error, ERROR_CONFLICT, "it has no disk that a recovery point could hold");
        return NULL;
    }
    return g_steal_pointer(&disks);
}

char *vm_nvram_path(const char *domain_xml)
{
    AUTO(xml) xml = xml_parse(domain_xml, "the domain's XML", NULL);

    return xml ? xml_string(xml_root(xml),
                            "/domain/os/nvram[text()] | /domain/os/nvram/source/@file")
               : NULL;
}
