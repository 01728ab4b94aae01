/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA256SUMS of a point: the digests of its files at the commit, as sha256sum(1) writes and reads
 * them.
 */
#pragma once

#include "replicator/replicator.h"

#define SUMS_MAX (1u << 20) /* bytes of the file */

/* Name -> digest in hexadecimal; g_hash_table_unref. WHAT is the file, for messages. */
GHashTable *sums_parse(const char *text, const char *what, GError **error);
GHashTable *sums_read(const char *dir, GError **error);
/* The line of NAME. */
void sums_append(GString *sums, const char *name, const uint8_t digest[DIGEST_SIZE]);
