/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of a committed point on their way from one store into a point that arrives at another. The
 * source is not trusted more than a source of new points: what arrives is compared with its
 * SHA256SUMS. Memory does not grow with the files.
 */
#pragma once

#include "replicator/replicator.h"

struct copier;

/* FROM is borrowed. POINT says which point: its VM and its id. */
struct copier *copier_new(struct store *from, const struct manifest *point,
                          struct progress *progress);
void copier_free(struct copier *copier);
DEFINE_CLEANUP(copier)

/* First: read SHA256SUMS, and the manifest as it is there now. ERROR_INTEGRITY if they do not belong
 * together. */
struct manifest *copier_manifest(struct copier *copier, GError **error);
/* What SHA256SUMS there says of NAME, NULL if nothing. */
const char *copier_sum(const struct copier *copier, const char *name);
/* Bring one file into INTO; ERROR_INTEGRITY when it is damaged there. */
bool copier_file(struct copier *copier, struct incoming *into, const struct manifest_file *file,
                 GError **error);
/* Did it fail because INTO did not take it? */
bool copier_was_refused(const struct copier *copier);
/* BYTES in all are going to be copied, for progress. */
void copier_expect(struct copier *copier, uint64_t bytes);
