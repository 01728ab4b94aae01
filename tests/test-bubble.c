/* SPDX-License-Identifier: Apache-2.0 */
/* restore/bubble.h on definitions; no libvirt is needed. What runs in one: test-test-failover.c. */
#include "restore/bubble.h"
#include "restore/recovery-plan.h"
#include "tests/unit.h"

#define VDA                                                                                        \
    "<disk type='file' device='disk'><source file='/nowhere/db.qcow2'/><target dev='vda'/></disk>"
#define DOMAIN(devices)                                                                            \
    "<domain type='qemu'><name>db</name><devices>" VDA devices "</devices></domain>"
#define NIC(source, mac)                                                                           \
    "<interface " source "<mac address='" mac "'/><target dev='tap7'/><model type='virtio'/>"      \
    "<filterref filter='clean-traffic'/><bandwidth/></interface>"
#define PROD "type='network'><source network='prod' portid='x'/>"
#define BRIDGE "type='bridge'><source bridge='br0'/>"

#define COPY_UUID "11111111-2222-4333-8444-555555555555"

/* Guests that are put into one bubble. */
struct fixture {
    struct bubble *bubble;
    struct manifest *manifest;
    struct platform *platform;
    struct findings *findings;
    struct recovery_plan *plan; /* or NULL */
    struct xml *xml;            /* the last one */
};

static struct fixture *fixture_new(bool bridged)
{
    struct fixture *fixture = g_new0(struct fixture, 1);

    fixture->bubble = bubble_new("qemu:///x", bridged);
    fixture->manifest = manifest_new();
    manifest_add_disk(fixture->manifest, "vda");
    fixture->platform = g_new0(struct platform, 1);
    fixture->platform->networks = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    fixture->findings = findings_new();
    return fixture;
}

static void fixture_free(struct fixture *fixture)
{
    bubble_free(fixture->bubble);
    manifest_free(fixture->manifest);
    platform_free(fixture->platform);
    findings_free(fixture->findings);
    recovery_plan_free(fixture->plan);
    xml_free(fixture->xml);
    g_free(fixture);
}
DEFINE_CLEANUP(fixture)

static void isolate(struct fixture *fixture, const char *text)
{
    g_autoptr(GError) error = NULL;
    struct rewrite rewrite = {
        .manifest = fixture->manifest,
        .platform = fixture->platform,
        .findings = fixture->findings,
        .plan = fixture->plan,
        .vm = "db",
    };

    xml_free(fixture->xml);
    fixture->xml = xml_parse(text, "test", &error);
    unit_ok(fixture->xml != NULL, error);
    rewrite.domain = xml_root(fixture->xml);
    bubble_take(fixture->bubble, &rewrite, "shop-test-1.db", COPY_UUID);
}

static char *at(const struct fixture *fixture, const char *xpath)
{
    return xml_string(xml_root(fixture->xml), xpath);
}

static bool has(const struct fixture *fixture, const char *xpath)
{
    return xml_find(xml_root(fixture->xml), xpath) != NULL;
}

START_TEST(guests_of_one_network_meet_again_and_those_of_another_do_not)
{
    AUTO(fixture) fixture = fixture_new(true);
    g_autofree char *first = NULL;
    g_autofree char *second = NULL;
    g_autofree char *other = NULL;

    isolate(fixture, DOMAIN(NIC(PROD, "52:54:00:00:00:01") NIC(BRIDGE, "52:54:00:00:00:02")));
    first = at(fixture, "devices/interface[1]/source/@network");
    other = at(fixture, "devices/interface[2]/source/@network");
    isolate(fixture, DOMAIN(NIC(PROD, "52:54:00:00:00:03")));
    second = at(fixture, "devices/interface/source/@network");
    ck_assert(g_str_has_prefix(first, "drctl-test-"));
    ck_assert_str_eq(first, second);
    ck_assert_str_ne(first, other);
    ck_assert(g_hash_table_contains(fixture->platform->networks, first));
    json_auto_t *json = bubble_to_json(fixture->bubble);

    ck_assert_uint_eq(json_array_size(json), 2);
    ck_assert_str_eq(json_get_string(json_array_get(json, 0), "from"), "network prod");
    ck_assert_str_eq(json_get_string(json_array_get(json, 0), "network"), first);
    ck_assert_str_eq(json_get_string(json_array_get(json, 1), "from"), "bridge br0");
}
END_TEST

START_TEST(a_nic_keeps_its_address_and_nothing_of_where_it_was)
{
    AUTO(fixture) fixture = fixture_new(true);
    g_autofree char *mac = NULL;

    isolate(fixture, DOMAIN(NIC(PROD, "52:54:00:00:00:01")));
    mac = at(fixture, "devices/interface/mac/@address");
    ck_assert_str_eq(mac, "52:54:00:00:00:01");
    ck_assert(has(fixture, "devices/interface/model[@type='virtio']"));
    ck_assert(has(fixture, "name[.='shop-test-1.db'] | uuid[.='" COPY_UUID "']"));
    ck_assert(!has(fixture, "devices/interface/target | devices/interface/filterref | "
                            "devices/interface/bandwidth | devices/interface/source/@portid"));
}
END_TEST

