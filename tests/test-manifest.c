/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include <inttypes.h>

#include "metadata/metadata.h"

#define UUID "9b3f7c1e-2a4d-4e5f-8a6b-0c1d2e3f4a5b"
#define BASE "20261120T221000.000Z"
#define OLDER "20261119T221000.000Z"
#define POINT "20261120T221500.123Z"
#define TIME_MS INT64_C(1795213700123)

static void add_disk(struct manifest *manifest, const char *target, const char *base)
{
    struct manifest_disk *disk = manifest_add_disk(manifest, target);

    disk->base = g_strdup(base);
    disk->virtual_bytes = (10 << 20) + 512;
    disk->changed_bytes = 3 << 16;
    disk->stored_bytes = 200000;
    manifest_add_file(manifest, disk->file, disk->stored_bytes);
    manifest_add_file(manifest, disk->digests, 120);
}

static struct manifest *sample(void)
{
    struct manifest *manifest = manifest_new();

    manifest->vm = g_strdup("db \xc3\xa4");
    manifest->uuid = g_strdup(UUID);
    manifest->point = g_strdup(POINT);
    manifest->time_ms = TIME_MS;
    manifest->site = g_strdup("dc1");
    manifest->consistency = CONSISTENCY_FILESYSTEM;
    manifest->base = g_strdup(BASE);
    manifest->checkpoint = g_strdup("drctl-1a2b3c4d-" POINT "-99");
    manifest->reason = g_strdup("dirty bitmap since the last point");
    manifest->label = g_strdup(MANIFEST_DIVERGED);
    add_disk(manifest, "vda", BASE);
    add_disk(manifest, "vdb", OLDER);
    add_disk(manifest, "vdc", NULL);
    manifest_add_file(manifest, "domain.xml", 4000);
    return manifest;
}

static struct manifest *parse(const char *text, GError **error)
{
    return manifest_parse(text, strlen(text), "manifest of db", error);
}

START_TEST(what_is_written_is_read)
{
    AUTO(manifest) manifest = sample();
    g_autofree char *text = manifest_text(manifest);
    g_autofree char *dir = unit_dir();
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    g_autoptr(GError) error = NULL;
    g_autofree char *again = NULL;
    AUTO(manifest) copy = NULL;

    unit_ok(file_write(path, text, strlen(text), 0644, &error), error);
    copy = manifest_load(path, &error);
    unit_ok(copy, error);
    again = manifest_text(copy);
    ck_assert_str_eq(text, again);
    ck_assert_int_eq(copy->time_ms, TIME_MS);
    ck_assert_str_eq(copy->label, "diverged");
    ck_assert_int_eq(copy->consistency, CONSISTENCY_FILESYSTEM);
    ck_assert_uint_eq(copy->disks->len, 3);
    ck_assert_str_eq(manifest_disk(copy, "vdb")->base, OLDER);
    ck_assert_ptr_null(manifest_disk(copy, "vdc")->base);
    ck_assert_ptr_null(manifest_disk(copy, "vdd"));
    ck_assert_uint_eq(manifest_file(copy, "domain.xml")->bytes, 4000);
    ck_assert_ptr_null(manifest_file(copy, "nvram.fd"));
    ck_assert_uint_eq(manifest_changed_bytes(copy), 9 << 16);
    ck_assert_uint_eq(manifest_stored_bytes(copy), 600000);
}
END_TEST

START_TEST(a_group_and_a_base_of_another_vm_are_read)
{
    AUTO(manifest) manifest = sample();
    struct manifest_disk *disk = manifest->disks->pdata[0];
    g_autofree char *same = manifest_backing_name(disk);
    g_autofree char *text = NULL;
    g_autofree char *name = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(manifest) copy = NULL;

    ck_assert_str_eq(same, "../" BASE "/vda.qcow2");
    ck_assert_str_eq(manifest_base_vm(manifest, disk), UUID);
    disk->base_vm = g_strdup("0b3f7c1e-2a4d-4e5f-8a6b-0c1d2e3f4a5b");
    disk->base_target = g_strdup("sdx");
    manifest->consistency = CONSISTENCY_GROUP_FILESYSTEM;
    manifest->group = g_strdup(POINT);
    manifest->group_members = 3;
    manifest->group_skew_ms = 12;
    text = manifest_text(manifest);
    unit_ok(copy = parse(text, &error), error);
    disk = copy->disks->pdata[0];
    name = manifest_backing_name(disk);
    ck_assert_str_eq(name, "../../0b3f7c1e-2a4d-4e5f-8a6b-0c1d2e3f4a5b/" BASE "/sdx.qcow2");
    ck_assert_str_eq(manifest_base_vm(copy, disk), "0b3f7c1e-2a4d-4e5f-8a6b-0c1d2e3f4a5b");
    ck_assert_int_eq(copy->consistency, CONSISTENCY_GROUP_FILESYSTEM);
    ck_assert_str_eq(copy->group, POINT);
    ck_assert_uint_eq(copy->group_members, 3);
    ck_assert_uint_eq(copy->group_skew_ms, 12);
}
END_TEST

