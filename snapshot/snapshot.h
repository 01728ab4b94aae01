/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public header of snapshot/: a VM's disks become a recovery point. Capture by libvirt
 * pull-mode backup with a checkpoint, reading over NBD, zstd per cluster, an append-only qcow2
 * composer, and the reader that checks what the composer (or somebody who claims to be it) wrote.
 *
 * Memory: 64 MiB for the disk that is being read (mover.h), whatever its size, plus 8 bytes for
 * each 512 MiB of the disk and each 2 GiB of the image (composer.h).
 */
#pragma once

#include "metadata/metadata.h"

/* Name prefix of all checkpoints that are ours. */
#define CHECKPOINT_PREFIX "drctl-"

struct point_request {
    struct domain *domain;
    struct store *destination; /* a lost link to it is had again if it is patient */
    struct catalog *catalog;   /* of this site: the capture journal */
    const char *site;          /* name of this site */
    uint64_t epoch;            /* as of which it owns the VM, see owner.h */
    const char *run_dir;       /* sockets */
    const char *scratch_dir;
    enum quiesce quiesce;
    unsigned quiesce_timeout_s;
    /* The command (NULL-terminated) of a program that passes what follows it to
     * snapshot_watchdog(): a guest is frozen only in its presence. */
    const char *const *watchdog;
    int compression;
    bool force_full;
    const char *label; /* of the manifest, or NULL. A diverged point is taken whoever owns the VM */
    struct progress *progress; /* or NULL */
};

/* How what changed on a disk since its last point is found. */
enum disk_mode {
    DISK_FULL,      /* there is none: all that is allocated goes into the point */
    DISK_INCREMENT, /* by its dirty bitmap */
    DISK_COMPARE,   /* all that is allocated is read and compared with digests of the last point */
};
const char *disk_mode_name(enum disk_mode mode); /* "full", "increment", "compare" */

struct point_disk {
    char *target;
    enum disk_mode mode;
    bool read_is_known; /* of a plan: only if the bitmap of a running VM tells it */
    uint64_t read_bytes;
    uint64_t changed_bytes; /* of a plan: 0 */
};

struct point_result {
    struct manifest *manifest; /* as committed */
    GPtrArray *disks;          /* of struct point_disk */
    uint64_t changed_bytes;
    uint64_t sent_bytes; /* over the wire; 0 for a local destination */
    double seconds;
};
void point_result_clear(struct point_result *result);

/* Take one recovery point of a VM into DESTINATION: reconcile what a killed run left, choose the
 * reference of each disk, freeze, begin, thaw, read, compose, commit, drop superseded checkpoints.
 * On any error the VM runs on, our job is ended, the reference stays valid and the next call goes
 * on from it. The images of a VM that is off are only read; it can be started meanwhile, and then
 * the point is one of the running VM. */
bool snapshot_take_point(const struct point_request *request, struct point_result *result,
                         GError **error);

/* One VM of a round. */
struct round_vm {
    struct point_request request;
    struct point_result result; /* empty if there is no point */
    GError *error;              /* why there is none */
};
/* Take points of N VMs at one instant: all are frozen, then all jobs begin, then all are thawed.
 * Their manifests name the round, how many VMs it has and the measured skew. If one cannot take part,
 * MODE decides: the others are points by themselves, and so is that one if it can be
 * (GROUP_TRY); or there is no point of any (GROUP_REQUIRE). What fails after the instant fails
 * that VM only. */
void snapshot_take_round(struct round_vm *vms, unsigned n, enum group_mode mode);

/* The main part of the process that thaws a frozen guest when the one that froze it dies or takes
 * longer than 5 s: reads from stdin, and ends when that ends. ARGS: URI of the host, UUID of the VM,
 * seconds that its agent may take to answer. */
bool snapshot_watchdog(char *const *args, GError **error);

/* What snapshot_take_point() would do now, for --dry-run. */
struct point_plan {
    char *base; /* point id or NULL */
    char *reason;
    GPtrArray *disks; /* of struct point_disk */
    char **skipped;   /* "sda: cdrom", ... */
};
struct point_plan *snapshot_plan_point(const struct point_request *request, GError **error);
void point_plan_free(struct point_plan *plan);
DEFINE_CLEANUP(point_plan)

/* What of ours keeps libvirt from reverting a VM to an internal snapshot. */
struct release {
    bool running;
    char **checkpoints; /* names; with their bitmaps, if the VM runs */
    GPtrArray *bitmaps; /* of struct release_bitmap: those in the images of a VM that is off */
};
struct release_bitmap {
    char *target, *image, *name;
};
void release_clear(struct release *release);
/* Remove all our checkpoints and bitmaps from a VM, those of every destination, and bitmaps of a VM that
 * is off whose checkpoint libvirt does not know. Of REQUEST counts what reconciling needs: domain,
 * catalog, run_dir, scratch_dir. DRY_RUN: only say which. The next point to each destination has no
 * reference. */
bool snapshot_release(const struct point_request *request, bool dry_run, struct release *release,
                      GError **error);

/* Bytes that the VM has written since the point whose checkpoint is CHECKPOINT; false when unknown.
 */
bool snapshot_dirty_bytes(struct domain *domain, const char *checkpoint, uint64_t *bytes);

/* May this point, in directory DIR, be committed or booted? Its images are what the manifest says:
 * our subset of qcow2, of that size, with exactly that backing file name and no other reference to
 * any file, all tables inside the file. Reads metadata only. This is what stands between a hostile
 * source and QEMU. */
bool snapshot_check_point(const char *dir, const struct manifest *manifest, GError **error);
/* Read every cluster of the point's images, decompress it and compare it with its digest. */
bool snapshot_verify_point(const char *dir, const struct manifest *manifest,
                           struct progress *progress, GError **error);
