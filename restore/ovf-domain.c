/* SPDX-License-Identifier: Apache-2.0 */
/* Between a descriptor and a definition of libvirt; and the descriptor as text. */
#include <inttypes.h>
#include <string.h>

#include "restore/ovf.h"
#include "restore/rewrite.h"

static const char *const bus_names[OVF_BUSES] = {"ide", "sata", "scsi", "virtio"};

/* ---- To libvirt */

/* q35, which UEFI guests are for, has no IDE. */
static enum ovf_bus real_bus(const struct ovf *ovf, const struct ovf_disk *disk)
{
    return disk->bus == OVF_IDE && ovf->efi ? OVF_SATA : disk->bus;
}

static const char *prefix_of(enum ovf_bus bus)
{
    return bus == OVF_VIRTIO ? "vd" : bus == OVF_IDE ? "hd" : "sd";
}

char *ovf_target(const struct ovf *ovf, unsigned index)
{
    const char *prefix = prefix_of(real_bus(ovf, ovf->disks->pdata[index]));
    unsigned before = 0;

    for (unsigned i = 0; i < index; i++)
        before += strcmp(prefix_of(real_bus(ovf, ovf->disks->pdata[i])), prefix) == 0;
    if (before < 26)
        return g_strdup_printf("%s%c", prefix, 'a' + (int)before);
    return g_strdup_printf("%s%c%c", prefix, 'a' + (int)before / 26 - 1, 'a' + (int)before % 26);
}

static void add_disk(struct xml_node *devices, const struct ovf *ovf, unsigned index)
{
    const struct ovf_disk *disk = ovf->disks->pdata[index];
    struct xml_node *node = xml_add(devices, "disk", NULL);
    g_autofree char *target = ovf_target(ovf, index);
    struct xml_node *child = xml_add(node, "driver", NULL);

    xml_set_attr(node, "type", "file");
    xml_set_attr(node, "device", "disk");
    xml_set_attr(child, "name", "qemu");
    xml_set_attr(child, "type", "qcow2");
    child = xml_add(node, "target", NULL);
    xml_set_attr(child, "dev", target);
    xml_set_attr(child, "bus", bus_names[real_bus(ovf, disk)]);
}

static void add_nic(struct xml_node *devices, const struct ovf_nic *nic)
{
    struct xml_node *node = xml_add(devices, "interface", NULL);

    xml_set_attr(node, "type", "network");
    if (nic->mac)
        xml_set_attr(xml_add(node, "mac", NULL), "address", nic->mac);
    xml_set_attr(xml_add(node, "source", NULL), "network", nic->network ? nic->network : "default");
    xml_set_attr(xml_add(node, "model", NULL), "type", nic->model);
}

static bool has_bus(const struct ovf *ovf, enum ovf_bus bus)
{
    for (unsigned i = 0; i < ovf->disks->len; i++)
        if (real_bus(ovf, ovf->disks->pdata[i]) == bus)
            return true;
    return false;
}

/* What somebody who looks at it needs. */
static void add_console(struct xml_node *devices)
{
    struct xml_node *graphics = xml_add(devices, "graphics", NULL);
    struct xml_node *input = xml_add(devices, "input", NULL);
    struct xml_node *video = xml_add(devices, "video", NULL);

    xml_set_attr(xml_add(devices, "serial", NULL), "type", "pty");
    xml_set_attr(graphics, "type", "vnc");
    xml_set_attr(graphics, "autoport", "yes");
    xml_set_attr(graphics, "listen", "127.0.0.1");
    xml_set_attr(input, "type", "tablet");
    xml_set_attr(input, "bus", "usb");
    xml_set_attr(xml_add(video, "model", NULL), "type", "vga");
}

static void add_devices(struct xml_node *domain, const struct ovf *ovf)
{
    struct xml_node *devices = xml_add(domain, "devices", NULL);

    for (unsigned i = 0; i < ovf->disks->len; i++)
        add_disk(devices, ovf, i);
    if (has_bus(ovf, OVF_SCSI)) {
        struct xml_node *controller = xml_add(devices, "controller", NULL);

        xml_set_attr(controller, "type", "scsi");
        xml_set_attr(controller, "index", "0");
        xml_set_attr(controller, "model", ovf->scsi_model ? ovf->scsi_model : "virtio-scsi");
    }
    for (unsigned i = 0; i < ovf->nics->len; i++)
        add_nic(devices, ovf->nics->pdata[i]);
    add_console(devices);
}

