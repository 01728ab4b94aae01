/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "metadata/metadata.h"

#define DB "9b3f7c1e-2a4d-4e5f-8a6b-0c1d2e3f4a5b"
#define APP "1c1f7c1e-2a4d-4e5f-8a6b-0c1d2e3f4a5b"

/* --- Files of a host. */

static char *host_dir(void)
{
    g_autofree char *dir = unit_dir();

    return realpath(dir, NULL);
}

static void put(const char *dir, const char *name, const char *data, size_t len, mode_t mode)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autofree char *parent = g_path_get_dirname(path);
    g_autoptr(GError) error = NULL;

    unit_ok(dir_make(parent, 0755, &error), error);
    unit_ok(file_write(path, data, len, mode, &error), error);
}

static const struct host_file *find(const GPtrArray *files, const char *dir, const char *name)
{
    g_autofree char *path = name ? g_build_filename(dir, name, NULL) : g_strdup(dir);

    for (unsigned i = 0; i < files->len; i++) {
        const struct host_file *file = files->pdata[i];

        if (strcmp(file->path, path) == 0)
            return file;
    }
    return NULL;
}

static GPtrArray *read_dir(const char *dir)
{
    char *paths[] = {(char *)dir, NULL};

    return host_files_read(paths, NULL);
}

START_TEST(files_and_directories_are_read_with_modes_and_owners)
{
    g_autofree char *dir = host_dir();
    g_autoptr(GPtrArray) files = NULL;
    const struct host_file *file;

    put(dir, "a.conf", "x = 1\n", 6, 0640);
    put(dir, "sub/raw", "a\0b\xff", 4, 0600);
    files = read_dir(dir);
    ck_assert_uint_eq(files->len, 4);
    file = find(files, dir, "a.conf");
    ck_assert_uint_eq(file->mode, 0640);
    ck_assert_uint_eq(file->uid, geteuid());
    ck_assert_str_eq(file->data, "x = 1\n");
    ck_assert(find(files, dir, "sub")->is_directory);
    ck_assert_uint_eq(find(files, dir, "sub/raw")->len, 4);
    ck_assert_mem_eq(find(files, dir, "sub/raw")->data, "a\0b\xff", 4);
}
END_TEST

static int link_of(const char *dir, const char *name, const char *other_dir, const char *other)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autofree char *second = g_build_filename(other_dir, other, NULL);

    return link(path, second);
}

START_TEST(links_secrets_keys_and_what_is_too_large_are_left_out)
{
    g_autofree char *dir = host_dir();
    g_autofree char *out = g_build_filename(dir, "out", NULL);
    g_autofree char *tree = g_build_filename(dir, "tree", NULL);
    g_autofree char *link = g_build_filename(tree, "link", NULL);
    g_autofree char *way = g_build_filename(tree, "way", NULL);
    g_autofree char *pipe_path = g_build_filename(tree, "pipe", NULL);
    g_autofree char *key = g_build_filename(tree, "id", NULL);
    g_autofree char *large = g_malloc0(HOST_FILE_MAX_BYTES + 1);
    g_autofree char *round = g_build_filename(way, "round", NULL);
    char *paths[] = {tree, (char *)"/nowhere/at/all", NULL}, *keys[] = {key, round, NULL};
    g_autoptr(GPtrArray) files = NULL;

    put(dir, "out/secret", "s", 1, 0600);
    put(tree, "id", "key", 3, 0600);
    put(tree, "libvirt/secrets/u.base64", "c2VjcmV0", 8, 0600);
    put(tree, "libvirt/secrets/u.xml", "<secret/>", 9, 0600);
    put(tree, "large", large, HOST_FILE_MAX_BYTES + 1, 0600);
    put(tree, "full", large, HOST_FILE_MAX_BYTES, 0600);
    ck_assert_int_eq(symlink("../out/secret", link), 0);
    ck_assert_int_eq(symlink(out, way), 0);
    /* The same file, by a way that the configuration does not know. */
    put(tree, "same", "key", 3, 0600);
    ck_assert_int_eq(link_of(tree, "same", out, "round"), 0);
    ck_assert_int_eq(mkfifo(pipe_path, 0600), 0);
    files = host_files_read(paths, keys);
    ck_assert_str_eq(find(files, tree, "link")->left_out, "a symbolic link");
    ck_assert_str_eq(find(files, tree, "way")->left_out, "a symbolic link");
    ck_assert_ptr_null(find(files, tree, "way/secret"));
    ck_assert_str_eq(find(files, tree, "pipe")->left_out, "neither a file nor a directory");
    ck_assert_str_eq(find(files, tree, "id")->left_out, "a private key or password of this site");
    ck_assert_str_eq(find(files, tree, "same")->left_out, "a private key or password of this site");
    ck_assert_str_eq(find(files, tree, "libvirt/secrets/u.base64")->left_out,
                     "the value of a secret");
    ck_assert_str_eq(find(files, tree, "libvirt/secrets/u.xml")->data, "<secret/>");
    ck_assert_str_eq(find(files, tree, "large")->left_out, "larger than 1 MiB");
    ck_assert_uint_eq(find(files, tree, "full")->len, HOST_FILE_MAX_BYTES);
}
END_TEST

