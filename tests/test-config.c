/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

#include "metadata/metadata.h"

#define SITE "[site]\nname = dc1\n"
#define REMOTE "[remote dr1]\naddress = root@10.77.0.2:2222\n"
#define WHERE "/etc/drctl/drctl.conf: "
#define THURSDAY_NOON_MS (INT64_C(12 * 3600) * 1000) /* 1970-01-01, UTC */
#define DAY_MS (INT64_C(86400) * 1000)

static struct config *parse(const char *text, GError **error)
{
    return config_parse(text, strlen(text), "/etc/drctl", error);
}

static char *read_text(const char *path)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(file_read(path, CONFIG_MAX_BYTES, &text, NULL, &error), error);
    return g_steal_pointer(&text);
}

static void assert_mode(const char *path, mode_t mode)
{
    struct stat st;

    ck_assert_msg(stat(path, &st) == 0, "%s is not there", path);
    ck_assert_msg((st.st_mode & 07777) == mode, "%s has mode %o", path, st.st_mode & 07777);
}

START_TEST(reads_every_key)
{
    static const char text[] =
        "# a comment\n\n[site]\nname=dc1\n  libvirt = qemu:///system ; "
        "qemu+unix:///system?socket=/run/b\nstore = /srv/store/\nimages = /srv/images\n"
        "scratch = /srv/scratch\nrun-dir = /run/x\nkeep = yearly=3 last=2\nchain-depth = 7\n"
        "guard = strict\nwitness = 192.0.2.1:22; [2001:db8::1]:443\n"
        "hydrate = yes\nhydrate-limit = 30MiB/s\nhost-files = /etc/libvirt; /etc/fstab\n"
        "[protection shop]\nvapp = shop\ndestination = dr1\nquiesce = require\n"
        "quiesce-timeout = 2min\ngroup = require\ncompression = 19\nkeep = daily=9\n"
        "[remote dr1]\r\naddress = root@10.77.0.2:2222\r\nkey = keys/id\nknown-hosts = /etc/kh\n"
        "store = /srv/other\nlimit = 20MiB/s\nlimit mon..fri 08:00-18:00 = 5 MiB/s\n"
        "limit  sat,sun = none\n"
        "[protection lone]\nvms = db 1; app;\ndestination = local\n";
    g_autoptr(GError) error = NULL;
    AUTO(config) config = parse(text, &error);
    const struct protection *shop, *lone;
    const struct remote *dr1;
    const char *window;

    unit_ok(config, error);
    ck_assert_str_eq(config->dir, "/etc/drctl");
    ck_assert_str_eq(config->path, "/etc/drctl/drctl.conf");
    ck_assert_str_eq(config->site, "dc1");
    ck_assert_str_eq(config->libvirt_uris[0], "qemu:///system");
    ck_assert_str_eq(config->libvirt_uris[1], "qemu+unix:///system?socket=/run/b");
    ck_assert_ptr_null(config->libvirt_uris[2]);
    ck_assert_str_eq(config->store, "/srv/store");
    ck_assert_str_eq(config->images, "/srv/images");
    ck_assert_str_eq(config->scratch, "/srv/scratch");
    ck_assert_str_eq(config->run_dir, "/run/x");
    ck_assert_uint_eq(config->keep.keep[RETENTION_YEARLY], 3);
    ck_assert_uint_eq(config->chain_depth, 7);
    ck_assert_int_eq(config->guard, GUARD_STRICT);
    ck_assert(config->hydrate);
    ck_assert_uint_eq(config->hydrate_rate, 30 << 20);
    ck_assert_str_eq(config->host_files[1], "/etc/fstab");
    ck_assert_str_eq(config->witnesses[1], "[2001:db8::1]:443");
    dr1 = config_remote(config, "dr1", &error);
    unit_ok(dr1, error);
    ck_assert_str_eq(dr1->user, "root");
    ck_assert_str_eq(dr1->host, "10.77.0.2");
    ck_assert_uint_eq(dr1->port, 2222);
    ck_assert_str_eq(dr1->key, "/etc/drctl/keys/id");
    ck_assert_str_eq(dr1->known_hosts, "/etc/kh");
    ck_assert_str_eq(dr1->store, "/srv/other");
    ck_assert_str_eq(dr1->limit_file, "/run/x/limit-dr1");
    ck_assert_uint_eq(limit_rate(dr1->limit, THURSDAY_NOON_MS, &window), 5 << 20);
    ck_assert_str_eq(window, "mon..fri 08:00-18:00");
    ck_assert_uint_eq(limit_rate(dr1->limit, THURSDAY_NOON_MS + 2 * DAY_MS, &window), 0);
    ck_assert_str_eq(window, "sat,sun");
    ck_assert_uint_eq(limit_rate(dr1->limit, THURSDAY_NOON_MS + DAY_MS / 2, &window), 20 << 20);
    ck_assert_ptr_null(window);
    shop = config_protection(config, "shop", &error);
    unit_ok(shop, error);
    ck_assert_str_eq(shop->vapp, "shop");
    ck_assert_ptr_null(shop->vms);
    ck_assert_str_eq(shop->destination, "dr1");
    ck_assert_int_eq(shop->quiesce, QUIESCE_REQUIRE);
    ck_assert_uint_eq(shop->quiesce_timeout_s, 120);
    ck_assert_int_eq(shop->group, GROUP_REQUIRE);
    ck_assert_int_eq(shop->compression, 19);
    ck_assert_uint_eq(shop->keep.keep[RETENTION_DAILY], 9);
    lone = config_protection(config, "lone", &error);
    ck_assert(retention_is_empty(&lone->keep));
    ck_assert_ptr_nonnull(lone);
    ck_assert_str_eq(lone->name, "lone");
    ck_assert_str_eq(lone->vms[0], "db 1");
    ck_assert_int_eq(lone->quiesce, QUIESCE_TRY);
    ck_assert_uint_eq(lone->quiesce_timeout_s, 10);
    ck_assert_int_eq(lone->group, GROUP_OFF);
    ck_assert_int_eq(lone->compression, 1);
}
END_TEST

