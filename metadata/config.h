/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drctl.conf, read strictly: an unknown group or key, a wrong value, a name used twice or a file that
 * is not there is ERROR_CONFIG "FILE: [group] key: what is wrong, what would be right". A struct config
 * is immutable after loading. drctl.conf(5) documents every key; the defaults for root are here, those
 * of an ordinary user are qemu:///session, $XDG_DATA_HOME/drctl/{store,images,scratch} and
 * $XDG_RUNTIME_DIR/drctl. Names of sites, remotes and protections are 1 to 63 of [a-z0-9-].
 *
 *     [site]
 *     name = dc1                          this site, [a-z0-9-]
 *     libvirt = qemu:///system            one URI or several, separated by ';'
 *     store = /var/lib/drctl/store        recovery points of other sites, and this site's catalog
 *     images = /var/lib/drctl/images      disks of VMs that are restored or failed over here
 *     scratch = /var/lib/drctl/scratch    QEMU's copy-before-write space during a point
 *     run-dir = /run/drctl                sockets; at most 60 bytes, as socket paths are short
 *     keep = last=24 daily=14             which points stay in the store (retention.h); default: all
 *     chain-depth = 32                    layers of a chain, 2 to 150, before it is shortened
 *     guard = known                       off | known | strict: may a protected VM start, see guarded.h
 *     hydrate = no                        copy the disks of recovered VMs off their points by itself?
 *     hydrate-limit = 100MiB/s            at most, all disks together; default: none
 *     host-files = /etc/libvirt; /etc/fstab files and directories that go with the pool metadata
 *     secret-values = passphrase          and values of secrets, sealed with the passphrase in this file
 *     witness = 192.0.2.1:22              HOST:PORT, several separated by ';', for guard = strict
 *
 *     [remote dr1]
 *     address = root@10.77.0.2:22         [user@]host[:port]; user: ours, port: 22
 *     key = id_ed25519                    relative to the configuration directory
 *     known-hosts = known_hosts
 *     store = /var/lib/drctl/store        optional; default: the store of the other site's drctl.conf
 *     limit = 20MiB/s                     bandwidth, see limit.h; default: none
 *     limit mon..fri 08:00-18:00 = 5MiB/s and any number of windows
 *     retry = 10min                       how long a lost link is waited for; 0s: not
 *
 *     [protection shop]
 *     vapp = shop                         or: vms = db; web-*; tag:prod (separated by ';' only, selection.h)
 *     exclude = web-test; tag:scratch     of what patterns and tags mean
 *     like = hourly                       what is not said here is as in [template hourly]
 *     destination = dr1                   a remote, or `local` for this site's own store
 *     quiesce = try                       off | try | require
 *     quiesce-timeout = 10s
 *     group = try                         off | try | require; default: try with vapp, off with vms
 *     compression = 1                     zstd level 1..19
 *     keep = last=24 daily=14 weekly=8    which of its points stay at the destination; default: all
 *     rpo = 15min                         how old its newest point may be (rpo.h); default: nobody says
 *     at = mon..fri 02:00                 when the daemon takes one (calendar.h); default: for the rpo
 *
 *     [template hourly]                   any keys of a protection but vapp, vms and like
 *
 *     [daemon]                            what it does beside protections, all optional
 *     jobs = 4                            at once, at most
 *     link-jobs = 2                       of those with one remote
 *     store-jobs = 1                      of those that read or change points of this store
 *     verify-cycle = 30d                  how often all points are verified
 *     verify-at = 03:00
 *     prune-at = 04:30
 *     metrics = /var/lib/prometheus/node-exporter/drctl.prom
 *
 *     [copy vault]                        a third copy, any number of them
 *     from = local                        a remote, or `local`: this site's own store; the default
 *     to = dr2                            likewise
 *     vms = db; web                       names of VMs; default: all that there are
 *     at = 05:00                          must be given
 *     keep = daily=7 monthly=12           what stays there, and is copied at all; default: all
 *
 *     [web]                               see web-config.h
 *
 *     [alert ops]                         whom to tell when something is wrong, any number of them
 *     mail = ops@example.org              with smtp = smtps://mail.example.org; or command, or webhook
 *     tell = warning                      warning | critical
 *     again = 1d                          how often of what goes on; 0s: once
 *
 * key = id_ed25519 and known-hosts = known_hosts are defaults, as are quiesce and what follows; address
 * and destination, and one of vapp and vms, must be given.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/common.h"
#include "metadata/alert.h"
#include "metadata/calendar.h"
#include "metadata/limit.h"
#include "metadata/retention.h"
#include "metadata/web-config.h"

#define CONFIG_MAX_BYTES (1u << 20)
#define CONFIG_CHAIN_DEPTH 32
#define CONFIG_CHAIN_DEPTH_MAX 150 /* libvirt refuses chains of about 200 layers */
#define CONFIG_RUN_DIR_MAX 60      /* of the 107 of a UNIX socket's path */
#define CONFIG_JOBS 4
#define CONFIG_HOST_JOBS 2
#define CONFIG_LINK_JOBS 2
#define CONFIG_STORE_JOBS 1

enum quiesce { QUIESCE_OFF, QUIESCE_TRY, QUIESCE_REQUIRE };

/* Are the VMs of a protection caught at one instant? */
enum group_mode {
    GROUP_OFF,     /* each by itself */
    GROUP_TRY,     /* if one cannot, the others are points by themselves */
    GROUP_REQUIRE, /* if one cannot, there is no point of any */
};

/* May a VM start whose owner must be asked for? */
enum guard_mode {
    GUARD_OFF,    /* nobody is asked */
    GUARD_KNOWN,  /* unless another site is known to own it */
    GUARD_STRICT, /* only if some other site, or a witness, answers */
};
const char *guard_mode_name(enum guard_mode mode);

