/* SPDX-License-Identifier: Apache-2.0 */
/* Machines of other platforms come and go as OVA. */
#include "restore/ova.h"
#include "tests/recovery-lab.h"

#define MIB ((uint64_t)1 << 20)

static void export_to(const struct lab *lab, const char *vm, const char *file)
{
    struct export_request request = {.name = vm, .file = file};
    struct archive_result result = {0};
    g_autoptr(GError) error = NULL;

    unit_ok(export_archive(&lab->site, &request, &result, &error), error);
    ck_assert_str_eq(result.name, vm);
    archive_result_clear(&result);
}

static bool imports_as(const struct lab *lab, const char *file, const char *as, bool dry_run,
                       char **uuid, GError **error)
{
    struct import_request request = {.file = file, .as = as, .dry_run = dry_run};
    struct archive_result result = {0};
    bool done = import_archive(&lab->site, &request, &result, error);

    if (done && uuid)
        *uuid = g_strdup(((const struct archive_vm *)result.vms->pdata[0])->uuid);
    archive_result_clear(&result);
    return done;
}

/* ---- There and back */

START_TEST(an_exported_vm_can_be_read_by_others)
{
    AUTO(lab) lab = lab_open("out");
    AUTO(lost_guest) guest = lost_guest(lab, "out-vm", "");
    g_autofree char *file = lab_path(lab, "out.ova");
    g_autofree char *dir = lab_path(lab, "out");
    g_autofree char *point = store_point_dir(lab->config->store, guest->uuid, guest->points[1]);
    g_autofree char *script = g_strdup_printf(
        "cd '%1$s' && test \"$(tar -tf '%2$s' | head -1)\" = out-vm.ovf && "
        "sed -E 's/SHA256\\((.*)\\)= (.*)/\\2  \\1/' out-vm.mf | sha256sum -c --quiet && "
        "qemu-img compare -q -f vmdk -F qcow2 out-vm-disk1.vmdk '%3$s/vda.qcow2' && "
        "qemu-img compare -q -f vmdk -F qcow2 out-vm-disk2.vmdk '%3$s/vdb.qcow2' && "
        "qemu-img info out-vm-disk1.vmdk | grep -q 'create type: streamOptimized' && "
        "python3 -c 'import sys, xml.etree.ElementTree as e; e.parse(\"out-vm.ovf\")'",
        dir, file, point);
    g_autofree char *left = NULL;
    g_autoptr(GError) error = NULL;

    export_to(lab, "out-vm", file);
    unit_ok(dir_make(dir, 0700, &error), error);
    RUN("tar", "-xf", file, "-C", dir);
    RUN("sh", "-ec", script);
    left = run((const char *const[]){"find", lab->dir, "-name", ".tmp-*", "-o", "-name",
                                     "drctl-work-*", NULL});
    ck_assert_str_eq(left, "");
}
END_TEST

START_TEST(an_imported_vm_runs_with_the_same_disks)
{
    AUTO(lab) a = lab_open("back-a");
    AUTO(lab) b = lab_open("back-b");
    AUTO(lost_guest) guest = lost_guest(a, "back-vm", "");
    g_autofree char *file = lab_path(a, "back.ova");
    g_autofree char *point = store_point_dir(a->config->store, guest->uuid, guest->points[1]);
    g_autofree char *before = g_build_filename(point, "vdb.qcow2", NULL);
    struct restore_request request = {.vm = "again-vm", .as = "back-copy", .start = true};
    struct restore_result result = {0};
    g_autofree char *memory = NULL;
    g_autoptr(GError) error = NULL;

    export_to(a, "back-vm", file);
    unit_ok(imports_as(b, file, "again-vm", false, NULL, &error), error);
    unit_ok(restore_execute(&b->site, &request, &result, &error), error);
    ck_assert_uint_eq(g_strv_length(result.paths), 2);
    ck_assert(guest_reads(b, "back-copy", 17, 0) && guest_reads(b, "back-copy", 34, 1));
    RUN("qemu-img", "compare", "-U", "-q", result.paths[1], before);
    memory = domain_text(b, "back-copy", "memory");
    ck_assert_str_eq(memory, "16384");
    restore_result_clear(&result);
}
END_TEST

