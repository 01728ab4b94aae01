/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of restore/: a recovery site with a real store and a real libvirtd, and guests without
 * a system of which it has real points. The lost site is the same libvirtd, from which the guests
 * are removed after their points were taken.
 *
 * vda of a guest holds 0x11 in its first MiB at the first point; the second adds 0x22 in the second
 * MiB.
 */
#pragma once

#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "restore/restore.h"
#include "tests/rebase.h"
#include "tests/session.h"

struct lab {
    char *dir;
    struct config *config;
    struct catalog *catalog;
    struct store *store;
    GPtrArray *hosts; /* of struct host */
    struct progress progress;
    struct site site;
};

G_GNUC_UNUSED static inline void lab_free(struct lab *lab)
{
    g_ptr_array_unref(lab->hosts);
    store_free(lab->store);
    catalog_free(lab->catalog);
    config_free(lab->config);
    g_free(lab->dir);
    g_free(lab);
}
DEFINE_CLEANUP(lab)

G_GNUC_UNUSED static inline char *lab_path(const struct lab *lab, const char *name)
{
    return g_build_filename(lab->dir, name, NULL);
}

G_GNUC_UNUSED static inline void lab_make_site(const struct lab *lab)
{
    g_autofree char *conf = lab_path(lab, "etc");
    g_autofree char *path = lab_path(lab, "etc/drctl.conf");
    g_autofree char *store = lab_path(lab, "store");
    g_autofree char *text =
        g_strdup_printf("[site]\nname = dr1\nlibvirt = %2$s\nstore = %1$s/store\n"
                        "images = %1$s/images\nscratch = %1$s/scratch\nrun-dir = %1$s/run\n",
                        lab->dir, session_uri);
    g_autoptr(GError) error = NULL;

    unit_ok(dir_make(conf, 0700, &error), error);
    unit_ok(file_write(path, text, strlen(text), 0600, &error), error);
    unit_ok(store_create(store, "dr1", &error), error);
}

static inline void lab_free_host(void *host)
{
    host_free(host);
}

static inline void make_template(void);

/* Open site NAME, which is made at the first time. */
G_GNUC_UNUSED static inline struct lab *lab_open(const char *name)
{
    struct lab *lab = g_new0(struct lab, 1);
    g_autoptr(GError) error = NULL;
    g_autofree char *conf = NULL;

    if (!g_str_equal(name, "template"))
        make_template();
    lab->dir = g_build_filename(session_dir, name, NULL);
    if (!g_file_test(lab->dir, G_FILE_TEST_EXISTS))
        lab_make_site(lab);
    conf = lab_path(lab, "etc");
    lab->config = config_load(conf, &error);
    unit_ok(lab->config != NULL, error);
    lab->catalog = catalog_open(lab->config->store, &error);
    unit_ok(lab->catalog != NULL, error);
    lab->store = store_open_site(lab->config, lab->catalog, &snapshot_point_ops, &error);
    unit_ok(lab->store != NULL, error);
    lab->hosts = g_ptr_array_new_with_free_func(lab_free_host);
    g_ptr_array_add(lab->hosts, session_open());
    lab->site = (struct site){.config = lab->config,
                              .catalog = lab->catalog,
                              .store = lab->store,
                              .hosts = lab->hosts,
                              .progress = &lab->progress};
    return lab;
}

/* ---- Guests */

G_GNUC_UNUSED static inline char *guest_io(const char *guest, const char *command)
{
    g_autofree char *hmp = g_strdup_printf(
        "qemu-io -d /machine/peripheral/virtio-disk0/virtio-backend \"%s\"", command);
    char *output = VIRSH_OUTPUT("qemu-monitor-command", guest, "--hmp", hmp);

    ck_assert_msg(!strstr(output, "rror") && !strstr(output, "invalid"), "%s: %s", hmp, output);
    return output;
}

G_GNUC_UNUSED static inline void guest_write(const char *guest, const char *command)
{
    g_free(guest_io(guest, command));
}

/* The string value of XPATH in the definition of NAME, or NULL; g_free. */
G_GNUC_UNUSED static inline char *domain_text(const struct lab *lab, const char *name,
                                              const char *xpath)
{
    g_autoptr(GError) error = NULL;
    AUTO(domain) domain = host_domain(lab->hosts->pdata[0], name, &error);
    g_autofree char *text = domain ? domain_xml(domain, DOMAIN_XML_INACTIVE, &error) : NULL;
    AUTO(xml) xml = text ? xml_parse(text, name, &error) : NULL;

    unit_ok(xml != NULL, error);
    return xml_string(xml_root(xml), xpath);
}

