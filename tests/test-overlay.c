/* SPDX-License-Identifier: Apache-2.0 */
/* restore/overlay.h with qemu-img as the oracle. */
#include <sys/stat.h>

#include "restore/overlay.h"
#include "tests/unit.h"

static const struct qemu_user same_user = {.other = false};

/* Run ARGV to a good end; its output, g_free. */
static char *run(const char *const *argv)
{
    g_autoptr(GError) error = NULL;
    char *output = NULL;

    unit_ok(process_run(argv, 120, &output, &error), error);
    return output;
}
#define RUN(...) g_free(run((const char *const[]){__VA_ARGS__, NULL}))

static void write_file(const char *path, const char *text)
{
    g_autoptr(GError) error = NULL;

    unit_ok(file_write(path, text, strlen(text), 0600, &error), error);
}

static void free_disk(void *data)
{
    struct origin_disk *disk = data;

    g_free(disk->target);
    g_strfreev(disk->chain);
    g_free(disk);
}

/* An origin with disk vda of LAYERS images in DIR; layer I holds I+1 in its KiB number 64*I, if it is one
 * of the first three or the last. An image is made without a look at those below it, which would
 * take the square of their number. */
static struct origin *origin_with(const char *dir, unsigned layers)
{
    struct origin *origin = g_new0(struct origin, 1);
    struct origin_disk *disk = g_new0(struct origin_disk, 1);

    origin->manifest = manifest_new();
    origin->disks = g_ptr_array_new_with_free_func(free_disk);
    g_ptr_array_add(origin->disks, disk);
    disk->target = g_strdup("vda");
    disk->chain = g_new0(char *, layers + 1);
    for (unsigned i = 0; i < layers; i++) {
        char *path = g_strdup_printf("%s/layer%u.qcow2", dir, i);
        const char *base = i ? disk->chain[layers - i] : NULL;
        g_autofree char *write = g_strdup_printf("write -P %u %uk 64k", i + 1, 64 * i);

        if (base)
            RUN("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", base, path,
                "16M");
        else
            RUN("qemu-img", "create", "-q", "-f", "qcow2", path, "16M");
        if (i < 3 || i + 1 == layers)
            RUN("qemu-io", "-f", "qcow2", "-c", write, path);
        disk->chain[layers - 1 - i] = path;
    }
    return origin;
}

static void create(const char *dir, const struct origin *origin, const struct qemu_user *user)
{
    g_autoptr(GError) error = NULL;

    unit_ok(overlay_create(dir, dir, origin, user, &error), error);
}

static mode_t mode_of(const char *path)
{
    struct stat st;

    ck_assert_int_eq(stat(path, &st), 0);
    return st.st_mode & 07777;
}

START_TEST(an_overlay_reads_what_the_point_holds)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *run_dir = g_build_filename(dir, "images", "db.r-1", NULL);
    g_autofree char *path = overlay_path(run_dir, "vda");
    AUTO(origin) origin = origin_with(dir, 3);
    const struct origin_disk *disk = origin->disks->pdata[0];
    g_auto(GStrv) chain = overlay_chain(run_dir, disk);

    create(run_dir, origin, &same_user);
    RUN("qemu-img", "compare", "-q", path, disk->chain[0]);
    ck_assert_uint_eq(g_strv_length(chain), 3);
    ck_assert_str_eq(chain[2], disk->chain[2]);
    ck_assert_int_eq(mode_of(path), 0600);
}
END_TEST

START_TEST(a_finished_overlay_is_never_touched_again)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *run_dir = g_build_filename(dir, "images", NULL);
    g_autofree char *path = overlay_path(run_dir, "vda");
    AUTO(origin) origin = origin_with(dir, 1);
    g_autofree char *output = NULL;

    create(run_dir, origin, &same_user);
    RUN("qemu-io", "-f", "qcow2", "-c", "write -P 77 0 64k", path);
    create(run_dir, origin, &same_user);
    output =
        run((const char *const[]){"qemu-io", "-f", "qcow2", "-c", "read -P 77 0 64k", path, NULL});
    ck_assert_ptr_null(strstr(output, "verification failed"));
}
END_TEST

START_TEST(what_a_killed_run_left_half_made_is_made_again)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *run_dir = g_build_filename(dir, "images", NULL);
    g_autofree char *half = g_build_filename(run_dir, ".tmp-vda.qcow2-1", NULL);
    g_autofree char *path = overlay_path(run_dir, "vda");
    AUTO(origin) origin = origin_with(dir, 1);
    g_autoptr(GError) error = NULL;

    unit_ok(dir_make(run_dir, 0700, &error), error);
    write_file(half, "rubbish");
    create(run_dir, origin, &same_user);
    ck_assert(!g_file_test(half, G_FILE_TEST_EXISTS));
    RUN("qemu-img", "check", "-q", path);
}
END_TEST

START_TEST(the_nvram_is_copied_once)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *run_dir = g_build_filename(dir, "images", NULL);
    g_autofree char *copy = overlay_nvram_path(run_dir);
    AUTO(origin) origin = origin_with(dir, 1);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;

    origin->nvram = g_build_filename(dir, "nvram.fd", NULL);
    write_file(origin->nvram, "variables");
    create(run_dir, origin, &same_user);
    write_file(copy, "changed by the guest");
    create(run_dir, origin, &same_user);
    unit_ok(file_read(copy, 100, &text, NULL, &error), error);
    ck_assert_str_eq(text, "changed by the guest");
}
END_TEST