START_TEST(the_same_file_is_the_same_vm_each_time)
{
    AUTO(lab) a = lab_open("same-a");
    AUTO(lab) b = lab_open("same-b");
    AUTO(lost_guest) guest = lost_guest(a, "same-vm", "");
    g_autofree char *file = lab_path(a, "same.ova");
    g_autofree char *dry = NULL;
    g_autofree char *first = NULL;
    g_autofree char *second = NULL;
    g_autofree char *other = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) points = NULL;

    export_to(a, guest->name, file);
    unit_ok(imports_as(b, file, NULL, true, &dry, &error), error);
    points = store_points(b->store, NULL, &error);
    ck_assert_uint_eq(points->len, 0);
    unit_ok(imports_as(b, file, NULL, false, &first, &error), error);
    unit_ok(imports_as(b, file, NULL, false, &second, &error), error);
    g_ptr_array_unref(points);
    points = store_points(b->store, NULL, &error);
    ck_assert_uint_eq(points->len, 1);
    unit_ok(imports_as(b, file, "other-name", true, &other, &error), error);
    ck_assert(uuid_is_valid(first));
    ck_assert_str_eq(dry, first);
    ck_assert_str_eq(second, first);
    ck_assert_str_ne(other, first);
}
END_TEST

/* ---- Descriptors of others */

/* As VMware writes it, shortened. */
static const char vmware[] =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
    "<Envelope vmw:buildId=\"build-1\" xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\" "
    "xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/1\" "
    "xmlns:rasd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"
    "CIM_ResourceAllocationSettingData\" xmlns:vmw=\"http://www.vmware.com/schema/ovf\">\n"
    "<References><File ovf:href=\"disk.vmdk\" ovf:id=\"file1\" ovf:size=\"1\"/></References>\n"
    "<DiskSection><Info/><Disk ovf:capacity=\"16\" ovf:capacityAllocationUnits=\"byte * 2^20\" "
    "ovf:diskId=\"vmdisk1\" ovf:fileRef=\"file1\" "
    "ovf:format=\"http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized\"/>"
    "</DiskSection>\n"
    "<NetworkSection><Info/><Network ovf:name=\"VM Network\"/></NetworkSection>\n"
    "<VirtualSystem ovf:id=\"vm\"><Info/><Name>Büro &amp; Lager</Name>\n"
    "<OperatingSystemSection ovf:id=\"1\" vmw:osType=\"windows9Server64Guest\"><Info/>"
    "</OperatingSystemSection>\n"
    "<VirtualHardwareSection><Info/>\n"
    "<Item><rasd:AllocationUnits>hertz * 10^6</rasd:AllocationUnits>"
    "<rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType>"
    "<rasd:VirtualQuantity>4</rasd:VirtualQuantity></Item>\n"
    "<Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>"
    "<rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType>"
    "<rasd:VirtualQuantity>2048</rasd:VirtualQuantity></Item>\n"
    "<Item><rasd:Address>0</rasd:Address><rasd:InstanceID>3</rasd:InstanceID>"
    "<rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType>"
    "<rasd:ResourceType>6</rasd:ResourceType></Item>\n"
    "<Item><rasd:AddressOnParent>0</rasd:AddressOnParent>"
    "<rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource>"
    "<rasd:InstanceID>4</rasd:InstanceID><rasd:Parent>3</rasd:Parent>"
    "<rasd:ResourceType>17</rasd:ResourceType></Item>\n"
    "<Item><rasd:Connection>VM Network</rasd:Connection><rasd:InstanceID>5</rasd:InstanceID>"
    "<rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType>"
    "<rasd:ResourceType>10</rasd:ResourceType></Item>\n"
    "<vmw:Config ovf:required=\"false\" vmw:key=\"firmware\" vmw:value=\"efi\"/>\n"
    "</VirtualHardwareSection></VirtualSystem></Envelope>\n";

