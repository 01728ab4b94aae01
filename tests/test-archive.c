/* SPDX-License-Identifier: Apache-2.0 */
/* A VM or a vApp goes from one site to another as one file. */
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>

#include "tests/recovery-lab.h"

/* ---- There and back */

static void export_to(const struct lab *lab, const char *name, const char *file)
{
    struct export_request request = {.name = name, .file = file};
    struct archive_result result = {0};
    g_autoptr(GError) error = NULL;

    unit_ok(export_archive(&lab->site, &request, &result, &error), error);
    ck_assert_str_eq(result.name, name);
    archive_result_clear(&result);
}

static bool imports(const struct lab *lab, const char *file, bool dry_run, unsigned *present,
                    GError **error)
{
    struct import_request request = {.file = file, .dry_run = dry_run};
    struct archive_result result = {0};
    bool done = import_archive(&lab->site, &request, &result, error);

    *present = 0;
    for (unsigned i = 0; done && i < result.vms->len; i++)
        *present += ((const struct archive_vm *)result.vms->pdata[i])->present;
    archive_result_clear(&result);
    return done;
}

static void import_from(const struct lab *lab, const char *file)
{
    g_autoptr(GError) error = NULL;
    unsigned present;

    unit_ok(imports(lab, file, false, &present, &error), error);
    ck_assert_uint_eq(present, 0);
}

static unsigned count_points(const struct lab *lab)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) points = store_points(lab->store, NULL, &error);

    unit_ok(points != NULL, error);
    return points->len;
}

/* Disk TARGET of the newest point of GUEST reads at B, where it stands alone, as at A. */
static void assert_same_disk(const struct lab *a, const struct lab *b,
                             const struct lost_guest *guest, const char *target)
{
    g_autofree char *from = store_point_dir(a->config->store, guest->uuid, guest->points[1]);
    g_autofree char *to = store_point_dir(b->config->store, guest->uuid, guest->points[1]);
    g_autofree char *before = g_strdup_printf("%s/%s.qcow2", from, target);
    g_autofree char *after = g_strdup_printf("%s/%s.qcow2", to, target);
    g_autofree char *info = run((const char *const[]){"qemu-img", "info", after, NULL});

    RUN("qemu-img", "check", "-q", after);
    RUN("qemu-img", "compare", "-q", before, after);
    ck_assert_ptr_null(strstr(info, "backing"));
}

/* Every cluster is what its digest says. */
static void assert_verifies(const struct lab *lab, const struct lost_guest *guest)
{
    g_autofree char *dir = store_point_dir(lab->config->store, guest->uuid, guest->points[1]);
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    g_autoptr(GError) error = NULL;
    AUTO(manifest) manifest = manifest_load(path, &error);

    unit_ok(manifest != NULL, error);
    ck_assert_ptr_null(manifest->checkpoint);
    unit_ok(snapshot_verify_point(dir, manifest, NULL, &error), error);
    unit_ok(store_verify_point(lab->config->store, manifest, NULL, &error), error);
}

START_TEST(a_vm_goes_to_another_site_as_one_file)
{
    AUTO(lab) a = lab_open("there-a");
    AUTO(lab) b = lab_open("there-b");
    AUTO(lost_guest) guest = lost_guest(a, "there-vm", "");
    g_autofree char *file = lab_path(a, "there.tar.zst");
    struct restore_request request = {.vm = "there-vm", .as = "there-copy", .start = true};
    struct restore_result result = {0};
    g_autoptr(GError) error = NULL;

    export_to(a, "there-vm", file);
    import_from(b, file);
    assert_same_disk(a, b, guest, "vda");
    assert_same_disk(a, b, guest, "vdb");
    assert_verifies(b, guest);
    unit_ok(restore_execute(&b->site, &request, &result, &error), error);
    ck_assert(guest_reads(b, "there-copy", 17, 0) && guest_reads(b, "there-copy", 34, 1));
    restore_result_clear(&result);
}
END_TEST