START_TEST(all_together_are_bounded)
{
    g_autofree char *dir = host_dir();
    g_autofree char *large = g_malloc0(HOST_FILE_MAX_BYTES);
    g_autoptr(GPtrArray) files = NULL;
    unsigned left_out = 0;

    for (unsigned i = 0; i < 18; i++) {
        g_autofree char *name = g_strdup_printf("%02u", i);

        put(dir, name, large, HOST_FILE_MAX_BYTES, 0600);
    }
    files = read_dir(dir);
    for (unsigned i = 0; i < files->len; i++)
        left_out += ((const struct host_file *)files->pdata[i])->left_out != NULL;
    ck_assert_uint_eq(left_out, 2);
    ck_assert_str_eq(find(files, dir, "17")->left_out, "all together are larger than 16 MiB");
}
END_TEST

START_TEST(of_too_many_files_one_is_named)
{
    g_autofree char *dir = host_dir();
    g_autofree char *last = g_strdup_printf("%04u", HOST_FILES_MAX - 1);
    g_autoptr(GPtrArray) files = NULL;

    for (unsigned i = 0; i < HOST_FILES_MAX + 5; i++) {
        g_autofree char *path = g_strdup_printf("%s/%04u", dir, i);
        AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        ck_assert_int_ge(fd, 0);
    }
    files = read_dir(dir);
    ck_assert_uint_eq(files->len, HOST_FILES_MAX + 1);
    for (unsigned i = 0; i < HOST_FILES_MAX; i++)
        ck_assert_ptr_null(((const struct host_file *)files->pdata[i])->left_out);
    ck_assert_ptr_nonnull(strstr(find(files, dir, last)->left_out, "more than 2000"));
}
END_TEST

START_TEST(a_directory_that_cannot_be_read_is_named)
{
    g_autofree char *dir = host_dir();
    g_autoptr(GPtrArray) files = NULL;
    struct rlimit limit, less;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    put(dir, "sub/x", "x", 1, 0600);
    ck_assert_int_ge(fd, 0);
    close(fd);
    /* It can be opened, but not be listed. */
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    less = (struct rlimit){(rlim_t)fd + 2, limit.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &less), 0);
    files = read_dir(dir);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_uint_eq(files->len, 2);
    ck_assert_ptr_null(find(files, dir, NULL)->left_out);
    ck_assert_ptr_nonnull(find(files, dir, "sub")->left_out);
}
END_TEST

START_TEST(a_file_is_written_as_it_was)
{
    g_autofree char *dir = host_dir();
    g_autofree char *other = g_build_filename(dir, "other", NULL);
    g_autofree char *through = g_build_filename(dir, "link", NULL);
    g_autofree char *path = g_build_filename(dir, "new/x", NULL);
    g_autofree char *astray = g_build_filename(through, "x", NULL);
    g_autofree char *deep_parent = g_build_filename(through, "sub", NULL);
    g_autofree char *deep = g_build_filename(deep_parent, "x", NULL);
    struct host_file file = {.path = path,
                             .mode = 0604,
                             .uid = geteuid(),
                             .gid = getegid(),
                             .data = (char *)"a\0b",
                             .len = 3};
    g_autoptr(GError) error = NULL;
    struct stat st;

    ck_assert_int_eq(host_file_state(&file), HOST_FILE_MISSING);
    unit_ok(host_file_write(&file, &error), error);
    ck_assert_int_eq(host_file_state(&file), HOST_FILE_SAME);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0604);
    file.len = 2;
    ck_assert_int_eq(host_file_state(&file), HOST_FILE_DIFFERS);
    file.len = 3;
    ck_assert_int_eq(chmod(path, 0600), 0);
    ck_assert_int_eq(host_file_state(&file), HOST_FILE_DIFFERS);
    if (geteuid() == 0) {
        file.uid = 12345;
        ck_assert_int_eq(host_file_state(&file), HOST_FILE_DIFFERS);
        unit_ok(host_file_write(&file, &error), error);
        ck_assert_int_eq(host_file_state(&file), HOST_FILE_SAME);
    }
    /* Not where a link leads, and not over what is no file. */
    ck_assert_int_eq(mkdir(other, 0755), 0);
    ck_assert_int_eq(symlink("other", through), 0);
    file.path = astray;
    unit_fails(host_file_write(&file, &error), error, ERROR_CONFLICT, "by a link");
    file.path = deep;
    unit_fails(host_file_write(&file, &error), error, ERROR_CONFLICT, "by a link");
    ck_assert(!g_file_test(deep_parent, G_FILE_TEST_EXISTS));
    file.path = other;
    unit_fails(host_file_write(&file, &error), error, ERROR_CONFLICT, "is not a file");
    file.path = through;
    unit_fails(host_file_write(&file, &error), error, ERROR_CONFLICT, "is not a file");
}
END_TEST

