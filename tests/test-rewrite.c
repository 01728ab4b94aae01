/* SPDX-License-Identifier: Apache-2.0 */
/* restore/rewrite.h on definitions as libvirt dumps them; no libvirt is needed. */
#include "tests/rewrite-fixture.h"

static const char *const vda_chain[] = {"/s/vms/u/p2/vda.qcow2", "/s/vms/u/p1/vda.qcow2", NULL};

static void place(struct fixture *fixture, bool keep_owners, const char *nvram)
{
    const struct placement_disk disks[] = {{"vda", "/images/db.r-1/vda.qcow2", vda_chain},
                                           {"sda", "/images/db.r-1/sda.qcow2", vda_chain}};
    struct recovered origin = {(char *)"dc1", (char *)"11111111-2222-3333-4444-555555555555",
                               (char *)"20261120T221500.123Z", (char *)"r-1"};
    struct placement placement = {disks, G_N_ELEMENTS(disks), nvram, keep_owners, &origin};

    rewrite_place(fixture->domain, &placement);
}

/* ---- Disks */

START_TEST(a_definition_that_fits_is_left_as_it_is)
{
    AUTO(fixture)
    fixture = adapted(DOMAIN("<interface type='network'><source network='prod'/>"
                             "<mac address='52:54:00:00:00:01'/></interface>"));

    assert_quiet(fixture);
    assert_at(fixture, "devices/interface/@type", "network");
    assert_at(fixture, "os/type/@machine", "pc-q35-7.2");
}
END_TEST

START_TEST(a_disk_becomes_an_overlay_over_the_whole_chain)
{
    AUTO(fixture) fixture = adapted(DOMAIN(""));

    place(fixture, true, NULL);
    assert_at(fixture, "devices/disk/@type", "file");
    assert_at(fixture, "devices/disk/source/@file", "/images/db.r-1/vda.qcow2");
    assert_at(fixture, "devices/disk/backingStore/source/@file", vda_chain[0]);
    assert_at(fixture, "devices/disk/backingStore/backingStore/source/@file", vda_chain[1]);
    assert_at(fixture, "count(devices/disk//backingStore)", "3");
    assert_at(fixture, "count(devices/disk//backingStore[not(*) and not(@*)])", "1");
    assert_at(fixture, "count(devices/disk//backingStore/format[@type='qcow2'])", "2");
    assert_at(fixture, "devices/disk/driver/@discard", "unmap");
    assert_at(fixture, "devices/disk/address/@bus", "0x04");
}
END_TEST

START_TEST(libvirt_is_told_to_leave_the_owners_of_every_layer_alone)
{
    AUTO(fixture) fixture = adapted(DOMAIN(""));

    place(fixture, true, NULL);
    assert_at(fixture,
              "count(devices/disk//backingStore/source/seclabel[@model='dac' and @relabel='no'])",
              "2");
    assert_gone(fixture, "devices/disk/source/seclabel");
}
END_TEST

START_TEST(nothing_is_said_about_owners_where_libvirt_has_no_dac_model)
{
    AUTO(fixture) fixture = adapted(DOMAIN(""));

    place(fixture, false, NULL);
    assert_gone(fixture, "devices/disk//seclabel");
}
END_TEST

START_TEST(block_volume_and_network_disks_become_files)
{
    static const char *const sources[] = {
        "type='block'><driver name='qemu' type='raw' io='native'/><source dev='/dev/vg/db'/>"
        "<backingStore/>",
        "type='volume'><driver name='qemu' type='raw'/><source pool='p' volume='v' index='3'/>",
        "type='network'><driver name='qemu' type='raw'/><auth username='u'><secret type='ceph' "
        "uuid='0'/></auth><source protocol='rbd' name='p/v'><host name='h'/></source>",
        "type='file'><source file='/a'><encryption format='luks'/></source><mirror/>"};

    for (unsigned i = 0; i < G_N_ELEMENTS(sources); i++) {
        g_autofree char *text = g_strdup_printf(
            HEAD OS "<devices><disk device='disk' %s<target dev='sda' bus='scsi'/>"
                    "<serial>S1</serial><boot order='1'/></disk></devices></domain>",
            sources[i]);
        AUTO(fixture) fixture = adapted(text);

        place(fixture, true, NULL);
        assert_at(fixture, "devices/disk/@type", "file");
        assert_at(fixture, "devices/disk/driver/@type", "qcow2");
        assert_at(fixture, "count(devices/disk/source)", "1");
        assert_at(fixture, "count(devices/disk/source/@*)", "1");
        assert_at(fixture, "devices/disk/source/@file", "/images/db.r-1/sda.qcow2");
        assert_gone(fixture, "devices/disk/auth | devices/disk/mirror | //encryption");
        assert_at(fixture, "devices/disk/serial", "S1");
        assert_at(fixture, "devices/disk/boot/@order", "1");
        assert_at(fixture, "devices/disk/target/@bus", "scsi");
    }
}
END_TEST

