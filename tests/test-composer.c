/* SPDX-License-Identifier: Apache-2.0 */
/* qemu-img is the oracle: what the composer makes has no errors, no leaks, and the right content.
 */
#include "tests/disk.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)

/* The newest point is clean and has the content that the disk has now. */
static void check_point(const struct disk *disk)
{
    g_autofree char *image = disk_image(disk, disk->base);

    qemu_checks(image);
    qemu_compares(disk->raw, image);
}

static void take_and_check(struct disk *disk, const char *point)
{
    AUTO(manifest) manifest = disk_point(disk, point);
    g_autofree char *dir = g_build_filename(disk->dir, point, NULL);
    g_autoptr(GError) error = NULL;

    check_point(disk);
    unit_ok(snapshot_verify_point(dir, manifest, NULL, &error), error);
}

/* Two points of a disk of BYTES, all of it written, then some of it. */
static void check_size(uint64_t bytes)
{
    g_autofree char *dir = unit_dir();
    AUTO(disk) disk = disk_new(dir, bytes, (uint32_t)bytes);

    disk_write(disk, 0, (size_t)bytes, DISK_TEXT);
    take_and_check(disk, "p0");
    disk_write(disk, bytes - 512, 512, DISK_ZERO);
    take_and_check(disk, "p1");
    disk_write(disk, 0, (size_t)bytes, DISK_RANDOM);
    take_and_check(disk, "p2");
    disk_write(disk, 0, (size_t)bytes, DISK_ZERO);
    take_and_check(disk, "p3");
}

START_TEST(sizes_around_one_cluster_are_right)
{
    check_size(512);
    check_size(CLUSTER_BYTES - 512);
    check_size(CLUSTER_BYTES);
    check_size(CLUSTER_BYTES + 512);
}
END_TEST

START_TEST(an_empty_disk_is_an_image)
{
    g_autofree char *dir = unit_dir();
    AUTO(disk) disk = disk_new(dir, 3 * GIB + 512, 1);

    take_and_check(disk, "p0");
    take_and_check(disk, "p1");
}
END_TEST

START_TEST(each_point_of_a_chain_has_the_content_of_its_time)
{
    g_autofree char *dir = unit_dir();
    AUTO(disk) disk = disk_new(dir, 24 * MIB + 1536, 2);

    for (unsigned i = 0; i < 6; i++) {
        g_autofree char *point = g_strdup_printf("p%u", i);
        g_autofree char *then = g_strdup_printf("%s/raw.%u", dir, i);
        AUTO(manifest) manifest = NULL;
        g_autoptr(GError) error = NULL;

        disk_scribble(disk, 0, disk->bytes, i == 0 ? 150 : 25);
        manifest = disk_point(disk, point);
        unit_ok(file_copy(disk->raw, then, 0600, &error), error);
    }
    /* Later points have not disturbed the earlier ones. */
    for (unsigned i = 0; i < 6; i++) {
        g_autofree char *image = g_strdup_printf("%s/p%u/vda.qcow2", dir, i);
        g_autofree char *then = g_strdup_printf("%s/raw.%u", dir, i);

        qemu_checks(image);
        qemu_compares(then, image);
    }
}
END_TEST

START_TEST(zeros_over_data_hide_the_backing_file)
{
    g_autofree char *dir = unit_dir();
    AUTO(disk) disk = disk_new(dir, 2 * MIB, 3);
    AUTO(manifest) base = NULL;
    AUTO(manifest) delta = NULL;

    disk_write(disk, 0, 2 * MIB, DISK_TEXT);
    base = disk_point(disk, "p0");
    disk_write(disk, 0, 2 * MIB, DISK_ZERO);
    delta = disk_point(disk, "p1");
    check_point(disk);
    ck_assert_uint_eq(manifest_disk(delta, "vda")->changed_bytes, 2 * MIB);
    /* header, L2, L1, refcount block, refcount table: 8 bytes per cluster and no data */
    ck_assert_uint_eq(manifest_disk(delta, "vda")->stored_bytes, 5 * CLUSTER_BYTES);
}
END_TEST

