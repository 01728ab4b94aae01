/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/cluster.h"
#include "tests/unit.h"

/* One frame by hand (RFC 8878): content size 65536 told, one RLE block of that length, last. */
static const uint8_t good_frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00,
                                     0xff, 0x03, 0x00, 0x08, 'x'};
/* The same without the content size: a window of 64 KiB instead. */
static const uint8_t unsized_frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x30, 0x03, 0x00, 0x08, 'x'};

static uint8_t plain[CLUSTER_BYTES], packed[CLUSTER_PACKED_MAX], again[CLUSTER_BYTES];

static void fill_random(uint8_t *data, size_t len)
{
    GRand *random = g_rand_new_with_seed(7);

    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)g_rand_int(random);
    g_rand_free(random);
}

static enum cluster_kind pack(size_t *len)
{
    AUTO(packer) packer = packer_new(3);
    uint8_t digest[DIGEST_SIZE], expected[DIGEST_SIZE];
    enum cluster_kind kind =
        cluster_digest(plain, digest) ? CLUSTER_ZERO : cluster_pack(packer, plain, packed, len);

    digest_buffer(plain, sizeof plain, expected);
    ck_assert_mem_eq(digest, expected, DIGEST_SIZE);
    return kind;
}

START_TEST(a_zero_cluster_is_zero_and_has_the_digest_of_zeros)
{
    size_t len;

    memset(plain, 0, sizeof plain);
    ck_assert_int_eq(pack(&len), CLUSTER_ZERO);
}
END_TEST

START_TEST(one_bit_anywhere_makes_a_cluster_not_zero)
{
    memset(plain, 0, sizeof plain);
    for (size_t i = 0; i < sizeof plain; i++) {
        plain[i] = 1;
        ck_assert(!bytes_are_zero(plain, sizeof plain));
        plain[i] = 0;
    }
    ck_assert(bytes_are_zero(plain, sizeof plain));
    ck_assert(bytes_are_zero(plain, 0));
    for (size_t len = 1; len < 40; len++) {
        plain[len] = 1;
        ck_assert(bytes_are_zero(plain, len));
        ck_assert(!bytes_are_zero(plain, len + 1));
        plain[len] = 0;
    }
}
END_TEST

START_TEST(a_cluster_that_shrinks_is_packed_and_comes_back)
{
    AUTO(unpacker) unpacker = unpacker_new();
    size_t len;

    memset(plain, 0, sizeof plain);
    fill_random(plain, sizeof plain / 2);
    ck_assert_int_eq(pack(&len), CLUSTER_PACKED);
    ck_assert_uint_gt(len, sizeof plain / 2);
    ck_assert(cluster_unpack(unpacker, packed, len, again));
    ck_assert_mem_eq(plain, again, sizeof plain);
}
END_TEST

START_TEST(a_cluster_that_does_not_shrink_is_plain)
{
    size_t len;

    fill_random(plain, sizeof plain);
    ck_assert_int_eq(pack(&len), CLUSTER_PLAIN);
    /* 1 KiB less is not worth unpacking. */
    memset(plain, 0, 1024);
    ck_assert_int_eq(pack(&len), CLUSTER_PLAIN);
}
END_TEST

START_TEST(all_levels_make_frames_that_come_back)
{
    AUTO(unpacker) unpacker = unpacker_new();

    memset(plain, 0, sizeof plain);
    fill_random(plain, sizeof plain / 3);
    for (int level = -3; level <= 30; level++) {
        AUTO(packer) packer = packer_new(level);
        size_t len;

        ck_assert_int_eq(cluster_pack(packer, plain, packed, &len), CLUSTER_PACKED);
        ck_assert(cluster_unpack(unpacker, packed, len, again));
        ck_assert_mem_eq(plain, again, sizeof plain);
    }
}
END_TEST

START_TEST(what_follows_the_frame_is_ignored)
{
    AUTO(unpacker) unpacker = unpacker_new();
    uint8_t data[sizeof good_frame + 500];

    fill_random(data, sizeof data);
    memcpy(data, good_frame, sizeof good_frame);
    ck_assert(cluster_unpack(unpacker, data, sizeof data, again));
    memset(plain, 'x', sizeof plain);
    ck_assert_mem_eq(plain, again, sizeof plain);
}
END_TEST

START_TEST(refuses_a_frame_that_is_cut_off)
{
    AUTO(unpacker) unpacker = unpacker_new();

    for (size_t len = 0; len < sizeof good_frame; len++)
        ck_assert(!cluster_unpack(unpacker, good_frame, len, again));
    ck_assert(cluster_unpack(unpacker, good_frame, sizeof good_frame, again));
}
END_TEST

START_TEST(refuses_a_frame_without_its_content_size)
{
    AUTO(unpacker) unpacker = unpacker_new();

    ck_assert(!cluster_unpack(unpacker, unsized_frame, sizeof unsized_frame, again));
}
END_TEST

START_TEST(refuses_a_frame_of_another_size)
{
    AUTO(unpacker) unpacker = unpacker_new();
    uint8_t frame[sizeof good_frame];

    memcpy(frame, good_frame, sizeof frame);
    frame[9] = 0x07; /* the block is shorter than told */
    ck_assert(!cluster_unpack(unpacker, frame, sizeof frame, again));
    frame[9] = 0x09; /* longer */
    ck_assert(!cluster_unpack(unpacker, frame, sizeof frame, again));
    frame[9] = 0x08;
    frame[5] = 0x01; /* one byte more is told */
    ck_assert(!cluster_unpack(unpacker, frame, sizeof frame, again));
}
END_TEST

int main(void)
{
    return UNIT_RUN("cluster", a_zero_cluster_is_zero_and_has_the_digest_of_zeros,
                    one_bit_anywhere_makes_a_cluster_not_zero,
                    a_cluster_that_shrinks_is_packed_and_comes_back,
                    a_cluster_that_does_not_shrink_is_plain, all_levels_make_frames_that_come_back,
                    what_follows_the_frame_is_ignored, refuses_a_frame_that_is_cut_off,
                    refuses_a_frame_without_its_content_size, refuses_a_frame_of_another_size);
}