START_TEST(a_full_point_without_a_checkpoint_is_read)
{
    AUTO(manifest) manifest = manifest_new();
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    AUTO(manifest) copy = NULL;

    manifest->vm = g_strdup("db");
    manifest->uuid = g_strdup(UUID);
    manifest->point = g_strdup(POINT);
    manifest->site = g_strdup("dc1");
    add_disk(manifest, "vda", NULL);
    text = manifest_text(manifest);
    copy = parse(text, &error);
    unit_ok(copy, error);
    ck_assert(!copy->base && !copy->checkpoint && !copy->reason);
}
END_TEST

START_TEST(a_reason_of_several_lines_becomes_one)
{
    AUTO(manifest) manifest = sample();
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    AUTO(manifest) copy = NULL;

    g_free(manifest->reason);
    manifest->reason = g_strdup("bitmap lost:\nqemu \x1b[31msaid \xff");
    text = manifest_text(manifest);
    copy = parse(text, &error);
    unit_ok(copy, error);
    ck_assert_str_eq(copy->reason, "bitmap lost: qemu  [31msaid \xef\xbf\xbd");
}
END_TEST

START_TEST(the_summary_has_the_documented_keys)
{
    AUTO(manifest) manifest = sample();
    json_auto_t *json = manifest_summary(manifest, "/srv/store/vms/x");
    g_autofree char *text = json_text(json, 0);

    ck_assert(g_str_has_prefix(
        text,
        "{\"vm\":\"db \xc3\xa4\",\"uuid\":\"" UUID "\",\"point\":\"" POINT
        "\",\"time\":\"2026-11-20T22:28:20.123Z\",\"consistency\":\"filesystem\",\"base\":"
        "\"" BASE
        "\",\"label\":\"diverged\",\"path\":\"/srv/store/vms/x\",\"disks\":[{\"target\":\"vda\","
        "\"base\":\"" BASE "\",\"base_vm\":\"" UUID "\",\"base_target\":\"vda\","
        "\"virtual_bytes\":10486272,\"changed_bytes\":196608,\"stored_bytes\":200000},"));
}
END_TEST

/* TEXT with its first OLD replaced. */
static char *replace(const char *text, const char *old, const char *new)
{
    const char *at = strstr(text, old);

    ck_assert_msg(at != NULL, "the sample has no %s", old);
    return g_strdup_printf("%.*s%s%s", (int)(at - text), text, new, at + strlen(old));
}

