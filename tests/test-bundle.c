/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>

#include "metadata/metadata.h"

#define DB "9b3f7c1e-2a4d-4e5f-8a6b-0c1d2e3f4a5b"
#define APP "1c1f7c1e-2a4d-4e5f-8a6b-0c1d2e3f4a5b"
#define TIME "20261120T221500.123Z"

static struct bundle *sample(void)
{
    struct bundle *bundle = bundle_new("dc1");

    bundle_add_domain(bundle, "db \xc3\xa4", DB, "<domain><name>db</name></domain>\n");
    bundle_add_domain(bundle, "app", APP, "<domain><name>app</name></domain>\n");
    bundle_add(bundle, "networks/VM Netz \xc3\xa4.xml", "<network/>\n");
    bundle_add(bundle, "networks/lan.xml", "");
    bundle_add(bundle, "pools/default.xml", "<pool/>\n");
    bundle_add(bundle, "vapps/shop.vapp", "[vapp]\nname = shop\n");
    bundle->id->generation = 7;
    bundle->id->time = g_strdup(TIME);
    bundle_seal(bundle);
    return bundle;
}

static void pack(const struct bundle *bundle, char **data, size_t *len)
{
    g_autoptr(GError) error = NULL;

    unit_ok(bundle_pack(bundle, data, len, &error), error);
}

static void assert_same(const struct bundle *a, const struct bundle *b)
{
    GHashTableIter iter;
    void *key, *value;

    ck_assert_str_eq(a->id->site, b->id->site);
    ck_assert_str_eq(a->id->time, b->id->time);
    ck_assert_str_eq(a->id->digest, b->id->digest);
    ck_assert_uint_eq(a->id->generation, b->id->generation);
    ck_assert_uint_eq(g_hash_table_size(a->members), g_hash_table_size(b->members));
    ck_assert_uint_eq(g_hash_table_size(a->vms), g_hash_table_size(b->vms));
    g_hash_table_iter_init(&iter, a->members);
    while (g_hash_table_iter_next(&iter, &key, &value))
        ck_assert_str_eq(value, bundle_member(b, key));
    g_hash_table_iter_init(&iter, a->vms);
    while (g_hash_table_iter_next(&iter, &key, &value))
        ck_assert_str_eq(value, g_hash_table_lookup(b->vms, key));
}

/* --- Archives that nobody of ours would write. */

struct member {
    const char *name;
    const char *text;
    size_t len;
    unsigned type; /* 0: a file */
};

static la_ssize_t collect(struct archive *archive, void *data, const void *bytes, size_t len)
{
    g_byte_array_append(data, bytes, (guint)len);
    return (la_ssize_t)len;
}

static void write_entry(struct archive *archive, const struct member *member)
{
    struct archive_entry *entry = archive_entry_new();

    archive_entry_set_pathname(entry, member->name);
    archive_entry_set_filetype(entry, member->type ? member->type : AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, member->type ? 0 : (la_int64_t)member->len);
    if (member->type == AE_IFLNK)
        archive_entry_set_symlink(entry, member->text);
    if (member->type == AE_IFSOCK) { /* stands for a hard link */
        archive_entry_set_filetype(entry, AE_IFREG);
        archive_entry_set_hardlink(entry, member->text);
    }
    ck_assert_int_ge(archive_write_header(archive, entry), ARCHIVE_WARN);
    if (!member->type)
        ck_assert_int_eq(archive_write_data(archive, member->text, member->len),
                         (la_ssize_t)member->len);
    archive_entry_free(entry);
}