START_TEST(an_older_point_is_exported_if_it_is_asked_for)
{
    AUTO(lab) a = lab_open("older-a");
    AUTO(lab) b = lab_open("older-b");
    AUTO(lost_guest) guest = lost_guest(a, "older-vm", "");
    g_autofree char *file = lab_path(a, "older.tar.zst");
    g_autofree char *dir = store_point_dir(b->config->store, guest->uuid, guest->points[0]);
    struct export_request request = {.name = guest->uuid, .file = file, .point = guest->points[0]};
    struct archive_result result = {0};
    g_autoptr(GError) error = NULL;

    unit_ok(export_archive(&a->site, &request, &result, &error), error);
    archive_result_clear(&result);
    import_from(b, file);
    ck_assert(g_file_test(dir, G_FILE_TEST_IS_DIR));
    ck_assert_uint_eq(count_points(b), 1);
}
END_TEST

START_TEST(nothing_but_tar_and_qemu_img_is_needed_to_use_it)
{
    AUTO(lab) a = lab_open("plain-a");
    AUTO(lost_guest) guest = lost_uefi_guest(a, "plain-vm");
    g_autofree char *file = lab_path(a, "plain.tar.zst");
    g_autofree char *out = lab_path(a, "out");
    g_autofree char *from = store_point_dir(a->config->store, guest->uuid, guest->points[1]);
    g_autofree char *before = g_build_filename(from, "vda.qcow2", NULL);
    g_autofree char *dir = g_build_filename(out, "vms", guest->uuid, guest->points[1], NULL);
    g_autofree char *script = g_strdup_printf("cd '%s' && sha256sum -c --quiet SHA256SUMS && "
                                              "qemu-img compare -q vda.qcow2 '%s' && "
                                              "head -c 9 nvram.fd | grep -q variables && "
                                              "grep -q '<name>plain-vm</name>' domain.xml",
                                              dir, before);
    g_autoptr(GError) error = NULL;

    export_to(a, "plain-vm", file);
    unit_ok(dir_make(out, 0700, &error), error);
    RUN("tar", "--zstd", "-xf", file, "-C", out);
    RUN("sh", "-ec", script);
}
END_TEST

START_TEST(a_vapp_goes_with_its_order_and_fails_over_there)
{
    static const char text[] = "[vapp]\nname = shop\n[vm shop-db]\norder = 1\n[vm shop-app]\n"
                               "order = 2\n";
    AUTO(lab) a = lab_open("shop-a");
    AUTO(lab) b = lab_open("shop-b");
    AUTO(lost_guest) db = lost_guest(a, "shop-db", "");
    AUTO(lost_guest) app = lost_guest(a, "shop-app", "");
    g_autofree char *file = lab_path(a, "shop.tar.zst");
    g_autofree char *path = lab_path(b, "etc/shop.vapp");
    g_autofree char *written = NULL;
    g_autoptr(GError) error = NULL;

    publish(a, "shop", text, (struct lost_guest *[]){db, app, NULL});
    export_to(a, "shop", file);
    import_from(b, file);
    unit_ok(file_read(path, 4096, &written, NULL, &error), error);
    ck_assert_str_eq(written, text);
    fail_over(b, "shop");
    ck_assert(guest_reads(b, "shop-db", 34, 1) && guest_reads(b, "shop-app", 34, 1));
}
END_TEST

START_TEST(a_clone_is_whole_without_its_template)
{
    AUTO(lab) a = lab_open("clone-a");
    AUTO(lab) b = lab_open("clone-b");
    AUTO(lost_guest) original = lost_guest(a, "clone-original", "");
    AUTO(lost_guest) clone = lost_clone(a, "clone-copy", original);
    g_autofree char *file = lab_path(a, "clone.tar.zst");

    export_to(a, "clone-copy", file);
    import_from(b, file);
    assert_same_disk(a, b, clone, "vda");
    ck_assert_uint_eq(count_points(b), 1);
}
END_TEST

