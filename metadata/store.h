/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a store of recovery points can do, wherever it is: the one interface between those who make
 * points (snapshot/), those who keep them (replicator/: a directory here, or the same code behind
 * `drctl serve` at another site) and those who bring them back (restore/). Wrappers below check
 * arguments (ERROR_INTEGRITY: they may come from another site) and put the store's label before every
 * error; implementations embed struct store and struct incoming as their first member, and their free
 * releases all of it, the label too.
 *
 * A store and its incomings are used by one thread at a time.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "metadata/manifest.h"
#include "metadata/owner.h"
#include "metadata/sketch.h"
#include "metadata/retention.h"

#define STORE_FORMAT 1
#define STORE_WRITE_MAX (1u << 20)           /* bytes of one incoming_write() */
#define COMMAND_OUTPUT_MAX ((size_t)4 << 20) /* bytes that a command at another site may print */
#define COMMAND_ARGS_MAX 80
#define COMMAND_ARG_MAX 255 /* bytes of each */

struct store_info {
    char uuid[37];
    char *site;
    char *version; /* of drctl there */
    uint64_t free_bytes;
    uint64_t total_bytes;
    int64_t clock_ms; /* its wall clock when it answered */
};
void store_info_clear(struct store_info *info);

/* A pool bundle as it lies in pool/<site>/<time>.tar.zst, see bundle.h. */
struct bundle_id {
    char *site;
    char *time; /* point_id_format() */
    uint64_t generation;
    char digest[DIGEST_HEX_SIZE]; /* of its content, to see whether anything changed */
};
void bundle_id_free(struct bundle_id *id);
DEFINE_CLEANUP(bundle_id)

/* The image in a store that a disk is most like: how many of the clusters of the disk's sketch that
 * were compared it has. */
struct similar_image {
    char *vm_uuid;
    char *vm; /* its name */
    char *point;
    char *target;
    struct sketch_overlap overlap;
};
void similar_image_free(struct similar_image *image);
DEFINE_CLEANUP(similar_image)

/* Takes LEN bytes that come after those of the call before. It must not use the store that it is
 * called by. */
typedef bool store_sink_fn(void *context, const void *data, size_t len, GError **error);

/* Drop points of one VM that no policy keeps. */
struct prune_request {
    const char *vm_uuid;
    struct retention keep; /* empty: only the policy of the store's own site */
    bool dry_run;          /* decide only */
    struct progress *progress;
};

struct prune_decision {
    char *vm; /* name */
    char *uuid;
    char *point;
    bool keep;
    char *rule; /* why, see retention.h; or what forbids to drop it */
    uint64_t bytes;
};

/* {vm, uuid, point, keep, rule, bytes}: for people, scripts and the wire. */
json_t *prune_decision_json(const struct prune_decision *decision);

struct prune_result {
    GPtrArray *decisions; /* of struct prune_decision, newest first */
    uint64_t freed_bytes; /* of a dry run: at most */
};
void prune_result_clear(struct prune_result *result);
/* One more, without values. */
struct prune_decision *prune_result_add(struct prune_result *result);

struct store {
    const struct store_ops *ops;
    char *label;               /* for messages: "dr1", "local store" */
    int64_t retry_ms;          /* see store_be_patient() */
    struct progress *progress; /* borrowed, or NULL */
    unsigned arriving;         /* incomings that have not been freed */
    bool plain_pool;           /* it knows only format 1 of pool bundles */
};

/* A point that is arriving. Freed without commit it will not be a point; what arrived is kept for the
 * next one of this VM, if it is worth it. It is freed before its store. */
struct incoming {
    const struct incoming_ops *ops;
    const char *label;   /* of its store, borrowed; set by store_begin() */
    struct store *store; /* likewise */
};

