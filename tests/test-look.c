/* SPDX-License-Identifier: Apache-2.0 */
/* Looking into points: their disks over NBD, and single files. Needs no libvirt. As root it is by FUSE, otherwise
 * mostly by a copy. */
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "restore/restore.h"
#include "tests/session.h"

#define VM_UUID "11111111-2222-3333-4444-555555555555"
#define POINT "20261120T221500.123Z"
#define DEFINITION "<domain type='qemu'><name>web</name><uuid>" VM_UUID "</uuid></domain>"

struct lab {
    char *dir;
    struct config *config;
    struct catalog *catalog;
    struct store *store;
    GPtrArray *hosts;
    struct progress progress;
    struct site site;
};

static void lab_free(struct lab *lab)
{
    g_ptr_array_unref(lab->hosts);
    store_free(lab->store);
    catalog_free(lab->catalog);
    config_free(lab->config);
    g_free(lab->dir);
    g_free(lab);
}
DEFINE_CLEANUP(lab)

static char *lab_path(const struct lab *lab, const char *name)
{
    return g_build_filename(lab->dir, name, NULL);
}

/* root.raw: a file system; parts.raw: one in the first of two partitions. */
static void make_disks(const struct lab *lab)
{
    static const char script[] =
        "cd \"$1\"\n"
        "mkdir -p tree/etc/deep tree/home tree/damaged tree/huge tree/odd\n"
        "echo 192.0.2.7 >tree/etc/hosts\n"
        "head -c 300000 /dev/urandom >tree/etc/deep/blob\n"
        "printf x >'tree/etc/with \"quotes\" and blanks'\n"
        "ln -s /etc/passwd tree/etc/link\n"
        "head -c 9000 /dev/urandom >tree/damaged/broken\n"
        "echo good >tree/damaged/good\n"
        "echo huge >tree/huge/file\n"
        "echo even >tree/odd/even\n"
        "echo odd >\"tree/odd/$(printf 'a\\nb')\"\n"
        "truncate -s 16M root.raw\n"
        "mke2fs -q -t ext4 -d tree root.raw\n"
        "debugfs -w -R 'sif /damaged/broken block[0] 0' root.raw 2>/dev/null\n"
        "debugfs -w -R 'sif /huge/file size 1152921504606846976' root.raw 2>/dev/null\n"
        "truncate -s 24M parts.raw\n"
        /* A table with two entries: 2048+32768 and 36864+8192, both of type 83. */
        "printf '\\000\\000\\000\\000\\203\\000\\000\\000\\000\\010\\000\\000\\000\\200\\000\\000"
        "\\000\\000\\000\\000\\203\\000\\000\\000\\000\\220\\000\\000\\000\\040\\000\\000' |\n"
        "  dd of=parts.raw bs=1 seek=446 conv=notrunc status=none\n"
        "printf '\\125\\252' | dd of=parts.raw bs=1 seek=510 conv=notrunc status=none\n"
        "dd if=root.raw of=parts.raw bs=1M seek=1 conv=notrunc status=none\n";

    RUN("env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-ec", script, "sh", lab->dir);
}

static void add_disk(const struct lab *lab, struct incoming *incoming, struct manifest *manifest,
                     const char *target, const char *file)
{
    g_autofree char *path = lab_path(lab, file);
    g_autofree char *image =
        g_strdup_printf("json:{\"driver\":\"raw\",\"file.filename\":\"%s\"}", path);
    g_autofree char *sockets = lab_path(lab, "sockets");
    struct image_job job = {
        .image = image,
        .socket_dir = sockets,
        .into = incoming,
        .manifest = manifest,
        .disk = manifest_add_disk(manifest, target),
        .compression = 1,
    };
    g_autoptr(GError) error = NULL;

    unit_ok(dir_make(sockets, 0700, &error), error);
    unit_ok(snapshot_take_image(&job, &error), error);
}