START_TEST(a_disk_that_has_lost_something_reports_its_errors_to_the_guest)
{
    static const char text[] = DOMAIN(
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2' error_policy='stop' "
        "rerror_policy='ignore'/><source file='/nowhere/db2.qcow2'/>"
        "<target dev='sda' bus='scsi'/></disk>");
    AUTO(fixture) whole = adapted(text);
    AUTO(fixture) fixture = fixture_new(text);
    char why[] = "a test";
    struct chain_loss some = {.clusters = cluster_ranges_new(), .text = why};
    g_autofree char *kept =
        xml_string(whole->domain, "devices/disk[target/@dev='sda']/driver/@error_policy");
    g_autofree char *policy = NULL;

    ck_assert_str_eq(kept, "stop");
    fixture->lost = lost_disks_new();
    g_ptr_array_add(fixture->lost, lost_disk_new("sda", &some));
    g_array_unref(some.clusters);
    adapt(fixture);
    policy = xml_string(fixture->domain, "devices/disk[target/@dev='sda']/driver/@error_policy | "
                                         "devices/disk[target/@dev='sda']/driver/@rerror_policy");
    ck_assert_ptr_null(policy);
    assert_remark(fixture, "disk sda: error_policy='stop' is dropped");
    assert_remark(fixture, "disk sda: rerror_policy='ignore' is dropped");
}
END_TEST

START_TEST(a_medium_that_is_not_here_is_ejected)
{
    AUTO(fixture)
    fixture = adapted(
        DOMAIN("<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>"
               "<source file='/nowhere/debian.iso'/><target dev='sdb' bus='sata'/><readonly/>"
               "</disk><disk type='block' device='floppy'><source dev='/dev/nofd'/>"
               "<target dev='fda' bus='fdc'/></disk>"));

    assert_remark(fixture, "cdrom sdb: /nowhere/debian.iso is not here: ejected");
    assert_remark(fixture, "floppy fda: /dev/nofd is not here: ejected");
    assert_at(fixture, "count(devices/disk)", "3");
    assert_at(fixture, "count(devices/disk/source)", "1");
    assert_at(fixture, "devices/disk[@device='floppy']/@type", "file");
}
END_TEST

START_TEST(a_medium_that_is_here_and_an_empty_drive_stay)
{
    AUTO(fixture)
    fixture = adapted(DOMAIN(
        "<disk type='file' device='cdrom'><source file='/etc/passwd'/>"
        "<target dev='sdb' bus='sata'/><readonly/></disk>"
        "<disk type='file' device='cdrom'><target dev='sdc' bus='sata'/><readonly/></disk>"));

    ck_assert_uint_eq(fixture->findings->remarks->len, 1);
    assert_remark(fixture, "cdrom sdb is not in the point: /etc/passwd of this host");
    assert_at(fixture, "devices/disk[target/@dev='sdb']/source/@file", "/etc/passwd");
}
END_TEST

START_TEST(a_disk_that_replication_skipped_goes_unless_it_is_here)
{
    AUTO(fixture)
    fixture = adapted(DOMAIN("<disk type='block' device='disk'><source dev='/dev/none/shared'/>"
                             "<target dev='vdb' bus='virtio'/><shareable/></disk>"
                             "<disk type='file' device='disk'><source file='/etc/passwd'/>"
                             "<target dev='vdc' bus='virtio'/><readonly/></disk>"));

    assert_remark(fixture, "disk vdb (/dev/none/shared) is neither in the point nor here: removed");
    assert_remark(fixture, "disk vdc is not in the point");
    assert_at(fixture, "count(devices/disk)", "2");
    assert_gone(fixture, "devices/disk[target/@dev='vdb']");
}
END_TEST

