/* SPDX-License-Identifier: Apache-2.0 */
/* Recovery plans as they are written down, the addresses in them, and what they make of a definition. */
#include <sys/socket.h>

#include "tests/rewrite-fixture.h"
#include "vapp/vapp.h"

#define PLAN(text) "[plan]\nvapps = shop\n" text

static struct recovery_plan *parsed(const char *text)
{
    g_autoptr(GError) error = NULL;
    struct recovery_plan *plan =
        recovery_plan_parse(text, strlen(text), "shop", "shop.plan", &error);

    unit_ok(plan != NULL, error);
    return plan;
}

START_TEST(reads_all_that_the_manual_has)
{
    AUTO(recovery_plan)
    plan = parsed("# all\n[plan]\nvapps = shop; crm\nsite = dc1\n"
                  "hydrate = no\ncommit-after = 30min\non-timeout = rollback\nstorage = big\n"
                  "test-every = 7d\n[network prod]\ntarget = lan\ntest = disconnected\n"
                  "address = 192.0.2.0/24 -> 198.51.100.0/24; fd00:1::/64 -> fd00:2::/64\n"
                  "gateway = 198.51.100.1\ndns = 198.51.100.2; fd00:2::2\n"
                  "[network br0]\ntarget = disconnected\n[network br1]\n"
                  "[network br2]\ntarget = disconnected\ntest = isolated\n"
                  "[vm db]\nhost = qemu:///system\nstorage = /srv/fast\nmemory = 2GiB\ncpus = "
                  "2\noptional = yes\n"
                  "apart = app; web\ntogether = mq\naddress eth0 = 198.51.100.10/24\n"
                  "before = /bin/a; b\nafter = c\nin-guest = d\nhook-timeout = 90s\n[vm app]\n");
    const struct plan_network *prod = recovery_plan_network(plan, "prod");
    const struct plan_vm *db = recovery_plan_vm(plan, "db");
    const struct plan_address *address;

    ck_assert_str_eq(plan->name, "shop");
    ck_assert_str_eq(plan->vapps[1], "crm");
    ck_assert_str_eq(plan->site, "dc1");
    ck_assert_int_eq(plan->hydrate, 0);
    ck_assert_int_eq(plan->commit.after_ms, 30 * 60 * 1000);
    ck_assert(plan->commit.rolls_back);
    ck_assert_str_eq(plan->storage, "big");
    ck_assert_str_eq(db->storage, "/srv/fast");
    ck_assert_int_eq(plan->test_every_ms, INT64_C(7) * 24 * 60 * 60 * 1000);
    ck_assert_str_eq(prod->target, "lan");
    ck_assert_uint_eq(prod->rules->len, 2);
    ck_assert_str_eq(prod->gateway, "198.51.100.1");
    ck_assert_str_eq(prod->dns[1], "fd00:2::2");
    ck_assert(!prod->disconnected && recovery_plan_network(plan, "br0")->disconnected);
    ck_assert(prod->test_disconnected && recovery_plan_network(plan, "br0")->test_disconnected);
    ck_assert(!recovery_plan_network(plan, "br1")->test_disconnected &&
              !recovery_plan_network(plan, "br2")->test_disconnected);
    ck_assert_str_eq(db->host, "qemu:///system");
    ck_assert_uint_eq(db->memory_bytes, UINT64_C(2) << 30);
    ck_assert_uint_eq(db->cpus, 2);
    ck_assert(db->optional);
    ck_assert_str_eq(db->apart[1], "web");
    ck_assert_str_eq(db->together[0], "mq");
    ck_assert_str_eq(db->before, "/bin/a; b");
    ck_assert_str_eq(db->after, "c");
    ck_assert_str_eq(db->in_guest, "d");
    ck_assert_int_eq(db->hook_timeout_ms, 90000);
    ck_assert_uint_eq(db->addresses->len, 1);
    address = db->addresses->pdata[0];
    ck_assert_str_eq(address->nic, "eth0");
    ck_assert(!recovery_plan_vm(plan, "app")->optional);
    ck_assert_ptr_null(recovery_plan_vm(plan, "web"));
}
END_TEST