/* Does vda of the running guest NAME hold PATTERN in MiB AT? What its monitor reads it tells
 * nobody, so the image is read beside it. */
G_GNUC_UNUSED static inline bool guest_reads(const struct lab *lab, const char *name,
                                             unsigned pattern, unsigned at)
{
    g_autofree char *path = domain_text(lab, name, "devices/disk[target/@dev='vda']/source/@file");
    g_autofree char *command = g_strdup_printf("read -P %u %uM 1M", pattern, at);
    g_autofree char *output = NULL;

    guest_write(name, "flush");
    output = run((const char *const[]){
        "sh", "-c", "qemu-io -U -r -f qcow2 -c \"$1\" \"$2\" || :", "sh", command, path, NULL});
    ck_assert_msg(strstr(output, "read 1048576/1048576") || strstr(output, "verification failed"),
                  "%s of %s: %s", command, path, output);
    return !strstr(output, "verification failed");
}

G_GNUC_UNUSED static inline struct manifest *take_point(const struct lab *lab,
                                                        struct domain *domain)
{
    struct point_request request = {
        .domain = domain,
        .destination = lab->store,
        .catalog = lab->catalog,
        .site = "dc1",
        .run_dir = lab->config->run_dir,
        .scratch_dir = lab->config->scratch,
        .compression = 1,
    };
    struct point_result result = {0};
    g_autoptr(GError) error = NULL;

    unit_ok(snapshot_take_point(&request, &result, &error), error);
    return g_steal_pointer(&result.manifest);
}

/* What is left of a guest at the lost site. */
struct lost_guest {
    char *name, *uuid, *xml;
    char *points[2]; /* oldest first */
    bool has_nvram;
};

static inline void lost_guest_free(struct lost_guest *guest)
{
    g_free(guest->name);
    g_free(guest->uuid);
    g_free(guest->xml);
    g_free(guest->points[0]);
    g_free(guest->points[1]);
    g_free(guest);
}
DEFINE_CLEANUP(lost_guest)

G_GNUC_UNUSED static inline void remove_guest(const struct lab *lab, const char *name)
{
    g_autoptr(GError) error = NULL;
    AUTO(domain) domain = host_domain(lab->hosts->pdata[0], name, &error);

    unit_ok(domain != NULL, error);
    unit_ok(domain_destroy(domain, &error), error);
    unit_ok(domain_undefine(domain, &error), error);
}

/* Take the template's points, once for all tests of the binary. Its images stay. */
static inline void make_template(void)
{
    static const char *const writes[] = {"write -P 17 0 1M", "write -P 34 1M 1M"};
    g_autofree char *dir = g_build_filename(session_dir, "template", NULL);

    if (g_file_test(dir, G_FILE_TEST_EXISTS))
        return;
    AUTO(lab) lab = lab_open("template");
    AUTO(domain) domain = paused_guest(lab->hosts->pdata[0], "template");

    for (unsigned i = 0; i < G_N_ELEMENTS(writes); i++) {
        guest_write("template", writes[i]);
        AUTO(manifest) manifest = take_point(lab, domain);
    }
    guest_write("template", "flush");
    remove_guest(lab, "template");
}

/* The template's manifests, oldest first; their directories are below *STORE. */
static inline GPtrArray *template_points(char **store)
{
    g_autofree char *vms = g_build_filename(session_dir, "template/store/vms", NULL);
    g_auto(GStrv) uuids = dir_list(vms, NULL);
    g_autofree char *vm = g_build_filename(vms, uuids[0], NULL);
    g_auto(GStrv) points = dir_list(vm, NULL);
    GPtrArray *manifests = g_ptr_array_new_with_free_func((GDestroyNotify)manifest_free);

    for (char **point = points; *point; point++) {
        g_autofree char *path = g_build_filename(vm, *point, MANIFEST_NAME, NULL);
        g_autoptr(GError) error = NULL;
        struct manifest *manifest = manifest_load(path, &error);

        unit_ok(manifest != NULL, error);
        g_ptr_array_add(manifests, manifest);
    }
    *store = g_build_filename(session_dir, "template/store", NULL);
    return manifests;
}

