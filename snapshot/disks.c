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
    g_ptr_array_unref(disk->files);
    g_clear_pointer(&disk->bitmaps, g_ptr_array_unref);
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

static void add_image(struct vm_disk *disk, const char *path)
{
    g_ptr_array_add(disk->files, g_strdup(path));
    g_ptr_array_add(disk->images, image_identity(path));
}

/* File or device of a <source>, also of a volume in a storage pool; NULL if it has none. */
static char *source_path(struct host *host, const struct xml_node *source)
{
    char *path = xml_string(source, "@file | @dev");
    g_autofree char *pool = path ? NULL : xml_attr(source, "pool");
    g_autofree char *volume = path ? NULL : xml_attr(source, "volume");

    return pool && volume ? host_volume_path(host, pool, volume, NULL) : path;
}

static void add_images(struct vm_disk *disk, struct host *host, const struct xml_node *node)
{
    g_autoptr(GPtrArray) sources = xml_find_all(node, "source | backingStore//source");

    for (unsigned i = 0; i < sources->len; i++) {
        g_autofree char *path = source_path(host, sources->pdata[i]);

        if (path)
            add_image(disk, path);
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

static struct vm_disk *vm_disk_new(struct host *host, const struct xml_node *node)
{
    struct vm_disk *disk = g_new0(struct vm_disk, 1);

    disk->target = xml_string(node, "target/@dev");
    disk->source = has(node, "source") ? source_path(host, xml_find(node, "source")) : NULL;
    disk->skipped = reason_to_skip(node);
    disk->format = xml_string(node, "driver/@type");
    if (!disk->format)
        disk->format = g_strdup("raw"); /* libvirt's default */
    disk->tracked = g_str_equal(disk->format, "qcow2");
    disk->images = g_ptr_array_new_with_free_func(g_free);
    disk->files = g_ptr_array_new_with_free_func(g_free);
    add_images(disk, host, node);
    return disk;
}

GPtrArray *vm_disks(struct host *host, const char *domain_xml, GError **error)
{
    AUTO(xml) xml = xml_parse(domain_xml, "the domain's XML", error);

    if (!xml)
        return NULL;
    g_autoptr(GPtrArray) nodes = xml_find_all(xml_root(xml), "/domain/devices/disk");
    g_autoptr(GPtrArray) disks = g_ptr_array_new_with_free_func(vm_disk_free);
    unsigned in_point = 0;

    for (unsigned i = 0; i < nodes->len; i++) {
        struct vm_disk *disk = vm_disk_new(host, nodes->pdata[i]);

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

/* --- of a VM that is off --------------------------------------------------------------------- */

/* One that records changes, and whose last user has closed it. */
static bool is_good_bitmap(const json_t *bitmap)
{
    const json_t *flags = json_object_get(bitmap, "flags");
    bool records = false, in_use = false;
    size_t i;
    json_t *flag;

    json_array_foreach(flags, i, flag)
    {
        records |= g_strcmp0(json_string_value(flag), "auto") == 0;
        in_use |= g_strcmp0(json_string_value(flag), "in-use") == 0;
    }
    return records && !in_use;
}

static void add_bitmaps(struct vm_disk *disk, const json_t *data)
{
    size_t i;
    json_t *bitmap;

    json_array_foreach(json_object_get(data, "bitmaps"), i, bitmap) if (is_good_bitmap(bitmap))
        g_ptr_array_add(disk->bitmaps, g_strdup(json_get_string(bitmap, "name")));
}

/* CHAIN: what qemu-img info tells, top first. */
static void take_chain(struct vm_disk *disk, const json_t *chain)
{
    size_t i;
    json_t *image;

    g_ptr_array_set_size(disk->files, 0);
    g_ptr_array_set_size(disk->images, 0);
    disk->bitmaps = g_ptr_array_new_with_free_func(g_free);
    json_array_foreach(chain, i, image)
    {
        const json_t *data = json_object_get(json_object_get(image, "format-specific"), "data");
        const char *path = json_get_string(image, "filename");
        const char *data_file = json_get_string(data, "data-file");

        if (path)
            add_image(disk, path);
        if (data_file)
            g_ptr_array_add(disk->files, g_strdup(data_file));
        if (i == 0)
            add_bitmaps(disk, data);
    }
}

bool vm_disk_look(struct vm_disk *disk, GError **error)
{
    const char *const argv[] = {
        "qemu-img",        "info",       "-U", "-f", disk->format, "--output=json",
        "--backing-chain", disk->source, NULL};
    g_autofree char *text = NULL;
    json_auto_t *chain = NULL;

    if (!disk->source)
        return fail(
            error, ERROR_CONFLICT,
            "disk %s is neither a file nor a device here: a point can be taken while the VM "
            "runs",
            disk->target);
    if (process_run(argv, 0, &text, error))
        chain = json_parse(text, strlen(text), "the output of qemu-img info", error);
    if (!chain) {
        g_prefix_error(error, "disk %s: ", disk->target);
        return false;
    }
    take_chain(disk, chain);
    return true;
}

static int64_t ms_of(struct timespec time)
{
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

char *vm_disk_stamp(const struct vm_disk *disk, int64_t *changed_ms)
{
    g_autoptr(GString) stamp = g_string_new(NULL);

    *changed_ms = 0;
    for (unsigned i = 0; i < disk->files->len; i++) {
        const char *path = disk->files->pdata[i];
        struct stat st;

        if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
            return NULL;
        g_string_append_printf(stamp, "%s#%ju#%jd#%jd.%09ld#%jd.%09ld\n", path,
                               (uintmax_t)st.st_ino, (intmax_t)st.st_size,
                               (intmax_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
                               (intmax_t)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
        *changed_ms = MAX(*changed_ms, MAX(ms_of(st.st_mtim), ms_of(st.st_ctim)));
    }
    return g_strdup(stamp->str);
}

char *vm_life(struct domain *domain)
{
    g_autofree char *live = domain_xml(domain, DOMAIN_XML_LIVE, NULL);
    AUTO(xml) xml = live ? xml_parse(live, "the domain's XML", NULL) : NULL;
    g_autofree char *id = xml ? xml_string(xml_root(xml), "/domain/@id") : NULL;
    g_autofree char *boot = NULL;

    if (!file_read("/proc/sys/kernel/random/boot_id", 64, &boot, NULL, NULL))
        boot = g_strdup("");
    return g_strdup_printf("%s/%s", g_strstrip(boot), id ? id : "off");
}

char *vm_nvram_path(const char *domain_xml)
{
    AUTO(xml) xml = xml_parse(domain_xml, "the domain's XML", NULL);

    return xml ? xml_string(xml_root(xml),
                            "/domain/os/nvram[text()] | /domain/os/nvram/source/@file")
               : NULL;
}