START_TEST(refuses_what_is_wrong_and_names_it)
{
    static const struct {
        const char *text, *says;
    } wrong[] = {
        {"[vm db]\n", "[plan] vapps: the key is missing"},
        {PLAN("colour = red\n"), "[plan] colour: there is no such key"},
        {PLAN("site = DC 1\n"), "[plan] site: 'DC 1' is not the name of a site"},
        {PLAN("hydrate = later\n"), "[plan] hydrate: 'later' is not one of no, yes"},
        {PLAN("commit-after = 31d\n"), "[plan] commit-after: '31d' is not a duration"},
        {PLAN("on-timeout = commit\n"), "[plan] on-timeout: is of use only beside"},
        {PLAN("commit-after = 1h\non-timeout = stay\n"), "'stay' is not one of commit, rollback"},
        {PLAN("storage = srv/big\n"), "[plan] storage: 'srv/big' is neither an absolute path"},
        {PLAN("[vm a]\nstorage = a/b\n"), "[vm a] storage: 'a/b' is neither"},
        {PLAN("test-every = often\n"), "[plan] test-every: 'often' is not a duration from 1 h"},
        {PLAN("[network n]\ntest = lan\n"),
         "[network n] test: 'lan' is not one of isolated, disconnected"},
        {PLAN("[host a]\n"), "[host a]: there is no such group"},
        {PLAN("[vm]\n"), "[vm]: the name is missing"},
        {PLAN("[vm a]\n[vm  a]\n"), "VM 'a' is there twice"},
        {PLAN("[network n]\n[network  n]\n"), "network 'n' is there twice"},
        {PLAN("[network n]\naddress = 192.0.2.0/24\n"), "is not NETWORK/BITS -> NETWORK/BITS"},
        {PLAN("[network n]\naddress = 192.0.2.0/24 -> 198.51.100.0/25\n"),
         "not of the same kind and length"},
        {PLAN("[network n]\naddress = 192.0.2.0/24 -> fd00::/24\n"),
         "not of the same kind and length"},
        {PLAN("[network n]\naddress = 192.0.2.1/24 -> 198.51.100.0/24\n"),
         "bits behind the prefix are not zero"},
        {PLAN("[network n]\naddress = 192.0.2.0/33 -> 198.51.100.0/33\n"), "is not NETWORK/BITS"},
        {PLAN("[network n]\ngateway = 198.51.100.1\n"), "[network n] gateway: is of use only"},
        {PLAN("[network n]\naddress = 192.0.2.0/24 -> 198.51.100.0/24\ngateway = router\n"),
         "'router' is not an IPv4 or IPv6 address"},
        {PLAN("[network n]\ntarget = disconnected\naddress = 192.0.2.0/24 -> 198.51.100.0/24\n"),
         "a network that is disconnected has no addresses"},
        {PLAN("[vm a]\nmemory = lots\n"), "[vm a] memory: 'lots' is not a size"},
        {PLAN("[vm a]\nmemory = 4KiB\n"), "[vm a] memory: '4KiB' is not a size"},
        {PLAN("[vm a]\ncpus = 0\n"), "[vm a] cpus: '0' is not a whole number"},
        {PLAN("[vm a]\noptional = maybe\n"), "[vm a] optional: 'maybe' is not one of no, yes"},
        {PLAN("[vm a]\napart = a\n"), "'a' cannot be apart from 'a'"},
        {PLAN("[vm a]\napart = b\ntogether = b\n"), "'b' cannot be apart from 'a'"},
        {PLAN("[vm a]\naddress eth0 = 198.51.100.10\n"), "is not ADDRESS/BITS"},
        {PLAN("[vm a]\naddress = 198.51.100.10/24\n"), "[vm a] address: there is no such key"},
        {PLAN("[vm a]\nhook-timeout = 10s\n"), "is of use only beside `before`"},
        {PLAN("[vm a]\nbefore = x\nhook-timeout = 0s\n"), "'0s' is not a duration"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GError) error = NULL;

        unit_fails(
            recovery_plan_parse(wrong[i].text, strlen(wrong[i].text), "shop", "shop.plan", &error),
            error, ERROR_CONFIG, wrong[i].says);
    }
}
END_TEST

