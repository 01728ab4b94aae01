/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stores over a real sshd on loopback, with throw-away keys, as whoever runs the test.
 */
#include "tests/unit.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "replicator/replicator.h"
#include "tests/points.h"

#define IMAGE_BYTES ((uint64_t)20 << 20)
#define SSHD "/usr/sbin/sshd"

struct site {
    char *dir; /* of everything */
    char *store_path;
    struct remote remote;
    pid_t sshd;
};

/* --- sshd --- */

static char *in_dir(const struct site *site, const char *name)
{
    return g_build_filename(site->dir, name, NULL);
}

static void write_text(const char *path, mode_t mode, const char *format, ...) G_GNUC_PRINTF(3, 4);

static void write_text(const char *path, mode_t mode, const char *format, ...)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    unit_ok(file_write(path, text, strlen(text), mode, &error), error);
}

static char *read_text(const char *path)
{
    g_autoptr(GError) error = NULL;
    char *text;

    unit_ok(file_read(path, 1 << 20, &text, NULL, &error), error);
    return g_strstrip(text);
}

static void make_key(const struct site *site, const char *name, const char *type)
{
    g_autofree char *path = in_dir(site, name);
    const char *argv[] = {"ssh-keygen", "-q", "-t", type, "-N", "", "-C", name, "-f", path, NULL};
    g_autoptr(GError) error = NULL;

    unit_ok(process_run(argv, 30, NULL, &error), error);
}

static uint16_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    AUTO_FD fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    return ntohs(address.sin_port);
}

static bool port_answers(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    AUTO_FD fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    return connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
}

/* As root sshd wants a directory that only a booted system has: a private /run gives it one. */
static void make_run_sshd(void)
{
    if (geteuid() != 0 || g_file_test("/run/sshd", G_FILE_TEST_IS_DIR))
        return;
    if (unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("tmpfs", "/run", "tmpfs", 0, "mode=0755,size=1m") == 0)
        mkdir("/run/sshd", 0755);
}

static void sshd_exec(const struct site *site)
{
    g_autofree char *config = in_dir(site, "sshd_config");
    g_autofree char *log = in_dir(site, "sshd.log");
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(fd, STDERR_FILENO);
    dup2(fd, STDOUT_FILENO);
    make_run_sshd();
    execl(SSHD, SSHD, "-D", "-e", "-f", config, NULL);
    _exit(127);
}

static void sshd_start(struct site *site)
{
    int64_t deadline_ms = time_monotonic_ms() + UNIT_PATIENCE_MS;

    site->sshd = fork();
    ck_assert_int_ge(site->sshd, 0);
    if (site->sshd == 0)
        sshd_exec(site);
    while (!port_answers(site->remote.port)) {
        ck_assert_int_lt(time_monotonic_ms(), deadline_ms);
        ck_assert_int_eq(waitpid(site->sshd, NULL, WNOHANG), 0);
        g_usleep(10000);
    }
}

/* Children that have not looked at their connection yet hold the port for a moment longer. */
static void sshd_stop(struct site *site)
{
    int64_t deadline_ms = time_monotonic_ms() + UNIT_PATIENCE_MS;

    kill(site->sshd, SIGTERM);
    waitpid(site->sshd, NULL, 0);
    while (port_answers(site->remote.port)) {
        ck_assert_int_lt(time_monotonic_ms(), deadline_ms);
        g_usleep(10000);
    }
}

/* EXTRA is more configuration. */
static void sshd_configure(const struct site *site, const char *extra)
{
    g_autofree char *path = in_dir(site, "sshd_config");

    write_text(
        path, 0600,
        "Port %u\nListenAddress 127.0.0.1\nHostKey %s/host\nAuthorizedKeysFile %s/authorized\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\nLogLevel ERROR\n"
        "PermitRootLogin prohibit-password\nSetEnv PATH=%s/bin:/usr/bin:/bin\n%s",
        site->remote.port, site->dir, site->dir, site->dir, extra);
}

/* Let the key in, with OPTIONS ("" or "command=... "). */
static void authorize(const struct site *site, const char *options)
{
    g_autofree char *path = in_dir(site, "authorized");
    g_autofree char *public_path = in_dir(site, "user.pub");
    g_autofree char *public = read_text(public_path);

    write_text(path, 0600, "%s%s\n", options, public);
}