START_TEST(refuses_every_lie)
{
    static const struct {
        const char *old, *new, *message;
    } lies[] = {
        {"\"format\": 1", "\"format\": 2", "is of format 2"},
        {"\"format\": 1,", "", "\"format\" is missing"},
        {"\"vm\":", "\"wm\":", "\"wm\" is not a key of format 1"},
        {"\"vm\": \"db \xc3\xa4\"", "\"vm\": \"\"", "\"vm\" is not"},
        {"\"vm\": \"db \xc3\xa4\"", "\"vm\": \"a/b\"", "\"vm\" is not"},
        {"\"vm\": \"db \xc3\xa4\"", "\"vm\": \"a\\u001bb\"", "\"vm\" is not"},
        {"\"vm\": \"db \xc3\xa4\"", "\"vm\": \"a\\u009bb\"", "\"vm\" is not"},
        {"\"vm\": \"db \xc3\xa4\"", "\"vm\": 7", "\"vm\" is not a string"},
        {UUID, "9B3F7C1E-2A4D-4E5F-8A6B-0C1D2E3F4A5B", "\"uuid\" is"},
        {UUID, "../../etc", "\"uuid\" is '../../etc'"},
        {"\"point\": \"" POINT, "\"point\": \"../x", "\"point\" is '../x'"},
        {"\"point\": \"" POINT, "\"point\": \"20261320T221500.123Z", "\"point\" is"},
        {"\"point\": \"" POINT, "\"point\": \"" BASE, "is not older than the point"},
        {"2026-11-20T22:28:20.123Z", "yesterday", "\"time\" is 'yesterday'"},
        {"\"dc1\"", "\"DC1\"", "\"site\" is 'DC1'"},
        {"\"filesystem\"", "\"perfect\"", "\"consistency\" is 'perfect'"},
        {"\"filesystem\"", "\"group-crash\"", "is group-crash, and \"group\" is missing"},
        {"\"filesystem\"", "\"crash\", \"group\": {\"id\": \"x\", \"members\": 1, \"skew_ms\": 0}",
         "is crash, and \"group\" is there"},
        {"\"filesystem\"",
         "\"group-crash\", \"group\": {\"id\": \"x\", \"members\": 1, \"skew_ms\": 0}",
         "\"group\" is 'x', not an id"},
        {"\"filesystem\"",
         "\"group-crash\", \"group\": {\"id\": \"" POINT "\", \"members\": 0, \"skew_ms\": 0}",
         "\"group\" has no members"},
        {"\"filesystem\"", "\"group-crash\", \"group\": {\"id\": \"" POINT "\", \"vms\": 0}",
         "\"group\": \"vms\" is not a key"},
        {"\"base\": \"" OLDER "\"", "\"base\": \"" OLDER "\", \"base_vm\": \"" UUID "\"",
         "is not the UUID of another VM"},
        {"\"base\": \"" OLDER "\"", "\"base\": \"" OLDER "\", \"base_vm\": \"..\"",
         "is not the UUID of another VM"},
        {"\"base\": \"" OLDER "\"", "\"base\": \"" OLDER "\", \"base_target\": \"../x\"",
         "base_target '../x' is an unsafe name"},
        {"\"base\": null,\n", "\"base\": null, \"base_target\": \"vda\",\n", "half a base"},
        {"\"base\": \"" BASE, "\"base\": \"" OLDER, "the newest base of a disk is " BASE},
        {"\"base\": \"" BASE "\"", "\"base\": null", "\"base\" is null, but"},
        {"\"base\": \"" BASE "\"", "\"base\": false", "\"base\" is not a string"},
        {"drctl-1a2b", "../drctl", "\"checkpoint\" is not a safe name"},
        {"dirty bitmap", "dirty\\nbitmap", "\"reason\" is not one line"},
        {"\"target\": \"vda\"", "\"target\": \"../vda\"", "disk '../vda' has an unsafe name"},
        {"\"target\": \"vda\"", "\"target\": \"vdb\"", "disk vdb is there twice"},
        {"\"file\": \"vda.qcow2\"", "\"file\": \"vde.qcow2\"", "vde.qcow2 is not among the files"},
        {"\"digests\": \"vda.digests\"", "\"digests\": \"x\"", "x is not among the files"},
        {"\"file\": \"vda.qcow2\"", "\"file\": \"vdb.qcow2\"", "has two uses"},
        {"\"digests\": \"vda.digests\"", "\"digests\": \"vda.qcow2\"", "has two uses"},
        {"\"base\": \"" OLDER, "\"base\": \"../../x", "base '../../x' is not the id"},
        {"\"base\": \"" OLDER, "\"base\": \"" POINT, "is not older than the point"},
        {"\"virtual_bytes\": 10486272", "\"virtual_bytes\": 0", "0 is not the size of a disk"},
        {"\"virtual_bytes\": 10486272", "\"virtual_bytes\": 9223372036854775807",
         "is not the size of a disk"},
        {"\"virtual_bytes\": 10486272", "\"virtual_bytes\": -1", "\"virtual_bytes\" is not"},
        {"\"changed_bytes\": 196608", "\"changed_bytes\": 10551809", "more than the disk has"},
        {"\"stored_bytes\": 200000", "\"stored_bytes\": 200001", "but vda.qcow2 has 200000"},
        {"\"name\": \"vda.qcow2\"", "\"name\": \"../vda.qcow2\"", "file '../vda.qcow2' has"},
        {"\"name\": \"domain.xml\"", "\"name\": \"/etc/passwd\"", "file '/etc/passwd' has"},
        {"\"name\": \"domain.xml\"", "\"name\": \".x\"", "file '.x' has an unsafe name"},
        {"\"name\": \"domain.xml\"", "\"name\": \"manifest.json\"",
         "is written by the store itself"},
        {"\"name\": \"domain.xml\"", "\"name\": \"SHA256SUMS\"", "is written by the store itself"},
        {"\"name\": \"domain.xml\"", "\"name\": \"damage.json\"", "is written by the store itself"},
        {"\"name\": \"domain.xml\"", "\"name\": \"vda.qcow2\"", "file vda.qcow2 is there twice"},
        {"\"bytes\": 4000", "\"bytes\": 4000.5", "files 7: \"bytes\" is not"},
        {"\"bytes\": 4000", "\"bytes\": 4000, \"mode\": 1", "files 7: \"mode\" is not a key"},
        {"\"target\": \"vda\"", "\"target\": \"vda\", \"raw\": 1", "disks 1: \"raw\" is not a key"},
        {"\"files\": [", "\"files\": [1,", "files 1: is not an object"},
        {"\"vm\":", "\"site\": \"x\", \"vm\":", "is not valid JSON"},
    };
    AUTO(manifest) manifest = sample();
    g_autofree char *text = manifest_text(manifest);
    g_autoptr(GError) error = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(lies); i++) {
        g_autofree char *lie = replace(text, lies[i].old, lies[i].new);

        unit_fails(parse(lie, &error), error, ERROR_INTEGRITY, lies[i].message);
        ck_assert_ptr_null(parse(lie, &error));
        ck_assert_msg(g_str_has_prefix(error->message, "manifest of db"), "%s", error->message);
        g_clear_error(&error);
    }
}
END_TEST

