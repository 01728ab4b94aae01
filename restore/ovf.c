/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/ovf.h"

#include <inttypes.h>
#include <string.h>

#define MAX_ITEMS 1000u
#define MAX_NICS 64u
#define MAX_MEMORY_BYTES (UINT64_C(64) << 40)
#define MAX_CPUS 4096u
#define MAX_VMS 1000u
#define MAX_ORDER 9999u
#define MAX_DELAY_S 86400u

/* ResourceType of an Item (CIM_ResourceAllocationSettingData). */
enum { TYPE_CPU = 3, TYPE_MEMORY = 4, TYPE_IDE = 5, TYPE_SCSI = 6, TYPE_NIC = 10, TYPE_DISK = 17 };
#define TYPE_SATA 20 /* "other storage device": with AHCI as its subtype */

static void disk_free(void *data)
{
    struct ovf_disk *disk = data;

    g_free(disk->file);
    g_free(disk);
}

static void nic_free(void *data)
{
    struct ovf_nic *nic = data;

    g_free(nic->network);
    g_free(nic->model);
    g_free(nic->mac);
    g_free(nic);
}

struct ovf *ovf_new(void)
{
    struct ovf *ovf = g_new0(struct ovf, 1);

    ovf->cpus = 1;
    ovf->disks = g_ptr_array_new_with_free_func(disk_free);
    ovf->nics = g_ptr_array_new_with_free_func(nic_free);
    return ovf;
}

void ovf_free(struct ovf *ovf)
{
    if (!ovf)
        return;
    g_ptr_array_unref(ovf->disks);
    g_ptr_array_unref(ovf->nics);
    g_free(ovf->name);
    g_free(ovf);
}

static void free_vm(void *vm)
{
    ovf_free(vm);
}

struct ovf_package *ovf_package_new(void)
{
    struct ovf_package *package = g_new0(struct ovf_package, 1);

    package->vms = g_ptr_array_new_with_free_func(free_vm);
    return package;
}

void ovf_package_free(struct ovf_package *package)
{
    if (!package)
        return;
    g_ptr_array_unref(package->vms);
    g_free(package->name);
    g_free(package);
}

GPtrArray *ovf_package_disks(const struct ovf_package *package)
{
    GPtrArray *disks = g_ptr_array_new();

    for (unsigned i = 0; i < package->vms->len; i++)
        g_ptr_array_extend(disks, ((const struct ovf *)package->vms->pdata[i])->disks, NULL, NULL);
    return disks;
}

struct ovf_disk *ovf_add_disk(struct ovf *ovf)
{
    struct ovf_disk *disk = g_new0(struct ovf_disk, 1);

    g_ptr_array_add(ovf->disks, disk);
    return disk;
}

struct ovf_nic *ovf_add_nic(struct ovf *ovf)
{
    struct ovf_nic *nic = g_new0(struct ovf_nic, 1);

    g_ptr_array_add(ovf->nics, nic);
    return nic;
}

/* ---- Values. Namespaces differ between versions, names do not. */

/* Child NAME of an element, as text; NULL: there is none. g_free. */
static char *child_text(const struct xml_node *node, const char *name)
{
    g_autofree char *xpath = g_strdup_printf("*[local-name()='%s']", name);
    char *text = xml_string(node, xpath);

    return text ? g_strstrip(text) : NULL;
}

static char *attribute(const struct xml_node *node, const char *name)
{
    g_autofree char *xpath = g_strdup_printf("@*[local-name()='%s']", name);

    return xml_string(node, xpath);
}

static GPtrArray *all(const struct xml_node *from, const char *name)
{
    g_autofree char *xpath = g_strdup_printf(".//*[local-name()='%s']", name);

    return xml_find_all(from, xpath);
}

static bool child_number(const struct xml_node *node, const char *name, uint64_t *value)
{
    g_autofree char *text = child_text(node, name);

    return text && g_ascii_string_to_unsigned(text, 10, 0, INT64_MAX, value, NULL);
}

