/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/rewrite.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct xml *definition_parse(const char *text, const char *what, GError **error)
{
    AUTO(xml) xml = xml_parse(text, what, error);
    struct xml_node *domain = xml ? xml_find(xml_root(xml), "/domain") : NULL;
    g_autoptr(GPtrArray) ours = NULL;

    if (!xml)
        return NULL;
    if (!domain) {
        fail(error, ERROR_INTEGRITY, "%s does not define a VM: it has no <domain>", what);
        return NULL;
    }
    ours = xml_find_all(domain, "*[namespace-uri()='' and not(self::metadata)]");
    xml_remove_foreign_attrs(domain);
    for (unsigned i = 0; i < ours->len; i++)
        xml_remove_foreign(ours->pdata[i]);
    return g_steal_pointer(&xml);
}

static void remove_all(const struct xml_node *from, const char *xpath)
{
    g_autoptr(GPtrArray) nodes = xml_find_all(from, xpath);

    for (unsigned i = 0; i < nodes->len; i++)
        xml_remove(nodes->pdata[i]);
}

uint64_t definition_memory_bytes(const struct xml_node *domain)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } units[] = {
        {"b", 1},       {"bytes", 1},     {"KiB", 1 << 10}, {"k", 1 << 10},      {"MiB", 1 << 20},
        {"M", 1 << 20}, {"GiB", 1 << 30}, {"G", 1 << 30},   {"TiB", 1ull << 40}, {"T", 1ull << 40}};
    g_autofree char *text = xml_string(domain, "memory/text()");
    g_autofree char *unit = xml_string(domain, "memory/@unit");
    uint64_t value = text ? g_ascii_strtoull(text, NULL, 10) : 0;

    for (unsigned i = 0; unit && i < G_N_ELEMENTS(units); i++)
        if (strcmp(units[i].name, unit) == 0)
            return value * units[i].bytes;
    return value << 10;
}

unsigned definition_cpus(const struct xml_node *domain)
{
    g_autofree char *text = xml_string(domain, "vcpu/text()");
    unsigned count = text ? (unsigned)MIN(g_ascii_strtoull(text, NULL, 10), 1u << 16) : 0;

    return MAX(count, 1);
}

/* ---- What runs it */

/* Machines that a distribution named after itself ("pc-q35-jammy", "pc-i440fx-rhel7.6.0") exist
 * nowhere else; the generic one is the nearest. */
static const char *machine_fallback(const char *machine)
{
    if (g_str_has_prefix(machine, "pc-q35-") && !g_ascii_isdigit(machine[7]))
        return "q35";
    if (g_str_has_prefix(machine, "pc-i440fx-") && !g_ascii_isdigit(machine[10]))
        return "pc";
    return NULL;
}

static void adapt_machine(const struct rewrite *rewrite, const char *arch)
{
    struct xml_node *type = xml_find(rewrite->domain, "os/type");
    g_autofree char *machine = type ? xml_attr(type, "machine") : NULL;
    const char *fallback;

    if (!machine || platform_has_machine(rewrite->platform, arch, machine))
        return;
    fallback = machine_fallback(machine);
    if (!fallback || !platform_has_machine(rewrite->platform, arch, fallback)) {
        block(rewrite->findings,
              "machine type %s is not known here" REMEDY
              "install a QEMU that has it, or `drctl restore "
              "--to-dir` and define its domain.xml by hand with another machine",
              machine);
        return;
    }
    xml_set_attr(type, "machine", fallback);
    remark(rewrite->findings,
           "machine type %s is another distribution's: %s of this host takes its place" REMEDY
           "see once that it boots",
           machine, fallback);
}

static void adapt_type(const struct rewrite *rewrite, const char *arch)
{
    g_autofree char *type = xml_attr(rewrite->domain, "type");

    if (!type || platform_has_virt_type(rewrite->platform, arch, type))
        return;
    if (strcmp(type, "kvm") == 0)
        block(rewrite->findings, "it needs KVM, which this host does not offer" REMEDY
                                 "enable virtualisation in the firmware and load the kvm module");
    else
        block(rewrite->findings,
              "it is a guest of type %s, which this host does not run" REMEDY
              "recover it at a host that does",
              type);
}

/* The emulator's path is where the other host had it. */
static void adapt_emulator(const struct rewrite *rewrite)
{
    g_autofree char *arch = xml_string(rewrite->domain, "os/type/@arch");
    g_autofree char *emulator = NULL;
    struct xml_node *node = xml_find(rewrite->domain, "devices/emulator");

    if (!arch)
        return;
    emulator = platform_emulator(rewrite->platform, arch);
    if (!emulator) {
        block(rewrite->findings,
              "this host has no emulator for %s guests" REMEDY "install it (Debian: qemu-system)",
              arch);
        return;
    }
    if (node)
        xml_set_text(node, emulator);
    adapt_machine(rewrite, arch);
    adapt_type(rewrite, arch);
}

