/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/stat.h>

#include "tests/unit.h"
#include "web/access.h"

#define NOW 1000000

static char *token_path; /* of token_new() */

/* The token that lies there. */
static char *token_new(void)
{
    g_autofree char *dir = unit_dir();
    GError *error = NULL;
    char *token;

    token_path = g_build_filename(dir, "token", NULL);
    unit_ok(access_token_make(token_path, &error), error);
    token = access_token_read(token_path, &error);
    unit_ok(token, error);
    return token;
}

START_TEST(a_token_is_made_once_and_is_nobody_elses)
{
    g_autofree char *token = token_new();
    g_autofree char *again = NULL;
    struct stat st;

    ck_assert_uint_eq(strlen(token), 64);
    ck_assert_int_eq(stat(token_path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
    ck_assert(access_token_make(token_path, NULL));
    again = access_token_read(token_path, NULL);
    ck_assert_str_eq(token, again);
}
END_TEST

START_TEST(a_token_that_others_may_read_or_that_is_short_opens_nothing)
{
    g_autofree char *token = token_new();
    AUTO(access) access = access_new(token_path);
    GError *error = NULL;

    chmod(token_path, 0640);
    unit_fails(access_token_read(token_path, &error), error, ERROR_CONFIG, "chmod 600");
    ck_assert_int_eq(access_try(access, "192.0.2.1", token, NOW, &error), ACCESS_CLOSED);
    g_clear_error(&error);
    ck_assert(file_write(token_path, "short\n", 6, 0600, NULL));
    unit_fails(access_token_read(token_path, &error), error, ERROR_CONFIG, "less than 32");
    ck_assert(file_write(token_path, "", 0, 0600, NULL));
    ck_assert_int_eq(access_try(access, "192.0.2.1", "", NOW, NULL), ACCESS_CLOSED);
}
END_TEST

START_TEST(only_the_right_token_is_right)
{
    g_autofree char *token = token_new();
    AUTO(access) access = access_new(token_path);
    g_autofree char *longer = g_strconcat(token, "0", NULL);
    g_autofree char *shorter = g_strndup(token, 63);
    const char *const wrong[] = {NULL, "", longer, shorter};

    ck_assert_int_eq(access_try(access, "192.0.2.1", token, NOW, NULL), ACCESS_GRANTED);
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++)
        ck_assert_int_eq(access_try(access, "192.0.2.1", wrong[i], NOW, NULL), ACCESS_REFUSED);
}
END_TEST

START_TEST(a_new_token_holds_at_once)
{
    static const char next[] = "0123456789abcdef0123456789abcdef";
    g_autofree char *token = token_new();
    AUTO(access) access = access_new(token_path);

    ck_assert(file_write(token_path, next, strlen(next), 0600, NULL));
    ck_assert_int_eq(access_try(access, "192.0.2.1", token, NOW, NULL), ACCESS_REFUSED);
    ck_assert_int_eq(access_try(access, "192.0.2.1", next, NOW, NULL), ACCESS_GRANTED);
}
END_TEST

/* Whoever guesses is not listened to any more, even if he is right then; others are. */
START_TEST(who_guesses_is_put_off)
{
    g_autofree char *token = token_new();
    AUTO(access) access = access_new(token_path);

    for (unsigned i = 0; i < ACCESS_FAILURES_MAX; i++)
        ck_assert_int_eq(access_try(access, "192.0.2.1", "wrong", NOW, NULL), ACCESS_REFUSED);
    ck_assert_int_eq(access_try(access, "192.0.2.1", token, NOW, NULL), ACCESS_LATER);
    ck_assert_int_eq(access_try(access, "192.0.2.2", token, NOW, NULL), ACCESS_GRANTED);
    ck_assert_int_eq(access_try(access, "192.0.2.1", token, NOW + ACCESS_FAILURES_MS - 1, NULL),
                     ACCESS_LATER);
    ck_assert_int_eq(access_try(access, "192.0.2.1", token, NOW + ACCESS_FAILURES_MS, NULL),
                     ACCESS_GRANTED);
}
END_TEST

/* The minute begins with the last of them, not with the first. */
START_TEST(who_guesses_slowly_waits_as_long)
{
    g_autofree char *token = token_new();
    AUTO(access) access = access_new(token_path);
    int64_t last = NOW + ACCESS_FAILURES_MS - 1;

    for (unsigned i = 1; i < ACCESS_FAILURES_MAX; i++)
        ck_assert_int_eq(access_try(access, "192.0.2.1", "wrong", NOW, NULL), ACCESS_REFUSED);
    ck_assert_int_eq(access_try(access, "192.0.2.1", "wrong", last, NULL), ACCESS_REFUSED);
    ck_assert_int_eq(access_try(access, "192.0.2.1", token, last + ACCESS_FAILURES_MS - 1, NULL),
                     ACCESS_LATER);
    ck_assert_int_eq(access_try(access, "192.0.2.1", token, last + ACCESS_FAILURES_MS, NULL),
                     ACCESS_GRANTED);
}
END_TEST

START_TEST(another_address_of_the_same_network_is_the_same_guesser)
{
    g_autofree char *token = token_new();
    AUTO(access) access = access_new(token_path);

    for (unsigned i = 0; i < ACCESS_FAILURES_MAX; i++) {
        g_autofree char *peer = g_strdup_printf("2001:db8::%u", i + 1);

        ck_assert_int_eq(access_try(access, peer, "wrong", NOW, NULL), ACCESS_REFUSED);
    }
    ck_assert_int_eq(access_try(access, "2001:db8::ffff", token, NOW, NULL), ACCESS_LATER);
    ck_assert_int_eq(access_try(access, "2001:db8:1::1", token, NOW, NULL), ACCESS_GRANTED);
}
END_TEST

START_TEST(very_many_guessers_are_put_off_together)
{
    G_GNUC_UNUSED g_autofree char *token = token_new();
    AUTO(access) access = access_new(token_path);
    unsigned put_off = 0;

    for (unsigned i = 0; i < 3000; i++) {
        g_autofree char *peer = g_strdup_printf("10.0.%u.%u", i / 200, i % 200);

        put_off += access_try(access, peer, "wrong", NOW, NULL) == ACCESS_LATER;
    }
    ck_assert_uint_gt(put_off, 1000);
}
END_TEST

START_TEST(a_session_goes_on_until_it_ends)
{
    g_autofree char *token = token_new();
    AUTO(access) access = access_new(token_path);
    g_autofree char *one = access_begin(access, NOW), *two = access_begin(access, NOW);

    ck_assert_str_ne(one, two);
    ck_assert(access_goes_on(access, one, NOW + ACCESS_SESSION_MS - 1));
    ck_assert(!access_goes_on(access, token, NOW));
    ck_assert(!access_goes_on(access, "", NOW));
    ck_assert(!access_goes_on(access, NULL, NOW));
    access_end(access, one);
    ck_assert(!access_goes_on(access, one, NOW));
    ck_assert(access_goes_on(access, two, NOW));
    ck_assert(!access_goes_on(access, two, NOW + ACCESS_SESSION_MS));
}
END_TEST

START_TEST(of_too_many_sessions_the_oldest_ends)
{
    G_GNUC_UNUSED g_autofree char *token = token_new();
    AUTO(access) access = access_new(token_path);
    g_autofree char *first = access_begin(access, NOW), *second = access_begin(access, NOW + 1);

    for (unsigned i = 2; i <= ACCESS_SESSIONS_MAX; i++)
        g_free(access_begin(access, NOW + i));
    ck_assert(!access_goes_on(access, first, NOW + 100));
    ck_assert(access_goes_on(access, second, NOW + 100));
}
END_TEST

START_TEST(forms_are_of_one_session_and_do_not_tell_it)
{
    G_GNUC_UNUSED g_autofree char *token = token_new();
    AUTO(access) access = access_new(token_path);
    g_autofree char *one = access_begin(access, NOW), *two = access_begin(access, NOW);
    g_autofree char *form = access_form_token(one), *again = access_form_token(one),
                    *other = access_form_token(two);

    ck_assert(access_same(form, again));
    ck_assert(!access_same(form, other));
    ck_assert(!access_same(form, one));
    ck_assert(!access_goes_on(access, form, NOW));
    ck_assert(!access_same(NULL, NULL));
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "web-access", a_token_is_made_once_and_is_nobody_elses,
        a_token_that_others_may_read_or_that_is_short_opens_nothing, only_the_right_token_is_right,
        a_new_token_holds_at_once, who_guesses_is_put_off, who_guesses_slowly_waits_as_long,
        another_address_of_the_same_network_is_the_same_guesser,
        very_many_guessers_are_put_off_together, a_session_goes_on_until_it_ends,
        of_too_many_sessions_the_oldest_ends, forms_are_of_one_session_and_do_not_tell_it);
}
