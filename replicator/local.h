/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store in a directory, from the inside: what local.c (the store and its points), incoming.c (a
 * point that arrives), commit.c (how it becomes a point) and pool.c (bundles) share.
 */
#pragma once

#include "replicator/disk.h"
#include "replicator/replicator.h"

/* STORE, vms/ and vms/<uuid>/ may be passed through by everybody, so that restore/ can grant QEMU
 * the images of one point by changing that point only; nobody but us lists them. */
#define MODE_PASSAGE 0711
#define MODE_PRIVATE_DIR 0700
#define MODE_PRIVATE_FILE 0600

/* Hard limits on what one point may be, whoever sends it. */
#define POINT_MAX_FILES 256u
#define POINT_MAX_FILE_BYTES (UINT64_C(1) << 46) /* 64 TiB */
/* Stretches of a file that were not sent one after the other. An image has two: its header comes
 * last. */
#define POINT_MAX_RUNS 4096u
/* What interrupted transfers of one VM left is kept of so many. */
#define PARTIALS_MAX 4u

/* Of the file system of a store, what points must leave free: a failover of what is committed writes its
 * journal to the catalog. */
#define RESERVE_PART 50u
#define RESERVE_MAX_BYTES (UINT64_C(1) << 30)

struct local_store {
    struct store store;
    char *path;
    char uuid[37];
    char *site;
    struct catalog *catalog;     /* borrowed */
    const struct config *config; /* of the site whose store it is, borrowed; or NULL */
    const struct point_ops *point_ops;
};

/* Behind "<uuid>.<point>" in incoming/: a point that will replace the one of that name, and one that is
 * being removed. */
#define INCOMING_REPLACES ".new"
#define INCOMING_REMOVED ".old"

/* Bytes that arrived one after the other, with their checksum. */
struct run_of_bytes {
    uint64_t offset, len;
    uint8_t checksum[CHECKSUM_SIZE];
};

struct arriving_file {
    char *name;
    uint64_t size; /* end of what was written */
    /* The rest belongs to the lane until it was waited for. */
    struct disk_file disk;
    GArray *runs;              /* of struct run_of_bytes; the last one is open */
    struct checksum *checksum; /* of the open one */

    int reused[PARTIALS_MAX]; /* the file of that name in each partial, once it was opened; or -1 */
};

struct local_incoming {
    struct incoming incoming;
    struct local_store *store; /* borrowed */
    struct file_lock *lock;
    char *vm_uuid;
    char *point;
    char *taker; /* site that takes it now, or NULL: it is a copy */
    uint64_t taker_epoch;
    char *dir;             /* in incoming/ */
    char **partials;       /* directories of what earlier transfers left, newest first */
    GPtrArray *files;      /* of struct arriving_file */
    GPtrArray *linked;     /* char *: names of files taken over from the point that it replaces */
    struct lane *lane;     /* digests and writes; NULL when nothing arrives any more */
    struct piece *filling; /* taken from the lane, not put yet; or NULL */
    uint64_t unchecked;    /* bytes since we last looked how much of the disk is free */
    bool replaces;         /* it has been committed before, with the same content */
    bool gone;             /* committed, or discarded after an error */
};

struct incoming *local_begin(struct store *store, const char *vm_uuid, const char *point,
                             const struct taker *taker, GError **error);
/* The same for a point that replaces the committed one of that name; the caller holds the lock. */
struct local_incoming *local_begin_again(struct local_store *store, const char *vm_uuid,
                                         const char *point, GError **error);
/* Let it have file NAME of the point that it replaces: the same file, by a link. */
bool local_link(struct local_incoming *self, const char *name, GError **error);
/* The lock of whoever writes points of VM_UUID. */
struct file_lock *local_take_place(struct local_store *store, const char *vm_uuid, GError **error);
/* Give it up and remove what arrived, and what earlier transfers of the VM left: the space is needed. */
void local_incoming_discard(struct incoming *incoming);
/* Has somebody asked for its place within the last MS? Its holder gives way if its client is silent. */
bool local_incoming_wanted(const struct incoming *incoming, int64_t ms);
/* In the directory of what arrives: the namespace of the key that sends it, see local_incoming_bind(). Files of
 * points have safe names, so none is called so. */
#define INCOMING_SITE_NAME ".site"
#define INCOMING_SITE_MAX 4096u
/* What arrives, and what is left of it, is of the namespace TEXT from now on; partials of others are not
 * there for it. */
bool local_incoming_bind(struct incoming *incoming, const char *text, GError **error);
/* The namespace of what arrives or is left in DIR; NULL if it has none; g_free. */
char *local_incoming_namespace(const char *dir);
/* How many partials there are to reuse. */
unsigned local_incoming_partials(const struct incoming *incoming);