/* FILTERS: 'z' for zstd, 'g' for gzip, the outermost first. */
static GByteArray *write_archive(const struct member *members, size_t n, const char *filters)
{
    struct archive *archive = archive_write_new();
    GByteArray *out = g_byte_array_new();

    ck_assert_int_eq(archive_write_set_format_pax_restricted(archive), ARCHIVE_OK);
    for (; *filters; filters++)
        ck_assert_int_eq((*filters == 'z' ? archive_write_add_filter_zstd
                                          : archive_write_add_filter_gzip)(archive),
                         ARCHIVE_OK);
    archive_write_set_bytes_in_last_block(archive, 1);
    ck_assert_int_eq(archive_write_open(archive, out, NULL, collect, NULL), ARCHIVE_OK);
    for (size_t i = 0; i < n; i++)
        write_entry(archive, &members[i]);
    ck_assert_int_eq(archive_write_close(archive), ARCHIVE_OK);
    archive_free(archive);
    return out;
}

static void assert_refused(const GByteArray *archive, const char *part)
{
    g_autoptr(GError) error = NULL;

    unit_fails(bundle_unpack((const char *)archive->data, archive->len, "bundle of dc1", &error),
               error, ERROR_INTEGRITY, part);
    bundle_free(bundle_unpack((const char *)archive->data, archive->len, "bundle of dc1", &error));
    ck_assert_msg(g_str_has_prefix(error->message, "bundle of dc1: "), "%s", error->message);
}

/* bundle.json of the sample, changed by EDIT and with a check of its own again. */
static char *forge_head(void (*edit)(json_t *head))
{
    static const char *const keys[] = {"format", "site", "time", "generation", "digest", "vms"};
    AUTO(bundle) bundle = sample();
    json_auto_t *head = json_object();
    g_autofree char *text = NULL;
    uint8_t digest[DIGEST_SIZE];
    char hex[DIGEST_HEX_SIZE];
    json_t *vms = json_object();

    json_set_u64(head, keys[0], 1);
    json_set_string(head, keys[1], bundle->id->site);
    json_set_string(head, keys[2], bundle->id->time);
    json_set_u64(head, keys[3], bundle->id->generation);
    json_set_string(head, keys[4], bundle->id->digest);
    json_set_string(vms, "app", APP);
    json_set_string(vms, "db \xc3\xa4", DB);
    json_object_set_new(head, keys[5], vms);
    edit(head);
    text = json_text(head, 0);
    digest_buffer(text, strlen(text), digest);
    digest_to_hex(digest, hex);
    json_set_string(head, "check", hex);
    return json_text(head, 2);
}

/* The members of the sample with HEAD as bundle.json. */
static GByteArray *forge(const char *head)
{
    AUTO(bundle) bundle = sample();
    g_autoptr(GArray) members = g_array_new(FALSE, FALSE, sizeof(struct member));
    struct member first = {"bundle.json", head, strlen(head), 0};
    GHashTableIter iter;
    void *key, *value;

    GByteArray *archive;

    g_array_append_val(members, first);
    g_hash_table_iter_init(&iter, bundle->members);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        struct member member = {g_uri_escape_string(key, "/", FALSE), value, strlen(value), 0};

        g_array_append_val(members, member);
    }
    archive = write_archive((const struct member *)(void *)members->data, members->len, "z");
    for (unsigned i = 1; i < members->len; i++)
        g_free((char *)g_array_index(members, struct member, i).name);
    return archive;
}

/* --- The tests. */

START_TEST(what_is_packed_is_unpacked)
{
    AUTO(bundle) bundle = sample();
    g_autoptr(GError) error = NULL;
    g_autofree char *data = NULL;
    g_auto(GStrv) networks = NULL;
    g_auto(GStrv) none = NULL;
    AUTO(bundle) copy = NULL;
    size_t len;

    pack(bundle, &data, &len);
    copy = bundle_unpack(data, len, "x", &error);
    unit_ok(copy, error);
    assert_same(bundle, copy);
    ck_assert_ptr_null(bundle_member(copy, "bundle.json"));
    networks = bundle_names(copy, "networks");
    ck_assert_uint_eq(g_strv_length(networks), 2);
    ck_assert_str_eq(networks[0], "VM Netz \xc3\xa4");
    ck_assert_str_eq(networks[1], "lan");
    none = bundle_names(copy, "hosts");
    ck_assert_ptr_null(none[0]);
}
END_TEST