/* Firmware that QEMU can map, and that halts at once: zeros would be instructions, which keep a
 * processor of the machine busy for as long as the guest runs, and that of QEMU looks for a system,
 * which takes as long as all else of a start. */
static inline char *make_firmware(void)
{
    static const uint8_t halt[] = {0xf4, 0xeb, 0xfd}; /* hlt, and back to it */
    char *path = g_build_filename(session_dir, "images", "firmware.fd", NULL);
    g_autofree uint8_t *firmware = g_malloc0(128 << 10);
    g_autoptr(GError) error = NULL;

    memcpy(firmware + (128 << 10) - 16, halt, sizeof(halt));
    if (!g_file_test(path, G_FILE_TEST_EXISTS))
        unit_ok(file_write(path, firmware, 128 << 10, 0644, &error), error);
    return path;
}

static inline void add_firmware(struct xml_node *domain, bool has_nvram)
{
    g_autofree char *path = make_firmware();
    struct xml_node *loader = xml_add(xml_child(domain, "os"), "loader", path);

    xml_set_attr(loader, "type", has_nvram ? "pflash" : "rom");
    if (!has_nvram)
        return;
    xml_set_attr(loader, "readonly", "yes");
    xml_add(xml_child(domain, "os"), "nvram", "/nowhere/VARS.fd");
    xml_child(xml_child(domain, "features"), "acpi");
}

/* Whether guests that are made look for a system on their disks. */
static bool guests_boot;

/* TEXT is the template's definition; that of GUEST with more DEVICES, g_free. */
static inline char *guest_definition(const char *text, const struct lost_guest *guest,
                                     const char *devices)
{
    AUTO(xml) xml = xml_parse(text, "template", NULL);
    g_autofree char *end = g_strconcat(devices, "</devices>", NULL);
    g_autoptr(GString) result = NULL;
    g_autofree char *dump = NULL;

    xml_set_text(xml_child(xml_root(xml), "name"), guest->name);
    xml_set_text(xml_child(xml_root(xml), "uuid"), guest->uuid);
    if (guest->has_nvram || !guests_boot)
        add_firmware(xml_root(xml), guest->has_nvram);
    dump = xml_dump(xml);
    result = g_string_new(dump);
    g_string_replace(result, "</devices>", end, 1);
    return g_strdup(result->str);
}

/* The bases of the disks of MANIFEST are points of VM. */
static inline void move_bases(struct manifest *manifest, const char *vm)
{
    for (unsigned i = 0; i < manifest->disks->len; i++) {
        struct manifest_disk *disk = manifest->disks->pdata[i];

        ck_assert_ptr_nonnull(disk->base);
        disk->base_vm = g_strdup(vm);
    }
}

/* IMAGE, of file NAME, stands on what MANIFEST says. */
static inline void move_image(char *image, const char *name, const struct manifest *manifest)
{
    for (unsigned i = 0; i < manifest->disks->len; i++) {
        const struct manifest_disk *disk = manifest->disks->pdata[i];
        g_autofree char *backing = manifest_backing_name(disk);

        if (g_str_equal(name, disk->file))
            rebase_image(image, backing);
    }
}

/* Commit the point FROM of the template as one of GUEST; based on points of BASE_VM, unless that is
 * NULL. */
static inline void copy_point(const struct lab *lab, const char *store, const struct manifest *from,
                              struct lost_guest *guest, const char *base_vm, const char *device)
{
    g_autofree char *dir = store_point_dir(store, from->uuid, from->point);
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    g_autoptr(GError) error = NULL;
    AUTO(manifest) manifest = manifest_load(path, &error);
    AUTO(incoming) incoming = store_begin(lab->store, guest->uuid, from->point, &error);