START_TEST(an_import_can_be_repeated_and_a_dry_run_changes_nothing)
{
    AUTO(lab) a = lab_open("again-a");
    AUTO(lab) b = lab_open("again-b");
    AUTO(lost_guest) guest = lost_guest(a, "again-vm", "");
    g_autofree char *file = lab_path(a, "again.tar.zst");
    g_autoptr(GError) error = NULL;
    unsigned present;

    export_to(a, guest->name, file);
    unit_ok(imports(b, file, true, &present, &error), error);
    ck_assert_uint_eq(count_points(b), 0);
    import_from(b, file);
    unit_ok(imports(b, file, false, &present, &error), error);
    ck_assert_uint_eq(present, 1);
    ck_assert_uint_eq(count_points(b), 1);
}
END_TEST

/* ---- What is refused */

START_TEST(a_file_that_exists_is_not_overwritten)
{
    AUTO(lab) a = lab_open("exists");
    AUTO(lost_guest) guest = lost_guest(a, "exists-vm", "");
    g_autofree char *file = lab_path(a, "exists.tar.zst");
    struct export_request request = {.name = guest->name, .file = file};
    struct archive_result result = {0};
    g_autoptr(GError) error = NULL;

    unit_ok(file_write(file, "mine", 4, 0600, &error), error);
    unit_fails(export_archive(&a->site, &request, &result, &error), error, ERROR_CONFLICT,
               "exists already");
}
END_TEST

START_TEST(a_damaged_point_is_not_exported_and_leaves_no_file)
{
    AUTO(lab) a = lab_open("bitrot");
    AUTO(lost_guest) guest = lost_guest(a, "bitrot-vm", "");
    g_autofree char *point = store_point_dir(a->config->store, guest->uuid, guest->points[0]);
    g_autofree char *image = g_build_filename(point, "vda.qcow2", NULL);
    g_autofree char *out = lab_path(a, "out");
    g_autofree char *file = g_build_filename(out, "bitrot.tar.zst", NULL);
    struct export_request request = {.name = guest->name, .file = file};
    struct archive_result result = {0};
    AUTO_FD fd = open(image, O_RDWR | O_CLOEXEC);
    g_autoptr(GError) error = NULL;
    g_autoptr(GDir) left = NULL;
    uint8_t byte;

    unit_ok(dir_make(out, 0700, &error), error);
    unit_ok(fd_read_at(fd, 65536 + 20, &byte, 1, image, &error), error);
    byte ^= 1;
    unit_ok(fd_write_at(fd, 65536 + 20, &byte, 1, image, &error), error);
    unit_fails(export_archive(&a->site, &request, &result, &error), error, ERROR_INTEGRITY,
               "cluster ");
    left = g_dir_open(out, 0, NULL);
    ck_assert_ptr_null(g_dir_read_name(left));
}
END_TEST

/* Neither has digests of its own in the archive but those that are made of it. */
START_TEST(a_definition_or_nvram_that_has_changed_is_not_exported_as_good)
{
    static const struct {
        const char *name;
        uint64_t at;
    } files[] = {{"domain.xml", 30}, {"nvram.fd", 3}};
    AUTO(lab) a = lab_open("changedfile");
    AUTO(lost_guest) guest = lost_uefi_guest(a, "changedfile-vm");
    g_autofree char *point = store_point_dir(a->config->store, guest->uuid, guest->points[1]);
    g_autofree char *archive = lab_path(a, "changed.tar.zst");
    g_autofree char *ova = lab_path(a, "changed.ova");
    const char *const outs[] = {archive, ova};

    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(point, files[i].name, NULL);
        AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC);
        g_autoptr(GError) error = NULL;
        uint8_t byte, other;

        unit_ok(fd_read_at(fd, files[i].at, &byte, 1, path, &error), error);
        other = byte ^ 1;
        unit_ok(fd_write_at(fd, files[i].at, &other, 1, path, &error), error);
        for (unsigned k = 0; k < G_N_ELEMENTS(outs); k++) {
            struct export_request request = {.name = guest->name, .file = outs[k]};
            struct archive_result result = {0};

            unit_fails(export_archive(&a->site, &request, &result, &error), error, ERROR_INTEGRITY,
                       files[i].name);
            ck_assert(!g_file_test(outs[k], G_FILE_TEST_EXISTS));
        }
        unit_ok(fd_write_at(fd, files[i].at, &byte, 1, path, &error), error);
    }
}
END_TEST