struct wrong {
    const char *text, *message;
};

static void refuses(const struct wrong *wrong, size_t count)
{
    g_autoptr(GError) error = NULL;

    for (size_t i = 0; i < count; i++) {
        unit_fails(parse(wrong[i].text, &error), error, ERROR_CONFIG, wrong[i].message);
        ck_assert_ptr_null(parse(wrong[i].text, &error));
        ck_assert_msg(g_str_has_prefix(error->message, WHERE), "no file in: %s", error->message);
        g_clear_error(&error);
    }
}

START_TEST(refuses_what_is_no_configuration_and_names_the_line)
{
    static const struct wrong wrong[] = {
        {"", "[site]: is missing"},
        {"name = dc1\n", "line 1: name stands before the first [group]"},
        {"[site]\n# x\nnonsense\n", "line 3: 'nonsense' is neither"},
        {"[site]\n; name = x\n", "line 2: '; name = x' is neither"},
        {"[site\n", "line 1: '[site' is not a [group]"},
        {"[site] x\n", "line 1: '[site] x' is not a [group]"},
        {"[]\n", "line 1: '[]' is not a [group]"},
        {SITE "name = dc2\n", "[site] name: is there twice, in lines 2 and 3"},
        {SITE "name=dc1\n", "[site] name: is there twice"},
        {SITE REMOTE SITE, "[site]: is there twice, in lines 1 and 5"},
        {SITE REMOTE REMOTE, "[remote dr1]: is there twice"},
        {SITE "name[de] = dc1\n", "line 3: 'name[de]' is not a key"},
        {SITE "Store = /a\n", "line 3: 'Store' is not a key"},
        {"[site]\nname = \xff\n", "line 2: is not UTF-8"},
        {SITE "colour = red\n",
         "[site] colour: there is no such key; there are name, libvirt, store"},
        {SITE "[sites]\n", "[sites]: there is no such group"},
        {SITE "[remote]\n", "[remote]: there is no such group"},
    };
    g_autoptr(GError) error = NULL;

    refuses(wrong, G_N_ELEMENTS(wrong));
    unit_fails(config_parse(SITE "a\0b", strlen(SITE) + 3, "/etc/drctl", &error), error,
               ERROR_CONFIG, WHERE "line 3: is not UTF-8 text");
}
END_TEST

