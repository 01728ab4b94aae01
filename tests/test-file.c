/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "common/common.h"

static char *in(const char *dir, const char *name)
{
    return g_build_filename(dir, name, NULL);
}

static void assert_content(const char *path, const char *expected)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(file_read(path, 1 << 20, &text, NULL, &error), error);
    ck_assert_str_eq(text, expected);
}

/* Everything in DIR, temporary files too. */
static unsigned entries(const char *dir)
{
    g_autoptr(GDir) open = g_dir_open(dir, 0, NULL);
    unsigned count = 0;

    while (g_dir_read_name(open))
        count++;
    return count;
}

START_TEST(replaces_a_file_and_sets_its_mode)
{
    g_autofree char *dir = unit_dir(), *path = in(dir, "f");
    g_autoptr(GError) error = NULL;
    struct stat st;

    umask(077);
    unit_ok(file_write(path, "old and longer", 14, 0600, &error), error);
    unit_ok(file_write(path, "new", 3, 0644, &error), error);
    assert_content(path, "new");
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0644);
    ck_assert_uint_eq(entries(dir), 1);
}
END_TEST

START_TEST(a_failed_write_changes_nothing_and_leaves_nothing)
{
    g_autofree char *dir = unit_dir(), *path = in(dir, "d"), *inner = in(path, "f");
    g_autoptr(GError) error = NULL;

    unit_ok(dir_make(path, 0700, &error), error);
    unit_ok(file_write(inner, "x", 1, 0600, &error), error);
    unit_fails(file_write(path, "y", 1, 0600, &error), error, ERROR_IO, path);
    ck_assert_uint_eq(entries(dir), 1);
    assert_content(inner, "x");
    unit_fails(file_write("/nowhere/f", "y", 1, 0600, &error), error, ERROR_NOT_FOUND,
               "/nowhere/f");
}
END_TEST

START_TEST(reads_up_to_a_limit_and_not_a_byte_more)
{
    g_autofree char *dir = unit_dir(), *path = in(dir, "f"), *text = NULL;
    g_autofree char *long_text = g_strnfill(300000, 'x');
    g_autoptr(GError) error = NULL;
    size_t len = 0;

    unit_ok(file_write(path, long_text, 300000, 0600, &error), error);
    unit_ok(file_read(path, 300000, &text, &len, &error), error);
    ck_assert_uint_eq(len, 300000);
    ck_assert_str_eq(text, long_text);
    g_clear_pointer(&text, g_free);
    unit_fails(file_read(path, 299999, &text, &len, &error), error, ERROR_INTEGRITY, "larger than");
    ck_assert_ptr_null(text);
}
END_TEST

START_TEST(reads_files_that_do_not_know_their_size)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(file_read("/proc/self/smaps", 16 << 20, &text, NULL, &error), error);
    ck_assert_uint_gt(strlen(text), 1000);
}
END_TEST

START_TEST(a_short_file_is_damage)
{
    g_autofree char *dir = unit_dir(), *path = in(dir, "f");
    g_autoptr(GError) error = NULL;
    AUTO_FD fd = open(path, O_RDWR | O_CREAT, 0600);
    char data[8];

    unit_ok(fd_write_at(fd, 4, "abcdefgh", 8, "disk vda", &error), error);
    unit_ok(fd_read_at(fd, 4, data, 8, "disk vda", &error), error);
    ck_assert_mem_eq(data, "abcdefgh", 8);
    unit_fails(fd_read_at(fd, 5, data, 8, "disk vda", &error), error, ERROR_INTEGRITY, "disk vda");
}
END_TEST

START_TEST(a_full_disk_is_told_from_other_errors)
{
    g_autoptr(GError) error = NULL;
    AUTO_FD full = open("/dev/full", O_WRONLY);

    unit_fails(fd_write_at(full, 0, "x", 1, "disk vda", &error), error, ERROR_NO_SPACE, "disk vda");
    unit_fails(fd_write_at(-1, 0, "x", 1, "disk vda", &error), error, ERROR_IO, "disk vda");
}
END_TEST

