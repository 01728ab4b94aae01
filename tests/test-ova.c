/* SPDX-License-Identifier: Apache-2.0 */
/* Machines of other platforms come and go as OVA. */
#include "restore/ova.h"
#include "restore/origin.h"
#include "tests/descriptors.h"
#include "tests/recovery-shop.h"

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

/* The only VM of PACKAGE. */
static struct ovf *only(const struct ovf_package *package)
{
    ck_assert_ptr_null(package->name);
    ck_assert_uint_eq(package->vms->len, 1);
    return package->vms->pdata[0];
}

START_TEST(a_descriptor_of_vmware_is_understood)
{
    g_autoptr(GError) error = NULL;
    AUTO(ovf_package) package = ovf_parse(vmware, "vm.ovf", &error);
    const struct ovf *ovf;
    const struct ovf_disk *disk;
    const struct ovf_nic *nic;
    g_autofree char *text = NULL;
    AUTO(xml) xml = NULL;
    g_autofree char *target = NULL;

    unit_ok(package != NULL, error);
    ovf = only(package);
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
    AUTO(ovf_package) package = ovf_parse(vmware, "vm.ovf", &error);
    g_autofree char *text = ovf_text(package);
    AUTO(ovf_package) written = ovf_parse(text, "again.ovf", &error);
    const struct ovf *ovf, *again;
    const struct ovf_disk *disk;

    unit_ok(written != NULL, error);
    ovf = only(package);
    again = only(written);
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
        {"ovf:size=\"1\"", "ovf:chunkSize=\"7\"", "split into several files (chunkSize)"},
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
        AUTO(ovf_package) package = ovf_parse(text, "vm.ovf", &error);

        ck_assert_msg(!package, "%s", changes[i].new);
        ck_assert_msg(strstr(error->message, changes[i].text), "%s", error->message);
    }
}
END_TEST

struct parts {
    char *vmdk;
    size_t len;
    const char *ovf;      /* NULL: VMware's */
    const char *format;   /* of a line of the digests; NULL: that of SHA1 by VMware */
    GChecksumType digest; /* zero is MD5: SHA1 is meant */
    const char *mf_name;  /* of the disk in the digests; NULL: there are none */
};

/* A disk with something in it, as SUBFORMAT. */
static void load_disk(const struct lab *lab, struct parts *parts, const char *subformat)
{
    g_autofree char *option = g_strconcat("subformat=", subformat, NULL);
    g_autofree char *raw = lab_path(lab, "disk.raw");
    g_autofree char *vmdk = lab_path(lab, "disk.vmdk");
    g_autoptr(GError) error = NULL;

    RUN("sh", "-ec", "head -c 3M /dev/urandom > \"$1\"; truncate -s 16M \"$1\"", "sh", raw);
    RUN("qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", option, raw, vmdk);
    unit_ok(file_read(vmdk, 64 << 20, &parts->vmdk, &parts->len, &error), error);
}

static void load_vmdk(const struct lab *lab, struct parts *parts)
{
    load_disk(lab, parts, "streamOptimized");
}

static void add_line(GString *sums, const struct parts *parts, const char *name, const char *data,
                     size_t len)
{
    GChecksumType digest = parts->digest ? parts->digest : G_CHECKSUM_SHA1;
    const char *format = parts->format ? parts->format : "SHA1(%n)= %h\n";
    g_autofree char *sum = g_compute_checksum_for_data(digest, (const guchar *)data, len);
    g_autoptr(GString) line = g_string_new(format);

    g_string_replace(line, "%n", name, 1);
    g_string_replace(line, "%h", sum, 1);
    g_string_append(sums, line->str);
}