START_TEST(tar_can_unpack_it)
{
    AUTO(bundle) bundle = sample();
    g_autofree char *dir = unit_dir();
    g_autofree char *path = g_build_filename(dir, "b.tar.zst", NULL);
    g_autofree char *vapp = g_build_filename(dir, "vapps", "shop.vapp", NULL);
    const char *const argv[] = {"tar", "-C", dir, "-xf", path, NULL};
    g_autoptr(GError) error = NULL;
    g_autofree char *data = NULL, *text = NULL;
    size_t len;

    pack(bundle, &data, &len);
    unit_ok(file_write(path, data, len, 0644, &error), error);
    unit_ok(process_run(argv, 30, NULL, &error), error);
    unit_ok(file_read(vapp, 1000, &text, NULL, &error), error);
    ck_assert_str_eq(text, bundle_member(bundle, "vapps/shop.vapp"));
}
END_TEST

START_TEST(the_digest_is_of_the_content_only)
{
    AUTO(bundle) a = sample();
    AUTO(bundle) b = sample();

    b->id->generation = 8;
    bundle_seal(b);
    ck_assert_str_eq(a->id->digest, b->id->digest);
    bundle_add(b, "pools/default.xml", "<pool />\n");
    bundle_seal(b);
    ck_assert_str_ne(a->id->digest, b->id->digest);
    bundle_add(b, "pools/default.xml", "<pool/>\n");
    g_hash_table_replace(b->vms, g_strdup("app2"), g_strdup(APP));
    bundle_seal(b);
    ck_assert_str_ne(a->id->digest, b->id->digest);
}
END_TEST

START_TEST(refuses_every_truncation)
{
    AUTO(bundle) bundle = sample();
    g_autofree char *data = NULL;
    size_t len;

    pack(bundle, &data, &len);
    for (size_t cut = 0; cut < len; cut++) {
        /* A copy, so that reading behind its end is seen. */
        g_autofree char *part = g_memdup2(data, cut);
        g_autoptr(GError) error = NULL;
        AUTO(bundle) copy = bundle_unpack(part, cut, "cut", &error);

        /* The end of a tar is padding. */
        if (copy)
            assert_same(bundle, copy);
        ck_assert((copy == NULL) == (error != NULL));
        ck_assert(!copy || cut > len - 16);
    }
}
END_TEST

/* No flipped bit goes unnoticed unless it changes nothing. */
START_TEST(a_flipped_bit_is_refused_or_changes_nothing)
{
    AUTO(bundle) bundle = sample();
    g_autofree char *data = NULL;
    unsigned refused = 0;
    size_t len;

    pack(bundle, &data, &len);
    for (size_t bit = 0; bit < 8 * len; bit++) {
        g_autofree char *damaged = g_memdup2(data, len);
        g_autoptr(GError) error = NULL;
        AUTO(bundle) copy = NULL;

        damaged[bit / 8] = (char)(damaged[bit / 8] ^ (1 << bit % 8));
        copy = bundle_unpack(damaged, len, "flipped", &error);
        if (copy)
            assert_same(bundle, copy);
        ck_assert((copy == NULL) == (error != NULL));
        ck_assert(copy || error_is(error, ERROR_INTEGRITY));
        refused += copy == NULL;
    }
    ck_assert_uint_gt(refused, 6 * len);
}
END_TEST