/* "byte * 2^20", or one of the old words. */
static bool unit_bytes(const char *unit, uint64_t *bytes)
{
    static const struct {
        const char *word;
        unsigned shift;
    } words[] = {{"byte", 0}, {"bytes", 0},      {"kilobytes", 10}, {"megabytes", 20},
                 {"mb", 20},  {"gigabytes", 30}, {"gb", 30},        {"kb", 10}};
    g_auto(GStrv) parts = g_strsplit(unit, "*", 2);
    uint64_t shift;

    g_strstrip(parts[0]);
    for (unsigned i = 0; !parts[1] && i < G_N_ELEMENTS(words); i++)
        if (g_ascii_strcasecmp(parts[0], words[i].word) == 0) {
            *bytes = UINT64_C(1) << words[i].shift;
            return true;
        }
    if (!parts[1] || g_ascii_strcasecmp(parts[0], "byte") != 0)
        return false;
    g_strstrip(parts[1]);
    if (!g_str_has_prefix(parts[1], "2^") ||
        !g_ascii_string_to_unsigned(parts[1] + 2, 10, 0, 50, &shift, NULL))
        return false;
    *bytes = UINT64_C(1) << shift;
    return true;
}

static bool multiply(uint64_t value, uint64_t unit, uint64_t max, uint64_t *bytes)
{
    if (value > max / unit)
        return false;
    *bytes = value * unit;
    return true;
}

/* ---- Disks */

struct descriptor {
    const struct xml_node *root;
    const char *what;
    GPtrArray *items;
    struct ovf *ovf;
};

static struct xml_node *find_by(const struct xml_node *from, const char *name, const char *key,
                                const char *value)
{
    g_autoptr(GPtrArray) nodes = all(from, name);

    for (unsigned i = 0; i < nodes->len; i++) {
        g_autofree char *found = attribute(nodes->pdata[i], key);

        if (g_strcmp0(found, value) == 0)
            return nodes->pdata[i];
    }
    return NULL;
}

static const struct xml_node *controller_of(const struct descriptor *self,
                                            const struct xml_node *item)
{
    g_autofree char *parent = child_text(item, "Parent");

    for (unsigned i = 0; parent && i < self->items->len; i++) {
        g_autofree char *id = child_text(self->items->pdata[i], "InstanceID");

        if (g_strcmp0(id, parent) == 0)
            return self->items->pdata[i];
    }
    return NULL;
}

/* The nearest of what QEMU has: the driver in the guest must know it. */
static const char *scsi_model(const char *subtype)
{
    static const struct {
        const char *subtype, *model;
    } models[] = {{"virtualscsi", "vmpvscsi"},
                  {"pvscsi", "vmpvscsi"},
                  {"lsilogicsas", "lsisas1068"},
                  {"virtio-scsi", "virtio-scsi"},
                  {"virtioscsi", "virtio-scsi"}};

    for (unsigned i = 0; subtype && i < G_N_ELEMENTS(models); i++)
        if (g_ascii_strcasecmp(subtype, models[i].subtype) == 0)
            return models[i].model;
    return "lsilogic";
}

static enum ovf_bus bus_of(const struct descriptor *self, const struct xml_node *item)
{
    const struct xml_node *controller = controller_of(self, item);
    g_autofree char *subtype = controller ? child_text(controller, "ResourceSubType") : NULL;
    uint64_t type = 0;

    if (!controller || !child_number(controller, "ResourceType", &type) || type == TYPE_SATA)
        return subtype && g_ascii_strcasecmp(subtype, "virtio") == 0 ? OVF_VIRTIO : OVF_SATA;
    if (type == TYPE_SCSI) {
        if (!self->ovf->scsi_model)
            self->ovf->scsi_model = scsi_model(subtype);
        return OVF_SCSI;
    }
    return type == TYPE_IDE ? OVF_IDE : OVF_SATA;
}