START_TEST(refuses_a_wrong_site_and_names_the_key)
{
    static const struct wrong wrong[] = {
        {"[site]\n", "[site] name: is missing"},
        {"[site]\nname =\n", "[site] name: is empty"},
        {"[site]\nname = DC1\n", "[site] name: 'DC1' is not a site name"},
        {"[site]\nname = local\n", "[site] name: 'local' is not a site name"},
        {"[site]\nname = a\\nb\n", "[site] name: has a control character"},
        {"[site]\nname = a\\qb\n", "[site] name: cannot be read"},
        {SITE "libvirt = xen:///\n", "[site] libvirt: 'xen:///' is not a libvirt URI"},
        {SITE "libvirt = qemu:///system;;\n", "[site] libvirt: is empty"},
        {SITE "libvirt = a\\qb\n", "[site] libvirt: cannot be read"},
        {SITE "libvirt = ;\n", "[site] libvirt: is empty"},
        {SITE "libvirt =\n", "[site] libvirt: is empty"},
        {SITE "libvirt = qemu:///system; qemu:///system\n",
         "[site] libvirt: 'qemu:///system' is there twice"},
        {SITE "store = srv/store\n", "[site] store: 'srv/store' is not absolute"},
        {SITE "images = ~/images\n", "[site] images: '~/images': ~ is not expanded"},
        {SITE "store = /a\nimages = /a/b\n", "[site] images: /a/b lies in the store"},
        {SITE "store = /a\nscratch = /a\n", "[site] scratch: /a lies in the store"},
        {SITE "images = /a\nscratch = /b/../a\n", "[site] scratch: /a is the directory of images"},
        {SITE "run-dir = /run/0123456789012345678901234567890123456789012345678901234567890\n",
         "[site] run-dir: /run/012345"},
        {SITE "keep = all\n", "[site] keep: 'all' is no rule"},
        {SITE "keep = daily=0\n", "[site] keep: 'daily=0': how many"},
        {SITE "chain-depth = 1\n", "[site] chain-depth: '1' is not a whole number from 2 to 150"},
        {SITE "chain-depth = 151\n", "[site] chain-depth: '151' is not"},
        {SITE "guard = loose\n", "[site] guard: "},
        {SITE "hydrate = maybe\n", "[site] hydrate: "},
        {SITE "hydrate-limit = 5\n", "[site] hydrate-limit: '5' is not a rate"},
        {SITE "witness = 192.0.2.1\n", "[site] witness: '192.0.2.1' is not HOST:PORT"},
        {SITE "witness = me@192.0.2.1:22\n", "[site] witness: 'me@192.0.2.1:22' is not HOST:PORT"},
        {SITE "witness = 192.0.2.1:99999\n", "[site] witness: "},
        {SITE "store here = /a\n", "[site] store here: there is no such key"},
        {SITE "host-files = /etc/../x\n", "[site] host-files: '/etc/../x' is not a whole path"},
    };

    refuses(wrong, G_N_ELEMENTS(wrong));
}
END_TEST