static void add_point(const struct lab *lab, const char *vm, const char *uuid)
{
    g_autoptr(GError) error = NULL;
    AUTO(manifest) manifest = manifest_new();
    AUTO(incoming) incoming = store_begin(lab->store, uuid, POINT, &error);

    unit_ok(incoming != NULL, error);
    manifest->vm = g_strdup(vm);
    manifest->uuid = g_strdup(uuid);
    manifest->point = g_strdup(POINT);
    point_id_parse(POINT, &manifest->time_ms);
    manifest->site = g_strdup("dc1");
    add_disk(lab, incoming, manifest, "vda", "root.raw");
    add_disk(lab, incoming, manifest, "vdb", "parts.raw");
    unit_ok(incoming_put(incoming, manifest, "domain.xml", DEFINITION, strlen(DEFINITION), &error),
            error);
    unit_ok(incoming_commit(incoming, manifest, &error), error);
}

static void free_nothing(void *nothing)
{
}

static void make_site(const char *dir)
{
    g_autofree char *conf = g_build_filename(dir, "etc", NULL);
    g_autofree char *path = g_build_filename(conf, "drctl.conf", NULL);
    g_autofree char *store = g_build_filename(dir, "store", NULL);
    g_autofree char *text =
        g_strdup_printf("[site]\nname = dr1\nlibvirt = qemu:///session\nstore = %1$s/store\n"
                        "images = %1$s/images\nscratch = %1$s/scratch\nrun-dir = %1$s/run\n",
                        dir);
    g_autoptr(GError) error = NULL;

    unit_ok(dir_make(conf, 0700, &error), error);
    unit_ok(file_write(path, text, strlen(text), 0600, &error), error);
    unit_ok(store_create(store, "dr1", &error), error);
}

static struct lab *lab_open(const char *dir)
{
    struct lab *lab = g_new0(struct lab, 1);
    g_autofree char *conf = g_build_filename(dir, "etc", NULL);
    g_autoptr(GError) error = NULL;

    lab->dir = g_strdup(dir);
    lab->config = config_load(conf, &error);
    unit_ok(lab->config != NULL, error);
    lab->catalog = catalog_open(lab->config->store, &error);
    unit_ok(lab->catalog != NULL, error);
    lab->store = store_open_site(lab->config, lab->catalog, &snapshot_point_ops, &error);
    unit_ok(lab->store != NULL, error);
    lab->hosts = g_ptr_array_new_with_free_func(free_nothing);
    lab->site = (struct site){.config = lab->config,
                              .catalog = lab->catalog,
                              .store = lab->store,
                              .hosts = lab->hosts,
                              .progress = &lab->progress};
    return lab;
}

static struct lab *lab_new(void)
{
    g_autofree char *dir = unit_dir();
    struct lab *lab;

    make_site(dir);
    lab = lab_open(dir);
    make_disks(lab);
    add_point(lab, "web", VM_UUID);
    return lab;
}

static void assert_same(const char *a, const char *b)
{
    RUN("cmp", a, b);
}

/* Nothing is left of a look. */
static void assert_empty(const struct lab *lab, const char *name)
{
    g_autofree char *dir = lab_path(lab, name);
    g_auto(GStrv) left = dir_list(dir, NULL);

    for (char **entry = left; entry && *entry; entry++)
        ck_assert_msg(!g_str_has_prefix(*entry, "drctl-work-"), "%s/%s", dir, *entry);
}

/* ---- mount */

START_TEST(disks_can_be_read_over_nbd_and_not_written)
{
    AUTO(lab) lab = lab_new();
    struct mount_request request = {.what = "web"};
    struct mount_result result = {0};
    g_autoptr(GError) error = NULL;
    struct mount *mount = mount_new(&lab->site, &request, &result, &error);

    unit_ok(mount != NULL, error);
    ck_assert_uint_eq(result.disks->len, 2);
    for (unsigned i = 0; i < 2; i++) {
        const struct mounted_disk *disk = result.disks->pdata[i];
        g_autofree char *before = lab_path(lab, i ? "parts.raw" : "root.raw");
        struct stat status;

        RUN("qemu-img", "compare", "-q", "-f", "raw", "-F", "raw", before, disk->uri);
        RUN("sh", "-c", "! qemu-io -f raw -c 'write 0 512' \"$1\" 2>/dev/null", "sh", disk->uri);
        ck_assert_int_eq(stat(disk->socket, &status), 0);
    }
    unit_ok(mount_runs(mount, &error), error);
    mount_free(mount);
    mount_result_clear(&result);
    assert_empty(lab, "run");
}
END_TEST