/* How an archive is changed on its way. */
enum change { KEEP, FLIP, CUT, DOUBLE, LINK, CLIMB, SHRINK };

static void put_entry(struct archive *to, const char *name, const char *data, size_t len)
{
    struct archive_entry *entry = archive_entry_new();

    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, (la_int64_t)len);
    ck_assert_int_eq(archive_write_header(to, entry), ARCHIVE_OK);
    ck_assert_int_eq(archive_write_data(to, data, len), (la_ssize_t)len);
    archive_entry_free(entry);
}

static void put_link(struct archive *to, const char *name)
{
    struct archive_entry *entry = archive_entry_new();

    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFLNK);
    archive_entry_set_symlink(entry, "/etc/passwd");
    archive_entry_set_perm(entry, 0644);
    ck_assert_int_eq(archive_write_header(to, entry), ARCHIVE_OK);
    archive_entry_free(entry);
}

static void change_entry(struct archive *to, const char *name, char *data, size_t len,
                         enum change change)
{
    g_autofree char *above = g_strconcat("../", name, NULL);

    switch (change) {
    case FLIP:
        data[len / 2] ^= 1;
        break;
    case CUT:
        return;
    case DOUBLE:
        put_entry(to, name, data, len);
        break;
    case LINK:
        put_link(to, name);
        return;
    case CLIMB:
        put_entry(to, above, data, len);
        return;
    case SHRINK:
        len--;
        break;
    case KEEP:
        break;
    }
    put_entry(to, name, data, len);
}

/* Write the archive FROM to TO, with CHANGE done to the member whose name ends with WHICH. */
static void repack(const char *from, const char *to, const char *which, enum change change)
{
    struct archive *reader = archive_read_new(), *writer = archive_write_new();
    struct archive_entry *entry;

    archive_read_support_filter_zstd(reader);
    archive_read_support_format_tar(reader);
    ck_assert_int_eq(archive_read_open_filename(reader, from, 65536), ARCHIVE_OK);
    archive_write_set_format_pax_restricted(writer);
    archive_write_add_filter_zstd(writer);
    ck_assert_int_eq(archive_write_open_filename(writer, to), ARCHIVE_OK);
    while (archive_read_next_header(reader, &entry) == ARCHIVE_OK) {
        g_autofree char *name = g_strdup(archive_entry_pathname(entry));
        size_t len = (size_t)archive_entry_size(entry);
        g_autofree char *data = g_malloc(len + 1);

        ck_assert_int_eq(archive_read_data(reader, data, len), (la_ssize_t)len);
        change_entry(writer, name, data, len, g_str_has_suffix(name, which) ? change : KEEP);
    }
    archive_read_free(reader);
    ck_assert_int_eq(archive_write_free(writer), ARCHIVE_OK);
}

/* Nothing arrived, and nothing is on its way. */
static void assert_untouched(const struct lab *lab)
{
    static const char *const dirs[] = {"store/vms", "store/incoming"};

    for (unsigned i = 0; i < G_N_ELEMENTS(dirs); i++) {
        g_autofree char *path = lab_path(lab, dirs[i]);
        g_auto(GStrv) names = dir_list(path, NULL);

        ck_assert_uint_eq(g_strv_length(names), 0);
    }
}

START_TEST(what_was_changed_on_its_way_is_refused_before_anything_is_written)
{
    static const struct {
        const char *member;
        enum change change;
        const char *text;
    } changes[] = {
        {"vda.qcow2", FLIP, "is damaged"},
        {"vdb.digests", FLIP, "is damaged"},
        {"domain.xml", FLIP, ""},
        {"manifest.json", FLIP, ""},
        {"SHA256SUMS", FLIP, "is damaged"},
        {"SHA256SUMS", CUT, "it ends where"},
        {"vda.digests", CUT, "should be"},
        {"archive.json", CUT, "should be"},
        {"vda.qcow2", DOUBLE, "is there twice"},
        {"vda.qcow2", LINK, "not a plain file"},
        {"domain.xml", CLIMB, "unsafe name"},
        {"vda.qcow2", SHRINK, "the manifest says"},
    };
    AUTO(lab) a = lab_open("changed-a");
    AUTO(lab) b = lab_open("changed-b");
    AUTO(lost_guest) guest = lost_guest(a, "changed-vm", "");
    g_autofree char *file = lab_path(a, "good.tar.zst");
    g_autofree char *bad = lab_path(a, "bad.tar.zst");
    unsigned present;

    export_to(a, guest->name, file);
    for (unsigned i = 0; i < G_N_ELEMENTS(changes); i++) {
        g_autoptr(GError) error = NULL;

        repack(file, bad, changes[i].member, changes[i].change);
        unit_fails(imports(b, bad, false, &present, &error), error, ERROR_INTEGRITY,
                   changes[i].text);
        assert_untouched(b);
    }
    /* It was not the packing. */
    repack(file, bad, "", KEEP);
    import_from(b, bad);
}
END_TEST