struct store_ops {
    bool (*info)(struct store *store, struct store_info *out, GError **error);
    GPtrArray *(*points)(struct store *store, const char *vm, GError **error);
    bool (*get)(struct store *store, const char *vm_uuid, const char *point, const char *name,
                uint64_t offset, store_sink_fn *sink, void *context, GError **error);
    char **(*damaged)(struct store *store, const char *vm_uuid, GError **error);
    bool (*similar)(struct store *store, const struct sketch *sketch, const char *before,
                    struct similar_image **image, GError **error);
    struct incoming *(*begin)(struct store *store, const char *vm_uuid, const char *point,
                              const struct taker *taker, GError **error);
    bool (*prune)(struct store *store, const struct prune_request *request,
                  struct prune_result *result, GError **error);
    /* Highest generation of SITE; *ID NULL when there is none. */
    bool (*newest_bundle)(struct store *store, const char *site, struct bundle_id **id,
                          GError **error);
    /* All of SITE, newest first, of struct bundle_id; NULL: only the newest can be asked for. */
    GPtrArray *(*bundles)(struct store *store, const char *site, GError **error);
    bool (*get_bundle)(struct store *store, const struct bundle_id *id, char **data, size_t *len,
                       GError **error);
    bool (*put_bundle)(struct store *store, const char *data, size_t len, GError **error);
    GPtrArray *(*owners)(struct store *store, GError **error);
    bool (*put_owners)(struct store *store, const GPtrArray *owners, GPtrArray *refused,
                       GError **error);
    /* NULL: there is no site behind it. */
    bool (*command)(struct store *store, const char *const *args, struct progress *progress,
                    json_t **result, GError **error);
    /* NULL: it is never lost. */
    bool (*reconnect)(struct store *store, GError **error);
    void (*free)(struct store *store);
};

/* A place in what arrived of an earlier point whose transfer was interrupted: in one of its files. */
struct partial_place {
    unsigned partial;
    uint64_t offset;
};

struct incoming_ops {
    /* Start the next file; *FILE is its handle. NAME is safe. */
    bool (*open)(struct incoming *incoming, const char *name, unsigned *file, GError **error);
    /* May be queued: an error can surface at any later call, at commit at the latest. */
    bool (*write)(struct incoming *incoming, unsigned file, uint64_t offset, const void *data,
                  size_t len, GError **error);
    bool (*partial)(struct incoming *incoming, const char *target, store_sink_fn *sink,
                    void *context, GError **error);
    bool (*reuse)(struct incoming *incoming, unsigned file, uint64_t offset, size_t len,
                  const struct partial_place *from, GError **error);
    bool (*commit)(struct incoming *incoming, const struct manifest *manifest, GError **error);
    /* Bytes that left this host for it so far; 0 for a local store. */
    uint64_t (*sent_bytes)(const struct incoming *incoming);
    void (*free)(struct incoming *incoming);
};

bool store_info(struct store *store, struct store_info *out, GError **error);
/* Committed points, newest first; of struct manifest. VM: of the VM of this UUID, or of all VMs that
 * were ever called so, their points with other names too; NULL: of all VMs. */
GPtrArray *store_points(struct store *store, const char *vm, GError **error);
/* Read file NAME of a committed point from OFFSET to its end, into SINK, in pieces of at most
 * STORE_WRITE_MAX. ERROR_NOT_FOUND when there is no such point or file. What arrives is not checked
 * against its digest. */
bool store_get(struct store *store, const char *vm_uuid, const char *point, const char *name,
               uint64_t offset, store_sink_fn *sink, void *context, GError **error);
/* Ids of the points of a VM in which damage is noted: their file DAMAGE_NAME says what (damage.h).
 * NULL-terminated, g_strfreev. */
char **store_damaged(struct store *store, const char *vm_uuid, GError **error);
/* What a disk of which there is no point yet is most like, among the images of the newest points of
 * all VMs; *IMAGE is NULL if it is like none of them. Its point is older than BEFORE, the id of the
 * point that is to be based on it. */
bool store_similar(struct store *store, const struct sketch *sketch, const char *before,
                   struct similar_image **image, GError **error);
/* A point goes if neither the policy of the request nor that of the site of the store keeps it, and
 * nothing else forbids it: the two newest points stay, the newest that was verified, the newest that is
 * proven, what is in use, and what several points are based on. The content of a dropped point goes into the one
 * that is based on it. Crash-safe: a kill leaves every point as it was, or without those that were to
 * go. On an error some may be gone already. */
