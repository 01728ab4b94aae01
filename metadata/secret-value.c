/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata/secret-value.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX_BYTES 4096

bool secret_key_load(const char *path, const char *site, uint8_t key[SEAL_KEY_SIZE], GError **error)
{
    g_autofree char *text = NULL;
    struct stat st;

    if (stat(path, &st) < 0)
        return fail(error, ERROR_CONFIG, "secret-values: %s: %s", path, g_strerror(errno));
    if (st.st_mode & 077)
        return fail(error, ERROR_CONFIG, "secret-values: %s is open to others: chmod 600 %s", path,
                    path);
    if (!file_read(path, FILE_MAX_BYTES, &text, NULL, error))
        return false;
    g_strstrip(text);
    if (strlen(text) < PASSPHRASE_MIN)
        return fail(error, ERROR_CONFIG,
                    "secret-values: the passphrase in %s has less than %u characters: openssl rand "
                    "-base64 32 makes one",
                    path, PASSPHRASE_MIN);
    seal_key(text, strlen(text), site, key);
    return true;
}

char *secret_value_seal(const uint8_t key[SEAL_KEY_SIZE], const char *uuid, const uint8_t *value,
                        size_t len)
{
    g_autofree uint8_t *sealed = g_malloc(len + SEAL_EXTRA);

    seal(key, uuid, value, len, sealed);
    return g_base64_encode(sealed, len + SEAL_EXTRA);
}

bool secret_value_open(const uint8_t key[SEAL_KEY_SIZE], const char *uuid, const char *sealed,
                       uint8_t **value, size_t *len, GError **error)
{
    size_t n;
    g_autofree uint8_t *bytes = g_base64_decode(sealed, &n);
    g_autofree uint8_t *out = g_malloc(n + 1);

    if (!seal_open(key, uuid, bytes, n, out))
        return fail(error, ERROR_AUTH,
                    "the value of secret %s was sealed with another passphrase: name its file by "
                    "--secret-values",
                    uuid);
    *value = g_steal_pointer(&out);
    *len = n - SEAL_EXTRA;
    return true;
}