START_TEST(a_file_that_is_cut_off_is_refused)
{
    AUTO(lab) a = lab_open("cut-a");
    AUTO(lab) b = lab_open("cut-b");
    AUTO(lost_guest) guest = lost_guest(a, "cut-vm", "");
    g_autofree char *file = lab_path(a, "cut.tar.zst");
    g_autofree char *bad = lab_path(a, "short.tar.zst");
    g_autofree char *data = NULL;
    g_autoptr(GError) error = NULL;
    size_t len;

    export_to(a, guest->name, file);
    unit_ok(file_read(file, 64 << 20, &data, &len, &error), error);
    for (unsigned i = 0; i < 8; i++) {
        g_autoptr(GError) cause = NULL;
        unsigned present;

        unit_ok(file_write(bad, data, len * i / 8, 0600, &error), error);
        unit_fails(imports(b, bad, false, &present, &cause), cause, ERROR_INTEGRITY,
                   "short.tar.zst");
        assert_untouched(b);
    }
}
END_TEST

/* What begins like an archive of the first point of GUEST, whose vda has BYTES. */
static void write_begin(const struct lab *lab, const struct lost_guest *guest, uint64_t bytes,
                        const char *file)
{
    g_autofree char *dir = store_point_dir(lab->config->store, guest->uuid, guest->points[0]);
    g_autofree char *path = g_build_filename(dir, MANIFEST_NAME, NULL);
    g_autofree char *head = g_strdup_printf(
        "{\"format\": 1, \"kind\": \"drctl-archive\", \"name\": \"%1$s\", \"vapp\": false, "
        "\"vms\": [{\"vm\": \"%1$s\", \"uuid\": \"%2$s\", \"point\": \"%3$s\"}]}",
        guest->name, guest->uuid, guest->points[0]);
    g_autofree char *member =
        g_strdup_printf("vms/%s/%s/%s", guest->uuid, guest->points[0], MANIFEST_NAME);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(manifest) manifest = manifest_load(path, &error);
    AUTO(tarball_out) out = tarball_out_new(file, TARBALL_ZSTD, 0, &error);

    unit_ok(manifest != NULL && out != NULL, error);
    g_clear_pointer(&manifest->checkpoint, g_free);
    ((struct manifest_disk *)manifest->disks->pdata[0])->stored_bytes = bytes;
    ((struct manifest_file *)manifest_file(manifest, "vda.qcow2"))->bytes = bytes;
    text = manifest_text(manifest);
    unit_ok(tarball_out_add(out, "archive.json", head, strlen(head), &error), error);
    unit_ok(tarball_out_add(out, member, text, strlen(text), &error), error);
    unit_ok(tarball_out_commit(out, &error), error);
}

START_TEST(what_the_store_keeps_free_is_no_room_for_an_import)
{
    AUTO(lab) a = lab_open("room-a");
    AUTO(lab) b = lab_open("room-b");
    AUTO(lost_guest) guest = lost_guest(a, "room-vm", "");
    g_autofree char *fits = lab_path(a, "fits.tar.zst");
    g_autofree char *file = lab_path(a, "room.tar.zst");
    struct store_info info = {0};
    g_autoptr(GError) error = NULL;
    unsigned present;

    unit_ok(store_info(b->store, &info, &error), error);
    write_begin(a, guest, 1 << 20, fits);
    write_begin(a, guest, info.free_bytes - store_reserve_bytes(info.total_bytes) / 2, file);
    store_info_clear(&info);
    unit_fails(imports(b, fits, true, &present, &error), error, ERROR_INTEGRITY, "it ends where");
    unit_fails(imports(b, file, true, &present, &error), error, ERROR_NO_SPACE, "room for");
}
END_TEST