START_TEST(zeros_in_a_base_image_cost_nothing)
{
    g_autofree char *dir = unit_dir();
    AUTO(disk) disk = disk_new(dir, 2 * MIB, 4);
    AUTO(manifest) base = NULL;

    disk_write(disk, 0, 2 * MIB, DISK_ZERO);
    base = disk_point(disk, "p0");
    check_point(disk);
    ck_assert_uint_eq(manifest_disk(base, "vda")->changed_bytes, 0);
    ck_assert_uint_eq(manifest_disk(base, "vda")->stored_bytes, 4 * CLUSTER_BYTES);
}
END_TEST

START_TEST(packed_and_plain_clusters_mix)
{
    g_autofree char *dir = unit_dir();
    AUTO(disk) disk = disk_new(dir, 8 * MIB, 5);

    for (unsigned i = 0; i < 128; i++)
        disk_write(disk, (uint64_t)i * CLUSTER_BYTES, CLUSTER_BYTES,
                   i % 7 == 0   ? DISK_SAME
                   : i % 3 == 0 ? DISK_RANDOM
                                : DISK_TEXT);
    take_and_check(disk, "p0");
    disk_write(disk, 3 * MIB, 4 * MIB, DISK_RANDOM);
    take_and_check(disk, "p1");
}
END_TEST

START_TEST(thousands_of_frames_fit_into_one_cluster)
{
    g_autofree char *dir = unit_dir();
    AUTO(disk) disk = disk_new(dir, 600 * MIB, 6);
    AUTO(manifest) base = NULL;

    for (unsigned i = 0; i < 150; i++)
        disk_write(disk, i * 4 * MIB, 4 * MIB, DISK_SAME);
    base = disk_point(disk, "p0");
    check_point(disk);
    ck_assert_uint_lt(manifest_disk(base, "vda")->stored_bytes, MIB);
}
END_TEST

START_TEST(several_l2_tables_are_right)
{
    g_autofree char *dir = unit_dir();
    AUTO(disk) disk = disk_new(dir, 4 * GIB + 3 * 512, 7);

    disk_scribble(disk, 0, MIB, 5);
    disk_scribble(disk, 512 * MIB - CLUSTER_BYTES, 512 * MIB + CLUSTER_BYTES, 5);
    disk_scribble(disk, GIB, GIB + 20 * MIB, 30);
    disk_scribble(disk, disk->bytes - 2 * MIB, disk->bytes, 10);
    take_and_check(disk, "p0");
    disk_scribble(disk, 3 * GIB, 3 * GIB + MIB, 5);
    disk_scribble(disk, GIB, GIB + 20 * MIB, 10);
    take_and_check(disk, "p1");
}
END_TEST

START_TEST(a_disk_of_terabytes_costs_what_it_holds)
{
    g_autofree char *dir = unit_dir();
    AUTO(disk) disk = disk_new(dir, 7 * TIB + 512, 8);
    AUTO(manifest) base = NULL;

    disk_write(disk, 0, 4096, DISK_TEXT);
    disk_write(disk, 5 * TIB - CLUSTER_BYTES, 2 * CLUSTER_BYTES, DISK_RANDOM);
    disk_write(disk, 7 * TIB, 512, DISK_RANDOM);
    base = disk_point(disk, "p0");
    check_point(disk);
    ck_assert_uint_lt(manifest_disk(base, "vda")->stored_bytes, 2 * MIB);
    disk_write(disk, 5 * TIB, CLUSTER_BYTES, DISK_ZERO);
    take_and_check(disk, "p1");
}
END_TEST

/* A composer that writes to DIR/image and DIR/digests. */
static struct composer *compose(struct disk_files *files, const char *dir, uint64_t bytes,
                                const char *backing)
{
    g_autofree char *image = g_build_filename(dir, "image", NULL);
    g_autofree char *digests = g_build_filename(dir, "digests", NULL);
    g_autoptr(GError) error = NULL;
    struct composer *composer =
        composer_new(disk_files_open(files, image, digests), bytes, backing, &error);

    unit_ok(composer != NULL, error);
    return composer;
}