/* ---- What runs it */

START_TEST(an_unknown_machine_type_blocks_with_the_way_out)
{
    AUTO(fixture)
    fixture = adapted(
        HEAD "<os><type arch='x86_64' machine='pc-q35-9.1'>hvm</type></os><devices/></domain>");

    assert_block(fixture, "machine type pc-q35-9.1 is not known here");
    assert_block(fixture, "--to-dir");
}
END_TEST

START_TEST(a_machine_type_of_another_distribution_gets_the_nearest_one)
{
    AUTO(fixture)
    jammy = adapted(HEAD "<os><type arch='x86_64' machine='pc-q35-jammy'>hvm</type></os></domain>");
    AUTO(fixture)
    rhel = adapted(
        HEAD "<os><type arch='x86_64' machine='pc-i440fx-rhel7.6.0'>hvm</type></os></domain>");

    ck_assert_uint_eq(jammy->findings->blockers->len + rhel->findings->blockers->len, 0);
    assert_remark(jammy, "q35 of this host takes its place");
    assert_at(jammy, "os/type/@machine", "q35");
    assert_at(rhel, "os/type/@machine", "pc");
}
END_TEST

START_TEST(a_kvm_guest_is_blocked_where_there_is_no_kvm)
{
    AUTO(fixture) fixture = fixture_new(DOMAIN(""));

    xml_remove(xml_find(xml_root(fixture->platform->capabilities), "//domain[@type='kvm']"));
    adapt(fixture);
    assert_block(fixture, "it needs KVM");
    assert_at(fixture, "@type", "kvm");
}
END_TEST

START_TEST(a_foreign_architecture_is_blocked)
{
    AUTO(fixture)
    fixture =
        adapted(HEAD "<os><type arch='s390x' machine='s390-ccw-virtio'>hvm</type></os></domain>");

    assert_block(fixture, "no emulator for s390x guests");
}
END_TEST

START_TEST(the_emulator_is_this_hosts)
{
    AUTO(fixture) fixture = adapted(DOMAIN("<emulator>/usr/libexec/qemu-kvm</emulator>"));

    assert_at(fixture, "devices/emulator", "/usr/bin/qemu-system-x86_64");
    assert_quiet(fixture);
}
END_TEST

START_TEST(a_cpu_model_that_this_host_lacks_blocks_unless_libvirt_may_choose)
{
#define CPU(attributes, model)                                                                     \
    HEAD OS "<cpu mode='custom' match='exact'" attributes "><model" model ">EPYC</model></cpu>"    \
            "</domain>"
    static const char *const texts[] = {CPU("", " fallback='forbid'"), CPU("", " fallback='allow'"),
                                        CPU(" check='none'", " fallback='forbid'")};

    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        AUTO(fixture) fixture = fixture_new(texts[i]);

        fixture->platform->domain_support =
            parse("<domainCapabilities><cpu><mode name='custom'><model usable='no'>EPYC</model>"
                  "<model usable='yes'>qemu64</model></mode></cpu></domainCapabilities>");
        adapt(fixture);
        ck_assert_uint_eq(fixture->findings->blockers->len, i == 0);
    }
}
END_TEST

START_TEST(pinning_stays_only_where_its_cpus_exist)
{
    AUTO(fixture)
    fits = adapted(HEAD OS "<cputune><shares>9</shares><vcpupin vcpu='0' "
                           "cpuset='0-1'/></cputune></domain>");
    AUTO(fixture)
    fixture =
        adapted(HEAD OS "<cputune><shares>9</shares><vcpupin vcpu='0' cpuset='0,6-7'/></cputune>"
                        "<numatune><memory mode='strict' nodeset='1'/></numatune></domain>");

    assert_at(fits, "cputune/vcpupin/@cpuset", "0-1");
    assert_gone(fixture, "cputune/vcpupin | numatune");
    assert_at(fixture, "cputune/shares", "9");
    assert_remark(fixture, "pinned to CPUs");
    assert_remark(fixture, "NUMA nodes");
}
END_TEST