START_TEST(a_killed_import_is_finished_by_the_same_command)
{
    static const char text[] = "[vapp]\nname = kill\n[vm kill-db]\norder = 1\n[vm kill-app]\n"
                               "order = 2\n";
    g_autofree char *file = NULL;
    g_autofree char *first = NULL;
    g_autoptr(GError) error = NULL;
    unsigned present;
    pid_t pid;

    {
        AUTO(lab) a = lab_open("kill-a");
        AUTO(lab) b = lab_open("kill-b");
        AUTO(lost_guest) db = lost_guest(a, "kill-db", "");
        AUTO(lost_guest) app = lost_guest(a, "kill-app", "");

        file = lab_path(a, "kill.tar.zst");
        first = store_point_dir(b->config->store, db->uuid, db->points[1]);
        publish(a, "kill", text, (struct lost_guest *[]){db, app, NULL});
        export_to(a, "kill", file);
    }
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct lab *killed = lab_open("kill-b");

        imports(killed, file, false, &present, NULL);
        _exit(0);
    }
    while (!g_file_test(first, G_FILE_TEST_IS_DIR) && waitpid(pid, NULL, WNOHANG) == 0)
        g_usleep(500);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    ck_assert(g_file_test(first, G_FILE_TEST_IS_DIR));
    AUTO(lab) b = lab_open("kill-b");
    g_autofree char *path = lab_path(b, "etc/kill.vapp");

    unit_ok(imports(b, file, false, &present, &error), error);
    ck_assert_uint_ge(present, 1);
    ck_assert_uint_eq(count_points(b), 2);
    ck_assert(g_file_test(path, G_FILE_TEST_EXISTS));
    fail_over(b, "kill");
}
END_TEST

START_TEST(a_definition_of_the_administrator_stays)
{
    static const char text[] = "[vapp]\nname = mine\n[vm mine-db]\norder = 1\n";
    static const char other[] = "[vapp]\nname = mine\n[vm something]\n";
    AUTO(lab) a = lab_open("mine-a");
    AUTO(lab) b = lab_open("mine-b");
    AUTO(lost_guest) db = lost_guest(a, "mine-db", "");
    g_autofree char *file = lab_path(a, "mine.tar.zst");
    g_autofree char *path = lab_path(b, "etc/mine.vapp");
    g_autofree char *kept = NULL;
    g_autoptr(GError) error = NULL;

    publish(a, "mine", text, (struct lost_guest *[]){db, NULL});
    export_to(a, "mine", file);
    unit_ok(file_write(path, other, strlen(other), 0644, &error), error);
    import_from(b, file);
    unit_ok(file_read(path, 4096, &kept, NULL, &error), error);
    ck_assert_str_eq(kept, other);
}
END_TEST

int main(void)
{
    become_ordinary_user();
    return SESSION_RUN(
        "archive", a_vm_goes_to_another_site_as_one_file,
        an_older_point_is_exported_if_it_is_asked_for,
        nothing_but_tar_and_qemu_img_is_needed_to_use_it,
        a_vapp_goes_with_its_order_and_fails_over_there, a_clone_is_whole_without_its_template,
        an_import_can_be_repeated_and_a_dry_run_changes_nothing,
        a_file_that_exists_is_not_overwritten, a_damaged_point_is_not_exported_and_leaves_no_file,
        a_definition_or_nvram_that_has_changed_is_not_exported_as_good,
        what_was_changed_on_its_way_is_refused_before_anything_is_written,
        a_file_that_is_cut_off_is_refused, what_the_store_keeps_free_is_no_room_for_an_import,
        a_killed_import_is_finished_by_the_same_command, a_definition_of_the_administrator_stays);
}