START_TEST(paths_are_whole_and_chosen_ones_are_those_below)
{
    char *chosen[] = {(char *)"/etc/libvirt", (char *)"/etc/fstab", NULL};

    ck_assert(host_path_is_valid("/etc/libvirt"));
    ck_assert(host_path_is_valid("/etc/a b \xc3\xa4"));
    ck_assert(!host_path_is_valid("etc"));
    ck_assert(!host_path_is_valid("/"));
    ck_assert(!host_path_is_valid("/etc/../x"));
    ck_assert(!host_path_is_valid("/etc/"));
    ck_assert(!host_path_is_valid("/etc/\n"));
    ck_assert(!host_path_is_valid("/etc/\xff"));
    ck_assert(host_path_is_chosen("/etc/libvirt", chosen));
    ck_assert(host_path_is_chosen("/etc/libvirt/qemu.conf", chosen));
    ck_assert(!host_path_is_chosen("/etc/libvirt2", chosen));
    ck_assert(!host_path_is_chosen("/etc/shadow", chosen));
    ck_assert(!host_path_is_chosen("/etc/shadow", NULL));
}
END_TEST

/* --- Bundles of hosts. */

static struct bundle *sample(const char *dir)
{
    struct bundle *bundle = bundle_new("dc1");
    g_autoptr(GPtrArray) files = read_dir(dir);

    bundle_add_domain(bundle, "db", DB, "<domain><name>db</name></domain>");
    bundle_add(bundle, "others/" APP ".xml", "<domain><name>app</name></domain>");
    bundle_add(bundle, "networks/lan.xml", "<network/>");
    bundle_add(bundle, "networks/db.xml", "<network/>");
    bundle_add(bundle, "nwfilters/clean.xml", "<filter/>");
    bundle_add(bundle, "secrets/" DB ".xml", "<secret/>");
    bundle_add(bundle, "plans/shop.plan", "[plan]\n");
    bundle_add(bundle, "capabilities/kvm1.xml", "<capabilities/>");
    bundle_add(bundle, BUNDLE_CONF, "[site]\nname = dc1\n");
    bundle_add_files(bundle, files);
    bundle->id->generation = 1;
    bundle->id->time = g_strdup("20261120T221500.123Z");
    bundle_seal(bundle);
    return bundle;
}

static struct pool *pool_of(struct bundle *bundle)
{
    g_autoptr(GError) error = NULL;
    struct pool *pool = pool_new(bundle, &error);

    unit_ok(pool, error);
    return pool;
}

START_TEST(what_it_takes_to_make_a_host_anew_goes_over)
{
    g_autofree char *dir = host_dir();
    AUTO(bundle) bundle = NULL;
    g_autoptr(GError) error = NULL;
    g_autofree char *data = NULL;
    g_autofree char *raw = g_build_filename(dir, "raw \xc3\xa4", NULL);
    AUTO(pool) pool = NULL;
    g_autoptr(GPtrArray) found = NULL;
    const struct pool_object *object;
    struct bundle *copy;
    size_t len;

    put(dir, "a.conf", "x = 1\n", 6, 0640);
    put(dir, "raw \xc3\xa4", "a\0b\xff", 4, 0600);
    bundle = sample(dir);
    unit_ok(bundle_pack(bundle, &data, &len, &error), error);
    copy = bundle_unpack(data, len, "x", &error);
    unit_ok(copy, error);
    pool = pool_of(copy);
    found = pool_find(pool, raw, &error);
    unit_ok(found, error);
    object = found->pdata[0];
    ck_assert_uint_eq(object->file->len, 4);
    ck_assert_mem_eq(object->text, "a\0b\xff", 4);
    ck_assert_uint_eq(object->file->mode, 0600);
}
END_TEST