START_TEST(one_disk_of_a_point_can_be_named)
{
    AUTO(lab) lab = lab_new();
    struct mount_request request = {.what = POINT, .disk = "vdb"};
    struct mount_request wrong = {.what = "web", .disk = "vdz"};
    struct mount_result result = {0}, none = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(GError) cause = NULL;
    AUTO(mount) mount = mount_new(&lab->site, &request, &result, &error);

    unit_ok(mount != NULL, error);
    ck_assert_uint_eq(result.disks->len, 1);
    unit_fails(mount_new(&lab->site, &wrong, &none, &cause), cause, ERROR_NOT_FOUND, "vda, vdb");
    mount_result_clear(&result);
    mount_result_clear(&none);
}
END_TEST

START_TEST(a_point_of_several_vms_must_be_told_apart)
{
    AUTO(lab) lab = lab_new();
    struct mount_request request = {.what = POINT};
    struct mount_result result = {0};
    g_autoptr(GError) error = NULL;

    add_point(lab, "app", "22222222-2222-3333-4444-555555555555");
    unit_fails(mount_new(&lab->site, &request, &result, &error), error, ERROR_CONFLICT,
               "--point " POINT);
}
END_TEST

START_TEST(the_server_dies_with_whoever_mounted)
{
    int ready[2];
    char path[200] = "";
    g_autofree char *dir = NULL;
    pid_t pid;

    {
        AUTO(lab) first = lab_new();

        dir = g_strdup(first->dir);
    }
    ck_assert_int_eq(pipe(ready), 0);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct lab *killed = lab_open(dir);
        struct mount_request request = {.what = "web", .disk = "vda"};
        struct mount_result result = {0};
        GError *error = NULL;

        if (mount_new(&killed->site, &request, &result, &error))
            dprintf(ready[1], "%s", ((struct mounted_disk *)result.disks->pdata[0])->uri);
        close(ready[1]);
        for (;;)
            pause();
    }
    close(ready[1]);
    ck_assert_int_gt(read(ready[0], path, sizeof path - 1), 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    AUTO(lab) lab = lab_open(dir);
    /* What it left does not hinder the next one, which removes it. */
    struct mount_request request = {.what = "web"};
    struct mount_result result = {0};
    g_autoptr(GError) error = NULL;
    g_autofree char *others = lab_path(lab, "run/work-of-others");
    g_autofree char *lock = g_build_filename(others, "lock", NULL);
    struct mount *mount;

    unit_ok(dir_make(others, 0700, &error), error);
    unit_ok(file_write(lock, "", 0, 0600, &error), error);
    mount = mount_new(&lab->site, &request, &result, &error);
    unit_ok(mount != NULL, error);
    ck_assert(g_file_test(lock, G_FILE_TEST_EXISTS));
    RUN("sh", "-c", "! qemu-img info \"$1\" 2>/dev/null", "sh", path);
    mount_free(mount);
    mount_result_clear(&result);
    assert_empty(lab, "run");
}
END_TEST

/* ---- files */

static bool look(const struct lab *lab, const struct files_request *request,
                 struct files_result *result, GError **error)
{
    return files_execute(&lab->site, request, result, error);
}

static const struct file_entry *entry_of(const struct files_result *result, const char *path)
{
    for (unsigned i = 0; i < result->entries->len; i++) {
        const struct file_entry *entry = result->entries->pdata[i];

        if (g_str_equal(entry->path, path))
            return entry;
    }
    return NULL;
}