/* See to what transfers of VM_UUID left in incoming/: remove what is too old, too little or too much,
 * name what is kept. Its lock must be held, and nothing of it arrive. The directories, newest first;
 * g_strfreev. */
char **local_partials_settle(const char *store_path, const char *vm_uuid, GError **error);
/* The same, for who does not need them. */
bool local_sweep_vm(const char *store_path, const char *vm_uuid, GError **error);
/* Remove all that transfers of VM_UUID left; its lock must be held, and nothing of it arrive. */
bool local_partials_remove(const char *store_path, const char *vm_uuid, GError **error);
/* The same seeing for every VM whose lock is free. */
void local_partials_sweep(const char *store_path);
/* Of a VM: "STORE/locks/point-<uuid>.lock", "STORE/locks/point-<uuid>.wanted", whose time of change says
 * when somebody last asked for the place in vain, and "STORE/locks/read-<uuid>.lock"; g_free. */
char *local_lock_path(const char *store_path, const char *vm_uuid);
char *local_wanted_path(const char *store_path, const char *vm_uuid);
char *local_read_lock_path(const char *store_path, const char *vm_uuid);
/* Remove these if the store has no points of VM_UUID and nobody holds them. */
void local_locks_forget(const char *store_path, const char *vm_uuid);
/* The same for all VMs. */
void local_locks_sweep(const char *store_path);
/* End the open run of FILE. */
void arriving_file_end_run(struct arriving_file *file);
/* Let everything that arrived be written, and wait for it. */
bool local_flush(struct local_incoming *self, GError **error);
/* The commit up to where the point becomes visible: everything is in its directory and on the disk.
 * FRESH is MANIFEST, or one of only those of its disks whose files were not linked. */
bool local_settle(struct local_incoming *self, const struct manifest *manifest,
                  const struct manifest *fresh, GError **error);
/* incoming_ops.commit without the clean-up. */
bool local_commit(struct local_incoming *self, const struct manifest *manifest, GError **error);

bool local_newest_bundle(struct store *store, const char *site, struct bundle_id **id,
                         GError **error);
GPtrArray *local_bundles(struct store *store, const char *site, GError **error);
bool local_get_bundle(struct store *store, const struct bundle_id *id, char **data, size_t *len,
                      GError **error);
bool local_put_bundle(struct store *store, const char *data, size_t len, GError **error);

/* store_owners() and store_put_owners(). */
GPtrArray *local_owners(struct store *store, GError **error);
bool local_put_owners(struct store *store, const GPtrArray *owners, GPtrArray *refused,
                      GError **error);

/* store_ops.prune: drop points, and merge their clusters into those that stay. */
bool local_prune(struct store *store, const struct prune_request *request,
                 struct prune_result *result, GError **error);

/* store_points(). */
GPtrArray *local_points(struct store *store, const char *vm, GError **error);
/* UUIDs of all VMs, and other names that are in vms/; g_strfreev. */
char **local_vms(struct local_store *self, GError **error);
/* The newest point of VM_UUID, or NULL if there is none that can be read. */
struct manifest *local_newest(struct local_store *self, const char *vm_uuid);
/* store_damaged(). */
char **local_damaged(struct store *store, const char *vm_uuid, GError **error);
/* The manifest of a committed point, from its directory. */
struct manifest *local_manifest(const char *store_path, const char *vm_uuid, const char *point,
                                GError **error);
/* What the catalog knows of it, NULL if nothing. */
struct manifest *local_cached_manifest(struct local_store *self, const char *vm_uuid,
                                       const char *point);
/* Let the catalog know a committed point as it is now; it is only a cache. */
void local_cache_put(struct local_store *self, const struct manifest *manifest);
/* A disk at a point: where a walk down a chain is. All NULL below the last image. */
struct chain_place {
    char *vm_uuid, *point, *target;
};
void chain_place_clear(struct chain_place *place);
#define AUTO_CHAIN_PLACE __attribute__((cleanup(chain_place_clear))) struct chain_place
/* The layer at *PLACE, whose paths the caller frees; *PLACE becomes the one below it. */
bool local_chain_step(struct local_store *self, struct chain_place *place,
                      struct image_layer *layer, GError **error);

/* store_similar(). */
bool local_similar(struct store *store, const struct sketch *sketch, const char *before,
                   struct similar_image **image, GError **error);
/* Let the catalog have the sketches of a point that was committed, as long as its digests are in memory;
 * what goes wrong is found again when they are asked for. */
void local_sketch_point(struct local_store *self, const struct manifest *manifest);

/* Let it forget a point that is gone. */
void local_cache_remove(struct local_store *self, const char *vm_uuid, const char *point);
/* Make DIR with exactly MODE, whatever the umask; an existing one is left as it is. */
bool make_dir(const char *dir, mode_t mode, GError **error);
/* Append to an ERROR_NO_SPACE how much is free where. */
void explain_no_space(const char *path, GError **error);