START_TEST(refuses_what_is_too_large)
{
    AUTO(manifest) manifest = sample();
    g_autofree char *huge = g_strnfill(MANIFEST_MAX_BYTES + 1, ' ');
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;

    unit_fails(parse(huge, &error), error, ERROR_INTEGRITY, "is larger than");
    for (unsigned i = 0; i < MANIFEST_MAX_DISKS; i++) {
        g_autofree char *target = g_strdup_printf("sd%u", i);

        add_disk(manifest, target, NULL);
    }
    text = manifest_text(manifest);
    unit_fails(parse(text, &error), error, ERROR_INTEGRITY, "has 67 disks, more than 64");
}
END_TEST

START_TEST(refuses_every_truncation)
{
    AUTO(manifest) manifest = sample();
    g_autofree char *text = manifest_text(manifest);
    g_autoptr(GError) error = NULL;

    for (size_t len = 0; len < strlen(text) - 1; len++)
        unit_fails(manifest_parse(text, len, "cut", &error), error, ERROR_INTEGRITY, "cut");
}
END_TEST

START_TEST(survives_every_flipped_bit)
{
    AUTO(manifest) manifest = sample();
    g_autofree char *text = manifest_text(manifest);
    size_t len = strlen(text);

    for (size_t bit = 0; bit < 8 * len; bit++) {
        g_autofree char *damaged = g_memdup2(text, len);
        g_autoptr(GError) error = NULL;
        AUTO(manifest) parsed = NULL;

        damaged[bit / 8] = (char)(damaged[bit / 8] ^ (1 << bit % 8));
        parsed = manifest_parse(damaged, len, "flipped", &error);
        ck_assert((parsed == NULL) == (error != NULL));
        ck_assert(!error || error_is(error, ERROR_INTEGRITY));
    }
}
END_TEST

int main(void)
{
    return UNIT_RUN("manifest", what_is_written_is_read, a_group_and_a_base_of_another_vm_are_read,
                    a_full_point_without_a_checkpoint_is_read,
                    a_reason_of_several_lines_becomes_one, the_summary_has_the_documented_keys,
                    refuses_every_lie, refuses_what_is_too_large, refuses_every_truncation,
                    survives_every_flipped_bit);
}
