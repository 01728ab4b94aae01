/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames on a link: the wire protocol of drctl-store(5).
 *
 *     0        4      5        8         12            20
 *     +--------+------+--------+---------+-------------+------------------
 *     | length | type | zero   | request | digest      | payload (length bytes)
 *     +--------+------+--------+---------+-------------+------------------
 *     digest: first 8 bytes of SHA-256 over bytes 0..11 and the payload; integers little-endian
 *
 * Payloads are JSON objects of at most WIRE_CONTROL_MAX bytes, but for DATA: {file u32, zeros u32,
 * offset u64} and bytes for that offset, behind which come as many zeros as it says, which are not
 * sent; at most STORE_WRITE_MAX of both. The tables of an image are mostly zeros. What a frame
 * announces never decides how much memory is taken: a wire has one buffer of the largest frame, for
 * its whole life. A frame that breaks a rule is ERROR_INTEGRITY, and the wire must not be read
 * again, because nobody knows where the next one begins.
 *
 * Order: the client's first frame is HELLO. Requests carry a number that grows, its answer (OK or
 * ERROR) the same number. BEGIN's number is the name of the point that arrives: OPEN, DATA, COMMIT
 * ABORT and REUSE carry it, and so does the ERROR that discards the point, which may come at any time.
 * OPEN, DATA, ABORT, REUSE and PING are not answered. An ERROR with number 0 ends the session.
 *
 *     request             payload                        answered by
 *     HELLO               {drctl, protocol, features[]}  OK {drctl, protocol, features[]}
 *     INFO                {}                             OK {uuid, site, drctl, free_bytes, ...}
 *     POINTS              {vm: uuid | null}              MANIFEST*, OK {count}
 *     BEGIN               {vm, point, site, epoch}       OK {partials}
 *     OPEN                {file, name}                   -
 *     DATA                file, zeros, offset, bytes     -
 *     COMMIT              the manifest                   OK {}
 *     ABORT               {}                             -
 *     BUNDLE-ID           {site}                         OK {bundle: {...} | null}
 *     BUNDLE-GET          {site, time, ...}              DATA*, OK {bytes}
 *     BUNDLE-PUT, DATA*   {bytes}                        OK {}
 *     PING                {}                             -
 *     GET                 {vm, point, name, offset}      DATA*, OK {bytes}
 *     SIMILAR             {before, level, samples}       OK {image: {...} | null}
 *     PRUNE               {vm, keep | null, dry_run}     DECISION*, OK {count, freed_bytes}
 *     PARTIAL             {target}                       DATA*, OK {bytes}
 *     REUSE               {file, offset, bytes, ...}     -
 *     DAMAGED             {vm}                           OK {points}
 *     OWNERS              {}                             OWNER*, OK {count}
 *     PUT-OWNER           the record of an owner         OK {}
 *     PUT-OWNERS          {owners[]}                     OK {refused[]}
 *     COMMAND             {args[]}                       NOTE*, DATA*, OK {bytes, exit, error}
 */
#pragma once

#include "replicator/link.h"

#define WIRE_PROTOCOL 1
/* Words of HELLO: what a side knows beside the first version of the protocol. */
#define WIRE_FEATURE_OWNERS "owners" /* OWNERS, PUT-OWNER */
#define WIRE_FEATURE_PUT_OWNERS "put-owners"
#define WIRE_FEATURE_POOL "pool"       /* format 2 of pool bundles, and list in BUNDLE-ID */
#define WIRE_FEATURE_COMMAND "command" /* in the server's HELLO: COMMAND is permitted */
/* Records of one PUT-OWNERS: they, and why they are refused, fit into a frame. */
#define WIRE_OWNERS_MAX 500u
#define WIRE_HEADER 20
#define WIRE_DATA_HEADER 16
#define WIRE_CONTROL_MAX (1u << 20)
#define WIRE_PAYLOAD_MAX (WIRE_DATA_HEADER + STORE_WRITE_MAX)
/* A frame that has begun must go on; less than what TCP gives up after would hide its reason. */
#define WIRE_STALL_MS 120000