/* A file with data, a hole, data and a hole at its end. */
static void make_sparse(const char *path)
{
    AUTO_FD fd = open(path, O_RDWR | O_CREAT, 0600);
    g_autoptr(GError) error = NULL;

    unit_ok(fd_write_at(fd, 0, "begin", 5, path, &error), error);
    unit_ok(fd_write_at(fd, 8 << 20, "middle", 6, path, &error), error);
    ck_assert_int_eq(ftruncate(fd, (32 << 20) + 3), 0);
}

static void assert_same(const char *a, const char *b)
{
    g_autofree char *in_a = NULL, *in_b = NULL;
    size_t len_a, len_b;
    g_autoptr(GError) error = NULL;

    unit_ok(file_read(a, 64 << 20, &in_a, &len_a, &error), error);
    unit_ok(file_read(b, 64 << 20, &in_b, &len_b, &error), error);
    ck_assert_uint_eq(len_a, len_b);
    ck_assert(memcmp(in_a, in_b, len_a) == 0);
}

START_TEST(a_copy_is_the_same_and_keeps_holes)
{
    g_autofree char *dir = unit_dir(), *from = in(dir, "from"), *to = in(dir, "to");
    g_autoptr(GError) error = NULL;
    struct stat st;

    make_sparse(from);
    unit_ok(file_copy(from, to, 0640, &error), error);
    assert_same(from, to);
    ck_assert_int_eq(stat(to, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0640);
    ck_assert_int_lt(st.st_blocks * 512, 1 << 20);
    ck_assert_uint_eq(entries(dir), 2);
}
END_TEST

/* Where copy_file_range(2) refuses. */
START_TEST(copies_between_file_systems)
{
    g_autofree char *dir = unit_dir(), *from = in(dir, "from");
    g_autofree char *there = g_strdup("/dev/shm/drctl-unit-XXXXXX"), *to = NULL;
    g_autoptr(GError) error = NULL;
    struct stat st;

    if (!g_mkdtemp(there))
        return;
    to = in(there, "to");
    make_sparse(from);
    unit_ok(file_copy(from, to, 0600, &error), error);
    assert_same(from, to);
    ck_assert_int_eq(stat(to, &st), 0);
    ck_assert_int_lt(st.st_blocks * 512, 1 << 20);
    unit_ok(tree_remove(there, &error), error);
}
END_TEST

START_TEST(a_copy_replaces_nothing)
{
    g_autofree char *dir = unit_dir(), *from = in(dir, "from"), *to = in(dir, "to");
    g_autoptr(GError) error = NULL;

    make_sparse(from);
    unit_ok(file_write(to, "mine", 4, 0600, &error), error);
    unit_fails(file_copy(from, to, 0600, &error), error, ERROR_CONFLICT, to);
    assert_content(to, "mine");
    unit_fails(file_copy(dir, from, 0600, &error), error, ERROR_IO, "not a regular file");
    ck_assert_uint_eq(entries(dir), 2);
}
END_TEST

START_TEST(an_interrupted_copy_leaves_nothing)
{
    g_autofree char *dir = unit_dir(), *from = in(dir, "from");
    g_autofree char *there = g_strdup("/dev/shm/drctl-unit-XXXXXX"), *to = NULL;
    g_autoptr(GError) error = NULL;

    if (!g_mkdtemp(there))
        return;
    to = in(there, "to");
    make_sparse(from);
    interrupt_request();
    unit_fails(file_copy(from, to, 0600, &error), error, ERROR_CANCELLED, "interrupted");
    ck_assert_uint_eq(entries(there), 0);
    unit_ok(tree_remove(there, &error), error);
}
END_TEST

START_TEST(makes_directories_with_their_parents)
{
    g_autofree char *dir = unit_dir(), *path = in(dir, "a/b/c/"), *file = in(dir, "f");
    g_autofree char *below = in(file, "d");
    g_autoptr(GError) error = NULL;

    unit_ok(dir_make(path, 0750, &error), error);
    unit_ok(dir_make(path, 0750, &error), error);
    ck_assert(g_file_test(path, G_FILE_TEST_IS_DIR));
    unit_ok(file_write(file, "", 0, 0600, &error), error);
    unit_fails(dir_make(file, 0750, &error), error, ERROR_IO, file);
    unit_fails(dir_make(below, 0750, &error), error, ERROR_IO, file);
    unit_fails(dir_make("", 0750, &error), error, ERROR_NOT_FOUND, "cannot create directory");
}
END_TEST

START_TEST(a_rename_replaces_nothing)
{
    g_autofree char *dir = unit_dir(), *a = in(dir, "a"), *b = in(dir, "b"), *c = in(a, "c");
    g_autoptr(GError) error = NULL;

    unit_ok(dir_make(a, 0700, &error), error);
    unit_ok(dir_make(b, 0700, &error), error);
    unit_fails(path_rename(a, b, &error), error, ERROR_CONFLICT, b);
    unit_ok(path_rename(b, c, &error), error);
    ck_assert(g_file_test(c, G_FILE_TEST_IS_DIR));
    unit_ok(file_write(b, "mine", 4, 0600, &error), error);
    unit_fails(path_rename(b, a, &error), error, ERROR_CONFLICT, a);
    assert_content(b, "mine");
    unit_fails(path_rename(c, b, &error), error, ERROR_CONFLICT, b);
    unit_ok(tree_remove(a, &error), error);
    unit_fails(path_rename(a, c, &error), error, ERROR_NOT_FOUND, a);
}
END_TEST

START_TEST(removes_a_tree_but_not_what_links_point_to)
{
    g_autofree char *dir = unit_dir(), *tree = in(dir, "tree"), *deep = in(tree, "a/b/c");
    g_autofree char *keep = in(dir, "keep"), *kept = in(keep, "f"), *link = in(deep, "link");
    g_autofree char *top_link = in(dir, "top-link"), *file = in(deep, "f");
    g_autoptr(GError) error = NULL;

    unit_ok(dir_make(deep, 0700, &error), error);
    unit_ok(dir_make(keep, 0700, &error), error);
    unit_ok(file_write(kept, "kept", 4, 0600, &error), error);
    unit_ok(file_write(file, "gone", 4, 0600, &error), error);
    ck_assert_int_eq(symlink(keep, link), 0);
    ck_assert_int_eq(symlink(keep, top_link), 0);
    unit_ok(tree_remove(tree, &error), error);
    unit_ok(tree_remove(tree, &error), error);
    unit_ok(tree_remove(top_link, &error), error);
    ck_assert_uint_eq(entries(dir), 1);
    assert_content(kept, "kept");
}
END_TEST

START_TEST(lists_sorted_names_without_temporary_ones)
{
    static const char *const made[] = {"b", "a", ".tmp-123456", "B", ".hidden", "a.b"};
    g_autofree char *dir = unit_dir(), *missing = in(dir, "missing"), *all = NULL;
    g_auto(GStrv) names = NULL, none = NULL;
    g_autoptr(GError) error = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(made); i++) {
        g_autofree char *path = in(dir, made[i]);

        unit_ok(file_write(path, "", 0, 0600, &error), error);
    }
    unit_ok(names = dir_list(dir, &error), error);
    all = g_strjoinv(" ", names);
    ck_assert_str_eq(all, ".hidden B a a.b b");
    unit_ok(none = dir_list(missing, &error), error);
    ck_assert_uint_eq(g_strv_length(none), 0);
    unit_fails(dir_list("/dev/null", &error), error, ERROR_IO, "/dev/null");
}
END_TEST

