/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drctl.conf, read strictly: an unknown group or key, a wrong value, a name used twice or a file that
 * is not there is ERROR_CONFIG "FILE: [group] key: what is wrong, what would be right". A struct config
 * is immutable after loading. drctl.conf(5) documents every key; the defaults are here.
 *
 *     [site]
 *     name = dc1                          this site, [a-z0-9-]
 *     libvirt = qemu:///system            one URI or several, separated by ';'
 *     store = /var/lib/drctl/store        recovery points of other sites, and this site's catalog
 *     images = /var/lib/drctl/images      disks of VMs that are restored or failed over here
 *     scratch = /var/lib/drctl/scratch    QEMU's copy-before-write space during a point
 *     run-dir = /run/drctl                sockets
 *
 *     [remote dr1]
 *     address = root@10.77.0.2:22         [user@]host[:port]; user: ours, port: 22
 *     key = id_ed25519                    relative to the configuration directory
 *     known-hosts = known_hosts
 *     store = /var/lib/drctl/store        optional; default: the store of the other site's drctl.conf
 *
 *     [protection shop]
 *     vapp = shop                         or: vms = db; app
 *     destination = dr1                   a remote, or `local` for this site's own store
 *     quiesce = try                       off | try | require
 *     quiesce-timeout = 10s
 *     compression = 1                     zstd level 1..19
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/common.h"

enum quiesce { QUIESCE_OFF, QUIESCE_TRY, QUIESCE_REQUIRE };

struct remote {
    char *name;
    char *user;
    char *host;
    uint16_t port;
    char *key;         /* absolute path of the private key; the public one is <key>.pub */
    char *known_hosts; /* absolute path */
    char *store;       /* or NULL */
};

struct protection {
    char *name;
    char *vapp; /* or NULL: then VMS */
    char **vms; /* or NULL: then VAPP */
    char *destination;
    enum quiesce quiesce;
    unsigned quiesce_timeout_s;
    int compression;
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
    GPtrArray *remotes;     /* of struct remote, in file order */
    GPtrArray *protections; /* of struct protection, in file order */
};

/* The directory without --config: /etc/drctl for root, $XDG_CONFIG_HOME/drctl otherwise; g_free. */
char *config_default_dir(void);
/* Load DIR/drctl.conf; a missing one is ERROR_CONFIG that names `drctl init`. */
struct config *config_load(const char *dir, GError **error);
void config_free(struct config *config);
DEFINE_CLEANUP(config)

/* ERROR_NOT_FOUND names those that exist. */
const struct remote *config_remote(const struct config *config, const char *name, GError **error);
const struct protection *config_protection(const struct config *config, const char *name,
                                           GError **error);
/* The protection that names VM in `vms`, or NULL. */
const struct protection *config_protection_of_vm(const struct config *config, const char *vm);
/* "[user@]host[:port]", IPv6 in brackets; out values are g_free'd by the caller. */
bool address_parse(const char *text, char **user, char **host, uint16_t *port, GError **error);

/* What `drctl init` writes: a commented drctl.conf for SITE with the defaults of root or of an
 * ordinary user, never over an existing one (ERROR_CONFLICT). Makes the directories too. Values that
 * are NULL get the default. */
struct config_init {
    const char *dir;
    const char *site;
    const char *libvirt;
    const char *store;
    const char *images;
};
bool config_init(const struct config_init *init, GError **error);
/* Append a [remote NAME] group to drctl.conf, keeping every byte that is there; ERROR_CONFLICT if the
 * name exists. The result is parsed before it replaces the old file. */
bool config_add_remote(const struct config *config, const char *name, const char *address,
                       const char *store, GError **error);