enum wire_type {
    WIRE_HELLO = 1,
    WIRE_INFO,
    WIRE_POINTS,
    WIRE_BEGIN,
    WIRE_OPEN,
    WIRE_DATA,
    WIRE_COMMIT,
    WIRE_ABORT,
    WIRE_BUNDLE_ID,
    WIRE_BUNDLE_GET,
    WIRE_BUNDLE_PUT,
    WIRE_PING,
    WIRE_GET,
    WIRE_SIMILAR,
    WIRE_PRUNE,
    WIRE_PARTIAL,
    WIRE_REUSE,
    WIRE_DAMAGED,
    WIRE_OWNERS,
    WIRE_PUT_OWNER,
    WIRE_COMMAND,
    WIRE_PUT_OWNERS,
    WIRE_OK = 64,
    WIRE_ERROR,
    WIRE_MANIFEST,
    WIRE_DECISION,
    WIRE_OWNER,
    WIRE_NOTE,
};
/* "BUNDLE-GET", or NULL when there is no such type. */
const char *wire_type_name(unsigned type);

struct frame {
    enum wire_type type;
    uint32_t request;
    const uint8_t *payload; /* of the wire, until its next receive */
    size_t len;
};

/* The parts of a DATA payload. */
struct frame_data {
    uint32_t file;
    uint64_t offset;
    const uint8_t *bytes;
    size_t len;
    uint32_t zeros; /* behind the bytes */
};

struct wire;

/* Takes LINK. */
struct wire *wire_new(struct link *link);
void wire_free(struct wire *wire);
DEFINE_CLEANUP(wire)

bool wire_send(struct wire *wire, enum wire_type type, uint32_t request, const void *payload,
               size_t len, GError **error);
/* Takes OBJECT; NULL is {}. ERROR_FAILED when it is larger than a control frame may be. */
bool wire_send_json(struct wire *wire, enum wire_type type, uint32_t request, json_t *object,
                    GError **error);
bool wire_send_data(struct wire *wire, uint32_t request, const struct frame_data *data,
                    GError **error);
/* LEN bytes, at most STORE_WRITE_MAX, for OFFSET of FILE, in as many DATA frames as leave out all of
 * their pages that are zero. */
bool wire_send_bytes(struct wire *wire, uint32_t request, unsigned file, uint64_t offset,
                     const uint8_t *bytes, size_t len, GError **error);
/* {kind, message} of WHAT, as in an ERROR frame. */
json_t *wire_error_json(const GError *what);
/* Turn that into our error; its text is made harmless for a terminal. Always false. */
bool wire_error_fail(const json_t *object, GError **error);
/* An ERROR frame that says WHAT. */
bool wire_send_error(struct wire *wire, uint32_t request, const GError *what, GError **error);
/* All bytes that were written to the link so far. */
uint64_t wire_sent_bytes(const struct wire *wire);

/* The next frame, waiting for its first byte up to TIMEOUT_MS. LINK_END only between two frames; in
 * the middle of one it is LINK_FAILED. */
enum link_state wire_receive(struct wire *wire, int timeout_ms, struct frame *frame,
                             GError **error);
/* While a receive waits, call LOOK every EVERY_MS with how long nothing has come, in a frame or between
 * two; when it returns false, the receive fails. */
typedef bool wire_look_fn(void *context, int64_t silent_ms, GError **error);
void wire_set_look(struct wire *wire, int every_ms, wire_look_fn *look, void *context);
/* See struct link_ops. */
char *wire_last_words(struct wire *wire);

/* Payloads; ERROR_INTEGRITY names the frame. */
json_t *frame_json(const struct frame *frame, GError **error);
bool frame_parse_data(const struct frame *frame, struct frame_data *out, GError **error);
/* Turn an ERROR frame into our error. Always false. */
bool frame_fail(const struct frame *frame, GError **error);
/* The last LINES lines of TEXT as one harmless line; g_free. */
char *text_last_lines(const char *text, unsigned lines);