START_TEST(finds_plans_by_the_names_of_their_files)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *path = NULL;
    g_autofree char *bad = g_build_filename(dir, "bad.plan", NULL);
    g_autofree char *other = g_build_filename(dir, "other.txt", NULL);
    AUTO(recovery_plan) found = NULL;
    AUTO(recovery_plan) missing = NULL;
    AUTO(recovery_plan) outside = NULL;
    g_autoptr(GPtrArray) all = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(recovery_plan_write(dir, "shop", PLAN(""), &path, &error), error);
    unit_ok(file_write(other, "x", 1, 0600, &error), error);
    found = recovery_plan_find(dir, "shop", &error);
    unit_ok(found != NULL, error);
    ck_assert_str_eq(found->path, path);
    missing = recovery_plan_find(dir, "nothing", &error);
    unit_ok(missing != NULL, error);
    ck_assert_ptr_null(missing->path);
    ck_assert_str_eq(missing->vapps[0], "nothing");
    outside = recovery_plan_find(dir, "../shop", &error);
    unit_ok(outside != NULL, error);
    ck_assert_ptr_null(outside->path);
    all = recovery_plan_load_all(dir, &error);
    unit_ok(all != NULL, error);
    ck_assert_uint_eq(all->len, 1);
    unit_fails(recovery_plan_write(dir, "shop", PLAN(""), &path, &error), error, ERROR_CONFLICT,
               "exists already");
    unit_ok(file_write(bad, "[x]\n", 4, 0600, &error), error);
    unit_fails(recovery_plan_load_all(dir, &error), error, ERROR_CONFIG, "bad.plan: [x]");
}
END_TEST

/* ---- Addresses */

static void check_rule(const char *text, const char *from, const char *to)
{
    struct ip_rule rule;
    struct ip_prefix address, moved;
    const char *problem = NULL;
    g_autofree char *result = NULL;

    ck_assert_msg(ip_rule_parse(text, &rule, &problem), "%s: %s", text, problem);
    ck_assert(ip_prefix_parse(from, &address));
    ck_assert(ip_prefix_contains(&rule.from, &address));
    moved = ip_rule_apply(&rule, &address);
    result = ip_prefix_text(&moved);
    ck_assert_str_eq(result, to);
}

START_TEST(a_rule_keeps_the_host_part)
{
    struct ip_prefix network, v4, v6;

    check_rule("192.0.2.0/24 -> 198.51.100.0/24", "192.0.2.17/24", "198.51.100.17/24");
    check_rule("10.0.0.0/8->11.0.0.0/8", "10.1.2.3/16", "11.1.2.3/16");
    check_rule("10.1.128.0/17 -> 10.9.0.0/17", "10.1.200.7/17", "10.9.72.7/17");
    check_rule("192.0.2.5/32 -> 198.51.100.9/32", "192.0.2.5/24", "198.51.100.9/24");
    check_rule("fd00:1::/64 -> fd00:2::/64", "fd00:1::5:6/64", "fd00:2::5:6/64");
    ck_assert(ip_prefix_parse("192.0.2.0/24", &network) && ip_prefix_parse("192.0.3.1/24", &v4) &&
              ip_prefix_parse("fd00::1/64", &v6));
    ck_assert(!ip_prefix_contains(&network, &v4) && !ip_prefix_contains(&network, &v6));
}
END_TEST

/* ---- In a definition */

#define NIC(network, more)                                                                         \
    "<interface type='network'><source network='" network "' portgroup='blue'/>"                   \
    "<mac address='52:54:00:00:00:01'/><model type='virtio'/>" more "</interface>"