static void add_os(struct xml_node *domain, const struct ovf *ovf)
{
    struct xml_node *os = xml_add(domain, "os", NULL);
    struct xml_node *type = xml_add(os, "type", "hvm");
    struct xml_node *features = xml_add(domain, "features", NULL);

    xml_set_attr(type, "arch", "x86_64");
    xml_set_attr(type, "machine", ovf->efi ? "q35" : "pc");
    if (ovf->efi)
        xml_set_attr(os, "firmware", "efi");
    xml_set_attr(xml_add(os, "boot", NULL), "dev", "hd");
    xml_add(features, "acpi", NULL);
    xml_add(features, "apic", NULL);
}

/* Without KVM nobody would wait for it, but it can be looked at. */
static const char *virt_type(void)
{
    return access("/dev/kvm", R_OK | W_OK) == 0 ? "kvm" : "qemu";
}

char *ovf_definition(const struct ovf *ovf, const char *name, const char *uuid)
{
    AUTO(xml) xml = xml_new("domain");
    struct xml_node *domain = xml_root(xml);
    g_autofree char *memory = g_strdup_printf("%" PRIu64, MAX(ovf->memory_bytes >> 10, 1));
    g_autofree char *cpus = g_strdup_printf("%u", ovf->cpus);
    const char *type = virt_type();

    xml_set_attr(domain, "type", type);
    xml_add(domain, "name", name);
    xml_add(domain, "uuid", uuid);
    xml_set_attr(xml_add(domain, "memory", memory), "unit", "KiB");
    xml_add(domain, "vcpu", cpus);
    add_os(domain, ovf);
    if (strcmp(type, "kvm") == 0)
        xml_set_attr(xml_add(domain, "cpu", NULL), "mode", "host-model");
    xml_set_attr(xml_add(domain, "clock", NULL), "offset", ovf->local_time ? "localtime" : "utc");
    add_devices(domain, ovf);
    return xml_dump(xml);
}

/* ---- From libvirt */

enum ovf_bus ovf_bus_of(const struct xml_node *domain, const char *target)
{
    g_autofree char *xpath = g_strdup_printf("devices/disk/target[@dev='%s']/@bus", target);
    g_autofree char *name = xml_string(domain, xpath);

    for (unsigned bus = 0; bus < OVF_BUSES; bus++)
        if (g_strcmp0(name, bus_names[bus]) == 0)
            return bus;
    return OVF_SATA;
}

static void take_nics(struct ovf *ovf, const struct xml_node *domain)
{
    g_autoptr(GPtrArray) nics = xml_find_all(domain, "devices/interface");

    for (unsigned i = 0; i < nics->len; i++) {
        struct ovf_nic *nic = ovf_add_nic(ovf);

        nic->network = nic_network(nics->pdata[i]);
        nic->model = xml_string(nics->pdata[i], "model/@type");
        nic->mac = xml_string(nics->pdata[i], "mac/@address");
    }
}

struct ovf *ovf_of_definition(const struct xml_node *domain)
{
    struct ovf *ovf = ovf_new();
    g_autofree char *firmware = xml_string(domain, "os/@firmware");
    g_autofree char *loader = xml_string(domain, "os/loader/@type");
    g_autofree char *clock = xml_string(domain, "clock/@offset");
    g_autofree char *model = xml_string(domain, "devices/controller[@type='scsi']/@model");

    ovf->name = xml_string(domain, "name");
    ovf->memory_bytes = definition_memory_bytes(domain);
    ovf->cpus = definition_cpus(domain);
    ovf->efi = g_strcmp0(firmware, "efi") == 0 || g_strcmp0(loader, "pflash") == 0;
    ovf->local_time = g_strcmp0(clock, "localtime") == 0;
    ovf->scsi_model = g_strcmp0(model, "vmpvscsi") == 0      ? "vmpvscsi"
                      : g_strcmp0(model, "virtio-scsi") == 0 ? "virtio-scsi"
                      : model && strstr(model, "lsisas")     ? "lsisas1068"
                                                             : "lsilogic";
    take_nics(ovf, domain);
    return ovf;
}

/* ---- As text */

/* The words that VMware and VirtualBox know. */
static const char *scsi_subtype(const struct ovf *ovf)
{
    static const char *const words[][2] = {
        {"vmpvscsi", "VirtualSCSI"}, {"virtio-scsi", "virtio-scsi"}, {"lsisas1068", "lsilogicsas"}};

    for (unsigned i = 0; ovf->scsi_model && i < G_N_ELEMENTS(words); i++)
        if (strcmp(words[i][0], ovf->scsi_model) == 0)
            return words[i][1];
    return "lsilogic";
}