static void finish(struct composer *composer, struct disk_files *files, const char *dir)
{
    g_autofree char *image = g_build_filename(dir, "image", NULL);
    g_autoptr(GError) error = NULL;
    struct composer_totals totals;

    unit_ok(composer_finish(composer, &totals, &error), error);
    disk_files_close(files, &totals);
    qemu_checks(image);
    unit_ok(image_walk(image, NULL, &error), error);
}

START_TEST(the_largest_disk_is_an_image)
{
    g_autofree char *dir = unit_dir();
    g_autofree uint8_t *plain = g_malloc0(CLUSTER_BYTES);
    g_autoptr(GError) error = NULL;
    struct disk_files files;
    AUTO(composer) composer = compose(&files, dir, 64 * TIB, NULL);

    plain[0] = 1;
    unit_ok(composer_plain(composer, 64 * TIB / CLUSTER_BYTES - 1, plain, plain, &error), error);
    finish(composer, &files, dir);
}
END_TEST

/* PLAIN clusters, then PACKED frames of 40000 bytes: where tables and frames meet the end of the 2
 * GiB that a refcount block counts depends on both. All zeros, so the file is sparse and this is
 * quick. */
static void check_range(uint64_t plain_count, unsigned packed_count)
{
    g_autofree char *dir = unit_dir();
    g_autofree uint8_t *zeros = g_malloc0(CLUSTER_BYTES);
    g_autoptr(GError) error = NULL;
    struct disk_files files;
    AUTO(composer) composer = compose(&files, dir, 6 * GIB, NULL);
    uint64_t cluster = 0;

    for (; cluster < plain_count; cluster++)
        unit_ok(composer_plain(composer, cluster, zeros, zeros, &error), error);
    for (; cluster < plain_count + packed_count; cluster++)
        unit_ok(composer_packed(composer, cluster, zeros, 40000, zeros, &error), error);
    finish(composer, &files, dir);
}

START_TEST(refcount_blocks_meet_the_tables_in_any_way)
{
    /* 32768 clusters: header, 4 L2 tables, and so on */
    for (uint64_t plain_count = 32756; plain_count <= 32766; plain_count += 2)
        check_range(plain_count, 0);
}
END_TEST

START_TEST(frames_meet_the_end_of_a_refcount_block)
{
    for (unsigned packed_count = 1; packed_count <= 5; packed_count += 2) {
        check_range(32760, packed_count);
        check_range(32761, packed_count);
    }
}
END_TEST

START_TEST(several_refcount_blocks_are_right)
{
    check_range(75000, 9);
}
END_TEST

START_TEST(the_longest_backing_name_is_kept)
{
    g_autofree char *dir = unit_dir();
    AUTO(disk) disk = disk_new(dir, MIB, 9);
    AUTO(manifest) base = NULL;
    g_autoptr(GString) name = g_string_new("p00/vda.qcow2");
    g_autofree char *image = g_build_filename(dir, "image", NULL);
    g_autofree char *output = NULL;
    g_autoptr(GError) error = NULL;
    struct disk_files files;

    while (name->len < 1023)
        g_string_prepend(name, "./");
    ck_assert_uint_eq(name->len, 1023);
    base = disk_point(disk, "p00");
    AUTO(composer) composer = compose(&files, dir, MIB, name->str);
    unit_ok(composer_zero(composer, 0, 16, &error), error);
    finish(composer, &files, dir);
    unit_ok(process_run((const char *[]){"qemu-img", "info", image, NULL}, 50, &output, &error),
            error);
    ck_assert(strstr(output, name->str) != NULL);
    ck_assert(strstr(output, "backing file format: qcow2") != NULL);
}
END_TEST

START_TEST(refuses_backing_names_that_do_not_fit)
{
    g_autofree char *too_long = g_strnfill(1024, 'n');
    g_autoptr(GError) error = NULL;

    unit_fails(composer_new((struct composer_output){}, MIB, too_long, &error), error, ERROR_FAILED,
               "1023 bytes");
    unit_fails(composer_new((struct composer_output){}, MIB, "", &error), error, ERROR_FAILED,
               "1023 bytes");
}
END_TEST