START_TEST(memory_is_read_in_all_units)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {
        {"<domain><memory unit='KiB'>2097152</memory></domain>", UINT64_C(2) << 30},
        {"<domain><memory>1024</memory></domain>", 1 << 20},
        {"<domain><memory unit='GiB'>3</memory></domain>", UINT64_C(3) << 30},
        {"<domain><memory unit='MiB'>5</memory></domain>", 5 << 20},
        {"<domain/>", 0},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        AUTO(xml) xml = parse(cases[i].text);

        ck_assert_uint_eq(definition_memory_bytes(xml_root(xml)), cases[i].bytes);
    }
}
END_TEST

/* ---- Firmware */

#define UEFI(loader, nvram)                                                                        \
    HEAD "<os><type arch='x86_64' machine='q35'>hvm</type><loader readonly='yes' "                 \
         "type='pflash'>" loader "</loader>" nvram "</os><devices>" VDA "</devices></domain>"

START_TEST(the_nvram_is_the_copy_of_this_run)
{
    static const char *const forms[] = {
        UEFI("/etc/passwd", "<nvram template='/nowhere/VARS.fd'>/v/db_VARS.fd</nvram>"),
        UEFI("/etc/passwd", "<nvram type='file'><source file='/v/db_VARS.fd'/></nvram>"),
        UEFI("/etc/passwd", ""),
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(forms); i++) {
        AUTO(fixture) fixture = adapted(forms[i]);

        assert_quiet(fixture);
        place(fixture, true, "/images/db.r-1/nvram.fd");
        assert_at(fixture, "os/nvram", "/images/db.r-1/nvram.fd");
        assert_gone(fixture, "os/nvram/* | os/nvram[@type] | os/nvram[@template]");
    }
}
END_TEST

START_TEST(without_nvram_in_the_point_libvirt_makes_a_new_one)
{
    AUTO(fixture)
    kept = adapted(UEFI("/etc/passwd", "<nvram template='/etc/group'>/v/db_VARS.fd</nvram>"));
    AUTO(fixture) plain = adapted(UEFI("/etc/passwd", "<nvram>/v/db_VARS.fd</nvram>"));

    place(kept, true, NULL);
    place(plain, true, NULL);
    assert_at(kept, "os/nvram/@template", "/etc/group");
    assert_at(kept, "os/nvram", "");
    assert_gone(plain, "os/nvram");
}
END_TEST

START_TEST(missing_firmware_blocks_unless_libvirt_may_choose)
{
    AUTO(fixture) fixed = adapted(UEFI("/nowhere/OVMF_CODE.fd", ""));
    AUTO(fixture)
    chosen = adapted(HEAD "<os firmware='efi'><type arch='x86_64' machine='q35'>hvm</type>"
                          "<loader type='pflash'>/nowhere/OVMF_CODE.fd</loader></os></domain>");

    AUTO(fixture)
    told_twice = adapted(
        HEAD "<os firmware='efi'><type arch='x86_64' machine='q35'>hvm</type><firmware><feature "
             "enabled='no' name='secure-boot'/></firmware><loader readonly='yes' type='pflash'>"
             "/etc/passwd</loader><nvram template='/etc/group'>/v</nvram></os></domain>");

    assert_block(fixed, "firmware /nowhere/OVMF_CODE.fd is not here");
    assert_quiet(told_twice);
    assert_gone(told_twice, "os[@firmware] | os/firmware");
    assert_at(told_twice, "os/loader", "/etc/passwd");
    ck_assert_uint_eq(chosen->findings->blockers->len, 0);
    assert_gone(chosen, "os/loader");
}
END_TEST

START_TEST(a_kernel_that_is_not_here_blocks)
{
    AUTO(fixture)
    fixture =
        adapted(HEAD "<os><type arch='x86_64' machine='q35'>hvm</type><kernel>/nowhere/bzImage"
                     "</kernel><initrd>/etc/passwd</initrd></os></domain>");

    ck_assert_uint_eq(fixture->findings->blockers->len, 1);
    assert_block(fixture, "kernel /nowhere/bzImage is not here");
}
END_TEST

/* ---- All else */