static void print(GString *text, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Arguments are escaped. */
static void print(GString *text, const char *format, ...)
{
    g_autofree char *part = NULL;
    va_list args;

    va_start(args, format);
    part = g_markup_vprintf_escaped(format, args);
    va_end(args);
    g_string_append(text, part);
}

static void print_files(GString *text, const GPtrArray *disks)
{
    g_string_append(text, "  <References>\n");
    for (unsigned i = 0; i < disks->len; i++) {
        const struct ovf_disk *disk = disks->pdata[i];

        print(text, "    <File ovf:href=\"%s\" ovf:id=\"file%u\" ovf:size=\"%" PRIu64 "\"/>\n",
              disk->file, i + 1, disk->file_bytes);
    }
    g_string_append(text, "  </References>\n  <DiskSection>\n    <Info>Virtual disks</Info>\n");
    for (unsigned i = 0; i < disks->len; i++) {
        const struct ovf_disk *disk = disks->pdata[i];

        print(
            text,
            "    <Disk ovf:capacity=\"%" PRIu64 "\" ovf:capacityAllocationUnits=\"byte\" "
            "ovf:diskId=\"disk%u\" ovf:fileRef=\"file%u\" "
            "ovf:format=\"http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
            "\"/>\n",
            disk->capacity_bytes, i + 1, i + 1);
    }
    g_string_append(text, "  </DiskSection>\n");
}

static void print_networks(GString *text, const struct ovf_package *package)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    g_string_append(text, "  <NetworkSection>\n    <Info>Networks</Info>\n");
    for (unsigned k = 0; k < package->vms->len; k++) {
        const struct ovf *ovf = package->vms->pdata[k];

        for (unsigned i = 0; i < ovf->nics->len; i++) {
            const struct ovf_nic *nic = ovf->nics->pdata[i];

            if (nic->network && g_hash_table_add(seen, nic->network))
                print(text, "    <Network ovf:name=\"%s\"/>\n", nic->network);
        }
    }
    g_string_append(text, "  </NetworkSection>\n");
}

/* The elements of an Item are in the order of their names: the schema wants that. */
static void print_controller(GString *text, enum ovf_bus bus, const struct ovf *ovf)
{
    static const unsigned types[OVF_BUSES] = {5, 20, 6, 20};
    const char *subtypes[OVF_BUSES] = {"PIIX4", "AHCI", scsi_subtype(ovf), "virtio"};

    print(text,
          "      <Item>\n        <rasd:Address>0</rasd:Address>\n"
          "        <rasd:ElementName>%s controller</rasd:ElementName>\n"
          "        <rasd:InstanceID>%u</rasd:InstanceID>\n"
          "        <rasd:ResourceSubType>%s</rasd:ResourceSubType>\n"
          "        <rasd:ResourceType>%u</rasd:ResourceType>\n      </Item>\n",
          bus_names[bus], 10 + bus, subtypes[bus], types[bus]);
}

/* FIRST: how many disks the VMs before it have. */
static void print_disks(GString *text, const struct ovf *ovf, unsigned first)
{
    unsigned units[OVF_BUSES] = {0};

    for (unsigned bus = 0; bus < OVF_BUSES; bus++)
        for (unsigned i = 0; i < ovf->disks->len; i++)
            if (((const struct ovf_disk *)ovf->disks->pdata[i])->bus == bus) {
                print_controller(text, bus, ovf);
                break;
            }
    for (unsigned i = 0; i < ovf->disks->len; i++) {
        const struct ovf_disk *disk = ovf->disks->pdata[i];

        print(text,
              "      <Item>\n        <rasd:AddressOnParent>%u</rasd:AddressOnParent>\n"
              "        <rasd:ElementName>disk %u</rasd:ElementName>\n"
              "        <rasd:HostResource>ovf:/disk/disk%u</rasd:HostResource>\n"
              "        <rasd:InstanceID>%u</rasd:InstanceID>\n"
              "        <rasd:Parent>%u</rasd:Parent>\n"
              "        <rasd:ResourceType>17</rasd:ResourceType>\n      </Item>\n",
              units[disk->bus]++, i + 1, first + i + 1, 100 + i, 10 + disk->bus);
    }
}

static const char *nic_subtype(const struct ovf_nic *nic)
{
    static const char *const words[][2] = {
        {"e1000e", "E1000e"}, {"vmxnet3", "VmxNet3"}, {"virtio", "virtio"}, {"pcnet", "PCNet32"}};

    for (unsigned i = 0; nic->model && i < G_N_ELEMENTS(words); i++)
        if (strcmp(words[i][0], nic->model) == 0)
            return words[i][1];
    return "E1000";
}

static void print_nics(GString *text, const struct ovf *ovf)
{
    for (unsigned i = 0; i < ovf->nics->len; i++) {
        const struct ovf_nic *nic = ovf->nics->pdata[i];

        g_string_append(text, "      <Item>\n");
        if (nic->mac)
            print(text, "        <rasd:Address>%s</rasd:Address>\n", nic->mac);
        print(text, "        <rasd:AutomaticAllocation>true</rasd:AutomaticAllocation>\n");
        if (nic->network)
            print(text, "        <rasd:Connection>%s</rasd:Connection>\n", nic->network);
        print(text,
              "        <rasd:ElementName>NIC %u</rasd:ElementName>\n"
              "        <rasd:InstanceID>%u</rasd:InstanceID>\n"
              "        <rasd:ResourceSubType>%s</rasd:ResourceSubType>\n"
              "        <rasd:ResourceType>10</rasd:ResourceType>\n      </Item>\n",
              i + 1, 200 + i, nic_subtype(nic));
    }
}