START_TEST(refuses_a_wrong_remote_and_names_the_key)
{
    static const struct wrong wrong[] = {
        {SITE "[remote dr1]\n", "[remote dr1] address: is missing"},
        {SITE "[remote DR]\naddress = h\n", "[remote DR]: 'DR' is not a name"},
        {SITE "[remote local]\naddress = h\n", "[remote local]: 'local' is not a name"},
        {SITE "[remote  dr1]\naddress = h\n", "[remote  dr1]: ' dr1' is not a name"},
        {SITE "[remote ../x]\naddress = h\n", "[remote ../x]: '../x' is not a name"},
        {SITE "[remote dc1]\naddress = h\n", "[remote dc1]: is the name of this site"},
        {SITE "[remote dr1]\naddress = h:0\n", "[remote dr1] address: 'h:0': '0' is not a port"},
        {SITE REMOTE "user = x\n", "[remote dr1] user: there is no such key"},
        {SITE REMOTE "store = x\n", "[remote dr1] store: 'x' is not absolute"},
        {SITE REMOTE "limit = fast\n", "[remote dr1] limit: 'fast' is not a rate"},
        {SITE REMOTE "limit =\n", "[remote dr1] limit: is empty"},
        {SITE REMOTE "limit mon =\n", "[remote dr1] limit mon: is empty"},
        {SITE REMOTE "limit mon = 20MiB\n", "[remote dr1] limit mon: '20MiB' is not a rate"},
        {SITE REMOTE "limit day = 1MiB/s\n", "[remote dr1] limit day: 'day' is neither a day"},
        {SITE REMOTE "limit Mon = 1MiB/s\n", "line 5: 'limit Mon' is not a key"},
        {SITE REMOTE "limit sat = 1MiB/s\nlimit sat = 2MiB/s\n",
         "[remote dr1] limit sat: is there twice, in lines 5 and 6"},
        {SITE REMOTE "limits mon = 1MiB/s\n",
         "[remote dr1] limits mon: there is no such key; there are address, key, known-hosts, "
         "store, retry, limit, limit WINDOW"},
    };

    refuses(wrong, G_N_ELEMENTS(wrong));
}
END_TEST

START_TEST(refuses_a_wrong_copy_and_names_the_key)
{
    static const struct wrong wrong[] = {
        {SITE REMOTE "[copy a]\nto = dr1\n", "[copy a] at: is missing"},
        {SITE REMOTE "[copy a]\nat = 05:00\n", "[copy a] to: is missing"},
        {SITE REMOTE "[copy a]\nat = soon\nto = dr1\n", "[copy a] at: "},
        {SITE REMOTE "[copy a]\nat = 05:00\nto = local\n", "[copy a] to: is where the points are"},
        {SITE REMOTE "[copy a]\nat = 05:00\nfrom = dr2\nto = local\n",
         "[copy a] from: there is no [remote dr2]"},
    };

    refuses(wrong, G_N_ELEMENTS(wrong));
}
END_TEST

START_TEST(refuses_a_wrong_protection_and_names_the_key)
{
    static const struct wrong wrong[] = {
        {SITE "[protection p]\nvms = db\nkeep = last\n", "[protection p] keep: 'last' is no"},
        {SITE "[protection p]\ndestination = local\n",
         "[protection p] vapp: is missing, as is vms"},
        {SITE "[protection p]\nvapp = a\nvms = b\ndestination = local\n",
         "[protection p] vms: stands beside vapp"},
        {SITE "[protection p]\nvapp = ../a\n", "[protection p] vapp: '../a' is not the name"},
        {SITE "[protection p]\nvms = a/b\n", "[protection p] vms: 'a/b' is not the name of a VM"},
        {SITE "[protection p]\nvms = tag:a b\n", "[protection p] vms: 'tag:a b' is not a tag"},
        {SITE "[protection p]\nvms = web-*\nexclude = a/b\n",
         "[protection p] exclude: 'a/b' is not the name"},
        {SITE "[protection p]\nvms = web\nexclude = db\n",
         "[protection p] exclude: there is no pattern and no tag in vms"},
        {SITE "[protection p]\nvms = web\nlike = t\n",
         "[protection p] like: there is no [template t]"},
        {SITE "[template t]\nvms = web\n", "[template t] vms: there is no such key"},
        {SITE "[template t]\nrpo = soon\n", "[template t] rpo: 'soon' is not a duration"},
        {SITE "[protection p]\nvms = db, app\n",
         "[protection p] vms: 'db, app': names are separated"},
        {SITE "[protection p]\nvms = db; db\n", "[protection p] vms: 'db' is there twice"},
        {SITE "[protection p]\nvms = db\n", "[protection p] destination: is missing"},
        {SITE REMOTE "[protection p]\nvms = db\ndestination = dr2\n",
         "[protection p] destination: there is no [remote dr2]; there are dr1, local"},
        {SITE "[protection p]\nvms = db\ndestination = dr2\n", "there are local"},
        {SITE "[protection p]\nvms = db\nquiesce = yes\n",
         "[protection p] quiesce: 'yes' is not one of off, try, require"},
        {SITE "[protection p]\nvms = db\nquiesce-timeout = 0\n",
         "[protection p] quiesce-timeout: '0' is not a duration from"},
        {SITE "[protection p]\nvms = db\nquiesce-timeout = soon\n",
         "[protection p] quiesce-timeout: 'soon' is not"},
        {SITE "[protection p]\nvms = db\ncompression = 20\n",
         "[protection p] compression: '20' is not a whole number from 1 to 19"},
        {SITE "[protection p]\nvms = db\ncompression = 3x\n", "[protection p] compression: '3x'"},
    };

    refuses(wrong, G_N_ELEMENTS(wrong));
}
END_TEST