START_TEST(only_what_is_new_makes_the_format_new)
{
    g_autofree char *dir = host_dir();
    AUTO(bundle) plain = bundle_new("dc1");
    AUTO(bundle) full = sample(dir);
    struct bundle *const bundles[] = {plain, full};

    bundle_add_domain(plain, "db", DB, "<domain/>");
    plain->id->generation = 1;
    plain->id->time = g_strdup("20261120T221500.123Z");
    bundle_seal(plain);
    for (unsigned i = 0; i < 2; i++) {
        g_autoptr(GHashTable) members =
            g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        g_autofree char *data = NULL;
        g_autoptr(GError) error = NULL;
        size_t len;

        unit_ok(bundle_pack(bundles[i], &data, &len, &error), error);
        unit_ok(tarball_read(data, len, members, &error), error);
        ck_assert_ptr_nonnull(strstr(g_hash_table_lookup(members, "bundle.json"),
                                     i ? "\"format\": 2" : "\"format\": 1"));
    }
    ck_assert(!bundle_takes("files/../etc/shadow"));
    ck_assert(!bundle_takes("files//etc/shadow"));
    ck_assert(!bundle_takes("others/x.xml"));
    ck_assert(!bundle_takes("drctl.conf2"));
}
END_TEST

START_TEST(objects_are_found_by_what_people_call_them)
{
    g_autofree char *dir = host_dir();
    AUTO(pool) pool = NULL;
    g_autoptr(GError) error = NULL;
    static const struct {
        const char *word, *id;
    } words[] = {
        {"lan", "network/lan"},     {"network/db", "network/db"}, {DB, NULL},
        {"app", "domain/app"},      {"conf", "conf/drctl.conf"},  {"plan/shop", "plan/shop"},
        {"kvm1", "host/kvm1"},      {"clean", "nwfilter/clean"},  {APP, "domain/app"},
        {"domain/" DB, "domain/db"}};

    put(dir, "a/b", "x", 1, 0600);
    pool = pool_of(sample(dir));
    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
        g_autoptr(GPtrArray) found = NULL;

        /* The secret has the UUID of the domain here. */
        if (!words[i].id) {
            unit_fails(pool_find(pool, words[i].word, &error), error, ERROR_USAGE, "domain/db");
            continue;
        }
        found = pool_find(pool, words[i].word, &error);
        unit_ok(found, error);
        ck_assert_uint_eq(found->len, 1);
        ck_assert_str_eq(((const struct pool_object *)found->pdata[0])->id, words[i].id);
    }
    unit_fails(pool_find(pool, "db", &error), error, ERROR_USAGE, "network/db, domain/db");
    unit_fails(pool_find(pool, "web", &error), error, ERROR_NOT_FOUND, "there is no web");
    g_autoptr(GPtrArray) below = pool_find(pool, dir, &error);

    unit_ok(below, error);
    ck_assert_uint_eq(below->len, 3);
}
END_TEST

START_TEST(what_hosts_have_under_one_name_stays_apart)
{
    g_autofree char *dir = host_dir();
    AUTO(bundle) bundle = sample(dir);
    g_autoptr(GError) error = NULL;
    g_autofree char *data = NULL;
    AUTO(pool) before = NULL;
    AUTO(pool) pool = NULL;
    g_autoptr(GPtrArray) first = NULL, second = NULL;
    g_autoptr(GArray) changes = NULL;
    const struct pool_object *object;
    struct bundle *copy;
    size_t len;

    bundle_add(bundle, "hosts/kvm2/networks/lan.xml", "<network><x/></network>");
    bundle_seal(bundle);
    unit_ok(bundle_pack(bundle, &data, &len, &error), error);
    copy = bundle_unpack(data, len, "x", &error);
    unit_ok(copy, error);
    pool = pool_of(copy);
    unit_fails(pool_find(pool, "lan", &error), error, ERROR_USAGE, "network/lan, network/kvm2/lan");
    first = pool_find(pool, "network/lan", &error);
    unit_ok(first, error);
    ck_assert_str_eq(((const struct pool_object *)first->pdata[0])->text, "<network/>");
    second = pool_find(pool, "network/kvm2/lan", &error);
    unit_ok(second, error);
    object = second->pdata[0];
    ck_assert_str_eq(object->text, "<network><x/></network>");
    ck_assert_str_eq(object->name, "lan");
    ck_assert_str_eq(object->host, "kvm2");
    before = pool_of(sample(dir));
    changes = pool_changes(before, pool);
    ck_assert_uint_eq(changes->len, 1);
    ck_assert_int_eq(g_array_index(changes, struct pool_change, 0).sign, '+');
    ck_assert_str_eq(g_array_index(changes, struct pool_change, 0).id, "network/kvm2/lan");
    ck_assert(!bundle_takes("hosts/kvm2/lan.xml"));
    ck_assert(!bundle_takes("hosts/../networks/lan.xml"));
    ck_assert(!bundle_takes("hosts/kvm2/networks/../lan.xml"));
    ck_assert(!bundle_takes("hosts/kvm2/secrets/" DB ".xml"));
}
END_TEST