struct remote {
    char *name;
    char *user;
    char *host;
    uint16_t port;
    char *key;         /* absolute path of the private key; the public one is <key>.pub */
    char *known_hosts; /* absolute path */
    char *store;       /* or NULL */
    struct limit *limit;
    char *limit_file; /* in the run directory: what all processes that talk to it share */
    int64_t retry_ms; /* how long a link that was lost is tried to be had again */
};

/* Of this site, in its configuration directory: for links to other sites, and below its reports. */
#define SITE_KEY_FILE "id_ed25519"

struct protection {
    char *name;
    char *vapp;      /* or NULL: then VMS */
    char **vms;      /* whole names, perhaps none; or NULL: then VAPP */
    char **patterns; /* the other entries of `vms`, see selection.h; NULL: none */
    char **exclude;  /* or NULL */
    char *destination;
    enum quiesce quiesce;
    unsigned quiesce_timeout_s;
    enum group_mode group;
    int compression;
    struct retention keep; /* may be empty */
    int64_t rpo_ms;        /* 0: there is none */
    struct calendar *at;   /* or NULL */
};

/* Points that the daemon copies from one store to another. */
struct copy_rule {
    char *name;
    char *from, *to;       /* "local", or a remote */
    char **vms;            /* or NULL: all */
    struct calendar *at;   /* never NULL */
    struct retention keep; /* there; may be empty */
};

struct config {
    char *dir;  /* absolute */
    char *path; /* dir/drctl.conf */
    char *site;
    char **libvirt_uris; /* at least one */
    char *store;
    char *images;
    char *scratch;
    char *run_dir;
    struct retention keep; /* of this site's store; may be empty */
    unsigned chain_depth;
    bool hydrate;
    uint64_t hydrate_rate; /* bytes a second; 0: no limit */
    enum guard_mode guard;
    char
        *secret_values; /* file of the passphrase that they are sealed with; NULL: they stay here */
    char **host_files;  /* absolute paths, or NULL */
    char **witnesses;   /* "HOST:PORT"; may be empty */
    unsigned jobs, host_jobs, link_jobs, store_jobs; /* of the daemon, at once */
    int64_t verify_cycle_ms;                         /* 0: no points are verified by itself */
    struct calendar *verify_at, *prune_at;           /* or NULL */
    char *metrics;                                   /* file of metrics, or NULL */
    struct web_config web;                           /* the page of the daemon */
    GPtrArray *remotes;                              /* of struct remote, in file order */
    GPtrArray *protections;                          /* of struct protection, in file order */
    GPtrArray *copies;                               /* of struct copy_rule, in file order */
    GPtrArray *alerts;                               /* of struct alert, in file order */
};

/* The directory without --config: /etc/drctl for root, $XDG_CONFIG_HOME/drctl otherwise; g_free. */
char *config_default_dir(void);
/* Load DIR/drctl.conf; a missing one is ERROR_CONFIG that names `drctl init`. */
struct config *config_load(const char *dir, GError **error);
/* The same for a text that shall become DIR/drctl.conf. */
struct config *config_parse(const char *text, size_t len, const char *dir, GError **error);
void config_free(struct config *config);
DEFINE_CLEANUP(config)

/* ERROR_NOT_FOUND names those that exist. */
const struct remote *config_remote(const struct config *config, const char *name, GError **error);
const struct protection *config_protection(const struct config *config, const char *name,
                                           GError **error);
/* Is what the configuration names there: each remote's key (readable by nobody else, as ssh demands)
 * and known_hosts, and the directories? For `drctl config check`; loading does not look, because `init`
 * and `site add` make these files one after the other. */
bool config_check_files(const struct config *config, GError **error);

/* 1 to 63 of [a-z0-9-], not starting or ending with '-', not `local` (the destination). */
bool site_name_is_valid(const char *name);
/* "[user@]host[:port]", IPv6 in brackets; out values are g_free'd by the caller.
 * Without a user it is who we are; without a port 22. */
bool address_parse(const char *text, char **user, char **host, uint16_t *port, GError **error);

/* What `drctl init` writes: a commented drctl.conf for SITE with the defaults of root or of an
 * ordinary user, never over an existing one (ERROR_CONFLICT). Makes the directories too, but the
 * store (store_create() does). Values that are NULL get the default. */
struct config_init {
    const char *dir;
    const char *site;
    const char *libvirt;
    const char *store;
    const char *images;
};
bool config_init(const struct config_init *init, GError **error);
/* Make a file of drctl's configuration (drctl.conf, a vApp, a plan) TEXT. Of one that is there the mode stays, and
 * the file behind a symbolic link is replaced, not the link. */
bool config_write_file(const char *path, const char *text, GError **error);
/* The text of a [protection NAME] group; what is NULL is not said. ERROR_CONFIG for what cannot be written. */
struct config_protection {
    const char *name;
    char *const *vms;
    char *const *exclude;
    const char *like, *destination, *rpo, *at, *keep;
};
char *config_protection_text(const struct config_protection *protection, GError **error);
/* What drctl.conf is when GROUP is appended to it; nothing is written. */
struct config *config_with_group(const struct config *config, const char *group, GError **error);
/* Append GROUP, keeping every byte that is there. The result is parsed before it replaces the old file. */
bool config_add_group(const struct config *config, const char *group, GError **error);
/* Append a [remote NAME] group likewise; ERROR_CONFLICT if the name exists. */
bool config_add_remote(const struct config *config, const char *name, const char *address,
                       const char *store, GError **error);