/* Whatever is cut off or damaged, the parser ends with a configuration or with an error. */
START_TEST(survives_every_damage)
{
    static const char text[] = SITE "libvirt = a\\;b;qemu:///system\n" REMOTE
                                    "[protection p]\nvms = a;b\ndestination = dr1\n";
    size_t len = sizeof(text) - 1;

    for (size_t i = 0; i < len; i++) {
        for (unsigned bit = 0; bit < 9; bit++) {
            g_autofree char *damaged = g_memdup2(text, len);
            g_autoptr(GError) error = NULL;
            AUTO(config) config = NULL;

            if (bit < 8)
                damaged[i] = (char)(damaged[i] ^ (1 << bit));
            config = config_parse(damaged, bit < 8 ? len : i, "/etc/drctl", &error);
            ck_assert((config == NULL) == (error != NULL));
            ck_assert(!error ||
                      (error_is(error, ERROR_CONFIG) && g_str_has_prefix(error->message, WHERE)));
        }
    }
}
END_TEST

START_TEST(a_missing_file_names_drctl_init)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *path = g_build_filename(dir, "drctl.conf", NULL);
    g_autoptr(GError) error = NULL;

    unit_fails(config_load(dir, &error), error, ERROR_CONFIG, "drctl init");
    unit_fails(config_load(dir, &error), error, ERROR_CONFIG, path);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    unit_fails(config_load(dir, &error), error, ERROR_CONFIG, path);
}
END_TEST

START_TEST(names_what_exists_when_something_does_not)
{
    g_autoptr(GError) error = NULL;
    AUTO(config) none = parse(SITE, &error);
    AUTO(config)
    some = parse(SITE REMOTE "[remote dr2]\naddress = h\n"
                             "[protection shop]\nvms = db\ndestination = local\n",
                 &error);

    unit_ok(none && some, error);
    unit_fails(config_remote(none, "dr1", &error), error, ERROR_NOT_FOUND, "drctl site add");
    unit_fails(config_remote(some, "x", &error), error, ERROR_NOT_FOUND, "there are dr1, dr2");
    unit_fails(config_protection(none, "shop", &error), error, ERROR_NOT_FOUND, "nor any other");
    unit_fails(config_protection(some, "x", &error), error, ERROR_NOT_FOUND, "there are shop");
}
END_TEST