bool store_prune(struct store *store, const struct prune_request *request,
                 struct prune_result *result, GError **error);
/* Take the place for a new point of a VM; holds the VM's lock in that store until freed. TAKER is the
 * site that takes it of the VM now: ERROR_AUTH, here or at the commit, if another one owns the VM. */
struct incoming *store_begin_by(struct store *store, const char *vm_uuid, const char *point,
                                const struct taker *taker, GError **error);
/* The same for what nobody takes now: copies of points, whoever owns their VM. */
struct incoming *store_begin(struct store *store, const char *vm_uuid, const char *point,
                             GError **error);
bool store_newest_bundle(struct store *store, const char *site, struct bundle_id **id,
                         GError **error);
/* All that are there, newest first; of a store behind an old drctl only the newest. Of struct bundle_id. */
GPtrArray *store_bundles(struct store *store, const char *site, GError **error);
bool store_get_bundle(struct store *store, const struct bundle_id *id, char **data, size_t *len,
                      GError **error);
bool store_put_bundle(struct store *store, const char *data, size_t len, GError **error);
/* Which site owns which VM, as far as is known there; of struct owner. */
GPtrArray *store_owners(struct store *store, GError **error);
/* Let it know; see owners_claim(). For another site it is one message. */
bool store_put_owners(struct store *store, const GPtrArray *owners, GPtrArray *refused,
                      GError **error);
/* A refusal of the only one is an error. */
bool store_put_owner(struct store *store, const struct owner *owner, GError **error);
/* Run drctl ARGS (NULL-terminated, without --json) at the site of the store, to its end; only what
 * drctl-store(5), COMMAND, permits, and for a key that may: ERROR_AUTH. What it says on the way goes
 * to PROGRESS. *RESULT (json_decref) is an array of the JSON documents that it printed. A command
 * that fails is our error, of its kind; *RESULT is set then too, unless nothing was printed: set it to NULL before. After
 * ERROR_NETWORK nobody knows whether it was done; it has been ended there. */
bool store_command(struct store *store, const char *const *args, struct progress *progress,
                   json_t **result, GError **error);
/* After ERROR_NETWORK, and when all incomings are freed: connect anew, to the same store. */
bool store_reconnect(struct store *store, GError **error);
/* From now on a link that is lost is had again, for up to RETRY_MS since something last came through:
 * what is only read is asked for again by the functions above, as long as no point is arriving; for the
 * rest there is reconnect.h. PROGRESS (borrowed, or NULL) is told. */
void store_be_patient(struct store *store, int64_t retry_ms, struct progress *progress);
void store_free(struct store *store);
DEFINE_CLEANUP(store)

bool incoming_open(struct incoming *incoming, const char *name, unsigned *file, GError **error);
/* Any LEN; passed on in pieces of STORE_WRITE_MAX. */
bool incoming_write(struct incoming *incoming, unsigned file, uint64_t offset, const void *data,
                    size_t len, GError **error);
/* What is there of disk TARGET from earlier transfers of this VM that were interrupted, into SINK, in the
 * form of drctl-store(5), PARTIAL; nothing if there is none. */
bool incoming_partial(struct incoming *incoming, const char *target, store_sink_fn *sink,
                      void *context, GError **error);
/* LEN bytes at OFFSET, at most STORE_WRITE_MAX, are those that are at FROM, in the file of the same
 * name: as incoming_write(), and nothing is sent. */
bool incoming_reuse(struct incoming *incoming, unsigned file, uint64_t offset, size_t len,
                    const struct partial_place *from, GError **error);
/* open + write of a whole small file, and its entry in MANIFEST. */
bool incoming_put(struct incoming *incoming, struct manifest *manifest, const char *name,
                  const void *data, size_t len, GError **error);
/* Returns true only when the point is durable and visible there. On false it is not visible, except
 * after ERROR_NETWORK: then nobody knows, and the next store_points() tells. */
bool incoming_commit(struct incoming *incoming, const struct manifest *manifest, GError **error);
uint64_t incoming_sent_bytes(const struct incoming *incoming);
void incoming_free(struct incoming *incoming);
DEFINE_CLEANUP(incoming)
