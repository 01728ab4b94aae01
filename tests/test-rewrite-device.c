/* SPDX-License-Identifier: Apache-2.0 */
/* restore/rewrite.h on the devices of definitions but disks; no libvirt is needed. */
#include "tests/rewrite-fixture.h"

START_TEST(a_nic_without_its_network_is_disconnected)
{
    static const struct {
        const char *nic, *remark;
    } cases[] = {
        {"type='network'><source network='gone' portgroup='web'/>",
         "network gone does not exist here"},
        {"type='network'><source network='asleep'/>", "network asleep is not started here"},
        {"type='bridge'><source bridge='no-such-br'/><virtualport type='openvswitch'/>"
         "<vlan><tag id='7'/></vlan>",
         "bridge no-such-br does not exist here"},
        {"type='direct' trustGuestRxFilters='yes'><source dev='no-such-nic' mode='bridge'/>",
         "link no-such-nic does not exist here"},
        {"type='hostdev' managed='yes'><source><address type='pci' bus='3'/></source>",
         "type hostdev"},
        {"type='vhostuser'><source type='unix' path='/run/ovs/1' mode='server'/>",
         "type vhostuser"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = g_strdup_printf(
            HEAD OS "<devices><interface %s<mac address='52:54:00:00:00:01'/>"
                    "<model type='virtio'/><driver name='vhost' queues='4'/><target dev='tap9'/>"
                    "<filterref filter='clean-traffic'/><mtu size='9000'/><boot order='2'/>"
                    "<address type='pci' bus='1'/></interface></devices></domain>",
            cases[i].nic);
        AUTO(fixture) fixture = adapted(text);

        assert_remark(fixture, cases[i].remark);
        assert_remark(fixture, "NIC 1, 52:54:00:00:00:01 will be disconnected");
        assert_at(fixture, "devices/interface/@type", "user");
        assert_at(fixture, "count(devices/interface/@*)", "1");
        assert_at(fixture, "devices/interface/link/@state", "down");
        assert_at(fixture, "devices/interface/mac/@address", "52:54:00:00:00:01");
        assert_at(fixture, "devices/interface/address/@bus", "1");
        assert_at(fixture, "count(devices/interface/*)", "5");
    }
}
END_TEST

START_TEST(a_nic_whose_network_is_here_stays_connected)
{
    AUTO(fixture)
    fixture = adapted(DOMAIN("<interface type='bridge'><source bridge='lo'/></interface>"
                             "<interface type='user'/><interface type='mcast'>"
                             "<source address='230.0.0.1' port='5558'/></interface>"));

    assert_quiet(fixture);
    assert_gone(fixture, "devices/interface/link");
}
END_TEST

#define NIC(type_and_source)                                                                       \
    "<interface " type_and_source "<mac address='52:54:00:00:00:0a'/></interface>"

/* DEFINITION of the other site, BEFORE as it was here, PLAN or NULL. */
static struct fixture *come_home(const char *definition, const char *before, const char *plan)
{
    struct fixture *fixture = fixture_new(definition);

    fixture->before = definition_parse(before, "before", NULL);
    if (plan)
        fixture->plan = recovery_plan_parse(plan, strlen(plan), "shop", "shop.plan", NULL);
    adapt(fixture);
    return fixture;
}

START_TEST(a_nic_is_plugged_in_as_it_was_here_before)
{
    const char *home = DOMAIN("<interface type='network'><source network='prod' portgroup='db'/>"
                              "<mac address='52:54:00:00:00:0A'/></interface>");
    AUTO(fixture)
    unplugged = come_home(
        DOMAIN(NIC("type='user'>") "<interface type='user'><mac address='52:54:00:00:00:0b'/>"
                                   "</interface>"),
        home, NULL);
    AUTO(fixture)
    other = come_home(DOMAIN(NIC("type='network'><source network='recovery'/>")), home, NULL);
    AUTO(fixture)
    planned = come_home(DOMAIN(NIC("type='network'><source network='recovery'/>")), home,
                        "[plan]\nvapps = shop\n[network recovery]\n"
                        "target = disconnected\n");

    assert_remark(unplugged, "52:54:00:00:00:0a is plugged into prod, as it was here before");
    assert_at(unplugged, "devices/interface[1]/source/@portgroup", "db");
    assert_at(unplugged, "devices/interface[2]/@type", "user");
    assert_at(other, "devices/interface/source/@network", "prod");
    assert_at(planned, "devices/interface/link/@state", "down");
}
END_TEST

START_TEST(what_was_unplugged_here_before_says_nothing)
{
    AUTO(fixture)
    fixture = come_home(DOMAIN(NIC("type='network'><source network='prod'/>")),
                        DOMAIN(NIC("type='user'><link state='down'/>")), NULL);

    assert_quiet(fixture);
    assert_at(fixture, "devices/interface/source/@network", "prod");
}
END_TEST

START_TEST(host_devices_and_shared_directories_are_removed)
{
    AUTO(fixture)
    fixture = adapted(
        DOMAIN("<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0x0' "
               "bus='0x3' slot='0x0' function='0x0'/></source></hostdev>"
               "<filesystem type='mount'><source dir='/nowhere/share'/><target dir='s'/>"
               "</filesystem><filesystem type='mount'><source dir='/etc'/><target dir='e'/>"
               "</filesystem><tpm model='tpm-tis'><backend type='passthrough'><device "
               "path='/dev/tpm0'/></backend></tpm>"));

    assert_remark(fixture, "pci device of the other host: removed");
    assert_remark(fixture, "shared directory /nowhere/share is not here");
    assert_remark(fixture, "TPM: removed");
    assert_gone(fixture, "devices/hostdev | devices/tpm");
    assert_at(fixture, "count(devices/filesystem)", "1");
}
END_TEST

START_TEST(consoles_and_channels_that_lead_nowhere_are_made_private)
{
    AUTO(fixture)
    fixture = adapted(
        DOMAIN("<serial type='file'><source path='/nowhere/db.log'/><target port='0'/></serial>"
               "<console type='pty'><log file='/nowhere/c.log'/><target type='serial' port='0'/>"
               "</console><serial type='file'><source path='/tmp/no-such.log'/></serial>"
               "<channel type='unix'><source mode='bind' path='/nowhere/f16x86_64.agent'/>"
               "<target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
               "<channel type='unix'><target type='virtio' name='x'/></channel>"));

    ck_assert_uint_eq(fixture->findings->remarks->len, 1);
    assert_remark(fixture, "serial to /nowhere/db.log, which has no directory here");
    assert_at(fixture, "devices/serial[1]/@type", "pty");
    assert_at(fixture, "devices/serial[1]/target/@port", "0");
    assert_at(fixture, "devices/serial[2]/source/@path", "/tmp/no-such.log");
    assert_at(fixture, "count(devices/channel[@type='unix' and not(source)])", "2");
    assert_gone(fixture, "devices/console/log");
}
END_TEST

START_TEST(no_file_or_socket_of_this_host_is_written_over)
{
    AUTO(fixture)
    fixture = adapted(
        DOMAIN("<serial type='file'><source path='/etc/passwd'/><log file='/etc/group'/></serial>"
               "<serial type='unix'><source mode='bind' path='/etc/hosts'/></serial>"
               "<serial type='dev'><source path='/dev/null'/></serial>"
               "<graphics type='vnc'><listen type='socket' socket='/etc/hosts'/></graphics>"
               "<graphics type='spice'><listen type='socket' socket='/tmp/no-such.sock'/>"
               "</graphics>"));

    assert_remark(fixture, "serial to /etc/passwd, which exists here already: it becomes a pty");
    assert_remark(fixture, "serial: /dev/null of this host takes its place");
    assert_at(fixture, "count(devices/serial[@type='pty'])", "2");
    assert_gone(fixture, "devices/serial/log");
    assert_at(fixture, "devices/graphics/listen/@socket", "/tmp/no-such.sock");
}
END_TEST

START_TEST(what_is_connected_to_a_file_of_this_host_goes)
{
    AUTO(fixture)
    fixture = adapted(DOMAIN(
        "<rng model='virtio'><backend model='egd' type='file'><source path='/etc/passwd'/>"
        "</backend></rng><rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
        "<redirdev bus='usb' type='unix'><source path='/etc/hosts'/></redirdev>"
        "<redirdev bus='usb' type='spicevmc'><log file='/etc/group'/></redirdev>"
        "<smartcard mode='passthrough' type='pipe'><source path='/nowhere/p'/></smartcard>"
        "<smartcard mode='host'/>"));

    assert_remark(fixture, "rng to /etc/passwd, which exists here already: removed");
    assert_remark(fixture, "redirdev to /etc/hosts, which exists here already: removed");
    assert_remark(fixture, "smartcard to /nowhere/p, which is not here: removed");
    assert_at(fixture, "devices/rng/backend/text()", "/dev/urandom");
    assert_at(fixture, "devices/redirdev/@type", "spicevmc");
    assert_gone(fixture, "devices/redirdev/log");
    assert_at(fixture, "devices/smartcard/@mode", "host");
}
END_TEST

START_TEST(a_display_at_an_address_of_the_other_host_is_at_loopback)
{
    AUTO(fixture)
    fixture = adapted(DOMAIN("<graphics type='vnc' port='-1' autoport='yes' listen='192.0.2.77'>"
                             "<listen type='address' address='192.0.2.77'/></graphics>"
                             "<graphics type='spice' listen='0.0.0.0'><listen type='address' "
                             "address='0.0.0.0'/></graphics>"));

    ck_assert_uint_eq(fixture->findings->remarks->len, 1);
    assert_at(fixture, "devices/graphics[1]/@listen", "127.0.0.1");
    assert_at(fixture, "devices/graphics[1]/listen/@address", "127.0.0.1");
    assert_at(fixture, "devices/graphics[2]/listen/@address", "0.0.0.0");
}
END_TEST

int main(void)
{
    return UNIT_RUN("rewrite-device", a_nic_without_its_network_is_disconnected,
                    a_nic_whose_network_is_here_stays_connected,
                    a_nic_is_plugged_in_as_it_was_here_before,
                    what_was_unplugged_here_before_says_nothing,
                    host_devices_and_shared_directories_are_removed,
                    consoles_and_channels_that_lead_nowhere_are_made_private,
                    no_file_or_socket_of_this_host_is_written_over,
                    what_is_connected_to_a_file_of_this_host_goes,
                    a_display_at_an_address_of_the_other_host_is_at_loopback);
}