/* libvirt refuses to start a guest whose CPU model this host cannot provide, unless it may choose
 * another one. */
static void adapt_cpu(const struct rewrite *rewrite)
{
    const struct xml *support = rewrite->platform->domain_support;
    struct xml_node *model = xml_find(rewrite->domain, "cpu[@mode='custom' or not(@mode)]/model");
    g_autofree char *wanted = model ? xml_string(model, "text()") : NULL;
    g_autofree char *fallback = model ? xml_attr(model, "fallback") : NULL;
    g_autofree char *check = xml_string(rewrite->domain, "cpu/@check");
    g_autoptr(GPtrArray) known = NULL;

    if (!support || !wanted || g_strcmp0(fallback, "allow") == 0 || g_strcmp0(check, "none") == 0)
        return;
    known = xml_find_all(xml_root(support), "cpu/mode[@name='custom']/model");
    for (unsigned i = 0; i < known->len; i++) {
        g_autofree char *name = xml_string(known->pdata[i], "text()");
        g_autofree char *usable = xml_attr(known->pdata[i], "usable");

        if (g_strcmp0(name, wanted) == 0 && g_strcmp0(usable, "no") != 0)
            return;
    }
    if (known->len > 0)
        block(rewrite->findings,
              "this host cannot provide the CPU model %s" REMEDY
              "recover it at another host, or `drctl restore --to-dir` and define its domain.xml "
              "by hand with another model",
              wanted);
}

/* The highest number in a set such as "0-3,^1,8". */
static unsigned highest(const char *set)
{
    unsigned max = 0;

    while (*set) {
        char *end = (char *)set + 1;

        /* strtoul() would take the range's dash for a sign. */
        if (g_ascii_isdigit(*set))
            max = MAX(max, (unsigned)MIN(strtoul(set, &end, 10), 1u << 20));
        set = end;
    }
    return max;
}

/* Does any attribute at XPATH name something of this host that it has not? */
static bool exceeds(const struct rewrite *rewrite, const char *xpath, const char *attribute,
                    unsigned available)
{
    g_autoptr(GPtrArray) nodes = xml_find_all(rewrite->domain, xpath);

    for (unsigned i = 0; available > 0 && i < nodes->len; i++) {
        g_autofree char *set = xml_attr(nodes->pdata[i], attribute);

        if (set && highest(set) >= available)
            return true;
    }
    return false;
}

static void adapt_placement(const struct rewrite *rewrite)
{
    unsigned cpus = platform_cpus(rewrite->platform);
    unsigned nodes = platform_numa_nodes(rewrite->platform);
    struct xml_node *vcpu = xml_find(rewrite->domain, "vcpu");

    if (exceeds(rewrite, "vcpu | cputune/*", "cpuset", cpus)) {
        if (vcpu)
            xml_set_attr(vcpu, "cpuset", NULL);
        remove_all(rewrite->domain, "cputune/*[@cpuset]");
        remark(rewrite->findings,
               "it is pinned to CPUs that this host does not have (it has %u): not pinned", cpus);
    }
    if (exceeds(rewrite, "numatune/*", "nodeset", nodes)) {
        remove_all(rewrite->domain, "numatune");
        remark(rewrite->findings,
               "it is bound to NUMA nodes that this host does not have (it has %u): not bound",
               nodes);
    }
}

static void check_capacity(const struct rewrite *rewrite)
{
    unsigned cpus = platform_cpus(rewrite->platform);
    unsigned vcpus = definition_cpus(rewrite->domain);

    if (cpus > 0 && vcpus > cpus)
        remark(rewrite->findings,
               "it has %u CPUs, more than this host (%u): it will be slow" REMEDY
               "give it less: `cpus` of the VM in the recovery plan",
               vcpus, cpus);
}

/* ---- How it boots */

static bool is_here(const char *path)
{
    return g_file_test(path, G_FILE_TEST_EXISTS);
}

/* Newer libvirts write down what they chose for <os firmware='efi'>; older ones refuse to be told
 * both the choice and its result. */
static void adapt_firmware_choice(const struct rewrite *rewrite, const char *path)
{
    struct xml_node *os = xml_find(rewrite->domain, "os");

    if (is_here(path)) {
        xml_set_attr(os, "firmware", NULL);
        remove_all(os, "firmware");
        return;
    }
    remove_all(os, "loader");
    remark(rewrite->findings, "firmware %s is not here: libvirt chooses one", path);
}