START_TEST(a_directory_is_listed)
{
    AUTO(lab) lab = lab_new();
    struct files_request request = {
        .what = "web", .disk = "vda", .paths = (char *[]){(char *)"/etc", NULL}};
    struct files_result result = {0};
    g_autoptr(GError) error = NULL;

    unit_ok(look(lab, &request, &result, &error), error);
    ck_assert_uint_eq(result.entries->len, 4);
    ck_assert_int_eq(entry_of(&result, "/etc/hosts")->kind, FILE_PLAIN);
    ck_assert_uint_eq(entry_of(&result, "/etc/hosts")->bytes, 10);
    ck_assert_int_eq(entry_of(&result, "/etc/deep")->kind, FILE_DIR);
    ck_assert_int_eq(entry_of(&result, "/etc/link")->kind, FILE_LINK);
    ck_assert_uint_eq(result.missed, 0);
    files_result_clear(&result);
    assert_empty(lab, "scratch");
}
END_TEST

static void copies(const char *disk, const char *what)
{
    AUTO(lab) lab = lab_new();
    g_autofree char *to = lab_path(lab, "out");
    struct files_request request = {
        .what = what, .disk = disk, .to_dir = to, .paths = (char *[]){(char *)"/etc", NULL}};
    struct files_result result = {0};
    g_autofree char *blob = lab_path(lab, "out/etc/deep/blob");
    g_autofree char *before = lab_path(lab, "tree/etc/deep/blob");
    g_autofree char *odd = lab_path(lab, "out/etc/with \"quotes\" and blanks");
    g_autofree char *link = lab_path(lab, "out/etc/link");
    g_autoptr(GError) error = NULL;

    unit_ok(look(lab, &request, &result, &error), error);
    assert_same(blob, before);
    ck_assert_str_eq(entry_of(&result, "/etc/deep/blob")->copy, blob);
    ck_assert(g_file_test(odd, G_FILE_TEST_IS_REGULAR));
    ck_assert(!g_file_test(link, G_FILE_TEST_IS_SYMLINK));
    files_result_clear(&result);
    assert_empty(lab, "scratch");
}

START_TEST(a_directory_is_copied)
{
    copies("vda", "web");
}
END_TEST

START_TEST(a_directory_is_copied_from_a_partition)
{
    copies("vdb", POINT);
}
END_TEST

START_TEST(partitions_are_shown)
{
    AUTO(lab) lab = lab_new();
    struct files_request request = {.what = "web", .disk = "vdb", .paths = (char *[]){NULL}};
    struct files_result result = {0};
    g_autoptr(GError) error = NULL;
    const struct file_system *first, *second;

    unit_ok(look(lab, &request, &result, &error), error);
    ck_assert_uint_eq(result.systems->len, 2);
    first = result.systems->pdata[0];
    second = result.systems->pdata[1];
    ck_assert_str_eq(first->type, "ext4");
    ck_assert_uint_eq(first->offset, 1 << 20);
    ck_assert_uint_eq(first->bytes, 16 << 20);
    ck_assert_uint_eq(second->partition, 2);
    ck_assert_ptr_null(second->type);
    files_result_clear(&result);
}
END_TEST

START_TEST(what_is_not_there_is_said)
{
    static const struct {
        const char *disk, *path;
        unsigned partition;
        enum error_kind kind;
        const char *text;
    } wrong[] = {
        {"vda", "/etc/nothing", 0, ERROR_NOT_FOUND, "no /etc/nothing"},
        {"vdz", "/", 0, ERROR_NOT_FOUND, "no disk vdz"},
        {"vdb", "/", 2, ERROR_FAILED, "drctl mount"},
        {"vdb", "/", 7, ERROR_NOT_FOUND, "no partition 7"},
        {"vda", "/etc\nquit", 0, ERROR_USAGE, "cannot be looked up"},
    };
    AUTO(lab) lab = lab_new();

    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        struct files_request request = {
            .what = "web",
            .disk = wrong[i].disk,
            .partition = wrong[i].partition,
            .has_partition = wrong[i].partition > 0,
            .paths = (char *[]){(char *)wrong[i].path, NULL},
        };
        struct files_result result = {0};
        g_autoptr(GError) error = NULL;

        unit_fails(look(lab, &request, &result, &error), error, wrong[i].kind, wrong[i].text);
        files_result_clear(&result);
    }
}
END_TEST