static void write_ova(const char *path, const struct parts *parts)
{
    const char *text = parts->ovf ? parts->ovf : vmware;
    g_autoptr(GError) error = NULL;
    AUTO(tarball_out) out = NULL;

    unlink(path);
    out = tarball_out_new(path, TARBALL_PLAIN, 0, &error);
    unit_ok(out != NULL, error);
    unit_ok(tarball_out_add(out, "vm.ovf", text, strlen(text), &error), error);
    if (parts->mf_name) {
        g_autoptr(GString) sums = g_string_new(NULL);

        add_line(sums, parts, "vm.ovf", text, strlen(text));
        add_line(sums, parts, parts->mf_name, parts->vmdk, parts->len);
        unit_ok(tarball_out_add(out, "vm.mf", sums->str, sums->len, &error), error);
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

START_TEST(each_algorithm_of_digests_is_understood)
{
    static const struct {
        GChecksumType digest;
        const char *format;
    } all[] = {
        {G_CHECKSUM_SHA1, "SHA1(%n)= %h\n"},
        {G_CHECKSUM_SHA256, "SHA256(%n)= %h\n"},
        {G_CHECKSUM_SHA256, "SHA256 (%n) = %h\r\n"},
        {G_CHECKSUM_SHA512, "SHA512(%n)= %h\n"},
    };
    AUTO(lab) lab = lab_open("sums");
    struct parts parts = {.mf_name = "disk.vmdk"};
    g_autofree char *path = lab_path(lab, "sums.ova");
    g_autoptr(GError) error = NULL;

    load_vmdk(lab, &parts);
    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++) {
        parts.digest = all[i].digest;
        parts.format = all[i].format;
        write_ova(path, &parts);
        unit_ok(imports_as(lab, path, NULL, true, NULL, &error), error);
    }
    parts.format = "SHA512(%n)= 0%h\n";
    assert_refused(lab, &parts, "is damaged: its SHA512");
    parts.digest = G_CHECKSUM_SHA384;
    parts.format = "SHA384(%n)= %h\n";
    write_ova(path, &parts);
    unit_fails(imports_as(lab, path, NULL, true, NULL, &error), error, ERROR_FAILED,
               "only SHA1, SHA256 and SHA512");
    g_free(parts.vmdk);
}
END_TEST

/* A package may say that a disk is streamOptimized and hold a sparse one. */
START_TEST(an_ova_of_virtualbox_is_imported_with_a_sparse_disk)
{
    AUTO(lab) lab = lab_open("vbox");
    struct parts parts = {.mf_name = "disk.vmdk",
                          .ovf = virtualbox,
                          .format = "SHA256 (%n) = %h\n",
                          .digest = G_CHECKSUM_SHA256};
    g_autofree char *raw = lab_path(lab, "disk.raw");
    g_autofree char *path = lab_path(lab, "vbox.ova");
    g_autofree char *uuid = NULL;
    g_autofree char *image = NULL;
    g_autofree char *dir = NULL;
    g_autoptr(GPtrArray) points = NULL;
    g_autoptr(GError) error = NULL;

    load_disk(lab, &parts, "monolithicSparse");
    write_ova(path, &parts);
    unit_ok(imports_as(lab, path, NULL, false, &uuid, &error), error);
    points = store_points(lab->store, uuid, &error);
    ck_assert_uint_eq(points->len, 1);
    ck_assert_str_eq(((const struct manifest *)points->pdata[0])->vm, "debian");
    dir = store_point_dir(lab->config->store, uuid,
                          ((const struct manifest *)points->pdata[0])->point);
    image = g_build_filename(dir, "sda.qcow2", NULL);
    RUN("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", raw, image);
    g_free(parts.vmdk);
}
END_TEST

/* ---- Several VMs */

/* VMware's VM as a member of a collection: its part of References, of DiskSection, and itself. */
static void add_member(GString *files, GString *disks, GString *systems, const char *name)
{
    const char *begin = strstr(vmware, "<VirtualHardwareSection>");
    g_autofree char *hardware = g_strndup(begin, strlen(begin) - strlen("</Envelope>\n"));
    g_autoptr(GString) system = g_string_new(hardware);
    g_autofree char *disk = g_strdup_printf("disk-%s", name);

    g_string_replace(system, "vmdisk1", disk, 0);
    g_string_append_printf(files, "<File ovf:href=\"%1$s.vmdk\" ovf:id=\"file-%1$s\"/>", name);
    g_string_append_printf(
        disks,
        "<Disk ovf:capacity=\"16\" ovf:capacityAllocationUnits=\"byte * 2^20\" "
        "ovf:diskId=\"%1$s\" ovf:fileRef=\"file-%2$s\" "
        "ovf:format=\"http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized\" "
        "ovf:populatedSize=\"3145728\"/>",
        disk, name);
    g_string_append_printf(systems,
                           "<VirtualSystem ovf:id=\"vm-%1$s\"><Info/><Name>%1$s</Name>%2$s", name,
                           system->str);
}

/* A vApp as VMware writes it; g_free. */
static char *collection(const char *first, const char *second)
{
    g_autoptr(GString) files = g_string_new(NULL);
    g_autoptr(GString) disks = g_string_new(NULL);
    g_autoptr(GString) systems = g_string_new(NULL);
    const char *head = strstr(vmware, "<References>");

    add_member(files, disks, systems, first);
    add_member(files, disks, systems, second);
    return g_strdup_printf(
        "%1$.*2$s<References>%3$s</References>\n<DiskSection><Info/>%4$s</DiskSection>\n"
        "<NetworkSection><Info/><Network ovf:name=\"VM Network\"/></NetworkSection>\n"
        "<VirtualSystemCollection ovf:id=\"My shop\"><Info>A collection</Info><Name>My "
        "shop</Name>\n"
        "<ResourceAllocationSection><Info/><Item><rasd:ElementName>CPU</rasd:ElementName>"
        "<rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType></Item>"
        "</ResourceAllocationSection>\n"
        "<StartupSection><Info/>"
        "<Item ovf:id=\"vm-%6$s\" ovf:order=\"2\" ovf:startAction=\"powerOn\"/>"
        "<Item ovf:id=\"vm-%5$s\" ovf:order=\"1\" ovf:startDelay=\"30\" "
        "ovf:startAction=\"powerOn\" ovf:waitingForGuest=\"true\"/></StartupSection>\n"
        "%7$s</VirtualSystemCollection></Envelope>\n",
        vmware, (int)(head - vmware), files->str, disks->str, first, second, systems->str);
}

static void write_collection(const struct lab *lab, const char *path, const char *text,
                             const struct parts *parts)
{
    static const char *const files[] = {"db.vmdk", "app.vmdk"};
    g_autoptr(GError) error = NULL;
    AUTO(tarball_out) out = NULL;

    unlink(path);
    out = tarball_out_new(path, TARBALL_PLAIN, 0, &error);
    unit_ok(out != NULL, error);
    unit_ok(tarball_out_add(out, "shop.ovf", text, strlen(text), &error), error);
    for (unsigned i = 0; i < 2; i++)
        unit_ok(tarball_out_add(out, files[i], parts->vmdk, parts->len, &error), error);
    unit_ok(tarball_out_commit(out, &error), error);
}

START_TEST(a_collection_becomes_vms_and_a_vapp_in_its_order)
{
    AUTO(lab) lab = lab_open("set");
    struct parts parts = {0};
    g_autofree char *text = collection("db", "app");
    g_autofree char *path = lab_path(lab, "set.ova");
    g_autofree char *written = lab_path(lab, "etc/My-shop.vapp");
    struct import_request request = {.file = path};
    g_autoptr(GError) error = NULL;
    AUTO(vapp) vapp = NULL;

    load_vmdk(lab, &parts);
    write_collection(lab, path, text, &parts);
    unit_fails(imports_as(lab, path, "other", false, NULL, &error), error, ERROR_USAGE,
               "--as is for one VM");
    g_clear_error(&error);
    for (unsigned i = 0; i < 3; i++) {
        struct archive_result result = {0};

        request.dry_run = i == 0;
        unit_ok(import_archive(&lab->site, &request, &result, &error), error);
        ck_assert_str_eq(result.name, "My-shop");
        ck_assert(result.is_vapp);
        ck_assert_uint_eq(result.vms->len, 2);
        ck_assert_int_eq(((struct archive_vm *)result.vms->pdata[1])->present, i == 2);
        ck_assert_int_eq(result.vapp_path != NULL, i < 2);
        ck_assert_int_eq(g_file_test(written, G_FILE_TEST_EXISTS), i > 0);
        archive_result_clear(&result);
    }
    vapp = vapp_find(lab->config->dir, "My-shop", &error);
    unit_ok(vapp != NULL, error);
    ck_assert_uint_eq(vapp_vm(vapp, "db")->order, 1);
    ck_assert_int_eq(vapp_vm(vapp, "db")->delay_ms, 30000);
    ck_assert_uint_eq(vapp_vm(vapp, "app")->order, 2);
    for (unsigned i = 0; i < 2; i++) {
        AUTO(origin) origin = NULL;
        g_autoptr(GPtrArray) points = store_points(lab->store, i ? "app" : "db", &error);
        const struct manifest *manifest;

        ck_assert_uint_eq(points->len, 1);
        manifest = points->pdata[0];
        origin = origin_open(&lab->site, manifest->uuid, manifest->point, &error);
        unit_ok(origin != NULL, error);
        g_autofree char *raw = lab_path(lab, "disk.raw");
        RUN("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", raw,
            ((const struct origin_disk *)origin->disks->pdata[0])->chain[0]);
    }
    g_free(parts.vmdk);
}
END_TEST

START_TEST(collections_that_nobody_can_keep_apart_are_refused)
{
    static const struct {
        const char *old, *new, *text;
    } changes[] = {
        {"<Name>app</Name>", "<Name>db</Name>", "two VMs are called db"},
        {"<VirtualSystemCollection ", "<VirtualSystemCollection/><VirtualSystemCollection ",
         "2 collections"},
        {"ovf:href=\"app.vmdk\"", "ovf:href=\"db.vmdk\"", "attached twice"},
        {"<Name>app</Name>", "<Name>a/b</Name>", "cannot be the name of a VM"},
        {"<Name>app</Name>", "<Name>a]&#10;order = 7</Name>", ""},
    };
    AUTO(lab) lab = lab_open("unset");
    struct parts parts = {0};
    g_autofree char *path = lab_path(lab, "unset.ova");
    g_autofree char *vms = lab_path(lab, "store/vms");

    load_vmdk(lab, &parts);
    for (unsigned i = 0; i < G_N_ELEMENTS(changes); i++) {
        g_autofree char *good = collection("db", "app");
        g_autoptr(GString) text = g_string_new(good);
        g_autoptr(GError) error = NULL;
        g_auto(GStrv) left = NULL;

        ck_assert_uint_gt(g_string_replace(text, changes[i].old, changes[i].new, 1), 0);
        write_collection(lab, path, text->str, &parts);
        ck_assert(!imports_as(lab, path, NULL, false, NULL, &error));
        ck_assert_msg(strstr(error->message, changes[i].text), "%s", error->message);
        left = dir_list(vms, NULL);
        ck_assert_uint_eq(left ? g_strv_length(left) : 0, 0);
    }
    g_free(parts.vmdk);
}
END_TEST

START_TEST(a_vapp_goes_there_and_back_with_its_order)
{
    AUTO(shop) shop = shop_new("vshop", "delay = 1500ms");
    AUTO(lab) b = lab_open("vshop-b");
    g_autofree char *file = lab_path(shop->lab, "vshop.ova");
    struct import_request request = {.file = file};
    struct archive_result result = {0};
    g_autoptr(GError) error = NULL;
    AUTO(vapp) vapp = NULL;

    export_to(shop->lab, "vshop", file);
    unit_ok(import_archive(&b->site, &request, &result, &error), error);
    ck_assert_str_eq(result.name, "vshop");
    ck_assert(result.is_vapp);
    archive_result_clear(&result);
    vapp = vapp_find(b->config->dir, "vshop", &error);
    unit_ok(vapp != NULL, error);
    ck_assert_uint_eq(vapp_vm(vapp, "vshop-db")->order, 1);
    ck_assert_uint_eq(vapp_vm(vapp, "vshop-app")->order, 2);
    ck_assert_int_eq(vapp_vm(vapp, "vshop-app")->delay_ms, 2000);
    for (unsigned i = 0; i < 2; i++) {
        g_autofree char *copy = g_strdup_printf("vshop-copy%u", i);
        struct restore_request restore = {
            .vm = i ? "vshop-app" : "vshop-db", .as = copy, .start = true};
        struct restore_result restored = {0};

        unit_ok(restore_execute(&b->site, &restore, &restored, &error), error);
        ck_assert_uint_eq(g_strv_length(restored.paths), 2);
        ck_assert(guest_reads(b, copy, 17, 0) && guest_reads(b, copy, 34, 1));
        restore_result_clear(&restored);
    }
}
END_TEST

/* ---- Disks that cannot be */

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
    return SESSION_RUN(
        "ova", an_exported_vm_can_be_read_by_others, an_imported_vm_runs_with_the_same_disks,
        the_same_file_is_the_same_vm_each_time, a_descriptor_of_vmware_is_understood,
        what_is_written_reads_as_it_was, what_cannot_be_a_machine_is_refused,
        an_ova_of_vmware_is_imported_with_its_disk, each_algorithm_of_digests_is_understood,
        an_ova_of_virtualbox_is_imported_with_a_sparse_disk,
        a_collection_becomes_vms_and_a_vapp_in_its_order,
        collections_that_nobody_can_keep_apart_are_refused,
        a_vapp_goes_there_and_back_with_its_order, a_disk_that_leads_to_other_files_is_refused,
        digests_are_compared);
}