START_TEST(finds_the_space_for_a_path_that_does_not_exist_yet)
{
    g_autofree char *dir = unit_dir(), *path = in(dir, "a/b/c");
    uint64_t here[2], there[2];
    g_autoptr(GError) error = NULL;

    unit_ok(disk_space(dir, &here[0], &here[1], &error), error);
    unit_ok(disk_space(path, &there[0], &there[1], &error), error);
    ck_assert_uint_eq(here[1], there[1]);
    ck_assert_uint_gt(there[1], 0);
    ck_assert_uint_le(there[0], there[1]);
}
END_TEST

START_TEST(only_harmless_names_are_safe)
{
    static const char *const good[] = {"a", "vda.qcow2", "_x", "20261120T221500.123Z", "A-b_c.9"};
    static const char *const bad[] = {"",    ".",   "..",       ".x",   "-x",  "a/b",
                                      "a b", "a\n", "\xc3\xa4", "a\\b", "a:b", "*"};
    g_autofree char *longest = g_strnfill(255, 'x'), *longer = g_strnfill(256, 'x');

    for (size_t i = 0; i < G_N_ELEMENTS(good); i++)
        ck_assert_msg(name_is_safe(good[i]), "'%s' is refused", good[i]);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        ck_assert_msg(!name_is_safe(bad[i]), "'%s' is accepted", bad[i]);
    ck_assert(name_is_safe(longest));
    ck_assert(!name_is_safe(longer));
}
END_TEST

