/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include "common/common.h"

/* FIPS 180-4 example values. */
#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define NOTHING "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void assert_digest(const uint8_t digest[DIGEST_SIZE], const char *expected)
{
    char hex[DIGEST_HEX_SIZE];

    digest_to_hex(digest, hex);
    ck_assert_str_eq(hex, expected);
}

START_TEST(knows_the_published_values)
{
    uint8_t out[DIGEST_SIZE];

    digest_buffer("abc", 3, out);
    assert_digest(out, ABC);
    digest_buffer("", 0, out);
    assert_digest(out, NOTHING);
}
END_TEST

START_TEST(what_is_sealed_opens_with_its_key_and_place_only)
{
    uint8_t key[SEAL_KEY_SIZE], other[SEAL_KEY_SIZE];
    uint8_t sealed[5 + SEAL_EXTRA], again[5 + SEAL_EXTRA], open[5 + SEAL_EXTRA];

    seal_key("correct horse battery", 21, "dc1", key);
    seal_key("correct horse battery", 21, "dc2", other);
    ck_assert_mem_ne(key, other, sizeof(key));
    seal(key, "here", (const uint8_t *)"value", 5, sealed);
    seal(key, "here", (const uint8_t *)"value", 5, again);
    ck_assert_mem_eq(sealed, again, sizeof(sealed));
    ck_assert(seal_open(key, "here", sealed, sizeof(sealed), open));
    ck_assert_mem_eq(open, "value", 5);
    ck_assert(!seal_open(other, "here", sealed, sizeof(sealed), open));
    ck_assert(!seal_open(key, "there", sealed, sizeof(sealed), open));
    ck_assert(!seal_open(key, "here", sealed, SEAL_EXTRA, open));
    ck_assert(!seal_open(key, "here", sealed, sizeof(sealed) - 1, open));
    for (unsigned i = 0; i < sizeof(sealed); i++) {
        sealed[i] ^= 1;
        ck_assert(!seal_open(key, "here", sealed, sizeof(sealed), open));
        sealed[i] ^= 1;
    }
}
END_TEST

START_TEST(starts_again_after_each_result)
{
    AUTO(digest) digest = digest_new();
    uint8_t out[DIGEST_SIZE];

    for (int i = 0; i < 2; i++) {
        digest_update(digest, "a", 1);
        digest_update(digest, "bc", 2);
        digest_final(digest, out);
        assert_digest(out, ABC);
    }
    digest_final(digest, out);
    assert_digest(out, NOTHING);
}
END_TEST

/* However it is cut into pieces; another after one changed bit. */
START_TEST(a_checksum_tells_what_was_read_again_from_something_else)
{
    AUTO(checksum) checksum = checksum_new();
    size_t len = (1 << 20) + 5;
    g_autofree uint8_t *data = g_malloc0(len);
    uint8_t first[CHECKSUM_SIZE], again[CHECKSUM_SIZE];

    checksum_update(checksum, data, len);
    checksum_final(checksum, first);
    checksum_update(checksum, data, 7);
    checksum_update(checksum, data + 7, len - 7);
    checksum_final(checksum, again);
    ck_assert_mem_eq(first, again, CHECKSUM_SIZE);
    data[len - 1] ^= 1;
    checksum_update(checksum, data, len);
    checksum_final(checksum, again);
    ck_assert_mem_ne(first, again, CHECKSUM_SIZE);
}
END_TEST

START_TEST(reads_only_exact_lower_case_hex)
{
    uint8_t out[DIGEST_SIZE];
    g_autofree char *upper = g_ascii_strup(ABC, -1);

    ck_assert(digest_from_hex(ABC, out));
    assert_digest(out, ABC);
    ck_assert(!digest_from_hex(upper, out));
    ck_assert(!digest_from_hex(ABC "0", out));
    ck_assert(!digest_from_hex(&ABC[1], out));
    ck_assert(!digest_from_hex("", out));
    ck_assert(!digest_from_hex(ABC " ", out));
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "digest", knows_the_published_values, what_is_sealed_opens_with_its_key_and_place_only,
        starts_again_after_each_result, a_checksum_tells_what_was_read_again_from_something_else,
        reads_only_exact_lower_case_hex);
}