static void trust(const struct site *site, const char *key_file)
{
    g_autofree char *path = in_dir(site, key_file);
    g_autofree char *key = read_text(path);
    g_auto(GStrv) words = g_strsplit(key, " ", 3);

    write_text(site->remote.known_hosts, 0600, "[127.0.0.1]:%u %s %s\n", site->remote.port,
               words[0], words[1]);
}

/* A store, `drctl` in the PATH of who logs in, keys that know each other; sshd runs. */
static struct site site_new(const char *extra)
{
    struct site site = {.dir = unit_dir()};
    g_autofree char *bin = in_dir(&site, "bin");
    g_autofree char *drctl = in_dir(&site, "bin/drctl");
    g_autoptr(GError) error = NULL;

    site.store_path = in_dir(&site, "its store");
    site.remote = (struct remote){.name = (char *)"dr1",
                                  .user = g_strdup(g_get_user_name()),
                                  .host = (char *)"127.0.0.1",
                                  .port = free_port(),
                                  .key = in_dir(&site, "user"),
                                  .known_hosts = in_dir(&site, "known_hosts"),
                                  .store = g_strdup(site.store_path)};
    unit_ok(store_create(site.store_path, "dr1", &error), error);
    ck_assert_int_eq(mkdir(bin, 0755), 0);
    ck_assert_int_eq(symlink(STORE_TOOL, drctl), 0);
    make_key(&site, "host", "ed25519");
    make_key(&site, "user", "ed25519");
    sshd_configure(&site, extra);
    authorize(&site, "");
    trust(&site, "host.pub");
    sshd_start(&site);
    return site;
}

static void site_free(struct site *site)
{
    sshd_stop(site);
    g_free(site->dir);
    g_free(site->store_path);
    g_free(site->remote.user);
    g_free(site->remote.key);
    g_free(site->remote.known_hosts);
    g_free(site->remote.store);
    limit_free(site->remote.limit);
    g_free(site->remote.limit_file);
}

static struct store *site_open(const struct site *site)
{
    g_autoptr(GError) error = NULL;
    struct store *store = store_open_remote(&site->remote, &error);

    unit_ok(store, error);
    return store;
}

static void site_open_fails(const struct site *site, enum error_kind kind, const char *part)
{
    GError *error = NULL;

    unit_fails(store_open_remote(&site->remote, &error), error, kind, part);
}

/* Whole points of VM_A in the store. */
static unsigned site_points(const struct site *site)
{
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = catalog_open(site->store_path, &error);
    AUTO(store) store = NULL;
    g_autoptr(GPtrArray) points = NULL;

    unit_ok(catalog, error);
    unit_ok(store = store_open_local(site->store_path, catalog, &points_accept_ops, &error), error);
    unit_ok(points = store_points(store, VM_A, &error), error);
    for (unsigned i = 0; i < points->len; i++)
        unit_ok(points_verify(site->store_path, points->pdata[i], &error), error);
    return points->len;
}

/* --- Working --- */

START_TEST(a_point_goes_over_ssh)
{
    struct site site = site_new("");
    AUTO(store) store = site_open(&site);
    g_autoptr(GPtrArray) points = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(points_put(store, VM_A, POINT_1, NULL, IMAGE_BYTES, &error), error);
    unit_ok(points_put(store, VM_A, POINT_2, POINT_1, 1 << 20, &error), error);
    unit_ok(points = store_points(store, NULL, &error), error);
    ck_assert_uint_eq(points->len, 2);
    g_clear_pointer(&store, store_free);
    ck_assert_uint_eq(site_points(&site), 2);
    site_free(&site);
}
END_TEST

START_TEST(a_forced_command_chooses_the_store)
{
    struct site site = site_new("");
    g_autofree char *options =
        g_strdup_printf("restrict,command=\"drctl serve --store '%s'\" ", site.store_path);
    AUTO(store) store = NULL;
    g_autoptr(GError) error = NULL;

    authorize(&site, options);
    g_clear_pointer(&site.remote.store, g_free);
    store = site_open(&site);
    unit_ok(points_put(store, VM_A, POINT_1, NULL, IMAGE_BYTES, &error), error);
    g_clear_pointer(&store, store_free);
    /* Another wish is not heard. */
    site.remote.store = g_strdup("/nowhere");
    store = site_open(&site);
    unit_ok(points_put(store, VM_A, POINT_2, POINT_1, 1 << 20, &error), error);
    g_clear_pointer(&store, store_free);
    ck_assert_uint_eq(site_points(&site), 2);
    site_free(&site);
}
END_TEST

