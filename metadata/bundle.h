/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool metadata bundle: what another site must know of this site to start its vApps without it, as
 * one tar.zst (libarchive) that can be unpacked by hand:
 *
 *     bundle.json              {format: 1 or 2, site, time, generation, digest, vms: {name: uuid}, check}
 *     domains/<uuid>.xml       inactive definitions of the protected VMs
 *     networks/<name>.xml      pools/<name>.xml      vapps/<name>.vapp
 *     owners/<uuid>.json       which site owns the VM (owner.h), for those that were failed over
 *
 * and, in format 2 only, what it takes to make the hosts of this site anew:
 *
 *     others/<uuid>.xml        inactive definitions of VMs that are not protected
 *     nwfilters/<name>.xml     secrets/<uuid>.xml (without values)     plans/<name>.plan
 *     secret-values/<uuid>.sealed    secret-value.h     capabilities/<host>.xml
 *     hosts/<host>/networks/<name>.xml, likewise pools and nwfilters: what this host has under a name under which
 *                              another one has something else, which is in the folder of all
 *     drctl.conf               files/<path>       host-files.json (host-files.h: modes, owners)
 *
 * A higher generation supersedes a lower one whatever the clocks say (XenServer's rule for DR
 * metadata). The digest covers the content, so an unchanged pool needs no new bundle: SHA-256 over the
 * members in sorted order, each as name, NUL, length (64 bit, little-endian), bytes, and then over the VMs
 * in sorted order, each as name, NUL, uuid, NUL. The check is SHA-256 over the compact text of
 * bundle.json without it, in the order above, so that no single wrong byte goes unnoticed.
 *
 * In the names of objects and files, bytes other than A-Z a-z 0-9 . _ - ~ are written %XX (RFC
 * 3986) in the archive, and only there. Members are never unpacked to files by drctl; what makes a file of one asks name_is_safe().
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

#include "metadata/host-files.h"
#include "metadata/store.h"

#define BUNDLE_MAX_BYTES (64u << 20)        /* packed */
#define BUNDLE_MAX_MEMBER_BYTES (16u << 20) /* unpacked, each */
#define BUNDLE_MAX_TOTAL_BYTES (256u << 20) /* unpacked, all */
#define BUNDLE_MAX_MEMBERS 10000
#define BUNDLE_CONF "drctl.conf"
#define BUNDLE_FILES "host-files.json"

struct bundle {
    struct bundle_id *id;
    GHashTable *members; /* "domains/<uuid>.xml" -> char *text; without bundle.json */
    GHashTable *vms;     /* name -> uuid */
};

struct bundle *bundle_new(const char *site);
void bundle_free(struct bundle *bundle);
DEFINE_CLEANUP(bundle)
/* Is PATH the name of a member? */
bool bundle_takes(const char *path);
/* PATH as drawn above; TEXT is copied. */
void bundle_add(struct bundle *bundle, const char *path, const char *text);
/* Also enters the VM into bundle->vms. */
void bundle_add_domain(struct bundle *bundle, const char *vm, const char *uuid, const char *xml);
void bundle_add_owner(struct bundle *bundle, const struct owner *owner);
/* Of struct host_file. A file that is no UTF-8 text is there in base64. */
void bundle_add_files(struct bundle *bundle, const GPtrArray *files);
/* Of struct host_file; ERROR_INTEGRITY. */
GPtrArray *bundle_files(const struct bundle *bundle, GError **error);
/* Of struct owner; ERROR_INTEGRITY. */
GPtrArray *bundle_owners(const struct bundle *bundle, GError **error);
const char *bundle_member(const struct bundle *bundle, const char *path);
/* Names of the members under FOLDER ("vapps") without folder and extension, sorted; g_strfreev. */
char **bundle_names(const struct bundle *bundle, const char *folder);

/* Compute id->digest. */
void bundle_seal(struct bundle *bundle);
/* The tar.zst for a sealed bundle whose id->generation and id->time are set; g_free. What the other
 * side would refuse is ERROR_FAILED here. */
bool bundle_pack(const struct bundle *bundle, char **data, size_t *len, GError **error);
/* Limits, safe member names and the digest are checked: ERROR_INTEGRITY names WHAT. */
struct bundle *bundle_unpack(const char *data, size_t len, const char *what, GError **error);

/* Send BUNDLE (sealed by this) to STORE as the next generation unless the newest one there has
 * the same content; *SENT says whether. */
bool bundle_publish(struct bundle *bundle, struct store *store, bool *sent, GError **error);
/* The newest bundle of SITE in STORE; ERROR_NOT_FOUND. */
struct bundle *bundle_fetch(struct store *store, const char *site, GError **error);
/* The one that ID, of this store, tells of. */
struct bundle *bundle_fetch_id(struct store *store, const struct bundle_id *id, GError **error);