START_TEST(addresses_are_taken_apart)
{
    static const struct {
        const char *text, *user, *host;
        uint16_t port;
    } good[] = {
        {"root@10.77.0.2:2222", "root", "10.77.0.2", 2222},
        {"host.example", NULL, "host.example", 22},
        {"a_b.c-d@h:1", "a_b.c-d", "h", 1},
        {"u@[2001:db8::1]:65535", "u", "2001:db8::1", 65535},
        {"[fe80::1%eth0]", NULL, "fe80::1%eth0", 22},
    };
    static const char *const bad[] = {
        "",      "@h",     "u@",       "-u@h", "u@-h", "h:",      "h:0",     "h:65536",
        "h:22x", "h:-1",   "h: 22",    "::1",  "[::1", "[]",      "[::1]22", "u v@h",
        "u@h o", "u;id@h", "u@h$(id)", "h/x",  "u@@h", "[::1]:0", "h:+22",   "\xc3\xa4"};
    g_autoptr(GError) error = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autofree char *user = NULL, *host = NULL;
        uint16_t port = 0;

        unit_ok(address_parse(good[i].text, &user, &host, &port, &error), error);
        ck_assert_str_eq(user, good[i].user ? good[i].user : g_get_user_name());
        ck_assert_str_eq(host, good[i].host);
        ck_assert_uint_eq(port, good[i].port);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        char *user = NULL, *host = NULL;
        uint16_t port = 7;

        unit_fails(address_parse(bad[i], &user, &host, &port, &error), error, ERROR_CONFIG, "'");
        ck_assert(!user && !host && port == 7);
    }
}
END_TEST

/* The text that init writes with all its commented-out settings switched on. */
static char *uncomment(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    GString *out = g_string_new(NULL);

    for (char **line = lines; *line; line++)
        g_string_append_printf(out, "%s\n", **line == '#' && (*line)[1] != ' ' ? *line + 1 : *line);
    return g_string_free(out, FALSE);
}

START_TEST(init_makes_a_site_that_loads)
{
    g_autofree char *base = unit_dir();
    g_autofree char *dir = g_build_filename(base, "etc", "drctl", NULL);
    g_autofree char *store = g_build_filename(base, "lib", "store", NULL);
    g_autofree char *images = g_build_filename(base, "lib", "images", NULL);
    g_autofree char *lib = g_build_filename(base, "lib", NULL);
    struct config_init init = {.dir = dir, .site = "dc1", .store = store, .images = images};
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL, *all = NULL;
    AUTO(config) config = NULL;
    AUTO(config) examples = NULL;
    mode_t open_mode = geteuid() == 0 ? 0711 : 0700;

    umask(0077);
    unit_ok(config_init(&init, &error), error);
    config = config_load(dir, &error);
    unit_ok(config, error);
    ck_assert_str_eq(config->site, "dc1");
    ck_assert_str_eq(config->store, store);
    ck_assert_str_eq(config->images, images);
    ck_assert_uint_eq(config->remotes->len + config->protections->len, 0);
    assert_mode(dir, 0700);
    assert_mode(lib, open_mode);
    assert_mode(images, open_mode);
    assert_mode(config->path, 0644);
    ck_assert(!g_file_test(store, G_FILE_TEST_EXISTS));
    text = read_text(config->path);
    all = uncomment(text);
    examples = config_parse(all, strlen(all), dir, &error);
    unit_ok(examples, error);
    ck_assert_uint_eq(examples->remotes->len, 1);
    ck_assert_uint_eq(examples->protections->len, 1);
    ck_assert_str_eq(examples->scratch, config->scratch);
    ck_assert_str_eq(examples->run_dir, config->run_dir);
}
END_TEST

