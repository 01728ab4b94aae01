/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include <math.h>

#include "common/common.h"

START_TEST(keeps_the_order_of_keys)
{
    static const char text[] = "{\"z\":1,\"a\":[true,null,4.2],\"m\":{\"\xc3\xa4\":\"\\n\"}}";
    g_autoptr(GError) error = NULL;
    json_auto_t *json = json_parse(text, strlen(text), "manifest", &error);
    g_autofree char *again = NULL, *indented = NULL;

    unit_ok(json, error);
    again = json_text(json, 0);
    ck_assert_str_eq(again, text);
    indented = json_text(json, 2);
    ck_assert(g_str_has_prefix(indented, "{\n  \"z\": 1,\n  \"a\": [\n"));
    ck_assert(g_str_has_suffix(indented, "}\n"));
}
END_TEST

START_TEST(refuses_what_is_not_exactly_one_document)
{
    static const char *const bad[] = {"",
                                      "{",
                                      "{} {}",
                                      "{\"a\":1,\"a\":2}",
                                      "{\"a\":\"\xff\"}",
                                      "[1,]",
                                      "{\"a\":\"\\u0000\"}",
                                      "nonsense"};
    g_autofree char *deep = g_strnfill(100000, '[');
    g_autoptr(GError) error = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        unit_fails(json_parse(bad[i], strlen(bad[i]), "manifest of db", &error), error,
                   ERROR_INTEGRITY, "manifest of db");
    unit_fails(json_parse(deep, strlen(deep), "deep", &error), error, ERROR_INTEGRITY, "deep");
}
END_TEST

START_TEST(typed_access_gives_the_values)
{
    static const char text[] =
        "{\"s\":\"x\",\"u\":9223372036854775807,\"b\":true,\"a\":[],\"o\":{},\"n\":null}";
    json_auto_t *json = json_parse(text, strlen(text), "x", NULL);
    g_autoptr(GError) error = NULL;
    const char *string = NULL;
    uint64_t number = 0;
    bool truth = false;
    json_t *array = NULL, *object = NULL;

    unit_ok(json_need_string(json, "s", &string, &error), error);
    unit_ok(json_need_u64(json, "u", &number, &error), error);
    unit_ok(json_need_bool(json, "b", &truth, &error), error);
    unit_ok(json_need_array(json, "a", &array, &error), error);
    unit_ok(json_need_object(json, "o", &object, &error), error);
    ck_assert_str_eq(string, "x");
    ck_assert_uint_eq(number, INT64_MAX);
    ck_assert(truth && json_is_array(array) && json_is_object(object));
    ck_assert_str_eq(json_get_string(json, "s"), "x");
    ck_assert_ptr_null(json_get_string(json, "n"));
    ck_assert_ptr_null(json_get_string(json, "u"));
    ck_assert_ptr_null(json_get_string(json, "missing"));
}
END_TEST

START_TEST(typed_access_names_the_key_that_is_wrong)
{
    static const char text[] = "{\"s\":\"x\",\"i\":-1,\"r\":1.5,\"n\":null}";
    json_auto_t *json = json_parse(text, strlen(text), "x", NULL);
    g_autoptr(GError) error = NULL;
    const char *string = NULL;
    uint64_t number = 7;
    bool truth = false;
    json_t *value = NULL;

    unit_fails(json_need_string(json, "q", &string, &error), error, ERROR_INTEGRITY,
               "\"q\" is missing");
    unit_fails(json_need_string(json, "n", &string, &error), error, ERROR_INTEGRITY,
               "\"n\" is not a string");
    unit_fails(json_need_u64(json, "i", &number, &error), error, ERROR_INTEGRITY, "\"i\"");
    unit_fails(json_need_u64(json, "r", &number, &error), error, ERROR_INTEGRITY, "\"r\"");
    unit_fails(json_need_bool(json, "s", &truth, &error), error, ERROR_INTEGRITY, "\"s\"");
    unit_fails(json_need_array(json, "s", &value, &error), error, ERROR_INTEGRITY, "\"s\"");
    unit_fails(json_need_object(json, "s", &value, &error), error, ERROR_INTEGRITY, "\"s\"");
    unit_fails(json_need_string(json_object_get(json, "s"), "q", &string, &error), error,
               ERROR_INTEGRITY, "\"q\" is missing");
    ck_assert_uint_eq(number, 7);
}
END_TEST

START_TEST(takes_document_after_document)
{
    static const char text[] = " {\"a\":1}\n{\"b\":[2]}\n\n[3] \n";
    GError *error = NULL;
    json_auto_t *all = json_parse_all(text, strlen(text), "lines", &error);
    json_auto_t *none = json_parse_all("\n", 1, "lines", &error);
    g_autofree char *got = NULL;

    unit_ok(all && none, error);
    got = json_text(all, 0);
    ck_assert_str_eq(got, "[{\"a\":1},{\"b\":[2]},[3]]");
    ck_assert_uint_eq(json_array_size(none), 0);
    unit_fails(json_parse_all(text, strlen(text) - 3, "lines", &error), error, ERROR_INTEGRITY,
               "lines is not valid JSON");
}
END_TEST

START_TEST(writes_any_value_as_valid_json)
{
    json_auto_t *json = json_object();
    g_autofree char *text = NULL;

    json_set_string(json, "none", NULL);
    json_set_string(json, "path", "/srv/\xff.img");
    json_set_u64(json, "size", 1 << 20);
    json_set_u64(json, "huge", UINT64_MAX);
    json_set_real(json, "rto", 4.2);
    json_set_real(json, "never", NAN);
    text = json_text(json, 0);
    ck_assert_str_eq(text, "{\"none\":null,\"path\":\"/srv/\xef\xbf\xbd.img\",\"size\":1048576,"
                           "\"huge\":9223372036854775807,\"rto\":4.2,\"never\":null}");
}
END_TEST

START_TEST(finds_an_object_by_a_member)
{
    static const char text[] = "[5, {\"vm\": null}, {\"vm\": \"db\"}, {\"vm\": \"db\", \"n\": 2}]";
    json_auto_t *json = json_parse(text, strlen(text), "list", NULL);

    ck_assert_ptr_eq(json_find(json, "vm", "db"), json_array_get(json, 2));
    ck_assert_ptr_null(json_find(json, "vm", "d"));
    ck_assert_ptr_null(json_find(json, "vm", NULL));
    ck_assert_ptr_null(json_find(json, "none", "db"));
    ck_assert_ptr_null(json_find(NULL, "vm", "db"));
}
END_TEST

int main(void)
{
    return UNIT_RUN("json", keeps_the_order_of_keys, refuses_what_is_not_exactly_one_document,
                    typed_access_gives_the_values, typed_access_names_the_key_that_is_wrong,
                    takes_document_after_document, writes_any_value_as_valid_json,
                    finds_an_object_by_a_member);
}