START_TEST(a_descriptor_of_vmware_is_understood)
{
    g_autoptr(GError) error = NULL;
    AUTO(ovf) ovf = ovf_parse(vmware, "vm.ovf", &error);
    const struct ovf_disk *disk;
    const struct ovf_nic *nic;
    g_autofree char *text = NULL;
    AUTO(xml) xml = NULL;
    g_autofree char *target = NULL;

    unit_ok(ovf != NULL, error);
    ck_assert_str_eq(ovf->name, "Büro & Lager");
    ck_assert_uint_eq(ovf->cpus, 4);
    ck_assert_uint_eq(ovf->memory_bytes, 2048 * MIB);
    ck_assert(ovf->efi && ovf->local_time);
    disk = ovf->disks->pdata[0];
    ck_assert_str_eq(disk->file, "disk.vmdk");
    ck_assert_uint_eq(disk->capacity_bytes, 16 * MIB);
    ck_assert_int_eq(disk->bus, OVF_SCSI);
    nic = ovf->nics->pdata[0];
    ck_assert_str_eq(nic->network, "VM Network");
    ck_assert_str_eq(nic->model, "vmxnet3");
    text = ovf_definition(ovf, "büro", "11111111-2222-3333-4444-555555555555");
    xml = xml_parse(text, "definition", &error);
    unit_ok(xml != NULL, error);
    target = xml_string(xml_root(xml), "devices/disk/target/@dev");
    ck_assert_str_eq(target, "sda");
    ck_assert_ptr_nonnull(xml_find(xml_root(xml), "os[@firmware='efi']"));
    ck_assert_ptr_nonnull(
        xml_find(xml_root(xml), "devices/controller[@type='scsi' and @model='vmpvscsi']"));
    ck_assert_ptr_nonnull(xml_find(xml_root(xml), "clock[@offset='localtime']"));
}
END_TEST

START_TEST(what_is_written_reads_as_it_was)
{
    g_autoptr(GError) error = NULL;
    AUTO(ovf) ovf = ovf_parse(vmware, "vm.ovf", &error);
    g_autofree char *text = ovf_text(ovf);
    AUTO(ovf) again = ovf_parse(text, "again.ovf", &error);
    const struct ovf_disk *disk;

    unit_ok(again != NULL, error);
    disk = again->disks->pdata[0];
    ck_assert_str_eq(again->name, ovf->name);
    ck_assert_uint_eq(again->cpus, ovf->cpus);
    ck_assert_uint_eq(again->memory_bytes, ovf->memory_bytes);
    ck_assert(again->efi && again->local_time);
    ck_assert_str_eq(again->scsi_model, "vmpvscsi");
    ck_assert_str_eq(disk->file, "disk.vmdk");
    ck_assert_uint_eq(disk->capacity_bytes, 16 * MIB);
    ck_assert_int_eq(disk->bus, OVF_SCSI);
    ck_assert_str_eq(((const struct ovf_nic *)again->nics->pdata[0])->model, "vmxnet3");
}
END_TEST

/* ---- What is refused */

/* VMware's descriptor with OLD replaced by NEW. */
static char *changed(const char *old, const char *new)
{
    GString *text = g_string_new(vmware);

    ck_assert_uint_gt(g_string_replace(text, old, new, 0), 0);
    return g_string_free(text, FALSE);
}

