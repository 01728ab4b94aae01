/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of definitions that are rewritten: definitions as libvirt dumps them, on their way to a host
 * that needs no libvirt. */
#pragma once

#include "restore/recovery-plan.h"
#include "restore/rewrite.h"
#include "tests/rewrite-host.h"
#include "tests/unit.h"

#define HEAD                                                                                       \
    "<domain type='kvm'><name>db</name><uuid>11111111-2222-3333-4444-555555555555</uuid>"          \
    "<memory unit='KiB'>2097152</memory><vcpu placement='static'>2</vcpu>"
#define OS "<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>"
#define VDA                                                                                        \
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none' "               \
    "discard='unmap'/><source file='/nowhere/db.qcow2'/><target dev='vda' bus='virtio'/>"          \
    "<address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/></disk>"
#define COPY_UUID "99999999-2222-3333-4444-555555555555"
#define DOMAIN(devices) HEAD OS "<devices>" VDA devices "</devices></domain>"

/* One definition on its way. */
struct fixture {
    struct xml *xml;
    struct xml_node *domain;
    struct manifest *manifest;
    struct platform *platform;
    struct findings *findings;
    GPtrArray *lost;
    struct recovery_plan *plan; /* or NULL */
    struct xml *before;         /* definition of the VM when it ran here before, or NULL */
};

G_GNUC_UNUSED static inline void fixture_free(struct fixture *fixture)
{
    xml_free(fixture->xml);
    manifest_free(fixture->manifest);
    platform_free(fixture->platform);
    findings_free(fixture->findings);
    recovery_plan_free(fixture->plan);
    xml_free(fixture->before);
    g_clear_pointer(&fixture->lost, g_ptr_array_unref);
    g_free(fixture);
}
DEFINE_CLEANUP(fixture)

G_GNUC_UNUSED static inline struct xml *parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    struct xml *xml = xml_parse(text, "test", &error);

    unit_ok(xml != NULL, error);
    return xml;
}

/* TEXT and a point that has disks vda and sda. */
G_GNUC_UNUSED static inline struct fixture *fixture_new(const char *text)
{
    struct fixture *fixture = g_new0(struct fixture, 1);

    fixture->xml = definition_parse(text, "test", NULL);
    ck_assert_ptr_nonnull(fixture->xml);
    fixture->domain = xml_root(fixture->xml);
    fixture->manifest = manifest_new();
    manifest_add_disk(fixture->manifest, "vda");
    manifest_add_disk(fixture->manifest, "sda");
    fixture->findings = findings_new();
    fixture->platform = rewrite_host();
    return fixture;
}

G_GNUC_UNUSED static inline void adapt(struct fixture *fixture)
{
    struct rewrite rewrite = {.domain = fixture->domain,
                              .manifest = fixture->manifest,
                              .platform = fixture->platform,
                              .findings = fixture->findings,
                              .lost = fixture->lost,
                              .plan = fixture->plan,
                              .before = fixture->before ? xml_root(fixture->before) : NULL,
                              .vm = "db"};

    rewrite_adapt(&rewrite);
}

G_GNUC_UNUSED static inline struct fixture *adapted(const char *text)
{
    struct fixture *fixture = fixture_new(text);

    adapt(fixture);
    return fixture;
}

G_GNUC_UNUSED static inline bool contains(const GPtrArray *texts, const char *part)
{
    for (unsigned i = 0; i < texts->len; i++)
        if (strstr(texts->pdata[i], part))
            return true;
    return false;
}

#define assert_at(fixture, xpath, expected)                                                        \
    do {                                                                                           \
        g_autofree char *at_value = xml_string((fixture)->domain, (xpath));                        \
        ck_assert_msg(g_strcmp0(at_value, (expected)) == 0, "%s is %s", (xpath),                   \
                      at_value ? at_value : "not there");                                          \
    } while (0)
#define assert_gone(fixture, xpath) ck_assert_ptr_null(xml_find((fixture)->domain, (xpath)))
#define assert_remark(fixture, part)                                                               \
    ck_assert_msg(contains((fixture)->findings->remarks, (part)), "no remark: %s", (part))
#define assert_block(fixture, part)                                                                \
    ck_assert_msg(contains((fixture)->findings->blockers, (part)), "no blocker: %s", (part))
#define assert_quiet(fixture)                                                                      \
    do {                                                                                           \
        ck_assert_uint_eq((fixture)->findings->remarks->len, 0);                                   \
        ck_assert_uint_eq((fixture)->findings->blockers->len, 0);                                  \
    } while (0)
