/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values of libvirt's secrets in a pool bundle: base64 of what is sealed (digest.h) by the passphrase in the file that
 * `secret-values` names. Whoever holds the bundle without it learns nothing but how long they are.
 */
#pragma once

#include "common/common.h"

/* A shorter one could be guessed. */
#define PASSPHRASE_MIN 16

/* Of the passphrase in PATH, for bundles of SITE. ERROR_CONFIG if it is short, or others may read the file. */
bool secret_key_load(const char *path, const char *site, uint8_t key[SEAL_KEY_SIZE],
                     GError **error);
/* g_free. */
char *secret_value_seal(const uint8_t key[SEAL_KEY_SIZE], const char *uuid, const uint8_t *value,
                        size_t len);
/* *VALUE: g_free. ERROR_AUTH: it was sealed by another passphrase. */
bool secret_value_open(const uint8_t key[SEAL_KEY_SIZE], const char *uuid, const char *sealed,
                       uint8_t **value, size_t *len, GError **error);