    unit_ok(incoming != NULL, error);
    g_free(manifest->vm);
    g_free(manifest->uuid);
    manifest->vm = g_strdup(guest->name);
    manifest->uuid = g_strdup(guest->uuid);
    if (base_vm)
        move_bases(manifest, base_vm);
    g_ptr_array_set_size(manifest->files, 0);
    for (unsigned i = 0; i < from->files->len; i++) {
        const char *name = ((const struct manifest_file *)from->files->pdata[i])->name;
        g_autofree char *file = g_build_filename(dir, name, NULL);
        g_autofree char *data = NULL;
        size_t len;

        unit_ok(file_read(file, 64 << 20, &data, &len, &error), error);
        if (g_str_equal(name, "domain.xml")) {
            char *text = guest_definition(data, guest, device);

            g_free(data);
            data = text;
            len = strlen(text);
            g_free(guest->xml);
            guest->xml = g_strdup(text);
        }
        if (base_vm)
            move_image(data, name, manifest);
        unit_ok(incoming_put(incoming, manifest, name, data, len, &error), error);
    }
    if (guest->has_nvram) {
        g_autofree char *nvram = g_malloc0(128 << 10);

        memcpy(nvram, "variables", 9);
        unit_ok(incoming_put(incoming, manifest, "nvram.fd", nvram, 128 << 10, &error), error);
    }
    unit_ok(incoming_commit(incoming, manifest, &error), error);
}

/* Commit both points of the template as those of GUEST, whose name is known; with DEVICES in its
 * definition. */
static inline void copy_points(const struct lab *lab, struct lost_guest *guest, const char *devices)
{
    g_autofree char *store = NULL;
    g_autoptr(GPtrArray) points = template_points(&store);

    ck_assert_uint_eq(points->len, 2);
    guest->uuid = g_uuid_string_random();
    for (unsigned i = 0; i < 2; i++) {
        const struct manifest *manifest = points->pdata[i];

        copy_point(lab, store, manifest, guest, NULL, devices);
        guest->points[i] = g_strdup(manifest->point);
    }
}

/* A guest of which the site has two points, and of which nothing else is left. */
G_GNUC_UNUSED static inline struct lost_guest *lost_guest(const struct lab *lab, const char *name,
                                                          const char *devices)
{
    struct lost_guest *guest = g_new0(struct lost_guest, 1);

    guest->name = g_strdup(name);
    copy_points(lab, guest, devices);
    return guest;
}

/* A guest with one point, the newest, that stands on the first of ORIGINAL. */
G_GNUC_UNUSED static inline struct lost_guest *lost_clone(const struct lab *lab, const char *name,
                                                          const struct lost_guest *original)
{
    struct lost_guest *guest = g_new0(struct lost_guest, 1);
    g_autofree char *store = NULL;
    g_autoptr(GPtrArray) points = template_points(&store);
    const struct manifest *newest = points->pdata[1];

    guest->name = g_strdup(name);
    guest->uuid = g_uuid_string_random();
    guest->points[1] = g_strdup(newest->point);
    copy_point(lab, store, newest, guest, original->uuid, "");
    return guest;
}

G_GNUC_UNUSED static inline struct lost_guest *lost_uefi_guest(const struct lab *lab,
                                                               const char *name)
{
    struct lost_guest *guest = g_new0(struct lost_guest, 1);

    guest->name = g_strdup(name);
    guest->has_nvram = true;
    copy_points(lab, guest, "");
    return guest;
}

/* The pool metadata of dc1: vApp VAPP of GUESTS. */
G_GNUC_UNUSED static inline void publish(const struct lab *lab, const char *vapp, const char *text,
                                         struct lost_guest *const *guests)
{
    AUTO(bundle) bundle = bundle_new("dc1");
    g_autofree char *path = g_strdup_printf("vapps/%s.vapp", vapp);
    g_autoptr(GError) error = NULL;
    bool sent;

    bundle_add(bundle, path, text);
    for (; *guests; guests++)
        bundle_add_domain(bundle, (*guests)->name, (*guests)->uuid, (*guests)->xml);
    unit_ok(bundle_publish(bundle, lab->store, &sent, &error), error);
}

/* ---- Failover and restore */

G_GNUC_UNUSED static inline struct failover_plan *plan_of(const struct lab *lab, const char *name)
{
    g_autoptr(GError) error = NULL;
    struct failover_plan *plan = failover_plan_new(&lab->site, name, &error);

    unit_ok(plan != NULL, error);
    return plan;
}

/* Plan and execute, to a good end. */
G_GNUC_UNUSED static inline void fail_over(const struct lab *lab, const char *name)
{
    AUTO(failover_plan) plan = plan_of(lab, name);
    struct failover_result result = {0};
    g_autoptr(GError) error = NULL;

    unit_ok(failover_execute(&lab->site, plan, NULL, NULL, &result, &error), error);
    ck_assert_int_eq(result.state, RUN_DONE);
    failover_result_clear(&result);
}

