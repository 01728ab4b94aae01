/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>

#include "common/digest.h"
#include "common/error.h"

#define FILE_BUFFER ((size_t)1 << 20)

struct digest {
    EVP_MD_CTX *context;
};

/* Without SHA-256 nothing that we say about data can be true: like out of memory, it ends us. */
static void require(int ok)
{
    if (!ok)
        g_error("libcrypto refuses SHA-256");
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

static bool digest_fd(struct digest *digest, int fd, const char *path, GError **error)
{
    g_autofree char *buffer = g_malloc(FILE_BUFFER);

    for (;;) {
        ssize_t got;

        if (!interrupt_check(error))
            return false;
        got = read(fd, buffer, FILE_BUFFER);
        if (got == 0)
            return true;
        if (got > 0)
            digest_update(digest, buffer, (size_t)got);
        else if (errno != EINTR)
            return fail_errno(error, errno, "cannot read %s", path);
    }
}

bool digest_file(const char *path, uint8_t out[DIGEST_SIZE], GError **error)
{
    AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
    AUTO(digest) digest = digest_new();

    if (fd < 0)
        return fail_errno(error, errno, "cannot open %s", path);
    /* Who verifies wants to know what the disk holds, not what the page cache remembers. */
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    if (!digest_fd(digest, fd, path, error))
        return false;
    digest_final(digest, out);
    return true;
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