START_TEST(refuses_unsafe_members)
{
    static const struct {
        struct member member;
        const char *part;
    } bad[] = {
        {{"../vapps/x.vapp", "", 0, 0}, "unsafe name"},
        {{"/etc/passwd", "", 0, 0}, "unsafe name"},
        {{"vapps/../../x", "", 0, 0}, "unsafe name"},
        {{"vapps//x.vapp", "", 0, 0}, "unsafe name"},
        {{"vapps/./x.vapp", "", 0, 0}, "unsafe name"},
        {{"vapps/x.vapp", "/etc/passwd", 0, AE_IFLNK}, "not a plain file"},
        {{"vapps/x.vapp", "/etc/passwd", 0, AE_IFSOCK}, "not a plain file"},
        {{"vapps/x.vapp", "", 0, AE_IFCHR}, "not a plain file"},
        {{"vapps/x.vapp", "", 0, AE_IFIFO}, "not a plain file"},
        {{"vapps/a\303\244.vapp", "", 0, 0}, "unsafe name"},
        {{"vapps/%78.vapp", "", 0, 0}, "'vapps/%78.vapp' is not the name"},
        {{"vapps%2Fx.vapp", "", 0, 0}, "is not the name"},
        {{"vapps/%00.vapp", "", 0, 0}, "is not the name"},
        {{"vapps/x.vapp", "a\0b", 3, 0}, "not UTF-8 text"},
        {{"vapps/x.vapp", "\xff", 1, 0}, "not UTF-8 text"},
        {{"vapps/x.vapp", "", 0, 0}, "there is no bundle.json"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GByteArray) archive = write_archive(&bad[i].member, 1, "z");

        assert_refused(archive, bad[i].part);
    }
}
END_TEST

START_TEST(refuses_a_member_that_is_there_twice)
{
    const struct member members[] = {{"vapps/x.vapp", "a", 1, 0}, {"vapps/x.vapp", "a", 1, 0}};
    g_autoptr(GByteArray) archive = write_archive(members, 2, "z");

    assert_refused(archive, "vapps/x.vapp is there twice");
}
END_TEST

START_TEST(refuses_bombs)
{
    g_autofree char *zeros = g_strnfill(BUNDLE_MAX_MEMBER_BYTES + 1, '0');
    struct member *members = g_new0(struct member, BUNDLE_MAX_MEMBERS + 1);
    g_autoptr(GByteArray) large = NULL;
    g_autoptr(GByteArray) all = NULL;
    g_autoptr(GByteArray) many = NULL;

    members[0] = (struct member){"vapps/x.vapp", zeros, BUNDLE_MAX_MEMBER_BYTES + 1, 0};
    large = write_archive(members, 1, "z");
    ck_assert_uint_lt(large->len, 64 << 10);
    assert_refused(large, "vapps/x.vapp is larger than");
    for (unsigned i = 0; i <= BUNDLE_MAX_MEMBERS; i++)
        members[i] =
            (struct member){g_strdup_printf("vapps/%u", i), zeros, BUNDLE_MAX_MEMBER_BYTES, 0};
    all = write_archive(members, BUNDLE_MAX_TOTAL_BYTES / BUNDLE_MAX_MEMBER_BYTES + 1, "z");
    assert_refused(all, "its members are larger than");
    for (unsigned i = 0; i <= BUNDLE_MAX_MEMBERS; i++)
        members[i].len = 0;
    many = write_archive(members, BUNDLE_MAX_MEMBERS + 1, "z");
    assert_refused(many, "more than 10000 members");
    for (unsigned i = 0; i <= BUNDLE_MAX_MEMBERS; i++)
        g_free((char *)members[i].name);
    g_free(members);
}
END_TEST

START_TEST(refuses_other_kinds_of_archives)
{
    const struct member member = {"vapps/x.vapp", "a", 1, 0};
    g_autoptr(GByteArray) plain = write_archive(&member, 1, "");
    g_autoptr(GByteArray) gzip = write_archive(&member, 1, "g");
    g_autoptr(GByteArray) twice = write_archive(&member, 1, "zz");
    g_autoptr(GByteArray) nothing = g_byte_array_new();
    g_autoptr(GByteArray) noise = g_byte_array_new();

    assert_refused(plain, "not a tar.zst");
    assert_refused(gzip, "");
    assert_refused(twice, "not a tar.zst");
    assert_refused(nothing, "");
    for (unsigned i = 0; i < 5000; i++)
        g_byte_array_append(noise, (const uint8_t *)&i, 1);
    assert_refused(noise, "");
}
END_TEST

