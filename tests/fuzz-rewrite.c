/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of the definition of a VM that another site sends, from domain.xml to what libvirt is
 * given. The first byte of the input says for what it is made ready:
 *
 *     'f'  a failover: the VM itself
 *     'c'  a copy beside the original
 *
 * What is looked at afterwards is found as libvirt finds it: attributes by their names, whatever their
 * namespace.
 */
#include <string.h>

#include "restore/rewrite.h"
#include "tests/fuzz.h"
#include "tests/rewrite-host.h"

#define VM_NAME "db"
#define VM_UUID "11111111-2222-3333-4444-555555555555"
#define VM_IMAGES "/images/db.r-1/"

static const char *const chain[] = {"/s/vms/u/p2/vda.qcow2", "/s/vms/u/p1/vda.qcow2", NULL};
static const struct placement_disk disks[] = {{"vda", VM_IMAGES "vda.qcow2", chain},
                                              {"sda", VM_IMAGES "sda.qcow2", NULL}};

static bool is_here(const char *path)
{
    return g_file_test(path, G_FILE_TEST_EXISTS);
}

static void require_none(const struct xml_node *domain, const char *xpath)
{
    if (xml_find(domain, xpath))
        fuzz_fail("there is %s", xpath);
}

static void require_text(const struct xml_node *domain, const char *xpath, const char *expected)
{
    g_autofree char *found = xml_string(domain, xpath);

    if (g_strcmp0(found, expected) != 0)
        fuzz_fail("%s is %s", xpath, found);
}

/* All attributes NAME of NODE, of whatever namespace, fulfil IS_GOOD. */
static void require_attrs(const struct xml_node *node, const char *name,
                          bool (*is_good)(const char *))
{
    g_autofree char *count_xpath = g_strdup_printf("string(count(@*[local-name()='%s']))", name);
    g_autofree char *count = xml_string(node, count_xpath);
    unsigned n = (unsigned)g_ascii_strtoull(count, NULL, 10);

    for (unsigned i = 1; i <= n; i++) {
        g_autofree char *xpath = g_strdup_printf("string(@*[local-name()='%s'][%u])", name, i);
        g_autofree char *value = xml_string(node, xpath);

        if (!is_good(value))
            fuzz_fail("%s is %s", name, value);
    }
}

static void require_all(const struct xml_node *domain, const char *xpath, const char *name,
                        bool (*is_good)(const char *))
{
    g_autoptr(GPtrArray) nodes = xml_find_all(domain, xpath);

    for (unsigned i = 0; i < nodes->len; i++)
        require_attrs(nodes->pdata[i], name, is_good);
}

static bool is_ours_or_here(const char *path)
{
    return g_str_has_prefix(path, VM_IMAGES) || is_here(path);
}

/* Nothing is there that QEMU would write over. */
static bool is_new(const char *path)
{
    g_autofree char *parent = g_path_get_dirname(path);

    return !is_here(path) && is_here(parent);
}

static void check_devices(const struct xml_node *domain)
{
    require_none(domain, "devices/hostdev");
    require_all(domain, "devices/disk/source", "file", is_ours_or_here);
    require_all(domain, "devices/disk/source", "dev", is_ours_or_here);
    require_all(domain, "devices//source[../@*[local-name()='type']='file' and not(parent::disk)]",
                "path", is_new);
    require_all(domain,
                "devices//source[../@*[local-name()='type']='unix' and not(parent::interface)]",
                "path", is_new);
    require_all(domain, "devices//log", "file", is_new);
}

/* It is found again, as itself. */
static void check_identity(const struct xml_node *domain, const char *text, const char *name,
                           const char *uuid)
{
    struct recovered mark;

    require_text(domain, "name", name);
    require_text(domain, "uuid", uuid);
    require_none(domain, "metadata/*[namespace-uri()='" RECOVERED_NAMESPACE "'][2]");
    fuzz_require(recovered_read(text, &mark));
    fuzz_require(strcmp(mark.vm, VM_UUID) == 0 && strcmp(mark.run, "r-1") == 0);
    recovered_clear(&mark);
}

static void place(struct xml_node *domain)
{
    struct recovered origin = {(char *)"dc1", (char *)VM_UUID, (char *)"20261120T221500.123Z",
                               (char *)"r-1"};
    struct placement placement = {disks, G_N_ELEMENTS(disks), VM_IMAGES "nvram.fd", true, &origin};

    rewrite_place(domain, &placement);
}

static void check(struct xml *xml, const char *name, const char *uuid)
{
    g_autofree char *text = NULL;
    AUTO(xml) again = NULL;

    place(xml_root(xml));
    text = xml_dump(xml);
    again = xml_parse(text, "what was made of it", NULL);
    fuzz_require(again != NULL);
    check_devices(xml_root(again));
    check_identity(xml_root(again), text, name, uuid);
    definition_memory_bytes(xml_root(again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct platform *platform;
    bool as_copy = len > 0 && data[0] == 'c';
    const char *name = as_copy ? "copy" : VM_NAME;
    const char *uuid = as_copy ? "aaaaaaaa-2222-3333-4444-555555555555" : VM_UUID;
    g_autofree char *text = g_strndup((const char *)data + 1, len > 0 ? len - 1 : 0);
    AUTO(xml) xml = definition_parse(text, "domain.xml", NULL);
    AUTO(manifest) manifest = manifest_new();
    AUTO(findings) findings = findings_new();
    struct rewrite rewrite;

    if (!xml)
        return 0;
    if (!platform)
        platform = rewrite_host();
    for (unsigned i = 0; i < G_N_ELEMENTS(disks); i++)
        manifest_add_disk(manifest, disks[i].target);
    rewrite = (struct rewrite){
        .domain = xml_root(xml), .manifest = manifest, .platform = platform, .findings = findings};
    if (as_copy)
        rewrite_rename(xml_root(xml), name, uuid, findings);
    rewrite_adapt(&rewrite);
    rewrite_identify(xml_root(xml), name, uuid);
    check(xml, name, uuid);
    return 0;
}
