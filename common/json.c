/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "common/error.h"
#include "common/format.h"
#include "common/json.h"

/* Digits of a real: as many as every decimal survives, so that 4.2 is not
 * written 4.2000000000000002. */
#define REAL_DIGITS 15

json_t *json_parse(const char *text, size_t len, const char *what, GError **error)
{
    json_error_t problem;
    json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &problem);

    if (!json)
        fail(error, ERROR_INTEGRITY, "%s is not valid JSON: line %d: %s", what, problem.line,
             problem.text);
    return json;
}

json_t *json_parse_all(const char *text, size_t len, const char *what, GError **error)
{
    json_auto_t *all = json_array();
    json_error_t problem;

    for (;;) {
        json_t *one;

        while (len > 0 && g_ascii_isspace(*text))
            text++, len--;
        if (len == 0)
            return json_incref(all);
        one = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DISABLE_EOF_CHECK, &problem);
        if (!one) {
            fail(error, ERROR_INTEGRITY, "%s is not valid JSON: line %d: %s", what, problem.line,
                 problem.text);
            return NULL;
        }
        json_array_append_new(all, one);
        text += problem.position;
        len -= (size_t)problem.position;
    }
}

char *json_text(const json_t *json, unsigned indent)
{
    size_t flags = JSON_ENCODE_ANY | JSON_REAL_PRECISION(REAL_DIGITS);
    char *dumped = json_dumps(json, flags | (indent ? JSON_INDENT(indent) : JSON_COMPACT));
    char *text = g_strconcat(dumped ? dumped : "null", indent ? "\n" : NULL, NULL);

    free(dumped);
    return text;
}

/* The member KEY, or NULL and an error. */
static json_t *need(const json_t *object, const char *key, GError **error)
{
    json_t *value = json_object_get(object, key);

    if (!value)
        fail(error, ERROR_INTEGRITY, "\"%s\" is missing", key);
    return value;
}

static bool wrong_type(const char *key, const char *type, GError **error)
{
    return fail(error, ERROR_INTEGRITY, "\"%s\" is not %s", key, type);
}

bool json_need_string(const json_t *object, const char *key, const char **out, GError **error)
{
    json_t *value = need(object, key, error);

    if (!value)
        return false;
    if (!json_is_string(value))
        return wrong_type(key, "a string", error);
    *out = json_string_value(value);
    return true;
}

bool json_need_u64(const json_t *object, const char *key, uint64_t *out, GError **error)
{
    json_t *value = need(object, key, error);

    if (!value)
        return false;
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return wrong_type(key, "a whole number from 0", error);
    *out = (uint64_t)json_integer_value(value);
    return true;
}

bool json_need_bool(const json_t *object, const char *key, bool *out, GError **error)
{
    json_t *value = need(object, key, error);

    if (!value)
        return false;
    if (!json_is_boolean(value))
        return wrong_type(key, "true or false", error);
    *out = json_is_true(value);
    return true;
}

bool json_need_array(const json_t *object, const char *key, json_t **out, GError **error)
{
    json_t *value = need(object, key, error);

    if (!value)
        return false;
    if (!json_is_array(value))
        return wrong_type(key, "an array", error);
    *out = value;
    return true;
}

bool json_need_object(const json_t *object, const char *key, json_t **out, GError **error)
{
    json_t *value = need(object, key, error);

    if (!value)
        return false;
    if (!json_is_object(value))
        return wrong_type(key, "an object", error);
    *out = value;
    return true;
}

const char *json_get_string(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

void json_set_string(json_t *object, const char *key, const char *value)
{
    /* Paths may be any bytes, JSON only UTF-8; jansson would drop the member without a word. */
    g_autofree char *valid = value ? g_utf8_make_valid(value, -1) : NULL;

    json_object_set_new(object, key, valid ? json_string(valid) : json_null());
}

void json_set_u64(json_t *object, const char *key, uint64_t value)
{
    json_object_set_new(object, key, json_integer((json_int_t)MIN(value, (uint64_t)INT64_MAX)));
}

void json_set_real(json_t *object, const char *key, double value)
{
    json_t *real = json_real(value);

    /* JSON has no infinity and no NaN. */
    json_object_set_new(object, key, real ? real : json_null());
}

void json_set_time(json_t *object, const char *key, int64_t ms)
{
    g_autofree char *text = ms ? time_format(ms) : NULL;

    json_set_string(object, key, text);
}

int64_t json_get_time(const json_t *object, const char *key)
{
    const char *text = json_get_string(object, key);
    int64_t ms = 0;

    if (text)
        time_parse(text, &ms, NULL);
    return ms;
}

json_t *json_find(const json_t *array, const char *key, const char *value)
{
    json_t *object;
    size_t i;

    json_array_foreach(array, i, object)
    {
        if (value && g_strcmp0(json_get_string(object, key), value) == 0)
            return object;
    }
    return NULL;
}