static bool check_file(const struct descriptor *self, const struct xml_node *file, const char *id,
                       GError **error)
{
    g_autofree char *compression = file ? attribute(file, "compression") : NULL;
    g_autofree char *chunk = file ? attribute(file, "chunkSize") : NULL;

    if (!file)
        return fail(error, ERROR_INTEGRITY, "%s: disk %s is in no file", self->what, id);
    if (chunk && *chunk)
        return fail(error, ERROR_FAILED,
                    "%s: disk %s is split into several files (chunkSize), which is not supported: "
                    "export the VM anew with each disk in one file (ovftool without --chunkSize)",
                    self->what, id);
    if (compression && *compression && strcmp(compression, "identity") != 0)
        return fail(error, ERROR_FAILED,
                    "%s: disk %s is compressed as a whole (%s), which is not supported: export the "
                    "VM anew without that (ovftool without --compress)",
                    self->what, id, compression);
    return true;
}

static bool check_format(const struct descriptor *self, const struct xml_node *disk, const char *id,
                         GError **error)
{
    g_autofree char *format = attribute(disk, "format");
    g_autofree char *lower = g_ascii_strdown(format ? format : "vmdk", -1);
    g_autofree char *parent = attribute(disk, "parentRef");

    if (!strstr(lower, "vmdk"))
        return fail(error, ERROR_FAILED, "%s: disk %s is not a VMDK but %s", self->what, id,
                    format);
    return !parent ||
           fail(error, ERROR_FAILED, "%s: disk %s stands on another one, which is not supported",
                self->what, id);
}

static bool read_capacity(const struct descriptor *self, const struct xml_node *disk,
                          uint64_t *bytes, GError **error)
{
    g_autofree char *text = attribute(disk, "capacity");
    g_autofree char *unit = attribute(disk, "capacityAllocationUnits");
    uint64_t value, factor = 1;

    return (text && g_ascii_string_to_unsigned(text, 10, 1, INT64_MAX, &value, NULL) &&
            (!unit || unit_bytes(unit, &factor)) &&
            multiply(value, factor, MANIFEST_MAX_VIRTUAL_BYTES, bytes)) ||
           fail(error, ERROR_INTEGRITY, "%s: a disk has no capacity that can be", self->what);
}

static bool add_disk(struct descriptor *self, const struct xml_node *item, GError **error)
{
    g_autofree char *resource = child_text(item, "HostResource");
    const char *at = resource ? strstr(resource, "/disk/") : NULL;
    const char *id = at ? at + strlen("/disk/") : NULL;
    const struct xml_node *disk = id ? find_by(self->root, "Disk", "diskId", id) : NULL;
    g_autofree char *ref = disk ? attribute(disk, "fileRef") : NULL;
    const struct xml_node *file = ref ? find_by(self->root, "File", "id", ref) : NULL;
    struct ovf_disk *added;

    if (!disk)
        return fail(error, ERROR_INTEGRITY, "%s: a disk is %s, which it does not describe",
                    self->what, resource ? resource : "without a resource");
    if (!check_file(self, file, id, error) || !check_format(self, disk, id, error))
        return false;
    if (self->ovf->disks->len >= MANIFEST_MAX_DISKS)
        return fail(error, ERROR_INTEGRITY, "%s: it has more than %d disks", self->what,
                    MANIFEST_MAX_DISKS);
    added = ovf_add_disk(self->ovf);
    added->file = attribute(file, "href");
    added->bus = bus_of(self, item);
    if (!added->file)
        return fail(error, ERROR_INTEGRITY, "%s: file %s has no name", self->what, ref);
    return read_capacity(self, disk, &added->capacity_bytes, error);
}

/* ---- The rest */

static bool is_mac(const char *text)
{
    return text && g_regex_match_simple("^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$", text, 0, 0);
}

static bool add_nic(struct descriptor *self, const struct xml_node *item, GError **error)
{
    static const char *const models[][2] = {{"e1000", "e1000"},
                                            {"e1000e", "e1000e"},
                                            {"vmxnet3", "vmxnet3"},
                                            {"virtio", "virtio"},
                                            {"pcnet32", "pcnet"}};
    g_autofree char *subtype = child_text(item, "ResourceSubType");
    g_autofree char *mac = child_text(item, "Address");
    struct ovf_nic *nic;

    if (self->ovf->nics->len >= MAX_NICS)
        return fail(error, ERROR_INTEGRITY, "%s: it has more than %u NICs", self->what, MAX_NICS);
    nic = ovf_add_nic(self->ovf);
    nic->network = child_text(item, "Connection");
    nic->mac = is_mac(mac) ? g_ascii_strdown(mac, -1) : NULL;
    for (unsigned i = 0; subtype && i < G_N_ELEMENTS(models); i++)
        if (g_ascii_strcasecmp(subtype, models[i][0]) == 0)
            nic->model = g_strdup(models[i][1]);
    if (!nic->model)
        nic->model = g_strdup("e1000");
    return true;
}

