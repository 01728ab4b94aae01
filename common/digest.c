/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>

#include "common/digest.h"

struct digest {
    EVP_MD_CTX *context;
};

/* Without them nothing that we say about data can be true: like out of memory, it ends us. */
static void require(int ok)
{
    if (!ok)
        g_error("libcrypto refuses SHA-256, GMAC, scrypt or AES-SIV");
}

/* Fetched once: libcrypto would take a lock and search its providers for every cluster. */
static const EVP_MD *sha256(void)
{
    static gsize once;

    if (g_once_init_enter(&once)) {
        EVP_MD *fetched = EVP_MD_fetch(NULL, "SHA256", NULL);

        require(fetched != NULL);
        g_once_init_leave(&once, (gsize)fetched);
    }
    return (const EVP_MD *)once;
}

struct digest *digest_new(void)
{
    struct digest *digest = g_new0(struct digest, 1);

    digest->context = EVP_MD_CTX_new();
    require(digest->context && EVP_DigestInit_ex2(digest->context, sha256(), NULL));
    return digest;
}

void digest_update(struct digest *digest, const void *data, size_t len)
{
    require(EVP_DigestUpdate(digest->context, data, len));
}

void digest_final(struct digest *digest, uint8_t out[DIGEST_SIZE])
{
    require(EVP_DigestFinal_ex(digest->context, out, NULL));
    require(EVP_DigestInit_ex2(digest->context, sha256(), NULL));
}

void digest_free(struct digest *digest)
{
    if (!digest)
        return;
    EVP_MD_CTX_free(digest->context);
    g_free(digest);
}

void digest_buffer(const void *data, size_t len, uint8_t out[DIGEST_SIZE])
{
    require(EVP_Digest(data, len, out, NULL, sha256(), NULL));
}

struct checksum {
    EVP_MAC_CTX *context;
};

/* The key of this process. */
static const uint8_t *checksum_key(void)
{
    static uint8_t key[CHECKSUM_SIZE];
    static gsize once;

    if (g_once_init_enter(&once)) {
        require(RAND_bytes(key, sizeof(key)) == 1);
        g_once_init_leave(&once, 1);
    }
    return key;
}

/* Results are only compared with each other and shown to nobody, so there is no nonce to choose. */
static void checksum_start(struct checksum *checksum)
{
    uint8_t nonce[12] = {0};
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER, (char *)"AES-128-GCM", 0),
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_IV, nonce, sizeof(nonce)),
        OSSL_PARAM_construct_end(),
    };

    require(EVP_MAC_init(checksum->context, checksum_key(), CHECKSUM_SIZE, params));
}

struct checksum *checksum_new(void)
{
    struct checksum *checksum = g_new0(struct checksum, 1);
    EVP_MAC *gmac = EVP_MAC_fetch(NULL, "GMAC", NULL);

    require(gmac != NULL);
    checksum->context = EVP_MAC_CTX_new(gmac);
    EVP_MAC_free(gmac);
    require(checksum->context != NULL);
    checksum_start(checksum);
    return checksum;
}

void checksum_update(struct checksum *checksum, const void *data, size_t len)
{
    require(EVP_MAC_update(checksum->context, data, len));
}

void checksum_final(struct checksum *checksum, uint8_t out[CHECKSUM_SIZE])
{
    size_t len;

    require(EVP_MAC_final(checksum->context, out, &len, CHECKSUM_SIZE) && len == CHECKSUM_SIZE);
    checksum_start(checksum);
}

void checksum_free(struct checksum *checksum)
{
    if (!checksum)
        return;
    EVP_MAC_CTX_free(checksum->context);
    g_free(checksum);
}

/* As much as a login may cost: 0.1 s and 32 MiB. */
#define SCRYPT_N (UINT64_C(1) << 15)
#define SCRYPT_MAX_BYTES (UINT64_C(64) << 20)

void seal_key(const char *passphrase, size_t len, const char *salt, uint8_t key[SEAL_KEY_SIZE])
{
    require(EVP_PBE_scrypt(passphrase, len, (const uint8_t *)salt, strlen(salt), SCRYPT_N, 8, 1,
                           SCRYPT_MAX_BYTES, key, SEAL_KEY_SIZE));
}

static EVP_CIPHER_CTX *seal_context(const uint8_t *key, const char *place, bool open,
                                    const uint8_t *tag)
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, "AES-256-SIV", NULL);
    int done;

    require(context && cipher && EVP_CipherInit_ex2(context, cipher, key, NULL, !open, NULL));
    EVP_CIPHER_free(cipher);
    require(!open ||
            EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, SEAL_EXTRA, (void *)tag) == 1);
    require(EVP_CipherUpdate(context, NULL, &done, (const uint8_t *)place, (int)strlen(place)));
    return context;
}

void seal(const uint8_t key[SEAL_KEY_SIZE], const char *place, const uint8_t *bytes, size_t len,
          uint8_t *out)
{
    EVP_CIPHER_CTX *context = seal_context(key, place, false, NULL);
    int done;

    require(EVP_CipherUpdate(context, out + SEAL_EXTRA, &done, bytes, (int)len) &&
            EVP_CipherFinal_ex(context, out + SEAL_EXTRA + done, &done) &&
            EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, SEAL_EXTRA, out) == 1);
    EVP_CIPHER_CTX_free(context);
}

bool seal_open(const uint8_t key[SEAL_KEY_SIZE], const char *place, const uint8_t *sealed,
               size_t len, uint8_t *out)
{
    EVP_CIPHER_CTX *context;
    int done;
    bool good;

    if (len <= SEAL_EXTRA)
        return false;
    context = seal_context(key, place, true, sealed);
    good = EVP_CipherUpdate(context, out, &done, sealed + SEAL_EXTRA, (int)(len - SEAL_EXTRA)) > 0;
    EVP_CIPHER_CTX_free(context);
    return good;
}

void digest_to_hex(const uint8_t digest[DIGEST_SIZE], char out[DIGEST_HEX_SIZE])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < DIGEST_SIZE; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[DIGEST_HEX_SIZE - 1] = '\0';
}

bool digest_from_hex(const char *hex, uint8_t out[DIGEST_SIZE])
{
    if (strspn(hex, "0123456789abcdef") != DIGEST_HEX_SIZE - 1 || hex[DIGEST_HEX_SIZE - 1])
        return false;
    for (size_t i = 0; i < DIGEST_SIZE; i++)
        out[i] =
            (uint8_t)(g_ascii_xdigit_value(hex[2 * i]) << 4 | g_ascii_xdigit_value(hex[2 * i + 1]));
    return true;
}
