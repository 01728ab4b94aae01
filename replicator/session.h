/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session of `drctl serve` from the inside: what serve.c (the session and its rules), serve-store.c
 * (requests about the store), serve-point.c (a point that arrives) and namespace.c (whose it all is) share. A handler gets a frame
 * that is well-formed, allowed and in turn. It fails when the session is over: the protocol is
 * broken, or the link; what the store refuses is answered, and the session goes on.
 */
#pragma once

#include "replicator/quota.h"
#include "replicator/replicator.h"
#include "replicator/wire.h"

/* The sites that a key is bound to; NULL is none, and everything is allowed. */
struct namespace
{
    char **sites;
    char *text;     /* "dc1,dc2" */
    char *own_site; /* of the store */
};
struct namespace *namespace_new(const char *const *sites, const char *own_site);
void namespace_free(struct namespace *namespace);
bool namespace_has_site(const struct namespace *namespace, const char *site);

struct session {
    struct store *local; /* borrowed */
    enum serve_role role;
    struct namespace *namespace;
    const char *const *commander; /* see struct serve_rules */
    struct quota *quota;          /* NULL: none */
    struct wire *wire;
    struct serve_tally tally;
    int idle_ms;
    int give_way_ms; /* so long may we hear nothing while another wants our place */
    bool greeted;
    bool understood; /* the client speaks our protocol */
    uint32_t last_request;
    /* The point that arrives. It is named by the number of its BEGIN also after the store has
     * refused something of it (INCOMING is NULL then), because the client may not know that yet. */
    uint32_t point_request; /* 0: none */
    struct incoming *incoming;
    char *point_vm; /* UUID of its VM */
    unsigned n_files;
    /* The bundle that arrives. */
    uint32_t bundle_request; /* 0: none */
    uint64_t bundle_bytes;
    GByteArray *bundle;
};

/* --- Answers -------------------------------------------------------------------------------- */

/* REQUEST is done. Takes OBJECT; NULL is {}. */
bool session_ok(struct session *self, uint32_t request, json_t *object, GError **error);
/* The store refused: tell it and go on. Takes WHY. */
bool session_refuse(struct session *self, uint32_t request, GError *why, GError **error);
/* Always false: FRAME breaks the protocol. */
bool session_out_of_order(const struct frame *frame, const char *why, GError **error);

/* Bytes that are sent as the answer to a request. */
struct sending {
    struct session *session;
    uint32_t request;
    uint64_t offset, at;
    bool broken; /* it was the link that failed, not the store */
};
/* A store_sink_fn; CONTEXT is a struct sending. */
bool sending_piece(void *context, const void *data, size_t len, GError **error);
/* All were sent: say how many. */
bool sending_done(struct sending *self, GError **error);
/* Refuses, unless it is the link that failed. Takes WHY. */
bool sending_failed(struct sending *self, GError *why, GError **error);

/* --- What a key may do ---------------------------------------------------------------------- */

/* May it read images and definitions? */
bool session_reads(const struct session *self);
/* ERROR_AUTH unless the key is for SITE, of which WHAT is. */
bool session_check_site(const struct session *self, const char *what, const char *site,
                        GError **error);
/* ERROR_AUTH if the VM is of other sites than those of the key. */
bool session_check_vm(const struct session *self, const char *vm_uuid, GError **error);
/* The same for all that a point, a record of an owner and a pool bundle say. */
bool session_check_manifest(const struct session *self, const struct manifest *manifest,
                            GError **error);
bool session_check_owner(const struct session *self, const struct owner *owner, GError **error);
bool session_check_bundle(const struct session *self, const void *data, size_t len, GError **error);
/* Take those of other sites out of POINTS, which are all points of their VMs. */
void session_hide_points(const struct session *self, GPtrArray *points);
bool session_shows_owner(const struct session *self, const struct owner *owner);

/* --- Requests about the store --------------------------------------------------------------- */

bool handle_info(struct session *self, const struct frame *frame, GError **error);
bool handle_points(struct session *self, const struct frame *frame, GError **error);
bool handle_get(struct session *self, const struct frame *frame, GError **error);
bool handle_damaged(struct session *self, const struct frame *frame, GError **error);
bool handle_owners(struct session *self, const struct frame *frame, GError **error);
bool handle_put_owner(struct session *self, const struct frame *frame, GError **error);
bool handle_put_owners(struct session *self, const struct frame *frame, GError **error);
bool handle_similar(struct session *self, const struct frame *frame, GError **error);
bool handle_prune(struct session *self, const struct frame *frame, GError **error);
bool handle_bundle_id(struct session *self, const struct frame *frame, GError **error);
bool handle_bundle_get(struct session *self, const struct frame *frame, GError **error);
bool handle_bundle_put(struct session *self, const struct frame *frame, GError **error);
/* DATA of the bundle that arrives; with its last byte it is stored, and answered. */
bool session_take_bundle(struct session *self, const struct frame *frame,
                         const struct frame_data *data, GError **error);

/* --- Commands ------------------------------------------------------------------------------- */

bool handle_command(struct session *self, const struct frame *frame, GError **error);

/* --- A point that arrives ------------------------------------------------------------------- */

bool handle_begin(struct session *self, const struct frame *frame, GError **error);
bool handle_open(struct session *self, const struct frame *frame, GError **error);
bool handle_data(struct session *self, const struct frame *frame, GError **error);
bool handle_partial(struct session *self, const struct frame *frame, GError **error);
bool handle_reuse(struct session *self, const struct frame *frame, GError **error);
bool handle_commit(struct session *self, const struct frame *frame, GError **error);
bool handle_abort(struct session *self, const struct frame *frame, GError **error);
/* There is none any more; what has arrived of it is left to the store. */
void session_forget_point(struct session *self);