static void adapt_firmware(const struct rewrite *rewrite)
{
    struct xml_node *loader = xml_find(rewrite->domain, "os/loader");
    struct xml_node *nvram = xml_find(rewrite->domain, "os/nvram");
    g_autofree char *path = loader ? xml_string(loader, "text()") : NULL;
    g_autofree char *template = nvram ? xml_attr(nvram, "template") : NULL;

    if (template && (!is_here(template) || (path && !is_here(path))))
        xml_set_attr(nvram, "template", NULL);
    if (path && xml_find(rewrite->domain, "os[@firmware]"))
        adapt_firmware_choice(rewrite, path);
    else if (path && !is_here(path))
        block(rewrite->findings,
              "firmware %s is not here" REMEDY "install it (Debian: ovmf), or put that file there",
              path);
}

static void check_kernel(const struct rewrite *rewrite)
{
    g_autoptr(GPtrArray) nodes = xml_find_all(rewrite->domain, "os/kernel | os/initrd | os/dtb");

    for (unsigned i = 0; i < nodes->len; i++) {
        g_autofree char *path = xml_string(nodes->pdata[i], "text()");

        if (path && !is_here(path))
            block(rewrite->findings, "its %s %s is not here" REMEDY "copy it there",
                  xml_name(nodes->pdata[i]), path);
    }
}

/* ---- What belongs to the host it ran at */

static void drop_security_labels(const struct rewrite *rewrite)
{
    g_autoptr(GPtrArray) labels = xml_find_all(rewrite->domain, "seclabel");

    for (unsigned i = 0; i < labels->len; i++) {
        g_autofree char *type = xml_attr(labels->pdata[i], "type");
        g_autofree char *model = xml_attr(labels->pdata[i], "model");

        if (g_strcmp0(type, "dynamic") == 0 ||
            (model && !platform_has_secmodel(rewrite->platform, model)))
            xml_remove(labels->pdata[i]);
    }
}

/* A generation id that differs tells the guest that it is not where it was (Microsoft's VM
 * generation id, ACPI VMGENID): it makes new random seeds and leaves clusters that it was in. */
static void renew_generation(const struct xml_node *domain)
{
    struct xml_node *genid = xml_find(domain, "genid");
    g_autofree char *uuid = g_uuid_string_random();

    if (genid)
        xml_set_text(genid, uuid);
}

static void drop_partition(const struct rewrite *rewrite)
{
    g_autofree char *partition = xml_string(rewrite->domain, "resource/partition/text()");

    if (!partition || strcmp(partition, "/machine") == 0)
        return;
    remove_all(rewrite->domain, "resource");
    remark(rewrite->findings, "resource partition %s: the default one takes its place", partition);
}

static void check_arguments(const struct rewrite *rewrite)
{
    if (xml_find(rewrite->domain, "*[local-name()='commandline']"))
        remark(
            rewrite->findings,
            "its own QEMU arguments (qemu:commandline) are kept: what they name must exist here");
}

void rewrite_adapt(const struct rewrite *rewrite)
{
    remove_all(rewrite->domain, "metadata/*[namespace-uri()='" RECOVERED_NAMESPACE "']");
    xml_set_attr(rewrite->domain, "id", NULL);
    rewrite_plan(rewrite);
    adapt_emulator(rewrite);
    adapt_cpu(rewrite);
    adapt_placement(rewrite);
    check_capacity(rewrite);
    adapt_firmware(rewrite);
    check_kernel(rewrite);
    drop_security_labels(rewrite);
    drop_partition(rewrite);
    renew_generation(rewrite->domain);
    rewrite_disks(rewrite);
    rewrite_devices(rewrite);
    check_arguments(rewrite);
}

/* ---- Who it is */

void rewrite_identify(struct xml_node *domain, const char *name, const char *uuid)
{
    xml_set_text(xml_child(domain, "name"), name);
    xml_set_text(xml_child(domain, "uuid"), uuid);
}

void recovered_clear(struct recovered *recovered)
{
    g_clear_pointer(&recovered->site, g_free);
    g_clear_pointer(&recovered->vm, g_free);
    g_clear_pointer(&recovered->point, g_free);
    g_clear_pointer(&recovered->run, g_free);
}

bool recovered_read(const char *domain_xml, struct recovered *recovered)
{
    AUTO(xml) xml = xml_parse(domain_xml, "domain definition", NULL);
    struct xml_node *mark = NULL;

    if (xml)
        mark = xml_find(xml_root(xml), "metadata/*[namespace-uri()='" RECOVERED_NAMESPACE
                                       "' and local-name()='recovered']");
    if (!mark)
        return false;
    *recovered = (struct recovered){
        .site = xml_attr(mark, "site"),
        .vm = xml_attr(mark, "vm"),
        .point = xml_attr(mark, "point"),
        .run = xml_attr(mark, "run"),
    };
    if (recovered->site && recovered->vm && recovered->point && recovered->run)
        return true;
    recovered_clear(recovered);
    return false;
}
