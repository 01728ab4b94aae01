/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON by jansson. This header is its only includer; json_t is used by everybody, as GLib is. What
 * is added here: parsing with limits and our errors, and typed access whose errors name the key.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Parse LEN bytes; duplicate keys, trailing data and bad UTF-8 are ERROR_INTEGRITY naming WHAT.
 * json_decref the result (or json_auto_t). */
json_t *json_parse(const char *text, size_t len, const char *what, GError **error);
/* All documents of TEXT, one after the other, such as JSON Lines: an array of them. */
json_t *json_parse_all(const char *text, size_t len, const char *what, GError **error);
/* Compact (indent 0) or indented text with a final newline when indented; keys in insertion order;
 * g_free. */
char *json_text(const json_t *json, unsigned indent);

/* The member KEY of OBJECT, of that type, or ERROR_INTEGRITY `"key" is missing` / `... is not a
 * string`. Strings and objects are borrowed from OBJECT. u64 refuses negative numbers. */
bool json_need_string(const json_t *object, const char *key, const char **out, GError **error);
bool json_need_u64(const json_t *object, const char *key, uint64_t *out, GError **error);
bool json_need_bool(const json_t *object, const char *key, bool *out, GError **error);
bool json_need_array(const json_t *object, const char *key, json_t **out, GError **error);
bool json_need_object(const json_t *object, const char *key, json_t **out, GError **error);
/* Borrowed string, or NULL when KEY is absent, null or not a string. */
const char *json_get_string(const json_t *object, const char *key);
/* Set KEY to a string, or to null for NULL. */
void json_set_string(json_t *object, const char *key, const char *value);
void json_set_u64(json_t *object, const char *key, uint64_t value);
void json_set_real(json_t *object, const char *key, double value);
/* Wall-clock times in ms, as RFC 3339; 0 is null, and what is not there or no time is 0. */
void json_set_time(json_t *object, const char *key, int64_t ms);
int64_t json_get_time(const json_t *object, const char *key);
/* The object in ARRAY whose member KEY is the string VALUE, or NULL; borrowed. NULL is the value of none. */
json_t *json_find(const json_t *array, const char *key, const char *value);