/* libvirt would take these for its own, and XPath does not see them. */
START_TEST(what_another_namespace_hides_is_not_there)
{
    AUTO(fixture)
    fixture = adapted(
        "<domain type='kvm' xmlns:x='urn:x' xmlns:qemu='urn:q' x:type='xen'><x:name>db</x:name>"
        "<name>another</name><devices><serial x:type='file' type='pty'><x:source/>"
        "<source x:path='/etc/passwd'/></serial></devices><metadata><x:mine x:kept='1'/></metadata>"
        "<qemu:commandline><qemu:arg value='-S'/></qemu:commandline></domain>");

    place(fixture, true, "/n");
    rewrite_identify(fixture->domain, "db", COPY_UUID);
    assert_at(fixture, "name", "db");
    assert_at(fixture, "uuid", COPY_UUID);
    assert_at(fixture, "count(//@*[namespace-uri()])", "1");
    assert_at(fixture, "count(devices//*[namespace-uri()])", "0");
    assert_at(fixture, "metadata/x:mine/@x:kept", "1");
    assert_at(fixture, "qemu:commandline/qemu:arg/@value", "-S");
    assert_remark(fixture, "its own QEMU arguments");
}
END_TEST

START_TEST(what_defines_no_vm_is_refused)
{
    g_autoptr(GError) error = NULL;

    unit_fails(definition_parse("<network/>", "the file", &error), error, ERROR_INTEGRITY,
               "the file does not define a VM");
    unit_fails(definition_parse("<domain xmlns='urn:x'/>", "the file", &error), error,
               ERROR_INTEGRITY, "the file does not define a VM");
    unit_fails(definition_parse("<domain>", "the file", &error), error, ERROR_INTEGRITY,
               "the file is not valid XML");
}
END_TEST

START_TEST(labels_of_the_other_host_go)
{
    AUTO(fixture)
    fixture = adapted(HEAD OS "<seclabel type='dynamic' model='dac' relabel='yes'/><seclabel "
                              "type='static' model='selinux'><label>x</label></seclabel><seclabel "
                              "type='none' model='apparmor'/></domain>");

    assert_at(fixture, "count(seclabel)", "1");
    assert_at(fixture, "seclabel/@model", "apparmor");
}
END_TEST

START_TEST(own_qemu_arguments_are_kept_and_reported)
{
    AUTO(fixture)
    fixture =
        adapted("<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>" OS
                "<qemu:commandline><qemu:arg value='-nodefaults'/></qemu:commandline></domain>");
    g_autofree char *text = xml_dump(fixture->xml);

    assert_remark(fixture, "qemu:commandline");
    ck_assert_ptr_nonnull(strstr(text, "<qemu:arg value=\"-nodefaults\"/>"));
}
END_TEST

/* ---- The mark */

START_TEST(the_mark_says_where_a_vm_came_from_and_replaces_an_older_one)
{
    AUTO(fixture) fixture = fixture_new(DOMAIN(""));
    struct recovered mark;

    place(fixture, true, NULL);
    adapt(fixture);
    assert_gone(fixture, "metadata/*");
    place(fixture, true, NULL);
    g_autofree char *text = xml_dump(fixture->xml);
    ck_assert(recovered_read(text, &mark));
    ck_assert_str_eq(mark.site, "dc1");
    ck_assert_str_eq(mark.vm, "11111111-2222-3333-4444-555555555555");
    ck_assert_str_eq(mark.point, "20261120T221500.123Z");
    ck_assert_str_eq(mark.run, "r-1");
    recovered_clear(&mark);
}
END_TEST

START_TEST(a_domain_without_a_whole_mark_is_not_ours)
{
    struct recovered mark;

    ck_assert(!recovered_read(DOMAIN(""), &mark));
    ck_assert(!recovered_read("<domain><metadata><x:recovered xmlns:x='https://drctl.org/ns/1' "
                              "site='a' vm='b' point='c'/></metadata></domain>",
                              &mark));
    ck_assert(!recovered_read("<domain><metadata><recovered site='a' vm='b' point='c' run='d'/>"
                              "</metadata></domain>",
                              &mark));
    ck_assert(!recovered_read("<domain", &mark));
}
END_TEST

/* ---- A copy beside the original */