START_TEST(what_cannot_be_a_machine_is_refused)
{
    static const struct {
        const char *old, *new, *text;
    } changes[] = {
        {"ovf:capacity=\"16\"", "ovf:capacity=\"99999999999999\"", "capacity"},
        {"ovf:id=\"file1\"", "ovf:id=\"file2\"", "in no file"},
        {"ovf:size=\"1\"", "ovf:compression=\"gzip\"", "compressed"},
        {"ovf:size=\"1\"", "ovf:chunkSize=\"7\"", "split"},
        {"#streamOptimized\"", "#x\" ovf:parentRef=\"y\"", "stands on another"},
        {"vmdk.html", "raw.html", "not a VMDK"},
        {">2048<", ">-1<", "memory"},
        {">4</rasd:VirtualQuantity>", ">0</rasd:VirtualQuantity>", "CPUs"},
        {"ovf:/disk/vmdisk1", "ovf:/disk/other", "does not describe"},
        {"<VirtualSystem ", "<VirtualSystem/><VirtualSystem ", "2 VMs"},
        {"Envelope", "Umschlag", "describes no VM"},
        {"<References>", "<References>&x;", ""},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(changes); i++) {
        g_autofree char *text = changed(changes[i].old, changes[i].new);
        g_autoptr(GError) error = NULL;
        AUTO(ovf) ovf = ovf_parse(text, "vm.ovf", &error);

        ck_assert_msg(!ovf, "%s", changes[i].new);
        ck_assert_msg(strstr(error->message, changes[i].text), "%s", error->message);
    }
}
END_TEST

struct parts {
    char *vmdk;
    size_t len;
    const char *mf_name; /* of the disk in the digests; NULL: there are none */
};

static void load_vmdk(const struct lab *lab, struct parts *parts)
{
    g_autofree char *raw = lab_path(lab, "disk.raw");
    g_autofree char *vmdk = lab_path(lab, "disk.vmdk");
    g_autoptr(GError) error = NULL;

    RUN("sh", "-ec", "head -c 3M /dev/urandom > \"$1\"; truncate -s 16M \"$1\"", "sh", raw);
    RUN("qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", raw,
        vmdk);
    unit_ok(file_read(vmdk, 64 << 20, &parts->vmdk, &parts->len, &error), error);
}

static char *checksum_line(const char *name, const char *data, size_t len)
{
    g_autofree char *sum = g_compute_checksum_for_data(G_CHECKSUM_SHA1, (const guchar *)data, len);

    return g_strdup_printf("SHA1(%s)= %s\n", name, sum);
}

static void write_ova(const char *path, const struct parts *parts)
{
    g_autoptr(GError) error = NULL;
    AUTO(tarball_out) out = NULL;

    unlink(path);
    out = tarball_out_new(path, TARBALL_PLAIN, 0, &error);
    unit_ok(out != NULL, error);
    unit_ok(tarball_out_add(out, "vm.ovf", vmware, strlen(vmware), &error), error);
    if (parts->mf_name) {
        g_autofree char *ovf = checksum_line("vm.ovf", vmware, strlen(vmware));
        g_autofree char *disk = checksum_line(parts->mf_name, parts->vmdk, parts->len);
        g_autofree char *sums = g_strconcat(ovf, disk, NULL);

        unit_ok(tarball_out_add(out, "vm.mf", sums, strlen(sums), &error), error);
    }
    unit_ok(tarball_out_add(out, "disk.vmdk", parts->vmdk, parts->len, &error), error);
    unit_ok(tarball_out_commit(out, &error), error);
}

static void assert_refused(const struct lab *lab, const struct parts *parts, const char *text)
{
    g_autofree char *path = lab_path(lab, "bad.ova");
    g_autofree char *vms = lab_path(lab, "store/vms");
    g_autofree char *incoming = lab_path(lab, "store/incoming");
    g_auto(GStrv) points = NULL;
    g_auto(GStrv) arriving = NULL;
    g_autoptr(GError) error = NULL;

    write_ova(path, parts);
    unit_fails(imports_as(lab, path, NULL, false, NULL, &error), error, ERROR_INTEGRITY, text);
    points = dir_list(vms, NULL);
    arriving = dir_list(incoming, NULL);
    ck_assert_uint_eq(g_strv_length(points) + g_strv_length(arriving), 0);
}