START_TEST(refuses_sizes_that_no_disk_has)
{
    static const uint64_t sizes[] = {0, 511, 513, MIB + 1, 64 * TIB + 512, UINT64_MAX - 511};
    g_autoptr(GError) error = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++)
        unit_fails(composer_new((struct composer_output){}, sizes[i], NULL, &error), error,
                   ERROR_FAILED, "cannot be kept");
}
END_TEST

static bool write_fails(void *context, uint64_t offset, const void *data, size_t len,
                        GError **error)
{
    return fail(error, ERROR_NO_SPACE, "no space for it");
}

START_TEST(a_failed_write_is_reported_at_once)
{
    struct composer_output output = {.image = write_fails, .digests = write_fails};
    g_autofree uint8_t *plain = g_malloc0(CLUSTER_BYTES);
    g_autoptr(GError) error = NULL;
    AUTO(composer) composer = composer_new(output, GIB, NULL, &error);
    uint64_t cluster = 0;

    while (cluster < 16 && composer_plain(composer, cluster, plain, plain, &error))
        cluster++;
    ck_assert_uint_eq(cluster, 14); /* when the file had 1 MiB, the header included */
    ck_assert(error_is(error, ERROR_NO_SPACE));
}
END_TEST

START_TEST(an_image_without_its_header_is_not_an_image)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *image = g_build_filename(dir, "image", NULL);
    g_autofree uint8_t *plain = g_malloc0(CLUSTER_BYTES);
    g_autoptr(GError) error = NULL;
    struct disk_files files;
    AUTO(composer) composer = compose(&files, dir, GIB, NULL);

    memset(plain, 1, CLUSTER_BYTES);
    for (uint64_t cluster = 0; cluster < 40; cluster++)
        unit_ok(composer_plain(composer, cluster, plain, plain, &error), error);
    ck_assert(!process_run((const char *[]){"qemu-img", "info", "-f", "qcow2", image, NULL}, 50,
                           NULL, &error));
}
END_TEST

/* A failed assertion says so on stdout, where TAP is read. */
static void be_silent(void)
{
    AUTO_FD null = open("/dev/null", O_WRONLY);

    ck_assert_int_ge(dup2(null, STDOUT_FILENO), 0);
}

START_TEST(clusters_out_of_order_abort)
{
    struct composer_output output = {.image = write_fails, .digests = write_fails};
    AUTO(composer) composer = composer_new(output, GIB, "b", NULL);

    be_silent();
    composer_zero(composer, 5, 1, NULL);
    composer_zero(composer, 5, 1, NULL);
}
END_TEST

START_TEST(clusters_beyond_the_disk_abort)
{
    struct composer_output output = {.image = write_fails, .digests = write_fails};
    AUTO(composer) composer = composer_new(output, GIB, "b", NULL);

    be_silent();
    composer_zero(composer, GIB / CLUSTER_BYTES - 1, 2, NULL);
}
END_TEST

static Suite *composer_suite(void)
{
    const TTest *const tests[] = {
        sizes_around_one_cluster_are_right,
        an_empty_disk_is_an_image,
        each_point_of_a_chain_has_the_content_of_its_time,
        zeros_over_data_hide_the_backing_file,
        zeros_in_a_base_image_cost_nothing,
        packed_and_plain_clusters_mix,
        thousands_of_frames_fit_into_one_cluster,
        several_l2_tables_are_right,
        a_disk_of_terabytes_costs_what_it_holds,
        the_largest_disk_is_an_image,
        refcount_blocks_meet_the_tables_in_any_way,
        frames_meet_the_end_of_a_refcount_block,
        several_refcount_blocks_are_right,
        the_longest_backing_name_is_kept,
        refuses_backing_names_that_do_not_fit,
        refuses_sizes_that_no_disk_has,
        a_failed_write_is_reported_at_once,
        an_image_without_its_header_is_not_an_image,
    };
    Suite *suite = suite_create("composer");
    TCase *tcase = tcase_create("composer");

    tcase_set_timeout(tcase, UNIT_TIMEOUT_S);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
        tcase_add_test(tcase, tests[i]);
    tcase_add_test_raise_signal(tcase, clusters_out_of_order_abort, SIGABRT);
    tcase_add_test_raise_signal(tcase, clusters_beyond_the_disk_abort, SIGABRT);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return unit_run_suite(composer_suite());
}