static void change_nothing(json_t *head)
{
}

static void add_key(json_t *head)
{
    json_set_u64(head, "more", 1);
}

static void later_format(json_t *head)
{
    json_set_u64(head, "format", 2);
}

static void no_generation(json_t *head)
{
    json_set_u64(head, "generation", 0);
}

static void wrong_site(json_t *head)
{
    json_set_string(head, "site", "../dc1");
}

static void wrong_time(json_t *head)
{
    json_set_string(head, "time", "../x");
}

static void wrong_digest(json_t *head)
{
    g_autofree char *digest = g_strnfill(64, '0');

    json_set_string(head, "digest", digest);
}

static void wrong_uuid(json_t *head)
{
    json_set_string(json_object_get(head, "vms"), "app", "../x");
}

static void wrong_vm(json_t *head)
{
    json_object_clear(json_object_get(head, "vms"));
    json_set_string(json_object_get(head, "vms"), "a/b", APP);
}

static void vm_without_domain(json_t *head)
{
    json_set_string(json_object_get(head, "vms"), "web", "2c1f7c1e-2a4d-4e5f-8a6b-0c1d2e3f4a5b");
}

START_TEST(refuses_a_bundle_json_that_lies)
{
    static const struct {
        void (*edit)(json_t *head);
        const char *part;
    } lies[] = {
        {add_key, "bundle.json: does not have its own digest"},
        {later_format, "bundle.json: is not of format 1"},
        {no_generation, "bundle.json: site, time, generation"},
        {wrong_site, "bundle.json: site, time, generation"},
        {wrong_time, "bundle.json: site, time, generation"},
        {wrong_digest, "the members do not have the digest"},
        {wrong_uuid, "bundle.json: VM 'app' has no UUID"},
        {wrong_vm, "'a/b' is not the name of a VM"},
        {vm_without_domain, "there is no domains/2c1f7c1e"},
    };
    g_autofree char *good_head = forge_head(change_nothing);
    g_autoptr(GByteArray) good = forge(good_head);
    g_autoptr(GError) error = NULL;
    AUTO(bundle) bundle = bundle_unpack((const char *)good->data, good->len, "x", &error);

    unit_ok(bundle, error);
    for (size_t i = 0; i < G_N_ELEMENTS(lies); i++) {
        g_autofree char *head = forge_head(lies[i].edit);
        g_autoptr(GByteArray) archive = forge(head);

        assert_refused(archive, lies[i].part);
    }
}
END_TEST

START_TEST(packs_only_what_can_be_unpacked)
{
    static const char *const names[] = {"domains/db.xml", "hosts/a.xml",  "vapps/a b.vapp",
                                        "vapps/.x.vapp",  "vapps/x.xml",  "networks/../a.xml",
                                        "bundle.json",    "networks/.xml"};
    g_autofree char *large = g_strnfill(BUNDLE_MAX_MEMBER_BYTES + 1, '0');
    g_autoptr(GError) error = NULL;
    char *data = NULL;
    size_t len;

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        AUTO(bundle) bundle = sample();

        bundle_add(bundle, names[i], "x");
        bundle_seal(bundle);
        unit_fails(bundle_pack(bundle, &data, &len, &error), error, ERROR_FAILED, names[i]);
    }
    for (unsigned i = 0; i < 2; i++) {
        AUTO(bundle) bundle = sample();

        bundle_add(bundle, "networks/a.xml", i ? large : "\xff");
        bundle_seal(bundle);
        unit_fails(bundle_pack(bundle, &data, &len, &error), error, ERROR_FAILED,
                   i ? "networks/a.xml is larger" : "networks/a.xml is not UTF-8");
    }
    ck_assert_ptr_null(data);
}
END_TEST

/* --- A store that keeps pool bundles, one file each, and nothing else. */

struct shelf {
    struct store store;
    char *dir;
    struct bundle_id newest;
};