static bool read_memory(const struct descriptor *self, const struct xml_node *item, GError **error)
{
    g_autofree char *unit = child_text(item, "AllocationUnits");
    uint64_t value, factor = UINT64_C(1) << 20;

    return (child_number(item, "VirtualQuantity", &value) && value > 0 &&
            (!unit || unit_bytes(unit, &factor)) &&
            multiply(value, factor, MAX_MEMORY_BYTES, &self->ovf->memory_bytes)) ||
           fail(error, ERROR_INTEGRITY, "%s: its memory is not a size", self->what);
}

static bool read_cpus(const struct descriptor *self, const struct xml_node *item, GError **error)
{
    uint64_t value;

    if (!child_number(item, "VirtualQuantity", &value) || value == 0 || value > MAX_CPUS)
        return fail(error, ERROR_INTEGRITY, "%s: it has no number of CPUs that can be", self->what);
    self->ovf->cpus = (unsigned)value;
    return true;
}

static bool read_item(struct descriptor *self, const struct xml_node *item, GError **error)
{
    uint64_t type = 0;

    child_number(item, "ResourceType", &type);
    switch (type) {
    case TYPE_CPU:
        return read_cpus(self, item, error);
    case TYPE_MEMORY:
        return read_memory(self, item, error);
    case TYPE_NIC:
        return add_nic(self, item, error);
    case TYPE_DISK:
        return add_disk(self, item, error);
    default:
        return true;
    }
}

static void read_system(struct ovf *ovf, const struct xml_node *system)
{
    g_autoptr(GPtrArray) configs = all(system, "Config");
    g_autofree char *os = xml_string(
        system, "*[local-name()='OperatingSystemSection']/@*[local-name()='osType'] | "
                "*[local-name()='OperatingSystemSection']/*[local-name()='Description']");
    g_autofree char *lower = g_ascii_strdown(os ? os : "", -1);

    ovf->local_time = strstr(lower, "windows") != NULL;
    ovf->name = child_text(system, "Name");
    if (!ovf->name)
        ovf->name = attribute(system, "id");
    for (unsigned i = 0; i < configs->len; i++) {
        g_autofree char *key = attribute(configs->pdata[i], "key");
        g_autofree char *value = attribute(configs->pdata[i], "value");

        if (g_strcmp0(key, "firmware") == 0)
            ovf->efi = g_strcmp0(value, "efi") == 0;
    }
}

/* All Items of OVF 1.x, and what OVF 2.x calls storage and network items. */
static GPtrArray *items_of(const struct xml_node *system)
{
    return xml_find_all(system, ".//*[local-name()='Item' or local-name()='StorageItem' or "
                                "local-name()='EthernetPortItem']");
}

/* One VM: SYSTEM is a <VirtualSystem>. */
static bool read_vm(struct descriptor *self, const struct xml_node *system, GError **error)
{
    g_autoptr(GPtrArray) items = items_of(system);

    read_system(self->ovf, system);
    if (items->len > MAX_ITEMS)
        return fail(error, ERROR_INTEGRITY, "%s has more than %u items", self->what, MAX_ITEMS);
    self->items = items;
    for (unsigned i = 0; i < items->len; i++)
        if (!read_item(self, items->pdata[i], error))
            return false;
    if (!self->ovf->memory_bytes || self->ovf->disks->len == 0)
        return fail(error, ERROR_INTEGRITY, "%s: %s has %s", self->what,
                    self->ovf->name ? self->ovf->name : "it",
                    self->ovf->memory_bytes ? "no disk" : "no memory");
    return true;
}