static struct fixture *planned_fixture(const char *text, const char *plan)
{
    struct fixture *fixture = fixture_new(text);

    fixture->plan = parsed(plan);
    adapt(fixture);
    return fixture;
}

START_TEST(a_nic_goes_to_the_network_that_the_plan_names)
{
    AUTO(fixture)
    fixture = planned_fixture(DOMAIN(NIC("far", "<vlan><tag id='42'/></vlan>")),
                              PLAN("[network far]\ntarget = prod\n"));

    assert_quiet(fixture);
    assert_at(fixture, "devices/interface/source/@network", "prod");
    assert_at(fixture, "devices/interface/mac/@address", "52:54:00:00:00:01");
    assert_at(fixture, "devices/interface/model/@type", "virtio");
    assert_gone(fixture, "devices/interface/source/@portgroup");
    assert_gone(fixture, "devices/interface/vlan");
}
END_TEST

START_TEST(a_bridge_of_the_definition_is_a_network_here_or_a_bridge)
{
    static const char text[] = DOMAIN("<interface type='bridge'><source bridge='br9'/>"
                                      "<mac address='52:54:00:00:00:01'/></interface>");
    AUTO(fixture) network = planned_fixture(text, PLAN("[network br9]\ntarget = prod\n"));
    AUTO(fixture) bridge = planned_fixture(text, PLAN("[network br9]\ntarget = lo\n"));

    assert_at(network, "devices/interface/@type", "network");
    assert_at(network, "devices/interface/source/@network", "prod");
    assert_gone(network, "devices/interface/source/@bridge");
    assert_at(bridge, "devices/interface/@type", "bridge");
    assert_at(bridge, "devices/interface/source/@bridge", "lo");
    assert_quiet(bridge);
}
END_TEST

START_TEST(a_network_that_is_disconnected_by_the_plan_is_no_surprise)
{
    AUTO(fixture)
    fixture =
        planned_fixture(DOMAIN(NIC("prod", "")), PLAN("[network prod]\ntarget = disconnected\n"));

    assert_quiet(fixture);
    assert_at(fixture, "devices/interface/link/@state", "down");
}
END_TEST

START_TEST(a_target_that_is_not_here_is_told_with_its_remedy)
{
    AUTO(fixture)
    fixture = planned_fixture(DOMAIN(NIC("far", "")), PLAN("[network far]\ntarget = gone\n"));

    assert_remark(fixture, "network gone does not exist here");
    assert_remark(fixture, REMEDY);
    assert_at(fixture, "devices/interface/link/@state", "down");
}
END_TEST

START_TEST(memory_and_cpus_are_those_of_the_plan)
{
    AUTO(fixture)
    fixture = planned_fixture(
        "<domain type='kvm'><name>db</name><memory unit='GiB'>8</memory>"
        "<currentMemory unit='GiB'>8</currentMemory><maxMemory slots='4' unit='GiB'>64</maxMemory>"
        "<vcpu current='4'>8</vcpu><cputune><shares>9</shares><vcpupin vcpu='5' cpuset='0'/>"
        "</cputune>" OS "<cpu><topology sockets='8' cores='1' threads='1'/></cpu><devices>" VDA
        "</devices></domain>",
        PLAN("[vm db]\nmemory = 1GiB\ncpus = 2\n"));

    assert_quiet(fixture);
    ck_assert_uint_eq(definition_memory_bytes(fixture->domain), UINT64_C(1) << 30);
    ck_assert_uint_eq(definition_cpus(fixture->domain), 2);
    assert_gone(fixture, "currentMemory");
    assert_gone(fixture, "maxMemory");
    assert_gone(fixture, "vcpu/@current");
    assert_gone(fixture, "cpu/topology");
    assert_gone(fixture, "cputune/vcpupin");
    assert_at(fixture, "cputune/shares", "9");
}
END_TEST

