/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Verification of points of this site's store, and what is remembered of it: damage.json in the
 * point's directory, as long as it is damaged, and the last verdict in the catalog.
 */
#pragma once

#include "drctl/command.h"

/* Read all of POINT. *DAMAGE says what is wrong with it, NULL when it is whole; both are noted. False
 * only when interrupted. */
bool verify_point(struct context *context, const struct manifest *point, GError **damage,
                  GError **error);
/* Note that a point has damage which keeps it from being read at all. */
void note_unreadable(struct context *context, const struct manifest *point, const GError *why);

/* What is known of a point in the local store without reading it. */
struct verdict {
    int64_t verified_ms; /* 0: not since its commit */
    char *damage;        /* one line, or NULL: none is noted */
    struct proof *proof; /* of the last test that used it, or NULL */
};
void verdict_clear(struct verdict *verdict);
#define AUTO_VERDICT __attribute__((cleanup(verdict_clear))) struct verdict
/* "DAMAGED", or when it was verified last; NULL: not since its commit. g_free. */
char *verdict_text(const struct verdict *verdict);
void verdict_of(struct context *context, const struct manifest *point, struct verdict *verdict);
/* {"run", "time", "verdict", "rto_seconds"}; null for NULL. */
json_t *proof_json(const struct proof *proof);