START_TEST(only_lower_case_uuids_are_valid)
{
    ck_assert(uuid_is_valid("0f8fad5b-d9cb-469f-a165-70867728950e"));
    ck_assert(!uuid_is_valid("0F8FAD5B-D9CB-469F-A165-70867728950E"));
    ck_assert(!uuid_is_valid("0f8fad5bd9cb469fa16570867728950e"));
    ck_assert(!uuid_is_valid("0f8fad5b-d9cb-469f-a165-70867728950"));
    ck_assert(!uuid_is_valid("0f8fad5b-d9cb-469f-a165-70867728950e0"));
    ck_assert(!uuid_is_valid("0f8fad5bd-9cb-469f-a165-70867728950e"));
    ck_assert(!uuid_is_valid("../../..-d9cb-469f-a165-70867728950e"));
    ck_assert(!uuid_is_valid(""));
}
END_TEST

START_TEST(directories_change_places)
{
    g_autofree char *dir = unit_dir(), *a = in(dir, "a"), *b = in(dir, "b");
    g_autofree char *in_a = in(a, "file"), *in_b = in(b, "file"), *missing = in(dir, "missing");
    GError *error = NULL;

    unit_ok(dir_make(a, 0700, &error) && dir_make(b, 0700, &error), error);
    unit_ok(file_write(in_a, "x", 1, 0600, &error), error);
    unit_ok(path_exchange(a, b, &error), error);
    ck_assert(!g_file_test(in_a, G_FILE_TEST_EXISTS));
    ck_assert(g_file_test(in_b, G_FILE_TEST_EXISTS));
    unit_fails(path_exchange(b, missing, &error), error, ERROR_NOT_FOUND, "change places");
    ck_assert(g_file_test(in_b, G_FILE_TEST_EXISTS));
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "file", replaces_a_file_and_sets_its_mode,
        a_failed_write_changes_nothing_and_leaves_nothing, reads_up_to_a_limit_and_not_a_byte_more,
        reads_files_that_do_not_know_their_size, a_short_file_is_damage,
        a_full_disk_is_told_from_other_errors, a_copy_is_the_same_and_keeps_holes,
        copies_between_file_systems, a_copy_replaces_nothing, an_interrupted_copy_leaves_nothing,
        makes_directories_with_their_parents, a_rename_replaces_nothing,
        removes_a_tree_but_not_what_links_point_to, lists_sorted_names_without_temporary_ones,
        finds_the_space_for_a_path_that_does_not_exist_yet, only_harmless_names_are_safe,
        only_lower_case_uuids_are_valid, directories_change_places);
}
