/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The audit log of a site: who did what, from where, and what came of it. STORE/audit/audit.log and the files that it
 * was before, audit-<seq of the last line>.log; a line of JSON for each entry:
 *
 *     {"seq": 1.., "time": RFC 3339, <facts>, "torn": bytes, "prev": SHA-256 of the line before, in hex}
 *
 * The digest is that of the line without its newline, so the lines are a chain: none can be changed, removed or put
 * in between without all that follow being made anew. The first one of all follows 64 zeros. Whoever keeps the digest
 * of one line elsewhere (`drctl audit verify` prints it, `drctl report` signs it) can tell that nothing up to there
 * was changed, whoever can write the file.
 *
 * An entry is durable when audit_append() returns. A line that a crash has cut off stays; the next one has its length
 * as "torn", and its digest as "prev". Files that nothing was added to for AUDIT_KEEP_MS go when the log is rotated; the chain then
 * begins with what is left.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/common.h"

#define AUDIT_LINE_MAX (32u << 10)
#define AUDIT_ROTATE_BYTES (4u << 20)
#define AUDIT_KEEP_MS (INT64_C(400) * 24 * 3600 * 1000)

/* Add FACTS (borrowed); *SEQ (may be NULL) is the number of the entry. Processes wait for each other. On an error nothing was
 * added. */
bool audit_append(const char *store_path, const json_t *facts, uint64_t *seq, GError **error);

/* What a walk along the chain has found. */
struct audit_chain {
    uint64_t entries;
    uint64_t first_seq; /* more than 1: older ones are gone */
    char *first_time, *last_time;
    char last_digest[DIGEST_HEX_SIZE]; /* "" when there is none */
    unsigned torn;                     /* lines that a crash has cut off */
    bool ends_torn;                    /* one of them is the last line */
    bool contains;                     /* the digest that was asked for is that of a line */
    char *problem;                     /* the first place where it is no chain, or NULL */
};
void audit_chain_clear(struct audit_chain *chain);
#define AUTO_AUDIT_CHAIN __attribute__((cleanup(audit_chain_clear))) struct audit_chain

/* Called for each entry, oldest first; the entry is borrowed. */
typedef void audit_each_fn(const json_t *entry, void *data);
/* Walk along all of it; EACH and DIGEST (is there a line of this one?) may be NULL. It goes on behind a problem. False only
 * if the log cannot be read. */
bool audit_walk(const char *store_path, const char *digest, audit_each_fn *each, void *data,
                struct audit_chain *chain, GError **error);