START_TEST(what_has_changed_is_told)
{
    g_autofree char *dir = host_dir();
    AUTO(pool) before = NULL;
    AUTO(pool) after = NULL;
    struct bundle *next;
    g_autoptr(GArray) changes = NULL;
    g_autoptr(GArray) none = NULL;
    g_autoptr(GString) text = g_string_new(NULL);
    g_autofree char *path = g_build_filename(dir, "a", NULL);
    g_autofree char *wanted = NULL;

    put(dir, "a", "x", 1, 0600);
    before = pool_of(sample(dir));
    ck_assert_int_eq(chmod(path, 0640), 0);
    next = sample(dir);
    bundle_add(next, "networks/lan.xml", "<network></network>");
    bundle_add(next, "pools/default.xml", "<pool/>");
    g_hash_table_remove(next->members, "plans/shop.plan");
    after = pool_of(next);
    changes = pool_changes(before, after);
    for (unsigned i = 0; i < changes->len; i++) {
        const struct pool_change *change = &g_array_index(changes, struct pool_change, i);

        g_string_append_printf(text, "%c%s ", change->sign, change->id);
    }
    wanted = g_strdup_printf("~network/lan +pool/default -plan/shop ~file%s ", path);
    ck_assert_str_eq(text->str, wanted);
    none = pool_changes(after, after);
    ck_assert_uint_eq(none->len, 0);
}
END_TEST

START_TEST(a_forged_list_of_files_is_refused)
{
    static const struct {
        const char *index, *message;
    } bad[] = {
        {"[]", "host-files.json"},
        {"{\"etc\": {}}", "'etc' is not a path"},
        {"{\"/etc/../x\": {}}", "is not a path"},
        {"{\"/x\": {\"type\": \"file\", \"mode\": \"0600\", \"uid\": 0, \"gid\": 0}}",
         "there is no files/x"},
        {"{\"/x\": {\"type\": \"directory\", \"mode\": \"4755\", \"uid\": 0, \"gid\": 0}}",
         "\"mode\" is not one"},
        {"{\"/x\": {\"type\": \"directory\", \"mode\": \"755\", \"uid\": 4294967295, \"gid\": 0}}",
         "too large"},
    };
    AUTO(bundle) coloured = bundle_new("dc1");
    g_autoptr(GPtrArray) files = NULL;
    g_autoptr(GError) none = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        AUTO(bundle) bundle = bundle_new("dc1");
        g_autoptr(GError) error = NULL;

        bundle_add(bundle, BUNDLE_FILES, bad[i].index);
        unit_fails(bundle_files(bundle, &error), error, ERROR_INTEGRITY, bad[i].message);
    }
    bundle_add(coloured, BUNDLE_FILES, "{\"/x\": {\"left_out\": \"\\u001b[2J\\nno\"}}");
    files = bundle_files(coloured, &none);
    unit_ok(files, none);
    ck_assert_str_eq(((const struct host_file *)files->pdata[0])->left_out, "?[2J no");
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "pool", files_and_directories_are_read_with_modes_and_owners,
        links_secrets_keys_and_what_is_too_large_are_left_out, all_together_are_bounded,
        of_too_many_files_one_is_named, a_directory_that_cannot_be_read_is_named,
        a_file_is_written_as_it_was, paths_are_whole_and_chosen_ones_are_those_below,
        what_it_takes_to_make_a_host_anew_goes_over, only_what_is_new_makes_the_format_new,
        objects_are_found_by_what_people_call_them, what_hosts_have_under_one_name_stays_apart,
        what_has_changed_is_told, a_forged_list_of_files_is_refused);
}