START_TEST(an_ova_of_vmware_is_imported_with_its_disk)
{
    AUTO(lab) lab = lab_open("vmware");
    struct parts parts = {.mf_name = "disk.vmdk"};
    g_autofree char *raw = lab_path(lab, "disk.raw");
    g_autofree char *path = lab_path(lab, "good.ova");
    g_autofree char *uuid = NULL;
    g_autofree char *image = NULL;
    g_autoptr(GPtrArray) points = NULL;
    g_autoptr(GError) error = NULL;

    load_vmdk(lab, &parts);
    write_ova(path, &parts);
    unit_ok(imports_as(lab, path, NULL, false, &uuid, &error), error);
    points = store_points(lab->store, uuid, &error);
    ck_assert_uint_eq(points->len, 1);
    ck_assert_str_eq(((const struct manifest *)points->pdata[0])->vm, "Büro & Lager");
    g_autofree char *dir = store_point_dir(lab->config->store, uuid,
                                           ((const struct manifest *)points->pdata[0])->point);
    image = g_build_filename(dir, "sda.qcow2", NULL);
    RUN("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", raw, image);
    g_free(parts.vmdk);
}
END_TEST

/* The places of a VMDK's header are those of VMware's specification. */
START_TEST(a_disk_that_leads_to_other_files_is_refused)
{
    static const char text[] = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n"
                               "createType=\"monolithicFlat\"\nRW 32768 FLAT \"/etc/passwd\" 0\n";
    AUTO(lab) lab = lab_open("elsewhere");
    struct parts parts = {.mf_name = "disk.vmdk"};
    g_autofree char *good = NULL;
    char *descriptor;

    load_vmdk(lab, &parts);
    good = g_memdup2(parts.vmdk, parts.len);
    memcpy(parts.vmdk, text, sizeof text);
    assert_refused(lab, &parts, "not a VMDK in one piece");
    memcpy(parts.vmdk, good, parts.len);
    memset(parts.vmdk + 12, 0, 8);
    assert_refused(lab, &parts, "no size that can be");
    memcpy(parts.vmdk, good, parts.len);
    descriptor = memmem(parts.vmdk, 65536, "ddb.", 4);
    ck_assert_ptr_nonnull(descriptor);
    memcpy(descriptor, "\nparentFileNameHint=\"/etc/passwd\"\n", 34);
    assert_refused(lab, &parts, "stands on another");
    memcpy(parts.vmdk, good, parts.len);
    memset(parts.vmdk + 28, 0x7f, 8);
    assert_refused(lab, &parts, "elsewhere");
    g_free(parts.vmdk);
}
END_TEST

START_TEST(digests_are_compared)
{
    AUTO(lab) lab = lab_open("digests");
    struct parts parts = {.mf_name = "disk.vmdk"};
    g_autofree char *path = lab_path(lab, "flipped.ova");
    g_autofree char *data = NULL;
    g_autoptr(GError) error = NULL;
    size_t len;

    load_vmdk(lab, &parts);
    write_ova(path, &parts);
    unit_ok(file_read(path, 64 << 20, &data, &len, &error), error);
    data[len / 2] ^= 1;
    unit_ok(file_write(path, data, len, 0600, &error), error);
    unit_fails(imports_as(lab, path, NULL, false, NULL, &error), error, ERROR_INTEGRITY,
               "disk.vmdk is damaged");
    parts.mf_name = "other.vmdk";
    assert_refused(lab, &parts, "other.vmdk is missing");
    parts.mf_name = "vm.ovf";
    assert_refused(lab, &parts, "vm.ovf is damaged");
    g_free(parts.vmdk);
}
END_TEST

int main(void)
{
    become_ordinary_user();
    return SESSION_RUN("ova", an_exported_vm_can_be_read_by_others,
                       an_imported_vm_runs_with_the_same_disks,
                       the_same_file_is_the_same_vm_each_time, a_descriptor_of_vmware_is_understood,
                       what_is_written_reads_as_it_was, what_cannot_be_a_machine_is_refused,
                       an_ova_of_vmware_is_imported_with_its_disk,
                       a_disk_that_leads_to_other_files_is_refused, digests_are_compared);
}