START_TEST(a_chain_that_libvirt_would_refuse_is_copied)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *run_dir = g_build_filename(dir, "images", NULL);
    g_autofree char *path = overlay_path(run_dir, "vda");
    AUTO(origin) origin = origin_with(dir, OVERLAY_MAX_LAYERS + 1);
    const struct origin_disk *disk = origin->disks->pdata[0];
    g_auto(GStrv) chain = overlay_chain(run_dir, disk);
    g_autofree char *info = NULL;

    create(run_dir, origin, &same_user);
    ck_assert_uint_eq(g_strv_length(chain), 1);
    ck_assert(g_str_has_prefix(chain[0], run_dir));
    RUN("qemu-img", "compare", "-q", path, disk->chain[0]);
    info = run((const char *const[]){"qemu-img", "info", chain[0], NULL});
    ck_assert_ptr_null(strstr(info, "backing"));
}
END_TEST

START_TEST(a_missing_image_is_an_error_and_leaves_no_overlay)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *run_dir = g_build_filename(dir, "images", NULL);
    g_autofree char *path = overlay_path(run_dir, "vda");
    AUTO(origin) origin = origin_with(dir, 1);
    const struct origin_disk *disk = origin->disks->pdata[0];
    g_autoptr(GError) error = NULL;

    ck_assert_int_eq(unlink(disk->chain[0]), 0);
    unit_fails(overlay_create(run_dir, run_dir, origin, &same_user, &error), error, ERROR_FAILED,
               "qemu-img");
    ck_assert(!g_file_test(path, G_FILE_TEST_EXISTS));
}
END_TEST

START_TEST(qemus_group_may_read_the_images_and_no_more)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *manifest = g_build_filename(dir, MANIFEST_NAME, NULL);
    AUTO(origin) origin = origin_with(dir, 2);
    const struct origin_disk *disk = origin->disks->pdata[0];
    const struct qemu_user user = {.other = true, .uid = getuid() + 1, .gid = getgid()};
    g_autoptr(GError) error = NULL;

    write_file(manifest, "{}");
    chmod(disk->chain[0], 0600);
    chmod(disk->chain[1], 0604);
    unit_ok(overlay_grant(origin, &user, &error), error);
    ck_assert_int_eq(mode_of(disk->chain[0]), 0640);
    ck_assert_int_eq(mode_of(disk->chain[1]), 0644);
    ck_assert_int_eq(mode_of(dir), 0710);
    ck_assert_int_eq(mode_of(manifest), 0600);
}
END_TEST

START_TEST(nothing_is_changed_where_qemu_can_read_already)
{
    g_autofree char *dir = unit_dir();
    AUTO(origin) origin = origin_with(dir, 1);
    const struct origin_disk *disk = origin->disks->pdata[0];
    const struct qemu_user stranger = {.other = true, .uid = getuid() + 1, .gid = getgid() + 1};
    g_autoptr(GError) error = NULL;

    chmod(dir, 0711);
    chmod(disk->chain[0], 0604);
    unit_ok(overlay_grant(origin, &stranger, &error), error);
    ck_assert_int_eq(mode_of(disk->chain[0]), 0604);
    ck_assert_int_eq(mode_of(dir), 0711);
}
END_TEST

START_TEST(a_directory_that_qemu_cannot_pass_is_named)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *below = g_build_filename(dir, "store/vms", NULL);
    g_autofree char *open = g_strdup_printf("chmod o+x %s", dir);
    const struct qemu_user stranger = {.other = true, .uid = getuid() + 1, .gid = getgid() + 1};
    g_autoptr(GError) error = NULL;

    chmod(unit_base, 0711);
    chmod(dir, 0700);
    unit_fails(overlay_check_passage(below, &stranger, &error), error, ERROR_AUTH, open);
    chmod(dir, 0711);
    unit_ok(overlay_check_passage(below, &stranger, &error), error);
    chmod(dir, 0700);
    unit_ok(overlay_check_passage(below, &same_user, &error), error);
}
END_TEST

START_TEST(a_name_that_is_no_file_name_gives_way_to_the_uuid)
{
    struct config config = {.images = (char *)"/images"};
    const char *uuid = "11111111-2222-3333-4444-555555555555";
    g_autofree char *plain = overlay_dir(config.images, "db", uuid, "r-1");
    g_autofree char *odd = overlay_dir(config.images, "Mein Büro", uuid, "r-1");

    ck_assert_str_eq(plain, "/images/db.r-1");
    ck_assert_str_eq(odd, "/images/11111111-2222-3333-4444-555555555555.r-1");
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "overlay", an_overlay_reads_what_the_point_holds, a_finished_overlay_is_never_touched_again,
        what_a_killed_run_left_half_made_is_made_again, the_nvram_is_copied_once,
        a_chain_that_libvirt_would_refuse_is_copied,
        a_missing_image_is_an_error_and_leaves_no_overlay,
        qemus_group_may_read_the_images_and_no_more, nothing_is_changed_where_qemu_can_read_already,
        a_directory_that_qemu_cannot_pass_is_named,
        a_name_that_is_no_file_name_gives_way_to_the_uuid);
}