G_GNUC_UNUSED static inline enum domain_state state_of_guest(const struct lab *lab,
                                                             const char *name)
{
    g_autoptr(GError) error = NULL;
    AUTO(domain) domain = host_domain(lab->hosts->pdata[0], name, &error);

    unit_ok(domain != NULL, error);
    return state_of(domain);
}

/* The points of GUEST are what was committed. */
G_GNUC_UNUSED static inline void assert_points_untouched(const struct lab *lab,
                                                         const struct lost_guest *guest)
{
    for (unsigned i = 0; i < 2; i++) {
        g_autofree char *dir = store_point_dir(lab->config->store, guest->uuid, guest->points[i]);
        g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
        g_autoptr(GError) error = NULL;
        AUTO(manifest) manifest = manifest_load(path, &error);

        unit_ok(manifest != NULL, error);
        unit_ok(store_verify_point(lab->config->store, manifest, NULL, &error), error);
    }
}

/* A point of NAME, which is this site's now. */
G_GNUC_UNUSED static inline void take_own_point(const struct lab *lab, const char *name)
{
    g_autoptr(GError) error = NULL;
    AUTO(domain) domain = host_domain(lab->hosts->pdata[0], name, &error);
    struct point_request request = {
        .domain = domain,
        .destination = lab->store,
        .catalog = lab->catalog,
        .site = lab->config->site,
        .epoch = 1,
        .run_dir = lab->config->run_dir,
        .scratch_dir = lab->config->scratch,
        .compression = 1,
    };
    struct point_result result = {0};

    unit_ok(domain != NULL, error);
    unit_ok(snapshot_take_point(&request, &result, &error), error);
    point_result_clear(&result);
}

/* How many points of GUEST would a prune drop? IN_USE, or NULL: one of those that stay is so. */
G_GNUC_UNUSED static inline unsigned would_drop(const struct lab *lab,
                                                const struct lost_guest *guest, const char **in_use)
{
    struct prune_request request = {.vm_uuid = guest->uuid, .dry_run = true};
    struct prune_result result = {0};
    g_autoptr(GError) error = NULL;
    unsigned dropped = 0;

    unit_ok(retention_parse("last=1", &request.keep, &error), error);
    unit_ok(store_prune(lab->store, &request, &result, &error), error);
    if (in_use)
        *in_use = NULL;
    for (unsigned i = 0; i < result.decisions->len; i++) {
        const struct prune_decision *decision = result.decisions->pdata[i];

        dropped += !decision->keep;
        if (in_use && strstr(decision->rule, "in use by"))
            *in_use = g_intern_string(decision->rule);
    }
    prune_result_clear(&result);
    return dropped;
}

/* Has the newest run begun STEP of any subject, or got further with it? STATE is "running" or
 * "done". */
G_GNUC_UNUSED static inline bool journal_says(struct catalog *catalog, const char *step,
                                              const char *state)
{
    json_auto_t *runs = run_list(catalog, NULL);
    json_auto_t *run = NULL;
    const json_t *entry;
    size_t i;

    if (json_array_size(runs) == 0)
        return false;
    run = run_show(catalog, json_get_string(json_array_get(runs, 0), "run"), NULL);
    json_array_foreach(
        json_object_get(run, "steps"), i,
        entry) if (g_str_equal(json_get_string(entry, "step"), step) &&
                   (g_str_equal(json_get_string(entry, "state"), state) ||
                    g_str_equal(json_get_string(entry, "state"), "done"))) return true;
    return false;
}

/* Kill process PID as soon as the newest run in the journal has STEP in STATE, or when it ends. */
G_GNUC_UNUSED static inline void kill_when(pid_t pid, const struct lab *lab, const char *step,
                                           const char *state)
{
    int64_t deadline = time_monotonic_ms() + UNIT_PATIENCE_MS;

    while (!journal_says(lab->catalog, step, state) && waitpid(pid, NULL, WNOHANG) == 0) {
        ck_assert_int_lt(time_monotonic_ms(), deadline);
        g_usleep(500);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* Like the libvirtd and its guests, which would be another user's if we stayed root. */
G_GNUC_UNUSED static inline void become_ordinary_user(void)
{
    const struct passwd *nobody = getuid() == 0 ? getpwnam("nobody") : NULL;

    if (nobody &&
        (setgroups(0, NULL) < 0 || setgid(nobody->pw_gid) < 0 || setuid(nobody->pw_uid) < 0))
        g_error("cannot become nobody");
}