/* libssh2 1.10 forgets one block at each new exchange of keys; that is not ours to report. */
void __lsan_disable(void) __attribute__((weak));

START_TEST(new_session_keys_in_mid_transfer_do_no_harm)
{
    struct site site = site_new("RekeyLimit 1M\n");
    AUTO(store) store = NULL;
    g_autoptr(GError) error = NULL;

    if (__lsan_disable)
        __lsan_disable();
    store = site_open(&site);
    unit_ok(points_put(store, VM_A, POINT_1, NULL, 2 * IMAGE_BYTES, &error), error);
    g_clear_pointer(&store, store_free);
    ck_assert_uint_eq(site_points(&site), 1);
    site_free(&site);
}
END_TEST

/* A bundle of more than BYTES; g_free. */
static char *noise_bundle(size_t bytes, size_t *len)
{
    AUTO(bundle) bundle = bundle_new("dc1");
    g_autofree uint8_t *noise = g_malloc(bytes);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    char *packed;

    points_fill(noise, 0, bytes, 1);
    text = g_base64_encode(noise, bytes);
    bundle_add_domain(bundle, "db", VM_A, text);
    bundle_seal(bundle);
    bundle->id->generation = 1;
    bundle->id->time = g_strdup(POINT_1);
    unit_ok(bundle_pack(bundle, &packed, len, &error), error);
    return packed;
}

START_TEST(large_answers_come_over_ssh)
{
    struct site site = site_new("");
    AUTO(store) store = site_open(&site);
    AUTO(bundle_id) id = NULL;
    size_t len, got_len;
    g_autofree char *packed = noise_bundle(9 << 20, &len);
    g_autofree char *got = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(store_put_bundle(store, packed, len, &error), error);
    unit_ok(store_newest_bundle(store, "dc1", &id, &error), error);
    unit_ok(store_get_bundle(store, id, &got, &got_len, &error), error);
    ck_assert_uint_eq(got_len, len);
    ck_assert_mem_eq(got, packed, len);
    g_clear_pointer(&store, store_free);
    site_free(&site);
}
END_TEST

/* --- Limited --- */

#define LIMIT "4MiB/s"
#define LIMIT_BYTES (UINT64_C(4) << 20)
#define LIMITED_BYTES (UINT64_C(6) << 20)
/* The burst that passes at once, and the slice whose end nobody waits for. */
#define AT_ONCE_MS 200

static void site_limit(struct site *site)
{
    g_autoptr(GError) error = NULL;

    site->remote.limit = limit_new();
    site->remote.limit_file = in_dir(site, "run/limit-dr1");
    unit_ok(limit_set(site->remote.limit, LIMIT, &error), error);
}

/* BYTES have passed since BEGAN_MS. */
static void assert_slow(int64_t began_ms, uint64_t bytes)
{
    int64_t took_ms = time_monotonic_ms() - began_ms;

    ck_assert_int_ge(took_ms, (int64_t)(bytes * 1000 / LIMIT_BYTES) - AT_ONCE_MS);
    ck_assert_int_lt(took_ms, UNIT_PATIENCE_MS);
}

START_TEST(a_limit_holds_in_both_directions)
{
    struct site site = site_new("");
    AUTO(bundle_id) id = NULL;
    AUTO(store) store = NULL;
    g_autofree char *packed = NULL;
    g_autofree char *got = NULL;
    g_autoptr(GError) error = NULL;
    int64_t began_ms;
    size_t len, got_len;

    site_limit(&site);
    packed = noise_bundle((size_t)LIMITED_BYTES / 2, &len);
    store = site_open(&site);
    began_ms = time_monotonic_ms();
    unit_ok(store_put_bundle(store, packed, len, &error), error);
    assert_slow(began_ms, len);
    unit_ok(store_newest_bundle(store, "dc1", &id, &error), error);
    began_ms = time_monotonic_ms();
    unit_ok(store_get_bundle(store, id, &got, &got_len, &error), error);
    assert_slow(began_ms, len);
    ck_assert_mem_eq(got, packed, len);
    g_clear_pointer(&store, store_free);
    site_free(&site);
}
END_TEST

static pid_t put_elsewhere(const struct site *site, const char *vm_uuid)
{
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct store *store = store_open_remote(&site->remote, NULL);
        bool put = store && points_put(store, vm_uuid, POINT_1, NULL, LIMITED_BYTES / 2, NULL);

        store_free(store);
        _exit(put ? 0 : 1);
    }
    return pid;
}