static bool add_vm(struct ovf_package *package, const struct xml_node *root, const char *what,
                   const struct xml_node *system, GError **error)
{
    AUTO(ovf) ovf = ovf_new();
    struct descriptor self = {.root = root, .what = what, .ovf = ovf};

    if (!read_vm(&self, system, error))
        return false;
    g_ptr_array_add(package->vms, g_steal_pointer(&ovf));
    return true;
}

/* ---- Collections */

static unsigned small_number(const struct xml_node *node, const char *name, unsigned max)
{
    g_autofree char *text = attribute(node, name);
    uint64_t value;

    return text && g_ascii_string_to_unsigned(text, 10, 0, max, &value, NULL) ? (unsigned)value : 0;
}

/* When SYSTEM starts, by the StartupSection of its collection: its items name the systems by their ids. */
static void read_start(struct ovf *ovf, const struct xml_node *collection,
                       const struct xml_node *system)
{
    g_autoptr(GPtrArray) items =
        xml_find_all(collection, "*[local-name()='StartupSection']/*[local-name()='Item']");
    g_autofree char *id = attribute(system, "id");

    for (unsigned i = 0; i < items->len; i++) {
        g_autofree char *of = attribute(items->pdata[i], "id");

        if (!id || g_strcmp0(of, id) != 0)
            continue;
        ovf->order = small_number(items->pdata[i], "order", MAX_ORDER);
        ovf->delay_s = small_number(items->pdata[i], "startDelay", MAX_DELAY_S);
    }
}

static bool has_vm(const struct ovf_package *package, const char *name)
{
    for (unsigned i = 0; i < package->vms->len; i++)
        if (g_strcmp0(((const struct ovf *)package->vms->pdata[i])->name, name) == 0)
            return true;
    return false;
}

static bool read_collection(struct ovf_package *package, const struct xml_node *root,
                            const char *what, const struct xml_node *collection, GError **error)
{
    g_autoptr(GPtrArray) systems = xml_find_all(collection, "*[local-name()='VirtualSystem']");

    package->name = child_text(collection, "Name");
    if (!package->name)
        package->name = attribute(collection, "id");
    if (!package->name || systems->len == 0 || systems->len > MAX_VMS)
        return fail(error, ERROR_INTEGRITY, "%s: a collection of %u VMs %s", what, systems->len,
                    package->name ? "cannot be" : "has no name");
    for (unsigned i = 0; i < systems->len; i++) {
        AUTO(ovf) probe = ovf_new();

        read_system(probe, systems->pdata[i]);
        if (!probe->name || has_vm(package, probe->name))
            return fail(error, ERROR_INTEGRITY, "%s: %s %s in it", what,
                        probe->name ? "two VMs are called" : "a VM has no name",
                        probe->name ? probe->name : "");
        if (!add_vm(package, root, what, systems->pdata[i], error))
            return false;
        read_start(package->vms->pdata[i], collection, systems->pdata[i]);
    }
    return true;
}

static bool read_package(struct ovf_package *package, const struct xml_node *root, const char *what,
                         GError **error)
{
    g_autoptr(GPtrArray) systems = all(root, "VirtualSystem");
    g_autoptr(GPtrArray) collections = all(root, "VirtualSystemCollection");

    if (strcmp(xml_name(root), "Envelope") != 0 || systems->len == 0)
        return fail(error, ERROR_INTEGRITY, "%s describes no VM", what);
    if (collections->len > 1)
        return fail(error, ERROR_FAILED,
                    "%s has %u collections of VMs, and only one at a time can be imported: export "
                    "them one by one",
                    what, collections->len);
    if (collections->len == 1)
        return read_collection(package, root, what, collections->pdata[0], error);
    if (systems->len > 1)
        return fail(error, ERROR_FAILED,
                    "%s describes %u VMs that are no collection, and only one at a time can be "
                    "imported: export them one by one",
                    what, systems->len);
    return add_vm(package, root, what, systems->pdata[0], error);
}

struct ovf_package *ovf_parse(const char *text, const char *what, GError **error)
{
    AUTO(xml) xml = xml_parse(text, what, error);
    AUTO(ovf_package) package = ovf_package_new();

    return xml && read_package(package, xml_root(xml), what, error) ? g_steal_pointer(&package)
                                                                    : NULL;
}
