/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

#include "replicator/wire.h"

#define SHORT_MS 50

/* Two ends of one connection; each is a wire and the descriptor under it. */
struct pair {
    struct wire *a, *b;
    int a_fd, b_fd;
};

static struct pair pair_new(void)
{
    struct pair pair;
    int fds[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    pair.a_fd = fds[0];
    pair.b_fd = fds[1];
    pair.a = wire_new(link_fd_new(fds[0], fds[0]));
    pair.b = wire_new(link_fd_new(fds[1], fds[1]));
    return pair;
}

static void pair_hang_up_a(struct pair *pair)
{
    g_clear_pointer(&pair->a, wire_free);
    close(pair->a_fd);
    pair->a_fd = -1;
}

static void pair_free(struct pair *pair)
{
    wire_free(pair->a);
    wire_free(pair->b);
    if (pair->a_fd >= 0)
        close(pair->a_fd);
    close(pair->b_fd);
}

/* What WIRE_HEADER + 2 bytes look like on the link. */
#define SMALL_FRAME (WIRE_HEADER + 2)

static void small_frame(uint8_t out[SMALL_FRAME])
{
    struct pair pair = pair_new();
    g_autoptr(GError) error = NULL;

    unit_ok(wire_send(pair.a, WIRE_INFO, 7, "{}", 2, &error), error);
    ck_assert_int_eq(recv(pair.b_fd, out, SMALL_FRAME, MSG_WAITALL), SMALL_FRAME);
    pair_free(&pair);
}

/* What B makes of these bytes and the end of the stream. */
static enum link_state receive_bytes(const void *bytes, size_t len, GError **error)
{
    struct pair pair = pair_new();
    struct frame frame;
    enum link_state state;

    ck_assert_int_eq(send(pair.a_fd, bytes, len, 0), len);
    pair_hang_up_a(&pair);
    state = wire_receive(pair.b, SHORT_MS, &frame, error);
    pair_free(&pair);
    return state;
}

#define refuses(bytes, len, kind, part)                                                            \
    do {                                                                                           \
        GError *refused_error = NULL;                                                              \
        unit_fails(receive_bytes(bytes, len, &refused_error) != LINK_FAILED, refused_error, kind,  \
                   part);                                                                          \
    } while (0)

static void put_le32(uint8_t *at, uint32_t value)
{
    value = GUINT32_TO_LE(value);
    memcpy(at, &value, 4);
}

START_TEST(a_frame_arrives_as_it_was_sent)
{
    struct pair pair = pair_new();
    g_autoptr(GError) error = NULL;
    struct frame frame;

    unit_ok(wire_send(pair.a, WIRE_HELLO, 1, "{\"a\":1}", 7, &error), error);
    unit_ok(wire_send(pair.a, WIRE_PING, 0xfffffffe, NULL, 0, &error), error);
    ck_assert_int_eq(wire_receive(pair.b, SHORT_MS, &frame, &error), LINK_DATA);
    ck_assert_int_eq(frame.type, WIRE_HELLO);
    ck_assert_uint_eq(frame.request, 1);
    ck_assert_uint_eq(frame.len, 7);
    ck_assert_mem_eq(frame.payload, "{\"a\":1}", 7);
    ck_assert_int_eq(wire_receive(pair.b, SHORT_MS, &frame, &error), LINK_DATA);
    ck_assert_int_eq(frame.type, WIRE_PING);
    ck_assert_uint_eq(frame.request, 0xfffffffe);
    ck_assert_uint_eq(frame.len, 0);
    ck_assert_uint_eq(wire_sent_bytes(pair.a), 2 * WIRE_HEADER + 7);
    pair_free(&pair);
}
END_TEST

static void *send_large_data(void *context)
{
    struct pair *pair = context;
    g_autofree uint8_t *bytes = g_malloc(STORE_WRITE_MAX);
    struct frame_data data = {
        .file = 3, .offset = UINT64_C(0x123456789ab), .bytes = bytes, .len = STORE_WRITE_MAX};
    bool sent;

    memset(bytes, 0x5a, STORE_WRITE_MAX);
    bytes[0] = 1;
    bytes[STORE_WRITE_MAX - 1] = 2;
    sent = wire_send_data(pair->a, 9, &data, NULL);
    return sent ? pair : NULL;
}

START_TEST(the_largest_data_frame_arrives)
{
    struct pair pair = pair_new();
    GThread *sender = g_thread_new("sender", send_large_data, &pair);
    g_autoptr(GError) error = NULL;
    struct frame_data data;
    struct frame frame;

    ck_assert_int_eq(wire_receive(pair.b, 10000, &frame, &error), LINK_DATA);
    unit_ok(frame_parse_data(&frame, &data, &error), error);
    ck_assert_uint_eq(frame.request, 9);
    ck_assert_uint_eq(data.file, 3);
    ck_assert_uint_eq(data.offset, UINT64_C(0x123456789ab));
    ck_assert_uint_eq(data.len, STORE_WRITE_MAX);
    ck_assert_uint_eq(data.bytes[0], 1);
    ck_assert_uint_eq(data.bytes[1], 0x5a);
    ck_assert_uint_eq(data.bytes[STORE_WRITE_MAX - 1], 2);
    ck_assert_ptr_nonnull(g_thread_join(sender));
    pair_free(&pair);
}
END_TEST

START_TEST(a_single_wrong_bit_is_never_accepted)
{
    uint8_t frame[SMALL_FRAME];

    small_frame(frame);
    for (unsigned bit = 0; bit < SMALL_FRAME * 8; bit++) {
        g_autoptr(GError) error = NULL;

        frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert_int_eq(receive_bytes(frame, SMALL_FRAME, &error), LINK_FAILED);
        ck_assert_ptr_nonnull(error);
        frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    ck_assert_int_eq(receive_bytes(frame, SMALL_FRAME, NULL), LINK_DATA);
}
END_TEST

START_TEST(refuses_a_damaged_payload)
{
    uint8_t frame[SMALL_FRAME];

    small_frame(frame);
    frame[WIRE_HEADER] ^= 1;
    refuses(frame, SMALL_FRAME, ERROR_INTEGRITY, "a INFO frame was damaged");
}
END_TEST

START_TEST(refuses_lengths_that_no_frame_may_have)
{
    static const struct {
        uint32_t length, type;
    } cases[] = {{WIRE_CONTROL_MAX + 1, WIRE_INFO},
                 {WIRE_PAYLOAD_MAX + 1, WIRE_DATA},
                 {UINT32_MAX, WIRE_DATA},
                 {0x80000000, WIRE_COMMIT}};
    uint8_t frame[SMALL_FRAME];

    small_frame(frame);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        put_le32(frame, cases[i].length);
        put_le32(frame + 4, cases[i].type);
        refuses(frame, SMALL_FRAME, ERROR_INTEGRITY, "too long");
    }
}
END_TEST

START_TEST(refuses_unknown_types_and_used_padding)
{
    static const uint32_t types[] = {0, 32, 63, 100, 255, 0x00000102, 0x01000001};
    uint8_t frame[SMALL_FRAME];

    small_frame(frame);
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        put_le32(frame + 4, types[i]);
        refuses(frame, SMALL_FRAME, ERROR_INTEGRITY, "unknown type");
    }
}
END_TEST