static void print_hardware(GString *text, const struct ovf *ovf, unsigned first)
{
    print(text,
          "    <VirtualHardwareSection>\n      <Info>Virtual hardware</Info>\n"
          "      <System>\n        <vssd:ElementName>Virtual hardware</vssd:ElementName>\n"
          "        <vssd:InstanceID>0</vssd:InstanceID>\n"
          "        <vssd:VirtualSystemType>vmx-10</vssd:VirtualSystemType>\n      </System>\n"
          "      <Item>\n        <rasd:ElementName>%u CPUs</rasd:ElementName>\n"
          "        <rasd:InstanceID>1</rasd:InstanceID>\n"
          "        <rasd:ResourceType>3</rasd:ResourceType>\n"
          "        <rasd:VirtualQuantity>%u</rasd:VirtualQuantity>\n      </Item>\n"
          "      <Item>\n        <rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>\n"
          "        <rasd:ElementName>memory</rasd:ElementName>\n"
          "        <rasd:InstanceID>2</rasd:InstanceID>\n"
          "        <rasd:ResourceType>4</rasd:ResourceType>\n"
          "        <rasd:VirtualQuantity>%" PRIu64 "</rasd:VirtualQuantity>\n      </Item>\n",
          ovf->cpus, ovf->cpus, MAX(ovf->memory_bytes >> 20, 1));
    print_disks(text, ovf, first);
    print_nics(text, ovf);
    if (ovf->efi)
        g_string_append(text, "      <vmw:Config ovf:required=\"false\" vmw:key=\"firmware\" "
                              "vmw:value=\"efi\"/>\n");
    g_string_append(text, "    </VirtualHardwareSection>\n");
}

static void print_vm(GString *text, const struct ovf *ovf, unsigned first)
{
    print(text,
          "  <VirtualSystem ovf:id=\"%s\">\n    <Info>A virtual machine</Info>\n"
          "    <Name>%s</Name>\n"
          "    <OperatingSystemSection ovf:id=\"%u\">\n"
          "      <Info>The guest</Info>\n      <Description>%s</Description>\n"
          "    </OperatingSystemSection>\n",
          ovf->name, ovf->name, ovf->local_time ? 1u : 101u, ovf->local_time ? "Windows" : "Linux");
    print_hardware(text, ovf, first);
    g_string_append(text, "  </VirtualSystem>\n");
}

/* Sections of a collection come before what it consists of. */
static void print_start(GString *text, const struct ovf_package *package)
{
    print(text,
          "  <VirtualSystemCollection ovf:id=\"%s\">\n    <Info>A vApp</Info>\n"
          "    <Name>%s</Name>\n    <StartupSection>\n      <Info>The order of the start</Info>\n",
          package->name, package->name);
    for (unsigned i = 0; i < package->vms->len; i++) {
        const struct ovf *ovf = package->vms->pdata[i];

        print(text,
              "      <Item ovf:id=\"%s\" ovf:order=\"%u\" ovf:startAction=\"powerOn\" "
              "ovf:startDelay=\"%u\" ovf:stopAction=\"guestShutdown\" ovf:stopDelay=\"0\"/>\n",
              ovf->name, ovf->order, ovf->delay_s);
    }
    g_string_append(text, "    </StartupSection>\n");
}

char *ovf_text(const struct ovf_package *package)
{
    GString *text =
        g_string_new("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                     "<Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\"\n"
                     "    xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/1\"\n"
                     "    xmlns:rasd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"
                     "CIM_ResourceAllocationSettingData\"\n"
                     "    xmlns:vssd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"
                     "CIM_VirtualSystemSettingData\"\n"
                     "    xmlns:vmw=\"http://www.vmware.com/schema/ovf\">\n");
    g_autoptr(GPtrArray) disks = ovf_package_disks(package);
    unsigned first = 0;

    print_files(text, disks);
    print_networks(text, package);
    if (package->name)
        print_start(text, package);
    for (unsigned i = 0; i < package->vms->len; i++) {
        const struct ovf *ovf = package->vms->pdata[i];

        print_vm(text, ovf, first);
        first += ovf->disks->len;
    }
    if (package->name)
        g_string_append(text, "  </VirtualSystemCollection>\n");
    g_string_append(text, "</Envelope>\n");
    return g_string_free(text, FALSE);
}