START_TEST(two_processes_share_a_limit)
{
    struct site site = site_new("");
    int64_t began_ms;
    pid_t pids[2];
    int status;

    site_limit(&site);
    began_ms = time_monotonic_ms();
    pids[0] = put_elsewhere(&site, VM_A);
    pids[1] = put_elsewhere(&site, VM_B);
    for (size_t i = 0; i < G_N_ELEMENTS(pids); i++) {
        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert_int_eq(status, 0);
    }
    assert_slow(began_ms, LIMITED_BYTES);
    ck_assert_uint_eq(site_points(&site), 1);
    site_free(&site);
}
END_TEST

/* --- Trust --- */

START_TEST(an_unknown_host_key_is_refused)
{
    struct site site = site_new("");

    ck_assert_int_eq(unlink(site.remote.known_hosts), 0);
    site_open_fails(&site, ERROR_AUTH, "drctl site add dr1");
    write_text(site.remote.known_hosts, 0600,
               "other.example ssh-ed25519 "
               "AAAAC3NzaC1lZDI1NTE5AAAAIIiw2xZkXbQ0WmEhWo9oNnWeZ3hnxDc9Fcm+Q0jQ6y6P\n");
    site_open_fails(&site, ERROR_AUTH, "is not in");
    site_free(&site);
}
END_TEST

START_TEST(a_changed_host_key_is_refused)
{
    struct site site = site_new("");

    make_key(&site, "other", "ed25519");
    trust(&site, "other.pub");
    site_open_fails(&site, ERROR_AUTH, "somebody may be in between");
    /* Also when it is known by another type only. */
    make_key(&site, "ecdsa", "ecdsa");
    trust(&site, "ecdsa.pub");
    site_open_fails(&site, ERROR_AUTH, "somebody may be in between");
    site_free(&site);
}
END_TEST

START_TEST(a_host_is_recognised_by_any_of_its_keys)
{
    struct site site = site_new("");
    g_autofree char *extra = g_strdup_printf("HostKey %s/ecdsa\n", site.dir);
    AUTO(host_key) shown = NULL;
    AUTO(store) store = NULL;
    g_autoptr(GError) error = NULL;

    make_key(&site, "ecdsa", "ecdsa");
    sshd_stop(&site);
    sshd_configure(&site, extra);
    sshd_start(&site);
    unit_ok(shown = remote_host_key(&site.remote, &error), error);
    ck_assert_str_eq(shown->file, "/etc/ssh/ssh_host_ed25519_key.pub");
    trust(&site, "ecdsa.pub");
    store = site_open(&site);
    g_clear_pointer(&store, store_free);
    trust(&site, "host.pub");
    store = site_open(&site);
    g_clear_pointer(&store, store_free);
    site_free(&site);
}
END_TEST

START_TEST(the_host_key_is_shown_and_trusted)
{
    struct site site = site_new("");
    g_autofree char *key_path = in_dir(&site, "host.pub");
    const char *argv[] = {"ssh-keygen", "-lf", key_path, NULL};
    g_autofree char *listed = NULL;
    g_autofree char *known = NULL;
    AUTO(host_key) key = NULL;
    AUTO(store) store = NULL;
    g_autoptr(GError) error = NULL;

    write_text(site.remote.known_hosts, 0600, "# no line end");
    unit_ok(key = remote_host_key(&site.remote, &error), error);
    ck_assert_str_eq(key->type, "ssh-ed25519");
    unit_ok(process_run(argv, 30, &listed, &error), error);
    ck_assert_msg(strstr(listed, key->fingerprint) != NULL, "%s: %s", key->fingerprint, listed);
    site_open_fails(&site, ERROR_AUTH, key->fingerprint);
    unit_ok(remote_trust(&site.remote, key, &error), error);
    store = site_open(&site);
    g_clear_pointer(&store, store_free);
    known = read_text(site.remote.known_hosts);
    ck_assert(g_str_has_prefix(known, "# no line end\n[127.0.0.1]:"));
    site_free(&site);
}
END_TEST

START_TEST(the_file_of_a_host_key_is_told)
{
    struct site site = site_new("");
    g_autofree char *host = in_dir(&site, "host");
    AUTO(host_key) key = NULL;
    g_autoptr(GError) error = NULL;

    unlink(host);
    make_key(&site, "host", "ecdsa");
    sshd_stop(&site);
    sshd_start(&site);
    write_text(site.remote.known_hosts, 0600, "# nobody\n");
    unit_ok(key = remote_host_key(&site.remote, &error), error);
    ck_assert_str_eq(key->type, "ecdsa-sha2-nistp256");
    ck_assert_str_eq(key->file, "/etc/ssh/ssh_host_ecdsa_key.pub");
    site_open_fails(&site, ERROR_AUTH, key->file);
    site_free(&site);
}
END_TEST