START_TEST(the_end_counts_only_between_two_frames)
{
    uint8_t frame[SMALL_FRAME];

    small_frame(frame);
    ck_assert_int_eq(receive_bytes(frame, 0, NULL), LINK_END);
    for (size_t len = 1; len < SMALL_FRAME; len++)
        refuses(frame, len, ERROR_NETWORK, "in the middle of a frame");
}
END_TEST

START_TEST(silence_is_nothing_and_loses_nothing)
{
    struct pair pair = pair_new();
    g_autoptr(GError) error = NULL;
    struct frame frame;

    ck_assert_int_eq(wire_receive(pair.b, 0, &frame, &error), LINK_NOTHING);
    ck_assert_int_eq(wire_receive(pair.b, SHORT_MS, &frame, &error), LINK_NOTHING);
    unit_ok(wire_send(pair.a, WIRE_PING, 0, NULL, 0, &error), error);
    ck_assert_int_eq(wire_receive(pair.b, 0, &frame, &error), LINK_DATA);
    ck_assert_ptr_null(error);
    pair_free(&pair);
}
END_TEST

START_TEST(what_a_shell_prints_is_shown)
{
    refuses("Welcome to dr1! Last login: Monday\n", 35, ERROR_INTEGRITY,
            "\"Welcome to dr1! Last\"; if that is text, the other side's shell");
    refuses("\033[31mred\033[0m, and a bell: \a\n", 28, ERROR_INTEGRITY, "\"?[31mred?[0m, and");
}
END_TEST

START_TEST(an_error_keeps_its_kind_and_loses_its_escapes)
{
    struct pair pair = pair_new();
    g_autoptr(GError) sent = g_error_new(DRCTL_ERROR, ERROR_NO_SPACE, "full\n\033[2Jdisk");
    g_autoptr(GError) cancelled = g_error_new(DRCTL_ERROR, ERROR_CANCELLED, "interrupted");
    g_autoptr(GError) error = NULL;
    struct frame frame;

    unit_ok(wire_send_error(pair.a, 5, sent, &error), error);
    ck_assert_int_eq(wire_receive(pair.b, SHORT_MS, &frame, &error), LINK_DATA);
    ck_assert_uint_eq(frame.request, 5);
    unit_fails(frame_fail(&frame, &error), error, ERROR_NO_SPACE, "full ?[2Jdisk");
    /* Their interrupt is not ours. */
    unit_ok(wire_send_error(pair.a, 5, cancelled, &error), error);
    ck_assert_int_eq(wire_receive(pair.b, SHORT_MS, &frame, &error), LINK_DATA);
    unit_fails(frame_fail(&frame, &error), error, ERROR_NETWORK, "interrupted");
    pair_free(&pair);
}
END_TEST