START_TEST(the_recovery_plan_says_what_is_together_and_what_is_apart)
{
    static const char text[] = "[plan]\nvapps = shop\n[network prod]\ntarget = lan\n[network br0]\n"
                               "target = lan\n[network dmz]\ntest = disconnected\n"
                               "[network off]\ntarget = disconnected\n";
    AUTO(fixture) fixture = fixture_new(true);
    g_autofree char *first = NULL;
    g_autofree char *second = NULL;
    g_autoptr(GError) error = NULL;

    fixture->plan = recovery_plan_parse(text, strlen(text), "shop", "test", &error);
    unit_ok(fixture->plan != NULL, error);
    isolate(fixture,
            DOMAIN(NIC(PROD, "52:54:00:00:00:01") NIC(BRIDGE, "52:54:00:00:00:02")
                       NIC("type='network'><source network='dmz'/>", "52:54:00:00:00:03")
                           NIC("type='network'><source network='off'/>", "52:54:00:00:00:04")));
    first = at(fixture, "devices/interface[1]/source/@network");
    second = at(fixture, "devices/interface[2]/source/@network");
    ck_assert_str_eq(first, second);
    ck_assert(has(fixture, "devices/interface[3]/link[@state='down']"));
    ck_assert(has(fixture, "devices/interface[4]/link[@state='down']"));
    ck_assert(!has(fixture, "devices/interface[position()<3]/link"));
}
END_TEST

START_TEST(where_no_network_can_be_made_guests_meet_by_multicast)
{
    AUTO(fixture) fixture = fixture_new(false);
    json_auto_t *json = NULL;
    g_autofree char *address = NULL;
    g_autofree char *second = NULL;

    isolate(fixture, DOMAIN(NIC(PROD, "52:54:00:00:00:01")));
    ck_assert(has(fixture, "devices/interface[@type='mcast']/source[@port]"));
    address = at(fixture, "devices/interface/source/@address");
    ck_assert(g_str_has_prefix(address, "239."));
    isolate(fixture, DOMAIN(NIC(PROD, "52:54:00:00:00:02")));
    second = at(fixture, "devices/interface/source/@address");
    ck_assert_str_eq(address, second);
    json = bubble_to_json(fixture->bubble);
    ck_assert_ptr_null(json_get_string(json_array_get(json, 0), "network"));
}
END_TEST

START_TEST(a_nic_of_its_own_network_has_no_cable)
{
    AUTO(fixture) fixture = fixture_new(true);

    isolate(fixture, DOMAIN("<interface type='user'><mac address='52:54:00:00:00:01'/></interface>"
                            "<interface type='user'><link state='up'/></interface>"));
    ck_assert(!has(fixture, "devices/interface[not(link/@state='down')]"));
    ck_assert(!has(fixture, "devices/interface[count(link)!=1]"));
}
END_TEST

START_TEST(no_other_way_leads_out)
{
    AUTO(fixture) fixture = fixture_new(true);

    isolate(fixture,
            "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
            "<name>db</name><devices>" VDA
            "<disk type='block' device='disk'><source dev='/dev/null'/><target dev='vdb'/></disk>"
            "<disk type='file' device='floppy'><source file='/dev/null'/><target dev='fda'/></disk>"
            "<disk type='file' device='cdrom'><source file='/dev/null'/><target dev='sda'/></disk>"
            "<disk type='file' device='floppy'><target dev='fdb'/></disk>"
            "<filesystem><source dir='/tmp'/><target dir='x'/></filesystem>"
            "<vsock><cid auto='yes'/></vsock><shmem name='x'/><lease/>"
            "<redirdev bus='usb' type='tcp'/><redirdev bus='usb' type='spicevmc'/>"
            "<input type='evdev'><source dev='/dev/input/event0'/></input><input type='tablet'/>"
            "<pstore backend='acpi-erst'><path>/tmp/db.pstore</path></pstore></devices>"
            "<qemu:commandline><qemu:arg value='-netdev'/></qemu:commandline></domain>");
    ck_assert(!has(fixture, "devices/filesystem | devices/vsock | devices/shmem | devices/lease | "
                            "devices/redirdev[@type='tcp'] | *[local-name()='commandline'] | "
                            "devices/input/source | devices/pstore"));
    ck_assert(has(fixture, "devices/input[@type='tablet']"));
    ck_assert(!has(fixture, "devices/disk[target/@dev='vdb' or target/@dev='fda']"));
    ck_assert(has(fixture, "devices/disk[target/@dev='vda']"));
    ck_assert(has(fixture, "devices/disk[target/@dev='sda']/source"));
    ck_assert(has(fixture, "devices/redirdev[@type='spicevmc']"));
    ck_assert_uint_eq(fixture->findings->blockers->len, 0);
    ck_assert_uint_eq(fixture->findings->remarks->len, 10);
}
END_TEST

int main(void)
{
    return UNIT_RUN("bubble", guests_of_one_network_meet_again_and_those_of_another_do_not,
                    a_nic_keeps_its_address_and_nothing_of_where_it_was,
                    the_recovery_plan_says_what_is_together_and_what_is_apart,
                    where_no_network_can_be_made_guests_meet_by_multicast,
                    a_nic_of_its_own_network_has_no_cable, no_other_way_leads_out);
}