START_TEST(a_refused_key_shows_the_line_that_lets_it_in)
{
    struct site site = site_new("");
    g_autofree char *path = in_dir(&site, "user.pub");
    g_autofree char *key = NULL;
    g_autofree char *line = NULL;

    make_key(&site, "stranger", "ed25519");
    g_free(site.remote.key);
    site.remote.key = in_dir(&site, "stranger");
    g_free(path);
    path = in_dir(&site, "stranger.pub");
    key = read_text(path);
    line = g_strdup_printf(
        "authorized_keys there: restrict,command=\"drctl serve --append-only\" %s", key);
    site_open_fails(&site, ERROR_AUTH, line);
    site_free(&site);
}
END_TEST

START_TEST(an_unusable_key_file_is_our_own_mistake)
{
    struct site site = site_new("");
    const char *encrypt[] = {"ssh-keygen",    "-q", "-p", "-P", "", "-N", "secret", "-f",
                             site.remote.key, NULL};
    g_autoptr(GError) error = NULL;

    unit_ok(process_run(encrypt, 30, NULL, &error), error);
    site_open_fails(&site, ERROR_CONFIG, "without a passphrase");
    write_text(site.remote.key, 0600, "nonsense\n");
    site_open_fails(&site, ERROR_CONFIG, "cannot use the key");
    ck_assert_int_eq(unlink(site.remote.key), 0);
    site_open_fails(&site, ERROR_CONFIG, "drctl init");
    site_free(&site);
}
END_TEST

/* --- Failing --- */

START_TEST(a_missing_command_is_told)
{
    struct site site = site_new("");
    g_autofree char *drctl = in_dir(&site, "bin/drctl");

    ck_assert_int_eq(unlink(drctl), 0);
    site_open_fails(&site, ERROR_NETWORK, "ended with status 127");
    site_open_fails(&site, ERROR_NETWORK, "is drctl installed there?");
    site_open_fails(&site, ERROR_NETWORK, "not found");
    site_free(&site);
}
END_TEST

START_TEST(the_last_words_of_the_other_side_are_told)
{
    struct site site = site_new("");

    g_free(site.remote.store);
    site.remote.store = g_strdup("/nowhere/'at all'");
    site_open_fails(&site, ERROR_NETWORK, "status 4: store-tool: ");
    site_open_fails(&site, ERROR_NETWORK, "/nowhere/'at all'");
    site_free(&site);
}
END_TEST

START_TEST(a_shell_that_talks_is_named)
{
    struct site site = site_new("");
    g_autofree char *options = g_strdup_printf(
        "command=\"echo Hello and welcome; drctl serve --store '%s'\" ", site.store_path);

    authorize(&site, options);
    site_open_fails(&site, ERROR_INTEGRITY, "\"Hello and welcome");
    site_free(&site);
}
END_TEST

START_TEST(nobody_there_is_told)
{
    struct site site = site_new("");
    g_autofree char *where = g_strdup_printf("dr1: cannot reach 127.0.0.1 port %u: Connection "
                                             "refused",
                                             site.remote.port);

    sshd_stop(&site);
    site_open_fails(&site, ERROR_NETWORK, where);
    site.remote.host = (char *)"no-such-host.invalid";
    site_open_fails(&site, ERROR_NETWORK, "dr1: cannot resolve no-such-host.invalid");
    sshd_start(&site);
    site.remote.host = (char *)"127.0.0.1";
    site_free(&site);
}
END_TEST

/* Kill the `drctl serve` that works for us: it wrote its pid into the lock of the VM. */
static void kill_serve(const struct site *site)
{
    g_autofree char *path =
        g_build_filename(site->store_path, "locks", "point-" VM_A ".lock", NULL);
    g_autofree char *text = read_text(path);
    int pid;

    ck_assert_int_eq(sscanf(text, "pid %d", &pid), 1);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
}