static bool shelf_newest(struct store *store, const char *site, struct bundle_id **id,
                         GError **error)
{
    struct shelf *shelf = (struct shelf *)store;

    *id = NULL;
    if (g_strcmp0(site, shelf->newest.site) != 0)
        return true;
    *id = g_memdup2(&shelf->newest, sizeof(shelf->newest));
    (*id)->site = g_strdup(shelf->newest.site);
    (*id)->time = g_strdup(shelf->newest.time);
    return true;
}

static char *shelf_path(const struct shelf *shelf, const char *site)
{
    return g_build_filename(shelf->dir, site, NULL);
}

static bool shelf_get(struct store *store, const struct bundle_id *id, char **data, size_t *len,
                      GError **error)
{
    g_autofree char *path = shelf_path((struct shelf *)store, id->site);

    return file_read(path, BUNDLE_MAX_BYTES, data, len, error);
}

static bool shelf_put(struct store *store, const char *data, size_t len, GError **error)
{
    struct shelf *shelf = (struct shelf *)store;
    AUTO(bundle) bundle = bundle_unpack(data, len, "what was sent", error);
    g_autofree char *path = NULL;

    if (!bundle)
        return false;
    path = shelf_path(shelf, bundle->id->site);
    g_free(shelf->newest.site);
    g_free(shelf->newest.time);
    shelf->newest = *bundle->id;
    shelf->newest.site = g_strdup(bundle->id->site);
    shelf->newest.time = g_strdup(bundle->id->time);
    return file_write(path, data, len, 0600, error);
}

static void shelf_free(struct store *store)
{
    struct shelf *shelf = (struct shelf *)store;

    g_free(shelf->newest.site);
    g_free(shelf->newest.time);
    g_free(shelf->dir);
    g_free(store->label);
    g_free(shelf);
}

static struct store *shelf_new(void)
{
    static const struct store_ops ops = {.newest_bundle = shelf_newest,
                                         .get_bundle = shelf_get,
                                         .put_bundle = shelf_put,
                                         .free = shelf_free};
    struct shelf *shelf = g_new0(struct shelf, 1);

    shelf->store.ops = &ops;
    shelf->store.label = g_strdup("dr1");
    shelf->dir = unit_dir();
    return &shelf->store;
}

START_TEST(only_a_changed_pool_is_published)
{
    AUTO(store) store = shelf_new();
    AUTO(bundle) bundle = sample();
    AUTO(bundle) same = sample();
    AUTO(bundle) other = sample();
    g_autoptr(GError) error = NULL;
    AUTO(bundle) fetched = NULL;
    bool sent = false;

    unit_ok(bundle_publish(bundle, store, &sent, &error), error);
    ck_assert(sent && bundle->id->generation == 1);
    unit_ok(bundle_publish(same, store, &sent, &error), error);
    ck_assert(!sent);
    bundle_add(other, "networks/new.xml", "<network/>");
    unit_ok(bundle_publish(other, store, &sent, &error), error);
    ck_assert(sent && other->id->generation == 2);
    fetched = bundle_fetch(store, "dc1", &error);
    unit_ok(fetched, error);
    assert_same(other, fetched);
}
END_TEST

START_TEST(an_old_store_gets_what_it_knows)
{
    AUTO(store) store = shelf_new();
    AUTO(bundle) bundle = sample();
    g_autoptr(GError) error = NULL;
    AUTO(bundle) plain = NULL;
    AUTO(bundle) full = NULL;
    g_autoptr(GPtrArray) ids = NULL;
    bool sent;

    store->plain_pool = true;
    bundle_add(bundle, "nwfilters/clean.xml", "<filter/>");
    unit_ok(bundle_publish(bundle, store, &sent, &error), error);
    plain = bundle_fetch(store, "dc1", &error);
    unit_ok(plain, error);
    ck_assert_ptr_null(bundle_member(plain, "nwfilters/clean.xml"));
    ck_assert_ptr_nonnull(bundle_member(plain, "vapps/shop.vapp"));
    store->plain_pool = false;
    bundle_add(bundle, "nwfilters/clean.xml", "<filter/>");
    unit_ok(bundle_publish(bundle, store, &sent, &error), error);
    ck_assert(sent);
    full = bundle_fetch(store, "dc1", &error);
    unit_ok(full, error);
    ck_assert_str_eq(bundle_member(full, "nwfilters/clean.xml"), "<filter/>");
    ids = store_bundles(store, "dc1", &error);
    unit_ok(ids, error);
    ck_assert_uint_eq(ids->len, 1);
}
END_TEST

