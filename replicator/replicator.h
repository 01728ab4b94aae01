/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public header of replicator/: stores of recovery points, here and at other sites. The local
 * store keeps the files of drctl-store(5) and commits atomically; `drctl serve` offers it on a pipe
 * in a small framed protocol; a remote store is the same interface over ssh to that.
 */
#pragma once

#include "metadata/metadata.h"

/* Make an empty store: directories and store.json with a new uuid. ERROR_CONFLICT if there is one.
 */
bool store_create(const char *path, const char *site, GError **error);
/* Open the store in directory PATH; missing or of another format: ERROR_CONFIG with the way out.
 * CATALOG is borrowed and must outlive the store. Sweeps what killed transfers left in incoming/.
 */
struct store *store_open_local(const char *path, struct catalog *catalog,
                               const struct point_ops *point_ops, GError **error);
/* The same for the store of the site of CONFIG, which is borrowed and must outlive it. Only such a store
 * can be pruned: of others it is not known who uses their points, nor what their site wants to
 * keep. */
struct store *store_open_site(const struct config *config, struct catalog *catalog,
                              const struct point_ops *point_ops, GError **error);
/* Connect over ssh: strict host key, key file, HELLO; at the rate of REMOTE->limit. REMOTE is
 * borrowed as long as the store is open. */
struct store *store_open_remote(const struct remote *remote, GError **error);
/* Open the destination of a protection: `local` or the name of a remote. */
struct store *store_open_destination(const struct config *config, struct catalog *catalog,
                                     const char *destination, const struct point_ops *point_ops,
                                     GError **error);

/* What points leave free in a local store whose file system has TOTAL_BYTES: what is committed must still be
 * brought up. */
uint64_t store_reserve_bytes(uint64_t total_bytes);
/* Directory of a committed point in a local store (drctl-store(5)); g_free. */
char *store_point_dir(const char *store_path, const char *vm_uuid, const char *point);
/* The other way round: "<vm-uuid>/<point>" of the point that the file NAME is of, whatever stands around it,
 * because a store can be mounted at several places and QEMU has several ways to write a name. NULL: it is of
 * none; g_free. */
char *store_point_of(const char *name);
/* What the header of the image PATH says that it lies upon (g_free). *NAME is NULL when that is nothing, or when it is
 * no qcow2 at all, or gone meanwhile. */
bool store_backing_name(const char *path, char **name, GError **error);
/* The image files of DISK at POINT, top layer first, down to the full one; absolute paths. Every
 * layer's point must be committed: ERROR_INTEGRITY names what is missing. g_strfreev. */
char **store_chain(struct store *local, const char *vm_uuid, const char *point, const char *target,
                   GError **error);
/* Whoever reads points of a VM from the files of a local store, and those that they are based on, holds
 * this of each of these VMs. Meanwhile no point of it is replaced or removed. Waits for the instant in
 * which that happens. */
struct file_lock *store_read_lock(const char *store_path, const char *vm_uuid, GError **error);
/* Re-read a committed local point: every file against SHA256SUMS, sizes against the manifest. */
bool store_verify_point(const char *store_path, const struct manifest *manifest,
                        struct progress *progress, GError **error);
/* One file of it, NAME, which its manifest lists. */
bool store_verify_file(const char *dir, const struct manifest *manifest, const char *name,
                       GError **error);
/* The same for the point in directory DIR, but all that is wrong goes into DAMAGE. False only when
 * interrupted. */
bool store_find_damage(const char *dir, const struct manifest *manifest, struct progress *progress,
                       struct damage *damage, GError **error);
/* "<vm-uuid>/<point>: why" for each directory that store_points() of VM leaves out, because its
 * manifest cannot be read and the catalog does not know it: one damaged point must not keep the
 * others from being used. NULL-terminated, possibly empty; g_strfreev. */
char **store_damaged_points(struct store *local, const char *vm, GError **error);

/* Make a point of a local store whole that is noted as damaged (damage.h): FROM another store that has the
 * same point, file by file, as it was; or, when that is NULL, from what this store can prove: clusters that
 * other points of the VM have, digests of an image that is good, a manifest that the catalog knows.
 * The damaged files are removed only when the new ones were verified. ERROR_NOT_FOUND when something cannot be
 * had there; the point stays as it is then. Of POINT only VM and id count. */
bool store_heal_point(struct store *local, const struct manifest *point, struct store *from,
                      struct progress *progress, GError **error);

/* The same for all damaged points of a VM, from what the store has; to be tried whenever it has got a new
 * one, which has afresh what was damaged. What cannot be healed is told, and stays. */
void store_heal_vm(struct store *local, const char *vm_uuid, struct progress *progress);