START_TEST(an_error_frame_without_sense_is_refused)
{
    struct pair pair = pair_new();
    g_autoptr(GError) error = NULL;
    struct frame frame;

    unit_ok(wire_send(pair.a, WIRE_ERROR, 5, "[]", 2, &error), error);
    ck_assert_int_eq(wire_receive(pair.b, SHORT_MS, &frame, &error), LINK_DATA);
    unit_fails(frame_fail(&frame, &error), error, ERROR_INTEGRITY, "not a JSON object");
    unit_ok(wire_send(pair.a, WIRE_ERROR, 5, "{\"kind\":1}", 10, &error), error);
    ck_assert_int_eq(wire_receive(pair.b, SHORT_MS, &frame, &error), LINK_DATA);
    unit_fails(frame_fail(&frame, &error), error, ERROR_INTEGRITY, "kind");
    pair_free(&pair);
}
END_TEST

START_TEST(a_data_frame_must_have_its_header)
{
    uint8_t payload[WIRE_DATA_HEADER] = {0};
    struct frame frame = {.type = WIRE_DATA, .payload = payload, .len = WIRE_DATA_HEADER - 1};
    struct frame_data data;
    GError *error = NULL;

    unit_fails(frame_parse_data(&frame, &data, &error), error, ERROR_INTEGRITY, "header");
    frame.len = WIRE_DATA_HEADER;
    unit_ok(frame_parse_data(&frame, &data, &error), error);
    ck_assert_uint_eq(data.len, 0);
    payload[5] = 1;
    unit_ok(frame_parse_data(&frame, &data, &error), error);
    ck_assert_uint_eq(data.zeros, 256);
}
END_TEST

START_TEST(a_data_frame_has_no_more_zeros_than_bytes_would_fit)
{
    uint8_t payload[WIRE_DATA_HEADER + 1] = {0};
    struct frame frame = {.type = WIRE_DATA, .payload = payload, .len = sizeof payload};
    struct frame_data data;
    GError *error = NULL;

    payload[6] = STORE_WRITE_MAX >> 16;
    unit_fails(frame_parse_data(&frame, &data, &error), error, ERROR_INTEGRITY, "zeros");
}
END_TEST

START_TEST(a_control_frame_that_is_too_large_is_not_sent)
{
    struct pair pair = pair_new();
    g_autofree char *text = g_strnfill(WIRE_CONTROL_MAX + 1, ' ');
    GError *error = NULL;

    unit_fails(wire_send(pair.a, WIRE_COMMIT, 1, text, strlen(text), &error), error, ERROR_FAILED,
               "COMMIT does not fit");
    ck_assert_uint_eq(wire_sent_bytes(pair.a), 0);
    pair_free(&pair);
}
END_TEST

START_TEST(writing_to_nobody_is_an_error)
{
    struct pair pair = pair_new();
    GError *error = NULL;

    signal(SIGPIPE, SIG_IGN);
    pair_hang_up_a(&pair);
    unit_fails(wire_send(pair.b, WIRE_PING, 0, NULL, 0, &error), error, ERROR_NETWORK,
               "takes nothing any more");
    pair_free(&pair);
}
END_TEST

START_TEST(an_interrupt_ends_the_wait)
{
    struct pair pair = pair_new();
    struct frame frame;
    GError *error = NULL;

    interrupt_request();
    ck_assert_int_eq(wire_receive(pair.b, LINK_FOREVER, &frame, &error), LINK_FAILED);
    unit_fails(false, error, ERROR_CANCELLED, "interrupted");
    pair_free(&pair);
}
END_TEST

START_TEST(the_descriptors_get_their_flags_back)
{
    int fds[2];

    ck_assert_int_eq(pipe(fds), 0);
    link_free(link_fd_new(fds[0], fds[1]));
    ck_assert_int_eq(fcntl(fds[0], F_GETFL) & O_NONBLOCK, 0);
    ck_assert_int_eq(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

int main(void)
{
    return UNIT_RUN("wire", a_frame_arrives_as_it_was_sent, the_largest_data_frame_arrives,
                    a_single_wrong_bit_is_never_accepted, refuses_a_damaged_payload,
                    refuses_lengths_that_no_frame_may_have, refuses_unknown_types_and_used_padding,
                    the_end_counts_only_between_two_frames, silence_is_nothing_and_loses_nothing,
                    what_a_shell_prints_is_shown, an_error_keeps_its_kind_and_loses_its_escapes,
                    an_error_frame_without_sense_is_refused, a_data_frame_must_have_its_header,
                    a_data_frame_has_no_more_zeros_than_bytes_would_fit,
                    a_control_frame_that_is_too_large_is_not_sent, writing_to_nobody_is_an_error,
                    an_interrupt_ends_the_wait, the_descriptors_get_their_flags_back);
}