START_TEST(a_copy_shares_nothing_with_the_original)
{
    AUTO(fixture)
    fixture = adapted(
        HEAD OS
        "<genid>aaaaaaaa-2222-3333-4444-555555555555</genid><sysinfo type='smbios'><system><entry "
        "name='uuid'>11111111-2222-3333-4444-555555555555</entry></system></sysinfo><devices>" VDA
        "<interface type='network'><source network='prod'/><mac address='52:54:00:00:00:01'/>"
        "<target dev='tap-db'/></interface><interface type='user'/>"
        "<serial type='file'><source path='/tmp/db-console.log'/></serial>"
        "<serial type='file'><source path='/tmp/console.log'/></serial>"
        "<serial type='tcp'><source mode='bind' host='127.0.0.1' service='4555'/>"
        "<protocol type='raw'/></serial>"
        "<channel type='unix'><source mode='bind' path='/tmp/agent.sock'/>"
        "<target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
        "<graphics type='vnc' port='5901' autoport='no'/><graphics type='spice'>"
        "<listen type='socket' socket='/tmp/db-spice.sock'/></graphics>"
        "<graphics type='vnc' socket='/tmp/db-vnc.sock'/>"
        "<vsock><cid auto='no' address='7'/></vsock></devices></domain>");

    rewrite_rename(fixture->domain, "db2", COPY_UUID, fixture->findings);
    adapt(fixture);
    assert_at(fixture, "name", "db2");
    assert_at(fixture, "uuid", COPY_UUID);
    assert_at(fixture, "sysinfo/system/entry", COPY_UUID);
    assert_at(fixture, "count(devices/interface/mac[starts-with(@address,'52:54:00:')])", "2");
    assert_gone(fixture, "devices/interface/mac[@address='52:54:00:00:00:01']");
    assert_gone(fixture, "devices/interface/target");
    assert_at(fixture, "devices/serial[1]/source/@path", "/tmp/db2-console.log");
    assert_at(fixture, "devices/serial[2]/@type", "pty");
    assert_at(fixture, "devices/serial[3]/@type", "pty");
    assert_gone(fixture, "devices/serial/protocol | devices/channel/source");
    assert_at(fixture, "devices/graphics/@autoport", "yes");
    assert_gone(fixture,
                "devices/graphics[@port] | devices/graphics/descendant-or-self::*[@socket]");
    assert_at(fixture, "count(devices/graphics/listen[@type='socket'])", "2");
    assert_at(fixture, "devices/vsock/cid/@auto", "yes");
    assert_gone(fixture, "genid[text()='aaaaaaaa-2222-3333-4444-555555555555']");
}
END_TEST

START_TEST(an_almost_empty_definition_is_survived)
{
    AUTO(fixture)
    fixture = adapted("<domain><devices><disk/><interface/><serial/><hostdev/><tpm/>"
                      "<filesystem/><graphics/></devices></domain>");

    place(fixture, true, "/n");
    rewrite_rename(fixture->domain, "x", COPY_UUID, fixture->findings);
    assert_at(fixture, "name", "x");
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "rewrite", a_definition_that_fits_is_left_as_it_is,
        a_disk_becomes_an_overlay_over_the_whole_chain,
        libvirt_is_told_to_leave_the_owners_of_every_layer_alone,
        nothing_is_said_about_owners_where_libvirt_has_no_dac_model,
        block_volume_and_network_disks_become_files,
        a_disk_that_has_lost_something_reports_its_errors_to_the_guest,
        a_medium_that_is_not_here_is_ejected, a_medium_that_is_here_and_an_empty_drive_stay,
        a_disk_that_replication_skipped_goes_unless_it_is_here,
        an_unknown_machine_type_blocks_with_the_way_out,
        a_machine_type_of_another_distribution_gets_the_nearest_one,
        a_kvm_guest_is_blocked_where_there_is_no_kvm, a_foreign_architecture_is_blocked,
        the_emulator_is_this_hosts,
        a_cpu_model_that_this_host_lacks_blocks_unless_libvirt_may_choose,
        pinning_stays_only_where_its_cpus_exist, memory_is_read_in_all_units,
        the_nvram_is_the_copy_of_this_run, without_nvram_in_the_point_libvirt_makes_a_new_one,
        missing_firmware_blocks_unless_libvirt_may_choose, a_kernel_that_is_not_here_blocks,
        what_another_namespace_hides_is_not_there, what_defines_no_vm_is_refused,
        labels_of_the_other_host_go, own_qemu_arguments_are_kept_and_reported,
        the_mark_says_where_a_vm_came_from_and_replaces_an_older_one,
        a_domain_without_a_whole_mark_is_not_ours, a_copy_shares_nothing_with_the_original,
        an_almost_empty_definition_is_survived);
}