START_TEST(a_vm_with_numa_cells_keeps_its_size_and_that_is_told)
{
    AUTO(fixture)
    fixture = planned_fixture(HEAD OS "<cpu><numa><cell id='0' cpus='0-1' memory='2097152'/></numa>"
                                      "</cpu></domain>",
                              PLAN("[vm db]\nmemory = 1GiB\n"));

    assert_remark(fixture, "laid out in NUMA cells");
    ck_assert_uint_eq(definition_memory_bytes(fixture->domain), UINT64_C(2) << 30);
}
END_TEST

/* ---- Several vApps */

static struct vapp *vapp_of(const char *text)
{
    g_autoptr(GError) error = NULL;
    struct vapp *vapp = vapp_parse(text, strlen(text), "test", &error);

    unit_ok(vapp != NULL, error);
    return vapp;
}

static void free_vapp(void *vapp)
{
    vapp_free(vapp);
}

static GPtrArray *two_vapps(const char *second)
{
    GPtrArray *vapps = g_ptr_array_new_with_free_func(free_vapp);

    g_ptr_array_add(vapps, vapp_of("[vapp]\nname = one\n[vm a]\norder = 5\n[vm b]\norder = 7\n"
                                   "after = a\n"));
    g_ptr_array_add(vapps, vapp_of(second));
    return vapps;
}

START_TEST(the_vms_of_the_second_vapp_begin_behind_the_first)
{
    g_autoptr(GPtrArray) vapps =
        two_vapps("[vapp]\nname = two\n[vm d]\norder = 1\nafter = c\n[vm c]\n");
    g_autoptr(GError) error = NULL;
    AUTO(vapp) joined = vapp_join("both", vapps, &error);
    static const char *const names[] = {"a", "b", "c", "d"};
    static const unsigned orders[] = {5, 7, 8, 9};

    unit_ok(joined != NULL, error);
    ck_assert_str_eq(joined->name, "both");
    ck_assert_uint_eq(joined->vms->len, 4);
    for (unsigned i = 0; i < 4; i++) {
        const struct vapp_vm *vm = joined->vms->pdata[i];

        ck_assert_str_eq(vm->name, names[i]);
        ck_assert_uint_eq(vm->order, orders[i]);
    }
}
END_TEST

START_TEST(a_vm_of_two_vapps_is_refused)
{
    g_autoptr(GPtrArray) vapps = two_vapps("[vapp]\nname = two\n[vm b]\n");
    g_autoptr(GError) error = NULL;

    unit_fails(vapp_join("both", vapps, &error), error, ERROR_CONFIG,
               "VM 'b' of vApp 'two' is in another vApp");
}
END_TEST

START_TEST(what_is_after_a_vm_that_is_left_out_begins_without_it)
{
    AUTO(vapp) vapp = vapp_of("[vapp]\nname = one\n[vm a]\n[vm b]\n[vm c]\nafter = a; b\n");
    const struct vapp_vm *last;

    vapp_remove(vapp, "a");
    ck_assert_uint_eq(vapp->vms->len, 2);
    last = vapp_vm(vapp, "c");
    ck_assert_str_eq(last->after[0], "b");
    ck_assert_ptr_null(last->after[1]);
}
END_TEST

int main(void)
{
    return UNIT_RUN("recovery-plan", reads_all_that_the_manual_has,
                    refuses_what_is_wrong_and_names_it, finds_plans_by_the_names_of_their_files,
                    a_rule_keeps_the_host_part, a_nic_goes_to_the_network_that_the_plan_names,
                    a_bridge_of_the_definition_is_a_network_here_or_a_bridge,
                    a_network_that_is_disconnected_by_the_plan_is_no_surprise,
                    a_target_that_is_not_here_is_told_with_its_remedy,
                    memory_and_cpus_are_those_of_the_plan,
                    a_vm_with_numa_cells_keeps_its_size_and_that_is_told,
                    the_vms_of_the_second_vapp_begin_behind_the_first, a_vm_of_two_vapps_is_refused,
                    what_is_after_a_vm_that_is_left_out_begins_without_it);
}
