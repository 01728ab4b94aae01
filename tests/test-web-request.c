/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"
#include "web/request.h"

static GHashTable *parse(const char *text)
{
    return form_parse(text, strlen(text));
}

START_TEST(forms_are_read)
{
    g_autoptr(GHashTable) form = parse("name=web+1%21&empty=&name=second&%C3%A4=%e2%82%ac");
    g_autoptr(GHashTable) nothing = parse("");

    ck_assert_uint_eq(g_hash_table_size(form), 3);
    ck_assert_str_eq(g_hash_table_lookup(form, "name"), "web 1!");
    ck_assert_str_eq(g_hash_table_lookup(form, "empty"), "");
    ck_assert_str_eq(g_hash_table_lookup(form, "ä"), "€");
    ck_assert_uint_eq(g_hash_table_size(nothing), 0);
}
END_TEST

START_TEST(what_is_no_form_is_none)
{
    static const char *const wrong[] = {"name",  "=&x",   "a=%",   "a=%4", "a=%zz",
                                        "a=%00", "a=%ff", "a=1&b", "%ff=1"};
    GString *much = g_string_new("a=1");

    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++)
        ck_assert_msg(!parse(wrong[i]), "%s", wrong[i]);
    ck_assert(!form_parse("a=1\0b=2", 7));
    for (unsigned i = 0; i < REQUEST_FIELDS_MAX; i++)
        g_string_append_printf(much, "&n%u=1", i);
    ck_assert(!form_parse(much->str, much->len));
    g_string_set_size(much, REQUEST_FORM_MAX + 1);
    memset(much->str, 'a', much->len);
    much->str[1] = '=';
    ck_assert(!form_parse(much->str, much->len));
    g_string_free(much, TRUE);
}
END_TEST

START_TEST(a_bearer_brings_a_token)
{
    ck_assert_str_eq(bearer_of("Bearer abc"), "abc");
    ck_assert_str_eq(bearer_of("bearer   abc"), "abc");
    ck_assert_str_eq(bearer_of("Bearer "), "");
    ck_assert_ptr_null(bearer_of("Basic abc"));
    ck_assert_ptr_null(bearer_of("Bearer"));
    ck_assert_ptr_null(bearer_of(NULL));
}
END_TEST

START_TEST(only_this_server_is_ours)
{
    ck_assert(origin_is_ours("https://dr1:8443", "dr1:8443", true));
    ck_assert(origin_is_ours("http://127.0.0.1:8080", "127.0.0.1:8080", false));
    ck_assert(origin_is_ours("https://dr.example.org", "dr.example.org", false));
    ck_assert(!origin_is_ours("http://dr1:8443", "dr1:8443", true));
    ck_assert(!origin_is_ours("https://dr1:8444", "dr1:8443", true));
    ck_assert(!origin_is_ours("https://evil.example", "dr1:8443", true));
    ck_assert(!origin_is_ours("https://dr1:8443.evil.example", "dr1:8443", true));
    ck_assert(!origin_is_ours("null", "dr1:8443", true));
    ck_assert(!origin_is_ours(NULL, "dr1:8443", true));
    ck_assert(!origin_is_ours("https://dr1:8443", NULL, true));
}
END_TEST

START_TEST(nobody_is_led_elsewhere)
{
    static const char *const elsewhere[] = {"//evil.example", "https://evil.example",
                                            "/\\evil",        "/\t/evil",
                                            "evil",           "",
                                            "/a\r\nX: y",     "/ä"};

    ck_assert(place_is_ours("/"));
    ck_assert(place_is_ours("/points/web%201?q=x"));
    ck_assert(!place_is_ours(NULL));
    for (unsigned i = 0; i < G_N_ELEMENTS(elsewhere); i++)
        ck_assert_msg(!place_is_ours(elsewhere[i]), "%s", elsewhere[i]);
}
END_TEST

START_TEST(an_option_is_no_name)
{
    g_autofree char *much = g_strnfill(256, 'a');

    ck_assert(argument_is_safe("it's <b>&odd"));
    ck_assert(!argument_is_safe("--at"));
    ck_assert(!argument_is_safe("-"));
    ck_assert(!argument_is_safe(""));
    ck_assert(!argument_is_safe(NULL));
    ck_assert(!argument_is_safe("a\nb"));
    ck_assert(!argument_is_safe("\xff"));
    ck_assert(!argument_is_safe(much));
}
END_TEST

int main(void)
{
    return UNIT_RUN("web-request", forms_are_read, what_is_no_form_is_none, a_bearer_brings_a_token,
                    only_this_server_is_ours, nobody_is_led_elsewhere, an_option_is_no_name);
}
