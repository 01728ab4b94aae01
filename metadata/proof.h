/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the last test failover found out about a point: proof.json in the point's directory, see
 * drctl-store(5). It is no file of the point. It stays as long as the content of the point is what was
 * tested: a merge of points keeps it, healing does not.
 *
 *     {"format": 1, "run", "time": RFC 3339, "verdict", "rto_seconds"}
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/common.h"

#define PROOF_NAME "proof.json"
#define PROOF_FORMAT 1
#define PROOF_MAX_BYTES (64u << 10)

enum proof_verdict {
    PROOF_PASSED,   /* "passed": it was brought up from the point and was seen to be ready */
    PROOF_UNPROVEN, /* "unproven": it ran, but nobody could see whether it works */
    PROOF_FAILED,   /* "failed" */
};
const char *proof_verdict_name(enum proof_verdict verdict);
bool proof_verdict_parse(const char *name, enum proof_verdict *verdict);

struct proof {
    char *run;
    int64_t time_ms;
    enum proof_verdict verdict;
    double rto_seconds; /* from its start until it was ready; 0: it was not */
};
void proof_free(struct proof *proof);
DEFINE_CLEANUP(proof)

/* The content of proof.json; ERROR_INTEGRITY. */
struct proof *proof_parse(const char *text, size_t len, GError **error);
/* Of the point in directory DIR. NULL when there is none; one that cannot be read proves nothing. */
struct proof *proof_load(const char *dir);
/* Is the point in directory DIR proven restorable? */
bool proof_passed(const char *dir);
/* Note it durably. That somebody could not see replaces nothing that was seen. */
bool proof_save(const char *dir, const struct proof *proof, GError **error);
/* Let the directory TO, with the same content, have the proof of FROM, if it has one. */
bool proof_copy(const char *from, const char *to, GError **error);