START_TEST(a_fetched_bundle_is_the_promised_one)
{
    AUTO(store) store = shelf_new();
    AUTO(bundle) bundle = sample();
    g_autoptr(GError) error = NULL;
    g_autofree char *path = shelf_path((struct shelf *)store, "dc1");
    bool sent;

    unit_fails(bundle_fetch(store, "dc1", &error), error, ERROR_NOT_FOUND,
               "dr1: there is no pool bundle of site dc1");
    unit_fails(bundle_fetch(store, "../dc1", &error), error, ERROR_INTEGRITY, "dr1: '../dc1'");
    unit_ok(bundle_publish(bundle, store, &sent, &error), error);
    ((struct shelf *)store)->newest.generation++;
    unit_fails(bundle_fetch(store, "dc1", &error), error, ERROR_INTEGRITY, "promised");
    unit_ok(file_write(path, "x", 1, 0600, &error), error);
    unit_fails(bundle_fetch(store, "dc1", &error), error, ERROR_INTEGRITY, "dr1: pool bundle");
    ck_assert_int_eq(unlink(path), 0);
    unit_fails(bundle_fetch(store, "dc1", &error), error, ERROR_NOT_FOUND, "dr1: cannot open");
}
END_TEST

/* --- Archives in files. */

/* Bytes that this process has handed to write(2) so far. */
static uint64_t written_bytes(void)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    const char *at;

    unit_ok(file_read("/proc/self/io", 4096, &text, NULL, &error), error);
    at = strstr(text, "wchar: ");
    ck_assert_ptr_nonnull(at);
    return g_ascii_strtoull(at + strlen("wchar: "), NULL, 10);
}

START_TEST(an_archive_that_is_given_up_is_not_filled_up)
{
    static const enum tarball_kind kinds[] = {TARBALL_PLAIN, TARBALL_ZSTD};
    g_autofree char *dir = unit_dir();
    g_autofree char *path = g_build_filename(dir, "big.tar", NULL);

    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autoptr(GError) error = NULL;
        struct tarball_out *out = tarball_out_new(path, kinds[i], 0, &error);
        uint64_t before;

        unit_ok(out != NULL, error);
        unit_ok(tarball_out_begin(out, "disk", UINT64_C(512) << 20, &error), error);
        unit_ok(tarball_out_write(out, "begin", 5, &error), error);
        unit_fails(tarball_out_commit(out, &error), error, ERROR_FAILED, "lacks");
        before = written_bytes();
        tarball_out_free(out);
        ck_assert_uint_lt(written_bytes() - before, 4096);
        ck_assert(!g_file_test(path, G_FILE_TEST_EXISTS));
    }
}
END_TEST

int main(void)
{
    return UNIT_RUN("bundle", what_is_packed_is_unpacked, tar_can_unpack_it,
                    the_digest_is_of_the_content_only, refuses_every_truncation,
                    a_flipped_bit_is_refused_or_changes_nothing, refuses_unsafe_members,
                    refuses_a_member_that_is_there_twice, refuses_bombs,
                    refuses_other_kinds_of_archives, refuses_a_bundle_json_that_lies,
                    packs_only_what_can_be_unpacked, only_a_changed_pool_is_published,
                    an_old_store_gets_what_it_knows, a_fetched_bundle_is_the_promised_one,
                    an_archive_that_is_given_up_is_not_filled_up);
}