/* Only what QEMU would not notice when it reads the images: their structure, and the clusters that
 * are not compressed. Frames have checksums, which it compares. */
bool snapshot_verify_for_qemu(const char *dir, const struct manifest *manifest,
                              struct progress *progress, GError **error);

/* Merge images, as a point between them is dropped: compose one of the upper layers of a chain, from
 * the clusters as they lie in their files, without unpacking them. It reads as the layers did, on
 * whatever they stood. The layers are checked as snapshot_check_point() does; the content of their
 * clusters is not: verify what was made. Takes time and space as the merged layers do, and
 * memory of 32 MiB. ERROR_CONFLICT when a cluster would have to be cut: the disk was shrunk to
 * a size that is no multiple of 64 KiB. */
bool snapshot_merge(const struct merge_job *job, GError **error);
/* Do two chains, of BEFORE_COUNT and AFTER_COUNT layers, read the same? Told by their digests alone, and
 * without reading those of the layers at the end that are the same files. ERROR_INTEGRITY names the
 * first cluster that differs. */
bool snapshot_same_content(const struct image_layer *before, unsigned before_count,
                           const struct image_layer *after, unsigned after_count, GError **error);
/* The same, but all that is wrong goes into DAMAGE, to the cluster where that is known. DAMAGE has
 * already what store_find_damage() found: an image whose file is unchanged is not read against
 * digests that are not. False only when interrupted. */
bool snapshot_find_damage(const char *dir, const struct manifest *manifest,
                          struct progress *progress, struct damage *damage, GError **error);
/* What a chain of images (store_chain(): paths, top first) cannot give, because something in it is noted
 * as damaged. What a layer above has afresh is not missed. */
struct chain_loss {
    GArray *clusters; /* of the disk, as the top sees it (cluster-ranges.h); NULL: none */
    bool unreadable;  /* the tables of a layer are damaged: QEMU must not open the chain */
    bool unbounded;   /* and its digests, too: nobody can tell what is left */
    char *text;       /* what is damaged, where and why, one line; NULL: the chain is whole */
};
void chain_loss_clear(struct chain_loss *loss);
#define AUTO_CHAIN_LOSS __attribute__((cleanup(chain_loss_clear))) struct chain_loss
/* False when a note cannot be read, which says that all is damaged: ERROR_INTEGRITY. */
bool snapshot_chain_loss(char *const *images, struct chain_loss *loss, GError **error);
/* Is it nothing? ERROR_INTEGRITY says which point lacks what. */
bool snapshot_chain_is_whole(char *const *images, GError **error);
/* One step up a chain: what is missed at DISK of the point in directory DIR, in which DAMAGE (or NULL) is
 * noted, if BELOW is what the disk that it stands on misses (or NULL); NULL when nothing is. */
GArray *snapshot_layer_loss(const char *dir, const struct manifest_disk *disk,
                            const struct damage *damage, const GArray *below);

/* Make the image PATH, of a disk of VIRTUAL_BYTES, over the image BACKING: every read of the clusters LOST is
 * an I/O error in QEMU, all others are those of BACKING. */
bool snapshot_write_lost(const char *path, const char *backing, uint64_t virtual_bytes,
                         const GArray *lost, GError **error);
/* Make the image PATH, which stands alone, of a chain of images (paths, top first). Every read of the
 * clusters LOST will be an I/O error; of all others the content is compared with their digests: ERROR_INTEGRITY
 * when there is more damage. Also layers whose tables are noted as damaged will do. */
bool snapshot_flatten(const char *path, char *const *images, const GArray *lost,
                      struct progress *progress, const char *subject, GError **error);

/* Serve IMAGE (a file name, or "json:..."), of which nothing is written and no lock is taken, as EXPORT at the unix
 * socket SOCKET, with its BITMAP unless that is NULL, to any number of clients, until the child is freed or the
 * calling thread ends. Beside the socket there is SOCKET.pid. */
struct child *snapshot_serve(const char *image, const char *export, const char *socket,
                             const char *bitmap, GError **error);

/* A disk of a point that is made of an image of any format that QEMU reads. */
struct image_job {
    const char *image;      /* as for snapshot_serve() */
    const char *socket_dir; /* private */
    struct incoming *into;
    struct manifest *manifest;  /* of the point; gets the files */
    struct manifest_disk *disk; /* of it; gets the sizes */
    int compression;
    struct progress *progress; /* or NULL */
};
bool snapshot_take_image(const struct image_job *job, GError **error);

/* Bring SKETCH up to what COUNT layers, top first, say. It is that of the image that the last one stands
 * on, which has the size of all of them; or empty where that one stands on nothing. Reads only
 * digests. */
bool snapshot_sketch(const struct image_layer *layers, unsigned count, struct sketch *sketch,
                     GError **error);

/* What is to be had of disk TARGET from partial points: see struct point_ops. */
bool snapshot_salvage(char *const *dirs, const char *target, store_sink_fn *sink, void *context,
                      GError **error);

/* Compose a damaged image anew: what is good in it as it lies there, the rest from the donors, wherever
 * one has the content of the digest. ERROR_NOT_FOUND says how many clusters none of them has; ERROR_INTEGRITY
 * when the image itself cannot be read any more. Verify what was made. Memory: about 100 bytes for each
 * damaged cluster. */
bool snapshot_repair(const struct repair_job *job, GError **error);
/* Make the digests of an image anew, as file NAME of INTO: they say what the image has, so it must be
 * known that it is good. */
bool snapshot_make_digests(const struct image_layer *layer, struct incoming *into, const char *name,
                           GError **error);

/* What a store needs of all this. */
extern const struct point_ops snapshot_point_ops;