START_TEST(init_never_overwrites_and_writes_nothing_that_is_wrong)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *store = g_build_filename(dir, "store", NULL);
    g_autofree char *images = g_build_filename(dir, "images", NULL);
    g_autofree char *path = g_build_filename(dir, "drctl.conf", NULL);
    g_autofree char *forged = g_strdup_printf("%s\nrun-dir = /tmp", store);
    struct config_init init = {.dir = dir, .site = "DC 1", .store = store, .images = images};
    g_autofree char *before = NULL, *after = NULL;
    g_autoptr(GError) error = NULL;

    unit_fails(config_init(&init, &error), error, ERROR_CONFIG, "'DC 1' is not a site name");
    init.site = "dc1\n[remote x]";
    unit_fails(config_init(&init, &error), error, ERROR_CONFIG, "control character");
    init.site = "dc1";
    init.store = forged;
    unit_fails(config_init(&init, &error), error, ERROR_CONFIG, "control character");
    init.store = "store";
    unit_fails(config_init(&init, &error), error, ERROR_CONFIG, "not absolute");
    ck_assert(!g_file_test(path, G_FILE_TEST_EXISTS));
    ck_assert(!g_file_test(images, G_FILE_TEST_EXISTS));
    init.store = store;
    unit_ok(config_init(&init, &error), error);
    before = read_text(path);
    init.site = "dc2";
    unit_fails(config_init(&init, &error), error, ERROR_CONFLICT, "exists");
    after = read_text(path);
    ck_assert_str_eq(before, after);
}
END_TEST

START_TEST(a_remote_is_appended_and_nothing_else_changes)
{
    static const char before[] = "# mine\n" SITE "# last line, no newline";
    g_autofree char *dir = unit_dir();
    g_autofree char *real = g_build_filename(dir, "real.conf", NULL);
    g_autofree char *path = g_build_filename(dir, "drctl.conf", NULL);
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL, *unchanged = NULL;
    AUTO(config) config = NULL;
    AUTO(config) after = NULL;

    unit_ok(file_write(real, before, strlen(before), 0640, &error), error);
    ck_assert_int_eq(symlink("real.conf", path), 0);
    config = config_load(dir, &error);
    unit_ok(config, error);
    unit_ok(config_add_remote(config, "dr1", "root@[::1]:22", NULL, &error), error);
    unit_ok(config_add_remote(config, "dr2", "h", "/srv/store", &error), error);
    text = read_text(path);
    ck_assert(g_str_has_prefix(text, before));
    assert_mode(real, 0640);
    ck_assert(g_file_test(path, G_FILE_TEST_IS_SYMLINK));
    after = config_load(dir, &error);
    unit_ok(after, error);
    ck_assert_uint_eq(after->remotes->len, 2);
    ck_assert_str_eq(config_remote(after, "dr1", NULL)->host, "::1");
    ck_assert_ptr_null(config_remote(after, "dr1", NULL)->store);
    ck_assert_str_eq(config_remote(after, "dr2", NULL)->store, "/srv/store");
    unit_fails(config_add_remote(config, "dr1", "h", NULL, &error), error, ERROR_CONFLICT,
               "[remote dr1] already");
    unit_fails(config_add_remote(config, "local", "h", NULL, &error), error, ERROR_CONFIG,
               "[remote local]");
    unit_fails(config_add_remote(config, "dc1", "h", NULL, &error), error, ERROR_CONFIG,
               "this site");
    unit_fails(config_add_remote(config, "dr3", "h:x", NULL, &error), error, ERROR_CONFIG,
               "[remote dr3] address");
    unit_fails(config_add_remote(config, "dr3", "h", "srv", &error), error, ERROR_CONFIG,
               "not absolute");
    unit_fails(config_add_remote(config, "dr3", "h\nkey = /x", NULL, &error), error, ERROR_CONFIG,
               "control character");
    unchanged = read_text(path);
    ck_assert_str_eq(text, unchanged);
}
END_TEST

