/* SPDX-License-Identifier: Apache-2.0 */
/* A store behind a real sshd on loopback, with throw-away keys, as whoever runs the test. */
#pragma once

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

#define SSHD "/usr/sbin/sshd"

struct site {
    char *dir; /* of everything */
    char *store_path;
    struct remote remote;
    pid_t sshd;
};

G_GNUC_UNUSED static inline char *in_dir(const struct site *site, const char *name)
{
    return g_build_filename(site->dir, name, NULL);
}

G_GNUC_UNUSED G_GNUC_PRINTF(3, 4) static inline void write_text(const char *path, mode_t mode,
                                                                const char *format, ...)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    unit_ok(file_write(path, text, strlen(text), mode, &error), error);
}

G_GNUC_UNUSED static inline char *read_text(const char *path)
{
    g_autoptr(GError) error = NULL;
    char *text;

    unit_ok(file_read(path, 1 << 20, &text, NULL, &error), error);
    return g_strstrip(text);
}

G_GNUC_UNUSED static inline void make_key(const struct site *site, const char *name,
                                          const char *type)
{
    g_autofree char *path = in_dir(site, name);
    const char *argv[] = {"ssh-keygen", "-q", "-t", type, "-N", "", "-C", name, "-f", path, NULL};
    g_autoptr(GError) error = NULL;

    unit_ok(process_run(argv, 30, NULL, &error), error);
}

G_GNUC_UNUSED static inline uint16_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    AUTO_FD fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    return ntohs(address.sin_port);
}

G_GNUC_UNUSED static inline bool port_answers(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    AUTO_FD fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    return connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
}

/* As root sshd wants a directory that only a booted system has: a private /run gives it one. */
G_GNUC_UNUSED static inline void make_run_sshd(void)
{
    if (geteuid() != 0 || g_file_test("/run/sshd", G_FILE_TEST_IS_DIR))
        return;
    if (unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("tmpfs", "/run", "tmpfs", 0, "mode=0755,size=1m") == 0)
        mkdir("/run/sshd", 0755);
}

G_GNUC_UNUSED static inline void sshd_exec(const struct site *site)
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

G_GNUC_UNUSED static inline void sshd_start(struct site *site)
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
G_GNUC_UNUSED static inline void sshd_stop(struct site *site)
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
G_GNUC_UNUSED static inline void sshd_configure(const struct site *site, const char *extra)
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
G_GNUC_UNUSED static inline void authorize(const struct site *site, const char *options)
{
    g_autofree char *path = in_dir(site, "authorized");
    g_autofree char *public_path = in_dir(site, "user.pub");
    g_autofree char *public = read_text(public_path);

    write_text(path, 0600, "%s%s\n", options, public);
}

G_GNUC_UNUSED static inline void trust(const struct site *site, const char *key_file)
{
    g_autofree char *path = in_dir(site, key_file);
    g_autofree char *key = read_text(path);
    g_auto(GStrv) words = g_strsplit(key, " ", 3);

    write_text(site->remote.known_hosts, 0600, "[127.0.0.1]:%u %s %s\n", site->remote.port,
               words[0], words[1]);
}

/* A store, `drctl` in the PATH of who logs in, keys that know each other; sshd runs. */
G_GNUC_UNUSED static inline struct site site_new(const char *extra)
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

G_GNUC_UNUSED static inline void site_free(struct site *site)
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

G_GNUC_UNUSED static inline struct store *site_open(const struct site *site)
{
    g_autoptr(GError) error = NULL;
    struct store *store = store_open_remote(&site->remote, &error);

    unit_ok(store, error);
    return store;
}

G_GNUC_UNUSED static inline void site_open_fails(const struct site *site, enum error_kind kind,
                                                 const char *part)
{
    GError *error = NULL;

    unit_fails(store_open_remote(&site->remote, &error), error, kind, part);
}

/* Whole points of VM_A in the store. */
G_GNUC_UNUSED static inline unsigned site_points(const struct site *site)
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