START_TEST(what_is_damaged_is_named_and_the_rest_is_copied)
{
    AUTO(lab) lab = lab_new();
    g_autofree char *to = lab_path(lab, "out");
    g_autofree char *good = lab_path(lab, "out/damaged/good");
    g_autofree char *broken = lab_path(lab, "out/damaged/broken");
    g_autofree char *even = lab_path(lab, "out/odd/even");
    struct files_request request = {.what = "web",
                                    .disk = "vda",
                                    .to_dir = to,
                                    .paths = (char *[]){(char *)"/damaged", (char *)"/odd", NULL}};
    struct files_result result = {0};
    g_autoptr(GError) error = NULL;

    unit_ok(look(lab, &request, &result, &error), error);
    ck_assert(g_file_test(good, G_FILE_TEST_IS_REGULAR));
    ck_assert(g_file_test(even, G_FILE_TEST_IS_REGULAR));
    ck_assert(!g_file_test(broken, G_FILE_TEST_EXISTS));
    ck_assert_ptr_null(entry_of(&result, "/damaged/broken")->copy);
    /* It, and the name with a line break. */
    ck_assert_uint_eq(result.missed, 2);
    files_result_clear(&result);
}
END_TEST

START_TEST(a_file_that_no_disk_has_room_for_is_not_begun)
{
    AUTO(lab) lab = lab_new();
    g_autofree char *to = lab_path(lab, "out");
    struct files_request request = {.what = "web",
                                    .disk = "vda",
                                    .to_dir = to,
                                    .paths = (char *[]){(char *)"/huge/file", NULL}};
    struct files_result result = {0};
    g_autoptr(GError) error = NULL;

    unit_fails(look(lab, &request, &result, &error), error, ERROR_NO_SPACE, "/huge/file needs");
    files_result_clear(&result);
    assert_empty(lab, "scratch");
}
END_TEST

START_TEST(nothing_here_is_overwritten_or_written_through)
{
    AUTO(lab) lab = lab_new();
    g_autofree char *to = lab_path(lab, "out");
    g_autofree char *precious = lab_path(lab, "precious");
    g_autofree char *link = lab_path(lab, "out/hosts");
    struct files_request request = {.what = "web",
                                    .disk = "vda",
                                    .to_dir = to,
                                    .paths = (char *[]){(char *)"/etc/hosts", NULL}};
    struct files_result result = {0};
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(dir_make(to, 0700, &error), error);
    unit_ok(file_write(precious, "mine", 4, 0600, &error), error);
    ck_assert_int_eq(symlink(precious, link), 0);
    unit_fails(look(lab, &request, &result, &error), error, ERROR_CONFLICT, "hosts");
    g_clear_error(&error);
    unit_ok(file_read(precious, 100, &text, NULL, &error), error);
    ck_assert_str_eq(text, "mine");
    files_result_clear(&result);
}
END_TEST

int main(void)
{
    return UNIT_RUN("look", disks_can_be_read_over_nbd_and_not_written,
                    one_disk_of_a_point_can_be_named, a_point_of_several_vms_must_be_told_apart,
                    the_server_dies_with_whoever_mounted, a_directory_is_listed,
                    a_directory_is_copied, a_directory_is_copied_from_a_partition,
                    partitions_are_shown, what_is_not_there_is_said,
                    what_is_damaged_is_named_and_the_rest_is_copied,
                    a_file_that_no_disk_has_room_for_is_not_begun,
                    nothing_here_is_overwritten_or_written_through);
}