START_TEST(check_files_names_what_is_not_there)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *text = g_strdup_printf(
        "[site]\nname = dc1\nstore = %s/s\nimages = %s/i\nscratch = %s/c\n" REMOTE, dir, dir, dir);
    g_autofree char *store = g_build_filename(dir, "s", NULL);
    g_autofree char *images = g_build_filename(dir, "i", NULL);
    g_autofree char *scratch = g_build_filename(dir, "c", NULL);
    g_autoptr(GError) error = NULL;
    AUTO(config) config = config_parse(text, strlen(text), dir, &error);
    const struct remote *dr1 = config_remote(config, "dr1", &error);

    unit_ok(dr1, error);
    unit_fails(config_check_files(config, &error), error, ERROR_CONFIG, "[site] store: ");
    unit_ok(dir_make(store, 0700, &error), error);
    unit_fails(config_check_files(config, &error), error, ERROR_CONFIG, "[site] images: ");
    unit_ok(dir_make(images, 0700, &error), error);
    unit_fails(config_check_files(config, &error), error, ERROR_CONFIG, "[site] scratch: ");
    unit_ok(dir_make(scratch, 0700, &error), error);
    unit_fails(config_check_files(config, &error), error, ERROR_CONFIG, "[remote dr1] key: ");
    unit_ok(file_write(dr1->key, "k", 1, 0640, &error), error);
    unit_fails(config_check_files(config, &error), error, ERROR_CONFIG, "chmod 600");
    ck_assert_int_eq(chmod(dr1->key, 0600), 0);
    unit_fails(config_check_files(config, &error), error, ERROR_CONFIG, "[remote dr1] known-hosts");
    unit_ok(file_write(dr1->known_hosts, "", 0, 0600, &error), error);
    unit_ok(config_check_files(config, &error), error);
}
END_TEST

static void assert_defaults(const char *dir, const char *data, const char *run, const char *libvirt)
{
    g_autofree char *default_dir = config_default_dir();
    g_autofree char *store = g_build_filename(data, "store", NULL);
    g_autofree char *images = g_build_filename(data, "images", NULL);
    g_autofree char *scratch = g_build_filename(data, "scratch", NULL);
    g_autoptr(GError) error = NULL;
    AUTO(config) config = parse(SITE, &error);

    unit_ok(config, error);
    ck_assert_str_eq(default_dir, dir);
    ck_assert_str_eq(config->libvirt_uris[0], libvirt);
    ck_assert_str_eq(config->store, store);
    ck_assert_str_eq(config->images, images);
    ck_assert_str_eq(config->scratch, scratch);
    ck_assert_str_eq(config->run_dir, run);
}

START_TEST(root_has_the_defaults_of_the_system)
{
    if (geteuid() == 0)
        assert_defaults("/etc/drctl", "/var/lib/drctl", "/run/drctl", "qemu:///system");
}
END_TEST

START_TEST(an_ordinary_user_has_the_defaults_of_xdg)
{
    /* Each test is a process of its own, so nobody else is affected. Leak detection must be allowed
     * to look at us afterwards. */
    ck_assert(geteuid() != 0 || setresuid(65534, 65534, 65534) == 0);
    ck_assert_int_eq(prctl(PR_SET_DUMPABLE, 1), 0);
    g_setenv("XDG_CONFIG_HOME", "/home/u/c", TRUE);
    g_setenv("XDG_DATA_HOME", "/home/u/d", TRUE);
    g_setenv("XDG_RUNTIME_DIR", "/run/user/7", TRUE);
    assert_defaults("/home/u/c/drctl", "/home/u/d/drctl", "/run/user/7/drctl", "qemu:///session");
}
END_TEST

int main(void)
{
    g_setenv("TZ", "UTC0", true);
    tzset();
    return UNIT_RUN(
        "config", reads_every_key, refuses_what_is_no_configuration_and_names_the_line,
        refuses_a_wrong_site_and_names_the_key, refuses_a_wrong_remote_and_names_the_key,
        refuses_a_wrong_copy_and_names_the_key, refuses_a_wrong_protection_and_names_the_key,
        survives_every_damage, a_missing_file_names_drctl_init,
        names_what_exists_when_something_does_not, addresses_are_taken_apart,
        init_makes_a_site_that_loads, init_never_overwrites_and_writes_nothing_that_is_wrong,
        a_remote_is_appended_and_nothing_else_changes, check_files_names_what_is_not_there,
        root_has_the_defaults_of_the_system, an_ordinary_user_has_the_defaults_of_xdg);
}
