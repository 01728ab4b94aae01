/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What libcrypto does for us. SHA-256 is the one digest of drctl (FIPS 180-4). An attacker inside a guest may choose
 * what a cluster holds, so nothing weaker may decide that two clusters are the same.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"

#define DIGEST_SIZE 32
#define DIGEST_HEX_SIZE (2 * DIGEST_SIZE + 1)

struct digest; /* a running digest */

struct digest *digest_new(void);
void digest_update(struct digest *digest, const void *data, size_t len);
/* Write the result and start again from nothing. */
void digest_final(struct digest *digest, uint8_t out[DIGEST_SIZE]);
void digest_free(struct digest *digest);
DEFINE_CLEANUP(digest)

/*
 * Several times as fast as SHA-256, for one process that compares what it wrote with what it reads
 * again: GMAC (NIST SP 800-38D) with a key that is made anew in each process and never leaves it, so
 * nobody can choose bytes that it confuses. Good for nothing that is stored or sent.
 */
#define CHECKSUM_SIZE 16

struct checksum; /* a running checksum */

struct checksum *checksum_new(void);
void checksum_update(struct checksum *checksum, const void *data, size_t len);
/* Write the result and start again from nothing. */
void checksum_final(struct checksum *checksum, uint8_t out[CHECKSUM_SIZE]);
void checksum_free(struct checksum *checksum);
DEFINE_CLEANUP(checksum)

/*
 * What only who has the passphrase can read again: AES-256-SIV (RFC 5297) with a key that scrypt (RFC 7914) makes of it.
 * The same bytes at the same place are the same when they are sealed, so who compares sees whether they have changed,
 * and nothing else. PLACE, such as a UUID, is bound to them.
 */
#define SEAL_KEY_SIZE 64
#define SEAL_EXTRA 16

void seal_key(const char *passphrase, size_t len, const char *salt, uint8_t key[SEAL_KEY_SIZE]);
/* OUT has LEN + SEAL_EXTRA bytes; LEN > 0. */
void seal(const uint8_t key[SEAL_KEY_SIZE], const char *place, const uint8_t *bytes, size_t len,
          uint8_t *out);
/* OUT has LEN - SEAL_EXTRA bytes. False if key or place are others, or a byte is. */
bool seal_open(const uint8_t key[SEAL_KEY_SIZE], const char *place, const uint8_t *sealed,
               size_t len, uint8_t *out);

/* Digest of one buffer. */
void digest_buffer(const void *data, size_t len, uint8_t out[DIGEST_SIZE]);

void digest_to_hex(const uint8_t digest[DIGEST_SIZE], char out[DIGEST_HEX_SIZE]);
/* False if HEX is not exactly 64 lower-case hex digits. */
bool digest_from_hex(const char *hex, uint8_t out[DIGEST_SIZE]);