/* Which points of a VM are meant; all else goes only as their bases. */
struct copy_wish {
    const char *point; /* this one; NULL: all */
    struct retention
        keep; /* those that this policy would keep among all that TO has then; may be empty */
};
/* What FROM has of VMS (names or UUIDs; none: of all) and TO has not, with all that these are based
 * on; of struct manifest, oldest first, so that bases come before what is based on them. WISH may be NULL.
 * ERROR_NOT_FOUND for a VM of which FROM has nothing, ERROR_USAGE when both are one store. */
GPtrArray *store_copy_plan(struct store *from, struct store *to, char *const *vms,
                           const struct copy_wish *wish, GError **error);
/* Copy a point that FROM has listed into TO, as it is: its files are compared with the source's
 * SHA256SUMS, and TO checks it as any other, before it is committed. Memory does not grow with it. A
 * point that was removed meanwhile is ERROR_NOT_FOUND; one that was rewritten meanwhile is
 * ERROR_INTEGRITY; after both the others can be copied. */
bool store_copy_point(struct store *from, struct store *to, const struct manifest *point,
                      struct progress *progress, GError **error);

/* --- Other sites, asked who owns what (owner.h) ---------------------------------------------- */

struct peer {
    char *name;            /* of the [remote] */
    GPtrArray *owners;     /* of struct owner: what it knows; NULL if it has not answered */
    char *why;             /* it has not */
    bool refuses;          /* because our key, or its host key, is refused: somebody is there */
    struct errand *asking; /* private */
};
/* Ask all remotes of CONFIG at once, for at most TIMEOUT_MS; of struct peer. Who has not answered by then
 * is left alone. */
GPtrArray *peers_ask(const struct config *config, unsigned timeout_ms);
/* Did none of them answer when they were asked last, a moment ago? So who must be quick need not ask again. */
bool peers_were_silent(const struct config *config);
/* Has any of them? */
bool peers_answered(const GPtrArray *peers);
/* The record of a VM with the highest epoch that any of them has, or NULL; borrowed. Of several with that
 * epoch it is one that is not of SITE. */
const struct owner *peers_newest(const GPtrArray *peers, const char *uuid, const char *site);
/* The same for all VMs: UUID -> struct owner; both borrowed. */
GHashTable *peers_newest_of_all(const GPtrArray *peers, const char *site);
/* Let one that has answered know; see store_put_owners(). */
bool peer_tell(struct peer *peer, const GPtrArray *owners, GPtrArray *refused, GError **error);
/* Can "HOST:PORT" be connected to? */
bool witness_answers(const char *witness, unsigned timeout_ms);

/* What one key may do here; it stands in authorized_keys as options of `drctl serve`. */
enum serve_role {
    SERVE_ALL,
    SERVE_APPEND_ONLY, /* add points and bundles and read, but remove or change nothing that is committed */
    SERVE_PUSH, /* the same, but of points read only what the next one needs: no image */
    SERVE_PULL, /* read */
};
/* What came of a session. */
struct serve_tally {
    unsigned points, bundles, refused;
    uint64_t bytes;      /* of the points */
    uint64_t read_bytes; /* of images, definitions and bundles that were sent back */
};
struct serve_rules {
    enum serve_role role;
    const char *const *sites; /* whose points and bundles alone it is for; NULL: of all */
    uint64_t quota; /* bytes that the store may hold, or SITES in it, see quota.h; 0: no quota */
    /* Run commands of drctl, of a fixed list: the words that come before those of the command, such as
     * {"drctl", "--config", DIR, NULL}; NULL: none. */
    const char *const *commander;
    struct serve_tally *tally; /* is set at the end, or NULL */
};

/* Serve LOCAL, a store in a directory, on two file descriptors until the peer hangs up or is silent
 * for SERVE_IDLE_S. */
#define SERVE_IDLE_S 300
/* A transfer whose client is silent for so long gives way to another one of the same VM. */
#define SERVE_GIVE_WAY_S (SERVE_IDLE_S / 20)
bool serve(struct store *local, const struct serve_rules *rules, int in_fd, int out_fd,
           GError **error);

/* The remote's ssh host key as it is now, for `drctl site add`: "SHA256:..." fingerprint and the
 * line for known_hosts. Nothing is trusted by asking. */
struct host_key {
    char *type;
    char *fingerprint;
    char *file; /* of the other host, which has it */
    char *known_hosts_line;
};
void host_key_free(struct host_key *key);
DEFINE_CLEANUP(host_key)
struct host_key *remote_host_key(const struct remote *remote, GError **error);
/* Append to the remote's known_hosts file, durably. */
bool remote_trust(const struct remote *remote, const struct host_key *key, GError **error);