START_TEST(a_killed_server_is_a_lost_connection)
{
    struct site site = site_new("");
    AUTO(store) store = site_open(&site);
    g_autofree char *data = g_strnfill(STORE_WRITE_MAX, 'x');
    AUTO(incoming) incoming = NULL;
    GError *error = NULL;
    bool written = true;
    unsigned file;

    unit_ok(incoming = store_begin(store, VM_A, POINT_1, &error), error);
    unit_ok(incoming_open(incoming, "vda.qcow2", &file, &error), error);
    for (uint64_t i = 0; i < 500 && written; i++) {
        if (i == 3)
            kill_serve(&site);
        written =
            incoming_write(incoming, file, i * STORE_WRITE_MAX, data, STORE_WRITE_MAX, &error);
    }
    unit_fails(written, error, ERROR_NETWORK, "its `drctl serve` was killed by SIGKILL");
    unit_fails(store_points(store, VM_A, &error), error, ERROR_NETWORK, "drctl site check dr1");
    g_clear_pointer(&incoming, incoming_free);
    g_clear_pointer(&store, store_free);
    store = site_open(&site);
    unit_ok(points_put(store, VM_A, POINT_1, NULL, 1 << 20, &error), error);
    g_clear_pointer(&store, store_free);
    ck_assert_uint_eq(site_points(&site), 1);
    site_free(&site);
}
END_TEST

/* Kills every process of the connection at the other side, as a power cut does. */
START_TEST(a_connection_that_breaks_is_a_lost_connection)
{
    struct site site = site_new("");
    AUTO(store) store = site_open(&site);
    g_autofree char *data = g_strnfill(STORE_WRITE_MAX, 'x');
    g_autofree char *parent = g_strdup_printf("%d", (int)site.sshd);
    const char *list[] = {"ps", "-o", "pid=", "--ppid", parent, NULL};
    g_autofree char *pids = NULL;
    AUTO(incoming) incoming = NULL;
    GError *error = NULL;
    bool written = true;
    unsigned file;
    int pid;

    unit_ok(incoming = store_begin(store, VM_A, POINT_1, &error), error);
    unit_ok(incoming_open(incoming, "vda.qcow2", &file, &error), error);
    unit_ok(process_run(list, 30, &pids, &error), error);
    ck_assert_int_eq(sscanf(pids, "%d", &pid), 1);
    for (uint64_t i = 0; i < 500 && written; i++) {
        if (i == 3)
            ck_assert_int_eq(kill(pid, SIGKILL), 0);
        written =
            incoming_write(incoming, file, i * STORE_WRITE_MAX, data, STORE_WRITE_MAX, &error);
    }
    unit_fails(written, error, ERROR_NETWORK, "the connection is lost");
    g_clear_pointer(&incoming, incoming_free);
    g_clear_pointer(&store, store_free);
    site_free(&site);
}
END_TEST

START_TEST(an_interrupt_ends_a_transfer)
{
    struct site site = site_new("");
    AUTO(store) store = site_open(&site);
    g_autofree char *data = g_strnfill(STORE_WRITE_MAX, 'x');
    AUTO(incoming) incoming = NULL;
    GError *error = NULL;
    bool written = true;
    unsigned file;

    unit_ok(incoming = store_begin(store, VM_A, POINT_1, &error), error);
    unit_ok(incoming_open(incoming, "vda.qcow2", &file, &error), error);
    interrupt_request();
    for (uint64_t i = 0; i < 500 && written; i++)
        written =
            incoming_write(incoming, file, i * STORE_WRITE_MAX, data, STORE_WRITE_MAX, &error);
    unit_fails(written, error, ERROR_CANCELLED, "interrupted");
    g_clear_pointer(&incoming, incoming_free);
    g_clear_pointer(&store, store_free);
    site_free(&site);
}
END_TEST

int main(void)
{
    return UNIT_RUN("ssh", a_point_goes_over_ssh, a_forced_command_chooses_the_store,
                    new_session_keys_in_mid_transfer_do_no_harm, large_answers_come_over_ssh,
                    a_limit_holds_in_both_directions, two_processes_share_a_limit,
                    an_unknown_host_key_is_refused, a_changed_host_key_is_refused,
                    a_host_is_recognised_by_any_of_its_keys, the_host_key_is_shown_and_trusted,
                    the_file_of_a_host_key_is_told, a_refused_key_shows_the_line_that_lets_it_in,
                    an_unusable_key_file_is_our_own_mistake, a_missing_command_is_told,
                    the_last_words_of_the_other_side_are_told, a_shell_that_talks_is_named,
                    nobody_there_is_told, a_killed_server_is_a_lost_connection,
                    a_connection_that_breaks_is_a_lost_connection, an_interrupt_ends_a_transfer);
}
